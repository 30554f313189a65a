//! Profile files, as people write them.

use std::{collections::BTreeMap, path::PathBuf};

use provost_fleet::{Fleet, Whose, amend};
use provost_plugin::MacAddr;
use provost_server::progress;
use serde_json::json;

use crate::bench::bench;

const FILE: &str = "fuzz.yaml";
/// Devices of one input that are rendered; a file may hold thousands, and they are all alike to us.
const RENDERED: usize = 3;

pub fn profiles(input: &[u8]) {
    let edits = BTreeMap::from([(PathBuf::from(FILE), Some(input.to_vec()))]);
    let (fleet, problems) = Fleet::default().edited(&edits);
    for problem in &problems {
        assert!(!problem.to_string().is_empty());
    }
    let macs: Vec<MacAddr> = fleet.devices().map(|(mac, _)| mac).take(RENDERED).collect();
    let world = bench().with(fleet);
    for device in macs.iter().filter_map(|mac| world.fleet.device(*mac)) {
        // It renders, or it says why not; that nothing panics is what is looked for.
        if let Err(trouble) = world.try_device(device, &progress::peer(device.mac(), None), None) {
            assert!(!trouble.why.contains("panicked"), "{}", trouble.why);
        }
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    for mac in macs {
        changed(text, &Whose::Device(mac));
    }
    changed(text, &Whose::Profile("office".into()));
}

/// Changes one entry: what comes of it says what was wanted, and taking it back says what was there.
fn changed(text: &str, whose: &Whose) {
    for patch in
        [json!({ "name": "a: #b\n'c'" }), json!({ "lines": null }), json!({ "sip": { "server": "x" }, "keys": [] })]
    {
        let Ok(changed) = amend(FILE, text, whose, &patch) else { continue };
        let again = amend(FILE, &changed, whose, &patch);
        assert_eq!(
            again.as_deref().ok(),
            Some(changed.as_str()),
            "the same change once more changes something: {patch}"
        );
    }
}
