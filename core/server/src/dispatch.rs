//! The desk: every door ends here, and nothing here asks which door it was.
//!
//! Holds the world in service and the registry of what phones were seen doing; decides by asking the world, and writes one log event
//! for each decision. What people want of a phone comes in here too: that it is answered after all, that it fetches again.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddrV4},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use provost_fleet::{Event, Happening, Open, Record, Registry, Relay, Sighting, State};
use provost_host::mac_named;
use provost_plugin::{
    MacAddr,
    model::{Asking, Authentication, Identity, Line, TftpFiles, Trust},
};
use serde::Serialize;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

use crate::{
    guard::{self, Deed, Guard, Standing},
    login::{self, Login, Logins},
    made::{Content, Made},
    memo::{Answer, Facts, Found, Memo, Spoken, Told},
    neighbours::{self, Whence},
    pnp::{
        exchange::{Again, Announcement, Announcer, Heard, NotNotified, Notified, Outcome, REMEMBERED},
        resync::{Account, NotResynced, Order, Resync, Resynced, is_host},
    },
    progress,
    request::{ConfigFile, ConfigRequest, Desk, Door, Fetched},
    tokens::{self, TokenError, Worth},
    trust::{self, LONGEST_OPEN, Refusal, Shown},
    world::{self, Located, NotLocated, Peer, Plan, World},
};

/// Phones that are told to fetch again at one time; each is a socket for as long as it takes to answer.
const ORDERS: usize = 256;
/// The outcome of a fetch by a phone that got its file.
const RENDERED: &str = "rendered";
/// The outcome of a fetch by a phone in no file, which was given what holds no secret.
const WAITING: &str = "waiting";
/// Answers that are held back at one time; who comes on top of that hears that it is locked out.
const LATE: usize = 256;
/// Where phones hear SIP that never said where.
const SIP_PORT: u16 = 5060;

#[derive(Debug)]
pub struct Dispatch {
    serving: ArcSwap<Serving>,
    /// How often the world was replaced.
    replaced: watch::Sender<u64>,
    pub registry: Arc<Registry>,
    /// One edit at a time.
    pub(crate) editing: tokio::sync::Mutex<()>,
    /// Where the exchange takes wishes; empty as long as phones are not heard.
    exchange: OnceLock<mpsc::Sender<Again>>,
    ordered: Mutex<HashSet<MacAddr>>,
    /// Rung when a phone that stands in no file announced itself.
    pub(crate) strangers: Notify,
    renders: progress::Renders,
    logins: Logins,
    pub guard: Guard,
    /// Late answers that wait at one time.
    late: Semaphore,
}

/// A world, and what came of it so far.
#[derive(Debug)]
struct Serving {
    world: Arc<World>,
    memo: Arc<Memo>,
}

impl From<World> for Serving {
    fn from(world: World) -> Serving {
        Serving { world: Arc::new(world), memo: Arc::default() }
    }
}

impl Serving {
    /// What was kept under this name and User-Agent, and what they say by themselves.
    fn told(&self, path: &str, agent: Option<&str>) -> (Option<Found>, Told) {
        let found = self.memo.find(path, agent);
        let told = found.as_ref().map_or_else(|| told(&self.world, path, agent), |found| found.told().clone());
        (found, told)
    }
}

/// What a phone was seen doing since some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Each file that it asked for, oldest first, whatever it got.
    pub fetched: Vec<Event>,
    /// It asked where its configuration is, as phones do when they start.
    pub announced: bool,
}

impl Dispatch {
    pub fn new(world: World) -> Arc<Dispatch> {
        Arc::new(Dispatch {
            serving: ArcSwap::from_pointee(world.into()),
            replaced: watch::Sender::new(0),
            registry: Arc::default(),
            editing: tokio::sync::Mutex::default(),
            exchange: OnceLock::new(),
            ordered: Mutex::default(),
            strangers: Notify::new(),
            renders: progress::Renders::default(),
            logins: Logins::new(),
            guard: Guard::default(),
            late: Semaphore::new(LATE),
        })
    }

    /// Has phones that were given no answer answered by the exchange that takes these wishes. The first one counts.
    pub fn connect(&self, wishes: mpsc::Sender<Again>) {
        let _ = self.exchange.set(wishes);
    }

    /// The world as it stands; whoever holds it keeps it whole.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.serving.load().world)
    }

    /// Puts another world into service. Requests under way finish in the old one.
    pub fn replace(&self, world: World) {
        self.put(world.into());
    }

    /// Puts a world into service that answers as the one before.
    pub(crate) fn renew(&self, world: World) {
        let memo = Arc::clone(&self.serving.load().memo);
        self.put(Serving { world: Arc::new(world), memo });
    }

    fn put(&self, serving: Serving) {
        self.serving.store(Arc::new(serving));
        // A device that was written into a profile is pending no more, and the other way round.
        self.judge();
        self.replaced.send_modify(|times| *times += 1);
    }

    /// Rings whenever the world was replaced.
    pub fn replacements(&self) -> watch::Receiver<u64> {
        self.replaced.subscribe()
    }

    /// How far a phone with a device in the inventory has come. Blocks while libraries answer, unless it is remembered.
    pub fn progress(&self, mac: MacAddr, record: Option<&Record>) -> progress::Progress {
        // Before the world: one that comes in between is remembered as an older one, and looked at again.
        let generation = *self.replaced.borrow();
        self.renders.progress(&self.world(), generation, mac, record, SystemTime::now())
    }

    /// Decides anew which of the phones that were seen are known.
    pub(crate) fn judge(&self) {
        let world = self.world();
        self.registry.judge(|mac| world.fleet.device(mac).is_some());
    }

    /// Answers a phone that announced itself lately and was given no answer: to be called once the world knows it. Returns when the
    /// phone has taken the URL, or after 32 s.
    pub async fn notify_again(&self, mac: MacAddr) -> Result<Notified, NotNotified> {
        self.expect(mac);
        let exchange = self.exchange.get().ok_or(NotNotified::Deaf)?;
        let (told, outcome) = oneshot::channel();
        exchange.try_send(Again { mac, told }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotNotified::Busy,
            mpsc::error::TrySendError::Closed(_) => NotNotified::Deaf,
        })?;
        match outcome.await.unwrap_or(Err(NotNotified::Deaf)) {
            // What it was told then were the files of a phone that waits: it is to fetch again.
            Err(NotNotified::Answered { .. }) if self.is_waiting(mac) => match self.resync(mac, Resync::Fetch).await {
                Ok(Resynced { status, from: to, event: url, .. }) => Ok(Notified { url, status, to }),
                Err(error) => Err(NotNotified::Unsent { reason: error.to_string() }),
            },
            // The exchange forgets soon whom it has answered; the registry does not.
            Err(NotNotified::Unheard) => Err(self.answered_lately(mac).unwrap_or(NotNotified::Unheard)),
            told => told,
        }
    }

    /// Whether the last that it fetched were the files of a phone that waits for its approval.
    fn is_waiting(&self, mac: MacAddr) -> bool {
        let record = self.registry.by_mac(mac);
        record.is_some_and(|record| {
            record.files.values().max_by_key(|taken| taken.at).is_some_and(|taken| taken.outcome == WAITING)
        })
    }

    fn answered_lately(&self, mac: MacAddr) -> Option<NotNotified> {
        let since = SystemTime::now().checked_sub(REMEMBERED)?;
        let events = self.registry.by_mac(mac)?.events;
        events.iter().rev().take_while(|event| event.at >= since).find_map(|event| match event.what {
            Happening::NotifyAnswered { code } => Some(NotNotified::Answered { status: code }),
            _ => None,
        })
    }

    /// Tells a phone to fetch again, or to reboot, and returns when it has said whether it will. That it does is seen by
    /// [`Dispatch::since`]. Dropped before that, it is not said again, and the registry tells that nobody waited.
    pub async fn resync(&self, mac: MacAddr, how: Resync) -> Result<Resynced, NotResynced> {
        let _turn = Turn::take(&self.ordered, mac)?;
        self.expect(mac);
        let order = self.order(mac, how)?;
        self.record(Some(mac), Happening::Ordered { event: order.event.clone() });
        let abandoned = Abandoned { dispatch: self, mac };
        let outcome = order.give().await;
        std::mem::forget(abandoned);
        match &outcome {
            Ok(Resynced { event, status, from, line, .. }) => {
                tracing::info!(device = %mac, event, peer = %from, status, line, "resynced");
            }
            Err(error) => tracing::warn!(device = %mac, event = order.event, reason = %error, "not resynced"),
        }
        self.record(
            Some(mac),
            match &outcome {
                Ok(Resynced { status: code, .. }) | Err(NotResynced::Refused { status: code, .. }) => {
                    Happening::OrderAnswered { code: *code }
                }
                Err(error) => Happening::OrderFailed { reason: error.to_string() },
            },
        );
        outcome
    }

    /// Whom to tell, where, and in which words.
    fn order(&self, mac: MacAddr, how: Resync) -> Result<Order, NotResynced> {
        let world = self.world();
        if world.fleet.device(mac).is_none() {
            return Err(NotResynced::Unknown(mac));
        }
        let record = self.registry.by_mac(mac).ok_or(NotResynced::Unseen)?;
        let targets = targets(&record)?;
        let peer = progress::peer(mac, Some(&record));
        let offer = world.files_of(mac, &peer).map_err(NotResynced::Unsettled)?;
        let phone = &offer.resolved.phone;
        let words = offer.choice.plugin.spec.resync(phone.capabilities.family.as_deref());
        let lines: Vec<&Line> = phone.settings.lines.iter().filter(|line| line.enabled != Some(false)).collect();
        Ok(Order {
            event: match how {
                Resync::Fetch => words.event.clone(),
                Resync::Reboot => words.reboot_event.clone(),
            },
            targets,
            interface: record.interface,
            user: lines.first().and_then(|line| line.username.clone().or(line.number.clone())),
            accounts: lines.into_iter().filter_map(account).collect(),
        })
    }

    /// What a phone was seen doing from `when` on. The registry keeps a few boots' worth, so this is for those who look now and then.
    /// A phone that was answered after all, by [`Dispatch::notify_again`], counts as one that asked.
    pub fn since(&self, mac: MacAddr, when: SystemTime) -> Seen {
        let mut seen = Seen::default();
        for event in self.registry.by_mac(mac).map(|record| record.events).unwrap_or_default() {
            match &event.what {
                _ if event.at < when => {}
                Happening::Fetched { .. } => seen.fetched.push(event),
                Happening::Announced { .. } | Happening::Refused { .. } => seen.announced = true,
                _ => {}
            }
        }
        seen
    }

    /// Phones of the inventory that were seen.
    pub(crate) fn served(&self) -> Vec<MacAddr> {
        let world = self.world();
        let mut served = Vec::new();
        self.registry.visit(|record| {
            if world.fleet.device(record.mac).is_some() {
                served.push(record.mac);
            }
        });
        served
    }

    /// Makes the files that a phone took last, as it would get them now. How many that were; none where there is no room for more.
    pub(crate) async fn make_ready(&self, mac: MacAddr) -> Option<usize> {
        let serving = self.serving.load_full();
        let last = self.registry.look(mac, |record| {
            let taken = record.files.iter().filter(|(_, taken)| taken.outcome == RENDERED);
            let agent = &record.identity.user_agent;
            // TFTP has no place for it.
            let agent_at = |door: &str| agent.clone().filter(|_| door != Door::Tftp.as_str());
            let names: Vec<_> = taken.map(|(name, taken)| (name.clone(), agent_at(&taken.door))).collect();
            Some((record.address?, record.local?, names))
        });
        let Some((from, local, names)) = last.flatten() else { return Some(0) };
        let mut count = 0;
        for (path, agent) in names {
            if !serving.memo.has_room() {
                return None;
            }
            let agent = agent.as_deref();
            let (found, told) = serving.told(&path, agent);
            let peer = self.recognise(&told, from, local);
            let revoked = serving.world.tokens.revoked();
            if found.is_some_and(|found| found.answer(&peer, revoked).is_some()) {
                continue;
            }
            // What fails is told to whoever asks for it.
            let Ok(located) = serving.world.locate_among(&told.routes, &path, &peer) else { continue };
            let facts = Facts::of(&located);
            let modified = serving.world.modified(&facts.plugin);
            if let Ok((file, _)) = made(&serving.world.made, located, modified).await {
                serving.memo.keep(&path, agent, told, Answer::new(peer, revoked, facts, file, None));
                count += 1;
            }
        }
        Some(count)
    }

    async fn decide(&self, request: &ConfigRequest, token: Option<&str>) -> Decided {
        let serving = self.serving.load_full();
        let world = &*serving.world;
        let (path, agent) = (request.path.as_str(), request.user_agent.as_deref());
        let (found, told) = serving.told(path, agent);
        let peer = self.recognise(&told, request.peer.ip(), request.local.ip());
        // Before the files are looked at: what is made while a token is revoked is not found again.
        let revoked = world.tokens.revoked();
        let is_asked_harmless =
            |facts: &Facts| request.door == Door::Tftp && facts.trust.tftp == Some(TftpFiles::WithoutSecrets);
        let known = found.as_ref().and_then(|found| found.answer(&peer, revoked));
        // One of which nobody has asked yet whether there is a password in it is made, and kept, anew.
        let known = known.filter(|known| known.harmless.is_some() || !is_asked_harmless(&known.facts));
        let nobodys = |fetched, device, reason| Decided {
            fetched,
            device,
            vendor: None,
            reason,
            refusal: None,
            is_waiting: false,
            is_kept: false,
            deed: None,
        };
        let refused = |fetched, device: Option<MacAddr>, refusal: Refusal| Decided {
            deed: device.map(|mac| refusal.deed(mac)),
            reason: Some(refusal.to_string()),
            refusal: Some(refusal),
            ..nobodys(fetched, device, None)
        };
        let located = match &known {
            Some(_) => None,
            None => match world.locate_among(&told.routes, path, &peer) {
                Ok(located) => Some(located),
                Err(NotLocated::Unknown(reason)) => {
                    let fetched = asset_or(world, path, reason.clone());
                    let deed = matches!(fetched, Fetched::Unknown { .. }).then_some(Deed::Missing);
                    return Decided { deed, ..nobodys(fetched, peer.identity.mac, Some(reason)) };
                }
                Err(NotLocated::Pending(mac, reason)) => {
                    let is_itself = neighbours::whence(request.peer.ip()) == Whence::OnLink(Some(mac));
                    let identity = Identity { mac: Some(mac), ..peer.identity };
                    self.observe(world, identity, request.door, request.peer.ip(), None, request.local.ip(), None);
                    // The asker hears the same as for a name that does not exist: whether a MAC is in the inventory is nobody's business.
                    let fetched = Fetched::Unknown { reason: "there is no such file".into() };
                    let deed = (!is_itself).then_some(Deed::Unknown(mac));
                    return Decided { deed, ..nobodys(fetched, Some(mac), Some(reason)) };
                }
                Err(NotLocated::Failed(mac, reason)) => {
                    let public = "the settings of this phone cannot be put together; the server's log says why".into();
                    return nobodys(Fetched::Failed { public }, mac, Some(reason));
                }
            },
        };
        let fresh = located.as_ref().map(Facts::of);
        let facts = match (&known, &fresh) {
            (Some(known), _) => &known.facts,
            (None, Some(fresh)) => fresh,
            (None, None) => unreachable!("what is not known was located"),
        };
        let (device, is_waiting) = (facts.mac, facts.stranger);
        let vendor = Some(facts.plugin.id.clone());
        match self.refusal(world, facts, request, token) {
            Ok(None) => {}
            Ok(Some(refusal)) => {
                let fetched = match refusal.challenge() {
                    Some(stale) => {
                        let basic = takes_basic(&facts.trust, request);
                        let (peer, now) = (request.peer.ip(), SystemTime::now());
                        Fetched::Challenged { challenges: self.logins.challenge(stale, basic, peer, now) }
                    }
                    // As for a name that does not exist: whether a MAC is in the inventory is nobody's business.
                    None => Fetched::Unknown { reason: "there is no such file".into() },
                };
                return Decided { vendor, is_waiting, ..refused(fetched, device, refusal) };
            }
            Err(error) => {
                let public = "what this phone has to show cannot be looked up; the server's log says why".into();
                return nobodys(Fetched::Failed { public }, device, Some(error));
            }
        }
        if let Some(mac) = device {
            let identity = Identity {
                mac: Some(mac),
                model: facts.model.clone(),
                firmware: facts.firmware.clone(),
                hardware: facts.hardware.clone(),
                ..peer.identity.clone()
            };
            self.observe(world, identity, request.door, request.peer.ip(), None, request.local.ip(), None);
        }
        let mut modified = world.modified(&facts.plugin);
        // What a policy comes to changes with what the phone runs.
        if facts.by_policy
            && let Some(since) = device.and_then(|mac| self.registry.look(mac, |record| record.software_since))
        {
            modified = modified.max(since);
        }
        let is_asked_harmless = is_asked_harmless(facts);
        let answer = match (&known, located) {
            (Some(known), _) => Ok((ConfigFile { modified, ..known.file.clone() }, known.harmless, true)),
            (None, Some(located)) => {
                let without = is_asked_harmless.then(|| located.without_secrets());
                match made(&world.made, located, modified).await {
                    Ok((file, is_kept)) => {
                        let harmless = match without {
                            Some(without) => {
                                let without = made(&world.made, without, modified).await;
                                Some(without.is_ok_and(|(without, _)| without.body == file.body))
                            }
                            None => None,
                        };
                        Ok((file, harmless, is_kept))
                    }
                    Err(error) => Err(error),
                }
            }
            (None, None) => unreachable!("what is not known was located"),
        };
        let (fetched, reason, is_kept) = match answer {
            Ok((file, harmless, is_kept)) => {
                if let Some(facts) = fresh {
                    let answer = Answer::new(peer, revoked, facts, file.clone(), harmless);
                    serving.memo.keep(path, agent, told, answer);
                }
                if is_asked_harmless && harmless != Some(true) {
                    let fetched = Fetched::Unknown { reason: "there is no such file".into() };
                    return Decided { vendor, is_waiting, ..refused(fetched, device, Refusal::Tftp) };
                }
                (Fetched::Found(file), None, is_kept)
            }
            Err(error) => (
                Fetched::Failed { public: "this file cannot be rendered; the server's log says why".into() },
                Some(error),
                false,
            ),
        };
        Decided { vendor, is_waiting, is_kept, ..nobodys(fetched, device, reason) }
    }

    /// What keeps an asker from a file that was found. An error where it cannot be told.
    fn refusal(
        &self,
        world: &World,
        facts: &Facts,
        request: &ConfigRequest,
        token: Option<&str>,
    ) -> Result<Option<Refusal>, String> {
        let (address, now) = (request.peer.ip().to_canonical(), SystemTime::now());
        let trust = &facts.trust;
        let proof = &request.proof;
        let mut shown = Shown {
            address,
            whence: Whence::Beyond,
            relayed: proof.relayed,
            announced_from: None,
            seen_by_relay: false,
            token: Worth::None,
            login: Login::Missing,
            certificate: proof.certificate.as_deref(),
            encrypted: proof.encrypted,
            tftp: request.door == Door::Tftp,
            now,
            open_until: None,
            vouched: false,
        };
        let Some(mac) = facts.owner() else { return Ok(trust::way(trust, &shown)) };
        let asking = trust.address.unwrap_or_default();
        if asking != Asking::Anywhere {
            shown.whence = neighbours::whence(address);
        }
        let is_windowed = trust.window.is_some_and(|minutes| minutes > 0);
        let by_relay = |record: &Record| record.relay.as_ref().is_some_and(|relay| relay.seen);
        let seen = self.registry.look(mac, |record| (record.announced_from, by_relay(record), record.open));
        let (announced_from, by_relay, open) = seen.unwrap_or_default();
        shown.announced_from = announced_from.map(|address| address.to_canonical());
        shown.seen_by_relay =
            by_relay && shown.announced_from == Some(address) && self.registry.by_address(address) == Some(mac);
        shown.open_until = open.filter(|_| is_windowed).map(|open| open.until);
        shown.token = world.tokens.worth(token, mac, address, now).map_err(|error| error.to_string())?;
        if trust.credentials.unwrap_or_default() != Authentication::Off {
            let account = login::Account {
                user: facts.account.username.as_deref().unwrap_or_default(),
                passwords: [&facts.account.password, &trust.old_password]
                    .map(|one| one.as_ref().map(|one| one.expose())),
            };
            let basic = takes_basic(trust, request);
            shown.login = self.logins.check(proof.credentials.as_deref(), &account, basic, address, now);
        }
        // Last of all, for the first who asks is written down: that must be one who lacks nothing else.
        let refusal = trust::refusal(mac, trust, &shown);
        if refusal.is_some() && open.is_some_and(|open| open.vouched) {
            let vouched = Shown { vouched: true, ..shown };
            return match trust::refusal(mac, trust, &vouched) {
                None if self.registry.is_vouched(mac, address, now) => Ok(None),
                _ => Ok(refusal),
            };
        }
        Ok(refusal)
    }

    /// Makes an asker wait who has tried too much, or gives it nothing. A phone that is what it says is served at once.
    async fn held_back(&self, request: &ConfigRequest, token: Option<&str>) -> Option<Fetched> {
        let (world, peer, now) = (self.world(), request.peer.ip(), SystemTime::now());
        let standing = self.guard.standing(peer, &world.settings.defence.rules(), now);
        if standing == Standing::Good || is_itself(&world, request, token, now) {
            return None;
        }
        let left = match standing {
            Standing::Locked(left) => left,
            _ => match self.late.try_acquire() {
                Ok(_turn) => {
                    tokio::time::sleep(guard::DELAY).await;
                    return None;
                }
                Err(_) => guard::DELAY,
            },
        };
        // Not at a level that whoever is locked out could fill a disk with.
        tracing::debug!(%peer, file = request.path, door = request.door.as_str(), outcome = "locked", "fetch");
        Some(Fetched::Locked { seconds: left.as_secs().max(1) })
    }

    /// Counts what somebody did that no phone does.
    pub(crate) fn count(&self, by: IpAddr, deed: Deed) {
        let world = self.world();
        let now = SystemTime::now();
        for lockout in self.guard.note(by, deed, &world.settings.defence.rules(), now) {
            let minutes = lockout.until.duration_since(now).unwrap_or_default().as_secs().div_ceil(60);
            let (source, why) = (lockout.source, lockout.why);
            // fail2ban reads `peer`.
            tracing::warn!(peer = %by, %source, minutes, times = lockout.times, reason = why, "locked out");
        }
    }

    /// Opens a phone for provisioning: for so long whoever asks first for its files gets them, as long as nobody else does. None closes
    /// it. False where it was never seen.
    pub fn open(&self, mac: MacAddr, time: Option<Duration>) -> bool {
        let until = time.map(|time| SystemTime::now() + time.min(LONGEST_OPEN));
        let opened = self.registry.open(mac, until.map(|until| Open { until, vouched: true, by: None }));
        if opened {
            let minutes = time.map_or(0, |time| u32::try_from(time.as_secs() / 60).unwrap_or(u32::MAX));
            tracing::info!(device = %mac, minutes, "opened for provisioning");
            self.record(Some(mac), Happening::Opened { minutes });
        }
        opened
    }

    /// Lets a phone fetch that is served in a window only: it was approved, or is told to fetch.
    pub fn expect(&self, mac: MacAddr) {
        let world = self.world();
        let record = self.registry.by_mac(mac);
        let Ok(offer) = world.files_of(mac, &progress::peer(mac, record.as_ref())) else { return };
        let Some(minutes) = offer.resolved.trust.window.filter(|minutes| *minutes > 0) else { return };
        let until = SystemTime::now() + Duration::from_secs(u64::from(minutes) * 60);
        let before = record.and_then(|record| record.open);
        if before.is_none_or(|open| open.until < until) {
            self.registry.open(mac, Some(Open { until, vouched: false, by: None }));
        }
    }

    /// Makes every token of a phone worthless; it gets another by NOTIFY.
    pub fn revoke(&self, mac: MacAddr) -> Result<(), TokenError> {
        self.world().tokens.revoke(mac)?;
        tracing::info!(device = %mac, "its tokens were revoked");
        Ok(())
    }

    /// Who asks: by its User-Agent, and by what the registry remembers of its MAC or its address.
    fn recognise(&self, told: &Told, from: IpAddr, local: IpAddr) -> Peer {
        let agent = &told.agent;
        let mac = mac_named(&told.routes).or(agent.mac).or_else(|| self.registry.by_address(from));
        let seen = mac.and_then(|mac| self.registry.look(mac, |record| record.identity.clone())).unwrap_or_default();
        // What this very request says of the sender counts more than what was seen before, unless it speaks for another phone.
        let own = agent.mac.is_none() || agent.mac == mac;
        let first = |of_agent: &Option<String>, seen: Option<String>| of_agent.clone().filter(|_| own).or(seen);
        Peer {
            identity: Identity {
                mac,
                vendor: seen.vendor,
                model: first(&agent.model, seen.model),
                firmware: first(&agent.firmware, seen.firmware),
                hardware: first(&agent.hardware, seen.hardware),
                user_agent: agent.user_agent.clone().or(seen.user_agent),
            },
            address: Some(from),
            interface: None,
            local,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is a field of the sighting, by its name")]
    fn observe(
        &self,
        world: &World,
        identity: Identity,
        door: Door,
        address: IpAddr,
        interface: Option<String>,
        local: IpAddr,
        relay: Option<Relay>,
    ) {
        let known = identity.mac.is_some_and(|mac| world.fleet.device(mac).is_some());
        let sighting = Sighting {
            identity,
            door: door.as_str(),
            announced: door == Door::Pnp,
            address: Some(address),
            interface,
            local: Some(local),
            relay,
            at: SystemTime::now(),
        };
        self.registry.observe(sighting, if known { State::Known } else { State::Pending });
    }

    pub(crate) fn record(&self, mac: Option<MacAddr>, what: Happening) {
        if let Some(mac) = mac {
            self.registry.record(mac, Event { at: SystemTime::now(), what });
        }
    }
}

/// A phone's turn to be told: one at a time for each, and not too many at once.
struct Turn<'a> {
    ordered: &'a Mutex<HashSet<MacAddr>>,
    mac: MacAddr,
}

impl<'a> Turn<'a> {
    fn take(ordered: &'a Mutex<HashSet<MacAddr>>, mac: MacAddr) -> Result<Turn<'a>, NotResynced> {
        // A set of addresses is whole whatever panicked beside it.
        let mut under_way = ordered.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.contains(&mac) {
            return Err(NotResynced::UnderWay);
        }
        if under_way.len() >= ORDERS {
            return Err(NotResynced::Full(ORDERS));
        }
        under_way.insert(mac);
        Ok(Turn { ordered, mac })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.mac);
    }
}

/// Writes down that nobody waited for a phone's answer, should that be so.
struct Abandoned<'a> {
    dispatch: &'a Dispatch,
    mac: MacAddr,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        let reason = "whoever gave the order did not wait for the answer".to_owned();
        self.dispatch.record(Some(self.mac), Happening::OrderFailed { reason });
    }
}

/// Where a phone may hear an order: where it said, and where phones listen that did not, or that said it of the socket from which they
/// announce themselves and nothing else.
fn targets(record: &Record) -> Result<Vec<SocketAddrV4>, NotResynced> {
    let host = match (record.contact, record.address.map(|address| address.to_canonical())) {
        (Some(contact), _) => *contact.ip(),
        (None, Some(IpAddr::V4(address))) => address,
        (None, Some(address @ IpAddr::V6(_))) => return Err(NotResynced::NotV4(address)),
        (None, None) => return Err(NotResynced::Unseen),
    };
    if !is_host(host) {
        return Err(NotResynced::Unseen);
    }
    let usual = SocketAddrV4::new(host, SIP_PORT);
    Ok(record.contact.into_iter().filter(|contact| *contact != usual).chain([usual]).collect())
}

/// The credentials of a line, if it has any.
fn account(line: &Line) -> Option<Account> {
    let user = line.auth_username.as_ref().or(line.username.as_ref()).or(line.number.as_ref())?;
    let password = line.password.as_ref().filter(|password| !password.is_empty())?;
    let realms = [&line.sip.domain, &line.sip.server].into_iter().flatten().cloned().collect();
    Some(Account { line: line.position.unwrap_or(1), user: user.clone(), password: password.clone(), realms })
}

/// Who says over multicast that it is a phone which, by the kernel's word, or that of the relay's, is somebody else. Where the kernel
/// does not know yet, the fetch will tell.
fn impostor(mac: MacAddr, trust: &Trust, heard: &Heard) -> Option<Refusal> {
    if trust.address.unwrap_or_default() != Asking::Phone {
        return None;
    }
    let address = IpAddr::V4(*heard.from.ip());
    let whence = match &heard.relay {
        None => neighbours::whence(address),
        Some(relay) => Whence::OnLink(relay.mac),
    };
    match whence {
        Whence::OnLink(Some(is)) if is != mac => Some(Refusal::OtherPhone { address, is }),
        _ => None,
    }
}

/// An answer, and what the log wants to know about it.
struct Decided {
    fetched: Fetched,
    device: Option<MacAddr>,
    vendor: Option<String>,
    /// The true reason, which the asker need not be told.
    reason: Option<String>,
    /// What it did not show.
    refusal: Option<Refusal>,
    /// It is what a phone gets that waits for its approval.
    is_waiting: bool,
    /// It had been made before.
    is_kept: bool,
    /// What counts against the asker.
    deed: Option<Deed>,
}

/// Whether whoever asks has shown to be the phone whose file it asks for, whatever was asked from its address before.
fn is_itself(world: &World, request: &ConfigRequest, token: Option<&str>, now: SystemTime) -> bool {
    let Some(mac) = mac_named(&world.shelf.routes(&request.path)) else { return false };
    let peer = request.peer.ip();
    world.fleet.device(mac).is_some()
        && (matches!(world.tokens.worth(token, mac, peer, now), Ok(Worth::Good))
            || request.proof.certificate.as_ref().is_some_and(|certificate| certificate.macs.contains(&mac))
            || neighbours::whence(peer) == Whence::OnLink(Some(mac)))
}

/// Whether a password in the clear is taken.
fn takes_basic(trust: &Trust, request: &ConfigRequest) -> bool {
    request.proof.encrypted || trust.credentials == Some(Authentication::Basic)
}

/// What a name and a User-Agent say by themselves.
fn told(world: &World, path: &str, agent: Option<&str>) -> Told {
    Told {
        routes: world.shelf.routes(path).into(),
        agent: agent
            .and_then(|agent| world.shelf.plugins().find_map(|plugin| plugin.spec.identify(agent)))
            .unwrap_or(Identity { user_agent: agent.map(str::to_owned), ..Identity::default() }),
    }
}

/// What a phone is told, and the vendor whose plugin words it. Kept for when it starts again, unless there is a token in it.
async fn say(memo: &Memo, peer: Peer, plan: Plan) -> Result<(String, Option<String>), String> {
    let (choice, announced, trust) = match plan {
        Plan::Forward { url } => return Ok((url, None)),
        Plan::Own { choice, announced, trust } => (choice, announced, Some(trust)),
        Plan::Bootstrap { choice, announced } => (choice, announced, None),
    };
    let vendor = choice.plugin.id.clone();
    let url = if choice.plugin.words_urls() {
        let plugin = Arc::clone(&choice.plugin);
        plugin.aside(move || choice.plugin.announce(&announced)).await.flatten()
    } else {
        choice.plugin.announce(&announced)
    };
    let url = url.map_err(|error| format!("no URL can be made for it: {error}"))?;
    if let (Some(trust), Some(mac)) = (trust, peer.identity.mac)
        && !world::has_token(&trust)
    {
        memo.speak(mac, Spoken { peer, url: url.clone(), vendor: vendor.clone(), trust: *trust });
    }
    Ok((url, Some(vendor)))
}

/// A file, and whether it had been made before.
async fn made(made: &Made, located: Located, modified: SystemTime) -> Result<(ConfigFile, bool), String> {
    let phone = &located.resolved.phone;
    let (content, book) = (Content::of(&located.plugin, located.file, phone), phone.book.clone());
    if let Some(file) = made.get(&content) {
        return Ok((ConfigFile { modified, ..file }, true));
    }
    let file = render(located, modified).await?;
    made.keep(content, file.clone(), book);
    Ok((file, false))
}

/// Libraries may take their time, so they are not waited for where other requests are served.
async fn render(located: Located, modified: SystemTime) -> Result<ConfigFile, String> {
    let located = Arc::new(located);
    let work = {
        let located = Arc::clone(&located);
        move || world::render(&located, modified)
    };
    // Nor is a list of thousands written out there.
    if located.resolved.phone.book.is_some() {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(format!("rendering was cut short: {error}")))
    } else {
        let done = located.plugin.aside(work).await;
        done.unwrap_or_else(|error| Err(world::in_words(&error, located.file(), &located.resolved)))
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
        let (token, path) = tokens::split(&request.path);
        let token = token.map(str::to_owned);
        let request = ConfigRequest { path: path.to_owned(), ..request };
        if let Some(locked) = self.held_back(&request, token.as_deref()).await {
            return locked;
        }
        let Decided { fetched, device, vendor, reason, refusal, is_waiting, is_kept, deed } =
            self.decide(&request, token.as_deref()).await;
        if let Some(deed) = deed {
            self.count(request.peer.ip(), deed);
        }
        let (outcome, bytes, digest) = match &fetched {
            _ if refusal.is_some() => ("refused", 0, String::new()),
            Fetched::Found(file) if is_waiting => (WAITING, file.body.len() as u64, file.etag.clone()),
            Fetched::Found(file) => (RENDERED, file.body.len() as u64, file.etag.clone()),
            Fetched::Asset(asset) => ("asset", asset.len, String::new()),
            Fetched::Unknown { .. } => ("unknown", 0, String::new()),
            Fetched::Refused { .. } | Fetched::Challenged { .. } | Fetched::Locked { .. } => {
                ("refused", 0, String::new())
            }
            Fetched::Failed { .. } => ("failed", 0, String::new()),
        };
        // What was served as an asset needs no reason why no plugin had it.
        let reason = reason.filter(|_| bytes == 0 && outcome != "asset");
        let shown = device.map(tracing::field::display);
        let (file, door, peer) = (request.path.as_str(), request.door.as_str(), request.peer.ip());
        let micros = began.elapsed().as_micros() as u64;
        // Told where there is something to tell.
        let encrypted = request.proof.encrypted.then_some(true);
        let certificate = request.proof.certificate.as_ref().map(|certificate| certificate.name.as_str());
        let via = request.proof.via.map(tracing::field::display);
        let kept = is_kept.then_some(true);
        if outcome == "failed" {
            tracing::error!(device = shown, vendor, file, door, %peer, via, encrypted, certificate, outcome, bytes, micros, kept, reason, "fetch");
        } else {
            tracing::info!(device = shown, vendor, file, door, %peer, via, encrypted, certificate, outcome, bytes, micros, kept, reason, "fetch");
        }
        let (door, outcome) = (door.into(), outcome.into());
        if let (Some(_), Some(reason)) = (refusal, reason) {
            // Who asks in a phone's name is not the phone: nothing of what the phone did changes.
            let from = request.peer.ip().to_canonical();
            self.record(device, Happening::Denied { door, file: file.to_owned(), from, reason });
            return fetched;
        }
        self.record(device, Happening::Fetched { door, file: file.to_owned(), outcome, bytes, digest, micros });
        fetched
    }
}

impl Dispatch {
    /// Silence to somebody who announces himself as a phone that he is not, without any trace in what is known of the phone but this.
    fn not_answered(&self, heard: &Heard, mac: MacAddr, refusal: &Refusal) -> Announcement {
        let reason = refusal.to_string();
        tracing::warn!(
            device = %mac,
            door = "pnp",
            peer = %heard.from,
            interface = heard.interface,
            outcome = "silence",
            reason,
            "subscribe"
        );
        let from = IpAddr::V4(*heard.from.ip());
        let (door, file) = (Door::Pnp.as_str().into(), "SUBSCRIBE".to_owned());
        self.record(Some(mac), Happening::Denied { door, file, from, reason: reason.clone() });
        Announcement::Silence { reason }
    }
}

impl Announcer for Dispatch {
    async fn announce(&self, heard: Heard) -> Announcement {
        let serving = self.serving.load_full();
        let world = &*serving.world;
        let relay = heard.relay.as_ref().map(|relay| relay.name.to_string());
        let peer = Peer {
            identity: heard.identity.clone(),
            address: Some(IpAddr::V4(*heard.from.ip())),
            interface: Some(heard.interface.clone()),
            local: IpAddr::V4(heard.local),
        };
        let known = heard.identity.mac.and_then(|mac| serving.memo.spoken(mac, &peer));
        let planned = if known.is_none() { Some(world.plan(&peer)) } else { None };
        let trust = match (&known, &planned) {
            (Some(known), _) => Some(&known.trust),
            (None, Some(Ok(Plan::Own { trust, .. }))) => Some(&**trust),
            _ => None,
        };
        if let (Some(trust), Some(mac)) = (trust, heard.identity.mac)
            && let Some(refusal) = impostor(mac, trust, &heard)
        {
            return self.not_answered(&heard, mac, &refusal);
        }
        // Who is asked about again has not spoken again.
        if !heard.again {
            self.observe(
                world,
                heard.identity.clone(),
                Door::Pnp,
                IpAddr::V4(*heard.from.ip()),
                Some(heard.interface.clone()),
                IpAddr::V4(heard.local),
                heard.relay.as_ref().map(|relay| Relay {
                    name: relay.name.to_string(),
                    seen: relay.mac.is_some() && relay.mac == heard.identity.mac,
                }),
            );
            if let Some(mac) = heard.identity.mac {
                self.registry.hears_at(mac, heard.contact);
            }
        }
        let told = match (known, planned) {
            (Some(known), _) => Ok((known.url.clone(), Some(known.vendor.clone()))),
            (None, Some(Ok(plan))) => say(&serving.memo, peer, plan).await,
            (None, Some(Err(reason))) => Err(reason),
            (None, None) => unreachable!("what is not known was planned"),
        };
        let device = heard.identity.mac;
        let (announcement, vendor) = match told {
            Ok((url, vendor)) => (Announcement::Url(url), vendor),
            Err(reason) => (Announcement::Silence { reason }, None),
        };
        let (outcome, url, reason) = match &announcement {
            Announcement::Url(url) => ("announced", tokens::masked(url), ""),
            Announcement::Silence { reason } => ("silence", "".into(), reason.as_str()),
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
            again = heard.again.then_some(true),
            outcome,
            url = &*url,
            reason,
            "subscribe"
        );
        self.record(
            device,
            match &announcement {
                Announcement::Url(_) => {
                    Happening::Announced { plugin: vendor.unwrap_or_else(|| "forward".into()), relay }
                }
                Announcement::Silence { reason } => Happening::Refused { reason: reason.clone(), relay },
            },
        );
        if device.is_some_and(|mac| world.fleet.device(mac).is_none()) && world.fleet.rules().len() > 0 {
            self.strangers.notify_one();
        }
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
        let (device, url) = (mac.map(tracing::field::display), &*tokens::masked(url));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phone_has_one_turn_and_there_are_so_many_and_no_more() {
        let ordered = Mutex::default();
        let mac = |number: usize| MacAddr::new([2, 0, 0, 0, (number / 256) as u8, (number % 256) as u8]);
        let mut turns: Vec<Turn> = (0..ORDERS).map(|number| Turn::take(&ordered, mac(number)).unwrap()).collect();
        assert!(matches!(Turn::take(&ordered, mac(0)), Err(NotResynced::UnderWay)));
        assert!(matches!(Turn::take(&ordered, mac(ORDERS)), Err(NotResynced::Full(ORDERS))));
        turns.pop();
        assert!(Turn::take(&ordered, mac(ORDERS)).is_ok());
    }
}
