//! The desk: every door ends here, and nothing here asks which door it was.
//!
//! Holds the world in service and the registry of what phones were seen doing; decides by asking the world, and writes one log event
//! for each decision.

use std::{
    net::{IpAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use arc_swap::ArcSwap;
use provost_fleet::{Event, Happening, Registry, Sighting, State};
use provost_plugin::{MacAddr, model::Identity};

use crate::{
    pnp::exchange::{Announcement, Announcer, Heard, Outcome},
    request::{ConfigFile, ConfigRequest, Desk, Door, Fetched},
    world::{self, Located, NotLocated, Peer, Plan, World},
};

#[derive(Debug)]
pub struct Dispatch {
    world: ArcSwap<World>,
    /// How often the world was replaced.
    replaced: AtomicU64,
    pub registry: Registry,
}

impl Dispatch {
    pub fn new(world: World) -> Arc<Dispatch> {
        Arc::new(Dispatch {
            world: ArcSwap::from_pointee(world),
            replaced: AtomicU64::new(0),
            registry: Registry::default(),
        })
    }

    /// The world as it stands; whoever holds it keeps it whole.
    pub fn world(&self) -> Arc<World> {
        self.world.load_full()
    }

    /// Puts another world into service. Requests under way finish in the old one.
    pub fn replace(&self, world: World) {
        self.world.store(Arc::new(world));
        self.replaced.fetch_add(1, Ordering::Release);
    }

    async fn fetch(&self, request: &ConfigRequest) -> (Fetched, Option<MacAddr>, Option<String>) {
        let world = self.world();
        let peer = self.recognise(&world, request);
        let located = match world.locate(&request.path, &peer) {
            Ok(located) => located,
            Err(NotLocated::Unknown(reason)) => {
                return (asset_or(&world, &request.path, reason), peer.identity.mac, None);
            }
            Err(NotLocated::Pending(mac, reason)) => {
                self.observe(
                    &world,
                    Identity { mac: Some(mac), ..peer.identity },
                    request.door,
                    request.peer.ip(),
                    None,
                );
                // The same words as for a name that does not exist: whether a MAC is in the inventory is nobody's business.
                tracing::debug!(device = %mac, reason, "pending");
                return (Fetched::Unknown { reason: "there is no such file".into() }, Some(mac), None);
            }
            Err(NotLocated::Failed(mac, reason)) => {
                tracing::error!(
                    device = mac.map(tracing::field::display),
                    file = request.path,
                    reason,
                    "the phone's settings cannot be put together"
                );
                let public = "the settings of this phone cannot be put together; the server's log says why".into();
                return (Fetched::Failed { public }, mac, None);
            }
        };
        let mac = located.resolved.phone.mac;
        let vendor = Some(located.plugin.id.clone());
        if let Some(mac) = mac {
            let identity = Identity {
                mac: Some(mac),
                model: located.resolved.phone.model.clone(),
                firmware: located.resolved.phone.firmware.clone(),
                ..peer.identity
            };
            self.observe(&world, identity, request.door, request.peer.ip(), None);
        }
        let modified = world.fleet.modified().max(located.plugin.modified);
        match render(located, modified).await {
            Ok(file) => (Fetched::Found(file), mac, vendor),
            Err(error) => {
                tracing::error!(file = request.path, door = request.door.as_str(), peer = %request.peer.ip(), "{error}");
                (
                    Fetched::Failed { public: "this file cannot be rendered; the server's log says why".into() },
                    mac,
                    vendor,
                )
            }
        }
    }

    /// Who asks: by its User-Agent, and by what the registry remembers of its MAC or its address.
    fn recognise(&self, world: &World, request: &ConfigRequest) -> Peer {
        let agent = request
            .user_agent
            .as_deref()
            .and_then(|agent| world.shelf.plugins().find_map(|plugin| plugin.spec.identify(agent)))
            .unwrap_or(Identity { user_agent: request.user_agent.clone(), ..Identity::default() });
        let named = world.shelf.routes(&request.path).into_iter().find_map(|route| route.captured.mac);
        let mac = named.or(agent.mac).or_else(|| self.registry.by_address(request.peer.ip()));
        let seen = mac.and_then(|mac| self.registry.by_mac(mac)).map(|record| record.identity).unwrap_or_default();
        // What this very request says of the sender counts more than what was seen before, unless it speaks for another phone.
        let own = agent.mac.is_none() || agent.mac == mac;
        Peer {
            identity: Identity {
                mac,
                vendor: seen.vendor,
                model: agent.model.filter(|_| own).or(seen.model),
                firmware: agent.firmware.filter(|_| own).or(seen.firmware),
                user_agent: agent.user_agent.or(seen.user_agent),
            },
            address: Some(request.peer.ip()),
            interface: None,
            local: request.local.ip(),
        }
    }

    fn observe(&self, world: &World, identity: Identity, door: Door, address: IpAddr, interface: Option<String>) {
        let known = identity.mac.is_some_and(|mac| world.fleet.device(mac).is_some());
        let sighting = Sighting {
            identity,
            door: door.as_str(),
            announced: door == Door::Pnp,
            address: Some(address),
            interface,
            at: SystemTime::now(),
        };
        self.registry.observe(sighting, if known { State::Known } else { State::Pending });
    }

    fn record(&self, mac: Option<MacAddr>, what: Happening) {
        if let Some(mac) = mac {
            self.registry.record(mac, Event { at: SystemTime::now(), what });
        }
    }
}

/// Libraries may take their time, so they are not waited for where other requests are served.
async fn render(located: Located, modified: SystemTime) -> Result<ConfigFile, String> {
    if located.plugin.is_library() {
        tokio::task::spawn_blocking(move || world::render(&located, modified))
            .await
            .unwrap_or_else(|error| Err(format!("rendering was cut short: {error}")))
    } else {
        world::render(&located, modified)
    }
}

fn asset_or(world: &World, path: &str, reason: String) -> Fetched {
    match world.asset(path) {
        Ok(Some(asset)) => Fetched::Asset(asset),
        Ok(None) => Fetched::Unknown { reason },
        Err(error) => {
            tracing::error!(file = path, %error, "cannot read the asset");
            Fetched::Failed { public: "this file cannot be read; the server's log says why".into() }
        }
    }
}

impl Desk for Dispatch {
    async fn fetch(&self, request: ConfigRequest) -> Fetched {
        let began = Instant::now();
        let (fetched, mac, vendor) = Dispatch::fetch(self, &request).await;
        let (outcome, bytes, reason) = match &fetched {
            Fetched::Found(file) => ("rendered", file.body.len() as u64, ""),
            Fetched::Asset(asset) => ("asset", asset.len, ""),
            Fetched::Unknown { reason } => ("unknown", 0, reason.as_str()),
            Fetched::Refused { reason } => ("refused", 0, reason.as_str()),
            Fetched::Failed { public } => ("failed", 0, public.as_str()),
        };
        tracing::info!(
            device = mac.map(tracing::field::display),
            vendor,
            file = request.path,
            door = request.door.as_str(),
            peer = %request.peer.ip(),
            outcome,
            bytes,
            micros = began.elapsed().as_micros() as u64,
            reason,
            "fetch"
        );
        self.record(
            mac,
            Happening::Fetched { door: request.door.as_str(), file: request.path.clone(), outcome, bytes },
        );
        fetched
    }
}

impl Announcer for Dispatch {
    async fn announce(&self, heard: Heard) -> Announcement {
        let world = self.world();
        let peer = Peer {
            identity: heard.identity.clone(),
            address: Some(IpAddr::V4(*heard.from.ip())),
            interface: Some(heard.interface.clone()),
            local: IpAddr::V4(heard.local),
        };
        self.observe(
            &world,
            heard.identity.clone(),
            Door::Pnp,
            IpAddr::V4(*heard.from.ip()),
            Some(heard.interface.clone()),
        );
        let planned = match world.plan(&peer) {
            Ok(Plan::Forward { url }) => Ok((url, None)),
            Ok(Plan::Own { choice, announced }) => {
                let vendor = choice.plugin.id.clone();
                let url = if choice.plugin.is_library() {
                    tokio::task::spawn_blocking(move || choice.plugin.announce(&announced))
                        .await
                        .map_err(|error| error.to_string())
                        .and_then(|url| url.map_err(|error| error.to_string()))
                } else {
                    choice.plugin.announce(&announced).map_err(|error| error.to_string())
                };
                url.map(|url| (url, Some(vendor))).map_err(|error| format!("no URL can be made for it: {error}"))
            }
            Err(reason) => Err(reason),
        };
        let device = heard.identity.mac;
        let (announcement, vendor) = match planned {
            Ok((url, vendor)) => (Announcement::Url(url), vendor),
            Err(reason) => (Announcement::Silence { reason }, None),
        };
        let (outcome, url, reason) = match &announcement {
            Announcement::Url(url) => ("announced", url.as_str(), ""),
            Announcement::Silence { reason } => ("silence", "", reason.as_str()),
        };
        tracing::info!(
            device = device.map(tracing::field::display),
            vendor,
            said_vendor = heard.identity.vendor,
            said_model = heard.identity.model,
            firmware = heard.identity.firmware,
            door = "pnp",
            peer = %heard.from,
            interface = heard.interface,
            outcome,
            url,
            reason,
            "subscribe"
        );
        self.record(
            device,
            match &announcement {
                Announcement::Url(_) => Happening::Announced { plugin: vendor.unwrap_or_else(|| "forward".into()) },
                Announcement::Silence { reason } => Happening::Refused { reason: reason.clone() },
            },
        );
        announcement
    }

    fn epoch(&self) -> u64 {
        self.replaced.load(Ordering::Acquire)
    }

    fn outcome(&self, mac: Option<MacAddr>, to: SocketAddrV4, url: &str, outcome: Outcome) {
        let (status, reason) = match &outcome {
            Outcome::Answered { status, reason } => (Some(*status), reason.clone()),
            Outcome::TimedOut => (None, "no answer to the NOTIFY within 32 s".to_owned()),
            Outcome::Unsent { reason } => (None, reason.clone()),
        };
        let device = mac.map(tracing::field::display);
        if status.is_some_and(|status| (200..300).contains(&status)) {
            tracing::info!(device, peer = %to, url, status, "notified");
        } else {
            tracing::warn!(device, peer = %to, url, status, reason, "not notified");
        }
        self.record(
            mac,
            match status {
                Some(code) => Happening::NotifyAnswered { code },
                None => Happening::NotifyTimedOut { reason },
            },
        );
    }
}
