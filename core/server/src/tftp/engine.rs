//! The seam between the TFTP door and what speaks TFTP on a socket.
//!
//! An [`Engine`] brings the protocol, a [`FileSource`] the files; neither knows the other. So that a second engine can be put beside the
//! first, nothing of any engine's library appears here but the protocol's own numbers.

use std::{
    io,
    net::SocketAddr,
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

pub(super) use provost_tftp::packet::Code;

use super::Bound;
use crate::{chunks::FileChunks, slots::Slot};

/// Speaks TFTP.
pub(super) trait Engine: Send + Sync {
    /// Binds an address, on which it is alone, starts serving there, and returns at once. Serves until `stop` becomes true or its sender
    /// is gone.
    fn start(
        &self,
        address: SocketAddr,
        source: Arc<dyn FileSource>,
        pace: Pace,
        stop: watch::Receiver<bool>,
    ) -> io::Result<Started>;
}

/// An engine at work.
pub(super) struct Started {
    pub(super) bound: Bound,
    /// Each ends (with an error, since nothing is ever sent) when its socket is closed and every transfer dropped.
    pub(super) ended: Vec<oneshot::Receiver<()>>,
}

/// How a transfer treats a peer that does not answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// From a packet to its first repetition.
    pub(super) resend_after: Duration,
    /// How long an engine that can only wait may wait for a file, before it attends to others and lets this one come when it comes.
    pub(super) fetch_budget: Duration,
    /// Asked of the kernel, in bytes.
    pub(super) receive_buffer: usize,
}

/// Where an engine gets its files.
pub(super) trait FileSource: Send + Sync {
    /// Begins to fetch what a read request names. Never waits; what it returns does.
    fn open(&self, name: &str, peer: SocketAddr, local: SocketAddr) -> Result<Opening, Denied>;
}

/// A file being fetched. Dropping it lets go of the fetch.
#[derive(Debug)]
pub(super) struct Opening {
    fetch: Fetch,
    /// The transfer's place among those that may be open; it goes on into the content.
    slot: Option<Slot>,
}

#[derive(Debug)]
enum Fetch {
    /// Until it is taken.
    AtHand(Option<Result<Source, Denied>>),
    Making(JoinHandle<Result<Source, Denied>>),
}

impl Opening {
    /// Ready when it is first asked.
    pub(super) fn at_hand(fetched: Result<Source, Denied>, slot: Slot) -> Opening {
        Opening { fetch: Fetch::AtHand(Some(fetched)), slot: Some(slot) }
    }

    pub(super) fn making(fetch: JoinHandle<Result<Source, Denied>>, slot: Slot) -> Opening {
        Opening { fetch: Fetch::Making(fetch), slot: Some(slot) }
    }
}

impl Future for Opening {
    type Output = Result<Content, Denied>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let fetched = match &mut self.fetch {
            Fetch::AtHand(fetched) => fetched.take(),
            // An error is a desk that panicked, or a program that is ending.
            Fetch::Making(making) => ready!(Pin::new(making).poll(cx)).ok(),
        };
        let slot = self.slot.take();
        Poll::Ready(fetched.unwrap_or_else(|| Err(Denied::broken())).map(|source| {
            let len = source.left();
            Content { source, len, _slot: slot }
        }))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Fetch::Making(making) = &self.fetch {
            making.abort();
        }
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
    /// Who asks again is served, soon.
    pub(super) is_for_want_of_room: bool,
}

impl Denied {
    pub(super) fn new(code: Code, message: &str) -> Denied {
        // One small packet, whatever the desk had to say.
        const LONGEST: usize = 400;
        let mut message: String = message.chars().filter(|char| !char.is_control()).collect();
        while message.len() > LONGEST {
            message.pop();
        }
        Denied { code, message, is_for_want_of_room: false }
    }

    pub(super) fn failed(message: &str) -> Denied {
        Denied::new(Code::Undefined, message)
    }

    pub(super) fn no_room() -> Denied {
        Denied { is_for_want_of_room: true, ..Denied::failed("busy, try again") }
    }

    /// Whoever should have fetched it panicked; the log has it.
    pub(super) fn broken() -> Denied {
        Denied::failed("internal error")
    }
}
