//! A password that is kept elsewhere, as a profile refers to it. Knows how that is written, and nothing of what it stands for.

use std::fmt;

use serde_json::{Value as Json, json};

use crate::problem::hint;

/// What stands in the place of a password.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refer {
    /// `{ secret: NAME }`: a name in the file of secrets.
    Secret(Box<str>),
    /// `{ env: NAME }`: a variable of the environment.
    Env(Box<str>),
    /// `{ credential: NAME }`: what systemd hands to the service under that name.
    Credential(Box<str>),
    /// `{ age: TEXT }`: encrypted, in the format of the age tool.
    Age(Box<str>),
    /// `{ generate: 16 }`: made for each phone, of so many characters.
    Generate(u8),
}

const KINDS: [&str; 4] = ["secret", "env", "credential", "age"];
const GENERATE: &str = "generate";

/// Characters of a password that is made: enough against guessing, few enough for every phone.
pub(crate) const LENGTHS: std::ops::RangeInclusive<u8> = 8..=32;

/// Of one encrypted password; the text of the longest that a phone takes has some hundreds.
const LONGEST: usize = 16 << 10;

impl Refer {
    /// As written: one of the keys, and what stands behind it. `name` is whose value it is, `generated` whether it may be one that is made.
    pub(crate) fn read(name: &str, kind: &str, text: &str, generated: bool) -> Result<Refer, String> {
        let known = KINDS.into_iter().chain(generated.then_some(GENERATE));
        if kind == GENERATE && !generated {
            return Err(format!(
                "\"{name}\" cannot be generated: that is for the passwords of \"access\"; any other somebody else must know too"
            ));
        }
        if !known.clone().any(|known| known == kind) {
            return Err(format!("\"{name}\" does not know \"{kind}\"{}", hint(kind, known)));
        }
        if text.trim().is_empty() {
            return Err(format!("\"{kind}\" takes {}", if kind == "age" { "an encrypted text" } else { "a name" }));
        }
        let is_name = |what: &str| match text.len() <= 255 && !text.contains(['/', '\0', '=']) && !text.starts_with('.')
        {
            true => Ok(text.into()),
            false => Err(format!("\"{kind}\" takes the name of {what}")),
        };
        match kind {
            "secret" => Ok(Refer::Secret(text.into())),
            "env" => is_name("a variable of the environment").map(Refer::Env),
            "credential" => is_name("a credential, as systemd knows it").map(Refer::Credential),
            "age" if text.len() > LONGEST => {
                Err(format!("\"age\" takes one encrypted password, up to {LONGEST} characters"))
            }
            "age" => Ok(Refer::Age(text.into())),
            _ => text.parse().ok().filter(|length| LENGTHS.contains(length)).map(Refer::Generate).ok_or_else(|| {
                format!("\"generate\" takes a number of characters from {} to {}", LENGTHS.start(), LENGTHS.end())
            }),
        }
    }

    /// As it is written.
    pub fn json(&self) -> Json {
        match self {
            Refer::Secret(name) => json!({ "secret": name }),
            Refer::Env(name) => json!({ "env": name }),
            Refer::Credential(name) => json!({ "credential": name }),
            Refer::Age(text) => json!({ "age": text }),
            Refer::Generate(length) => json!({ "generate": length }),
        }
    }

    /// What a value refers to, if it is a reference.
    pub fn of(value: &Json) -> Option<Refer> {
        let Json::Object(fields) = value else { return None };
        let (kind, value) = fields.iter().next().filter(|_| fields.len() == 1)?;
        let text = value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|number| number.to_string()))?;
        Refer::read("", kind, &text, true).ok()
    }

    /// Whether a section that holds this alone looks like a reference; only of interest to how it is written.
    pub(crate) fn is_kind(name: &str) -> bool {
        KINDS.contains(&name) || name == GENERATE
    }
}

/// For people: what it refers to.
impl fmt::Display for Refer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refer::Secret(name) => write!(f, "secret {name}"),
            Refer::Env(name) => write!(f, "environment variable {name}"),
            Refer::Credential(name) => write!(f, "credential {name}"),
            Refer::Age(_) => f.write_str("encrypted by age"),
            Refer::Generate(length) => write!(f, "generated, {length} characters"),
        }
    }
}
