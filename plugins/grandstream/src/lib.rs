//! Grandstream: desk phones by P value or by alias, analogue adapters, and the binary file of older firmware.
//!
//! `vendor.yaml` holds what data can say. Here is the rest: the numbers that follow from an account's or a key's position, values that
//! have to be taken apart or put together (URLs, time zones, codec lists), and the binary framing. What the phones read stands in
//! `templates/grandstream`.

mod accounts;
pub mod binary;
mod family;
mod keys;
mod server;
mod zone;

use std::net::Ipv4Addr;

use provost_plugin::{
    Complaint, Phone, Plugin, PluginError, Render, RenderedFile, Scalar, Secret, Spec, Variables, complaints_by_data,
    export_plugin,
    model::{Codec, RemotePhonebook, Web},
    spec::FileSpec,
};
use serde_json::{Value, json};

use crate::{family::Family, server::Server};

/// The template that answers every XML file.
const CONFIG: &str = "config.xml.j2";
/// Phonebooks beyond the first that a phone configured by alias can fetch.
const MORE_PHONEBOOKS: usize = 3;

#[derive(Debug)]
pub struct Grandstream {
    spec: Spec,
}

impl From<Spec> for Grandstream {
    fn from(spec: Spec) -> Grandstream {
        Grandstream { spec }
    }
}

export_plugin!(Grandstream, include_str!("../vendor.yaml"));

impl Plugin for Grandstream {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn variables(&self, _file: &FileSpec, phone: &Phone) -> Result<Variables, PluginError> {
        let family = Family::of(phone);
        let settings = &phone.settings;
        let provisioning =
            settings.provisioning.url.as_deref().map(|url| server(url, "/", "provisioning.url")).transpose()?;
        let firmware = settings
            .firmware_update
            .url
            .as_deref()
            .map(|url| server(url, ".bin", "firmware_update.url"))
            .transpose()?;
        let phonebook = settings.phonebook.remote.first().map(phonebook).transpose()?.flatten();
        let variables = json!({
            "bare_mac": phone.mac.map(|mac| mac.bare()),
            "aliases": family.aliases,
            "adapter": family.is_adapter(),
            "accounts": accounts::accounts(&family, phone),
            "unused_accounts": accounts::unused(&family, phone),
            "codec_table": family.codec_table(),
            "function_keys": keys::keys(&self.spec, &family, phone),
            "keepalive": keepalive(phone),
            "stun_server": stun_server(phone),
            "time_zone": phone.zone.as_ref().map(zone::self_defined),
            "language": self.language(phone),
            "dns": dns(phone),
            "web_access": web_access(&settings.access.web).filter(|word| family.has_web_access(word)),
            "brightness": settings.display.brightness.map(|percent| brightness(&family, percent)),
            "ring_volume": settings.audio.ring_volume.map(|percent| scale(percent, 7)),
            "provisioning_server": provisioning.as_ref().map(as_json),
            "firmware_server": firmware.as_ref().map(as_json),
            "phonebook_server": phonebook.as_ref().map(as_json),
            "phonebook_minutes": settings.phonebook.remote.first().and_then(|book| book.refresh).map(phonebook_minutes),
            "more_phonebooks": more_phonebooks(&family, phone),
            "ldap_name_attributes": joined(&settings.phonebook.ldap.name_attributes),
            "ldap_number_attributes": joined(&settings.phonebook.ldap.number_attributes),
            "polling_minutes": settings.provisioning.refresh.map(polling_minutes),
            "raw": raw(&family, phone),
        });
        match variables {
            Value::Object(variables) => Ok(variables),
            _ => unreachable!("written as an object above"),
        }
    }

    fn render(
        &self,
        file: &FileSpec,
        phone: &Phone,
        templates: &dyn Render,
    ) -> Result<Option<RenderedFile>, PluginError> {
        if file.template.is_some() {
            return Ok(None);
        }
        let mac = phone.mac.ok_or_else(|| other("a binary file belongs to one phone, and this one has no MAC"))?;
        let xml = templates.render(CONFIG, &self.variables(file, phone)?)?;
        let body = binary::encode(mac, &p_values(&xml)?)
            .ok_or_else(|| other("the binary file grows past what its header can tell"))?;
        Ok(Some(RenderedFile { body, content_type: "application/octet-stream".into() }))
    }

    fn complaints(&self, phone: &Phone) -> Vec<Complaint> {
        let family = Family::of(phone);
        let mut complaints = complaints_by_data(&self.spec, phone);
        let model = phone.model.as_deref().unwrap_or("the phone");
        let settings = &phone.settings;
        let mut complain = |field: String, reason: String| {
            if !complaints.iter().any(|other| other.field == field) {
                complaints.push(Complaint { field, reason });
            }
        };
        for (index, line) in settings.lines.iter().enumerate() {
            if line.position.is_some_and(|position| !accounts::is_known(&family, position)) {
                complain(format!("lines.{index}"), format!("which P values hold this account of {model} is not known"));
            }
            for (choice, codec) in line.sip.codecs.iter().flatten().enumerate() {
                if !family.can_play(*codec) {
                    complain(format!("lines.{index}.codecs.{choice}"), format!("{model} has no {}", word(codec)));
                } else if choice >= usize::from(family.codec_choices) {
                    complain(
                        format!("lines.{index}.codecs.{choice}"),
                        format!("{model} takes {} codecs", family.codec_choices),
                    );
                }
            }
        }
        for (index, key) in settings.keys.iter().enumerate() {
            if let Some((field, reason)) = keys::complaint(&self.spec, &family, phone, None, key) {
                complain(format!("keys.{index}{field}"), reason);
            }
        }
        for (module, keys) in settings.expansion.iter().enumerate() {
            for (index, key) in keys.keys.iter().enumerate() {
                if let Some((field, reason)) = keys::complaint(&self.spec, &family, phone, Some(module), key) {
                    complain(format!("expansion.{module}.keys.{index}{field}"), reason);
                }
            }
        }
        if settings.locale.language.is_some() && self.language(phone).is_none() {
            complain("locale.language".into(), format!("{model} has no such language"));
        }
        if web_access(&settings.access.web).is_some_and(|word| !family.has_web_access(word)) {
            complain("access.web".into(), format!("{model} serves its pages over HTTP or over HTTPS"));
        }
        if settings.network.dns.first().is_some_and(|server| server.parse::<Ipv4Addr>().is_err()) {
            complain("network.dns.0".into(), format!("{model} takes an IPv4 address there"));
        }
        for (field, url, extension) in [
            ("provisioning.url", settings.provisioning.url.as_deref(), "/"),
            ("firmware_update.url", settings.firmware_update.url.as_deref(), ".bin"),
        ] {
            if url.is_some_and(|url| server::split(url, extension).is_none()) {
                complain(field.into(), "it must be an http, https or tftp URL".into());
            }
        }
        for (index, book) in settings.phonebook.remote.iter().enumerate() {
            let field = format!("phonebook.remote.{index}");
            let file = book.url.as_deref().and_then(|url| server::split(url, ".xml")).and_then(|server| server.file);
            if index > if family.aliases { MORE_PHONEBOOKS } else { 0 } {
                complain(field, format!("{model} fetches no further phonebook"));
            } else if index == 0 && file.is_some_and(|file| file != "phonebook.xml" && file != "gs_phonebook.xml") {
                complain(
                    format!("{field}.url"),
                    "the phone asks for phonebook.xml there, whatever the URL says".into(),
                );
            }
        }
        for name in phone.raw.keys().filter(|name| is_p_value(name) == family.aliases) {
            let instead = if family.aliases { "aliases, account.1.enable" } else { "P values, P271" };
            complain(format!("vendor.{}.{name}", phone.vendor), format!("the file of {model} is written in {instead}"));
        }
        complaints
    }
}

impl Grandstream {
    /// The code of the screen's language: that of the region where there is one, else that of the language.
    fn language(&self, phone: &Phone) -> Option<&Scalar> {
        let asked = phone.settings.locale.language.as_ref()?.to_lowercase();
        let table = self.spec.tables.get("language")?;
        table.get(&asked).or_else(|| table.get(asked.split(['-', '_']).next()?))
    }
}

fn other(message: impl Into<String>) -> PluginError {
    PluginError::Other(message.into())
}

fn server(url: &str, extension: &str, field: &str) -> Result<Server, PluginError> {
    server::split(url, extension).ok_or_else(|| {
        other(format!("cannot tell the phone of {field} \"{url}\": it must be an http, https or tftp URL"))
    })
}

fn phonebook(book: &RemotePhonebook) -> Result<Option<Server>, PluginError> {
    book.url.as_deref().map(|url| server(url, ".xml", "phonebook.remote.0.url")).transpose()
}

fn more_phonebooks(family: &Family, phone: &Phone) -> Vec<Value> {
    let books = if family.aliases { &phone.settings.phonebook.remote[..] } else { &[] };
    books.iter().skip(1).take(MORE_PHONEBOOKS).map(|book| Secret::exposed(|| json!(book))).collect()
}

fn as_json(server: &Server) -> Value {
    json!({ "protocol": server.protocol, "path": server.path })
}

fn joined(words: &[String]) -> Option<String> {
    (!words.is_empty()).then(|| words.join(" "))
}

/// The phones have one interval for all accounts: the shortest that a line asks for, within what they take.
fn keepalive(phone: &Phone) -> Option<u16> {
    let lines = phone.settings.lines.iter().filter_map(|line| line.sip.keepalive);
    lines.chain(phone.settings.sip.keepalive).filter(|seconds| *seconds > 0).min().map(|seconds| seconds.clamp(10, 160))
}

/// One STUN server for all accounts: that of the first line that has one.
fn stun_server(phone: &Phone) -> Option<String> {
    let lines = phone.settings.lines.iter().map(|line| &line.sip);
    let sip = lines.chain([&phone.settings.sip]).find(|sip| sip.stun_server.is_some())?;
    let host = sip.stun_server.as_ref()?;
    Some(sip.stun_port.map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
}

/// The preferred name server, which the phones take in four parts.
fn dns(phone: &Phone) -> Option<[u8; 4]> {
    phone.settings.network.dns.first()?.parse::<Ipv4Addr>().ok().map(|address| address.octets())
}

/// One setting for both protocols. What is not said about one of them follows from the other.
fn web_access(web: &Web) -> Option<&'static str> {
    let (http, https) = match (web.http, web.https) {
        (None, None) => return None,
        (http, https) => (http.or(https.map(|on| !on))?, https.or(http.map(|on| !on))?),
    };
    Some(match (http, https) {
        (true, true) => "both",
        (true, false) => "http",
        (false, true) => "https",
        (false, false) => "disabled",
    })
}

fn brightness(family: &Family, percent: u8) -> u8 {
    if family.id == "gxp16" { scale(percent, 8) } else { percent.clamp(10, 100) }
}

/// Per cent on a scale from 0 to `most`.
fn scale(percent: u8, most: u16) -> u8 {
    u8::try_from((u16::from(percent.min(100)) * most + 50) / 100).unwrap_or(u8::MAX)
}

/// The phones look once an hour at most.
fn polling_minutes(seconds: u32) -> u32 {
    if seconds == 0 { 0 } else { seconds.div_ceil(60).max(60) }
}

/// 0 is never; otherwise they take 5 minutes to 12 hours.
fn phonebook_minutes(seconds: u32) -> u32 {
    if seconds == 0 { 0 } else { seconds.div_ceil(60).clamp(5, 720) }
}

fn is_p_value(name: &str) -> bool {
    name.strip_prefix('P')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
}

/// Raw settings in the form of this phone's file; names of the other form would make it invalid.
fn raw(family: &Family, phone: &Phone) -> Vec<Value> {
    phone
        .raw
        .iter()
        .filter(|(name, _)| is_p_value(name) != family.aliases)
        .map(|(name, value)| match value {
            // Aliases are switched by word.
            Scalar::Bool(on) if family.aliases => json!([name, if *on { "Yes" } else { "No" }]),
            value => json!([name, value]),
        })
        .collect()
}

fn word(codec: &Codec) -> String {
    serde_json::to_value(codec).ok().and_then(|word| word.as_str().map(str::to_uppercase)).unwrap_or_default()
}

/// The P values of a rendered XML file, in its order.
fn p_values(xml: &str) -> Result<Vec<binary::PValue>, PluginError> {
    let document =
        roxmltree::Document::parse(xml).map_err(|error| other(format!("cannot read \"{CONFIG}\" as XML: {error}")))?;
    let elements = document.descendants().filter(|node| node.is_element() && is_p_value(node.tag_name().name()));
    Ok(elements.map(|node| (node.tag_name().name().to_owned(), node.text().unwrap_or_default().to_owned())).collect())
}

#[cfg(test)]
mod tests;
