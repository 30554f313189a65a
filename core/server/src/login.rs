//! Credentials over HTTP: our challenges, and whether what a client says to them was made with the password that it should know.
//!
//! Digest (RFC 7616) with MD5 and SHA-256, Basic (RFC 7617) where the site allows it. A nonce is good for some minutes, for the address
//! that it was given to, and each of its counts once: what somebody recorded is good for nothing.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use headers::{Authorization, Header as _, authorization::Basic};
use hmac::{Hmac, Mac};
use hyper::header::HeaderValue;
use provost_sip::Claimed;
use sha2::Sha256;

use crate::{request::Credentials, same};

/// What phones show people who are to type credentials in.
const REALM: &str = "Provost";
const NONCE: Duration = Duration::from_secs(5 * 60);
/// Nonces whose counts are remembered. Only nonces that somebody answered with a right password take room.
const NONCES: usize = 65_536;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// Nothing was said.
    Missing,
    Good,
    /// Not the user, not the password, or not of this request.
    Wrong,
    /// Right, but of a nonce that is over: the client may say it again with another.
    Stale,
    /// Basic, where only Digest is taken.
    Plain,
}

/// Whose credentials are asked for.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    pub user: &'a str,
    /// Any of them will do.
    pub passwords: [Option<&'a str>; 2],
}

impl fmt::Debug for Account<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub struct Logins {
    /// Of this run alone: a restart makes all nonces stale, which clients mend by themselves.
    key: [u8; 32],
    /// The highest count that was used of each nonce.
    used: Mutex<HashMap<String, u32>>,
}

impl Logins {
    pub fn new() -> Logins {
        let mut key = [0; 32];
        // Without randomness from the kernel nothing here would be safe, and nothing else on the machine either.
        getrandom::fill(&mut key).expect("the kernel gives random bytes");
        Logins { key, used: Mutex::default() }
    }

    pub fn check(
        &self,
        said: Option<&Credentials>,
        account: &Account,
        basic: bool,
        peer: IpAddr,
        now: SystemTime,
    ) -> Login {
        let Some(said) = said else { return Login::Missing };
        let passwords = || account.passwords.into_iter().flatten().filter(|password| !password.is_empty());
        if let Some(plain) = plain(&said.authorization) {
            let is = plain.username() == account.user && passwords().any(|password| same(password, plain.password()));
            return if !basic {
                Login::Plain
            } else if is {
                Login::Good
            } else {
                Login::Wrong
            };
        }
        let Some(claimed) = Claimed::read(said.authorization.as_bytes()) else { return Login::Wrong };
        let is_of_this =
            claimed.user == account.user && claimed.realm == REALM && is_target(&claimed.uri, &said.target);
        if !is_of_this || !passwords().any(|password| claimed.is_by(said.method, password)) {
            return Login::Wrong;
        }
        if !self.is_ours(&claimed.nonce, peer, now) {
            return Login::Stale;
        }
        // From before RFC 2617 there is no count, and so one use.
        let count = claimed.count.unwrap_or(u32::MAX);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= NONCES {
            used.retain(|nonce, _| is_fresh(nonce, now));
        }
        let highest = used.get(&claimed.nonce).copied();
        if highest.map_or(used.len() >= NONCES, |highest| count <= highest) {
            return Login::Stale;
        }
        used.insert(claimed.nonce, count);
        Login::Good
    }

    /// The values of `WWW-Authenticate`, the best first.
    pub fn challenge(&self, stale: bool, basic: bool, peer: IpAddr, now: SystemTime) -> Vec<String> {
        let nonce = self.nonce(seconds(now), peer);
        let stale = if stale { ", stale=true" } else { "" };
        let digest = |algorithm: &str| {
            format!("Digest realm=\"{REALM}\", nonce=\"{nonce}\", qop=\"auth\", algorithm={algorithm}{stale}")
        };
        let basic = basic.then(|| format!("Basic realm=\"{REALM}\""));
        [digest("SHA-256"), digest("MD5")].into_iter().chain(basic).collect()
    }

    fn nonce(&self, issued: u64, peer: IpAddr) -> String {
        let mut tag = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of any length will do");
        tag.update(format!("{issued} {peer}").as_bytes());
        let tag: String = tag.finalize().into_bytes()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{issued:016x}{tag}")
    }

    fn is_ours(&self, nonce: &str, peer: IpAddr, now: SystemTime) -> bool {
        is_fresh(nonce, now) && issued(nonce).is_some_and(|issued| same(&self.nonce(issued, peer), nonce))
    }
}

impl Default for Logins {
    fn default() -> Logins {
        Logins::new()
    }
}

fn plain(authorization: &str) -> Option<Authorization<Basic>> {
    let value = HeaderValue::from_str(authorization).ok()?;
    Authorization::<Basic>::decode(&mut [&value].into_iter()).ok()
}

/// Some clients write the whole URL where the path is meant.
fn is_target(said: &str, target: &str) -> bool {
    let path = said.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    said == target || path.is_some_and(|path| path == target)
}

fn issued(nonce: &str) -> Option<u64> {
    u64::from_str_radix(nonce.get(..16)?, 16).ok()
}

fn is_fresh(nonce: &str, now: SystemTime) -> bool {
    issued(nonce).is_some_and(|issued| seconds(now).abs_diff(issued) <= NONCE.as_secs())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use md5::{Digest, Md5};

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));
    const ACCOUNT: Account = Account { user: "phone", passwords: [Some("new"), Some("old")] };

    fn md5(text: &str) -> String {
        format!("{:x}", Md5::digest(text))
    }

    fn digest(nonce: &str, password: &str, count: u32) -> Credentials {
        let (ha1, ha2) = (md5(&format!("phone:Provost:{password}")), md5("GET:/a.cfg"));
        let response = md5(&format!("{ha1}:{nonce}:{count:08x}:c:auth:{ha2}"));
        let authorization = format!(
            "Digest username=\"phone\", realm=\"Provost\", nonce=\"{nonce}\", uri=\"/a.cfg\", qop=auth, nc={count:08x}, cnonce=\"c\", response=\"{response}\""
        );
        Credentials { method: "GET", target: "/a.cfg".into(), authorization }
    }

    #[test]
    fn an_answer_is_good_once_for_whom_it_was_asked_of_and_for_both_passwords() {
        let (logins, now) = (Logins::new(), SystemTime::now());
        let nonce = logins.nonce(seconds(now), PEER);
        let check = |said: &Credentials, peer, at| logins.check(Some(said), &ACCOUNT, false, peer, at);
        assert_eq!(logins.check(None, &ACCOUNT, true, PEER, now), Login::Missing);
        let first = digest(&nonce, "new", 1);
        assert_eq!(check(&first, PEER, now), Login::Good);
        assert_eq!(check(&first, PEER, now), Login::Stale);
        assert_eq!(check(&digest(&nonce, "old", 2), PEER, now), Login::Good);
        assert_eq!(check(&digest(&nonce, "other", 3), PEER, now), Login::Wrong);
        assert_eq!(check(&digest(&nonce, "new", 4), [10, 0, 0, 8].into(), now), Login::Stale);
        assert_eq!(check(&digest(&nonce, "new", 4), PEER, now + 2 * NONCE), Login::Stale);
        assert_eq!(check(&digest(&Logins::new().nonce(seconds(now), PEER), "new", 1), PEER, now), Login::Stale);
        let elsewhere = Credentials { target: "/b.cfg".into(), ..digest(&nonce, "new", 5) };
        assert_eq!(check(&elsewhere, PEER, now), Login::Wrong);
    }

    #[test]
    fn basic_is_taken_where_it_may_be() {
        let (logins, now) = (Logins::new(), SystemTime::now());
        // phone:old
        let said = Credentials { method: "GET", target: "/a.cfg".into(), authorization: "Basic cGhvbmU6b2xk".into() };
        assert_eq!(logins.check(Some(&said), &ACCOUNT, true, PEER, now), Login::Good);
        assert_eq!(logins.check(Some(&said), &ACCOUNT, false, PEER, now), Login::Plain);
        let nobody = Account { user: "phone", passwords: [Some(""), None] };
        assert_eq!(logins.check(Some(&said), &nobody, true, PEER, now), Login::Wrong);
        assert_eq!(logins.challenge(true, true, PEER, now).len(), 3);
    }
}
