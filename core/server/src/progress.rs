//! How far a phone has come: from what it was seen fetching, and what it would get now.
//!
//! What it would get takes rendering. So that is done only for phones that took something, and remembered ([`Renders`]) for as long as
//! the world is the same and the phone where it was.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use provost_fleet::{Happening, Record, Taken};
use provost_plugin::{MacAddr, model::Identity, spec::FileKind};
use serde::Serialize;

use crate::world::{Offer, Peer, World};

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
    let state = |(name, kind): &(String, FileKind)| {
        let (digest, bytes, error) = match etag(world, name, &peer) {
            Ok((digest, bytes)) => (Some(digest), bytes, None),
            Err(error) => (None, 0, Some(error)),
        };
        let taken = record.and_then(|record| taken(record, name)).cloned();
        FileState { name: name.clone(), kind: *kind, taken, digest, bytes, error }
    };
    let states = offer.files.iter().map(state).collect();
    Ok((offer, states))
}

/// How a file was last taken.
fn taken<'a>(record: &'a Record, name: &str) -> Option<&'a Taken> {
    // Hex digits are matched without case, so the phone may have asked in its own.
    let files = record.files.iter().filter(|(file, _)| file.eq_ignore_ascii_case(name));
    files.map(|(_, taken)| taken).max_by_key(|taken| taken.at)
}

/// The digest of a file as it would be given, and its length.
fn etag(world: &World, name: &str, peer: &Peer) -> Result<(String, u64), String> {
    let located = world.locate(name, peer).map_err(|error| error.to_string())?;
    world.etag(&located)
}

/// How far the phone of `record` has come with `files`.
pub fn progress(record: Option<&Record>, files: &[FileState], now: SystemTime) -> Progress {
    settled_without_files(record, now).unwrap_or_else(|| {
        // Settings are what may be out of date; a list of people or a firmware is fetched when the phone likes.
        let settings = files.iter().filter(|file| is_settings(file.kind));
        of_current(settings.filter_map(FileState::is_current))
    })
}

/// What came of the last time that a phone was told to fetch again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastOrder {
    pub at: SystemTime,
    /// The Event that it was told.
    pub event: String,
    /// The status that it answered.
    pub answered: Option<u16>,
    /// Why it was not told, or did not answer.
    pub failed: Option<String>,
    /// Files that it has asked for since.
    pub fetched: usize,
    /// It has asked anew where its configuration is, as phones do that restart.
    pub restarted: bool,
}

/// As far as the registry still has it: it keeps a few boots' worth of each phone.
pub fn last_order(record: &Record) -> Option<LastOrder> {
    let mut last: Option<LastOrder> = None;
    for event in &record.events {
        match (&event.what, &mut last) {
            (Happening::Ordered { event: words }, last) => {
                let (event, at) = (words.clone(), event.at);
                *last = Some(LastOrder { at, event, answered: None, failed: None, fetched: 0, restarted: false });
            }
            (_, None) => {}
            (Happening::OrderAnswered { code }, Some(order)) => order.answered = Some(*code),
            (Happening::OrderFailed { reason }, Some(order)) => order.failed = Some(reason.clone()),
            (Happening::Fetched { .. }, Some(order)) => order.fetched += 1,
            (Happening::Announced { .. } | Happening::Refused { .. }, Some(order)) => order.restarted = true,
            _ => {}
        }
    }
    last
}

/// From whether each file that it took is the current one.
fn of_current(taken: impl Iterator<Item = bool>) -> Progress {
    let mut progress = Progress::NeverFetched;
    for current in taken {
        if !current {
            return Progress::OutOfDate;
        }
        progress = Progress::InStep;
    }
    progress
}

/// Where what it would get does not matter.
fn settled_without_files(record: Option<&Record>, now: SystemTime) -> Option<Progress> {
    let Some(record) = record else { return Some(Progress::NeverSeen) };
    let ago = |then: SystemTime| now.duration_since(then).unwrap_or_default();
    if ago(record.last_seen) > LONG {
        return Some(Progress::Gone);
    }
    let told = record.events.iter().rev().find(|event| matches!(event.what, Happening::Announced { .. }));
    let asked = record.files.values().map(|taken| taken.at).max();
    let told_since = told.map(|event| event.at).filter(|told| asked.is_none_or(|asked| asked < *told));
    if let Some(told) = told_since {
        return Some(if ago(told) < SOON { Progress::Fetching } else { Progress::Stuck });
    }
    let last_failed = record.files.values().max_by_key(|taken| taken.at).is_some_and(|taken| taken.outcome == "failed");
    let took_any = record.files.values().any(|taken| taken.outcome == "rendered");
    match () {
        () if last_failed => Some(Progress::Stuck),
        () if !took_any => Some(Progress::NeverFetched),
        () => None,
    }
}

/// What phones would get, by name and digest: a list of phones is looked at again and again.
#[derive(Debug, Default)]
pub struct Renders(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    /// The world that it is of.
    generation: u64,
    phones: HashMap<MacAddr, (u64, Arc<[Render]>)>,
}

#[derive(Debug)]
struct Render {
    name: Box<str>,
    digest: Option<Box<str>>,
}

impl Renders {
    /// How far the phone of `record` has come. Blocks while libraries answer, unless it is remembered. `generation`: which world this is.
    pub fn progress(
        &self,
        world: &World,
        generation: u64,
        mac: MacAddr,
        record: Option<&Record>,
        now: SystemTime,
    ) -> Progress {
        let Some(record) = record else { return Progress::NeverSeen };
        if let Some(progress) = settled_without_files(Some(record), now) {
            return progress;
        }
        let renders = self.of(world, generation, mac, record);
        of_current(renders.iter().filter_map(|render| {
            let taken = taken(record, &render.name).filter(|taken| taken.outcome == "rendered")?;
            Some(render.digest.as_deref() == Some(taken.digest.as_str()))
        }))
    }

    fn of(&self, world: &World, generation: u64, mac: MacAddr, record: &Record) -> Arc<[Render]> {
        let peer = peer(mac, Some(record));
        let mut hasher = DefaultHasher::new();
        (peer.address, &peer.interface, peer.local, format!("{:?}", peer.identity)).hash(&mut hasher);
        let at = hasher.finish();
        let remembered = {
            let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let known = memory.phones.get(&mac).filter(|(of, _)| memory.generation == generation && *of == at);
            known.map(|(_, renders)| Arc::clone(renders))
        };
        if let Some(renders) = remembered {
            return renders;
        }
        let files = match world.files_of(mac, &peer) {
            Ok(offer) => offer.files,
            Err(_) => Vec::new(),
        };
        let settings = files.into_iter().filter(|(_, kind)| is_settings(*kind));
        let renders: Arc<[Render]> = settings
            .map(|(name, _)| {
                let digest = etag(world, &name, &peer).ok().map(|(digest, _)| digest.into_boxed_str());
                Render { name: name.into_boxed_str(), digest }
            })
            .collect();
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.generation != generation {
            memory.phones.clear();
            memory.generation = generation;
        }
        memory.phones.insert(mac, (at, Arc::clone(&renders)));
        renders
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
            announced_from: None,
            relay: None,
            open: None,
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
        let taken = Taken {
            at: at(seconds),
            door: "http".into(),
            outcome: outcome.into(),
            bytes: 1,
            digest: digest.into(),
            before: Vec::new(),
        };
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
    fn what_came_of_an_order_is_what_was_seen_since_the_last_one() {
        let fetched = || Happening::Fetched {
            door: "http".into(),
            file: "a.cfg".into(),
            outcome: "rendered".into(),
            bytes: 1,
            digest: "now".into(),
            micros: 1,
        };
        let ordered = || Happening::Ordered { event: "resync".into() };
        let of = |happenings| last_order(&record(happenings));
        assert_eq!(of(vec![(1, fetched())]), None);
        let order = LastOrder {
            at: at(5),
            event: "resync".into(),
            answered: Some(200),
            failed: None,
            fetched: 2,
            restarted: true,
        };
        let told = Happening::Announced { plugin: "acme".into(), relay: None };
        let seen = vec![
            (1, ordered()),
            (2, Happening::OrderFailed { reason: "off".into() }),
            (5, ordered()),
            (6, Happening::OrderAnswered { code: 200 }),
            (7, told),
            (8, fetched()),
            (9, fetched()),
        ];
        assert_eq!(of(seen), Some(order));
    }

    #[test]
    fn each_stage_is_told_by_what_was_seen() {
        let told = |seconds| vec![(seconds, Happening::Announced { plugin: "acme".into(), relay: None })];
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
