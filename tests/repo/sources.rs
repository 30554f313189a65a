//! What may stand in source files, and where.

use std::fmt::Write;

use provost_tests::{repository, specs};
use regex::Regex;

use crate::{files, read};

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| panic!("{error}"))
}

/// Rust files with their text.
fn rust(is_wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let rust = files().into_iter().filter(|path| path.ends_with(".rs") && is_wanted(path));
    rust.map(|path| (path.clone(), read(&path))).collect()
}

/// Every line that fits, as `path:line: text`.
fn lines<'a>(texts: impl IntoIterator<Item = &'a (String, String)>, pattern: &Regex) -> String {
    let mut found = String::new();
    for (path, text) in texts {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| pattern.is_match(line)) {
            writeln!(found, "{path}:{}: {}", number + 1, line.trim()).expect("text");
        }
    }
    found
}

#[test]
fn the_core_names_no_vendor() {
    let mut names: Vec<String> =
        specs().into_iter().flat_map(|(_, spec)| [vec![spec.vendor], spec.announces].concat()).collect();
    names.sort_by_key(|name| name.to_lowercase());
    names.dedup_by_key(|name| name.to_lowercase());
    let pattern =
        regex(&format!(r"(?i)\b({})", names.iter().map(|name| regex::escape(name)).collect::<Vec<_>>().join("|")));
    assert!(pattern.is_match("snomD785"), "a name is a name in whatever it begins");
    // Tests of the core read captures, and captures are phones of vendors.
    let core = rust(|path| path.starts_with("core/") && !path.contains("/tests/"));
    assert!(core.len() > 60, "only {} files", core.len());
    let named = lines(&core, &pattern);
    assert!(named.is_empty(), "what is about one vendor belongs into its plugin:\n{named}");
}

/// Where unsafe code may be, with the reason.
const UNSAFE: &[(&str, &str)] = &[
    ("plugins/sdk/src/abi.rs", "the table that a library exports"),
    ("plugins/sdk/src/export.rs", "the attribute on the one exported function"),
    ("core/host/src/library.rs", "calls into a library"),
    ("core/server/src/socket.rs", "socket options that no crate offers"),
];

#[test]
fn unsafe_code_is_at_home_and_says_why_it_is_sound() {
    let code = regex(r"\bunsafe\s*(\{|\(|fn\b|impl\b|extern\b|trait\b)");
    let all = rust(|_| true);
    let elsewhere = lines(all.iter().filter(|(path, _)| UNSAFE.iter().all(|(home, _)| home != path)), &code);
    assert!(elsewhere.is_empty(), "unsafe code away from home:\n{elsewhere}");
    let block = regex(r"\bunsafe\s*(\{|impl\b)");
    for (home, why) in UNSAFE {
        let text = read(home);
        let lines: Vec<&str> = text.lines().collect();
        assert!(code.is_match(&text), "{home} ({why}) needs no unsafe code any more: take it off the list");
        for (number, _) in lines.iter().enumerate().filter(|(_, line)| block.is_match(line)) {
            let before = &lines[number.saturating_sub(6)..number];
            assert!(
                before.iter().any(|line| line.contains("// SAFETY: ")),
                "{home}:{} does not say why it is sound",
                number + 1
            );
        }
    }
}

#[test]
fn no_test_is_ignored_without_a_reason() {
    let ignored = lines(&rust(|_| true), &regex(r"^\s*#\[ignore\]"));
    assert!(ignored.is_empty(), "say why: #[ignore = \"…\"]\n{ignored}");
}

#[test]
fn no_file_holds_a_path_of_the_machine_that_it_was_written_on() {
    // Put together here, or this file would hold them.
    let paths = [["/wo", "rk/"], ["/tmp/", "t-"], ["/ro", "ot/"], ["/ho", "me/"]].map(|parts| parts.concat());
    let pattern = regex(&paths.map(|path| regex::escape(&path)).join("|"));
    let texts: Vec<(String, String)> = files()
        .into_iter()
        .filter_map(|path| {
            let text = std::fs::read(repository().join(&path)).ok()?;
            Some((path, String::from_utf8_lossy(&text).into_owned()))
        })
        .collect();
    let found = lines(&texts, &pattern);
    assert!(found.is_empty(), "paths of somebody's machine:\n{found}");
}
