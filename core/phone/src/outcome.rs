//! What became of a phone, for people, for tests and as JSON.

use std::{fmt, io, time::Duration};

use provost_plugin::MacAddr;
use serde::{Serialize, Serializer};

use crate::{challenge::Challenged, fetch::Fetched};

/// One phone's report. It tells of the last boot, except for the counts, which run over all of them.
#[derive(Debug, Serialize)]
pub struct Outcome {
    pub mac: MacAddr,
    pub model: String,
    pub firmware: String,
    /// It has what it came for: a file with something in it, its own one if its kind of phone asks for one.
    pub configured: bool,
    pub boots: u32,
    /// SUBSCRIBEs sent.
    pub announced: u32,
    /// Status of the final answer to the SUBSCRIBE, if one came.
    pub answered: Option<u16>,
    /// NOTIFYs received, retransmissions among them.
    pub notifies: u32,
    /// The URL of the NOTIFY, as it stood there.
    pub notified: Option<String>,
    pub files: Vec<Fetched>,
    /// What it did on request after it was configured.
    pub resyncs: Vec<Resync>,
    /// Orders that it challenged, and whether they proved the password.
    pub challenged: Vec<Challenged>,
    /// What a phone stricter than most might have refused.
    pub findings: Vec<Finding>,
    pub error: Option<Failure>,
    /// From the first SUBSCRIBE until it was configured, or gave up.
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
}

impl Outcome {
    pub(crate) fn new(mac: MacAddr, model: &str, firmware: &str) -> Outcome {
        Outcome {
            mac,
            model: model.to_owned(),
            firmware: firmware.to_owned(),
            configured: false,
            boots: 0,
            announced: 0,
            answered: None,
            notifies: 0,
            notified: None,
            files: Vec::new(),
            resyncs: Vec::new(),
            challenged: Vec::new(),
            findings: Vec::new(),
            error: None,
            elapsed: Duration::ZERO,
        }
    }

    /// The file whose URL ends in this name, if it was found.
    pub fn file(&self, name: &str) -> Option<&Fetched> {
        self.files.iter().find(|file| file.url.path.ends_with(name) && file.is_found())
    }

    pub(crate) fn find(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
    }
}

/// For people: one line for each thing that happened.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.configured { "configured" } else { "not configured" };
        writeln!(f, "{} {} {}: {end} after {:.1} s", self.mac, self.model, self.firmware, self.elapsed.as_secs_f64())?;
        if self.announced > 0 {
            let answer = self.answered.map_or("no answer".into(), |code| format!("answered {code}"));
            writeln!(f, "  SUBSCRIBE sent {} times in {} boots, {answer}", self.announced, self.boots)?;
        }
        if let Some(url) = &self.notified {
            writeln!(f, "  NOTIFY {url}")?;
        }
        for file in &self.files {
            writeln!(f, "  {file}")?;
        }
        for resync in &self.resyncs {
            writeln!(f, "  NOTIFY {}", resync.event)?;
            for file in &resync.files {
                writeln!(f, "    {file}")?;
            }
        }
        for challenged in &self.challenged {
            writeln!(f, "  NOTIFY {challenged}")?;
        }
        for finding in &self.findings {
            writeln!(f, "  found: {finding}")?;
        }
        if let Some(error) = &self.error {
            let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
            writeln!(f, "  failed: {error}{source}")?;
        }
        Ok(())
    }
}

/// A NOTIFY that came to a configured phone, and what the phone then fetched.
#[derive(Debug, Serialize)]
pub struct Resync {
    pub event: String,
    pub files: Vec<Fetched>,
}

/// A deviation from what the standards or the vendors' guides ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The same words for every phone, so that a fleet's can be counted.
    pub rule: &'static str,
    pub detail: String,
}

impl Finding {
    pub(crate) fn new(rule: &'static str, detail: impl Into<String>) -> Finding {
        Finding { rule, detail: detail.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

/// Why a phone was not configured.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("cannot {act}")]
    Socket { act: String, source: io::Error },
    #[error("the simulation of {model} is no SUBSCRIBE: {why}")]
    Simulation { model: String, why: &'static str },
    #[error("{model} does not announce itself by multicast; tell it a URL, as DHCP would")]
    Untold { model: String },
    #[error("neither an answer nor a NOTIFY came to {sent} SUBSCRIBEs")]
    Unheard { sent: u32 },
    #[error("the SUBSCRIBE was answered {code}, but no NOTIFY came")]
    Unnotified { code: u16 },
    #[error("the SUBSCRIBE was refused with {code}")]
    Refused { code: u16 },
    #[error("cannot fetch from \"{url}\": {why}")]
    Url { url: String, why: String },
    #[error("no file that configures it was found: {asked}")]
    Unconfigured { asked: String },
}

impl Failure {
    /// The same words for every phone that failed in this way.
    pub fn reason(&self) -> String {
        match self {
            Failure::Socket { source, .. } => format!("socket: {}", source.kind()),
            Failure::Simulation { .. } => "the simulation is no SUBSCRIBE".into(),
            Failure::Untold { .. } => "does not announce itself".into(),
            Failure::Unheard { .. } => "neither an answer nor a NOTIFY".into(),
            Failure::Unnotified { .. } => "answered, but no NOTIFY".into(),
            Failure::Refused { code } => format!("refused with {code}"),
            Failure::Url { why, .. } => format!("useless URL: {why}"),
            Failure::Unconfigured { .. } => "no file that configures it".into(),
        }
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::error::Error::source(self) {
            Some(source) => serializer.collect_str(&format_args!("{self}: {source}")),
            None => serializer.collect_str(self),
        }
    }
}

pub(crate) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}
