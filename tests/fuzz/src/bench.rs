//! A server without sockets: the vendors of the repository, and a phone of each in its inventory.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use provost_fleet::{Fleet, Phonebooks};
use provost_server::{dispatch::Dispatch, settings::SettingsFile, tokens::Tokens, world::World};
use provost_tests::{inventory, repository, specs};
use tokio::runtime::Runtime;

use crate::{models, scratch::Scratch};

/// What every target may use at any time.
pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) runtime: Runtime,
    pub(crate) data: Scratch,
}

pub(crate) fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let data = Scratch::new();
        let specs = specs();
        let phones: Vec<_> = specs
            .iter()
            .flat_map(|(_, spec)| &spec.simulate)
            .enumerate()
            .filter_map(|(index, phone)| Some((provost_phone::mac(phone, index as u32)?, phone)))
            .collect();
        let profiles = format!("{}\n", inventory(&phones)).replacen(
            "defaults:\n",
            "defaults:\n  trust: { address: anywhere }\n",
            1,
        );
        let settings = SettingsFile {
            data: Some(data.path.clone()),
            plugins: vec![repository().join("plugins")],
            templates: Some(repository().join("templates")),
            ..SettingsFile::default()
        };
        let settings = settings.settle(None).expect("good settings");
        let edits = BTreeMap::from([("phones.yaml".into(), Some(profiles.clone().into_bytes()))]);
        let (fleet, problems) = Fleet::default().edited(&edits);
        assert!(!problems.iter().any(provost_fleet::Problem::is_error), "{problems:?}\n{profiles}");
        let world = World {
            settings: Arc::new(settings),
            fleet: Arc::new(fleet),
            books: Arc::new(Phonebooks::default()),
            images: Arc::default(),
            shelf: Arc::new(models::shelf().clone()),
            tokens: Arc::new(Tokens::for_show()),
            tls: Arc::default(),
            made: Arc::default(),
            held: Default::default(),
            troubles: BTreeMap::new(),
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime for one thread");
        Bench { world, runtime, data }
    })
}

impl Bench {
    /// This world with another inventory.
    pub(crate) fn with(&self, fleet: Fleet) -> World {
        World { fleet: Arc::new(fleet), ..self.world() }
    }

    pub(crate) fn world(&self) -> World {
        let World { settings, fleet, books, images, shelf, tokens, tls, made: _, held: _, troubles: _ } = &self.world;
        World {
            settings: Arc::clone(settings),
            fleet: Arc::clone(fleet),
            books: Arc::clone(books),
            images: Arc::clone(images),
            shelf: Arc::clone(shelf),
            tokens: Arc::clone(tokens),
            tls: Arc::clone(tls),
            made: Arc::default(),
            held: Default::default(),
            troubles: BTreeMap::new(),
        }
    }

    /// A desk that has not seen anybody yet.
    pub(crate) fn desk(&self) -> Arc<Dispatch> {
        Dispatch::new(self.world())
    }

    /// Panics where a password stands in what somebody was given who did not name the phone that it is of.
    pub(crate) fn nothing_of_others(&self, asked: &[u8], given: &[u8]) {
        let asked: String = String::from_utf8_lossy(asked).to_lowercase();
        let asked: String = asked.chars().filter(char::is_ascii_hexdigit).collect();
        let Some(at) = given.windows(7).position(|window| window == b"secret-") else { return };
        let whose = String::from_utf8_lossy(&given[at + 7..given.len().min(at + 19)]).into_owned();
        assert!(asked.contains(&whose), "the password of {whose} was given to who asked for {asked}");
    }
}
