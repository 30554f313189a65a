//! Walks what was written along the form that the model has, and returns both halves: the values that hold, typed, and everything
//! that is wrong. Knows one file; what holds between files is [`index`](crate::index)'s.

use std::{collections::HashMap, sync::Arc};

use provost_plugin::{MacAddr, spec};

use crate::{
    node::{Key, Node, Value, positions},
    problem::{Problem, hint},
    refer::Refer,
    shape::{self, Join, Shape},
    yaml::{Written, WrittenValue},
    zone,
};

pub(crate) struct Checker<'a> {
    file: &'a Arc<str>,
    source: &'a str,
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(file: &'a Arc<str>, source: &'a str) -> Checker<'a> {
        Checker { file, source, problems: Vec::new() }
    }

    fn wrong(&mut self, at: (u32, u32), message: String) {
        self.problems.push(Problem::error(self.file, at.0, at.1, message));
    }

    /// `name` is the key under which the value stands, or for an entry of a list that of the list.
    pub(crate) fn value(&mut self, written: Written, shape: &'static Shape, name: &str) -> Option<Node> {
        let at = (written.line, written.column);
        let node = |value| Some(Node { line: at.0, column: at.1, value });
        if matches!(written.value, WrittenValue::Null) {
            return node(Value::Null);
        }
        if let (WrittenValue::Map(entries), Shape::Secret { generated, .. }) = (&written.value, shape) {
            return self.reference(at, entries, *generated, name).and_then(node);
        }
        if let Some(text) = written.text(self.source) {
            let quoted = matches!(written.value, WrittenValue::Text(_));
            return match scalar(text, quoted, shape) {
                Some(value) => node(value),
                None => {
                    let message = self.refusal(text, shape, name);
                    self.wrong(at, message);
                    None
                }
            };
        }
        let kind = written.kind();
        match (written.value, shape) {
            (WrittenValue::Map(entries), Shape::Section { .. } | Shape::Table(_)) => {
                let map = self.section(at, entries, shape, name);
                node(Value::Map(map.into()))
            }
            (WrittenValue::List(items), Shape::List { item, .. }) => {
                let list: Vec<Node> = items.into_iter().filter_map(|written| self.value(written, item, name)).collect();
                self.positions(&list, shape, name);
                node(Value::List(list.into()))
            }
            _ => {
                let what = if name.is_empty() { "the file".to_owned() } else { format!("\"{name}\"") };
                self.wrong(at, format!("{what} takes {}, not {kind}", shape.expected()));
                None
            }
        }
    }

    /// What stands in the place of a password.
    fn reference(
        &mut self,
        at: (u32, u32),
        entries: &[(Written, Written)],
        generated: bool,
        name: &str,
    ) -> Option<Value> {
        let (key, value) = match entries {
            [(key, value)] => (key_text(key, self.source), value.text(self.source)),
            _ => (None, None),
        };
        let read = match (key, value) {
            (Some(kind), Some(text)) => Refer::read(name, &kind, text, generated),
            (Some(kind), None) => Err(format!("\"{kind}\" takes a single value")),
            _ => Err(format!("\"{name}\" takes text, or one of secret, env, credential and age with a name behind it")),
        };
        read.map_err(|message| self.wrong(at, message)).ok().map(|refer| Value::Refer(Arc::new(refer)))
    }

    fn refusal(&self, text: &str, shape: &Shape, name: &str) -> String {
        let shown: String = text.chars().take(40).collect();
        match shape {
            Shape::Word(words) => {
                format!("\"{name}\" does not know \"{shown}\"{}", hint(text, words.iter().map(String::as_str)))
            }
            Shape::Switch => match text.to_lowercase().as_str() {
                "yes" | "on" | "y" | "1" | "true" => {
                    format!("\"{name}\" takes true or false, not \"{shown}\": write true")
                }
                "no" | "off" | "n" | "0" | "false" => {
                    format!("\"{name}\" takes true or false, not \"{shown}\": write false")
                }
                _ => format!("\"{name}\" takes true or false, not \"{shown}\""),
            },
            Shape::Integer { .. } | Shape::Number => format!("\"{name}\" takes {}, not \"{shown}\"", shape.expected()),
            _ if name.is_empty() => format!("the file takes {}, not a single value", shape.expected()),
            // What was written is left out: by its place it may hold anything, passwords too.
            _ => format!("\"{name}\" takes {}, not a single value", shape.expected()),
        }
    }

    fn section(
        &mut self,
        at: (u32, u32),
        entries: Vec<(Written, Written)>,
        shape: &'static Shape,
        section: &str,
    ) -> Vec<(Key, Node)> {
        let mut map: Vec<(Key, Node)> = Vec::with_capacity(entries.len());
        let mut seen: HashMap<String, u32> = HashMap::with_capacity(entries.len());
        let is_top = |name| shape::DOCUMENT.field(name).is_some_and(|top| std::ptr::eq(top, shape));
        let devices = is_top("devices");
        let by_vendor = is_top("vendors") || matches!((section, shape), ("vendor" | "options", Shape::Table(_)));
        for (key, value) in entries {
            let place = (key.line, key.column);
            let Some(name) = key_text(&key, self.source) else {
                self.wrong(place, format!("a key must be a single word or number, not {}", key.kind()));
                continue;
            };
            // A MAC, a vendor: what is the same to us is a duplicate, however it is spelt.
            let name = match name.parse::<MacAddr>() {
                Ok(mac) if devices => mac.to_string(),
                Err(error) if devices => {
                    self.wrong(place, error.to_string());
                    continue;
                }
                _ if by_vendor => vendor_id(&name),
                _ => name,
            };
            if let Some(first) = seen.get(&name) {
                let what = if devices { "device" } else { "key" };
                self.wrong(place, format!("duplicate {what} \"{name}\": it is already on line {first}"));
                continue;
            }
            seen.insert(name.clone(), place.0);
            let (key, inner) = match shape {
                Shape::Section { fields, names, .. } => match fields.get_key_value(name.as_str()) {
                    Some((known, inner)) => (Key::Known(known), inner),
                    None => {
                        let message = unknown_key(&name, section, shape, names);
                        self.wrong(place, message);
                        continue;
                    }
                },
                Shape::Table(inner) => (Key::Chosen(name.as_str().into()), &**inner),
                _ => unreachable!("only sections have keys"),
            };
            if let Some(mut node) = self.value(value, inner, &name) {
                self.meaning(&name, section, &node);
                if !matches!(node.value, Value::Text(_) | Value::Switch(_) | Value::Integer(_) | Value::Number(_)) {
                    // People look for a section where its name is, not where its first key is.
                    (node.line, node.column) = place;
                }
                map.push((key, node));
            }
        }
        if let Shape::Section { required, .. } = shape {
            let is_rule = shape::DOCUMENT.field("enrol").and_then(|rules| rules.field(section));
            let whose = match is_rule {
                Some(rule) if std::ptr::eq(rule, shape) => "the rule",
                _ => "an entry of",
            };
            for name in required.iter().filter(|name| !seen.contains_key(**name)) {
                self.wrong(at, format!("{whose} \"{section}\" needs \"{name}\""));
            }
        }
        map
    }

    /// What a schema cannot say.
    fn meaning(&mut self, name: &str, section: &str, node: &Node) {
        let at = (node.line, node.column);
        let Some(text) = node.text() else { return };
        let wrong = match (section, name) {
            ("time", "zone") => zone::refusal(text),
            (_, "cidr") | ("match", "network") => cidr(text).err(),
            ("match", "mac") => {
                let digits = mac_prefix(text);
                (digits.is_empty() || digits.len() > 12 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit())).then(
                    || {
                        format!(
                            "\"{text}\" is not the beginning of a MAC address: it takes up to twelve hexadecimal digits"
                        )
                    },
                )
            }
            ("match", "model") => pattern(text),
            _ => None,
        };
        if let Some(message) = wrong {
            self.wrong(at, message);
        }
    }

    fn positions(&mut self, items: &[Node], shape: &Shape, name: &str) {
        let Shape::List { join: Join::PerPosition | Join::Deepen { numbered: true }, .. } = shape else { return };
        let mut seen = HashMap::new();
        for (position, item) in positions(items) {
            let at = item.get("position").map_or((item.line, item.column), |node| (node.line, node.column));
            if position < 1 {
                self.wrong(at, format!("positions of \"{name}\" are counted from 1"));
            } else if let Some(first) = seen.insert(position, item.line) {
                self.wrong(at, format!("\"{name}\" has position {position} twice: it is already on line {first}"));
            }
        }
    }
}

/// A key as text. `~:` and `null:` are somebody's vendor parameter, not nothing.
fn key_text(key: &Written, source: &str) -> Option<String> {
    match key.value {
        WrittenValue::Null => Some("null".to_owned()),
        _ => key.text(source).map(str::to_owned),
    }
}

/// The plugin's name for a vendor, as `Spec::id` derives it.
pub(crate) fn vendor_id(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
}

/// The hex digits of a beginning of a MAC address, in the form of `MacAddr::bare`.
pub(crate) fn mac_prefix(text: &str) -> String {
    text.chars().filter(|digit| !matches!(digit, ':' | '-' | '.')).collect::<String>().to_lowercase()
}

pub(crate) fn cidr(text: &str) -> Result<ipnet::IpNet, String> {
    let network = match text.contains('/') {
        true => text.parse::<ipnet::IpNet>().ok(),
        false => text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from),
    };
    network
        .map(|network| network.trunc())
        .ok_or_else(|| format!("\"{text}\" is not a network: write an address and a prefix, as in 10.20.0.0/16"))
}

/// Why a model pattern would never match, if so.
pub(crate) fn pattern(text: &str) -> Option<String> {
    // The limit is that of `spec::matches_wildcard`, probed so that the two cannot drift apart.
    let sample = text.replace('*', "x");
    (!spec::matches_wildcard(text, &sample))
        .then(|| format!("\"{text}\" can match no model: at most three *, and 64 characters"))
}

fn scalar(text: &str, quoted: bool, shape: &Shape) -> Option<Value> {
    match shape {
        Shape::Text | Shape::Secret { loose: false, .. } => Some(Value::Text(text.into())),
        Shape::Word(words) => words.iter().any(|word| word == text).then(|| Value::Text(text.into())),
        Shape::Switch if !quoted => truth(text).map(Value::Switch),
        // A number that somebody quoted is still the same number.
        Shape::Integer { least, most } => {
            integer(text).filter(|number| (*least..=*most).contains(number)).map(Value::Integer)
        }
        Shape::Number => text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::Number),
        Shape::Scalar | Shape::Secret { loose: true, .. } => Some(loose(text, quoted)),
        _ => None,
    }
}

/// A value whose type we cannot know. It becomes a number only where printing that number gives back what was written.
fn loose(text: &str, quoted: bool) -> Value {
    if quoted {
        return Value::Text(text.into());
    }
    if let Some(on) = truth(text) {
        return Value::Switch(on);
    }
    if let Ok(number) = text.parse::<i64>()
        && number.to_string() == text
    {
        return Value::Integer(number);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number.to_string() == text => Value::Number(number),
        _ => Value::Text(text.into()),
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

fn integer(text: &str) -> Option<i64> {
    match text.as_bytes() {
        [b'0', b'x', ..] => i64::from_str_radix(&text[2..], 16).ok(),
        [b'0', b'o', ..] => i64::from_str_radix(&text[2..], 8).ok(),
        _ => text.parse().ok(),
    }
}

fn unknown_key(name: &str, section: &str, shape: &Shape, names: &[&'static str]) -> String {
    let place = if section.is_empty() { "at the top of the file".to_owned() } else { format!("in \"{section}\"") };
    let start = format!("unknown key \"{name}\" {place}");
    // The right word one level too high: `server` beside `sip` instead of inside it.
    let inside = names.iter().find(|field| match shape.field(field) {
        Some(Shape::Section { fields, .. }) => fields.contains_key(name),
        _ => false,
    });
    match inside {
        Some(field) => format!("{start}: it belongs under \"{field}\""),
        None => format!("{start}{}", hint(name, names.iter().copied())),
    }
}
