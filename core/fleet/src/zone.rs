//! An IANA name to the offset and the rule of summer time that phones can be told. The rules come from the compiled-in tz database,
//! from the part that holds for years to come; what happened in the past, phones need not know.

use provost_plugin::model::{Changeover, DstRule, Zone};
use tz::{
    LocalTimeType,
    timezone::{AlternateTime, RuleDay, TransitionRule},
};

use crate::problem::nearest;

/// The zone of an IANA name; none if there is no such name. Names are compared without case and come back as IANA spells them.
///
/// What a rule cannot say is not in it: Morocco and Palestine suspend summer time in Ramadan, by the moon, and their zones come with
/// what holds for the rest of the year.
pub fn zone(name: &str) -> Option<Zone> {
    let name = *tzdb_data::TZ_NAMES.iter().find(|known| known.eq_ignore_ascii_case(name))?;
    let zone = tzdb_data::find_tz(name.as_bytes())?;
    match zone.extra_rule() {
        Some(TransitionRule::Fixed(time)) => Some(fixed(name, time)),
        Some(TransitionRule::Alternate(rule)) => alternating(name, rule),
        // Without a rule the clocks stay as the last change left them.
        None => {
            let last = zone.transitions().last().map_or(0, |transition| transition.local_time_type_index());
            Some(fixed(name, zone.local_time_types().get(last)?))
        }
    }
}

/// The day of the week (0 is Sunday) and the minute of the day that clocks show in a zone; without one, in the zone of this machine.
pub fn local_clock(zone: Option<&str>, at: std::time::SystemTime) -> (usize, u16) {
    let seconds = match at.duration_since(std::time::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX / 2),
        Err(_) => 0,
    };
    let offset = match zone {
        Some(name) => tzdb_data::find_tz(name.as_bytes())
            .and_then(|zone| zone.find_local_time_type(seconds).ok().map(LocalTimeType::ut_offset)),
        None => tz::TimeZone::local()
            .ok()
            .and_then(|zone| zone.find_local_time_type(seconds).ok().map(LocalTimeType::ut_offset)),
    };
    let local = seconds + i64::from(offset.unwrap_or(0));
    let (day, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
    // The first of January 1970 was a Thursday.
    ((day + 4).rem_euclid(7) as usize, (second / 60) as u16)
}

/// Why a name is no time zone, if it is none.
pub fn refusal(name: &str) -> Option<String> {
    let names = tzdb_data::TZ_NAMES;
    if names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return None;
    }
    let city = name.replace(' ', "_");
    let near = names
        .iter()
        .copied()
        .find(|known| known.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(&city)))
        .or_else(|| nearest(name, names.iter().copied()));
    Some(match near {
        Some(near) => format!("unknown time zone \"{name}\", did you mean \"{near}\"?"),
        None => format!("unknown time zone \"{name}\": write the IANA name, as in Europe/Berlin"),
    })
}

fn fixed(name: &str, time: &LocalTimeType) -> Zone {
    let abbreviation = time.time_zone_designation().to_owned();
    let posix = format!("{}{}", quoted(&abbreviation), clock(-time.ut_offset()));
    Zone { name: name.to_owned(), utc_offset: time.ut_offset(), abbreviation, dst: None, posix }
}

fn alternating(name: &str, rule: &AlternateTime) -> Option<Zone> {
    let start = changeover(rule.dst_start(), rule.dst_start_time())?;
    let end = changeover(rule.dst_end(), rule.dst_end_time())?;
    // Ireland's law calls winter the exception. Phones (and people) call the earlier clock standard; each change is told in the
    // clock that it ends, so turning the two round leaves the times as they are.
    let winter_is_the_exception = rule.dst().ut_offset() < rule.std().ut_offset();
    let (standard, summer, start, end) = match winter_is_the_exception {
        true => (rule.dst(), rule.std(), end, start),
        false => (rule.std(), rule.dst(), start, end),
    };
    let save = summer.ut_offset() - standard.ut_offset();
    let abbreviation = standard.time_zone_designation().to_owned();
    let summer_abbreviation = summer.time_zone_designation().to_owned();
    let summer_offset = if save == 3600 { String::new() } else { clock(-summer.ut_offset()) };
    let posix = format!(
        "{}{}{}{summer_offset},{},{}",
        quoted(&abbreviation),
        clock(-standard.ut_offset()),
        quoted(&summer_abbreviation),
        posix_changeover(&start),
        posix_changeover(&end)
    );
    let dst = Some(DstRule { abbreviation: summer_abbreviation, save, start, end });
    Some(Zone { name: name.to_owned(), utc_offset: standard.ut_offset(), abbreviation, dst, posix })
}

/// None for a day counted from the new year: no zone has used that form for years, and a test would see the day one does.
fn changeover(day: &RuleDay, time: i32) -> Option<Changeover> {
    match day {
        RuleDay::MonthWeekDay(day) => {
            Some(Changeover { month: day.month(), week: day.week(), weekday: day.week_day(), time })
        }
        RuleDay::Julian1WithoutLeap(_) | RuleDay::Julian0WithLeap(_) => None,
    }
}

fn posix_changeover(changeover: &Changeover) -> String {
    let Changeover { month, week, weekday, time } = changeover;
    // 02:00 is what POSIX takes where no time is given.
    let time = if *time == 7200 { String::new() } else { format!("/{}", clock(*time)) };
    format!("M{month}.{week}.{weekday}{time}")
}

/// Names that are not letters alone stand in angle brackets.
fn quoted(abbreviation: &str) -> String {
    match abbreviation.bytes().all(|letter| letter.is_ascii_alphabetic()) {
        true => abbreviation.to_owned(),
        false => format!("<{abbreviation}>"),
    }
}

/// `-3`, `5:30`: hours, and minutes and seconds where there are any.
fn clock(seconds: i32) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let (hours, minutes, rest) = (seconds.abs() / 3600, seconds.abs() / 60 % 60, seconds.abs() % 60);
    match (minutes, rest) {
        (0, 0) => format!("{sign}{hours}"),
        (_, 0) => format!("{sign}{hours}:{minutes:02}"),
        _ => format!("{sign}{hours}:{minutes:02}:{rest:02}"),
    }
}

#[cfg(test)]
mod tests {
    use tz::TimeZone;

    use super::*;

    /// A tz file that holds nothing but a rule: there the wide times of POSIX.1-2024 are allowed, which the bare string form refuses.
    fn by_rule_alone(posix: &str) -> TimeZone {
        let block = || {
            let mut block = b"TZif3".to_vec();
            block.extend([0; 15]);
            // Counts: UT and standard indicators, leap seconds, transitions, types, letters of the abbreviations.
            for count in [0_u32, 0, 0, 0, 1, 4] {
                block.extend(count.to_be_bytes());
            }
            block.extend([0, 0, 0, 0, 0, 0]);
            block.extend(b"UTC\0");
            block
        };
        let mut file = block();
        file.extend(block());
        file.extend(format!("\n{posix}\n").bytes());
        TimeZone::from_tz_data(&file).unwrap_or_else(|error| panic!("{posix}: {error}"))
    }

    #[test]
    fn every_zone_is_told_as_the_database_has_it() {
        // Their changes follow Ramadan; the database lists them one by one for decades, and no rule can tell them.
        let by_the_moon = ["Africa/Casablanca", "Africa/El_Aaiun", "Asia/Gaza", "Asia/Hebron"];
        for name in tzdb_data::TZ_NAMES {
            let told = zone(name).unwrap_or_else(|| panic!("{name} has no rule that we can tell"));
            let posix = by_rule_alone(&told.posix);
            let truth = tzdb_data::find_tz(name.as_bytes()).unwrap();
            let mut differ = 0;
            // Every 7 hours from 2027 to 2037: each change of each year is met on both sides.
            for time in (1_798_761_600..2_114_380_800).step_by(7 * 3600) {
                let (ours, theirs) =
                    (posix.find_local_time_type(time).unwrap(), truth.find_local_time_type(time).unwrap());
                if ours.ut_offset() != theirs.ut_offset() {
                    differ += 1;
                    continue;
                }
                let summer = told.dst.as_ref().filter(|dst| ours.ut_offset() == told.utc_offset + dst.save);
                assert!(summer.is_some() || ours.ut_offset() == told.utc_offset, "{name} at {time}");
            }
            assert_eq!(differ > 0, by_the_moon.contains(name), "{name} {} differs {differ} times", told.posix);
        }
    }

    #[test]
    fn odd_zones_are_told_in_the_form_that_phones_know() {
        for (name, posix, offset, save) in [
            ("Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3", 3600, Some(3600)),
            ("Europe/Dublin", "GMT0IST,M3.5.0/1,M10.5.0", 0, Some(3600)),
            ("Australia/Lord_Howe", "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", 37800, Some(1800)),
            ("America/Sao_Paulo", "<-03>3", -10800, None),
            ("Europe/Istanbul", "<+03>-3", 10800, None),
            ("Asia/Kathmandu", "<+0545>-5:45", 20700, None),
            ("Pacific/Auckland", "NZST-12NZDT,M9.5.0,M4.1.0/3", 43200, Some(3600)),
            ("America/Nuuk", "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", -7200, Some(3600)),
            ("Etc/UTC", "UTC0", 0, None),
        ] {
            let told = zone(name).unwrap();
            assert_eq!(told.posix, posix, "{name}");
            assert_eq!((told.utc_offset, told.dst.map(|dst| dst.save)), (offset, save), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_met_with_the_one_that_was_meant() {
        assert_eq!(refusal("europe/berlin"), None);
        assert_eq!(zone("europe/berlin").unwrap().name, "Europe/Berlin");
        assert_eq!(
            refusal("Europe/Berln").unwrap(),
            "unknown time zone \"Europe/Berln\", did you mean \"Europe/Berlin\"?"
        );
        assert_eq!(refusal("new york").unwrap(), "unknown time zone \"new york\", did you mean \"America/New_York\"?");
        assert_eq!(refusal("home").unwrap(), "unknown time zone \"home\": write the IANA name, as in Europe/Berlin");
    }
}
