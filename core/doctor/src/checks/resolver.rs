//! Whether names can be looked up here, as phones have to do with those that they are told.

use super::{error, warning};
use crate::{Finding, facts::Facts};

const CHECK: &str = "resolver";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(resolver) = &facts.resolver else { return Vec::new() };
    let mut found: Vec<Finding> = Vec::new();
    for name in &resolver.unknown {
        found.push(error(
            CHECK,
            None,
            format!("phones are told the name {name}, and it cannot be looked up here"),
            "Mend public_url or the DNS server, or write an address there.",
        ));
    }
    if resolver.servers.is_empty() {
        let what = "/etc/resolv.conf names no DNS server, so names cannot be looked up on this machine";
        found.push(warning(
            CHECK,
            None,
            what.into(),
            "Name one there (`nameserver …`), or let DHCP or systemd-resolved do so.",
        ));
    } else if resolver.silent.len() == resolver.servers.len() {
        let servers: Vec<String> = resolver.silent.iter().map(ToString::to_string).collect();
        found.push(warning(
            CHECK,
            None,
            format!("no DNS server answers ({})", servers.join(", ")),
            "See that it runs and can be reached (`ping`, `dig`), or name another in /etc/resolv.conf.",
        ));
    }
    found
}
