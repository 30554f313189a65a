//! `vendor.yaml`, as authors of plugins write it.

use std::sync::Arc;

use provost_plugin::{
    Announced, MacAddr, Phone, Spec, announce_by_data,
    model::Identity,
    templates::{Source, Templates},
};

const MAC: MacAddr = MacAddr::new([0x02, 0, 0x5e, 0, 0, 1]);
const TEMPLATE: &str = "{{ phone.mac }} {{ file.name }} {% for line in phone.lines %}{{ line.number }}{% endfor %}\n";

pub fn vendor(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(spec) = Spec::read(text) else { return };
    let _ = (spec.id(), provost_plugin::spec::extension(&spec.vendor));
    let identity = Identity {
        vendor: Some(spec.vendor.clone()),
        model: Some("T1".into()),
        firmware: Some("1.2.3".into()),
        mac: Some(MAC),
        user_agent: Some("Vendor T1 1.2.3 02:00:5e:00:00:01".into()),
        ..Identity::default()
    };
    let _ = spec.evidence(&identity);
    let _ = spec.identify("Vendor T1 1.2.3 02:00:5e:00:00:01");
    let announced = Announced { identity, base_url: "http://192.0.2.1:8080/".into() };
    if let Ok(url) = announce_by_data(&spec, &announced) {
        assert!(!url.contains(|character: char| character.is_control()), "the URL is {url:?}");
    }
    let sources: Vec<Source> = spec
        .files
        .iter()
        .filter_map(|file| file.template.clone())
        .map(|name| Source { shown: name.clone(), name, text: TEMPLATE.into(), is_override: false })
        .collect();
    let templates = Templates::compile(&spec, &sources).map(Arc::new);
    let phone = Phone { mac: Some(MAC), vendor: spec.id(), ..Phone::default() };
    for file in &spec.files {
        // A name that is made is one that is recognised, or its models would ask in vain.
        if let Some(name) = file.name.expand(Some(MAC), Some("T1"), &Default::default()) {
            let _ = file.name.capture(&name, &spec.models);
        }
        if let Ok(templates) = &templates {
            let _ = templates.bind(file, &phone).finish(&Default::default());
        }
    }
    for name in ["", "/", "02005e000001.cfg", "a/b/../c", "\u{feff}"] {
        let _ = spec.find(name).count();
    }
}
