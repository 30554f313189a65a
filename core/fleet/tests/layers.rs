//! From layers to a phone: which layer wins, what is filled in, and where each value says that it comes from.

use std::fs;

use provost_fleet::{Asker, Fleet, Place, ResolveError, Resolved};
use provost_plugin::{
    MacAddr, Scalar, Spec,
    model::{Codec, Identity, KeyKind, Transport},
};

const SPEC: &str = "
vendor: Big Phone
ouis: ['000413']
models:
  Big300: { lines: 4, keys: 8, aliases: [B300] }
  Big7*: { lines: 12 }
options: { sidecar: { default: false, about: x }, colour: { default: blue, about: x } }
files: []
formats: {}
announce: { url: '{base}' }
";

fn fleet(files: &[(&str, &str)]) -> Fleet {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(root.path().join(name), text).unwrap();
    }
    let (fleet, problems) = Fleet::read(root.path(), None);
    let problems: Vec<String> = problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    fleet
}

fn spec() -> Spec {
    Spec::read(SPEC).unwrap()
}

fn asker(mac: &str, model: &str, address: &str) -> Asker {
    let mac: MacAddr = mac.parse().unwrap();
    let identity = Identity {
        mac: Some(mac),
        vendor: Some("BIG".into()),
        model: (!model.is_empty()).then(|| model.into()),
        firmware: Some("1.2".into()),
        ..Identity::default()
    };
    let place = Place {
        address: address.parse().ok(),
        interface: Some("eth1".into()),
        base_url: "http://10.0.0.1:8080/".into(),
    };
    Asker { mac, identity, place }
}

fn resolve(yaml: &str) -> Resolved {
    fleet(&[("a.yaml", yaml)]).resolve(&asker("000413000001", "Big300", "::ffff:10.20.3.4"), &spec()).unwrap()
}

/// `layer:line` of a path.
fn origin(resolved: &Resolved, path: &str) -> String {
    let origin = resolved.origins.of(path).unwrap_or_else(|| panic!("{path} has no origin"));
    match origin.reason {
        Some(reason) => format!("{}: {reason}", origin.layer),
        None => format!("{}:{}", origin.layer, origin.line),
    }
}

#[test]
fn the_stronger_layer_wins_and_every_value_knows_where_it_was_written() {
    let resolved = resolve(
        "defaults:
  custom: { a: defaults, b: defaults, c: defaults, d: defaults, e: defaults, f: defaults, g: defaults, h: defaults, i: defaults }
sites: { berlin: { custom: { b: site, c: site, d: site, e: site, f: site, g: site, h: site, i: site } } }
networks:
  - { cidr: 10.20.0.0/16, site: berlin, custom: { d: narrow, e: narrow, f: narrow, g: narrow, h: narrow, i: narrow } }
  - { cidr: 10.0.0.0/8, custom: { c: wide, d: wide } }
  - { cidr: 10.99.0.0/16, custom: { i: elsewhere } }
  - { interface: eth1, custom: { c: interface } }
  - { interface: eth2, custom: { i: elsewhere } }
vendors: { Big-Phone: { custom: { e: vendor, f: vendor, g: vendor, h: vendor, i: vendor } }, other: { custom: { i: elsewhere } } }
models: { 'Big*': { custom: { f: model, g: model, h: model, i: model } }, Big300: { custom: { g: exact } }, Big9: { custom: { i: elsewhere } } }
profiles:
  base: { custom: { g: base, h: base, i: base } }
  office: { extends: base, custom: { h: office, i: office } }
devices:
  00:04:13:00:00:01: { profile: office, custom: { i: device } }
",
    );
    let custom: Vec<String> = resolved.phone.settings.custom.values().map(Scalar::to_string).collect();
    assert_eq!(custom, ["defaults", "site", "wide", "narrow", "vendor", "model", "base", "office", "device"]);
    for (path, expected) in [
        ("custom.a", "defaults:2"),
        ("custom.b", "site berlin:3"),
        ("custom.c", "network 10.0.0.0/8:6"),
        ("custom.d", "network 10.20.0.0/16:5"),
        ("custom.e", "vendor bigphone:10"),
        ("custom.f", "model Big*:11"),
        ("custom.g", "profile base:13"),
        ("custom.h", "profile office:14"),
        ("custom.i", "device 00:04:13:00:00:01:16"),
    ] {
        assert_eq!(origin(&resolved, path), expected, "{path}");
    }
    assert_eq!(
        resolved.layers.iter().map(|layer| layer.name.as_str()).collect::<Vec<_>>(),
        [
            "defaults",
            "site berlin",
            "network eth1",
            "network 10.0.0.0/8",
            "network 10.20.0.0/16",
            "vendor bigphone",
            "model Big*",
            "model Big300",
            "profile base",
            "profile office",
            "device 00:04:13:00:00:01"
        ]
    );
    assert_eq!(resolved.profile.as_deref(), Some("office"));
}

#[test]
fn lines_grow_by_position_and_take_what_the_sip_section_says() {
    let resolved = resolve(
        "defaults:
  sip: { server: pbx.example.net, transport: udp, codecs: [opus, g722], pickup_code: '*8' }
  lines: [{ ringtone: old }, ~, { number: 300 }]
profiles:
  default:
    sip: { transport: tls }
    lines: [{ auto_answer: false }]
devices:
  000413000001:
    lines:
      - { number: 0049, password: 0123, server: own.example.net, codecs: [pcma], pickup_code: ~ }
      - { position: 4, username: anna, label: Anna, enabled: false }
",
    );
    let lines = &resolved.phone.settings.lines;
    assert_eq!(lines.iter().map(|line| line.position.unwrap()).collect::<Vec<_>>(), [1, 3, 4]);
    let first = &lines[0];
    assert_eq!(first.number.as_deref(), Some("0049"), "leading zeros are part of a number");
    assert_eq!(first.password.as_ref().unwrap().expose(), "0123");
    assert_eq!((first.ringtone.as_deref(), first.auto_answer, first.enabled), (Some("old"), Some(false), Some(true)));
    assert_eq!((first.sip.server.as_deref(), first.sip.transport), (Some("own.example.net"), Some(Transport::Tls)));
    assert_eq!(first.sip.codecs, Some(vec![Codec::Pcma]), "a list replaces");
    assert_eq!(first.sip.pickup_code, None, "nothing written takes the weaker value away");
    assert_eq!(
        [&first.username, &first.auth_username, &first.label, &first.display_name].map(|text| text.as_deref()),
        [Some("0049"); 4]
    );
    assert_eq!(
        (lines[2].number.as_deref(), lines[2].display_name.as_deref(), lines[2].enabled),
        (Some("anna"), Some("Anna"), Some(false))
    );
    assert_eq!(lines[1].sip.server.as_deref(), Some("pbx.example.net"));
    for (path, expected) in [
        ("lines.0.password", "device 00:04:13:00:00:01:11"),
        ("lines.0.ringtone", "defaults:3"),
        ("lines.0.transport", "profile default:6"),
        ("lines.1.server", "defaults:2"),
        ("lines.1.number", "defaults:3"),
        ("lines.0.label", "default: the line's number"),
        ("lines.2.number", "default: the line's username"),
        ("lines.0.enabled", "default: a line that is there is on"),
        ("lines.2", "device 00:04:13:00:00:01:12"),
        ("lines.0.dial_plan", "device 00:04:13:00:00:01:11"),
    ] {
        assert_eq!(origin(&resolved, path), expected, "{path}");
    }
    assert!(resolved.origins.of("vlan.voice.id").is_none());
    assert!(resolved.origins.iter().any(|(path, origin)| path == "lines.0.password" && origin.line == 11));
}

#[test]
fn keys_are_replaced_whole_and_modules_and_handsets_grow() {
    let resolved = resolve(
        "defaults:
  keys: [{ kind: blf, value: 200, label: Reception }, { kind: dnd }, { kind: hold }]
  expansion: [{ keys: [{ kind: blf, value: 1 }, { kind: blf, value: 2 }] }]
  dect: { handsets: [{ name: a, line: 1 }] }
devices:
  000413000001:
    keys: [{ kind: line }, { position: 3, kind: none }, { kind: url, line: 2 }]
    expansion: [~, { keys: [{ position: 2, kind: dnd }] }]
    dect: { handsets: [{ line: 2 }, { name: b }] }
",
    );
    let settings = &resolved.phone.settings;
    let keys: Vec<_> = settings.keys.iter().map(|key| (key.position.unwrap(), key.kind, key.line.unwrap())).collect();
    assert_eq!(keys, [(1, KeyKind::Line, 1), (2, KeyKind::Dnd, 1), (3, KeyKind::None, 1), (4, KeyKind::Url, 2)]);
    assert_eq!(
        (&settings.keys[0].value, &settings.keys[0].label),
        (&None, &None),
        "nothing of the replaced key remains"
    );
    assert_eq!(settings.expansion[0].keys.len(), 2);
    assert_eq!(settings.expansion[1].keys[0].position, Some(2));
    let handsets: Vec<_> =
        settings.dect.handsets.iter().map(|handset| (handset.name.as_deref(), handset.line)).collect();
    assert_eq!(handsets, [(Some("a"), Some(2)), (Some("b"), None)]);
    assert_eq!(origin(&resolved, "keys.1.kind"), "defaults:2");
    assert_eq!(origin(&resolved, "keys.2.kind"), "device 00:04:13:00:00:01:7");
    assert_eq!(origin(&resolved, "keys.1.line"), "default: the first line");
    assert_eq!(origin(&resolved, "expansion.1.keys.0.value"), "device 00:04:13:00:00:01:8");
}

#[test]
fn a_list_that_replaces_may_stand_in_every_layer() {
    let resolved = resolve(
        "defaults:
  time: { ntp: [a, b] }
  phonebook: { remote: [{ url: 'http://a/' }, { url: 'http://b/' }] }
sites: { s: { time: { ntp: [c] }, phonebook: { remote: [{ name: x, url: 'http://c/' }] } } }
devices: { 000413000001: { site: s, identity: { vendor: Big Phone }, time: { ntp: [d, e, f] } } }
",
    );
    let settings = &resolved.phone.settings;
    assert_eq!(settings.time.ntp, ["d", "e", "f"]);
    let urls: Vec<_> = settings.phonebook.remote.iter().filter_map(|remote| remote.url.as_deref()).collect();
    assert_eq!(urls, ["http://c/"]);
    assert_eq!(origin(&resolved, "phonebook.remote.0.name"), "site s:4");
}

#[test]
fn what_templates_count_on_is_there() {
    let resolved = resolve(
        "defaults:
  time: { zone: europe/berlin }
  firmware_update: { url: /big/fw 1.bin }
  display: { wallpaper: 'tftp://10.0.0.9/w.png' }
  audio: { ringtone: /rings/bell 1.wav }
  lines: [{ number: 1, ringtone: Ringer2 }]
  phonebook: { remote: [{ url: 'book/{mac}.xml' }, { name: x }] }
  vendor: { bigphone: { back.light: 15, P270: 0049, on: true, off: no, f: 1.50 }, other: { x: 1 } }
  options: { Big-Phone: { sidecar: true }, other: { x: 1 } }
devices: { 000413000001: { identity: { vendor: Big Phone, model: b300 }, vendor: { BIGPHONE: { back.light: 16 } } } }
",
    );
    let phone = &resolved.phone;
    assert_eq!(
        (phone.vendor.as_str(), phone.model.as_deref(), phone.firmware.as_deref()),
        ("bigphone", Some("Big300"), Some("1.2"))
    );
    assert_eq!(phone.capabilities.lines, 4);
    assert_eq!(phone.zone.as_ref().unwrap().posix, "CET-1CEST,M3.5.0,M10.5.0/3");
    assert_eq!(phone.settings.provisioning.url.as_deref(), Some("http://10.0.0.1:8080/"));
    assert_eq!(phone.settings.firmware_update.url.as_deref(), Some("http://10.0.0.1:8080/big/fw%201.bin"));
    assert_eq!(phone.settings.display.wallpaper.as_deref(), Some("tftp://10.0.0.9/w.png"));
    assert_eq!(phone.settings.phonebook.remote[0].url.as_deref(), Some("http://10.0.0.1:8080/book/{mac}.xml"));
    assert_eq!(phone.settings.audio.ringtone.as_deref(), Some("http://10.0.0.1:8080/rings/bell%201.wav"));
    assert_eq!(phone.settings.lines[0].ringtone.as_deref(), Some("Ringer2"), "a name that the phone knows");
    let raw: Vec<String> = phone.raw.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(raw, ["P270=0049", "back.light=16", "f=1.50", "off=no", "on=1"]);
    let switches: Vec<String> = phone.switches.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(switches, ["colour=blue", "sidecar=1"]);
    assert_eq!(phone.to_json()["vendor"], "bigphone", "a template's phone.vendor is the name, not the raw settings");
    assert_eq!(origin(&resolved, "vendor.bigphone.back.light"), "device 00:04:13:00:00:01:10");
    assert_eq!(origin(&resolved, "vendor.bigphone.P270"), "defaults:8");
    assert_eq!(origin(&resolved, "provisioning.url"), "default: this server as the phone reaches it");
    let text = serde_json::to_string(phone).unwrap();
    assert_eq!(
        serde_json::from_str::<provost_plugin::Phone>(&text).unwrap(),
        *phone,
        "a phone crosses to a library and back"
    );
}

#[test]
fn an_explicit_word_about_a_phone_stands_before_what_it_says() {
    let fleet = fleet(&[(
        "a.yaml",
        "devices:
  000413000001: { identity: { vendor: other } }
  000413000002: { enabled: false, label: Hall }
  000413000003: { identity: { model: Big300 } }
",
    )]);
    let ask = |mac: &str| fleet.resolve(&asker(mac, "OEM", "10.0.0.5"), &spec());
    assert!(
        matches!(ask("000413000001").unwrap_err(), ResolveError::OtherVendor { line: 2, stated, .. } if stated == "other")
    );
    assert!(matches!(ask("000413000002").unwrap_err(), ResolveError::Disabled { line: 3, .. }));
    assert_eq!(ask("000413000003").unwrap().phone.model.as_deref(), Some("Big300"));
    assert_eq!(ask("000413000009").unwrap_err().to_string(), "00:04:13:00:00:09 is in no profile file");
    assert_eq!(fleet.device("000413000002".parse().unwrap()).unwrap().to_string(), "00:04:13:00:00:02 (Hall)");
}

#[test]
fn a_device_without_a_profile_takes_the_narrowest_that_fits() {
    let yaml = |more: &str| format!("profiles:\n  default: {{}}\n{more}devices: {{ 000413000001: {{}} }}\n");
    let vendor = "  by-vendor: { match: { vendor: Big-phone } }\n";
    let model = "  by-model: { match: { model: 'Big*' } }\n";
    let longer = "  longer: { match: { model: 'big3*' } }\n";
    let mac = "  by-mac: { match: { mac: '00:04:13' } }\n";
    let longer_mac = "  a-longer-mac: { match: { mac: '00041300' } }\n";
    let network = "  by-network: { match: { network: 10.0.0.0/8 } }\n";
    let narrower = "  a-narrower: { match: { network: 10.20.0.0/16 } }\n";
    let two = "  two: { match: { vendor: bigphone, network: 10.0.0.0/8 } }\n";
    let wrong = "  wrong: { match: { vendor: bigphone, model: 'Big3*', mac: '000414' } }\n";
    let tie = "  another-vendor: { match: { vendor: bigphone } }\n";
    for (profiles, expected) in [
        (String::new(), "default"),
        (wrong.to_owned(), "default"),
        (format!("{vendor}{wrong}"), "by-vendor"),
        (format!("{vendor}{model}"), "by-model"),
        (format!("{model}{longer}{vendor}"), "longer"),
        (format!("{mac}{longer_mac}"), "a-longer-mac"),
        (format!("{network}{narrower}"), "a-narrower"),
        (format!("{longer}{longer_mac}{narrower}{two}"), "two"),
        (format!("{vendor}{tie}"), "another-vendor"),
    ] {
        assert_eq!(resolve(&yaml(&profiles)).profile.as_deref(), Some(expected), "{profiles}");
    }
    assert_eq!(resolve("devices: { 000413000001: {} }\n").profile, None);
}

#[test]
fn the_site_is_the_devices_then_the_profiles_then_the_networks() {
    let yaml = |device: &str, profile: &str, base: &str| {
        format!(
            "sites: {{ one: {{ custom: {{ s: 1 }} }}, two: {{ custom: {{ s: 2 }} }}, three: {{ custom: {{ s: 3 }} }}, four: {{ custom: {{ s: 4 }} }} }}
networks: [{{ cidr: 10.0.0.0/8, site: three }}, {{ cidr: 10.20.0.0/16, site: four }}]
profiles: {{ base: {{ {base} }}, p: {{ extends: base, {profile} }} }}
devices: {{ 000413000001: {{ profile: p, {device} }} }}
"
        )
    };
    for (device, profile, base, site) in [
        ("site: one", "site: two", "site: three", "1"),
        ("", "site: two", "site: three", "2"),
        ("", "", "site: three", "3"),
        ("", "", "", "4"),
    ] {
        assert_eq!(resolve(&yaml(device, profile, base)).phone.settings.custom["s"].to_string(), site);
    }
}

#[test]
fn an_empty_section_says_nothing_but_an_empty_value_takes_away() {
    let resolved = resolve(
        "defaults: { sip: { server: pbx }, time: { ntp: [a], zone: UTC }, vlan: { voice: { id: 5 } } }
devices:
  000413000001:
    sip:
    time: { ntp: , zone: }
    vlan: { voice: { id: null } }
",
    );
    let settings = &resolved.phone.settings;
    assert_eq!((settings.sip.server.as_deref(), &settings.time.ntp[..]), (Some("pbx"), &["a".to_owned()][..]));
    assert_eq!((settings.time.zone.as_deref(), settings.vlan.voice.as_ref().and_then(|vlan| vlan.id)), (None, None));
}

#[test]
fn yaml_anchors_and_merge_keys_lead_to_the_line_where_the_value_stands() {
    let resolved = resolve(
        "defaults:
  sip: &pbx { server: pbx.example.net, port: 05060 }
devices:
  000413000001:
    lines:
      - <<: *pbx
        port: 5070
        number: &number 0100
      - { number: 2, username: *number, port: \"5080\" }
",
    );
    let lines = &resolved.phone.settings.lines;
    assert_eq!((lines[0].sip.server.as_deref(), lines[0].sip.port), (Some("pbx.example.net"), Some(5070)));
    assert_eq!((lines[1].username.as_deref(), lines[1].sip.port), (Some("0100"), Some(5080)));
    assert_eq!(resolved.phone.settings.sip.port, Some(5060));
    assert_eq!(resolved.origins.of("lines.0.server").unwrap().line, 2);
    assert_eq!(resolved.origins.of("lines.1.username").unwrap().line, 8);
}

#[test]
fn a_common_file_knows_the_place_and_the_model_but_nobody_and_no_secret() {
    let fleet = fleet(&[(
        "a.yaml",
        "defaults:
  access: { admin: { username: admin, password: s3cret }, lock_pin: 1234 }
  provisioning: { username: prov, password: s3cret }
  phonebook: { remote: [{ url: a.xml, password: s3cret }], ldap: { password: s3cret, server: ldap } }
  dect: { access_code: 1234 }
  lines: [{ number: 1, password: s3cret }]
  keys: [{ kind: blf }]
  expansion: [{ keys: [{ kind: blf }] }]
  vendor: { bigphone: { P2: s3cret } }
  sip: { server: pbx }
models: { Big300: { audio: { ring_volume: 40 } } }
sites: { berlin: { time: { zone: Europe/Berlin } } }
networks: [{ cidr: 10.0.0.0/8, site: berlin }]
profiles: { default: { locale: { tones: DE } } }
devices: { 000413000001: {} }
",
    )]);
    let Asker { place, .. } = asker("000413000001", "", "10.1.1.1");
    let common = fleet.common(&place, &spec(), Some("B300")).unwrap();
    let phone = &common.phone;
    assert_eq!((phone.mac, phone.model.as_deref(), common.profile.as_deref()), (None, Some("Big300"), None));
    let settings = &phone.settings;
    assert_eq!((settings.sip.server.as_deref(), settings.audio.ring_volume), (Some("pbx"), Some(40)));
    assert_eq!((settings.access.admin.username.as_deref(), &settings.access.admin.password), (Some("admin"), &None));
    assert_eq!(settings.phonebook.remote[0].url.as_deref(), Some("http://10.0.0.1:8080/a.xml"));
    assert_eq!(settings.locale.tones, None, "profiles are for devices");
    assert_eq!(phone.zone.as_ref().unwrap().name, "Europe/Berlin");
    assert!(
        settings.lines.is_empty() && settings.keys.is_empty() && settings.expansion.is_empty() && phone.raw.is_empty()
    );
    let text = phone.to_json().to_string();
    assert!(!text.contains("s3cret") && !text.contains("1234"), "{text}");
}

#[test]
fn the_same_question_gets_the_same_answer() {
    let files = [
        (
            "b.yaml",
            "defaults: { sip: { server: b } }\nmodels: { 'B*': { custom: { x: 1 } }, '*0': { custom: { x: 2 } } }\n",
        ),
        ("a.yaml", "defaults: { sip: { server: a } }\ndevices: { 000413000001: { lines: [{ number: 1 }] } }\n"),
    ];
    let first = fleet(&files).resolve(&asker("000413000001", "Big300", "10.0.0.1"), &spec()).unwrap();
    assert_eq!(first.phone.settings.sip.server.as_deref(), Some("b"), "the later path counts");
    for _ in 0..20 {
        let again = fleet(&files).resolve(&asker("000413000001", "Big300", "10.0.0.1"), &spec()).unwrap();
        assert_eq!(again.phone.to_json().to_string(), first.phone.to_json().to_string());
    }
}
