//! What DHCP tells a vendor's phones, for `provost dhcp`: how they are told from other clients, and which options they take.
//!
//! Knows no DHCP server: what is here is what RFC 2132 has, and the program writes it in each server's own words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Some of a vendor's phones, and the options that they are to get.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DhcpGroup {
    /// What their vendor class identifier (option 60) begins with. Empty: they tell none, or nobody knows it.
    #[serde(default)]
    pub class: Vec<String>,
    /// Whether also those are meant that tell no such class and have one of the vendor's MAC prefixes (`ouis`).
    #[serde(default = "yes")]
    pub by_mac: bool,
    /// In the order in which the phones look at them.
    pub options: Vec<DhcpOption>,
}

fn yes() -> bool {
    true
}

/// An option with its value, or option 43 with what is in it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DhcpOption {
    /// 66, 67, 114, or 128 to 254; 43 with `sub`.
    pub code: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<DhcpValue>,
    /// Encapsulated options (RFC 2132, section 8.4).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sub: Vec<DhcpSubOption>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DhcpSubOption {
    pub code: u8,
    pub value: DhcpValue,
}

/// A text, in which `{base}` is the server's URL with a slash at its end and `{server}` the same without; everything else is for the
/// phone to understand. Or true or false: one octet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DhcpValue {
    Flag(bool),
    Text(String),
}

impl DhcpValue {
    /// As it goes over the wire, of a server at this URL.
    pub fn octets(&self, base: &str) -> Vec<u8> {
        match self {
            DhcpValue::Flag(flag) => vec![u8::from(*flag)],
            DhcpValue::Text(text) => expand(text, base).into_bytes(),
        }
    }
}

impl DhcpOption {
    /// As it goes over the wire, without code and length. None where it does not fit into the 255 octets that there are.
    pub fn octets(&self, base: &str) -> Option<Vec<u8>> {
        let mut octets = self.value.as_ref().map(|value| value.octets(base)).unwrap_or_default();
        for sub in &self.sub {
            let value = sub.value.octets(base);
            octets.extend([sub.code, u8::try_from(value.len()).ok()?]);
            octets.extend(value);
        }
        (octets.len() <= 255).then_some(octets)
    }

    /// Its value as people read it, where it is text.
    pub fn text(&self, base: &str) -> Option<String> {
        match self.value.as_ref()? {
            DhcpValue::Text(text) => Some(expand(text, base)),
            DhcpValue::Flag(_) => None,
        }
    }
}

fn expand(text: &str, base: &str) -> String {
    text.replace("{base}", base).replace("{server}", base.trim_end_matches('/'))
}

/// Characters that keep their meaning between the quotes of every DHCP server.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.chars().all(|c| (' '..='~').contains(&c) && !"\"'\\`".contains(c))
}

/// What is wrong with a vendor's groups: keys that lead there from `dhcp`, and a sentence.
pub(crate) fn complaints(groups: &[DhcpGroup], has_ouis: bool) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut by_mac = 0;
    for (index, group) in groups.iter().enumerate() {
        let mut refuse = |at: &[String], message: String| {
            let at = std::iter::once(index.to_string()).chain(at.iter().cloned()).collect();
            found.push((at, message));
        };
        let key = |name: &str| name.to_owned();
        by_mac += usize::from(group.by_mac && has_ouis);
        if group.by_mac && has_ouis && by_mac > 1 {
            let why = "a MAC prefix can tell only one group of \"dhcp\": the others need by_mac: false";
            refuse(&[key("by_mac")], why.into());
        }
        if group.class.is_empty() && !(group.by_mac && has_ouis) {
            refuse(&[], "this group of \"dhcp\" is for nobody: it has no class, and no MAC prefix tells it".into());
        }
        for (which, class) in group.class.iter().enumerate() {
            if !is_plain(class) || !(3..=64).contains(&class.len()) {
                let why = format!("the class \"{class}\" is not plain text of 3 to 64 characters without quotes");
                refuse(&[key("class"), which.to_string()], why);
            }
        }
        if group.options.is_empty() {
            refuse(&[key("options")], "this group of \"dhcp\" has no options".into());
        }
        for (which, option) in group.options.iter().enumerate() {
            let code = option.code;
            let at = [key("options"), which.to_string()];
            let values = option.value.iter().chain(option.sub.iter().map(|sub| &sub.value));
            let odd = values.filter_map(|value| match value {
                DhcpValue::Text(text) if !is_plain(text) => Some(text),
                _ => None,
            });
            if let Some(text) = odd.into_iter().next() {
                let why = format!("\"{text}\" is not plain text of 1 to 128 characters without quotes");
                refuse(&at, why);
            }
            if group.options[..which].iter().any(|before| before.code == code) {
                refuse(&at, format!("option {code} is there twice"));
            } else if code == 43 && (option.value.is_some() || option.sub.is_empty()) {
                refuse(&at, "option 43 holds other options: give them under \"sub\"".into());
            } else if code != 43 && (option.value.is_none() || !option.sub.is_empty()) {
                refuse(&at, format!("option {code} needs a \"value\"; only option 43 has \"sub\""));
            } else if !matches!(code, 43 | 66 | 67 | 114 | 128..=254) {
                refuse(&at, format!("option {code} is not for a vendor to set: 43, 66, 67, 114 and 128 to 254 are"));
            } else if option.sub.iter().any(|sub| matches!(sub.code, 0 | 255)) {
                refuse(&at, "0 and 255 are no codes of sub-options".into());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(yaml: &str) -> Vec<DhcpGroup> {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn values_are_octets_and_only_our_own_words_are_replaced() {
        let groups = groups(
            "[{options: [{code: 66, value: '{base}$mac{mac}.cfg'}, {code: 43, sub: [{code: 2, value: '{server}'}, {code: 3, value: false}]}]}]",
        );
        let options = &groups[0].options;
        assert_eq!(options[0].octets("http://h/").unwrap(), b"http://h/$mac{mac}.cfg");
        assert_eq!(options[0].text("http://h/").unwrap(), "http://h/$mac{mac}.cfg");
        assert_eq!(options[1].octets("http://h/").unwrap(), b"\x02\x08http://h\x03\x01\x00");
        assert_eq!(options[1].octets(&format!("http://{}/", "h".repeat(250))), None, "longer than an option can be");
    }

    #[test]
    fn what_no_server_could_be_told_is_refused_where_it_stands() {
        for (yaml, at, says) in [
            ("[{options: [{code: 53, value: x}]}]", "0 options 0", "not for a vendor"),
            ("[{options: [{code: 66, value: 'a\"b'}]}]", "0 options 0", "without quotes"),
            ("[{options: [{code: 66, value: a}, {code: 66, value: b}]}]", "0 options 1", "twice"),
            ("[{options: [{code: 43, value: a}]}]", "0 options 0", "under \"sub\""),
            ("[{options: [{code: 66, sub: [{code: 1, value: a}]}]}]", "0 options 0", "needs a \"value\""),
            ("[{options: [{code: 43, sub: [{code: 255, value: a}]}]}]", "0 options 0", "no codes"),
            ("[{options: []}]", "0 options", "no options"),
            ("[{class: [''], options: [{code: 66, value: a}]}]", "0 class 0", "3 to 64"),
            ("[{by_mac: false, options: [{code: 66, value: a}]}]", "0", "for nobody"),
            (
                "[{options: [{code: 66, value: a}]}, {class: [xyz], options: [{code: 66, value: a}]}]",
                "1 by_mac",
                "only one group",
            ),
        ] {
            let found = complaints(&groups(yaml), true);
            assert_eq!(found.len(), 1, "{yaml}: {found:?}");
            assert_eq!(found[0].0.join(" "), at, "{yaml}");
            assert!(found[0].1.contains(says), "{yaml}: {}", found[0].1);
        }
        let nobody = groups("[{options: [{code: 66, value: a}]}]");
        assert_eq!(complaints(&nobody, false).len(), 1, "without MAC prefixes nobody is meant");
        assert!(complaints(&nobody, true).is_empty());
    }
}
