//! What phones were seen doing: who announced itself, what it was told, what it fetched. In memory and bounded, for whatever floods
//! the network must not fill it. Knows no files: whether a phone is known is for the caller to say. What changed is remembered until
//! somebody ([`crate::Store`]) asks for it, once for each phone however often it changed.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    net::{IpAddr, SocketAddrV4},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::SyncSender,
    },
    time::{Duration, SystemTime},
};

use provost_plugin::{MacAddr, model::Identity};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Events kept of each phone: some boots' worth.
const EVENTS: usize = 32;
/// Files of which the last fetch is kept, whatever came after it.
const FILES: usize = 16;
/// Characters kept of any text that came from the network.
const TEXT: usize = 128;
/// Renders of a file that are kept beside the one that was taken last.
const RENDERS: usize = 5;
/// How long the denials of one address are kept as one.
const DENIED: Duration = Duration::from_secs(3600);

/// A phone seen at a time, through a door.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub identity: Identity,
    /// As logs name it: `pnp`, `http`, `tftp`.
    pub door: &'static str,
    /// It announced itself, which binds its address to it; asking for a file does not, for a name in a path is no proof.
    pub announced: bool,
    pub address: Option<IpAddr>,
    pub interface: Option<String>,
    /// Our address that it spoke to, or that it is answered from.
    pub local: Option<IpAddr>,
    /// The relay that heard it announce itself, where we have not ourselves.
    pub relay: Option<Relay>,
    pub at: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No profile file knows it: it is shown, and given nothing.
    Pending,
    Known,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Known => "known",
        }
    }
}

/// Something that happened to a phone. Holds no secrets: a URL or file name that carries a token is for the caller to shorten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    #[serde(with = "milliseconds")]
    pub at: SystemTime,
    #[serde(flatten)]
    pub what: Happening,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum Happening {
    /// It was told where to fetch.
    Announced {
        plugin: String,
        /// Through this relay.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        relay: Option<String>,
    },
    NotifyAnswered {
        code: u16,
    },
    NotifyTimedOut {
        reason: String,
    },
    /// A file was asked for. `outcome` is the desk's word: found, unknown, refused, failed.
    Fetched {
        door: Cow<'static, str>,
        file: String,
        outcome: Cow<'static, str>,
        bytes: u64,
        /// Of what was sent: the strong ETag of a rendered file, empty for others.
        #[serde(default)]
        digest: String,
        /// How long the desk took.
        #[serde(default)]
        micros: u64,
    },
    /// It was given nothing.
    Refused {
        reason: String,
        /// It was heard through this relay.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        relay: Option<String>,
    },
    /// Somebody asked for a file of its own and did not show what this phone has to show.
    Denied {
        door: Cow<'static, str>,
        file: String,
        from: IpAddr,
        reason: String,
    },
    /// Somebody opened it for provisioning, for so many minutes; 0 is closed.
    Opened {
        minutes: u32,
    },
    /// Nobody enrolled it but a rule of the profile files.
    Enrolled {
        rule: String,
    },
    /// A rule was to enrol it and could not.
    NotEnrolled {
        reason: String,
    },
    /// It was told by NOTIFY to do something: the event, as its vendor names it.
    Ordered {
        event: String,
    },
    /// What it said to that in the end.
    OrderAnswered {
        code: u16,
    },
    /// The order did not reach it, or was not answered so that it can be believed to obey.
    OrderFailed {
        reason: String,
    },
}

/// All that is kept of one phone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub mac: MacAddr,
    pub state: State,
    /// Somebody decided that this stranger is not to be shown among those that wait.
    #[serde(default)]
    pub ignored: bool,
    /// The newest that it told of each thing.
    pub identity: Identity,
    pub door: Cow<'static, str>,
    pub address: Option<IpAddr>,
    /// The address of its last announcement.
    #[serde(default)]
    pub announced_from: Option<IpAddr>,
    /// The relay through which it announced itself last; none where we heard it ourselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<Relay>,
    #[serde(default)]
    pub open: Option<Open>,
    /// Where it hears SIP by its own word; none as long as it was only seen fetching.
    #[serde(default)]
    pub contact: Option<SocketAddrV4>,
    pub interface: Option<String>,
    /// Our address that it last spoke to: part of the URLs in its files.
    #[serde(default)]
    pub local: Option<IpAddr>,
    #[serde(with = "milliseconds")]
    pub first_seen: SystemTime,
    #[serde(with = "milliseconds")]
    pub last_seen: SystemTime,
    pub sightings: u64,
    /// When what it runs, or what it runs on, was first told as it is now: its files may differ from that moment on.
    #[serde(with = "milliseconds")]
    pub software_since: SystemTime,
    /// Oldest first.
    pub events: VecDeque<Event>,
    /// The last fetch of each file, by the name that was asked for.
    #[serde(default)]
    pub files: BTreeMap<String, Taken>,
}

/// A relay that has heard a phone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    pub name: String,
    /// Its kernel had the phone's own MAC address behind the address that announced itself.
    pub seen: bool,
}

/// That a phone is, or was, open for provisioning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    #[serde(with = "milliseconds")]
    pub until: SystemTime,
    /// Somebody answers for whoever asks first.
    #[serde(default)]
    pub vouched: bool,
    /// Who that was.
    #[serde(default)]
    pub by: Option<IpAddr>,
}

/// How a file was last fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    #[serde(with = "milliseconds")]
    pub at: SystemTime,
    pub door: Cow<'static, str>,
    pub outcome: Cow<'static, str>,
    pub bytes: u64,
    pub digest: String,
    /// The renders that it took before this one, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Before>,
}

/// A render that a phone once took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// When it last took it.
    #[serde(with = "milliseconds")]
    pub at: SystemTime,
    pub digest: String,
}

impl Taken {
    /// What it took before another fetch, with this one.
    fn and_before(self, next: &str) -> Vec<Before> {
        let Taken { at, digest, mut before, .. } = self;
        if !digest.is_empty() && digest != next {
            before.insert(0, Before { at, digest });
            before.truncate(RENDERS);
        }
        before
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub pending: usize,
    pub known: usize,
    /// Sightings since the start.
    pub sightings: u64,
    /// Phones forgotten to make room.
    pub forgotten: u64,
}

/// Milliseconds since 1970, as browsers and dashboards take them.
mod milliseconds {
    use super::{Deserialize, Deserializer, Duration, Serializer, SystemTime};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        serializer.serialize_u64(since.as_millis() as u64)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let since = Duration::from_millis(u64::deserialize(deserializer)?);
        SystemTime::UNIX_EPOCH.checked_add(since).ok_or_else(|| serde::de::Error::custom("a time that no clock shows"))
    }
}

/// The phones that were seen, most lately seen kept longest, pending ones forgotten before known ones.
#[derive(Debug)]
pub struct Registry {
    /// Several, so that phones that boot together do not wait for each other.
    shards: Vec<Mutex<Shard>>,
    per_shard: usize,
    /// Never locked together with a shard. Whoever announced itself from an address has it; where nobody did, as with phones that DHCP
    /// sends here, whoever asked from there last for a file of its own.
    addresses: Mutex<HashMap<IpAddr, Occupant>>,
    capacity: usize,
    sightings: AtomicU64,
    forgotten: AtomicU64,
    /// Rung when something changed, for whoever keeps it.
    changed: OnceLock<SyncSender<()>>,
    /// How often something changed, for whoever looks now and then.
    changes: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Occupant {
    mac: MacAddr,
    announced: bool,
}

#[derive(Debug, Default)]
struct Shard {
    phones: HashMap<MacAddr, Kept>,
    /// Sightings in order, for pending and for known phones. Only a phone's last one counts; the others are swept out now and then,
    /// which costs less than keeping a list in order at every sighting.
    order: [VecDeque<(MacAddr, u64)>; 2],
    stamp: u64,
    /// Phones that changed, or were forgotten, since somebody last asked.
    changed: HashSet<MacAddr>,
}

#[derive(Debug)]
struct Kept {
    record: Record,
    stamp: u64,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::new(100_000)
    }
}

impl Registry {
    /// Holds at most about `capacity` phones.
    pub fn new(capacity: usize) -> Registry {
        let shards = if capacity < 1024 { 1 } else { 16 };
        Registry {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            per_shard: (capacity / shards).max(1),
            addresses: Mutex::default(),
            capacity,
            sightings: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            changed: OnceLock::new(),
            changes: AtomicU64::new(0),
        }
    }

    /// Whom to ring from now on when something changes. Only the first who asks is rung.
    pub(crate) fn ring(&self, bell: SyncSender<()>) -> bool {
        self.changed.set(bell).is_ok()
    }

    /// What changed since this was last asked: each phone as it is now, or none where it was forgotten.
    pub(crate) fn take_changes(&self) -> Vec<(MacAddr, Option<Record>)> {
        let of_shard = |shard: &Mutex<Shard>| {
            let changed = std::mem::take(&mut lock(shard).changed);
            // One by one: who answers a phone meanwhile waits for the copy of one, not of hundreds.
            changed.into_iter().map(|mac| (mac, self.by_mac(mac)))
        };
        self.shards.iter().flat_map(of_shard).collect()
    }

    /// Takes in what was kept of a phone before the start. What was seen since counts more.
    pub fn restore(&self, record: Record) {
        let (mac, state, address) = (record.mac, record.state, record.address);
        {
            let mut shard = self.shard(mac);
            if shard.phones.contains_key(&mac) || shard.phones.len() >= self.per_shard {
                return;
            }
            shard.stamp += 1;
            let stamp = shard.stamp;
            shard.phones.insert(mac, Kept { record, stamp });
            shard.order[state as usize].push_back((mac, stamp));
        }
        // Where it was last is a guess by now, which the next word from there corrects.
        if let Some(address) = address.filter(|_| state == State::Known) {
            lock(&self.addresses).entry(address.to_canonical()).or_insert(Occupant { mac, announced: false });
        }
    }

    /// Whether a stranger is shown among those that wait. False where no such phone was seen.
    pub fn ignore(&self, mac: MacAddr, ignored: bool) -> bool {
        let mut shard = self.shard(mac);
        let Some(kept) = shard.phones.get_mut(&mac) else { return false };
        kept.record.ignored = ignored;
        shard.changed.insert(mac);
        drop(shard);
        self.tell();
        true
    }

    /// Forgets a phone, until it is seen again. False where there is none.
    pub fn forget(&self, mac: MacAddr) -> bool {
        let mut shard = self.shard(mac);
        let Some(kept) = shard.phones.remove(&mac) else { return false };
        shard.changed.insert(mac);
        drop(shard);
        let mut addresses = lock(&self.addresses);
        if let Some(address) = kept.record.address.map(|address| address.to_canonical())
            && addresses.get(&address).is_some_and(|occupant| occupant.mac == mac)
        {
            addresses.remove(&address);
        }
        drop(addresses);
        self.tell();
        true
    }

    /// Another number whenever something changed.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    fn tell(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        if let Some(bell) = self.changed.get() {
            // Full: it has been rung and not answered yet.
            let _ = bell.try_send(());
        }
    }

    /// Takes note of a phone. Without a MAC there is nobody to take note of, and false comes back.
    pub fn observe(&self, sighting: Sighting, state: State) -> bool {
        let Some(mac) = sighting.identity.mac else { return false };
        self.sightings.fetch_add(1, Ordering::Relaxed);
        let (announced, address) = (sighting.announced, sighting.address);
        let mut gone = Vec::new();
        let before;
        {
            let mut shard = self.shard(mac);
            before = shard.observe(mac, sighting, state);
            if announced && before != address {
                gone.extend(before.map(|address| (address, mac)));
            }
            while shard.phones.len() > self.per_shard {
                let Some(record) = shard.forget_one() else { break };
                self.forgotten.fetch_add(1, Ordering::Relaxed);
                shard.changed.insert(record.mac);
                gone.extend(record.address.map(|address| (address, record.mac)));
            }
        }
        let mut addresses = lock(&self.addresses);
        if let Some(address) = address.map(|address| address.to_canonical()) {
            let free = match addresses.get(&address) {
                Some(occupant) => !occupant.announced,
                None => addresses.len() < self.capacity,
            };
            // One that announced itself from elsewhere is there: whoever asks in its name from here is somebody else.
            let is_elsewhere = before
                .and_then(|before| addresses.get(&before.to_canonical()))
                .is_some_and(|occupant| occupant.announced && occupant.mac == mac);
            if announced || state == State::Known && free && !is_elsewhere {
                addresses.insert(address, Occupant { mac, announced });
            }
        }
        for (address, mac) in gone {
            // Somebody else may have the address by now.
            if addresses.get(&address.to_canonical()).is_some_and(|occupant| occupant.mac == mac) {
                addresses.remove(&address.to_canonical());
            }
        }
        drop(addresses);
        self.tell();
        true
    }

    /// Adds to what is known of a phone; one that was never seen, or was forgotten, is passed over.
    pub fn record(&self, mac: MacAddr, mut event: Event) {
        match &mut event.what {
            Happening::NotifyTimedOut { reason: text }
            | Happening::Refused { reason: text, .. }
            | Happening::Enrolled { rule: text }
            | Happening::NotEnrolled { reason: text }
            | Happening::Announced { plugin: text, .. }
            | Happening::Ordered { event: text }
            | Happening::OrderFailed { reason: text }
            | Happening::Fetched { file: text, .. } => shorten(text),
            Happening::Denied { file, .. } => shorten(file),
            Happening::NotifyAnswered { .. } | Happening::OrderAnswered { .. } | Happening::Opened { .. } => {}
        }
        {
            let mut shard = self.shard(mac);
            let Some(kept) = shard.phones.get_mut(&mac) else { return };
            kept.record.note(&event);
            let events = &mut kept.record.events;
            // Who keeps trying must not push out what the phone itself did.
            if matches!(event.what, Happening::Denied { .. }) {
                events.retain(|before| !is_again(before, &event));
            }
            while events.len() >= EVENTS {
                events.pop_front();
            }
            events.push_back(event);
            shard.changed.insert(mac);
        }
        self.tell();
    }

    /// Takes note of where a phone that announced itself hears SIP. It is for the caller to see that this is the phone's own host.
    pub fn hears_at(&self, mac: MacAddr, contact: SocketAddrV4) {
        {
            let mut shard = self.shard(mac);
            let Some(kept) = shard.phones.get_mut(&mac) else { return };
            kept.record.contact = Some(contact);
            shard.changed.insert(mac);
        }
        self.tell();
    }

    /// Opens a phone for provisioning, or closes it. False where no such phone was seen.
    pub fn open(&self, mac: MacAddr, open: Option<Open>) -> bool {
        let mut shard = self.shard(mac);
        let Some(kept) = shard.phones.get_mut(&mac) else { return false };
        kept.record.open = open;
        shard.changed.insert(mac);
        drop(shard);
        self.tell();
        true
    }

    /// Whether somebody answers for whoever asks for this phone's files from here: the first who does, as long as it is open.
    pub fn is_vouched(&self, mac: MacAddr, by: IpAddr, now: SystemTime) -> bool {
        let mut shard = self.shard(mac);
        let Some(open) = shard.phones.get_mut(&mac).and_then(|kept| kept.record.open.as_mut()) else { return false };
        if !open.vouched || open.until < now {
            return false;
        }
        match open.by {
            Some(first) => first == by,
            None => {
                open.by = Some(by);
                shard.changed.insert(mac);
                true
            }
        }
    }

    /// A look at one phone, without a copy of all that is kept of it. Quick work only, as for [`Registry::visit`].
    pub fn look<T>(&self, mac: MacAddr, see: impl FnOnce(&Record) -> T) -> Option<T> {
        self.shard(mac).phones.get(&mac).map(|kept| see(&kept.record))
    }

    pub fn by_mac(&self, mac: MacAddr) -> Option<Record> {
        self.shard(mac).phones.get(&mac).map(|kept| kept.record.clone())
    }

    /// The phone that last announced itself from this address, or, where none did, asked for a file of its own from there.
    pub fn by_address(&self, address: IpAddr) -> Option<MacAddr> {
        lock(&self.addresses).get(&address.to_canonical()).map(|occupant| occupant.mac)
    }

    /// Decides anew who is known, after the files changed.
    pub fn judge(&self, is_known: impl Fn(MacAddr) -> bool) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let mut changed = Vec::new();
            for (mac, kept) in &mut shard.phones {
                let state = if is_known(*mac) { State::Known } else { State::Pending };
                if kept.record.state != state {
                    kept.record.state = state;
                    changed.push((*mac, kept.stamp, state));
                }
            }
            // By age: the order of a map is none.
            changed.sort_by_key(|(_, stamp, _)| *stamp);
            for (mac, stamp, state) in changed {
                shard.order[state as usize].push_back((mac, stamp));
                shard.changed.insert(mac);
            }
        }
        self.tell();
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            sightings: self.sightings.load(Ordering::Relaxed),
            forgotten: self.forgotten.load(Ordering::Relaxed),
            ..Counts::default()
        };
        for shard in &self.shards {
            for kept in lock(shard).phones.values() {
                match kept.record.state {
                    State::Pending => counts.pending += 1,
                    State::Known => counts.known += 1,
                }
            }
        }
        counts
    }

    /// Shows every record, in no order. Quick work only: phones of the same shard wait meanwhile.
    pub fn visit(&self, mut see: impl FnMut(&Record)) {
        for shard in &self.shards {
            lock(shard).phones.values().for_each(|kept| see(&kept.record));
        }
    }

    /// Everything that is kept, by MAC.
    pub fn snapshot(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self
            .shards
            .iter()
            .flat_map(|shard| lock(shard).phones.values().map(|kept| kept.record.clone()).collect::<Vec<_>>())
            .collect();
        records.sort_by_key(|record| record.mac);
        records
    }

    fn shard(&self, mac: MacAddr) -> MutexGuard<'_, Shard> {
        // The last digits differ between phones of one delivery, which are the ones that boot together.
        let [.., four, five] = mac.octets();
        lock(&self.shards[usize::from(five ^ four.rotate_left(4)) % self.shards.len()])
    }
}

impl Shard {
    /// The address from which it was seen before.
    fn observe(&mut self, mac: MacAddr, sighting: Sighting, state: State) -> Option<IpAddr> {
        self.stamp += 1;
        let stamp = self.stamp;
        let Sighting { mut identity, door, announced, address, mut interface, local, relay, at } = sighting;
        let Identity { vendor, model, firmware, hardware, user_agent, .. } = &mut identity;
        [vendor, model, firmware, hardware, user_agent, &mut interface].into_iter().flatten().for_each(shorten);
        let kept = self.phones.entry(mac).or_insert_with(|| Kept {
            record: Record {
                mac,
                state,
                ignored: false,
                identity: Identity::default(),
                door: door.into(),
                address: None,
                announced_from: None,
                relay: None,
                open: None,
                contact: None,
                interface: None,
                local,
                first_seen: at,
                last_seen: at,
                sightings: 0,
                software_since: at,
                events: VecDeque::new(),
                files: BTreeMap::new(),
            },
            stamp,
        });
        kept.stamp = stamp;
        self.changed.insert(mac);
        let record = &mut kept.record;
        let before = record.address;
        record.state = state;
        record.door = door.into();
        record.last_seen = at;
        record.sightings += 1;
        record.local = local.or(record.local);
        if announced {
            (record.announced_from, record.relay) = (address, relay);
        }
        // A relay or a second phone's path in a GET would move the phone; only its own word does.
        if announced || record.address.is_none() {
            record.address = address.or(record.address);
            record.interface = interface.or(record.interface.take());
        }
        let known = &mut record.identity;
        known.mac = Some(mac);
        let changes = |new: &Option<String>, old: &Option<String>| new.is_some() && new != old;
        if changes(&identity.firmware, &known.firmware) || changes(&identity.hardware, &known.hardware) {
            record.software_since = at;
        }
        for (new, old) in [
            (identity.vendor, &mut known.vendor),
            (identity.model, &mut known.model),
            (identity.firmware, &mut known.firmware),
            (identity.hardware, &mut known.hardware),
            (identity.user_agent, &mut known.user_agent),
        ] {
            if new.is_some() {
                *old = new;
            }
        }
        self.order[state as usize].push_back((mac, stamp));
        if self.order[state as usize].len() > 2 * self.phones.len() + 64 {
            self.sweep(state);
        }
        before
    }

    fn sweep(&mut self, state: State) {
        let phones = &self.phones;
        self.order[state as usize].retain(|(mac, stamp)| counts_still(phones, *mac, *stamp, state));
    }

    fn forget_one(&mut self) -> Option<Record> {
        for state in [State::Pending, State::Known] {
            while let Some((mac, stamp)) = self.order[state as usize].pop_front() {
                if counts_still(&self.phones, mac, stamp, state) {
                    return self.phones.remove(&mac).map(|kept| kept.record);
                }
            }
        }
        None
    }
}

/// Whether the same address was denied the same phone shortly before.
fn is_again(before: &Event, event: &Event) -> bool {
    let (Happening::Denied { from: first, .. }, Happening::Denied { from: again, .. }) = (&before.what, &event.what)
    else {
        return false;
    };
    first == again && event.at.duration_since(before.at).unwrap_or_default() < DENIED
}

impl Record {
    fn note(&mut self, event: &Event) {
        let Happening::Fetched { door, file, outcome, bytes, digest, .. } = &event.what else { return };
        let (door, outcome, digest) = (door.clone(), outcome.clone(), digest.clone());
        let before = self.files.remove(file).map(|taken| taken.and_before(&digest)).unwrap_or_default();
        self.files.insert(file.clone(), Taken { at: event.at, door, outcome, bytes: *bytes, digest, before });
        if self.files.len() > FILES {
            let oldest = self.files.iter().min_by_key(|(_, taken)| taken.at).map(|(file, _)| file.clone());
            oldest.map(|file| self.files.remove(&file));
        }
    }
}

fn counts_still(phones: &HashMap<MacAddr, Kept>, mac: MacAddr, stamp: u64, state: State) -> bool {
    phones.get(&mac).is_some_and(|kept| kept.stamp == stamp && kept.record.state == state)
}

fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(TEXT) {
        text.truncate(end);
    }
}

/// A panic elsewhere leaves each record whole: they are written field by field, and none depends on another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn mac(number: u16) -> MacAddr {
        let [high, low] = number.to_be_bytes();
        MacAddr::new([0x00, 0x04, 0x13, 0, high, low])
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn sighting(number: u16, address: &str, seconds: u64) -> Sighting {
        Sighting {
            identity: Identity { mac: Some(mac(number)), vendor: Some("acme".into()), ..Identity::default() },
            door: "pnp",
            announced: true,
            address: Some(address.parse().unwrap()),
            interface: Some("eth0".into()),
            local: None,
            relay: None,
            at: at(seconds),
        }
    }

    #[test]
    fn the_renders_that_a_phone_took_are_remembered() {
        let registry = Registry::new(10);
        registry.observe(sighting(1, "192.0.2.1", 1), State::Known);
        let took = |seconds, digest: &str| {
            let what = Happening::Fetched {
                door: "http".into(),
                file: "a.cfg".into(),
                outcome: "rendered".into(),
                bytes: 1,
                digest: digest.into(),
                micros: 1,
            };
            registry.record(mac(1), Event { at: at(seconds), what });
        };
        took(2, "one");
        took(3, "one");
        took(4, "two");
        for seconds in 5..20 {
            took(seconds, &format!("{seconds}"));
        }
        // Gone and back again: what counts is what it took, not which are different.
        took(20, "one");
        let taken = registry.by_mac(mac(1)).unwrap().files["a.cfg"].clone();
        assert_eq!((taken.digest.as_str(), taken.before.len()), ("one", RENDERS));
        assert_eq!(taken.before[0], Before { at: at(19), digest: "19".into() });
        assert_eq!(taken.before[4], Before { at: at(15), digest: "15".into() });
    }

    #[test]
    fn the_newest_word_on_each_thing_is_kept() {
        let registry = Registry::new(10);
        assert!(
            !registry.observe(Sighting { identity: Identity::default(), ..sighting(1, "10.0.0.1", 1) }, State::Known)
        );
        registry.observe(sighting(1, "10.0.0.1", 1), State::Pending);
        let mut later = sighting(1, "10.0.0.99", 2);
        later.identity = Identity { mac: Some(mac(1)), model: Some("x".repeat(5000)), ..Identity::default() };
        (later.announced, later.door) = (false, "http");
        registry.observe(later, State::Known);
        let record = registry.by_mac(mac(1)).unwrap();
        assert_eq!(record.identity.vendor.as_deref(), Some("acme"));
        assert_eq!(record.identity.model.map(|model| model.len()), Some(TEXT));
        assert_eq!(
            (record.state, record.sightings, record.first_seen, record.last_seen),
            (State::Known, 2, at(1), at(2))
        );
        assert_eq!(record.address, Some("10.0.0.1".parse().unwrap()), "asking for a file must not move a phone");
        assert_eq!(registry.by_address("10.0.0.99".parse().unwrap()), None);
    }

    #[test]
    fn an_address_belongs_to_whoever_announced_itself_last() {
        let registry = Registry::new(10);
        let address = "10.0.0.1".parse().unwrap();
        registry.observe(sighting(1, "10.0.0.1", 1), State::Known);
        registry.observe(sighting(2, "10.0.0.1", 2), State::Known);
        assert_eq!(registry.by_address("::ffff:10.0.0.1".parse().unwrap()), Some(mac(2)));
        registry.observe(sighting(1, "10.0.0.7", 3), State::Known);
        assert_eq!(
            registry.by_address(address),
            Some(mac(2)),
            "moving away must not take the address from the next one"
        );
        registry.observe(sighting(2, "10.0.0.8", 4), State::Known);
        assert_eq!(registry.by_address(address), None);
    }

    #[test]
    fn an_address_from_which_nobody_announced_itself_belongs_to_whoever_asked_last() {
        let registry = Registry::new(10);
        let asks = |number, address, at| Sighting { announced: false, ..sighting(number, address, at) };
        let address = "10.0.0.1".parse().unwrap();
        registry.observe(asks(1, "10.0.0.1", 1), State::Pending);
        assert_eq!(registry.by_address(address), None, "a stranger has nothing to be given");
        registry.observe(asks(1, "10.0.0.1", 2), State::Known);
        registry.observe(asks(2, "10.0.0.1", 3), State::Known);
        assert_eq!(registry.by_address(address), Some(mac(2)));
        registry.observe(sighting(3, "10.0.0.1", 4), State::Known);
        registry.observe(asks(2, "10.0.0.1", 5), State::Known);
        assert_eq!(
            registry.by_address(address),
            Some(mac(3)),
            "asking must not take the address from who announced itself"
        );
    }

    #[test]
    fn a_flood_of_strangers_does_not_push_out_the_known() {
        let registry = Registry::new(3);
        registry.observe(sighting(1, "10.0.0.1", 1), State::Known);
        registry.observe(sighting(2, "10.0.0.2", 2), State::Pending);
        for number in 100..1100 {
            registry.observe(sighting(number, "10.9.9.9", 3), State::Pending);
            registry.observe(sighting(2, "10.0.0.2", 3), State::Pending);
        }
        assert_eq!(registry.counts(), Counts { pending: 2, known: 1, sightings: 2002, forgotten: 999 });
        assert!(registry.by_mac(mac(1)).is_some());
        assert!(registry.by_mac(mac(2)).is_some(), "the one that keeps coming back is kept");
        assert_eq!(lock(&registry.addresses).len(), 3);
        assert!(lock(&registry.shards[0]).order[0].len() < 100);
    }

    #[test]
    fn a_reload_judges_anew() {
        let registry = Registry::new(2);
        registry.observe(sighting(1, "10.0.0.1", 1), State::Pending);
        registry.observe(sighting(2, "10.0.0.2", 2), State::Known);
        registry.judge(|phone| phone == mac(1));
        assert_eq!(registry.by_mac(mac(1)).unwrap().state, State::Known);
        registry.observe(sighting(3, "10.0.0.3", 3), State::Pending);
        assert!(registry.by_mac(mac(2)).is_none(), "the pending one goes first, though it was seen later");
    }

    #[test]
    fn the_last_events_are_kept_and_shown_without_ado() {
        let registry = Registry::new(10);
        registry.record(mac(1), Event { at: at(1), what: Happening::NotifyAnswered { code: 200 } });
        assert!(registry.by_mac(mac(1)).is_none());
        registry.observe(sighting(1, "10.0.0.1", 1), State::Known);
        for code in 200..300 {
            registry.record(mac(1), Event { at: at(u64::from(code)), what: Happening::NotifyAnswered { code } });
        }
        let fetched = Happening::Fetched {
            door: "http".into(),
            file: "000413000001.cfg".into(),
            outcome: "found".into(),
            bytes: 4096,
            digest: "d1".into(),
            micros: 250,
        };
        registry.record(mac(1), Event { at: at(300), what: fetched });
        let shown = serde_json::to_value(registry.snapshot()).unwrap();
        assert_eq!(shown[0]["events"].as_array().unwrap().len(), EVENTS);
        assert_eq!(shown[0]["events"][0]["code"], 269);
        let last = serde_json::json!({
            "at": 300_000, "what": "fetched", "door": "http", "file": "000413000001.cfg", "outcome": "found", "bytes": 4096,
            "digest": "d1", "micros": 250
        });
        assert_eq!(shown[0]["events"][EVENTS - 1], last);
        for (what, shown) in [
            (
                Happening::Ordered { event: "check-sync".into() },
                serde_json::json!({ "what": "ordered", "event": "check-sync" }),
            ),
            (Happening::OrderAnswered { code: 481 }, serde_json::json!({ "what": "order_answered", "code": 481 })),
            (
                Happening::OrderFailed { reason: "no".into() },
                serde_json::json!({ "what": "order_failed", "reason": "no" }),
            ),
        ] {
            assert_eq!(serde_json::to_value(&what).unwrap(), shown);
        }
    }

    #[test]
    fn where_a_phone_hears_sip_stays_with_it() {
        let registry = Registry::new(10);
        let contact = "10.0.0.1:5062".parse().unwrap();
        registry.hears_at(mac(1), contact);
        assert!(registry.by_mac(mac(1)).is_none(), "a phone that was not seen hears nowhere");
        registry.observe(sighting(1, "10.0.0.1", 1), State::Known);
        assert_eq!(registry.by_mac(mac(1)).unwrap().contact, None);
        registry.hears_at(mac(1), contact);
        registry.observe(Sighting { announced: false, door: "http", ..sighting(1, "10.0.0.1", 2) }, State::Known);
        assert_eq!(registry.by_mac(mac(1)).unwrap().contact, Some(contact));
        let shown = serde_json::to_value(registry.snapshot()).unwrap();
        assert_eq!(shown[0]["contact"], "10.0.0.1:5062");
    }

    #[test]
    fn many_threads_may_watch() {
        let registry = Registry::new(2000);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let registry = &registry;
                scope.spawn(move || {
                    for number in 0..2000_u16 {
                        registry.observe(sighting(number * 4 + thread, "10.0.0.1", 1), State::Pending);
                    }
                });
            }
        });
        let counts = registry.counts();
        assert_eq!(counts.sightings, 8000);
        assert_eq!(counts.pending as u64 + counts.forgotten, 8000);
        assert!(counts.pending <= 2000);
    }
}
