//! What all files say together: names are found, duplicates and circles refused, layers put in order.
//!
//! A device or profile whose references do not hold keeps the version that the snapshot before had, if that one's still hold, and is
//! left out otherwise: a phone that gets no answer goes on with what it has, one that gets half a configuration does not.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use provost_plugin::MacAddr;

use crate::{
    document::{Device, Document, Layer, Network, Profile, Reference},
    enrol::Rule,
    merge::overlaps,
    problem::{Problem, hint},
    shape,
    vault::Vault,
};

#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) defaults: Vec<Arc<Layer>>,
    pub(crate) sites: BTreeMap<Box<str>, Vec<Arc<Layer>>>,
    /// The widest first.
    pub(crate) networks: Vec<Arc<Network>>,
    /// By the plugin's name.
    pub(crate) vendors: BTreeMap<Box<str>, Vec<Arc<Layer>>>,
    /// The shorter pattern first, what is no pattern last.
    pub(crate) models: Vec<Arc<Layer>>,
    pub(crate) profiles: BTreeMap<Box<str>, Arc<Profile>>,
    /// Profiles that choose their phones, in the order in which they are tried.
    pub(crate) choosing: Vec<Arc<Profile>>,
    /// In the order in which they are tried.
    pub(crate) rules: Vec<Arc<Rule>>,
    /// By MAC.
    pub(crate) devices: Vec<Arc<Device>>,
}

impl Index {
    pub(crate) fn build<'a>(
        documents: impl Iterator<Item = &'a Document> + Clone,
        previous: Option<&Index>,
        vault: &Vault,
        problems: &mut Vec<Problem>,
    ) -> Index {
        let mut index = Index::default();
        // A layer that refers to what is not to be had: its last version that did not. Where there is none it stays, and phones that
        // need it wait.
        let sound = |layer: &Arc<Layer>, before: Option<&Vec<Arc<Layer>>>| -> Arc<Layer> {
            let is_it = |before: &&Arc<Layer>| {
                before.file == layer.file && before.name == layer.name && !vault.lacks(&before.settings)
            };
            let older = || before.into_iter().flatten().find(is_it);
            if vault.lacks(&layer.settings) { older().unwrap_or(layer).clone() } else { layer.clone() }
        };
        for document in documents.clone() {
            if let Some(layer) = &document.defaults {
                let layer = sound(layer, previous.map(|previous| &previous.defaults));
                join(&mut index.defaults, [&layer], problems);
            }
            for layer in &document.sites {
                let layer = sound(layer, previous.and_then(|previous| previous.sites.get(&layer.name)));
                join(index.sites.entry(layer.name.clone()).or_default(), [&layer], problems);
            }
            for layer in &document.vendors {
                let layer = sound(layer, previous.and_then(|previous| previous.vendors.get(&layer.name)));
                join(index.vendors.entry(layer.name.clone()).or_default(), [&layer], problems);
            }
            let before = previous.map(|previous| &previous.models);
            index.models.extend(document.models.iter().map(|layer| sound(layer, before)));
            index.networks.extend(document.networks.iter().map(|network| {
                let is_it = |before: &&Arc<Network>| {
                    before.layer.file == network.layer.file
                        && before.layer.name == network.layer.name
                        && !vault.lacks(&before.layer.settings)
                };
                let older = || previous.into_iter().flat_map(|previous| &previous.networks).find(is_it);
                let lacks = vault.lacks(&network.layer.settings);
                if lacks { older().unwrap_or(network).clone() } else { network.clone() }
            }));
        }
        // The sorts are stable: between equals the order of the files stands.
        index.models.sort_by_key(|layer| (!layer.name.contains('*'), layer.name.len(), layer.name.clone()));
        index.networks.sort_by_key(|network| network.cidr.map(|cidr| cidr.prefix_len()));
        for network in &index.networks {
            if let Some(site) = &network.site
                && !index.sites.contains_key(&site.name)
            {
                problems.push(unknown("site", site, &network.layer.file, index.sites.keys(), &mut Hints::new()));
            }
        }
        index.profiles = profiles(documents.clone(), &index.sites, previous, vault, problems);
        index.choosing = index.profiles.values().filter(|profile| profile.selector.is_some()).cloned().collect();
        index
            .choosing
            .sort_by_key(|profile| std::cmp::Reverse(profile.selector.as_ref().map(|selector| selector.rank())));
        index.rules = index.rules(documents.clone(), problems);
        index.devices = index.devices(documents, previous, vault, problems);
        index
    }

    pub(crate) fn device(&self, mac: MacAddr) -> Option<&Arc<Device>> {
        self.devices.binary_search_by_key(&mac, |device| device.mac()).ok().map(|place| &self.devices[place])
    }

    /// The profile and all that it stands on, the base first.
    pub(crate) fn chain(&self, name: &str) -> Vec<&Arc<Profile>> {
        let mut chain = Vec::new();
        let mut next = self.profiles.get(name);
        // Circles were refused when the index was built.
        while let Some(profile) = next {
            chain.push(profile);
            next = profile.extends.as_ref().and_then(|base| self.profiles.get(&base.name));
        }
        chain.reverse();
        chain
    }

    fn devices<'a>(
        &self,
        documents: impl Iterator<Item = &'a Document> + Clone,
        previous: Option<&Index>,
        vault: &Vault,
        problems: &mut Vec<Problem>,
    ) -> Vec<Arc<Device>> {
        let named: BTreeSet<&str> =
            documents.clone().flat_map(|document| &document.profiles).map(|profile| &*profile.layer.name).collect();
        let mut all: Vec<&Arc<Device>> = documents.flat_map(|document| &document.devices).collect();
        all.sort_by_key(|device| device.mac());
        let mut devices = Vec::with_capacity(all.len());
        let mut hints = Hints::new();
        for same in all.chunk_by(|one, other| one.mac() == other.mac()) {
            let mac = same[0].mac();
            let before = previous.and_then(|previous| previous.device(mac));
            // The file that had the device keeps it: pasting it into a second file must not change a phone that is in service.
            let chosen =
                same.iter().find(|device| before.is_some_and(|before| before.file == device.file)).unwrap_or(&same[0]);
            for other in same.iter().filter(|device| !Arc::ptr_eq(device, chosen)) {
                let message = format!(
                    "duplicate device \"{mac}\": it is already at {}:{}, which stays in service",
                    chosen.file, chosen.line
                );
                problems.push(Problem::error(&other.file, other.line, other.column, message));
            }
            let faults = self.device_faults(chosen, &named, &mut hints);
            let is_whole = faults.is_empty();
            if is_whole && !vault.lacks(&chosen.settings) {
                devices.push((*chosen).clone());
                continue;
            }
            problems.extend(faults);
            let before = before.filter(|before| {
                self.device_faults(before, &named, &mut hints).is_empty() && !vault.lacks(&before.settings)
            });
            // Without its password it is still ours: it waits, and is no stranger.
            devices.extend(before.or_else(|| is_whole.then_some(chosen)).cloned());
        }
        devices
    }

    /// One that does not hold is out until it is mended: an older version of it would enrol phones that nobody wants any more.
    fn rules<'a>(&self, documents: impl Iterator<Item = &'a Document>, problems: &mut Vec<Problem>) -> Vec<Arc<Rule>> {
        let mut rules: Vec<Arc<Rule>> = Vec::new();
        for rule in documents.flat_map(|document| &document.rules) {
            if let Some(first) = rules.iter().find(|first| first.name == rule.name) {
                let message =
                    format!("duplicate rule \"{}\": it is already at {}:{}", rule.name, first.file, first.line);
                problems.push(Problem::error(&rule.file, rule.line, rule.column, message));
                continue;
            }
            let mut faults = Vec::new();
            let mut hints = Hints::new();
            if !self.profiles.contains_key(&rule.profile.name) {
                faults.push(unknown("profile", &rule.profile, &rule.file, self.profiles.keys(), &mut hints));
            }
            if let Some(site) = rule.site.as_ref().filter(|site| !self.sites.contains_key(&site.name)) {
                faults.push(unknown("site", site, &rule.file, self.sites.keys(), &mut hints));
            }
            if faults.is_empty() {
                rules.push(Arc::clone(rule));
            }
            problems.extend(faults);
        }
        rules
    }

    fn device_faults(&self, device: &Device, named: &BTreeSet<&str>, hints: &mut Hints) -> Vec<Problem> {
        let mut faults = Vec::new();
        if let Some(profile) = &device.profile
            && !self.profiles.contains_key(&profile.name)
        {
            faults.push(match named.contains(&*profile.name) {
                true => refused(profile, &device.file),
                false => unknown("profile", profile, &device.file, self.profiles.keys(), hints),
            });
        }
        if let Some(site) = &device.site
            && !self.sites.contains_key(&site.name)
        {
            faults.push(unknown("site", site, &device.file, self.sites.keys(), hints));
        }
        faults
    }
}

/// A later file's settings of the same name come over an earlier file's; what both say is pointed out.
fn join<'a>(layers: &mut Vec<Arc<Layer>>, more: impl IntoIterator<Item = &'a Arc<Layer>>, problems: &mut Vec<Problem>) {
    for layer in more {
        for earlier in layers.iter() {
            for (path, first, second) in overlaps(&earlier.settings, &layer.settings, shape::settings()) {
                let message =
                    format!("\"{path}\" is also set at {}:{}; what this file says counts", earlier.file, first.line);
                problems.push(Problem::warning(&layer.file, second.line, second.column, message));
            }
        }
        layers.push(layer.clone());
    }
}

/// What to say to a name that stands for nothing. Kept, because a profile that was renamed is missed by thousands of devices at once.
type Hints = HashMap<(&'static str, Box<str>), String>;

fn unknown<'a>(
    what: &'static str,
    named: &Reference,
    file: &Arc<str>,
    known: impl Iterator<Item = &'a Box<str>> + Clone,
    hints: &mut Hints,
) -> Problem {
    let hint = hints.entry((what, named.name.clone())).or_insert_with(|| hint(&named.name, known.map(|name| &**name)));
    Problem::error(file, named.line, named.column, format!("unknown {what} \"{}\"{hint}", named.name))
}

fn refused(named: &Reference, file: &Arc<str>) -> Problem {
    Problem::error(file, named.line, named.column, format!("profile \"{}\" was refused", named.name))
}

type Profiles = BTreeMap<Box<str>, Arc<Profile>>;

fn profiles<'a>(
    documents: impl Iterator<Item = &'a Document>,
    sites: &BTreeMap<Box<str>, Vec<Arc<Layer>>>,
    previous: Option<&Index>,
    vault: &Vault,
    problems: &mut Vec<Problem>,
) -> Profiles {
    let mut all: HashMap<&str, Vec<&Arc<Profile>>> = HashMap::new();
    for profile in documents.flat_map(|document| &document.profiles) {
        all.entry(&profile.layer.name).or_default().push(profile);
    }
    let mut profiles = Profiles::new();
    for (name, same) in all {
        let before = previous.and_then(|previous| previous.profiles.get(name));
        let chosen = same
            .iter()
            .find(|one| before.is_some_and(|before| before.layer.file == one.layer.file))
            .unwrap_or(&same[0]);
        for other in same.iter().filter(|one| !Arc::ptr_eq(one, chosen)) {
            let layer = &other.layer;
            let message = format!(
                "duplicate profile \"{name}\": it is already at {}:{}, which stays in service",
                chosen.layer.file, chosen.layer.line
            );
            problems.push(Problem::error(&layer.file, layer.line, layer.column, message));
        }
        let lacks = vault.lacks(&chosen.layer.settings);
        let older = before.filter(|before| lacks && !vault.lacks(&before.layer.settings));
        profiles.insert(name.into(), older.unwrap_or(*chosen).clone());
    }
    let faults = faults(&profiles, sites);
    for (name, problem) in &faults {
        problems.push(problem.clone());
        match previous.and_then(|previous| previous.profiles.get(name)) {
            Some(before) => drop(profiles.insert(name.clone(), before.clone())),
            None => drop(profiles.remove(name)),
        }
    }
    // What the older versions do not mend falls, and with it whatever stands on it, until all that is left holds.
    loop {
        let fallen = self::faults(&profiles, sites);
        if fallen.is_empty() {
            return profiles;
        }
        for (name, _) in fallen {
            if let Some(profile) = profiles.remove(&name)
                && !faults.contains_key(&name)
                && let Some(base) = &profile.extends
            {
                problems.push(refused(base, &profile.layer.file));
            }
        }
    }
}

/// The profiles that do not hold, each with the first reason.
fn faults(profiles: &Profiles, sites: &BTreeMap<Box<str>, Vec<Arc<Layer>>>) -> BTreeMap<Box<str>, Problem> {
    let mut faults = BTreeMap::new();
    for (name, profile) in profiles {
        let file = &profile.layer.file;
        if let Some(base) = profile.extends.as_ref().filter(|base| !profiles.contains_key(&base.name)) {
            faults.insert(name.clone(), unknown("profile", base, file, profiles.keys(), &mut Hints::new()));
        } else if let Some(site) = profile.site.as_ref().filter(|site| !sites.contains_key(&site.name)) {
            faults.insert(name.clone(), unknown("site", site, file, sites.keys(), &mut Hints::new()));
        } else if let Some(circle) = circle(profiles, name)
            && let Some(base) = &profile.extends
        {
            let message = format!("\"extends\" leads round in a circle: {circle}");
            faults.insert(name.clone(), Problem::error(file, base.line, base.column, message));
        }
    }
    faults
}

/// The way from `name` back to itself, if there is one.
fn circle(profiles: &Profiles, name: &str) -> Option<String> {
    let mut way = vec![name];
    loop {
        let base = &*profiles.get(*way.last()?)?.extends.as_ref()?.name;
        if base == name {
            way.push(base);
            return Some(way.join(" → "));
        }
        if way.contains(&base) {
            // It leads into a circle that it is not part of; the circle's own members are reported.
            return None;
        }
        way.push(base);
    }
}
