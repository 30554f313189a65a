//! Writes what goes to phones: the 200 to a SUBSCRIBE, the NOTIFY that follows it, and NOTIFYs nobody asked for.
//!
//! Everything passes [`Lines`], the only place where bytes are made: rsip prints header values unchecked, does not count the body, and
//! puts it through lossy UTF-8. What a phone is ordered is built of rsip's headers. The two messages for which a whole building waits
//! at once are written straight from the phone's own bytes, without a string for each header. Addresses, tags and branches come from
//! the caller.

use std::net::SocketAddr;

use rsip::headers::{CallId, Event, From as FromHeader, SubscriptionState, To, UserAgent};
use rsip::{Header, Method, typed};

use crate::digest::Authorization;
use crate::params::is_token;
use crate::reader::{MAX_DATAGRAM, MAX_HEADERS};
use crate::subscribe::Subscribe;
use crate::uri::{Uri, bracketed};
use crate::via;
use crate::wire::{Octets, octets, text};

/// Most of ours are shorter, bytes. The 200 is kept for half a minute, of each phone of a building.
const TYPICAL: usize = 640;

/// What must not go out, or would not be understood if it did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// A line end or a NUL in a value, or a tag or branch that is no token. `header` may also be `start line` or `body`.
    #[error("cannot send message: {header} holds what may not stand there")]
    Unsafe { header: String },
    #[error("cannot send message: it has more than {MAX_DATAGRAM} bytes or {MAX_HEADERS} headers")]
    TooLarge,
}

impl Unsendable {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unsafe { .. } => "unsafe-value",
            Self::TooLarge => "too-large",
        }
    }

    fn of(header: &str) -> Self {
        Self::Unsafe { header: header.to_owned() }
    }
}

/// Our side of one exchange with one phone: the same for the 200 and for the NOTIFY.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// Where the phone can reach us, for Via and Contact.
    pub local: SocketAddr,
    /// Where the SUBSCRIBE came from.
    pub source: SocketAddr,
    /// Our tag: of To in the 200, of From in the NOTIFY. A token, new for each dialog.
    pub tag: &'a str,
    /// What we call ourselves in Server and User-Agent.
    pub product: &'a str,
}

/// The NOTIFY that answers a SUBSCRIBE.
#[derive(Debug, Clone, Copy)]
pub struct Notify<'a> {
    /// New for each NOTIFY, the same for its retransmissions; `z9hG4bK...`.
    pub branch: &'a str,
    /// Counts our requests in this dialog, from 1.
    pub cseq: u32,
    /// Where the configuration is: the whole body.
    pub url: &'a str,
    /// What stands in the request line in place of the phone's Contact.
    pub target: Option<&'a Uri>,
}

/// A NOTIFY outside of any dialog: to a phone that was approved after it had asked, or that shall fetch again.
#[derive(Debug, Clone, Copy)]
pub struct Unsolicited<'a> {
    /// The phone, as its Contact or its registration gave it.
    pub target: &'a Uri,
    pub local: SocketAddr,
    /// Whom we say we are. Our address if not given; some phones only listen to their registrar's name.
    pub from: Option<&'a Uri>,
    pub tag: &'a str,
    pub branch: &'a str,
    pub call_id: &'a str,
    pub cseq: u32,
    pub product: &'a str,
}

/// The `200 OK` to a SUBSCRIBE. What identifies the request goes back byte for byte, as phones compare it so.
pub fn ok(subscribe: &Subscribe, reply: &Reply<'_>) -> Result<Vec<u8>, Unsendable> {
    let echo = &subscribe.echo;
    let mut message = Lines::begin(&[b"SIP/2.0 200 OK"]);
    for (index, via) in echo.vias.iter().enumerate() {
        match index {
            0 => message.header("Via", &[&via::fill(&via.0, &subscribe.via, reply.source)]),
            _ => message.header("Via", &[&via.0]),
        }
    }
    message.header("From", &[&echo.from.0]);
    message.theirs_with_our_tag("To", subscribe, reply.tag);
    message.header("Call-ID", &[&echo.call_id.0]);
    message.header("CSeq", &[&echo.cseq.0]);
    message.header("Contact", &[b"<", Uri::at(reply.local).target(), b">"]);
    message.header("Expires", &[b"0"]);
    message.header("Server", &[reply.product.as_bytes()]);
    message.seal(&[])
}

/// The NOTIFY with the URL, in the dialog that the 200 opened.
///
/// The subscription ends with it: the phone asked for `Expires: 0`, which is a single notification.
pub fn notify(subscribe: &Subscribe, reply: &Reply<'_>, notify: &Notify<'_>) -> Result<Vec<u8>, Unsendable> {
    let fallback = Uri::at(reply.source);
    let target = notify.target.or(subscribe.contact.as_ref()).unwrap_or(&fallback);
    let echo = &subscribe.echo;
    let mut message = Lines::notify(target, reply.local, notify.branch);
    message.header("To", &[&echo.from.0]);
    message.theirs_with_our_tag("From", subscribe, reply.tag);
    message.header("Call-ID", &[&echo.call_id.0]);
    message.header("CSeq", &[notify.cseq.to_string().as_bytes(), b" NOTIFY"]);
    message.carry_url(reply.product, &echo.event.0);
    message.seal(url_body(notify.url)?)
}

/// A NOTIFY with a URL for a phone that no longer waits for one. `event` is the phone's own Event or plain `ua-profile`.
pub fn announce(message: &Unsolicited<'_>, event: &str, url: &str) -> Result<Vec<u8>, Unsendable> {
    let mut lines = unsolicited(message)?;
    lines.carry_url(message.product, event_text(event)?);
    lines.seal(url_body(url)?)
}

/// A NOTIFY that makes a phone fetch again. `event` is what its vendor listens to: `check-sync`,
/// `check-sync;reboot=true`, `resync`.
pub fn check_sync(message: &Unsolicited<'_>, event: &str) -> Result<Vec<u8>, Unsendable> {
    order(message, event, None)
}

/// The same NOTIFY for a phone that has challenged it: a new branch and the next CSeq, and the answer to the challenge.
pub fn check_sync_again(
    message: &Unsolicited<'_>,
    event: &str,
    authorization: &Authorization,
) -> Result<Vec<u8>, Unsendable> {
    order(message, event, Some(authorization))
}

fn order(message: &Unsolicited<'_>, event: &str, authorization: Option<&Authorization>) -> Result<Vec<u8>, Unsendable> {
    let mut lines = unsolicited(message)?;
    if let Some(authorization) = authorization {
        lines.given(&authorization.header());
    }
    lines.given(&UserAgent::from(text(message.product.as_bytes())).into());
    lines.given(&Event::from(text(event_text(event)?)).into());
    // Every NOTIFY has one (RFC 6665), even where no subscription was.
    lines.given(&SubscriptionState::from("terminated").into());
    lines.seal(&[])
}

fn unsolicited(message: &Unsolicited<'_>) -> Result<Lines, Unsendable> {
    if message.call_id.is_empty() || message.call_id.contains([' ', '\t']) {
        return Err(Unsendable::of("Call-ID"));
    }
    let us = Uri::at(message.local);
    let from = text(message.from.unwrap_or(&us).target());
    let mut lines = Lines::notify(message.target, message.local, message.branch);
    lines.token("From", message.tag);
    lines.given(&To::from(format!("<{}>", text(message.target.target()))).into());
    lines.given(&FromHeader::from(format!("<{from}>;tag={}", message.tag)).into());
    lines.given(&CallId::from(text(message.call_id.as_bytes())).into());
    lines.given(&typed::CSeq { seq: message.cseq, method: Method::Notify }.into());
    Ok(lines)
}

fn event_text(event: &str) -> Result<&[u8], Unsendable> {
    if event.trim().is_empty() { Err(Unsendable::of("Event")) } else { Ok(event.as_bytes()) }
}

/// A URL is one line, and phones read no further than its first blank.
fn url_body(url: &str) -> Result<&[u8], Unsendable> {
    if url.is_empty() || url.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(Unsendable::of("body"));
    }
    Ok(url.as_bytes())
}

/// A message as it is written, line by line. It lets nothing out that would read as more headers than were put in.
struct Lines {
    bytes: Vec<u8>,
    headers: usize,
    /// The first that may not go out.
    wrong: Option<Unsendable>,
}

impl Lines {
    fn begin(start: &[&[u8]]) -> Lines {
        let mut lines = Lines { bytes: Vec::with_capacity(TYPICAL), headers: 0, wrong: None };
        lines.line("start line", start);
        lines
    }

    /// What every NOTIFY begins with. The URI goes into the request line as the phone wrote it.
    fn notify(target: &Uri, local: SocketAddr, branch: &str) -> Lines {
        let mut lines = Lines::begin(&[b"NOTIFY ", target.target(), b" SIP/2.0"]);
        let sent_by = format!("{}:{}", bracketed(local.ip()), local.port());
        lines.token("Via", branch);
        lines.header("Via", &[b"SIP/2.0/UDP ", sent_by.as_bytes(), b";branch=", branch.as_bytes(), b";rport"]);
        lines.header("Max-Forwards", &[b"70"]);
        lines.header("Contact", &[b"<", Uri::at(local).target(), b">"]);
        lines
    }

    /// Their To with our tag. One that has a tag already keeps it: it is ours, from before.
    fn theirs_with_our_tag(&mut self, name: &'static str, subscribe: &Subscribe, tag: &str) {
        let Octets(to) = &subscribe.echo.to;
        self.token("To", tag);
        match subscribe.to_tag {
            Some(_) => self.header(name, &[to]),
            None => self.header(name, &[to, b";tag=", tag.as_bytes()]),
        }
    }

    /// The headers that go with a URL: the set of the vendor guide that warns of a 4xx where one of them is missing, with its values,
    /// plus the Subscription-State that the guide forgot and RFC 6665 wants.
    fn carry_url(&mut self, product: &str, event: &[u8]) {
        let allow = b"INVITE, ACK, CANCEL, OPTIONS, BYE, REGISTER, SUBSCRIBE, NOTIFY, REFER, INFO, MESSAGE";
        self.header("Allow", &[allow]);
        self.header("Supported", &[b"replaces"]);
        self.header("User-Agent", &[product.as_bytes()]);
        self.header("Event", &[event]);
        self.header("Subscription-State", &[b"terminated;reason=timeout"]);
        self.header("Content-Type", &[b"application/url"]);
    }

    /// A header that rsip prints.
    fn given(&mut self, header: &Header) {
        let written = header.to_string();
        let (name, value) = written.split_once(": ").unwrap_or((&written, ""));
        match octets(value) {
            Some(value) => self.header(name, &[&value]),
            None => self.refuse(name),
        }
    }

    fn token(&mut self, header: &str, token: &str) {
        if !is_token(token.as_bytes()) {
            self.refuse(header);
        }
    }

    fn header(&mut self, name: &str, value: &[&[u8]]) {
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b": ");
        self.line(name, value);
        self.headers += 1;
    }

    /// Received values were unfolded, so a line end in one is either an attack or a phone whose request we could not echo truthfully.
    fn line(&mut self, name: &str, parts: &[&[u8]]) {
        for part in parts {
            if part.iter().any(|byte| b"\r\n\0".contains(byte)) {
                self.refuse(name);
            }
            self.bytes.extend_from_slice(part);
        }
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn refuse(&mut self, name: &str) {
        self.wrong.get_or_insert_with(|| Unsendable::of(name));
    }

    fn seal(mut self, body: &[u8]) -> Result<Vec<u8>, Unsendable> {
        self.header("Content-Length", &[body.len().to_string().as_bytes()]);
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes.extend_from_slice(body);
        match self.wrong {
            Some(wrong) => Err(wrong),
            None if self.bytes.len() > MAX_DATAGRAM || self.headers > MAX_HEADERS => Err(Unsendable::TooLarge),
            None => Ok(self.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(start: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<u8>, Unsendable> {
        let mut lines = Lines::begin(&[start.as_bytes()]);
        for (name, value) in headers {
            lines.header(name, &[value.as_bytes()]);
        }
        lines.seal(body)
    }

    #[test]
    fn nothing_that_ends_a_line_gets_out() {
        for evil in ["a\r\nEvil: 1", "a\nEvil: 1", "a\rEvil: 1", "a\0", "\n"] {
            let refused = sealed("SIP/2.0 200 OK", &[("X-A", evil)], b"");
            assert_eq!(refused, Err(Unsendable::of("X-A")), "{evil:?}");
            assert_eq!(sealed(evil, &[], b""), Err(Unsendable::of("start line")));
        }
    }

    #[test]
    fn a_binary_body_is_counted_and_kept() {
        let sealed = sealed("SIP/2.0 200 OK", &[], b"\xff\0\r\n").unwrap();
        assert_eq!(sealed, b"SIP/2.0 200 OK\r\nContent-Length: 4\r\n\r\n\xff\0\r\n");
    }

    #[test]
    fn what_our_own_reader_would_refuse_is_not_sent() {
        let long = "x".repeat(MAX_DATAGRAM);
        assert_eq!(sealed("SIP/2.0 200 OK", &[("X", &long)], b""), Err(Unsendable::TooLarge));
        assert_eq!(sealed("SIP/2.0 200 OK", &[("X", ""); MAX_HEADERS], b""), Err(Unsendable::TooLarge));
    }
}
