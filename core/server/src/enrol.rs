//! Enrols strangers by the rules of the profile files, where there are any.
//!
//! Only phones that announced themselves: a SUBSCRIBE to the group comes from a segment that this server has a leg in, while a GET may
//! come from anywhere, and the MAC in its path is whatever somebody typed. Still a rule hands accounts to whoever announces a MAC from its
//! networks; that is why there is none unless somebody writes it, and why it can end by itself (`until`, `limit`).
//!
//! There is no queue. The bell rings when a stranger was given no answer or when the files changed, and then the registry is asked who
//! waits; so nobody is lost in a storm, whoever came before the rule is seen too, and a restart goes on where the last one stopped.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use provost_fleet::{Enrolment, Given, Happening, Record, Registry, Rule, Stranger, Suggestion};
use provost_plugin::MacAddr;
use tokio::sync::watch;

use crate::{
    dispatch::Dispatch,
    edit::{Edit, EditError},
    pnp::exchange::REMEMBERED,
    progress,
    run::stopped,
    world::{Peer, World},
};

/// Time for the phones of one power cut to be heard: they become one edit.
const GATHERING: Duration = Duration::from_millis(200);
/// Phones in one edit. Each is a file that is tried and written.
const MOST: usize = 100;
/// How often an edit is tried again without those that it was refused for.
const TURNS: usize = 3;
/// When a phone is tried again whose file could not be written, though nothing changed in the profiles: disks get room.
const AGAIN: Duration = Duration::from_secs(300);
/// Refused phones that are remembered.
const REFUSED: usize = 10_000;

impl World {
    /// What the rules say to a phone that stands in no profile file.
    pub fn enrolment(&self, peer: &Peer, given: &Given) -> Enrolment<'_> {
        let identity = &peer.identity;
        if self.fleet.rules().len() == 0 || identity.mac.is_some_and(|mac| self.fleet.device(mac).is_some()) {
            return Enrolment::Nobody;
        }
        let choice = self.shelf.choose(identity, None).ok();
        let vendor = choice.as_ref().map(|choice| choice.plugin.id.as_str()).or(identity.vendor.as_deref());
        // Whom somebody else configures is nobody's to enrol.
        if self.settings.forward_for(peer.address, vendor).is_some() {
            return Enrolment::Nobody;
        }
        let spec = choice.as_ref().map(|choice| &*choice.plugin.spec);
        let stranger = Stranger { spec, model: identity.model.as_deref(), address: peer.address };
        self.fleet.enrolment(&stranger, SystemTime::now(), given)
    }

    /// The profile that a phone would get if it were enrolled and nobody named one.
    pub fn suggestion(&self, mac: MacAddr, peer: &Peer) -> Option<Suggestion<'_>> {
        let choice = self.shelf.choose(&peer.identity, None).ok()?;
        self.fleet.suggest(mac, &choice.plugin.spec, peer.identity.model.as_deref(), peer.address)
    }

    /// Why a phone that stands in no profile file gets no answer.
    pub(crate) fn why_pending(&self, mac: MacAddr, peer: &Peer) -> String {
        match self.enrolment(peer, &Given::default()) {
            Enrolment::Nobody => {
                format!("{mac} is not in the inventory; it is pending until a device of that MAC stands in profiles/")
            }
            Enrolment::By { rule, .. } => {
                let (name, place) = (rule.name(), place(rule));
                format!(
                    "{mac} is not in the inventory yet; the rule \"{name}\" enrols it when it announces itself ({place})"
                )
            }
            // The place last: a history keeps only so many characters.
            Enrolment::Not { rule, why } => {
                format!("{mac} is pending: the rule \"{}\" is for it, but {why} ({})", rule.name(), place(rule))
            }
        }
    }
}

/// Where it stands.
pub(crate) fn place(rule: &Rule) -> String {
    format!("{}:{}", rule.file(), rule.line())
}

/// The file of one device's own that is written for it.
pub fn own_file(world: &World, mac: MacAddr) -> PathBuf {
    world.settings.profiles.join("devices").join(format!("{}.yaml", mac.bare()))
}

/// A phone that waits.
struct Waiting {
    mac: MacAddr,
    peer: Peer,
    first_seen: SystemTime,
}

/// One that was given an account.
#[derive(Clone)]
struct Chosen {
    mac: MacAddr,
    rule: Arc<Rule>,
    number: Option<String>,
    path: PathBuf,
}

/// Why a phone was not enrolled, and under which circumstances.
struct Refusal {
    why: String,
    /// Of the profiles, when it was refused.
    modified: SystemTime,
    at: Instant,
}

/// Whoever enrols, with what must be remembered from one edit to the next.
#[derive(Default)]
struct Clerk {
    refused: HashMap<MacAddr, Refusal>,
    /// Written, or perhaps written, and not in service when it was last looked at: their numbers are taken all the same.
    unseen: Vec<Chosen>,
}

/// Enrols phones until told to stop.
pub async fn run(desk: Arc<Dispatch>, mut stop: watch::Receiver<bool>) {
    let mut replaced = desk.replacements();
    replaced.mark_changed();
    let mut clerk = Clerk::default();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = desk.strangers.notified() => {}
            changed = replaced.changed() => if changed.is_err() { return },
        }
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(GATHERING) => {}
        }
        while desk.world().fleet.rules().len() > 0 && clerk.enrol(&desk).await {}
    }
}

impl Clerk {
    /// Enrols those that wait, as many as one edit takes. Whether there may be more.
    async fn enrol(&mut self, desk: &Arc<Dispatch>) -> bool {
        for _ in 0..TURNS {
            let Some((chosen, outcome)) = self.attempt(desk).await else { return false };
            let count = chosen.len();
            match outcome {
                Ok(()) => {
                    for one in &chosen {
                        let rule = one.rule.name();
                        tracing::info!(device = %one.mac, rule, profile = one.rule.profile(), number = one.number, "enrolled by rule");
                        desk.record(Some(one.mac), Happening::Enrolled { rule: rule.to_owned() });
                        self.refused.remove(&one.mac);
                        // It may be waiting for an answer; what comes of it is in its history.
                        let (desk, mac) = (Arc::clone(desk), one.mac);
                        tokio::spawn(async move { desk.notify_again(mac).await });
                    }
                    return count == MOST;
                }
                Err(error) => {
                    if matches!(error, EditError::Write { .. } | EditError::NotInService(_)) {
                        self.unseen.extend(chosen.iter().cloned());
                    }
                    let at_fault = |one: &&Chosen| match &error {
                        EditError::Refused(findings) => {
                            findings.iter().any(|finding| Path::new(&finding.file) == one.path)
                        }
                        EditError::Exists { path } | EditError::Changed { path } => *path == one.path,
                        _ => true,
                    };
                    let some: Vec<&Chosen> = chosen.iter().filter(at_fault).collect();
                    // Where none is to blame by name, all are: what was refused is not tried for ever.
                    for one in if some.is_empty() { chosen.iter().collect() } else { some } {
                        self.refuse(desk, one, &error);
                    }
                }
            }
        }
        // The rest has its turn when the bell rings next.
        false
    }

    /// One edit; none where nobody waits that a rule takes.
    async fn attempt(&mut self, desk: &Arc<Dispatch>) -> Option<(Vec<Chosen>, Result<(), EditError>)> {
        let waiting = {
            let desk = Arc::clone(desk);
            tokio::task::spawn_blocking(move || waiting(&desk.registry, SystemTime::now())).await.ok()?
        };
        let modified = desk.world().fleet.modified();
        let refused: HashSet<MacAddr> = self
            .refused
            .iter()
            .filter(|(_, refusal)| refusal.modified == modified && refusal.at.elapsed() < AGAIN)
            .map(|(mac, _)| *mac)
            .collect();
        let waiting: Vec<Waiting> = waiting.into_iter().filter(|one| !refused.contains(&one.mac)).collect();
        let world = desk.world();
        self.unseen.retain(|one| world.fleet.device(one.mac).is_none());
        let unseen = self.unseen.clone();
        // Most strangers are for no rule, and an edit makes others wait.
        let looking = tokio::task::spawn_blocking(move || {
            let anybody = !choose(&world, &waiting, &unseen).0.is_empty();
            (anybody, waiting, unseen)
        });
        let Ok((true, waiting, unseen)) = looking.await else { return None };
        let noted: Arc<Mutex<Vec<Chosen>>> = Arc::default();
        let notes = Arc::clone(&noted);
        // Numbers are given when nobody else writes: what others have taken until then is in service by then.
        let outcome = desk.edit_by(move |world| {
            let (chosen, edits) = choose(world, &waiting, &unseen);
            *notes.lock().unwrap_or_else(PoisonError::into_inner) = chosen;
            edits
        });
        let outcome = outcome.await;
        let chosen = std::mem::take(&mut *noted.lock().unwrap_or_else(PoisonError::into_inner));
        (!chosen.is_empty()).then_some((chosen, outcome))
    }

    fn refuse(&mut self, desk: &Dispatch, one: &Chosen, error: &EditError) {
        let why = format!("the rule \"{}\" could not enrol it: {error}", one.rule.name());
        // Said once, however often it is tried.
        if self.refused.get(&one.mac).is_none_or(|before| before.why != why) {
            tracing::warn!(device = %one.mac, rule = one.rule.name(), reason = %error, "not enrolled by rule");
            desk.record(Some(one.mac), Happening::NotEnrolled { reason: why.clone() });
        }
        if self.refused.len() >= REFUSED {
            self.refused.clear();
        }
        let refusal = Refusal { why, modified: desk.world().fleet.modified(), at: Instant::now() };
        self.refused.insert(one.mac, refusal);
    }
}

/// The strangers that announced themselves lately and that nobody wants to hear no more of, the first that came first.
fn waiting(registry: &Registry, now: SystemTime) -> Vec<Waiting> {
    let lately = now.checked_sub(REMEMBERED).unwrap_or(SystemTime::UNIX_EPOCH);
    let announced = |record: &Record| {
        let mut events = record.events.iter().rev().take_while(|event| event.at >= lately);
        record.contact.is_some() && events.any(|event| matches!(event.what, Happening::Refused { .. }))
    };
    let mut waiting = Vec::new();
    registry.visit(|record| {
        if record.state == provost_fleet::State::Pending && !record.ignored && announced(record) {
            let peer = progress::peer(record.mac, Some(record));
            waiting.push(Waiting { mac: record.mac, peer, first_seen: record.first_seen });
        }
    });
    waiting.sort_by_key(|one| (one.first_seen, one.mac));
    waiting
}

/// Gives each of them an account, as many as one edit takes.
fn choose(world: &World, waiting: &[Waiting], unseen: &[Chosen]) -> (Vec<Chosen>, Vec<Edit>) {
    let mut given = Given::default();
    for one in unseen {
        given.add(&one.rule, one.number.as_deref());
    }
    let (mut chosen, mut edits) = (Vec::new(), Vec::new());
    for Waiting { mac, peer, .. } in waiting {
        let mac = *mac;
        let Enrolment::By { rule, account } = world.enrolment(peer, &given) else { continue };
        let number = account.map(|account| account.number().to_owned());
        given.add(rule, number.as_deref());
        let path = own_file(world, mac);
        edits.push(Edit { path: path.clone(), of: None, content: Some(rule.device(mac, account)) });
        chosen.push(Chosen { mac, rule: Arc::clone(rule), number, path });
        if chosen.len() == MOST {
            break;
        }
    }
    (chosen, edits)
}
