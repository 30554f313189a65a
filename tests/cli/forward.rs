use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use provost_tests::Plan;

use crate::site::{Site, defaults, device, plan, rename_over, serve};

/// A phone on the loopback interface, at an address of its own there.
struct Phone {
    socket: UdpSocket,
    address: Ipv4Addr,
}

/// What it was answered.
#[derive(Debug, Default)]
struct Answered {
    codes: BTreeSet<String>,
    /// Bodies of the NOTIFYs.
    urls: BTreeSet<String>,
}

impl Phone {
    fn at(address: Ipv4Addr) -> Phone {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        // What goes to the group goes out at the loopback interface.
        socket2::SockRef::from(&socket).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
        Phone { socket, address }
    }

    /// Announces itself, and hears what comes until there are a 200 and a NOTIFY, in either order, or the patience is at its end.
    fn announce(&self, port: u16, mac: &str, event: &str, patience: Duration) -> Answered {
        let (ip, own) = (self.address, self.socket.local_addr().unwrap().port());
        let number = own as u32 * 7;
        let subscribe = format!(
            "SUBSCRIBE sip:MAC%3A{mac}@224.0.1.75 SIP/2.0\r\n\
             Via: SIP/2.0/UDP {ip}:{own};branch=z9hG4bK{number};rport\r\n\
             From: <sip:MAC%3A{mac}@224.0.1.75>;tag={number}\r\n\
             To: <sip:MAC%3A{mac}@224.0.1.75>\r\n\
             Call-ID: {number}@{ip}\r\n\
             CSeq: 1 SUBSCRIBE\r\n\
             Contact: <sip:{mac}@{ip}:{own}>\r\n\
             Max-Forwards: 70\r\n\
             Expires: 0\r\n\
             Event: ua-profile;profile-type=\"device\"{event}\r\n\
             Accept: application/url\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let group = SocketAddrV4::new(Ipv4Addr::new(224, 0, 1, 75), port);
        let mut answered = Answered::default();
        let mut buffer = [0; 4096];
        let until = Instant::now() + patience;
        let mut sent = Instant::now() - Duration::from_secs(1);
        while Instant::now() < until && (answered.urls.is_empty() || answered.codes.is_empty()) {
            if sent.elapsed() >= Duration::from_millis(500) {
                self.socket.send_to(subscribe.as_bytes(), group).unwrap();
                sent = Instant::now();
            }
            self.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let Ok((len, from)) = self.socket.recv_from(&mut buffer) else { continue };
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            if let Some(code) = head.strip_prefix("SIP/2.0 ") {
                answered.codes.insert(code[..3].to_owned());
            } else if head.starts_with("NOTIFY ") {
                assert!(head.contains("application/url"), "{head}");
                answered.urls.insert(body.trim_end().to_owned());
                let kept = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
                let kept = head.lines().filter(|line| kept.iter().any(|name| line.starts_with(name)));
                let ok: String = kept.map(|line| format!("{line}\r\n")).collect();
                self.socket
                    .send_to(format!("SIP/2.0 200 OK\r\n{ok}Content-Length: 0\r\n\r\n").as_bytes(), from)
                    .unwrap();
            }
        }
        answered
    }

    fn is_told(&self, port: u16, mac: &str, event: &str, url: &str) {
        let answered = self.announce(port, mac, event, Duration::from_secs(10));
        assert!(answered.codes.contains("200"), "{answered:?}");
        assert_eq!(answered.urls, BTreeSet::from([url.to_owned()]));
    }

    fn is_told_nothing(&self, port: u16, mac: &str, event: &str) {
        let answered = self.announce(port, mac, event, Duration::from_millis(1200));
        assert!(answered.codes.is_empty() && answered.urls.is_empty(), "{answered:?}");
    }
}

const DESK: &str = ";vendor=\"acme\";model=\"Desk\";version=\"1.2\"";

/// A plan that hears phones on the loopback interface, at a port of its own.
fn hearing(settings: &str) -> (Plan, u16) {
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let settings = format!("pnp: {{ interfaces: [lo], port: {port}, listen: udp }}\n{settings}");
    (plan().file("provost.yaml", settings), port)
}

fn notified(site: &Site, url: &str) {
    site.wait_for("outcome of the NOTIFY", |line| line.is("message", "notified") && line.is("url", url));
}

#[test]
fn with_one_url_for_all_every_phone_is_told_it_and_nothing_is_served() {
    let (plan, port) = hearing("");
    let site = serve(plan.flags(["--url", "http://pbx.example/{vendor}/{mac}.cfg?m={model}&M={MAC}&v={firmware}"]));
    let phone = Phone::at(Ipv4Addr::LOCALHOST);
    // Known or not, with a plugin or without.
    let url = "http://pbx.example/acme/02acde000001.cfg?m=Desk&M=02ACDE000001&v=1.2";
    phone.is_told(port, "02acde000001", DESK, url);
    notified(&site, url);
    let event = ";vendor=\"Nobody & Sons\";model=\"X 1\";version=\"9/8\"";
    let url = "http://pbx.example/Nobody%20%26%20Sons/020000000009.cfg?m=X%201&M=020000000009&v=9%2F8";
    phone.is_told(port, "020000000009", event, url);
    // A phone that does not say what the URL needs cannot be told one.
    phone.is_told_nothing(port, "020000000008", ";vendor=\"acme\"");
    assert!(site.is_shut());
}

#[test]
fn a_vendor_or_a_network_is_sent_elsewhere_and_the_others_are_served_here() {
    let (plan, port) = hearing(
        "public_url: http://provost.example/\n\
         forward:\n\
         \x20 - { url: 'http://berlin.example/{mac}', network: 127.9.0.0/16 }\n\
         \x20 - { url: 'tftp://other.example/{MAC}.xml', vendor: Other }\n",
    );
    let site = serve(plan.file("plugins/other/vendor.yaml", OTHER));
    let (here, berlin) = (Phone::at(Ipv4Addr::LOCALHOST), Phone::at(Ipv4Addr::new(127, 9, 0, 1)));
    here.is_told(port, "02acde000001", DESK, "http://provost.example/acme-02acde000001.cfg");
    berlin.is_told(port, "02acde000001", DESK, "http://berlin.example/02acde000001");
    here.is_told(port, "020744000001", ";vendor=\"OTHER\"", "tftp://other.example/020744000001.xml");
    // By its MAC alone.
    here.is_told(port, "020744000002", "", "tftp://other.example/020744000002.xml");
    here.is_told_nothing(port, "02acde0000ff", DESK);
    // The rest of the server serves as ever, and the settings are read again like everything else.
    assert!(!site.is_shut() && site.get("acme-02acde000001.cfg").status == 200);
    let mark = site.mark();
    let settings = std::fs::read_to_string(site.path("provost.yaml")).unwrap();
    rename_over(&site.path("provost.yaml"), settings.replace("berlin.example", "hamburg.example"));
    site.wait_after(mark, "reload", |line| line.is("message", "reloaded"));
    berlin.is_told(port, "02acde000002", DESK, "http://hamburg.example/02acde000002");
    rename_over(&site.path("profiles/site.yaml"), defaults("x.example") + &device(0xff, "x"));
    site.until("a new phone", "acme-02acde0000ff.cfg", |answer| answer.status == 200);
    here.is_told(port, "02acde0000ff", DESK, "http://provost.example/acme-02acde0000ff.cfg");
}

const OTHER: &str = "\
vendor: Other
announces: [other]
ouis: ['020744']
files: []
formats: {}
announce: { url: '{base}' }
";
