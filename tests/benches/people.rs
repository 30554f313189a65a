//! The device manager over an inventory as large as a carrier's, whose phones have all fetched: how long somebody waits for a page, a
//! search, a filter, an edit, and what it takes of memory. No peer: what others show of so many phones is not to be had here.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddrV4, TcpStream},
    process::Command,
    thread,
    time::Instant,
};

use provost_plugin::{MacAddr, spec::FileKind};
use provost_server::progress;
use provost_tests::{Plan, built};

use crate::{
    Scale,
    figures::{Better, Figures},
    load::{free_port, inventory, world},
    running::Running,
    site::provost,
};

const PASSWORD: &str = "a password for a bench";
const HANDS: usize = 4;

pub(crate) fn measure(scale: Scale, figures: &mut Figures) {
    let devices: usize = scale.pick(100_000, 10_000);
    let plan = inventory(devices);
    let files = own_files(&plan);
    let (http, admin) = (free_port(), free_port());
    let mut command = Command::new(&built().provost);
    provost(&mut command, plan.data());
    command.args(["--no-pnp", "--tftp", "127.0.0.1:0"]);
    command.args(["--http", &http.to_string(), "--admin", &admin.to_string()]);
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let server = Running::start(command, log.path()).until("serving", |server| server.has_said(" serving "));
    let what = |what: &str| format!("{devices} devices: {what}");
    figures.add(what("memory before any phone was seen"), "MiB", Better::Less, vec![server.memory("VmRSS")], None);

    fetch_all(http, &files);
    figures.add(what("memory when all have fetched"), "MiB", Better::Less, vec![server.memory("VmRSS")], None);

    let key = std::fs::read_to_string(plan.data().join("state/admin.key")).expect("the server makes a key");
    let person = Person { door: admin, cookie: String::new() };
    let form = format!("key={}&password={PASSWORD}&again={PASSWORD}", key.trim());
    let form = form.replace(' ', "+");
    let said = person.ask("POST", "/setup", "Content-Type: application/x-www-form-urlencoded\r\n", &form);
    let cookie = said
        .head
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: ").or(line.strip_prefix("Set-Cookie: "))?.split(';').next());
    let person = Person { cookie: cookie.expect("whoever sets the password is logged in").to_owned(), ..person };

    let mut asked = |name: &str, path: &str, wanted: &str| {
        let wait = || {
            let begun = Instant::now();
            let said = person.ask("GET", path, "", "");
            let spent = begun.elapsed().as_secs_f64() * 1e3;
            assert!(said.status == 200 && said.body.contains(wanted), "{path}: {} {}", said.status, said.body);
            spent
        };
        let spent: Vec<f64> = (0..scale.repetitions).map(|_| wait()).collect();
        figures.add(what(name), "ms", Better::Less, spent, None);
    };
    let last = files.last().expect("there are devices").0;
    asked("first page", "/", "<table");
    asked("page, sorted by when they were seen", "/?sort=last_seen", "<table");
    asked("page of one phone found by its MAC", &format!("/?q={}", last.bare()), &last.to_string());
    asked("page of the phones with a profile in their name", "/?q=office", "<table");
    asked("page of one vendor's phones", "/?vendor=snom", "<table");
    asked("a phone's own page", &format!("/devices/{last}"), &last.to_string());

    // How far they have come takes making the files of all, once for each change of the profiles.
    let far = |figures: &mut Figures, name: &str| {
        let begun = Instant::now();
        let mut rounds = 0;
        loop {
            let one = Instant::now();
            let said = person.ask("GET", "/api/v1/devices?progress=in_step&limit=100", "", "");
            let spent = one.elapsed().as_secs_f64();
            rounds += 1;
            if said.body.contains("\"partial\":false") {
                figures.add(
                    what(&format!("{name}, until it is whole")),
                    "s",
                    Better::Less,
                    vec![begun.elapsed().as_secs_f64()],
                    None,
                );
                figures.add(what(&format!("{name}, each answer")), "s", Better::Less, vec![spent], None);
                return;
            }
            assert!(rounds < 1000, "it never is");
        }
    };
    far(figures, "filter by how far they have come");
    far(figures, "the same again");
    figures.add(what("memory after that"), "MiB", Better::Less, vec![server.memory("VmRSS")], None);

    let approve = |index: u32| {
        let mac = MacAddr::new([0x02, 0xff, 0, 0, (index >> 8) as u8, index as u8]);
        let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", key.trim());
        let begun = Instant::now();
        let said = person.ask("POST", &format!("/api/v1/devices/{mac}/approve"), &headers, "{\"label\":\"new\"}");
        assert_eq!(said.status, 201, "{}", said.body);
        begun.elapsed().as_secs_f64()
    };
    let spent: Vec<f64> = (0..scale.repetitions as u32).map(approve).collect();
    figures.add(what("a phone approved, until it is in service"), "s", Better::Less, spent, None);
}

/// The name of a file of each device's own.
fn own_files(plan: &Plan) -> Vec<(MacAddr, String)> {
    let world = world(plan);
    let own = |mac: MacAddr| {
        let offer = world.files_of(mac, &progress::peer(mac, None)).expect("it is in the inventory");
        let mut own = offer.files.into_iter().filter(|(_, kind)| *kind == FileKind::Device);
        (mac, own.next().unwrap_or_else(|| panic!("{mac} has no file of its own")).0)
    };
    world.fleet.devices().map(|(mac, _)| own(mac)).collect()
}

/// Each phone fetches its file once.
fn fetch_all(http: SocketAddrV4, files: &[(MacAddr, String)]) {
    let share = files.len().div_ceil(HANDS);
    thread::scope(|scope| {
        for files in files.chunks(share) {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(http).expect("the server serves");
                let mut answers = BufReader::new(stream.try_clone().expect("a socket has two ends"));
                for (mac, name) in files {
                    // In one piece, for pieces wait for each other's acknowledgement.
                    let asked = format!("GET /{name} HTTP/1.1\r\nHost: {http}\r\n\r\n");
                    stream.write_all(asked.as_bytes()).expect("the server listens");
                    let (mut status, mut length, mut line) = (String::new(), 0, String::new());
                    answers.read_line(&mut status).expect("the server answers");
                    assert!(status.contains(" 200 "), "{mac} {name}: {status}");
                    while {
                        line.clear();
                        answers.read_line(&mut line).expect("the server answers")
                    } > 2
                    {
                        if let Some((_, value)) =
                            line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                        {
                            length = value.trim().parse().expect("a length is a number");
                        }
                    }
                    std::io::copy(&mut answers.by_ref().take(length), &mut std::io::sink())
                        .expect("the server answers");
                }
            });
        }
    });
}

struct Person {
    door: SocketAddrV4,
    cookie: String,
}

struct Said {
    status: u16,
    head: String,
    body: String,
}

impl Person {
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Said {
        let mut stream = TcpStream::connect(self.door).expect("the door is open");
        let cookie = if self.cookie.is_empty() { String::new() } else { format!("Cookie: {}\r\n", self.cookie) };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{cookie}{headers}", self.door);
        let asked = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(asked.as_bytes()).expect("the door is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers in UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("and a status");
        Said { status, head: head.to_owned(), body: body.to_owned() }
    }
}
