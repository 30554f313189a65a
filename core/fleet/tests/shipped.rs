//! The profiles that come with the server, and the example of their README, load without a word and resolve for the shipped plugins.

use std::{fs, path::PathBuf};

use provost_fleet::{Asker, Fleet, Place};
use provost_plugin::{
    MacAddr, Spec, complaints_by_data,
    model::{Claim, Identity},
};

fn root(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

fn specs() -> Vec<Spec> {
    let folders = fs::read_dir(root("plugins")).unwrap().map(|entry| entry.unwrap().path().join("vendor.yaml"));
    let texts: Vec<String> = folders.filter_map(|path| fs::read_to_string(path).ok()).collect();
    // Of a vendor that is like another only who its phones are is asked here, which it does not inherit.
    let named = |id: &str| texts.iter().find(|text| text.to_lowercase().contains(&format!("vendor: {id}\n"))).cloned();
    texts.iter().map(|text| Spec::read_like(text, named).unwrap()).collect()
}

/// What the phone with this MAC said in the capture that the sample device stands for.
fn captured_model(mac: MacAddr) -> String {
    let captures = fs::read_dir(root("tests/captures"))
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok());
    let models = captures.filter(|text| text.to_lowercase().contains(&mac.bare()));
    let model = models.filter_map(|text| Some(text.split_once(";model=\"")?.1.split_once('"')?.0.to_owned())).next();
    model.unwrap_or_else(|| panic!("there is no capture of {mac}"))
}

#[test]
fn every_shipped_device_is_one_that_a_plugin_takes() {
    let (fleet, problems) = Fleet::read(&root("profiles"), None);
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(fleet.len() >= 6);
    let specs = specs();
    for (mac, device) in fleet.devices() {
        let identity = Identity { mac: Some(mac), model: Some(captured_model(mac)), ..Identity::default() };
        let of_vendor: Vec<&Spec> = match device.stated_vendor() {
            Some(_) => specs.iter().filter(|spec| device.is_stated_to_be(spec)).collect(),
            None => specs.iter().filter(|spec| spec.evidence(&identity).claim() != Claim::No).collect(),
        };
        let [spec] = of_vendor[..] else { panic!("{device} is taken by {} plugins", of_vendor.len()) };
        let place = Place {
            address: "198.51.100.7".parse().ok(),
            interface: None,
            base_url: "http://198.51.100.1:8080/".into(),
        };
        let resolved = fleet.resolve(&Asker { mac, identity, place: place.clone() }, spec).unwrap();
        assert!(resolved.phone.settings.lines.iter().all(|line| line.password.is_some()), "{device}");
        assert_eq!(resolved.phone.settings.vlan.voice.as_ref().and_then(|vlan| vlan.id), Some(20), "{device}");
        for complaint in complaints_by_data(spec, &resolved.phone) {
            let origin =
                resolved.origins.of(&complaint.field).unwrap_or_else(|| panic!("{device}: {complaint:?} has no line"));
            // What is said to all phones of a mixed fleet, some cannot do; what is said to this one, it should.
            let asked_of_this_one = ["profile", "device"].iter().any(|layer| origin.layer.starts_with(layer));
            assert!(!asked_of_this_one, "{device}: {complaint:?}, asked for at {origin}");
        }
        fleet.common(&place, spec, None).unwrap();
    }
}

#[test]
fn the_example_of_the_readme_does_what_it_says() {
    let readme = fs::read_to_string(root("profiles/README.md")).unwrap();
    let section = readme.split("\n## Example\n").nth(1).expect("the README has an example");
    let example = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("in YAML");
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("example.yaml"), example).unwrap();
    let (fleet, problems) = Fleet::read(directory.path(), None);
    assert!(problems.is_empty(), "{problems:#?}");
    let (mac, device) = fleet.devices().next().unwrap();
    assert_eq!(device.label(), Some("Front desk"));
    let spec = specs()
        .into_iter()
        .find(|spec| fleet.resolve(&ask(mac), spec).is_ok_and(|it| !it.phone.raw.is_empty()))
        .unwrap();
    let phone = fleet.resolve(&ask(mac), &spec).unwrap().phone;
    let servers: Vec<_> = phone.settings.lines.iter().map(|line| line.sip.server.as_deref().unwrap()).collect();
    assert_eq!(servers, ["pbx.example.net", "other.example.net"]);
    assert_eq!((phone.settings.keys.len(), phone.settings.vlan.voice.unwrap().id), (1, Some(20)));
}

fn ask(mac: MacAddr) -> Asker {
    let place = Place { address: "10.20.1.1".parse().ok(), interface: None, base_url: "http://10.20.0.1:8080/".into() };
    Asker { mac, identity: Identity { mac: Some(mac), ..Identity::default() }, place }
}
