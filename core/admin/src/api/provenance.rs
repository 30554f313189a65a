//! Which line of a rendered file carries which setting, and where that setting stands.
//!
//! A plugin is asked, not read: each setting of the phone is changed in turn, the file is rendered again, and the lines that differ are its
//! lines. So it holds for templates and libraries alike, whatever they make of a value on the way.

use std::time::{Duration, Instant, SystemTime};

use axum::{Json, extract::State};
use provost_plugin::{Phone, Secret};
use provost_server::world::{self, Located};
use serde::Serialize;
use serde_json::Value;
use similar::{DiffOp, TextDiff};
use utoipa::ToSchema;

use super::{
    Mac, Query, aside,
    preview::{self, Which},
};
use crate::{Admin, problem::Problem};

/// Settings that are tried. A phone with all its keys filled has some hundreds.
const MOST: usize = 600;
/// Somebody waits for it.
const PATIENCE: Duration = Duration::from_millis(700);
/// A setting that changes more lines than that is not what one of them carries.
const LINES: usize = 40;

/// A line, and a setting that it carries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Carried {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) field: String,
    /// Layer, file and line.
    pub(crate) origin: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Provenance {
    /// By line.
    pub(crate) lines: Vec<Carried>,
    /// There was time for all settings.
    pub(crate) complete: bool,
}

/// Which line of a file carries which setting, and where that stands
///
/// For the same text that …/preview shows.
#[utoipa::path(get, path = "/api/v1/devices/{mac}/provenance", tag = "devices", params(("mac" = String, Path), Which), responses(
    (status = 200, body = Provenance),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn provenance(
    State(admin): State<Admin>,
    Mac(mac): Mac,
    Query(Which { file }): Query<Which>,
) -> Result<Json<Provenance>, Problem> {
    aside(move || traced(preview::own(&admin, mac, &file)?).map(Json)).await?
}

fn traced(located: Located) -> Result<Provenance, Problem> {
    let (mut located, rendered, _) = preview::in_mask(located)?;
    let text = String::from_utf8_lossy(&rendered.body).into_owned();
    let text = text.as_str();
    // Its passwords are the masks by now, which would otherwise be masked once more.
    let phone = Secret::exposed(|| serde_json::to_value(&located.resolved.phone));
    let phone = phone.map_err(|error| Problem::internal(format!("cannot take the phone apart: {error}")))?;
    let vendor = located.plugin.spec.id();
    let origins = located.resolved.origins.clone();
    let until = Instant::now() + PATIENCE;
    let mut lines = Vec::new();
    let mut complete = true;
    let mut tried = 0;
    for (field, origin) in origins.iter().filter(|(_, origin)| origin.file.is_some()) {
        // A vendor's own settings have moved to where its templates find them.
        let path = match field.strip_prefix(&format!("vendor.{vendor}.")) {
            Some(name) => vec!["raw", name],
            None => field.split('.').collect(),
        };
        let Some(before) = at(&phone, &path).filter(|value| !value.is_object() && !value.is_array()).cloned() else {
            continue;
        };
        if tried >= MOST || Instant::now() > until {
            complete = false;
            break;
        }
        tried += 1;
        let other = others(&before).into_iter().find_map(|other| {
            let mut changed = phone.clone();
            *at_mut(&mut changed, &path)? = other;
            located.resolved.phone = serde_json::from_value::<Phone>(changed).ok()?;
            let rendered = world::render(&located, SystemTime::UNIX_EPOCH).ok()?;
            let rendered = String::from_utf8_lossy(&rendered.body).into_owned();
            (rendered != text).then_some(rendered)
        });
        let Some(other) = other else { continue };
        let touched = touched(text, &other);
        if touched.len() <= LINES {
            let origin = origin.to_string();
            lines.extend(touched.into_iter().map(|line| Carried {
                line,
                field: field.clone(),
                origin: origin.clone(),
            }));
        }
    }
    lines.sort_by(|one, other| (one.line, &one.field).cmp(&(other.line, &other.field)));
    Ok(Provenance { lines, complete })
}

/// Values that a setting does not have, the likeliest to be taken first.
fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::Bool(on) => vec![Value::Bool(!on), Value::Null],
        Value::Number(number) => {
            let next = number.as_i64().map(|number| Value::from(number ^ 1));
            next.into_iter().chain([Value::Null]).collect()
        }
        // One of a few words takes none that is made up: then it is left out, or the key says nothing.
        Value::String(text) => vec![Value::from(format!("{text}7")), Value::Null, Value::from("none")],
        _ => Vec::new(),
    }
}

/// The lines of a text that another does not have.
fn touched(text: &str, other: &str) -> Vec<usize> {
    let diff = TextDiff::configure().timeout(Duration::from_millis(50)).diff_lines(text, other);
    let lines = diff.ops().iter().flat_map(|op| match op {
        DiffOp::Delete { old_index, old_len, .. } | DiffOp::Replace { old_index, old_len, .. } => {
            *old_index..old_index + old_len
        }
        _ => 0..0,
    });
    lines.map(|line| line + 1).collect()
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        value => value.get(*step),
    })
}

fn at_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, step| match value {
        Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
        value => value.get_mut(*step),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_changes_is_told_from_those_around_it() {
        assert_eq!(touched("a\nb\nc\n", "a\nB\nc\n"), [2]);
        assert_eq!(touched("a\nb\nc\n", "a\nc\n"), [2]);
        assert_eq!(touched("a\n", "a\nb\n"), [] as [usize; 0]);
    }
}
