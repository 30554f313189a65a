//! Whether the group is joined where phones are, by the kernel's own list, and who else hears it.

use super::{error, warning};
use crate::{Finding, facts::Facts, tables::Table};

const CHECK: &str = "membership";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let group = facts.wanted.group;
    let mut found = Vec::new();
    if !facts.wanted.pnp {
        return found;
    }
    if !facts.is_running() {
        let hidden = facts.sockets.iter().any(|held| held.holder.is_none());
        // Who may not see the processes cannot say that there is none.
        if !hidden {
            found.push(error(
                CHECK,
                None,
                format!("no Provost server runs on this machine, so nobody of ours has joined {}", group.ip()),
                "Start it: `systemctl start provost`, or `provost serve`.",
            ));
        }
    } else if let Some(why) = facts.told.as_ref().and_then(|told| told.pnp.deaf.as_ref()) {
        found.push(error(
            CHECK,
            None,
            format!("the server hears no phones: {why}"),
            "What it lacks stands in that sentence; then restart the server.",
        ));
    } else {
        for link in facts.fit().filter(|link| link.members == 0) {
            let told = facts.told.iter().flat_map(|told| &told.interfaces).find(|told| told.name == link.name());
            let why = told.filter(|told| !told.joined).and_then(|told| told.reason.as_deref());
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            found.push(error(
                CHECK,
                Some(link.name()),
                format!("{} is not joined there{why}", group.ip()),
                "If pnp.interfaces names others on purpose, all is well; else restart the server. Beyond 20 groups `sysctl net.ipv4.igmp_max_memberships` has to be raised.",
            ));
        }
    }
    for held in &facts.sockets {
        let is_ear = match held.socket.table {
            Table::Udp => held.socket.port == group.port(),
            Table::Raw => held.socket.port == 17,
            Table::Tcp => false,
        };
        if is_ear && held.socket.address == *group.ip() && !held.is_ours() && held.holder.is_some() {
            found.push(warning(
                CHECK,
                None,
                format!(
                    "{} hears {group} as well: two servers may answer the same phone, and the first one wins",
                    held.who()
                ),
                "Switch phone provisioning off in one of the two.",
            ));
        }
    }
    found
}
