//! Roll-outs: many phones told to fetch again, so many a minute, not in quiet hours, and no further once too many of them fail.
//!
//! Each phone is followed from the order until it has taken what it would get now, or has not within some minutes. What is under way is
//! kept in `state/rollouts.json` and goes on after a restart; a phone whose outcome was not known by then is told once more.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use provost_plugin::MacAddr;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

use crate::{
    dispatch::Dispatch,
    edit, milliseconds,
    pnp::resync::{NotResynced, Resync},
    progress::Progress,
    quiet,
    run::stopped,
};

/// Roll-outs that are kept, the newest ones; of those that are over the oldest goes first.
const KEPT: usize = 20;
/// Roll-outs under way at one time.
pub const UNDER_WAY: usize = 8;
/// Phones in one of them.
pub const PHONES: usize = 100_000;
/// Phones that are followed at one time; beyond that the next waits, whatever the rate.
const FOLLOWED: usize = 200;
/// A phone that restarts is back within some minutes, or does not come back.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often it is looked whether the registry has something new of a phone.
const GLANCE: Duration = Duration::from_millis(500);
/// How often it is looked whether quiet hours are over.
const NAP: Duration = Duration::from_secs(15);
/// At most so often the file is written.
const SAVED: Duration = Duration::from_secs(1);
/// Below the state directory.
pub const FILE: &str = "rollouts.json";

/// What somebody wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What it is for, in words.
    pub why: String,
    pub phones: Vec<MacAddr>,
    pub how: Resync,
    /// Phones that are told in a minute.
    pub per_minute: u32,
    /// Stop when so many have failed; 0 is never.
    pub stop_after: u32,
    /// Quiet hours do not count.
    pub regardless: bool,
}

/// How far one phone has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum Step {
    Waiting,
    /// It is being told.
    Told,
    /// It said that it will.
    Answered,
    /// It has fetched something since, and is not in step yet.
    Fetched,
    /// What it took is what it would get now.
    InStep {
        /// It asked anew where its configuration is, as phones do that restart.
        restarted: bool,
    },
    Failed {
        why: String,
    },
}

impl Step {
    fn is_last(&self) -> bool {
        matches!(self, Step::InStep { .. } | Step::Failed { .. })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    Running,
    /// Its next phone is told when quiet hours are over.
    Quiet {
        until: u64,
    },
    /// So many phones failed that no further one is told until somebody says so.
    Stopped {
        why: String,
    },
    Cancelled,
    Done,
}

/// One roll-out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub id: u64,
    pub why: String,
    /// Milliseconds since 1970.
    pub made: u64,
    pub reboot: bool,
    pub per_minute: u32,
    pub stop_after: u32,
    pub regardless: bool,
    pub state: State,
    /// Failures that do not count any more, since somebody went on in spite of them.
    pub forgiven: usize,
    pub phones: BTreeMap<MacAddr, Step>,
    /// Counted along with `phones`, since each step of any of them asks.
    #[serde(skip)]
    failed: usize,
    /// Phones whose outcome is not known yet, counted the same way.
    #[serde(skip)]
    left: usize,
}

impl Rollout {
    /// Whether anything more will come of it by itself.
    pub fn is_under_way(&self) -> bool {
        matches!(self.state, State::Running | State::Quiet { .. })
    }

    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Sets how far a phone has come.
    fn set(&mut self, mac: MacAddr, step: Step) {
        let has_failed = |step: &Step| usize::from(matches!(step, Step::Failed { .. }));
        let is_left = |step: &Step| usize::from(!step.is_last());
        self.failed += has_failed(&step);
        self.left += is_left(&step);
        if let Some(before) = self.phones.insert(mac, step) {
            self.failed -= has_failed(&before);
            self.left -= is_left(&before);
        }
    }

    fn next(&self) -> Option<MacAddr> {
        self.phones.iter().find(|(_, step)| **step == Step::Waiting).map(|(mac, _)| *mac)
    }
}

/// Why there is no roll-out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRolledOut {
    #[error("there is no roll-out {0}")]
    Unknown(u64),
    #[error("there are {UNDER_WAY} roll-outs under way; wait for one, or cancel it")]
    Full,
    #[error("it is over")]
    Over,
    #[error("it is under way")]
    UnderWay,
}

/// All of them.
#[derive(Debug)]
pub struct Rollouts {
    desk: Arc<Dispatch>,
    path: PathBuf,
    all: Mutex<VecDeque<Rollout>>,
    /// How often something changed.
    changed: watch::Sender<u64>,
    stop: watch::Receiver<bool>,
    room: Arc<Semaphore>,
}

impl Rollouts {
    /// Takes up what was under way when the server ended, and keeps what comes. To be called within the runtime.
    pub fn start(desk: Arc<Dispatch>, state: &Path, stop: watch::Receiver<bool>) -> Arc<Rollouts> {
        let path = state.join(FILE);
        let rollouts = Arc::new(Rollouts {
            desk,
            all: Mutex::new(read(&path)),
            path,
            changed: watch::Sender::new(0),
            stop,
            room: Arc::new(Semaphore::new(FOLLOWED)),
        });
        let again: Vec<u64> =
            rollouts.lock().iter().filter(|rollout| rollout.is_under_way()).map(|rollout| rollout.id).collect();
        for id in again {
            tokio::spawn(Arc::clone(&rollouts).run(id));
        }
        tokio::spawn(Arc::clone(&rollouts).keep());
        rollouts
    }

    // A list of plain values is whole whatever panicked beside it.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Rollout>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often something changed.
    pub fn changes(&self) -> u64 {
        *self.changed.borrow()
    }

    /// The newest first.
    pub fn list(&self) -> Vec<Rollout> {
        self.lock().iter().rev().cloned().collect()
    }

    pub fn one(&self, id: u64) -> Option<Rollout> {
        self.lock().iter().find(|rollout| rollout.id == id).cloned()
    }

    fn look<T>(&self, id: u64, look: impl FnOnce(&Rollout) -> T) -> Option<T> {
        self.lock().iter().find(|rollout| rollout.id == id).map(look)
    }

    pub fn begin(self: &Arc<Self>, wanted: Wanted) -> Result<Rollout, NotRolledOut> {
        let rollout = {
            let mut all = self.lock();
            if all.iter().filter(|rollout| rollout.is_under_way()).count() >= UNDER_WAY {
                return Err(NotRolledOut::Full);
            }
            let mut rollout = Rollout {
                id: all.iter().map(|rollout| rollout.id).max().unwrap_or(0) + 1,
                why: wanted.why,
                made: milliseconds(SystemTime::now()),
                reboot: wanted.how == Resync::Reboot,
                per_minute: wanted.per_minute.max(1),
                stop_after: wanted.stop_after,
                regardless: wanted.regardless,
                state: State::Running,
                forgiven: 0,
                phones: BTreeMap::new(),
                failed: 0,
                left: 0,
            };
            wanted.phones.into_iter().take(PHONES).for_each(|mac| rollout.set(mac, Step::Waiting));
            while all.len() >= KEPT {
                let over = all.iter().position(|rollout| !rollout.is_under_way()).unwrap_or(0);
                all.remove(over);
            }
            all.push_back(rollout.clone());
            rollout
        };
        tracing::info!(rollout = rollout.id, phones = rollout.phones.len(), why = rollout.why, "roll-out begun");
        self.ring();
        tokio::spawn(Arc::clone(self).run(rollout.id));
        Ok(rollout)
    }

    /// Tells no further phone.
    pub fn cancel(&self, id: u64) -> Result<(), NotRolledOut> {
        self.change(id, |rollout| match rollout.state {
            State::Done | State::Cancelled => Err(NotRolledOut::Over),
            _ => {
                rollout.state = State::Cancelled;
                Ok(())
            }
        })
    }

    /// Goes on in spite of those that failed.
    pub fn resume(self: &Arc<Self>, id: u64) -> Result<(), NotRolledOut> {
        self.change(id, |rollout| match rollout.state {
            State::Stopped { .. } => {
                rollout.state = State::Running;
                rollout.forgiven = rollout.failed();
                Ok(())
            }
            State::Done | State::Cancelled => Err(NotRolledOut::Over),
            State::Running | State::Quiet { .. } => Err(NotRolledOut::UnderWay),
        })?;
        tokio::spawn(Arc::clone(self).run(id));
        Ok(())
    }

    fn change<T>(
        &self,
        id: u64,
        change: impl FnOnce(&mut Rollout) -> Result<T, NotRolledOut>,
    ) -> Result<T, NotRolledOut> {
        let changed = self.lock().iter_mut().find(|rollout| rollout.id == id).map(change);
        let changed = changed.ok_or(NotRolledOut::Unknown(id))?;
        self.ring();
        changed
    }

    fn ring(&self) {
        self.changed.send_modify(|times| *times += 1);
    }

    /// Sets how far a phone has come, and stops where too many have failed.
    fn note(&self, id: u64, mac: MacAddr, step: Step) {
        let noted = self.change(id, |rollout| {
            rollout.set(mac, step);
            let failed = rollout.failed() - rollout.forgiven;
            if rollout.is_under_way() && rollout.stop_after > 0 && failed >= rollout.stop_after as usize {
                let why = match failed {
                    1 => "a phone has failed".to_owned(),
                    many => format!("{many} phones have failed"),
                };
                tracing::warn!(rollout = id, reason = why, "roll-out stopped");
                rollout.state = State::Stopped { why };
            } else if rollout.is_under_way() && rollout.left == 0 {
                tracing::info!(rollout = id, failed = rollout.failed(), phones = rollout.phones.len(), "roll-out done");
                rollout.state = State::Done;
            }
            Ok(())
        });
        // Gone to make room: nobody asks any more.
        drop(noted);
    }

    /// Tells one phone after the other, until none is left or it is over.
    async fn run(self: Arc<Self>, id: u64) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = stopped(&mut stop) => {}
            () = self.tell_all(id) => {}
        }
    }

    async fn tell_all(self: &Arc<Self>, id: u64) {
        loop {
            let next = self.look(id, |rollout| {
                (rollout.is_under_way(), rollout.next(), rollout.regardless, rollout.reboot, rollout.per_minute)
            });
            let Some((true, Some(mac), regardless, reboot, per_minute)) = next else { return };
            if !regardless && self.is_quiet(id) {
                tokio::time::sleep(NAP).await;
                continue;
            }
            let Ok(place) = Arc::clone(&self.room).acquire_owned().await else { return };
            // It may have been stopped while this phone waited for its turn.
            if self.look(id, Rollout::is_under_way) != Some(true) {
                return;
            }
            self.note(id, mac, Step::Told);
            let all = Arc::clone(self);
            tokio::spawn(async move {
                let mut stop = all.stop.clone();
                let step = tokio::select! {
                    // Told once more after the restart.
                    () = stopped(&mut stop) => return,
                    step = all.follow(id, mac, reboot) => step,
                };
                all.note(id, mac, step);
                drop(place);
            });
            tokio::time::sleep(Duration::from_secs(60) / per_minute.max(1)).await;
        }
    }

    /// Whether phones are left alone just now, as the roll-out then says.
    fn is_quiet(&self, id: u64) -> bool {
        let settings = &self.desk.world().settings.rollouts;
        let until = quiet::until(&settings.quiet_hours, settings.time_zone.as_deref(), SystemTime::now());
        let state = match until {
            Some(until) => State::Quiet { until: milliseconds(until) / 60_000 * 60_000 },
            None => State::Running,
        };
        if self.look(id, |rollout| rollout.state != state) == Some(true) {
            let _ = self.change(id, |rollout| {
                if rollout.is_under_way() {
                    rollout.state = state;
                }
                Ok(())
            });
        }
        until.is_some()
    }

    /// Tells a phone and watches what comes of it.
    async fn follow(&self, id: u64, mac: MacAddr, reboot: bool) -> Step {
        let how = if reboot { Resync::Reboot } else { Resync::Fetch };
        let told = loop {
            match self.desk.resync(mac, how).await {
                // Somebody else's turn; the places are ours to wait for.
                Err(NotResynced::Full(_)) => tokio::time::sleep(GLANCE).await,
                told => break told,
            }
        };
        let ordered = match told {
            Ok(told) => told.ordered,
            Err(why) => return Step::Failed { why: why.to_string() },
        };
        self.note(id, mac, Step::Answered);
        let patient = tokio::time::Instant::now() + PATIENCE;
        let (mut fetches, mut changes) = (0, None);
        loop {
            let now = self.desk.registry.changes();
            // The registry is everybody's: that something changed is a reason to look, no more.
            if changes != Some(now) {
                changes = Some(now);
                let seen = self.desk.since(mac, ordered);
                if seen.fetched.len() != fetches {
                    fetches = seen.fetched.len();
                    if self.is_in_step(mac).await {
                        return Step::InStep { restarted: seen.announced };
                    }
                    self.note(id, mac, Step::Fetched);
                }
            }
            if tokio::time::Instant::now() >= patient {
                let minutes = PATIENCE.as_secs() / 60;
                let why = match fetches {
                    0 => format!("it said that it will, and has fetched nothing for {minutes} minutes"),
                    _ => format!("it has fetched, and not all that it would get now, for {minutes} minutes"),
                };
                return Step::Failed { why };
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    async fn is_in_step(&self, mac: MacAddr) -> bool {
        let desk = Arc::clone(&self.desk);
        let look = move || desk.progress(mac, desk.registry.by_mac(mac).as_ref()) == Progress::InStep;
        tokio::task::spawn_blocking(look).await.unwrap_or(false)
    }

    fn write(&self) -> io::Result<()> {
        let all = self.lock().clone();
        edit::write(&self.path, Some(&serde_json::to_vec(&all)?), 0o600)
    }

    /// Writes what changed, until the end.
    async fn keep(self: Arc<Self>) {
        let (mut stop, mut changed) = (self.stop.clone(), self.changed.subscribe());
        loop {
            let ends = tokio::select! {
                () = stopped(&mut stop) => true,
                _ = changed.changed() => false,
            };
            let all = Arc::clone(&self);
            let written = tokio::task::spawn_blocking(move || all.write()).await;
            if let Ok(Err(error)) = written {
                tracing::error!(file = %self.path.display(), %error, "cannot keep the roll-outs; those under way end with this server");
            }
            if ends {
                return;
            }
            tokio::time::sleep(SAVED).await;
        }
    }
}

fn read(path: &Path) -> VecDeque<Rollout> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::error!(file = %path.display(), %error, "cannot read the roll-outs");
            }
            return VecDeque::new();
        }
    };
    let mut all: VecDeque<Rollout> = serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        let aside = path.with_extension("json.aside");
        let moved = fs::rename(path, &aside);
        tracing::error!(file = %path.display(), aside = %aside.display(), moved = moved.is_ok(), %error, "the roll-outs make no sense");
        VecDeque::new()
    });
    for rollout in &mut all {
        for (mac, step) in std::mem::take(&mut rollout.phones) {
            rollout.set(mac, if step.is_last() { step } else { Step::Waiting });
        }
    }
    all
}
