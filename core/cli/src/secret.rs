//! `provost secret`: passwords that are kept beside the profiles. Works on files; a running server follows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{IsTerminal, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use provost_fleet::{Fleet, Refer};
use provost_plugin::{MacAddr, Secret, model::Identity};
use provost_server::{
    edit,
    settings::Settings,
    world::{self, Peer, World},
};
use serde_json::{Value, json};

use crate::args::SecretCommand;

/// Of what comes in: a password, and not a film.
const LONGEST: u64 = 4096;
/// New files hold passwords.
const MODE: u32 = 0o600;

pub(crate) fn secret(settings: Settings, words: &SecretCommand, out: &mut impl Write) -> Result<ExitCode> {
    match words {
        SecretCommand::Set { name } => {
            named(name)?;
            let value = asked()?;
            let is_new = Kept::read(&settings)?.put(name, Some(value))?;
            writeln!(
                out,
                "{name} is {} {}",
                if is_new { "kept in" } else { "changed in" },
                settings.secrets.display()
            )?;
        }
        SecretCommand::List { json } => list(settings, *json, out)?,
        SecretCommand::Remove { name, force } => {
            let kept = Kept::read(&settings)?;
            ensure!(kept.names.contains_key(name), "there is no secret \"{name}\" in {}", settings.secrets.display());
            let (fleet, _) = Fleet::read_with(&settings.profiles, settings.kept(), None);
            let places = fleet.references_to(name);
            if let (Some((file, line)), false) = (places.first(), force) {
                let more =
                    if places.len() > 1 { format!(" and {} more places", places.len() - 1) } else { String::new() };
                bail!("\"{name}\" is used at {file}:{line}{more}; --force removes it all the same");
            }
            kept.put(name, None)?;
            writeln!(out, "{name} is gone from {}", settings.secrets.display())?;
        }
        SecretCommand::Generate { name, line, length } => {
            let value = provost_fleet::new_password(*length).map_err(anyhow::Error::msg)?;
            let (name, edited) = match (name, line) {
                (_, Some(mac)) => {
                    let (name, path, text) = referring(&settings, *mac)?;
                    (name, Some((path, text)))
                }
                (name, None) => (name.clone().unwrap_or_default(), None),
            };
            named(&name)?;
            let kept = Kept::read(&settings)?;
            ensure!(
                !kept.names.contains_key(&name),
                "there is a secret \"{name}\" already; `provost secret set {name}` changes it"
            );
            kept.put(&name, Some(value.clone()))?;
            if let Some((path, text)) = edited {
                write(&path, &text)?;
            }
            writeln!(std::io::stderr(), "kept in {} as {name}", settings.secrets.display())?;
            // Alone, so that a script can put it where it belongs.
            writeln!(out, "{}", value.expose())?;
        }
        SecretCommand::Identity => {
            let path = &settings.secrets_identity;
            if !path.exists() {
                let (file, _) = provost_fleet::new_identity();
                provost_fleet::keep(path, file.expose()).with_context(|| format!("cannot write {}", path.display()))?;
                writeln!(
                    std::io::stderr(),
                    "{} is written: what is encrypted for it is lost with it, so keep a copy in a safe place",
                    path.display()
                )?;
            }
            for recipient in recipients(path)? {
                writeln!(out, "{recipient}")?;
            }
        }
        SecretCommand::Encrypt { recipient } => {
            let recipient = match recipient {
                Some(recipient) => recipient.clone(),
                None => recipients(&settings.secrets_identity)?.into_iter().next().unwrap_or_default(),
            };
            let sealed = provost_fleet::seal(&recipient, &asked()?).map_err(anyhow::Error::msg)?;
            writeln!(out, "{{ age: {sealed} }}")?;
        }
        SecretCommand::Move { files, dry_run } => move_out(&settings, files, *dry_run, out)?,
        SecretCommand::ShowWeb { mac, json } => show_web(settings, *mac, *json, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn named(name: &str) -> Result<()> {
    ensure!(
        provost_fleet::is_name_of_secret(name),
        "\"{name}\" is no name for a secret: letters, digits, dots, dashes and underscores, a letter or digit first, up to 64"
    );
    Ok(())
}

/// The file of secrets as it is on the disk.
struct Kept {
    path: PathBuf,
    text: String,
    names: BTreeMap<String, Secret>,
}

impl Kept {
    fn read(settings: &Settings) -> Result<Kept> {
        let path = real(&settings.secrets);
        let read = edit::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = read.map(|(text, _)| text).unwrap_or_default();
        let names = provost_fleet::names_of_secrets(&path.display().to_string(), &text).map_err(anyhow::Error::msg)?;
        Ok(Kept { path, text, names })
    }

    /// Whether the name is new.
    fn put(self, name: &str, value: Option<Secret>) -> Result<bool> {
        let shown = self.path.display().to_string();
        let is_new = !self.names.contains_key(name);
        let changes = BTreeMap::from([(name.to_owned(), value)]);
        let changed = provost_fleet::secrets_with(&shown, &self.text, &changes).map_err(anyhow::Error::msg)?;
        let changed = changed.with_context(|| {
            format!("{shown} is written in a form that cannot be changed; make it one name and value on a line")
        })?;
        write(&self.path, &changed)?;
        Ok(is_new)
    }
}

/// Where a link leads: to write over it would part the file from its place.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Writes a file that holds passwords. A new one belongs to whoever owns its directory.
fn write(path: &Path, text: &str) -> Result<()> {
    let written =
        if path.exists() { edit::write(path, Some(text.as_bytes()), MODE) } else { provost_fleet::keep(path, text) };
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// A password that is typed unseen, or comes in.
fn asked() -> Result<Secret> {
    let value = if std::io::stdin().is_terminal() {
        let first = rpassword::prompt_password("Password: ").context("cannot read the password")?;
        let again = rpassword::prompt_password("Once more: ").context("cannot read the password")?;
        ensure!(first == again, "the two are not the same");
        first
    } else {
        let mut bytes = Vec::new();
        std::io::stdin().take(LONGEST + 1).read_to_end(&mut bytes).context("cannot read the password")?;
        let text = String::from_utf8(bytes).ok().context("the password is not UTF-8 text")?;
        text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line)).to_owned()
    };
    ensure!(!value.is_empty(), "the password is empty");
    ensure!(value.len() as u64 <= LONGEST, "the password is longer than {LONGEST} bytes");
    ensure!(!value.contains(char::is_control), "the password has an end of a line or a control character in it");
    Ok(Secret::new(value))
}

fn recipients(path: &Path) -> Result<Vec<String>> {
    let missing = || format!("cannot read the identity {}; `provost secret identity` makes one", path.display());
    let text = fs::read(path).with_context(missing)?;
    provost_fleet::recipients(&text)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("cannot use {}", path.display()))
}

/// The name for the first line of a device, its file, and its text with a reference to that name.
fn referring(settings: &Settings, mac: MacAddr) -> Result<(String, PathBuf, String)> {
    let (fleet, _) = Fleet::read_with(&settings.profiles, settings.kept(), None);
    let device = fleet.device(mac).with_context(|| format!("{mac} is in no profile file"))?;
    let path = real(Path::new(device.file()));
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = path.display().to_string();
    let mut own = provost_fleet::settings(&file, &text, &provost_fleet::Whose::Device(mac))?;
    let Some(line) = own["lines"].get_mut(0) else { bail!("{mac} has no line of its own ({file}:{})", device.line()) };
    let name = provost_fleet::name_of_line(line, mac);
    if !line.is_object() {
        *line = json!({});
    }
    line["password"] = json!({ "secret": name });
    let patch = json!({ "lines": own["lines"] });
    Ok((name, path, provost_fleet::amend(&file, &text, &provost_fleet::Whose::Device(mac), &patch)?))
}

fn list(settings: Settings, as_json: bool, out: &mut impl Write) -> Result<()> {
    let kept = Kept::read(&settings)?;
    let world = crate::render::world(settings)?;
    let mut users: BTreeMap<String, usize> = kept.names.keys().map(|name| (name.clone(), 0)).collect();
    for (mac, _) in world.fleet.devices() {
        for name in used(&world, mac) {
            *users.entry(name).or_default() += 1;
        }
    }
    let rows = users.into_iter().map(|(name, devices)| {
        let places = world.fleet.references_to(&name).len();
        let is_kept = kept.names.contains_key(&name);
        (name, devices, places, is_kept)
    });
    if as_json {
        let rows: Vec<Value> = rows
            .map(|(name, devices, places, is_kept)| json!({ "name": name, "devices": devices, "references": places, "kept": is_kept }))
            .collect();
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?);
    }
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0).max(4);
    for (name, devices, places, is_kept) in rows {
        let said = match (devices, places, is_kept) {
            (_, _, false) => "not there".to_owned(),
            (_, 0, _) => "unused".to_owned(),
            (1, ..) => "1 device".to_owned(),
            (devices, ..) => format!("{devices} devices"),
        };
        writeln!(out, "{name:width$}  {said}")?;
    }
    Ok(())
}

/// The names behind what a device is given; of one whose vendor nobody knows yet, those of its own entry.
fn used(world: &World, mac: MacAddr) -> BTreeSet<String> {
    fn own(value: &Value, names: &mut BTreeSet<String>) {
        match (Refer::of(value), value) {
            (Some(Refer::Secret(name)), _) => drop(names.insert(name.into())),
            (_, Value::Object(fields)) => fields.values().for_each(|value| own(value, names)),
            (_, Value::Array(items)) => items.iter().for_each(|value| own(value, names)),
            _ => {}
        }
    }
    let mut names = BTreeSet::new();
    match world.files_of(mac, &peer(mac)) {
        Ok(offer) => names.extend(offer.resolved.origins.references().filter_map(|(_, refer)| match refer {
            Refer::Secret(name) => Some(name.to_string()),
            _ => None,
        })),
        Err(_) => world.fleet.device(mac).into_iter().for_each(|device| own(&device.section(), &mut names)),
    }
    names
}

/// A phone of which nothing is known but what the files say.
fn peer(mac: MacAddr) -> Peer {
    let identity = Identity { mac: Some(mac), ..Identity::default() };
    Peer { identity, address: None, interface: None, local: std::net::Ipv4Addr::new(192, 0, 2, 1).into() }
}

fn move_out(settings: &Settings, files: &[PathBuf], dry_run: bool, out: &mut impl Write) -> Result<()> {
    let kept = Kept::read(settings)?;
    let mut texts = Vec::new();
    for file in files {
        let path = real(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if !texts.iter().any(|(name, _)| Path::new(name) == path) {
            texts.push((path.display().to_string(), text));
        }
    }
    let moving = provost_fleet::moving((&kept.path.display().to_string(), &kept.text), &texts)?;
    for moved in &moving.moved {
        writeln!(out, "{}:{}: {}", moved.file, moved.line, moved.name)?;
    }
    let (count, kept_in) = (moving.moved.len(), kept.path.display());
    if dry_run {
        writeln!(out, "{count} passwords would move to {kept_in}; nothing is written")?;
        return Ok(());
    }
    if count > 0 {
        // The names first: a file that refers to them is never there before they are.
        write(&kept.path, &moving.secrets)?;
        let mut done: Vec<&(String, String)> = Vec::new();
        for (file, text) in &moving.files {
            let Err(error) = write(Path::new(file), text) else {
                done.extend(texts.iter().find(|(name, _)| name == file));
                continue;
            };
            for (file, before) in done {
                write(Path::new(file), before)?;
            }
            return Err(error.context("nothing is moved: what was written is as it was again, and the names stay"));
        }
    }
    writeln!(out, "{count} passwords moved to {kept_in}")?;
    Ok(())
}

fn show_web(settings: Settings, mac: MacAddr, as_json: bool, out: &mut impl Write) -> Result<()> {
    let world = crate::render::world(settings)?;
    let offer = world.files_of(mac, &peer(mac)).map_err(anyhow::Error::msg)?;
    let all = world::generated(&offer.resolved);
    if all.is_empty() {
        bail!(
            "no password is generated for {mac}; in its profile, access: {{ admin: {{ password: {{ generate: 16 }} }} }} asks for one"
        );
    }
    if as_json {
        let row = |one: &world::Generated| json!({ "account": one.account, "username": one.username, "password": one.password.expose() });
        let rows: Vec<Value> = all.iter().map(row).collect();
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?);
    }
    for one in all {
        let name = one.username.as_deref().unwrap_or(&one.account);
        writeln!(out, "{name} {}", one.password.expose())?;
    }
    Ok(())
}
