//! Whether interfaces are up, plugged in, able to do multicast, and have addresses.

use super::{error, warning};
use crate::{
    Finding,
    facts::{Facts, Link},
};

const CHECK: &str = "links";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let named = &facts.wanted.interfaces;
    let mut found: Vec<Finding> = facts.links.iter().filter_map(|link| one(link, named)).collect();
    for name in named.iter().filter(|name| !facts.links.iter().any(|link| link.name() == *name)) {
        found.push(error(
            CHECK,
            Some(name),
            "pnp.interfaces names it, and there is no such interface".into(),
            format!("Mend pnp.interfaces, or bring it into being; there are {}.", names(facts)),
        ));
    }
    if found.is_empty() && facts.fit().next().is_none() {
        found.push(error(
            CHECK,
            None,
            "there is no interface on which phones could be heard".into(),
            "Give an interface an IPv4 address and bring it up (`ip address add …`, `ip link set … up`).",
        ));
    }
    found
}

fn names(facts: &Facts) -> String {
    facts.links.iter().map(Link::name).collect::<Vec<_>>().join(", ")
}

/// What is unused is no fault: only what is named, or has been given an address.
fn one(link: &Link, named: &[String]) -> Option<Finding> {
    let (interface, name) = (&link.interface, link.name());
    let is_named = named.iter().any(|known| known == name);
    if link.loopback || (!named.is_empty() && !is_named) {
        return None;
    }
    let has_address = !interface.addresses.is_empty();
    if !interface.up {
        return (is_named || has_address).then(|| {
            error(
                CHECK,
                Some(name),
                "it is down, so no phone is heard there".into(),
                format!("`ip link set {name} up`, and in the network's configuration, so that it stays."),
            )
        });
    }
    // A bridge without ports that are in use, as container engines keep them, is waiting for somebody.
    if !link.carrier && (is_named || has_address && link.bridge.is_none()) {
        return Some(error(
            CHECK,
            Some(name),
            "it is up, but there is nothing at the other end of its cable".into(),
            "Look at the cable and at the switch's port; `ip link show` has NO-CARRIER until both are good.",
        ));
    }
    if !has_address {
        // A port of a bridge, or one that only carries VLANs, has none of its own.
        let needs_none = link.part_of.is_some() || !link.carries.is_empty() || !link.broadcast || !link.carrier;
        let what = "it has no IPv4 address, so no phone is heard or answered there";
        let how = format!("Give it one in the phones' network (`ip address add … dev {name}`, or DHCP).");
        return match (is_named, needs_none) {
            (true, _) => Some(error(CHECK, Some(name), what.into(), how)),
            (false, false) => Some(warning(
                CHECK,
                Some(name),
                what.into(),
                format!("{how} Where no phones are, leave it, or name the others in pnp.interfaces."),
            )),
            (false, true) => None,
        };
    }
    if !interface.multicast && (is_named || link.broadcast) {
        return Some(error(
            CHECK,
            Some(name),
            "multicast is switched off there, so phones' announcements are not heard".into(),
            format!("`ip link set {name} multicast on`"),
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    fn found(change: impl FnOnce(&mut Facts)) -> Vec<String> {
        let mut facts = sample::facts();
        change(&mut facts);
        check(&facts).iter().map(|finding| finding.what.clone()).collect()
    }

    #[test]
    fn what_is_unused_is_no_fault() {
        let unused = |facts: &mut Facts| {
            let mut spare = sample::link("eth1", 3, "10.9.0.1");
            spare.interface.addresses.clear();
            spare.interface.up = false;
            let mut port = sample::link("eth2", 4, "10.9.0.1");
            port.interface.addresses.clear();
            port.part_of = Some("br0".into());
            let mut empty = sample::link("docker0", 5, "172.17.0.1");
            (empty.carrier, empty.bridge) = (false, Some(Default::default()));
            let mut tunnel = sample::link("wg0", 6, "10.99.0.1");
            (tunnel.interface.multicast, tunnel.broadcast) = (false, false);
            facts.links.extend([spare, port, empty, tunnel]);
        };
        assert_eq!(found(unused), [""; 0]);
    }

    #[test]
    fn what_is_named_has_to_be_good() {
        assert_eq!(found(|facts| facts.wanted.interfaces = vec!["eth9".into()]).len(), 1);
        let down = |facts: &mut Facts| {
            facts.wanted.interfaces = vec!["eth0".into()];
            facts.links[0].interface.up = false;
            facts.links[0].interface.addresses.clear();
        };
        assert_eq!(found(down), ["it is down, so no phone is heard there"]);
        assert_eq!(found(|facts| facts.links.clear()), ["there is no interface on which phones could be heard"]);
    }
}
