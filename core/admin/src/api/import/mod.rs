//! Inventories in and out: a file of one of several forms becomes a list of phones to be, each knowing where in the file it came from, and
//! that list is enrolled as a whole or not at all.
//!
//! Every phone is looked at and tried before anything is written, and then all files appear at once. What a form cannot carry over is told
//! phone by phone.

pub(crate) mod csv;
mod files;
mod fusionpbx;
mod wazo;
mod yaml;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use provost_host::Shelf;
use provost_plugin::{MacAddr, model::Identity};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{Query, aside, shortened};
use crate::{
    Admin,
    problem::{Problem, Wrong},
};

/// As many mistakes as a person mends before the next try.
const WRONG: usize = 100;
/// As many warnings as anybody reads.
const WARNINGS: usize = 1000;
/// Names in one warning.
const NAMES: usize = 12;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    /// A row for each account
    Csv,
    /// A profile file with `devices`
    Yaml,
    /// JSON of wazo-provd: `devices` and `configs`
    Wazo,
    /// The CSV of FusionPBX's devices
    Fusionpbx,
    /// A tar of phones' files as another server wrote them
    Files,
}

impl Form {
    /// What the bytes look like.
    fn of(bytes: &[u8]) -> Form {
        let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes).trim_ascii_start();
        let head = String::from_utf8_lossy(&text[..text.len().min(4096)]).to_lowercase();
        let first = head.lines().next().unwrap_or_default();
        if bytes.get(257..262) == Some(b"ustar") {
            Form::Files
        } else if head.starts_with(['{', '[']) {
            Form::Wazo
        } else if first.contains("device_mac_address") || first.contains("device_address") {
            Form::Fusionpbx
        } else if head.lines().any(|line| line.trim_end().starts_with("devices:")) {
            Form::Yaml
        } else {
            Form::Csv
        }
    }
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct How {
    /// Look at everything, and write nothing
    pub(crate) dry_run: bool,
    /// What the file is; left out, it is told by the file
    pub(crate) form: Option<Form>,
    /// Settings of vendors' files that have no field of ours become raw settings of the vendor
    pub(crate) raw: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Imported {
    form: Form,
    pub(crate) devices: usize,
    accounts: usize,
    /// What is not carried over, and where it stands.
    warnings: Vec<Wrong>,
    /// The directory in which their files are; none for a dry run.
    directory: Option<String>,
}

/// What a reader must know of this server.
struct Wanted<'a> {
    profiles: HashSet<&'a str>,
    sites: HashSet<&'a str>,
    /// Where a phone is enrolled already.
    taken: &'a dyn Fn(MacAddr) -> Option<String>,
    shelf: &'a Shelf,
    raw: bool,
}

impl Wanted<'_> {
    /// What has to be stated of a phone of this vendor and model, since its MAC does not tell it; and what nobody here knows.
    fn identity(&self, mac: MacAddr, vendor: Option<&str>, model: Option<&str>) -> (Value, Option<String>) {
        let by_mac = self.shelf.choose(&Identity { mac: Some(mac), ..Identity::default() }, None).ok();
        let by_mac = by_mac.map(|choice| choice.plugin);
        let named = vendor.and_then(|vendor| self.shelf.get(vendor)).cloned();
        let unknown = vendor
            .filter(|_| named.is_none())
            .map(|vendor| format!("no plugin for the vendor \"{}\"", shortened(vendor)));
        let plugin = named.clone().or(by_mac.clone());
        let mut identity = json!({});
        if let Some(named) = &named
            && by_mac.is_none_or(|plugin| plugin.id != named.id)
        {
            identity["vendor"] = json!(named.id);
        }
        let model =
            model.and_then(|model| plugin.as_ref().and_then(|plugin| Some(plugin.spec.model(model)?.0.to_owned())));
        if let Some(model) = model.filter(|model| !model.contains('*')) {
            identity["model"] = json!(model);
        }
        (identity, unknown)
    }
}

/// A phone to be.
struct Draft {
    mac: MacAddr,
    /// Where it stands in what was sent.
    place: String,
    /// As below a MAC in a profile file; passwords in the clear.
    device: Value,
}

/// The phones of a file, and what is to be said of it.
#[derive(Default)]
struct Drafts {
    all: Vec<Draft>,
    wrong: Vec<Wrong>,
    warnings: Vec<Wrong>,
    seen: BTreeSet<MacAddr>,
}

impl Drafts {
    fn blame(&mut self, at: impl Into<String>, message: impl Into<String>) {
        if self.wrong.len() < WRONG {
            self.wrong.push(Wrong { at: at.into(), message: message.into() });
        }
    }

    fn warn(&mut self, at: impl Into<String>, message: impl Into<String>) {
        if self.warnings.len() < WARNINGS {
            self.warnings.push(Wrong { at: at.into(), message: message.into() });
        }
    }

    /// Tells of settings that have no place in a profile.
    fn warn_of_lost<'a>(&mut self, at: &str, names: impl IntoIterator<Item = &'a str>) {
        let names: Vec<String> = names.into_iter().map(shortened).collect();
        if names.is_empty() {
            return;
        }
        let more = names.len().saturating_sub(NAMES);
        let mut told = names.into_iter().take(NAMES).collect::<Vec<_>>().join(", ");
        if more > 0 {
            told.push_str(&format!(" and {more} more"));
        }
        self.warn(at, format!("not carried over: {told}"));
    }

    /// The MAC of a phone that is not enrolled yet.
    fn mac(&mut self, text: &str, at: String, wanted: &Wanted) -> Option<MacAddr> {
        let Ok(mac) = text.parse::<MacAddr>() else {
            self.blame(at, format!("\"{}\" is no MAC address", shortened(text)));
            return None;
        };
        match (wanted.taken)(mac) {
            Some(place) => {
                self.blame(at, format!("{mac} is enrolled already ({place})"));
                None
            }
            None => Some(mac),
        }
    }

    fn add(&mut self, mac: MacAddr, place: impl Into<String>, device: Value) {
        let place = place.into();
        if self.seen.insert(mac) {
            self.all.push(Draft { mac, place, device });
        } else {
            self.blame(place, format!("{mac} is there already"));
        }
    }

    fn accounts(&self) -> usize {
        self.all.iter().filter_map(|draft| draft.device["lines"].as_array()).map(Vec::len).sum()
    }
}

/// Enrol all phones of a file, or none
///
/// A CSV file of our own or of FusionPBX, a profile file with `devices`, wazo-provd's devices and configs as JSON, or a tar of phones' files
/// as another server wrote them.
#[utoipa::path(post, path = "/api/v1/import", tag = "devices", params(How),
    request_body(content = String, content_type = "application/octet-stream"), responses(
    (status = 200, body = Imported, description = "Nothing is wrong; a dry run"),
    (status = 201, body = Imported),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = String, content_type = "text/plain"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn import(
    State(admin): State<Admin>,
    Query(how): Query<How>,
    body: axum::body::Bytes,
) -> Result<(StatusCode, Json<Imported>), Problem> {
    let desk = std::sync::Arc::clone(&admin.desk);
    let form = how.form.unwrap_or_else(|| Form::of(&body));
    let drafts = aside(move || {
        let world = desk.world();
        let taken = |mac: MacAddr| world.fleet.device(mac).map(|device| format!("{}:{}", device.file(), device.line()));
        let wanted = Wanted {
            profiles: world.fleet.profiles().collect(),
            sites: world.fleet.sites().collect(),
            taken: &taken,
            shelf: &world.shelf,
            raw: how.raw,
        };
        match form {
            Form::Csv => csv::read(&body, &wanted),
            Form::Yaml => yaml::read(&body, &wanted),
            Form::Wazo => wazo::read(&body, &wanted),
            Form::Fusionpbx => fusionpbx::read(&body, &wanted),
            Form::Files => files::read(&body, &wanted),
        }
    })
    .await?;
    let (devices, accounts) = (drafts.all.len(), drafts.accounts());
    if !drafts.wrong.is_empty() {
        let places = match drafts.wrong.len() {
            1 => "1 place is wrong".to_owned(),
            many if many >= WRONG => format!("at least {many} places are wrong"),
            many => format!("{many} places are wrong"),
        };
        let detail = format!("nothing is written: {places}");
        return Err(Problem { errors: drafts.wrong, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail) });
    }
    if devices == 0 {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "nothing is written: the file has no phones");
        return Err(Problem { errors: drafts.warnings, ..problem });
    }
    let places = drafts.all.iter().map(|draft| (draft.mac, draft.place.clone())).collect();
    let file = |draft: &Draft| (format!("{}.yaml", draft.mac.bare()), yaml::file(draft.mac, &draft.device));
    let files = drafts.all.iter().map(file).collect();
    let done = admin.desk.import(files, how.dry_run).await;
    let directory = done.map_err(|error| in_places(Problem::from(error), &places))?;
    let status = if how.dry_run { StatusCode::OK } else { StatusCode::CREATED };
    let directory = directory.map(|path| path.display().to_string());
    Ok((status, Json(Imported { form, devices, accounts, warnings: drafts.warnings, directory })))
}

/// Tells mistakes by the places of the file that was sent, and not by files that were never written.
fn in_places(mut problem: Problem, places: &BTreeMap<MacAddr, String>) -> Problem {
    problem.errors.truncate(WRONG);
    for wrong in &mut problem.errors {
        let named = wrong.at.split(['/', ':']).find_map(|part| part.strip_suffix(".yaml")?.parse::<MacAddr>().ok());
        if let Some((mac, place)) = named.and_then(|mac| Some((mac, places.get(&mac)?))) {
            wrong.at = format!("{place} ({mac})");
        }
    }
    problem
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct As {
    /// `csv` (a row for each account) or `yaml` (everything that a device's section says)
    form: Option<Form>,
}

/// All phones of the inventory as a file that can be imported again; passwords included
#[utoipa::path(get, path = "/api/v1/export", tag = "devices", params(As), responses(
    (status = 200, content((String = "text/csv"), (serde_json::Value = "application/yaml"))),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn export(State(admin): State<Admin>, Query(how): Query<As>) -> Result<impl IntoResponse, Problem> {
    let form = how.form.unwrap_or(Form::Csv);
    let kind = match form {
        Form::Csv => "text/csv; charset=utf-8",
        Form::Yaml => "application/yaml",
        _ => return Err(Problem::field("form", "phones are exported as csv or as yaml")),
    };
    let text = aside(move || {
        let world = admin.desk.world();
        if form == Form::Csv { csv::written(&world) } else { Ok(yaml::written(&world)) }
    })
    .await??;
    Ok(([(header::CONTENT_TYPE, kind)], text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_tells_its_form() {
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (bytes, form) in [
            (&b"mac,label\n"[..], Form::Csv),
            (b"\xef\xbb\xbfmac;number\r\n", Form::Csv),
            (b"# all\ndevices:\n  02acde000001: {}\n", Form::Yaml),
            (b" {\"devices\": []}", Form::Wazo),
            (b"device_uuid,device_mac_address,device_label\n", Form::Fusionpbx),
            (b"\"device_address\",\"line_number\"\n", Form::Fusionpbx),
            (&tar, Form::Files),
        ] {
            assert_eq!(Form::of(bytes), form, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
