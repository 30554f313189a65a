//! The binary configuration `cfg<mac>` of older firmware: a header with length, checksum and MAC, then `P271=1&P47=…&gnkey=0b82`.
//!
//! Knows the framing only. Which values are in it, and that it is the same as in the XML file, is decided in `lib.rs`. Four public
//! encoders agree on this layout; an encrypted variant, which one of the vendor's guides mentions, is not known.

use provost_plugin::{MacAddr, percent_encode};

/// The name of a P value and what it holds.
pub type PValue = (String, String);

const HEADER: usize = 16;
/// Phones take the file for complete only if this is its last parameter.
const LAST: &str = "gnkey=0b82";

/// Frames P values, in the order given: the oldest firmware reads them in order.
///
/// Nothing where the length, counted in 16-bit words, does not fit its field; a rendered file is far smaller than that.
pub fn encode(mac: MacAddr, values: &[PValue]) -> Option<Vec<u8>> {
    let mut body: String = values.iter().map(|(name, value)| format!("{name}={}&", percent_encode(value))).collect();
    body.push_str(LAST);
    let mut file = vec![0; 6];
    file.extend(mac.octets());
    file.extend(b"\r\n\r\n");
    file.extend(body.as_bytes());
    if file.len() % 2 == 1 {
        file.push(0);
    }
    let words = u32::try_from(file.len() / 2).ok()?;
    file[..4].copy_from_slice(&words.to_be_bytes());
    let checksum = 0u16.wrapping_sub(sum(&file));
    file[4..6].copy_from_slice(&checksum.to_be_bytes());
    Some(file)
}

/// Reads such a file back, or says what is wrong with it.
pub fn decode(file: &[u8]) -> Result<(MacAddr, Vec<PValue>), &'static str> {
    if file.len() < HEADER || file.len() % 2 == 1 {
        return Err("shorter than its header, or an odd number of bytes");
    }
    if u32::from_be_bytes([file[0], file[1], file[2], file[3]]) as usize != file.len() / 2 {
        return Err("the length field disagrees with the file");
    }
    if sum(file) != 0 {
        return Err("the checksum is wrong");
    }
    if &file[12..HEADER] != b"\r\n\r\n" {
        return Err("no empty line after the header");
    }
    let mac = MacAddr::new([file[6], file[7], file[8], file[9], file[10], file[11]]);
    let body = file[HEADER..].strip_suffix(b"\0").unwrap_or(&file[HEADER..]);
    let body = std::str::from_utf8(body).map_err(|_| "the body is not text")?;
    let mut parameters: Vec<&str> = body.split('&').collect();
    if parameters.pop() != Some(LAST) {
        return Err("gnkey is not the last parameter");
    }
    let value = |parameter: &str| {
        let (name, value) = parameter.split_once('=')?;
        Some((name.to_owned(), percent_decode(value)?))
    };
    let values = parameters.into_iter().map(value).collect::<Option<_>>().ok_or("a parameter is not NAME=value")?;
    Ok((mac, values))
}

/// All 16-bit words added up; a finished file adds up to 0.
fn sum(file: &[u8]) -> u16 {
    file.chunks_exact(2).fold(0, |sum, word| sum.wrapping_add(u16::from_be_bytes([word[0], word[1]])))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by an encoder that four public implementations agree with; see the README on what that proves.
    const CAPTURE: &[u8] = include_bytes!("../tests/cfg000b82273b89");

    fn values(pairs: &[(&str, &str)]) -> Vec<PValue> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_known_file_is_reproduced_byte_for_byte() {
        let mac = "000b82273b89".parse().unwrap();
        let known = values(&[
            ("P271", "1"),
            ("P47", "192.0.2.10"),
            ("P35", "1001"),
            ("P36", "1001"),
            ("P34", "s3cret & co"),
            ("P2", "admin"),
        ]);
        assert_eq!(encode(mac, &known).unwrap(), CAPTURE);
        assert_eq!(decode(CAPTURE).unwrap(), (mac, known));
    }

    #[test]
    fn every_text_and_both_parities_read_back() {
        let mac = "c074ad010203".parse().unwrap();
        for text in ["", "a", "ab", "s3<&>\"';#=%\\ä", "&P2=owned&gnkey=0b82", "\r\n\r\n", "%00"] {
            let values = values(&[("P34", text), ("P1360", "x")]);
            let file = encode(mac, &values).unwrap();
            assert_eq!((file.len() % 2, sum(&file)), (0, 0), "{text:?}");
            assert_eq!(decode(&file).unwrap(), (mac, values), "{text:?}");
        }
    }

    #[test]
    fn a_damaged_file_is_refused() {
        assert!(decode(&[]).is_err());
        for at in 0..CAPTURE.len() {
            let mut damaged = CAPTURE.to_vec();
            damaged[at] ^= 1;
            assert!(decode(&damaged).is_err(), "byte {at}");
            assert!(decode(&CAPTURE[..at]).is_err(), "cut at {at}");
        }
    }
}
