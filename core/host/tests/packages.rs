//! Packed plugins: the same bytes each time, taken in whole or not at all, whatever somebody sends.

use std::{
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use provost_host::{AddError, Limits, Package, PackageError, Places, Shelf, add};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const VENDOR_YAML: &str = "\
vendor: Acme
version: 1.2.3
ouis: ['02ACDE']
files: [{ name: 'acme-{mac}.cfg', template: device.cfg.j2 }]
formats: { cfg: { escape: line, content_type: text/plain } }
announce: { url: '{base}acme-{mac}.cfg' }
";

struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Site {
        Site(tempfile::tempdir().unwrap())
    }

    fn with_plugin() -> Site {
        let site = Site::new();
        site.write("plugins/acme/vendor.yaml", VENDOR_YAML);
        site.write("plugins/acme/templates/device.cfg.j2", "a = 1\n");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn places(&self) -> Places {
        Places {
            plugins: vec![self.path("plugins")],
            libraries: Vec::new(),
            templates: self.path("templates"),
            overrides: self.path("overrides"),
            staged: self.path("staged"),
            ..Places::default()
        }
    }

    fn pack(&self) -> Result<Package, PackageError> {
        let (shelf, problems) = Shelf::build(&self.places(), None, Limits::default(), None);
        Package::of(shelf.get("acme").unwrap_or_else(|| panic!("{problems:?}")))
    }

    fn add(&self, package: &Package, force: bool) -> Result<PathBuf, AddError> {
        add(package, &self.places(), force, Limits::default(), None).map(|added| added.at)
    }

    /// Everything below the plugins directory.
    fn names(&self) -> Vec<String> {
        fn walk(root: &Path, directory: &Path, names: &mut Vec<String>) {
            for path in fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    walk(root, &path, names);
                } else {
                    names.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let mut names = Vec::new();
        walk(&self.path("plugins"), &self.path("plugins"), &mut names);
        names.sort();
        names
    }
}

#[test]
fn what_is_packed_is_added_elsewhere_and_packs_to_the_same_bytes_again() {
    let here = Site::with_plugin();
    here.write("plugins/acme/README.md", "# Acme\n");
    here.write("plugins/acme/goldens/one/profiles.yaml", "devices: {}\n");
    here.write("plugins/acme/goldens/one/expected/url", "http://\n");
    // What it is built from, and what editors leave about, stays at home.
    here.write("plugins/acme/src/lib.rs", "");
    here.write("plugins/acme/Cargo.toml", "");
    here.write("plugins/acme/captures/.a.sip.swp", "");
    here.write("plugins/acme/notes.txt", "");
    // Templates may lie elsewhere, and the site's own are its own.
    here.write("templates/acme/shared.cfg.j2", "b = 1\n");
    here.write("overrides/acme/device.cfg.j2", "mine = 1\n");
    let package = here.pack().unwrap();
    assert_eq!(package.file_name(), "acme-1.2.3.provost-plugin");
    let bytes = package.to_bytes().unwrap();

    let there = Site::new();
    assert_eq!(there.add(&Package::from_bytes(&bytes).unwrap(), false).unwrap(), there.path("plugins/acme"));
    assert_eq!(
        there.names(),
        [
            "acme/README.md",
            "acme/goldens/one/expected/url",
            "acme/goldens/one/profiles.yaml",
            "acme/templates/device.cfg.j2",
            "acme/templates/shared.cfg.j2",
            "acme/vendor.yaml",
        ]
    );
    assert_eq!(fs::read_to_string(there.path("plugins/acme/templates/device.cfg.j2")).unwrap(), "a = 1\n");
    let mode = |name: &str| fs::metadata(there.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("plugins/acme"), mode("plugins/acme/vendor.yaml")), (0o755, 0o644));
    assert_eq!(there.pack().unwrap().to_bytes().unwrap(), bytes);
}

#[test]
fn an_installed_vendor_is_replaced_by_force_alone_and_whole() {
    let site = Site::with_plugin();
    let package = site.pack().unwrap();
    site.write("plugins/acme/templates/gone.cfg.j2", "x = 1\n");
    assert!(matches!(site.add(&package, false), Err(AddError::Installed { .. })));
    assert!(site.names().contains(&"acme/templates/gone.cfg.j2".into()));
    // Under whatever name it lies.
    fs::rename(site.path("plugins/acme"), site.path("plugins/other-name")).unwrap();
    assert!(matches!(site.add(&package, false), Err(AddError::Installed { .. })));
    assert_eq!(site.add(&package, true).unwrap(), site.path("plugins/other-name"));
    assert_eq!(site.names(), ["other-name/templates/device.cfg.j2", "other-name/vendor.yaml"]);
    // One that is broken as it lies is installed all the same.
    site.write("plugins/other-name/vendor.yaml", "vendor: Acme\nfiles: 7\n");
    assert!(matches!(site.add(&package, false), Err(AddError::Installed { .. })));
    site.add(&package, true).unwrap();
    assert_eq!(fs::read_to_string(site.path("plugins/other-name/vendor.yaml")).unwrap(), VENDOR_YAML);
    // What is no plugin is nobody's to replace.
    let site = Site::new();
    site.write("plugins/acme/diary.txt", "dear diary");
    for force in [false, true] {
        assert!(matches!(site.add(&package, force), Err(AddError::InTheWay { .. })));
    }
    assert_eq!(site.names(), ["acme/diary.txt"]);
}

#[test]
fn a_plugin_that_does_not_work_here_changes_nothing() {
    let site = Site::with_plugin();
    let good = site.pack().unwrap();
    site.write(
        "plugins/acme/templates/device.cfg.j2",
        "{% if phone.model == 'A9' %}{{ phone.nothing }}{% endif %}a = 2\n",
    );
    site.write("plugins/acme/vendor.yaml", &format!("{VENDOR_YAML}models: {{ A1: {{}}, A9: {{}} }}\n"));
    let bad = site.pack().unwrap();
    let there = Site::new();
    let error = there.add(&bad, false).unwrap_err().to_string();
    assert!(
        error.contains("nothing was changed")
            && error.contains("acme/templates/device.cfg.j2:1")
            && error.contains("A9"),
        "{error}"
    );
    assert!(!error.contains(".adding-"), "{error}");
    assert_eq!(there.names(), Vec::<String>::new());
    assert_eq!(fs::read_dir(there.path("plugins")).unwrap().count(), 0, "nothing is left behind");

    // Two vendors with the same phones: then they would be nobody's.
    there.write("plugins/other/vendor.yaml", &VENDOR_YAML.replace("Acme", "Other"));
    there.write("plugins/other/templates/device.cfg.j2", "o = 1\n");
    let error = there.add(&good, false).unwrap_err();
    assert!(
        matches!(error, AddError::Rivals(_)) && error.to_string().contains("Other has the MAC prefix 02ACDE too"),
        "{error}"
    );
    there.add(&good, true).unwrap();

    // A vendor that is like another needs that one here.
    let site = Site::with_plugin();
    site.write("plugins/brand/vendor.yaml", "vendor: Brand\nlike: acme\nouis: ['02ACDF']\nfiles: [{ name: 'b-{mac}.cfg', template: device.cfg.j2 }]\nannounce: { url: '{base}' }\n");
    let (shelf, problems) = Shelf::build(&site.places(), None, Limits::default(), None);
    let brand = Package::of(shelf.get("brand").unwrap_or_else(|| panic!("{problems:?}"))).unwrap();
    assert_eq!(brand.manifest.needs.like.as_deref(), Some("acme"));
    assert_eq!(brand.names().collect::<Vec<_>>(), ["vendor.yaml"], "another vendor's templates stay with that one");
    let error = Site::new().add(&brand, false).unwrap_err().to_string();
    assert!(error.contains("like \"acme\", a vendor that is not here"), "{error}");
}

#[test]
fn a_link_is_not_packed() {
    let site = Site::with_plugin();
    site.write("secret", "x");
    fs::create_dir_all(site.path("plugins/acme/captures")).unwrap();
    symlink(site.path("secret"), site.path("plugins/acme/captures/a.sip")).unwrap();
    assert!(matches!(site.pack(), Err(PackageError::Link(_))));
}

/// A package by hand: what is in the archive, byte for byte.
struct Forged {
    manifest: Value,
    entries: Vec<(Vec<u8>, tar::EntryType, Vec<u8>)>,
}

impl Forged {
    fn new() -> Forged {
        let mut forged = Forged {
            manifest: json!({
                "format": 1, "vendor": "Acme", "id": "acme", "version": "1", "needs": { "provost": "0.0.1" }, "files": {},
            }),
            entries: Vec::new(),
        };
        forged.put("acme/vendor.yaml", VENDOR_YAML.as_bytes());
        forged.put("acme/templates/device.cfg.j2", b"a = 1\n");
        forged
    }

    /// With its sum in the manifest.
    fn put(&mut self, name: &str, body: &[u8]) {
        let sum: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        let below = name.strip_prefix("acme/").unwrap_or(name);
        self.manifest["files"][below] = json!({ "size": body.len(), "sha256": sum });
        self.entries.push((name.into(), tar::EntryType::Regular, body.into()));
    }

    fn bytes(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let manifest = serde_json::to_vec(&self.manifest).unwrap();
        let first = (b"manifest.json".to_vec(), tar::EntryType::Regular, manifest);
        for (name, kind, body) in std::iter::once(&first).chain(&self.entries) {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            header.set_size(body.len() as u64);
            if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
                header.set_link_name("/etc/passwd").unwrap();
            }
            // By hand, since the library refuses to write what it should refuse to read.
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
            header.set_cksum();
            tar.append(&header, body.as_slice()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn refused(&self) -> String {
        Package::from_bytes(&self.bytes()).expect_err("it is a forgery").to_string()
    }
}

#[test]
fn a_name_that_leads_elsewhere_refuses_the_whole() {
    Package::from_bytes(&Forged::new().bytes()).unwrap();
    for name in [
        "/etc/cron.d/x",
        "../x",
        "acme/../../x",
        "acme/templates/../../../x",
        "acme/./x",
        "acme//x",
        "acme/",
        "acme",
        "other/x",
        "acme2/x",
        "acme/captures/.hidden",
        "acme/captures/a\\b",
        "acme/captures/a\nb",
        "acme/captures/c:x",
        "acme/goldens/1/2/3/4/5/6/7/8/9",
        "manifest.json",
    ] {
        let mut forged = Forged::new();
        forged.put(name, b"x");
        let error = forged.refused();
        assert!(error.contains("is no name below the plugin's folder"), "{name}: {error}");
    }
    for name in ["acme/run.sh", "acme/libother.so", "acme/src/lib.rs", "acme/plugins/x/vendor.yaml"] {
        let mut forged = Forged::new();
        forged.put(name, b"x");
        let error = forged.refused();
        assert!(error.contains("is no part of a plugin"), "{name}: {error}");
    }
    let mut forged = Forged::new();
    forged.entries.push((b"acme/captures/\xff".to_vec(), tar::EntryType::Regular, b"x".to_vec()));
    assert!(forged.refused().contains("not UTF-8"));
}

#[test]
fn what_is_no_plain_file_refuses_the_whole() {
    use tar::EntryType;
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Directory,
        EntryType::Fifo,
        EntryType::Char,
        EntryType::Block,
        EntryType::Continuous,
    ] {
        let mut forged = Forged::new();
        forged.entries.push((b"acme/captures/x".to_vec(), kind, Vec::new()));
        let error = forged.refused();
        assert!(error.contains("is no plain file"), "{kind:?}: {error}");
    }
}

#[test]
fn what_is_not_what_the_manifest_says_refuses_the_whole() {
    let forged = |change: &dyn Fn(&mut Forged)| {
        let mut forged = Forged::new();
        change(&mut forged);
        forged.refused()
    };
    type Change<'a> = &'a dyn Fn(&mut Forged);
    let cases: [(&str, Change<'_>); 13] = [
        ("device.cfg.j2 is not the file that was packed", &|forged| forged.entries[1].2 = b"a = 2\n".to_vec()),
        ("device.cfg.j2 is missing", &|forged| drop(forged.entries.pop())),
        ("does not know captures/x", &|forged| {
            forged.entries.push((b"acme/captures/x".to_vec(), tar::EntryType::Regular, b"x".to_vec()));
        }),
        ("is there twice", &|forged| forged.entries.push(forged.entries[0].clone())),
        ("its manifest says other", &|forged| {
            forged.manifest["id"] = "other".into();
            forged.entries.iter_mut().for_each(|(name, ..)| {
                *name = String::from_utf8_lossy(name).replace("acme/", "other/").into_bytes();
            });
        }),
        ("is no name below the plugin's folder", &|forged| forged.manifest["id"] = "".into()),
        ("packed by provost 99.0.0", &|forged| forged.manifest["needs"]["provost"] = "99.0.0".into()),
        ("built for plugin ABI 7", &|forged| forged.manifest["needs"]["abi"] = 7.into()),
        ("built for riscv32", &|forged| forged.manifest["needs"]["target"] = "riscv32".into()),
        ("package of form 2", &|forged| forged.manifest = json!({ "format": 2 })),
        ("manifest cannot be read", &|forged| forged.manifest = json!({ "format": 1 })),
        ("names a library that is missing", &|forged| {
            forged.entries.remove(0);
            forged.put("acme/vendor.yaml", format!("{VENDOR_YAML}library: x\n").as_bytes());
        }),
        ("holds no vendor.yaml", &|forged| {
            forged.entries.remove(0);
            forged.manifest["files"].as_object_mut().unwrap().remove("vendor.yaml");
        }),
    ];
    for (words, change) in cases {
        let error = forged(change);
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn what_is_damaged_or_too_much_is_refused_without_being_taken_in() {
    let good = Forged::new().bytes();
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("a text", b"not a package at all".to_vec()),
        ("half of one", good[..good.len() / 2].to_vec()),
        ("all but the end", good[..good.len() - 4].to_vec()),
        ("one with a tail", [good.as_slice(), b"tail"].concat()),
        ("two", [good.as_slice(), &good].concat()),
    ] {
        assert!(Package::from_bytes(&bytes).is_err(), "{what}");
    }
    let whole = Package::from_bytes(&good).unwrap().to_bytes().unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x20;
        // Some bits of gzip say nothing (its header's time, the padding of its stream); whatever says something is noticed.
        if let Ok(package) = Package::from_bytes(&bytes) {
            assert_eq!(package.to_bytes().unwrap(), whole, "byte {at} can be changed");
        }
    }
    // A hundred MiB of nothing, in some hundred KiB.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    let nothing = vec![0; 1 << 20];
    (0..128).for_each(|_| gzip.write_all(&nothing).unwrap());
    let error = Package::from_bytes(&gzip.finish().unwrap()).unwrap_err();
    assert!(matches!(error, PackageError::TooMuch(_)), "{error}");
    let mut many = Forged::new();
    (0..2000).for_each(|number| many.put(&format!("acme/captures/{number}"), b""));
    assert!(many.refused().contains("more than 2000 files"));
    let mut wordy = Forged::new();
    wordy.manifest["version"] = "x".repeat(2 << 20).into();
    assert!(wordy.refused().contains("1 MiB of manifest"));
}
