//! An order to a phone: the NOTIFY outside of any dialog that makes it fetch again or reboot, from the first try to its last word.
//!
//! Each order has a socket of its own, so that answers cannot be mixed up, and ends within three times 32 s: one for the order, one for
//! the answer to a challenge, one for a challenge whose nonce had grown too old. Which phone, where, and with which event is the desk's
//! business; so is how many orders there are at a time.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    time::SystemTime,
};

use provost_plugin::{MacAddr, model::Secret};
use provost_sip::{Answer, Authorization, Challenge, Credentials, Message, NotAnswerable, Unsendable, Uri, compose};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use super::{
    exchange::{GIVE_UP, PRODUCT, T1, T2},
    interfaces,
    way::Way,
};

/// Characters kept of what a phone gives as its reason.
const REASON: usize = 80;

/// What a phone can be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resync {
    /// Fetch its files again. What phones do where these have changed is theirs: some take them as they run, most restart.
    Fetch,
    Reboot,
}

/// The phone has said that it will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resynced {
    /// The Event that it was told.
    pub event: String,
    pub status: u16,
    pub reason: String,
    /// Where it answered from.
    pub from: SocketAddrV4,
    /// It wanted to know who orders it about, and was content with the credentials of this line.
    pub line: Option<u16>,
    /// Before the first try: what it was seen doing since then may be its obedience.
    pub ordered: SystemTime,
}

impl fmt::Display for Resynced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {} to {}", self.from, self.status, self.event)?;
        match self.line {
            Some(line) => write!(f, ", content with the credentials of line {line}"),
            None => Ok(()),
        }
    }
}

/// Why a phone was not told, or will not do it.
#[derive(Debug, thiserror::Error)]
pub enum NotResynced {
    #[error("{0} is not in the inventory, and only phones of ours are told what to do")]
    Unknown(MacAddr),
    #[error(
        "nobody knows where it is: it has neither announced itself nor fetched anything since this server was started"
    )]
    Unseen,
    #[error("it was last seen at {0}, and phones are told over IPv4 only")]
    NotV4(IpAddr),
    /// Whose phone it is, or what its settings are, cannot be said.
    #[error("what to tell it cannot be settled: {0}")]
    Unsettled(String),
    #[error("it is being told already; whoever asked first hears what comes of it")]
    UnderWay,
    #[error("too many phones are being told at the moment ({0}); try again in half a minute")]
    Full(usize),
    #[error("cannot send to {to}: {source}")]
    Unsent { to: SocketAddrV4, source: io::Error },
    #[error("cannot write the NOTIFY: {0}")]
    Unsendable(#[from] Unsendable),
    #[error(
        "no answer within {} s from {}: it may be off, restarting, at another address by now, or deaf to NOTIFYs of strangers",
        GIVE_UP.as_secs(),
        .tried.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    )]
    TimedOut { tried: Vec<SocketAddrV4> },
    #[error("{from} answered {status} {reason}: {}", meaning(*.status))]
    Refused { from: SocketAddrV4, status: u16, reason: String },
    #[error("it wants to know who orders it about, and cannot be answered: {0}")]
    Unanswerable(#[from] NotAnswerable),
    #[error("it wants the password of an account (realm {realm:?}), and none of its lines has one here")]
    NoCredentials { realm: String },
    #[error(
        "the phone refuses the credentials of line {line} (realm {realm:?}); it may still run on older ones, until it next fetches by itself"
    )]
    CredentialsRefused { line: u16, realm: String },
}

/// What a status says to somebody who wanted a phone to fetch again.
fn meaning(status: u16) -> &'static str {
    match status {
        300..400 => "it points elsewhere, and a phone's orders are not sent where it points",
        400 => "it does not understand the NOTIFY",
        403 => "its settings, or the credentials, do not allow it",
        404 | 410 | 604 => "it knows no account of the name that the NOTIFY was addressed to",
        405 | 501 => "it takes no NOTIFYs at all",
        480 | 486 | 600 => "it is busy; try again when its call is over",
        481 => {
            "it takes NOTIFYs only within a subscription of its own; most such phones have a setting that allows others"
        }
        489 => "it does not know this event; its firmware may want another, or a setting that switches it on",
        503 => "it is not ready; try again in a moment",
        500..600 => "something in it has failed",
        _ => "it will not",
    }
}

/// Credentials that the phone knows too.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Position of the line.
    pub(crate) line: u16,
    pub(crate) user: String,
    pub(crate) password: Secret,
    /// What a realm that means this account may be called: its domain and its server.
    pub(crate) realms: Vec<String>,
}

/// All that an order needs.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) event: String,
    /// Where the phone may hear it, in turns; of one host, and at least one.
    pub(crate) targets: Vec<SocketAddrV4>,
    /// The interface that heard it.
    pub(crate) interface: Option<String>,
    /// Whom it addresses: some phones look for the account.
    pub(crate) user: Option<String>,
    pub(crate) accounts: Vec<Account>,
}

impl Order {
    /// Tells the phone, and returns when it has given its last word, or none.
    pub(crate) async fn give(&self) -> Result<Resynced, NotResynced> {
        let ordered = SystemTime::now();
        let mut targets = self.targets.clone();
        let first = *targets.first().ok_or(NotResynced::Unseen)?;
        let unsent = |source| NotResynced::Unsent { to: first, source };
        let network = interfaces::list().map_err(unsent)?;
        let way = Way::to(*first.ip(), self.interface.as_deref(), &network).map_err(unsent)?;
        let socket = UdpSocket::bind((way.local, 0)).await.map_err(unsent)?;
        let line = Line { local: socket.local_addr().map_err(unsent)?, socket, way };

        let target = match &self.user {
            Some(user) => Uri::user_at(user, first.into()),
            None => Uri::at(first.into()),
        };
        let (call_id, tag) = (token(), token());
        let mut authorization = None;
        let mut answered_for = None;
        let mut may_be_stale = true;
        let mut cseq = 0;
        loop {
            cseq += 1;
            let branch = format!("z9hG4bK{}", token());
            let message = compose::Unsolicited {
                target: &target,
                local: line.local,
                from: None,
                tag: &tag,
                branch: &branch,
                call_id: &call_id,
                cseq,
                product: PRODUCT,
            };
            let notify = match &authorization {
                None => compose::check_sync(&message, &self.event)?,
                Some(authorization) => compose::check_sync_again(&message, &self.event, authorization)?,
            };
            let said = line.converse(&notify, &targets, |answer| answer.answers(&branch, &call_id, cseq)).await?;
            let (status, reason, from) = (said.answer.status, plain(&said.answer.reason), said.from);
            if said.answer.is_success() {
                return Ok(Resynced { event: self.event.clone(), status, reason, from, line: answered_for, ordered });
            }
            let Some(challenge) = said.challenge else { return Err(NotResynced::Refused { from, status, reason }) };
            let challenge = challenge?;
            let account = self.account_for(&challenge)?;
            if let Some(line) = answered_for {
                // A nonce may grow too old once. A second time is no bad luck any more.
                if !challenge.is_stale() || !std::mem::take(&mut may_be_stale) {
                    return Err(NotResynced::CredentialsRefused { line, realm: plain(&challenge.realm()) });
                }
            }
            authorization = Some(answer(account, &challenge, &target)?);
            answered_for = Some(account.line);
            // Where it answered, it hears.
            targets.sort_by_key(|target| *target != from);
        }
    }

    /// The account that the realm names, else the first: the one to which the order is addressed.
    fn account_for(&self, challenge: &Challenge) -> Result<&Account, NotResynced> {
        let realm = challenge.realm();
        let fits = |account: &&Account| account.realms.iter().any(|known| known.eq_ignore_ascii_case(&realm));
        self.accounts
            .iter()
            .find(fits)
            .or(self.accounts.first())
            .ok_or_else(|| NotResynced::NoCredentials { realm: plain(&realm) })
    }
}

fn answer(account: &Account, challenge: &Challenge, target: &Uri) -> Result<Authorization, NotAnswerable> {
    let credentials = Credentials { user: &account.user, password: account.password.expose() };
    challenge.answer(&credentials, "NOTIFY", target.target(), &token())
}

/// Our end of an order.
struct Line {
    socket: UdpSocket,
    local: SocketAddr,
    way: Way,
}

/// A phone's last word on one request.
struct Said {
    answer: Answer,
    /// In a 401 or 407.
    challenge: Option<Result<Challenge, NotAnswerable>>,
    from: SocketAddrV4,
}

impl Line {
    /// Sends a request until it is answered for good (RFC 3261 §17.1.2, timers E and F), to the targets in turns.
    async fn converse(
        &self,
        request: &[u8],
        targets: &[SocketAddrV4],
        is_ours: impl Fn(&Answer) -> bool,
    ) -> Result<Said, NotResynced> {
        let give_up = Instant::now() + GIVE_UP;
        let mut interval = T1;
        let mut buffer = vec![0; provost_sip::MAX_DATAGRAM + 1];
        for (sent, &to) in targets.iter().cycle().enumerate() {
            match self.way.send(&self.socket, request, to).await {
                Ok(()) => {}
                // If not even the first one leaves this machine, there is nothing to wait for.
                Err(source) if sent == 0 => return Err(NotResynced::Unsent { to, source }),
                Err(error) => tracing::debug!(%to, %error, "cannot send"),
            }
            let at = (Instant::now() + interval).min(give_up);
            interval = (interval * 2).min(T2);
            // The time is looked at after each datagram too: whoever floods the socket must not stretch it.
            while Instant::now() < at {
                let (length, from) = match timeout_at(at, self.socket.recv_from(&mut buffer)).await {
                    Err(_) => break,
                    Ok(Ok(received)) => received,
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "cannot receive an answer");
                        continue;
                    }
                };
                // Only the phone itself may answer. Its port may be another: phones answer from where they listen.
                let SocketAddr::V4(from) = from else { continue };
                let Some(said) = read(&buffer[..length], from).filter(|_| from.ip() == to.ip()) else { continue };
                if !is_ours(&said.answer) {
                    continue;
                }
                if said.answer.is_final() {
                    return Ok(said);
                }
                interval = T2;
            }
            if Instant::now() >= give_up {
                break;
            }
        }
        Err(NotResynced::TimedOut { tried: targets.to_vec() })
    }
}

fn read(bytes: &[u8], from: SocketAddrV4) -> Option<Said> {
    let Ok(Message::Response(response)) = provost_sip::read(bytes) else { return None };
    let answer = Answer::from_response(&response).ok()?;
    let challenge = matches!(answer.status, 401 | 407).then(|| Challenge::from_response(&response));
    Some(Said { answer, challenge, from })
}

/// A phone's words, short and without what would play tricks on a terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(REASON).collect()
}

/// A token that nobody else uses and nobody can guess.
fn token() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Whether `host` is worth a try: a phone is one host, and that no group and not everybody.
pub(crate) fn is_host(host: Ipv4Addr) -> bool {
    !host.is_unspecified() && !host.is_multicast() && !host.is_broadcast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_phones_say_is_told_in_words_and_without_tricks() {
        let from = "192.0.2.9:5060".parse().unwrap();
        let refused = |status, reason: &str| NotResynced::Refused { from, status, reason: plain(reason) }.to_string();
        assert_eq!(
            refused(489, "Bad Event\u{1b}[2J"),
            "192.0.2.9:5060 answered 489 Bad Event[2J: it does not know this event; its firmware may want another, or a setting \
             that switches it on"
        );
        assert!(refused(481, "x").contains("subscription") && refused(699, "").ends_with("it will not"));
        let tried = vec!["192.0.2.9:5062".parse().unwrap(), from];
        let silent = NotResynced::TimedOut { tried }.to_string();
        assert!(silent.starts_with("no answer within 32 s from 192.0.2.9:5062 and 192.0.2.9:5060: "), "{silent}");
    }

    #[test]
    fn an_order_shows_no_password() {
        let account = Account { line: 1, user: "101".into(), password: Secret::new("hunter2"), realms: vec![] };
        assert!(!format!("{account:?}").contains("hunter2"));
    }
}
