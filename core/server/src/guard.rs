//! Who tries what no phone does: names one MAC address after the other, guesses tokens and passwords, asks for whatever comes to mind.
//!
//! Each such thing is worth some points, counted by address and by the network around it, through all doors, and forgotten with time.
//! Who has many is made to wait; who has too many is locked out for a while. A phone that shows itself to be the one whose file it asks
//! for is served all the same, whoever else is behind its address: the caller sees to that.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use provost_plugin::MacAddr;
use serde::Serialize;

/// Addresses that are counted at a time. When they are all taken, the one that has the fewest points goes.
const SOURCES: usize = 65_536;
/// One point is forgotten in this time.
const FORGIVING: f64 = 10.0;
/// From so many points on each answer is late.
const SLOW: f64 = 10.0;
pub const DELAY: Duration = Duration::from_secs(1);
/// At so many points it is locked out.
const MOST: f64 = 30.0;
/// A network has so many times the patience that an address has.
const NETWORK: f64 = 8.0;
/// A lock-out that follows on another is twice as long, up to this.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// MAC addresses that are remembered of each source: naming the same one again costs nothing.
const NAMED: usize = 64;

/// What was noted further ahead of now than this is of a time that the clock has left again, and counts no more: somebody who was locked
/// out for minutes while it was a year ahead would else be so for that year.
const AHEAD: Duration = Duration::from_secs(60);

/// Something that somebody did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It named a phone that is in no file.
    Unknown(MacAddr),
    /// It asked for the file of a phone that it is not.
    Impostor(MacAddr),
    WrongToken,
    WrongPassword,
    WrongCertificate,
    /// It asked for something that does not exist; phones do that too.
    Missing,
}

impl Deed {
    fn points(self) -> f64 {
        match self {
            Deed::Unknown(_) | Deed::Impostor(_) => 1.0,
            Deed::WrongToken | Deed::WrongPassword | Deed::WrongCertificate => 2.0,
            Deed::Missing => 0.05,
        }
    }

    fn names(self) -> Option<MacAddr> {
        match self {
            Deed::Unknown(mac) | Deed::Impostor(mac) => Some(mac),
            _ => None,
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Deed::Unknown(_) => "it named phones that are in no file",
            Deed::Impostor(_) => "it asked for files of phones that it is not",
            Deed::WrongToken => "it showed wrong tokens",
            Deed::WrongPassword => "it sent wrong credentials",
            Deed::WrongCertificate => "it showed certificates of others",
            Deed::Missing => "it asked for many files that do not exist",
        })
    }
}

/// How a source is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Good,
    /// Its answers are late.
    Slow,
    /// For so long it gets nothing.
    Locked(Duration),
}

/// Somebody who is locked out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lockout {
    /// An address, or a network.
    pub source: IpNet,
    #[serde(serialize_with = "milliseconds")]
    pub until: SystemTime,
    /// What it did last.
    pub why: String,
    /// How often it was locked out.
    pub times: u32,
}

fn milliseconds<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(crate::milliseconds(*time))
}

#[derive(Debug, Default)]
pub struct Guard {
    sources: Mutex<HashMap<IpNet, Source>>,
}

#[derive(Debug)]
struct Source {
    points: f64,
    at: SystemTime,
    named: HashSet<MacAddr>,
    /// From when, and until when.
    locked: Option<(SystemTime, SystemTime)>,
    times: u32,
    why: Deed,
}

/// How the site wants it.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    pub lockout: Duration,
    /// Who is never counted.
    pub exempt: &'a [IpNet],
}

impl Guard {
    /// Counts a deed. The lock-outs that follow from it, for the log.
    pub fn note(&self, by: IpAddr, deed: Deed, rules: &Rules, now: SystemTime) -> Vec<Lockout> {
        if is_exempt(by, rules) {
            return Vec::new();
        }
        let mut sources = self.lock();
        let both = [(alone(by), MOST), (around(by), MOST * NETWORK)];
        both.into_iter().filter_map(|(source, most)| note(&mut sources, source, most, deed, rules, now)).collect()
    }

    pub fn standing(&self, of: IpAddr, rules: &Rules, now: SystemTime) -> Standing {
        if is_exempt(of, rules) {
            return Standing::Good;
        }
        let sources = self.lock();
        let until = [alone(of), around(of)].into_iter().filter_map(|source| sources.get(&source)?.locked_at(now)).max();
        if let Some(left) = until.and_then(|until| until.duration_since(now).ok()).filter(|left| !left.is_zero()) {
            return Standing::Locked(left);
        }
        match sources.get(&alone(of)) {
            Some(source) if source.points_at(now) >= SLOW => Standing::Slow,
            _ => Standing::Good,
        }
    }

    /// Everybody who is locked out now, the longest first.
    pub fn lockouts(&self, now: SystemTime) -> Vec<Lockout> {
        let locked = |(net, source): (&IpNet, &Source)| {
            let until = source.locked_at(now).filter(|until| *until > now)?;
            Some(Lockout { source: *net, until, why: source.why.to_string(), times: source.times })
        };
        let mut all: Vec<Lockout> = self.lock().iter().filter_map(locked).collect();
        all.sort_by_key(|lockout| (std::cmp::Reverse(lockout.until), lockout.source));
        all
    }

    /// Forgets what an address, or a network, has done. False where nothing is known of it.
    pub fn pardon(&self, source: IpNet) -> bool {
        self.lock().remove(&source).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpNet, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(
    sources: &mut HashMap<IpNet, Source>,
    of: IpNet,
    most: f64,
    deed: Deed,
    rules: &Rules,
    now: SystemTime,
) -> Option<Lockout> {
    if !sources.contains_key(&of) {
        make_room(sources, now);
    }
    let source = sources.entry(of).or_insert_with(|| Source {
        points: 0.0,
        at: now,
        named: HashSet::new(),
        locked: None,
        times: 0,
        why: deed,
    });
    source.points = source.points_at(now);
    source.at = now;
    if source.points == 0.0 {
        source.named.clear();
    }
    if let Some(mac) = deed.names() {
        if source.named.contains(&mac) {
            return None;
        }
        if source.named.len() < NAMED {
            source.named.insert(mac);
        }
    }
    source.points += deed.points();
    source.why = deed;
    if source.points < most || source.locked_at(now).is_some_and(|until| until > now) {
        return None;
    }
    let lockout = rules.lockout.saturating_mul(1 << source.times.min(10)).min(LONGEST).max(rules.lockout);
    source.times += 1;
    source.points = 0.0;
    source.named.clear();
    let until = now + lockout;
    source.locked = Some((now, until));
    Some(Lockout { source: of, until, why: deed.to_string(), times: source.times })
}

impl Source {
    fn points_at(&self, now: SystemTime) -> f64 {
        if self.at > now + AHEAD {
            return 0.0;
        }
        let passed = now.duration_since(self.at).unwrap_or_default().as_secs_f64();
        (self.points - passed / FORGIVING).max(0.0)
    }

    /// Until when it is, or was, locked out.
    fn locked_at(&self, now: SystemTime) -> Option<SystemTime> {
        self.locked.filter(|(since, _)| *since <= now + AHEAD).map(|(_, until)| until)
    }
}

/// Those that have nothing left against them go first, and then whoever has least.
fn make_room(sources: &mut HashMap<IpNet, Source>, now: SystemTime) {
    if sources.len() < SOURCES {
        return;
    }
    let is_over =
        |source: &Source| source.points_at(now) == 0.0 && source.locked_at(now).is_none_or(|until| until <= now);
    sources.retain(|_, source| !is_over(source));
    if sources.len() < SOURCES {
        return;
    }
    let mut points: Vec<f64> = sources.values().map(|source| source.points_at(now)).collect();
    let (_, middle, _) = points.select_nth_unstable_by(SOURCES / 2, f64::total_cmp);
    let middle = *middle;
    sources
        .retain(|_, source| source.locked_at(now).is_some_and(|until| until > now) || source.points_at(now) > middle);
    if sources.len() >= SOURCES {
        sources.clear();
    }
}

fn alone(address: IpAddr) -> IpNet {
    IpNet::from(address.to_canonical())
}

/// The network that one customer, or one person, has as a whole.
fn around(address: IpAddr) -> IpNet {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpNet::new(Ipv4Addr::new(a, b, c, 0).into(), 24).expect("24 bits are within 32")
        }
        IpAddr::V6(address) => {
            let bits = u128::from(address) >> 64 << 64;
            IpNet::new(Ipv6Addr::from(bits).into(), 64).expect("64 bits are within 128")
        }
    }
}

/// Nor is this machine itself, which is let through anyway (`trust`), and behind whose address there is everybody where a proxy is not
/// named as one.
fn is_exempt(address: IpAddr, rules: &Rules) -> bool {
    let address = address.to_canonical();
    rules.lockout.is_zero() || address.is_loopback() || rules.exempt.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { lockout: Duration::from_secs(900), exempt: &[] };

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn mac(number: u32) -> MacAddr {
        let [_, a, b, c] = number.to_be_bytes();
        MacAddr::new([2, 0, 0, a, b, c])
    }

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn who_names_one_phone_after_the_other_is_slowed_and_then_locked_out_for_longer_each_time() {
        let guard = Guard::default();
        let mut now = start();
        let mut named = 0;
        let mut scan = |now: SystemTime| {
            for count in 1.. {
                named += 1;
                if let [lockout] = &guard.note(address(1), Deed::Unknown(mac(named)), &RULES, now)[..] {
                    return (count, lockout.until.duration_since(now).unwrap().as_secs());
                }
                let standing = guard.standing(address(1), &RULES, now);
                assert_eq!(standing, if count < 10 { Standing::Good } else { Standing::Slow }, "{count}");
            }
            unreachable!()
        };
        assert_eq!(scan(now), (30, 900));
        assert_eq!(
            guard.standing(address(1), &RULES, now + Duration::from_secs(1)),
            Standing::Locked(Duration::from_secs(899))
        );
        assert_eq!(guard.standing(address(2), &RULES, now), Standing::Good, "its neighbour");
        now += Duration::from_secs(901);
        assert_eq!(guard.standing(address(1), &RULES, now), Standing::Good);
        assert_eq!(scan(now), (30, 1800));
        assert_eq!(guard.lockouts(now).len(), 1);
        assert!(guard.pardon(alone(address(1))) && guard.lockouts(now).is_empty());
    }

    #[test]
    fn a_phone_that_asks_the_same_again_and_again_is_no_scanner() {
        let guard = Guard::default();
        for second in 0..10_000 {
            let now = start() + Duration::from_secs(second);
            assert!(guard.note(address(1), Deed::Unknown(mac(1)), &RULES, now).is_empty());
            assert!(guard.note(address(1), Deed::Missing, &RULES, now).is_empty());
        }
        assert_eq!(guard.standing(address(1), &RULES, start() + Duration::from_secs(10_000)), Standing::Good);
        // A storm of them is one.
        let locked = (0..1000).any(|_| !guard.note(address(3), Deed::Missing, &RULES, start()).is_empty());
        assert!(locked);
    }

    #[test]
    fn a_network_that_scans_with_many_addresses_is_locked_out_as_a_whole() {
        let guard = Guard::default();
        let mut of_network = None;
        for number in 0..1000_u32 {
            let by = address((number % 200) as u8);
            for lockout in guard.note(by, Deed::Unknown(mac(number)), &RULES, start()) {
                of_network.get_or_insert((number, lockout.source.to_string()));
            }
        }
        assert_eq!(of_network, Some((239, "10.0.0.0/24".to_owned())));
        assert!(matches!(guard.standing(address(250), &RULES, start()), Standing::Locked(_)));
        assert_eq!(guard.standing([10, 0, 1, 1].into(), &RULES, start()), Standing::Good);
        let own = IpAddr::from([127, 0, 0, 1]);
        assert!((0..1000).all(|number| guard.note(own, Deed::Unknown(mac(number)), &RULES, start()).is_empty()));
        let exempt = [IpNet::from(address(250))];
        assert_eq!(guard.standing(address(250), &Rules { exempt: &exempt, ..RULES }, start()), Standing::Good);
    }

    #[test]
    fn what_was_noted_while_the_clock_was_ahead_counts_no_more_when_it_is_back() {
        let guard = Guard::default();
        let ahead = start() + Duration::from_secs(400 * 86_400);
        assert!((0..40).any(|number| !guard.note(address(1), Deed::Unknown(mac(number)), &RULES, ahead).is_empty()));
        (0..12).for_each(|number| drop(guard.note(address(2), Deed::Unknown(mac(number)), &RULES, ahead)));
        assert!(matches!(guard.standing(address(1), &RULES, ahead), Standing::Locked(_)));
        assert_eq!(guard.standing(address(2), &RULES, ahead), Standing::Slow);
        for last in [1, 2] {
            assert_eq!(guard.standing(address(last), &RULES, start()), Standing::Good);
        }
        assert_eq!(guard.lockouts(start()), []);
        // A step of the kind that clocks make every day changes nothing.
        assert!(matches!(guard.standing(address(1), &RULES, ahead - Duration::from_secs(2)), Standing::Locked(_)));
    }

    #[test]
    fn there_is_room_for_so_many_and_who_has_most_stays() {
        let guard = Guard::default();
        for _ in 0..5 {
            guard.note(address(1), Deed::WrongToken, &RULES, start());
        }
        for number in 0..70_000_u32 {
            guard.note(Ipv4Addr::from(0x0b00_0000 + number * 256).into(), Deed::WrongToken, &RULES, start());
        }
        assert!(guard.lock().len() <= SOURCES + 1);
        assert_eq!(guard.standing(address(1), &RULES, start()), Standing::Slow);
    }
}
