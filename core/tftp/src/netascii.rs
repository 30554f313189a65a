//! Text as the network has it: LF becomes CR LF, and CR becomes CR NUL, so that neither is mistaken for the other.
//!
//! A CR LF in the file thus becomes CR NUL CR LF, and CR LF again at the other end: the receiver gets back the file it asked for.

/// Each byte on its own, so that a file may be translated in pieces, cut anywhere.
pub(crate) fn translate(text: &[u8]) -> Vec<u8> {
    let mut translated = Vec::with_capacity(text.len() + text.len() / 16);
    for &byte in text {
        match byte {
            b'\n' => translated.extend(b"\r\n"),
            b'\r' => translated.extend(b"\r\0"),
            other => translated.push(other),
        }
    }
    translated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_become_the_networks() {
        assert_eq!(translate(b"a\nb\rc\r\n\n"), b"a\r\nb\r\0c\r\0\r\n\r\n");
        assert_eq!([translate(b"c\r"), translate(b"\n")].concat(), translate(b"c\r\n"), "pieces make the same whole");
    }
}
