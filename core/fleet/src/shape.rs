//! The form of a profile file, taken from the types themselves: the JSON Schema that `schemars` derives from `Settings` and from the
//! document types below is what editors get, and, compiled to [`Shape`], what the checker and the merge walk along. A field added to
//! the model is at once known to all three.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use provost_plugin::model::{Line, Settings};
use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::refer::LENGTHS;

/// A profile file of Provost. Layers, weakest first: defaults, site, network, vendor, model, profile with what it extends, device, line.
#[derive(Default, JsonSchema)]
#[schemars(default)]
#[allow(dead_code, reason = "only its schema is used; the file is read into nodes that remember their lines")]
struct Document {
    /// For every phone.
    defaults: Settings,
    /// For the phones of a site, by its name.
    sites: BTreeMap<String, Settings>,
    /// For the phones of a network. All networks that fit apply, the widest first.
    networks: Vec<NetworkLayer>,
    /// For the phones of a vendor, by the name of its plugin.
    vendors: BTreeMap<String, Settings>,
    /// For phones of a model; `*` stands for any run of characters, and the shorter pattern comes first.
    models: BTreeMap<String, Settings>,
    /// Named settings that devices ask for, or that choose their phones by `match`.
    profiles: BTreeMap<String, ProfileLayer>,
    /// Rules by which phones that stand in no file are enrolled when they announce themselves. Without one, none is.
    enrol: BTreeMap<String, EnrolRule>,
    /// The phones that are served, by MAC address.
    #[schemars(extend("propertyNames" = { "pattern": "^[0-9A-Fa-f]{2}([-:.]?[0-9A-Fa-f]{2}){5}$" }))]
    devices: BTreeMap<String, DeviceLayer>,
}

/// Settings for the phones of a network.
#[derive(Default, JsonSchema)]
#[schemars(default)]
#[allow(dead_code, reason = "see Document")]
struct NetworkLayer {
    /// Addresses that belong to it, `10.20.0.0/16`.
    cidr: Option<String>,
    /// The interface of this server on which the phone was heard.
    interface: Option<String>,
    /// The site of its phones, where neither device nor profile names one.
    site: Option<String>,
    /// For people.
    name: Option<String>,
    #[serde(flatten)]
    settings: Settings,
}

/// Named settings.
#[derive(Default, JsonSchema)]
#[schemars(default)]
#[allow(dead_code, reason = "see Document")]
struct ProfileLayer {
    /// The profile that this one stands on.
    extends: Option<String>,
    /// Phones that take this profile when their device names none. The profile with most of these keys wins.
    r#match: Option<MatchKeys>,
    /// The site of its phones, where the device names none.
    site: Option<String>,
    #[serde(flatten)]
    settings: Settings,
}

/// Every key that is there must fit.
#[derive(Default, JsonSchema)]
#[schemars(default)]
#[allow(dead_code, reason = "see Document")]
struct MatchKeys {
    /// The name of the vendor's plugin.
    vendor: Option<String>,
    /// Type designation; `*` stands for any run of characters.
    model: Option<String>,
    /// Addresses, `10.0.0.0/8`.
    network: Option<String>,
    /// The first digits of the MAC address.
    mac: Option<String>,
}

/// Enrols every phone that fits. The first rule that fits and has an account left takes it, in the order of the files.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "see Document")]
struct EnrolRule {
    /// Networks from which they announce themselves, `10.20.0.0/16`.
    networks: Vec<String>,
    /// The name of the vendor's plugin. Left out, phones of all vendors.
    vendor: Option<String>,
    /// Type designations; `*` stands for any run of characters. Left out, all models.
    #[schemars(default)]
    models: Vec<String>,
    /// The profile that they get.
    profile: String,
    /// The site that they get.
    site: Option<String>,
    /// Numbers of which each phone gets one that no device has, as in 200-299.
    numbers: Option<String>,
    /// The same with passwords and whatever else a line has. Each phone gets one whose number no device has.
    #[schemars(default)]
    accounts: Vec<Line>,
    /// The last day on which it enrols, in UTC, as in 2026-12-24.
    until: Option<String>,
    /// So many devices with `enrolled_by` of this rule, and no more.
    limit: Option<u32>,
}

/// One phone.
#[derive(Default, JsonSchema)]
#[schemars(default)]
#[allow(dead_code, reason = "see Document")]
struct DeviceLayer {
    /// Its profile. Left out, a profile that matches, or the one named `default`.
    profile: Option<String>,
    site: Option<String>,
    /// What people call it.
    label: Option<String>,
    /// Where it stands.
    location: Option<String>,
    /// False: it is known, but given nothing.
    enabled: Option<bool>,
    identity: Option<StatedIdentity>,
    /// The rule of `enrol` that wrote it; counts towards that rule's limit.
    enrolled_by: Option<String>,
    #[serde(flatten)]
    settings: Settings,
}

/// What the phone is, where that is better said than observed. It wins over what the phone tells.
#[derive(Default, JsonSchema)]
#[schemars(default)]
#[allow(dead_code, reason = "see Document")]
struct StatedIdentity {
    /// The name of the vendor's plugin.
    vendor: Option<String>,
    /// Type designation.
    model: Option<String>,
    /// Revision of the hardware, where `firmware.yaml` tells revisions apart.
    hardware: Option<String>,
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = schema_of::<Document>("Provost profile file");
    offer_references(&mut schema["$defs"]);
    schema
});

/// Lets a reference stand wherever the model has a password, and among a vendor's own parameters, of which any may be one.
fn offer_references(definitions: &mut Value) {
    let name = |help: &str| json!({ "type": ["string", "number"], "description": help });
    definitions["Reference"] = json!({
        "description": "A password that is kept elsewhere: one of these keys, and where it is.",
        "type": "object",
        "properties": {
            "secret": name("A name in the file of secrets."),
            "env": name("A variable of the server's environment."),
            "credential": name("A credential that systemd hands to the server."),
            "age": name("The password itself, encrypted in the format of the age tool."),
        },
        "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
    });
    definitions["Generated"] = json!({
        "description": "A password of the phone's own, which the server makes of a key and the MAC address.",
        "type": "object",
        "properties": { "generate": {
            "description": "Its characters.", "type": "integer", "minimum": LENGTHS.start(), "maximum": LENGTHS.end(),
        } },
        "additionalProperties": false, "required": ["generate"],
    });
    let (reference, generated) = (json!({ "$ref": "#/$defs/Reference" }), json!({ "$ref": "#/$defs/Generated" }));
    let or = |plain: Value, more: &[&Value]| {
        let alternatives: Vec<&Value> = [&plain].into_iter().chain(more.iter().copied()).collect();
        json!({ "anyOf": alternatives })
    };
    definitions["Secret"] = or(definitions["Secret"].take(), &[&reference]);
    let password = &mut definitions["Credentials"]["properties"]["password"];
    let plain = json!({ "type": ["string", "number", "boolean", "null"] });
    *password = or(plain, &[&reference, &generated]);
    let raw = or(json!({ "$ref": "#/$defs/Scalar" }), &[&reference]);
    let sections: Vec<&mut Value> = definitions.as_object_mut().into_iter().flat_map(|all| all.values_mut()).collect();
    for section in sections {
        if let Some(value) = section.pointer_mut("/properties/vendor/additionalProperties/additionalProperties") {
            *value = raw.clone();
        }
    }
}

/// The schema of a file of ours, as editors and the checker take it.
pub(crate) fn schema_of<T: JsonSchema>(title: &str) -> Value {
    let mut schema = schemars::schema_for!(T).to_value();
    tidy(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), title.into());
    }
    schema
}

/// JSON Schema (2020-12) of a profile file, for editors.
pub fn schema() -> Value {
    SCHEMA.clone()
}

/// Closes every section against unknown keys, lets numbers stand where text is wanted as the reader does, and takes out what only
/// readers of the source need.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("default");
            if let Some(Value::String(description)) = fields.get_mut("description") {
                // Links into the source mean nothing in an editor, and they come after the first sentence.
                if description.contains("[`") {
                    description.truncate(description.find(". ").map_or(description.len(), |end| end + 1));
                }
                *description = description.replace('\n', " ");
            }
            if fields.contains_key("properties") {
                fields.insert("additionalProperties".into(), false.into());
            }
            let free_text = !["enum", "const", "format", "pattern"].iter().any(|key| fields.contains_key(*key));
            match fields.get_mut("type") {
                Some(Value::String(kind)) if kind == "string" && free_text => {
                    fields.insert("type".into(), json!(["string", "number", "boolean"]));
                }
                Some(Value::Array(kinds)) if free_text && kinds.contains(&json!("string")) => {
                    kinds.extend([json!("number"), json!("boolean")]);
                }
                _ => {}
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// What may stand at one place.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A section whose keys are known.
    Section {
        fields: HashMap<&'static str, Shape>,
        /// In the order in which people should be shown them.
        names: Vec<&'static str>,
        required: Vec<&'static str>,
    },
    /// A section whose keys people choose.
    Table(Box<Shape>),
    List {
        item: Box<Shape>,
        join: Join,
    },
    Text,
    Integer {
        least: i64,
        most: i64,
    },
    Number,
    Switch,
    Word(Vec<String>),
    /// A single value of whatever kind.
    Scalar,
    /// A password, or what stands in its place.
    Secret {
        /// It may be of whatever kind, as a vendor's own parameters are.
        loose: bool,
        /// It may be made for each phone.
        generated: bool,
    },
}

/// How the lists of two layers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// The stronger list alone counts.
    Replace,
    /// Entries at the same position are merged. With `numbered` the position is a key of the entry.
    Deepen { numbered: bool },
    /// The stronger entry replaces the one at the same position.
    PerPosition,
}

impl Shape {
    pub(crate) fn field(&self, name: &str) -> Option<&Shape> {
        match self {
            Shape::Section { fields, .. } => fields.get(name),
            Shape::Table(value) => Some(value),
            _ => None,
        }
    }

    /// What is expected, for messages.
    pub(crate) fn expected(&self) -> String {
        match self {
            Shape::Section { .. } | Shape::Table(_) => "a section with keys".into(),
            Shape::List { .. } => "a list".into(),
            Shape::Text | Shape::Secret { loose: false, .. } => "text".into(),
            Shape::Integer { least, most: i64::MAX } => format!("a whole number from {least}"),
            Shape::Integer { least, most } => format!("a whole number from {least} to {most}"),
            Shape::Number => "a number".into(),
            Shape::Switch => "true or false".into(),
            Shape::Word(words) => format!("one of {}", words.join(", ")),
            Shape::Scalar | Shape::Secret { .. } => "a single value".into(),
        }
    }

    /// Whether nothing written there takes away a weaker layer's value. An empty section is more often an unfinished thought.
    pub(crate) fn can_be_cleared(&self) -> bool {
        !matches!(self, Shape::Section { .. } | Shape::Table(_) | Shape::List { .. })
    }
}

/// A whole file.
pub(crate) static DOCUMENT: LazyLock<Shape> = LazyLock::new(|| compile(&SCHEMA, &SCHEMA, ""));

/// The settings of one layer.
pub(crate) fn settings() -> &'static Shape {
    DOCUMENT.field("defaults").expect("a document has defaults")
}

pub(crate) fn compile(schema: &Value, root: &Value, name: &str) -> Shape {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(reference.trim_start_matches('#')).expect("schemars refers only to what it defines");
        return compile(target, root, name);
    }
    if let Some(alternatives) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
        let names = |definition: &str| alternatives.iter().any(|one| one["$ref"] == format!("#/$defs/{definition}"));
        if names("Reference") {
            return Shape::Secret { loose: names("Scalar"), generated: names("Generated") };
        }
        let real: Vec<&Value> = alternatives.iter().filter(|one| one.get("type") != Some(&json!("null"))).collect();
        if let [only] = real[..] {
            return compile(only, root, name);
        }
        let words: Vec<String> = real.iter().flat_map(|one| words(one)).collect();
        // Alternatives that are not words are those of `Scalar`.
        return if words.is_empty() { Shape::Scalar } else { Shape::Word(words) };
    }
    let words = words(schema);
    if !words.is_empty() {
        return Shape::Word(words);
    }
    let is = |kind: &str| match schema.get("type") {
        Some(Value::String(only)) => only == kind,
        Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
        _ => false,
    };
    if is("object") {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            // The shapes live as long as the process, so a name costs nothing in each of a hundred thousand devices.
            let fields: HashMap<&'static str, Shape> = properties
                .iter()
                .map(|(name, schema)| (&*String::leak(name.clone()), compile(schema, root, name)))
                .collect();
            let mut names: Vec<&'static str> = fields.keys().copied().collect();
            names.sort_unstable();
            let required =
                schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            let required = required.filter_map(|name| fields.get_key_value(name).map(|(name, _)| *name)).collect();
            return Shape::Section { fields, names, required };
        }
        let value = schema.get("additionalProperties").expect("a section has either keys or a shape for all of them");
        return Shape::Table(Box::new(compile(value, root, "")));
    }
    if is("array") {
        let item = compile(schema.get("items").expect("a list says what it holds"), root, "");
        return Shape::List { join: join(name, &item), item: Box::new(item) };
    }
    if is("string") {
        return Shape::Text;
    }
    if is("integer") {
        let bound = |key: &str| schema.get(key).and_then(Value::as_i64);
        let most = match schema.get("format").and_then(Value::as_str) {
            Some("uint8") => i64::from(u8::MAX),
            Some("uint16") => i64::from(u16::MAX),
            Some("uint32") => i64::from(u32::MAX),
            _ => i64::MAX,
        };
        return Shape::Integer { least: bound("minimum").unwrap_or(i64::MIN), most: bound("maximum").unwrap_or(most) };
    }
    if is("boolean") {
        return Shape::Switch;
    }
    if is("number") {
        return Shape::Number;
    }
    panic!("the schema has a form at \"{name}\" that the checker does not know: {schema}");
}

fn words(schema: &Value) -> Vec<String> {
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    listed.chain(schema.get("const")).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The lists of the model that grow together instead of replacing each other. Anything new replaces, until it is named here.
fn join(name: &str, item: &Shape) -> Join {
    match name {
        "lines" => Join::Deepen { numbered: true },
        "keys" if item.field("position").is_some() => Join::PerPosition,
        "expansion" | "handsets" => Join::Deepen { numbered: false },
        _ => Join::Replace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_the_schema_has_a_shape_and_is_closed() {
        fn walk(shape: &Shape, count: &mut usize) {
            *count += 1;
            match shape {
                Shape::Section { fields, .. } => fields.values().for_each(|field| walk(field, count)),
                Shape::Table(value) | Shape::List { item: value, .. } => walk(value, count),
                _ => {}
            }
        }
        let mut count = 0;
        walk(&DOCUMENT, &mut count);
        assert!(count > 500, "{count} places");

        fn closed(schema: &Value) {
            match schema {
                Value::Object(fields) => {
                    if fields.contains_key("properties") {
                        assert_eq!(fields["additionalProperties"], false, "{schema}");
                    }
                    fields.values().for_each(closed);
                }
                Value::Array(items) => items.iter().for_each(closed),
                _ => {}
            }
        }
        closed(&schema());
        assert_eq!(schema()["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }

    #[test]
    fn the_lists_that_grow_together_are_the_ones_that_the_model_has() {
        let settings = settings();
        let join = |path: &[&str]| {
            let mut shape = settings;
            for step in path {
                shape = match shape {
                    Shape::List { item, .. } => item,
                    other => other,
                };
                shape = shape.field(step).unwrap_or_else(|| panic!("no {step}"));
            }
            match shape {
                Shape::List { join, .. } => *join,
                other => panic!("{path:?} is no list but {other:?}"),
            }
        };
        assert_eq!(join(&["lines"]), Join::Deepen { numbered: true });
        assert_eq!(join(&["keys"]), Join::PerPosition);
        assert_eq!(join(&["expansion"]), Join::Deepen { numbered: false });
        assert_eq!(join(&["expansion", "keys"]), Join::PerPosition);
        assert_eq!(join(&["dect", "handsets"]), Join::Deepen { numbered: false });
        assert_eq!(join(&["phonebook", "remote"]), Join::Replace);
        assert_eq!(join(&["lines", "codecs"]), Join::Replace);
    }

    #[test]
    fn a_setting_of_the_model_never_hides_a_key_of_the_document() {
        // `flatten` lets two keys of one name collapse into one without a word.
        let settings = match settings() {
            Shape::Section { names, .. } => names.clone(),
            other => panic!("{other:?}"),
        };
        for own in [
            "cidr",
            "interface",
            "site",
            "name",
            "extends",
            "match",
            "profile",
            "label",
            "location",
            "enabled",
            "identity",
            "enrolled_by",
        ] {
            assert!(!settings.contains(&own), "{own}");
        }
    }
}
