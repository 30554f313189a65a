//! Keeps every value inside its field, whatever it holds.

use std::{borrow::Cow, fmt::Write};

use minijinja::{AutoEscape, Error, ErrorKind, Output, State, Value, value::ValueKind};

use super::lines::LEFT_OUT;
use crate::{plugin::percent_encode, spec::Escape};

pub(super) fn name(escape: Escape) -> &'static str {
    match escape {
        Escape::Xml => "xml",
        Escape::Line => "line",
        Escape::Quoted => "quoted",
        Escape::Percent => "percent",
    }
}

/// The engine's formatter. Errors never print the value: it may be a password. The engine adds template and line, and the caller the
/// expression.
pub(super) fn write(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    // A file prints hundreds of values, so nothing is copied that can be lent.
    let number;
    let text = match value.kind() {
        ValueKind::None => {
            // The line that this stands on is taken out when the file is finished.
            return out.write_char(LEFT_OUT).map_err(Error::from);
        }
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        // Most phones want 1 and 0; who wants words uses `choose`.
        ValueKind::Bool => {
            if value.is_true() {
                "1"
            } else {
                "0"
            }
        }
        ValueKind::Number | ValueKind::String => match value.as_str() {
            Some(text) => text,
            None => {
                number = value.to_string();
                &number
            }
        },
        kind => return Err(refused(format!("a value that is a {kind} cannot be printed into a file"))),
    };
    if value.is_safe() {
        // Captured output of a macro or block: its values were escaped when they were printed into it.
        return out.write_str(text).map_err(Error::from);
    }
    let escape = state.auto_escape();
    let escape = if let AutoEscape::Custom(name) = &escape { &**name } else { "undeclared" };
    let escaped = match escape {
        "xml" => xml(text),
        "line" => line(text),
        "quoted" => quoted(text),
        "percent" => Ok(percent_encode(text).into()),
        _ => Err(format!(
            "vendor.yaml declares no format for the template \"{}\", so nothing can be printed safely",
            state.name()
        )),
    }
    .map_err(refused)?;
    out.write_str(&escaped).map_err(Error::from)
}

fn refused(why: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

fn xml(text: &str) -> Result<Cow<'_, str>, String> {
    // Printable ASCII, and none of the five: nearly every value.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'&' | b'<' | b'>' | b'"' | b'\'')) {
        return Ok(text.into());
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // As references they survive attribute and line-end normalisation (XML 1.0 §2.11, §3.3.3).
            '\t' | '\n' | '\r' => escaped.push_str(&format!("&#{};", character as u32)),
            // Char production of XML 1.0 §2.2, less what only confuses.
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' | LEFT_OUT => {
                return Err(format!("the value has a character (U+{:04X}) that XML cannot carry", character as u32));
            }
            other => escaped.push(other),
        }
    }
    Ok(escaped.into())
}

fn line(text: &str) -> Result<Cow<'_, str>, String> {
    if let Some(character) = text.chars().find(|&character| breaks_a_line(character)) {
        return Err(format!(
            "the value has a control character (U+{:04X}, a line break for one), which a line of this format cannot carry",
            character as u32
        ));
    }
    if text != text.trim() {
        return Err("the value begins or ends with a blank, which this format would lose".into());
    }
    Ok(text.into())
}

fn quoted(text: &str) -> Result<Cow<'_, str>, String> {
    if let Some(character) = text.chars().find(|&character| breaks_a_line(character)) {
        return Err(format!(
            "the value has a control character (U+{:04X}), which this format cannot carry",
            character as u32
        ));
    }
    if text.contains('"') {
        return Err("the value has a double quote, which this format cannot carry".into());
    }
    Ok(text.into())
}

/// Controls, and the line separators of Unicode that some firmware splits at.
fn breaks_a_line(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | LEFT_OUT)
}
