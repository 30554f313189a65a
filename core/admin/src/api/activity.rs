//! What the server decided lately, and how much of it there was.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use tracing::Level;
use utoipa::{IntoParams, ToSchema};

use super::Query;
use crate::{
    Admin,
    activity::{Entry, MINUTES, Minute},
    problem::Problem,
};

const MOST: usize = 1000;

#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Only events after the one of this number: `next` of an earlier answer. Numbers begin anew with each start of the server; one
    /// that was not given yet counts as 0
    #[param(format = "uint64")]
    since: Option<u64>,
    /// Only events before the one of this number
    #[param(format = "uint64")]
    before: Option<u64>,
    /// Only events of this phone
    device: Option<String>,
    /// Only events of this weight or a greater one
    #[param(inline)]
    level: Option<Weight>,
    /// Only events of this kind, such as `fetch`, `subscribe` or `notified`
    act: Option<String>,
    /// Only events that hold this text
    q: String,
    /// At most so many: with `since` the oldest of them, else the newest
    #[param(minimum = 1, maximum = 1000)]
    limit: usize,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { since: None, before: None, device: None, level: None, act: None, q: String::new(), limit: 100 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Weight {
    Info,
    Warn,
    Error,
}

impl Weight {
    fn of(level: Level) -> Weight {
        match level {
            Level::ERROR => Weight::Error,
            Level::WARN => Weight::Warn,
            _ => Weight::Info,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Activity {
    /// The oldest first.
    pub(crate) events: Vec<Happened>,
    /// Of the newest event that was looked at, whether it fits or not: what to ask for next, as `since`.
    pub(crate) next: u64,
    /// Whether there are more that fit: newer ones where `since` was given, older ones otherwise.
    pub(crate) more: bool,
    /// Events since the start that are kept no more.
    pub(crate) overwritten: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Happened {
    pub(crate) number: u64,
    /// Milliseconds since 1970.
    at: u64,
    level: Weight,
    /// What it is about, as the log has it.
    message: String,
    /// What is told of it besides: device, vendor, door, peer, file, outcome, reason and others.
    fields: BTreeMap<&'static str, String>,
}

impl Happened {
    fn of(entry: &Arc<Entry>) -> Happened {
        Happened {
            number: entry.number,
            at: entry.at,
            level: Weight::of(entry.level),
            message: entry.message().to_owned(),
            fields: entry.fields().map(|(name, value)| (name, value.to_owned())).collect(),
        }
    }
}

/// The last decisions with their reasons
///
/// The newest events are kept, 2,000 of them. They are those of the log, whatever its own level is.
#[utoipa::path(get, path = "/api/v1/activity", tag = "server", params(Filter), responses(
    (status = 200, body = Activity),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(State(admin): State<Admin>, Query(filter): Query<Filter>) -> Result<Json<Activity>, Problem> {
    if !(1..=MOST).contains(&filter.limit) {
        return Err(Problem::field("limit", format!("between 1 and {MOST}")));
    }
    let device = match &filter.device {
        Some(text) => {
            let mac = text.parse::<provost_plugin::MacAddr>();
            Some(mac.map_err(|_| Problem::field("device", "that is no MAC address"))?.to_string())
        }
        None => None,
    };
    let text = filter.q.to_lowercase();
    let entries = admin.activity.entries();
    let newest = entries.last().map_or(0, |entry| entry.number);
    // Of an earlier start of the server, where it went further.
    let since = filter.since.map(|since| if since > newest { 0 } else { since });
    let fits = |entry: &&Arc<Entry>| {
        since.is_none_or(|since| entry.number > since)
            && filter.before.is_none_or(|before| entry.number < before)
            && filter.level.is_none_or(|level| Weight::of(entry.level) >= level)
            && filter.act.as_ref().is_none_or(|act| entry.message() == act)
            && device.as_ref().is_none_or(|mac| entry.field("device") == Some(mac))
            && (text.is_empty() || holds(entry, &text))
    };
    let mut found: Vec<&Arc<Entry>> = match since {
        Some(_) => entries.iter().filter(fits).take(filter.limit + 1).collect(),
        None => entries.iter().rev().filter(fits).take(filter.limit + 1).collect(),
    };
    let more = found.len() > filter.limit;
    found.truncate(filter.limit);
    if since.is_none() {
        found.reverse();
    }
    let next = if since.is_some() && more { found.last().map_or(newest, |entry| entry.number) } else { newest };
    Ok(Json(Activity {
        events: found.into_iter().map(Happened::of).collect(),
        next,
        more,
        overwritten: newest.saturating_sub(entries.len() as u64),
    }))
}

fn holds(entry: &Entry, text: &str) -> bool {
    entry.message().to_lowercase().contains(text)
        || entry.fields().any(|(name, value)| name.contains(text) || value.to_lowercase().contains(text))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Span {
    /// How far back
    #[param(minimum = 1, maximum = 1440)]
    pub(crate) minutes: usize,
    /// Minutes in one point
    #[param(minimum = 1, maximum = 60)]
    pub(crate) step: usize,
}

impl Default for Span {
    fn default() -> Span {
        Span { minutes: MINUTES, step: 1 }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Series {
    /// Minutes in one point.
    pub(crate) step: usize,
    /// The oldest first; the last one is not over yet.
    pub(crate) points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct Point {
    /// When it begins: milliseconds since 1970.
    pub(crate) at: u64,
    /// Phones that asked where their configuration is, copies not counted.
    pub(crate) announcements: u32,
    /// NOTIFYs that a phone took.
    pub(crate) answered: u32,
    /// Files asked for, whatever came of it.
    pub(crate) fetches: u32,
    /// Files that could not be made, and NOTIFYs that were not taken.
    pub(crate) failures: u32,
}

/// How much there was to do, minute by minute
#[utoipa::path(get, path = "/api/v1/activity/series", tag = "server", params(Span), responses(
    (status = 200, body = Series),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn series(State(admin): State<Admin>, Query(span): Query<Span>) -> Result<Json<Series>, Problem> {
    if !(1..=MINUTES).contains(&span.minutes) {
        return Err(Problem::field("minutes", format!("between 1 and {MINUTES}")));
    }
    if !(1..=60).contains(&span.step) {
        return Err(Problem::field("step", "between 1 and 60"));
    }
    let minutes = admin.activity.minutes(span.minutes, SystemTime::now());
    let point = |minutes: &[Minute]| {
        let mut sum = minutes[0];
        minutes[1..].iter().for_each(|minute| sum.add(minute));
        let Minute { number, announcements, answered, fetches, failures } = sum;
        Point { at: number * 60_000, announcements, answered, fetches, failures }
    };
    // The newest point is whole; what does not fill a point is the oldest.
    let rest = minutes.len() % span.step;
    let (first, others) = minutes.split_at(rest);
    let points = [first].into_iter().filter(|first| !first.is_empty()).chain(others.chunks(span.step)).map(point);
    Ok(Json(Series { step: span.step, points: points.collect() }))
}
