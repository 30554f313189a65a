//! The seam between the TFTP door and what speaks TFTP on a socket.
//!
//! An [`Engine`] brings the protocol, a [`FileSource`] the files; neither knows the other. So that a second engine can be put beside the
//! first, nothing of any engine's library appears here.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{chunks::FileChunks, slots::Slot};

/// Speaks TFTP on one socket, which is bound to one address of ours.
pub(super) trait Engine: Send + Sync {
    /// Starts serving, and returns at once. Serves until `stop` becomes true or its sender is gone.
    ///
    /// What is returned ends (with an error, since nothing is ever sent) when the socket is closed and every transfer dropped.
    fn start(
        &self,
        socket: UdpSocket,
        source: Arc<dyn FileSource>,
        pace: Pace,
        stop: watch::Receiver<bool>,
    ) -> io::Result<oneshot::Receiver<()>>;
}

/// How a transfer treats a peer that does not answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// From a packet to its first repetition.
    pub(super) resend_after: Duration,
    /// How long an engine may wait for a file before it attends to others and lets this one come when it comes.
    pub(super) fetch_budget: Duration,
}

/// Where an engine gets its files.
pub(super) trait FileSource: Send + Sync {
    /// Begins to fetch what a read request names. Never waits; what it returns does.
    fn open(&self, name: &str, peer: SocketAddr, local: SocketAddr) -> Result<Opening, Denied>;
}

/// A file being fetched. Dropping it lets go of the fetch.
#[derive(Debug)]
pub(super) struct Opening {
    fetch: JoinHandle<Result<Source, Denied>>,
    /// The transfer's place among those that may be open; it goes on into the content.
    slot: Option<Slot>,
}

impl Opening {
    pub(super) fn new(fetch: JoinHandle<Result<Source, Denied>>, slot: Slot) -> Opening {
        Opening { fetch, slot: Some(slot) }
    }
}

impl Future for Opening {
    type Output = Result<Content, Denied>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let fetched = ready!(Pin::new(&mut self.fetch).poll(cx));
        let slot = self.slot.take();
        Poll::Ready(match fetched {
            Ok(Ok(source)) => {
                let len = source.left();
                Ok(Content { source, len, _slot: slot })
            }
            Ok(Err(denied)) => Err(denied),
            // The desk panicked, or the program is ending.
            Err(_) => Err(Denied::failed("internal error")),
        })
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.fetch.abort();
    }
}

/// Where the bytes of a file come from.
#[derive(Debug)]
pub(super) enum Source {
    Whole(Bytes),
    File(FileChunks),
}

impl Source {
    fn left(&self) -> u64 {
        match self {
            Source::Whole(bytes) => bytes.len() as u64,
            Source::File(chunks) => chunks.left(),
        }
    }
}

/// A file ready to be sent.
#[derive(Debug)]
pub(super) struct Content {
    source: Source,
    len: u64,
    _slot: Option<Slot>,
}

impl Content {
    /// Of the whole file, in bytes as stored.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The next piece; never an empty one, and `None` after the last. Needs no particular executor.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match &mut self.source {
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            Source::File(chunks) => chunks.poll_chunk(cx),
        }
    }
}

/// Why there is no file, in TFTP's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) code: Code,
    /// Safe to send; at most some hundred bytes, without a NUL.
    pub(super) message: String,
}

/// The error codes of RFC 1350 that we have a use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Undefined = 0,
    NotFound = 1,
    AccessViolation = 2,
    IllegalOperation = 4,
    UnknownTransfer = 5,
}

impl Denied {
    pub(super) fn new(code: Code, message: &str) -> Denied {
        // One small packet, whatever the desk had to say.
        const LONGEST: usize = 400;
        let mut message: String = message.chars().filter(|char| !char.is_control()).collect();
        while message.len() > LONGEST {
            message.pop();
        }
        Denied { code, message }
    }

    pub(super) fn failed(message: &str) -> Denied {
        Denied::new(Code::Undefined, message)
    }
}
