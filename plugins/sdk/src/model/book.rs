//! A phonebook that no vendor owns: what a list under `phonebooks/` says, and what the template of a directory file prints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In a template this is `book`: `book.title`, `book.entries`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Book {
    /// The list's name: that of its file, and what profiles call it.
    #[schemars(skip)]
    pub name: String,
    /// What the phone shows above it. Left out, it is the list's name.
    pub title: String,
    pub entries: Vec<Entry>,
}

/// Somebody who can be called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Entry {
    /// As it is shown. Left out, it is `first` and `last`.
    pub name: String,
    pub first: Option<String>,
    pub last: Option<String>,
    /// The one to dial first stands first. An entry without any is left out.
    pub numbers: Vec<Number>,
    /// Department, team, or whatever the phones can sort by.
    pub group: Option<String>,
    pub email: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Number {
    /// Left out, it is `work`.
    #[serde(default)]
    pub kind: NumberKind,
    /// As it is dialled. Blanks and the other signs that part a number for the eye are taken out.
    pub number: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NumberKind {
    #[default]
    Work,
    Mobile,
    Home,
}

impl NumberKind {
    pub fn as_str(self) -> &'static str {
        match self {
            NumberKind::Work => "work",
            NumberKind::Mobile => "mobile",
            NumberKind::Home => "home",
        }
    }
}
