//! Who is logged in, and who has tried too often. In memory alone: a restart logs everybody out.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use super::password::hex;

const COOKIE: &str = "provost_session";
const SESSIONS: usize = 1000;
/// Not used for so long, a session is over.
const IDLE: Duration = Duration::from_secs(12 * 3600);

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    id: [u8; 32],
    /// What every form and every script must bring along, to show that it is one of our pages.
    pub(crate) csrf: String,
}

impl Session {
    /// Whether a form or script of this session's pages brought this token.
    pub(crate) fn issued(&self, token: &str) -> bool {
        // By digest: how long that takes says nothing of the token.
        Sha256::digest(token) == Sha256::digest(&self.csrf)
    }
}

/// The sessions: digest of the cookie → its token and when it was last used.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<[u8; 32], (String, Instant)>>);

impl Sessions {
    /// A new session: the value of `Set-Cookie`. Of too many, the one that was idle longest ends.
    /// One that was opened over an encrypted way is told over no other.
    pub(crate) fn open(&self, encrypted: bool) -> Result<String, getrandom::Error> {
        let mut random = [0; 64];
        getrandom::fill(&mut random)?;
        let (cookie, csrf) = (hex(&random[..32]), hex(&random[32..]));
        let mut kept = lock(&self.0);
        kept.retain(|_, (_, used)| used.elapsed() < IDLE);
        if kept.len() >= SESSIONS {
            let oldest = kept.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            oldest.map(|id| kept.remove(&id));
        }
        kept.insert(Sha256::digest(&cookie).into(), (csrf, Instant::now()));
        Ok(format!("{COOKIE}={cookie}; HttpOnly; SameSite=Strict; Path=/{}", secure(encrypted)))
    }

    /// Whose request this is. A page that only refreshes itself does not count as `used`.
    pub(crate) fn find(&self, headers: &HeaderMap, used: bool) -> Option<Session> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let ours = cookies.flat_map(|all| all.split(';')).filter_map(|one| one.trim().split_once('='));
        let mut kept = lock(&self.0);
        ours.filter(|(name, _)| *name == COOKIE).find_map(|(_, cookie)| {
            let id: [u8; 32] = Sha256::digest(cookie).into();
            let (csrf, last) = kept.get_mut(&id).filter(|(_, last)| last.elapsed() < IDLE)?;
            if used {
                *last = Instant::now();
            }
            Some(Session { id, csrf: csrf.clone() })
        })
    }

    pub(crate) fn is_open(&self, session: &Session) -> bool {
        lock(&self.0).get(&session.id).is_some_and(|(_, last)| last.elapsed() < IDLE)
    }

    pub(crate) fn close(&self, session: &Session) {
        lock(&self.0).remove(&session.id);
    }

    /// Ends every session but this one.
    pub(crate) fn close_others(&self, session: Option<&Session>) {
        lock(&self.0).retain(|id, _| session.is_some_and(|session| session.id == *id));
    }

    /// The value of `Set-Cookie` that takes the cookie back.
    pub(crate) fn gone(encrypted: bool) -> String {
        format!("{COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0{}", secure(encrypted))
    }
}

fn secure(encrypted: bool) -> &'static str {
    if encrypted { "; Secure" } else { "" }
}

/// Tries that cost nothing; each further one doubles the wait.
const FREE: u32 = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const ADDRESSES: usize = 1024;
/// Then the failures of an address are forgotten.
const PARDON: Duration = Duration::from_secs(15 * 60);

/// Who tried in vain how often, by address.
#[derive(Debug, Default)]
pub(crate) struct Tries(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl Tries {
    /// Counts a try before it is looked at, so that many at once are no way around; or tells how long to wait.
    pub(crate) fn count(&self, address: IpAddr) -> Result<(), Duration> {
        let (mut kept, now) = (lock(&self.0), Instant::now());
        kept.retain(|_, (_, last)| now.duration_since(*last) < PARDON);
        let address = household(address);
        if kept.len() >= ADDRESSES && !kept.contains_key(&address) {
            let oldest = kept.iter().min_by_key(|(_, (_, last))| *last).map(|(address, _)| *address);
            oldest.map(|address| kept.remove(&address));
        }
        let (tries, last) = kept.entry(address).or_insert((0, now));
        let wait = match tries.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(over) => Duration::from_secs(1 << over.min(6)).min(LONGEST_WAIT),
        };
        match wait.checked_sub(now.duration_since(*last)) {
            Some(left) if !left.is_zero() => Err(left),
            _ => {
                (*tries, *last) = (tries.saturating_add(1), now);
                Ok(())
            }
        }
    }

    /// It was the right one after all.
    pub(crate) fn forget(&self, address: IpAddr) {
        lock(&self.0).remove(&household(address));
    }
}

/// A subscriber of IPv6 has a network of addresses.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        four => four,
    }
}

/// A panic elsewhere leaves each entry whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(cookie: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, cookie.parse().unwrap())])
    }

    #[test]
    fn a_session_lives_by_its_cookie_until_it_is_closed() {
        let sessions = Sessions::default();
        let set = sessions.open(false).unwrap();
        assert!(set.ends_with("; HttpOnly; SameSite=Strict; Path=/"), "{set}");
        assert!(
            sessions.open(true).unwrap().ends_with("; Path=/; Secure") && Sessions::gone(true).ends_with("; Secure")
        );
        let cookie = set.split(';').next().unwrap();
        let session = sessions.find(&with(&format!("other=1; {cookie}")), true).unwrap();
        assert!(session.issued(&session.csrf) && !session.issued("") && !cookie.contains(&session.csrf));
        assert!(sessions.find(&with("provost_session=guess"), true).is_none());
        let other = sessions.open(false).unwrap();
        sessions.close_others(Some(&session));
        assert!(sessions.is_open(&session) && sessions.find(&with(other.split(';').next().unwrap()), true).is_none());
        sessions.close(&session);
        assert!(sessions.find(&with(cookie), true).is_none() && !sessions.is_open(&session));
    }

    #[test]
    fn there_are_no_more_sessions_than_fit() {
        let sessions = Sessions::default();
        let first = sessions.open(false).unwrap();
        for _ in 0..SESSIONS {
            sessions.open(false).unwrap();
        }
        assert_eq!(lock(&sessions.0).len(), SESSIONS);
        assert!(sessions.find(&with(first.split(';').next().unwrap()), true).is_none());
    }

    #[test]
    fn who_guesses_waits_and_others_do_not() {
        let tries = Tries::default();
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for _ in 0..FREE {
            assert_eq!(tries.count(one), Ok(()));
        }
        assert!(tries.count(one).is_err() && tries.count("::ffff:10.0.0.1".parse().unwrap()).is_err());
        assert_eq!(tries.count(other), Ok(()));
        tries.forget(one);
        assert_eq!(tries.count(one), Ok(()));
        for last in 0..3000_u32 {
            let _ = tries.count(IpAddr::from((0x0b00_0000 + last).to_be_bytes()));
        }
        assert!(lock(&tries.0).len() <= ADDRESSES);
        assert_eq!(household("2001:db8:1:2:3::9".parse().unwrap()), household("2001:db8:1:2::7".parse().unwrap()));
    }
}
