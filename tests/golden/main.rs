//! Rendered files as folders: `VENDOR/CASE/profiles.yaml` holds one device, `phonebooks/` the lists that it names, `expected/` what must come of it, and the case's name is
//! its claim. A new case is a new folder. What lies in `expected/` is told in `core/server/src/golden.rs`, which a plugin's own goldens
//! go through as well.
//!
//! `UPDATE_GOLDEN=1 cargo test -p provost-tests --test golden` writes what came out; the diff of the repository is then the review. The
//! plugins are the real ones, opened as the server opens them, and every XML file is put before xmllint.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::Path,
    sync::{Arc, OnceLock},
};

use provost_host::{Limits, Places, Shelf};
use provost_plugin::{
    Spec,
    spec::{Escape, FileSpec},
};
use provost_server::{
    golden::{self, Bench, Files},
    settings::SettingsFile,
};
use provost_tests::{built, repository, specs, tools};
use serde_json::Value;

struct Case {
    /// `snom/d785-two-accounts-twelve-keys`.
    name: String,
    folder: golden::Case,
    vendor: String,
    model: String,
}

/// What came out of one case.
struct Outcome {
    case: Case,
    files: Files,
    /// The settings that reached the device, by dotted path.
    fields: Vec<String>,
}

#[test]
fn every_case_comes_out_as_expected() {
    let update = env::var_os("UPDATE_GOLDEN").is_some_and(|word| word != "0");
    let mut differences = String::new();
    for Outcome { case, files, .. } in outcomes() {
        if update {
            case.folder.accept(files).unwrap_or_else(|error| panic!("cannot write {}: {error}", case.name));
        }
        let expected = case.folder.expected().unwrap_or_else(|error| panic!("cannot read {}: {error}", case.name));
        for difference in golden::differences(&expected, files) {
            differences.push_str(&format!("\n== {}/expected/{difference}\n", case.name));
        }
    }
    assert!(differences.is_empty(), "goldens differ (UPDATE_GOLDEN=1 writes what came out):\n{differences}");
}

#[test]
fn every_xml_file_is_well_formed() {
    let specs: BTreeMap<String, Spec> = specs().into_iter().collect();
    let mut xml = 0;
    for Outcome { case, files, .. } in outcomes() {
        for (name, body) in files {
            let name = name.replace("%2F", "/");
            let spec = &specs[&case.vendor];
            // Families may have files of the same name in different formats.
            let family = spec.model(&case.model).and_then(|(_, model)| model.family.clone());
            let ours = |file: &FileSpec| {
                file.families.is_empty() || family.as_ref().is_some_and(|family| file.families.contains(family))
            };
            let Some((file, _)) = spec.find(&name).find(|(file, _)| ours(file)) else { continue };
            let format = file.template.as_deref().and_then(|template| spec.format_of(template));
            if format.is_some_and(|format| format.escape == Escape::Xml) {
                tools::xmllint(body).unwrap_or_else(|error| panic!("{}/{name}: {error}", case.name));
                xml += 1;
            }
        }
    }
    assert!(xml > 20, "only {xml} XML files among the goldens");
}

/// What an administrator sets in an office, as settings that must reach the device.
const AN_OFFICE: &[&str] = &[
    "sip.server",
    "sip.codecs",
    "lines.1.password",
    "keys.11.kind",
    "time.zone",
    "time.ntp",
    "locale.language",
    "vlan.voice.id",
    "access.admin.password",
    "firmware_update.url",
    "phonebook.remote.0.url",
    "syslog.server",
];

#[test]
fn three_models_of_each_vendor_are_asked_for_everything_that_an_office_needs() {
    let whole = |outcome: &Outcome| {
        let has = |wanted: &&str| {
            outcome.fields.iter().any(|field| field == *wanted || field.starts_with(&format!("{wanted}.")))
        };
        AN_OFFICE.iter().all(has) && !outcome.files.contains_key("error")
    };
    for (vendor, _) in specs() {
        let models: BTreeSet<&str> = outcomes()
            .iter()
            .filter(|outcome| outcome.case.vendor == vendor && whole(outcome))
            .map(|outcome| outcome.case.model.as_str())
            .collect();
        assert!(models.len() >= 3, "of {vendor} only {models:?} have a golden with all of {AN_OFFICE:?}");
    }
}

#[test]
fn each_vendor_has_a_case_of_a_file_that_cannot_be_written() {
    for (vendor, _) in specs() {
        let mut cases = outcomes().iter().filter(|outcome| outcome.case.vendor == vendor);
        assert!(cases.any(|outcome| outcome.files.contains_key("error")), "{vendor} has no error case");
    }
}

/// Every case, rendered once for all tests.
fn outcomes() -> &'static [Outcome] {
    static OUTCOMES: OnceLock<Vec<Outcome>> = OnceLock::new();
    OUTCOMES.get_or_init(|| {
        let outcomes: Vec<_> = cases().into_iter().map(run).collect();
        assert!(outcomes.len() > 15, "there were more cases than {}", outcomes.len());
        outcomes
    })
}

fn cases() -> Vec<Case> {
    let golden = repository().join("tests/golden");
    let cases = |directory: &Path| {
        golden::cases(directory).unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()))
    };
    cases(&golden)
        .into_iter()
        .flat_map(|vendor| cases(&vendor.directory).into_iter().map(move |case| (vendor.name.clone(), case)))
        .map(|(vendor, folder)| case(&vendor, folder))
        .collect()
}

fn case(of: &str, folder: golden::Case) -> Case {
    let name = format!("{of}/{}", folder.name);
    let profiles = folder.directory.join("profiles.yaml");
    let text = std::fs::read_to_string(&profiles)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", profiles.display()));
    let document: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let devices: Vec<_> = document["devices"].as_object().into_iter().flatten().collect();
    let [(_, device)] = devices.as_slice() else { panic!("{name} has {} devices, not one", devices.len()) };
    let word = |key: &str| device["identity"][key].as_str().map(str::to_owned);
    let vendor = word("vendor").unwrap_or_else(|| panic!("{name} states no vendor"));
    // A phone may be one of which only the MAC is known.
    let model = word("model").unwrap_or_default();
    assert!(name.starts_with(&format!("{vendor}/")), "{name} is a case of {vendor}");
    Case { name, folder, vendor, model }
}

/// The shipped plugins, with nothing of any site.
fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let staged = tempfile::tempdir().expect("a temporary directory");
        let places = Places {
            plugins: vec![repository().join("plugins")],
            libraries: built().provost.parent().map(Path::to_owned).into_iter().collect(),
            templates: repository().join("templates"),
            overrides: staged.path().join("overrides"),
            staged: staged.path().to_owned(),
            ..Places::default()
        };
        let (shelf, problems) = Shelf::build(&places, None, Limits::default(), None);
        assert!(problems.is_empty(), "{problems:?}");
        let settings = SettingsFile::default().settle(None).expect("no settings are good settings");
        Bench { settings: Arc::new(settings), shelf: Arc::new(shelf), roots: vec![repository()] }
    })
}

/// Renders and explains the one device of a case.
fn run(case: Case) -> Outcome {
    let golden::Outcome { files, fields, .. } =
        case.folder.run(bench()).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    Outcome { case, files, fields }
}
