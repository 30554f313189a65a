//! Values as text of a profile file: what the reader reads back as the same value, in the form in which people write it.

use granit_parser::ScalarStyle;
use serde_json::{Map, Value as Json};

use crate::refer::Refer;

/// A string in double quotes, which YAML reads as that string whatever it holds: JSON's, and what YAML calls not printable escaped too.
pub(crate) fn quoted(text: &str) -> String {
    let json = Json::from(text).to_string();
    if !json.contains(is_unprintable) {
        return json;
    }
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            letter if is_unprintable(letter) => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out
}

fn is_unprintable(letter: char) -> bool {
    matches!(letter, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Whether a text may stand without quotes wherever a value may. Rather too few than one too many.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 13] =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity", "none"];
    text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && !text.ends_with(' ')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" _./@-".contains(&byte))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

fn text(value: &str) -> String {
    if is_plain(value) { value.to_owned() } else { quoted(value) }
}

/// A single value in the place of one that was written so, and that was read as text or not: with the same kind of quotes, where they
/// can hold it.
pub(crate) fn instead(new: &Json, style: ScalarStyle, was_text: bool, typed: &str) -> String {
    let Json::String(value) = new else { return inline(new) };
    match style {
        ScalarStyle::SingleQuoted
            if !value.contains(|letter: char| letter == '\'' || letter.is_control() || is_unprintable(letter)) =>
        {
            format!("'{value}'")
        }
        // A number in a place that takes text needs no quotes, and the one before had none.
        ScalarStyle::Plain if was_text && is_number_to_dial(typed) && is_number_to_dial(value) => value.clone(),
        ScalarStyle::Plain => text(value),
        _ => quoted(value),
    }
}

fn is_number_to_dial(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

pub(crate) fn key(name: &str) -> String {
    text(name)
}

/// On one line.
pub(crate) fn inline(value: &Json) -> String {
    match value {
        Json::Null => "~".to_owned(),
        Json::String(value) => text(value),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(fields) if fields.is_empty() => "{}".to_owned(),
        Json::Object(fields) => format!("{{ {} }}", pairs(fields)),
        value => value.to_string(),
    }
}

pub(crate) fn pairs(fields: &Map<String, Json>) -> String {
    let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{}: {}", key(name), inline(value))).collect();
    pairs.join(", ")
}

/// Whether a value stands on one line behind its key, or `in_list` behind its dash, where people would write it so.
pub(crate) fn fits_inline(value: &Json, in_list: bool) -> bool {
    let is_single = |value: &Json| !value.is_object() && !value.is_array();
    match value {
        Json::Array(items) => items.iter().all(is_single),
        Json::Object(fields) => {
            fields.is_empty()
                || is_reference(fields)
                || in_list && fields.values().all(is_single) && pairs(fields).len() <= 100
        }
        _ => true,
    }
}

/// What stands in the place of a password is written as one value, which it is.
fn is_reference(fields: &Map<String, Json>) -> bool {
    let mut fields = fields.iter();
    let is_one = |(name, value): (&String, &Json)| Refer::is_kind(name) && !value.is_object() && !value.is_array();
    fields.next().is_some_and(is_one) && fields.next().is_none()
}

/// An entry of a section, as lines that are indented by `indent`.
pub(crate) fn entry(name: &str, value: &Json, indent: usize) -> String {
    let (blank, name) = (" ".repeat(indent), key(name));
    if fits_inline(value, false) {
        format!("{blank}{name}: {}\n", inline(value))
    } else {
        format!("{blank}{name}:\n{}", lines(value, indent + 2))
    }
}

/// An item of a list, as lines, the dash indented by `indent`. `flow`: as the items beside it are written.
pub(crate) fn item(value: &Json, indent: usize, flow: Option<bool>) -> String {
    let blank = " ".repeat(indent);
    let is_section = value.as_object().is_some_and(|fields| !fields.is_empty());
    if !is_section && fits_inline(value, true) || is_section && flow.unwrap_or_else(|| fits_inline(value, true)) {
        format!("{blank}- {}\n", inline(value))
    } else {
        format!("{blank}- {}", lines(value, indent + 2).trim_start())
    }
}

/// A section or list that is not empty, as lines.
pub(crate) fn lines(value: &Json, indent: usize) -> String {
    match value {
        Json::Object(fields) if !fields.is_empty() => {
            fields.iter().map(|(name, value)| entry(name, value, indent)).collect()
        }
        Json::Array(items) if !items.is_empty() => items.iter().map(|value| item(value, indent, None)).collect(),
        value => format!("{}{}\n", " ".repeat(indent), inline(value)),
    }
}

/// A value as JSON with each part on a line of its own, and the path of each line's part: what the checker says of a line it says of that.
pub(crate) fn spread(value: &Json, path: &str, text: &mut String, paths: &mut Vec<String>) {
    let below =
        |step: &dyn std::fmt::Display| if path.is_empty() { step.to_string() } else { format!("{path}.{step}") };
    match value {
        Json::Object(fields) if !fields.is_empty() => {
            text.push_str("{\n");
            paths.push(path.to_owned());
            for (name, value) in fields {
                text.push_str(&quoted(name));
                text.push_str(": ");
                spread(value, &below(name), text, paths);
                text.push_str(",\n");
                paths.push(below(name));
            }
            text.push('}');
        }
        Json::Array(items) if !items.is_empty() => {
            text.push_str("[\n");
            paths.push(path.to_owned());
            for (index, value) in items.iter().enumerate() {
                spread(value, &below(&index), text, paths);
                text.push_str(",\n");
                paths.push(below(&index));
            }
            text.push(']');
        }
        Json::String(value) => text.push_str(&quoted(value)),
        value => text.push_str(&inline(value)),
    }
}
