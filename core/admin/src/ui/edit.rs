//! One device as a form: what its own entry says, with what it would inherit beside it. Saving changes the lines of the file that are about
//! what was changed here, and no other.

use std::{collections::BTreeMap, path::Path};

use axum::{
    Extension, Json as Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use minijinja::{Value, context};
use provost_fleet::Refer;
use provost_plugin::MacAddr;
use provost_server::edit::EditedFile;
use serde_json::{Map, Value as Json};

use super::{
    Refusal,
    fields::{FORM, Field, Kind, LINE_AT_ONCE, Section, at, patch, put},
    form::{Checked, Fields},
    session::Session,
    show,
    words::data,
};
use crate::{
    Admin,
    api::{
        self, Mac,
        changes::{self, Compared, Would},
        function_keys::Inherited,
        settings::{amend, amended},
    },
    problem::Problem,
    serve::Door,
};

/// Lines in the form; a telephone has fewer, a gateway is edited in its file.
const LINES: usize = 64;

pub(super) async fn page(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
) -> Result<Response, Refusal> {
    let Mac(mac) = mac?;
    let own = Own::read(&door.admin, mac).await?;
    let ids = own.line_ids();
    draw(&door.admin, &session, mac, &own, &ids, None, Said::default()).await
}

/// What the device's own entry says now.
struct Own {
    values: Map<String, Json>,
    version: String,
}

impl Own {
    async fn read(admin: &Admin, mac: MacAddr) -> Result<Own, Problem> {
        let ([(_, tag)], Body(values)) = api::settings::settings(State(admin.clone()), Mac(mac)).await?;
        let Json::Object(values) = values else { return Err(Problem::internal("its settings are no section")) };
        Ok(Own { values, version: tag.trim_matches('"').to_owned() })
    }

    fn lines(&self) -> &[Json] {
        self.values.get("lines").and_then(Json::as_array).map_or(&[], Vec::as_slice)
    }

    fn line_ids(&self) -> Vec<String> {
        (0..self.lines().len()).map(|index| index.to_string()).collect()
    }

    fn line(&self, id: &str) -> Option<&Json> {
        self.lines().get(id.parse::<usize>().ok()?)
    }
}

pub(super) async fn save(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    let Mac(mac) = mac?;
    let admin = &door.admin;
    let own = Own::read(admin, mac).await?;
    let mut ids: Vec<String> = fields.all("line").map(str::to_owned).collect();
    let act = fields.get("act");
    if act == "add-line" {
        let next = (0..).map(|number| format!("new{number}")).find(|id| !ids.contains(id));
        ids.extend(next);
    }
    if let Some(gone) = act.strip_prefix("drop-line.") {
        ids.retain(|id| id != gone);
    }
    if ids.len() > LINES {
        let problem = Problem::field("lines", format!("the form takes up to {LINES}; more go into the file"));
        return draw(
            admin,
            &session,
            mac,
            &own,
            &ids,
            Some(&fields),
            Said { problem: Some(problem), ..Said::default() },
        )
        .await;
    }
    if act == "add-line" || act.starts_with("drop-line.") {
        return draw(admin, &session, mac, &own, &ids, Some(&fields), Said::default()).await;
    }
    let change = patch(&own.values, &wanted(&own, &ids, &fields));
    // Not of the version that was just read: of the one that the form was filled in on.
    let of = fields.get("version");
    let outcome = match act {
        "compare" if of == own.version => {
            let said = match compared(admin, mac, of, Json::Object(change)).await {
                Ok(differences) => Said { differences: Some(differences), ..Said::default() },
                Err(problem) => Said { problem: Some(problem), ..Said::default() },
            };
            return draw(admin, &session, mac, &own, &ids, Some(&fields), said).await;
        }
        _ if change.is_empty() && of == own.version => {
            return Ok(Redirect::to(&format!("/devices/{mac}")).into_response());
        }
        _ => amend(admin, mac, of, Json::Object(change)).await,
    };
    match outcome {
        Ok(_) => Ok(Redirect::to(&format!("/devices/{mac}?done=saved")).into_response()),
        Err(problem) => {
            // What was typed stays, and what somebody else wrote meanwhile stands beside it.
            let own = Own::read(admin, mac).await?;
            let theirs = problem.status == StatusCode::PRECONDITION_FAILED.as_u16();
            let said = Said { problem: Some(problem), theirs, ..Said::default() };
            draw(admin, &session, mac, &own, &ids, Some(&fields), said).await
        }
    }
}

/// The device's entry as the form wants it. What the form does not have stays.
fn wanted(own: &Own, ids: &[String], fields: &Fields) -> Map<String, Json> {
    let mut values = Json::Object(own.values.clone());
    let mut take = |field: &Field, before: &str| {
        let path = format!("{before}{}", field.path);
        if let Some(new) = typed(field, &path, at(&Json::Object(own.values.clone()), &path), fields) {
            put(&mut values, &path, new);
        }
    };
    FORM.device.iter().for_each(|field| take(field, ""));
    for Section { name, fields, .. } in &FORM.sections {
        fields.iter().for_each(|field| take(field, &format!("{name}.")));
    }
    let lines: Vec<Json> = ids
        .iter()
        .map(|id| {
            let before = own.line(id).cloned();
            let mut line = before.clone().unwrap_or_else(|| Json::Object(Map::new()));
            for field in &FORM.line {
                let old = before.as_ref().and_then(|line| at(line, &field.path));
                if let Some(new) = typed(field, &format!("line.{id}.{}", field.path), old, fields) {
                    put(&mut line, &field.path, new);
                }
            }
            line
        })
        .collect();
    if lines != own.lines() {
        put(&mut values, "lines", Some(Json::Array(lines)).filter(|lines| lines != &Json::Array(Vec::new())));
    }
    match values {
        Json::Object(values) => values,
        _ => Map::new(),
    }
}

/// What a field is to be, if it was changed; the inner none takes it away.
fn typed(field: &Field, name: &str, old: Option<&Json>, fields: &Fields) -> Option<Option<Json>> {
    let typed = fields.all(name).next()?;
    if field.is_secret {
        return match typed {
            "" if fields.get(&format!("{name}.drop")) == "yes" => Some(None),
            "" => None,
            typed => Some(field.value(typed)),
        };
    }
    (typed != field.text(old)).then(|| field.value(typed))
}

async fn compared(admin: &Admin, mac: MacAddr, of: &str, change: Json) -> Result<Value, Problem> {
    let (stands, content) = amended(admin, mac, of, change).await?;
    let world = admin.desk.world();
    let file = EditedFile::at(&world.settings, &stands.path)
        .ok_or_else(|| Problem::internal(format!("{} is none that can be compared", stands.path.display())))?;
    let edits = vec![Would { file: file.name().to_owned(), content: Some(content) }];
    let differences = changes::diff(State(admin.clone()), api::Body(Compared { mac, edits })).await?;
    Ok(data(&differences.0))
}

/// What the page says beside the form.
#[derive(Debug, Default)]
struct Said {
    problem: Option<Problem>,
    /// Somebody else changed the file meanwhile.
    theirs: bool,
    /// What the changes would change in its files.
    differences: Option<Value>,
}

async fn draw(
    admin: &Admin,
    session: &Session,
    mac: MacAddr,
    own: &Own,
    ids: &[String],
    kept: Option<&Fields>,
    said: Said,
) -> Result<Response, Refusal> {
    let inherited = api::function_keys::inherited(admin, mac).await?;
    let errors: BTreeMap<&str, &str> =
        said.problem.iter().flat_map(|problem| &problem.errors).map(|wrong| (&*wrong.at, &*wrong.message)).collect();
    let world = admin.desk.world();
    let device = world.fleet.device(mac);
    let names = |field: &Field| -> Option<Vec<String>> {
        match &*field.path {
            "profile" => Some(world.fleet.profiles().map(str::to_owned).collect()),
            "site" => Some(world.fleet.sites().map(str::to_owned).collect()),
            _ => None,
        }
    };
    let values = Json::Object(own.values.clone());
    let field = |field: &Field, name: &str, at_own: Option<&Json>, of: &str, path: &str| {
        let text = field.text(at_own);
        let shown = match (field.is_secret, kept.and_then(|kept| kept.all(name).next())) {
            (true, kept) => kept.unwrap_or_default().to_owned(),
            (false, kept) => kept.unwrap_or(&text).to_owned(),
        };
        let hint = match at_own {
            None => inherited.as_ref().and_then(|inherited| inherited.of(of)),
            Some(Json::Null) => Some("taken away here (~)".to_owned()),
            Some(value) if field.is_secret => {
                Refer::of(value).map(|refer| kept_elsewhere(&refer, &world.settings.secrets))
            }
            Some(_) => None,
        };
        let (least, most) = match field.kind {
            Kind::Integer { least, most } => (least, most),
            _ => (None, None),
        };
        let named = names(field).filter(|_| name == field.path);
        let words = named.or_else(|| match &field.kind {
            Kind::Word(words) => Some(words.clone()),
            Kind::Switch => Some(vec!["true".to_owned(), "false".to_owned()]),
            _ => None,
        });
        // A word that is none of the known ones stays in sight.
        let words = words.map(|mut words| {
            if !shown.is_empty() && !words.contains(&shown) {
                words.push(shown.clone());
            }
            words
        });
        let theirs = (said.theirs && !field.is_secret && shown != text).then_some(&text);
        context! {
            name, shown, words, hint, theirs, label => field.label(), help => &field.help, is_secret => field.is_secret,
            is_switch => field.kind == Kind::Switch,
            is_number => matches!(field.kind, Kind::Integer { .. }), least, most,
            is_own => at_own.is_some(), dropped => kept.is_some_and(|kept| kept.get(&format!("{name}.drop")) == "yes"),
            error => errors.get(path).copied(), id => name.replace('.', "-"),
        }
    };
    let of_device: Vec<Value> =
        FORM.device.iter().map(|one| field(one, &one.path, at(&values, &one.path), &one.path, &one.path)).collect();
    let sections: Vec<Value> = FORM
        .sections
        .iter()
        .map(|section| {
            let fields: Vec<Value> = section
                .fields
                .iter()
                .map(|one| {
                    let path = format!("{}.{}", section.name, one.path);
                    field(one, &path, at(&values, &path), &path, &path)
                })
                .collect();
            let is_open = own.values.contains_key(&section.name) || errors.keys().any(|at| at.starts_with(&format!("{}.", section.name)));
            context! { name => &section.name, label => section.name.replace('_', " "), help => &section.help, fields, is_open }
        })
        .collect();
    let mut position = 0;
    let lines: Vec<Value> = ids
        .iter()
        .enumerate()
        .map(|(index, id)| {
            let line = own.line(id);
            position = line.and_then(|line| line["position"].as_i64()).unwrap_or(position + 1);
            let of_line: Vec<Value> = FORM
                .line
                .iter()
                .map(|one| {
                    let of = inherited.as_ref().map(|inherited| inherited.line(position, &one.path)).unwrap_or_default();
                    let at_own = line.and_then(|line| at(line, &one.path));
                    field(one, &format!("line.{id}.{}", one.path), at_own, &of, &format!("lines.{index}.{}", one.path))
                })
                .collect();
            let is_open = errors.keys().any(|at| at.starts_with(&format!("lines.{index}.")));
            let number = line.and_then(|line| line["number"].as_str());
            let (first, more) = of_line.split_at(LINE_AT_ONCE.min(of_line.len()));
            context! { id, position, number, first, more, is_open, error => errors.get(&*format!("lines.{index}")).copied() }
        })
        .collect();
    // What is wrong with a field is said at the field; the rest is said above.
    let shown: Vec<String> = FORM
        .device
        .iter()
        .map(|field| field.path.clone())
        .chain(
            FORM.sections
                .iter()
                .flat_map(|section| section.fields.iter().map(|field| format!("{}.{}", section.name, field.path))),
        )
        .collect();
    let is_at_a_field = |at: &str| shown.iter().any(|path| path == at) || at.starts_with("lines.");
    let elsewhere: Vec<Value> = errors
        .iter()
        .filter(|(at, _)| !is_at_a_field(at))
        .map(|(at, message)| context! { at => *at, message => *message })
        .collect();
    let status =
        said.problem.as_ref().and_then(|problem| StatusCode::from_u16(problem.status).ok()).unwrap_or(StatusCode::OK);
    let page = show(
        "edit.html",
        context! {
            csrf => session.csrf.as_str(), here => "device", mac => mac.to_string(), version => &own.version, of_device, sections, lines,
            label => device.and_then(|device| device.label()),
            file => device.map(|device| device.file()),
            line => device.map(|device| device.line()),
            detail => said.problem.as_ref().filter(|_| !said.theirs).map(|problem| &problem.detail),
            faults => errors.len(), elsewhere, theirs => said.theirs, differences => said.differences,
        },
    );
    Ok((status, page).into_response())
}

/// Where a password is that does not stand in the profile.
fn kept_elsewhere(refer: &Refer, secrets: &Path) -> String {
    match refer {
        Refer::Secret(name) => {
            let file = secrets.file_name().unwrap_or_default().to_string_lossy();
            format!("kept in {file} as {name}")
        }
        other => other.to_string(),
    }
}

impl Inherited {
    /// The path of a field of the line at a position.
    fn line(&self, position: i64, field: &str) -> String {
        self.line_at(position).map(|index| format!("lines.{index}.{field}")).unwrap_or_default()
    }

    /// A value with its place, for people.
    fn of(&self, path: &str) -> Option<String> {
        let (value, origin) = self.value(path)?;
        let value = match value {
            Json::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => return None,
            Json::Array(items) if items.is_empty() => return None,
            Json::Object(_) | Json::Null => return None,
            Json::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
            value => plain(value),
        };
        (!value.is_empty()).then(|| format!("{value} ({origin})"))
    }
}

fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
