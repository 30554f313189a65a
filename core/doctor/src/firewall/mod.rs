//! Whether the firewall of this machine lets a packet through: its rules as `nft` and `iptables-save` write them, read and never changed,
//! and the walk of one packet through them.
//!
//! Only what phones need is known of their language. A match that is not known makes a rule neither hold nor fail: it never leads to a
//! finding, and what it leaves open is said.

pub(crate) mod iptables;
pub(crate) mod nft;

use std::net::Ipv4Addr;

/// Chains that call each other deeper than that are not followed; the kernel's own limit is 16.
const DEPTH: usize = 16;

/// On its way in, or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    In,
    Out,
}

/// A packet that is to get through.
#[derive(Clone, Debug)]
pub(crate) struct Packet<'a> {
    /// For people: what comes to harm without it.
    pub(crate) what: &'static str,
    pub(crate) hook: Hook,
    pub(crate) interface: &'a str,
    /// As IP numbers them.
    pub(crate) protocol: u32,
    pub(crate) source: Ipv4Addr,
    pub(crate) source_port: u16,
    pub(crate) destination: Ipv4Addr,
    pub(crate) port: u16,
    /// It belongs to a conversation that this machine began.
    pub(crate) is_answer: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The program that lists it, its family and table: `nft inet filter`.
    pub(crate) table: String,
    pub(crate) name: String,
    /// Where packets enter it from outside, if they do.
    pub(crate) hook: Option<Hook>,
    /// Only packets of these interfaces do; empty is all.
    pub(crate) devices: Vec<String>,
    /// What falls off its end is dropped.
    pub(crate) drops: bool,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) verdict: Verdict,
    /// How people find it.
    pub(crate) place: String,
}

/// Numbers, or IPv4 addresses as numbers, from and to.
pub(crate) type Ranges = Vec<(u32, u32)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Names, with `*` (nftables) or `+` (iptables) for any rest.
    CameIn(Vec<String>),
    GoesOut(Vec<String>),
    Protocol(Ranges),
    Source(Ranges),
    Destination(Ranges),
    SourcePort(Ranges),
    Port(Ranges),
    /// Of connection tracking, in small letters.
    State(Vec<String>),
    /// Of the destination: `multicast`, `local`, `unicast`.
    Kind(Vec<String>),
    Always(bool),
    Not(Box<Condition>),
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Jump(String),
    Goto(String),
    Return,
    Next,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Passes,
    /// By this rule, or this chain's policy.
    Dropped(String),
    /// It hangs on something that is not understood.
    Open,
}

impl Condition {
    /// None: it cannot be said.
    fn holds(&self, packet: &Packet<'_>) -> Option<bool> {
        let within = |ranges: &Ranges, number: u32| ranges.iter().any(|(from, to)| (*from..=*to).contains(&number));
        let has_ports = packet.protocol == 6 || packet.protocol == 17;
        let named = |names: &Vec<String>| {
            names.iter().any(|name| match name.strip_suffix(['*', '+']) {
                Some(begin) => packet.interface.starts_with(begin),
                None => name == packet.interface,
            })
        };
        Some(match self {
            Condition::CameIn(names) => packet.hook == Hook::In && named(names),
            Condition::GoesOut(names) => packet.hook == Hook::Out && named(names),
            Condition::Protocol(numbers) => within(numbers, packet.protocol),
            Condition::Source(addresses) => within(addresses, packet.source.into()),
            Condition::Destination(addresses) => within(addresses, packet.destination.into()),
            Condition::SourcePort(ports) => has_ports && within(ports, packet.source_port.into()),
            Condition::Port(ports) => has_ports && within(ports, packet.port.into()),
            Condition::State(states) => {
                let state = if packet.is_answer { "established" } else { "new" };
                states.iter().any(|known| known == state)
            }
            Condition::Kind(kinds) => {
                let is = |kind: &str| match kind {
                    "multicast" => packet.destination.is_multicast(),
                    "local" | "unicast" | "host" => !packet.destination.is_multicast() && packet.hook == Hook::In,
                    _ => false,
                };
                kinds.iter().any(|kind| is(kind))
            }
            Condition::Always(holds) => *holds,
            Condition::Not(condition) => !condition.holds(packet)?,
            Condition::Unknown => return None,
        })
    }
}

impl Rule {
    fn holds(&self, packet: &Packet<'_>) -> Option<bool> {
        let mut open = false;
        for condition in &self.conditions {
            match condition.holds(packet) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => open = true,
            }
        }
        (!open).then_some(true)
    }
}

/// How the walk through one chain ended.
enum End {
    Accepted,
    Dropped(String),
    /// Nothing took it.
    Through,
}

struct Walk<'a> {
    chains: &'a [Chain],
    packet: &'a Packet<'a>,
    /// A rule that is not understood may have let it pass before.
    may_have_passed: bool,
    /// One that is not understood may have dropped it.
    may_be_dropped: bool,
}

impl Walk<'_> {
    fn chain(&mut self, chain: &Chain, depth: usize) -> End {
        for rule in &chain.rules {
            let holds = rule.holds(self.packet);
            match (&rule.verdict, holds) {
                (Verdict::Next, _) | (_, Some(false)) => {}
                (Verdict::Accept, Some(true)) => return End::Accepted,
                (Verdict::Drop, Some(true)) => return End::Dropped(rule.place.clone()),
                (Verdict::Return, Some(true)) => return End::Through,
                (Verdict::Accept | Verdict::Return, None) => self.may_have_passed = true,
                (Verdict::Drop, None) => self.may_be_dropped = true,
                (Verdict::Jump(to) | Verdict::Goto(to), holds) => {
                    let next = self.chains.iter().find(|next| next.table == chain.table && next.name == *to);
                    let Some(next) = next.filter(|_| depth < DEPTH) else {
                        // A target of a kind that is not known (iptables), or a chain that is gone.
                        self.may_have_passed = true;
                        self.may_be_dropped = true;
                        continue;
                    };
                    match (self.chain(next, depth + 1), holds) {
                        (End::Through, Some(_)) if matches!(rule.verdict, Verdict::Goto(_)) => return End::Through,
                        (End::Through, _) => {}
                        (end, Some(_)) => return end,
                        (End::Accepted, None) => self.may_have_passed = true,
                        (End::Dropped(_), None) => self.may_be_dropped = true,
                    }
                }
            }
        }
        End::Through
    }
}

/// What becomes of this packet. Every chain that the kernel shows it to has to let it pass.
pub(crate) fn fate(chains: &[Chain], packet: &Packet<'_>) -> Fate {
    let mut is_open = false;
    for chain in chains.iter().filter(|chain| chain.hook == Some(packet.hook)) {
        if !chain.devices.is_empty() && !chain.devices.iter().any(|device| device == packet.interface) {
            continue;
        }
        let mut walk = Walk { chains, packet, may_have_passed: false, may_be_dropped: false };
        let dropped = match walk.chain(chain, 0) {
            End::Accepted => None,
            End::Dropped(place) => Some(place),
            End::Through if chain.drops => Some(format!("the policy of chain {} ({})", chain.name, chain.table)),
            End::Through => None,
        };
        match dropped {
            Some(place) if !walk.may_have_passed => return Fate::Dropped(place),
            Some(_) => is_open = true,
            None => is_open |= walk.may_be_dropped,
        }
    }
    if is_open { Fate::Open } else { Fate::Passes }
}

/// `10.0.0.0/8`, or one address, as a range.
fn network(text: &str) -> Option<(u32, u32)> {
    let (address, length) = match text.split_once('/') {
        // iptables writes masks as lengths, older ones as addresses.
        Some((address, mask)) => {
            let length = match mask.parse::<u32>() {
                Ok(length) => length,
                Err(_) => u32::from(mask.parse::<Ipv4Addr>().ok()?).leading_ones(),
            };
            (address, length)
        }
        None => (text, 32),
    };
    prefix(address, length)
}

fn prefix(address: &str, length: u32) -> Option<(u32, u32)> {
    let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
    let rest = u32::MAX.checked_shr(length).unwrap_or(0);
    Some((address & !rest, address | rest))
}

/// The number of a protocol that a firewall calls by its name.
fn protocol(name: &str) -> Option<u32> {
    match name {
        "icmp" => Some(1),
        "igmp" => Some(2),
        "tcp" => Some(6),
        "udp" => Some(17),
        _ => name.parse().ok(),
    }
}

#[cfg(test)]
pub(crate) fn subscribe(interface: &str) -> Packet<'_> {
    Packet {
        what: "SUBSCRIBE",
        hook: Hook::In,
        interface,
        protocol: 17,
        source: Ipv4Addr::new(10, 1, 2, 3),
        source_port: 5060,
        destination: Ipv4Addr::new(224, 0, 1, 75),
        port: 5060,
        is_answer: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_ranges() {
        let range = |from: &str, to: &str| {
            Some((u32::from(from.parse::<Ipv4Addr>().unwrap()), u32::from(to.parse::<Ipv4Addr>().unwrap())))
        };
        assert_eq!(network("10.0.0.0/8"), range("10.0.0.0", "10.255.255.255"));
        assert_eq!(network("10.1.2.3"), range("10.1.2.3", "10.1.2.3"));
        assert_eq!(network("10.1.0.0/255.255.0.0"), range("10.1.0.0", "10.1.255.255"));
        assert_eq!(network("0.0.0.0/0"), range("0.0.0.0", "255.255.255.255"));
        assert_eq!(network("::1/128"), None);
    }

    #[test]
    fn chains_that_call_each_other_in_a_ring_end() {
        let rule = Rule { conditions: vec![], verdict: Verdict::Jump("a".into()), place: "here".into() };
        let chain = Chain {
            table: "t".into(),
            name: "a".into(),
            hook: Some(Hook::In),
            devices: vec![],
            drops: true,
            rules: vec![rule],
        };
        assert_eq!(fate(&[chain], &subscribe("eth0")), Fate::Open);
    }
}
