//! The way to a phone: out at which interface, and from which of our addresses.

use std::{
    io::{self, IoSlice},
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd,
};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use tokio::{io::Interest, net::UdpSocket};

use super::interfaces::Interface;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Index of the interface; 0 leaves it to the routing table.
    pub(super) interface: u32,
    pub(super) local: Ipv4Addr,
}

impl Way {
    /// The way to a phone that was heard some time ago on the interface of this name, or never. The subnets that we are in ourselves
    /// come before the routing table, which on a host with two legs in one network may choose the wrong one.
    pub(super) fn to(phone: Ipv4Addr, heard_on: Option<&str>, interfaces: &[Interface]) -> io::Result<Way> {
        let named = interfaces.iter().filter(|interface| heard_on == Some(interface.name.as_str()));
        let near = interfaces.iter().filter(|interface| interface.reaches(phone));
        let found = named
            .chain(near)
            .filter(|interface| interface.up)
            .find_map(|interface| Some(Way { interface: interface.index, local: interface.address_for(phone)? }));
        match found {
            Some(way) => Ok(way),
            None => Ok(Way { interface: 0, local: routed(phone)? }),
        }
    }

    pub(super) async fn send(self, socket: &UdpSocket, bytes: &[u8], to: SocketAddrV4) -> io::Result<()> {
        socket.async_io(Interest::WRITABLE, || self.send_now(socket, bytes, to)).await
    }

    /// Sends by a socket that does not block: if that can be done at once.
    pub(super) fn send_now(self, socket: &impl AsRawFd, bytes: &[u8], to: SocketAddrV4) -> io::Result<()> {
        let info = libc::in_pktinfo {
            ipi_ifindex: self.interface as i32,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from(self.local).to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let control = [ControlMessage::Ipv4PacketInfo(&info)];
        let parts = [IoSlice::new(bytes)];
        sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&SockaddrIn::from(to)))?;
        Ok(())
    }
}

/// The address that the routing table would send from; nothing is sent to find out.
pub(super) fn routed(phone: Ipv4Addr) -> io::Result<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((phone, 5060))?;
    match socket.local_addr()?.ip() {
        std::net::IpAddr::V4(address) => Ok(address),
        std::net::IpAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::interfaces::Address, *};

    fn interface(index: u32, name: &str, up: bool, addresses: &[(&str, &str)]) -> Interface {
        let address =
            |(address, mask): &(&str, &str)| Address { address: address.parse().unwrap(), mask: mask.parse().unwrap() };
        let addresses = addresses.iter().map(address).collect();
        Interface { name: name.into(), index, up, multicast: true, addresses }
    }

    #[test]
    fn the_interface_that_heard_the_phone_comes_first_then_the_one_in_its_subnet() {
        let phone: Ipv4Addr = "10.2.9.9".parse().unwrap();
        let interfaces = [
            interface(2, "eth0", true, &[("10.1.0.1", "255.255.0.0")]),
            interface(3, "eth1", true, &[("192.0.2.1", "255.255.255.0"), ("10.2.0.1", "255.255.0.0")]),
            interface(4, "eth2", false, &[("10.2.0.2", "255.255.0.0")]),
        ];
        let way = |heard_on| {
            let way = Way::to(phone, heard_on, &interfaces).unwrap();
            (way.interface, way.local.to_string())
        };
        assert_eq!(way(None), (3, "10.2.0.1".into()));
        assert_eq!(way(Some("eth0")), (2, "10.1.0.1".into()), "where it was heard, it was answered too");
        assert_eq!(way(Some("eth2")), (3, "10.2.0.1".into()), "what is down leads nowhere");
        assert_eq!(way(Some("gone")), (3, "10.2.0.1".into()));
        let there = Way::to(Ipv4Addr::LOCALHOST, Some("gone"), &[]).unwrap();
        assert_eq!(there, Way { interface: 0, local: Ipv4Addr::LOCALHOST }, "the routing table knows the rest");
    }
}
