//! A phone that wants to know who orders it about: it challenges by Digest (RFC 2617, RFC 7616) and judges the answer.
//!
//! By its own reading of the RFCs and not by the server's, so that the two do not share a mistake.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
};

use md5::{Digest as _, Md5};
use provost_plugin::model::Secret;
use serde::Serialize;
use sha2::Sha256;

use crate::sip::Message;

/// The realm of all simulated phones. No server's name, so that nobody finds the account by it.
const REALM: &str = "simulated phone";

/// Whose password an order has to prove, and by which hash.
#[derive(Clone, Debug)]
pub struct Challenge {
    pub user: String,
    pub password: Secret,
    pub algorithm: Algorithm,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    #[default]
    Md5,
    Sha256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    fn hash(self, text: &str) -> String {
        match self {
            Algorithm::Md5 => format!("{:x}", Md5::digest(text)),
            Algorithm::Sha256 => format!("{:x}", Sha256::digest(text)),
        }
    }
}

/// An order that was challenged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Challenged {
    pub event: String,
    #[serde(flatten)]
    pub proof: Proof,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "proof", content = "why")]
pub enum Proof {
    /// Nothing came back after the challenge.
    None,
    Right,
    Wrong(String),
}

impl fmt::Display for Challenged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was challenged, and ", self.event)?;
        match &self.proof {
            Proof::None => f.write_str("nobody answered"),
            Proof::Right => f.write_str("the answer was right"),
            Proof::Wrong(why) => write!(f, "the answer was wrong: {why}"),
        }
    }
}

/// Judges orders, each by its Call-ID.
#[derive(Debug)]
pub(crate) struct Guard {
    challenge: Challenge,
    random: RandomState,
    count: u64,
    /// Of each call the nonce that it has to answer, and its place among the challenged.
    calls: HashMap<String, (String, usize)>,
    pub(crate) challenged: Vec<Challenged>,
}

impl Guard {
    pub(crate) fn new(challenge: Challenge) -> Guard {
        Guard { challenge, random: RandomState::new(), count: 0, calls: HashMap::new(), challenged: Vec::new() }
    }

    /// Whether the order may be obeyed; if not, the header of the 401 that says what is wanted.
    pub(crate) fn admit(&mut self, order: &Message) -> Result<(), String> {
        let call = order.header("Call-ID").unwrap_or_default().to_owned();
        let proof = match (order.header("Authorization"), self.calls.get(&call)) {
            (None, _) => Proof::None,
            (Some(_), None) => Proof::Wrong("it answers a challenge that was not made".into()),
            (Some(answer), Some((nonce, _))) => match self.judge(answer, nonce, order.target()) {
                Ok(()) => Proof::Right,
                Err(why) => Proof::Wrong(why),
            },
        };
        let place = self.calls.get(&call).map(|(_, place)| *place);
        let place = place.unwrap_or_else(|| {
            let event = order.header("Event").unwrap_or_default().to_owned();
            self.challenged.push(Challenged { event, proof: Proof::None });
            self.challenged.len() - 1
        });
        self.challenged[place].proof = proof;
        if self.challenged[place].proof == Proof::Right {
            return Ok(());
        }
        self.count += 1;
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(self.count);
        let nonce = format!("{:016x}", hasher.finish());
        let algorithm = self.challenge.algorithm.name();
        let asked = format!(
            "WWW-Authenticate: Digest realm=\"{REALM}\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\"\r\n"
        );
        self.calls.insert(call, (nonce, place));
        Err(asked)
    }

    fn judge(&self, answer: &str, nonce: &str, target: &str) -> Result<(), String> {
        let given = parameters(answer).ok_or("it is no Digest")?;
        let get = |name: &str| {
            given.get(name).map(|(value, _)| value.as_str()).ok_or_else(|| format!("it does not say its {name}"))
        };
        let Challenge { user, password, algorithm } = &self.challenge;
        for (name, expected) in [
            ("username", user.as_str()),
            ("realm", REALM),
            ("nonce", nonce),
            ("uri", target),
            ("algorithm", algorithm.name()),
            ("qop", "auth"),
        ] {
            let got = get(name)?;
            if got != expected {
                return Err(format!("its {name} is {got:?} and should be {expected:?}"));
            }
        }
        // RFC 7616 §3.4 is strict about which values are quoted, and so are some phones.
        if let Some((name, _)) = given
            .iter()
            .find(|(name, (_, quoted))| *quoted == matches!(name.as_str(), "algorithm" | "qop" | "nc" | "stale"))
        {
            return Err(format!("its {name} is quoted, or not, against the rule"));
        }
        let (count, cnonce) = (get("nc")?, get("cnonce")?);
        if count.len() != 8 || u32::from_str_radix(count, 16).is_err() {
            return Err(format!("its nc is {count:?}, which is not eight hex digits"));
        }
        let ha1 = algorithm.hash(&format!("{user}:{REALM}:{}", password.expose()));
        let ha2 = algorithm.hash(&format!("NOTIFY:{target}"));
        let expected = algorithm.hash(&format!("{ha1}:{nonce}:{count}:{cnonce}:auth:{ha2}"));
        if get("response")? == expected { Ok(()) } else { Err("its digest is that of another password".into()) }
    }
}

/// Name → value, and whether that was quoted.
fn parameters(answer: &str) -> Option<HashMap<String, (String, bool)>> {
    let mut rest = answer.strip_prefix("Digest ")?.trim_start();
    let mut found = HashMap::new();
    while !rest.is_empty() {
        let (name, behind) = rest.split_once('=')?;
        let (value, quoted, behind) = match behind.strip_prefix('"') {
            Some(inside) => {
                let (value, behind) = inside.split_once('"')?;
                (value, true, behind)
            }
            None => {
                let end = behind.find(',').unwrap_or(behind.len());
                (behind[..end].trim_end(), false, &behind[end..])
            }
        };
        found.insert(name.trim().to_ascii_lowercase(), (value.to_owned(), quoted));
        rest = behind.trim_start().trim_start_matches(',').trim_start();
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(algorithm: Algorithm) -> Guard {
        Guard::new(Challenge { user: "Mufasa".into(), password: Secret::new("Circle of Life"), algorithm })
    }

    fn order(call: &str, authorization: Option<&str>) -> Message {
        let authorization = authorization.map(|answer| format!("Authorization: {answer}\r\n")).unwrap_or_default();
        let text = format!(
            "NOTIFY sip:101@h SIP/2.0\r\nCall-ID: {call}\r\nEvent: check-sync\r\n{authorization}Content-Length: 0\r\n\r\n"
        );
        Message::read(text.as_bytes()).unwrap()
    }

    fn nonce(asked: &str) -> &str {
        asked.split('"').nth(3).unwrap()
    }

    fn answered(algorithm: Algorithm, nonce: &str, password: &str) -> String {
        let ha1 = algorithm.hash(&format!("Mufasa:{REALM}:{password}"));
        let ha2 = algorithm.hash("NOTIFY:sip:101@h");
        let response = algorithm.hash(&format!("{ha1}:{nonce}:00000001:c:auth:{ha2}"));
        format!(
            "Digest username=\"Mufasa\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"sip:101@h\", response=\"{response}\", \
             algorithm={}, qop=auth, nc=00000001, cnonce=\"c\"",
            algorithm.name()
        )
    }

    #[test]
    fn hashes_are_those_of_the_rfcs() {
        // RFC 7616 §3.9.1.
        for (algorithm, expected) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let ha1 = algorithm.hash("Mufasa:http-auth@example.org:Circle of Life");
            let ha2 = algorithm.hash("GET:/dir/index.html");
            let (nonce, cnonce) =
                ("7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ");
            assert_eq!(algorithm.hash(&format!("{ha1}:{nonce}:00000001:{cnonce}:auth:{ha2}")), expected);
        }
    }

    #[test]
    fn an_order_is_obeyed_once_it_proves_the_password() {
        for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
            let mut guard = guard(algorithm);
            let asked = guard.admit(&order("1", None)).unwrap_err();
            assert_eq!(guard.challenged[0].to_string(), "check-sync was challenged, and nobody answered");
            let wrong = answered(algorithm, nonce(&asked), "Hakuna Matata");
            let again = guard.admit(&order("1", Some(&wrong))).unwrap_err();
            assert_ne!(nonce(&asked), nonce(&again));
            assert_eq!(guard.challenged[0].proof, Proof::Wrong("its digest is that of another password".into()));
            let right = answered(algorithm, nonce(&again), "Circle of Life");
            assert_eq!(guard.admit(&order("1", Some(&right))), Ok(()));
            assert_eq!(guard.challenged.len(), 1);
            assert_eq!(guard.challenged[0].proof, Proof::Right);
        }
    }

    #[test]
    fn every_deviation_is_named() {
        for (from, to, why) in [
            ("Digest", "Basic", "it is no Digest"),
            ("\"Mufasa\"", "\"Scar\"", "its username is \"Scar\" and should be \"Mufasa\""),
            ("uri=\"sip:101@h\"", "uri=\"sip:102@h\"", "its uri is \"sip:102@h\" and should be \"sip:101@h\""),
            (", qop=auth", "", "it does not say its qop"),
            ("qop=auth", "qop=\"auth\"", "its qop is quoted, or not, against the rule"),
            ("nc=00000001", "nc=1", "its nc is \"1\", which is not eight hex digits"),
            ("algorithm=MD5", "algorithm=SHA256", "its algorithm is \"SHA256\" and should be \"MD5\""),
        ] {
            let mut guard = guard(Algorithm::Md5);
            let asked = guard.admit(&order("1", None)).unwrap_err();
            let answer = answered(Algorithm::Md5, nonce(&asked), "Circle of Life");
            assert!(answer.contains(from), "{from} in {answer}");
            guard.admit(&order("1", Some(&answer.replace(from, to)))).unwrap_err();
            assert_eq!(guard.challenged[0].proof, Proof::Wrong(why.into()));
        }
        let mut guard = guard(Algorithm::Md5);
        guard.admit(&order("1", Some("Digest x=y"))).unwrap_err();
        let shown = serde_json::to_value(&guard.challenged).unwrap();
        assert_eq!(shown[0]["event"], "check-sync");
        assert_eq!((shown[0]["proof"].as_str(), shown[0]["why"].is_string()), (Some("wrong"), true));
    }
}
