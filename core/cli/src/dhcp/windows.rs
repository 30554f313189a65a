//! The DHCP service of Windows Server, as PowerShell.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{Advice, Told};

pub(super) fn write(advice: &Advice) -> String {
    let mut text = advice.head(&[
        "For Windows Server 2012 or later: run this in PowerShell as an administrator of the DHCP server. It was not tried on one.",
        "Policies are tried in their order, of which that with the smaller number stands above.",
    ]);
    let mut codes: BTreeSet<u8> =
        advice.groups.iter().flat_map(|group| group.told.iter().map(|told| told.code)).collect();
    // It has these itself.
    codes.retain(|code| !matches!(code, 43 | 66 | 67));
    text.push('\n');
    for code in codes {
        let _ = writeln!(text, "Add-DhcpServerv4OptionDefinition -OptionId {code} -Name 'Provost {code}' -Type String");
    }
    let policy = |text: &mut String, name: &str, condition: &str, told: &[Told]| {
        let _ = writeln!(text, "Add-DhcpServerv4Policy -Name '{name}' -Condition OR {condition}");
        for told in told {
            let _ = writeln!(
                text,
                "Set-DhcpServerv4OptionValue -PolicyName '{name}' -OptionId {} -Value {}",
                told.code,
                value(told)
            );
        }
    };
    // All that option 60 tells come first: so they stand above the MAC.
    for group in advice.groups.iter().filter(|group| !group.classes.is_empty()) {
        let name = format!("Provost {}", group.name);
        let _ = writeln!(text, "\n# {}", group.who());
        let mut names = Vec::new();
        for (index, class) in group.classes.iter().enumerate() {
            let class_name = format!("{name} {}", index + 1);
            let _ = writeln!(text, "Add-DhcpServerv4Class -Name '{class_name}' -Type Vendor -Data '{class}'");
            names.push(format!("'{class_name}*'"));
        }
        policy(&mut text, &name, &format!("-VendorClass EQ,{}", names.join(",")), &group.told);
    }
    for group in advice.groups.iter().filter(|group| !group.prefixes.is_empty()) {
        let prefixes: Vec<_> = group.prefixes.iter().map(|prefix| format!("'{prefix}*'")).collect();
        let _ = writeln!(text, "\n# {}", group.who());
        policy(
            &mut text,
            &format!("Provost {} by MAC", group.name),
            &format!("-MacAddress EQ,{}", prefixes.join(",")),
            &group.told,
        );
    }
    let everybody = format!("Set-DhcpServerv4OptionValue -OptionId 66 -Value '{}'\n", advice.base);
    text + &advice.for_everybody(&everybody)
}

fn value(told: &Told) -> String {
    match &told.text {
        Some(text) => format!("'{text}'"),
        None => told.octets.iter().map(|octet| format!("0x{octet:02x}")).collect::<Vec<_>>().join(","),
    }
}
