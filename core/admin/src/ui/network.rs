//! Where phones are heard, which doors are open, and what is missing.

use axum::{Extension, extract::State, response::Response};
use minijinja::context;

use super::{Refusal, session::Session, show, words::data};
use crate::{api::network, serve::Door};

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
    let network = network::network(State(door.admin)).await?;
    Ok(show(template, context! { csrf => session.csrf.as_str(), here => "network", network => data(&network.0) }))
}
