//! What comes from outside, made up by a fuzzer.
//!
//! A target is a function here that takes any bytes and panics where something is wrong that no input may bring about. `fuzz_targets/` holds
//! the same functions as programs for libFuzzer, `seeds/` what it begins with beside the captures and examples of the repository,
//! `findings/` what once made a target panic. `tests/replay.rs` puts all of these before the targets at each run of the tests.
//!
//! | target | made up | what is held against it |
//! |---|---|---|
//! | `datagram` | a datagram at the SIP door | what is answered reads back, with the headers that we meant and no others |
//! | `event` | the parameters of an Event header | the same, and who it is holds no control characters |
//! | `path` | the target of an HTTP request | HTTP comes back, and no phone's password to who did not name it |
//! | `user_agent` | the User-Agent of a request for a file that has no MAC in its name | the same |
//! | `rrq` | a read request with its options | options within their bounds, and no password to who did not name its phone |
//! | `import` | CSV, YAML, JSON or tar, as an inventory to import | an answer that is no server error |
//! | `form` | a multipart form of the page for imports | the same |
//! | `profiles` | a profile file | it loads or is refused, its devices render or say why, and a change of it is made or refused |
//! | `vendor` | a `vendor.yaml` | it loads or is refused, and then recognises, names and renders |
//! | `abi` | every answer of a hostile library, and its request to render | an error, or the file |
//! | `relay` | an envelope of a relay, with and without a key | nothing without one, nothing twice, and what is read is what is written |
//! | `phone` | any value in any setting of a phone, for all vendors | files that read back, with the settings of a harmless value |

mod abi;
mod bench;
mod doors;
mod inventory;
mod people;
mod phones;
mod relay;
mod scratch;
mod sip;
mod vendors;

#[path = "../../contract/readers.rs"]
#[allow(dead_code, reason = "its other users are the contract's tests")]
mod readers;

#[path = "../../contract/bench.rs"]
#[allow(dead_code, reason = "its other users are the contract's tests")]
mod models;

pub use abi::abi;
pub use doors::{path, rrq, user_agent};
pub use inventory::profiles;
pub use people::{form, import};
pub use phones::phone;
pub use relay::relay;
pub use sip::{datagram, event};
pub use vendors::vendor;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 12] = [
    ("datagram", datagram),
    ("event", event),
    ("path", path),
    ("user_agent", user_agent),
    ("rrq", rrq),
    ("import", import),
    ("form", form),
    ("profiles", profiles),
    ("vendor", vendor),
    ("abi", abi),
    ("relay", relay),
    ("phone", phone),
];
