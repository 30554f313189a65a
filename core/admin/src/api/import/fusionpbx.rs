//! FusionPBX's devices as CSV, by the names of its tables' columns: what its export writes, and what its import takes.
//!
//! An export has a row for each device with one line of it; a file for an import may say a column several times, once for each line or key.
//! Both are read: the n-th column of a name is of the n-th line or key, and rows of one MAC are one phone. The names are those of
//! app/devices/device_download.php and app_config.php of fusionpbx/fusionpbx. Keys are typed in the vendor's own words, which the vendor's
//! plugin knows.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use provost_plugin::{MacAddr, Scalar, Spec};
use serde_json::{Value, json};

use super::{Drafts, WRONG, Wanted, csv::delimiter, shortened};

/// What is the other server's own business.
const ITS_OWN: [&str; 13] = [
    "domain_uuid",
    "device_uuid",
    "device_profile_uuid",
    "device_user_uuid",
    "device_line_uuid",
    "device_key_uuid",
    "device_uuid_alternate",
    "device_enabled_date",
    "device_provisioned_date",
    "device_provisioned_method",
    "device_provisioned_ip",
    "device_provisioned_agent",
    "device_key_vendor",
];

#[derive(Debug, Default)]
struct Phone {
    row: u64,
    device: Value,
    lines: BTreeMap<u16, Value>,
    keys: BTreeMap<u16, Value>,
    modules: BTreeMap<u16, BTreeMap<u16, Value>>,
}

/// The values of one row by column, each name as often as there are columns of it.
struct Row<'a> {
    number: u64,
    values: BTreeMap<&'a str, Vec<&'a str>>,
    used: BTreeSet<&'a str>,
}

impl<'a> Row<'a> {
    fn get(&mut self, name: &'a str, nth: usize) -> Option<&'a str> {
        self.used.insert(name);
        self.values.get(name)?.get(nth).copied().filter(|value| !value.is_empty())
    }

    fn at(&self, column: &str) -> String {
        format!("row {}, column {column}", self.number)
    }

    fn count(&self, prefix: &[&str]) -> usize {
        prefix.iter().filter_map(|name| self.values.get(name)).map(Vec::len).max().unwrap_or_default()
    }
}

pub(super) fn read(bytes: &[u8], wanted: &Wanted) -> Drafts {
    let mut drafts = Drafts::default();
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut csv = ::csv::ReaderBuilder::new()
        .delimiter(delimiter(bytes))
        .trim(::csv::Trim::All)
        .flexible(true)
        .from_reader(bytes);
    let names: Vec<String> = match csv.headers() {
        Ok(names) => names.iter().map(|name| name.rsplit('.').next().unwrap_or(name).to_lowercase()).collect(),
        Err(error) => {
            drafts.blame("row 1", format!("the names of the columns cannot be read: {error}"));
            return drafts;
        }
    };
    if !names.iter().any(|name| name == "device_mac_address" || name == "device_address") {
        drafts.blame("row 1", "the column device_mac_address or device_address must be there");
        return drafts;
    }
    let mut phones: BTreeMap<MacAddr, Phone> = BTreeMap::new();
    let mut lost: BTreeSet<String> = BTreeSet::new();
    for record in csv.records() {
        if drafts.wrong.len() >= WRONG {
            break;
        }
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let row = error.position().map_or(0, ::csv::Position::line);
                drafts.blame(format!("row {row}"), format!("the row cannot be read: {error}"));
                continue;
            }
        };
        let number = record.position().map_or(0, ::csv::Position::line);
        if record.iter().all(str::is_empty) {
            continue;
        }
        if record.len() > names.len() {
            drafts.blame(
                format!("row {number}"),
                format!("there are {} values for {} columns", record.len(), names.len()),
            );
            continue;
        }
        let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in names.iter().zip(&record) {
            values.entry(name).or_default().push(value);
        }
        let mut row = Row { number, values, used: ITS_OWN.into() };
        let column =
            if names.iter().any(|name| name == "device_address") { "device_address" } else { "device_mac_address" };
        let text = row.get(column, 0).unwrap_or_default();
        let Some(mac) = drafts.mac(text, row.at(column), wanted) else { continue };
        let phone = phones.entry(mac).or_insert_with(|| Phone { row: number, device: json!({}), ..Phone::default() });
        let spec = device(&mut row, mac, phone, wanted, &mut drafts);
        lines(&mut row, phone, &mut drafts);
        keys(&mut row, phone, spec.as_deref(), &mut drafts);
        let unused = row
            .values
            .iter()
            .filter(|(name, values)| !row.used.contains(*name) && values.iter().any(|one| !one.is_empty()));
        lost.extend(unused.map(|(name, _)| (*name).to_owned()));
    }
    drafts.warn_of_lost("row 1", lost.iter().map(String::as_str));
    for (mac, Phone { row, mut device, lines, keys, modules }) in phones {
        let list = |entries: BTreeMap<u16, Value>| entries.into_values().collect::<Vec<_>>();
        if !lines.is_empty() {
            device["lines"] = json!(list(lines));
        }
        if !keys.is_empty() {
            device["keys"] = json!(list(keys));
        }
        if let Some((last, _)) = modules.last_key_value() {
            let module = |number| json!({ "keys": list(modules.get(&number).cloned().unwrap_or_default()) });
            device["expansion"] = (1..=*last).map(module).collect();
        }
        drafts.add(mac, format!("row {row}"), device);
    }
    drafts
}

fn device(
    row: &mut Row,
    mac: MacAddr,
    phone: &mut Phone,
    wanted: &Wanted,
    drafts: &mut Drafts,
) -> Option<std::sync::Arc<Spec>> {
    let device = &mut phone.device;
    let label = row.get("device_label", 0);
    let description = row.get("device_description", 0);
    if let Some(label) = label.or(description) {
        device["label"] = json!(label);
    }
    if let (Some(_), Some(description)) = (label, description) {
        device["location"] = json!(description);
    }
    if row.get("device_enabled", 0).is_some_and(|text| matches!(text, "false" | "f" | "0")) {
        device["enabled"] = json!(false);
    }
    for (column, field) in [("device_username", "username"), ("device_password", "password")] {
        if let Some(value) = row.get(column, 0) {
            device["provisioning"][field] = json!(value);
        }
    }
    // A template's name is the vendor's and often the model's: vendor/model.
    let template = row.get("device_template", 0).and_then(|template| template.split_once('/'));
    let vendor = row.get("device_vendor", 0).or(template.map(|(vendor, _)| vendor));
    let model = row.get("device_model", 0).or(template.map(|(_, model)| model));
    let (identity, unknown) = wanted.identity(mac, vendor, model);
    if let Some(unknown) = unknown {
        drafts.warn(row.at("device_vendor"), unknown);
    }
    let stated = identity["vendor"].as_str().and_then(|vendor| wanted.shelf.get(vendor));
    let named = vendor.and_then(|vendor| wanted.shelf.get(vendor));
    let spec = stated.or(named).map(|plugin| std::sync::Arc::clone(&plugin.spec));
    if identity.as_object().is_some_and(|identity| !identity.is_empty()) {
        device["identity"] = identity;
    }
    row.used.insert("device_firmware_version");
    spec
}

fn lines(row: &mut Row, phone: &mut Phone, drafts: &mut Drafts) {
    const TEXT: [(&str, &str); 8] = [
        ("user_id", "number"),
        ("auth_id", "auth_username"),
        ("password", "password"),
        ("display_name", "display_name"),
        ("server_address", "server"),
        ("server_address_secondary", "backup_server"),
        ("outbound_proxy_primary", "outbound_proxy"),
        ("outbound_proxy_secondary", "backup_outbound_proxy"),
    ];
    for nth in 0..row.count(&["user_id", "line_number", "server_address", "password"]) {
        let mut line = json!({});
        for (column, field) in TEXT {
            if let Some(value) = row.get(column, nth) {
                line[field] = json!(value);
            }
        }
        // The first of two servers may stand by itself.
        if let Some(first) = row.get("server_address_primary", nth) {
            line["server"] = json!(first);
        }
        if line["server"].is_null() {
            line.as_object_mut().map(|line| line.remove("server"));
        }
        for (column, field, most) in
            [("sip_port", "port", 65_535), ("register_expires", "expires", u64::from(u32::MAX))]
        {
            let Some(value) = row.get(column, nth) else { continue };
            match value.parse::<u64>() {
                Ok(number) if number <= most => line[field] = json!(number),
                _ => drafts.blame(row.at(column), format!("\"{}\" is no number up to {most}", shortened(value))),
            }
        }
        if let Some(transport) = row.get("sip_transport", nth) {
            match transport.to_lowercase().as_str() {
                word @ ("udp" | "tcp" | "tls") => line["transport"] = json!(word),
                "dns srv" | "dnssrv" | "dns" => line["transport"] = json!("dns"),
                _ => drafts.blame(row.at("sip_transport"), format!("\"{}\" is no transport", shortened(transport))),
            }
        }
        if let Some(shared) = row.get("shared_line", nth) {
            line["shared"] = json!(!matches!(shared.to_lowercase().as_str(), "false" | "0" | "f" | "no" | "private"));
        }
        if let Some(label) = row.get("label", nth) {
            line["label"] = json!(label);
        }
        if row.get("enabled", nth).is_some_and(|text| matches!(text, "false" | "f" | "0")) {
            line["enabled"] = json!(false);
        }
        let number = row.get("line_number", nth);
        if line.as_object().is_none_or(serde_json::Map::is_empty) {
            continue;
        }
        let position = match number.map(str::parse::<u16>) {
            None => phone.lines.last_key_value().map_or(1, |(last, _)| last + 1),
            Some(Ok(position @ 1..=999)) => position,
            Some(_) => {
                drafts.blame(
                    row.at("line_number"),
                    format!("\"{}\" is no position", shortened(number.unwrap_or_default())),
                );
                continue;
            }
        };
        line["position"] = json!(position);
        if phone.lines.insert(position, line).is_some() {
            drafts.blame(row.at("line_number"), format!("line {position} is there already"));
        }
    }
}

fn keys(row: &mut Row, phone: &mut Phone, spec: Option<&Spec>, drafts: &mut Drafts) {
    for nth in 0..row.count(&["device_key_id", "device_key_type"]) {
        let get = |row: &mut Row, name| row.get(name, nth).map(str::to_owned);
        for ignored in ["device_key_subtype", "device_key_icon", "device_key_protected"] {
            row.used.insert(ignored);
        }
        let (category, kind) = (get(row, "device_key_category").unwrap_or_default(), get(row, "device_key_type"));
        let (id, line) = (get(row, "device_key_id"), get(row, "device_key_line"));
        let (value, extension, label) =
            (get(row, "device_key_value"), get(row, "device_key_extension"), get(row, "device_key_label"));
        let Some(kind) = kind else { continue };
        let Some(ours) = key_kind(spec, phone.device["identity"]["model"].as_str(), &kind) else {
            let message =
                format!("a key of type \"{}\" is not carried over: what it does is not known here", shortened(&kind));
            drafts.warn(row.at("device_key_type"), message);
            continue;
        };
        let parsed = id.as_deref().map(str::parse::<u16>);
        let last = phone.keys.last_key_value().map_or(0, |(last, _)| *last);
        let position = match parsed {
            None => last + 1,
            Some(Ok(position @ 1..=999)) => position,
            Some(_) => {
                let message = format!("\"{}\" is no position", shortened(&id.unwrap_or_default()));
                drafts.blame(row.at("device_key_id"), message);
                continue;
            }
        };
        let mut key = json!({ "position": position, "kind": ours });
        if let Some(value) = value.or(extension) {
            key["value"] = json!(value);
        }
        if let Some(label) = label {
            key["label"] = json!(label);
        }
        if let Some(line) = line {
            match line.parse::<u16>() {
                Ok(line @ 1..) => key["line"] = json!(line),
                Ok(0) => {}
                Err(_) => drafts.blame(row.at("device_key_line"), format!("\"{}\" is no line", shortened(&line))),
            }
        }
        // "expansion", or "expansion-2" for the second module.
        let module =
            category.strip_prefix("expansion").map(|number| number.trim_start_matches(['-', ' ']).parse().unwrap_or(1));
        let row_of_keys = match module {
            Some(module @ 1..=16) => phone.modules.entry(module).or_default(),
            Some(_) => {
                drafts.blame(row.at("device_key_category"), "there are no so many modules");
                continue;
            }
            None => &mut phone.keys,
        };
        match row_of_keys.entry(position) {
            Entry::Vacant(free) => drop(free.insert(key)),
            Entry::Occupied(_) => {
                let category = shortened(&category);
                let message = format!("key {position} of \"{category}\" is not carried over: there is one already");
                drafts.warn(row.at("device_key_id"), message);
            }
        }
    }
}

/// Our word for a kind of key in the vendor's, or in our own.
fn key_kind(spec: Option<&Spec>, model: Option<&str>, theirs: &str) -> Option<String> {
    let ours = |kind: &str| serde_json::from_value::<provost_plugin::model::KeyKind>(json!(kind)).is_ok();
    let family = spec.and_then(|spec| spec.model(model?)?.1.family.clone());
    let table = spec.and_then(|spec| spec.table("key_kind", family.as_deref()));
    let same = |word: &Scalar| word.to_string().eq_ignore_ascii_case(theirs);
    let found = |kind: &str| table.and_then(|table| table.get(kind)).is_some_and(same);
    // Where one word of theirs is several of ours, the usual one.
    let usual = ["blf", "speed_dial", "line", "park"].into_iter().find(|kind| found(kind)).map(str::to_owned);
    let any = || table?.iter().find(|(_, word)| same(word)).map(|(kind, _)| kind.clone());
    let word = theirs.to_lowercase().replace([' ', '-'], "_");
    let word = if word == "speeddial" { "speed_dial".to_owned() } else { word };
    usual.or_else(any).or_else(|| ours(&word).then_some(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Drafts {
        let taken = |_| None;
        let shelf = provost_host::Shelf::default();
        read(
            text.as_bytes(),
            &Wanted { profiles: [].into(), sites: [].into(), taken: &taken, shelf: &shelf, raw: false },
        )
    }

    #[test]
    fn columns_that_come_again_are_further_lines_and_keys() {
        let drafts = of(
            "device_uuid,device_mac_address,device_label,line_number,user_id,password,sip_transport,line_number,user_id,password,sip_transport,\
             device_key_id,device_key_category,device_key_type,device_key_value,device_vendor_custom\n\
             1,00005e005301,Front,1,101,\"a,\"\"b\",tcp,2,102,c,DNS SRV,3,expansion-2,blf,200,x\n\
             2,00005E-005302,,1,103,d,,,,,,1,line,Speed Dial,201,\n1,00005e005301,,4,104,e,,,,,,,,,,\n",
        );
        assert!(drafts.wrong.is_empty(), "{:?}", drafts.wrong);
        let device = &drafts.all[0].device;
        assert_eq!(
            device["lines"],
            json!([
                { "position": 1, "number": "101", "password": "a,\"b", "transport": "tcp" },
                { "position": 2, "number": "102", "password": "c", "transport": "dns" },
                { "position": 4, "number": "104", "password": "e" },
            ])
        );
        assert_eq!(
            device["expansion"],
            json!([{ "keys": [] }, { "keys": [{ "position": 3, "kind": "blf", "value": "200" }] }])
        );
        assert_eq!(drafts.all[1].device["keys"], json!([{ "position": 1, "kind": "speed_dial", "value": "201" }]));
        let told: Vec<&str> = drafts.warnings.iter().map(|warning| warning.message.as_str()).collect();
        assert_eq!(told, ["not carried over: device_vendor_custom"]);
    }

    #[test]
    fn each_mistake_is_told_with_its_row_and_column() {
        let drafts = of(
            "device_address,line_number,user_id,sip_port\n00005e005301,x,1,\n00005e005302,1,1,99999\nnonsense,1,1,\n",
        );
        let told: Vec<&str> = drafts.wrong.iter().map(|wrong| wrong.at.as_str()).collect();
        assert_eq!(told, ["row 2, column line_number", "row 3, column sip_port", "row 4, column device_address"]);
        assert_eq!(of("mac\n").wrong[0].at, "row 1");
    }
}
