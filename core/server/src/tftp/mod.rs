//! The TFTP door: answers read requests on each of our addresses with what the desk finds.
//!
//! One engine per address, never the wildcard: an answer must come from the address that was asked, or strict phones drop it. The caller
//! says which addresses there are, and says it again when they change. What a name stands for, and what is logged about it, is the desk's.
//!
//! `engine` is the seam. Behind it are `own`, the engine of `provost-tftp`, and `portable`, which is async-tftp.

mod engine;
#[cfg(target_os = "linux")]
mod own;
mod portable;

use std::{
    collections::{BTreeMap, HashSet},
    fmt, io,
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use provost_tftp::packet::{Mode, Request};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use tokio::{runtime::Handle, sync::watch, time::timeout};
use tracing::{error, warn};

use self::engine::{Code, Denied, Engine, FileSource, Opening, Pace, Source, Started};
use crate::{
    chunks::FileChunks,
    request::{self, Asset, ConfigFile, ConfigRequest, Desk, Fetched, asked_name},
    slots::Slots,
};

/// Before an engine is started anew on a socket that failed.
const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// What speaks TFTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TftpEngine {
    /// Provost's own, made for many phones at once. Elsewhere than on Linux this is `portable`.
    #[default]
    Own,
    /// async-tftp. A transfer that a phone gave up is kept until it runs out; netascii knows no options.
    Portable,
}

impl TftpEngine {
    /// To be called within a tokio runtime.
    fn engine(self, port_per_transfer: bool) -> Box<dyn Engine> {
        match self {
            #[cfg(target_os = "linux")]
            TftpEngine::Own => Box::new(own::Own { port_per_transfer }),
            // It has no other way than a port for each.
            _ => Box::new(portable::Portable { runtime: Handle::current() }),
        }
    }
}

/// What the door, and one peer at it, may use.
#[derive(Clone, Debug)]
pub struct TftpLimits {
    /// Transfers under way at once, in all and over all addresses. Each takes a socket.
    pub transfers: usize,
    /// Transfers under way at once to one address. A site behind NAT is one address.
    pub transfers_per_peer: usize,
    /// How long an unacknowledged packet waits for its first repetition.
    pub resend_after: Duration,
    /// How long others may be kept waiting for one file to be made. It then still comes, but without its size. Of the portable engine
    /// only: with the other, nobody waits for another's file.
    pub fetch_budget: Duration,
    /// How long a file may take to be made at all.
    pub fetch_deadline: Duration,
    /// Asked of the kernel for each address; what a site's phones send in the instant that power returns has to fit.
    pub receive_buffer: usize,
}

impl Default for TftpLimits {
    fn default() -> TftpLimits {
        TftpLimits {
            transfers: 2048,
            transfers_per_peer: 256,
            resend_after: Duration::from_secs(1),
            fetch_budget: Duration::from_millis(20),
            fetch_deadline: Duration::from_secs(30),
            receive_buffer: 4 << 20,
        }
    }
}

/// An address that is being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub address: SocketAddr,
    /// Of [`TftpLimits::receive_buffer`], in the same bytes. With less than was asked for, a burst loses requests.
    pub rcvbuf_granted: usize,
    /// Without, netascii is served as octet.
    pub netascii: bool,
}

/// What [`Door::sync_addresses`] came to.
#[derive(Debug, Default)]
pub struct Synced {
    pub started: Vec<Bound>,
    pub stopped: Vec<IpAddr>,
    /// Not served; tried again at the next call.
    pub failed: Vec<(IpAddr, io::Error)>,
}

/// The addresses served. Dropping it stops them all, without waiting for it.
pub struct Door {
    source: Arc<dyn FileSource>,
    engine: Box<dyn Engine>,
    limits: TftpLimits,
    port: u16,
    serving: BTreeMap<IpAddr, Serving>,
}

struct Serving {
    started: Started,
    stop: watch::Sender<bool>,
}

impl Door {
    /// A door that does not listen anywhere yet. Port 0 takes a free one for each address. To be called within a tokio runtime.
    ///
    /// Without a port per transfer, all packets come from the one that was asked; of the own engine only.
    pub fn new<D: Desk>(
        desk: Arc<D>,
        engine: TftpEngine,
        port_per_transfer: bool,
        port: u16,
        limits: TftpLimits,
    ) -> Door {
        let slots = Slots::new(limits.transfers, limits.transfers_per_peer);
        let source = Arc::new(AtDesk { desk, runtime: Handle::current(), slots, deadline: limits.fetch_deadline });
        Door { source, engine: engine.engine(port_per_transfer), limits, port, serving: BTreeMap::new() }
    }

    /// Serves on one of our addresses. Already doing so is not an error. A link-local IPv6 address is refused by the system, for want of
    /// the interface it belongs to.
    pub fn serve_on(&mut self, address: IpAddr) -> io::Result<Bound> {
        if address.is_unspecified() || address.is_multicast() {
            let what = format!("TFTP is served on single addresses, not on {address}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        if let Some(serving) = self.serving.get(&address) {
            return Ok(serving.started.bound);
        }
        let pace = Pace {
            resend_after: self.limits.resend_after,
            fetch_budget: self.limits.fetch_budget,
            receive_buffer: self.limits.receive_buffer,
        };
        let (stop, stopped) = watch::channel(false);
        let started =
            self.engine.start(SocketAddr::new(address, self.port), Arc::clone(&self.source), pace, stopped)?;
        let bound = started.bound;
        self.serving.insert(address, Serving { started, stop });
        Ok(bound)
    }

    /// Stops serving on an address, and cuts off its transfers; whatever made the address go away has done so already. Returns when
    /// the address can be bound again; false if it was not served.
    pub async fn stop_on(&mut self, address: IpAddr) -> bool {
        let Some(serving) = self.serving.remove(&address) else { return false };
        serving.end().await;
        true
    }

    /// Serves on these addresses and on no others.
    pub async fn sync_addresses(&mut self, addresses: &[IpAddr]) -> Synced {
        let wanted: HashSet<_> = addresses.iter().collect();
        let mut synced = Synced::default();
        let unwanted: Vec<_> = self.serving.keys().filter(|address| !wanted.contains(address)).copied().collect();
        for address in unwanted {
            self.stop_on(address).await;
            synced.stopped.push(address);
        }
        for &address in addresses {
            if self.serving.contains_key(&address) {
                continue;
            }
            match self.serve_on(address) {
                Ok(bound) => synced.started.push(bound),
                Err(error) => synced.failed.push((address, error)),
            }
        }
        synced
    }

    /// What is being served now.
    pub fn bound(&self) -> impl Iterator<Item = Bound> + '_ {
        self.serving.values().map(|serving| serving.started.bound)
    }

    /// Stops everything and returns when it has stopped.
    pub async fn close(mut self) {
        self.sync_addresses(&[]).await;
    }
}

impl Serving {
    async fn end(self) {
        let _ = self.stop.send(true);
        for ended in self.started.ended {
            let _ = ended.await;
        }
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("serving", &self.bound().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

/// The desk as the engines see it.
struct AtDesk<D> {
    desk: Arc<D>,
    runtime: Handle,
    slots: Slots,
    deadline: Duration,
}

impl<D: Desk> FileSource for AtDesk<D> {
    fn open(&self, name: &str, peer: SocketAddr, local: SocketAddr) -> Result<Opening, Denied> {
        let name = asked_name(name).map_err(|reason| Denied::new(Code::NotFound, reason))?;
        let slot = self.slots.take(peer.ip()).map_err(|full| {
            if full.first {
                warn!(door = "tftp", %peer, by_peer = full.by_peer, "too many transfers, turning some away");
            }
            Denied::no_room()
        })?;
        let (path, proof) = (name.to_owned(), request::Proof::default());
        let request = ConfigRequest { door: request::Door::Tftp, path, user_agent: None, peer, local, proof };
        let (desk, deadline) = (Arc::clone(&self.desk), self.deadline);
        let mut fetch = Box::pin(async move {
            match timeout(deadline, desk.fetch(request)).await {
                Ok(fetched) => source(fetched),
                Err(_) => Err(Denied::failed("the file took too long to make")),
            }
        });
        // Most files are at hand without anything to wait for, and a task of their own would cost more than they do.
        let _context = self.runtime.enter();
        let first = AssertUnwindSafe(|| fetch.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        Ok(match catch_unwind(first) {
            Ok(Poll::Ready(fetched)) => Opening::at_hand(fetched, slot),
            Ok(Poll::Pending) => Opening::making(self.runtime.spawn(fetch), slot),
            Err(_) => Opening::at_hand(Err(Denied::broken()), slot),
        })
    }
}

/// What the door makes of one read request that was captured: it begins to send a file, or it sends an ERROR with this code and text.
/// Without a socket. `None` is a packet that no server answers.
pub async fn answer_to<D: Desk>(
    desk: Arc<D>,
    packet: &[u8],
    peer: SocketAddr,
    local: SocketAddr,
) -> Option<Result<(), (u16, String)>> {
    let Request { name, mode, .. } = Request::read(packet)?;
    let limits = TftpLimits::default();
    let slots = Slots::new(limits.transfers, limits.transfers_per_peer);
    let source = AtDesk { desk, runtime: Handle::current(), slots, deadline: limits.fetch_deadline };
    let opening = match std::str::from_utf8(name) {
        _ if mode == Mode::Mail => Err(Denied::new(Code::IllegalOperation, "mail is not served")),
        Ok(name) => source.open(name, peer, local),
        Err(_) => Err(Denied::new(Code::NotFound, "the name is not UTF-8")),
    };
    let content = match opening {
        Ok(opening) => opening.await.map(drop),
        Err(denied) => Err(denied),
    };
    Some(content.map_err(|denied| (denied.code as u16, denied.message)))
}

fn source(fetched: Fetched) -> Result<Source, Denied> {
    match fetched {
        Fetched::Found(ConfigFile { body, .. }) => Ok(Source::Whole(body)),
        Fetched::Asset(Asset { path, .. }) => match FileChunks::open(&path) {
            Ok((chunks, _)) => Ok(Source::File(chunks)),
            Err(error) => {
                error!(door = "tftp", path = %path.display(), error = &error as &dyn std::error::Error, "cannot open asset");
                Err(Denied::failed("the file cannot be read"))
            }
        },
        Fetched::Unknown { reason } => Err(Denied::new(Code::NotFound, &reason)),
        Fetched::Locked { .. } => {
            Err(Denied::new(Code::AccessViolation, "too much was asked in vain from this address"))
        }
        Fetched::Challenged { .. } => Err(Denied::new(Code::AccessViolation, "this takes HTTP, to log in")),
        Fetched::Refused { reason } => Err(Denied::new(Code::AccessViolation, &reason)),
        Fetched::Failed { public } => Err(Denied::failed(&public)),
    }
}
