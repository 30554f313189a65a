//! Whose phone is it: captures, simulated phones, file names.

use std::{collections::BTreeMap, fs, path::Path};

use provost_plugin::{MacAddr, model::Identity, offered_files, spec::Simulation};
use provost_sip::{Message, Subscribe};
use provost_tests::repository;

use crate::bench;

/// Captures whose phone is another vendor's than the file's name says, or nobody's.
const OWNERS: &[(&str, Option<&str>)] = &[
    // The page that it is from put OEM for vendor and model, and somebody else's MAC.
    ("01-snom-oem-7.1.19-via-without-branch", None),
    ("s6-mac-colon-form", Some("snom")),
];

fn captures() -> BTreeMap<String, Vec<u8>> {
    let mut captures = BTreeMap::new();
    for folder in ["tests/captures", "tests/captures/synthetic"] {
        let entries =
            fs::read_dir(repository().join(folder)).unwrap_or_else(|error| panic!("cannot read {folder}: {error}"));
        for path in
            entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|is| is == "sip"))
        {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            captures.insert(
                name,
                fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display())),
            );
        }
    }
    assert!(captures.len() >= 11, "{:?}", captures.keys());
    captures
}

/// The vendor's name in a file's name: `02-snom370-8.7.5.48` is snom's.
fn owner<'a>(capture: &'a str, vendors: &[&'a str]) -> Option<&'a str> {
    if let Some((_, owner)) = OWNERS.iter().find(|(name, _)| *name == capture) {
        return *owner;
    }
    let named = capture.split_once('-').map_or(capture, |(_, named)| named).to_lowercase();
    vendors.iter().copied().find(|vendor| named.starts_with(vendor))
}

fn identity(name: &str, bytes: &[u8]) -> Identity {
    let subscribe = match provost_sip::read(bytes) {
        Ok(Message::Request(request)) => Subscribe::from_request(&request).map_err(|error| error.to_string()),
        Ok(Message::Response(_)) => Err("it is a response".into()),
        Err(error) => Err(error.to_string()),
    };
    let subscribe = subscribe.unwrap_or_else(|error| panic!("{name} is no SUBSCRIBE: {error}"));
    Identity {
        mac: subscribe.mac.map(|found| MacAddr::new(found.address)),
        vendor: subscribe.vendor,
        model: subscribe.model,
        firmware: subscribe.firmware,
        hardware: None,
        user_agent: subscribe.user_agent,
    }
}

/// That this vendor's plugin claims the phone and no other does; with no vendor, that nobody does.
fn assert_claimed(what: &str, identity: &Identity, owner: Option<&str>) {
    let claiming: Vec<_> = bench::shelf()
        .candidates(identity)
        .into_iter()
        .map(|(plugin, evidence)| (plugin.id.clone(), evidence.to_string()))
        .collect();
    let vendors: Vec<&str> = claiming.iter().map(|(vendor, _)| vendor.as_str()).collect();
    assert_eq!(vendors, owner.into_iter().collect::<Vec<_>>(), "{what} is claimed by {claiming:?}");
    if let Some(owner) = owner {
        assert_eq!(
            bench::shelf().choose(identity, None).map(|choice| choice.plugin.id.clone()),
            Ok(owner.to_owned()),
            "{what}"
        );
    }
}

#[test]
fn every_plugin_claims_its_own_captures_and_no_other_vendors() {
    let vendors: Vec<&str> = bench::shelf().plugins().map(|plugin| plugin.id.as_str()).collect();
    let mut captured: BTreeMap<&str, usize> = BTreeMap::new();
    let captures = captures();
    for (name, bytes) in &captures {
        let owner = owner(name, &vendors);
        assert_claimed(name, &identity(name, bytes), owner);
        *captured.entry(owner.unwrap_or("nobody")).or_default() += 1;
    }
    assert!(captured.contains_key("nobody"), "there is no capture of a phone that is nobody's");
    for (name, _) in OWNERS {
        assert!(captures.contains_key(*name), "{name} is no capture any more");
    }
}

/// Words in braces, as in `simulate:`; the simulated phone has a reader of its own for them.
fn told(text: &str, kind: &Simulation, mac: MacAddr) -> String {
    let words = [
        ("{mac}", mac.bare()),
        ("{MAC}", mac.bare_upper()),
        ("{mac:colons}", mac.to_string()),
        ("{MAC:colons}", mac.to_string().to_uppercase()),
        ("{model}", kind.model.clone()),
        ("{model:lower}", kind.model.to_lowercase()),
        ("{firmware}", kind.firmware.clone()),
        ("{ip}", "192.0.2.7".into()),
        ("{port}", "5060".into()),
        ("{number}", "4711".into()),
    ];
    words.into_iter().fold(text.to_owned(), |text, (word, told)| text.replace(word, &told))
}

#[test]
fn every_plugin_claims_the_phones_that_it_simulates_by_each_thing_that_they_say() {
    for plugin in bench::shelf().plugins() {
        assert!(!plugin.spec.simulate.is_empty(), "{} does not say how its phones behave", plugin.id);
        for kind in &plugin.spec.simulate {
            let mac = provost_phone::mac(kind, 1).expect("a prefix has room for one phone");
            let what = format!("{} of {}", kind.model, plugin.id);
            if !kind.subscribe.is_empty() {
                let subscribe = told(&kind.subscribe, kind, mac).trim_end().replace('\n', "\r\n") + "\r\n\r\n";
                let heard = identity(&what, subscribe.as_bytes());
                // One vendor's phones are known to leave their MAC out.
                assert!(heard.mac.is_none_or(|heard| heard == mac), "{what}: {heard:?}");
                // Another's say the same of every model.
                if kind.subscribe.contains("model=\"{model}\"") {
                    assert_eq!(heard.model.as_deref(), Some(kind.model.as_str()), "{what}");
                }
                assert_claimed(&what, &heard, Some(&plugin.id));
                if heard.vendor.is_some() {
                    assert_claimed(&what, &Identity { vendor: heard.vendor, ..Identity::default() }, Some(&plugin.id));
                }
            }
            // Vendors who have their phones made by the same maker share its prefix.
            let by_mac = bench::shelf().candidates(&Identity { mac: Some(mac), ..Identity::default() });
            assert!(by_mac.iter().any(|(claiming, _)| claiming.id == plugin.id), "{what} is not claimed by its MAC");
            if plugin.spec.user_agents.is_empty() {
                continue;
            }
            let agent = told(&kind.user_agent, kind, mac);
            // Of some models nobody knows what they say there; they are claimed by nobody, and by no other at least.
            if plugin.spec.identify(&agent).is_none() && kind.subscribe.is_empty() {
                assert_claimed(&what, &Identity { user_agent: Some(agent), ..Identity::default() }, None);
                continue;
            }
            assert_claimed(
                &what,
                &Identity { user_agent: Some(agent.clone()), ..Identity::default() },
                Some(&plugin.id),
            );
            let read = plugin.spec.identify(&agent).unwrap_or_else(|| panic!("{what}: {agent} tells nothing"));
            assert!(read.mac.is_none_or(|read| read == mac), "{what}: {agent} reads as {read:?}");
            assert!(plugin.spec.model(&kind.model).is_some(), "{what} is in no row of the models table");
        }
    }
}

#[test]
fn the_name_of_every_file_leads_to_its_own_plugin_and_phone() {
    for plugin in bench::shelf().plugins() {
        let rows = plugin.spec.models.keys().map(|row| Some(bench::designation(row)));
        // Phones are known to call themselves OEM, or to say nothing.
        for model in rows.chain([Some("OEM".into()), None]) {
            let phone = bench::office(plugin, model.as_deref()).phone;
            for (name, _) in offered_files(&plugin.spec, &phone) {
                let routes: Vec<_> =
                    bench::shelf().routes(&name).into_iter().filter(|route| route.plugin.id == plugin.id).collect();
                assert!(!routes.is_empty(), "{name} is offered to {} {model:?} and leads nowhere", plugin.id);
                let mac = routes.iter().find_map(|route| route.captured.mac);
                assert!(mac.is_none_or(|mac| mac == bench::MAC), "{name} of {} leads to {mac:?}", plugin.id);
            }
        }
    }
}

#[test]
fn a_capture_without_a_row_is_noticed() {
    // The table above is by file name: a name that is nobody's must not pass as somebody's.
    assert_eq!(owner("99-snom-something", &["snom"]), Some("snom"));
    assert_eq!(owner("99-acme-something", &["snom"]), None);
    assert!(Path::new(&repository()).join("tests/captures/README.md").exists());
}
