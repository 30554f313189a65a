//! A single value as people type it into YAML where we cannot know its type: raw vendor settings, table cells, model columns.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Text, a number or a switch. Kept apart so that `0` is not `"0"` to a template's `if`, yet every one of them prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Phones want 1 and 0 far more often than any word; who wants a word writes it as text.
            Scalar::Bool(on) => write!(f, "{}", u8::from(*on)),
            Scalar::Integer(number) => write!(f, "{number}"),
            Scalar::Float(number) => write!(f, "{number}"),
            Scalar::Text(text) => f.write_str(text),
        }
    }
}

impl Scalar {
    pub fn is_on(&self) -> bool {
        match self {
            Scalar::Bool(on) => *on,
            Scalar::Integer(number) => *number != 0,
            Scalar::Float(number) => *number != 0.0,
            Scalar::Text(text) => !text.is_empty(),
        }
    }
}
