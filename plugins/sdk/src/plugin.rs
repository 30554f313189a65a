//! The contract between the host and a vendor's plugin.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    model::{Identity, Phone, Secret},
    spec::{FileKind, FileSpec, Spec},
};

/// What a vendor's library may add to its data. Every method has a default that the data drives, so a library overrides only what is
/// special about its vendor.
///
/// The same question gets the same answer: no clock, no randomness, no state between calls. Phones compare checksums, and a file that
/// differs without reason reboots a building. Calls may come from several threads at once and may be repeated.
///
/// What is *not* here is recognising: which phone and which file is meant is decided by `vendor.yaml` alone, so that a storm of
/// announcements costs no call into foreign code, a stalled library delays nobody else, and `explain` can show the reason.
pub trait Plugin: Send + Sync {
    /// The data this plugin stands on.
    fn spec(&self) -> &Spec;

    /// The URL to put into the NOTIFY, in the form that this phone takes.
    ///
    /// Called for each phone that will be served, after its vendor is settled. The model may be unknown. None, the default, is what
    /// `vendor.yaml` says, for every phone: a plugin that answered so once is not asked again, and a storm costs no call into it.
    fn announce(&self, _announced: &Announced) -> Result<Option<String>, PluginError> {
        Ok(None)
    }

    /// Further values for the template of `file`, beside `phone` and `file`: what has to be decided or computed, so that the template
    /// only prints. Those two names are taken, and refused by the host.
    fn variables(&self, _file: &FileSpec, _phone: &Phone) -> Result<Variables, PluginError> {
        Ok(Variables::new())
    }

    /// The bytes of `file` for `phone`, for formats that are not text; such a library may still call `templates` for the parts that are.
    /// The default leaves it to the host, which renders the file's template with what `variables` says.
    fn render(
        &self,
        _file: &FileSpec,
        _phone: &Phone,
        _templates: &dyn Render,
    ) -> Result<Option<RenderedFile>, PluginError> {
        Ok(None)
    }

    /// What `phone` asks for that this model cannot do. Reported by `provost check` at the line where it was asked for.
    fn complaints(&self, phone: &Phone) -> Vec<Complaint> {
        complaints_by_data(self.spec(), phone)
    }
}

/// Further values for a template.
pub type Variables = Map<String, Value>;

/// A phone that announced itself and will be served.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Announced {
    pub identity: Identity,
    /// This server as the phone reaches it, with a slash at the end.
    pub base_url: String,
}

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedFile {
    pub body: Vec<u8>,
    pub content_type: String,
}

/// A field that cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// Dotted path into the settings, counted from 0 in lists: `keys.12.kind`.
    pub field: String,
    /// Why not, without naming the field: `the model has 12 keys`.
    pub reason: String,
}

/// The host's template engine, as a plugin sees it while a file is rendered.
pub trait Render {
    /// Renders a template of this vendor for the phone whose file it is. `template` is relative to the vendor's own directory; site
    /// overrides come first. `variables` is what the template sees beside `phone` and `file`.
    fn render(&self, template: &str, variables: &Variables) -> Result<String, TemplateFailure>;
}

/// A template that could not be rendered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} ({template}:{line})")]
pub struct TemplateFailure {
    /// The file, as a person would open it.
    pub template: String,
    pub line: usize,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PluginError {
    #[error(transparent)]
    Template(#[from] TemplateFailure),
    /// Anything else, in words for the administrator.
    #[error("{0}")]
    Other(String),
}

impl Phone {
    /// The phone as templates and libraries see it, passwords included.
    pub fn to_json(&self) -> Value {
        Secret::exposed(|| serde_json::to_value(self).expect("a phone is plain data"))
    }
}

/// Writes out the URL pattern that `vendor.yaml` gives for this phone's family.
pub fn announce_by_data(spec: &Spec, announced: &Announced) -> Result<String, PluginError> {
    let identity = &announced.identity;
    let row = match identity.model.as_deref() {
        Some(model) => spec.model(model).map(|(_, model)| model),
        None => spec.models.get("*"),
    };
    let family = row.and_then(|model| spec.families.get(model.family.as_deref()?));
    let pattern = family.and_then(|family| family.announce.as_ref()).unwrap_or(&spec.announce.url);
    expand_url(pattern, &announced.base_url, identity)
}

/// Fills `{base}`, `{mac}`, `{MAC}`, `{model}`, `{vendor}` and `{firmware}` into a URL. What the phone said is percent-encoded: it came
/// from the network and must not become a second line or another host.
pub fn expand_url(pattern: &str, base_url: &str, identity: &Identity) -> Result<String, PluginError> {
    let missing = |what: &str| {
        PluginError::Other(format!("the URL \"{pattern}\" needs the phone's {what}, which it did not tell"))
    };
    let mut url = String::new();
    let mut rest = pattern;
    while let Some(open) = rest.find('{') {
        url.push_str(&rest[..open]);
        let close = rest[open..]
            .find('}')
            .map(|end| open + end)
            .ok_or_else(|| PluginError::Other(format!("the URL \"{pattern}\" has a {{ that is never closed")))?;
        match &rest[open + 1..close] {
            "base" => url.push_str(base_url),
            "mac" => url.push_str(&identity.mac.ok_or_else(|| missing("MAC"))?.bare()),
            "MAC" => url.push_str(&identity.mac.ok_or_else(|| missing("MAC"))?.bare_upper()),
            "model" => url.push_str(&percent_encode(identity.model.as_deref().ok_or_else(|| missing("model"))?)),
            "vendor" => url.push_str(&percent_encode(identity.vendor.as_deref().ok_or_else(|| missing("vendor"))?)),
            "firmware" => {
                url.push_str(&percent_encode(identity.firmware.as_deref().ok_or_else(|| missing("firmware"))?))
            }
            other => {
                return Err(PluginError::Other(format!(
                    "the URL \"{pattern}\" has an unknown placeholder {{{other}}}; known are {{base}}, {{mac}}, {{MAC}}, {{model}}, {{vendor}} and {{firmware}}"
                )));
            }
        }
        rest = &rest[close + 1..];
    }
    url.push_str(rest);
    match no_url(&url) {
        None => Ok(url),
        Some(why) => Err(PluginError::Other(why)),
    }
}

/// Why it cannot be a URL, if it cannot: a phone would read a second line, or take what follows a blank for something else (RFC 3986 §2).
pub fn no_url(text: &str) -> Option<String> {
    let stranger = text.chars().find(|character| character.is_control() || character.is_whitespace())?;
    Some(format!("the URL {text:?} has a {stranger:?} (U+{:04X}), which no URL has", u32::from(stranger)))
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Compares what is asked for with the models table, the tables of words and the list of what is not supported.
pub fn complaints_by_data(spec: &Spec, phone: &Phone) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut complain = |field: String, reason: String| complaints.push(Complaint { field, reason });
    let model = phone.model.as_deref().unwrap_or("phone");
    let capabilities = &phone.capabilities;
    let settings = &phone.settings;
    for (index, line) in settings.lines.iter().enumerate() {
        if capabilities.lines > 0 && line.position.is_some_and(|position| position > capabilities.lines) {
            complain(format!("lines.{index}"), format!("{model} has {} lines", capabilities.lines));
        }
    }
    let family = capabilities.family.as_deref();
    let of_family = family.and_then(|family| spec.families.get(family));
    let kinds = spec.table("key_kind", family);
    let expansion = settings
        .expansion
        .iter()
        .enumerate()
        .map(|(module, keys)| (format!("expansion.{module}."), &keys.keys, capabilities.expansion_keys));
    for (prefix, keys, limit) in std::iter::once((String::new(), &settings.keys, capabilities.keys)).chain(expansion) {
        for (index, key) in keys.iter().enumerate() {
            if let Some(limit) = limit
                && key.position.is_some_and(|position| position > limit)
            {
                complain(format!("{prefix}keys.{index}"), format!("{model} has {limit} keys there"));
            }
            let word = serde_json::to_value(key.kind)
                .ok()
                .and_then(|kind| kind.as_str().map(str::to_owned))
                .unwrap_or_default();
            if kinds.is_some_and(|kinds| !kinds.contains_key(&word)) {
                complain(
                    format!("{prefix}keys.{index}.kind"),
                    format!("{} phones have no key of this kind", spec.vendor),
                );
            }
        }
    }
    if let Some(modules) = capabilities.expansion_modules
        && settings.expansion.len() > usize::from(modules)
    {
        complain(format!("expansion.{modules}"), format!("{model} takes {modules} expansion modules"));
    }
    let asked = serde_json::to_value(settings).unwrap_or_default();
    let unsupported = of_family.map_or(&[][..], |family| &family.unsupported);
    for path in spec.unsupported.iter().chain(unsupported).chain(&capabilities.unsupported) {
        for field in set_fields(&asked, path) {
            complain(field, format!("{} phones have no setting for it", spec.vendor));
        }
    }
    let not_yet = of_family.map_or(&[][..], |family| &family.not_yet);
    for path in spec.not_yet.iter().chain(not_yet) {
        for field in set_fields(&asked, path) {
            complain(field, format!("the templates for {} do not write it yet; set it under \"vendor\"", spec.vendor));
        }
    }
    for (path, table) in &spec.words {
        for (field, word) in set_words(&asked, path) {
            if spec.word(table, family, &word).is_none() {
                complain(field, format!("no word of {} phones is known for \"{word}\"", spec.vendor));
            }
        }
    }
    if let Some(pattern) = &spec.raw_name {
        for name in phone.raw.keys().filter(|name| !pattern.0.is_match(name)) {
            complain(
                format!("vendor.{}.{name}", phone.vendor),
                format!("{} has no parameter of that form", spec.vendor),
            );
        }
    }
    for name in phone.switches.keys().filter(|name| !spec.options.contains_key(*name)) {
        complain(format!("options.{}.{name}", phone.vendor), format!("the {} plugin has no such option", spec.vendor));
    }
    complaints
}

/// The fields at or below a dotted path that somebody set. A path that goes through a list goes into each of its entries; one that ends
/// at a list means each entry as a whole, and a list of plain values as a whole: that is what a person asked for.
fn set_fields(settings: &Value, path: &str) -> Vec<String> {
    fn walk(value: &Value, steps: &[&str], at: String, found: &mut Vec<String>) {
        let under =
            |step: &dyn std::fmt::Display| if at.is_empty() { step.to_string() } else { format!("{at}.{step}") };
        match (value, steps.split_first()) {
            (Value::Array(items), None) if !items.iter().any(Value::is_object) => {
                found.extend((!items.is_empty()).then_some(at));
            }
            (Value::Array(items), None) => found.extend((0..items.len()).map(|index| under(&index))),
            (Value::Array(items), Some(_)) => {
                for (index, item) in items.iter().enumerate() {
                    walk(item, steps, under(&index), found);
                }
            }
            (Value::Object(fields), Some((step, rest))) => {
                if let Some(field) = fields.get(*step) {
                    walk(field, rest, under(step), found);
                }
            }
            (Value::Object(fields), None) => {
                for (name, field) in fields {
                    walk(field, &[], under(name), found);
                }
            }
            (Value::Null, _) => {}
            (_, None) => found.push(at),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(settings, &path.split('.').collect::<Vec<_>>(), String::new(), &mut found);
    found
}

/// The words at a dotted path, each with the field that it stands in; those of a list one by one.
fn set_words(settings: &Value, path: &str) -> Vec<(String, String)> {
    set_fields(settings, path)
        .into_iter()
        .flat_map(|field| {
            let value = field.split('.').try_fold(settings, |value, step| match step.parse::<usize>() {
                Ok(index) => value.get(index),
                Err(_) => value.get(step),
            });
            match value {
                Some(Value::Array(words)) => words
                    .iter()
                    .enumerate()
                    .filter_map(|(index, word)| Some((format!("{field}.{index}"), word.as_str()?.to_owned())))
                    .collect(),
                Some(Value::String(word)) => vec![(field, word.clone())],
                _ => Vec::new(),
            }
        })
        .collect()
}

/// Switches of `spec` with their defaults, overlaid by what the profile says.
pub fn switches(spec: &Spec, set: &BTreeMap<String, crate::Scalar>) -> BTreeMap<String, crate::Scalar> {
    let mut switches: BTreeMap<_, _> =
        spec.options.iter().map(|(name, switch)| (name.clone(), switch.default.clone())).collect();
    switches.extend(set.iter().map(|(name, value)| (name.clone(), value.clone())));
    switches
}

/// Whether `file` is offered to `phone`: its family and its switch allow it.
pub fn offers(file: &FileSpec, phone: &Phone) -> bool {
    let family = file.families.is_empty()
        || phone.capabilities.family.as_ref().is_some_and(|family| file.families.contains(family));
    let switch = file.option.as_ref().is_none_or(|option| phone.switches.get(option).is_some_and(crate::Scalar::is_on));
    family && switch
}

/// The names of the files that `phone` may fetch, in the order in which it asks.
pub fn offered_files(spec: &Spec, phone: &Phone) -> Vec<(String, FileKind)> {
    spec.files
        .iter()
        .filter(|file| offers(file, phone))
        .flat_map(|file| names(spec, file, phone).into_iter().map(|name| (name, file.kind)))
        .collect()
}

/// The names under which `phone` may ask for `file`.
fn names(spec: &Spec, file: &FileSpec, phone: &Phone) -> Vec<String> {
    let books = || phone.settings.phonebook.remote.iter().filter_map(|remote| remote.book.as_deref());
    let expand = |book| file.name.expand_for(book, phone.mac, phone.model.as_deref(), &phone.capabilities);
    let mut names: Vec<String> = match file.kind {
        FileKind::Directory if file.name.names_a_book() => {
            // Of several forms of one list, a phone is told the first that is for its family.
            let told = spec.directory(phone.capabilities.family.as_deref());
            let is_told = told.is_some_and(|told| std::ptr::eq(told, file));
            books().filter(|_| is_told).filter_map(|book| expand(Some(book))).collect()
        }
        FileKind::Directory if books().next().is_none() => Vec::new(),
        _ => expand(None).into_iter().collect(),
    };
    // The name of a model that nobody knows leads nowhere when it is asked for.
    names.retain(|name| file.name.capture(name, &spec.models).is_some());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_lead_back_are_offered() {
        let spec = Spec::read(
            "{vendor: Acme, models: {X1: {}}, files: [{name: '{model}.cfg', template: a.cfg.j2}, {name: '{mac}.cfg', template: a.cfg.j2}],\n\
             formats: {cfg: {escape: line, content_type: text/plain}}, announce: {url: '{base}'}}",
        )
        .unwrap();
        let offered = |model: &str| {
            let mac = "02005e000001".parse().ok();
            let phone = Phone { mac, model: Some(model.into()), ..Phone::default() };
            offered_files(&spec, &phone).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(offered("X1"), ["X1.cfg", "02005e000001.cfg"]);
        assert_eq!(offered("OEM"), ["02005e000001.cfg"]);
    }

    #[test]
    fn words_that_the_phones_do_not_know_are_told_one_by_one() {
        let spec = Spec::read(
            "{vendor: Acme, files: [], announce: {url: '{base}'}, words: {lines.codecs: codecs, locale.language: languages},\n\
             tables: {codecs: {pcma: 8}, languages: {de: German, pt-BR: Brazilian}}}",
        )
        .unwrap();
        let complaints = |language: &str| {
            let settings = serde_json::json!({
                "lines": [{ "codecs": ["pcma", "opus"] }, { "codecs": ["g729"] }],
                "locale": { "language": language },
            });
            let phone = Phone { settings: serde_json::from_value(settings).unwrap(), ..Phone::default() };
            complaints_by_data(&spec, &phone).into_iter().map(|complaint| complaint.field).collect::<Vec<_>>()
        };
        assert_eq!(complaints("de-AT"), ["lines.0.codecs.1", "lines.1.codecs.0"]);
        assert_eq!(complaints("PT-br"), ["lines.0.codecs.1", "lines.1.codecs.0"]);
        assert_eq!(complaints("pt"), ["lines.0.codecs.1", "lines.1.codecs.0", "locale.language"]);
    }

    #[test]
    fn what_is_asked_for_in_vain_is_told_once_for_each_thing_that_was_asked_for() {
        let spec = Spec::read(
            "{vendor: Acme, files: [], formats: {}, announce: {url: '{base}'}, unsupported: [keys, lines.codecs, qos, time.ntp, dect]}",
        )
        .unwrap();
        let settings = serde_json::json!({
            "keys": [{ "kind": "blf", "value": "200", "label": "Ben", "line": 1 }, { "kind": "line" }],
            "lines": [{ "codecs": ["pcma", "pcmu"] }, {}, { "codecs": ["g722"] }],
            "qos": { "sip_dscp": 26, "rtp_dscp": 46 },
            "time": { "ntp": [] },
        });
        let phone = Phone { settings: serde_json::from_value(settings).unwrap(), ..Phone::default() };
        let fields: Vec<String> =
            complaints_by_data(&spec, &phone).into_iter().map(|complaint| complaint.field).collect();
        let expected = ["keys.0", "keys.1", "lines.0.codecs", "lines.2.codecs", "qos.rtp_dscp", "qos.sip_dscp"];
        assert_eq!(fields, expected);
    }
}
