//! How times, sizes and standings are worded on the screen.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Environment, Value, context, value::Serde};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub(super) fn teach(templates: &mut Environment<'static>) {
    templates.add_filter("ago", |at: Option<u64>| at.map_or_else(|| "never".to_owned(), |at| ago(at, now())));
    templates.add_filter("moment", |at: Option<u64>| at.map(moment).unwrap_or_default());
    templates.add_filter("clock", |at: Option<u64>| at.map(|at| moment(at)[11..19].to_owned()).unwrap_or_default());
    templates.add_filter("size", size);
    templates.add_filter("lasting", lasting);
    templates.add_filter("in_url", |text: String| in_url(&text));
    templates.add_filter("standing", |word: Option<String>| standing(word.as_deref().unwrap_or_default()));
}

/// What a handler answers, as templates see it.
pub(super) fn data(answer: impl serde::Serialize) -> Value {
    Value::from(Serde(answer))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn ago(at: u64, now: u64) -> String {
    let seconds = now.saturating_sub(at) / 1000;
    match seconds {
        0..10 => "just now".to_owned(),
        10..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Milliseconds since 1970 as RFC 3339 writes a moment.
fn moment(at: u64) -> String {
    // No date beyond the year 9999 has that form.
    let seconds = (at / 1000).min(253_402_300_799);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March, so that a leap day is the last one: Howard Hinnant's `civil_from_days`.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// A span of milliseconds.
fn lasting(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{:.1} s", millis as f64 / 1000.0),
        60_000..7_200_000 => format!("{} min", millis / 60_000),
        7_200_000..172_800_000 => format!("{} h", millis / 3_600_000),
        _ => format!("{} days", millis / 86_400_000),
    }
}

/// How a phone stands, as a word, a shape (for who does not see the colour), and the class that colours it.
fn standing(word: &str) -> Value {
    let (shape, class) = match word {
        "in_step" => ("●", "good"),
        "fetching" => ("◐", "busy"),
        "out_of_date" => ("▲", "warn"),
        "stuck" => ("■", "bad"),
        "pending" => ("◆", "warn"),
        "never_fetched" => ("○", "calm"),
        "never_seen" => ("◇", "calm"),
        "gone" => ("✕", "calm"),
        "error" => ("■", "bad"),
        "warn" | "warning" => ("▲", "warn"),
        "disabled" => ("–", "calm"),
        "ignored" => ("⊘", "calm"),
        _ => ("·", "calm"),
    };
    context! { word => word.replace('_', " "), shape, class }
}

const KEPT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b':');

pub(super) fn in_url(text: &str) -> String {
    utf8_percent_encode(text, &KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(951_782_399_000), "2000-02-28T23:59:59Z");
        assert_eq!(moment(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(moment(1_795_322_849_123), "2026-11-22T04:47:29Z");
        assert_eq!(moment(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn spans_and_sizes_are_short() {
        assert_eq!([ago(0, 5_000), ago(0, 59_999), ago(0, 7_300_000)], ["just now", "59 s ago", "2 h ago"]);
        assert_eq!(ago(10, 0), "just now", "a clock that was set back");
        assert_eq!([lasting(12), lasting(1234), lasting(600_000)], ["12 ms", "1.2 s", "10 min"]);
        assert_eq!([size(0), size(1536), size(5 << 20)], ["0 B", "1.5 KiB", "5.0 MiB"]);
        assert_eq!(in_url("/a b?c=ä&d"), "%2Fa%20b%3Fc%3D%C3%A4%26d");
    }

    #[test]
    fn each_progress_has_a_shape_of_its_own() {
        let of = |word: &str| standing(word).get_attr("shape").unwrap().to_string();
        let shapes: std::collections::BTreeSet<String> =
            provost_server::progress::Progress::ALL.iter().map(|progress| of(progress.as_str())).collect();
        assert_eq!(shapes.len(), provost_server::progress::Progress::ALL.len());
        assert!(!shapes.contains("·"));
    }
}
