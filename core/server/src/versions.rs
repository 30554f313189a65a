//! What a file was before it was changed through us: kept so that a change can be taken back.
//!
//! `state/versions/<name of the file>/<milliseconds since 1970>`, each the file as it was. They hold passwords as the files do, and are
//! for the server's own user alone.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    edit::{self, EditedFile},
    settings::Settings,
};

/// Versions kept of each file.
const MOST: usize = 20;

/// A version that a file once had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// When it was replaced.
    pub until: SystemTime,
    /// As [`edit::version`] names it.
    pub version: String,
    pub text: String,
}

fn directory(settings: &Settings, file: &EditedFile) -> PathBuf {
    settings.state.join("versions").join(file.name())
}

/// Keeps what a file says now, as it is about to say something else.
pub(crate) fn keep(settings: &Settings, file: &EditedFile, text: &str) -> io::Result<()> {
    let directory = directory(settings, file);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    let mut at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut kept = loop {
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(directory.join(at.to_string())) {
            // Two changes in one millisecond.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => at += 1,
            opened => break opened?,
        }
    };
    kept.write_all(text.as_bytes())?;
    kept.sync_all()?;
    let names = names(settings, file)?;
    for at in names.iter().take(names.len().saturating_sub(MOST)) {
        fs::remove_file(directory.join(at.to_string()))?;
    }
    Ok(())
}

/// When each version was replaced, in milliseconds since 1970, the oldest first.
fn names(settings: &Settings, file: &EditedFile) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(directory(settings, file)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names: Vec<u64> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// The versions that are kept of a file, the newest first.
pub fn list(settings: &Settings, file: &EditedFile) -> io::Result<Vec<Version>> {
    let mut versions = Vec::new();
    for at in names(settings, file)?.into_iter().rev() {
        let path = directory(settings, file).join(at.to_string());
        // Dropped between listing and reading, as the oldest of too many.
        let Some((text, version)) = edit::read(&path)? else { continue };
        versions.push(Version { until: UNIX_EPOCH + Duration::from_millis(at), version, text });
    }
    Ok(versions)
}
