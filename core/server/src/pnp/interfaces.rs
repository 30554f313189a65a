//! The network as it is right now, and a call whenever it changes.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
    thread,
};

use nix::{
    net::if_::{InterfaceFlags, if_nametoindex},
    sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket},
};
use tokio::sync::mpsc;

/// A network interface with the IPv4 addresses on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    pub up: bool,
    pub multicast: bool,
    pub addresses: Vec<Address>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub address: Ipv4Addr,
    pub mask: Ipv4Addr,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, u32::from(self.mask).count_ones())
    }
}

impl Address {
    fn reaches(self, peer: Ipv4Addr) -> bool {
        u32::from(self.address) & u32::from(self.mask) == u32::from(peer) & u32::from(self.mask)
    }
}

impl Interface {
    /// Our address in the phone's own subnet: the one that it can surely reach. Else the first one there is.
    pub fn address_for(&self, peer: Ipv4Addr) -> Option<Ipv4Addr> {
        let own =
            self.addresses.iter().filter(|address| address.reaches(peer)).max_by_key(|address| u32::from(address.mask));
        own.or(self.addresses.first()).map(|address| address.address)
    }

    /// Whether the phone is in a subnet of ours here.
    pub fn reaches(&self, peer: Ipv4Addr) -> bool {
        self.addresses.iter().any(|address| address.reaches(peer))
    }

    /// Whether the group is to be joined here: named in the settings, or, if none is named, up and able.
    pub fn is_chosen(&self, named: &[String]) -> bool {
        self.unfit(named).is_none()
    }

    /// Why the group is not to be joined here.
    pub fn unfit(&self, named: &[String]) -> Option<&'static str> {
        if !named.is_empty() && !named.contains(&self.name) {
            Some("pnp.interfaces does not name it")
        } else if !self.up {
            Some("it is down")
        } else if self.addresses.is_empty() {
            Some("it has no IPv4 address")
        } else if named.is_empty() && !self.multicast {
            Some("it cannot do multicast")
        } else {
            None
        }
    }
}

/// Every interface there is, in the order of their indices.
pub fn list() -> io::Result<Vec<Interface>> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for entry in nix::ifaddrs::getifaddrs()? {
        let position = match interfaces.iter().position(|interface| interface.name == entry.interface_name) {
            Some(position) => position,
            None => {
                // It may be gone again by now.
                let Ok(index) = if_nametoindex(entry.interface_name.as_str()) else { continue };
                interfaces.push(Interface {
                    name: entry.interface_name.clone(),
                    index,
                    up: entry.flags.contains(InterfaceFlags::IFF_UP),
                    multicast: entry.flags.contains(InterfaceFlags::IFF_MULTICAST),
                    addresses: Vec::new(),
                });
                interfaces.len() - 1
            }
        };
        let address = entry.address.as_ref().and_then(|address| address.as_sockaddr_in().map(|address| address.ip()));
        if let Some(address) = address {
            let mask = entry.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in().map(|mask| mask.ip()));
            interfaces[position].addresses.push(Address { address, mask: mask.unwrap_or(Ipv4Addr::BROADCAST) });
        }
    }
    interfaces.sort_by_key(|interface| interface.index);
    Ok(interfaces)
}

/// All IPv4 addresses, for doors that serve on each of them.
pub fn addresses(interfaces: &[Interface]) -> Vec<IpAddr> {
    interfaces
        .iter()
        .filter(|interface| interface.up)
        .flat_map(|interface| interface.addresses.iter().map(|address| IpAddr::V4(address.address)))
        .collect()
}

/// Hears from the kernel that links or addresses changed (rtnetlink). What changed is then looked up afresh: the messages only say
/// "look again", so that a lost one costs nothing once the next arrives.
#[derive(Debug)]
pub struct Changes {
    heard: mpsc::Receiver<()>,
}

impl Changes {
    pub fn subscribe() -> io::Result<Changes> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        let groups = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR) as u32;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        // Room for one: a second change before the first was looked at is seen by the same look.
        let (tell, heard) = mpsc::channel(1);
        thread::Builder::new().name("network".into()).spawn(move || {
            let mut buffer = [0; 8192];
            loop {
                match recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                    // Lost messages are all the more reason to look again.
                    Ok(_) | Err(nix::Error::ENOBUFS) => match tell.try_send(()) {
                        Ok(()) | Err(mpsc::error::TrySendError::Full(())) => {}
                        Err(mpsc::error::TrySendError::Closed(())) => return,
                    },
                    Err(nix::Error::EINTR) => {}
                    Err(error) => {
                        tracing::error!(%error, "interfaces that come and go are no longer followed; restart after a change");
                        return;
                    }
                }
            }
        })?;
        Ok(Changes { heard })
    }

    /// Returns once something has changed since the last call; never if nothing can be heard any more.
    pub async fn next(&mut self) {
        if self.heard.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_is_answered_from_the_address_in_its_own_subnet() {
        let address =
            |address: &str, mask: &str| Address { address: address.parse().unwrap(), mask: mask.parse().unwrap() };
        let interface = Interface {
            name: "eth0".into(),
            index: 2,
            up: true,
            multicast: true,
            addresses: vec![
                address("10.1.0.1", "255.0.0.0"),
                address("10.2.0.1", "255.255.0.0"),
                address("192.0.2.1", "255.255.255.0"),
            ],
        };
        let answered = |peer: &str| interface.address_for(peer.parse().unwrap()).unwrap().to_string();
        assert_eq!(answered("192.0.2.77"), "192.0.2.1");
        assert_eq!(answered("10.2.9.9"), "10.2.0.1", "the narrowest subnet counts");
        assert_eq!(answered("203.0.113.5"), "10.1.0.1", "a stranger is answered from the first address");
    }

    #[test]
    fn the_loopback_is_chosen_only_by_name() {
        let interfaces = list().unwrap();
        let lo = interfaces.iter().find(|interface| interface.name == "lo").expect("there is always a loopback");
        assert!(!lo.is_chosen(&[]));
        assert_eq!(lo.is_chosen(&["lo".into()]), lo.up);
    }
}
