//! Whether the phones that were seen are in networks of this machine.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use super::warning;
use crate::{Finding, facts::Facts};

const CHECK: &str = "subnet";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let is_near =
        |address: Ipv4Addr| address.is_loopback() || facts.links.iter().any(|link| link.interface.reaches(address));
    for told in facts.told.iter().flat_map(|told| &told.interfaces) {
        let last = told.last_from.as_ref().and_then(|from| from.parse::<SocketAddr>().ok());
        let Some(IpAddr::V4(from)) = last.map(|from| from.ip()) else { continue };
        if is_near(from) || facts.wanted.off_link {
            continue;
        }
        found.push(warning(
            CHECK,
            Some(&told.name),
            format!("a phone speaks there from {from}, which is in none of this machine's networks, so it gets no answer"),
            "Give this machine an address in the phones' network there, or the phones one in its; `pnp.off_link: true` answers them by the routes there are.",
        ));
    }
    let mut far: BTreeMap<Ipv4Addr, Vec<&str>> = BTreeMap::new();
    for phone in &facts.phones {
        if let Some(IpAddr::V4(address)) = phone.address
            && !is_near(address)
        {
            let network = Ipv4Addr::from(u32::from(address) & 0xffff_ff00);
            far.entry(network).or_default().push(phone.mac.as_str());
        }
    }
    for (network, phones) in far {
        let count = phones.len();
        let who = if count == 1 { format!("the phone {} was", phones[0]) } else { format!("{count} phones were") };
        found.push(warning(
            CHECK,
            None,
            format!("{who} seen in {network}/24, which is none of this machine's networks: multicast does not cross routers, so PnP does not reach there"),
            "Let the DHCP server there tell phones the URL (option 66, or what their vendor's README names), or give this machine a leg in that network or VLAN.",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};
    use crate::facts::Phone;

    #[test]
    fn phones_beyond_a_router_are_counted_by_their_network() {
        let mut facts = sample::facts();
        let phone =
            |mac: &str, address: &str| Phone { mac: mac.into(), address: address.parse().ok(), ..Phone::default() };
        facts.phones =
            vec![phone("a", "10.200.9.9"), phone("b", "10.30.0.1"), phone("c", "10.30.0.2"), phone("d", "127.0.0.1")];
        let found = check(&facts);
        assert_eq!(found.len(), 1);
        assert!(found[0].what.starts_with("2 phones were seen in 10.30.0.0/24"), "{found:?}");
    }
}
