//! The server's socket for relays: opens what they hand in, and puts what their phones said before the exchange.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
};

use super::{
    KeyError, Leg,
    envelope::LONGEST,
    random, read_key, seconds,
    sessions::{Known, Refused, Sessions, Taken},
};
use crate::{
    pnp::{
        exchange::Counters,
        listener::{Came, Datagram},
    },
    run::stopped,
    settings::RelayFile,
    socket::set_receive_buffer,
};

/// How often one thing is told of one address.
const TELL: Duration = Duration::from_secs(60);
/// Things told of addresses that are remembered.
const REMEMBERED: usize = 64;
const RECEIVE_BUFFER: usize = 4 << 20;

/// What has to be opened, and read, while the process may still do everything.
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) socket: std::net::UdpSocket,
    pub(crate) known: Vec<Known>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DoorError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("pnp.relay.keys {one} and {other} hold the same key, so nobody could tell the two relays apart")]
    Same { one: Arc<str>, other: Arc<str> },
    #[error("cannot bind UDP port {port} (pnp.relay.port): {source}. {owner}")]
    Bind { port: u16, source: io::Error, owner: String },
}

/// The keys that the settings name.
pub(crate) fn known(settings: &RelayFile) -> Result<Vec<Known>, DoorError> {
    let mut all: Vec<Known> = Vec::new();
    for written in &settings.keys {
        let key = read_key(&written.file)?;
        let name = Arc::from(written.name.as_str());
        if let Some(same) = all.iter().find(|known| known.key.id == key.id) {
            return Err(DoorError::Same { one: Arc::clone(&same.name), other: name });
        }
        all.push(Known { name, network: written.network, key });
    }
    Ok(all)
}

/// None where no relay has a key.
pub(crate) fn open(settings: &RelayFile) -> Option<Result<Early, DoorError>> {
    let open = || {
        let known = known(settings)?;
        let port = settings.port;
        let bound = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).and_then(|socket| {
            socket.set_nonblocking(true)?;
            set_receive_buffer(&socket, RECEIVE_BUFFER)?;
            Ok(socket)
        });
        let socket = bound.map_err(|source| {
            let taken = source.kind() == io::ErrorKind::AddrInUse;
            let owner = if taken { crate::limits::udp_owner(port) } else { String::new() };
            DoorError::Bind { port, source, owner }
        })?;
        Ok(Early { socket, known })
    };
    (!settings.keys.is_empty()).then(open)
}

/// Hears relays until told to stop.
pub(crate) async fn serve(
    early: Early,
    heard: mpsc::Sender<Datagram>,
    dropped: Arc<AtomicU64>,
    counters: Arc<Counters>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let socket = Arc::new(UdpSocket::from_std(early.socket)?);
    let mut sessions = Sessions::new(random()?, early.known);
    let mut told = Told::default();
    let mut buffer = vec![0; LONGEST + 1];
    let mut look = tokio::time::interval(Duration::from_secs(10));
    loop {
        let (length, from) = tokio::select! {
            () = stopped(&mut stop) => return Ok(()),
            _ = look.tick() => {
                for relay in sessions.fallen_silent(seconds()) {
                    tracing::warn!(%relay, "a relay has fallen silent; phones beyond it are not heard");
                }
                continue;
            }
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, SocketAddr::V4(from))) => (length, from),
                // ICMP errors of earlier packets surface here.
                Ok(_) | Err(_) => continue,
            },
        };
        match sessions.take(&buffer[..length], from, seconds()) {
            Ok(Taken::Hello { session, is_new }) => {
                tell_new(is_new, &session.name, from);
                answer(&socket, &session);
            }
            Ok(Taken::Newcomer { session }) => answer(&socket, &session),
            Ok(Taken::Said { session, place, payload, is_new }) => {
                tell_new(is_new, &session.name, from);
                let (bytes, phone) = (payload.to_vec(), place.phone);
                let leg = Arc::new(Leg { session, socket: Arc::clone(&socket), place });
                if heard.try_send(Datagram { bytes, from: phone, came: Came::Through(leg) }).is_err() {
                    dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(refused) => {
                counters.unwanted.fetch_add(1, Ordering::Relaxed);
                told.tell(from, &refused);
            }
        }
    }
}

fn tell_new(is_new: bool, relay: &Arc<str>, peer: SocketAddrV4) {
    if is_new {
        tracing::info!(%relay, %peer, "a relay speaks");
    }
}

/// Tells a relay that the server is there, and which run of it.
fn answer(socket: &UdpSocket, session: &super::Session) {
    if let Some((bytes, to)) = session.seal(None, b"") {
        // Lost is lost: the relay asks again.
        let _ = socket.try_send_to(&bytes, to.into());
    }
}

/// What was told of whom, so that a flood does not flood the log.
#[derive(Debug, Default)]
struct Told(HashMap<(IpAddr, &'static str), (Instant, u64)>);

impl Told {
    fn tell(&mut self, from: SocketAddrV4, refused: &Refused) {
        let now = Instant::now();
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, (at, _)| now.duration_since(*at) < TELL);
            if self.0.len() >= REMEMBERED {
                return;
            }
        }
        let what = (IpAddr::V4(*from.ip()), refused.kind());
        let is_first = !self.0.contains_key(&what);
        let (at, times) = self.0.entry(what).or_insert((now, 0));
        *times += 1;
        if is_first || now.duration_since(*at) >= TELL {
            tracing::warn!(peer = %from, times = *times, reason = %refused, "what a relay sent is not taken");
            (*at, *times) = (now, 0);
        }
    }
}
