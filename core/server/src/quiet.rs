//! Hours in which no phone is sent into a restart: `mon-fri 08:00-18:00`, `22:00-06:00`.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use provost_fleet::local_clock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const DAY: u16 = 24 * 60;

/// Hours of some days of the week. Where they end before they begin, they go on into the next day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Hours {
    text: String,
    /// From Sunday on.
    days: [bool; 7],
    /// Minutes since midnight.
    from: u16,
    to: u16,
}

impl Hours {
    /// Whether this minute of this day, counted from Sunday, is one of them.
    fn hold(&self, day: usize, minute: u16) -> bool {
        let yesterday = (day + 6) % 7;
        if self.from < self.to {
            self.days[day] && (self.from..self.to).contains(&minute)
        } else {
            self.days[day] && minute >= self.from || self.days[yesterday] && minute < self.to
        }
    }
}

/// Until when it is quiet, if it is now; looked for over a week, since that is when everything comes round again.
pub(crate) fn until(hours: &[Hours], zone: Option<&str>, now: SystemTime) -> Option<SystemTime> {
    let is_quiet = |at: SystemTime| {
        let (day, minute) = local_clock(zone, at);
        hours.iter().any(|hours| hours.hold(day, minute))
    };
    if !is_quiet(now) {
        return None;
    }
    let minutes = (1..=7 * u64::from(DAY)).map(|minutes| now + Duration::from_secs(minutes * 60));
    let mut later = minutes;
    Some(later.find(|at| !is_quiet(*at)).unwrap_or(now + Duration::from_secs(7 * 24 * 3600)))
}

impl FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Hours, String> {
        let wrong = || {
            format!(
                "\"{text}\" are no hours: write \"08:00-18:00\", or with days \"mon-fri 08:00-18:00\", \"sat,sun 00:00-24:00\""
            )
        };
        let lower = text.trim().to_ascii_lowercase();
        let (days, clock) = match lower.rsplit_once(' ') {
            Some((days, clock)) => (Some(days.trim()), clock),
            None => (None, lower.as_str()),
        };
        let mut on = [days.is_none(); 7];
        for part in days.into_iter().flat_map(|days| days.split(',')) {
            let day = |name: &str| DAYS.iter().position(|known| *known == name.trim()).ok_or_else(wrong);
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (day(first)?, day(last)?),
                None => (day(part)?, day(part)?),
            };
            let mut day = first;
            on[day] = true;
            while day != last {
                day = (day + 1) % 7;
                on[day] = true;
            }
        }
        let minutes = |clock: &str| -> Option<u16> {
            let (hours, minutes) = clock.split_once(':')?;
            let (hours, minutes): (u32, u32) = (hours.parse::<u16>().ok()?.into(), minutes.parse::<u16>().ok()?.into());
            u16::try_from(hours * 60 + minutes).ok().filter(|all| minutes < 60 && *all <= DAY)
        };
        let (from, to) = clock.split_once('-').ok_or_else(wrong)?;
        let (from, to) = (minutes(from).ok_or_else(wrong)?, minutes(to).ok_or_else(wrong)?);
        if from == to || from == DAY {
            return Err(wrong());
        }
        Ok(Hours { text: text.trim().to_owned(), days: on, from, to })
    }
}

impl TryFrom<String> for Hours {
    type Error = String;

    fn try_from(text: String) -> Result<Hours, String> {
        text.parse()
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> String {
        hours.text
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn hours(text: &str) -> Hours {
        text.parse().unwrap()
    }

    #[test]
    fn hours_are_of_days_and_may_go_past_midnight() {
        let office = hours("Mon-Fri 08:00-18:00");
        assert!(office.hold(1, 8 * 60) && !office.hold(1, 18 * 60) && !office.hold(0, 9 * 60));
        let night = hours("sat 22:00-06:00");
        assert!(night.hold(6, 23 * 60) && night.hold(0, 5 * 60) && !night.hold(6, 5 * 60) && !night.hold(0, 22 * 60));
        let weekend = hours("sat,sun 00:00-24:00");
        assert!(weekend.hold(6, 0) && weekend.hold(0, DAY - 1) && !weekend.hold(1, 0));
        assert!(hours("fri-mon 01:00-02:00").hold(0, 60) && !hours("fri-mon 01:00-02:00").hold(3, 60));
    }

    #[test]
    fn what_are_no_hours_is_told() {
        for text in [
            "",
            "8-18",
            "08:00",
            "25:00-26:00",
            "08:60-09:00",
            "08:00-08:00",
            "noday 08:00-09:00",
            "-",
            "24:00-08:00",
            "99999:0-1:0",
        ] {
            assert!(text.parse::<Hours>().unwrap_err().contains("are no hours"), "{text}");
        }
    }

    #[test]
    fn quiet_lasts_until_the_last_of_its_hours_is_over() {
        // Thursday 1 January 1970, 09:00 UTC.
        let now = UNIX_EPOCH + Duration::from_secs(9 * 3600);
        let both = [hours("08:00-12:00"), hours("thu 11:00-13:30")];
        assert_eq!(until(&both, Some("UTC"), now), Some(UNIX_EPOCH + Duration::from_secs(13 * 3600 + 1800)));
        assert_eq!(until(&both, Some("Asia/Tokyo"), now), None, "it is 18:00 there");
        assert_eq!(until(&[], None, now), None);
        assert!(until(&[hours("00:00-24:00")], Some("UTC"), now).is_some());
    }
}
