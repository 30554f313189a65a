//! Where phones are heard, which doors are open, what is missing, and what stands in the way.

use axum::{
    Extension,
    extract::State,
    http::StatusCode,
    response::{Redirect, Response},
};
use minijinja::context;

use super::{Refusal, form::Checked, session::Session, show, words::data};
use crate::{
    api::{
        Query, doctor,
        lockouts::{self, Source},
        network,
    },
    serve::Door,
};

pub(super) async fn page(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
) -> Result<Response, Refusal> {
    draw("network.html", door, &session).await
}

/// What the page changes of itself.
pub(super) async fn rows(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
) -> Result<Response, Refusal> {
    draw("interfaces.html", door, &session).await
}

async fn draw(template: &str, door: Door, session: &Session) -> Result<Response, Refusal> {
    let lockouts = lockouts::list(State(door.admin.clone())).await;
    let network = network::network(State(door.admin)).await?;
    let (network, lockouts) = (data(&network.0), data(&lockouts.0));
    Ok(show(template, context! { csrf => session.csrf.as_str(), here => "network", network, ..lockouts }))
}

/// Looked for while the page is waited for.
pub(super) async fn doctor(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
) -> Result<Response, Refusal> {
    let report = doctor::doctor(State(door.admin)).await?;
    Ok(show("doctor.html", context! { csrf => session.csrf.as_str(), here => "network", report => data(&report.0) }))
}

pub(super) async fn pardon(State(door): State<Door>, Checked(fields): Checked) -> Result<Redirect, Refusal> {
    let source = Query(Source { source: fields.get("source").to_owned() });
    match lockouts::pardon(State(door.admin.clone()), source).await {
        // Its time may have come while the page was open.
        Err(problem) if problem.status != StatusCode::NOT_FOUND.as_u16() => Err(problem.into()),
        _ => Ok(Redirect::to("/network")),
    }
}
