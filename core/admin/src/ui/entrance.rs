//! The way in: the first password, logging in, and logging out.

use axum::{
    Extension,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use minijinja::context;
use serde::Deserialize;

use super::{
    Encrypted, People, Refusal, Visitor,
    form::{Checked, Fields},
    password::{FILE, LONGEST, SHORTEST},
    session::{Session, Sessions},
    show,
};
use crate::{
    api::{Query, aside},
    problem::Problem,
    serve::Door,
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Next {
    next: String,
}

pub(super) async fn login_page(State(door): State<Door>, Query(Next { next }): Query<Next>) -> Response {
    if !door.people.password.is_set() {
        return Redirect::to("/setup").into_response();
    }
    show("login.html", context! { next, wrong => "", csrf => "", here => "" })
}

pub(super) async fn login(
    State(door): State<Door>,
    Extension(visitor): Extension<Visitor>,
    Extension(encrypted): Extension<Encrypted>,
    fields: Fields,
) -> Result<Response, Refusal> {
    if !door.people.password.is_set() {
        return Ok(Redirect::to("/setup").into_response());
    }
    let again = |status: StatusCode, wrong: String| {
        (status, show("login.html", context! { next => fields.get("next"), wrong, csrf => "", here => "" }))
            .into_response()
    };
    if let Err(wait) = door.people.tries.count(visitor.0) {
        let seconds = wait.as_secs() + 1;
        let mut response =
            again(StatusCode::TOO_MANY_REQUESTS, format!("too many tries; wait {seconds} s before the next"));
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        return Ok(response);
    }
    let given = fields.get("password").to_owned();
    if given.len() > LONGEST || !is_password(&door, given).await? {
        tracing::warn!(peer = %visitor.0, "a login with a wrong password");
        return Ok(again(StatusCode::FORBIDDEN, "this is not the password".to_owned()));
    }
    door.people.tries.forget(visitor.0);
    tracing::info!(peer = %visitor.0, "logged in");
    entered(&door, encrypted, here_only(fields.get("next")))
}

/// Why the password is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotChanged {
    #[error("nobody has set a password yet; the first visit of the pages does")]
    Unset,
    #[error("too many tries; wait {0} s before the next")]
    TooMany(u64),
    #[error("this is not the password")]
    Wrong,
    #[error("a password has {SHORTEST} characters or more, and no more than {LONGEST} bytes")]
    Form,
    #[error("{FILE} in the state directory cannot be read or written: {0}")]
    Unkept(String),
}

impl People {
    /// Puts another password in the place of the old one, which ends every session but that of who does it.
    pub(crate) async fn change_password(
        &self,
        visitor: Visitor,
        session: Option<&Session>,
        old: &str,
        new: &str,
    ) -> Result<(), NotChanged> {
        if !self.password.is_set() {
            return Err(NotChanged::Unset);
        }
        if new.chars().count() < SHORTEST || new.len() > LONGEST {
            return Err(NotChanged::Form);
        }
        self.tries.count(visitor.0).map_err(|wait| NotChanged::TooMany(wait.as_secs() + 1))?;
        let unkept = |error: std::io::Error| NotChanged::Unkept(error.to_string());
        let _turn = self.guesses.acquire().await;
        let (password, old, new) = (self.password.clone(), old.to_owned(), new.to_owned());
        let changed = tokio::task::spawn_blocking(move || match old.len() <= LONGEST && password.is(&old)? {
            true => password.change(&new).map(|()| true),
            false => Ok(false),
        });
        match changed.await.map_err(|error| NotChanged::Unkept(error.to_string()))?.map_err(unkept)? {
            true => {
                self.tries.forget(visitor.0);
                self.sessions.close_others(session);
                tracing::info!(peer = %visitor.0, "the password of the pages was changed; other sessions are over");
                Ok(())
            }
            false => {
                tracing::warn!(peer = %visitor.0, "somebody tried to change the password without knowing it");
                Err(NotChanged::Wrong)
            }
        }
    }
}

async fn is_password(door: &Door, given: String) -> Result<bool, Refusal> {
    let _turn = door.people.guesses.acquire().await;
    let password = door.people.password.clone();
    let unreadable = |error| Problem::internal(format!("{FILE} in the state directory cannot be read: {error}"));
    Ok(aside(move || password.is(&given)).await?.map_err(unreadable)?)
}

/// A place on this server; anything else would send people who just logged in to somebody else's page.
fn here_only(next: &str) -> &str {
    let is_here = next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_here { next } else { "/" }
}

fn entered(door: &Door, encrypted: Encrypted, next: &str) -> Result<Response, Refusal> {
    let cookie = door
        .people
        .sessions
        .open(encrypted.0)
        .map_err(|error| Problem::internal(format!("cannot make a session: {error}")))?;
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response())
}

pub(super) async fn logout(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Extension(encrypted): Extension<Encrypted>,
    Checked(_): Checked,
) -> Response {
    door.people.sessions.close(&session);
    ([(header::SET_COOKIE, Sessions::gone(encrypted.0))], Redirect::to("/login")).into_response()
}

pub(super) async fn setup_page(State(door): State<Door>) -> Response {
    if door.people.password.is_set() {
        return Redirect::to("/login").into_response();
    }
    show("setup.html", context! { wrong => "", shortest => SHORTEST, csrf => "", here => "" })
}

/// The first password. Asks for the key from everybody, also on this machine: that a request comes over loopback is true of every user
/// of the machine and of a proxy on it too.
pub(super) async fn setup(
    State(door): State<Door>,
    Extension(visitor): Extension<Visitor>,
    Extension(encrypted): Extension<Encrypted>,
    fields: Fields,
) -> Result<Response, Refusal> {
    if door.people.password.is_set() {
        return Ok(Redirect::to("/login").into_response());
    }
    let again = |status: StatusCode, wrong: String| {
        let page = show("setup.html", context! { wrong, shortest => SHORTEST, csrf => "", here => "" });
        Ok((status, page).into_response())
    };
    if let Err(wait) = door.people.tries.count(visitor.0) {
        let seconds = wait.as_secs() + 1;
        return again(StatusCode::TOO_MANY_REQUESTS, format!("too many tries; wait {seconds} s before the next"));
    }
    if !door.admin.keys.is_own(fields.get("key")) {
        tracing::warn!(peer = %visitor.0, "somebody without the key tried to set the password");
        return again(StatusCode::FORBIDDEN, "this is not the key that the server wrote at its last start".to_owned());
    }
    let given = fields.get("password").to_owned();
    if given.chars().count() < SHORTEST || given.len() > LONGEST {
        let wrong = format!("a password has {SHORTEST} characters or more, and no more than {LONGEST} bytes");
        return again(StatusCode::UNPROCESSABLE_ENTITY, wrong);
    }
    if given != fields.get("again") {
        return again(StatusCode::UNPROCESSABLE_ENTITY, "the two passwords are not the same".to_owned());
    }
    let _turn = door.people.guesses.acquire().await;
    let password = door.people.password.clone();
    match aside(move || password.set(&given)).await? {
        Ok(()) => {
            door.people.tries.forget(visitor.0);
            tracing::info!(peer = %visitor.0, "the password of the pages was set");
            entered(&door, encrypted, "/")
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Redirect::to("/login").into_response()),
        Err(error) => Err(Problem::internal(format!("cannot write {FILE} in the state directory: {error}")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_away_after_logging_in() {
        assert_eq!(here_only("/devices/02:ac:de:00:00:01?file=a"), "/devices/02:ac:de:00:00:01?file=a");
        for away in ["", "//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb", "javascript:1"] {
            assert_eq!(here_only(away), "/", "{away}");
        }
    }
}
