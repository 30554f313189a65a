//! Hears the group on every chosen interface.
//!
//! Never the wildcard: a socket bound to 0.0.0.0:5060 would take a PBX's unicast calls away from it. Either a raw socket, which is in
//! nobody's way, or a UDP socket bound to the group's own address. One thread does nothing but empty the socket, since the kernel's
//! buffer is what a building that powers on at once overruns.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, setsockopt, sockopt},
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::sync::mpsc;

use super::{interfaces::Interface, relay::Leg};
use crate::{
    network::{Heard, Notes},
    settings::Listen,
    socket::set_receive_buffer,
};

/// A datagram, and how it came.
#[derive(Debug)]
pub struct Datagram {
    pub bytes: Vec<u8>,
    pub from: SocketAddrV4,
    pub came: Came,
}

impl Datagram {
    /// The index of our own interface that heard it, if one did.
    pub fn interface(&self) -> Option<u32> {
        match self.came {
            Came::Here(index) => Some(index),
            Came::Through(_) => None,
        }
    }
}

/// The way by which a datagram came, and by which what answers it goes.
#[derive(Clone, Debug)]
pub enum Came {
    /// Heard by ourselves, on the interface of this index.
    Here(u32),
    /// Heard by a relay, in the phone's own subnet.
    Through(Arc<Leg>),
}

/// Longest datagram that is looked at, and a little more so that a longer one is seen to be longer.
const LONGEST: usize = provost_sip::MAX_DATAGRAM + 128;
/// Datagrams in one call.
const BATCH: usize = 64;
/// Datagrams waiting for the exchange. Beyond that the newest is dropped and counted: phones repeat themselves.
pub const WAITING: usize = 32_768;

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "cannot open a raw socket to hear {group}: {source}; it needs CAP_NET_RAW (run as root, or `setcap cap_net_raw+ep` on the program, or AmbientCapabilities=CAP_NET_RAW in the unit), or set pnp.listen: udp"
    )]
    Raw { group: SocketAddrV4, source: io::Error },
    #[error(
        "cannot bind {group}: {source}. {owner} A raw socket needs no port: allow CAP_NET_RAW and leave pnp.listen at auto. Or let the PBX bind one address instead of 0.0.0.0"
    )]
    InUse { group: SocketAddrV4, source: io::Error, owner: String },
    #[error("cannot bind {group}: {source}")]
    Udp { group: SocketAddrV4, source: io::Error },
}

/// The socket that hears, whichever kind it is.
#[derive(Debug)]
pub struct Ears {
    socket: Socket,
    group: SocketAddrV4,
    raw: bool,
    joined: Vec<(u32, String)>,
    pub receive_buffer: usize,
    /// Why it is not the raw socket that `auto` would rather have.
    pub instead_of_raw: Option<io::Error>,
}

impl Ears {
    pub fn open(listen: Listen, group: SocketAddrV4, receive_buffer: usize) -> Result<Ears, ListenError> {
        let (socket, raw, instead_of_raw) = match listen {
            Listen::Udp => (udp(group)?, false, None),
            Listen::Raw => (raw(group).map_err(|source| ListenError::Raw { group, source })?, true, None),
            Listen::Auto => match raw(group) {
                Ok(socket) => (socket, true, None),
                Err(why) => (udp(group)?, false, Some(why)),
            },
        };
        let setup = |error: io::Error| ListenError::Udp { group, source: error };
        // Without this, a datagram for an interface that somebody else joined would be heard here too.
        socket.set_multicast_all_v4(false).map_err(setup)?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).map_err(|error| setup(error.into()))?;
        // So that the thread can see that it is to stop.
        socket.set_read_timeout(Some(Duration::from_millis(200))).map_err(setup)?;
        let as_udp = UdpSocket::from(socket.try_clone().map_err(setup)?);
        let granted = set_receive_buffer(&as_udp, receive_buffer).map_err(setup)?;
        Ok(Ears { socket, group, raw, joined: Vec::new(), receive_buffer: granted, instead_of_raw })
    }

    pub fn kind(&self) -> &'static str {
        if self.raw { "raw" } else { "udp" }
    }

    /// Joins where it should and has not, and forgets interfaces that are gone. Says what it did, with the error where it failed.
    pub fn follow(
        &mut self,
        interfaces: &[Interface],
        named: &[String],
    ) -> Vec<(String, Result<&'static str, io::Error>)> {
        let mut done = Vec::new();
        let wanted: Vec<&Interface> = interfaces.iter().filter(|interface| interface.is_chosen(named)).collect();
        let socket = &self.socket;
        let group = *self.group.ip();
        self.joined.retain(|(index, name)| {
            let stays = wanted.iter().any(|interface| interface.index == *index);
            if !stays {
                // It fails where the interface itself is gone: then the kernel has left already.
                let _ = socket.leave_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(*index));
                done.push((name.clone(), Ok("left")));
            }
            stays
        });
        for interface in wanted {
            if self.joined.iter().any(|(index, _)| *index == interface.index) {
                continue;
            }
            let outcome = match socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface.index)) {
                Ok(()) => Ok("joined"),
                // After down and up the kernel still has it.
                Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => Ok("joined"),
                Err(error) => Err(error),
            };
            if outcome.is_ok() {
                self.joined.push((interface.index, interface.name.clone()));
            }
            done.push((interface.name.clone(), outcome));
        }
        done
    }

    pub fn joined(&self) -> impl Iterator<Item = &str> {
        self.joined.iter().map(|(_, name)| name.as_str())
    }

    /// One datagram, for who looks rather than serves; none within the fifth of a second that a read waits.
    pub fn hear(&self) -> io::Result<Option<Datagram>> {
        match Inbox::new(1).receive(&self.socket.try_clone()?.into(), self.raw, self.group.port()) {
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
            heard => Ok(heard?.pop()),
        }
    }

    /// The number by which the kernel knows the socket.
    pub(crate) fn inode(&self) -> io::Result<u64> {
        // Of a descriptor, whatever it is of, only a file tells.
        Ok(File::from(OwnedFd::from(self.socket.try_clone()?)).metadata()?.ino())
    }

    /// Starts the thread that empties the socket. It ends when the flag is set or nobody listens any more.
    pub(crate) fn listen(
        &self,
        stop: Arc<AtomicBool>,
        dropped: Arc<AtomicU64>,
        heard_where: Arc<Heard>,
        heard: mpsc::Sender<Datagram>,
    ) -> io::Result<()> {
        let mut notes = Notes::new(heard_where);
        let (socket, raw, port) = (OwnedFd::from(self.socket.try_clone()?), self.raw, self.group.port());
        thread::Builder::new().name("pnp-listener".into()).spawn(move || {
            let mut inbox = Inbox::new(BATCH);
            while !stop.load(Ordering::Relaxed) {
                match inbox.receive(&socket, raw, port) {
                    Ok(datagrams) => {
                        for datagram in datagrams {
                            if let Came::Here(interface) = datagram.came {
                                notes.heard(interface, datagram.from);
                            }
                            match heard.try_send(datagram) {
                                Ok(()) => {}
                                Err(mpsc::error::TrySendError::Full(_)) => {
                                    dropped.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(mpsc::error::TrySendError::Closed(_)) => return,
                            }
                        }
                    }
                    Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
                    Err(error) => {
                        // An interface that goes down can report itself here; the socket stays good.
                        tracing::debug!(%error, "cannot receive");
                        thread::sleep(Duration::from_millis(10));
                    }
                }
            }
        })?;
        Ok(())
    }
}

fn raw(group: SocketAddrV4) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP))?;
    socket.bind(&SocketAddrV4::new(*group.ip(), 0).into())?;
    Ok(socket)
}

fn udp(group: SocketAddrV4) -> Result<Socket, ListenError> {
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        // Beside others that hear the same group.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&group.into())?;
        Ok(socket)
    };
    open().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { group, owner: crate::limits::udp_owner(group.port()), source },
        _ => ListenError::Udp { group, source },
    })
}

/// What has come to the socket, by the batch: a building that powers on at once does not wait for a call of the kernel each.
struct Inbox {
    headers: MultiHeaders<SockaddrIn>,
    buffers: Vec<[u8; LONGEST]>,
}

impl Inbox {
    fn new(batch: usize) -> Inbox {
        let control = cmsg_space!(libc::in_pktinfo);
        Inbox { headers: MultiHeaders::preallocate(batch, Some(control)), buffers: vec![[0; LONGEST]; batch] }
    }

    /// Waits for the first datagram, and takes what others there are for the group's port.
    fn receive(&mut self, socket: &OwnedFd, raw: bool, port: u16) -> nix::Result<Vec<Datagram>> {
        let mut parts: Vec<_> = self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let flags = MsgFlags::MSG_WAITFORONE;
        let messages = recvmmsg(socket.as_raw_fd(), &mut self.headers, parts.iter_mut(), flags, None)?;
        let mut came = Vec::new();
        for message in messages {
            let interface = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => Some(info.ipi_ifindex as u32),
                _ => None,
            });
            came.push((message.bytes, message.address, interface));
        }
        let packets = self.buffers.iter().zip(came);
        Ok(packets
            .filter_map(|(buffer, (length, from, interface))| {
                let (packet, from, came) = (&buffer[..length], from?, Came::Here(interface?));
                let (source, bytes) = if raw { payload(packet, port)? } else { (from.port(), packet) };
                Some(Datagram { bytes: bytes.to_vec(), from: SocketAddrV4::new(from.ip(), source), came })
            })
            .collect())
    }
}

/// Source port and payload of an IPv4 packet that holds a UDP datagram for `port`.
///
/// The checksum is not looked at: between hosts on one machine it is not even filled in, and the kernel has checked the IP header.
fn payload(packet: &[u8], port: u16) -> Option<(u16, &[u8])> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let udp = packet.get(header..)?;
    let field = |at: usize| Some(u16::from_be_bytes([*udp.get(at)?, *udp.get(at + 1)?]));
    if header < 20 || field(2)? != port {
        return None;
    }
    let end = usize::from(field(4)?).min(udp.len());
    Some((field(0)?, udp.get(8..end)?))
}

/// The group's socket address.
pub fn group(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address, port)
}

#[cfg(test)]
mod tests {
    use super::payload;

    fn packet(options: usize, port: u16, stated: u16, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20 + options * 4];
        packet[0] = 0x45 + options as u8;
        packet.extend_from_slice(&5062u16.to_be_bytes());
        packet.extend_from_slice(&port.to_be_bytes());
        packet.extend_from_slice(&stated.to_be_bytes());
        packet.extend_from_slice(&[0, 0]);
        packet.extend_from_slice(body);
        packet
    }

    #[test]
    fn a_raw_packet_gives_its_payload_only_if_it_is_for_the_port() {
        assert_eq!(payload(&packet(0, 5060, 13, b"hello"), 5060), Some((5062, &b"hello"[..])));
        assert_eq!(
            payload(&packet(2, 5060, 13, b"hello"), 5060),
            Some((5062, &b"hello"[..])),
            "IP options are stepped over"
        );
        assert_eq!(payload(&packet(0, 5060, 11, b"hello"), 5060), Some((5062, &b"hel"[..])), "padding is not payload");
        assert_eq!(payload(&packet(0, 5061, 13, b"hello"), 5060), None);
        assert_eq!(payload(&packet(0, 5060, 999, b"hello"), 5060), Some((5062, &b"hello"[..])));
        assert_eq!(payload(&packet(0, 5060, 3, b"hello"), 5060), None);
        for cut in 0..28 {
            let _ = payload(&packet(0, 5060, 13, b"hello")[..cut], 5060);
        }
        assert_eq!(payload(&[], 5060), None);
        assert_eq!(payload(&[0x41; 40], 5060), None, "a header of four bytes is none");
    }
}
