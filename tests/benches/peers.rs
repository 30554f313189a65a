//! The peers: programs of Debian's that do the same job, or the part of it that compares.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use provost_tests::repository;

use crate::figures::{Figures, said};

/// The path of a program, or a note that it is missing.
pub(crate) fn find(program: &str, package: &str, figures: &mut Figures) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Daemons, where a plain user's PATH leaves them out.
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = places.map(|place: PathBuf| place.join(program)).find(|file| file.is_file());
    if found.is_none() {
        figures.note(format!("peer not installed: {program} (apt-get install {package})"));
    }
    found
}

/// Debian's Python with a module in it, and the module's version; or a note that there is none.
pub(crate) fn python(module: &str, package: &str, figures: &mut Figures) -> Option<(PathBuf, String)> {
    for python in ["/usr/bin/python3", "python3"] {
        let program = format!("import {module}; print({module}.__version__)");
        let Ok(output) = Command::new(python).args(["-c", &program]).output() else { continue };
        if output.status.success() {
            let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            figures.peer(format!("{module} {version} on {}", said(python, &["--version"])));
            return Some((python.into(), version));
        }
    }
    figures.note(format!("peer not installed: {module} (apt-get install {package})"));
    None
}

/// A file of the bench's, in its folder `peers/`.
pub(crate) fn file(name: &str) -> PathBuf {
    repository().join("tests/benches/peers").join(name)
}

/// A peer's configuration, written out with what this run knows in place of `{names}`.
pub(crate) fn configure(name: &str, values: &[(&str, &str)], to: &Path) {
    let source = file(name);
    let text = fs::read_to_string(&source).unwrap_or_else(|error| panic!("cannot read {}: {error}", source.display()));
    let text = values.iter().fold(text, |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
    fs::write(to, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", to.display()));
}
