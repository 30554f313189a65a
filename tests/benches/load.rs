//! Start, memory, edits, lookups and check with inventories up to one as large as a carrier's: files of a thousand devices each.
//!
//! The peers do less: they parse the same files into plain values, and keep them. PyYAML with libyaml in a process of its own, and our own
//! YAML library in this one, so that it can be seen what remains for everything else.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use provost_host::Limits;
use provost_plugin::{
    MacAddr,
    spec::{FileKind, Simulation},
};
use provost_server::{
    progress,
    reload::first,
    settings::SettingsFile,
    world::{self, World},
};
use provost_tests::{Plan, built, tools};
use serde_json::Value;

use crate::{
    Scale,
    figures::{Better, Figures, Series, median},
    peers,
    running::Running,
    site::{device, get, kinds, provost},
};

const DEVICES_PER_FILE: usize = 1000;
/// Phones that are looked up, again and again.
const LOOKED_UP: usize = 1000;
/// An edit is given up after so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What it comes to, for each number of devices.
#[derive(Default)]
struct Growth {
    start: Vec<(f64, f64)>,
    pyyaml: Vec<(f64, f64)>,
    memory: Vec<(f64, f64)>,
    edit: Vec<(f64, f64)>,
    lookup: Vec<(f64, f64)>,
}

pub(crate) fn measure(scale: Scale, figures: &mut Figures) {
    let mut growth = Growth::default();
    for devices in scale.pick([1_000, 10_000, 100_000].as_slice(), [1_000, 10_000].as_slice()) {
        of_size(*devices, scale, figures, &mut growth);
    }
    let provost = |points: Vec<(f64, f64)>| ("provost".to_owned(), points);
    let mut series = |what: &str, unit, lines| {
        figures.series(Series { what: what.into(), of: "devices", unit, lines, log: true });
    };
    let starts = vec![provost(growth.start), ("PyYAML, the parse alone".into(), growth.pyyaml)];
    series("start to serving by the number of devices", "s", starts);
    series("memory by the number of devices", "MiB", vec![provost(growth.memory)]);
    series("edit to served by the number of devices", "ms", vec![provost(growth.edit)]);
    series("lookup by the number of devices", "µs", vec![provost(growth.lookup)]);
}

fn of_size(devices: usize, scale: Scale, figures: &mut Figures, growth: &mut Growth) {
    let plan = inventory(devices);
    let log = tempfile::NamedTempFile::new().expect("a temporary file");

    let starts: Vec<_> = (0..scale.repetitions).map(|_| start(&plan, log.path()).1).collect();
    let python = peers::python("yaml", "python3-yaml", figures).map(|(python, _)| {
        let mut command = Command::new(python);
        command.arg(peers::file("load.py")).arg(plan.data().join("profiles")).arg(scale.repetitions.to_string());
        let output = tools::feed(&mut command, b"").unwrap_or_else(|error| panic!("{error}"));
        let said: Value = serde_json::from_slice(&output).expect("the script prints JSON");
        assert_eq!(said["devices"], devices, "the script read another inventory");
        let seconds: Vec<f64> = said["seconds"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        (seconds, said["kib"].as_f64().expect("the kernel knows") / 1024.0)
    });
    let pyyaml = python.as_ref().map(|(seconds, _)| ("PyYAML parse", seconds.clone()));
    let parsed: Vec<f64> = (0..scale.repetitions).map(|_| parse(&plan, devices)).collect();
    let (edited, looked_up) = (edits(&plan, log.path(), scale), lookups(&plan, scale));

    let what = |what: &str| format!("{devices} devices: {what}");
    let (seconds, small): (Vec<f64>, Vec<f64>) =
        (starts.iter().map(|start| start.seconds).collect(), starts.iter().map(|start| start.now).collect());
    let grow = |points: &mut Vec<(f64, f64)>, values: &[f64]| points.push((devices as f64, median(values)));
    grow(&mut growth.start, &seconds);
    grow(&mut growth.memory, &small);
    grow(&mut growth.edit, &edited);
    grow(&mut growth.lookup, &looked_up.last().expect("there were some").1);
    if let Some((_, seconds)) = &pyyaml {
        grow(&mut growth.pyyaml, seconds);
    }

    figures.add(what("start to \"serving\""), "s", Better::Less, seconds.clone(), pyyaml);
    figures.add(
        what("the same start, against the parse alone"),
        "s",
        Better::Less,
        seconds,
        Some(("our YAML library", parsed)),
    );
    let memory = python.map(|(_, mib)| ("PyYAML", vec![mib]));
    figures.add(what("memory when serving"), "MiB", Better::Less, small, memory);
    figures.add(what("memory at most"), "MiB", Better::Less, starts.iter().map(|start| start.most).collect(), None);
    figures.add(what("one profile edited, until a phone is served so"), "ms", Better::Less, edited, None);
    for (count, each) in looked_up {
        let name = format!("whose file it is and its settings, each of {count}");
        figures.add(what(&name), "µs", Better::Less, each, None);
    }
    figures.add(
        what("`provost check`, every file of every device rendered"),
        "s",
        Better::Less,
        vec![check(&plan)],
        None,
    );
}

pub(crate) fn inventory(devices: usize) -> Plan {
    let kinds = kinds();
    let site = "defaults:\n  sip: { server: pbx.example.net }\n  time: { zone: Europe/Berlin }\nprofiles:\n  office:\n    keys: [{ kind: line }, { kind: blf, value: '200' }]\n";
    let mut plan = Plan::on_loopback().file("profiles/site.yaml", site);
    for file in 0..devices / DEVICES_PER_FILE {
        let mut text = String::from("devices:\n");
        for index in file * DEVICES_PER_FILE..(file + 1) * DEVICES_PER_FILE {
            let (vendor, kind) = &kinds[index % kinds.len()];
            text.push_str(&device(mac_of(&kinds, index), vendor, kind, index));
        }
        plan = plan.file(&format!("profiles/devices/{file:03}.yaml"), text);
    }
    plan
}

/// Of the device of that number.
fn mac_of(kinds: &[(String, Simulation)], index: usize) -> MacAddr {
    provost_phone::mac(&kinds[index % kinds.len()].1, index as u32).expect("a prefix has room for so many")
}

#[derive(Debug)]
struct Start {
    seconds: f64,
    /// Memory in MiB.
    now: f64,
    most: f64,
}

/// The server, its door for phones, and how it came up.
fn start(plan: &Plan, log: &Path) -> (Running, Start, SocketAddrV4) {
    let mut command = Command::new(&built().provost);
    provost(&mut command, plan.data());
    let door = free_port();
    command.args(["--no-pnp", "--http", &door.to_string(), "--tftp", &format!("{}:0", Ipv4Addr::LOCALHOST)]);
    let begun = Instant::now();
    let server = Running::start(command, log).until("serving", |server| server.has_said(" serving "));
    let seconds = begun.elapsed().as_secs_f64();
    let start = Start { seconds, now: server.memory("VmRSS"), most: server.memory("VmHWM") };
    (server, start, door)
}

/// In ms, from the moment at which an editor has put the new file in the old one's place.
fn edits(plan: &Plan, log: &Path, scale: Scale) -> Vec<f64> {
    let world = world(plan);
    let mac = mac_of(&kinds(), 0);
    let name = largest_file(&world, mac);
    drop(world);
    let (_server, _, door) = start(plan, log);
    let (file, new) = (plan.data().join("profiles/devices/000.yaml"), plan.data().join("new.yaml"));
    let first = fs::read_to_string(&file).expect("it was written just now");
    let edit = |number: usize| {
        let said = format!("Desk {number}");
        assert!(first.contains("Phone 0,"), "the first device is a phone with a name");
        fs::write(&new, first.replace("Phone 0,", &format!("{said},"))).expect("a temporary directory takes more");
        fs::rename(&new, &file).expect("it is ours");
        let begun = Instant::now();
        while !String::from_utf8_lossy(&get(door, &name, "")).contains(&said) {
            assert!(begun.elapsed() < PATIENCE, "the edit is not served: {name}");
            std::thread::sleep(Duration::from_millis(1));
        }
        begun.elapsed().as_secs_f64() * 1e3
    };
    let spent = (1..=scale.repetitions).map(edit).collect();
    fs::write(&file, first).expect("it is ours");
    spent
}

/// For so many lookups, how many µs each took, in process and on one core.
fn lookups(plan: &Plan, scale: Scale) -> [(usize, Vec<f64>); 2] {
    let world = world(plan);
    let step = (world.fleet.len() / LOOKED_UP).max(1);
    let phones: Vec<_> = (world.fleet.devices().step_by(step))
        .map(|(mac, _)| (progress::peer(mac, None), largest_file(&world, mac)))
        .collect();
    let look_up = |count: usize| {
        let begun = Instant::now();
        for (peer, name) in phones.iter().cycle().take(count) {
            std::hint::black_box(world.locate(name, peer).expect("it is offered"));
        }
        begun.elapsed().as_secs_f64() * 1e6 / count as f64
    };
    look_up(LOOKED_UP);
    let many = scale.pick(1_000_000, 100_000);
    let few = (0..scale.repetitions).map(|_| look_up(LOOKED_UP)).collect();
    [(LOOKED_UP, few), (many, vec![look_up(many)])]
}

/// Of a phone's own files the one with the settings; the others only lead to it.
fn largest_file(world: &World, mac: MacAddr) -> String {
    let peer = progress::peer(mac, None);
    let own = world.files_of(mac, &peer).expect("it is in the inventory").files;
    let length = |(name, _): &(String, FileKind)| {
        let located = world.locate(name, &peer).expect("it is offered");
        world::render(&located, SystemTime::UNIX_EPOCH).expect("it can be rendered").body.len()
    };
    let own = own.into_iter().filter(|(_, kind)| *kind == FileKind::Device).max_by_key(length);
    own.unwrap_or_else(|| panic!("{mac} has no file of its own")).0
}

/// What the server would know, in this process.
pub(crate) fn world(plan: &Plan) -> World {
    let settings = SettingsFile { data: Some(plan.data().to_owned()), ..SettingsFile::default() };
    let mut settings = settings.settle(None).expect("the settings are fine");
    settings.libraries = vec![built().provost.parent().expect("it lies somewhere").to_owned()];
    first(settings, Limits::default(), None).0
}

pub(crate) fn free_port() -> SocketAddrV4 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, listener.local_addr().expect("it is bound").port())
}

fn check(plan: &Plan) -> f64 {
    let mut command = Command::new(&built().provost);
    command.arg("check").arg("--data").arg(plan.data());
    let begun = Instant::now();
    tools::feed(&mut command, b"").unwrap_or_else(|error| panic!("{error}"));
    begun.elapsed().as_secs_f64()
}

/// A device as somebody would declare it who wanted to read these files and nothing else. All of it is kept until the end.
#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "it is read to be kept, not to be used")]
struct Device {
    profile: String,
    identity: BTreeMap<String, String>,
    lines: Vec<BTreeMap<String, String>>,
}

#[derive(serde::Deserialize)]
struct File {
    devices: BTreeMap<String, Device>,
}

fn parse(plan: &Plan, devices: usize) -> f64 {
    let begun = Instant::now();
    let entries = fs::read_dir(plan.data().join("profiles/devices")).expect("it was written just now");
    let files: Vec<File> = entries
        .map(|entry| {
            let text = fs::read_to_string(entry.expect("it was written just now").path()).expect("it is text");
            serde_yaml::from_str(&text).expect("it is YAML")
        })
        .collect();
    let spent: Duration = begun.elapsed();
    assert_eq!(files.iter().map(|file| file.devices.len()).sum::<usize>(), devices);
    spent.as_secs_f64()
}
