//! The function keys of a phone as they lie on it, and what each does there: its own, or by which layer.

use axum::{Json, extract::State};
use provost_fleet::{Origins, Resolved};
use provost_plugin::{
    MacAddr,
    model::{FunctionKey, KeyKind},
};
use provost_server::progress;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Mac, aside};
use crate::{Admin, problem::Problem};

/// Keys that are listed of a phone or a module: more than any has, and what a mistyped position comes to is not a page of a million.
const MOST: u16 = 512;
/// Modules that are listed.
const MODULES: usize = 16;

/// A key that can be pressed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FunctionKey)]
pub(crate) struct Key {
    /// Counted from 1.
    position: u16,
    /// None: nobody said what it does.
    kind: Option<String>,
    value: Option<String>,
    label: Option<String>,
    /// The line it uses.
    line: Option<u16>,
    /// Layer, file and line that say so.
    origin: Option<String>,
    /// The device's own entry says it, and no other layer.
    own: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Keys {
    /// Whether the plugin says how many this model has; else those that somebody put something on.
    counted: bool,
    keys: Vec<Key>,
    /// Of each expansion module, in the order in which they are plugged in.
    modules: Vec<Vec<Key>>,
    /// What a key can do.
    #[schema(value_type = Vec<String>)]
    kinds: Vec<Value>,
}

/// The function keys of a phone, empty ones too
#[utoipa::path(get, path = "/api/v1/devices/{mac}/keys", tag = "devices", params(("mac" = String, Path)), responses(
    (status = 200, body = Keys),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn function_keys(State(admin): State<Admin>, Mac(mac): Mac) -> Result<Json<Keys>, Problem> {
    aside(move || {
        let resolved = resolved(&admin, mac).ok_or_else(|| {
            Problem::not_found(format!("what {mac} is to be cannot be said; its explanation tells why"))
        })?;
        let phone = &resolved.phone;
        let (on_phone, on_module) = (phone.capabilities.keys, phone.capabilities.expansion_keys);
        let settings = &phone.settings;
        let keys = laid(&settings.keys, on_phone.unwrap_or_default(), "keys", &resolved.origins);
        let slots = usize::from(phone.capabilities.expansion_modules.unwrap_or_default()).max(settings.expansion.len());
        let modules = (0..slots.min(MODULES)).map(|index| {
            let keys = settings.expansion.get(index).map(|module| &*module.keys).unwrap_or_default();
            laid(keys, on_module.unwrap_or_default(), &format!("expansion.{index}.keys"), &resolved.origins)
        });
        let modules = modules.collect();
        Ok(Json(Keys { counted: on_phone.is_some(), keys, modules, kinds: kinds() }))
    })
    .await?
}

fn kinds() -> Vec<Value> {
    let schema = provost_fleet::schema();
    let all = &schema["$defs"]["KeyKind"];
    let listed = all["enum"].as_array().into_iter().flatten().cloned();
    listed
        .chain(all["oneOf"].as_array().into_iter().flatten().flat_map(|one| {
            one["enum"].as_array().cloned().unwrap_or_else(|| one.get("const").cloned().into_iter().collect())
        }))
        .collect()
}

/// Every key up to the last that there is, or that something is on.
fn laid(keys: &[FunctionKey], count: u16, path: &str, origins: &Origins) -> Vec<Key> {
    let last = keys.iter().filter_map(|key| key.position).max().unwrap_or_default();
    let key = |position| {
        let index = keys.iter().position(|key| key.position == Some(position));
        let said = index.map(|index| (&keys[index], origins.of(&format!("{path}.{index}.kind"))));
        let (key, origin) = match said {
            Some((key, origin)) => (Some(key), origin),
            None => (None, None),
        };
        let used = key.filter(|key| key.kind != KeyKind::None);
        Key {
            position,
            kind: key.and_then(|key| serde_json::to_value(key.kind).ok()?.as_str().map(str::to_owned)),
            value: used.and_then(|key| key.value.clone()),
            label: used.and_then(|key| key.label.clone()),
            line: used.and_then(|key| key.line),
            own: origin.as_ref().is_some_and(|origin| origin.layer.starts_with("device ")),
            origin: origin.map(|origin| origin.to_string()),
        }
    };
    (1..=count.max(last).min(MOST)).map(key).collect()
}

fn resolved(admin: &Admin, mac: MacAddr) -> Option<Resolved> {
    let world = admin.desk.world();
    let peer = progress::peer(mac, admin.desk.registry.by_mac(mac).as_ref());
    world.files_of(mac, &peer).ok().map(|offer| offer.resolved)
}

/// What a phone has where its own entry says nothing. Passwords are masked.
pub(crate) struct Inherited {
    phone: Value,
    origins: Origins,
}

/// None where it cannot be said, for a phone that was never seen for instance.
pub(crate) async fn inherited(admin: &Admin, mac: MacAddr) -> Result<Option<Inherited>, Problem> {
    let admin = admin.clone();
    aside(move || {
        let resolved = resolved(&admin, mac)?;
        let phone = serde_json::to_value(&resolved.phone).ok()?;
        Some(Inherited { phone, origins: resolved.origins })
    })
    .await
}

impl Inherited {
    /// The value at a dotted path counted from 0, and where it comes from.
    pub(crate) fn value(&self, path: &str) -> Option<(&Value, String)> {
        if path.is_empty() {
            return None;
        }
        let value = path.split('.').try_fold(&self.phone, |value, step| match value {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            value => value.get(step),
        })?;
        Some((value, self.origins.of(path)?.to_string()))
    }

    /// Where in the list the line of a position stands.
    pub(crate) fn line_at(&self, position: i64) -> Option<usize> {
        self.phone["lines"].as_array()?.iter().position(|line| line["position"].as_i64() == Some(position))
    }
}
