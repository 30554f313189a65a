//! An immutable snapshot of what phones should be: all profile files at one moment. A reload makes a new one and swaps it in; a
//! request in flight finishes on the one it started with.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use provost_plugin::MacAddr;

use crate::{
    Device, Problem,
    document::{self, Document},
    enrol::Room,
    files::{self, Kind, Source, Sources},
    index::Index,
    refer::Refer,
    vault::{self, Places, Vault, WithoutKey},
};

const PROFILES: Kind<Document> = Kind { extensions: &["yaml", "yml"], read: document::read };

/// Every profile and device that is in service.
#[derive(Debug)]
pub struct Fleet {
    sources: Sources<Document>,
    pub(crate) index: Index,
    modified: SystemTime,
    /// A file that is there and not in service as it is written.
    unread: Option<Arc<str>>,
    pub(crate) vault: Vault,
    /// Looked up when a rule first needs it: most fleets have none.
    rooms: OnceLock<Vec<Room>>,
}

impl Default for Fleet {
    /// A fleet without phones.
    fn default() -> Fleet {
        Fleet::made(Sources::new(), Index::default(), SystemTime::UNIX_EPOCH, None, Vault::default())
    }
}

impl Fleet {
    /// Reads `*.yaml` and `*.yml` below `root`, in the order of their paths, and reports everything that is wrong at once.
    ///
    /// Files that did not change since `previous` are not parsed again. A file with an error keeps the version that `previous` had in
    /// service, or is left out if there is none; all others load. The problems of a file come back at each reading until it is mended.
    pub fn read(root: &Path, previous: Option<&Fleet>) -> (Fleet, Vec<Problem>) {
        let places = previous.map(|fleet| fleet.vault.places().clone()).unwrap_or_default();
        Fleet::read_with(root, places, previous)
    }

    /// The same, with what profiles refer to in the place of passwords looked up at these places.
    pub fn read_with(root: &Path, places: Places, previous: Option<&Fleet>) -> (Fleet, Vec<Problem>) {
        let (sources, problems) = files::read(root, &PROFILES, previous.map(|fleet| &fleet.sources));
        Fleet::of(sources, places, problems, previous)
    }

    /// This fleet as it would be with these files written (none: deleted). Nothing is written.
    pub fn edited(&self, edits: &BTreeMap<PathBuf, Option<Vec<u8>>>) -> (Fleet, Vec<Problem>) {
        // Whoever asks what would be makes no key.
        let without_key = match self.vault.places().without_key {
            WithoutKey::Make => WithoutKey::Pretend,
            other => other,
        };
        let places = Places { without_key, ..self.vault.places().clone() };
        Fleet::of(files::edited(&self.sources, &PROFILES, edits), places, Vec::new(), Some(self))
    }

    /// The devices that may be another phone's by now than they were in `before`; none where that may be all.
    pub fn changed_since(&self, before: &Fleet) -> Option<BTreeSet<MacAddr>> {
        let is_same = |path: &PathBuf| {
            let of = |fleet: &Fleet| fleet.sources.get(path).map(|source| Arc::as_ptr(&source.document));
            of(self) == of(before)
        };
        let paths = self.sources.keys().chain(before.sources.keys());
        let changed = paths.filter(|path| !is_same(path)).map(PathBuf::as_path);
        if self.vault.says_as(&before.vault) { self.concerned(before, changed) } else { None }
    }

    /// The devices of which these files decide in this fleet or in `before`; none where they hold more than devices, which may concern all.
    pub fn concerned<'a>(
        &self,
        before: &Fleet,
        paths: impl IntoIterator<Item = &'a Path>,
    ) -> Option<BTreeSet<MacAddr>> {
        let mut macs = BTreeSet::new();
        for path in paths {
            for source in [self.sources.get(path), before.sources.get(path)].into_iter().flatten() {
                // A rule is about phones that are no devices yet.
                let Document {
                    defaults,
                    sites,
                    networks,
                    vendors,
                    models,
                    profiles,
                    rules: _,
                    devices,
                    refers: _,
                    holds_passwords: _,
                } = &*source.document;
                let only_devices = defaults.is_none()
                    && sites.is_empty()
                    && networks.is_empty()
                    && vendors.is_empty()
                    && models.is_empty()
                    && profiles.is_empty();
                if !only_devices {
                    return None;
                }
                macs.extend(devices.iter().map(|device| device.mac()));
            }
        }
        Some(macs)
    }

    /// Whether this content of a file (none: no such file) is what was last seen of it.
    pub fn has_seen(&self, path: &Path, content: Option<&[u8]>) -> bool {
        files::is_seen(&self.sources, path, content)
    }

    /// The files that were found.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.keys().map(PathBuf::as_path)
    }

    fn of(
        sources: Sources<Document>,
        places: Places,
        mut problems: Vec<Problem>,
        previous: Option<&Fleet>,
    ) -> (Fleet, Vec<Problem>) {
        for source in sources.values() {
            problems.extend(source.problems.iter().cloned());
        }
        let unread = problems.iter().find(|problem| problem.is_error()).map(|problem| Arc::clone(&problem.file));
        let documents = sources.values().map(|source: &Source<Document>| &*source.document);
        let mut between = Vec::new();
        let wanted: HashSet<Arc<Refer>> = documents.clone().flat_map(|document| &document.refers).cloned().collect();
        let mut vault = Vault::read(places, &wanted, previous.map(|fleet| &fleet.vault), &mut between);
        documents.clone().for_each(|document| document.missing(&vault, &mut between));
        let index = Index::build(documents, previous.map(|fleet| &fleet.index), &vault, &mut between);
        between.sort();
        problems.extend(between);
        if !problems.iter().any(Problem::is_error) {
            vault.keep_only(&wanted);
        }
        let modified = files::modified(previous.map(|fleet| (&fleet.sources, fleet.modified)), &sources);
        let modified = match previous {
            None => vault.written().map_or(modified, |written| modified.max(written)),
            Some(before) if modified == before.modified && !vault.says_as(&before.vault) => SystemTime::now(),
            Some(_) => modified,
        };
        (Fleet::made(sources, index, modified, unread, vault), problems)
    }

    fn made(
        sources: Sources<Document>,
        index: Index,
        modified: SystemTime,
        unread: Option<Arc<str>>,
        vault: Vault,
    ) -> Fleet {
        Fleet { sources, index, modified, unread, vault, rooms: OnceLock::new() }
    }

    /// Where a name in the file of secrets is referred to: file and line.
    pub fn references_to(&self, name: &str) -> Vec<(Arc<str>, u32)> {
        let mut places = Vec::new();
        for document in self.sources.values().map(|source| &*source.document) {
            document.each_section(&mut |file, section| {
                vault::find(section, &mut |node, refer| {
                    if matches!(&**refer, Refer::Secret(known) if **known == *name) {
                        places.push((file.clone(), node.line));
                    }
                    false
                });
            });
        }
        places
    }

    /// The files that hold passwords in place.
    pub fn holding_passwords(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().filter(|(_, source)| source.document.holds_passwords).map(|(path, _)| path.as_path())
    }

    /// A file that is there and not in service as it is written, if there is one.
    pub(crate) fn unread(&self) -> Option<&str> {
        self.unread.as_deref()
    }

    /// What each rule has to give.
    pub(crate) fn rooms(&self) -> &[Room] {
        let documents = self.sources.values().map(|source| &*source.document);
        self.rooms.get_or_init(|| Room::of_all(&self.index.rules, documents))
    }

    /// Every device in service, by MAC.
    pub fn devices(&self) -> impl ExactSizeIterator<Item = (MacAddr, &Device)> {
        self.index.devices.iter().map(|device| (device.mac(), &**device))
    }

    pub fn device(&self, mac: MacAddr) -> Option<&Device> {
        self.index.device(mac).map(|device| &**device)
    }

    /// Devices in service.
    pub fn len(&self) -> usize {
        self.index.devices.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether some version of this file is in service.
    pub fn serves(&self, file: &str) -> bool {
        self.sources.get(Path::new(file)).is_some_and(|source| source.fit) || self.vault.serves(file)
    }

    /// Names of the profiles in service.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.index.profiles.keys().map(|name| &**name)
    }

    /// Names of the sites.
    pub fn sites(&self) -> impl Iterator<Item = &str> {
        self.index.sites.keys().map(|name| &**name)
    }

    /// When what is in service last changed.
    pub fn modified(&self) -> SystemTime {
        self.modified
    }
}
