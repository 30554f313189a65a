//! Lists of people: all of them, and who is in each.

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use minijinja::context;
use serde::Deserialize;

use super::{
    Refusal,
    form::{Checked, Fields},
    session::Session,
    show,
    templates::in_path,
    words::{data, in_url},
};
use crate::{
    api::{
        Body, Query,
        files::Name,
        phonebooks::{self, At, Filter, Kind, Number, Person},
    },
    problem::Problem,
    serve::Door,
};

const PAGE: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    page: String,
    done: String,
}

pub(super) async fn page(State(door): State<Door>, Extension(session): Extension<Session>) -> Response {
    let books = phonebooks::list(State(door.admin)).await.0;
    show("phonebooks.html", context! { csrf => session.csrf.as_str(), here => "phonebooks", books => data(books) })
}

pub(super) async fn one(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    name: Result<Name, Problem>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    draw(door, &session, name?, &asked, None).await
}

/// The page, with what was wrong with a form that was filled in on it.
async fn draw(
    door: Door,
    session: &Session,
    name: Name,
    asked: &Asked,
    wrong: Option<(&Problem, &Fields)>,
) -> Result<Response, Refusal> {
    let here = asked.page.parse::<usize>().unwrap_or(1).clamp(1, 10_000);
    let offset = (here - 1) * PAGE;
    let filter = Filter { q: asked.q.clone(), offset, limit: PAGE };
    let people = phonebooks::one(State(door.admin), name, Query(filter)).await?.0;
    let people = serde_json::to_value(people).map_err(|error| Problem::internal(error.to_string()))?;
    let path = people["file"].as_str().map(in_path);
    let found = people["found"].as_u64().unwrap_or_default() as usize;
    let to_page = |page: usize| format!("?q={}&page={page}", in_url(&asked.q));
    let kept = |name: &str| wrong.map(|(_, fields)| fields.get(name).to_owned()).unwrap_or_default();
    let page = show(
        "phonebook.html",
        context! {
            csrf => session.csrf.as_str(), here => "phonebooks", path, people => data(people), q => asked.q.as_str(),
            done => asked.done.as_str(), wrong => wrong.map(|(problem, _)| data(problem)),
            first => (offset + 1).min(found), last => (offset + PAGE).min(found),
            previous => if here > 1 { Some(to_page(here - 1)) } else { None },
            next => if offset + PAGE < found { Some(to_page(here + 1)) } else { None },
            kept => context! {
                name => kept("name"), work => kept("work"), mobile => kept("mobile"), home => kept("home"),
                group => kept("group"), email => kept("email"),
            },
        },
    );
    let status = wrong.map_or(StatusCode::OK, |(problem, _)| {
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY)
    });
    Ok((status, page).into_response())
}

fn back(name: &str, done: &str) -> Response {
    Redirect::to(&format!("/phonebooks/{}?done={done}", in_url(name))).into_response()
}

pub(super) async fn add(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    name: Result<Name, Problem>,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    let name = name?;
    let numbers = [("work", Kind::Work), ("mobile", Kind::Mobile), ("home", Kind::Home)];
    let numbers = numbers.into_iter().filter_map(|(field, kind)| Some(Number { kind, number: fields.filled(field)? }));
    let person = Person {
        name: fields.get("name").to_owned(),
        numbers: numbers.collect(),
        group: fields.filled("group"),
        email: fields.filled("email"),
        ..Person::default()
    };
    match phonebooks::add(State(door.admin.clone()), name.clone(), Body(person)).await {
        Ok(_) => Ok(back(&name.0, "added")),
        Err(problem) => draw(door, &session, name, &Asked::default(), Some((&problem, &fields))).await,
    }
}

pub(super) async fn remove(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    name: Result<Name, Problem>,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    let name = name?;
    let index = fields.get("index").parse().map_err(|_| Problem::field("index", "that is no place in a list"))?;
    let tag = HeaderValue::from_str(&format!("\"{}\"", fields.get("version")));
    let mut headers = HeaderMap::new();
    headers.insert(header::IF_MATCH, tag.map_err(|_| Problem::field("version", "it is none"))?);
    match phonebooks::remove(State(door.admin.clone()), At(name.0.clone(), index), headers).await {
        Ok(_) => Ok(back(&name.0, "removed")),
        Err(problem) => draw(door, &session, name, &Asked::default(), Some((&problem, &fields))).await,
    }
}
