//! What a phone says of itself when it asks where its configuration is. Whether it is served is decided elsewhere.

use std::net::SocketAddr;

use crate::params::{self, NameAddr};
use crate::reader::{Headers, Request};
use crate::uri::{self, Uri};
use crate::via::Via;
use crate::wire::{Octets, lossy};

/// The event package of PnP (RFC 6080).
pub const PACKAGE: &str = "ua-profile";

/// A SUBSCRIBE to `ua-profile`. The text fields are for reading, with replacement characters where a phone did not
/// write UTF-8; what is sent back is kept apart, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// The whole Event header, for people who want to see the evidence.
    pub event: String,
    pub profile_type: Option<String>,
    pub vendor: Option<String>,
    pub model: Option<String>,
    /// The Event's `version`.
    pub firmware: Option<String>,
    pub user_agent: Option<String>,
    /// Some phones give no MAC at all; they are found by their address later.
    pub mac: Option<FoundMac>,
    /// Where the NOTIFY goes. `None` if there is no Contact, or none that can be written into a request line.
    pub contact: Option<Uri>,
    pub call_id: String,
    pub cseq: u32,
    pub from_tag: Option<String>,
    /// Present only when the phone refreshes what it thinks is a subscription of ours.
    pub to_tag: Option<String>,
    /// The topmost one.
    pub via: Via,
    pub expires: Option<u32>,
    pub(crate) echo: Echo,
}

/// What goes back byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Echo {
    /// One entry a header line, in order, comma-joined ones still joined.
    pub(crate) vias: Vec<Octets>,
    pub(crate) from: Octets,
    pub(crate) to: Octets,
    pub(crate) call_id: Octets,
    pub(crate) cseq: Octets,
    pub(crate) event: Octets,
}

/// A hardware address, and which header gave it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FoundMac {
    pub address: [u8; 6],
    pub place: MacPlace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MacPlace {
    RequestUri,
    To,
    From,
    UserAgent,
}

/// What makes two datagrams the same request, so that a retransmission is answered again but not served again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TransactionKey {
    /// RFC 3261 §17.2.3.
    Branch { branch: String, sent_by: String },
    /// For phones that send no branch, or one from before RFC 3261.
    Dialog { call_id: String, cseq: u32, from_tag: Option<String>, source: SocketAddr },
}

/// Why a request is not a PnP SUBSCRIBE. Each is worth a counter, and has a stable name for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPnp {
    #[error("cannot take request: {method} is not SUBSCRIBE")]
    OtherMethod { method: String },
    #[error("cannot take SUBSCRIBE: event package {package:?} is not {PACKAGE}")]
    OtherEvent { package: String },
    #[error("cannot take SUBSCRIBE: no {header} header")]
    Missing { header: &'static str },
    #[error("cannot take SUBSCRIBE: malformed {header} header")]
    Malformed { header: &'static str },
}

impl NotPnp {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::OtherMethod { .. } => "other-method",
            Self::OtherEvent { .. } => "other-event",
            Self::Missing { .. } => "missing-header",
            Self::Malformed { .. } => "malformed-header",
        }
    }
}

/// What a phone tells of itself. No phone has a NUL in its name, and what somebody puts there in its place is for no log, page or URL.
fn told(value: &[u8]) -> Option<String> {
    Some(lossy(value)).filter(|text| !text.contains(char::is_control))
}

impl Subscribe {
    pub fn from_request(request: &Request<'_>) -> Result<Self, NotPnp> {
        if request.method != "SUBSCRIBE" {
            return Err(NotPnp::OtherMethod { method: request.method.to_owned() });
        }
        let headers = &request.headers;
        let event = mandatory(headers, "Event")?;
        let package = params::head(event);
        if !package.eq_ignore_ascii_case(PACKAGE.as_bytes()) {
            return Err(NotPnp::OtherEvent { package: lossy(package) });
        }

        let from = mandatory(headers, "From")?;
        let to = mandatory(headers, "To")?;
        let call_id = mandatory(headers, "Call-ID")?;
        let cseq = mandatory(headers, "CSeq")?;
        let top = headers.vias().next().ok_or(NotPnp::Missing { header: "Via" })?;
        let via = Via::parse(top).ok_or(NotPnp::Malformed { header: "Via" })?;
        let (number, _) = parse_cseq(cseq).ok_or(NotPnp::Malformed { header: "CSeq" })?;

        let (from_addr, to_addr) = (NameAddr::parse(from), NameAddr::parse(to));
        let user_agent = headers.get("User-Agent");
        let text = |name: &str| params::param(event, name).and_then(|value| told(&value));
        Ok(Self {
            event: lossy(event),
            profile_type: text("profile-type"),
            // Some phones in the field misspell it.
            vendor: text("vendor").or_else(|| text("vender")),
            model: text("model"),
            firmware: text("version"),
            user_agent: user_agent.and_then(told),
            mac: find_mac(request.uri, to_addr.uri, from_addr.uri, user_agent.unwrap_or_default()),
            contact: headers.get("Contact").and_then(|contact| Uri::parse(NameAddr::parse(contact).uri).ok()),
            call_id: lossy(call_id),
            cseq: number,
            from_tag: from_addr.param("tag").map(|tag| lossy(&tag)),
            to_tag: to_addr.param("tag").map(|tag| lossy(&tag)),
            via,
            expires: headers.get("Expires").and_then(uri::number),
            echo: Echo {
                vias: headers.all("Via").map(octets).collect(),
                from: octets(from),
                to: octets(to),
                call_id: octets(call_id),
                cseq: octets(cseq),
                event: octets(event),
            },
        })
    }

    /// What tells this request from others and not from its own retransmissions.
    pub fn transaction_key(&self, source: SocketAddr) -> TransactionKey {
        match &self.via.branch {
            Some(branch) if branch.get(..7).is_some_and(|cookie| cookie.eq_ignore_ascii_case("z9hG4bK")) => {
                let host = self.via.host.to_ascii_lowercase();
                TransactionKey::Branch {
                    branch: branch.clone(),
                    sent_by: format!("{host}:{}", self.via.port.unwrap_or(5060)),
                }
            }
            _ => TransactionKey::Dialog {
                call_id: self.call_id.clone(),
                cseq: self.cseq,
                from_tag: self.from_tag.clone(),
                source,
            },
        }
    }

    /// Where the 200 goes.
    pub fn reply_address(&self, source: SocketAddr) -> SocketAddr {
        self.via.reply_address(source)
    }
}

fn octets(value: &[u8]) -> Octets {
    Octets(value.to_vec())
}

/// The first header of that name that says anything.
fn mandatory<'h>(headers: &'h Headers<'_>, header: &'static str) -> Result<&'h [u8], NotPnp> {
    headers.get(header).filter(|value| !value.is_empty()).ok_or(NotPnp::Missing { header })
}

/// `20000 SUBSCRIBE`: the number and the method.
pub(crate) fn parse_cseq(value: &[u8]) -> Option<(u32, &[u8])> {
    let value = value.trim_ascii();
    let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    Some((uri::number(&value[..end])?, value[end..].trim_ascii_start()))
}

/// The MAC by the places phones put it, the most reliable first. The host of a URI is never looked at.
fn find_mac(request_uri: &[u8], to: &[u8], from: &[u8], user_agent: &[u8]) -> Option<FoundMac> {
    let in_uri = |uri: &[u8], place| {
        let address = labelled_mac(uri::user_part(uri)?)?;
        Some(FoundMac { address, place })
    };
    in_uri(request_uri, MacPlace::RequestUri)
        .or_else(|| in_uri(to, MacPlace::To))
        .or_else(|| in_uri(from, MacPlace::From))
        .or_else(|| {
            let address = labelled_mac(user_agent).or_else(|| bare_mac(user_agent))?;
            Some(FoundMac { address, place: MacPlace::UserAgent })
        })
}

/// `MAC`, perhaps a separator, and an address: `MAC%3a00135E874B49`, `MAC=...`, `MAC:00-08-5D-...`, `MAC0015...`.
fn labelled_mac(text: &[u8]) -> Option<[u8; 6]> {
    (0..text.len()).find_map(|at| {
        let behind = strip_prefix_ignoring_case(&text[at..], b"MAC")?;
        let behind = [b"%3a".as_slice(), b":", b"="]
            .into_iter()
            .find_map(|separator| strip_prefix_ignoring_case(behind, separator))
            .unwrap_or(behind);
        mac_at(behind)
    })
}

/// An address that stands alone, as some phones append one to their User-Agent: `... 80:5e:0c:4d:79:6d`,
/// `... (0080f0c8c381)`.
fn bare_mac(text: &[u8]) -> Option<[u8; 6]> {
    (0..text.len()).find_map(|at| {
        let alone = at == 0 || !text[at - 1].is_ascii_alphanumeric();
        let address = if alone { mac_at(&text[at..])? } else { return None };
        // Without a label a build number or a date could pass. No phone has a group address or none at all.
        (address[0] & 1 == 0 && address != [0; 6]).then_some(address)
    })
}

/// Twelve hex digits at the start of `text` and no thirteenth, plain or with the same separator between all pairs.
fn mac_at(text: &[u8]) -> Option<[u8; 6]> {
    let separator = text.get(2).copied().filter(|byte| b":-".contains(byte));
    let stride = if separator.is_some() { 3 } else { 2 };
    let mut address = [0; 6];
    for (index, octet) in address.iter_mut().enumerate() {
        let at = index * stride;
        if index > 0
            && let Some(separator) = separator
            && text.get(at - 1) != Some(&separator)
        {
            return None;
        }
        *octet = hex(*text.get(at)?)? << 4 | hex(*text.get(at + 1)?)?;
    }
    let behind = text.get(5 * stride + 2);
    behind.is_none_or(|byte| !byte.is_ascii_alphanumeric()).then_some(address)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn strip_prefix_ignoring_case<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, behind) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x00, 0x04, 0x13, 0x2e, 0x08, 0xb4];

    #[test]
    fn a_labelled_mac_is_found_in_every_spelling() {
        for text in [
            "MAC%3a0004132E08B4",
            "MAC%3A0004132E08B4",
            "mac%3a0004132e08b4",
            "MAC0004132e08b4",
            "MAC:0004132E08B4",
            "MAC=0004132e08b4",
            "xMAC0004132E08B4;x=y",
            "mac mac0004132E08B4",
            "MAC:00-04-13-2E-08-B4",
            "Acme/03 (MAC=0004132E08B4; SER= 00000)",
            "MAC:00:04:13:2e:08:b4",
        ] {
            assert_eq!(labelled_mac(text.as_bytes()), Some(MAC), "{text}");
        }
    }

    #[test]
    fn what_is_no_mac_is_not_made_one() {
        for text in [
            "",
            "MAC",
            "MAC%3a",
            "MAC0004132E08B",
            "MAC0004132E08B42",
            "MAC%3a0004132E08B4FF",
            "MAC0004132E08Bg",
            "MAC 0004132E08B4",
            "MAC00:04:13-2E:08:B4",
            "MAC00:04132E08B4",
            "0004132E08B4",
            "M\u{c1}C0004132E08B4",
        ] {
            assert_eq!(labelled_mac(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_bare_mac_must_stand_alone_and_belong_to_one_phone() {
        for text in ["Acme X1 1.2.3 00:04:13:2e:08:b4", "Acme/1 (0004132E08B4)", "0004132E08B4", "a;00-04-13-2E-08-B4"]
        {
            assert_eq!(bare_mac(text.as_bytes()), Some(MAC), "{text}");
        }
        for text in [
            "g0004132E08B4",
            "0004132E08B4e",
            "00041 32E08B4",
            "build 010000000000",
            "000000000000",
            "2010.12-00001-gd311851f1 (Feb 25 2019 - 14:19:43)",
            "28.71.0.81 28.1.0.128.0.0.0",
        ] {
            assert_eq!(bare_mac(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_places_are_asked_in_order_and_hosts_never() {
        let [one, two, three] = [b"sip:MAC000000000001@h", b"sip:MAC000000000002@h", b"sip:MAC000000000003@h"];
        let none = b"sip:MAC000000000009.example.net:5060".as_slice();
        let place = |uri: &[u8], to: &[u8], from: &[u8], ua: &[u8]| {
            find_mac(uri, to, from, ua).map(|found| (found.address[5], found.place))
        };
        let agent = b"Acme 00:00:00:00:00:04".as_slice();
        assert_eq!(place(one, two, three, agent), Some((1, MacPlace::RequestUri)));
        assert_eq!(place(none, two, three, agent), Some((2, MacPlace::To)));
        assert_eq!(place(none, none, three, agent), Some((3, MacPlace::From)));
        assert_eq!(place(none, none, none, agent), Some((4, MacPlace::UserAgent)));
        assert_eq!(place(none, none, b"sip:512@MAC000000000009", b"Acme"), None);
    }

    #[test]
    fn a_cseq_is_a_number_and_a_method() {
        assert_eq!(parse_cseq(b"0009   SUBSCRIBE"), Some((9, b"SUBSCRIBE".as_slice())));
        assert_eq!(parse_cseq(b"4294967296 SUBSCRIBE"), None);
        assert_eq!(parse_cseq(b"SUBSCRIBE"), None);
        assert_eq!(parse_cseq(b"+1 SUBSCRIBE"), None);
    }
}
