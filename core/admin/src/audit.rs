//! Who changed what: one line of JSON for each change that was asked for at the people's door, in a file of the server's own user. What
//! was sent is not in it, only which fields. At some size the file is put aside, and the one before that is gone.

use std::{
    cell::RefCell,
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

const FILE: &str = "audit.jsonl";
/// Some ten thousand changes.
const LARGEST: u64 = 4 << 20;
/// Fields that are named of one change.
const FIELDS: usize = 100;
/// What is read of the end of the file for people.
const TAIL: u64 = 512 << 10;

tokio::task_local! {
    static CHANGED: RefCell<Vec<String>>;
}

/// A change that somebody made, or tried to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(crate) struct Entry {
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    /// The key, or that it was a session of the pages.
    pub(crate) by: String,
    /// The address that it came from.
    pub(crate) peer: Option<String>,
    pub(crate) method: String,
    pub(crate) path: String,
    /// The status of the answer: below 400 it was done.
    pub(crate) status: u16,
    /// Fields and files that it was about, where the path does not say. No values.
    #[serde(default)]
    pub(crate) changed: Vec<String>,
}

#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    writing: Mutex<()>,
}

impl Audit {
    pub fn of(state: &Path) -> Audit {
        Audit { path: state.join(FILE), writing: Mutex::default() }
    }

    /// Never in the way of the change itself: where it cannot be written, the log has it.
    pub(crate) fn note(&self, entry: &Entry) {
        if let Err(error) = self.write(entry) {
            tracing::error!(file = %self.path.display(), %error, "cannot write down who changed what");
        }
    }

    fn write(&self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() > LARGEST) {
            fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
        }
        fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?.write_all(&line)
    }

    /// The last entries, the newest first. What cannot be read of a line that a power cut left is passed over.
    pub(crate) fn last(&self, most: usize) -> io::Result<Vec<Entry>> {
        let mut file = match fs::File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut tail = Vec::new();
        file.take(TAIL).read_to_end(&mut tail)?;
        let lines = tail.split(|byte| *byte == b'\n').rev();
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).take(most).collect())
    }
}

/// Runs what a request asks for; what came of it, and what it said that it changed.
pub(crate) async fn listening<T>(act: impl Future<Output = T>) -> (T, Vec<String>) {
    CHANGED
        .scope(RefCell::default(), async {
            let done = act.await;
            (done, CHANGED.with(RefCell::take))
        })
        .await
}

/// Says what a request changes, for the audit.
pub(crate) fn changed(what: impl Into<String>) {
    // Elsewhere nobody listens.
    let _ = CHANGED.try_with(|changed| {
        let mut changed = changed.borrow_mut();
        if changed.len() < FIELDS {
            changed.push(what.into().chars().take(200).collect());
        }
    });
}

/// The same for every field of a merge patch, by its dotted name.
pub(crate) fn fields_changed(patch: &Value) {
    fn walk(value: &Value, path: &str) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    walk(value, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") });
                }
            }
            _ => changed(path),
        }
    }
    walk(patch, "");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        Entry {
            at: number,
            by: "the key \"a\"".into(),
            peer: None,
            method: "PUT".into(),
            path: format!("/{}", "x".repeat(180)),
            status: 204,
            changed: vec!["label".into()],
        }
    }

    #[test]
    fn the_newest_come_first_and_the_file_stays_of_a_size() {
        let directory = tempfile::tempdir().unwrap();
        let audit = Audit::of(directory.path());
        assert_eq!(audit.last(10).unwrap(), []);
        for number in 0..20_000 {
            audit.note(&entry(number));
        }
        assert_eq!(audit.last(2).unwrap(), [entry(19_999), entry(19_998)]);
        let sizes: Vec<u64> =
            fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size < LARGEST + 1000), "{sizes:?}");
        fs::OpenOptions::new()
            .append(true)
            .open(directory.path().join(FILE))
            .unwrap()
            .write_all(b"{\"at\": 1, \"b")
            .unwrap();
        assert_eq!(audit.last(1).unwrap(), [entry(19_999)]);
    }

    #[tokio::test]
    async fn fields_are_named_and_values_are_not() {
        let patch = serde_json::json!({ "label": "x", "sip": { "server": null, "codecs": [] }, "lines": [{ "password": "s3cret" }] });
        let ((), changed) = listening(async { fields_changed(&patch) }).await;
        assert_eq!(changed, ["label", "lines", "sip.codecs", "sip.server"]);
        fields_changed(&patch);
    }
}
