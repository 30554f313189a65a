//! A day of the calendar as people write it, `2026-12-24`, for what holds until then. It ends at midnight in UTC, so that it is the same
//! moment on every machine.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tz::UtcDateTime;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day {
    year: i32,
    month: u8,
    day: u8,
}

impl Day {
    /// The first moment after it.
    pub fn end(self) -> SystemTime {
        let last = UtcDateTime::new(self.year, self.month, self.day, 23, 59, 59, 0).map_or(0, |last| last.unix_time());
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(last + 1).unwrap_or_default())
    }

    pub fn is_over(self, now: SystemTime) -> bool {
        now >= self.end()
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Day, String> {
        let parts: Vec<&str> = text.split('-').collect();
        let number = |part: &str, digits: usize| {
            let is_number = part.len() == digits && part.bytes().all(|digit| digit.is_ascii_digit());
            part.parse::<u16>().ok().filter(|_| is_number)
        };
        let read = || {
            let [year, month, day] = parts[..] else { return None };
            let (year, month, day) = (number(year, 4)?, number(month, 2)? as u8, number(day, 2)? as u8);
            // Before 1970 no clock of ours has been.
            let day = Day { year: i32::from(year), month, day };
            (year >= 1970 && UtcDateTime::new(day.year, month, day.day, 0, 0, 0, 0).is_ok()).then_some(day)
        };
        read().ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            format!("\"{shown}\" is no day: write year, month and day, as in 2026-12-24")
        })
    }
}

impl TryFrom<String> for Day {
    type Error = String;

    fn try_from(text: String) -> Result<Day, String> {
        text.parse()
    }
}

impl From<Day> for String {
    fn from(day: Day) -> String {
        day.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_lasts_until_midnight_and_what_is_none_is_refused() {
        let day: Day = "2026-12-24".parse().unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!((day.to_string().as_str(), day.end()), ("2026-12-24", at(1_798_156_800)));
        assert!(!day.is_over(at(1_798_156_799)) && day.is_over(at(1_798_156_800)));
        assert!("2028-02-29".parse::<Day>().is_ok());
        for none in
            ["2027-02-29", "2026-13-01", "2026-1-1", "24.12.2026", "1969-12-31", "+202-01-01", "", "2026-12-24-"]
        {
            assert!(none.parse::<Day>().unwrap_err().contains("is no day"), "{none}");
        }
    }
}
