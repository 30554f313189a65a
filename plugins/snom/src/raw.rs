//! Raw settings: snom's own names, as its text format spells them. `backlight` is one setting, `user_ringer[2]` that of the second line,
//! `fkey[3]` the fourth key; a flag behind the name (`!`, `&`, `$`) becomes the permission.

use provost_plugin::{Phone, PluginError, Spec};
use serde::Serialize;

use crate::keys::Key;

#[derive(Debug, Default)]
pub(crate) struct Raw {
    pub(crate) settings: Vec<Setting>,
    pub(crate) keys: Vec<Key>,
}

#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Setting {
    name: String,
    index: Option<u64>,
    perm: String,
    value: String,
}

pub(crate) fn read(spec: &Spec, phone: &Phone) -> Result<Raw, PluginError> {
    let mut raw = Raw::default();
    for (written, value) in &phone.raw {
        // The name becomes an element: one that is none would spoil the whole file.
        let fits = spec.raw_name.as_ref().is_none_or(|pattern| pattern.0.is_match(written));
        let (name, index, perm) = parts(written).filter(|_| fits).ok_or_else(|| {
            PluginError::Other(format!("cannot write raw setting \"{written}\": snom has no parameter of that form"))
        })?;
        match (name, index) {
            ("fkey", Some(index)) => {
                raw.keys.push(Key {
                    index,
                    context: "active".into(),
                    label: String::new(),
                    perm,
                    text: value.to_string(),
                });
            }
            _ => raw.settings.push(Setting { name: name.to_owned(), index, perm, value: value.to_string() }),
        }
    }
    Ok(raw)
}

fn parts(written: &str) -> Option<(&str, Option<u64>, String)> {
    let name = written.trim_end_matches(['!', '&', '$']);
    let perm = match &written[name.len()..] {
        "" => "RW".to_owned(),
        flag => flag.to_owned(),
    };
    match name.strip_suffix(']') {
        None => Some((name, None, perm)),
        Some(indexed) => {
            let (name, index) = indexed.split_once('[')?;
            Some((name, Some(index.parse().ok()?), perm))
        }
    }
}
