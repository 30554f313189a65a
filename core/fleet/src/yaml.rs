//! YAML text to a tree in which every key and value knows its line, its column and how it was written.
//!
//! Nothing is interpreted here: whether `0049` is a number or a telephone number depends on where it stands, which
//! [`check`](crate::check) knows.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_yaml::{
    Spanned,
    options::{DuplicateKeyPolicy, NonFiniteFloatPolicy},
};

/// A node as written.
pub(crate) struct Written {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) value: WrittenValue,
    /// Where the text stands in the file, in bytes: the parser turns `0049` into 49 and only the file still has the zeros.
    offset: usize,
    length: usize,
}

pub(crate) enum WrittenValue {
    Null,
    /// A scalar that is text whatever it looks like: quoted, or no number or truth value.
    Text(Box<str>),
    /// An unquoted number or truth value; [`Written::text`] has its spelling.
    Plain,
    Map(Vec<(Written, Written)>),
    List(Vec<Written>),
}

impl Written {
    /// The spelling of a scalar; `source` is the text that was parsed.
    pub(crate) fn text<'a>(&'a self, source: &'a str) -> Option<&'a str> {
        match &self.value {
            WrittenValue::Text(text) => Some(text),
            WrittenValue::Plain => source.get(self.offset..self.offset + self.length).map(str::trim),
            _ => None,
        }
    }

    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            WrittenValue::Null => "nothing",
            WrittenValue::Text(_) | WrittenValue::Plain => "a single value",
            WrittenValue::Map(_) => "a section with keys",
            WrittenValue::List(_) => "a list",
        }
    }
}

/// Why a file is not YAML, and where.
#[derive(Debug)]
pub(crate) struct BadYaml {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) message: String,
}

/// Reads one document. `text` must not begin with a byte order mark, which would shift every offset.
pub(crate) fn read(text: &str) -> Result<Written, BadYaml> {
    // An honest file has fewer nodes than bytes, so the usual limits would only keep large inventories out; what a few bytes can
    // blow up (aliases, nesting) keeps its limits.
    let honest = text.len() * 4 + 10_000;
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_nodes: honest,
            max_events: honest,
            max_total_scalar_bytes: honest,
            max_total_comment_bytes: honest,
            max_buffered_comment_events: 10_000,
        },
        // Every repeated key is to be reported, not only the first, so they are all let through to us.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // YAML 1.1 would read the Norwegian tones `no` as false.
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        emit_comments: false,
        // Snippets would print the lines around the error, passwords included.
        with_snippet: false,
    };
    serde_yaml::from_str_with_options::<Written>(text, options).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line() as u32, at.column() as u32));
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        let message = if message.starts_with("multiple YAML documents") {
            "a file holds one YAML document, but here begins a second one"
        } else {
            message
        };
        BadYaml { line, column, message: message.to_owned() }
    })
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Written, D::Error> {
        let node = Spanned::<WrittenValue>::deserialize(deserializer)?;
        // For an alias, where the value itself stands: that is the line to be mended.
        let at = node.defined;
        Ok(Written {
            line: at.line() as u32,
            column: at.column() as u32,
            value: node.value,
            offset: at.span().byte_offset().unwrap_or_default() as usize,
            length: at.span().byte_len().unwrap_or_default() as usize,
        })
    }
}

impl<'de> Deserialize<'de> for WrittenValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WrittenValue, D::Error> {
        deserializer.deserialize_any(AsWritten)
    }
}

struct AsWritten;

impl<'de> Visitor<'de> for AsWritten {
    type Value = WrittenValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_unit<E: Error>(self) -> Result<WrittenValue, E> {
        Ok(WrittenValue::Null)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<WrittenValue, E> {
        Ok(WrittenValue::Text(text.into()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<WrittenValue, E> {
        Ok(WrittenValue::Plain)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<WrittenValue, E> {
        Ok(WrittenValue::Plain)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<WrittenValue, E> {
        Ok(WrittenValue::Plain)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<WrittenValue, E> {
        Ok(WrittenValue::Plain)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<WrittenValue, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(WrittenValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<WrittenValue, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(WrittenValue::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(root: &'a Written, key: &str, source: &str) -> &'a Written {
        let WrittenValue::Map(entries) = &root.value else { panic!("not a map") };
        &entries.iter().find(|(name, _)| name.text(source) == Some(key)).unwrap_or_else(|| panic!("no {key}")).1
    }

    #[test]
    fn an_unquoted_scalar_keeps_its_spelling() {
        let source = "ä: ö\nphone: 0049\nbig: 99999999999999999999999\nexp: 1e999\nhex: 0x1F # so\nmac: {000413e00001: x}\nyes: no\nt: True\n\
                      anchor: &n 0012\nalias: *n\ntagged: !!str 007\nspaced:    08   \n";
        let root = read(source).unwrap();
        for (key, text) in [
            ("phone", "0049"),
            ("big", "99999999999999999999999"),
            ("exp", "1e999"),
            ("hex", "0x1F"),
            ("yes", "no"),
            ("t", "True"),
            ("alias", "0012"),
            ("tagged", "007"),
            ("spaced", "08"),
        ] {
            assert_eq!(value(&root, key, source).text(source), Some(text), "{key}");
        }
        let mac = value(&root, "mac", source);
        assert_eq!(value(mac, "000413e00001", source).line, 6);
        assert_eq!((value(&root, "alias", source).line, value(&root, "phone", source).column), (9, 8));
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = level - 1;
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{before}"); 10].join(", "));
        }
        assert!(read(&bomb).is_err());
        assert!(read(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn a_large_inventory_is_no_bomb() {
        let text: String = (0..60_000).map(|number| format!("- {{number: {number}, label: x}} # comment\n")).collect();
        let root = read(&text).unwrap();
        assert!(matches!(&root.value, WrittenValue::List(items) if items.len() == 60_000));
    }
}
