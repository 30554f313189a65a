//! The conversations: one for each SUBSCRIBE, from the 200 to the phone's answer to our NOTIFY.
//!
//! One task owns them all, so nothing here is locked. The desk is asked there and then, and goes on in a task of its own where a plugin
//! takes its time; when many phones are waiting it thinks of each in such a task from the start, for there may be another processor.
//! Every queue and table is bounded; what does not fit is dropped and counted, and the phone repeats itself.
//!
//! A phone that was given no answer is remembered for a while: whoever approves it can have it answered there and then ([`Again`]),
//! instead of walking over to it and pulling its plug.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, VecDeque},
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use provost_plugin::{MacAddr, model::Identity};
use provost_sip::{Answer, Message, Subscribe, Uri, compose};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::unix::AsyncFd,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    interfaces::Interface,
    listener::{Came, Datagram},
    relay::Leg,
    way::{Way, routed},
};
use crate::neighbours;
use crate::{
    run::stopped,
    socket::{heard, set_receive_buffer},
};

/// RFC 3261 §17.1.2.2 and its timers: T1, T2 and 64·T1.
pub(super) const T1: Duration = Duration::from_millis(500);
pub(super) const T2: Duration = Duration::from_secs(4);
pub(super) const GIVE_UP: Duration = Duration::from_secs(32);
/// How long a phone that got no answer can still be given one. It then waits for its next SUBSCRIBE anyway.
pub const REMEMBERED: Duration = Duration::from_secs(15 * 60);
/// What is longer is forgotten as soon as its copies come no more: no phone writes so much (the longest capture has 704 bytes), and
/// thousands of such would be much memory for a long time.
const LONGEST_REMEMBERED: usize = 2048;
/// Conversations at one time: more phones than any one network segment holds.
const CONVERSATIONS: usize = 65_536;
/// Datagrams that are read before it is looked what else there is to do.
const AT_ONCE: usize = 16;
/// Desk questions at one time.
const QUESTIONS: usize = 256;
/// Wishes waiting to be looked at, and callers that may wait for the same NOTIFY.
const WISHES: usize = 256;
const WAITERS: usize = 16;
/// Addresses from which a phone of one MAC address has spoken and which are told when it is to be.
const PLACES: usize = 16;
/// Copies of one SUBSCRIBE that are answered if they all came before the desk had spoken.
const COPIES: usize = 16;
/// NOTIFYs to one address that are repeated until they are answered. Of more than a building behind one address would ever have under
/// way each is sent once: who writes somebody else's address into many SUBSCRIBEs is not to have each of them sent eleven times.
const REPEATED: usize = 64;
/// The NOTIFY is our first request in its dialog, and the last.
const CSEQ: u32 = 1;
pub const PRODUCT: &str = concat!("Provost/", env!("CARGO_PKG_VERSION"));

/// A phone that asked, and how we heard it.
#[derive(Clone, Debug)]
pub struct Heard {
    pub identity: Identity,
    pub from: SocketAddrV4,
    /// Where it hears SIP: the port of its Contact, if that is its own host, else the port that it spoke from.
    pub contact: SocketAddrV4,
    pub interface: String,
    /// Our address in the phone's subnet; beyond a relay, the one from which it is reached.
    pub local: Ipv4Addr,
    /// The relay that heard it, where we have not ourselves.
    pub relay: Option<Relayed>,
    /// It spoke a while ago and is asked about again because somebody wants it answered now.
    pub again: bool,
}

/// A relay that heard a phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    pub name: Arc<str>,
    /// The MAC address that its kernel knows behind the phone's address.
    pub mac: Option<MacAddr>,
}

/// What the desk says to a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    Url(String),
    /// No answer at all. A 200 would silence the phone for a server that does know it.
    Silence {
        reason: String,
    },
}

/// What became of an announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The phone answered the NOTIFY with this status.
    Answered { status: u16, reason: String },
    /// Nothing came back within 32 s.
    TimedOut,
    /// It could not be composed or sent.
    Unsent { reason: String },
}

/// A wish: that a phone which was given no answer is asked about again, and answered.
#[derive(Debug)]
pub struct Again {
    pub mac: MacAddr,
    pub told: oneshot::Sender<Result<Notified, NotNotified>>,
}

/// A phone was told where to fetch, and took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notified {
    pub url: String,
    pub status: u16,
    pub to: SocketAddrV4,
}

impl fmt::Display for Notified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it was told {} at {} and answered {}", self.url, self.to, self.status)
    }
}

/// Why a phone was not told, or what came of telling it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNotified {
    #[error(
        "it has not announced itself in the last {} minutes; it is answered when it does, at its next start at the latest",
        REMEMBERED.as_secs() / 60
    )]
    Unheard,
    #[error("it was told already, and answered {status}")]
    Answered { status: u16 },
    #[error("it may not be told: {reason}")]
    Silence { reason: String },
    #[error(
        "it was told, but said nothing to it for {} s; it may be off, restarting, or at another address by now",
        GIVE_UP.as_secs()
    )]
    TimedOut,
    #[error("it was told, and refused it with {status} {reason}")]
    Refused { status: u16, reason: String },
    #[error("it could not be told: {reason}")]
    Unsent { reason: String },
    #[error("the interface that heard it is gone, or has no address any more")]
    Gone,
    #[error("too many phones are being answered right now; try again in a moment")]
    Busy,
    #[error("phones are not heard by this server: pnp is off, or its door could not be opened, which the log says")]
    Deaf,
}

/// Where announcements are decided and their outcomes kept.
pub trait Announcer: Send + Sync + 'static {
    fn announce(&self, heard: Heard) -> impl Future<Output = Announcement> + Send;
    /// Another number whenever what was decided before might be decided otherwise now.
    fn epoch(&self) -> u64;
    fn outcome(&self, mac: Option<MacAddr>, to: SocketAddrV4, url: &str, outcome: Outcome);
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    pub datagrams: AtomicU64,
    pub subscribes: AtomicU64,
    pub duplicates: AtomicU64,
    pub unreadable: AtomicU64,
    pub other: AtomicU64,
    pub overflow: AtomicU64,
    pub notifies: AtomicU64,
    pub retransmissions: AtomicU64,
    pub answered: AtomicU64,
    pub refused: AtomicU64,
    pub timed_out: AtomicU64,
    pub silent: AtomicU64,
    /// From an address that sends too many, or from beyond a router; and envelopes of relays that were not taken.
    pub unwanted: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The socket that answers go out from and come back to. Unicast, on a port of its own, so that 5060 can be a PBX's.
pub fn reply_socket(port: u16, receive_buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from(socket);
    set_receive_buffer(&socket, receive_buffer)?;
    Ok(socket)
}

/// Whose SUBSCRIBEs are answered.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// From one address in a second; 0 is any number.
    pub per_source: u32,
    /// Also those that come from none of our own networks.
    pub off_link: bool,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted { per_source: 1000, off_link: false }
    }
}

pub struct Exchange<A> {
    announcer: Arc<A>,
    socket: Arc<AsyncFd<UdpSocket>>,
    port: u16,
    interfaces: watch::Receiver<Vec<Interface>>,
    counters: Arc<Counters>,
    wanted: Wanted,
    /// How many SUBSCRIBEs came from each address in the second that began then.
    second: (Instant, HashMap<Ipv4Addr, u32>),
    /// In boxes, because a table that grows moves what is in it, in the middle of a burst.
    conversations: HashMap<Key, Box<Conversation>>,
    /// Branch of our NOTIFY → the conversation it belongs to.
    branches: HashMap<String, Key>,
    /// The phone and its Call-ID → the same, for phones that do not bring the branch back.
    calls: HashMap<(Ipv4Addr, Arc<str>), Key>,
    /// How many NOTIFYs to each address are not answered yet.
    unanswered: HashMap<Ipv4Addr, usize>,
    /// The last conversation of each phone that told its MAC, from each address: who speaks in a phone's name from elsewhere takes
    /// nothing away from it.
    newest: BTreeMap<(MacAddr, Ipv4Addr), Key>,
    /// Those that are remembered long, in the order in which they fell silent: when, and which timer that is. They have no place among
    /// the timers, which hold what happens soon.
    silent: VecDeque<(Instant, u64, Key)>,
    timers: BinaryHeap<Reverse<(Instant, u64, Key)>>,
    serial: u64,
    random: RandomState,
    questions: Arc<Semaphore>,
    /// More are waiting than are read at a time: then the desk thinks elsewhere, where there may be another processor.
    is_pressed: bool,
    decided: (mpsc::Sender<Decided>, mpsc::Receiver<Decided>),
    wishes: (mpsc::Sender<Again>, mpsc::Receiver<Again>),
}

/// What makes two SUBSCRIBEs copies of each other. Not the branch: some phones leave it out, and some change it with each copy.
/// But the MAC: phones behind one address, or of one firmware that counts its calls from the start, are still two phones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    from: Ipv4Addr,
    mac: Option<MacAddr>,
    call_id: Arc<str>,
    cseq: u32,
}

struct Decided {
    key: Key,
    announcement: Announcement,
}

/// Somebody who wants a phone to be told, wherever it has spoken from: one of its addresses is enough.
#[derive(Clone)]
struct Waiter(Arc<Mutex<Awaited>>);

struct Awaited {
    told: Option<oneshot::Sender<Result<Notified, NotNotified>>>,
    /// How many conversations have not come to an end.
    left: usize,
    /// The best reason so far for which it was not told.
    why: Option<NotNotified>,
}

impl Waiter {
    fn new(told: oneshot::Sender<Result<Notified, NotNotified>>, left: usize) -> Waiter {
        Waiter(Arc::new(Mutex::new(Awaited { told: Some(told), left, why: None })))
    }

    /// One of the conversations has come to an end.
    fn hear(&self, what: &Result<Notified, NotNotified>) {
        let mut awaited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.left = awaited.left.saturating_sub(1);
        if let Err(why) = what
            && !matches!((&awaited.why, why), (Some(_), NotNotified::Silence { .. }))
        {
            awaited.why = Some(why.clone());
        }
        let outcome = match (what, &awaited.why) {
            (Ok(notified), _) => Ok(notified.clone()),
            (Err(_), Some(why)) if awaited.left == 0 => Err(why.clone()),
            _ => return,
        };
        // Whoever asked may have gone meanwhile.
        if let Some(told) = awaited.told.take() {
            let _ = told.send(outcome);
        }
    }
}

/// One SUBSCRIBE and what came of it.
struct Conversation {
    /// None once the phone has answered: thousands of those are remembered for a while.
    subscribe: Option<Box<Subscribe>>,
    mac: Option<MacAddr>,
    from: SocketAddrV4,
    /// Our address that it can reach.
    local: Ipv4Addr,
    came: Came,
    state: State,
    /// Who wants to know what becomes of it.
    waiters: Vec<Waiter>,
    /// Bytes of the SUBSCRIBE.
    size: usize,
    heard: Instant,
    /// Of the desk, when it was asked.
    epoch: u64,
    /// How often the SUBSCRIBE came again.
    copies: usize,
    /// Forgotten then, whatever has become of it: copies of the SUBSCRIBE come no later.
    until: Instant,
    /// The one timer that counts; those set before it ring in vain.
    timer: u64,
}

impl Conversation {
    /// Whether the same SUBSCRIBE means nothing new. One that is settled is only remembered for the sake of late copies: from another
    /// port, or after the desk may have changed its mind, or when the time of copies is over, the phone is asking anew.
    fn covers(&self, from: SocketAddrV4, epoch: u64, now: Instant) -> bool {
        match self.state {
            State::Asking { .. } | State::Notifying { .. } => true,
            State::Silent if self.heard + GIVE_UP <= now => false,
            State::Silent | State::Done { .. } => self.from == from && self.epoch == epoch,
        }
    }

    /// Says to all who wait what has become of it. They may have gone meanwhile.
    fn tell(&mut self, what: &Result<Notified, NotNotified>) {
        for waiter in self.waiters.drain(..) {
            waiter.hear(what);
        }
    }

    /// What the desk is asked; nothing where it has been answered.
    fn question(&self, interface: String, again: bool) -> Option<Heard> {
        let subscribe = self.subscribe.as_deref()?;
        let targets = targets(subscribe, self.from);
        Some(Heard {
            identity: Identity {
                mac: self.mac,
                vendor: subscribe.vendor.clone(),
                model: subscribe.model.clone(),
                firmware: subscribe.firmware.clone(),
                hardware: None,
                user_agent: subscribe.user_agent.clone(),
            },
            from: self.from,
            contact: targets.last().copied().unwrap_or(self.from),
            interface,
            local: self.local,
            relay: match &self.came {
                Came::Here(_) => None,
                Came::Through(leg) => Some(Relayed { name: Arc::clone(leg.relay()), mac: leg.mac() }),
            },
            again,
        })
    }
}

enum State {
    /// The desk is being asked. Where the 200 goes once it has spoken: one for each copy that came meanwhile.
    Asking {
        askers: Vec<SocketAddrV4>,
    },
    Silent,
    Notifying {
        ok: Vec<u8>,
        notify: Vec<u8>,
        branch: String,
        url: String,
        targets: Vec<SocketAddrV4>,
        sent: u32,
        interval: Duration,
        give_up: Instant,
    },
    Done {
        ok: Vec<u8>,
        status: u16,
    },
}

impl<A: Announcer> Exchange<A> {
    /// To be called within a tokio runtime. `socket` does not block.
    pub fn new(
        announcer: Arc<A>,
        socket: UdpSocket,
        interfaces: watch::Receiver<Vec<Interface>>,
        counters: Arc<Counters>,
    ) -> io::Result<Exchange<A>> {
        let port = socket.local_addr()?.port();
        Ok(Exchange {
            announcer,
            socket: Arc::new(heard(socket)?),
            port,
            interfaces,
            counters,
            wanted: Wanted::default(),
            second: (Instant::now(), HashMap::new()),
            conversations: HashMap::new(),
            branches: HashMap::new(),
            calls: HashMap::new(),
            unanswered: HashMap::new(),
            newest: BTreeMap::new(),
            silent: VecDeque::new(),
            timers: BinaryHeap::new(),
            serial: 0,
            random: RandomState::new(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            is_pressed: false,
            decided: mpsc::channel(QUESTIONS),
            wishes: mpsc::channel(WISHES),
        })
    }

    /// The same with other ideas of whose SUBSCRIBEs are answered.
    pub fn wanting(self, wanted: Wanted) -> Exchange<A> {
        Exchange { wanted, ..self }
    }

    /// Where wishes are taken.
    pub fn wishes(&self) -> mpsc::Sender<Again> {
        self.wishes.0.clone()
    }

    /// Converses until told to stop.
    pub async fn run(mut self, mut datagrams: mpsc::Receiver<Datagram>, mut stop: watch::Receiver<bool>) {
        let mut buffer = vec![0; provost_sip::MAX_DATAGRAM + 1];
        let socket = Arc::clone(&self.socket);
        loop {
            let soon = self.timers.peek().map(|Reverse((at, ..))| *at);
            let next = soon.into_iter().chain(self.silent.front().map(|(until, ..)| *until)).min();
            tokio::select! {
                // Answers first: each one read in time saves a retransmission.
                biased;
                () = stopped(&mut stop) => return,
                ready = socket.readable() => match ready {
                    Ok(mut ready) => {
                        for _ in 0..AT_ONCE {
                            match ready.try_io(|socket| socket.get_ref().recv_from(&mut buffer)) {
                                Ok(Ok((length, from))) => self.read_answer(&buffer[..length], from, None),
                                // ICMP errors of earlier packets surface here; the timers deal with the silence.
                                Ok(Err(error)) => tracing::debug!(%error, "cannot receive an answer"),
                                Err(_) => break,
                            }
                        }
                    }
                    Err(error) => tracing::debug!(%error, "cannot wait for an answer"),
                },
                Some(decided) = self.decided.1.recv() => self.proceed(decided),
                Some(again) = self.wishes.1.recv() => self.again(again),
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.ring(),
                // Heard only as fast as they can be decided; the channel holds the rest of a burst.
                datagram = datagrams.recv(), if self.questions.available_permits() > 0 => match datagram {
                    Some(datagram) => {
                        self.is_pressed = datagrams.len() > AT_ONCE;
                        self.hear(datagram);
                        for _ in 1..AT_ONCE {
                            if self.questions.available_permits() == 0 {
                                break;
                            }
                            let Ok(datagram) = datagrams.try_recv() else { break };
                            self.hear(datagram);
                        }
                    }
                    None => return,
                },
            }
        }
    }

    fn hear(&mut self, datagram: Datagram) {
        count(&self.counters.datagrams);
        let subscribe = match provost_sip::read(&datagram.bytes) {
            Ok(Message::Request(request)) => Subscribe::from_request(&request),
            Ok(Message::Response(_)) => {
                match &datagram.came {
                    Came::Here(_) => count(&self.counters.other),
                    // A relay brings both what phones ask and what they answer.
                    Came::Through(leg) => {
                        self.read_answer(&datagram.bytes, SocketAddr::V4(datagram.from), Some(leg));
                    }
                }
                return;
            }
            Err(error) => {
                count(&self.counters.unreadable);
                tracing::debug!(from = %datagram.from, reason = error.as_str(), "datagram dropped");
                return;
            }
        };
        let subscribe = match subscribe {
            Ok(subscribe) => subscribe,
            Err(error) => {
                count(&self.counters.other);
                tracing::debug!(from = %datagram.from, reason = error.as_str(), "datagram is not for us");
                return;
            }
        };
        count(&self.counters.subscribes);
        if let Err(why) = self.is_wanted(&datagram) {
            count(&self.counters.unwanted);
            tracing::debug!(from = %datagram.from, reason = why, "datagram dropped");
            return;
        }
        let said = subscribe.mac.as_ref().map(|found| MacAddr::new(found.address));
        let mac = said.or_else(|| match &datagram.came {
            Came::Here(_) => neighbours::mac_of((*datagram.from.ip()).into()),
            Came::Through(leg) => leg.mac(),
        });
        if mac.is_none() && matches!(datagram.came, Came::Here(_)) {
            // An empty datagram to the discard port (RFC 863) makes the kernel ask for the MAC; the phone's next copy finds it known.
            let _ = self.socket.get_ref().send_to(&[], SocketAddrV4::new(*datagram.from.ip(), 9));
        }
        let key =
            Key { from: *datagram.from.ip(), mac, call_id: subscribe.call_id.as_str().into(), cseq: subscribe.cseq };
        let (epoch, now) = (self.announcer.epoch(), Instant::now());
        if let Some(conversation) = self.conversations.get_mut(&key)
            && !has_begun_anew(&conversation.came, &datagram.came)
            && conversation.covers(datagram.from, epoch, now)
        {
            count(&self.counters.duplicates);
            // With two interfaces on one segment everything is heard twice; the phone has sent it once.
            if !is_same_way(&conversation.came, &datagram.came) {
                return;
            }
            conversation.copies += 1;
            let to = ok_target(&subscribe, datagram.from, conversation.copies);
            if let State::Asking { askers } = &mut conversation.state
                && askers.len() < COPIES
            {
                askers.push(to);
            }
            // Each copy is answered, since the answer to the one before may be lost; the NOTIFY has timers of its own.
            let conversation = &self.conversations[&key];
            if let State::Notifying { ok, .. } | State::Done { ok, .. } = &conversation.state {
                self.send(ok, conversation, to);
            }
            return;
        }
        let Some((interface, local)) = self.heard_on(&datagram.came, *datagram.from.ip()) else {
            tracing::debug!(from = %datagram.from, came = ?datagram.came, "heard where there is no address to answer from");
            return;
        };
        let Ok(permit) = Arc::clone(&self.questions).try_acquire_owned() else {
            // Not remembered, so that the phone's next copy gets its chance.
            count(&self.counters.overflow);
            return;
        };
        if self.conversations.len() >= CONVERSATIONS && !self.make_room() {
            count(&self.counters.overflow);
            return;
        }
        let until = now + GIVE_UP;
        let askers = vec![ok_target(&subscribe, datagram.from, 0)];
        let conversation = Conversation {
            subscribe: Some(Box::new(subscribe)),
            mac,
            from: datagram.from,
            local,
            came: datagram.came,
            state: State::Asking { askers },
            waiters: Vec::new(),
            size: datagram.bytes.len(),
            heard: now,
            epoch,
            copies: 0,
            until,
            timer: 0,
        };
        let Some(heard) = conversation.question(interface, false) else { return };
        // It may be one that was settled, under the same key, or one that went through a relay that has begun anew.
        self.abandon(&key);
        self.forget(&key);
        if let Some(before) = mac.and_then(|mac| self.newest.insert((mac, key.from), key.clone())) {
            self.supersede(&before);
        }
        self.conversations.insert(key.clone(), Box::new(conversation));
        self.wake(until, &key);
        self.ask(key, heard, permit);
    }

    /// Whether this sender may ask now. An answer is larger than the question, so nobody is to have many sent to whom he names.
    fn is_wanted(&mut self, datagram: &Datagram) -> Result<(), &'static str> {
        let (from, now) = (*datagram.from.ip(), Instant::now());
        // Where a relay may hear phones, its key says.
        if !self.wanted.off_link
            && let Came::Here(index) = datagram.came
        {
            let interfaces = self.interfaces.borrow();
            let heard = interfaces.iter().find(|interface| interface.index == index);
            if heard.is_some_and(|interface| !interface.reaches(from)) {
                return Err("it comes from beyond a router (pnp.off_link)");
            }
        }
        if now.duration_since(self.second.0) >= Duration::from_secs(1) {
            self.second.0 = now;
            self.second.1.clear();
        }
        let sent = self.second.1.entry(from).or_default();
        *sent += 1;
        let most = self.wanted.per_source;
        if most > 0 && *sent > most { Err("its address sends too many (pnp.per_source)") } else { Ok(()) }
    }

    /// The name of an interface, and our address in the phone's subnet on it. Beyond a relay, its name, and our address as routed there.
    fn heard_on(&self, came: &Came, phone: Ipv4Addr) -> Option<(String, Ipv4Addr)> {
        match came {
            Came::Here(index) => {
                let interfaces = self.interfaces.borrow();
                let interface = interfaces.iter().find(|interface| interface.index == *index)?;
                Some((interface.name.clone(), interface.address_for(phone)?))
            }
            Came::Through(leg) => Some((format!("relay {}", leg.relay()), routed(phone).ok()?)),
        }
    }

    fn ask(&mut self, key: Key, heard: Heard, permit: OwnedSemaphorePermit) {
        let announcer = Arc::clone(&self.announcer);
        let mut question = Box::pin(async move { announcer.announce(heard).await });
        // The desk answers at once unless a library words the URL; that is waited for elsewhere. A panic of its costs this phone its
        // answer, and no other.
        let ask = AssertUnwindSafe(|| question.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        let answer = match self.is_pressed {
            true => Poll::Pending,
            false => match std::panic::catch_unwind(ask) {
                Ok(answer) => answer,
                Err(_) => return,
            },
        };
        match answer {
            Poll::Ready(announcement) => {
                drop(permit);
                self.proceed(Decided { key, announcement });
            }
            Poll::Pending => {
                let decided = self.decided.0.clone();
                tokio::spawn(async move {
                    let announcement = question.await;
                    let _ = decided.send(Decided { key, announcement }).await;
                    drop(permit);
                });
            }
        }
    }

    /// Somebody wants a phone to be answered that was not.
    fn again(&mut self, Again { mac, told }: Again) {
        let keys = match self.unanswered(mac) {
            Ok(keys) => keys,
            Err(why) => {
                let _ = told.send(Err(why));
                return;
            }
        };
        let waiter = Waiter::new(told, keys.len());
        for key in keys {
            let Some(conversation) = self.conversations.get_mut(&key) else { continue };
            conversation.waiters.push(waiter.clone());
            // If the desk is being asked already, or the phone being told, its outcome is what was wished for.
            if let (State::Silent, Some(subscribe)) = (&conversation.state, &conversation.subscribe) {
                let askers = vec![ok_target(subscribe, conversation.from, 0)];
                self.ask_again(&key, askers);
            }
        }
    }

    /// The conversations of a phone that may still be answered, of each address from which it spoke after it was last answered. Whether
    /// the phone is there is for the desk to judge; those go first of which the kernel knows it.
    fn unanswered(&self, mac: MacAddr) -> Result<Vec<Key>, NotNotified> {
        let now = Instant::now();
        let all = self.newest.range((mac, Ipv4Addr::UNSPECIFIED)..=(mac, Ipv4Addr::BROADCAST));
        let all: Vec<(&Key, &Conversation)> =
            all.filter_map(|(_, key)| Some((key, &**self.conversations.get(key)?))).collect();
        let status = |conversation: &Conversation| match conversation.state {
            State::Done { status, .. } => Some((conversation.heard, status)),
            _ => None,
        };
        let answered = all.iter().filter_map(|(_, conversation)| status(conversation)).max();
        let is_open = |conversation: &Conversation| {
            answered.is_none_or(|(heard, _)| conversation.heard > heard)
                && !(matches!(conversation.state, State::Silent) && conversation.heard + REMEMBERED <= now)
        };
        let open: Vec<_> = all.into_iter().filter(|(_, conversation)| is_open(conversation)).collect();
        if open.is_empty() {
            return Err(answered.map_or(NotNotified::Unheard, |(_, status)| NotNotified::Answered { status }));
        }
        let mut free: Vec<_> =
            open.into_iter().filter(|(_, conversation)| conversation.waiters.len() < WAITERS).collect();
        if free.is_empty() {
            return Err(NotNotified::Busy);
        }
        if free.len() > 1 {
            let doubt = |key: &Key| match neighbours::mac_of(key.from.into()) {
                Some(there) => 2 * u8::from(there != mac),
                None => 1,
            };
            free.sort_by_cached_key(|(key, conversation)| (doubt(key), Reverse(conversation.heard)));
            free.truncate(PLACES);
        }
        Ok(free.into_iter().map(|(key, _)| key.clone()).collect())
    }

    /// Asks the desk about a phone that spoke earlier and for which somebody waits.
    fn ask_again(&mut self, key: &Key, askers: Vec<SocketAddrV4>) {
        let (epoch, until) = (self.announcer.epoch(), Instant::now() + GIVE_UP);
        let permit = Arc::clone(&self.questions).try_acquire_owned();
        let Some(conversation) = self.conversations.get(key) else { return };
        let place = self.heard_on(&conversation.came, *conversation.from.ip());
        let Some(conversation) = self.conversations.get_mut(key) else { return };
        let (Some((interface, local)), Ok(permit)) = (&place, permit) else {
            conversation.tell(&Err(if place.is_none() { NotNotified::Gone } else { NotNotified::Busy }));
            if !matches!(conversation.state, State::Silent) {
                self.fall_silent(key);
            }
            return;
        };
        conversation.local = *local;
        conversation.epoch = epoch;
        conversation.state = State::Asking { askers };
        conversation.until = until;
        let Some(heard) = conversation.question(interface.clone(), true) else { return };
        self.wake(until, key);
        self.ask(key.clone(), heard, permit);
    }

    /// Nothing more is said to this phone until it speaks again or somebody asks for it.
    fn fall_silent(&mut self, key: &Key) {
        let Some(conversation) = self.conversations.get_mut(key) else { return };
        conversation.state = State::Silent;
        let is_newest = conversation.mac.is_some_and(|mac| self.newest.get(&(mac, key.from)) == Some(key));
        if is_newest && conversation.size <= LONGEST_REMEMBERED {
            let until = conversation.heard + REMEMBERED;
            conversation.until = until;
            self.serial += 1;
            conversation.timer = self.serial;
            self.silent.push_back((until, self.serial, key.clone()));
            self.sweep();
        } else {
            self.supersede(key);
        }
    }

    /// Remembers one that is silent no longer than its copies may come.
    fn supersede(&mut self, key: &Key) {
        let Some(conversation) = self.conversations.get_mut(key) else { return };
        if matches!(conversation.state, State::Silent) {
            conversation.until = conversation.heard + GIVE_UP;
            let until = conversation.until;
            self.wake(until, key);
        }
    }

    /// Forgets the one that has been silent longest: it is the cheapest to lose. False where none is silent.
    fn make_room(&mut self) -> bool {
        while let Some((_, serial, key)) = self.silent.pop_front() {
            if self.conversations.get(&key).is_some_and(|conversation| conversation.timer == serial) {
                self.forget(&key);
                return true;
            }
        }
        false
    }

    /// Says no more in a conversation that another is to take the place of.
    fn abandon(&mut self, key: &Key) {
        if let Some(conversation) = self.conversations.get(key)
            && let State::Notifying { branch, .. } = &conversation.state
        {
            let branch = branch.clone();
            self.forget_answers(&branch, key);
        }
    }

    fn forget(&mut self, key: &Key) {
        let Some(mut conversation) = self.conversations.remove(key) else { return };
        if let Some(mac) = conversation.mac
            && self.newest.get(&(mac, key.from)) == Some(key)
        {
            self.newest.remove(&(mac, key.from));
        }
        let late = format!("what to tell it was not settled within {} s", GIVE_UP.as_secs());
        conversation.tell(&Err(NotNotified::Unsent { reason: late }));
    }

    /// Takes out what has been overtaken, before it outgrows what counts.
    fn sweep(&mut self) {
        let conversations = &self.conversations;
        let counts = |serial: u64, key: &Key| conversations.get(key).is_some_and(|known| known.timer == serial);
        let most = 2 * conversations.len() + 64;
        if self.silent.len() > most {
            self.silent.retain(|(_, serial, key)| counts(*serial, key));
        }
        if self.timers.len() > most {
            self.timers.retain(|Reverse((_, serial, key))| counts(*serial, key));
        }
    }

    /// The desk has spoken.
    fn proceed(&mut self, Decided { key, announcement }: Decided) {
        // The desk may have been slower than the conversation's time, and the phone have begun another.
        let Some(State::Asking { askers }) = self.conversations.get_mut(&key).map(|known| &mut known.state) else {
            return;
        };
        let askers = std::mem::take(askers);
        let url = match announcement {
            Announcement::Url(url) => url,
            Announcement::Silence { reason } => {
                count(&self.counters.silent);
                let epoch = self.announcer.epoch();
                let Some(conversation) = self.conversations.get_mut(&key) else { return };
                if !conversation.waiters.is_empty() && conversation.epoch != epoch {
                    // The desk was asked before the change on whose account somebody waits.
                    self.ask_again(&key, askers);
                    return;
                }
                conversation.tell(&Err(NotNotified::Silence { reason }));
                self.fall_silent(&key);
                return;
            }
        };
        let (tag, branch) = (self.token(), format!("z9hG4bK{}", self.token()));
        let Some(conversation) = self.conversations.get_mut(&key) else { return };
        let Some(subscribe) = conversation.subscribe.as_deref() else { return };
        let reply = compose::Reply {
            // What the phone answers has to come to whoever speaks to it.
            local: SocketAddr::V4(match &conversation.came {
                Came::Here(_) => SocketAddrV4::new(conversation.local, self.port),
                Came::Through(leg) => leg.link(),
            }),
            source: SocketAddr::V4(conversation.from),
            tag: &tag,
            product: PRODUCT,
        };
        let targets = targets(subscribe, conversation.from);
        let fallback = Uri::at(SocketAddr::V4(conversation.from));
        let target = subscribe.contact.is_none().then_some(&fallback);
        let composed = compose::ok(subscribe, &reply).and_then(|ok| {
            Ok((
                ok,
                compose::notify(
                    subscribe,
                    &reply,
                    &compose::Notify { branch: &branch, cseq: CSEQ, url: &url, target },
                )?,
            ))
        });
        let (ok, notify) = match composed {
            Ok(composed) => composed,
            Err(error) => {
                let (mac, from) = (conversation.mac, conversation.from);
                conversation.tell(&Err(NotNotified::Unsent { reason: error.to_string() }));
                self.fall_silent(&key);
                self.announcer.outcome(mac, from, &url, Outcome::Unsent { reason: error.to_string() });
                return;
            }
        };
        let now = Instant::now();
        conversation.until = now + GIVE_UP + T2;
        conversation.state = State::Notifying {
            ok,
            notify,
            branch: branch.clone(),
            url,
            targets,
            sent: 0,
            interval: T1,
            give_up: now + GIVE_UP,
        };
        self.branches.insert(branch, key.clone());
        *self.unanswered.entry(key.from).or_default() += 1;
        self.calls.insert((key.from, Arc::clone(&key.call_id)), key.clone());
        let conversation = &*self.conversations[&key];
        if let State::Notifying { ok, .. } = &conversation.state {
            for to in askers {
                self.send(ok, conversation, to);
            }
        }
        self.notify(&key);
    }

    /// Sends the NOTIFY, for the first time or again, and sets the timer for the next.
    fn notify(&mut self, key: &Key) {
        let Some(conversation) = self.conversations.get_mut(key) else { return };
        let State::Notifying { targets, sent, interval, give_up, .. } = &mut conversation.state else { return };
        let to = targets[*sent as usize % targets.len()];
        count(if *sent == 0 { &self.counters.notifies } else { &self.counters.retransmissions });
        *sent += 1;
        // Timer E: doubles up to T2; the last one rings with timer F.
        let is_repeated = self.unanswered.get(&key.from).is_none_or(|unanswered| *unanswered <= REPEATED);
        let at = if is_repeated { (Instant::now() + *interval).min(*give_up) } else { *give_up };
        *interval = (*interval * 2).min(T2);
        let conversation = &*self.conversations[key];
        if let State::Notifying { notify, .. } = &conversation.state {
            self.send(notify, conversation, to);
        }
        self.wake(at, key);
    }

    /// A timer has rung: send again, give up, or forget.
    fn ring(&mut self) {
        let now = Instant::now();
        while let Some((until, serial, key)) = self.silent.front() {
            let counts = self.conversations.get(key).is_some_and(|conversation| conversation.timer == *serial);
            if counts && *until > now {
                break;
            }
            if let Some((.., key)) = self.silent.pop_front()
                && counts
            {
                self.forget(&key);
            }
        }
        while self.timers.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, serial, key))) = self.timers.pop() else { return };
            let Some(conversation) = self.conversations.get_mut(&key) else { continue };
            if conversation.timer != serial {
                continue;
            }
            match &conversation.state {
                State::Notifying { give_up, branch, url, .. } if *give_up <= now => {
                    count(&self.counters.timed_out);
                    let (mac, from, url, branch) = (conversation.mac, conversation.from, url.clone(), branch.clone());
                    conversation.tell(&Err(NotNotified::TimedOut));
                    self.forget_answers(&branch, &key);
                    // As good as not told: somebody may have it tried again.
                    self.fall_silent(&key);
                    self.announcer.outcome(mac, from, &url, Outcome::TimedOut);
                }
                State::Notifying { .. } => self.notify(&key),
                _ if conversation.until <= now => self.forget(&key),
                // Its end was put off since this timer was set.
                _ => {
                    let until = conversation.until;
                    self.wake(until, &key);
                }
            }
        }
    }

    /// A phone answers our NOTIFY, to us or to the relay that heard it.
    fn read_answer(&mut self, bytes: &[u8], from: SocketAddr, through: Option<&Leg>) {
        let answer = match provost_sip::read(bytes) {
            Ok(Message::Response(response)) => Answer::from_response(&response),
            Ok(Message::Request(_)) => {
                count(&self.counters.other);
                return;
            }
            Err(error) => {
                count(&self.counters.unreadable);
                tracing::debug!(%from, reason = error.as_str(), "answer dropped");
                return;
            }
        };
        let Ok(answer) = answer else {
            count(&self.counters.other);
            return;
        };
        let IpAddr::V4(phone) = from.ip() else { return };
        let by_branch = answer.branch.as_ref().and_then(|branch| self.branches.get(branch));
        let by_call = || self.calls.get(&(phone, answer.call_id.as_str().into()));
        let key = by_branch.or_else(by_call).cloned();
        let Some(key) = key else { return };
        let Some(conversation) = self.conversations.get_mut(&key) else { return };
        // Only the phone itself may end its conversation. Its port may be another: phones answer from where they listen.
        if phone != *conversation.from.ip() || !answer.is_final() {
            return;
        }
        let is_its_way = match (&conversation.came, through) {
            (Came::Here(_), None) => true,
            (Came::Through(leg), Some(through)) => leg.follows(through),
            _ => false,
        };
        if !is_its_way {
            return;
        }
        let State::Notifying { ok, branch, url, .. } = &mut conversation.state else { return };
        if !answer.answers(branch, &key.call_id, CSEQ) {
            return;
        }
        let (ok, branch, url) = (std::mem::take(ok), std::mem::take(branch), std::mem::take(url));
        conversation.state = State::Done { ok, status: answer.status };
        conversation.subscribe = None;
        conversation.until = Instant::now() + GIVE_UP;
        let (mac, to) = (conversation.mac, conversation.from);
        conversation.tell(&if answer.is_success() {
            Ok(Notified { url: url.clone(), status: answer.status, to })
        } else {
            Err(NotNotified::Refused { status: answer.status, reason: answer.reason.clone() })
        });
        self.forget_answers(&branch, &key);
        count(if answer.is_success() { &self.counters.answered } else { &self.counters.refused });
        self.announcer.outcome(mac, to, &url, Outcome::Answered { status: answer.status, reason: answer.reason });
    }

    /// No answer is awaited any more.
    fn forget_answers(&mut self, branch: &str, key: &Key) {
        if self.branches.remove(branch).is_some()
            && let Some(unanswered) = self.unanswered.get_mut(&key.from)
        {
            *unanswered -= 1;
            if *unanswered == 0 {
                self.unanswered.remove(&key.from);
            }
        }
        let call = (key.from, Arc::clone(&key.call_id));
        // Another phone at that address may be in a call of the same name.
        if self.calls.get(&call) == Some(key) {
            self.calls.remove(&call);
        }
    }

    fn send(&self, bytes: &[u8], conversation: &Conversation, to: SocketAddrV4) {
        let sent = match &conversation.came {
            // The interface that heard the phone, and our address in its subnet: not whatever the routing table would choose.
            Came::Here(interface) => {
                Way { interface: *interface, local: conversation.local }.send_now(self.socket.get_ref(), bytes, to)
            }
            Came::Through(leg) => leg.try_send(bytes, to),
        };
        if let Err(error) = sent {
            // As good as lost on the way: timers and copies take care of it.
            tracing::debug!(%to, %error, "cannot send");
        }
    }

    fn wake(&mut self, at: Instant, key: &Key) {
        let Some(conversation) = self.conversations.get_mut(key) else { return };
        self.serial += 1;
        conversation.timer = self.serial;
        self.timers.push(Reverse((at, self.serial, key.clone())));
        self.sweep();
    }

    /// A token that nobody else uses and nobody can guess well enough to answer in the phone's place.
    fn token(&mut self) -> String {
        self.serial += 1;
        format!("{:016x}{:x}", self.random.hash_one(self.serial), self.serial)
    }
}

/// Where the 200 to the SUBSCRIBE or its `copies`-th copy goes: the port that the phone spoke from, and, should it not hear that and
/// speak again, the port of its Via in turn. RFC 3261 §18.2.2 would have it the other way round where there is no `rport`; but the
/// phones whose two ports differ are those that write a fixed one into the Via and listen on both.
fn ok_target(subscribe: &Subscribe, from: SocketAddrV4, copies: usize) -> SocketAddrV4 {
    match copies % 2 {
        0 => from,
        _ => only_v4(subscribe.reply_address(SocketAddr::V4(from)), from),
    }
}

/// Where the NOTIFY may go: the port that the phone spoke from, then the one that its Contact names, in turns. Never another host
/// than the one that spoke.
fn targets(subscribe: &Subscribe, from: SocketAddrV4) -> Vec<SocketAddrV4> {
    let mut targets = vec![from];
    if let Some(contact) = subscribe.contact.as_ref().and_then(Uri::socket_addr) {
        let contact = only_v4(contact, from);
        if contact != from {
            targets.push(contact);
        }
    }
    targets
}

/// Whether it is heard where it was heard before.
fn is_same_way(before: &Came, now: &Came) -> bool {
    match (before, now) {
        (Came::Here(before), Came::Here(now)) => before == now,
        (Came::Through(before), Came::Through(now)) => before.is_same(now),
        _ => false,
    }
}

/// Whether the relay that heard it was started anew: the phone would answer to where nobody listens any more.
fn has_begun_anew(before: &Came, now: &Came) -> bool {
    matches!((before, now), (Came::Through(before), Came::Through(now)) if !before.is_same(now) && now.follows(before))
}

/// `address` if it is the phone's own host, else the address that it spoke from.
fn only_v4(address: SocketAddr, from: SocketAddrV4) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) if address.ip() == from.ip() => address,
        _ => from,
    }
}

impl<A> fmt::Debug for Exchange<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("port", &self.port).field("conversations", &self.conversations.len()).finish()
    }
}
