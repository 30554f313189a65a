//! `firmware/firmware.yaml`: which firmware lies below `firmware/`, for which phones. Knows no policy: what a phone is told is decided
//! in [`shared`](crate::shared).

use std::{
    cmp::{Ordering, Reverse},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use provost_plugin::spec::{matches_wildcard, path_name};
use schemars::JsonSchema;
use serde_json::Value as Json;

use crate::{
    check::pattern,
    document,
    files::{self, Kind, Sources},
    node::{Node, Value},
    problem::Problem,
    shape::{self, Shape},
};

/// The name of the manifest below `firmware/`.
pub const MANIFEST: &str = "firmware.yaml";

/// Firmware that lies below `firmware/`.
#[derive(Default, JsonSchema)]
#[schemars(default)]
#[allow(dead_code, reason = "only its schema is used; the file is read into nodes that remember their lines")]
struct Manifest {
    entries: Vec<ManifestEntry>,
}

/// One file, and the phones that it is for.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "see Manifest")]
struct ManifestEntry {
    /// The name of the vendor's plugin.
    vendor: String,
    /// Type designations; `*` stands for any run of characters.
    models: Vec<String>,
    /// The version that the file holds, as the phone writes it.
    version: String,
    /// Path below `firmware/`.
    file: String,
    /// Only for this revision of the hardware, as the phone tells it; `*` stands for any run of characters. Left out, for all.
    #[serde(default)]
    hardware: Option<String>,
}

static SCHEMA: LazyLock<Json> = LazyLock::new(|| shape::schema_of::<Manifest>("Provost firmware manifest"));
static SHAPE: LazyLock<Shape> = LazyLock::new(|| shape::compile(&SCHEMA, &SCHEMA, ""));

/// JSON Schema of `firmware.yaml`, for editors.
pub fn schema() -> Json {
    SCHEMA.clone()
}

const IMAGES: Kind<Vec<Image>> = Kind { extensions: &["yaml"], read };

/// An entry of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The plugin's name.
    pub vendor: String,
    pub models: Vec<String>,
    pub version: String,
    /// Below `firmware/`.
    pub file: String,
    pub hardware: Option<String>,
    /// Of the manifest.
    pub line: u32,
    pub column: u32,
}

impl Image {
    /// How particularly it is meant for a phone: its hardware stated, then the letters of the model that are fixed.
    fn rank(&self, models: &[&str]) -> (bool, usize) {
        let letters = |pattern: &&String| pattern.chars().filter(|letter| *letter != '*').count();
        let fitting = self.models.iter().filter(|pattern| models.iter().any(|model| matches_wildcard(pattern, model)));
        (self.hardware.is_some(), fitting.map(|pattern| letters(&pattern)).max().unwrap_or(0))
    }

    fn fits(&self, phone: &Wanted) -> bool {
        self.vendor == phone.vendor
            && self.models.iter().any(|pattern| phone.models.iter().any(|model| matches_wildcard(pattern, model)))
            && self
                .hardware
                .as_deref()
                .is_none_or(|pattern| phone.hardware.is_some_and(|hardware| matches_wildcard(pattern, hardware)))
            && phone.version.is_none_or(|version| compare(&self.version, version) == Ordering::Equal)
    }
}

/// What a phone's firmware is looked for by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) vendor: &'a str,
    /// Every spelling of its model.
    pub(crate) models: &'a [&'a str],
    pub(crate) hardware: Option<&'a str>,
    /// Left out, the newest.
    pub(crate) version: Option<&'a str>,
}

/// The firmware that can be served.
#[derive(Debug)]
pub struct Images {
    sources: Sources<Vec<Image>>,
    /// Those whose file is there.
    served: Vec<Image>,
    file: Arc<str>,
    modified: SystemTime,
}

impl Default for Images {
    /// No firmware.
    fn default() -> Images {
        Images { sources: Sources::new(), served: Vec::new(), file: "".into(), modified: SystemTime::UNIX_EPOCH }
    }
}

impl Images {
    /// Reads the manifest below `root`, which need not be there. One with an error keeps the version that `previous` had in service;
    /// an entry whose file is missing is left out.
    pub fn read(root: &Path, previous: Option<&Images>) -> (Images, Vec<Problem>) {
        let path = root.join(MANIFEST);
        let file = files::name(&path);
        let (sources, mut problems) = files::read_paths(vec![path], &IMAGES, previous.map(|images| &images.sources));
        let mut served = Vec::new();
        for source in sources.values() {
            problems.extend(source.problems.iter().cloned());
            for image in &*source.document {
                let path: PathBuf = root.join(&image.file);
                if path.is_file() {
                    served.push(image.clone());
                } else {
                    let message = format!("there is no file {}; the entry is left out until there is", path.display());
                    problems.push(Problem::error(&file, image.line, image.column, message));
                }
            }
        }
        let modified = match previous {
            None => files::modified(None, &sources),
            Some(previous) if previous.served == served => previous.modified,
            Some(_) => SystemTime::now(),
        };
        (Images { sources, served, file, modified }, problems)
    }

    /// What can be served, in the order of the manifest.
    pub fn entries(&self) -> &[Image] {
        &self.served
    }

    /// The manifest, as a person would open it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Whether some version of the manifest is in service.
    pub fn serves(&self, file: &str) -> bool {
        self.sources.get(Path::new(file)).is_some_and(|source| source.fit)
    }

    /// When what is in service last changed.
    pub fn modified(&self) -> SystemTime {
        self.modified
    }

    /// Whether this vendor has any.
    pub(crate) fn has(&self, vendor: &str) -> bool {
        self.served.iter().any(|image| image.vendor == vendor)
    }

    /// The newest that fits; of one version the one that is most particular, and then the first.
    pub(crate) fn choose(&self, phone: &Wanted) -> Option<&Image> {
        let fitting = self.served.iter().enumerate().filter(|(_, image)| image.fits(phone));
        let newest = fitting.max_by(|(place, one), (other_place, other)| {
            compare(&one.version, &other.version)
                .then_with(|| one.rank(phone.models).cmp(&other.rank(phone.models)))
                .then_with(|| Reverse(place).cmp(&Reverse(other_place)))
        });
        newest.map(|(_, image)| image)
    }
}

fn read(file: &Arc<str>, bytes: &[u8]) -> (Vec<Image>, Vec<Problem>) {
    let (root, mut problems) = document::checked(file, bytes, &SHAPE);
    let entries = root.as_ref().and_then(|root| root.get("entries")).map(|entries| &entries.value);
    let Some(Value::List(entries)) = entries else { return (Vec::new(), problems) };
    let images = entries.iter().filter_map(|node| image(file, node, &mut problems)).collect();
    problems.sort_by_key(|problem| (problem.line, problem.column));
    (images, problems)
}

/// One entry, with what a schema cannot say of it. What is missing was told before.
fn image(file: &Arc<str>, node: &Node, problems: &mut Vec<Problem>) -> Option<Image> {
    let mut wrong = |node: &Node, message: String| problems.push(Problem::error(file, node.line, node.column, message));
    let (vendor, path, version) = (node.get("vendor")?, node.get("file")?, node.get("version")?);
    let Value::List(models) = &node.get("models")?.value else { return None };
    if models.is_empty() {
        wrong(node, "\"models\" names no model: write '*' for all".to_owned());
    }
    for model in models {
        if let Some(message) = model.text().and_then(pattern) {
            wrong(model, message);
        }
    }
    if let Some(hardware) = node.get("hardware")
        && let Some(message) = hardware.text().and_then(pattern)
    {
        wrong(hardware, message.replace("model", "revision"));
    }
    if !version.text()?.bytes().any(|byte| byte.is_ascii_digit()) {
        wrong(version, "a version has a digit in it, or nothing could be compared with it".to_owned());
    }
    let plain = |part: &str| {
        !part.is_empty() && !part.starts_with('.') && !part.contains('\\') && !part.contains(char::is_control)
    };
    if !path.text()?.split('/').all(plain) {
        wrong(
            path,
            "the file must lie below firmware/: a path without a slash in front, and no part that begins with a dot"
                .to_owned(),
        );
    }
    Some(Image {
        vendor: path_name(vendor.text()?),
        models: models.iter().filter_map(|model| Some(model.text()?.to_owned())).collect(),
        version: version.text()?.to_owned(),
        file: path.text()?.to_owned(),
        hardware: node.get("hardware").and_then(Node::text).map(str::to_owned),
        line: node.line,
        column: node.column,
    })
}

/// Versions are compared by the numbers in them, one after the other: `V1.10` is newer than `1.9.3`, and `1.0` is `1`.
pub(crate) fn compare(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (numbers(one), numbers(other));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return Ordering::Equal,
            (a, b) => {
                let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
                // Without leading zeros the longer number is the greater, however long it is.
                match (a.len(), a).cmp(&(b.len(), b)) {
                    Ordering::Equal => {}
                    unequal => return unequal,
                }
            }
        }
    }
}

fn numbers(version: &str) -> impl Iterator<Item = &str> {
    let runs = version.split(|letter: char| !letter.is_ascii_digit()).filter(|run| !run.is_empty());
    runs.map(|run| run.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (older, newer) in [
            ("1.9.3", "1.10"),
            ("8.7.5.48", "10.1.169.16"),
            ("V0.6.61", "0.7.3.1"),
            ("03.23.0005", "05.20.0001"),
            ("1", "1.0.1"),
            ("1.99999999999999999999999", "1.100000000000000000000000"),
        ] {
            assert_eq!((compare(older, newer), compare(newer, older)), (Ordering::Less, Ordering::Greater), "{older}");
        }
        for (one, same) in [("1.0", "1"), ("V1.2", "1.02"), ("", "0"), ("SV0.6.61", "0.6.61.0")] {
            assert_eq!(compare(one, same), Ordering::Equal, "{one}");
        }
    }

    fn images(manifest: &str, files: &[&str]) -> (tempfile::TempDir, Images, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(MANIFEST), manifest).unwrap();
        for file in files {
            fs::write(root.path().join(file), b"x").unwrap();
        }
        let (images, problems) = Images::read(root.path(), None);
        let prefix = format!("{}/", root.path().display());
        let problems = problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect();
        (root, images, problems)
    }

    #[test]
    fn the_newest_that_fits_is_chosen_and_the_more_particular_first() {
        let (_root, images, problems) = images(
            "entries:\n\
             - { vendor: Acme, models: ['X*'], version: 1.9, file: old }\n\
             - { vendor: acme, models: ['X*'], version: 1.10, file: all }\n\
             - { vendor: acme, models: [X5], version: '1.10', file: five }\n\
             - { vendor: acme, models: [X5], version: 1.10, file: hw2, hardware: 'V2*' }\n\
             - { vendor: other, models: ['*'], version: 9, file: other }\n",
            &["old", "all", "five", "hw2", "other"],
        );
        assert_eq!(problems, [""; 0]);
        let choose = |model, hardware, version| {
            let wanted = Wanted { vendor: "acme", models: &[model], hardware, version };
            images.choose(&wanted).map(|image| image.file.as_str())
        };
        assert_eq!(choose("X4", None, None), Some("all"));
        assert_eq!(choose("X5", None, None), Some("five"));
        assert_eq!(choose("x5", Some("V2.1"), None), Some("hw2"));
        assert_eq!(choose("X5", Some("V1"), None), Some("five"));
        assert_eq!(choose("X5", None, Some("V1.9.0")), Some("old"));
        assert_eq!((choose("X5", None, Some("2")), choose("Y", None, None)), (None, None));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_a_missing_file_leaves_its_entry_out() {
        let (root, images, problems) = images(
            "entries:\n\
             - { vendor: acme, models: ['*'], version: 1, file: here }\n\
             - { vendor: acme, models: ['*'], version: 2, file: missing }\n",
            &["here"],
        );
        assert_eq!(images.entries().len(), 1);
        assert!(
            problems.len() == 1 && problems[0].starts_with("firmware.yaml:3:3: there is no file missing"),
            "{problems:?}"
        );
        fs::write(root.path().join("missing"), b"x").unwrap();
        let (now, problems) = Images::read(root.path(), Some(&images));
        assert!(problems.is_empty() && now.entries().len() == 2 && now.modified() > images.modified());
        fs::write(root.path().join(MANIFEST), "entries: [{ vendor: acme }]").unwrap();
        let (kept, problems) = Images::read(root.path(), Some(&now));
        assert!(!problems.is_empty() && kept.entries().len() == 2, "{problems:?}");
        for (entry, told) in [
            ("{ vendor: a, models: ['*'], version: 1, file: ../x }", ":1:57: the file must lie below"),
            ("{ vendor: a, models: ['*'], version: 1, file: /x }", "the file must lie below"),
            ("{ vendor: a, models: [], version: 1, file: x }", "names no model"),
            ("{ vendor: a, models: ['****'], version: 1, file: x }", "at most three *"),
            ("{ vendor: a, models: ['*'], version: new, file: x }", "has a digit"),
            ("{ vendor: a, models: ['*'], file: x }", "an entry of \"entries\" needs \"version\""),
            ("{ vendor: a, model: x, version: 1, file: x }", "did you mean \"models\"?"),
        ] {
            fs::write(root.path().join(MANIFEST), format!("entries: [{entry}]")).unwrap();
            let (_, problems) = Images::read(root.path(), None);
            assert!(problems.iter().any(|problem| problem.to_string().contains(told)), "{told}: {problems:?}");
        }
        let (none, problems) = Images::read(&root.path().join("nowhere"), None);
        assert!(none.entries().is_empty() && problems.is_empty());
    }
}
