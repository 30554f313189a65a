//! Phones beyond a router: a relay in their subnet hears them, and the server answers through it.
//!
//! `envelope` is what the two hand each other, `sessions` who may hand in what, `door` the server's socket, `agent` the relay itself. The
//! relay keeps no conversations: those are the exchange's, to which a phone beyond is one that is spoken to by another way.

pub mod agent;
pub(crate) mod door;
pub mod envelope;
pub mod sessions;

use std::{fs, io, net::SocketAddrV4, path::Path, sync::Arc, time::SystemTime};

use provost_plugin::MacAddr;
use tokio::net::UdpSocket;

use self::{
    envelope::{Key, Place, SECRET},
    sessions::Session,
};

/// Where the server hears relays, unless the settings say otherwise.
pub const PORT: u16 = 5077;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the relay's key {file}: {source}")]
    Unread { file: String, source: io::Error },
    #[error(
        "{file} holds no relay's key: that is {} to {} characters (`openssl rand -base64 32` makes one)",
        SECRET.start(),
        SECRET.end()
    )]
    NoKey { file: String },
}

/// The key that a file holds.
pub fn read_key(file: &Path) -> Result<Key, KeyError> {
    let name = || file.display().to_string();
    let text = fs::read(file).map_err(|source| KeyError::Unread { file: name(), source })?;
    Key::of(&text).ok_or_else(|| KeyError::NoKey { file: name() })
}

/// What is to be said of its rights, where others on this machine can read it.
pub fn readable(file: &Path) -> Option<String> {
    crate::readable::finding(file, "a relay's key").map(|finding| finding.to_string())
}

/// The way to one phone through the relay that heard it.
#[derive(Debug)]
pub struct Leg {
    session: Arc<Session>,
    socket: Arc<UdpSocket>,
    place: Place,
}

impl Leg {
    /// What the settings call the relay.
    pub fn relay(&self) -> &Arc<str> {
        &self.session.name
    }

    /// The phone's MAC address, as the relay's kernel knows it.
    pub fn mac(&self) -> Option<MacAddr> {
        self.place.mac
    }

    /// The relay in the phone's subnet.
    pub(super) fn link(&self) -> SocketAddrV4 {
        self.place.link
    }

    /// Whether both lead through the same run of the same relay on the same link.
    pub(super) fn is_same(&self, other: &Leg) -> bool {
        Arc::ptr_eq(&self.session, &other.session) && self.place.link == other.place.link
    }

    /// Whether it leads through the same relay on the same link, started anew meanwhile or not.
    pub(super) fn follows(&self, other: &Leg) -> bool {
        self.session.name == other.session.name && self.place.link.ip() == other.place.link.ip()
    }

    /// Has the relay send this to the phone, if that can be said at once.
    pub(super) fn try_send(&self, bytes: &[u8], to: SocketAddrV4) -> io::Result<()> {
        let place = Place { phone: to, mac: None, ..self.place };
        let (sealed, relay) = self.session.seal(Some(place), bytes).ok_or(io::ErrorKind::InvalidInput)?;
        self.socket.try_send_to(&sealed, relay.into()).map(drop)
    }
}

/// Seconds since 1970.
fn seconds() -> u64 {
    crate::milliseconds(SystemTime::now()) / 1000
}

/// A number that nobody guesses; never 0.
fn random() -> io::Result<u64> {
    getrandom::u64().map(|number| number.max(1)).map_err(io::Error::other)
}
