//! A file that people edit, as text: what is wrong with it and what it would come to are told while it is typed, or when it is asked for.

use axum::{
    Extension,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use minijinja::{Value, context};
use serde::Deserialize;

use super::{
    Refusal,
    edit::place,
    form::Checked,
    session::Session,
    show,
    words::{data, in_url},
};
use crate::{
    api::{
        Body, Query,
        changes::{self, Edits, Would},
        files::{self, Name, Version, file_named},
    },
    problem::Problem,
    serve::Door,
};

/// What a browser edits without ado.
const LONGEST: usize = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    name: String,
    /// Where to begin.
    line: String,
    /// What was just done.
    done: String,
}

/// What is in the editor.
pub(super) struct Shown<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    /// None where there is no such file yet.
    pub(super) version: Option<&'a str>,
    pub(super) line: usize,
    pub(super) saved: bool,
    pub(super) theirs: Option<&'a str>,
    pub(super) problem: Option<&'a Problem>,
    pub(super) outlook: Option<Value>,
    /// What the page tells of it besides.
    pub(super) about: Value,
}

/// The text of a file and its version; an empty text of none where there is no such file yet.
pub(super) async fn read(door: &Door, name: &str) -> Result<(String, Option<String>), Problem> {
    let asked = Query(Version { version: None });
    match files::one(State(door.admin.clone()), Name(name.to_owned()), asked).await {
        Ok((headers, text)) => {
            if text.len() > LONGEST {
                let why = format!("it is longer than {} KiB; change it with an editor, or by the API", LONGEST >> 10);
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why));
            }
            let tag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
            Ok((text, tag.map(|tag| tag.trim_matches('"').to_owned())))
        }
        // A name that may be a file's, and is none yet.
        Err(problem) if problem.status == 404 && file_named(&door.admin.desk.world(), name).is_ok() => {
            Ok((String::new(), None))
        }
        Err(problem) => Err(problem),
    }
}

pub(super) async fn page(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let (text, version) = read(&door, &asked.name).await?;
    let shown = Shown {
        name: &asked.name,
        text: &text,
        version: version.as_deref(),
        line: asked.line.parse().unwrap_or(0),
        saved: asked.done == "saved",
        theirs: None,
        problem: None,
        outlook: None,
        about: Value::from(()),
    };
    Ok(draw(&door, &session, &shown))
}

pub(super) async fn save(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    let name = fields.get("name");
    file_named(&door.admin.desk.world(), name)?;
    // Browsers send CR LF for each end of a line, whatever the file has.
    let text = fields.get("text").replace("\r\n", "\n");
    let version = fields.filled("version");
    let mut shown = Shown {
        name,
        text: &text,
        version: version.as_deref(),
        line: 0,
        saved: false,
        theirs: None,
        problem: None,
        outlook: None,
        about: Value::from(()),
    };
    if fields.get("act") == "try" {
        let edits = vec![Would { file: name.to_owned(), content: Some(text.clone()) }];
        let tried = changes::outlook(State(door.admin.clone()), Body(Edits { edits })).await;
        let problem = match tried {
            Ok(outlook) => {
                shown.outlook = Some(data(outlook.0));
                return Ok(draw(&door, &session, &shown));
            }
            Err(problem) => problem,
        };
        shown.problem = Some(&problem);
        return Ok(draw(&door, &session, &shown));
    }
    let mut headers = HeaderMap::new();
    match &version {
        Some(version) => {
            let tag = HeaderValue::from_str(&format!("\"{version}\""));
            headers.insert(header::IF_MATCH, tag.map_err(|_| Problem::field("version", "it is none"))?);
        }
        None => drop(headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"))),
    }
    let put = files::put(State(door.admin.clone()), Name(name.to_owned()), headers, Bytes::from(text.clone())).await;
    let problem = match put {
        Ok(_) => return Ok(Redirect::to(&format!("/files/edit?name={}&done=saved", in_url(name))).into_response()),
        Err(problem) => problem,
    };
    let is_conflict = [StatusCode::PRECONDITION_FAILED, StatusCode::CONFLICT].map(|status| status.as_u16());
    if !is_conflict.contains(&problem.status) {
        shown.problem = Some(&problem);
        return Ok(draw(&door, &session, &shown));
    }
    // What was typed stays, what somebody else wrote meanwhile stands beside it, and saving once more is a decision.
    let (theirs, now) = read(&door, name).await?;
    (shown.theirs, shown.version, shown.problem) = (Some(theirs.as_str()), now.as_deref(), Some(&problem));
    Ok(draw(&door, &session, &shown))
}

pub(super) fn draw(door: &Door, session: &Session, shown: &Shown<'_>) -> Response {
    let world = door.admin.desk.world();
    let own = file_named(&world, shown.name).map(|file| file.path.display().to_string()).unwrap_or_default();
    let wrong = shown.problem.into_iter().flat_map(|problem| &problem.errors);
    let errors: Vec<Value> = wrong
        .map(|wrong| {
            let (file, line) = place(&wrong.at);
            let line = if file == own { line } else { 0 };
            // A line is shown where it is one of the text on the screen.
            let words = line.checked_sub(1).and_then(|line| shown.text.lines().nth(line));
            context! { at => wrong.at.as_str(), message => wrong.message.as_str(), line, words }
        })
        .collect();
    let (directory, _) = shown.name.split_once('/').unwrap_or((shown.name, ""));
    let page = show(
        "editor.html",
        context! {
            csrf => session.csrf.as_str(), here => directory, name => shown.name, text => shown.text,
            version => shown.version, line => shown.line, saved => shown.saved, theirs => shown.theirs,
            detail => shown.problem.map(|problem| &problem.detail), errors, place => own,
            outlook => shown.outlook.clone(), about => shown.about.clone(), up => format!("/{directory}"),
            rows => shown.text.lines().count().clamp(16, 40) + 2,
        },
    );
    let status = shown.problem.and_then(|problem| StatusCode::from_u16(problem.status).ok()).unwrap_or(StatusCode::OK);
    (status, page).into_response()
}
