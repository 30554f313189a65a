//! The profiles: which stands on which, who uses each, and the file that each is written in.

use std::collections::BTreeMap;

use axum::{Extension, extract::State, response::Response};
use minijinja::{Value, context};
use serde::Deserialize;
use serde_json::Value as Json;

use super::{Refusal, session::Session, show, templates::in_path, words::data};
use crate::{
    api::{Query, files::Name, profiles, settings::unknown_profile},
    problem::Problem,
    serve::Door,
};

pub(super) async fn page(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
) -> Result<Response, Refusal> {
    let all = profiles::list(State(door.admin)).await?;
    let all = serde_json::to_value(all.0).map_err(|error| Problem::internal(error.to_string()))?;
    let tree = tree(&all["items"]);
    let files = all["items"].as_array().into_iter().flatten().filter_map(|one| one["file"].as_str());
    let files: BTreeMap<&str, String> = files.map(|file| (file, in_path(file))).collect();
    Ok(show(
        "profiles.html",
        context! {
            csrf => session.csrf.as_str(), here => "profiles", tree, sites => data(&all["sites"]), files => data(files),
        },
    ))
}

/// The profiles, each below the one that it stands on, with how deep that is.
fn tree(items: &Json) -> Vec<Value> {
    let mut below: BTreeMap<Option<&str>, Vec<&Json>> = BTreeMap::new();
    for item in items.as_array().into_iter().flatten() {
        below.entry(item["extends"].as_str()).or_default().push(item);
    }
    let mut tree = Vec::new();
    let mut waiting: Vec<(usize, &Json)> =
        below.remove(&None).into_iter().flatten().rev().map(|item| (0, item)).collect();
    // Circles are refused when profiles are read; here each is taken out when it is reached, so that there could be none anyway.
    while let Some((deep, item)) = waiting.pop() {
        tree.push(context! { deep, profile => data(item) });
        let next = below.remove(&item["name"].as_str()).into_iter().flatten().rev();
        waiting.extend(next.map(|item| (deep + 1, item)));
    }
    tree
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    /// What was just done.
    done: String,
}

/// One profile.
pub(super) async fn one(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    name: Result<Name, Problem>,
    Query(Asked { done }): Query<Asked>,
) -> Result<Response, Refusal> {
    let Name(name) = name?;
    let all = profiles::list(State(door.admin)).await?.0;
    let found = all.items.iter().find(|profile| profile.name == name);
    let found = found.ok_or_else(unknown_profile)?;
    let under = all.items.iter().filter(|other| other.extends.as_deref() == Some(&name));
    let under: Vec<&str> = under.map(|other| other.name.as_str()).collect();
    // The base first.
    let mut chain = vec![found];
    while let Some(base) = chain[0].extends.as_deref()
        && let Some(base) = all.items.iter().find(|profile| profile.name == base)
        && chain.len() <= all.items.len()
    {
        chain.insert(0, base);
    }
    Ok(show(
        "profile.html",
        context! {
            csrf => session.csrf.as_str(), here => "profiles", profile => data(found), under => data(under),
            chain => data(&chain), done, path => found.file.as_deref().map(in_path),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_stand_below_those_that_they_stand_on() {
        let items = serde_json::json!([
            { "name": "a", "extends": "office" },
            { "name": "desk", "extends": "a" },
            { "name": "lobby", "extends": null },
            { "name": "office", "extends": null },
            { "name": "z", "extends": "office" },
        ]);
        let shown: Vec<String> = tree(&items)
            .iter()
            .map(|one| {
                let name = one.get_attr("profile").unwrap().get_attr("name").unwrap();
                format!("{} {name}", one.get_attr("deep").unwrap())
            })
            .collect();
        assert_eq!(shown, ["0 lobby", "0 office", "1 a", "2 desk", "1 z"]);
    }
}
