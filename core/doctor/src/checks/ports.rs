//! Who owns the ports that phones go to.

use super::{error, warning};
use crate::{Finding, facts::Facts, tables::Table};

const CHECK: &str = "ports";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for door in &facts.wanted.doors {
        let table = if door.protocol == 6 { Table::Tcp } else { Table::Udp };
        let transport = if door.protocol == 6 { "TCP" } else { "UDP" };
        let holders = facts.sockets.iter().filter(|held| held.socket.table == table && held.socket.port == door.port);
        // One that only this machine reaches is in no phone's way.
        let holders: Vec<_> = holders.filter(|held| !held.socket.address.is_loopback()).collect();
        if let Some(other) =
            holders.iter().find(|held| !held.is_ours() && (held.holder.is_some() || facts.told.is_none()))
        {
            let setting = door.name.to_lowercase();
            found.push(error(
                CHECK,
                None,
                format!("{transport} {} is held by {}: phones that fetch over {} come to it", door.port, other.who(), door.name),
                format!("Stop it or move it to another port, then restart the server; or give {setting}.port another one, where phones are told of it."),
            ));
        } else if facts.is_running() && holders.is_empty() {
            let told = facts.told.iter().flat_map(|told| &told.doors);
            let why = told
                .filter(|told| told.door.eq_ignore_ascii_case(door.name) && !told.open)
                .find_map(|told| told.reason.clone());
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            found.push(error(
                CHECK,
                None,
                format!("nobody listens on {transport} {}, so phones cannot fetch over {}{why}", door.port, door.name),
                "If the server was started without that door, all is well; else the log of its start says what it lacks. Ports below 1024 need CAP_NET_BIND_SERVICE.",
            ));
        }
    }
    if let Some(told) = &facts.told {
        for door in told.doors.iter().filter(|door| !door.open && door.door != "people") {
            let why = door.reason.as_deref().unwrap_or("the log says why");
            if !found.iter().any(|finding: &Finding| finding.what.contains(&door.door.to_uppercase())) {
                found.push(error(
                    CHECK,
                    None,
                    format!("{} is not open at {}: {why}", door.door, door.address),
                    "What it lacks stands in that sentence; then restart the server.",
                ));
            }
        }
    }
    found.extend(sip(facts));
    found
}

/// Who has port 5060 takes nothing from a raw socket, but keeps a UDP one from being opened.
fn sip(facts: &Facts) -> Option<Finding> {
    let port = facts.wanted.group.port();
    let hears_raw = facts.told.as_ref().and_then(|told| told.pnp.socket.as_deref()) == Some("raw")
        || facts.sockets.iter().any(|held| held.is_ours() && held.socket.table == Table::Raw);
    if !facts.wanted.pnp || hears_raw {
        return None;
    }
    let other = facts.sockets.iter().find(|held| {
        held.socket.table == Table::Udp
            && held.socket.port == port
            && held.socket.address.is_unspecified()
            && !held.is_ours()
    })?;
    Some(warning(
        CHECK,
        None,
        format!(
            "UDP {port} is held by {} on all addresses, and no server of ours hears phones beside it by a raw socket",
            other.who()
        ),
        "Start the server as root or with CAP_NET_RAW and leave pnp.listen at auto: then both live together. Or let the other bind one address instead of 0.0.0.0.",
    ))
}
