//! `provost plugin`: what is in service, and what is not and why; and what a plugin's author needs.

mod package;
mod test;

use std::{collections::BTreeMap, io::Write, path::Path, process::ExitCode, sync::Arc};

use anyhow::{Result, bail};
use provost_host::{Honour, Honours, InService, Limits, Places, Problem, Shelf, in_all, review};
use provost_plugin::Spec;
use provost_server::settings::Settings;

pub(crate) use self::{
    package::{add, pack},
    test::test,
};

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

/// A plugin that was named on the command line: the folder of one, or a vendor in service.
pub(crate) struct Named {
    pub(crate) places: Places,
    pub(crate) shelf: Shelf,
    /// What is wrong with it. What is wrong with others is their business.
    pub(crate) problems: Vec<Problem>,
    /// Its id; without, it is refused.
    pub(crate) id: Option<String>,
}

impl Named {
    /// `as_shipped` leaves the site's own templates out, so that what comes of it is the same at every site.
    pub(crate) fn find(settings: &Settings, wanted: &str, as_shipped: bool) -> Result<Named> {
        let mut places = settings.places();
        let folder = Path::new(wanted);
        let folder = folder.join("vendor.yaml").is_file().then(|| std::path::absolute(folder)).transpose()?;
        if let Some(folder) = &folder {
            places.plugins.insert(0, folder.clone());
        }
        if as_shipped {
            // A place below a file, where nothing can be.
            places.overrides = Path::new("/dev/null/overrides").to_owned();
        }
        let (shelf, mut problems) = Shelf::build(&places, None, Limits::default(), Some(&crate::prober()?));
        let plugin = match &folder {
            Some(folder) => shelf.plugins().find(|plugin| plugin.origin == *folder),
            None => shelf.get(wanted),
        };
        let id = plugin.map_or(wanted, |plugin| plugin.id.as_str()).to_owned();
        problems.retain(|problem| {
            let within = |root: &Path| Path::new(&problem.file).starts_with(root);
            folder.as_deref().is_some_and(within)
                || plugin.is_some_and(|plugin| within(&plugin.origin))
                || [&places.templates, &places.overrides].iter().any(|root| within(&root.join(&id)))
        });
        if plugin.is_none() && problems.is_empty() {
            bail!("no plugin \"{wanted}\" is in service, and no folder of that name holds a vendor.yaml");
        }
        let id = plugin.map(|plugin| plugin.id.clone());
        Ok(Named { places, shelf, problems, id })
    }

    pub(crate) fn plugin(&self) -> Option<&Arc<InService>> {
        self.shelf.get(self.id.as_deref()?)
    }
}

/// One plugin, looked at from all sides before phones depend on it.
pub(crate) fn check(settings: &Settings, wanted: &str, json: bool, out: &mut impl Write) -> Result<ExitCode> {
    crate::log(settings, "error")?;
    let named = Named::find(settings, wanted, false)?;
    let review = named.plugin().map(|plugin| review(plugin, &named.shelf)).unwrap_or_default();
    let findings: Vec<&Problem> = named.problems.iter().chain(review.problems()).collect();
    let spec = named.plugin().map(|plugin| &plugin.spec);
    if json {
        let vendor = spec.map(|spec| &spec.vendor);
        let fields: BTreeMap<_, _> = review.fields.iter().map(|(field, honours)| (field, in_all(honours))).collect();
        // Where the families of phones differ.
        let families: BTreeMap<_, _> =
            review.fields.iter().filter(|(_, honours)| honours.values().any(|one| *one != in_all(honours))).collect();
        let report = serde_json::json!({
            "vendor": vendor,
            "findings": findings,
            "fields": fields,
            "families": families,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        for finding in &findings {
            writeln!(out, "{finding}")?;
        }
        match spec {
            Some(spec) => writeln!(out, "{}", summary(spec, &review.fields, findings.len()))?,
            None => writeln!(out, "{wanted} is refused; {}", count(findings.len()))?,
        }
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn summary(spec: &Spec, fields: &BTreeMap<String, Honours>, findings: usize) -> String {
    let (models, files, findings) = (spec.models.len(), spec.files.len(), count(findings));
    if fields.is_empty() {
        return format!("{}: {models} models, {files} files; {findings}", spec.vendor);
    }
    let of = |wanted: Honour| fields.values().filter(|honours| in_all(honours) == wanted).count();
    format!(
        "{}: {models} models, {files} files; of {} fields {} are honoured, {} have no setting on the phones, {} are not written yet; {findings}",
        spec.vendor,
        fields.len(),
        of(Honour::Honoured),
        of(Honour::Unsupported),
        of(Honour::NotYet),
    )
}

fn count(findings: usize) -> String {
    match findings {
        0 => "no findings".to_owned(),
        1 => "1 finding".to_owned(),
        many => format!("{many} findings"),
    }
}
