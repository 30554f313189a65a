//! A plugin as one file that can be passed on: a gzipped tar, the same bytes each time, in front of it a manifest that names every file
//! with its SHA-256.
//!
//! Reading one trusts nothing: what is not named in the manifest, is no plain file, leads elsewhere or is too much refuses the whole. The
//! sums tell a damaged file from a whole one; they do not tell who made it, and a library in it runs with the server's rights.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use flate2::{Compression, GzBuilder, bufread::GzDecoder};
use provost_plugin::{abi::ABI_MAJOR, spec::path_name};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{InService, discover::is_noise};

/// What file names end in.
pub const EXTENSION: &str = "provost-plugin";
/// Of the file itself, and of all that is in it. A library with everything that a debugger wants has some tens of MiB.
const PACKED: u64 = 64 << 20;
const UNPACKED: u64 = 96 << 20;
const FILES: usize = 2000;
const LONGEST_NAME: usize = 240;
const DEEPEST: usize = 8;
const MANIFEST: &str = "manifest.json";
const MANIFEST_LIMIT: u64 = 1 << 20;
/// The form of packages that is written and read here.
const FORMAT: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub vendor: String,
    /// The vendor's name in paths; also the folder that everything is in.
    pub id: String,
    pub version: String,
    pub needs: Needs,
    /// By name below the folder.
    pub files: BTreeMap<String, Content>,
}

/// What a server must be for this plugin to work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Needs {
    /// The version that packed it: a `vendor.yaml` may say what older ones do not know.
    pub provost: String,
    /// Of the table that its library exports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abi: Option<u32>,
    /// The machine that its library is built for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// A vendor that it is like, and that must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Content {
    pub size: u64,
    pub sha256: String,
}

/// A package in memory.
#[derive(Clone, Debug)]
pub struct Package {
    pub manifest: Manifest,
    files: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("cannot read {}: {source}", place.display())]
    Read { place: PathBuf, source: io::Error },
    #[error("{} is a library by itself; what can be packed is a folder with a vendor.yaml", .0.display())]
    Bare(PathBuf),
    #[error("{} is a link, and a package holds none", .0.display())]
    Link(PathBuf),
    #[error("it is no packed plugin: {0}")]
    NoPackage(String),
    #[error("it holds \"{name}\", which {why}")]
    BadName { name: String, why: &'static str },
    #[error("it has more than {0}")]
    TooMuch(String),
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("it cannot be used here: {0}")]
    Foreign(String),
}

impl Package {
    /// Collects a plugin that is in service: what it consists of and what tests it, and nothing that it is built from.
    pub fn of(plugin: &InService) -> Result<Package, PackageError> {
        let read =
            |place: &Path| fs::read(place).map_err(|source| PackageError::Read { place: place.to_owned(), source });
        let folder = &plugin.origin;
        if !folder.join("vendor.yaml").is_file() {
            return Err(PackageError::Bare(folder.clone()));
        }
        let mut files = BTreeMap::new();
        for path in list(folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match name.as_str() {
                "captures" | "goldens" if path.is_dir() => walk(&path, &name, 1, &mut files)?,
                _ if is_text(&name) && path.is_file() => drop(files.insert(name, plain(&path)?)),
                _ => {}
            }
        }
        // As they answer here, wherever they lie; without the site's own, and without those of a vendor that this one is like.
        let sources: Vec<_> = plugin.templates.sources().collect();
        for (name, shown, text) in &sources {
            let Some(name) = name.strip_prefix("@shipped/") else { continue };
            let borrowed = sources
                .iter()
                .any(|(other, of, _)| of == shown && other.starts_with('@') && !other.starts_with("@shipped/"));
            let embedded = shown.contains('!');
            if !borrowed && !embedded {
                files.insert(format!("templates/{name}"), text.clone().into_bytes());
            }
        }
        if let (Some(library), Some(name)) = (&plugin.library, &plugin.spec.library) {
            files.insert(library_name(name), read(library)?);
        }
        let sums =
            files.iter().map(|(name, body)| (name.clone(), Content { size: body.len() as u64, sha256: digest(body) }));
        let sums: BTreeMap<String, Content> = sums.collect();
        let version = plugin.version.clone().or(plugin.spec.version.clone());
        let has_library = plugin.library.is_some();
        let package = Package {
            manifest: Manifest {
                format: FORMAT,
                vendor: plugin.spec.vendor.clone(),
                id: plugin.id.clone(),
                // What states no version is told from another by what it holds.
                version: version.unwrap_or_else(|| digest(format!("{sums:?}").as_bytes())[..12].to_owned()),
                needs: Needs {
                    provost: env!("CARGO_PKG_VERSION").to_owned(),
                    abi: has_library.then_some(ABI_MAJOR),
                    target: has_library.then(target),
                    like: plugin.spec.like.clone(),
                },
                files: sums,
            },
            files,
        };
        package.bounded()?;
        package.agrees()?;
        Ok(package)
    }

    /// The name under which it is usually passed on.
    pub fn file_name(&self) -> String {
        // A version is anybody's text.
        let plain = |character: char| {
            if character.is_ascii_alphanumeric() || ".-+_".contains(character) { character } else { '-' }
        };
        let version: String = self.manifest.version.chars().take(64).map(plain).collect();
        format!("{}-{version}.{EXTENSION}", self.manifest.id)
    }

    /// The same bytes for the same plugin, on whatever machine and day.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
        let mut tar = tar::Builder::new(gzip);
        let mut put = |name: &str, body: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(0o644);
            header.set_size(body.len() as u64);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            tar.append_data(&mut header, name, body)
        };
        put(MANIFEST, &serde_json::to_vec_pretty(&self.manifest)?)?;
        for (name, body) in &self.files {
            put(&format!("{}/{name}", self.manifest.id), body)?;
        }
        tar.into_inner()?.finish()
    }

    /// Reads a package from disk, whole and sound or not at all.
    pub fn read(path: &Path) -> Result<Package, PackageError> {
        let failed = |source| PackageError::Read { place: path.to_owned(), source };
        let mut bytes = Vec::new();
        fs::File::open(path).map_err(failed)?.take(PACKED + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > PACKED {
            return Err(PackageError::TooMuch(format!("{} MiB", PACKED >> 20)));
        }
        Package::from_bytes(&bytes)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Package, PackageError> {
        let mut gzip = GzDecoder::new(bytes);
        let mut tar = Vec::new();
        // Headers and padding are some 1 KiB a file.
        let room = UNPACKED + FILES as u64 * 2048;
        let unpacked = gzip.by_ref().take(room + 1).read_to_end(&mut tar);
        if tar.len() as u64 > room {
            return Err(PackageError::TooMuch(format!("{} MiB when it is unpacked", UNPACKED >> 20)));
        }
        unpacked.map_err(|error| match tar.is_empty() {
            true => PackageError::NoPackage(error.to_string()),
            false => PackageError::Damaged(error.to_string()),
        })?;
        if !gzip.into_inner().is_empty() {
            return Err(PackageError::Damaged("something follows its end".into()));
        }
        let damaged = |error: io::Error| PackageError::Damaged(error.to_string());
        let mut archive = tar::Archive::new(tar.as_slice());
        let mut entries = archive.entries().map_err(damaged)?;
        let first = entries.next().ok_or_else(|| PackageError::NoPackage("it is empty".into()))?;
        let manifest = manifest(first.map_err(damaged)?)?;
        let mut files = BTreeMap::new();
        for entry in entries {
            let mut entry = entry.map_err(damaged)?;
            let name = name_of(&entry)?;
            let refuse = |why| Err(PackageError::BadName { name: name.clone(), why });
            if entry.header().entry_type() != tar::EntryType::Regular {
                return refuse("is no plain file");
            }
            let below = name.strip_prefix(&manifest.id).and_then(|rest| rest.strip_prefix('/'));
            let Some(below) = below.filter(|below| is_plain(below)) else {
                return refuse("is no name below the plugin's folder");
            };
            if files.len() >= FILES {
                return Err(PackageError::TooMuch(format!("{FILES} files")));
            }
            let mut body = Vec::new();
            entry.read_to_end(&mut body).map_err(damaged)?;
            if files.insert(below.to_owned(), body).is_some() {
                return refuse("is there twice");
            }
        }
        let package = Package { manifest, files };
        package.bounded()?;
        package.is_what_it_says()?;
        package.agrees()?;
        package.fits_here()?;
        Ok(package)
    }

    fn bounded(&self) -> Result<(), PackageError> {
        let size: u64 = self.files.values().map(|body| body.len() as u64).sum();
        if self.files.len() > FILES {
            return Err(PackageError::TooMuch(format!("{FILES} files")));
        }
        if size > UNPACKED {
            return Err(PackageError::TooMuch(format!("{} MiB when it is unpacked", UNPACKED >> 20)));
        }
        match self.files.keys().find(|name| !is_plain(name)) {
            Some(name) => {
                Err(PackageError::BadName { name: name.clone(), why: "is no plain name, or too long or too deep" })
            }
            None => Ok(()),
        }
    }

    /// Whether every file is the one that the manifest names.
    fn is_what_it_says(&self) -> Result<(), PackageError> {
        let damaged = |what: String| Err(PackageError::Damaged(what));
        for (name, content) in &self.manifest.files {
            match self.files.get(name) {
                None => return damaged(format!("{name} is missing")),
                Some(body) if body.len() as u64 != content.size || digest(body) != content.sha256 => {
                    return damaged(format!("{name} is not the file that was packed"));
                }
                Some(_) => {}
            }
        }
        match self.files.keys().find(|name| !self.manifest.files.contains_key(*name)) {
            Some(name) => damaged(format!("its manifest does not know {name}")),
            None => Ok(()),
        }
    }

    /// Whether it holds a plugin of the vendor that it says, and nothing else.
    fn agrees(&self) -> Result<(), PackageError> {
        let manifest = &self.manifest;
        let yaml = self.files.get("vendor.yaml").and_then(|body| std::str::from_utf8(body).ok());
        let Some(yaml) = yaml else { return Err(PackageError::NoPackage("it holds no vendor.yaml".into())) };
        // Only who it is; whether it is any good is for the trial to say.
        #[derive(Deserialize)]
        struct Head {
            vendor: String,
            #[serde(default)]
            library: Option<String>,
        }
        let head: Head = serde_yaml::from_str(yaml)
            .map_err(|_| PackageError::NoPackage("its vendor.yaml names no vendor".into()))?;
        let id = path_name(&head.vendor);
        if id.is_empty() || id != manifest.id || path_name(&manifest.vendor) != id {
            let what = format!("its manifest says {}, its vendor.yaml {}", manifest.id, head.vendor);
            return Err(PackageError::Damaged(what));
        }
        let library = head.library.as_deref().map(library_name);
        if library.as_ref().is_some_and(|library| !self.files.contains_key(library)) {
            return Err(PackageError::Damaged("its vendor.yaml names a library that is missing".into()));
        }
        let belongs = |name: &String| {
            is_text(name)
                || library.as_ref() == Some(name)
                || ["templates/", "captures/", "goldens/"].iter().any(|folder| name.starts_with(folder))
        };
        match self.files.keys().find(|name| !belongs(name)) {
            Some(name) => Err(PackageError::BadName { name: name.clone(), why: "is no part of a plugin" }),
            None => Ok(()),
        }
    }

    fn fits_here(&self) -> Result<(), PackageError> {
        let foreign = |why: String| Err(PackageError::Foreign(why));
        let needs = &self.manifest.needs;
        let number = |version: &str| -> Vec<u64> {
            version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
        };
        let ours = env!("CARGO_PKG_VERSION");
        if number(&needs.provost) > number(ours) {
            return foreign(format!(
                "it was packed by provost {}, this is {ours} and may not know all that it says",
                needs.provost
            ));
        }
        if let Some(abi) = needs.abi.filter(|abi| *abi != ABI_MAJOR) {
            return foreign(format!("its library was built for plugin ABI {abi}, this server speaks {ABI_MAJOR}"));
        }
        match &needs.target {
            Some(other) if *other != target() => {
                foreign(format!("its library was built for {other}, this machine is {}", target()))
            }
            _ => Ok(()),
        }
    }

    /// Names of its files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Writes the plugin's folder, which must not be there yet, down to the disk.
    pub(crate) fn unpack(&self, folder: &Path) -> io::Result<()> {
        use std::io::Write;
        fs::create_dir(folder)?;
        for (name, body) in &self.files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            let mut file = fs::File::create_new(&path)?;
            file.write_all(body)?;
            set_mode(&path, 0o644)?;
            file.sync_all()?;
        }
        set_modes(folder)
    }
}

/// What the folders may be read by is not for this process's habits to say: the server may be another user.
fn set_modes(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            set_modes(&path)?;
        }
    }
    set_mode(folder, 0o755)?;
    fs::File::open(folder)?.sync_all()
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn manifest(mut entry: tar::Entry<'_, impl Read>) -> Result<Manifest, PackageError> {
    let none = || PackageError::NoPackage(format!("it does not begin with {MANIFEST}"));
    if name_of(&entry)? != MANIFEST || entry.header().entry_type() != tar::EntryType::Regular {
        return Err(none());
    }
    if entry.size() > MANIFEST_LIMIT {
        return Err(PackageError::TooMuch(format!("{} MiB of manifest", MANIFEST_LIMIT >> 20)));
    }
    let mut text = Vec::new();
    entry.read_to_end(&mut text).map_err(|error| PackageError::Damaged(error.to_string()))?;
    // A later form may have another manifest altogether, so its number is read first.
    #[derive(Deserialize)]
    struct Form {
        format: u32,
    }
    let unreadable =
        |error: serde_json::Error| PackageError::NoPackage(format!("its manifest cannot be read: {error}"));
    let form: Form = serde_json::from_slice(&text).map_err(unreadable)?;
    if form.format != FORMAT {
        let why = format!("it is a package of form {}, this server knows form {FORMAT}", form.format);
        return Err(PackageError::Foreign(why));
    }
    serde_json::from_slice(&text).map_err(unreadable)
}

fn name_of(entry: &tar::Entry<'_, impl Read>) -> Result<String, PackageError> {
    String::from_utf8(entry.path_bytes().into_owned())
        .map_err(|_| PackageError::BadName { name: "a name".into(), why: "is not UTF-8" })
}

/// A relative name that leads nowhere else, and that nobody is surprised by.
fn is_plain(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', ':']) && !part.chars().any(char::is_control)
    };
    name.len() <= LONGEST_NAME && name.split('/').count() <= DEEPEST && name.split('/').all(part)
}

/// Files of a plugin that lie beside its folders.
fn is_text(name: &str) -> bool {
    !name.contains('/')
        && (matches!(name, "vendor.yaml" | "README.md") || name.starts_with("LICENSE") || name == "COPYING")
}

fn library_name(name: &str) -> String {
    format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// This machine, in the compiler's words.
fn target() -> String {
    let libc = if cfg!(target_env = "musl") {
        "-musl"
    } else if cfg!(target_env = "gnu") {
        "-gnu"
    } else {
        ""
    };
    format!("{}-unknown-{}{libc}", std::env::consts::ARCH, std::env::consts::OS)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn plain(path: &Path) -> Result<Vec<u8>, PackageError> {
    let failed = |source| PackageError::Read { place: path.to_owned(), source };
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    if metadata.is_symlink() {
        return Err(PackageError::Link(path.to_owned()));
    }
    if metadata.len() > UNPACKED {
        return Err(PackageError::TooMuch(format!("{} MiB", UNPACKED >> 20)));
    }
    fs::read(path).map_err(failed)
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, PackageError> {
    let failed = |source| PackageError::Read { place: directory.to_owned(), source };
    let entries = fs::read_dir(directory).map_err(failed)?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    Ok(paths.into_iter().filter(|path| !is_noise(path)).collect())
}

fn walk(
    directory: &Path,
    prefix: &str,
    depth: usize,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), PackageError> {
    for path in list(directory)? {
        let name = format!("{prefix}/{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_symlink() {
            return Err(PackageError::Link(path));
        } else if path.is_dir() && depth < DEEPEST {
            walk(&path, &name, depth + 1, files)?;
        } else {
            files.insert(name, plain(&path)?);
        }
        if files.len() > FILES {
            return Err(PackageError::TooMuch(format!("{FILES} files")));
        }
    }
    Ok(())
}
