//! What an edit would come to, before it is written: how many phones would get other files, how many would restart for them, and what of
//! each would differ.

use std::{collections::BTreeMap, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use provost_plugin::{MacAddr, spec::Restarts};
use provost_server::{
    change::Change,
    edit::{Draft, Edit, EditError},
    progress,
    world::World,
};
use serde::{Deserialize, Serialize};
use similar::TextDiff;
use utoipa::ToSchema;

use super::{Body, aside, files::file_named, preview};
use crate::{Admin, problem::Problem};

/// Phones in an answer.
const MOST: usize = 1000;
const EDITS: usize = 100;
/// Somebody waits for it. What it finds until then is an even sample.
const PATIENCE: Duration = Duration::from_secs(8);
/// Lines of a diff; what is longer is cut.
const LINES: usize = 2000;

/// A file as it would be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Would {
    /// As under /api/v1/files.
    pub(crate) file: String,
    /// None: it would not be there.
    pub(crate) content: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edits {
    pub(crate) edits: Vec<Would>,
}

/// Whether a phone restarts that is told to fetch again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WouldRestart {
    No,
    Yes,
    /// No source says.
    Perhaps,
}

impl From<Restarts> for WouldRestart {
    fn from(restarts: Restarts) -> WouldRestart {
        match restarts {
            Restarts::Never => WouldRestart::No,
            Restarts::Unknown => WouldRestart::Perhaps,
            // Its files would have changed.
            Restarts::IfChanged | Restarts::Always => WouldRestart::Yes,
        }
    }
}

/// A phone that would get other files.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Changed {
    mac: String,
    label: Option<String>,
    /// Names of the files that would differ, come or go; none where the phone would be served no more.
    files: Vec<String>,
    restarts: WouldRestart,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Outlook {
    /// Phones that would get other files.
    phones: usize,
    /// Of these, those that would restart when they are told to fetch them.
    restarts: usize,
    /// Of these, those that perhaps would: no source says.
    perhaps: usize,
    /// Phones that were looked at; fewer than `of` where there are so many that it would have taken too long.
    looked_at: usize,
    of: usize,
    /// The phones that would get other files; the first thousand.
    items: Vec<Changed>,
}

impl Outlook {
    pub(crate) fn changed(&self) -> &[Changed] {
        &self.items
    }
}

fn drafted(admin: &Admin, edits: Vec<Would>) -> Result<Draft, Problem> {
    if edits.is_empty() || edits.len() > EDITS {
        return Err(Problem::field("edits", format!("from 1 to {EDITS} files are tried at once")));
    }
    let world = admin.desk.world();
    let edit = |edit: Would| {
        let path = file_named(&world, &edit.file)?.path;
        Ok(Edit { path, of: None, content: edit.content })
    };
    let edits: Result<Vec<Edit>, Problem> = edits.into_iter().map(edit).collect();
    Ok(admin.desk.draft(&edits?)?)
}

/// What edits would come to; nothing is written
///
/// What is wrong with them is told with file, line and column, and so are the phones that could not be served any more.
#[utoipa::path(post, path = "/api/v1/changes", tag = "files", request_body = Edits, responses(
    (status = 200, body = Outlook),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn outlook(
    State(admin): State<Admin>,
    Body(Edits { edits }): Body<Edits>,
) -> Result<Json<Outlook>, Problem> {
    aside(move || outlook_of(&admin, &mut drafted(&admin, edits)?).map(Json)).await?
}

fn outlook_of(admin: &Admin, draft: &mut Draft) -> Result<Outlook, Problem> {
    let mut impact = draft.impact(&admin.desk.registry, PATIENCE);
    let changes = std::mem::take(&mut impact.changes);
    let (looked_at, of) = (impact.looked_at, impact.of);
    let broken = draft.broken(impact);
    if !broken.is_empty() {
        return Err(EditError::Refused(broken).into());
    }
    let label = |mac: MacAddr| {
        let device = draft.then.fleet.device(mac).or(draft.now.fleet.device(mac));
        device.and_then(|device| device.label()).map(str::to_owned)
    };
    let changed = |change: &Change| Changed {
        mac: change.mac.to_string(),
        label: label(change.mac),
        files: change.files.clone(),
        restarts: change.restarts.into(),
    };
    let count = |wanted| changes.iter().filter(|change| WouldRestart::from(change.restarts) == wanted).count();
    Ok(Outlook {
        phones: changes.len(),
        restarts: count(WouldRestart::Yes),
        perhaps: count(WouldRestart::Perhaps),
        looked_at,
        of,
        items: changes.iter().take(MOST).map(changed).collect(),
    })
}

/// What edits would come to, with the differences of the first phones that would change, and of one that somebody looks at: for a page
/// that shows all of that at once.
pub(crate) struct Weighed {
    pub(crate) outlook: Outlook,
    /// By MAC, in the order of the outlook.
    pub(crate) first: Vec<(String, Vec<Difference>)>,
    pub(crate) shown: Vec<Difference>,
}

pub(crate) async fn weighed(
    admin: &Admin,
    edits: Vec<Would>,
    phones: usize,
    shown: Option<MacAddr>,
) -> Result<Weighed, Problem> {
    let admin = admin.clone();
    aside(move || {
        let mut draft = drafted(&admin, edits)?;
        let outlook = outlook_of(&admin, &mut draft)?;
        let first = outlook.items.iter().take(phones).filter_map(|changed| {
            let mac = changed.mac.parse().ok()?;
            Some(differences(&admin, &draft, mac).map(|differences| (changed.mac.clone(), differences)))
        });
        let first = first.collect::<Result<Vec<_>, Problem>>()?;
        let shown = shown.map(|mac| differences(&admin, &draft, mac)).transpose()?.unwrap_or_default();
        Ok(Weighed { outlook, first, shown })
    })
    .await?
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Compared {
    #[schema(value_type = String)]
    pub(crate) mac: MacAddr,
    pub(crate) edits: Vec<Would>,
}

/// What would be different in one file of a phone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Difference {
    name: String,
    /// Unified, with passwords masked; empty where nothing but a masked value differs.
    diff: String,
    /// The diff is only the beginning.
    cut: bool,
    /// The file as it would be, with passwords masked; none where it would be gone.
    then: Option<String>,
}

/// What edits would change in the files of one phone
#[utoipa::path(post, path = "/api/v1/changes/diff", tag = "files", request_body = Compared, responses(
    (status = 200, body = Vec<Difference>),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn diff(
    State(admin): State<Admin>,
    Body(Compared { mac, edits }): Body<Compared>,
) -> Result<Json<Vec<Difference>>, Problem> {
    aside(move || differences(&admin, &drafted(&admin, edits)?, mac).map(Json)).await?
}

/// What a draft would change in the files of one phone.
fn differences(admin: &Admin, draft: &Draft, mac: MacAddr) -> Result<Vec<Difference>, Problem> {
    let known = |world: &World| world.fleet.device(mac).is_some();
    if !known(&draft.now) && !known(&draft.then) {
        return Err(Problem::not_found(format!("{mac} is not in the inventory, and would not be")));
    }
    let record = admin.desk.registry.by_mac(mac);
    let files = |world: &World| -> Result<BTreeMap<String, (Option<String>, String)>, Problem> {
        if !known(world) {
            return Ok(BTreeMap::new());
        }
        let unfit = |why: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why);
        let (_, states) = progress::files(world, mac, record.as_ref()).map_err(unfit)?;
        let peer = progress::peer(mac, record.as_ref());
        let settings = states.into_iter().filter(|state| progress::is_settings(state.kind));
        let text = |state: progress::FileState| {
            if let Some(error) = state.error {
                return Err(unfit(error));
            }
            let shown = preview::of(world, &peer, &state.name)?;
            Ok((state.name, (state.digest, shown.into_text())))
        };
        settings.map(text).collect()
    };
    // What cannot be rendered now may be what the edit mends.
    let (before, after) = (files(&draft.now).unwrap_or_default(), files(&draft.then)?);
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differences = names.into_iter().filter_map(|name| {
        let (old, new) = (before.get(name), after.get(name));
        if old.map(|(digest, _)| digest) == new.map(|(digest, _)| digest) {
            return None;
        }
        let text = |side: Option<&(Option<String>, String)>| side.map(|(_, text)| text.clone()).unwrap_or_default();
        let (diff, cut) = unified(&text(old), &text(new), name);
        Some(Difference { name: name.clone(), diff, cut, then: new.map(|(_, text)| text.clone()) })
    });
    Ok(differences.collect())
}

/// The differing lines with some around them, and whether there were more.
pub(crate) fn unified(old: &str, new: &str, name: &str) -> (String, bool) {
    let diff = TextDiff::configure().timeout(Duration::from_secs(1)).diff_lines(old, new);
    let whole = diff.unified_diff().context_radius(3).header(name, name).to_string();
    let lines: Vec<&str> = whole.lines().collect();
    let cut = lines.len() > LINES;
    // Without the two lines that name the file: whoever shows it says that.
    let shown = lines.iter().skip(2).take(LINES).map(|line| format!("{line}\n")).collect();
    (shown, cut)
}
