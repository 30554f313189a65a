//! The plugins in service, and phones for them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use provost_fleet::{Asker, Fleet, Place, Resolved};
use provost_host::{InService, Limits, Places, Shelf};
use provost_plugin::{
    MacAddr, Phone, Scalar, Secret,
    model::{Book, Entry, Identity, Number, NumberKind},
    offers,
    spec::{FileKind, FileSpec},
};
use provost_tests::{built, repository};

/// A MAC that belongs to nobody: whose phone it is, the profile states.
pub(crate) const MAC: MacAddr = MacAddr::new([0x02, 0, 0x5e, 0, 0, 1]);

/// Every setting that takes text, and each a value that is found nowhere else.
const OFFICE: &str = "
sip:
  server: pbx.example.net
  port: 5060
  backup_server: pbx2.example.net
  outbound_proxy: sbc.example.net
  transport: tcp
  expires: 600
  codecs: [g722, pcma, pcmu]
  dtmf: rfc4733
  srtp: optional
  voicemail: '*97'
  mwi: true
  pickup_code: '*8'
time: { zone: Europe/Berlin, ntp: [192.0.2.1, 192.0.2.2], hours: 24h, date: dmy }
locale: { language: de, tones: DE }
vlan: { voice: { id: 20, priority: 5 }, pc: { id: 30, priority: 1 }, lldp: true }
qos: { sip_dscp: 26, rtp_dscp: 46 }
access: { admin: { username: admin, password: password-admin }, user: { username: user, password: password-user }, lock_pin: password-pin }
provisioning: { username: phones, password: password-provisioning, refresh: 3600, pnp: true }
firmware_update: { url: fw/phone.bin }
phonebook:
  remote: [{ name: Company, url: 'http://192.0.2.5/phonebook.xml', username: book, password: password-book }]
  ldap: { server: ldap.example.net, base: 'dc=example,dc=net', username: reader, password: password-ldap }
syslog: { server: 192.0.2.9, level: info }
dect: { access_code: '9357' }
lines:
  - { number: 101, label: Front, display_name: Anna Berg, auth_username: auth101, password: password-one }
  - { number: 102, password: password-two }
keys:
  - { kind: line }
  - { kind: speed_dial, value: '301', label: Home }
  - { kind: blf, value: '302', label: Ben }
  - { kind: park, value: '701' }
";

/// What the server itself needs, and no more.
const BARE: &str = "sip: { server: pbx.example.net }";

/// The plugins of the repository, libraries included.
pub(crate) fn shelf() -> &'static Shelf {
    static SHELF: OnceLock<Shelf> = OnceLock::new();
    SHELF.get_or_init(|| {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let (shelf, problems) = Shelf::build(&places(scratch.path()), None, Limits::default(), None);
        assert!(problems.is_empty(), "{problems:?}");
        assert!(shelf.plugins().any(|plugin| plugin.is_library()), "no plugin came with its library");
        shelf
    })
}

/// Where the repository keeps plugins; what a site adds is below `data`.
pub(crate) fn places(data: &Path) -> Places {
    Places {
        plugins: vec![repository().join("plugins")],
        libraries: built().provost.parent().map(PathBuf::from).into_iter().collect(),
        templates: repository().join("templates"),
        overrides: data.join("overrides"),
        staged: data.join("staged"),
        ..Places::default()
    }
}

/// A device in an office with everything set, in all files that switches can add.
pub(crate) fn office(plugin: &InService, model: Option<&str>) -> Resolved {
    resolve(plugin, model, OFFICE)
}

/// A device of which nobody said anything.
pub(crate) fn bare(plugin: &InService, model: Option<&str>) -> Resolved {
    resolve(plugin, model, BARE)
}

fn resolve(plugin: &InService, model: Option<&str>, settings: &str) -> Resolved {
    let asker = Asker {
        mac: MAC,
        identity: Identity { model: model.map(str::to_owned), ..Identity::default() },
        place: place(),
    };
    fleet(plugin, settings)
        .resolve(&asker, &plugin.spec)
        .unwrap_or_else(|error| panic!("{} {model:?}: {error}", plugin.id))
}

/// The phone that a file of many phones is rendered for.
pub(crate) fn common(plugin: &InService, model: Option<&str>) -> Phone {
    fleet(plugin, OFFICE)
        .common(&place(), &plugin.spec, model)
        .unwrap_or_else(|error| panic!("{}: {error}", plugin.id))
        .phone
}

fn place() -> Place {
    Place { address: None, interface: None, base_url: "http://192.0.2.1:8080/".into() }
}

fn fleet(plugin: &InService, settings: &str) -> Fleet {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // Switches that are off by default add files.
    let switches: Vec<String> = plugin
        .spec
        .options
        .iter()
        .filter(|(_, switch)| matches!(switch.default, Scalar::Bool(false)))
        .map(|(name, _)| format!("{name}: true"))
        .collect();
    let indented = settings.replace('\n', "\n  ");
    let yaml = format!(
        "defaults:\n  {indented}\n  options: {{ {}: {{ {} }} }}\ndevices:\n  \"{MAC}\": {{ identity: {{ vendor: {} }} }}\n",
        plugin.id,
        switches.join(", "),
        plugin.id,
    );
    fs::write(directory.path().join("profiles.yaml"), &yaml).expect("a file in a temporary directory");
    let (fleet, problems) = Fleet::read(directory.path(), None);
    assert!(problems.is_empty(), "{problems:?}\n{yaml}");
    fleet
}

/// A name that a phone of this row of the models table could have.
pub(crate) fn designation(row: &str) -> String {
    // A digit, because phones are told apart by number; a row for all models gets a word that no other row begins with.
    if row == "*" { "UNHEARD1".into() } else { row.replace('*', "9") }
}

/// One model of each family of each vendor, and a phone of which nobody knows the model.
pub(crate) fn families() -> Vec<(&'static Arc<InService>, Option<String>)> {
    let mut families = Vec::new();
    for plugin in shelf().plugins() {
        let mut seen = std::collections::BTreeSet::new();
        families.push((plugin, None));
        for (row, model) in &plugin.spec.models {
            if seen.insert(model.family.clone()) {
                families.push((plugin, Some(designation(row))));
            }
        }
    }
    families
}

/// The files that a phone may fetch: index into the plugin's files, name, and the phone as that file may know it.
pub(crate) fn offered(plugin: &InService, phone: &Phone) -> Vec<(usize, String, Phone)> {
    plugin
        .spec
        .files
        .iter()
        .enumerate()
        .filter(|(_, file)| offers(file, phone))
        .filter_map(|(index, file)| {
            let name = file.name.expand_for(Some("sample"), phone.mac, phone.model.as_deref(), &phone.capabilities)?;
            file.name.capture(&name, &plugin.spec.models)?;
            let seen = match file.kind {
                FileKind::Common => common(plugin, phone.model.as_deref()),
                FileKind::Directory => Phone { book: Some(Arc::new(book())), ..common(plugin, phone.model.as_deref()) },
                FileKind::Device | FileKind::Firmware => phone.clone(),
            };
            Some((index, name, seen))
        })
        .collect()
}

/// A list of two, one of whom has everything.
fn book() -> Book {
    let number = |kind, number: &str| Number { kind, number: number.into() };
    let anna = Entry {
        name: "Anna Berg".into(),
        first: Some("Anna".into()),
        last: Some("Berg".into()),
        numbers: vec![number(NumberKind::Work, "101"), number(NumberKind::Mobile, "+4915123")],
        group: Some("Sales".into()),
        email: Some("anna@example.net".into()),
    };
    let door = Entry { name: "Door".into(), numbers: vec![number(NumberKind::Home, "102")], ..Entry::default() };
    Book { name: "sample".into(), title: "Sample".into(), entries: vec![anna, door] }
}

/// The same without the files that many phones share.
pub(crate) fn own_files(plugin: &InService, phone: &Phone) -> Vec<(usize, String)> {
    let own = |file: &FileSpec| file.kind == FileKind::Device;
    offered(plugin, phone)
        .into_iter()
        .filter(|(index, ..)| own(&plugin.spec.files[*index]))
        .map(|(index, name, _)| (index, name))
        .collect()
}

/// Every password of a phone, by the name of its field.
pub(crate) fn passwords(phone: &Phone) -> Vec<(String, String)> {
    fn walk(masked: &serde_json::Value, shown: &serde_json::Value, at: &str, found: &mut Vec<(String, String)>) {
        use serde_json::Value::{Array, Object, String};
        match (masked, shown) {
            (Object(masked), Object(shown)) => {
                masked.iter().for_each(|(name, value)| walk(value, &shown[name], &format!("{at}.{name}"), found));
            }
            (Array(masked), Array(shown)) => {
                masked
                    .iter()
                    .zip(shown)
                    .enumerate()
                    .for_each(|(index, (masked, shown))| walk(masked, shown, &format!("{at}.{index}"), found));
            }
            (String(masked), String(shown)) if masked != shown => {
                found.push((at.trim_start_matches('.').to_owned(), shown.clone()))
            }
            _ => {}
        }
    }
    let masked = serde_json::to_value(phone).expect("a phone is plain data");
    let shown = Secret::exposed(|| serde_json::to_value(phone)).expect("a phone is plain data");
    let mut found = Vec::new();
    walk(&masked, &shown, "", &mut found);
    found
}
