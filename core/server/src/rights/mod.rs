//! What the process may do for the rest of its life: whose it is, which capabilities it keeps, which files it reaches.
//!
//! Taken away while there is one thread, for capabilities and Landlock belong to threads, and those that are started later get what the
//! first one has. What needs more than is left must be open by then: see [`crate::run::Early`].

mod files;

use std::{
    fmt, fs, io,
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist, setgroups, setresgid, setresuid};
use rustix::{
    fs::{Access, access},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    },
};

use crate::settings::Settings;
pub(crate) use files::{beyond, explain, hint};

#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    #[error("there is no user \"{0}\" on this machine (process.user); `useradd --system {0}` makes one")]
    NoUser(String),
    #[error("cannot look for the user \"{user}\" (process.user): {source}")]
    Search { user: String, source: io::Error },
    #[error("cannot {act}: {source}")]
    Change { act: &'static str, source: io::Error },
    #[error("{user} may not write {}: `chown -R {user} {}`", path.display(), state.display())]
    State { user: String, path: PathBuf, state: PathBuf },
}

fn change(act: &'static str) -> impl Fn(io::Error) -> RightsError {
    move |source| RightsError::Change { act, source }
}

/// Gives up whatever serving does not take, and says once in the log what is left.
pub fn give_up(settings: &Settings) -> Result<(), RightsError> {
    let began_as_root = geteuid().is_root();
    let user = settings.process.user.as_deref().map(find).transpose()?;
    let stays_root = began_as_root && user.as_ref().is_none_or(|user| user.uid.is_root());
    let mut kept = CapabilitySet::NET_BIND_SERVICE;
    if settings.process.net_admin {
        kept |= CapabilitySet::NET_ADMIN;
    }
    if stays_root {
        // A root that may not pass over the rights of files reads less than anybody whose files they are.
        kept |= CapabilitySet::DAC_OVERRIDE | CapabilitySet::CHOWN | CapabilitySet::FOWNER;
    }
    let kept = kept & capabilities(None).map_err(|error| change("read the capabilities")(error.into()))?.permitted;
    forget_in_children(kept);
    match &user {
        Some(user) if began_as_root && !user.uid.is_root() => become_user(user, settings)?,
        Some(user) if geteuid() != user.uid => tracing::warn!(
            "this process does not become {} (process.user): only root may do that. It stays {}",
            user.name,
            whose()
        ),
        _ => {}
    }
    keep(kept)?;
    writable(&settings.state)?;
    if stays_root && user.is_none() {
        tracing::warn!(
            "this process stays root, which it does not need: write `process: {{ user: provost }}` into the settings, with a user of this machine who may read the profiles and write {}",
            settings.state.display()
        );
    }
    let user = whose();
    let confined = files::confine(settings);
    tracing::info!(user, capabilities = %Names(kept), files = %confined, "rights");
    Ok(())
}

/// The same for a process that reads and writes nothing any more: no capability is kept.
pub fn give_up_all(user: Option<&str>) -> Result<(), RightsError> {
    let user = user.map(find).transpose()?;
    forget_in_children(CapabilitySet::empty());
    match &user {
        Some(user) if geteuid().is_root() && !user.uid.is_root() => change_to(user)?,
        Some(user) if geteuid() != user.uid => {
            tracing::warn!("this process does not become {}: only root may do that. It stays {}", user.name, whose());
        }
        _ => {}
    }
    keep(CapabilitySet::empty())?;
    let user = whose();
    tracing::info!(user, capabilities = %Names(CapabilitySet::empty()), "rights");
    Ok(())
}

/// These capabilities, and no way to others.
fn keep(kept: CapabilitySet) -> Result<(), RightsError> {
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(|error| change("give up capabilities")(error.into()))?;
    set_no_new_privs(true).map_err(|error| change("give up the way to new rights")(error.into()))
}

fn find(name: &str) -> Result<User, RightsError> {
    match User::from_name(name) {
        Ok(found) => found.ok_or_else(|| RightsError::NoUser(name.to_owned())),
        Err(error) => Err(RightsError::Search { user: name.to_owned(), source: error.into() }),
    }
}

fn whose() -> String {
    let uid = geteuid();
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// No program that is started from here gets more than is kept, not by inheritance and not as root. Where that may not be settled, the
/// way to new rights is closed all the same.
fn forget_in_children(kept: CapabilitySet) {
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if !kept.contains(one) && capability_is_in_bounding_set(one) == Ok(true) {
            let _ = remove_capability_from_bounding_set(one);
        }
    }
    let _ = clear_ambient_capability_set();
}

/// The capabilities stay for as long as they are not given up.
fn become_user(user: &User, settings: &Settings) -> Result<(), RightsError> {
    // Its directory may lie where only root makes one.
    if fs::create_dir(&settings.state).is_ok() {
        chown(&settings.state, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .map_err(change("give the state directory to its user"))?;
    }
    change_to(user)
}

fn change_to(user: &User) -> Result<(), RightsError> {
    let groups = groups(user).map_err(change("look for the groups of process.user"))?;
    set_keep_capabilities(true).map_err(|error| change("keep capabilities")(error.into()))?;
    let become_it = || {
        setgroups(&groups)?;
        setresgid(user.gid, user.gid, user.gid)?;
        setresuid(user.uid, user.uid, user.uid)
    };
    become_it().map_err(|error| change("become process.user")(error.into()))?;
    set_keep_capabilities(false).map_err(|error| change("keep no capabilities")(error.into()))
}

fn groups(user: &User) -> io::Result<Vec<Gid>> {
    let name = std::ffi::CString::new(user.name.as_str())?;
    Ok(getgrouplist(&name, user.gid)?)
}

/// What is kept there would otherwise be set aside as broken, or be missed, after a server that root ran.
fn writable(state: &Path) -> Result<(), RightsError> {
    if Uid::effective().is_root() || fs::create_dir_all(state).is_err() && !state.exists() {
        return Ok(());
    }
    let entries = fs::read_dir(state).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in std::iter::once(state.to_owned()).chain(entries) {
        if access(&path, Access::WRITE_OK) == Err(rustix::io::Errno::ACCESS) {
            return Err(RightsError::State { user: whose(), path, state: state.to_owned() });
        }
    }
    Ok(())
}

/// As people know them: `net_bind_service`.
struct Names(CapabilitySet);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, (name, _)) in self.0.iter_names().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { " " }, name.to_ascii_lowercase())?;
        }
        Ok(())
    }
}
