//! Function keys as `<fkey idx context label perm>TEXT</fkey>`.

use provost_plugin::{
    Phone, Spec,
    model::{FunctionKey, KeyKind, Line},
};
use serde::Serialize;

use crate::{account::identity_host, is_dect, words};

#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Key {
    /// Counted from 0 over the phone's own keys and then over those of its modules.
    pub(crate) index: u64,
    /// The line it uses, or `active` for whichever is in use.
    pub(crate) context: String,
    pub(crate) label: String,
    pub(crate) perm: String,
    pub(crate) text: String,
}

/// Every key that can be written. What cannot (no such key, no value, no word for it) is left to `complaints`.
pub(crate) fn function_keys(spec: &Spec, phone: &Phone) -> Vec<Key> {
    if is_dect(phone) {
        return Vec::new();
    }
    let own = phone.settings.keys.iter().filter_map(|key| Some((own_index(phone, key)?, key)));
    let modules = (0..).zip(&phone.settings.expansion).flat_map(|(module, keys)| {
        keys.keys.iter().filter_map(move |key| Some((module_index(phone, module, key)?, key)))
    });
    own.chain(modules)
        .filter_map(|(index, key)| {
            let text = text(spec, phone, key)?;
            let context = match key.line {
                Some(line) if !text.starts_with("keyevent ") => line.to_string(),
                _ => "active".into(),
            };
            let perm = if key.locked == Some(true) { "R" } else { "RW" };
            Some(Key { index, context, label: key.label.clone().unwrap_or_default(), perm: perm.into(), text })
        })
        .collect()
}

/// A position past the model's last key would land on its first expansion module.
fn own_index(phone: &Phone, key: &FunctionKey) -> Option<u64> {
    let position = key.position?;
    let exists = position >= 1 && phone.capabilities.keys.is_none_or(|keys| position <= keys);
    exists.then(|| u64::from(position) - 1)
}

/// The keys of a module follow those of the phone and of the modules before it, so their number has to be known.
fn module_index(phone: &Phone, module: u64, key: &FunctionKey) -> Option<u64> {
    let position = key.position?;
    let (before, each) = (phone.capabilities.keys?, phone.capabilities.expansion_keys?);
    (1..=each).contains(&position).then(|| u64::from(before) + module * u64::from(each) + u64::from(position) - 1)
}

/// `blf sip:200@pbx.example.net|*8`, `speed 0301234567`, `keyevent F_DND`.
pub(crate) fn text(spec: &Spec, phone: &Phone, key: &FunctionKey) -> Option<String> {
    let kind = words::name_of(&key.kind);
    let word = words::word(spec, "key_kind", &kind)?;
    if word.starts_with("keyevent ") || matches!(key.kind, KeyKind::None | KeyKind::Line) {
        return Some(word);
    }
    let line = phone.settings.lines.iter().find(|line| line.position.is_some() && line.position == key.line);
    match value(phone, key, line) {
        // A code that parks is dialled; an orbit is a place.
        Some(code) if key.kind == KeyKind::Park && key.value.is_none() => Some(format!("speed {code}")),
        Some(value) => Some(format!("{word} {value}")),
        None => words::word(spec, "key_bare", &kind),
    }
}

/// What stands behind the word. Some kinds fall back on what the line or the PBX is known to use.
fn value(phone: &Phone, key: &FunctionKey, line: Option<&Line>) -> Option<String> {
    let sip = line.map(|line| &line.sip);
    let codes = &phone.settings.codes;
    let pickup = || key.pickup.clone().or_else(|| sip?.pickup_code.clone());
    let own = key.value.clone().filter(|value| !value.is_empty());
    match key.kind {
        KeyKind::Blf => {
            let watched = address(&own?, sip.and_then(identity_host));
            Some(pickup().map_or(watched.clone(), |code| format!("{watched}|{code}")))
        }
        KeyKind::Pickup => Some(format!("{}{}", pickup().unwrap_or_default(), own?)),
        KeyKind::GroupPickup => own.or_else(|| sip?.group_pickup_code.clone()),
        KeyKind::Voicemail => own.or_else(|| sip?.voicemail.clone()),
        KeyKind::Park => own.or_else(|| codes.park.clone()),
        KeyKind::Retrieve => own.or_else(|| codes.retrieve.clone()),
        _ => own,
    }
}

/// A number at the line's host; an address stays as it is.
fn address(number: &str, host: Option<String>) -> String {
    let bare = number.trim_start_matches('<');
    let is_address = number.contains('@') || bare.starts_with("sip:") || bare.starts_with("sips:");
    match host {
        Some(host) if !is_address => format!("sip:{number}@{host}"),
        _ => number.to_owned(),
    }
}
