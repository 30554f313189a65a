//! Looks at one plugin from all sides, for the person who writes it: what phones would run into, and what leads nowhere.
//!
//! The trial before a plugin takes service is quick and asks one model of each family. Here every model is asked, once with the least that
//! a phone needs and once with everything set. What a template, a column or a table is good for is found where it is written down; of what
//! a library may read in its own code, by taking it away and looking whether anything changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use provost_plugin::{Announced, Complaint, Phone, PluginError, Spec, model::Identity, offers, spec::Model};
use regex::Regex;
use serde_json::Value;

use crate::{
    CallError, Honour, Honours, InService, Problem, Shelf,
    coverage::{self, coverage, covers},
    outline::Outline,
    shelf::described,
    trial,
};

/// What there is to say about a plugin that is in service.
#[derive(Clone, Debug, Default)]
pub struct Review {
    /// A phone of some model would not get its file.
    pub faults: Vec<Problem>,
    /// Nothing fails, and something is forgotten, contradicted or of no use.
    pub doubts: Vec<Problem>,
    /// Every field of the common model, and what becomes of it. Empty where there are faults.
    pub fields: BTreeMap<String, Honours>,
}

impl Review {
    /// Faults before doubts.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.faults.iter().chain(&self.doubts)
    }
}

/// Reviews `plugin` as it stands among the others of `shelf`.
pub fn review(plugin: &InService, shelf: &Shelf) -> Review {
    let at = Place::of(plugin);
    let mut rounds = Rounds::of(plugin);
    rounds.every_model(&at);
    let mut review = Review { faults: rounds.faults(), ..Review::default() };
    if review.faults.is_empty() {
        match coverage(plugin) {
            Ok(fields) => review.fields = fields,
            Err(error) => {
                review.faults.push(at.problem(&["files"], format!("cannot be rendered with little set: {error}")))
            }
        }
    }
    let asked = rounds.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let texts = Texts::of(plugin);
    let doubts = &mut review.doubts;
    doubts.extend(forgotten(&review.fields, &plugin.spec, &at));
    doubts.extend(unknown_keys(&at));
    doubts.extend(rivals(plugin, shelf, &at));
    doubts.extend(texts.unreached(&plugin.spec, &asked));
    doubts.extend(unread_columns(plugin, &texts, &at));
    doubts.extend(unread_tables(plugin, &texts, &at));
    doubts.sort_by(|a, b| (&a.file, a.line, &a.message).cmp(&(&b.file, b.line, &b.message)));
    review
}

/// `vendor.yaml`, as a person would open it.
struct Place {
    shown: String,
    outline: Outline,
}

impl Place {
    fn of(plugin: &InService) -> Place {
        let file = plugin.origin.join("vendor.yaml");
        match std::fs::read_to_string(&file) {
            Ok(yaml) => Place { shown: file.display().to_string(), outline: Outline::of(&yaml) },
            // A bare library carries its own, which nobody can open.
            Err(_) => Place { shown: plugin.origin.display().to_string(), outline: Outline::default() },
        }
    }

    fn problem(&self, at: &[&str], message: impl Into<String>) -> Problem {
        Problem::new(&self.shown, self.outline.line(at), message)
    }
}

/// What was rendered for the models, and what failed.
struct Rounds<'a> {
    plugin: &'a InService,
    /// What failed, with the models that it failed for.
    failed: Vec<(Problem, Vec<String>)>,
    /// Templates that the library asked for.
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl<'a> Rounds<'a> {
    fn of(plugin: &'a InService) -> Rounds<'a> {
        Rounds { plugin, failed: Vec::new(), asked: Arc::default() }
    }

    fn every_model(&mut self, at: &Place) {
        let spec = &self.plugin.spec;
        let unlisted = Model::default();
        let listed = spec.models.iter().map(|(name, model)| (name.replace('*', "0"), model));
        // Firmware is known to name a model that the table does not have yet.
        for (name, model) in listed.chain([("UNLISTED".to_owned(), &unlisted)]) {
            let bare = trial::phone(spec, &name, model);
            let everything = coverage::sample(spec, model.family.as_deref(), 0);
            let full = coverage::phone(spec, &name, model, &everything);
            let flipped = Phone { switches: coverage::turned(&full), ..full.clone() };
            self.announce(&bare, at);
            for phone in [bare, full, flipped] {
                if !self.files(&phone, at) {
                    return;
                }
            }
        }
    }

    fn announce(&mut self, phone: &Phone, at: &Place) {
        let identity = Identity {
            mac: phone.mac,
            vendor: self.plugin.spec.announces.first().cloned(),
            model: phone.model.clone(),
            firmware: phone.firmware.clone(),
            user_agent: None,
            hardware: None,
        };
        if let Err(error) = self.plugin.announce(&Announced { identity, base_url: phone.base_url.clone() }) {
            self.fail(at.problem(&["announce"], format!("no URL can be made: {error}")), phone);
        }
    }

    /// Whether it is worth going on: one deadline waited for is enough to know.
    fn files(&mut self, phone: &Phone, at: &Place) -> bool {
        for (index, file) in self.plugin.spec.files.iter().enumerate().filter(|(_, file)| offers(file, phone)) {
            let whose = coverage::seen_by(file, phone);
            let Err(error) = self.plugin.render_noting(index, &whose, Some(&self.asked)) else { continue };
            let what = format!("file \"{}\" cannot be rendered", file.name);
            let problem = match &error {
                CallError::Plugin(PluginError::Template(failure)) => {
                    Problem::new(&failure.template, failure.line, format!("{}: {what}", failure.message))
                }
                _ => at.problem(&["files", &index.to_string()], format!("{what}: {error}")),
            };
            self.fail(problem, phone);
            if matches!(error, CallError::Overran(_) | CallError::Stuck(_)) {
                return false;
            }
        }
        true
    }

    fn fail(&mut self, problem: Problem, phone: &Phone) {
        let model = phone.model.clone().unwrap_or_default();
        match self.failed.iter_mut().find(|(known, _)| *known == problem) {
            Some((_, models)) if models.contains(&model) => {}
            Some((_, models)) => models.push(model),
            None => self.failed.push((problem, vec![model])),
        }
    }

    fn faults(&self) -> Vec<Problem> {
        let all = self.plugin.spec.models.len() + 1;
        let whom = |models: &[String]| match models {
            _ if models.len() == all => "every model".to_owned(),
            [one] if one == "UNLISTED" => "a model that is not listed".to_owned(),
            [one] => one.clone(),
            [one, other] => format!("{one} and {other}"),
            [one, other, rest @ ..] => format!("{one}, {other} and {} other models", rest.len()),
            [] => "no model".to_owned(),
        };
        let said = |(problem, models): &(Problem, Vec<String>)| Problem {
            message: format!("{} for {}", problem.message, whom(models)),
            ..problem.clone()
        };
        self.failed.iter().map(said).collect()
    }
}

fn forgotten(fields: &BTreeMap<String, Honours>, spec: &Spec, at: &Place) -> Vec<Problem> {
    let mut found = Vec::new();
    for (field, honours) in fields {
        for wrong in [Honour::Forgotten, Honour::Contradicted] {
            let families: Vec<&str> =
                honours.iter().filter(|(_, honour)| **honour == wrong).map(|(family, _)| family.as_str()).collect();
            // What is true of all is said once.
            let told = if families.len() == honours.len() { &families[..families.len().min(1)] } else { &families[..] };
            for &family in told {
                let whose = match family {
                    "" => String::new(),
                    _ if families.len() == honours.len() => String::new(),
                    _ => format!(" of the {family} phones"),
                };
                let family = (!whose.is_empty()).then_some(family);
                let (place, message) = match wrong {
                    Honour::Forgotten => {
                        let message = format!(
                            "no file{whose} says {field}, and neither \"unsupported\" nor \"not_yet\" lists it"
                        );
                        (added(family, at), message)
                    }
                    _ => {
                        let message = format!("a file{whose} says {field}, though it is listed as one that none says");
                        (listed(spec, family, field), message)
                    }
                };
                found.push(at.problem(&place.iter().map(String::as_str).collect::<Vec<_>>(), message));
            }
        }
    }
    found
}

/// The keys of `vendor.yaml` below which a field that no file says would be listed.
fn added(family: Option<&str>, at: &Place) -> Vec<String> {
    let steps = |steps: &[&str]| steps.iter().map(|&step| step.to_owned()).collect::<Vec<_>>();
    let outline = match family {
        Some(family) => at.outline.get("families").and_then(|families| families.get(family)),
        None => Some(&at.outline),
    };
    let list = ["not_yet", "unsupported"].into_iter().find(|list| outline.is_some_and(|keys| keys.get(list).is_some()));
    match (family, list) {
        (Some(family), Some(list)) => steps(&["families", family, list]),
        (Some(family), None) => steps(&["families", family]),
        (None, list) => steps(&list.into_iter().collect::<Vec<_>>()),
    }
}

/// The keys that lead to where a field is listed.
fn listed(spec: &Spec, family: Option<&str>, field: &str) -> Vec<String> {
    let own = family.and_then(|name| Some((name, spec.families.get(name)?)));
    let lists = own
        .into_iter()
        .flat_map(|(name, own)| {
            let below = vec!["families".to_owned(), name.to_owned()];
            [(below.clone(), "not_yet", &own.not_yet), (below, "unsupported", &own.unsupported)]
        })
        .chain([(Vec::new(), "not_yet", &spec.not_yet), (Vec::new(), "unsupported", &spec.unsupported)]);
    for (mut steps, key, list) in lists {
        if let Some(index) = list.iter().position(|path| covers(path, field)) {
            steps.extend([key.to_owned(), index.to_string()]);
            return steps;
        }
    }
    vec!["models".to_owned()]
}

/// Keys of a model that nobody knows. They are let through when the file is read, since a library may be older than its data.
fn unknown_keys(at: &Place) -> Vec<Problem> {
    let schema = provost_plugin::spec::schema();
    let Some(known) = schema["$defs"]["Model"]["properties"].as_object() else { return Vec::new() };
    let mut found = Vec::new();
    for model in at.outline.get("models").into_iter().flat_map(Outline::keys) {
        let row = at.outline.get("models").and_then(|models| models.get(model));
        for key in row.into_iter().flat_map(Outline::keys).filter(|key| !known.contains_key(*key)) {
            let message = format!(
                "{model} has a key \"{key}\", which is none; further columns stand under \"columns\", the others are {}",
                known.keys().filter(|key| *key != "columns").cloned().collect::<Vec<_>>().join(", ")
            );
            found.push(at.problem(&["models", model, key], message));
        }
    }
    found
}

/// What this plugin claims and another of `shelf` too.
pub(crate) fn rivals_of(plugin: &InService, shelf: &Shelf) -> Vec<Problem> {
    rivals(plugin, shelf, &Place::of(plugin))
}

/// What another vendor in service claims in the very same words: a phone that says nothing more would be nobody's.
fn rivals(plugin: &InService, shelf: &Shelf, at: &Place) -> Vec<Problem> {
    let mut found = Vec::new();
    for other in shelf.plugins().filter(|other| other.id != plugin.id) {
        for (index, name) in plugin.spec.announces.iter().enumerate() {
            if other.spec.announces.iter().any(|theirs| theirs.eq_ignore_ascii_case(name)) {
                let message = format!("{} announces itself as \"{name}\" too", other.spec.vendor);
                found.push(at.problem(&["announces", &index.to_string()], message));
            }
        }
        for (index, oui) in plugin.spec.ouis.iter().enumerate() {
            if other.spec.ouis.contains(oui) {
                let message = format!("{} has the MAC prefix {oui} too", other.spec.vendor);
                found.push(at.problem(&["ouis", &index.to_string()], message));
            }
        }
    }
    found
}

/// The templates of a vendor, as they are written.
struct Texts {
    /// Name, file, text; each file once, with all the names that it goes by.
    files: Vec<Text>,
}

struct Text {
    names: Vec<String>,
    shown: String,
    /// What stands between the engine's brackets, one tag after the other.
    code: Vec<String>,
    /// From the vendor that this one is like.
    borrowed: bool,
}

static COMMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?s)\{#.*?#\}").expect("a pattern"));
static CODE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?s)\{\{(.*?)\}\}|\{%[-+]?(.*?)%\}").expect("a pattern"));
/// What names a table, and what names a field.
static COMPOSED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(?:table|word)\(([^)]*)\)|\[([^\]]*)\]").expect("a pattern"));
static LITERAL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#""([^"]*)"|'([^']*)'"#).expect("a pattern"));

fn literals(code: &str) -> impl Iterator<Item = &str> {
    LITERAL.captures_iter(code).filter_map(|found| Some(found.get(1).or(found.get(2))?.as_str()))
}

impl Texts {
    fn of(plugin: &InService) -> Texts {
        let mut files: Vec<Text> = Vec::new();
        for (name, shown, text) in plugin.templates.sources() {
            let borrowed = name.starts_with('@') && !name.starts_with("@shipped/");
            match files.iter_mut().find(|file| file.shown == shown) {
                Some(file) => {
                    file.names.push(name.to_owned());
                    file.borrowed |= borrowed;
                }
                None => {
                    let plain = COMMENT.replace_all(&text, "");
                    let inside = |found: regex::Captures<'_>| {
                        found.get(1).or(found.get(2)).map_or_else(String::new, |code| code.as_str().to_owned())
                    };
                    files.push(Text {
                        names: vec![name.to_owned()],
                        shown: shown.to_owned(),
                        code: CODE.captures_iter(&plain).map(inside).collect(),
                        borrowed,
                    });
                }
            }
        }
        Texts { files }
    }

    /// Whether some template reads a field of this name, or names it in a text.
    fn reads(&self, name: &str) -> bool {
        let field = Regex::new(&format!(r"\.{}\b", regex::escape(name))).expect("an escaped name");
        self.names(name) || self.files.iter().flat_map(|file| &file.code).any(|code| field.is_match(code))
    }

    /// Whether some template has this name in a text, or puts a name together of which this may be one.
    fn names(&self, name: &str) -> bool {
        let put_together = |code: &String| {
            let names = COMPOSED.captures_iter(code).filter_map(|found| Some(found.get(1).or(found.get(2))?.as_str()));
            names.filter(|parts| parts.contains('~')).any(|parts| {
                let mut parts = literals(parts).peekable();
                parts.peek().is_some() && parts.all(|part| name.contains(part))
            })
        };
        let said = |code: &String| literals(code).any(|literal| literal == name) || put_together(code);
        self.files.iter().flat_map(|file| &file.code).any(said)
    }

    /// Templates that no file leads to.
    fn unreached(&self, spec: &Spec, asked: &BTreeSet<String>) -> Vec<Problem> {
        let mut waiting: Vec<usize> = Vec::new();
        let mut reached = BTreeSet::new();
        let named = |wanted: &str| self.files.iter().position(|file| file.names.iter().any(|name| name == wanted));
        waiting.extend(spec.files.iter().filter_map(|file| named(file.template.as_deref()?)));
        waiting.extend(asked.iter().filter_map(|name| named(name)));
        while let Some(next) = waiting.pop() {
            if !reached.insert(next) {
                continue;
            }
            for code in &self.files[next].code {
                let words: Vec<&str> = literals(code).collect();
                // Any text that is a template's name may lead to it, in an `include` or by way of a variable.
                waiting.extend(words.iter().filter_map(|word| named(word)));
                let verb = code.split_whitespace().next().unwrap_or_default();
                if matches!(verb, "include" | "extends" | "import" | "from") && code.contains('~') {
                    // A name that is put together: whatever has all of its parts.
                    let fits = |name: &String| words.iter().all(|word| name.contains(word));
                    waiting.extend((0..self.files.len()).filter(|index| self.files[*index].names.iter().any(fits)));
                }
            }
        }
        let lost = self.files.iter().enumerate().filter(|(index, file)| !file.borrowed && !reached.contains(index));
        lost.map(|(_, file)| {
            let message =
                "nothing leads to this template: no entry of \"files\", no include, extends or import, no library";
            Problem::new(&file.shown, 0, message)
        })
        .collect()
    }
}

fn unread_columns(plugin: &InService, texts: &Texts, at: &Place) -> Vec<Problem> {
    let spec = &plugin.spec;
    let mut columns: BTreeMap<&str, &str> = BTreeMap::new();
    for (model, row) in &spec.models {
        for column in row.columns.keys() {
            columns.entry(column).or_insert(model);
        }
    }
    let in_a_name = |column: &str| {
        let placeholder = format!("{{column.{column}}}");
        spec.files.iter().any(|file| file.name.to_string().contains(&placeholder))
    };
    let code = Code::of(plugin);
    let mut found = Vec::new();
    for (column, model) in columns {
        if !in_a_name(column) && !texts.reads(column) && code.as_ref().is_none_or(|code| !code.reads_column(column)) {
            let reader = if code.is_some() { "template, file name or library" } else { "template or file name" };
            let message = format!("no {reader} reads the column \"{column}\"");
            found.push(at.problem(&["models", model, "columns", column], message));
        }
    }
    found
}

fn unread_tables(plugin: &InService, texts: &Texts, at: &Place) -> Vec<Problem> {
    // Only what this file itself says: a vendor need not use all that it has from one that it is like.
    let own = at.outline.get("tables").into_iter().flat_map(Outline::keys);
    let own = own.map(|table| (vec!["tables", table], table));
    let families = at.outline.get("families").into_iter().flat_map(|families| {
        let named = families.keys().filter_map(|family| Some((family, families.get(family)?.get("tables")?)));
        named.flat_map(|(family, tables)| {
            tables.keys().map(move |table| (vec!["families", family, "tables", table], table))
        })
    });
    let by_the_host = |table: &str| table == "key_kind" || plugin.spec.words.values().any(|name| name == table);
    let code = Code::of(plugin);
    let mut found = Vec::new();
    for (place, table) in own.chain(families).filter(|(_, table)| !by_the_host(table) && !texts.names(table)) {
        if code.as_ref().is_none_or(|code| !code.reads_table(table)) {
            let reader = if code.is_some() { "template or library" } else { "template" };
            found.push(at.problem(&place, format!("no {reader} reads the table \"{table}\"")));
        }
    }
    found
}

/// A library's code, of which only the outside can be seen: the texts in it, and its answers.
struct Code<'a> {
    plugin: &'a InService,
    /// The file without the `vendor.yaml` that it carries, which names everything.
    bytes: Vec<u8>,
}

impl<'a> Code<'a> {
    fn of(plugin: &'a InService) -> Option<Code<'a>> {
        let mut bytes = std::fs::read(plugin.library.as_ref()?).ok()?;
        if let Some(description) = described(&bytes) {
            let yaml = description.vendor_yaml.as_bytes();
            while let Some(start) = bytes.windows(yaml.len().max(1)).position(|window| window == yaml) {
                bytes.drain(start..start + yaml.len());
            }
        }
        Some(Code { plugin, bytes })
    }

    fn has_text(&self, name: &str) -> bool {
        self.bytes.windows(name.len().max(1)).any(|window| window == name.as_bytes())
    }

    fn reads_column(&self, column: &str) -> bool {
        let matters = |name: &str, model: &Model| {
            let mut without = model.clone();
            without.columns.remove(column);
            self.answers(self.plugin, name, model) != self.answers(self.plugin, name, &without)
        };
        let mut models = self.plugin.spec.models.iter().filter(|(_, model)| model.columns.contains_key(column));
        self.has_text(column) || models.any(|(name, model)| matters(&name.replace('*', "0"), model))
    }

    fn reads_table(&self, table: &str) -> bool {
        if self.has_text(table) {
            return true;
        }
        // A name that is put together of parts: then the answers are others without the table.
        let mut spec = Spec::clone(&self.plugin.spec);
        spec.tables.remove(table);
        spec.families.values_mut().for_each(|family| drop(family.tables.remove(table)));
        let Ok(without) = self.plugin.over(spec) else { return true };
        let mut models = coverage::models(&self.plugin.spec).into_iter();
        models.any(|(name, model)| self.answers(self.plugin, &name, model) != self.answers(&without, &name, model))
    }

    /// Everything that a plugin says of phones of this model; nothing where it fails.
    fn answers(&self, plugin: &InService, name: &str, model: &Model) -> Vec<Option<(Vec<u8>, Vec<Complaint>)>> {
        let answer = |settings: &Value| {
            let files = coverage::files(plugin, name, model, settings).ok()?;
            let complaints = plugin.complaints(&coverage::phone(&plugin.spec, name, model, settings)).ok()?;
            Some((files, complaints))
        };
        samples(&plugin.spec, model.family.as_deref()).iter().map(answer).collect()
    }
}

/// The two phones with everything set, and one with keys of every kind in every place.
fn samples(spec: &Spec, family: Option<&str>) -> Vec<Value> {
    let (one, other) = (coverage::sample(spec, family, 0), coverage::sample(spec, family, 1));
    let mut many = one.clone();
    let kinds: Vec<&String> = spec.table("key_kind", family).into_iter().flat_map(BTreeMap::keys).collect();
    if !kinds.is_empty() {
        let key = |position: usize| {
            let mut key = many["keys"][0].clone();
            key["position"] = position.into();
            key["kind"] = kinds[position % kinds.len()].as_str().into();
            key
        };
        many["keys"] = (1..=128).map(key).collect();
    }
    vec![one, other, many]
}
