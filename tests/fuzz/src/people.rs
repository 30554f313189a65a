//! What people send to the device manager.

use std::sync::{Arc, Mutex, OnceLock};

use axum::{
    Router,
    body::Body,
    http::{Request, header},
};
use provost_admin::{Activity, Admin, Audit, Encrypted, Keys, Looks, Visitor, routes};
use provost_server::rollout::Rollouts;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::bench::bench;

const PASSWORD: &str = "correct horse battery";
const BOUNDARY: &str = "fuzz";

/// The pages and the API, and somebody who may do everything.
struct Door {
    routes: Mutex<Router>,
    key: String,
    cookie: String,
    csrf: String,
    _stop: watch::Sender<bool>,
}

pub fn import(input: &[u8]) {
    let Some((which, body)) = input.split_first() else { return };
    let form = ["", "&form=csv", "&form=yaml", "&form=wazo", "&form=fusionpbx", "&form=files"][usize::from(*which) % 6];
    let raw = if which & 0x80 == 0 { "" } else { "&raw=true" };
    let door = door();
    let request = Request::post(format!("/api/v1/import?dry_run=true{form}{raw}"))
        .header(header::AUTHORIZATION, format!("Bearer {}", door.key))
        .body(Body::from(body.to_vec()));
    asked(door, request.expect("a request"));
}

pub fn form(input: &[u8]) {
    let door = door();
    // The token is new for each session, and no seed can know it.
    let text = String::from_utf8_lossy(input).into_owned();
    let body = if text.contains("CSRF") { text.replace("CSRF", &door.csrf).into_bytes() } else { input.to_vec() };
    let request = Request::post("/import")
        .header(header::COOKIE, &door.cookie)
        .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(Body::from(body));
    asked(door, request.expect("a request"));
}

fn asked(door: &Door, mut request: Request<Body>) -> (u16, String) {
    request.extensions_mut().insert(Visitor([127, 0, 0, 1].into()));
    request.extensions_mut().insert(Encrypted(false));
    let routes = door.routes.lock().expect("nobody panicked").clone();
    bench().runtime.block_on(async {
        let answer = routes.oneshot(request).await.expect("routes answer everything");
        let status = answer.status().as_u16();
        let cookie = answer.headers().get(header::SET_COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        let body = axum::body::to_bytes(answer.into_body(), 64 << 20).await.expect("a whole body");
        assert!(status < 500, "{status} {}", body.escape_ascii());
        if cookie.is_empty() { (status, String::from_utf8_lossy(&body).into_owned()) } else { (status, cookie) }
    })
}

fn door() -> &'static Door {
    static DOOR: OnceLock<Door> = OnceLock::new();
    DOOR.get_or_init(|| {
        let bench = bench();
        let state = bench.data.path.join("state");
        std::fs::create_dir_all(&state).expect("a directory");
        let keys = Keys::open(&state.join("admin.key")).expect("a key is written");
        let key = std::fs::read_to_string(state.join("admin.key")).expect("the key is there").trim().to_owned();
        let (stop, stopped) = watch::channel(false);
        let desk = bench.desk();
        let rollouts = bench.runtime.block_on(async { Rollouts::start(Arc::clone(&desk), &state, stopped.clone()) });
        let admin = Admin {
            desk,
            keys: Arc::new(keys),
            store: None,
            counters: Arc::default(),
            network: Arc::default(),
            activity: Arc::new(Activity::default()),
            rollouts,
            audit: Arc::new(Audit::of(&state)),
            looks: Looks::default(),
        };
        let routes = Mutex::new(routes(admin, stopped));
        let mut door = Door { routes, key, cookie: String::new(), csrf: String::new(), _stop: stop };
        let setup =
            format!("key={}&password={}&again={}", door.key, PASSWORD.replace(' ', "+"), PASSWORD.replace(' ', "+"));
        let request = Request::post("/setup")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(setup))
            .expect("a request");
        door.cookie = asked(&door, request).1;
        let request = Request::get("/import").header(header::COOKIE, &door.cookie).body(Body::empty());
        let page = asked(&door, request.expect("a request")).1;
        let csrf = page.split_once("name=\"csrf\" value=\"").expect("the page holds a form").1;
        door.csrf = csrf.split('"').next().unwrap_or_default().to_owned();
        door
    })
}
