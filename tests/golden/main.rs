//! Rendered files as folders: `VENDOR/CASE/profiles.yaml` holds one device, `phonebooks/` the lists that it names, `expected/` what must
//! come of it, and the case's name is its claim. A new case is a new folder.
//!
//! In `expected/` lie the files that the device may fetch, under their own names (`%2F` for a slash); `url`, what its NOTIFY carries;
//! `complaints`, what is asked for in vain; or `error` instead of all files, where one of them cannot be rendered.
//!
//! `UPDATE_GOLDEN=1 cargo test -p provost-tests --test golden` writes what came out; the diff of the repository is then the review. The
//! real program renders, and every XML file is put before xmllint.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use provost_plugin::{Spec, spec::Escape};
use provost_tests::{built, repository, specs, tools};
use serde_json::Value;
use similar::TextDiff;

/// Files by name, or what took their place.
type Files = BTreeMap<String, Vec<u8>>;

struct Case {
    /// `snom/d785-two-accounts-twelve-keys`.
    name: String,
    directory: PathBuf,
    vendor: String,
    mac: String,
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
        let expected = case.directory.join("expected");
        if update {
            replace(&expected, files);
        }
        let wanted = read(&expected);
        let names: BTreeSet<&String> = wanted.keys().chain(files.keys()).collect();
        for name in names {
            let difference = match (wanted.get(name), files.get(name)) {
                (Some(wanted), Some(got)) if wanted == got => continue,
                (Some(wanted), Some(got)) => diff(wanted, got),
                (Some(_), None) => "is expected, and did not come out\n".into(),
                (None, _) => "came out, and is not expected\n".into(),
            };
            differences.push_str(&format!("\n== {}/expected/{name}\n{difference}", case.name));
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
            let Some((file, _)) = spec.find(&name).next() else { continue };
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
    let folders = |directory: &Path| -> Vec<PathBuf> {
        let entries =
            fs::read_dir(directory).unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()));
        let mut folders: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        folders.sort();
        folders
    };
    folders(&golden).iter().flat_map(|vendor| folders(vendor)).map(|directory| case(&golden, directory)).collect()
}

fn case(golden: &Path, directory: PathBuf) -> Case {
    let name = directory.strip_prefix(golden).expect("it lies there").display().to_string();
    let profiles = directory.join("profiles.yaml");
    let text =
        fs::read_to_string(&profiles).unwrap_or_else(|error| panic!("cannot read {}: {error}", profiles.display()));
    let document: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let devices: Vec<_> = document["devices"].as_object().into_iter().flatten().collect();
    let [(mac, device)] = devices.as_slice() else { panic!("{name} has {} devices, not one", devices.len()) };
    let word =
        |key: &str| device["identity"][key].as_str().unwrap_or_else(|| panic!("{name} states no {key}")).to_owned();
    let (vendor, model) = (word("vendor"), word("model"));
    assert!(name.starts_with(&format!("{vendor}/")), "{name} is a case of {vendor}");
    Case { name, directory, vendor, mac: mac.to_string(), model }
}

/// Renders and explains the one device of a case.
fn run(case: Case) -> Outcome {
    let data = tempfile::tempdir().expect("a temporary directory");
    let rendered = data.path().join("rendered");
    let provost = |words: &[&str]| {
        let mut provost = Command::new(&built().provost);
        provost.current_dir(repository()).args(words).arg(&case.mac).arg("--data").arg(data.path());
        provost
            .args(["--local", "192.0.2.1", "--templates", "templates", "--plugins", "plugins", "--profiles"])
            .arg(&case.directory)
            .arg("--phonebooks")
            .arg(case.directory.join("phonebooks"));
        provost
    };
    let (explained, said) = output(&mut provost(&["explain", "--json"]));
    let explanation: Value =
        serde_json::from_slice(&explained).unwrap_or_else(|error| panic!("{}: {error}\n{said}", case.name));
    let (_, error) = output(provost(&["render"]).arg("--output").arg(&rendered));
    let mut files =
        if error.is_empty() { read(&rendered) } else { Files::from([("error".into(), error.into_bytes())]) };
    let url = explanation["url"].as_str().unwrap_or_else(|| panic!("{}: {}", case.name, explanation["outcome"]));
    files.insert("url".into(), format!("{url}\n").into_bytes());
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
    };
    let complaints: String =
        texts(&explanation["complaints"]).iter().map(|complaint| format!("{complaint}\n")).collect();
    if !complaints.is_empty() {
        files.insert("complaints".into(), complaints.into_bytes());
    }
    let values = explanation["values"].as_array().into_iter().flatten();
    let fields = values.map(|value| value["field"].as_str().unwrap_or_default().to_owned()).collect();
    Outcome { case, files, fields }
}

/// What a program prints, and what it complains of, without paths of this machine.
fn output(command: &mut Command) -> (Vec<u8>, String) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).replace(&format!("{}/", repository().display()), "");
    assert_eq!(output.status.success(), said.is_empty(), "{command:?} ended with {}:\n{said}", output.status);
    (output.stdout, said)
}

fn read(directory: &Path) -> Files {
    let Ok(entries) = fs::read_dir(directory) else { return Files::new() };
    entries
        .flatten()
        .map(|entry| {
            let body = fs::read(entry.path())
                .unwrap_or_else(|error| panic!("cannot read {}: {error}", entry.path().display()));
            (entry.file_name().to_string_lossy().into_owned(), body)
        })
        .collect()
}

fn replace(directory: &Path, files: &Files) {
    let act = || -> std::io::Result<()> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
        files.iter().try_for_each(|(name, body)| fs::write(directory.join(name), body))
    };
    act().unwrap_or_else(|error| panic!("cannot write {}: {error}", directory.display()));
}

fn diff(wanted: &[u8], got: &[u8]) -> String {
    // A binary file shows its readable part, which is most of it.
    let [wanted, got] = [wanted, got].map(|bytes| String::from_utf8_lossy(bytes).replace('\r', "␍").replace('\0', "␀"));
    if wanted == got {
        return "differs in bytes that are no text\n".into();
    }
    TextDiff::from_lines(&wanted, &got).unified_diff().context_radius(2).header("expected", "came out").to_string()
}
