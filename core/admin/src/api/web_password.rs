//! The passwords that the server made for the pages of one phone. Showing them is an act: it takes a POST, and is in the log with who
//! asked.

use axum::{Json, extract::State};
use provost_plugin::MacAddr;
use provost_server::{
    progress,
    world::{self, Generated},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Mac, aside};
use crate::{Admin, problem::Problem};

#[derive(Serialize, ToSchema)]
pub(crate) struct WebPasswords {
    passwords: Vec<WebPassword>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct WebPassword {
    /// `admin` or `user`.
    account: String,
    /// Left out, it is the one that the phone has from its maker.
    username: Option<String>,
    password: String,
}

/// Show the passwords that were made for the pages of a phone
///
/// Those that its profile asks for by `access: { admin: { password: { generate: 16 } } }`. Nothing is changed; that they were asked for
/// is logged.
#[utoipa::path(post, path = "/api/v1/devices/{mac}/web-password", tag = "devices", params(("mac" = String, Path)), responses(
    (status = 200, body = WebPasswords),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn show(State(admin): State<Admin>, Mac(mac): Mac) -> Result<Json<WebPasswords>, Problem> {
    let made = aside(move || made(&admin, mac)).await??;
    if made.is_empty() {
        return Err(Problem::not_found(format!("no password is generated for {mac}")));
    }
    let shown = made.into_iter().map(|one| WebPassword {
        account: one.account,
        username: one.username,
        password: one.password.expose().to_owned(),
    });
    Ok(Json(WebPasswords { passwords: shown.collect() }))
}

/// What was made for a phone.
pub(crate) fn made(admin: &Admin, mac: MacAddr) -> Result<Vec<Generated>, Problem> {
    let world = admin.desk.world();
    let peer = progress::peer(mac, admin.desk.registry.by_mac(mac).as_ref());
    let offer = world.files_of(mac, &peer).map_err(Problem::not_found)?;
    Ok(world::generated(&offer.resolved))
}
