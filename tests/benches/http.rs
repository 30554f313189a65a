//! Configs over HTTP: a thousand phones' own files in turn, each rendered as it is asked for.
//!
//! The generator is wrk with one thread. The peer is nginx with the same bytes as files, rendered before: the most that any server could
//! do without our job. Both write a line of log for each request.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    Scale,
    figures::{Better, Figures, said},
    peers,
    running::Running,
    site::{File, HTTP, Site},
};

const CONNECTIONS: usize = 32;

pub(crate) fn measure(site: &Site, files: &[File], scale: Scale, figures: &mut Figures) {
    let Some(wrk) = peers::find("wrk", "wrk", figures) else {
        return figures.note("HTTP is not measured: its load comes from wrk");
    };
    let nginx = peers::find("nginx", "nginx-light", figures);
    if let Some(nginx) = &nginx {
        figures.peer(said(&nginx.display().to_string(), &["-v"]).replace("nginx version: ", ""));
    }
    let mean = files.iter().map(|file| file.body.len()).sum::<usize>() / files.len();
    let list: String = files.iter().map(|file| format!("/{}\t{}\n", file.name, file.user_agent)).collect();
    fs::write(site.work("requests"), list).expect("a temporary directory takes more");
    let root = site.lay_out(files);

    for (manner, what) in [("keep", "kept open"), ("close", "for each request")] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..scale.repetitions {
            ours.push(load(site, &wrk, &site.serve(), manner, scale));
            if let Some(nginx) = &nginx {
                theirs.push(load(site, &wrk, &static_files(site, nginx, &root), manner, scale));
            }
        }
        let mut add = |measure: &str, unit, better, of: fn(&Load) -> f64| {
            let what = format!("HTTP, {CONNECTIONS} connections {what}, {mean} bytes: {measure}");
            let peer = ("nginx", theirs.iter().map(of).collect());
            figures.add(what, unit, better, ours.iter().map(of).collect(), Some(peer));
        };
        add("configs", "configs/s", Better::More, |load| load.rate);
        add("wait, median", "ms", Better::Less, |load| load.median);
        add("wait, 99 %", "ms", Better::Less, |load| load.late);
        add("server's processor time", "µs/config", Better::Less, |load| load.processor);
    }
}

pub(crate) fn static_files(site: &Site, nginx: &Path, root: &Path) -> Running {
    let (configuration, port) = (site.work("nginx.conf"), HTTP.to_string());
    let [root, work] = [root, &site.work(".")].map(|path| path.display().to_string());
    peers::configure("nginx.conf", &[("port", &port), ("root", &root), ("work", &work)], &configuration);
    let mut command = site.lan.server().command(nginx);
    command.arg("-c").arg(configuration).args(["-g", "daemon off;", "-e", "stderr"]);
    let nginx = Running::start(command, &site.work("nginx.log"));
    nginx.until("listening", |nginx| nginx.listens_on_tcp(HTTP))
}

#[derive(Debug)]
struct Load {
    rate: f64,
    /// Waits in ms.
    median: f64,
    late: f64,
    /// Microseconds of the server's for each config.
    processor: f64,
}

fn load(site: &Site, wrk: &Path, server: &Running, manner: &str, scale: Scale) -> Load {
    let run = |seconds: usize| -> Value {
        let mut command = site.lan.phone(0).command(wrk);
        command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}"), "-s"]).arg(peers::file("wrk.lua"));
        command
            .arg(format!("http://{}:{HTTP}", site.server_address()))
            .arg("--")
            .arg(site.work("requests"))
            .arg(manner);
        let output = provost_tests::tools::feed(&mut command, b"").unwrap_or_else(|error| panic!("{error}"));
        let output = String::from_utf8_lossy(&output);
        let figures = output.lines().find_map(|line| line.strip_prefix("figures "));
        figures
            .and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_else(|| panic!("wrk said no figures:\n{output}"))
    };
    run(1);
    let before = server.processor_time();
    let done = run(scale.pick(2, 1));
    let processor = server.processor_time() - before;
    let number = |name: &str| done[name].as_f64().unwrap_or_else(|| panic!("wrk said nothing of {name}: {done}"));
    assert_eq!(number("failures"), 0.0, "requests failed: {done}");
    Load {
        rate: number("requests") / number("seconds"),
        median: number("median") * 1e3,
        late: number("late") * 1e3,
        processor: processor.as_secs_f64() * 1e6 / number("requests"),
    }
}
