//! Many phones at once: which ones, from where, how many at a time, and what became of them all.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use provost_plugin::{MacAddr, spec::Simulation};
use serde::Serialize;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    outcome::{Outcome, seconds},
    phone::{Options, Phone},
};

/// Phones to be run. They take the kinds and the source addresses in turn.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub kinds: Vec<Simulation>,
    pub phones: u32,
    /// Number of the first one, from which the MACs are made.
    pub first: u32,
    /// Empty: all from the address that the options say.
    pub sources: Vec<Ipv4Addr>,
    /// How many live at the same time.
    pub at_once: usize,
    /// The files' contents are not kept, whatever is said here.
    pub options: Options,
}

impl Fleet {
    /// Every phone of the fleet, for an inventory.
    pub fn members(&self) -> Result<Vec<(MacAddr, &Simulation)>, String> {
        if self.kinds.is_empty() {
            return Err("a fleet needs at least one kind of phone".into());
        }
        let mut seen = HashSet::new();
        let numbers = (self.first..).take(self.phones as usize);
        numbers
            .zip(self.kinds.iter().cycle())
            .map(|(number, kind)| {
                // Numbered across the kinds: two of them may share a prefix.
                let mac = crate::mac(kind, number)
                    .ok_or_else(|| format!("prefix {} has no room for phone {number}", kind.oui))?;
                if seen.insert(mac) { Ok((mac, kind)) } else { Err(format!("two phones would be {mac}")) }
            })
            .collect()
    }

    /// Runs them all; `progress` hears of each as it ends.
    pub async fn run(&self, mut progress: impl FnMut(&Outcome)) -> Result<Report, String> {
        let places = Arc::new(Semaphore::new(self.at_once.max(1)));
        let started = Instant::now();
        let mut running = JoinSet::new();
        for (index, (mac, kind)) in self.members()?.into_iter().enumerate() {
            let mut options = Options { keep_bodies: false, ..self.options.clone() };
            if !self.sources.is_empty() {
                options.source = SocketAddrV4::new(self.sources[index % self.sources.len()], options.source.port());
            }
            let phone = Phone::new(kind, mac, options);
            let places = Arc::clone(&places);
            running.spawn(async move {
                let _place = places.acquire_owned().await;
                phone.run().await
            });
        }
        let mut report = Report::default();
        while let Some(ended) = running.join_next().await {
            match ended {
                Ok(outcome) => {
                    progress(&outcome);
                    report.add(&outcome);
                }
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        report.elapsed = started.elapsed();
        report.times.sort_unstable();
        Ok(report)
    }
}

#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub phones: usize,
    pub configured: usize,
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
    pub slowest: Option<Slowest>,
    /// SUBSCRIBEs sent, NOTIFYs received (retransmissions among them), files found, their bytes.
    pub announced: u64,
    pub notifies: u64,
    pub files: u64,
    pub bytes: u64,
    /// Phones by the reason for which they were not configured.
    pub failures: BTreeMap<String, usize>,
    /// Findings by rule, and for each rule the first detail seen.
    pub findings: BTreeMap<&'static str, Found>,
    /// Of the configured phones, in ascending order.
    #[serde(skip)]
    times: Vec<Duration>,
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} of {} phones configured in {:.1} s", self.configured, self.phones, self.elapsed.as_secs_f64())?;
        if let (Some(slowest), Some(half), Some(most)) = (&self.slowest, self.quantile(0.5), self.quantile(0.99)) {
            let [half, most, last] = [half, most, slowest.elapsed].map(|time| time.as_secs_f64());
            writeln!(
                f,
                "each within {half:.2} s (half), {most:.2} s (99 %), {last:.2} s (the slowest, {})",
                slowest.mac
            )?;
        }
        writeln!(
            f,
            "{} SUBSCRIBEs sent, {} NOTIFYs received, {} files of {} bytes fetched",
            self.announced, self.notifies, self.files, self.bytes
        )?;
        for (reason, phones) in &self.failures {
            writeln!(f, "failed: {phones} phones: {reason}")?;
        }
        for (rule, found) in &self.findings {
            writeln!(f, "found: {} times: {rule} ({})", found.times, found.example)?;
        }
        Ok(())
    }
}

#[derive(Debug, Serialize)]
pub struct Slowest {
    pub mac: MacAddr,
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
}

#[derive(Debug, Serialize)]
pub struct Found {
    pub times: usize,
    pub example: String,
}

impl Report {
    pub fn is_complete(&self) -> bool {
        self.configured == self.phones
    }

    /// The time within which this share of the configured phones was done; 0.5 is the median.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let last = self.times.len().checked_sub(1)?;
        Some(self.times[(last as f64 * share.clamp(0.0, 1.0)).round() as usize])
    }

    fn add(&mut self, outcome: &Outcome) {
        self.phones += 1;
        self.announced += u64::from(outcome.announced);
        self.notifies += u64::from(outcome.notifies);
        for file in outcome.files.iter().filter(|file| file.is_found()) {
            self.files += 1;
            self.bytes += file.bytes as u64;
        }
        for finding in &outcome.findings {
            let found = self.findings.entry(finding.rule);
            found.or_insert_with(|| Found { times: 0, example: finding.detail.clone() }).times += 1;
        }
        if outcome.configured {
            self.configured += 1;
            self.times.push(outcome.elapsed);
            if self.slowest.as_ref().is_none_or(|slowest| slowest.elapsed < outcome.elapsed) {
                self.slowest = Some(Slowest { mac: outcome.mac, elapsed: outcome.elapsed });
            }
        } else if let Some(failure) = &outcome.error {
            *self.failures.entry(failure.reason()).or_default() += 1;
        }
    }
}
