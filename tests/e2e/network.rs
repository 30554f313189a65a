//! The network changes under a serving server: addresses and interfaces come, go and move, and phones notice nothing of it.

use std::net::{Ipv4Addr, SocketAddrV4};

use provost_tests::{Host, Lan, Plan, Seat, Server, receive, tools};

use crate::wire::{Captured, Handset, decided, notified, subscribe};

const PHONE: &str = "02";

/// A server that knows one phone, however it is reached.
fn serve(lan: &Lan, settings: &str) -> Server {
    start(lan, settings).ready()
}

fn start(lan: &Lan, settings: &str) -> Server {
    let mac = Captured::one(PHONE).mac;
    let inventory = format!("devices:\n  \"{mac}\": {{ lines: [{{ number: 100, password: secret-100 }}] }}\n");
    Plan::on(lan.server()).file("profiles/site.yaml", inventory).file("provost.yaml", settings).start()
}

/// Boots the phone from this address, and fetches what it is told over both doors. `local` is where it all has to come from.
fn boot(server: &Server, host: &Host, address: Ipv4Addr, local: Ipv4Addr) {
    let captured = Captured::one(PHONE);
    let handset = Handset::at(host, address, 0);
    let (url, from) = handset.boot(&subscribe(&captured, &handset));
    assert_eq!(*from.ip(), local);
    notified(server, &handset, "notified");
    assert!(url.starts_with(&format!("http://{local}:8080/")), "{url}");
    let mut curl = host.command(tools::require("curl"));
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "10", "--interface", &address.to_string(), &url]);
    let over_http = tools::feed(&mut curl, b"").unwrap_or_else(|error| panic!("{error}"));
    assert!(
        String::from_utf8_lossy(&over_http).contains(&local.to_string()),
        "the base URL in it is that of the address"
    );
    let over_tftp = tftp(host, address, local, url.rsplit('/').next().unwrap());
    assert_eq!(String::from_utf8_lossy(&over_http), String::from_utf8_lossy(&over_tftp), "over TFTP as over HTTP");
}

/// Reads a file over TFTP, and cares from where it comes: strict phones do.
pub(crate) fn tftp(host: &Host, address: Ipv4Addr, server: Ipv4Addr, name: &str) -> Vec<u8> {
    let socket = host.udp((address, 0));
    socket.send_to(format!("\0\x01{name}\0octet\0").as_bytes(), (server, 69)).unwrap();
    let mut file = Vec::new();
    let mut buffer = [0; 1024];
    for block in 1.. {
        let (length, from) =
            receive(&socket, &mut buffer).unwrap_or_else(|error| panic!("no {name} from {server}: {error}"));
        assert_eq!(from.ip(), server);
        let [high, low] = u16::to_be_bytes(block);
        assert_eq!(&buffer[..4], [0, 3, high, low], "{}", String::from_utf8_lossy(&buffer[..length]));
        file.extend_from_slice(&buffer[4..length]);
        socket.send_to(&[0, 4, high, low], from).unwrap();
        if length < 516 {
            break;
        }
    }
    file
}

fn serves_at(server: &Server, mark: usize, address: Ipv4Addr) {
    let address = format!("{address}:69");
    server.wait_after(mark, &format!("TFTP at {address}"), |line| {
        line.is("message", "TFTP serves") && line.is("address", &address)
    });
}

fn stops_at(server: &Server, mark: usize, address: Ipv4Addr) {
    let address = address.to_string();
    server.wait_after(mark, &format!("end of TFTP at {address}"), |line| {
        line.is("message", "TFTP stops") && line.is("address", &address)
    });
}

fn joins(server: &Server, mark: usize, interface: &str, what: &str) {
    server.wait_after(mark, &format!("{what} {interface}"), |line| {
        line.is("message", &format!("{what} the group")) && line.is("interface", interface)
    });
}

#[test]
fn an_interface_that_comes_is_served_and_one_that_goes_takes_nothing_with_it() {
    let mut lan = Lan::with(&[0], &[0, 1]);
    let server = serve(&lan, "");
    let (first, stays) = (lan.server().address(), lan.phone(0).address());
    boot(&server, lan.phone(0), stays, first);

    let mark = server.mark();
    let second = lan.plug(Seat::Server, 1);
    joins(&server, mark, &second.name, "joined");
    serves_at(&server, mark, second.address);
    boot(&server, lan.phone(1), lan.phone(1).address(), second.address);

    // It goes while a NOTIFY that went out by it is still to be answered.
    let waiting = Handset::at(lan.phone(1), lan.phone(1).address(), 0);
    waiting.subscribe(&subscribe(&Captured::one(PHONE), &waiting));
    waiting.hear_both();
    let mark = server.mark();
    lan.unplug(Seat::Server, &second.name);
    joins(&server, mark, &second.name, "left");
    stops_at(&server, mark, second.address);
    boot(&server, lan.phone(0), stays, first);

    // And comes back with another name and address, where the phone still listens.
    let mark = server.mark();
    let third = lan.plug(Seat::Server, 1);
    assert_ne!((&third.name, third.address), (&second.name, second.address));
    joins(&server, mark, &third.name, "joined");
    serves_at(&server, mark, third.address);
    boot(&server, lan.phone(1), lan.phone(1).address(), third.address);
}

#[test]
fn an_interface_that_is_given_another_address_tells_phones_that_one() {
    let mut lan = Lan::new(1);
    let server = serve(&lan, "");
    let old = lan.server().address();
    let phone = lan.phone(0).address();
    boot(&server, lan.phone(0), phone, old);
    let new = Ipv4Addr::new(10, 200, 77, 77);
    let mark = server.mark();
    lan.server_mut().readdress("eth0", new);
    serves_at(&server, mark, new);
    stops_at(&server, mark, old);
    boot(&server, lan.phone(0), phone, new);
}

#[test]
fn an_interface_that_goes_down_and_up_is_heard_again() {
    let lan = Lan::new(1);
    let server = serve(&lan, "");
    let (local, phone) = (lan.server().address(), lan.phone(0).address());
    boot(&server, lan.phone(0), phone, local);
    let mark = server.mark();
    lan.server().set_up("eth0", false);
    joins(&server, mark, "eth0", "left");
    let mark = server.mark();
    lan.server().set_up("eth0", true);
    joins(&server, mark, "eth0", "joined");
    serves_at(&server, mark, local);
    boot(&server, lan.phone(0), phone, local);
}

#[test]
fn of_two_subnets_on_one_interface_each_phone_is_answered_from_its_own() {
    let lan = Lan::new(2);
    let server = serve(&lan, "");
    let (first, second) = (lan.server().address(), Ipv4Addr::new(192, 168, 77, 1));
    // The second comes while it serves.
    let mark = server.mark();
    lan.server().ip("address add 192.168.77.1/24 broadcast + dev eth0");
    serves_at(&server, mark, second);
    lan.phone(1).ip("address add 192.168.77.10/24 broadcast + dev eth0");
    boot(&server, lan.phone(0), lan.phone(0).address(), first);
    boot(&server, lan.phone(1), Ipv4Addr::new(192, 168, 77, 10), second);
    let mark = server.mark();
    lan.server().ip("address del 192.168.77.1/24 dev eth0");
    stops_at(&server, mark, second);
    boot(&server, lan.phone(0), lan.phone(0).address(), first);
}

#[test]
fn only_the_interfaces_that_are_named_are_heard_also_when_they_come_later() {
    let mut lan = Lan::with(&[0], &[0, 1]);
    let server = start(&lan, "pnp: { interfaces: [eth1, eth7] }\n");
    let serving = server.wait_for("doors", |line| line.is("message", "serving"));
    assert!(serving.field("doors").as_str().unwrap().contains("no interface yet"), "{serving:?}");
    let mark = server.mark();
    let second = lan.plug(Seat::Server, 1);
    joins(&server, mark, "eth1", "joined");
    boot(&server, lan.phone(1), lan.phone(1).address(), second.address);
    let unheard = Handset::at(lan.phone(0), lan.phone(0).address(), 5060);
    unheard.subscribe(&Captured::one(PHONE).message.bytes);
    boot(&server, lan.phone(1), lan.phone(1).address(), second.address);
    unheard.assert_silent("on an interface that is not named");
    let peer = unheard.address.to_string();
    assert!(server.log().iter().all(|line| !line.is("peer", &peer)));
}

#[test]
fn a_network_that_has_a_url_of_its_own_is_told_that_one() {
    let lan = Lan::with(&[0, 1], &[0, 1]);
    let server = serve(&lan, "networks: [{ cidr: 10.201.0.0/16, public_url: 'https://phones.example.net/p' }]\n");
    boot(&server, lan.phone(0), lan.phone(0).address(), lan.server().address());
    let captured = Captured::one(PHONE);
    let handset = Handset::at(lan.phone(1), lan.phone(1).address(), 0);
    let (url, from) = handset.boot(&subscribe(&captured, &handset));
    assert!(url.starts_with("https://phones.example.net/p/"), "{url}");
    assert_eq!(from, SocketAddrV4::new(lan.server().interfaces()[1].address, from.port()));
    decided(&server, &handset, "announced");
}

/// The SUBSCRIBE that AudioCodes' manual prints: no vendor, and no MAC anywhere.
fn nameless(phone: Ipv4Addr, call: u32) -> Vec<u8> {
    format!(
        "SUBSCRIBE sip:224.0.1.75:5060 SIP/2.0\r\nFrom: <sip:00000001@{phone}:5060>;tag=1c{call}\r\nTo: <sip:224.0.1.75:5060>\r\n\
         Call-ID: {call}\r\nCSeq: 1 SUBSCRIBE\r\nVia: SIP/2.0/UDP {phone}:5060;rport;branch=z9hG4bK-{call}\r\nExpires: 0\r\n\
         Event: ua-profile;profile-type=\"application\";model=\"420HD\";version=\"1.2.1_build_6\"\r\nMax-Forwards: 70\r\n\
         Accept: application/url\r\nContact: <sip:00000001@{phone}:5060>\r\nUser-Agent: AUDC-IPPhone/1.2.1_build_6\r\n\
         Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

#[test]
fn a_phone_that_does_not_say_its_mac_is_known_by_its_neighbour_entry() {
    let lan = Lan::new(2);
    let mac_of = |index: usize| {
        let mut ip = lan.phone(index).command(tools::require("ip"));
        let shown =
            tools::feed(ip.args(["-json", "link", "show", &lan.phone(index).interfaces()[0].name]), b"").unwrap();
        let links: serde_json::Value = serde_json::from_slice(&shown).unwrap();
        links[0]["address"].as_str().unwrap().to_owned()
    };
    let inventory = format!(
        "devices:\n  \"{}\":\n    identity: {{ vendor: audiocodes }}\n    lines: [{{ number: 100, password: secret-100 }}]\n",
        mac_of(0)
    );
    let server = Plan::on(lan.server()).file("profiles/site.yaml", inventory).start().ready();
    let handset = Handset::at(lan.phone(0), lan.phone(0).address(), 5060);
    // The first makes the kernel ask who is there; such phones repeat themselves for five seconds.
    handset.subscribe(&nameless(lan.phone(0).address(), 1));
    let answered = loop {
        handset.subscribe(&nameless(lan.phone(0).address(), 1));
        if let Some((first, from)) = handset.hear_within(std::time::Duration::from_millis(500)) {
            break (first, handset.hear().0, from);
        }
    };
    let (one, other, from) = answered;
    let notify = if one.is_notify() { one } else { other };
    handset.accept(&notify, from);
    assert!(notify.body.starts_with(&format!("http://{}:8080/", lan.server().address())), "{notify:?}");
    let line = server.wait_for("announced", |line| line.is("message", "subscribe") && line.is("outcome", "announced"));
    assert!(line.is("device", &mac_of(0)), "{}", line.text);
    // Its neighbour is in no inventory, and hears nothing.
    let stranger = Handset::at(lan.phone(1), lan.phone(1).address(), 5060);
    stranger.subscribe(&nameless(lan.phone(1).address(), 2));
    decided(&server, &stranger, "silence");
    stranger.assert_silent("a phone that nobody knows");
}
