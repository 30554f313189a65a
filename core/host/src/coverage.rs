//! Which fields of the common model reach the files of a vendor's phones: found out by changing each and looking at what is rendered.
//!
//! What a file says of a field cannot be read off its template, least of all where a library decides. So every model's files are
//! rendered for a phone that has everything set, and again with one field changed; and for a phone that has the least a phone needs, and
//! again with one field more, since some settings hide behind others. Where some byte differs, the field is honoured.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use provost_plugin::{
    MacAddr, Phone, Scalar, Spec,
    model::{Changeover, DstRule, Settings, Zone},
    offers,
    spec::{FileKind, FileSpec, Model},
    switches,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{CallError, InService, trial};

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Honour {
    /// A file says it.
    Honoured,
    /// Declared: the phones have no setting for it.
    Unsupported,
    /// Declared: the templates do not write it yet.
    NotYet,
    /// No file says it, and nothing declares that.
    Forgotten,
    /// A file says it though `vendor.yaml` declares that none does.
    Contradicted,
}

/// What becomes of a field on phones of each family; those of no family are under the empty name.
pub type Honours = BTreeMap<String, Honour>;

/// What becomes of a field in all: what nobody has seen to first, then the best that some family makes of it.
pub fn in_all(honours: &Honours) -> Honour {
    [Honour::Contradicted, Honour::Forgotten, Honour::Honoured, Honour::NotYet]
        .into_iter()
        .find(|wanted| honours.values().any(|honour| honour == wanted))
        .unwrap_or(Honour::Unsupported)
}

/// Every field of the common model, as a dotted path without positions (`lines.codecs`), and what this vendor makes of it.
pub fn coverage(plugin: &InService) -> Result<BTreeMap<String, Honours>, CallError> {
    let mut all: BTreeMap<String, Honours> = BTreeMap::new();
    let mut models = models(&plugin.spec);
    if models.is_empty() {
        models.push(("sample".to_owned(), &UNLISTED));
    }
    let families: BTreeSet<Option<&str>> = models.iter().map(|(_, model)| model.family.as_deref()).collect();
    for family in families {
        let of_family: Vec<_> = models.iter().filter(|(_, model)| model.family.as_deref() == family).collect();
        for (field, honour) in of_one_family(plugin, family, &of_family)? {
            all.entry(field).or_default().insert(family.unwrap_or_default().to_owned(), honour);
        }
    }
    Ok(all)
}

/// A phone of a vendor that lists no models.
static UNLISTED: LazyLock<Model> = LazyLock::new(Model::default);

fn of_one_family(
    plugin: &InService,
    family: Option<&str>,
    models: &[&(String, &Model)],
) -> Result<BTreeMap<String, Honour>, CallError> {
    let spec = &plugin.spec;
    let of_family = family.and_then(|family| spec.families.get(family));
    let (one, other) = (sample(spec, family, 0), sample(spec, family, 1));
    let least = |field: &str| only(&one, &|path| path == field || NEEDED.contains(&path));
    // With what bears the same first name: a `backup_port` without a `backup_server` is nothing.
    let kin = |field: &str, with: bool| {
        let stem = field.rfind(['.', '_']).map_or(field, |end| &field[..end]);
        only(&one, &|path| NEEDED.contains(&path) || path.starts_with(stem) && (with || path != field))
    };
    let render = |settings: &Value| -> Result<Vec<_>, _> {
        models.iter().map(|(name, model)| files(plugin, name, model, settings)).collect()
    };
    let (full, full_other, bare) = (render(&one)?, render(&other)?, render(&least(""))?);
    let mut honours = BTreeMap::new();
    for field in fields(&one).into_iter().filter(|field| !is_elsewhere(field)) {
        // A value that the files cannot do without says by its error that they have it.
        let differs = |settings: &Value, before: &Vec<Vec<u8>>| render(settings).map_or(true, |after| after != *before);
        let seen = differs(&replaced(&one, &field, None), &full)
            || differs(&replaced(&one, &field, Some(&other)), &full)
            || differs(&replaced(&other, &field, Some(&one)), &full_other)
            || differs(&least(&field), &bare)
            || differs(&kin(&field, true), &render(&kin(&field, false))?)
            || NEEDED.contains(&field.as_str()) && differs(&replaced(&least(""), &field, Some(&other)), &bare);
        let declared = |list: &[String]| list.iter().any(|path| covers(path, &field));
        let unsupported = declared(&spec.unsupported)
            || of_family.is_some_and(|family| declared(&family.unsupported))
            || models.iter().all(|(_, model)| declared(&model.unsupported));
        let not_yet = declared(&spec.not_yet) || of_family.is_some_and(|family| declared(&family.not_yet));
        let honour = match (seen, unsupported, not_yet) {
            (false, true, _) => Honour::Unsupported,
            (false, false, true) => Honour::NotYet,
            (false, false, false) => Honour::Forgotten,
            (true, false, false) => Honour::Honoured,
            (true, ..) => Honour::Contradicted,
        };
        honours.insert(field, honour);
    }
    Ok(honours)
}

/// Every file of every kind of phone that this vendor has, for phones that have everything set: what its templates can write.
pub fn everything(plugin: &InService) -> Result<Vec<Vec<u8>>, CallError> {
    let spec = &plugin.spec;
    let mut all = Vec::new();
    for (name, model) in &spec.models {
        let (name, family) = (name.replace('*', "0"), model.family.as_deref());
        let (one, other) = (sample(spec, family, 0), sample(spec, family, 1));
        let least = only(&one, &|path| NEEDED.contains(&path));
        // A list of people that is searched at its own server, and not one of ours.
        let elsewhere = replaced(&one, "phonebook.remote.book", None);
        // A ring tone that is fetched.
        let mut fetched = one.clone();
        for place in ["/lines/0/ringtone", "/lines/1/ringtone", "/audio/ringtone"] {
            *fetched.pointer_mut(place).expect("the sample has it") = json!("http://192.0.2.1:8080/assets/ring.wav");
        }
        for settings in [&one, &other, &elsewhere, &fetched, &least] {
            // What nobody can read says nothing.
            let readable = replaced(settings, "provisioning.encryption.active", None);
            let phone = phone(spec, &name, model, &readable);
            all.extend(bodies(plugin, &Phone { switches: turned(&phone), ..phone.clone() })?);
            all.extend(bodies(plugin, &phone)?);
        }
    }
    Ok(all)
}

/// Every field of the common model that is a vendor's business, as in [`coverage`].
pub fn fields_of_the_model() -> Vec<String> {
    let any = Spec::read("{vendor: any, files: [], announce: {url: ''}}").expect("a spec");
    fields(&sample(&any, None, 0)).into_iter().filter(|field| !is_elsewhere(field)).collect()
}

/// What the phone of the second comparison has.
const NEEDED: &[&str] = &[
    "lines.position",
    "lines.enabled",
    "lines.label",
    "lines.username",
    "lines.auth_username",
    "lines.password",
    "lines.display_name",
    "lines.server",
    "keys.position",
    "keys.kind",
    "keys.value",
    "keys.line",
    "expansion.keys.position",
    "expansion.keys.kind",
    "expansion.keys.value",
    "expansion.keys.line",
    "provisioning.url",
];

/// Fields that are not the vendors' business.
fn is_elsewhere(field: &str) -> bool {
    // A position is a place, not a setting. A number becomes user and label, a protocol part of the URL, the name of a list its URL, and
    // policy and version decide whether there is a firmware URL, all before a plugin sees them; only an unanswered call has rung for a
    // while.
    field.ends_with(".position")
        || matches!(
            field,
            "lines.number"
                | "provisioning.protocol"
                | "firmware_update.policy"
                | "firmware_update.version"
                | "phonebook.remote.book"
                | "lines.forward.always.timeout"
                | "lines.forward.busy.timeout"
        )
}

/// Whether a declared path is this field or a section around it.
pub(crate) fn covers(path: &str, field: &str) -> bool {
    field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The models that differ in anything but their names and how much of everything they have.
pub(crate) fn models(spec: &Spec) -> Vec<(String, &Model)> {
    let unlike = |one: &Model, other: &Model| one.family != other.family || one.unsupported != other.unsupported;
    // Of those that are alike, the one with the most keys, which has all sections of them, and the one with the most modules.
    let best = |(_, model): &(&String, &Model)| {
        let outdone = |other: &&Model| {
            !unlike(model, other)
                && other.keys >= model.keys
                && other.expansion_modules >= model.expansion_modules
                && (other.keys, other.expansion_modules) != (model.keys, model.expansion_modules)
        };
        !spec.models.values().any(|other| outdone(&other))
    };
    let mut models: Vec<(String, &Model)> = Vec::new();
    // A row for many models knows the least of each.
    let (any, exact): (Vec<_>, Vec<_>) = spec.models.iter().filter(best).partition(|(name, _)| name.contains('*'));
    for (name, model) in exact.into_iter().chain(any) {
        let same = |seen: &Model| {
            !unlike(seen, model) && (seen.keys, seen.expansion_modules) == (model.keys, model.expansion_modules)
        };
        if !models.iter().any(|(_, seen)| same(seen)) {
            models.push((name.replace('*', "0"), model));
        }
    }
    models
}

/// Every file of one phone, one after the other.
pub(crate) fn files(plugin: &InService, name: &str, model: &Model, settings: &Value) -> Result<Vec<u8>, CallError> {
    Ok(bodies(plugin, &phone(&plugin.spec, name, model, settings))?.join(&0))
}

fn bodies(plugin: &InService, phone: &Phone) -> Result<Vec<Vec<u8>>, CallError> {
    // A list of people is the same whatever the phone's settings are.
    let settled = |file: &FileSpec| offers(file, phone) && file.kind != FileKind::Directory;
    let offered = plugin.spec.files.iter().enumerate().filter(|(_, file)| settled(file));
    offered.map(|(index, file)| Ok(plugin.render(index, &seen_by(file, phone))?.body)).collect()
}

/// The switches of a phone the other way round: what is on is off, and a text that is empty is one.
pub(crate) fn turned(phone: &Phone) -> BTreeMap<String, Scalar> {
    let turn = |(name, value): (&String, &Scalar)| {
        let other = match value {
            Scalar::Bool(on) => Scalar::Bool(!on),
            Scalar::Text(text) if text.is_empty() => Scalar::Text("http://192.0.2.1:8080/assets/file".into()),
            other => other.clone(),
        };
        (name.clone(), other)
    };
    phone.switches.iter().map(turn).collect()
}

/// A phone of this model with these settings.
pub(crate) fn phone(spec: &Spec, name: &str, model: &Model, settings: &Value) -> Phone {
    let mut settings: Settings = serde_json::from_value(settings.clone()).expect("a changed sample is still one");
    // What is one setting for the whole phone is read where all lines have it from.
    settings.sip = settings.lines.first().map(|line| line.sip.clone()).unwrap_or_default();
    let zone = settings.time.zone.as_deref().map(zone);
    Phone {
        mac: Some(MacAddr::new([2, 0, 0, 0, 0, 1])),
        vendor: spec.id(),
        model: Some(name.to_owned()),
        firmware: Some("1.0".into()),
        base_url: "http://192.0.2.1:8080/".into(),
        capabilities: model.clone(),
        zone,
        raw: BTreeMap::new(),
        switches: switches(spec, &BTreeMap::new()),
        settings,
        ..Phone::default()
    }
}

/// What a file is rendered from: a shared one gets to see nothing of one phone alone.
pub(crate) fn seen_by<'a>(file: &FileSpec, phone: &'a Phone) -> Cow<'a, Phone> {
    if !matches!(file.kind, FileKind::Common | FileKind::Directory) {
        return Cow::Borrowed(phone);
    }
    let settings = Settings { lines: Vec::new(), keys: Vec::new(), expansion: Vec::new(), ..phone.settings.clone() };
    let book = (file.kind == FileKind::Directory).then(|| Arc::new(trial::book()));
    Cow::Owned(Phone { mac: None, settings, book, raw: BTreeMap::new(), ..phone.clone() })
}

/// The leaves of a sample, without positions in lists.
fn fields(sample: &Value) -> Vec<String> {
    fn walk(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(value, &path, found);
                }
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                items.iter().for_each(|item| walk(item, path, found));
            }
            _ => found.push(path.to_owned()),
        }
    }
    let mut found = Vec::new();
    walk(sample, "", &mut found);
    found.sort();
    found.dedup();
    found
}

/// The sample with one field taken from another sample, or taken away, wherever lists have it.
fn replaced(sample: &Value, field: &str, from: Option<&Value>) -> Value {
    fn walk(value: &mut Value, steps: &[&str], from: Option<&Value>) {
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    walk(item, steps, from.map(|from| &from[index]));
                }
            }
            Value::Object(map) => match steps {
                [last] => match from.map(|from| &from[*last]) {
                    Some(other) => drop(map.insert((*last).to_owned(), other.clone())),
                    // What a key does cannot be left open.
                    None if *last == "kind" => {}
                    None => drop(map.remove(*last)),
                },
                [step, rest @ ..] => {
                    if let Some(inner) = map.get_mut(*step) {
                        walk(inner, rest, from.map(|from| &from[*step]));
                    }
                }
                [] => {}
            },
            _ => {}
        }
    }
    let mut sample = sample.clone();
    walk(&mut sample, &field.split('.').collect::<Vec<_>>(), from);
    sample
}

/// The sample with nothing but the leaves that are wanted. Entries of lists stay, so that a place keeps its number.
fn only(sample: &Value, wanted: &dyn Fn(&str) -> bool) -> Value {
    fn walk(value: &Value, path: &str, wanted: &dyn Fn(&str) -> bool) -> Option<Value> {
        match value {
            Value::Object(map) => {
                let kept = map.iter().filter_map(|(name, value)| {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    Some((name.clone(), walk(value, &path, wanted)?))
                });
                Some(Value::Object(kept.collect()))
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                Some(items.iter().filter_map(|item| walk(item, path, wanted)).collect())
            }
            _ => wanted(path).then(|| value.clone()),
        }
    }
    walk(sample, "", wanted).unwrap_or_default()
}

fn zone(name: &str) -> Zone {
    // Real rules, so that a library which words them finds what it would find in service.
    let berlin = name == "Europe/Berlin";
    let on = |month, week, time| Changeover { month, week, weekday: 0, time };
    let (start, end) = if berlin { (on(3, 5, 7200), on(10, 5, 10800)) } else { (on(3, 2, 7200), on(11, 1, 7200)) };
    Zone {
        name: name.into(),
        utc_offset: if berlin { 3600 } else { -18000 },
        abbreviation: if berlin { "CET" } else { "EST" }.into(),
        dst: Some(DstRule { abbreviation: if berlin { "CEST" } else { "EDT" }.into(), save: 3600, start, end }),
        posix: if berlin { "CET-1CEST,M3.5.0,M10.5.0/3" } else { "EST5EDT,M3.2.0,M11.1.0" }.into(),
    }
}

/// A phone of a family with everything set; `which` tells two such phones apart in every field.
pub(crate) fn sample(spec: &Spec, family: Option<&str>, which: usize) -> Value {
    let of = |one: Value, other: Value| [one, other][which].clone();
    // Of the words that are looked up, those that the vendor knows, ours where it does not say.
    let word = |path: &str, usual: [&str; 2]| -> Value {
        let Some(table) = spec.words.get(path).and_then(|table| spec.table(table, family)) else {
            return json!(usual[which]);
        };
        let known: Vec<&str> =
            usual.iter().copied().filter(|word| spec.word(&spec.words[path], family, word).is_some()).collect();
        if known.len() == 2 {
            return json!(usual[which]);
        }
        table.keys().nth(which).or(table.keys().next()).map_or(Value::Null, |word| json!(word))
    };
    let kinds: Vec<&str> = match spec.table("key_kind", family) {
        Some(kinds) => kinds.keys().map(String::as_str).filter(|kind| *kind != "none").collect(),
        None => vec!["blf", "speed_dial"],
    };
    let kind = |usual: &'static str, index: usize| {
        if kinds.contains(&usual) { usual } else { kinds.get(index).copied().unwrap_or("none") }
    };
    let key = |position: u16| {
        json!({
            "position": position,
            "kind": of(json!(kind("blf", 0)), json!(kind("speed_dial", 1))),
            "value": of(json!("200"), json!("201")),
            "label": of(json!("Ben"), json!("Cleo")),
            "line": of(json!(1), json!(2)),
            "pickup": of(json!("*8"), json!("*9")),
            "locked": of(json!(true), json!(false)),
        })
    };
    // What a key dials that has no value of its own is another setting.
    let by_itself = |position: u16| {
        let wanted = ["park", "retrieve", "pickup", "group_pickup", "voicemail", "line"][usize::from(position) - 7];
        json!({ "position": position, "kind": kind(wanted, 0), "line": of(json!(1), json!(2)) })
    };
    let forward = |target: u16| {
        json!({
            "enabled": of(json!(true), json!(false)),
            "target": (target + which as u16).to_string(),
            "timeout": of(json!(20), json!(30)),
        })
    };
    let sip = json!({
        "server": of(json!("pbx.example.net"), json!("pbx.example.org")),
        "port": of(json!(5070), json!(5080)),
        "backup_server": of(json!("backup.example.net"), json!("backup.example.org")),
        "backup_port": of(json!(5071), json!(5081)),
        "domain": of(json!("example.net"), json!("example.org")),
        "outbound_proxy": of(json!("proxy.example.net"), json!("proxy.example.org")),
        "outbound_proxy_port": of(json!(5072), json!(5082)),
        "backup_outbound_proxy": of(json!("proxy2.example.net"), json!("proxy2.example.org")),
        "backup_outbound_proxy_port": of(json!(5073), json!(5083)),
        "transport": of(json!("tcp"), json!("tls")),
        "expires": of(json!(3600), json!(1800)),
        "retry": of(json!(60), json!(120)),
        "keepalive": of(json!(30), json!(0)),
        "rport": of(json!(true), json!(false)),
        "stun_server": of(json!("stun.example.net"), json!("stun.example.org")),
        "stun_port": of(json!(3478), json!(3479)),
        "srtp": of(json!("optional"), json!("required")),
        "dtmf": of(json!("rfc4733"), json!("info")),
        "codecs": of(json!(["g722", "pcma"]), json!(["pcmu", "pcma"])),
        "voicemail": of(json!("*97"), json!("*98")),
        "mwi": of(json!(true), json!(false)),
        "pickup_code": of(json!("**"), json!("*7")),
        "group_pickup_code": of(json!("*20"), json!("*21")),
        "blf_list_uri": of(json!("list1"), json!("list2")),
        "shared": of(json!(true), json!(false)),
        "session_timers": of(json!(true), json!(false)),
        "dial_plan": of(json!("x+"), json!("xx+")),
        "conference_uri": of(json!("conf1"), json!("conf2")),
    });
    let mut line = json!({
        "enabled": of(json!(true), json!(false)),
        "label": of(json!("Reception"), json!("Kitchen")),
        "number": of(json!("100"), json!("101")),
        "username": of(json!("user100"), json!("user101")),
        "auth_username": of(json!("auth100"), json!("auth101")),
        "password": of(json!("secret-one"), json!("secret-two")),
        "display_name": of(json!("Anna"), json!("Berta")),
        "ringtone": of(json!("1"), json!("2")),
        "auto_answer": of(json!(true), json!(false)),
        "call_waiting": of(json!(true), json!(false)),
        "dnd": of(json!(true), json!(false)),
        "forward": { "always": forward(300), "busy": forward(310), "no_answer": forward(320) },
    });
    let fields = line.as_object_mut().expect("written as an object");
    fields.extend(sip.as_object().expect("written as an object").clone());
    let lines: Vec<Value> = (1..=2)
        .map(|position| {
            let mut line = line.clone();
            line["position"] = json!(position);
            line
        })
        .collect();
    let credentials = |name: &str| {
        json!({
            "username": of(json!(name), json!(format!("{name}2"))),
            "password": of(json!("secret-three"), json!("secret-four")),
        })
    };
    let mut sample = json!({
        "lines": lines,
        // As many as it takes to reach every section of a phone that has several.
        "keys": (1..=6).map(key).chain((7..=12).map(by_itself)).collect::<Vec<_>>(),
        "expansion": [{ "keys": [key(1)] }],
        "time": {
            "zone": word("time.zone", ["Europe/Berlin", "America/New_York"]),
            "ntp": of(json!(["ntp.example.net", "192.0.2.1"]), json!(["ntp.example.org", "192.0.2.2"])),
            "hours": of(json!("24h"), json!("12h")),
            "date": of(json!("dmy"), json!("mdy")),
        },
        "locale": {
            "language": word("locale.language", ["de", "en"]),
            "web_language": word("locale.web_language", ["de", "en"]),
            "tones": word("locale.tones", ["DE", "US"]),
        },
        "vlan": {
            "voice": { "id": of(json!(20), json!(30)), "priority": of(json!(5), json!(6)) },
            "pc": { "id": of(json!(40), json!(50)), "priority": of(json!(1), json!(2)) },
            "lldp": of(json!(true), json!(false)),
            "cdp": of(json!(true), json!(false)),
        },
        "qos": { "sip_dscp": of(json!(26), json!(24)), "rtp_dscp": of(json!(46), json!(44)) },
        "network": { "hostname": of(json!("desk1"), json!("desk2")), "dns": of(json!(["192.0.2.53", "192.0.2.63"]), json!(["192.0.2.54", "192.0.2.64"])) },
        "access": {
            "admin": credentials("admin"),
            "user": credentials("user"),
            "web": { "http": of(json!(true), json!(false)), "https": of(json!(true), json!(false)) },
            "lock_pin": of(json!("1234"), json!("5678")),
        },
        "provisioning": {
            "url": of(json!("http://192.0.2.1:8080/"), json!("http://192.0.2.2:8080/")),
            "protocol": of(json!("http"), json!("https")),
            "username": of(json!("phone"), json!("phone2")),
            "password": of(json!("secret-five"), json!("secret-six")),
            "refresh": of(json!(3600), json!(7200)),
            "on_boot": of(json!(true), json!(false)),
            "pnp": of(json!(true), json!(false)),
            "redirection": of(json!(true), json!(false)),
            "trusted_ca": of(json!("http://192.0.2.1:8080/ca.pem"), json!("http://192.0.2.1:8080/other.pem")),
            "challenge_notify": of(json!(true), json!(false)),
            "encryption": {
                "key": spec.encryption.as_ref().map_or_else(|| format!("key{which}"), |encryption| encryption.sample_key(which)),
                "active": of(json!(false), json!(true)),
            },
        },
        "firmware_update": {
            "policy": of(json!("pin"), json!("minimum")),
            "version": of(json!("2.0"), json!("3.0")),
            "url": of(json!("http://192.0.2.1:8080/fw/two.bin"), json!("http://192.0.2.1:8080/fw/three.bin")),
        },
        "phonebook": {
            // Phones may treat the first and the further ones differently.
            "remote": (0..2).map(|_| json!({
                "name": of(json!("Company"), json!("Office")),
                "book": of(json!("company"), json!("office")),
                "url": of(json!("http://192.0.2.1:8080/book/phonebook.xml"), json!("http://192.0.2.2:8080/book/phonebook.xml")),
                "username": of(json!("book"), json!("book2")),
                "password": of(json!("secret-seven"), json!("secret-eight")),
                "refresh": of(json!(3600), json!(7200)),
            })).collect::<Vec<_>>(),
            "ldap": {
                "server": of(json!("ldap.example.net"), json!("ldap.example.org")),
                "port": of(json!(389), json!(3890)),
                "tls": of(json!(true), json!(false)),
                "base": of(json!("dc=example,dc=net"), json!("dc=example,dc=org")),
                "username": of(json!("cn=phone"), json!("cn=phone2")),
                "password": of(json!("secret-nine"), json!("secret-ten")),
                "name_filter": of(json!("(cn=%)"), json!("(sn=%)")),
                "number_filter": of(json!("(mobile=%)"), json!("(pager=%)")),
                "name_attributes": of(json!(["cn", "sn"]), json!(["sn"])),
                "number_attributes": of(json!(["mobile"]), json!(["pager"])),
                "display": of(json!("%cn"), json!("%sn")),
                "max_hits": of(json!(50), json!(60)),
            },
        },
        "syslog": { "server": of(json!("192.0.2.9"), json!("192.0.2.10")), "port": of(json!(514), json!(515)), "level": of(json!("error"), json!("debug")) },
        "display": {
            "brightness": of(json!(50), json!(100)),
            "backlight_timeout": of(json!(60), json!(1800)),
            "screensaver_timeout": of(json!(300), json!(600)),
            "wallpaper": of(json!("http://192.0.2.1:8080/one.jpg"), json!("http://192.0.2.1:8080/two.jpg")),
        },
        "audio": { "ringtone": of(json!("1"), json!("2")), "ring_volume": of(json!(50), json!(100)) },
        "dect": {
            "access_code": of(json!("0000"), json!("1111")),
            "handsets": [{ "ipei": of(json!("0123456789"), json!("9876543210")), "line": of(json!(1), json!(2)), "name": of(json!("Anna"), json!("Berta")) }],
        },
        "codes": {},
    });
    for (number, code) in [
        "dnd_on",
        "dnd_off",
        "forward_always_on",
        "forward_always_off",
        "forward_busy_on",
        "forward_busy_off",
        "forward_no_answer_on",
        "forward_no_answer_off",
        "call_waiting_on",
        "call_waiting_off",
        "park",
        "retrieve",
    ]
    .into_iter()
    .enumerate()
    {
        sample["codes"][code] = json!(format!("*{}", 10 + 20 * which + number));
    }
    sample
}

#[cfg(test)]
mod tests {
    use provost_plugin::Secret;

    use super::*;

    #[test]
    fn the_samples_differ_in_every_field_and_have_every_field_of_the_model() {
        let spec = Spec::read("{vendor: Acme, files: [], announce: {url: '{base}'}}").unwrap();
        let (one, other) = (sample(&spec, None, 0), sample(&spec, None, 1));
        for field in fields(&one) {
            if !field.ends_with(".position") {
                assert_ne!(replaced(&one, &field, Some(&other)), one, "{field} is the same in both");
            }
        }
        let settings: Settings = serde_json::from_value(one.clone()).unwrap();
        let again = Secret::exposed(|| serde_json::to_value(&settings).unwrap());
        let beyond = ["sip", "vendor", "options", "custom"];
        for field in fields(&again) {
            let known = fields(&one).contains(&field);
            assert!(known || beyond.iter().any(|section| covers(section, &field)), "{field} is in no sample");
        }
    }
}
