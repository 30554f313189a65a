//! Bytes from anyone: nothing panics, and nothing that came in can become a header that we did not mean to send.

mod support;

use proptest::prelude::*;
use proptest::sample::Index;
use provost_sip::compose::{self, Notify, Reply, Unsendable, Unsolicited};
use provost_sip::{Answer, Challenge, Credentials, Message, Subscribe, Uri, read};
use support::*;

const TAIL_OF_OK: [&str; 8] = ["From", "To", "Call-ID", "CSeq", "Contact", "Expires", "Server", "Content-Length"];

const NOTIFY: [&str; 14] = [
    "Via",
    "Max-Forwards",
    "Contact",
    "To",
    "From",
    "Call-ID",
    "CSeq",
    "Allow",
    "Supported",
    "User-Agent",
    "Event",
    "Subscription-State",
    "Content-Type",
    "Content-Length",
];

const CHECK_SYNC: [&str; 11] = [
    "Via",
    "Max-Forwards",
    "Contact",
    "To",
    "From",
    "Call-ID",
    "CSeq",
    "User-Agent",
    "Event",
    "Subscription-State",
    "Content-Length",
];

/// Reads, answers, and checks every answer. Gives back whether both answers could be sent.
fn exchange(bytes: &[u8]) -> bool {
    let request = match read(bytes) {
        Ok(Message::Request(request)) => request,
        Ok(Message::Response(response)) => {
            let _ = Answer::from_response(&response);
            return false;
        }
        Err(_) => return false,
    };
    let _ = request.to_rsip();
    let Ok(heard) = Subscribe::from_request(&request) else { return false };
    let _ = heard.transaction_key(addr("192.0.2.9:5060"));
    let reply = reply("192.0.2.9:5061");
    let headers = &request.headers;

    let sent_ok = compose::ok(&heard, &reply).map(|ok| {
        let vias = headers.all("Via").count();
        let expected: Vec<_> = std::iter::repeat_n("Via", vias).chain(TAIL_OF_OK).collect();
        assert_eq!(names(&ok), expected, "{}", ok.escape_ascii());
        let back = read(&ok).expect("our own 200 reads");
        assert!(back.body().is_empty());
        for name in ["From", "Call-ID", "CSeq"] {
            assert_eq!(back.headers().get(name), headers.get(name), "{name}");
        }
        let (to, theirs) = (back.headers().get("To").unwrap(), headers.get("To").unwrap());
        let added = to.strip_prefix(theirs).expect("To begins as it came");
        assert_eq!(added, if heard.to_tag.is_some() { b"".as_slice() } else { b";tag=91955270" });
        let (ours, theirs): (Vec<_>, Vec<_>) = (back.headers().all("Via").collect(), headers.all("Via").collect());
        assert_eq!(ours[1..], theirs[1..], "only the first Via line is filled in");
    });

    let url = "http://192.0.2.1/";
    let sent_notify = compose::notify(&heard, &reply, &first_notify(url)).map(|notify| {
        assert_eq!(names(&notify), NOTIFY, "{}", notify.escape_ascii());
        let Ok(Message::Request(back)) = read(&notify) else { panic!("{}", notify.escape_ascii()) };
        assert_eq!((back.method, back.body, back.headers.skipped()), ("NOTIFY", url.as_bytes(), 0));
        assert_eq!(back.uri, heard.contact.as_ref().map_or(b"sip:192.0.2.9:5061".as_slice(), Uri::target));
        assert_eq!(back.headers.get("To"), headers.get("From"));
        assert_eq!(back.headers.get("Event"), headers.get("Event"));
        assert_eq!(back.headers.get("Call-ID"), headers.get("Call-ID"));
    });
    sent_ok.is_ok() && sent_notify.is_ok()
}

#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    Double(Index, usize),
    Truncate(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    // The bytes that mean something to a parser, more often than the others.
    let byte = prop_oneof![proptest::sample::select(b"\r\n\t \0\"'\\;,:<>=@?%[]/\xff".to_vec()), any::<u8>()];
    let bytes = prop_oneof![
        proptest::collection::vec(byte.clone(), 1..6),
        proptest::sample::select(vec![
            b"\r\n ".to_vec(),
            b"\r\n\r\n".to_vec(),
            b"\r\nEvil: 1".to_vec(),
            b"\rEvil: 1".to_vec(),
            b"\r\n Evil: 1".to_vec(),
            b"\r\nVia: SIP/2.0/UDP x".to_vec(),
            b";tag=x".to_vec(),
            b"%0d%0aEvil:1".to_vec(),
        ]),
    ];
    prop_oneof![
        (any::<Index>(), byte).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (any::<Index>(), bytes).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (any::<Index>(), 1..40usize).prop_map(|(at, length)| Mutation::Delete(at, length)),
        (any::<Index>(), 1..200usize).prop_map(|(at, length)| Mutation::Double(at, length)),
        any::<Index>().prop_map(Mutation::Truncate),
    ]
}

fn mutate(mut bytes: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        if bytes.is_empty() {
            break;
        }
        let (length, span) = (bytes.len(), |at: &Index, span: usize| (at.index(bytes.len()), span));
        match mutation {
            Mutation::Set(at, byte) => bytes[at.index(length)] = *byte,
            Mutation::Insert(at, new) => {
                let at = at.index(length);
                bytes.splice(at..at, new.iter().copied());
            }
            Mutation::Delete(at, count) => {
                let (at, count) = span(at, *count);
                bytes.drain(at..length.min(at + count));
            }
            Mutation::Double(at, count) => {
                let (at, count) = span(at, *count);
                let again = bytes[at..length.min(at + count)].to_vec();
                bytes.splice(at..at, again);
            }
            Mutation::Truncate(at) => bytes.truncate(at.index(length)),
        }
    }
    bytes
}

fn any_capture() -> impl Strategy<Value = Vec<u8>> {
    let all: Vec<_> =
        ["SUBSCRIBE", "NOTIFY", "SIP/2.0"].into_iter().flat_map(requests).map(|(_, bytes)| bytes).collect();
    proptest::sample::select(all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutants_of_captures(bytes in any_capture(), mutations in proptest::collection::vec(mutation(), 1..8)) {
        exchange(&mutate(bytes, &mutations));
    }

    #[test]
    fn plain_noise(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        exchange(&bytes);
    }

    /// Any bytes at all as the values that are sent back.
    #[test]
    fn any_value_in_every_echoed_header(values in proptest::array::uniform6(proptest::collection::vec(any::<u8>(), 0..40))) {
        let [via, from, to, call_id, contact, event] = values;
        let bytes = [
            b"SUBSCRIBE sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h;rport;x=".as_slice(), &via,
            b"\r\nFrom: <sip:a@h>;tag=1;x=", &from,
            b"\r\nTo: <sip:b@h>;x=", &to,
            b"\r\nCall-ID: c", &call_id,
            b"\r\nContact: <sip:192.0.2.7", &contact,
            b">\r\nEvent: ua-profile;x=", &event,
            b"\r\nCSeq: 1 SUBSCRIBE\r\n\r\n",
        ].concat();
        exchange(&bytes);
    }

    /// What a caller passes in is checked like what a phone sends.
    #[test]
    fn any_text_from_the_caller(tag in ".{0,12}", product in ".{0,12}", url in ".{0,12}", event in ".{0,12}", id in ".{0,12}") {
        let heard = subscribe(&capture("01-snom-oem-7.1.19-via-without-branch"));
        let reply = Reply { tag: &tag, product: &product, ..reply("192.0.2.9:5061") };
        if let Ok(ok) = compose::ok(&heard, &reply) {
            let expected: Vec<_> = ["Via"].into_iter().chain(TAIL_OF_OK).collect();
            prop_assert_eq!(names(&ok), expected);
            prop_assert_eq!(only(&ok, "Server"), product.trim_ascii());
        }
        let notify = Notify { branch: &tag, ..first_notify(&url) };
        if let Ok(notify) = compose::notify(&heard, &reply, &notify) {
            prop_assert_eq!(names(&notify), NOTIFY);
            prop_assert_eq!(request(&notify).body, url.as_bytes());
        }
        let target = Uri::user_at(&id, addr("192.0.2.9:5060"));
        let message = Unsolicited {
            target: &target, local: reply.local, from: None, tag: &tag, branch: "z9hG4bK1", call_id: &id, cseq: 1,
            product: &product,
        };
        if let Ok(sent) = compose::check_sync(&message, &event) {
            prop_assert_eq!(names(&sent), CHECK_SYNC);
            prop_assert_eq!(request(&sent).uri, target.target());
        }
    }

    #[test]
    fn challenges(asked in "((Digest|Basic|X) )?((realm|nonce|qop|algorithm|stale|opaque)(=|= |)(\"?[^\r\n]{0,12}\"?|MD5|SHA-256|auth),? ?){0,8}") {
        let message = format!("SIP/2.0 401 X\r\nWWW-Authenticate: {asked}\r\n\r\n");
        let Ok(Message::Response(response)) = read(message.as_bytes()) else { return Ok(()) };
        let Ok(challenge) = Challenge::from_response(&response) else { return Ok(()) };
        let target = Uri::at(addr("192.0.2.9:5060"));
        let credentials = Credentials { user: "101", password: "secret" };
        let answer = challenge.answer(&credentials, "NOTIFY", target.target(), "c").expect("a plain user");
        let message = Unsolicited {
            target: &target, local: addr("192.0.2.1:5062"), from: None, tag: "t", branch: "z9hG4bK1", call_id: "c", cseq: 1, product: "p",
        };
        if let Ok(sent) = compose::check_sync_again(&message, "check-sync", &answer) {
            prop_assert_eq!(names(&sent).into_iter().filter(|name| name != "Authorization").collect::<Vec<_>>(), CHECK_SYNC);
        }
    }
}

#[test]
fn the_plain_captures_get_through_the_same_exchange() {
    // Else the properties above would hold for a crate that refuses everything.
    let all = requests("SUBSCRIBE");
    assert!(all.iter().all(|(_, bytes)| exchange(bytes)) && all.len() >= 11);
}

#[test]
fn a_value_that_could_end_a_line_is_not_echoed() {
    let plain = String::from_utf8(capture("05-grandstream-gxp1628-1.0.2.7")).unwrap();
    let reply = reply("172.18.32.197:5060");
    let evil = |from: &str, to: &str| subscribe(plain.replace(from, to).as_bytes());
    let unsafe_in = |header: &str| Err(Unsendable::Unsafe { header: header.to_owned() });
    for end in ["\rEvil: 1", "\0"] {
        let call = evil("Call-ID: ", &format!("Call-ID: x{end}"));
        assert_eq!(compose::ok(&call, &reply), unsafe_in("Call-ID"), "{end:?}");
        let via = evil(";rport", &format!(";rport;x={end}y"));
        assert_eq!(compose::ok(&via, &reply), unsafe_in("Via"), "{end:?}");
        let event = evil("ua-profile;", &format!("ua-profile;x={end}y;"));
        assert!(compose::ok(&event, &reply).is_ok(), "the 200 carries no Event");
        assert_eq!(compose::notify(&event, &reply, &first_notify("http://h/")), unsafe_in("Event"), "{end:?}");
    }
    // A folded injection is one line again before anything is composed.
    let folded = evil("Call-ID: ", "Call-ID: x\r\n Evil: 1 ");
    let ok = compose::ok(&folded, &reply).unwrap();
    assert!(only(&ok, "Call-ID").starts_with("x Evil: 1 "));
    assert!(!names(&ok).contains(&"Evil".to_owned()));
}

#[test]
fn what_the_caller_gets_wrong_is_named() {
    let heard = subscribe(&capture("05-grandstream-gxp1628-1.0.2.7"));
    let good = reply("172.18.32.197:5060");
    let unsafe_in = |header: &str| Err(Unsendable::Unsafe { header: header.to_owned() });
    for bad in ["", "a b", "a;b", "a\r\nEvil: 1", "\u{e9}"] {
        assert_eq!(compose::ok(&heard, &Reply { tag: bad, ..good }), unsafe_in("To"), "{bad:?}");
        let notify = Notify { branch: bad, ..first_notify("http://h/") };
        assert_eq!(compose::notify(&heard, &good, &notify), unsafe_in("Via"), "{bad:?}");
    }
    for bad in ["", "http://h/ x", "http://h/\r\n", "http://h/\0"] {
        assert_eq!(compose::notify(&heard, &good, &first_notify(bad)), unsafe_in("body"), "{bad:?}");
    }
    assert_eq!(compose::ok(&heard, &Reply { product: "a\nEvil: 1", ..good }), unsafe_in("Server"));
    let target = Uri::at(good.source);
    let message = Unsolicited {
        target: &target,
        local: good.local,
        from: None,
        tag: "t",
        branch: "b",
        call_id: "c",
        cseq: 1,
        product: "p",
    };
    assert_eq!(compose::check_sync(&message, "check-sync\r\nEvil: 1"), unsafe_in("Event"));
    assert_eq!(compose::check_sync(&message, " "), unsafe_in("Event"));
    assert_eq!(compose::check_sync(&Unsolicited { call_id: "", ..message }, "check-sync"), unsafe_in("Call-ID"));
    assert_eq!(compose::check_sync(&Unsolicited { tag: "", ..message }, "check-sync"), unsafe_in("From"));
    assert_eq!(compose::announce(&message, "ua-profile", "no url"), unsafe_in("body"));
}

#[test]
fn a_pile_of_vias_is_not_sent_back() {
    let plain = String::from_utf8(capture("05-grandstream-gxp1628-1.0.2.7")).unwrap();
    let via = "Via: SIP/2.0/UDP x\r\n";
    let heard = subscribe(plain.replacen("Max-Forwards", &format!("{}Max-Forwards", via.repeat(112)), 1).as_bytes());
    assert!(compose::ok(&heard, &reply("192.0.2.9:5061")).is_ok());
    // 128 headers came, and with what is added the 200 would have more than anybody reads, ourselves included.
    let lean = "SUBSCRIBE sip:h SIP/2.0\nf:a\nt:b\ni:c\ncseq:1 SUBSCRIBE\no:ua-profile\n";
    let heard = subscribe(format!("{lean}{}", via.repeat(123)).as_bytes());
    assert_eq!(compose::ok(&heard, &reply("192.0.2.9:5061")), Err(Unsendable::TooLarge));
}
