//! Everything that is tested from outside, and what those tests rest on.
//!
//! | target | what belongs there | needs |
//! |---|---|---|
//! | `e2e/` | the real `provost` and simulated phones on a network made for the test; one module for each thing that users see | root, `ip`, `nft`, `tshark` |
//! | `contract/` | what every plugin must keep to, with no word about any one of them: captures claimed, models rendered, hostile values held | – |
//! | `golden/` | rendered files as folders: `profiles.yaml` and the files that must come of it | `xmllint` |
//! | `cli/` | the program's commands, exit codes and words, on loopback or without a network | – |
//! | `browser/` | the device manager in Chromium, in front of phones on a network made for the test; pictures are kept in `browser/` of the target directory | root, `chromium`, `node`, `npm ci` there |
//! | `api/` | requests of every kind that the OpenAPI document allows or forbids, and whether it foretells the answers | root, schemathesis in `.venv` there |
//! | `repo/` | rules about the repository itself: arrows between packages, READMEs, names, shipped examples that load | `git`, `jsonschema` |
//! | `fuzz/` | what comes from outside, made up by a fuzzer: a package of its own, driven by `fuzz/run` | `g++` |
//! | `captures/`, `fixtures/` | data that several targets read | – |
//!
//! A target is one binary with a `main.rs` that lists its modules, each with a line that says what belongs in it; Cargo.toml names the
//! targets. A new case is a new file or folder. Nothing is skipped: a test that lacks what it needs fails and says what to install;
//! `tests/run` installs all of it.
//!
//! This library is the bench: [`Lan`] is a network of namespaces, [`Server`] the binary on it, [`Capture`] what went over the wire,
//! [`specs`] the vendors as the repository ships them, [`tools`] the programs of others that judge. Every thing that is made here is
//! taken away again when its value goes.

mod built;
mod capture;
mod lan;
mod namespace;
mod reordering;
mod server;
pub mod tools;
mod vendors;

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
};

pub use built::{Built, built};
pub use capture::Capture;
pub use lan::{Host, Interface, Lan, Seat};
pub use namespace::Namespace;
pub use reordering::Reordering;
pub use server::{Line, Plan, Server};
pub use vendors::{inventory, specs};

/// The root of the repository.
pub fn repository() -> PathBuf {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ lies in the repository").to_owned()
}

/// The next datagram. A receive with a time limit is not taken up again by the system after a signal (signal(7)), so it is here.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            ended => return ended,
        }
    }
}
