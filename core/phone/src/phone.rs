//! One phone's life: boot, announce itself, be told a URL, fetch; then, if asked to, stay and do what the server orders.

use std::{
    collections::{VecDeque, hash_map::RandomState},
    hash::{BuildHasher, Hasher},
    net::{Ipv4Addr, SocketAddrV4},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use provost_plugin::{MacAddr, spec::Simulation};
use tokio::time::{Instant, timeout_at};

use crate::{
    challenge::{Challenge, Guard},
    fetch::{Fetched, Fetcher},
    outcome::{Failure, Outcome, Resync},
    placeholders::Words,
    signalling::{Endpoint, Event},
    url::Scheme,
};

/// Where files are fetched from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Door {
    /// Where the URL says.
    #[default]
    AsTold,
    /// From the server that the URL names, over this protocol and port; its path stays.
    Over { scheme: Scheme, port: u16 },
}

/// What differs from one phone of a kind to the next, and from one network to the next.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it sends from. Address 0.0.0.0: the one that leads to the group. Port 0: any.
    pub source: SocketAddrV4,
    /// The port in its Contact, on which it then listens too. None: the port that it sends from. A simulation whose text holds no
    /// `{port}` says 5060 to the server in any case; give 5060 here (or as the source) for a phone that hears what is sent there.
    pub contact_port: Option<u16>,
    pub group: SocketAddrV4,
    /// The URL is known already (from DHCP, or from an earlier boot): fetch without announcing.
    pub url: Option<String>,
    pub door: Door,
    /// In place of what the simulation says.
    pub tries: Option<u8>,
    pub retry: Option<Duration>,
    /// How long it waits for a NOTIFY after the answer to its SUBSCRIBE, or after its last SUBSCRIBE.
    pub patience: Duration,
    /// How often it boots until it is configured.
    pub boots: u32,
    /// Between two boots.
    pub boot_pause: Duration,
    /// How often an HTTP request is made that fails or meets a busy server.
    pub fetch_tries: u32,
    /// For one of them.
    pub fetch_timeout: Duration,
    /// Between two of them, and before a TFTP packet is sent again.
    pub fetch_pause: Duration,
    /// TFTP `blksize` that it asks for.
    pub block_size: u16,
    /// Whether the report holds what the files hold.
    pub keep_bodies: bool,
    /// How long it answers retransmitted NOTIFYs after its report is written.
    pub linger: Duration,
    /// Once configured it stays until it has obeyed this many orders to fetch again, at most for `stay`.
    pub resyncs: usize,
    pub stay: Duration,
    /// It obeys those orders only that prove the password of an account.
    pub challenge: Option<Challenge>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
            contact_port: None,
            group: SocketAddrV4::new(Ipv4Addr::new(224, 0, 1, 75), 5060),
            url: None,
            door: Door::AsTold,
            tries: None,
            retry: None,
            patience: Duration::from_secs(10),
            boots: 1,
            boot_pause: Duration::from_secs(1),
            fetch_tries: 3,
            fetch_timeout: Duration::from_secs(20),
            fetch_pause: Duration::from_secs(1),
            block_size: 512,
            keep_bodies: true,
            linger: Duration::from_secs(2),
            resyncs: 0,
            stay: Duration::from_secs(30),
            challenge: None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Phone {
    simulation: Simulation,
    mac: MacAddr,
    options: Options,
}

/// What a boot needs and leaves behind.
struct Life {
    endpoint: Endpoint,
    words: Words,
    /// Orders that came while something else was being done.
    orders: VecDeque<Order>,
    outcome: Outcome,
}

/// From a configured phone's point of view.
struct Order {
    event: String,
    /// The URL of a further NOTIFY of `ua-profile`.
    url: Option<String>,
}

impl Phone {
    pub fn new(simulation: &Simulation, mac: MacAddr, options: Options) -> Phone {
        Phone { simulation: simulation.clone(), mac, options }
    }

    /// Lives until it is configured (and has stayed as long as the options say) or has given up. Every wait in it has an end.
    pub async fn run(self) -> Outcome {
        let started = Instant::now();
        let outcome = Outcome::new(self.mac, &self.simulation.model, &self.simulation.firmware);
        let mut endpoint = match Endpoint::bind(self.options.source, self.options.contact_port, self.options.group) {
            Ok(endpoint) => endpoint,
            Err(source) => {
                let act = format!("bind the SIP socket to {}", self.options.source);
                return Outcome { error: Some(Failure::Socket { act, source }), ..outcome };
            }
        };
        endpoint.guard = self.options.challenge.clone().map(Guard::new);
        let words = Words::new(&self.simulation, self.mac, endpoint.ip(), endpoint.contact_port());
        let mut life = Life { endpoint, words, orders: VecDeque::new(), outcome };
        for boot in 1..=self.options.boots.max(1) {
            if boot > 1 {
                tokio::time::sleep(self.options.boot_pause).await;
            }
            life.outcome.boots = boot;
            life.outcome.error = self.boot(&mut life).await.err();
            if life.outcome.error.is_none() {
                life.outcome.configured = true;
                break;
            }
        }
        life.outcome.elapsed = started.elapsed();
        if life.outcome.configured && self.options.resyncs > 0 {
            self.stay(&mut life).await;
        }
        self.leave(life)
    }

    async fn boot(&self, life: &mut Life) -> Result<(), Failure> {
        life.outcome.answered = None;
        life.outcome.notified = None;
        life.outcome.files.clear();
        let url = match &self.options.url {
            Some(url) => url.clone(),
            None if self.simulation.subscribe.is_empty() => {
                return Err(Failure::Untold { model: self.simulation.model.clone() });
            }
            None => self.announce(life).await?,
        };
        let (files, configured) = self.fetch(life, &url).await?;
        let asked = files.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        life.outcome.files = files;
        if configured { Ok(()) } else { Err(Failure::Unconfigured { asked }) }
    }

    /// Sends the SUBSCRIBE until it is answered, and waits for the NOTIFY, which may come before, after or without the answer.
    async fn announce(&self, life: &mut Life) -> Result<String, Failure> {
        life.words.number = number();
        let subscribe = life.words.subscribe(&self.simulation.subscribe);
        life.endpoint
            .open(&subscribe)
            .map_err(|why| Failure::Simulation { model: self.simulation.model.clone(), why })?;
        let tries = u32::from(self.options.tries.unwrap_or(self.simulation.tries));
        let retry =
            self.options.retry.unwrap_or(Duration::try_from_secs_f32(self.simulation.retry).unwrap_or_default());
        let mut sent = 0;
        let mut until = Instant::now();
        loop {
            if life.outcome.answered.is_none() && sent < tries && Instant::now() >= until {
                life.endpoint.send(&subscribe).await.map_err(|source| {
                    let act = format!("send a SUBSCRIBE from {} to {}", life.words.ip, self.options.group);
                    Failure::Socket { act, source }
                })?;
                sent += 1;
                life.outcome.announced += 1;
                until = Instant::now() + if sent < tries { retry } else { self.options.patience };
            }
            match timeout_at(until, life.endpoint.next()).await {
                Ok(Event::Profile(url)) => {
                    life.outcome.notified = Some(url.clone());
                    return Ok(url);
                }
                // Phones stop at a 2xx and at a 5xx; what lies between they take for an answer to somebody else.
                Ok(Event::Answer(code)) if life.outcome.answered.is_none() && !(300..500).contains(&code) => {
                    life.outcome.answered = Some(code);
                    until = Instant::now() + self.options.patience;
                }
                Ok(Event::Answer(_)) => {}
                Ok(Event::Order(event)) => tracing::debug!(event, "an order to a phone that has no URL yet"),
                Err(_) if life.outcome.answered.is_none() && sent < tries => {}
                Err(_) => {
                    return Err(match life.outcome.answered {
                        None => Failure::Unheard { sent },
                        Some(code) if code >= 500 => Failure::Refused { code },
                        Some(code) => Failure::Unnotified { code },
                    });
                }
            }
        }
    }

    /// Fetches, and goes on listening meanwhile: a NOTIFY whose acknowledgement was lost comes again.
    async fn fetch(&self, life: &mut Life, url: &str) -> Result<(Vec<Fetched>, bool), Failure> {
        let mut fetcher =
            Fetcher { simulation: &self.simulation, options: &self.options, words: &life.words, findings: Vec::new() };
        let fetched = {
            let fetching = fetcher.fetch(url);
            tokio::pin!(fetching);
            loop {
                tokio::select! {
                    fetched = &mut fetching => break fetched,
                    event = life.endpoint.next() => life.orders.extend(order(event, &mut life.outcome)),
                }
            }
        };
        life.outcome.find(fetcher.findings);
        fetched.map_err(|why| Failure::Url { url: url.to_owned(), why })
    }

    async fn stay(&self, life: &mut Life) {
        let until = Instant::now() + self.options.stay;
        while life.outcome.resyncs.len() < self.options.resyncs {
            let Some(order) = life.orders.pop_front() else {
                match timeout_at(until, life.endpoint.next()).await {
                    Ok(event) => life.orders.extend(order(event, &mut life.outcome)),
                    Err(_) => break,
                }
                continue;
            };
            if order.event.contains("reboot=true") {
                // A reboot forgets a URL that came by PnP.
                life.outcome.boots += 1;
                life.outcome.error = self.boot(life).await.err();
                let files = life.outcome.files.clone();
                life.outcome.resyncs.push(Resync { event: order.event, files });
                continue;
            }
            let known = || life.outcome.notified.clone().or_else(|| self.options.url.clone());
            let Some(url) = order.url.or_else(known) else { continue };
            match self.fetch(life, &url).await {
                Ok((files, _)) => life.outcome.resyncs.push(Resync { event: order.event, files }),
                Err(failure) => {
                    life.outcome.error = Some(failure);
                    break;
                }
            }
        }
    }

    /// Hands over the report and leaves the socket open for a while: the server should not take a phone for dead whose last
    /// acknowledgement was lost.
    fn leave(&self, life: Life) -> Outcome {
        let Life { mut endpoint, mut outcome, .. } = life;
        outcome.notifies = endpoint.notifies;
        outcome.find(std::mem::take(&mut endpoint.findings));
        outcome.challenged = endpoint.guard.as_ref().map(|guard| guard.challenged.clone()).unwrap_or_default();
        let until = Instant::now() + self.options.linger;
        if endpoint.notifies > 0 && !self.options.linger.is_zero() {
            tokio::spawn(async move { while timeout_at(until, endpoint.next()).await.is_ok() {} });
        }
        outcome
    }
}

/// What an event means to a phone that already has a URL.
fn order(event: Event, outcome: &mut Outcome) -> Option<Order> {
    match event {
        Event::Answer(code) => {
            outcome.answered.get_or_insert(code);
            None
        }
        // The same URL in a further transaction is a server that sent its NOTIFY twice, not an order.
        Event::Profile(url) if outcome.notified.as_ref() == Some(&url) => None,
        Event::Profile(url) => Some(Order { event: "ua-profile".into(), url: Some(url) }),
        Event::Order(event) => Some(Order { event, url: None }),
    }
}

/// New at each boot, in this process and most likely in the next one too: servers keep old transactions for half a minute.
fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static START: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    let start = *START.get_or_init(|| RandomState::new().build_hasher().finish() as u32);
    // Below 2³¹, as in the captures: it stands where phones print a signed number.
    start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) & 0x7fff_ffff
}
