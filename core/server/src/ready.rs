//! Files made before they are asked for: those that each phone took last, as it would get them now.
//!
//! When the power comes back a whole building asks at once, and mostly for what it had before. So after a start and after each change
//! they are made one after the other, by the way, and wait in the memo. What is made so is found only by a phone that asks as it did
//! before, from where it was; any other gets its file made when it asks, as ever.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::{dispatch::Dispatch, run::stopped};

/// After a change others may follow.
const SETTLED: Duration = Duration::from_secs(2);
/// For each moment of work so many of rest: phones that ask now come first.
const REST: u32 = 3;

/// Keeps files ready until told to stop.
pub(crate) async fn run(desk: Arc<Dispatch>, mut stop: watch::Receiver<bool>) {
    let mut replaced = desk.replacements();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(SETTLED) => {}
        }
        replaced.mark_unchanged();
        let (begun, mut files) = (Instant::now(), 0);
        for mac in desk.served() {
            let began = Instant::now();
            let Some(made) = desk.make_ready(mac).await else { break };
            files += made;
            if replaced.has_changed().unwrap_or(true) {
                break;
            }
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = tokio::time::sleep(began.elapsed() * REST) => {}
            }
        }
        if files > 0 {
            tracing::info!(files, millis = begun.elapsed().as_millis() as u64, "made ready");
        }
        tokio::select! {
            () = stopped(&mut stop) => return,
            changed = replaced.changed() => if changed.is_err() { return },
        }
    }
}
