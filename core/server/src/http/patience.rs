//! A connection that gives up on a peer which leaves it waiting.
//!
//! hyper bounds the time for a request's head, but not the time for which a peer may refuse to read, and it does not tell a peer that is
//! half-way through a request from one that merely keeps the connection. Both are decided here, below hyper, where the bytes pass.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) header: Duration,
    pub(super) idle: Duration,
    pub(super) write: Duration,
}

/// Where a connection is in its round. Shared, because only the service knows when a request has arrived and when its answer is out.
#[derive(Clone, Debug)]
pub(super) struct Phase(Arc<Mutex<Round>>);

#[derive(Clone, Copy, Debug)]
enum Round {
    /// A request is arriving.
    Head { since: Instant },
    /// A request is being answered. How long that takes is the desk's affair, and then the write timeout's.
    Answering,
    /// Answered; the next request has not begun.
    Idle { since: Instant },
}

/// An answer under way; dropped with its body.
#[derive(Debug)]
pub(super) struct Answering(Phase);

impl Phase {
    pub(super) fn new() -> Phase {
        Phase(Arc::new(Mutex::new(Round::Head { since: Instant::now() })))
    }

    /// Called by the service for each request.
    pub(super) fn request_begun(&self) -> Answering {
        self.set(Round::Answering);
        Answering(self.clone())
    }

    fn set(&self, round: Round) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = round;
    }

    fn get(&self) -> Round {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.set(Round::Idle { since: Instant::now() });
    }
}

#[derive(Debug)]
pub(super) struct Patient {
    stream: TcpStream,
    patience: Patience,
    phase: Phase,
    reading: Clock,
    writing: Clock,
    /// Since when no write was accepted.
    stuck: Option<Instant>,
}

/// Rings when a peer's time is up. Most never have to be wound up.
#[derive(Debug, Default)]
struct Clock(Option<Pin<Box<Sleep>>>);

impl Clock {
    fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }
}

impl Patient {
    pub(super) fn new(stream: TcpStream, patience: Patience) -> (Patient, Phase) {
        let phase = Phase::new();
        let (reading, writing) = (Clock::default(), Clock::default());
        (Patient { stream, patience, phase: phase.clone(), reading, writing, stuck: None }, phase)
    }

    /// What a write came to, with the peer's time running while nothing was taken.
    fn written(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if write.is_ready() {
            self.stuck = None;
            // The tail of an answer can still be on its way when its body has been handed over; that is not idling.
            if let Round::Idle { .. } = self.phase.get() {
                self.phase.set(Round::Idle { since: Instant::now() });
            }
            return write;
        }
        let since = *self.stuck.get_or_insert_with(Instant::now);
        ready!(self.writing.poll(since + self.patience.write, cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let round = self.phase.get();
        if read.is_ready() {
            if let Round::Idle { .. } = round
                && buf.filled().len() > before
            {
                self.phase.set(Round::Head { since: Instant::now() });
            }
            return read;
        }
        let (deadline, complaint) = match round {
            Round::Answering => return Poll::Pending,
            Round::Head { since } => (since + self.patience.header, "the request did not arrive in time"),
            Round::Idle { since } => (since + self.patience.idle, "no further request arrived in time"),
        };
        ready!(self.reading.poll(deadline, cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, complaint)))
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // Neither of these waits for the peer on a TCP stream, so neither needs a clock.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
