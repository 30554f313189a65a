//! What a phone has to show, and letting one in that cannot show it yet.

use std::time::{Duration, SystemTime};

use axum::{extract::State, http::StatusCode};
use provost_server::{milliseconds, trust::LONGEST_OPEN};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Body, Mac};
use crate::{Admin, problem::Problem};

const USUAL: u32 = 30;

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OpenOrder)]
pub(crate) struct Order {
    /// Minutes, 30 if left out, and a day at most
    #[serde(default)]
    pub(crate) minutes: Option<u32>,
}

/// A phone is open for provisioning.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Opened {
    /// Milliseconds since 1970.
    pub(crate) until: u64,
    /// Somebody answers for whoever asks first; otherwise it is only its window that is open.
    pub(crate) vouched: bool,
    /// The address that asked first, which nobody else may ask from.
    pub(crate) by: Option<String>,
}

impl Opened {
    pub(crate) fn of(open: &provost_fleet::Open) -> Option<Opened> {
        (open.until > SystemTime::now()).then(|| Opened {
            until: milliseconds(open.until),
            vouched: open.vouched,
            by: open.by.map(|by| by.to_string()),
        })
    }
}

/// Open a phone for provisioning
///
/// For so long the first address that asks for its files gets them, also without a token, credentials, or its own MAC address behind that
/// address. Whoever asks first gets its passwords: open it when the phone is about to start.
#[utoipa::path(put, path = "/api/v1/devices/{mac}/open", tag = "devices", params(("mac" = String, Path)), request_body = Order, responses(
    (status = 204, description = "It is open"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn open(
    State(admin): State<Admin>,
    Mac(mac): Mac,
    Body(order): Body<Order>,
) -> Result<StatusCode, Problem> {
    let time = Duration::from_secs(u64::from(order.minutes.unwrap_or(USUAL)) * 60);
    if time.is_zero() || time > LONGEST_OPEN {
        let most = LONGEST_OPEN.as_secs() / 60;
        return Err(Problem::field("minutes", format!("a phone is opened for 1 to {most} minutes")));
    }
    if admin.desk.world().fleet.device(mac).is_none() {
        return Err(Problem::not_found(format!("{mac} is not enrolled: approve it first")));
    }
    match admin.desk.open(mac, Some(time)) {
        true => Ok(StatusCode::NO_CONTENT),
        false => {
            Err(Problem::not_found(format!("{mac} was never seen: open it when it has announced itself, or asked")))
        }
    }
}

/// Close a phone that was opened
#[utoipa::path(delete, path = "/api/v1/devices/{mac}/open", tag = "devices", params(("mac" = String, Path)), responses(
    (status = 204, description = "It is closed"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn close(State(admin): State<Admin>, Mac(mac): Mac) -> Result<StatusCode, Problem> {
    match admin.desk.open(mac, None) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found(format!("{mac} was never seen"))),
    }
}

/// Make every token of a phone worthless
///
/// The URLs that it knows are good for nothing where a token is required, until a NOTIFY or an open window gives it another.
#[utoipa::path(post, path = "/api/v1/devices/{mac}/revoke", tag = "devices", params(("mac" = String, Path)), responses(
    (status = 204, description = "They are worthless"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn revoke(State(admin): State<Admin>, Mac(mac): Mac) -> Result<StatusCode, Problem> {
    if admin.desk.world().fleet.device(mac).is_none() {
        return Err(Problem::not_found(format!("{mac} is not enrolled, and so has no tokens")));
    }
    let desk = admin.desk.clone();
    let revoked = super::aside(move || desk.revoke(mac)).await?;
    revoked.map(|()| StatusCode::NO_CONTENT).map_err(|error| Problem::internal(error.to_string()))
}
