//! Files by what they were made of: the plugin as it stands, which of its files, and the phone with all its settings. Who needs the same
//! again has it without a render: another phone to which the same applies, the trial of a change that does not concern this phone, the
//! phone itself after it, the list of who is out of date.
//!
//! It outlives worlds, since nothing of a world is in it that is not in the content.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError},
};

use provost_host::InService;
use provost_plugin::{Phone, Secret, model::Book};
use sha2::{Digest, Sha256};

use crate::{generations::Generations, request::ConfigFile};

/// Bytes of files and of what goes with them; half of it is kept for sure.
const BYTES: usize = 32 << 20;
/// What a file takes beside its bytes.
const AROUND: usize = 256;
/// Few, so that a list of thousands has room in one.
const SHARDS: usize = 4;

/// Stands for all that a file is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Content([u8; 32]);

impl Content {
    pub(crate) fn of(plugin: &InService, file: usize, phone: &Phone) -> Content {
        // A list of thousands is known by where it lies: it stays there as long as it is held.
        let without_book = phone.book.is_some().then(|| Phone { book: None, ..phone.clone() });
        let written = Secret::exposed(|| serde_json::to_vec(without_book.as_ref().unwrap_or(phone)));
        let written = written.expect("a phone is plain data");
        let mut hash = Sha256::new();
        hash.update(plugin.whole_fingerprint());
        hash.update(file.to_le_bytes());
        hash.update(written);
        if let Some(book) = &phone.book {
            hash.update((Arc::as_ptr(book) as usize).to_le_bytes());
        }
        Content(hash.finalize().into())
    }
}

#[derive(Clone, Debug)]
struct Kept {
    file: ConfigFile,
    /// Held, so that no other list comes to lie where it lies.
    _book: Option<Arc<Book>>,
}

#[derive(Debug)]
pub struct Made {
    shards: [Mutex<Generations<Content, Kept>>; SHARDS],
    hasher: RandomState,
}

impl Default for Made {
    fn default() -> Made {
        Made {
            shards: std::array::from_fn(|_| Mutex::new(Generations::new(BYTES / SHARDS))),
            hasher: RandomState::new(),
        }
    }
}

impl Made {
    /// The file that was made of this. When its sources changed last is for the caller to say.
    pub(crate) fn get(&self, content: &Content) -> Option<ConfigFile> {
        let mut shard = self.shard(content).lock().unwrap_or_else(PoisonError::into_inner);
        shard.get(content).map(|kept| kept.file)
    }

    pub(crate) fn keep(&self, content: Content, file: ConfigFile, book: Option<Arc<Book>>) {
        let bytes = file.body.len() + AROUND;
        let mut shard = self.shard(&content).lock().unwrap_or_else(PoisonError::into_inner);
        shard.insert(content, Kept { file, _book: book }, bytes);
    }

    fn shard(&self, content: &Content) -> &Mutex<Generations<Content, Kept>> {
        &self.shards[self.hasher.hash_one(content) as usize % SHARDS]
    }
}
