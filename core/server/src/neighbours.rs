//! Where an asker is, as the kernel sees it: on this machine, behind one of our own networks (and then with which MAC address), or
//! beyond a router. Asked over rtnetlink(7), which answers one question about one address however many neighbours there are.

use std::{cell::RefCell, fmt, io, net::IpAddr};

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};
use provost_plugin::MacAddr;

use crate::rtnetlink::Kernel;

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// It is one of this machine's own.
    Here,
    /// On a network of ours. None: the kernel does not know its MAC address, or not any more.
    OnLink(Option<MacAddr>),
    /// Behind a router, or nowhere that the kernel could say.
    Beyond,
}

impl fmt::Display for Whence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whence::Here => f.write_str("this machine itself"),
            Whence::OnLink(Some(mac)) => write!(f, "{mac} on this network"),
            Whence::OnLink(None) => f.write_str("on this network, with a MAC address that is not known"),
            Whence::Beyond => f.write_str("beyond a router"),
        }
    }
}

/// Where `address` is right now.
pub fn whence(address: IpAddr) -> Whence {
    let address = address.to_canonical();
    if address.is_loopback() {
        return Whence::Here;
    }
    let asked = with_kernel(|kernel| {
        let Some((interface, kind, direct)) = kernel.route(address)? else { return Ok(Whence::Beyond) };
        if kind == RouteType::Local {
            return Ok(Whence::Here);
        }
        match interface.filter(|_| direct && kind == RouteType::Unicast) {
            Some(interface) => Ok(Whence::OnLink(kernel.neighbour(address, interface)?)),
            None => Ok(Whence::Beyond),
        }
    });
    asked.unwrap_or_else(|error| {
        tracing::warn!(peer = %address, %error, "cannot ask the kernel where a phone is");
        Whence::Beyond
    })
}

/// The MAC address behind an address on one of our own networks, if the kernel has it by now.
pub(crate) fn mac_of(address: IpAddr) -> Option<MacAddr> {
    match whence(address) {
        Whence::OnLink(mac) => mac,
        Whence::Here | Whence::Beyond => None,
    }
}

/// A socket for each thread, so that nobody waits for anybody. One that failed is not used again: an answer may still come on it.
fn with_kernel<T>(ask: impl FnOnce(&mut Kernel) -> io::Result<T>) -> io::Result<T> {
    thread_local! {
        static KERNEL: RefCell<Option<Kernel>> = const { RefCell::new(None) };
    }
    KERNEL.with_borrow_mut(|kernel| {
        let mut open = match kernel.take() {
            Some(open) => open,
            None => Kernel::open()?,
        };
        let answer = ask(&mut open)?;
        *kernel = Some(open);
        Ok(answer)
    })
}

impl Kernel {
    /// The interface by which an address is reached, what kind of route that is, and whether no router is between.
    fn route(&mut self, address: IpAddr) -> io::Result<Option<(Option<u32>, RouteType, bool)>> {
        let mut question = RouteMessage::default();
        let (family, length, destination) = match address {
            IpAddr::V4(address) => (AddressFamily::Inet, 32, RouteAddress::Inet(address)),
            IpAddr::V6(address) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(address)),
        };
        question.header.address_family = family;
        question.header.destination_prefix_length = length;
        question.attributes.push(RouteAttribute::Destination(destination));
        let Some(RouteNetlinkMessage::NewRoute(route)) = self.ask(RouteNetlinkMessage::GetRoute(question))? else {
            return Ok(None);
        };
        let interface = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        let is_hop = |attribute: &RouteAttribute| {
            matches!(attribute, RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_))
        };
        Ok(Some((interface, route.header.kind, !route.attributes.iter().any(is_hop))))
    }

    fn neighbour(&mut self, address: IpAddr, interface: u32) -> io::Result<Option<MacAddr>> {
        let mut question = NeighbourMessage::default();
        let (family, destination) = match address {
            IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
            IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
        };
        question.header.family = family;
        question.header.ifindex = interface;
        question.attributes.push(NeighbourAttribute::Destination(destination));
        let Some(RouteNetlinkMessage::NewNeighbour(found)) = self.ask(RouteNetlinkMessage::GetNeighbour(question))?
        else {
            return Ok(None);
        };
        Ok(found.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                <[u8; 6]>::try_from(bytes.as_slice()).ok().filter(|mac| *mac != [0; 6]).map(MacAddr::new)
            }
            _ => None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_this_machine_is_here() {
        assert_eq!(whence("127.0.0.9".parse().unwrap()), Whence::Here);
        assert_eq!(whence("::ffff:127.0.0.1".parse().unwrap()), Whence::Here);
        assert_eq!(mac_of("127.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn the_kernel_can_be_asked_again_and_again() {
        for _ in 0..3 {
            let there = with_kernel(|kernel| kernel.route("127.0.0.1".parse().unwrap())).unwrap();
            assert!(matches!(there, Some((_, RouteType::Local, true))), "{there:?}");
            assert_eq!(with_kernel(|kernel| kernel.neighbour("127.0.0.1".parse().unwrap(), 1)).unwrap(), None);
        }
        // The broadcast address is no phone.
        assert_eq!(whence("255.255.255.255".parse().unwrap()), Whence::Beyond);
    }
}
