//! What the own entry of a device or a profile in the profile files says, as values: to be read, and to be changed one by one where it
//! stands.

use std::path::PathBuf;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
};
use provost_fleet::{AmendError, Whose};
use provost_server::{
    edit::{self, Edit, EditError},
    world::Finding,
};
use serde_json::Value;

use super::{
    Mac, aside,
    devices::{file_of, precondition, reading},
    files::Name,
};
use crate::{
    Admin, audit,
    problem::{Problem, Wrong},
};

/// What stands for a password wherever one is not shown. As a password it would only ever be a mistake.
const MASK: &str = "•••";

type Tagged = [(header::HeaderName, String); 1];

fn tagged(version: &str) -> Tagged {
    [(header::ETAG, format!("\"{version}\""))]
}

/// What the profile file in which a device stands says of it, without any other layer; passwords included
#[utoipa::path(get, path = "/api/v1/devices/{mac}/settings", tag = "devices", params(("mac" = String, Path)), responses(
    (status = 200, body = Object, headers(("ETag" = String, description = "The version of the file"))),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn settings(State(admin): State<Admin>, Mac(mac): Mac) -> Result<(Tagged, Json<Value>), Problem> {
    let (values, version) = own(&admin, Whose::Device(mac)).await?;
    Ok((tagged(&version), Json(values)))
}

/// What a profile says itself, without those that it stands on; passwords included
#[utoipa::path(get, path = "/api/v1/profiles/{name}/settings", tag = "files", params(("name" = String, Path)), responses(
    (status = 200, body = Object, headers(("ETag" = String, description = "The version of the file"))),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn profile_settings(
    State(admin): State<Admin>,
    Name(name): Name,
) -> Result<(Tagged, Json<Value>), Problem> {
    let (values, version) = own(&admin, Whose::Profile(name.into())).await?;
    Ok((tagged(&version), Json(values)))
}

/// What an entry says, and the version of its file.
pub(crate) async fn own(admin: &Admin, whose: Whose) -> Result<(Value, String), Problem> {
    let admin = admin.clone();
    aside(move || {
        let stands = Stands::read(&admin, &whose)?;
        let values =
            provost_fleet::settings(&stands.name(), &stands.text, &whose).map_err(|error| stands.problem(error))?;
        Ok((values, stands.version))
    })
    .await?
}

/// Change some settings of a device where it stands
///
/// A merge patch (RFC 7396) of what GET …/settings returns: `null` takes a setting away, a list replaces the list. Comments, order and
/// everything that the change is not about stay as they are in the file. It is tried first; what would break any device is refused, and so
/// is a change of what an anchor or a merge key shares with others.
#[utoipa::path(patch, path = "/api/v1/devices/{mac}", tag = "devices",
    params(("mac" = String, Path), ("If-Match" = Option<String>, Header, description = "The version of the file, from GET …/settings or …/source; * for any")),
    request_body(content = Object, content_type = "application/merge-patch+json"),
    responses(
    (status = 204, description = "Written, and in service", headers(("ETag" = String, description = "The version of the file"))),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 412, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = String, content_type = "text/plain"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 428, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn change(
    State(admin): State<Admin>,
    Mac(mac): Mac,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Tagged), Problem> {
    patched(&admin, Whose::Device(mac), &headers, &body).await
}

/// Change some settings of a profile where it stands
///
/// A merge patch (RFC 7396) of what GET …/settings returns, with all that holds for a change of a device. What it would come to can be
/// asked before: POST /api/v1/changes.
#[utoipa::path(patch, path = "/api/v1/profiles/{name}", tag = "files",
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "The version of the file, from GET …/settings; * for any")),
    request_body(content = Object, content_type = "application/merge-patch+json"),
    responses(
    (status = 204, description = "Written, and in service", headers(("ETag" = String, description = "The version of the file"))),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 412, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = String, content_type = "text/plain"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 428, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn change_profile(
    State(admin): State<Admin>,
    Name(name): Name,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Tagged), Problem> {
    patched(&admin, Whose::Profile(name.into()), &headers, &body).await
}

async fn patched(
    admin: &Admin,
    whose: Whose,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(StatusCode, Tagged), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !["application/merge-patch+json", "application/json"].contains(&kind) {
        let why = "a change is application/merge-patch+json (RFC 7396)";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let patch: Value = serde_json::from_slice(body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the change is no JSON: {error}")))?;
    let of = precondition(headers)?.ok_or_else(|| {
        Problem::new(StatusCode::PRECONDITION_FAILED, "what is to be changed must be there; leave out If-None-Match")
    })?;
    let version = amend(admin, &whose, &of, patch).await?;
    Ok((StatusCode::NO_CONTENT, tagged(&version)))
}

/// Changes an entry; the new version of its file. `of`: the version that the change is of, `*` for any.
pub(crate) async fn amend(admin: &Admin, whose: &Whose, of: &str, patch: Value) -> Result<String, Problem> {
    audit::fields_changed(&patch);
    let (stands, content) = amended(admin, whose, of, patch).await?;
    let version = edit::version(content.as_bytes());
    let name = stands.name();
    let edit = Edit { path: stands.path, of: Some(stands.version), content: Some(content.clone()) };
    match admin.desk.edit(vec![edit]).await {
        Ok(()) => Ok(version),
        Err(error) => Err(by_field(error, &name, &content, whose)),
    }
}

/// The file as it would be. Nothing is written.
pub(crate) async fn amended(admin: &Admin, whose: &Whose, of: &str, patch: Value) -> Result<(Stands, String), Problem> {
    if let Some(field) = masked(&patch, "") {
        return Err(Problem::field(
            &field,
            "that is what stands for a password where it is not shown, and no password",
        ));
    }
    let (admin, whose, of) = (admin.clone(), whose.clone(), of.to_owned());
    aside(move || {
        let stands = Stands::read(&admin, &whose)?;
        if of != "*" && of != stands.version {
            return Err(EditError::Changed { path: stands.path }.into());
        }
        let content = provost_fleet::amend(&stands.name(), &stands.text, &whose, &patch);
        let content = content.map_err(|error| stands.problem(error))?;
        Ok((stands, content))
    })
    .await?
}

/// The file in which an entry stands, as it is on the disk.
pub(crate) struct Stands {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    text: String,
}

impl Stands {
    fn read(admin: &Admin, whose: &Whose) -> Result<Stands, Problem> {
        let world = admin.desk.world();
        let path = match whose {
            Whose::Device(mac) => file_of(&world, *mac)?.0,
            Whose::Profile(name) => {
                let found = world.fleet.profile_views().find(|view| view.name == &**name);
                found.map(|view| PathBuf::from(view.file)).ok_or_else(unknown_profile)?
            }
        };
        let read = edit::read(&path).map_err(reading(&path))?;
        let (text, version) = read.ok_or_else(|| Problem::not_found(format!("{} is gone", path.display())))?;
        Ok(Stands { path, version, text })
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn problem(&self, error: AmendError) -> Problem {
        let detail = error.to_string();
        match error {
            AmendError::Wrong(wrong) => {
                let errors = wrong.into_iter().map(|(at, message)| Wrong { at, message }).collect();
                Problem { errors, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
            }
            AmendError::Woven { line, .. } => {
                let at = format!("{}:{line}", self.name());
                let message = "edit the file: what is changed here is shared, or written in an unusual form".to_owned();
                Problem {
                    errors: vec![Wrong { at, message }],
                    ..Problem::conflict(format!("{detail} {}", self.name()))
                }
            }
            AmendError::Unreadable(_) | AmendError::Absent(_) => Problem::conflict(detail),
        }
    }
}

pub(crate) fn unknown_profile() -> Problem {
    Problem::not_found("there is no profile of this name in service")
}

/// What was refused, with the field to blame where it is one of this entry.
fn by_field(error: EditError, file: &str, content: &str, whose: &Whose) -> Problem {
    let EditError::Refused(findings) = &error else { return error.into() };
    let field = |finding: &Finding| {
        let (line, column) = (u32::try_from(finding.line).ok()?, u32::try_from(finding.column).ok()?);
        (finding.file == file).then(|| provost_fleet::field_at(file, content, whose, line, column)).flatten()
    };
    let fields: Vec<Option<String>> = findings.iter().map(field).collect();
    let mut problem = Problem::from(error);
    for (wrong, field) in problem.errors.iter_mut().zip(fields) {
        if let Some(field) = field {
            wrong.at = field;
        }
    }
    problem
}

/// The first field that is to become the mask.
fn masked(patch: &Value, path: &str) -> Option<String> {
    let below =
        |step: &dyn std::fmt::Display| if path.is_empty() { step.to_string() } else { format!("{path}.{step}") };
    match patch {
        Value::String(text) => (text == MASK).then(|| path.to_owned()),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| masked(value, &below(name))),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, value)| masked(value, &below(&index))),
        _ => None,
    }
}
