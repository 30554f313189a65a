//! The envelope in which a relay and the server hand each other what phones say and hear. Bytes in, values out.
//!
//! Everything in it is vouched for by a key that both have (HMAC-SHA256), and nothing is hidden: what phones say to the group is heard by
//! everybody there anyway. What is laid down here:
//!
//! ```text
//! magic 4 | version 1 | direction 1 | key 8 | session 8 | run 8 | counter 8 | time 8
//! phone 4+2 | relay on the phone's link 4+2 | its prefix 1 | MAC known 1 | MAC 6 | length 2 | payload | tag 32
//! ```

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use hmac::{Hmac, Mac};
use provost_plugin::MacAddr;
use sha2::Sha256;

/// Longest payload: what is longer is no SIP of a phone's.
pub const PAYLOAD: usize = provost_sip::MAX_DATAGRAM;
/// How far the clocks of a relay and the server may differ.
pub const CLOCKS: Duration = Duration::from_secs(60);
/// Envelopes that may overtake each other.
pub const WINDOW: u64 = 1024;
/// Shortest and longest secret, in bytes.
pub const SECRET: std::ops::RangeInclusive<usize> = 32..=4096;

const MAGIC: [u8; 4] = *b"PvRl";
const VERSION: u8 = 1;
const HEAD: usize = 68;
const TAG: usize = 32;
/// Longest envelope.
pub const LONGEST: usize = HEAD + PAYLOAD + TAG;

/// A secret that a relay and the server share.
#[derive(Clone)]
pub struct Key {
    /// By which the server finds it; says nothing of the secret.
    pub id: [u8; 8],
    seal: Hmac<Sha256>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(•••)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToRelay,
}

impl Direction {
    fn byte(self) -> u8 {
        match self {
            Direction::ToServer => 1,
            Direction::ToRelay => 2,
        }
    }
}

/// Where a phone is, as its relay sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub phone: SocketAddrV4,
    /// The relay in the phone's subnet: from there the phone is spoken to, and there it answers.
    pub link: SocketAddrV4,
    /// How long that subnet's prefix is.
    pub prefix: u8,
    /// The phone's MAC address as the relay's kernel knows it.
    pub mac: Option<MacAddr>,
}

/// One envelope. Without a place and a payload it says that its sender is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// One run of a relay.
    pub session: u64,
    /// One run of the server, as far as the sender knows it; else 0. What was sent to a run before is good for nothing.
    pub run: u64,
    /// Larger with each envelope of one sender.
    pub counter: u64,
    /// Seconds since 1970.
    pub time: u64,
    pub place: Option<Place>,
    pub payload: &'a [u8],
}

/// Why an envelope is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    #[error("it is no envelope of a relay")]
    Foreign,
    #[error("it is of version {0} of the relays' language, and only version {VERSION} is spoken here")]
    Version(u8),
    #[error("its key is not the one")]
    WrongKey,
    #[error("it was changed on its way, or made up")]
    Forged,
}

/// Whose key an envelope names; to be believed once it was opened.
pub fn key_of(bytes: &[u8]) -> Result<[u8; 8], NotOpened> {
    let mut reader = Reader(bytes);
    if reader.take() != Some(MAGIC) {
        return Err(NotOpened::Foreign);
    }
    match reader.take() {
        Some([VERSION]) => {}
        Some([version]) => return Err(NotOpened::Version(version)),
        None => return Err(NotOpened::Foreign),
    }
    let _direction: Option<[u8; 1]> = reader.take();
    reader.take().ok_or(NotOpened::Foreign)
}

impl Key {
    /// Of the text of a key file. None: it is too short to be a secret, or too long.
    pub fn of(text: &[u8]) -> Option<Key> {
        let secret = text.trim_ascii();
        if !SECRET.contains(&secret.len()) {
            return None;
        }
        let seal = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        let name = seal.clone().chain_update(b"the name of this key").finalize().into_bytes();
        let mut id = [0; 8];
        id.copy_from_slice(&name[..8]);
        Some(Key { id, seal })
    }

    /// None: the payload is too long.
    pub fn seal(&self, direction: Direction, envelope: &Envelope<'_>) -> Option<Vec<u8>> {
        let Envelope { session, run, counter, time, place, payload } = envelope;
        let length = u16::try_from(payload.len()).ok().filter(|_| payload.len() <= PAYLOAD)?;
        let mut bytes = Vec::with_capacity(HEAD + payload.len() + TAG);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, direction.byte()]);
        bytes.extend_from_slice(&self.id);
        for number in [session, run, counter, time] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let place = place.unwrap_or(Place { phone: nowhere, link: nowhere, prefix: 0, mac: None });
        for address in [place.phone, place.link] {
            bytes.extend_from_slice(&address.ip().octets());
            bytes.extend_from_slice(&address.port().to_be_bytes());
        }
        bytes.extend_from_slice(&[place.prefix, u8::from(place.mac.is_some())]);
        bytes.extend_from_slice(&place.mac.map_or([0; 6], |mac| mac.octets()));
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(payload);
        let tag = self.tag(&bytes);
        bytes.extend_from_slice(&tag);
        Some(bytes)
    }

    /// What vouches for these bytes.
    pub fn tag(&self, bytes: &[u8]) -> [u8; TAG] {
        self.seal.clone().chain_update(bytes).finalize().into_bytes().into()
    }

    pub fn open<'a>(&self, direction: Direction, bytes: &'a [u8]) -> Result<Envelope<'a>, NotOpened> {
        if key_of(bytes)? != self.id {
            return Err(NotOpened::WrongKey);
        }
        let cut = bytes.len().checked_sub(TAG).filter(|cut| (HEAD..=HEAD + PAYLOAD).contains(cut));
        let (sealed, tag) = bytes.split_at(cut.ok_or(NotOpened::Foreign)?);
        // Compared in a time that does not tell how far they are.
        self.seal.clone().chain_update(sealed).verify_slice(tag).map_err(|_| NotOpened::Forged)?;
        read(direction, sealed).ok_or(NotOpened::Foreign)
    }
}

/// What was sealed; none where a sender seals what means nothing, or what was meant for the other side.
fn read(direction: Direction, sealed: &[u8]) -> Option<Envelope<'_>> {
    let mut reader = Reader(sealed);
    let _magic: [u8; 4] = reader.take()?;
    let [_version, stated] = reader.take()?;
    let _key: [u8; 8] = reader.take()?;
    let [session, run, counter, time] = [reader.number()?, reader.number()?, reader.number()?, reader.number()?];
    let (phone, link) = (reader.address()?, reader.address()?);
    let [prefix, has_mac] = reader.take()?;
    let mac: [u8; 6] = reader.take()?;
    let length = u16::from_be_bytes(reader.take()?);
    let payload = reader.0;
    if stated != direction.byte() || payload.len() != usize::from(length) || prefix > 32 || has_mac > 1 {
        return None;
    }
    let place = Place { phone, link, prefix, mac: (has_mac == 1).then(|| MacAddr::new(mac)) };
    let place = (!phone.ip().is_unspecified()).then_some(place);
    // Something is said by or to a phone, or nothing at all.
    (place.is_some() != payload.is_empty()).then_some(Envelope { session, run, counter, time, place, payload })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn address(&mut self) -> Option<SocketAddrV4> {
        let address: [u8; 4] = self.take()?;
        Some(SocketAddrV4::new(address.into(), u16::from_be_bytes(self.take()?)))
    }
}

impl Place {
    /// Whether the phone is a host of the relay's own link, and not the relay itself.
    pub fn is_on_link(&self) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        let (phone, link) = (u32::from(*self.phone.ip()), u32::from(*self.link.ip()));
        let is_host = self.prefix >= 31 || ![0, !mask].contains(&(phone & !mask));
        phone & mask == link & mask && phone != link && is_host && !self.phone.ip().is_loopback()
    }
}

/// Whether two clocks, in seconds since 1970, are near enough; else by how much the first is ahead of the second, or behind it.
pub fn clocks(theirs: u64, ours: u64) -> Result<(), i128> {
    let ahead = i128::from(theirs) - i128::from(ours);
    if ahead.unsigned_abs() <= u128::from(CLOCKS.as_secs()) { Ok(()) } else { Err(ahead) }
}

/// Which counters have been seen of the last [`WINDOW`].
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// One more than the highest; 0 where there was none.
    next: u64,
    seen: [u64; (WINDOW / 64) as usize],
}

impl Window {
    /// Whether this counter is new; from now on it is not.
    pub fn take(&mut self, counter: u64) -> bool {
        // One that nothing could follow is nobody's.
        if counter == u64::MAX || counter.saturating_add(WINDOW) < self.next {
            return false;
        }
        if counter >= self.next {
            if counter - self.next >= WINDOW {
                self.seen = Default::default();
            } else {
                (self.next..counter).for_each(|skipped| self.mark(skipped, false));
            }
            self.next = counter + 1;
        } else if self.seen[Self::word(counter)] & Self::bit(counter) != 0 {
            return false;
        }
        self.mark(counter, true);
        true
    }

    fn word(counter: u64) -> usize {
        (counter % WINDOW / 64) as usize
    }

    fn bit(counter: u64) -> u64 {
        1 << (counter % 64)
    }

    fn mark(&mut self, counter: u64, seen: bool) {
        let word = &mut self.seen[Self::word(counter)];
        if seen { *word |= Self::bit(counter) } else { *word &= !Self::bit(counter) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn key() -> Key {
        Key::of(b" 0123456789abcdef0123456789abcdef\n").unwrap()
    }

    fn envelope(payload: &[u8]) -> Envelope<'_> {
        let place = Place {
            phone: "10.2.1.7:5060".parse().unwrap(),
            link: "10.2.0.1:40000".parse().unwrap(),
            prefix: 16,
            mac: Some(MacAddr::new([0, 4, 0x13, 1, 2, 3])),
        };
        Envelope { session: 7, run: 8, counter: 9, time: 1_800_000_000, place: Some(place), payload }
    }

    #[test]
    fn what_was_sealed_is_read_as_it_was() {
        for direction in [Direction::ToServer, Direction::ToRelay] {
            let longest = vec![b'x'; PAYLOAD];
            let mut all = vec![envelope(b"SUBSCRIBE"), envelope(&longest)];
            all.push(Envelope { place: None, payload: b"", ..envelope(b"") });
            let unknown = Place { mac: None, ..envelope(b"").place.unwrap() };
            all.push(Envelope { place: Some(unknown), ..envelope(b"x") });
            for envelope in all {
                let bytes = key().seal(direction, &envelope).unwrap();
                assert!(bytes.len() <= LONGEST);
                assert_eq!(key().open(direction, &bytes), Ok(envelope));
            }
        }
        assert_eq!(key().seal(Direction::ToServer, &envelope(&vec![0; PAYLOAD + 1])), None);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let bytes = key().seal(Direction::ToServer, &envelope(b"SUBSCRIBE sip:x SIP/2.0")).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(key().open(Direction::ToServer, &flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(key().open(Direction::ToServer, &bytes[..length]).is_err(), "{length} bytes");
        }
        let longer = [bytes.as_slice(), b"\0"].concat();
        assert!(key().open(Direction::ToServer, &longer).is_err());
    }

    #[test]
    fn another_key_and_the_other_direction_are_refused() {
        let bytes = key().seal(Direction::ToServer, &envelope(b"x")).unwrap();
        assert_eq!(key().open(Direction::ToRelay, &bytes), Err(NotOpened::Foreign));
        let other = Key::of(b"another secret of thirty-two bytes").unwrap();
        assert_eq!(other.open(Direction::ToServer, &bytes), Err(NotOpened::WrongKey));
        let mut renamed = bytes.clone();
        renamed[6..14].copy_from_slice(&other.id);
        assert_eq!(other.open(Direction::ToServer, &renamed), Err(NotOpened::Forged));
        assert_eq!(key_of(b"SUBSCRIBE sip:x SIP/2.0"), Err(NotOpened::Foreign));
        assert_eq!(key_of(b"PvRl\x02"), Err(NotOpened::Version(2)));
        assert!(Key::of(b"short").is_none() && Key::of(&[b'x'; 5000]).is_none());
        assert_eq!(format!("{:?}", key()), "Key(•••)");
    }

    #[test]
    fn what_says_something_to_nobody_or_nothing_to_somebody_is_refused() {
        let nobody = Envelope { place: None, ..envelope(b"x") };
        let nothing = envelope(b"");
        for senseless in [nobody, nothing] {
            let bytes = key().seal(Direction::ToServer, &senseless).unwrap();
            assert_eq!(key().open(Direction::ToServer, &bytes), Err(NotOpened::Foreign));
        }
    }

    #[test]
    fn each_counter_is_good_once_within_the_window() {
        let mut window = Window::default();
        assert!(window.take(0) && !window.take(0));
        assert!(window.take(5) && window.take(3) && !window.take(5) && !window.take(3) && window.take(4));
        assert!(window.take(2000) && !window.take(2000 - WINDOW - 1), "too old to be known");
        assert!(window.take(2001 - WINDOW) && !window.take(2001 - WINDOW));
        assert!(!window.take(u64::MAX));
        assert!(window.take(u64::MAX - 1) && !window.take(2001));
    }

    #[test]
    fn the_window_agrees_with_a_set_that_remembers_everything() {
        let (mut window, mut seen, mut highest, mut random) = (Window::default(), HashSet::new(), 0u64, 1u64);
        for _ in 0..100_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let counter = (highest + (random >> 33) % 1500).saturating_sub(1200);
            let is_new = counter + WINDOW > highest && !seen.contains(&counter);
            // At the window's edge it may be refused or known for sure; never taken twice.
            if counter + WINDOW > highest {
                assert_eq!(window.take(counter), is_new, "{counter} after {highest}");
            } else {
                assert!(!window.take(counter) || !seen.contains(&counter));
            }
            seen.insert(counter);
            highest = highest.max(counter);
        }
    }

    #[test]
    fn clocks_may_differ_by_a_minute() {
        assert_eq!(clocks(1000, 1060), Ok(()));
        assert_eq!(clocks(1000, 1061), Err(-61));
        assert_eq!(clocks(1061, 1000), Err(61));
        assert_eq!(clocks(u64::MAX, 0), Err(i128::from(u64::MAX)));
    }

    #[test]
    fn a_phone_is_on_its_relays_own_link() {
        let place = |phone: &str, prefix| Place {
            phone: SocketAddrV4::new(phone.parse().unwrap(), 5060),
            prefix,
            ..envelope(b"x").place.unwrap()
        };
        assert!(place("10.2.1.7", 16).is_on_link());
        for (phone, prefix) in
            [("10.3.1.7", 16), ("10.2.1.7", 24), ("10.2.0.1", 16), ("10.2.255.255", 16), ("10.2.0.0", 16)]
        {
            assert!(!place(phone, prefix).is_on_link(), "{phone}/{prefix}");
        }
        assert!(!place("10.2.0.2", 32).is_on_link());
        assert!(place("192.0.2.1", 0).is_on_link(), "a prefix of nothing is everywhere; the key's network counts then");
    }
}
