//! Passwords encrypted in the format of the age tool: opened with the identities of a file, and sealed for whoever holds one.

use std::{io::Read, iter};

use age::{
    Decryptor, Encryptor, Identity, IdentityFile, Recipient,
    armor::{ArmoredReader, ArmoredWriter, Format},
    secrecy::ExposeSecret,
    x25519,
};
use provost_plugin::Secret;

/// The longest password that is taken out of a sealed text.
const LONGEST: u64 = 4096;
const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";

/// What opens sealed texts.
pub(crate) struct Identities(Vec<Box<dyn Identity + Send + Sync>>);

impl Identities {
    /// As `age-keygen` writes them, one on a line.
    pub(crate) fn read(text: &[u8]) -> Result<Identities, String> {
        let file = IdentityFile::from_buffer(text).map_err(|error| error.to_string())?;
        let identities = file.into_identities().map_err(|error| error.to_string())?;
        match identities.is_empty() {
            true => Err("it holds no identity".to_owned()),
            false => Ok(Identities(identities)),
        }
    }

    /// The password in a sealed text. What is wrong with it is told without a letter of it.
    pub(crate) fn open(&self, text: &str) -> Result<Secret, String> {
        let armored = armored(text);
        let decryptor = Decryptor::new_buffered(ArmoredReader::new(armored.as_bytes()))
            .map_err(|_| "it is no text that age has encrypted".to_owned())?;
        let identities = self.0.iter().map(|identity| &**identity as &dyn Identity);
        let opened = decryptor.decrypt(identities).map_err(|_| "it is encrypted for another identity".to_owned())?;
        let mut value = Vec::new();
        opened
            .take(LONGEST + 1)
            .read_to_end(&mut value)
            .map_err(|_| "it was changed after it was encrypted".to_owned())?;
        if value.len() as u64 > LONGEST {
            return Err(format!("what it holds is longer than {LONGEST} bytes"));
        }
        // Whoever encrypts by `echo` encrypts the end of the line too.
        let value = String::from_utf8(value).map_err(|_| "what it holds is not UTF-8 text".to_owned())?;
        Ok(Secret::new(value.strip_suffix('\n').map_or(&*value, |value| value.strip_suffix('\r').unwrap_or(value))))
    }
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} identities", self.0.len())
    }
}

/// The lines that age reads, of whatever YAML made of them: a line alone, lines joined by blanks, or the whole as it was.
fn armored(text: &str) -> String {
    let text = text.trim();
    let text = text.strip_prefix(BEGIN).unwrap_or(text);
    let text = text.strip_suffix(END).unwrap_or(text);
    let mut out = format!("{BEGIN}\n");
    for (index, letter) in text.chars().filter(|letter| !letter.is_whitespace()).enumerate() {
        if index > 0 && index % 64 == 0 {
            out.push('\n');
        }
        out.push(letter);
    }
    out.push('\n');
    out.push_str(END);
    out.push('\n');
    out
}

/// A new identity: the file that holds it, and whom to encrypt for.
pub fn new_identity() -> (Secret, String) {
    let identity = x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let file = format!("# public key: {recipient}\n{}\n", identity.to_string().expose_secret());
    (Secret::new(file), recipient)
}

/// Whom the identities of a file are encrypted for.
pub fn recipients(file: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(file).map_err(|_| "it is not text".to_owned())?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let one = |line: &str| line.parse::<x25519::Identity>().map(|identity| identity.to_public().to_string());
    lines.map(|line| one(line).map_err(|_| "it holds something that is no identity".to_owned())).collect()
}

/// A password encrypted for a recipient, on one line.
pub fn seal(recipient: &str, value: &Secret) -> Result<String, String> {
    let recipient: x25519::Recipient =
        recipient.parse().map_err(|error| format!("\"{recipient}\" is no recipient: {error}"))?;
    let failed = |error: &dyn std::fmt::Display| format!("cannot encrypt it: {error}");
    let encryptor =
        Encryptor::with_recipients(iter::once(&recipient as &dyn Recipient)).map_err(|error| failed(&error))?;
    let mut out = Vec::new();
    let armor = ArmoredWriter::wrap_output(&mut out, Format::AsciiArmor).map_err(|error| failed(&error))?;
    let mut writer = encryptor.wrap_output(armor).map_err(|error| failed(&error))?;
    let written = std::io::Write::write_all(&mut writer, value.expose().as_bytes());
    written.and_then(|()| writer.finish()).and_then(ArmoredWriter::finish).map_err(|error| failed(&error))?;
    let armored = String::from_utf8_lossy(&out);
    Ok(armored.lines().filter(|line| !line.starts_with("-----")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_is_opened_in_each_form_in_which_yaml_hands_it_over() {
        let (file, recipient) = new_identity();
        let identities = Identities::read(file.expose().as_bytes()).unwrap();
        let sealed = seal(&recipient, &Secret::new("s3<&>")).unwrap();
        let lines = armored(&sealed);
        for text in [sealed.clone(), lines.clone(), lines.replace('\n', " "), lines.replace('\n', "\r\n")] {
            assert_eq!(identities.open(&text).unwrap().expose(), "s3<&>");
        }
        assert_eq!(recipients(file.expose().as_bytes()).unwrap(), std::slice::from_ref(&recipient));
        let (other, _) = new_identity();
        let refused = Identities::read(other.expose().as_bytes()).unwrap().open(&sealed).unwrap_err();
        assert_eq!(refused, "it is encrypted for another identity");
        assert!(identities.open("s3cret").is_err() && identities.open(&sealed[..sealed.len() - 8]).is_err());
        assert!(Identities::read(b"# nothing\n").is_err() && Identities::read(b"s3cret\n").is_err());
        assert_eq!(identities.open(&seal(&recipient, &Secret::new("x\n")).unwrap()).unwrap().expose(), "x");
    }
}
