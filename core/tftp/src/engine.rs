//! The engine: one thread that serves one address, by epoll.
//!
//! Requests come to the socket it is given, many at a time. A transfer has a port of its own, as RFC 1350 wants it, or answers from the
//! port that was asked, where a firewall lets nothing else through. Both are sockets without a connection: whoever writes to a
//! transfer's port that is not its peer gets an ERROR 5, where the kernel would have sent an ICMP message that phones do not hear.
//!
//! Files that are not ready at once are futures, which this thread polls itself when their wakers ring the [`bell`](crate::bell).

use std::{
    collections::HashMap,
    io, mem,
    net::{SocketAddr, UdpSocket},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    batch::{Inbox, LONGEST, Outbox},
    bell::Bell,
    files::{Content, Denied, Files},
    packet::{self, Code, Mode, Packet, Request},
    transfer::{Terms, Transfer},
};

/// What the numbers that epoll carries stand for; all others are transfers.
const LISTENER: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;
/// The waker of what the engine's end depends on.
const STOP: usize = usize::MAX;
/// Sockets attended to between two looks at the clock.
const EVENTS: usize = 256;

/// How an engine serves.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub terms: Terms,
    /// A port of its own for each transfer; else all answers come from the port that was asked.
    pub port_per_transfer: bool,
}

/// Serves on a socket that is bound to one address, until `stop` is ready or the socket fails. Takes the thread that it is called on.
pub fn serve<F: Files>(
    socket: &UdpSocket,
    files: &F,
    manner: Manner,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let bell = Bell::new()?;
    epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    epoll.add(bell.descriptor(), EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
    let mut engine = Engine {
        listener: socket,
        local: socket.local_addr()?,
        files,
        manner,
        epoll,
        bell,
        transfers: Slab::new(),
        by_peer: HashMap::new(),
        turn: Vec::new(),
        outbox: Outbox::new(),
    };
    engine.run(stop)
}

struct Engine<'a, F: Files> {
    listener: &'a UdpSocket,
    local: SocketAddr,
    files: &'a F,
    manner: Manner,
    epoll: Epoll,
    bell: Arc<Bell>,
    transfers: Slab<Active<F>>,
    /// A peer has one transfer at a time at one of its ports.
    by_peer: HashMap<SocketAddr, usize>,
    /// Those that have something to go on with. They do so when all that has come was read: packets that leave one right after the other
    /// wake the peers' side once, where each would wake it if there were reading between them.
    turn: Vec<usize>,
    outbox: Outbox,
}

/// A request that is being answered.
struct Active<F: Files> {
    peer: SocketAddr,
    /// The packet, to know it again.
    request: Box<[u8]>,
    state: State<F>,
}

#[expect(clippy::large_enum_variant, reason = "of those that there are at a time, nearly all are being sent")]
enum State<F: Files> {
    Opening(F::Opening),
    Sending {
        /// `None`: the listener's.
        socket: Option<UdpSocket>,
        transfer: Transfer,
        content: F::Content,
    },
}

impl<F: Files> Engine<'_, F> {
    fn run(&mut self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let mut stop = pin!(stop);
        let mut inbox = Inbox::new();
        let mut events = vec![EpollEvent::empty(); EVENTS];
        // Deadlines are looked for at a steady pace: with a heap of them, each acknowledgement would have to move one.
        let pace = (self.manner.terms.resend_after / 8).clamp(Duration::from_millis(2), Duration::from_millis(100));
        let tick = EpollTimeout::try_from(pace).unwrap_or(EpollTimeout::ZERO);
        let mut last_tick = Instant::now();
        if stop.as_mut().poll(&mut Context::from_waker(&self.bell.waker(STOP))).is_ready() {
            return Ok(());
        }
        loop {
            let wait = if self.transfers.is_empty() { EpollTimeout::NONE } else { tick };
            let ready = match self.epoll.wait(&mut events, wait) {
                Err(nix::Error::EINTR) => 0,
                ready => ready?,
            };
            let now = Instant::now();
            let mut is_asked = false;
            for event in &events[..ready] {
                match event.data() {
                    LISTENER => is_asked = true,
                    BELL => {
                        for woken in self.bell.take() {
                            if woken != STOP {
                                self.turn.push(woken);
                            } else if stop.as_mut().poll(&mut Context::from_waker(&self.bell.waker(STOP))).is_ready() {
                                return Ok(());
                            }
                        }
                    }
                    transfer => self.heard_at_transfer(transfer as usize),
                }
            }
            // After the transfers: who acknowledges the last packet and then asks for the same once more has begun anew.
            if is_asked {
                inbox.receive(self.listener)?;
                for (datagram, from) in inbox.iter() {
                    self.heard_at_listener(datagram, from);
                }
            }
            let mut turn = mem::take(&mut self.turn);
            for key in turn.drain(..) {
                self.attend(key, now);
            }
            self.turn = turn;
            // Not while there is more to read: no peer is silent whose packet is still in our socket.
            if ready < EVENTS && now.duration_since(last_tick) >= pace {
                last_tick = now;
                self.time_out(now);
            }
            self.outbox.flush(self.listener);
        }
    }

    fn heard_at_listener(&mut self, datagram: &[u8], from: SocketAddr) {
        match Packet::read(datagram) {
            Some(Packet::Read(request)) => self.asked(datagram, &request, from),
            Some(Packet::Write(_)) => self.deny(from, Code::IllegalOperation, "files are only given here"),
            Some(packet) => match self.by_peer.get(&from) {
                Some(&key) if !self.manner.port_per_transfer => self.heard(key, &packet),
                _ if matches!(packet, Packet::Error { .. }) => {}
                _ => self.deny(from, Code::UnknownTransfer, STRANGER),
            },
            None => {}
        }
    }

    fn asked(&mut self, datagram: &[u8], request: &Request<'_>, peer: SocketAddr) {
        if let Some(&key) = self.by_peer.get(&peer) {
            let active = &mut self.transfers[key];
            let goes_on = *active.request == *datagram
                && match &mut active.state {
                    State::Opening(_) => true,
                    State::Sending { transfer, .. } => transfer.asked_again(),
                };
            if goes_on {
                return self.turn.push(key);
            }
            // It wants something else now, or the same from the start.
            self.remove(key);
        }
        match request.mode {
            Mode::Octet | Mode::Netascii => {}
            Mode::Mail => return self.deny(peer, Code::IllegalOperation, "mail is not served"),
            Mode::Unknown => return self.deny(peer, Code::IllegalOperation, "the mode is neither octet nor netascii"),
        }
        let Ok(name) = std::str::from_utf8(request.name) else {
            return self.deny(peer, Code::NotFound, "the name is not UTF-8");
        };
        match self.files.open(name, peer, self.local) {
            Ok(opening) => {
                let active = Active { peer, request: datagram.into(), state: State::Opening(opening) };
                let key = self.transfers.insert(active);
                self.by_peer.insert(peer, key);
                self.turn.push(key);
            }
            Err(denied) => self.refuse(peer, &denied),
        }
    }

    fn heard_at_transfer(&mut self, key: usize) {
        let Some(Active { peer, state: State::Sending { socket: Some(socket), .. }, .. }) = self.transfers.get(key)
        else {
            return;
        };
        let mut buffer = [0; LONGEST];
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { return };
        let Some(packet) = Packet::read(&buffer[..len]) else { return };
        if from == *peer {
            self.heard(key, &packet);
        } else if !matches!(packet, Packet::Error { .. }) {
            // Not in answer to an error: two servers would never stop.
            let mut answer = Vec::new();
            packet::write_error(&mut answer, Code::UnknownTransfer, STRANGER);
            let _ = socket.send_to(&answer, from);
        }
    }

    fn heard(&mut self, key: usize, packet: &Packet<'_>) {
        if let State::Sending { transfer, .. } = &mut self.transfers[key].state {
            transfer.heard(packet);
            self.turn.push(key);
        } else if matches!(packet, Packet::Error { .. }) {
            self.remove(key);
        }
    }

    fn time_out(&mut self, now: Instant) {
        let is_due = |active: &Active<F>| match &active.state {
            State::Sending { transfer, .. } => transfer.deadline().is_some_and(|due| due <= now),
            State::Opening(_) => false,
        };
        let due: Vec<usize> = self.transfers.iter().filter(|(_, active)| is_due(active)).map(|(key, _)| key).collect();
        for key in due {
            if let State::Sending { transfer, .. } = &mut self.transfers[key].state {
                transfer.timed_out(now);
            }
            self.attend(key, now);
        }
    }

    /// Takes a request as far as it goes without waiting. One that is gone is none to attend to.
    fn attend(&mut self, key: usize, now: Instant) {
        let Some(active) = self.transfers.get_mut(key) else { return };
        if let State::Opening(opening) = &mut active.state {
            match poll(&self.bell, key, |cx| Pin::new(&mut *opening).poll(cx)) {
                Poll::Pending => return,
                Poll::Ready(Err(denied)) => {
                    let peer = active.peer;
                    self.remove(key);
                    return self.refuse(peer, &denied);
                }
                Poll::Ready(Ok(content)) => {
                    // Without a port or a descriptor left it is as if the request had not come.
                    if self.begin(key, content).is_err() {
                        return self.remove(key);
                    }
                }
            }
        }
        self.send(key, now);
    }

    fn begin(&mut self, key: usize, content: F::Content) -> io::Result<()> {
        let active = &mut self.transfers[key];
        let request = Request::read(&active.request).ok_or(io::ErrorKind::InvalidData)?;
        let transfer = Transfer::new(&request.options, request.mode, Some(content.len()), &self.manner.terms);
        let socket = if self.manner.port_per_transfer {
            let socket = fresh_port(self.local)?;
            let readable = EpollEvent::new(EpollFlags::EPOLLIN, key as u64);
            self.epoll.add(&socket, readable)?;
            Some(socket)
        } else {
            None
        };
        active.state = State::Sending { socket, transfer, content };
        Ok(())
    }

    /// Sends what a transfer has to send, and forgets it if that was all.
    fn send(&mut self, key: usize, now: Instant) {
        let Active { peer, state: State::Sending { socket, transfer, content }, .. } = &mut self.transfers[key] else {
            return;
        };
        if socket.is_some() {
            // What is in there is the listener's.
            self.outbox.flush(self.listener);
        }
        let from = socket.as_ref().unwrap_or(self.listener);
        loop {
            while transfer.is_hungry() {
                match poll(&self.bell, key, |cx| content.poll_piece(cx)) {
                    Poll::Ready(Some(Ok(piece))) => transfer.feed(Some(piece)),
                    Poll::Ready(None) => transfer.feed(None),
                    Poll::Ready(Some(Err(_))) => {
                        transfer.fail(Code::Undefined, "the file cannot be read");
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            if !self.outbox.put(from, *peer, |packet| transfer.next_packet(now, packet)) {
                break;
            }
        }
        if let Some(socket) = socket {
            self.outbox.flush(socket);
        }
        if let Some(end) = transfer.end() {
            self.files.ended(*peer, end);
            self.remove(key);
        }
    }

    fn remove(&mut self, key: usize) {
        let gone = self.transfers.remove(key);
        self.by_peer.remove(&gone.peer);
    }

    fn refuse(&mut self, peer: SocketAddr, denied: &Denied) {
        match denied {
            Denied::Error { code, message } => self.deny(peer, *code, message),
            Denied::NoRoom => {}
        }
    }

    /// From the port that was asked: no transfer begins, and a client takes this from there.
    fn deny(&mut self, peer: SocketAddr, code: Code, message: &str) {
        self.outbox.put(self.listener, peer, |packet| {
            packet::write_error(packet, code, message);
            true
        });
    }
}

const STRANGER: &str = "no transfer of yours is here";

/// Most files are ready at once, and then need no waker: one is made when they are not.
fn poll<T>(bell: &Arc<Bell>, key: usize, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => poll(&mut Context::from_waker(&bell.waker(key))),
        ready => ready,
    }
}

/// A socket at the address that was asked, at a port that the kernel chooses.
fn fresh_port(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    let mut address = local;
    address.set_port(0);
    socket.bind(&address.into())?;
    Ok(socket.into())
}
