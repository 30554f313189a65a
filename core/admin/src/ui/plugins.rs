//! The vendors in service, what was refused, and the devices that nobody can be served for.

use axum::{Extension, extract::State, response::Response};
use minijinja::context;

use super::{session::Session, show, words::data};
use crate::{api::server, serve::Door};

pub(super) async fn page(State(door): State<Door>, Extension(session): Extension<Session>) -> Response {
    let status = server::status(State(door.admin.clone())).await;
    show("plugins.html", context! { csrf => session.csrf.as_str(), here => "plugins", status => data(&status.0) })
}
