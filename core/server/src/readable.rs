//! Which files with passwords others on this machine can read. A right alone is not enough: whoever cannot enter a directory on the way
//! reads nothing in it, so that /etc/provost of mode 0750 protects everything below it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::world::{Finding, Severity, World};

/// One warning for each file, with what to do.
pub(crate) fn findings(world: &World) -> Vec<Finding> {
    let settings = &world.settings;
    let mut files: BTreeSet<(PathBuf, &str)> = BTreeSet::new();
    files.extend(world.fleet.holding_passwords().map(|path| (path.to_owned(), "passwords in place")));
    files.insert((settings.secrets.clone(), "secrets"));
    files.insert((settings.secrets_identity.clone(), "the identity that opens encrypted secrets"));
    files.extend(settings.pnp.relay.keys.iter().map(|key| (key.file.clone(), "a relay's key")));
    // Keys and digests of passwords. The registry holds nothing secret, and the earlier versions of files, which do, are written for
    // the server alone.
    for entry in fs::read_dir(&settings.state).into_iter().flatten().flatten() {
        let is_registry = entry.file_name().to_string_lossy().starts_with("registry.db");
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && !is_registry && entry.path() != settings.secrets_identity {
            files.insert((entry.path(), "what the server keeps"));
        }
    }
    files.iter().filter_map(|(path, what)| finding(path, what)).collect()
}

pub(crate) fn finding(path: &Path, what: &str) -> Option<Finding> {
    let real = path.canonicalize().ok()?;
    let mode = fs::metadata(&real).ok()?.permissions().mode() & 0o7777;
    let is_open = |directory: &Path| fs::metadata(directory).is_ok_and(|it| it.permissions().mode() & 0o001 != 0);
    let others = mode & 0o004 != 0 && real.ancestors().skip(1).all(is_open);
    others.then(|| Finding {
        file: path.display().to_string(),
        line: 0,
        column: 0,
        severity: Severity::Warning,
        message: format!(
            "holds {what} and is readable by everybody on this machine (mode {mode:04o}): chmod {:04o} it",
            mode & !0o007
        ),
        older_serves: false,
    })
}
