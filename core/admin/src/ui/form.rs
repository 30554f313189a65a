//! What a form brought, and whether it was one of our pages that sent it.

use axum::{
    Form,
    extract::{FromRequest, Multipart, Request, multipart::MultipartError},
    http::StatusCode,
};

use super::{Refusal, session::Session};
use crate::problem::Problem;

/// The fields of a form as they were filled in. Says nothing of who sent it: see [`Checked`].
#[derive(Debug)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Empty where there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// None where it was left empty.
    pub(crate) fn filled(&self, name: &str) -> Option<String> {
        Some(self.get(name).trim()).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// None where it was left empty.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u32>, Problem> {
        let number = self.filled(name).map(|text| text.parse());
        number.transpose().map_err(|_| Problem::field(name, "that is no number"))
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Fields, Refusal> {
        let form = Form::<Vec<(String, String)>>::from_request(request, state).await;
        form.map(|Form(fields)| Fields(fields)).map_err(|error| Problem::new(error.status(), error.body_text()).into())
    }
}

/// A form that one of this session's own pages sent.
#[derive(Debug)]
pub(crate) struct Checked(pub(crate) Fields);

impl<S: Send + Sync> FromRequest<S> for Checked {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Checked, Refusal> {
        let session = request.extensions().get::<Session>().cloned();
        let fields = Fields::from_request(request, state).await?;
        issued(session, &fields)?;
        Ok(Checked(fields))
    }
}

fn issued(session: Option<Session>, fields: &Fields) -> Result<(), Problem> {
    if session.is_some_and(|session| session.issued(fields.get("csrf"))) {
        return Ok(());
    }
    let why = "this form was not sent by a page of this session; load the page again, and nothing was changed";
    Err(Problem::new(StatusCode::FORBIDDEN, why))
}

/// Bytes of a file, or of text that is as long as one.
pub(crate) const LONGEST: usize = 4 << 20;
/// Bytes of any other field beside a file.
const SHORT: usize = 4 << 10;

/// A form with a file, of which the same holds.
#[derive(Debug)]
pub(crate) struct WithFile {
    pub(crate) fields: Fields,
    /// Empty where none was chosen.
    pub(crate) file: Vec<u8>,
    /// Something of it was longer than it may be. It was read to its end and let go: a browser that is answered before it has sent all
    /// shows its user no answer.
    pub(crate) is_cut: bool,
}

impl<S: Send + Sync> FromRequest<S> for WithFile {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<WithFile, Refusal> {
        let session = request.extensions().get::<Session>().cloned();
        let form = Multipart::from_request(request, state).await;
        let mut form = form.map_err(|error| Problem::new(error.status(), error.body_text()))?;
        let unreadable = |error: MultipartError| Problem::new(error.status(), error.body_text());
        let mut brought = WithFile { fields: Fields(Vec::new()), file: Vec::new(), is_cut: false };
        while let Some(mut field) = form.next_field().await.map_err(unreadable)? {
            let name = field.name().unwrap_or_default().to_owned();
            let most = if ["file", "text"].contains(&name.as_str()) { LONGEST } else { SHORT };
            let mut bytes = Vec::new();
            while let Some(chunk) = field.chunk().await.map_err(unreadable)? {
                match bytes.len() + chunk.len() <= most {
                    true => bytes.extend_from_slice(&chunk),
                    false => brought.is_cut = true,
                }
            }
            match name.as_str() {
                "file" => brought.file = bytes,
                _ if brought.fields.0.len() < 64 => {
                    let text = String::from_utf8(bytes).map_err(|_| Problem::field(&name, "it is not UTF-8"))?;
                    brought.fields.0.push((name, text));
                }
                _ => brought.is_cut = true,
            }
        }
        issued(session, &brought.fields)?;
        Ok(brought)
    }
}
