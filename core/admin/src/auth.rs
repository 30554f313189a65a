//! Who may do what with the API. A request carries a key (`Authorization: Bearer …`), and a key has a scope; or the session of somebody
//! who is logged in at the pages, who may do everything. What is let through and changes something is logged with who it was.

use std::time::SystemTime;

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    audit::{self, Audit, Entry},
    keys::{Opened, Scope},
    problem::Problem,
    serve::Door,
    ui::Visitor,
};

/// What a request needs.
fn needs(method: &Method, path: &str) -> Option<Scope> {
    match path {
        // For load balancers and for those who write programs: nothing of the phones is in there.
        "/healthz" | "/readyz" | "/api/v1/openapi.json" => None,
        _ if path.ends_with("/source") || path.ends_with("/settings") || path.ends_with("/export") => {
            Some(Scope::Admin)
        }
        // Profiles as they are written.
        _ if path.starts_with("/api/v1/files/") => Some(Scope::Admin),
        "/api/v1/audit" => Some(Scope::Admin),
        // A profile may be called anything, "resync" too.
        _ if path.starts_with("/api/v1/profiles/") => Some(Scope::Admin),
        _ if path == "/api/v1/keys" || path.starts_with("/api/v1/keys/") => Some(Scope::Admin),
        _ if method == Method::GET || method == Method::HEAD => Some(Scope::Read),
        _ if path.starts_with("/api/v1/rollouts") => Some(Scope::Operate),
        _ if ["/ignore", "/resync", "/notify"].iter().any(|end| path.ends_with(end)) => Some(Scope::Operate),
        _ => Some(Scope::Admin),
    }
}

/// Lets through who may, and tells the others what is missing.
pub(crate) async fn guard(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let Some(needed) = needs(request.method(), request.uri().path()) else { return next.run(request).await };
    let key = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    // A script of our own pages comes with the cookie of who is logged in. Another site's page can make a browser send that cookie
    // too, but cannot read the token.
    if key.is_none()
        && let Some(session) = door.people.sessions.find(request.headers(), true)
    {
        let is_reading = request.method() == Method::GET || request.method() == Method::HEAD;
        let token = request.headers().get("x-csrf-token").and_then(|value| value.to_str().ok());
        if is_reading || token.is_some_and(|token| session.issued(token)) {
            request.extensions_mut().insert(session);
            return noted(&door.admin.audit, "a session of the pages", request, next).await;
        }
        return Problem::new(StatusCode::FORBIDDEN, "with a session it takes the header X-CSRF-Token").into_response();
    }
    let detail = match key.map(|key| door.admin.keys.opens(key)) {
        Some(Opened::Server) => return noted(&door.admin.audit, "the server's own key", request, next).await,
        Some(Opened::Key { name, scope }) if scope >= needed => {
            return noted(&door.admin.audit, &format!("the key \"{name}\""), request, next).await;
        }
        Some(Opened::Key { scope, .. }) => {
            let detail = format!(
                "this key does not allow it; it takes the scope {}, and the key has {}",
                needed.as_str(),
                scope.as_str()
            );
            return Problem::new(StatusCode::FORBIDDEN, detail).into_response();
        }
        Some(Opened::Expired(day)) => format!("this key was good until {day}; somebody with the scope admin makes another"),
        Some(Opened::Unknown) => {
            "this key is not known; the server makes a new one at each start, in state/admin.key, and others are made with `provost key add`".to_owned()
        }
        None => {
            "a key is needed: Authorization: Bearer KEY, with the key in state/admin.key, or a session of the pages".to_owned()
        }
    };
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    response
}

/// Lets a request through, and writes into the log who it was that changed something, or tried to. What was sent is nobody's business.
pub(crate) async fn noted(audit: &Audit, by: &str, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    if method == Method::GET || method == Method::HEAD {
        return next.run(request).await;
    }
    let path: String = request.uri().path().chars().take(200).collect();
    let peer = request.extensions().get::<Visitor>().map(|visitor| visitor.0.to_string());
    let (response, changed) = audit::listening(next.run(request)).await;
    let status = response.status().as_u16();
    tracing::info!(by, peer, %method, path, status, "change asked for");
    let (at, by, method) = (provost_server::milliseconds(SystemTime::now()), by.to_owned(), method.to_string());
    audit.note(&Entry { at, by, peer, method, path, status, changed });
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_passwords_takes_more_than_reading() {
        assert_eq!(needs(&Method::GET, "/api/v1/devices"), Some(Scope::Read));
        assert_eq!(needs(&Method::GET, "/api/v1/devices/02005e000001/source"), Some(Scope::Admin));
        assert_eq!(needs(&Method::GET, "/api/v1/devices/02005e000001/settings"), Some(Scope::Admin));
        assert_eq!(needs(&Method::PATCH, "/api/v1/devices/02005e000001"), Some(Scope::Admin));
        assert_eq!(needs(&Method::POST, "/api/v1/devices/02005e000001/resync"), Some(Scope::Operate));
        assert_eq!(needs(&Method::POST, "/api/v1/devices/02005e000001/approve"), Some(Scope::Admin));
        for profile in ["office", "ignore", "x%2Fresync"] {
            let path = format!("/api/v1/profiles/{profile}");
            assert_eq!(needs(&Method::PATCH, &path), Some(Scope::Admin));
            assert_eq!(needs(&Method::GET, &format!("{path}/settings")), Some(Scope::Admin));
        }
        assert_eq!(needs(&Method::POST, "/api/v1/devices/02005e000001/web-password"), Some(Scope::Admin));
        assert_eq!(needs(&Method::GET, "/healthz"), None);
    }

    #[test]
    fn who_may_only_read_or_operate_makes_no_keys_whatever_they_are_called() {
        for path in ["/api/v1/keys", "/api/v1/keys/ignore", "/api/v1/keys/x%2Fresync", "/api/v1/keys/x/resync"] {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                assert_eq!(needs(&method, path), Some(Scope::Admin), "{method} {path}");
            }
        }
        assert_eq!(needs(&Method::PUT, "/api/v1/password"), Some(Scope::Admin));
    }
}
