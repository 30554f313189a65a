//! Phones beyond a router, which no multicast crosses, are heard and answered through a relay in their subnet.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::unix::fs::PermissionsExt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use provost_tests::{Host, Lan, Plan, Seat, Server, built, receive};

use crate::{
    network::tftp,
    resync::administrator,
    wire::{Captured, Handset, decided, notified, subscribe},
};

/// Who is who: at the server's switch, and at the far one.
const NEAR: usize = 0;
const FAR: usize = 1;
const RELAY: usize = 2;
const ROUTER: usize = 3;
const STRANGER: usize = 4;

const PORT: u16 = 5077;
const SECRET: &str = "c2VjcmV0IG9mIHRoZSByZWxheSBpbiB0aGUgbm9ydGg=";
const OTHER_SECRET: &str = "YW5vdGhlciBzZWNyZXQgdGhhdCBuby1ib2R5IGtub3dz";
const SOUTH: &str = "c2VjcmV0IG9mIHRoZSByZWxheSBpbiB0aGUgc291dGg=";
/// The MAC address of a phone that is in no file.
const NOBODYS: &str = "02:00:00:00:00:77";
const PASSWORD: &str = "pa55-w0rd-of-the-phone";

/// Two subnets with a router between them, and phones with their own MAC addresses.
fn two_subnets() -> Lan {
    let mut lan = Lan::with(&[0], &[0, 1, 1, 0, 1]);
    let far_side = lan.plug(Seat::Phone(ROUTER), 1).address;
    let own = |capture| Captured::one(capture).mac.to_string();
    for (phone, mac) in [(NEAR, own("05")), (FAR, own("02")), (STRANGER, NOBODYS.to_owned())] {
        let host = lan.phone(phone);
        host.ip(&format!("link set eth0 address {mac}\n"));
        host.set_up("eth0", false);
        host.set_up("eth0", true);
    }
    lan.phone(ROUTER).enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    let near_side = lan.phone(ROUTER).address();
    let route = |host: &Host, network: &str, by: Ipv4Addr| host.ip(&format!("route add {network} via {by}\n"));
    for near in [lan.server(), lan.phone(NEAR)] {
        route(near, "10.201.0.0/16", near_side);
    }
    for far in [FAR, RELAY, STRANGER] {
        route(lan.phone(far), "10.200.0.0/16", far_side);
    }
    lan
}

fn serve(lan: &Lan) -> Server {
    let (near, far) = (Captured::one("05").mac, Captured::one("02").mac);
    let lines = |number: u32| format!("{{ lines: [{{ number: {number}, password: {PASSWORD} }}] }}");
    let keys = "{ name: north, file: north.key, network: 10.201.0.0/16 }, { name: south, file: south.key, network: 10.99.0.0/16 }";
    Plan::as_shipped_on(lan.server())
        .file(
            "profiles/site.yaml",
            format!(
                "defaults: {{ sip: {{ server: pbx }} }}\ndevices:\n  \"{near}\": {}\n  \"{far}\": {}\n",
                lines(100),
                lines(101)
            ),
        )
        .file("north.key", SECRET)
        .file("south.key", format!("{SOUTH}\n"))
        .file("provost.yaml", format!("pnp: {{ relay: {{ keys: [{keys}] }} }}\n"))
        .start()
        .ready()
}

/// Starts a relay, which is a program like the server: its log is read, and it is ended when it goes.
fn relay(lan: &Lan, to: SocketAddrV4, secret: &str) -> Server {
    let plan = Plan::as_shipped_on(lan.phone(RELAY)).file("relay.key", secret);
    let program = plan.data().join("relay");
    let provost = built().provost.display();
    let key = plan.data().join("relay.key").display().to_string();
    let script = format!("#!/bin/sh\nexec {provost} relay --to {to} --key {key} --interface eth0 --log-format json\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let relay = plan.binary(program).start();
    relay.wait_for("relaying", |line| line.is("message", "relaying"));
    relay
}

fn at(lan: &Lan) -> SocketAddrV4 {
    SocketAddrV4::new(lan.server().address(), PORT)
}

fn is_there(relay: &Server) {
    relay.wait_for("the server", |line| line.is("message", "the server is there"));
}

fn handset(lan: &Lan, phone: usize) -> Handset {
    Handset::at(lan.phone(phone), lan.phone(phone).address(), 0)
}

/// Waits until the server says why it does not take what this relay sent.
fn not_taken(server: &Server, why: &str) {
    server.wait_for(why, |line| {
        line.is("message", "what a relay sent is not taken")
            && line.field("reason").as_str().is_some_and(|reason| reason.contains(why))
    });
}

/// How often the desk was asked in this phone's name.
fn asked(server: &Server, handset: &Handset) -> usize {
    let peer = handset.address.to_string();
    server.log().iter().filter(|line| line.is("message", "subscribe") && line.is("peer", &peer)).count()
}

#[test]
fn a_phone_beyond_a_router_is_told_its_url_through_the_relay_and_fetches_by_itself() {
    let lan = two_subnets();
    let server = serve(&lan);
    let (captured, near) = (Captured::one("02"), Captured::one("05"));
    let (far, beside) = (handset(&lan, FAR), handset(&lan, NEAR));

    // Without a relay nobody hears it: the router forwards what is sent to somebody, and nothing that is sent to a group.
    far.subscribe(&subscribe(&captured, &far));
    beside.boot(&subscribe(&near, &beside));
    notified(&server, &beside, "notified");
    assert_eq!(asked(&server, &far), 0);

    let relay = relay(&lan, at(&lan), SECRET);
    is_there(&relay);
    let (local, between) = (lan.server().address(), lan.phone(RELAY).address());
    far.subscribe(&subscribe(&captured, &far));
    let (ok, notify, from) = far.hear_both();
    assert_eq!(*from.ip(), between, "the phone hears only its own link");
    assert!(ok.header("Contact").contains(&from.to_string()), "{ok:?}");
    assert!(notify.header("Contact").contains(&from.to_string()), "{notify:?}");
    assert!(notify.header("Via").contains(&from.to_string()), "{notify:?}");
    far.accept(&notify, from);
    notified(&server, &far, "notified");

    // What it was told leads to the server itself, and the default of trust lets it have its file: the relay has seen its MAC address.
    let url = notify.body;
    assert!(url.starts_with(&format!("http://{local}:8080/")), "{url}");
    let file = lan.phone(FAR).fetch(&url);
    assert!(file.contains(PASSWORD), "{file}");
    let name = url.rsplit('/').next().unwrap();
    let over_tftp = tftp(lan.phone(FAR), lan.phone(FAR).address(), local, name);
    assert!(String::from_utf8_lossy(&over_tftp).contains(PASSWORD));
    // Nobody else there has it, nor does it help to speak in the phone's name: the relay sees who that is.
    assert!(!lan.phone(STRANGER).fetch(&url).contains(PASSWORD));
    let stranger = handset(&lan, STRANGER);
    stranger.subscribe(&subscribe(&captured, &stranger));
    decided(&server, &stranger, "silence");
    assert!(!lan.phone(STRANGER).fetch(&url).contains(PASSWORD));
    assert!(lan.phone(FAR).fetch(&url).contains(PASSWORD), "and it takes nothing from the phone");

    // A direct phone beside it is served as ever.
    let (url, from) = beside.boot(&subscribe(&near, &beside));
    assert_eq!(*from.ip(), local);
    assert!(lan.phone(NEAR).fetch(&url).contains(PASSWORD));

    let mac = captured.mac.to_string();
    let (done, history) = administrator(&lan, &server, &["history", &mac]);
    assert!(done && history.contains("through relay north"), "{history}");
    // To fetch again is told without the relay: that way there is a route.
    thread::scope(|scope| {
        let told = scope.spawn(|| administrator(&lan, &server, &["resync", &mac]));
        let (again, from) = far.hear();
        assert_eq!(*from.ip(), local);
        assert!(again.is_notify() && again.header("Event").starts_with("check-sync"), "{again:?}");
        far.accept(&again, from);
        let (done, said) = told.join().unwrap();
        assert!(done, "{said}");
    });
}

#[test]
fn a_phone_that_is_approved_later_is_told_through_the_relay_there_and_then() {
    let lan = two_subnets();
    let server = serve(&lan);
    let relay = relay(&lan, at(&lan), SECRET);
    is_there(&relay);
    // Known to nobody, with the stranger's own MAC address.
    let stranger = handset(&lan, STRANGER);
    let captured = Captured::one("02");
    let message = String::from_utf8(subscribe(&captured, &stranger)).unwrap();
    let (bare, own) = (captured.mac.bare(), NOBODYS.replace(':', ""));
    let message = message.replace(&bare, &own).replace(&bare.to_uppercase(), &own);
    stranger.subscribe(message.as_bytes());
    decided(&server, &stranger, "silence");
    stranger.assert_silent("nobody has approved it");
    thread::scope(|scope| {
        let approved = scope.spawn(|| administrator(&lan, &server, &["approve", NOBODYS, "--number", "102"]));
        let notify = loop {
            if let Some((message, from)) = stranger.hear_within(Duration::from_secs(1)) {
                if message.is_notify() {
                    stranger.accept(&message, from);
                    break Some(message);
                }
            } else if approved.is_finished() {
                break None;
            }
        };
        let (done, said) = approved.join().unwrap();
        assert!(done && notify.is_some() && said.contains("answered 200"), "{said}");
    });
}

#[test]
fn a_relay_with_a_wrong_key_or_for_another_network_gets_nothing_and_both_ends_say_why() {
    let lan = two_subnets();
    let server = serve(&lan);
    let (captured, far) = (Captured::one("02"), handset(&lan, FAR));
    {
        let relay = relay(&lan, at(&lan), OTHER_SECRET);
        far.subscribe(&subscribe(&captured, &far));
        not_taken(&server, "wrong key");
        let told = relay.wait_for("a complaint", |line| {
            line.field("message").as_str().is_some_and(|said| said.starts_with("no answer from the server"))
        });
        assert!(!told.text.contains(OTHER_SECRET));
    }
    let relay = relay(&lan, at(&lan), SOUTH);
    is_there(&relay);
    far.subscribe(&subscribe(&captured, &far));
    not_taken(&server, "its key is for phones of 10.99.0.0/16");
    assert_eq!(asked(&server, &far), 0);
    far.assert_silent("beyond a relay that may not speak for it");
    assert!(server.log().iter().all(|line| ![SECRET, SOUTH, OTHER_SECRET].iter().any(|key| line.text.contains(key))));
}

#[test]
fn a_relay_that_is_started_anew_goes_on_where_the_one_before_has_ended() {
    let lan = two_subnets();
    let server = serve(&lan);
    let (captured, far) = (Captured::one("02"), handset(&lan, FAR));
    let message = subscribe(&captured, &far);
    let first = relay(&lan, at(&lan), SECRET);
    is_there(&first);
    far.subscribe(&message);
    let (_, _, before) = far.hear_both();
    first.kill();
    // The phone has not answered the NOTIFY, and repeats itself as phones do: the same message.
    let second = relay(&lan, at(&lan), SECRET);
    is_there(&second);
    far.subscribe(&message);
    let (_, notify, from) = far.hear_both();
    assert_ne!(from, before);
    far.accept(&notify, from);
    notified(&server, &far, "notified");
    assert!(lan.phone(FAR).fetch(&notify.body).contains(PASSWORD));
}

#[test]
fn a_server_that_is_started_anew_hears_the_next_word_through_the_relay() {
    let lan = two_subnets();
    let server = serve(&lan);
    let (captured, far) = (Captured::one("02"), handset(&lan, FAR));
    let relay = relay(&lan, at(&lan), SECRET);
    is_there(&relay);
    far.boot(&subscribe(&captured, &far));
    notified(&server, &far, "notified");
    let server = server.kill().start().ready();
    // Said once only: the relay says it again when it has learned that the server is another.
    far.boot(&subscribe(&captured, &far));
    notified(&server, &far, "notified");
}

/// Stands between a relay and the server, and writes down what the relay sends.
struct Between {
    socket: Arc<UdpSocket>,
    server: SocketAddrV4,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
    end: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Between {
    fn start(lan: &Lan) -> Between {
        let socket = Arc::new(lan.phone(ROUTER).udp((Ipv4Addr::UNSPECIFIED, PORT)));
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (sent, end, server) = (Arc::<Mutex<Vec<Vec<u8>>>>::default(), Arc::<AtomicBool>::default(), at(lan));
        let (own, ended, kept) = (Arc::clone(&socket), Arc::clone(&end), Arc::clone(&sent));
        let thread = thread::spawn(move || {
            let (mut buffer, mut relay) = (vec![0; 65_536], None);
            while !ended.load(Ordering::Relaxed) {
                let Ok((length, from)) = receive(&own, &mut buffer) else { continue };
                let bytes = &buffer[..length];
                let to = if from == server.into() {
                    relay
                } else {
                    relay = Some(from);
                    kept.lock().unwrap().push(bytes.to_vec());
                    Some(server.into())
                };
                to.map(|to| own.send_to(bytes, to).unwrap());
            }
        });
        Between { socket, server, sent, end, thread: Some(thread) }
    }

    fn repeat(&self, change: impl Fn(&mut Vec<u8>)) {
        for mut bytes in self.sent.lock().unwrap().clone() {
            change(&mut bytes);
            self.socket.send_to(&bytes, self.server).unwrap();
        }
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().map(thread::JoinHandle::join);
    }
}

#[test]
fn who_overhears_a_relay_can_repeat_and_change_what_it_sends_and_nothing_comes_of_it() {
    let lan = two_subnets();
    let server = serve(&lan);
    let between = Between::start(&lan);
    let (captured, far) = (Captured::one("02"), handset(&lan, FAR));
    let through = SocketAddrV4::new(lan.phone(ROUTER).interfaces()[1].address, PORT);
    let relay = relay(&lan, through, SECRET);
    is_there(&relay);
    far.boot(&subscribe(&captured, &far));
    notified(&server, &far, "notified");
    let before = asked(&server, &far);

    between.repeat(|_| {});
    not_taken(&server, "sent this before");
    between.repeat(|bytes| *bytes.last_mut().unwrap() ^= 1);
    not_taken(&server, "changed on its way");
    // The server reads one after the other: what came of the copies is decided when the phone is heard again.
    let mark = server.mark();
    far.boot(&subscribe(&captured, &far));
    let peer = far.address.to_string();
    server.wait_after(mark, "notified", |line| line.is("message", "notified") && line.is("peer", &peer));
    assert_eq!(asked(&server, &far), before + 1);
    far.assert_silent("after copies");

    // Nor after a restart, when the server has forgotten what it has taken. The relay is gone, so that nobody else speaks for the phone.
    drop(relay);
    let server = server.kill().start().ready();
    between.repeat(|_| {});
    // One after the other: when this is told, those before have been read.
    between.repeat(|bytes| *bytes.last_mut().unwrap() ^= 1);
    not_taken(&server, "changed on its way");
    let beside = handset(&lan, NEAR);
    beside.boot(&subscribe(&Captured::one("05"), &beside));
    notified(&server, &beside, "notified");
    assert_eq!(asked(&server, &far), 0);
    far.assert_silent("after copies to another run");
}
