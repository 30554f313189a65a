//! Files as phones of some vendors decrypt them, with the key that their profile gives.
//!
//! The vendor's forms are what they are: none of them says whether a file was changed on its way. They keep passwords from those who
//! read along, and from those who guess a MAC.

use aes::{
    Aes128, Aes256,
    cipher::{BlockEncrypt, BlockEncryptMut as _, KeyInit, KeyIvInit, block_padding::Pkcs7},
};
use md5::Md5;
use provost_plugin::{
    Phone, RenderedFile, Secret,
    spec::{Cipher, Encryption, FileSpec},
};
use sha2::{Digest, Sha256};

use crate::CallError;

const BLOCK: usize = 16;

/// `file` as it goes out to `phone`: encrypted where the profile asks for it and the phone can decrypt it.
pub(crate) fn seal(
    encryption: Option<&Encryption>,
    file: &FileSpec,
    phone: &Phone,
    rendered: RenderedFile,
) -> Result<RenderedFile, CallError> {
    let asked = &phone.settings.provisioning.encryption;
    let Some(encryption) = encryption.filter(|_| file.encrypted && asked.active == Some(true)) else {
        return Ok(rendered);
    };
    let key = asked.key.as_ref().map(Secret::expose).unwrap_or_default();
    if let Some(why) = unfit(encryption, key) {
        // In the clear is what it must not go out.
        return Err(CallError::Key(why));
    }
    let body = match encryption.cipher {
        Cipher::OpensslAes256Cbc => openssl(key.as_bytes(), &rendered.body),
        Cipher::Aes128Ecb => ecb(key.as_bytes(), rendered.body),
    };
    Ok(RenderedFile { body, content_type: "application/octet-stream".into() })
}

/// Why the phones would not take this key.
fn unfit(encryption: &Encryption, key: &str) -> Option<String> {
    if key.is_empty() {
        return Some("there is no provisioning.encryption.key".into());
    }
    // A blank or an umlaut is not the same bytes wherever a key is typed in.
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("provisioning.encryption.key must be printable ASCII without blanks".into());
    }
    let lengths = &encryption.key_lengths;
    if !lengths.is_empty() && !lengths.contains(&key.len()) {
        let wanted: Vec<String> = lengths.iter().map(usize::to_string).collect();
        let wanted = wanted.join(" or ");
        return Some(format!("provisioning.encryption.key has {} characters, and must have {wanted}", key.len()));
    }
    None
}

/// What `openssl enc -aes-256-cbc -salt -md md5 -k` writes.
fn openssl(password: &[u8], text: &[u8]) -> Vec<u8> {
    // Phones compare checksums, so the same file is the same bytes: the salt is made of what it is to hide.
    let digest = Sha256::new().chain_update((password.len() as u64).to_be_bytes()).chain_update(password);
    let digest = digest.chain_update(text).finalize();
    let salt = &digest[..8];
    let (key, iv) = bytes_to_key(password, salt);
    let encrypted = cbc::Encryptor::<Aes256>::new(&key.into(), &iv.into()).encrypt_padded_vec_mut::<Pkcs7>(text);
    [b"Salted__", salt, &encrypted].concat()
}

/// OpenSSL's EVP_BytesToKey with MD5 and a count of 1.
fn bytes_to_key(password: &[u8], salt: &[u8]) -> ([u8; 32], [u8; BLOCK]) {
    let mut bytes = [0; 32 + BLOCK];
    let mut last: Vec<u8> = Vec::new();
    for chunk in bytes.chunks_mut(BLOCK) {
        last = Md5::new().chain_update(&last).chain_update(password).chain_update(salt).finalize().to_vec();
        chunk.copy_from_slice(&last);
    }
    let (mut key, mut iv) = ([0; 32], [0; BLOCK]);
    key.copy_from_slice(&bytes[..32]);
    iv.copy_from_slice(&bytes[32..]);
    (key, iv)
}

fn ecb(key: &[u8], mut text: Vec<u8>) -> Vec<u8> {
    text.resize(text.len().next_multiple_of(BLOCK), b'\n');
    let cipher = Aes128::new_from_slice(key).expect("a key of sixteen bytes, which was looked at");
    for block in text.chunks_exact_mut(BLOCK) {
        cipher.encrypt_block(block.into());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    use super::*;

    /// What OpenSSL makes of it.
    fn decrypted(words: &[&str], encrypted: &[u8]) -> Vec<u8> {
        let mut openssl = Command::new("openssl");
        openssl.arg("enc").arg("-d").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut openssl = openssl.spawn().unwrap();
        openssl.stdin.take().unwrap().write_all(encrypted).unwrap();
        let output = openssl.wait_with_output().unwrap();
        assert!(output.status.success(), "openssl cannot decrypt it");
        output.stdout
    }

    #[test]
    fn openssl_decrypts_what_was_encrypted_in_its_form() {
        for text in ["", "x", "exactly sixteen.", "<gs_provision>\n  <P34>s3&lt;&amp;</P34>\n</gs_provision>\n"] {
            let encrypted = openssl(b"correct-horse", text.as_bytes());
            assert!(encrypted.starts_with(b"Salted__"));
            assert_eq!(encrypted, openssl(b"correct-horse", text.as_bytes()), "the same file is the same bytes");
            let plain = decrypted(&["-aes-256-cbc", "-md", "md5", "-k", "correct-horse"], &encrypted);
            assert_eq!(plain, text.as_bytes());
        }
    }

    #[test]
    fn openssl_decrypts_a_file_in_blocks_with_nothing_but_empty_lines_behind_it() {
        for text in ["", "x", "exactly sixteen.", "account.1.password = s3<&>\n"] {
            let encrypted = ecb(b"0123456789abcdef", text.as_bytes().to_vec());
            let key = "30313233343536373839616263646566";
            let plain = decrypted(&["-aes-128-ecb", "-nopad", "-K", key], &encrypted);
            let plain = String::from_utf8(plain).unwrap();
            assert_eq!(plain.trim_end_matches('\n'), text.trim_end_matches('\n'));
        }
    }

    #[test]
    fn a_key_that_the_phones_would_not_take_is_refused_without_being_shown() {
        let encryption = Encryption { cipher: Cipher::Aes128Ecb, key_lengths: vec![16] };
        for key in ["", "short-key", "with blank 34567", "sixteen-or-less-or-more"] {
            let why = unfit(&encryption, key).unwrap_or_else(|| panic!("{key} was taken"));
            assert!(key.is_empty() || !why.contains(key), "{why}");
        }
        assert_eq!(unfit(&encryption, &encryption.sample_key(0)), None);
        assert!(unfit(&Encryption { cipher: Cipher::OpensslAes256Cbc, key_lengths: vec![] }, "any!length").is_none());
    }
}
