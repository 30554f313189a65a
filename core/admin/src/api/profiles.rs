//! The profiles in service, and who uses them.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use provost_fleet::{Asker, Place};
use provost_server::{edit::EditedFile, progress, world::World};
use serde::Serialize;
use utoipa::ToSchema;

use super::aside;
use crate::{Admin, problem::Problem};

/// Devices for which is looked up which profile chooses them. With more, that is left out: it takes each phone's vendor and model.
const LOOKED_UP: usize = 20_000;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Profiles {
    /// Names that a device may give as its profile.
    pub(crate) profiles: Vec<String>,
    pub(crate) sites: Vec<String>,
    /// The profiles, by name.
    pub(crate) items: Vec<Profile>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Profile {
    pub(crate) name: String,
    /// The profile that it stands on.
    pub(crate) extends: Option<String>,
    site: Option<String>,
    /// What it asks of the phones that it chooses by itself.
    selector: Option<String>,
    /// What it sets itself.
    sets: Vec<String>,
    /// Devices that ask for it by name.
    devices: usize,
    /// Devices that ask for none, and that it chooses; left out where there are too many to look at.
    chosen: Option<usize>,
    /// Where it is written.
    pub(crate) place: String,
    /// The same, as it is named under /api/v1/files.
    pub(crate) file: Option<String>,
    pub(crate) line: u32,
}

/// The profiles and sites in service
#[utoipa::path(get, path = "/api/v1/profiles", tag = "server", responses(
    (status = 200, body = Profiles),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(State(admin): State<Admin>) -> Result<Json<Profiles>, Problem> {
    aside(move || {
        let world = admin.desk.world();
        let (asked, chosen) = users(&admin, &world);
        let item = |view: provost_fleet::ProfileView<'_>| Profile {
            extends: view.extends.map(str::to_owned),
            site: view.site.map(str::to_owned),
            sets: view.sets,
            devices: asked.get(view.name).copied().unwrap_or_default(),
            chosen: chosen.as_ref().map(|chosen| chosen.get(view.name).copied().unwrap_or_default()),
            place: format!("{}:{}", view.file, view.line),
            file: EditedFile::at(&world.settings, view.file.as_ref()).map(|file| file.name().to_owned()),
            line: view.line,
            selector: view.selector,
            name: view.name.to_owned(),
        };
        let items = world.fleet.profile_views().map(item).collect();
        let named = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect();
        Json(Profiles { profiles: named(&mut world.fleet.profiles()), sites: named(&mut world.fleet.sites()), items })
    })
    .await
}

type Counts = BTreeMap<String, usize>;

/// How many devices ask for each profile, and how many it chooses.
fn users(admin: &Admin, world: &World) -> (Counts, Option<Counts>) {
    let (mut asked, mut chosen, mut others) = (Counts::new(), Counts::new(), 0);
    let is_chosen = world.fleet.has_choosing_profiles();
    for (mac, device) in world.fleet.devices() {
        if let Some(name) = device.profile() {
            *asked.entry(name.to_owned()).or_default() += 1;
            continue;
        }
        others += 1;
        if !is_chosen || others > LOOKED_UP {
            continue;
        }
        let peer = progress::peer(mac, admin.desk.registry.by_mac(mac).as_ref());
        let identity = device.identity(&peer.identity);
        let Ok(choice) = world.shelf.choose(&identity, device.stated_vendor()) else { continue };
        let place = Place { address: peer.address, ..Place::default() };
        if let Some(name) = world.fleet.profile_of(&Asker { mac, identity: peer.identity, place }, &choice.plugin.spec)
        {
            *chosen.entry(name.to_owned()).or_default() += 1;
        }
    }
    (asked, (!is_chosen || others <= LOOKED_UP).then_some(chosen))
}
