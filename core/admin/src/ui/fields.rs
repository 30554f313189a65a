//! The fields of the forms in which devices and profiles are edited, made of the JSON Schema of the profile format: a setting that the
//! model learns is in them without a word here. Knows how a value is typed into a browser and read out of it, and nothing of devices.

use std::sync::LazyLock;

use provost_plugin::model::Settings;
use serde_json::{Map, Value as Json};

/// One setting.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// From the section that it is a field of, `voice.id`.
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) help: String,
    /// A password: it is never shown, and left empty it stays what it is.
    pub(super) is_secret: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Text,
    Switch,
    Integer {
        least: Option<i64>,
        most: Option<i64>,
    },
    Number,
    Word(Vec<String>),
    /// Single values, parted by commas.
    List,
}

/// Fields under a heading.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) help: String,
    pub(super) fields: Vec<Field>,
}

/// What a form knows.
#[derive(Debug)]
pub(super) struct Form {
    /// Of the device or profile itself: label, profile, what it extends and their like.
    pub(super) own: Vec<Field>,
    /// Of each of its lines.
    pub(super) line: Vec<Field>,
    pub(super) sections: Vec<Section>,
}

/// What most people look for, in that order; what is not named comes after it, by name.
const FIRST: [&str; 8] = ["label", "profile", "extends", "site", "location", "enabled", "match.vendor", "match.model"];
/// Sections about the device or profile itself, which stand with its other fields.
const NO_SETTINGS: [&str; 2] = ["identity", "match"];
const FIRST_OF_LINE: [&str; 7] =
    ["number", "display_name", "label", "username", "auth_username", "password", "enabled"];
const FIRST_SECTIONS: [&str; 3] = ["sip", "time", "locale"];

/// How many fields of a line are shown at once.
pub(super) const LINE_AT_ONCE: usize = FIRST_OF_LINE.len();

pub(super) static DEVICE: LazyLock<Form> = LazyLock::new(|| form("devices"));
pub(super) static PROFILE: LazyLock<Form> = LazyLock::new(|| form("profiles"));

/// The form for the entries of a section of a profile file.
fn form(entries: &str) -> Form {
    let schema = provost_fleet::schema();
    let entry = target(&schema["properties"][entries]["additionalProperties"], &schema);
    let mut form = Form { own: Vec::new(), line: Vec::new(), sections: Vec::new() };
    for (name, property) in entry["properties"].as_object().into_iter().flatten() {
        if name == "lines" {
            let line = target(&property["items"], &schema);
            walk(line, &schema, "", "lines.0.", &mut form.line);
            continue;
        }
        let mut fields = Vec::new();
        if target(property, &schema)["properties"].is_object() && !NO_SETTINGS.contains(&name.as_str()) {
            walk(property, &schema, "", &format!("{name}."), &mut fields);
            let help = help(property, target(property, &schema));
            form.sections.push(Section { name: name.clone(), help, fields });
        } else {
            walk(property, &schema, name, "", &mut form.own);
        }
    }
    order(&mut form.own, &FIRST, |field| &field.path);
    order(&mut form.line, &FIRST_OF_LINE, |field| &field.path);
    order(&mut form.sections, &FIRST_SECTIONS, |section| &section.name);
    form
}

fn order<T>(all: &mut [T], first: &[&str], name: impl Fn(&T) -> &String) {
    all.sort_by_key(|one| {
        let place = first.iter().position(|known| known == name(one)).unwrap_or(first.len());
        (place, name(one).clone())
    });
}

/// What a schema is in the end, without references and the "or nothing".
fn target<'a>(schema: &'a Json, root: &'a Json) -> &'a Json {
    if let Some(reference) = schema["$ref"].as_str() {
        return root.pointer(reference.trim_start_matches('#')).map_or(schema, |schema| target(schema, root));
    }
    let real = |schema: &&Json| schema["type"] != "null";
    match schema["anyOf"].as_array().map(|all| all.iter().filter(real).collect::<Vec<_>>()).as_deref() {
        Some([only]) => target(only, root),
        _ => schema,
    }
}

fn help(property: &Json, target: &Json) -> String {
    property["description"].as_str().or(target["description"].as_str()).unwrap_or_default().replace('`', "")
}

fn walk(property: &Json, root: &Json, path: &str, before: &str, fields: &mut Vec<Field>) {
    let schema = target(property, root);
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            walk(property, root, &path, before, fields);
        }
        return;
    }
    let Some(kind) = kind(schema, root) else { return };
    let is_secret = kind == Kind::Text && is_secret(&format!("{before}{path}"));
    fields.push(Field { path: path.to_owned(), kind, help: help(property, schema), is_secret });
}

/// None for what a line of a form cannot hold: tables, and lists of sections.
fn kind(schema: &Json, root: &Json) -> Option<Kind> {
    let words = words(schema);
    if !words.is_empty() {
        return Some(Kind::Word(words));
    }
    let is = |kind: &str| match &schema["type"] {
        Json::String(only) => only == kind,
        Json::Array(kinds) => kinds.iter().any(|one| one == kind),
        _ => false,
    };
    if is("array") {
        let item = kind(target(&schema["items"], root), root)?;
        return (item != Kind::List).then_some(Kind::List);
    }
    // A password, or what stands in its place: it is the password that is typed.
    if schema["anyOf"].as_array().is_some_and(|all| all.iter().any(|one| one["$ref"] == "#/$defs/Reference")) {
        return Some(Kind::Text);
    }
    // Text takes numbers too, so that it is asked for first.
    if is("string") {
        return Some(Kind::Text);
    }
    if is("integer") {
        let most = match schema["format"].as_str() {
            Some("uint8") => Some(i64::from(u8::MAX)),
            Some("uint16") => Some(i64::from(u16::MAX)),
            Some("uint32") => Some(i64::from(u32::MAX)),
            _ => None,
        };
        let most = schema["maximum"].as_i64().or(most);
        return Some(Kind::Integer { least: schema["minimum"].as_i64(), most });
    }
    if is("boolean") {
        return Some(Kind::Switch);
    }
    is("number").then_some(Kind::Number)
}

fn words(schema: &Json) -> Vec<String> {
    let alternatives = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
    let alternatives = alternatives.into_iter().flatten().flat_map(words);
    let listed = schema["enum"].as_array().into_iter().flatten().chain(schema.get("const"));
    listed.filter_map(Json::as_str).map(str::to_owned).chain(alternatives).collect()
}

/// Whether the model keeps a setting as a password: it says so itself, by how it shows one.
fn is_secret(path: &str) -> bool {
    let mut settings = Json::from("x");
    for step in path.rsplit('.') {
        settings = match step {
            "0" => Json::Array(vec![settings]),
            step => Json::Object(Map::from_iter([(step.to_owned(), settings)])),
        };
    }
    let Ok(read) = serde_json::from_value::<Settings>(settings) else { return false };
    let shown = serde_json::to_value(read).unwrap_or_default();
    at(&shown, path).is_some_and(|shown| *shown != "x" && shown.is_string())
}

/// The value at a dotted path.
pub(super) fn at<'a>(value: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(value, |value, step| match value {
        Json::Array(items) => items.get(step.parse::<usize>().ok()?),
        value => value.get(step),
    })
}

/// Puts a value there, or takes away what is there, and with it the sections that say nothing without it.
pub(super) fn put(value: &mut Json, path: &str, new: Option<Json>) {
    let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
    if !value.is_object() {
        *value = Json::Object(Map::new());
    }
    let Json::Object(fields) = value else { return };
    match (rest, new) {
        (None, Some(new)) => drop(fields.insert(step.to_owned(), new)),
        (None, None) => drop(fields.remove(step)),
        (Some(rest), new) => {
            if new.is_none() && !fields.contains_key(step) {
                return;
            }
            let inner = fields.entry(step).or_insert(Json::Null);
            put(inner, rest, new);
            if inner.as_object().is_some_and(Map::is_empty) {
                fields.remove(step);
            }
        }
    }
}

impl Field {
    /// The value as the form shows it.
    pub(super) fn text(&self, value: Option<&Json>) -> String {
        let single = |value: &Json| match value {
            // A browser takes the ends of lines out of what it is given.
            Json::String(text) => text.replace(['\r', '\n'], ""),
            Json::Null => String::new(),
            value => value.to_string(),
        };
        match value {
            None => String::new(),
            Some(Json::Array(items)) => items.iter().map(single).collect::<Vec<_>>().join(", "),
            Some(value) => single(value),
        }
    }

    /// The value that was typed; nothing typed is no value. What does not fit goes on as text, to be refused with its field.
    pub(super) fn value(&self, typed: &str) -> Option<Json> {
        if typed.is_empty() {
            return None;
        }
        let trimmed = typed.trim();
        Some(match &self.kind {
            Kind::Text | Kind::Word(_) => Json::from(typed),
            Kind::Switch => match trimmed {
                "true" => Json::Bool(true),
                "false" => Json::Bool(false),
                other => Json::from(other),
            },
            Kind::Integer { .. } => trimmed.parse::<i64>().map_or_else(|_| Json::from(trimmed), Json::from),
            Kind::Number => trimmed.parse::<f64>().map_or_else(|_| Json::from(trimmed), Json::from),
            Kind::List => {
                let items = typed.split([',', ' ']).map(str::trim).filter(|item| !item.is_empty());
                items.map(Json::from).collect()
            }
        })
    }

    /// For people.
    pub(super) fn label(&self) -> String {
        self.path.replace('.', ", ").replace('_', " ")
    }
}

/// The merge patch that makes one of the other.
pub(super) fn patch(old: &Map<String, Json>, new: &Map<String, Json>) -> Map<String, Json> {
    let mut patch = Map::new();
    for (name, new) in new {
        match (old.get(name), new) {
            (Some(old), new) if old == new => {}
            (Some(Json::Object(old)), Json::Object(new)) => {
                patch.insert(name.clone(), Json::Object(self::patch(old, new)));
            }
            _ => drop(patch.insert(name.clone(), new.clone())),
        }
    }
    patch.extend(old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.clone(), Json::Null)));
    patch
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_form_has_the_settings_of_the_model_and_knows_its_passwords() {
        let form = &*DEVICE;
        let section = |name: &str| form.sections.iter().find(|section| section.name == name).unwrap();
        let field = |fields: &[Field], path: &str| fields.iter().find(|field| field.path == path).unwrap().clone();
        assert_eq!(form.own[0].path, "label");
        let own: Vec<&str> = PROFILE.own.iter().map(|field| field.path.as_str()).collect();
        assert_eq!(own, ["extends", "site", "match.vendor", "match.model", "match.mac", "match.network"]);
        let names = |form: &Form| form.sections.iter().map(|section| section.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(form), names(&PROFILE), "they hold the same settings");
        assert_eq!(form.sections[0].name, "sip");
        let transport = field(&section("sip").fields, "transport");
        assert_eq!(transport.kind, Kind::Word(["udp", "tcp", "tls", "dns"].map(str::to_owned).to_vec()));
        let port = field(&form.line, "port");
        assert_eq!(port.kind, Kind::Integer { least: Some(0), most: Some(65535) });
        let vlan = field(&section("vlan").fields, "voice.id");
        assert_eq!((&vlan.kind, &*vlan.help), (&Kind::Integer { least: Some(1), most: Some(4094) }, "1 to 4094."));
        assert_eq!(field(&section("sip").fields, "codecs").kind, Kind::List);
        assert_eq!(field(&form.line, "forward.busy.enabled").kind, Kind::Switch);
        let mut secrets: Vec<String> = form
            .sections
            .iter()
            .flat_map(|section| {
                let secret = section.fields.iter().filter(|field| field.is_secret);
                secret.map(|field| format!("{}.{}", section.name, field.path))
            })
            .collect();
        secrets.sort();
        let expected = [
            "access.admin.password",
            "access.lock_pin",
            "access.user.password",
            "dect.access_code",
            "phonebook.ldap.password",
            "provisioning.encryption.key",
            "provisioning.password",
            "trust.old_password",
        ];
        assert_eq!(secrets, expected);
        let secret_of_line: Vec<&str> =
            form.line.iter().filter(|field| field.is_secret).map(|field| &*field.path).collect();
        assert_eq!(secret_of_line, ["password"]);
        assert!(form.line[..LINE_AT_ONCE].iter().any(|field| field.path == "password"));
    }

    #[test]
    fn what_is_typed_is_the_value_and_nothing_typed_is_none() {
        let field = |kind| Field { path: "a.b".into(), kind, help: String::new(), is_secret: false };
        let integer = field(Kind::Integer { least: None, most: None });
        assert_eq!(
            (integer.value(" 7"), integer.value("7x"), integer.value("")),
            (Some(json!(7)), Some(json!("7x")), None)
        );
        assert_eq!(field(Kind::Text).value(" 0049 "), Some(json!(" 0049 ")));
        assert_eq!(field(Kind::List).value("opus,  g722"), Some(json!(["opus", "g722"])));
        assert_eq!(field(Kind::List).text(Some(&json!(["a", 1]))), "a, 1");
        assert_eq!(field(Kind::Switch).value("false"), Some(json!(false)));

        let mut value = json!({ "a": { "b": 1 }, "c": null });
        put(&mut value, "a.b", None);
        put(&mut value, "x.y", None);
        put(&mut value, "c.d", Some(json!(2)));
        assert_eq!(value, json!({ "c": { "d": 2 } }));
        let (old, new) =
            (json!({ "a": { "b": 1, "c": 2 }, "d": [1] }), json!({ "a": { "b": 1 }, "d": [1, 2], "e": "x" }));
        let patch = patch(old.as_object().unwrap(), new.as_object().unwrap());
        assert_eq!(Json::Object(patch), json!({ "a": { "c": null }, "d": [1, 2], "e": "x" }));
    }
}
