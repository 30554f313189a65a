//! RouterOS. It knows clients by option 60, but not by a prefix of their MAC: those that tell no class are given their options by their
//! leases.

use std::fmt::Write as _;

use super::{Advice, Told, hex};

pub(super) fn write(advice: &Advice) -> String {
    let mut text = advice.head(&[
        "For RouterOS 7.16 or later: put the name of your DHCP server in the place of dhcp1, and paste this into a terminal. It was not tried on",
        "a router. Phones that only their MAC tells are given their options by their leases, so repeat the lines of /ip dhcp-server lease when",
        "such phones have come.",
    ]);
    let (mut sets, mut matchers, mut leases) = (String::new(), String::new(), String::new());
    text.push_str("\n/ip dhcp-server option\n");
    for group in &advice.groups {
        let name = format!("provost-{}", group.name);
        let _ = writeln!(text, "# {}", group.who());
        let mut options = Vec::new();
        for told in &group.told {
            if let Some(holds) = &told.holds {
                let _ = writeln!(text, "# {holds}");
            }
            let option = format!("{name}-{}", told.code);
            let _ = writeln!(text, "add name={option} code={} value={}", told.code, value(told));
            options.push(option);
        }
        let _ = writeln!(sets, "add name={name} options={}", options.join(","));
        for (index, class) in group.classes.iter().enumerate() {
            let _ = writeln!(
                matchers,
                "add server=dhcp1 name={name}-{} code=60 matching-type=substring value=\"{}\" option-set={name}",
                index + 1,
                escaped(class)
            );
        }
        let prefixes: Vec<String> =
            group.whole_prefixes().iter().map(|prefix| hex(prefix, ":").to_uppercase()).collect();
        if !prefixes.is_empty() {
            let which = format!("mac-address~\"^({})\"", prefixes.join("|"));
            let _ = writeln!(
                leases,
                "make-static [find dynamic {which}]\nset [find !dynamic {which}] dhcp-option-set={name}"
            );
        }
    }
    let everybody = Told::text(66, &advice.base);
    let everybody = format!(
        "/ip dhcp-server option add name=provost code=66 value={}\n/ip dhcp-server option sets add name=provost options=provost\n\
         /ip dhcp-server network set [find] dhcp-option-set=provost\n",
        value(&everybody)
    );
    let _ = write!(
        text,
        "\n/ip dhcp-server option sets\n{sets}\n/ip dhcp-server matcher\n{matchers}\n/ip dhcp-server lease\n{leases}"
    );
    text + &advice.for_everybody(&everybody)
}

fn value(told: &Told) -> String {
    match &told.text {
        Some(text) => format!("\"'{}'\"", escaped(text)),
        None => format!("0x{}", hex(&told.octets, "")),
    }
}

/// Between double quotes a dollar sign would begin a variable, and a question mark ask for help.
fn escaped(text: &str) -> String {
    text.replace('$', "\\$").replace('?', "\\?")
}
