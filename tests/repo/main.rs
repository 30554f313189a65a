//! Rules about the repository itself, kept by a test so that nobody has to remember them. Formatting and clippy are not here: they have
//! tools of their own (`.ci/run`).

/// Which package may stand on which, and what every package keeps to.
mod packages;
/// What stands in READMEs is so.
mod readmes;
/// Schemas judge right, and what is shipped passes them.
mod schemas;
/// What may stand in source files, and where.
mod sources;
/// No template and no family of models without a golden.
mod templates;

use std::{fs, path::Path, process::Command};

use provost_tests::repository;

/// A file of the repository.
fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// Every file that is, or is about to be, part of the repository.
fn files() -> Vec<String> {
    let git = Command::new("git")
        .current_dir(repository())
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .output()
        .unwrap_or_else(|error| panic!("this test needs the program \"git\": {error}"));
    assert!(git.status.success(), "{}", String::from_utf8_lossy(&git.stderr));
    let listed = String::from_utf8(git.stdout).expect("names are UTF-8");
    let files: Vec<String> =
        listed.split_terminator('\0').filter(|path| repository().join(path).is_file()).map(str::to_owned).collect();
    assert!(files.len() > 100, "git lists only {} files", files.len());
    files
}

/// Runs the real program over what the repository ships, with its scratch files elsewhere.
fn provost(words: &[&str]) -> (bool, String) {
    let data = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(&provost_tests::built().provost)
        .current_dir(repository())
        .arg("--data")
        .arg(data.path())
        .args(["--templates", "templates", "--plugins", "plugins"])
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("cannot start provost: {error}"));
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}
