//! Many phones at once: a file, or the text of one, is looked at as a whole, its mistakes told row by row, and then enrolled or not. The
//! text comes back with what was said of it, so that it can be mended on the page.

use axum::{
    Extension,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use minijinja::{Value, context};
use serde::Deserialize;

use super::{
    Refusal,
    form::{LONGEST, WithFile},
    session::Session,
    show,
    words::data,
};
use crate::{
    Admin,
    api::{
        Query,
        import::{self, Form, How, Imported},
    },
    problem::{Problem, Wrong},
    serve::Door,
};

/// What a browser can bring, with its words. Directories of phones' files are for the command line, which packs them.
const FORMS: [(&str, &str); 4] = [
    ("csv", "CSV, a row for each account"),
    ("yaml", "YAML with devices, as in a profile file"),
    ("wazo", "JSON of wazo-provd"),
    ("fusionpbx", "CSV of FusionPBX"),
];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    /// How many phones were just enrolled.
    done: usize,
}

pub(super) async fn page(Extension(session): Extension<Session>, Query(Asked { done }): Query<Asked>) -> Response {
    draw(&session, &Typed::default(), None, done)
}

/// What somebody has typed or uploaded.
#[derive(Default)]
struct Typed {
    text: String,
    form: String,
}

pub(super) async fn act(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    brought: WithFile,
) -> Result<Response, Refusal> {
    // Browsers send CR LF for each end of a line of what was typed.
    let typed = brought.fields.get("text").replace("\r\n", "\n");
    let mut typed = Typed { text: typed, form: brought.fields.get("form").to_owned() };
    if brought.is_cut {
        let why = format!(
            "nothing is written: that is longer than {} MiB; bring it in parts, or with provost import",
            LONGEST >> 20
        );
        let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why);
        return Ok(draw(&session, &typed, Some(Err(&problem)), 0));
    }
    // What is enrolled is what was looked at: a file that comes with the order is looked at first.
    let dry_run = brought.fields.get("act") != "import" || !brought.file.is_empty();
    if !brought.file.is_empty() {
        match text(brought.file) {
            Ok(text) => typed.text = text,
            Err(problem) => return Ok(draw(&session, &typed, Some(Err(&problem)), 0)),
        }
    }
    match imported(&door.admin, &typed, dry_run).await {
        Ok(imported) if !dry_run => Ok(Redirect::to(&format!("/import?done={}", imported.devices)).into_response()),
        Ok(imported) => Ok(draw(&session, &typed, Some(Ok(&imported)), 0)),
        Err(problem) => Ok(draw(&session, &typed, Some(Err(&problem)), 0)),
    }
}

/// A file as the text that the page then shows.
fn text(file: Vec<u8>) -> Result<String, Problem> {
    let text = String::from_utf8(file).ok().filter(|text| !text.contains('\0'));
    text.ok_or_else(|| {
        let why = "nothing is written: the file is no UTF-8 text. A spreadsheet saves one as \"CSV UTF-8\"; a directory of phones' files is \
                   imported with provost import";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why)
    })
}

async fn imported(admin: &Admin, typed: &Typed, dry_run: bool) -> Result<Imported, Problem> {
    if typed.text.trim().is_empty() {
        let why = "nothing is written: there is neither a file nor its text";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    let form = match typed.form.as_str() {
        "" => None,
        form => Some(
            serde_json::from_value::<Form>(form.into()).map_err(|_| Problem::field("form", "there is no such form"))?,
        ),
    };
    let how = How { dry_run, form, raw: false };
    let (_, imported) = import::import(State(admin.clone()), Query(how), Bytes::from(typed.text.clone())).await?;
    Ok(imported.0)
}

fn draw(session: &Session, typed: &Typed, outcome: Option<Result<&Imported, &Problem>>, done: usize) -> Response {
    let problem = outcome.and_then(Result::err);
    let checked = outcome.and_then(Result::ok);
    let wrong: Vec<Value> = problem.iter().flat_map(|problem| &problem.errors).map(told).collect();
    let checked = checked.map(data);
    let page = show(
        "import.html",
        context! {
            csrf => session.csrf.as_str(), here => "import", done, checked, wrong, forms => FORMS.map(|(form, words)| context! { form, words }),
            detail => problem.map(|problem| problem.detail.as_str()),
            columns => import::csv::COLUMNS.join(", "),
            text => typed.text.as_str(), form => typed.form.as_str(),
            rows => typed.text.lines().count().clamp(10, 30) + 2,
        },
    );
    let status = problem.and_then(|problem| StatusCode::from_u16(problem.status).ok()).unwrap_or(StatusCode::OK);
    (status, page).into_response()
}

/// A mistake with the line that it is on, where its place tells one: "row 3, column mac", "line 2, column 5".
fn told(wrong: &Wrong) -> Value {
    let number = wrong.at.strip_prefix("row ").or(wrong.at.strip_prefix("line "));
    let number =
        number.and_then(|rest| rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<u32>().ok());
    context! { at => wrong.at.as_str(), message => wrong.message.as_str(), line => number.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_tells_its_line_where_it_has_one() {
        for (at, line) in [("row 12, column mac", 12), ("line 3, column 9", 3), ("/devices/1/mac", 0), ("row x", 0)] {
            let wrong = Wrong { at: at.to_owned(), message: String::new() };
            assert_eq!(told(&wrong).get_attr("line").unwrap(), Value::from(line), "{at}");
        }
    }

    #[test]
    fn a_file_that_is_no_text_is_not_shown_as_one() {
        assert_eq!(text("é,1".into()).unwrap(), "é,1");
        assert!(text(vec![b'a', 0]).is_err() && text(vec![0xe9]).unwrap_err().detail.contains("CSV UTF-8"));
    }
}
