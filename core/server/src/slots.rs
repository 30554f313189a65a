//! Counts what is open at a door, in all and per peer, and says no when it is enough.
//!
//! A slot is given back by being dropped, so that no way of ending a connection or a transfer can forget to.
//! What to say to whoever got none is left to the door.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Refusals closer together than this are one burst, and one log line.
const BURST: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(crate) struct Slots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: usize,
    per_peer: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
    last_refusal: Option<Instant>,
}

/// One open connection or transfer.
#[derive(Debug)]
pub(crate) struct Slot {
    shared: Arc<Shared>,
    peer: IpAddr,
}

/// There was no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// This peer alone has too many open; others are still served.
    pub(crate) by_peer: bool,
    /// The first refusal after a quiet time: the one worth a log line.
    pub(crate) first: bool,
}

impl Slots {
    pub(crate) fn new(total: usize, per_peer: usize) -> Slots {
        Slots(Arc::new(Shared { total, per_peer, taken: Mutex::default() }))
    }

    pub(crate) fn take(&self, peer: IpAddr) -> Result<Slot, Full> {
        self.take_within(peer, self.0.per_peer)
    }

    /// For a peer that speaks for many others: it may have all of them.
    pub(crate) fn take_for_many(&self, peer: IpAddr) -> Result<Slot, Full> {
        self.take_within(peer, usize::MAX)
    }

    fn take_within(&self, peer: IpAddr, per_peer: usize) -> Result<Slot, Full> {
        let mut taken = self.0.lock();
        let of_peer = taken.by_peer.get(&peer).copied().unwrap_or(0);
        let by_peer = of_peer >= per_peer;
        if by_peer || taken.all >= self.0.total {
            let now = Instant::now();
            let first = taken.last_refusal.is_none_or(|last| now.duration_since(last) > BURST);
            taken.last_refusal = Some(now);
            return Err(Full { by_peer, first });
        }
        taken.all += 1;
        taken.by_peer.insert(peer, of_peer + 1);
        Ok(Slot { shared: Arc::clone(&self.0), peer })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing in here panics between two steps that belong together, so a poisoned count is still a right count.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.shared.lock();
        taken.all -= 1;
        if let Some(of_peer) = taken.by_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                taken.by_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_when_dropped() {
        let slots = Slots::new(3, 2);
        let (ann, bob) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = slots.take(ann).unwrap();
        let _second = slots.take(ann).unwrap();
        assert_eq!(slots.take(ann).unwrap_err(), Full { by_peer: true, first: true });
        let _third = slots.take(bob).unwrap();
        assert_eq!(slots.take(bob).unwrap_err(), Full { by_peer: false, first: false });
        drop(first);
        slots.take(ann).unwrap();
        assert_eq!(slots.0.lock().by_peer.len(), 2);
    }

    #[test]
    fn who_speaks_for_many_may_have_all_of_them_and_no_more() {
        let slots = Slots::new(3, 1);
        let proxy = IpAddr::from([10, 0, 0, 1]);
        let _taken: Vec<_> = (0..3).map(|_| slots.take_for_many(proxy).unwrap()).collect();
        assert_eq!(slots.take_for_many(proxy).unwrap_err(), Full { by_peer: false, first: true });
    }
}
