//! The network as the server sees it: where phones are heard, which doors are open, and what is missing.

use std::sync::atomic::Ordering;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::aside;
use crate::{Admin, problem::Problem};

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Network {
    pnp: Pnp,
    interfaces: Vec<Interface>,
    doors: Vec<Door>,
}

/// How announcements are heard.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pnp {
    enabled: bool,
    /// Address and port of the group.
    group: String,
    /// `raw` or `udp`; none where phones are not heard.
    socket: Option<&'static str>,
    /// Why it is not the raw socket that the settings would rather have.
    instead_of_raw: Option<String>,
    /// Why phones are not heard, if they should be.
    deaf: Option<String>,
    /// The UDP port that answers come from.
    reply_port: Option<u16>,
    /// Bytes of the receive buffer that the settings ask for.
    receive_buffer_asked: usize,
    /// Bytes that the kernel granted.
    receive_buffer_granted: Option<usize>,
    /// Bytes in it that wait to be read now.
    waiting: Option<u64>,
    /// Datagrams that the kernel had no room for, since the start.
    lost: Option<u64>,
    /// Datagrams that were read, and dropped because there were too many, since the start.
    dropped: u64,
    /// Datagrams heard since the start.
    datagrams: u64,
    /// Those among them that are no SIP.
    unreadable: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Interface {
    name: String,
    up: bool,
    multicast: bool,
    /// With the length of the mask, as in `192.0.2.1/24`.
    addresses: Vec<String>,
    /// Whether phones are heard there.
    joined: bool,
    /// Why not.
    reason: Option<String>,
    /// Datagrams to the group that were heard there since the start.
    datagrams: u64,
    /// When the last one was: milliseconds since 1970.
    last_heard: Option<u64>,
    /// Who sent it.
    last_from: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Door {
    /// `http`, `tftp` or `people`.
    door: &'static str,
    address: String,
    open: bool,
    /// Why it is not open.
    reason: Option<String>,
}

/// Interfaces, doors, and the last datagram heard on each interface
#[utoipa::path(get, path = "/api/v1/network", tag = "server", responses(
    (status = 200, body = Network),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn network(State(admin): State<Admin>) -> Result<Json<Network>, Problem> {
    let seen = admin.network.clone();
    let kernel = aside(move || seen.kernel()).await?;
    let (view, world) = (admin.network.view(), admin.desk.world());
    let settings = &world.settings.pnp;
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let interfaces = view.interfaces.iter().map(|interface| {
        let last = admin.network.last(interface.index);
        let outcome = view.joins.get(&interface.name).filter(|_| view.ears.is_some());
        let reason = match outcome {
            Some(Ok(())) => None,
            Some(Err(why)) => Some(why.clone()),
            None if !settings.enabled => Some("pnp.enabled is off".to_owned()),
            None if view.ears.is_none() => Some("phones are not heard at all, see above".to_owned()),
            None => Some(interface.unfit(&settings.interfaces).unwrap_or("not yet").to_owned()),
        };
        Interface {
            name: interface.name.clone(),
            up: interface.up,
            multicast: interface.multicast,
            addresses: interface.addresses.iter().map(ToString::to_string).collect(),
            joined: reason.is_none(),
            reason,
            datagrams: last.map_or(0, |last| last.datagrams),
            last_heard: last.map(|last| last.at),
            last_from: last.map(|last| last.from.to_string()),
        }
    });
    let doors = view.sockets.iter().map(|socket| Door {
        door: socket.door,
        address: socket.address.to_string(),
        open: socket.refused.is_none(),
        reason: socket.refused.clone(),
    });
    let ears = view.ears.as_ref();
    let pnp = Pnp {
        enabled: settings.enabled,
        group: format!("{}:{}", settings.group, settings.port),
        socket: ears.map(|ears| ears.kind),
        instead_of_raw: ears.and_then(|ears| ears.instead_of_raw.clone()),
        deaf: view.deaf.clone(),
        reply_port: ears.map(|ears| ears.reply_port),
        receive_buffer_asked: settings.receive_buffer,
        receive_buffer_granted: ears.map(|ears| ears.receive_buffer),
        waiting: kernel.map(|kernel| kernel.waiting),
        lost: kernel.map(|kernel| kernel.lost),
        dropped: load(&admin.counters.overflow),
        datagrams: load(&admin.counters.datagrams),
        unreadable: load(&admin.counters.unreadable),
    };
    let (interfaces, doors) = (interfaces.collect(), doors.collect());
    Ok(Json(Network { pnp, interfaces, doors }))
}
