//! A PBX on the same machine owns port 5060: Provost is in nobody's way, in whichever order they start.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use provost_tests::{Host, Lan, Plan, Server, receive, tools};
use rustix::process::{Pid, Signal, kill_process};

use crate::wire::{Captured, Handset, Message, notified, subscribe};

const PHONE: &str = "05";
/// In the Server header of whatever the PBX answers.
const PBX: &str = "the-pbx";

fn plan(lan: &Lan) -> Plan {
    let mac = Captured::one(PHONE).mac;
    let inventory = format!("devices:\n  \"{mac}\": {{ lines: [{{ number: 100, password: secret-100 }}] }}\n");
    Plan::on(lan.server()).file("profiles/site.yaml", inventory)
}

/// The phone of the capture is answered by Provost, as if there were no PBX.
fn is_told(lan: &Lan, server: &Server) {
    let captured = Captured::one(PHONE);
    let handset = Handset::at(lan.phone(0), lan.phone(0).address(), 0);
    let (url, from) = handset.boot(&subscribe(&captured, &handset));
    assert!(url.starts_with(&format!("http://{}:8080/", lan.server().address())), "{url}");
    assert_ne!(from.port(), 5060, "the PBX's port is not borrowed for answers");
    notified(server, &handset, "notified");
}

/// All calls to port 5060 of the machine go to the PBX.
fn calls_reach_the_pbx(lan: &Lan) {
    let to = SocketAddrV4::new(lan.server().address(), 5060);
    for number in 0..20 {
        let handset = Handset::at(lan.phone(0), lan.phone(0).address(), 0);
        handset.send(&options(handset.address, to, number), to);
        let (answer, from) = handset.hear();
        assert_eq!((answer.start.as_str(), answer.header("Server"), from), ("SIP/2.0 200 OK", PBX, to));
        assert_eq!(answer.header("CSeq"), format!("{number} OPTIONS"));
        handset.assert_silent("answered twice");
    }
}

fn options(from: SocketAddrV4, to: SocketAddrV4, number: u32) -> Vec<u8> {
    format!(
        "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKopt{number}.{};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:phone@{from}>;tag={number}\r\nTo: <sip:{to}>\r\nCall-ID: {number}.{from}\r\nCSeq: {number} OPTIONS\r\n\
         Contact: <sip:phone@{from}>\r\nContent-Length: 0\r\n\r\n",
        from.port()
    )
    .into_bytes()
}

/// Kamailio on the wildcard, as its packages set it up, with nothing but an answer to OPTIONS.
struct Kamailio {
    child: Child,
    _directory: tempfile::TempDir,
}

impl Kamailio {
    fn start(host: &Host) -> Kamailio {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("kamailio.cfg");
        fs::write(
            &config,
            format!(
                "#!KAMAILIO\nlisten=udp:0.0.0.0:5060\nchildren=2\ndisable_tcp=yes\nauto_aliases=no\nserver_header=\"Server: {PBX}\"\n\
                 loadmodule \"sl.so\"\n\
                 request_route {{\n  if (method == \"OPTIONS\") {{ sl_send_reply(\"200\", \"OK\"); }}\n  exit;\n}}\n"
            ),
        )
        .unwrap();
        let mut command = host.command(tools::require("kamailio"));
        command.arg("-f").arg(&config).args(["-DD", "-E", "-m", "32", "-M", "8", "-Y"]).arg(directory.path());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = child.stderr.take().unwrap();
        // Read to its end, so that it never has to wait for us; what it said is for the failure.
        let said =
            thread::spawn(move || BufReader::new(log).lines().map_while(Result::ok).collect::<Vec<_>>().join("\n"));
        let until = Instant::now() + Duration::from_secs(20);
        while !owns_5060(child.id()) {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("kamailio ended with {status}:\n{}", said.join().unwrap());
            }
            assert!(Instant::now() < until, "kamailio does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Kamailio { child, _directory: directory }
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // The process that we started ends the ones that it started.
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        drop(self.child.wait());
    }
}

/// Whether anybody in the namespace of this process has bound the wildcard's port 5060.
fn owns_5060(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/net/udp")).is_ok_and(|table| table.contains(" 00000000:13C4 "))
}

/// A PBX that binds the wildcard and asks for no sharing of any kind.
struct StandIn {
    stop: Arc<AtomicBool>,
    /// SUBSCRIBEs that came to it.
    subscribes: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    fn start(host: &Host) -> StandIn {
        let socket = host.udp((Ipv4Addr::UNSPECIFIED, 5060));
        StandIn::answering(socket)
    }

    fn answering(socket: UdpSocket) -> StandIn {
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let subscribes = Arc::new(AtomicU32::new(0));
        let heard = Arc::clone(&subscribes);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !told.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                if buffer.starts_with(b"SUBSCRIBE ") {
                    heard.fetch_add(1, Ordering::Relaxed);
                }
                if buffer.starts_with(b"OPTIONS ") {
                    let answer = String::from_utf8(Message::read(&buffer[..length]).answer("200 OK")).unwrap();
                    let answer = answer.replace("Content-Length", &format!("Server: {PBX}\r\nContent-Length"));
                    socket.send_to(answer.as_bytes(), from).unwrap();
                }
            }
        });
        StandIn { stop, subscribes, thread: Some(thread) }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "the stand-in panicked");
    }
}

#[test]
fn kamailio_may_start_first() {
    let lan = Lan::new(1);
    let _pbx = Kamailio::start(lan.server());
    let server = plan(&lan).start().ready();
    is_told(&lan, &server);
    calls_reach_the_pbx(&lan);
    is_told(&lan, &server);
}

#[test]
fn kamailio_may_start_last_and_come_again() {
    let lan = Lan::new(1);
    let server = plan(&lan).start().ready();
    is_told(&lan, &server);
    for _ in 0..2 {
        let _pbx = Kamailio::start(lan.server());
        calls_reach_the_pbx(&lan);
        is_told(&lan, &server);
        calls_reach_the_pbx(&lan);
    }
}

#[test]
fn a_pbx_that_shares_its_port_with_nobody_may_start_first() {
    let lan = Lan::new(1);
    let _pbx = StandIn::start(lan.server());
    let server = plan(&lan).start().ready();
    is_told(&lan, &server);
    calls_reach_the_pbx(&lan);
    is_told(&lan, &server);
}

#[test]
fn a_pbx_that_shares_its_port_with_nobody_may_start_last() {
    let lan = Lan::new(1);
    let server = plan(&lan).start().ready();
    is_told(&lan, &server);
    let pbx = StandIn::start(lan.server());
    calls_reach_the_pbx(&lan);
    is_told(&lan, &server);
    // What the kernel does, and nobody can wish: a wildcard socket that has not set IP_MULTICAST_ALL to 0 is also given what comes for
    // a group that another program has joined. So a PBX may hear SUBSCRIBEs, and has to be one that lets those to other hosts be.
    calls_reach_the_pbx(&lan);
    assert_eq!(pbx.subscribes.load(Ordering::Relaxed), 1);
}

#[test]
fn a_udp_socket_on_the_group_leaves_kamailio_its_calls_too() {
    let lan = Lan::new(1);
    let server = plan(&lan).flags(["--listen", "udp"]).start().ready();
    let _pbx = Kamailio::start(lan.server());
    is_told(&lan, &server);
    calls_reach_the_pbx(&lan);
    is_told(&lan, &server);
}

/// Without a raw socket the two cannot both have the port. Whoever is second is told why.
#[test]
fn a_udp_socket_beside_a_pbx_that_does_not_share_is_refused_in_plain_words_and_files_are_still_served() {
    let lan = Lan::new(1);
    let pbx = StandIn::start(lan.server());
    let server = plan(&lan).flags(["--listen", "udp"]).start();
    let line = server.wait_for("error", |line| line.is("level", "ERROR"));
    let message = line.field("message").as_str().unwrap();
    assert!(message.contains("phones are not heard") && message.contains("224.0.1.75:5060"), "{message}");
    // The stand-in is a thread of this very process.
    assert!(message.contains(&format!("(pid {})", std::process::id())), "who holds it: {message}");
    assert!(message.contains("CAP_NET_RAW") && message.contains("pnp.listen"), "what to do: {message}");
    server.wait_for("doors", |line| line.is("message", "serving"));
    let mac = Captured::one(PHONE).mac.bare();
    let url = format!("{}cfg{mac}.xml", server.http_url(lan.server().address()));
    let mut curl = lan.phone(0).command(tools::require("curl"));
    let file = tools::feed(curl.args(["--silent", "--show-error", "--fail", &url]), b"")
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(String::from_utf8_lossy(&file).contains("secret-100"));
    let tftp = lan.phone(0).udp((lan.phone(0).address(), 0));
    tftp.send_to(format!("\0\x01cfg{mac}.xml\0octet\0").as_bytes(), (lan.server().address(), 69)).unwrap();
    let mut block = [0; 600];
    let (length, _) = receive(&tftp, &mut block).unwrap();
    assert_eq!(&block[..4], [0, 3, 0, 1], "{}", String::from_utf8_lossy(&block[..length]));
    calls_reach_the_pbx(&lan);
    drop(pbx);

    // The other way round it is the PBX that cannot start: what raw sockets are for.
    drop(server);
    let _server = plan(&lan).flags(["--listen", "udp"]).start().ready();
    let refused = lan.server().enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5060)));
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
}
