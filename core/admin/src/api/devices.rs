//! Phones: those of the inventory and those that were seen, in one list.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
};
use provost_fleet::{Record, Suggestion};
use provost_plugin::{MacAddr, model::Identity};
use provost_server::{
    edit::{self, Edit},
    explain, milliseconds,
    pnp::{
        exchange::{NotNotified, Notified},
        resync::{NotResynced, Resync},
    },
    progress::{self, FileState, Progress},
    world::{self, World},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    Body, Mac, Query, Yaml, aside,
    trust::Opened,
    write::{Assignment, renamed},
};
use crate::{Admin, problem::Problem};

pub(super) use provost_server::enrol::own_file;

const MOST: usize = 1000;
/// How long phones are looked at one by one for a list.
const LOOK: Duration = Duration::from_secs(3);
/// A phone that is on answers within some milliseconds.
const SOON: Duration = Duration::from_secs(3);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Part of a MAC, name, vendor, model, firmware, profile or address
    q: String,
    /// Only phones of this standing
    #[param(inline)]
    state: Option<Shown>,
    /// Only phones that have come so far
    #[param(inline)]
    progress: Option<Stage>,
    /// Only phones of this vendor
    vendor: Option<String>,
    /// Only phones that are enrolled with this profile by name
    profile: Option<String>,
    #[param(inline)]
    sort: Sort,
    /// The first so many are left out
    offset: usize,
    /// At most so many are returned
    #[param(minimum = 1, maximum = 1000)]
    limit: usize,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter {
            q: String::new(),
            state: None,
            progress: None,
            vendor: None,
            profile: None,
            sort: Sort::Mac,
            offset: 0,
            limit: 100,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sort {
    Mac,
    /// The one that was seen last comes first.
    LastSeen,
    Label,
}

/// How a phone stands to the inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shown {
    /// It was seen, and no profile file has it.
    Pending,
    /// The same, and somebody wants to hear no more of it.
    Ignored,
    Enrolled,
    /// In a profile file, switched off there.
    Disabled,
}

/// How far a phone has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    NeverSeen,
    NeverFetched,
    Fetching,
    InStep,
    OutOfDate,
    Stuck,
    Gone,
}

impl From<Progress> for Stage {
    fn from(progress: Progress) -> Stage {
        match progress {
            Progress::NeverSeen => Stage::NeverSeen,
            Progress::NeverFetched => Stage::NeverFetched,
            Progress::Fetching => Stage::Fetching,
            Progress::InStep => Stage::InStep,
            Progress::OutOfDate => Stage::OutOfDate,
            Progress::Stuck => Stage::Stuck,
            Progress::Gone => Stage::Gone,
        }
    }
}

/// A phone in the list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Row {
    mac: String,
    state: Shown,
    /// None for a phone that is not enrolled.
    progress: Option<Stage>,
    label: Option<String>,
    profile: Option<String>,
    /// Of a phone that waits: the profile that it gets if nobody names another.
    suggested_profile: Option<String>,
    /// Why that one, in words.
    suggested_because: Option<String>,
    /// Where that one stands: file and line.
    suggested_place: Option<String>,
    vendor: Option<String>,
    model: Option<String>,
    firmware: Option<String>,
    address: Option<String>,
    interface: Option<String>,
    /// Milliseconds since 1970.
    first_seen: Option<u64>,
    last_seen: Option<u64>,
    /// Where it stands in the profiles: file and line.
    place: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rows {
    items: Vec<Row>,
    /// How many there are in all that fit.
    total: usize,
    /// There may be more: how far phones have come takes making their files, and with so many phones there was no time to look at all.
    partial: bool,
}

/// Everything about a phone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Details {
    #[serde(flatten)]
    row: Row,
    /// What speaks for its vendor.
    reason: Option<String>,
    /// Why it is given nothing, or cannot be.
    trouble: Option<String>,
    files: Vec<File>,
    /// What its profile asks for that it cannot do.
    in_vain: Vec<String>,
    /// What came of the last time that it was told to fetch again.
    order: Option<LastOrder>,
    /// What it has to show before it is given its own files.
    trust: Vec<String>,
    /// It is open for provisioning.
    open: Option<Opened>,
    /// What it was seen doing, the oldest first.
    #[schema(value_type = Vec<Object>)]
    events: Value,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LastOrder {
    /// Milliseconds since 1970.
    at: u64,
    /// The Event that it was told.
    event: String,
    /// The status that it answered.
    answered: Option<u16>,
    /// Why it was not told, or did not answer.
    failed: Option<String>,
    /// Files that it has asked for since.
    fetched: usize,
    /// It has asked anew where its configuration is, as phones do that restart.
    restarted: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct File {
    name: String,
    kind: &'static str,
    /// Of what the phone would get now.
    digest: Option<String>,
    bytes: u64,
    error: Option<String>,
    /// How it was last fetched: at, door, outcome, bytes, digest.
    #[schema(value_type = Option<Object>)]
    taken: Option<Value>,
    /// Whether what it took is what it would get now.
    current: Option<bool>,
}

/// What is known of one phone, from both sides.
struct Known<'a> {
    mac: MacAddr,
    world: &'a World,
    record: Option<Record>,
}

impl Known<'_> {
    fn identity(&self) -> Identity {
        let observed = self.record.as_ref().map(|record| record.identity.clone()).unwrap_or_default();
        match self.world.fleet.device(self.mac) {
            Some(device) => device.identity(&observed),
            None => observed,
        }
    }

    fn state(&self) -> Shown {
        match (self.world.fleet.device(self.mac), &self.record) {
            (Some(device), _) if device.is_enabled() => Shown::Enrolled,
            (Some(_), _) => Shown::Disabled,
            (None, Some(record)) if record.ignored => Shown::Ignored,
            (None, _) => Shown::Pending,
        }
    }

    /// The profile that would be its own if it were enrolled.
    fn suggestion(&self) -> Option<Suggestion<'_>> {
        if self.world.fleet.device(self.mac).is_some() {
            return None;
        }
        let peer = progress::peer(self.mac, self.record.as_ref());
        self.world.suggestion(self.mac, &peer)
    }

    fn row(&self, progress: Option<Stage>) -> Row {
        let (identity, record) = (self.identity(), self.record.as_ref());
        let device = self.world.fleet.device(self.mac);
        let chosen = self.world.shelf.choose(&identity, device.and_then(|device| device.stated_vendor()));
        let suggestion = self.suggestion();
        Row {
            mac: self.mac.to_string(),
            state: self.state(),
            progress,
            label: device.and_then(|device| device.label()).map(str::to_owned),
            profile: device.and_then(|device| device.profile()).map(str::to_owned),
            suggested_profile: suggestion.as_ref().map(|suggestion| suggestion.profile.to_owned()),
            suggested_because: suggestion.as_ref().map(|suggestion| suggestion.why.clone()),
            suggested_place: suggestion.map(|suggestion| suggestion.place),
            vendor: chosen.ok().map(|choice| choice.plugin.spec.vendor.clone()).or(identity.vendor),
            model: identity.model,
            firmware: identity.firmware,
            address: record.and_then(|record| record.address).map(|address| address.to_string()),
            interface: record.and_then(|record| record.interface.clone()),
            first_seen: record.map(|record| milliseconds(record.first_seen)),
            last_seen: record.map(|record| milliseconds(record.last_seen)),
            place: device.map(|device| format!("{}:{}", device.file(), device.line())),
        }
    }

    fn stage(&self, admin: &Admin) -> Option<Stage> {
        (self.state() == Shown::Enrolled).then(|| admin.desk.progress(self.mac, self.record.as_ref()).into())
    }
}

/// What the list is sorted by.
struct Brief {
    mac: MacAddr,
    last_seen: u64,
    label: String,
}

/// Whether `text` has `wanted`, which is in small letters, in it. Without a copy where it is all ASCII, as it mostly is.
fn holds(text: &str, wanted: &str) -> bool {
    match text.is_ascii() && wanted.is_ascii() {
        true => text.as_bytes().windows(wanted.len().max(1)).any(|part| part.eq_ignore_ascii_case(wanted.as_bytes())),
        false => text.to_lowercase().contains(wanted),
    }
}

/// The phones that fit, as far as that can be said without making their files.
fn briefs(admin: &Admin, world: &World, filter: &Filter) -> Vec<Brief> {
    let wanted = filter.q.to_lowercase();
    // Digits of a MAC are looked for however they are separated.
    let digits: String = wanted.chars().filter(|character| !":-.".contains(*character)).collect();
    let may_be_mac = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let vendor = filter.vendor.as_deref().map(provost_plugin::spec::path_name);
    let mut briefs: Vec<Brief> = Vec::new();
    let mut consider = |mac: MacAddr, record: Option<&Record>| {
        let device = world.fleet.device(mac);
        let state = match (device, record) {
            (Some(device), _) if device.is_enabled() => Shown::Enrolled,
            (Some(_), _) => Shown::Disabled,
            (None, Some(record)) if record.ignored => Shown::Ignored,
            (None, _) => Shown::Pending,
        };
        if filter.state.is_some_and(|wanted| wanted != state) {
            return;
        }
        if filter.profile.is_some() && device.and_then(|device| device.profile()) != filter.profile.as_deref() {
            return;
        }
        let observed = record.map(|record| &record.identity);
        let said = |part: fn(&Identity) -> &Option<String>| observed.and_then(|identity| part(identity).as_deref());
        let stated = device.and_then(|device| device.stated_vendor());
        if let Some(vendor) = &vendor {
            let is = |name: &str| provost_plugin::spec::path_name(name) == *vendor;
            let known = stated.or(said(|identity| &identity.vendor));
            let by_oui = || {
                let identity = Identity { mac: Some(mac), ..observed.cloned().unwrap_or_default() };
                world.shelf.choose(&identity, stated).is_ok_and(|choice| is(&choice.plugin.id))
            };
            if !known.is_some_and(is) && !by_oui() {
                return;
            }
        }
        let label = device.and_then(|device| device.label()).unwrap_or_default();
        let found = || {
            if may_be_mac && mac.bare().contains(&digits) {
                return true;
            }
            let texts = [
                Some(label),
                stated,
                device.and_then(|device| device.profile()),
                device.and_then(|device| device.stated_model()),
                said(|identity| &identity.vendor),
                said(|identity| &identity.model),
                said(|identity| &identity.firmware),
            ];
            let address = || record.and_then(|record| record.address).map(|address| address.to_string());
            texts.into_iter().flatten().any(|text| holds(text, &wanted))
                || address().is_some_and(|address| address.contains(&wanted))
        };
        if wanted.is_empty() || found() {
            let last_seen = record.map_or(0, |record| milliseconds(record.last_seen));
            let label = if filter.sort == Sort::Label { label.to_owned() } else { String::new() };
            briefs.push(Brief { mac, last_seen, label });
        }
    };
    let mut seen = HashSet::new();
    admin.desk.registry.visit(|record| {
        seen.insert(record.mac);
        consider(record.mac, Some(record));
    });
    for (mac, _) in world.fleet.devices().filter(|(mac, _)| !seen.contains(mac)) {
        consider(mac, None);
    }
    match filter.sort {
        Sort::Mac => briefs.sort_unstable_by_key(|brief| brief.mac),
        Sort::LastSeen => briefs.sort_unstable_by_key(|brief| (std::cmp::Reverse(brief.last_seen), brief.mac)),
        Sort::Label => {
            briefs.sort_unstable_by(|a, b| {
                (a.label.is_empty(), &a.label, a.mac).cmp(&(b.label.is_empty(), &b.label, b.mac))
            });
        }
    }
    briefs
}

/// The enrolled phones that fit, for whoever does something with all of them; none is left out for want of time.
pub(crate) fn fitting(admin: &Admin, wanted: super::rollouts::Fitting) -> Vec<MacAddr> {
    let super::rollouts::Fitting { q, vendor, profile, progress } = wanted;
    let filter = Filter { q, vendor, profile, state: Some(Shown::Enrolled), ..Filter::default() };
    let world = admin.desk.world();
    let macs = briefs(admin, &world, &filter).into_iter().map(|brief| brief.mac);
    let far = |mac: &MacAddr| {
        progress.is_none_or(|wanted| {
            Stage::from(admin.desk.progress(*mac, admin.desk.registry.by_mac(*mac).as_ref())) == wanted
        })
    };
    macs.filter(far).collect()
}

/// The phones of the inventory, and those that were seen
#[utoipa::path(get, path = "/api/v1/devices", tag = "devices", params(Filter), responses(
    (status = 200, body = Rows),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(State(admin): State<Admin>, Query(filter): Query<Filter>) -> Result<Json<Rows>, Problem> {
    if filter.limit == 0 || filter.limit > MOST {
        return Err(Problem::field("limit", format!("it is from 1 to {MOST}")));
    }
    aside(move || {
        let world = admin.desk.world();
        let briefs = briefs(&admin, &world, &filter);
        let known =
            |brief: &Brief| Known { mac: brief.mac, world: &world, record: admin.desk.registry.by_mac(brief.mac) };
        // How far a phone has come takes rendering its files: only where it is asked for, or shown.
        if let Some(wanted) = filter.progress {
            let until = Instant::now() + LOOK;
            let (mut items, mut total, mut partial) = (Vec::new(), 0, false);
            for brief in &briefs {
                if Instant::now() > until {
                    partial = true;
                    break;
                }
                let known = known(brief);
                if known.stage(&admin) != Some(wanted) {
                    continue;
                }
                if total >= filter.offset && items.len() < filter.limit {
                    items.push(known.row(Some(wanted)));
                }
                total += 1;
            }
            return Json(Rows { items, total, partial });
        }
        let row = |brief: &Brief| {
            let known = known(brief);
            known.row(known.stage(&admin))
        };
        let items = briefs.iter().skip(filter.offset).take(filter.limit).map(row).collect();
        Json(Rows { items, total: briefs.len(), partial: false })
    })
    .await
}

/// One phone
#[utoipa::path(get, path = "/api/v1/devices/{mac}", tag = "devices", params(("mac" = String, Path)), responses(
    (status = 200, body = Details),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn one(State(admin): State<Admin>, Mac(mac): Mac) -> Result<Json<Details>, Problem> {
    aside(move || {
        let world = admin.desk.world();
        let known = Known { mac, world: &world, record: admin.desk.registry.by_mac(mac) };
        if known.record.is_none() && world.fleet.device(mac).is_none() {
            return Err(unknown(mac));
        }
        let events = known
            .record
            .as_ref()
            .map_or(Value::Array(Vec::new()), |record| serde_json::to_value(&record.events).unwrap_or_default());
        let order = known.record.as_ref().and_then(progress::last_order).map(|order| LastOrder {
            at: milliseconds(order.at),
            event: order.event,
            answered: order.answered,
            failed: order.failed,
            fetched: order.fetched,
            restarted: order.restarted,
        });
        let row = |stage| known.row(stage);
        let open = known.record.as_ref().and_then(|record| record.open.as_ref()).and_then(Opened::of);
        if known.state() != Shown::Enrolled {
            let peer = progress::peer(mac, known.record.as_ref());
            let trouble = world.plan(&peer).err();
            let reason = world.shelf.choose(&peer.identity, None).ok().map(|choice| explain::why(&choice));
            let (files, in_vain) = (Vec::new(), Vec::new());
            let (row, trust) = (row(None), Vec::new());
            return Ok(Json(Details { row, reason, trouble, files, in_vain, order, trust, open, events }));
        }
        let (files, reason, in_vain, trust, trouble) = match progress::files(&world, mac, known.record.as_ref()) {
            Ok((offer, files)) => {
                let in_vain = world::in_vain(&offer.choice.plugin, &offer.resolved);
                let in_vain = in_vain.iter().map(|wish| format!("{}: {}", wish.field, wish.reason)).collect();
                let trust = provost_server::trust::in_words(&offer.resolved.trust);
                (files, Some(explain::why(&offer.choice)), in_vain, trust, None)
            }
            Err(why) => (Vec::new(), None, Vec::new(), Vec::new(), Some(why)),
        };
        let stage = progress::progress(known.record.as_ref(), &files, SystemTime::now()).into();
        let trouble = trouble.or_else(|| world.troubles.get(&mac).map(|trouble| trouble.why.clone()));
        let files = files.into_iter().map(File::from).collect::<Vec<File>>();
        let row = row(Some(stage));
        Ok(Json(Details { row, reason, trouble, files, in_vain, order, trust, open, events }))
    })
    .await?
}

impl From<FileState> for File {
    fn from(state: FileState) -> File {
        File {
            current: state.is_current(),
            taken: state.taken.as_ref().and_then(|taken| serde_json::to_value(taken).ok()),
            kind: state.kind.as_str(),
            name: state.name,
            digest: state.digest,
            bytes: state.bytes,
            error: state.error,
        }
    }
}

fn unknown(mac: MacAddr) -> Problem {
    Problem::not_found(format!("{mac} was never seen, and no profile file has it"))
}

/// The file in which a device stands.
pub(crate) fn file_of(world: &World, mac: MacAddr) -> Result<(PathBuf, u32), Problem> {
    let device = world.fleet.device(mac).ok_or_else(|| {
        Problem::not_found(format!("{mac} is not in the inventory; approve it, or write it into profiles/"))
    })?;
    Ok((PathBuf::from(device.file()), device.line()))
}

pub(crate) fn reading(path: &std::path::Path) -> impl Fn(std::io::Error) -> Problem {
    let path = path.display().to_string();
    move |error| Problem::internal(format!("cannot read {path}: {error}"))
}

/// The version that the caller's change is of.
pub(crate) fn precondition(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    if text(header::IF_NONE_MATCH) == Some("*") {
        return Ok(None);
    }
    let version = text(header::IF_MATCH).map(|version| version.trim_matches('"').to_owned());
    let why = "say which version the change is of: If-Match with the ETag of GET, or If-None-Match: * for a new file";
    version.map(Some).ok_or_else(|| Problem::new(StatusCode::PRECONDITION_REQUIRED, why))
}

/// The profile file in which a device stands, as it is written; passwords included
#[utoipa::path(get, path = "/api/v1/devices/{mac}/source", tag = "devices", params(("mac" = String, Path)), responses(
    (status = 200, body = Value, content_type = "application/yaml", headers(("ETag" = String, description = "The version of the file"))),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn source(State(admin): State<Admin>, Mac(mac): Mac) -> Result<Yaml, Problem> {
    aside(move || {
        let (path, _) = file_of(&admin.desk.world(), mac)?;
        let read = edit::read(&path).map_err(reading(&path))?;
        let (text, version) = read.ok_or_else(|| Problem::not_found(format!("{} is gone", path.display())))?;
        Ok(Yaml(text, version))
    })
    .await?
}

/// Write the profile file in which a device stands, or a new one of its own
///
/// The change is tried first; what would break any device is refused with the list, and nothing is written.
#[utoipa::path(put, path = "/api/v1/devices/{mac}/source", tag = "devices",
    params(("mac" = String, Path), ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    request_body(content = Value, content_type = "application/yaml"),
    responses(
    (status = 204, description = "Written, and in service", headers(("ETag" = String, description = "The version of the file"))),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 412, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = String, content_type = "text/plain"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 428, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn put_source(
    State(admin): State<Admin>,
    Mac(mac): Mac,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<(StatusCode, [(header::HeaderName, String); 1]), Problem> {
    let content =
        String::from_utf8(body.to_vec()).map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the file is not UTF-8"))?;
    let of = precondition(&headers)?;
    let world = admin.desk.world();
    let path = file_of(&world, mac).map(|(path, _)| path).unwrap_or_else(|_| own_file(&world, mac));
    let version = edit::version(content.as_bytes());
    admin.desk.edit(vec![Edit { path, of, content: Some(content) }]).await?;
    if admin.desk.world().fleet.device(mac).is_none() {
        tracing::warn!(device = %mac, "the profile file written for it does not hold it");
    }
    Ok((StatusCode::NO_CONTENT, [(header::ETAG, format!("\"{version}\""))]))
}

/// Delete the profile file in which a device stands
///
/// Only a file of this device alone; one that holds others too is changed with PUT.
#[utoipa::path(delete, path = "/api/v1/devices/{mac}/source", tag = "devices",
    params(("mac" = String, Path), ("If-Match" = Option<String>, Header)),
    responses(
    (status = 204, description = "Deleted, and out of service"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 412, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 428, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete_source(
    State(admin): State<Admin>,
    Mac(mac): Mac,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let world = admin.desk.world();
    let (path, _) = file_of(&world, mac)?;
    let of = precondition(&headers)?;
    if path != own_file(&world, mac) {
        let why =
            format!("{mac} stands in {}, which may hold more than this device; change it with PUT", path.display());
        return Err(Problem::conflict(why));
    }
    admin.desk.edit(vec![Edit { path, of, content: None }]).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Approved {
    mac: String,
    /// The file that was written.
    file: String,
    /// The profile that it has now, named or fitting.
    profile: Option<String>,
    /// What came of the file for this phone: the files that it may fetch now.
    files: Vec<String>,
    /// Whether it was told right then where to fetch.
    notified: bool,
    /// What came of that, for people.
    outcome: String,
}

/// Tells a phone that waits where to fetch, whether somebody waits for the outcome or not.
pub(crate) fn notify(admin: &Admin, mac: MacAddr) -> tokio::task::JoinHandle<Result<Notified, NotNotified>> {
    let desk = Arc::clone(&admin.desk);
    tokio::spawn(async move { desk.notify_again(mac).await })
}

/// Enrol a phone: one that waits, or one that is yet to come
///
/// Writes `profiles/devices/<mac>.yaml`. The answer comes when the phone would be served.
#[utoipa::path(post, path = "/api/v1/devices/{mac}/approve", tag = "devices", params(("mac" = String, Path)),
    request_body = Assignment, responses(
    (status = 201, body = Approved),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn approve(
    State(admin): State<Admin>,
    Mac(mac): Mac,
    Body(assignment): Body<Assignment>,
) -> Result<(StatusCode, Json<Approved>), Problem> {
    let world = admin.desk.world();
    if let Some(device) = world.fleet.device(mac) {
        return Err(Problem::conflict(format!("{mac} is enrolled already ({}:{})", device.file(), device.line())));
    }
    if let Some(profile) = assignment.profile.as_deref()
        && !world.fleet.profiles().any(|known| known == profile)
    {
        return Err(Problem::field("profile", format!("there is no profile \"{profile}\"")));
    }
    let path = own_file(&world, mac);
    let file = path.display().to_string();
    let content = Some(assignment.yaml(mac));
    admin.desk.edit(vec![Edit { path, of: None, content }]).await?;
    admin.desk.registry.ignore(mac, false);
    // It may be waiting for an answer at this very moment. One that is off is not waited for.
    let told = notify(&admin, mac);
    let (notified, outcome) = match tokio::time::timeout(SOON, told).await {
        Ok(Ok(Ok(notified))) => (true, notified.to_string()),
        Ok(Ok(Err(why))) => (false, why.to_string()),
        Ok(Err(_)) | Err(_) => (false, "it is being told; its history will say what comes of it".to_owned()),
    };
    let (profile, files) = aside(move || {
        let world = admin.desk.world();
        let peer = progress::peer(mac, admin.desk.registry.by_mac(mac).as_ref());
        let offer = world.files_of(mac, &peer).ok();
        let profile = offer.as_ref().and_then(|offer| offer.resolved.profile.clone());
        (profile, offer.into_iter().flat_map(|offer| offer.files).map(|(name, _)| name).collect())
    })
    .await?;
    Ok((StatusCode::CREATED, Json(Approved { mac: mac.to_string(), file, profile, files, notified, outcome })))
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ResyncOrder)]
pub(crate) struct Order {
    /// Restart it, and not only fetch again.
    #[serde(default)]
    pub(crate) reboot: bool,
}

/// A phone has said that it will.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Obeyed {
    /// The Event that it was told.
    event: String,
    status: u16,
    /// The line whose credentials it wanted, where it wanted any.
    line: Option<u16>,
    /// What came of it, for people.
    outcome: String,
    /// What it was seen doing since then is its obedience: milliseconds since 1970.
    ordered: u64,
}

/// Make a phone fetch again, or restart
///
/// By its vendor's own event, at the address where it was last heard; a phone that challenges gets a Digest answer with the credentials of
/// one of its lines. Returns when it has said whether it will, after 32 s at the latest.
#[utoipa::path(post, path = "/api/v1/devices/{mac}/resync", tag = "devices", params(("mac" = String, Path)), request_body = Order, responses(
    (status = 200, body = Obeyed),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 502, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn resync(
    State(admin): State<Admin>,
    Mac(mac): Mac,
    Body(order): Body<Order>,
) -> Result<Json<Obeyed>, Problem> {
    let how = if order.reboot { Resync::Reboot } else { Resync::Fetch };
    let desk = Arc::clone(&admin.desk);
    // Whoever asked may go away; the phone is told all the same.
    let told = tokio::spawn(async move { desk.resync(mac, how).await });
    match told.await.map_err(|_| Problem::internal("it was cut short; the server's log says why"))? {
        Ok(obeyed) => Ok(Json(Obeyed {
            outcome: obeyed.to_string(),
            event: obeyed.event,
            status: obeyed.status,
            line: obeyed.line,
            ordered: milliseconds(obeyed.ordered),
        })),
        Err(why) => Err(match &why {
            NotResynced::Unknown(_) => Problem::not_found(why.to_string()),
            NotResynced::UnderWay => Problem::conflict(why.to_string()),
            NotResynced::Unseen | NotResynced::NotV4(_) | NotResynced::Unsettled(_) => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why.to_string())
            }
            _ => Problem::new(StatusCode::BAD_GATEWAY, why.to_string()),
        }),
    }
}

/// Hear no more of a phone that waits
#[utoipa::path(put, path = "/api/v1/devices/{mac}/ignore", tag = "devices", params(("mac" = String, Path)), responses(
    (status = 204, description = "It is ignored, also after a restart"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn ignore(State(admin): State<Admin>, Mac(mac): Mac) -> Result<StatusCode, Problem> {
    set_ignored(admin, mac, true).await
}

/// Show a phone among those that wait again
#[utoipa::path(delete, path = "/api/v1/devices/{mac}/ignore", tag = "devices", params(("mac" = String, Path)), responses(
    (status = 204, description = "It waits again"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn unignore(State(admin): State<Admin>, Mac(mac): Mac) -> Result<StatusCode, Problem> {
    set_ignored(admin, mac, false).await
}

async fn set_ignored(admin: Admin, mac: MacAddr, ignored: bool) -> Result<StatusCode, Problem> {
    if let Some(device) = admin.desk.world().fleet.device(mac) {
        let why =
            format!("{mac} is enrolled ({}:{}); `enabled: false` there switches it off", device.file(), device.line());
        return Err(Problem::conflict(why));
    }
    if !admin.desk.registry.ignore(mac, ignored) {
        return Err(unknown(mac));
    }
    kept(admin).await.map(|()| StatusCode::NO_CONTENT)
}

/// Returns when what was said of phones is on disk.
async fn kept(admin: Admin) -> Result<(), Problem> {
    aside(move || match &admin.store {
        Some(store) => store.flush().map_err(|error| Problem::internal(error.to_string())),
        None => {
            Err(Problem::internal("it holds until the restart only: the registry cannot be kept, the log says why"))
        }
    })
    .await?
}

/// Forget what a phone was seen doing; its settings stay
#[utoipa::path(delete, path = "/api/v1/devices/{mac}", tag = "devices", params(("mac" = String, Path)), responses(
    (status = 204, description = "It is forgotten, until it is seen again"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn forget(State(admin): State<Admin>, Mac(mac): Mac) -> Result<StatusCode, Problem> {
    if !admin.desk.registry.forget(mac) {
        return Err(Problem::not_found(format!("{mac} was never seen")));
    }
    kept(admin).await.map(|()| StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Swap {
    /// MAC of the phone that takes its place.
    #[schema(value_type = String)]
    pub(crate) to: MacAddr,
}

/// Put another phone into the place of this one, with everything that this one is
///
/// Changes the MAC where the device stands; comments and order of the file stay.
#[utoipa::path(post, path = "/api/v1/devices/{mac}/swap", tag = "devices", params(("mac" = String, Path)), request_body = Swap, responses(
    (status = 204, description = "The other phone is served in its place"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 412, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn swap(
    State(admin): State<Admin>,
    Mac(mac): Mac,
    Body(swap): Body<Swap>,
) -> Result<StatusCode, Problem> {
    let world = admin.desk.world();
    if let Some(device) = world.fleet.device(swap.to) {
        let why = format!("{} is enrolled itself ({}:{})", swap.to, device.file(), device.line());
        return Err(Problem::conflict(why));
    }
    let desk = Arc::clone(&admin.desk);
    let edits = aside(move || {
        let world = desk.world();
        let (path, line) = file_of(&world, mac)?;
        let read = edit::read(&path).map_err(reading(&path))?;
        let (text, version) = read.ok_or_else(|| Problem::not_found(format!("{} is gone", path.display())))?;
        let content = Some(renamed(&text, line, mac, swap.to)?);
        let (own, others) = (own_file(&world, mac), own_file(&world, swap.to));
        Ok::<_, Problem>(if path == own {
            // A file that is named by its phone moves with it.
            vec![Edit { path: others, of: None, content }, Edit { path, of: Some(version), content: None }]
        } else {
            vec![Edit { path, of: Some(version), content }]
        })
    })
    .await??;
    admin.desk.edit(edits).await?;
    Ok(StatusCode::NO_CONTENT)
}
