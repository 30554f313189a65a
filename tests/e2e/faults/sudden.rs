//! The server is killed, at times that nobody chose.

use std::{
    collections::{BTreeSet, hash_map::RandomState},
    hash::BuildHasher as _,
    thread,
};

use rustix::process::Signal;

use super::*;

const KILLS: usize = 6;

/// Phones that have answered the NOTIFY, by the log.
fn notified(site: &Site, lines: usize) -> BTreeSet<String> {
    let log = site.server().log();
    let notified = log.iter().take(lines).filter(|line| line.is("message", "notified"));
    notified.map(|line| line.field("device").as_str().unwrap().to_owned()).collect()
}

fn known(site: &Site) -> BTreeSet<String> {
    let (good, said) = administrator(&site.lan, site.server(), &["devices", "--json"]);
    assert!(good, "{said}");
    let devices: Vec<Value> = serde_json::from_str(&said).unwrap();
    let seen = devices.iter().filter(|device| !device["last_seen"].is_null());
    seen.map(|device| device["mac"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn it_is_killed_again_and_again_while_phones_announce_and_edits_arrive() {
    let mut site = Site::new(|plan| plan);
    site.boot(When::Before, &[]);
    let chance = RandomState::new();
    let mut lost = Vec::new();
    let mut command = site.simulate(When::During, &["--boots", "30"]);
    let phones = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for kill in 0..KILLS {
        let moment = Duration::from_millis(chance.hash_one(kill) % 1500);
        let site = &mut site;
        let by_then = thread::scope(|scope| {
            let lan = &site.lan;
            let server = site.running.as_ref().unwrap();
            let first = site.edits.len() + site.refused + 1;
            let edits = scope.spawn(move || {
                let mut acknowledged = Vec::new();
                for number in first.. {
                    let (name, content) = (format!("profiles/devices/edit-{number}.yaml"), device(number));
                    match put(lan, server, &name, &content) {
                        Some(204) => acknowledged.push((name, content)),
                        _ => return acknowledged,
                    }
                }
                unreachable!()
            });
            thread::sleep(moment);
            let mark = server.mark();
            thread::sleep(BEHIND);
            server.signal(Signal::KILL);
            let acknowledged = edits.join().unwrap();
            site.edits.extend(acknowledged);
            // The one that got no answer may be there or not; its number is not used again.
            site.refused += 1;
            mark
        });
        let before = notified(site, by_then);
        lost.extend(site.lost(|plan| plan));
        let after = known(site);
        lost.extend(
            before.difference(&after).map(|mac| format!("{mac} was notified before kill {kill}, and is not known")),
        );
    }
    let report = phones.wait_with_output().unwrap();
    site.count(When::During, &report);
    site.boot(When::After, &[]);
    let seen = format!("killed {KILLS} times; a sighting is on disk after {} ms", BEHIND.as_millis());
    assert_eq!(lost, Vec::<String>::new());
    site.end("kill -9 at random times", &seen);
}
