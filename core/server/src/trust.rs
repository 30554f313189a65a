//! Whether an asker has shown what its phone has to show: the rungs of the trust ladder, each a requirement of its own. Knows what was
//! shown and asks nobody.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use provost_plugin::{
    MacAddr,
    model::{Asking, Authentication, TftpFiles, TokenUse, Trust},
};

use crate::{guard::Deed, login::Login, neighbours::Whence, request::ClientCertificate, tokens::Worth};

/// What an asker has shown.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    pub address: IpAddr,
    pub whence: Whence,
    /// It came through another server that is not named as one of ours, so its address says nothing.
    pub relayed: bool,
    /// From where the phone announced itself last.
    pub announced_from: Option<IpAddr>,
    /// The kernel of a relay in its subnet had its own MAC address behind this address when it announced itself from here, and nobody
    /// else has since.
    pub seen_by_relay: bool,
    pub token: Worth,
    pub login: Login,
    pub certificate: Option<&'a ClientCertificate>,
    pub encrypted: bool,
    pub tftp: bool,
    pub now: SystemTime,
    /// Until when the phone's window is open.
    pub open_until: Option<SystemTime>,
    /// Somebody answers for whoever asks, until then; the first address that asked is the one that may go on.
    pub vouched: bool,
}

/// The rung that an asker did not climb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Tftp,
    Unencrypted,
    Certificate(Option<String>),
    TokenMissing,
    TokenOver,
    TokenWrong,
    Closed { since: Option<SystemTime>, now: SystemTime },
    NotFromThere { address: IpAddr, announced: Option<IpAddr>, whence: Whence },
    OtherPhone { address: IpAddr, is: MacAddr },
    Unproven { address: IpAddr, relayed: bool },
    Unresolved { address: IpAddr },
    Login(Login),
}

impl Refusal {
    /// Whether a client may come back with an answer to a challenge, and whether its last one was only too late.
    pub fn challenge(&self) -> Option<bool> {
        match self {
            Refusal::Login(login) => Some(*login == Login::Stale),
            _ => None,
        }
    }

    /// What counts against whoever asked for the file of this phone.
    pub fn deed(&self, mac: MacAddr) -> Deed {
        match self {
            Refusal::TokenWrong => Deed::WrongToken,
            Refusal::Certificate(Some(_)) => Deed::WrongCertificate,
            Refusal::Login(Login::Wrong) => Deed::WrongPassword,
            // Its own phone may ask so too, but for one alone.
            _ => Deed::Impostor(mac),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Tftp => f.write_str("over TFTP it is not given this file (trust.tftp)"),
            Refusal::Unencrypted => f.write_str("it has to ask over HTTPS (trust.encrypted)"),
            Refusal::Certificate(None) => f.write_str("it has to show a certificate over HTTPS (trust.certificate)"),
            Refusal::Certificate(Some(name)) => {
                write!(f, "the certificate of \"{name}\" does not name this phone's MAC address (trust.certificate)")
            }
            Refusal::TokenMissing => f.write_str(
                "its URL has no token (trust.token: required); it gets one by NOTIFY, or while it is opened",
            ),
            Refusal::TokenOver => f.write_str(
                "the token in its URL is over; it gets another by NOTIFY when it starts, or while it is opened",
            ),
            Refusal::TokenWrong => f.write_str("the token in its URL is not this phone's, or was revoked"),
            Refusal::Closed { since: None, .. } => f.write_str(
                "it was not opened yet (trust.window): approve it again, tell it to fetch again, or open it",
            ),
            Refusal::Closed { since: Some(since), now } => {
                let minutes = now.duration_since(*since).unwrap_or_default().as_secs() / 60;
                write!(f, "its window closed {minutes} min ago (trust.window): tell it to fetch again, or open it")
            }
            Refusal::NotFromThere { address, announced: Some(announced), whence } => {
                write!(f, "{address} ({whence}) asked for it, and it announced itself from {announced} (trust.address)")
            }
            Refusal::NotFromThere { address, announced: None, whence } => {
                write!(f, "{address} ({whence}) asked for it, and it has not announced itself (trust.address)")
            }
            Refusal::OtherPhone { address, is } => write!(
                f,
                "{address} asked for it, and behind that address is {is}, which is not this phone (trust.address: phone); where that is the phone all the same, as over its WLAN, write trust.address: announced"
            ),
            Refusal::Unproven { address, relayed: false } => write!(
                f,
                "{address} asked for it from beyond a router, where its MAC address cannot be seen: run a relay there, open it, give it a token, credentials or a certificate, or write trust.address: anywhere for that network"
            ),
            Refusal::Unproven { address, relayed: true } => write!(
                f,
                "{address} asked for it on behalf of somebody else: name that proxy in http.proxies if it is yours"
            ),
            Refusal::Unresolved { address } => write!(
                f,
                "{address} asked for it, and the kernel does not know the MAC address behind it (trust.address: phone)"
            ),
            Refusal::Login(Login::Missing) => f.write_str("it did not send credentials (trust.credentials)"),
            Refusal::Login(Login::Stale) => f.write_str("its credentials were made for a challenge that is over"),
            Refusal::Login(Login::Plain) => {
                f.write_str("it sent its password in the clear, and only Digest is taken (trust.credentials: digest)")
            }
            Refusal::Login(_) => f.write_str("its credentials are wrong (trust.credentials)"),
        }
    }
}

/// Which rung keeps an asker from a phone's own file; none if all are climbed.
pub fn refusal(mac: MacAddr, trust: &Trust, shown: &Shown) -> Option<Refusal> {
    if let Some(refusal) = way(trust, shown) {
        return Some(refusal);
    }
    let names_it = shown.certificate.is_some_and(|certificate| certificate.macs.contains(&mac));
    if trust.certificate == Some(true) && !names_it {
        return Some(Refusal::Certificate(shown.certificate.map(|certificate| certificate.name.clone())));
    }
    // One that shows a token shows a good one, whatever else is asked for: a wrong one is no accident.
    if shown.token == Worth::Wrong {
        return Some(Refusal::TokenWrong);
    }
    if shown.vouched {
        return None;
    }
    if trust.window.is_some_and(|minutes| minutes > 0) && shown.open_until.is_none_or(|until| until < shown.now) {
        return Some(Refusal::Closed { since: shown.open_until, now: shown.now });
    }
    if trust.token == Some(TokenUse::Required) {
        match shown.token {
            Worth::None => return Some(Refusal::TokenMissing),
            Worth::Over => return Some(Refusal::TokenOver),
            Worth::Wrong | Worth::Good => {}
        }
    }
    let logs_in = !matches!(trust.credentials.unwrap_or_default(), Authentication::Off);
    if logs_in && shown.login != Login::Good {
        return Some(Refusal::Login(shown.login));
    }
    let is_proven = names_it || shown.token == Worth::Good || logs_in;
    from(mac, trust, shown, is_proven)
}

/// What holds for every file, whosever it is.
pub fn way(trust: &Trust, shown: &Shown) -> Option<Refusal> {
    if shown.tftp && trust.tftp == Some(TftpFiles::Nothing) {
        Some(Refusal::Tftp)
    } else if trust.encrypted == Some(true) && !shown.encrypted {
        Some(Refusal::Unencrypted)
    } else {
        None
    }
}

/// Whether it may ask from where it is. `is_proven`: it has shown something that only the phone has.
pub fn from(mac: MacAddr, trust: &Trust, shown: &Shown, is_proven: bool) -> Option<Refusal> {
    let address = shown.address;
    let asking = trust.address.unwrap_or_default();
    if asking == Asking::Anywhere {
        return None;
    }
    if shown.relayed {
        return (!is_proven).then_some(Refusal::Unproven { address, relayed: true });
    }
    match (asking, shown.whence) {
        // Whoever is on this machine could read more than one phone's file.
        (_, Whence::Here) => None,
        (_, Whence::OnLink(Some(is))) if is == mac => None,
        (Asking::Announced, _) if shown.announced_from == Some(address) => None,
        (_, Whence::Beyond) if is_proven || shown.seen_by_relay => None,
        (Asking::Announced, whence) => Some(Refusal::NotFromThere { address, announced: shown.announced_from, whence }),
        (_, Whence::OnLink(Some(is))) => Some(Refusal::OtherPhone { address, is }),
        (_, Whence::OnLink(None)) => Some(Refusal::Unresolved { address }),
        (_, Whence::Beyond) => Some(Refusal::Unproven { address, relayed: false }),
    }
}

/// What a phone has to show, for people.
pub fn in_words(trust: &Trust) -> Vec<String> {
    let mut words = vec![match trust.address.unwrap_or_default() {
        Asking::Anywhere => "whoever knows its MAC address may ask, from anywhere".to_owned(),
        Asking::Announced => "it has to ask from where it announced itself, or with its own MAC address".to_owned(),
        Asking::Phone => {
            "it has to ask with its own MAC address; from beyond a router with something that only it has, or from where a relay has seen it".to_owned()
        }
    }];
    match trust.token.unwrap_or_default() {
        TokenUse::Off => {}
        TokenUse::Offered => words.push("its URLs have a token".to_owned()),
        TokenUse::Required => words.push("its URLs have to have their token".to_owned()),
    }
    if let Some(minutes) = trust.window.filter(|minutes| *minutes > 0) {
        words.push(format!("it is served for {minutes} min after it was approved, told to fetch again, or opened"));
    }
    match trust.credentials.unwrap_or_default() {
        Authentication::Off => {}
        Authentication::Digest => words.push("it has to log in by Digest, over HTTPS by Basic too".to_owned()),
        Authentication::Basic => words.push("it has to log in, by Digest or Basic".to_owned()),
    }
    if trust.certificate == Some(true) {
        words.push("it has to show a certificate that names it".to_owned());
    }
    if trust.encrypted == Some(true) {
        words.push("it has to ask over HTTPS".to_owned());
    }
    match trust.tftp.unwrap_or_default() {
        TftpFiles::Everything => {}
        TftpFiles::WithoutSecrets => words.push("over TFTP it is given files without passwords".to_owned()),
        TftpFiles::Nothing => words.push("over TFTP it is given nothing".to_owned()),
    }
    words
}

/// How long somebody may answer for a phone, at most.
pub const LONGEST_OPEN: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr::new([0, 4, 0x13, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr::new([0, 4, 0x13, 0, 0, 2]);

    fn shown(whence: Whence) -> Shown<'static> {
        Shown {
            address: [10, 0, 0, 7].into(),
            whence,
            relayed: false,
            announced_from: None,
            seen_by_relay: false,
            token: Worth::None,
            login: Login::Missing,
            certificate: None,
            encrypted: false,
            tftp: false,
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(10_000),
            open_until: None,
            vouched: false,
        }
    }

    fn trust(yaml: serde_json::Value) -> Trust {
        serde_json::from_value(yaml).unwrap()
    }

    #[test]
    fn where_nobody_says_anything_a_phone_asks_with_its_own_mac() {
        let said = |shown: &Shown| refusal(MAC, &Trust::default(), shown);
        assert_eq!(said(&shown(Whence::OnLink(Some(MAC)))), None);
        assert!(matches!(said(&shown(Whence::OnLink(Some(OTHER)))), Some(Refusal::OtherPhone { is: OTHER, .. })));
        assert!(matches!(said(&shown(Whence::OnLink(None))), Some(Refusal::Unresolved { .. })));
        assert!(matches!(said(&shown(Whence::Beyond)), Some(Refusal::Unproven { relayed: false, .. })));
        assert_eq!(said(&shown(Whence::Here)), None);
        let relayed = Shown { relayed: true, ..shown(Whence::Here) };
        assert!(matches!(said(&relayed), Some(Refusal::Unproven { relayed: true, .. })));
        let seen = Shown { seen_by_relay: true, ..shown(Whence::Beyond) };
        assert_eq!(said(&seen), None, "a relay's kernel has seen what ours cannot");
        assert!(said(&Shown { whence: Whence::OnLink(Some(OTHER)), ..seen.clone() }).is_some(), "ours knows better");
        assert!(said(&Shown { relayed: true, ..seen }).is_some());
        let with_token = Shown { token: Worth::Good, ..shown(Whence::Beyond) };
        assert_eq!(said(&with_token), None);
        // A stolen token is no good in another phone's hands on the same network.
        let stolen = Shown { token: Worth::Good, ..shown(Whence::OnLink(Some(OTHER))) };
        assert!(said(&stolen).is_some());
        assert_eq!(said(&Shown { token: Worth::Wrong, ..shown(Whence::Here) }), Some(Refusal::TokenWrong));
        assert_eq!(said(&Shown { vouched: true, ..shown(Whence::Beyond) }), None);
    }

    #[test]
    fn every_rung_is_asked_for() {
        let here = shown(Whence::Here);
        let said = |rungs: serde_json::Value, shown: &Shown| refusal(MAC, &trust(rungs), shown);
        let certificate = ClientCertificate { name: "desk phone".into(), macs: vec![OTHER], issuer: "CA".into() };
        let own = ClientCertificate { macs: vec![MAC], ..certificate.clone() };
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(said(json(r#"{"encrypted": true}"#), &here), Some(Refusal::Unencrypted));
        assert_eq!(said(json(r#"{"encrypted": true}"#), &Shown { encrypted: true, ..here.clone() }), None);
        assert_eq!(said(json(r#"{"tftp": "nothing"}"#), &Shown { tftp: true, ..here.clone() }), Some(Refusal::Tftp));
        assert_eq!(said(json(r#"{"tftp": "nothing"}"#), &here), None);
        assert_eq!(said(json(r#"{"certificate": true}"#), &here), Some(Refusal::Certificate(None)));
        let foreign = Shown { certificate: Some(&certificate), ..here.clone() };
        assert_eq!(
            said(json(r#"{"certificate": true}"#), &foreign),
            Some(Refusal::Certificate(Some("desk phone".into())))
        );
        assert_eq!(said(json(r#"{"certificate": true}"#), &Shown { certificate: Some(&own), ..here.clone() }), None);
        assert_eq!(said(json(r#"{"token": "required"}"#), &here), Some(Refusal::TokenMissing));
        let over = Shown { token: Worth::Over, ..here.clone() };
        assert_eq!(said(json(r#"{"token": "required"}"#), &over), Some(Refusal::TokenOver));
        assert_eq!(said(json(r#"{"token": "offered"}"#), &here), None);
        assert_eq!(said(json(r#"{"credentials": "digest"}"#), &here).and_then(|why| why.challenge()), Some(false));
        let late = Shown { login: Login::Stale, ..here.clone() };
        assert_eq!(said(json(r#"{"credentials": "digest"}"#), &late).and_then(|why| why.challenge()), Some(true));
        assert_eq!(said(json(r#"{"credentials": "basic"}"#), &Shown { login: Login::Good, ..here.clone() }), None);
        assert!(matches!(said(json(r#"{"window": 30}"#), &here), Some(Refusal::Closed { since: None, .. })));
        let open = Shown { open_until: Some(here.now + Duration::from_secs(1)), ..here.clone() };
        assert_eq!(said(json(r#"{"window": 30}"#), &open), None);
        let closed = Shown { open_until: Some(here.now - Duration::from_secs(180)), ..here.clone() };
        let why = said(json(r#"{"window": 30}"#), &closed).unwrap().to_string();
        assert!(why.contains("closed 3 min ago"), "{why}");
    }

    #[test]
    fn an_address_that_announced_itself_is_good_where_that_is_enough() {
        let announced = Trust { address: Some(Asking::Announced), ..Trust::default() };
        let there = Shown { announced_from: Some([10, 0, 0, 7].into()), ..shown(Whence::OnLink(Some(OTHER))) };
        assert_eq!(refusal(MAC, &announced, &there), None);
        let elsewhere = Shown { announced_from: Some([10, 0, 0, 8].into()), ..there };
        let why = refusal(MAC, &announced, &elsewhere).unwrap();
        assert!(why.to_string().contains("10.0.0.8") && why.deed(MAC) == Deed::Impostor(MAC), "{why}");
    }
}
