//! Looks on disk for plugins and their templates. Reads; opens nothing that could run.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use provost_plugin::{spec::path_name, templates::Source};
use sha2::{Digest, Sha256};

use crate::Problem;

/// Where things are.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Directories of plugins: a folder with `vendor.yaml` each, or a bare library. Or one such folder.
    pub plugins: Vec<PathBuf>,
    /// Where the libraries that a `vendor.yaml` names are looked for, after its own folder: beside the program, as Cargo builds them.
    pub libraries: Vec<PathBuf>,
    /// Templates as shipped, in a folder for each vendor.
    pub templates: PathBuf,
    /// The site's own templates, in a folder for each vendor. They win.
    pub overrides: PathBuf,
    /// A private directory for staged copies of libraries.
    pub staged: PathBuf,
    /// Overrides as they would be (none: not there), to try an edit before it is written.
    pub edited: BTreeMap<PathBuf, Option<String>>,
}

/// A plugin as it lies on disk.
#[derive(Debug)]
pub(crate) struct Found {
    /// The folder, or the bare library.
    pub(crate) path: PathBuf,
    /// Text of `vendor.yaml`; a bare library carries its own.
    pub(crate) vendor_yaml: Option<String>,
    pub(crate) library: Option<PathBuf>,
    pub(crate) modified: SystemTime,
}

impl Found {
    /// The file a person would open to mend the plugin.
    pub(crate) fn shown(&self) -> String {
        match &self.vendor_yaml {
            Some(_) => self.path.join("vendor.yaml").display().to_string(),
            None => self.path.display().to_string(),
        }
    }
}

/// The part of a `vendor.yaml` that says who it is and what goes with it, readable even when the rest is not.
#[derive(Default, serde::Deserialize)]
struct Head {
    #[serde(default)]
    vendor: String,
    #[serde(default)]
    like: Option<String>,
    #[serde(default)]
    library: Option<String>,
}

/// Texts of `vendor.yaml` whose head is remembered, and how long they may be: those of all vendors there are, with room.
const REMEMBERED: usize = 128;
const LONGEST: usize = 256 << 10;

/// What a text of `vendor.yaml` begins with, where it can be read. Every look at the disk asks it of every vendor, and the same text says the
/// same, so those that were read are remembered: to read them anew is half of such a look.
fn head(vendor_yaml: &str) -> Option<Arc<Head>> {
    static READ: Mutex<BTreeMap<String, Option<Arc<Head>>>> = Mutex::new(BTreeMap::new());
    let known = READ.lock().unwrap_or_else(PoisonError::into_inner).get(vendor_yaml).cloned();
    if let Some(head) = known {
        return head;
    }
    let head = serde_yaml::from_str(vendor_yaml).ok().map(Arc::new);
    if vendor_yaml.len() <= LONGEST {
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        if read.len() >= REMEMBERED {
            read.clear();
        }
        read.insert(vendor_yaml.to_owned(), head.clone());
    }
    head
}

/// A vendor that another may be like: its folder and the text of its `vendor.yaml`.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) id: String,
    path: PathBuf,
    pub(crate) vendor_yaml: String,
}

/// Whom a plugin is like, where that vendor is among those found.
pub(crate) fn base(found: &Found, all: &[Found]) -> Option<Base> {
    let like = path_name(head(found.vendor_yaml.as_deref()?)?.like.as_deref()?);
    all.iter().find_map(|other| {
        let id = path_name(&head(other.vendor_yaml.as_deref()?)?.vendor);
        (id == like).then_some(Base { id, path: other.path.clone(), vendor_yaml: other.vendor_yaml.clone()? })
    })
}

/// The folder of a vendor's plugin, whatever else it says.
pub(crate) fn folder_of(id: &str, places: &Places) -> Option<PathBuf> {
    let (found, _) = plugins(places);
    let is = |yaml: &str| head(yaml).is_some_and(|head| path_name(&head.vendor) == id);
    found.into_iter().find(|found| found.vendor_yaml.as_deref().is_some_and(is)).map(|found| found.path)
}

pub(crate) fn plugins(places: &Places) -> (Vec<Found>, Vec<Problem>) {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for directory in &places.plugins {
        // One plugin may be named by itself, which is how one that is being written is tried.
        let alone = directory.join("vendor.yaml").is_file();
        let paths = if alone { vec![directory.clone()] } else { entries(directory, &mut problems) };
        for path in paths {
            if found.iter().any(|other: &Found| other.path == path) {
                continue;
            }
            if path.is_dir() {
                match folder(&path, places) {
                    Ok(Some(plugin)) => found.push(plugin),
                    Ok(None) => {}
                    Err(problem) => problems.push(problem),
                }
            } else if is_library(&path) {
                let modified = modified(&path);
                found.push(Found { library: Some(path.clone()), path, vendor_yaml: None, modified });
            }
        }
    }
    (found, problems)
}

fn folder(path: &Path, places: &Places) -> Result<Option<Found>, Problem> {
    let file = path.join("vendor.yaml");
    let vendor_yaml = match fs::read_to_string(&file) {
        Ok(text) => text,
        // Other folders may live beside the plugins: a crate, notes, a copy in progress.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Problem::new(file.display().to_string(), 0, format!("cannot read it: {error}"))),
    };
    let head = head(&vendor_yaml).unwrap_or_default();
    let mut touched = modified(&file);
    let library = match &head.library {
        None => None,
        Some(name) => {
            let file_name = format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
            let candidates = std::iter::once(path)
                .chain(places.plugins.iter().map(PathBuf::as_path))
                .chain(places.libraries.iter().map(PathBuf::as_path));
            let Some(library) =
                candidates.map(|directory| directory.join(&file_name)).find(|library| library.is_file())
            else {
                return Err(Problem::new(
                    file.display().to_string(),
                    0,
                    format!(
                        "its library {file_name} is neither in this folder, nor in {}, nor beside the program; build it with `cargo build --release --workspace`",
                        places.plugins.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
                    ),
                ));
            };
            touched = touched.max(modified(&library));
            Some(library)
        }
    };
    Ok(Some(Found { path: path.to_owned(), vendor_yaml: Some(vendor_yaml), library, modified: touched }))
}

/// The templates of one vendor, layer by layer, and when the newest of them changed.
pub(crate) fn templates(
    id: &str,
    places: &Places,
    plugin: &Path,
    embedded: &BTreeMap<String, String>,
    base: Option<&Base>,
    with_overrides: bool,
) -> (Vec<Source>, SystemTime, Vec<Problem>) {
    let mut sources: Vec<Source> = Vec::new();
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut problems = Vec::new();
    if with_overrides {
        let directory = places.overrides.join(id);
        walk(&directory, "", true, &mut sources, &mut newest, &mut problems);
        for (path, text) in &places.edited {
            let Some(name) = path.strip_prefix(&directory).ok().and_then(Path::to_str) else { continue };
            sources.retain(|source| source.name != name);
            let (name, shown) = (name.to_owned(), path.display().to_string());
            sources.extend(text.clone().map(|text| Source { name, shown, text, is_override: true }));
        }
    }
    for directory in [places.templates.join(id), plugin.join("templates")] {
        let mut layer = Vec::new();
        walk(&directory, "", false, &mut layer, &mut newest, &mut problems);
        layer.retain(|source| !sources.iter().any(|other| !other.is_override && other.name == source.name));
        sources.extend(layer);
    }
    for (name, text) in embedded {
        if !sources.iter().any(|other| !other.is_override && other.name == *name) {
            sources.push(Source {
                name: name.clone(),
                shown: format!("{}!{name}", plugin.display()),
                text: text.clone(),
                is_override: false,
            });
        }
    }
    if let Some(base) = base {
        let mut theirs = Vec::new();
        for directory in [places.templates.join(&base.id), base.path.join("templates")] {
            let mut layer = Vec::new();
            walk(&directory, "", false, &mut layer, &mut newest, &mut problems);
            layer.retain(|source: &Source| !theirs.iter().any(|other: &Source| other.name == source.name));
            theirs.extend(layer);
        }
        for source in theirs {
            if !sources.iter().any(|other| !other.is_override && other.name == source.name) {
                sources.push(source.clone());
            }
            sources.push(Source { name: format!("@{}/{}", base.id, source.name), ..source });
        }
    }
    sources.sort_by(|a, b| (a.is_override, &a.name).cmp(&(b.is_override, &b.name)));
    (sources, newest, problems)
}

fn walk(
    directory: &Path,
    prefix: &str,
    is_override: bool,
    sources: &mut Vec<Source>,
    newest: &mut SystemTime,
    problems: &mut Vec<Problem>,
) {
    // A vendor without templates of its own in this layer is the usual case.
    if !directory.is_dir() || prefix.matches('/').count() > 8 {
        return;
    }
    for path in entries(directory, problems) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            walk(&path, &format!("{name}/"), is_override, sources, newest, problems);
        } else if name.ends_with(".j2") {
            match fs::read_to_string(&path) {
                Ok(text) => {
                    *newest = (*newest).max(modified(&path));
                    sources.push(Source { name, shown: path.display().to_string(), text, is_override });
                }
                Err(error) => problems.push(Problem::new(
                    path.display().to_string(),
                    0,
                    format!("cannot read the template: {error}"),
                )),
            }
        }
    }
}

/// What a directory holds, in a stable order, without what editors and copies in progress leave about.
fn entries(directory: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    match fs::read_dir(directory) {
        Ok(entries) => paths.extend(entries.flatten().map(|entry| entry.path()).filter(|path| !is_noise(path))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => problems.push(Problem::new(
            directory.display().to_string(),
            0,
            format!("cannot list the directory: {error}"),
        )),
    }
    paths.sort();
    paths
}

pub(crate) fn is_noise(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name.ends_with('~') || name.ends_with(".swp") || name.ends_with(".tmp")
}

pub(crate) fn is_library(path: &Path) -> bool {
    path.is_file() && path.to_string_lossy().ends_with(std::env::consts::DLL_SUFFIX)
}

pub(crate) fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(crate) fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
