//! No template and no family of models without a golden.

use std::collections::{BTreeMap, BTreeSet};

use provost_plugin::Spec;
use provost_tests::specs;
use regex::Regex;
use serde_json::Value;

use crate::{files, read};

/// A vendor's golden cases: the model that each states, and the files that came out.
fn cases(vendor: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let mut cases: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let under = format!("tests/golden/{vendor}/");
    for path in files() {
        let Some((case, file)) = path.strip_prefix(&under).and_then(|path| path.split_once('/')) else { continue };
        let entry = cases.entry(case.to_owned()).or_default();
        match file.strip_prefix("expected/") {
            Some(name) => entry.1.push(name.replace("%2F", "/")),
            None if file != "profiles.yaml" => {}
            None => {
                let profiles: Value =
                    serde_yaml::from_str(&read(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
                let device =
                    profiles["devices"].as_object().and_then(|devices| devices.values().next()).expect("a device");
                entry.0 = device["identity"]["model"].as_str().unwrap_or_default().to_owned();
            }
        }
    }
    cases.retain(|_, (_, files)| !files.iter().any(|file| file == "error"));
    cases
}

/// Templates by name, relative to where the vendor's begin.
fn templates(vendor: &str) -> BTreeMap<String, String> {
    let roots = [format!("templates/{vendor}/"), format!("plugins/{vendor}/templates/")];
    let name = |path: &String| roots.iter().find_map(|root| path.strip_prefix(root.as_str())).map(str::to_owned);
    files()
        .into_iter()
        .filter(|path| path.ends_with(".j2"))
        .filter_map(|path| Some((name(&path)?, read(&path))))
        .collect()
}

/// What the goldens of this vendor were rendered from, and what that includes.
fn rendered(
    spec: &Spec,
    cases: &BTreeMap<String, (String, Vec<String>)>,
    templates: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let names = cases.values().flat_map(|(_, files)| files);
    let mut waiting: Vec<String> =
        names.flat_map(|name| spec.find(name)).filter_map(|(file, _)| file.template.clone()).collect();
    let refers = Regex::new(r#"\{%-?\s*(?:include|extends|import|from)\s+"([^"]+)""#).expect("a pattern");
    let mut rendered = BTreeSet::new();
    while let Some(template) = waiting.pop() {
        // What it has not itself is the vendor's that it is like.
        let Some(text) = templates.get(&template) else {
            assert!(spec.like.is_some(), "there is no template {template} of {}", spec.vendor);
            continue;
        };
        if rendered.insert(template) {
            waiting.extend(refers.captures_iter(text).map(|found| found[1].to_owned()));
        }
    }
    rendered
}

#[test]
fn every_template_stands_behind_a_golden() {
    for (vendor, spec) in specs() {
        let templates = templates(&vendor);
        assert!(!templates.is_empty() || spec.like.is_some(), "{vendor} has no templates");
        let rendered = rendered(&spec, &cases(&vendor), &templates);
        // What a template of another vendor's includes cannot be seen from here.
        let never: Vec<&String> =
            templates.keys().filter(|template| spec.like.is_none() && !rendered.contains(*template)).collect();
        assert!(never.is_empty(), "no golden of {vendor} is rendered from {never:?}");
    }
}

#[test]
fn every_family_of_models_has_a_golden() {
    for (vendor, spec) in specs() {
        let family = |model: &str| spec.model(model).and_then(|(_, row)| row.family.clone());
        let tried: BTreeSet<Option<String>> = cases(&vendor).values().map(|(model, _)| family(model)).collect();
        let all: BTreeSet<Option<String>> = spec.models.values().map(|model| model.family.clone()).collect();
        let never: Vec<_> = all.difference(&tried).collect();
        assert!(never.is_empty(), "no golden of {vendor} is of the family {never:?}");
    }
}

#[test]
fn every_file_that_a_vendor_declares_is_in_a_golden() {
    for (vendor, spec) in specs() {
        let cases = cases(&vendor);
        let written: Vec<&String> = cases.values().flat_map(|(_, files)| files).collect();
        for file in &spec.files {
            let is_there = written.iter().any(|name| file.name.capture(name, &spec.models).is_some());
            assert!(is_there, "no golden of {vendor} has a file \"{}\"", file.name);
        }
    }
}
