//! Who changed what.

use axum::{Extension, extract::State, response::Response};
use minijinja::context;

use super::{Refusal, session::Session, show, words::data};
use crate::{
    api::{Query, audit},
    serve::Door,
};

pub(super) async fn page(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
) -> Result<Response, Refusal> {
    let log = audit::list(State(door.admin.clone()), Query(audit::Filter { limit: 200 })).await?;
    Ok(show("audit.html", context! { csrf => session.csrf.as_str(), here => "keys", ..data(&log.0) }))
}
