//! Devices as their sections are written: taken out of a file, and out of service, for whoever writes them elsewhere.

use std::sync::Arc;

use provost_plugin::MacAddr;
use serde_json::{Map, Value as Json};

use crate::{
    Device, Problem,
    document::{self, checked},
    node::{Node, Value},
    shape,
};

/// A device of a file that is in no service.
#[derive(Clone)]
pub struct WrittenDevice {
    pub mac: MacAddr,
    /// Where it stands, counted from 1.
    pub line: u32,
    /// What stands below its MAC; passwords in the clear.
    pub section: Json,
}

// The section holds passwords.
impl std::fmt::Debug for WrittenDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at line {}", self.mac, self.line)
    }
}

/// The devices of a profile file that holds nothing else, or everything that is wrong with it. `shown` is what the file is called.
pub fn devices_of(shown: &str, bytes: &[u8]) -> Result<Vec<WrittenDevice>, Vec<Problem>> {
    let file: Arc<str> = shown.into();
    let (root, mut problems) = checked(&file, bytes, &shape::DOCUMENT);
    let mut devices = Vec::new();
    for (key, node) in root.map(Node::into_entries).unwrap_or_default() {
        if key.as_str() != "devices" {
            let message =
                format!("only \"devices\" can be imported; \"{}\" belongs into a file under profiles/", key.as_str());
            problems.push(Problem::error(&file, node.line, node.column, message));
            continue;
        }
        for (mac, node) in node.into_entries() {
            let Ok(mac) = mac.as_str().parse() else { continue };
            devices.push(WrittenDevice { mac, line: node.line, section: json(&node) });
        }
    }
    problems.retain(Problem::is_error);
    problems.sort_by_key(|problem| (problem.line, problem.column));
    if problems.is_empty() { Ok(devices) } else { Err(problems) }
}

impl Device {
    /// What stands below its MAC, as it could be written again; passwords in the clear.
    pub fn section(&self) -> Json {
        let mut section = Map::new();
        let own = [
            ("label", self.label()),
            ("location", self.location()),
            ("profile", self.profile()),
            ("site", self.site()),
        ];
        section.extend(own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Json::from(value?)))));
        if !self.is_enabled() {
            section.insert("enabled".into(), Json::Bool(false));
        }
        let stated: Map<String, Json> = document::stated(self)
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), Json::from(value?))))
            .collect();
        if !stated.is_empty() {
            section.insert("identity".into(), Json::Object(stated));
        }
        if let Json::Object(settings) = json(&self.settings) {
            section.extend(settings);
        }
        Json::Object(section)
    }
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Switch(on) => Json::Bool(*on),
        Value::Integer(number) => Json::from(*number),
        Value::Number(number) => Json::from(*number),
        Value::Text(text) => Json::from(&**text),
        Value::Refer(refer) => refer.json(),
        Value::Map(entries) => entries.iter().map(|(key, node)| (key.as_str().to_owned(), json(node))).collect(),
        Value::List(items) => items.iter().map(json).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_taken_out_as_they_are_written() {
        let text = "devices:\n  0004.13aa.bbcc:\n    label: 0049\n    lines: [{ number: 0101, port: 5070, password: 'a: #b' }]\n  02acde000001:\n";
        let devices = devices_of("phones.yaml", text.as_bytes()).unwrap();
        assert_eq!((devices.len(), devices[0].line, devices[1].line), (2, 2, 5));
        let wanted =
            serde_json::json!({ "label": "0049", "lines": [{ "number": "0101", "port": 5070, "password": "a: #b" }] });
        assert_eq!(devices[0].section, wanted);
        assert!(!format!("{devices:?}").contains("#b"));
    }

    #[test]
    fn whatever_else_a_file_holds_is_told_with_its_line() {
        let text = "defaults: { sip: { server: pbx } }\ndevices:\n  nonsense: {}\n  02acde000001: { lnies: [] }\n";
        let problems = devices_of("phones.yaml", text.as_bytes()).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(
            told[0].starts_with("phones.yaml:1:") && told[0].contains("belongs into a file under profiles/"),
            "{told:?}"
        );
        assert!(
            told[1].starts_with("phones.yaml:3:") && told[2].contains("phones.yaml:4:") && told[2].contains("lines"),
            "{told:?}"
        );
    }
}
