//! The Flyingvoice plugin: the few values that neither `vendor.yaml` nor a template can decide. Which key goes into which of the two key
//! sections, which codec has which priority, which time zones and words the phones have a name for. The text is in `templates/flyingvoice`.

mod keys;
mod words;

use provost_plugin::{
    Complaint, Phone, Plugin, PluginError, Spec, Variables, complaints_by_data, export_plugin,
    model::{Codec, Line},
    spec::FileSpec,
};
use serde_json::{Value, json};

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
        let settings = &phone.settings;
        // The setting reads `user:password` and is split at the colon; nothing is known that would protect one in the name.
        if settings.access.admin.username.as_ref().is_some_and(|name| name.contains(':')) {
            return Err(PluginError::Other(
                "access.admin.username holds a colon, which ends the name in static.security.user_password".into(),
            ));
        }
        let accounts: Vec<Value> = settings
            .lines
            .iter()
            .map(|line| json!({ "user_name": user_name(line), "codecs": self.codecs(line) }))
            .collect();
        let mut variables = Variables::new();
        let mut put = |name: &str, value: Value| variables.insert(name.into(), value);
        put("accounts", accounts.into());
        put("unused_accounts", unused_accounts(phone).into());
        put("keys", keys::key_lines(&self.spec, phone).into());
        put("time_zone", words::offset(phone).into());
        put("time_zone_name", words::zone_name(&self.spec, phone).into());
        put("language", words::word(&self.spec, "language", settings.locale.language.as_deref()).into());
        let web_language = settings.locale.web_language.as_deref().or(settings.locale.language.as_deref());
        put("web_language", words::word(&self.spec, "language", web_language).into());
        put("tone_country", words::word(&self.spec, "tones", settings.locale.tones.as_deref()).into());
        put("call_waiting", call_waiting(phone).into());
        Ok(variables)
    }

    fn complaints(&self, phone: &Phone) -> Vec<Complaint> {
        let mut complaints = complaints_by_data(&self.spec, phone);
        let mut complain = |field: String, reason: &str| complaints.push(Complaint { field, reason: reason.into() });
        let settings = &phone.settings;
        for (index, line) in settings.lines.iter().enumerate() {
            for (place, codec) in line.sip.codecs.iter().flatten().enumerate() {
                if self.codec_names(*codec).next().is_none() {
                    complain(format!("lines.{index}.codecs.{place}"), "Flyingvoice phones have no such codec");
                }
            }
            if line.call_waiting.is_some() && call_waiting(phone).is_none() {
                complain(
                    format!("lines.{index}.call_waiting"),
                    "the phone has one switch for all lines, and the lines disagree",
                );
            }
        }
        if let Some(zone) = &phone.zone {
            if words::offset(phone).is_none() {
                complain("time.zone".into(), "only zones of whole hours from -11 to +12 are known to be understood");
            } else if zone.dst.is_some() {
                complain("time.zone".into(), "no setting for summer time is known; the phone is told standard time");
            }
        }
        for (field, table, said) in [
            ("locale.language", "language", &settings.locale.language),
            ("locale.web_language", "language", &settings.locale.web_language),
            ("locale.tones", "tones", &settings.locale.tones),
        ] {
            if said.is_some() && words::word(&self.spec, table, said.as_deref()).is_none() {
                complain(field.into(), "the phones' word for it is not known; set it under \"vendor\"");
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

impl Flyingvoice {
    fn codec_names(&self, codec: Codec) -> impl Iterator<Item = String> {
        let word =
            serde_json::to_value(codec).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
        let names = self
            .spec
            .tables
            .get("codec")
            .and_then(|table| table.get(&word))
            .map(ToString::to_string)
            .unwrap_or_default();
        names.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
    }

    /// Every codec the phones know, wanted or not: what is not switched off stays as it was. Nothing where the line does not care.
    fn codecs(&self, line: &Line) -> Vec<Value> {
        let Some(wanted) = &line.sip.codecs else {
            return Vec::new();
        };
        let wanted: Vec<String> = wanted.iter().flat_map(|codec| self.codec_names(*codec)).collect();
        let table = self.spec.tables.get("codec").into_iter().flat_map(|table| table.values());
        let mut all: Vec<String> = table
            .flat_map(|names| names.to_string().split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        all.sort_by_key(|name| wanted.iter().position(|other| other == name).unwrap_or(usize::MAX));
        all.iter()
            .map(|name| {
                let priority = wanted.iter().position(|other| other == name).map_or(0, |place| place + 1);
                json!({ "name": name, "enabled": priority > 0, "priority": priority })
            })
            .collect()
    }
}

/// `user@domain` where the domain is not the server that the phone registers with, which is what it would put there itself.
fn user_name(line: &Line) -> Option<String> {
    let user = line.username.as_ref().or(line.number.as_ref())?;
    match &line.sip.domain {
        Some(domain) if line.sip.server.as_ref() != Some(domain) => Some(format!("{user}@{domain}")),
        _ => Some(user.clone()),
    }
}

/// Accounts that the phone could hold and should not: one that was taken away must not go on registering with its old password.
fn unused_accounts(phone: &Phone) -> Vec<u16> {
    let used: Vec<u16> = phone.settings.lines.iter().filter_map(|line| line.position).collect();
    (1..=phone.capabilities.lines).filter(|position| !used.contains(position)).collect()
}

/// What the lines say with one voice; the phone has one switch for all of them.
fn call_waiting(phone: &Phone) -> Option<bool> {
    let mut said = phone.settings.lines.iter().filter_map(|line| line.call_waiting);
    let first = said.next()?;
    said.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests;
