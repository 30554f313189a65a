//! Makes a library safe to open.
//!
//! The file in the plugin directory is never opened itself: whoever overwrites a library that is in use kills the process, opening a
//! half-copied one kills it too, and opening a path for the second time silently yields the old code. So it is copied to a private
//! place under a name that was never used before, looked over, and tried in a child process, which may die of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::discover::{digest, modified};

/// Tries a staged library somewhere that may crash, and says what came of it. The server starts itself again for this.
pub type Prober = Arc<dyn Fn(&Path) -> Result<(), String> + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    #[error("cannot read or copy the library: {0}")]
    Copy(#[from] io::Error),
    #[error("the library is still being written; it is looked at again when it is quiet")]
    Unquiet,
    #[error("the file is not a whole {0}-bit ELF library: {1}")]
    Incomplete(usize, &'static str),
    #[cfg(unix)]
    #[error(
        "everybody may write to the library; whoever can change it can run code in this server, so take that right away (chmod o-w)"
    )]
    Writable,
    #[error("a trial in a child process failed: {0}")]
    Trial(String),
}

static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Reads a library, unless it is being written at this moment or may be written by anybody.
pub(crate) fn read(library: &Path) -> Result<Vec<u8>, StageError> {
    let before = (modified(library), fs::metadata(library)?.len());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if fs::metadata(library)?.permissions().mode() & 0o002 != 0 {
            return Err(StageError::Writable);
        }
    }
    let bytes = fs::read(library)?;
    if (modified(library), fs::metadata(library)?.len()) != before || bytes.len() as u64 != before.1 {
        return Err(StageError::Unquiet);
    }
    Ok(bytes)
}

static ELSEWHERE: OnceLock<PathBuf> = OnceLock::new();

/// Where libraries are tried if the usual place cannot take them: made now, for a process that will not reach temporary directories later. It
/// stays behind, empty, since nobody who ends has a last moment.
pub fn elsewhere() -> io::Result<&'static Path> {
    if ELSEWHERE.get().is_none() {
        let _ = ELSEWHERE.set(temporary()?.keep());
    }
    ELSEWHERE.get().map(PathBuf::as_path).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn temporary() -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("provost-staged-").tempdir()
}

/// A copy that may be opened. It goes with this: its name has done its work by then, and the mapping keeps the file.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) path: PathBuf,
    _elsewhere: Option<tempfile::TempDir>,
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Copies the bytes of `library` and tries the copy. The copy's name is its content and a counter.
pub(crate) fn stage(
    library: &Path,
    bytes: &[u8],
    staged: &Path,
    prober: Option<&Prober>,
) -> Result<Staged, StageError> {
    whole(bytes)?;
    // A disk that is full or must not be written is no reason to leave a vendor's phones alone: there may be another.
    let copy = copy_to(library, bytes, staged, None).or_else(|error| match ELSEWHERE.get() {
        Some(elsewhere) => copy_to(library, bytes, elsewhere, None),
        None => {
            let elsewhere = temporary().map_err(|_| error)?;
            let place = elsewhere.path().to_owned();
            copy_to(library, bytes, &place, Some(elsewhere))
        }
    })?;
    if let Some(probe) = prober {
        probe(&copy.path).map_err(StageError::Trial)?;
    }
    Ok(copy)
}

fn copy_to(library: &Path, bytes: &[u8], place: &Path, elsewhere: Option<tempfile::TempDir>) -> io::Result<Staged> {
    fs::create_dir_all(place)?;
    let name = library.file_stem().unwrap_or_default().to_string_lossy();
    let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
    let path = place.join(format!(
        "{name}-{}-{}-{generation}{}",
        &digest(&[bytes])[..16],
        std::process::id(),
        std::env::consts::DLL_SUFFIX
    ));
    // Made first, so that what was written of it goes if the disk ends.
    let copy = Staged { path, _elsewhere: elsewhere };
    fs::write(&copy.path, bytes)?;
    Ok(copy)
}

/// Whether the file is as long as its own headers say. The loader maps what the headers promise and dies where the file ends early.
fn whole(bytes: &[u8]) -> Result<(), StageError> {
    const BITS: usize = usize::BITS as usize;
    let refuse = |why| Err(StageError::Incomplete(BITS, why));
    if !cfg!(all(target_pointer_width = "64", target_endian = "little", target_os = "linux")) {
        return Ok(());
    }
    if bytes.len() < 64 || &bytes[..4] != b"\x7fELF" {
        return refuse("no ELF header");
    }
    if bytes[4] != 2 || bytes[5] != 1 {
        return refuse("built for another kind of machine");
    }
    let number = |at: usize, width: usize| {
        bytes[at..at + width].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let tables =
        [(number(0x20, 8), number(0x36, 2), number(0x38, 2)), (number(0x28, 8), number(0x3a, 2), number(0x3c, 2))];
    for (offset, size, count) in tables {
        if offset.checked_add(size * count).is_none_or(|end| end > bytes.len() as u64) {
            return refuse("shorter than its own tables");
        }
    }
    let (segments, size, count) = tables[0];
    for index in 0..count {
        let at = (segments + index * size) as usize;
        if at + 0x28 <= bytes.len() {
            let (offset, length) = (number(at + 8, 8), number(at + 0x20, 8));
            if offset.checked_add(length).is_none_or(|end| end > bytes.len() as u64) {
                return refuse("shorter than its own segments");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_was_cut_short_is_refused_before_anything_opens_it() {
        let program = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(whole(&program).is_ok());
        for percent in [0, 1, 30, 60, 90, 99] {
            assert!(whole(&program[..program.len() * percent / 100]).is_err(), "{percent} %");
        }
        assert!(whole(b"MZ this is not even ELF, but it is longer than sixty-four bytes, as it happens.").is_err());
    }
}
