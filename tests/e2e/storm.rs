//! The power returns: hundreds of phones of all vendors announce themselves at once, and `provost simulate` counts who was configured.
//!
//! Only the command line is used here, as a user would: the inventory that it prints, the server that reads it, the phones that it plays.

use std::{net::Ipv4Addr, process::Command};

use provost_tests::{Host, Lan, Plan, Server, built, repository, tools};
use serde_json::Value;

fn simulate(command: &mut Command, phones: u32) -> &mut Command {
    let root = repository();
    command.arg("simulate").args(["--count", &phones.to_string()]);
    for directory in ["profiles", "templates", "plugins"] {
        command.arg(format!("--{directory}")).arg(root.join(directory));
    }
    command.arg("--state").arg(std::env::temp_dir())
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
