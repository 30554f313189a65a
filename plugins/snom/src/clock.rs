//! The time zone as an offset and a rule. snom's own zone codes (`GER+1`) bring rules that are as old as the firmware, so the phone is
//! told the rule of the zone instead, and no code.

use provost_plugin::{
    Phone,
    model::{Changeover, DstRule, Zone},
};
use serde::Serialize;

const DAY: i32 = 24 * 60 * 60;

#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Clock {
    utc_offset: String,
    /// `3600 03.05.07 02:00:00 10.05.07 03:00:00`; empty where there is no summer time.
    dst: String,
}

/// None where the administrator gave a code of snom's, which would quarrel with a rule.
pub(crate) fn for_phone(phone: &Phone) -> Option<Clock> {
    let told = phone.raw.keys().any(|name| name.trim_end_matches(['!', '&', '$']) == "timezone");
    phone.zone.as_ref().filter(|_| !told).map(clock)
}

fn clock(zone: &Zone) -> Clock {
    Clock { utc_offset: format!("{:+}", zone.utc_offset), dst: zone.dst.as_ref().map(rule).unwrap_or_default() }
}

fn rule(rule: &DstRule) -> String {
    format!("{} {} {}", rule.save, changeover(&rule.start), changeover(&rule.end))
}

/// Month, week and day of the week (Monday is 1, Sunday is 7), and the time, which snom knows from 00:00:00 to 23:59:59 only.
fn changeover(change: &Changeover) -> String {
    let weekday = if change.weekday == 0 { 7 } else { change.weekday };
    let time = within_the_day(change);
    format!(
        "{:02}.{:02}.{weekday:02} {:02}:{:02}:{:02}",
        change.month,
        change.week,
        time / 3600,
        time / 60 % 60,
        time % 60
    )
}

/// A change before midnight of the day or after its end happens at its edge: some hours off, and no better day to be named, since the
/// day after the fourth Thursday is not always the fourth Friday.
fn within_the_day(change: &Changeover) -> i32 {
    change.time.clamp(0, DAY - 1)
}

/// Whether the phone will change its clocks some hours off.
pub(crate) fn is_approximate(zone: &Zone) -> bool {
    zone.dst
        .as_ref()
        .is_some_and(|rule| [&rule.start, &rule.end].iter().any(|change| within_the_day(change) != change.time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(month: u8, week: u8, weekday: u8, time: i32) -> Changeover {
        Changeover { month, week, weekday, time }
    }

    fn zone(utc_offset: i32, dst: Option<(Changeover, Changeover)>) -> Zone {
        Zone {
            name: "Some/Where".into(),
            utc_offset,
            abbreviation: "XT".into(),
            dst: dst.map(|(start, end)| DstRule { abbreviation: "XST".into(), save: 3600, start, end }),
            posix: String::new(),
        }
    }

    #[test]
    fn berlin_is_the_example_of_snoms_own_page() {
        let berlin = zone(3600, Some((change(3, 5, 0, 7200), change(10, 5, 0, 10800))));
        let clock = clock(&berlin);
        assert_eq!(
            (clock.utc_offset.as_str(), clock.dst.as_str()),
            ("+3600", "3600 03.05.07 02:00:00 10.05.07 03:00:00")
        );
        assert!(!is_approximate(&berlin));
    }

    #[test]
    fn a_zone_without_summer_time_has_an_empty_rule_and_its_sign() {
        let clock = clock(&zone(-18000, None));
        assert_eq!((clock.utc_offset.as_str(), clock.dst.as_str()), ("-18000", ""));
    }

    #[test]
    fn a_change_past_the_end_of_its_day_is_moved_to_the_edge_and_reported() {
        // Jerusalem until 2038: M3.4.4/26, the Friday after the fourth Thursday.
        let jerusalem = zone(7200, Some((change(3, 4, 4, 26 * 3600), change(10, 5, 0, 7200))));
        assert_eq!(clock(&jerusalem).dst, "3600 03.04.04 23:59:59 10.05.07 02:00:00");
        assert!(is_approximate(&jerusalem));
        let nuuk = zone(-7200, Some((change(3, 5, 0, -3600), change(10, 5, 0, 0))));
        assert_eq!(clock(&nuuk).dst, "3600 03.05.07 00:00:00 10.05.07 00:00:00");
    }
}
