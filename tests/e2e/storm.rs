//! The power returns: hundreds of phones of all vendors announce themselves at once, and `provost simulate` counts who was configured.
//!
//! Mostly the command line is used here, as a user would: the inventory that it prints, the server that reads it, the phones that it
//! plays. Whose file each got is looked at where ten thousand do, since `provost simulate` keeps no files.

use std::{
    collections::HashSet,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    process::Command,
    time::Instant,
};

use provost_phone::{Door, Fleet, Options, Phone, Scheme};
use provost_tests::{Host, Lan, Plan, Server, built, inventory, repository, specs, tools};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{fleet::assert_own_files, resync::api};

fn simulate(command: &mut Command, phones: u32) -> &mut Command {
    let root = repository();
    command.arg("simulate").args(["--count", &phones.to_string()]);
    for directory in ["profiles", "templates", "plugins"] {
        command.arg(format!("--{directory}")).arg(root.join(directory));
    }
    command.arg("--state").arg(built().phones_state())
}

/// A server that has the phones in its inventory, as `--inventory` prints it.
fn serve(lan: &Lan, phones: u32) -> Server {
    let inventory = tools::feed(simulate(&mut Command::new(&built().provost), phones).arg("--inventory"), b"")
        .unwrap_or_else(|error| panic!("{error}"));
    Plan::on(lan.server())
        .file("profiles/site.yaml", "defaults: { sip: { server: pbx.example.net } }\n")
        .file("profiles/fleet.yaml", inventory)
        .start()
        .ready()
}

/// Plays the phones and returns the report.
fn storm(host: &Host, phones: u32, sources: &[Ipv4Addr], flags: &[&str]) -> Value {
    let sources: Vec<_> = sources.iter().map(Ipv4Addr::to_string).collect();
    let mut command = host.command(&built().provost);
    simulate(&mut command, phones).args(["--json", "--at-once", "300", "--source", &sources.join(",")]).args(flags);
    let report = tools::feed(&mut command, b"").unwrap_or_else(|error| panic!("{error}"));
    serde_json::from_slice(&report).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&report)))
}

fn assert_all(report: &Value, phones: u32) {
    assert_eq!((&report["phones"], &report["configured"]), (&phones.into(), &phones.into()), "{report:#}");
    assert_eq!(report["failures"], serde_json::json!({}), "{report:#}");
    assert_eq!(report["findings"], serde_json::json!({}), "{report:#}");
}

#[test]
fn three_hundred_phones_of_all_vendors_power_on_at_once_and_each_is_configured() {
    let mut lan = Lan::new(1);
    let sources = lan.add_addresses(0, 100);
    let server = serve(&lan, 300);
    let report = storm(lan.phone(0), 300, &sources, &[]);
    assert_all(&report, 300);
    assert_eq!(report["announced"], 300, "nobody had to ask twice: {report:#}");
    let notified = server.log().iter().filter(|line| line.is("message", "notified")).count();
    assert_eq!(notified, 300);
    assert!(server.log().iter().all(|line| !line.is("message", "datagrams dropped") && !line.is("level", "ERROR")));
}

#[test]
fn three_hundred_phones_are_configured_though_a_fifth_of_all_datagrams_is_lost() {
    let mut lan = Lan::new(1);
    let sources = lan.add_addresses(0, 100);
    let _server = serve(&lan, 300);
    lan.drop_packets(20);
    // Kinds that announce once in a boot are often not heard at all, and then boot again.
    let report = storm(lan.phone(0), 300, &sources, &["--boots", "8"]);
    assert_all(&report, 300);
    assert!(report["announced"].as_u64() > Some(300), "the loss was not felt: {report:#}");
}

#[test]
fn over_tftp_too_phones_are_configured_though_a_fifth_of_all_datagrams_is_lost() {
    let mut lan = Lan::new(1);
    let sources = lan.add_addresses(0, 30);
    let _server = serve(&lan, 60);
    lan.drop_packets(20);
    let report = storm(lan.phone(0), 60, &sources, &["--boots", "8", "--door", "tftp"]);
    assert_all(&report, 60);
}

/// A large hospital.
const HOSPITAL: u32 = 10_000;

#[test]
fn ten_thousand_phones_power_on_at_once_on_a_bad_network_and_each_gets_its_own_file() {
    // Each phone has two sockets, and twice that while it fetches over TFTP.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let mut lan = Lan::new(1);
    // Over TFTP a phone that names no model is known by the address from which it spoke before.
    let sources = lan.add_addresses(0, HOSPITAL as u16);
    lan.introduce(0, &sources);
    let kinds = specs().into_iter().flat_map(|(_, spec)| spec.simulate).filter(|kind| !kind.subscribe.is_empty());
    let options = Options { boots: 20, ..Options::default() };
    let fleet = Fleet { kinds: kinds.collect(), phones: HOSPITAL, first: 1, sources: Vec::new(), at_once: 0, options };
    let members = fleet.members().unwrap();
    let server = Plan::on(lan.server()).file("profiles/fleet.yaml", inventory(&members)).start().ready();
    lan.drop_packets(10);
    lan.duplicate_packets(10);

    let begun = Instant::now();
    let outcomes = lan.phone(0).block_on(async || {
        let mut phones = JoinSet::new();
        for (index, (mac, kind)) in members.iter().enumerate() {
            let source = SocketAddrV4::new(sources[index], 0);
            // Half of them are of the kind that knows TFTP alone.
            let door = if index % 2 == 0 { Door::AsTold } else { Door::Over { scheme: Scheme::Tftp, port: 69 } };
            phones.spawn(Phone::new(kind, *mac, Options { source, door, ..fleet.options.clone() }).run());
        }
        phones.join_all().await
    });
    let took = begun.elapsed();

    let mut macs = HashSet::new();
    let (mut announced, mut boots, mut files) = (0, 0, 0);
    for outcome in &outcomes {
        assert!(outcome.configured, "{outcome}");
        assert_own_files(outcome);
        macs.insert(outcome.mac);
        announced += outcome.announced;
        boots += outcome.boots;
        files += outcome.files.len();
    }
    assert_eq!(macs.len(), HOSPITAL as usize);
    assert!(announced > HOSPITAL, "the loss was not felt");
    for line in server.log() {
        assert!(!line.is("level", "ERROR"), "{line:?}");
    }
    seen_by(&lan, &server, &macs.iter().map(ToString::to_string).collect());
    // What was seen is there after a restart, too.
    let mut server = server;
    assert!(server.stop().success());
    let server = server.kill().start().ready();
    seen_by(&lan, &server, &macs.iter().map(ToString::to_string).collect());

    let table = format!(
        "{HOSPITAL} phones of {} kinds at once, every tenth datagram lost in each direction, every tenth doubled, half of the phones over TFTP: \
         all configured in {:.0} s with {announced} SUBSCRIBEs in {boots} boots, {files} files. Each file held the password of its own phone and of no \
         other, and each phone was in the registry, before and after a restart.\n",
        fleet.kinds.len(),
        took.as_secs_f64(),
    );
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    fs::write(target.join("storm.md"), table).unwrap();
}

/// Each of these phones is in the registry, enrolled and seen, and nobody else.
fn seen_by(lan: &Lan, server: &Server, macs: &HashSet<String>) {
    let mut seen = HashSet::new();
    for offset in (0..macs.len()).step_by(500) {
        let rows = api(lan, server, &format!("/api/v1/devices?limit=500&offset={offset}"));
        assert_eq!(rows["total"], macs.len(), "{rows}");
        for row in rows["items"].as_array().unwrap() {
            assert!(row["state"] == "enrolled" && row["last_seen"].is_u64() && row["address"].is_string(), "{row}");
            seen.insert(row["mac"].as_str().unwrap().to_owned());
        }
    }
    assert!(seen == *macs, "others are in the registry");
}
