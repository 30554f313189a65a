//! Our own profile form: a document with `devices` and nothing else.

use std::fmt::Write;

use provost_plugin::MacAddr;
use provost_server::world::World;
use serde_json::Value;

use super::{Drafts, Wanted};

/// The order in which a person looks for things; whatever is not here follows by name.
const ORDER: [&str; 24] = [
    "position",
    "kind",
    "label",
    "location",
    "profile",
    "site",
    "enabled",
    "identity",
    "number",
    "username",
    "auth_username",
    "password",
    "value",
    "display_name",
    "server",
    "port",
    "transport",
    "line",
    "vendor",
    "model",
    "sip",
    "lines",
    "keys",
    "expansion",
];

pub(super) fn read(bytes: &[u8], wanted: &Wanted) -> Drafts {
    let mut drafts = Drafts::default();
    match provost_fleet::devices_of("the file", bytes) {
        Err(problems) => {
            for problem in problems {
                drafts.blame(format!("line {}, column {}", problem.line, problem.column), problem.message);
            }
        }
        Ok(devices) => {
            for device in devices {
                let place = format!("line {}", device.line);
                if let Some(mac) = drafts.mac(&device.mac.to_string(), place.clone(), wanted) {
                    drafts.add(mac, place, device.section);
                }
            }
        }
    }
    drafts
}

/// All phones of the inventory, as [`read`] takes them.
pub(super) fn written(world: &World) -> Vec<u8> {
    let mut text = String::from("devices:");
    for (mac, device) in world.fleet.devices() {
        entry(&mut text, mac, &device.section());
    }
    if world.fleet.is_empty() {
        text.push_str(" {}");
    }
    text.push('\n');
    text.into_bytes()
}

/// The file of one device.
pub(super) fn file(mac: MacAddr, device: &Value) -> String {
    let mut text = String::from("devices:");
    entry(&mut text, mac, device);
    text.push('\n');
    text
}

fn entry(text: &mut String, mac: MacAddr, device: &Value) {
    let _ = write!(text, "\n  \"{mac}\":");
    block(text, device, 4);
}

/// What follows a key or a dash.
fn block(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let mut entries: Vec<_> = map.iter().collect();
            let rank = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
            entries.sort_by_key(|(name, _)| (rank(name), *name));
            for (name, value) in entries {
                let _ = write!(text, "\n{:indent$}{}:", "", key(name));
                block(text, value, indent + 2);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for item in items {
                let _ = write!(text, "\n{:indent$}-", "");
                let mut inner = String::new();
                block(&mut inner, item, indent + 2);
                // The first key stands beside the dash.
                let own = inner.trim_start_matches('\n').trim_start_matches(' ');
                let _ = write!(text, " {own}");
            }
        }
        // JSON's scalars and empty lists are YAML's; a string in double quotes is that string whatever it holds.
        other => {
            let _ = write!(text, " {other}");
        }
    }
}

/// A key that no reader of YAML takes for a truth value, a number or nothing.
fn key(name: &str) -> String {
    let plain = name.len() > 3 && name.bytes().all(|letter| letter.is_ascii_lowercase() || letter == b'_');
    let plain = plain && !["null", "true", "false"].contains(&name) || ["sip", "pc", "ntp", "qos"].contains(&name);
    if plain { name.to_owned() } else { Value::from(name).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_device_says_is_read_back_as_it_was() {
        let device = serde_json::json!({
            "label": "Front: desk # 1", "enabled": false, "time": { "ntp": ["a", "b"] }, "vlan": { "voice": { "id": 20 } },
            "lines": [{ "position": 1, "number": "0049", "password": "s3<&>\"':#{[\n\\\u{2028}é" }, {}],
            "keys": [{ "kind": "blf", "value": "~", "position": 3 }], "expansion": [{ "keys": [{ "kind": "line", "position": 1 }] }],
            "vendor": { "acme": { "on": "no", "x.y[1]": true, "null": 1 } },
        });
        let mac: MacAddr = "02acde000001".parse().unwrap();
        let text = file(mac, &device);
        let read = provost_fleet::devices_of("x.yaml", text.as_bytes())
            .unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
        assert_eq!((read[0].mac, &read[0].section), (mac, &device), "{text}");
        assert!(
            text.starts_with(
                "devices:\n  \"02:ac:de:00:00:01\":\n    label: \"Front: desk # 1\"\n    enabled: false\n"
            ),
            "{text}"
        );
        assert!(text.contains("\n    lines:\n      - position: 1\n        number: \"0049\"\n"), "{text}");
        assert_eq!(file(mac, &serde_json::json!({})), "devices:\n  \"02:ac:de:00:00:01\": {}\n");
    }
}
