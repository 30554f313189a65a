//! How many bytes the server sends for each byte that it is sent, and to whom: what it would be worth to whoever writes somebody else's
//! address into his datagrams. Payloads of UDP are counted. The table is printed and written to TARGET/amplification.md.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use provost_tests::{Lan, Plan, Server, built};

use crate::{
    spoof::{Overheard, Spoofer, silence},
    wire::{Captured, GROUP, Handset, decided, notified, subscribe},
};

const ATTACKER: usize = 0;
/// It is there and asks for nothing; what comes for it falls on deaf ears.
const VICTIM: usize = 1;
const PORT: u16 = 5060;

struct Row {
    what: &'static str,
    sent: usize,
    came: Vec<Vec<u8>>,
    /// Bytes out for a byte in, at most.
    bound: f64,
    seen: String,
}

impl Row {
    fn factor(&self) -> f64 {
        self.came.iter().map(Vec::len).sum::<usize>() as f64 / self.sent as f64
    }
}

#[allow(clippy::print_stdout, reason = "what came of it is to be read, not only judged")]
#[track_caller]
fn judge(rows: &[Row]) {
    static TABLE: Mutex<String> = Mutex::new(String::new());
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if table.is_empty() {
        *table = "| what is sent | bytes in | datagrams out | bytes out | out for each in | what was seen |\n|---|--:|--:|--:|--:|---|\n".to_owned();
    }
    for row in rows {
        let bytes: usize = row.came.iter().map(Vec::len).sum();
        let line = format!(
            "| {} | {} | {} | {bytes} | {:.1} | {} |",
            row.what,
            row.sent,
            row.came.len(),
            row.factor(),
            row.seen
        );
        println!("{line}");
        writeln!(table, "{line}").unwrap();
    }
    let target = built().provost.parent().unwrap().parent().unwrap();
    fs::write(target.join("amplification.md"), &*table).unwrap();
    drop(table);
    for row in rows {
        assert!(row.factor() <= row.bound, "{}: {:.1} and not {}", row.what, row.factor(), row.bound);
    }
}

fn starts(packets: &[Vec<u8>], with: &[u8]) -> usize {
    packets.iter().filter(|packet| packet.starts_with(with)).count()
}

struct Scene {
    // It goes before the network that it is on.
    server: Server,
    lan: Lan,
    spoofer: Spoofer,
    overheard: Overheard,
    captured: Captured,
}

impl Scene {
    fn new(trust: &str) -> Scene {
        let lan = Lan::new(2);
        silence(lan.phone(VICTIM));
        let captured = Captured::one("02");
        let inventory = format!(
            "defaults: {{ trust: {{ {trust} }} }}\ndevices:\n  \"{}\": {{ lines: [{{ number: 100, password: secret-100 }}] }}\n",
            captured.mac
        );
        let plan = Plan::as_shipped_on(lan.server()).file("profiles/site.yaml", inventory);
        let server = plan.file("assets/large.bin", vec![b'x'; 100_000]).start().ready();
        let (spoofer, overheard) = (Spoofer::on(lan.phone(ATTACKER)), Overheard::on(lan.phone(VICTIM)));
        Scene { lan, server, spoofer, overheard, captured }
    }

    fn victim(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.lan.phone(VICTIM).address(), port)
    }

    /// As if the victim had asked.
    fn spoof(&self, port: u16, to: SocketAddrV4, bytes: &[u8]) {
        self.spoofer.send(self.victim(port), to, bytes);
    }

    fn came(&self) -> Vec<Vec<u8>> {
        self.overheard.to(self.lan.phone(VICTIM).address())
    }

    /// Waits for the desk's word on what seems to have come from this port of the victim's.
    fn decided(&self, port: u16) -> String {
        let peer = self.victim(port).to_string();
        let line = self.server.wait_for("a decision", |line| line.is("message", "subscribe") && line.is("peer", &peer));
        line.field("outcome").as_str().unwrap().to_owned()
    }

    /// Waits until a NOTIFY has been given up, which takes longer than other lines of the log.
    fn given_up(&self, port: u16) {
        let peer = self.victim(port).to_string();
        let until = Instant::now() + Duration::from_secs(60);
        while !self.server.log().iter().any(|line| line.is("message", "not notified") && line.is("peer", &peer)) {
            assert!(Instant::now() < until, "the NOTIFY to {peer} is not given up");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A SUBSCRIBE of somebody who is no phone.
fn unknown(from: SocketAddrV4) -> Vec<u8> {
    format!(
        "SUBSCRIBE sip:MAC%3a02005E447500@224.0.1.75 SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-1;rport\r\nFrom: <sip:x@h>;tag=1\r\nTo: <sip:x@h>\r\n\
         Call-ID: unknown-{}\r\nCSeq: 1 SUBSCRIBE\r\nContact: <sip:{from}>\r\nEvent: ua-profile;vendor=\"Nobody\"\r\nContent-Length: 0\r\n\r\n",
        from.port()
    )
    .into_bytes()
}

#[test]
fn who_is_not_a_phone_gets_nothing_and_a_phone_gets_what_it_needs() {
    let scene = Scene::new("address: anywhere");
    let mut rows = Vec::new();
    let message = unknown(scene.victim(PORT));
    scene.spoof(PORT, GROUP, &message);
    assert_eq!(scene.decided(PORT), "silence");
    rows.push(Row {
        what: "SUBSCRIBE of a phone that nobody knows",
        sent: message.len(),
        came: scene.came(),
        bound: 0.0,
        seen: "silence".into(),
    });

    let handset = Handset::at(scene.lan.phone(ATTACKER), scene.lan.phone(ATTACKER).address(), 0);
    let message = subscribe(&scene.captured, &handset);
    handset.subscribe(&message);
    let (ok, notify, from) = handset.hear_both();
    handset.accept(&notify, from);
    notified(&scene.server, &handset, "notified");
    decided(&scene.server, &handset, "announced");
    let sent = message.len() + notify.answer("200 OK").len();
    rows.push(Row {
        what: "SUBSCRIBE of a phone that is known, which answers",
        sent,
        came: vec![ok.bytes, notify.bytes],
        bound: 2.0,
        seen: "200 and NOTIFY, once each".into(),
    });
    judge(&rows);
}

#[test]
fn somebody_elses_address_in_a_subscribe_of_a_phone() {
    let mut rows = Vec::new();
    // The kernel knows that the victim has another MAC address than the phone: so does the server, by default.
    let scene = Scene::new("address: phone");
    scene.lan.phone(VICTIM).fetch(&format!("{}x", scene.server.http_url(scene.lan.server().address())));
    scene.came();
    let handset = Handset::at(scene.lan.phone(ATTACKER), Ipv4Addr::UNSPECIFIED, 0);
    let message = subscribe(&scene.captured, &handset);
    scene.spoof(PORT, GROUP, &message);
    assert_eq!(scene.decided(PORT), "silence");
    rows.push(Row {
        what: "SUBSCRIBE in a phone's name, with the address of a third host",
        sent: message.len(),
        came: scene.came(),
        bound: 0.0,
        seen: "silence: the kernel knows that host's MAC address".into(),
    });

    // The worst: nobody has to show anything.
    let scene = Scene::new("address: anywhere");
    let message = subscribe(&scene.captured, &handset);
    scene.spoof(PORT, GROUP, &message);
    scene.given_up(PORT);
    let came = scene.came();
    let (oks, notifies) = (starts(&came, b"SIP/2.0 200"), starts(&came, b"NOTIFY "));
    // Timer E in the 32 s of timer F: 0, 0.5, 1.5, 3.5, 7.5, 11.5 … 31.5 s.
    assert_eq!((oks, notifies), (1, 11));
    rows.push(Row {
        what: "the same with `address: anywhere`, and the third host says nothing",
        sent: message.len(),
        came,
        bound: 20.0,
        seen: format!("{oks} 200, {notifies} NOTIFYs in the 32 s of RFC 3261's timer F"),
    });
    judge(&rows);
}

#[test]
fn somebody_elses_address_in_many_subscribes() {
    let scene = Scene::new("address: anywhere");
    let handset = Handset::at(scene.lan.phone(ATTACKER), Ipv4Addr::UNSPECIFIED, 0);
    let mut sent = 0;
    for port in 10_000..10_500 {
        let message = subscribe(&scene.captured, &handset);
        sent += message.len();
        scene.spoof(port, GROUP, &message);
    }
    scene.given_up(10_499);
    let came = scene.came();
    let (oks, notifies) = (starts(&came, b"SIP/2.0 200"), starts(&came, b"NOTIFY "));
    assert!(notifies <= 500 + 64 * 10, "{notifies} NOTIFYs");
    judge(&[Row {
        what: "500 such SUBSCRIBEs in one second",
        sent,
        came,
        bound: 6.0,
        seen: format!("{oks} 200, {notifies} NOTIFYs: no more than 64 to one address are repeated"),
    }]);
}

#[test]
fn somebody_elses_address_in_a_read_request() {
    let scene = Scene::new("address: phone");
    let tftp = SocketAddrV4::new(scene.lan.server().address(), 69);
    let mut rows = Vec::new();
    // Until so many datagrams came, or longer than a transfer lives that nobody takes.
    let listen = |count: usize| {
        let mut came = Vec::new();
        let until = Instant::now() + Duration::from_secs(14);
        while came.len() < count && Instant::now() < until {
            thread::sleep(Duration::from_millis(50));
            came.extend(scene.came());
        }
        came
    };
    let mut ask = |what, port, request: &[u8], bound: f64, count: usize| {
        scene.spoof(port, tftp, request);
        let came = listen(count);
        let seen = format!("{} times {} bytes", came.len(), came.first().map_or(0, Vec::len));
        rows.push(Row { what, sent: request.len(), came, bound, seen });
    };
    ask("RRQ for what does not exist", 2000, b"\0\x01nothing.bin\0octet\0", 3.0, 1);
    ask("RRQ for a file that anybody may have, never acknowledged", 2001, b"\0\x01large.bin\0octet\0", 90.0, 3);
    ask(
        "the same with options (blksize 1428, windowsize 16)",
        2002,
        b"\0\x01large.bin\0octet\0blksize\x001428\0windowsize\x0016\0",
        3.0,
        3,
    );
    // 64 of them at a time, whoever asks.
    let mut sent = 0;
    for port in 3000..3500 {
        let request = b"\0\x01large.bin\0octet\0";
        sent += request.len();
        scene.spoof(port, tftp, request);
    }
    let came = listen(usize::MAX);
    let files = came.iter().filter(|packet| packet.starts_with(b"\0\x03")).count();
    assert!(files <= 64 * 3, "{files}");
    rows.push(Row {
        what: "500 such RRQs in one second",
        sent,
        seen: format!("{files} blocks of 64 transfers, the others are told that it is busy"),
        came,
        bound: 25.0,
    });
    judge(&rows);
}
