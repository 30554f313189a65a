//! Phones of every kind that the vendors know boot, and each ends with its own file.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use provost_phone::{Door, Fetched, Fleet, Options, Outcome, Phone, Scheme};
use provost_plugin::{MacAddr, spec::Simulation};
use provost_tests::{Lan, Plan, Server, inventory, specs};

/// Every kind of phone of every vendor.
fn kinds() -> Vec<Simulation> {
    specs().into_iter().flat_map(|(_, spec)| spec.simulate).collect()
}

/// Those that announce themselves; the others are told by DHCP.
fn announcing() -> Vec<Simulation> {
    kinds().into_iter().filter(|kind| !kind.subscribe.is_empty()).collect()
}

fn fleet(kinds: Vec<Simulation>, phones: u32, options: Options) -> Fleet {
    Fleet { kinds, phones, first: 1, sources: Vec::new(), at_once: 64, options }
}

fn serve(lan: &Lan, members: &[(MacAddr, &Simulation)]) -> Server {
    Plan::on(lan.server()).file("profiles/fleet.yaml", inventory(members)).start().ready()
}

/// Boots every kind of phone, one after the other, each from its own address and from port 5060 as a phone does that prints no other.
fn boot_each(lan: &Lan, members: &[(MacAddr, &Simulation)], addresses: &[Ipv4Addr], options: &Options) -> Vec<Outcome> {
    lan.phone(0).block_on(async || {
        let mut outcomes = Vec::new();
        for ((mac, kind), address) in members.iter().zip(addresses) {
            let source = SocketAddrV4::new(*address, 5060);
            let told = format!("http://{}:8080/", lan.server().address());
            let url = kind.subscribe.is_empty().then_some(told);
            // No socket of the phone before may be left on the port.
            let options = Options { source, url, linger: Duration::ZERO, ..options.clone() };
            outcomes.push(Phone::new(kind, *mac, options).run().await);
        }
        outcomes
    })
}

/// Of the passwords of [`inventory`] its own is in its files, and no other.
pub(crate) fn assert_own_files(outcome: &Outcome) {
    let secret = format!("secret-{}", outcome.mac.bare());
    let bodies: Vec<_> = outcome.files.iter().filter_map(|file| file.body.as_deref()).collect();
    // A binary file is ciphered or scrambled as a whole, and shows nobody's.
    let is_text = bodies.iter().all(|body| std::str::from_utf8(body).is_ok_and(|text| !text.contains('\0')));
    let texts: String = outcome.files.iter().map(Fetched::text).collect();
    assert!(!is_text || texts.contains(&secret), "it has not its password: {outcome}\n{texts}");
    assert!(!texts.replace(&secret, "").contains("secret-"), "it has another phone's password: {outcome}");
}

#[test]
fn every_kind_of_phone_is_told_where_its_file_is_and_gets_it_and_no_packet_of_it_is_malformed() {
    let mut lan = Lan::new(1);
    let addresses = lan.add_addresses(0, kinds().len() as u16);
    let fleet = fleet(kinds(), kinds().len() as u32, Options::default());
    let members = fleet.members().unwrap();
    let _server = serve(&lan, &members);
    let mut capture = lan.capture();
    for outcome in boot_each(&lan, &members, &addresses, &Options::default()) {
        assert!(outcome.configured, "{outcome}");
        assert!(outcome.findings.is_empty(), "{outcome}");
        let announces = outcome.announced > 0;
        assert_eq!(outcome.answered, announces.then_some(200), "{outcome}");
        assert_eq!((outcome.announced, outcome.notifies), if announces { (1, 1) } else { (0, 0) }, "{outcome}");
        assert_own_files(&outcome);
    }
    capture.decode("tcp.port", 8080, "http");
    assert_eq!(capture.malformed(), Vec::<String>::new());
}

#[test]
fn every_kind_of_phone_is_configured_over_each_door_with_the_same_bytes() {
    let mut lan = Lan::new(1);
    let addresses = lan.add_addresses(0, kinds().len() as u16);
    let fleet = fleet(kinds(), kinds().len() as u32, Options::default());
    let members = fleet.members().unwrap();
    let server = serve(&lan, &members);
    // The same base URL in both: some files carry the URL that they came from.
    let [http, tftp] = [(Scheme::Http, 8080), (Scheme::Tftp, 69)].map(|(scheme, port)| {
        boot_each(&lan, &members, &addresses, &Options { door: Door::Over { scheme, port }, ..Options::default() })
    });
    for ((http, tftp), (_, kind)) in http.iter().zip(&tftp).zip(&members) {
        assert!(http.configured && tftp.configured, "{http}\n{tftp}");
        // Which model it is may stand in the User-Agent alone, which TFTP does not have.
        if !kind.subscribe.contains("model=\"{model}\"") {
            continue;
        }
        let content = |outcome: &Outcome| -> Vec<_> {
            outcome
                .files
                .iter()
                .filter(|file| file.is_found())
                .map(|file| (file.url.path.clone(), file.text()))
                .collect()
        };
        assert_eq!(content(http), content(tftp));
    }
    drop(server);
}

#[test]
fn a_mixed_fleet_is_configured_though_the_switch_loses_a_fifth() {
    let mut lan = Lan::new(1);
    let sources = lan.add_addresses(0, 50);
    // Kinds that announce once in a boot are often not heard at all: what waits for them is short.
    let options = Options { boots: 8, patience: Duration::from_secs(4), ..Options::default() };
    let fleet = Fleet { sources, ..fleet(announcing(), 150, options) };
    let _server = serve(&lan, &fleet.members().unwrap());
    lan.drop_packets(20);
    let report = lan.phone(0).block_on(async || fleet.run(|_| ()).await.unwrap());
    assert!(report.is_complete(), "{report}");
    assert!(report.announced > 150, "the loss was not felt: {report}");
    assert!(report.findings.is_empty(), "{report}");
}

#[test]
fn after_a_restart_files_lie_ready_for_the_phones_that_were_seen() {
    let mut lan = Lan::new(1);
    let addresses = lan.add_addresses(0, kinds().len() as u16);
    let fleet = fleet(kinds(), kinds().len() as u32, Options::default());
    let members = fleet.members().unwrap();
    let mut server = serve(&lan, &members);
    let before = boot_each(&lan, &members, &addresses, &Options::default());
    server.stop();
    let server = server.kill().start().ready();
    server.wait_for("files made before they are asked for", |line| line.is("message", "made ready"));
    let mark = server.mark();
    let after = boot_each(&lan, &members, &addresses, &Options::default());
    let bodies = |outcomes: &[Outcome]| -> Vec<Vec<String>> {
        outcomes.iter().map(|outcome| outcome.files.iter().map(Fetched::text).collect()).collect()
    };
    assert_eq!(bodies(&after), bodies(&before));
    let log = server.log();
    let made: Vec<_> = log[mark..]
        .iter()
        .filter(|line| line.is("message", "fetch") && line.is("outcome", "rendered"))
        .map(|line| &line.text)
        // Before it is known who asks, there is nothing that could be remembered of it.
        .filter(|text| text.contains("\"device\"") && !text.contains("\"kept\":true"))
        .collect();
    // One that describes itself in two ways, by SIP and by HTTP, may be another to us at its second start than at its first.
    assert!(made.len() <= 1, "made only when they were asked for: {made:#?}");
}
