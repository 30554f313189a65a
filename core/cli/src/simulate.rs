//! `provost simulate`: phones of the vendors in service, on the wire, and what they got.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use provost_host::{Limits, Shelf};
use provost_phone::{Algorithm, Challenge, Door, Fleet, Options, Outcome, Phone, Proof, Status};
use provost_plugin::spec::Simulation;
use provost_server::settings::Settings;

use crate::args::{DoorArg, HashArg, SimulateArgs};

/// Seconds that a phone waits for an order which it means to challenge: time to walk to the other terminal.
const STAY: u64 = 60;

pub(crate) fn simulate(settings: Settings, words: &SimulateArgs) -> Result<ExitCode> {
    crate::log(&settings, "warn")?;
    let (shelf, _) = Shelf::build(&settings.places(), None, Limits::default(), Some(&crate::prober()?));
    let kinds = kinds(&shelf, words)?;
    if words.inventory {
        return inventory(&kinds, words);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let options = Options {
        group: words.group,
        boots: words.boots,
        url: words.url.clone(),
        door: match words.door {
            None => Door::AsTold,
            // The server that was told, over the other protocol, on the port that it serves by these settings.
            Some(DoorArg::Http) => Door::Over { scheme: provost_phone::Scheme::Http, port: settings.http.port },
            Some(DoorArg::Tftp) => Door::Over { scheme: provost_phone::Scheme::Tftp, port: settings.tftp.port },
        },
        challenge: challenge(words),
        ..Options::default()
    };
    let options = match words.stay.or(words.challenge.map(|_| STAY)) {
        Some(seconds) => Options { resyncs: 1, stay: Duration::from_secs(seconds), ..options },
        None => options,
    };
    if let Some(mac) = words.mac {
        let kind = kinds.iter().find(|(_, kind)| kind.oui.covers(mac)).or(kinds.first());
        let (_, kind) = kind.context("no vendor says how its phones behave")?;
        let source = words.source.first().copied().unwrap_or(*options.source.ip());
        let options = Options { source: std::net::SocketAddrV4::new(source, options.source.port()), ..options };
        let outcome = runtime.block_on(Phone::new(kind, mac, options).run());
        return one(&outcome, words);
    }
    if words.count == 1 {
        let (_, kind) = kinds.first().context("no vendor says how its phones behave")?;
        let mac = provost_phone::mac(kind, words.first)
            .with_context(|| format!("prefix {} has no room for phone {}", kind.oui, words.first))?;
        let source = words.source.first().copied().unwrap_or(*options.source.ip());
        let options = Options { source: std::net::SocketAddrV4::new(source, options.source.port()), ..options };
        let outcome = runtime.block_on(Phone::new(kind, mac, options).run());
        return one(&outcome, words);
    }
    many(&runtime, kinds, options, words)
}

fn challenge(words: &SimulateArgs) -> Option<Challenge> {
    let (hash, credentials) = words.challenge.zip(words.credentials.clone())?;
    let algorithm = match hash {
        HashArg::Md5 => Algorithm::Md5,
        HashArg::Sha256 => Algorithm::Sha256,
    };
    Some(Challenge { user: credentials.user, password: credentials.password, algorithm })
}

/// The kinds of phones that are asked for: vendor by vendor, so that a mixed fleet is mixed.
fn kinds(shelf: &Shelf, words: &SimulateArgs) -> Result<Vec<(String, Simulation)>> {
    let mut by_vendor: Vec<(String, Vec<Simulation>)> = Vec::new();
    let told = words.url.is_some() || !words.vendor.is_empty();
    for plugin in shelf.plugins() {
        let kinds: Vec<_> =
            plugin.spec.simulate.iter().filter(|kind| told || !kind.subscribe.is_empty()).cloned().collect();
        if kinds.is_empty() {
            continue;
        }
        if words.vendor.is_empty()
            || words.vendor.iter().any(|vendor| shelf.get(vendor).is_some_and(|wanted| wanted.id == plugin.id))
        {
            by_vendor.push((plugin.id.clone(), kinds));
        }
    }
    for vendor in &words.vendor {
        if shelf.get(vendor).is_none() {
            bail!("no plugin \"{vendor}\" is in service; `provost plugin list` shows those that are");
        }
    }
    if by_vendor.is_empty() {
        bail!("no vendor in service says how its phones behave (simulate: in its vendor.yaml)");
    }
    let most = by_vendor.iter().map(|(_, kinds)| kinds.len()).max().unwrap_or(0);
    Ok((0..most)
        .flat_map(|turn| {
            by_vendor.iter().filter_map(move |(vendor, kinds)| Some((vendor.clone(), kinds.get(turn)?.clone())))
        })
        .collect())
}

fn fleet(kinds: &[(String, Simulation)], options: Options, words: &SimulateArgs) -> Fleet {
    Fleet {
        kinds: kinds.iter().map(|(_, kind)| kind.clone()).collect(),
        phones: words.count,
        first: words.first,
        sources: words.source.clone(),
        at_once: words.at_once,
        options,
    }
}

/// A profile file in which all these phones stand, so that they are served.
fn inventory(kinds: &[(String, Simulation)], words: &SimulateArgs) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let fleet = fleet(kinds, Options::default(), words);
    writeln!(
        out,
        "# Phones of `provost simulate --count {} --first {}`. The passwords are made up.\ndevices:",
        words.count, words.first
    )?;
    for (index, (mac, kind)) in fleet.members().map_err(anyhow::Error::msg)?.into_iter().enumerate() {
        let vendor = &kinds[index % kinds.len()].0;
        let number = 1000 + index;
        writeln!(
            out,
            "  \"{mac}\": {{ identity: {{ vendor: {vendor}, model: {:?} }}, lines: [{{ number: \"{number}\", password: simulated-{number} }}] }}",
            kind.model
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn one(outcome: &Outcome, words: &SimulateArgs) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if let Some(directory) = &words.output {
        for file in outcome.files.iter().filter(|file| file.is_found()) {
            if let Some(body) = &file.body {
                crate::render::write(directory, file.url.path.trim_start_matches('/'), body)?;
            }
        }
    }
    if words.json {
        writeln!(out, "{}", serde_json::to_string_pretty(outcome)?)?;
    } else {
        tell(outcome, &mut out)?;
        if words.output.is_none() {
            for file in outcome.files.iter().filter(|file| file.is_found()) {
                writeln!(out, "==> {} <==\n{}", file.url, file.text())?;
            }
        }
    }
    let proved = outcome.challenged.iter().all(|order| order.proof == Proof::Right);
    Ok(if outcome.configured && proved { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One phone's boot, step by step.
fn tell(outcome: &Outcome, out: &mut impl Write) -> Result<()> {
    writeln!(out, "{} {} {}", outcome.mac, outcome.model, outcome.firmware)?;
    writeln!(out, "  announced itself {} times", outcome.announced)?;
    match (outcome.answered, &outcome.notified) {
        (Some(code), _) => writeln!(out, "  answered with {code}")?,
        (None, _) => writeln!(out, "  got no answer")?,
    }
    if let Some(url) = &outcome.notified {
        writeln!(out, "  notified {} times of {url}", outcome.notifies)?;
    }
    for file in &outcome.files {
        match &file.status {
            Status::Found => writeln!(out, "  fetched {}: {} bytes", file.url, file.bytes)?,
            Status::Refused { code, message } => writeln!(out, "  asked for {}: {code} {message}", file.url)?,
            Status::Failed(why) => writeln!(out, "  asked for {}: {why}", file.url)?,
        }
    }
    for challenged in &outcome.challenged {
        writeln!(out, "  {challenged}")?;
    }
    for resync in &outcome.resyncs {
        writeln!(out, "  obeyed {}: asked for {} files", resync.event, resync.files.len())?;
    }
    for finding in &outcome.findings {
        writeln!(out, "  a strict phone might balk at {finding}")?;
    }
    match &outcome.error {
        Some(error) => writeln!(out, "  not configured: {error}")?,
        None => writeln!(out, "  configured in {:.3} s", outcome.elapsed.as_secs_f64())?,
    }
    Ok(())
}

fn many(
    runtime: &tokio::runtime::Runtime,
    kinds: Vec<(String, Simulation)>,
    options: Options,
    words: &SimulateArgs,
) -> Result<ExitCode> {
    let fleet = fleet(&kinds, options, words);
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new(u64::from(words.count)) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} phones, {msg} without configuration, {elapsed}")?);
    let mut without = 0;
    let report = runtime
        .block_on(fleet.run(|outcome| {
            if !outcome.configured {
                without += 1;
            }
            bar.set_message(without.to_string());
            bar.inc(1);
        }))
        .map_err(anyhow::Error::msg)?;
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if words.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        let of = |share| report.quantile(share).unwrap_or_default().as_secs_f64();
        writeln!(
            out,
            "{} of {} phones configured in {:.2} s; one phone: median {:.3} s, 99 % within {:.3} s",
            report.configured,
            report.phones,
            report.elapsed.as_secs_f64(),
            of(0.5),
            of(0.99)
        )?;
        writeln!(
            out,
            "{} SUBSCRIBEs sent, {} NOTIFYs received, {} files with {} bytes",
            report.announced, report.notifies, report.files, report.bytes
        )?;
        for (reason, phones) in &report.failures {
            writeln!(out, "  {phones} phones: {reason}")?;
        }
        for (rule, found) in &report.findings {
            writeln!(out, "  {} times a strict phone might balk: {rule}: {}", found.times, found.example)?;
        }
    }
    Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
