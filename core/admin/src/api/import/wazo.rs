//! wazo-provd's JSON: `devices` and `configs` as its REST API gives them, in one object.
//!
//! The names are those of provd/devices/config.py and schemas.py of wazo-platform/wazo-provd, which say what each means. A config takes what
//! its parents say first, in their order, and lays its own over it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use super::{Drafts, WRONG, Wanted, shortened};

/// As deep as parents of parents go, whatever circle they are in.
const ANCESTORS: usize = 64;

/// What is the other server's own business: where it is, and what a phone without a config is given.
const ITS_OWN: [&str; 8] =
    ["ip", "http_port", "http_base_url", "tftp_port", "protocol", "_comment", "config_version", "sccp_call_managers"];

pub(super) fn read(bytes: &[u8], wanted: &Wanted) -> Drafts {
    let mut drafts = Drafts::default();
    let root: Value = match serde_json::from_slice(bytes) {
        Ok(root) => root,
        Err(error) => {
            drafts.blame(format!("line {}, column {}", error.line(), error.column()), "the file is no JSON");
            return drafts;
        }
    };
    let (Some(devices), Some(configs)) = (root["devices"].as_array(), root["configs"].as_array()) else {
        drafts.blame("/", "\"devices\" and \"configs\" must be there, both lists: what dev_mgr/devices and cfg_mgr/configs give, in one object");
        return drafts;
    };
    let by_id: HashMap<&str, (usize, &Value)> =
        configs.iter().enumerate().filter_map(|(at, config)| Some((config["id"].as_str()?, (at, config)))).collect();
    for (index, device) in devices.iter().enumerate() {
        if drafts.wrong.len() >= WRONG {
            break;
        }
        let at = format!("/devices/{index}");
        let text = |name: &str| device[name].as_str().filter(|text| !text.is_empty());
        let Some(mac) = text("mac") else {
            drafts.warn(&at, "a device without a MAC is left out");
            continue;
        };
        let Some(mac) = drafts.mac(mac, format!("{at}/mac"), wanted) else { continue };
        let mut phone = json!({});
        if let Some(label) = text("description") {
            phone["label"] = json!(label);
        }
        let (identity, unknown) = wanted.identity(mac, text("vendor"), text("model"));
        if let Some(unknown) = unknown {
            drafts.warn(format!("{at}/vendor"), unknown);
        }
        if identity.as_object().is_some_and(|identity| !identity.is_empty()) {
            phone["identity"] = identity;
        }
        if let Some(id) = text("config") {
            let Some(&(number, config)) = by_id.get(id) else {
                drafts.blame(format!("{at}/config"), format!("there is no config \"{}\"", shortened(id)));
                continue;
            };
            let place = format!("/configs/{number}/raw_config");
            let mut raw = Map::new();
            flatten(config, &by_id, &mut BTreeSet::from([id]), &mut raw, 0);
            Config { raw: &raw, place: &place, drafts: &mut drafts }.read(&mut phone);
        }
        drafts.add(mac, at, phone);
    }
    drafts
}

/// What a config says with all that its parents say.
fn flatten<'a>(
    config: &'a Value,
    by_id: &HashMap<&str, (usize, &'a Value)>,
    visited: &mut BTreeSet<&'a str>,
    into: &mut Map<String, Value>,
    depth: usize,
) {
    for parent in config["parent_ids"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if depth < ANCESTORS
            && let Some((_, config)) = by_id.get(parent)
            && visited.insert(parent)
        {
            flatten(config, by_id, visited, into, depth + 1);
        }
    }
    if let Some(own) = config["raw_config"].as_object() {
        lay(own, into, 0);
    }
}

fn lay(over: &Map<String, Value>, into: &mut Map<String, Value>, depth: usize) {
    for (name, value) in over {
        match (value, into.get_mut(name)) {
            (Value::Null, _) => {}
            (Value::Object(over), Some(Value::Object(into))) if depth < ANCESTORS => lay(over, into, depth + 1),
            _ => drop(into.insert(name.clone(), value.clone())),
        }
    }
}

/// One phone's config while it is read.
struct Config<'a> {
    raw: &'a Map<String, Value>,
    place: &'a str,
    drafts: &'a mut Drafts,
}

impl Config<'_> {
    fn text(value: Option<&Value>) -> Option<String> {
        match value? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// A number as a number, or as the text that some versions write.
    fn number(&mut self, of: &Map<String, Value>, name: &str, below: &str, most: u64) -> Option<Value> {
        let value = of.get(name)?;
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
        match number.filter(|number| *number <= most) {
            Some(number) => Some(json!(number)),
            None if value.is_null() || value == "" => None,
            None => {
                let message = format!("this takes a number up to {most}, not {}", shortened(&value.to_string()));
                self.drafts.blame(format!("{}{below}/{name}", self.place), message);
                None
            }
        }
    }

    /// A word in ours.
    fn word(&mut self, value: Option<&Value>, at: &str, words: &[(&str, &str)]) -> Option<Value> {
        let text = value?.as_str().filter(|text| !text.is_empty())?;
        match words.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(text)) {
            Some((_, ours)) => Some(json!(ours)),
            None => {
                let known: Vec<&str> = words.iter().map(|(theirs, _)| *theirs).collect();
                let message = format!("\"{}\" is not known here; known are {}", shortened(text), known.join(", "));
                self.drafts.blame(format!("{}{at}", self.place), message);
                None
            }
        }
    }

    fn on(&self, name: &str) -> bool {
        self.raw
            .get(name)
            .is_some_and(|value| *value == json!(true) || value == "true" || value == "1" || *value == json!(1))
    }

    fn read(mut self, phone: &mut Value) {
        let raw = self.raw;
        let mut known: BTreeSet<&str> = ITS_OWN.into();
        known.extend(["sip_lines", "funckeys"]);
        let mut put = |phone: &mut Value, name: &'static str, path: &str, value: Option<Value>| {
            known.insert(name);
            if let (Some(value), Some((section, field))) = (value, path.rsplit_once('/')) {
                let mut at = &mut *phone;
                for step in section.split('/').filter(|step| !step.is_empty()) {
                    at = &mut at[step];
                }
                at[field] = value;
            }
        };
        let text = |name: &str| Self::text(raw.get(name)).map(Value::from);
        let list = |name: &str| Self::text(raw.get(name)).map(|text| json!([text]));
        for (switch, name, path) in [("ntp_enabled", "ntp_ip", "time/ntp"), ("dns_enabled", "dns_ip", "network/dns")] {
            put(phone, name, path, list(name).filter(|_| self.on(switch)));
            put(phone, switch, "", None);
        }
        put(phone, "timezone", "time/zone", text("timezone"));
        let locale = Self::text(raw.get("locale"));
        let (language, country) =
            locale.as_deref().map(|locale| locale.split_once('_').unwrap_or((locale, ""))).unwrap_or_default();
        put(phone, "locale", "locale/language", (!language.is_empty()).then(|| json!(language)));
        put(phone, "locale", "locale/tones", (!country.is_empty()).then(|| json!(country)));
        let vlan = self.on("vlan_enabled");
        for (name, path, most) in [
            ("vlan_id", "vlan/voice/id", 4094),
            ("vlan_priority", "vlan/voice/priority", 7),
            ("vlan_pc_port_id", "vlan/pc/id", 4094),
        ] {
            let number = self.number(raw, name, "", most).filter(|_| vlan);
            put(phone, name, path, number);
        }
        put(phone, "vlan_enabled", "", None);
        let syslog = self.on("syslog_enabled");
        put(phone, "syslog_ip", "syslog/server", text("syslog_ip").filter(|_| syslog));
        let port = self.number(raw, "syslog_port", "", 65_535).filter(|_| syslog);
        put(phone, "syslog_port", "syslog/port", port);
        let levels =
            [("critical", "error"), ("error", "error"), ("warning", "warning"), ("info", "info"), ("debug", "debug")];
        let level = self.word(raw.get("syslog_level"), "/syslog_level", &levels).filter(|_| syslog);
        put(phone, "syslog_level", "syslog/level", level);
        put(phone, "syslog_enabled", "", None);
        for (name, path) in [
            ("admin_username", "access/admin/username"),
            ("admin_password", "access/admin/password"),
            ("user_username", "access/user/username"),
            ("user_password", "access/user/password"),
            ("exten_park", "codes/park"),
            ("exten_fwd_unconditional", "codes/forward_always_on"),
            ("exten_fwd_busy", "codes/forward_busy_on"),
            ("exten_fwd_no_answer", "codes/forward_no_answer_on"),
        ] {
            put(phone, name, path, text(name));
        }
        let lines = self.lines(&mut known);
        if !lines.is_empty() {
            phone["lines"] = json!(lines);
        }
        let keys = self.keys();
        if !keys.is_empty() {
            phone["keys"] = json!(keys);
        }
        let lost = raw.iter().filter(|(name, value)| !known.contains(name.as_str()) && !value.is_null());
        self.drafts.warn_of_lost(self.place, lost.map(|(name, _)| name.as_str()));
    }

    /// The entries of a section whose keys are numbers, by number.
    fn numbered(&mut self, section: &str) -> BTreeMap<u16, Map<String, Value>> {
        let mut all = BTreeMap::new();
        for (number, entry) in self.raw.get(section).and_then(Value::as_object).into_iter().flatten() {
            let at = format!("{}/{section}/{}", self.place, shortened(number));
            match (number.parse::<u16>(), entry) {
                (Ok(position @ 1..), Value::Object(entry)) => drop(all.insert(position, entry.clone())),
                (Ok(1..), _) => self.drafts.blame(at, "this must be an object"),
                _ => self.drafts.blame(at, "positions are numbers from 1"),
            }
        }
        all
    }

    fn lines(&mut self, known: &mut BTreeSet<&str>) -> Vec<Value> {
        const DTMF: [(&str, &str); 3] =
            [("RTP-in-band", "inband"), ("RTP-out-of-band", "rfc4733"), ("SIP-INFO", "info")];
        const SRTP: [(&str, &str); 3] = [("disabled", "off"), ("preferred", "optional"), ("required", "required")];
        const TRANSPORT: [(&str, &str); 3] = [("udp", "udp"), ("tcp", "tcp"), ("tls", "tls")];
        const OF_ALL: [&str; 17] = [
            "sip_proxy_ip",
            "sip_proxy_port",
            "sip_backup_proxy_ip",
            "sip_backup_proxy_port",
            "sip_registrar_ip",
            "sip_registrar_port",
            "sip_backup_registrar_ip",
            "sip_backup_registrar_port",
            "sip_outbound_proxy_ip",
            "sip_outbound_proxy_port",
            "sip_dtmf_mode",
            "sip_srtp_mode",
            "sip_transport",
            "sip_subscribe_mwi",
            "exten_voicemail",
            "exten_pickup_call",
            "exten_pickup_group",
        ];
        known.extend(OF_ALL);
        let raw = self.raw;
        let mut lines = Vec::new();
        for (position, own) in self.numbered("sip_lines") {
            let below = format!("/sip_lines/{position}");
            // What a line does not say holds for all of them.
            let mut all: Map<String, Value> = own.clone();
            for name in OF_ALL {
                if let (Some(value), Some(short)) = (raw.get(name), name.strip_prefix("sip_"))
                    && all.get(short).is_none_or(Value::is_null)
                {
                    all.insert(short.to_owned(), value.clone());
                }
            }
            let text = |name: &str| Self::text(all.get(name)).map(Value::from);
            let mut line = json!({ "position": position });
            for name in ["number", "username", "auth_username", "password", "display_name"] {
                if let Some(value) = text(name) {
                    line[name] = value;
                }
            }
            if line.get("username").is_none() {
                self.drafts.blame(format!("{}{below}/username", self.place), "a line must have a user name");
            }
            // Where a proxy stands before the registrar, requests go to the proxy.
            let apart = text("registrar_ip").is_some()
                && text("proxy_ip").is_some()
                && text("registrar_ip") != text("proxy_ip");
            let (server, port) = if text("registrar_ip").is_some() {
                ("registrar_ip", "registrar_port")
            } else {
                ("proxy_ip", "proxy_port")
            };
            let (backup, backup_port) = if text("backup_registrar_ip").is_some() {
                ("backup_registrar_ip", "backup_registrar_port")
            } else {
                ("backup_proxy_ip", "backup_proxy_port")
            };
            let (outbound, outbound_port) = if text("outbound_proxy_ip").is_none() && apart {
                ("proxy_ip", "proxy_port")
            } else {
                ("outbound_proxy_ip", "outbound_proxy_port")
            };
            for (name, port, field) in [
                (server, port, "server"),
                (backup, backup_port, "backup_server"),
                (outbound, outbound_port, "outbound_proxy"),
            ] {
                let Some(host) = text(name) else { continue };
                line[field] = host;
                let of_port = match field {
                    "server" => "port".to_owned(),
                    "backup_server" => "backup_port".to_owned(),
                    _ => format!("{field}_port"),
                };
                if let Some(port) = self.number(&all, port, &below, 65_535) {
                    line[of_port] = port;
                }
            }
            let words = [
                ("dtmf", "dtmf_mode", &DTMF[..]),
                ("srtp", "srtp_mode", &SRTP[..]),
                ("transport", "transport", &TRANSPORT[..]),
            ];
            for (field, name, words) in words {
                if let Some(word) = self.word(all.get(name), &format!("{below}/{name}"), words) {
                    line[field] = word;
                }
            }
            if let Some(on) = all.get("subscribe_mwi").and_then(Value::as_bool) {
                line["mwi"] = json!(on);
            }
            let of_phone = |name: &str| Self::text(raw.get(name)).map(Value::from);
            for (field, value) in [
                ("voicemail", text("voicemail").or_else(|| of_phone("exten_voicemail"))),
                ("pickup_code", of_phone("exten_pickup_call")),
                ("group_pickup_code", of_phone("exten_pickup_group")),
            ] {
                if let Some(value) = value {
                    line[field] = value;
                }
            }
            let lines_own = ["number", "username", "auth_username", "password", "display_name", "voicemail"];
            let lost = own.iter().filter(|(name, value)| {
                let shared = format!("sip_{name}");
                !value.is_null() && !lines_own.contains(&name.as_str()) && !OF_ALL.contains(&shared.as_str())
            });
            self.drafts.warn_of_lost(&format!("{}{below}", self.place), lost.map(|(name, _)| name.as_str()));
            lines.push(line);
        }
        lines
    }

    fn keys(&mut self) -> Vec<Value> {
        const KINDS: [(&str, &str); 3] = [("speeddial", "speed_dial"), ("blf", "blf"), ("park", "park")];
        let mut keys = Vec::new();
        for (position, own) in self.numbered("funckeys") {
            let below = format!("/funckeys/{position}");
            let Some(kind) = self.word(own.get("type"), &format!("{below}/type"), &KINDS) else {
                if own.get("type").is_none() {
                    self.drafts.blame(format!("{}{below}/type", self.place), "a key must have a type");
                }
                continue;
            };
            let mut key = json!({ "position": position, "kind": kind });
            for name in ["value", "label"] {
                if let Some(text) = Self::text(own.get(name)) {
                    key[name] = json!(text);
                }
            }
            if let Some(line) = self.number(&own, "line", &below, 999) {
                key["line"] = line;
            }
            keys.push(key);
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(root: &Value) -> Drafts {
        let taken = |_| None;
        let shelf = provost_host::Shelf::default();
        let wanted = Wanted { profiles: [].into(), sites: [].into(), taken: &taken, shelf: &shelf, raw: false };
        read(root.to_string().as_bytes(), &wanted)
    }

    #[test]
    fn a_config_takes_what_its_parents_say_and_lays_its_own_over_it() {
        let drafts = of(&json!({
            "devices": [{ "mac": "00:00:5e:00:53:01", "config": "one" }, { "ip": "192.0.2.1" }],
            "configs": [
                { "id": "base", "parent_ids": ["one"], "raw_config": { "ip": "192.0.2.1", "ntp_enabled": true, "ntp_ip": "192.0.2.2",
                    "sip_proxy_ip": "a.example", "sip_dtmf_mode": "SIP-INFO", "locale": "fr_CA", "X_xivo_user": 1, "vlan_id": 7 } },
                { "id": "one", "parent_ids": ["base"], "raw_config": { "sip_proxy_ip": "b.example", "sip_registrar_ip": "r.example",
                    "sip_lines": { "2": { "username": "u", "password": "s3<&>", "proxy_port": "5070", "display_name": "U" } },
                    "funckeys": { "3": { "type": "speeddial", "value": "200", "line": "2" } } } },
            ],
        }));
        assert!(drafts.wrong.is_empty(), "{:?}", drafts.wrong);
        assert_eq!(
            drafts.all[0].device,
            json!({
                "time": { "ntp": ["192.0.2.2"] }, "locale": { "language": "fr", "tones": "CA" },
                "lines": [{ "position": 2, "username": "u", "password": "s3<&>", "display_name": "U", "server": "r.example",
                    "outbound_proxy": "b.example", "outbound_proxy_port": 5070, "dtmf": "info" }],
                "keys": [{ "position": 3, "kind": "speed_dial", "value": "200", "line": 2 }],
            })
        );
        let told: Vec<String> = drafts.warnings.iter().map(|one| format!("{}: {}", one.at, one.message)).collect();
        assert_eq!(
            told,
            ["/configs/1/raw_config: not carried over: X_xivo_user", "/devices/1: a device without a MAC is left out"]
        );
    }

    #[test]
    fn each_mistake_is_told_with_the_way_to_it() {
        let config = |id: &str, raw: Value| json!({ "id": id, "parent_ids": [], "raw_config": raw });
        let drafts = of(&json!({
            "devices": [{ "mac": "x" }, { "mac": "00005e005301", "config": "none" }, { "mac": "00005e005302", "config": "a" }],
            "configs": [config("a", json!({ "sip_proxy_port": 99_999, "sip_proxy_ip": "p", "sip_lines": { "1": { "username": "u" }, "x": {}, "2": {} },
                "funckeys": { "1": { "type": "dnd" } } }))],
        }));
        let told: Vec<&str> = drafts.wrong.iter().map(|wrong| wrong.at.as_str()).collect();
        let raw = "/configs/0/raw_config";
        let mut wanted =
            vec!["/devices/0/mac".to_owned(), "/devices/1/config".to_owned(), format!("{raw}/sip_lines/x")];
        wanted.extend([format!("{raw}/sip_lines/1/proxy_port"), format!("{raw}/sip_lines/2/username")]);
        wanted.extend([format!("{raw}/sip_lines/2/proxy_port"), format!("{raw}/funckeys/1/type")]);
        assert_eq!(told, wanted);
    }
}
