//! `provost plugin`: what is in service, and what is not and why.

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use provost_host::{Limits, Shelf};
use provost_server::settings::Settings;

pub(crate) fn list(settings: Settings, json: bool, out: &mut impl Write) -> Result<ExitCode> {
    crate::log(&settings, "error")?;
    let (shelf, problems) = Shelf::build(&settings.places(), None, Limits::default(), Some(&crate::prober()?));
    if json {
        let plugins: Vec<_> = shelf
            .plugins()
            .map(|plugin| {
                serde_json::json!({
                    "vendor": plugin.spec.vendor,
                    "id": plugin.id,
                    "library": plugin.version,
                    "models": plugin.spec.models.keys().collect::<Vec<_>>(),
                    "files": plugin.spec.files.iter().map(|file| file.name.to_string()).collect::<Vec<_>>(),
                    "from": plugin.origin,
                })
            })
            .collect();
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&serde_json::json!({ "plugins": plugins, "refused": problems }))?
        )?;
    } else {
        writeln!(out, "{:16} {:10} {:>6} {:>5}  from", "vendor", "library", "models", "files")?;
        for plugin in shelf.plugins() {
            let library = plugin.version.as_deref().unwrap_or("data only");
            let (models, files) = (plugin.spec.models.len(), plugin.spec.files.len());
            writeln!(
                out,
                "{:16} {library:10} {models:>6} {files:>5}  {}",
                plugin.spec.vendor,
                plugin.origin.display()
            )?;
        }
        for problem in &problems {
            writeln!(out, "refused: {problem}")?;
        }
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
