//! What went wrong, as RFC 9457 writes it (`application/problem+json`): a status, a sentence for people, and for each field or line that
//! is to blame what is wrong with it.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use provost_server::{edit::EditError, world::Finding};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    pub status: u16,
    /// The same for every problem of its kind.
    pub title: String,
    /// What it is about this time, for people.
    pub detail: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Wrong>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Wrong {
    /// A field of the request, or a place in a file.
    pub at: String,
    pub message: String,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("Problem").to_owned(),
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    pub fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, detail)
    }

    /// A field of the request is no good.
    pub fn field(at: &str, message: impl Into<String>) -> Problem {
        let message = message.into();
        let errors = vec![Wrong { at: at.to_owned(), message: message.clone() }];
        Problem { errors, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{at}: {message}")) }
    }

    pub fn internal(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let kind = header::HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

impl From<EditError> for Problem {
    fn from(error: EditError) -> Problem {
        let detail = error.to_string();
        match error {
            EditError::Changed { .. } => Problem::new(StatusCode::PRECONDITION_FAILED, detail),
            EditError::Exists { .. } => Problem::conflict(detail),
            EditError::Elsewhere { .. } => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
            EditError::Refused(findings) => {
                let wrong = |finding: &Finding| Wrong {
                    at: format!("{}:{}:{}", finding.file, finding.line, finding.column),
                    message: finding.message.clone(),
                };
                let detail = "it is not written, since phones could not be served with it";
                Problem {
                    errors: findings.iter().map(wrong).collect(),
                    ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
                }
            }
            EditError::Write { .. } => Problem::internal(detail),
            EditError::NotInService(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail),
        }
    }
}
