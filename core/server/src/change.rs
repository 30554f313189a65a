//! What an edit comes to for the phones, before it is written: which of them would get other files, which would restart when they are
//! told to fetch again, and which could not be served any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use provost_fleet::{Device, Registry};
use provost_plugin::{
    MacAddr,
    spec::{FileKind, Restarts},
};

use crate::{
    progress::{is_settings, peer},
    world::{Offer, Peer, Trouble, World},
};

/// A phone that would get other files than now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub mac: MacAddr,
    /// Names of the files that would differ, come or go.
    pub files: Vec<String>,
    /// What it would do when it is told to fetch them.
    pub restarts: Restarts,
}

/// What an edit comes to.
#[derive(Clone, Debug, Default)]
pub struct Impact {
    /// By MAC.
    pub changes: Vec<Change>,
    /// Phones that are served now and could not be any more.
    pub broken: BTreeMap<MacAddr, Trouble>,
    /// Phones that were looked at, of all that it may concern. Fewer where the time was up.
    pub looked_at: usize,
    pub of: usize,
}

/// Compares what phones get in `now` with what they would get in `then`. `macs`: only these. `time`: no longer than this, and then an
/// even sample.
pub fn weigh(
    now: &World,
    then: &World,
    registry: &Registry,
    macs: Option<&BTreeSet<MacAddr>>,
    time: Option<Duration>,
) -> Impact {
    let enabled = |world: &World, mac| world.fleet.device(mac).is_some_and(Device::is_enabled);
    let macs: Vec<MacAddr> = match macs {
        Some(macs) => macs.iter().copied().collect(),
        None => {
            let all = now.fleet.devices().chain(then.fleet.devices()).map(|(mac, _)| mac);
            all.collect::<BTreeSet<_>>().into_iter().collect()
        }
    };
    let until = time.map(|time| Instant::now() + time);
    let stride = stride(macs.len());
    let next = AtomicUsize::new(0);
    let impact = Mutex::new(Impact { of: macs.len(), ..Impact::default() });
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let work = || {
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= macs.len() || until.is_some_and(|until| Instant::now() > until) {
                return;
            }
            let mac = macs[turn * stride % macs.len()];
            let peer = peer(mac, registry.by_mac(mac).as_ref());
            let outcome = match (enabled(now, mac), enabled(then, mac)) {
                (before, true) => weigh_one(now, then, mac, &peer, before),
                // It would be served no more, which is a change that no file tells it of.
                (true, false) => Ok(Some(Change { mac, files: Vec::new(), restarts: Restarts::Never })),
                (false, false) => Ok(None),
            };
            let mut impact = impact.lock().unwrap_or_else(PoisonError::into_inner);
            impact.looked_at += 1;
            match outcome {
                Ok(change) => impact.changes.extend(change),
                Err(_) if now.troubles.contains_key(&mac) => {}
                Err(trouble) => drop(impact.broken.insert(mac, trouble)),
            }
        }
    };
    std::thread::scope(|scope| {
        // This thread works too.
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
    let mut impact = impact.into_inner().unwrap_or_else(PoisonError::into_inner);
    impact.changes.sort_by_key(|change| change.mac);
    impact
}

/// Steps through `count` things such that a walk that is cut short has seen something of everything. 7919 is prime, so that each comes up
/// once unless their number is a multiple of it; then one more would not be.
pub(crate) fn stride(count: usize) -> usize {
    if count.is_multiple_of(7919) { 1 } else { 7919 }
}

fn weigh_one(now: &World, then: &World, mac: MacAddr, peer: &Peer, before: bool) -> Result<Option<Change>, Trouble> {
    let Some(device) = then.fleet.device(mac) else { return Ok(None) };
    if then.shelf.choose(&peer.identity, device.stated_vendor()).is_err() {
        // Whose phone it is may only be known once it speaks.
        return Ok(None);
    }
    let offer = then.files_of(mac, peer)?;
    let old = if before { now.files_of(mac, peer).ok() } else { None };
    if let Some(old) = &old
        && Arc::ptr_eq(&old.choice.plugin, &offer.choice.plugin)
        && old.resolved.phone == offer.resolved.phone
        && same_common(now, then, old, peer)
    {
        return Ok(None);
    }
    let digests = |world: &World, offer: &Offer| -> BTreeMap<String, Result<String, Trouble>> {
        let settings = offer.files.iter().filter(|(_, kind)| is_settings(*kind));
        let digest = |(name, _): &(String, FileKind)| {
            let located = world.locate(name, peer).map_err(|error| Trouble::from(error.to_string()));
            let rendered = located.and_then(|located| world.etag(&located).map_err(Trouble::from));
            (name.clone(), rendered.map(|(etag, _)| etag))
        };
        settings.map(digest).collect()
    };
    let new = digests(then, &offer);
    if let Some(trouble) = new.values().find_map(|digest| digest.as_ref().err()) {
        return Err(trouble.clone());
    }
    let old = old.map(|old| digests(now, &old)).unwrap_or_default();
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let digest_in = |files: &BTreeMap<String, Result<String, Trouble>>, name: &String| {
        files.get(name).and_then(|digest| digest.clone().ok())
    };
    let differs = |name: &&&String| digest_in(&old, name) != digest_in(&new, name);
    let files: Vec<String> = names.iter().filter(differs).map(|name| (*name).clone()).collect();
    let family = offer.resolved.phone.capabilities.family.as_deref();
    let restarts = offer.choice.plugin.spec.resync(family).restarts();
    Ok((!files.is_empty()).then_some(Change { mac, files, restarts }))
}

/// Whether the files that this phone shares with others are made of the same.
fn same_common(now: &World, then: &World, offer: &Offer, peer: &Peer) -> bool {
    if !offer.files.iter().any(|(_, kind)| *kind == FileKind::Common) {
        return true;
    }
    let (plugin, model) = (&offer.choice.plugin, offer.resolved.phone.model.as_deref());
    match (now.common(plugin, model, peer), then.common(plugin, model, peer)) {
        (Ok(old), Ok(new)) => old.phone == new.phone,
        _ => false,
    }
}
