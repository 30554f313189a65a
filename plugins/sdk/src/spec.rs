//! `vendor.yaml`: a vendor as data.
//!
//! How its phones are recognised, which files they ask for and what answers each, how text is escaped in its formats, the form of the
//! URL that it wants to be told, and the tables that turn our words into its numbers. Whoever reads it (host, library, test) reads it
//! here, so it means the same everywhere. `core/ARCHITECTURE.md` says why recognising is data alone and never code.

use std::{collections::BTreeMap, fmt, str::FromStr};

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    Scalar,
    dhcp::{self, DhcpGroup},
    model::{Evidence, Identity, MacAddr, Oui},
    no_url,
};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The vendor's name as shown to people.
    pub vendor: String,
    /// Version of this plugin, for packages that are passed on (`provost plugin pack`). A library has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A vendor whose phones read much the same. Its `formats`, `tables`, `options`, `words`, `dhcp` and `raw_name` hold here where this
    /// file says nothing of its own (tables entry by entry), and its templates answer where there is none of this name; they can also be
    /// extended, as `@vendor/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
    /// How well the form of the files is known.
    #[serde(default, rename = "evidence")]
    pub evidence_level: EvidenceLevel,
    /// File name, without `lib` and `.so`, of the library that goes with this data. Data-only plugins have none.
    #[serde(default)]
    pub library: Option<String>,
    /// How the phones spell the vendor in the Event header of their SUBSCRIBE; compared without case.
    #[serde(default)]
    pub announces: Vec<String>,
    /// MAC prefixes, 6 to 9 hex digits.
    #[serde(default)]
    pub ouis: Vec<Oui>,
    /// Regular expressions over the HTTP User-Agent, with the named groups `model`, `firmware`, `hardware` and `mac`
    /// where they occur.
    #[serde(default)]
    pub user_agents: Vec<Pattern>,
    /// Models by type designation; `*` stands for any run of characters, and by itself also for a phone that tells no model. The first that fits wins, in the order of the file's keys:
    /// an exact name before a pattern, a longer pattern before a shorter one.
    #[serde(default)]
    pub models: BTreeMap<String, Model>,
    /// What holds for the models of one family only, by the name that they give as `family`.
    #[serde(default)]
    pub families: BTreeMap<String, Family>,
    pub files: Vec<FileSpec>,
    /// Text formats by the extension of the templates that are written in them: `device.cfg.j2` is of format `cfg`.
    #[serde(default)]
    pub formats: BTreeMap<String, Format>,
    /// How its phones decrypt a file, for the files that are `encrypted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    pub announce: Announce,
    /// What DHCP tells these phones where multicast does not reach them, for `provost dhcp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dhcp: Vec<DhcpGroup>,
    #[serde(default)]
    pub resync: Resync,
    /// Our words in the vendor's: `{{ line.sip.transport | table("transport") }}`.
    #[serde(default)]
    pub tables: BTreeMap<String, BTreeMap<String, Scalar>>,
    /// Fields of the common model whose values are looked up in a table: `locale.language: languages`. A value that the table lacks is
    /// reported by `provost check`; the template finds `none` with `{{ phone.locale.language | word("languages") }}`.
    #[serde(default)]
    pub words: BTreeMap<String, String>,
    /// Switches that a profile may set under `options.<vendor>`, each with its default.
    #[serde(default)]
    pub options: BTreeMap<String, Switch>,
    /// Fields of the common model that these phones cannot honour, as dotted paths (`qos`, `lines.dial_plan`). Setting one is
    /// reported by `provost check`.
    #[serde(default)]
    pub unsupported: Vec<String>,
    /// Fields that the phones may well honour and the templates do not write yet, in the same form and reported too.
    #[serde(default)]
    pub not_yet: Vec<String>,
    /// What a name under `vendor.<vendor>` must look like; the others are reported by `provost check`.
    #[serde(default)]
    pub raw_name: Option<Pattern>,
    /// How one of these phones behaves on the wire, for `provost simulate` and the tests.
    #[serde(default)]
    pub simulate: Vec<Simulation>,
}

/// What the knowledge of a vendor's files rests on: the weakest of its main sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceLevel {
    /// Messages or files of real phones.
    Capture,
    /// The vendor's own documents.
    Document,
    /// Templates that others use in the field.
    Template,
    /// What people say of it; nobody has shown it.
    #[default]
    Hearsay,
}

impl EvidenceLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            EvidenceLevel::Capture => "capture",
            EvidenceLevel::Document => "document",
            EvidenceLevel::Template => "template",
            EvidenceLevel::Hearsay => "hearsay",
        }
    }
}

/// What a model can do, and in `columns` whatever else the vendor's templates want to know about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Model {
    /// Other spellings of the type designation.
    pub aliases: Vec<String>,
    /// Models that are configured alike share a family.
    pub family: Option<String>,
    /// Accounts it can hold. 0 is "not known": nothing is checked.
    pub lines: u16,
    /// Function keys on the phone itself.
    pub keys: Option<u16>,
    /// Expansion modules that can be plugged in, and keys on each.
    pub expansion_modules: Option<u16>,
    pub expansion_keys: Option<u16>,
    /// Added to the vendor's list of what cannot be honoured.
    pub unsupported: Vec<String>,
    /// Further columns of the table, by name.
    pub columns: BTreeMap<String, Scalar>,
}

/// What the models of one family do otherwise than the vendor's phones in general.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Family {
    /// The URL that a NOTIFY to them carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announce: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resync: Option<Resync>,
    /// Tables that stand in the place of the vendor's of the same names, as a whole.
    pub tables: BTreeMap<String, BTreeMap<String, Scalar>>,
    /// Added to the vendor's list of what cannot be honoured.
    pub unsupported: Vec<String>,
    /// Added to the vendor's list of what is not written yet.
    pub not_yet: Vec<String>,
}

/// A file that phones ask for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Name with placeholders: `{mac}`, `{MAC}`, `{model}`, `{model:lower}`, `{column.NAME}` for a column of the models table, and in
    /// a directory `{book}` for the name of a list. Hex digits and models are matched without case, everything else as written.
    pub name: FileName,
    /// Template that answers it. None: the library answers it by itself.
    #[serde(default)]
    pub template: Option<String>,
    #[serde(default)]
    pub kind: FileKind,
    /// Only for these families of models. Empty is all. Where a name holds `{book}` it is the phones of these families that are told
    /// it, and whoever asks for it is given it.
    #[serde(default)]
    pub families: Vec<String>,
    /// Only where this switch (see `options`) is on.
    #[serde(default)]
    pub option: Option<String>,
    /// Content type, where it is not that of the template's format.
    #[serde(default)]
    pub content_type: Option<String>,
    /// The phones can decrypt this file: it goes out encrypted to those whose profile says `provisioning.encryption.active`.
    #[serde(default)]
    pub encrypted: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// One phone's own file. May hold its passwords.
    #[default]
    Device,
    /// Shared by many phones: rendered without lines, keys and passwords, so that it can hold nothing secret.
    Common,
    /// A phonebook, rendered with `book` and without lines, keys and passwords: the list that `{book}` names, or without that the
    /// first that the phone's profile does.
    Directory,
    /// Tells where firmware is; holds nothing secret.
    Firmware,
}

impl FileKind {
    pub fn as_str(self) -> &'static str {
        match self {
            FileKind::Device => "device",
            FileKind::Common => "common",
            FileKind::Directory => "directory",
            FileKind::Firmware => "firmware",
        }
    }
}

/// A text format.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Format {
    pub escape: Escape,
    pub content_type: String,
    #[serde(default)]
    pub newline: Newline,
    /// Regular expression whose groups, four at most, name the setting on a line of output. Where a setting is written twice the later line wins and
    /// the earlier one is left out: that is how raw vendor settings, printed last, win over everything else.
    #[serde(default)]
    pub setting: Option<Pattern>,
}

/// How many groups of [`Format::setting`] name a setting at most: each line of each file is held against it, and a name of so many parts
/// needs no memory of its own.
pub const SETTING_GROUPS: usize = 4;

/// What keeps a value inside its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Escape {
    /// XML text and attributes: entities; what XML 1.0 cannot carry is an error.
    Xml,
    /// `name = value` up to the end of the line: control characters and blanks at either end are errors.
    Line,
    /// `NAME="value"`: as `line`, and a double quote is an error.
    Quoted,
    /// Percent-encoding of everything but ASCII letters, digits and `-._~`.
    Percent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Newline {
    #[default]
    Lf,
    Crlf,
}

/// How files are encrypted with the phone's key, `provisioning.encryption.key`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Encryption {
    pub cipher: Cipher,
    /// How many characters the key has, where the phones do not take any number of them.
    #[serde(default)]
    pub key_lengths: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Cipher {
    /// As `openssl enc -aes-256-cbc -salt -md md5 -k KEY` writes it: `Salted__`, the salt, what is encrypted.
    #[serde(rename = "openssl-aes-256-cbc")]
    OpensslAes256Cbc,
    /// AES-128 in ECB mode, the key's sixteen characters taken as they are; the text is filled up with line feeds to whole blocks.
    #[serde(rename = "aes-128-ecb")]
    Aes128Ecb,
}

impl Encryption {
    /// A key of the form that these phones take, to see what they would be served.
    pub fn sample_key(&self, which: usize) -> String {
        let digits = ["0123456789abcdef", "fedcba9876543210"][which % 2];
        digits.chars().cycle().take(self.key_lengths.first().copied().unwrap_or(16)).collect()
    }
}

/// The URL that a NOTIFY carries. Placeholders as in file names, and `{base}`: this server's URL with a slash at its end.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Announce {
    pub url: String,
}

/// SIP events that make a phone fetch again, or reboot.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resync {
    pub event: String,
    pub reboot_event: String,
    /// Whether a phone that is told `event` restarts. Left out, it does where `event` is the `reboot_event` too, it does not where
    /// `event` says `reboot=false`, and else nobody knows.
    pub restarts: Option<Restarts>,
}

/// What a phone does that is told to fetch again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Restarts {
    /// It takes its settings as it runs.
    Never,
    /// No source says.
    Unknown,
    /// Only where its files have changed.
    IfChanged,
    Always,
}

impl Default for Resync {
    fn default() -> Resync {
        Resync {
            event: "check-sync;reboot=false".into(),
            reboot_event: "check-sync;reboot=true".into(),
            restarts: None,
        }
    }
}

impl Resync {
    pub fn restarts(&self) -> Restarts {
        self.restarts.unwrap_or(match () {
            () if self.event == self.reboot_event => Restarts::IfChanged,
            () if self.event.replace(' ', "").contains("reboot=false") => Restarts::Never,
            () => Restarts::Unknown,
        })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    pub default: Scalar,
    /// What it does, for people.
    pub about: String,
}

/// One kind of phone as `provost simulate` plays it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Simulation {
    pub model: String,
    pub firmware: String,
    /// Prefix of the MACs it makes up.
    pub oui: Oui,
    /// The SUBSCRIBE, without its last empty line. Placeholders: `{mac}` `{MAC}` `{ip}` `{port}` `{model}` `{firmware}` `{number}`, the
    /// last a number that is new at each start. Left out for phones that do not announce themselves: they are told by DHCP where to
    /// fetch (`provost simulate --url`).
    #[serde(default)]
    pub subscribe: String,
    /// User-Agent of its HTTP requests. Placeholders as above, and `{mac:colons}` and `{MAC:colons}`.
    pub user_agent: String,
    /// Files asked for, in this order, below a URL that ends in a slash.
    pub fetch: Vec<String>,
    /// Stop at the first of them that is there.
    #[serde(default)]
    pub first_only: bool,
    /// Regular expression whose first group is a further URL or file name to fetch, for formats that refer to each other.
    #[serde(default)]
    pub follow: Option<Pattern>,
    /// What the phones put in the place of words in the URL that they are told and in what they follow: `$MA: '{mac}'`.
    #[serde(default)]
    pub macros: BTreeMap<String, String>,
    /// How often the SUBSCRIBE is sent while no answer comes, and the seconds between.
    #[serde(default = "five")]
    pub tries: u8,
    #[serde(default = "one_second")]
    pub retry: f32,
}

fn five() -> u8 {
    5
}

fn one_second() -> f32 {
    1.0
}

/// A regular expression that was compiled when the file was read.
#[derive(Clone, Debug)]
pub struct Pattern(pub Regex);

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pattern, D::Error> {
        let text = String::deserialize(deserializer)?;
        regex::RegexBuilder::new(&text)
            .size_limit(1 << 20)
            .build()
            .map(Pattern)
            .map_err(|error| serde::de::Error::custom(format!("not a regular expression: {error}")))
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pattern".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "regex" })
    }
}

/// A file name with placeholders, ready to be matched and to be written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Mac { upper: bool },
    Model { lower: bool },
    Column(String),
    Book,
}

impl FromStr for FileName {
    type Err = String;

    fn from_str(text: &str) -> Result<FileName, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close =
                rest[open..].find('}').ok_or_else(|| format!("file name \"{text}\" has a {{ that is never closed"))?
                    + open;
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            parts.push(match &rest[open + 1..close] {
                "mac" => Part::Mac { upper: false },
                "MAC" => Part::Mac { upper: true },
                "model" => Part::Model { lower: false },
                "model:lower" => Part::Model { lower: true },
                "book" => Part::Book,
                other => match other.strip_prefix("column.") {
                    Some(column) if !column.is_empty() => Part::Column(column.to_owned()),
                    _ => {
                        return Err(format!(
                            "file name \"{text}\" has an unknown placeholder {{{other}}}; known are {{mac}}, {{MAC}}, {{model}}, \
                             {{model:lower}}, {{column.NAME}} and {{book}}"
                        ));
                    }
                },
            });
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if parts.is_empty() || text.starts_with('/') || text.split('/').any(|part| matches!(part, ".." | "." | "")) {
            return Err(format!("file name \"{text}\" is not a plain relative name"));
        }
        Ok(FileName { text: text.to_owned(), parts })
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for FileName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for FileName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FileName, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for FileName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FileName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

/// What a file name told about the phone that asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    pub mac: Option<MacAddr>,
    pub model: Option<String>,
    /// The list that a directory's name asks for.
    pub book: Option<String>,
}

impl FileName {
    /// Reads `path` against this name. The models are needed for `{column.NAME}`, where the value tells the model.
    pub fn capture(&self, path: &str, models: &BTreeMap<String, Model>) -> Option<Captured> {
        // Each request is held against the names of all vendors, and most of them end otherwise.
        if let Some(Part::Text(end)) = self.parts.last()
            && !path.ends_with(end.as_str())
        {
            return None;
        }
        capture(&self.parts, path, models, Captured::default())
    }

    /// The name for one phone, or nothing if the phone lacks what a placeholder asks for.
    pub fn expand(&self, mac: Option<MacAddr>, model: Option<&str>, capabilities: &Model) -> Option<String> {
        self.expand_for(None, mac, model, capabilities)
    }

    /// The same where the name may ask for a list.
    pub fn expand_for(
        &self,
        book: Option<&str>,
        mac: Option<MacAddr>,
        model: Option<&str>,
        capabilities: &Model,
    ) -> Option<String> {
        let mut name = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Mac { upper } => name.push_str(&if *upper { mac?.bare_upper() } else { mac?.bare() }),
                Part::Model { lower: true } => name.push_str(&model?.to_lowercase()),
                Part::Model { lower: false } => name.push_str(model?),
                Part::Column(column) => name.push_str(&capabilities.columns.get(column)?.to_string()),
                Part::Book => name.push_str(book?),
            }
        }
        Some(name)
    }

    /// Whether the name asks for a list.
    pub fn names_a_book(&self) -> bool {
        self.parts.contains(&Part::Book)
    }
}

fn capture(parts: &[Part], path: &str, models: &BTreeMap<String, Model>, so_far: Captured) -> Option<Captured> {
    let Some((part, rest)) = parts.split_first() else {
        // A model that nobody knows proves nothing: without this, `{model}.xml` would be every vendor's every file. Nor does the row for
        // any model. Beside a MAC it may be a model that is newer than the table.
        let known =
            |model: &String| so_far.mac.is_some() || find_model(models, model).is_some_and(|(row, _)| row != "*");
        return (path.is_empty() && so_far.model.as_ref().is_none_or(known)).then_some(so_far);
    };
    match part {
        Part::Text(text) => capture(rest, path.strip_prefix(text.as_str())?, models, so_far),
        Part::Mac { .. } => {
            let digits = path.get(..12)?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            capture(rest, &path[12..], models, Captured { mac: digits.parse().ok(), ..so_far })
        }
        Part::Model { .. } => {
            // Longest first: a model may hold the very character that follows it in the name (a dash, a dot).
            let longest =
                path.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"-_. +".contains(byte)).count().min(64);
            // Nearly no place is one where it could end, and a name is tried with every vendor's patterns.
            let may_end = |end: &usize| match rest.first() {
                Some(Part::Text(text)) => path[*end..].starts_with(text.as_str()),
                Some(_) => true,
                None => *end == path.len(),
            };
            (1..=longest).rev().filter(may_end).find_map(|end| {
                let model = Some(path.get(..end)?.to_owned());
                capture(rest, &path[end..], models, Captured { model, ..so_far.clone() })
            })
        }
        Part::Column(column) => models.iter().find_map(|(name, model)| {
            let after = match model.columns.get(column)? {
                Scalar::Text(text) => path.strip_prefix(text.as_str())?,
                other => path.strip_prefix(&other.to_string())?,
            };
            capture(rest, after, models, Captured { model: Some(name.clone()), ..so_far.clone() })
        }),
        Part::Book => {
            let longest =
                path.bytes().take_while(|byte| is_book_name(char::from(*byte).encode_utf8(&mut [0; 4]))).count();
            (1..=longest.min(64)).rev().find_map(|end| {
                let book = Some(path[..end].to_owned());
                capture(rest, &path[end..], models, Captured { book, ..so_far.clone() })
            })
        }
    }
}

/// What the name of a list may be made of, so that it stands in a URL and in a file name as it is.
pub fn is_book_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn find_model<'a>(models: &'a BTreeMap<String, Model>, designation: &str) -> Option<(&'a str, &'a Model)> {
    let exact = models.iter().find(|(name, model)| {
        name.eq_ignore_ascii_case(designation)
            || model.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(designation))
    });
    let pattern = || {
        models
            .iter()
            .filter(|(name, _)| name.contains('*') && matches_wildcard(name, designation))
            .max_by_key(|(name, _)| name.len())
    };
    exact.or_else(pattern).map(|(name, model)| (name.as_str(), model))
}

/// `vendor.yaml` does not say what it should.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("{0}")]
    Yaml(String),
    #[error("{}", .0.iter().map(|one| one.message.as_str()).collect::<Vec<_>>().join("; "))]
    Inconsistent(Vec<Inconsistency>),
}

/// Parts of a `vendor.yaml` that do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inconsistency {
    /// Keys that lead to the part to be mended, list entries by number from 0.
    pub at: Vec<String>,
    pub message: String,
}

impl Inconsistency {
    fn new(at: &[&str], message: String) -> Inconsistency {
        Inconsistency { at: at.iter().map(|&key| key.to_owned()).collect(), message }
    }
}

impl Spec {
    /// Reads the text of a `vendor.yaml` and checks that its parts agree.
    pub fn read(yaml: &str) -> Result<Spec, SpecError> {
        Spec::read_like(yaml, |_| None)
    }

    /// The same, with the text of the `vendor.yaml` that it is `like`, if it is like any: `base` is asked for it by the vendor's name
    /// in paths.
    pub fn read_like(yaml: &str, base: impl FnOnce(&str) -> Option<String>) -> Result<Spec, SpecError> {
        let parse = |yaml: &str| serde_yaml::from_str::<Spec>(yaml).map_err(|error| SpecError::Yaml(error.to_string()));
        let mut spec = parse(yaml)?;
        if let Some(like) = &spec.like {
            let refuse = |why: &str| {
                let message = format!("it is like \"{like}\", {why}");
                SpecError::Inconsistent(vec![Inconsistency::new(&["like"], message)])
            };
            let text = base(&path_name(like)).ok_or_else(|| refuse("a vendor that is not here"))?;
            let base = parse(&text).map_err(|error| refuse(&format!("whose vendor.yaml is no good: {error}")))?;
            if base.like.is_some() {
                return Err(refuse("which is itself like another; name that one"));
            }
            spec.inherit(base);
        }
        spec.agree()?;
        Ok(spec)
    }

    fn inherit(&mut self, base: Spec) {
        fn fill<V>(ours: &mut BTreeMap<String, V>, theirs: BTreeMap<String, V>) {
            for (key, value) in theirs {
                ours.entry(key).or_insert(value);
            }
        }
        fill(&mut self.formats, base.formats);
        fill(&mut self.options, base.options);
        fill(&mut self.words, base.words);
        for (name, table) in base.tables {
            fill(self.tables.entry(name).or_default(), table);
        }
        self.raw_name = self.raw_name.take().or(base.raw_name);
        if self.dhcp.is_empty() {
            self.dhcp = base.dhcp;
        }
    }

    fn agree(&self) -> Result<(), SpecError> {
        let mut found = Vec::new();
        let mut refuse = |at: &[&str], message: String| found.push(Inconsistency::new(at, message));
        if self.id().is_empty() {
            refuse(&["vendor"], "\"vendor\" needs a letter or a digit".into());
        }
        for family in self.families.keys() {
            if !self.models.values().any(|model| model.family.as_ref() == Some(family)) {
                refuse(&["families", family], format!("no model belongs to the family \"{family}\""));
            }
        }
        for (field, table) in &self.words {
            if !self.has_table(table) {
                let message =
                    format!("\"words\" looks {field} up in a table \"{table}\", which is not under \"tables\"");
                refuse(&["words", field], message);
            }
        }
        for (name, format) in &self.formats {
            let groups = format.setting.as_ref().map_or(0, |setting| setting.0.captures_len() - 1);
            if groups > SETTING_GROUPS {
                let message = format!(
                    "\"setting\" of the format \"{name}\" has {groups} groups, and a name is made of {SETTING_GROUPS} at most: write (?:…) for those that are no part of it"
                );
                refuse(&["formats", name, "setting"], message);
            }
        }
        for (index, file) in self.files.iter().enumerate() {
            let (index, name) = (index.to_string(), &file.name);
            if let Some(template) = &file.template {
                let message = match extension(template) {
                    Some(format) if self.formats.contains_key(format) => None,
                    Some(format) => Some(format!(
                        "file \"{name}\" is answered by template \"{template}\", but there is no format \"{format}\" under \"formats\""
                    )),
                    None => Some(format!(
                        "template \"{template}\" must be named NAME.FORMAT.j2, so that its escaping is known"
                    )),
                };
                if let Some(message) = message {
                    refuse(&["files", &index, "template"], message);
                }
            } else if self.library.is_none() {
                let message = format!("file \"{name}\" has no template, and there is no library that could answer it");
                refuse(&["files", &index], message);
            }
            if file.name.names_a_book() && file.kind != FileKind::Directory {
                let message = format!("file \"{name}\" names a list, so its kind must be \"directory\"");
                refuse(&["files", &index], message);
            }
            if file.encrypted && (self.encryption.is_none() || file.kind != FileKind::Device) {
                let why = match self.encryption {
                    None => "but there is no \"encryption\" that says how",
                    Some(_) => "but only a phone's own file can be: a shared one is for phones of many keys",
                };
                refuse(&["files", &index, "encrypted"], format!("file \"{name}\" is encrypted, {why}"));
            }
            if let Some(option) = &file.option
                && !self.options.contains_key(option)
            {
                let message = format!("file \"{name}\" depends on option \"{option}\", which is not under \"options\"");
                refuse(&["files", &index, "option"], message);
            }
            for family in &file.families {
                if !self.models.values().any(|model| model.family.as_ref() == Some(family)) {
                    let message = format!("file \"{name}\" is for family \"{family}\", which no model belongs to");
                    refuse(&["files", &index, "families"], message);
                }
            }
        }
        if let Some(why) = no_url(&self.announce.url) {
            refuse(&["announce", "url"], why);
        }
        for (name, family) in &self.families {
            if let Some(why) = family.announce.as_deref().and_then(no_url) {
                refuse(&["families", name, "announce"], why);
            }
        }
        if let Some(encryption) = &self.encryption
            && encryption.cipher == Cipher::Aes128Ecb
            && encryption.key_lengths != [16]
        {
            refuse(&["encryption", "key_lengths"], "a key of aes-128-ecb has 16 characters: key_lengths: [16]".into());
        }
        for (at, message) in dhcp::complaints(&self.dhcp, !self.ouis.is_empty()) {
            let at: Vec<&str> = std::iter::once("dhcp").chain(at.iter().map(String::as_str)).collect();
            refuse(&at, message);
        }
        if found.is_empty() { Ok(()) } else { Err(SpecError::Inconsistent(found)) }
    }

    /// The vendor's name in paths and settings: lower case, letters and digits only.
    pub fn id(&self) -> String {
        path_name(&self.vendor)
    }

    /// A table as it holds for a family: its own, or the vendor's.
    pub fn table(&self, name: &str, family: Option<&str>) -> Option<&BTreeMap<String, Scalar>> {
        let own = family.and_then(|family| self.families.get(family)?.tables.get(name));
        own.or_else(|| self.tables.get(name))
    }

    /// Whether there is such a table for anybody.
    pub fn has_table(&self, name: &str) -> bool {
        self.tables.contains_key(name) || self.families.values().any(|family| family.tables.contains_key(name))
    }

    /// The vendor's word for ours, from a table: as it is, without case, or for `de-AT` that for `de`.
    pub fn word(&self, table: &str, family: Option<&str>, ours: &str) -> Option<&Scalar> {
        let table = self.table(table, family)?;
        let look = |ours: &str| {
            table
                .get(ours)
                .or_else(|| table.iter().find(|(word, _)| word.eq_ignore_ascii_case(ours)).map(|(_, theirs)| theirs))
        };
        look(ours).or_else(|| look(ours.split_once('-')?.0))
    }

    /// What makes phones of a family fetch again, or reboot.
    pub fn resync(&self, family: Option<&str>) -> &Resync {
        family.and_then(|family| self.families.get(family)?.resync.as_ref()).unwrap_or(&self.resync)
    }

    /// Everything that speaks for this phone being one of ours.
    pub fn evidence(&self, identity: &Identity) -> Evidence {
        let agent = identity.user_agent.as_ref().filter(|agent| self.identify(agent).is_some());
        Evidence {
            announced: self.announced(identity).map(str::to_owned),
            oui: self.oui(identity).map(ToString::to_string),
            user_agent: agent.cloned(),
        }
    }

    /// [`Evidence::strength`] without the User-Agent, which counts least and costs most.
    pub fn plain_strength(&self, identity: &Identity) -> (bool, usize) {
        (self.announced(identity).is_some(), self.oui(identity).map_or(0, Oui::digits))
    }

    fn announced<'a>(&self, identity: &'a Identity) -> Option<&'a str> {
        let named = |vendor: &&str| self.announces.iter().any(|name| name.eq_ignore_ascii_case(vendor));
        identity.vendor.as_deref().filter(named)
    }

    fn oui(&self, identity: &Identity) -> Option<&Oui> {
        let mac = identity.mac?;
        self.ouis.iter().filter(|oui| oui.covers(mac)).max_by_key(|oui| oui.digits())
    }

    /// Reads a User-Agent in the vendor's own manner.
    pub fn identify(&self, user_agent: &str) -> Option<Identity> {
        let found = self.user_agents.iter().find_map(|pattern| pattern.0.captures(user_agent))?;
        let group = |name: &str| found.name(name).map(|text| text.as_str().to_owned());
        Some(Identity {
            mac: group("mac").and_then(|mac| mac.parse().ok()),
            vendor: None,
            model: group("model"),
            firmware: group("firmware"),
            hardware: group("hardware"),
            user_agent: Some(user_agent.to_owned()),
        })
    }

    /// The row of the models table for a type designation, with the name under which it stands there.
    pub fn model(&self, designation: &str) -> Option<(&str, &Model)> {
        find_model(&self.models, designation)
    }

    /// Every file of ours that `path` could mean, in the order in which phones ask.
    pub fn find<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a FileSpec, Captured)> + 'a {
        self.files.iter().filter_map(move |file| file.name.capture(path, &self.models).map(|captured| (file, captured)))
    }

    /// The file at which a phone of `family` reads the lists under `phonebooks/`.
    pub fn directory(&self, family: Option<&str>) -> Option<&FileSpec> {
        let fits = |file: &&FileSpec| {
            file.name.names_a_book()
                && (file.families.is_empty()
                    || family.is_some_and(|family| file.families.iter().any(|own| own == family)))
        };
        self.files.iter().find(fits)
    }

    pub fn format_of(&self, template: &str) -> Option<&Format> {
        self.formats.get(extension(template)?)
    }
}

/// A vendor's name in paths and settings.
pub fn path_name(vendor: &str) -> String {
    vendor.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
}

/// JSON Schema of `vendor.yaml`, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Spec).to_value()
}

/// `cfg` of `device.cfg.j2`.
pub fn extension(template: &str) -> Option<&str> {
    let name = template.rsplit('/').next()?.strip_suffix(".j2")?;
    name.rsplit_once('.').map(|(_, extension)| extension)
}

/// `*` stands for any run of characters; without case.
pub fn matches_wildcard(pattern: &str, text: &str) -> bool {
    fn fits(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| fits(rest, &text[skip..])),
            Some((byte, rest)) => {
                text.first().is_some_and(|first| first.eq_ignore_ascii_case(byte)) && fits(rest, &text[1..])
            }
        }
    }
    // Patterns come from vendor.yaml, but the text comes from the network: both are kept short so that backtracking is bounded.
    text.len() <= 64 && pattern.matches('*').count() <= 3 && fits(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(name: &str, path: &str) -> Option<Captured> {
        name.parse::<FileName>().unwrap().capture(path, &BTreeMap::new())
    }

    #[test]
    fn a_file_name_reads_back_what_it_writes() {
        let mac = "00:04:13:2e:08:b4".parse().unwrap();
        for (name, path) in [
            ("{model}-{MAC}.htm", "snom370-0004132E08B4.htm"),
            ("cfg{mac}.xml", "cfg0004132e08b4.xml"),
            ("{mac}", "0004132e08b4"),
        ] {
            let file: FileName = name.parse().unwrap();
            assert_eq!(file.expand(Some(mac), Some("snom370"), &Model::default()).unwrap(), path);
            assert_eq!(file.capture(path, &BTreeMap::new()).unwrap().mac, Some(mac));
        }
        assert_eq!(captured("{model}-{MAC}.htm", "snom-x-0004132E08B4.htm").unwrap().model.unwrap(), "snom-x");
        assert_eq!(captured("{model}.xml", "cfg0004132e08b4.xml"), None, "a model that nobody knows proves nothing");
        let any = BTreeMap::from([("*".to_owned(), Model::default())]);
        assert_eq!("cfg{model}.xml".parse::<FileName>().unwrap().capture("cfg0016.xml", &any), None);
        assert_eq!(captured("{mac}.cfg", "0004132e08b4.cfgx"), None);
        assert_eq!(captured("{mac}.cfg", "0004132e08bß.cfg"), None);
        assert_eq!(captured("cfg.xml", "cfg.xml"), Some(Captured::default()));
    }

    #[test]
    fn a_name_is_made_of_four_groups_at_most() {
        let read = |setting: &str| {
            Spec::read(&format!(
                "{{vendor: Acme, files: [], announce: {{url: '{{base}}'}}, formats: {{cfg: {{escape: line, content_type: text/plain, setting: '{setting}'}}}}}}"
            ))
        };
        assert!(read("(a)(b)(c)(d)(?:e)").is_ok());
        let Err(SpecError::Inconsistent(found)) = read("(a)(b)(c)(d)(e)") else { panic!("five groups are too many") };
        assert_eq!(found[0].at, ["formats", "cfg", "setting"]);
        assert!(
            found[0].message.contains("5 groups") && found[0].message.contains("4 at most"),
            "{}",
            found[0].message
        );
    }

    #[test]
    fn the_name_of_a_list_is_one_plain_word() {
        let name = "phonebook/acme/{book}.xml";
        assert_eq!(captured(name, "phonebook/acme/sales_2-a.xml").unwrap().book.as_deref(), Some("sales_2-a"));
        for path in ["phonebook/acme/.xml", "phonebook/acme/a/b.xml", "phonebook/acme/a.b.xml", "phonebook/acme/ä.xml"]
        {
            assert_eq!(captured(name, path), None, "{path}");
        }
        let file: FileName = name.parse().unwrap();
        assert_eq!(file.expand(None, None, &Model::default()), None, "no list, no name");
        let sales = file.expand_for(Some("sales"), None, None, &Model::default());
        assert_eq!(sales.as_deref(), Some("phonebook/acme/sales.xml"));
        let error = Spec::read(
            "{vendor: Acme, files: [{name: 'a/{book}.xml', template: a.xml.j2}], announce: {url: '{base}'},\n\
             formats: {xml: {escape: xml, content_type: text/xml}}}",
        );
        assert!(error.unwrap_err().to_string().contains("directory"));
    }

    #[test]
    fn a_url_is_one_word_of_one_line() {
        for url in ["{base}\\nx", "{base}a b"] {
            let yaml = format!("{{vendor: Acme, files: [], formats: {{}}, announce: {{url: \"{url}\"}}}}");
            let error = Spec::read(&yaml).unwrap_err().to_string();
            assert!(error.contains("which no URL has"), "{error}");
        }
        let error = Spec::read(
            "{vendor: Acme, files: [], formats: {}, announce: {url: '{base}'}, models: {X1: {lines: 1, family: x}},\n\
             families: {x: {announce: \"{base}\\u2028x\"}}}",
        );
        assert!(error.unwrap_err().to_string().contains("U+2028"));
    }

    #[test]
    fn a_file_name_cannot_lead_out_of_the_tree() {
        for name in ["", "/etc/passwd", "../{mac}", "a//b", "{mac", "{serial}"] {
            assert!(name.parse::<FileName>().is_err(), "{name}");
        }
    }

    #[test]
    fn an_exact_model_stands_before_a_pattern_and_a_longer_pattern_before_a_shorter() {
        let spec = Spec::read(
            "{vendor: Acme, files: [], formats: {}, announce: {url: '{base}'},\n\
             models: {X*: {lines: 1}, X5*: {lines: 2}, X52: {lines: 3, aliases: [OLD]}}}",
        )
        .unwrap();
        for (designation, lines) in [("X1", 1), ("x51", 2), ("X52", 3), ("old", 3)] {
            assert_eq!(spec.model(designation).unwrap().1.lines, lines, "{designation}");
        }
        assert!(spec.model("Y").is_none());
    }

    #[test]
    fn what_dhcp_says_is_inherited_and_checked_with_the_rest() {
        let base = "{vendor: Acme, files: [], announce: {url: '{base}'}, ouis: ['001565'],\n\
             dhcp: [{options: [{code: 66, value: '{base}'}]}]}";
        let like = |dhcp: &str| {
            let yaml = format!(
                "{{vendor: Other, like: acme, files: [], announce: {{url: '{{base}}'}}, ouis: ['001566']{dhcp}}}"
            );
            Spec::read_like(&yaml, |_| Some(base.into()))
        };
        assert_eq!(like("").unwrap().dhcp[0].options[0].code, 66);
        assert_eq!(like(", dhcp: [{options: [{code: 160, value: x}]}]").unwrap().dhcp[0].options[0].code, 160);
        let Err(SpecError::Inconsistent(found)) = like(", dhcp: [{options: [{code: 53, value: x}]}]") else {
            panic!("it is no good")
        };
        assert_eq!(found[0].at, ["dhcp", "0", "options", "0"]);
    }

    #[test]
    fn a_vendor_yaml_that_contradicts_itself_is_refused_in_words() {
        let error = Spec::read(
            "{vendor: Acme, files: [{name: '{mac}.cfg', template: a.cfg.j2}], formats: {}, announce: {url: '{base}'}}",
        )
        .unwrap_err();
        assert!(error.to_string().contains("there is no format \"cfg\""), "{error}");
    }
}
