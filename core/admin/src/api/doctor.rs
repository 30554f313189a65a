//! What stands between phones and this server, looked for now, with the rights that the server has kept.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::State,
    http::{Request, StatusCode},
};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use provost_server::milliseconds;
use serde::Serialize;
use serde_json::Value;
use tokio::{runtime::Handle, sync::Mutex, time::timeout};
use utoipa::ToSchema;

use super::aside;
use crate::{Admin, problem::Problem};

/// Somebody waits for it. Tools and name servers that do not answer are given up long before.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that a look asks the API for.
const ANSWER: usize = 4 << 20;

/// The last look. There is one at a time, for each sends to the group and may start programs: who asks while one goes on waits for its
/// end, and all who wait share the next.
#[derive(Clone, Debug, Default)]
pub struct Looks(Arc<Mutex<Option<Look>>>);

#[derive(Debug)]
struct Look {
    began: Instant,
    report: Report,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Report {
    /// When it was looked: milliseconds since 1970.
    at: u64,
    /// How long it took, in milliseconds.
    took: u64,
    interfaces: Vec<Seen>,
    /// The worst first.
    findings: Vec<Finding>,
    not_looked: Vec<NotLooked>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Seen {
    interface: String,
    /// How it is, in words.
    how: Vec<String>,
}

/// Something that is in the way.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Finding {
    /// What found it: links, membership, firewall, …
    check: &'static str,
    severity: Severity,
    /// None where it is about the machine as a whole.
    interface: Option<String>,
    what: String,
    /// Commands stand between backticks.
    do_next: String,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Phones are not served, or not all.
    Error,
    /// Some may not be, or not always.
    Warning,
}

/// Something that could not be looked at.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct NotLooked {
    check: &'static str,
    why: String,
}

/// What stands between phones and this server, looked for now
///
/// As `provost doctor` does, with the rights that the server has. It takes some seconds where a name server does not answer.
#[utoipa::path(get, path = "/api/v1/doctor", tag = "server", responses(
    (status = 200, body = Report),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn doctor(State(admin): State<Admin>) -> Result<Json<Report>, Problem> {
    let late = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "looking takes longer than half a minute; try again");
    timeout(PATIENCE, looked(admin)).await.map_err(late)?.map(Json)
}

async fn looked(admin: Admin) -> Result<Report, Problem> {
    let asked = Instant::now();
    // The turn is the look's, not the visitor's: who goes away makes no room for a second one beside it.
    let mut last = Arc::clone(&admin.looks.0).lock_owned().await;
    if let Some(look) = last.as_ref().filter(|look| look.began >= asked) {
        return Ok(look.report.clone());
    }
    let (began, at) = (Instant::now(), milliseconds(SystemTime::now()));
    let settings = Arc::clone(&admin.desk.world().settings);
    let routes = TowerToHyperService::new(super::routes().with_state(admin));
    let runtime = Handle::current();
    aside(move || {
        // On a thread that may wait.
        let found = provost_doctor::look(&settings, None, &|path| runtime.block_on(answer(&routes, path)));
        let report = Report::of(found, at, began.elapsed());
        *last = Some(Look { began, report: report.clone() });
        report
    })
    .await
}

/// What the command line would be answered, without the way there.
async fn answer(routes: &TowerToHyperService<Router>, path: &str) -> Result<Value, String> {
    let request = Request::get(path).body(Body::empty()).map_err(|error| error.to_string())?;
    let Ok(response) = routes.call(request).await;
    let status = response.status();
    let body = to_bytes(response.into_body(), ANSWER).await.map_err(|error| error.to_string())?;
    let value: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    match value["detail"].as_str() {
        Some(detail) if !status.is_success() => Err(detail.to_owned()),
        _ => Ok(value),
    }
}

impl Report {
    fn of(found: provost_doctor::Report, at: u64, took: Duration) -> Report {
        let interfaces = found.interfaces.into_iter().map(|seen| Seen { interface: seen.interface, how: seen.how });
        let findings = found.findings.into_iter().map(|finding| Finding {
            check: finding.check,
            severity: match finding.severity {
                provost_doctor::Severity::Error => Severity::Error,
                provost_doctor::Severity::Warning => Severity::Warning,
            },
            interface: finding.interface,
            what: finding.what,
            do_next: finding.do_next,
        });
        let not_looked = found.not_looked.into_iter().map(|not| NotLooked { check: not.check, why: not.why });
        Report {
            at,
            took: took.as_millis() as u64,
            interfaces: interfaces.collect(),
            findings: findings.collect(),
            not_looked: not_looked.collect(),
        }
    }
}
