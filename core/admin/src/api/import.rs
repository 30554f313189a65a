//! Inventories in and out as CSV: a row for each account, rows of one MAC being the accounts of one phone, in their order.
//!
//! All or nothing: every row is looked at and every phone is tried before anything is written, and then all files appear at once.

use std::collections::{BTreeMap, HashSet};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use provost_plugin::{MacAddr, Secret};
use provost_server::progress;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Query, aside,
    write::{Account, Assignment},
};
use crate::{
    Admin,
    problem::{Problem, Wrong},
};

/// As many mistakes as a person mends before the next try.
const WRONG: usize = 100;
/// Columns of a file, in the order of an export. Only `mac` must be there.
const COLUMNS: [&str; 12] = [
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

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct How {
    /// Look at everything, and write nothing
    dry_run: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Imported {
    devices: usize,
    accounts: usize,
    /// The directory in which their files are; none for a dry run.
    directory: Option<String>,
}

/// Phones of a file, and what is wrong with it.
#[derive(Debug, Default)]
struct Read {
    phones: BTreeMap<MacAddr, Assignment>,
    /// The row in which each phone first stands.
    rows: BTreeMap<MacAddr, u64>,
    accounts: usize,
    wrong: Vec<Wrong>,
}

impl Read {
    fn blame(&mut self, row: u64, column: &str, message: impl Into<String>) {
        self.wrong.push(Wrong { at: format!("row {row}, column {column}"), message: message.into() });
    }
}

/// Reads a file as spreadsheets write them: commas, semicolons or tabs, with or without a byte order mark.
fn read(
    bytes: &[u8],
    profiles: &HashSet<&str>,
    sites: &HashSet<&str>,
    taken: &dyn Fn(MacAddr) -> Option<String>,
) -> Read {
    let mut read = Read::default();
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let head = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |delimiter: &u8| head.iter().filter(|byte| *byte == delimiter).count();
    let delimiter = [b',', b';', b'\t'].into_iter().max_by_key(count).unwrap_or(b',');
    let mut csv = csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).flexible(true).from_reader(bytes);
    let names: Vec<String> = match csv.headers() {
        Ok(names) => names.iter().map(str::to_lowercase).collect(),
        Err(error) => {
            read.blame(1, "mac", format!("the names of the columns cannot be read: {error}"));
            return read;
        }
    };
    for name in &names {
        if !COLUMNS.contains(&name.as_str()) {
            read.blame(1, name, format!("there is no such column; there are {}", COLUMNS.join(", ")));
        }
    }
    if !names.iter().any(|name| name == "mac") {
        read.blame(1, "mac", "this column must be there");
    }
    if !read.wrong.is_empty() {
        return read;
    }
    for record in csv.records() {
        if read.wrong.len() >= WRONG {
            break;
        }
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let row = error.position().map_or(0, csv::Position::line);
                read.blame(row, "mac", format!("the row cannot be read: {error}"));
                continue;
            }
        };
        let row = record.position().map_or(0, csv::Position::line);
        if record.iter().all(str::is_empty) {
            continue;
        }
        if record.len() > names.len() {
            read.blame(
                row,
                names.last().map_or("mac", String::as_str),
                format!("there are {} values for {} columns", record.len(), names.len()),
            );
            continue;
        }
        let value = |wanted: &str| {
            let at = names.iter().position(|name| name == wanted)?;
            record.get(at).filter(|value| !value.is_empty()).map(str::to_owned)
        };
        let text = value("mac").unwrap_or_default();
        let Ok(mac) = text.parse::<MacAddr>() else {
            read.blame(row, "mac", format!("\"{}\" is no MAC address", text.chars().take(40).collect::<String>()));
            continue;
        };
        if let Some(place) = taken(mac) {
            read.blame(row, "mac", format!("{mac} is enrolled already ({place})"));
            continue;
        }
        let mut known = true;
        for (column, names) in [("profile", profiles), ("site", sites)] {
            if let Some(name) = value(column)
                && !names.contains(name.as_str())
            {
                read.blame(row, column, format!("there is no {column} \"{name}\""));
                known = false;
            }
        }
        if !known {
            continue;
        }
        let account = Account {
            number: value("number"),
            username: value("username"),
            auth_username: value("auth_username"),
            password: value("password").map(Secret::new),
            display_name: value("display_name"),
            server: value("server"),
        };
        let phone = Assignment {
            label: value("label"),
            profile: value("profile"),
            site: value("site"),
            vendor: value("vendor"),
            model: value("model"),
            lines: Vec::new(),
        };
        read.rows.entry(mac).or_insert(row);
        let before = read.phones.entry(mac).or_default();
        // A further row of a phone repeats what it says of the phone, or leaves it out.
        let mut differs = None;
        for (column, said, kept) in [
            ("label", phone.label, &mut before.label),
            ("profile", phone.profile, &mut before.profile),
            ("site", phone.site, &mut before.site),
            ("vendor", phone.vendor, &mut before.vendor),
            ("model", phone.model, &mut before.model),
        ] {
            match (&said, &kept) {
                (Some(said), Some(kept)) if said != kept => differs = Some((column, kept.clone())),
                (Some(_), None) => *kept = said,
                _ => {}
            }
        }
        if account.is_something() {
            before.lines.push(account);
            read.accounts += 1;
        }
        if let Some((column, kept)) = differs {
            read.blame(row, column, format!("a row of {mac} before says \"{kept}\""));
        }
    }
    read
}

/// Enrol all phones of a CSV file, or none
///
/// A row for each account; rows of one MAC are the accounts of one phone. Commas, semicolons or tabs.
#[utoipa::path(post, path = "/api/v1/import", tag = "devices", params(How),
    request_body(content = String, content_type = "text/csv"), responses(
    (status = 200, body = Imported, description = "Nothing is wrong; a dry run"),
    (status = 201, body = Imported),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = String, content_type = "text/plain"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn import(
    State(admin): State<Admin>,
    Query(how): Query<How>,
    body: axum::body::Bytes,
) -> Result<(StatusCode, Json<Imported>), Problem> {
    let desk = std::sync::Arc::clone(&admin.desk);
    let read = aside(move || {
        let world = desk.world();
        let (profiles, sites) = (world.fleet.profiles().collect(), world.fleet.sites().collect());
        let taken = |mac: MacAddr| world.fleet.device(mac).map(|device| format!("{}:{}", device.file(), device.line()));
        read(&body, &profiles, &sites, &taken)
    })
    .await?;
    if !read.wrong.is_empty() {
        let more = if read.wrong.len() >= WRONG { "at least " } else { "" };
        let detail = format!("nothing is written: {more}{} rows or columns are wrong", read.wrong.len());
        return Err(Problem { errors: read.wrong, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail) });
    }
    let (devices, accounts) = (read.phones.len(), read.accounts);
    if devices == 0 {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "nothing is written: the file has no phones"));
    }
    let files = read.phones.iter().map(|(mac, phone)| (format!("{}.yaml", mac.bare()), phone.yaml(*mac))).collect();
    let done = admin.desk.import(files, how.dry_run).await;
    let directory = done.map_err(|error| in_rows(Problem::from(error), &read.rows))?;
    let status = if how.dry_run { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(Imported { devices, accounts, directory: directory.map(|path| path.display().to_string()) })))
}

/// Tells mistakes by the rows of the file that was sent, and not by files that were never written.
fn in_rows(mut problem: Problem, rows: &BTreeMap<MacAddr, u64>) -> Problem {
    problem.errors.truncate(WRONG);
    for wrong in &mut problem.errors {
        let named = wrong.at.split(['/', ':']).find_map(|part| part.strip_suffix(".yaml")?.parse::<MacAddr>().ok());
        if let Some((mac, row)) = named.and_then(|mac| Some((mac, rows.get(&mac)?))) {
            wrong.at = format!("row {row} ({mac})");
        }
    }
    problem
}

/// All phones of the inventory as a CSV file that can be imported again; passwords included
#[utoipa::path(get, path = "/api/v1/export", tag = "devices", responses(
    (status = 200, body = String, content_type = "text/csv"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn export(State(admin): State<Admin>) -> Result<impl IntoResponse, Problem> {
    let text = aside(move || {
        let world = admin.desk.world();
        let mut csv = csv::Writer::from_writer(Vec::new());
        let failed = |error: csv::Error| Problem::internal(format!("the file cannot be made: {error}"));
        csv.write_record(COLUMNS).map_err(failed)?;
        for (mac, device) in world.fleet.devices() {
            let peer = progress::peer(mac, None);
            let settings = world.files_of(mac, &peer).map(|offer| offer.resolved.phone.settings).unwrap_or_default();
            let phone = [
                Some(mac.to_string()),
                device.label().map(str::to_owned),
                device.profile().map(str::to_owned),
                device.site().map(str::to_owned),
                device.stated_vendor().map(str::to_owned),
                device.stated_model().map(str::to_owned),
            ];
            let accounts = settings.lines.iter().map(|line| {
                [
                    line.number.clone(),
                    line.username.clone(),
                    line.auth_username.clone(),
                    line.password.as_ref().map(|password| password.expose().to_owned()),
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
    })
    .await??;
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Read {
        let taken = |mac: MacAddr| (mac.bare() == "00005e005309").then(|| "a.yaml:3".to_owned());
        read(text.as_bytes(), &HashSet::from(["office"]), &HashSet::new(), &taken)
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
            assert_eq!((read.phones.len(), read.accounts), (2, 2));
            let phone = &read.phones[&"00005e005301".parse().unwrap()];
            assert_eq!((phone.label.as_deref(), phone.lines.len()), (Some("Front"), 2));
            assert_eq!(phone.lines[1].password.as_ref().map(Secret::expose), Some("b,\"c"));
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
