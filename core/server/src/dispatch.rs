//! The desk: every door ends here, and nothing here asks which door it was.
//!
//! Holds the world in service and the registry of what phones were seen doing; decides by asking the world, and writes one log event
//! for each decision.

use std::{
    net::{IpAddr, SocketAddrV4},
    sync::Arc,
    time::{Instant, SystemTime},
};

use arc_swap::ArcSwap;
use provost_fleet::{Event, Happening, Registry, Sighting, State};
use provost_plugin::{MacAddr, model::Identity};
use tokio::sync::{Mutex, watch};

use crate::{
    pnp::exchange::{Announcement, Announcer, Heard, Outcome},
    request::{ConfigFile, ConfigRequest, Desk, Door, Fetched},
    world::{self, Located, NotLocated, Peer, Plan, World},
};

#[derive(Debug)]
pub struct Dispatch {
    world: ArcSwap<World>,
    /// How often the world was replaced.
    replaced: watch::Sender<u64>,
    pub registry: Arc<Registry>,
    /// One edit at a time.
    pub(crate) editing: Mutex<()>,
}

impl Dispatch {
    pub fn new(world: World) -> Arc<Dispatch> {
        Arc::new(Dispatch {
            world: ArcSwap::from_pointee(world),
            replaced: watch::Sender::new(0),
            registry: Arc::default(),
            editing: Mutex::default(),
        })
    }

    /// The world as it stands; whoever holds it keeps it whole.
    pub fn world(&self) -> Arc<World> {
        self.world.load_full()
    }

    /// Puts another world into service. Requests under way finish in the old one.
    pub fn replace(&self, world: World) {
        self.world.store(Arc::new(world));
        // A device that was written into a profile is pending no more, and the other way round.
        self.judge();
        self.replaced.send_modify(|times| *times += 1);
    }

    /// Rings whenever the world was replaced.
    pub fn replacements(&self) -> watch::Receiver<u64> {
        self.replaced.subscribe()
    }

    /// Decides anew which of the phones that were seen are known.
    pub(crate) fn judge(&self) {
        let world = self.world();
        self.registry.judge(|mac| world.fleet.device(mac).is_some());
    }

    async fn decide(&self, request: &ConfigRequest) -> Decided {
        let world = self.world();
        let peer = self.recognise(&world, request);
        let nobodys = |fetched, device, reason| Decided { fetched, device, vendor: None, reason };
        let located = match world.locate(&request.path, &peer) {
            Ok(located) => located,
            Err(NotLocated::Unknown(reason)) => {
                return nobodys(asset_or(&world, &request.path, reason.clone()), peer.identity.mac, Some(reason));
            }
            Err(NotLocated::Pending(mac, reason)) => {
                let identity = Identity { mac: Some(mac), ..peer.identity };
                self.observe(&world, identity, request.door, request.peer.ip(), None, request.local.ip());
                // The asker hears the same as for a name that does not exist: whether a MAC is in the inventory is nobody's business.
                let fetched = Fetched::Unknown { reason: "there is no such file".into() };
                return nobodys(fetched, Some(mac), Some(reason));
            }
            Err(NotLocated::Failed(mac, reason)) => {
                let public = "the settings of this phone cannot be put together; the server's log says why".into();
                return nobodys(Fetched::Failed { public }, mac, Some(reason));
            }
        };
        let device = located.resolved.phone.mac;
        let vendor = Some(located.plugin.id.clone());
        if let Some(mac) = device {
            let phone = &located.resolved.phone;
            let identity = Identity {
                mac: Some(mac),
                model: phone.model.clone(),
                firmware: phone.firmware.clone(),
                hardware: phone.hardware.clone(),
                ..peer.identity
            };
            self.observe(&world, identity, request.door, request.peer.ip(), None, request.local.ip());
        }
        let mut modified = world.modified(&located.plugin);
        // What a policy comes to changes with what the phone runs.
        if located.resolved.firmware.is_some()
            && let Some(record) = device.and_then(|mac| self.registry.by_mac(mac))
        {
            modified = modified.max(record.software_since);
        }
        let (fetched, reason) = match render(located, modified).await {
            Ok(file) => (Fetched::Found(file), None),
            Err(error) => (
                Fetched::Failed { public: "this file cannot be rendered; the server's log says why".into() },
                Some(error),
            ),
        };
        Decided { fetched, device, vendor, reason }
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
                hardware: agent.hardware.filter(|_| own).or(seen.hardware),
                user_agent: agent.user_agent.or(seen.user_agent),
            },
            address: Some(request.peer.ip()),
            interface: None,
            local: request.local.ip(),
        }
    }

    fn observe(
        &self,
        world: &World,
        identity: Identity,
        door: Door,
        address: IpAddr,
        interface: Option<String>,
        local: IpAddr,
    ) {
        let known = identity.mac.is_some_and(|mac| world.fleet.device(mac).is_some());
        let sighting = Sighting {
            identity,
            door: door.as_str(),
            announced: door == Door::Pnp,
            address: Some(address),
            interface,
            local: Some(local),
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

/// An answer, and what the log wants to know about it.
struct Decided {
    fetched: Fetched,
    device: Option<MacAddr>,
    vendor: Option<String>,
    /// The true reason, which the asker need not be told.
    reason: Option<String>,
}

/// Libraries may take their time, so they are not waited for where other requests are served.
async fn render(located: Located, modified: SystemTime) -> Result<ConfigFile, String> {
    // Nor where a list of thousands is written out.
    if located.plugin.is_library() || located.resolved.phone.book.is_some() {
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
        let Decided { fetched, device, vendor, reason } = self.decide(&request).await;
        let (outcome, bytes, digest) = match &fetched {
            Fetched::Found(file) => ("rendered", file.body.len() as u64, file.etag.clone()),
            Fetched::Asset(asset) => ("asset", asset.len, String::new()),
            Fetched::Unknown { .. } => ("unknown", 0, String::new()),
            Fetched::Refused { .. } => ("refused", 0, String::new()),
            Fetched::Failed { .. } => ("failed", 0, String::new()),
        };
        // What was served as an asset needs no reason why no plugin had it.
        let reason = reason.filter(|_| bytes == 0 && outcome != "asset");
        let shown = device.map(tracing::field::display);
        let (file, door, peer) = (request.path.as_str(), request.door.as_str(), request.peer.ip());
        let micros = began.elapsed().as_micros() as u64;
        if outcome == "failed" {
            tracing::error!(device = shown, vendor, file, door, %peer, outcome, bytes, micros, reason, "fetch");
        } else {
            tracing::info!(device = shown, vendor, file, door, %peer, outcome, bytes, micros, reason, "fetch");
        }
        let (door, outcome) = (door.into(), outcome.into());
        self.record(device, Happening::Fetched { door, file: file.to_owned(), outcome, bytes, digest, micros });
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
            IpAddr::V4(heard.local),
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
        *self.replaced.borrow()
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
