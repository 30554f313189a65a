//! `provost.yaml`: how the server itself is run. Every key is optional.
//!
//! [`SettingsFile`] is what somebody typed; [`Settings`] is what it means, with paths made whole and every problem found on the way.
//! What phones should be is not here but in profiles.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::header::HeaderName;
use ipnet::{IpNet, Ipv4Net};
use provost_fleet::WithoutKey;
use provost_plugin::model::Protocol;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    guard::Rules,
    http::Proxies,
    pnp::{exchange::Wanted, relay},
    quiet::Hours,
    tftp::TftpEngine,
};

/// The file as written.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsFile {
    /// Directory that the other paths are relative to. Left out, it is where the settings file lies, or else the current directory.
    pub data: Option<PathBuf>,
    /// Profiles and devices. Default `profiles`.
    pub profiles: Option<PathBuf>,
    /// Templates as shipped. Default `templates`.
    pub templates: Option<PathBuf>,
    /// The site's own templates, which win. Default `overrides`.
    pub overrides: Option<PathBuf>,
    /// Directories of plugins. Default `plugins`.
    pub plugins: Vec<PathBuf>,
    /// Ring tones, wallpapers and other files served as they are. Default `assets`.
    pub assets: Option<PathBuf>,
    /// Lists of people, which phones read in their vendor's form. Default `phonebooks`.
    pub phonebooks: Option<PathBuf>,
    /// Firmware, and `firmware.yaml` which says what it is for. Default `firmware`.
    pub firmware: Option<PathBuf>,
    /// The file of secrets, to whose names profiles refer. Default `secrets.yaml`.
    pub secrets: Option<PathBuf>,
    /// The file of the age identity that opens encrypted secrets. Default the systemd credential `age.identity` where there is one, else
    /// `state/age.identity`.
    pub secrets_identity: Option<PathBuf>,
    /// What the server itself keeps. Default `state`.
    pub state: Option<PathBuf>,
    pub pnp: PnpFile,
    pub http: HttpFile,
    pub https: HttpsFile,
    pub tftp: TftpFile,
    pub admin: AdminFile,
    /// This server's URL as phones reach it, where that is not the address that heard them.
    #[schemars(with = "Option<String>")]
    pub public_url: Option<String>,
    /// The same for phones of one network; the longest prefix wins.
    pub networks: Vec<NetworkFile>,
    /// Answer phones with somebody else's URL. The first entry that fits wins.
    pub forward: Vec<ForwardFile>,
    pub rollouts: RolloutsFile,
    pub defence: DefenceFile,
    pub process: ProcessFile,
    pub log: LogFile,
}

/// Who asks for what no phone asks for.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DefenceFile {
    /// Minutes for which it is locked out, twice as many each time; 0 is never.
    pub lockout: u32,
    /// Networks that are never locked out, as of a site behind one address.
    #[schemars(with = "Vec<String>")]
    pub exempt: Vec<IpNet>,
}

impl Default for DefenceFile {
    fn default() -> DefenceFile {
        DefenceFile { lockout: 15, exempt: Vec::new() }
    }
}

impl DefenceFile {
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules { lockout: Duration::from_secs(u64::from(self.lockout) * 60), exempt: &self.exempt }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PnpFile {
    pub enabled: bool,
    /// Interfaces to listen on. Empty is every one that is up and can do multicast, as they come and go.
    pub interfaces: Vec<String>,
    pub listen: Listen,
    #[schemars(with = "String")]
    pub group: Ipv4Addr,
    pub port: u16,
    /// Port that answers and NOTIFYs are sent from; 0 is any that is free.
    pub reply_port: u16,
    /// Receive buffer in bytes: a building that powers on at once sends some 700 bytes for each phone.
    pub receive_buffer: usize,
    /// SUBSCRIBEs that are heard of one address in a second; 0 is any number.
    pub per_source: u32,
    /// Hear phones whose address is in none of this server's own networks.
    pub off_link: bool,
    pub relay: RelayFile,
}

/// Relays in subnets beyond a router, which hear phones there (`provost relay`).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RelayFile {
    /// UDP port where relays are heard, if any has a key.
    pub port: u16,
    pub keys: Vec<RelayKeyFile>,
}

impl Default for RelayFile {
    fn default() -> RelayFile {
        RelayFile { port: relay::PORT, keys: Vec::new() }
    }
}

/// The key of one relay.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RelayKeyFile {
    /// What the relay is called in the log and in phones' histories.
    pub name: String,
    /// File with the secret that the relay has too.
    pub file: PathBuf,
    /// The phones for which it may speak.
    #[schemars(with = "String")]
    pub network: Ipv4Net,
}

impl Default for PnpFile {
    fn default() -> PnpFile {
        PnpFile {
            enabled: true,
            interfaces: Vec::new(),
            listen: Listen::Auto,
            group: Ipv4Addr::new(224, 0, 1, 75),
            port: 5060,
            reply_port: 0,
            receive_buffer: 16 << 20,
            per_source: Wanted::default().per_source,
            off_link: Wanted::default().off_link,
            relay: RelayFile::default(),
        }
    }
}

/// How the group is heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Listen {
    /// `raw` where the process may, else `udp`.
    #[default]
    Auto,
    /// A raw socket: in nobody's way, whatever else owns port 5060 and in whichever order it starts. Needs CAP_NET_RAW.
    Raw,
    /// A UDP socket bound to the group. Fails, or makes the other fail, where a PBX binds the wildcard without address reuse.
    Udp,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpFile {
    pub enabled: bool,
    #[schemars(with = "String")]
    pub address: IpAddr,
    pub port: u16,
    /// Connections open at one time.
    pub connections: usize,
    /// Connections open at one time from one address.
    pub connections_per_peer: usize,
    /// Reverse proxies before this server: what they say in `X-Forwarded-For` and `X-Forwarded-Proto` of whom they pass on is believed,
    /// and from nobody else.
    #[schemars(with = "Vec<String>")]
    pub proxies: Vec<IpNet>,
    /// The header in which they hand over the certificate that a phone has shown them: PEM with percent signs, or DER in base64.
    pub proxy_certificate_header: Option<String>,
}

impl Default for HttpFile {
    fn default() -> HttpFile {
        HttpFile {
            enabled: true,
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 8080,
            connections: 4096,
            connections_per_peer: 256,
            proxies: Vec::new(),
            proxy_certificate_header: None,
        }
    }
}

/// The same files as over HTTP, encrypted.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpsFile {
    pub enabled: bool,
    #[schemars(with = "String")]
    pub address: IpAddr,
    pub port: u16,
    /// PEM file with the certificate that phones are shown, and those between it and its authority. Left out, it is the one that
    /// `provost certs issue` makes.
    pub certificate: Option<PathBuf>,
    /// PEM file with its key. Left out, the key is in the same file.
    pub key: Option<PathBuf>,
    pub client_certificates: ClientCertificates,
    /// Directory of PEM files with the authorities that sign phones' certificates, as their vendors publish them. The one that
    /// `provost certs init` makes counts as well.
    pub client_authorities: Option<PathBuf>,
}

impl Default for HttpsFile {
    fn default() -> HttpsFile {
        HttpsFile {
            enabled: false,
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 8443,
            certificate: None,
            key: None,
            client_certificates: ClientCertificates::Off,
            client_authorities: None,
        }
    }
}

/// Whether phones are asked for the certificate that their factory or this site has given them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    #[default]
    Off,
    /// Asked for. One that is foreign or has ended is as good as none.
    Optional,
    /// Nobody is served without a good one.
    Required,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TftpFile {
    pub enabled: bool,
    /// Addresses to serve on. Empty is every address of this machine, as they come and go.
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpAddr>,
    pub port: u16,
    pub engine: TftpEngine,
    /// Each transfer from a port of its own, as the RFC has it. Without, all come from the port that was asked, for the sake of firewalls.
    pub port_per_transfer: bool,
    /// Transfers at one time.
    pub transfers: usize,
    /// Transfers at one time from one address.
    pub transfers_per_peer: usize,
}

impl Default for TftpFile {
    fn default() -> TftpFile {
        TftpFile {
            enabled: true,
            addresses: Vec::new(),
            port: 69,
            engine: TftpEngine::Own,
            port_per_transfer: true,
            transfers: 2048,
            transfers_per_peer: 64,
        }
    }
}

/// The people's door. Every request there needs a key.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminFile {
    pub enabled: bool,
    /// Only this machine, until told otherwise.
    #[schemars(with = "String")]
    pub address: IpAddr,
    pub port: u16,
    /// Encrypted, with the certificate of `https`, whether that door is open or not.
    pub tls: bool,
}

impl Default for AdminFile {
    fn default() -> AdminFile {
        AdminFile { enabled: true, address: Ipv4Addr::LOCALHOST.into(), port: 8081, tls: false }
    }
}

/// How many phones are made to fetch again, where whoever wants it does not say.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutsFile {
    /// Phones that are told in a minute.
    #[schemars(range(min = 1, max = 6000))]
    pub per_minute: u32,
    /// Stop when so many phones have failed; 0 is never.
    pub stop_after: u32,
    /// Hours in which no phone is told: `mon-fri 08:00-18:00`, `22:00-06:00`.
    pub quiet_hours: Vec<Hours>,
    /// The zone of these hours, as in Europe/Berlin. Left out, it is this machine's.
    pub time_zone: Option<String>,
}

impl Default for RolloutsFile {
    fn default() -> RolloutsFile {
        RolloutsFile { per_minute: 60, stop_after: 5, quiet_hours: Vec::new(), time_zone: None }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkFile {
    #[schemars(with = "String")]
    pub cidr: Ipv4Net,
    pub public_url: String,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardFile {
    /// `{mac}`, `{MAC}`, `{model}`, `{vendor}` and `{firmware}` are filled in.
    pub url: String,
    /// Only for this vendor's phones.
    #[serde(default)]
    pub vendor: Option<String>,
    /// Only for phones of this network.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub network: Option<Ipv4Net>,
}

/// What the server may do once it has started. Changes take a restart.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessFile {
    /// The user that it becomes where root starts it.
    pub user: Option<String>,
    /// Keep CAP_NET_ADMIN, with which the TFTP door has large receive buffers on addresses that come later, too.
    pub net_admin: bool,
    /// Reach no files but in the directories that the settings name, where the kernel has Landlock.
    pub landlock: bool,
}

impl Default for ProcessFile {
    fn default() -> ProcessFile {
        ProcessFile { user: None, net_admin: false, landlock: true }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogFile {
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,provost_server=debug`.
    pub level: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

/// The file of the identity in `state/`, and the name of the credential.
const IDENTITY: &str = "age.identity";
/// The key of generated passwords in `state/`.
const KEY_OF_PASSWORDS: &str = "passwords.key";

/// What a file means: paths whole, URLs checked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub file: Option<PathBuf>,
    /// What the others are relative to; empty is where the process stands.
    pub data: PathBuf,
    pub profiles: PathBuf,
    pub templates: PathBuf,
    pub overrides: PathBuf,
    pub plugins: Vec<PathBuf>,
    /// Where libraries are that a `vendor.yaml` names: beside the program.
    pub libraries: Vec<PathBuf>,
    pub assets: PathBuf,
    pub phonebooks: PathBuf,
    pub firmware: PathBuf,
    pub secrets: PathBuf,
    pub secrets_identity: PathBuf,
    /// Not in the file: whoever starts the server settles it.
    pub without_key: WithoutKey,
    pub state: PathBuf,
    pub pnp: PnpFile,
    pub http: HttpFile,
    /// Its paths are whole.
    pub https: HttpsFile,
    pub tftp: TftpFile,
    pub admin: AdminFile,
    pub public_url: Option<String>,
    /// Longest prefix first.
    pub networks: Vec<NetworkFile>,
    pub forward: Vec<ForwardFile>,
    pub rollouts: RolloutsFile,
    pub defence: DefenceFile,
    pub process: ProcessFile,
    pub log: LogFile,
}

/// What is wrong with the settings, all of it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// The file, if the settings come from one.
    pub file: Option<PathBuf>,
    pub problems: Vec<Wrong>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// 0 where no line is to blame.
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, wrong) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            if let Some(file) = &self.file {
                write!(f, "{}", file.display())?;
                if wrong.line > 0 {
                    write!(f, ":{}:{}", wrong.line, wrong.column)?;
                }
                f.write_str(": ")?;
            }
            f.write_str(&wrong.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}

impl SettingsFile {
    pub fn read(path: &Path) -> Result<SettingsFile, SettingsError> {
        let refuse = |line, column, message| SettingsError {
            file: Some(path.to_owned()),
            problems: vec![Wrong { line, column, message }],
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| refuse(0, 0, format!("cannot read the settings: {error}")))?;
        serde_yaml::from_str(&text).map_err(|error| {
            let (line, column) = error.location().map_or((0, 0), |at| (at.line() as usize, at.column() as usize));
            let message = error.without_snippet().to_string();
            // The place is told in front, where editors and people look for it.
            let message = message.split(" at line ").next().unwrap_or_default();
            refuse(line, column, message.trim_start_matches("error: ").to_owned())
        })
    }

    /// Makes the settings ready to run.
    pub fn settle(self, file: Option<&Path>) -> Result<Settings, SettingsError> {
        let mut problems = Vec::new();
        let beside = file.and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
        let root = self.data.map_or(beside.clone(), |data| beside.join(data));
        let within = |path: Option<PathBuf>, default: &str| root.join(path.unwrap_or_else(|| default.into()));
        let urls = self
            .public_url
            .iter()
            .map(|url| ("public_url".to_owned(), url))
            .chain(
                self.networks
                    .iter()
                    .map(|network| (format!("the public_url of network {}", network.cidr), &network.public_url)),
            )
            .chain(self.forward.iter().map(|forward| ("the URL to forward to,".to_owned(), &forward.url)));
        for (what, url) in urls {
            if let Err(why) = plain_url(url) {
                problems.push(format!("{what} \"{url}\" {why}"));
            }
        }
        let sample = provost_plugin::model::Identity {
            mac: Some(provost_plugin::MacAddr::new([0; 6])),
            vendor: Some("vendor".into()),
            model: Some("model".into()),
            firmware: Some("1".into()),
            ..Default::default()
        };
        let expansions = self.forward.iter().map(|forward| provost_plugin::expand_url(&forward.url, "", &sample));
        problems.extend(expansions.filter_map(Result::err).map(|error| error.to_string()));
        if !self.pnp.group.is_multicast() {
            problems.push(format!("pnp.group {} is not a multicast address", self.pnp.group));
        }
        let mut relays = BTreeSet::new();
        for RelayKeyFile { name, .. } in &self.pnp.relay.keys {
            let is_plain = |letter: char| letter.is_alphanumeric() || "-_.".contains(letter);
            if name.is_empty() || name.chars().count() > 32 || !name.chars().all(is_plain) {
                problems.push(format!("pnp.relay.keys: \"{name}\" cannot be the name of a relay: up to 32 letters, digits, \"-\", \"_\" and \".\""));
            } else if !relays.insert(name) {
                problems.push(format!("pnp.relay.keys: there are two of the name \"{name}\""));
            }
        }
        if let Some(name) = &self.http.proxy_certificate_header
            && HeaderName::from_bytes(name.as_bytes()).is_err()
        {
            problems.push(format!("http.proxy_certificate_header \"{name}\" cannot be the name of a header"));
        }
        if self.https.key.is_some() && self.https.certificate.is_none() {
            problems.push("https.key is of no use without https.certificate".into());
        }
        if let Some(why) = self.rollouts.time_zone.as_deref().and_then(provost_fleet::zone_refusal) {
            problems.push(format!("rollouts.time_zone: {why}"));
        }
        if !(1..=6000).contains(&self.rollouts.per_minute) {
            problems.push(format!("rollouts.per_minute is from 1 to 6000, and not {}", self.rollouts.per_minute));
        }
        if !problems.is_empty() {
            let problems = problems.into_iter().map(|message| Wrong { line: 0, column: 0, message }).collect();
            return Err(SettingsError { file: file.map(Path::to_owned), problems });
        }
        let slash = |url: String| if url.ends_with('/') { url } else { format!("{url}/") };
        let mut networks: Vec<_> = self
            .networks
            .into_iter()
            .map(|network| NetworkFile { public_url: slash(network.public_url), ..network })
            .collect();
        networks.sort_by_key(|network| std::cmp::Reverse(network.cidr.prefix_len()));
        let plugins = if self.plugins.is_empty() {
            vec![root.join("plugins")]
        } else {
            self.plugins.iter().map(|path| root.join(path)).collect()
        };
        let state = within(self.state, "state");
        let given = std::env::var_os("CREDENTIALS_DIRECTORY").map(|given| PathBuf::from(given).join(IDENTITY));
        let identity = given.filter(|path| path.is_file()).unwrap_or_else(|| state.join(IDENTITY));
        let beside_program = std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
        Ok(Settings {
            file: file.map(Path::to_owned),
            profiles: within(self.profiles, "profiles"),
            templates: within(self.templates, "templates"),
            overrides: within(self.overrides, "overrides"),
            plugins,
            libraries: beside_program.into_iter().collect(),
            assets: within(self.assets, "assets"),
            phonebooks: within(self.phonebooks, "phonebooks"),
            firmware: within(self.firmware, "firmware"),
            secrets: within(self.secrets, "secrets.yaml"),
            secrets_identity: self.secrets_identity.map_or(identity, |path| root.join(path)),
            without_key: WithoutKey::default(),
            state,
            pnp: PnpFile {
                relay: RelayFile {
                    keys: (self.pnp.relay.keys.into_iter())
                        .map(|key| RelayKeyFile { file: root.join(key.file), ..key })
                        .collect(),
                    ..self.pnp.relay
                },
                ..self.pnp
            },
            http: self.http,
            https: HttpsFile {
                certificate: self.https.certificate.map(|path| root.join(path)),
                key: self.https.key.map(|path| root.join(path)),
                client_authorities: self.https.client_authorities.map(|path| root.join(path)),
                ..self.https
            },
            tftp: self.tftp,
            admin: self.admin,
            public_url: self.public_url.map(slash),
            networks,
            forward: self.forward,
            rollouts: self.rollouts,
            defence: self.defence,
            process: self.process,
            data: root,
            log: self.log,
        })
    }
}

/// A URL goes into a NOTIFY and into config files: one line, of a scheme that phones fetch from.
fn plain_url(url: &str) -> Result<(), &'static str> {
    let rest = ["http://", "https://", "tftp://", "ftp://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    match rest {
        None => Err("begins with none of http://, https://, tftp:// and ftp://"),
        Some("") => Err("names no host"),
        Some(_) if url.chars().any(|character| character.is_control() || character.is_whitespace()) => {
            Err("has a blank or a control character in it")
        }
        Some(_) => Ok(()),
    }
}

impl Settings {
    /// This server as a phone at `peer` reaches it, when it spoke to our address `local` and should come by `wanted`.
    pub fn base_url(&self, peer: Option<IpAddr>, local: IpAddr, wanted: Protocol) -> String {
        if let Some(url) = self.given_url(peer) {
            return url.to_owned();
        }
        let port = |port: u16, usual: u16| if port == usual { String::new() } else { format!(":{port}") };
        let host = match local {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        match (wanted, self.http.enabled, self.https.enabled) {
            // Without HTTP nothing is left but to encrypt.
            (Protocol::Https, _, true) | (Protocol::Http, false, true) => {
                format!("https://{host}{}/", port(self.https.port, 443))
            }
            (Protocol::Http | Protocol::Https, true, _) => format!("http://{host}{}/", port(self.http.port, 80)),
            (Protocol::Tftp, ..) | (_, false, false) => format!("tftp://{host}{}/", port(self.tftp.port, 69)),
        }
    }

    /// The URL that the settings give for phones at `peer`, whatever the doors are.
    pub(crate) fn given_url(&self, peer: Option<IpAddr>) -> Option<&str> {
        let network = peer.and_then(|peer| match peer {
            IpAddr::V4(peer) => self.networks.iter().find(|network| network.cidr.contains(&peer)),
            IpAddr::V6(_) => None,
        });
        network.map(|network| &network.public_url).or(self.public_url.as_ref()).map(String::as_str)
    }

    /// Somebody else's URL for this phone, if the settings say so.
    pub fn forward_for(&self, peer: Option<IpAddr>, vendor: Option<&str>) -> Option<&ForwardFile> {
        self.forward.iter().find(|forward| {
            let vendor = forward
                .vendor
                .as_ref()
                .is_none_or(|wanted| vendor.is_some_and(|vendor| vendor.eq_ignore_ascii_case(wanted)));
            let network =
                forward.network.is_none_or(|wanted| matches!(peer, Some(IpAddr::V4(peer)) if wanted.contains(&peer)));
            vendor && network
        })
    }

    /// Where passwords are to which profiles refer.
    pub fn kept(&self) -> provost_fleet::Places {
        provost_fleet::Places {
            secrets: self.secrets.clone(),
            identity: self.secrets_identity.clone(),
            key: self.state.join(KEY_OF_PASSWORDS),
            without_key: self.without_key,
        }
    }

    pub fn http_socket(&self) -> SocketAddr {
        SocketAddr::new(self.http.address, self.http.port)
    }

    pub fn https_socket(&self) -> SocketAddr {
        SocketAddr::new(self.https.address, self.https.port)
    }

    /// Who may speak for others.
    pub fn proxies(&self) -> Proxies {
        let header = self.http.proxy_certificate_header.as_ref();
        Proxies {
            networks: self.http.proxies.clone(),
            certificate_header: header.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok()),
        }
    }

    pub fn places(&self) -> provost_host::Places {
        provost_host::Places {
            plugins: self.plugins.clone(),
            libraries: self.libraries.clone(),
            templates: self.templates.clone(),
            overrides: self.overrides.clone(),
            staged: self.state.join("staged"),
            edited: std::collections::BTreeMap::new(),
        }
    }
}

/// JSON Schema of `provost.yaml`, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(SettingsFile).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(yaml: &str) -> Result<Settings, SettingsError> {
        serde_yaml::from_str::<SettingsFile>(yaml).expect("readable").settle(None)
    }

    #[test]
    fn the_url_is_that_of_the_address_that_heard_the_phone_unless_a_network_has_its_own() {
        let settings = settle("networks: [{cidr: 10.0.0.0/8, public_url: 'https://a.example'}, {cidr: 10.1.0.0/16, public_url: 'https://b.example/p'}]").unwrap();
        let url =
            |peer: &str| settings.base_url(Some(peer.parse().unwrap()), "192.0.2.1".parse().unwrap(), Protocol::Http);
        assert_eq!(url("192.0.2.9"), "http://192.0.2.1:8080/");
        assert_eq!(url("10.9.0.1"), "https://a.example/");
        assert_eq!(url("10.1.0.1"), "https://b.example/p/");
        assert_eq!(settings.base_url(None, "192.0.2.1".parse().unwrap(), Protocol::Tftp), "tftp://192.0.2.1/");
    }

    #[test]
    fn the_url_has_the_protocol_that_is_wanted_of_those_that_are_open() {
        let url = |doors: &str, wanted| settle(doors).unwrap().base_url(None, "192.0.2.1".parse().unwrap(), wanted);
        let (http, https, tftp) = (Protocol::Http, Protocol::Https, Protocol::Tftp);
        let both = "https: {enabled: true}";
        assert_eq!(url(both, https), "https://192.0.2.1:8443/");
        assert_eq!(url(both, http), "http://192.0.2.1:8080/");
        assert_eq!(url(both, tftp), "tftp://192.0.2.1/");
        assert_eq!(url("{}", https), "http://192.0.2.1:8080/");
        assert_eq!(url("{http: {enabled: false}, https: {enabled: true, port: 443}}", http), "https://192.0.2.1/");
        assert_eq!(url("http: {enabled: false}", https), "tftp://192.0.2.1/");
    }

    #[test]
    fn every_bad_setting_is_reported_at_once() {
        let error = settle("{public_url: 'gopher://x', forward: [{url: 'http://x/{serial}'}], pnp: {group: 10.0.0.1}}")
            .unwrap_err();
        assert_eq!(error.problems.len(), 3, "{error}");
        let key = |name| format!("{{name: {name}, file: x.key, network: 10.2.0.0/24}}");
        let keys = format!("pnp: {{relay: {{keys: [{}, {}, {}]}}}}", key("north"), key("north"), key("'a b'"));
        let error = settle(&keys).unwrap_err();
        assert_eq!(error.problems.len(), 2, "{error}");
        assert!(serde_yaml::from_str::<SettingsFile>("htp: {port: 80}").unwrap_err().to_string().contains("htp"));
    }
}
