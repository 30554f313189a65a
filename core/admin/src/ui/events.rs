//! Tells open pages that something changed, at most once a second; what it was they ask for themselves. Looks at a counter instead of
//! being told, so that a page that is open costs a storm of phones nothing.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::State,
    http::{StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_lite::stream;

use super::session::Session;
use crate::serve::Door;

const PULSE: Duration = Duration::from_secs(1);
/// Time alone changes how far a phone has come, and how long ago it was seen.
const REGULARLY: u32 = 60;

pub(super) async fn stream(State(door): State<Door>, Extension(session): Extension<Session>) -> Response {
    let Ok(place) = door.people.streams.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "30")], "too many pages are open\n")
            .into_response();
    };
    let (replaced, stop) = (door.admin.desk.replacements(), door.people.stop.clone());
    let seen = (door.admin.desk.registry.changes(), *replaced.borrow(), door.admin.rollouts.changes());
    let events = stream::unfold((door, seen, place), move |(door, seen, place)| {
        let (session, replaced, mut stop) = (session.clone(), replaced.clone(), stop.clone());
        async move {
            for _ in 0..REGULARLY {
                tokio::select! {
                    () = tokio::time::sleep(PULSE) => {}
                    _ = stop.wait_for(|stop| *stop) => return None,
                }
                if !door.people.sessions.is_open(&session) {
                    return None;
                }
                let now = (door.admin.desk.registry.changes(), *replaced.borrow(), door.admin.rollouts.changes());
                if now != seen {
                    return Some((changed(), (door, now, place)));
                }
            }
            Some((changed(), (door, seen, place)))
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

fn changed() -> Result<Event, Infallible> {
    Ok(Event::default().event("changed").data("1"))
}
