//! Passwords, which must appear in rendered files and nowhere else.

use std::{cell::Cell, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A password. `Debug`, `Display` and serialisation all show `•••`; the text comes out by [`Secret::expose`], or inside
/// [`Secret::exposed`], which only the road to a rendered file may walk.
#[derive(Clone, PartialEq, Eq, Default, JsonSchema)]
#[schemars(transparent)]
pub struct Secret(String);

const MASK: &str = "•••";

thread_local! {
    static EXPOSED: Cell<bool> = const { Cell::new(false) };
}

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs `act` with secrets serialised in the clear, on this thread only. Masking is the default and exposure the scope, so that
    /// a new log line or API answer that serialises a phone is safe without anyone thinking of it.
    pub fn exposed<T>(act: impl FnOnce() -> T) -> T {
        struct Restore(bool);
        impl Drop for Restore {
            fn drop(&mut self) {
                EXPOSED.set(self.0);
            }
        }
        let _restore = Restore(EXPOSED.replace(true));
        act()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if EXPOSED.get() { &self.0 } else { MASK })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_itself_only_where_it_is_asked_to() {
        let secret = Secret::new("s3<&>");
        assert_eq!(format!("{secret} {secret:?}"), "••• •••");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"•••\"");
        assert_eq!(Secret::exposed(|| serde_json::to_string(&secret).unwrap()), "\"s3<&>\"");
        let _ = std::panic::catch_unwind(|| Secret::exposed(|| panic!("inside")));
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"•••\"", "a panic must not leave the door open");
    }
}
