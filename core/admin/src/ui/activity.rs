//! What was decided lately and why, and how much of it there was in the last hour or day.

use std::fmt::Write;

use axum::{Extension, extract::State, response::Response};
use minijinja::{Value, context};
use serde::Deserialize;
use serde_json::json;

use super::{
    Refusal,
    session::Session,
    show,
    words::{data, in_url},
};
use crate::{
    Admin,
    api::{
        Query,
        activity::{self, Point, Span},
    },
    problem::Problem,
    serve::Door,
};

const SHOWN: usize = 100;
/// Height of a plot in units of its own, and the width of one of its points.
const HIGH: u32 = 60;
const WIDE: usize = 4;

/// The query of the page, as a form without script sends it: with empty fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    level: String,
    act: String,
    device: String,
    /// Only events before this number: the way to older ones.
    before: String,
    /// `hour`, or else the day.
    span: String,
}

impl Asked {
    /// The same question with other words in it.
    fn with(&self, changes: &[(&str, &str)]) -> String {
        let now = [
            ("q", self.q.as_str()),
            ("level", &self.level),
            ("act", &self.act),
            ("device", &self.device),
            ("before", &self.before),
            ("span", &self.span),
        ];
        let pairs = now.iter().filter_map(|(name, value)| {
            let value = changes.iter().find(|(changed, _)| changed == name).map_or(*value, |(_, value)| value);
            (!value.is_empty()).then(|| format!("{name}={}", in_url(value)))
        });
        format!("?{}", pairs.collect::<Vec<_>>().join("&"))
    }
}

async fn found(admin: &Admin, asked: &Asked) -> Result<Value, Problem> {
    let mut filter = json!({ "q": asked.q, "limit": SHOWN });
    for (name, value) in [("level", &asked.level), ("act", &asked.act), ("device", &asked.device)] {
        if !value.is_empty() {
            filter[name] = value.as_str().into();
        }
    }
    if let Ok(before) = asked.before.parse::<u64>() {
        filter["before"] = before.into();
    }
    let filter = serde_json::from_value(filter).map_err(|error| Problem::field("filter", error.to_string()))?;
    let activity = activity::list(State(admin.clone()), Query(filter)).await?.0;
    let oldest = activity.events.first().map(|event| event.number).filter(|_| activity.more);
    let mut activity = serde_json::to_value(activity).map_err(|error| Problem::internal(error.to_string()))?;
    // The newest comes first on a screen.
    activity["events"].as_array_mut().into_iter().for_each(|events| events.reverse());
    Ok(context! {
        activity => data(activity),
        here => "activity",
        q => asked.q.as_str(), level => asked.level.as_str(), act => asked.act.as_str(), device => asked.device.as_str(),
        is_old => !asked.before.is_empty(),
        anything => asked.with(&[("span", "")]) != "?",
        query => asked.with(&[]),
        newest => asked.with(&[("before", "")]),
        older => oldest.map(|oldest| asked.with(&[("before", &oldest.to_string())])),
        acts => [
            "subscribe", "notified", "not notified", "fetch", "enrolled by rule", "not enrolled by rule", "resynced",
            "not resynced", "reloaded", "change asked for",
        ],
    })
}

/// One plot: what is counted, in how many words, and the bars of it.
fn plot(title: &str, class: &str, points: &[Point], of: impl Fn(&Point) -> u32) -> Value {
    let total: u64 = points.iter().map(|point| u64::from(of(point))).sum();
    let most = points.iter().max_by_key(|point| of(point)).filter(|point| of(point) > 0);
    let highest = most.map_or(1, &of);
    let mut bars = String::new();
    for (place, point) in points.iter().enumerate().filter(|(_, point)| of(point) > 0) {
        // What happened at all is seen, however little it is beside the most.
        let high = (u64::from(of(point)) * u64::from(HIGH)).div_ceil(u64::from(highest));
        let _ = write!(bars, "M{} {HIGH}v-{high}h{}v{high}z", place * WIDE, WIDE - 1);
    }
    context! {
        title, class, total, bars, most => most.map(&of), most_at => most.map(|point| point.at),
        wide => points.len() * WIDE, high => HIGH,
    }
}

async fn plots(admin: &Admin, asked: &Asked) -> Result<Value, Problem> {
    let is_hour = asked.span == "hour";
    let (minutes, step) = if is_hour { (60, 1) } else { (1440, 15) };
    let series = activity::series(State(admin.clone()), Query(Span { minutes, step })).await?.0;
    let points = &series.points;
    // A screen reader, and who wants figures, has them hour by hour, or in ten minutes.
    let rows = points.chunks(if is_hour { 10 } else { 4 }).rev().map(|points| {
        let sum = |of: fn(&Point) -> u32| points.iter().map(|point| u64::from(of(point))).sum::<u64>();
        context! {
            at => points[0].at,
            counts => [sum(|p| p.announcements), sum(|p| p.answered), sum(|p| p.fetches), sum(|p| p.failures)],
        }
    });
    let rows: Vec<Value> = rows.collect();
    Ok(context! {
        each => [
            plot("Announcements", "busy", points, |point| point.announcements),
            plot("NOTIFYs answered", "good", points, |point| point.answered),
            plot("Fetches", "busy", points, |point| point.fetches),
            plot("Failures", "bad", points, |point| point.failures),
        ],
        first => points.first().map(|point| point.at), step, is_hour, rows,
        other => asked.with(&[("span", if is_hour { "" } else { "hour" })]),
    })
}

pub(super) async fn page(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let found = found(&door.admin, &asked).await?;
    let plots = plots(&door.admin, &asked).await?;
    Ok(show("activity.html", context! { csrf => session.csrf.as_str(), span => asked.span, plots, ..found }))
}

/// What the page changes of itself.
pub(super) async fn rows(State(door): State<Door>, Query(asked): Query<Asked>) -> Result<Response, Refusal> {
    Ok(show("happenings.html", found(&door.admin, &asked).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_is_as_high_as_its_most_and_shows_the_least() {
        let point = |fetches| Point { at: 60_000, announcements: 0, answered: 0, fetches, failures: 0 };
        let plot = |points: &[Point]| plot("Fetches", "busy", points, |point| point.fetches);
        let drawn = plot(&[point(0), point(1000), point(1)]);
        let of = |name: &str| drawn.get_attr(name).unwrap().to_string();
        assert_eq!([of("total"), of("most"), of("wide")], ["1001", "1000", "12"]);
        assert_eq!(of("bars"), "M4 60v-60h3v60zM8 60v-1h3v1z");
        let nothing = plot(&[point(0)]);
        assert!(
            nothing.get_attr("most").unwrap().is_none() && nothing.get_attr("bars").unwrap().to_string().is_empty()
        );
    }
}
