//! Our own CSV: a row for each account, rows of one MAC being the accounts of one phone, in their order.

use std::collections::{BTreeMap, HashMap};

use provost_fleet::Refer;
use provost_plugin::MacAddr;
use provost_server::{progress, world::World};
use serde_json::{Value, json};

use super::{Drafts, WRONG, Wanted};
use crate::problem::Problem;

/// Columns of a file, in the order of an export. Only `mac` must be there.
pub(crate) const COLUMNS: [&str; 12] = [
    "mac",
    "label",
    "profile",
    "site",
    "vendor",
    "model",
    "number",
    "username",
    "auth_username",
    "password",
    "display_name",
    "server",
];
/// Those that are of the phone, and not of an account.
const OF_THE_PHONE: [&str; 5] = ["label", "profile", "site", "vendor", "model"];

/// A phone as far as it was read.
#[derive(Debug, Default)]
struct Phone {
    row: u64,
    own: BTreeMap<&'static str, String>,
    lines: Vec<Value>,
}

/// What separates the values of a file: what its first line has most of.
pub(super) fn delimiter(bytes: &[u8]) -> u8 {
    let head = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |delimiter: &u8| head.iter().filter(|byte| *byte == delimiter).count();
    [b',', b';', b'\t'].into_iter().max_by_key(count).unwrap_or(b',')
}

/// Reads a file as spreadsheets write them: commas, semicolons or tabs, with or without a byte order mark.
pub(super) fn read(bytes: &[u8], wanted: &Wanted) -> Drafts {
    let mut drafts = Drafts::default();
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut csv =
        csv::ReaderBuilder::new().delimiter(delimiter(bytes)).trim(csv::Trim::All).flexible(true).from_reader(bytes);
    let names: Vec<String> = match csv.headers() {
        Ok(names) => names.iter().map(str::to_lowercase).collect(),
        Err(error) => {
            drafts.blame(at(1, "mac"), format!("the names of the columns cannot be read: {error}"));
            return drafts;
        }
    };
    for name in &names {
        if !COLUMNS.contains(&name.as_str()) {
            drafts.blame(at(1, name), format!("there is no such column; there are {}", COLUMNS.join(", ")));
        }
    }
    if !names.iter().any(|name| name == "mac") {
        drafts.blame(at(1, "mac"), "this column must be there");
    }
    if !drafts.wrong.is_empty() {
        return drafts;
    }
    let mut phones: BTreeMap<MacAddr, Phone> = BTreeMap::new();
    for record in csv.records() {
        if drafts.wrong.len() >= WRONG {
            break;
        }
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let row = error.position().map_or(0, csv::Position::line);
                drafts.blame(at(row, "mac"), format!("the row cannot be read: {error}"));
                continue;
            }
        };
        let row = record.position().map_or(0, csv::Position::line);
        if record.iter().all(str::is_empty) {
            continue;
        }
        if record.len() > names.len() {
            let last = names.last().map_or("mac", String::as_str);
            drafts.blame(at(row, last), format!("there are {} values for {} columns", record.len(), names.len()));
            continue;
        }
        let value = |wanted: &str| {
            let at = names.iter().position(|name| name == wanted)?;
            record.get(at).filter(|value| !value.is_empty()).map(str::to_owned)
        };
        let Some(mac) = drafts.mac(&value("mac").unwrap_or_default(), at(row, "mac"), wanted) else { continue };
        let mut known = true;
        for (column, names) in [("profile", &wanted.profiles), ("site", &wanted.sites)] {
            if let Some(name) = value(column)
                && !names.contains(name.as_str())
            {
                drafts.blame(at(row, column), format!("there is no {column} \"{name}\""));
                known = false;
            }
        }
        if !known {
            continue;
        }
        let phone = phones.entry(mac).or_insert_with(|| Phone { row, ..Phone::default() });
        // A further row of a phone repeats what it says of the phone, or leaves it out.
        for column in OF_THE_PHONE {
            let Some(said) = value(column) else { continue };
            let kept = phone.own.entry(column).or_insert_with(|| said.clone());
            if *kept != said {
                drafts.blame(at(row, column), format!("a row of {mac} before says \"{kept}\""));
            }
        }
        let of_account = COLUMNS.iter().skip(6).filter_map(|column| {
            let said = value(column)?;
            // A password that is kept elsewhere comes as what stands in its place.
            let reference = || serde_json::from_str(&said).ok().filter(|value| Refer::of(value).is_some());
            let said = (*column == "password").then(reference).flatten().unwrap_or_else(|| json!(said));
            Some(((*column).to_owned(), said))
        });
        let line: serde_json::Map<String, Value> = of_account.collect();
        if !line.is_empty() {
            phone.lines.push(Value::Object(line));
        }
    }
    for (mac, Phone { row, own, lines }) in phones {
        let mut device = json!({});
        for (column, value) in own {
            match column {
                "vendor" | "model" => device["identity"][column] = json!(value),
                _ => device[column] = json!(value),
            }
        }
        if !lines.is_empty() {
            device["lines"] = json!(lines);
        }
        drafts.add(mac, format!("row {row}"), device);
    }
    drafts
}

fn at(row: u64, column: &str) -> String {
    format!("row {row}, column {column}")
}

/// All phones of the inventory, as [`read`] takes them.
pub(super) fn written(world: &World) -> Result<Vec<u8>, Problem> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| Problem::internal(format!("the file cannot be made: {error}"));
    csv.write_record(COLUMNS).map_err(failed)?;
    for (mac, device) in world.fleet.devices() {
        let peer = progress::peer(mac, None);
        let resolved = world.files_of(mac, &peer).map(|offer| offer.resolved).ok();
        let references: HashMap<String, &Refer> =
            resolved.iter().flat_map(|resolved| resolved.origins.references()).collect();
        let settings = resolved.as_ref().map(|resolved| resolved.phone.settings.clone()).unwrap_or_default();
        let phone = [
            Some(mac.to_string()),
            device.label().map(str::to_owned),
            device.profile().map(str::to_owned),
            device.site().map(str::to_owned),
            device.stated_vendor().map(str::to_owned),
            device.stated_model().map(str::to_owned),
        ];
        let accounts = settings.lines.iter().enumerate().map(|(index, line)| {
            let reference = references.get(&format!("lines.{index}.password")).map(|refer| refer.json().to_string());
            let password = || line.password.as_ref().map(|password| password.expose().to_owned());
            [
                line.number.clone(),
                line.username.clone(),
                line.auth_username.clone(),
                reference.or_else(password),
                line.display_name.clone(),
                line.sip.server.clone(),
            ]
        });
        let mut accounts: Vec<_> = accounts.collect();
        if accounts.is_empty() {
            accounts.push(Default::default());
        }
        for account in accounts {
            let row = phone.iter().cloned().chain(account).map(Option::unwrap_or_default);
            csv.write_record(row).map_err(failed)?;
        }
    }
    csv.into_inner().map_err(|error| Problem::internal(format!("the file cannot be made: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Drafts {
        let taken = |mac: MacAddr| (mac.bare() == "00005e005309").then(|| "a.yaml:3".to_owned());
        let shelf = provost_host::Shelf::default();
        let (profiles, sites) = (["office"].into(), [].into());
        read(text.as_bytes(), &Wanted { profiles, sites, taken: &taken, shelf: &shelf, raw: false })
    }

    #[test]
    fn rows_become_phones_whatever_separates_them() {
        for text in [
            "MAC,Label,number,password\n00:00:5e:00:53:01,Front,101,a\n00:00:5E:00:53:01,,102,\"b,\"\"c\"\n\n00005e005302,,,\n",
            "\u{feff}mac;label;number;password\r\n00:00:5e:00:53:01;Front;101;a\r\n00005e005301;Front;102;\"b,\"\"c\"\r\n00005e005302;;;\r\n",
            "mac\tlabel\tnumber\tpassword\n00:00:5e:00:53:01\tFront\t101\ta\n00005e005301\t\t102\t\"b,\"\"c\"\n00005e005302\n",
        ] {
            let read = of(text);
            assert!(read.wrong.is_empty(), "{:?}", read.wrong);
            assert_eq!((read.all.len(), read.accounts()), (2, 2));
            let phone = &read.all[0].device;
            assert_eq!((&phone["label"], phone["lines"].as_array().map(Vec::len)), (&json!("Front"), Some(2)));
            assert_eq!(phone["lines"][1]["password"], "b,\"c");
        }
    }

    #[test]
    fn each_mistake_is_told_with_its_row_and_column() {
        let read = of(
            "mac,profile,number\n00005e005301,office,1\nnonsense,office,2\n00005e005302,none,3\n00005e005309,,4\n00005e005303,,5,6\n",
        );
        let told: Vec<_> = read.wrong.iter().map(|wrong| wrong.at.as_str()).collect();
        assert_eq!(told, ["row 3, column mac", "row 4, column profile", "row 5, column mac", "row 6, column number"]);
        assert!(
            of("mac,colour\n").wrong[0].at == "row 1, column colour"
                && of("number\n1\n").wrong[0].at == "row 1, column mac"
        );
        let read = of("mac,label,number\n00005e005301,Front,1\n00005e005301,Back,2\n");
        assert_eq!((read.wrong[0].at.as_str(), read.wrong.len()), ("row 3, column label", 1));
    }
}
