//! The snom plugin: what `vendor.yaml` and the templates cannot say.
//!
//! Values that take deciding are decided here, one module for each kind; the templates print them. Recognising phones and naming files
//! is left to `vendor.yaml`.

mod account;
mod clock;
mod complaints;
mod dect;
mod keys;
mod raw;
mod words;

use provost_plugin::{
    Complaint, Phone, Plugin, PluginError, Spec, Variables, export_plugin,
    model::{DateFormat, HourFormat},
    spec::FileSpec,
};
use serde_json::{Value, json};

#[derive(Debug)]
pub struct Snom {
    spec: Spec,
}

impl From<Spec> for Snom {
    fn from(spec: Spec) -> Snom {
        Snom { spec }
    }
}

impl Plugin for Snom {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn variables(&self, _file: &FileSpec, phone: &Phone) -> Result<Variables, PluginError> {
        let spec = &self.spec;
        let settings = &phone.settings;
        let raw = raw::read(spec, phone)?;
        let mut keys = keys::function_keys(spec, phone);
        keys.extend(raw.keys);
        let language = settings.locale.language.as_deref().and_then(|code| words::language(spec, code));
        let web_language =
            settings.locale.web_language.as_deref().map_or(language.clone(), |code| words::language(spec, code));
        let variables = json!({
            "settings_url": phone.mac.map(|mac| format!("{}{}.xml", phone.base_url, mac.bare_upper())),
            "setting_server": setting_server(phone),
            "provisioning_order": provisioning_order(phone),
            "firmware_status": firmware_status(phone),
            "language": language,
            "web_language": web_language,
            "tones": settings.locale.tones.as_deref().and_then(|country| words::word(spec, "tones", country)),
            "clock": clock::for_phone(phone),
            "hours_24": settings.time.hours.map(|hours| hours == HourFormat::TwentyFour),
            "us_date": us_date(settings.time.date),
            "codec_tos": type_of_service(settings.qos.rtp_dscp),
            "signaling_tos": type_of_service(settings.qos.sip_dscp),
            "call_waiting": settings.lines.first().and_then(|line| line.call_waiting),
            "accounts": settings.lines.iter().map(|line| account::account(spec, phone, line)).collect::<Vec<_>>(),
            "spare_lines": spare_lines(phone),
            "servers": dect::servers(spec, phone),
            "directory": dect::directory(phone),
            "keys": keys,
            "raw_settings": raw.settings,
        });
        match variables {
            Value::Object(variables) => Ok(variables),
            _ => unreachable!("the literal above is an object"),
        }
    }

    fn complaints(&self, phone: &Phone) -> Vec<Complaint> {
        complaints::complaints(&self.spec, phone)
    }
}

export_plugin!(Snom, include_str!("../vendor.yaml"));

pub(crate) fn is_dect(phone: &Phone) -> bool {
    phone.capabilities.family.as_deref() == Some("dect")
}

/// What the phone is to fetch from now on. Of a directory it would ask for two files to get to this one, and would have to know its
/// own model; so it is told the file. What the administrator wrote stays as written unless it is a directory.
fn setting_server(phone: &Phone) -> Option<String> {
    let url = phone.settings.provisioning.url.clone()?;
    Some(match phone.mac {
        Some(mac) if url.ends_with('/') => format!("{url}{}.xml", mac.bare_upper()),
        _ => url,
    })
}

/// Out of the box the vendor's cloud is asked first, and a phone without Internet waits for it.
fn provisioning_order(phone: &Phone) -> &'static str {
    if phone.settings.provisioning.redirection == Some(true) {
        "redirection:stop pnp:stop dhcp:stop tr69:stop"
    } else {
        "pnp:stop dhcp:stop tr69:stop"
    }
}

/// The URL of the file that names the firmware. Its own file for each phone, so that one phone can be given other firmware than the
/// rest of its model. Only the families that are offered that file are told of it.
fn firmware_status(phone: &Phone) -> Option<String> {
    phone.settings.firmware_update.url.as_ref()?;
    phone.capabilities.family.as_ref().filter(|family| *family != "dect")?;
    let mac = phone.mac?;
    Some(format!("{}{}-firmware.xml", phone.base_url, mac.bare_upper()))
}

/// snom knows month first and day first.
fn us_date(date: Option<DateFormat>) -> Option<bool> {
    match date? {
        DateFormat::MonthDayYear => Some(true),
        DateFormat::DayMonthYear => Some(false),
        DateFormat::YearMonthDay => None,
    }
}

/// The code point sits in the upper six bits of the octet that snom asks for.
fn type_of_service(code_point: Option<u8>) -> Option<u16> {
    Some(u16::from(code_point?) << 2)
}

/// Lines that the model has and nobody uses: they are switched off, or a phone that moves to another desk keeps the old account.
fn spare_lines(phone: &Phone) -> Vec<u16> {
    let used = |position: &u16| phone.settings.lines.iter().any(|line| line.position == Some(*position));
    (1..=phone.capabilities.lines).filter(|position| !used(position)).collect()
}
