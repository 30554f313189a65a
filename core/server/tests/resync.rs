//! Phones that are told something when they did not ask: approved while they wait, and ordered to fetch again. The real desk and the
//! real exchange on loopback, and a phone played by hand; 127.0.0.0/8 has room for a host per test.

use std::{
    collections::HashMap,
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use md5::{Digest, Md5};
use provost_fleet::{Fleet, Happening};
use provost_host::{Limits, Shelf};
use provost_plugin::{MacAddr, model::Identity};
use provost_server::{
    dispatch::Dispatch,
    pnp::{
        exchange::{
            Again, Announcement, Announcer, Counters, Exchange, Heard, NotNotified, Outcome, REMEMBERED, Wanted,
            reply_socket,
        },
        interfaces,
        listener::{Came, Datagram},
        resync::{NotResynced, Resync, Resynced},
    },
    settings::SettingsFile,
    world::World,
};
use sha2::Sha256;
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
};

const VENDOR: &str = "
vendor: Acme
evidence: hearsay
announces: [acme]
ouis: ['02005E']
models: { M1: { lines: 2 }, M2: { family: other } }
families: { other: { resync: { event: resync, reboot_event: restart } } }
files: [{ name: '{mac}.cfg', template: device.cfg.j2 }]
formats: { cfg: { escape: line, content_type: text/plain } }
announce: { url: '{base}' }
resync: { event: check-sync, reboot_event: 'check-sync;reboot=true' }
";
const LINES: &str = "
      - { number: 101, auth_username: auth-101, password: secret-101, server: pbx.example.net }
      - { number: 102, password: secret-102, server: pbx.example.net, domain: other.example.net }";

fn mac() -> MacAddr {
    "02:00:5e:00:00:01".parse().unwrap()
}

/// A data directory with one vendor, and the desk over it.
struct Site {
    directory: tempfile::TempDir,
    dispatch: Arc<Dispatch>,
}

impl Site {
    /// Knows the phone from the start.
    fn with_phone() -> Site {
        let site = Site::empty();
        site.approve();
        site
    }

    fn empty() -> Site {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("plugins/acme/vendor.yaml", VENDOR),
            ("templates/acme/device.cfg.j2", "label={{ phone.lines[0].number }}\n"),
            ("profiles/site.yaml", "devices: {}\n"),
        ] {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let dispatch = Dispatch::new(world(directory.path()));
        Site { directory, dispatch }
    }

    fn approve(&self) {
        let text = format!("devices:\n  \"{}\":\n    identity: {{ vendor: acme }}\n    lines: {LINES}\n", mac());
        fs::write(self.directory.path().join("profiles/site.yaml"), text).unwrap();
        self.dispatch.replace(world(self.directory.path()));
    }

    /// The phone announces itself to the desk, which has nothing to do with how that is answered.
    async fn hear(&self, phone: &Phone, model: &str) {
        let identity = Identity {
            mac: Some(mac()),
            vendor: Some("acme".into()),
            model: Some(model.into()),
            ..Identity::default()
        };
        let heard = Heard {
            identity,
            from: phone.address,
            contact: phone.address,
            interface: "lo".into(),
            local: Ipv4Addr::LOCALHOST,
            relay: None,
            again: false,
        };
        self.dispatch.announce(heard).await;
    }

    async fn fetch_again(&self) -> Result<Resynced, NotResynced> {
        self.dispatch.resync(mac(), Resync::Fetch).await
    }

    fn happenings(&self) -> Vec<Happening> {
        let record = self.dispatch.registry.by_mac(mac());
        record.map(|record| record.events.into_iter().map(|event| event.what).collect()).unwrap_or_default()
    }

    /// Waits until this has happened, which something else is about to make happen.
    async fn wait_for(&self, what: impl Fn(&Happening) -> bool) {
        for _ in 0..1_000_000 {
            if self.happenings().iter().any(&what) {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("it did not happen: {:?}", self.happenings());
    }
}

fn world(directory: &std::path::Path) -> World {
    let file = SettingsFile { data: Some(directory.to_owned()), ..SettingsFile::default() };
    let file =
        SettingsFile { templates: Some(directory.join("templates")), plugins: vec![directory.join("plugins")], ..file };
    let settings = file.settle(None).unwrap();
    let (shelf, problems) = Shelf::build(&settings.places(), None, Limits::default(), None);
    assert!(problems.is_empty(), "{problems:?}");
    let (fleet, problems) = Fleet::read(&settings.profiles, None);
    assert!(problems.is_empty(), "{problems:?}");
    World {
        settings: Arc::new(settings),
        fleet: Arc::new(fleet),
        books: Arc::default(),
        images: Arc::default(),
        shelf: Arc::new(shelf),
        tokens: Arc::new(provost_server::tokens::Tokens::for_show()),
        tls: Arc::default(),
        made: Arc::default(),
        held: HashMap::default(),
        troubles: std::collections::BTreeMap::default(),
    }
}

/// A phone's socket.
struct Phone {
    socket: UdpSocket,
    address: SocketAddrV4,
}

/// What it hears, taken apart.
struct Request {
    text: String,
    from: SocketAddr,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no {name} in {}", self.text))
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn answer(&self, status: &str, more: &str) -> String {
        let echoed = ["Via", "From", "To", "Call-ID", "CSeq"].map(|name| format!("{name}: {}\r\n", self.header(name)));
        format!("SIP/2.0 {status}\r\n{}{more}Content-Length: 0\r\n\r\n", echoed.concat())
    }

    /// A parameter of its answer to a challenge.
    fn said(&self, name: &str) -> &str {
        let header = self.header("Authorization").strip_prefix("Digest ").expect("a digest");
        let found = header.split(", ").find_map(|parameter| parameter.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {name} in {header}")).trim_matches('"')
    }

    /// What its answer ought to be, by RFC 2617 and the hash that was asked for.
    fn expected(&self, password: &str, hash: fn(String) -> String) -> String {
        let uri = self.text.split(' ').nth(1).unwrap();
        assert_eq!(self.said("uri"), uri, "it is the request's own");
        let ha1 = hash(format!("{}:{}:{password}", self.said("username"), self.said("realm")));
        let ha2 = hash(format!("NOTIFY:{uri}"));
        let [nonce, count, cnonce] = ["nonce", "nc", "cnonce"].map(|name| self.said(name));
        hash(format!("{ha1}:{nonce}:{count}:{cnonce}:auth:{ha2}"))
    }
}

fn md5(text: String) -> String {
    format!("{:x}", Md5::digest(text))
}

fn sha256(text: String) -> String {
    format!("{:x}", Sha256::digest(text))
}

impl Phone {
    /// On a host that no other test has.
    async fn at(host: u8, port: u16) -> Phone {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 77, host), port)).await.unwrap();
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else { panic!("it is of IPv4") };
        Phone { socket, address }
    }

    async fn hear(&self) -> Request {
        let mut buffer = [0; 4096];
        let (length, from) = self.socket.recv_from(&mut buffer).await.unwrap();
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        assert!(!text.contains("secret-"), "no password goes out: {text}");
        Request { text, from }
    }

    async fn say(&self, text: &str, to: SocketAddr) {
        self.socket.send_to(text.as_bytes(), to).await.unwrap();
    }

    async fn answer(&self, request: &Request, status: &str, more: &str) {
        self.say(&request.answer(status, more), request.from).await;
    }

    /// Answers a NOTIFY with 401 and returns the next one.
    async fn challenge(&self, request: &Request, parameters: &str) -> Request {
        let asked = format!("WWW-Authenticate: Digest {parameters}\r\n");
        self.answer(request, "401 Unauthorized", &asked).await;
        let next = self.hear().await;
        assert_eq!(next.header("Call-ID"), request.header("Call-ID"));
        assert_ne!(next.header("Via"), request.header("Via"), "a new transaction");
        let number = |request: &Request| request.header("CSeq").split(' ').next().unwrap().parse::<u32>().unwrap();
        assert_eq!(number(&next), number(request) + 1);
        next
    }

    fn subscribe(&self, call: &str, model: &str) -> Vec<u8> {
        let Phone { address, .. } = self;
        format!(
            "SUBSCRIBE sip:MAC%3a{mac}@224.0.1.75 SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bK{call};rport\r\n\
             From: <sip:MAC%3a{mac}@224.0.1.75>;tag=1\r\nTo: <sip:MAC%3a{mac}@224.0.1.75>\r\nCall-ID: {call}\r\n\
             CSeq: 1 SUBSCRIBE\r\nContact: <sip:{address}>\r\nExpires: 0\r\nAccept: application/url\r\n\
             Event: ua-profile;profile-type=\"device\";vendor=\"acme\";model=\"{model}\";version=\"1\"\r\nContent-Length: 0\r\n\r\n",
            mac = mac().bare()
        )
        .into_bytes()
    }
}

// ---- Orders.

#[tokio::test]
async fn a_phone_is_told_to_fetch_again_and_says_that_it_will() {
    let (site, phone) = (Site::with_phone(), Phone::at(1, 0).await);
    site.hear(&phone, "M1").await;
    let play = async {
        let notify = phone.hear().await;
        assert!(notify.text.starts_with(&format!("NOTIFY sip:101@{} SIP/2.0\r\n", phone.address)), "{}", notify.text);
        assert_eq!(notify.header("Event"), "check-sync");
        assert_eq!(notify.header("CSeq"), "1 NOTIFY");
        assert_eq!(notify.header("Subscription-State"), "terminated");
        assert_eq!(notify.find("Authorization"), None);
        assert!(notify.header("Via").starts_with(&format!("SIP/2.0/UDP {};branch=z9hG4bK", notify.from)));
        phone.answer(&notify, "100 Trying", "").await;
        phone.answer(&notify, "200 OK", "").await;
    };
    let (told, ()) = tokio::join!(site.fetch_again(), play);
    let told = told.unwrap();
    assert_eq!((told.event.as_str(), told.status, told.from, told.line), ("check-sync", 200, phone.address, None));
    let said = [Happening::Ordered { event: "check-sync".into() }, Happening::OrderAnswered { code: 200 }];
    assert_eq!(site.happenings()[1..], said);

    // Afterwards it is watched.
    assert_eq!(site.dispatch.since(mac(), told.ordered), Default::default());
    let file = format!("{}.cfg", mac().bare());
    let request = provost_server::request::ConfigRequest {
        path: file.clone(),
        user_agent: None,
        peer: SocketAddr::V4(phone.address),
        local: "127.0.0.1:80".parse().unwrap(),
        door: provost_server::request::Door::Http,
        proof: Default::default(),
    };
    provost_server::request::Desk::fetch(&*site.dispatch, request).await;
    let seen = site.dispatch.since(mac(), told.ordered);
    assert!(!seen.announced);
    assert!(
        matches!(&seen.fetched[..], [event] if matches!(&event.what, Happening::Fetched { file: name, .. } if *name == file))
    );
    site.hear(&phone, "M1").await;
    assert!(site.dispatch.since(mac(), told.ordered).announced);
    assert_eq!(site.dispatch.since(mac(), SystemTime::now() + Duration::from_secs(1)), Default::default());
}

#[tokio::test]
async fn each_family_is_told_in_its_own_words() {
    let (site, phone) = (Site::with_phone(), Phone::at(2, 0).await);
    site.hear(&phone, "M2").await;
    let play = async {
        let notify = phone.hear().await;
        assert_eq!(notify.header("Event"), "restart");
        phone.answer(&notify, "202 Accepted", "").await;
    };
    let (told, ()) = tokio::join!(site.dispatch.resync(mac(), Resync::Reboot), play);
    assert_eq!(told.unwrap().status, 202);
}

#[tokio::test]
async fn a_phone_that_wants_to_know_who_speaks_is_told_by_digest() {
    for (host, algorithm, hash) in [(3, "MD5", md5 as fn(String) -> String), (4, "SHA-256", sha256)] {
        let (site, phone) = (Site::with_phone(), Phone::at(host, 0).await);
        site.hear(&phone, "M1").await;
        let play = async {
            let asked = format!("realm=\"phone\", nonce=\"n1\", algorithm={algorithm}, qop=\"auth\", opaque=\"o\"");
            let first = phone.hear().await;
            let again = phone.challenge(&first, &asked).await;
            assert_eq!((again.said("username"), again.said("algorithm")), ("auth-101", algorithm));
            assert_eq!(again.said("response"), again.expected("secret-101", hash));
            phone.answer(&again, "200 OK", "").await;
        };
        let (told, ()) = tokio::join!(site.fetch_again(), play);
        assert_eq!(told.unwrap().line, Some(1));
    }
}

#[tokio::test]
async fn the_line_whose_domain_the_realm_names_comes_before_the_first() {
    let (site, phone) = (Site::with_phone(), Phone::at(5, 0).await);
    site.hear(&phone, "M1").await;
    let play = async {
        let asked = phone.hear().await;
        let again = phone.challenge(&asked, "realm=\"OTHER.example.net\", nonce=\"n\", qop=\"auth\"").await;
        assert_eq!(again.said("username"), "102");
        assert_eq!(again.said("response"), again.expected("secret-102", md5));
        phone.answer(&again, "200 OK", "").await;
    };
    let (told, ()) = tokio::join!(site.fetch_again(), play);
    assert_eq!(told.unwrap().line, Some(2));
}

#[tokio::test]
async fn a_nonce_may_grow_old_once_and_wrong_credentials_are_named() {
    let (site, phone) = (Site::with_phone(), Phone::at(6, 0).await);
    site.hear(&phone, "M1").await;
    let asked = "realm=\"phone\", nonce=\"n1\", qop=\"auth\"";
    let stale = "realm=\"phone\", nonce=\"n2\", qop=\"auth\", stale=true";

    let play = async {
        let first = phone.hear().await;
        let second = phone.challenge(&first, asked).await;
        let third = phone.challenge(&second, stale).await;
        assert_eq!(third.said("nonce"), "n2");
        assert_eq!(third.said("response"), third.expected("secret-101", md5));
        phone.answer(&third, "200 OK", "").await;
    };
    let (told, ()) = tokio::join!(site.fetch_again(), play);
    assert_eq!(told.unwrap().status, 200);

    for last in [asked, stale] {
        let play = async {
            let mut notify = phone.hear().await;
            notify = phone.challenge(&notify, asked).await;
            if last == stale {
                notify = phone.challenge(&notify, stale).await;
            }
            phone.answer(&notify, "401 Unauthorized", &format!("WWW-Authenticate: Digest {last}\r\n")).await;
        };
        let (told, ()) = tokio::join!(site.fetch_again(), play);
        let refused = told.unwrap_err();
        assert!(matches!(refused, NotResynced::CredentialsRefused { line: 1, .. }), "{refused}");
        assert!(refused.to_string().starts_with("the phone refuses the credentials of line 1 (realm \"phone\")"));
        let Some(Happening::OrderFailed { reason }) = site.happenings().pop() else { panic!("a failed order") };
        assert!(reason.starts_with("the phone refuses the credentials of line 1"), "{reason}");
    }
}

#[tokio::test]
async fn a_password_is_not_given_away_in_the_clear() {
    let (site, phone) = (Site::with_phone(), Phone::at(7, 0).await);
    site.hear(&phone, "M1").await;
    let play = async {
        let notify = phone.hear().await;
        phone.answer(&notify, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"phone\"\r\n").await;
    };
    let (told, ()) = tokio::join!(site.fetch_again(), play);
    let refused = told.unwrap_err().to_string();
    assert!(refused.contains("it asks for Basic"), "{refused}");
}

#[tokio::test]
async fn a_refusal_is_told_with_what_it_means() {
    let (site, phone) = (Site::with_phone(), Phone::at(8, 0).await);
    site.hear(&phone, "M1").await;
    for (status, meaning) in [("489 Bad Event", "does not know this event"), ("481 No", "within a subscription")] {
        let play = async { phone.answer(&phone.hear().await, status, "").await };
        let (told, ()) = tokio::join!(site.fetch_again(), play);
        let refused = told.unwrap_err().to_string();
        assert!(refused.contains(status) && refused.contains(meaning), "{refused}");
        let code = status[..3].parse().unwrap();
        assert_eq!(site.happenings().last(), Some(&Happening::OrderAnswered { code }));
    }
}

#[tokio::test]
async fn nobody_else_answers_in_the_phones_place() {
    let (site, phone, other) = (Site::with_phone(), Phone::at(9, 0).await, Phone::at(10, 0).await);
    site.hear(&phone, "M1").await;
    let elsewhere = Phone::at(9, 0).await;
    let play = async {
        let notify = phone.hear().await;
        other.say(&notify.answer("200 OK", ""), notify.from).await;
        // Nor does an answer to something else count, whoever gives it.
        phone.say(&notify.answer("200 OK", "").replace("1 NOTIFY", "1 OPTIONS"), notify.from).await;
        let foreign = notify.answer("200 OK", "").replace("z9hG4bK", "z9hG4bKx").replace("1 NOTIFY", "7 NOTIFY");
        phone.say(&foreign, notify.from).await;
        phone.say("rubbish", notify.from).await;
        // But the phone's own word does, from whichever port.
        elsewhere.answer(&notify, "489 Bad Event", "").await;
    };
    let (told, ()) = tokio::join!(site.fetch_again(), play);
    assert!(
        matches!(told, Err(NotResynced::Refused { status: 489, from, .. }) if from == elsewhere.address),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_phone_is_told_so_often_and_no_longer() {
    let (site, phone) = (Site::with_phone(), Phone::at(11, 0).await);
    let usual = Phone::at(11, 5060).await;
    site.hear(&phone, "M1").await;
    let began = tokio::time::Instant::now();
    let silent = site.fetch_again().await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 32);
    let NotResynced::TimedOut { tried } = &silent else { panic!("{silent}") };
    assert_eq!(*tried, [phone.address, usual.address]);
    // At 0, 0.5, 1.5, 3.5, 7.5 s and then every 4 s: to its Contact and to the usual port in turns.
    let mut heard = [0, 0];
    for (heard, phone) in heard.iter_mut().zip([&phone, &usual]) {
        while phone.socket.try_recv(&mut [0; 4096]).is_ok() {
            *heard += 1;
        }
    }
    assert_eq!(heard, [6, 5]);
    assert!(
        matches!(site.happenings().last(), Some(Happening::OrderFailed { reason }) if reason.starts_with("no answer"))
    );
}

#[tokio::test]
async fn a_phone_that_never_announced_itself_is_told_where_it_fetched_from() {
    let (site, usual) = (Site::with_phone(), Phone::at(12, 5060).await);
    let sighting = provost_fleet::Sighting {
        identity: Identity { mac: Some(mac()), ..Identity::default() },
        door: "http",
        announced: false,
        address: Some((*usual.address.ip()).into()),
        interface: None,
        local: None,
        relay: None,
        at: SystemTime::now(),
    };
    site.dispatch.registry.observe(sighting, provost_fleet::State::Known);
    let play = async { usual.answer(&usual.hear().await, "200 OK", "").await };
    let (told, ()) = tokio::join!(site.fetch_again(), play);
    assert_eq!(told.unwrap().from, usual.address);
}

#[tokio::test]
async fn a_phone_is_told_one_thing_at_a_time() {
    let (site, phone) = (Site::with_phone(), Phone::at(13, 0).await);
    site.hear(&phone, "M1").await;
    let play = async {
        let notify = phone.hear().await;
        assert!(matches!(site.fetch_again().await, Err(NotResynced::UnderWay)));
        phone.answer(&notify, "200 OK", "").await;
    };
    let (told, ()) = tokio::join!(site.fetch_again(), play);
    told.unwrap();
    // Whoever goes away before the answer leaves the phone free for the next.
    let mut leaving = Box::pin(site.fetch_again());
    tokio::select! {
        biased;
        _ = &mut leaving => panic!("nobody answered"),
        notify = phone.hear() => drop(notify),
    }
    drop(leaving);
    assert!(
        matches!(site.happenings().last(), Some(Happening::OrderFailed { reason }) if reason.contains("did not wait"))
    );
    let play = async { phone.answer(&phone.hear().await, "200 OK", "").await };
    let (told, ()) = tokio::join!(site.fetch_again(), play);
    told.unwrap();
}

#[tokio::test]
async fn who_is_not_ours_or_was_never_seen_is_not_told() {
    let site = Site::empty();
    assert!(matches!(site.fetch_again().await, Err(NotResynced::Unknown(_))));
    site.approve();
    assert!(matches!(site.fetch_again().await, Err(NotResynced::Unseen)));
    assert!(site.happenings().is_empty());
}

// ---- Approval.

/// The exchange of a site, running; datagrams come from the test instead of from the group.
struct Door {
    heard: mpsc::Sender<Datagram>,
    _stop: watch::Sender<bool>,
    _network: watch::Sender<Vec<interfaces::Interface>>,
    lo: u32,
}

fn open<A: Announcer>(announcer: &Arc<A>) -> (Door, mpsc::Sender<Again>) {
    let network = interfaces::list().unwrap();
    let lo = network.iter().find(|interface| interface.name == "lo").expect("there is always a loopback").index;
    let (sender, network) = watch::channel(network);
    let socket = reply_socket(0, 0).unwrap();
    // From one address, as no building of phones asks.
    let wanted = Wanted { per_source: 0, ..Wanted::default() };
    let exchange = Exchange::new(Arc::clone(announcer), socket, network, Arc::new(Counters::default())).unwrap();
    let exchange = exchange.wanting(wanted);
    let wishes = exchange.wishes();
    let (heard, datagrams) = mpsc::channel(16);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(exchange.run(datagrams, stopped));
    (Door { heard, _stop: stop, _network: sender, lo }, wishes)
}

impl Site {
    fn open(&self) -> Door {
        let (door, wishes) = open(&self.dispatch);
        self.dispatch.connect(wishes);
        door
    }
}

impl Door {
    async fn hear(&self, phone: &Phone, bytes: Vec<u8>) {
        self.heard.send(Datagram { bytes, from: phone.address, came: Came::Here(self.lo) }).await.unwrap();
    }
}

#[tokio::test]
async fn a_phone_that_waits_is_answered_the_moment_it_is_approved() {
    let (site, phone) = (Site::empty(), Phone::at(20, 0).await);
    let door = site.open();
    door.hear(&phone, phone.subscribe("one", "M1")).await;
    site.wait_for(|what| matches!(what, Happening::Refused { .. })).await;
    // It boots again, and it is this conversation that it waits in.
    door.hear(&phone, phone.subscribe("two", "M1")).await;
    site.wait_for(|_| site.happenings().len() == 2).await;
    let refused = site.dispatch.notify_again(mac()).await.unwrap_err();
    let NotNotified::Silence { reason } = &refused else { panic!("{refused}") };
    assert!(reason.contains("is not in the inventory"), "{reason}");
    assert!(phone.socket.try_recv(&mut [0; 1]).is_err(), "who is not approved hears nothing");

    let sightings = site.dispatch.registry.by_mac(mac()).unwrap().sightings;
    site.approve();
    let play = async {
        let (ok, notify) = (phone.hear().await, phone.hear().await);
        assert!(ok.text.starts_with("SIP/2.0 200 OK\r\n"), "{}", ok.text);
        assert_eq!((ok.header("Call-ID"), ok.header("CSeq")), ("two", "1 SUBSCRIBE"));
        assert_eq!(notify.header("Call-ID"), "two");
        phone.answer(&notify, "200 OK", "").await;
        notify.text.rsplit("\r\n").next().unwrap().to_owned()
    };
    let (told, url) = tokio::join!(site.dispatch.notify_again(mac()), play);
    let told = told.unwrap();
    assert_eq!((told.status, told.to, &told.url), (200, phone.address, &url));
    assert!(url.starts_with("http://127.0.0.1:8080/"), "{url}");
    assert_eq!(site.dispatch.registry.by_mac(mac()).unwrap().sightings, sightings, "it has not spoken again");
    assert_eq!(site.happenings().last(), Some(&Happening::NotifyAnswered { code: 200 }));

    assert_eq!(site.dispatch.notify_again(mac()).await, Err(NotNotified::Answered { status: 200 }));
}

#[tokio::test(start_paused = true)]
async fn for_a_quarter_of_an_hour_a_phone_need_not_ask_again() {
    let (site, phone) = (Site::empty(), Phone::at(21, 0).await);
    let door = site.open();
    door.hear(&phone, phone.subscribe("one", "M1")).await;
    site.wait_for(|what| matches!(what, Happening::Refused { .. })).await;
    site.approve();
    tokio::time::sleep(REMEMBERED - Duration::from_secs(1)).await;
    // It is told till the end, also if it does not want it then.
    let play = async {
        phone.hear().await;
        phone.answer(&phone.hear().await, "489 Bad Event", "").await;
    };
    let (told, ()) = tokio::join!(site.dispatch.notify_again(mac()), play);
    assert_eq!(told, Err(NotNotified::Refused { status: 489, reason: "Bad Event".into() }));
    // The exchange has forgotten that after half a minute; the registry, by the clock on the wall, has not.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(site.dispatch.notify_again(mac()).await, Err(NotNotified::Answered { status: 489 }));
}

#[tokio::test(start_paused = true)]
async fn after_a_quarter_of_an_hour_it_has_to() {
    let (site, phone) = (Site::empty(), Phone::at(24, 0).await);
    assert_eq!(site.dispatch.notify_again(mac()).await, Err(NotNotified::Deaf));
    let door = site.open();
    assert_eq!(site.dispatch.notify_again(mac()).await, Err(NotNotified::Unheard));
    door.hear(&phone, phone.subscribe("one", "M1")).await;
    site.wait_for(|what| matches!(what, Happening::Refused { .. })).await;
    site.approve();
    tokio::time::sleep(REMEMBERED + Duration::from_secs(1)).await;
    let forgotten = site.dispatch.notify_again(mac()).await.unwrap_err();
    assert_eq!(forgotten, NotNotified::Unheard);
    assert!(forgotten.to_string().contains("in the last 15 minutes"), "{forgotten}");
    // When it does, it is answered as ever, and who asks meanwhile hears what comes of that.
    door.hear(&phone, phone.subscribe("one", "M1")).await;
    let play = async {
        phone.hear().await;
        let notify = phone.hear().await;
        let (told, ()) = tokio::join!(site.dispatch.notify_again(mac()), phone.answer(&notify, "200 OK", ""));
        assert_eq!(told.unwrap().status, 200);
    };
    play.await;
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_did_not_take_its_notify_can_be_told_again() {
    let (site, phone) = (Site::with_phone(), Phone::at(22, 0).await);
    let door = site.open();
    door.hear(&phone, phone.subscribe("one", "M1")).await;
    site.wait_for_long(|what| matches!(what, Happening::NotifyTimedOut { .. })).await;
    while phone.socket.try_recv(&mut [0; 4096]).is_ok() {}
    let play = async {
        phone.hear().await;
        phone.answer(&phone.hear().await, "200 OK", "").await;
    };
    let (told, ()) = tokio::join!(site.dispatch.notify_again(mac()), play);
    assert_eq!(told.unwrap().status, 200);
}

impl Site {
    /// The same where the clock has to move on for it.
    async fn wait_for_long(&self, what: impl Fn(&Happening) -> bool) {
        for _ in 0..10_000 {
            if self.happenings().iter().any(&what) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it did not happen: {:?}", self.happenings());
    }
}

/// A desk that takes its time, and has another opinion after a change.
struct Slow {
    asked: watch::Sender<usize>,
    may_answer: tokio::sync::Semaphore,
    epoch: AtomicU64,
}

impl Announcer for Slow {
    async fn announce(&self, heard: Heard) -> Announcement {
        self.asked.send_modify(|asked| *asked += 1);
        if heard.again {
            return Announcement::Url("http://127.0.0.1/x".into());
        }
        self.may_answer.acquire().await.unwrap().forget();
        Announcement::Silence { reason: "not yet".into() }
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    fn outcome(&self, _: Option<MacAddr>, _: SocketAddrV4, _: &str, _: Outcome) {}
}

#[tokio::test]
async fn an_approval_that_comes_while_the_desk_still_ponders_is_not_lost() {
    let (asked, mut is_asked) = watch::channel(0);
    let desk = Arc::new(Slow { asked, may_answer: tokio::sync::Semaphore::new(0), epoch: AtomicU64::new(0) });
    let (door, wishes) = open(&desk);
    let phone = Phone::at(25, 0).await;
    door.hear(&phone, phone.subscribe("one", "M1")).await;
    is_asked.wait_for(|asked| *asked == 1).await.unwrap();
    desk.epoch.store(1, Ordering::Relaxed);
    let (told, outcome) = tokio::sync::oneshot::channel();
    wishes.send(Again { mac: mac(), told }).await.unwrap();
    // The exchange has taken the wish once it takes another.
    let (told, other) = tokio::sync::oneshot::channel();
    wishes.send(Again { mac: MacAddr::new([2; 6]), told }).await.unwrap();
    assert_eq!(other.await.unwrap(), Err(NotNotified::Unheard));
    desk.may_answer.add_permits(1);
    phone.hear().await;
    let notify = phone.hear().await;
    assert!(notify.text.ends_with("http://127.0.0.1/x"), "{}", notify.text);
    phone.answer(&notify, "200 OK", "").await;
    assert_eq!(outcome.await.unwrap().unwrap().status, 200);
}

/// A desk that answers nobody, and says when it has been asked so often.
struct Mute(watch::Sender<usize>);

impl Announcer for Mute {
    async fn announce(&self, _: Heard) -> Announcement {
        self.0.send_modify(|asked| *asked += 1);
        Announcement::Silence { reason: "mute".into() }
    }

    fn epoch(&self) -> u64 {
        0
    }

    fn outcome(&self, _: Option<MacAddr>, _: SocketAddrV4, _: &str, _: Outcome) {}
}

#[tokio::test]
async fn strangers_by_the_ten_thousand_push_out_those_that_have_waited_longest() {
    let (asked, mut answered) = watch::channel(0);
    let (door, wishes) = open(&Arc::new(Mute(asked)));
    let phone = Phone::at(23, 0).await;
    let number = |number: u32| {
        let [.., a, b, c] = number.to_be_bytes();
        MacAddr::new([0x02, 0, 0x5e, a, b, c])
    };
    const PHONES: u32 = 65_536 + 100;
    for index in 0..PHONES {
        let bytes = String::from_utf8(phone.subscribe(&index.to_string(), "M1")).unwrap();
        door.hear(&phone, bytes.replace(&mac().bare().to_string(), &number(index).bare().to_string()).into_bytes())
            .await;
    }
    answered.wait_for(|asked| *asked == PHONES as usize).await.unwrap();
    let ask = async |mac| {
        let (told, outcome) = tokio::sync::oneshot::channel();
        wishes.send(Again { mac, told }).await.unwrap();
        outcome.await.unwrap().unwrap_err()
    };
    assert_eq!(ask(number(0)).await, NotNotified::Unheard, "the first is the one that was lost");
    assert_eq!(ask(number(99)).await, NotNotified::Unheard);
    let mute = NotNotified::Silence { reason: "mute".into() };
    assert_eq!(ask(number(100)).await, mute);
    assert_eq!(ask(number(PHONES - 1)).await, mute);
}
