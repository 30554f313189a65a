//! A device or a profile as a form: what its own entry says, with what it would inherit beside it. Saving changes the lines of the file
//! that are about what was changed here, and no other.

use std::{collections::BTreeMap, path::Path};

use axum::{
    Extension,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use minijinja::{Value, context};
use provost_fleet::{Refer, Whose};
use provost_server::edit::EditedFile;
use serde_json::{Map, Value as Json};

use super::{
    Refusal,
    fields::{DEVICE, Field, Form, Kind, LINE_AT_ONCE, PROFILE, Section, at, patch, put},
    form::{Checked, Fields},
    session::Session,
    show,
    templates::{Outlook, in_path, outlook},
    words::{data, in_url},
};
use crate::{
    Admin,
    api::{
        self, Mac,
        changes::{self, Compared, Would},
        files::Name,
        function_keys::Inherited,
        settings::{amend, amended, unknown_profile},
    },
    problem::Problem,
    serve::Door,
};

/// Lines in the form; a telephone has fewer, a gateway is edited in its file.
const LINES: usize = 64;

pub(super) async fn device(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
) -> Result<Response, Refusal> {
    page(&door.admin, &session, Whose::Device(mac?.0)).await
}

pub(super) async fn profile(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    name: Result<Name, Problem>,
) -> Result<Response, Refusal> {
    page(&door.admin, &session, Whose::Profile(name?.0.into())).await
}

pub(super) async fn save_device(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    save(&door.admin, &session, Whose::Device(mac?.0), &fields).await
}

pub(super) async fn save_profile(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    name: Result<Name, Problem>,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    save(&door.admin, &session, Whose::Profile(name?.0.into()), &fields).await
}

async fn page(admin: &Admin, session: &Session, whose: Whose) -> Result<Response, Refusal> {
    let own = Own::read(admin, whose).await?;
    let ids = own.line_ids();
    draw(admin, session, &own, &ids, None, Said::default()).await
}

/// What an entry says now.
struct Own {
    whose: Whose,
    values: Map<String, Json>,
    version: String,
}

impl Own {
    async fn read(admin: &Admin, whose: Whose) -> Result<Own, Problem> {
        let (values, version) = api::settings::own(admin, whose.clone()).await?;
        let Json::Object(values) = values else { return Err(Problem::internal("its settings are no section")) };
        Ok(Own { whose, values, version })
    }

    fn form(&self) -> &'static Form {
        match self.whose {
            Whose::Device(_) => &DEVICE,
            Whose::Profile(_) => &PROFILE,
        }
    }

    /// The page of what is edited.
    fn home(&self) -> String {
        match &self.whose {
            Whose::Device(mac) => format!("/devices/{mac}"),
            Whose::Profile(name) => format!("/profiles/{}", in_url(name)),
        }
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

async fn save(admin: &Admin, session: &Session, whose: Whose, fields: &Fields) -> Result<Response, Refusal> {
    let own = Own::read(admin, whose).await?;
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
        return draw(admin, session, &own, &ids, Some(fields), Said::of(problem)).await;
    }
    if act == "add-line" || act.starts_with("drop-line.") {
        return draw(admin, session, &own, &ids, Some(fields), Said::default()).await;
    }
    let change = patch(&own.values, &wanted(&own, &ids, fields));
    // Not of the version that was just read: of the one that the form was filled in on.
    let of = fields.get("version");
    let outcome = match act {
        "compare" if of == own.version => {
            let said = compared(admin, &own.whose, of, Json::Object(change)).await.unwrap_or_else(Said::of);
            return draw(admin, session, &own, &ids, Some(fields), said).await;
        }
        _ if change.is_empty() && of == own.version => {
            return Ok(Redirect::to(&own.home()).into_response());
        }
        _ => amend(admin, &own.whose, of, Json::Object(change)).await,
    };
    match outcome {
        Ok(_) => Ok(Redirect::to(&format!("{}?done=saved", own.home())).into_response()),
        Err(problem) => {
            // What was typed stays, and what somebody else wrote meanwhile stands beside it.
            let own = Own::read(admin, own.whose).await?;
            let theirs = problem.status == StatusCode::PRECONDITION_FAILED.as_u16();
            draw(admin, session, &own, &ids, Some(fields), Said { theirs, ..Said::of(problem) }).await
        }
    }
}

/// The entry as the form wants it. What the form does not have stays.
fn wanted(own: &Own, ids: &[String], fields: &Fields) -> Map<String, Json> {
    let mut values = Json::Object(own.values.clone());
    let mut take = |field: &Field, before: &str| {
        let path = format!("{before}{}", field.path);
        if let Some(new) = typed(field, &path, at(&Json::Object(own.values.clone()), &path), fields) {
            put(&mut values, &path, new);
        }
    };
    let form = own.form();
    form.own.iter().for_each(|field| take(field, ""));
    for Section { name, fields, .. } in &form.sections {
        fields.iter().for_each(|field| take(field, &format!("{name}.")));
    }
    let lines: Vec<Json> = ids
        .iter()
        .map(|id| {
            let before = own.line(id).cloned();
            let mut line = before.clone().unwrap_or_else(|| Json::Object(Map::new()));
            for field in &form.line {
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

/// What a change would come to: in the files of the device, or in those of all phones that the profile concerns.
async fn compared(admin: &Admin, whose: &Whose, of: &str, change: Json) -> Result<Said, Problem> {
    let (stands, content) = amended(admin, whose, of, change).await?;
    let world = admin.desk.world();
    let file = EditedFile::at(&world.settings, &stands.path)
        .ok_or_else(|| Problem::internal(format!("{} is none that can be compared", stands.path.display())))?;
    let edit = Would { file: file.name().to_owned(), content: Some(content) };
    match whose {
        Whose::Device(mac) => {
            let compared = Compared { mac: *mac, edits: vec![edit] };
            let differences = changes::diff(State(admin.clone()), api::Body(compared)).await?;
            Ok(Said { differences: Some(data(&differences.0)), ..Said::default() })
        }
        Whose::Profile(_) => Ok(Said { outlook: Some(outlook(admin, edit, None).await?), ..Said::default() }),
    }
}

/// What the page says beside the form.
#[derive(Debug, Default)]
struct Said {
    problem: Option<Problem>,
    /// Somebody else changed the file meanwhile.
    theirs: bool,
    /// What the changes would change in the files of the device.
    differences: Option<Value>,
    /// What they would come to for the phones of the profile.
    outlook: Option<Outlook>,
}

impl Said {
    fn of(problem: Problem) -> Said {
        Said { problem: Some(problem), ..Said::default() }
    }
}

/// What holds where the entry itself says nothing.
enum Below {
    Device(Option<Inherited>),
    /// The profiles that it stands on, the nearest first, each with what it says itself. What comes from below these depends on the phone.
    Profile(Vec<(String, Json)>),
}

impl Below {
    async fn of(admin: &Admin, whose: &Whose) -> Result<Below, Problem> {
        let name = match whose {
            Whose::Device(mac) => return Ok(Below::Device(api::function_keys::inherited(admin, *mac).await?)),
            Whose::Profile(name) => name,
        };
        let world = admin.desk.world();
        let extends: BTreeMap<&str, Option<&str>> =
            world.fleet.profile_views().map(|view| (view.name, view.extends)).collect();
        let (mut below, mut next) = (Vec::new(), extends.get(&**name).copied().flatten());
        while let Some(base) = next.take()
            && below.len() < extends.len()
        {
            // One whose file is broken just now says nothing; it is no reason not to edit this one.
            if let Ok((values, _)) = api::settings::own(admin, Whose::Profile(base.into())).await {
                below.push((base.to_owned(), values));
            }
            next = extends.get(base).copied().flatten();
        }
        Ok(Below::Profile(below))
    }

    /// What a field is if it is left empty, and from where; `in_line` with the position of the line.
    fn hint(&self, field: &Field, path: &str, in_line: Option<i64>) -> Option<String> {
        match (self, in_line) {
            (Below::Device(inherited), None) => inherited.as_ref()?.of(path),
            (Below::Device(inherited), Some(position)) => {
                let inherited = inherited.as_ref()?;
                inherited.of(&inherited.line(position, &field.path))
            }
            // A line of a profile may be joined with any line below it: it is the phone's lines that tell.
            (Below::Profile(_), Some(_)) => None,
            (Below::Profile(below), None) => {
                let (base, value) = below.iter().find_map(|(base, values)| Some((base, said(values, path)?)))?;
                let text = match field.is_secret {
                    true => "•••".to_owned(),
                    false => field.text(Some(value)),
                };
                (!text.is_empty()).then(|| format!("{text} (profile {base})"))
            }
        }
    }
}

/// What a profile says at a path: a value, or that there is none, perhaps for all of a section.
fn said<'a>(values: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(values, |value, step| if value.is_null() { Some(value) } else { value.get(step) })
}

/// A file, and the line in it where the entry stands.
fn stands<'a>(world: &'a provost_server::world::World, whose: &Whose) -> Option<(&'a str, u32)> {
    match whose {
        Whose::Device(mac) => world.fleet.device(*mac).map(|device| (device.file(), device.line())),
        Whose::Profile(name) => {
            let mut views = world.fleet.profile_views();
            views.find(|view| view.name == &**name).map(|view| (view.file, view.line))
        }
    }
}

async fn draw(
    admin: &Admin,
    session: &Session,
    own: &Own,
    ids: &[String],
    kept: Option<&Fields>,
    said: Said,
) -> Result<Response, Refusal> {
    let below = Below::of(admin, &own.whose).await?;
    let form = own.form();
    let errors: BTreeMap<&str, &str> =
        said.problem.iter().flat_map(|problem| &problem.errors).map(|wrong| (&*wrong.at, &*wrong.message)).collect();
    let world = admin.desk.world();
    let (file, line) = stands(&world, &own.whose).ok_or_else(unknown_profile)?;
    let names = |field: &Field| -> Option<Vec<String>> {
        match &*field.path {
            "profile" => Some(world.fleet.profiles().map(str::to_owned).collect()),
            "extends" => {
                let others = world.fleet.profiles().filter(|name| own.whose != Whose::Profile((*name).into()));
                Some(others.map(str::to_owned).collect())
            }
            "site" => Some(world.fleet.sites().map(str::to_owned).collect()),
            "match.vendor" => Some(world.shelf.plugins().map(|plugin| plugin.id.clone()).collect()),
            _ => None,
        }
    };
    let values = Json::Object(own.values.clone());
    let field = |field: &Field, name: &str, at_own: Option<&Json>, in_line: Option<i64>, path: &str| {
        let text = field.text(at_own);
        let shown = match (field.is_secret, kept.and_then(|kept| kept.all(name).next())) {
            (true, kept) => kept.unwrap_or_default().to_owned(),
            (false, kept) => kept.unwrap_or(&text).to_owned(),
        };
        let hint = match at_own {
            None => below.hint(field, path, in_line),
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
        let empty = match (&own.whose, &*field.path) {
            (Whose::Profile(_), "extends") if in_line.is_none() => "none",
            (Whose::Profile(_), path) if in_line.is_none() && path.starts_with("match.") => "any",
            _ => "inherited",
        };
        let theirs = (said.theirs && !field.is_secret && shown != text).then_some(&text);
        context! {
            name, shown, words, empty, hint, theirs, label => field.label(), help => &field.help, is_secret => field.is_secret,
            is_switch => field.kind == Kind::Switch,
            is_number => matches!(field.kind, Kind::Integer { .. }), least, most,
            is_own => at_own.is_some(), dropped => kept.is_some_and(|kept| kept.get(&format!("{name}.drop")) == "yes"),
            error => errors.get(path).copied(), id => name.replace('.', "-"),
        }
    };
    let of_entry: Vec<Value> =
        form.own.iter().map(|one| field(one, &one.path, at(&values, &one.path), None, &one.path)).collect();
    let sections: Vec<Value> = form
        .sections
        .iter()
        .map(|section| {
            let fields: Vec<Value> = section
                .fields
                .iter()
                .map(|one| {
                    let path = format!("{}.{}", section.name, one.path);
                    field(one, &path, at(&values, &path), None, &path)
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
            let of_line: Vec<Value> = form
                .line
                .iter()
                .map(|one| {
                    let at_own = line.and_then(|line| at(line, &one.path));
                    field(one, &format!("line.{id}.{}", one.path), at_own, Some(position), &format!("lines.{index}.{}", one.path))
                })
                .collect();
            let is_open = errors.keys().any(|at| at.starts_with(&format!("lines.{index}.")));
            let number = line.and_then(|line| line["number"].as_str());
            let (first, more) = of_line.split_at(LINE_AT_ONCE.min(of_line.len()));
            context! { id, position, number, first, more, is_open, error => errors.get(&*format!("lines.{index}")).copied() }
        })
        .collect();
    // What is wrong with a field is said at the field; the rest is said above.
    let shown: Vec<String> = form
        .own
        .iter()
        .map(|field| field.path.clone())
        .chain(
            form.sections
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
    let (mac, here, title) = match &own.whose {
        Whose::Device(mac) => {
            let label = world.fleet.device(*mac).and_then(|device| device.label());
            (Some(mac), "device", label.map_or_else(|| mac.to_string(), str::to_owned))
        }
        Whose::Profile(name) => (None, "profiles", name.to_string()),
    };
    let is_profile = mac.is_none();
    // As text: that of a device is a page of its own.
    let whole_file = match is_profile {
        true => EditedFile::at(&world.settings, Path::new(file))
            .map(|file| format!("/files/{}?line={line}", in_path(file.name()))),
        false => Some(format!("{}/source", own.home())),
    };
    let page = show(
        "edit.html",
        context! {
            csrf => session.csrf.as_str(), here, title, whole_file, is_profile, home => own.home(), version => &own.version, of_entry,
            sections, lines, file, line, mac => mac.map(|mac| mac.to_string()),
            weighed => said.outlook.as_ref().map(|outlook| outlook.whole.clone()),
            phones => said.outlook.as_ref().map(|outlook| outlook.phones.clone()).unwrap_or_default(),
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
