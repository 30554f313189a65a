//! Digest (RFC 2617, RFC 7616 as RFC 8760 brings it to SIP): what a phone asks that challenges a NOTIFY, and our answer.
//!
//! Not rsip's: that one spells SHA-256 without its hyphen, quotes what may not be quoted, and prints the URI in its own spelling,
//! which is not the one that the request line has. Passwords come in as text and leave as digests only.

use std::fmt;

use md5::{Digest as _, Md5};
use rsip::Header;
use sha2::Sha256;

use crate::params::{self, Param};
use crate::reader::Response;
use crate::wire::{Octets, lossy, text};

/// One challenge of a 401 or 407 that we can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    realm: Octets,
    nonce: Octets,
    opaque: Option<Octets>,
    algorithm: Algorithm,
    /// As the phone wrote it; left out of the answer where it left it out.
    spelling: Option<Octets>,
    /// It offers `qop=auth`; without a qop it is of the kind from before RFC 2617.
    auth: bool,
    stale: bool,
    /// A 407, which is answered in another header.
    proxy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Md5,
    Sha256,
}

/// Why a challenge cannot be answered. Nothing here holds a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnswerable {
    #[error("it challenges without saying how")]
    Missing,
    #[error("it asks for {scheme}, and only Digest does not give the password away")]
    Scheme { scheme: String },
    #[error("its challenge has no {parameter}")]
    Incomplete { parameter: &'static str },
    #[error("it wants digests by {algorithm}, which is not MD5 and not SHA-256")]
    Algorithm { algorithm: String },
    #[error("it wants a quality of protection ({qop}) other than auth")]
    Qop { qop: String },
    /// A quote, a backslash or a control character: phones disagree on how these are written.
    #[error("the user name of the credentials holds a character that cannot be written in an answer to a challenge")]
    User,
}

/// Whose password answers a challenge.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    pub user: &'a str,
    pub password: &'a str,
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The answer to a challenge, for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    value: String,
    proxy: bool,
}

impl Authorization {
    /// As it stands behind the header's name.
    pub fn value(&self) -> &str {
        &self.value
    }

    pub(crate) fn header(&self) -> Header {
        if self.proxy {
            rsip::headers::ProxyAuthorization::from(self.value.as_str()).into()
        } else {
            rsip::headers::Authorization::from(self.value.as_str()).into()
        }
    }
}

impl Challenge {
    /// The first of the response's challenges that can be answered: whoever makes several has the best one first (RFC 8760 §2.4).
    pub fn from_response(response: &Response<'_>) -> Result<Challenge, NotAnswerable> {
        let proxy = response.status == 407;
        let header = if proxy { "Proxy-Authenticate" } else { "WWW-Authenticate" };
        let mut refused = NotAnswerable::Missing;
        for (scheme, parameters) in response.headers.all(header).flat_map(challenges) {
            match Challenge::read(scheme, &parameters, proxy) {
                Ok(challenge) => return Ok(challenge),
                Err(why) => refused = why,
            }
        }
        Err(refused)
    }

    fn read(scheme: &[u8], parameters: &[Param<'_>], proxy: bool) -> Result<Challenge, NotAnswerable> {
        if !scheme.eq_ignore_ascii_case(b"Digest") {
            return Err(NotAnswerable::Scheme { scheme: lossy(scheme) });
        }
        let get = |name: &str| parameters.iter().find(|param| param.is(name))?.inside_quotes();
        let need = |name| get(name).ok_or(NotAnswerable::Incomplete { parameter: name });
        let owned = |value: &[u8]| Octets(value.to_vec());
        let spelling = get("algorithm").filter(|algorithm| !algorithm.is_empty());
        let algorithm = match spelling {
            None => Algorithm::Md5,
            Some(name) if name.eq_ignore_ascii_case(b"MD5") => Algorithm::Md5,
            Some(name) if name.eq_ignore_ascii_case(b"SHA-256") => Algorithm::Sha256,
            Some(other) => return Err(NotAnswerable::Algorithm { algorithm: lossy(other) }),
        };
        let qop = get("qop").filter(|qop| !qop.is_empty());
        let auth = match qop {
            None => false,
            Some(offers) if params::split(offers, b',').any(|qop| qop.trim_ascii().eq_ignore_ascii_case(b"auth")) => {
                true
            }
            Some(other) => return Err(NotAnswerable::Qop { qop: lossy(other) }),
        };
        Ok(Challenge {
            realm: owned(need("realm")?),
            nonce: owned(need("nonce")?),
            opaque: get("opaque").map(owned),
            algorithm,
            spelling: spelling.map(owned),
            auth,
            stale: get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case(b"true")),
            proxy,
        })
    }

    /// For people, and to find the account that is meant.
    pub fn realm(&self) -> String {
        lossy(&self.realm.0)
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The answer before was right but too late: it may be given again with this nonce.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// The answer for a request of this method and request URI. `cnonce` is a token that is new each time; with a nonce that is used
    /// once, the count of its uses is always 1.
    pub fn answer(
        &self,
        credentials: &Credentials<'_>,
        method: &str,
        uri: &[u8],
        cnonce: &str,
    ) -> Result<Authorization, NotAnswerable> {
        let user = credentials.user.as_bytes();
        if user.iter().any(|&byte| byte < b' ' || byte == 0x7f || byte == b'"' || byte == b'\\') {
            return Err(NotAnswerable::User);
        }
        let ha1 = self.hash(&[user, &self.realm.0, credentials.password.as_bytes()]);
        let ha2 = self.hash(&[method.as_bytes(), uri]);
        let response = if self.auth {
            let parts = [ha1.as_bytes(), &self.nonce.0, b"00000001", cnonce.as_bytes(), b"auth", ha2.as_bytes()];
            self.hash(&parts)
        } else {
            self.hash(&[ha1.as_bytes(), &self.nonce.0, ha2.as_bytes()])
        };
        let mut value = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{response}\"",
            text(user),
            text(&self.realm.0),
            text(&self.nonce.0),
            text(uri)
        );
        if let Some(spelling) = &self.spelling {
            value.push_str(&format!(", algorithm={}", text(&spelling.0)));
        }
        if let Some(opaque) = &self.opaque {
            value.push_str(&format!(", opaque=\"{}\"", text(&opaque.0)));
        }
        if self.auth {
            value.push_str(&format!(", qop=auth, nc=00000001, cnonce=\"{cnonce}\""));
        }
        Ok(Authorization { value, proxy: self.proxy })
    }

    fn hash(&self, parts: &[&[u8]]) -> String {
        hash(self.algorithm, parts)
    }
}

/// The challenges in one header line, each a scheme and its parameters: `Digest realm="a", nonce="b", Basic realm="c"`.
fn challenges(line: &[u8]) -> Vec<(&[u8], Vec<Param<'_>>)> {
    let mut found: Vec<(&[u8], Vec<Param<'_>>)> = Vec::new();
    for piece in params::split(line, b',').map(<[u8]>::trim_ascii).filter(|piece| !piece.is_empty()) {
        // A scheme is a token with a blank behind it and no "=" in between.
        let word = piece.iter().position(|byte| byte.is_ascii_whitespace()).unwrap_or(piece.len());
        let (scheme, rest) = piece.split_at(word);
        let rest = rest.trim_ascii_start();
        let begins_another = params::is_token(scheme) && !rest.starts_with(b"=");
        if begins_another {
            found.push((scheme, Vec::new()));
        }
        let param = if begins_another { rest } else { piece };
        if let Some((_, parameters)) = found.last_mut()
            && !param.is_empty()
        {
            parameters.push(Param::parse(param));
        }
    }
    found
}

/// What a client says who answers a challenge of ours: the header `Authorization` of HTTP, where Digest is the same as in SIP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub user: String,
    pub realm: String,
    pub nonce: String,
    /// As the client wrote it.
    pub uri: String,
    /// The count of the nonce's uses; none in answers of the kind from before RFC 2617.
    pub count: Option<u32>,
    algorithm: Algorithm,
    /// `nc` and `cnonce` as written.
    auth: Option<(Octets, Octets)>,
    response: String,
}

impl Claimed {
    /// None where it is not Digest, or not whole, or of an algorithm that we do not offer.
    pub fn read(header: &[u8]) -> Option<Claimed> {
        let (scheme, parameters) = challenges(header).into_iter().next()?;
        if !scheme.eq_ignore_ascii_case(b"Digest") {
            return None;
        }
        let get = |name: &str| parameters.iter().find(|param| param.is(name))?.inside_quotes();
        let said = |name| get(name).and_then(|value| String::from_utf8(value.to_vec()).ok());
        let algorithm = match get("algorithm") {
            None => Algorithm::Md5,
            Some(name) if name.eq_ignore_ascii_case(b"MD5") => Algorithm::Md5,
            Some(name) if name.eq_ignore_ascii_case(b"SHA-256") => Algorithm::Sha256,
            Some(_) => return None,
        };
        let auth = match get("qop") {
            None => None,
            Some(qop) if qop.eq_ignore_ascii_case(b"auth") => {
                Some((Octets(get("nc")?.to_vec()), Octets(get("cnonce")?.to_vec())))
            }
            Some(_) => return None,
        };
        let count = match &auth {
            Some((count, _)) => Some(u32::from_str_radix(std::str::from_utf8(&count.0).ok()?, 16).ok()?),
            None => None,
        };
        Some(Claimed {
            user: said("username")?,
            realm: said("realm")?,
            nonce: said("nonce")?,
            uri: said("uri")?,
            count,
            algorithm,
            auth,
            response: said("response")?,
        })
    }

    /// Whether it was made with this password, for a request of this method.
    pub fn is_by(&self, method: &str, password: &str) -> bool {
        let hash = |parts: &[&[u8]]| hash(self.algorithm, parts);
        let ha1 = hash(&[self.user.as_bytes(), self.realm.as_bytes(), password.as_bytes()]);
        let ha2 = hash(&[method.as_bytes(), self.uri.as_bytes()]);
        let expected = match &self.auth {
            Some((count, cnonce)) => {
                hash(&[ha1.as_bytes(), self.nonce.as_bytes(), &count.0, &cnonce.0, b"auth", ha2.as_bytes()])
            }
            None => hash(&[ha1.as_bytes(), self.nonce.as_bytes(), ha2.as_bytes()]),
        };
        let said = self.response.to_ascii_lowercase();
        // In a time that does not tell how far it is right.
        said.len() == expected.len()
            && said.bytes().zip(expected.bytes()).fold(0, |all, (one, other)| all | (one ^ other)) == 0
    }
}

fn hash(algorithm: Algorithm, parts: &[&[u8]]) -> String {
    let joined = parts.join(&b':');
    match algorithm {
        Algorithm::Md5 => format!("{:x}", Md5::digest(joined)),
        Algorithm::Sha256 => format!("{:x}", Sha256::digest(joined)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{Message, read};

    fn challenge(status: u16, headers: &str) -> Result<Challenge, NotAnswerable> {
        let message = format!("SIP/2.0 {status} X\r\nCall-ID: c\r\nCSeq: 1 NOTIFY\r\n{headers}\r\n");
        match read(message.as_bytes()) {
            Ok(Message::Response(response)) => Challenge::from_response(&response),
            other => panic!("{other:?}"),
        }
    }

    fn www(value: &str) -> Result<Challenge, NotAnswerable> {
        challenge(401, &format!("WWW-Authenticate: {value}\r\n"))
    }

    fn response(authorization: &Authorization) -> String {
        let (_, behind) = authorization.value().split_once("response=\"").expect("a response");
        behind.split('"').next().unwrap_or_default().to_owned()
    }

    /// RFC 2617 §3.5.
    const MUFASA: &str = r#"Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#;
    const CIRCLE: Credentials<'_> = Credentials { user: "Mufasa", password: "Circle Of Life" };

    #[test]
    fn the_example_of_rfc_2617_comes_out() {
        let answer = www(MUFASA).unwrap().answer(&CIRCLE, "GET", b"/dir/index.html", "0a4f113b").unwrap();
        assert_eq!(response(&answer), "6629fae49393a05397450978507c4ef1");
        assert_eq!(
            answer.value(),
            "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
             uri=\"/dir/index.html\", response=\"6629fae49393a05397450978507c4ef1\", \
             opaque=\"5ccc069c403ebaf9f0171e9517f40e41\", qop=auth, nc=00000001, cnonce=\"0a4f113b\""
        );
    }

    #[test]
    fn without_a_qop_the_older_digest_is_made() {
        // RFC 2069 §2.4 prints a wrong response for this example; its erratum 749 has the right one.
        let asked = r#"Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="x""#;
        let credentials = Credentials { user: "Mufasa", password: "CircleOfLife" };
        let answer = www(asked).unwrap().answer(&credentials, "GET", b"/dir/index.html", "unused").unwrap();
        assert_eq!(response(&answer), "1949323746fe6a43ef61f9606e7febea");
        assert!(!answer.value().contains("nonce=\"unused\"") && !answer.value().contains("qop"), "{}", answer.value());
    }

    #[test]
    fn both_examples_of_rfc_7616_come_out() {
        let realm = r#"realm="http-auth@example.org", qop="auth, auth-int""#;
        let nonce = r#"nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#;
        let credentials = Credentials { user: "Mufasa", password: "Circle of Life" };
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        for (algorithm, expected) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let asked = www(&format!("Digest {realm}, algorithm={algorithm}, {nonce}")).unwrap();
            let answer = asked.answer(&credentials, "GET", b"/dir/index.html", cnonce).unwrap();
            assert_eq!(response(&answer), expected);
            assert!(answer.value().contains(&format!(", algorithm={algorithm},")), "{}", answer.value());
        }
    }

    #[test]
    fn of_several_challenges_the_first_that_can_be_answered_is_taken() {
        let several = "WWW-Authenticate: Digest realm=\"a\", nonce=\"1\", algorithm=SHA-512-256, Basic realm=\"b\"\r\n\
                       WWW-Authenticate: Digest realm=\"c\",nonce=\"2\",algorithm=SHA-256\r\n\
                       WWW-Authenticate: Digest realm=\"d\", nonce=\"3\"\r\n";
        let taken = challenge(401, several).unwrap();
        assert_eq!((taken.realm().as_str(), taken.algorithm(), taken.is_stale()), ("c", Algorithm::Sha256, false));
    }

    #[test]
    fn a_proxy_is_answered_in_a_header_of_its_own() {
        let asked = challenge(407, "Proxy-Authenticate: digest realm=r, nonce=n, stale=TRUE\r\n").unwrap();
        assert!(asked.is_stale());
        let header = asked.answer(&CIRCLE, "NOTIFY", b"sip:1@h", "c").unwrap().header();
        assert!(header.to_string().starts_with("Proxy-Authorization: Digest username=\"Mufasa\", realm=\"r\""));
        assert_eq!(challenge(407, "WWW-Authenticate: Digest realm=r, nonce=n\r\n"), Err(NotAnswerable::Missing));
    }

    #[test]
    fn what_cannot_be_answered_is_said_and_a_password_never_leaves() {
        for (asked, why) in [
            ("Basic realm=\"r\"", "it asks for Basic, and only Digest does not give the password away"),
            ("Digest realm=\"r\"", "its challenge has no nonce"),
            ("Digest nonce=\"r\"", "its challenge has no realm"),
            ("Digest", "its challenge has no realm"),
            (", ,", "it challenges without saying how"),
            (
                "Digest realm=r,nonce=n,algorithm=MD5-sess",
                "it wants digests by MD5-sess, which is not MD5 and not SHA-256",
            ),
            ("Digest realm=r,nonce=n,qop=auth-int", "it wants a quality of protection (auth-int) other than auth"),
        ] {
            assert_eq!(www(asked).unwrap_err().to_string(), why, "{asked}");
        }
        let evil = Credentials { user: "a\", realm=\"b", password: "s3cret" };
        assert_eq!(www(MUFASA).unwrap().answer(&evil, "NOTIFY", b"sip:1@h", "c"), Err(NotAnswerable::User));
        assert_eq!(format!("{CIRCLE:?}"), "Credentials { user: \"Mufasa\", .. }");
    }

    #[test]
    fn a_realm_goes_back_byte_for_byte() {
        let message = b"SIP/2.0 401 X\r\nWWW-Authenticate: Digest realm=\"a \\\"b\\\" \xfc, c\", nonce=\"\"\r\n\r\n";
        let Ok(Message::Response(response)) = read(message) else { panic!("a response") };
        let asked = Challenge::from_response(&response).unwrap();
        let answer = asked.answer(&CIRCLE, "NOTIFY", b"sip:1@h", "c").unwrap();
        assert!(answer.value().contains("realm=\"a \\\"b\\\" \u{fc}, c\", nonce=\"\""), "{}", answer.value());
    }

    #[test]
    fn the_example_of_rfc_7616_is_by_who_knows_the_password() {
        // Section 3.9.1.
        let said = |algorithm: &str, response: &str| {
            let header = format!(
                "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
                 cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, response=\"{response}\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            Claimed::read(header.as_bytes()).unwrap()
        };
        let md5 = said("MD5", "8ca523f5e9506fed4657c9700eebdbec");
        assert_eq!((md5.user.as_str(), md5.count), ("Mufasa", Some(1)));
        assert!(
            md5.is_by("GET", "Circle of Life")
                && !md5.is_by("GET", "Circle of life")
                && !md5.is_by("HEAD", "Circle of Life")
        );
        let sha = said("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
        assert!(sha.is_by("GET", "Circle of Life"));
        assert_eq!(Claimed::read(b"Basic dTpw"), None);
        assert_eq!(Claimed::read(b"Digest username=\"u\", realm=\"r\""), None);
        assert_eq!(Claimed::read(b""), None);
    }
}
