//! API v1: the routes, and the OpenAPI document that is made of them.

pub(crate) mod activity;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod changes;
pub(crate) mod devices;
pub(crate) mod doctor;
pub(crate) mod files;
pub(crate) mod function_keys;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod lockouts;
pub(crate) mod network;
pub(crate) mod phonebooks;
pub(crate) mod preview;
pub(crate) mod profiles;
pub(crate) mod provenance;
pub(crate) mod rollouts;
pub(crate) mod server;
pub(crate) mod settings;
pub(crate) mod trust;
pub(crate) mod web_password;
pub(crate) mod write;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use provost_plugin::MacAddr;
use serde::de::DeserializeOwned;
use utoipa::{
    OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{Admin, problem::Problem};

/// A profile file of one device is some kilobytes; an import is some megabytes.
const BODY: usize = 16 << 20;

#[derive(OpenApi)]
#[openapi(
    info(title = "Provost", description = "The device manager of a provisioning server for IP phones.", license(name = "MIT OR Apache-2.0")),
    tags(
        (name = "devices", description = "Phones: what they should be, what they were seen doing, and what can be done about it."),
        (name = "files", description = "Files that people edit: profiles, lists of people, templates."),
        (name = "rollouts", description = "Many phones made to fetch again, and what came of it."),
        (name = "server", description = "The server itself.")
    ),
    modifiers(&Key),
    security(("key" = []))
)]
struct Document;

/// What a request must bring, as the document says it.
struct Key;

impl utoipa::Modify for Key {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The key in `state/admin.key`")).build();
        document.components.get_or_insert_default().add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}

fn described() -> (Router<Admin>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(devices::list))
        .routes(routes!(devices::one, devices::forget, settings::change))
        .routes(routes!(devices::source, devices::put_source, devices::delete_source))
        .routes(routes!(settings::settings))
        .routes(routes!(function_keys::function_keys))
        .routes(routes!(devices::approve))
        .routes(routes!(devices::ignore, devices::unignore))
        .routes(routes!(devices::swap))
        .routes(routes!(devices::resync))
        .routes(routes!(trust::open, trust::close))
        .routes(routes!(trust::revoke))
        .routes(routes!(lockouts::list, lockouts::pardon))
        .routes(routes!(import::import))
        .routes(routes!(import::export))
        .routes(routes!(approvals::approve))
        .routes(routes!(preview::preview))
        .routes(routes!(preview::explanation))
        .routes(routes!(provenance::provenance))
        .routes(routes!(web_password::show))
        .routes(routes!(activity::list))
        .routes(routes!(activity::series))
        .routes(routes!(network::network))
        .routes(routes!(doctor::doctor))
        .routes(routes!(files::list))
        .routes(routes!(files::one, files::put, files::delete))
        .routes(routes!(files::earlier))
        .routes(routes!(changes::outlook))
        .routes(routes!(changes::diff))
        .routes(routes!(keys::list, keys::make))
        .routes(routes!(audit::list))
        .routes(routes!(keys::remove))
        .routes(routes!(keys::password))
        .routes(routes!(profiles::list))
        .routes(routes!(settings::profile_settings))
        .routes(routes!(settings::change_profile))
        .routes(routes!(phonebooks::list))
        .routes(routes!(phonebooks::one))
        .routes(routes!(phonebooks::add))
        .routes(routes!(phonebooks::remove))
        .routes(routes!(rollouts::begin, rollouts::list))
        .routes(routes!(rollouts::one))
        .routes(routes!(rollouts::cancel))
        .routes(routes!(rollouts::resume))
        .routes(routes!(server::status))
        .routes(routes!(server::health))
        .routes(routes!(server::ready))
        .routes(routes!(server::metrics))
        .split_for_parts()
}

pub(crate) fn routes() -> Router<Admin> {
    let (router, _) = described();
    router
        .route("/api/v1/openapi.json", get(async || Json(document())))
        .fallback(async || Problem::not_found("there is nothing under this path; /api/v1/openapi.json has the list"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not take that method; /api/v1/openapi.json has the list",
            )
        })
        .layer(DefaultBodyLimit::max(BODY))
}

/// The OpenAPI 3.1 document.
pub fn document() -> serde_json::Value {
    let (_, document) = described();
    serde_json::to_value(document).unwrap_or_default()
}

/// The MAC in a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mac(pub(crate) MacAddr);

impl<S: Send + Sync> FromRequestParts<S> for Mac {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Mac, Problem> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        let text = path.map(|path| path.0).unwrap_or_default();
        text.parse().map(Mac).map_err(|_| Problem::field("mac", format!("\"{}\" is no MAC address", shortened(&text))))
    }
}

/// A JSON body, whose mistakes are told as problems.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, Problem> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Body(body)),
            Err(rejection) => {
                let status = match &rejection {
                    JsonRejection::MissingJsonContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    rejection if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
                    JsonRejection::JsonSyntaxError(_) => StatusCode::BAD_REQUEST,
                    _ => StatusCode::UNPROCESSABLE_ENTITY,
                };
                Err(Problem::new(status, rejection.body_text()))
            }
        }
    }
}

/// A query string, the same way.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, Problem> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(query) => Ok(Query(query.0)),
            Err(rejection) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, rejection.body_text())),
        }
    }
}

/// No more of somebody's text than a person reads.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Work that waits for libraries or the disk, away from where requests are served.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Problem::internal("the work was cut short; the server's log says why"))
}

/// Text as YAML.
pub(crate) struct Yaml(pub(crate) String, pub(crate) String);

impl IntoResponse for Yaml {
    fn into_response(self) -> Response {
        let Yaml(text, version) = self;
        ([("content-type", "application/yaml".to_owned()), ("etag", format!("\"{version}\""))], text).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_names_every_route_and_its_problems() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.len() >= 9, "{:?}", paths.keys());
        for (path, methods) in paths {
            for (method, operation) in methods.as_object().unwrap() {
                let responses = operation["responses"].as_object().unwrap();
                assert!(operation["operationId"].is_string() && !responses.is_empty(), "{method} {path}");
                if operation["security"] != serde_json::json!([{}]) {
                    assert!(responses.contains_key("401"), "{method} {path} does not say what a missing key comes to");
                }
            }
        }
    }
}
