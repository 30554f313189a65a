//! One request to one answer: which name is asked for, and in which of HTTP's forms what the desk found is sent.
//!
//! Answers that carry no file are one plain sentence. Never HTML: phones have been seen to store an error page as their configuration.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use headers::{ETag, HeaderMapExt, IfModifiedSince, IfNoneMatch, IfRange, LastModified};
use http_body_util::{BodyExt, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    body::{Body as _, Incoming},
    header::{self, HeaderValue},
    http::request::Parts,
};
use percent_encoding::percent_decode_str;
use tokio::time::timeout;
use tracing::{debug, error};

use super::{
    body::{Body, Content},
    patience::Answering,
};
use crate::{
    chunks::FileChunks,
    request::{Asset, ConfigFile, ConfigRequest, Credentials, Desk, Door, Fetched, LONGEST_NAME, Proof, asked_name},
};

const SERVER: HeaderValue = HeaderValue::from_static("Provost");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Nothing we serve wants a request body. A short one is read, so that the peer gets to hear its answer before the connection closes.
const BODY_READ: usize = 64 * 1024;
const BODY_TIME: Duration = Duration::from_secs(5);

/// What servers write into a request that they pass on.
const RELAYED: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

pub(super) async fn answer<D: Desk>(
    desk: &D,
    request: Request<Incoming>,
    peer: SocketAddr,
    local: SocketAddr,
    proof: Proof,
    answering: Answering,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    if !body.is_end_stream() && !head.headers.contains_key(header::EXPECT) {
        let _ = timeout(BODY_TIME, Limited::new(body, BODY_READ).collect()).await;
    }
    let mut answer = if head.method == Method::GET || head.method == Method::HEAD {
        match name(&head.uri) {
            Ok(path) => {
                let user_agent = head.headers.get(header::USER_AGENT);
                let user_agent = user_agent.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
                let proof = Proof {
                    relayed: proof.via.is_none() && RELAYED.iter().any(|name| head.headers.contains_key(*name)),
                    credentials: credentials(&head),
                    ..proof
                };
                let request = ConfigRequest { door: Door::Http, path, user_agent, peer, local, proof };
                let found = desk.fetch(request).await;
                compose(found, &head.headers)
            }
            Err((status, reason)) => {
                debug!(door = "http", %peer, reason, "refused an odd name");
                sentence(status, reason)
            }
        }
    } else {
        let mut answer = sentence(StatusCode::METHOD_NOT_ALLOWED, "files can be fetched here, nothing else");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        answer
    };
    answer.headers_mut().insert(header::SERVER, SERVER);
    if head.method == Method::HEAD {
        // The length has been said already, so hyper does not take it from the body.
        *answer.body_mut() = Content::Nothing;
    }
    answer.map(|content| Body::new(content, answering))
}

/// What the client says of itself where it was asked who it is.
fn credentials(head: &Parts) -> Option<Arc<Credentials>> {
    let authorization = head.headers.get(header::AUTHORIZATION)?.to_str().ok()?.to_owned();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let method = if head.method == Method::HEAD { "HEAD" } else { "GET" };
    Some(Arc::new(Credentials { method, target, authorization }))
}

/// The name asked for, decoded once.
fn name(uri: &Uri) -> Result<String, (StatusCode, &'static str)> {
    let raw = match uri.authority() {
        // Without a slash in front (`GET cfg.xml HTTP/1.1`) the whole target was taken for a host.
        Some(authority) if uri.scheme().is_none() => authority.as_str(),
        _ => uri.path(),
    };
    if raw.len() > LONGEST_NAME {
        return Err((StatusCode::URI_TOO_LONG, "the name is too long"));
    }
    let Ok(path) = percent_decode_str(raw).decode_utf8() else {
        return Err((StatusCode::NOT_FOUND, "the name is not UTF-8"));
    };
    asked_name(&path).map(str::to_owned).map_err(|reason| (StatusCode::NOT_FOUND, reason))
}

fn compose(found: Fetched, asked: &HeaderMap) -> Response<Content> {
    match found {
        Fetched::Found(ConfigFile { body, content_type, etag, modified }) => {
            send(asked, content_type.as_ref(), &etag, modified, Content::Whole(body))
        }
        Fetched::Asset(Asset { path, content_type, .. }) => match FileChunks::open(&path) {
            Ok((chunks, metadata)) => {
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let age = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let etag = format!("{:x}-{:x}", metadata.len(), age.as_nanos());
                send(asked, content_type.as_ref(), &etag, modified, Content::File(chunks))
            }
            Err(error) => {
                error!(door = "http", path = %path.display(), error = &error as &dyn std::error::Error, "cannot open asset");
                sentence(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read")
            }
        },
        Fetched::Unknown { reason } => sentence(StatusCode::NOT_FOUND, &reason),
        Fetched::Refused { reason } => sentence(StatusCode::FORBIDDEN, &reason),
        Fetched::Challenged { challenges } => {
            let mut answer = sentence(StatusCode::UNAUTHORIZED, "this takes a user name and a password");
            for challenge in challenges.iter().filter_map(|challenge| HeaderValue::from_str(challenge).ok()) {
                answer.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
            }
            answer
        }
        Fetched::Locked { seconds } => {
            let mut answer = sentence(StatusCode::TOO_MANY_REQUESTS, "too much was asked in vain from this address");
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            answer
        }
        Fetched::Failed { public } => sentence(StatusCode::INTERNAL_SERVER_ERROR, &public),
    }
}

/// What was found, whole or in part, or only the word that the peer has it already.
fn send(asked: &HeaderMap, content_type: &str, etag: &str, modified: SystemTime, source: Content) -> Response<Content> {
    // A file's time can be anything; a time outside these bounds cannot be written as a date, or must not be sent.
    let modified = modified.clamp(SystemTime::UNIX_EPOCH, SystemTime::now().max(SystemTime::UNIX_EPOCH));
    let etag = format!("\"{etag}\"").parse::<ETag>().ok();
    let last_modified = LastModified::from(modified);

    let mut answer = Response::new(Content::Nothing);
    let headers = answer.headers_mut();
    if let Some(etag) = &etag {
        headers.typed_insert(etag.clone());
    }
    headers.typed_insert(last_modified);
    if is_known(asked, etag.as_ref(), modified) {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        return answer;
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap_or(OCTETS));

    let mut chunks = match source {
        Content::File(chunks) => chunks,
        whole => {
            headers.insert(header::CONTENT_LENGTH, whole.len().into());
            *answer.body_mut() = whole;
            return answer;
        }
    };
    // Only assets come in parts: they are what is large, and a phone that lost its link resumes a firmware.
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let whole = chunks.left();
    let of_the_same =
        asked.typed_get::<IfRange>().is_none_or(|since| !since.is_modified(etag.as_ref(), Some(&last_modified)));
    let range = asked.get(header::RANGE).filter(|_| of_the_same).and_then(|range| range.to_str().ok());
    let part = match range.map_or(Part::Whole, |range| part(range, whole)) {
        Part::Whole => 0..whole,
        Part::Some(part) => {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            let value = format!("bytes {}-{}/{whole}", part.start, part.end - 1);
            insert(answer.headers_mut(), header::CONTENT_RANGE, &value);
            part
        }
        Part::Beyond => {
            let mut answer = sentence(StatusCode::RANGE_NOT_SATISFIABLE, "the file has no such part");
            insert(answer.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{whole}"));
            return answer;
        }
    };
    if let Err(error) = chunks.narrow(part.start, part.end - part.start) {
        error!(door = "http", error = &error as &dyn std::error::Error, "cannot seek in asset");
        return sentence(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read");
    }
    answer.headers_mut().insert(header::CONTENT_LENGTH, chunks.left().into());
    *answer.body_mut() = Content::File(chunks);
    answer
}

/// Whether the peer says that it has this very version. Where it names versions, its dates do not count (RFC 9110, 13.2.2).
fn is_known(asked: &HeaderMap, etag: Option<&ETag>, modified: SystemTime) -> bool {
    if asked.contains_key(header::IF_NONE_MATCH) {
        let known = asked.typed_get::<IfNoneMatch>();
        return known.zip(etag).is_some_and(|(known, etag)| !known.precondition_passes(etag));
    }
    asked.typed_get::<IfModifiedSince>().is_some_and(|since| !since.is_modified(modified))
}

#[derive(Debug, PartialEq)]
enum Part {
    Whole,
    Some(Range<u64>),
    Beyond,
}

/// Reads a Range header. What is not exactly one range of bytes is answered with the whole file, as every server may.
/// (The `headers` crate's reader refuses a suffix longer than the file, which is to be the whole file.)
fn part(range: &str, len: u64) -> Part {
    let Some((unit, set)) = range.split_once('=') else { return Part::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Part::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else { return Part::Whole };
    // A number too large for us is still a number; a sign is not part of one.
    let number = |text: &str| match text {
        "" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(Some(digits.parse().unwrap_or(u64::MAX))),
        _ => None,
    };
    match (number(first), number(last)) {
        (Some(Some(first)), Some(last)) if last.is_none_or(|last| last >= first) => {
            if first >= len {
                return Part::Beyond;
            }
            Part::Some(first..last.map_or(len, |last| last.saturating_add(1).min(len)))
        }
        (Some(None), Some(Some(suffix))) => {
            if suffix == 0 || len == 0 {
                return Part::Beyond;
            }
            Part::Some(len.saturating_sub(suffix)..len)
        }
        _ => Part::Whole,
    }
}

fn sentence(status: StatusCode, text: &str) -> Response<Content> {
    let text = Bytes::from(format!("{}\n", text.trim_end()));
    let mut answer = Response::new(Content::Nothing);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, PLAIN);
    answer.headers_mut().insert(header::CONTENT_LENGTH, text.len().into());
    *answer.body_mut() = Content::Whole(text);
    answer
}

fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_a_part_and_everything_else_the_whole() {
        assert_eq!(part("bytes=0-0", 10), Part::Some(0..1));
        assert_eq!(part("bytes=3-", 10), Part::Some(3..10));
        assert_eq!(part("bytes=3-99", 10), Part::Some(3..10));
        assert_eq!(part("bytes=-4", 10), Part::Some(6..10));
        assert_eq!(part("bytes=-99", 10), Part::Some(0..10));
        assert_eq!(part("Bytes = 3-4", 10), Part::Some(3..5));
        assert_eq!(part("bytes=0-99999999999999999999999", 10), Part::Some(0..10));
        for beyond in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(part(beyond, 10), Part::Beyond, "{beyond}");
        }
        for whole in ["bytes=0-1,3-4", "bytes=4-3", "bytes=-", "bytes=", "lines=1-2", "bytes=a-b", "bytes=+1-2", "x"] {
            assert_eq!(part(whole, 10), Part::Whole, "{whole}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Beyond);
    }

    #[test]
    fn a_name_is_decoded_once_and_has_no_slash_in_front() {
        let ask = |uri: &str| name(&uri.parse().unwrap());
        for (uri, expected) in [
            ("/cfg.xml?a=b", "cfg.xml"),
            ("//a//b", "a//b"),
            ("cfg.xml", "cfg.xml"),
            ("http://10.0.0.1:8080/a/b%20c", "a/b c"),
            ("/%7Bmac%7D/%252e%252e", "{mac}/%2e%2e"),
            ("/%C3%A4.xml", "ä.xml"),
            ("http://10.0.0.1", ""),
        ] {
            assert_eq!(ask(uri).as_deref(), Ok(expected), "{uri}");
        }
        for odd in ["/a%00b", "/..%2fa", "/%2e%2e/a", "/a/../b", "/a%5cb", "/%ff", "/a%0d%0ab"] {
            assert_eq!(ask(odd).map_err(|(status, _)| status), Err(StatusCode::NOT_FOUND), "{odd}");
        }
        assert_eq!(ask(&"/a".repeat(600)).map_err(|(status, _)| status), Err(StatusCode::URI_TOO_LONG));
    }
}
