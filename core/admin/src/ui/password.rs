//! The administrator's password, of which only the argon2id digest is kept, in a file of the server's own user. Deleting that file
//! makes the server ask for a new one.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use argon2::{
    Argon2,
    password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString},
};

pub(crate) const FILE: &str = "admin.password";
pub(crate) const SHORTEST: usize = 10;
/// Longer is no password, but an attempt to keep us busy.
pub(crate) const LONGEST: usize = 256;

#[derive(Debug)]
pub(crate) struct Password {
    path: PathBuf,
}

impl Password {
    pub(crate) fn of(state: &Path) -> Password {
        Password { path: state.join(FILE) }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.path.exists()
    }

    /// Keeps the first password; an error of the kind `AlreadyExists` where there is one. Slow, as it is meant to be.
    pub(crate) fn set(&self, password: &str) -> io::Result<()> {
        // A link and no rename: of two who set it at once the second must be told.
        self.keep(password, |from, to| fs::hard_link(from, to))
    }

    /// Puts another password in the place of the one that there is.
    pub(crate) fn change(&self, password: &str) -> io::Result<()> {
        self.keep(password, |from, to| fs::rename(from, to))
    }

    fn keep(&self, password: &str, place: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let salt = SaltString::encode_b64(&random).map_err(io::Error::other)?;
        let digest = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(io::Error::other)?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let temporary = self.path.with_extension(format!("new.{}", hex(&random)));
        let written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| writeln!(file, "{digest}").and_then(|()| file.sync_all()))
            .and_then(|()| place(&temporary, &self.path));
        let _ = fs::remove_file(&temporary);
        written?;
        fs::File::open(directory)?.sync_all()
    }

    /// Whether this is it. Slow, as it is meant to be.
    pub(crate) fn is(&self, password: &str) -> io::Result<bool> {
        let kept = fs::read_to_string(&self.path)?;
        let kept = PasswordHash::new(kept.trim()).map_err(io::Error::other)?;
        Ok(Argon2::default().verify_password(password.as_bytes(), &kept).is_ok())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_password_is_kept_as_its_digest_for_the_owner_alone_and_only_once() {
        let directory = tempfile::tempdir().unwrap();
        let password = Password::of(directory.path());
        assert!(!password.is_set());
        password.set("correct horse").unwrap();
        assert_eq!(password.set("another").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(password.is("correct horse").unwrap());
        assert!(!password.is("correct horsf").unwrap() && !password.is("").unwrap());
        let kept = fs::read_to_string(&password.path).unwrap();
        assert!(kept.starts_with("$argon2id$") && !kept.contains("horse"), "{kept}");
        password.change("another horse").unwrap();
        assert!(password.is("another horse").unwrap() && !password.is("correct horse").unwrap());
        assert_eq!(fs::metadata(&password.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing half-done stays");
        fs::write(&password.path, "nonsense").unwrap();
        assert!(password.is("correct horse").is_err());
    }
}
