//! Any phone, through every template of its vendor.

use std::sync::OnceLock;

use provost_host::{CallError, InService};
use provost_plugin::{Phone, Secret};
use serde_json::Value;

use crate::{
    models,
    readers::{Settings, Shape},
};

const MARKER: &str = "Marker0815";
/// Where people write whatever they like, and where a value must not change which settings a file has.
const FREE: [&str; 8] = [
    "/lines/0/password",
    "/lines/0/display_name",
    "/lines/0/label",
    "/lines/0/auth_username",
    "/access/admin/password",
    "/provisioning/password",
    "/phonebook/ldap/password",
    "/phonebook/remote/0/name",
];

/// A phone of one family with everything set, as JSON, and where its values are.
struct Base {
    plugin: &'static InService,
    phone: Value,
    leaves: Vec<String>,
}

pub fn phone(input: &[u8]) {
    let mut input = Input(input);
    let bases = bases();
    let base = &bases[usize::from(input.byte()) % bases.len()];
    let mut json = base.phone.clone();
    if input.byte() & 1 == 0 {
        let at = FREE[usize::from(input.byte()) % FREE.len()];
        let value = String::from_utf8_lossy(input.0).into_owned();
        return free_text(base, json, at, &value);
    }
    while !input.0.is_empty() {
        let leaf = &base.leaves[usize::from(u16::from_be_bytes([input.byte(), input.byte()])) % base.leaves.len()];
        // One that a change before it took away is left out.
        if let Some(place) = json.pointer_mut(leaf) {
            *place = input.value();
        }
    }
    let Ok(phone) = serde_json::from_value::<Phone>(json) else { return };
    for (name, body) in rendered(base.plugin, &phone) {
        let Ok(body) = body else { continue };
        Shape::of(&body).read(&body).unwrap_or_else(|error| {
            panic!("{} {name} cannot be read back: {error}\n{}", base.plugin.id, body.escape_ascii())
        });
    }
}

/// The file has the settings that it has with a harmless value, in the same order, or it is refused.
fn free_text(base: &Base, json: Value, at: &str, value: &str) {
    if value.trim().is_empty() || value == "none" {
        return;
    }
    let with = |value: &str| {
        let mut json = json.clone();
        *json.pointer_mut(at)? = value.into();
        let phone: Phone = serde_json::from_value(json).ok()?;
        Some(rendered(base.plugin, &phone))
    };
    let (Some(harmless), Some(hostile)) = (with(MARKER), with(value)) else { return };
    for ((name, harmless), (_, hostile)) in harmless.into_iter().zip(hostile) {
        let (Ok(harmless), Ok(hostile)) = (harmless, hostile) else { continue };
        let shape = Shape::of(&harmless);
        let names = |body: &[u8]| -> Vec<String> {
            let read: Result<Settings, String> = shape.read(body);
            read.unwrap_or_else(|error| {
                panic!("{} {name} with {value:?} at {at} cannot be read back: {error}", base.plugin.id)
            })
            .into_iter()
            .map(|(name, _)| name)
            .collect()
        };
        assert_eq!(names(&harmless), names(&hostile), "{} {name} with {value:?} at {at}", base.plugin.id);
    }
}

/// Every file that the phone may fetch. That one is refused is an answer; that a library panics or stalls is none.
fn rendered(plugin: &InService, phone: &Phone) -> Vec<(String, Result<Vec<u8>, String>)> {
    let mut files = Vec::new();
    for (index, name, phone) in models::offered(plugin, phone) {
        let body = match plugin.render(index, &phone) {
            Ok(file) => Ok(file.body),
            Err(
                error @ (CallError::Panicked(_) | CallError::Overran(_) | CallError::Stuck(_) | CallError::Nonsense(_)),
            ) => {
                panic!("{} {name}: {error}", plugin.id)
            }
            Err(error) => Err(error.to_string()),
        };
        files.push((name, body));
    }
    files
}

fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        models::families()
            .into_iter()
            .map(|(plugin, model)| {
                let phone = models::office(plugin, model.as_deref()).phone;
                let phone = Secret::exposed(|| serde_json::to_value(&phone)).expect("a phone is plain data");
                let mut leaves = Vec::new();
                walk(&phone, String::new(), &mut leaves);
                // What vendor.yaml says of the model is not what people write, and an encrypted file reads back with its key alone.
                leaves.retain(|leaf| {
                    !["/capabilities", "/mac", "/vendor", "/zone"].iter().any(|prefix| leaf.starts_with(prefix))
                });
                leaves.retain(|leaf| !leaf.contains("encrypt"));
                Base { plugin, phone, leaves }
            })
            .collect()
    })
}

fn walk(value: &Value, at: String, leaves: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(name, value)| {
                walk(value, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), leaves)
            });
        }
        Value::Array(list) => {
            leaves.push(at.clone());
            list.iter().enumerate().for_each(|(index, value)| walk(value, format!("{at}/{index}"), leaves));
        }
        _ => leaves.push(at),
    }
}

/// Choices, taken off the front of what the fuzzer made; zeros when it is used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn value(&mut self) -> Value {
        let kind = self.byte();
        match kind % 8 {
            0 => Value::Null,
            1 => Value::Bool(kind & 8 != 0),
            2 => Value::from(i64::from(self.byte())),
            3 => Value::from(u64::from_be_bytes(std::array::from_fn(|_| self.byte()))),
            4 => Value::Array(Vec::new()),
            _ => {
                let length = usize::from(self.byte()).min(self.0.len());
                let (text, rest) = self.0.split_at(length);
                self.0 = rest;
                Value::String(String::from_utf8_lossy(text).into_owned())
            }
        }
    }
}
