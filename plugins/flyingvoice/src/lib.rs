//! The Flyingvoice plugin: what these phones cannot be told, as far as `vendor.yaml` cannot say it. What they are told is data alone, most
//! of it shared with Yealink.

use provost_plugin::{
    Complaint, Phone, Plugin, PluginError, Scalar, Spec, Variables, complaints_by_data, export_plugin, spec::FileSpec,
};

export_plugin!(Flyingvoice, include_str!("../vendor.yaml"));

#[derive(Debug)]
pub struct Flyingvoice {
    spec: Spec,
}

impl From<Spec> for Flyingvoice {
    fn from(spec: Spec) -> Flyingvoice {
        Flyingvoice { spec }
    }
}

/// `remote_phonebook.data.1` to `.5`.
const PHONEBOOKS: usize = 5;

impl Plugin for Flyingvoice {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn variables(&self, _file: &FileSpec, phone: &Phone) -> Result<Variables, PluginError> {
        // The setting reads `user:password` and is split at the colon; nothing is known that would protect one in the name.
        if phone.settings.access.admin.username.as_ref().is_some_and(|name| name.contains(':')) {
            return Err(PluginError::Other(
                "access.admin.username holds a colon, which ends the name in static.security.user_password".into(),
            ));
        }
        Ok(Variables::new())
    }

    fn complaints(&self, phone: &Phone) -> Vec<Complaint> {
        let mut complaints = complaints_by_data(&self.spec, phone);
        let mut complain = |field: String, reason: &str| complaints.push(Complaint { field, reason: reason.into() });
        let settings = &phone.settings;
        for (index, key) in settings.keys.iter().enumerate() {
            let word = serde_json::to_value(key.kind).ok();
            let kind = word.as_ref().and_then(|word| self.spec.tables.get("key_kind")?.get(word.as_str()?));
            // Known of Yealink's phones only, which vendor.yaml says by an empty word.
            if kind == Some(&Scalar::Text(String::new())) {
                complain(format!("keys.{index}.kind"), "Flyingvoice phones have no key of this kind");
            }
        }
        let mut waiting = settings.lines.iter().filter_map(|line| line.call_waiting);
        let first = waiting.next();
        if waiting.any(|other| Some(other) != first) {
            for (index, _) in settings.lines.iter().enumerate().filter(|(_, line)| line.call_waiting.is_some()) {
                complain(
                    format!("lines.{index}.call_waiting"),
                    "the phone has one switch for all lines, and the lines disagree",
                );
            }
        }
        if let Some(zone) = &phone.zone {
            if zone.utc_offset % 3600 != 0 || !(-11..=12).contains(&(zone.utc_offset / 3600)) {
                complain("time.zone".into(), "only zones of whole hours from -11 to +12 are known to be understood");
            } else if zone.dst.is_some() {
                complain("time.zone".into(), "no setting for summer time is known; the phone is told standard time");
            }
        }
        if settings.access.admin.password.as_ref().is_some_and(|password| password.expose().contains(':')) {
            complain(
                "access.admin.password".into(),
                "it holds a colon, which also parts it from the user name; not known to work",
            );
        }
        for extra in PHONEBOOKS..settings.phonebook.remote.len() {
            complain(format!("phonebook.remote.{extra}"), "the phones hold 5 remote phonebooks");
        }
        complaints
    }
}

#[cfg(test)]
mod tests;
