//! What the DHCP servers of a network tell phones, asked on request only: a DHCPDISCOVER as a phone's, and a DHCPINFORM where we have an
//! address. Nothing is requested, so no address is taken; what is offered falls free by itself.
//!
//! Written and read here, and not by dhcproto: that one brings a whole DNS library with it, and this is one question of fixed form.

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    fmt,
    hash::{BuildHasher as _, Hasher as _},
    io,
    io::Read,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

/// For servers that look whether an address is free before they offer it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long others may take after the first.
const OTHERS: Duration = Duration::from_secs(1);
/// Answers that are looked at.
const ANSWERS: usize = 16;

const MAGIC: [u8; 4] = [99, 130, 83, 99];
const DISCOVER: u8 = 1;
const INFORM: u8 = 8;
/// Options that phones are told by where their configuration is, and what they are called.
const OPTIONS: [(u8, &str); 8] = [
    (43, "vendor-specific"),
    (66, "server name"),
    (67, "boot file"),
    (120, "SIP servers"),
    (132, "VLAN, with some vendors"),
    (150, "TFTP servers"),
    (159, "URL, with some vendors"),
    (160, "URL, with some vendors"),
];

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// `offer` or `ack`.
    pub kind: &'static str,
    pub server: Option<Ipv4Addr>,
    /// What it would give a phone.
    pub offered: Option<Ipv4Addr>,
    pub options: Vec<Told>,
}

/// An option that phones look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    pub option: u8,
    pub name: &'static str,
    pub value: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.server {
            Some(server) => write!(f, "{server}")?,
            None => f.write_str("a server without a name")?,
        }
        match self.offered {
            Some(offered) => writeln!(f, " offers {offered}")?,
            None => writeln!(f, " tells who has an address")?,
        }
        if self.options.is_empty() {
            writeln!(f, "  nothing that phones look at for their configuration")?;
        }
        for told in &self.options {
            writeln!(f, "  option {} ({}): {}", told.option, told.name, told.value)?;
        }
        Ok(())
    }
}

/// Asks the servers on this interface; `class` is what a phone says it is (option 60), by which some tell different things.
pub fn ask(interface: &str, class: Option<&str>) -> io::Result<Vec<Answer>> {
    let cannot =
        |act: &str, error: io::Error| io::Error::new(error.kind(), format!("cannot {act} on {interface}: {error}"));
    let (mac, own) = who_is(interface)?;
    // Raw, so that a DHCP client of this machine keeps its port.
    let ears = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).map_err(|error| cannot("listen", error))?;
    ears.bind_device(Some(interface.as_bytes())).map_err(|error| cannot("listen", error))?;
    ears.set_read_timeout(Some(Duration::from_millis(200)))?;
    let id = RandomState::new().build_hasher().finish() as u32;
    let send = || -> io::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.set_broadcast(true)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        // Some servers answer to nobody but port 68; where a client has it for itself, those stay silent.
        if socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into()).is_err() {
            socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into())?;
        }
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67).into();
        if let Some(own) = own {
            socket.send_to(&question(INFORM, id, mac, Some(own), class), &to)?;
        }
        socket.send_to(&question(DISCOVER, id, mac, None, class), &to)?;
        Ok(())
    };
    send().map_err(|error| cannot("ask", error))?;
    let mut answers: Vec<Answer> = Vec::new();
    let mut until = Instant::now() + PATIENCE;
    let mut room = [0; 2048];
    while Instant::now() < until && answers.len() < ANSWERS {
        let length = match (&ears).read(&mut room) {
            Ok(length) => length,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::TimedOut
                ) =>
            {
                continue;
            }
            Err(error) => return Err(cannot("listen", error)),
        };
        if let Some(answer) = payload(&room[..length]).and_then(|payload| read(payload, id))
            && !answers.contains(&answer)
        {
            answers.push(answer);
            until = until.min(Instant::now() + OTHERS);
        }
    }
    Ok(answers)
}

/// MAC and IPv4 address of an interface that can broadcast.
fn who_is(interface: &str) -> io::Result<([u8; 6], Option<Ipv4Addr>)> {
    let (mut mac, mut own) = (None, None);
    for entry in getifaddrs()?.filter(|entry| entry.interface_name == interface) {
        if !entry.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_BROADCAST) {
            return Err(io::Error::other(format!("{interface} is down, or no network with broadcasts")));
        }
        let Some(address) = entry.address else { continue };
        mac = mac.or(address.as_link_addr().and_then(nix::sys::socket::LinkAddr::addr));
        own = own.or(address.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip));
    }
    match mac {
        Some(mac) => Ok((mac, own)),
        None => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no interface {interface} with a MAC address"),
        )),
    }
}

fn question(kind: u8, id: u32, mac: [u8; 6], own: Option<Ipv4Addr>, class: Option<&str>) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    // BOOTREQUEST, Ethernet.
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[4..8].copy_from_slice(&id.to_be_bytes());
    match own {
        Some(own) => bytes[12..16].copy_from_slice(&own.octets()),
        // The answer is to be broadcast: nobody has the address that it offers.
        None => bytes[10] = 0x80,
    }
    bytes[28..34].copy_from_slice(&mac);
    bytes.extend(MAGIC);
    bytes.extend([53, 1, kind]);
    if let Some(class) = class.map(str::as_bytes).filter(|class| !class.is_empty()) {
        let class = &class[..class.len().min(255)];
        bytes.extend([60, class.len() as u8]);
        bytes.extend(class);
    }
    bytes.extend([55, OPTIONS.len() as u8 + 2, 1, 3]);
    bytes.extend(OPTIONS.map(|(option, _)| option));
    bytes.push(255);
    bytes
}

/// The payload of a UDP datagram from a DHCP server, in an IPv4 packet.
fn payload(packet: &[u8]) -> Option<&[u8]> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let udp = packet.get(header..)?;
    (header >= 20 && udp.get(..2)? == [0, 67]).then(|| udp.get(8..))?
}

/// An answer to the question of this number.
fn read(bytes: &[u8], id: u32) -> Option<Answer> {
    // BOOTREPLY
    if bytes.first() != Some(&2) || bytes.get(4..8)? != id.to_be_bytes() || bytes.get(236..240)? != MAGIC {
        return None;
    }
    let mut options: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    let mut rest = &bytes[240..];
    while let Some((&option, after)) = rest.split_first() {
        match option {
            0 => rest = after,
            255 => break,
            _ => {
                let length = usize::from(*after.first()?);
                // A long one comes in parts (RFC 3396).
                options.entry(option).or_default().extend(after.get(1..1 + length)?);
                rest = &after[1 + length..];
            }
        }
    }
    let kind = match options.get(&53)?.as_slice() {
        [2] => "offer",
        [5] => "ack",
        _ => return None,
    };
    let four = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from);
    let offered = four(&bytes[16..20]).filter(|address| !address.is_unspecified());
    // Where there is no option, old servers fill the fields of BOOTP.
    for (option, field) in [(66, &bytes[44..108]), (67, &bytes[108..236])] {
        let text: Vec<u8> = field.iter().copied().take_while(|byte| *byte != 0).collect();
        // Option 52 makes options of them.
        if !text.is_empty() && !options.contains_key(&52) {
            options.entry(option).or_insert(text);
        }
    }
    let told = OPTIONS.iter().filter_map(|(option, name)| {
        let value = options.get(option)?;
        Some(Told { option: *option, name, value: shown(*option, value) })
    });
    Some(Answer { kind, server: options.get(&54).and_then(|bytes| four(bytes)), offered, options: told.collect() })
}

fn shown(option: u8, bytes: &[u8]) -> String {
    let addresses = |bytes: &[u8]| {
        let (chunks, rest) = bytes.as_chunks::<4>();
        let addresses: Vec<String> = chunks.iter().map(|four| Ipv4Addr::from(*four).to_string()).collect();
        (rest.is_empty() && !chunks.is_empty()).then(|| addresses.join(", "))
    };
    let as_hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let as_text = || {
        let text = str::from_utf8(bytes).ok()?.trim_end_matches('\0');
        (!text.is_empty() && text.chars().all(|character| !character.is_control())).then(|| text.to_owned())
    };
    match option {
        150 => addresses(bytes).or_else(as_text),
        // RFC 3361: addresses after a 1, names after a 0.
        120 if bytes.first() == Some(&1) => addresses(&bytes[1..]),
        120 => names(bytes.get(1..).unwrap_or_default()),
        43 => suboptions(bytes).or_else(as_text),
        _ => as_text(),
    }
    .unwrap_or_else(as_hex)
}

/// Names as DNS writes them, uncompressed.
fn names(bytes: &[u8]) -> Option<String> {
    let (mut names, mut name, mut rest) = (Vec::new(), Vec::new(), bytes);
    while let Some((&length, after)) = rest.split_first() {
        if length == 0 {
            names.push(name.join("."));
            name.clear();
            rest = after;
        } else {
            name.push(str::from_utf8(after.get(..usize::from(length))?).ok()?.to_owned());
            rest = &after[usize::from(length)..];
        }
    }
    (name.is_empty() && !names.is_empty()).then(|| names.join(", "))
}

/// `1=http://…, 2=…`, where it is built that way, as it mostly is.
fn suboptions(bytes: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some((&option, after)) = rest.split_first() {
        if option == 255 {
            break;
        }
        let length = usize::from(*after.first()?);
        let value = str::from_utf8(after.get(1..1 + length)?).ok()?;
        if value.chars().any(char::is_control) {
            return None;
        }
        parts.push(format!("{option}={value}"));
        rest = &after[1 + length..];
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(options: &[u8]) -> Vec<u8> {
        let mut bytes = question(DISCOVER, 7, [2, 0, 0, 0, 0, 1], None, None);
        bytes.truncate(240);
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&[10, 0, 0, 9]);
        bytes.extend(options);
        bytes
    }

    #[test]
    fn what_phones_look_at_is_read() {
        let mut options = vec![53, 1, 2, 54, 4, 10, 0, 0, 1, 0, 66, 5];
        options.extend(b"http:");
        // In two parts.
        options.extend([66, 4]);
        options.extend(b"//x\0");
        options.extend([
            150, 8, 10, 0, 0, 1, 10, 0, 0, 2, 120, 6, 0, 3, b's', b'i', b'p', 0, 43, 3, 1, 1, b'u', 160, 2, 1, 2, 255,
            9,
        ]);
        let answer = read(&reply(&options), 7).unwrap();
        assert_eq!(
            (answer.kind, answer.server, answer.offered),
            ("offer", Some(Ipv4Addr::new(10, 0, 0, 1)), Some(Ipv4Addr::new(10, 0, 0, 9)))
        );
        let told: Vec<String> = answer.options.iter().map(|told| format!("{} {}", told.option, told.value)).collect();
        assert_eq!(told, ["43 1=u", "66 http://x", "120 sip", "150 10.0.0.1, 10.0.0.2", "160 01 02"]);
        assert_eq!(read(&reply(&options), 8), None, "somebody else's");
        let mut old = reply(&[53, 1, 5, 255]);
        old[108..112].copy_from_slice(b"boot");
        let answer = read(&old, 7).unwrap();
        assert_eq!((answer.kind, answer.options[0].value.as_str()), ("ack", "boot"));
    }

    #[test]
    fn what_is_broken_is_no_answer() {
        let whole = reply(&[53, 1, 2, 54, 4, 10, 0, 0, 1, 43, 9, 1]);
        for length in 0..=whole.len() {
            let _ = read(&whole[..length], 7);
        }
        assert_eq!(read(&whole, 7), None);
        assert_eq!(payload(&[0x45; 27]), None);
        assert_eq!(shown(120, &[]), "");
        assert_eq!(shown(43, &[1, 200, 3]), "01 c8 03");
    }

    #[test]
    fn the_question_is_that_of_a_phone() {
        let bytes = question(INFORM, 7, [2, 0, 0, 0, 0, 1], Some(Ipv4Addr::new(10, 0, 0, 5)), Some("phone"));
        assert_eq!((bytes[0], bytes[10], &bytes[12..16]), (1, 0, &[10, 0, 0, 5][..]));
        assert!(bytes.windows(7).any(|part| part == b"\x3c\x05phone"));
        assert_eq!(bytes.last(), Some(&255));
    }
}
