//! Reads a vendor's rendered files back into our words, for people who come from another server and have nothing but the files.
//!
//! No vendor's names stand here: what a plugin writes for a phone is what it can read, see [`probe`]. What was read is rendered again and laid
//! beside the file, so that whatever the two do not agree on is told, and nothing is lost in silence.

mod flat;
mod pattern;
mod probe;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    rc::Rc,
    sync::{Arc, LazyLock},
};

use provost_plugin::{
    MacAddr, Phone, Scalar,
    model::Identity,
    spec::{FileKind, Model},
};
use regex::Regex;
use serde_json::{Value, json};

use self::{
    flat::{Flat, flat, text},
    pattern::{Pattern, Place, Slot},
    probe::{KeyForm, Learned, Probe, put},
};
use crate::{InService, Shelf, mac_named};

/// What a file says of a phone.
#[derive(Clone)]
pub struct ReadBack {
    pub plugin: Arc<InService>,
    pub mac: MacAddr,
    /// The model as which it was read: the phone's own, or one that is configured alike.
    pub model: String,
    /// Lines, keys and settings as a profile has them. Passwords in the clear.
    pub settings: Value,
    /// Names of settings that it does not say, in the order of their names.
    pub lost: Vec<String>,
    /// How many settings the file has.
    pub all: usize,
    /// Fields of accounts that this vendor's files do not give back.
    pub hidden: Vec<&'static str>,
}

// The settings hold passwords.
impl fmt::Debug for ReadBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} as {}, {} of {} lost", self.mac, self.plugin.id, self.model, self.lost.len(), self.all)
    }
}

/// Why nothing could be read back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    #[error("neither its name nor its text tells one MAC")]
    NoMac,
    #[error("it is {0}'s file for many phones, and holds no accounts")]
    Shared(String),
    #[error("it is no text: encrypted, compressed, or a vendor's binary form")]
    Binary,
    #[error("no plugin writes files like it")]
    Foreign,
    #[error("it has settings of {0}, but no account that can be read back")]
    NoAccount(String),
}

/// Reads files of the vendors on a shelf. What it finds out about a model it keeps.
pub struct Reader<'a> {
    shelf: &'a Shelf,
    outlines: HashMap<Form, Option<Rc<Outline>>>,
    learned: HashMap<Form, Option<Rc<Learned>>>,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} forms learned", self.learned.len())
    }
}

/// Families, and further models of them, as which a file is read before the best of them is settled on.
const FAMILIES: usize = 4;
const MODELS: usize = 4;

/// A file of a vendor for a model.
type Form = (String, usize, String);
/// The names that a file can have, and their ends.
type Outline = (BTreeSet<String>, flat::Ends);
/// What a form of a key lacks or leaves over, and how many of its words are there: the less the better, then the more.
type Rank = (usize, std::cmp::Reverse<usize>);

/// A phone of a vendor that lists no models.
static UNLISTED: LazyLock<Model> = LazyLock::new(Model::default);

/// What might have written a file.
struct Writer {
    plugin: Arc<InService>,
    file: usize,
    model: String,
    foreign: Rc<Flat>,
    /// How many of its settings it has.
    hits: usize,
    /// How many of the writer's settings it lacks.
    misses: usize,
    by_oui: bool,
}

impl<'a> Reader<'a> {
    pub fn new(shelf: &'a Shelf) -> Reader<'a> {
        Reader { shelf, outlines: HashMap::new(), learned: HashMap::new() }
    }

    /// The phone that a file of this name is of, as far as its name and text tell.
    pub fn mac(&self, name: &str, bytes: &[u8]) -> Option<MacAddr> {
        let base = name.rsplit('/').next().unwrap_or(name);
        let own = [name, base].iter().find_map(|name| mac_named(&self.shelf.routes(name)));
        own.or_else(|| mac_of(base)).or_else(|| mac_of(&text(bytes)?))
    }

    /// Reads the file of this name, which may have directories in front. `raw`: what has no field of ours becomes a raw setting of the vendor,
    /// where the vendor's files take it as one.
    pub fn read(&mut self, name: &str, bytes: &[u8], raw: bool) -> Result<ReadBack, Unread> {
        let base = name.rsplit('/').next().unwrap_or(name);
        let routes: Vec<_> = [name, base]
            .into_iter()
            .map(|name| self.shelf.routes(name))
            .find(|found| !found.is_empty())
            .unwrap_or_default();
        let of_text = text(bytes);
        let own = mac_named(&routes);
        let mac = self.mac(name, bytes);
        let is_device = |plugin: &InService, file: usize| plugin.spec.files[file].kind == FileKind::Device;
        if mac.is_none()
            || (own.is_none() && !routes.is_empty() && routes.iter().all(|route| !is_device(&route.plugin, route.file)))
        {
            let shared = routes.iter().find(|route| !is_device(&route.plugin, route.file));
            return Err(match shared {
                Some(route) => Unread::Shared(route.plugin.spec.vendor.clone()),
                None if of_text.is_none() => Unread::Binary,
                None => Unread::NoMac,
            });
        }
        let mac = mac.ok_or(Unread::NoMac)?;
        if of_text.is_none() {
            return Err(Unread::Binary);
        }
        let mut best: Option<ReadBack> = None;
        let mut vendor = None;
        for writer in self.writers(&routes, mac, bytes) {
            vendor.get_or_insert_with(|| writer.plugin.spec.vendor.clone());
            let Some(read) = self.read_as(writer, mac, raw) else { continue };
            // What has the same names may mean other things by them; that shows when it is written again.
            if best.as_ref().is_none_or(|best| read.lost.len() < best.lost.len()) {
                best = Some(read);
            }
            if best.as_ref().is_some_and(|best| best.lost.is_empty()) {
                break;
            }
        }
        best.ok_or_else(|| vendor.map_or(Unread::Foreign, Unread::NoAccount))
    }

    fn read_as(&mut self, writer: Writer, mac: MacAddr, raw: bool) -> Option<ReadBack> {
        let form = (writer.plugin.id.clone(), writer.file, writer.model.clone());
        let (name, model) = row(&writer.plugin, &writer.model);
        let learn = || Probe::new(&writer.plugin, writer.file, &name, model).learn().map(Rc::new);
        let learned = self.learned.entry(form).or_insert_with(learn).clone()?;
        let known = Known::of(&learned, &writer.foreign, mac);
        let probe = Probe::new(&writer.plugin, writer.file, &name, model);
        let none = BTreeMap::new();
        let mut settings = known.settings(false);
        settings.get("lines")?;
        let mut lost = known.lost(&probe, &settings, &none);
        // Lines that name no server may share the first one's.
        let shared = known.settings(true);
        if shared != settings {
            let lost_then = known.lost(&probe, &shared, &none);
            if lost_then.len() <= lost.len() {
                (settings, lost) = (shared, lost_then);
            }
        }
        if raw && !lost.is_empty() {
            let taken = known.taken_raw(&probe, &settings, &lost, &writer.plugin);
            if !taken.is_empty() {
                lost = known.lost(&probe, &settings, &taken);
                settings["vendor"] = json!({ writer.plugin.id.clone(): taken });
            }
        }
        let carried = learned.carried();
        let hidden = ["password"].into_iter().filter(|field| !carried.contains(field)).collect();
        let all = writer.foreign.iter().filter(|(name, value)| known.counts(name, value)).count();
        Some(ReadBack { plugin: writer.plugin, mac, model: writer.model, settings, lost, all, hidden })
    }

    /// The fields of accounts that files of this vendor give back, by family; empty where none can be read.
    pub fn fields(&mut self, plugin: &Arc<InService>) -> BTreeMap<String, BTreeSet<&'static str>> {
        let mut all: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
        for (name, model) in models(plugin) {
            let family = model.family.clone().unwrap_or_default();
            if all.contains_key(&family) {
                continue;
            }
            let files = (0..plugin.spec.files.len()).filter_map(|file| Probe::new(plugin, file, &name, model).learn());
            all.insert(family, files.flat_map(|learned| learned.carried()).collect());
        }
        all
    }

    /// Who may have written a file, the likeliest first: whoever names its files so, has the MAC, and shares the most settings with it.
    fn writers(&mut self, routes: &[crate::Route], mac: MacAddr, bytes: &[u8]) -> Vec<Writer> {
        let identity = Identity { mac: Some(mac), ..Identity::default() };
        let by_oui = self.shelf.choose(&identity, None).ok().map(|choice| choice.plugin.id.clone());
        let mut forms: Vec<(Arc<InService>, usize, Option<String>)> = routes
            .iter()
            .filter(|route| route.captured.mac.is_some())
            .map(|route| (Arc::clone(&route.plugin), route.file, route.captured.model.clone()))
            .collect();
        if forms.is_empty() {
            for plugin in self.shelf.plugins() {
                forms.extend((0..plugin.spec.files.len()).map(|file| (Arc::clone(plugin), file, None)));
            }
        }
        let mut all_writers: Vec<Writer> = Vec::new();
        for (plugin, file, named) in forms {
            let entry = &plugin.spec.files[file];
            let Some(format) = entry.template.as_deref().and_then(|template| plugin.spec.format_of(template)) else {
                continue;
            };
            let Some(foreign) = flat(format, bytes).filter(|foreign| !foreign.is_empty()).map(Rc::new) else {
                continue;
            };
            let named = named.and_then(|model| plugin.spec.model(&model)).map(|(name, _)| name.replace('*', "0"));
            let all: Vec<String> = match named {
                Some(name) => vec![name],
                None => models(&plugin).into_iter().map(|(name, _)| name).collect(),
            };
            for model in all {
                let key = (plugin.id.clone(), file, model.clone());
                let outline = self.outlines.entry(key).or_insert_with(|| {
                    let (name, row) = row(&plugin, &model);
                    let names = Probe::new(&plugin, file, &name, row).outline()?;
                    let ends = flat::Ends::of(names.iter());
                    Some(Rc::new((names, ends)))
                });
                let Some((outline, ends)) = outline.as_deref() else { continue };
                let hits = foreign.keys().filter(|name| outline.contains(*name)).count();
                // What wraps the settings may differ; then all of them do.
                let hits =
                    if hits == 0 { foreign.keys().filter(|name| ends.find(name).is_some()).count() } else { hits };
                let misses = outline.len().saturating_sub(hits);
                let by_oui = by_oui.as_ref() == Some(&plugin.id);
                let foreign = Rc::clone(&foreign);
                if hits > 0 {
                    let plugin = Arc::clone(&plugin);
                    all_writers.push(Writer { plugin, file, model, foreign, hits, misses, by_oui });
                }
            }
        }
        let likely = |one: &Writer| (std::cmp::Reverse((one.hits, one.by_oui)), one.misses);
        all_writers.sort_by_key(likely);
        // The best of each family, then the next ones: a few, since each is learnt in full.
        let mut families = BTreeSet::new();
        let family = |one: &Writer| (one.plugin.id.clone(), one.file, row(&one.plugin, &one.model).1.family.clone());
        let (mut first, next): (Vec<Writer>, Vec<Writer>) =
            all_writers.into_iter().partition(|one| families.insert(family(one)));
        first.truncate(FAMILIES);
        first.extend(next.into_iter().take(MODELS));
        first.sort_by_key(likely);
        first
    }
}

/// Models that are configured each in a way of its own.
fn models(plugin: &InService) -> Vec<(String, &Model)> {
    let alike = |one: &Model, other: &Model| {
        let of = |model: &Model| Model { aliases: Vec::new(), lines: 0, ..model.clone() };
        of(one) == of(other)
    };
    let mut models: Vec<(String, &Model)> = Vec::new();
    for (name, model) in &plugin.spec.models {
        match models.iter_mut().find(|(_, known)| alike(known, model)) {
            Some((_, known)) if known.lines >= model.lines => {}
            Some(known) => *known = (name.replace('*', "0"), model),
            None => models.push((name.replace('*', "0"), model)),
        }
    }
    if models.is_empty() {
        models.push(("sample".to_owned(), &UNLISTED));
    }
    models
}

fn row<'p>(plugin: &'p InService, name: &str) -> (String, &'p Model) {
    let listed = plugin.spec.models.iter().find(|(own, _)| own.replace('*', "0") == name);
    (name.to_owned(), listed.map_or(&UNLISTED, |(_, model)| model))
}

/// The only MAC in a text.
fn mac_of(text: &str) -> Option<MacAddr> {
    static MAC: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("(?i)(?:^|[^0-9a-f])((?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}|[0-9a-f]{12})(?:[^0-9a-f]|$)")
            .expect("a literal")
    });
    let all: BTreeSet<MacAddr> = MAC.captures_iter(text).filter_map(|found| found[1].parse().ok()).collect();
    if all.len() == 1 { all.into_iter().next() } else { None }
}

/// A file beside what is known of files like it.
struct Known<'a> {
    learned: &'a Learned,
    foreign: &'a Flat,
    mac: MacAddr,
    /// The values under the names that our own file has for them.
    values: BTreeMap<&'a str, &'a str>,
    /// Our names for theirs.
    names: BTreeMap<&'a str, &'a str>,
    fields: BTreeMap<Slot, String>,
}

impl<'a> Known<'a> {
    fn of(learned: &'a Learned, foreign: &'a Flat, mac: MacAddr) -> Known<'a> {
        let mut names = BTreeMap::new();
        for name in foreign.keys() {
            let ours = match learned.names.get(name) {
                Some(same) => Some(same.as_str()),
                None => learned.ends.find(name),
            };
            names.extend(ours.map(|ours| (name.as_str(), ours)));
        }
        let values = names.iter().map(|(theirs, ours)| (*ours, foreign[*theirs].as_str())).collect();
        let mut known = Known { learned, foreign, mac, values, names, fields: BTreeMap::new() };
        known.read_text();
        known
    }

    fn read_text(&mut self) {
        let mut doubtful = Vec::new();
        for (name, patterns) in &self.learned.text {
            let Some(value) = self.values.get(name.as_str()).copied() else { continue };
            // What stands there when nothing is set is no value.
            if self.learned.plain.get(name).is_some_and(|plain| plain == value) {
                continue;
            }
            let fitting: Vec<_> = patterns.iter().filter_map(|own| Some((own, own.read(value)?))).collect();
            match fitting.as_slice() {
                [(own, said)] if own.0.len() == 1 => self.take(&said.slots),
                [] => {}
                _ => doubtful.push(fitting),
            }
        }
        for fitting in doubtful {
            let agree = |said: &pattern::Said| {
                let same = |(slot, value): &&(Slot, String)| self.fields.get(slot) == Some(value);
                let other = |(slot, value): &&(Slot, String)| self.fields.get(slot).is_some_and(|known| known != value);
                (said.slots.iter().filter(other).count(), said.slots.iter().filter(same).count())
            };
            let best = fitting.iter().min_by_key(|(own, said)| {
                let (against, with) = agree(said);
                (against, std::cmp::Reverse((own.words(), with, said.slots.len())))
            });
            if let Some((_, said)) = best {
                let slots = said.slots.clone();
                self.take(&slots);
            }
        }
    }

    fn take(&mut self, slots: &[(Slot, String)]) {
        for (slot, value) in slots.iter().filter(|(_, value)| !value.is_empty()) {
            self.fields.entry(*slot).or_insert_with(|| value.clone());
        }
    }

    /// Whether a value is what the pattern makes of what is known already.
    fn agrees(&self, pattern: &Pattern, value: &str) -> bool {
        let known = |(slot, value): &(Slot, String)| match self.fields.get(slot) {
            Some(known) => known == value,
            None => value.is_empty(),
        };
        pattern.read(value).is_some_and(|said| said.slots.iter().all(known))
    }

    /// Lines, keys and settings. `shared`: what a line has not of its own it has of the first, wherever the file could say it.
    fn settings(&self, shared: bool) -> Value {
        let mut settings = json!({});
        let mut lines: BTreeMap<u16, BTreeMap<&str, Value>> = BTreeMap::new();
        for (slot, value) in &self.fields {
            let value = match slot.number {
                true => match value.parse::<u32>() {
                    Ok(number) => json!(number),
                    Err(_) => continue,
                },
                false => json!(value),
            };
            match slot.place {
                Place::Line(position) => drop(lines.entry(position).or_default().insert(slot.field, value)),
                Place::Phone => put(&mut settings, slot.field, value),
                Place::Key(_) | Place::Module(..) => {}
            }
        }
        if let Some(servers) = settings.pointer_mut("/time/ntp").and_then(Value::as_array_mut) {
            servers.retain(|server| server != "");
        }
        lines.retain(|_, line| ["username", "auth_username", "password"].iter().any(|field| line.contains_key(field)));
        for choice in &self.learned.choices {
            let line = match choice.place {
                Place::Line(position) => match lines.get_mut(&position) {
                    Some(line) => Some(line),
                    None => continue,
                },
                _ => None,
            };
            if let Some(word) = self.chosen(choice) {
                match line {
                    Some(line) => drop(line.insert(choice.field, word)),
                    None => put(&mut settings, choice.field, word),
                }
            }
        }
        // What the phone has but once stands with the first line.
        let first = lines.get(&1).cloned().unwrap_or_default();
        for (position, line) in lines.iter_mut().filter(|(position, _)| **position > 1) {
            for (field, value) in &first {
                let of_all = !probe::OF_ONE_LINE.contains(field);
                let carried = || {
                    let place = Place::Line(*position);
                    let words = self.learned.choices.iter();
                    self.learned.carries(place, field)
                        || words.filter(|choice| choice.place == place).any(|choice| choice.field == *field)
                };
                if of_all && !line.contains_key(field) && (shared || !carried()) {
                    line.insert(field, value.clone());
                }
            }
        }
        if !lines.is_empty() {
            settings["lines"] = lines.into_iter().map(|(position, line)| line_of(position, line)).collect();
        }
        self.keys(&mut settings);
        settings
    }

    fn chosen(&self, choice: &probe::Choice) -> Option<Value> {
        let there: Vec<&str> =
            choice.unsaid.iter().map(|(name, _)| name.as_str()).filter(|name| self.values.contains_key(name)).collect();
        let is_unsaid =
            choice.unsaid.iter().filter(|(name, _)| there.contains(&name.as_str())).all(|(name, pattern)| {
                pattern.as_ref().is_some_and(|pattern| self.agrees(pattern, self.values[name.as_str()]))
            });
        if there.is_empty() || is_unsaid {
            return None;
        }
        let fits = |says: &[(String, Pattern)]| {
            there.iter().all(|name| {
                let own = says.iter().find(|(own, _)| own == name);
                own.map_or(self.values[name].is_empty(), |(_, pattern)| self.agrees(pattern, self.values[name]))
            })
        };
        choice.alternatives.iter().find(|one| fits(&one.says)).map(|one| one.word.clone())
    }

    fn keys(&self, settings: &mut Value) {
        let mut keys = Vec::new();
        let mut modules: BTreeMap<u16, Vec<Value>> = BTreeMap::new();
        let mut counts: HashMap<&str, u16> = HashMap::new();
        for (place, forms) in &self.learned.keys {
            let names: BTreeSet<&str> =
                forms.iter().flat_map(|form| &form.says).map(|(name, _)| name.as_str()).collect();
            let there: Vec<&str> = names.into_iter().filter(|name| self.values.contains_key(name)).collect();
            let untouched = |name: &&str| {
                let keyless = self.learned.keyless.get(*name);
                keyless.is_some_and(|pattern| self.agrees(pattern, self.values[*name]))
            };
            if there.iter().all(untouched) {
                continue;
            }
            let Some((form, said)) = self.best(forms, &there) else { continue };
            let mut value_of: BTreeMap<&str, String> =
                said.slots.iter().map(|(slot, value)| (slot.field, value.clone())).collect();
            if form.listed
                && let Some(list) = self.learned.lists.get(&form.kind)
                && let Some(first) = list.values().next().and_then(|says| says.first())
            {
                let count = counts.entry(first.0.as_str()).or_default();
                *count += 1;
                for (name, pattern) in list.get(count).into_iter().flatten() {
                    let said = self.values.get(name.as_str()).and_then(|value| pattern.read(value));
                    for (slot, value) in said.into_iter().flat_map(|said| said.slots) {
                        value_of.entry(slot.field).or_insert(value);
                    }
                }
            }
            value_of.retain(|_, value| !value.is_empty());
            let acts_alone =
                !matches!(form.kind.as_str(), "blf" | "speed_dial" | "intercom" | "dtmf" | "prefix" | "url");
            if form.kind == "none" || !(acts_alone || value_of.contains_key("value")) {
                continue;
            }
            let (Place::Key(position) | Place::Module(_, position)) = place else { continue };
            let mut key = json!({ "position": position, "kind": form.kind });
            for (field, value) in value_of {
                key[field] = json!(value);
            }
            let line = said.line.unwrap_or(form.line);
            if line != 1 {
                key["line"] = json!(line);
            }
            match place {
                Place::Module(module, _) => modules.entry(*module).or_default().push(key),
                _ => keys.push(key),
            }
        }
        if !keys.is_empty() {
            settings["keys"] = json!(keys);
        }
        if let Some((last, _)) = modules.last_key_value() {
            let all = (1..=*last).map(|module| json!({ "keys": modules.get(&module).cloned().unwrap_or_default() }));
            settings["expansion"] = all.collect();
        }
    }

    /// The form in which a key is written, and what it says.
    fn best<'f>(&self, forms: &'f [KeyForm], there: &[&str]) -> Option<(&'f KeyForm, pattern::Said)> {
        let mut best: Option<(Rank, &KeyForm, pattern::Said)> = None;
        'forms: for form in forms {
            let mut all = pattern::Said::default();
            let (mut missing, mut words, mut fitting) = (0, 0, 0);
            for (name, pattern) in &form.says {
                let Some(value) = self.values.get(name.as_str()) else {
                    missing += usize::from(pattern.words() > 0);
                    continue;
                };
                let Some(said) = pattern.read(value) else { continue 'forms };
                words += pattern.words();
                fitting += 1;
                for (slot, value) in said.slots {
                    match all.slots.iter().find(|(own, _)| *own == slot) {
                        // The same field under two names.
                        Some((_, same)) if *same != value && !same.is_empty() && !value.is_empty() => continue 'forms,
                        Some((_, same)) if !same.is_empty() => {}
                        _ => all.slots.push((slot, value)),
                    }
                }
                all.line = all.line.or(said.line);
            }
            let beyond = there.iter().filter(|name| !form.says.iter().any(|(own, _)| own == *name));
            let beyond = beyond.filter(|name| !self.values[**name].is_empty()).count();
            let rank = (missing + 2 * beyond, std::cmp::Reverse(words));
            if fitting > 0 && best.as_ref().is_none_or(|(than, ..)| rank < *than) {
                best = Some((rank, form, all));
            }
        }
        best.map(|(_, form, said)| (form, said))
    }

    /// Whether this is a setting, and not a mark on one.
    fn counts(&self, name: &str, value: &str) -> bool {
        if value.is_empty() {
            return false;
        }
        let Some((element, attribute)) = name.split_once('@') else { return true };
        match self.names.get(name) {
            Some(ours) => self.learned.telling.contains(*ours) || attribute == "value",
            None => attribute == "value" || element.is_empty() || attribute.contains('.'),
        }
    }

    /// What a phone of these settings would not be told, and the file says.
    fn lost(&self, probe: &Probe, settings: &Value, raw: &BTreeMap<String, Scalar>) -> Vec<String> {
        let again = probe.again(&filled(settings), raw).unwrap_or_default();
        let said = |name: &str, value: &str| {
            let ours = self.names.get(name).copied().unwrap_or(name);
            // Where the phone fetches from is ours to say.
            let same = |own: &String| own.eq_ignore_ascii_case(value) || own.contains(probe::BASE);
            again.get(ours).is_some_and(same) || value.parse::<MacAddr>() == Ok(self.mac)
        };
        let lost = self.foreign.iter().filter(|(name, value)| self.counts(name, value) && !said(name, value));
        lost.map(|(name, _)| name.clone()).collect()
    }

    /// The raw settings by which a phone would be told of what was lost.
    fn taken_raw(
        &self,
        probe: &Probe,
        settings: &Value,
        lost: &[String],
        plugin: &InService,
    ) -> BTreeMap<String, Scalar> {
        let mut taken = BTreeMap::new();
        let mut left: Vec<&String> = lost.iter().collect();
        // Vendors name raw settings in their own way; which, shows when one is in the file.
        for way in 0..4 {
            let spelt = |name: &str| {
                let step = name.rsplit('/').next().unwrap_or(name);
                let (step, _) = step.split_once('@').filter(|(step, _)| !step.is_empty()).unwrap_or((step, ""));
                let own = step.split_once('[').map(|(element, own)| (element, own.trim_end_matches(']')));
                match (way, own) {
                    (0, _) => step.trim_start_matches('@').to_owned(),
                    (1, Some((_, own))) => own.to_owned(),
                    (2, Some((element, own))) => format!("{element}[{own}]"),
                    (3, _) => name.replace(['/', '['], ".").replace(']', ""),
                    _ => step.to_owned(),
                }
            };
            let allowed = |name: &String| plugin.spec.raw_name.as_ref().is_none_or(|pattern| pattern.0.is_match(name));
            let tried: BTreeMap<String, Scalar> = left
                .iter()
                .map(|name| (spelt(name), Scalar::Text(self.foreign[*name].clone())))
                .filter(|(name, _)| allowed(name))
                .collect();
            if tried.is_empty() {
                continue;
            }
            let mut all = taken.clone();
            all.extend(tried);
            let still = self.lost(probe, settings, &all);
            for name in left.extract_if(.., |name| !still.contains(name)) {
                let name_of = spelt(name);
                if let Some(value) = all.get(&name_of) {
                    taken.insert(name_of, value.clone());
                }
            }
        }
        taken
    }
}

/// A line as a profile has it: what follows from something else is left out.
fn line_of(position: u16, mut line: BTreeMap<&str, Value>) -> Value {
    let number = line.get("number").or(line.get("username")).or(line.get("auth_username")).cloned();
    if let Some(number) = number {
        line.insert("number", number);
    }
    let follows = [
        ("username", "number"),
        ("auth_username", "username"),
        ("label", "number"),
        ("display_name", "label"),
        ("domain", "server"),
    ];
    // From the end: what a field follows from must still be there.
    let number = line.get("number").cloned();
    let of = |line: &BTreeMap<&str, Value>, name: &str| {
        line.get(name).cloned().or_else(|| if name == "server" { None } else { number.clone() })
    };
    for (field, from) in follows.into_iter().rev() {
        if line.get(field).is_some_and(|own| Some(own.clone()) == of(&line, from)) {
            line.remove(field);
        }
    }
    line.insert("position", json!(position));
    json!(line)
}

/// The settings with what follows from others, as a phone is given them.
fn filled(settings: &Value) -> Value {
    let mut settings = settings.clone();
    for line in settings["lines"].as_array_mut().into_iter().flatten() {
        let follow = [
            ("number", "username"),
            ("username", "number"),
            ("auth_username", "username"),
            ("label", "number"),
            ("display_name", "label"),
        ];
        for (field, from) in follow {
            if line[field].is_null() {
                line[field] = line[from].clone();
            }
        }
        if line["enabled"].is_null() {
            line["enabled"] = json!(true);
        }
    }
    let on_line = |keys: &mut Value| {
        for key in keys.as_array_mut().into_iter().flatten() {
            if key["line"].is_null() {
                key["line"] = json!(1);
            }
        }
    };
    on_line(&mut settings["keys"]);
    for module in settings["expansion"].as_array_mut().into_iter().flatten() {
        on_line(&mut module["keys"]);
    }
    for list in ["keys", "expansion"] {
        if settings[list].is_null() {
            settings[list] = json!([]);
        }
    }
    settings["provisioning"]["url"] = json!(probe::BASE);
    settings
}

impl Probe<'_> {
    /// The file of a phone of these settings and raw ones.
    fn again(&self, settings: &Value, raw: &BTreeMap<String, Scalar>) -> Option<Flat> {
        let phone = self.phone(settings)?;
        self.of_phone(&Phone { raw: raw.clone(), ..phone })
    }
}
