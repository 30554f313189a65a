//! Who asks for the members of groups. A switch that snoops IGMP forgets a member that nobody asks for, and tells nothing of itself; but
//! queries go to every host, so whether anybody asks can be heard.

use std::{
    io::{self, IoSliceMut},
    net::Ipv4Addr,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    errno::Errno,
    libc,
    sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt},
};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

/// Queries to all hosts go there; each host is a member without having joined.
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const QUERY: u8 = 0x11;
/// Different ones that are kept; one asks in each network, and those that are about to give way.
const MOST: usize = 64;

/// A general query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Query {
    /// Index of the interface that heard it.
    pub(crate) interface: u32,
    /// 0.0.0.0 from switches that have no address in that network.
    pub(crate) from: Ipv4Addr,
    pub(crate) version: u8,
    /// How often it asks, in seconds, where it says so.
    pub(crate) every: Option<u32>,
}

/// Ears for queries: what comes from now on is kept until it is listened to.
#[derive(Debug)]
pub(crate) struct Listening(Socket);

impl Listening {
    pub(crate) fn open() -> io::Result<Listening> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_IGMP)))?;
        socket.bind(&std::net::SocketAddrV4::new(ALL_HOSTS, 0).into())?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        // So that it is seen that the time is over.
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(Listening(socket))
    }

    /// What is heard until then; sooner, when there was something on each of these interfaces.
    pub(crate) fn until(&self, then: Instant, awaited: &[u32]) -> io::Result<Vec<Query>> {
        let mut heard: Vec<Query> = Vec::new();
        let is_heard = |heard: &[Query], index: &u32| heard.iter().any(|query| query.interface == *index);
        while Instant::now() < then && !awaited.iter().all(|index| is_heard(&heard, index)) {
            if let Some(query) = self.hear()?
                && !heard.contains(&query)
                && heard.len() < MOST
            {
                heard.push(query);
            }
        }
        Ok(heard)
    }

    fn hear(&self) -> io::Result<Option<Query>> {
        let mut room = [0; 2048];
        let mut control = cmsg_space!(libc::in_pktinfo);
        let mut parts = [IoSliceMut::new(&mut room)];
        let message = match recvmsg::<SockaddrIn>(self.0.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())
        {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            message => message?,
        };
        let interface = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(info.ipi_ifindex as u32),
            _ => None,
        });
        let (from, length) = (message.address, message.bytes);
        Ok(from.zip(interface).and_then(|(from, interface)| query(&room[..length], from.ip(), interface)))
    }
}

/// The general query in an IPv4 packet.
fn query(packet: &[u8], from: Ipv4Addr, interface: u32) -> Option<Query> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let igmp = packet.get(header..).filter(|igmp| header >= 20 && igmp.len() >= 8)?;
    // Of one group it is no question for the others.
    if igmp[0] != QUERY || igmp[4..8] != [0; 4] {
        return None;
    }
    // RFC 3376, 7.1: told apart by length, and those of eight bytes by the time for answers, which the first version has not.
    let (version, every) = match igmp.get(9) {
        Some(code) if igmp.len() >= 12 => (3, Some(seconds(*code))),
        _ if igmp[1] == 0 => (1, None),
        _ => (2, None),
    };
    Some(Query { interface, from, version, every: every.filter(|every| *every > 0) })
}

/// A querier's interval as RFC 3376, 4.1.7 writes it: from 128 on a small floating-point number.
fn seconds(code: u8) -> u32 {
    match code {
        0..128 => u32::from(code),
        _ => (u32::from(code & 0x0f) | 0x10) << (u32::from(code >> 4 & 0x07) + 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(igmp: &[u8]) -> Vec<u8> {
        // With an option of IP, as they all have one.
        let mut packet = vec![0; 24];
        packet[0] = 0x46;
        packet.extend_from_slice(igmp);
        packet
    }

    fn read(igmp: &[u8]) -> Option<(u8, Option<u32>)> {
        query(&packet(igmp), Ipv4Addr::LOCALHOST, 2).map(|query| (query.version, query.every))
    }

    #[test]
    fn queries_of_all_versions_are_read() {
        assert_eq!(read(&[0x11, 0, 0xee, 0xff, 0, 0, 0, 0]), Some((1, None)));
        assert_eq!(read(&[0x11, 100, 0xee, 0x9b, 0, 0, 0, 0]), Some((2, None)));
        assert_eq!(read(&[0x11, 100, 0xec, 0x1e, 0, 0, 0, 0, 2, 125, 0, 0]), Some((3, Some(125))));
        assert_eq!(read(&[0x11, 100, 0, 0, 0, 0, 0, 0, 2, 0x8f, 0, 0]), Some((3, Some(31 << 3))));
        assert_eq!(read(&[0x11, 100, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]), Some((3, None)));
    }

    #[test]
    fn nothing_else_is_taken_for_one() {
        assert_eq!(read(&[0x16, 0, 0, 0, 224, 0, 1, 75]), None, "a report");
        assert_eq!(read(&[0x11, 100, 0, 0, 224, 0, 1, 75]), None, "a question about one group");
        let whole = packet(&[0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0]);
        for cut in 0..32 {
            assert_eq!(query(&whole[..cut], Ipv4Addr::LOCALHOST, 2), None, "{cut}");
        }
        assert_eq!(query(&[0x41; 40], Ipv4Addr::LOCALHOST, 2), None, "a header of four bytes is none");
    }
}
