//! How received bytes travel through `rsip`, whose headers are `String`s, without changing.

use std::fmt;

/// One `char` per byte, so that [`octets`] gives the same bytes back. Lossy UTF-8 would not: a display name in Latin-1
/// must return to its phone as it came, or the phone does not know its own From again.
pub(crate) fn text(octets: &[u8]) -> String {
    octets.iter().copied().map(char::from).collect()
}

/// The bytes behind a text that [`text`] made. `None` if it holds a character that no byte stands behind.
pub(crate) fn octets(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|char| u8::try_from(u32::from(char)).ok()).collect()
}

/// For people and for matching: what is not UTF-8 becomes a replacement character.
pub(crate) fn lossy(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// Received bytes that are only ever sent back, shown readably in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Octets(pub(crate) Vec<u8>);

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_the_way_through_a_string() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(octets(&text(&all)), Some(all));
    }

    #[test]
    fn a_character_beyond_a_byte_is_refused_rather_than_cut() {
        assert_eq!(octets("na\u{0101}"), None);
    }
}
