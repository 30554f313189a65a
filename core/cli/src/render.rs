//! `provost render` and `provost explain`: the desk's own answers, without a server.

use std::{io::Write, path::Path, process::ExitCode, time::SystemTime};

use anyhow::{Context, Result, bail};
use provost_host::{Limits, Shelf};
use provost_plugin::{MacAddr, model::Identity};
use provost_server::{
    explain,
    reload::first,
    settings::Settings,
    world::{self, Finding, Peer, Severity, World},
};

use crate::args::{ExplainArgs, RenderArgs, Whence};

/// The world as a server would have it, with what is refused told on standard error.
pub(crate) fn world(settings: Settings) -> Result<World> {
    crate::log(&settings, "error")?;
    let (world, findings) = first(settings, Limits::default(), Some(&crate::prober()?));
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Error) {
        tell(finding)?;
    }
    Ok(world)
}

fn tell(finding: &Finding) -> Result<()> {
    Ok(writeln!(std::io::stderr(), "refused: {finding}")?)
}

impl Whence {
    fn explain_from(&self) -> explain::From {
        explain::From { address: self.from, local: self.local, user_agent: self.user_agent.clone() }
    }

    fn peer(&self, mac: MacAddr, shelf: &Shelf) -> Peer {
        let agent =
            self.user_agent.as_deref().and_then(|agent| shelf.plugins().find_map(|plugin| plugin.spec.identify(agent)));
        let identity = Identity { mac: Some(mac), user_agent: self.user_agent.clone(), ..agent.unwrap_or_default() };
        Peer { identity, address: self.from, interface: None, local: self.local }
    }
}

pub(crate) fn render(settings: Settings, words: &RenderArgs, out: &mut impl Write) -> Result<ExitCode> {
    let world = world(settings)?;
    let peer = words.whence.peer(words.mac, &world.shelf);
    let names = match &words.file {
        Some(file) => vec![file.trim_start_matches('/').to_owned()],
        None => {
            let offer = world.files_of(words.mac, &peer).map_err(anyhow::Error::msg)?;
            offer.files.into_iter().map(|(name, _)| name).collect()
        }
    };
    if names.is_empty() {
        bail!("{} may fetch no file at all: its plugin offers none to this model", words.mac);
    }
    let many = names.len() > 1 && words.output.is_none();
    for name in names {
        let mut located = world.locate(&name, &peer).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        if words.plain {
            located.resolved.phone.settings.provisioning.encryption.active = None;
        }
        if located.resolved.phone.mac.is_some_and(|mac| mac != words.mac) {
            bail!("{name} is a file of another phone than {}", words.mac);
        }
        let rendered = world::render(&located, SystemTime::UNIX_EPOCH).map_err(anyhow::Error::msg)?;
        match &words.output {
            // Some phones ask for a file below another file of theirs, which no disk can hold: so all lie side by side.
            Some(directory) => write(directory, &name.replace('/', "%2F"), &rendered.body)?,
            None => {
                if many {
                    writeln!(out, "==> {name} <==")?;
                }
                out.write_all(&rendered.body)?;
                if many && !rendered.body.ends_with(b"\n") {
                    writeln!(out)?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a file that holds passwords: for nobody's eyes but the owner's.
pub(crate) fn write(directory: &Path, name: &str, body: &[u8]) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = directory.join(name);
    let parent = path.parent().unwrap_or(directory);
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(body))
        .with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn explain(settings: Settings, words: &ExplainArgs, out: &mut impl Write) -> Result<ExitCode> {
    let world = world(settings)?;
    let from = words.whence.explain_from();
    let explanation = if let Ok(mac) = words.what.parse::<MacAddr>() {
        explain::mac(&world, mac, &from)
    } else if words.what.ends_with(".sip") || Path::new(&words.what).is_file() {
        let bytes =
            std::fs::read(&words.what).with_context(|| format!("cannot read the captured message {}", words.what))?;
        explain::datagram(&world, &words.what, &bytes, &from)
    } else {
        explain::path(&world, &words.what, &from)
    };
    if words.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&explanation)?)?;
    } else {
        write!(out, "{explanation}")?;
    }
    Ok(ExitCode::SUCCESS)
}
