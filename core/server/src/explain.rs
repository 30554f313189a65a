//! Why: for a MAC, a path or a captured SUBSCRIBE, the evidence, the plugin, the file, and where each value comes from.
//!
//! Asks the same questions that the doors ask, so that what it says is what happens.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use provost_fleet::{Enrolment, Given, Resolved};
use provost_host::Choice;
use provost_plugin::{MacAddr, model::Identity};
use provost_sip::{MacPlace, Message, Subscribe};
use serde::Serialize;
use serde_json::Value;

use crate::{
    enrol::place,
    tokens, trust,
    world::{Peer, Plan, World, in_vain},
};

/// What was found, in the order in which it was decided.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explanation {
    pub asked: String,
    /// What the request itself says of its sender.
    pub identity: Vec<(String, String)>,
    /// Every plugin that anything speaks for, with what speaks for it.
    pub candidates: Vec<(String, String)>,
    /// The plugin, and why this one.
    pub plugin: Option<String>,
    pub reason: Option<String>,
    /// The device in the inventory.
    pub device: Option<String>,
    pub profile: Option<String>,
    /// The profile that a phone would get which no file has, and why.
    pub suggestion: Option<String>,
    /// The rule that would enrol such a phone, or why none does.
    pub enrolment: Option<String>,
    /// Layers that had a say, weakest first.
    pub layers: Vec<String>,
    /// The file that answers, with its template.
    pub file: Option<String>,
    /// The list that a directory file is made of.
    pub list: Option<String>,
    /// What the policy for firmware comes to.
    pub firmware: Option<String>,
    /// What it has to show before it is given its own file.
    pub trust: Vec<String>,
    /// Files that this phone may fetch.
    pub files: Vec<(String, String)>,
    /// The URL that a NOTIFY would carry.
    pub url: Option<String>,
    /// What happens.
    pub outcome: String,
    /// Each value with the place that it comes from. Passwords are masked.
    pub values: Vec<Valued>,
    /// What the model cannot do although it is asked for.
    pub complaints: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Valued {
    pub field: String,
    pub value: Value,
    pub origin: String,
}

/// Where the asker stands, where the question does not say.
#[derive(Clone, Debug)]
pub struct From {
    pub address: Option<IpAddr>,
    pub local: IpAddr,
    pub user_agent: Option<String>,
}

impl Default for From {
    fn default() -> From {
        // TEST-NET-1: nobody's address, and recognisable as such in a URL that is printed.
        From { address: None, local: Ipv4Addr::new(192, 0, 2, 1).into(), user_agent: None }
    }
}

impl From {
    fn peer(&self, identity: Identity) -> Peer {
        let user_agent = identity.user_agent.clone().or(self.user_agent.clone());
        Peer {
            identity: Identity { user_agent, ..identity },
            address: self.address,
            interface: None,
            local: self.local,
        }
    }
}

/// A phone that would announce itself with nothing but its MAC.
pub fn mac(world: &World, mac: MacAddr, from: &From) -> Explanation {
    let mut explanation = Explanation { asked: format!("the device {mac}"), ..Explanation::default() };
    explanation.place(world, &from.peer(Identity { mac: Some(mac), ..Identity::default() }));
    explanation
}

/// A phone as it was last seen.
pub fn phone(world: &World, mac: MacAddr, peer: &Peer) -> Explanation {
    let mut explanation = Explanation { asked: format!("the device {mac}"), ..Explanation::default() };
    explanation.place(world, peer);
    explanation
}

/// A captured SUBSCRIBE.
pub fn datagram(world: &World, name: &str, bytes: &[u8], from: &From) -> Explanation {
    let mut explanation = Explanation { asked: format!("the captured message {name}"), ..Explanation::default() };
    let subscribe = match provost_sip::read(bytes) {
        Ok(Message::Request(request)) => Subscribe::from_request(&request).map_err(|error| error.to_string()),
        Ok(Message::Response(_)) => Err("it is a response, not a request".into()),
        Err(error) => Err(error.to_string()),
    };
    let subscribe = match subscribe {
        Ok(subscribe) => subscribe,
        Err(error) => {
            explanation.outcome = format!("dropped and counted: {error}");
            return explanation;
        }
    };
    let place = subscribe.mac.map(|found| match found.place {
        MacPlace::RequestUri => "in the Request-URI",
        MacPlace::To => "in To",
        MacPlace::From => "in From",
        MacPlace::UserAgent => "in the User-Agent",
    });
    if let Some(place) = place {
        explanation.identity.push(("MAC found".into(), place.into()));
    }
    explanation.identity.push(("Event".into(), subscribe.event.clone()));
    let identity = Identity {
        mac: subscribe.mac.map(|found| MacAddr::new(found.address)),
        vendor: subscribe.vendor,
        model: subscribe.model,
        firmware: subscribe.firmware,
        hardware: None,
        user_agent: subscribe.user_agent,
    };
    explanation.place(world, &from.peer(identity));
    explanation
}

/// A file that somebody asks for.
pub fn path(world: &World, path: &str, from: &From) -> Explanation {
    let path = path.trim_start_matches('/');
    let mut explanation = Explanation { asked: format!("the file {path}"), ..Explanation::default() };
    let agent = from
        .user_agent
        .as_deref()
        .and_then(|agent| world.shelf.plugins().find_map(|plugin| plugin.spec.identify(agent)));
    let peer = from.peer(agent.unwrap_or_default());
    for route in world.shelf.routes(path) {
        let mac = route.captured.mac.map(|mac| format!(", of {mac}")).unwrap_or_default();
        let file = &route.plugin.spec.files[route.file];
        explanation.candidates.push((
            route.plugin.spec.vendor.clone(),
            format!("has a {} file \"{}\"{mac}", file.kind.as_str(), file.name),
        ));
    }
    match world.locate(path, &peer) {
        Ok(located) => {
            explanation.plugin = Some(located.plugin.spec.vendor.clone());
            explanation.reason =
                Some(located.choice.as_ref().map_or("only this vendor has files of that name".into(), why));
            let file = located.file();
            let template = file.template.as_deref().unwrap_or("by the library itself");
            explanation.file = Some(format!("\"{}\" ({}), rendered from {template}", file.name, file.kind.as_str()));
            explanation.list = located.resolved.phone.book.as_ref().map(|book| {
                format!(
                    "\"{}\", {} entries, {}",
                    book.title,
                    book.entries.len(),
                    world.books.file(&book.name).unwrap_or_default()
                )
            });
            explanation.settings(&located.resolved);
            explanation.complain(&located.plugin, &located.resolved);
            explanation.outcome = match crate::world::render(&located, std::time::SystemTime::UNIX_EPOCH) {
                Ok(rendered) => format!("served: {} bytes of {}", rendered.body.len(), rendered.content_type),
                Err(error) => format!("fails: {error}"),
            };
        }
        Err(error) => {
            explanation.outcome = match world.asset(path) {
                Ok(Some(asset)) => format!("served as it is from {}, {} bytes", asset.path.display(), asset.len),
                Ok(None) => format!("not found: {error}"),
                Err(asset) => format!("not found: {error}; and in assets/: {asset}"),
            };
        }
    }
    explanation
}

pub fn why(choice: &Choice) -> String {
    if choice.stated {
        format!("the device states its vendor ({})", choice.evidence)
    } else {
        choice.evidence.to_string()
    }
}

impl Explanation {
    /// Whose phone it is, and what it would be told.
    fn place(&mut self, world: &World, peer: &Peer) {
        let identity = &peer.identity;
        let said = [
            ("MAC", identity.mac.map(|mac| mac.to_string())),
            ("vendor", identity.vendor.clone()),
            ("model", identity.model.clone()),
            ("firmware", identity.firmware.clone()),
            ("hardware", identity.hardware.clone()),
            ("User-Agent", identity.user_agent.clone()),
        ];
        self.identity.extend(said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        self.candidates = world
            .shelf
            .candidates(identity)
            .into_iter()
            .map(|(plugin, evidence)| (plugin.spec.vendor.clone(), evidence.to_string()))
            .collect();
        let device = identity.mac.and_then(|mac| world.fleet.device(mac));
        self.device = device.map(|device| format!("{device}, {}:{}", device.file(), device.line()));
        match world.shelf.choose(identity, device.and_then(|device| device.stated_vendor())) {
            Ok(choice) => {
                self.plugin = Some(choice.plugin.spec.vendor.clone());
                self.reason = Some(why(&choice));
            }
            Err(error) => self.reason = Some(error.to_string()),
        }
        if let Some(mac) = identity.mac
            && let Ok(offer) = world.files_of(mac, peer)
        {
            self.settings(&offer.resolved);
            self.complain(&offer.choice.plugin, &offer.resolved);
            self.files = offer.files.into_iter().map(|(name, kind)| (name, kind.as_str().to_owned())).collect();
        }
        if let (Some(mac), None) = (identity.mac, device) {
            self.suggestion = world
                .suggestion(mac, peer)
                .map(|suggestion| format!("{}: {} ({})", suggestion.profile, suggestion.why, suggestion.place));
            self.enrolment = match world.enrolment(peer, &Given::default()) {
                Enrolment::Nobody if world.fleet.rules().len() == 0 => None,
                Enrolment::Nobody => {
                    Some("no rule is for it; rules go by the network from which it announces itself".into())
                }
                Enrolment::By { rule, account } => {
                    let number = account.map(|account| format!(" and number {}", account.number())).unwrap_or_default();
                    let (name, profile, place) = (rule.name(), rule.profile(), place(rule));
                    Some(format!("the rule \"{name}\" enrols it with profile {profile}{number} ({place})"))
                }
                Enrolment::Not { rule, why } => {
                    Some(format!("the rule \"{}\" is for it, but {why} ({})", rule.name(), place(rule)))
                }
            };
        }
        self.outcome = match world.plan(peer) {
            Ok(Plan::Forward { url }) => {
                self.url = Some(url);
                "answered with 200 and a NOTIFY with somebody else's URL, as the settings say (forward)".into()
            }
            Ok(Plan::Own { choice, announced, .. } | Plan::Bootstrap { choice, announced }) => {
                match choice.plugin.announce(&announced) {
                    Ok(url) => {
                        self.url = Some(tokens::masked(&url).into_owned());
                        "answered with 200 and a NOTIFY".into()
                    }
                    Err(error) => format!("no answer: no URL can be made for it: {error}"),
                }
            }
            Err(reason) => format!("no answer: {reason}"),
        };
    }

    fn settings(&mut self, resolved: &Resolved) {
        self.profile = resolved.profile.clone();
        self.firmware = resolved.firmware.clone();
        self.trust = trust::in_words(&resolved.trust);
        self.layers =
            resolved.layers.iter().map(|layer| format!("{} ({}:{})", layer.name, layer.file, layer.line)).collect();
        // Serialised outside of `Secret::exposed`, so that passwords come masked.
        let mut phone = serde_json::to_value(&resolved.phone).unwrap_or_default();
        phone["trust"] = serde_json::to_value(&resolved.trust).unwrap_or_default();
        mask_tokens(&mut phone);
        let zone = phone.get("zone").filter(|zone| !zone.is_null()).map(|zone| zone["posix"].clone());
        self.values = resolved
            .origins
            .iter()
            .filter_map(|(field, origin)| {
                // A raw parameter may be a password under the vendor's own name for it: the place is told, the value is not.
                let raw = field.strip_prefix("vendor.").is_some_and(|rest| rest.starts_with(&resolved.phone.vendor));
                let masked = Value::from("•••");
                let value = if raw { &masked } else { lookup(&phone, &field)? };
                (!value.is_null()).then(|| Valued { value: value.clone(), origin: origin.to_string(), field })
            })
            .collect();
        if let Some(posix) = zone {
            self.values.push(Valued { field: "zone".into(), value: posix, origin: "derived from time.zone".into() });
        }
    }

    fn complain(&mut self, plugin: &provost_host::InService, resolved: &Resolved) {
        let complaints = in_vain(plugin, resolved);
        self.complaints =
            complaints.iter().map(|complaint| format!("{}: {}", complaint.field, complaint.reason)).collect();
    }
}

fn mask_tokens(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(masked) = tokens::masked(text) {
                *text = masked;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask_tokens),
        Value::Object(fields) => fields.values_mut().for_each(mask_tokens),
        _ => {}
    }
}

/// The value at a dotted path; names may hold dots themselves.
fn lookup<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(value);
    }
    match value {
        Value::Array(items) => {
            let (index, rest) = path.split_once('.').unwrap_or((path, ""));
            lookup(items.get(index.parse::<usize>().ok()?)?, rest)
        }
        Value::Object(fields) => {
            let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
            ends.filter_map(|end| Some((fields.get(&path[..end])?, path.get(end + 1..).unwrap_or(""))))
                .find_map(|(field, rest)| lookup(field, rest))
        }
        _ => None,
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.asked)?;
        let mut section = |title: &str, rows: &[(String, String)]| -> fmt::Result {
            if rows.is_empty() {
                return Ok(());
            }
            writeln!(f, "\n{title}")?;
            let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(40);
            for (name, value) in rows {
                writeln!(f, "  {name:width$}  {value}")?;
            }
            Ok(())
        };
        section("What it says of itself", &self.identity)?;
        section("Who claims it", &self.candidates)?;
        let one = |name: &str, value: &Option<String>| value.as_ref().map(|value| (name.to_owned(), value.clone()));
        let decided: Vec<(String, String)> = [
            one("plugin", &self.plugin),
            one("because", &self.reason),
            one("device", &self.device),
            one("profile", &self.profile),
            one("suggested", &self.suggestion),
            one("enrolment", &self.enrolment),
            one("file", &self.file),
            one("list", &self.list),
            one("firmware", &self.firmware),
            one("URL", &self.url),
        ]
        .into_iter()
        .flatten()
        .chain([("outcome".to_owned(), self.outcome.clone())])
        .collect();
        section("What was decided", &decided)?;
        section("Files it may fetch", &self.files)?;
        let trust: Vec<_> = self.trust.iter().map(|words| ("•".to_owned(), words.clone())).collect();
        section("What it has to show", &trust)?;
        let layers: Vec<_> =
            self.layers.iter().enumerate().map(|(index, layer)| ((index + 1).to_string(), layer.clone())).collect();
        section("Layers, weakest first", &layers)?;
        let values: Vec<_> = self
            .values
            .iter()
            .map(|value| (value.field.clone(), format!("{}  ← {}", text(&value.value), value.origin)))
            .collect();
        section("Values", &values)?;
        let complaints: Vec<_> = self.complaints.iter().map(|complaint| ("!".to_owned(), complaint.clone())).collect();
        section("Asked for in vain", &complaints)
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
