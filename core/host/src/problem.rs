//! What was refused, and why, in a form that the log, `check` and the admin can each show.

use std::fmt;

use serde::Serialize;

/// Something on disk that is not in service as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file that a person would open.
    pub file: String,
    /// 0 where no line is to blame.
    pub line: usize,
    pub message: String,
    /// An older version goes on serving.
    pub older_serves: bool,
}

impl Problem {
    pub fn new(file: impl Into<String>, line: usize, message: impl Into<String>) -> Problem {
        Problem { file: file.into(), line, message: message.into(), older_serves: false }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message)?,
            line => write!(f, "{}:{line}: {}", self.file, self.message)?,
        }
        if self.older_serves { f.write_str(" (the version before it stays in service)") } else { Ok(()) }
    }
}
