//! The file of secrets: a name and a value on each line, to which profiles refer. Reads it as profiles are read, and changes it with
//! comments kept.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use provost_plugin::Secret;
use serde_json::{Map, Value as Json};

use crate::{
    amend, document, extent,
    files::Kind,
    node::{Node, Value},
    problem::Problem,
    shape::Shape,
    spell,
};

pub(crate) const SECRETS: Kind<Names> = Kind { extensions: &[], read };

static FLAT: LazyLock<Shape> = LazyLock::new(|| Shape::Table(Box::new(Shape::Text)));

/// What a file of secrets says.
#[derive(Debug, Default)]
pub(crate) struct Names(pub(crate) BTreeMap<Box<str>, Secret>);

fn read(file: &Arc<str>, bytes: &[u8]) -> (Names, Vec<Problem>) {
    let (root, mut problems) = document::checked(file, bytes, &FLAT);
    let mut names = Names::default();
    for (key, node) in root.map(Node::into_entries).unwrap_or_default() {
        match node.value {
            Value::Text(value) if !value.is_empty() => drop(names.0.insert(key.as_str().into(), Secret::new(value))),
            _ => problems.push(Problem::error(
                file,
                node.line,
                node.column,
                format!("the secret \"{}\" has no value", key.as_str()),
            )),
        }
    }
    problems.sort();
    (names, problems)
}

/// The names in the text of a file of secrets, or the first thing that is wrong with it.
pub fn names(file: &str, text: &str) -> Result<BTreeMap<String, Secret>, Problem> {
    let (names, problems) = read(&file.into(), text.as_bytes());
    match problems.into_iter().find(Problem::is_error) {
        Some(problem) => Err(problem),
        None => Ok(names.0.into_iter().map(|(name, value)| (String::from(name), value)).collect()),
    }
}

/// Whether a name is one that stands in every place, a command line among them.
pub fn is_name(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= 64 && name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(rest)
}

/// The text with these names set (none: taken out), and everything else as it was. None where it is written in a form that cannot be
/// changed piece by piece.
pub fn with(file: &str, text: &str, changes: &BTreeMap<String, Option<Secret>>) -> Result<Option<String>, Problem> {
    let before = names(file, text)?;
    let mut wanted = before.clone();
    for (name, value) in changes {
        match value {
            Some(value) => drop(wanted.insert(name.clone(), value.clone())),
            None => drop(wanted.remove(name)),
        }
    }
    let plain = |names: &BTreeMap<String, Secret>| -> Map<String, Json> {
        names.iter().map(|(name, value)| (name.clone(), Json::from(value.expose()))).collect()
    };
    let (old, new) = (plain(&before), plain(&wanted));
    let changed = match (before.is_empty(), wanted.is_empty()) {
        _ if old == new => Some(text.to_owned()),
        // A file of comments, or none at all.
        (true, _) if text.trim_end().ends_with(['}', '~']) => None,
        (true, _) => {
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            let lines: String = new.iter().map(|(name, value)| spell::entry(name, value, 0)).collect();
            Some(format!("{text}{end}{lines}"))
        }
        _ => extent::root(text).and_then(|root| amend::rewritten(text, &root, &old, &new)),
    };
    let is_wanted = |changed: &String| names(file, changed).is_ok_and(|after| after == wanted);
    Ok(changed.filter(is_wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(text: &str, name: &str, value: Option<&str>) -> Option<String> {
        with("secrets.yaml", text, &BTreeMap::from([(name.to_owned(), value.map(Secret::new))])).unwrap()
    }

    #[test]
    fn names_come_and_go_and_comments_stay() {
        let text = "# of the branch\nanna-101: 's3<&>' # asked for by phone\n\nberta-102: 0049\n";
        assert_eq!(names("x", text).unwrap()["berta-102"].expose(), "0049");
        let added = put(text, "carl", Some("a: #b\"")).unwrap();
        assert_eq!(added, format!("{text}carl: \"a: #b\\\"\"\n"));
        assert_eq!(put(&added, "carl", None).unwrap(), text);
        assert_eq!(put(text, "anna-101", Some("new")).unwrap(), text.replace("s3<&>", "new"));
        assert_eq!(put(text, "anna-101", Some("it's")).unwrap(), text.replace("'s3<&>'", "\"it's\""));
        assert_eq!(put("", "a", Some("b")).unwrap(), "a: b\n");
        assert_eq!(put("# none yet", "a", Some("b")).unwrap(), "# none yet\na: b\n");
        assert_eq!(put("# c\na: b\n", "a", None).unwrap(), "# c\n");
        assert_eq!(put("a: b\nc: d", "c", Some("e")).unwrap(), "a: b\nc: e");
        assert_eq!(put("a: b\r\n", "c", Some("d")).unwrap(), "a: b\r\nc: d\r\n");
        assert_eq!(put("{ a: b }\n", "c", Some("d")).unwrap(), "{ a: b, c: d }\n");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_without_its_values() {
        for (text, line) in
            [("a: [hunter2]\n", 1), ("a: hunter2\na: hunter3\n", 2), ("a: hunter2\nb:\n", 2), ("- hunter2\n", 1)]
        {
            let problem = names("secrets.yaml", text).unwrap_err();
            assert!(problem.line == line && !problem.to_string().contains("hunter"), "{problem}");
        }
        assert!(is_name("anna-101") && !is_name("-x") && !is_name("a/b") && !is_name(""));
    }
}
