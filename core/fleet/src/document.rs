//! One profile file, read and checked: its layers, profiles and devices, each knowing where it stands.

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use provost_plugin::{MacAddr, Spec, model::Identity, spec::matches_wildcard};

use crate::{
    check::{Checker, cidr, mac_prefix, pattern, vendor_id},
    enrol::{self, Rule},
    node::{Key, Node, Value},
    problem::Problem,
    refer::Refer,
    shape::{self, Shape},
    vault::{self, Vault},
    yaml,
};

/// Everything a file says.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) defaults: Option<Arc<Layer>>,
    pub(crate) sites: Vec<Arc<Layer>>,
    pub(crate) networks: Vec<Arc<Network>>,
    pub(crate) vendors: Vec<Arc<Layer>>,
    pub(crate) models: Vec<Arc<Layer>>,
    pub(crate) profiles: Vec<Arc<Profile>>,
    pub(crate) rules: Vec<Arc<Rule>>,
    pub(crate) devices: Vec<Arc<Device>>,
    /// What stands in it in the place of passwords.
    pub(crate) refers: Vec<Arc<Refer>>,
    /// Passwords stand in it as they are.
    pub(crate) holds_passwords: bool,
}

impl Document {
    /// Everything in it that may refer to a password, with the file.
    pub(crate) fn each_section(&self, look: &mut impl FnMut(&Arc<str>, &Node)) {
        let layers = self.defaults.iter().chain(&self.sites).chain(&self.vendors).chain(&self.models);
        layers.for_each(|layer| look(&layer.file, &layer.settings));
        self.networks.iter().for_each(|network| look(&network.layer.file, &network.layer.settings));
        self.profiles.iter().for_each(|profile| look(&profile.layer.file, &profile.layer.settings));
        self.rules.iter().for_each(|rule| rule.written().for_each(|line| look(&rule.file, line)));
        self.devices.iter().for_each(|device| look(&device.file, &device.settings));
    }

    /// What it refers to and is not to be had.
    pub(crate) fn missing(&self, vault: &Vault, problems: &mut Vec<Problem>) {
        self.each_section(&mut |file, section| vault.problems(file, section, problems));
    }
}

/// Settings under a name.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) name: Box<str>,
    pub(crate) file: Arc<str>,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) settings: Node,
}

/// The name of something that should stand elsewhere, and where it is named.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) name: Box<str>,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) layer: Layer,
    pub(crate) cidr: Option<IpNet>,
    pub(crate) interface: Option<Box<str>>,
    pub(crate) site: Option<Reference>,
}

impl Network {
    pub(crate) fn covers(&self, address: Option<IpAddr>, interface: Option<&str>) -> bool {
        let by_address =
            self.cidr.is_none_or(|cidr| address.is_some_and(|address| cidr.contains(&address.to_canonical())));
        by_address && self.interface.as_deref().is_none_or(|own| interface == Some(own))
    }
}

#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) layer: Layer,
    pub(crate) extends: Option<Reference>,
    pub(crate) site: Option<Reference>,
    pub(crate) selector: Option<Selector>,
}

/// What a profile's `match` asks for; every part that is there must fit.
#[derive(Debug)]
pub(crate) struct Selector {
    vendor: Option<Box<str>>,
    model: Option<Box<str>>,
    mac: Option<Box<str>>,
    network: Option<IpNet>,
}

/// What selectors look at.
pub(crate) struct Candidate<'a> {
    pub(crate) mac: MacAddr,
    pub(crate) vendor: &'a str,
    pub(crate) models: &'a [&'a str],
    pub(crate) address: Option<IpAddr>,
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = self.network.map(|network| network.to_string());
        let parts = [
            ("vendor", self.vendor.as_deref()),
            ("model", self.model.as_deref()),
            ("MAC", self.mac.as_deref()),
            ("network", network.as_deref()),
        ];
        let said: Vec<String> =
            parts.iter().filter_map(|(name, part)| part.map(|part| format!("{name} {part}"))).collect();
        f.write_str(&said.join(", "))
    }
}

impl Selector {
    pub(crate) fn fits(&self, phone: &Candidate) -> bool {
        self.vendor.as_deref().is_none_or(|vendor| vendor == phone.vendor)
            && self
                .model
                .as_deref()
                .is_none_or(|pattern| phone.models.iter().any(|model| matches_wildcard(pattern, model)))
            && self.mac.as_deref().is_none_or(|prefix| phone.mac.bare().starts_with(prefix))
            && self
                .network
                .is_none_or(|network| phone.address.is_some_and(|address| network.contains(&address.to_canonical())))
    }

    /// What it asks for, for people.
    pub(crate) fn in_words(&self) -> String {
        let network = self.network.map(|network| network.to_string());
        let parts = [
            ("vendor", self.vendor.as_deref()),
            ("model", self.model.as_deref()),
            ("MAC", self.mac.as_deref()),
            ("network", network.as_deref()),
        ];
        let parts = parts.iter().filter_map(|(name, value)| Some(format!("{name} {}", (*value)?)));
        parts.collect::<Vec<_>>().join(", ")
    }

    /// How narrow it is: the number of its parts, then the letters of the model that it fixes, the digits of the MAC, the bits of the
    /// network. The greater wins; between equals the profile whose name comes first.
    pub(crate) fn rank(&self) -> (usize, usize, usize, u8) {
        let parts = [self.vendor.is_some(), self.model.is_some(), self.mac.is_some(), self.network.is_some()];
        (
            parts.iter().filter(|part| **part).count(),
            self.model.as_deref().map_or(0, |pattern| pattern.chars().filter(|letter| *letter != '*').count()),
            self.mac.as_deref().map_or(0, str::len),
            self.network.map_or(0, |network| network.prefix_len()),
        )
    }
}

/// What the administrator says that a phone is.
#[derive(Debug)]
struct Stated {
    vendor: Option<String>,
    model: Option<String>,
    hardware: Option<String>,
}

/// A phone that the files know.
#[derive(Debug)]
pub struct Device {
    mac: MacAddr,
    label: Option<Box<str>>,
    location: Option<Box<str>>,
    enabled: bool,
    /// Boxed: few devices state what they are.
    stated: Option<Box<Stated>>,
    pub(crate) profile: Option<Reference>,
    pub(crate) site: Option<Reference>,
    enrolled_by: Option<Box<str>>,
    pub(crate) file: Arc<str>,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) settings: Node,
}

impl Device {
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// What people call it.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Where it stands.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// False: it is known, but given nothing.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The profile that the device itself asks for. Which one it gets where it asks for none depends on the phone: see
    /// [`Resolved`](crate::Resolved).
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_ref().map(|reference| &*reference.name)
    }

    pub fn site(&self) -> Option<&str> {
        self.site.as_ref().map(|reference| &*reference.name)
    }

    /// The rule that enrolled it, where nobody did.
    pub fn enrolled_by(&self) -> Option<&str> {
        self.enrolled_by.as_deref()
    }

    /// The plugin's name for the vendor, where the administrator stated it.
    pub fn stated_vendor(&self) -> Option<&str> {
        self.stated.as_ref().and_then(|stated| stated.vendor.as_deref())
    }

    pub fn stated_model(&self) -> Option<&str> {
        self.stated.as_ref().and_then(|stated| stated.model.as_deref())
    }

    /// Whether the administrator stated that this is a phone of `spec`'s vendor.
    pub fn is_stated_to_be(&self, spec: &Spec) -> bool {
        self.stated_vendor() == Some(&spec.id())
    }

    /// What was stated, laid over what was observed: an explicit word stays the same over restarts and firmware updates.
    pub fn identity(&self, observed: &Identity) -> Identity {
        Identity {
            mac: Some(self.mac),
            vendor: self.stated_vendor().map(str::to_owned).or_else(|| observed.vendor.clone()),
            model: self.stated_model().map(str::to_owned).or_else(|| observed.model.clone()),
            hardware: self
                .stated
                .as_ref()
                .and_then(|stated| stated.hardware.clone())
                .or_else(|| observed.hardware.clone()),
            ..observed.clone()
        }
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn line(&self) -> u32 {
        self.line
    }
}

/// What the administrator says that it is, by the names of a profile.
pub(crate) fn stated(device: &Device) -> [(&'static str, Option<&str>); 3] {
    let stated = device.stated.as_deref();
    [
        ("vendor", stated.and_then(|stated| stated.vendor.as_deref())),
        ("model", stated.and_then(|stated| stated.model.as_deref())),
        ("hardware", stated.and_then(|stated| stated.hardware.as_deref())),
    ]
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.mac)?;
        self.label.iter().try_for_each(|label| write!(f, " ({label})"))
    }
}

/// Reads a file's bytes. With an error among the problems, the document is not fit for service.
pub(crate) fn read(file: &Arc<str>, bytes: &[u8]) -> (Document, Vec<Problem>) {
    let (root, mut problems) = checked(file, bytes, &shape::DOCUMENT);
    let holds_passwords = root.as_ref().is_some_and(|root| holds_passwords(root, &shape::DOCUMENT));
    let mut refers = Vec::new();
    if let Some(root) = &root {
        vault::find(root, &mut |_, refer| {
            refers.push(refer.clone());
            false
        });
    }
    let document = root.map(|root| assemble(file, root, &mut problems)).unwrap_or_default();
    let document = Document { refers, holds_passwords, ..document };
    problems.sort_by_key(|problem| (problem.line, problem.column));
    (document, problems)
}

/// Whether a password of the model stands there as it is.
pub(crate) fn holds_passwords(node: &Node, shape: &Shape) -> bool {
    match (&node.value, shape) {
        (Value::Text(text), Shape::Secret { loose: false, .. }) => !text.is_empty(),
        (Value::Map(entries), _) => entries
            .iter()
            .any(|(key, node)| shape.field(key.as_str()).is_some_and(|shape| holds_passwords(node, shape))),
        (Value::List(items), Shape::List { item, .. }) => items.iter().any(|node| holds_passwords(node, item)),
        _ => false,
    }
}

/// The bytes of a file as checked values, and everything that is wrong with them.
pub(crate) fn checked(file: &Arc<str>, bytes: &[u8], shape: &'static Shape) -> (Option<Node>, Vec<Problem>) {
    let text = match text(file, bytes) {
        Ok(text) => text,
        Err(problem) => return (None, vec![problem]),
    };
    let written = match yaml::read(text) {
        Ok(written) => written,
        Err(bad) => {
            return (None, vec![Problem::error(file, bad.line, bad.column, format!("not YAML: {}", bad.message))]);
        }
    };
    let mut checker = Checker::new(file, text);
    let root = checker.value(written, shape, "");
    (root, checker.problems)
}

/// The bytes of a file as text, without the mark that some editors put in front.
pub(crate) fn text<'a>(file: &Arc<str>, bytes: &'a [u8]) -> Result<&'a str, Problem> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
            let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() as u32 + 1;
            Err(Problem::error(file, line, column, "the file is not UTF-8 text"))
        }
    }
}

fn assemble(file: &Arc<str>, root: Node, problems: &mut Vec<Problem>) -> Document {
    let mut document = Document::default();
    let layer = |key: Key, node: Node| Layer {
        name: key.as_str().into(),
        file: file.clone(),
        line: node.line,
        column: node.column,
        settings: node,
    };
    for (key, node) in root.into_entries() {
        let name = key.as_str().to_owned();
        match name.as_str() {
            "defaults" => document.defaults = Some(Arc::new(layer(key, node))),
            "sites" => {
                document.sites = node.into_entries().into_iter().map(|(key, node)| Arc::new(layer(key, node))).collect()
            }
            "vendors" => {
                document.vendors =
                    node.into_entries().into_iter().map(|(key, node)| Arc::new(layer(key, node))).collect()
            }
            "models" => {
                for (key, node) in node.into_entries() {
                    if let Some(message) = pattern(key.as_str()) {
                        problems.push(Problem::error(file, node.line, node.column, message));
                    }
                    document.models.push(Arc::new(layer(key, node)));
                }
            }
            "networks" => {
                let Value::List(items) = node.value else { continue };
                document.networks.extend(
                    items.into_vec().into_iter().filter_map(|item| network(file, item, problems)).map(Arc::new),
                );
            }
            "profiles" => {
                document.profiles = node
                    .into_entries()
                    .into_iter()
                    .map(|(key, node)| Arc::new(profile(file, &key, node, problems)))
                    .collect();
            }
            "enrol" => {
                let rules = node.into_entries().into_iter();
                document.rules =
                    rules.filter_map(|(key, node)| enrol::read(file, &key, node, problems)).map(Arc::new).collect();
            }
            "devices" => {
                document.devices =
                    node.into_entries().into_iter().filter_map(|(key, node)| device(file, &key, node)).collect()
            }
            _ => {}
        }
    }
    document
}

/// Takes the document's own keys out of a section; what is left are settings.
pub(crate) struct Own {
    pub(crate) at: (u32, u32),
    own: Vec<(Key, Node)>,
    settings: Vec<(Key, Node)>,
}

impl Own {
    pub(crate) fn split(node: Node, names: &[&str]) -> Own {
        let at = (node.line, node.column);
        let (own, settings) = node.into_entries().into_iter().partition(|(key, _)| names.contains(&key.as_str()));
        Own { at, own, settings }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.own.iter().find(|(key, _)| key.as_str() == name).map(|(_, node)| node)
    }

    pub(crate) fn text(&self, name: &str) -> Option<Box<str>> {
        self.get(name).and_then(Node::text).map(Into::into)
    }

    pub(crate) fn reference(&self, name: &str) -> Option<Reference> {
        let node = self.get(name)?;
        Some(Reference { name: node.text()?.into(), line: node.line, column: node.column })
    }

    fn layer(self, name: Box<str>, file: &Arc<str>) -> Layer {
        let (line, column) = self.at;
        let settings = Node { line, column, value: Value::Map(self.settings.into()) };
        Layer { name, file: file.clone(), line, column, settings }
    }
}

fn network(file: &Arc<str>, node: Node, problems: &mut Vec<Problem>) -> Option<Network> {
    let own = Own::split(node, &["cidr", "interface", "site", "name"]);
    let cidr = own.text("cidr").and_then(|text| cidr(&text).ok());
    let interface = own.text("interface");
    if own.get("cidr").is_none() && interface.is_none() {
        problems.push(Problem::error(
            file,
            own.at.0,
            own.at.1,
            "an entry of \"networks\" needs \"cidr\" or \"interface\"",
        ));
        return None;
    }
    let name = match (own.text("name"), cidr, &interface) {
        (Some(name), _, _) => name,
        (None, Some(cidr), Some(interface)) => format!("{cidr} on {interface}").into(),
        (None, Some(cidr), None) => cidr.to_string().into(),
        (None, None, interface) => interface.clone().unwrap_or_default(),
    };
    Some(Network { cidr, interface, site: own.reference("site"), layer: own.layer(name, file) })
}

fn profile(file: &Arc<str>, key: &Key, node: Node, problems: &mut Vec<Problem>) -> Profile {
    let own = Own::split(node, &["extends", "match", "site"]);
    let selector = own.get("match").filter(|node| !matches!(node.value, Value::Null)).map(|node| {
        let text = |name| node.get(name).and_then(Node::text);
        if node.entries().iter().all(|(_, part)| part.text().is_none()) {
            let message = "\"match\" needs at least one of vendor, model, mac and network";
            problems.push(Problem::error(file, node.line, node.column, message));
        }
        Selector {
            vendor: text("vendor").map(|vendor| vendor_id(vendor).into()),
            model: text("model").map(Into::into),
            mac: text("mac").map(|mac| mac_prefix(mac).into()),
            network: text("network").and_then(|network| cidr(network).ok()),
        }
    });
    Profile {
        selector,
        extends: own.reference("extends"),
        site: own.reference("site"),
        layer: own.layer(key.as_str().into(), file),
    }
}

fn device(file: &Arc<str>, key: &Key, node: Node) -> Option<Arc<Device>> {
    let mac = key.as_str().parse().ok()?;
    let own = Own::split(node, &["profile", "site", "label", "location", "enabled", "identity", "enrolled_by"]);
    let stated = own.get("identity").map(|identity| {
        let text = |name| identity.get(name).and_then(Node::text);
        Box::new(Stated {
            vendor: text("vendor").map(vendor_id),
            model: text("model").map(str::to_owned),
            hardware: text("hardware").map(str::to_owned),
        })
    });
    Some(Arc::new(Device {
        mac,
        label: own.text("label"),
        location: own.text("location"),
        enabled: !matches!(own.get("enabled").map(|node| &node.value), Some(Value::Switch(false))),
        stated,
        profile: own.reference("profile"),
        site: own.reference("site"),
        enrolled_by: own.text("enrolled_by"),
        file: file.clone(),
        line: own.at.0,
        column: own.at.1,
        settings: own.layer(Box::default(), file).settings,
    }))
}
