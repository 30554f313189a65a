//! The vendors as the repository ships them, and an inventory for simulated phones. No test of the core names a vendor: it takes all.

use std::fs;

use provost_plugin::{
    MacAddr, Spec,
    spec::{Simulation, path_name},
};

use crate::repository;

/// Every `plugins/*/vendor.yaml`, by the vendor's name in paths. Panics at one that cannot be read: a vendor left out would be a test
/// left out.
pub fn specs() -> Vec<(String, Spec)> {
    let plugins = repository().join("plugins");
    let entries = fs::read_dir(&plugins).unwrap_or_else(|error| panic!("cannot read {}: {error}", plugins.display()));
    let texts: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.path().join("vendor.yaml");
            Some((fs::read_to_string(&file).ok()?, file))
        })
        .collect();
    let named = |id: &str| {
        let is =
            |yaml: &str| yaml.lines().any(|line| line.strip_prefix("vendor:").map(path_name).as_deref() == Some(id));
        texts.iter().find(|(yaml, _)| is(yaml)).map(|(yaml, _)| yaml.clone())
    };
    let mut specs: Vec<_> = texts
        .iter()
        .map(|(yaml, file)| {
            let spec = Spec::read_like(yaml, named).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            (spec.id(), spec)
        })
        .collect();
    specs.sort_by(|one, other| one.0.cmp(&other.0));
    specs
}

/// A profile file that has these phones in it, each with one line. A phone's number is `1000` and its place in the list; its password,
/// `secret-` and its MAC, is found in no other phone's file.
pub fn inventory(phones: &[(MacAddr, &Simulation)]) -> String {
    let mut yaml = String::from("defaults:\n  sip: { server: pbx.example.net }\ndevices:\n");
    for (index, (mac, _)) in phones.iter().enumerate() {
        let number = 1000 + index;
        yaml.push_str(&format!(
            "  \"{mac}\":\n    lines: [{{ number: \"{number}\", password: \"secret-{}\" }}]\n",
            mac.bare()
        ));
    }
    yaml
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_folder_with_a_vendor_yaml_is_a_vendor() {
        let names: Vec<_> = specs().into_iter().map(|(name, _)| name).collect();
        let found = fs::read_dir(repository().join("plugins")).unwrap().flatten();
        let expected = found.filter(|entry| entry.path().join("vendor.yaml").exists()).count();
        assert_eq!(names.len(), expected, "{names:?}");
        for name in &names {
            let file = repository().join("plugins").join(name).join("vendor.yaml");
            assert!(file.exists(), "the folder of {name} has another name: {} is not there", file.display());
        }
    }

    #[test]
    fn an_inventory_is_yaml_with_a_device_for_each_phone() {
        let mac: MacAddr = "02:00:5e:00:00:01".parse().unwrap();
        let kind: Simulation =
            serde_yaml::from_str("{model: M, firmware: '1', oui: 02005E, subscribe: '', user_agent: '', fetch: []}")
                .unwrap();
        let read: BTreeMap<String, serde_json::Value> = serde_yaml::from_str(&inventory(&[(mac, &kind)])).unwrap();
        assert_eq!(read["devices"][&mac.to_string()]["lines"][0]["password"], "secret-02005e000001");
    }
}
