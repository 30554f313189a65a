//! Whether the kernel remembers as many neighbours as there are phones.

use super::warning;
use crate::{
    Finding,
    facts::{Facts, Phone},
};

const CHECK: &str = "neighbours";
/// What one would not set it below, whatever the number of phones.
const FEW: u64 = 4096;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(limit) = facts.neighbour_limit else { return Vec::new() };
    let phones = phones_near(facts);
    // Others are neighbours too: the phones' users have computers.
    if phones * 4 <= limit * 3 {
        return Vec::new();
    }
    let there_are = if phones == 1 { "there is 1 phone".to_owned() } else { format!("there are {phones} phones") };
    let more = (phones * 2).next_power_of_two().max(FEW);
    vec![warning(
        CHECK,
        None,
        format!(
            "this machine remembers {limit} neighbours at most, and {there_are} on its own networks: when all of them speak, some get no answer, or no file because nobody knows any more whose address it is"
        ),
        format!(
            "`sysctl -w net.ipv4.neigh.default.gc_thresh3={more} net.ipv4.neigh.default.gc_thresh2={}` (and in /etc/sysctl.d).",
            more / 2
        ),
    )]
}

/// Of all phones, those that no router is before, as far as that is known of those that were looked at.
fn phones_near(facts: &Facts) -> u64 {
    let (mut all, mut near) = (0, 0);
    for address in facts.phones.iter().filter_map(Phone::ipv4) {
        all += 1;
        near += u64::from(facts.fit().any(|link| link.interface.reaches(address)));
    }
    (facts.phones_in_all * near).checked_div(all).unwrap_or(facts.phones_in_all)
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    fn phone(address: &str) -> Phone {
        let (mac, state) = (String::new(), "enrolled".into());
        Phone { mac, address: Some(address.parse().unwrap()), interface: None, state }
    }

    #[test]
    fn only_phones_on_its_own_networks_count() {
        let mut facts = sample::facts();
        (facts.neighbour_limit, facts.phones_in_all) = (Some(1024), 768);
        assert_eq!(check(&facts), []);
        facts.phones_in_all = 3000;
        let found = check(&facts);
        assert!(found[0].what.starts_with("this machine remembers 1024 neighbours at most, and there are 3000 phones"));
        assert!(found[0].do_next.contains("gc_thresh3=8192 net.ipv4.neigh.default.gc_thresh2=4096"), "{found:?}");
        facts.phones = vec![phone("10.200.3.4"), phone("172.31.0.1"), phone("172.31.0.2"), phone("172.31.0.3")];
        assert_eq!(check(&facts), [], "750 of them are near");
        facts.phones.pop();
        assert!(check(&facts)[0].what.contains("there are 1000 phones"));
        facts.neighbour_limit = None;
        assert_eq!(check(&facts), []);
    }
}
