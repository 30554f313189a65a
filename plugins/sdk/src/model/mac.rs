//! MAC addresses and the prefixes by which a maker is known.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The address that a device is keyed by. Printed `80:5e:c0:aa:bb:cc` for people, `805ec0aabbcc` in file names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr([u8; 6]);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a MAC address: it takes twelve hexadecimal digits, as in 80:5e:c0:aa:bb:cc or 805ec0aabbcc")]
pub struct ParseMacError(String);

impl MacAddr {
    pub const fn new(bytes: [u8; 6]) -> MacAddr {
        MacAddr(bytes)
    }

    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// `805ec0aabbcc`
    pub fn bare(self) -> String {
        self.written(b"0123456789abcdef")
    }

    /// `805EC0AABBCC`
    pub fn bare_upper(self) -> String {
        self.written(b"0123456789ABCDEF")
    }

    fn written(self, digits: &[u8; 16]) -> String {
        self.digits().map(|digit| char::from(digits[usize::from(digit)])).collect()
    }

    fn digits(self) -> impl Iterator<Item = u8> {
        self.0.into_iter().flat_map(|byte| [byte >> 4, byte & 0xf])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    /// Takes the separators that labels, switches and phones print (`:`, `-`, `.`), or none, in either case.
    fn from_str(text: &str) -> Result<MacAddr, ParseMacError> {
        let refused = || ParseMacError(text.chars().take(40).collect());
        let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b':' | b'-' | b'.')).collect();
        if digits.len() != 12 || text.len() > 17 {
            return Err(refused());
        }
        let mut bytes = [0; 6];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let high = hex(pair[0]).ok_or_else(refused)?;
            let low = hex(pair[1]).ok_or_else(refused)?;
            *byte = high << 4 | low;
        }
        Ok(MacAddr(bytes))
    }
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MacAddr, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A block of MAC addresses as IEEE hands them out: 6 hex digits (MA-L), 7 (MA-M) or 9 (MA-S). The longest match is the best.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oui(String);

impl Oui {
    pub fn covers(&self, mac: MacAddr) -> bool {
        // Each phone is held against the prefixes of all vendors.
        self.0.bytes().map(hex).eq(mac.digits().take(self.0.len()).map(Some))
    }

    /// How many hex digits it fixes.
    pub fn digits(&self) -> usize {
        self.0.len()
    }
}

impl FromStr for Oui {
    type Err = String;

    fn from_str(text: &str) -> Result<Oui, String> {
        let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-')).collect::<String>().to_uppercase();
        if (6..=9).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            Ok(Oui(digits))
        } else {
            Err(format!("\"{text}\" is not a MAC prefix: it takes 6 to 9 hexadecimal digits"))
        }
    }
}

impl fmt::Display for Oui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Oui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Oui {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Oui {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Oui, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Oui {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Oui".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9A-Fa-f]{6,9}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_read_in_every_form_that_people_paste() {
        for form in ["80:5e:c0:aa:bb:cc", "80-5E-C0-AA-BB-CC", "805e.c0aa.bbcc", "805ec0AABBCC"] {
            let mac: MacAddr = form.parse().unwrap();
            assert_eq!(mac.to_string(), "80:5e:c0:aa:bb:cc");
            assert_eq!(mac.bare(), "805ec0aabbcc");
            assert_eq!(mac.bare_upper(), "805EC0AABBCC");
        }
        for wrong in ["", "805ec0aabbc", "805ec0aabbccd", "805ec0aabbcg", "8:0:5:e:c:0:a:a:b:b:c:c", "ßßßßßß"] {
            assert!(wrong.parse::<MacAddr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_covers_its_block_and_no_other() {
        let block: Oui = "0c383e5".parse().unwrap();
        assert!(block.covers("0C:38:3E:55:7E:B1".parse().unwrap()));
        assert!(!block.covers("0C:38:3E:65:7E:B1".parse().unwrap()));
        assert!("0c383".parse::<Oui>().is_err());
    }
}
