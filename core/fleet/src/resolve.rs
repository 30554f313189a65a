//! Layers to a phone: which layers apply, what is filled in where nobody said anything, and where each value came from.

use std::net::IpAddr;

use provost_plugin::{
    Complaint, MacAddr, Phone, Secret, Spec,
    model::{FunctionKey, Identity, Line, Settings, Trust},
    switches,
};
use serde_json::Value as Json;

use crate::{
    Fleet,
    document::{Candidate, Device, Layer, Profile},
    merge::Merged,
    origin::{LayerRef, Origins},
    refer::Refer,
    shape, zone,
};

/// Where a phone is, as far as it can be seen from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub address: Option<IpAddr>,
    /// The interface of this server on which it was heard.
    pub interface: Option<String>,
    /// This server as the phone reaches it, with a slash at the end.
    pub base_url: String,
}

/// A phone that wants its configuration.
#[derive(Clone, Debug)]
pub struct Asker {
    pub mac: MacAddr,
    /// As observed; what the administrator stated about the device wins over it.
    pub identity: Identity,
    pub place: Place,
}

/// A phone with all its settings, and how they came about.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub phone: Phone,
    pub origins: Origins,
    /// The profile that applied, asked for or chosen.
    pub profile: Option<String>,
    /// Weakest first.
    pub layers: Vec<LayerRef>,
    /// What the policy for firmware comes to and why, for people; nothing without a policy.
    pub firmware: Option<String>,
    /// What is asked for and not to be had here, whatever the vendor.
    pub in_vain: Vec<Complaint>,
    /// What the phone has to show before it is given its own file.
    pub trust: Trust,
}

/// A profile that fits a stranger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion<'a> {
    pub profile: &'a str,
    /// For people.
    pub why: String,
    /// Where the profile stands, file and line.
    pub place: String,
}

/// Why a device is given nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("{0} is in no profile file")]
    Unknown(MacAddr),
    #[error("{mac} is switched off at {file}:{line}")]
    Disabled { mac: MacAddr, file: String, line: u32 },
    #[error("{mac} asked as a phone of {asked}, but {file}:{line} states that it is one of {stated}")]
    OtherVendor { mac: MacAddr, asked: String, stated: String, file: String, line: u32 },
    /// What stands in the place of a password comes to nothing.
    #[error("{what}: {why}")]
    Secret { what: String, why: String },
    /// The server cannot say how the phone reaches it.
    #[error("{0}")]
    BaseUrl(String),
    /// The checker let through what the model refuses. A fault of ours, not of the files.
    #[error("settings of {what} do not fit the model: {reason}")]
    Misfit { what: String, reason: String },
}

/// The layers as they are laid, with the settings so far.
struct Stack<'a> {
    merged: Merged<'a>,
    layers: Vec<LayerRef>,
}

impl<'a> Stack<'a> {
    fn lay(&mut self, kind: &str, layer: &'a Layer) {
        let name = if layer.name.is_empty() { kind.to_owned() } else { format!("{kind} {}", layer.name) };
        self.put(LayerRef { name, file: layer.file.clone(), line: layer.line }, &layer.settings);
    }

    fn put(&mut self, layer: LayerRef, settings: &'a crate::node::Node) {
        let number = u16::try_from(self.layers.len()).unwrap_or(u16::MAX);
        self.merged.lay(settings, shape::settings(), number);
        self.layers.push(layer);
    }

    fn finish(
        self,
        what: impl FnOnce() -> String,
        mut read: impl FnMut(&Refer, &str) -> Result<Secret, String>,
    ) -> Result<(Settings, Origins, Vec<LayerRef>), ResolveError> {
        let mut missing = None;
        let (values, root) = self.merged.finish(&mut |refer, path| {
            let path = path.to_string();
            match read(refer, &path) {
                Ok(value) => Json::from(value.expose()),
                Err(why) => {
                    missing.get_or_insert(ResolveError::Secret { what: path, why });
                    Json::Null
                }
            }
        });
        if let Some(missing) = missing {
            return Err(missing);
        }
        let settings = serde_json::from_value(values)
            .map_err(|error| ResolveError::Misfit { what: what(), reason: error.to_string() })?;
        let origins = Origins { layers: self.layers.clone(), root, ..Origins::default() };
        Ok((settings, origins, self.layers))
    }
}

impl Fleet {
    /// The phone that `asker` should be, for the plugin of `spec`.
    ///
    /// The same snapshot, asker and spec always give the same phone: phones compare checksums and reboot over a difference.
    pub fn resolve(&self, asker: &Asker, spec: &Spec) -> Result<Resolved, ResolveError> {
        self.resolve_at(asker, spec, |_| Ok(asker.place.base_url.clone()))
    }

    /// The same where this server's URL hangs on the phone's own settings: `base_url` is asked once they are known.
    pub fn resolve_at(
        &self,
        asker: &Asker,
        spec: &Spec,
        base_url: impl FnOnce(&Settings) -> Result<String, String>,
    ) -> Result<Resolved, ResolveError> {
        let Asker { mac, place, .. } = asker;
        let device = self.device(*mac).ok_or(ResolveError::Unknown(*mac))?;
        let (file, line) = (device.file().to_owned(), device.line());
        if !device.is_enabled() {
            return Err(ResolveError::Disabled { mac: *mac, file, line });
        }
        let vendor = spec.id();
        if let Some(stated) = device.stated_vendor()
            && stated != vendor
        {
            return Err(ResolveError::OtherVendor { mac: *mac, asked: vendor, stated: stated.to_owned(), file, line });
        }
        let identity = device.identity(&asker.identity);
        let model = Model::of(spec, identity.model.as_deref());
        let profile = self.profile_for(device, &model, &vendor, place);
        let chain = profile.map(|name| self.index.chain(name)).unwrap_or_default();
        let site = device.site().or_else(|| chain.iter().rev().find_map(|profile| Some(&*profile.site.as_ref()?.name)));

        let mut stack = self.ground(place, site, &vendor, &model);
        for profile in &chain {
            stack.lay("profile", &profile.layer);
        }
        stack.put(LayerRef { name: format!("device {mac}"), file: device.file.clone(), line }, &device.settings);
        stack.merged.share_sip();
        let (mut settings, origins, layers) =
            stack.finish(|| format!("device {mac}"), |refer, path| self.vault.value(refer, *mac, path))?;
        let base_url = base_url(&settings).map_err(ResolveError::BaseUrl)?;
        let trust = std::mem::take(&mut settings.trust);

        let mut phone = model.phone(spec, settings, base_url);
        phone.mac = Some(*mac);
        phone.firmware = identity.firmware;
        phone.hardware = identity.hardware;
        let profile = profile.map(str::to_owned);
        let mut resolved = Resolved { phone, origins, profile, layers, firmware: None, in_vain: Vec::new(), trust };
        resolved.fill();
        Ok(resolved)
    }

    /// The profile that applies to a device: the one that it asks for, else the one whose selector fits it best.
    pub fn profile_of(&self, asker: &Asker, spec: &Spec) -> Option<&str> {
        let device = self.device(asker.mac)?;
        let identity = device.identity(&asker.identity);
        self.profile_for(device, &Model::of(spec, identity.model.as_deref()), &spec.id(), &asker.place)
    }

    fn profile_for<'a>(&'a self, device: &'a Device, model: &Model, vendor: &str, place: &Place) -> Option<&'a str> {
        let chosen =
            || self.choose(&Candidate { mac: device.mac(), vendor, models: &model.spellings, address: place.address });
        device.profile().or_else(|| chosen().map(|profile| &*profile.layer.name))
    }

    /// The phone as a file that many phones share may know it: the layers that hold for all phones of the model at this place, without
    /// lines, keys, passwords and raw settings.
    pub fn common(&self, place: &Place, spec: &Spec, model: Option<&str>) -> Result<Resolved, ResolveError> {
        let model = Model::of(spec, model);
        let mut stack = self.ground(place, None, &spec.id(), &model);
        // Raw settings may be passwords under the vendor's own names; nobody but the vendor could tell. They reach the phone in its
        // own file.
        stack.merged.leave_out(&["lines", "keys", "expansion", "vendor"]);
        // Passwords are taken out below, so nobody needs to look them up.
        let (mut settings, origins, layers) =
            stack.finish(|| format!("common files of {}", spec.vendor), |_, _| Ok(Secret::default()))?;
        let trust = std::mem::take(&mut settings.trust);
        let phone = model.phone(spec, without_secrets(settings), place.base_url.clone());
        let mut resolved =
            Resolved { phone, origins, profile: None, layers, firmware: None, in_vain: Vec::new(), trust };
        resolved.fill();
        Ok(resolved)
    }

    /// Everything below the profile.
    fn ground<'a>(&'a self, place: &Place, site: Option<&'a str>, vendor: &str, model: &Model) -> Stack<'a> {
        let index = &self.index;
        let mut stack = Stack { merged: Merged::new(), layers: Vec::new() };
        for layer in &index.defaults {
            stack
                .put(LayerRef { name: "defaults".into(), file: layer.file.clone(), line: layer.line }, &layer.settings);
        }
        let networks: Vec<_> =
            index.networks.iter().filter(|network| network.covers(place.address, place.interface.as_deref())).collect();
        let of_network = || networks.iter().rev().find_map(|network| Some(&*network.site.as_ref()?.name));
        for layer in site.or_else(of_network).and_then(|site| index.sites.get(site)).into_iter().flatten() {
            stack.lay("site", layer);
        }
        for network in networks {
            stack.lay("network", &network.layer);
        }
        for layer in index.vendors.get(vendor).into_iter().flatten() {
            stack.lay("vendor", layer);
        }
        for layer in index.models.iter().filter(|layer| model.fits(&layer.name)) {
            stack.lay("model", layer);
        }
        stack
    }

    /// The profile that a phone of `spec`'s vendor gets if it is enrolled and nobody names one.
    pub fn suggest(
        &self,
        mac: MacAddr,
        spec: &Spec,
        model: Option<&str>,
        address: Option<IpAddr>,
    ) -> Option<Suggestion<'_>> {
        let model = Model::of(spec, model);
        let profile = self.choose(&Candidate { mac, vendor: &spec.id(), models: &model.spellings, address })?;
        let place = format!("{}:{}", profile.layer.file, profile.layer.line);
        let why = match &profile.selector {
            Some(selector)
                if selector.fits(&Candidate { mac, vendor: &spec.id(), models: &model.spellings, address }) =>
            {
                format!("it is for phones of {selector}, and no other fits this one more closely")
            }
            _ => "it is the one called default, and no other is for phones like this one".to_owned(),
        };
        Some(Suggestion { profile: &profile.layer.name, why, place })
    }

    /// The profile of a device that names none.
    fn choose(&self, phone: &Candidate) -> Option<&std::sync::Arc<Profile>> {
        let fitting =
            |profile: &&std::sync::Arc<Profile>| profile.selector.as_ref().is_some_and(|selector| selector.fits(phone));
        self.index.choosing.iter().find(fitting).or_else(|| self.index.profiles.get("default"))
    }
}

/// A type designation and its row in `vendor.yaml`.
pub(crate) struct Model<'a> {
    name: Option<&'a str>,
    row: Option<&'a provost_plugin::spec::Model>,
    /// As `vendor.yaml` spells it, its aliases, and as it was told: people write any of them.
    spellings: Vec<&'a str>,
}

impl<'a> Model<'a> {
    pub(crate) fn of(spec: &'a Spec, told: Option<&'a str>) -> Model<'a> {
        let Some(told) = told else {
            // What holds for any model holds for one that nobody has told.
            return Model { name: None, row: spec.models.get("*"), spellings: Vec::new() };
        };
        match spec.model(told) {
            // A row that is a pattern has no name of its own to give.
            Some((name, row)) if name.contains('*') => {
                Model { name: Some(told), row: Some(row), spellings: vec![told] }
            }
            Some((name, row)) => {
                let spellings = [name, told].into_iter().chain(row.aliases.iter().map(String::as_str)).collect();
                Model { name: Some(name), row: Some(row), spellings }
            }
            None => Model { name: Some(told), row: None, spellings: vec![told] },
        }
    }

    pub(crate) fn fits(&self, pattern: &str) -> bool {
        self.spellings.iter().any(|model| provost_plugin::spec::matches_wildcard(pattern, model))
    }

    fn phone(&self, spec: &Spec, mut settings: Settings, base_url: String) -> Phone {
        let vendor = spec.id();
        // Of one vendor only, and under names of their own: `phone.vendor` is the vendor's name.
        let raw = std::mem::take(&mut settings.vendor).remove(&vendor).unwrap_or_default();
        let set = std::mem::take(&mut settings.options).remove(&vendor).unwrap_or_default();
        Phone {
            vendor,
            model: self.name.map(str::to_owned),
            base_url,
            capabilities: self.row.cloned().unwrap_or_default(),
            zone: settings.time.zone.as_deref().and_then(zone::zone),
            raw,
            switches: switches(spec, &set),
            settings,
            ..Phone::default()
        }
    }
}

impl Resolved {
    /// The phone as a file may know it that holds nothing of its own: without lines, keys, passwords and raw settings.
    pub fn impersonal(mut self) -> Resolved {
        let settings = std::mem::take(&mut self.phone.settings);
        let shared = Settings { lines: Vec::new(), keys: Vec::new(), expansion: Vec::new(), ..settings };
        self.phone = Phone { mac: None, raw: Default::default(), settings: without_secrets(shared), ..self.phone };
        self
    }

    /// The phone without any password, and without raw settings, which may be some under the vendor's own names.
    pub fn without_secrets(mut self) -> Resolved {
        let settings = std::mem::take(&mut self.phone.settings);
        self.phone = Phone { raw: Default::default(), settings: without_secrets(settings), ..self.phone };
        self
    }

    /// Everything that templates may count on being there.
    fn fill(&mut self) {
        let Resolved { phone: Phone { settings, base_url, .. }, origins, .. } = self;
        for (index, line) in settings.lines.iter_mut().enumerate() {
            fill_line(line, &mut |field, reason| origins.fill(format!("lines.{index}.{field}"), reason));
        }
        fill_keys(&mut settings.keys, &mut |index| origins.fill(format!("keys.{index}.line"), "the first line"));
        for (module, expansion) in settings.expansion.iter_mut().enumerate() {
            let mut note = |index| origins.fill(format!("expansion.{module}.keys.{index}.line"), "the first line");
            fill_keys(&mut expansion.keys, &mut note);
        }
        if settings.provisioning.url.is_none() {
            settings.provisioning.url = Some(base_url.clone());
            origins.fill("provisioning.url".into(), "this server as the phone reaches it");
        }
        let remote = settings.phonebook.remote.iter_mut().map(|book| &mut book.url);
        let trusted = &mut settings.provisioning.trusted_ca;
        let assets = [&mut settings.firmware_update.url, &mut settings.display.wallpaper, trusted];
        // A ring tone is a name that the phone knows, unless it has a slash in it.
        let rings = settings.lines.iter_mut().map(|line| &mut line.ringtone).chain([&mut settings.audio.ringtone]);
        let rings = rings.filter(|ring| ring.as_ref().is_some_and(|ring| ring.contains('/')));
        for url in assets.into_iter().chain(remote).chain(rings).flatten() {
            *url = absolute(url, base_url);
        }
    }
}

fn fill_line(line: &mut Line, note: &mut impl FnMut(&str, &'static str)) {
    let mut fill = |field: &str, value: &mut Option<String>, from: &Option<String>, reason| {
        if value.is_none() && from.is_some() {
            value.clone_from(from);
            note(field, reason);
        }
    };
    fill("number", &mut line.number, &line.username, "the line's username");
    fill("username", &mut line.username, &line.number, "the line's number");
    fill("auth_username", &mut line.auth_username, &line.username, "the line's username");
    fill("label", &mut line.label, &line.number, "the line's number");
    fill("display_name", &mut line.display_name, &line.label, "the line's label");
    if line.enabled.is_none() {
        line.enabled = Some(true);
        note("enabled", "a line that is there is on");
    }
}

fn fill_keys(keys: &mut [FunctionKey], note: &mut impl FnMut(usize)) {
    for (index, key) in keys.iter_mut().enumerate() {
        if key.line.is_none() {
            key.line = Some(1);
            note(index);
        }
    }
}

/// A path on this server as the URL at which this server hands it out; a full URL stays.
pub(crate) fn absolute(url: &str, base_url: &str) -> String {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    if scheme.is_some_and(|scheme| {
        !scheme.is_empty() && scheme.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"+-.".contains(&letter))
    }) {
        return url.to_owned();
    }
    let mut full = base_url.to_owned();
    for letter in url.trim_start_matches('/').chars() {
        // What can stand in no URL; braces and dollars stay, for phones put their own values there.
        if letter.is_ascii_graphic() && !matches!(letter, '"' | '<' | '>') {
            full.push(letter);
        } else {
            full.push_str(&provost_plugin::percent_encode(letter.encode_utf8(&mut [0; 4])));
        }
    }
    full
}

/// Takes every password out, whatever field it stands in: what the type masks is what shows differently when it is exposed. So a
/// password that is added to the model tomorrow is taken out too.
fn without_secrets(settings: Settings) -> Settings {
    fn strip(masked: &Json, exposed: &mut Json) {
        match (masked, exposed) {
            (Json::Object(masked), Json::Object(exposed)) => {
                exposed.retain(|name, value| match masked.get(name) {
                    Some(Json::String(shown)) => value.as_str() == Some(shown),
                    _ => true,
                });
                for (name, value) in exposed {
                    masked.get(name).into_iter().for_each(|masked| strip(masked, value));
                }
            }
            (Json::Array(masked), Json::Array(exposed)) => {
                masked.iter().zip(exposed).for_each(|(masked, exposed)| strip(masked, exposed));
            }
            _ => {}
        }
    }
    let masked = serde_json::to_value(&settings).unwrap_or_default();
    let mut exposed = Secret::exposed(|| serde_json::to_value(&settings)).unwrap_or_default();
    strip(&masked, &mut exposed);
    serde_json::from_value(exposed).unwrap_or_default()
}
