//! `provost plugin pack` and `provost plugin add`: a plugin as one file, and back.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use provost_host::{Limits, Package};
use provost_server::settings::Settings;

use super::Named;

pub(crate) fn pack(settings: &Settings, wanted: &str, output: Option<&Path>, out: &mut impl Write) -> Result<ExitCode> {
    crate::log(settings, "error")?;
    let named = Named::find(settings, wanted, true)?;
    let Some(plugin) = named.plugin() else {
        for problem in &named.problems {
            writeln!(out, "{problem}")?;
        }
        bail!("{wanted} is refused, and nobody could use it; nothing was written");
    };
    let package = Package::of(plugin).with_context(|| format!("cannot pack {wanted}"))?;
    let bytes = package.to_bytes().with_context(|| format!("cannot pack {wanted}"))?;
    let path = output.map_or_else(|| PathBuf::from(package.file_name()), Path::to_owned);
    // Whole or not at all: somebody may be waiting for the name to appear.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".packing-").tempfile_in(directory)?;
        file.write_all(&bytes)?;
        file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.persist(&path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    // Again as everybody will read it: what packs is what can be added.
    Package::read(&path).with_context(|| format!("{} was written and cannot be read back", path.display()))?;
    let manifest = &package.manifest;
    let library = manifest.needs.target.as_ref().map(|target| format!(", with a library for {target}"));
    writeln!(
        out,
        "{}: {} {}, {} files, {} bytes{}",
        path.display(),
        manifest.vendor,
        manifest.version,
        manifest.files.len(),
        fs::metadata(&path)?.len(),
        library.unwrap_or_default()
    )?;
    if plugin.version.is_none() && plugin.spec.version.is_none() {
        writeln!(out, "its vendor.yaml states no \"version\", so it is named by what it holds")?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn add(settings: &Settings, file: &Path, force: bool, out: &mut impl Write) -> Result<ExitCode> {
    crate::log(settings, "error")?;
    let package = Package::read(file).with_context(|| format!("cannot add {}", file.display()))?;
    let manifest = &package.manifest;
    let added = provost_host::add(&package, &settings.places(), force, Limits::default(), Some(&crate::prober()?))
        .with_context(|| format!("cannot add {} {}", manifest.vendor, manifest.version))?;
    for doubt in &added.doubts {
        writeln!(out, "{doubt}")?;
    }
    writeln!(
        out,
        "{} {} is in {}{}: {} models, {} files. A server that runs on this directory takes it up by itself.",
        manifest.vendor,
        manifest.version,
        added.at.display(),
        if added.replaced { ", in place of the one before" } else { "" },
        added.models,
        added.files
    )?;
    Ok(ExitCode::SUCCESS)
}
