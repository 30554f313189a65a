//! What `provost dhcp` prints, before the real DHCP servers: every class of client of every vendor is handed what its vendor's data says,
//! nobody else is handed anything, and the phone behind it gets its file from there. What was handed out is written to TARGET/dhcp.md.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use provost_phone::{Fetched, Fleet, Options, Phone};
use provost_plugin::{
    MacAddr, Spec,
    dhcp::{DhcpGroup, DhcpValue},
    spec::Simulation,
};
use provost_tests::{Host, Lan, Plan, built, inventory, receive, specs, tools};
use socket2::{Domain, Protocol, Socket, Type};

/// Options that a client asks for: those that phones look at, and two of every network.
const WANTED: [u8; 12] = [1, 3, 43, 66, 67, 114, 128, 150, 159, 160, 176, 242];
const PATIENCE: Duration = Duration::from_secs(30);

type Handed = BTreeMap<u8, Vec<u8>>;

/// A DHCP server of somebody else's, which ends with its value.
struct Running {
    child: Child,
    log: std::path::PathBuf,
    _place: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // The bench has nothing else to show it by.
            #[allow(clippy::print_stderr, reason = "why it failed is in there")]
            {
                eprintln!("{}", fs::read_to_string(&self.log).unwrap_or_default());
            }
        }
    }
}

/// What the program prints for a server of this name.
fn printed(server: &str, data: &Path, more: &[&str]) -> String {
    let mut command = Command::new(&built().provost);
    command.args(["dhcp", server, "--data"]).arg(data).args(more);
    String::from_utf8(tools::feed(&mut command, b"").unwrap()).unwrap()
}

/// Starts it on the server's host with the snippet, included as its head says.
fn start(name: &str, host: &Host, snippet: &str) -> Running {
    let place = tempfile::tempdir().unwrap();
    let at = |file: &str| place.path().join(file).display().to_string();
    let write = |file: &str, text: &str| fs::write(place.path().join(file), text).unwrap();
    write("snippet", snippet);
    let mut command = match name {
        "dnsmasq" => {
            let mut command = host.command(tools::require("dnsmasq"));
            command.args([
                "--keep-in-foreground",
                "--conf-file",
                "--port=0",
                "--user=root",
                "--no-ping",
                "--interface=eth0",
            ]);
            command.args([
                "--dhcp-authoritative",
                "--dhcp-range=10.200.200.1,10.200.250.254,255.255.0.0,10m",
                "--log-facility=-",
            ]);
            // A file of configuration among the words stands for the directory that its package reads.
            command.arg(format!("--conf-file={}", at("snippet")));
            command.args([format!("--dhcp-leasefile={}", at("leases")), format!("--pid-file={}", at("pid"))]);
            command
        }
        "kea" => {
            let conf = format!(
                "{{ \"Dhcp4\": {{\n<?include \"{}\"?>,\n\
                 \"interfaces-config\": {{ \"interfaces\": [ \"eth0\" ] }},\n\
                 \"lease-database\": {{ \"type\": \"memfile\", \"persist\": false }},\n\
                 \"valid-lifetime\": 600,\n\
                 \"subnet4\": [ {{ \"subnet\": \"10.200.0.0/16\", \"pools\": [ {{ \"pool\": \"10.200.200.1 - 10.200.250.254\" }} ] }} ],\n\
                 \"loggers\": [ {{ \"name\": \"kea-dhcp4\", \"output_options\": [ {{ \"output\": \"stdout\" }} ], \"severity\": \"WARN\" }} ]\n}} }}\n",
                at("snippet")
            );
            write("kea.conf", &conf);
            let mut command = host.command(tools::require("kea-dhcp4"));
            command.arg("-c").arg(at("kea.conf"));
            command.env("KEA_PIDFILE_DIR", place.path()).env("KEA_LOCKFILE_DIR", place.path());
            command
        }
        _ => {
            let conf = format!(
                "include \"{}\";\nauthoritative;\nping-check false;\nsubnet 10.200.0.0 netmask 255.255.0.0 {{ range 10.200.200.1 10.200.250.254; }}\n",
                at("snippet")
            );
            write("dhcpd.conf", &conf);
            write("leases", "");
            let mut command = host.command(tools::require("dhcpd"));
            command.args(["-4", "-f", "-d", "-user", "root", "-group", "root", "--no-pid"]);
            command.args(["-cf", &at("dhcpd.conf"), "-lf", &at("leases"), "eth0"]);
            command
        }
    };
    let log = place.path().join("log");
    let file = fs::File::create(&log).unwrap();
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    Running { child: command.spawn().unwrap(), log, _place: place }
}

/// A client's socket on a host: broadcasts at its interface whatever address that has.
fn client(host: &Host) -> UdpSocket {
    let socket: UdpSocket = host.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        socket.set_broadcast(true).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind_device(Some(b"eth0")).unwrap();
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into()).unwrap();
        socket.into()
    });
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// A message of RFC 2131, answered by broadcast.
fn message(number: u32, kind: u8, mac: MacAddr, class: Option<&str>, more: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![1, 1, 6, 0];
    bytes.extend(number.to_be_bytes());
    bytes.extend([0, 0, 0x80, 0]);
    bytes.extend([0; 16]);
    bytes.extend(mac.octets());
    bytes.extend([0; 10 + 64 + 128]);
    bytes.extend([99, 130, 83, 99, 53, 1, kind]);
    let wanted: (u8, &[u8]) = (55, &WANTED);
    let class = class.map(|class| (60, class.as_bytes()));
    for (code, value) in std::iter::once(wanted).chain(class).chain(more.iter().copied()) {
        bytes.extend([code, value.len() as u8]);
        bytes.extend(value);
    }
    bytes.push(255);
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

/// The address that an answer gives, and its options.
fn read(bytes: &[u8]) -> Option<(Ipv4Addr, Handed)> {
    let address: [u8; 4] = bytes.get(16..20)?.try_into().ok()?;
    let mut rest = bytes.get(240..)?;
    let mut handed = Handed::new();
    while let Some((&code, after)) = rest.split_first() {
        match code {
            0 => rest = after,
            255 => break,
            _ => {
                let (&length, after) = after.split_first()?;
                handed.entry(code).or_default().extend(after.get(..length.into())?);
                rest = &after[length.into()..];
            }
        }
    }
    Some((address.into(), handed))
}

/// One client's DISCOVER and REQUEST: what the ACK hands it, of the options that phones look at. Without the NUL that dnsmasq puts behind the
/// texts that were once fields of BOOTP (RFC 2132, section 2: a receiver has to be ready to strip it).
fn lease(socket: &UdpSocket, number: u32, mac: MacAddr, class: Option<&str>) -> Handed {
    let ask = |kind: u8, answer: u8, more: &[(u8, &[u8])]| {
        let until = Instant::now() + PATIENCE;
        let mut room = [0; 1500];
        while Instant::now() < until {
            // While the server is starting nobody answers, so the question is repeated as clients do.
            socket.send_to(&message(number, kind, mac, class, more), (Ipv4Addr::BROADCAST, 67)).unwrap();
            while let Ok((length, _)) = receive(socket, &mut room) {
                if room[..length].get(4..8) == Some(&number.to_be_bytes()[..])
                    && let Some((address, handed)) = read(&room[..length])
                    && handed.get(&53).is_some_and(|kind| kind[..] == [answer])
                {
                    return (address, handed);
                }
            }
        }
        panic!("no answer to a client {mac} with class {class:?} within {PATIENCE:?}")
    };
    let (address, offer) = ask(1, 2, &[]);
    let (_, mut handed) = ask(3, 5, &[(50, &address.octets()), (54, &offer[&54])]);
    handed.retain(|code, _| matches!(code, 43 | 66 | 67 | 114 | 128..=254));
    for (_, text) in handed.iter_mut().filter(|(code, _)| matches!(code, 66 | 67)) {
        text.pop_if(|last| *last == 0);
    }
    handed
}

/// What a group's clients are to be handed.
fn due(group: &DhcpGroup, base: &str) -> Handed {
    group.options.iter().map(|option| (option.code, option.octets(base).unwrap())).collect()
}

/// The URL that a phone takes of what it was handed: the first that its vendor's data has, as it came over the wire.
fn url_taken(group: &DhcpGroup, handed: &Handed) -> String {
    let option = &group.options[0];
    let octets = &handed[&option.code];
    let text = match option.sub.iter().position(|sub| matches!(sub.value, DhcpValue::Text(_))) {
        None => octets.clone(),
        Some(wanted) => {
            let (mut rest, code) = (&octets[..], option.sub[wanted].code);
            while rest[0] != code {
                rest = &rest[2 + usize::from(rest[1])..];
            }
            rest[2..2 + usize::from(rest[1])].to_vec()
        }
    };
    String::from_utf8(text).unwrap()
}

fn told(server: &str, shown: &Handed) -> String {
    let option = |(code, octets): (&u8, &Vec<u8>)| match std::str::from_utf8(octets) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{code} `{text}`"),
        _ => format!("{code} `{}`", octets.escape_ascii()),
    };
    format!("{} | {server}", shown.iter().map(option).collect::<Vec<_>>().join(", "))
}

/// A kind of phone with its MAC address, and how its DHCP client is known: the group, and its option 60.
fn introduced<'a>(spec: &'a Spec, turn: usize, kind: &Simulation, mac: MacAddr) -> (&'a DhcpGroup, Option<String>) {
    let by_mac = spec.dhcp.iter().find(|group| group.by_mac && spec.ouis.iter().any(|oui| oui.covers(mac)));
    let group = by_mac.unwrap_or(&spec.dhcp[turn % spec.dhcp.len()]);
    (group, group.class.first().map(|class| format!("{class}{}", kind.model)))
}

#[test]
#[allow(clippy::print_stdout, reason = "what came of it is to be read, not only judged")]
fn every_class_of_client_is_handed_its_url_by_the_real_servers_and_the_phone_behind_it_is_configured() {
    let vendors = specs();
    let silent: Vec<_> = vendors.iter().filter(|(_, spec)| spec.dhcp.is_empty()).map(|(id, _)| id).collect();
    assert!(silent.is_empty(), "these say nothing of DHCP: {silent:?}");
    let kinds: Vec<(usize, usize, Simulation)> = vendors
        .iter()
        .enumerate()
        .flat_map(|(vendor, (_, spec))| {
            spec.simulate.iter().cloned().enumerate().map(move |(n, kind)| (vendor, n, kind))
        })
        .collect();
    let fleet = Fleet {
        kinds: kinds.iter().map(|(.., kind)| kind.clone()).collect(),
        phones: kinds.len() as u32,
        first: 1,
        sources: Vec::new(),
        at_once: 64,
        options: Options::default(),
    };
    let members = fleet.members().unwrap();
    let mut lan = Lan::new(1);
    let addresses = lan.add_addresses(0, kinds.len() as u16);
    let base = format!("http://{}:8080/", lan.server().address());
    let plan = Plan::on(lan.server()).file("profiles/fleet.yaml", inventory(&members));
    let data = plan.data().to_owned();
    let _server = plan.start().ready();
    let mut table = String::from("| vendor | client | options | server |\n|---|---|---|---|\n");
    for name in ["dnsmasq", "kea", "isc"] {
        let running = start(name, lan.server(), &printed(name, &data, &["--url", &base]));
        let socket = client(lan.phone(0));
        let mut number = 0;
        let mut hand = |mac: MacAddr, class: Option<&str>| {
            number += 1;
            lease(&socket, number, mac, class)
        };
        let mut strangers = (0..).map(|n: u16| {
            let [high, low] = n.to_be_bytes();
            MacAddr::new([0x02, 0x00, 0x5e, 0x10, high, low])
        });
        let mut stranger = || strangers.next().unwrap();
        for class in [None, Some("MSFT 5.0"), Some("PXEClient:Arch:00000:UNDI:002001")] {
            assert_eq!(hand(stranger(), class), Handed::new(), "{name}: no phone, and {class:?}");
        }
        for (_, spec) in &vendors {
            for group in &spec.dhcp {
                let by_mac = spec.ouis.iter().filter(|_| group.by_mac).map(|oui| {
                    let mac: MacAddr = format!("{:0<11}9", oui.to_string()).parse().unwrap();
                    (mac, None, format!("MAC {mac}"))
                });
                let by_class = group.class.iter().map(|class| {
                    let class = format!("{class}X7 1.0");
                    let who = format!("option 60 `{class}`");
                    (stranger(), Some(class), who)
                });
                for (mac, class, who) in by_class.collect::<Vec<_>>().into_iter().chain(by_mac) {
                    let handed = hand(mac, class.as_deref());
                    assert_eq!(handed, due(group, &base), "{name}: {}, {who}", spec.vendor);
                    writeln!(table, "| {} | {who} | {} |", spec.vendor, told(name, &handed)).unwrap();
                }
            }
        }
        // Option 60 tells more than a MAC.
        let (one, other) = two_that_differ(&vendors);
        let mac: MacAddr = format!("{:0<11}8", other.ouis[0].to_string()).parse().unwrap();
        let group = one.dhcp.iter().find(|group| !group.class.is_empty()).unwrap();
        assert_eq!(hand(mac, Some(&group.class[0])), due(group, &base), "{name}: {} with {mac}", one.vendor);
        // The phones themselves, from the URL that they were handed.
        for (((vendor, turn, kind), (mac, _)), address) in kinds.iter().zip(&members).zip(&addresses) {
            let (group, class) = introduced(&vendors[*vendor].1, *turn, kind, *mac);
            let url = url_taken(group, &hand(*mac, class.as_deref()));
            let options = Options {
                source: SocketAddrV4::new(*address, 0),
                url: Some(url.clone()),
                linger: Duration::ZERO,
                ..Options::default()
            };
            let outcome = lan.phone(0).block_on(async || Phone::new(kind, *mac, options).run().await);
            assert!(outcome.configured, "{name}, {url}: {outcome}");
            let texts: String = outcome.files.iter().map(Fetched::text).collect();
            let secret = format!("secret-{}", mac.bare());
            assert!(texts.contains('\0') || texts.contains(&secret), "{name}, {url}: not its own file: {outcome}");
        }
        drop(running);
    }
    println!("{table}");
    let target = built().provost.parent().unwrap().parent().unwrap();
    fs::write(target.join("dhcp.md"), &table).unwrap();
}

/// A vendor whose phones tell a class, and one whose phones are known by their MAC and get something else.
fn two_that_differ(vendors: &[(String, Spec)]) -> (&Spec, &Spec) {
    let specs = || vendors.iter().map(|(_, spec)| spec);
    let told = |spec: &Spec, by_mac: bool| {
        let is = |group: &&DhcpGroup| if by_mac { group.by_mac } else { !group.class.is_empty() };
        spec.dhcp.iter().find(is).map(|group| due(group, "http://x/"))
    };
    specs()
        .flat_map(|one| specs().map(move |other| (one, other)))
        .find(|(one, other)| told(one, false).is_some_and(|this| told(other, true).is_some_and(|that| this != that)))
        .unwrap()
}

#[test]
fn everybody_is_told_where_that_is_asked_for_and_a_vendor_alone_where_it_is_named() {
    let vendors = specs();
    let lan = Lan::new(1);
    let base = "http://192.0.2.1:8080/";
    let plan = Plan::as_shipped_on(lan.server());
    let (id, spec) = vendors.iter().find(|(_, spec)| spec.dhcp[0].class.len() > 1).unwrap();
    let stranger: MacAddr = "02:00:5e:10:00:01".parse().unwrap();
    let everybody = Handed::from([(66, base.as_bytes().to_vec())]);
    for name in ["dnsmasq", "kea", "isc"] {
        let snippet = printed(name, plan.data(), &["--url", base, "--everybody", "--vendor", id]);
        let _running = start(name, lan.server(), &snippet);
        let socket = client(lan.phone(0));
        assert_eq!(lease(&socket, 1, stranger, None), everybody, "{name}");
        let class = &spec.dhcp[0].class[1];
        let mut own = due(&spec.dhcp[0], base);
        // One server also hands what is for everybody to phones that have options of their own, another does not.
        let handed = lease(&socket, 2, stranger, Some(class));
        own.entry(66).or_insert_with(|| handed.get(&66).cloned().unwrap_or_default());
        own.retain(|_, value| !value.is_empty());
        assert_eq!(handed, own, "{name}");
    }
}
