//! Real phones' SUBSCRIBEs, sent byte for byte: each is answered once and told once, or met with silence.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use provost_phone::Url;
use provost_plugin::Spec;
use provost_tests::{Host, Lan, Plan, Server, built, repository, specs, tools};

use crate::wire::{Captured, Handset, Message, decided, notified, subscribe};

/// The samples that we ship, and what else was captured: every phone of tests/captures is somebody's.
fn inventory(plan: Plan, captured: &[Captured]) -> Plan {
    let shipped = |name: &str| fs::read_to_string(repository().join("profiles").join(name)).unwrap();
    let example = shipped("example.yaml");
    let mut more = String::from("devices:\n");
    let mut written = Vec::new();
    for captured in captured {
        if !example.contains(&captured.mac.to_string()) && !written.contains(&captured.mac) {
            written.push(captured.mac);
            more.push_str(&format!(
                "  \"{}\": {{ lines: [{{ number: 200, password: captured-200 }}] }}\n",
                captured.mac
            ));
        }
    }
    plan.file("profiles/default.yaml", shipped("default.yaml"))
        .file("profiles/example.yaml", example)
        .file("profiles/more.yaml", more)
}

/// Whether some plugin knows this phone, or the inventory says whose it is.
fn has_plugin(specs: &[(String, Spec)], captured: &Captured) -> bool {
    captured.vendor == "OEM"
        || specs.iter().any(|(_, spec)| spec.announces.iter().any(|name| name.eq_ignore_ascii_case(&captured.vendor)))
}

/// A host for each capture, with a phone that speaks from the port of its Via; and on a second address one that speaks from a port that
/// happened to be free.
fn phones<'a>(lan: &mut Lan, segment: u8, captured: &'a [Captured]) -> Vec<(&'a Captured, usize, Handset)> {
    let mut phones = Vec::new();
    for captured in captured {
        let index = lan.add_phone(segment);
        let second = lan.add_addresses(index, 1)[0];
        let host = lan.phone(index);
        phones.push((captured, index, Handset::at(host, host.address(), captured.port)));
        phones.push((captured, index, Handset::at(host, second, 0)));
    }
    phones
}

#[test]
fn every_capture_is_answered_once_and_told_once_by_the_interface_that_heard_it() {
    let mut lan = Lan::with(&[0, 1], &[]);
    let captured = Captured::all();
    assert!(captured.len() >= 11, "{captured:?}");
    let specs = specs();
    assert!(captured.iter().all(|captured| has_plugin(&specs, captured)), "a capture that nobody takes");
    // The phones of one vendor in one network are told where somebody else has their files.
    let elsewhere = |captured: &Captured, segment: u8| segment == 0 && captured.vendor.eq_ignore_ascii_case("yealink");
    assert!(captured.iter().any(|captured| elsewhere(captured, 0)), "nothing left to forward");
    let settings =
        "forward: [{ vendor: yealink, network: 10.200.0.0/16, url: 'http://files.example.net/{mac}.cfg' }]\n";
    let server = inventory(Plan::on(lan.server()), &captured).file("provost.yaml", settings).start().ready();
    let mut capture = lan.capture();

    let mut sent = Vec::new();
    for segment in 0..2 {
        let local = lan.server().interfaces()[usize::from(segment)].address;
        for (captured, host, handset) in phones(&mut lan, segment, &captured) {
            handset.subscribe(&captured.message.bytes);
            let (ok, notify, from) = handset.hear_both();
            assert_eq!(*from.ip(), local, "{}", captured.name);
            judge_ok(captured, &ok, handset.address, from);
            judge_notify(captured, &notify, &ok, from);
            handset.accept(&notify, from);
            let line = notified(&server, &handset, "notified");
            assert_eq!(line.field("url"), &notify.body, "{line:?}");
            if elsewhere(captured, segment) {
                assert_eq!(notify.body, format!("http://files.example.net/{}.cfg", captured.mac.bare()));
            } else {
                assert!(notify.body.starts_with(&format!("http://{local}:8080/")), "{notify:?}");
                // The second phone of each host is there for its port only.
                if handset.address.port() == captured.port {
                    fetch_and_compare(&server, lan.phone(host), captured, &notify.body, handset.address, local);
                }
            }
            sent.push((segment, captured, handset));
        }
    }
    // A phone that does not answer gets a second copy; by then every copy of what was sent before would have come.
    let late = Captured::one("05");
    let last = lan.add_phone(0);
    let handset = Handset::at(lan.phone(last), lan.phone(last).address(), 5060);
    handset.subscribe(&late.message.bytes);
    let (_, notify, from) = handset.hear_both();
    assert_eq!(handset.hear().0, notify);
    handset.accept(&notify, from);
    for (segment, captured, handset) in &sent {
        handset.assert_silent(&format!("{} on segment {segment}", captured.name));
    }

    capture.decode("tcp.port", 8080, "http");
    assert_eq!(capture.malformed(), Vec::<String>::new());
    let answered = sent.len() + 1;
    assert_eq!(capture.count("sip.Status-Code == 200 and sip.CSeq.method == SUBSCRIBE and not icmp"), answered);
    assert_eq!(capture.count("sip.Method == NOTIFY and not icmp"), answered + 1);
    assert!(capture.count("tftp.opcode == 1") > answered / 4 && capture.count("http.request") > answered / 4);
}

/// The 200 says what was asked, byte for byte, and adds what RFC 3261 and 3581 want added.
fn judge_ok(captured: &Captured, ok: &Message, phone: SocketAddrV4, us: SocketAddrV4) {
    let subscribe = &captured.message;
    let name = &captured.name;
    assert_eq!(ok.start, "SIP/2.0 200 OK", "{name}");
    let via = subscribe.header("Via").replacen(";rport", &format!(";rport={}", phone.port()), 1);
    assert_eq!(
        ok.header("Via"),
        format!("{via};received={}", phone.ip()),
        "{name}: no capture was made at this address"
    );
    for echoed in ["From", "Call-ID", "CSeq"] {
        assert_eq!(ok.header(echoed), subscribe.header(echoed), "{name}");
    }
    let tag = ok.header("To").strip_prefix(subscribe.header("To")).and_then(|rest| rest.strip_prefix(";tag="));
    assert!(
        tag.is_some_and(|tag| tag.len() >= 8 && tag.bytes().all(|byte| byte.is_ascii_alphanumeric())),
        "{name}: {ok:?}"
    );
    assert_eq!(ok.header("Contact"), format!("<sip:{us}>"), "{name}");
    assert_eq!(ok.header("Expires"), "0", "{name}");
    assert_eq!((ok.header("Content-Length"), ok.body.as_str()), ("0", ""), "{name}");
    assert!(ok.header("Server").starts_with("Provost/"), "{name}");
}

/// The NOTIFY is a request in the dialog that the 200 opened, and ends it.
fn judge_notify(captured: &Captured, notify: &Message, ok: &Message, us: SocketAddrV4) {
    let subscribe = &captured.message;
    let name = &captured.name;
    assert_eq!(
        notify.start,
        format!("NOTIFY {} SIP/2.0", subscribe.header("Contact").trim_matches(['<', '>'])),
        "{name}"
    );
    let branch = notify
        .header("Via")
        .strip_prefix(&format!("SIP/2.0/UDP {us};branch=z9hG4bK"))
        .and_then(|rest| rest.strip_suffix(";rport"));
    assert!(branch.is_some_and(|branch| branch.len() >= 8), "{name}: {notify:?}");
    assert_eq!(notify.header("From"), ok.header("To"), "{name}: who was asked speaks now");
    assert_eq!(notify.header("To"), subscribe.header("From"), "{name}");
    assert_eq!(notify.header("Call-ID"), subscribe.header("Call-ID"), "{name}");
    let (number, method) = notify.header("CSeq").split_once(' ').unwrap();
    assert!(number.parse::<u32>().is_ok_and(|number| number > 0) && method == "NOTIFY", "{name}: {notify:?}");
    assert_eq!(notify.header("Event"), subscribe.header("Event"), "{name}");
    assert!(notify.header("Subscription-State").starts_with("terminated"), "{name}: {notify:?}");
    assert_eq!(notify.header("Max-Forwards"), "70", "{name}");
    assert_eq!(notify.header("Contact"), format!("<sip:{us}>"), "{name}");
    assert_eq!(notify.header("Content-Type"), "application/url", "{name}");
    assert_eq!(notify.header("Content-Length"), notify.body.len().to_string(), "{name}");
    assert!(Url::parse(&notify.body).is_ok() && !notify.body.contains(char::is_whitespace), "{name}: {notify:?}");
    assert!(!notify.has("Expires") && !notify.has("Record-Route"), "{name}: {notify:?}");
}

/// What stands behind the URL is what `provost render` prints, over either door; likewise every other file of this phone.
fn fetch_and_compare(
    server: &Server,
    host: &Host,
    captured: &Captured,
    url: &str,
    phone: SocketAddrV4,
    local: Ipv4Addr,
) {
    let agent = captured.message.has("User-Agent").then(|| captured.message.header("User-Agent"));
    let rendered = render(server.data(), captured, agent, phone, local);
    let parsed = Url::parse(url).unwrap();
    let is_directory = url.ends_with('/');
    let told = parsed.path.trim_start_matches('/');
    assert!(
        is_directory || rendered.contains_key(told),
        "{}: {told} is not among {:?}",
        captured.name,
        rendered.keys()
    );
    for (name, expected) in &rendered {
        let url = if is_directory { format!("{url}{name}") } else { url.replace(told, name) };
        for (got, client) in [(curl(host, &url, agent), "curl"), (atftp(host, local, name), "atftp")] {
            let same = got == *expected;
            assert!(
                same,
                "{}: {client} got of {name}:\n{}\nnot:\n{}",
                captured.name,
                String::from_utf8_lossy(&got),
                String::from_utf8_lossy(expected)
            );
        }
    }
}

/// Every file that this phone may fetch, by name.
fn render(
    data: &Path,
    captured: &Captured,
    agent: Option<&str>,
    phone: SocketAddrV4,
    local: Ipv4Addr,
) -> BTreeMap<String, Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(&built().provost);
    command
        .current_dir(data)
        .args(["render", &captured.mac.to_string(), "--data"])
        .arg(data)
        .arg("--output")
        .arg(directory.path());
    command.args(["--from", &phone.ip().to_string(), "--local", &local.to_string()]);
    if let Some(agent) = agent {
        command.args(["--user-agent", agent]);
    }
    tools::feed(&mut command, b"").unwrap_or_else(|error| panic!("{}: {error}", captured.name));
    // They lie side by side there, whatever slashes they have in their names.
    let files: BTreeMap<_, _> = fs::read_dir(directory.path())
        .unwrap()
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().replace("%2F", "/"), fs::read(entry.path()).unwrap()))
        .collect();
    assert!(!files.is_empty(), "{}: nothing to fetch", captured.name);
    files
}

fn curl(host: &Host, url: &str, agent: Option<&str>) -> Vec<u8> {
    let mut curl = host.command(tools::require("curl"));
    curl.args(["--silent", "--show-error", "--fail", "--globoff", "--max-time", "10"]);
    if let Some(agent) = agent {
        curl.args(["--user-agent", agent]);
    }
    tools::feed(curl.arg(url), b"").unwrap_or_else(|error| panic!("{error}"))
}

fn atftp(host: &Host, server: Ipv4Addr, name: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let mut atftp = host.command(tools::require("atftp"));
    atftp.args(["--get", "--remote-file", name, "--local-file"]).arg(&file).args([&server.to_string(), "69"]);
    tools::feed(&mut atftp, b"").unwrap_or_else(|error| panic!("{error}"));
    fs::read(&file).unwrap_or_else(|error| panic!("atftp got no {name}: {error}"))
}

#[test]
fn a_phone_that_is_in_no_inventory_or_of_no_plugin_hears_nothing_at_all() {
    let mut lan = Lan::with(&[0, 1], &[]);
    let captured = Captured::all();
    let (known, unknown) = captured.split_at(captured.len() / 2);
    let plan = Plan::on(lan.server()).file("profiles/site.yaml", "defaults: { sip: { server: pbx.example.net } }\n");
    let server = plan.start().ready();
    let mut sent = Vec::new();
    for segment in 0..2 {
        for (captured, _, handset) in phones(&mut lan, segment, &captured) {
            handset.subscribe(&captured.message.bytes);
            let line = decided(&server, &handset, "silence");
            assert!(line.field("reason").as_str().unwrap().contains("not in the inventory"), "{line:?}");
            sent.push((captured, handset));
        }
    }
    for (captured, handset) in &sent {
        handset.assert_silent(&captured.name);
    }

    // Once half of them are somebody's, the very same bytes from the very same ports are answered, and the other half's are not.
    let specs = specs();
    let mut devices = String::from("devices:\n");
    let is_known =
        |captured: &Captured| known.iter().any(|known| known.mac == captured.mac) && has_plugin(&specs, captured);
    let mut written = Vec::new();
    for captured in known.iter().filter(|known| is_known(known)) {
        assert!(!written.contains(&captured.mac), "twice: {}", captured.mac);
        written.push(captured.mac);
        let identity = if captured.vendor == "OEM" { "identity: { vendor: snom, model: snom320 }, " } else { "" };
        devices.push_str(&format!(
            "  \"{}\": {{ {identity}lines: [{{ number: 200, password: captured-200 }}] }}\n",
            captured.mac
        ));
    }
    assert!(written.len() >= 3 && unknown.iter().any(|unknown| !is_known(unknown)), "{devices}");
    let mark = server.mark();
    server.write("profiles/devices.yaml", devices);
    server.wait_after(mark, "reload", |line| line.is("message", "reloaded"));
    for (captured, handset) in sent.iter().filter(|(captured, _)| is_known(captured)) {
        handset.boot(&captured.message.bytes);
        notified(&server, handset, "notified");
    }
    for (captured, handset) in sent.iter().filter(|(captured, _)| !is_known(captured)) {
        let mark = server.mark();
        handset.subscribe(&captured.message.bytes);
        let peer = handset.address.to_string();
        server.wait_after(mark, "silence", |line| line.is("peer", &peer) && line.is("outcome", "silence"));
        handset.assert_silent(&captured.name);
    }
}

/// A server that knows the phone of this capture, on this network.
fn serve(lan: &Lan, captured: &Captured) -> Server {
    inventory(Plan::on(lan.server()), std::slice::from_ref(captured)).start().ready()
}

#[test]
fn a_notify_that_is_not_answered_comes_again_the_same_and_then_to_the_contact() {
    let lan = Lan::new(1);
    // Its Contact names no port, so it means 5060; the phone speaks from another.
    let captured = Captured::one("04");
    let server = serve(&lan, &captured);
    let host = lan.phone(0);
    let (speaking, listening) = (Handset::at(host, host.address(), 0), Handset::at(host, host.address(), 5060));
    let own = subscribe(&captured, &listening);
    let mut capture = lan.capture();
    speaking.subscribe(&own);
    let (_, notify, from) = speaking.hear_both();
    let first = Instant::now();
    let (second, too) = listening.hear();
    let passed = first.elapsed();
    assert_eq!((&second, too), (&notify, from), "the same bytes, from the same port");
    assert!(
        passed > Duration::from_millis(400) && passed < Duration::from_millis(1500),
        "T1 is half a second: {passed:?}"
    );
    let (third, _) = speaking.hear();
    assert_eq!(third, notify, "in turns: the port that it spoke from again");
    listening.accept(&third, from);
    let line = notified(&server, &speaking, "notified");
    assert_eq!(line.field("status"), 200);
    // The next copy would have come two seconds after the third. Another phone's comes first if this one's is no longer to come.
    let other = Handset::at(host, host.address(), 6060);
    other.subscribe(&subscribe(&captured, &other));
    let (_, notify, from) = other.hear_both();
    for _ in 0..3 {
        assert_eq!(other.hear().0, notify);
    }
    other.accept(&notify, from);
    speaking.assert_silent("the port that it spoke from");
    listening.assert_silent("the port of its Contact");
    assert_eq!(capture.malformed(), Vec::<String>::new());
}

#[test]
fn a_phone_that_mangles_our_via_is_understood_and_one_that_answers_something_else_is_not() {
    let lan = Lan::new(2);
    let captured = Captured::one("05");
    let server = serve(&lan, &captured);
    let handset = Handset::at(lan.phone(0), lan.phone(0).address(), 5060);
    handset.subscribe(&captured.message.bytes);
    let (_, notify, from) = handset.hear_both();
    let answer = String::from_utf8(notify.answer("200 OK")).unwrap();
    handset.send(answer.replace("NOTIFY", "SUBSCRIBE").as_bytes(), from);
    let via = format!("Via: {}\r\n", notify.header("Via"));
    handset.send(answer.replace(&via, "").replace(notify.header("Call-ID"), "another@phone").as_bytes(), from);
    assert_eq!(handset.hear().0, notify, "neither was an answer to it");
    handset.send(answer.replace(&via, "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKnonsense\r\n").as_bytes(), from);
    notified(&server, &handset, "notified");
    let other = Handset::at(lan.phone(1), lan.phone(1).address(), 5060);
    other.subscribe(&captured.message.bytes);
    let (_, notify, from) = other.hear_both();
    for _ in 0..2 {
        assert_eq!(other.hear().0, notify);
    }
    let via = format!("Via: {}\r\n", notify.header("Via"));
    other.send(String::from_utf8(notify.answer("200 OK")).unwrap().replace(&via, "").as_bytes(), from);
    notified(&server, &other, "notified");
    handset.assert_silent("it was answered");
}

#[test]
fn five_identical_subscribes_are_five_200s_and_one_notify() {
    let lan = Lan::new(2);
    let captured = Captured::one("05");
    let server = serve(&lan, &captured);
    let handset = Handset::at(lan.phone(0), lan.phone(0).address(), 5060);
    for _ in 0..5 {
        handset.subscribe(&captured.message.bytes);
    }
    let heard: Vec<_> = (0..6).map(|_| handset.hear()).collect();
    let (notifies, oks): (Vec<_>, Vec<_>) = heard.into_iter().partition(|(message, _)| message.is_notify());
    assert_eq!((oks.len(), notifies.len()), (5, 1), "{oks:?}{notifies:?}");
    assert!(oks.iter().all(|ok| *ok == oks[0]), "every copy is answered with the same 200: {oks:?}");
    handset.accept(&notifies[0].0, notifies[0].1);
    notified(&server, &handset, "notified");
    // One that comes after all that has its 200 too.
    handset.subscribe(&captured.message.bytes);
    assert_eq!(handset.hear(), oks[0]);
    let other = Handset::at(lan.phone(1), lan.phone(1).address(), 5060);
    other.subscribe(&captured.message.bytes);
    let (_, notify, from) = other.hear_both();
    assert_eq!(other.hear().0, notify);
    other.accept(&notify, from);
    handset.assert_silent("after its NOTIFY was answered");
}

#[test]
fn phones_that_count_their_calls_alike_are_not_taken_for_one_another() {
    let lan = Lan::new(1);
    let captured = Captured::all();
    let server = inventory(Plan::on(lan.server()), &captured).start().ready();
    let call = Captured::one("s6").message.header("Call-ID").to_owned();
    let alike =
        captured.iter().filter(|captured| captured.message.header("Call-ID") == call && has_plugin(&specs(), captured));
    // All of one address and port, as they are behind a router that translates.
    let handset = Handset::at(lan.phone(0), lan.phone(0).address(), 5060);
    let mut told = Vec::new();
    for captured in alike {
        let mark = server.mark();
        told.push(handset.boot(&captured.message.bytes).0);
        let device = captured.mac.to_string();
        server.wait_after(mark, "answer", |line| line.is("message", "notified") && line.is("device", &device));
    }
    assert!(told.len() >= 2 && told[0] != told[1], "{told:?}");
}

#[test]
fn a_server_with_two_interfaces_on_one_segment_answers_once() {
    let lan = Lan::with(&[0, 0], &[0, 0]);
    let captured = Captured::one("02");
    let server = serve(&lan, &captured);
    let handset = Handset::at(lan.phone(0), lan.phone(0).address(), captured.port);
    handset.boot(&captured.message.bytes);
    notified(&server, &handset, "notified");
    let other = Handset::at(lan.phone(1), lan.phone(1).address(), captured.port);
    other.subscribe(&captured.message.bytes);
    let (_, notify, from) = other.hear_both();
    assert_eq!(other.hear().0, notify, "a copy after half a second, and no second 200");
    other.accept(&notify, from);
    handset.assert_silent("heard on two interfaces");
}

#[test]
fn a_notify_that_the_phone_refuses_is_not_repeated_and_its_status_is_kept() {
    let lan = Lan::new(3);
    let captured = Captured::one("05");
    let server = serve(&lan, &captured);
    let mut handsets = Vec::new();
    for (phone, status) in [(0, "481 Subscription Does Not Exist"), (1, "500 Server Internal Error")] {
        let handset = Handset::at(lan.phone(phone), lan.phone(phone).address(), 5060);
        handset.subscribe(&captured.message.bytes);
        let (_, notify, from) = handset.hear_both();
        // A provisional answer ends nothing, and neither does one that came from elsewhere.
        handset.send(&notify.answer("100 Trying"), from);
        Handset::at(lan.phone(2), lan.phone(2).address(), 0).send(&notify.answer("200 OK"), from);
        assert_eq!(handset.hear().0, notify, "still not answered");
        handset.send(&notify.answer(status), from);
        let line = notified(&server, &handset, "not notified");
        let (code, reason) = status.split_once(' ').unwrap();
        assert_eq!(line.field("status"), code.parse::<u16>().unwrap(), "{line:?}");
        assert!(
            line.is("reason", reason) && line.is("url", &notify.body) && line.is("device", &captured.mac.to_string()),
            "{line:?}"
        );
        handsets.push(handset);
    }
    let other = Handset::at(lan.phone(2), lan.phone(2).address(), 5060);
    other.subscribe(&captured.message.bytes);
    let (_, notify, from) = other.hear_both();
    for _ in 0..2 {
        assert_eq!(other.hear().0, notify);
    }
    other.accept(&notify, from);
    for handset in &handsets {
        handset.assert_silent("refused");
    }
}
