//! What is asked of the server itself.

use axum::{Json, extract::State, http::header, response::IntoResponse};
use provost_server::milliseconds;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{Admin, metrics, problem::Problem};

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    version: &'static str,
    devices: usize,
    pending: usize,
    /// Whether what phones are seen doing survives a restart.
    registry_kept: bool,
    plugins: Vec<Plugin>,
    /// What lies in the plugin directories and was refused, or only partly taken.
    refused: Vec<Refused>,
    /// Devices whose files cannot be made, with the reason.
    troubles: Vec<Trouble>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Plugin {
    vendor: String,
    id: String,
    /// Models that its `vendor.yaml` names.
    models: Vec<String>,
    evidence: &'static str,
    library: bool,
    /// Of the library, where it tells one.
    version: Option<String>,
    /// When its files last changed; milliseconds since 1970.
    modified: u64,
    /// When it was loaded as it is; milliseconds since 1970.
    since: u64,
    /// Another whenever its library, `vendor.yaml` or templates are.
    fingerprint: String,
    from: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Refused {
    file: String,
    /// 0 where no line is to blame.
    line: usize,
    why: String,
    /// When it first was; milliseconds since 1970.
    since: u64,
    /// The version before it is in service.
    older_serves: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Trouble {
    mac: String,
    why: String,
    /// An older version of its settings serves it.
    held: bool,
}

/// What is in service
#[utoipa::path(get, path = "/api/v1/status", tag = "server", responses(
    (status = 200, body = Status),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn status(State(admin): State<Admin>) -> Json<Status> {
    let world = admin.desk.world();
    let plugin = |plugin: &std::sync::Arc<provost_host::InService>| Plugin {
        vendor: plugin.spec.vendor.clone(),
        id: plugin.id.clone(),
        models: plugin.spec.models.keys().map(ToString::to_string).collect(),
        evidence: plugin.spec.evidence_level.as_str(),
        library: plugin.is_library(),
        version: plugin.version.clone(),
        modified: milliseconds(plugin.modified),
        since: milliseconds(plugin.since),
        fingerprint: plugin.fingerprint(),
        from: plugin.origin.display().to_string(),
    };
    let trouble = |(mac, trouble): (&provost_plugin::MacAddr, &provost_server::world::Trouble)| Trouble {
        mac: mac.to_string(),
        why: trouble.why.clone(),
        held: world.held.contains_key(mac),
    };
    let refused = |(problem, since): (&provost_host::Problem, std::time::SystemTime)| Refused {
        file: problem.file.clone(),
        line: problem.line,
        why: problem.message.clone(),
        since: milliseconds(since),
        older_serves: problem.older_serves,
    };
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        devices: world.fleet.len(),
        pending: admin.desk.registry.counts().pending,
        registry_kept: admin.store.is_some(),
        plugins: world.shelf.plugins().map(plugin).collect(),
        refused: world.shelf.refused().map(refused).collect(),
        troubles: world.troubles.iter().map(trouble).collect(),
    })
}

/// Whether the process lives
#[utoipa::path(get, path = "/healthz", tag = "server", security(()), responses((status = 200, body = String, content_type = "text/plain")))]
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

/// Whether phones are served
#[utoipa::path(get, path = "/readyz", tag = "server", security(()), responses((status = 200, body = String, content_type = "text/plain")))]
pub(crate) async fn ready() -> &'static str {
    // This door opens last: who can ask is served.
    "ok\n"
}

/// Figures for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "server", responses(
    (status = 200, body = String, content_type = "text/plain"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::page(&admin))
}
