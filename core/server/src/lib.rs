//! The doors (PnP, HTTP, TFTP) and the desk behind them.
//!
//! `pnp`, [`http`] and [`tftp`] turn bytes into requests; [`dispatch`] answers them from a snapshot of profiles and plugins;
//! [`reload`] replaces that snapshot when something on disk changed; [`run`] puts it all together. [`golden`] and [`replay`] ask the same
//! questions for tests.

mod assets;
pub mod authority;
pub mod change;
pub mod check;
mod chunks;
pub mod dispatch;
pub mod edit;
pub mod enrol;
pub mod explain;
mod generations;
pub mod golden;
pub mod guard;
pub mod http;
pub mod limits;
pub mod login;
pub mod made;
mod memo;
pub mod neighbours;
pub mod network;
pub mod pnp;
pub mod progress;
mod quiet;
mod readable;
mod ready;
pub mod reload;
pub mod replay;
pub mod request;
pub mod rights;
pub mod rollout;
pub mod rtnetlink;
pub mod run;
pub mod settings;
mod slots;
mod socket;
pub mod tftp;
pub mod tls;
pub mod tokens;
pub mod trust;
pub mod versions;
pub mod world;

/// Whether two secrets are the same, in a time that does not tell how far they are.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one.bytes().zip(other.bytes()).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
}

/// Since 1970: how times are told to programs and kept in files.
pub fn milliseconds(time: std::time::SystemTime) -> u64 {
    time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
