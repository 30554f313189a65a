//! The files of a profile directory: which there are, and which of them changed. Knows bytes and paths, not what they say.

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

use crate::{
    document::{self, Document},
    problem::Problem,
};

/// A file and the last version of it that was fit for service.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) file: Arc<str>,
    /// Of the content that was last seen, fit or not: what has not changed is not parsed again, and its problems are known.
    digest: [u8; 32],
    pub(crate) written: SystemTime,
    pub(crate) document: Arc<Document>,
    /// The document is one that was once written, and not the empty one of a file that was never fit.
    pub(crate) fit: bool,
    pub(crate) problems: Arc<[Problem]>,
}

pub(crate) type Sources = BTreeMap<PathBuf, Source>;

/// Reads what is below `root`. A file that cannot be read or is not fit keeps its last good version from `previous`, and so do all
/// files below a directory that cannot be read: a file server that is away must not empty the fleet.
pub(crate) fn read(root: &Path, previous: Option<&Sources>) -> (Sources, Vec<Problem>) {
    let mut found = Found::default();
    found.list(root);
    found.paths.sort();
    let mut problems = found.problems;
    let mut sources = Sources::new();
    for (path, outcome) in load(found.paths, previous) {
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
    for directory in found.unread {
        for (path, source) in previous.into_iter().flatten().filter(|(path, _)| path.starts_with(&directory)) {
            sources.entry(path.clone()).or_insert_with(|| source.clone());
        }
    }
    (sources, problems)
}

/// Reads the files, many of them side by side: a large inventory is some seconds of parsing.
fn load(paths: Vec<PathBuf>, previous: Option<&Sources>) -> Vec<(PathBuf, io::Result<Source>)> {
    let load_one = |path: &PathBuf| {
        let bytes = fs::read(path)?;
        let written = fs::metadata(path)?.modified()?;
        Ok(source(path, &bytes, written, previous.and_then(|sources| sources.get(path))))
    };
    let hands = thread::available_parallelism().map_or(1, usize::from).min(paths.len());
    let next = AtomicUsize::new(0);
    let mut loaded: Vec<(usize, io::Result<Source>)> = thread::scope(|scope| {
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

fn source(path: &Path, bytes: &[u8], written: SystemTime, before: Option<&Source>) -> Source {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    if let Some(before) = before
        && before.digest == digest
    {
        return before.clone();
    }
    let file = before.map_or_else(|| name(path), |before| before.file.clone());
    let (document, problems) = document::read(&file, bytes);
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
    fn list(&mut self, directory: &Path) {
        if let Err(error) = self.try_list(directory) {
            self.problems.push(Problem::error(&name(directory), 0, 0, format!("reading the directory: {error}")));
            self.unread.push(directory.to_owned());
        }
    }

    fn try_list(&mut self, directory: &Path) -> io::Result<()> {
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
                self.list(&path);
            } else if path.extension().is_some_and(|extension| {
                extension.eq_ignore_ascii_case("yaml") || extension.eq_ignore_ascii_case("yml")
            }) {
                self.paths.push(path);
            }
        }
        Ok(())
    }
}
