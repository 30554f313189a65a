//! The top Via: whom to answer, and what to write into it before it goes back.

use std::net::{IpAddr, SocketAddr};

use crate::params::{self, Param};
use crate::uri::{self, host_port};
use crate::wire::lossy;

/// The topmost Via of a request or of a response, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// In upper case: `UDP`.
    pub transport: String,
    /// The sent-by host as written, an IPv6 address in its brackets.
    pub host: String,
    pub port: Option<u16>,
    pub branch: Option<String>,
    /// The phone asks for the response at the port it sent from (RFC 3581): an `rport` without a value.
    pub asks_rport: bool,
}

impl Via {
    /// `SIP/2.0/UDP host:port;params`, blanks allowed at every seam. `None` if there is no host to be found.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let mut protocol = params::head(value).splitn(3, |&byte| byte == b'/').map(<[u8]>::trim_ascii);
        let (Some(_name), Some(_version), Some(rest)) = (protocol.next(), protocol.next(), protocol.next()) else {
            return None;
        };
        let end = rest.iter().position(u8::is_ascii_whitespace)?;
        let sent_by = rest[end..].trim_ascii();
        // A sent-by that cannot be taken apart, such as IPv6 without brackets, is still a name to tell phones apart by.
        let (host, port) = host_port(sent_by).unwrap_or_else(|| (lossy(sent_by), None));
        Some(Self {
            transport: lossy(&rest[..end]).to_ascii_uppercase(),
            host,
            port,
            branch: params::param(value, "branch").map(|branch| lossy(&branch)),
            asks_rport: params::params(value).any(|param| asks_rport(&param)),
        })
    }

    /// Where the response goes: RFC 3581 §4 with `rport`, else RFC 3261 §18.2.2.
    ///
    /// A `maddr` is passed over: it would let anybody point our answers at a third host.
    pub fn reply_address(&self, source: SocketAddr) -> SocketAddr {
        if self.asks_rport { source } else { SocketAddr::new(source.ip(), self.port.unwrap_or(5060)) }
    }

    /// Whether the datagram came from elsewhere than the Via says, so far as the Via says an address at all.
    fn is_from(&self, source: IpAddr) -> bool {
        let host = uri::ip(&self.host).or_else(|| self.host.parse().ok());
        host.is_some_and(|host| host.to_canonical() == source.to_canonical())
    }
}

fn asks_rport(param: &Param<'_>) -> bool {
    param.is("rport") && param.value().is_none()
}

/// The first Via header line as it goes back: its topmost Via filled in, every other byte as received.
///
/// RFC 3581 §4: an empty `rport` is given the source port, and then `received` is added even when it says nothing new.
/// RFC 3261 §18.2.1: `received` is added when sent-by is a name or another address than the source.
pub(crate) fn fill(line: &[u8], via: &Via, source: SocketAddr) -> Vec<u8> {
    let top = params::split(line, b',').next().unwrap_or(line);
    let behind = &line[top.len()..];
    let add_received = via.asks_rport || !via.is_from(source.ip());
    // RFC 3261's grammar has the IPv6 address here without brackets, unlike everywhere else.
    let received = format!("received={}", source.ip().to_canonical());

    let mut filled = Vec::with_capacity(line.len() + received.len() + 8);
    let mut has_received = false;
    for (index, piece) in params::split(top.trim_ascii_end(), b';').enumerate() {
        if index == 0 {
            filled.extend_from_slice(piece);
            continue;
        }
        filled.push(b';');
        let param = Param::parse(piece);
        if asks_rport(&param) {
            filled.extend_from_slice(param.name);
            filled.extend_from_slice(format!("={}", source.port()).as_bytes());
        } else if add_received && param.is("received") {
            // Only the server knows; what the phone wrote there would contradict us.
            has_received = true;
            filled.extend_from_slice(received.as_bytes());
        } else {
            filled.extend_from_slice(piece);
        }
    }
    if add_received && !has_received {
        filled.push(b';');
        filled.extend_from_slice(received.as_bytes());
    }
    filled.extend_from_slice(&top[top.trim_ascii_end().len()..]);
    filled.extend_from_slice(behind);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(line: &str, source: &str) -> String {
        let top = params::split(line.as_bytes(), b',').next().unwrap();
        let via = Via::parse(top).unwrap();
        String::from_utf8(fill(line.as_bytes(), &via, source.parse().unwrap())).unwrap()
    }

    #[test]
    fn parts_of_a_via() {
        let via = Via::parse(b"SIP/2.0/udp 172.18.32.197:5060;branch=z9hG4bK458721093;rport").unwrap();
        assert_eq!(via.transport, "UDP");
        assert_eq!((via.host.as_str(), via.port), ("172.18.32.197", Some(5060)));
        assert_eq!(via.branch.as_deref(), Some("z9hG4bK458721093"));
        assert!(via.asks_rport);
    }

    #[test]
    fn blanks_are_allowed_at_every_seam() {
        let via = Via::parse(b"SIP  / 2.0 /UDP \t [2001:db8::9:1] : 5070 ; branch = z9hG4bKx ; rport = 7 ").unwrap();
        assert_eq!((via.host.as_str(), via.port), ("[2001:db8::9:1]", Some(5070)));
        assert_eq!(via.branch.as_deref(), Some("z9hG4bKx"));
        assert!(!via.asks_rport, "rport with a value asks nothing");
    }

    #[test]
    fn a_via_without_a_host_is_none() {
        for value in ["", "SIP/2.0/UDP", "SIP/2.0/UDP ;branch=z", "UDP 10.0.0.1", "SIP/2.0 10.0.0.1"] {
            let via = Via::parse(value.as_bytes());
            assert!(via.is_none(), "{value:?} gave {via:?}");
        }
    }

    #[test]
    fn rport_is_filled_where_it_stands_and_received_added_even_when_equal() {
        assert_eq!(
            filled("SIP/2.0/UDP 10.0.0.1:5060;rport;branch=z9hG4bK1", "10.0.0.1:1053"),
            "SIP/2.0/UDP 10.0.0.1:5060;rport=1053;branch=z9hG4bK1;received=10.0.0.1"
        );
        assert_eq!(
            filled("SIP/2.0/UDP 10.0.0.1;RPORT=;x", "10.0.0.1:9"),
            "SIP/2.0/UDP 10.0.0.1;RPORT=9;x;received=10.0.0.1"
        );
    }

    #[test]
    fn received_is_added_where_sent_by_differs_and_only_there() {
        assert_eq!(filled("SIP/2.0/UDP 10.0.0.1;branch=b", "10.0.0.1:5060"), "SIP/2.0/UDP 10.0.0.1;branch=b");
        assert_eq!(
            filled("SIP/2.0/UDP 10.0.0.1;branch=b", "10.0.0.2:5060"),
            "SIP/2.0/UDP 10.0.0.1;branch=b;received=10.0.0.2"
        );
        assert_eq!(filled("SIP/2.0/UDP phone.lan", "10.0.0.2:5060"), "SIP/2.0/UDP phone.lan;received=10.0.0.2");
        assert_eq!(filled("SIP/2.0/UDP [2001:db8::9]:5060", "[2001:db8::9]:1"), "SIP/2.0/UDP [2001:db8::9]:5060");
        assert_eq!(
            filled("SIP/2.0/UDP [2001:db8::9]:5060", "[2001:db8::a]:1"),
            "SIP/2.0/UDP [2001:db8::9]:5060;received=2001:db8::a"
        );
        assert_eq!(filled("SIP/2.0/UDP 10.0.0.1", "[::ffff:10.0.0.1]:5060"), "SIP/2.0/UDP 10.0.0.1");
        assert_eq!(filled("SIP/2.0/UDP 10.0.0.1", "[::ffff:10.0.0.2]:5060"), "SIP/2.0/UDP 10.0.0.1;received=10.0.0.2");
    }

    #[test]
    fn a_received_that_the_phone_wrote_is_corrected() {
        assert_eq!(
            filled("SIP/2.0/UDP 10.0.0.1;received=192.0.2.1;rport", "10.0.0.1:7"),
            "SIP/2.0/UDP 10.0.0.1;received=10.0.0.1;rport=7"
        );
    }

    #[test]
    fn only_the_topmost_of_joined_vias_is_touched() {
        assert_eq!(
            filled("SIP/2.0/UDP 10.0.0.1;rport ,  SIP/2.0/UDP 10.0.0.9;rport", "10.0.0.1:7"),
            "SIP/2.0/UDP 10.0.0.1;rport=7;received=10.0.0.1 ,  SIP/2.0/UDP 10.0.0.9;rport"
        );
    }

    #[test]
    fn the_reply_goes_to_the_source_port_only_where_asked() {
        let source = "10.0.0.7:52969".parse().unwrap();
        let reply = |value: &str| Via::parse(value.as_bytes()).unwrap().reply_address(source).to_string();
        assert_eq!(reply("SIP/2.0/UDP 10.0.0.1:5059;rport"), "10.0.0.7:52969");
        assert_eq!(reply("SIP/2.0/UDP 10.0.0.1:5059"), "10.0.0.7:5059");
        assert_eq!(reply("SIP/2.0/UDP 10.0.0.1;maddr=192.0.2.66"), "10.0.0.7:5060");
    }
}
