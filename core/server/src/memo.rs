//! Files that were asked for of late, so that who asks again costs a look and no render; and what phones were told when they announced
//! themselves.
//!
//! A memo belongs to one world and goes with it, and an answer is found by everything that the world's answer depends on: the name, the
//! User-Agent, what is known of who asks, and the tokens as they stand. What it has to show is asked each time, and so is all that counts
//! or is written down.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use provost_host::{InService, Route};
use provost_plugin::{
    MacAddr, Phone,
    model::{Credentials, Identity, Trust},
    spec::FileKind,
};

use crate::{
    generations::Generations,
    request::ConfigFile,
    world::{Located, Peer},
};

/// Bytes of files and of what goes with them, over all; half of it is kept for sure.
const BYTES: usize = 64 << 20;
/// What an answer takes beside its file.
const AROUND: usize = 2048;
/// A list of thousands is not kept: few ask for it at the same moment.
const LARGEST: usize = 256 << 10;
const SHARDS: usize = 16;
/// Phones whose announcements are kept, in each shard: a building of ten thousand, with room. Of more, the latest.
const SPOKEN: usize = 1024;

/// What a name and a User-Agent say by themselves.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Every file that the name could mean.
    pub(crate) routes: Arc<[Route]>,
    pub(crate) agent: Identity,
}

/// What the desk needs to know of a located file, besides its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) plugin: Arc<InService>,
    pub(crate) kind: FileKind,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) model: Option<String>,
    pub(crate) firmware: Option<String>,
    pub(crate) hardware: Option<String>,
    pub(crate) stranger: bool,
    /// A policy for firmware has a say in it.
    pub(crate) by_policy: bool,
    pub(crate) trust: Trust,
    /// With which it logs in where it has to.
    pub(crate) account: Credentials,
}

impl Facts {
    pub(crate) fn of(located: &Located) -> Facts {
        let Phone { mac, model, firmware, hardware, settings, .. } = &located.resolved.phone;
        let account = Credentials {
            username: settings.provisioning.username.clone(),
            password: settings.provisioning.password.clone(),
        };
        Facts {
            plugin: Arc::clone(&located.plugin),
            kind: located.file().kind,
            mac: *mac,
            model: model.clone(),
            firmware: firmware.clone(),
            hardware: hardware.clone(),
            stranger: located.stranger,
            by_policy: located.resolved.firmware.is_some(),
            trust: located.resolved.trust.clone(),
            account,
        }
    }

    /// Whose own file it is; none for what many share, and for what a stranger gets.
    pub(crate) fn owner(&self) -> Option<MacAddr> {
        self.mac.filter(|_| self.kind == FileKind::Device && !self.stranger)
    }
}

/// A file, and all that it was made of but its phone.
#[derive(Debug)]
pub(crate) struct Answer {
    peer: Peer,
    /// How often tokens had been revoked.
    revoked: u64,
    pub(crate) facts: Facts,
    pub(crate) file: ConfigFile,
    /// It reads the same without any password. None: nobody has looked.
    pub(crate) harmless: Option<bool>,
}

/// What a phone was told, and all that it depended on but the world.
#[derive(Debug)]
pub(crate) struct Spoken {
    pub(crate) peer: Peer,
    pub(crate) url: String,
    pub(crate) vendor: String,
    pub(crate) trust: Trust,
}

#[derive(Debug)]
struct Entry {
    path: String,
    agent: Option<String>,
    told: Told,
    answer: Mutex<Arc<Answer>>,
}

/// An answer that was found by name and User-Agent, and fits if whoever asks is the same to us as before.
#[derive(Clone, Debug)]
pub(crate) struct Found(Arc<Entry>);

#[derive(Debug)]
pub(crate) struct Memo {
    shards: [Mutex<Generations<u64, Arc<Entry>>>; SHARDS],
    spoken: [Mutex<HashMap<MacAddr, Arc<Spoken>>>; SHARDS],
    hasher: RandomState,
}

impl Default for Memo {
    fn default() -> Memo {
        Memo {
            shards: std::array::from_fn(|_| Mutex::new(Generations::new(BYTES / SHARDS))),
            spoken: Default::default(),
            hasher: RandomState::new(),
        }
    }
}

impl Memo {
    pub(crate) fn find(&self, path: &str, agent: Option<&str>) -> Option<Found> {
        let key = self.key(path, agent);
        let entry = self.shard(key).get(&key)?;
        (entry.path == path && entry.agent.as_deref() == agent).then_some(Found(entry))
    }

    pub(crate) fn keep(&self, path: &str, agent: Option<&str>, told: Told, answer: Answer) {
        if answer.file.body.len() > LARGEST {
            return;
        }
        let (key, bytes) = (self.key(path, agent), answer.file.body.len() + AROUND);
        let entry = Entry {
            path: path.to_owned(),
            agent: agent.map(str::to_owned),
            told,
            answer: Mutex::new(Arc::new(answer)),
        };
        self.shard(key).insert(key, Arc::new(entry), bytes);
    }

    /// Whether one more would push out none that may still be asked for.
    pub(crate) fn has_room(&self) -> bool {
        self.shards.iter().map(|shard| lock(shard).bytes()).sum::<usize>() < BYTES / 2 - LARGEST
    }

    /// What this phone was told, where it asks as it did then.
    pub(crate) fn spoken(&self, mac: MacAddr, peer: &Peer) -> Option<Arc<Spoken>> {
        self.spoken_shard(mac).get(&mac).filter(|spoken| spoken.peer == *peer).cloned()
    }

    pub(crate) fn speak(&self, mac: MacAddr, spoken: Spoken) {
        let mut shard = self.spoken_shard(mac);
        if shard.len() >= SPOKEN {
            shard.clear();
        }
        shard.insert(mac, Arc::new(spoken));
    }

    fn spoken_shard(&self, mac: MacAddr) -> MutexGuard<'_, HashMap<MacAddr, Arc<Spoken>>> {
        lock(&self.spoken[self.hasher.hash_one(mac) as usize % SHARDS])
    }

    fn key(&self, path: &str, agent: Option<&str>) -> u64 {
        self.hasher.hash_one((path, agent))
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Generations<u64, Arc<Entry>>> {
        lock(&self.shards[key as usize % SHARDS])
    }
}

impl Found {
    pub(crate) fn told(&self) -> &Told {
        &self.0.told
    }

    /// The answer, where it was one to the same question.
    pub(crate) fn answer(&self, peer: &Peer, revoked: u64) -> Option<Arc<Answer>> {
        let answer = Arc::clone(&lock(&self.0.answer));
        (answer.revoked == revoked && answer.peer == *peer).then_some(answer)
    }
}

impl Answer {
    pub(crate) fn new(peer: Peer, revoked: u64, facts: Facts, file: ConfigFile, harmless: Option<bool>) -> Answer {
        Answer { peer, revoked, facts, file, harmless }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
