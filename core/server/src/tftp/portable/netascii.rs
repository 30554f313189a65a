//! Sends files as netascii: text, with line ends as the network writes them (RFC 1350, RFC 764).
//!
//! Old phones ask for it, and a file that came over as it is would have lines they do not see the end of. Plain RFC 1350 without options,
//! which a server is free to ignore: blocks of 512, one at a time. Octet transfers are the engine's.

use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    net::{SocketAddr, UdpSocket as StdSocket},
    sync::Arc,
    time::Duration,
};

use bytes::{BufMut, Bytes};
use tokio::{
    net::UdpSocket,
    runtime::Handle,
    sync::{oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout_at},
};
use tracing::debug;

use super::super::engine::{Code, Content, Denied, FileSource, Opening, Pace};

const BLOCK: usize = 512;
const READ: u16 = 1;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;

/// The waits after each send of a packet, in first waits: 1, 2, 4, 4, 4 s.
const WAITS: [u32; 5] = [1, 2, 4, 4, 4];

/// Serves on a socket that gets requests for netascii and mail, until `stop` becomes true or its sender is gone.
pub(super) fn start(
    runtime: &Handle,
    socket: StdSocket,
    source: Arc<dyn FileSource>,
    pace: Pace,
    stop: watch::Receiver<bool>,
) -> io::Result<oneshot::Receiver<()>> {
    let local = socket.local_addr()?;
    let _context = runtime.enter();
    let socket = UdpSocket::from_std(socket)?;
    let (end, ended) = oneshot::channel();
    runtime.spawn(async move {
        serve(socket, local, source, pace, stop).await;
        drop(end);
    });
    Ok(ended)
}

async fn serve(
    socket: UdpSocket,
    local: SocketAddr,
    source: Arc<dyn FileSource>,
    pace: Pace,
    mut stop: watch::Receiver<bool>,
) {
    let mut transfers = JoinSet::new();
    // A peer repeats its request while the first block is on its way; that is not a second transfer.
    let mut by_peer: HashMap<SocketAddr, AbortHandle> = HashMap::new();
    let mut packet = [0; 2048];
    loop {
        let received = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = transfers.join_next() => {
                by_peer.retain(|_, transfer| !transfer.is_finished());
                continue;
            }
            received = socket.recv_from(&mut packet) => received,
        };
        let (len, peer) = match received {
            Ok(received) => received,
            Err(error) => {
                debug!(door = "tftp", %local, error = &error as &dyn std::error::Error, "cannot receive");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if by_peer.get(&peer).is_some_and(|transfer| !transfer.is_finished()) {
            continue;
        }
        let Some(opening) = open(&packet[..len], &*source, peer, local) else { continue };
        by_peer.insert(peer, transfers.spawn(transfer(opening, peer, local, pace)));
    }
}

/// What a packet asks for; `None` if it is nothing to answer.
fn open(
    packet: &[u8],
    source: &dyn FileSource,
    peer: SocketAddr,
    local: SocketAddr,
) -> Option<Result<Opening, Denied>> {
    let (name, mode) = asked(packet)?;
    if mode.eq_ignore_ascii_case(b"mail") {
        return Some(Err(Denied::new(Code::IllegalOperation, "mail is not served")));
    }
    // Requests for octet get here only in the moment before the steering is set up.
    if !mode.eq_ignore_ascii_case(b"netascii") {
        return None;
    }
    Some(match std::str::from_utf8(name) {
        Ok(name) => source.open(name, peer, local),
        Err(_) => Err(Denied::new(Code::NotFound, "the name is not UTF-8")),
    })
}

/// Name and mode of a read request.
fn asked(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = packet.strip_prefix(&READ.to_be_bytes())?.split(|&byte| byte == 0);
    let (name, mode, _terminated) = (fields.next()?, fields.next()?, fields.next()?);
    Some((name, mode))
}

/// One transfer, from a port of its own at the address that was asked.
async fn transfer(opening: Result<Opening, Denied>, peer: SocketAddr, local: SocketAddr, pace: Pace) {
    let sent = async {
        let socket = UdpSocket::bind(SocketAddr::new(local.ip(), 0)).await?;
        let content = match opening {
            Ok(opening) => opening.await,
            Err(denied) => Err(denied),
        };
        match content {
            Ok(content) => send(&socket, peer, content, pace).await,
            Err(denied) => socket.send_to(&error(&denied), peer).await.map(drop),
        }
    };
    if let Err(error) = sent.await {
        debug!(door = "tftp", %peer, error = &error as &dyn std::error::Error, "netascii transfer ended badly");
    }
}

async fn send(socket: &UdpSocket, peer: SocketAddr, mut content: Content, pace: Pace) -> io::Result<()> {
    let mut text = Netascii::default();
    let mut block = 1u16;
    loop {
        let mut packet = Vec::with_capacity(4 + BLOCK);
        packet.put_u16(DATA);
        packet.put_u16(block);
        while !text.fill(&mut packet, 4 + BLOCK) {
            match poll_fn(|cx| content.poll_chunk(cx)).await {
                Some(Ok(chunk)) => text.source = chunk,
                None => break,
                Some(Err(failure)) => {
                    socket.send_to(&error(&Denied::failed("the file cannot be read")), peer).await?;
                    return Err(failure);
                }
            }
        }
        deliver(socket, peer, &packet, block, pace).await?;
        if packet.len() < 4 + BLOCK {
            return Ok(());
        }
        // Rolls over to 0, as everybody's does.
        block = block.wrapping_add(1);
    }
}

/// Sends a block until it is acknowledged.
async fn deliver(socket: &UdpSocket, peer: SocketAddr, packet: &[u8], block: u16, pace: Pace) -> io::Result<()> {
    let mut answer = [0; 256];
    for wait in WAITS {
        socket.send_to(packet, peer).await?;
        let until = Instant::now() + pace.resend_after * wait;
        while let Ok(received) = timeout_at(until, socket.recv_from(&mut answer)).await {
            let (len, from) = received?;
            let Some((&[a, b, c, d], _)) = answer[..len].split_first_chunk() else { continue };
            let (opcode, number) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            if from != peer {
                // Not in answer to an error: two servers would never stop.
                if opcode != ERROR {
                    let stranger = Denied::new(Code::UnknownTransfer, "no transfer of yours is here");
                    socket.send_to(&error(&stranger), from).await?;
                }
            } else if opcode == ERROR {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    format!("the client gave up, error {number}"),
                ));
            } else if opcode == ACK && number == block {
                return Ok(());
            }
            // An old acknowledgement is not answered by the block again: each repetition would then double.
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not answer"))
}

fn error(denied: &Denied) -> Vec<u8> {
    let mut packet = Vec::with_capacity(5 + denied.message.len());
    packet.put_u16(ERROR);
    packet.put_u16(denied.code as u16);
    packet.put_slice(denied.message.as_bytes());
    packet.put_u8(0);
    packet
}

/// Turns bytes into netascii: LF becomes CR LF, and CR becomes CR NUL, so that neither is mistaken for the other.
///
/// A CR LF in the file thus becomes CR NUL CR LF, and CR LF again at the other end: the receiver gets back the file it asked for.
#[derive(Debug, Default)]
struct Netascii {
    source: Bytes,
    /// Of the second half of a pair that did not fit the block.
    pending: Option<u8>,
}

impl Netascii {
    /// Appends to a packet until it is `full` bytes long. False if the source ran out before that.
    fn fill(&mut self, packet: &mut Vec<u8>, full: usize) -> bool {
        while packet.len() < full {
            if let Some(pending) = self.pending.take() {
                packet.push(pending);
                continue;
            }
            let Some((&byte, _)) = self.source.split_first() else { return false };
            let _ = self.source.split_to(1);
            match byte {
                b'\n' => {
                    packet.push(b'\r');
                    self.pending = Some(b'\n');
                }
                b'\r' => {
                    packet.push(b'\r');
                    self.pending = Some(0);
                }
                other => packet.push(other),
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_become_the_networks_and_pairs_may_span_blocks() {
        let mut text = Netascii { source: Bytes::from_static(b"a\nb\rc\r\n\n"), pending: None };
        let mut blocks = Vec::new();
        loop {
            let mut block = Vec::new();
            let full = text.fill(&mut block, 2);
            blocks.push(block);
            if !full {
                break;
            }
        }
        assert_eq!(blocks.concat(), b"a\r\nb\r\0c\r\0\r\n\r\n");
        assert!(blocks.iter().rev().skip(1).all(|block| block.len() == 2));
    }
}
