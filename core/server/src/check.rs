//! Everything that can be said about what is on disk without serving it: the same reading, the same trials, no socket.

use std::{collections::BTreeMap, net::IpAddr, time::SystemTime};

use provost_fleet::{Registry, WithoutKey};
use provost_host::{Limits, Prober};
use provost_plugin::{
    model::Identity,
    spec::{Model, matches_wildcard},
};

use crate::{
    pnp::relay,
    readable,
    reload::{device_findings, first, try_devices},
    settings::Settings,
    world::{self, Finding, Peer, Severity, World, render},
};

/// All findings, sorted by place, and the world that they are about.
pub fn check(settings: Settings, limits: Limits, prober: Option<&Prober>) -> (World, Vec<Finding>) {
    // Nothing that is found here shows a password, and nothing is made.
    let settings = Settings { without_key: WithoutKey::Pretend, ..settings };
    let (mut world, mut findings) = first(settings, limits, prober);
    world.troubles = try_devices(&world, None, &Registry::default(), &BTreeMap::new(), None);
    findings.extend(device_findings(&world));
    findings.extend(in_vain(&world));
    findings.extend(unprintable_lists(&world));
    findings.extend(nobodys_firmware(&world));
    findings.extend(nobodys_rules(&world));
    findings.extend(readable::findings(&world));
    findings.extend(keyless_relays(&world));
    findings.sort_by(|a, b| (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message)));
    findings.dedup();
    (world, findings)
}

/// Relays that will not be heard, for want of their key.
fn keyless_relays(world: &World) -> Option<Finding> {
    let error = relay::door::known(&world.settings.pnp.relay).err()?;
    let file = world.settings.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    Some(finding(&file, (0, 0), Severity::Error, format!("pnp.relay.keys: {error}")))
}

/// What devices ask for that their model cannot do, at the line where it is asked. Something asked for in a shared layer is told
/// once, with the number of devices that it concerns.
fn in_vain(world: &World) -> Vec<Finding> {
    type Place = (String, usize, usize, String);
    let mut found: BTreeMap<Place, (String, usize)> = BTreeMap::new();
    for (mac, device) in world.fleet.devices().filter(|(_, device)| device.is_enabled()) {
        let peer = Peer { identity: Identity { mac: Some(mac), ..Identity::default() }, ..nobody() };
        let Ok(offer) = world.files_of(mac, &peer) else { continue };
        for complaint in world::in_vain(&offer.choice.plugin, &offer.resolved) {
            let origin = offer.resolved.origins.of(&complaint.field);
            let Some((origin, file)) = origin.and_then(|origin| Some((origin.clone(), origin.file?))) else { continue };
            let message = format!("{} is asked for in vain: {}", complaint.field, complaint.reason);
            let entry = found
                .entry((file.to_string(), origin.line as usize, origin.column as usize, message))
                .or_insert_with(|| (device.to_string(), 0));
            entry.1 += 1;
        }
    }
    found
        .into_iter()
        .map(|((file, line, column, message), (device, count))| {
            let whom = if count == 1 { device } else { format!("{device} and {} more", count - 1) };
            Finding {
                file,
                line,
                column,
                severity: Severity::Warning,
                message: format!("{message} (for {whom})"),
                older_serves: false,
            }
        })
        .collect()
}

/// Lists that cannot be written in some vendor's form.
fn unprintable_lists(world: &World) -> Vec<Finding> {
    let mut findings = Vec::new();
    for plugin in world.shelf.plugins() {
        for file in plugin.spec.files.iter().filter(|file| file.name.names_a_book()) {
            for name in world.books.names() {
                let model = plugin.spec.models.keys().next().map(|model| model.replace('*', "0")).unwrap_or_default();
                let Some(path) = file.name.expand_for(Some(name), None, Some(&model), &Model::default()) else {
                    continue;
                };
                let rendered = world.locate(&path, &nobody()).map_err(|error| error.to_string());
                let rendered = rendered.and_then(|located| render(&located, SystemTime::UNIX_EPOCH));
                if let Err(error) = rendered {
                    let file = world.books.file(name).unwrap_or_default();
                    findings.push(finding(file, (0, 0), Severity::Error, error));
                }
            }
        }
    }
    findings
}

/// Firmware that is for nobody, as far as the plugins know.
fn nobodys_firmware(world: &World) -> Vec<Finding> {
    let of_image = |image: &provost_fleet::Image| {
        let at = (image.line as usize, image.column as usize);
        let doubts = doubts(world, &image.vendor, image.models.iter().map(String::as_str));
        doubts.into_iter().map(move |message| finding(world.images.file(), at, Severity::Warning, message)).collect()
    };
    world.images.entries().iter().flat_map(|image| -> Vec<Finding> { of_image(image) }).collect()
}

/// Rules that enrol nobody, as far as the plugins and the calendar know.
fn nobodys_rules(world: &World) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in world.fleet.rules() {
        let mut found = rule.vendor().map(|vendor| doubts(world, vendor, rule.models())).unwrap_or_default();
        if let Some(until) = rule.until().filter(|until| until.is_over(SystemTime::now())) {
            found.push(format!("the rule \"{}\" ended with {until} and can go", rule.name()));
        }
        let at = (rule.line() as usize, 0);
        findings.extend(found.into_iter().map(|message| finding(rule.file(), at, Severity::Warning, message)));
    }
    findings
}

/// What the plugins do not know of a vendor and of patterns of its models.
fn doubts<'a>(world: &World, vendor: &str, patterns: impl Iterator<Item = &'a str>) -> Vec<String> {
    let Some(plugin) = world.shelf.get(vendor) else {
        let known: Vec<&str> = world.shelf.plugins().map(|plugin| plugin.id.as_str()).collect();
        return vec![format!("no plugin \"{vendor}\" is in service; there are {}", known.join(", "))];
    };
    let spec = &plugin.spec;
    let is_known = |pattern: &&str| {
        let fits = |name: &str| matches_wildcard(pattern, name) || matches_wildcard(name, pattern);
        spec.models.is_empty()
            || spec.models.iter().any(|(name, row)| fits(name) || row.aliases.iter().any(|alias| fits(alias)))
    };
    let unknown = patterns.filter(|pattern| !is_known(pattern));
    unknown.map(|pattern| format!("no model of {} is known that \"{pattern}\" fits", spec.vendor)).collect()
}

fn finding(file: &str, (line, column): (usize, usize), severity: Severity, message: String) -> Finding {
    Finding { file: file.to_owned(), line, column, severity, message, older_serves: false }
}

/// An asker of whom nothing is known.
fn nobody() -> Peer {
    Peer { identity: Identity::default(), address: None, interface: None, local: IpAddr::from([192, 0, 2, 1]) }
}
