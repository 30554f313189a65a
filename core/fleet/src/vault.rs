//! What references come to: the values behind the names, the variables and the encrypted texts of the profiles at one moment.
//!
//! They are looked up when files are read and never when a phone asks. What was good once and can no longer be had keeps its value until
//! it is had again, so that a file of secrets that is broken, or away, changes nothing for phones in service.

use std::{
    collections::{HashMap, HashSet},
    env, fs,
    io::{ErrorKind, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::SystemTime,
};

use provost_plugin::{MacAddr, Secret};
use sha2::{Digest, Sha256};

use crate::{
    derived::Key,
    files::{self, Sources},
    node::{Node, Value},
    problem::{Problem, hint},
    refer::Refer,
    sealed::Identities,
    secrets::{Names, SECRETS},
};

/// Where secrets are kept. Each may be missing, as long as nothing refers to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The file of secrets.
    pub secrets: PathBuf,
    /// What opens encrypted ones.
    pub identity: PathBuf,
    /// The key of which the passwords of single phones are made.
    pub key: PathBuf,
    pub without_key: WithoutKey,
}

/// What to do where passwords are to be generated and there is no key yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WithoutKey {
    /// That is a mistake: whoever reads here shows passwords, and has none to show.
    #[default]
    Refuse,
    /// Make one, and keep it.
    Make,
    /// Do as if there were one: nobody is shown the passwords.
    Pretend,
}

#[derive(Debug, Default)]
pub(crate) struct Vault {
    places: Places,
    names: Sources<Names>,
    /// Of the file of identities, which is itself not kept.
    identity: Option<[u8; 32]>,
    key: Option<Key>,
    values: HashMap<Arc<Refer>, Secret>,
    /// Why there is no value, or none but the one from before.
    failed: HashMap<Arc<Refer>, String>,
}

/// A file that was there, or why not.
type Found = Result<Vec<u8>, std::io::Error>;

impl Vault {
    /// Looks up everything that is referred to. Problems are those of the places; those of references are told by [`Vault::problems`].
    pub(crate) fn read(
        places: Places,
        wanted: &HashSet<Arc<Refer>>,
        previous: Option<&Vault>,
        problems: &mut Vec<Problem>,
    ) -> Vault {
        // What an older version of a device refers to must be there as long as that version may serve.
        let wanted: HashSet<Arc<Refer>> =
            wanted.iter().chain(previous.into_iter().flat_map(|vault| vault.values.keys())).cloned().collect();
        let previous_of_same = previous.filter(|vault| vault.places.secrets == places.secrets);
        let mut vault = Vault { places, ..Vault::default() };
        let (names, unreadable) = match vault.places.secrets.as_os_str().is_empty() {
            true => Default::default(),
            false => files::read_paths(
                vec![vault.places.secrets.clone()],
                &SECRETS,
                previous_of_same.map(|vault| &vault.names),
            ),
        };
        problems.extend(unreadable);
        problems.extend(names.values().flat_map(|source| source.problems.iter().cloned()));
        vault.names = names;
        let generates = wanted.iter().any(|refer| matches!(**refer, Refer::Generate(_)));
        let key = if generates { vault.find_key(previous, problems) } else { Ok(()) };
        let identities = vault.find_identities(&wanted);
        let same_identity = previous.is_some_and(|before| before.identity == vault.identity);
        let look = |refer: &Arc<Refer>| match &**refer {
            Refer::Secret(name) => vault.named(name),
            Refer::Env(name) => variable(name),
            Refer::Credential(name) => credential(name),
            Refer::Age(text) => {
                let known = previous.filter(|_| same_identity).and_then(|before| before.values.get(refer));
                match (known, &identities) {
                    (Some(known), _) => Ok(known.clone()),
                    (None, Ok(identities)) => identities.open(text).map_err(|why| format!("cannot decrypt it: {why}")),
                    (None, Err(why)) => Err(format!("cannot decrypt it: {why}")),
                }
            }
            Refer::Generate(_) => key.clone().map(|()| Secret::default()),
        };
        for (refer, outcome) in side_by_side(wanted.into_iter().collect(), look) {
            match outcome {
                Ok(value) => drop(vault.values.insert(refer, value)),
                Err(why) => {
                    if let Some(before) = previous.and_then(|before| before.values.get(&refer)) {
                        vault.values.insert(refer.clone(), before.clone());
                    }
                    vault.failed.insert(refer, why);
                }
            }
        }
        vault
    }

    /// Lets go of what nothing refers to any more.
    pub(crate) fn keep_only(&mut self, wanted: &HashSet<Arc<Refer>>) {
        self.values.retain(|refer, _| wanted.contains(refer));
        self.failed.retain(|refer, _| wanted.contains(refer));
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// When the file of secrets was written.
    pub(crate) fn written(&self) -> Option<SystemTime> {
        self.names.values().map(|source| source.written).max().filter(|_| !self.values.is_empty())
    }

    /// Whether the two hand out the same.
    pub(crate) fn says_as(&self, other: &Vault) -> bool {
        self.values == other.values && self.key == other.key
    }

    /// Whether some version of this file is in service.
    pub(crate) fn serves(&self, file: &str) -> bool {
        self.names.get(Path::new(file)).is_some_and(|source| source.fit)
            || self.key.is_some() && Path::new(file) == self.places.key
    }

    /// The value behind a reference in the settings of a phone.
    pub(crate) fn value(&self, refer: &Refer, mac: MacAddr, path: &str) -> Result<Secret, String> {
        let value = self.values.get(refer);
        match (refer, value, &self.key) {
            (Refer::Generate(length), Some(_), Some(key)) => Ok(key.password(mac, path, *length)),
            (Refer::Secret(_) | Refer::Env(_) | Refer::Credential(_) | Refer::Age(_), Some(value), _) => {
                Ok(value.clone())
            }
            _ => Err(self.failed.get(refer).cloned().unwrap_or_else(|| "it was never looked up".to_owned())),
        }
    }

    /// Whether something in a section refers to what has no value at all.
    pub(crate) fn lacks(&self, section: &Node) -> bool {
        let is_missing = |refer: &Arc<Refer>| !self.values.contains_key(refer);
        !self.failed.is_empty() && find(section, &mut |_, refer| is_missing(refer))
    }

    /// What is wrong with the references of a section, each where it stands.
    pub(crate) fn problems(&self, file: &Arc<str>, section: &Node, problems: &mut Vec<Problem>) {
        if self.failed.is_empty() {
            return;
        }
        find(section, &mut |node, refer| {
            if let Some(why) = self.failed.get(refer) {
                problems.push(Problem::error(file, node.line, node.column, why.clone()));
            }
            false
        });
    }

    fn named(&self, name: &str) -> Result<Secret, String> {
        let Some(source) = self.names.values().next() else {
            let file = self.places.secrets.display();
            return Err(format!(
                "unknown secret \"{name}\": there is no file {file}; `provost secret set {name}` makes it"
            ));
        };
        let known = &source.document.0;
        let unknown = || {
            let names = known.keys().map(|name| &**name);
            format!("unknown secret \"{name}\" in {}{}", source.file, hint(name, names))
        };
        known.get(name).cloned().ok_or_else(unknown)
    }

    fn find_key(&mut self, previous: Option<&Vault>, problems: &mut Vec<Problem>) -> Result<(), String> {
        let before = previous.and_then(|before| before.key.clone());
        let path = &self.places.key;
        let found: Found = fs::read(path);
        let read = match (&found, &before, self.places.without_key) {
            (Ok(text), ..) => Key::read(text),
            // Made anew, every phone would get another password at once: that is for people to decide.
            (Err(error), Some(_), _) => Err(error.to_string()),
            (Err(error), None, WithoutKey::Make) if error.kind() == ErrorKind::NotFound => {
                Key::new().and_then(|key| keep(path, &key.text()).map(|()| key).map_err(|error| error.to_string()))
            }
            (Err(error), None, WithoutKey::Pretend) if error.kind() == ErrorKind::NotFound => Key::read(&[b'0'; 64]),
            (Err(error), None, _) if error.kind() == ErrorKind::NotFound => {
                Err("it is not there; `provost serve` makes it at its first start".to_owned())
            }
            (Err(error), ..) => Err(error.to_string()),
        };
        match read {
            Ok(key) => {
                self.key = Some(key);
                Ok(())
            }
            Err(why) => {
                self.key = before;
                let why = format!("cannot read the key of generated passwords: {why}");
                problems.push(Problem::error(&files::name(path), 0, 0, why.clone()));
                Err(format!("{why} ({})", path.display()))
            }
        }
    }

    fn find_identities(&mut self, wanted: &HashSet<Arc<Refer>>) -> Result<Identities, String> {
        if !wanted.iter().any(|refer| matches!(**refer, Refer::Age(_))) {
            return Err("no identity was looked for".to_owned());
        }
        let path = self.places.identity.display();
        let found: Found = fs::read(&self.places.identity);
        match found {
            Ok(text) => {
                self.identity = Some(Sha256::digest(&text).into());
                Identities::read(&text).map_err(|why| format!("{path}: {why}"))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(format!("there is no identity {path}; `provost secret identity` makes one"))
            }
            Err(error) => Err(format!("cannot read the identity {path}: {error}")),
        }
    }
}

/// All references in a section; whether one of them is what is looked for.
pub(crate) fn find(node: &Node, is_it: &mut impl FnMut(&Node, &Arc<Refer>) -> bool) -> bool {
    match &node.value {
        Value::Refer(refer) => is_it(node, refer),
        Value::Map(entries) => entries.iter().any(|(_, node)| find(node, is_it)),
        Value::List(items) => items.iter().any(|node| find(node, is_it)),
        _ => false,
    }
}

fn variable(name: &str) -> Result<Secret, String> {
    match env::var(name) {
        Ok(value) if !value.is_empty() => Ok(Secret::new(value)),
        Ok(_) => Err(format!("the environment variable \"{name}\" is empty")),
        Err(env::VarError::NotPresent) => Err(format!("there is no environment variable \"{name}\"")),
        Err(env::VarError::NotUnicode(_)) => Err(format!("the environment variable \"{name}\" is not UTF-8 text")),
    }
}

fn credential(name: &str) -> Result<Secret, String> {
    // systemd.exec(5): set for a service that has credentials, and for no other.
    let directory = env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        format!("there is no credential \"{name}\": systemd has given none (LoadCredential= in the unit)")
    })?;
    let unreadable = |why: &dyn std::fmt::Display| format!("cannot read the credential \"{name}\": {why}");
    let text = fs::read(Path::new(&directory).join(name)).map_err(|error| unreadable(&error))?;
    let text = String::from_utf8(text).map_err(|_| unreadable(&"it is not UTF-8 text"))?;
    let value = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    if value.is_empty() { Err(unreadable(&"it is empty")) } else { Ok(Secret::new(value)) }
}

/// Some ten thousand encrypted values are a second of work for one hand.
fn side_by_side(
    wanted: Vec<Arc<Refer>>,
    look: impl Fn(&Arc<Refer>) -> Result<Secret, String> + Sync,
) -> Vec<(Arc<Refer>, Result<Secret, String>)> {
    let hands = thread::available_parallelism().map_or(1, usize::from).min(wanted.len() / 64 + 1);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(wanted.len()));
    let work = || {
        let mut own = Vec::new();
        while let Some(refer) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            own.push((refer.clone(), look(refer)));
        }
        done.lock().unwrap_or_else(PoisonError::into_inner).extend(own);
    };
    thread::scope(|scope| {
        for _ in 1..hands {
            scope.spawn(work);
        }
        work();
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a new file that only its owner reads: whoever owns its directory, so that a server finds what its administrator made.
pub fn keep(path: &Path, text: &str) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let (whose, own) = (fs::metadata(directory)?, file.metadata()?);
        if (whose.uid(), whose.gid()) != (own.uid(), own.gid()) {
            let _ = fchown(&file, Some(whose.uid()), Some(whose.gid()));
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // A link is made only where nothing is, so that nobody's key is ever written over.
        fs::hard_link(&temporary, path)
    })();
    let _ = fs::remove_file(&temporary);
    written?;
    fs::File::open(directory)?.sync_all()
}
