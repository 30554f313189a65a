//! The torture messages of RFC 4475: each as it is named there, and its property in a SUBSCRIBE of a phone, or in its answer to a
//! NOTIFY. What has to come of each stands in the table of tests/fixtures/torture/README.md; this test reads it, and holds every line.

mod support;

use std::{collections::BTreeMap, fs, path::PathBuf};

use provost_sip::{Answer, BodyFit, Message, Subscribe, compose, read};
use support::*;

fn folder() -> PathBuf {
    captures().join("../fixtures/torture")
}

/// Name → what comes of the message, and of its property in what a phone sends.
fn expected() -> BTreeMap<String, [String; 2]> {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(name, rest)| {
        let cells: Vec<&str> = rest.trim_end_matches(" |").split(" | ").collect();
        let [_section, _property, message, of_a_phone] = cells[..] else { panic!("{name}: {cells:?}") };
        (name.to_owned(), [message, of_a_phone].map(str::to_owned))
    })
    .collect()
}

fn bytes(name: &str, of_a_phone: bool) -> Vec<u8> {
    let folder = if of_a_phone { folder().join("subscribe") } else { folder() };
    let file = folder.join(format!("{name}.sip"));
    fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// In words, with the length of the body as it was read.
fn body(bytes: &[u8], message: &Message<'_>) -> String {
    let (body, fit) = match message {
        Message::Request(request) => (request.body, request.body_fit),
        Message::Response(response) => (response.body, response.body_fit),
    };
    // Never more than came, and it is the datagram's own end unless it was cut.
    let extra = if let BodyFit::Cut { extra } = fit { extra } else { 0 };
    assert!(bytes[..bytes.len() - extra].ends_with(body));
    let length = body.len();
    match fit {
        BodyFit::Exact if length == 0 => "no body".to_owned(),
        BodyFit::Exact => format!("body of {length}"),
        BodyFit::Unstated => format!("body of {length}, unstated"),
        BodyFit::Short { missing } => format!("body of {length}, {missing} missing"),
        BodyFit::Cut { extra } => format!("body of {length}, {extra} cut"),
    }
}

fn outcome(bytes: &[u8]) -> String {
    let message = match read(bytes) {
        Ok(message) => message,
        Err(error) => return format!("refused: {}", error.as_str()),
    };
    let body = body(bytes, &message);
    match &message {
        Message::Response(response) => match Answer::from_response(response) {
            Ok(answer) => format!("answer {} to {}, {body}", answer.status, answer.method),
            Err(error) => format!("refused: {}", error.as_str()),
        },
        Message::Request(request) if request.method != "SUBSCRIBE" => format!("request that is no SUBSCRIBE, {body}"),
        Message::Request(request) => match Subscribe::from_request(request) {
            Err(error) => format!("refused: {}", error.as_str()),
            Ok(heard) => {
                let reply = reply("192.0.2.75:5060");
                let sent = compose::ok(&heard, &reply)
                    .and_then(|ok| Ok((ok, compose::notify(&heard, &reply, &first_notify("http://h/"))?)));
                let by = heard.mac.map_or("without a MAC".to_owned(), |mac| format!("MAC in {:?}", mac.place));
                match sent {
                    Err(error) => format!("not answered: {}", error.as_str()),
                    Ok((ok, notify)) => {
                        // What goes back can be read back, and goes where it should.
                        assert!(matches!(read(&ok), Ok(Message::Response(_))), "{}", ok.escape_ascii());
                        let Ok(Message::Request(notify)) = read(&notify) else { panic!("{}", notify.escape_ascii()) };
                        assert_eq!((notify.method, notify.body), ("NOTIFY", b"http://h/".as_slice()));
                        assert!(!notify.uri.contains(&b'?'), "headers in {}", notify.uri.escape_ascii());
                        format!("answered, {by}, {body}")
                    }
                }
            }
        },
    }
}

#[test]
fn each_torture_message_is_taken_or_refused_as_the_table_says() {
    let expected = expected();
    let files: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().strip_suffix(".sip").map(str::to_owned))
        .collect();
    let unlisted: Vec<_> = files.iter().filter(|name| !expected.contains_key(*name)).collect();
    assert!(unlisted.is_empty() && files.len() == 49, "{} files; not in the table: {unlisted:?}", files.len());
    let mut wrong = Vec::new();
    for (name, outcomes) in &expected {
        for (of_a_phone, expected) in [false, true].iter().zip(outcomes) {
            let found = outcome(&bytes(name, *of_a_phone));
            if found != *expected {
                wrong.push(format!("{name}{}: {found}", if *of_a_phone { " of a phone" } else { "" }));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// However it is cut short, and with whatever in one place: no panic, and no length that is not there (`body` looks).
#[test]
fn no_part_of_a_torture_message_is_a_trap() {
    for name in expected().keys() {
        for whole in [bytes(name, false), bytes(name, true)] {
            for end in 0..whole.len() {
                outcome(&whole[..end]);
            }
            let mut spoilt = whole.clone();
            for at in (0..whole.len()).step_by(if whole.len() > 2000 { 23 } else { 3 }) {
                for byte in [0, b'\n', b'"', b'<', b':', b',', b';', 0xff] {
                    spoilt[at] = byte;
                    outcome(&spoilt);
                }
                spoilt[at] = whole[at];
            }
        }
    }
}
