//! What breaks around the server, and that phones are served before, meanwhile and after, and nothing is lost.
//!
//! Each fault has a network and a server of its own. Phones boot in three lots, edits are made through the API, and in the end the
//! power is cut (SIGKILL) and the server started again: whatever it had acknowledged has to be there. The table is printed, and
//! written to TARGET/faults.md.

mod clock;
mod crowd;
mod disk;
mod link;
mod log;
mod sudden;

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use provost_plugin::MacAddr;
use provost_tests::{Host, Lan, Plan, Server, built, repository, tools};
use serde_json::Value;

use crate::resync::administrator;

/// Phones in a lot: of all vendors that announce themselves.
const LOT: usize = 10;
/// Who is who at the switch.
const PHONES: usize = 0;
const TROUBLE: usize = 1;

/// What the registry on disk may be behind by, with a slow disk.
const BEHIND: Duration = Duration::from_secs(1);

/// When a lot of phones boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    Before,
    During,
    After,
}

const TIMES: [When; 3] = [When::Before, When::During, When::After];

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    served: u64,
    of: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.served, self.of)
    }
}

/// A server, phones, and a host from which trouble comes.
struct Site {
    // It goes before the network that it is on.
    running: Option<Server>,
    lan: Lan,
    sources: String,
    /// Files that the API has said are in service, with what they hold.
    edits: Vec<(String, String)>,
    refused: usize,
    booted: Vec<MacAddr>,
    served: BTreeMap<When, Tally>,
    slowest: f64,
}

impl Site {
    fn new(change: impl FnOnce(Plan) -> Plan) -> Site {
        Site::on(Lan::new(2), change)
    }

    fn on(mut lan: Lan, change: impl FnOnce(Plan) -> Plan) -> Site {
        let sources = lan.add_addresses(PHONES, LOT as u16);
        let sources: Vec<_> = sources.iter().map(Ipv4Addr::to_string).collect();
        let mut plan = Plan::on(lan.server())
            .file("profiles/site.yaml", "defaults: { sip: { server: pbx.example.net } }\n")
            .file("state/.keep", "");
        for (when, lot) in TIMES.iter().zip(lots()) {
            plan = plan.file(&format!("profiles/lot-{when:?}.yaml").to_lowercase(), &lot.yaml);
        }
        let server = started(change(plan));
        Site {
            lan,
            running: Some(server),
            sources: sources.join(","),
            edits: Vec::new(),
            refused: 0,
            booted: Vec::new(),
            served: BTreeMap::new(),
            slowest: 0.0,
        }
    }

    fn server(&self) -> &Server {
        self.running.as_ref().expect("it runs")
    }

    fn trouble(&self) -> &Host {
        self.lan.phone(TROUBLE)
    }

    /// What the phones of a lot are played by.
    fn simulate(&self, when: When, flags: &[&str]) -> Command {
        let mut command = self.lan.phone(PHONES).command(&built().provost);
        simulate(&mut command, when).args(["--json", "--at-once", "20", "--source", &self.sources]).args(flags);
        command
    }

    /// Boots a lot of phones and counts those that were configured.
    fn boot(&mut self, when: When, flags: &[&str]) -> Tally {
        let report = self.simulate(when, flags).stdin(Stdio::null()).output().unwrap();
        self.count(when, &report)
    }

    fn count(&mut self, when: When, report: &Output) -> Tally {
        let complaint = String::from_utf8_lossy(&report.stderr);
        let report: Value =
            serde_json::from_slice(&report.stdout).unwrap_or_else(|error| panic!("{error}: {complaint}"));
        let tally = Tally { served: report["configured"].as_u64().unwrap(), of: report["phones"].as_u64().unwrap() };
        self.slowest = self.slowest.max(report["slowest"]["elapsed"].as_f64().unwrap_or_default());
        assert_eq!(report["findings"], serde_json::json!({}), "{when:?}: {report:#}");
        if tally.served == tally.of {
            self.booted.extend(&lots()[when as usize].macs);
        }
        let sum = self.served.entry(when).or_default();
        *sum = Tally { served: sum.served + tally.served, of: sum.of + tally.of };
        tally
    }

    /// Puts one more device into a file of its own, through the API: the status of its answer.
    fn edit(&mut self) -> u16 {
        let number = self.edits.len() + self.refused + 1;
        let name = format!("profiles/devices/edit-{number}.yaml");
        let content = device(number);
        // No answer at all is not an acknowledgement either.
        let status = put(&self.lan, self.server(), &name, &content).unwrap_or_default();
        match status {
            204 => self.edits.push((name, content)),
            _ => self.refused += 1,
        }
        status
    }

    /// Cuts the power, starts the server again as it usually is, and tells what is not there that was acknowledged.
    fn lost(&mut self, change: impl FnOnce(Plan) -> Plan) -> Vec<String> {
        self.restart(change);
        self.missing()
    }

    fn restart(&mut self, change: impl FnOnce(Plan) -> Plan) {
        // A sighting is acknowledged to nobody, and is on disk some moments later.
        thread::sleep(BEHIND);
        let server = self.running.take().expect("it runs");
        self.running = Some(started(change(server.kill())));
    }

    fn missing(&self) -> Vec<String> {
        let mut lost = Vec::new();
        for (name, content) in &self.edits {
            match fs::read_to_string(self.server().data().join(name)) {
                Ok(found) if found == *content => {}
                found => lost.push(format!("{name}: {found:?}")),
            }
        }
        let (good, said) = administrator(&self.lan, self.server(), &["devices", "--json"]);
        assert!(good, "{said}");
        let devices: Vec<Value> = serde_json::from_str(&said).unwrap();
        let device = |mac: &str| devices.iter().find(|device| device["mac"] == mac);
        for (_, content) in &self.edits {
            let mac = content.split('"').nth(1).unwrap();
            if device(mac).is_none() {
                lost.push(format!("{mac} is enrolled no more"));
            }
        }
        for mac in &self.booted {
            // By a clock that was set back it may have fetched long ago.
            let fetched = |device: &Value| {
                ["in_step", "out_of_date", "gone"].iter().any(|progress| device["progress"] == *progress)
            };
            match device(&mac.to_string()) {
                Some(device) if fetched(device) => {}
                other => lost.push(format!("{mac} was served, and the registry has {other:?}")),
            }
        }
        lost
    }

    /// Lines of warning and worse since that mark.
    fn complaints(&self, mark: usize) -> Vec<String> {
        let log = self.server().log();
        let loud = log.iter().skip(mark).filter(|line| line.is("level", "WARN") || line.is("level", "ERROR"));
        loud.map(|line| line.text.clone()).collect()
    }

    /// Ends the test: writes its row, and judges it.
    #[track_caller]
    fn end(mut self, fault: &str, seen: &str) {
        let lost = self.lost(|plan| plan);
        self.settle(fault, seen, &lost);
    }

    #[track_caller]
    fn settle(self, fault: &str, seen: &str, lost: &[String]) {
        let of = |when| self.served.get(&when).copied().unwrap_or_default();
        let [before, during, after] = TIMES.map(of);
        let row = format!(
            "| {fault} | {before} | {during} | {after} | {} ({}) | {} | {seen} |",
            self.edits.len(),
            self.refused,
            if lost.is_empty() { "nothing".to_owned() } else { format!("**{} things**", lost.len()) },
        );
        tell(fault, row);
        assert!(lost.is_empty(), "{fault}: lost: {lost:#?}");
        for (when, tally) in [("before", before), ("during", during), ("after", after)] {
            assert!(tally.of > 0 && tally.served == tally.of, "{fault}: {when}: {tally}");
        }
    }
}

fn started(plan: Plan) -> Server {
    let server = plan.start().ready();
    // With the door for people.
    server.wait_for("the end of the start", |line| line.is("message", "serving"));
    server
}

struct Lot {
    yaml: String,
    macs: Vec<MacAddr>,
}

/// The inventories of the three lots.
fn lots() -> &'static [Lot; 3] {
    static LOTS: OnceLock<[Lot; 3]> = OnceLock::new();
    LOTS.get_or_init(|| {
        TIMES.map(|when| {
            let mut command = Command::new(&built().provost);
            let yaml = tools::feed(simulate(&mut command, when).arg("--inventory"), b"").unwrap();
            let yaml = String::from_utf8(yaml).unwrap();
            let read: BTreeMap<String, BTreeMap<String, Value>> = serde_yaml::from_str(&yaml).unwrap();
            let macs = read["devices"].keys().map(|mac| mac.parse().unwrap()).collect();
            Lot { yaml, macs }
        })
    })
}

fn simulate(command: &mut Command, when: When) -> &mut Command {
    let first = (when as usize * 100 + 1).to_string();
    command.args(["simulate", "--count", &LOT.to_string(), "--first", &first]);
    for directory in ["profiles", "templates", "plugins"] {
        command.arg(format!("--{directory}")).arg(repository().join(directory));
    }
    command.arg("--state").arg(built().phones_state())
}

/// A device that no simulated phone is, of a vendor without a library.
fn device(number: usize) -> String {
    let [high, low] = (number as u16).to_be_bytes();
    format!(
        "devices:\n  \"80:5e:c0:ff:{high:02x}:{low:02x}\":\n    lines: [{{ number: \"{number}\", password: secret-{number} }}]\n"
    )
}

/// Writes a new file through the API; the status, if an answer came. It is in service when the answer is 204.
fn put(lan: &Lan, server: &Server, name: &str, content: &str) -> Option<u16> {
    let key = fs::read_to_string(server.data().join("state/admin.key"))
        .or_else(|_| fs::read_to_string(inside(server.pid(), &server.data().join("state/admin.key"))))
        .ok()?;
    let path = format!("/api/v1/files/{}", name.replace('/', "%2F"));
    let request = format!(
        "PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nIf-None-Match: *\r\nContent-Length: {}\r\n\r\n{content}",
        key.trim(),
        content.len()
    );
    lan.server().enter(|| {
        let mut stream = TcpStream::connect(server.admin()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        String::from_utf8_lossy(&answer).get(9..12)?.parse().ok()
    })
}

/// A path as that process sees it, which may have mounts of its own.
fn inside(pid: u32, path: &Path) -> std::path::PathBuf {
    Path::new("/proc").join(pid.to_string()).join("root").join(path.strip_prefix("/").unwrap())
}

/// A program that prepares something in the mount namespace that `ip netns exec` has made for it, and then is the server. What it mounts
/// is gone with it.
fn prepared(plan: Plan, script: &str) -> Plan {
    use std::os::unix::fs::PermissionsExt as _;
    let program = plan.data().join("prepared");
    let data = plan.data().display();
    let text = format!("#!/bin/sh\nset -e\ncd '{data}'\n{script}\nexec '{}' \"$@\"\n", built().provost.display());
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    plan.binary(program)
}

/// Processor time that a process has used.
fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Adds a row to the table.
#[allow(clippy::print_stdout, reason = "what came of it is to be read, not only judged")]
fn tell(fault: &str, row: String) {
    static ROWS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{row}");
    rows.insert(fault.to_owned(), row);
    let mut table = String::from(
        "| fault | phones served before | during | after | edits acknowledged (refused) | lost after a power cut | what was seen |\n|---|---|---|---|---|---|---|\n",
    );
    for row in rows.values() {
        writeln!(table, "{row}").unwrap();
    }
    let target = built().provost.parent().unwrap().parent().unwrap();
    fs::write(target.join("faults.md"), table).unwrap();
}
