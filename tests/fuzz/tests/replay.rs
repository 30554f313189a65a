//! Seeds, and whatever a fuzzer once found, through every target: on any machine, at each run of the tests.

use std::{fs, path::Path};

use provost_fuzz::TARGETS;

/// Every file below the directory, in the order of the names.
fn inputs(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        inputs
            .push((name, fs::read(entry.path()).unwrap_or_else(|error| panic!("{}: {error}", entry.path().display()))));
    }
    inputs.sort();
    inputs
}

fn replay(name: &str) {
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).expect("it is a target");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let seeds = inputs(&here.join("seeds").join(name));
    assert!(!seeds.is_empty(), "{name} has no seeds");
    for (input, bytes) in seeds.into_iter().chain(inputs(&here.join("findings").join(name))) {
        // Which one it was is what a panic inside does not tell.
        let ended = std::panic::catch_unwind(|| target(&bytes));
        assert!(ended.is_ok(), "{name} panics with {input}: what it said stands above");
        // Cut and joined, as a fuzzer's first tries are.
        for cut in [0, 1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
            target(&bytes[..cut.min(bytes.len())]);
        }
    }
}

macro_rules! replays {
    ($($target:ident)*) => { $(
        #[test]
        fn $target() {
            replay(stringify!($target));
        }
    )* };
}

replays!(datagram event path user_agent rrq import form profiles vendor abi relay phone);

#[test]
fn every_target_is_replayed_and_has_a_program() {
    let manifest = include_str!("../Cargo.toml");
    let source = include_str!("replay.rs");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} has no program");
        let listed = source.lines().find(|line| line.starts_with("replays!")).expect("the list");
        assert!(
            listed
                .split(|character: char| !character.is_ascii_alphabetic() && character != '_')
                .any(|word| word == name)
        );
    }
}
