//! A directory of phones' files as another server wrote them, packed as a tar. Which vendor wrote what, and what it says of lines and keys,
//! the plugins tell ([`provost_host::Reader`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    time::{Duration, Instant},
};

use provost_host::{ReadBack, Reader, Unread};
use provost_plugin::MacAddr;
use serde_json::json;

use super::{Drafts, WRONG, Wanted, shortened};

/// As many files as a large site has, and no more than the memory for them.
const FILES: usize = 20_000;
const BYTES: u64 = 1 << 20;
/// Whoever waits for the answer waits for a minute.
const PATIENCE: Duration = Duration::from_secs(40);
/// Letters of a name.
const NAME: usize = 512;

pub(super) fn read(bytes: &[u8], wanted: &Wanted) -> Drafts {
    let mut drafts = Drafts::default();
    let mut archive = tar::Archive::new(bytes);
    let entries = match archive.entries() {
        Ok(entries) => entries,
        Err(error) => {
            drafts.blame("the file", format!("it is no tar: {error}"));
            return drafts;
        }
    };
    let mut reader = Reader::new(wanted.shelf);
    let start = Instant::now();
    let mut phones: BTreeMap<MacAddr, (String, ReadBack)> = BTreeMap::new();
    // Files of phones that were not understood: some phones have others besides.
    let mut not_read: Vec<(MacAddr, String, Unread)> = Vec::new();
    let mut refused: BTreeSet<MacAddr> = BTreeSet::new();
    for (number, entry) in entries.enumerate() {
        if drafts.wrong.len() >= WRONG {
            break;
        }
        if number >= FILES {
            drafts.blame("the file", format!("it holds more than {FILES} files; import it in parts"));
            break;
        }
        if start.elapsed() > PATIENCE {
            drafts
                .blame("the file", format!("{number} of its files took {} s; import it in parts", PATIENCE.as_secs()));
            break;
        }
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                drafts.blame("the file", format!("it cannot be read to its end: {error}"));
                break;
            }
        };
        let name: String =
            entry.path().map(|path| path.to_string_lossy().chars().take(NAME).collect()).unwrap_or_default();
        let name = name.trim_start_matches("./").to_owned();
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        if !kind.is_file() {
            drafts.warn(&name, "left out: it is no plain file");
            continue;
        }
        if entry.size() > BYTES {
            drafts.warn(&name, format!("left out: it has more than {BYTES} bytes"));
            continue;
        }
        let mut content = Vec::new();
        if let Err(error) = entry.by_ref().take(BYTES).read_to_end(&mut content) {
            drafts.blame(&name, format!("it cannot be read: {error}"));
            break;
        }
        match reader.read(&name, &content, wanted.raw) {
            Ok(read) => {
                if refused.contains(&read.mac) {
                    continue;
                }
                if drafts.mac(&read.mac.to_string(), name.clone(), wanted).is_none() {
                    refused.insert(read.mac);
                    continue;
                }
                let kept = |read: &ReadBack| read.all.saturating_sub(read.lost.len());
                match phones.get_mut(&read.mac) {
                    None => drop(phones.insert(read.mac, (name, read))),
                    Some(before) if kept(&before.1) < kept(&read) => {
                        drafts.warn(
                            std::mem::replace(&mut before.0, name),
                            "another file of the phone says more, and was read instead",
                        );
                        before.1 = read;
                    }
                    Some(_) => drafts.warn(name, "another file of the phone says more, and was read instead"),
                }
            }
            Err(why) => match reader.mac(&name, &content) {
                Some(mac) => not_read.push((mac, name, why)),
                None => drafts.warn(name, format!("left out: {why}")),
            },
        }
    }
    for (mac, name, why) in not_read {
        // A phone's further files have settings that one account or none is in.
        match why {
            Unread::Foreign | Unread::NoAccount(_) | Unread::Shared(_) if phones.contains_key(&mac) => {
                drafts.warn(name, format!("left out: {why}"));
            }
            Unread::Shared(_) => drafts.warn(name, format!("left out: {why}")),
            _ => drafts.blame(name, why.to_string()),
        }
    }
    for (mac, (name, read)) in phones {
        let mut device = read.settings;
        let (identity, _) = wanted.identity(mac, Some(&read.plugin.id), None);
        if identity.as_object().is_some_and(|identity| !identity.is_empty()) {
            device["identity"] = identity;
        }
        for field in read.hidden {
            drafts.warn(&name, format!("the {field} of its accounts is there in a form that cannot be read back"));
        }
        let count = read.lost.len();
        if count > 0 {
            drafts.warn_of_lost(&name, read.lost.iter().map(String::as_str));
        }
        if device["keys"].is_array() {
            let message = format!(
                "{count} of {} settings are not carried over; its keys were counted as those of a {}",
                read.all,
                shortened(&read.model)
            );
            drafts.warn(&name, message);
        }
        if device.get("lines").is_none() {
            device["lines"] = json!([]);
        }
        drafts.add(mac, name, device);
    }
    drafts
}
