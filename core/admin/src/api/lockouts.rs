//! Who is locked out because of what was asked in vain from there, and letting them in again.

use std::{net::IpAddr, time::SystemTime};

use axum::{Json, extract::State, http::StatusCode};
use ipnet::IpNet;
use provost_server::guard::Lockout;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Query;
use crate::{Admin, problem::Problem};

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Lockouts {
    /// Each with its source, until when (milliseconds since 1970), why, and how often it was locked out.
    #[schema(value_type = Vec<Object>)]
    lockouts: Vec<Lockout>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    /// An address, or a network as in 10.0.0.0/24
    pub(crate) source: String,
}

/// Addresses and networks that are locked out
#[utoipa::path(get, path = "/api/v1/lockouts", tag = "server", responses(
    (status = 200, body = Lockouts),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(State(admin): State<Admin>) -> Json<Lockouts> {
    Json(Lockouts { lockouts: admin.desk.guard.lockouts(SystemTime::now()) })
}

/// Let an address or a network in again, and forget what it did
#[utoipa::path(delete, path = "/api/v1/lockouts", tag = "server", params(Source), responses(
    (status = 204, description = "Nothing counts against it any more"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn pardon(
    State(admin): State<Admin>,
    Query(Source { source }): Query<Source>,
) -> Result<StatusCode, Problem> {
    let net = source.parse::<IpAddr>().map(IpNet::from).or_else(|_| source.parse::<IpNet>());
    let net = net.map_err(|_| Problem::field("source", "that is no address, and no network as in 10.0.0.0/24"))?;
    match admin.desk.guard.pardon(net.trunc()) {
        true => {
            tracing::info!(source = %net, "let in again");
            Ok(StatusCode::NO_CONTENT)
        }
        false => Err(Problem::not_found(format!("nothing counts against {source}"))),
    }
}
