//! Who changed what.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Query, aside};
use crate::{Admin, audit::Entry, problem::Problem};

const MOST: usize = 1000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// At most so many
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: usize,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { limit: 100 }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditLog)]
pub(crate) struct Log {
    /// The newest first.
    pub(crate) entries: Vec<Entry>,
}

/// Who changed what lately, or tried to
#[utoipa::path(get, path = "/api/v1/audit", tag = "server", params(Filter), responses(
    (status = 200, body = Log),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(State(admin): State<Admin>, Query(filter): Query<Filter>) -> Result<Json<Log>, Problem> {
    if !(1..=MOST).contains(&filter.limit) {
        return Err(Problem::field("limit", format!("from 1 to {MOST} are told at once")));
    }
    let read = aside(move || admin.audit.last(filter.limit)).await?;
    let entries = read.map_err(|error| Problem::internal(format!("cannot read who changed what: {error}")))?;
    Ok(Json(Log { entries }))
}
