//! Lays settings over settings, weakest first, and hands over one tree with the origin of every value. Knows what
//! [`shape`](crate::shape) says about lists, and nothing of phones.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value as Json};

use crate::{
    node::{Node, Value, positions},
    origin::{At, Below, Branch},
    refer::Refer,
    shape::{Join, Shape},
};

/// Settings of several layers as one.
#[derive(Clone)]
pub(crate) struct Merged<'a> {
    at: At,
    content: Content<'a>,
}

#[derive(Clone)]
enum Content<'a> {
    Leaf(&'a Value),
    Map(BTreeMap<&'a str, Merged<'a>>),
    List(Vec<Merged<'a>>),
    /// Entries by position, counted from 1.
    Placed {
        numbered: bool,
        entries: BTreeMap<i64, Merged<'a>>,
    },
}

impl<'a> Merged<'a> {
    pub(crate) fn new() -> Merged<'a> {
        Merged { at: At::default(), content: Content::Map(BTreeMap::new()) }
    }

    /// Lays `node` over what is there. `layer` is its number among the origins.
    pub(crate) fn lay(&mut self, node: &'a Node, shape: &'static Shape, layer: u16) {
        if says_nothing(node, shape) {
            return;
        }
        self.at = At { layer, line: node.line, column: node.column };
        match (&mut self.content, &node.value, shape) {
            (Content::Map(fields), Value::Map(entries), _) => {
                for (key, node) in entries {
                    let Some(inner) = shape.field(key.as_str()) else { continue };
                    match fields.get_mut(key.as_str()) {
                        Some(field) => field.lay(node, inner, layer),
                        None if says_nothing(node, inner) => {}
                        None => drop(fields.insert(key.as_str(), fresh(node, inner, layer))),
                    }
                }
            }
            (Content::Placed { entries, .. }, Value::List(items), Shape::List { item, join }) => {
                for (position, node) in positions(items) {
                    if says_nothing(node, item) {
                        continue;
                    }
                    match entries.get_mut(&position) {
                        Some(entry) if *join != Join::PerPosition => entry.lay(node, item, layer),
                        _ => drop(entries.insert(position, fresh(node, item, layer))),
                    }
                }
            }
            (_, Value::List(_), Shape::List { .. }) => *self = fresh(node, shape, layer),
            (content, value, _) => *content = Content::Leaf(value),
        }
    }

    /// Puts the `sip` section under each line's own SIP fields.
    pub(crate) fn share_sip(&mut self) {
        let Content::Map(fields) = &mut self.content else { return };
        let Some(Merged { content: Content::Map(sip), .. }) = fields.get("sip").cloned() else { return };
        let Some(Merged { content: Content::Placed { entries, .. }, .. }) = fields.get_mut("lines") else { return };
        for line in entries.values_mut() {
            let Content::Map(line) = &mut line.content else { continue };
            for (name, value) in &sip {
                line.entry(name).or_insert_with(|| value.clone());
            }
        }
    }

    /// Leaves out what a file that many phones share must not hold.
    pub(crate) fn leave_out(&mut self, names: &[&str]) {
        if let Content::Map(fields) = &mut self.content {
            fields.retain(|name, _| !names.contains(name));
        }
    }

    /// The values, and the same tree of origins. `read` gives what a reference at a path comes to.
    pub(crate) fn finish(self, read: &mut impl FnMut(&Refer, &Path) -> Json) -> (Json, Branch) {
        self.finish_at(&Path::Root, read)
    }

    fn finish_at(self, path: &Path, read: &mut impl FnMut(&Refer, &Path) -> Json) -> (Json, Branch) {
        let at = self.at;
        match self.content {
            Content::Leaf(Value::Refer(refer)) => {
                (read(refer, path), Branch { at, below: Below::Refers(refer.clone()) })
            }
            Content::Leaf(value) => (leaf(value), Branch { at, below: Below::Nothing }),
            Content::Map(fields) => {
                let mut values = Map::new();
                let mut branches = BTreeMap::new();
                for (name, field) in fields {
                    if matches!(field.content, Content::Leaf(Value::Null)) {
                        continue;
                    }
                    let (value, branch) = field.finish_at(&Path::Step(path, &name), read);
                    values.insert(name.to_owned(), value);
                    branches.insert(name.into(), branch);
                }
                (Json::Object(values), Branch { at, below: Below::Map(branches) })
            }
            Content::List(items) => {
                let items = items.into_iter().enumerate();
                let (values, branches) =
                    items.map(|(index, item)| item.finish_at(&Path::Step(path, &index), read)).unzip();
                (Json::Array(values), Branch { at, below: Below::List(branches) })
            }
            Content::Placed { numbered, entries } => {
                let (mut values, mut branches) = (Vec::new(), Vec::new());
                for (position, entry) in entries {
                    // Where the place in the list is the position, one that nobody filled is still there.
                    while !numbered && (values.len() as i64) < position - 1 {
                        values.push(Json::Object(Map::new()));
                        branches.push(Branch { at, below: Below::Nothing });
                    }
                    let (mut value, branch) = entry.finish_at(&Path::Step(path, &position), read);
                    if let (true, Json::Object(fields)) = (numbered, &mut value) {
                        fields.insert("position".into(), position.into());
                    }
                    values.push(value);
                    branches.push(branch);
                }
                (Json::Array(values), Branch { at, below: Below::List(branches) })
            }
        }
    }
}

/// The way to a value, for the few that ask.
pub(crate) enum Path<'p> {
    Root,
    Step(&'p Path<'p>, &'p dyn fmt::Display),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Step(Path::Root, step) => write!(f, "{step}"),
            Path::Step(above, step) => write!(f, "{above}.{step}"),
        }
    }
}

fn says_nothing(node: &Node, shape: &Shape) -> bool {
    matches!(node.value, Value::Null) && !shape.can_be_cleared()
}

fn fresh<'a>(node: &'a Node, shape: &'static Shape, layer: u16) -> Merged<'a> {
    let content = match (&node.value, shape) {
        (Value::Map(_), _) => Content::Map(BTreeMap::new()),
        (Value::List(items), Shape::List { join: Join::Replace, item }) => {
            let at = At { layer, line: node.line, column: node.column };
            let items =
                items.iter().filter(|node| !matches!(node.value, Value::Null)).map(|node| fresh(node, item, layer));
            return Merged { at, content: Content::List(items.collect()) };
        }
        (Value::List(_), Shape::List { join, .. }) => {
            Content::Placed { numbered: *join != (Join::Deepen { numbered: false }), entries: BTreeMap::new() }
        }
        (value, _) => Content::Leaf(value),
    };
    let mut merged = Merged { at: At::default(), content };
    merged.lay(node, shape, layer);
    merged
}

fn leaf(value: &Value) -> Json {
    match value {
        Value::Switch(on) => Json::Bool(*on),
        Value::Integer(number) => Json::from(*number),
        Value::Number(number) => Json::from(*number),
        Value::Text(text) => Json::String(text.to_string()),
        Value::Null | Value::Refer(_) | Value::Map(_) | Value::List(_) => Json::Null,
    }
}

/// The single values that two layers both set, as dotted path and place in the first: what one of them says is lost.
pub(crate) fn overlaps<'a>(
    first: &'a Node,
    second: &'a Node,
    shape: &'static Shape,
) -> Vec<(String, &'a Node, &'a Node)> {
    fn walk<'a>(
        first: &'a Node,
        second: &'a Node,
        shape: &'static Shape,
        path: String,
        found: &mut Vec<(String, &'a Node, &'a Node)>,
    ) {
        if says_nothing(first, shape) || says_nothing(second, shape) {
            return;
        }
        match (&first.value, &second.value) {
            (Value::Map(_), Value::Map(entries)) => {
                for (key, second) in entries {
                    let name = key.as_str();
                    if let (Some(first), Some(inner)) = (first.get(name), shape.field(name)) {
                        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                        walk(first, second, inner, path, found);
                    }
                }
            }
            _ => found.push((path, first, second)),
        }
    }
    let mut found = Vec::new();
    walk(first, second, shape, String::new(), &mut found);
    found
}
