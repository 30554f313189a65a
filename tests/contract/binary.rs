//! The old binary file: the same values as in the XML, and the bytes that public encoders write.

use std::fs;

use provost_fleet::{Asker, Fleet, Place};
use provost_host::{Limits, Shelf};
use provost_plugin::model::Identity;
use provost_tests::repository;

use crate::{bench, readers};

#[test]
fn the_binary_file_says_what_the_xml_says() {
    let mut compared = 0;
    for (plugin, model) in bench::families() {
        let phone = bench::office(plugin, model.as_deref()).phone;
        let files = bench::own_files(plugin, &phone);
        let (binary, texts): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|(file, _)| plugin.spec.files[*file].template.is_none());
        let body =
            |file: usize| plugin.render(file, &phone).unwrap_or_else(|error| panic!("{}: {error}", plugin.id)).body;
        for (file, name) in binary {
            let (mac, values) = readers::binary(&body(file)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(Some(mac), phone.mac, "{name}");
            let text = String::from_utf8(body(texts[0].0)).expect("XML is text");
            let xml: readers::Settings = readers::xml(&text)
                .expect("well-formed")
                .into_iter()
                .filter_map(|(path, value)| Some((path.strip_prefix("/gs_provision/config/")?.to_owned(), value)))
                .collect();
            assert!(values.len() > 20, "{name} holds only {values:?}");
            assert_eq!(values, xml, "{name}");
            compared += 1;
        }
    }
    assert!(compared > 0, "no plugin has a binary file any more; then this module and its reader can go");
}

/// A site that wants these values and no others, in this order, says so with a template of its own.
const SITE: &str = "\
<gs_provision version=\"1\"><config version=\"1\">
{% for line in phone.lines %}
<P271>{{ line.enabled }}</P271>
<P47>{{ line.server }}</P47>
<P35>{{ line.username }}</P35>
<P36>{{ line.auth_username }}</P36>
<P34>{{ line.password }}</P34>
{% endfor %}
<P2>{{ phone.access.admin.password }}</P2>
</config></gs_provision>
";

#[test]
fn the_known_binary_file_comes_out_of_a_profile_byte_for_byte() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let profiles = data.path().join("profiles");
    let overrides = data.path().join("overrides/grandstream");
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(&profiles)?;
        fs::create_dir_all(&overrides)?;
        fs::write(overrides.join("config.xml.j2"), SITE)?;
        fs::write(
            profiles.join("one.yaml"),
            "devices:\n  00:0b:82:27:3b:89:\n    identity: { model: GXP2160 }\n    sip: { server: 192.0.2.10 }\n    \
             lines: [{ number: 1001, password: s3cret & co }]\n    access: { admin: { password: admin } }\n    \
             options: { grandstream: { binary: true } }\n",
        )
    };
    write().expect("a temporary directory");
    let (shelf, problems) = Shelf::build(&bench::places(data.path()), None, Limits::default(), None);
    assert!(problems.is_empty(), "{problems:?}");
    let (fleet, problems) = Fleet::read(&profiles, None);
    assert!(problems.is_empty(), "{problems:?}");

    let (mac, device) = fleet.devices().next().expect("a device");
    let identity = Identity { mac: Some(mac), ..Identity::default() };
    let plugin = shelf.choose(&identity, device.stated_vendor()).expect("its MAC says whose it is").plugin;
    let place = Place { base_url: "http://192.0.2.1:8080/".into(), ..Place::default() };
    let phone = fleet.resolve(&Asker { mac, identity, place }, &plugin.spec).expect("a phone").phone;
    let (file, _) = bench::own_files(&plugin, &phone)
        .into_iter()
        .find(|(_, name)| name == "cfg000b82273b89")
        .expect("it is offered");
    let known = fs::read(repository().join("tests/captures/cfg000b82273b89")).expect("a capture");
    assert_eq!(plugin.render(file, &phone).expect("a file").body, known);
}
