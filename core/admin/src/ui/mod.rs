//! The pages: HTML made on the server, one stylesheet, and one script without which everything works too.
//!
//! Nothing is decided here: a page asks the handlers of the [API](crate::api) and words their answers, so what a page can do a program
//! can. Each page is a module of its name, and its template stands in `assets/`.

mod activity;
mod assets;
mod audit;
mod device;
mod edit;
mod entrance;
mod events;
mod fields;
mod fleet;
mod form;
mod import;
mod key;
mod keys;
mod network;
mod password;
mod phonebooks;
mod picture;
mod plugins;
mod profiles;
mod rollouts;
pub(crate) mod session;
mod source;
mod templates;
mod words;

use std::{net::IpAddr, path::Path, sync::Arc, sync::LazyLock};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use minijinja::{Environment, UndefinedBehavior, Value, context};
use tokio::sync::{Semaphore, watch};

pub(crate) use self::{entrance::NotChanged, password::hex};
use self::{
    password::Password,
    session::{Sessions, Tries},
};
use crate::{auth, problem::Problem, serve::Door};

/// A profile file of a thousand devices, as a form sends it.
const BODY: usize = 4 << 20;
/// A file that is too long is still read to its end, so that its sender is told, up to this.
const SENT: usize = 64 << 20;
const STREAMS: usize = 64;
/// An argon2 takes 19 MiB: no more than so many at once.
const GUESSES: usize = 2;

/// What the pages keep: who is logged in, and what is needed to let people in.
#[derive(Debug)]
pub(crate) struct People {
    pub(crate) sessions: Sessions,
    tries: Tries,
    password: Arc<Password>,
    guesses: Semaphore,
    streams: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl People {
    pub(crate) fn new(state: &Path, stop: watch::Receiver<bool>) -> People {
        People {
            sessions: Sessions::default(),
            tries: Tries::default(),
            password: Arc::new(Password::of(state)),
            guesses: Semaphore::new(GUESSES),
            streams: Arc::new(Semaphore::new(STREAMS)),
            stop,
        }
    }
}

/// The address that a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Visitor(pub IpAddr);

/// Whether a request came encrypted, to us or to the proxy before us.
#[derive(Clone, Copy, Debug)]
pub struct Encrypted(pub bool);

pub(crate) fn routes(door: &Door) -> Router<Door> {
    Router::new()
        .route("/", get(fleet::page))
        .route("/rows", get(fleet::rows))
        .route("/approve", post(fleet::approve))
        .route("/events", get(events::stream))
        .route("/devices/{mac}", get(device::page))
        .route("/devices/{mac}/approve", post(device::approve))
        .route("/devices/{mac}/ignore", post(device::ignore))
        .route("/devices/{mac}/resync", post(device::resync))
        .route("/devices/{mac}/open", post(device::open))
        .route("/devices/{mac}/swap", post(device::swap))
        .route("/devices/{mac}/forget", post(device::forget))
        .route("/devices/{mac}/key", post(key::save))
        .route("/devices/{mac}/edit", get(edit::device).post(edit::save_device))
        .route("/devices/{mac}/web-password", post(device::web_password))
        .route("/devices/{mac}/source", get(source::page).post(source::save))
        .route("/activity", get(activity::page))
        .route("/activity/rows", get(activity::rows))
        .route("/network", get(network::page))
        .route("/network/doctor", get(network::doctor))
        .route("/network/pardon", post(network::pardon))
        .route("/network/rows", get(network::rows))
        .route("/profiles", get(profiles::page))
        .route("/profiles/{name}", get(profiles::one))
        .route("/profiles/{name}/edit", get(edit::profile).post(edit::save_profile))
        .route("/phonebooks", get(phonebooks::page))
        .route("/phonebooks/{name}", get(phonebooks::one))
        .route("/phonebooks/{name}/add", post(phonebooks::add))
        .route("/phonebooks/{name}/remove", post(phonebooks::remove))
        .route("/import", get(import::page).post(import::act).layer(DefaultBodyLimit::max(SENT)))
        .route("/plugins", get(plugins::page))
        .route("/audit", get(audit::page))
        .route("/keys", get(keys::page).post(keys::make))
        .route("/keys/remove", post(keys::remove))
        .route("/keys/password", post(keys::password))
        .route("/templates", get(templates::list))
        .route("/files", get(templates::named))
        .route("/files/{*name}", get(templates::page).post(templates::act))
        .route("/rollouts", get(rollouts::list).post(rollouts::begin))
        .route("/rollouts/{id}", get(rollouts::page))
        .route("/rollouts/{id}/state", get(rollouts::state))
        .route("/rollouts/{id}/cancel", post(rollouts::cancel))
        .route("/rollouts/{id}/resume", post(rollouts::resume))
        .route("/logout", post(entrance::logout))
        .route("/login", get(entrance::login_page).post(entrance::login))
        .route("/setup", get(entrance::setup_page).post(entrance::setup))
        .route("/assets/{digest}/{name}", get(assets::get))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn_with_state(door.clone(), guard))
}

/// Lets in who is logged in, sends the others to where one logs in, and puts on each answer what keeps a browser from doing harm.
async fn guard(State(door): State<Door>, request: Request, next: Next) -> Response {
    let is_asset = request.uri().path().starts_with("/assets/");
    let mut response = admit(&door, request, next).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Other sites learn nothing. With "no-referrer" browsers would not say of our own forms either where they come from
        // (`Origin: null`), and be taken for another site.
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !is_asset {
        // What a page shows is not for the next one who sits down here.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

async fn admit(door: &Door, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_reading = request.method() == Method::GET || request.method() == Method::HEAD;
    if !is_reading && is_foreign(request.headers()) {
        return Refusal(Problem::new(StatusCode::FORBIDDEN, "this was sent by a page of another site")).into_response();
    }
    if path == "/login" || path == "/setup" || path.starts_with("/assets/") {
        return next.run(request).await;
    }
    let by_itself =
        path.ends_with("/rows") || path == "/events" || path.starts_with("/rollouts/") && path.ends_with("/state");
    match door.people.sessions.find(request.headers(), !by_itself) {
        Some(session) => {
            request.extensions_mut().insert(session);
            auth::noted(&door.admin.audit, "a session of the pages", request, next).await
        }
        None if by_itself || !is_reading => {
            Refusal(Problem::new(StatusCode::UNAUTHORIZED, "nobody is logged in here any more; log in at /login"))
                .into_response()
        }
        None => {
            let to = request.uri().path_and_query().map_or("/", |path| path.as_str());
            Redirect::to(&format!("/login?next={}", words::in_url(to))).into_response()
        }
    }
}

/// Whether the browser says that another site's page sent this. `SameSite` and the token stand behind it.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return false };
    let of = origin.split_once("://").map(|(_, host)| host);
    of.is_none() || of != text(header::HOST)
}

/// A page that says what went wrong.
#[derive(Debug)]
pub(crate) struct Refusal(Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Refusal {
        Refusal(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal(problem) = self;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, show("problem.html", context! { problem => words::data(problem), csrf => "", here => "" }))
            .into_response()
    }
}

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    for (name, text) in [
        ("frame.html", include_str!("../../assets/frame.html")),
        ("parts.html", include_str!("../../assets/parts.html")),
        ("problem.html", include_str!("../../assets/problem.html")),
        ("login.html", include_str!("../../assets/login.html")),
        ("setup.html", include_str!("../../assets/setup.html")),
        ("fleet.html", include_str!("../../assets/fleet.html")),
        ("rows.html", include_str!("../../assets/rows.html")),
        ("device.html", include_str!("../../assets/device.html")),
        ("edit.html", include_str!("../../assets/edit.html")),
        ("source.html", include_str!("../../assets/source.html")),
        ("import.html", include_str!("../../assets/import.html")),
        ("plugins.html", include_str!("../../assets/plugins.html")),
        ("audit.html", include_str!("../../assets/audit.html")),
        ("keys.html", include_str!("../../assets/keys.html")),
        ("activity.html", include_str!("../../assets/activity.html")),
        ("happenings.html", include_str!("../../assets/happenings.html")),
        ("profile.html", include_str!("../../assets/profile.html")),
        ("profiles.html", include_str!("../../assets/profiles.html")),
        ("phonebooks.html", include_str!("../../assets/phonebooks.html")),
        ("phonebook.html", include_str!("../../assets/phonebook.html")),
        ("doctor.html", include_str!("../../assets/doctor.html")),
        ("network.html", include_str!("../../assets/network.html")),
        ("interfaces.html", include_str!("../../assets/interfaces.html")),
        ("templates.html", include_str!("../../assets/templates.html")),
        ("file.html", include_str!("../../assets/file.html")),
        ("rollouts.html", include_str!("../../assets/rollouts.html")),
        ("rollout.html", include_str!("../../assets/rollout.html")),
        ("rollout_state.html", include_str!("../../assets/rollout_state.html")),
    ] {
        templates.add_template(name, text).expect("a template of ours, which a test compiles");
    }
    for name in ["page.css", "page.js", "icon.svg"] {
        // Of our own making, and so that a slash stays a slash.
        templates.add_global(name.replace('.', "_"), Value::from_safe_string(assets::url(name)));
    }
    words::teach(&mut templates);
    templates
});

/// A page made of its template. What cannot be made is our own mistake: logged, and told without details.
fn show(name: &str, context: Value) -> Response {
    match TEMPLATES.get_template(name).and_then(|template| template.render(context)) {
        Ok(page) => Html(page).into_response(),
        Err(error) => {
            tracing::error!(page = name, error = %error, "cannot make a page");
            (StatusCode::INTERNAL_SERVER_ERROR, "this page cannot be made; the server's log says why\n").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_compiles_and_none_holds_a_script_or_a_style() {
        for (name, template) in TEMPLATES.templates() {
            let text = template.source();
            let inline = [" style=", "<style", " onclick", " onload", " onsubmit", "javascript:", "|safe", "| safe"];
            for word in inline {
                assert!(!text.contains(word), "{name} has {word}");
            }
            assert_eq!(text.matches("<script").count(), usize::from(name == "frame.html"), "{name}");
            let posts = text.matches("method=\"post\"").count();
            let tokens = text.matches("{{ token(csrf) }}").count();
            assert!(
                posts == tokens || ["login.html", "setup.html"].contains(&name),
                "{name} has a form without a token"
            );
        }
    }

    #[test]
    fn a_page_of_another_site_is_known_by_its_origin() {
        let of = |origin: &str| {
            let headers = [(header::HOST, "localhost:8081"), (header::ORIGIN, origin)];
            is_foreign(&HeaderMap::from_iter(headers.map(|(name, value)| (name, value.parse().unwrap()))))
        };
        assert!(!of("http://localhost:8081") && !is_foreign(&HeaderMap::new()));
        assert!(of("http://evil.example") && of("null") && of("http://localhost:8082"));
    }
}
