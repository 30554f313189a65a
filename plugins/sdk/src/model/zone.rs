//! A time zone as phones need it told: an offset, a rule for summer time, a POSIX string.

use serde::{Deserialize, Serialize};

/// Derived from an IANA name by the host (the rules come from its compiled-in tz database); a plugin only words it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// The IANA name, `Europe/Berlin`.
    pub name: String,
    /// Standard time, seconds east of UTC.
    pub utc_offset: i32,
    /// `CET`
    pub abbreviation: String,
    pub dst: Option<DstRule>,
    /// POSIX.1 TZ string, `CET-1CEST,M3.5.0,M10.5.0/3`.
    pub posix: String,
}

/// Summer time, in the form that POSIX and most phones share: the `week`-th `weekday` of `month` at `time`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DstRule {
    /// `CEST`
    pub abbreviation: String,
    /// Seconds that summer time adds to standard time.
    pub save: i32,
    pub start: Changeover,
    pub end: Changeover,
}

/// One change of the clocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changeover {
    /// 1 to 12.
    pub month: u8,
    /// 1 to 5; 5 is the last.
    pub week: u8,
    /// 0 is Sunday.
    pub weekday: u8,
    /// Seconds after local midnight; may be negative or past 24 hours, as POSIX.1-2024 allows.
    pub time: i32,
}
