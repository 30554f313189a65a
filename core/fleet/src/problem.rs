//! What is wrong with a profile file, and where: one line for people, fields for everything else.

use std::{fmt, sync::Arc};

use serde::Serialize;

/// One finding. A file is read to its end whatever is found, so that all of them come at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// As a person would open it. Empty where the finding is about no file at all.
    pub file: Arc<str>,
    /// Counted from 1; 0 where the finding is about the file as a whole.
    pub line: u32,
    /// Counted from 1, in characters; 0 as for `line`.
    pub column: u32,
    pub message: String,
    pub severity: Severity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// What it stands on is refused; the last good version stays in service where there is one.
    Error,
    /// It is in service as written, but perhaps not as meant.
    Warning,
}

impl Problem {
    pub(crate) fn error(file: &Arc<str>, line: u32, column: u32, message: impl Into<String>) -> Problem {
        Problem { file: file.clone(), line, column, message: message.into(), severity: Severity::Error }
    }

    pub(crate) fn warning(file: &Arc<str>, line: u32, column: u32, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(file, line, column, message) }
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)
    }
}

/// The name that a mistyped one was meant to be, if one is near enough to be worth saying.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = written.to_lowercase();
    // A third of the letters may be wrong: enough for a slip of the fingers, too little to guess wildly.
    let allowed = (written.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `, did you mean "x"?`, or a list of what is known where that is short, or nothing.
pub(crate) fn hint<'a>(written: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(written, known.clone()) {
        return format!(", did you mean \"{near}\"?");
    }
    let names: Vec<&str> = known.into_iter().take(13).collect();
    match names.len() {
        0 | 13.. => String::new(),
        _ => format!("; known are {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let known = ["ringtone", "ring_volume", "tls"];
        assert_eq!(nearest("ringtnoe", known), Some("ringtone"));
        assert_eq!(nearest("TLS", known), Some("tls"));
        assert_eq!(nearest("brightness", known), None);
        assert_eq!(nearest("x", ["tls"]), None);
    }
}
