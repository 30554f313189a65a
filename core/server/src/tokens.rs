//! Tokens: the part of a phone's URLs that nobody guesses.
//!
//! A NOTIFY carries a first token, good for a quarter of an hour, or for five minutes from the address that used it first. The files
//! that are fetched with it carry the steady token of the phone, so that it needs no further NOTIFY. Both are made of a key of this
//! server and the phone's MAC address; nothing is kept of them but the key and how often a phone's were revoked. So the same phone
//! gets the same files after a restart. What is forgotten over a restart is who used a first token.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use hmac::{Hmac, Mac};
use provost_plugin::MacAddr;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{edit, same};

/// Below the state directory.
const FILE: &str = "tokens.json";
/// How long a phone may take from the NOTIFY to its first fetch.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// How long a phone may take from its first file to its last.
const BOOT: Duration = Duration::from_secs(5 * 60);
/// First tokens whose use is remembered.
const USED: usize = 65_536;
/// A letter for the kind, and 128 bits in hexadecimal digits.
const LENGTH: usize = 33;
/// In front of a first token's digits, and of a steady one's.
const FIRST: char = 't';
const STEADY: char = 's';
/// What is shown in place of a token.
pub const MASK: &str = "•••";

/// What makes two first tokens of the same phone and second differ: one of them may have been told to somebody else.
type Salt = [u8; 3];

/// What a phone's token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It shows none.
    None,
    Good,
    /// A first token that was good once.
    Over,
    /// It is another phone's, revoked, or made up.
    Wrong,
}

#[derive(Debug, thiserror::Error)]
#[error("{act} {}, which holds the key of the phones' tokens: {error}", path.display())]
pub struct TokenError {
    act: &'static str,
    path: PathBuf,
    error: io::Error,
}

pub struct Tokens {
    path: PathBuf,
    /// Read, or made, when the first token is wanted.
    kept: Mutex<Option<Kept>>,
    used: Mutex<HashMap<(MacAddr, u32, Salt), Use>>,
    revoked: AtomicU64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    /// 64 hexadecimal digits.
    key: String,
    /// How often a phone's tokens were revoked.
    revoked: BTreeMap<MacAddr, u64>,
}

#[derive(Clone, Copy)]
struct Use {
    by: IpAddr,
    since: SystemTime,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Those whose key is kept below this directory.
    pub fn of(state: &Path) -> Tokens {
        Tokens { path: state.join(FILE), kept: Mutex::default(), used: Mutex::default(), revoked: AtomicU64::new(0) }
    }

    /// Those of a key that everybody knows, for tests of what files say.
    pub fn for_show() -> Tokens {
        let kept = Kept { key: "0".repeat(64), revoked: BTreeMap::new() };
        Tokens {
            path: PathBuf::new(),
            kept: Mutex::new(Some(kept)),
            used: Mutex::default(),
            revoked: AtomicU64::new(0),
        }
    }

    /// The token for a phone that is told its URL now.
    pub fn first(&self, mac: MacAddr, now: SystemTime) -> Result<String, TokenError> {
        let mut salt = Salt::default();
        getrandom::fill(&mut salt).map_err(|error| self.wrong("cannot salt a token of", io::Error::other(error)))?;
        self.first_of(mac, seconds(now), salt)
    }

    fn first_of(&self, mac: MacAddr, issued: u32, salt: Salt) -> Result<String, TokenError> {
        let tag = self.tag(&["first", &mac.bare(), &issued.to_string(), &hex(&salt)], mac)?;
        Ok(format!("{FIRST}{issued:08x}{}{}", hex(&salt), hex(&tag[..9])))
    }

    /// The token that a phone's own files hold.
    pub fn steady(&self, mac: MacAddr) -> Result<String, TokenError> {
        let tag = self.tag(&["steady", &mac.bare()], mac)?;
        Ok(format!("{STEADY}{}", hex(&tag[..16])))
    }

    /// What a token is worth that a phone shows from an address. The first use of a first token is remembered.
    pub fn worth(&self, shown: Option<&str>, mac: MacAddr, by: IpAddr, now: SystemTime) -> Result<Worth, TokenError> {
        let Some(shown) = shown else { return Ok(Worth::None) };
        if shown.starts_with(STEADY) {
            return Ok(if same(shown, &self.steady(mac)?) { Worth::Good } else { Worth::Wrong });
        }
        let number = |digits| shown.get(digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let (Some(issued), Some(salt)) = (number(1..9), number(9..15)) else {
            return Ok(Worth::Wrong);
        };
        let [_, salt @ ..] = salt.to_be_bytes();
        if !same(shown, &self.first_of(mac, issued, salt)?) {
            return Ok(Worth::Wrong);
        }
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(issued));
        let age = apart(now, then);
        let mut used = lock(&self.used);
        if let Some(first) = used.get(&(mac, issued, salt)) {
            let is_booting = apart(now, first.since) <= BOOT;
            return Ok(if first.by == by && is_booting { Worth::Good } else { Worth::Over });
        }
        if age > FRESH {
            return Ok(Worth::Over);
        }
        if used.len() >= USED {
            let is_over = |issued: u32| seconds(now).saturating_sub(issued) > (FRESH + BOOT).as_secs() as u32;
            used.retain(|(_, issued, _), _| !is_over(*issued));
            if used.len() >= USED {
                // Whoever fills this has good tokens; one that cannot be remembered could be used by two.
                return Ok(Worth::Over);
            }
        }
        used.insert((mac, issued, salt), Use { by, since: now });
        Ok(Worth::Good)
    }

    /// From now on all tokens that a phone was given are wrong.
    pub fn revoke(&self, mac: MacAddr) -> Result<(), TokenError> {
        let mut kept = self.kept()?;
        let Some(kept) = kept.as_mut() else { return Ok(()) };
        let mut next = kept.clone();
        *next.revoked.entry(mac).or_default() += 1;
        if !self.path.as_os_str().is_empty() {
            let text = serde_json::to_string_pretty(&next).unwrap_or_default();
            edit::write(&self.path, Some(text.as_bytes()), 0o600).map_err(|error| self.wrong("cannot write", error))?;
        }
        *kept = next;
        self.revoked.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// How often tokens were revoked since the start: as long as that stays, a phone's steady token does.
    pub(crate) fn revoked(&self) -> u64 {
        self.revoked.load(Ordering::Acquire)
    }

    fn tag(&self, words: &[&str], mac: MacAddr) -> Result<[u8; 32], TokenError> {
        let kept = self.kept()?;
        // It was read or made just now.
        let (key, revoked) =
            kept.as_ref().map_or(("", 0), |kept| (&kept.key, kept.revoked.get(&mac).copied().unwrap_or_default()));
        let mut tag = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length will do");
        for word in words {
            tag.update(word.as_bytes());
            tag.update(b" ");
        }
        tag.update(&revoked.to_be_bytes());
        Ok(tag.finalize().into_bytes().into())
    }

    fn kept(&self) -> Result<MutexGuard<'_, Option<Kept>>, TokenError> {
        let mut kept = lock(&self.kept);
        if kept.is_none() {
            *kept = Some(self.read_or_make()?);
        }
        Ok(kept)
    }

    fn read_or_make(&self) -> Result<Kept, TokenError> {
        match self.read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read.map_err(|error| self.wrong("cannot read", error)),
        }
        self.make().map_err(|error| self.wrong("cannot make", error))?;
        self.read().map_err(|error| self.wrong("cannot read", error))
    }

    fn read(&self) -> io::Result<Kept> {
        let kept: Kept = serde_json::from_slice(&fs::read(&self.path)?).map_err(io::Error::other)?;
        let is_key = kept.key.len() == 64 && kept.key.bytes().all(|digit| digit.is_ascii_hexdigit());
        if is_key { Ok(kept) } else { Err(io::Error::other("its key is not 64 hexadecimal digits")) }
    }

    /// Of two who make one at the same time, the first one's stays.
    fn make(&self) -> io::Result<()> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        let text = serde_json::to_string_pretty(&Kept { key: hex(&key), revoked: BTreeMap::new() })?;
        match provost_fleet::keep(&self.path, &text) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    fn wrong(&self, act: &'static str, error: io::Error) -> TokenError {
        TokenError { act, path: self.path.clone(), error }
    }
}

/// The token that a path begins with, and the rest.
pub fn split(path: &str) -> (Option<&str>, &str) {
    match path.split_once('/') {
        Some((token, rest)) if is_token(token) => (Some(token), rest.trim_start_matches('/')),
        _ => (None, path),
    }
}

/// A base URL with a token in it.
pub fn with(base_url: &str, token: &str) -> String {
    format!("{base_url}{token}/")
}

/// A text with every token in it masked: for logs and people.
pub fn masked(text: &str) -> std::borrow::Cow<'_, str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric();
    if !text.split(|letter| !is_part(letter)).any(is_token) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        shown.push_str(if is_token(&rest[..word]) { MASK } else { &rest[..word] });
        let next = rest[word..].find(is_part).map_or(rest.len(), |gap| word + gap);
        shown.push_str(&rest[word..next]);
        rest = &rest[next..];
    }
    shown.into()
}

fn is_token(word: &str) -> bool {
    word.len() == LENGTH
        && word.starts_with([FIRST, STEADY])
        && word[1..].bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// Time between the two, whichever came first: a token of a time that the clock has left again is none of now.
fn apart(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|before| before.duration())
}

fn seconds(time: SystemTime) -> u32 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const MAC: MacAddr = MacAddr::new([0, 4, 0x13, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr::new([0, 4, 0x13, 0, 0, 2]);

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn a_first_token_is_good_for_one_boot_of_one_address() {
        let tokens = Tokens::for_show();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let later = |seconds| start + Duration::from_secs(seconds);
        let token = tokens.first(MAC, start).unwrap();
        assert!(is_token(&token), "{token}");
        let worth = |mac, by, at| tokens.worth(Some(&token), mac, address(by), later(at)).unwrap();
        assert_ne!(tokens.first(MAC, start).unwrap(), token, "whoever else asks in that second gets another");
        assert_eq!(worth(OTHER, 7, 1), Worth::Wrong);
        assert_eq!(worth(MAC, 7, 800), Worth::Good);
        assert_eq!(worth(MAC, 8, 801), Worth::Over);
        assert_eq!((worth(MAC, 7, 1_099), worth(MAC, 7, 1_101)), (Worth::Good, Worth::Over));
        let late = tokens.first(MAC, start + Duration::from_secs(5)).unwrap();
        assert_eq!(tokens.worth(Some(&late), MAC, address(7), later(1_000)).unwrap(), Worth::Over);
        assert_eq!(tokens.worth(None, MAC, address(7), start).unwrap(), Worth::None);
        // The clock was ahead, and is back.
        let ahead = tokens.first(MAC, later(40_000_000)).unwrap();
        assert_eq!(tokens.worth(Some(&ahead), MAC, address(7), later(1_000)).unwrap(), Worth::Over);
        let forged = format!("t{}", "0".repeat(32));
        assert_eq!(tokens.worth(Some(&forged), MAC, address(7), start).unwrap(), Worth::Wrong);
    }

    #[test]
    fn the_steady_token_is_the_same_after_a_restart_until_it_is_revoked() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let token = Tokens::of(&state).steady(MAC).unwrap();
        let tokens = Tokens::of(&state);
        assert_eq!(tokens.steady(MAC).unwrap(), token);
        assert_ne!(tokens.steady(OTHER).unwrap(), token);
        assert_eq!(fs::metadata(state.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        tokens.revoke(MAC).unwrap();
        let worth = |tokens: &Tokens| tokens.worth(Some(&token), MAC, address(7), SystemTime::now()).unwrap();
        assert_eq!((worth(&tokens), worth(&Tokens::of(&state))), (Worth::Wrong, Worth::Wrong));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_cannot_be_read_is_an_error_and_not_another_key() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "{\"key\": \"short\", \"revoked\": {}}").unwrap();
        let error = Tokens::of(directory.path()).steady(MAC).unwrap_err().to_string();
        assert!(error.contains("tokens.json") && error.contains("64 hexadecimal digits"), "{error}");
    }

    #[test]
    fn tokens_are_found_in_paths_and_masked_in_texts() {
        let token = Tokens::for_show().steady(MAC).unwrap();
        assert_eq!(split(&format!("{token}/a/b.cfg")), (Some(&*token), "a/b.cfg"));
        assert_eq!(split("firmware/a.bin"), (None, "firmware/a.bin"));
        assert_eq!(split(&token), (None, &*token));
        let text = format!("<url>http://10.0.0.1:8080/{token}/</url> ä {token}");
        assert_eq!(masked(&text), "<url>http://10.0.0.1:8080/•••/</url> ä •••");
        assert_eq!(masked("http://10.0.0.1/a"), "http://10.0.0.1/a");
    }
}
