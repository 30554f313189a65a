//! A function key of a phone: chosen on the picture of its keys, changed in a form under it, and written into the device's own entry.

use axum::{
    Extension, Json as Body,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use provost_fleet::Whose;
use provost_plugin::MacAddr;
use serde_json::{Map, Value as Json};

use super::{
    Refusal,
    device::{self, Asked},
    form::{Checked, Fields},
    session::Session,
};
use crate::{
    Admin,
    api::{Mac, settings},
    problem::Problem,
    serve::Door,
};

/// Which key: of the phone itself, or of an expansion module counted from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Which {
    module: usize,
    position: i64,
}

impl Which {
    fn of(fields: &Fields) -> Result<Which, Problem> {
        let number = |name: &str| fields.get(name).trim().parse::<u16>().ok();
        match (number("module"), number("key")) {
            (Some(module), Some(position)) if module <= 16 && position > 0 => {
                Ok(Which { module: module.into(), position: position.into() })
            }
            _ => Err(Problem::field("key", "it is the number of a key, counted from 1")),
        }
    }
}

pub(super) async fn save(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    let Mac(mac) = mac?;
    match written(&door.admin, mac, &fields).await {
        Ok(Which { module, position }) => {
            Ok(Redirect::to(&format!("/devices/{mac}?done=saved&module={module}&key={position}#keys")).into_response())
        }
        Err(problem) => {
            let asked = Asked::of_key(fields.get("module"), fields.get("key"));
            device::draw(&door.admin, &session, mac, &asked, Some((&problem, &fields))).await
        }
    }
}

async fn written(admin: &Admin, mac: MacAddr, fields: &Fields) -> Result<Which, Problem> {
    let which = Which::of(fields)?;
    let ([(_, tag)], Body(mut values)) = settings::settings(State(admin.clone()), Mac(mac)).await?;
    let new = match fields.get("act") {
        "inherit" => None,
        _ => {
            let text = |name: &str| fields.filled(name).map(Json::from);
            let line = fields.filled("line").map(|line| line.parse::<i64>().map_or(Json::from(line), Json::from));
            let said = [("kind", text("kind")), ("value", text("value")), ("label", text("label")), ("line", line)];
            Some(said)
        }
    };
    let first = if which.module == 0 { "keys" } else { "expansion" };
    set(&mut values, which, new);
    let patch = Map::from_iter([(first.to_owned(), values[first].clone())]);
    let of = fields.get("version");
    let of = if of.is_empty() { tag.trim_matches('"') } else { of };
    settings::amend(admin, &Whose::Device(mac), of, Json::Object(patch)).await.map_err(|mut problem| {
        // The form has the last word of the path as the name of its field.
        for wrong in &mut problem.errors {
            if let Some((_, field)) = wrong.at.rsplit_once('.') {
                wrong.at = field.to_owned();
            }
        }
        problem
    })?;
    Ok(which)
}

/// Puts a key into the device's own entry, or takes it out. The others keep the positions that they have.
fn set(values: &mut Json, which: Which, new: Option<[(&str, Option<Json>); 4]>) {
    let Json::Object(fields) = values else { return };
    if which.module > 0 {
        let modules = list(fields.entry("expansion").or_insert(Json::Null));
        // A place that nobody says anything of is skipped.
        modules.resize(modules.len().max(which.module), Json::Null);
        let module = &mut modules[which.module - 1];
        if !module.is_object() {
            *module = Json::Object(Map::new());
        }
        set(module, Which { module: 0, ..which }, new);
        if module.as_object().is_some_and(Map::is_empty) {
            *module = Json::Null;
        }
        while modules.last().is_some_and(Json::is_null) {
            modules.pop();
        }
        if modules.is_empty() {
            fields.remove("expansion");
        }
        return;
    }
    let keys = list(fields.entry("keys").or_insert(Json::Null));
    let mut at = 0;
    let positions: Vec<i64> = keys
        .iter()
        .map(|key| {
            at = key["position"].as_i64().unwrap_or(at + 1);
            at
        })
        .collect();
    let here = positions.iter().position(|position| *position == which.position);
    match (here, new) {
        (Some(index), Some(said)) => {
            if !keys[index].is_object() {
                keys[index] = Json::Object(Map::new());
            }
            if let Json::Object(key) = &mut keys[index] {
                for (name, value) in said {
                    match value {
                        Some(value) => drop(key.insert(name.to_owned(), value)),
                        None => drop(key.remove(name)),
                    }
                }
            }
        }
        (None, Some(said)) => {
            let mut key: Map<String, Json> =
                said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
            if positions.last().copied().unwrap_or_default() + 1 != which.position {
                key.insert("position".to_owned(), which.position.into());
            }
            keys.push(Json::Object(key));
        }
        (Some(index), None) => {
            keys.remove(index);
            // The one behind it was counted from it.
            if let (Some(Json::Object(next)), Some(position)) = (keys.get_mut(index), positions.get(index + 1)) {
                next.entry("position").or_insert((*position).into());
            }
        }
        (None, None) => {}
    }
    if keys.is_empty() {
        fields.remove("keys");
    }
}

fn list(value: &mut Json) -> &mut Vec<Json> {
    if !value.is_array() {
        *value = Json::Array(Vec::new());
    }
    match value {
        Json::Array(items) => items,
        _ => unreachable!("it was made a list"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_comes_changes_and_goes_and_the_others_stay_where_they_are() {
        let said = |kind: &'static str, value: &'static str| {
            Some([("kind", Some(json!(kind))), ("value", Some(json!(value))), ("label", None), ("line", None)])
        };
        let keys = |value: &Json| value["keys"].clone();
        let mut values = json!({ "keys": [{ "kind": "blf", "value": "1", "pickup": "*8" }, { "kind": "dnd" }, { "position": 5, "kind": "hold" }] });
        set(&mut values, Which { module: 0, position: 6 }, said("blf", "6"));
        set(&mut values, Which { module: 0, position: 3 }, said("blf", "3"));
        set(&mut values, Which { module: 0, position: 1 }, said("park", "7"));
        assert_eq!(
            keys(&values),
            json!([
                { "kind": "park", "value": "7", "pickup": "*8" }, { "kind": "dnd" }, { "position": 5, "kind": "hold" },
                { "kind": "blf", "value": "6" }, { "kind": "blf", "value": "3", "position": 3 },
            ])
        );
        set(&mut values, Which { module: 0, position: 1 }, None);
        assert_eq!(keys(&values)[0], json!({ "kind": "dnd", "position": 2 }));
        let mut values = json!({});
        set(&mut values, Which { module: 2, position: 1 }, said("dnd", ""));
        assert_eq!(values, json!({ "expansion": [null, { "keys": [{ "kind": "dnd", "value": "" }] }] }));
        set(&mut values, Which { module: 2, position: 1 }, None);
        assert_eq!(values, json!({}));
    }
}
