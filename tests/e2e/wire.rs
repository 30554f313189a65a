//! A phone played by hand, byte for byte: what the simulated one would be too clever for.
//!
//! It knows datagrams and the lines of a SIP message, and judges nothing.

use std::{
    fmt, fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use provost_plugin::MacAddr;
use provost_tests::{Line, Namespace, Server, receive, repository};

pub(crate) const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 1, 75), 5060);

/// A SIP message, taken apart without being understood.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Message {
    /// Panics at a line that a strict phone would not read.
    pub(crate) fn read(bytes: &[u8]) -> Message {
        let text = String::from_utf8(bytes.to_vec()).expect("the message is UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no empty line in {text:?}"));
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap().to_owned();
        let header = |line: &str| {
            assert!(!line.contains(['\r', '\n']), "a bare line end in {line:?}");
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
            (name.to_owned(), value.trim().to_owned())
        };
        Message { bytes: bytes.to_vec(), start, headers: lines.map(header).collect(), body: body.to_owned() }
    }

    /// The header of this name; panics unless there is one and only one.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut values =
            self.headers.iter().filter(|(spelt, _)| spelt.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let first = values.next().unwrap_or_else(|| panic!("no {name} in {self:?}"));
        assert!(values.next().is_none(), "more than one {name} in {self:?}");
        first
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(spelt, _)| spelt.eq_ignore_ascii_case(name))
    }

    pub(crate) fn is_notify(&self) -> bool {
        self.start.starts_with("NOTIFY ")
    }

    /// The answer of a phone to this request.
    pub(crate) fn answer(&self, status: &str) -> Vec<u8> {
        let echoed = ["Via", "From", "To", "Call-ID", "CSeq"].map(|name| format!("{name}: {}\r\n", self.header(name)));
        format!("SIP/2.0 {status}\r\n{}Content-Length: 0\r\n\r\n", echoed.concat()).into_bytes()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", String::from_utf8_lossy(&self.bytes))
    }
}

/// A SUBSCRIBE of tests/captures.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub(crate) name: String,
    pub(crate) message: Message,
    pub(crate) mac: MacAddr,
    /// As the Event header says, its misspelling included.
    pub(crate) vendor: String,
    /// Where the Via says that it came from.
    pub(crate) port: u16,
}

impl Captured {
    /// Every SUBSCRIBE there is: a new file is a new case.
    pub(crate) fn all() -> Vec<Captured> {
        let captures = repository().join("tests/captures");
        let mut files: Vec<_> = [captures.clone(), captures.join("synthetic")]
            .iter()
            .flat_map(|directory| {
                fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            })
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "sip"))
            .collect();
        files.sort();
        files
            .iter()
            .map(|file| Captured::read(&file.file_stem().unwrap().to_string_lossy(), &fs::read(file).unwrap()))
            .collect()
    }

    /// The one whose file name begins so.
    pub(crate) fn one(name: &str) -> Captured {
        Captured::all()
            .into_iter()
            .find(|captured| captured.name.starts_with(name))
            .unwrap_or_else(|| panic!("no capture {name}"))
    }

    fn read(name: &str, bytes: &[u8]) -> Captured {
        let message = Message::read(bytes);
        // "SUBSCRIBE sip:MAC%3a00135E874B49@intern.snom.de SIP/2.0"
        let user = message.start.split(['@', ' ']).nth(1).unwrap();
        let mac = user[user.len() - 12..].parse().unwrap_or_else(|_| panic!("{name}: no MAC in {user}"));
        let event = message.header("Event");
        let vendor = event.split(';').find_map(|param| param.strip_prefix("vendor=").or(param.strip_prefix("vender=")));
        let vendor = vendor.unwrap_or_else(|| panic!("{name}: no vendor in {event}")).trim_matches('"').to_owned();
        let sent_by = message.header("Via").split([' ', ';']).nth(1).unwrap();
        let port = sent_by.split_once(':').map_or(5060, |(_, port)| port.parse().unwrap());
        Captured { name: name.to_owned(), message, mac, vendor, port }
    }
}

/// A socket of a phone.
#[derive(Debug)]
pub(crate) struct Handset {
    socket: UdpSocket,
    pub(crate) address: SocketAddrV4,
}

impl Handset {
    /// On this address; port 0 is an ephemeral one.
    pub(crate) fn at(host: &Namespace, address: Ipv4Addr, port: u16) -> Handset {
        let socket = host.udp((address, port));
        let port = socket.local_addr().unwrap().port();
        Handset { socket, address: SocketAddrV4::new(address, port) }
    }

    pub(crate) fn subscribe(&self, bytes: &[u8]) {
        self.send(bytes, GROUP);
    }

    pub(crate) fn send(&self, bytes: &[u8], to: SocketAddrV4) {
        self.socket.send_to(bytes, to).unwrap_or_else(|error| panic!("cannot send to {to}: {error}"));
    }

    /// The next datagram, and where it came from.
    pub(crate) fn hear(&self) -> (Message, SocketAddrV4) {
        let mut buffer = [0; 65536];
        match receive(&self.socket, &mut buffer) {
            Ok((length, std::net::SocketAddr::V4(from))) => (Message::read(&buffer[..length]), from),
            other => panic!("{} heard nothing: {other:?}", self.address),
        }
    }

    /// The same, if it comes in this time.
    pub(crate) fn hear_within(&self, time: Duration) -> Option<(Message, SocketAddrV4)> {
        let before = self.socket.read_timeout().unwrap();
        self.socket.set_read_timeout(Some(time)).unwrap();
        let waits = loop {
            match self.socket.peek(&mut [0; 1]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                waits => break waits.is_ok(),
            }
        };
        self.socket.set_read_timeout(before).unwrap();
        waits.then(|| self.hear())
    }

    /// The 200 and the NOTIFY, in whichever order they come, and the address that both came from.
    pub(crate) fn hear_both(&self) -> (Message, Message, SocketAddrV4) {
        let ((one, from), (other, too)) = (self.hear(), self.hear());
        assert_eq!(from, too, "{one:?}{other:?}");
        assert_ne!(one.is_notify(), other.is_notify(), "{one:?}{other:?}");
        if one.is_notify() { (other, one, from) } else { (one, other, from) }
    }

    /// Answers a NOTIFY as a phone does that is content.
    pub(crate) fn accept(&self, notify: &Message, to: SocketAddrV4) {
        self.send(&notify.answer("200 OK"), to);
    }

    /// Announces itself, accepts, and returns the URL and who sent it.
    pub(crate) fn boot(&self, subscribe: &[u8]) -> (String, SocketAddrV4) {
        self.subscribe(subscribe);
        let (_, notify, from) = self.hear_both();
        self.accept(&notify, from);
        (notify.body, from)
    }

    /// Panics if anything waits to be read. That nothing more will come has to be known from elsewhere.
    pub(crate) fn assert_silent(&self, whose: &str) {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 65536];
        match receive(&self.socket, &mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.socket.set_nonblocking(false).unwrap(),
            Ok((length, from)) => panic!(
                "{whose}: {} heard this of {from}:\n{}",
                self.address,
                String::from_utf8_lossy(&buffer[..length])
            ),
            Err(error) => panic!("{whose}: {error}"),
        }
    }
}

/// Waits for the desk's word on the SUBSCRIBE that this phone sent.
pub(crate) fn decided(server: &Server, handset: &Handset, outcome: &str) -> Line {
    let peer = handset.address.to_string();
    server.wait_for(&format!("{outcome} for {peer}"), |line| {
        line.is("message", "subscribe") && line.is("peer", &peer) && line.is("outcome", outcome)
    })
}

/// Waits until the phone's answer to the NOTIFY has been read; it may be "notified" or "not notified".
pub(crate) fn notified(server: &Server, handset: &Handset, message: &str) -> Line {
    let peer = handset.address.to_string();
    server.wait_for(&format!("\"{message}\" for {peer}"), |line| line.is("message", message) && line.is("peer", &peer))
}

/// A SUBSCRIBE as a phone at this address would write it, in a call that nobody has made before; for tests that care for no vendor's
/// peculiarities.
pub(crate) fn subscribe(captured: &Captured, handset: &Handset) -> Vec<u8> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = format!("{:010}@{}", CALLS.fetch_add(1, Ordering::Relaxed), handset.address.ip());
    let message = &captured.message;
    let contact = |contact: &str| format!("Contact: {contact}\r\n");
    String::from_utf8(message.bytes.clone())
        .unwrap()
        .replace(message.header("Call-ID"), &call)
        .replace(&contact(message.header("Contact")), &contact(&format!("<sip:{}>", handset.address)))
        .into_bytes()
}
