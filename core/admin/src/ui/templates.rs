//! Files as text, with what a change would come to: templates above all, and profiles and lists of people the same way.
//!
//! A template is never changed where it is shipped: what is saved is the site's own version of it, which wins, and going back is deleting
//! that. With a phone chosen, the page shows what its files would be.

use axum::{
    Extension,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use minijinja::{Value, context};
use provost_plugin::MacAddr;
use provost_server::{edit::EditedKind, world::World};
use serde::Deserialize;

use super::{
    Refusal,
    form::{Checked, Fields},
    session::Session,
    show,
    source::place,
    words::{data, in_url},
};
use crate::{
    Admin,
    api::{
        Body, Query,
        changes::{self, Would},
        files::{self, Name, content, file_named},
        rollouts,
    },
    problem::Problem,
    serve::Door,
};

/// Differences that are shown one under the other.
const SHOWN: usize = 50;
/// What a browser edits without ado.
const LONGEST: usize = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
}

/// The templates of all vendors.
pub(super) async fn list(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Query(Asked { q }): Query<Asked>,
) -> Result<Response, Refusal> {
    let which = serde_json::from_value(serde_json::json!({ "kind": "template", "q": q, "limit": 1000 }));
    let which = which.map_err(|error| Problem::field("q", error.to_string()))?;
    let files = files::list(State(door.admin.clone()), Query(which)).await?;
    let page = context! { csrf => session.csrf.as_str(), here => "templates", q, files => data(&files.0) };
    Ok(show("templates.html", page))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Shown {
    /// The phone whose files are shown.
    phone: String,
    done: String,
    /// A version that is kept, to be looked at before it is saved again.
    version: String,
    /// The line to begin at.
    line: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    name: String,
}

/// The file whose name somebody typed, which need not be there yet.
pub(super) async fn named(State(door): State<Door>, Query(Named { name }): Query<Named>) -> Result<Response, Refusal> {
    let file = file_named(&door.admin.desk.world(), &name)?;
    Ok(Redirect::to(&format!("/files/{}", in_path(file.name()))).into_response())
}

/// One file.
pub(super) async fn page(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Name(name): Name,
    Query(shown): Query<Shown>,
) -> Result<Response, Refusal> {
    let now = now(&door.admin, &name)?;
    let text = match shown.version.as_str() {
        "" => now.text.clone(),
        version => {
            let wanted = files::Version { version: Some(version.to_owned()) };
            files::one(State(door.admin.clone()), Name(name.clone()), Query(wanted)).await?.1
        }
    };
    if text.len() > LONGEST {
        let why = format!("the file is longer than {} KiB; change it with an editor, or by the API", LONGEST >> 10);
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why).into());
    }
    let changed = text != now.text;
    let line = shown.line.parse().unwrap_or(0);
    let asked = Draft { name, text, version: now.version.unwrap_or_default(), phone: shown.phone, line };
    let outlook = if changed { Some(weigh(&door.admin, &asked).await) } else { None };
    draw(&door.admin, &session, &asked, outlook, None, &shown.done).await
}

/// What somebody has typed.
struct Draft {
    name: String,
    text: String,
    version: String,
    phone: String,
    /// Where to begin; 0 at the top.
    line: usize,
}

/// What it would come to, or what is wrong with it.
pub(super) type Weighed = Result<Outlook, Problem>;

#[derive(Debug)]
pub(super) struct Outlook {
    pub(super) whole: Value,
    /// Of each phone that would change, the first ones: MAC, label and the differences.
    pub(super) phones: Vec<Value>,
    /// What the chosen phone's files would be.
    then: Vec<Value>,
}

pub(super) async fn act(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Name(name): Name,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    // Browsers send CR LF for each end of a line, whatever the file has.
    let text = fields.get("text").replace("\r\n", "\n");
    let (version, phone) = (fields.get("version").to_owned(), fields.get("phone").trim().to_owned());
    let draft = Draft { name, text, version, phone, line: 0 };
    let admin = &door.admin;
    let done = match fields.get("do") {
        "save" => save(admin, &draft, Some(draft.text.clone())).await.map(|()| "saved"),
        "revert" => save(admin, &draft, None).await.map(|()| "reverted"),
        "rollout" => return roll_out(admin, &draft, &fields).await,
        _ => {
            let outlook = weigh(admin, &draft).await;
            return draw(admin, &session, &draft, Some(outlook), None, "").await;
        }
    };
    match done {
        Ok(done) => {
            let phone = in_url(&draft.phone);
            Ok(Redirect::to(&format!("/files/{}?done={done}&phone={phone}", in_path(&draft.name))).into_response())
        }
        Err(problem) if problem.status == StatusCode::PRECONDITION_FAILED.as_u16() || problem.status == 409 => {
            // What was typed stays, what somebody else wrote meanwhile stands beside it, and saving once more is a decision.
            let theirs = now(admin, &draft.name)?;
            let draft = Draft { version: theirs.version.unwrap_or_default(), ..draft };
            draw(admin, &session, &draft, None, Some((&problem, &theirs.text)), "").await
        }
        Err(problem) => draw(admin, &session, &draft, Some(Err(problem)), None, "").await,
    }
}

fn now(admin: &Admin, name: &str) -> Result<files::Content, Problem> {
    let world = admin.desk.world();
    let file = file_named(&world, name)?;
    match content(&world, &file) {
        // One that is to be.
        Err(problem) if problem.status == 404 && file.kind != EditedKind::Template => {
            Ok(files::Content { text: String::new(), version: None, shipped: None })
        }
        found => found,
    }
}

/// None: it is deleted.
async fn save(admin: &Admin, draft: &Draft, text: Option<String>) -> Result<(), Problem> {
    let mut headers = HeaderMap::new();
    let (name, value) = match draft.version.as_str() {
        "" => (header::IF_NONE_MATCH, "*".to_owned()),
        version => (header::IF_MATCH, format!("\"{version}\"")),
    };
    headers.insert(name, HeaderValue::from_str(&value).map_err(|_| Problem::field("version", "it is none"))?);
    let (admin, name) = (State(admin.clone()), Name(draft.name.clone()));
    match text {
        Some(text) => files::put(admin, name, headers, Bytes::from(text)).await.map(drop),
        None => files::delete(admin, name, headers).await.map(drop),
    }
}

async fn weigh(admin: &Admin, draft: &Draft) -> Weighed {
    let chosen = phone(admin, draft)?;
    outlook(admin, Would { file: draft.name.clone(), content: Some(draft.text.clone()) }, chosen).await
}

/// What an edit of a file would come to, phone by phone.
pub(super) async fn outlook(admin: &Admin, edit: Would, chosen: Option<MacAddr>) -> Weighed {
    let weighed = changes::weighed(admin, vec![edit], SHOWN, chosen).await?;
    let mut phones = Vec::new();
    for ((mac, differences), changed) in weighed.first.iter().zip(weighed.outlook.changed()) {
        let changed = serde_json::to_value(changed).map_err(|error| Problem::internal(error.to_string()))?;
        let (label, restarts) = (data(&changed["label"]), data(&changed["restarts"]));
        phones.push(context! { mac, label, restarts, differences => compared(differences)? });
    }
    let whole = serde_json::to_value(&weighed.outlook).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(Outlook { whole: data(whole), phones, then: compared(&weighed.shown)? })
}

/// The phone that somebody chose, by MAC or by name.
fn phone(admin: &Admin, draft: &Draft) -> Result<Option<MacAddr>, Problem> {
    if draft.phone.is_empty() {
        return Ok(None);
    }
    let world = admin.desk.world();
    let by_mac = draft.phone.parse().ok().filter(|mac| world.fleet.device(*mac).is_some());
    let by_label = || {
        let mut named = world.fleet.devices().filter(|(_, device)| device.label() == Some(&draft.phone));
        named.next().map(|(mac, _)| mac)
    };
    let none = || Problem::field("phone", "no phone of the inventory has that MAC address or name");
    by_mac.or_else(by_label).ok_or_else(none).map(Some)
}

/// The differences in one phone's files, line by line.
fn compared(differences: &[changes::Difference]) -> Result<Vec<Value>, Problem> {
    let differences = serde_json::to_value(differences).map_err(|error| Problem::internal(error.to_string()))?;
    let shown = |one: &serde_json::Value| {
        let diff = one["diff"].as_str().unwrap_or_default();
        context! { name => data(&one["name"]), lines => lines(diff), cut => data(&one["cut"]), then => data(&one["then"]) }
    };
    Ok(differences.as_array().into_iter().flatten().map(shown).collect())
}

/// A diff with the class of each line.
fn lines(diff: &str) -> Vec<Value> {
    let class = |line: &str| match line.as_bytes().first() {
        Some(b'+') => "added",
        Some(b'-') => "removed",
        Some(b'@') => "where",
        _ => "",
    };
    diff.lines().map(|line| context! { class => class(line), text => line }).collect()
}

/// Has the phones fetch what was saved: of a template's vendor, those that are out of date.
async fn roll_out(admin: &Admin, draft: &Draft, fields: &Fields) -> Result<Response, Refusal> {
    let vendor = vendor(&admin.desk.world(), &draft.name);
    let order = rollouts::Order {
        why: draft.name.clone(),
        all_that_fit: Some(rollouts::Fitting {
            vendor,
            progress: Some(crate::api::devices::Stage::OutOfDate),
            ..rollouts::Fitting::default()
        }),
        per_minute: fields.number("per_minute")?,
        regardless: fields.get("regardless") == "yes",
        ..rollouts::Order::default()
    };
    let (_, begun) = rollouts::begin(State(admin.clone()), Body(order)).await?;
    Ok(Redirect::to(&format!("/rollouts/{}", begun.0.id)).into_response())
}

/// The vendor that a template is of.
fn vendor(world: &World, name: &str) -> Option<String> {
    let id = name.strip_prefix("templates/")?.split('/').next()?;
    world.shelf.get(id).map(|plugin| plugin.spec.vendor.clone())
}

async fn draw(
    admin: &Admin,
    session: &Session,
    draft: &Draft,
    outlook: Option<Weighed>,
    theirs: Option<(&Problem, &str)>,
    done: &str,
) -> Result<Response, Refusal> {
    let world = admin.desk.world();
    let file = file_named(&world, &draft.name)?;
    let now = now(admin, &draft.name).ok();
    let kept = files::earlier(State(admin.clone()), Name(draft.name.clone())).await?;
    let vendor = vendor(&world, &draft.name);
    let problem = match &outlook {
        Some(Err(problem)) => Some(problem),
        _ => None,
    };
    let own = file.path.display().to_string();
    let errors: Vec<Value> = problem
        .into_iter()
        .flat_map(|problem| &problem.errors)
        .map(|wrong| {
            let (file, line) = place(&wrong.at);
            let line = if file == own { line } else { 0 };
            let shown = line.checked_sub(1).and_then(|line| draft.text.lines().nth(line));
            context! { at => wrong.at.as_str(), message => wrong.message.as_str(), line, shown }
        })
        .collect();
    // Against what is shipped, as the text stands.
    let shipped = now.as_ref().and_then(|now| now.shipped.as_deref()).filter(|shipped| *shipped != draft.text);
    let against = shipped.map(|shipped| lines(&changes::unified(shipped, &draft.text, &draft.name).0));
    let unsaved = now.as_ref().is_none_or(|now| now.text != draft.text);
    let out_of_date = match done {
        "saved" | "reverted" => {
            let admin = admin.clone();
            let fitting = rollouts::Fitting {
                vendor: vendor.clone(),
                progress: Some(crate::api::devices::Stage::OutOfDate),
                ..rollouts::Fitting::default()
            };
            Some(crate::api::aside(move || crate::api::devices::fitting(&admin, fitting).len()).await?)
        }
        _ => None,
    };
    let (weighed, phones, then) = match &outlook {
        Some(Ok(outlook)) => (Some(outlook.whole.clone()), outlook.phones.clone(), outlook.then.clone()),
        _ => (None, Vec::new(), Vec::new()),
    };
    let settings = &world.settings.rollouts;
    let page = show(
        "file.html",
        context! {
            csrf => session.csrf.as_str(),
            here => draft.name.split('/').next(), line => draft.line,
            name => draft.name.as_str(), path => in_path(&draft.name), place => own,
            text => draft.text.as_str(), version => draft.version.as_str(), phone => draft.phone.as_str(),
            is_template => file.kind == EditedKind::Template,
            overridden => file.kind == EditedKind::Template && now.as_ref().is_some_and(|now| now.version.is_some()),
            against, unsaved, vendor, errors, weighed, phones, then, done, out_of_date,
            detail => problem.map(|problem| problem.detail.as_str()),
            theirs => theirs.map(|(_, theirs)| theirs),
            kept => data(&kept.0),
            per_minute => settings.per_minute,
            rows => draft.text.lines().count().clamp(12, 36) + 2,
        },
    );
    let problem = problem.or(theirs.map(|(problem, _)| problem));
    let status = problem.and_then(|problem| StatusCode::from_u16(problem.status).ok()).unwrap_or(StatusCode::OK);
    Ok((status, page).into_response())
}

/// A name in the path of a page.
pub(super) fn in_path(name: &str) -> String {
    name.split('/').map(in_url).collect::<Vec<_>>().join("/")
}
