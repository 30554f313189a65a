//! What a vendor's file says of a phone, found out by rendering it for phones whose every value is known.
//!
//! Nobody writes down how a vendor's files are read back: the templates and libraries that write them are asked instead. A phone is rendered
//! whose fields hold markers that are found nowhere else; where a marker comes out is where the field goes. What has no text of its own (the
//! kind of a key, a transport) is rendered with each word that it may be, and what changes is what says it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use provost_plugin::{
    Phone,
    model::Settings,
    offers,
    spec::{FileKind, Model},
};
use serde_json::{Value, json};

use super::{
    flat::{Ends, Flat, flat},
    pattern::{Pattern, Piece, Place, Slot},
};
use crate::{InService, coverage};

/// Where the phones that are rendered fetch from, as [`coverage::phone`] has it.
pub(super) const BASE: &str = "http://192.0.2.1:8080/";
/// More than any phone has; enough to know those that do not tell.
const LINES: u16 = 48;
const KEYS: u16 = 512;
const UNTOLD: (u16, u16) = (6, 48);

/// Text of a line, and whether it is a number.
const OF_A_LINE: [(&str, bool); 8] = [
    ("number", false),
    ("username", false),
    ("auth_username", false),
    ("password", false),
    ("label", false),
    ("display_name", false),
    ("server", false),
    ("ringtone", false),
];

/// What no two lines share.
pub(super) const OF_ONE_LINE: [&str; 7] =
    ["number", "username", "auth_username", "password", "label", "display_name", "ringtone"];

/// What a line may have besides, in groups that belong together.
const BESIDES: [&[(&str, bool)]; 14] = [
    &[("port", true)],
    &[("domain", false)],
    &[("outbound_proxy", false)],
    &[("outbound_proxy", false), ("outbound_proxy_port", true)],
    &[("backup_server", false)],
    &[("backup_server", false), ("backup_port", true), ("port", true)],
    &[("voicemail", false), ("mwi", false)],
    &[("expires", true)],
    &[("retry", true)],
    &[("keepalive", true)],
    &[("pickup_code", false), ("group_pickup_code", false)],
    &[("stun_server", false), ("stun_port", true)],
    &[("blf_list_uri", false), ("conference_uri", false)],
    &[("dial_plan", false)],
];

/// Text of the phone as a whole.
const OF_THE_PHONE: [(&str, bool); 20] = [
    ("access.admin.username", false),
    ("access.admin.password", false),
    ("access.user.username", false),
    ("access.user.password", false),
    ("time.ntp.0", false),
    ("time.ntp.1", false),
    ("network.hostname", false),
    ("provisioning.username", false),
    ("provisioning.password", false),
    ("syslog.server", false),
    ("syslog.port", true),
    ("vlan.voice.id", true),
    ("vlan.pc.id", true),
    ("codes.park", false),
    ("codes.retrieve", false),
    ("codes.dnd_on", false),
    ("codes.dnd_off", false),
    ("audio.ringtone", false),
    ("display.wallpaper", false),
    ("provisioning.trusted_ca", false),
];

/// Words of a line, the usual one first.
fn words_of_a_line() -> Vec<(&'static str, Vec<Value>)> {
    let on = || vec![json!(true), json!(false)];
    vec![
        ("enabled", on()),
        ("transport", vec![json!("udp"), json!("tcp"), json!("tls"), json!("dns")]),
        ("srtp", vec![json!("off"), json!("optional"), json!("required")]),
        ("dtmf", vec![json!("rfc4733"), json!("info"), json!("inband"), json!("auto")]),
        ("mwi", on()),
        ("shared", on()),
        ("auto_answer", on()),
        ("call_waiting", on()),
        ("dnd", on()),
        ("session_timers", on()),
        ("rport", on()),
    ]
}

/// Fields of the phone whose words the vendor has a table for, and those that have two or three.
const LANGUAGES: &str = "de en fr es it nl pl pt ru tr cs da sv nb no fi el hu zh ja ca";
const COUNTRIES: &str = "DE US GB FR ES IT NL PL PT RU TR CZ DK SE NO FI AT CH AU NZ IN JP CN MX";
/// With the words that are tried where there is no table.
const LOOKED_UP: [(&str, &str); 4] = [
    ("locale.language", LANGUAGES),
    ("locale.web_language", LANGUAGES),
    ("locale.tones", COUNTRIES),
    ("time.zone", ""),
];
const FEW: [(&str, &[&str]); 2] = [("time.hours", &["24h", "12h"]), ("time.date", &["dmy", "mdy", "ymd"])];
/// Words of one table that are tried.
const WORDS: usize = 128;
/// The one zone whose rules are known here: where a file says its name, it names zones.
const ZONE: &str = "Europe/Berlin";

/// Kinds of keys in the order in which they are preferred where a file does not tell them apart.
const KINDS: [&str; 8] = ["blf", "speed_dial", "line", "park", "intercom", "pickup", "dtmf", "voicemail"];

/// One word that a field may be, and how the file says it.
#[derive(Debug)]
pub(super) struct Alternative {
    pub(super) word: Value,
    pub(super) says: Vec<(String, Pattern)>,
}

/// A field that is one of several words.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) place: Place,
    pub(super) field: &'static str,
    /// How the file is where nothing is said of the field.
    pub(super) unsaid: Vec<(String, Option<Pattern>)>,
    pub(super) alternatives: Vec<Alternative>,
}

/// How a key of one kind is written.
#[derive(Debug)]
pub(super) struct KeyForm {
    pub(super) kind: String,
    /// The line it was written for, where the form does not say it.
    pub(super) line: u16,
    pub(super) says: Vec<(String, Pattern)>,
    /// Fields that come in the order of the keys of this kind and not at the key's own place.
    pub(super) listed: bool,
}

/// Everything that is known of how to read one file of one model.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// Every name that was seen.
    pub(super) names: BTreeSet<String>,
    /// Names that change with some field.
    pub(super) telling: BTreeSet<String>,
    pub(super) text: BTreeMap<String, Vec<Pattern>>,
    /// What stands under a name where nothing is set.
    pub(super) plain: BTreeMap<String, String>,
    pub(super) choices: Vec<Choice>,
    pub(super) keys: BTreeMap<Place, Vec<KeyForm>>,
    /// How the settings of keys stand where there are none.
    pub(super) keyless: BTreeMap<String, Pattern>,
    /// What the keys of a kind say one after the other, wherever they are.
    pub(super) lists: HashMap<String, BTreeMap<u16, Vec<(String, Pattern)>>>,
    pub(super) ends: Ends,
}

impl Learned {
    /// Whether some setting carries this field of a line.
    pub(super) fn carries(&self, place: Place, field: &str) -> bool {
        let mut slots = self.text.values().flatten().flat_map(Pattern::slots);
        slots.any(|slot| slot.place == place && slot.field == field)
    }

    /// The fields of accounts and keys that a file of this kind gives back.
    pub(super) fn carried(&self) -> BTreeSet<&'static str> {
        let of_line = |slot: &Slot| matches!(slot.place, Place::Line(_));
        self.text.values().flatten().flat_map(Pattern::slots).filter(of_line).map(|slot| slot.field).collect()
    }
}

/// A file of a model that is asked.
pub(super) struct Probe<'a> {
    plugin: &'a InService,
    file: usize,
    name: &'a str,
    model: &'a Model,
    lines: u16,
    keys: u16,
    modules: (u16, u16),
    /// Markers by what they stand for, and back.
    markers: HashMap<Slot, String>,
    slots: HashMap<String, Slot>,
    numbers: u32,
    /// Fields that the file cannot be rendered with.
    refused: BTreeSet<&'static str>,
    /// All lines have the server of the first: the phone has room for fewer servers than lines.
    one_server: bool,
    find: regex::Regex,
}

impl<'a> Probe<'a> {
    pub(super) fn new(plugin: &'a InService, file: usize, name: &'a str, model: &'a Model) -> Probe<'a> {
        let told = |count: Option<u16>, usual| count.unwrap_or(usual);
        let lines = if model.lines == 0 { UNTOLD.0 } else { model.lines };
        let keys = told(model.keys, UNTOLD.1).min(KEYS);
        let modules = (told(model.expansion_modules, 0).min(8), told(model.expansion_keys, UNTOLD.1).min(KEYS / 4));
        Probe {
            plugin,
            file,
            name,
            model,
            lines: lines.min(LINES),
            keys,
            modules,
            markers: HashMap::new(),
            slots: HashMap::new(),
            numbers: 0,
            refused: BTreeSet::new(),
            one_server: false,
            find: regex::Regex::new("zq[0-9]{5}x|[0-9]+|Europe/Berlin").expect("a literal"),
        }
    }

    fn marker(&mut self, slot: Slot) -> Value {
        if let Some(marker) = self.markers.get(&slot) {
            return if slot.number { json!(marker.parse::<u32>().unwrap_or_default()) } else { json!(marker) };
        }
        let marker = if slot.field.ends_with(".id") {
            // VLANs end at 4094.
            self.numbers += 1;
            (3900 + self.numbers % 190).to_string()
        } else if slot.number {
            self.numbers += 1;
            (20_011 + self.numbers % 40_000).to_string()
        } else {
            format!("zq{:05}x", self.markers.len())
        };
        self.markers.insert(slot, marker.clone());
        self.slots.insert(marker, slot);
        self.marker(slot)
    }

    /// The file for a phone of these settings, as names and values.
    fn render(&self, settings: &Value) -> Option<Flat> {
        self.of_phone(&self.phone(settings)?)
    }

    /// A phone of this model; none where the model of our own takes no such settings.
    pub(super) fn phone(&self, settings: &Value) -> Option<Phone> {
        serde_json::from_value::<Settings>(settings.clone()).ok()?;
        Some(coverage::phone(&self.plugin.spec, self.name, self.model, settings))
    }

    pub(super) fn of_phone(&self, phone: &Phone) -> Option<Flat> {
        let file = &self.plugin.spec.files[self.file];
        let format = self.plugin.spec.format_of(file.template.as_deref()?)?;
        if file.kind != FileKind::Device || !offers(file, phone) {
            return None;
        }
        flat(format, &self.plugin.render(self.file, phone).ok()?.body)
    }

    /// Lines that have what a line needs, and no keys.
    fn least(&mut self, besides: &[(&'static str, bool)]) -> Value {
        let mut lines = Vec::new();
        for position in 1..=self.lines {
            let mut line = json!({ "position": position, "enabled": true });
            let ringtone = |field: &str| field != "ringtone" || besides.is_empty();
            let fields: Vec<_> =
                OF_A_LINE.iter().filter(|(field, _)| ringtone(field)).chain(besides).copied().collect();
            for (field, number) in fields {
                if self.refused.contains(field) {
                    continue;
                }
                let of_server = self.one_server && !OF_ONE_LINE.contains(&field);
                let slot = Slot { place: Place::Line(if of_server { 1 } else { position }), field, number };
                line[field] = if field == "mwi" { json!(true) } else { self.marker(slot) };
            }
            lines.push(line);
        }
        json!({ "lines": lines, "provisioning": { "url": BASE } })
    }

    /// What a value is made of.
    fn pattern(&self, value: &str) -> Pattern {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut words = String::new();
        let mut at = 0;
        for found in self.find.find_iter(value) {
            let slot = match found.as_str() {
                ZONE => Some(Slot { place: Place::Phone, field: "time.zone", number: false }),
                text => self.slots.get(text).copied(),
            };
            words.push_str(&value[at..found.start()]);
            at = found.end();
            match slot {
                Some(slot) => {
                    if !words.is_empty() {
                        pieces.push(Piece::Words(std::mem::take(&mut words)));
                    }
                    pieces.push(Piece::Slot(slot));
                }
                None => words.push_str(found.as_str()),
            }
        }
        words.push_str(&value[at..]);
        if !words.is_empty() {
            pieces.push(Piece::Words(words));
        }
        Pattern(pieces)
    }

    fn of_a_key(&self, value: &str) -> bool {
        self.pattern(value).slots().any(|slot| slot.place.is_key())
    }

    fn note(&self, file: &Flat, learned: &mut Learned) {
        for (name, value) in file {
            learned.names.insert(name.clone());
            let pattern = self.pattern(value);
            if pattern.slots().next().is_none() || pattern.slots().any(|slot| slot.place.is_key()) {
                continue;
            }
            learned.telling.insert(name.clone());
            let known = learned.text.entry(name.clone()).or_default();
            if !known.contains(&pattern) {
                known.push(pattern);
            }
        }
    }

    /// The names that a file of this model can have, found with a single key kind: enough to tell whose a file is.
    pub(super) fn outline(&mut self) -> Option<BTreeSet<String>> {
        self.settle();
        let kind = self.kinds().into_iter().next();
        let mut settings = self.least(&[]);
        if let Some(kind) = kind {
            self.put_keys(&mut settings, &|_| Some(kind.clone()), 1, false);
        }
        let names = self.render(&settings).or_else(|| {
            let bare = self.least(&[]);
            self.render(&bare)
        });
        names.map(|file| file.into_keys().collect())
    }

    /// Finds out which fields the file cannot be rendered with at all.
    fn settle(&mut self) {
        let all = self.least(&[]);
        if self.render(&all).is_some() {
            return;
        }
        self.one_server = true;
        let shared = self.least(&[]);
        if self.render(&shared).is_some() {
            return;
        }
        for (field, _) in OF_A_LINE {
            self.refused.insert(field);
            let without = self.least(&[]);
            if self.render(&without).is_some() {
                return;
            }
            self.refused.remove(field);
        }
    }

    pub(super) fn learn(&mut self) -> Option<Learned> {
        self.settle();
        let mut learned = Learned::default();
        let least = self.least(&[]);
        let base = self.render(&least)?;
        self.note(&base, &mut learned);
        let plain = base.iter().filter(|(_, value)| self.pattern(value).slots().next().is_none());
        learned.plain = plain.map(|(name, value)| (name.clone(), value.clone())).collect();
        for besides in BESIDES {
            let settings = self.least(besides);
            if let Some(file) = self.render(&settings) {
                self.note(&file, &mut learned);
            }
        }
        self.phone_text(&mut learned);
        for (field, words) in words_of_a_line() {
            self.line_words(field, &words, &[], &mut learned);
        }
        // A transport may be part of an address, and an address has forms.
        let transports = [json!("udp"), json!("tcp"), json!("tls"), json!("dns")];
        for besides in [
            &[("port", true)][..],
            &[("outbound_proxy", false)],
            &[("outbound_proxy", false), ("outbound_proxy_port", true)],
        ] {
            self.line_words("transport", &transports, besides, &mut learned);
        }
        self.phone_words(&mut learned);
        self.learn_keys(&mut learned);
        learned.ends = Ends::of(learned.names.iter());
        Some(learned)
    }

    fn phone_text(&mut self, learned: &mut Learned) {
        let with = |probe: &mut Self, fields: &[(&'static str, bool)]| {
            let mut settings = probe.least(&[]);
            for (field, number) in fields {
                let marker = probe.marker(Slot { place: Place::Phone, field, number: *number });
                put(&mut settings, field, marker);
            }
            probe.render(&settings)
        };
        let all = with(self, &OF_THE_PHONE);
        let each: Vec<Flat> = match all {
            Some(file) => vec![file],
            None => OF_THE_PHONE.iter().filter_map(|field| with(self, &[*field])).collect(),
        };
        for file in each {
            self.note(&file, learned);
        }
        // Where whose password it is is part of the name, the name must be the usual one.
        let mut settings = self.least(&[]);
        for (who, field) in [("admin", "access.admin.password"), ("user", "access.user.password")] {
            let marker = self.marker(Slot { place: Place::Phone, field, number: false });
            put(&mut settings, field, marker);
            put(&mut settings, &format!("access.{who}.username"), json!(who));
        }
        if let Some(file) = self.render(&settings) {
            self.note(&file, learned);
        }
        let mut settings = self.least(&[]);
        put(&mut settings, "time.zone", json!(ZONE));
        if let Some(file) = self.render(&settings) {
            self.note(&file, learned);
        }
    }

    fn line_words(
        &mut self,
        field: &'static str,
        words: &[Value],
        besides: &[(&'static str, bool)],
        learned: &mut Learned,
    ) {
        let base = self.least(besides);
        let Some(unsaid) = self.render(&base) else { return };
        let with = |probe: &Self, word_of: &dyn Fn(u16) -> Value| {
            let mut settings = base.clone();
            for (index, line) in settings["lines"].as_array_mut().into_iter().flatten().enumerate() {
                line[field] = word_of(index as u16 + 1);
            }
            probe.render(&settings)
        };
        let all: Vec<Option<Flat>> = words.iter().map(|word| with(self, &|_| word.clone())).collect();
        for file in all.iter().flatten() {
            self.note(file, learned);
        }
        let Some(first) = &all[0] else { return };
        let mut owners: BTreeMap<String, u16> = BTreeMap::new();
        for (word, file) in words.iter().zip(&all).skip(1) {
            let Some(file) = file else { continue };
            let changed = differences(first, file);
            if changed.iter().all(|name| owners.contains_key(name)) {
                continue;
            }
            let lines: Vec<u16> = (1..=self.lines).collect();
            let found = owner(&lines, first, &changed, |picked| {
                with(self, &|line| if picked(line) { word.clone() } else { words[0].clone() })
            });
            owners.extend(found);
        }
        for position in 1..=self.lines {
            let own: Vec<&String> = owners.iter().filter(|(_, of)| **of == position).map(|(name, _)| name).collect();
            let choice = self.choice(Place::Line(position), field, &own, &unsaid, words.iter().cloned().zip(&all));
            learned.choices.extend(choice);
        }
        learned.telling.extend(owners.into_keys());
    }

    fn choice<'b>(
        &self,
        place: Place,
        field: &'static str,
        names: &[&String],
        unsaid: &Flat,
        files: impl Iterator<Item = (Value, &'b Option<Flat>)>,
    ) -> Option<Choice> {
        let says = |file: &Flat| -> Vec<(String, Pattern)> {
            let value = |name: &&String| Some(((*name).clone(), self.pattern(file.get(*name)?)));
            names.iter().filter_map(value).collect()
        };
        let alternatives = files.filter_map(|(word, file)| Some(Alternative { word, says: says(file.as_ref()?) }));
        let alternatives: Vec<Alternative> = alternatives.collect();
        let unsaid = names.iter().map(|name| ((*name).clone(), unsaid.get(*name).map(|value| self.pattern(value))));
        let unsaid = unsaid.collect();
        (!names.is_empty()).then_some(Choice { place, field, unsaid, alternatives })
    }

    fn phone_words(&mut self, learned: &mut Learned) {
        let family = self.model.family.as_deref();
        let spec = &self.plugin.spec;
        let looked_up = LOOKED_UP.iter().map(|(field, usual)| {
            let table = spec.words.get(*field).and_then(|table| spec.table(table, family));
            let words: Vec<Value> = match table {
                Some(table) => table.keys().take(WORDS).map(|word| json!(word)).collect(),
                None => usual.split(' ').filter(|word| !word.is_empty()).map(|word| json!(word)).collect(),
            };
            (*field, words)
        });
        let few = FEW.iter().map(|(field, words)| (*field, words.iter().map(|word| json!(word)).collect()));
        let all: Vec<(&'static str, Vec<Value>)> = looked_up.chain(few).collect();
        let base = self.least(&[]);
        let Some(unsaid) = self.render(&base) else { return };
        for (field, words) in all {
            let with = |word: &Value| {
                let mut settings = base.clone();
                put(&mut settings, field, word.clone());
                self.render(&settings)
            };
            let files: Vec<Option<Flat>> = words.iter().map(with).collect();
            let mut names: BTreeSet<String> = BTreeSet::new();
            for file in files.iter().flatten() {
                names.extend(differences(&unsaid, file));
                learned.names.extend(file.keys().cloned());
            }
            // A zone is told apart by its name alone: many have one offset.
            let names: Vec<&String> = names.iter().collect();
            let choice = self.choice(Place::Phone, field, &names, &unsaid, words.iter().cloned().zip(&files));
            learned.choices.extend(choice);
            learned.telling.extend(names.into_iter().cloned());
        }
    }

    fn kinds(&self) -> Vec<String> {
        let family = self.model.family.as_deref();
        let mut kinds: Vec<String> = match self.plugin.spec.table("key_kind", family) {
            Some(table) => table.keys().cloned().collect(),
            None => KINDS.iter().map(|kind| (*kind).to_owned()).collect(),
        };
        kinds.sort_by_key(|kind| (KINDS.iter().position(|known| known == kind).unwrap_or(KINDS.len()), kind.clone()));
        kinds
    }

    fn places(&self) -> Vec<Place> {
        let keys = (1..=self.keys).map(Place::Key);
        let modules =
            (1..=self.modules.0).flat_map(|module| (1..=self.modules.1).map(move |key| Place::Module(module, key)));
        keys.chain(modules).collect()
    }

    fn put_keys(&mut self, settings: &mut Value, kind_of: &dyn Fn(Place) -> Option<String>, line: u16, pickup: bool) {
        let key = |probe: &mut Self, place: Place, position: u16| {
            let kind = kind_of(place)?;
            let mut text = |field| probe.marker(Slot { place, field, number: false });
            let (value, label) = (text("value"), text("label"));
            let mut key = json!({ "position": position, "kind": kind, "value": value, "label": label, "line": line });
            if pickup {
                key["pickup"] = text("pickup");
            }
            Some(key)
        };
        let keys: Vec<Value> = (1..=self.keys).filter_map(|at| key(self, Place::Key(at), at)).collect();
        let (modules, each) = self.modules;
        let expansion: Vec<Value> = (1..=modules)
            .map(|module| {
                let keys = (1..=each).filter_map(|at| key(self, Place::Module(module, at), at));
                json!({ "keys": keys.collect::<Vec<_>>() })
            })
            .collect();
        settings["keys"] = json!(keys);
        settings["expansion"] = json!(expansion);
    }

    fn learn_keys(&mut self, learned: &mut Learned) {
        let places = self.places();
        if places.is_empty() {
            return;
        }
        let base = self.least(&[]);
        let Some(without) = self.render(&base) else { return };
        let with = |probe: &mut Self, kind: &str, line: u16, pickup: bool, picked: &dyn Fn(Place) -> bool| {
            let mut settings = base.clone();
            probe.put_keys(&mut settings, &|place| picked(place).then(|| kind.to_owned()), line, pickup);
            probe.render(&settings)
        };
        let mut full: Vec<(String, bool, Flat, Option<Flat>)> = Vec::new();
        // A lamp that is picked up by a code of its own may be written in another way.
        let lamps = [("blf".to_owned(), true)];
        for (kind, pickup) in self.kinds().into_iter().map(|kind| (kind, false)).chain(lamps) {
            let Some(one) = with(self, &kind, 1, pickup, &|_| true) else { continue };
            let two = if self.lines > 1 { with(self, &kind, 2, pickup, &|_| true) } else { None };
            full.push((kind, pickup, one, two));
        }
        // What belongs to which key: by its own marker, else by what happens when some keys are taken away.
        let mut owners: BTreeMap<String, Place> = BTreeMap::new();
        let mut floating: BTreeSet<String> = BTreeSet::new();
        for (kind, pickup, one, _) in &full {
            let changed = differences(&without, one);
            if changed.iter().all(|name| owners.contains_key(name) || floating.contains(name)) {
                continue;
            }
            let numbers: Vec<u16> = (1..=places.len() as u16).collect();
            let found = owner(&numbers, one, &changed, |picked| {
                let gone =
                    |place: Place| places.iter().position(|own| *own == place).is_some_and(|at| picked(at as u16 + 1));
                with(self, kind, 1, *pickup, &|place| !gone(place))
            });
            for name in changed {
                match found.get(&name) {
                    Some(number) => drop(owners.insert(name, places[usize::from(*number) - 1])),
                    None => drop(floating.insert(name)),
                }
            }
        }
        // The first of a list seems to be the first key's own.
        let skeleton = |name: &String| name.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
        let lists: BTreeSet<String> = floating
            .iter()
            .filter(|name| full.iter().any(|(_, _, one, _)| one.get(*name).is_some_and(|value| self.of_a_key(value))))
            .map(skeleton)
            .collect();
        let listed: Vec<String> = owners.keys().filter(|name| lists.contains(&skeleton(name))).cloned().collect();
        for name in listed {
            owners.remove(&name);
            floating.insert(name);
        }
        let keyless = owners.keys().filter_map(|name| Some((name.clone(), self.pattern(without.get(name)?))));
        learned.keyless = keyless.collect();
        let mut known: BTreeMap<Place, Vec<String>> = BTreeMap::new();
        for (name, place) in &owners {
            known.entry(*place).or_default().push(name.clone());
            floating.remove(name);
        }
        for (kind, pickup, one, two) in &full {
            learned.names.extend(one.keys().chain(two.iter().flat_map(Flat::keys)).cloned());
            let mut list: BTreeMap<u16, Vec<(String, Pattern)>> = BTreeMap::new();
            for name in &floating {
                let Some(pattern) = one.get(name).map(|value| self.pattern(value)) else { continue };
                let place = pattern.slots().find(|slot| slot.place.is_key()).map(|slot| slot.place);
                if let Some(Place::Key(number)) = place {
                    list.entry(number).or_default().push((name.clone(), pattern.of_any_line()));
                }
            }
            let listed = !list.is_empty();
            if listed && !pickup {
                learned.lists.insert(kind.clone(), list);
            }
            for place in &places {
                let Some(names) = known.get(place) else { continue };
                let says = |file: &Flat| -> Vec<(String, Pattern)> {
                    names.iter().filter_map(|name| Some((name.clone(), self.pattern(file.get(name)?)))).collect()
                };
                let first = says(one);
                if first.is_empty() {
                    continue;
                }
                let second = two.as_ref().map(says);
                let form = |line, says| KeyForm { kind: kind.clone(), line, says, listed };
                let forms = learned.keys.entry(*place).or_default();
                match second {
                    None => forms.push(form(1, any_line(first))),
                    Some(second) => match of_both(&first, &second) {
                        Some(both) => forms.push(form(1, both)),
                        None => {
                            forms.push(form(1, any_line(first)));
                            forms.push(form(2, any_line(second)));
                        }
                    },
                }
            }
        }
        learned.telling.extend(owners.into_keys());
        learned.telling.extend(floating);
    }
}

fn any_line(says: Vec<(String, Pattern)>) -> Vec<(String, Pattern)> {
    says.into_iter().map(|(name, pattern)| (name, pattern.of_any_line())).collect()
}

fn of_both(first: &[(String, Pattern)], second: &[(String, Pattern)]) -> Option<Vec<(String, Pattern)>> {
    if first.len() != second.len() {
        return None;
    }
    let both = first.iter().zip(second).map(|((name, one), (other_name, other))| {
        Some((name.clone(), Pattern::of_both(one, other).filter(|_| name == other_name)?))
    });
    both.collect()
}

/// Names that one of two files has alone, or with another value.
fn differences(one: &Flat, other: &Flat) -> BTreeSet<String> {
    let all = one.keys().chain(other.keys());
    all.filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}

/// Which of `all` each of `names` belongs to, found with few files: in each, half of them are changed, picked by one digit of their number
/// in twos. What changes in just those files that its owner was picked for has the owner's number.
fn owner(
    all: &[u16],
    unchanged: &Flat,
    names: &BTreeSet<String>,
    mut changed: impl FnMut(&dyn Fn(u16) -> bool) -> Option<Flat>,
) -> BTreeMap<String, u16> {
    let digits = 16 - all.last().copied().unwrap_or_default().leading_zeros();
    let mut numbers: BTreeMap<&String, Option<u16>> = names.iter().map(|name| (name, Some(0))).collect();
    for digit in 0..digits {
        let has = |number: u16| number >> digit & 1 == 1;
        let (Some(those), Some(others)) = (changed(&has), changed(&|number| !has(number))) else {
            return BTreeMap::new();
        };
        for (name, number) in &mut numbers {
            let differs = |file: &Flat| file.get(*name) != unchanged.get(*name);
            *number = match (*number, differs(&those), differs(&others)) {
                (Some(so_far), true, false) => Some(so_far | 1 << digit),
                (Some(so_far), false, true) => Some(so_far),
                // It is of several, or of none.
                _ => None,
            };
        }
    }
    let known = |(name, number): (&String, Option<u16>)| Some((name.clone(), number.filter(|one| all.contains(one))?));
    numbers.into_iter().filter_map(known).collect()
}

/// Puts a value at a dotted path; a number is a place in a list.
pub(super) fn put(settings: &mut Value, path: &str, value: Value) {
    let mut at = settings;
    for step in path.split('.') {
        at = match step.parse::<usize>() {
            Ok(index) => {
                if !at.is_array() {
                    *at = json!([]);
                }
                let list = at.as_array_mut().expect("it was made one");
                while list.len() <= index {
                    list.push(json!(""));
                }
                &mut list[index]
            }
            Err(_) => {
                if !at.is_object() {
                    *at = json!({});
                }
                at.as_object_mut().expect("it was made one").entry(step).or_insert(Value::Null)
            }
        };
    }
    *at = value;
}
