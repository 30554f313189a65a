//! Puts a packed plugin into a directory of plugins: tried beside the others first, then there at once and whole.
//!
//! It is unpacked into a hidden directory beside its place, where no server looks, so that the last step is one rename on one file system.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use crate::{
    Limits, Places, Prober, Problem, Review, Shelf, discover,
    package::{Package, PackageError},
    review::{review, rivals_of},
};

/// What came of adding a plugin.
#[derive(Debug)]
pub struct Added {
    /// The folder that it is in now.
    pub at: PathBuf,
    pub models: usize,
    pub files: usize,
    /// It took the place of an installed one.
    pub replaced: bool,
    /// What there is to say about it, although it is in service.
    pub doubts: Vec<Problem>,
}

#[derive(Debug, thiserror::Error)]
pub enum AddError {
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error("{vendor} is installed already, in {}; --force replaces it", at.display())]
    Installed { vendor: String, at: PathBuf },
    #[error("{vendor} is installed as the bare library {}; take that away first", at.display())]
    Bare { vendor: String, at: PathBuf },
    #[error("{} is there already and is no plugin of {vendor}; move it away", at.display())]
    InTheWay { vendor: String, at: PathBuf },
    #[error("it is refused, and nothing was changed:\n{}", lines(.0))]
    Unfit(Vec<Problem>),
    #[error("it claims phones that are another vendor's, which would then be nobody's; --force adds it all the same:\n{}", lines(.0))]
    Rivals(Vec<Problem>),
    #[error("cannot {act} {}: {source}", place.display())]
    Disk { act: &'static str, place: PathBuf, source: io::Error },
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n")
}

/// Adds `package` to the first of the directories of plugins, or, by force, puts it in the place of the vendor's installed plugin.
pub fn add(
    package: &Package,
    places: &Places,
    force: bool,
    limits: Limits,
    prober: Option<&Prober>,
) -> Result<Added, AddError> {
    let disk = |act, place: &Path| {
        let place = place.to_owned();
        move |source| AddError::Disk { act, place, source }
    };
    let (vendor, id) = (&package.manifest.vendor, &package.manifest.id);
    let first = places.plugins.first().cloned().unwrap_or_default();
    if first.join("vendor.yaml").is_file() {
        let source =
            io::Error::new(io::ErrorKind::NotADirectory, "it is the folder of one plugin, not a directory of them");
        return Err(AddError::Disk { act: "add a plugin to", place: first, source });
    }
    fs::create_dir_all(&first).map_err(disk("make the directory", &first))?;

    let (before, _) = Shelf::build(places, None, limits, prober);
    // One that is refused as it lies is installed all the same.
    let installed = before.get(id).map(|plugin| plugin.origin.clone()).or_else(|| discover::folder_of(id, places));
    let at = installed.clone().unwrap_or_else(|| first.join(id));
    if let Some(installed) = &installed {
        if installed.is_file() {
            return Err(AddError::Bare { vendor: vendor.clone(), at });
        }
        if !force {
            return Err(AddError::Installed { vendor: vendor.clone(), at });
        }
    } else if at.symlink_metadata().is_ok() {
        return Err(AddError::InTheWay { vendor: vendor.clone(), at });
    }

    let beside = at.parent().unwrap_or(&first).to_owned();
    let private = tempfile::Builder::new()
        .prefix(".adding-")
        .tempdir_in(&beside)
        .map_err(disk("make a directory in", &beside))?;
    let folder = private.path().join(id);
    package.unpack(&folder).map_err(disk("unpack into", &folder))?;

    // Beside the others, as it will be: one of them may be the vendor that it is like.
    let mut tried = places.clone();
    tried.plugins.insert(0, folder.clone());
    let (shelf, problems) = Shelf::build(&tried, Some(&before), limits, prober);
    let told = |problem: &Problem| Problem {
        file: problem.file.replace(&format!("{}/", private.path().display()), ""),
        ..problem.clone()
    };
    let mine = |problem: &&Problem| Path::new(&problem.file).starts_with(&folder);
    let plugin = shelf.get(id).filter(|plugin| plugin.origin == folder);
    let Some(plugin) = plugin else {
        return Err(AddError::Unfit(problems.iter().filter(mine).map(told).collect()));
    };
    let Review { faults, mut doubts, .. } = review(plugin, &shelf);
    if !faults.is_empty() {
        return Err(AddError::Unfit(faults.iter().map(told).collect()));
    }
    let rivals = rivals_of(plugin, &shelf);
    if !rivals.is_empty() && !force {
        return Err(AddError::Rivals(rivals.iter().map(told).collect()));
    }
    doubts.extend(shadowed(package, places));
    let added = Added {
        at: at.clone(),
        models: plugin.spec.models.len(),
        files: plugin.spec.files.len(),
        replaced: installed.is_some(),
        doubts: doubts.iter().map(told).collect(),
    };
    match installed {
        None => put(&folder, &at).map_err(disk("put the plugin into", &at))?,
        // The old one is now where the new one was, and goes with it.
        Some(_) => exchange(&folder, &at, private.path()).map_err(disk("replace", &at))?,
    }
    // The rename is in the directory; a power cut must not lose it.
    fs::File::open(&beside).and_then(|directory| directory.sync_all()).map_err(disk("write", &beside))?;
    Ok(added)
}

/// Templates of the package that are never seen, since others of the same name stand before a plugin's own.
fn shadowed(package: &Package, places: &Places) -> Vec<Problem> {
    let shipped = places.templates.join(&package.manifest.id);
    let hidden = package.names().filter_map(|name| Some(shipped.join(name.strip_prefix("templates/")?)));
    hidden
        .filter(|path| path.is_file())
        .map(|path| {
            Problem::new(path.display().to_string(), 0, "stands before the template of the same name in the package")
        })
        .collect()
}

/// Moves a folder to where nothing is.
fn put(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // A file system that does not know the flag: nothing was there a moment ago.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if !to.exists() => fs::rename(from, to),
        Err(error) => Err(error.into()),
    }
}

/// Changes two folders' places in one step, or in two where the file system cannot.
fn exchange(new: &Path, old: &Path, private: &Path) -> io::Result<()> {
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            let away = private.join("replaced");
            fs::rename(old, &away)?;
            fs::rename(new, old).inspect_err(|_| drop(fs::rename(&away, old)))
        }
        Err(error) => Err(error.into()),
    }
}
