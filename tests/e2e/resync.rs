//! A phone that has its configuration is told to fetch again, and wants to know by whom.
//!
//! The server and the phone are the real program. Where the order must come from a desk that knows less than the server's own (a wrong
//! password, one leg of two), it is made here in the server's namespace: the one place among these tests that knows its crates.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    process::Stdio,
    sync::Arc,
    thread,
    time::SystemTime,
};

use provost_fleet::{Fleet, Happening, Registry, Sighting, State};
use provost_host::{Limits, Shelf};
use provost_plugin::{MacAddr, model::Identity};
use provost_server::{
    dispatch::Dispatch,
    pnp::resync::{NotResynced, Resync, Resynced},
    settings::SettingsFile,
    world::World,
};
use provost_tests::{Host, Lan, Plan, Server, built, tools};
use serde_json::Value;

use crate::wire::Handset;

/// A vendor that needs no library.
const VENDOR: &str = "yealink";

fn inventory(mac: MacAddr, password: &str) -> String {
    format!(
        "devices:\n  \"{mac}\":\n    identity: {{ vendor: {VENDOR} }}\n    lines: [{{ number: 101, password: {password}, server: pbx }}]\n"
    )
}

/// The desk over the server's own files, with another profile file in place of the server's.
fn desk(server: &Server, profiles: &Path) -> Arc<Dispatch> {
    let data = server.data();
    let file = SettingsFile {
        data: Some(data.to_owned()),
        templates: Some(data.join("templates")),
        plugins: vec![data.join("plugins")],
        profiles: Some(profiles.to_owned()),
        ..SettingsFile::default()
    };
    let settings = file.settle(None).unwrap();
    // Those with libraries are refused here, and not needed.
    let (shelf, _) = Shelf::build(&settings.places(), None, Limits::default(), None);
    let (fleet, problems) = Fleet::read(&settings.profiles, None);
    assert!(problems.is_empty(), "{problems:?}");
    Dispatch::new(World {
        settings: Arc::new(settings),
        fleet: Arc::new(fleet),
        books: Arc::default(),
        images: Arc::default(),
        shelf: Arc::new(shelf),
        tokens: Arc::new(provost_server::tokens::Tokens::for_show()),
        tls: Arc::default(),
        made: Arc::default(),
        held: HashMap::new(),
        troubles: BTreeMap::new(),
    })
}

fn was_heard(registry: &Registry, mac: MacAddr, at: std::net::SocketAddrV4, interface: &str) {
    let sighting = Sighting {
        identity: Identity { mac: Some(mac), ..Identity::default() },
        door: "pnp",
        announced: true,
        address: Some((*at.ip()).into()),
        interface: Some(interface.into()),
        local: None,
        relay: None,
        at: SystemTime::now(),
    };
    registry.observe(sighting, State::Known);
    registry.hears_at(mac, at);
}

fn order(host: &Host, desk: &Dispatch, mac: MacAddr) -> Result<Resynced, NotResynced> {
    host.block_on(async || desk.resync(mac, Resync::Fetch).await)
}

/// Plays a phone that challenges, orders it about with a wrong password and with the right one, and returns its report.
fn challenged(hash: &str) -> Value {
    let lan = Lan::new(1);
    let mac: MacAddr = "80:5e:c0:00:00:01".parse().unwrap();
    let server = Plan::on(lan.server()).file("profiles/site.yaml", inventory(mac, "s3cret-101")).start().ready();
    let mut command = lan.phone(0).command(&built().provost);
    command.arg("simulate").arg("--mac").arg(mac.to_string()).arg("--json");
    command.args([&format!("--challenge={hash}"), "--credentials", "101:s3cret-101"]);
    command.args(["--source", &lan.phone(0).address().to_string()]);
    for directory in ["profiles", "templates", "plugins"] {
        command.arg(format!("--{directory}")).arg(server.data().join(directory));
    }
    command.arg("--state").arg(built().phones_state()).stdin(Stdio::null());
    thread::scope(|scope| {
        let phone = scope.spawn(move || command.output().unwrap());
        let device = mac.to_string();
        let heard =
            server.wait_for("announcement", |line| line.is("message", "subscribe") && line.is("device", &device));
        let contact = heard.field("peer").as_str().unwrap().parse().unwrap();
        let fetched = |mark| {
            server.wait_after(mark, "fetch", |line| {
                line.is("message", "fetch") && line.is("device", &device) && line.is("outcome", "rendered")
            })
        };
        fetched(0);

        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join("site.yaml"), inventory(mac, "wrong")).unwrap();
        let ignorant = desk(&server, elsewhere.path());
        was_heard(&ignorant.registry, mac, contact, "eth0");
        let refused = order(lan.server(), &ignorant, mac).unwrap_err();
        assert!(matches!(refused, NotResynced::CredentialsRefused { line: 1, .. }), "{refused}");

        let knowing = desk(&server, &server.data().join("profiles"));
        was_heard(&knowing.registry, mac, contact, "eth0");
        let mark = server.mark();
        let told = order(lan.server(), &knowing, mac).unwrap();
        assert_eq!((told.status, told.line, told.from), (200, Some(1), contact));
        fetched(mark);
        let output = phone.join().unwrap();
        assert!(
            !String::from_utf8_lossy(&output.stdout).contains("s3cret-101\""),
            "a report is no place for a password"
        );
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    })
}

#[test]
fn a_phone_that_challenges_obeys_who_knows_its_password_by_either_hash() {
    for hash in ["md5", "sha256"] {
        let report = challenged(hash);
        assert_eq!(report["configured"], true, "{report:#}");
        let proofs: Vec<_> = report["challenged"].as_array().unwrap().iter().map(|order| &order["proof"]).collect();
        assert_eq!(proofs, ["wrong", "right"], "{report:#}");
        assert_eq!(report["challenged"][0]["why"], "its digest is that of another password");
        let resyncs = report["resyncs"].as_array().unwrap();
        assert_eq!(resyncs.len(), 1);
        assert_eq!(resyncs[0]["event"], "check-sync;reboot=false");
    }
}

#[test]
fn of_two_legs_in_one_network_the_order_goes_out_at_the_one_that_heard_the_phone() {
    let lan = Lan::with(&[0, 0], &[0]);
    let mac: MacAddr = "80:5e:c0:00:00:01".parse().unwrap();
    let server = Plan::on(lan.server()).file("profiles/site.yaml", inventory(mac, "x")).start().ready();
    let phone = Handset::at(lan.phone(0), lan.phone(0).address(), 0);
    let mut capture = lan.capture();
    for leg in lan.server().interfaces() {
        let desk = desk(&server, &server.data().join("profiles"));
        was_heard(&desk.registry, mac, phone.address, &leg.name);
        let (notify, from) = thread::scope(|scope| {
            let ordered = scope.spawn(|| order(lan.server(), &desk, mac));
            let (notify, from) = phone.hear();
            phone.accept(&notify, from);
            assert_eq!(ordered.join().unwrap().unwrap().from, phone.address);
            (notify, from)
        });
        assert_eq!(*from.ip(), leg.address);
        assert!(notify.header("Via").starts_with(&format!("SIP/2.0/UDP {from};")), "{notify:?}");
        assert_eq!(notify.header("Event"), "check-sync;reboot=false");
        let last = desk.registry.by_mac(mac).unwrap().events.pop_back().unwrap();
        assert_eq!(last.what, Happening::OrderAnswered { code: 200 });
    }
    // By which leg they really left, the hardware address tells.
    let left = capture.fields(&format!("udp.dstport == {} and not icmp", phone.address.port()), &["ip.src", "eth.src"]);
    let legs = lan.server().interfaces().iter().map(|leg| {
        let mut ip = lan.server().command(tools::require("ip"));
        let shown = tools::feed(ip.args(["-json", "link", "show", &leg.name]), b"").unwrap();
        let links: Value = serde_json::from_slice(&shown).unwrap();
        format!("{}\t{}", leg.address, links[0]["address"].as_str().unwrap())
    });
    assert_eq!(left, legs.collect::<Vec<_>>());
}

/// What the API says, asked in the server's own namespace.
pub(crate) fn api(lan: &Lan, server: &Server, path: &str) -> Value {
    let key = std::fs::read_to_string(server.data().join("state/admin.key")).unwrap();
    let mut curl = lan.server().command(tools::require("curl"));
    curl.args(["--silent", "--header", &format!("Authorization: Bearer {}", key.trim())]);
    curl.arg(format!("http://{}{path}", server.admin()));
    let answer = tools::feed(&mut curl, b"").unwrap_or_else(|error| panic!("{error}"));
    serde_json::from_slice(&answer).unwrap()
}

/// A command of the server's own machine, to the running server.
pub(crate) fn administrator(lan: &Lan, server: &Server, words: &[&str]) -> (bool, String) {
    let mut command = lan.server().command(&built().provost);
    command.args(words).arg("--data").arg(server.data()).args(["--admin", &server.admin().to_string()]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_phone_that_waits_is_answered_the_moment_it_is_approved_and_obeys_from_then_on() {
    let lan = Lan::new(1);
    let server = Plan::on(lan.server()).start().ready();
    let mac = "80:5e:c0:00:00:01";
    let mut command = lan.phone(0).command(&built().provost);
    command.args(["simulate", "--mac", mac, "--json", "--challenge=sha256", "--credentials", "101:s3cret-101"]);
    command.args(["--source", &lan.phone(0).address().to_string()]);
    for directory in ["profiles", "templates", "plugins"] {
        command.arg(format!("--{directory}")).arg(server.data().join(directory));
    }
    command.arg("--state").arg(built().phones_state()).stdin(Stdio::null());
    let password = server.data().join("password");
    std::fs::write(&password, "s3cret-101\n").unwrap();
    thread::scope(|scope| {
        let phone = scope.spawn(move || command.output().unwrap());
        let said = |what: &str, outcome: &str| {
            server.wait_for(what, |line| {
                line.is("message", what) && line.is("device", mac) && line.is("outcome", outcome)
            })
        };
        said("subscribe", "silence");
        let (done, waiting) = administrator(&lan, &server, &["devices", "--standing", "pending"]);
        assert!(done && waiting.contains(mac) && waiting.contains("Yealink"), "{waiting}");
        let (done, told) = administrator(
            &lan,
            &server,
            &["approve", mac, "--number", "101", "--password-file", password.to_str().unwrap()],
        );
        assert!(done && told.contains("is enrolled") && told.contains("and answered 200"), "{told}");
        said("fetch", "rendered");
        let (done, told) = administrator(&lan, &server, &["resync", mac]);
        assert!(done && told.contains("check-sync") && told.contains("line 1"), "{told}");
        let output = phone.join().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(report["configured"], true, "{report:#}");
        assert_eq!(report["challenged"][0]["proof"], "right", "{report:#}");
    });
    let (_, said) = administrator(&lan, &server, &["devices", "--progress", "in_step"]);
    assert!(said.contains("1 phone\n"), "{said}");
}
