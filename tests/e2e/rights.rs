//! What the process may do while it serves: it is somebody else than root, holds one capability, and reaches its own files only.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use provost_phone::{Options, Phone};
use provost_tests::{Host, Lan, Plan, Seat, Server, built, repository, specs, tools};

use crate::resync::administrator;

/// A user that every Debian has, and to whom nothing belongs.
const USER: &str = "nobody";
const NET_BIND_SERVICE: u64 = 1 << 10;

const VENDOR: &str = "\
vendor: Acme
announces: [acme]
ouis: ['02ACDE']
models: { Desk: { lines: 4 } }
files: [{ name: 'acme-{mac}.cfg', template: device.cfg.j2 }]
formats: { cfg: { escape: line, content_type: text/plain, setting: '^([^#=]+?) *=' } }
announce: { url: '{base}acme-{mac}.cfg' }
";
const FILE: &str = "acme-02acde000001.cfg";

fn site(server: &str) -> String {
    format!(
        "defaults: {{ sip: {{ server: {server} }} }}\ndevices:\n  02:ac:de:00:00:01:\n    lines: [{{ number: \"1\" }}]\n  02:ba:dc:00:00:01:\n    lines: [{{ number: \"2\" }}]\n"
    )
}

/// On this host, by the ports of custom, with one vendor more than are shipped, and all of it `USER`'s.
fn plan(host: &Host, process: &str) -> Plan {
    let plan = Plan::on(host)
        .file("provost.yaml", format!("process: {process}\n"))
        .file("plugins/acme/vendor.yaml", VENDOR)
        .file("templates/acme/device.cfg.j2", "server = {{ phone.sip.server }}\n")
        .file("templates/rude/device.cfg.j2", "# {{ manners }}\n")
        .file("profiles/site.yaml", site("one.example"));
    // The program and its libraries lie where that user may read them.
    let bin = plan.data().join("bin");
    fs::create_dir(&bin).unwrap();
    let libraries = built().libraries.iter().filter(|path| !path.ends_with("libprovost_rude.so"));
    for file in libraries.chain([&built().provost]) {
        fs::copy(file, bin.join(file.file_name().unwrap())).unwrap();
    }
    belongs_to(&plan, USER);
    plan.binary(bin.join("provost"))
}

fn belongs_to(plan: &Plan, user: &str) {
    tools::feed(Command::new("chown").args(["-R", &format!("{user}:")]).arg(plan.data()), b"").unwrap();
}

fn started(plan: Plan) -> Server {
    let server = plan.start().ready();
    server.wait_for("start", |line| line.is("message", "serving"));
    server
}

/// A line of `/proc/PID/task/*/status`, which is the same for every thread.
fn status(server: &Server, name: &str) -> String {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let mut values: Vec<String> = texts
        .map(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert!(values.len() > 3, "there are threads: {values:?}");
    values.dedup();
    assert_eq!(values.len(), 1, "{name} differs among the threads: {values:?}");
    values.remove(0)
}

fn capabilities(server: &Server) -> [u64; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|set| u64::from_str_radix(&status(server, set), 16).unwrap())
}

fn fetch(lan: &Lan, server: &Server, path: &str) -> String {
    lan.phone(0).fetch(&format!("{}{path}", server.http_url(lan.server().address())))
}

fn tftp(lan: &Lan, address: std::net::Ipv4Addr, path: &str) -> String {
    let mut curl = lan.phone(0).command(tools::require("curl"));
    curl.args(["--silent", "--show-error", "--max-time", "10"]).arg(format!("tftp://{address}/{path}"));
    let output = curl.output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Writes a file below the data directory, whole, so that its user may read it.
fn write(server: &Server, name: &str, content: &str) {
    let new = server.data().join("new");
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(new, server.data().join(name)).unwrap();
}

/// Waits until a file says something.
fn shows(what: &str, ask: impl Fn() -> String, word: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let said = ask();
        if said.contains(word) {
            return;
        }
        assert!(Instant::now() < until, "{what}: {said}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn it_gives_up_what_it_does_not_need_and_serves_as_ever() {
    let mut lan = Lan::with(&[0], &[0]);
    let server = started(plan(lan.server(), &format!("{{ user: {USER} }}")));
    let id = |flag: &str| String::from_utf8(Command::new("id").args([flag, USER]).output().unwrap().stdout).unwrap();
    let (uid, gid) = (id("-u").trim().to_owned(), id("-g").trim().to_owned());
    assert_eq!(status(&server, "Uid"), [&*uid; 4].join(" "));
    assert_eq!(status(&server, "Gid"), [&*gid; 4].join(" "));
    assert_eq!(status(&server, "Groups"), gid);
    assert_eq!(capabilities(&server), [0, NET_BIND_SERVICE, NET_BIND_SERVICE, NET_BIND_SERVICE, 0]);
    assert_eq!(status(&server, "NoNewPrivs"), "1");
    let said = server.wait_for("its rights", |line| line.is("message", "rights"));
    assert!(said.is("user", USER) && said.is("capabilities", "net_bind_service"), "{}", said.text);
    let files = said.field("files").as_str().unwrap();
    assert!(files.starts_with("confined by Landlock ABI "), "this machine's kernel has no Landlock: {files}");
    // Heard on a raw socket, with a buffer beyond the system's limit, though neither right is left.
    let serving = server.wait_for("start", |line| line.is("message", "serving"));
    assert!(serving.text.contains("raw socket"), "{}", serving.text);
    assert!(!server.log().iter().any(|line| line.text.contains("smaller receive buffer")));

    // A phone announces itself to the group, is approved, which writes a file, and is configured.
    let kind =
        specs().into_iter().find_map(|(_, spec)| spec.simulate.into_iter().find(|kind| !kind.subscribe.is_empty()));
    let kind = kind.unwrap();
    let mac = provost_phone::mac(&kind, 1).unwrap();
    let (done, said) = administrator(&lan, &server, &["approve", &mac.to_string(), "--number", "101"]);
    assert!(done, "{said}");
    let outcome = lan.phone(0).block_on(async || Phone::new(&kind, mac, Options::default()).run().await);
    assert!(outcome.configured, "{outcome:#?}");

    // Files are read again, and over both doors.
    shows("as it was", || fetch(&lan, &server, FILE), "server = one.example");
    write(&server, "profiles/site.yaml", &site("two.example"));
    shows("a profile that changed", || fetch(&lan, &server, FILE), "server = two.example");
    shows("the same over TFTP", || tftp(&lan, lan.server().address(), FILE), "server = two.example");
    // An address that comes later has the privileged port too.
    let later = lan.plug(Seat::Server, 0);
    shows("an address that came later", || tftp(&lan, later.address, FILE), "server = two.example");
    // A library is tried in a child process, and opened.
    let rude = built().libraries.iter().find(|path| path.ends_with("libprovost_rude.so")).unwrap();
    fs::copy(rude, server.data().join("plugins/rude.so")).unwrap();
    let manners = || fetch(&lan, &server, "rude/Polite/02badc000001.cfg");
    shows("a library that was dropped in", manners, "manners of the first version");
}

#[test]
fn links_to_files_elsewhere_lead_nowhere_unless_landlock_is_switched_off() {
    let lan = Lan::new(1);
    let elsewhere = tempfile::tempdir().unwrap();
    let (file, moved) = (elsewhere.path().join("template"), elsewhere.path().join("profiles"));
    fs::write(&file, "server = a secret of this machine\n").unwrap();
    fs::create_dir(&moved).unwrap();
    fs::write(moved.join("site.yaml"), site("three.example")).unwrap();
    tools::feed(Command::new("chmod").args(["-R", "a+rX"]).arg(elsewhere.path()), b"").unwrap();
    let overridden = |plan: &Plan| {
        fs::create_dir_all(plan.data().join("overrides/acme")).unwrap();
        symlink(&file, plan.data().join("overrides/acme/device.cfg.j2")).unwrap();
    };
    // As root too, which may read everything.
    for user in [USER, "root"] {
        let plan = plan(lan.server(), &format!("{{ user: {user} }}"));
        overridden(&plan);
        let mut server = started(plan);
        let said = fetch(&lan, &server, FILE);
        assert!(!said.contains("a secret"), "{said}");
        server
            .wait_for("the refusal", |line| line.text.contains("Permission denied") && line.text.contains("Landlock"));
        // A directory that was not named at the start is refused as a whole, and the phones stay as they were.
        fs::remove_file(server.data().join("overrides/acme/device.cfg.j2")).unwrap();
        shows("without the link", || fetch(&lan, &server, FILE), "server = one.example");
        write(&server, "provost.yaml", &format!("process: {{ user: {user} }}\nassets: {}\n", moved.display()));
        server.wait_for("the refusal", |line| line.text.contains("Landlock keeps this process from"));
        assert!(fetch(&lan, &server, FILE).contains("server = one.example"));
        assert!(server.stop().success());
    }
    let plan = plan(lan.server(), &format!("{{ user: {USER}, landlock: false }}"));
    overridden(&plan);
    let server = started(plan);
    server.wait_for("its rights", |line| line.text.contains("not confined: process.landlock is false"));
    assert!(fetch(&lan, &server, FILE).contains("a secret"), "what the test takes for a way out is none");
}

#[test]
fn root_is_told_to_be_somebody_else_and_holds_little_meanwhile() {
    let lan = Lan::new(1);
    let server = started(plan(lan.server(), "{}"));
    server.wait_for("the warning", |line| line.text.contains("stays root") && line.text.contains("user: provost"));
    assert!(status(&server, "Uid").starts_with("0 "));
    // What it takes to read and write the files of others: CHOWN, DAC_OVERRIDE, FOWNER.
    let kept = NET_BIND_SERVICE | 0b1011;
    assert_eq!(capabilities(&server), [0, kept, kept, kept, 0]);
    assert_eq!(status(&server, "NoNewPrivs"), "1");
    let before = fs::metadata(server.data().join("profiles/site.yaml")).unwrap();
    let (done, said) = administrator(&lan, &server, &["assign", "02:ac:de:00:00:01", "--label", "Desk of Anna"]);
    assert!(done, "{said}");
    let after = fs::metadata(server.data().join("profiles/site.yaml")).unwrap();
    assert_eq!((before.uid(), before.mode()), (after.uid(), after.mode()), "files stay whose they are");
    assert!(fs::read_to_string(server.data().join("profiles/site.yaml")).unwrap().contains("Desk of Anna"));
}

#[test]
fn a_user_that_cannot_be_is_said_before_anything_serves() {
    let lan = Lan::new(1);
    let ended = |plan: Plan, why: &str| {
        let mut server = plan.start();
        server.wait_for("why", |line| line.text.contains(why));
        let until = Instant::now() + Duration::from_secs(10);
        while server.is_running() {
            assert!(Instant::now() < until, "it goes on");
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(server.stop().code(), Some(78));
    };
    ended(plan(lan.server(), "{ user: no-such-user }"), "there is no user \"no-such-user\" on this machine");
    // Kept by a server that root ran, and not to be lost now.
    let plan = plan(lan.server(), &format!("{{ user: {USER} }}"));
    fs::create_dir(plan.data().join("state")).unwrap();
    belongs_to(&plan, USER);
    fs::write(plan.data().join("state/registry.db"), "").unwrap();
    ended(plan, &format!("`chown -R {USER} "));
}

/// The unit as it is shipped, with the program that was built here.
#[test]
fn the_unit_is_one_that_systemd_takes_and_thinks_well_of() {
    let unit = fs::read_to_string(repository().join("core/cli/provost.service")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let place: PathBuf = directory.path().join("provost.service");
    fs::write(&place, unit.replace("/usr/local/bin/provost", built().provost.to_str().unwrap())).unwrap();
    let judge = |words: &[&str]| {
        let mut command = Command::new(tools::require("systemd-analyze"));
        let output = command.args(words).arg(&place).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        said
    };
    assert_eq!(judge(&["verify", "--man=no"]).trim(), "");
    // In tenths. The README names what Debian's systemd gives.
    let said = judge(&["security", "--offline=true", "--threshold=20", "--no-pager"]);
    let score = said.split("exposure level for provost.service: ").nth(1).and_then(|rest| rest.split(' ').next());
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let score = score.unwrap_or_else(|| panic!("{said}"));
    assert!(readme.contains(&format!("exposure level of {score}")), "the README does not name {score}:\n{said}");
}
