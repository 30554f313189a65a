//! Passwords that are made of a key and a MAC: each phone has its own, the same after every restart, and none is kept.

use hmac::{Hmac, Mac};
use provost_plugin::{MacAddr, Secret};
use sha2::Sha256;

/// Without those that look like others on paper, and without anything that some vendor's format could not carry.
const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// What the passwords are made of.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("•••")
    }
}

impl Key {
    pub(crate) fn new() -> Result<Key, String> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| format!("the system has no random numbers: {error}"))?;
        Ok(Key(key))
    }

    /// As [`Key::text`] writes it.
    pub(crate) fn read(text: &[u8]) -> Result<Key, String> {
        let wrong = || "it does not hold 64 hexadecimal digits".to_owned();
        let digits = std::str::from_utf8(text).map_err(|_| wrong())?.trim();
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut key = [0; 32];
        for (index, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Key(key))
    }

    pub(crate) fn text(&self) -> String {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{digits}\n")
    }

    /// The password of a phone for what stands at `path` of its settings.
    pub(crate) fn password(&self, mac: MacAddr, path: &str, length: u8) -> Secret {
        // Some phones refuse a password without a digit or a capital, so the first that has all is taken.
        let tries = (0_u16..).map(|turn| self.letters(mac, path, length, turn));
        let has = |text: &str, is: fn(&u8) -> bool| text.bytes().any(|letter| is(&letter));
        let fits = |text: &String| {
            has(text, u8::is_ascii_digit) && has(text, u8::is_ascii_uppercase) && has(text, u8::is_ascii_lowercase)
        };
        let mut tries = tries.take(1000);
        Secret::new(tries.find(fits).unwrap_or_default())
    }

    fn letters(&self, mac: MacAddr, path: &str, length: u8, turn: u16) -> String {
        let mut text = String::new();
        for block in 0_u8.. {
            let mut hmac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length will do");
            hmac.update(format!("provost 1\n{}\n{path}\n{length}\n{turn}\n{block}", mac.bare()).as_bytes());
            text.extend(hmac.finalize().into_bytes().into_iter().filter_map(letter));
            if text.len() >= usize::from(length) {
                break;
            }
        }
        text.truncate(length.into());
        text
    }
}

/// One letter of a random byte; none where it would come up more often than others.
fn letter(byte: u8) -> Option<char> {
    let fair = u8::MAX - u8::MAX % LETTERS.len() as u8;
    (byte < fair).then(|| char::from(LETTERS[usize::from(byte) % LETTERS.len()]))
}

/// A password that nobody has had before.
pub fn password(length: u8) -> Result<Secret, String> {
    let unknown = MacAddr::new([0; 6]);
    Ok(Key::new()?.password(unknown, "", length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_of_its_phone_and_its_place_and_stays_the_same() {
        let key = Key::read("0123456789abcdef".repeat(4).as_bytes()).unwrap();
        let (one, other) = (MacAddr::new([0, 4, 0x13, 0, 0, 1]), MacAddr::new([0, 4, 0x13, 0, 0, 2]));
        let made = |mac, path, length| key.password(mac, path, length).expose().to_owned();
        let admin = made(one, "access.admin.password", 16);
        // Written down: with another algorithm every phone would have another password.
        assert_eq!(admin, "yr7QeNCXiKvsQf3H");
        assert_eq!(Key::read(key.text().as_bytes()).unwrap(), key);
        assert_ne!(admin, made(other, "access.admin.password", 16));
        assert_ne!(admin, made(one, "access.user.password", 16));
        for length in 8..=32 {
            let made = made(one, "access.admin.password", length);
            assert!(
                made.len() == usize::from(length) && made.bytes().all(|letter| LETTERS.contains(&letter)),
                "{made}"
            );
        }
        assert!(
            Key::read(b"").is_err() && Key::read(&[b'g'; 64]).is_err() && Key::read("é".repeat(32).as_bytes()).is_err()
        );
        assert_eq!(format!("{key:?}"), "•••");
    }
}
