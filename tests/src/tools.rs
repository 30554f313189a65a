//! Programs of others: those that the bench is built with, and those that judge what the server wrote.

use std::{
    env, fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};

/// Programs and the Debian packages that hold them.
const PACKAGES: [(&str, &str); 20] = [
    ("age", "age"),
    ("age-keygen", "age"),
    ("atftp", "atftp"),
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("dhcpd", "isc-dhcp-server"),
    ("dnsmasq", "dnsmasq-base"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("jsonschema", "python3-jsonschema"),
    ("kea-dhcp4", "kea-dhcp4-server"),
    ("nft", "nftables"),
    ("node", "nodejs npm"),
    ("nsenter", "util-linux"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("sipp", "sip-tester"),
    ("tftp", "tftp-hpa"),
    ("tshark", "tshark"),
    ("xmllint", "libxml2-utils"),
];

/// The path of a program; panics with the way to install it. A test that lacks its judge has not passed.
pub fn require(program: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    // Administrators' tools, where a plain user's PATH leaves them out.
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let is_program =
        |file: &PathBuf| fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    places.map(|place| place.join(program)).find(is_program).unwrap_or_else(|| {
        let package = PACKAGES.iter().find(|(known, _)| *known == program).map_or(program, |(_, package)| package);
        panic!("this test needs the program \"{program}\": apt-get install {package}")
    })
}

/// Runs a program to its end with this input; its output, or what it complained of.
pub fn feed(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let output = std::thread::scope(|scope| {
        // A program that stops reading early is heard by its complaint, not by the broken pipe.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output()
    });
    let output = output.map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// What libxml2 has against this document; it fetches nothing.
pub fn xmllint(document: &[u8]) -> Result<(), String> {
    feed(Command::new(require("xmllint")).args(["--noout", "--nonet", "-"]), document).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xmllint_tells_xml_from_what_only_looks_like_it() {
        xmllint(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?><a b=\"&lt;\">\xc3\xa9</a>").unwrap();
        let error = xmllint(b"<a>&</a>").unwrap_err();
        assert!(error.contains("parser error"), "{error}");
        assert!(xmllint(b"").is_err());
    }

    #[test]
    #[should_panic(expected = "apt-get install sip-tester-of-nobody")]
    fn a_missing_program_fails_the_test_and_says_what_to_install() {
        require("sip-tester-of-nobody");
    }

    #[test]
    fn a_program_that_does_not_read_its_input_is_no_deadlock() {
        feed(&mut Command::new("true"), &vec![0; 1 << 20]).unwrap();
    }
}
