//! The files of a directory of ours (profiles, lists): which there are, and which of them changed. Knows bytes and paths, not what
//! they say.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::SystemTime,
};

use sha2::{Digest, Sha256};

use crate::problem::Problem;

/// What the files of a directory are.
pub(crate) struct Kind<T> {
    pub(crate) extensions: &'static [&'static str],
    pub(crate) read: Read<T>,
}

/// Reads the bytes of a file. With an error among the problems, it is not fit for service.
type Read<T> = fn(&Arc<str>, &[u8]) -> (T, Vec<Problem>);

/// A file and the last version of it that was fit for service.
#[derive(Debug)]
pub(crate) struct Source<T> {
    pub(crate) file: Arc<str>,
    /// Of the content that was last seen, fit or not: what has not changed is not parsed again, and its problems are known.
    digest: [u8; 32],
    pub(crate) written: SystemTime,
    pub(crate) document: Arc<T>,
    /// The document is one that was once written, and not the empty one of a file that was never fit.
    pub(crate) fit: bool,
    pub(crate) problems: Arc<[Problem]>,
}

impl<T> Clone for Source<T> {
    fn clone(&self) -> Source<T> {
        Source {
            file: Arc::clone(&self.file),
            digest: self.digest,
            written: self.written,
            document: Arc::clone(&self.document),
            fit: self.fit,
            problems: Arc::clone(&self.problems),
        }
    }
}

pub(crate) type Sources<T> = BTreeMap<PathBuf, Source<T>>;

/// Reads what is below `root`. A file that cannot be read or is not fit keeps its last good version from `previous`, and so do all
/// files below a directory that cannot be read: a file server that is away must not empty the fleet.
pub(crate) fn read<T: Default + Send + Sync>(
    root: &Path,
    kind: &Kind<T>,
    previous: Option<&Sources<T>>,
) -> (Sources<T>, Vec<Problem>) {
    let mut found = Found::default();
    found.list(root, kind.extensions);
    found.paths.sort();
    let (mut sources, unreadable) = read_paths(found.paths, kind, previous);
    for directory in found.unread {
        for (path, source) in previous.into_iter().flatten().filter(|(path, _)| path.starts_with(&directory)) {
            sources.entry(path.clone()).or_insert_with(|| source.clone());
        }
    }
    (sources, found.problems.into_iter().chain(unreadable).collect())
}

/// What these files would be with some of them written anew (none: deleted). The disk is not asked.
pub(crate) fn edited<T: Default>(
    before: &Sources<T>,
    kind: &Kind<T>,
    edits: &BTreeMap<PathBuf, Option<Vec<u8>>>,
) -> Sources<T> {
    let mut sources = before.clone();
    for (path, content) in edits {
        match content {
            Some(bytes) => {
                let source = source(path, kind, bytes, SystemTime::now(), before.get(path));
                sources.insert(path.clone(), source);
            }
            None => drop(sources.remove(path)),
        }
    }
    sources
}

/// Whether this is what was last seen of a file.
pub(crate) fn is_seen<T>(sources: &Sources<T>, path: &Path, content: Option<&[u8]>) -> bool {
    match (sources.get(path), content) {
        (Some(source), Some(bytes)) => source.digest == <[u8; 32]>::from(Sha256::digest(bytes)),
        (None, None) => true,
        _ => false,
    }
}

/// The same for a directory that need not be there. One that was there and is gone keeps its files, as one that cannot be read.
pub(crate) fn read_optional<T: Default + Send + Sync>(
    root: &Path,
    kind: &Kind<T>,
    previous: Option<&Sources<T>>,
) -> (Sources<T>, Vec<Problem>) {
    let never_was = previous.is_none_or(BTreeMap::is_empty);
    if never_was && !root.exists() {
        return (Sources::new(), Vec::new());
    }
    read(root, kind, previous)
}

/// Reads these files, as far as they are there.
pub(crate) fn read_paths<T: Default + Send + Sync>(
    paths: Vec<PathBuf>,
    kind: &Kind<T>,
    previous: Option<&Sources<T>>,
) -> (Sources<T>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut sources = Sources::new();
    for (path, outcome) in load(paths, kind, previous) {
        match outcome {
            Ok(source) => drop(sources.insert(path, source)),
            // Gone between listing and reading: that is a file which was deleted.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {}
            Err(error) => {
                problems.push(Problem::error(&name(&path), 0, 0, format!("reading the file: {error}")));
                if let Some(before) = previous.and_then(|sources| sources.get(&path)) {
                    sources.insert(path, before.clone());
                }
            }
        }
    }
    (sources, problems)
}

/// Reads the files, many of them side by side: a large inventory is some seconds of parsing.
fn load<T: Default + Send + Sync>(
    paths: Vec<PathBuf>,
    kind: &Kind<T>,
    previous: Option<&Sources<T>>,
) -> Vec<(PathBuf, io::Result<Source<T>>)> {
    let load_one = |path: &PathBuf| {
        let bytes = fs::read(path)?;
        let written = fs::metadata(path)?.modified()?;
        Ok(source(path, kind, &bytes, written, previous.and_then(|sources| sources.get(path))))
    };
    let hands = thread::available_parallelism().map_or(1, usize::from).min(paths.len());
    let next = AtomicUsize::new(0);
    let mut loaded: Vec<(usize, io::Result<Source<T>>)> = thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(path) = paths.get(number) else { return done };
                done.push((number, load_one(path)));
            }
        };
        // This thread works too, and alone where there is little to do.
        let others: Vec<_> = (1..hands).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    });
    loaded.sort_by_key(|(number, _)| *number);
    paths.into_iter().zip(loaded.into_iter().map(|(_, outcome)| outcome)).collect()
}

fn source<T: Default>(
    path: &Path,
    kind: &Kind<T>,
    bytes: &[u8],
    written: SystemTime,
    before: Option<&Source<T>>,
) -> Source<T> {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    if let Some(before) = before
        && before.digest == digest
    {
        return before.clone();
    }
    let file = before.map_or_else(|| name(path), |before| before.file.clone());
    let (document, problems) = (kind.read)(&file, bytes);
    let broken = problems.iter().any(Problem::is_error);
    let document = match (broken, before) {
        (false, _) => Arc::new(document),
        (true, Some(before)) => before.document.clone(),
        (true, None) => Arc::default(),
    };
    let fit = !broken || before.is_some_and(|before| before.fit);
    Source { file, digest, written, document, fit, problems: problems.into() }
}

/// A file as a person would open it.
pub(crate) fn name(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

#[derive(Default)]
struct Found {
    paths: Vec<PathBuf>,
    unread: Vec<PathBuf>,
    problems: Vec<Problem>,
    /// Links may lead round in a circle.
    entered: HashSet<PathBuf>,
}

impl Found {
    fn list(&mut self, directory: &Path, extensions: &[&str]) {
        if let Err(error) = self.try_list(directory, extensions) {
            self.problems.push(Problem::error(&name(directory), 0, 0, format!("reading the directory: {error}")));
            self.unread.push(directory.to_owned());
        }
    }

    fn try_list(&mut self, directory: &Path, extensions: &[&str]) -> io::Result<()> {
        if !self.entered.insert(directory.canonicalize()?) {
            return Ok(());
        }
        let mut entries =
            fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
        entries.sort();
        for path in entries {
            let file_name = path.file_name().unwrap_or_default().to_string_lossy();
            // Hidden files are editors' and version control's, `#…` Emacs's; `x.yaml~` and `x.yaml.tmp` do not end in .yaml.
            if file_name.starts_with(['.', '#']) {
                continue;
            }
            // Through links: ConfigMaps and many a site's layout are made of them.
            if path.is_dir() {
                self.list(&path, extensions);
            } else if path
                .extension()
                .is_some_and(|extension| extensions.iter().any(|known| extension.eq_ignore_ascii_case(known)))
            {
                self.paths.push(path);
            }
        }
        Ok(())
    }
}

/// When what is in service last changed: the newest file's time at first, so that it stays the same over a restart. A deleted file
/// leaves no time behind, and a restored one an old time; such a change itself is now.
pub(crate) fn modified<T>(previous: Option<(&Sources<T>, SystemTime)>, now: &Sources<T>) -> SystemTime {
    match previous {
        None => now.values().map(|source| source.written).max().unwrap_or(SystemTime::UNIX_EPOCH),
        Some((before, modified)) if same(before, now) => modified,
        Some(_) => SystemTime::now(),
    }
}

fn same<T>(before: &Sources<T>, now: &Sources<T>) -> bool {
    before.len() == now.len()
        && before
            .iter()
            .zip(now)
            .all(|((path, old), (other, new))| path == other && Arc::ptr_eq(&old.document, &new.document))
}
