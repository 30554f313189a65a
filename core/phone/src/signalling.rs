//! The phone's SIP sockets: out goes the SUBSCRIBE, in come answers and NOTIFYs, each of which is answered, retransmissions with the
//! same words.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::{
    challenge::Guard,
    outcome::Finding,
    sip::{Dialog, Message},
};

#[derive(Debug)]
pub(crate) struct Endpoint {
    source: UdpSocket,
    /// Phones that announce from one port and listen on another.
    contact: Option<UdpSocket>,
    group: SocketAddrV4,
    address: SocketAddrV4,
    dialog: Option<Dialog>,
    /// Of each request what was answered.
    answers: HashMap<String, Vec<u8>>,
    /// Orders have to get past it.
    pub(crate) guard: Option<Guard>,
    pub(crate) notifies: u32,
    pub(crate) findings: Vec<Finding>,
}

#[derive(Debug)]
pub(crate) enum Event {
    /// A final answer to the SUBSCRIBE.
    Answer(u16),
    /// A NOTIFY of `ua-profile`: the body, as it came but for blanks.
    Profile(String),
    /// A NOTIFY that asks for something else: its Event header.
    Order(String),
}

impl Endpoint {
    pub(crate) fn bind(source: SocketAddrV4, contact_port: Option<u16>, group: SocketAddrV4) -> io::Result<Endpoint> {
        let ip = if source.ip().is_unspecified() { address_toward(group)? } else { *source.ip() };
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        // Of several interfaces the one that has our address; one hop, as PnP never leaves the segment; and heard on this machine too,
        // where a server may run beside the simulation.
        socket.set_multicast_if_v4(&ip)?;
        socket.set_multicast_ttl_v4(1)?;
        socket.set_multicast_loop_v4(true)?;
        socket.bind(&SocketAddr::V4(SocketAddrV4::new(ip, source.port())).into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let SocketAddr::V4(address) = socket.local_addr()? else { unreachable!("the socket is of IPv4") };
        let contact = match contact_port {
            Some(port) if port != address.port() => {
                let socket = std::net::UdpSocket::bind((ip, port))?;
                socket.set_nonblocking(true)?;
                Some(UdpSocket::from_std(socket)?)
            }
            _ => None,
        };
        Ok(Endpoint {
            source: socket,
            contact,
            group,
            address,
            dialog: None,
            answers: HashMap::new(),
            guard: None,
            notifies: 0,
            findings: Vec::new(),
        })
    }

    pub(crate) fn ip(&self) -> Ipv4Addr {
        *self.address.ip()
    }

    /// The port for the Contact header.
    pub(crate) fn contact_port(&self) -> u16 {
        let contact = self.contact.as_ref().and_then(|socket| socket.local_addr().ok());
        contact.map_or(self.address.port(), |address| address.port())
    }

    /// Begins a new subscription: what arrives from now on is judged against this SUBSCRIBE.
    pub(crate) fn open(&mut self, subscribe: &[u8]) -> Result<(), &'static str> {
        let message = Message::read(subscribe).ok_or("it cannot be read as SIP")?;
        self.dialog = Some(Dialog::open(message)?);
        Ok(())
    }

    pub(crate) async fn send(&self, subscribe: &[u8]) -> io::Result<()> {
        self.source.send_to(subscribe, self.group).await.map(drop)
    }

    /// Waits for the next thing that is new. Dropping the future loses nothing: between receiving and acknowledging it never waits.
    pub(crate) async fn next(&mut self) -> Event {
        let mut buffer = vec![0; 65_536];
        loop {
            let (length, from, at_contact) = match receive(&self.source, self.contact.as_ref(), &mut buffer).await {
                Ok(received) => received,
                // The kernel reports an ICMP error for something sent before. Nothing of ours was lost by reading it.
                Err(error) => {
                    tracing::debug!(%error, "the SIP socket reported an error");
                    continue;
                }
            };
            let Some(message) = Message::read(&buffer[..length]) else {
                self.findings
                    .push(Finding::new("SIP: a datagram that cannot be read", format!("{length} bytes from {from}")));
                continue;
            };
            if let Some(event) = self.take(&message, from, at_contact) {
                return event;
            }
        }
    }

    fn take(&mut self, message: &Message, from: SocketAddr, at_contact: bool) -> Option<Event> {
        if let Some(status) = message.status() {
            let dialog = self.dialog.as_mut()?;
            if !dialog.is_answered_by(message) || status < 200 {
                return None;
            }
            if status < 300 {
                self.findings.extend(dialog.judge_answer(message, self.address.port()));
            }
            return Some(Event::Answer(status));
        }
        if message.method() != Some("NOTIFY") {
            return None;
        }
        self.notifies += 1;
        let profile = message.event_package() == "ua-profile";
        let transaction = message.transaction();
        let seen = self.answers.contains_key(&transaction);
        let tag = u32::from(self.address.port());
        let mut admitted = true;
        if !seen {
            let answer = match self.guard.as_mut().filter(|_| !profile).map(|guard| guard.admit(message)) {
                Some(Err(asked)) => {
                    admitted = false;
                    message.answer("401 Unauthorized", tag, &asked)
                }
                Some(Ok(())) | None => message.answer("200 OK", tag, ""),
            };
            self.answers.insert(transaction.clone(), answer);
        }
        let socket = if at_contact { self.contact.as_ref()? } else { &self.source };
        // A full send buffer loses the answer as the network might: the server sends the NOTIFY again.
        if let Err(error) = socket.try_send_to(&self.answers[&transaction], from) {
            tracing::debug!(%error, "cannot answer a NOTIFY");
        }
        if seen || !admitted {
            return None;
        }
        // Orders are sent by PBXs of every age, and phones take them as they are: only the profile's NOTIFY is judged.
        if profile && let Some(dialog) = self.dialog.as_mut() {
            self.findings.extend(dialog.judge_notify(message, from));
        }
        if profile {
            Some(Event::Profile(String::from_utf8_lossy(message.body()).trim().to_owned()))
        } else {
            Some(Event::Order(message.header("Event").unwrap_or_default().to_owned()))
        }
    }
}

async fn receive(
    source: &UdpSocket,
    contact: Option<&UdpSocket>,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr, bool)> {
    let Some(contact) = contact else {
        let (length, from) = source.recv_from(buffer).await?;
        return Ok((length, from, false));
    };
    loop {
        tokio::select! {
            ready = source.readable() => ready?,
            ready = contact.readable() => ready?,
        }
        for (socket, at_contact) in [(source, false), (contact, true)] {
            match socket.try_recv_from(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received.map(|(length, from)| (length, from, at_contact)),
            }
        }
    }
}

/// The address that this machine would send to the group from.
fn address_toward(group: SocketAddrV4) -> io::Result<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(group)?;
    match socket.local_addr()? {
        SocketAddr::V4(address) => Ok(*address.ip()),
        SocketAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}
