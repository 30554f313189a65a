//! Phones against a small responder on loopback: what they send, what they take, and that a lossy network does not stop them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use provost_phone::{Algorithm, Challenge, Door, Failure, Fleet, Options, Outcome, Phone, Proof, Scheme, Status};
use provost_plugin::spec::Simulation;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};

fn kind(more: &str) -> Simulation {
    let yaml = format!(
        r#"
model: M1
firmware: 1.2.3
oui: 02005E
subscribe: |
  SUBSCRIBE sip:MAC%3a{{MAC}}@224.0.1.75 SIP/2.0
  Via: SIP/2.0/UDP {{ip}}:{{port}};branch=z9hG4bK{{number}};rport
  From: <sip:MAC%3a{{MAC}}@224.0.1.75>;tag={{number}}
  To: <sip:MAC%3a{{MAC}}@224.0.1.75>
  Call-ID: {{number}}@{{ip}}
  CSeq: 1 SUBSCRIBE
  Contact: <sip:{{ip}}:{{port}}>
  Event: ua-profile;profile-type="device";vendor="acme";model="{{model}}";version="{{firmware}}"
  Expires: 0
  Accept: application/url
  Content-Length: 0
user_agent: acme {{model}} {{firmware}} {{MAC:colons}}
fetch: [common.cfg, '{{mac}}.cfg']
retry: 0.1
{more}"#
    );
    serde_yaml::from_str(&yaml).expect("a simulation")
}

/// What the responder does with a SUBSCRIBE, beside what it always does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Proper,
    /// NOTIFY only.
    NoAnswer,
    /// The NOTIFY first, the 200 behind it.
    NotifyFirst,
    /// This status and nothing more.
    Only(u16),
    /// Nothing for the first so many.
    DeafFor(u32),
    /// A NOTIFY that lacks what a strict phone wants.
    Careless,
    /// After the 200 to the NOTIFY comes an order to fetch again, once.
    Orders,
}

/// Where a responder is heard, what it was asked, and its tasks, which end with it.
struct Responder {
    group: SocketAddrV4,
    http: SocketAddrV4,
    tftp: SocketAddrV4,
    asked: Arc<Mutex<Vec<String>>>,
    heard: Arc<AtomicU32>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Loses every fifth packet in each direction, in an order that looks random and is always the same.
struct Loss(Option<AtomicU32>);

impl Loss {
    fn takes(&self) -> bool {
        let Some(state) = &self.0 else { return false };
        let next = |x: u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let drawn = state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).expect("always a next");
        (drawn >> 16) % 5 == 0
    }
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!("bound to 127.0.0.1"),
    }
}

type Files = BTreeMap<String, Vec<u8>>;

fn files(files: &[(&str, &str)]) -> Files {
    files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

/// In `url` and in the files `{http}` and `{tftp}` stand for where the responder listens.
async fn respond(manner: Manner, url: &str, files: Files, lossy: bool) -> Responder {
    let loss = Arc::new(Loss(lossy.then(|| AtomicU32::new(7))));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::new(AtomicU32::new(0));
    let sip = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tftp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let places = [sip.local_addr(), http.local_addr(), tftp.local_addr()].map(|place| v4(place.unwrap()));
    let fill = |text: &str| text.replace("{http}", &places[1].to_string()).replace("{tftp}", &places[2].to_string());
    let url = fill(url);
    let files = files.into_iter().map(|(name, body)| (name, fill(&String::from_utf8(body).unwrap()).into_bytes()));
    let files = Arc::new(files.collect::<Files>());
    let tasks = vec![
        tokio::spawn(serve_sip(sip, manner, url, Arc::clone(&heard), Arc::clone(&loss))),
        tokio::spawn(serve_http(http, Arc::clone(&files), Arc::clone(&asked))),
        tokio::spawn(serve_tftp(tftp, files, Arc::clone(&asked), loss)),
    ];
    Responder { group: places[0], http: places[1], tftp: places[2], asked, heard, tasks }
}

fn header<'a>(message: &'a str, name: &str) -> &'a str {
    message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
}

async fn serve_sip(socket: UdpSocket, manner: Manner, url: String, heard: Arc<AtomicU32>, loss: Arc<Loss>) {
    let mut buffer = [0; 2048];
    let mut ordered = false;
    let port = socket.local_addr().unwrap().port();
    loop {
        let (length, phone) = socket.recv_from(&mut buffer).await.unwrap();
        if loss.takes() {
            continue;
        }
        let message = std::str::from_utf8(&buffer[..length]).unwrap().to_owned();
        if message.starts_with("SIP/2.0 200") {
            if manner == Manner::Orders && !ordered {
                ordered = true;
                let order = format!(
                    "NOTIFY sip:{phone} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port}\r\nFrom: <sip:pbx>\r\nTo: <sip:phone>\r\n\
                     Call-ID: order\r\nCSeq: 1 NOTIFY\r\nEvent: check-sync;reboot=false\r\nContent-Length: 0\r\n\r\n"
                );
                socket.send_to(order.as_bytes(), phone).await.unwrap();
            }
            continue;
        }
        let count = heard.fetch_add(1, Ordering::Relaxed) + 1;
        let [via, from, to, call, cseq, contact] =
            ["Via", "From", "To", "Call-ID", "CSeq", "Contact"].map(|name| header(&message, name));
        let via = via.replace(";rport", &format!(";rport={}", phone.port()));
        let status = if let Manner::Only(status) = manner { status } else { 200 };
        let answer = format!(
            "SIP/2.0 {status} X\r\nVia: {via}\r\nFrom: {from}\r\nTo: {to};tag=srv\r\nCall-ID: {call}\r\nCSeq: {cseq}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let target = contact.trim_matches(['<', '>']);
        let mut notify = format!(
            "NOTIFY {target} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKn{call}\r\nMax-Forwards: 70\r\n\
             Contact: <sip:127.0.0.1:{port}>\r\nFrom: {to};tag=srv\r\nTo: {from}\r\nCall-ID: {call}\r\nCSeq: 1 NOTIFY\r\n\
             Event: ua-profile\r\nContent-Type: application/url\r\nSubscription-State: terminated;reason=timeout\r\n\
             Content-Length: {}\r\n\r\n{url}",
            url.len()
        );
        if manner == Manner::Careless {
            notify = notify.replace("Max-Forwards: 70\r\n", "").replace("application/url", "text/plain");
        }
        let packets = match manner {
            Manner::DeafFor(number) if count <= number => vec![],
            Manner::NoAnswer => vec![notify],
            Manner::NotifyFirst => vec![notify, answer],
            Manner::Only(_) => vec![answer],
            _ => vec![answer, notify],
        };
        for packet in packets {
            if !loss.takes() {
                socket.send_to(packet.as_bytes(), phone).await.unwrap();
            }
        }
    }
}

async fn serve_http(listener: TcpListener, files: Arc<Files>, asked: Arc<Mutex<Vec<String>>>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 1024];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let length = stream.read(&mut buffer).await.unwrap();
            request.extend_from_slice(&buffer[..length]);
        }
        let request = String::from_utf8(request).unwrap();
        let name = request.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
        asked.lock().unwrap().push(format!("http {name} {}", header(&request, "User-Agent")));
        let (status, body) = files.get(&name).map_or(("404 Not Found", &[][..]), |body| ("200 OK", body));
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    }
}

async fn serve_tftp(socket: UdpSocket, files: Arc<Files>, asked: Arc<Mutex<Vec<String>>>, loss: Arc<Loss>) {
    let mut buffer = [0; 1024];
    loop {
        let (length, phone) = socket.recv_from(&mut buffer).await.unwrap();
        if loss.takes() {
            continue;
        }
        let texts: Vec<String> =
            buffer[2..length].split(|&byte| byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
        let body = files.get(&texts[0]).cloned();
        asked.lock().unwrap().push(format!("tftp {}", texts[..texts.len() - 1].join(" ")));
        let loss = Arc::clone(&loss);
        tokio::spawn(async move {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let Some(body) = body else {
                if !loss.takes() {
                    socket.send_to(b"\0\x05\0\x01no such file\0", phone).await.unwrap();
                }
                return;
            };
            let oack =
                [b"\0\x06tsize\0", body.len().to_string().as_bytes(), b"\0blksize\0", texts[5].as_bytes(), b"\0"]
                    .concat();
            let size: usize = texts[5].parse().unwrap();
            let mut packets = vec![oack];
            packets.extend((0..=body.len() / size).map(|index| {
                let end = body.len().min((index + 1) * size);
                [&[0, 3][..], &((index + 1) as u16).to_be_bytes(), &body[index * size..end]].concat()
            }));
            for (index, packet) in packets.iter().enumerate() {
                for _ in 0..40 {
                    if !loss.takes() {
                        socket.send_to(packet, phone).await.unwrap();
                    }
                    let mut buffer = [0; 64];
                    let wait = tokio::time::timeout(Duration::from_millis(40), socket.recv_from(&mut buffer));
                    if let Ok(Ok((4, _))) = wait.await
                        && !loss.takes()
                        && buffer[..4] == [&[0, 4][..], &(index as u16).to_be_bytes()].concat()
                    {
                        break;
                    }
                }
            }
        });
    }
}

fn options(responder: &Responder) -> Options {
    Options {
        source: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0),
        group: responder.group,
        patience: Duration::from_millis(600),
        fetch_pause: Duration::from_millis(50),
        boot_pause: Duration::from_millis(10),
        ..Options::default()
    }
}

async fn run(kind: &Simulation, options: Options) -> Outcome {
    Phone::new(kind, provost_phone::mac(kind, 0xaabbcc).unwrap(), options).run().await
}

const OWN: &str = "02005eaabbcc.cfg";

#[tokio::test]
async fn a_phone_is_told_a_directory_and_fetches_its_files_in_order() {
    let responder =
        respond(Manner::Proper, " http://{http}/\r\n", files(&[("common.cfg", "c"), (OWN, "own")]), false).await;
    let outcome = run(&kind(""), options(&responder)).await;
    assert!(outcome.configured, "{outcome:?}");
    assert_eq!((outcome.answered, outcome.announced, outcome.notifies), (Some(200), 1, 1));
    assert_eq!(outcome.notified.as_deref(), Some(format!("http://{}/", responder.http).as_str()));
    assert_eq!(outcome.file(OWN).unwrap().text(), "own");
    assert_eq!(outcome.file(OWN).unwrap().content_type.as_deref(), Some("text/plain"));
    assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
    let agent = "acme M1 1.2.3 02:00:5E:AA:BB:CC";
    assert_eq!(*responder.asked.lock().unwrap(), [format!("http common.cfg {agent}"), format!("http {OWN} {agent}")]);
}

#[tokio::test]
async fn a_notify_is_taken_before_and_without_an_answer() {
    for manner in [Manner::NoAnswer, Manner::NotifyFirst, Manner::DeafFor(3)] {
        let responder = respond(manner, "http://{http}/{mac}.cfg", files(&[(OWN, "own")]), false).await;
        let outcome = run(&kind(""), options(&responder)).await;
        assert!(outcome.configured, "{manner:?}: {outcome:?}");
        assert_eq!(outcome.files.len(), 1, "a file URL is fetched as it is, its macro filled");
        assert_eq!(outcome.announced, if manner == Manner::DeafFor(3) { 4 } else { 1 });
    }
}

#[tokio::test]
async fn a_phone_stops_at_a_2xx_or_5xx_and_takes_a_4xx_for_nothing() {
    for (status, sent) in [(200, 1), (202, 1), (500, 1), (403, 5)] {
        let responder = respond(Manner::Only(status), "", Files::new(), false).await;
        let outcome = run(&kind(""), options(&responder)).await;
        assert_eq!(outcome.announced, sent, "{status}");
        assert_eq!(responder.heard.load(Ordering::Relaxed), sent);
        match (status, outcome.error.unwrap()) {
            (200 | 202, Failure::Unnotified { code }) => assert_eq!(code, status),
            (500, Failure::Refused { code: 500 }) | (403, Failure::Unheard { sent: 5 }) => {}
            (_, error) => panic!("{status}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_phone_that_was_not_heard_boots_again_with_a_new_number() {
    let responder = respond(Manner::DeafFor(2), "http://{http}/{mac}.cfg", files(&[(OWN, "own")]), false).await;
    let outcome = run(&kind("tries: 2"), Options { boots: 3, ..options(&responder) }).await;
    assert!(outcome.configured);
    assert_eq!((outcome.boots, outcome.announced), (2, 3));
}

#[tokio::test]
async fn what_a_strict_phone_would_refuse_is_reported_and_does_not_stop_this_one() {
    let responder = respond(Manner::Careless, "http://{http}/{mac}.cfg", files(&[(OWN, "own")]), false).await;
    let outcome = run(&kind(""), options(&responder)).await;
    assert!(outcome.configured);
    let rules: Vec<_> = outcome.findings.iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, ["NOTIFY: a header is missing", "NOTIFY: Content-Type is not application/url"]);
}

#[tokio::test]
async fn references_are_followed_once_each_and_in_their_place() {
    let texts = [
        (OWN, "include:config \"a.cfg\"\ninclude:config \"http://{http}/b.cfg\"\ninclude:config \"a.cfg\""),
        ("a.cfg", "include:config \"02005eaabbcc.cfg\""),
        ("b.cfg", "b"),
    ];
    let responder = respond(Manner::Proper, "http://{http}/", files(&texts), false).await;
    let outcome = run(&kind("follow: 'include:config \"(.+)\"'"), options(&responder)).await;
    let asked: Vec<_> = outcome.files.iter().map(|file| file.url.path.as_str()).collect();
    assert_eq!(asked, ["/common.cfg", "/02005eaabbcc.cfg", "/a.cfg", "/b.cfg"]);
    assert_eq!(outcome.file("b.cfg").unwrap().text(), "b");
}

#[tokio::test]
async fn the_first_that_exists_can_be_enough() {
    let responder = respond(Manner::Proper, "http://{http}/", files(&[(OWN, "own"), ("common.cfg", "c")]), false).await;
    let outcome = run(&kind("first_only: true"), options(&responder)).await;
    assert_eq!(outcome.files.len(), 1);
    assert!(!outcome.configured, "the common file alone does not configure a phone that has one of its own");
    assert!(matches!(outcome.error, Some(Failure::Unconfigured { .. })), "{:?}", outcome.error);
    let printed = outcome.to_string();
    assert!(printed.contains("not configured after") && printed.contains("common.cfg 1 bytes"), "{printed}");
}

#[tokio::test]
async fn tftp_asks_as_phones_do_and_takes_files_of_every_length() {
    for length in [1, 511, 512, 513, 70_000] {
        let own: String = "x".repeat(length);
        let responder = respond(Manner::Proper, "tftp://{tftp}", files(&[(OWN, &own)]), false).await;
        let outcome = run(&kind(""), options(&responder)).await;
        assert!(outcome.configured, "{outcome:?}");
        assert_eq!(outcome.file(OWN).unwrap().bytes, length);
        assert_eq!(outcome.files[0].status, Status::Refused { code: 1, message: "no such file".into() });
        assert_eq!(responder.asked.lock().unwrap()[1], format!("tftp {OWN} octet tsize 0 blksize 512 timeout 1"));
    }
}

#[tokio::test]
async fn block_numbers_roll_over() {
    let own = "y".repeat(8 * 70_000);
    let responder = respond(Manner::Proper, "tftp://{tftp}/{mac}.cfg", files(&[(OWN, &own)]), false).await;
    let outcome = run(&kind(""), Options { block_size: 8, ..options(&responder) }).await;
    assert_eq!(outcome.file(OWN).unwrap().bytes, own.len(), "{:?}", outcome.files[0].status);
}

#[tokio::test]
async fn a_door_can_be_forced() {
    let responder = respond(Manner::Proper, "http://127.0.0.1:1/", files(&[(OWN, "own")]), false).await;
    let outcome = run(
        &kind(""),
        Options { door: Door::Over { scheme: Scheme::Tftp, port: responder.tftp.port() }, ..options(&responder) },
    )
    .await;
    assert!(outcome.configured);
    assert!(responder.asked.lock().unwrap().iter().all(|asked| asked.starts_with("tftp ")));
    let outcome = run(
        &kind(""),
        Options { door: Door::Over { scheme: Scheme::Http, port: responder.http.port() }, ..options(&responder) },
    )
    .await;
    assert!(outcome.configured);
}

#[tokio::test]
async fn a_known_url_needs_no_announcement() {
    let responder = respond(Manner::Only(500), "", files(&[(OWN, "own")]), false).await;
    let url = Some(format!("http://{}/{OWN}", responder.http));
    let outcome = run(&kind(""), Options { url, ..options(&responder) }).await;
    assert!(outcome.configured);
    assert_eq!(outcome.announced, 0);
}

#[tokio::test]
async fn a_configured_phone_obeys_an_order_to_fetch_again() {
    let responder = respond(Manner::Orders, "http://{http}/", files(&[(OWN, "own")]), false).await;
    let outcome = run(&kind(""), Options { resyncs: 1, ..options(&responder) }).await;
    assert_eq!(outcome.resyncs.len(), 1);
    assert_eq!(outcome.resyncs[0].event, "check-sync;reboot=false");
    assert!(outcome.resyncs[0].files.iter().any(|file| file.is_found()));
}

#[tokio::test]
async fn a_phone_that_challenges_does_not_obey_who_does_not_answer() {
    let responder = respond(Manner::Orders, "http://{http}/", files(&[(OWN, "own")]), false).await;
    let password = provost_plugin::model::Secret::new("s");
    let challenge = Some(Challenge { user: "101".into(), password, algorithm: Algorithm::Sha256 });
    let stay = Duration::from_millis(500);
    let outcome = run(&kind(""), Options { resyncs: 1, stay, challenge, ..options(&responder) }).await;
    assert!(outcome.configured, "the NOTIFY with the URL is not challenged");
    assert!(outcome.resyncs.is_empty());
    let challenged: Vec<_> = outcome.challenged.iter().map(|order| (order.event.as_str(), &order.proof)).collect();
    assert_eq!(challenged, [("check-sync;reboot=false", &Proof::None)]);
}

#[tokio::test]
async fn the_contact_may_have_a_port_of_its_own() {
    let responder = respond(Manner::Proper, "http://{http}/", files(&[(OWN, "own")]), false).await;
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let outcome = run(&kind(""), Options { contact_port: Some(free), ..options(&responder) }).await;
    assert!(outcome.configured);
    assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
}

#[tokio::test]
async fn a_useless_url_is_an_error_in_words() {
    for url in ["ftp://x/", "", "http://a b/"] {
        let responder = respond(Manner::Proper, url, Files::new(), false).await;
        let outcome = run(&kind(""), options(&responder)).await;
        assert!(matches!(outcome.error, Some(Failure::Url { .. })), "{url}: {:?}", outcome.error);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_ends_configured_though_a_fifth_of_all_packets_is_lost_each_way() {
    let mut content = files(&[("common.cfg", "c")]);
    let kind = kind("");
    let mut fleet = Fleet {
        kinds: vec![kind.clone(), kind],
        phones: 60,
        first: 1,
        sources: (1..=4).map(|last| Ipv4Addr::new(127, 0, 0, last)).collect(),
        at_once: 20,
        options: Options::default(),
    };
    for (mac, _) in fleet.members().unwrap() {
        content.insert(format!("{}.cfg", mac.bare()), vec![b'z'; 5000]);
    }
    let responder = respond(Manner::Proper, "tftp://{tftp}/", content, true).await;
    // The responder sends its NOTIFY once, as no server should: a phone that misses it has to boot again.
    fleet.options = Options { boots: 12, ..options(&responder) };
    let mut heard = 0;
    let report = fleet.run(|_| heard += 1).await.unwrap();
    assert!(report.is_complete(), "{report:#?}");
    assert_eq!((heard, report.phones, report.files), (60, 60, 120));
    assert!(report.announced > 60, "the loss was not felt");
    assert!(report.quantile(0.5) <= report.quantile(1.0));
    assert_eq!(report.quantile(1.0), report.slowest.as_ref().map(|slowest| slowest.elapsed));
    assert!(report.to_string().starts_with("60 of 60 phones configured in "), "{report}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["configured"], 60);
}

#[tokio::test]
async fn a_fleet_counts_its_failures_by_reason() {
    let responder = respond(Manner::Only(403), "", Files::new(), false).await;
    let options = Options { tries: Some(1), ..options(&responder) };
    let options = Options { patience: Duration::from_millis(50), ..options };
    let fleet = Fleet { kinds: vec![kind("")], phones: 3, first: 0, sources: vec![], at_once: 3, options };
    let report = fleet
        .run(|outcome| assert!(serde_json::to_string(outcome).unwrap().contains("02:00:5e:00:00:0")))
        .await
        .unwrap();
    assert_eq!(report.failures, BTreeMap::from([("neither an answer nor a NOTIFY".to_owned(), 3)]));
}
