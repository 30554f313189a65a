//! Changes to the profile files that an administrator makes through us.
//!
//! An edit is tried first as a whole, the way a reload would: what does not parse, or breaks a device that is served now, is refused with
//! the list, and nothing is written. Then the files are written so that a crash leaves the old or the new, and the caller is told when
//! they are in service. Everybody names the version that their edit is of: of two people who edit one file the second is told.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    dispatch::Dispatch,
    reload::{device_findings, try_devices},
    world::{Finding, World, digest},
};

/// How long an edit may take until it is in service. The watcher sees it in some tenths of a second.
const PATIENCE: Duration = Duration::from_secs(20);

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
    #[error("{} is not a profile file of this server", path.display())]
    Elsewhere { path: PathBuf },
    /// Nothing was written.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Finding>),
    #[error("cannot write {}: {error}", path.display())]
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
        let _alone = self.editing.lock().await;
        let mut replaced = self.replacements();
        let desk = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || desk.try_and_write(&edits).map(|()| edits))
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
            let fleet = &self.world().fleet;
            files.iter().all(|(path, content)| fleet.has_seen(path, content.map(str::as_bytes)))
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

    /// What is wrong with these edits, if anything. Nothing is written.
    fn try_edits(&self, edits: &[Edit]) -> Result<(), EditError> {
        let current = self.world();
        for edit in edits {
            let is_ours = edit.path.starts_with(&current.settings.profiles)
                && edit.path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
            if !is_ours {
                return Err(EditError::Elsewhere { path: edit.path.clone() });
            }
        }
        let contents: BTreeMap<PathBuf, Option<Vec<u8>>> =
            edits.iter().map(|edit| (edit.path.clone(), edit.content.clone().map(String::into_bytes))).collect();
        let (fleet, problems) = current.fleet.edited(&contents);
        let mut wrong: Vec<_> = problems.into_iter().filter(provost_fleet::Problem::is_error).collect();
        if !wrong.is_empty() {
            // Only what is new: an old mistake elsewhere is no reason to refuse a good edit here.
            let (_, before) = current.fleet.edited(&BTreeMap::new());
            wrong.retain(|problem| !before.contains(problem));
        }
        if !wrong.is_empty() {
            return Err(EditError::Refused(wrong.into_iter().map(Finding::from).collect()));
        }
        let mut world = World {
            settings: Arc::clone(&current.settings),
            fleet: Arc::new(fleet),
            books: Arc::clone(&current.books),
            images: Arc::clone(&current.images),
            shelf: Arc::clone(&current.shelf),
            held: HashMap::new(),
            troubles: BTreeMap::new(),
        };
        // A file of devices alone concerns nobody else; anything more may concern everybody.
        let paths = edits.iter().map(|edit| edit.path.as_path());
        let failed = match world.fleet.concerned(&current.fleet, paths) {
            Some(macs) => {
                let devices =
                    macs.iter().filter_map(|mac| world.fleet.device(*mac)).filter(|device| device.is_enabled());
                let tried =
                    devices.map(|device| (device.mac(), world.try_device(device, current.troubles.get(&device.mac()))));
                tried.filter_map(|(mac, tried)| Some((mac, tried.err()?))).collect()
            }
            None => try_devices(&world, &current.troubles, None),
        };
        world.troubles = failed;
        world.troubles.retain(|mac, _| !current.troubles.contains_key(mac));
        let broken = device_findings(&world);
        if broken.is_empty() { Ok(()) } else { Err(EditError::Refused(broken)) }
    }

    fn try_and_write(&self, edits: &[Edit]) -> Result<(), EditError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            |error| EditError::Write { path, error }
        };
        for edit in edits {
            let there = read(&edit.path).map_err(unreadable(&edit.path))?.map(|(_, version)| version);
            if there != edit.of {
                let path = edit.path.clone();
                return Err(match edit.of {
                    None => EditError::Exists { path },
                    Some(_) => EditError::Changed { path },
                });
            }
        }
        self.try_edits(edits)?;
        // Deletions last: a device that moves from one file to another is never in neither.
        let (writes, deletions): (Vec<_>, Vec<_>) = edits.iter().partition(|edit| edit.content.is_some());
        for edit in writes.into_iter().chain(deletions) {
            write(&edit.path, edit.content.as_deref()).map_err(unreadable(&edit.path))?;
        }
        Ok(())
    }
}

/// Whole or not at all, and on disk when it returns. Files hold passwords: new ones are for the owner's eyes alone, others keep
/// the rights they have.
fn write(path: &Path, content: Option<&str>) -> io::Result<()> {
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
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content.as_bytes())?;
        if let Ok(before) = fs::metadata(path) {
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
