//! A building is rolled out by a rule: phones that nobody knows come up, and each gets a number of its own.

use std::{collections::BTreeSet, fs, net::Ipv4Addr, thread, time::Duration};

use provost_phone::{Fleet, Options, Outcome, Phone};
use provost_plugin::spec::Simulation;
use provost_tests::{Lan, Plan, Server, built, specs, tools};

use crate::resync::administrator;

/// One kind of phone of each of two vendors.
fn two_kinds() -> Vec<Simulation> {
    let kind = |spec: provost_plugin::Spec| spec.simulate.into_iter().find(|kind| !kind.subscribe.is_empty());
    let kinds: Vec<Simulation> = specs().into_iter().filter_map(|(_, spec)| kind(spec)).take(2).collect();
    assert_eq!(kinds.len(), 2);
    kinds
}

fn site(rules: &str) -> String {
    format!("defaults: {{ sip: {{ server: pbx.example.net }} }}\nprofiles: {{ office: {{}} }}\n{rules}")
}

/// A rule for the first segment, with accounts `201` and so on.
fn rule(last: u16) -> String {
    site(&format!("enrol:\n  first-floor: {{ networks: [10.200.0.0/16], profile: office, numbers: 201-{last} }}\n"))
}

fn fleet(phones: u32, sources: Vec<Ipv4Addr>, patience: u64) -> Fleet {
    let options = Options { patience: Duration::from_secs(patience), ..Options::default() };
    Fleet { kinds: two_kinds(), phones, first: 1, sources, at_once: 64, options }
}

/// The numbers that were given, by file.
fn numbers(server: &Server) -> Vec<String> {
    let Ok(files) = fs::read_dir(server.data().join("profiles/devices")) else { return Vec::new() };
    let files = files.flatten().map(|file| file.path()).filter(|path| path.extension().is_some_and(|is| is == "yaml"));
    let number = |text: String| {
        assert!(text.contains("enrolled_by: \"first-floor\"") && text.contains("profile: \"office\""), "{text}");
        let number = text.lines().find_map(|line| line.trim().strip_prefix("- number: "));
        number.unwrap_or_else(|| panic!("no number: {text}")).trim_matches('"').to_owned()
    };
    files.map(|path| number(fs::read_to_string(path).unwrap())).collect()
}

fn stranger(lan: &Lan, phone: usize, number: u32) -> Outcome {
    let kind = two_kinds().remove(0);
    let mac = provost_phone::mac(&kind, number).unwrap();
    let options = Options { patience: Duration::from_secs(2), ..Options::default() };
    lan.phone(phone).block_on(async || Phone::new(&kind, mac, options).run().await)
}

#[test]
fn thirty_phones_of_two_vendors_get_a_number_each_and_whom_the_rule_is_not_for_waits() {
    let mut lan = Lan::with(&[0, 1], &[0, 1]);
    let sources = lan.add_addresses(0, 30);
    let server = Plan::on(lan.server()).file("profiles/site.yaml", rule(230)).start().ready();
    let begun = server.mark();
    let fleet = fleet(30, sources, 60);
    let report = lan.phone(0).block_on(async || fleet.run(|_| ()).await.unwrap());
    assert!(report.is_complete() && report.findings.is_empty(), "{report}");
    let given: BTreeSet<String> = numbers(&server).into_iter().collect();
    assert_eq!(given, (201..=230).map(|number| number.to_string()).collect(), "each its own");
    let mac = fleet.members().unwrap()[0].0.to_string();
    let (_, said) = administrator(&lan, &server, &["history", &mac]);
    assert!(said.contains("was enrolled by the rule first-floor") && said.contains("rendered"), "{said}");
    let (_, said) = administrator(&lan, &server, &["devices", "--standing", "pending"]);
    assert!(said.contains("0 phones"), "{said}");

    // Of another network, and one too many.
    let elsewhere = stranger(&lan, 1, 1001);
    assert!(!elsewhere.configured && elsewhere.answered.is_none(), "{elsewhere}");
    let (_, said) = administrator(&lan, &server, &["history", &elsewhere.mac.to_string()]);
    assert!(said.contains("pending until a device of that MAC stands in profiles/"), "{said}");
    let late = stranger(&lan, 0, 1002);
    assert!(!late.configured, "{late}");
    let (_, said) = administrator(&lan, &server, &["history", &late.mac.to_string()]);
    assert!(said.contains("the rule \"first-floor\"") && said.contains("its 30 numbers are all taken"), "{said}");
    assert_eq!(numbers(&server).len(), 30);

    // Without the rule nothing more happens, and with more numbers who waits has its turn without asking again.
    let mark = server.mark();
    server.write("profiles/site.yaml", site(""));
    server.wait_after(mark, "the reload", |line| line.is("message", "reloaded"));
    let unruled = stranger(&lan, 0, 1003);
    let (_, said) = administrator(&lan, &server, &["history", &unruled.mac.to_string()]);
    assert!(said.contains("is not in the inventory; it is pending until"), "{said}");
    assert_eq!(numbers(&server).len(), 30);
    let mark = server.mark();
    server.write("profiles/site.yaml", rule(231));
    let line = server.wait_after(mark, "enrolment", |line| line.is("message", "enrolled by rule"));
    assert!(line.is("device", &late.mac.to_string()) && line.is("number", "231"), "who came first: {line:?}");
    let mut explain = lan.server().command(&built().provost);
    explain.args(["explain", &unruled.mac.to_string(), "--from", "10.200.1.1", "--data"]).arg(server.data());
    let said = String::from_utf8(tools::feed(&mut explain, b"").unwrap()).unwrap();
    assert!(said.contains("its 31 numbers are all taken"), "{said}");
    assert!(server.log()[begun..].iter().all(|line| !line.is("level", "ERROR")));
}

#[test]
fn a_power_cut_while_phones_are_enrolled_gives_no_number_twice() {
    let mut lan = Lan::new(1);
    let sources = lan.add_addresses(0, 60);
    let mut plan = Plan::on(lan.server()).file("profiles/site.yaml", rule(260));
    for round in 0..3 {
        let server = plan.start().ready();
        let fleet = fleet(60, sources.clone(), 1);
        thread::scope(|scope| {
            scope.spawn(|| lan.phone(0).block_on(async || drop(fleet.run(|_| ()).await)));
            let before = numbers_there(&server);
            let until = std::time::Instant::now() + Duration::from_secs(20);
            while numbers_there(&server) == before && before < 60 && std::time::Instant::now() < until {
                thread::sleep(Duration::from_millis(1));
            }
            plan = server.kill();
        });
        assert!(round > 0 || fs::read_dir(plan.data().join("profiles/devices")).is_ok(), "something was written");
    }
    let server = plan.start().ready();
    let fleet = fleet(60, sources, 60);
    let report = lan.phone(0).block_on(async || fleet.run(|_| ()).await.unwrap());
    assert!(report.is_complete(), "{report}");
    let given = numbers(&server);
    let each: BTreeSet<&String> = given.iter().collect();
    assert_eq!((given.len(), each.len()), (60, 60), "{given:?}");
}

fn numbers_there(server: &Server) -> usize {
    fs::read_dir(server.data().join("profiles/devices")).map_or(0, Iterator::count)
}
