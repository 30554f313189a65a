//! Which package may stand on which, and what every package keeps to.

use std::{collections::BTreeMap, env, process::Command};

use provost_tests::repository;
use serde_json::Value;

use crate::read;

/// Every arrow that there may be between rooms; `core/ARCHITECTURE.md` draws them. Tests may use anything.
const ARROWS: &[(&str, &[&str])] = &[
    ("plugins/sdk", &[]),
    ("core/sip", &[]),
    ("core/tftp", &[]),
    ("core/fleet", &["plugins/sdk"]),
    ("core/host", &["plugins/sdk"]),
    ("core/phone", &["plugins/sdk"]),
    ("core/server", &["plugins/sdk", "core/sip", "core/tftp", "core/host", "core/fleet"]),
    ("core/admin", &["plugins/sdk", "core/doctor", "core/server", "core/host", "core/fleet"]),
    ("core/doctor", &["core/sip", "core/server"]),
    (
        "core/cli",
        &[
            "plugins/sdk",
            "core/doctor",
            "core/admin",
            "core/server",
            "core/phone",
            "core/host",
            "core/fleet",
            "core/sip",
        ],
    ),
];

/// Packages of the workspace: folder, and the folders of ours that it stands on.
fn packages() -> BTreeMap<String, Vec<String>> {
    let cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .current_dir(repository())
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .unwrap_or_else(|error| panic!("cannot start cargo: {error}"));
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: Value = serde_json::from_slice(&cargo.stdout).expect("cargo writes JSON");
    let root = metadata["workspace_root"].as_str().expect("a workspace");
    let folder = |path: &str| path.trim_start_matches(root).trim_start_matches('/').to_owned();
    let packages: BTreeMap<String, Vec<String>> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| {
            let manifest = package["manifest_path"].as_str().expect("a path").trim_end_matches("/Cargo.toml");
            let ours = package["dependencies"].as_array().expect("dependencies").iter();
            (folder(manifest), ours.filter_map(|dependency| dependency["path"].as_str().map(folder)).collect())
        })
        .collect();
    assert!(packages.len() > 8, "{packages:?}");
    packages
}

#[test]
fn every_arrow_between_packages_is_drawn() {
    let packages = packages();
    for (package, uses) in packages.iter().filter(|(package, _)| !package.starts_with("tests")) {
        let allowed = match ARROWS.iter().find(|(from, _)| from == package) {
            Some((_, allowed)) => *allowed,
            None if package.starts_with("plugins/") => &["plugins/sdk"],
            None => panic!("{package} is new here: which packages may it stand on?"),
        };
        for used in uses {
            assert!(allowed.contains(&used.as_str()), "{package} stands on {used}, and may stand on {allowed:?} only");
        }
    }
    for (package, _) in ARROWS {
        assert!(packages.contains_key(*package), "there is no {package} any more");
    }
}

#[test]
fn every_package_keeps_to_the_lints_of_the_workspace() {
    for package in packages().keys() {
        let manifest = read(format!("{package}/Cargo.toml"));
        let section = manifest.split("\n[").find(|section| section.starts_with("lints]"));
        assert!(
            section.is_some_and(|section| section.contains("workspace = true")),
            "{package} sets its own lints, or none"
        );
    }
    assert!(read("Cargo.toml").contains("undocumented_unsafe_blocks = \"deny\""));
}

#[test]
fn every_profile_unwinds() {
    let manifest = read("Cargo.toml");
    let profiles: Vec<&str> = manifest.split("\n[profile.").skip(1).collect();
    assert!(profiles.len() >= 2, "{manifest}");
    for profile in profiles {
        let (name, settings) = profile.split_once(']').expect("a section has an end");
        let settings = settings.split("\n[").next().unwrap_or_default();
        // Settings for single packages cannot say it, and inherit it.
        assert!(
            name.contains('.') || settings.contains("panic = \"unwind\""),
            "[profile.{name}] lets a panic end the process"
        );
    }
}
