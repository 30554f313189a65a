//! What the kernel says of a link beyond its name and addresses, and of the ways by which packets come and go.

use std::{io, net::Ipv4Addr};

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{BridgeQuerierState, InfoBridge, InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage},
};
use provost_server::rtnetlink::Kernel;

use crate::facts::Bridge;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    pub(crate) loopback: bool,
    pub(crate) broadcast: bool,
    pub(crate) carrier: bool,
    pub(crate) vlan: Option<u16>,
    /// Index of the link that it stands on.
    pub(crate) on: Option<u32>,
    /// Index of the link that it is a port of.
    pub(crate) part_of: Option<u32>,
    pub(crate) bridge: Option<Bridge>,
}

pub(crate) fn surroundings(kernel: &mut Kernel, index: u32) -> io::Result<Surroundings> {
    let mut question = LinkMessage::default();
    question.header.index = index;
    match kernel.ask(RouteNetlinkMessage::GetLink(question))? {
        Some(RouteNetlinkMessage::NewLink(link)) => Ok(understand(&link)),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn understand(link: &LinkMessage) -> Surroundings {
    let flags = link.header.flags;
    let mut found = Surroundings {
        loopback: flags.contains(LinkFlags::Loopback),
        broadcast: flags.contains(LinkFlags::Broadcast),
        carrier: flags.contains(LinkFlags::LowerUp),
        ..Surroundings::default()
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Link(index) => found.on = Some(*index),
            LinkAttribute::Controller(index) => found.part_of = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Data(InfoData::Vlan(vlan)) => {
                            found.vlan = vlan.iter().find_map(|info| match info {
                                InfoVlan::Id(id) => Some(*id),
                                _ => None,
                            });
                        }
                        LinkInfo::Data(InfoData::Bridge(infos)) => found.bridge = Some(bridge(infos)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn bridge(infos: &[InfoBridge]) -> Bridge {
    let mut bridge = Bridge::default();
    for info in infos {
        match info {
            InfoBridge::MulticastSnooping(on) => bridge.snoops = *on,
            InfoBridge::MulticastQuerier(on) => bridge.asks = *on,
            InfoBridge::MulticastQuerierState(states) => {
                bridge.asked_by = states.iter().find_map(|state| match state {
                    BridgeQuerierState::Ipv4Address(address) if !address.is_unspecified() => Some(*address),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    bridge
}

fn route(to: Ipv4Addr) -> RouteMessage {
    let mut question = RouteMessage::default();
    question.header.address_family = AddressFamily::Inet;
    question.header.destination_prefix_length = 32;
    question.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(to)));
    question
}

/// Whether the kernel would take a packet of `from` that comes in at this interface. It is asked as it asks itself, so that every rule
/// and every table counts.
pub(crate) fn is_believed(kernel: &mut Kernel, from: Ipv4Addr, interface: u32, own: Ipv4Addr) -> io::Result<bool> {
    let mut question = route(own);
    question.header.source_prefix_length = 32;
    question.attributes.push(RouteAttribute::Source(RouteAddress::Inet(from)));
    question.attributes.push(RouteAttribute::Iif(interface));
    match kernel.ask(RouteNetlinkMessage::GetRoute(question)) {
        Ok(found) => Ok(found.is_some()),
        // EXDEV by older kernels, EINVAL by those since 6.14.
        Err(error) if matches!(error.raw_os_error(), Some(EXDEV | EINVAL)) => Ok(false),
        Err(error) => Err(error),
    }
}

const EXDEV: i32 = nix::errno::Errno::EXDEV as i32;
const EINVAL: i32 = nix::errno::Errno::EINVAL as i32;

/// Index of the interface by which packets to an address leave.
pub(crate) fn way_to(kernel: &mut Kernel, to: Ipv4Addr) -> io::Result<Option<u32>> {
    let Some(RouteNetlinkMessage::NewRoute(found)) = kernel.ask(RouteNetlinkMessage::GetRoute(route(to)))? else {
        return Ok(None);
    };
    Ok(found.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_known_for_what_it_is() {
        let mut kernel = Kernel::open().unwrap();
        let lo = surroundings(&mut kernel, 1).unwrap();
        assert!(lo.loopback && lo.carrier && lo.bridge.is_none() && lo.vlan.is_none(), "{lo:?}");
        assert_eq!(way_to(&mut kernel, Ipv4Addr::LOCALHOST).unwrap(), Some(1));
        assert!(surroundings(&mut kernel, 999_999).is_err());
    }
}
