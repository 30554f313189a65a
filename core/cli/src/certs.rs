//! `provost certs`: the site's own authority, and the certificates that it signs.

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use provost_server::{
    authority::{self, Certificate},
    milliseconds,
    settings::Settings,
};

use crate::args::CertsCommand;

pub(crate) fn certs(settings: &Settings, words: &CertsCommand, out: &mut dyn Write) -> Result<ExitCode> {
    match words {
        CertsCommand::Init => {
            let made = authority::init(settings)?;
            describe(&made, "made the authority", out)?;
            writeln!(
                out,
                "Next: `provost certs issue`, and https.enabled in the settings. Phones trust it once they have been given this file \
                 (they can fetch it as /ca.pem, or as /ca.der; provisioning.trusted_ca tells those that can install it)."
            )?;
        }
        CertsCommand::Issue { names } => {
            let made = authority::issue(settings, names)?;
            describe(&made, "made the server's certificate", out)?;
            if let Some(other) = &settings.https.certificate {
                writeln!(out, "It is not in use: https.certificate is {}", other.display())?;
            }
        }
        CertsCommand::Client { mac, output } => {
            // The path is meant from where the person stands.
            let output = output.as_deref().map(std::path::absolute).transpose()?;
            let made = authority::client(settings, *mac, output.as_deref())?;
            describe(&made, "made a phone's certificate, with its key", out)?;
        }
        CertsCommand::Show { json } => {
            let (known, unreadable) = authority::known(settings);
            if *json {
                let row = |(what, certificate): &(&str, Certificate)| {
                    serde_json::json!({
                        "what": what, "name": certificate.name, "issuer": certificate.issuer, "names": certificate.names,
                        "until": milliseconds(certificate.until), "sha256": certificate.fingerprint,
                        "file": certificate.file,
                    })
                };
                let rows: Vec<_> = known.iter().map(row).collect();
                writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
            } else if known.is_empty() && unreadable.is_empty() {
                writeln!(out, "no certificates; `provost certs init` makes an authority")?;
            } else {
                for (what, certificate) in &known {
                    describe(certificate, what, out)?;
                }
            }
            if !unreadable.is_empty() {
                anyhow::bail!("{}", unreadable.join("\n"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(certificate: &Certificate, what: &str, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{what}: {}", certificate.file.display())?;
    writeln!(out, "  for      {}", certificate.name)?;
    if !certificate.names.is_empty() {
        writeln!(out, "  names    {}", certificate.names.join(" "))?;
    }
    if certificate.issuer != certificate.name {
        writeln!(out, "  by       {}", certificate.issuer)?;
    }
    writeln!(out, "  until    {}", certificate.until_day())?;
    writeln!(out, "  SHA-256  {}", certificate.fingerprint)
}
