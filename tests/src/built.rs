//! The programs under test, built once for each test process.
//!
//! Cargo tells tests of other packages nothing of what it built, and `cargo test -p` builds neither the binary nor the plugins: so
//! they are built from here, into the same target directory and with the same profile, and Cargo is asked where they lie.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::repository;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// The `provost` binary. Cargo puts the libraries beside it.
    pub provost: PathBuf,
    /// The plugins' libraries.
    pub libraries: Vec<PathBuf>,
}

impl Built {
    /// A directory for the state of simulated phones, which is nothing but the place in which they try libraries.
    pub fn phones_state(&self) -> PathBuf {
        self.provost.with_file_name("phones")
    }
}

/// Builds the workspace, the first time; `PROVOST_BIN` names a binary to take instead, with its libraries beside it.
pub fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| match env::var_os("PROVOST_BIN") {
        Some(provost) => beside(PathBuf::from(provost)),
        None => build(),
    })
}

fn beside(provost: PathBuf) -> Built {
    assert!(provost.is_file(), "PROVOST_BIN names {}, which is no file", provost.display());
    let directory = provost.parent().unwrap_or(Path::new("."));
    let entries = directory.read_dir().unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()));
    let mut libraries: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "so"))
        .collect();
    libraries.sort();
    Built { provost, libraries }
}

fn build() -> Built {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(repository()).args(["build", "--workspace", "--message-format=json-render-diagnostics"]);
    // The test binary lies in TARGET/PROFILE/deps.
    let own = env::current_exe().expect("a test binary has a path");
    if let Some(profile) = own.ancestors().nth(2)
        && let (Some(name), Some(target)) = (profile.file_name(), profile.parent())
    {
        cargo.arg("--target-dir").arg(target).arg("--profile").arg(if name == "debug" { "dev".as_ref() } else { name });
    }
    let output = cargo.stderr(Stdio::inherit()).output().unwrap_or_else(|error| panic!("cannot start cargo: {error}"));
    assert!(output.status.success(), "the workspace does not build");
    let built = artifacts(&String::from_utf8_lossy(&output.stdout));
    assert!(built.provost.is_file(), "cargo built no program \"provost\"");
    built
}

/// What Cargo's messages say of the files that it made: our program, and every `cdylib` of the workspace.
fn artifacts(messages: &str) -> Built {
    let mut built = Built::default();
    for message in messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        let target = &message["target"];
        let is = |kind: &str| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|known| known == kind));
        if is("bin") && target["name"] == "provost" {
            built.provost = message["executable"].as_str().unwrap_or_default().into();
        }
        if is("cdylib") {
            let files = message["filenames"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
            built.libraries.extend(files.filter(|name| name.ends_with(".so")).map(PathBuf::from));
        }
    }
    built.libraries.sort();
    built
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_and_the_plugins_are_found_in_what_cargo_says() {
        let messages = r#"
            {"reason":"compiler-artifact","target":{"kind":["lib"],"name":"x"},"filenames":["/t/debug/libx.rlib"],"executable":null}
            {"reason":"compiler-artifact","target":{"kind":["cdylib","rlib"],"name":"p"},"filenames":["/t/debug/libp.so","/t/debug/libp.rlib"],"executable":null}
            {"reason":"compiler-artifact","target":{"kind":["bin"],"name":"provost"},"filenames":["/t/debug/provost"],"executable":"/t/debug/provost"}
            {"reason":"build-finished","success":true}"#;
        let found = artifacts(messages);
        assert_eq!(found, Built { provost: "/t/debug/provost".into(), libraries: vec!["/t/debug/libp.so".into()] });
    }
}
