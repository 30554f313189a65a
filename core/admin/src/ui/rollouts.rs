//! Roll-outs: which there are, how each goes on, and what can be done about it.

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use minijinja::context;

use super::{Refusal, form::Checked, session::Session, show, words::data};
use crate::{
    api::{
        Body, Query,
        rollouts::{self, Id, Page},
    },
    problem::Problem,
    serve::Door,
};

pub(super) async fn list(State(door): State<Door>, Extension(session): Extension<Session>) -> Response {
    let all = rollouts::list(State(door.admin.clone())).await;
    let settings = &door.admin.desk.world().settings.rollouts;
    let quiet: Vec<String> = settings.quiet_hours.iter().map(ToString::to_string).collect();
    let page = context! {
        csrf => session.csrf.as_str(), here => "rollouts", all => data(&all.0), quiet,
        per_minute => settings.per_minute, stop_after => settings.stop_after,
        stages => ["out_of_date", "stuck", "never_fetched", "in_step"],
        profiles => data(door.admin.desk.world().fleet.profiles().collect::<Vec<_>>()),
    };
    show("rollouts.html", page)
}

/// Begins one of all phones that fit.
pub(super) async fn begin(State(door): State<Door>, Checked(fields): Checked) -> Result<Response, Refusal> {
    let progress = match fields.filled("progress") {
        None => None,
        Some(word) => {
            let stage = serde_json::from_value(word.into());
            Some(stage.map_err(|_| Problem::field("progress", "phones do not stand so"))?)
        }
    };
    let order = rollouts::Order {
        why: fields.get("why").to_owned(),
        all_that_fit: Some(rollouts::Fitting {
            progress,
            profile: fields.filled("profile"),
            ..rollouts::Fitting::default()
        }),
        reboot: fields.get("reboot") == "yes",
        per_minute: fields.number("per_minute")?,
        stop_after: fields.number("stop_after")?,
        regardless: fields.get("regardless") == "yes",
        ..rollouts::Order::default()
    };
    let (_, begun) = rollouts::begin(State(door.admin), Body(order)).await?;
    Ok(Redirect::to(&format!("/rollouts/{}", begun.0.id)).into_response())
}

pub(super) async fn page(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Id(id): Id,
) -> Result<Response, Refusal> {
    draw(door, session, id, "rollout.html").await
}

/// What changes of it alone, for the script that keeps it up to date.
pub(super) async fn state(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Id(id): Id,
) -> Result<Response, Refusal> {
    draw(door, session, id, "rollout_state.html").await
}

async fn draw(door: Door, session: Session, id: u64, template: &str) -> Result<Response, Refusal> {
    let one = rollouts::one(State(door.admin), Id(id), Query(Page::default())).await?;
    Ok(show(template, context! { csrf => session.csrf.as_str(), here => "rollouts", one => data(&one.0) }))
}

pub(super) async fn cancel(State(door): State<Door>, Id(id): Id, Checked(_): Checked) -> Result<Response, Refusal> {
    rollouts::cancel(State(door.admin), Id(id)).await?;
    Ok(Redirect::to(&format!("/rollouts/{id}")).into_response())
}

pub(super) async fn resume(State(door): State<Door>, Id(id): Id, Checked(_): Checked) -> Result<Response, Refusal> {
    rollouts::resume(State(door.admin), Id(id)).await?;
    Ok(Redirect::to(&format!("/rollouts/{id}")).into_response())
}
