//! Envelopes of a relay: from who has no key, and from who has one and means no good.

use std::net::SocketAddrV4;

use provost_server::pnp::relay::{
    envelope::{Direction, Key, key_of},
    sessions::{Known, Sessions},
};

const RUN: u64 = 1;
const NOW: u64 = 1_800_000_000;

pub fn relay(input: &[u8]) {
    let key = Key::of(b"a secret that the fuzzer does not have").expect("it is long enough");
    let from = SocketAddrV4::new([192, 0, 2, 7].into(), 5077);
    let known = Known { name: "north".into(), network: "10.2.0.0/16".parse().expect("a network"), key: key.clone() };
    let mut sessions = Sessions::new(RUN, vec![known]);
    assert!(sessions.take(input, from, NOW).is_err(), "nobody vouches for it");

    // The same as it would be with the key: its name in the place of whatever is there, and what vouches for it behind.
    let mut vouched = input.to_vec();
    if key_of(input).is_ok() {
        vouched[6..14].copy_from_slice(&key.id);
    }
    let tag = key.tag(&vouched);
    vouched.extend_from_slice(&tag);
    for direction in [Direction::ToServer, Direction::ToRelay] {
        if let Ok(envelope) = key.open(direction, &vouched) {
            assert!(envelope.place.is_some() != envelope.payload.is_empty());
            let again = key.seal(direction, &envelope).expect("it was as long");
            assert_eq!(key.open(direction, &again), Ok(envelope), "what was read is what is written");
        }
    }
    if sessions.take(&vouched, from, NOW).is_ok() {
        // It may be new to this run, and told so; nothing is heard twice.
        let is_heard = |sessions: &mut Sessions| match sessions.take(&vouched, from, NOW) {
            Ok(taken) => !matches!(taken, provost_server::pnp::relay::sessions::Taken::Newcomer { .. }),
            Err(_) => false,
        };
        assert!(!is_heard(&mut sessions), "it was taken twice");
    }
}
