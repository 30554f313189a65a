//! dnsmasq. Option 60 is matched in hexadecimal: `dhcp-vendorclass` would find the text anywhere in it, and not only at its beginning.
//! Behind the text of option 66 it puts a NUL, however it is written, as it does in every field of BOOTP; that is the end of a text there.

use std::fmt::Write as _;

use super::{Advice, hex};

pub(super) fn write(advice: &Advice) -> String {
    let mut text = advice.head(&["For dnsmasq: save this as /etc/dnsmasq.d/provost.conf, and restart dnsmasq."]);
    let mut phones = String::new();
    let mut others = String::new();
    for group in &advice.groups {
        let tag = format!("provost-{}", group.name);
        let _ = writeln!(text, "\n# {}", group.who());
        for class in &group.classes {
            let _ = writeln!(text, "dhcp-match=set:{tag},60,{}", hex(class.as_bytes(), ":"));
        }
        for prefix in group.whole_prefixes() {
            let rest = ":*".repeat(6 - prefix.len());
            let _ = writeln!(text, "dhcp-mac=set:{tag}-mac,{}{rest}", hex(&prefix, ":"));
        }
        for told in &group.told {
            if let Some(holds) = &told.holds {
                let _ = writeln!(text, "# {holds}");
            }
            let value = match &told.text {
                Some(text) => format!("\"{text}\""),
                None => hex(&told.octets, ":"),
            };
            let _ = writeln!(text, "dhcp-option=tag:{tag},{},{value}", told.code);
        }
        if !group.classes.is_empty() {
            let _ = writeln!(phones, "tag-if=set:provost-phone,tag:{tag}");
        }
        if !group.prefixes.is_empty() {
            let _ = writeln!(others, "tag-if=set:{tag},tag:{tag}-mac,tag:!provost-phone");
        }
    }
    // Carried out in this order.
    let _ = write!(text, "\n# Whom option 60 has told is not asked for a MAC.\n{phones}{others}");
    text + &advice.for_everybody(&format!("dhcp-option=66,\"{}\"\n", advice.base))
}
