//! A `sip:` or `sips:` URI as far as PnP needs it: where it points, and how to write it into a request line.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::wire::lossy;

/// What a NOTIFY can be addressed to. Only made from text that is safe inside `<...>` and in a request line.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Uri {
    written: Vec<u8>,
    // Where the URI ends as a request's target: `?headers` may stand in a Contact, not in a request line.
    target: usize,
    secure: bool,
    user: Option<Vec<u8>>,
    host: String,
    port: Option<u16>,
    params: Vec<u8>,
}

/// A URI that is not SIP's, has no usable host or port, or holds bytes that no URI has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot read as a sip uri")]
pub struct BadUri;

impl Uri {
    /// Reads `sip:user@host:port;params?headers`.
    pub fn parse(written: &[u8]) -> Result<Self, BadUri> {
        // Blanks and brackets would end the URI early wherever we write it.
        if written.iter().any(|&byte| byte <= b' ' || byte == 0x7f || b"<>\"".contains(&byte)) {
            return Err(BadUri);
        }
        let colon = written.iter().position(|&byte| byte == b':').ok_or(BadUri)?;
        let secure = match &written[..colon] {
            scheme if scheme.eq_ignore_ascii_case(b"sip") => false,
            scheme if scheme.eq_ignore_ascii_case(b"sips") => true,
            _ => return Err(BadUri),
        };
        let (user, place) = split_user(&written[colon + 1..]);
        let end = place.iter().position(|&byte| byte == b';' || byte == b'?').unwrap_or(place.len());
        let (host, port) = host_port(&place[..end]).ok_or(BadUri)?;
        if port == Some(0) || !(ip(&host).is_some() || is_domain(&host)) {
            return Err(BadUri);
        }
        let tail = &place[end..];
        let params = tail.iter().position(|&byte| byte == b'?').map_or(tail, |at| &tail[..at]);
        let target = written.len() - tail.len() + params.len();
        Ok(Self {
            target,
            secure,
            user: user.map(<[u8]>::to_vec),
            host,
            port,
            params: params.to_vec(),
            written: written.to_vec(),
        })
    }

    /// `sip:address`, for a phone of which only the address is known.
    pub fn at(address: SocketAddr) -> Self {
        Self::build(String::new(), address)
    }

    /// `sip:user@address`. The user is plain text, so whatever is not allowed in a URI is escaped.
    pub fn user_at(user: &str, address: SocketAddr) -> Self {
        let mut escaped = String::new();
        for byte in user.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,/".contains(&byte) {
                escaped.push(char::from(byte));
            } else {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        }
        Self::build(escaped, address)
    }

    fn build(user: String, address: SocketAddr) -> Self {
        let host = bracketed(address.ip());
        let at = if user.is_empty() { "" } else { "@" };
        let written = format!("sip:{user}{at}{host}:{}", address.port()).into_bytes();
        Self {
            target: written.len(),
            secure: false,
            user: Some(user.into_bytes()).filter(|user| !user.is_empty()),
            host,
            port: Some(address.port()),
            params: Vec::new(),
            written,
        }
    }

    /// The URI as the phone wrote it.
    pub fn written(&self) -> &[u8] {
        &self.written
    }

    /// The URI as it may stand in a request line.
    pub fn target(&self) -> &[u8] {
        &self.written[..self.target]
    }

    /// Everything before the `@`, escapes and password included.
    pub fn user(&self) -> Option<&[u8]> {
        self.user.as_deref()
    }

    /// A name or an address; an IPv6 address in its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Where to send, if the host is an address. A name is for the caller to resolve, or to distrust.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let default = if self.secure { 5061 } else { 5060 };
        Some(SocketAddr::new(ip(&self.host)?, self.port.unwrap_or(default)))
    }

    /// This URI in rsip's type, for reading. Sent is [`Uri::target`]: rsip prints parameters in its own spelling.
    pub fn to_rsip(&self) -> rsip::Uri {
        let params = self.params.split(|&byte| byte == b';').filter(|piece| !piece.is_empty());
        rsip::Uri {
            scheme: Some(if self.secure { rsip::Scheme::Sips } else { rsip::Scheme::Sip }),
            auth: self.user.as_deref().map(|user| {
                let (user, password) = cut(user, b':');
                rsip::Auth { user, password }
            }),
            // From "[...]" rsip makes a domain, and that is wanted: its IPv6 addresses print without brackets.
            host_with_port: rsip::HostWithPort {
                host: rsip::Host::from(self.host.as_str()),
                port: self.port.map(Into::into),
            },
            params: params
                .map(|piece| {
                    let (name, value) = cut(piece, b'=');
                    rsip::Param::try_from((name.as_str(), value.as_deref()))
                        .unwrap_or_else(|_| rsip::Param::Other(name.into(), value.map(Into::into)))
                })
                .collect(),
            headers: Vec::new(),
        }
    }
}

fn cut(text: &[u8], separator: u8) -> (String, Option<String>) {
    match text.iter().position(|&byte| byte == separator) {
        Some(at) => (lossy(&text[..at]), Some(lossy(&text[at + 1..]))),
        None => (lossy(text), None),
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.written))
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uri({})", self.written.escape_ascii())
    }
}

/// What stands before the `@` of a URI's part behind the scheme, and the rest.
fn split_user(behind_scheme: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match behind_scheme.iter().position(|&byte| byte == b'@') {
        Some(at) => (Some(&behind_scheme[..at]), &behind_scheme[at + 1..]),
        None => (None, behind_scheme),
    }
}

/// The user part of any URI, however broken the rest of it is. Never the host: some phones put a domain there that
/// could look like anything.
pub(crate) fn user_part(uri: &[u8]) -> Option<&[u8]> {
    let colon = uri.iter().position(|&byte| byte == b':')?;
    split_user(&uri[colon + 1..]).0
}

/// `host`, `host:port`, `[v6]:port`, with blanks around the colon allowed as in a Via.
pub(crate) fn host_port(written: &[u8]) -> Option<(String, Option<u16>)> {
    let written = std::str::from_utf8(written).ok()?.trim_ascii();
    let host_end = match written.strip_prefix('[') {
        Some(inside) => inside.find(']')? + 2,
        None => written.find(':').unwrap_or(written.len()),
    };
    let (host, behind) = written.split_at(host_end);
    let host = host.trim_ascii();
    let port = match behind.trim_ascii() {
        "" => None,
        // A colon with no port behind it means the default, as in RFC 3986.
        behind => match behind.strip_prefix(':')?.trim_ascii() {
            "" => None,
            digits => Some(number(digits.as_bytes()).and_then(|port| u16::try_from(port).ok())?),
        },
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// The address that a host names, if it names one.
pub(crate) fn ip(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok().filter(IpAddr::is_ipv4),
    }
}

/// An address as a SIP host: IPv6 in brackets, an IPv4 address never as an IPv6 one.
pub(crate) fn bracketed(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// A decimal number and nothing else; `str::parse` alone would take a plus sign.
pub(crate) fn number(digits: &[u8]) -> Option<u32> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn is_domain(host: &str) -> bool {
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(written: &str) -> Uri {
        Uri::parse(written.as_bytes()).unwrap_or_else(|_| panic!("{written}"))
    }

    #[test]
    fn parts_of_a_plain_uri() {
        let uri = uri("sip:MAC001565abcdef@192.168.1.52:5059;transport=udp?Subject=x%40y");
        assert_eq!(uri.user(), Some(b"MAC001565abcdef".as_slice()));
        assert_eq!((uri.host(), uri.port()), ("192.168.1.52", Some(5059)));
        assert_eq!(uri.socket_addr(), Some("192.168.1.52:5059".parse().unwrap()));
        assert_eq!(uri.target(), b"sip:MAC001565abcdef@192.168.1.52:5059;transport=udp");
        assert_eq!(uri.to_rsip().transport(), Some(&rsip::Transport::Udp));
    }

    #[test]
    fn ipv6_keeps_its_brackets() {
        let uri = uri("sip:512@[2001:db8::9:1]:5070");
        assert_eq!((uri.host(), uri.port()), ("[2001:db8::9:1]", Some(5070)));
        assert_eq!(uri.socket_addr(), Some("[2001:db8::9:1]:5070".parse().unwrap()));
        assert_eq!(uri.to_rsip().to_string(), "sip:512@[2001:db8::9:1]:5070");
        assert_eq!(Uri::at("[2001:db8::1]:5060".parse().unwrap()).to_string(), "sip:[2001:db8::1]:5060");
        assert_eq!(Uri::at("[::ffff:10.0.0.1]:5060".parse().unwrap()).to_string(), "sip:10.0.0.1:5060");
    }

    #[test]
    fn the_default_port_is_the_schemes() {
        assert_eq!(uri("sip:10.0.0.90").socket_addr(), Some("10.0.0.90:5060".parse().unwrap()));
        assert_eq!(uri("SIPS:10.0.0.90").socket_addr(), Some("10.0.0.90:5061".parse().unwrap()));
        assert_eq!(uri("sip:phone.example.net").socket_addr(), None);
    }

    #[test]
    fn what_would_not_survive_a_request_line_is_no_uri() {
        for written in [
            "",
            "sip:",
            "sip:@",
            "sip:a b@10.0.0.1",
            "sip:a\r\nX: y@10.0.0.1",
            "sip:a@10.0.0.1>",
            "tel:+49301234",
            "sip:u@10.0.0.1:0",
            "sip:u@10.0.0.1:99999",
            "sip:u@10.0.0.1:+5060",
            "sip:u@[::1",
            "sip:u@[zz]",
            "sip:u@2001:db8::1",
            "sip:u@h\u{e9}",
        ] {
            assert_eq!(Uri::parse(written.as_bytes()), Err(BadUri), "{written:?}");
        }
    }

    #[test]
    fn a_made_uri_reads_as_itself() {
        let made = Uri::user_at("anna berg@x;y", "192.0.2.7:5062".parse().unwrap());
        assert_eq!(made.to_string(), "sip:anna%20berg%40x%3By@192.0.2.7:5062");
        assert_eq!(Uri::parse(made.written()), Ok(made));
    }

    #[test]
    fn the_user_part_is_found_in_broken_uris_and_never_is_the_host() {
        assert_eq!(user_part(b"sip:MAC:0004132E08B4@224.0.1.75"), Some(b"MAC:0004132E08B4".as_slice()));
        assert_eq!(user_part(b"sip:x@[broken"), Some(b"x".as_slice()));
        assert_eq!(user_part(b"sip:mac000413600001.example.net"), None);
        assert_eq!(user_part(b"nonsense"), None);
    }
}
