//! Many phones enrolled at once.

use axum::{Json, extract::State, http::StatusCode};
use provost_plugin::MacAddr;
use provost_server::edit::Edit;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Body,
    devices::{self, own_file},
    write::Assignment,
};
use crate::{
    Admin,
    problem::{Problem, Wrong},
};

/// Each is a file that is written, and all are tried together.
const MOST: usize = 1000;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Approvals {
    /// At most 1000
    #[schema(value_type = Vec<String>)]
    macs: Vec<MacAddr>,
    /// Left out, it is for each phone the profile whose `match` fits best.
    #[serde(default)]
    profile: Option<String>,
}

impl Approvals {
    pub(crate) fn new(macs: Vec<MacAddr>, profile: Option<String>) -> Approvals {
        Approvals { macs, profile }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Enrolled {
    /// The phones that are enrolled now.
    macs: Vec<String>,
}

impl Enrolled {
    pub(crate) fn len(&self) -> usize {
        self.macs.len()
    }
}

/// Enrol many phones with one profile: all of them, or none
#[utoipa::path(post, path = "/api/v1/approvals", tag = "devices", request_body = Approvals, responses(
    (status = 201, body = Enrolled),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn approve(
    State(admin): State<Admin>,
    Body(Approvals { mut macs, profile }): Body<Approvals>,
) -> Result<(StatusCode, Json<Enrolled>), Problem> {
    macs.sort_unstable();
    macs.dedup();
    if macs.is_empty() || macs.len() > MOST {
        return Err(Problem::field("macs", format!("from 1 to {MOST} phones are approved at once")));
    }
    let world = admin.desk.world();
    if let Some(profile) = profile.as_deref()
        && !world.fleet.profiles().any(|known| known == profile)
    {
        return Err(Problem::field("profile", format!("there is no profile \"{profile}\"")));
    }
    let taken = |mac: &MacAddr| {
        let device = world.fleet.device(*mac)?;
        let message = format!("it is enrolled already ({}:{})", device.file(), device.line());
        Some(Wrong { at: mac.to_string(), message })
    };
    let errors: Vec<Wrong> = macs.iter().filter_map(taken).collect();
    if !errors.is_empty() {
        return Err(Problem { errors, ..Problem::conflict("nothing is changed, since some are enrolled already") });
    }
    let assignment = Assignment { profile, ..Assignment::default() };
    let edit = |mac: &MacAddr| Edit { path: own_file(&world, *mac), of: None, content: Some(assignment.yaml(*mac)) };
    admin.desk.edit(macs.iter().map(edit).collect()).await?;
    for mac in &macs {
        admin.desk.registry.ignore(*mac, false);
        // Those that wait at this very moment are told; what comes of it is in their history.
        drop(devices::notify(&admin, *mac));
    }
    Ok((StatusCode::CREATED, Json(Enrolled { macs: macs.iter().map(MacAddr::to_string).collect() })))
}
