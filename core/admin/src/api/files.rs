//! Files that people edit: profiles, lists of people, and the site's own versions of templates. Read, written, and taken back.

use std::{collections::BTreeMap, path::Path};

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use provost_server::{
    edit::{self, Edit, EditedFile, EditedKind},
    milliseconds, versions,
    world::World,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Query, aside,
    devices::{precondition, reading},
    shortened,
};
use crate::{Admin, problem::Problem};

/// The name in a path: its slashes are written as `%2F`.
#[derive(Clone, Debug)]
pub(crate) struct Name(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Name, Problem> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        path.map(|path| Name(path.0)).map_err(|_| Problem::field("name", "it is not UTF-8"))
    }
}

/// The file that a name means.
pub(crate) fn file_named(world: &World, name: &str) -> Result<EditedFile, Problem> {
    EditedFile::named(&world.settings, name).ok_or_else(|| {
        let why = format!(
            "\"{}\" is the name of no file that can be edited: profiles/….yaml, phonebooks/….yaml or .csv, templates/<vendor>/….j2",
            shortened(name)
        );
        Problem::not_found(why)
    })
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = KindOfFile)]
pub(crate) enum Kind {
    Profile,
    Phonebook,
    Template,
}

impl From<EditedKind> for Kind {
    fn from(kind: EditedKind) -> Kind {
        match kind {
            EditedKind::Profile => Kind::Profile,
            EditedKind::Phonebook => Kind::Phonebook,
            EditedKind::Template => Kind::Template,
        }
    }
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Only files of this kind
    #[param(inline)]
    kind: Option<Kind>,
    /// Only files whose name has this in it
    q: String,
    /// The first so many are left out
    offset: usize,
    /// At most so many are returned
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Entry {
    /// As in the path of this API.
    name: String,
    kind: Kind,
    /// Where it lies on the server's disk.
    place: String,
    /// A template that is shipped with its vendor.
    shipped: bool,
    /// A template that the site has a version of its own of.
    overridden: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Entries {
    items: Vec<Entry>,
    /// How many there are in all that fit.
    total: usize,
}

const MOST: usize = 1000;

/// The files that can be edited
#[utoipa::path(get, path = "/api/v1/files", tag = "files", params(Which), responses(
    (status = 200, body = Entries),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(State(admin): State<Admin>, Query(which): Query<Which>) -> Result<Json<Entries>, Problem> {
    let limit = which.limit.unwrap_or(100);
    if limit == 0 || limit > MOST {
        return Err(Problem::field("limit", format!("it is from 1 to {MOST}")));
    }
    aside(move || {
        let world = admin.desk.world();
        let files = world.fleet.files().chain(world.books.files());
        let written = files.filter_map(|path| {
            let file = EditedFile::at(&world.settings, path)?;
            let (kind, name) = (file.kind.into(), file.name().to_owned());
            Some(Entry { name, kind, place: path.display().to_string(), shipped: false, overridden: false })
        });
        let templates = templates(&world, None).into_iter().map(|(name, template)| Entry {
            name,
            kind: Kind::Template,
            overridden: template.own.is_some(),
            shipped: template.shipped.is_some(),
            place: template.own.or(template.shipped).map(|(place, _)| place).unwrap_or_default(),
        });
        let wanted = which.q.to_lowercase();
        let fits = |entry: &Entry| {
            which.kind.is_none_or(|kind| kind == entry.kind) && entry.name.to_lowercase().contains(&wanted)
        };
        let mut all: Vec<Entry> = written.chain(templates).filter(fits).collect();
        all.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        let total = all.len();
        Json(Entries { items: all.into_iter().skip(which.offset).take(limit).collect(), total })
    })
    .await
}

/// A template's versions: place and text of each.
#[derive(Debug, Default)]
struct Template {
    own: Option<(String, String)>,
    shipped: Option<(String, String)>,
}

/// Every template of the vendors in service, or of one of them, by the name of its file.
fn templates(world: &World, vendor: Option<&str>) -> BTreeMap<String, Template> {
    let overrides = world.settings.overrides.display().to_string();
    let mut all: BTreeMap<String, Template> = BTreeMap::new();
    for plugin in world.shelf.plugins().filter(|plugin| vendor.is_none_or(|vendor| plugin.id == vendor)) {
        for (name, shown, text) in plugin.templates.sources() {
            let (name, is_shipped) = match name.strip_prefix("@shipped/") {
                Some(name) => (name, true),
                // Those of the vendor that it is like are edited there.
                None if name.starts_with('@') => continue,
                None => (name, false),
            };
            let template = all.entry(format!("templates/{}/{name}", plugin.id)).or_default();
            let place = Some((shown.to_owned(), text));
            match Path::new(shown).starts_with(&overrides) {
                true => template.own = place,
                false if is_shipped || template.shipped.is_none() => template.shipped = place,
                false => {}
            }
        }
    }
    all
}

/// The text of a file and its version: of a template what is in force, which may be as shipped.
pub(crate) struct Content {
    pub(crate) text: String,
    /// None where there is no file yet to be changed: a template that is as it was shipped.
    pub(crate) version: Option<String>,
    /// What a template is without the site's own version.
    pub(crate) shipped: Option<String>,
}

pub(crate) fn content(world: &World, file: &EditedFile) -> Result<Content, Problem> {
    let read = edit::read(&file.path).map_err(reading(&file.path))?;
    let shipped = match file.kind {
        EditedKind::Template => {
            let vendor = file.name().split('/').nth(1);
            templates(world, vendor).remove(file.name()).and_then(|template| template.shipped).map(|(_, text)| text)
        }
        _ => None,
    };
    match (read, &shipped) {
        (Some((text, version)), _) => Ok(Content { text, version: Some(version), shipped }),
        (None, Some(text)) => Ok(Content { text: text.clone(), version: None, shipped }),
        (None, None) => Err(Problem::not_found(format!("there is no file {file}"))),
    }
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Version {
    /// A version that is kept, instead of the one in force; or `shipped`
    pub(crate) version: Option<String>,
}

/// A file
///
/// Of a template the text in force: the site's own version, or the one that is shipped, which has no ETag, since writing makes a new file.
#[utoipa::path(get, path = "/api/v1/files/{name}", tag = "files", params(("name" = String, Path), Version), responses(
    (status = 200, description = "The file", content_type = "text/plain", body = String, headers(("ETag" = Option<String>, description = "The version of the file"))),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn one(
    State(admin): State<Admin>,
    Name(name): Name,
    Query(Version { version }): Query<Version>,
) -> Result<(HeaderMap, String), Problem> {
    aside(move || {
        let world = admin.desk.world();
        let file = file_named(&world, &name)?;
        let (text, version) = match version.as_deref() {
            None => content(&world, &file).map(|content| (content.text, content.version))?,
            Some("shipped") => {
                let shipped = content(&world, &file)?.shipped;
                (shipped.ok_or_else(|| Problem::not_found(format!("{file} is not shipped")))?, None)
            }
            Some(wanted) => {
                let kept = versions::list(&world.settings, &file).map_err(reading(&file.path))?;
                let found = kept.into_iter().find(|kept| kept.version == wanted);
                let found = found.ok_or_else(|| Problem::not_found(format!("no such version of {file} is kept")))?;
                (found.text, Some(found.version))
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some(tag) = version.and_then(|version| format!("\"{version}\"").parse().ok()) {
            headers.insert(header::ETAG, tag);
        }
        Ok((headers, text))
    })
    .await?
}

/// Write a file
///
/// The change is tried first; what would break any phone is refused with the list, and nothing is written. `If-None-Match: *` for a new
/// file, or for the site's own version of a template that is as shipped; else `If-Match` with the version that was changed.
#[utoipa::path(put, path = "/api/v1/files/{name}", tag = "files",
    params(("name" = String, Path), ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    request_body(content = String, content_type = "text/plain"),
    responses(
    (status = 204, description = "Written, and in service", headers(("ETag" = String, description = "The version of the file"))),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 412, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = String, content_type = "text/plain"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 428, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn put(
    State(admin): State<Admin>,
    Name(name): Name,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<(StatusCode, [(header::HeaderName, String); 1]), Problem> {
    let text =
        String::from_utf8(body.to_vec()).map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the file is not UTF-8"))?;
    let of = precondition(&headers)?;
    let version = write(&admin, &name, of, Some(text)).await?;
    Ok((StatusCode::NO_CONTENT, [(header::ETAG, format!("\"{version}\""))]))
}

/// Delete a file; of a template the site's own version, so that the shipped one is in force again
#[utoipa::path(delete, path = "/api/v1/files/{name}", tag = "files",
    params(("name" = String, Path), ("If-Match" = Option<String>, Header)),
    responses(
    (status = 204, description = "Deleted, and out of service"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 412, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 428, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete(
    State(admin): State<Admin>,
    Name(name): Name,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let of = precondition(&headers)?;
    if of.is_none() {
        return Err(Problem::field("If-Match", "what is deleted is there already, so name its version"));
    }
    write(&admin, &name, of, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The version that it has now; empty where it is gone.
pub(crate) async fn write(
    admin: &Admin,
    name: &str,
    of: Option<String>,
    content: Option<String>,
) -> Result<String, Problem> {
    let world = admin.desk.world();
    let file = file_named(&world, name)?;
    crate::audit::changed(file.name());
    if file.kind == EditedKind::Template {
        let vendor = file.name().split('/').nth(1).unwrap_or_default();
        if world.shelf.get(vendor).is_none_or(|plugin| plugin.id != vendor) {
            return Err(Problem::not_found(format!("no vendor \"{}\" is in service", shortened(vendor))));
        }
    }
    if content.is_none() && !file.path.exists() {
        return Err(Problem::not_found(format!("there is no file {file}")));
    }
    let version = content.as_deref().map(|content| edit::version(content.as_bytes())).unwrap_or_default();
    admin.desk.edit(vec![Edit { path: file.path, of, content }]).await?;
    Ok(version)
}

/// A version that a file once had.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Kept {
    version: String,
    /// When it was replaced; milliseconds since 1970.
    until: u64,
    bytes: usize,
}

/// The versions that a file had before it was changed here, the newest first
///
/// The last twenty are kept. Each can be had with `GET /api/v1/files/{name}?version=…`, and written again.
#[utoipa::path(get, path = "/api/v1/files/{name}/versions", tag = "files", params(("name" = String, Path)), responses(
    (status = 200, body = Vec<Kept>),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn earlier(State(admin): State<Admin>, Name(name): Name) -> Result<Json<Vec<Kept>>, Problem> {
    aside(move || {
        let world = admin.desk.world();
        let file = file_named(&world, &name)?;
        let kept = versions::list(&world.settings, &file).map_err(reading(&file.path))?;
        let kept = kept.into_iter().map(|kept| Kept {
            until: milliseconds(kept.until),
            bytes: kept.text.len(),
            version: kept.version,
        });
        Ok(Json(kept.collect()))
    })
    .await?
}
