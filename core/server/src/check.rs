//! Everything that can be said about what is on disk without serving it: the same reading, the same trials, no socket.

use std::{collections::BTreeMap, net::IpAddr};

use provost_host::{Limits, Prober};
use provost_plugin::model::Identity;

use crate::{
    reload::{device_findings, first, try_devices},
    settings::Settings,
    world::{Finding, Peer, Severity, World},
};

/// All findings, sorted by place, and the world that they are about.
pub fn check(settings: Settings, limits: Limits, prober: Option<&Prober>) -> (World, Vec<Finding>) {
    let (mut world, mut findings) = first(settings, limits, prober);
    world.troubles = try_devices(&world, &BTreeMap::new(), None);
    findings.extend(device_findings(&world));
    findings.extend(in_vain(&world));
    findings.sort_by(|a, b| (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message)));
    findings.dedup();
    (world, findings)
}

/// What devices ask for that their model cannot do, at the line where it is asked. Something asked for in a shared layer is told
/// once, with the number of devices that it concerns.
fn in_vain(world: &World) -> Vec<Finding> {
    type Place = (String, usize, usize, String);
    let mut found: BTreeMap<Place, (String, usize)> = BTreeMap::new();
    for (mac, device) in world.fleet.devices().filter(|(_, device)| device.is_enabled()) {
        let peer = Peer {
            identity: Identity { mac: Some(mac), ..Identity::default() },
            address: None,
            interface: None,
            local: IpAddr::from([192, 0, 2, 1]),
        };
        let Ok(offer) = world.files_of(mac, &peer) else { continue };
        for complaint in offer.choice.plugin.complaints(&offer.resolved.phone).unwrap_or_default() {
            let origin = offer.resolved.origins.of(&complaint.field);
            // A value that nobody wrote is not asked for.
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
