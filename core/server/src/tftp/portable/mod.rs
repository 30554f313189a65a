//! The portable engine: async-tftp, with its sharp edges covered.
//!
//! What async-tftp does, it does well: options, windows, block roll-over. What has to be known about it:
//! * Its handler runs under one lock, so a handler that waits delays every other phone. Ours waits a moment for the file, because only then
//!   can a missing one be told as such before the transfer begins and a size be given; what takes longer comes through the reader.
//! * A panicking handler would leave its peer marked as busy for ever, so nothing in here can panic.
//! * It listens to a client's `timeout` option up to 255 s, and keeps a dead transfer for six times that. So the option is left out
//!   of the acknowledgement, as RFC 2347 allows; the phones that send it do without.
//! * It brings its own executor, all of it in one future: a thread of ours per address drives that, and dropping the future ends it.
//! * It knows neither netascii nor, yet, a client's ERROR packets: a transfer that the client gave up runs out on its own. So `netascii`
//!   serves what it cannot, and `steer` shares requests out between the two.
//! * It repeats a packet at an even pace, so that pace is slower than the first wait of an engine whose waits grow.

mod netascii;
mod steer;

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};

use async_io::Timer;
use async_tftp::{
    packet,
    server::{Handler, TftpServerBuilder},
};
use bytes::{Buf, Bytes};
use futures_lite::{AsyncRead, future};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};
use tracing::{debug, warn};

use super::{
    Bound, RESTART_PAUSE,
    engine::{Code, Content, Denied, Engine, FileSource, Opening, Pace, Started},
};

/// After the first send of each block.
const RESENDS: u32 = 5;
/// More would turn one spoofed packet into a flood, and gains nothing on a LAN.
const LARGEST_WINDOW: u16 = 16;
/// What fits an Ethernet frame with room for a tunnel's header: phones do not all reassemble fragments.
const LARGEST_BLOCK: u16 = 1428;

#[derive(Debug)]
pub(super) struct Portable {
    /// For netascii.
    pub(super) runtime: Handle,
}

impl Engine for Portable {
    fn start(
        &self,
        address: SocketAddr,
        source: Arc<dyn FileSource>,
        pace: Pace,
        stop: watch::Receiver<bool>,
    ) -> io::Result<Started> {
        let sockets = steer::bind(address)?;
        let mut bound = Bound {
            address: sockets.main.local_addr()?,
            rcvbuf_granted: crate::socket::set_receive_buffer(&sockets.main, pace.receive_buffer)?,
            netascii: false,
        };
        let mut ended = Vec::new();
        let netascii = sockets
            .text
            .and_then(|socket| netascii::start(&self.runtime, socket, Arc::clone(&source), pace, stop.clone()));
        match netascii {
            Ok(serving) => {
                bound.netascii = true;
                ended.push(serving);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(door = "tftp", address = %bound.address, error, "cannot tell netascii requests apart, serving them as octet");
            }
        }
        ended.push(octet(sockets.main, source, pace, stop)?);
        Ok(Started { bound, ended })
    }
}

fn octet(
    socket: UdpSocket,
    source: Arc<dyn FileSource>,
    pace: Pace,
    mut stop: watch::Receiver<bool>,
) -> io::Result<oneshot::Receiver<()>> {
    let local = socket.local_addr()?;
    let (end, ended) = oneshot::channel();
    thread::Builder::new().name(format!("tftp {}", local.ip())).spawn(move || {
        loop {
            let round = catch_unwind(AssertUnwindSafe(|| {
                async_io::block_on(future::or(
                    async {
                        let _ = stop.wait_for(|stop| *stop).await;
                        None
                    },
                    async { Some(serve(&socket, local, &source, pace).await) },
                ))
            }));
            let error = match round {
                Ok(None) => break,
                Ok(Some(error)) => error,
                Err(_) => "the engine panicked".to_owned(),
            };
            warn!(door = "tftp", %local, error, "the engine failed, its transfers are lost; starting it again");
            thread::sleep(RESTART_PAUSE);
        }
        debug!(door = "tftp", %local, "stopped");
        // The socket first, so that whoever waits for the end can bind the address again.
        drop(socket);
        drop(end);
    })?;
    Ok(ended)
}

/// Serves until something fails, and says what.
async fn serve(socket: &UdpSocket, local: SocketAddr, source: &Arc<dyn FileSource>, pace: Pace) -> String {
    let files = Files { source: Arc::clone(source), local, budget: pace.fetch_budget, overdue: Arc::default() };
    let serve = async {
        let server = TftpServerBuilder::with_handler(files)
            .std_socket(socket.try_clone()?)?
            .timeout(pace.resend_after * 2)
            .ignore_client_timeout()
            .max_send_retries(RESENDS)
            .window_size_limit(LARGEST_WINDOW)
            .block_size_limit(LARGEST_BLOCK)
            .build()
            .await?;
        server.serve().await
    };
    match serve.await {
        Ok(()) => "the engine ended".to_owned(),
        Err(error) => error.to_string(),
    }
}

struct Files {
    source: Arc<dyn FileSource>,
    local: SocketAddr,
    budget: Duration,
    /// Fetches that have outrun their budget and are not done yet.
    overdue: Arc<AtomicU32>,
}

impl Handler for Files {
    type Reader = Reader;
    type Writer = futures_lite::io::Sink;

    async fn read_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
    ) -> Result<(Reader, Option<u64>), packet::Error> {
        let Some(name) = path.to_str() else { return Err(packet::Error::FileNotFound) };
        let mut opening = self.source.open(name, *client, self.local).map_err(to_packet)?;
        // While some fetches are slow, others are likely to be: the more of them, the less is waited for the next, so that a stalled
        // plugin and a site full of its phones cannot add their budgets up into a wait for everybody else.
        let budget = self.budget / (1 + self.overdue.load(Ordering::Relaxed));
        let fetched = future::or(async { Some((&mut opening).await) }, async {
            Timer::after(budget).await;
            None
        });
        match fetched.await {
            Some(Ok(content)) => {
                // The size of an empty file is left out: curl, for one, takes `tsize 0` in an answer for a mistake and gives up.
                let len = Some(content.len()).filter(|&len| len > 0);
                Ok((Reader::Ready(content, Bytes::new()), len))
            }
            Some(Err(denied)) => Err(to_packet(denied)),
            None => Ok((Reader::Awaiting { opening, _overdue: Overdue::new(&self.overdue) }, None)),
        }
    }

    async fn write_req_open(
        &mut self,
        _client: &SocketAddr,
        _path: &Path,
        _size: Option<u64>,
    ) -> Result<Self::Writer, packet::Error> {
        Err(packet::Error::IllegalOperation)
    }
}

/// async-tftp's own words for an error, where it has a code for it.
fn to_packet(denied: Denied) -> packet::Error {
    match denied.code {
        Code::NotFound => packet::Error::FileNotFound,
        Code::AccessViolation => packet::Error::PermissionDenied,
        Code::IllegalOperation => packet::Error::IllegalOperation,
        Code::UnknownTransfer => packet::Error::UnknownTransferId,
        Code::Undefined => packet::Error::Msg(denied.message),
    }
}

/// The same for a file that turned out not to be there after the handler had returned: async-tftp looks at the kind of a read error.
/// The words are lost on this way, the code is not.
fn to_io(denied: Denied) -> io::Error {
    let kind = match denied.code {
        Code::NotFound => io::ErrorKind::NotFound,
        Code::AccessViolation => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, denied.message)
}

/// The bytes of a file, or of one that is still being fetched. async-tftp sends nothing before the first of them.
enum Reader {
    Awaiting { opening: Opening, _overdue: Overdue },
    Ready(Content, Bytes),
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match &mut *self {
                Reader::Awaiting { opening, .. } => {
                    let content = ready!(Pin::new(opening).poll(cx)).map_err(to_io)?;
                    *self = Reader::Ready(content, Bytes::new());
                }
                Reader::Ready(content, chunk) if chunk.is_empty() => match ready!(content.poll_chunk(cx)) {
                    Some(next) => *chunk = next?,
                    None => return Poll::Ready(Ok(0)),
                },
                Reader::Ready(_, chunk) => {
                    let len = chunk.len().min(buf.len());
                    chunk.copy_to_slice(&mut buf[..len]);
                    return Poll::Ready(Ok(len));
                }
            }
        }
    }
}

/// Counts a fetch as overdue for as long as it is.
struct Overdue(Arc<AtomicU32>);

impl Overdue {
    fn new(overdue: &Arc<AtomicU32>) -> Overdue {
        overdue.fetch_add(1, Ordering::Relaxed);
        Overdue(Arc::clone(overdue))
    }
}

impl Drop for Overdue {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
