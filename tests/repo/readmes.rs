//! What stands in READMEs is so.

use std::{collections::BTreeSet, fs};

use provost_fleet::Fleet;
use provost_tests::{repository, specs};
use regex::Regex;
use serde_json::Value;

use crate::{files, provost, read};

/// Sections of a plugin's README, so that people find the same thing in the same place.
const SECTIONS: [&str; 7] = ["Phones", "Identification", "Files", "Settings", "Resync", "Sources", "Limitations"];

#[test]
fn every_plugins_readme_has_the_same_sections_in_the_same_order() {
    for (folder, spec) in specs() {
        let readme = read(format!("plugins/{folder}/README.md"));
        let sections: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(sections, SECTIONS, "plugins/{folder}/README.md");
        assert!(
            readme.starts_with(&format!("# {}\n", spec.vendor)),
            "plugins/{folder}/README.md begins with another name"
        );
    }
}

/// The table of vendors in README.md, from their data.
fn vendors() -> String {
    let mut rows: Vec<_> = specs()
        .into_iter()
        .map(|(folder, spec)| {
            let announces = spec.simulate.iter().any(|kind| !kind.subscribe.is_empty());
            let plugin = match (&spec.library, &spec.like) {
                (Some(_), _) => "library".to_owned(),
                (None, Some(like)) => format!("data, like {like}"),
                (None, None) => "data".to_owned(),
            };
            let row = format!(
                "| [{}](plugins/{folder}/README.md) | {} | {} | {} | {} | {plugin} |\n",
                spec.vendor,
                spec.models.len(),
                spec.files.len(),
                if announces { "yes" } else { "DHCP" },
                spec.evidence_level.as_str(),
            );
            (spec.vendor.to_lowercase(), row)
        })
        .collect();
    rows.sort();
    let rows: String = rows.into_iter().map(|(_, row)| row).collect();
    format!("| vendor | models | files | multicast | evidence | plugin |\n|---|--:|--:|---|---|---|\n{rows}")
}

#[test]
fn the_readme_has_the_table_of_vendors_as_it_is() {
    let readme = read("README.md");
    let (begin, end) = ("<!-- vendors: from plugins/*/vendor.yaml, by tests/repo -->\n", "<!-- /vendors -->");
    let (before, rest) = readme.split_once(begin).expect("README.md has the mark where the table begins");
    let (shown, after) = rest.split_once(end).expect("README.md has the mark where the table ends");
    let table = vendors();
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|word| word != "0") {
        let text = format!("{before}{begin}{table}{end}{after}");
        fs::write(repository().join("README.md"), text).expect("the repository can be written to");
        return;
    }
    assert_eq!(shown, table, "left: README.md, right: what the plugins say; UPDATE_GOLDEN=1 writes it anew");
}

/// What stands in backquotes.
fn code(text: &str) -> Vec<String> {
    let quoted = Regex::new("`([^`]+)`").expect("a pattern");
    quoted.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// The first cells of the tables below a header with this first cell.
fn first_cells<'a>(text: &'a str, header: &str) -> Vec<&'a str> {
    let header = format!("| {header} |");
    let tables = text.split(&header).skip(1);
    tables
        .flat_map(|table| table.lines().skip(2).take_while(|line| line.starts_with('|')))
        .filter_map(|row| row.trim_start_matches('|').split('|').next())
        .collect()
}

/// Dotted paths of everything that a schema lets one set; what is a list is one setting.
fn settings(schema: &Value, at: &Value, prefix: &str) -> BTreeSet<String> {
    let definition = |schema: &'_ Value, at: &Value| -> Value {
        match at["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
            Some(pointer) => schema.pointer(pointer).cloned().unwrap_or_default(),
            None => at.clone(),
        }
    };
    let mut names = BTreeSet::new();
    for (name, below) in definition(schema, at)["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let deeper = settings(schema, below, &format!("{path}."));
        if deeper.is_empty() {
            names.insert(path);
        }
        names.extend(deeper);
    }
    names
}

#[test]
fn the_readme_lists_every_setting_and_none_that_is_not_accepted() {
    let readme = read("README.md");
    let listed: BTreeSet<String> = first_cells(&readme, "setting").into_iter().flat_map(code).collect();
    let schema = provost_server::settings::schema();
    let accepted = settings(&schema, &schema, "");
    assert!(accepted.len() > 15 && accepted.contains("pnp.enabled"), "{accepted:?}");
    assert_eq!(listed, accepted, "left: README.md, right: what provost.yaml accepts");
}

#[test]
fn the_readme_names_every_command_that_people_type() {
    let readme = read("README.md");
    let (_, help) = provost(&["--help"]);
    let commands =
        help.split("Commands:").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("help lists commands");
    let commands: Vec<&str> = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(commands.len() > 5, "{help}");
    for command in commands.iter().filter(|command| !matches!(**command, "" | "help")) {
        assert!(readme.contains(&format!("`provost {command}")), "README.md does not name `provost {command}`");
    }
}

/// The blocks of a README that are marked as this language.
fn blocks<'a>(readme: &'a str, language: &str) -> Vec<&'a str> {
    readme.split(&format!("```{language}\n")).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn every_profile_in_a_readme_loads() {
    for readme in ["README.md", "profiles/README.md"] {
        let text = read(readme);
        let blocks = blocks(&text, "yaml");
        assert!(!blocks.is_empty(), "{readme} shows no profile");
        for block in blocks {
            let directory = tempfile::tempdir().expect("a temporary directory");
            fs::write(directory.path().join("shown.yaml"), block).expect("a temporary directory");
            let (fleet, problems) = Fleet::read(directory.path(), None);
            let says_something = !fleet.is_empty() || fleet.profiles().next().is_some();
            assert!(problems.is_empty() && says_something, "in {readme}: {problems:?}\n{block}");
            let (ok, said) = provost(&["check", "--profiles", &directory.path().display().to_string()]);
            assert!(ok, "in {readme}: {said}\n{block}");
        }
    }
}

#[test]
fn the_shipped_profiles_are_all_in_service() {
    // Warnings there may be: the samples are phones of many vendors, and what one cannot do is told.
    let (ok, said) = provost(&["check", "--profiles", "profiles"]);
    assert!(ok && said.contains(" 0 errors, "), "{said}");
}

#[test]
fn the_list_of_captures_has_every_capture_and_no_other() {
    let readme = read("tests/captures/README.md");
    let listed: BTreeSet<String> = first_cells(&readme, "file").into_iter().flat_map(code).collect();
    let peculiar: BTreeSet<String> = code(&readme).into_iter().collect();
    let mut stems = BTreeSet::new();
    for path in files().iter().filter_map(|path| path.strip_prefix("tests/captures/")) {
        let name = path.rsplit('/').next().unwrap_or(path);
        if !matches!(name, "README.md" | ".gitattributes") {
            stems.insert(name.trim_end_matches(".sip").to_owned());
        }
    }
    assert!(stems.len() > 15, "{stems:?}");
    let missing: Vec<_> = stems.difference(&peculiar).collect();
    assert!(missing.is_empty(), "tests/captures/README.md does not list {missing:?}");
    let gone: Vec<_> = listed.difference(&stems).collect();
    assert!(gone.is_empty(), "tests/captures/README.md lists {gone:?}, which are not there");
    assert!(repository().join("tests/captures/README.md").is_file());
}
