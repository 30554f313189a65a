//! The phones' names for what we call otherwise: time zones, languages, countries. Where no name is known there is none, and the setting
//! is left out rather than guessed.

use provost_plugin::{Phone, Spec};

/// Standard time as the phones write it: `-5`, `+1`, `0`. Known only for whole hours from -11 to +12.
pub(crate) fn offset(phone: &Phone) -> Option<String> {
    let seconds = phone.zone.as_ref()?.utc_offset;
    let hours = seconds / 3600;
    if seconds % 3600 != 0 || !(-11..=12).contains(&hours) {
        return None;
    }
    Some(if hours == 0 { "0".into() } else { format!("{hours:+}") })
}

pub(crate) fn zone_name(spec: &Spec, phone: &Phone) -> Option<String> {
    word(spec, "zone_name", phone.zone.as_ref().map(|zone| zone.name.as_str()))
}

/// The vendor's word from a table. `de-AT` is looked up as it is, then as `de`.
pub(crate) fn word(spec: &Spec, table: &str, ours: Option<&str>) -> Option<String> {
    let (table, ours) = (spec.tables.get(table)?, ours?);
    let look = |ours: &str| {
        table.iter().find(|(word, _)| word.eq_ignore_ascii_case(ours)).map(|(_, theirs)| theirs.to_string())
    };
    look(ours).or_else(|| look(ours.split_once('-')?.0))
}
