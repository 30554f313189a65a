//! Keys for programs, and the password of the pages.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use provost_fleet::Day;
use provost_plugin::Secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Body, aside};
use crate::{
    Admin,
    keys::{Key, NotMade, Scope},
    problem::Problem,
    ui::{NotChanged, People, Visitor, session::Session},
};

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Made {
    /// By name.
    keys: Vec<Key>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    /// For people: which program has it
    #[schema(min_length = 1, max_length = 100)]
    pub(crate) name: String,
    pub(crate) scope: Scope,
    /// The last day on which it is good, in UTC; left out, it is good until it is removed
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Date)]
    pub(crate) expires: Option<Day>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MadeKey)]
pub(crate) struct Shown {
    pub(crate) name: String,
    /// The key itself: it is not kept, and never shown again.
    pub(crate) key: String,
}

/// The keys that people made, without the keys
#[utoipa::path(get, path = "/api/v1/keys", tag = "server", responses(
    (status = 200, body = Made),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(State(admin): State<Admin>) -> Json<Made> {
    Json(Made { keys: admin.keys.list() })
}

/// Make a key for a program
#[utoipa::path(post, path = "/api/v1/keys", tag = "server", request_body = NewKey, responses(
    (status = 201, body = Shown),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn make(
    State(admin): State<Admin>,
    Body(NewKey { name, scope, expires }): Body<NewKey>,
) -> Result<(StatusCode, Json<Shown>), Problem> {
    let name = name.trim().to_owned();
    let made = {
        let name = name.clone();
        aside(move || admin.keys.make(&name, scope, expires)).await?
    };
    match made {
        Ok(key) => {
            tracing::info!(key = name, scope = scope.as_str(), "a key was made");
            Ok((StatusCode::CREATED, Json(Shown { name, key })))
        }
        Err(why) => Err(match why {
            NotMade::Name => Problem::field("name", why.to_string()),
            NotMade::Over => Problem::field("expires", why.to_string()),
            NotMade::Exists | NotMade::Full => Problem::conflict(why.to_string()),
            NotMade::Unkept(_) => Problem::internal(why.to_string()),
        }),
    }
}

/// Remove a key: it opens nothing from then on
#[utoipa::path(delete, path = "/api/v1/keys/{name}", tag = "server", params(("name" = String, Path)), responses(
    (status = 204, description = "It opens nothing any more"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn remove(
    State(admin): State<Admin>,
    name: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<StatusCode, Problem> {
    let nobodys = || Problem::not_found("there is no key of that name");
    let Path(name) = name.map_err(|_| nobodys())?;
    let shown = name.clone();
    match aside(move || admin.keys.remove(&name)).await? {
        Ok(true) => {
            tracing::info!(key = shown, "a key was removed");
            Ok(StatusCode::NO_CONTENT)
        }
        Ok(false) => Err(nobodys()),
        Err(error) => {
            Err(Problem::internal(format!("it opens nothing until the next start, but that cannot be kept: {error}")))
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPassword {
    /// The one that it has been so far
    #[schema(value_type = String)]
    pub(crate) old: Secret,
    #[schema(value_type = String, min_length = 10, max_length = 256)]
    pub(crate) new: Secret,
}

/// Change the password of the pages
///
/// Ends all sessions but the one that asks. Wrong old passwords are counted like those of a login.
#[utoipa::path(put, path = "/api/v1/password", tag = "server", request_body = NewPassword, responses(
    (status = 204, description = "It is changed, and other sessions are over"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 429, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn password(
    Extension(people): Extension<Arc<People>>,
    Extension(visitor): Extension<Visitor>,
    session: Option<Extension<Session>>,
    Body(NewPassword { old, new }): Body<NewPassword>,
) -> Result<StatusCode, Response> {
    let changed = people.change_password(visitor, session.as_deref(), old.expose(), new.expose()).await;
    changed.map(|()| StatusCode::NO_CONTENT).map_err(refusal)
}

/// What a form is told, too.
pub(crate) fn refused(why: &NotChanged) -> Problem {
    let detail = why.to_string();
    match why {
        NotChanged::Unset => Problem::conflict(detail),
        NotChanged::TooMany(_) => Problem::new(StatusCode::TOO_MANY_REQUESTS, detail),
        NotChanged::Wrong => Problem::field("old", detail),
        NotChanged::Form => Problem::field("new", detail),
        NotChanged::Unkept(_) => Problem::internal(detail),
    }
}

fn refusal(why: NotChanged) -> Response {
    let mut response = refused(&why).into_response();
    if let NotChanged::TooMany(seconds) = why {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
