//! Which relays speak to the server, and what of it is taken: pure, told the time, bounded.
//!
//! What is taken is sealed with a key of the settings, was sent within a minute of now, to this run of the server, once, and is about a
//! phone of the key's network. Whoever is new to this run is told its number first, so that what was overheard before a restart is good
//! for nothing after it.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use ipnet::Ipv4Net;

use super::envelope::{CLOCKS, Direction, Envelope, Key, NotOpened, Place, Window, clocks, key_of};

/// Runs of relays that are known at one time.
const SESSIONS: usize = 64;
/// Envelopes of one relay in a second.
const PER_SECOND: u32 = 4000;
/// Newcomers that are told the run in a second.
const TOLD_PER_SECOND: u32 = 20;
/// A relay says every so often that it is there: one that has not for so many seconds is away.
const AWAY: u64 = 65;
/// None of its envelopes is good any more after so many seconds, so it may be forgotten.
const FORGOTTEN: u64 = 2 * CLOCKS.as_secs() + 10;

/// A key of the settings.
#[derive(Clone, Debug)]
pub struct Known {
    pub name: Arc<str>,
    pub network: Ipv4Net,
    pub key: Key,
}

/// One run of a relay.
#[derive(Debug)]
pub struct Session {
    pub name: Arc<str>,
    key: Key,
    id: u64,
    run: u64,
    /// From where it spoke last.
    at: Mutex<SocketAddrV4>,
    counter: AtomicU64,
}

impl Session {
    /// What goes to the relay, and where that is.
    pub(super) fn seal(&self, place: Option<Place>, payload: &[u8]) -> Option<(Vec<u8>, SocketAddrV4)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(now.as_micros()).unwrap_or(0);
        // As large as the time at least, so that it goes on where a session of this number was begun anew.
        let next = |before: u64| Some(before.saturating_add(1).max(micros));
        let before = self.counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        let counter = before.saturating_add(1).max(micros);
        let envelope = Envelope { session: self.id, run: self.run, counter, time: now.as_secs(), place, payload };
        Some((self.key.seal(Direction::ToRelay, &envelope)?, self.at()))
    }

    pub fn at(&self) -> SocketAddrV4 {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be done with an envelope that was taken.
#[derive(Debug)]
pub enum Taken<'a> {
    /// The relay says that it is there. `is_new`: and has not before.
    Hello { session: Arc<Session>, is_new: bool },
    /// A phone has said something.
    Said { session: Arc<Session>, place: Place, payload: &'a [u8], is_new: bool },
    /// It does not know this run of the server, and is to be told.
    Newcomer { session: Arc<Session> },
}

/// Why an envelope was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    NotOpened(#[from] NotOpened),
    #[error("it has a wrong key: none of those that pnp.relay.keys names")]
    UnknownKey,
    #[error(
        "the clock of relay {relay} is {} s {} this server's, and more than {} s is too much: set both by NTP",
        .ahead.unsigned_abs(),
        if *.ahead < 0 { "behind" } else { "ahead of" },
        CLOCKS.as_secs()
    )]
    Clock { relay: Arc<str>, ahead: i128 },
    #[error("relay {relay} has sent this before, or somebody repeats what he overheard")]
    Repeated { relay: Arc<str> },
    #[error("relay {relay} speaks for {phone}, and its key is for phones of {network}")]
    Network { relay: Arc<str>, phone: Ipv4Addr, network: Ipv4Net },
    #[error("relay {relay} speaks for {phone}, which is none of the link on which it says to have heard it")]
    OffLink { relay: Arc<str>, phone: Ipv4Addr },
    #[error("relay {relay} sends more than {PER_SECOND} envelopes in a second")]
    TooMuch { relay: Arc<str> },
    #[error("more than {SESSIONS} relays speak at a time")]
    Full,
}

impl Refused {
    /// What of its kind is told at once need not be told again for each envelope.
    pub fn kind(&self) -> &'static str {
        match self {
            Refused::NotOpened(_) => "not opened",
            Refused::UnknownKey => "key",
            Refused::Clock { .. } => "clock",
            Refused::Repeated { .. } => "repeated",
            Refused::Network { .. } => "network",
            Refused::OffLink { .. } => "link",
            Refused::TooMuch { .. } => "too much",
            Refused::Full => "full",
        }
    }
}

#[derive(Debug)]
struct Entry {
    session: Arc<Session>,
    window: Window,
    /// Seconds since 1970 by our clock.
    last: u64,
    /// The second that is counted, and how many came in it.
    second: (u64, u32),
    is_away: bool,
}

#[derive(Debug)]
pub struct Sessions {
    /// Of this run of the server.
    run: u64,
    known: HashMap<[u8; 8], Known>,
    sessions: HashMap<([u8; 8], u64), Entry>,
    told: (u64, u32),
}

impl Sessions {
    pub fn new(run: u64, known: Vec<Known>) -> Sessions {
        let known = known.into_iter().map(|known| (known.key.id, known)).collect();
        Sessions { run, known, sessions: HashMap::new(), told: (0, 0) }
    }

    /// `now`: seconds since 1970.
    pub fn take<'a>(&mut self, bytes: &'a [u8], from: SocketAddrV4, now: u64) -> Result<Taken<'a>, Refused> {
        let known = self.known.get(&key_of(bytes)?).ok_or(Refused::UnknownKey)?;
        let envelope = known.key.open(Direction::ToServer, bytes)?;
        let relay = || Arc::clone(&known.name);
        clocks(envelope.time, now).map_err(|ahead| Refused::Clock { relay: relay(), ahead })?;
        let begin = || {
            let (name, key, at) = (relay(), known.key.clone(), Mutex::new(from));
            Arc::new(Session { name, key, id: envelope.session, run: self.run, at, counter: AtomicU64::new(0) })
        };
        if envelope.run != self.run {
            // Told to whoever repeats an old envelope, too, and it is no longer than that.
            return match within(&mut self.told, now, TOLD_PER_SECOND) {
                true => Ok(Taken::Newcomer { session: begin() }),
                false => Err(Refused::Repeated { relay: relay() }),
            };
        }
        if let Some(place) = envelope.place {
            let phone = *place.phone.ip();
            if !known.network.contains(&phone) {
                return Err(Refused::Network { relay: relay(), phone, network: known.network });
            }
            if !place.is_on_link() {
                return Err(Refused::OffLink { relay: relay(), phone });
            }
        }
        let id = (known.key.id, envelope.session);
        let is_new = !self.sessions.contains_key(&id);
        if is_new {
            if self.sessions.len() >= SESSIONS {
                self.sessions.retain(|_, entry| now < entry.last.saturating_add(FORGOTTEN));
            }
            if self.sessions.len() >= SESSIONS {
                return Err(Refused::Full);
            }
        }
        let entry = self.sessions.entry(id).or_insert_with(|| Entry {
            session: begin(),
            window: Window::default(),
            last: now,
            second: (0, 0),
            is_away: false,
        });
        if !entry.window.take(envelope.counter) {
            return Err(Refused::Repeated { relay: relay() });
        }
        if !within(&mut entry.second, now, PER_SECOND) {
            return Err(Refused::TooMuch { relay: relay() });
        }
        // Only what is new says where the relay is.
        *entry.session.at.lock().unwrap_or_else(PoisonError::into_inner) = from;
        (entry.last, entry.is_away) = (now, false);
        let session = Arc::clone(&entry.session);
        Ok(match envelope.place {
            Some(place) => Taken::Said { session, place, payload: envelope.payload, is_new },
            None => Taken::Hello { session, is_new },
        })
    }

    /// Relays that have fallen silent since this was last asked, no other run of theirs being there.
    pub fn fallen_silent(&mut self, now: u64) -> Vec<Arc<str>> {
        self.sessions.retain(|_, entry| now < entry.last.saturating_add(FORGOTTEN));
        let is_gone = |entry: &Entry| now >= entry.last.saturating_add(AWAY);
        let there: Vec<Arc<str>> = self.sessions.values().filter(|entry| !is_gone(entry)).map(Entry::name).collect();
        let gone = self.sessions.values_mut().filter(|entry| is_gone(entry) && !entry.is_away);
        let gone: Vec<Arc<str>> = gone.map(Entry::leave).collect();
        gone.into_iter().filter(|name| !there.contains(name)).collect()
    }
}

impl Entry {
    fn name(&self) -> Arc<str> {
        Arc::clone(&self.session.name)
    }

    fn leave(&mut self) -> Arc<str> {
        self.is_away = true;
        self.name()
    }
}

/// Whether one more is within what a second may hold.
fn within(second: &mut (u64, u32), now: u64, most: u32) -> bool {
    if second.0 != now {
        *second = (now, 0);
    }
    second.1 += 1;
    second.1 <= most
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const RUN: u64 = 42;

    fn key(text: &str) -> Key {
        Key::of(text.repeat(8).as_bytes()).unwrap()
    }

    fn sessions() -> Sessions {
        let known = |name: &str, network: &str, text| Known {
            name: name.into(),
            network: network.parse().unwrap(),
            key: key(text),
        };
        Sessions::new(RUN, vec![known("north", "10.2.0.0/24", "north"), known("south", "10.3.0.0/24", "south")])
    }

    fn from() -> SocketAddrV4 {
        "192.0.2.7:40000".parse().unwrap()
    }

    fn said(phone: &str) -> Envelope<'static> {
        let phone = SocketAddrV4::new(phone.parse().unwrap(), 5060);
        let [a, b, c, _] = phone.ip().octets();
        let link = SocketAddrV4::new([a, b, c, 1].into(), 4000);
        let place = Place { phone, link, prefix: 24, mac: None };
        Envelope { session: 1, run: RUN, counter: 0, time: NOW, place: Some(place), payload: b"SUBSCRIBE" }
    }

    fn hello(session: u64) -> Envelope<'static> {
        Envelope { session, run: RUN, counter: 0, time: NOW, place: None, payload: b"" }
    }

    fn take(sessions: &mut Sessions, text: &str, envelope: &Envelope<'_>, now: u64) -> Result<String, Refused> {
        let bytes = key(text).seal(Direction::ToServer, envelope).unwrap();
        Ok(match sessions.take(&bytes, from(), now)? {
            Taken::Hello { session, is_new } => format!("hello {} {is_new}", session.name),
            Taken::Said { session, place, .. } => format!("{} {}", session.name, place.phone.ip()),
            Taken::Newcomer { session } => format!("newcomer {}", session.name),
        })
    }

    #[test]
    fn a_relay_speaks_for_the_phones_of_its_own_network() {
        let mut all = sessions();
        assert_eq!(take(&mut all, "north", &said("10.2.0.9"), NOW), Ok("north 10.2.0.9".into()));
        assert!(matches!(take(&mut all, "south", &said("10.2.0.9"), NOW), Err(Refused::Network { .. })));
        assert_eq!(take(&mut all, "south", &said("10.3.0.9"), NOW), Ok("south 10.3.0.9".into()));
        assert_eq!(take(&mut all, "east ", &said("10.2.0.9"), NOW), Err(Refused::UnknownKey));
        let mut elsewhere = said("10.2.0.9");
        elsewhere.place.as_mut().unwrap().link = "10.9.0.1:1".parse().unwrap();
        assert!(matches!(take(&mut all, "north", &elsewhere, NOW), Err(Refused::OffLink { .. })));
    }

    #[test]
    fn what_comes_again_or_late_or_of_another_run_is_not_taken() {
        let mut all = sessions();
        assert!(take(&mut all, "north", &said("10.2.0.9"), NOW).is_ok());
        let again = take(&mut all, "north", &said("10.2.0.9"), NOW);
        assert!(matches!(again, Err(Refused::Repeated { .. })), "{again:?}");
        let next = Envelope { counter: 1, ..said("10.2.0.9") };
        let late = take(&mut all, "north", &next, NOW + 61).unwrap_err();
        assert!(late.to_string().contains("61 s behind"), "{late}");
        let early = take(&mut all, "north", &next, NOW - 61).unwrap_err();
        assert!(early.to_string().contains("61 s ahead of"), "{early}");
        let before = Envelope { run: RUN - 1, ..next.clone() };
        assert_eq!(take(&mut all, "north", &before, NOW), Ok("newcomer north".into()), "it is told, and not heard");
        assert!(take(&mut all, "north", &next, NOW + 60).is_ok());
    }

    #[test]
    fn newcomers_are_told_so_often_and_no_more() {
        let mut all = sessions();
        let stranger = Envelope { run: 0, ..hello(1) };
        let told = (0..100).filter(|_| take(&mut all, "north", &stranger, NOW).is_ok()).count();
        assert_eq!(told, TOLD_PER_SECOND as usize);
        assert!(take(&mut all, "north", &stranger, NOW + 1).is_ok());
    }

    #[test]
    fn there_are_so_many_sessions_and_those_go_first_whose_envelopes_are_over() {
        let mut all = sessions();
        for number in 0..SESSIONS as u64 {
            assert!(take(&mut all, "north", &hello(number), NOW).is_ok());
        }
        let more = |now| Envelope { time: now, ..hello(1000) };
        assert_eq!(take(&mut all, "north", &more(NOW + 100), NOW + 100), Err(Refused::Full));
        assert!(take(&mut all, "north", &more(NOW + FORGOTTEN), NOW + FORGOTTEN).is_ok());
    }

    #[test]
    fn a_relay_that_falls_silent_is_told_of_once_and_one_that_began_anew_is_not() {
        let mut all = sessions();
        take(&mut all, "north", &hello(1), NOW).unwrap();
        take(&mut all, "south", &hello(2), NOW).unwrap();
        assert!(all.fallen_silent(NOW + AWAY - 1).is_empty());
        let anew = Envelope { time: NOW + 50, ..hello(3) };
        take(&mut all, "south", &anew, NOW + 50).unwrap();
        assert_eq!(all.fallen_silent(NOW + AWAY), ["north".into()]);
        assert!(all.fallen_silent(NOW + AWAY + 1).is_empty());
    }

    #[test]
    fn a_relay_may_send_so_much_in_a_second() {
        let mut all = sessions();
        let mut taken = 0;
        for counter in 0..u64::from(PER_SECOND) + 100 {
            taken += u32::from(take(&mut all, "north", &Envelope { counter, ..hello(1) }, NOW).is_ok());
        }
        assert_eq!(taken, PER_SECOND);
    }

    #[test]
    fn what_goes_to_a_relay_is_numbered_upwards_across_sessions() {
        let mut all = sessions();
        let bytes = key("north").seal(Direction::ToServer, &hello(1)).unwrap();
        let Ok(Taken::Hello { session, .. }) = all.take(&bytes, from(), NOW) else { panic!() };
        let counter = |session: &Session| {
            let (bytes, to) = session.seal(None, b"").unwrap();
            assert_eq!(to, from());
            key("north").open(Direction::ToRelay, &bytes).unwrap().counter
        };
        let (first, second) = (counter(&session), counter(&session));
        assert!(second > first);
        let Ok(Taken::Newcomer { session: anew }) =
            all.take(&key("north").seal(Direction::ToServer, &Envelope { run: 0, ..hello(1) }).unwrap(), from(), NOW)
        else {
            panic!()
        };
        assert!(counter(&anew) > first);
    }
}
