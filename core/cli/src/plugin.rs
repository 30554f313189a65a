//! `provost plugin`: what is in service, and what is not and why.

use std::{io::Write, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use provost_host::{Honour, Limits, Problem, Shelf, coverage};
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
                    "evidence": plugin.spec.evidence_level.as_str(),
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
        writeln!(out, "{:28} {:10} {:>6} {:>5}  {:9}  from", "vendor", "library", "models", "files", "evidence")?;
        for plugin in shelf.plugins() {
            let library = plugin.version.as_deref().unwrap_or("data only");
            let (models, files) = (plugin.spec.models.len(), plugin.spec.files.len());
            writeln!(
                out,
                "{:28} {library:10} {models:>6} {files:>5}  {:9}  {}",
                plugin.spec.vendor,
                plugin.spec.evidence_level.as_str(),
                plugin.origin.display()
            )?;
        }
        for problem in &problems {
            writeln!(out, "refused: {problem}")?;
        }
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One plugin, looked at from all sides before phones depend on it.
pub(crate) fn check(settings: Settings, wanted: &str, json: bool, out: &mut impl Write) -> Result<ExitCode> {
    crate::log(&settings, "error")?;
    let mut places = settings.places();
    let folder = Path::new(wanted);
    let folder = folder.join("vendor.yaml").is_file().then(|| std::path::absolute(folder)).transpose()?;
    if let Some(folder) = &folder {
        places.plugins.insert(0, folder.clone());
    }
    let (shelf, problems) = Shelf::build(&places, None, Limits::default(), Some(&crate::prober()?));
    let plugin = match &folder {
        Some(folder) => shelf.plugins().find(|plugin| plugin.origin == *folder),
        None => shelf.get(wanted),
    };
    // What is wrong with others is their business.
    let mine = |problem: &&Problem| {
        let id = plugin.map_or(wanted, |plugin| plugin.id.as_str());
        let within = |root: &Path| Path::new(&problem.file).starts_with(root);
        folder.as_deref().is_some_and(within)
            || plugin.is_some_and(|plugin| within(&plugin.origin))
            || [&places.templates, &places.overrides].iter().any(|root| within(&root.join(id)))
    };
    let mut findings: Vec<String> = problems.iter().filter(mine).map(ToString::to_string).collect();
    let Some(plugin) = plugin else {
        if findings.is_empty() {
            bail!("no plugin \"{wanted}\" is in service, and no folder of that name holds a vendor.yaml");
        }
        for finding in &findings {
            writeln!(out, "{finding}")?;
        }
        return Ok(ExitCode::FAILURE);
    };
    let coverage = coverage(plugin)
        .with_context(|| format!("cannot render a phone of {} that has everything set", plugin.spec.vendor))?;
    let shown = plugin.origin.join("vendor.yaml").display().to_string();
    for (field, honour) in &coverage {
        match honour {
            Honour::Forgotten => findings
                .push(format!("{shown}: no file says {field}, and neither \"unsupported\" nor \"not_yet\" lists it")),
            Honour::Contradicted => {
                findings.push(format!("{shown}: a file says {field}, though it is listed as one that none says"));
            }
            Honour::Honoured | Honour::Unsupported | Honour::NotYet => {}
        }
    }
    let count = |wanted: Honour| coverage.values().filter(|honour| **honour == wanted).count();
    if json {
        let report = serde_json::json!({ "vendor": plugin.spec.vendor, "findings": findings, "fields": coverage });
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        for finding in &findings {
            writeln!(out, "{finding}")?;
        }
        writeln!(
            out,
            "{}: {} models, {} files; of {} fields {} are honoured, {} have no setting on the phones, {} are not written yet; {} findings",
            plugin.spec.vendor,
            plugin.spec.models.len(),
            plugin.spec.files.len(),
            coverage.len(),
            count(Honour::Honoured),
            count(Honour::Unsupported),
            count(Honour::NotYet),
            findings.len()
        )?;
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
