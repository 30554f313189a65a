//! Every model renders every file, the same each time.

use std::collections::BTreeSet;

use provost_host::InService;
use provost_plugin::Phone;

use crate::{bench, readers::Shape};

/// Renders all that a phone may fetch, twice, and reads it as a phone would.
fn try_all(plugin: &InService, phone: &Phone, whose: &str) -> BTreeSet<usize> {
    let mut rendered = BTreeSet::new();
    for (file, name, phone) in bench::offered(plugin, phone) {
        let whose = format!("{} {whose} {name}", plugin.id);
        let render = || plugin.render(file, &phone).unwrap_or_else(|error| panic!("{whose}: {error}"));
        let once = render();
        assert!(once == render(), "{whose} is not the same each time");
        assert!(!once.content_type.is_empty(), "{whose} has no content type");
        Shape::of(&once.body).read(&once.body).unwrap_or_else(|error| panic!("{whose} cannot be read back: {error}"));
        rendered.insert(file);
    }
    rendered
}

#[test]
fn every_model_renders_every_file_the_same_each_time_and_in_its_format() {
    for plugin in bench::shelf().plugins() {
        let rows = plugin.spec.models.keys().map(|row| Some(bench::designation(row)));
        let mut rendered = BTreeSet::new();
        for model in rows.chain([None]) {
            let whose = model.as_deref().unwrap_or("of unknown model");
            rendered.extend(try_all(plugin, &bench::office(plugin, model.as_deref()).phone, whose));
            try_all(plugin, &bench::bare(plugin, model.as_deref()).phone, &format!("{whose}, bare,"));
        }
        let all: BTreeSet<usize> = (0..plugin.spec.files.len()).collect();
        assert_eq!(rendered, all, "{} has files that no model of it is ever given", plugin.id);
    }
}

#[test]
fn every_vendor_can_be_told_where_its_file_is() {
    for (plugin, model) in bench::families() {
        let identity = provost_plugin::model::Identity { mac: Some(bench::MAC), model, ..Default::default() };
        // A model may be part of the URL; then a phone that names none cannot be told.
        let needs_model = plugin.spec.announce.url.contains("{model}");
        let announced =
            provost_plugin::Announced { identity: identity.clone(), base_url: "http://192.0.2.1:8080/p/".into() };
        match plugin.announce(&announced) {
            Ok(url) => {
                assert!(url.starts_with("http://192.0.2.1:8080/p/"), "{}: {url}", plugin.id);
                assert!(!url.contains(['{', '}', ' ', '\r', '\n']), "{}: {url}", plugin.id);
                let path = &url["http://192.0.2.1:8080/p/".len()..];
                assert!(
                    path.is_empty() || plugin.spec.find(path).next().is_some(),
                    "{} is told {url}, which it has no file for",
                    plugin.id
                );
            }
            Err(error) => assert!(needs_model && identity.model.is_none(), "{}: {error}", plugin.id),
        }
    }
}

#[test]
fn what_a_phone_cannot_do_is_said_of_fields_that_exist() {
    for (plugin, model) in bench::families() {
        let phone = bench::office(plugin, model.as_deref()).phone;
        let settings = serde_json::to_value(&phone.settings).expect("plain data");
        for complaint in plugin.complaints(&phone).unwrap_or_else(|error| panic!("{}: {error}", plugin.id)) {
            let pointer = format!("/{}", complaint.field.replace('.', "/"));
            // `lines.sip.codecs` and such are flattened; raw settings and options stand elsewhere in a phone.
            assert!(
                settings.pointer(&pointer).is_some(),
                "{} complains of {}, which is no setting",
                plugin.id,
                complaint.field
            );
            assert!(!complaint.reason.is_empty(), "{}: {}", plugin.id, complaint.field);
        }
    }
}
