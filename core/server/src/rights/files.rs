//! Files: Landlock lets the process reach what the settings name and what a program needs to run, whoever it is and whatever a link
//! leads to.

use std::{
    env, fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, path_beneath_rules,
};

use crate::{authority, settings::Settings, tls, world::Finding};

/// What any program needs: libraries and time zones, what the kernel says of itself, how many processors it gives. A plugin's library
/// needs its own libraries, and it is tried in a child process by the loader that lies among these.
const SYSTEM: [&str; 11] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/usr/share/zoneinfo",
    "/etc/localtime",
    "/etc/ld.so.cache",
    "/proc",
    "/sys/fs/cgroup",
];

/// The newest rights that are known here; an older kernel holds fewer of them.
const NEWEST: ABI = ABI::V6;

/// Where this process may read. The kernel keeps this for the process as a whole and for ever, and so does this.
static REACHED: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// How it went, for the log.
pub(super) enum Confined {
    By(ABI),
    SwitchedOff,
    No(String),
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Confined::By(abi) => write!(f, "confined by Landlock ABI {abi}"),
            Confined::SwitchedOff => f.write_str("not confined: process.landlock is false"),
            Confined::No(why) => write!(f, "not confined: {why}"),
        }
    }
}

pub(super) fn confine(settings: &Settings) -> Confined {
    if !settings.process.landlock {
        return Confined::SwitchedOff;
    }
    // A directory that comes later could not be written, so it comes now. Where it cannot, there is nothing to be written either.
    let mut written = written(settings);
    for directory in &written {
        let _ = fs::create_dir_all(directory);
    }
    // Libraries are tried from a copy. Where `state` cannot take one, there has to be another place by now.
    if !takes_a_library(&settings.state) {
        written.extend(provost_host::elsewhere().ok().map(Path::to_owned));
    }
    let mut reached = read(settings);
    match restrict(&written, &reached) {
        Ok(Some(abi)) => {
            reached.extend(written);
            let _ = REACHED.set(reached.iter().map(|path| real(path)).collect());
            Confined::By(abi)
        }
        Ok(None) => Confined::No("this kernel has no Landlock, or not switched on (`lsm=` at its start)".into()),
        Err(error) => Confined::No(error.to_string()),
    }
}

/// Whether there is room for a library, and the right to write it.
fn takes_a_library(directory: &Path) -> bool {
    static LARGE: [u8; 64 << 10] = [0; 64 << 10];
    let fill = |mut file: fs::File| (0..64).try_for_each(|_| file.write_all(&LARGE));
    tempfile::tempfile_in(directory).and_then(fill).is_ok()
}

fn restrict(written: &[PathBuf], read: &[PathBuf]) -> Result<Option<ABI>, RulesetError> {
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let running = reading | AccessFs::Execute;
    let writing: BitFlags<AccessFs> = AccessFs::from_all(NEWEST) & !(AccessFs::Execute | AccessFs::IoctlDev);
    let rules = |set: RulesetCreated| {
        set.add_rules(path_beneath_rules(SYSTEM, running))?
            // The program itself, to try libraries with; however it is replaced on disk, this is the file that runs.
            .add_rules(path_beneath_rules(["/proc/self/exe"], running))?
            .add_rules(path_beneath_rules(["/dev/null"], AccessFs::ReadFile | AccessFs::WriteFile))?
            .add_rules(path_beneath_rules(read, reading))?
            .add_rules(path_beneath_rules(written, writing))
    };
    // The first version (before Linux 5.19) forbids whatever moves a file into another directory, and so to take in a plugin.
    let whole = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::Refer);
    let Ok(whole) = whole else { return Ok(None) };
    let whole = whole.set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(NEWEST))?;
    let status = rules(whole.create()?)?.restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => None,
        (_, LandlockStatus::Available { effective_abi, .. }) => Some(effective_abi),
        _ => None,
    })
}

/// What the server writes, or people through their door.
fn written(settings: &Settings) -> Vec<PathBuf> {
    let Settings { profiles, overrides, phonebooks, plugins, state, .. } = settings;
    [profiles, overrides, phonebooks, state].into_iter().chain(plugins).cloned().collect()
}

/// What it reads. Of single files it is the directory: a file that is replaced is another one to Landlock.
fn read(settings: &Settings) -> Vec<PathBuf> {
    let Settings { templates, assets, firmware, libraries, .. } = settings;
    let (certificate, key) = tls::pair_files(settings);
    let files = [&settings.secrets, &settings.secrets_identity, &certificate, &key];
    let mut all: Vec<PathBuf> = [templates, assets, firmware].into_iter().chain(libraries).cloned().collect();
    all.extend(settings.https.client_authorities.clone());
    all.push(authority::place(settings));
    all.extend(env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from));
    all.extend(own(absolute(&settings.data)));
    for file in files.into_iter().chain(&settings.file) {
        // Where it is named, and where it is if that is a link.
        for file in [absolute(file), real(file)] {
            all.push(file.parent().and_then(|directory| own(directory.to_owned())).unwrap_or(file));
        }
    }
    all
}

/// A directory of one's own: not one at the top, such as /etc, where everybody's files are.
fn own(directory: PathBuf) -> Option<PathBuf> {
    (directory.components().count() > 2).then_some(directory)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Without links, as far as there is anything.
fn real(path: &Path) -> PathBuf {
    let path = absolute(path);
    let resolved =
        path.ancestors().find_map(|above| Some(above.canonicalize().ok()?.join(path.strip_prefix(above).ok()?)));
    resolved.unwrap_or(path)
}

/// The first path of these settings that the process cannot reach any more.
pub(crate) fn beyond(settings: &Settings) -> Option<PathBuf> {
    let reached = REACHED.get()?;
    let is_reached = |path: &PathBuf| {
        let path = real(path);
        path.ancestors().any(|above| reached.iter().any(|reached| reached == above))
    };
    written(settings).into_iter().chain(read(settings)).find(|path| !is_reached(path))
}

/// What is to be added where a file may not be reached: whoever looks at its rights alone would look in vain.
pub(crate) fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied && REACHED.get().is_some() { HINT } else { "" }
}

/// The same for errors that are words already.
pub(crate) fn explain(findings: &mut [Finding]) {
    let denied = |finding: &&mut Finding| finding.message.contains("(os error 13)");
    if REACHED.get().is_some() {
        findings.iter_mut().filter(denied).for_each(|finding| finding.message.push_str(HINT));
    }
}

const HINT: &str = " (where its rights allow it: Landlock keeps this process to the directories that it found at its start; a restart, or process.landlock)";
