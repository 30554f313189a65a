//! `provost doctor`: what stands in the way of phones, and how far one that is watched has come.

use std::{
    io::Write,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use provost_doctor::boot::{Boot, overhear};
use provost_plugin::MacAddr;
use provost_server::settings::Settings;
use serde_json::Value;

use crate::{
    admin::{Asking, happening},
    args::DoctorArgs,
};

/// How often the server is asked what a phone has done.
const AGAIN: Duration = Duration::from_millis(300);

pub(crate) fn doctor(settings: &Settings, words: &DoctorArgs, out: &mut impl Write) -> Result<ExitCode> {
    if let Some(mac) = words.watch {
        return watch(settings, words, mac, out);
    }
    if let Some(interface) = &words.dhcp {
        return dhcp(interface, words, out);
    }
    let asking = Asking::new(settings, &words.server);
    let ask = |path: &str| match &asking {
        Ok(asking) => asking.get(path).map_err(|error| error.to_string()),
        Err(error) => Err(format!("{error:#}")),
    };
    let listen = words.listen.map(Duration::from_secs);
    if let Some(seconds) = words.listen.filter(|_| !words.json) {
        writeln!(out, "listening for IGMP queries, for {seconds} s at most")?;
        out.flush()?;
    }
    let report = provost_doctor::look(settings, listen, &ask);
    if words.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(if report.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn dhcp(interface: &str, words: &DoctorArgs, out: &mut impl Write) -> Result<ExitCode> {
    let answers = provost_doctor::dhcp::ask(interface, words.class.as_deref())?;
    if words.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&answers)?)?;
    } else if answers.is_empty() {
        writeln!(out, "no DHCP server answers on {interface}")?;
    }
    for answer in answers.iter().filter(|_| !words.json) {
        write!(out, "{answer}")?;
    }
    Ok(if answers.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Shows a phone's boot as the server notes it, until it is done or nothing has come for a while.
fn watch(settings: &Settings, words: &DoctorArgs, mac: MacAddr, out: &mut impl Write) -> Result<ExitCode> {
    let quiet = Duration::from_secs(words.quiet);
    let path = format!("/api/v1/devices/{}", mac.bare());
    let asking = match Asking::new(settings, &words.server) {
        // Whatever it says, it is there; a phone that it has never seen is none that it can tell of.
        Ok(asking) if asking.get("/api/v1/network").is_ok() => asking,
        Ok(_) | Err(_) => return listen(settings, mac, quiet, out),
    };
    let phone = |asking: &Asking| asking.get(&path).unwrap_or_default();
    let events = |phone: &Value| phone["events"].as_array().cloned().unwrap_or_default();
    let before = events(&phone(&asking));
    let mut seen = before.last().cloned();
    writeln!(out, "watching {mac}; restart it now")?;
    out.flush()?;
    let (mut boot, mut last) = (Boot::default(), Instant::now());
    while !boot.is_done() && last.elapsed() < quiet {
        std::thread::sleep(AGAIN);
        let now = phone(&asking);
        let events = events(&now);
        // What is older was there before; the list is bounded, so its beginning moves.
        let known =
            seen.as_ref().and_then(|seen| events.iter().rposition(|event| event == seen)).map_or(0, |at| at + 1);
        for event in &events[known..] {
            writeln!(out, "  {}", happening(event))?;
            boot.note(event);
            last = Instant::now();
        }
        out.flush()?;
        seen = events.last().cloned().or(seen);
        boot.in_step = now["progress"] == "in_step";
    }
    match boot.missing() {
        None => {
            writeln!(out, "it has all that it is to have: {}", boot.fetched.join(", "))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(missing) => {
            writeln!(out, "{}\n  {}", missing.what, missing.do_next)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Where no server runs there is still something to be heard.
fn listen(settings: &Settings, mac: MacAddr, quiet: Duration, out: &mut impl Write) -> Result<ExitCode> {
    let ready = || {
        writeln!(out, "no server can be asked, so this only listens for {mac}; restart it now")?;
        out.flush()
    };
    let heard = overhear(settings, mac.octets(), Instant::now() + quiet, ready).context("cannot listen for phones")?;
    match heard {
        Some((from, interface)) => writeln!(
            out,
            "  announced itself from {from} on {interface}\nnobody of ours answers it\n  Start the server: `systemctl start provost`, or `provost serve`."
        )?,
        None => {
            let missing = Boot::default().missing().context("a boot without a step has one missing")?;
            writeln!(out, "{}\n  {}", missing.what, missing.do_next)?;
        }
    }
    Ok(ExitCode::FAILURE)
}
