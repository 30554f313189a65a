//! The relay itself: hears phones in its own subnets, hands what they say to the server, and says to them what the server wants said.
//!
//! It keeps no conversations, and remembers nothing but which phones it has heard. To those alone it speaks, so that nobody can have it
//! speak to others; and only of what is a SUBSCRIBE for a profile, and comes from a host of its own link, the server hears.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use provost_plugin::MacAddr;
use provost_sip::{Message, Subscribe};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    envelope::{Direction, Envelope, Key, LONGEST, Place, Window, clocks},
    random, seconds,
};
use crate::{
    neighbours,
    network::Heard,
    pnp::{
        exchange::{GIVE_UP, REMEMBERED, reply_socket},
        interfaces::{self, Changes, Interface},
        listener::{Came, Datagram, Ears, ListenError, WAITING, group},
        way::Way,
    },
    run::stopped,
    settings::Listen,
};

/// Phones that are remembered.
const PHONES: usize = 4096;
/// How long: as long as the server may still want to answer them, when somebody approves them.
const KNOWN: Duration = Duration::from_secs(REMEMBERED.as_secs() + GIVE_UP.as_secs());
/// Datagrams in a second: of all phones, of one, and to all phones.
const HEARD_PER_SECOND: u32 = 1000;
const HEARD_OF_ONE: u32 = 50;
const SAID_PER_SECOND: u32 = 2000;
/// How long the kernel may take to learn a phone's MAC address, how often it is asked, and for how many phones at a time.
const RESOLVE: Duration = Duration::from_millis(400);
const ASK_AGAIN: Duration = Duration::from_millis(20);
const RESOLVING: usize = 512;
/// What was heard lately, and is said again to a server that has begun anew: how much, and how long.
const LATELY: usize = 256;
const AGAIN: Duration = Duration::from_secs(3);
/// How often it says that it is there; and at first, as long as nobody answers.
const HELLO: Duration = Duration::from_secs(20);
const HELLO_FIRST: Duration = Duration::from_secs(1);
/// After so long without an answer the server is told to be away; every so often again.
const SILENCE: Duration = Duration::from_secs(5);
const TELL: Duration = Duration::from_secs(300);
const RECEIVE_BUFFER: usize = 4 << 20;

/// What the relay is to do.
#[derive(Debug)]
pub struct Plan {
    /// `HOST:PORT`.
    pub server: String,
    pub key: Key,
    /// Empty is every interface that is up and can do multicast.
    pub interfaces: Vec<String>,
    pub listen: Listen,
    pub group: Ipv4Addr,
    pub port: u16,
}

#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("cannot {act}: {source}")]
    Io { act: &'static str, source: io::Error },
}

fn cannot(act: &'static str) -> impl Fn(io::Error) -> RelayError {
    move |source| RelayError::Io { act, source }
}

/// A relay whose sockets are open: hearing the group may take more rights than it keeps.
#[derive(Debug)]
pub struct Opened {
    plan: Plan,
    ears: Ears,
    phones: std::net::UdpSocket,
    server: std::net::UdpSocket,
}

impl Opened {
    pub fn open(plan: Plan) -> Result<Opened, RelayError> {
        let ears = Ears::open(plan.listen, group(plan.group, plan.port), RECEIVE_BUFFER)?;
        let phones = reply_socket(0, RECEIVE_BUFFER).map_err(cannot("open a socket for phones"))?;
        let server = reply_socket(0, RECEIVE_BUFFER).map_err(cannot("open a socket for the server"))?;
        Ok(Opened { plan, ears, phones, server })
    }

    /// Relays until told to stop.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), RelayError> {
        let Opened { plan, mut ears, phones, server } = self;
        if let Some(why) = &ears.instead_of_raw {
            tracing::warn!(reason = %why, "no raw socket may be opened, so the group's port itself is bound; what binds 0.0.0.0:{} without address reuse cannot start beside it (CAP_NET_RAW would avoid that)", plan.port);
        }
        let mut changes = Changes::subscribe().map_err(cannot("follow interfaces that come and go"))?;
        let network = interfaces::list().map_err(cannot("look at the network"))?;
        tell_joins(ears.follow(&network, &plan.interfaces));
        let end = Ended(Arc::default());
        let (heard, mut datagrams) = mpsc::channel(WAITING);
        ears.listen(Arc::clone(&end.0), Arc::new(AtomicU64::new(0)), Arc::new(Heard::default()), heard)
            .map_err(cannot("listen"))?;
        let [phones, server] = [phones, server].map(UdpSocket::from_std);
        let phones = phones.map_err(cannot("use the socket for phones"))?;
        let port = phones.local_addr().map_err(cannot("use the socket for phones"))?.port();
        let mut relay = Relay {
            server: Server::new(plan.server, plan.key, server.map_err(cannot("use the socket for the server"))?)
                .map_err(cannot("draw a random number"))?,
            phones,
            port,
            network,
            known: HashMap::new(),
            resolving: VecDeque::new(),
            second: Second::default(),
        };
        let on = ears.joined().collect::<Vec<_>>().join(" ");
        tracing::info!(server = relay.server.name, interfaces = on, "relaying");
        let (mut of_phone, mut of_server) = (vec![0; provost_sip::MAX_DATAGRAM + 1], vec![0; LONGEST + 1]);
        loop {
            let next = relay.next();
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return Ok(()),
                received = relay.phones.recv_from(&mut of_phone) => {
                    if let Ok((length, SocketAddr::V4(from))) = received {
                        relay.answered(&of_phone[..length], from);
                    }
                }
                received = relay.server.socket.recv_from(&mut of_server) => {
                    if let Ok((length, _)) = received {
                        relay.told(&of_server[..length]);
                    }
                }
                () = tokio::time::sleep_until(next) => relay.ring().await,
                () = changes.next() => {
                    relay.network = interfaces::list().map_err(cannot("look at the network"))?;
                    tell_joins(ears.follow(&relay.network, &plan.interfaces));
                }
                datagram = datagrams.recv() => match datagram {
                    Some(datagram) => relay.heard(datagram),
                    None => return Ok(()),
                },
            }
        }
    }
}

/// Has the thread that listens end when the relay does.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn tell_joins(done: Vec<(String, Result<&'static str, io::Error>)>) {
    for (interface, outcome) in done {
        match outcome {
            Ok(what) => tracing::info!(interface, "{what} the group"),
            Err(error) => tracing::error!(interface, %error, "cannot join the group; phones there are not heard"),
        }
    }
}

struct Relay {
    server: Server,
    phones: UdpSocket,
    /// Where phones answer.
    port: u16,
    network: Vec<Interface>,
    known: HashMap<Ipv4Addr, Phone>,
    /// What waits for the kernel to learn its phone's MAC address: until when.
    resolving: VecDeque<(Instant, SocketAddrV4, Vec<u8>)>,
    second: Second,
}

/// A phone that was heard.
#[derive(Clone, Copy)]
struct Phone {
    /// Our end of its link.
    interface: u32,
    local: Ipv4Addr,
    prefix: u8,
    mac: Option<MacAddr>,
    last: Instant,
    second: (u64, u32),
    is_told: bool,
}

/// What was heard and said in the second that began then.
#[derive(Default)]
struct Second {
    began: u64,
    heard: u32,
    said: u32,
    is_told: bool,
}

impl Second {
    fn now(&mut self) -> &mut Second {
        let now = seconds();
        if self.began != now {
            *self = Second { began: now, ..Second::default() };
        }
        self
    }

    fn too_many(&mut self, what: &str) {
        if !self.is_told {
            self.is_told = true;
            tracing::warn!(
                "more {what} in a second than are relayed ({HEARD_PER_SECOND} of phones, {HEARD_OF_ONE} of one, {SAID_PER_SECOND} to phones); the rest of this second is dropped"
            );
        }
    }
}

impl Relay {
    /// A datagram was sent to the group.
    fn heard(&mut self, Datagram { bytes, from, came }: Datagram) {
        let Came::Here(index) = came else { return };
        let subscribe = match provost_sip::read(&bytes) {
            Ok(Message::Request(request)) => Subscribe::from_request(&request),
            _ => return tracing::debug!(%from, "datagram is no request of a phone's"),
        };
        if let Err(error) = subscribe {
            return tracing::debug!(%from, reason = error.as_str(), "datagram is not for us");
        }
        let Some((local, prefix)) = self.link(index, *from.ip()) else {
            return tracing::debug!(%from, "datagram comes from no host of its link");
        };
        if self.second.now().heard >= HEARD_PER_SECOND {
            return self.second.too_many("SUBSCRIBEs");
        }
        let now = Instant::now();
        if self.known.len() >= PHONES && !self.known.contains_key(from.ip()) {
            self.make_room(now);
        }
        let is_new = self.known.get(from.ip()).is_none_or(|phone| now.duration_since(phone.last) > GIVE_UP);
        let phone = self.known.entry(*from.ip()).or_insert(Phone {
            interface: index,
            local,
            prefix,
            mac: None,
            last: now,
            second: (0, 0),
            is_told: false,
        });
        if phone.second.0 != self.second.began {
            phone.second = (self.second.began, 0);
        }
        phone.second.1 += 1;
        if phone.second.1 > HEARD_OF_ONE {
            return self.second.too_many("SUBSCRIBEs");
        }
        self.second.heard += 1;
        if is_new {
            tracing::info!(peer = %from, server = self.server.name, "heard a phone");
        }
        (phone.interface, phone.local, phone.prefix, phone.last, phone.is_told) = (index, local, prefix, now, false);
        phone.mac = neighbours::mac_of((*from.ip()).into());
        if phone.mac.is_some() {
            return self.hand_over(from, &bytes);
        }
        // An empty datagram to the discard port (RFC 863) makes the kernel ask for the MAC, without which the server would take the phone
        // for one whose word alone counts.
        let way = Way { interface: index, local };
        let _ = way.send_now(&self.phones, &[], SocketAddrV4::new(*from.ip(), 9));
        if self.resolving.len() < RESOLVING {
            self.resolving.push_back((now + RESOLVE, from, bytes));
        } else {
            self.hand_over(from, &bytes);
        }
    }

    /// Our address in the phone's subnet, and the length of its prefix; none for who is no host there.
    fn link(&self, index: u32, phone: Ipv4Addr) -> Option<(Ipv4Addr, u8)> {
        let interface = self.network.iter().find(|interface| interface.index == index && interface.reaches(phone))?;
        let local = interface.address_for(phone)?;
        let own = interface.addresses.iter().find(|own| own.address == local)?;
        let prefix = u32::from(own.mask).count_ones() as u8;
        let place =
            Place { phone: SocketAddrV4::new(phone, 1), link: SocketAddrV4::new(local, self.port), prefix, mac: None };
        let is_ours = self.network.iter().any(|own| own.addresses.iter().any(|own| own.address == phone));
        (place.is_on_link() && !is_ours).then_some((local, prefix))
    }

    fn make_room(&mut self, now: Instant) {
        self.known.retain(|_, phone| now.duration_since(phone.last) < KNOWN);
        if self.known.len() >= PHONES
            && let Some(oldest) = self.known.iter().min_by_key(|(_, phone)| phone.last).map(|(address, _)| *address)
        {
            self.known.remove(&oldest);
        }
    }

    /// Gives the server what a phone said.
    fn hand_over(&mut self, from: SocketAddrV4, bytes: &[u8]) {
        let Some(phone) = self.known.get(from.ip()) else { return };
        let link = SocketAddrV4::new(phone.local, self.port);
        let place = Place { phone: from, link, prefix: phone.prefix, mac: phone.mac };
        let mac = phone.mac.map(tracing::field::display);
        tracing::debug!(peer = %from, mac, is_there = self.server.is_there, "handed over");
        self.server.say(place, bytes);
    }

    /// A phone answers what it was told.
    fn answered(&mut self, bytes: &[u8], from: SocketAddrV4) {
        let Some(phone) = self.known.get(from.ip()) else {
            return tracing::debug!(%from, "an answer of somebody who was not heard before");
        };
        if !matches!(provost_sip::read(bytes), Ok(Message::Response(_))) {
            return tracing::debug!(%from, "what came is no answer");
        }
        let link = SocketAddrV4::new(phone.local, self.port);
        let place = Place { phone: from, link, prefix: phone.prefix, mac: phone.mac };
        if self.second.now().heard >= HEARD_PER_SECOND {
            return self.second.too_many("answers");
        }
        self.second.heard += 1;
        tracing::debug!(peer = %from, "a phone has answered");
        self.server.say(place, bytes);
    }

    /// Something came from the server, or from somebody who says so.
    fn told(&mut self, bytes: &[u8]) {
        let Some((place, payload)) = self.server.hear(bytes) else { return };
        let to = place.phone;
        let now = Instant::now();
        let Some(phone) = self.known.get_mut(to.ip()).filter(|phone| now.duration_since(phone.last) < KNOWN) else {
            return tracing::debug!(peer = %to, "the server has something for a phone that was not heard here");
        };
        if provost_sip::read(payload).is_err() {
            return tracing::warn!(peer = %to, "what the server has for a phone is no SIP");
        }
        if self.second.now().said >= SAID_PER_SECOND {
            return self.second.too_many("answers of the server");
        }
        self.second.said += 1;
        if !phone.is_told {
            phone.is_told = true;
            tracing::info!(peer = %to, "the server answers a phone");
        }
        let way = Way { interface: phone.interface, local: phone.local };
        if let Err(error) = way.send_now(&self.phones, payload, to) {
            tracing::debug!(peer = %to, %error, "cannot send");
        }
    }

    /// When there is something to do, if nothing comes before.
    fn next(&self) -> Instant {
        let resolve = (!self.resolving.is_empty()).then(|| Instant::now() + ASK_AGAIN);
        resolve.into_iter().fold(self.server.hello, Instant::min)
    }

    async fn ring(&mut self) {
        let now = Instant::now();
        for (until, from, bytes) in std::mem::take(&mut self.resolving) {
            let mac = neighbours::mac_of((*from.ip()).into());
            if mac.is_none() && now < until {
                self.resolving.push_back((until, from, bytes));
                continue;
            }
            if let Some(phone) = self.known.get_mut(from.ip()) {
                phone.mac = mac;
            }
            self.hand_over(from, &bytes);
        }
        if self.server.hello <= now {
            self.server.greet(now).await;
        }
    }
}

/// The server, as the relay knows it.
struct Server {
    name: String,
    address: Option<SocketAddrV4>,
    key: Key,
    socket: UdpSocket,
    /// Of our run; another one when the server has been away.
    session: u64,
    counter: u64,
    /// Of the server's run; 0 as long as it is not known.
    run: u64,
    window: Window,
    /// When it is greeted next, how long after that again, and since when it has not answered.
    hello: Instant,
    pause: Duration,
    waiting_since: Option<Instant>,
    told: Option<Instant>,
    is_there: bool,
    lately: VecDeque<(Instant, Place, Vec<u8>)>,
}

impl Server {
    fn new(name: String, key: Key, socket: UdpSocket) -> io::Result<Server> {
        Ok(Server {
            name,
            address: None,
            key,
            socket,
            session: random()?,
            counter: 0,
            run: 0,
            window: Window::default(),
            hello: Instant::now(),
            pause: HELLO_FIRST,
            waiting_since: None,
            told: None,
            is_there: false,
            lately: VecDeque::new(),
        })
    }

    fn say(&mut self, place: Place, bytes: &[u8]) {
        if self.lately.len() >= LATELY {
            self.lately.pop_front();
        }
        self.lately.push_back((Instant::now(), place, bytes.to_vec()));
        // Even if its run is not known: it then says which, and hears this again.
        self.send(Some(place), bytes);
    }

    fn send(&mut self, place: Option<Place>, payload: &[u8]) {
        let Some(address) = self.address else { return };
        self.counter += 1;
        let (session, run, counter) = (self.session, self.run, self.counter);
        let envelope = Envelope { session, run, counter, time: seconds(), place, payload };
        let Some(sealed) = self.key.seal(Direction::ToServer, &envelope) else { return };
        if let Err(error) = self.socket.try_send_to(&sealed, address.into()) {
            tracing::debug!(server = %address, %error, "cannot send");
        }
    }

    /// Says that we are there, and looks whether the server is.
    async fn greet(&mut self, now: Instant) {
        let silent = self.waiting_since.map(|since| now.duration_since(since)).unwrap_or_default();
        if silent >= SILENCE {
            // Its clock, or what it remembers of us, may be another by now.
            (self.run, self.is_there) = (0, false);
            if let Ok(session) = random() {
                (self.session, self.counter, self.window) = (session, 0, Window::default());
            }
            if self.told.is_none_or(|told| now.duration_since(told) >= TELL) {
                self.told = Some(now);
                tracing::warn!(
                    server = self.name,
                    address = self.address.map(tracing::field::display),
                    seconds = silent.as_secs(),
                    "no answer from the server, so phones here are not answered: does it run with this key in pnp.relay.keys (it answers no other; its log tells), does UDP get to its port {} and back, do both clocks agree within a minute?",
                    self.address.map_or(super::PORT, |address| address.port())
                );
            }
        }
        if self.address.is_none() || silent >= SILENCE {
            self.look_up().await;
        }
        self.waiting_since.get_or_insert(now);
        self.send(None, &[]);
        self.hello = now + self.pause;
        self.pause = (self.pause * 2).min(HELLO);
    }

    async fn look_up(&mut self) {
        let found = tokio::time::timeout(Duration::from_secs(5), tokio::net::lookup_host(&self.name)).await;
        let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match found.map(|mut all| all.find_map(|one| if let SocketAddr::V4(one) = one { Some(one) } else { None })) {
            Ok(Some(address)) => self.address = Some(address),
            Ok(None) => tracing::error!(server = self.name, "the server's name has no IPv4 address"),
            Err(error) => tracing::error!(server = self.name, %error, "cannot look up the server"),
        }
    }

    /// What is for a phone, if this came from the server, now, to us, and for the first time.
    fn hear<'a>(&mut self, bytes: &'a [u8]) -> Option<(Place, &'a [u8])> {
        let envelope = match self.key.open(Direction::ToRelay, bytes) {
            Ok(envelope) => envelope,
            Err(error) => {
                tracing::debug!(%error, "what came is not from the server");
                return None;
            }
        };
        if envelope.session != self.session || clocks(envelope.time, seconds()).is_err() {
            return None;
        }
        if envelope.run != self.run {
            (self.run, self.window) = (envelope.run, Window::default());
            // It has begun anew and knows nothing of us: at once, and not when the next greeting is due.
            if !self.window.take(envelope.counter) {
                return None;
            }
            self.is_heard();
            self.send(None, &[]);
            let now = Instant::now();
            for (heard, place, payload) in std::mem::take(&mut self.lately) {
                if now.duration_since(heard) < AGAIN {
                    self.send(Some(place), &payload);
                }
            }
            return None;
        }
        if !self.window.take(envelope.counter) {
            return None;
        }
        self.is_heard();
        envelope.place.map(|place| (place, envelope.payload))
    }

    fn is_heard(&mut self) {
        if !self.is_there {
            tracing::info!(server = self.name, "the server is there");
        }
        (self.is_there, self.told, self.waiting_since) = (true, None, None);
        (self.pause, self.hello) = (HELLO_FIRST, Instant::now() + HELLO);
    }
}
