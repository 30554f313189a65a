//! The registry on disk, so that a restart forgets nothing: one SQLite file, written behind the registry's back.
//!
//! The hot path never comes here. The registry remembers which phones changed, and one thread writes each of them as it is by then, all
//! in one transaction; under load that is more phones for each, not more transactions. So nothing is queued, and nothing is dropped:
//! what a storm costs is that a phone's record on disk is some moments old.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use provost_plugin::MacAddr;
use rusqlite::{Connection, params};

use crate::registry::{Record, Registry};

/// The form of the file. A newer one is not ours to touch.
const VERSION: i64 = 1;
/// Of the file in memory, in KiB, where that much is in use.
const CACHE: i64 = 16 << 10;
/// Changes are gathered for so long before they are written.
const GATHER: Duration = Duration::from_millis(20);
/// When a building powers on, every phone changes several times within seconds: the more processor a write takes, the longer it is
/// gathered for the next, so that writing takes no more than a twenty-fifth of a processor from those who serve, as long as that makes
/// nothing on disk older than a few seconds. Waiting for a slow disk takes nothing from anybody.
const SHARE: u32 = 24;
const LONGEST_GATHER: Duration = Duration::from_secs(2);
/// After a write that failed (a full disk) it is tried again this much later.
const AGAIN: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    CREATE TABLE phones (mac TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
    PRAGMA user_version = 1;
";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot make the directory {}: {error}", path.display())]
    Directory { path: PathBuf, error: io::Error },
    #[error("cannot put the registry {} aside: {error}", path.display())]
    Aside { path: PathBuf, error: io::Error },
    #[error("cannot open the registry {}: {error}", path.display())]
    Open { path: PathBuf, error: rusqlite::Error },
    #[error("cannot write the registry {}: {message}", path.display())]
    Write { path: PathBuf, message: String },
    #[error("the registry {} is kept by another server", path.display())]
    Taken { path: PathBuf },
}

/// What was found at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// This many phones; 0 from a new file.
    Read(usize),
    /// It could not be used, and lies there now; a new one was begun.
    Aside { why: String, to: PathBuf },
}

/// Keeps a registry on disk. Ends, with everything written, when it is dropped.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    orders: Option<mpsc::Sender<Order>>,
    bell: mpsc::SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

/// Somebody waits until what was changed before is on disk.
type Order = mpsc::SyncSender<Result<(), String>>;

impl Store {
    /// Reads what was kept at `path` into the registry, and keeps it there from now on.
    pub fn open(path: &Path, registry: &Arc<Registry>) -> Result<(Store, Opened), StoreError> {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(|error| StoreError::Directory { path: directory.to_owned(), error })?;
        let (connection, records, opened) = match read(path) {
            Ok((connection, records)) => {
                let opened = Opened::Read(records.len());
                (connection, records, opened)
            }
            Err(Unusable::Taken) => return Err(StoreError::Taken { path: path.to_owned() }),
            Err(Unusable::Unreachable(error)) => return Err(StoreError::Open { path: path.to_owned(), error }),
            Err(Unusable::NoGood(why)) => {
                let to = put_aside(path).map_err(|error| StoreError::Aside { path: path.to_owned(), error })?;
                let (connection, records) = read(path).map_err(|error| match error {
                    Unusable::Unreachable(error) => StoreError::Open { path: path.to_owned(), error },
                    Unusable::Taken | Unusable::NoGood(_) => StoreError::Taken { path: path.to_owned() },
                })?;
                (connection, records, Opened::Aside { why, to })
            }
        };
        for record in records {
            registry.restore(record);
        }
        let (bell, rung) = mpsc::sync_channel(1);
        registry.ring(bell.clone());
        let (orders, ordered) = mpsc::channel();
        let thread = {
            let (registry, path) = (Arc::clone(registry), path.to_owned());
            let started = thread::Builder::new().name("registry".into());
            let work = move || {
                give_way();
                keep(connection, &path, &registry, &rung, &ordered);
            };
            started.spawn(work).map_err(|error| StoreError::Write {
                path: PathBuf::new(),
                message: format!("no thread can be had: {error}"),
            })?
        };
        Ok((Store { path: path.to_owned(), orders: Some(orders), bell, thread: Some(thread) }, opened))
    }

    /// Returns when everything that changed before is on disk.
    pub fn flush(&self) -> Result<(), StoreError> {
        let failed = |message: String| StoreError::Write { path: self.path.clone(), message };
        let gone = || failed("its thread has ended".into());
        let (order, done) = mpsc::sync_channel(1);
        self.orders.as_ref().ok_or_else(gone)?.send(order).map_err(|_| gone())?;
        let _ = self.bell.try_send(());
        done.recv().map_err(|_| gone())?.map_err(failed)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.bell.try_send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

enum Unusable {
    /// Another server has it.
    Taken,
    /// No right to it, no disk for it: putting it aside would mend nothing.
    Unreachable(rusqlite::Error),
    NoGood(String),
}

fn read(path: &Path) -> Result<(Connection, Vec<Record>), Unusable> {
    use rusqlite::ErrorCode;
    let judge = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Unusable::Taken,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Unusable::NoGood(format!("it is damaged: {error}"))
        }
        Some(_) => Unusable::Unreachable(error),
        None => Unusable::NoGood(format!("it is damaged: {error}")),
    };
    let mut connection = Connection::open(path).map_err(judge)?;
    connection.busy_timeout(Duration::from_millis(200)).map_err(judge)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(judge)?;
    if version > VERSION {
        return Err(Unusable::NoGood(format!(
            "it is of a newer version of Provost (form {version}, this one reads {VERSION})"
        )));
    }
    // One server to a file: two would undo each other's work. Others may read, from a copy that SQLite makes.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(judge)?;
    // What was acknowledged survives a power cut, and a crash leaves the last whole transaction.
    connection.pragma_update(None, "journal_mode", "WAL").map_err(judge)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(judge)?;
    // In KiB: room for some ten thousand phones, where the default makes a storm read back what it has just written.
    connection.pragma_update(None, "cache_size", -CACHE).map_err(judge)?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(judge)?;
    if version == 0 {
        transaction.execute_batch(SCHEMA).map_err(judge)?;
    }
    let mut records = Vec::new();
    {
        let mut all = transaction.prepare("SELECT record FROM phones").map_err(judge)?;
        let rows = all.query_map([], |row| row.get::<_, String>(0)).map_err(judge)?;
        for row in rows {
            // A record that an older or newer Provost of this form wrote and that cannot be read is one phone less until it is seen again.
            match serde_json::from_str::<Record>(&row.map_err(judge)?) {
                Ok(record) => records.push(record),
                Err(_) => continue,
            }
        }
    }
    transaction.commit().map_err(judge)?;
    // The longest unseen first, so that they are the first to be forgotten too.
    records.sort_by_key(|record: &Record| record.last_seen);
    Ok((connection, records))
}

/// Moves the file, with what belongs to it, to a name that is free.
fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let named = |number: u32, tail: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".aside-{number}{tail}"));
        PathBuf::from(name)
    };
    let number = (1..).find(|number| !named(*number, "").exists()).unwrap_or(1);
    for tail in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(tail);
        match fs::rename(PathBuf::from(name), named(number, tail)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, named(number, ""))?;
    Ok(named(number, ""))
}

/// This thread takes what processor others leave: in the second in which a building asks, they have need of all of it.
fn give_way() {
    // The thread alone, on Linux. Where it is not allowed, all is as it was.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, 10);
}

/// Of this thread.
fn processor_time() -> Duration {
    // It counts up from nothing.
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// The thread that writes.
fn keep(
    mut connection: Connection,
    path: &Path,
    registry: &Registry,
    rung: &mpsc::Receiver<()>,
    ordered: &mpsc::Receiver<Order>,
) {
    // What could not be written yet.
    let mut left: Vec<(MacAddr, Option<Record>)> = Vec::new();
    let mut failing = false;
    let mut gather = GATHER;
    loop {
        let patience = if left.is_empty() { Duration::from_secs(3600) } else { AGAIN };
        if rung.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        // Somebody who waits is not kept waiting for others.
        let (mut waiting, mut ends) = asked(ordered);
        if waiting.is_empty() && !ends {
            match ordered.recv_timeout(gather) {
                Ok(order) => waiting.push(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => ends = true,
            }
            let (more, end) = asked(ordered);
            waiting.extend(more);
            ends |= end;
        }
        let before = processor_time();
        let mut changes = std::mem::take(&mut left);
        changes.extend(registry.take_changes());
        let written = if changes.is_empty() { Ok(()) } else { write(&mut connection, &changes) };
        gather = ((processor_time() - before) * SHARE).clamp(GATHER, LONGEST_GATHER);
        match &written {
            Ok(()) if failing => {
                failing = false;
                tracing::info!(file = %path.display(), "the registry is written again");
            }
            Ok(()) => {}
            Err(error) => {
                if !failing {
                    tracing::error!(file = %path.display(), %error, "cannot write the registry; phones are served on, and it is tried again");
                }
                failing = true;
                // The newest of each phone is enough.
                let mut newest: std::collections::HashMap<MacAddr, Option<Record>> = changes.into_iter().collect();
                left = newest.drain().collect();
            }
        }
        for order in waiting {
            let _ = order.send(written.as_ref().copied().map_err(ToString::to_string));
        }
        if ends {
            return;
        }
    }
}

/// Those who wait, and whether there will be no more of them.
fn asked(ordered: &mpsc::Receiver<Order>) -> (Vec<Order>, bool) {
    let mut waiting = Vec::new();
    loop {
        match ordered.try_recv() {
            Ok(order) => waiting.push(order),
            Err(mpsc::TryRecvError::Empty) => return (waiting, false),
            Err(mpsc::TryRecvError::Disconnected) => return (waiting, true),
        }
    }
}

fn write(connection: &mut Connection, changes: &[(MacAddr, Option<Record>)]) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    {
        let mut put = transaction.prepare_cached(
            "INSERT INTO phones (mac, record) VALUES (?1, ?2) ON CONFLICT (mac) DO UPDATE SET record = excluded.record",
        )?;
        let mut take = transaction.prepare_cached("DELETE FROM phones WHERE mac = ?1")?;
        for (mac, record) in changes {
            match record {
                Some(record) => {
                    let text = serde_json::to_string(record).unwrap_or_default();
                    put.execute(params![mac.bare(), text])?;
                }
                None => {
                    take.execute(params![mac.bare()])?;
                }
            }
        }
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use provost_plugin::model::Identity;

    use super::*;
    use crate::registry::{Event, Happening, Sighting, State};

    fn seen(registry: &Registry, last: u8) -> MacAddr {
        let mac = MacAddr::new([0x02, 0, 0, 0, 0, last]);
        let sighting = Sighting {
            identity: Identity { mac: Some(mac), vendor: Some("acme".into()), ..Identity::default() },
            door: "pnp",
            announced: true,
            address: Some("10.0.0.7".parse().unwrap()),
            interface: Some("eth0".into()),
            local: None,
            relay: None,
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(last)),
        };
        registry.observe(sighting, State::Pending);
        mac
    }

    fn open(path: &Path) -> (Arc<Registry>, Store, Opened) {
        let registry = Arc::new(Registry::new(100));
        let (store, opened) = Store::open(path, &registry).unwrap();
        (registry, store, opened)
    }

    #[test]
    fn what_was_flushed_is_there_again_and_what_was_forgotten_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/registry.db");
        let (registry, store, opened) = open(&path);
        assert_eq!(opened, Opened::Read(0));
        let (one, two) = (seen(&registry, 1), seen(&registry, 2));
        registry.record(one, Event { at: SystemTime::UNIX_EPOCH, what: Happening::NotifyAnswered { code: 200 } });
        store.flush().unwrap();
        assert!(registry.forget(two) && registry.ignore(one, true));
        let before = registry.snapshot();
        store.flush().unwrap();
        // As after kill -9: nothing is closed, only the lock goes with the process.
        let copy = directory.path().join("copy.db");
        fs::copy(&path, &copy).unwrap();
        fs::copy(path.with_extension("db-wal"), copy.with_extension("db-wal")).unwrap();
        let (registry, _store, opened) = open(&copy);
        assert_eq!((opened, registry.snapshot()), (Opened::Read(1), before));
    }

    #[test]
    fn what_is_dropped_is_written_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registry.db");
        let (registry, store, _) = open(&path);
        for last in 1..=50 {
            seen(&registry, last);
        }
        drop(store);
        let (registry, ..) = open(&path);
        assert_eq!(registry.snapshot().len(), 50);
    }

    #[test]
    fn a_file_that_is_no_good_is_kept_aside_and_a_new_one_begun() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registry.db");
        fs::write(
            &path,
            b"SQLite format 3\0 and then something else entirely, for some hundred bytes or so. ".repeat(40),
        )
        .unwrap();
        let (registry, store, opened) = open(&path);
        let Opened::Aside { why, to } = opened else { panic!("{opened:?}") };
        assert!(why.contains("damaged") && to.exists(), "{why}");
        seen(&registry, 1);
        drop(store);
        let newer = Connection::open(&path).unwrap();
        newer.pragma_update(None, "user_version", 7).unwrap();
        drop(newer);
        let (registry, _store, opened) = open(&path);
        let Opened::Aside { why, to } = opened else { panic!("{opened:?}") };
        assert!(why.contains("newer version") && to.ends_with("registry.db.aside-2"), "{why} {to:?}");
        assert!(registry.snapshot().is_empty());
    }

    #[test]
    fn two_servers_do_not_keep_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registry.db");
        let (_registry, _store, _) = open(&path);
        let error = Store::open(&path, &Arc::new(Registry::new(10))).unwrap_err();
        assert!(error.to_string().contains("another server"), "{error}");
    }
}
