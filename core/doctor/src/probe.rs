//! A SUBSCRIBE of our own to the group, and whether it comes back: the way that a phone's takes through this machine, firewall included.
//!
//! It names an event package that nobody has, and no MAC address: a server counts it and says nothing, and enrols nobody.

use std::{
    io,
    net::{SocketAddr, SocketAddrV4},
    time::{Duration, Instant},
};

use provost_server::{
    pnp::{interfaces::Interface, listener::Ears},
    settings::Listen,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{facts::Echo, name::EVENT};

/// For all of them together. On one machine they take some microseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Room for what else the group says meanwhile.
const ROOM: usize = 1 << 20;

/// One that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) interface: String,
    /// Where it came from; none if it was not sent.
    pub(crate) from: Option<SocketAddrV4>,
    pub(crate) echo: Echo,
}

/// All that were sent.
#[derive(Clone, Debug)]
pub(crate) struct Probes {
    pub(crate) sent: Vec<Probe>,
    /// Why nobody listened for them; then what was not heard need not be lost.
    pub(crate) deaf: Option<String>,
}

/// Sends one out at each interface and listens for all of them.
pub(crate) fn probe(group: SocketAddrV4, interfaces: &[Interface]) -> Probes {
    match listen(group, interfaces) {
        Ok(sent) => Probes { sent, deaf: None },
        Err(why) => {
            let sent = interfaces.iter().map(|interface| send(group, interface)).collect();
            Probes { sent, deaf: Some(why) }
        }
    }
}

fn listen(group: SocketAddrV4, interfaces: &[Interface]) -> Result<Vec<Probe>, String> {
    // Not the group's port itself: as long as that is held, a PBX that wants 5060 on all addresses cannot start.
    let open = Ears::open(Listen::Raw, group, ROOM);
    let mut ears = open.map_err(|_| format!("no raw socket may be opened here to hear {group}"))?;
    let names: Vec<String> = interfaces.iter().map(|interface| interface.name.clone()).collect();
    for (name, outcome) in ears.follow(interfaces, &names) {
        outcome.map_err(|error| format!("cannot join {} on {name}: {error}", group.ip()))?;
    }
    let mut probes: Vec<Probe> = interfaces.iter().map(|interface| send(group, interface)).collect();
    let until = Instant::now() + PATIENCE;
    while probes.iter().any(|probe| probe.echo == Echo::Lost) && Instant::now() < until {
        let heard = ears.hear().map_err(|error| format!("cannot listen to {group}: {error}"))?;
        let Some(datagram) = heard else { continue };
        for (probe, interface) in probes.iter_mut().zip(interfaces) {
            if probe.from == Some(datagram.from) && Some(interface.index) == datagram.interface() {
                probe.echo = Echo::CameBack;
            }
        }
    }
    Ok(probes)
}

fn send(group: SocketAddrV4, interface: &Interface) -> Probe {
    let name = interface.name.clone();
    match sent(group, interface) {
        Ok(from) => Probe { interface: name, from: Some(from), echo: Echo::Lost },
        Err(error) => Probe { interface: name, from: None, echo: Echo::NotSent(error.to_string()) },
    }
}

/// The address that it was sent from.
fn sent(group: SocketAddrV4, interface: &Interface) -> io::Result<SocketAddrV4> {
    let own = interface.addresses.first().ok_or(io::ErrorKind::AddrNotAvailable)?.address;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&SocketAddrV4::new(own, 0).into())?;
    socket.set_multicast_if_v4(&own)?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_multicast_ttl_v4(1)?;
    let from = match socket.local_addr()?.as_socket() {
        Some(SocketAddr::V4(from)) => from,
        _ => return Err(io::ErrorKind::AddrNotAvailable.into()),
    };
    socket.send_to(subscribe(group, from).as_bytes(), &group.into())?;
    Ok(from)
}

fn subscribe(group: SocketAddrV4, from: SocketAddrV4) -> String {
    let id = from.port();
    format!(
        "SUBSCRIBE sip:doctor@{group} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-doctor-{id};rport\r\nMax-Forwards: 0\r\n\
         From: <sip:doctor@{from}>;tag={id}\r\nTo: <sip:doctor@{group}>\r\nCall-ID: doctor-{id}@{}\r\nCSeq: 1 SUBSCRIBE\r\n\
         Contact: <sip:{from}>\r\nEvent: {EVENT}\r\nExpires: 0\r\nContent-Length: 0\r\n\r\n",
        from.ip()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_server_takes_it_for_a_phone() {
        let text = subscribe("224.0.1.75:5060".parse().unwrap(), "192.0.2.1:40000".parse().unwrap());
        assert!(
            text.contains("\r\nEvent: provost-doctor\r\n")
                && !text.contains("ua-profile")
                && text.ends_with("\r\n\r\n")
        );
    }
}
