//! Which stranger a rule takes, and what it gives.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use provost_fleet::{Enrolment, Fleet, Given, Stranger};
use provost_plugin::Spec;

const VENDOR: &str = "vendor: Acme\nmodels: { Desk: { lines: 4 }, Wall: { lines: 1 } }\nfiles: []\nformats: {}\nannounce: { url: '{base}' }\n";

fn read(root: &Path, rules: &str, devices: &str) -> Fleet {
    fs::write(root.join("a.yaml"), format!("profiles: {{ office: {{}} }}\nsites: {{ hq: {{}} }}\n{rules}")).unwrap();
    fs::write(root.join("b.yaml"), devices).unwrap();
    Fleet::read(root, None).0
}

/// What a phone of that model at that address becomes, or why nothing.
fn ask(fleet: &Fleet, model: &str, address: &str, given: &mut Given) -> Result<String, String> {
    let spec = Spec::read(VENDOR).unwrap();
    let stranger = Stranger { spec: Some(&spec), model: Some(model), address: Some(address.parse().unwrap()) };
    // The 22nd of November 2026.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_322_849);
    match fleet.enrolment(&stranger, now, given) {
        Enrolment::Nobody => Err(String::new()),
        Enrolment::Not { rule, why } => Err(format!("{}: {why}", rule.name())),
        Enrolment::By { rule, account } => {
            given.add(rule, account.map(|account| account.number()));
            Ok(rule.device("02:ac:de:00:00:01".parse().unwrap(), account))
        }
    }
}

#[test]
fn a_rule_takes_whom_it_is_for_and_gives_what_no_device_has() {
    let root = tempfile::tempdir().unwrap();
    let rules = "enrol:\n  desks: { networks: [10.1.0.0/16, 'fd00::/8'], vendor: ACME, models: ['D*'], profile: office, numbers: 200-203 }\n  \
        rest: { networks: [10.1.0.0/16], profile: office, site: hq, limit: 2 }\n";
    let devices = "devices:\n  02acde000009: { lines: [{ number: 200 }, { username: '202' }] }\n  02acde00000a: { enrolled_by: rest }\n";
    let fleet = read(root.path(), rules, devices);
    let mut given = Given::default();
    let mut ask = |model: &str, address: &str| ask(&fleet, model, address, &mut given);
    assert_eq!(ask("Desk", "10.2.0.1"), Err(String::new()));
    let file = "devices:\n  \"02:ac:de:00:00:01\":\n    enrolled_by: \"desks\"\n    profile: \"office\"\n    lines:\n      - number: \"201\"\n";
    assert_eq!(ask("Desk", "10.1.0.1").as_deref(), Ok(file));
    assert!(ask("desk", "fd00::1").unwrap().contains("\"203\""), "202 is somebody's user name");
    assert_eq!(ask("Desk", "fd00::1"), Err("desks: its 4 numbers are all taken".into()));
    // The next rule that is for it, without a number; one device of it is there already.
    let second = ask("Desk", "::ffff:10.1.0.1").unwrap();
    assert!(
        second.contains("\"rest\"\n    profile: \"office\"\n    site: \"hq\"\n") && !second.contains("lines"),
        "{second}"
    );
    assert_eq!(ask("Wall", "10.1.0.1"), Err("rest: its limit of 2 phones is reached".into()));
}

#[test]
fn an_account_comes_with_all_that_was_written_of_it_and_shows_it_to_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let rules = "enrol:\n  desks:\n    networks: [0.0.0.0/0]\n    profile: office\n    accounts:\n      - { number: 0200, password: \"s3<&>\\\"':#\", mwi: true, codecs: [g722] }\n";
    let fleet = read(root.path(), rules, "{}");
    assert!(!format!("{fleet:?}").contains("s3<"), "a password stays out of every log");
    let text = ask(&fleet, "Desk", "10.1.0.1", &mut Given::default()).unwrap();
    assert!(text.contains("      - number: \"0200\"\n") && text.contains("        codecs: [\"g722\"]\n"), "{text}");
    // What it writes is a file that it reads.
    fs::write(root.path().join("c.yaml"), &text).unwrap();
    let (fleet, problems) = Fleet::read(root.path(), None);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(fleet.devices().next().unwrap().1.enrolled_by(), Some("desks"));
    let why = ask(&fleet, "Desk", "10.1.0.1", &mut Given::default());
    assert_eq!(why, Err("desks: its only number is taken".into()));
}

#[test]
fn nobody_gets_a_number_while_a_file_cannot_be_read_or_when_the_rule_is_over() {
    let root = tempfile::tempdir().unwrap();
    let rule = |until: &str| {
        format!("enrol: {{ x: {{ networks: [10.0.0.0/8], profile: office, numbers: 1-9, until: {until} }} }}\n")
    };
    let fleet = read(root.path(), &rule("2026-11-22"), "devices: { 02acde000009: { lnies: [] } }\n");
    let why = ask(&fleet, "Desk", "10.1.0.1", &mut Given::default()).unwrap_err();
    assert!(why.starts_with("x: which numbers are taken is not known as long as ") && why.contains("b.yaml"), "{why}");
    let fleet = read(root.path(), &rule("2026-11-22"), "{}");
    assert!(ask(&fleet, "Desk", "10.1.0.1", &mut Given::default()).is_ok(), "to the end of its day");
    let fleet = read(root.path(), &rule("2026-11-21"), "{}");
    let why = ask(&fleet, "Desk", "10.1.0.1", &mut Given::default()).unwrap_err();
    assert_eq!(why, "x: it ended with 2026-11-21");
}
