//! Where in a `vendor.yaml` something stands: the lines of its keys and list entries, and nothing of what they say.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_yaml::Spanned;

/// An entry with its line and what is below it. What cannot be read has no lines, and everything in it stands at line 0.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    line: usize,
    below: Vec<(String, Outline)>,
}

impl Outline {
    pub(crate) fn of(yaml: &str) -> Outline {
        serde_yaml::from_str(yaml).unwrap_or_default()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Outline> {
        self.below.iter().find(|(name, _)| name == key).map(|(_, entry)| entry)
    }

    /// The names of the keys here.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.below.iter().map(|(name, _)| name.as_str())
    }

    /// The line of what the keys lead to, or of the last of them that is there.
    pub(crate) fn line(&self, path: &[impl AsRef<str>]) -> usize {
        let Some((key, rest)) = path.split_first() else { return self.line };
        self.get(key.as_ref()).map_or(self.line, |entry| entry.line(rest))
    }
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Outline, D::Error> {
        let node = Spanned::<Below>::deserialize(deserializer)?;
        Ok(Outline { line: node.defined.line() as usize, below: node.value.0 })
    }
}

struct Below(Vec<(String, Outline)>);

impl<'de> Deserialize<'de> for Below {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Below, D::Error> {
        deserializer.deserialize_any(AnyBelow)
    }
}

struct AnyBelow;

impl<'de> Visitor<'de> for AnyBelow {
    type Value = Below;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_unit<E: Error>(self) -> Result<Below, E> {
        Ok(Below(Vec::new()))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Below, E> {
        self.visit_unit()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Below, E> {
        self.visit_unit()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Below, E> {
        self.visit_unit()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Below, E> {
        self.visit_unit()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Below, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Below, A::Error> {
        let mut below = Vec::new();
        while let Some(item) = items.next_element()? {
            below.push((below.len().to_string(), item));
        }
        Ok(Below(below))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Below, A::Error> {
        let mut below = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            // The key's line, not the value's: a block begins on the line after its name.
            let value: Outline = entries.next_value()?;
            below.push((key.value, Outline { line: key.defined.line() as usize, ..value }));
        }
        Ok(Below(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_entry_has_its_line() {
        let outline = Outline::of(
            "vendor: Acme\nmodels:\n  '5': { lines: 1,\n    columns: { file: x } }\n  1220: {}\nfiles:\n\n  - { name: a }\n  - name: b\n    template: c\n",
        );
        assert_eq!(outline.line(&["vendor"]), 1);
        assert_eq!(outline.line(&["models", "5", "columns", "file"]), 4);
        assert_eq!(outline.line(&["models", "1220"]), 5);
        assert_eq!(outline.line(&["files", "1", "template"]), 10);
        assert_eq!(outline.line(&["files", "1", "option"]), 9, "the entry, where it lacks the key");
        assert_eq!(outline.line(&["files"]), 6);
        assert_eq!(Outline::of("a: [").line(&["a"]), 0);
    }
}
