//! Takes passwords that stand in profile files out of them: into the file of secrets, with a reference where each was. Only the
//! passwords are touched, and what comes of it is read again and compared before anything is handed out.

use std::{
    collections::{BTreeMap, btree_map::Entry as Place},
    ops::Range,
    sync::Arc,
};

use provost_plugin::{MacAddr, Secret};

use crate::{
    check::vendor_id,
    document,
    extent::{self, Entry, Kind, Part, skip},
    node::{Node, Value},
    problem::Problem,
    refer::Refer,
    secrets,
    shape::{self, Shape},
};

/// What would be written.
#[derive(Debug)]
pub struct Moving {
    /// The text of each file that changes, in the order in which they were named.
    pub files: Vec<(String, String)>,
    pub secrets: String,
    pub moved: Vec<Moved>,
}

/// One password, and under which name it is kept from now on.
#[derive(Debug, PartialEq, Eq)]
pub struct Moved {
    pub file: String,
    pub line: u32,
    pub name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// A file as it is.
    #[error("{0}")]
    Unreadable(Problem),
    #[error("{file}:{line}: this password is written in a form that cannot be changed piece by piece; move it by hand")]
    Woven { file: String, line: u32 },
    #[error("{0} is written in a form that cannot be added to piece by piece; make it one name and value on a line")]
    Secrets(String),
}

/// The passwords of profile files, each a name and a text, moved into the text of the file of secrets.
pub fn moving(kept: (&str, &str), files: &[(String, String)]) -> Result<Moving, MoveError> {
    let mut names = secrets::names(kept.0, kept.1).map_err(MoveError::Unreadable)?;
    let mut added: BTreeMap<String, Option<Secret>> = BTreeMap::new();
    let mut done = Moving { files: Vec::new(), secrets: String::new(), moved: Vec::new() };
    for (file, text) in files {
        let body = text.strip_prefix('\u{feff}').unwrap_or(text);
        let node = read(file, body)?;
        let mut walk = Walk { file, text: body, found: Vec::new() };
        if let Some(part) = extent::root(body) {
            walk.value(&node, &part, 0, &shape::DOCUMENT, &mut Vec::new())?;
        }
        if walk.found.is_empty() {
            continue;
        }
        let mut out = String::with_capacity(text.len());
        out.push_str(&text[..text.len() - body.len()]);
        let mut at = 0;
        walk.found.sort_by_key(|found| found.range.start);
        for Found { range, line, value, name } in walk.found {
            let name = free(&mut names, &mut added, &name, &value);
            let woven = || MoveError::Woven { file: file.clone(), line };
            out.push_str(body.get(at..range.start).ok_or_else(woven)?);
            out.push_str(&format!("{{ secret: {name} }}"));
            at = range.end;
            done.moved.push(Moved { file: file.clone(), line, name });
        }
        out.push_str(&body[at..]);
        let first = done.moved.iter().find(|moved| moved.file == *file).map_or(0, |moved| moved.line);
        let after = read(file, out.trim_start_matches('\u{feff}'));
        if !after.is_ok_and(|after| is_same(&node, &after, &shape::DOCUMENT, &names)) {
            return Err(MoveError::Woven { file: file.clone(), line: first });
        }
        done.files.push((file.clone(), out));
    }
    let secrets = secrets::with(kept.0, kept.1, &added).map_err(MoveError::Unreadable)?;
    done.secrets = secrets.ok_or_else(|| MoveError::Secrets(kept.0.to_owned()))?;
    Ok(done)
}

/// The name under which a password is kept that a line of a device is to have.
pub fn name_of_line(line: &serde_json::Value, mac: MacAddr) -> String {
    let text = |name: &str| line.get(name).and_then(serde_json::Value::as_str);
    line_name(&text).unwrap_or_else(|| format!("{}-line", mac.bare()))
}

fn read(file: &str, text: &str) -> Result<Node, MoveError> {
    let file: Arc<str> = file.into();
    let (root, problems) = document::checked(&file, text.as_bytes(), &shape::DOCUMENT);
    match problems.into_iter().find(Problem::is_error) {
        Some(problem) => Err(MoveError::Unreadable(problem)),
        None => Ok(root.unwrap_or(Node { line: 0, column: 0, value: Value::Null })),
    }
}

/// A name that is not taken by another value.
fn free(
    names: &mut BTreeMap<String, Secret>,
    added: &mut BTreeMap<String, Option<Secret>>,
    wanted: &str,
    value: &Secret,
) -> String {
    let more = (2..).map(|number| format!("{wanted}-{number}"));
    for name in std::iter::once(wanted.to_owned()).chain(more) {
        match names.entry(name.clone()) {
            Place::Occupied(other) if other.get() == value => return name,
            Place::Occupied(_) => {}
            Place::Vacant(place) => {
                place.insert(value.clone());
                added.insert(name.clone(), Some(value.clone()));
                return name;
            }
        }
    }
    unreachable!("there are enough numbers")
}

struct Found {
    range: Range<usize>,
    line: u32,
    value: Secret,
    name: String,
}

struct Walk<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<Found>,
}

impl Walk<'_> {
    /// What was meant and what was typed, side by side. `path` is made of what people know each section by.
    fn value(
        &mut self,
        node: &Node,
        part: &Part,
        after: usize,
        shape: &Shape,
        path: &mut Vec<String>,
    ) -> Result<(), MoveError> {
        let woven = MoveError::Woven { file: self.file.to_owned(), line: node.line };
        match (&node.value, &part.kind, shape) {
            (Value::Text(text), Kind::Scalar(_), Shape::Secret { loose: false, .. }) if !text.is_empty() => {
                let range = skip(self.text, after)..part.end;
                self.found.push(Found { range, line: node.line, value: Secret::new(&**text), name: named(path) });
            }
            // Where the anchor stands it is found, or what comes of it is not what was there.
            (_, Kind::Alias, _) => {}
            (Value::Map(nodes), Kind::Map { entries, .. }, _) => {
                for (key, node) in nodes {
                    let Some(inner) = shape.field(key.as_str()) else { continue };
                    let is_it = |entry: &&Entry| is_name(&entry.name, key.as_str());
                    match entries.iter().find(is_it) {
                        Some(entry) => {
                            path.push(key.as_str().to_owned());
                            self.value(node, &entry.value, entry.after, inner, path)?;
                            path.pop();
                        }
                        // It comes in by a merge key.
                        None if document::holds_passwords(node, inner) => return Err(woven),
                        None => {}
                    }
                }
            }
            (Value::List(nodes), Kind::List { items, .. }, Shape::List { item, .. }) if nodes.len() == items.len() => {
                for (index, (node, typed)) in nodes.iter().zip(items).enumerate() {
                    let text = |name: &str| node.get(name).and_then(Node::text);
                    path.push(line_name(&text).map_or_else(|| format!("#{}", index + 1), |name| format!("={name}")));
                    self.value(node, &typed.value, typed.after, item, path)?;
                    path.pop();
                }
            }
            _ if document::holds_passwords(node, shape) => return Err(woven),
            _ => {}
        }
        Ok(())
    }
}

fn is_name(typed: &str, key: &str) -> bool {
    typed == key || vendor_id(typed) == key || typed.parse::<MacAddr>().is_ok_and(|mac| mac.to_string() == key)
}

/// What people call a line's account: `anna-101`.
fn line_name<'a>(text: &impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let number = text("number").or_else(|| text("username")).or_else(|| text("auth_username"))?;
    let person = text("display_name").or_else(|| text("label")).unwrap_or_default();
    let person = slug(person.split_whitespace().next().unwrap_or_default());
    let person = if person.is_empty() { "line".to_owned() } else { person };
    let number = slug(number);
    if number.is_empty() || number == person { Some(person) } else { Some(format!("{person}-{number}")) }
}

/// A name for a password by the way to it.
fn named(path: &[String]) -> String {
    if let Some(line) = path.iter().rev().nth(1).and_then(|step| step.strip_prefix('=')) {
        return line.to_owned();
    }
    let shown = path
        .iter()
        .filter(|step| !["devices", "profiles", "sites", "vendors", "models", "password"].contains(&&***step));
    let mac = |step: &String| step.parse::<MacAddr>().map(|mac| mac.bare()).unwrap_or_else(|_| slug(step));
    let steps: Vec<String> = shown.map(mac).filter(|step| !step.is_empty()).collect();
    let mut name = steps.join("-");
    name.truncate(60);
    if name.is_empty() { "password".to_owned() } else { name }
}

fn slug(text: &str) -> String {
    let letters =
        text.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' });
    let all: String = letters.collect();
    all.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// Whether the second says what the first says, with names for passwords.
fn is_same(before: &Node, after: &Node, shape: &Shape, names: &BTreeMap<String, Secret>) -> bool {
    match (&before.value, &after.value, shape) {
        (Value::Text(text), Value::Refer(refer), Shape::Secret { loose: false, .. }) => {
            matches!(&**refer, Refer::Secret(name) if names.get(&**name).is_some_and(|value| value.expose() == &**text))
        }
        (Value::Text(before), Value::Text(after), shape) => {
            before == after && (before.is_empty() || !matches!(shape, Shape::Secret { loose: false, .. }))
        }
        (Value::Map(before), Value::Map(after), _) => {
            before.len() == after.len()
                && before.iter().zip(after).all(|((name, before), (other, after))| {
                    name.as_str() == other.as_str()
                        && shape.field(name.as_str()).is_some_and(|shape| is_same(before, after, shape, names))
                })
        }
        (Value::List(before), Value::List(after), Shape::List { item, .. }) => {
            before.len() == after.len()
                && before.iter().zip(after).all(|(before, after)| is_same(before, after, item, names))
        }
        (Value::Null, Value::Null, _) => true,
        (Value::Switch(before), Value::Switch(after), _) => before == after,
        (Value::Integer(before), Value::Integer(after), _) => before == after,
        (Value::Number(before), Value::Number(after), _) => before.total_cmp(after).is_eq(),
        (Value::Refer(before), Value::Refer(after), _) => before == after,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(kept: &str, text: &str) -> Result<Moving, MoveError> {
        moving(("secrets.yaml", kept), &[("a.yaml".to_owned(), text.to_owned())])
    }

    #[test]
    fn passwords_move_and_everything_else_stays_to_the_byte() {
        let text = "# the branch\ndefaults:\n  access: { admin: { password: 4dm1n } } # all\n  vendor: { Acme: { raw: x } }\nprofiles:\n  office: { provisioning: { password: \"s3<&>\" } }\n\
                    enrol: { hall: { networks: [10.0.0.0/8], profile: office, accounts: [{ number: 300, password: a }] } }\n\
                    devices:\n  0004.1300.0001: # Anna's\n    lines:\n      - number: 101\n        display_name: Anna Berg\n        password: 's3: #x'   # asked for\n      - { number: 102, password: |\n          two\n          lines\n }\n";
        let text = text.replace(
            "{ number: 102, password: |\n          two\n          lines\n }",
            "{ number: 102, password: 4dm1n }",
        );
        let done = moved("# kept\nline-102: other\n", &text).unwrap();
        let names: Vec<(&str, u32)> = done.moved.iter().map(|moved| (&*moved.name, moved.line)).collect();
        assert_eq!(
            names,
            [
                ("defaults-access-admin", 3),
                ("office-provisioning", 6),
                ("line-300", 7),
                ("anna-101", 13),
                ("line-102-2", 14)
            ]
        );
        let expected = text
            .replace("admin: { password: 4dm1n }", "admin: { password: { secret: defaults-access-admin } }")
            .replace("\"s3<&>\"", "{ secret: office-provisioning }")
            .replace("300, password: a ", "300, password: { secret: line-300 } ")
            .replace("'s3: #x'", "{ secret: anna-101 }")
            .replace("102, password: 4dm1n", "102, password: { secret: line-102-2 }");
        assert_eq!(done.files, [("a.yaml".to_owned(), expected.clone())]);
        assert!(
            done.secrets.starts_with("# kept\nline-102: other\n") && done.secrets.contains("\nanna-101: \"s3: #x\"\n"),
            "{}",
            done.secrets
        );
        let again = moved(&done.secrets, &expected).unwrap();
        assert!(again.files.is_empty() && again.moved.is_empty() && again.secrets == done.secrets);
    }

    #[test]
    fn what_cannot_be_moved_is_left_as_a_whole() {
        for text in [
            "devices:\n  000413000001: &a { lines: [{ number: 1, password: x }] }\n  000413000002: { <<: *a }\n",
            "devices: { 000413000001: { lines: [{ password: &p x, number: *p }] } }\n",
        ] {
            let refused = moved("", text).map(|done| done.files).unwrap_err().to_string();
            assert!(refused.contains("move it by hand") && !refused.contains('x'), "{refused}");
        }
        assert!(moved("", "devices: { 000413000001: { lnies: [] } }\n").is_err());
        assert!(moved("a: [b]\n", "devices: {}\n").is_err());
        // To move what an anchor gives to two places would take the anchor away.
        let shared = "devices:\n  000413000001: { lines: [{ number: 1, password: &p x }] }\n  000413000002: { lines: [{ number: 2, password: *p }] }\n";
        assert!(moved("", shared).is_err());
        assert_eq!(name_of_line(&serde_json::json!({ "number": "101" }), "000413000001".parse().unwrap()), "line-101");
    }
}
