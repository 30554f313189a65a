//! Lists of people: what is in them, which phones read them, and entries that come and go without a change to the rest of the file.

mod text;

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, StatusCode, request::Parts},
};
use provost_plugin::model::{self, Book};
use provost_server::{
    edit::{self, Edit, EditedFile},
    world::World,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Body, Query, aside,
    devices::{precondition, reading},
    files::{self, Name},
    shortened,
};
use crate::{Admin, problem::Problem};

const MOST: usize = 1000;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Phonebook {
    pub(crate) name: String,
    title: String,
    /// How many people are in it.
    total: usize,
    /// Where it lies on the server's disk.
    place: String,
    /// The same, as it is named under /api/v1/files.
    pub(crate) file: Option<String>,
    /// Where the phones of each vendor read it.
    read_at: Vec<ReadAt>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadAt {
    vendor: String,
    /// Below the server's URL.
    path: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct People {
    #[serde(flatten)]
    pub(crate) book: Phonebook,
    /// Of its file: what a change is of.
    version: String,
    /// How many there are that fit.
    found: usize,
    items: Vec<Listed>,
}

/// Somebody in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Listed {
    /// Place in the list, counted from 0.
    index: usize,
    #[serde(flatten)]
    person: Person,
}

#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Person {
    /// As it is shown. Left out, it is `first` and `last`.
    pub(crate) name: String,
    pub(crate) first: Option<String>,
    pub(crate) last: Option<String>,
    /// The one to dial first stands first.
    pub(crate) numbers: Vec<Number>,
    pub(crate) group: Option<String>,
    pub(crate) email: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Number {
    #[serde(default)]
    pub(crate) kind: Kind,
    pub(crate) number: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = KindOfNumber)]
pub(crate) enum Kind {
    #[default]
    Work,
    Mobile,
    Home,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Work => "work",
            Kind::Mobile => "mobile",
            Kind::Home => "home",
        }
    }
}

impl From<&model::Entry> for Person {
    fn from(entry: &model::Entry) -> Person {
        let number = |number: &model::Number| Number {
            kind: match number.kind {
                model::NumberKind::Work => Kind::Work,
                model::NumberKind::Mobile => Kind::Mobile,
                model::NumberKind::Home => Kind::Home,
            },
            number: number.number.clone(),
        };
        Person {
            name: entry.name.clone(),
            first: entry.first.clone(),
            last: entry.last.clone(),
            numbers: entry.numbers.iter().map(number).collect(),
            group: entry.group.clone(),
            email: entry.email.clone(),
        }
    }
}

/// A list and its file.
fn named(world: &World, name: &str) -> Result<(Arc<Book>, EditedFile), Problem> {
    let none = || Problem::not_found(format!("there is no list \"{}\" in service", shortened(name)));
    let book = world.books.get(name).ok_or_else(none)?;
    let place = world.books.file(name).ok_or_else(none)?;
    let file = EditedFile::at(&world.settings, place.as_ref());
    let file = file.ok_or_else(|| Problem::conflict(format!("{place} is no file that can be changed here")))?;
    Ok((Arc::clone(book), file))
}

fn described(world: &World, book: &Book) -> Phonebook {
    let place = world.books.file(&book.name).unwrap_or_default();
    let mut read_at: Vec<ReadAt> = Vec::new();
    for plugin in world.shelf.plugins() {
        let directories = plugin.spec.files.iter().filter(|file| file.name.names_a_book());
        for path in
            directories.filter_map(|file| file.name.expand_for(Some(&book.name), None, None, &Default::default()))
        {
            if !read_at.iter().any(|known| known.vendor == plugin.spec.vendor && known.path == path) {
                read_at.push(ReadAt { vendor: plugin.spec.vendor.clone(), path });
            }
        }
    }
    Phonebook {
        name: book.name.clone(),
        title: book.title.clone(),
        total: book.entries.len(),
        place: place.to_owned(),
        file: EditedFile::at(&world.settings, place.as_ref()).map(|file| file.name().to_owned()),
        read_at,
    }
}

/// The lists of people in service
#[utoipa::path(get, path = "/api/v1/phonebooks", tag = "files", responses(
    (status = 200, body = Vec<Phonebook>),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(State(admin): State<Admin>) -> Json<Vec<Phonebook>> {
    let world = admin.desk.world();
    let books = world.books.names().filter_map(|name| world.books.get(name));
    Json(books.map(|book| described(&world, book)).collect())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Part of a name, number, group or mail address
    pub(crate) q: String,
    /// The first so many are left out
    pub(crate) offset: usize,
    /// At most so many are returned
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: usize,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { q: String::new(), offset: 0, limit: 100 }
    }
}

/// Who is in a list
#[utoipa::path(get, path = "/api/v1/phonebooks/{name}", tag = "files", params(("name" = String, Path), Filter), responses(
    (status = 200, body = People),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn one(
    State(admin): State<Admin>,
    Name(name): Name,
    Query(filter): Query<Filter>,
) -> Result<Json<People>, Problem> {
    if !(1..=MOST).contains(&filter.limit) {
        return Err(Problem::field("limit", format!("it is from 1 to {MOST}")));
    }
    aside(move || {
        let world = admin.desk.world();
        let (book, file) = named(&world, &name)?;
        let (_, version) = there(&file)?;
        let wanted = filter.q.to_lowercase();
        let fits = |(_, entry): &(usize, &model::Entry)| {
            let texts = [
                Some(&entry.name),
                entry.first.as_ref(),
                entry.last.as_ref(),
                entry.group.as_ref(),
                entry.email.as_ref(),
            ];
            let numbers = entry.numbers.iter().map(|number| &number.number);
            wanted.is_empty()
                || texts.into_iter().flatten().chain(numbers).any(|text| text.to_lowercase().contains(&wanted))
        };
        let found: Vec<(usize, &model::Entry)> = book.entries.iter().enumerate().filter(fits).collect();
        let shown = found.iter().skip(filter.offset).take(filter.limit);
        let items = shown.map(|(index, entry)| Listed { index: *index, person: Person::from(*entry) }).collect();
        Ok(Json(People { book: described(&world, &book), version, found: found.len(), items }))
    })
    .await?
}

/// The text of a list's file, and its version.
fn there(file: &EditedFile) -> Result<(String, String), Problem> {
    let read = edit::read(&file.path).map_err(reading(&file.path))?;
    read.ok_or_else(|| Problem::not_found(format!("{file} is gone")))
}

/// Writes the changed text, if it comes to what was meant.
async fn change(
    admin: &Admin,
    file: &EditedFile,
    version: String,
    text: String,
    is_meant: impl FnOnce(&Book) -> bool + Send + 'static,
    name: &str,
) -> Result<(), Problem> {
    let (desk, path, draft_of, content) = (Arc::clone(&admin.desk), file.path.clone(), name.to_owned(), text.clone());
    let meant = aside(move || {
        let draft = desk.draft(&[Edit { path, of: None, content: Some(content) }])?;
        Ok::<bool, Problem>(draft.then.books.get(&draft_of).is_some_and(|book| is_meant(book)))
    });
    if !meant.await?? {
        return Err(by_hand(file));
    }
    files::write(admin, file.name(), Some(version), Some(text)).await.map(|_| ())
}

fn by_hand(file: &EditedFile) -> Problem {
    Problem::conflict(format!(
        "{file} is not written in a form in which single entries can be changed here; edit the file"
    ))
}

/// Put somebody into a list
///
/// The rest of the file stays as it is written.
#[utoipa::path(post, path = "/api/v1/phonebooks/{name}/entries", tag = "files", params(("name" = String, Path)), request_body = Person, responses(
    (status = 204, description = "Written, and in service"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 412, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn add(
    State(admin): State<Admin>,
    Name(name): Name,
    Body(person): Body<Person>,
) -> Result<StatusCode, Problem> {
    let person = person.checked()?;
    let (book, file) = named(&admin.desk.world(), &name)?;
    let read = file.clone();
    let (text, version) = aside(move || there(&read)).await??;
    let is_csv = file.path.extension().is_some_and(|extension| extension == "csv");
    let changed = if is_csv { text::csv_with(&text, &person)? } else { text::yaml_with(&text, &person) };
    let changed = changed.ok_or_else(|| by_hand(&file))?;
    let (before, wanted) = (Arc::clone(&book), person.shown());
    let is_meant = move |after: &Book| {
        after.entries.split_last().is_some_and(|(last, others)| *others == before.entries && last.name == wanted)
    };
    change(&admin, &file, version, changed, is_meant, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The name of a list and a place in it.
#[derive(Clone, Debug)]
pub(crate) struct At(pub(crate) String, pub(crate) usize);

impl<S: Send + Sync> FromRequestParts<S> for At {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<At, Problem> {
        let path = axum::extract::Path::<(String, String)>::from_request_parts(parts, state).await;
        let axum::extract::Path((name, index)) = path.map_err(|_| Problem::field("name", "it is not UTF-8"))?;
        let index = index.parse().map_err(|_| Problem::field("index", "that is no place in a list"))?;
        Ok(At(name, index))
    }
}

/// Take somebody out of a list
///
/// `If-Match` names the version of the file in which the place was counted. The rest of the file stays as it is written.
#[utoipa::path(delete, path = "/api/v1/phonebooks/{name}/entries/{index}", tag = "files",
    params(("name" = String, Path), ("index" = usize, Path), ("If-Match" = Option<String>, Header)), responses(
    (status = 204, description = "Written, and in service"),
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
pub(crate) async fn remove(
    State(admin): State<Admin>,
    At(name, index): At,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let of = precondition(&headers)?;
    let of = of.ok_or_else(|| Problem::field("If-Match", "who is taken out is there already, so name the version"))?;
    let (book, file) = named(&admin.desk.world(), &name)?;
    if index >= book.entries.len() {
        return Err(Problem::not_found(format!("the list \"{name}\" has {} entries", book.entries.len())));
    }
    let read = file.clone();
    let (text, version) = aside(move || there(&read)).await??;
    if version != of {
        let why = format!("{file} was changed by somebody else since it was read");
        return Err(Problem::new(StatusCode::PRECONDITION_FAILED, why));
    }
    let is_csv = file.path.extension().is_some_and(|extension| extension == "csv");
    let changed = if is_csv { text::csv_without(&text, index) } else { text::yaml_without(&text, index) };
    let changed = changed.ok_or_else(|| by_hand(&file))?;
    let mut wanted = book.entries.clone();
    wanted.remove(index);
    change(&admin, &file, version, changed, move |after| after.entries == wanted, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Person {
    /// As the list will have it.
    fn checked(mut self) -> Result<Person, Problem> {
        let trimmed = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        self.name = self.name.trim().to_owned();
        self.first = trimmed(self.first);
        self.last = trimmed(self.last);
        self.group = trimmed(self.group);
        self.email = trimmed(self.email);
        self.numbers.iter_mut().for_each(|number| number.number = number.number.trim().to_owned());
        self.numbers.retain(|number| !number.number.is_empty());
        if self.shown().is_empty() {
            return Err(Problem::field("name", "somebody is called by a name, or by first and last"));
        }
        if self.numbers.is_empty() {
            return Err(Problem::field("numbers", "it takes a number to call somebody"));
        }
        let texts =
            [Some(&self.name), self.first.as_ref(), self.last.as_ref(), self.group.as_ref(), self.email.as_ref()];
        let mut texts = texts.into_iter().flatten().chain(self.numbers.iter().map(|number| &number.number));
        let is_unfit = texts.any(|text| text.chars().any(char::is_control) || text.chars().count() > 200);
        drop(texts);
        if is_unfit {
            return Err(Problem::field(
                "entry",
                "no part of it may be longer than 200 characters or hold a line break",
            ));
        }
        Ok(self)
    }

    fn shown(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        [&self.first, &self.last].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ")
    }
}
