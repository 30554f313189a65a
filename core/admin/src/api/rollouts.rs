//! Roll-outs: many phones told to fetch again, and what came of it.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
};
use provost_plugin::MacAddr;
use provost_server::{
    pnp::resync::Resync,
    rollout::{self, NotRolledOut, PHONES, Rollout, Step, Wanted},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Body, Query, aside, devices, shortened};
use crate::{Admin, problem::Problem};

const FASTEST: u32 = 6000;
const MOST: usize = 1000;
/// Characters of what a roll-out is for.
const WHY: usize = 200;

/// The number in a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id(pub(crate) u64);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Id, Problem> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        let text = path.map(|path| path.0).unwrap_or_default();
        text.parse().map(Id).map_err(|_| Problem::field("id", format!("\"{}\" is no number", shortened(&text))))
    }
}

/// Which phones, and how fast. What is left out is as in `rollouts:` of the settings.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = RolloutOrder)]
pub(crate) struct Order {
    /// What it is for, in words.
    pub(crate) why: String,
    /// At most 100,000. Or `all_that_fit`.
    #[schema(value_type = Vec<String>)]
    pub(crate) phones: Vec<MacAddr>,
    /// Every enrolled phone that fits.
    pub(crate) all_that_fit: Option<Fitting>,
    /// Restart them, and not only fetch again.
    pub(crate) reboot: bool,
    /// Phones that are told in a minute.
    #[schema(minimum = 1, maximum = 6000)]
    pub(crate) per_minute: Option<u32>,
    /// Stop when so many have failed; 0 is never.
    pub(crate) stop_after: Option<u32>,
    /// Quiet hours do not count.
    pub(crate) regardless: bool,
}

/// As in the list of phones.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Fitting {
    pub(crate) q: String,
    pub(crate) vendor: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) progress: Option<devices::Stage>,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    Running,
    /// It waits until quiet hours are over.
    Quiet,
    /// Too many phones failed.
    Stopped,
    Cancelled,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StepOf {
    Waiting,
    /// It is being told.
    Told,
    /// It said that it will.
    Answered,
    /// It has fetched something since, and is not in step yet.
    Fetched,
    /// It took what it would get now.
    InStep,
    Failed,
}

impl From<&Step> for StepOf {
    fn from(step: &Step) -> StepOf {
        match step {
            Step::Waiting => StepOf::Waiting,
            Step::Told => StepOf::Told,
            Step::Answered => StepOf::Answered,
            Step::Fetched => StepOf::Fetched,
            Step::InStep { .. } => StepOf::InStep,
            Step::Failed { .. } => StepOf::Failed,
        }
    }
}

/// A roll-out as a whole.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Summary {
    pub(crate) id: u64,
    why: String,
    /// Milliseconds since 1970.
    made: u64,
    reboot: bool,
    per_minute: u32,
    stop_after: u32,
    regardless: bool,
    state: Standing,
    /// Why it stands still.
    reason: Option<String>,
    /// When quiet hours are over; milliseconds since 1970.
    until: Option<u64>,
    phones: usize,
    waiting: usize,
    /// Told, and nothing final known yet.
    under_way: usize,
    in_step: usize,
    /// Of those in step, the ones that were seen starting.
    restarted: usize,
    failed: usize,
}

impl From<&Rollout> for Summary {
    fn from(rollout: &Rollout) -> Summary {
        let count = |fits: fn(&Step) -> bool| rollout.phones.values().filter(|step| fits(step)).count();
        let (state, reason, until) = match &rollout.state {
            rollout::State::Running => (Standing::Running, None, None),
            rollout::State::Quiet { until } => {
                (Standing::Quiet, Some("these are quiet hours".to_owned()), Some(*until))
            }
            rollout::State::Stopped { why } => (Standing::Stopped, Some(why.clone()), None),
            rollout::State::Cancelled => (Standing::Cancelled, None, None),
            rollout::State::Done => (Standing::Done, None, None),
        };
        Summary {
            id: rollout.id,
            why: rollout.why.clone(),
            made: rollout.made,
            reboot: rollout.reboot,
            per_minute: rollout.per_minute,
            stop_after: rollout.stop_after,
            regardless: rollout.regardless,
            state,
            reason,
            until,
            phones: rollout.phones.len(),
            waiting: count(|step| matches!(step, Step::Waiting)),
            under_way: count(|step| matches!(step, Step::Told | Step::Answered | Step::Fetched)),
            in_step: count(|step| matches!(step, Step::InStep { .. })),
            restarted: count(|step| matches!(step, Step::InStep { restarted: true })),
            failed: rollout.failed(),
        }
    }
}

/// One phone of a roll-out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Part {
    mac: String,
    label: Option<String>,
    step: StepOf,
    /// Why it failed.
    why: Option<String>,
    /// It was seen starting.
    restarted: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Progressing {
    #[serde(flatten)]
    summary: Summary,
    /// Those that failed first.
    items: Vec<Part>,
    /// How many fit in all.
    total: usize,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// Only phones that are so far
    #[param(inline)]
    step: Option<StepOf>,
    /// The first so many are left out
    offset: usize,
    /// At most so many are returned
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl From<NotRolledOut> for Problem {
    fn from(error: NotRolledOut) -> Problem {
        match error {
            NotRolledOut::Unknown(_) => Problem::not_found(error.to_string()),
            NotRolledOut::Full | NotRolledOut::Over | NotRolledOut::UnderWay => Problem::conflict(error.to_string()),
        }
    }
}

/// Make many phones fetch again
///
/// One after the other at a rate, not in quiet hours, and no further one once too many have failed. Each is followed until it is in step.
#[utoipa::path(post, path = "/api/v1/rollouts", tag = "rollouts", request_body = Order, responses(
    (status = 201, body = Summary),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn begin(
    State(admin): State<Admin>,
    Body(order): Body<Order>,
) -> Result<(StatusCode, Json<Summary>), Problem> {
    let world = admin.desk.world();
    let settings = &world.settings.rollouts;
    let per_minute = order.per_minute.unwrap_or(settings.per_minute);
    if per_minute == 0 || per_minute > FASTEST {
        return Err(Problem::field("per_minute", format!("it is from 1 to {FASTEST}")));
    }
    let stop_after = order.stop_after.unwrap_or(settings.stop_after);
    let phones = match order.all_that_fit {
        Some(_) if !order.phones.is_empty() => {
            return Err(Problem::field("all_that_fit", "it is this or `phones`, not both"));
        }
        Some(fitting) => {
            let admin = admin.clone();
            aside(move || devices::fitting(&admin, fitting)).await?
        }
        None => order.phones,
    };
    if phones.is_empty() || phones.len() > PHONES {
        return Err(Problem::field(
            "phones",
            format!("from 1 to {PHONES} phones are told, and these are {}", phones.len()),
        ));
    }
    if let Some(stranger) = phones.iter().find(|mac| world.fleet.device(**mac).is_none()) {
        return Err(Problem::field("phones", format!("{stranger} is not in the inventory")));
    }
    let wanted = Wanted {
        why: order.why.chars().filter(|letter| !letter.is_control()).take(WHY).collect(),
        phones,
        how: if order.reboot { Resync::Reboot } else { Resync::Fetch },
        per_minute,
        stop_after,
        regardless: order.regardless,
    };
    let rollout = admin.rollouts.begin(wanted)?;
    Ok((StatusCode::CREATED, Json(Summary::from(&rollout))))
}

/// The roll-outs, the newest first
#[utoipa::path(get, path = "/api/v1/rollouts", tag = "rollouts", responses(
    (status = 200, body = Vec<Summary>),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(State(admin): State<Admin>) -> Json<Vec<Summary>> {
    Json(admin.rollouts.list().iter().map(Summary::from).collect())
}

/// One roll-out, with its phones
#[utoipa::path(get, path = "/api/v1/rollouts/{id}", tag = "rollouts", params(("id" = u64, Path), Page), responses(
    (status = 200, body = Progressing),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn one(
    State(admin): State<Admin>,
    Id(id): Id,
    Query(page): Query<Page>,
) -> Result<Json<Progressing>, Problem> {
    let limit = page.limit.unwrap_or(100);
    if limit == 0 || limit > MOST {
        return Err(Problem::field("limit", format!("it is from 1 to {MOST}")));
    }
    let rollout = admin.rollouts.one(id).ok_or(NotRolledOut::Unknown(id))?;
    let world = admin.desk.world();
    let rank = |step: StepOf| match step {
        StepOf::Failed => 0,
        StepOf::Told | StepOf::Answered | StepOf::Fetched => 1,
        StepOf::Waiting => 2,
        StepOf::InStep => 3,
    };
    let mut fitting: Vec<(&MacAddr, &Step)> = rollout
        .phones
        .iter()
        .filter(|(_, step)| page.step.is_none_or(|wanted| wanted == StepOf::from(*step)))
        .collect();
    fitting.sort_by_key(|(mac, step)| (rank(StepOf::from(*step)), **mac));
    let total = fitting.len();
    let part = |(mac, step): (&MacAddr, &Step)| Part {
        mac: mac.to_string(),
        label: world.fleet.device(*mac).and_then(|device| device.label()).map(str::to_owned),
        step: step.into(),
        why: match step {
            Step::Failed { why } => Some(why.clone()),
            _ => None,
        },
        restarted: matches!(step, Step::InStep { restarted: true }),
    };
    let items = fitting.into_iter().skip(page.offset).take(limit).map(part).collect();
    Ok(Json(Progressing { summary: Summary::from(&rollout), items, total }))
}

/// Tell no further phone
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/cancel", tag = "rollouts", params(("id" = u64, Path)), responses(
    (status = 204, description = "No further phone is told; those that were told do as they were told"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn cancel(State(admin): State<Admin>, Id(id): Id) -> Result<StatusCode, Problem> {
    admin.rollouts.cancel(id)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Go on in spite of the phones that failed
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/resume", tag = "rollouts", params(("id" = u64, Path)), responses(
    (status = 204, description = "The next phone is told"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn resume(State(admin): State<Admin>, Id(id): Id) -> Result<StatusCode, Problem> {
    admin.rollouts.resume(id)?;
    Ok(StatusCode::NO_CONTENT)
}
