//! Keys for programs, and another password: who gets in besides whoever is logged in here.

use axum::{
    Extension,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use minijinja::context;
use serde::Deserialize;

use super::{
    Visitor,
    form::{Checked, Fields},
    password::SHORTEST,
    session::Session,
    show,
    words::data,
};
use crate::{
    Admin,
    api::{Body, Query, keys},
    keys::Scope,
    problem::Problem,
    serve::Door,
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    /// What was just done.
    done: String,
}

pub(super) async fn page(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Query(asked): Query<Asked>,
) -> Response {
    draw(&door.admin, &session, &asked.done, None, None, None).await
}

/// The page, with the key that was just made, or with what was wrong with a form that was filled in on it.
async fn draw(
    admin: &Admin,
    session: &Session,
    done: &str,
    made: Option<keys::Shown>,
    wrong: Option<&Problem>,
    fields: Option<&Fields>,
) -> Response {
    let keys = keys::list(State(admin.clone())).await.0;
    let kept = |name: &str| fields.map(|fields| fields.get(name).to_owned()).unwrap_or_default();
    let page = show(
        "keys.html",
        context! {
            csrf => session.csrf.as_str(), here => "keys", done, shortest => SHORTEST,
            keys => data(&keys), made => made.map(data), wrong => wrong.map(data),
            kept => context! { name => kept("name"), scope => kept("scope"), expires => kept("expires") },
        },
    );
    let status = wrong.map_or(StatusCode::OK, |problem| {
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY)
    });
    (status, page).into_response()
}

/// Shows the key on the very page that answers: it is kept nowhere from which another page could take it.
pub(super) async fn make(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Checked(fields): Checked,
) -> Response {
    let expires = fields.filled("expires").map(|day| day.parse().map_err(|why: String| Problem::field("expires", why)));
    let scope = match fields.get("scope") {
        "read" => Ok(Scope::Read),
        "operate" => Ok(Scope::Operate),
        "admin" => Ok(Scope::Admin),
        _ => Err(Problem::field("scope", "it is read, operate or admin")),
    };
    let made = async {
        let wanted = keys::NewKey { name: fields.get("name").to_owned(), scope: scope?, expires: expires.transpose()? };
        keys::make(State(door.admin.clone()), Body(wanted)).await
    };
    match made.await {
        Ok((_, made)) => draw(&door.admin, &session, "", Some(made.0), None, None).await,
        Err(problem) => draw(&door.admin, &session, "", None, Some(&problem), Some(&fields)).await,
    }
}

pub(super) async fn remove(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Checked(fields): Checked,
) -> Response {
    match keys::remove(State(door.admin.clone()), Ok(Path(fields.get("name").to_owned()))).await {
        Ok(_) => Redirect::to("/keys?done=removed").into_response(),
        Err(problem) => draw(&door.admin, &session, "", None, Some(&problem), None).await,
    }
}

pub(super) async fn password(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Extension(visitor): Extension<Visitor>,
    Checked(fields): Checked,
) -> Response {
    let changed = match fields.get("new") == fields.get("again") {
        false => Err(Problem::field("again", "the two new passwords are not the same")),
        true => {
            let changed =
                door.people.change_password(visitor, Some(&session), fields.get("old"), fields.get("new")).await;
            changed.map_err(|why| keys::refused(&why))
        }
    };
    match changed {
        Ok(()) => Redirect::to("/keys?done=password").into_response(),
        Err(problem) => draw(&door.admin, &session, "", None, Some(&problem), None).await,
    }
}
