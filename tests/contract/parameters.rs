//! Every parameter that a template writes has a source: nobody's guess goes out to a phone.
//!
//! `plugins/<vendor>/parameters.csv` lists them, `parameter,source`. In a parameter `#` stands for a run of digits, and the source is a word
//! or two by which the README's Sources section names it. After a question mark stands what the author cited and nobody has looked up
//! again; the README says so under Limitations. `UPDATE_GOLDEN=1` adds what is missing, without a source.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
};

use provost_host::everything;
use provost_tests::{repository, specs};

use crate::{bench, readers::Shape};

/// `account.1.label` and `account.2.label` are one parameter; a parameter that is a number is itself.
fn general(name: &str) -> String {
    let numbered = name.strip_prefix('P').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    if numbered {
        return name.to_owned();
    }
    let mut text = String::new();
    for character in name.chars() {
        match character {
            '0'..='9' if text.ends_with('#') => {}
            '0'..='9' => text.push('#'),
            other => text.push(other),
        }
    }
    text
}

/// What the last step of a path through an XML file is called; elsewhere a name is a name.
fn last(shape: Shape, name: &str) -> &str {
    if shape != Shape::Xml {
        return name;
    }
    match name.rsplit_once('@') {
        // Whatever tells an element from others is part of its name; the attributes beside it are the format's.
        Some((element, attribute)) if element.contains('[') && attribute == "value" => element,
        Some((_, attribute)) => attribute,
        None => name,
    }
    .rsplit('/')
    .next()
    .unwrap_or(name)
}

fn written() -> BTreeMap<String, BTreeSet<String>> {
    bench::shelf()
        .plugins()
        .map(|plugin| {
            let files = everything(plugin).unwrap_or_else(|error| panic!("{}: {error}", plugin.id));
            let names = files.iter().flat_map(|body| {
                let shape = Shape::of(body);
                let settings = shape.read(body).unwrap_or_else(|error| panic!("{}: {error}", plugin.id));
                settings.into_iter().map(|(name, _)| general(last(shape, &name))).collect::<Vec<_>>()
            });
            (plugin.id.clone(), names.collect())
        })
        .collect()
}

#[test]
fn every_parameter_that_is_written_has_a_source() {
    let update = env::var_os("UPDATE_GOLDEN").is_some_and(|word| word != "0");
    let written = written();
    let mut wrong = Vec::new();
    for (vendor, _) in specs() {
        let folder = repository().join("plugins").join(&vendor);
        let file = folder.join("parameters.csv");
        let readme = fs::read_to_string(folder.join("README.md")).unwrap_or_default();
        let sources =
            readme.split("\n## Sources\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
        let limitations = readme.split("\n## Limitations\n").nth(1).unwrap_or_default();
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut listed: BTreeMap<String, String> = text
            .lines()
            .skip(1)
            .filter_map(|line| line.rsplit_once(','))
            .map(|(parameter, source)| (parameter.to_owned(), source.to_owned()))
            .collect();
        if update && folder.is_dir() {
            listed.retain(|parameter, _| written[&vendor].contains(parameter));
            for parameter in &written[&vendor] {
                listed.entry(parameter.clone()).or_default();
            }
            let rows: String = listed.iter().map(|(parameter, source)| format!("{parameter},{source}\n")).collect();
            fs::write(&file, format!("parameter,source\n{rows}")).expect("the repository can be written to");
        }
        for parameter in &written[&vendor] {
            match listed.get(parameter).map(|source| source.trim()) {
                None => wrong.push(format!("{vendor}: {parameter} is not listed")),
                Some("") => wrong.push(format!("{vendor}: {parameter} has no source")),
                Some(source) if source.starts_with('?') && limitations.contains("parameters.csv") => {}
                Some(source) if !sources.contains(source) => {
                    wrong.push(format!("{vendor}: {parameter} is from \"{source}\", which its README does not name"));
                }
                Some(_) => {}
            }
        }
        for parameter in listed.keys().filter(|parameter| !written[&vendor].contains(*parameter)) {
            wrong.push(format!("{vendor}: {parameter} is listed, and no file has it"));
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}
