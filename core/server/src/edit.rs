//! Changes to profiles, lists of people and templates that an administrator makes through us.
//!
//! An edit is tried first as a whole, the way a reload would: what does not parse, or breaks a device that is served now, is refused with
//! the list, and nothing is written. Then the files are written so that a crash leaves the old or the new, and the caller is told when
//! they are in service. Everybody names the version that their edit is of: of two people who edit one file the second is told. What
//! was there before is kept ([`crate::versions`]).
//!
//! Outside of this server a file goes by a [name](EditedFile) that says what it is, wherever the settings have put its directory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs, io,
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use provost_host::{Limits, Shelf};
use provost_plugin::MacAddr;
use tokio::sync::watch;

use crate::{
    change::{Impact, weigh},
    dispatch::Dispatch,
    reload::device_findings,
    rights,
    settings::Settings,
    versions,
    world::{Finding, World, digest},
};

/// How long an edit may take until it is in service. The watcher sees it in some tenths of a second.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long phones are tried with an edit before it is written. Whoever has more than fit into that has an even sample tried.
const TRIAL: Duration = Duration::from_secs(60);

/// What a file that people edit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EditedKind {
    /// Below `profiles/`.
    Profile,
    /// Below `phonebooks/`.
    Phonebook,
    /// The site's own version of a template, below `overrides/<vendor>/`.
    Template,
}

/// A file that people edit, by its name: `profiles/office.yaml`, `phonebooks/staff.csv`, `templates/acme/desk.xml.j2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EditedFile {
    pub kind: EditedKind,
    pub path: PathBuf,
    name: String,
}

impl EditedFile {
    /// The file of that name, whether it is there or not.
    pub fn named(settings: &Settings, name: &str) -> Option<EditedFile> {
        let (directory, rest) = name.split_once('/')?;
        let (kind, root) = EditedKind::of(directory, settings)?;
        EditedFile::of(kind, root.join(rest), rest)
    }

    /// The file at that place.
    pub fn at(settings: &Settings, path: &Path) -> Option<EditedFile> {
        ["profiles", "phonebooks", "templates"].into_iter().find_map(|directory| {
            let (kind, root) = EditedKind::of(directory, settings)?;
            let rest = path.strip_prefix(root).ok()?.to_str()?;
            EditedFile::of(kind, path.to_owned(), rest)
        })
    }

    fn of(kind: EditedKind, path: PathBuf, rest: &str) -> Option<EditedFile> {
        // Nothing outside of its directory, and nothing that the reading of it passes over.
        let plain =
            |part: &str| !part.is_empty() && !part.starts_with(['.', '#']) && !part.contains(['\\', '\0', '\n']);
        let known = kind.extensions().iter().any(|known| {
            rest.rsplit_once('.').is_some_and(|(stem, extension)| !stem.is_empty() && extension == *known)
        });
        let placed = kind != EditedKind::Template || rest.contains('/');
        let fits = known
            && placed
            && rest.split('/').all(plain)
            && path.components().all(|part| part != Component::ParentDir)
            && path.as_os_str().len() < 1024;
        fits.then(|| EditedFile { kind, path, name: format!("{}/{rest}", kind.directory()) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for EditedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl EditedKind {
    fn of<'a>(directory: &str, settings: &'a Settings) -> Option<(EditedKind, &'a Path)> {
        match directory {
            "profiles" => Some((EditedKind::Profile, &settings.profiles)),
            "phonebooks" => Some((EditedKind::Phonebook, &settings.phonebooks)),
            "templates" => Some((EditedKind::Template, &settings.overrides)),
            _ => None,
        }
    }

    fn directory(self) -> &'static str {
        match self {
            EditedKind::Profile => "profiles",
            EditedKind::Phonebook => "phonebooks",
            EditedKind::Template => "templates",
        }
    }

    fn extensions(self) -> &'static [&'static str] {
        match self {
            EditedKind::Profile => &["yaml", "yml"],
            EditedKind::Phonebook => &["yaml", "yml", "csv"],
            EditedKind::Template => &["j2"],
        }
    }
}

/// The file as it is to be; none is deleted.
#[derive(Clone, Debug)]
pub struct Edit {
    pub path: PathBuf,
    /// The version that the edit is of, see [`version`]; none where there must be no such file yet.
    pub of: Option<String>,
    pub content: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("{} was changed by somebody else since it was read", path.display())]
    Changed { path: PathBuf },
    #[error("{} exists already", path.display())]
    Exists { path: PathBuf },
    #[error("{} is no profile, list of people or template override of this server", path.display())]
    Elsewhere { path: PathBuf },
    /// Nothing was written.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Finding>),
    #[error("cannot write {}: {error}{}", path.display(), rights::hint(error))]
    Write { path: PathBuf, error: io::Error },
    #[error("it is written, but was not in service after {} s; the log says why", .0.as_secs())]
    NotInService(Duration),
}

/// Which version of a file this is.
pub fn version(content: &[u8]) -> String {
    digest(content)
}

/// The file and its version; none where there is no such file.
pub fn read(path: &Path) -> io::Result<Option<(String, String)>> {
    match fs::read(path) {
        Ok(bytes) => {
            let version = version(&bytes);
            let text = String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            Ok(Some((text, version)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Dispatch {
    /// Tries these edits together, writes them, and returns when they are in service.
    pub async fn edit(self: &Arc<Self>, edits: Vec<Edit>) -> Result<(), EditError> {
        self.edit_by(move |_| edits).await
    }

    /// The same with edits that are made of the world when it is their turn: nobody else writes between the two.
    pub(crate) async fn edit_by(
        self: &Arc<Self>,
        make: impl FnOnce(&World) -> Vec<Edit> + Send + 'static,
    ) -> Result<(), EditError> {
        let _alone = self.editing.lock().await;
        let mut replaced = self.replacements();
        let desk = Arc::clone(self);
        let act = move || {
            let edits = make(&desk.world());
            desk.try_and_write(&edits).map(|()| edits)
        };
        let written = tokio::task::spawn_blocking(act)
            .await
            .unwrap_or_else(|error| Err(EditError::Write { path: PathBuf::new(), error: io::Error::other(error) }))?;
        let files: Vec<_> = written.iter().map(|edit| (edit.path.as_path(), edit.content.as_deref())).collect();
        self.in_service(&files, &mut replaced).await
    }

    /// Returns when these files are in service with this content; none is gone.
    async fn in_service(
        &self,
        files: &[(&Path, Option<&str>)],
        replaced: &mut watch::Receiver<u64>,
    ) -> Result<(), EditError> {
        let seen = || {
            let world = self.world();
            files.iter().all(|(path, content)| is_in_service(&world, path, *content))
        };
        let wait = async {
            while !seen() {
                if replaced.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.map_err(|_| EditError::NotInService(PATIENCE))
    }

    /// Writes new files, all or none of them: they are made in a hidden directory, which appears under a name of its own below
    /// `profiles/devices/` when all are whole. `dry`: only tries them. The directory, once it is in service.
    pub async fn import(
        self: &Arc<Self>,
        files: Vec<(String, String)>,
        dry: bool,
    ) -> Result<Option<PathBuf>, EditError> {
        let _alone = self.editing.lock().await;
        let mut replaced = self.replacements();
        let desk = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || desk.try_and_import(&files, dry).map(|done| (done, files)))
            .await
            .unwrap_or_else(|error| Err(EditError::Write { path: PathBuf::new(), error: io::Error::other(error) }))?;
        let (Some(directory), files) = written else { return Ok(None) };
        let paths: Vec<PathBuf> = files.iter().map(|(name, _)| directory.join(name)).collect();
        let files = paths.iter().zip(&files).map(|(path, (_, content))| (path.as_path(), Some(content.as_str())));
        self.in_service(&files.collect::<Vec<_>>(), &mut replaced).await?;
        Ok(Some(directory))
    }

    fn try_and_import(&self, files: &[(String, String)], dry: bool) -> Result<Option<PathBuf>, EditError> {
        let devices = self.world().settings.profiles.join("devices");
        let free = |number: &u32| !devices.join(format!("import-{number}")).exists();
        let number = (1..).find(free).unwrap_or(1);
        let directory = devices.join(format!("import-{number}"));
        let edit = |(name, content): &(String, String)| Edit {
            path: directory.join(name),
            of: None,
            content: Some(content.clone()),
        };
        self.try_edits(&files.iter().map(edit).collect::<Vec<_>>())?;
        if dry {
            return Ok(None);
        }
        let hidden = devices.join(format!(".import-{number}"));
        let failed = |error| EditError::Write { path: directory.clone(), error };
        let written = (|| {
            // Of an earlier try that was cut short.
            match fs::remove_dir_all(&hidden) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fs::create_dir_all(&hidden)?;
            for (name, content) in files {
                let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(hidden.join(name));
                file.and_then(|mut file| file.write_all(content.as_bytes()).and_then(|()| file.sync_data()))?;
            }
            fs::File::open(&hidden)?.sync_all()?;
            fs::rename(&hidden, &directory)?;
            fs::File::open(&devices)?.sync_all()
        })();
        if let Err(error) = written {
            let _ = fs::remove_dir_all(&hidden);
            return Err(failed(error));
        }
        Ok(Some(directory))
    }

    /// The world as it would be with these edits, or what is wrong with them in themselves. Nothing is written.
    pub fn draft(&self, edits: &[Edit]) -> Result<Draft, EditError> {
        let now = self.world();
        let mut contents: BTreeMap<EditedKind, BTreeMap<PathBuf, Option<Vec<u8>>>> = BTreeMap::new();
        for edit in edits {
            let file = EditedFile::at(&now.settings, &edit.path);
            let file = file.ok_or_else(|| EditError::Elsewhere { path: edit.path.clone() })?;
            contents.entry(file.kind).or_default().insert(file.path, edit.content.clone().map(String::into_bytes));
        }
        let mut wrong: Vec<Finding> = Vec::new();
        // Only what is new: an old mistake elsewhere is no reason to refuse a good edit here.
        let mut find = |problems: Vec<provost_fleet::Problem>, before: &dyn Fn() -> Vec<provost_fleet::Problem>| {
            let mut errors: Vec<_> = problems.into_iter().filter(provost_fleet::Problem::is_error).collect();
            if !errors.is_empty() {
                let before = before();
                errors.retain(|problem| !before.contains(problem));
            }
            wrong.extend(errors.into_iter().map(Finding::from));
        };
        let mut then = World {
            settings: Arc::clone(&now.settings),
            fleet: Arc::clone(&now.fleet),
            books: Arc::clone(&now.books),
            images: Arc::clone(&now.images),
            shelf: Arc::clone(&now.shelf),
            tokens: Arc::clone(&now.tokens),
            tls: Arc::clone(&now.tls),
            made: Arc::clone(&now.made),
            held: HashMap::new(),
            troubles: BTreeMap::new(),
        };
        let mut macs = Some(BTreeSet::new());
        if let Some(edits) = contents.get(&EditedKind::Profile) {
            let (fleet, problems) = now.fleet.edited(edits);
            find(problems, &|| now.fleet.edited(&BTreeMap::new()).1);
            // A file of devices alone concerns nobody else; anything more may concern everybody.
            macs = fleet.concerned(&now.fleet, edits.keys().map(PathBuf::as_path));
            then.fleet = Arc::new(fleet);
        }
        if let Some(edits) = contents.get(&EditedKind::Phonebook) {
            let (books, problems) = now.books.edited(edits);
            find(problems, &|| now.books.edited(&BTreeMap::new()).1);
            then.books = Arc::new(books);
            macs = None;
        }
        if let Some(edits) = contents.remove(&EditedKind::Template) {
            let text = |content: Vec<u8>| String::from_utf8_lossy(&content).into_owned();
            let edited = edits.into_iter().map(|(path, content)| (path, content.map(text))).collect();
            let places = provost_host::Places { edited, ..now.settings.places() };
            let (shelf, problems) = Shelf::build(&places, Some(&now.shelf), Limits::default(), None);
            let new = problems.into_iter().filter(|problem| !now.shelf.refused().any(|(known, _)| known == problem));
            wrong.extend(new.map(|problem| Finding { older_serves: false, ..Finding::from(problem) }));
            then.shelf = Arc::new(shelf);
            macs = None;
        }
        if wrong.is_empty() { Ok(Draft { now, then, macs }) } else { Err(EditError::Refused(wrong)) }
    }

    /// What is wrong with these edits, if anything. Nothing is written.
    fn try_edits(&self, edits: &[Edit]) -> Result<(), EditError> {
        let mut draft = self.draft(edits)?;
        let impact = draft.impact(&self.registry, TRIAL);
        let broken = draft.broken(impact);
        if broken.is_empty() { Ok(()) } else { Err(EditError::Refused(broken)) }
    }

    fn try_and_write(&self, edits: &[Edit]) -> Result<(), EditError> {
        let settings = &self.world().settings;
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            |error| EditError::Write { path, error }
        };
        let mut before = Vec::new();
        for edit in edits {
            let there = read(&edit.path).map_err(unreadable(&edit.path))?;
            if there.as_ref().map(|(_, version)| version) != edit.of.as_ref() {
                let path = edit.path.clone();
                return Err(match edit.of {
                    None => EditError::Exists { path },
                    Some(_) => EditError::Changed { path },
                });
            }
            before.extend(there.map(|(text, _)| (&edit.path, text)));
        }
        self.try_edits(edits)?;
        for (path, text) in before {
            if let Some(file) = EditedFile::at(settings, path) {
                versions::keep(settings, &file, &text).map_err(unreadable(path))?;
            }
        }
        // Deletions last: a device that moves from one file to another is never in neither.
        let (writes, deletions): (Vec<_>, Vec<_>) = edits.iter().partition(|edit| edit.content.is_some());
        for edit in writes.into_iter().chain(deletions) {
            // Templates hold no secrets, and belong to whoever looks after them beside this server.
            let is_template = edit.path.starts_with(&settings.overrides);
            let mode = if is_template { 0o644 } else { 0o600 };
            write(&edit.path, edit.content.as_deref().map(str::as_bytes), mode).map_err(unreadable(&edit.path))?;
        }
        Ok(())
    }
}

/// A world beside the one in service.
#[derive(Debug)]
pub struct Draft {
    pub now: Arc<World>,
    pub then: World,
    /// The only devices that it may concern, where that can be said.
    macs: Option<BTreeSet<MacAddr>>,
}

impl Draft {
    pub fn impact(&self, registry: &provost_fleet::Registry, time: Duration) -> Impact {
        weigh(&self.now, &self.then, registry, self.macs.as_ref(), Some(time))
    }

    /// The phones that it would break, each at the place where it stands.
    pub fn broken(&mut self, impact: Impact) -> Vec<Finding> {
        self.then.troubles = impact.broken;
        device_findings(&self.then)
    }
}

fn is_in_service(world: &World, path: &Path, content: Option<&str>) -> bool {
    let bytes = content.map(str::as_bytes);
    let Some(file) = EditedFile::at(&world.settings, path) else { return true };
    match file.kind {
        EditedKind::Profile => world.fleet.has_seen(path, bytes),
        EditedKind::Phonebook => world.books.has_seen(path, bytes),
        EditedKind::Template => {
            let shown = path.display().to_string();
            let vendor = file.name.split('/').nth(1).and_then(|id| world.shelf.get(id));
            // Overrides for a vendor that is not in service are nobody's.
            vendor.is_none_or(|plugin| {
                let there = plugin.templates.sources().find(|(_, place, _)| **place == shown).map(|(_, _, text)| text);
                there.as_deref() == content
            })
        }
    }
}

/// Whole or not at all, and on disk when it returns. Files hold passwords: new ones are mostly for the owner's eyes alone, others keep
/// the rights and the owner they have.
pub fn write(path: &Path, content: Option<&[u8]>, mode: u32) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let Some(content) = content else {
        fs::remove_file(path)?;
        return fs::File::open(directory)?.sync_all();
    };
    fs::create_dir_all(directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Hidden, so that nobody takes it for a profile.
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        if let Ok(before) = fs::metadata(path) {
            let own = file.metadata()?;
            if (before.uid(), before.gid()) != (own.uid(), own.gid()) {
                // Before the rights, some of which it takes away. Only root may: a server that serves its own files need not.
                let _ = fchown(&file, Some(before.uid()), Some(before.gid()));
            }
            file.set_permissions(before.permissions())?;
        }
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    fs::File::open(directory)?.sync_all()
}
