//! Phones of several vendors ask for the same name, and each gets its own vendor's file.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use provost_plugin::{
    MacAddr, Spec,
    spec::{FileKind, Simulation},
};
use provost_tests::{Host, Lan, Plan, Server, inventory, specs, tools};

use crate::network::tftp;

/// One phone of each vendor, with an address of its own.
struct Desk {
    vendor: String,
    mac: MacAddr,
    kind: Simulation,
    address: Ipv4Addr,
    /// Names that this phone may ask for.
    names: Vec<String>,
}

impl Desk {
    fn user_agent(&self) -> String {
        let words = [
            ("{mac}", self.mac.bare()),
            ("{MAC}", self.mac.bare_upper()),
            ("{mac:colons}", self.mac.to_string()),
            ("{MAC:colons}", self.mac.to_string().to_uppercase()),
            ("{model}", self.kind.model.clone()),
            ("{firmware}", self.kind.firmware.clone()),
        ];
        words.into_iter().fold(self.kind.user_agent.clone(), |text, (word, told)| text.replace(word, &told))
    }

    fn get(&self, host: &Host, server: &Server, local: Ipv4Addr, name: &str) -> Result<Vec<u8>, String> {
        let mut curl = host.command(tools::require("curl"));
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "10"]);
        curl.args(["--interface", &self.address.to_string(), "--user-agent", &self.user_agent()]);
        tools::feed(curl.arg(format!("{}{name}", server.http_url(local))), b"")
    }
}

/// The names without a switch that are offered to this phone, which is of this vendor.
fn names(spec: &Spec, mac: MacAddr, model: &str) -> Vec<String> {
    let Some((_, capabilities)) = spec.model(model) else { return Vec::new() };
    let ours = |families: &[String]| {
        families.is_empty() || capabilities.family.as_ref().is_some_and(|family| families.contains(family))
    };
    spec.files
        .iter()
        .filter(|file| file.option.is_none() && ours(&file.families))
        .filter(|file| matches!(file.kind, FileKind::Device | FileKind::Common))
        .filter_map(|file| file.name.expand(Some(mac), Some(model), capabilities))
        .collect()
}

#[test]
fn a_name_that_several_vendors_have_gets_each_phone_its_own_vendors_file_over_both_doors() {
    let mut lan = Lan::new(1);
    let specs: BTreeMap<String, Spec> = specs().into_iter().collect();
    let addresses = lan.add_addresses(0, specs.len() as u16);
    let desks: Vec<Desk> = specs
        .iter()
        .zip(addresses)
        .zip(1..)
        .filter_map(|(((vendor, spec), address), number)| {
            let mut kind = spec.simulate.first()?.clone();
            let mac = provost_phone::mac(&kind, number).expect("a prefix has room for a few phones");
            // Of its models the one with the most names that others have too.
            let others =
                |name: &&String| specs.iter().any(|(other, spec)| other != vendor && spec.find(name).next().is_some());
            let models = spec.models.keys().filter(|model| !model.contains('*')).chain([&kind.model]);
            let (model, names) = models
                .map(|model| (model.clone(), names(spec, mac, model)))
                .max_by_key(|(_, names)| names.iter().filter(others).count())?;
            kind.model = model;
            Some(Desk { vendor: vendor.clone(), mac, kind, address, names })
        })
        .collect();
    let members: Vec<_> = desks.iter().map(|desk| (desk.mac, &desk.kind)).collect();
    let server = Plan::on(lan.server()).file("profiles/fleet.yaml", inventory(&members)).start().ready();
    let (host, local) = (lan.phone(0), lan.server().address());

    let mut shared = BTreeSet::new();
    for desk in &desks {
        let claimed = |name: &str| specs.values().filter(|spec| spec.find(name).next().is_some()).count();
        for name in desk.names.iter().filter(|name| claimed(name) > 1) {
            let mark = server.mark();
            let over_http = desk.get(host, &server, local, name);
            let line = server.wait_after(mark, name, |line| line.is("message", "fetch") && line.is("file", name));
            let whose = format!("{name} for {} at {}", desk.vendor, desk.address);
            assert!(over_http.is_ok() && line.is("vendor", &desk.vendor), "{whose}: {over_http:?}\n{}", line.text);
            // Over TFTP nothing is said but the name: the address tells whose it is, and what was heard of it before.
            let mark = server.mark();
            let over_tftp = tftp(host, desk.address, local, name);
            let line = server.wait_after(mark, name, |line| line.is("door", "tftp") && line.is("file", name));
            assert!(line.is("vendor", &desk.vendor), "{whose}: {}", line.text);
            assert_eq!(over_http.unwrap(), over_tftp, "{whose}: over TFTP as over HTTP");
            let general = name.replace(&desk.mac.bare(), "<mac>").replace(&desk.mac.bare_upper(), "<MAC>");
            shared.insert((general, desk.vendor.clone()));
        }
    }
    for name in ["y000000000000.cfg", "<mac>.cfg"] {
        let vendors: Vec<_> = shared.iter().filter(|(shared, _)| shared == name).map(|(_, vendor)| vendor).collect();
        assert!(vendors.len() > 1, "{name} was asked for by {vendors:?}; of several vendors were\n{shared:#?}");
    }
}
