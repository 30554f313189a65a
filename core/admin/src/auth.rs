//! Who may do what with the API. A request carries a key (`Authorization: Bearer …`), and a key has a scope; or the session of somebody
//! who is logged in at the pages, who may do everything. The server makes one key of every scope
//! at each start and writes it where only its own user can read it: whoever can read that file can read the passwords in the profiles
//! anyway. Further keys are made by hand; of those only the digest is kept.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{problem::Problem, serve::Door, ui::hex};

/// What a key allows. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// To see everything but passwords.
    Read,
    /// To make phones fetch again, to approve and to ignore them.
    Operate,
    /// To read and change what phones are, passwords included.
    Admin,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {}: {error}", path.display())]
pub struct KeysError {
    act: &'static str,
    path: PathBuf,
    error: io::Error,
}

/// The keys that open the door: digest → scope.
#[derive(Debug)]
pub struct Keys {
    known: Mutex<BTreeMap<[u8; 32], Scope>>,
}

impl Keys {
    /// Makes a key of every scope and writes it to `path`, for the command line on this machine.
    pub fn make(path: &Path) -> Result<Keys, KeysError> {
        let fail = |act| {
            let path = path.to_owned();
            move |error| KeysError { act, path, error }
        };
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| fail("make a key for")(io::Error::other(error)))?;
        let key = hex(&random);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(fail("make the directory of"))?;
        }
        let temporary = path.with_extension("new");
        // Of an earlier try that was cut short, maybe with other rights.
        let _ = fs::remove_file(&temporary);
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| writeln!(file, "{key}"))
            .and_then(|()| fs::rename(&temporary, path))
            .map_err(fail("write the key"))?;
        Ok(Keys { known: Mutex::new(BTreeMap::from([(digest(&key), Scope::Admin)])) })
    }

    pub(crate) fn is_admin(&self, key: &str) -> bool {
        self.scope(key) == Some(Scope::Admin)
    }

    fn scope(&self, key: &str) -> Option<Scope> {
        // Compared by digest: how long that takes says nothing of the key.
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&digest(key)).copied()
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.trim().as_bytes()).into()
}

/// What a request needs.
fn needs(method: &Method, path: &str) -> Option<Scope> {
    match path {
        // For load balancers and for those who write programs: nothing of the phones is in there.
        "/healthz" | "/readyz" | "/api/v1/openapi.json" => None,
        _ if path.ends_with("/source") || path.ends_with("/export") => Some(Scope::Admin),
        // Profiles as they are written.
        _ if path.starts_with("/api/v1/files/") => Some(Scope::Admin),
        _ if method == Method::GET || method == Method::HEAD => Some(Scope::Read),
        _ if path.starts_with("/api/v1/rollouts") => Some(Scope::Operate),
        _ if ["/ignore", "/resync", "/notify"].iter().any(|end| path.ends_with(end)) => Some(Scope::Operate),
        _ => Some(Scope::Admin),
    }
}

/// Lets through who may, and tells the others what is missing.
pub(crate) async fn guard(State(door): State<Door>, request: Request, next: Next) -> Response {
    let Some(needed) = needs(request.method(), request.uri().path()) else { return next.run(request).await };
    let key = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    // A script of our own pages comes with the cookie of who is logged in. Another site's page can make a browser send that cookie
    // too, but cannot read the token.
    if key.is_none()
        && let Some(session) = door.people.sessions.find(request.headers(), true)
    {
        let is_reading = request.method() == Method::GET || request.method() == Method::HEAD;
        let token = request.headers().get("x-csrf-token").and_then(|value| value.to_str().ok());
        if is_reading || token.is_some_and(|token| session.issued(token)) {
            return next.run(request).await;
        }
        return Problem::new(StatusCode::FORBIDDEN, "with a session it takes the header X-CSRF-Token").into_response();
    }
    let scope = key.and_then(|key| door.admin.keys.scope(key));
    match scope {
        Some(scope) if scope >= needed => next.run(request).await,
        Some(_) => Problem::new(
            StatusCode::FORBIDDEN,
            format!("this key does not allow it; it takes the scope {needed:?}").to_lowercase(),
        )
        .into_response(),
        None => {
            let detail = match key {
                Some(_) => "this key is not known; the server makes a new one at each start, in state/admin.key",
                None => {
                    "a key is needed: Authorization: Bearer KEY, with the key in state/admin.key, or a session of the pages"
                }
            };
            let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_for_its_owner_alone_and_opens_the_door() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/admin.key");
        let old = Keys::make(&path).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        let keys = Keys::make(&path).unwrap();
        let key = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(keys.scope(&key), Some(Scope::Admin));
        assert_eq!((keys.scope(&first), keys.scope("")), (None, None));
        assert_eq!(old.scope(&first), Some(Scope::Admin));
        assert!(!format!("{keys:?}").contains(key.trim()));
    }

    #[test]
    fn what_shows_passwords_takes_more_than_reading() {
        assert_eq!(needs(&Method::GET, "/api/v1/devices"), Some(Scope::Read));
        assert_eq!(needs(&Method::GET, "/api/v1/devices/02005e000001/source"), Some(Scope::Admin));
        assert_eq!(needs(&Method::POST, "/api/v1/devices/02005e000001/resync"), Some(Scope::Operate));
        assert_eq!(needs(&Method::POST, "/api/v1/devices/02005e000001/approve"), Some(Scope::Admin));
        assert_eq!(needs(&Method::GET, "/healthz"), None);
    }
}
