//! A site of a thousand phones of every vendor that says how its phones behave, and the network on which they are.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use provost_host::Limits;
use provost_plugin::{
    MacAddr,
    model::Identity,
    spec::{FileKind, Simulation},
};
use provost_server::{
    reload::first,
    settings::SettingsFile,
    world::{self, Peer, Severity, World},
};
use provost_tests::{Lan, Plan, built, specs};

use crate::running::Running;

pub(crate) const PHONES: usize = 1000;
pub(crate) const HTTP: u16 = 8080;
pub(crate) const TFTP: u16 = 69;
pub(crate) const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 1, 75);
/// As many phones may fetch at one time.
pub(crate) const ADDRESSES: usize = 64;

/// What every device gets, so that files have the size that they have in an office.
pub(crate) const OFFICE: &str = "
defaults:
  # One host plays all phones, with the MAC address of none.
  trust: { address: anywhere }
  sip: { server: pbx.example.net, transport: udp, expires: 3600 }
  time: { zone: Europe/Berlin, ntp: [192.0.2.123] }
profiles:
  office:
    keys:
      - { kind: line }
      - { kind: blf, value: '200', label: Reception }
      - { kind: blf, value: '201', label: Sales }
      - { kind: blf, value: '202', label: Support }
      - { kind: speed_dial, value: '0301234567', label: Taxi }
";

/// One host plays all phones, so one address may send as much as a building.
const SETTINGS: &str = "pnp: { per_source: 0 }\n";

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) mac: MacAddr,
    pub(crate) kind: Simulation,
}

pub(crate) struct Site {
    pub(crate) lan: Lan,
    /// Addresses of the host that plays the phones.
    pub(crate) sources: Vec<Ipv4Addr>,
    pub(crate) phones: Vec<Member>,
    plan: Plan,
    work: tempfile::TempDir,
}

/// A phone's own file, as our server served it.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) user_agent: String,
    pub(crate) body: Vec<u8>,
}

impl Site {
    pub(crate) fn new() -> Site {
        Site::of(PHONES, kinds())
    }

    /// So many phones of the vendors that are wanted, all of which announce themselves.
    pub(crate) fn announcing(phones: usize, wanted: impl Fn(&str) -> bool) -> Site {
        let mut kinds = kinds();
        kinds.retain(|(vendor, kind)| wanted(vendor) && !kind.subscribe.is_empty());
        Site::of(phones, kinds)
    }

    fn of(phones: usize, kinds: Vec<(String, Simulation)>) -> Site {
        let phones: Vec<Member> = (0..phones)
            .map(|index| {
                let (_, kind) = &kinds[index % kinds.len()];
                let mac = provost_phone::mac(kind, index as u32 + 1).expect("a prefix has room for them");
                Member { mac, kind: kind.clone() }
            })
            .collect();
        let mut devices = String::from("devices:\n");
        for (index, phone) in phones.iter().enumerate() {
            devices.push_str(&device(phone.mac, &kinds[index % kinds.len()].0, &phone.kind, index));
        }
        let plan = Plan::on_loopback().file("profiles/office.yaml", OFFICE).file("profiles/devices.yaml", devices);
        let plan = plan.file("provost.yaml", SETTINGS);
        let mut lan = Lan::new(1);
        let sources = lan.add_addresses(0, ADDRESSES as u16);
        for host in [lan.server(), lan.phone(0)] {
            // A connection for each request uses up ports faster than the kernel gives them back by default.
            host.enter(|| {
                for (setting, value) in [("ip_local_port_range", "1025 65000"), ("tcp_tw_reuse", "1")] {
                    fs::write(format!("/proc/sys/net/ipv4/{setting}"), value).expect("root may set it in a namespace");
                }
            });
        }
        Site { lan, sources, phones, plan, work: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn data(&self) -> &Path {
        self.plan.data()
    }

    /// A place for what peers need; gone at the end.
    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Where the servers are reached, ours and the peers in turn.
    pub(crate) fn server_address(&self) -> Ipv4Addr {
        self.lan.server().address()
    }

    /// The real server with all its doors open, logging to a file as by default.
    pub(crate) fn serve(&self) -> Running {
        let mut command = self.lan.server().command(&built().provost);
        provost(&mut command, self.data());
        command.args(["--http", &format!("0.0.0.0:{HTTP}"), "--tftp", &format!("0.0.0.0:{TFTP}")]);
        Running::start(command, &self.work("provost.log")).until("serving", |server| server.has_said(" serving "))
    }

    /// The same with other settings, of which these are the line that differs.
    pub(crate) fn serve_with(&self, settings: &str) -> Running {
        fs::write(self.data().join("provost.yaml"), format!("{SETTINGS}{settings}\n")).expect("it is ours");
        self.serve()
    }

    /// A file that is served as it is.
    pub(crate) fn asset(&self, name: &str, len: usize) -> File {
        let body: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
        let assets = self.data().join("assets");
        fs::create_dir_all(&assets).and_then(|()| fs::write(assets.join(name), &body)).expect("it is ours");
        File { name: name.to_owned(), user_agent: String::new(), body }
    }

    /// What the server knows, in this process.
    pub(crate) fn world(&self) -> World {
        let settings = SettingsFile { data: Some(self.data().to_owned()), ..SettingsFile::default() };
        let mut settings = settings.settle(None).expect("the settings are fine");
        settings.libraries = vec![built().provost.parent().expect("it lies somewhere").to_owned()];
        let (world, findings) = first(settings, Limits::default(), None);
        let errors: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        world
    }

    /// A phone as the world sees it when it asks from one of our addresses.
    pub(crate) fn peer(&self, mac: MacAddr, source: Ipv4Addr) -> Peer {
        let identity = Identity { mac: Some(mac), ..Identity::default() };
        Peer { identity, address: Some(source.into()), interface: None, local: self.server_address().into() }
    }

    /// The name of each phone's own file; of several the largest, for the others only lead to it.
    pub(crate) fn names(&self, world: &World) -> Vec<String> {
        let name = |phone: &Member| {
            let peer = self.peer(phone.mac, self.sources[0]);
            let offer = world.files_of(phone.mac, &peer).expect("it is in the inventory");
            let own = offer.files.into_iter().filter(|(_, kind)| *kind == FileKind::Device);
            let length = |(name, _): &(String, FileKind)| {
                let located = world.locate(name, &peer).expect("it is offered");
                world::render(&located, SystemTime::UNIX_EPOCH).expect("it can be rendered").body.len()
            };
            own.max_by_key(length).unwrap_or_else(|| panic!("{} has no file of its own", phone.mac)).0
        };
        self.phones.iter().map(name).collect()
    }

    /// Every phone's own file, fetched from the server, so that peers have the same bytes to serve.
    pub(crate) fn fetch_all(&self) -> Vec<File> {
        let names = self.names(&self.world());
        let _server = self.serve();
        let fetch = || {
            let of = |(name, phone): (String, &Member)| {
                let user_agent = expand(&phone.kind.user_agent, phone, &[]);
                let body = get(SocketAddrV4::new(self.server_address(), HTTP), &name, &user_agent);
                File { name, user_agent, body }
            };
            names.into_iter().zip(&self.phones).map(of).collect()
        };
        self.lan.phone(0).enter(fetch)
    }

    /// The same files in a directory, for peers that serve one.
    pub(crate) fn lay_out(&self, files: &[File]) -> PathBuf {
        let directory = self.work("files");
        fs::create_dir_all(&directory).expect("a temporary directory takes more");
        for file in files {
            let path = directory.join(&file.name);
            fs::create_dir_all(path.parent().expect("it has a parent")).expect("a temporary directory takes more");
            fs::write(path, &file.body).expect("a temporary directory takes more");
        }
        directory
    }
}

/// The kinds of phones there are, with their vendor's folder.
pub(crate) fn kinds() -> Vec<(String, Simulation)> {
    let of =
        |(name, spec): (String, provost_plugin::Spec)| spec.simulate.into_iter().map(move |kind| (name.clone(), kind));
    let kinds: Vec<_> = specs().into_iter().flat_map(of).collect();
    assert!(!kinds.is_empty(), "no vendor says how its phones behave");
    kinds
}

/// A line of an inventory.
pub(crate) fn device(mac: MacAddr, vendor: &str, kind: &Simulation, index: usize) -> String {
    format!(
        "  \"{mac}\": {{ profile: office, identity: {{ vendor: {vendor}, model: {:?} }}, lines: [{{ number: \"{}\", display_name: Phone {index}, password: \"s3<&>{index}\" }}] }}\n",
        kind.model,
        1000 + index
    )
}

/// Our program's `serve` over a data directory, without what the developer's shell says of a provost of his own.
pub(crate) fn provost(command: &mut Command, data: &Path) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PROVOST_")) {
        command.env_remove(name);
    }
    command.arg("serve").arg("--data").arg(data).current_dir(data);
}

/// Fills in the words in braces that a simulation's texts may hold.
pub(crate) fn expand(text: &str, phone: &Member, more: &[(&str, &str)]) -> String {
    let own = [
        ("mac", phone.mac.bare()),
        ("MAC", phone.mac.bare_upper()),
        ("mac:colons", phone.mac.to_string()),
        ("MAC:colons", phone.mac.to_string().to_uppercase()),
        ("model", phone.kind.model.clone()),
        ("model:lower", phone.kind.model.to_lowercase()),
        ("firmware", phone.kind.firmware.clone()),
    ];
    let own = own.iter().map(|(name, value)| (*name, value.as_str()));
    own.chain(more.iter().copied())
        .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// A file, over a connection of its own; from here, without any runtime.
pub(crate) fn get(server: SocketAddrV4, name: &str, user_agent: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).unwrap_or_else(|error| panic!("cannot connect to {server}: {error}"));
    let request =
        format!("GET /{name} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: {user_agent}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.read_to_end(&mut answer))
        .unwrap_or_else(|error| panic!("cannot fetch {name}: {error}"));
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").map(|end| end + 4).unwrap_or(answer.len());
    let status = String::from_utf8_lossy(&answer[..head]).lines().next().unwrap_or_default().to_owned();
    assert!(status.contains(" 200 "), "{name}: {status}");
    answer.split_off(head)
}
