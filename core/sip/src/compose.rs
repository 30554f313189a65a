//! Writes what goes to phones: the 200 to a SUBSCRIBE, the NOTIFY that follows it, and NOTIFYs nobody asked for.
//!
//! Everything is built of rsip's headers and passes `seal`, which is the only place where bytes are made: rsip prints
//! header values unchecked, does not count the body, and puts it through lossy UTF-8. Addresses, tags and branches come
//! from the caller.

use std::net::SocketAddr;

use rsip::headers::{
    Allow, CSeq, CallId, Contact, ContentLength, ContentType, Event, Expires, From as FromHeader, MaxForwards, Server,
    SubscriptionState, Supported, To, UserAgent, Via,
};
use rsip::{Header, Headers, Method};

use crate::digest::Authorization;
use crate::params::is_token;
use crate::reader::{MAX_DATAGRAM, MAX_HEADERS};
use crate::subscribe::Subscribe;
use crate::uri::{Uri, bracketed};
use crate::via;
use crate::wire::{Octets, octets, text};

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
    let mut headers = Headers::default();
    for (index, via) in echo.vias.iter().enumerate() {
        let value = if index == 0 { text(&via::fill(&via.0, &subscribe.via, reply.source)) } else { text(&via.0) };
        headers.push(Via::from(value).into());
    }
    headers.push(FromHeader::from(text(&echo.from.0)).into());
    headers.push(To::from(with_our_tag(subscribe, reply.tag)?).into());
    headers.push(CallId::from(text(&echo.call_id.0)).into());
    headers.push(CSeq::from(text(&echo.cseq.0)).into());
    headers.push(Contact::from(format!("<{}>", Uri::at(reply.local))).into());
    headers.push(Expires::from(0).into());
    headers.push(Server::from(text(reply.product.as_bytes())).into());
    let response = rsip::Response { status_code: rsip::StatusCode::OK, headers, ..Default::default() };
    seal(format!("{} {}", response.version, response.status_code), response.headers, &response.body)
}

/// The NOTIFY with the URL, in the dialog that the 200 opened.
///
/// The subscription ends with it: the phone asked for `Expires: 0`, which is a single notification.
pub fn notify(subscribe: &Subscribe, reply: &Reply<'_>, notify: &Notify<'_>) -> Result<Vec<u8>, Unsendable> {
    let fallback = Uri::at(reply.source);
    let target = notify.target.or(subscribe.contact.as_ref()).unwrap_or(&fallback);
    let echo = &subscribe.echo;
    let mut headers = Headers::default();
    headers.push(our_via(reply.local, notify.branch)?);
    headers.push(MaxForwards::from(70).into());
    headers.push(Contact::from(format!("<{}>", Uri::at(reply.local))).into());
    headers.push(To::from(text(&echo.from.0)).into());
    headers.push(FromHeader::from(with_our_tag(subscribe, reply.tag)?).into());
    headers.push(CallId::from(text(&echo.call_id.0)).into());
    headers.push(our_cseq(notify.cseq));
    carry_url(&mut headers, reply.product, text(&echo.event.0));
    request(target, headers, url_body(notify.url)?)
}

/// A NOTIFY with a URL for a phone that no longer waits for one. `event` is the phone's own Event or plain `ua-profile`.
pub fn announce(message: &Unsolicited<'_>, event: &str, url: &str) -> Result<Vec<u8>, Unsendable> {
    let mut headers = unsolicited(message)?;
    carry_url(&mut headers, message.product, event_text(event)?);
    request(message.target, headers, url_body(url)?)
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
    let mut headers = unsolicited(message)?;
    if let Some(authorization) = authorization {
        headers.push(authorization.header());
    }
    headers.push(UserAgent::from(text(message.product.as_bytes())).into());
    headers.push(Event::from(event_text(event)?).into());
    // Every NOTIFY has one (RFC 6665), even where no subscription was.
    headers.push(SubscriptionState::from("terminated").into());
    request(message.target, headers, Vec::new())
}

fn unsolicited(message: &Unsolicited<'_>) -> Result<Headers, Unsendable> {
    if message.call_id.is_empty() || message.call_id.contains([' ', '\t']) {
        return Err(Unsendable::of("Call-ID"));
    }
    let us = Uri::at(message.local);
    let from = text(message.from.unwrap_or(&us).target());
    let mut headers = Headers::default();
    headers.push(our_via(message.local, message.branch)?);
    headers.push(MaxForwards::from(70).into());
    headers.push(Contact::from(format!("<{us}>")).into());
    headers.push(To::from(format!("<{}>", text(message.target.target()))).into());
    headers.push(FromHeader::from(format!("<{from}>;tag={}", token("From", message.tag)?)).into());
    headers.push(CallId::from(text(message.call_id.as_bytes())).into());
    headers.push(our_cseq(message.cseq));
    Ok(headers)
}

/// The headers that go with a URL: the set of the vendor guide that warns of a 4xx where one of them is missing, with
/// its values, plus the Subscription-State that the guide forgot and RFC 6665 wants.
fn carry_url(headers: &mut Headers, product: &str, event: String) {
    let allow = "INVITE, ACK, CANCEL, OPTIONS, BYE, REGISTER, SUBSCRIBE, NOTIFY, REFER, INFO, MESSAGE";
    headers.push(Allow::from(allow).into());
    headers.push(Supported::from("replaces").into());
    headers.push(UserAgent::from(text(product.as_bytes())).into());
    headers.push(Event::from(event).into());
    headers.push(SubscriptionState::from("terminated;reason=timeout").into());
    headers.push(ContentType::from("application/url").into());
}

/// Their To with our tag. One that has a tag already keeps it: it is ours, from before.
fn with_our_tag(subscribe: &Subscribe, tag: &str) -> Result<String, Unsendable> {
    let Octets(to) = &subscribe.echo.to;
    let tag = token("To", tag)?;
    Ok(if subscribe.to_tag.is_some() { text(to) } else { format!("{};tag={tag}", text(to)) })
}

fn our_via(local: SocketAddr, branch: &str) -> Result<Header, Unsendable> {
    let sent_by =
        rsip::HostWithPort { host: rsip::Host::from(bracketed(local.ip()).as_str()), port: Some(local.port().into()) };
    let via = rsip::typed::Via {
        version: rsip::Version::V2,
        transport: rsip::Transport::Udp,
        uri: sent_by.into(),
        params: vec![rsip::Param::Branch(token("Via", branch)?.into()), rsip::Param::Other("rport".into(), None)],
    };
    Ok(via.into())
}

fn our_cseq(number: u32) -> Header {
    rsip::typed::CSeq { seq: number, method: Method::Notify }.into()
}

fn token<'a>(header: &str, token: &'a str) -> Result<&'a str, Unsendable> {
    if is_token(token.as_bytes()) { Ok(token) } else { Err(Unsendable::of(header)) }
}

fn event_text(event: &str) -> Result<String, Unsendable> {
    if event.trim().is_empty() { Err(Unsendable::of("Event")) } else { Ok(text(event.as_bytes())) }
}

/// A URL is one line, and phones read no further than its first blank.
fn url_body(url: &str) -> Result<Vec<u8>, Unsendable> {
    if url.is_empty() || url.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(Unsendable::of("body"));
    }
    Ok(url.as_bytes().to_vec())
}

/// The URI goes into the request line as the phone wrote it, and not by way of `rsip::Uri`, which prints it anew.
fn request(target: &Uri, headers: Headers, body: Vec<u8>) -> Result<Vec<u8>, Unsendable> {
    seal(format!("{} {} {}", Method::Notify, text(target.target()), rsip::Version::V2), headers, &body)
}

/// Makes the bytes, and lets nothing out that would read as more headers than were put in.
fn seal(start: String, mut headers: Headers, body: &[u8]) -> Result<Vec<u8>, Unsendable> {
    headers.push(ContentLength::from(body.len().to_string()).into());
    let mut message = line("start line", &start)?;
    let mut count = 0;
    for header in headers.iter() {
        let written = header.to_string();
        let name = written.split(':').next().unwrap_or_default();
        message.extend(line(name, &written)?);
        count += 1;
    }
    message.extend_from_slice(b"\r\n");
    message.extend_from_slice(body);
    if message.len() > MAX_DATAGRAM || count > MAX_HEADERS {
        return Err(Unsendable::TooLarge);
    }
    Ok(message)
}

/// One line of the message. Received values were unfolded, so a line end in one is either an attack or a phone whose
/// request we could not echo truthfully.
fn line(name: &str, written: &str) -> Result<Vec<u8>, Unsendable> {
    let mut line = octets(written).ok_or_else(|| Unsendable::of(name))?;
    if line.iter().any(|byte| b"\r\n\0".contains(byte)) {
        return Err(Unsendable::of(name));
    }
    line.extend_from_slice(b"\r\n");
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_ends_a_line_gets_out() {
        for evil in ["a\r\nEvil: 1", "a\nEvil: 1", "a\rEvil: 1", "a\0", "\n"] {
            let headers: Headers = Header::Other("X-A".into(), evil.into()).into();
            let refused = seal("SIP/2.0 200 OK".into(), headers, b"");
            assert_eq!(refused, Err(Unsendable::of("X-A")), "{evil:?}");
            assert_eq!(seal(evil.into(), Headers::default(), b""), Err(Unsendable::of("start line")));
        }
    }

    #[test]
    fn a_binary_body_is_counted_and_kept() {
        let sealed = seal("SIP/2.0 200 OK".into(), Headers::default(), b"\xff\0\r\n").unwrap();
        assert_eq!(sealed, b"SIP/2.0 200 OK\r\nContent-Length: 4\r\n\r\n\xff\0\r\n");
    }

    #[test]
    fn what_our_own_reader_would_refuse_is_not_sent() {
        let long: Headers = Header::Other("X".into(), "x".repeat(MAX_DATAGRAM)).into();
        assert_eq!(seal("SIP/2.0 200 OK".into(), long, b""), Err(Unsendable::TooLarge));
        let many: Headers = vec![Header::Other("X".into(), String::new()); MAX_HEADERS].into();
        assert_eq!(seal("SIP/2.0 200 OK".into(), many, b""), Err(Unsendable::TooLarge));
    }
}
