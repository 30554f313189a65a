//! Whether a SUBSCRIBE that was sent to the group came back, to us and to the server.

use super::error;
use crate::{
    Finding,
    facts::{Echo, Facts},
};

const CHECK: &str = "echo";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let group = facts.wanted.group;
    let lost = facts.echoes.iter().filter_map(|(interface, echo)| match echo {
        Echo::CameBack => None,
        Echo::Lost => Some(error(
            CHECK,
            Some(interface),
            format!("a SUBSCRIBE that was sent to {group} there did not come back: something on this machine drops it"),
            "Look at what is said of the firewall (`nft list ruleset`, `iptables-save`), and at rules that are not read here: eBPF, `tc filter show`, security modules.",
        )),
        Echo::NotSent(why) => Some(error(
            CHECK,
            Some(interface),
            format!("a SUBSCRIBE could not be sent to {group} there: {why}"),
            "\"Operation not permitted\" is a firewall's rule for what goes out; else look at the interface's addresses and routes.",
        )),
    });
    let unheard = facts.unheard.iter().map(|interface| {
        error(
            CHECK,
            Some(interface),
            format!("a SUBSCRIBE that was sent to {group} there came back, but the server did not hear it"),
            "Restart the server; if it stays so, its log with `--log debug` says what it drops.",
        )
    });
    lost.chain(unheard).collect()
}
