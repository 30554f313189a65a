//! Profile files as this door writes them, and the changes that it makes in files of people without losing a comment.

use std::fmt::Write;

use provost_plugin::{MacAddr, Secret};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::Problem;

/// What a phone becomes.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Assignment {
    /// A name for people.
    pub(crate) label: Option<String>,
    /// Left out, it is the profile whose `match` fits best.
    pub(crate) profile: Option<String>,
    pub(crate) site: Option<String>,
    /// Where the phone does not say it itself, or says it wrongly.
    pub(crate) vendor: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) lines: Vec<Account>,
}

/// An account of a phone. What is left out comes from its profile.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Account {
    pub(crate) number: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) auth_username: Option<String>,
    #[schema(value_type = Option<String>)]
    pub(crate) password: Option<Secret>,
    pub(crate) display_name: Option<String>,
    pub(crate) server: Option<String>,
}

impl Account {
    pub(crate) fn is_something(&self) -> bool {
        let Account { number, username, auth_username, password, display_name, server } = self;
        [number, username, auth_username, display_name, server].into_iter().any(Option::is_some) || password.is_some()
    }
}

impl Assignment {
    /// The file of a device that is this.
    pub(crate) fn yaml(&self, mac: MacAddr) -> String {
        let mut text = format!("devices:\n  \"{mac}\":");
        let mut settings = String::new();
        for (name, value) in [("label", &self.label), ("profile", &self.profile), ("site", &self.site)] {
            if let Some(value) = value {
                let _ = write!(settings, "\n    {name}: {}", quoted(value));
            }
        }
        if self.vendor.is_some() || self.model.is_some() {
            settings.push_str("\n    identity:");
        }
        for (name, value) in [("vendor", &self.vendor), ("model", &self.model)] {
            if let Some(value) = value {
                let _ = write!(settings, "\n      {name}: {}", quoted(value));
            }
        }
        if !self.lines.is_empty() {
            settings.push_str("\n    lines:");
        }
        for line in &self.lines {
            let fields = [
                ("number", line.number.as_deref()),
                ("username", line.username.as_deref()),
                ("auth_username", line.auth_username.as_deref()),
                ("password", line.password.as_ref().map(Secret::expose)),
                ("display_name", line.display_name.as_deref()),
                ("server", line.server.as_deref()),
            ];
            let mut dash = "-";
            for (name, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value?))) {
                let _ = write!(settings, "\n      {dash} {name}: {}", quoted(value));
                dash = " ";
            }
            if dash == "-" {
                settings.push_str("\n      - {}");
            }
        }
        if settings.is_empty() {
            settings.push_str(" {}");
        }
        text.push_str(&settings);
        text.push('\n');
        text
    }
}

/// A string that YAML reads as that string whatever it holds: JSON's, which is YAML's in double quotes.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// `text` with the device of `old` under the MAC `new`; everything else, comments too, stays as it is. `line` is where the device
/// stands, counted from 1.
pub(crate) fn renamed(text: &str, line: u32, old: MacAddr, new: MacAddr) -> Result<String, Problem> {
    let at = text.split_inclusive('\n').take((line as usize).saturating_sub(1)).map(str::len).sum::<usize>();
    let here = text[at..].split_inclusive('\n').next().unwrap_or_default();
    // As somebody wrote it: with colons, dashes or dots, in either case, or bare.
    let is_part = |character: char| character.is_ascii_hexdigit() || ":-.".contains(character);
    let mut start = 0;
    for word in here.split_inclusive(|character| !is_part(character)) {
        // The colon behind a key is not the key's.
        let mac = word.trim_end_matches(|character| !is_part(character)).trim_end_matches(':');
        if mac.parse() == Ok(old) {
            let from = at + start;
            return Ok(format!("{}{}{}", &text[..from], like(mac, new), &text[from + mac.len()..]));
        }
        start += word.len();
    }
    Err(Problem::conflict(format!(
        "the file does not name {old} on line {line} in a form that can be changed; change it by hand"
    )))
}

/// A MAC in the form in which another one is written.
fn like(written: &str, mac: MacAddr) -> String {
    let upper = written.chars().any(|digit| digit.is_ascii_uppercase());
    let mut digits = if upper { mac.bare_upper() } else { mac.bare() };
    let groups: Vec<(usize, char)> =
        written.char_indices().filter(|(_, character)| !character.is_ascii_hexdigit()).collect();
    for (at, separator) in groups {
        digits.insert(at, separator);
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(text: &str) -> MacAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_device_is_written_so_that_any_value_stays_what_it_is() {
        let hostile = "s3<&>\"':#{[\n\\";
        let assignment: Assignment = serde_json::from_value(serde_json::json!({
            "label": "Reception: front", "profile": "office",
            "lines": [{ "number": "0049", "password": hostile }, {}, { "display_name": "on" }],
        }))
        .unwrap();
        let yaml = assignment.yaml(mac("00:04:13:aa:bb:cc"));
        assert!(yaml.starts_with("devices:\n  \"00:04:13:aa:bb:cc\":\n    label: \"Reception: front\"\n"), "{yaml}");
        assert!(yaml.contains("      - number: \"0049\"\n        password: \"s3<&>\\\"':#{[\\n\\\\\"\n"), "{yaml}");
        assert!(!format!("{assignment:?}").contains("s3<"), "a password stays out of every log");
        assert_eq!(Assignment::default().yaml(mac("00:04:13:aa:bb:cc")), "devices:\n  \"00:04:13:aa:bb:cc\": {}\n");
    }

    #[test]
    fn a_device_changes_its_mac_and_nothing_around_it_changes() {
        let (old, new) = (mac("00:04:13:aa:bb:cc"), mac("00:04:13:0d:0e:0f"));
        for (written, expected) in [
            ("00:04:13:AA:bb:cc", "00:04:13:0D:0E:0F"),
            ("\"00:04:13:aa:bb:cc\"", "\"00:04:13:0d:0e:0f\""),
            ("000413aabbcc", "0004130d0e0f"),
            ("00-04-13-aa-bb-cc", "00-04-13-0d-0e-0f"),
            ("'0004.13aa.bbcc'", "'0004.130d.0e0f'"),
        ] {
            let text = |mac: &str| {
                format!("# of 000413aabbcc\ndevices:\n  {mac}: {{ label: a }} # was 000413aabbcc\n  x: y\n")
            };
            assert_eq!(renamed(&text(written), 3, old, new).unwrap(), text(expected), "{written}");
        }
        assert!(renamed("devices:\n  {}\n", 2, old, new).is_err());
        assert!(renamed("", 9, old, new).is_err());
    }
}
