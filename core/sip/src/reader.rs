//! One datagram, read as tolerantly as is safe: start line, headers, body. What the headers mean is told elsewhere.
//!
//! Never panics, walks the input once, and refuses what is longer or more than any phone sends before walking it.

use std::borrow::Cow;

use crate::params;
use crate::uri::number;

/// The longest datagram that is read. The longest capture has 704 bytes.
pub const MAX_DATAGRAM: usize = 8 * 1024;

/// The most header lines that are read. The richest capture has 15.
pub const MAX_HEADERS: usize = 128;

/// Why a datagram is no SIP message for us. Each is worth a counter, and has a stable name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unreadable {
    #[error("cannot read datagram: {length} bytes are more than {MAX_DATAGRAM}")]
    TooLong { length: usize },
    /// Nothing but line ends, as keep-alives are.
    #[error("cannot read datagram: it is empty")]
    Empty,
    #[error("cannot read datagram: it is not sip")]
    NotSip,
    #[error("cannot read start line: malformed")]
    BadStartLine,
    #[error("cannot read start line: the version is not SIP/2.0")]
    OtherVersion,
    #[error("cannot read headers: more than {MAX_HEADERS}")]
    TooManyHeaders,
}

impl Unreadable {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too-long",
            Self::Empty => "empty",
            Self::NotSip => "not-sip",
            Self::BadStartLine => "bad-start-line",
            Self::OtherVersion => "other-version",
            Self::TooManyHeaders => "too-many-headers",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    Request(Request<'a>),
    Response(Response<'a>),
}

impl<'a> Message<'a> {
    pub fn headers(&self) -> &Headers<'a> {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }

    pub fn body(&self) -> &'a [u8] {
        match self {
            Self::Request(request) => request.body,
            Self::Response(response) => response.body,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// As written: methods are told apart by case, and any token may come.
    pub method: &'a str,
    pub uri: &'a [u8],
    pub headers: Headers<'a>,
    pub body: &'a [u8],
    pub body_fit: BodyFit,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response<'a> {
    pub status: u16,
    /// Empty where the phone gave none.
    pub reason: &'a [u8],
    pub headers: Headers<'a>,
    pub body: &'a [u8],
    pub body_fit: BodyFit,
}

/// How the body compares with what Content-Length says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFit {
    Exact,
    /// No Content-Length, or none that is a number: the body is what the datagram holds.
    Unstated,
    /// The datagram ends early. RFC 3261 §18.3 would answer 400; a phone's SUBSCRIBE has no body to miss.
    Short {
        missing: usize,
    },
    /// More came than was stated, and was cut.
    Cut {
        extra: usize,
    },
}

/// One header, in the order and spelling it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header<'a> {
    /// The full name: as written, or what a compact form stands for.
    pub name: &'a str,
    /// The name as written.
    pub spelling: &'a str,
    /// Trimmed and unfolded, otherwise untouched: it need not be UTF-8.
    pub value: Cow<'a, [u8]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    list: Vec<Header<'a>>,
    skipped: usize,
}

impl<'a> Headers<'a> {
    /// The first header of that (full) name, compared without case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let header = self.list.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(&header.value)
    }

    /// Every header of that name, in order. A list that is joined by commas is one.
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s [u8]> {
        self.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| &*header.value)
    }

    /// Every Via, topmost first, whether it had a line of its own or shared one.
    pub fn vias(&self) -> impl Iterator<Item = &[u8]> {
        self.all("Via").flat_map(|value| params::split(value, b',')).map(<[u8]>::trim_ascii)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Header<'a>> {
        self.list.iter()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many lines were passed over because no header can be made of them.
    pub fn skipped(&self) -> usize {
        self.skipped
    }
}

/// Reads one UDP payload.
///
/// Taken as they come: line feeds without carriage return, line ends before the start line, no empty line at the end,
/// folded lines, compact names, blanks before the colon, bytes that are not UTF-8, a Content-Length that is wrong.
pub fn read(datagram: &[u8]) -> Result<Message<'_>, Unreadable> {
    if datagram.len() > MAX_DATAGRAM {
        return Err(Unreadable::TooLong { length: datagram.len() });
    }
    let start = datagram.iter().position(|&byte| byte != b'\r' && byte != b'\n').ok_or(Unreadable::Empty)?;
    let (line, rest) = take_line(&datagram[start..]);
    let start = StartLine::parse(line)?;
    let (headers, rest) = read_headers(rest)?;
    let (body, body_fit) = cut_body(&headers, rest);
    Ok(match start {
        StartLine::Request { method, uri } => Message::Request(Request { method, uri, headers, body, body_fit }),
        StartLine::Response { status, reason } => {
            Message::Response(Response { status, reason, headers, body, body_fit })
        }
    })
}

enum StartLine<'a> {
    Request { method: &'a str, uri: &'a [u8] },
    Response { status: u16, reason: &'a [u8] },
}

impl<'a> StartLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, Unreadable> {
        let line = line.trim_ascii();
        let (first, behind) = take_word(line);
        if is_sip(first) {
            version(first)?;
            let (code, reason) = take_word(behind);
            let status = number(code).filter(|_| code.len() == 3).and_then(|code| u16::try_from(code).ok());
            let status = status.filter(|status| (100..700).contains(status)).ok_or(Unreadable::BadStartLine)?;
            return Ok(Self::Response { status, reason });
        }
        // The version is the last word and the URI all between: a blank in the URI should not lose the phone, as the
        // URI is searched for a MAC and never sent back.
        let last = behind.iter().rposition(|byte| byte.is_ascii_whitespace()).map_or(0, |at| at + 1);
        let (uri, last) = behind.split_at(last);
        if !is_sip(last) {
            return Err(Unreadable::NotSip);
        }
        version(last)?;
        let uri = uri.trim_ascii();
        match std::str::from_utf8(first) {
            Ok(method) if params::is_token(first) && !uri.is_empty() => Ok(Self::Request { method, uri }),
            _ => Err(Unreadable::BadStartLine),
        }
    }
}

fn is_sip(word: &[u8]) -> bool {
    word.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"))
}

fn version(word: &[u8]) -> Result<(), Unreadable> {
    if word.eq_ignore_ascii_case(b"SIP/2.0") { Ok(()) } else { Err(Unreadable::OtherVersion) }
}

/// The bytes up to the first blank, and those behind the blanks.
fn take_word(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(|byte| byte.is_ascii_whitespace()).unwrap_or(line.len());
    (&line[..end], line[end..].trim_ascii_start())
}

/// One line without its end, and what follows. The last line may have no end.
fn take_line(rest: &[u8]) -> (&[u8], &[u8]) {
    let (mut line, rest) = match rest.iter().position(|&byte| byte == b'\n') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &[][..]),
    };
    while let [shorter @ .., b'\r'] = line {
        line = shorter;
    }
    (line, rest)
}

fn read_headers(mut rest: &[u8]) -> Result<(Headers<'_>, &[u8]), Unreadable> {
    let mut headers = Headers::default();
    // Whether the line before was passed over: what continues it is passed over too.
    let mut skipping = true;
    while !rest.is_empty() {
        let line;
        (line, rest) = take_line(rest);
        if line.is_empty() {
            break;
        }
        if line[0] == b' ' || line[0] == b'\t' {
            if !skipping && let Some(header) = headers.list.last_mut() {
                unfold(&mut header.value, line.trim_ascii());
            }
            continue;
        }
        if headers.len() + headers.skipped == MAX_HEADERS {
            return Err(Unreadable::TooManyHeaders);
        }
        let header = Header::parse(line);
        skipping = header.is_none();
        match header {
            Some(header) => headers.list.push(header),
            // One broken line is no reason to lose the phone.
            None => headers.skipped += 1,
        }
    }
    Ok((headers, rest))
}

/// Appends a continuation line. It becomes one blank and the text, so that no line break is left to be echoed.
fn unfold(value: &mut Cow<'_, [u8]>, continuation: &[u8]) {
    if continuation.is_empty() {
        return;
    }
    let value = value.to_mut();
    if !value.is_empty() {
        value.push(b' ');
    }
    value.extend_from_slice(continuation);
}

impl<'a> Header<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let spelling = line[..colon].trim_ascii_end();
        let spelling = std::str::from_utf8(spelling).ok().filter(|_| params::is_token(spelling))?;
        let name = expand(spelling).unwrap_or(spelling);
        Some(Self { name, spelling, value: Cow::Borrowed(line[colon + 1..].trim_ascii()) })
    }
}

/// The full name of a compact form, as IANA registers them.
fn expand(spelling: &str) -> Option<&'static str> {
    let &[letter] = spelling.as_bytes() else { return None };
    Some(match letter.to_ascii_lowercase() {
        b'a' => "Accept-Contact",
        b'b' => "Referred-By",
        b'c' => "Content-Type",
        b'd' => "Request-Disposition",
        b'e' => "Content-Encoding",
        b'f' => "From",
        b'i' => "Call-ID",
        b'j' => "Reject-Contact",
        b'k' => "Supported",
        b'l' => "Content-Length",
        b'm' => "Contact",
        b'n' => "Identity-Info",
        b'o' => "Event",
        b'r' => "Refer-To",
        b's' => "Subject",
        b't' => "To",
        b'u' => "Allow-Events",
        b'v' => "Via",
        b'x' => "Session-Expires",
        b'y' => "Identity",
        _ => return None,
    })
}

fn cut_body<'a>(headers: &Headers<'_>, rest: &'a [u8]) -> (&'a [u8], BodyFit) {
    let stated = headers.get("Content-Length").and_then(number);
    let Some(stated) = stated.and_then(|stated| usize::try_from(stated).ok()) else {
        return (rest, BodyFit::Unstated);
    };
    match rest.get(..stated) {
        Some(body) if body.len() == rest.len() => (body, BodyFit::Exact),
        Some(body) => (body, BodyFit::Cut { extra: rest.len() - stated }),
        None => (rest, BodyFit::Short { missing: stated - rest.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(bytes: &[u8]) -> Request<'_> {
        match read(bytes) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn response(bytes: &[u8]) -> Response<'_> {
        match read(bytes) {
            Ok(Message::Response(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_folded_header_becomes_one_line() {
        let request = request(b"X sip:h SIP/2.0\r\nSubject:\r\n one\r\n\t two  \r\n  \r\nTo: t\r\n\r\n");
        assert_eq!(request.headers.get("subject"), Some(b"one two".as_slice()));
        assert_eq!(request.headers.get("to"), Some(b"t".as_slice()));
        assert_eq!(request.headers.len(), 2);
    }

    #[test]
    fn a_continuation_follows_its_own_line_into_oblivion() {
        let request = request(b"X sip:h SIP/2.0\r\n lost\r\nTo: t\r\nno colon here\r\n ;tag=evil\r\n\r\n");
        assert_eq!(request.headers.get("To"), Some(b"t".as_slice()));
        assert_eq!((request.headers.len(), request.headers.skipped()), (1, 1));
    }

    #[test]
    fn the_start_line_may_be_spaced_oddly() {
        let request = request(b"\r\n\n\r\nOPTIONS \t sip:a b@h   sip/2.0 \r\n\r\n");
        assert_eq!((request.method, request.uri), ("OPTIONS", b"sip:a b@h".as_slice()));
        let response = response(b"SIP/2.0  486   Busy  Here \r\n\r\n");
        assert_eq!((response.status, response.reason), (486, b"Busy  Here".as_slice()));
    }

    #[test]
    fn each_refusal_has_its_own_name() {
        let long = vec![b'x'; MAX_DATAGRAM + 1];
        let many = format!("X sip:h SIP/2.0\r\n{}\r\n", "A:\r\n".repeat(MAX_HEADERS + 1)).into_bytes();
        let broken = format!("X sip:h SIP/2.0\r\n{}\r\n", "A\r\n".repeat(MAX_HEADERS + 1)).into_bytes();
        for (bytes, name) in [
            (long.as_slice(), "too-long"),
            (b"", "empty"),
            (b"\r\n\r\n", "empty"),
            (b"\0\0\0\0", "not-sip"),
            (b"M-SEARCH * HTTP/1.1\r\n\r\n", "not-sip"),
            (b"SUBSCRIBE", "not-sip"),
            (b"X SIP/2.0\r\n\r\n", "bad-start-line"),
            (b"X<> sip:h SIP/2.0\r\n\r\n", "bad-start-line"),
            (b"SIP/2.0 20 OK\r\n\r\n", "bad-start-line"),
            (b"SIP/2.0 999 OK\r\n\r\n", "bad-start-line"),
            (b"SIP/2.0 0200 OK\r\n\r\n", "bad-start-line"),
            (b"SIP/2.0 +20 OK\r\n\r\n", "bad-start-line"),
            (b"SIP/2.0", "bad-start-line"),
            (b"X sip:h SIP/7.0\r\n\r\n", "other-version"),
            (b"SIP/3.0 200 OK\r\n\r\n", "other-version"),
            (&many, "too-many-headers"),
            (&broken, "too-many-headers"),
        ] {
            assert_eq!(read(bytes).unwrap_err().as_str(), name, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_last_allowed_header_is_read() {
        let full = format!("X sip:h SIP/2.0\r\n{}\r\n", "A:\r\n".repeat(MAX_HEADERS)).into_bytes();
        assert_eq!(request(&full).headers.len(), MAX_HEADERS);
    }

    #[test]
    fn the_body_is_what_content_length_says_if_it_can_be() {
        for (length, body, fit) in [
            ("Content-Length: 4", "abcd", BodyFit::Exact),
            ("l: 2", "ab", BodyFit::Cut { extra: 2 }),
            ("Content-Length: 9", "abcd", BodyFit::Short { missing: 5 }),
            ("Content-Length: -1", "abcd", BodyFit::Unstated),
            ("Content-Length:", "abcd", BodyFit::Unstated),
            ("Content-Length: 99999999999999999999", "abcd", BodyFit::Unstated),
            ("X: y", "abcd", BodyFit::Unstated),
        ] {
            let bytes = format!("X sip:h SIP/2.0\r\n{length}\r\n\r\nabcd").into_bytes();
            let request = request(&bytes);
            assert_eq!((request.body, request.body_fit), (body.as_bytes(), fit), "{length}");
        }
    }

    #[test]
    fn an_empty_line_is_empty_with_any_number_of_carriage_returns() {
        for end in ["\n", "\r\n", "\r\r\n"] {
            let bytes = format!("X sip:h SIP/2.0{end}To: t{end}{end}body: 1");
            let request = request(bytes.as_bytes());
            assert_eq!((request.headers.len(), request.body), (1, b"body: 1".as_slice()), "{end:?}");
        }
    }

    #[test]
    fn compact_names_stand_for_what_iana_registered() {
        let registered = "a Accept-Contact, b Referred-By, c Content-Type, d Request-Disposition, e Content-Encoding, \
            f From, i Call-ID, j Reject-Contact, k Supported, l Content-Length, m Contact, n Identity-Info, o Event, \
            r Refer-To, s Subject, t To, u Allow-Events, v Via, x Session-Expires, y Identity";
        for pair in registered.split(", ") {
            let (short, long) = pair.split_once(' ').unwrap();
            assert_eq!(expand(short), Some(long));
            assert_eq!(expand(&short.to_uppercase()), Some(long));
        }
        let known = ('a'..='z').filter(|letter| expand(&letter.to_string()).is_some()).count();
        assert_eq!((known, expand("to")), (20, None));
    }

    #[test]
    fn a_via_line_may_hold_several() {
        let request =
            request(b"X sip:h SIP/2.0\r\nv: SIP/2.0/UDP a;x=\",\" , SIP/2.0/UDP b\r\nVia: SIP/2.0/UDP c\r\n\r\n");
        let vias: Vec<_> = request.headers.vias().collect();
        assert_eq!(vias, [b"SIP/2.0/UDP a;x=\",\"".as_slice(), b"SIP/2.0/UDP b", b"SIP/2.0/UDP c"]);
        assert_eq!(request.headers.iter().next().map(|header| (header.spelling, header.name)), Some(("v", "Via")));
    }
}
