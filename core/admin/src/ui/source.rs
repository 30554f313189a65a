//! The profile file in which a phone stands, as it is written. Apart from the page of the phone, since passwords stand in it.

use axum::{
    Extension,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use minijinja::{Value, context};
use provost_plugin::MacAddr;
use provost_server::edit::EditedFile;

use super::{Refusal, form::Checked, session::Session, show, words::data};
use crate::{
    api::{
        Body, Mac, Yaml,
        changes::{self, Compared, Would},
        devices,
    },
    problem::Problem,
    serve::Door,
};

/// What a browser edits without ado.
const LONGEST: usize = 1 << 20;

pub(super) async fn page(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
) -> Result<Response, Refusal> {
    let Mac(mac) = mac?;
    let Yaml(text, version) = devices::source(State(door.admin.clone()), Mac(mac)).await?;
    if text.len() > LONGEST {
        let why = format!("the file is longer than {} KiB; change it with an editor, or by the API", LONGEST >> 10);
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why).into());
    }
    Ok(draw(&door, &session, mac, &text, &version, None, None, None))
}

pub(super) async fn save(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    let Mac(mac) = mac?;
    // Browsers send CR LF for each end of a line, whatever the file has.
    let text = fields.get("text").replace("\r\n", "\n");
    let version = fields.get("version");
    if fields.get("act") == "compare" {
        let compared = compared(&door, mac, &text).await;
        let problem = compared.as_ref().err();
        return Ok(draw(&door, &session, mac, &text, version, None, problem, compared.as_ref().ok()));
    }
    let mut headers = HeaderMap::new();
    let tag = HeaderValue::from_str(&format!("\"{version}\"")).map_err(|_| Problem::field("version", "it is none"))?;
    headers.insert(header::IF_MATCH, tag);
    let body = Bytes::from(text.clone());
    let problem = match devices::put_source(State(door.admin.clone()), Mac(mac), headers, body).await {
        Ok(_) if door.admin.desk.world().fleet.device(mac).is_some() => {
            return Ok(Redirect::to(&format!("/devices/{mac}?done=saved")).into_response());
        }
        // It was taken out of the file, and may be known to nobody by now.
        Ok(_) => return Ok(Redirect::to("/").into_response()),
        Err(problem) => problem,
    };
    if problem.status != StatusCode::PRECONDITION_FAILED.as_u16() {
        return Ok(draw(&door, &session, mac, &text, version, None, Some(&problem), None));
    }
    // What was typed stays, what somebody else wrote meanwhile stands beside it, and saving once more is a decision.
    let theirs = devices::source(State(door.admin.clone()), Mac(mac)).await?;
    Ok(draw(&door, &session, mac, &text, &theirs.1, Some(&theirs.0), Some(&problem), None))
}

/// What the text would change in the phone's files.
async fn compared(door: &Door, mac: MacAddr, text: &str) -> Result<Value, Problem> {
    let world = door.admin.desk.world();
    let (path, _) = devices::file_of(&world, mac)?;
    let file = EditedFile::at(&world.settings, &path)
        .ok_or_else(|| Problem::internal(format!("{} is none that can be compared", path.display())))?;
    let edits = vec![Would { file: file.name().to_owned(), content: Some(text.to_owned()) }];
    let compared = Compared { mac, edits };
    changes::diff(State(door.admin.clone()), Body(compared)).await.map(|differences| data(&differences.0))
}

#[allow(clippy::too_many_arguments, reason = "a page, and what is said on it")]
fn draw(
    door: &Door,
    session: &Session,
    mac: MacAddr,
    text: &str,
    version: &str,
    theirs: Option<&str>,
    problem: Option<&Problem>,
    differences: Option<&Value>,
) -> Response {
    let world = door.admin.desk.world();
    let device = world.fleet.device(mac);
    let errors: Vec<Value> = problem
        .into_iter()
        .flat_map(|problem| &problem.errors)
        .map(|wrong| {
            let (file, line) = place(&wrong.at);
            let own = device.is_some_and(|device| device.file() == file);
            // A line is shown where it is one of the text on the screen.
            let shown = own.then(|| text.lines().nth(line.checked_sub(1)?)).flatten();
            context! { at => wrong.at.as_str(), message => wrong.message.as_str(), line => if own { line } else { 0 }, shown }
        })
        .collect();
    let page = show(
        "source.html",
        context! {
            csrf => session.csrf.as_str(), here => "device", mac => mac.to_string(), text, version, theirs, errors, differences,
            file => device.map(|device| device.file()),
            line => device.map(|device| device.line()),
            label => device.and_then(|device| device.label()),
            detail => problem.map(|problem| &problem.detail),
            rows => text.lines().count().clamp(12, 40) + 2,
        },
    );
    let status = problem.and_then(|problem| StatusCode::from_u16(problem.status).ok()).unwrap_or(StatusCode::OK);
    (status, page).into_response()
}

/// `file:line:column`, as problems name a place; line 0 where there is none.
pub(super) fn place(at: &str) -> (&str, usize) {
    let mut parts = at.rsplitn(3, ':');
    let (_, line, file) = (parts.next(), parts.next(), parts.next());
    match (file, line.and_then(|line| line.parse().ok())) {
        (Some(file), Some(line)) => (file, line),
        _ => (at, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_apart() {
        assert_eq!(place("profiles/devices/a.yaml:3:7"), ("profiles/devices/a.yaml", 3));
        assert_eq!(place("text"), ("text", 0));
    }
}
