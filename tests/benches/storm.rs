//! The power returns: every phone of the building announces itself in the same moment, and fetches its file once it is told where.
//!
//! Phones ask again after 0.5, 1, 2 and 4 s without a NOTIFY, and give up after that. One thread plays all of them, so it has a part in
//! every figure; what it costs is the same for the peers: kamailio, with a receive buffer of 4 MiB, in front of nginx or dnsmasq with the
//! phones' files, written before. Paced, phones come one after the other at an even rate, and ask once.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    fs, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, UdpSocket},
    sync::Semaphore,
    task::LocalSet,
    time::timeout,
};

use crate::{
    Scale, announce,
    figures::{Better, Figures, quantile},
    http, peers,
    running::Running,
    site::{File, GROUP, HTTP, Site, TFTP},
    tftp,
};

const SIP: u16 = 5060;
const AGAIN: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// A phone waits so long for the answer to its last try.
const PATIENCE: Duration = Duration::from_secs(8);
/// Phones that fetch at the same moment; the others wait until they have a place, as they do behind a switch.
const FETCHING: usize = 512;
/// Between two looks at what has come back, so many are sent.
const GULP: usize = 32;
/// The shapes in which the field's phones speak.
const VENDORS: [&str; 4] = ["flyingvoice", "grandstream", "snom", "yealink"];
const BUFFER: &str = "/proc/sys/net/core/rmem_max";
const LARGE: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    None,
    Http,
    Tftp,
    /// Phones take the two in turn.
    Mixed,
}

impl Door {
    fn of(self, phone: usize) -> Door {
        match self {
            Door::Mixed if phone.is_multiple_of(2) => Door::Http,
            Door::Mixed => Door::Tftp,
            other => other,
        }
    }
}

/// When phones come.
#[derive(Clone, Copy, Debug)]
enum Pace {
    AtOnce,
    /// So many in a second.
    Even(f64),
}

pub(crate) fn measure(scale: Scale, figures: &mut Figures) {
    let peers = Peers::find(figures);
    for phones in scale.pick([1_000, 10_000].as_slice(), [1_000].as_slice()) {
        let site = Site::announcing(*phones, |vendor| VENDORS.contains(&vendor));
        let files = site.fetch_all();
        let root = site.lay_out(&files);
        bursts(&site, &files, &peers, scale, figures);
        for (door, what) in [(Door::Http, "over HTTP"), (Door::Tftp, "over TFTP"), (Door::Mixed, "over both")] {
            whole(&site, &files, &root, (door, what), &peers, scale, figures);
        }
        if phones == &1_000 {
            paced(&site, &files, &peers, scale, figures);
        }
    }
}

fn bursts(site: &Site, files: &[File], peers: &Peers, scale: Scale, figures: &mut Figures) {
    let rounds = rounds(site, files, Door::None, scale, || {
        let kamailio = peers.kamailio.as_deref()?;
        Some(vec![announce::relay(site, kamailio, LARGE)])
    });
    for (ours, theirs, whose) in rounds {
        let mut add = |what: &str, unit, better, of: fn(&Storm) -> f64| {
            let what = format!("{} phones{whose} announce themselves at once: {what}", files.len());
            let peer = ("kamailio", theirs.iter().map(of).collect());
            figures.add(what, unit, better, ours.iter().map(of).collect(), Some(peer));
        };
        add("answered", "%", Better::More, |storm| storm.share(storm.answered()));
        add("answered at the first try", "%", Better::More, |storm| storm.share(storm.at_first));
        add("wait, 99 %", "ms", Better::Less, |storm| quantile(&storm.waits, 0.99));
        add("NOTIFYs", "phones/s", Better::More, |storm| storm.answered() as f64 / storm.seconds);
        add("server's processor time", "µs/phone", Better::Less, |storm| {
            storm.processor * 1e6 / storm.answered() as f64
        });
    }
}

/// The storms of ours and of theirs, first of phones that nobody has seen, then of the same once more.
fn rounds(
    site: &Site,
    files: &[File],
    door: Door,
    scale: Scale,
    peers: impl Fn() -> Option<Vec<Running>>,
) -> [(Vec<Storm>, Vec<Storm>, &'static str); 2] {
    let mut rounds = [(Vec::new(), Vec::new(), ""), (Vec::new(), Vec::new(), ", seen before,")];
    for _ in 0..scale.repetitions {
        let servers = [announce::serve(site)];
        for (round, (ours, ..)) in rounds.iter_mut().enumerate() {
            ours.push(storm(site, files, &servers, door, Pace::AtOnce, round));
        }
        drop(servers);
        let Some(servers) = peers() else { continue };
        for (round, (_, theirs, _)) in rounds.iter_mut().enumerate() {
            theirs.push(storm(site, files, &servers, door, Pace::AtOnce, round));
        }
    }
    rounds
}

fn whole(
    site: &Site,
    files: &[File],
    root: &Path,
    (door, what): (Door, &str),
    peers: &Peers,
    scale: Scale,
    figures: &mut Figures,
) {
    let beside = |door| match door {
        Door::Http => "kamailio and nginx",
        Door::Tftp => "kamailio and dnsmasq",
        Door::Mixed | Door::None => "kamailio, nginx and dnsmasq",
    };
    for (ours, theirs, whose) in rounds(site, files, door, scale, || peers.serve(site, root, door)) {
        let mut add = |measure: &str, unit, better, of: fn(&Storm) -> f64| {
            let what = format!("storm of {} phones{whose} {what}: {measure}", files.len());
            let peer = (beside(door), theirs.iter().map(of).collect());
            figures.add(what, unit, better, ours.iter().map(of).collect(), Some(peer));
        };
        add("until the last file", "s", Better::Less, |storm| storm.seconds);
        add("configured", "%", Better::More, |storm| storm.share(storm.configured));
        add("server's processor time", "µs/phone", Better::Less, |storm| storm.processor * 1e6 / storm.phones as f64);
    }
}

/// The highest rate at which nobody has to ask twice; rates grow by a half.
fn paced(site: &Site, files: &[File], peers: &Peers, scale: Scale, figures: &mut Figures) {
    let highest = |start: &dyn Fn() -> Running| {
        let mut best = 0.0;
        for rate in [2e3, 4e3, 6e3, 8e3, 12e3, 16e3, 24e3, 32e3, 48e3] {
            let server = start();
            let storm = storm(site, files, &[server], Door::None, Pace::Even(rate), 0);
            // The generator has to have kept the pace, too.
            if storm.at_first < storm.phones || storm.seconds > 1.2 * storm.phones as f64 / rate {
                break;
            }
            best = rate;
        }
        best
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..scale.pick(3, 1) {
        ours.push(highest(&|| announce::serve(site)));
        if let Some(kamailio) = &peers.kamailio {
            theirs.push(highest(&|| announce::relay(site, kamailio, LARGE)));
        }
    }
    let what = "phones announce themselves at an even pace: highest rate at which nobody asks twice";
    figures.add(what, "phones/s", Better::More, ours, Some(("kamailio", theirs)));
}

/// Those of the peers that are installed.
struct Peers {
    kamailio: Option<PathBuf>,
    nginx: Option<PathBuf>,
    dnsmasq: Option<PathBuf>,
    /// The limit of receive buffers that the machine had before.
    limit: Option<String>,
}

impl Peers {
    fn find(figures: &mut Figures) -> Peers {
        // What a socket may ask for without being privileged; kamailio does not try to be.
        let limit = fs::read_to_string(BUFFER).ok();
        if limit.as_ref().and_then(|limit| limit.trim().parse().ok()).is_some_and(|limit: usize| limit < LARGE)
            && let Err(error) = fs::write(BUFFER, LARGE.to_string())
        {
            figures.note(format!(
                "kamailio has the receive buffer of the machine's limit, for that cannot be raised: {error}"
            ));
        }
        Peers {
            kamailio: peers::find("kamailio", "kamailio", figures),
            nginx: peers::find("nginx", "nginx-light", figures),
            dnsmasq: peers::find("dnsmasq", "dnsmasq-base", figures),
            limit,
        }
    }

    fn serve(&self, site: &Site, root: &Path, door: Door) -> Option<Vec<Running>> {
        let mut servers = vec![announce::relay(site, self.kamailio.as_deref()?, LARGE)];
        if matches!(door, Door::Http | Door::Mixed) {
            servers.push(http::static_files(site, self.nginx.as_deref()?, root));
        }
        if matches!(door, Door::Tftp | Door::Mixed) {
            servers.push(tftp::static_files(site, self.dnsmasq.as_deref()?, root));
        }
        Some(servers)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        if let Some(limit) = &self.limit {
            // It was written by us, so it can be written back.
            let _ = fs::write(BUFFER, limit);
        }
    }
}

/// What came of it.
#[derive(Debug)]
struct Storm {
    phones: usize,
    /// From the first SUBSCRIBE to the last NOTIFY, or the last byte of the last file where files are fetched.
    seconds: f64,
    /// From each phone's first SUBSCRIBE to its NOTIFY, in ms.
    waits: Vec<f64>,
    at_first: usize,
    configured: usize,
    /// Seconds that the servers computed.
    processor: f64,
}

impl Storm {
    fn answered(&self) -> usize {
        self.waits.len()
    }

    fn share(&self, phones: usize) -> f64 {
        100.0 * phones as f64 / self.phones as f64
    }
}

/// `round`: how often these phones have announced themselves to these servers before.
fn storm(site: &Site, files: &[File], servers: &[Running], door: Door, pace: Pace, round: usize) -> Storm {
    let phones = site.lan.phone(0);
    let socket = announce::socket(phones);
    let port = socket.local_addr().expect("it is bound").port();
    let subscribes: Vec<(String, Vec<u8>)> = (site.phones.iter().enumerate())
        .map(|(number, phone)| announce::subscribe(phone, phones.address(), port, round * site.phones.len() + number))
        .collect();
    socket.set_nonblocking(true).expect("it is ours");
    let time = || servers.iter().map(Running::processor_time).sum::<Duration>();
    let before = time();
    let mut storm = phones.block_on(async || {
        let socket = UdpSocket::from_std(socket).expect("a socket of the runtime's");
        LocalSet::new().run_until(run(site, &socket, &subscribes, files, door, pace)).await
    });
    storm.processor = (time() - before).as_secs_f64();
    storm
}

/// A phone between its first SUBSCRIBE and its NOTIFY.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    begun: Instant,
    tries: usize,
}

async fn run(
    site: &Site,
    socket: &UdpSocket,
    subscribes: &[(String, Vec<u8>)],
    files: &[File],
    door: Door,
    pace: Pace,
) -> Storm {
    let group = SocketAddr::from((GROUP, SIP));
    let by_call: HashMap<&str, usize> =
        subscribes.iter().enumerate().map(|(index, (call_id, _))| (call_id.as_str(), index)).collect();
    assert_eq!(by_call.len(), subscribes.len(), "each phone has a Call-ID of its own");
    let server = site.server_address();
    let (places, fetched) = (Rc::new(Semaphore::new(FETCHING)), Rc::new(Cell::new(0)));
    let last = Rc::new(RefCell::new(Instant::now()));
    let files: Rc<[File]> = files.into();

    let mut phones: Vec<Option<Waiting>> = vec![None; subscribes.len()];
    let mut waits = Vec::with_capacity(subscribes.len());
    let mut at_first = 0;
    let mut answered = vec![false; subscribes.len()];
    // Those that ask again, by how often they have asked: in each the first is due first.
    let mut due: [VecDeque<(Instant, usize)>; AGAIN.len()] = Default::default();
    let (mut next, mut spawned) = (0, 0);
    let mut datagram = vec![0; 4096];
    let start = Instant::now();
    // Nobody is left that may still be answered, and whoever was has its file.
    while next < subscribes.len()
        || (waits.len() < subscribes.len() && last.borrow().elapsed() < PATIENCE)
        || fetched.get() < spawned
    {
        let now = Instant::now();
        let come = match pace {
            Pace::AtOnce => subscribes.len(),
            Pace::Even(rate) => ((now - start).as_secs_f64() * rate) as usize + 1,
        };
        let mut idle = true;
        for _ in 0..GULP {
            if next >= come.min(subscribes.len()) {
                break;
            }
            if !send(socket, &subscribes[next].1, group) {
                break;
            }
            let begun = Instant::now();
            phones[next] = Some(Waiting { begun, tries: 1 });
            due[0].push_back((begun + AGAIN[0], next));
            next += 1;
            idle = false;
        }
        for tries in 0..AGAIN.len() {
            while let Some(&(at, phone)) = due[tries].front() {
                if answered[phone] {
                    due[tries].pop_front();
                    continue;
                }
                if at > now || !send(socket, &subscribes[phone].1, group) {
                    break;
                }
                due[tries].pop_front();
                if let Some(waiting) = &mut phones[phone] {
                    waiting.tries += 1;
                }
                if let Some(pause) = AGAIN.get(tries + 1) {
                    due[tries + 1].push_back((now + *pause, phone));
                }
                *last.borrow_mut() = Instant::now();
            }
        }
        while let Ok((length, from)) = socket.try_recv_from(&mut datagram) {
            idle = false;
            let message = std::str::from_utf8(&datagram[..length]).expect("SIP is text");
            if !message.starts_with("NOTIFY ") {
                assert!(message.starts_with("SIP/2.0 200 "), "neither a 200 nor a NOTIFY:\n{message}");
                continue;
            }
            let phone = *announce::header(message, "Call-ID")
                .and_then(|call_id| by_call.get(call_id))
                .expect("a NOTIFY is for a phone");
            let _ = socket.try_send_to(announce::ok(message).as_bytes(), from);
            if std::mem::replace(&mut answered[phone], true) {
                continue;
            }
            let body = message.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
            assert!(body.contains("://"), "a NOTIFY without a URL:\n{message}");
            let waiting = phones[phone].expect("it has asked");
            at_first += usize::from(waiting.tries == 1);
            *last.borrow_mut() = Instant::now();
            waits.push(waiting.begun.elapsed().as_secs_f64() * 1e3);
            if door != Door::None {
                spawned += 1;
                let source = site.sources[phone % site.sources.len()];
                let (places, fetched, last, files) =
                    (Rc::clone(&places), Rc::clone(&fetched), Rc::clone(&last), Rc::clone(&files));
                tokio::task::spawn_local(async move {
                    let _place = places.acquire().await;
                    match door.of(phone) {
                        Door::Tftp => {
                            let again = Cell::new(0);
                            tftp::fetch(SocketAddrV4::new(server, TFTP), source, &files[phone], 512, &again).await;
                        }
                        _ => fetch(SocketAddrV4::new(server, HTTP), source, &files[phone]).await,
                    }
                    fetched.set(fetched.get() + 1);
                    *last.borrow_mut() = Instant::now();
                });
            }
        }
        if idle {
            // Files may come, datagrams, or the time of somebody who has to ask.
            let _ = timeout(Duration::from_millis(1), socket.readable()).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
    let seconds = (*last.borrow() - start).as_secs_f64();
    let configured = if door == Door::None { 0 } else { fetched.get() };
    Storm { phones: subscribes.len(), seconds, waits, at_first, configured, processor: 0.0 }
}

/// Whether it went out; where there is no room it will later.
fn send(socket: &UdpSocket, message: &[u8], to: SocketAddr) -> bool {
    match socket.try_send_to(message, to) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) => panic!("cannot send: {error}"),
    }
}

/// One file, over a connection of its own. Panics at any answer that is not the file.
async fn fetch(server: SocketAddrV4, source: Ipv4Addr, file: &File) {
    let body = get(server, source, &file.name, &file.user_agent).await;
    assert!(body == file.body, "{}: another file came", file.name);
}

/// A file of this name, over a connection of its own. Panics at any answer that is not 200.
pub(crate) async fn get(server: SocketAddrV4, source: Ipv4Addr, name: &str, user_agent: &str) -> Vec<u8> {
    let socket = TcpSocket::new_v4().expect("there are sockets left");
    socket.bind((source, 0).into()).expect("there are ports left");
    let mut stream = socket.connect(server.into()).await.unwrap_or_else(|error| panic!("cannot connect: {error}"));
    let request =
        format!("GET /{name} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: {user_agent}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::with_capacity(4096);
    stream.write_all(request.as_bytes()).await.expect("it is connected");
    stream.read_to_end(&mut answer).await.unwrap_or_else(|error| panic!("cannot fetch {name}: {error}"));
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{name}: {}", String::from_utf8_lossy(&answer));
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head ends") + 4;
    answer.split_off(head)
}
