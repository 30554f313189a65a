//! Tells open pages that something changed, at most once a second; what it was they ask for themselves. Looks at counters instead of
//! being told, so that a page that is open costs a storm of phones nothing.

use std::{convert::Infallible, sync::atomic::Ordering, time::Duration};

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

use serde::Deserialize;

use super::session::Session;
use crate::{Admin, api::Query, serve::Door};

const PULSE: Duration = Duration::from_secs(1);
/// Time alone changes how far a phone has come, and how long ago it was seen.
const REGULARLY: u32 = 60;

/// What a page is about.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Of {
    #[default]
    Fleet,
    Activity,
    Network,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    of: Of,
}

impl Of {
    /// Other numbers whenever there is something new.
    fn counted(self, admin: &Admin) -> (u64, u64, u64) {
        match self {
            Of::Fleet => (admin.desk.registry.changes(), *admin.desk.replacements().borrow(), admin.rollouts.changes()),
            Of::Activity => (admin.activity.newest(), 0, 0),
            Of::Network => (admin.counters.datagrams.load(Ordering::Relaxed), admin.network.changes(), 0),
        }
    }
}

pub(super) async fn stream(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Query(Asked { of }): Query<Asked>,
) -> Response {
    let Ok(place) = door.people.streams.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "30")], "too many pages are open\n")
            .into_response();
    };
    let (seen, stop) = (of.counted(&door.admin), door.people.stop.clone());
    let events = stream::unfold((door, seen, place), move |(door, seen, place)| {
        let (session, mut stop) = (session.clone(), stop.clone());
        async move {
            for _ in 0..REGULARLY {
                tokio::select! {
                    () = tokio::time::sleep(PULSE) => {}
                    _ = stop.wait_for(|stop| *stop) => return None,
                }
                if !door.people.sessions.is_open(&session) {
                    return None;
                }
                let now = of.counted(&door.admin);
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
