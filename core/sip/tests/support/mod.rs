//! Captures, and the steps every test of this folder takes: bytes in, a request or an answer out.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use provost_sip::compose::{Notify, Reply};
use provost_sip::{Answer, Message, Request, Response, Subscribe, read};

pub(crate) fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/captures")
}

pub(crate) fn capture(name: &str) -> Vec<u8> {
    let path = captures().join(format!("{name}.sip"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read capture {}: {error}", path.display()))
}

/// Every `.sip` file of the tree that is a request of that method, with its name.
pub(crate) fn requests(method: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for folder in ["", "synthetic", "replies"] {
        for entry in std::fs::read_dir(captures().join(folder)).expect("captures are there") {
            let path = entry.expect("captures can be listed").path();
            if path.extension().is_some_and(|extension| extension == "sip") {
                let bytes = std::fs::read(&path).expect("captures can be read");
                if bytes.starts_with(method.as_bytes()) {
                    found.push((path.file_stem().expect("it has a name").to_string_lossy().into_owned(), bytes));
                }
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub(crate) fn request(bytes: &[u8]) -> Request<'_> {
    match read(bytes) {
        Ok(Message::Request(request)) => request,
        other => panic!("not a request: {other:?}\n{}", bytes.escape_ascii()),
    }
}

pub(crate) fn response(bytes: &[u8]) -> Response<'_> {
    match read(bytes) {
        Ok(Message::Response(response)) => response,
        other => panic!("not a response: {other:?}\n{}", bytes.escape_ascii()),
    }
}

pub(crate) fn subscribe(bytes: &[u8]) -> Subscribe {
    Subscribe::from_request(&request(bytes)).unwrap_or_else(|error| panic!("{error}\n{}", bytes.escape_ascii()))
}

pub(crate) fn answer(bytes: &[u8]) -> Answer {
    Answer::from_response(&response(bytes)).expect("an answer")
}

pub(crate) fn reply(source: &str) -> Reply<'static> {
    Reply { local: addr("192.168.100.10:5060"), source: addr(source), tag: "91955270", product: "Provost/0.1" }
}

pub(crate) fn first_notify(url: &str) -> Notify<'_> {
    Notify { branch: "z9hG4bK-n1", cseq: 1, url, target: None }
}

/// The value of a header, which must be there once and be text.
#[track_caller]
pub(crate) fn only(bytes: &[u8], name: &str) -> String {
    let message = read(bytes).expect("a message");
    let values: Vec<_> = message.headers().all(name).collect();
    assert_eq!(values.len(), 1, "{name} in {}", bytes.escape_ascii());
    String::from_utf8(values[0].to_vec()).expect("text")
}

pub(crate) fn names(bytes: &[u8]) -> Vec<String> {
    read(bytes).expect("a message").headers().iter().map(|header| header.name.to_owned()).collect()
}
