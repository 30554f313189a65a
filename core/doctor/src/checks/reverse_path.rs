//! Whether the kernel's reverse-path filter throws away what phones send.

use super::error;
use crate::{Finding, facts::Facts};

const CHECK: &str = "reverse-path";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let found = facts.not_believed.iter().filter_map(|refused| {
        let link = facts.links.iter().find(|link| link.name() == refused.interface && link.reverse_path != 0)?;
        let name = link.name();
        let back = match &refused.back {
            Some(other) => format!("the way back to it goes out at {other}"),
            None => "there is no way back to it".into(),
        };
        let mode = if link.reverse_path == 1 { "strict" } else { "loose" };
        Some(error(
            CHECK,
            Some(name),
            format!("the {mode} reverse-path filter (rp_filter={}) drops what {} sends: {back}", link.reverse_path, refused.from),
            format!("Mend the route, so that the phones' network is reached by {name}; or `sysctl net.ipv4.conf.{name}.rp_filter=2` (the larger of it and `conf.all` counts)."),
        ))
    });
    found.collect()
}
