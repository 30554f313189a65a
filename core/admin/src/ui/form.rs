//! What a form brought, and whether it was one of our pages that sent it.

use axum::{
    Form,
    extract::{FromRequest, Request},
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
        if session.is_some_and(|session| session.issued(fields.get("csrf"))) {
            return Ok(Checked(fields));
        }
        let why = "this form was not sent by a page of this session; load the page again, and nothing was changed";
        Err(Problem::new(StatusCode::FORBIDDEN, why).into())
    }
}
