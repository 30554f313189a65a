//! How far a phone has come: from what it was seen fetching, and what it would get now.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, SystemTime},
};

use provost_fleet::{Happening, Record, Taken};
use provost_plugin::{MacAddr, model::Identity, spec::FileKind};
use serde::Serialize;

use crate::world::{self, Offer, Peer, World};

/// A phone fetches within seconds of its NOTIFY, or it does not.
const SOON: Duration = Duration::from_secs(60);
/// Not seen for so long, it may have left the building.
const LONG: Duration = Duration::from_secs(90 * 24 * 3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Nothing was ever heard of it.
    NeverSeen,
    /// It was seen, and has neither been told where to fetch nor fetched anything.
    NeverFetched,
    /// It was told where to fetch a moment ago.
    Fetching,
    /// What it took is what it would get now.
    InStep,
    /// What it took differs from what it would get now.
    OutOfDate,
    /// It was told and never fetched, or what it asked for failed.
    Stuck,
    /// Not seen for three months.
    Gone,
}

impl Progress {
    pub const ALL: [Progress; 7] = [
        Progress::NeverSeen,
        Progress::NeverFetched,
        Progress::Fetching,
        Progress::InStep,
        Progress::OutOfDate,
        Progress::Stuck,
        Progress::Gone,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Progress::NeverSeen => "never_seen",
            Progress::NeverFetched => "never_fetched",
            Progress::Fetching => "fetching",
            Progress::InStep => "in_step",
            Progress::OutOfDate => "out_of_date",
            Progress::Stuck => "stuck",
            Progress::Gone => "gone",
        }
    }
}

/// A file that a phone may fetch.
#[derive(Clone, Debug, Serialize)]
pub struct FileState {
    pub name: String,
    pub kind: FileKind,
    /// How it was last fetched.
    pub taken: Option<Taken>,
    /// Of what the phone would get now; none where it cannot be rendered.
    pub digest: Option<String>,
    pub bytes: u64,
    /// Why it cannot be rendered.
    pub error: Option<String>,
}

impl FileState {
    /// Whether what was taken is what would be given now; none where nothing was.
    pub fn is_current(&self) -> Option<bool> {
        let taken = self.taken.as_ref().filter(|taken| taken.outcome == "rendered")?;
        Some(self.digest.as_ref() == Some(&taken.digest))
    }
}

/// Whether a file holds settings of a phone.
pub fn is_settings(kind: FileKind) -> bool {
    matches!(kind, FileKind::Device | FileKind::Common)
}

/// Who a phone is and where it stands, as it was last seen.
pub fn peer(mac: MacAddr, record: Option<&Record>) -> Peer {
    // TEST-NET-1 where it was never seen: which of our addresses it will speak to is not known.
    let nowhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let identity = record.map(|record| record.identity.clone()).unwrap_or_default();
    Peer {
        identity: Identity { mac: Some(mac), ..identity },
        address: record.and_then(|record| record.address),
        interface: record.and_then(|record| record.interface.clone()),
        local: record.and_then(|record| record.local).unwrap_or(nowhere),
    }
}

/// The files of a phone with a device in the inventory, as they were taken and as they would be given. Blocks while libraries answer.
pub fn files(world: &World, mac: MacAddr, record: Option<&Record>) -> Result<(Offer, Vec<FileState>), String> {
    let peer = peer(mac, record);
    let offer = world.files_of(mac, &peer)?;
    let taken = |name: &str| {
        // Hex digits are matched without case, so the phone may have asked in its own.
        let files = record.into_iter().flat_map(|record| &record.files);
        files
            .filter(|(file, _)| file.eq_ignore_ascii_case(name))
            .map(|(_, taken)| taken.clone())
            .max_by_key(|taken| taken.at)
    };
    let state = |(name, kind): &(String, FileKind)| {
        let located = world.locate(name, &peer).map_err(|error| error.to_string());
        let rendered = located.and_then(|located| world::render(&located, SystemTime::UNIX_EPOCH));
        let (digest, bytes, error) = match rendered {
            Ok(file) => (Some(file.etag), file.body.len() as u64, None),
            Err(error) => (None, 0, Some(error)),
        };
        FileState { name: name.clone(), kind: *kind, taken: taken(name), digest, bytes, error }
    };
    let states = offer.files.iter().map(state).collect();
    Ok((offer, states))
}

/// How far the phone of `record` has come with `files`.
pub fn progress(record: Option<&Record>, files: &[FileState], now: SystemTime) -> Progress {
    let Some(record) = record else { return Progress::NeverSeen };
    let ago = |then: SystemTime| now.duration_since(then).unwrap_or_default();
    if ago(record.last_seen) > LONG {
        return Progress::Gone;
    }
    let told = record.events.iter().rev().find(|event| matches!(event.what, Happening::Announced { .. }));
    let asked = record.files.values().map(|taken| taken.at).max();
    let told_since = told.map(|event| event.at).filter(|told| asked.is_none_or(|asked| asked < *told));
    if let Some(told) = told_since {
        return if ago(told) < SOON { Progress::Fetching } else { Progress::Stuck };
    }
    let last_failed = record.files.values().max_by_key(|taken| taken.at).is_some_and(|taken| taken.outcome == "failed");
    // Settings are what may be out of date; a list of people or a firmware is fetched when the phone likes.
    let settings = files.iter().filter(|file| is_settings(file.kind));
    let taken: Vec<bool> = settings.filter_map(FileState::is_current).collect();
    match taken.as_slice() {
        _ if last_failed => Progress::Stuck,
        [] => Progress::NeverFetched,
        all if all.iter().all(|current| *current) => Progress::InStep,
        _ => Progress::OutOfDate,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use provost_fleet::{Event, State};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn record(happenings: Vec<(u64, Happening)>) -> Record {
        let events = happenings.into_iter().map(|(seconds, what)| Event { at: at(seconds), what }).collect();
        Record {
            mac: MacAddr::new([2, 0, 0, 0, 0, 1]),
            state: State::Known,
            ignored: false,
            identity: Identity::default(),
            door: "pnp".into(),
            address: None,
            contact: None,
            interface: None,
            local: None,
            first_seen: at(1),
            last_seen: at(100),
            sightings: 1,
            software_since: at(1),
            events,
            files: BTreeMap::new(),
        }
    }

    fn took(record: &mut Record, seconds: u64, outcome: &'static str, digest: &str) {
        let taken =
            Taken { at: at(seconds), door: "http".into(), outcome: outcome.into(), bytes: 1, digest: digest.into() };
        record.files.insert("a.cfg".into(), taken);
    }

    fn file(record: &Record) -> FileState {
        FileState {
            name: "a.cfg".into(),
            kind: FileKind::Device,
            taken: record.files.get("a.cfg").cloned(),
            digest: Some("now".into()),
            bytes: 1,
            error: None,
        }
    }

    #[test]
    fn each_stage_is_told_by_what_was_seen() {
        let told = |seconds| vec![(seconds, Happening::Announced { plugin: "acme".into() })];
        let of = |record: &Record, seconds| progress(Some(record), &[file(record)], at(seconds));
        assert_eq!(progress(None, &[], at(100)), Progress::NeverSeen);
        assert_eq!(of(&record(Vec::new()), 110), Progress::NeverFetched);
        assert_eq!(of(&record(told(100)), 110), Progress::Fetching);
        assert_eq!(of(&record(told(100)), 200), Progress::Stuck);
        assert_eq!(of(&record(told(100)), 100 + 91 * 24 * 3600), Progress::Gone);
        let mut fetched = record(told(100));
        took(&mut fetched, 101, "rendered", "now");
        assert_eq!(of(&fetched, 110), Progress::InStep);
        took(&mut fetched, 101, "rendered", "before");
        assert_eq!(of(&fetched, 110), Progress::OutOfDate);
        took(&mut fetched, 102, "failed", "");
        assert_eq!(of(&fetched, 110), Progress::Stuck);
        took(&mut fetched, 99, "rendered", "now");
        assert_eq!(of(&fetched, 110), Progress::Fetching, "told again since");
    }
}
