//! Whether a building that powers on at once fits into the receive buffer.

use super::warning;
use crate::{Finding, facts::Facts, tables::Table};

const CHECK: &str = "buffer";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    if !facts.wanted.pnp {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let asked = facts.told.as_ref().map_or(facts.wanted.receive_buffer as u64, |told| told.pnp.receive_buffer_asked);
    let granted = match &facts.told {
        Some(told) => told.pnp.receive_buffer_granted.map(|granted| ("has", granted)),
        // Nobody has asked for it yet: what would be granted to us.
        None => {
            facts.buffer_limit.filter(|_| !facts.may_exceed && !facts.is_running()).map(|limit| ("would have", limit))
        }
    };
    if let Some((has, granted)) = granted.filter(|(_, granted)| *granted < asked) {
        found.push(warning(
            CHECK,
            None,
            format!("the server {has} a receive buffer of {} and wants {}: when a building powers on at once, announcements are lost", mib(granted), mib(asked)),
            format!("`sysctl -w net.core.rmem_max={asked}` (and in /etc/sysctl.d), or give the server CAP_NET_ADMIN; then restart it."),
        ));
    }
    let told = facts.told.as_ref().map(|told| told.pnp.lost.unwrap_or(0) + told.pnp.dropped);
    let own = facts.sockets.iter().filter(|held| {
        held.is_ours() && held.socket.table != Table::Tcp && held.socket.address == *facts.wanted.group.ip()
    });
    let lost = told.unwrap_or_else(|| own.map(|held| held.socket.lost).sum());
    if lost > 0 {
        found.push(warning(
            CHECK,
            None,
            format!("{lost} announcements were lost since the start, because there was no room for them"),
            "Phones repeat themselves. If it happens again, raise pnp.receive_buffer, and look for who sends so much.",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    #[test]
    fn the_limit_counts_where_nobody_may_go_beyond_it() {
        let mut facts = sample::facts();
        facts.sockets.clear();
        assert_eq!(check(&facts), []);
        facts.may_exceed = false;
        assert!(
            check(&facts)[0].what.starts_with("the server would have a receive buffer of 0.2 MiB and wants 16.0 MiB")
        );
    }
}
