//! Messages that were captured from real phones, put before the decisions of the server as if a phone stood there. No socket.
//!
//! A `.sip` file is a SUBSCRIBE, a `.http` file a request as it came over the connection, a `.rrq` file the bytes of a TFTP read request
//! or, for people who type, the line `RRQ NAME MODE`. The phones of all captures stand in an inventory that is made for them. What came of
//! one is told in a few lines, without what is in any file: that is what goldens are for.

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use provost_plugin::MacAddr;
use provost_sip::{Message, Subscribe};

use crate::{
    dispatch::Dispatch,
    explain,
    golden::Bench,
    http,
    request::{ConfigRequest, Desk, Fetched},
    tftp,
};

/// A SUBSCRIBE has 8 KiB at most, a request head 16.
const LARGEST: u64 = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Subscribe,
    Http,
    Tftp,
}

/// A captured message on disk.
#[derive(Clone, Debug)]
pub struct Capture {
    /// The file's name.
    pub name: String,
    path: PathBuf,
    kind: Kind,
    bytes: Vec<u8>,
}

/// What came of a capture.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// In lines, for people and to be compared with what came of it before.
    pub said: String,
    /// What must not be, whatever was said before.
    pub faults: Vec<String>,
}

/// Every captured message in `directory`, in the order of the names. None where there is no such directory.
pub fn captures(directory: &Path) -> io::Result<Vec<Capture>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut captures = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let kind = match path.extension().and_then(|extension| extension.to_str()) {
            Some("sip") => Kind::Subscribe,
            Some("http") => Kind::Http,
            Some("rrq") => Kind::Tftp,
            _ => continue,
        };
        let size = fs::metadata(&path)?.len();
        if size > LARGEST {
            let what = format!("{} has {size} bytes, which no message of a phone has", path.display());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        captures.push(Capture { name, kind, bytes: fs::read(&path)?, path });
    }
    captures.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(captures)
}

impl Capture {
    /// Where the lines lie that came of it before.
    pub fn expected(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".expected");
        name.into()
    }

    /// The message as it was on the wire. A person's editor may have left its own line ends, and taken the last empty line.
    fn wire(&self) -> Vec<u8> {
        if self.kind == Kind::Tftp {
            let text = std::str::from_utf8(&self.bytes).unwrap_or_default();
            let Some(words) = text.trim().strip_prefix("RRQ ") else { return self.bytes.clone() };
            return [b"\0\x01", words.split_whitespace().collect::<Vec<_>>().join("\0").as_bytes(), b"\0"].concat();
        }
        let ends = [&b"\r\n\r\n"[..], b"\n\n"].iter().any(|end| self.bytes.windows(end.len()).any(|part| part == *end));
        if ends && self.bytes.windows(2).any(|part| part == b"\r\n") {
            return self.bytes.clone();
        }
        let text = String::from_utf8_lossy(&self.bytes);
        text.trim_end()
            .replace("\r\n", "\n")
            .replace('\n', "\r\n")
            .into_bytes()
            .into_iter()
            .chain(*b"\r\n\r\n")
            .collect()
    }
}

/// Replays captures of phones of one vendor.
#[derive(Debug)]
pub struct Replay<'a> {
    bench: &'a Bench,
    /// The vendor whose phones they are, by its name in paths.
    vendor: &'a str,
    world: Arc<Dispatch>,
    runtime: tokio::runtime::Runtime,
}

/// TEST-NET-1: nobody's addresses.
const PHONE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 40000);
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 8080);

impl<'a> Replay<'a> {
    /// Makes the inventory in which the phones of these captures stand.
    pub fn prepare(bench: &'a Bench, vendor: &'a str, captures: &[Capture]) -> Result<Replay<'a>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the runtime: {error}"))?;
        let macs: BTreeSet<MacAddr> = captures.iter().flat_map(|capture| speakers(&runtime, bench, capture)).collect();
        // The phones' addresses are nobody's, so there is nothing behind them to be seen.
        let mut profiles =
            String::from("defaults: { sip: { server: pbx.example.net }, trust: { address: anywhere } }\ndevices:\n");
        for mac in &macs {
            let _ = writeln!(profiles, "  \"{mac}\": {{ lines: [{{ number: \"100\", password: captured }}] }}");
        }
        let world = tempfile::tempdir()
            .and_then(|directory| {
                if !macs.is_empty() {
                    fs::write(directory.path().join("captured.yaml"), profiles)?;
                }
                Ok(bench.world(directory.path()))
            })
            .map_err(|error| format!("cannot make an inventory for the captured phones: {error}"))??;
        Ok(Replay { bench, vendor, world: Dispatch::new(world), runtime })
    }

    pub fn run(&self, capture: &Capture) -> Replayed {
        match capture.kind {
            Kind::Subscribe => self.subscribe(capture),
            Kind::Http | Kind::Tftp => self.request(capture),
        }
    }

    fn subscribe(&self, capture: &Capture) -> Replayed {
        let world = self.world.world();
        let explanation = explain::datagram(&world, &capture.name, &capture.wire(), &explain::From::default());
        let mut replayed = Replayed::default();
        for (name, value) in &explanation.identity {
            replayed.say(name, value);
        }
        self.claimed(&explanation.candidates, &mut replayed);
        match explanation.url {
            Some(url) => replayed.say("URL", &url),
            None => replayed.faults.push(format!("the phone is told no URL: {}", explanation.outcome)),
        }
        replayed
    }

    /// That this vendor claims the phone, and no other in service does.
    fn claimed(&self, candidates: &[(String, String)], replayed: &mut Replayed) {
        let own = self.bench.shelf.get(self.vendor).map(|plugin| plugin.spec.vendor.clone()).unwrap_or_default();
        for (vendor, evidence) in candidates {
            replayed.say("claimed by", &format!("{vendor} ({evidence})"));
            if *vendor != own {
                replayed.faults.push(format!("{vendor} claims the phone too ({evidence})"));
            }
        }
        if !candidates.iter().any(|(vendor, _)| *vendor == own) {
            replayed.faults.push(format!("{own} does not claim the phone by anything that it says"));
        }
    }

    fn request(&self, capture: &Capture) -> Replayed {
        let mut replayed = Replayed::default();
        let desk = Arc::new(Listening { desk: Arc::clone(&self.world), asked: Mutex::default() });
        let answered = answer(&self.runtime, Arc::clone(&desk), capture);
        let request = desk.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(request) = request {
            replayed.say("asks for", &request.path);
            if let Some(agent) = &request.user_agent {
                replayed.say("User-Agent", agent);
            }
            let from = explain::From { user_agent: request.user_agent.clone(), ..explain::From::default() };
            let explanation = explain::path(&self.world.world(), &request.path, &from);
            let own = self.bench.shelf.get(self.vendor).map(|plugin| &plugin.spec.vendor);
            let (ours, others): (Vec<_>, Vec<_>) =
                explanation.candidates.iter().partition(|(vendor, _)| Some(vendor) == own);
            if explanation.plugin.is_none() && !ours.is_empty() && !others.is_empty() {
                replayed.faults.push(format!("another vendor has a file of that name too: {}", explanation.outcome));
            }
            if let (Some(plugin), Some(reason)) = (&explanation.plugin, &explanation.reason) {
                replayed.say("phone of", &format!("{plugin} ({reason})"));
                if own != Some(plugin) {
                    replayed.faults.push(format!("the file is one of {plugin}"));
                }
            }
            if let Some(file) = &explanation.file {
                replayed.say("file", file);
            } else if !explanation.outcome.is_empty() {
                replayed.say("file", &explanation.outcome);
            }
            if explanation.outcome.starts_with("fails: ") {
                replayed.faults.push(self.bench.plain(&format!("the file {}", explanation.outcome)));
            }
        }
        match answered {
            Ok(answer) => replayed.say("answer", &answer),
            Err(error) => replayed.faults.push(error),
        }
        replayed
    }
}

impl Replayed {
    fn say(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.said, "{name}: {value}");
    }
}

/// What the door answers: the status line of HTTP, or what TFTP sends first.
fn answer<D: Desk>(runtime: &tokio::runtime::Runtime, desk: Arc<D>, capture: &Capture) -> Result<String, String> {
    match capture.kind {
        Kind::Tftp => match runtime.block_on(tftp::answer_to(desk, &capture.wire(), PHONE, SERVER)) {
            Some(Ok(())) => Ok("the file".to_owned()),
            Some(Err((code, words))) => Ok(format!("ERROR {code} {words}")),
            None => Err("it is no TFTP read request: neither its bytes nor a line \"RRQ NAME MODE\"".to_owned()),
        },
        _ => {
            let answered = runtime.block_on(http::answer_to(desk, &capture.wire(), PHONE, SERVER));
            let answer = answered.map_err(|error| format!("the door did not answer it: {error}"))?;
            let head = String::from_utf8_lossy(&answer);
            let head = head.split("\r\n\r\n").next().unwrap_or_default();
            let mut lines = head.lines();
            let status = lines.next().filter(|line| line.starts_with("HTTP/")).and_then(|line| line.split_once(' '));
            let (_, status) = status.ok_or("it is no HTTP request that a server answers")?;
            let kind = lines.find_map(|line| line.strip_prefix("Content-Type: ")).unwrap_or("nothing");
            Ok(format!("{status}, {kind}"))
        }
    }
}

/// The phones that a capture is of, by all that it says.
fn speakers(runtime: &tokio::runtime::Runtime, bench: &Bench, capture: &Capture) -> Vec<MacAddr> {
    if capture.kind == Kind::Subscribe {
        let wire = capture.wire();
        let Ok(Message::Request(request)) = provost_sip::read(&wire) else { return Vec::new() };
        let subscribe = Subscribe::from_request(&request).ok();
        return subscribe.and_then(|subscribe| Some(MacAddr::new(subscribe.mac?.address))).into_iter().collect();
    }
    let desk = Arc::new(Listening { desk: Arc::new(Nobody), asked: Mutex::default() });
    let _ = answer(runtime, Arc::clone(&desk), capture);
    let Some(request) = desk.asked.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Vec::new() };
    let named = bench.shelf.routes(&request.path).into_iter().filter_map(|route| route.captured.mac);
    let agent = request.user_agent.as_deref();
    let told = bench.shelf.plugins().filter_map(|plugin| plugin.spec.identify(agent?)?.mac);
    named.chain(told).collect()
}

/// A desk that remembers what it was asked, as the door put it.
struct Listening<D> {
    desk: Arc<D>,
    asked: Mutex<Option<ConfigRequest>>,
}

impl<D: Desk> Desk for Listening<D> {
    async fn fetch(&self, request: ConfigRequest) -> Fetched {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.clone());
        self.desk.fetch(request).await
    }
}

/// A desk that has nothing.
struct Nobody;

impl Desk for Nobody {
    async fn fetch(&self, _: ConfigRequest) -> Fetched {
        Fetched::Unknown { reason: "there is no such file".into() }
    }
}
