//! The plugins in service, by vendor: whose phone is this, whose file is that.
//!
//! A shelf is a snapshot. A reload builds a new one beside it, reusing what did not change and keeping what its successor would break.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use provost_plugin::{
    MacAddr, Spec,
    abi::Description,
    model::{Evidence, Identity},
    spec::{Captured, Inconsistency, SpecError},
    templates::Templates,
};

use crate::{
    InService, Limits, Places, Prober, Problem,
    discover::{self, Base, Found, digest},
    library::OpenLibrary,
    outline::Outline,
    staging, trial,
};

#[derive(Clone, Debug, Default)]
pub struct Shelf {
    plugins: BTreeMap<String, Arc<InService>>,
    /// What lies on disk and was refused, by where it lies. Asking it again what it is would cost a process, memory that is never
    /// given back, and perhaps a deadline, at every look at the disk.
    refused: BTreeMap<PathBuf, Refusal>,
    /// Everything that was wrong when this shelf was built, for people to see, and since when it is.
    problems: Vec<(Problem, SystemTime)>,
}

#[derive(Clone, Debug)]
struct Refusal {
    /// Digest of library and `vendor.yaml`.
    code: String,
    /// The vendor, where it got so far, and the digest of everything that it consists of.
    vendor: Option<(String, String)>,
    problems: Vec<Problem>,
    until: Until,
}

#[derive(Clone, Copy, Debug)]
enum Until {
    FilesChange,
    /// The fault was perhaps not its own: a busy machine, a library that it needs and that is not there yet.
    FilesChangeOr(Instant),
    DevicesChange,
}

/// When a refusal that may not have been the library's own fault is looked into again.
const SECOND_CHANCE: Duration = Duration::from_secs(60);

impl Refusal {
    fn stands(&self, code: &str, found: &Found, base: Option<&Base>, places: &Places) -> bool {
        let same = self.vendor.as_ref().is_none_or(|(id, print)| {
            *print == fingerprint(code, &discover::templates(id, places, &found.path, &BTreeMap::new(), base, true).0)
        });
        self.code == code && same && !matches!(self.until, Until::FilesChangeOr(time) if time < Instant::now())
    }
}

/// The plugin that a phone was placed with, and why.
#[derive(Clone, Debug)]
pub struct Choice {
    pub plugin: Arc<InService>,
    pub evidence: Evidence,
    /// The vendor was stated in a profile, which settles it.
    pub stated: bool,
}

/// Why a phone has no plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unplaced {
    #[error(
        "no plugin knows it: the vendor \"{vendor}\", the MAC {mac} and the User-Agent \"{user_agent}\" are nobody's"
    )]
    Unknown { vendor: String, mac: String, user_agent: String },
    #[error("the plugins {} claim it with equal right; state its vendor in a profile (identity: {{vendor: …}})", .0.join(" and "))]
    Ambiguous(Vec<String>),
    #[error("the profile states the vendor \"{0}\", but no plugin of that name is in service")]
    NotInService(String),
}

/// A file of a vendor that a path could mean.
#[derive(Clone, Debug)]
pub struct Route {
    pub plugin: Arc<InService>,
    /// Index into the files of the plugin's spec.
    pub file: usize,
    pub captured: Captured,
}

/// The MAC that stands in the name which these routes are of.
pub fn mac_named(routes: &[Route]) -> Option<MacAddr> {
    routes.iter().find_map(|route| route.captured.mac)
}

impl Shelf {
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<InService>> {
        self.plugins.values()
    }

    /// What lies on disk and was refused, why, and when it first was; an older version of it may be in service.
    pub fn refused(&self) -> impl Iterator<Item = (&Problem, SystemTime)> {
        self.problems.iter().map(|(problem, since)| (problem, *since))
    }

    pub fn get(&self, vendor: &str) -> Option<&Arc<InService>> {
        let id: String = vendor.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        self.plugins.get(&id)
    }

    /// Every plugin that anything speaks for, the strongest first.
    pub fn candidates(&self, identity: &Identity) -> Vec<(Arc<InService>, Evidence)> {
        let mut candidates: Vec<_> = self
            .plugins
            .values()
            .map(|plugin| (Arc::clone(plugin), plugin.spec.evidence(identity)))
            .filter(|(_, evidence)| evidence.strength() != (false, 0, false))
            .collect();
        candidates.sort_by_key(|(_, evidence)| std::cmp::Reverse(evidence.strength()));
        candidates
    }

    /// Settles whose phone it is: what a profile states, then the Event header's vendor, then the longest MAC prefix, then the
    /// User-Agent.
    pub fn choose(&self, identity: &Identity, stated: Option<&str>) -> Result<Choice, Unplaced> {
        if let Some(vendor) = stated {
            let plugin = self.get(vendor).ok_or_else(|| Unplaced::NotInService(vendor.to_owned()))?;
            return Ok(Choice { plugin: Arc::clone(plugin), evidence: plugin.spec.evidence(identity), stated: true });
        }
        if let Some(plugin) = self.plainly(identity) {
            return Ok(Choice { plugin: Arc::clone(plugin), evidence: plugin.spec.evidence(identity), stated: false });
        }
        let mut candidates = self.candidates(identity);
        let Some((_, strongest)) = candidates.first() else {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".into());
            return Err(Unplaced::Unknown {
                vendor: or_none(&identity.vendor),
                mac: identity.mac.map_or_else(|| "none".into(), |mac| mac.to_string()),
                user_agent: or_none(&identity.user_agent),
            });
        };
        let strength = strongest.strength();
        let tied: Vec<String> = candidates
            .iter()
            .filter(|(_, evidence)| evidence.strength() == strength)
            .map(|(plugin, _)| plugin.spec.vendor.clone())
            .collect();
        if tied.len() > 1 {
            return Err(Unplaced::Ambiguous(tied));
        }
        let (plugin, evidence) = candidates.swap_remove(0);
        Ok(Choice { plugin, evidence, stated: false })
    }

    /// The one plugin for which the Event header or the MAC speaks more than for any other: so it is with nearly every phone, and the
    /// User-Agents of all vendors need not be tried.
    fn plainly(&self, identity: &Identity) -> Option<&Arc<InService>> {
        let mut strongest: Option<(&Arc<InService>, (bool, usize))> = None;
        let mut alone = false;
        for plugin in self.plugins.values() {
            let strength = plugin.spec.plain_strength(identity);
            match strongest.map_or((false, 0), |(_, before)| before).cmp(&strength) {
                std::cmp::Ordering::Less => (strongest, alone) = (Some((plugin, strength)), true),
                std::cmp::Ordering::Equal => alone = false,
                std::cmp::Ordering::Greater => {}
            }
        }
        strongest.filter(|_| alone).map(|(plugin, _)| plugin)
    }

    /// Every file that `path` could mean, of every vendor.
    pub fn routes(&self, path: &str) -> Vec<Route> {
        self.plugins
            .values()
            .flat_map(|plugin| {
                plugin.spec.files.iter().enumerate().filter_map(move |(file, entry)| {
                    let captured = entry.name.capture(path, &plugin.spec.models)?;
                    Some(Route { plugin: Arc::clone(plugin), file, captured })
                })
            })
            .collect()
    }

    /// This shelf with an older plugin in place of one that was found wanting on the devices of the fleet, and the reason.
    pub fn keeping(&self, older: &Arc<InService>, problem: Problem) -> Shelf {
        let mut shelf = self.clone();
        if let Some(newer) = shelf.plugins.insert(older.id.clone(), Arc::clone(older)) {
            let refusal = Refusal {
                code: newer.fingerprint[..DIGEST].to_owned(),
                vendor: Some((newer.id.clone(), newer.fingerprint.clone())),
                problems: vec![problem.clone()],
                until: Until::DevicesChange,
            };
            shelf.problems.push((problem, SystemTime::now()));
            shelf.refused.insert(newer.origin.clone(), refusal);
        }
        shelf
    }

    /// This shelf without memory of what was refused: of everything, or of what only these devices had against a plugin.
    pub fn willing(&self, everything: bool) -> Shelf {
        let mut shelf = self.clone();
        shelf.refused.retain(|_, refusal| !everything && !matches!(refusal.until, Until::DevicesChange));
        shelf
    }

    pub fn modified(&self) -> SystemTime {
        self.plugins.values().map(|plugin| plugin.modified).max().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Builds the shelf from what is on disk. What did not change is taken over from `previous`; where the new version of a plugin is
    /// no good, the previous one stays. Without a previous one, a vendor whose site overrides are no good is served as shipped.
    pub fn build(
        places: &Places,
        previous: Option<&Shelf>,
        limits: Limits,
        prober: Option<&Prober>,
    ) -> (Shelf, Vec<Problem>) {
        let (all, mut problems) = discover::plugins(places);
        let mut shelf = Shelf::default();
        // What cannot even be read as a plugin says nothing of being taken away: the plugin that was there stays.
        let unreadable: Vec<PathBuf> = problems.iter().map(|problem| problem.file.clone().into()).collect();
        for found in &all {
            let previous_here = previous.and_then(|shelf| shelf.plugins().find(|old| old.origin == found.path));
            let refused_before = previous.and_then(|shelf| shelf.refused.get(&found.path));
            let base = discover::base(found, &all);
            let mut loaded = load(found, base.as_ref(), places, previous_here, refused_before, limits, prober);
            if loaded.plugin.is_none()
                && let Some(older) = previous_here
            {
                loaded.plugin = Some(Arc::clone(older));
                loaded.problems.iter_mut().for_each(|problem| problem.older_serves = true);
            }
            problems.extend(loaded.problems);
            shelf.refused.extend(loaded.refusal.map(|refusal| (found.path.clone(), refusal)));
            let Some(plugin) = loaded.plugin else { continue };
            match shelf.plugins.get(&plugin.id) {
                Some(other) => problems.push(Problem::new(
                    found.shown(),
                    0,
                    format!("{} is already in service from {}", plugin.spec.vendor, other.origin.display()),
                )),
                None => drop(shelf.plugins.insert(plugin.id.clone(), plugin)),
            }
        }
        for old in previous.into_iter().flat_map(Shelf::plugins) {
            let hidden = unreadable.iter().any(|path| path.starts_with(&old.origin) || old.origin.starts_with(path));
            if hidden && !shelf.plugins.contains_key(&old.id) {
                for problem in problems.iter_mut().filter(|problem| {
                    let path = Path::new(&problem.file);
                    path.starts_with(&old.origin) || old.origin.starts_with(path)
                }) {
                    problem.older_serves = true;
                }
                shelf.plugins.insert(old.id.clone(), Arc::clone(old));
            }
        }
        let (now, before) = (SystemTime::now(), previous.map(|shelf| shelf.problems.as_slice()).unwrap_or_default());
        let since = |problem: &Problem| before.iter().find(|(old, _)| old == problem).map_or(now, |(_, since)| *since);
        shelf.problems = problems.iter().map(|problem| (problem.clone(), since(problem))).collect();
        (shelf, problems)
    }
}

/// What came of looking at one plugin on disk.
#[derive(Default)]
struct Loaded {
    /// What is to serve from now on, if anything.
    plugin: Option<Arc<InService>>,
    problems: Vec<Problem>,
    /// What is to be remembered of it.
    refusal: Option<Refusal>,
}

impl Loaded {
    fn refused(problems: Vec<Problem>) -> Loaded {
        Loaded { problems, ..Loaded::default() }
    }

    fn remembered(self, code: &str, vendor: Option<(String, String)>, until: Until) -> Loaded {
        let refusal = Refusal { code: code.to_owned(), vendor, problems: self.problems.clone(), until };
        Loaded { refusal: Some(refusal), ..self }
    }
}

fn load(
    found: &Found,
    base: Option<&Base>,
    places: &Places,
    older: Option<&Arc<InService>>,
    refused: Option<&Refusal>,
    limits: Limits,
    prober: Option<&Prober>,
) -> Loaded {
    let shown = found.shown();
    let refuse = |message: String| Loaded::refused(vec![Problem::new(shown.clone(), 0, message)]);
    // A library that is the plugin by itself is named in front already.
    let of_library = |path: &Path, error: &dyn std::fmt::Display| match found.vendor_yaml {
        Some(_) => refuse(format!("{}: {error}", path.display())),
        None => refuse(error.to_string()),
    };
    let library = match found.library.as_deref().map(|path| (path, staging::read(path))) {
        None => None,
        Some((path, Ok(bytes))) => Some((path, bytes)),
        Some((path, Err(error))) => return of_library(path, &error),
    };
    let code = digest(&[
        library.as_ref().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default(),
        found.vendor_yaml.as_deref().unwrap_or_default().as_bytes(),
        base.map(|base| base.vendor_yaml.as_bytes()).unwrap_or_default(),
    ]);
    // The code is unchanged: only templates may have moved, and those are cheap to look at.
    if let Some(older) = older.filter(|older| older.fingerprint.starts_with(&code)) {
        let (sources, _, unreadable) =
            discover::templates(&older.id, places, &found.path, &BTreeMap::new(), base, true);
        if !unreadable.is_empty() {
            return Loaded::refused(unreadable);
        }
        if older.fingerprint == fingerprint(&code, &sources) {
            return Loaded { plugin: Some(Arc::clone(older)), ..Loaded::default() };
        }
    }
    if let Some(refusal) = refused.filter(|refusal| refusal.stands(&code, found, base, places)) {
        return Loaded { problems: refusal.problems.clone(), refusal: Some(refusal.clone()), plugin: None };
    }

    let opened = match &library {
        None => None,
        Some((path, bytes)) => match open(path, bytes, places, prober) {
            Ok(opened) => Some(opened),
            Err((error, until)) => return of_library(path, &error).remembered(&code, None, until),
        },
    };
    let vendor_yaml = match (&found.vendor_yaml, &opened) {
        (Some(text), _) => text.clone(),
        (None, Some((_, description))) => description.vendor_yaml.clone(),
        (None, None) => return refuse("there is neither a vendor.yaml nor a library".into()),
    };
    let spec = match Spec::read_like(&vendor_yaml, |_| base.map(|base| base.vendor_yaml.clone())) {
        Ok(spec) => spec,
        Err(error) => return Loaded::refused(unfit(&shown, &vendor_yaml, &error)),
    };
    let embedded = opened.as_ref().map(|(_, description)| description.templates.clone()).unwrap_or_default();
    let id = spec.id();
    // Where the overrides have to be left out, the fingerprint is still that of the files with them, so that the next look at the
    // same files does not try again.
    let print = fingerprint(&code, &discover::templates(&id, places, &found.path, &embedded, base, true).0);

    let attempt = |with_overrides: bool| -> Result<InService, Vec<Problem>> {
        let (sources, newest, unreadable) =
            discover::templates(&id, places, &found.path, &embedded, base, with_overrides);
        if !unreadable.is_empty() {
            return Err(unreadable);
        }
        let templates = Templates::compile(&spec, &sources).map_err(|failures| {
            failures
                .into_iter()
                .map(|failure| Problem::new(failure.template, failure.line, failure.message))
                .collect::<Vec<_>>()
        })?;
        let print = if with_overrides { fingerprint(&code, &sources) } else { print.clone() };
        let data = InService::data(spec.clone(), templates, found.path.clone(), found.modified.max(newest), print);
        let plugin = match &opened {
            None => data,
            Some((opened, description)) => {
                // With what it inherits: the library reads one text and knows of no other vendor.
                let whole = if spec.like.is_some() { in_full(&spec) } else { vendor_yaml.clone() };
                let instance =
                    opened.create(&whole).map_err(|error| vec![Problem::new(shown.clone(), 0, error.to_string())])?;
                let path = found.library.clone().unwrap_or_default();
                data.with_library(path, instance, description.version.clone(), limits)
            }
        };
        let failed = trial::sample(&plugin, &shown);
        if failed.is_empty() { Ok(plugin) } else { Err(failed) }
    };
    let mut problems = match attempt(true) {
        Ok(plugin) => return Loaded { plugin: Some(Arc::new(plugin)), ..Loaded::default() },
        Err(problems) => problems,
    };
    if older.is_none()
        && places.overrides.join(&id).is_dir()
        && let Ok(as_shipped) = attempt(false)
    {
        problems.push(Problem::new(
            places.overrides.join(&id).display().to_string(),
            0,
            format!("{} is served with the templates as shipped until this is mended", spec.vendor),
        ));
        return Loaded { plugin: Some(Arc::new(as_shipped)), problems, refusal: None };
    }
    let refused = Loaded::refused(problems);
    // What is data alone costs nothing to look at again.
    if opened.is_some() { refused.remembered(&code, Some((id, print)), Until::FilesChange) } else { refused }
}

/// Libraries that were opened, by the digest of their bytes. They stay open for ever, so the same bytes are never opened twice: a
/// site that edits its templates all day would else fill the memory with copies of the library that goes with them.
static OPENED: Mutex<BTreeMap<String, (OpenLibrary, Description)>> = Mutex::new(BTreeMap::new());

/// What a library said of itself when it was opened.
pub(crate) fn described(bytes: &[u8]) -> Option<Description> {
    let opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    opened.get(&digest(&[bytes])).map(|(_, description)| description.clone())
}

fn open(
    path: &Path,
    bytes: &[u8],
    places: &Places,
    prober: Option<&Prober>,
) -> Result<(OpenLibrary, Description), (String, Until)> {
    let key = digest(&[bytes]);
    if let Some(opened) = OPENED.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(opened.clone());
    }
    let copy = staging::stage(path, bytes, &places.staged, prober)
        .map_err(|error| (error.to_string(), Until::FilesChangeOr(Instant::now() + SECOND_CHANCE)))?;
    let opened = OpenLibrary::open(&copy.path);
    drop(copy);
    let opened = opened.and_then(|library| Ok((library, library.describe()?)));
    let opened = opened.map_err(|error| (error.to_string(), Until::FilesChange))?;
    OPENED.lock().unwrap_or_else(PoisonError::into_inner).insert(key, opened.clone());
    Ok(opened)
}

/// A `vendor.yaml` that says no vendor, with the line where its reading ended, or that of each part that does not agree with another.
/// Without the lines around it: the log is no place for them.
fn unfit(shown: &str, vendor_yaml: &str, error: &SpecError) -> Vec<Problem> {
    if let SpecError::Inconsistent(found) = error {
        let outline = Outline::of(vendor_yaml);
        let problem = |one: &Inconsistency| Problem::new(shown, outline.line(&one.at), &one.message);
        return found.iter().map(problem).collect();
    }
    match serde_yaml::from_str::<Spec>(vendor_yaml) {
        Ok(_) => vec![Problem::new(shown, 0, error.to_string())],
        Err(error) => {
            let line = error.location().map_or(0, |at| at.line() as usize);
            let message = error.without_snippet().to_string();
            let message = message.trim_start_matches("error: ");
            let message = message.split(" at line ").next().unwrap_or_default();
            let message = message
                .strip_prefix(&format!("line {line} column "))
                .map_or(message, |rest| rest.split_once(": ").map_or(message, |(_, message)| message));
            vec![Problem::new(shown, line, message)]
        }
    }
}

/// A spec as a `vendor.yaml` that is like no other.
pub(crate) fn in_full(spec: &Spec) -> String {
    serde_yaml::to_string(&Spec { like: None, ..spec.clone() }).expect("a spec is plain data")
}

/// Length of a digest in hex.
const DIGEST: usize = 64;

fn fingerprint(code: &str, sources: &[provost_plugin::templates::Source]) -> String {
    let parts: Vec<&[u8]> = sources
        .iter()
        // Templates embedded in the library are part of its code.
        .filter(|source| !source.shown.contains('!'))
        .flat_map(|source| [source.shown.as_bytes(), source.text.as_bytes()])
        .collect();
    format!("{code}{}", digest(&parts))
}
