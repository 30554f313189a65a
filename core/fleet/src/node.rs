//! A checked value that knows its line. Kept small: an inventory of a hundred thousand phones is some millions of these.

use std::{fmt, sync::Arc};

use crate::refer::Refer;

/// One value of a file that passed its check.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) value: Value,
}

#[derive(Clone)]
pub(crate) enum Value {
    /// Written out as nothing: takes away what a weaker layer said.
    Null,
    Switch(bool),
    Integer(i64),
    Number(f64),
    Text(Box<str>),
    /// A password that is kept elsewhere.
    Refer(Arc<Refer>),
    Map(Box<[(Key, Node)]>),
    List(Box<[Node]>),
}

/// A key of the model costs no memory of its own; one that people chose does.
#[derive(Clone)]
pub(crate) enum Key {
    Known(&'static str),
    Chosen(Box<str>),
}

impl Key {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Key::Known(name) => name,
            Key::Chosen(name) => name,
        }
    }
}

// The text of a node may be a password, so only its form is shown.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match &self.value {
            Value::Null => "nothing",
            Value::Map(_) => "map",
            Value::List(_) => "list",
            _ => "scalar",
        };
        write!(f, "{form} at {}:{}", self.line, self.column)
    }
}

impl Node {
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.entries().iter().find(|(key, _)| key.as_str() == name).map(|(_, node)| node)
    }

    pub(crate) fn entries(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn into_entries(self) -> Vec<(Key, Node)> {
        match self.value {
            Value::Map(entries) => entries.into_vec(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn integer(&self) -> Option<i64> {
        match self.value {
            Value::Integer(number) => Some(number),
            _ => None,
        }
    }
}

/// The position of each entry of a list that has positions: its own, or one past the entry before it.
pub(crate) fn positions(items: &[Node]) -> impl Iterator<Item = (i64, &Node)> {
    items.iter().scan(0, |before, item| {
        *before = item.get("position").and_then(Node::integer).unwrap_or(*before + 1);
        Some((*before, item))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_node_is_small() {
        assert!(size_of::<super::Node>() <= 32, "{}", size_of::<super::Node>());
    }
}
