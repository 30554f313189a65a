//! Commands that ask a running server, through its door for people.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use hyper::{
    Method,
    header::{CONTENT_TYPE, IF_MATCH},
};
use provost_admin::client::{Answer, Client, ClientError};
use provost_plugin::MacAddr;
use provost_server::{settings::Settings, tls::pair_files};
use serde_json::{Map, Value, json};

use crate::args::{
    AdminArgs, ApproveArgs, DevicesArgs, ExportForm, ImportArgs, ImportForm, KeyCommand, ResyncArgs, ScopeArg,
};

/// The key's file, in the state directory.
pub(crate) const KEY: &str = "admin.key";
/// Phones asked for at a time.
const PAGE: usize = 500;
/// How often a list that is watched is asked for.
const AGAIN: Duration = Duration::from_secs(1);

/// A server, and the means to wait for it.
pub(crate) struct Asking {
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Asking {
    pub(crate) fn new(settings: &Settings, words: &AdminArgs) -> Result<Asking> {
        let address = words.admin.unwrap_or(SocketAddr::new(settings.admin.address, settings.admin.port));
        // Who listens everywhere is here too.
        let address = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
            _ => address,
        };
        let key = words.key.clone().unwrap_or_else(|| settings.state.join(KEY));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
        let own = || settings.admin.tls.then(|| pair_files(settings).0);
        let client = Client::new(address, &key)?;
        let client = match words.admin_certificate.clone().or_else(own) {
            Some(certificate) => client.over_tls(&certificate)?,
            None => client,
        };
        Ok(Asking { client, runtime })
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, ClientError> {
        Ok(self.runtime.block_on(self.client.get(path))?.json())
    }

    fn send(&self, method: Method, path: &str, body: &Value) -> Result<Answer, ClientError> {
        self.runtime.block_on(self.client.send(method, path, body))
    }
}

fn query(words: &DevicesArgs) -> String {
    let mut query = String::from("sort=mac");
    let given =
        [("q", &words.search), ("state", &words.standing), ("progress", &words.progress), ("vendor", &words.vendor)];
    for (name, value) in given {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={}", provost_plugin::percent_encode(value)));
        }
    }
    query
}

pub(crate) fn devices(settings: &Settings, words: &DevicesArgs, out: &mut impl Write) -> Result<ExitCode> {
    let asking = Asking::new(settings, &words.server)?;
    let query = query(words);
    let all = || -> Result<Vec<Value>, ClientError> {
        let mut items = Vec::new();
        loop {
            let page = asking.get(&format!("/api/v1/devices?{query}&limit={PAGE}&offset={}", items.len()))?;
            let more = page["items"].as_array().cloned().unwrap_or_default();
            let last = more.is_empty();
            items.extend(more);
            if last || items.len() as u64 >= page["total"].as_u64().unwrap_or_default() {
                return Ok(items);
            }
        }
    };
    let show = |items: &[Value], out: &mut dyn Write| -> Result<()> {
        if words.json {
            writeln!(out, "{}", serde_json::to_string_pretty(items)?)?;
        } else {
            table(items, out)?;
        }
        Ok(out.flush()?)
    };
    let mut shown = all()?;
    show(&shown, out)?;
    if !words.watch {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        std::thread::sleep(AGAIN);
        let now = all()?;
        if now != shown {
            writeln!(out)?;
            show(&now, out)?;
            shown = now;
        }
    }
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or("-")
}

fn table(items: &[Value], out: &mut dyn Write) -> Result<()> {
    const HEAD: [&str; 9] = ["MAC", "state", "progress", "vendor", "model", "firmware", "address", "profile", "name"];
    let now = milliseconds(SystemTime::now());
    let rows: Vec<[String; 10]> = items
        .iter()
        .map(|row| {
            let names = ["mac", "state", "progress", "vendor", "model", "firmware", "address"];
            let [a, b, c, d, e, f, g] = names.map(|name| text(row, name).replace('_', " "));
            // What is only suggested is in brackets.
            let suggested = row["suggested_profile"].as_str().map(|profile| format!("({profile})"));
            let profile = suggested.unwrap_or_else(|| text(row, "profile").to_owned());
            let [h, i] = [profile, text(row, "label").to_owned()].map(|text| text.chars().take(32).collect::<String>());
            [a, b, c, d, e, f, g, h, i, ago(now, row["last_seen"].as_u64())]
        })
        .collect();
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for (name, width) in HEAD.iter().zip(widths) {
        write!(out, "{name:width$}  ")?;
    }
    writeln!(out, "seen")?;
    for row in &rows {
        for (cell, width) in row.iter().zip(widths) {
            write!(out, "{cell:width$}  ")?;
        }
        writeln!(out, "{}", row[9])?;
    }
    let count = items.len();
    Ok(writeln!(out, "{count} {}", if count == 1 { "phone" } else { "phones" })?)
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn ago(now: u64, then: Option<u64>) -> String {
    let Some(then) = then else { return "never".into() };
    let seconds = now.saturating_sub(then) / 1000;
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

pub(crate) fn approve(settings: &Settings, words: &ApproveArgs, out: &mut impl Write) -> Result<ExitCode> {
    enrol(&Asking::new(settings, &words.server)?, words, account(words)?, out)
}

/// What the words say of a line; empty where they say nothing.
fn account(words: &ApproveArgs) -> Result<Map<String, Value>> {
    let password = words.password_file.as_deref().map(read).transpose()?;
    let password = password.map(|bytes| String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned());
    let said = [("number", words.number.clone()), ("display_name", words.display_name.clone()), ("password", password)];
    Ok(said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect())
}

fn enrol(asking: &Asking, words: &ApproveArgs, account: Map<String, Value>, out: &mut impl Write) -> Result<ExitCode> {
    let lines: Vec<Value> =
        Some(account).filter(|account| !account.is_empty()).map(Value::Object).into_iter().collect();
    let body = json!({ "label": words.label, "profile": words.profile, "site": words.site, "lines": lines });
    let answer = asking.send(Method::POST, &format!("/api/v1/devices/{}/approve", words.mac.bare()), &body)?.json();
    let profile = answer["profile"].as_str().map(|profile| format!(" with profile {profile}")).unwrap_or_default();
    writeln!(out, "{} is enrolled{profile}: {}", words.mac, text(&answer, "file"))?;
    writeln!(out, "{}", text(&answer, "outcome"))?;
    Ok(ExitCode::SUCCESS)
}

/// Changes a device where it stands, or enrols it.
pub(crate) fn assign(settings: &Settings, words: &ApproveArgs, out: &mut impl Write) -> Result<ExitCode> {
    let asking = Asking::new(settings, &words.server)?;
    let account = account(words)?;
    let path = format!("/api/v1/devices/{}", words.mac.bare());
    let found = match asking.runtime.block_on(asking.client.get(&format!("{path}/settings"))) {
        Err(ClientError::Refused(problem)) if problem.status == 404 => return enrol(&asking, words, account, out),
        found => found?,
    };
    let said = [("label", &words.label), ("profile", &words.profile), ("site", &words.site)];
    let mut patch: Map<String, Value> =
        said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into()))).collect();
    if !account.is_empty() {
        // A list is replaced as a whole, so the other lines go along as they are.
        let mut lines = found.json()["lines"].as_array().cloned().unwrap_or_default();
        let mut before = 0;
        let first = lines.iter_mut().find(|line| {
            before = line["position"].as_u64().unwrap_or(before + 1);
            before == 1
        });
        match first {
            Some(Value::Object(line)) => line.extend(account),
            Some(line) => *line = account.into(),
            None => {
                let mut line = account;
                line.insert("position".into(), 1.into());
                lines.push(line.into());
            }
        }
        patch.insert("lines".into(), lines.into());
    }
    if patch.is_empty() {
        bail!(
            "there is nothing to change: say what it is to be, with --profile, --site, --label, --number, --display-name or --password-file"
        );
    }
    let names: Vec<&str> = patch.keys().map(String::as_str).collect();
    let changed = names.join(", ");
    // Of the version that was just read: what somebody else wrote meanwhile is not undone.
    let version = format!("\"{}\"", found.version.unwrap_or_default());
    let headers = [(CONTENT_TYPE, "application/merge-patch+json"), (IF_MATCH, version.as_str())];
    let body = serde_json::to_vec(&patch)?.into();
    asking.runtime.block_on(asking.client.ask(Method::PATCH, &path, &headers, body))?;
    writeln!(
        out,
        "{}: {changed} changed; it has that when it fetches next (`provost resync {}`)",
        words.mac, words.mac
    )?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn resync(settings: &Settings, words: &ResyncArgs, out: &mut impl Write) -> Result<ExitCode> {
    let asking = Asking::new(settings, &words.server)?;
    let paced = words.per_minute.is_some() || words.stop_after.is_some() || words.regardless;
    if let [mac] = words.macs.as_slice()
        && !paced
    {
        let path = format!("/api/v1/devices/{}/resync", mac.bare());
        let answer = asking.send(Method::POST, &path, &json!({ "reboot": words.reboot }))?.json();
        writeln!(out, "{mac}: {}", text(&answer, "outcome"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let fitting = json!({ "progress": words.progress, "profile": words.profile, "vendor": words.vendor });
    let order = json!({
        "phones": words.macs,
        "all_that_fit": if words.macs.is_empty() { Some(fitting) } else { None },
        "reboot": words.reboot,
        "per_minute": words.per_minute,
        "stop_after": words.stop_after,
        "regardless": words.regardless,
    });
    let begun = asking.send(Method::POST, "/api/v1/rollouts", &order)?.json();
    writeln!(out, "roll-out {} of {} phones, {} a minute", begun["id"], begun["phones"], begun["per_minute"])?;
    writeln!(out, "`provost rollouts {}` tells how it goes on", begun["id"])?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn open(
    settings: &Settings,
    words: &AdminArgs,
    mac: MacAddr,
    minutes: Option<u32>,
    out: &mut impl Write,
) -> Result<ExitCode> {
    let asking = Asking::new(settings, words)?;
    let path = format!("/api/v1/devices/{}/open", mac.bare());
    match minutes {
        Some(minutes) => {
            asking.send(Method::PUT, &path, &json!({ "minutes": minutes }))?;
            writeln!(out, "{mac}: open for {minutes} min; the first address that asks for its files gets them")?;
        }
        None => {
            asking.send(Method::DELETE, &path, &json!({}))?;
            writeln!(out, "{mac}: closed")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn revoke(settings: &Settings, words: &AdminArgs, mac: MacAddr, out: &mut impl Write) -> Result<ExitCode> {
    let asking = Asking::new(settings, words)?;
    asking.send(Method::POST, &format!("/api/v1/devices/{}/revoke", mac.bare()), &json!({}))?;
    writeln!(out, "{mac}: its tokens are good for nothing; it gets another by NOTIFY when it starts")?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn lockouts(
    settings: &Settings,
    words: &AdminArgs,
    pardon: Option<&str>,
    as_json: bool,
    out: &mut impl Write,
) -> Result<ExitCode> {
    let asking = Asking::new(settings, words)?;
    if let Some(source) = pardon {
        asking.send(
            Method::DELETE,
            &format!("/api/v1/lockouts?source={}", provost_plugin::percent_encode(source)),
            &json!({}),
        )?;
        writeln!(out, "{source} is let in again")?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer = asking.get("/api/v1/lockouts")?;
    if as_json {
        writeln!(out, "{}", serde_json::to_string_pretty(&answer["lockouts"])?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = milliseconds(SystemTime::now());
    for lockout in answer["lockouts"].as_array().into_iter().flatten() {
        let minutes = lockout["until"].as_u64().unwrap_or_default().saturating_sub(now).div_ceil(60_000);
        writeln!(out, "{:20}  for {minutes} min  {}", text(lockout, "source"), text(lockout, "why"))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn rollouts(
    settings: &Settings,
    words: &AdminArgs,
    id: Option<u64>,
    act: Option<&str>,
    as_json: bool,
    out: &mut impl Write,
) -> Result<ExitCode> {
    let asking = Asking::new(settings, words)?;
    if let (Some(id), Some(act)) = (id, act) {
        asking.send(Method::POST, &format!("/api/v1/rollouts/{id}/{act}"), &json!({}))?;
    }
    let path = id.map_or_else(|| "/api/v1/rollouts".to_owned(), |id| format!("/api/v1/rollouts/{id}?limit={PAGE}"));
    let answer = asking.get(&path)?;
    if as_json {
        writeln!(out, "{}", serde_json::to_string_pretty(&answer)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let one = std::slice::from_ref(&answer);
    for rollout in answer.as_array().map_or(one, Vec::as_slice) {
        let reason = rollout["reason"].as_str().map(|reason| format!(" ({reason})")).unwrap_or_default();
        writeln!(
            out,
            "{}: {}{reason}, {} of {} in step, {} failed, {} waiting  {}",
            rollout["id"],
            text(rollout, "state"),
            rollout["in_step"],
            rollout["phones"],
            rollout["failed"],
            rollout["waiting"],
            rollout["why"].as_str().unwrap_or_default()
        )?;
    }
    for phone in answer["items"].as_array().into_iter().flatten() {
        let why = phone["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
        writeln!(out, "  {} {}{why}", text(phone, "mac"), text(phone, "step").replace('_', " "))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn diff(
    settings: &Settings,
    words: &AdminArgs,
    file: &str,
    new: &Path,
    mac: Option<MacAddr>,
    as_json: bool,
    out: &mut impl Write,
) -> Result<ExitCode> {
    let asking = Asking::new(settings, words)?;
    let content = String::from_utf8(read(new)?).with_context(|| format!("{} is not UTF-8", new.display()))?;
    let edits = json!([{ "file": file, "content": content }]);
    let outlook = asking.send(Method::POST, "/api/v1/changes", &json!({ "edits": edits }))?.json();
    let shown = mac.map(|mac| mac.to_string()).or_else(|| outlook["items"][0]["mac"].as_str().map(str::to_owned));
    let differences = match &shown {
        Some(mac) => asking.send(Method::POST, "/api/v1/changes/diff", &json!({ "mac": mac, "edits": edits }))?.json(),
        None => json!([]),
    };
    if as_json {
        let whole = json!({ "outlook": outlook, "mac": shown, "differences": differences });
        writeln!(out, "{}", serde_json::to_string_pretty(&whole)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let perhaps = match outlook["perhaps"].as_u64() {
        Some(0) | None => String::new(),
        Some(count) => format!(", {count} perhaps"),
    };
    write!(out, "{} phones would change, {} of them would restart{perhaps}", outlook["phones"], outlook["restarts"])?;
    if outlook["looked_at"] != outlook["of"] {
        write!(out, "; of {} phones only {} were looked at", outlook["of"], outlook["looked_at"])?;
    }
    writeln!(out)?;
    for one in differences.as_array().into_iter().flatten() {
        let (name, whose) = (text(one, "name"), shown.as_deref().unwrap_or_default());
        writeln!(out, "--- {name} of {whose}, as it is\n+++ {name} of {whose}, as it would be")?;
        match one["diff"].as_str() {
            Some("") | None => writeln!(out, "  only something masked differs, as a password")?,
            Some(diff) => write!(out, "{diff}")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn key(settings: &Settings, words: &KeyCommand, out: &mut impl Write) -> Result<ExitCode> {
    match words {
        KeyCommand::Add { name, scope, expires, server } => {
            let scope = match scope {
                ScopeArg::Read => "read",
                ScopeArg::Operate => "operate",
                ScopeArg::Admin => "admin",
            };
            let body = json!({ "name": name, "scope": scope, "expires": expires });
            let answer = Asking::new(settings, server)?.send(Method::POST, "/api/v1/keys", &body)?.json();
            // Alone, so that a script can put it where it belongs.
            writeln!(out, "{}", text(&answer, "key"))?;
        }
        KeyCommand::List { json, server } => {
            let answer = Asking::new(settings, server)?.get("/api/v1/keys")?;
            if *json {
                writeln!(out, "{}", serde_json::to_string_pretty(&answer["keys"])?)?;
                return Ok(ExitCode::SUCCESS);
            }
            let keys = answer["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
            let width = keys.iter().map(|key| text(key, "name").chars().count()).max().unwrap_or(0).max(4);
            let now = milliseconds(SystemTime::now());
            writeln!(out, "{:width$}  {:7}  {:12}  {:12}  until", "name", "scope", "made", "used")?;
            for key in keys {
                let [made, used] = ["made", "used"].map(|name| ago(now, key[name].as_u64()));
                let (name, scope, expires) = (text(key, "name"), text(key, "scope"), text(key, "expires"));
                writeln!(out, "{name:width$}  {scope:7}  {made:12}  {used:12}  {expires}")?;
            }
        }
        KeyCommand::Remove { name, server } => {
            let path = format!("/api/v1/keys/{}", provost_plugin::percent_encode(name));
            Asking::new(settings, server)?.send(Method::DELETE, &path, &Value::Null)?;
            writeln!(out, "{name} opens nothing any more")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A file, or what comes in.
fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

/// What the server takes in one request, as far as it is known here.
const PACKED: usize = 15 << 20;
/// Phones' files are smaller; firmware that lies beside them is not.
const OF_A_PHONE: u64 = 1 << 20;

/// A directory with all that is below it as a tar. Links are not followed, and what is too large for a phone's file is told and left out.
fn packed(directory: &Path, out: &mut impl Write) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let cannot = || format!("cannot read {}", path.display());
        let mut entries =
            std::fs::read_dir(&path).with_context(cannot)?.collect::<Result<Vec<_>, _>>().with_context(cannot)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let kind = entry.file_type().with_context(|| format!("cannot read {}", path.display()))?;
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                let bytes = read_at_most(&path)?;
                let name = path.strip_prefix(directory).unwrap_or(&path);
                let Some(bytes) = bytes else {
                    writeln!(out, "{}: left out: too large for a phone's file", name.display())?;
                    continue;
                };
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o600);
                tar.append_data(&mut header, name, &*bytes)?;
                anyhow::ensure!(
                    tar.get_ref().len() <= PACKED,
                    "{} holds more than {} MiB; import it in parts",
                    directory.display(),
                    PACKED >> 20
                );
            }
        }
    }
    Ok(tar.into_inner()?)
}

fn read_at_most(path: &Path) -> Result<Option<Vec<u8>>> {
    let cannot = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(cannot)?;
    file.take(OF_A_PHONE + 1).read_to_end(&mut bytes).with_context(cannot)?;
    Ok((bytes.len() as u64 <= OF_A_PHONE).then_some(bytes))
}

pub(crate) fn import(settings: &Settings, words: &ImportArgs, out: &mut impl Write) -> Result<ExitCode> {
    let ImportArgs { file, form, dry_run, raw, server } = words;
    let (body, form) = match file.is_dir() {
        true => (packed(file, out)?, Some(ImportForm::Files)),
        false => (read(file)?, *form),
    };
    let asking = Asking::new(settings, server)?;
    let mut path = format!("/api/v1/import?dry_run={dry_run}&raw={raw}");
    if let Some(form) = form.and_then(|form| form.to_possible_value()) {
        path.push_str(&format!("&form={}", form.get_name()));
    }
    let kind = [(CONTENT_TYPE, "application/octet-stream")];
    let answer = asking.runtime.block_on(asking.client.ask(Method::POST, &path, &kind, body.into()))?.json();
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        writeln!(out, "{}: {}", text(warning, "at"), text(warning, "message"))?;
    }
    let whereto = match answer["directory"].as_str() {
        Some(directory) => format!("are enrolled: {directory}"),
        None => "could be enrolled; nothing is written".to_owned(),
    };
    writeln!(out, "{} phones with {} accounts {whereto}", answer["devices"], answer["accounts"])?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn export(
    settings: &Settings,
    words: &AdminArgs,
    form: ExportForm,
    out: &mut impl Write,
) -> Result<ExitCode> {
    let asking = Asking::new(settings, words)?;
    let form = form.to_possible_value().map(|form| form.get_name().to_owned()).unwrap_or_default();
    out.write_all(&asking.runtime.block_on(asking.client.get(&format!("/api/v1/export?form={form}")))?.body)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn swap(
    settings: &Settings,
    words: &AdminArgs,
    mac: MacAddr,
    to: MacAddr,
    out: &mut impl Write,
) -> Result<ExitCode> {
    let asking = Asking::new(settings, words)?;
    asking.send(Method::POST, &format!("/api/v1/devices/{}/swap", mac.bare()), &json!({ "to": to }))?;
    writeln!(out, "{to} has the place of {mac}")?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn history(
    settings: &Settings,
    words: &AdminArgs,
    mac: MacAddr,
    as_json: bool,
    out: &mut impl Write,
) -> Result<ExitCode> {
    let phone = Asking::new(settings, words)?.get(&format!("/api/v1/devices/{}", mac.bare()))?;
    if as_json {
        writeln!(out, "{}", serde_json::to_string_pretty(&phone)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = milliseconds(SystemTime::now());
    writeln!(
        out,
        "{mac}: {} {}, {}, seen {}",
        text(&phone, "vendor"),
        text(&phone, "model"),
        phone["progress"].as_str().unwrap_or(text(&phone, "state")).replace('_', " "),
        ago(now, phone["last_seen"].as_u64())
    )?;
    if let Some(trouble) = phone["trouble"].as_str() {
        writeln!(out, "  {trouble}")?;
    }
    if let Some(profile) = phone["suggested_profile"].as_str() {
        let (why, place) = (text(&phone, "suggested_because"), text(&phone, "suggested_place"));
        writeln!(out, "  profile {profile} is suggested: {why} ({place})")?;
    }
    for event in phone["events"].as_array().into_iter().flatten() {
        let when = ago(now, event["at"].as_u64());
        let what = happening(event);
        writeln!(out, "  {when:>12}  {what}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The relay that heard it.
fn through(event: &Value) -> String {
    event["relay"].as_str().map_or_else(String::new, |relay| format!(" through relay {relay}"))
}

/// An event of a phone's history in words.
pub(crate) fn happening(event: &Value) -> String {
    match text(event, "what") {
        "announced" => format!("announced itself{}; answered for {}", through(event), text(event, "plugin")),
        "notify_answered" => format!("answered the NOTIFY with {}", event["code"]),
        "notify_timed_out" => format!("did not answer the NOTIFY: {}", text(event, "reason")),
        "ordered" => format!("was told {}", text(event, "event")),
        "order_answered" => format!("answered that with {}", event["code"]),
        "order_failed" => format!("could not be told: {}", text(event, "reason")),
        "refused" => format!("was given no answer{}: {}", through(event), text(event, "reason")),
        "denied" if event["door"] == "pnp" => {
            format!(
                "{} announced itself in its name, and was given no answer: {}",
                text(event, "from"),
                text(event, "reason")
            )
        }
        "denied" => format!(
            "{} asked for {} over {}, and was refused it: {}",
            text(event, "from"),
            text(event, "file"),
            text(event, "door"),
            text(event, "reason")
        ),
        "opened" if event["minutes"] == 0 => "was closed".to_owned(),
        "opened" => format!("was opened for {} min", event["minutes"]),
        "enrolled" => format!("was enrolled by the rule {}", text(event, "rule")),
        "not_enrolled" => format!("was not enrolled: {}", text(event, "reason")),
        "fetched" => format!(
            "asked for {} over {}: {}, {} bytes in {} µs",
            text(event, "file"),
            text(event, "door"),
            text(event, "outcome"),
            event["bytes"],
            event["micros"]
        ),
        other => other.replace('_', " "),
    }
}
