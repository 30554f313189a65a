//! Datagrams at the SIP door.

use std::net::SocketAddr;

use provost_server::explain;
use provost_sip::{
    Answer, Challenge, Claimed, Message, Subscribe,
    compose::{self, Notify, Reply},
    read,
};

use crate::bench::bench;

const HERE: &str = "192.0.2.1:5060";
const URL: &str = "http://192.0.2.1:8080/";

pub fn datagram(input: &[u8]) {
    answered(input);
    // The whole way: whose phone is it, and what is it told?
    let explanation = explain::datagram(&bench().world, "fuzz", input, &explain::From::default());
    if let Some(url) = &explanation.url {
        assert!(!url.contains(|character: char| character.is_control() || character == ' '), "the URL is {url:?}");
    }
}

pub fn event(input: &[u8]) {
    let head = "SUBSCRIBE sip:MAC%3a000413300001@224.0.1.75 SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1;rport\r\n\
        From: <sip:MAC%3a000413300001@224.0.1.75>;tag=1\r\n\
        To: <sip:MAC%3a000413300001@224.0.1.75>\r\n\
        Call-ID: 1@192.0.2.9\r\n\
        CSeq: 1 SUBSCRIBE\r\n\
        Contact: <sip:192.0.2.9:5060>\r\n\
        Event: ua-profile;";
    let datagram = [head.as_bytes(), input, b"\r\nExpires: 0\r\nContent-Length: 0\r\n\r\n"].concat();
    if let Ok(Message::Request(request)) = read(&datagram)
        && let Ok(heard) = Subscribe::from_request(&request)
    {
        for told in [&heard.vendor, &heard.model, &heard.firmware].into_iter().flatten() {
            assert!(!told.chars().any(char::is_control), "{told:?} has control characters");
        }
    }
    self::datagram(&datagram);
}

/// Reads it, answers it, and reads what was answered.
fn answered(input: &[u8]) {
    let request = match read(input) {
        Ok(Message::Request(request)) => request,
        Ok(Message::Response(response)) => {
            let _ = Answer::from_response(&response);
            let _ = Challenge::from_response(&response);
            return;
        }
        Err(_) => return,
    };
    if let Some(authorization) = request.headers.get("Authorization") {
        let claimed = Claimed::read(authorization);
        assert!(!claimed.is_some_and(|claimed| claimed.is_by("GET", "a password that nobody knows")));
    }
    let _ = request.to_rsip();
    let Ok(heard) = Subscribe::from_request(&request) else { return };
    let _ = heard.transaction_key(address("192.0.2.9:5060"));
    let _ = heard.reply_address(address("192.0.2.9:5060"));
    let reply =
        Reply { source: address("192.0.2.9:5061"), local: address(HERE), tag: "91955270", product: "Provost/0" };
    if let Ok(ok) = compose::ok(&heard, &reply) {
        let back = read(&ok).expect("our own 200 reads");
        assert!(back.body().is_empty(), "{}", ok.escape_ascii());
        assert_eq!(back.headers().skipped(), 0, "{}", ok.escape_ascii());
        assert_eq!(back.headers().len(), request.headers.all("Via").count() + 8, "{}", ok.escape_ascii());
    }
    let notify = Notify { url: URL, branch: "z9hG4bK2", cseq: 1, target: None };
    if let Ok(notify) = compose::notify(&heard, &reply, &notify) {
        let Ok(Message::Request(back)) = read(&notify) else { panic!("{}", notify.escape_ascii()) };
        assert_eq!((back.method, back.body, back.headers.skipped()), ("NOTIFY", URL.as_bytes(), 0));
        assert_eq!(back.headers.len(), 14, "{}", notify.escape_ascii());
        assert_eq!(back.headers.get("Event"), request.headers.get("Event"));
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
