//! All phones in a table, with those that wait for somebody's word above it.

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use minijinja::{Value, context};
use provost_plugin::MacAddr;
use serde::Deserialize;
use serde_json::json;

use super::{
    Refusal,
    form::Checked,
    session::Session,
    show,
    words::{data, in_url},
};
use crate::{
    Admin,
    api::{self, Query, approvals, devices},
    problem::Problem,
    serve::Door,
};

const PAGE: usize = 100;
/// Phones that are pending, shown above the table; the table has all of them.
const STRIP: usize = 12;

/// The query of the page, as a form without script sends it: with empty fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    state: String,
    progress: String,
    vendor: String,
    sort: String,
    page: String,
    /// Phones that were just approved.
    approved: String,
}

impl Asked {
    fn page(&self) -> usize {
        self.page.parse().unwrap_or(1).clamp(1, 10_000)
    }

    /// `enrolled` unless another standing was asked for.
    fn state(&self) -> Option<&str> {
        match self.state.as_str() {
            "" => Some("enrolled"),
            "all" => None,
            state => Some(state),
        }
    }

    /// The same question with other words in it.
    fn with(&self, changes: &[(&str, &str)]) -> String {
        let page = self.page().to_string();
        let now = [
            ("q", self.q.as_str()),
            ("state", &self.state),
            ("progress", &self.progress),
            ("vendor", &self.vendor),
            ("sort", &self.sort),
            ("page", &page),
        ];
        let pairs = now.iter().filter_map(|(name, value)| {
            let value = changes.iter().find(|(changed, _)| changed == name).map_or(*value, |(_, value)| value);
            let is_plain = value.is_empty() || (*name == "page" && value == "1");
            (!is_plain).then(|| format!("{name}={}", in_url(value)))
        });
        format!("?{}", pairs.collect::<Vec<_>>().join("&"))
    }
}

async fn list(admin: &Admin, filter: serde_json::Value) -> Result<serde_json::Value, Problem> {
    let filter = serde_json::from_value(filter).map_err(|error| Problem::field("filter", error.to_string()))?;
    let rows = devices::list(State(admin.clone()), Query(filter)).await?;
    serde_json::to_value(rows.0).map_err(|error| Problem::internal(error.to_string()))
}

/// What table and strip are made of.
async fn found(admin: &Admin, asked: &Asked) -> Result<Value, Problem> {
    let word = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let offset = (asked.page() - 1) * PAGE;
    let mut filter = json!({
        "q": asked.q, "state": asked.state(), "progress": word(&asked.progress), "vendor": word(&asked.vendor),
        "offset": offset, "limit": PAGE,
    });
    if let Some(sort) = word(&asked.sort) {
        filter["sort"] = sort.into();
    }
    let rows = list(admin, filter).await?;
    let waiting = |limit| json!({ "q": asked.q, "state": "pending", "sort": "last_seen", "limit": limit });
    let pending = list(admin, waiting(STRIP)).await?;
    let mut elsewhere = Vec::new();
    // Who looks for a phone looks for it wherever it stands.
    if !asked.q.is_empty() && asked.state.is_empty() {
        for state in ["disabled", "ignored"] {
            let there = list(admin, json!({ "q": asked.q, "state": state, "limit": 1 })).await?;
            if there["total"].as_u64() > Some(0) {
                elsewhere.push(context! { state, total => there["total"].as_u64(), url => asked.with(&[("state", state), ("page", "")]) });
            }
        }
    }
    let total = rows["total"].as_u64().unwrap_or_default() as usize;
    let here = asked.page();
    let to_page = |page: usize| asked.with(&[("page", &page.to_string())]);
    let sorted = |sort: &str| asked.with(&[("sort", sort), ("page", "")]);
    Ok(context! {
        rows => data(&rows["items"]),
        total,
        pending => data(&pending["items"]),
        waiting => pending["total"].as_u64(),
        elsewhere,
        first => (offset + 1).min(total),
        last => (offset + PAGE).min(total),
        previous => if here > 1 { Some(to_page(here - 1)) } else { None },
        next => if offset + PAGE < total { Some(to_page(here + 1)) } else { None },
        by_mac => sorted(""),
        by_label => sorted("label"),
        by_last_seen => sorted("last_seen"),
        sort => asked.sort.as_str(),
        all_pending => asked.with(&[("state", "pending"), ("page", ""), ("progress", "")]),
        anything => [&asked.q, &asked.progress, &asked.vendor].iter().any(|word| !word.is_empty()),
        any_device => !admin.desk.world().fleet.is_empty(),
    })
}

pub(super) async fn page(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let found = found(&door.admin, &asked).await?;
    let world = door.admin.desk.world();
    let mut vendors: Vec<&str> = world.shelf.plugins().map(|plugin| plugin.spec.vendor.as_str()).collect();
    vendors.sort_unstable_by_key(|vendor| vendor.to_lowercase());
    let profiles: Vec<&str> = world.fleet.profiles().collect();
    let stages: Vec<&str> = provost_server::progress::Progress::ALL.iter().map(|progress| progress.as_str()).collect();
    let query = asked.with(&[]);
    let chosen = context! {
        query,
        q => asked.q, state => asked.state, progress => asked.progress, vendor => asked.vendor,
        approved => asked.approved.parse::<usize>().unwrap_or_default(),
        vendors => data(&vendors), profiles => data(&profiles), stages => data(&stages), csrf => session.csrf.as_str(), here => "fleet",
    };
    Ok(show("fleet.html", context! { ..found, ..chosen }))
}

/// Table and strip alone, for the script that keeps them up to date.
pub(super) async fn rows(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let found = found(&door.admin, &asked).await?;
    Ok(show("rows.html", context! { csrf => session.csrf.as_str(), ..found }))
}

/// Enrols every phone that was ticked with one profile: all of them or none.
pub(super) async fn approve(State(door): State<Door>, Checked(fields): Checked) -> Result<Response, Refusal> {
    let macs: Result<Vec<MacAddr>, Problem> =
        fields.all("mac").map(|mac| mac.parse().map_err(|_| Problem::field("mac", "that is no MAC address"))).collect();
    let wanted = approvals::Approvals::new(macs?, fields.filled("profile"));
    let (_, approved) = approvals::approve(State(door.admin), api::Body(wanted)).await?;
    Ok(Redirect::to(&format!("/?approved={}", approved.0.len())).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_what_was_asked_and_changes_one_word() {
        let asked = Asked { q: "a&b".into(), vendor: "Acme".into(), page: "3".into(), ..Asked::default() };
        assert_eq!(asked.with(&[]), "?q=a%26b&vendor=Acme&page=3");
        assert_eq!(asked.with(&[("sort", "label"), ("page", "")]), "?q=a%26b&vendor=Acme&sort=label");
        assert_eq!(Asked { page: "-9".into(), ..Asked::default() }.with(&[]), "?");
    }
}
