//! Whether this machine's firewall lets through what phones send, and what they are sent.

use std::net::Ipv4Addr;

use super::{error, warning};
use crate::{
    Finding,
    facts::{Facts, Link},
    firewall::{Fate, Hook, Packet, fate},
};

const CHECK: &str = "firewall";
const UDP: u32 = 17;
const IGMP: u32 = 2;
/// One of the ports that the kernel would choose, where the settings leave it free.
const SOME_PORT: u16 = 40_000;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for link in facts.fit() {
        let Some(own) = link.interface.addresses.first() else { continue };
        let Some(phone) = facts.neighbour(own.address, own.mask) else { continue };
        for packet in packets(facts, link.name(), own.address, phone) {
            let Fate::Dropped(place) = fate(&facts.chains, &packet) else { continue };
            let what = format!("the firewall drops {}: {place}", packet.what);
            // The same rule mostly stands in the way on all interfaces.
            if let Some(same) = found.iter_mut().find(|finding| finding.what == what) {
                same.interface = None;
                continue;
            }
            let make = if packet.protocol == IGMP { warning } else { error };
            found.push(make(CHECK, Some(link.name()), what, remedy(facts, &packet)));
        }
    }
    found
}

/// What becomes of what phones on this link send and are sent.
pub(crate) fn fates(facts: &Facts, link: &Link) -> Vec<Fate> {
    let Some(own) = link.interface.addresses.first() else { return Vec::new() };
    let Some(phone) = facts.neighbour(own.address, own.mask) else { return Vec::new() };
    packets(facts, link.name(), own.address, phone).iter().map(|packet| fate(&facts.chains, packet)).collect()
}

fn packets<'a>(facts: &Facts, interface: &'a str, own: Ipv4Addr, phone: Ipv4Addr) -> Vec<Packet<'a>> {
    let group = facts.wanted.group;
    let told = facts.told.as_ref().and_then(|told| told.pnp.reply_port);
    let reply = told.unwrap_or(match facts.wanted.reply_port {
        0 => SOME_PORT,
        port => port,
    });
    let subscribe = Packet {
        what: "phones' SUBSCRIBEs",
        hook: Hook::In,
        interface,
        protocol: UDP,
        source: phone,
        source_port: 5060,
        destination: *group.ip(),
        port: group.port(),
        is_answer: false,
    };
    let mut packets = Vec::new();
    if facts.wanted.pnp {
        packets.push(subscribe.clone());
        packets.push(Packet {
            what: "answers and NOTIFYs to phones",
            hook: Hook::Out,
            source: own,
            source_port: reply,
            destination: phone,
            port: 5060,
            ..subscribe.clone()
        });
        packets.push(Packet {
            what: "phones' answers to NOTIFYs",
            destination: own,
            port: reply,
            is_answer: true,
            ..subscribe.clone()
        });
        packets.push(Packet {
            what: "IGMP queries, so a switch that asks for members will cut this machine off from the group",
            protocol: IGMP,
            destination: Ipv4Addr::new(224, 0, 0, 1),
            ..subscribe.clone()
        });
    }
    for door in &facts.wanted.doors {
        let what = match door.name {
            "HTTP" => "phones' requests over HTTP",
            "HTTPS" => "phones' requests over HTTPS",
            _ => "phones' requests over TFTP",
        };
        packets.push(Packet {
            what,
            protocol: door.protocol,
            source_port: 49_152,
            destination: own,
            port: door.port,
            ..subscribe.clone()
        });
    }
    packets
}

/// In the words of whoever wrote the rules.
fn remedy(facts: &Facts, packet: &Packet<'_>) -> String {
    if packet.hook == Hook::Out {
        return "Allow UDP from this machine to its phones in the chain for output.".into();
    }
    if packet.is_answer {
        return "Allow what belongs to conversations that this machine began (`ct state established,related accept`)."
            .into();
    }
    if packet.protocol == IGMP {
        return "Allow IGMP in (`meta l4proto igmp accept`, `iptables -I INPUT -p igmp -j ACCEPT`).".into();
    }
    let name = if packet.protocol == UDP { "udp" } else { "tcp" };
    let port = packet.port;
    if facts.chains.iter().any(|chain| chain.name.starts_with("ufw-")) {
        return format!("`ufw allow {port}/{name}`");
    }
    if facts.chains.iter().any(|chain| chain.table.ends_with(" firewalld")) {
        return format!("`firewall-cmd --permanent --add-port={port}/{name} && firewall-cmd --reload`");
    }
    match facts.chains.iter().any(|chain| chain.table.starts_with("iptables")) {
        true => format!("`iptables -I INPUT -p {name} --dport {port} -j ACCEPT`, and keep it."),
        false => format!("Put `{name} dport {port} accept` before it, in /etc/nftables.conf too."),
    }
}
