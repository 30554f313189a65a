//! Files that go out encrypted: OpenSSL reads them as they would be in the clear.

use std::process::Command;

use provost_plugin::{Secret, spec::Cipher};
use provost_tests::tools::{feed, require};

use crate::bench;

/// What somebody makes of an encrypted file who has the key and no code of ours.
fn decrypted(cipher: Cipher, key: &str, body: &[u8]) -> Vec<u8> {
    let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    let words: &[&str] = match cipher {
        Cipher::OpensslAes256Cbc => &["-aes-256-cbc", "-md", "md5", "-k", key],
        Cipher::Aes128Ecb => &["-aes-128-ecb", "-nopad", "-K", &hex],
    };
    let mut openssl = Command::new(require("openssl"));
    feed(openssl.args(["enc", "-d"]).args(words), body).unwrap_or_else(|error| panic!("openssl: {error}"))
}

#[test]
fn openssl_reads_every_encrypted_file_as_it_would_be_in_the_clear() {
    let mut tried = Vec::new();
    for (plugin, model) in bench::families() {
        let Some(encryption) = &plugin.spec.encryption else { continue };
        let mut phone = bench::office(plugin, model.as_deref()).phone;
        let key = encryption.sample_key(0);
        phone.settings.provisioning.encryption.key = Some(Secret::new(key.clone()));
        for (index, name) in bench::own_files(plugin, &phone) {
            if !plugin.spec.files[index].encrypted {
                continue;
            }
            let clear = plugin.render(index, &phone).unwrap();
            let mut sealed = phone.clone();
            sealed.settings.provisioning.encryption.active = Some(true);
            let encrypted = plugin.render(index, &sealed).unwrap();
            let whole = |secret: &str| encrypted.body.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!whole("password-one") && !whole(&key), "{} {name} shows a password", plugin.id);
            assert_eq!(encrypted.body, plugin.render(index, &sealed).unwrap().body, "the same each time");
            let mut read = decrypted(encryption.cipher, &key, &encrypted.body);
            // What fills the last block up.
            while read.len() > clear.body.len() && read.last() == Some(&b'\n') {
                read.pop();
            }
            assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(&clear.body), "{} {name}", plugin.id);
            assert!(
                clear.body.windows(key.len()).any(|window| window == key.as_bytes()),
                "{name} tells the phone no key"
            );
            // Without a key nothing goes out, least of all in the clear.
            sealed.settings.provisioning.encryption.key = None;
            let error = plugin.render(index, &sealed).unwrap_err().to_string();
            assert!(error.contains("provisioning.encryption.key"), "{error}");
            tried.push(plugin.id.clone());
        }
    }
    for vendor in ["grandstream", "yealink"] {
        assert!(tried.iter().any(|id| id == vendor), "no file of {vendor} was tried: {tried:?}");
    }
}
