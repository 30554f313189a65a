//! A long time of everything at once: phones that start and fetch all the while, and somebody who edits what concerns all of them, each
//! second. No peer: what counts is that nothing fails and that memory does not grow.
//!
//! Each second 500 phones announce themselves, in a conversation of their own, and 2,000 files are fetched, over HTTP with a connection
//! each and over TFTP in turn. Each answer is held against what that phone was given at the start, but for what was edited since: with
//! another phone's file, or one that is older than the edit before last, it is an error.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    fs::{self, File as Log},
    io::{Read, Seek, SeekFrom},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use rustix::fs::{FallocateFlags, fallocate};
use tokio::{
    net::UdpSocket,
    task::{LocalSet, spawn_local},
    time::timeout,
};

use crate::{
    announce,
    figures::{Better, Figures, Series, quantile},
    running::Running,
    site::{File, GROUP, HTTP, OFFICE, Site, TFTP},
    storm, tell, tftp,
};

const PHONES: usize = 1_000;
const SIP: u16 = 5060;
/// In a second.
const ANNOUNCEMENTS: f64 = 500.0;
const FETCHES: f64 = 2_000.0;
const AGAIN: Duration = Duration::from_millis(500);
/// Who has asked so often in vain gives up.
const TRIES: usize = 5;
/// A fetch that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(15);
/// Fetches under way at one time; a server that does not keep up has that many phones waiting, and the soak fails by its pace.
const FETCHING: usize = 512;
/// What is edited: a number to dial, that every phone's file may hold. Ten thousand values have the same length.
const DIALLED: &str = "0301234567";
const EDIT: Duration = Duration::from_secs(1);
/// An edit may take so long until it is served.
const SERVED_WITHIN: Duration = Duration::from_secs(2);
const SAMPLE: Duration = Duration::from_secs(5);
/// Tables and pools have their size by then: conversations are forgotten after 36 s.
const SETTLED: Duration = Duration::from_secs(120);

/// So many errors are told in words.
const TOLD: usize = 20;

/// How many errors there were.
pub(crate) fn measure(length: Duration, figures: &mut Figures) -> usize {
    let site = Site::announcing(PHONES, |_| true);
    let files = site.fetch_all();
    let server = announce::serve(&site);
    let socket = announce::socket(site.lan.phone(0));
    socket.set_nonblocking(true).expect("it is ours");
    site.lan.phone(0).block_on(async || {
        let socket = UdpSocket::from_std(socket).expect("a socket of the runtime's");
        let mut soak = Soak::new(&site, &server, &files);
        let begun = server.processor_time();
        LocalSet::new().run_until(soak.run(&socket, length)).await;
        soak.report(length, server.processor_time() - begun, figures)
    })
}

/// What fetches and looks tell each other.
#[derive(Debug, Default)]
struct Tally {
    fetched: Cell<usize>,
    under_way: Cell<usize>,
    waits: RefCell<Waits>,
    errors: RefCell<Vec<String>>,
    failed: Cell<usize>,
    /// Packets that TFTP's phones had to send again.
    again: Cell<usize>,
    /// The edits that were made, the newest last, and when.
    edits: RefCell<Vec<(usize, Instant)>>,
}

impl Tally {
    fn fail(&self, what: String) {
        self.failed.set(self.failed.get() + 1);
        let mut errors = self.errors.borrow_mut();
        if errors.len() < TOLD {
            tell(&format!("error: {what}"));
            errors.push(what);
        }
    }
}

/// How long things took, in classes that lie 2 % apart: an hour's millions are not kept one by one.
#[derive(Debug)]
struct Waits {
    classes: Vec<usize>,
}

impl Default for Waits {
    fn default() -> Waits {
        Waits { classes: vec![0; 1000] }
    }
}

impl Waits {
    /// The shortest that is told apart, in ms.
    const LEAST: f64 = 0.01;

    fn add(&mut self, wait: Duration) {
        let class = (wait.as_secs_f64() * 1e3 / Self::LEAST).max(1.0).ln() / 1.02_f64.ln();
        let class = (class as usize).min(self.classes.len() - 1);
        self.classes[class] += 1;
    }

    /// In ms.
    fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.classes.iter().sum::<usize>() as f64 * share) as usize;
        let mut seen = 0;
        let class = self.classes.iter().position(|count| {
            seen += count;
            seen > wanted
        });
        Self::LEAST * 1.02_f64.powi(class.unwrap_or(self.classes.len()) as i32)
    }
}

/// A phone between its SUBSCRIBE and its NOTIFY.
#[derive(Debug)]
struct Waiting {
    message: Vec<u8>,
    begun: Instant,
    tries: usize,
}

struct Soak<'a> {
    site: &'a Site,
    server: &'a Running,
    /// What each phone was given at the start.
    files: Rc<[File]>,
    tally: Rc<Tally>,
    waiting: HashMap<String, Waiting>,
    due: VecDeque<(Instant, String)>,
    announced: usize,
    asked_again: usize,
    waits: Waits,
    /// Seconds since the start, and MiB.
    memory: Vec<(f64, f64)>,
    served_after: Rc<RefCell<Waits>>,
    log: LogEnd,
    /// Ticks of processor that the host gave to other guests, by [`stolen`].
    stolen: u64,
    /// The longest time in which not even this bench got on.
    pause: Duration,
}

impl<'a> Soak<'a> {
    fn new(site: &'a Site, server: &'a Running, files: &[File]) -> Soak<'a> {
        let log = LogEnd::open(site.work("provost.log"));
        Soak {
            site,
            server,
            files: files.into(),
            tally: Rc::default(),
            waiting: HashMap::new(),
            due: VecDeque::new(),
            announced: 0,
            asked_again: 0,
            waits: Waits::default(),
            memory: Vec::new(),
            served_after: Rc::default(),
            log,
            stolen: stolen(),
            pause: Duration::ZERO,
        }
    }

    async fn run(&mut self, socket: &UdpSocket, length: Duration) {
        let group = SocketAddr::from((GROUP, SIP));
        let start = Instant::now();
        let (mut fetches, mut edit_at, mut sample_at) = (0, start + EDIT, start);
        self.tally.edits.borrow_mut().push((0, start));
        let probe = self.probe();
        let mut datagram = vec![0; 4096];
        let mut before = start;
        loop {
            let now = Instant::now();
            self.pause = self.pause.max(now - before);
            before = now;
            let elapsed = (now - start).as_secs_f64();
            let is_over = now - start >= length;
            if is_over && self.waiting.is_empty() && self.tally.under_way.get() == 0 {
                break;
            }
            if !is_over {
                while (self.announced as f64) < elapsed * ANNOUNCEMENTS {
                    self.announce(socket, group, now).await;
                }
                while (fetches as f64) < elapsed * FETCHES && self.tally.under_way.get() < FETCHING {
                    self.fetch(fetches);
                    fetches += 1;
                }
            }
            if !is_over && now >= edit_at {
                edit_at += EDIT;
                self.edit(probe);
            }
            if now >= sample_at {
                sample_at += SAMPLE;
                self.memory.push((elapsed, self.server.memory("VmRSS")));
                self.log.read(&self.tally);
                if self.memory.len().is_multiple_of(60) {
                    tell(&format!(
                        "after {elapsed:.0} s: {} announced, {fetches} fetched, {} errors, {:.0} MiB",
                        self.announced,
                        self.tally.failed.get(),
                        self.memory[self.memory.len() - 1].1
                    ));
                }
            }
            self.hear(socket, &mut datagram).await;
            self.ask_again(socket, group, now).await;
            let _ = timeout(Duration::from_millis(1), socket.readable()).await;
        }
        self.log.read(&self.tally);
        let behind = length.as_secs_f64() * FETCHES - fetches as f64;
        if behind > FETCHES {
            self.tally.fail(format!("{behind:.0} fetches were never begun: the server does not keep that pace"));
        }
    }

    async fn announce(&mut self, socket: &UdpSocket, group: SocketAddr, now: Instant) {
        let phones = self.site.lan.phone(0).address();
        let port = socket.local_addr().expect("it is bound").port();
        let phone = &self.site.phones[self.announced % self.site.phones.len()];
        let (call_id, message) = announce::subscribe(phone, phones, port, self.announced);
        socket.send_to(&message, group).await.expect("the network is up");
        self.due.push_back((now + AGAIN, call_id.clone()));
        let before = self.waiting.insert(call_id, Waiting { message, begun: now, tries: 1 });
        assert!(before.is_none(), "each boot has a Call-ID of its own");
        self.announced += 1;
    }

    async fn hear(&mut self, socket: &UdpSocket, datagram: &mut [u8]) {
        while let Ok((length, from)) = socket.try_recv_from(datagram) {
            let message = std::str::from_utf8(&datagram[..length]).expect("SIP is text");
            if !message.starts_with("NOTIFY ") {
                if !message.starts_with("SIP/2.0 200 ") {
                    self.tally.fail(format!("neither a 200 nor a NOTIFY: {message}"));
                }
                continue;
            }
            socket.send_to(announce::ok(message).as_bytes(), from).await.expect("the network is up");
            // One that is not waited for has come before.
            let Some(waiting) = announce::header(message, "Call-ID").and_then(|id| self.waiting.remove(id)) else {
                continue;
            };
            self.waits.add(waiting.begun.elapsed());
            let body = message.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
            if !body.contains("://") {
                self.tally.fail(format!("a NOTIFY without a URL: {message}"));
            }
        }
    }

    async fn ask_again(&mut self, socket: &UdpSocket, group: SocketAddr, now: Instant) {
        while self.due.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, call_id)) = self.due.pop_front() else { break };
            let Some(waiting) = self.waiting.get_mut(&call_id) else { continue };
            if waiting.tries == TRIES {
                self.waiting.remove(&call_id);
                self.tally.fail(format!("no NOTIFY after {TRIES} SUBSCRIBEs: {call_id}"));
                continue;
            }
            waiting.tries += 1;
            self.asked_again += 1;
            socket.send_to(&waiting.message, group).await.expect("the network is up");
            self.due.push_back((now + AGAIN, call_id));
        }
    }

    fn fetch(&self, number: usize) {
        let phone = number % self.files.len();
        let (server, source) = (self.site.server_address(), self.site.sources[phone % self.site.sources.len()]);
        let (files, tally) = (Rc::clone(&self.files), Rc::clone(&self.tally));
        // The other way the next time.
        let over_http = (number + number / self.files.len()).is_multiple_of(2);
        tally.under_way.set(tally.under_way.get() + 1);
        spawn_local(async move {
            let begun = Instant::now();
            let work = spawn_local({
                let (files, tally) = (Rc::clone(&files), Rc::clone(&tally));
                async move { get(server, source, &files[phone], over_http, &tally.again).await }
            });
            match timeout(PATIENCE, work).await {
                Ok(Ok(body)) => {
                    tally.waits.borrow_mut().add(begun.elapsed());
                    tally.fetched.set(tally.fetched.get() + 1);
                    if let Err(why) = fits(&body, &files[phone].body, begun, &tally.edits.borrow()) {
                        tally.fail(format!("{}: {why}", files[phone].name));
                    }
                }
                Ok(Err(error)) => tally.fail(format!("{}: {error}", files[phone].name)),
                Err(_) => tally.fail(format!("{}: nothing came within {PATIENCE:?}", files[phone].name)),
            }
            tally.under_way.set(tally.under_way.get() - 1);
        });
    }

    /// Edits what concerns every phone, and looks how long it takes until a phone would have it.
    fn edit(&self, probe: usize) {
        let number = self.tally.edits.borrow().len();
        let text = OFFICE.replace(DIALLED, &dialled(number));
        // As editors do: beside it, and then in its place.
        let (new, office) = (self.site.data().join("office.new"), self.site.data().join("profiles/office.yaml"));
        fs::write(&new, text).and_then(|()| fs::rename(&new, &office)).expect("it is ours");
        let begun = Instant::now();
        self.tally.edits.borrow_mut().push((number, begun));
        let (server, source) = (self.site.server_address(), self.site.sources[0]);
        let (files, tally, served_after) =
            (Rc::clone(&self.files), Rc::clone(&self.tally), Rc::clone(&self.served_after));
        tally.under_way.set(tally.under_way.get() + 1);
        spawn_local(async move {
            let wanted = dialled(number);
            loop {
                let file = &files[probe];
                let got = storm::get(SocketAddrV4::new(server, HTTP), source, &file.name, &file.user_agent).await;
                // A newer one will do, too.
                let newer = (0..3).any(|more| find(&got, &dialled(number + more)).is_some());
                if newer || find(&got, &wanted).is_some() {
                    served_after.borrow_mut().add(begun.elapsed());
                    break;
                }
                if begun.elapsed() > SERVED_WITHIN {
                    tally.fail(format!("an edit was not served within {SERVED_WITHIN:?}"));
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tally.under_way.set(tally.under_way.get() - 1);
        });
    }

    /// A phone whose file shows what is edited.
    fn probe(&self) -> usize {
        let shows = |file: &File| find(&file.body, DIALLED).is_some();
        self.files.iter().position(shows).expect("some phone has a key that dials")
    }

    fn report(self, length: Duration, processor: Duration, figures: &mut Figures) -> usize {
        let minutes = length.as_secs() / 60;
        let what = |what: &str| format!("soak of {minutes} minutes: {what}");
        let mut once = |name: &str, unit, value: f64| figures.add(what(name), unit, Better::Less, vec![value], None);
        once("announcements", "phones", self.announced as f64);
        once("SUBSCRIBE → NOTIFY, median", "ms", self.waits.quantile(0.5));
        once("SUBSCRIBE → NOTIFY, 99 %", "ms", self.waits.quantile(0.99));
        once("SUBSCRIBEs sent again", "", self.asked_again as f64);
        once("files fetched", "files", self.tally.fetched.get() as f64);
        once("a fetch, median", "ms", self.tally.waits.borrow().quantile(0.5));
        once("a fetch, 99 %", "ms", self.tally.waits.borrow().quantile(0.99));
        once("packets of TFTP sent again", "", self.tally.again.get() as f64);
        once("edits", "", self.tally.edits.borrow().len() as f64 - 1.0);
        once("edit to served, median", "ms", self.served_after.borrow().quantile(0.5));
        once("edit to served, 99 %", "ms", self.served_after.borrow().quantile(0.99));
        once("server's processor time", "% of one", 100.0 * processor.as_secs_f64() / length.as_secs_f64());
        let settled: Vec<(f64, f64)> =
            self.memory.iter().copied().filter(|(at, _)| *at >= SETTLED.as_secs_f64()).collect();
        if let [first, .., last] = settled.as_slice() {
            once("memory after two minutes", "MiB", first.1);
            once("memory at the end", "MiB", last.1);
            let most = quantile(&settled.iter().map(|(_, mib)| *mib).collect::<Vec<_>>(), 1.0);
            once("memory at most", "MiB", most);
            once("memory, its growth by the line through all looks", "MiB/h", slope(&settled) * 3600.0);
        }
        // What says whether the machine was ours alone.
        let taken = (stolen() - self.stolen) as f64 / 100.0;
        once("processor that the host gave to others", "% of one", 100.0 * taken / length.as_secs_f64());
        once("the longest that the bench itself stood still", "ms", self.pause.as_secs_f64() * 1e3);
        once("lines of warning in the log", "", self.log.warnings as f64);
        once("errors", "", self.tally.failed.get() as f64);
        for error in self.tally.errors.borrow().iter() {
            figures.note(format!("soak: {error}"));
        }
        figures.series(Series {
            what: what("memory"),
            of: "s",
            unit: "MiB",
            lines: vec![("provost".into(), self.memory)],
            log: false,
        });
        self.tally.failed.get()
    }
}

/// Hundredths of a second since the machine started in which it wanted to run and its host ran others, over all processors.
fn stolen() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines().next().and_then(|all| all.split_whitespace().nth(8)?.parse().ok()).unwrap_or_default()
}

/// The number that is dialled after so many edits.
fn dialled(edits: usize) -> String {
    match edits {
        0 => DIALLED.to_owned(),
        edits => format!("030999{:04}", edits % 10_000),
    }
}

async fn get(server: Ipv4Addr, source: Ipv4Addr, file: &File, over_http: bool, again: &Cell<usize>) -> Vec<u8> {
    if over_http {
        storm::get(SocketAddrV4::new(server, HTTP), source, &file.name, &file.user_agent).await
    } else {
        tftp::get(SocketAddrV4::new(server, TFTP), source, &file.name, 512, again).await
    }
}

/// Whether these are the bytes of that file, as one of the edits has it that may be in service since it was asked for.
fn fits(got: &[u8], first: &[u8], asked: Instant, edits: &[(usize, Instant)]) -> Result<(), String> {
    let is_it = |number: usize| {
        let edited = dialled(number);
        let Some(at) = find(first, DIALLED) else { return got == first };
        let end = at + DIALLED.len();
        got.len() == first.len()
            && got[..at] == first[..at]
            && &got[at..end] == edited.as_bytes()
            && got[end..] == first[end..]
    };
    let mut newest = edits.iter().rev();
    for (number, made) in newest.by_ref() {
        if is_it(*number) {
            return Ok(());
        }
        if *made + SERVED_WITHIN < asked {
            break;
        }
    }
    let is_old = newest.any(|(number, _)| is_it(*number));
    Err(if is_old { "it is older than the edits" } else { "these are not its bytes" }.to_owned())
}

fn find(text: &[u8], what: &str) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what.as_bytes())
}

/// Of the line with the least squares of distances.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x).powi(2))
    });
    above / below
}

/// What the server has written into its log since one last looked. What was read takes no room on the disk any more.
struct LogEnd {
    file: Log,
    at: u64,
    part: Vec<u8>,
    warnings: usize,
}

impl LogEnd {
    fn open(path: PathBuf) -> LogEnd {
        let file = Log::options().read(true).write(true).open(&path);
        let file = file.unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
        LogEnd { file, at: 0, part: Vec::new(), warnings: 0 }
    }

    fn read(&mut self, tally: &Tally) {
        let read = self.file.seek(SeekFrom::Start(self.at)).and_then(|_| self.file.read_to_end(&mut self.part));
        self.at += read.unwrap_or_else(|error| panic!("cannot read the log: {error}")) as u64;
        let whole = self.part.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.part.drain(..whole).collect();
        for line in lines.split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            // The time, the level, and the rest.
            match line.split_whitespace().nth(1) {
                Some("ERROR") => tally.fail(format!("in the log: {line}")),
                Some("WARN") => self.warnings += 1,
                _ if line.contains("panicked") => tally.fail(format!("in the log: {line}")),
                _ => {}
            }
        }
        // Where the file system cannot, the log stays as it is.
        let _ = fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, self.at);
    }
}
