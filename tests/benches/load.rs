//! Start, memory and check with an inventory as large as a carrier's: files of a thousand devices each.
//!
//! The peers do less: they parse the same files into plain values, and keep them. PyYAML with libyaml in a process of its own, and our own
//! YAML library in this one, so that it can be seen what remains for everything else.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    process::Command,
    time::{Duration, Instant},
};

use provost_tests::{Plan, built, tools};
use serde_json::Value;

use crate::{
    Scale,
    figures::{Better, Figures},
    peers,
    running::Running,
    site::{device, kinds, provost},
};

const DEVICES_PER_FILE: usize = 1000;

pub(crate) fn measure(scale: Scale, figures: &mut Figures) {
    let devices: usize = scale.pick(100_000, 10_000);
    let plan = inventory(devices);
    let log = tempfile::NamedTempFile::new().expect("a temporary file");

    let starts: Vec<_> = (0..scale.repetitions).map(|_| start(&plan, log.path())).collect();
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

    let what = |what: &str| format!("{devices} devices: {what}");
    let (seconds, small): (Vec<f64>, Vec<f64>) =
        (starts.iter().map(|start| start.seconds).collect(), starts.iter().map(|start| start.now).collect());
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
            let mac = provost_phone::mac(kind, index as u32).expect("a prefix has room for so many");
            text.push_str(&device(mac, vendor, kind, index));
        }
        plan = plan.file(&format!("profiles/devices/{file:03}.yaml"), text);
    }
    plan
}

#[derive(Debug)]
struct Start {
    seconds: f64,
    /// Memory in MiB.
    now: f64,
    most: f64,
}

fn start(plan: &Plan, log: &std::path::Path) -> Start {
    let mut command = Command::new(&built().provost);
    provost(&mut command, plan.data());
    // Any free port will do: nobody comes.
    let door = format!("{}:0", Ipv4Addr::LOCALHOST);
    command.args(["--no-pnp", "--http", &door, "--tftp", &door]);
    let begun = Instant::now();
    let server = Running::start(command, log).until("serving", |server| server.has_said(" serving "));
    let seconds = begun.elapsed().as_secs_f64();
    Start { seconds, now: server.memory("VmRSS"), most: server.memory("VmHWM") }
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
