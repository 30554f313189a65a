//! What no phone should send, and ports that are not free: whoever sent it is told or not answered, and the others are served meanwhile.
//!
//! Nothing outside of the offered names is ever given out, no password is ever logged, and nothing panics (the bench fails a test whose
//! server did).

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use provost_tests::{Host, Lan, Plan, Server, receive};

use crate::wire::{Captured, Handset, Message, notified, subscribe};

const PHONE: &str = "02";
const PASSWORD: &str = "pa55-w0rd-of-the-line";
const SECRET: &str = "the-secret-beside-the-assets";

/// Assets, and beside them and among them what is nobody's to have.
fn plan(lan: &Lan) -> Plan {
    let mac = Captured::one(PHONE).mac;
    let inventory = format!("devices:\n  \"{mac}\": {{ lines: [{{ number: 100, password: {PASSWORD} }}] }}\n");
    let plan = Plan::on(lan.server())
        .file("profiles/site.yaml", inventory)
        .file("secret.txt", SECRET)
        .file("assets/ring/a.wav", "RIFF")
        .file("assets/.hidden", SECRET)
        .flags(["--log", "debug"]);
    let assets = plan.data().join("assets");
    symlink(plan.data().join("secret.txt"), assets.join("link")).unwrap();
    symlink("../secret.txt", assets.join("upwards")).unwrap();
    symlink("/", assets.join("root")).unwrap();
    symlink("loop", assets.join("loop")).unwrap();
    symlink("ring/a.wav", assets.join("inside")).unwrap();
    plan
}

/// Boots the good phone and fetches its file, once.
fn serves_others(server: &Server, host: &Host) {
    let captured = Captured::one(PHONE);
    let handset = Handset::at(host, host.address(), 0);
    let (url, from) = handset.boot(&subscribe(&captured, &handset));
    notified(server, &handset, "notified");
    let name = url.rsplit('/').next().unwrap();
    let over_http =
        exchange(host, *from.ip(), format!("GET /{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
    assert!(over_http.starts_with("HTTP/1.1 200 ") && over_http.contains(PASSWORD), "{over_http}");
}

/// Does `work` while another phone boots again and again; returns when both are done.
fn beside_others(server: &Server, host: &Host, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut served = 0;
            while served < 3 || !done.load(Ordering::Relaxed) {
                serves_others(server, host);
                served += 1;
            }
        });
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        let others = others.join();
        worked.and(others).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn assert_discreet(server: &Server) {
    for line in server.log() {
        assert!(!line.text.contains(PASSWORD) && !line.text.contains(SECRET), "{}", line.text);
        assert!(!line.json.is_null(), "a line of the log is torn: {}", line.text);
    }
}

#[test]
fn datagrams_that_are_no_subscribe_are_dropped_each_with_its_reason() {
    let lan = Lan::new(2);
    let server = plan(&lan).start().ready();
    let captured = Captured::one(PHONE);
    let whole = &captured.message.bytes;
    let text = String::from_utf8(whole.clone()).unwrap();
    let headers = |count: usize| text.replacen("\r\n", &format!("\r\n{}", "X: y\r\n".repeat(count)), 1).into_bytes();
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("empty", b"\r\n\r\n".to_vec()),
        ("not-sip", vec![0xff; 1000]),
        ("not-sip", (0..=255).cycle().take(4000).collect()),
        ("not-sip", vec![0; 28]),
        ("too-long", vec![b'A'; 60_000]),
        ("too-long", headers(5000)),
        ("too-many-headers", headers(200)),
        ("other-version", text.replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia").into_bytes()),
    ];
    beside_others(&server, lan.phone(1), || {
        let handset = Handset::at(lan.phone(0), lan.phone(0).address(), 5060);
        let from = handset.address.to_string();
        for (reason, datagram) in &bad {
            let mark = server.mark();
            handset.subscribe(datagram);
            let line = server.wait_after(mark, &format!("drop as {reason}"), |line| {
                line.is("message", "datagram dropped") && line.is("from", &from)
            });
            assert!(line.is("reason", reason), "{reason}: {line:?}");
        }
        // Other requests that multicast brings are not for us.
        for (method, event) in
            [("OPTIONS", "ua-profile"), ("REGISTER", "ua-profile"), ("SUBSCRIBE", "message-summary"), ("SUBSCRIBE", "")]
        {
            let mark = server.mark();
            handset.subscribe(text.replace("SUBSCRIBE", method).replace("ua-profile", event).as_bytes());
            server.wait_after(mark, method, |line| {
                line.is("message", "datagram is not for us") && line.is("from", &from)
            });
        }
        handset.assert_silent("nothing of this is answered");
    });
    assert_discreet(&server);
}

#[test]
fn a_subscribe_cut_at_any_byte_harms_nobody() {
    let lan = Lan::new(2);
    let server = plan(&lan).start().ready();
    let captured = Captured::one(PHONE);
    let whole = captured.message.bytes.clone();
    // As long as the event is not named in full.
    let until = whole.windows(10).position(|part| part == b"ua-profile").unwrap() + 9;
    let handset = Handset::at(lan.phone(0), lan.phone(0).address(), 0);
    let from = handset.address.to_string();
    beside_others(&server, lan.phone(1), || {
        for cut in (0..until).step_by(3).chain([until]) {
            let mark = server.mark();
            handset.subscribe(&whole[..cut]);
            let line = server.wait_after(mark, &format!("word about {cut} bytes"), |line| {
                line.is("from", &from) || line.is("peer", &from)
            });
            assert!(!line.is("message", "subscribe"), "{cut} bytes name no event: {line:?}");
        }
        handset.assert_silent("no one of them can be answered");
        // What is cut later is still a SUBSCRIBE, only with less in it.
        for cut in (until + 1..whole.len()).step_by(3) {
            let handset = Handset::at(lan.phone(0), lan.phone(0).address(), 0);
            let own = subscribe(&captured, &handset);
            let cut = cut.min(own.len());
            let mark = server.mark();
            handset.subscribe(&own[..cut]);
            let from = handset.address.to_string();
            server.wait_after(mark, &format!("word about {cut} bytes"), |line| {
                line.is("from", &from) || line.is("peer", &from)
            });
        }
    });
    assert_discreet(&server);
}

#[test]
fn nobody_writes_headers_into_our_messages_or_sends_them_to_third_hosts() {
    let lan = Lan::new(3);
    let server = plan(&lan).start().ready();
    let captured = Captured::one(PHONE);
    let original = String::from_utf8(captured.message.bytes.clone()).unwrap();
    let third = Handset::at(lan.phone(2), lan.phone(2).address(), 5060);
    let header = |name: &str| captured.message.header(name).to_owned();
    let with =
        |name: &str, value: &str| original.replace(&format!("{name}: {}", header(name)), &format!("{name}: {value}"));
    let third_contact = format!("<sip:{}>", third.address);
    let mut odd = vec![
        with("Contact", &third_contact),
        with("Contact", &format!("<sip:x@{}?X-Evil=1&Route=%3Csip:evil%3E>", third.address)),
        with("Via", &format!("SIP/2.0/UDP {};branch=z9hG4bK1", third.address)),
        with("Via", &format!("SIP/2.0/UDP {};maddr={};branch=z9hG4bK1;rport", third.address, third.address.ip())),
        with("Contact", "<sip:\"\u{1}\u{7f}@>;;;=,,"),
        with("Contact", "*"),
        with("Call-ID", &"c".repeat(4000)),
        with("From", &format!("<sip:a@b>;tag={}", "t".repeat(3000))),
        with("CSeq", "99999999999999999999 SUBSCRIBE"),
        with("CSeq", "-1 SUBSCRIBE"),
        original.replace("Content-Length: 0", "Content-Length: 4294967295"),
        original.replace("Content-Length: 0", "Content-Length: -5"),
    ];
    for name in ["Event", "Call-ID", "Contact", "From", "To", "Via", "CSeq"] {
        for end in ["\r", "\n", "\r\n ", "\n\r", "%0d%0a", "\0", "\u{85}", "\u{2028}"] {
            let value = header(name);
            odd.push(with(name, &format!("{value}{end}X-Evil: 1{end}{end}evil")));
            odd.push(with(name, &format!("{end}X-Evil: 1;{value}")));
        }
    }
    let mut answered = 0;
    beside_others(&server, lan.phone(1), || {
        for (number, message) in odd.iter().enumerate() {
            let handset = Handset::at(lan.phone(0), lan.phone(0).address(), 0);
            let from = handset.address.to_string();
            // A port may come again: what was said of its last owner is not of this one.
            let mark = server.mark();
            // Otherwise the next would be taken for a copy of this one.
            handset.subscribe(message.replace("\nCall-ID: 9", &format!("\nCall-ID: {number}.9")).as_bytes());
            let line =
                server.wait_after(mark, "word about it", |line| line.is("from", &from) || line.is("peer", &from));
            if !line.is("outcome", "announced") {
                continue;
            }
            // Announced, and then either unsendable or sent.
            let unsent = || {
                let said = server.log().split_off(mark);
                said.iter().any(|line| line.is("message", "not notified") && line.is("peer", &from))
            };
            let Some((one, us)) = listen(&handset, &unsent) else { continue };
            let (other, _) = handset.hear();
            let notify = if one.is_notify() { &one } else { &other };
            handset.accept(notify, us);
            for answer in [&one, &other] {
                let names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
                assert!(!names.iter().any(|name| name.contains("Evil") || *name == "Route"), "{message}\n{answer:?}");
                assert!(
                    !answer.body.contains("evil") && answer.bytes.iter().all(|&byte| byte != 0),
                    "{message}\n{answer:?}"
                );
            }
            assert!(notify.body.starts_with("http://10.200.0.1:8080/"), "{message}\n{notify:?}");
            answered += 1;
        }
    });
    assert!(answered >= 10, "only {answered} of {} were answered at all", odd.len());
    third.assert_silent("a third host, whatever Via and Contact say");
    assert_discreet(&server);
}

/// What the phone hears, unless the server says that there is nothing to hear.
fn listen(handset: &Handset, nothing_comes: &dyn Fn() -> bool) -> Option<(Message, SocketAddrV4)> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < until, "announced, and then neither sent nor reported as unsendable");
        match handset.hear_within(Duration::from_millis(20)) {
            Some(heard) => return Some(heard),
            None if nothing_comes() => return None,
            None => {}
        }
    }
}

#[test]
fn rubbish_to_the_port_that_answers_come_back_to_ends_no_conversation() {
    let lan = Lan::new(2);
    let server = plan(&lan).start().ready();
    let captured = Captured::one(PHONE);
    let handset = Handset::at(lan.phone(0), lan.phone(0).address(), 5060);
    handset.subscribe(&captured.message.bytes);
    let (_, notify, us) = handset.hear_both();
    let answer = String::from_utf8(notify.answer("200 OK")).unwrap();
    let branch = answer.split("branch=").nth(1).unwrap().split(';').next().unwrap();
    for rubbish in [
        Vec::new(),
        vec![0xff; 9000],
        b"SIP/2.0 200 OK\r\n\r\n".to_vec(),
        answer.replace(branch, "z9hG4bKguessed").replace(notify.header("Call-ID"), "guessed@phone").into_bytes(),
        answer.replace("NOTIFY", "INVITE").into_bytes(),
        answer.replace("200 OK", "99999 OK").into_bytes(),
        captured.message.bytes.clone(),
    ] {
        handset.send(&rubbish, us);
    }
    assert_eq!(handset.hear().0, notify, "still waiting for an answer, so it comes again");
    handset.accept(&notify, us);
    notified(&server, &handset, "notified");
    serves_others(&server, lan.phone(1));
    assert_discreet(&server);
}

/// Sends these bytes over TCP and returns all that comes back; empty if the server only closed.
fn exchange(host: &Host, server: Ipv4Addr, request: &[u8]) -> String {
    let mut stream = host.enter(|| TcpStream::connect(SocketAddr::from((server, 8080)))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    // The server may have answered and closed before it has all of it.
    let _ = stream.write_all(request);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(request)),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn names(server: &Server) -> Vec<Vec<u8>> {
    let data = server.data().to_string_lossy().into_owned();
    let mut names: Vec<Vec<u8>> = [
        "../secret.txt",
        "ring/../../secret.txt",
        "ring/../../../../../../../../etc/passwd",
        "./../secret.txt",
        "..",
        ".",
        "../",
        "...",
        "..\\secret.txt",
        "ring\\a.wav",
        "..;/secret.txt",
        "/etc/passwd",
        "//etc/passwd",
        "link",
        "upwards",
        "root/etc/passwd",
        "root",
        ".hidden",
        "ring",
        "ring/",
        "ring//a.wav",
        "./ring/a.wav",
        "assets/ring/a.wav",
        "profiles/site.yaml",
        "provost.yaml",
        "secret.txt",
        "state",
        "plugins/snom/vendor.yaml",
        "templates/",
        "file:///etc/passwd",
        "C:\\secret.txt",
        "~root",
        "$HOME",
        "`id`",
        "{mac}",
        "{{ phone }}",
        "%s%s%n",
        "-",
        "*",
        "?",
        " ",
        "\t",
        "\r\nSet-Cookie: evil=1",
        "ring/a.wav\nevil",
        "\u{202e}vaw.a",
        "\u{feff}",
    ]
    .map(|name| name.as_bytes().to_vec())
    .to_vec();
    names.push(format!("{data}/secret.txt").into_bytes());
    names.push(format!("..{data}/secret.txt").into_bytes());
    names.push(vec![b'n'; 4096]);
    names.push(b"a/".repeat(2048));
    names.push(b"../".repeat(1000));
    names.push(b"ring/a.wav\xff\xfe".to_vec());
    names.push(b"\xc0\xae\xc0\xae/secret.txt".to_vec());
    names
}

#[test]
fn http_gives_out_nothing_but_the_offered_names() {
    let lan = Lan::new(2);
    let server = plan(&lan).start().ready();
    let local = lan.server().address();
    let host = lan.phone(0);
    let get = |target: &[u8]| {
        let mut request = b"GET ".to_vec();
        request.extend_from_slice(target);
        request.extend_from_slice(b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        exchange(host, local, &request)
    };
    let percent = |name: &[u8], which: &dyn Fn(u8) -> bool| -> Vec<u8> {
        name.iter()
            .flat_map(|&byte| if which(byte) { format!("%{byte:02x}").into_bytes() } else { vec![byte] })
            .collect()
    };
    for (name, content) in [
        ("ring/a.wav", "RIFF"),
        ("inside", "RIFF"),
        ("%72ing%2fa.wav", "RIFF"),
        ("ring/a.wav?x=../../secret.txt", "RIFF"),
    ] {
        let answer = get(format!("/{name}").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(content), "{name}: {answer}");
    }
    // The administrator's mistake, and no secret: said here, and in the log.
    let answer = get(b"/loop");
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("cannot be read"), "{answer}");
    server.wait_for("loop", |line| line.is("level", "ERROR") && line.is("file", "loop"));
    beside_others(&server, lan.phone(1), || {
        for name in names(&server) {
            let targets = [
                // As it is, where HTTP lets it be; with what HTTP wants escaped; wholly escaped; escaped twice.
                [b"/", &name[..]].concat(),
                [b"/".to_vec(), percent(&name, &|byte| !byte.is_ascii_graphic() || byte == b'?')].concat(),
                [b"/".to_vec(), percent(&name, &|_| true)].concat(),
                [b"/".to_vec(), percent(&percent(&name, &|byte| b"./\\".contains(&byte)), &|byte| byte == b'%')]
                    .concat(),
                [b"http://x/".to_vec(), percent(&name, &|byte| !byte.is_ascii_graphic())].concat(),
                name.clone(),
            ];
            for target in targets {
                let answer = get(&target);
                let shown = String::from_utf8_lossy(&target[..target.len().min(100)]).into_owned();
                assert!(
                    !answer.contains(SECRET) && !answer.contains("root:") && !answer.contains("devices:"),
                    "{shown}: {answer}"
                );
                let status = answer.split(' ').nth(1).unwrap_or_default();
                // "//etc/passwd" begins with slashes that some phones write twice, and a name with an end of line is no request at all.
                assert!(
                    answer.starts_with("HTTP/1.1 4") && ["400", "403", "404", "405", "414"].contains(&status),
                    "{shown}: {answer:?}"
                );
                let (head, body) = answer.split_once("\r\n\r\n").unwrap();
                assert!(!head.to_ascii_lowercase().contains("set-cookie") && body.len() < 2000, "{shown}: {answer}");
            }
        }
        for method in ["POST", "PUT", "DELETE", "PROPFIND", "TRACE", "OPTIONS"] {
            let request = format!(
                "{method} /ring/a.wav HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nevil"
            );
            let answer = exchange(host, local, request.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 405 ") && !answer.contains("RIFF"), "{method}: {answer}");
        }
        let long = "x".repeat(40_000);
        for request in [
            "\0\x01\x02\x03\r\n\r\n".to_owned(),
            "GET\r\n\r\n".into(),
            "GET /ring/a.wav\r\n\r\n".into(),
            "GET /ring/a.wav HTTP/9.9\r\n\r\n".into(),
            "\x16\x03\x01\x02\0\x01\0\x01".into(),
            format!("GET /ring/a.wav HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"),
            format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("GET /ring/a.wav HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(5000)),
            "GET /ring/a.wav HTTP/1.1\r\nHost: x\r\nBad\0Header: 1\r\n\r\n".into(),
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello".into(),
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\n".into(),
        ] {
            let answer = exchange(host, local, request.as_bytes());
            assert!(!answer.contains("RIFF"), "{answer}");
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
                "{:?}: {answer}",
                &request[..request.len().min(60)]
            );
        }
    });
    assert_discreet(&server);
}

/// A read or write request, byte for byte.
fn request(opcode: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut packet = vec![0, opcode];
    for part in parts {
        packet.extend_from_slice(part);
        packet.push(0);
    }
    packet
}

/// What comes back for a packet to the TFTP port: opcode, number, text.
fn ask(socket: &UdpSocket, server: Ipv4Addr, packet: &[u8]) -> Option<(u8, u16, String)> {
    let mut buffer = [0; 2048];
    socket.send_to(packet, (server, 69)).unwrap();
    match receive(socket, &mut buffer) {
        Ok((length, from)) => {
            assert_eq!(from.ip(), server);
            let text = String::from_utf8_lossy(&buffer[4..length]).trim_end_matches('\0').to_owned();
            Some((buffer[1], u16::from_be_bytes([buffer[2], buffer[3]]), text))
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn tftp_gives_out_nothing_but_the_offered_names() {
    let lan = Lan::new(2);
    let server = plan(&lan).start().ready();
    let local = lan.server().address();
    let host = lan.phone(0);
    // A socket for each: a transfer belongs to its port.
    let once = |packet: &[u8]| ask(&host.udp((host.address(), 0)), local, packet);
    for name in ["ring/a.wav", "inside", "/ring/a.wav"] {
        assert_eq!(once(&request(1, &[name.as_bytes(), b"octet"])), Some((3, 1, "RIFF".into())), "{name}");
    }
    beside_others(&server, lan.phone(1), || {
        // Longer ones, and those that are not UTF-8, are below, among the packets that are no request.
        for name in names(&server).iter().filter(|name| name.len() < 1024 && std::str::from_utf8(name).is_ok()) {
            for mode in [&b"octet"[..], b"netascii", b"OcTeT"] {
                let shown = String::from_utf8_lossy(&name[..name.len().min(100)]).into_owned();
                let answer = once(&request(1, &[name, mode]));
                let Some((opcode, code, text)) = answer else { panic!("{shown}: no answer") };
                assert!(opcode == 5 && code <= 4 && !text.is_empty(), "{shown}: {opcode} {code} {text}");
                assert!(!text.contains(SECRET) && !text.contains("root:"), "{shown}: {text}");
            }
        }
        // Nobody writes.
        let (opcode, code, _) = once(&request(2, &[b"ring/a.wav", b"octet"])).expect("an answer to a write request");
        assert_eq!((opcode, code), (5, 4));
        assert_eq!(std::fs::read_to_string(server.data().join("assets/ring/a.wav")).unwrap(), "RIFF");
        // Odd options are left out of the answer, or are an error; the file is the same.
        for options in [
            &[&b"blksize"[..], b"0"][..],
            &[b"blksize", b"99999999999999"],
            &[b"blksize", b"-1"],
            &[b"windowsize", b"0"],
            &[b"windowsize", b"65536"],
            &[b"timeout", b"0"],
            &[b"tsize", b"x"],
            &[b"evil", b"\xff\xfe"],
            &[b"blksize"],
        ] {
            let parts = [&[&b"ring/a.wav"[..], b"octet"], options].concat();
            let answer = once(&request(1, &parts));
            let shown = options.iter().map(|option| String::from_utf8_lossy(option)).collect::<Vec<_>>();
            assert!(answer.is_some_and(|(opcode, _, _)| [3, 5, 6].contains(&opcode)), "{shown:?}");
        }
    });
    assert_discreet(&server);
}

/// What cannot be read as a request at all is an error to its sender, or nothing: never a file, and never the end of the service.
#[test]
fn tftp_packets_that_are_no_request_get_no_file() {
    let lan = Lan::new(2);
    let server = plan(&lan).start().ready();
    let local = lan.server().address();
    let host = lan.phone(0);
    let many = [&b"x"[..]].repeat(400);
    let packets = [
        Vec::new(),
        vec![0],
        vec![0, 1],
        vec![0, 1, 0],
        vec![0, 1, 0, 0],
        b"\0\x01ring/a.wav".to_vec(),
        b"\0\x01ring/a.wav\0".to_vec(),
        b"\0\x01ring/a.wav\0octet".to_vec(),
        b"\0\x01ring/a.wav\0nonsense\0".to_vec(),
        b"\0\x01ring/a.wav\0mail\0".to_vec(),
        b"\0\0".to_vec(),
        b"\0\x03\0\x01data".to_vec(),
        b"\0\x04\0\x01".to_vec(),
        b"\0\x05\0\x01error\0".to_vec(),
        b"\0\x06blksize\x001024\0".to_vec(),
        b"\0\x07".to_vec(),
        b"\xff\xff\xff\xff".to_vec(),
        vec![0xff; 60_000],
        request(1, &[&[&b""[..], b"octet"], &many[..]].concat()),
        request(1, &[&[b'n'; 4090], b"octet"]),
        request(1, &[&[b'n'; 5000], b"octet"]),
        request(1, &[&b"../".repeat(1000), b"netascii"]),
        request(1, &[b"ring/a.wav\xff\xfe", b"octet"]),
        request(1, &[b"\xc0\xae\xc0\xae/secret.txt", b"octet"]),
        request(2, &[b"ring/a.wav\xff", b"octet"]),
    ];
    beside_others(&server, lan.phone(1), || {
        let sockets: Vec<UdpSocket> = packets.iter().map(|_| host.udp((host.address(), 0))).collect();
        for (socket, packet) in sockets.iter().zip(&packets) {
            socket.send_to(packet, (local, 69)).unwrap();
        }
        // Read in the order of arrival: what there is to say to those has been said when this one has its file.
        let last = host.udp((host.address(), 0));
        assert_eq!(ask(&last, local, &request(1, &[b"ring/a.wav", b"octet"])), Some((3, 1, "RIFF".into())));
        for (socket, packet) in sockets.iter().zip(&packets) {
            socket.set_nonblocking(true).unwrap();
            let mut buffer = [0; 2048];
            if let Ok((length, _)) = receive(socket, &mut buffer) {
                let shown = String::from_utf8_lossy(&packet[..packet.len().min(60)]).into_owned();
                assert_eq!(&buffer[..2], [0, 5], "{shown:?}: {}", String::from_utf8_lossy(&buffer[..length]));
            }
        }
    });
    assert_discreet(&server);
}

/// The line that says that a door stays shut, judged: it names who holds the port, and what can be done.
fn refusal(server: &Server, words: [&str; 2]) {
    let line = server.wait_for("refusal", |line| line.is("level", "ERROR"));
    let message = line.field("message").as_str().unwrap().to_owned();
    // The test itself holds it.
    let held = format!("(pid {})", std::process::id());
    assert!(message.contains(&held) && words.iter().all(|word| message.contains(word)), "{message}");
    server.wait_for("doors", |line| line.is("message", "serving"));
}

#[test]
fn an_http_port_that_is_taken_is_told_with_its_owner_and_the_rest_serves() {
    let lan = Lan::new(1);
    let _holder = lan.server().enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080))).unwrap();
    let server = plan(&lan).start();
    refusal(&server, ["no files over HTTP", "http.port"]);
    let captured = Captured::one(PHONE);
    let handset = Handset::at(lan.phone(0), lan.phone(0).address(), 0);
    let (url, _) = handset.boot(&subscribe(&captured, &handset));
    assert!(url.starts_with(&format!("tftp://{}/", lan.server().address())), "a URL of the door that is open: {url}");
    notified(&server, &handset, "notified");
    let socket = lan.phone(0).udp((lan.phone(0).address(), 0));
    assert_eq!(
        ask(&socket, lan.server().address(), &request(1, &[b"ring/a.wav", b"octet"])),
        Some((3, 1, "RIFF".into()))
    );
}

#[test]
fn a_tftp_port_that_is_taken_is_told_with_its_owner_and_the_rest_serves() {
    let lan = Lan::new(1);
    let local = lan.server().address();
    let _holder = lan.server().udp((local, 69));
    let server = plan(&lan).start();
    refusal(&server, ["no files over TFTP", "tftp.port"]);
    serves_others(&server, lan.phone(0));
}

#[test]
fn a_reply_port_that_is_taken_is_told_with_its_owner_and_files_are_served() {
    let lan = Lan::new(1);
    let local = lan.server().address();
    let _holder = lan.server().udp((Ipv4Addr::UNSPECIFIED, 5070));
    let server = plan(&lan).file("provost.yaml", "pnp: { reply_port: 5070 }\n").start();
    refusal(&server, ["5070", "phones cannot be answered"]);
    let answer = exchange(lan.phone(0), local, b"GET /ring/a.wav HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.ends_with("RIFF"), "{answer}");
}

#[test]
fn a_second_server_on_the_same_machine_says_who_the_first_is_and_ends() {
    let lan = Lan::new(1);
    let first = plan(&lan).start().ready();
    let mut second = plan(&lan).flags(["--no-pnp"]).start();
    let held = format!("(pid {})", first.pid());
    for door in ["HTTP", "TFTP"] {
        second.wait_for(door, |line| {
            let message = line.field("message").as_str().unwrap_or_default();
            line.is("level", "ERROR") && message.contains(door) && message.contains(&held)
        });
    }
    serves_others(&first, lan.phone(0));
    second.stop();
}
