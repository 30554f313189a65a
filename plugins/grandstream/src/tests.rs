//! What the phones get, from the profile's words to the bytes: every documented model group, hostile values, raw settings.

use std::{collections::BTreeMap, io::Write, path::Path, process::Stdio, sync::Arc};

use provost_plugin::{
    Secret,
    model::{
        Changeover, Codec, Credentials, DateFormat, DstRule, Dtmf, ExpansionModule, FunctionKey, HourFormat, Identity,
        KeyKind, Line, RemotePhonebook, Sip, Srtp, SyslogLevel, Transport, VlanPort, Zone,
    },
    switches,
    templates::Templates,
    testing,
};

use super::*;

const HOSTILE: &str = "s3<&>\"';#=%\\ä &P2=owned";

fn plugin() -> (Grandstream, Arc<Templates>) {
    let plugin = Grandstream::from(Spec::read(include_str!("../vendor.yaml")).unwrap());
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../templates/grandstream");
    let templates = testing::templates(&plugin, &directory);
    (plugin, templates)
}

fn line(position: u16) -> Line {
    let number = format!("10{position}");
    Line {
        position: Some(position),
        enabled: Some(true),
        label: Some(format!("Line {position}")),
        number: Some(number.clone()),
        username: Some(number.clone()),
        auth_username: Some(number),
        password: Some(Secret::new(HOSTILE)),
        display_name: Some("Anna <Berg>".into()),
        auto_answer: Some(false),
        sip: Sip {
            server: Some("pbx.example.net".into()),
            port: Some(5070),
            backup_server: Some("pbx2.example.net".into()),
            outbound_proxy: Some("proxy.example.net".into()),
            transport: Some(Transport::Tls),
            expires: Some(601),
            retry: Some(30),
            keepalive: Some(25),
            srtp: Some(Srtp::Optional),
            dtmf: Some(Dtmf::Auto),
            codecs: Some(vec![Codec::Opus, Codec::G722, Codec::Pcma]),
            voicemail: Some("*97".into()),
            mwi: Some(true),
            pickup_code: Some("**".into()),
            session_timers: Some(true),
            dial_plan: Some("{ x+ | *x+ }".into()),
            conference_uri: Some("sip:conf@example.net".into()),
            blf_list_uri: Some("list1".into()),
            ..Sip::default()
        },
        ..Line::default()
    }
}

fn key(position: u16, kind: KeyKind, value: &str) -> FunctionKey {
    let value = (!value.is_empty()).then(|| value.to_owned());
    FunctionKey {
        position: Some(position),
        kind,
        value,
        label: Some(format!("K{position}")),
        line: Some(2),
        pickup: None,
        locked: None,
    }
}

fn keys() -> Vec<FunctionKey> {
    use KeyKind::*;
    let kinds = [
        Line, SharedLine, Blf, SpeedDial, Intercom, Park, Voicemail, Dtmf, Transfer, CallReturn, Ldap, History,
        Conference, None, Menu,
    ];
    kinds.into_iter().zip(1..).map(|(kind, position)| key(position, kind, "200")).collect()
}

fn phone(plugin: &Grandstream, model: &str) -> Phone {
    let (name, capabilities) = plugin.spec.model(model).unwrap();
    let change = |month, time| Changeover { month, week: 5, weekday: 0, time };
    let mut phone = Phone {
        mac: Some("00:0b:82:27:3b:89".parse().unwrap()),
        vendor: "grandstream".into(),
        model: Some(name.to_owned()),
        base_url: "http://10.20.0.5:8080/".into(),
        capabilities: capabilities.clone(),
        zone: Some(Zone {
            name: "Europe/Berlin".into(),
            utc_offset: 3600,
            abbreviation: "CET".into(),
            dst: Some(DstRule {
                abbreviation: "CEST".into(),
                save: 3600,
                start: change(3, 7200),
                end: change(10, 10800),
            }),
            posix: "CET-1CEST,M3.5.0,M10.5.0/3".into(),
        }),
        switches: switches(&plugin.spec, &BTreeMap::new()),
        ..Phone::default()
    };
    let settings = &mut phone.settings;
    settings.lines = vec![line(1), line(2)];
    settings.keys = keys();
    settings.expansion = vec![ExpansionModule { keys: vec![key(3, KeyKind::Blf, "203")] }];
    settings.time.ntp = vec!["192.0.2.1".into(), "192.0.2.2".into()];
    settings.time.date = Some(DateFormat::DayMonthYear);
    settings.time.hours = Some(HourFormat::TwentyFour);
    settings.locale.language = Some("pt-BR".into());
    settings.vlan.voice = Some(VlanPort { id: Some(20), priority: Some(5) });
    settings.vlan.pc = Some(VlanPort { id: Some(30), priority: None });
    settings.vlan.lldp = Some(true);
    settings.qos.sip_dscp = Some(26);
    settings.network.dns = vec!["192.0.2.53".into()];
    settings.network.hostname = Some("anna".into());
    settings.access.admin = Credentials { username: None, password: Some(Secret::new("4dm1n")) };
    settings.access.user.password = Some(Secret::new("us3r"));
    settings.access.web.https = Some(true);
    settings.access.lock_pin = Some(Secret::new("1234"));
    settings.provisioning.url = Some("http://10.20.0.5:8080/t0ken/".into());
    settings.provisioning.username = Some("prov".into());
    settings.provisioning.password = Some(Secret::new("pr0v"));
    settings.provisioning.refresh = Some(86400);
    settings.provisioning.pnp = Some(true);
    settings.provisioning.on_boot = Some(true);
    settings.firmware_update.url = Some("http://10.20.0.5:8080/assets/gs/fw.bin".into());
    settings.phonebook.remote = vec![
        RemotePhonebook {
            url: Some("https://10.20.0.5/books/phonebook.xml".into()),
            refresh: Some(60),
            ..RemotePhonebook::default()
        },
        RemotePhonebook {
            name: Some("Sales".into()),
            url: Some("https://10.20.0.5/sales.xml".into()),
            ..RemotePhonebook::default()
        },
    ];
    settings.phonebook.ldap.server = Some("ldap.example.net".into());
    settings.phonebook.ldap.base = Some("dc=example,dc=net".into());
    settings.phonebook.ldap.name_filter = Some("(|(cn=%)(sn=%))".into());
    settings.phonebook.ldap.name_attributes = vec!["cn".into(), "sn".into()];
    settings.codes.dnd_on = Some("*78".into());
    settings.codes.forward_always_on = Some("*72".into());
    settings.syslog.server = Some("192.0.2.9".into());
    settings.syslog.level = Some(SyslogLevel::Debug);
    settings.display.brightness = Some(50);
    settings.display.backlight_timeout = Some(90);
    settings.audio.ring_volume = Some(50);
    phone
}

fn render(plugin: &Grandstream, templates: &Arc<Templates>, file: &str, phone: &Phone) -> Vec<u8> {
    let rendered = testing::render(plugin, templates, file, phone).unwrap_or_else(|error| panic!("{file}: {error}"));
    rendered.body
}

fn render_xml(plugin: &Grandstream, templates: &Arc<Templates>, phone: &Phone) -> String {
    String::from_utf8(render(plugin, templates, "cfg000b82273b89.xml", phone)).unwrap()
}

/// Setting → value, as an XML parser reads them; a name that stands twice is an error.
fn settings_of(xml: &str) -> BTreeMap<String, String> {
    let document = roxmltree::Document::parse(xml).unwrap();
    let config = document.descendants().find(|node| node.has_tag_name("config")).unwrap();
    let mut settings = BTreeMap::new();
    for node in config.children().filter(roxmltree::Node::is_element) {
        let name = node.attribute("name").unwrap_or(node.tag_name().name()).to_owned();
        let twice = settings.insert(name.clone(), node.text().unwrap_or_default().to_owned());
        assert_eq!(twice, None, "{name} stands twice");
    }
    settings
}

#[track_caller]
fn assert_has(settings: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(settings.get(*name).map(String::as_str), Some(*value), "{name}");
    }
}

const MODELS: [&str; 11] = [
    "GXP1610", "GXP1628", "GXP1760", "GXP2140", "GXP2160", "GXP2170", "GRP2612W", "GRP2614", "GHP621", "HT802",
    "GXV3380",
];

#[test]
fn what_a_profile_says_arrives_as_p_values() {
    let (plugin, templates) = plugin();
    let xml = render_xml(&plugin, &templates, &phone(&plugin, "GXP2160"));
    assert!(
        xml.starts_with(
            "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<gs_provision version=\"1\">\n<mac>000b82273b89</mac>\n"
        ),
        "{xml}"
    );
    assert!(xml.contains("<config version=\"1\">"));
    let settings = settings_of(&xml);
    assert_has(
        &settings,
        &[
            ("P271", "1"),
            ("P270", "Line 1"),
            ("P47", "pbx.example.net:5070"),
            ("P2312", "pbx2.example.net"),
            ("P48", "proxy.example.net"),
            ("P35", "101"),
            ("P36", "101"),
            ("P34", HOSTILE),
            ("P3", "Anna <Berg>"),
            ("P33", "*97"),
            ("P32", "11"),
            ("P130", "2"),
            ("P183", "1"),
            ("P99", "1"),
            ("P52", "2"),
            ("P84", "25"),
            ("P2301", "0"),
            ("P2302", "1"),
            ("P2303", "1"),
            ("P401", "1"),
            ("P404", "102"),
            ("P406", HOSTILE),
            ("P448", "2"),
            ("P481", "**"),
            ("P459", "{ x+ | *x+ }"),
            // Choices that nobody filled repeat the last.
            ("P57", "123"),
            ("P58", "9"),
            ("P59", "8"),
            ("P62", "8"),
            ("P46", "8"),
            ("P98", "8"),
            ("P458", "8"),
            // Accounts without a line are switched off.
            ("P501", "0"),
            ("P1801", "0"),
            // Line keys, then multi-purpose keys.
            ("P1363", "0"),
            ("P1364", "1"),
            ("P1365", "1"),
            ("P1367", "11"),
            ("P1465", "K1"),
            ("P1470", "200"),
            ("P323", "6"),
            ("P301", "1"),
            ("P302", "K7"),
            ("P303", "200"),
            ("P324", "5"),
            ("P330", "3"),
            ("P353", "-1"),
            ("P1362", "pt"),
            ("P64", "customize"),
            ("P246", "CET-1CEST-2,M3.5.0/02:00:00,M10.5.0/03:00:00"),
            ("P143", "0"),
            ("P30", "192.0.2.1"),
            ("P8333", "192.0.2.2"),
            ("P144", "0"),
            ("P102", "2"),
            ("P122", "1"),
            ("P92", "192"),
            ("P95", "53"),
            ("P51", "20"),
            ("P87", "5"),
            ("P229", "30"),
            ("P1684", "1"),
            ("P2", "4dm1n"),
            ("P196", "us3r"),
            ("P1650", "0"),
            ("P212", "1"),
            ("P237", "10.20.0.5:8080/t0ken"),
            ("P1360", "prov"),
            ("P1361", "pr0v"),
            ("P194", "1"),
            ("P193", "1440"),
            ("P1414", "1"),
            ("P145", "1"),
            ("P4428", "1"),
            ("P6767", "1"),
            ("P192", "10.20.0.5:8080/assets/gs"),
            ("P331", "10.20.0.5/books"),
            ("P332", "5"),
            ("P8020", "ldap.example.net"),
            ("P8028", "cn sn"),
            ("P207", "192.0.2.9"),
            ("P208", "1"),
            ("P334", "50"),
            ("P8356", "2"),
            ("P8352", "4"),
            ("P1383", "1234"),
        ],
    );
    for local_port in ["P40", "P413"] {
        assert!(!settings.contains_key(local_port), "the local SIP port is the phone's own business");
    }
}

#[test]
fn what_a_profile_says_arrives_by_alias() {
    let (plugin, templates) = plugin();
    let xml = render_xml(&plugin, &templates, &phone(&plugin, "GRP2614"));
    assert!(xml.contains("<config version=\"2\">"));
    let settings = settings_of(&xml);
    assert_has(
        &settings,
        &[
            ("account.1.enable", "Yes"),
            ("account.1.sip.server.1.address", "pbx.example.net:5070"),
            ("account.2.sip.userid", "102"),
            ("account.2.sip.subscriber.password", HOSTILE),
            ("account.1.sip.transport", "Tls Or Tcp"),
            ("account.1.sip.registerExpiration", "11"),
            ("account.1.audio.srtpMode", "EnabledButNotForced"),
            ("account.1.dtmf.sendInAudio", "No"),
            ("account.1.dtmf.sendInSip", "Yes"),
            ("account.1.codec.choice.1", "OPUS"),
            ("account.1.codec.choice.2", "G.722"),
            ("account.1.codec.choice.8", "PCMA"),
            ("pks.vpk.1.keyMode", "Line"),
            ("pks.vpk.1.account", "1"),
            ("pks.vpk.3.keyMode", "BLF"),
            ("pks.vpk.3.value", "200"),
            ("pks.ext.3.keyMode", "BLF"),
            ("pks.ext.3.account", "Account2"),
            ("language.gui", "pt"),
            ("dateTime.timezone", "customize"),
            ("dateTime.format.date", "dd-mm-yyyy"),
            ("network.port.eth.1.vlan.enable", "Yes"),
            ("network.port.eth.1.vlan.tag", "20"),
            ("users.admin.password", "4dm1n"),
            ("security.webAccessMode", "HTTPS"),
            ("provisioning.config.protocol", "HTTP"),
            ("provisioning.config.serverPath", "10.20.0.5:8080/t0ken"),
            ("sip.notify.challenge", "No"),
            ("provisioning.auto.mode", "YesUpgradeMin"),
            ("phonebook.download.mode", "EnabledUseHTTPS"),
            ("remote.phonebook.1.url", "https://10.20.0.5/sales.xml"),
            ("maintain.syslog.level", "Debug"),
        ],
    );
    let mut phone = phone(&plugin, "GRP2614");
    phone.settings.keys = vec![key(17, KeyKind::Blf, "217")];
    assert_has(
        &settings_of(&render_xml(&plugin, &templates, &phone)),
        &[("pks.mpk.1.keyMode", "BLF"), ("pks.mpk.1.account", "Account2")],
    );
}

#[test]
fn an_adapter_gets_the_numbers_of_its_ports_and_nothing_of_a_screen() {
    let (plugin, templates) = plugin();
    let settings = settings_of(&render_xml(&plugin, &templates, &phone(&plugin, "HT802")));
    assert_has(
        &settings,
        &[
            ("P271", "1"),
            ("P47", "pbx.example.net:5070"),
            ("P34", HOSTILE),
            ("P967", "pbx2.example.net"),
            ("P401", "1"),
            ("P747", "pbx.example.net:5070"),
            ("P735", "102"),
            ("P734", HOSTILE),
            ("P850", "101"),
            ("P851", "102"),
            ("P852", "100"),
            ("P757", "123"),
            ("P815", "8"),
            ("P4200", "{ x+ | *x+ }"),
            ("P194", "3"),
            ("P22296", "1"),
            ("P193", "1440"),
            ("P5038", "5"),
            ("P246", "CET-1CEST-2,M3.5.0/02:00:00,M10.5.0/03:00:00"),
        ],
    );
    for name in ["P270", "P402", "P1362", "P1363", "P330", "P8020"] {
        assert!(!settings.contains_key(name), "{name}");
    }
    let settings = settings_of(&render_xml(&plugin, &templates, &phone(&plugin, "HT801")));
    assert!(settings.contains_key("P35") && !settings.contains_key("P735"), "it has one port");
}

#[test]
fn every_name_printed_is_documented() {
    let (plugin, templates) = plugin();
    let p_values: Vec<&str> = include_str!("../tests/p_values.txt").split_whitespace().collect();
    let aliases: Vec<&str> = include_str!("../tests/aliases.txt").lines().collect();
    for model in MODELS {
        let mut phone = phone(&plugin, model);
        for position in 3..=6 {
            phone.settings.lines.push(line(position));
        }
        phone.settings.keys = (1..=48).map(|position| key(position, KeyKind::Blf, "2")).collect();
        phone.settings.expansion =
            vec![ExpansionModule { keys: (1..=40).map(|position| key(position, KeyKind::Blf, "2")).collect() }; 4];
        for name in settings_of(&render_xml(&plugin, &templates, &phone)).keys() {
            let generic = general(name);
            assert!(
                p_values.contains(&name.as_str()) || aliases.contains(&generic.as_str()),
                "{model}: {name} ({generic})"
            );
        }
    }
}

/// `account.3.codec.choice.1` → `account.N.codec.choice.1`, `pks.vpk.12.value` → `pks.vpk.K.value`.
fn general(alias: &str) -> String {
    let mut parts: Vec<&str> = alias.split('.').collect();
    match parts.as_mut_slice() {
        ["account", number, ..] => *number = "N",
        ["pks", _, number, ..] => *number = "K",
        _ => {}
    }
    parts.join(".")
}

#[test]
fn xmllint_accepts_every_file_of_every_model() {
    let (plugin, templates) = plugin();
    for model in MODELS {
        let device = phone(&plugin, model);
        let mut common = device.clone();
        common.mac = None;
        common.settings.lines.clear();
        common.settings.keys.clear();
        common.settings.expansion.clear();
        let name = format!("cfg{}.xml", model.to_lowercase());
        for (file, phone) in [("cfg000b82273b89.xml", &device), (name.as_str(), &common), ("cfg.xml", &common)] {
            let body = render(&plugin, &templates, file, phone);
            let text = std::str::from_utf8(&body).unwrap();
            assert_eq!(text.contains("<mac>"), phone.mac.is_some(), "{file}");
            assert!(
                phone.mac.is_some() || !text.contains("P271") && !text.contains("account."),
                "a shared file holds no account"
            );
            assert_eq!(body, render(&plugin, &templates, file, phone), "the same phone gets the same bytes");
            let mut lint = std::process::Command::new("xmllint")
                .args(["--noout", "-"])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("xmllint is installed (libxml2-utils)");
            lint.stdin.take().unwrap().write_all(&body).unwrap();
            let output = lint.wait_with_output().unwrap();
            assert!(output.status.success(), "{model} {file}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn raw_settings_win_in_every_format() {
    let (plugin, templates) = plugin();
    let raw =
        |pairs: &[(&str, Scalar)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let mut phone = phone(&plugin, "GXP1628");
    phone.raw = raw(&[
        ("P34", Scalar::Text("r4w".into())),
        ("P8467", Scalar::Bool(true)),
        ("account.1.name", Scalar::Text("no".into())),
    ]);
    let xml = render_xml(&plugin, &templates, &phone);
    let settings = settings_of(&xml);
    assert_has(&settings, &[("P34", "r4w"), ("P8467", "1")]);
    assert!(!xml.contains("account.1.name"));
    assert_eq!(
        plugin
            .complaints(&phone)
            .iter()
            .filter(|complaint| complaint.field == "vendor.grandstream.account.1.name")
            .count(),
        1
    );

    phone.switches.insert("binary".into(), Scalar::Bool(true));
    let (mac, values) = binary::decode(&render(&plugin, &templates, "cfg000b82273b89", &phone)).unwrap();
    assert_eq!(
        (Some(mac), values.into_iter().collect::<BTreeMap<_, _>>()),
        (phone.mac, settings),
        "binary and XML say the same"
    );

    let mut phone = super::tests::phone(&plugin, "GRP2612W");
    phone.raw = raw(&[
        ("account.1.name", Scalar::Text("r4w".into())),
        ("network.cdp", Scalar::Bool(false)),
        ("P34", Scalar::Integer(1)),
    ]);
    let settings = settings_of(&render_xml(&plugin, &templates, &phone));
    assert_has(&settings, &[("account.1.name", "r4w"), ("network.cdp", "No")]);
    assert!(!settings.contains_key("P34"));
}

#[test]
fn the_binary_file_is_answered_only_where_it_was_asked_for() {
    let (plugin, templates) = plugin();
    let mut phone = phone(&plugin, "GXP1628");
    assert!(testing::render(&plugin, &templates, "cfg000b82273b89", &phone).is_err());
    phone.switches.insert("binary".into(), Scalar::Bool(true));
    for file in ["cfg000b82273b89", "cfg000b82273b89.bin"] {
        let rendered = testing::render(&plugin, &templates, file, &phone).unwrap();
        assert_eq!(rendered.content_type, "application/octet-stream");
        assert!(binary::decode(&rendered.body).is_ok());
    }
    let mut grp = super::tests::phone(&plugin, "GRP2614");
    grp.switches.insert("binary".into(), Scalar::Bool(true));
    let failure = testing::render(&plugin, &templates, "cfg000b82273b89", &grp).unwrap_err();
    assert!(failure.to_string().contains("no file"), "a phone told by alias goes on to the XML: {failure}");
}

#[test]
fn the_url_of_the_notify_has_the_form_of_the_family_and_both_forms_are_served() {
    let (plugin, templates) = plugin();
    let announce = |model: Option<&str>| {
        let identity =
            Identity { mac: "000b82273b89".parse().ok(), model: model.map(str::to_owned), ..Identity::default() };
        let base_url = "http://10.20.0.5:8080/t/".into();
        provost_plugin::announce_by_data(plugin.spec(), &provost_plugin::Announced { identity, base_url }).unwrap()
    };
    assert_eq!(announce(Some("GXP1628")), "http://10.20.0.5:8080/t/cfg000b82273b89.xml");
    assert_eq!(announce(Some("GRP2612W")), "http://10.20.0.5:8080/t/");
    assert_eq!(announce(None), "http://10.20.0.5:8080/t/");
    let phone = phone(&plugin, "GXP1628");
    assert_eq!(
        render(&plugin, &templates, "cfg000b82273b89.xml/cfg000b82273b89.xml", &phone),
        render(&plugin, &templates, "cfg000b82273b89.xml", &phone)
    );
}

#[test]
fn every_user_agent_form_tells_model_firmware_and_mac() {
    let (plugin, _) = plugin();
    for (user_agent, model, firmware, mac) in [
        ("Grandstream Model HW GXP2135 SW 1.0.7.97 DevId 000b828aa872", "GXP2135", "1.0.7.97", Some("000b828aa872")),
        (
            "Grandstream Model HW GXV3240 V1.6B SW 1.0.1.27 DevId 000b82632815",
            "GXV3240",
            "1.0.1.27",
            Some("000b82632815"),
        ),
        (
            "Grandstream Model HW GXV3350  V1.3A SW 1.0.1.8 DevId c074ad150b88",
            "GXV3350",
            "1.0.1.8",
            Some("c074ad150b88"),
        ),
        (
            "Grandstream GXP2000 (gxp2000e.bin:1.2.5.3/boot55e.bin:1.1.6.9) DevId 000b822726c8",
            "GXP2000",
            "1.2.5.3",
            Some("000b822726c8"),
        ),
        ("Grandstream GXP1628 1.0.2.7", "GXP1628", "1.0.2.7", None),
        ("Grandstream GRP2612W 1.0.5.67", "GRP2612W", "1.0.5.67", None),
    ] {
        let identity = plugin.spec.identify(user_agent).unwrap_or_else(|| panic!("{user_agent}"));
        assert_eq!(
            (identity.model.as_deref(), identity.firmware.as_deref()),
            (Some(model), Some(firmware)),
            "{user_agent}"
        );
        assert_eq!(identity.mac.map(|mac| mac.bare()).as_deref(), mac, "{user_agent}");
    }
    // The vendor's PBX is not a phone to be provisioned.
    assert!(plugin.spec.identify("Grandstream UCM6302V1.3A 1.0.27.10").is_none_or(|identity| identity.mac.is_none()));
}

#[test]
fn what_cannot_be_honoured_is_said_where_it_was_asked_for() {
    let (plugin, _) = plugin();
    let reasons = |phone: &Phone| -> BTreeMap<String, String> {
        plugin.complaints(phone).into_iter().map(|complaint| (complaint.field, complaint.reason)).collect()
    };
    let mut phone = phone(&plugin, "GXP1628");
    phone.settings.lines.push(line(3));
    phone.settings.keys = vec![
        key(1, KeyKind::Blf, "2"),
        key(3, KeyKind::Blf, "2"),
        key(11, KeyKind::Blf, "2"),
        key(4, KeyKind::Url, "x"),
    ];
    phone.settings.locale.language = Some("fi".into());
    phone.settings.provisioning.url = Some("ftp://10.20.0.5/".into());
    let complaints = reasons(&phone);
    assert_eq!(complaints["keys.0.kind"], "a line key of GXP1628 has no such kind");
    assert!(!complaints.contains_key("keys.1") && !complaints.contains_key("keys.1.kind"));
    for field in [
        "keys.2",
        "keys.3.kind",
        "lines.2",
        "lines.0.codecs.0",
        "locale.language",
        "expansion.0.keys.0",
        "provisioning.url",
        "phonebook.remote.1",
    ] {
        assert!(complaints.contains_key(field), "{field}: {complaints:?}");
    }
    let unknown = reasons(&super::tests::phone(&plugin, "GXP1450"));
    assert!(unknown.contains_key("keys.0"), "{unknown:?}");
    assert!(reasons(&super::tests::phone(&plugin, "HT801")).contains_key("keys.0"));
}

#[test]
fn a_notify_is_challenged_only_where_that_was_asked_for() {
    let (plugin, templates) = plugin();
    for (model, name, challenged) in [("GXP2160", "P4428", "0"), ("GRP2612W", "sip.notify.challenge", "Yes")] {
        let mut phone = phone(&plugin, model);
        phone.settings.provisioning.challenge_notify = Some(true);
        assert_has(&settings_of(&render_xml(&plugin, &templates, &phone)), &[(name, challenged)]);
    }
}
