//! Words a time zone as the phones' "self-defined time zone" takes it: `CET-1CEST-2,M3.5.0/02:00:00,M10.5.0/03:00:00`.
//!
//! Close to a POSIX TZ string, but the phones know less: names are letters, the offset of summer time is always written, and the
//! clocks change within the day. So it is put together from the derived rules and not copied.

use provost_plugin::model::{Changeover, Zone};

const DAY: i32 = 24 * 3600;

pub(crate) fn self_defined(zone: &Zone) -> String {
    let Some(dst) = &zone.dst else {
        return format!("{}{}", name(&zone.abbreviation, "STD"), offset(zone.utc_offset));
    };
    let standard = (name(&zone.abbreviation, "STD"), zone.utc_offset);
    let summer = (name(&dst.abbreviation, "DST"), zone.utc_offset + dst.save);
    // Ireland's law calls summer time standard and winter time the exception; phones know only an exception that adds.
    let (standard, summer, start, end) =
        if dst.save < 0 { (summer, standard, &dst.end, &dst.start) } else { (standard, summer, &dst.start, &dst.end) };
    format!(
        "{}{}{}{},{},{}",
        standard.0,
        offset(standard.1),
        summer.0,
        offset(summer.1),
        changeover(start),
        changeover(end)
    )
}

/// Names such as `+03` would be read as an offset.
fn name<'a>(abbreviation: &'a str, otherwise: &'a str) -> &'a str {
    let usable = (3..=5).contains(&abbreviation.len()) && abbreviation.bytes().all(|byte| byte.is_ascii_alphabetic());
    if usable { abbreviation } else { otherwise }
}

/// West of Greenwich is positive, as in POSIX.
fn offset(east: i32) -> String {
    let sign = if east > 0 { '-' } else { '+' };
    let minutes = east.abs() / 60;
    if minutes % 60 == 0 {
        format!("{sign}{}", minutes / 60)
    } else {
        format!("{sign}{}:{:02}", minutes / 60, minutes % 60)
    }
}

/// A few zones change at 24:00 or later of the day named, or before it begins; the phones get the nearest time of that day.
fn changeover(change: &Changeover) -> String {
    let time = change.time.clamp(0, DAY - 1);
    format!(
        "M{}.{}.{}/{:02}:{:02}:{:02}",
        change.month,
        change.week,
        change.weekday,
        time / 3600,
        time / 60 % 60,
        time % 60
    )
}

#[cfg(test)]
mod tests {
    use provost_plugin::model::DstRule;

    use super::*;

    fn change(month: u8, week: u8, weekday: u8, time: i32) -> Changeover {
        Changeover { month, week, weekday, time }
    }

    fn zone(abbreviation: &str, utc_offset: i32, dst: Option<DstRule>) -> Zone {
        Zone { name: String::new(), utc_offset, abbreviation: abbreviation.into(), dst, posix: String::new() }
    }

    fn rule(abbreviation: &str, save: i32, start: Changeover, end: Changeover) -> Option<DstRule> {
        Some(DstRule { abbreviation: abbreviation.into(), save, start, end })
    }

    #[test]
    fn the_zones_that_the_vendors_list_prints_come_out_as_printed_there() {
        let berlin = zone("CET", 3600, rule("CEST", 3600, change(3, 5, 0, 7200), change(10, 5, 0, 10800)));
        assert_eq!(self_defined(&berlin), "CET-1CEST-2,M3.5.0/02:00:00,M10.5.0/03:00:00");
        let adelaide = zone("CST", 34200, rule("CDT", 3600, change(10, 5, 0, 7200), change(3, 5, 0, 10800)));
        assert_eq!(self_defined(&adelaide), "CST-9:30CDT-10:30,M10.5.0/02:00:00,M3.5.0/03:00:00");
        // Irish winter time as the tz database has it: the exception, one hour back, from October.
        let dublin = zone("IST", 3600, rule("GMT", -3600, change(10, 5, 0, 7200), change(3, 5, 0, 3600)));
        assert_eq!(self_defined(&dublin), "GMT+0IST-1,M3.5.0/01:00:00,M10.5.0/02:00:00");
    }

    #[test]
    fn a_zone_without_summer_time_or_without_a_name_of_letters_can_be_told() {
        assert_eq!(self_defined(&zone("IST", 19800, None)), "IST-5:30");
        assert_eq!(self_defined(&zone("+0545", 20700, None)), "STD-5:45");
        assert_eq!(self_defined(&zone("MST", -25200, None)), "MST+7");
        let nuuk = zone("-02", -7200, rule("-01", 3600, change(3, 5, 0, -3600), change(10, 5, 0, 93600)));
        assert_eq!(self_defined(&nuuk), "STD+2DST+1,M3.5.0/00:00:00,M10.5.0/23:59:59");
    }
}
