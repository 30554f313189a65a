//! ISC dhcpd: one chain of conditions, of which the first that holds counts.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{Advice, Group, hex};

pub(super) fn write(advice: &Advice) -> String {
    let mut text = advice.head(&[
        "For ISC dhcpd: save this as /etc/dhcp/provost.conf, write include \"/etc/dhcp/provost.conf\"; into dhcpd.conf above the subnets, and",
        "restart dhcpd. Options that a subnet has itself stand above these.",
    ]);
    let codes: BTreeSet<u8> = advice.groups.iter().flat_map(|group| group.told.iter().map(|told| told.code)).collect();
    text.push('\n');
    for code in codes.into_iter().filter(|code| known(*code).is_none()) {
        let _ = writeln!(text, "option provost-{code} code {code} = text;");
    }
    let mut branches = Vec::new();
    for group in advice.groups.iter().filter(|group| !group.classes.is_empty()) {
        let begins =
            |class: &String| format!("substring(option vendor-class-identifier, 0, {}) = \"{class}\"", class.len());
        branches.push((group, group.classes.iter().map(begins).collect::<Vec<_>>()));
    }
    for group in advice.groups.iter().filter(|group| !group.prefixes.is_empty()) {
        // The first octet of what dhcpd calls hardware is the kind of network.
        let is = |prefix: &Vec<u8>| format!("substring(hardware, 1, {}) = {}", prefix.len(), hex(prefix, ":"));
        branches.push((group, group.whole_prefixes().iter().map(is).collect()));
    }
    for (index, (group, tests)) in branches.iter().enumerate() {
        let word = if index == 0 { "if" } else { "} elsif" };
        let _ = writeln!(text, "{word} {} {{\n{}", tests.join("\n    or "), options(group));
    }
    let mut everybody = format!("option tftp-server-name \"{}\";\n", advice.base);
    if !branches.is_empty() {
        text.push_str("}\n");
        everybody = format!("else {{\n  {everybody}}}\n");
    }
    text + &advice.for_everybody(&everybody)
}

fn options(group: &Group) -> String {
    let mut lines = vec![format!("  # {}", group.vendor)];
    for told in &group.told {
        if let Some(holds) = &told.holds {
            lines.push(format!("  # {holds}"));
        }
        let name = known(told.code).map_or_else(|| format!("provost-{}", told.code), str::to_owned);
        let value = match &told.text {
            Some(text) => format!("\"{text}\""),
            None => hex(&told.octets, ":"),
        };
        lines.push(format!("  option {name} {value};"));
    }
    lines.join("\n")
}

/// The names that dhcpd has for options, of those that a vendor may set.
fn known(code: u8) -> Option<&'static str> {
    match code {
        43 => Some("vendor-encapsulated-options"),
        66 => Some("tftp-server-name"),
        67 => Some("bootfile-name"),
        114 => Some("default-url"),
        _ => None,
    }
}
