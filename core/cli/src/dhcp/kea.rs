//! ISC Kea: members of `Dhcp4`. Values are given as octets (`csv-format` false), so that no option has to be defined that the site may have
//! defined already.

use super::{Advice, Told, hex};

pub(super) fn write(advice: &Advice) -> String {
    let mut text = advice.head(&[
        "For Kea: save this as /etc/kea/provost.json, write <?include \"/etc/kea/provost.json\"?>, (with the comma) as first member of \"Dhcp4\"",
        "in kea-dhcp4.conf, and reload. If there are \"client-classes\" already, put the ones below among them instead. Options that a subnet",
        "has itself stand above those of a class.",
    ]);
    let begins = |class: &str| format!("substring(option[60].hex, 0, {}) == '{class}'", class.len());
    let known: Vec<String> = advice.classes().map(begins).collect();
    let mut classes = Vec::new();
    if !known.is_empty() {
        classes.push(format!(
            "  # Whom option 60 has told is not asked for a MAC.\n  {{ \"name\": \"provost-phone\",\n    \"test\": {} }}",
            quoted(&known.join(" or "))
        ));
    }
    for group in &advice.groups {
        let mut tests: Vec<String> = group.classes.iter().map(|class| begins(class)).collect();
        let prefixes: Vec<String> = group
            .whole_prefixes()
            .iter()
            .map(|prefix| format!("substring(pkt4.mac, 0, {}) == 0x{}", prefix.len(), hex(prefix, "")))
            .collect();
        if !prefixes.is_empty() {
            let prefixes = prefixes.join(" or ");
            tests.push(if known.is_empty() {
                prefixes
            } else {
                format!("(not member('provost-phone') and ({prefixes}))")
            });
        }
        let mut remarks = format!("  # {}\n", group.who());
        for holds in group.told.iter().filter_map(|told| told.holds.as_ref()) {
            remarks.push_str(&format!("  # {holds}\n"));
        }
        let data: Vec<String> = group.told.iter().map(option).collect();
        classes.push(format!(
            "{remarks}  {{ \"name\": \"provost-{}\",\n    \"test\": {},\n    \"option-data\": [\n      {}\n    ] }}",
            group.name,
            quoted(&tests.join(" or ")),
            data.join(",\n      ")
        ));
    }
    text.push_str(&format!("\n\"client-classes\": [\n{}\n]\n", classes.join(",\n")));
    let everybody = Told::text(66, &advice.base);
    text + &advice.for_everybody(&format!(", \"option-data\": [ {} ]\n", option(&everybody)))
}

fn option(told: &Told) -> String {
    let data = match &told.text {
        Some(text) => format!("'{text}'"),
        None => hex(&told.octets, ""),
    };
    format!("{{ \"code\": {}, \"csv-format\": false, \"data\": {} }}", told.code, quoted(&data))
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
