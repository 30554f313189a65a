//! Everything that an answer depends on, as it stands at one moment: settings, fleet and shelf.
//!
//! A world never changes; a reload puts another in its place, and who is being served finishes in the one it started with. The
//! decisions live here, as questions without side effects, so that the doors, `check` and `explain` cannot disagree.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::IpAddr,
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use provost_fleet::{Asker, Device, Fleet, Images, MANIFEST, Phonebooks, Place, Refer, Resolved};
use provost_host::{CallError, Choice, InService, Route, Shelf, mac_named};
use provost_plugin::{
    Announced, Complaint, MacAddr, Phone, PluginError, Secret, expand_url,
    model::{Identity, Line, PendingFiles, Protocol, Settings as PhoneSettings, Sip, TokenUse, Trust},
    offered_files, offers,
    spec::{FileKind, FileSpec},
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    assets, authority,
    made::{Content, Made},
    request::{Asset, ConfigFile},
    settings::Settings,
    tls::Tls,
    tokens::{self, Tokens},
};

/// Seconds after which a phone looks again that waits for its approval.
const BOOTSTRAP_REFRESH: u32 = 300;

#[derive(Debug)]
pub struct World {
    pub settings: Arc<Settings>,
    pub fleet: Arc<Fleet>,
    pub books: Arc<Phonebooks>,
    pub images: Arc<Images>,
    pub shelf: Arc<Shelf>,
    pub tokens: Arc<Tokens>,
    pub tls: Arc<Tls>,
    /// What was made of it, and of those before it.
    pub made: Arc<Made>,
    /// Devices that this world would fail, and the older one that still serves them.
    pub held: HashMap<MacAddr, Arc<World>>,
    /// Devices that failed when this world was tried, held ones among them.
    pub troubles: BTreeMap<MacAddr, Trouble>,
}

/// Why a device cannot be served.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub why: String,
    /// The line of the template that fails.
    pub template: Option<(String, usize)>,
    /// The plugin that let its deadline pass, and the phone that it was asked about.
    overran: Option<Box<(Arc<InService>, Phone)>>,
}

impl From<String> for Trouble {
    fn from(why: String) -> Trouble {
        Trouble { why, template: None, overran: None }
    }
}

/// Something on disk that is refused or doubtful, whatever part of the server found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub file: String,
    /// 0 where no line is to blame.
    pub line: usize,
    /// 0 where no column is to blame.
    pub column: usize,
    pub severity: Severity,
    pub message: String,
    /// An older version goes on serving.
    pub older_serves: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            f.write_str(&self.file)?;
            match (self.line, self.column) {
                (0, _) => {}
                (line, 0) => write!(f, ":{line}")?,
                (line, column) => write!(f, ":{line}:{column}")?,
            }
            f.write_str(": ")?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        if self.older_serves { f.write_str(" (the version before it stays in service)") } else { Ok(()) }
    }
}

impl From<provost_host::Problem> for Finding {
    fn from(problem: provost_host::Problem) -> Finding {
        Finding {
            file: problem.file,
            line: problem.line,
            column: 0,
            severity: Severity::Error,
            message: problem.message,
            older_serves: problem.older_serves,
        }
    }
}

impl From<provost_fleet::Problem> for Finding {
    fn from(problem: provost_fleet::Problem) -> Finding {
        let severity = if problem.is_error() { Severity::Error } else { Severity::Warning };
        Finding {
            file: problem.file.to_string(),
            line: problem.line as usize,
            column: problem.column as usize,
            severity,
            message: problem.message,
            older_serves: false,
        }
    }
}

/// Who asks, and on which of our addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What this request and those before it told.
    pub identity: Identity,
    pub address: Option<IpAddr>,
    pub interface: Option<String>,
    /// Our address that it spoke to.
    pub local: IpAddr,
}

/// A phone that will be told a URL.
#[derive(Clone, Debug)]
pub enum Plan {
    /// Ours: the plugin words it. The phone has to show what `trust` says.
    Own { choice: Choice, announced: Box<Announced>, trust: Box<Trust> },
    /// A stranger's, who is given what holds no secret.
    Bootstrap { choice: Choice, announced: Box<Announced> },
    /// Somebody else's, ready to be sent.
    Forward { url: String },
}

/// A file that is ours to give.
#[derive(Clone, Debug)]
pub struct Located {
    pub plugin: Arc<InService>,
    /// Why this plugin; none where the name alone decided.
    pub choice: Option<Choice>,
    /// Index into the files of the plugin's spec.
    pub file: usize,
    pub resolved: Resolved,
    /// It is for a phone in no file, and holds no secret.
    pub stranger: bool,
}

impl Located {
    pub fn file(&self) -> &FileSpec {
        &self.plugin.spec.files[self.file]
    }

    /// The same for the same phone without its passwords.
    pub(crate) fn without_secrets(&self) -> Located {
        Located { resolved: self.resolved.clone().without_secrets(), ..self.clone() }
    }
}

/// What one device may fetch.
#[derive(Clone, Debug)]
pub struct Offer {
    pub choice: Choice,
    pub resolved: Resolved,
    /// In the order in which its phones ask.
    pub files: Vec<(String, FileKind)>,
}

/// Why there is no file by that name for this asker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotLocated {
    /// No such name. The sentence is for people and may be sent.
    Unknown(String),
    /// The phone is not in the inventory: it is given nothing, but shown as pending.
    Pending(MacAddr, String),
    /// There is such a file, and the settings for it cannot be put together.
    Failed(Option<MacAddr>, String),
}

impl fmt::Display for NotLocated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotLocated::Unknown(why) | NotLocated::Pending(_, why) | NotLocated::Failed(_, why) => f.write_str(why),
        }
    }
}

impl World {
    /// Whether this phone is told a URL, or why it gets no answer.
    pub fn plan(&self, peer: &Peer) -> Result<Plan, String> {
        let identity = &peer.identity;
        let device = identity.mac.and_then(|mac| self.fleet.device(mac));
        let stated = device.and_then(Device::stated_vendor);
        let choice = self.shelf.choose(identity, stated);
        let vendor = choice.as_ref().map(|choice| choice.plugin.id.as_str()).ok().or(identity.vendor.as_deref());
        if let Some(forward) = self.settings.forward_for(peer.address, vendor) {
            let base = self.settings.base_url(peer.address, peer.local, Protocol::Http);
            let url = expand_url(&forward.url, &base, identity).map_err(|error| error.to_string())?;
            return Ok(Plan::Forward { url });
        }
        let mac = identity.mac.ok_or("its message names no MAC, so it cannot be looked up")?;
        let Some(device) = device else {
            let choice = choice.map_err(|_| self.why_pending(mac, peer))?;
            let resolved = self.bootstrap(mac, &choice.plugin, peer).ok().flatten();
            let resolved = resolved.ok_or_else(|| self.why_pending(mac, peer))?;
            let announced = Box::new(Announced { identity: identity.clone(), base_url: resolved.phone.base_url });
            return Ok(Plan::Bootstrap { choice, announced });
        };
        if !device.is_enabled() {
            return Err(format!("{mac} is disabled ({}:{})", device.file(), device.line()));
        }
        let choice = choice.map_err(|error| error.to_string())?;
        let resolved = self
            .resolve(mac, &choice.plugin, peer)
            .map_err(|error| format!("the settings of {mac} cannot be put together: {error}"))?;
        let identity = Identity {
            vendor: Some(choice.plugin.id.clone()),
            model: resolved.phone.model.clone(),
            firmware: resolved.phone.firmware.clone(),
            ..identity.clone()
        };
        let mut base_url = resolved.phone.base_url;
        if has_token(&resolved.trust) {
            let first = self.tokens.first(mac, SystemTime::now()).map_err(|error| error.to_string())?;
            base_url = tokens::with(&self.base_url(&resolved.phone.settings, peer), &first);
        }
        let announced = Box::new(Announced { identity, base_url });
        Ok(Plan::Own { choice, announced, trust: Box::new(resolved.trust) })
    }

    /// This server as the phone with these settings reaches it, without a token.
    fn base_url(&self, settings: &PhoneSettings, peer: &Peer) -> String {
        let wanted = settings.provisioning.protocol.unwrap_or(Protocol::Http);
        self.settings.base_url(peer.address, peer.local, wanted)
    }

    /// The settings of one device of ours, resolved for where it stands.
    pub fn resolve(&self, mac: MacAddr, plugin: &InService, peer: &Peer) -> Result<Resolved, String> {
        if let Some(older) = self.held.get(&mac) {
            return older.resolve(mac, plugin, peer);
        }
        let place = Place { address: peer.address, interface: peer.interface.clone(), base_url: String::new() };
        let asker = Asker { mac, identity: peer.identity.clone(), place };
        // Which protocol the base URL has, and whether there is a token in it, is itself a setting of the phone.
        let base_url = |settings: &PhoneSettings| {
            let base_url = self.base_url(settings, peer);
            if !has_token(&settings.trust) {
                return Ok(base_url);
            }
            Ok(tokens::with(&base_url, &self.tokens.steady(mac).map_err(|error| error.to_string())?))
        };
        let mut resolved = self.fleet.resolve_at(&asker, &plugin.spec, base_url).map_err(|error| error.to_string())?;
        let wanted = resolved.phone.settings.provisioning.protocol;
        if wanted == Some(Protocol::Https)
            && !self.settings.https.enabled
            && self.settings.given_url(peer.address).is_none()
        {
            let reason =
                format!("https.enabled is off, so it is told {}", self.base_url(&resolved.phone.settings, peer));
            resolved.in_vain.push(Complaint { field: "provisioning.protocol".into(), reason });
        }
        resolved.furnish(&plugin.spec, &self.books, &self.images);
        Ok(resolved)
    }

    /// What a phone is given that is in no file: what holds for all phones where it is, and nothing secret. None: nothing.
    fn bootstrap(&self, mac: MacAddr, plugin: &InService, peer: &Peer) -> Result<Option<Resolved>, NotLocated> {
        let mut resolved = self.common(plugin, peer.identity.model.as_deref(), peer)?;
        if resolved.trust.pending != Some(PendingFiles::Bootstrap) {
            return Ok(None);
        }
        let waiting = || Some("Waiting for approval".to_owned());
        let phone = &mut resolved.phone;
        phone.mac = Some(mac);
        // No server, so that it registers nowhere under a name that no PBX knows.
        phone.settings.sip = Sip::default();
        phone.settings.lines = vec![Line {
            position: Some(1),
            enabled: Some(true),
            label: waiting(),
            display_name: waiting(),
            username: Some(mac.bare()),
            auth_username: Some(mac.bare()),
            ..Line::default()
        }];
        phone.settings.provisioning.refresh.get_or_insert(BOOTSTRAP_REFRESH);
        Ok(Some(resolved))
    }

    /// What a file that many phones share may know of this one.
    pub(crate) fn common(&self, plugin: &InService, model: Option<&str>, peer: &Peer) -> Result<Resolved, NotLocated> {
        let base_url = self.settings.base_url(peer.address, peer.local, Protocol::Http);
        let place = Place { address: peer.address, interface: peer.interface.clone(), base_url };
        let mut resolved = self
            .fleet
            .common(&place, &plugin.spec, model)
            .map_err(|error| NotLocated::Failed(None, error.to_string()))?;
        resolved.furnish(&plugin.spec, &self.books, &self.images);
        Ok(resolved)
    }

    /// Which file of which phone `path` means.
    pub fn locate(&self, path: &str, peer: &Peer) -> Result<Located, NotLocated> {
        self.locate_among(&self.shelf.routes(path), path, peer)
    }

    /// The same, of all the files that `path` could mean.
    pub(crate) fn locate_among(&self, routes: &[Route], path: &str, peer: &Peer) -> Result<Located, NotLocated> {
        if routes.is_empty() {
            return Err(NotLocated::Unknown(format!("no plugin offers a file of the name \"{path}\"")));
        }
        if let Some(route) = routes.iter().find(|route| route.captured.book.is_some()) {
            return self.locate_book(route, peer);
        }
        // The name says whose file it is; a User-Agent or an address only where the name does not.
        let mac = mac_named(routes).or(peer.identity.mac);
        let identity = Identity { mac, ..peer.identity.clone() };
        let device = mac.and_then(|mac| self.fleet.device(mac));
        let choice = self.shelf.choose(&identity, device.and_then(Device::stated_vendor));
        let mut plugins: Vec<&Arc<InService>> = routes.iter().map(|route| &route.plugin).collect();
        plugins.dedup_by(|a, b| a.id == b.id);
        let (plugin, choice) = match (choice, plugins.as_slice()) {
            (Ok(choice), _) if plugins.iter().any(|plugin| plugin.id == choice.plugin.id) => {
                (Arc::clone(&choice.plugin), Some(choice))
            }
            (Ok(choice), _) => {
                return Err(NotLocated::Unknown(format!(
                    "this is a phone of {} ({}), and {} has no file of the name \"{path}\"",
                    choice.plugin.spec.vendor, choice.evidence, choice.plugin.spec.vendor
                )));
            }
            // Nothing tells whose phone it is, but only one vendor has files of that name.
            (Err(_), [only]) => (Arc::clone(only), None),
            (Err(error), _) => {
                return Err(NotLocated::Unknown(format!("\"{path}\" could be a file of several vendors, and {error}")));
            }
        };
        let own = |route: &&provost_host::Route| route.plugin.id == plugin.id;
        if let Some(mac) = mac
            && device.is_none_or(|device| !device.is_enabled())
        {
            let why = match device {
                Some(device) => format!("{mac} is disabled ({}:{})", device.file(), device.line()),
                None => format!("{mac} is not in the inventory"),
            };
            let named = routes.iter().find(own).and_then(|route| route.captured.model.clone());
            let peer = Peer { identity: self.known(&identity, &plugin, named), ..peer.clone() };
            if device.is_none()
                && let Some(resolved) = self.bootstrap(mac, &plugin, &peer)?
                && let Some(route) = routes
                    .iter()
                    .filter(own)
                    .find(|route| offers(&plugin.spec.files[route.file], &resolved.phone))
                    .filter(|route| plugin.spec.files[route.file].kind == FileKind::Device)
            {
                return Ok(Located { plugin: Arc::clone(&plugin), choice, file: route.file, resolved, stranger: true });
            }
            return Err(NotLocated::Pending(mac, why));
        }
        let peer = Peer {
            identity: self.known(
                &identity,
                &plugin,
                routes.iter().find(own).and_then(|route| route.captured.model.clone()),
            ),
            ..peer.clone()
        };
        let mut resolved = match mac {
            Some(mac) => Some(self.resolve(mac, &plugin, &peer).map_err(|error| NotLocated::Failed(Some(mac), error))?),
            None => None,
        };
        let why = format!("{} has no such file for this model with these options", plugin.spec.vendor);
        for route in routes.iter().filter(own) {
            let file = &plugin.spec.files[route.file];
            let shared = match (file.kind, &resolved) {
                // Shared files hold nothing secret, whoever asks.
                (FileKind::Common, _) => {
                    let model = route.captured.model.as_deref().or(peer.identity.model.as_deref());
                    Some(self.common(&plugin, model, &peer)?)
                }
                (FileKind::Directory, Some(resolved)) => {
                    let named =
                        resolved.phone.settings.phonebook.remote.iter().find_map(|remote| remote.book.as_deref());
                    let Some(book) = named.and_then(|name| self.books.get(name)) else {
                        return Err(NotLocated::Unknown("no list under phonebooks/ is named for this phone".into()));
                    };
                    let book = Arc::clone(book);
                    let mut resolved = resolved.clone().impersonal();
                    resolved.phone.book = Some(book);
                    Some(resolved)
                }
                (_, Some(_)) => None,
                (_, None) => {
                    // Not on to a looser name: what the phone means by this one is settled.
                    return Err(NotLocated::Unknown(format!(
                        "\"{path}\" is a phone's own file, but neither the name nor the asker tells which phone's"
                    )));
                }
            };
            let found = match shared {
                Some(shared) => Some(shared).filter(|shared| offers(file, &shared.phone)),
                None => resolved.take_if(|resolved| offers(file, &resolved.phone)),
            };
            if let Some(resolved) = found {
                return Ok(Located {
                    plugin: Arc::clone(&plugin),
                    choice,
                    file: route.file,
                    resolved,
                    stranger: false,
                });
            }
        }
        Err(NotLocated::Unknown(why))
    }

    /// A list that a name asks for, which says by itself in which vendor's form: behind an address there may be phones of several.
    fn locate_book(&self, route: &Route, peer: &Peer) -> Result<Located, NotLocated> {
        let name = route.captured.book.as_deref().unwrap_or_default();
        if let Some(mac) = peer.identity.mac
            && self.fleet.device(mac).is_none_or(|device| !device.is_enabled())
        {
            return Err(NotLocated::Pending(mac, format!("{mac} is not in the inventory, or disabled")));
        }
        let Some(book) = self.books.get(name) else {
            return Err(NotLocated::Unknown(format!("there is no list \"{name}\" under phonebooks/")));
        };
        let own = self.known(&peer.identity, &route.plugin, route.captured.model.clone());
        let mut resolved = self.common(&route.plugin, own.model.as_deref(), peer)?;
        resolved.phone.book = Some(Arc::clone(book));
        Ok(Located { plugin: Arc::clone(&route.plugin), choice: None, file: route.file, resolved, stranger: false })
    }

    /// What is known of a phone once its plugin is settled: the User-Agent as that vendor writes it, then what was seen before.
    fn known(&self, identity: &Identity, plugin: &InService, named: Option<String>) -> Identity {
        let agent = identity.user_agent.as_deref().and_then(|agent| plugin.spec.identify(agent)).unwrap_or_default();
        Identity {
            model: identity.model.clone().or(agent.model).or(named),
            firmware: agent.firmware.or(identity.firmware.clone()),
            hardware: agent.hardware.or(identity.hardware.clone()),
            ..identity.clone()
        }
    }

    /// The names of the files that a device may fetch, with what is known of it.
    pub fn files_of(&self, mac: MacAddr, peer: &Peer) -> Result<Offer, String> {
        let device = self.fleet.device(mac).ok_or_else(|| format!("{mac} is not in the inventory"))?;
        let identity = Identity { mac: Some(mac), ..peer.identity.clone() };
        let choice = self.shelf.choose(&identity, device.stated_vendor()).map_err(|error| error.to_string())?;
        let peer = Peer { identity: self.known(&identity, &choice.plugin, None), ..peer.clone() };
        let resolved = self.resolve(mac, &choice.plugin, &peer)?;
        let files = offered_files(&choice.plugin.spec, &resolved.phone);
        Ok(Offer { choice, resolved, files })
    }

    /// A file that is served as it is: below `firmware/`, or one of `assets/`.
    pub fn asset(&self, path: &str) -> std::io::Result<Option<Asset>> {
        if let Some(name) = path.strip_prefix("firmware/")
            && name != MANIFEST
            && let Some(found) = assets::find(&self.settings.firmware, name)?
        {
            return Ok(Some(found));
        }
        // The root that phones are to trust is no secret, and it is fetched by those that do not trust it yet.
        if [authority::CA, authority::CA_DER].contains(&path)
            && let Some(found) = assets::find(&authority::place(&self.settings), path)?
        {
            return Ok(Some(found));
        }
        assets::find(&self.settings.assets, path)
    }

    /// When anything that goes into this plugin's files last changed.
    pub fn modified(&self, plugin: &InService) -> SystemTime {
        plugin.modified.max(self.fleet.modified()).max(self.books.modified()).max(self.images.modified())
    }

    /// Everything that a device would be told or given, where it was last seen. The first failure is the answer. What is known from
    /// `before` to stall is not asked again: each time would cost the plugin a worker for good.
    pub fn try_device(&self, device: &Device, peer: &Peer, before: Option<&Trouble>) -> Result<(), Trouble> {
        let mac = device.mac();
        let Ok(choice) = self.shelf.choose(&peer.identity, device.stated_vendor()) else {
            // Whose phone it is may only be known once it speaks.
            return Ok(());
        };
        let resolved = self.resolve(mac, &choice.plugin, peer)?;
        if let Some(trouble) = before
            && let Some(overran) = &trouble.overran
            && Arc::ptr_eq(&overran.0, &choice.plugin)
            && overran.1 == resolved.phone
        {
            return Err(trouble.clone());
        }
        for (index, file) in choice.plugin.spec.files.iter().enumerate() {
            if file.kind != FileKind::Device || !offers(file, &resolved.phone) {
                continue;
            }
            if let Err(error) = self.make(&choice.plugin, index, &resolved.phone) {
                let why = in_words(&error, file, &resolved);
                return Err(match error {
                    CallError::Plugin(PluginError::Template(failure)) => {
                        Trouble { template: Some((failure.template, failure.line)), ..Trouble::from(why) }
                    }
                    CallError::Overran(_) => Trouble {
                        overran: Some(Box::new((Arc::clone(&choice.plugin), resolved.phone))),
                        ..Trouble::from(why)
                    },
                    _ => Trouble::from(why),
                });
            }
        }
        Ok(())
    }

    /// A file, unless it was made before. When its sources changed last it does not say. Blocks while a library answers.
    fn make(&self, plugin: &InService, file: usize, phone: &Phone) -> Result<ConfigFile, CallError> {
        let content = Content::of(plugin, file, phone);
        if let Some(made) = self.made.get(&content) {
            return Ok(made);
        }
        let made = render_for(plugin, file, phone, SystemTime::UNIX_EPOCH)?;
        self.made.keep(content, made.clone(), phone.book.clone());
        Ok(made)
    }

    /// The digest of what was located, as it is sent as an ETag. Blocks while a library answers, unless it was made before.
    pub(crate) fn etag(&self, located: &Located) -> Result<(String, u64), String> {
        let file = self.make(&located.plugin, located.file, &located.resolved.phone);
        let file = file.map_err(|error| in_words(&error, located.file(), &located.resolved))?;
        Ok((file.etag, file.body.len() as u64))
    }
}

/// Renders what was located. Blocks while a library answers, up to its deadline.
pub fn render(located: &Located, modified: SystemTime) -> Result<ConfigFile, String> {
    render_for(&located.plugin, located.file, &located.resolved.phone, modified)
        .map_err(|error| in_words(&error, located.file(), &located.resolved))
}

fn render_for(plugin: &InService, file: usize, phone: &Phone, modified: SystemTime) -> Result<ConfigFile, CallError> {
    let rendered = plugin.render(file, phone)?;
    Ok(ConfigFile {
        etag: digest(&rendered.body),
        body: Bytes::from(rendered.body),
        content_type: rendered.content_type.into(),
        modified,
    })
}

pub(crate) fn has_token(trust: &Trust) -> bool {
    matches!(trust.token, Some(TokenUse::Offered | TokenUse::Required))
}

/// What somebody asks for in vain. A value that nobody wrote (a name taken from the title of a list, the first line) is not asked for.
pub fn in_vain(plugin: &InService, resolved: &Resolved) -> Vec<Complaint> {
    let mut complaints = plugin.complaints(&resolved.phone).unwrap_or_default();
    complaints.extend(resolved.in_vain.iter().cloned());
    complaints.retain(|complaint| resolved.origins.of(&complaint.field).is_none_or(|origin| origin.file.is_some()));
    complaints
}

/// A password that was made for one phone.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Whose it is: `admin` or `user`.
    pub account: String,
    pub username: Option<String>,
    pub password: Secret,
}

/// The passwords that were made for a phone, for who is to log in at its pages.
pub fn generated(resolved: &Resolved) -> Vec<Generated> {
    let access = &resolved.phone.settings.access;
    let of = |(path, refer): (String, &Refer)| {
        let account = path.strip_prefix("access.")?.strip_suffix(".password")?;
        let credentials = match (account, refer) {
            ("admin", Refer::Generate(_)) => &access.admin,
            ("user", Refer::Generate(_)) => &access.user,
            _ => return None,
        };
        let password = credentials.password.clone()?;
        Some(Generated { account: account.to_owned(), username: credentials.username.clone(), password })
    };
    resolved.origins.references().filter_map(of).collect()
}

/// A failure as the person who has to mend it needs to hear it.
pub fn in_words(error: &CallError, file: &FileSpec, resolved: &Resolved) -> String {
    let phone = &resolved.phone;
    let whose = phone.mac.map_or_else(|| "a file for many phones".into(), |mac| mac.to_string());
    let model = phone.model.as_deref().unwrap_or("of unknown model");
    let name = file.name.expand(phone.mac, phone.model.as_deref(), &phone.capabilities);
    let name = name.unwrap_or_else(|| file.name.to_string());
    format!("cannot render \"{name}\" for {whose} ({} {model}): {error}", phone.vendor)
}

/// Strong and the same after a restart: half a SHA-256 of the body.
pub(crate) fn digest(body: &[u8]) -> String {
    Sha256::digest(body)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
