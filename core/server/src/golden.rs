//! Rendered files as folders: `CASE/profiles.yaml` holds one device, `CASE/phonebooks/` the lists that it names, `CASE/expected/` what must
//! come of it. For the goldens of this
//! repository and for those that a plugin brings along (`provost plugin test`).
//!
//! In `expected/` lie the files that the device may fetch, under their own names (`%2F` for a slash); `url`, what its NOTIFY carries;
//! `complaints`, what is asked for in vain; or `error` instead of all files, where one of them cannot be rendered.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use provost_fleet::{Fleet, Phonebooks};
use provost_host::Shelf;
use provost_plugin::{MacAddr, model::Identity};
use similar::TextDiff;

use crate::{
    explain,
    settings::Settings,
    tokens::Tokens,
    world::{self, Peer, World},
};

/// Files by name, or what took their place.
pub type Files = BTreeMap<String, Vec<u8>>;

/// More than a plugin's folder can hold in earnest; a link in a circle must not be followed for ever.
const MOST_FILES: usize = 1000;

/// One case on disk.
#[derive(Clone, Debug)]
pub struct Case {
    /// The folder's name, which is the case's claim.
    pub name: String,
    pub directory: PathBuf,
}

/// What came out of one case.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub mac: MacAddr,
    /// The plugin that the device has, by its name in paths.
    pub plugin: String,
    pub files: Files,
    /// The settings that reached the device, by dotted path.
    pub fields: Vec<String>,
}

/// A file that came out otherwise than expected.
#[derive(Clone, Debug)]
pub struct Difference {
    pub name: String,
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what.contains('\n') {
            true => write!(f, "{}\n{}", self.name, self.what),
            false => write!(f, "{} {}", self.name, self.what),
        }
    }
}

/// What a case runs in: the settings and plugins of the moment.
#[derive(Clone, Debug)]
pub struct Bench {
    pub settings: Arc<Settings>,
    pub shelf: Arc<Shelf>,
    /// Directories that stand in no expected file, so that a case is the same wherever it lies: what is below them is told from there.
    pub roots: Vec<PathBuf>,
}

/// The folders below `directory`, each a case, in the order of their names. None where there is no such directory.
pub fn cases(directory: &Path) -> io::Result<Vec<Case>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut cases = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') {
            cases.push(Case { name, directory: path });
        }
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

impl Bench {
    /// The world of these profiles, or what is wrong with them.
    pub(crate) fn world(&self, profiles: &Path) -> Result<World, String> {
        let (fleet, mut problems) = Fleet::read(profiles, None);
        let (books, more) = Phonebooks::read(&profiles.join("phonebooks"), None);
        problems.extend(more);
        let wrong: Vec<String> = problems
            .iter()
            .filter(|problem| problem.is_error())
            .map(|problem| self.plain(&problem.to_string()))
            .collect();
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
        Ok(World {
            settings: Arc::clone(&self.settings),
            fleet: Arc::new(fleet),
            books: Arc::new(books),
            images: Arc::default(),
            shelf: Arc::clone(&self.shelf),
            tokens: Arc::new(Tokens::for_show()),
            tls: Arc::default(),
            made: Arc::default(),
            held: HashMap::new(),
            troubles: BTreeMap::new(),
        })
    }

    /// Text without the paths of this machine.
    pub(crate) fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for root in &self.roots {
            text = text.replace(&format!("{}/", root.display()), "");
        }
        text
    }
}

impl Case {
    /// Renders and explains the one device of the case.
    pub fn run(&self, bench: &Bench) -> Result<Outcome, String> {
        if !self.directory.join("profiles.yaml").is_file() {
            return Err(format!(
                "there is no {}",
                bench.plain(&self.directory.join("profiles.yaml").display().to_string())
            ));
        }
        let world = bench.world(&self.directory)?;
        let macs: Vec<MacAddr> = world.fleet.devices().map(|(mac, _)| mac).collect();
        let [mac] = macs.as_slice() else {
            return Err(format!("its profiles.yaml has {} devices, not one", macs.len()));
        };
        let explanation = explain::mac(&world, *mac, &explain::From::default());
        let Some(url) = explanation.url else { return Err(format!("the device gets {}", explanation.outcome)) };
        let peer = Peer {
            identity: Identity { mac: Some(*mac), ..Identity::default() },
            address: None,
            interface: None,
            local: explain::From::default().local,
        };
        let (plugin, mut files) = match render(&world, *mac, &peer) {
            Ok(rendered) => rendered,
            Err((plugin, error)) => {
                (plugin, Files::from([("error".into(), bench.plain(&format!("provost: {error}\n")).into_bytes())]))
            }
        };
        files.insert("url".into(), format!("{url}\n").into_bytes());
        let complaints: String = explanation.complaints.iter().map(|complaint| format!("{complaint}\n")).collect();
        if !complaints.is_empty() {
            files.insert("complaints".into(), complaints.into_bytes());
        }
        let fields = explanation.values.into_iter().map(|value| value.field).collect();
        Ok(Outcome { mac: *mac, plugin, files, fields })
    }

    /// What is expected.
    pub fn expected(&self) -> io::Result<Files> {
        read(&self.directory.join("expected"))
    }

    /// Makes what came out what is expected.
    pub fn accept(&self, files: &Files) -> io::Result<()> {
        let expected = self.directory.join("expected");
        if expected.exists() {
            fs::remove_dir_all(&expected)?;
        }
        fs::create_dir_all(&expected)?;
        files.iter().try_for_each(|(name, body)| fs::write(expected.join(name), body))
    }
}

/// Every file of one device; the first that cannot be rendered is the answer instead.
fn render(world: &World, mac: MacAddr, peer: &Peer) -> Result<(String, Files), (String, String)> {
    let offer = world.files_of(mac, peer).map_err(|error| (String::new(), error))?;
    let plugin = offer.choice.plugin.id.clone();
    let refuse = |error: String| (plugin.clone(), error);
    let mut files = Files::new();
    if offer.files.is_empty() {
        return Err(refuse(format!("{mac} may fetch no file at all: its plugin offers none to this model")));
    }
    for (name, _) in offer.files {
        let located = world.locate(&name, peer).map_err(|error| refuse(format!("{name}: {error}")))?;
        let rendered = world::render(&located, SystemTime::UNIX_EPOCH).map_err(refuse)?;
        files.insert(name.replace('/', "%2F"), rendered.body.to_vec());
    }
    Ok((plugin, files))
}

fn read(directory: &Path) -> io::Result<Files> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Files::new()),
        Err(error) => return Err(error),
    };
    let mut files = Files::new();
    for entry in entries.take(MOST_FILES) {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(files)
}

/// Where what came out is not what is expected.
pub fn differences(expected: &Files, came: &Files) -> Vec<Difference> {
    let names: BTreeSet<&String> = expected.keys().chain(came.keys()).collect();
    let difference = |name: &String| {
        let what = match (expected.get(name), came.get(name)) {
            (Some(expected), Some(came)) if expected == came => return None,
            (Some(expected), Some(came)) => diff(expected, came),
            (Some(_), None) => "is expected, and did not come out".to_owned(),
            (None, _) => "came out, and is not expected".to_owned(),
        };
        Some(Difference { name: name.clone(), what })
    };
    names.into_iter().filter_map(difference).collect()
}

fn diff(expected: &[u8], came: &[u8]) -> String {
    // A binary file shows its readable part, which is most of it.
    let [expected, came] =
        [expected, came].map(|bytes| String::from_utf8_lossy(bytes).replace('\r', "␍").replace('\0', "␀"));
    if expected == came {
        return "differs in bytes that are no text".to_owned();
    }
    TextDiff::from_lines(&expected, &came).unified_diff().context_radius(2).header("expected", "came out").to_string()
}
