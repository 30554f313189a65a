//! Whether a bridge of this machine snoops IGMP while nobody asks for members; and, where somebody listened for it, whether anybody asks
//! in the networks of others, whose switches tell nothing of themselves.

use super::warning;
use crate::{
    Finding,
    facts::{Facts, Link},
};

const CHECK: &str = "snooping";
/// How often a querier asks that nobody has told otherwise (RFC 3376, 8.2).
const USUAL: u64 = 125;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let is_silent = |link: &&Link| {
        link.bridge.as_ref().is_some_and(|bridge| bridge.snoops && !bridge.asks && bridge.asked_by.is_none())
    };
    // A bridge that nobody is on, and one that is only there for others, harms no phone.
    let carries_phones = |link: &&Link| {
        let is_fit = facts.fit().any(|fit| fit.name() == link.name());
        is_fit && link.carrier && facts.links.iter().any(|port| port.part_of.as_deref() == Some(link.name()))
    };
    let found = facts.links.iter().filter(is_silent).filter(carries_phones).map(|link| {
        let name = link.name();
        warning(
            CHECK,
            Some(name),
            "this bridge snoops IGMP, and no querier was heard: switches that do so forget after some minutes who is in the group, and phones are heard no more".into(),
            format!("`ip link set {name} type bridge mcast_querier 1`, or switch snooping off (`mcast_snooping 0`); on a switch enable the IGMP querier of the phones' VLAN."),
        )
    });
    found.chain(unasked(facts)).collect()
}

fn unasked(facts: &Facts) -> Vec<Finding> {
    let Some(listened) = &facts.listened else { return Vec::new() };
    let is_asked = |link: &&Link| listened.queries.iter().any(|query| query.interface == link.interface.index);
    // Of a bridge of ours that snoops, the kernel knows more.
    let ours = |link: &&Link| link.bridge.as_ref().is_some_and(|bridge| bridge.snoops);
    let silent = facts.beyond().filter(|link| !is_asked(link) && !ours(link));
    let longer = match listened.seconds > USUAL {
        true => String::new(),
        false => format!(
            " A querier asks every {USUAL} s by default, so listen for longer first: `provost doctor --listen`."
        ),
    };
    let found = silent.map(|link| {
        warning(
            CHECK,
            Some(link.name()),
            format!("no IGMP query was heard there in {} s: a switch that snoops IGMP while nobody asks for members forgets after some 260 s who is in the group, and phones are heard no more", listened.seconds),
            format!("Enable the IGMP querier of the phones' VLAN on one switch or router, or switch snooping off there. Where no switch snoops, all is well.{longer}"),
        )
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};
    use crate::facts::Listened;

    #[test]
    fn a_short_while_proves_nothing_and_says_so() {
        let mut facts = sample::facts();
        assert_eq!(check(&facts), []);
        facts.listened = Some(Listened { seconds: 3, queries: Vec::new() });
        assert!(check(&facts)[0].do_next.contains("listen for longer first"));
        facts.listened = Some(Listened { seconds: 130, queries: Vec::new() });
        assert!(check(&facts)[0].what.contains("in 130 s") && !check(&facts)[0].do_next.contains("longer"));
        facts.links[0].carrier = false;
        assert_eq!(check(&facts), []);
    }
}
