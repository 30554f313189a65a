//! What stands between phones and this server. Looks at the machine and its network, changes nothing, and says what it found and what to do.
//!
//! [`look`] gathers [`facts`] (the kernel's tables, the firewall's rules, what the running server says, a SUBSCRIBE of our own to the
//! group); each module of `checks` judges them, and asks nobody. [`boot`] tells how far a phone has come.

pub mod boot;
mod checks;
pub mod dhcp;
mod facts;
mod firewall;
mod link;
mod look;
mod name;
mod ntp;
mod probe;
mod querier;
mod tables;

use std::fmt;

pub use look::look;
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Phones are not served, or not all.
    Error,
    /// Some may not be, or not always.
    Warning,
}

/// Something that is in the way, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that found it.
    pub check: &'static str,
    pub severity: Severity,
    /// None where it is about the machine as a whole.
    pub interface: Option<String>,
    pub what: String,
    pub do_next: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: ")?;
        if let Some(interface) = &self.interface {
            write!(f, "{interface}: ")?;
        }
        write!(f, "{}\n  {}", self.what, self.do_next)
    }
}

/// What could not be looked at, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotLooked {
    pub check: &'static str,
    pub why: String,
}

/// One interface, as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    pub interface: String,
    /// In words.
    pub how: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub interfaces: Vec<Seen>,
    /// The worst first.
    pub findings: Vec<Finding>,
    pub not_looked: Vec<NotLooked>,
}

impl Report {
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for seen in &self.interfaces {
            writeln!(f, "{}: {}", seen.interface, seen.how.join(", "))?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        for not in &self.not_looked {
            writeln!(f, "not looked at: {}: {}", not.check, not.why)?;
        }
        let (errors, all) = (self.errors(), self.findings.len());
        match all {
            0 => writeln!(f, "nothing stands in the way"),
            _ => writeln!(f, "{errors} errors, {} warnings", all - errors),
        }
    }
}
