//! The keys that open the API: the server's own, of every scope, made anew at each start for the command line on this machine; and
//! those that people make for their programs. Of a key only its SHA-256 digest is kept: it is 256 random bits, which nobody guesses from a
//! digest, however fast that is made.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use provost_fleet::Day;
use provost_server::milliseconds;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::ui::hex;

/// In the state directory.
pub(crate) const FILE: &str = "keys.json";
const KEYS: usize = 1000;
const LONGEST_NAME: usize = 100;
/// When a key was last used is on disk within this time: nobody wants a write for each request.
const SAVED: Duration = Duration::from_secs(600);
/// So that a key is known as one wherever it turns up, in a log or a repository.
const PREFIX: &str = "provost_";

/// What a key allows. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// To see everything but passwords.
    Read,
    /// To make phones fetch again, and to ignore them.
    Operate,
    /// To enrol phones, to read and change what they are, passwords included, and to make keys.
    Admin,
}

impl Scope {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Operate => "operate",
            Scope::Admin => "admin",
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {}: {error}", path.display())]
pub struct KeysError {
    act: &'static str,
    path: PathBuf,
    error: io::Error,
}

/// A key that somebody made, without the key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ApiKey)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) scope: Scope,
    /// Milliseconds since 1970.
    pub(crate) made: u64,
    /// None where it never was; after a restart it may be some minutes too old.
    pub(crate) used: Option<u64>,
    /// The last day on which it opens anything, in UTC.
    #[schema(value_type = Option<String>, format = Date)]
    pub(crate) expires: Option<Day>,
}

/// Keys by digest, in hex.
type Made = BTreeMap<String, Key>;

#[derive(Debug)]
struct Kept {
    made: Made,
    /// When what the file says of their last use was true.
    saved: SystemTime,
}

/// Whom a request comes from, and what it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    Server,
    Key {
        name: String,
        scope: Scope,
    },
    /// It was good until then.
    Expired(Day),
    Unknown,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotMade {
    #[error("a name has 1 to {LONGEST_NAME} characters that can be seen")]
    Name,
    #[error("there is a key of that name already; remove it first, or take another name")]
    Exists,
    #[error("that day is over")]
    Over,
    #[error("there are {KEYS} keys already; remove those that nobody uses")]
    Full,
    #[error("cannot keep it: {0}")]
    Unkept(String),
}

/// The keys that open the door.
#[derive(Debug)]
pub struct Keys {
    own: [u8; 32],
    path: PathBuf,
    kept: Mutex<Kept>,
}

impl Keys {
    /// Makes a key of every scope and writes it to `path`, for the command line on this machine; reads those that people made, which lie
    /// beside it.
    pub fn open(path: &Path) -> Result<Keys, KeysError> {
        let fail = |act| {
            let path = path.to_owned();
            move |error| KeysError { act, path, error }
        };
        let key = random().map_err(|error| fail("make a key for")(error))?;
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(fail("make the directory of"))?;
        }
        write(path, format!("{key}\n").as_bytes()).map_err(fail("write the key"))?;
        let file = path.with_file_name(FILE);
        let made = read(&file);
        Ok(Keys { own: digest(&key), path: file, kept: Mutex::new(Kept { made, saved: SystemTime::now() }) })
    }

    pub(crate) fn is_own(&self, key: &str) -> bool {
        digest(key) == self.own
    }

    /// Whose key this is. Looked up by digest: how long that takes says nothing of the key.
    pub(crate) fn opens(&self, key: &str) -> Opened {
        if self.is_own(key) {
            return Opened::Server;
        }
        let now = SystemTime::now();
        let mut kept = self.lock();
        let Some(made) = kept.made.get_mut(&hex(&digest(key))) else { return Opened::Unknown };
        if let Some(expires) = made.expires.filter(|expires| expires.is_over(now)) {
            return Opened::Expired(expires);
        }
        made.used = Some(milliseconds(now));
        let opened = Opened::Key { name: made.name.clone(), scope: made.scope };
        if now.duration_since(kept.saved).unwrap_or(SAVED) >= SAVED {
            // Some kilobytes, six times an hour at most.
            self.save(&mut kept)
                .unwrap_or_else(|error| tracing::warn!("cannot write {}: {error}", self.path.display()));
        }
        opened
    }

    /// Those that people made, by name.
    pub(crate) fn list(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.lock().made.values().cloned().collect();
        keys.sort_by(|one, other| one.name.cmp(&other.name));
        keys
    }

    /// A new key, which is shown this once.
    pub(crate) fn make(&self, name: &str, scope: Scope, expires: Option<Day>) -> Result<String, NotMade> {
        let name = name.trim();
        let length = name.chars().count();
        if !(1..=LONGEST_NAME).contains(&length) || name.chars().any(char::is_control) {
            return Err(NotMade::Name);
        }
        let now = SystemTime::now();
        if expires.is_some_and(|expires| expires.is_over(now)) {
            return Err(NotMade::Over);
        }
        let key = random().map_err(|error| NotMade::Unkept(error.to_string()))?;
        let key = format!("{PREFIX}{key}");
        let mut kept = self.lock();
        if kept.made.values().any(|made| made.name == name) {
            return Err(NotMade::Exists);
        }
        if kept.made.len() >= KEYS {
            return Err(NotMade::Full);
        }
        let id = hex(&digest(&key));
        let made = Key { name: name.to_owned(), scope, made: milliseconds(now), used: None, expires };
        kept.made.insert(id.clone(), made);
        if let Err(error) = self.save(&mut kept) {
            kept.made.remove(&id);
            return Err(NotMade::Unkept(format!("{}: {error}", self.path.display())));
        }
        Ok(key)
    }

    /// False where there is none of that name. One whose end cannot be written ends all the same, until the next start.
    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        let mut kept = self.lock();
        let before = kept.made.len();
        kept.made.retain(|_, made| made.name != name);
        if kept.made.len() == before {
            return Ok(false);
        }
        self.save(&mut kept).map(|()| true)
    }

    fn save(&self, kept: &mut Kept) -> io::Result<()> {
        // Also where it fails: a full disk is not to be tried at every request.
        kept.saved = SystemTime::now();
        let text = serde_json::to_vec_pretty(&kept.made).map_err(io::Error::other)?;
        write(&self.path, &text)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What people made before. A file that cannot be understood is kept aside: its keys open nothing, and the server's own does.
fn read(path: &Path) -> Made {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Made::new(),
        Err(error) => {
            tracing::error!(
                "cannot read {}: {error}. The keys in it open nothing until that is mended",
                path.display()
            );
            return Made::new();
        }
    };
    let why = match serde_json::from_slice::<Made>(&bytes) {
        Ok(made) if made.len() <= KEYS => return made,
        Ok(made) => format!("it holds {} keys, and {KEYS} are the most", made.len()),
        Err(error) => error.to_string(),
    };
    let free = (1..).map(|number| path.with_file_name(format!("{FILE}.aside-{number}"))).find(|aside| !aside.exists());
    let aside = free.unwrap_or_else(|| path.with_extension("aside"));
    let kept = match fs::rename(path, &aside) {
        Ok(()) => format!("It is kept as {}", aside.display()),
        Err(error) => format!("It cannot be kept aside: {error}"),
    };
    tracing::error!(
        "cannot use the keys in {}: {why}. {kept}; none of them opens anything. The server's own key does: make new ones with `provost key add`",
        path.display()
    );
    Made::new()
}

/// Whole or not at all, for the owner alone.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    // Of an earlier try that was cut short, maybe with other rights.
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn random() -> io::Result<String> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(hex(&random))
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.trim().as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_key_is_made_for_its_owner_alone_and_opens_the_door() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/admin.key");
        let old = Keys::open(&path).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        let keys = Keys::open(&path).unwrap();
        let key = fs::read_to_string(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(keys.opens(&key), Opened::Server);
        assert_eq!((keys.opens(&first), keys.opens("")), (Opened::Unknown, Opened::Unknown));
        assert_eq!(old.opens(&first), Opened::Server);
        assert!(!format!("{keys:?}").contains(key.trim()));
    }

    #[test]
    fn what_people_make_is_kept_as_digests_until_it_is_removed_or_over() {
        let directory = tempfile::tempdir().unwrap();
        let (path, file) = (directory.path().join("admin.key"), directory.path().join(FILE));
        let keys = Keys::open(&path).unwrap();
        let key = keys.make(" dashboard ", Scope::Read, None).unwrap();
        let soon = keys.make("soon", Scope::Admin, Some("2999-12-31".parse().unwrap())).unwrap();
        assert_eq!(keys.make("dashboard", Scope::Admin, None), Err(NotMade::Exists));
        assert_eq!(keys.make("a\nb", Scope::Read, None), Err(NotMade::Name));
        assert_eq!(keys.make("old", Scope::Read, Some("2020-01-01".parse().unwrap())), Err(NotMade::Over));
        let text = fs::read_to_string(&file).unwrap();
        assert!(mode(&file) == 0o600 && !text.contains(&key) && text.contains("\"dashboard\""), "{text}");
        // After a restart.
        drop(keys);
        fs::write(&file, text.replace("2999-12-31", "2021-12-31")).unwrap();
        let keys = Keys::open(&path).unwrap();
        let of = Opened::Key { name: "dashboard".into(), scope: Scope::Read };
        assert_eq!(keys.opens(&key), of);
        assert!(keys.list()[0].used.is_some() && keys.list()[1].used.is_none());
        assert_eq!(keys.opens(&soon), Opened::Expired("2021-12-31".parse().unwrap()));
        assert!(keys.remove("dashboard").unwrap() && !keys.remove("dashboard").unwrap());
        assert_eq!((keys.opens(&key), Keys::open(&path).unwrap().opens(&key)), (Opened::Unknown, Opened::Unknown));
    }

    #[test]
    fn a_file_that_is_no_good_is_kept_aside_and_there_are_no_more_keys_than_fit() {
        let directory = tempfile::tempdir().unwrap();
        let (path, file) = (directory.path().join("admin.key"), directory.path().join(FILE));
        fs::write(&file, "{\"not\": \"this\"}").unwrap();
        let keys = Keys::open(&path).unwrap();
        assert!(keys.list().is_empty() && !file.exists());
        assert_eq!(fs::read_to_string(directory.path().join("keys.json.aside-1")).unwrap(), "{\"not\": \"this\"}");
        let many: Made = (0..KEYS)
            .map(|number| {
                let key = Key { name: number.to_string(), scope: Scope::Read, made: 0, used: None, expires: None };
                (hex(&digest(&number.to_string())), key)
            })
            .collect();
        fs::write(&file, serde_json::to_string(&many).unwrap()).unwrap();
        let keys = Keys::open(&path).unwrap();
        assert_eq!(keys.make("one more", Scope::Read, None), Err(NotMade::Full));
        assert!(keys.remove("7").unwrap() && keys.make("one more", Scope::Read, None).is_ok());
    }
}
