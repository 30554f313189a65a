//! What was read, before anybody judges it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::SystemTime,
};

use provost_server::{limits::Holder, pnp::interfaces::Interface};
use serde::Deserialize;

use crate::{NotLooked, firewall::Chain, querier::Query, tables::Socket};

/// What the settings want, as far as it can be in anybody's way.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) pnp: bool,
    pub(crate) group: SocketAddrV4,
    pub(crate) interfaces: Vec<String>,
    pub(crate) off_link: bool,
    pub(crate) receive_buffer: usize,
    pub(crate) reply_port: u16,
    /// Doors that are to be open, with their protocol and port.
    pub(crate) doors: Vec<Door>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    pub(crate) name: &'static str,
    /// As IP numbers it: 6 or 17.
    pub(crate) protocol: u32,
    pub(crate) port: u16,
}

/// An interface with what surrounds it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) interface: Interface,
    pub(crate) loopback: bool,
    /// It is of a kind that has broadcasts, as networks with phones have.
    pub(crate) broadcast: bool,
    pub(crate) carrier: bool,
    /// The VLAN and the interface that carries it.
    pub(crate) vlan: Option<(u16, Option<String>)>,
    /// VLANs that it carries.
    pub(crate) carries: Vec<u16>,
    pub(crate) bridge: Option<Bridge>,
    /// The bridge or bond that it is a port of.
    pub(crate) part_of: Option<String>,
    /// Sockets that have joined the group here, by the kernel's own list.
    pub(crate) members: u32,
    /// The reverse-path filter in force: 0 none, 1 strict, 2 loose.
    pub(crate) reverse_path: u8,
}

impl Link {
    pub(crate) fn name(&self) -> &str {
        &self.interface.name
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bridge {
    pub(crate) snoops: bool,
    /// It asks for members itself.
    pub(crate) asks: bool,
    /// Who else was heard asking.
    pub(crate) asked_by: Option<Ipv4Addr>,
}

/// A socket and who holds it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) socket: Socket,
    pub(crate) holder: Option<Holder>,
}

impl Held {
    pub(crate) fn is_ours(&self) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.name == crate::name::PROGRAM)
    }

    /// `asterisk (pid 812)`
    pub(crate) fn who(&self) -> String {
        match &self.holder {
            Some(Holder { pid, name }) => format!("{name} (pid {pid})"),
            None => "a process that only root can see".into(),
        }
    }
}

/// What `/api/v1/network` of the running server says; names as there.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Told {
    pub(crate) pnp: ToldPnp,
    pub(crate) interfaces: Vec<ToldInterface>,
    pub(crate) doors: Vec<ToldDoor>,
}

impl Told {
    pub(crate) fn has_joined(&self, interface: &str) -> bool {
        self.interfaces.iter().any(|told| told.name == interface && told.joined)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ToldPnp {
    pub(crate) socket: Option<String>,
    pub(crate) deaf: Option<String>,
    pub(crate) reply_port: Option<u16>,
    pub(crate) receive_buffer_asked: u64,
    pub(crate) receive_buffer_granted: Option<u64>,
    pub(crate) lost: Option<u64>,
    pub(crate) dropped: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ToldInterface {
    pub(crate) name: String,
    pub(crate) joined: bool,
    pub(crate) reason: Option<String>,
    pub(crate) datagrams: u64,
    pub(crate) last_from: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ToldDoor {
    pub(crate) door: String,
    pub(crate) address: String,
    pub(crate) open: bool,
    pub(crate) reason: Option<String>,
}

/// A phone that the running server has seen.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Phone {
    pub(crate) mac: String,
    pub(crate) address: Option<IpAddr>,
    pub(crate) interface: Option<String>,
    /// `enrolled`, `pending`, …
    pub(crate) state: String,
}

impl Phone {
    pub(crate) fn ipv4(&self) -> Option<Ipv4Addr> {
        match self.address?.to_canonical() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }
}

/// What came of a SUBSCRIBE that was sent to the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    CameBack,
    Lost,
    /// The kernel would not send it.
    NotSent(String),
}

/// A sender whose packets the kernel would throw away.
#[derive(Clone, Debug)]
pub(crate) struct NotBelieved {
    pub(crate) interface: String,
    pub(crate) from: Ipv4Addr,
    /// Where the way back goes out.
    pub(crate) back: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Clock {
    pub(crate) now: SystemTime,
    /// The newest file that the server keeps.
    pub(crate) newest: Option<(PathBuf, SystemTime)>,
    /// Those that phones are told.
    pub(crate) servers: Vec<TimeServer>,
}

/// An NTP server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TimeServer {
    pub(crate) name: String,
    /// Seconds by which its clock is ahead of this machine's; none where it did not answer.
    pub(crate) ahead: Option<f64>,
}

/// What was heard while somebody listened for IGMP queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listened {
    pub(crate) seconds: u64,
    pub(crate) queries: Vec<Query>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Resolver {
    pub(crate) servers: Vec<IpAddr>,
    /// Those of them that gave no answer.
    pub(crate) silent: Vec<IpAddr>,
    /// Names that phones are told, and that this machine cannot look up.
    pub(crate) unknown: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) wanted: Wanted,
    pub(crate) links: Vec<Link>,
    pub(crate) sockets: Vec<Held>,
    pub(crate) told: Option<Told>,
    /// Those seen last.
    pub(crate) phones: Vec<Phone>,
    /// How many there are, those among them that were never seen.
    pub(crate) phones_in_all: u64,
    pub(crate) chains: Vec<Chain>,
    /// By the name of the interface.
    pub(crate) echoes: Vec<(String, Echo)>,
    /// Interfaces on which the running server did not hear what came back to us.
    pub(crate) unheard: Vec<String>,
    pub(crate) not_believed: Vec<NotBelieved>,
    /// Bytes that a socket may have without CAP_NET_ADMIN.
    pub(crate) buffer_limit: Option<u64>,
    pub(crate) may_exceed: bool,
    /// How many neighbours with IPv4 addresses the kernel remembers at most, on all networks together.
    pub(crate) neighbour_limit: Option<u64>,
    /// None where nobody was to listen, or could.
    pub(crate) listened: Option<Listened>,
    pub(crate) clock: Clock,
    /// None where it may not be looked at.
    pub(crate) resolver: Option<Resolver>,
    pub(crate) not_looked: Vec<NotLooked>,
}

impl Facts {
    /// Interfaces on which phones are to be heard, and can be.
    pub(crate) fn fit(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(|link| link.interface.is_chosen(&self.wanted.interfaces))
    }

    /// Interfaces on which a switch may be that snoops IGMP: networks of others, in use.
    pub(crate) fn beyond(&self) -> impl Iterator<Item = &Link> {
        self.fit().filter(|link| !link.loopback && link.broadcast && link.carrier)
    }

    /// Whether a server of ours is there, as far as can be seen.
    pub(crate) fn is_running(&self) -> bool {
        self.told.is_some() || self.sockets.iter().any(Held::is_ours)
    }

    /// What a phone on this link would send from: an address of its network that is not ours.
    pub(crate) fn neighbour(&self, address: Ipv4Addr, mask: Ipv4Addr) -> Option<Ipv4Addr> {
        let (address, mask) = (u32::from(address), u32::from(mask));
        let own = |candidate: Ipv4Addr| {
            self.links.iter().any(|link| link.interface.addresses.iter().any(|own| own.address == candidate))
        };
        let last = !mask;
        let hosts = (1..last).map(|host| Ipv4Addr::from(address & mask | host)).take(64);
        hosts.into_iter().find(|candidate| !own(*candidate))
    }
}
