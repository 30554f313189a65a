//! The common config model: everything that can be said about a phone without naming a vendor.
//!
//! One type serves the layers of a profile file (every field may be missing), the resolved phone, and the JSON Schema that editors
//! and `provost check` use; so a field added here is at once typed, documented and checked. Doc comments end up in the schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ExpansionModule, FunctionKey, Line, Secret, Trust};
use crate::Scalar;

/// Settings of one layer. Weakest first: defaults, site, network, vendor, model, profile (with what it extends), device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// SIP settings of every line that does not say otherwise.
    pub sip: Sip,
    /// Lines by position. A stronger layer adds to the line at the same position.
    pub lines: Vec<Line>,
    /// Function keys by position. A stronger layer replaces the key at the same position.
    pub keys: Vec<FunctionKey>,
    /// Expansion modules in the order in which they are plugged in.
    pub expansion: Vec<ExpansionModule>,
    pub time: Time,
    pub locale: Locale,
    pub vlan: Vlan,
    pub qos: Qos,
    pub network: Network,
    pub access: Access,
    pub provisioning: Provisioning,
    pub firmware_update: Firmware,
    pub phonebook: Phonebook,
    pub codes: Codes,
    pub syslog: Syslog,
    pub display: Display,
    pub audio: Audio,
    pub dect: Dect,
    /// What the phone has to show before it is given its own file.
    // Left out when empty: the server keeps it to itself, so a resolved phone has none.
    #[serde(skip_serializing_if = "Trust::is_unsaid")]
    pub trust: Trust,
    /// Raw settings by vendor, in the vendor's own parameter names. They win over everything else.
    // Left out when empty: in a resolved phone they have moved to `phone.raw`, and `phone.vendor` is the vendor's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub vendor: BTreeMap<String, BTreeMap<String, Scalar>>,
    /// Switches that a vendor's plugin offers, by vendor; its README lists them.
    pub options: BTreeMap<String, BTreeMap<String, Scalar>>,
    /// Free values for your own templates.
    pub custom: BTreeMap<String, Scalar>,
}

/// How an account reaches its server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Sip {
    /// Host name or address of the registrar.
    pub server: Option<String>,
    pub port: Option<u16>,
    pub backup_server: Option<String>,
    pub backup_port: Option<u16>,
    /// Domain of the SIP address where it is not the server.
    pub domain: Option<String>,
    pub outbound_proxy: Option<String>,
    pub outbound_proxy_port: Option<u16>,
    pub backup_outbound_proxy: Option<String>,
    pub backup_outbound_proxy_port: Option<u16>,
    pub transport: Option<Transport>,
    /// Registration interval in seconds.
    pub expires: Option<u32>,
    /// Seconds to wait after a failed registration.
    pub retry: Option<u32>,
    /// Seconds between packets that keep a NAT binding open; 0 is off.
    pub keepalive: Option<u16>,
    /// Ask the server to answer to the source port (RFC 3581).
    pub rport: Option<bool>,
    pub stun_server: Option<String>,
    pub stun_port: Option<u16>,
    pub srtp: Option<Srtp>,
    pub dtmf: Option<Dtmf>,
    /// Codecs, best first.
    pub codecs: Option<Vec<Codec>>,
    /// The number that the voicemail key dials.
    pub voicemail: Option<String>,
    /// Subscribe to message waiting (RFC 3842).
    pub mwi: Option<bool>,
    /// Dialled before an extension to pick up its call.
    pub pickup_code: Option<String>,
    pub group_pickup_code: Option<String>,
    pub blf_list_uri: Option<String>,
    /// The line is shared with other phones.
    pub shared: Option<bool>,
    pub session_timers: Option<bool>,
    pub dial_plan: Option<String>,
    /// Where calls to a conference go.
    pub conference_uri: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
    /// Whatever DNS SRV and NAPTR records say (RFC 3263).
    Dns,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Srtp {
    Off,
    Optional,
    Required,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dtmf {
    /// Named telephone events (RFC 4733, formerly 2833).
    Rfc4733,
    Inband,
    Info,
    /// Telephone events and INFO both.
    Auto,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    Opus,
    G722,
    Pcma,
    Pcmu,
    G729,
    Ilbc,
    G726_32,
    G723,
    Gsm,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Time {
    /// IANA name, `Europe/Berlin`. Offset and summer-time rules follow from it.
    pub zone: Option<String>,
    /// NTP servers, best first.
    pub ntp: Vec<String>,
    pub hours: Option<HourFormat>,
    pub date: Option<DateFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HourFormat {
    #[serde(rename = "12h")]
    Twelve,
    #[serde(rename = "24h")]
    TwentyFour,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DateFormat {
    #[serde(rename = "dmy")]
    DayMonthYear,
    #[serde(rename = "mdy")]
    MonthDayYear,
    #[serde(rename = "ymd")]
    YearMonthDay,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Locale {
    /// Language of the screen: an ISO 639-1 code, `de`, or with a region, `pt-BR`.
    pub language: Option<String>,
    /// Language of the phone's web pages where it differs.
    pub web_language: Option<String>,
    /// Call progress tones: an ISO 3166-1 country code, `DE`.
    pub tones: Option<String>,
}

/// Ethernet VLANs (IEEE 802.1Q) and how they are learnt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Vlan {
    /// The phone's own traffic.
    pub voice: Option<VlanPort>,
    /// The computer plugged into the phone.
    pub pc: Option<VlanPort>,
    pub lldp: Option<bool>,
    pub cdp: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VlanPort {
    /// 1 to 4094.
    #[schemars(range(min = 1, max = 4094))]
    pub id: Option<u16>,
    /// Priority code point, 0 to 7.
    #[schemars(range(min = 0, max = 7))]
    pub priority: Option<u8>,
}

/// Differentiated services code points, 0 to 63 (RFC 2474).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Qos {
    #[schemars(range(min = 0, max = 63))]
    pub sip_dscp: Option<u8>,
    #[schemars(range(min = 0, max = 63))]
    pub rtp_dscp: Option<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Network {
    pub hostname: Option<String>,
    pub dns: Vec<String>,
}

/// Who may change the phone, at its keys or in its web pages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Access {
    pub admin: Credentials,
    pub user: Credentials,
    pub web: Web,
    pub lock_pin: Option<Secret>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Credentials {
    pub username: Option<String>,
    pub password: Option<Secret>,
}

/// The phone's own web pages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Web {
    pub http: Option<bool>,
    pub https: Option<bool>,
}

/// How the phone comes back for its configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Provisioning {
    /// The URL written back into the phone. Left out, it is the address of this server that the phone was told.
    pub url: Option<String>,
    /// The protocol of that address where `url` is left out.
    pub protocol: Option<Protocol>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Seconds between two looks for a changed configuration; 0 is never.
    pub refresh: Option<u32>,
    /// Look at every start.
    pub on_boot: Option<bool>,
    /// Ask by multicast at every start.
    pub pnp: Option<bool>,
    /// Ask the vendor's cloud for a redirection first.
    pub redirection: Option<bool>,
    /// Certificate of an authority that the phone is to trust beside those of its factory: a URL, or a path on this server. `ca.pem` is
    /// the one that `provost certs init` makes.
    pub trusted_ca: Option<String>,
    /// The phone asks for credentials before it obeys a NOTIFY to fetch again or to reboot.
    pub challenge_notify: Option<bool>,
    pub encryption: Encryption,
}

/// Encryption of the phone's own file in the vendor's manner. First the key alone, so that the phone learns it; once it has it, `active`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Encryption {
    /// The phone's key, which its file tells it.
    pub key: Option<Secret>,
    /// The file goes out encrypted with it. A phone that has another key cannot read it.
    pub active: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Http,
    Https,
    Tftp,
}

/// Firmware that the phone should fetch. Named apart from `phone.firmware`, which is what it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Firmware {
    /// When the phone is told of it. Left out, it is told the `url` always. A plugin never sees this: it sees a `url` or none.
    pub policy: Option<FirmwarePolicy>,
    /// The version, as the phone writes it. With a policy and without a `url`, left out, it is the newest that `firmware.yaml` has for
    /// the phone.
    pub version: Option<String>,
    /// Where it lies: a full URL, or a path under `firmware/` or `assets/` on this server. Left out, a policy finds it in
    /// `firmware.yaml`.
    pub url: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirmwarePolicy {
    /// Whenever the phone runs another version, an older or a newer one.
    Pin,
    /// When the phone runs an older version.
    Minimum,
    /// Never.
    Off,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Phonebook {
    pub remote: Vec<RemotePhonebook>,
    pub ldap: Ldap,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RemotePhonebook {
    /// Left out where `book` names a list, it is the list's title.
    pub name: Option<String>,
    /// A list under `phonebooks/`, by its name: the phone is given the URL at which its vendor's form of it lies. A `url` beside it wins.
    pub book: Option<String>,
    /// A full URL, or a path under `assets/` on this server.
    pub url: Option<String>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Seconds between two fetches.
    pub refresh: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Ldap {
    pub server: Option<String>,
    pub port: Option<u16>,
    pub tls: Option<bool>,
    pub base: Option<String>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub name_filter: Option<String>,
    pub number_filter: Option<String>,
    /// Attributes that hold names, in order.
    pub name_attributes: Vec<String>,
    /// Attributes that hold numbers, in order.
    pub number_attributes: Vec<String>,
    /// What is shown, in the phone's own pattern.
    pub display: Option<String>,
    pub max_hits: Option<u32>,
}

/// Codes that the PBX understands when they are dialled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Codes {
    pub dnd_on: Option<String>,
    pub dnd_off: Option<String>,
    pub forward_always_on: Option<String>,
    pub forward_always_off: Option<String>,
    pub forward_busy_on: Option<String>,
    pub forward_busy_off: Option<String>,
    pub forward_no_answer_on: Option<String>,
    pub forward_no_answer_off: Option<String>,
    pub call_waiting_on: Option<String>,
    pub call_waiting_off: Option<String>,
    pub park: Option<String>,
    pub retrieve: Option<String>,
}

/// Remote logging (RFC 5424 or the vendor's older form).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Syslog {
    pub server: Option<String>,
    pub port: Option<u16>,
    pub level: Option<SyslogLevel>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyslogLevel {
    Off,
    Error,
    Warning,
    Info,
    Debug,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Display {
    /// Per cent.
    #[schemars(range(min = 0, max = 100))]
    pub brightness: Option<u8>,
    /// Seconds until the light is dimmed.
    pub backlight_timeout: Option<u32>,
    /// Seconds until the screen saver.
    pub screensaver_timeout: Option<u32>,
    /// A full URL, or a path under `assets/` on this server.
    pub wallpaper: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Audio {
    /// Ring tone of every line that does not name its own: the phone's own name for one, or where it has a slash a full URL, or a path
    /// under `assets/` on this server.
    pub ringtone: Option<String>,
    /// Ring volume, per cent.
    #[schemars(range(min = 0, max = 100))]
    pub ring_volume: Option<u8>,
}

/// DECT bases and their handsets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Dect {
    /// Access code that handsets are registered with.
    pub access_code: Option<Secret>,
    /// Handsets by position.
    pub handsets: Vec<Handset>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Handset {
    /// International portable equipment identity, as printed in the handset's menu.
    pub ipei: Option<String>,
    /// The line it rings for, counted from 1.
    pub line: Option<u16>,
    pub name: Option<String>,
}
