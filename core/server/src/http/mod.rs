//! The HTTP door: accepts connections, plain and encrypted, asks the desk for what they name, and sends it.
//!
//! It knows HTTP and how long to be patient. With which certificate it encrypts, and whose it takes, is [`crate::tls`]'s. What a name stands for, who may have it and what is logged about it is the desk's.
//! The listeners and the stop signal come from the caller.

mod answer;
mod body;
mod forwarded;
mod patience;
mod secured;

use std::{
    convert::Infallible,
    io,
    io::Write,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use hyper::{HeaderMap, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::TokioIo,
    server::graceful::{GracefulShutdown, Watcher},
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};

pub use self::forwarded::{Behind, Proxies};
use self::{
    patience::{Patience, Patient, Phase},
    secured::Complaints,
};
use crate::{
    request::{Desk, Proof},
    slots::Slots,
    tls::{self, Tls},
};

/// A backlog of 5 serves a fifth of a thousand phones that power up together; the kernel cuts this to its own limit.
const BACKLOG: i32 = 4096;

/// A request head of a phone is under 1 KiB; hyper's own default would let each connection hold 400 KiB.
const LARGEST_HEAD: usize = 16 * 1024;

/// How long to leave accept() alone when the process or the system ran out of something. It is not cured by asking at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// It is said once in so long, however often a connection that ends makes room for one more meanwhile.
const ACCEPT_SILENCE: Duration = Duration::from_secs(60);

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 25\r\n\
    Retry-After: 5\r\n\
    Connection: close\r\n\r\n\
    too busy, try again soon\n";

/// Where the door is open, and whom it believes.
pub struct Listeners {
    pub plain: Option<StdListener>,
    /// For connections that are encrypted.
    pub secured: Option<StdListener>,
    pub tls: tls::Current,
    pub proxies: Proxies,
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners").field("plain", &self.plain).field("secured", &self.secured).finish_non_exhaustive()
    }
}

impl From<StdListener> for Listeners {
    fn from(plain: StdListener) -> Listeners {
        let nothing = Arc::new(Tls::default());
        let tls: tls::Current = Arc::new(move || Arc::clone(&nothing));
        Listeners { plain: Some(plain), secured: None, tls, proxies: Proxies::default() }
    }
}

/// What one door, and one peer at it, may use.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Connections open at once, in all.
    pub connections: usize,
    /// Connections open at once from one address. A site behind NAT is one address, so this is not the place to be tight.
    pub connections_per_peer: usize,
    /// From the first byte of a request (or from the accept) to the end of its head.
    pub header_timeout: Duration,
    /// From an answer to the first byte of the next request.
    pub idle_timeout: Duration,
    /// How long a peer may leave us unable to send a single byte.
    pub write_timeout: Duration,
    /// How long answers under way may still take once the door is told to stop.
    pub stop_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            connections: 4096,
            connections_per_peer: 512,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(5),
        }
    }
}

/// Binds the listener that [`serve`] wants. An IPv6 wildcard takes IPv4 as well.
pub fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart must not wait for the connections of the previous run to be forgotten.
    socket.set_reuse_address(true)?;
    // Set here and inherited: a call less for every connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves until `stop` becomes true (or its sender is gone), then lets answers under way finish for `limits.stop_timeout`.
pub async fn serve<D: Desk>(
    listeners: impl Into<Listeners>,
    desk: Arc<D>,
    limits: HttpLimits,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let Listeners { plain, secured, tls, proxies } = listeners.into();
    let (plain, secured) = (plain.map(tokio_listener).transpose()?, secured.map(tokio_listener).transpose()?);
    let slots = Slots::new(limits.connections, limits.connections_per_peer);
    let patience = Patience { header: limits.header_timeout, idle: limits.idle_timeout, write: limits.write_timeout };

    let door = Arc::new(Door { desk, http: protocol(), tls, proxies, complaints: Complaints::default() });
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut told: Option<Instant> = None;
    loop {
        let (accepted, secure) = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = accept(plain.as_ref()) => (accepted, false),
            accepted = accept(secured.as_ref()) => (accepted, true),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            // The peer was gone before we came to it; the next one may well be there.
            Err(error) if is_the_peers(&error) => continue,
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() >= ACCEPT_SILENCE) {
                    told = Some(Instant::now());
                    warn!(door = "http", error = &error as &dyn std::error::Error, "cannot accept connections for now");
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(local) = stream.local_addr() else { continue };
        let (peer, local) = (canonical(peer), canonical(local));
        // Behind a proxy there is a building.
        let slot =
            match if door.proxies.is_one(peer.ip()) { slots.take_for_many(peer.ip()) } else { slots.take(peer.ip()) } {
                Ok(slot) => slot,
                Err(full) => {
                    if full.first {
                        warn!(door = "http", %peer, by_peer = full.by_peer, "too many connections, turning some away");
                    }
                    // Who waits for a handshake could not read a sentence.
                    if !secure {
                        turn_away(stream);
                    }
                    continue;
                }
            };

        // Those that have ended are taken out here, and not as each of them ends: it would wake this task once more for each.
        while connections.try_join_next().is_some() {}
        let (io, phase) = Patient::new(stream, patience);
        let (door, watcher, mut stop) = (Arc::clone(&door), graceful.watcher(), stop.clone());
        let header_timeout = limits.header_timeout;
        // On the heap from the start: it has some kilobytes, and is moved half a dozen times on its way to a worker.
        connections.spawn(Box::pin(async move {
            let _slot = slot;
            if !secure {
                return door.converse(io, watcher, Ends { peer, local, phase, proof: Proof::default() }).await;
            }
            let tls = (door.tls)();
            let shaken = tokio::select! {
                // There is no request yet that could be answered.
                _ = stop.wait_for(|stop| *stop) => return,
                shaken = secured::handshake(io, &tls, header_timeout, peer, &door.complaints) => shaken,
            };
            if let Some((io, proof)) = shaken {
                door.converse(io, watcher, Ends { peer, local, phase, proof }).await;
            }
        }));
    }

    // Closed before the wait, so that a successor can take the address and phones are refused at once rather than left hanging.
    drop((plain, secured));
    if timeout(limits.stop_timeout, graceful.shutdown()).await.is_err() {
        debug!(door = "http", "cut off the answers that were still under way");
    }
    connections.shutdown().await;
    Ok(())
}

/// What all connections share.
struct Door<D> {
    desk: Arc<D>,
    http: http1::Builder,
    tls: tls::Current,
    proxies: Proxies,
    complaints: Complaints,
}

/// The two ends of a connection, and what the far one has shown.
struct Ends {
    peer: SocketAddr,
    local: SocketAddr,
    phase: Phase,
    proof: Proof,
}

impl<D: Desk> Door<D> {
    /// Answers one request after the other.
    async fn converse<S>(self: Arc<Door<D>>, io: S, watcher: Watcher, ends: Ends)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Ends { peer, local, phase, proof } = ends;
        let door = Arc::clone(&self);
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let (door, served) = (Arc::clone(&door), phase.request_begun());
            let (peer, proof) = door.asker(request.headers(), peer, &proof);
            async move { Ok::<_, Infallible>(answer::answer(&*door.desk, request, peer, local, proof, served).await) }
        });
        let connection = watcher.watch(self.http.serve_connection(TokioIo::new(io), service));
        if let Err(error) = connection.await {
            debug!(door = "http", %peer, error = &error as &dyn std::error::Error, "connection ended badly");
        }
    }

    /// Who asks: the peer, or whom it passes on, if it is a proxy that may.
    fn asker(&self, headers: &HeaderMap, peer: SocketAddr, proof: &Proof) -> (SocketAddr, Proof) {
        let Some(behind) = self.proxies.behind(headers, peer) else { return (peer, proof.clone()) };
        let client = behind.client;
        let certificate = behind.certificate.and_then(|certificate| match certificate {
            Ok(certificate) => secured::shown(&[certificate], &(self.tls)(), client, &self.complaints),
            Err(why) => {
                self.complaints.tell(client, "a client's certificate cannot be read", why);
                None
            }
        });
        let proof = Proof { encrypted: behind.encrypted, certificate, via: Some(peer.ip()), ..Proof::default() };
        (client, proof)
    }
}

fn tokio_listener(listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// What the door sends back to one request that was captured, head first; the body may be cut short. Without a socket.
pub async fn answer_to<D: Desk>(
    desk: Arc<D>,
    request: &[u8],
    peer: SocketAddr,
    local: SocketAddr,
) -> io::Result<Vec<u8>> {
    let (mut client, server) = tokio::io::duplex(LARGEST_HEAD);
    let phase = Phase::new();
    let service = service_fn(move |request| {
        let (desk, served) = (Arc::clone(&desk), phase.request_begun());
        async move { Ok::<_, Infallible>(answer::answer(&*desk, request, peer, local, Proof::default(), served).await) }
    });
    let serving = protocol().serve_connection(TokioIo::new(server), service);
    let asking = async move {
        client.write_all(request).await?;
        client.shutdown().await?;
        let mut answer = Vec::new();
        client.take(LARGEST_HEAD as u64).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    // How the connection ends says nothing that the answer does not.
    let (_, answer) = tokio::join!(serving, asking);
    answer
}

fn protocol() -> http1::Builder {
    let mut http = http1::Builder::new();
    // It is given no timer: how long a peer may take is decided below it.
    http.max_buf_size(LARGEST_HEAD)
        // Small clients close their sending side once they have asked.
        .half_close(true)
        // Names are case-insensitive, and there are phones that do not know it.
        .title_case_headers(true);
    http
}

/// A sentence to whom we cannot serve, if the socket takes it at once. Waiting would cost what there is too little of.
fn turn_away(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(BUSY);
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
}

fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A dual-stack listener names its IPv4 peers `::ffff:10.0.0.1`; nobody else does.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_busy_answer_has_the_length_it_claims() {
        let text = std::str::from_utf8(super::BUSY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{text}");
    }
}
