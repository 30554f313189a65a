//! The plugins in service, by vendor: whose phone is this, whose file is that.
//!
//! A shelf is a snapshot. A reload builds a new one beside it, reusing what did not change and keeping what its successor would break.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use provost_plugin::{
    Spec,
    model::{Evidence, Identity},
    spec::Captured,
    templates::Templates,
};

use crate::{
    InService, Limits, Places, Prober, Problem,
    discover::{self, Found, digest},
    library::OpenLibrary,
    staging, trial,
};

#[derive(Debug, Default)]
pub struct Shelf {
    plugins: BTreeMap<String, Arc<InService>>,
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

impl Shelf {
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<InService>> {
        self.plugins.values()
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

    /// This shelf with one plugin exchanged: for keeping an old version in service.
    pub fn with(&self, plugin: Arc<InService>) -> Shelf {
        let mut plugins = self.plugins.clone();
        plugins.insert(plugin.id.clone(), plugin);
        Shelf { plugins }
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
        let (found, mut problems) = discover::plugins(places);
        let mut plugins: BTreeMap<String, Arc<InService>> = BTreeMap::new();
        // A file that cannot even be found keeps its plugin as well: see `keep` below.
        let mut kept: Vec<std::path::PathBuf> = problems.iter().map(|problem| problem.file.clone().into()).collect();
        for plugin in &found {
            match load(plugin, places, previous, limits, prober) {
                Ok((in_service, more)) => {
                    problems.extend(more);
                    if let Some(other) = plugins.get(&in_service.id) {
                        problems.push(Problem::new(
                            plugin.shown(),
                            0,
                            format!("{} is already in service from {}", in_service.spec.vendor, other.origin.display()),
                        ));
                        continue;
                    }
                    plugins.insert(in_service.id.clone(), in_service);
                }
                Err(more) => {
                    kept.push(plugin.path.clone());
                    problems.extend(more);
                }
            }
        }
        for old in previous.into_iter().flat_map(Shelf::plugins) {
            let refused = kept.iter().any(|path| *path == old.origin || path.parent() == Some(&old.origin));
            if refused && !plugins.contains_key(&old.id) {
                for problem in &mut problems {
                    let file = std::path::Path::new(&problem.file);
                    if file == old.origin
                        || file.starts_with(&old.origin)
                        || kept
                            .iter()
                            .any(|path| *path == old.origin && problem.file.contains(&format!("/{}/", old.id)))
                    {
                        problem.older_serves = true;
                    }
                }
                plugins.insert(old.id.clone(), Arc::clone(old));
            }
        }
        (Shelf { plugins }, problems)
    }
}

/// A plugin in service, with what is worth telling about it; or why not.
type Loaded = Result<(Arc<InService>, Vec<Problem>), Vec<Problem>>;

fn load(found: &Found, places: &Places, previous: Option<&Shelf>, limits: Limits, prober: Option<&Prober>) -> Loaded {
    let shown = found.shown();
    let refuse = |message: String| vec![Problem::new(shown.clone(), 0, message)];
    let library_bytes = match &found.library {
        Some(library) => Some(
            std::fs::read(library).map_err(|error| refuse(format!("cannot read {}: {error}", library.display())))?,
        ),
        None => None,
    };
    let code = digest(&[
        library_bytes.as_deref().unwrap_or_default(),
        found.vendor_yaml.as_deref().unwrap_or_default().as_bytes(),
    ]);
    drop(library_bytes);

    let old = previous.and_then(|shelf| shelf.plugins().find(|old| old.origin == found.path));
    // The code is unchanged: only templates may have moved, and those are cheap to look at.
    if let Some(old) = old.filter(|old| old.fingerprint.starts_with(&code)) {
        let (sources, _, mut unreadable) = discover::templates(&old.id, places, &found.path, &Default::default(), true);
        if old.fingerprint == fingerprint(&code, &sources) && unreadable.is_empty() {
            return Ok((Arc::clone(old), Vec::new()));
        }
        if !unreadable.is_empty() {
            unreadable.iter_mut().for_each(|problem| problem.older_serves = true);
            return Ok((Arc::clone(old), unreadable));
        }
    }

    let opened = match &found.library {
        None => None,
        Some(library) => {
            let copy = staging::stage(library, &places.staged, prober)
                .map_err(|error| refuse(format!("{}: {error}", library.display())))?;
            let opened = OpenLibrary::open(&copy);
            // The name has done its work; the mapping keeps the file.
            let _ = std::fs::remove_file(&copy);
            let opened = opened.map_err(|error| refuse(format!("{}: {error}", library.display())))?;
            let description = opened.describe().map_err(|error| refuse(format!("{}: {error}", library.display())))?;
            Some((opened, description))
        }
    };
    let vendor_yaml = match (&found.vendor_yaml, &opened) {
        (Some(text), _) => text.clone(),
        (None, Some((_, description))) => description.vendor_yaml.clone(),
        (None, None) => return Err(refuse("there is neither a vendor.yaml nor a library".into())),
    };
    let spec = Spec::read(&vendor_yaml).map_err(|error| refuse(error.to_string()))?;
    let embedded = opened.as_ref().map(|(_, description)| description.templates.clone()).unwrap_or_default();
    let id = spec.id();

    let attempt = |with_overrides: bool| -> Result<InService, Vec<Problem>> {
        let (sources, newest, unreadable) = discover::templates(&id, places, &found.path, &embedded, with_overrides);
        if !unreadable.is_empty() {
            return Err(unreadable);
        }
        let templates = Templates::compile(&spec, &sources).map_err(|failures| {
            failures
                .into_iter()
                .map(|failure| Problem::new(failure.template, failure.line, failure.message))
                .collect::<Vec<_>>()
        })?;
        // Where the overrides had to be left out, the fingerprint is that of the files with them, so that the next look at the same
        // files does not try again.
        let print = if with_overrides {
            fingerprint(&code, &sources)
        } else {
            fingerprint(&code, &discover::templates(&id, places, &found.path, &embedded, true).0)
        };
        let data = InService::data(spec.clone(), templates, found.path.clone(), found.modified.max(newest), print);
        let plugin = match &opened {
            None => data,
            Some((opened, description)) => {
                let instance = opened.create(&vendor_yaml).map_err(|error| refuse(error.to_string()))?;
                data.with_library(instance, description.version.clone(), limits)
            }
        };
        let failed = trial::sample(&plugin, &shown);
        if failed.is_empty() { Ok(plugin) } else { Err(failed) }
    };
    match attempt(true) {
        Ok(plugin) => Ok((Arc::new(plugin), Vec::new())),
        Err(mut why) => {
            if let Some(old) = old {
                why.iter_mut().for_each(|problem| problem.older_serves = true);
                return Ok((Arc::clone(old), why));
            }
            if places.overrides.join(&id).is_dir()
                && let Ok(as_shipped) = attempt(false)
            {
                why.push(Problem::new(
                    places.overrides.join(&id).display().to_string(),
                    0,
                    format!("{} is served with the templates as shipped until this is mended", spec.vendor),
                ));
                return Ok((Arc::new(as_shipped), why));
            }
            Err(why)
        }
    }
}

fn fingerprint(code: &str, sources: &[provost_plugin::templates::Source]) -> String {
    let parts: Vec<&[u8]> = sources
        .iter()
        // Templates embedded in the library are part of its code.
        .filter(|source| !source.shown.contains('!'))
        .flat_map(|source| [source.shown.as_bytes(), source.text.as_bytes()])
        .collect();
    format!("{code}{}", digest(&parts))
}
