//! What was measured: medians, ratios, the table and the drawings for people and the JSON for programs.

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::{Scale, plot, tell};

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

#[derive(Debug)]
struct Figure {
    what: String,
    unit: &'static str,
    better: Better,
    ours: Vec<f64>,
    /// Its name, and what it did in the same repetitions.
    peer: Option<(String, Vec<f64>)>,
}

impl Figure {
    /// How many times as fast, or as small, as the peer we are: the median over repetitions, in each of which both had their turn, so
    /// that a machine that slows down in the middle of a run slows both.
    fn ratio(&self) -> Option<f64> {
        let (_, theirs) = self.peer.as_ref()?;
        let ratios: Vec<f64> = (0..self.ours.len().max(theirs.len()))
            .map(|index| {
                // Where one was measured once and the other often, the one figure stands against each.
                let of = |values: &[f64]| values.get(index).copied().unwrap_or(values[values.len() - 1]);
                let (ours, theirs) = (of(&self.ours), of(theirs));
                if self.better == Better::More { ours / theirs } else { theirs / ours }
            })
            .collect();
        Some(median(&ratios))
    }
}

#[derive(Debug)]
pub(crate) struct Figures {
    scale: Scale,
    command: String,
    began: String,
    load: String,
    figures: Vec<Figure>,
    series: Vec<Series>,
    notes: Vec<String>,
    peers: Vec<String>,
}

/// How something went over time, or grows with the work.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) what: String,
    /// Units.
    pub(crate) of: &'static str,
    pub(crate) unit: &'static str,
    /// Whose, and where it was when.
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
    /// Both scales are logarithmic.
    pub(crate) log: bool,
}

impl Figures {
    pub(crate) fn new(scale: Scale, parts: &[&str]) -> Figures {
        let mut command = String::from("tests/benches/run");
        for word in scale.quick.then_some("--quick").iter().chain(parts) {
            command.push(' ');
            command.push_str(word);
        }
        Figures {
            scale,
            command,
            began: said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            load: load_average(),
            figures: Vec::new(),
            series: Vec::new(),
            notes: Vec::new(),
            peers: Vec::new(),
        }
    }

    /// One figure, with the peer's of the same repetitions if there is one. Without repetitions there is no figure.
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        better: Better,
        ours: Vec<f64>,
        peer: Option<(&str, Vec<f64>)>,
    ) {
        let peer = peer.filter(|(_, values)| !values.is_empty()).map(|(name, values)| (name.to_owned(), values));
        let figure = Figure { what: what.into(), unit, better, ours, peer };
        tell(&row(&figure));
        self.figures.push(figure);
    }

    /// What is drawn, and stands in no table.
    pub(crate) fn series(&mut self, series: Series) {
        self.series.push(series);
    }

    /// Something that whoever reads the figures has to know.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        tell(&format!("note: {note}"));
        self.notes.push(note);
    }

    /// A peer that took part, with its version.
    pub(crate) fn peer(&mut self, name_and_version: String) {
        self.peers.push(name_and_version);
    }

    pub(crate) fn finish(self) {
        let table = self.table();
        tell(&format!("\n{table}"));
        let directory = target().join("benches");
        let json = serde_json::to_string_pretty(&self.json()).expect("figures are plain data");
        let write = || {
            fs::create_dir_all(&directory)?;
            fs::write(directory.join("figures.json"), json)?;
            for (name, drawing) in self.drawings() {
                fs::write(directory.join(format!("{name}.svg")), drawing)?;
            }
            fs::write(directory.join("figures.md"), table)
        };
        write().unwrap_or_else(|error| panic!("cannot write the figures to {}: {error}", directory.display()));
        tell(&format!("written to {}", directory.join("figures.json").display()));
    }

    /// Each with the name of its file.
    fn drawings(&self) -> Vec<(String, String)> {
        let ratios: Vec<(String, f64)> = (self.figures.iter())
            .filter_map(|figure| {
                let (peer, _) = figure.peer.as_ref()?;
                Some((format!("{} ({peer})", figure.what), figure.ratio()?))
            })
            .collect();
        let ratios = (!ratios.is_empty()).then(|| ("ratios".to_owned(), plot::ratios(&ratios)));
        let series = self.series.iter().map(|series| (plot::file_name(&series.what), plot::lines(series)));
        ratios.into_iter().chain(series).collect()
    }

    fn table(&self) -> String {
        let mut table = format!("{}, `{}`\n\n", self.began, self.command);
        for (name, value) in machine() {
            table.push_str(&format!("* {name}: {value}\n"));
        }
        table.push_str(&format!(
            "* load average of one minute: {} before, {} after\n* peers: {}\n\n",
            self.load,
            load_average(),
            self.peers.join(", ")
        ));
        table.push_str("| what | unit | provost | peer | ratio |\n|---|---|---:|---:|---:|\n");
        for figure in &self.figures {
            table.push_str(&row(figure));
            table.push('\n');
        }
        if !self.notes.is_empty() {
            table.push('\n');
        }
        for note in &self.notes {
            table.push_str(&format!("* {note}\n"));
        }
        table
    }

    fn json(&self) -> Value {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| {
                let peer = figure
                    .peer
                    .as_ref()
                    .map(|(name, values)| json!({ "name": name, "median": median(values), "all": values }));
                json!({
                    "what": figure.what,
                    "unit": figure.unit,
                    "better": if figure.better == Better::More { "more" } else { "less" },
                    "provost": { "median": median(&figure.ours), "all": figure.ours },
                    "peer": peer,
                    "ratio": figure.ratio(),
                })
            })
            .collect();
        let series: Vec<Value> = (self.series.iter())
            .map(|Series { what, of, unit, lines, .. }| {
                let lines: Vec<Value> =
                    lines.iter().map(|(name, points)| json!({ "name": name, "points": points })).collect();
                json!({ "what": what, "of": of, "unit": unit, "lines": lines })
            })
            .collect();
        let machine: serde_json::Map<String, Value> =
            machine().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        json!({
            "date": self.began,
            "command": self.command,
            "quick": self.scale.quick,
            "repetitions": self.scale.repetitions,
            "machine": machine,
            "load_average": { "before": self.load, "after": load_average() },
            "peers": self.peers,
            "figures": figures,
            "series": series,
            "notes": self.notes,
        })
    }
}

fn row(figure: &Figure) -> String {
    let peer = figure.peer.as_ref().map_or("–".to_owned(), |(name, values)| format!("{name} {}", spread(values)));
    let ratio = figure.ratio().map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
    format!("| {} | {} | {} | {peer} | {ratio} |", figure.what, figure.unit, spread(&figure.ours))
}

/// The median, and between which values it stands.
fn spread(values: &[f64]) -> String {
    let (least, most) =
        values.iter().fold((f64::MAX, f64::MIN), |(least, most), &value| (least.min(value), most.max(value)));
    match values {
        [only] => format!("**{}** (once)", number(*only)),
        _ => format!("**{}** ({}–{})", number(median(values)), number(least), number(most)),
    }
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// By nearest rank. Panics where nothing was measured: there is no figure then.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    assert!(!values.is_empty(), "nothing was measured");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

fn machine() -> Vec<(&'static str, String)> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory =
        memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0);
    vec![
        ("kernel", said("uname", &["-srm"])),
        ("processor", format!("{cores} cores of {}", model.unwrap_or("unknown model"))),
        ("memory", format!("{} MiB", memory / 1024)),
        ("compiler", format!("{}, release profile", said("rustc", &["--version"]))),
    ]
}

/// Of the last minute. What others do on the machine while it is measured shows here.
fn load_average() -> String {
    let averages = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    averages.split(' ').next().unwrap_or_default().to_owned()
}

/// The first line that a program prints.
pub(crate) fn said(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").trim().to_owned()
}

/// The target directory that this program was built into: TARGET/release/deps/figures-….
fn target() -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    own.ancestors().nth(3).expect("Cargo puts programs below its target directory").to_owned()
}
