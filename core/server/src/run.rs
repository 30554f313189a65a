//! Starts everything and stops everything: sockets, doors, the watcher, the signals' wishes.
//!
//! What cannot be had (a port in use, a right that is missing) is said once, in words that tell what to do; the rest serves.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use provost_fleet::{Opened, Store};
use provost_host::{Limits, Prober};
use tokio::sync::{mpsc, watch};

use crate::{
    dispatch::Dispatch,
    http::{self, HttpLimits, Listeners},
    limits::{self, Room, remember_owners, tcp_owner, udp_owner},
    network::{Hearing, Network},
    pnp::{
        exchange::{Counters, Exchange, Wanted, reply_socket},
        interfaces::{self, Changes, Interface},
        listener::{Ears, ListenError, WAITING, group},
        relay::door,
    },
    reload::{Overlay, Reload, Watch},
    settings::Settings,
    tftp::{self, TftpLimits},
    world::{Finding, World},
};

/// What has to be opened while the process may still do everything: hearing the group takes CAP_NET_RAW, and its buffer CAP_NET_ADMIN.
#[derive(Debug)]
pub struct Early {
    /// None where PnP is not wanted.
    pnp: Option<EarlyPnp>,
}

#[derive(Debug)]
struct EarlyPnp {
    ears: Result<Ears, ListenError>,
    reply: io::Result<std::net::UdpSocket>,
    /// None where no relay has a key.
    relays: Option<Result<door::Early, door::DoorError>>,
}

impl Early {
    pub fn open(settings: &Settings) -> Early {
        let Settings { pnp, http, https, tftp, admin, .. } = settings;
        // Who is in the way is not to be seen later.
        let (tcp, udp) = ([http.port, https.port, admin.port], [tftp.port, pnp.reply_port, pnp.relay.port]);
        remember_owners(&tcp, &udp);
        let open = || EarlyPnp {
            ears: Ears::open(pnp.listen, group(pnp.group, pnp.port), pnp.receive_buffer),
            reply: reply_socket(pnp.reply_port, pnp.receive_buffer),
            relays: door::open(&pnp.relay),
        };
        Early { pnp: pnp.enabled.then(open) }
    }
}

/// What the caller brings.
pub struct Start {
    pub early: Early,
    /// Open since before the world was made.
    pub watch: Watch,
    pub world: World,
    /// What was found while the world was made; shown once.
    pub findings: Vec<Finding>,
    pub prober: Option<Prober>,
    pub limits: Limits,
    /// Rings when everything should be looked at again.
    pub reload: mpsc::Receiver<()>,
    pub stop: watch::Receiver<bool>,
    /// Lays the command line over the settings file, at each new reading of it.
    pub overlay: Overlay,
    /// Opens the people's door, which is not ours.
    pub beside: Option<Beside>,
    /// Called once everything that can serve does.
    pub ready: Box<dyn FnOnce(&str) + Send>,
}

/// What a door beside ours works with.
#[derive(Clone, Debug)]
pub struct Inside {
    pub settings: Arc<Settings>,
    pub desk: Arc<Dispatch>,
    /// None where the registry cannot be kept.
    pub store: Option<Arc<Store>>,
    pub counters: Arc<Counters>,
    pub network: Arc<Network>,
    pub stop: watch::Receiver<bool>,
}

/// Opens a door: its name, and what serves there until told to stop; or why it cannot be opened.
pub type Beside = Box<dyn FnOnce(Inside) -> Result<(String, BoxFuture), String> + Send>;
pub type BoxFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start").field("world", &self.world).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("not one door could be opened, so there is nothing to serve; what stands above says why")]
    NoDoor,
    #[error("cannot look at the network: {0}")]
    Network(#[source] io::Error),
}

/// Serves until told to stop.
pub async fn run(start: Start) -> Result<(), RunError> {
    let mut world = start.world;
    let stop = start.stop;
    let room = limits::files().map_or(Room::default(), Room::within);
    if room.connections < world.settings.http.connections || room.transfers < world.settings.tftp.transfers {
        tracing::warn!(
            connections = room.connections,
            transfers = room.transfers,
            "this process may open so few files that no more than this is served at a time, whatever the settings say (raise LimitNOFILE= in the unit, or ulimit -n)"
        );
    }
    let seen = Arc::new(Network::default());
    let plain = if world.settings.http.enabled { listen_http(&world.settings, Scheme::Plain, &seen) } else { None };
    let secured =
        if world.settings.https.enabled { listen_http(&world.settings, Scheme::Secured, &seen) } else { None };
    if (world.settings.http.enabled, world.settings.https.enabled) != (plain.is_some(), secured.is_some()) {
        // So that phones are told a URL behind which there is somebody.
        let mut settings = Settings::clone(&world.settings);
        (settings.http.enabled, settings.https.enabled) = (plain.is_some(), secured.is_some());
        world.settings = Arc::new(settings);
    }
    let settings = Arc::clone(&world.settings);
    let dispatch = Dispatch::new(world);
    let store = open_store(&settings, &dispatch);
    for finding in &start.findings {
        match finding.severity {
            crate::world::Severity::Error => {
                tracing::error!(file = finding.file, line = finding.line, "refused: {finding}")
            }
            crate::world::Severity::Warning => tracing::warn!(file = finding.file, line = finding.line, "{finding}"),
        }
    }

    let network = interfaces::list().map_err(RunError::Network)?;
    seen.interfaces(&network);
    let (network_sender, network) = watch::channel(network);
    let mut doors = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    let stop_listening = Arc::new(AtomicBool::new(false));
    let counters = Arc::new(Counters::default());

    let ears = start.early.pnp.and_then(|early| {
        open_pnp(
            early,
            &settings,
            &dispatch,
            &network,
            &seen,
            &counters,
            &stop,
            &stop_listening,
            &mut tasks,
            &mut doors,
        )
    });
    if plain.is_some() || secured.is_some() {
        open_http(plain, secured, &settings, room, &dispatch, &stop, &mut tasks, &mut doors);
    }
    let tftp = if settings.tftp.enabled {
        open_tftp(&settings, room, &dispatch, &network.borrow(), &seen, &mut doors).await
    } else {
        None
    };
    if doors.is_empty() {
        return Err(RunError::NoDoor);
    }
    if let Some(open) = start.beside.filter(|_| settings.admin.enabled) {
        let (settings, desk, stop) = (Arc::clone(&settings), Arc::clone(&dispatch), stop.clone());
        let (counters, network) = (Arc::clone(&counters), Arc::clone(&seen));
        let address = SocketAddr::new(settings.admin.address, settings.admin.port);
        match open(Inside { settings, desk, store: store.clone(), counters, network, stop }) {
            Ok((name, serving)) => {
                doors.push(name);
                seen.socket("people", address, None);
                tasks.spawn(serving);
            }
            Err(why) => tracing::error!("no door for people: {why}. Phones are served as ever"),
        }
    }

    let reload = Reload {
        dispatch: Arc::clone(&dispatch),
        watch: start.watch,
        limits: start.limits,
        overlay: start.overlay,
        prober: start.prober,
        shown: start.findings,
    };
    tasks.spawn(reload.run(start.reload, stop.clone()));
    tasks.spawn(crate::enrol::run(Arc::clone(&dispatch), stop.clone()));
    tasks.spawn(crate::ready::run(Arc::clone(&dispatch), stop.clone()));
    tasks.spawn(count_drops(Arc::clone(&counters), stop.clone()));
    let world = dispatch.world();
    let summary =
        format!("{} devices, {} vendors; {}", world.fleet.len(), world.shelf.plugins().count(), doors.join(", "));
    tracing::info!(
        devices = world.fleet.len(),
        vendors = world.shelf.plugins().count(),
        doors = doors.join(", "),
        "serving"
    );
    drop(world);
    (start.ready)(&summary);

    follow_network(&settings, network_sender, &seen, ears, tftp, stop).await;
    stop_listening.store(true, Ordering::Relaxed);
    tracing::info!("stopping");
    // Each door ends its transfers within its own limit; nobody waits longer than this for all of them.
    let _ = tokio::time::timeout(Duration::from_secs(8), async { while tasks.join_next().await.is_some() {} }).await;
    // Writes what is not written yet.
    drop(store);
    Ok(())
}

/// What phones were seen doing before the start, and from now on. Phones are served without it, too.
fn open_store(settings: &Settings, dispatch: &Dispatch) -> Option<Arc<Store>> {
    let path = settings.state.join("registry.db");
    match Store::open(&path, &dispatch.registry) {
        Ok((store, opened)) => {
            match opened {
                Opened::Read(phones) => tracing::info!(file = %path.display(), phones, "the registry is kept"),
                Opened::Aside { why, to } => tracing::error!(
                    "cannot use the registry {}: {why}. It is kept as {}, and a new one is begun; phones are served as ever",
                    path.display(),
                    to.display()
                ),
            }
            dispatch.judge();
            Some(Arc::new(store))
        }
        Err(error) => {
            tracing::error!(
                "{error}. Phones are served as ever; what they are seen doing will be forgotten at the next start"
            );
            None
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "it is the one place where all of these meet, and each is named where it comes from"
)]
fn open_pnp(
    EarlyPnp { ears, reply, relays }: EarlyPnp,
    settings: &Settings,
    dispatch: &Arc<Dispatch>,
    network: &watch::Receiver<Vec<Interface>>,
    seen: &Network,
    counters: &Arc<Counters>,
    stop: &watch::Receiver<bool>,
    stop_listening: &Arc<AtomicBool>,
    tasks: &mut tokio::task::JoinSet<()>,
    doors: &mut Vec<String>,
) -> Option<Ears> {
    let pnp = &settings.pnp;
    let mut ears = match ears {
        Ok(ears) => ears,
        Err(error) => {
            tracing::error!("phones are not heard: {error}");
            seen.deaf(error.to_string());
            return None;
        }
    };
    if let Some(why) = &ears.instead_of_raw {
        tracing::warn!(reason = %why, "no raw socket may be opened, so the group's port itself is bound; a PBX that binds 0.0.0.0:{} without address reuse cannot start beside it (CAP_NET_RAW would avoid that)", pnp.port);
    }
    if ears.receive_buffer < pnp.receive_buffer {
        tracing::warn!(
            asked = pnp.receive_buffer,
            granted = ears.receive_buffer,
            "the kernel grants a smaller receive buffer; when a building powers on at once, first SUBSCRIBEs may be lost (raise net.core.rmem_max, or allow CAP_NET_ADMIN)"
        );
    }
    tell_joins(ears.follow(&network.borrow(), &pnp.interfaces), seen);
    let dropped = Arc::new(AtomicU64::new(0));
    let opened = reply.and_then(|socket| {
        let port = socket.local_addr()?.port();
        let wanted = Wanted { per_source: pnp.per_source, off_link: pnp.off_link };
        let exchange =
            Exchange::new(Arc::clone(dispatch), socket, network.clone(), Arc::clone(counters))?.wanting(wanted);
        dispatch.connect(exchange.wishes());
        let (heard, datagrams) = mpsc::channel(WAITING);
        ears.listen(Arc::clone(stop_listening), Arc::clone(&dropped), Arc::clone(&seen.heard), heard.clone())?;
        Ok((port, exchange, heard, datagrams))
    });
    match opened {
        Ok((port, exchange, heard, datagrams)) => {
            let joined = ears.joined().collect::<Vec<_>>().join(" ");
            doors.push(format!(
                "PnP {}:{} ({} socket on {}, answers from port {port})",
                pnp.group,
                pnp.port,
                ears.kind(),
                if joined.is_empty() { "no interface yet" } else { &joined }
            ));
            seen.hears(Hearing {
                kind: ears.kind(),
                instead_of_raw: ears.instead_of_raw.as_ref().map(ToString::to_string),
                receive_buffer: ears.receive_buffer,
                reply_port: port,
                inode: ears.inode().ok(),
            });
            match relays {
                Some(Ok(relays)) => {
                    let names: Vec<&str> = relays.known.iter().map(|known| &*known.name).collect();
                    doors.push(format!("relays {} at port {}", names.join(" "), pnp.relay.port));
                    let serving = door::serve(relays, heard, Arc::clone(&dropped), Arc::clone(counters), stop.clone());
                    tasks.spawn(async move {
                        if let Err(error) = serving.await {
                            tracing::error!(%error, "relays are not heard");
                        }
                    });
                }
                Some(Err(error)) => tracing::error!("relays are not heard: {error}. Phones here are served as ever"),
                None => {}
            }
            tasks.spawn(exchange.run(datagrams, stop.clone()));
            let (counters, mut stop) = (Arc::clone(counters), stop.clone());
            tasks.spawn(async move {
                let mut seen = 0;
                while tokio::time::timeout(Duration::from_secs(5), stopped(&mut stop)).await.is_err() {
                    let now = dropped.load(Ordering::Relaxed);
                    counters.overflow.fetch_add(now - seen, Ordering::Relaxed);
                    seen = now;
                }
            });
            Some(ears)
        }
        Err(error) => {
            let owner =
                if error.kind() == io::ErrorKind::AddrInUse { udp_owner(pnp.reply_port) } else { String::new() };
            let why = format!(
                "phones cannot be answered: cannot bind UDP port {} for replies: {error}. {owner}",
                pnp.reply_port
            );
            tracing::error!("{why}");
            seen.deaf(why);
            None
        }
    }
}

#[derive(Clone, Copy)]
enum Scheme {
    Plain,
    Secured,
}

fn listen_http(settings: &Settings, scheme: Scheme, seen: &Network) -> Option<std::net::TcpListener> {
    let (door, socket, other) = match scheme {
        Scheme::Plain => ("http", settings.http_socket(), "0.0.0.0:8090"),
        Scheme::Secured => ("https", settings.https_socket(), "0.0.0.0:8444"),
    };
    let error = match http::listen(socket) {
        Ok(listener) => {
            seen.socket(door, socket, None);
            return Some(listener);
        }
        Err(error) => error,
    };
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{} Stop that, or set {door}.port to another (`--{door} {other}`)", tcp_owner(socket.port()))
        }
        io::ErrorKind::PermissionDenied => {
            "Ports below 1024 need CAP_NET_BIND_SERVICE (run as root, or `setcap cap_net_bind_service+ep` on the program)".into()
        }
        _ => format!("Look at {door}.address and {door}.port"),
    };
    let instead = match (scheme, settings.http.enabled, settings.https.enabled) {
        (Scheme::Plain, _, true) => "https:// URLs, if that door opens, or else tftp:// ones",
        (Scheme::Secured, true, _) => "http:// URLs",
        _ => "tftp:// URLs",
    };
    tracing::error!(
        "no files over {}: cannot listen on {socket}: {error}. {why}. Until then phones are told {instead}",
        door.to_uppercase()
    );
    seen.socket(door, socket, Some(format!("{error}. {why}")));
    None
}

#[expect(clippy::too_many_arguments, reason = "as of open_pnp")]
fn open_http(
    plain: Option<std::net::TcpListener>,
    secured: Option<std::net::TcpListener>,
    settings: &Settings,
    room: Room,
    dispatch: &Arc<Dispatch>,
    stop: &watch::Receiver<bool>,
    tasks: &mut tokio::task::JoinSet<()>,
    doors: &mut Vec<String>,
) {
    let limits = HttpLimits {
        connections: settings.http.connections.min(room.connections),
        connections_per_peer: settings.http.connections_per_peer.min(Room::share(room.connections)),
        ..HttpLimits::default()
    };
    doors.extend(plain.as_ref().map(|_| format!("HTTP {}", settings.http_socket())));
    doors.extend(secured.as_ref().map(|_| format!("HTTPS {}", settings.https_socket())));
    let (dispatch, stop) = (Arc::clone(dispatch), stop.clone());
    let world = Arc::clone(&dispatch);
    let tls = Arc::new(move || Arc::clone(&world.world().tls));
    let listeners = Listeners { plain, secured, tls, proxies: settings.proxies() };
    tasks.spawn(async move {
        if let Err(error) = http::serve(listeners, dispatch, limits, stop).await {
            tracing::error!(%error, "the HTTP door closed");
        }
    });
}

async fn open_tftp(
    settings: &Settings,
    room: Room,
    dispatch: &Arc<Dispatch>,
    network: &[Interface],
    seen: &Network,
    doors: &mut Vec<String>,
) -> Option<tftp::Door> {
    let limits = TftpLimits {
        transfers: settings.tftp.transfers.min(room.transfers),
        transfers_per_peer: settings.tftp.transfers_per_peer.min(Room::share(room.transfers)),
        ..TftpLimits::default()
    };
    let file = &settings.tftp;
    let mut door = tftp::Door::new(Arc::clone(dispatch), file.engine, file.port_per_transfer, file.port, limits);
    let synced = door.sync_addresses(&tftp_addresses(settings, network)).await;
    tell_tftp(settings, &synced);
    note_tftp(settings, &synced, seen);
    let bound: Vec<String> = door.bound().map(|bound| bound.address.ip().to_string()).collect();
    if !bound.is_empty() {
        doors.push(format!("TFTP port {} on {}", settings.tftp.port, bound.join(" ")));
    }
    // Even where it serves nowhere yet: an address may come.
    Some(door)
}

fn tftp_addresses(settings: &Settings, network: &[Interface]) -> Vec<IpAddr> {
    if settings.tftp.addresses.is_empty() { interfaces::addresses(network) } else { settings.tftp.addresses.clone() }
}

fn tell_tftp(settings: &Settings, synced: &tftp::Synced) {
    for bound in &synced.started {
        tracing::info!(address = %bound.address, "TFTP serves");
    }
    for address in &synced.stopped {
        tracing::info!(%address, "TFTP stops");
    }
    let mut told_permission = false;
    for (address, error) in &synced.failed {
        let port = settings.tftp.port;
        match error.kind() {
            io::ErrorKind::PermissionDenied if told_permission => {}
            io::ErrorKind::PermissionDenied => {
                told_permission = true;
                tracing::error!(
                    "no files over TFTP: port {port} needs CAP_NET_BIND_SERVICE. Run as root, or `setcap cap_net_bind_service+ep` on the program, or set tftp.port to one above 1023 and redirect it; everything else serves"
                );
            }
            io::ErrorKind::AddrInUse => {
                tracing::error!(%address, "no files over TFTP there: port {port} is in use. {} Stop that, or set tftp.port to another", udp_owner(port));
            }
            _ => tracing::error!(%address, %error, "no files over TFTP there"),
        }
    }
}

fn note_tftp(settings: &Settings, synced: &tftp::Synced, seen: &Network) {
    for address in &synced.stopped {
        seen.closed("tftp", *address);
    }
    for bound in &synced.started {
        // Port 0 is not where it is bound then, so that a refusal of before would stay.
        seen.closed("tftp", bound.address.ip());
        seen.socket("tftp", bound.address, None);
    }
    let port = settings.tftp.port;
    for (address, error) in &synced.failed {
        let why = match error.kind() {
            io::ErrorKind::PermissionDenied => format!("port {port} needs CAP_NET_BIND_SERVICE"),
            io::ErrorKind::AddrInUse => format!("port {port} is in use. {}", udp_owner(port)),
            _ => error.to_string(),
        };
        seen.socket("tftp", SocketAddr::new(*address, port), Some(why));
    }
}

fn tell_joins(done: Vec<(String, Result<&'static str, io::Error>)>, seen: &Network) {
    for (interface, outcome) in done {
        match outcome {
            Ok(what) => {
                tracing::info!(interface, "{what} the group");
                seen.joined(&interface, (what == "joined").then_some(Ok(())));
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                let why = "the kernel allows no more memberships (raise net.ipv4.igmp_max_memberships)";
                tracing::error!(interface, "cannot join the group: {why}");
                seen.joined(&interface, Some(Err(why.to_owned())));
            }
            Err(error) => {
                tracing::error!(interface, %error, "cannot join the group; phones there are not heard");
                seen.joined(&interface, Some(Err(error.to_string())));
            }
        }
    }
}

/// Follows links and addresses as they come and go, until told to stop.
async fn follow_network(
    settings: &Settings,
    network: watch::Sender<Vec<Interface>>,
    seen: &Network,
    mut ears: Option<Ears>,
    mut tftp: Option<tftp::Door>,
    mut stop: watch::Receiver<bool>,
) {
    let mut changes = Changes::subscribe()
        .map_err(
            |error| tracing::error!(%error, "interfaces that come and go are not followed; restart after a change"),
        )
        .ok();
    let mut failing = false;
    loop {
        // The first look comes after the subscription, so that no change falls between the two.
        match interfaces::list() {
            Ok(now) if now != *network.borrow() => {
                // Known before it is joined: what is heard there at once is answered at once.
                network.send_replace(now.clone());
                seen.interfaces(&now);
                if let Some(ears) = &mut ears {
                    tell_joins(ears.follow(&now, &settings.pnp.interfaces), seen);
                }
                if let Some(tftp) = &mut tftp {
                    let addresses = tftp_addresses(settings, &now);
                    let synced = tftp.sync_addresses(&addresses).await;
                    seen.only("tftp", &addresses);
                    note_tftp(settings, &synced, seen);
                    // A failure that stays the same is told once: it is tried again at every change.
                    let fails = !synced.failed.is_empty();
                    if fails && failing {
                        tell_tftp(settings, &tftp::Synced { failed: Vec::new(), ..synced });
                    } else {
                        tell_tftp(settings, &synced);
                    }
                    failing = fails;
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot look at the network"),
        }
        let next = async {
            match &mut changes {
                Some(changes) => changes.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stopped(&mut stop) => break,
            () = next => {}
        }
    }
    if let Some(tftp) = tftp {
        tftp.close().await;
    }
}

/// Says what was dropped since it last said so, and only then.
async fn count_drops(counters: Arc<Counters>, mut stop: watch::Receiver<bool>) {
    let mut told = (0, 0);
    while tokio::time::timeout(Duration::from_secs(30), stopped(&mut stop)).await.is_err() {
        let now = (counters.overflow.load(Ordering::Relaxed), counters.unreadable.load(Ordering::Relaxed));
        if now != told {
            tracing::warn!(overflow = now.0 - told.0, unreadable = now.1 - told.1, "datagrams dropped");
            told = now;
        }
    }
}

/// Returns once it is time to stop.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Nobody left who could say so is a reason to stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}
