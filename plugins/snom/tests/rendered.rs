//! What phones would be given, read back with an XML reader. The files as a whole are compared by the golden cases.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use provost_plugin::{
    Announced, Phone, Plugin, PluginError, Scalar, Secret, Spec,
    model::{
        Changeover, Codec, DateFormat, DstRule, Dtmf, ExpansionModule, FunctionKey, Handset, HourFormat, Identity,
        KeyKind, Line, RemotePhonebook, Sip, Srtp, Transport, VlanPort, Zone,
    },
    offered_files, testing,
};
use provost_snom::Snom;

const HOSTILE: &str = "p<&>\"';#=%\\ü";
const MAC: &str = "00041396d9b4";

fn snom() -> Snom {
    Snom::from(Spec::read(include_str!("../vendor.yaml")).unwrap())
}

fn templates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../templates/snom")
}

fn render(path: &str, phone: &Phone) -> Result<String, PluginError> {
    let snom = snom();
    let rendered = testing::render(&snom, &testing::templates(&snom, &templates()), path, phone)?;
    assert_eq!(rendered.content_type, "text/xml");
    Ok(String::from_utf8(rendered.body).unwrap())
}

fn own_file(phone: &Phone) -> String {
    render("00041396D9B4.xml", phone).unwrap()
}

/// The text of the element `name`, of the one with this `idx` if there are several.
fn setting(xml: &str, name: &str, idx: Option<&str>) -> Option<String> {
    let document = roxmltree::Document::parse(xml).unwrap_or_else(|error| panic!("{error} in {xml}"));
    let mut found = document
        .descendants()
        .filter(|node| node.has_tag_name(name) && (idx.is_none() || node.attribute("idx") == idx));
    let text = found.next().map(|node| node.text().unwrap_or_default().to_owned());
    assert!(found.next().is_none(), "{name} is there twice: {xml}");
    text
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn line(position: u16, number: &str) -> Line {
    Line {
        position: Some(position),
        enabled: Some(true),
        number: some(number),
        username: some(number),
        auth_username: some(number),
        label: some(number),
        display_name: some("Anna <Berg> & Söhne"),
        password: Some(Secret::new(HOSTILE)),
        sip: Sip { server: some("pbx.example.net"), ..Sip::default() },
        ..Line::default()
    }
}

fn key(position: u16, kind: KeyKind, value: &str) -> FunctionKey {
    FunctionKey {
        position: Some(position),
        kind,
        value: (!value.is_empty()).then(|| value.to_owned()),
        label: None,
        line: Some(1),
        pickup: None,
        locked: None,
    }
}

fn phone(model: &str) -> Phone {
    let spec = snom().spec().clone();
    let mut phone = Phone {
        mac: Some(MAC.parse().unwrap()),
        vendor: "snom".into(),
        model: some(model),
        base_url: "http://10.20.0.5:8080/".into(),
        capabilities: spec.model(model).map(|(_, row)| row.clone()).unwrap_or_default(),
        ..Phone::default()
    };
    phone.settings.provisioning.url = some("http://10.20.0.5:8080/");
    phone.settings.access.admin.username = some("admin");
    phone.settings.access.admin.password = Some(Secret::new(HOSTILE));
    phone.settings.lines = vec![line(1, "101"), line(2, "102")];
    phone
}

fn berlin() -> Zone {
    let change = |month, time| Changeover { month, week: 5, weekday: 0, time };
    Zone {
        name: "Europe/Berlin".into(),
        utc_offset: 3600,
        abbreviation: "CET".into(),
        dst: Some(DstRule { abbreviation: "CEST".into(), save: 3600, start: change(3, 7200), end: change(10, 10800) }),
        posix: "CET-1CEST,M3.5.0,M10.5.0/3".into(),
    }
}

#[test]
fn hostile_text_comes_back_as_it_went_in() {
    for model in ["snomD785", "snomD862", "snomM700"] {
        let xml = own_file(&phone(model));
        assert_eq!(setting(&xml, "user_pass", Some("2")).unwrap(), HOSTILE, "{model}");
        assert_eq!(setting(&xml, "http_pass", None).unwrap(), HOSTILE, "{model}");
        assert_eq!(setting(&xml, "user_realname", Some("1")).unwrap(), "Anna <Berg> & Söhne", "{model}");
    }
    let xml = own_file(&phone("snomD862"));
    assert_eq!(setting(&xml, "webserver_admin_password", None).unwrap(), HOSTILE);
    assert_eq!(setting(&own_file(&phone("snomD785")), "webserver_admin_password", None), None);
}

#[test]
fn every_file_of_every_family_is_well_formed_and_the_same_twice() {
    for model in ["snomD785", "snomD862", "snomM700", "snom370", "snomM430", "OEM"] {
        let mut phone = phone(model);
        phone.zone = Some(berlin());
        phone.settings.firmware_update.url = some("http://10.20.0.5:8080/firmware/a&b.bin");
        phone.settings.keys = vec![key(1, KeyKind::Blf, "200")];
        phone.settings.phonebook.remote = vec![RemotePhonebook {
            name: some("Büro"),
            url: some("http://10.20.0.5/book?a=1&b=2"),
            ..RemotePhonebook::default()
        }];
        let files = offered_files(snom().spec(), &phone);
        // What is not a model has no files by a model's name.
        let least = if model == "OEM" { 3 } else { 5 };
        assert!(files.len() >= least, "{model}: {files:?}");
        for (name, _) in files {
            let xml = render(&name, &phone).unwrap();
            assert!(xml.starts_with("<?xml"), "{model} {name} must begin with its declaration: {xml}");
            assert_eq!(xml, render(&name, &phone).unwrap());
            let mut lint = Command::new("xmllint")
                .args(["--noout", "-"])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            lint.stdin.take().unwrap().write_all(xml.as_bytes()).unwrap();
            let output = lint.wait_with_output().unwrap();
            assert!(output.status.success(), "{model} {name}: {}\n{xml}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn a_common_file_holds_no_secret_even_if_it_is_handed_some() {
    let mut phone = Phone { mac: None, ..phone("snomD785") };
    phone.raw.insert("admin_mode_password".into(), Scalar::Text("raw secret".into()));
    for file in ["snomD785.htm", "snomD785.xml", "snom-general.xml"] {
        let xml = render(file, &phone).unwrap();
        assert!(!xml.contains("p&lt;") && !xml.contains("raw secret") && !xml.contains("user_name"), "{file}: {xml}");
    }
}

#[test]
fn the_list_of_files_leads_to_the_settings_and_the_phone_is_told_the_same_place() {
    let phone = phone("snomD785");
    let list = render("snomD785-00041396D9B4.htm", &phone).unwrap();
    assert!(list.contains("<file url=\"http://10.20.0.5:8080/00041396D9B4.xml\"/>"), "{list}");
    assert_eq!(setting(&own_file(&phone), "setting_server", None).unwrap(), "http://10.20.0.5:8080/00041396D9B4.xml");
    let announced = Announced {
        identity: Identity {
            mac: Some(MAC.parse().unwrap()),
            vendor: some("OEM"),
            model: some("OEM"),
            ..Identity::default()
        },
        base_url: "http://10.20.0.5:8080/".into(),
    };
    assert_eq!(
        provost_plugin::announce_by_data(snom().spec(), &announced).unwrap(),
        "http://10.20.0.5:8080/00041396D9B4.xml"
    );
}

#[test]
fn a_url_of_the_administrators_stays_as_written() {
    let mut phone = phone("snomD785");
    phone.settings.provisioning.url = some("https://conf.example.net/snom?mac={mac}");
    assert_eq!(setting(&own_file(&phone), "setting_server", None).unwrap(), "https://conf.example.net/snom?mac={mac}");
}

#[test]
fn the_vendors_cloud_is_asked_only_where_that_was_wished() {
    let mut phone = phone("snomD785");
    assert_eq!(setting(&own_file(&phone), "provisioning_order", None).unwrap(), "pnp:stop dhcp:stop tr69:stop");
    phone.settings.provisioning.redirection = Some(true);
    assert!(setting(&own_file(&phone), "provisioning_order", None).unwrap().starts_with("redirection:stop "));
}

#[test]
fn raw_settings_win() {
    let mut phone = phone("snomD785");
    phone.settings.locale.language = some("de");
    phone.settings.keys = vec![key(1, KeyKind::Line, ""), key(2, KeyKind::Dnd, "")];
    phone.zone = Some(berlin());
    for (name, value) in [
        ("language", Scalar::Text("Suomi".into())),
        ("user_realname[2]&", Scalar::Text("A & B".into())),
        ("backlight", Scalar::Integer(15)),
        ("fkey[1]", Scalar::Text("keyevent F_REDIAL".into())),
        ("timezone", Scalar::Text("GER+1".into())),
    ] {
        phone.raw.insert(name.into(), value);
    }
    let xml = own_file(&phone);
    assert_eq!(setting(&xml, "language", None).unwrap(), "Suomi");
    assert_eq!(setting(&xml, "user_realname", Some("2")).unwrap(), "A & B");
    assert!(xml.contains("<user_realname idx=\"2\" perm=\"&amp;\">"), "{xml}");
    assert_eq!(setting(&xml, "user_realname", Some("1")).unwrap(), "Anna <Berg> & Söhne");
    assert_eq!(setting(&xml, "backlight", None).unwrap(), "15");
    assert_eq!(setting(&xml, "fkey", Some("1")).unwrap(), "keyevent F_REDIAL");
    // A code of snom's and a derived rule would quarrel.
    assert_eq!(setting(&xml, "timezone", None).unwrap(), "GER+1");
    assert_eq!(setting(&xml, "dst", None), None);

    phone.raw.insert("a><b".into(), Scalar::Integer(1));
    let error = render("00041396D9B4.xml", &phone).unwrap_err().to_string();
    assert_eq!(error, "cannot write raw setting \"a><b\": snom has no parameter of that form");
    assert!(snom().complaints(&phone).iter().any(|complaint| complaint.field == "vendor.snom.a><b"));
}

#[test]
fn time_is_told_as_a_rule_or_not_at_all() {
    let mut phone = phone("snomD785");
    assert_eq!(setting(&own_file(&phone), "utc_offset", None), None, "no zone, no setting");
    phone.zone = Some(berlin());
    phone.settings.time.hours = Some(HourFormat::TwentyFour);
    phone.settings.time.date = Some(DateFormat::DayMonthYear);
    let xml = own_file(&phone);
    assert_eq!(setting(&xml, "utc_offset", None).unwrap(), "+3600");
    assert_eq!(setting(&xml, "dst", None).unwrap(), "3600 03.05.07 02:00:00 10.05.07 03:00:00");
    assert_eq!(setting(&xml, "timezone", None).unwrap(), "");
    assert_eq!(setting(&xml, "time_24_format", None).unwrap(), "on");
    assert_eq!(setting(&xml, "date_us_format", None).unwrap(), "off");
}

#[test]
fn an_account_says_where_its_packets_go() {
    let outbound = |change: fn(&mut Sip)| {
        let mut phone = phone("snomD785");
        change(&mut phone.settings.lines[0].sip);
        let xml = own_file(&phone);
        (setting(&xml, "user_host", Some("1")), setting(&xml, "user_outbound", Some("1")))
    };
    assert_eq!(outbound(|_| ()), (some("pbx.example.net"), None));
    assert_eq!(outbound(|sip| sip.port = Some(5070)), (some("pbx.example.net:5070"), None));
    assert_eq!(outbound(|sip| sip.transport = Some(Transport::Dns)), (some("pbx.example.net"), None));
    assert_eq!(
        outbound(|sip| {
            sip.transport = Some(Transport::Tls);
            sip.port = Some(5061);
        }),
        (some("pbx.example.net:5061"), some("pbx.example.net:5061;transport=tls"))
    );
    assert_eq!(
        outbound(|sip| {
            sip.domain = some("example.net");
            sip.outbound_proxy = some("2001:db8::5");
            sip.outbound_proxy_port = Some(5060);
            sip.transport = Some(Transport::Tcp);
        }),
        (some("example.net"), some("[2001:db8::5]:5060;transport=tcp"))
    );
    assert_eq!(
        outbound(|sip| sip.backup_server = some("pbx2.example.net")),
        (some("pbx.example.net"), some("pbx.example.net,pbx2.example.net"))
    );
}

#[test]
fn media_of_an_account_in_snoms_words() {
    let mut phone = phone("snomD785");
    phone.settings.lines[0].sip.codecs = Some(vec![Codec::Opus, Codec::G722, Codec::G726_32, Codec::Pcma]);
    phone.settings.lines[0].sip.srtp = Some(Srtp::Required);
    phone.settings.lines[0].sip.dtmf = Some(Dtmf::Info);
    phone.settings.lines[1].sip.codecs = Some(vec![Codec::Pcma]);
    phone.settings.lines[1].sip.dtmf = Some(Dtmf::Inband);
    let xml = own_file(&phone);
    assert_eq!(setting(&xml, "codec_priority_list", Some("1")).unwrap(), "g722,g726-32,pcma,telephone-event");
    assert_eq!(setting(&xml, "user_dtmf_info", Some("1")).unwrap(), "sip_info_only");
    assert_eq!(setting(&xml, "user_srtp", Some("1")).unwrap(), "on");
    assert_eq!(setting(&xml, "user_savp", Some("1")).unwrap(), "mandatory");
    // In-band is the absence of the event codec: both modes are "off".
    assert_eq!(setting(&xml, "codec_priority_list", Some("2")).unwrap(), "pcma");
    assert_eq!(setting(&xml, "user_dtmf_info", Some("2")).unwrap(), "off");
    assert!(
        snom()
            .complaints(&phone)
            .iter()
            .any(|complaint| complaint.field == "lines.0.codecs" && complaint.reason.contains("opus"))
    );
}

#[test]
fn lines_that_nobody_uses_are_switched_off_as_far_as_the_model_has_lines() {
    let xml = own_file(&phone("snomD785"));
    assert_eq!(setting(&xml, "user_active", Some("2")).unwrap(), "on");
    assert_eq!(setting(&xml, "user_active", Some("3")).unwrap(), "off");
    assert_eq!(setting(&xml, "user_active", Some("12")).unwrap(), "off");
    assert_eq!(setting(&xml, "user_active", Some("13")), None);
    assert_eq!(
        setting(&own_file(&phone("snom370")), "user_active", Some("3")),
        None,
        "how many lines it has is not known"
    );
}

#[test]
fn keys_say_what_they_do_in_snoms_words() {
    let mut phone = phone("snomD785");
    phone.settings.codes.park = some("*68");
    let sip = &mut phone.settings.lines[0].sip;
    sip.port = Some(5070);
    sip.pickup_code = some("*8");
    sip.group_pickup_code = some("*9");
    sip.voicemail = some("*97");
    let cases = [
        (KeyKind::None, "", Some("none")),
        (KeyKind::Line, "", Some("line")),
        (KeyKind::SpeedDial, "030 1", Some("speed 030 1")),
        (KeyKind::Blf, "200", Some("blf sip:200@pbx.example.net:5070|*8")),
        (KeyKind::Blf, "sip:200@example.org", Some("blf sip:200@example.org|*8")),
        (KeyKind::Blf, "sipcall", Some("blf sip:sipcall@pbx.example.net:5070|*8")),
        (KeyKind::Blf, "", None),
        (KeyKind::BlfList, "x", None),
        (KeyKind::Intercom, "200", Some("icom 200")),
        (KeyKind::Pickup, "200", Some("speed *8200")),
        (KeyKind::GroupPickup, "", Some("speed *9")),
        (KeyKind::Park, "701", Some("orbit 701")),
        (KeyKind::Park, "", Some("speed *68")),
        (KeyKind::Retrieve, "", None),
        (KeyKind::Transfer, "", Some("keyevent F_TRANSFER")),
        (KeyKind::Transfer, "300", Some("transfer 300")),
        (KeyKind::Dnd, "ignored", Some("keyevent F_DND")),
        (KeyKind::Voicemail, "", Some("speed *97")),
        (KeyKind::Phonebook, "", Some("keyevent F_ADR_BOOK")),
        (KeyKind::Url, "http://10.0.0.1/?a=1&b=2", Some("url http://10.0.0.1/?a=1&b=2")),
        (KeyKind::MulticastPaging, "239.1.1.1:5555", Some("multicast 239.1.1.1:5555")),
    ];
    for (kind, value, text) in cases {
        phone.settings.keys = vec![key(3, kind, value)];
        assert_eq!(setting(&own_file(&phone), "fkey", Some("2")).as_deref(), text, "{kind:?} {value}");
        assert_eq!(
            snom().complaints(&phone).iter().any(|complaint| complaint.field.starts_with("keys.0")),
            text.is_none(),
            "{kind:?} {value}"
        );
    }
}

#[test]
fn a_key_carries_its_line_its_label_and_its_lock() {
    let mut phone = phone("snomD785");
    phone.settings.keys = vec![
        FunctionKey { label: some("\"Ä\" & <b>"), line: Some(2), locked: Some(true), ..key(1, KeyKind::Blf, "200") },
        FunctionKey { pickup: some("**"), ..key(24, KeyKind::Blf, "201") },
        key(25, KeyKind::Line, ""),
        key(2, KeyKind::Hold, ""),
    ];
    let xml = own_file(&phone);
    let document = roxmltree::Document::parse(&xml).unwrap();
    let keys: Vec<_> = document
        .descendants()
        .filter(|node| node.has_tag_name("fkey"))
        .map(|node| ["idx", "context", "label", "perm"].map(|name| node.attribute(name).unwrap().to_owned()))
        .collect();
    assert_eq!(keys, [["0", "2", "\"Ä\" & <b>", "R"], ["23", "1", "", "RW"], ["1", "active", "", "RW"]]);
    assert_eq!(setting(&xml, "fkey", Some("23")).unwrap(), "blf sip:201@pbx.example.net|**");
    assert!(snom().complaints(&phone).iter().any(|complaint| complaint.field == "keys.2"), "the model has 24 keys");
}

#[test]
fn keys_of_modules_follow_those_of_the_phone() {
    let modules = vec![
        ExpansionModule { keys: vec![key(1, KeyKind::SpeedDial, "1"), key(18, KeyKind::SpeedDial, "18")] },
        ExpansionModule { keys: vec![key(1, KeyKind::SpeedDial, "19"), key(19, KeyKind::SpeedDial, "nowhere")] },
    ];
    let mut phone = phone("snomD785");
    phone.settings.expansion = modules.clone();
    let xml = own_file(&phone);
    assert_eq!(setting(&xml, "fkey", Some("24")).unwrap(), "speed 1");
    assert_eq!(setting(&xml, "fkey", Some("41")).unwrap(), "speed 18");
    assert_eq!(setting(&xml, "fkey", Some("42")).unwrap(), "speed 19");
    assert!(!xml.contains("nowhere"));

    // Where they are counted from is not known for this one, so they are left out and that is said.
    let mut phone = self::phone("snomD385");
    phone.settings.expansion = modules;
    assert!(!own_file(&phone).contains("<fkey"));
    assert!(snom().complaints(&phone).iter().any(|complaint| complaint.field == "expansion"));
}

#[test]
fn general_settings_in_snoms_words() {
    let mut phone = phone("snomD785");
    let settings = &mut phone.settings;
    settings.locale.language = some("de-AT");
    settings.locale.web_language = some("en-GB");
    settings.locale.tones = some("DE");
    settings.time.ntp = vec!["10.0.0.1".into(), "10.0.0.2".into()];
    settings.vlan.voice = Some(VlanPort { id: Some(20), priority: Some(5) });
    settings.vlan.lldp = Some(false);
    settings.qos.rtp_dscp = Some(46);
    settings.qos.sip_dscp = Some(26);
    settings.provisioning.challenge_notify = Some(true);
    settings.firmware_update.url = some("http://10.20.0.5:8080/firmware/snomD785.bin");
    settings.phonebook.remote =
        vec![RemotePhonebook { url: some("http://10.0.0.1/book.xml"), ..RemotePhonebook::default() }];
    settings.phonebook.ldap.name_attributes = vec!["cn".into(), "sn".into()];
    settings.syslog.server = some("10.0.0.3");
    let xml = own_file(&phone);
    for (name, value) in [
        ("language", "Deutsch"),
        ("web_language", "English(UK)"),
        ("tone_scheme", "GER"),
        ("ntp_server", "10.0.0.1"),
        ("vlan_id", "20"),
        ("vlan_qos", "5"),
        ("lldp_enable", "off"),
        ("codec_tos", "184"),
        ("signaling_tos", "104"),
        ("challenge_checksync", "on"),
        ("firmware_status", "http://10.20.0.5:8080/00041396D9B4-firmware.xml"),
        ("update_policy", "auto_update"),
        ("dkey_directory", "url http://10.0.0.1/book.xml"),
        ("ldap_name_attributes", "cn sn"),
        ("syslog_server", "10.0.0.3"),
    ] {
        assert_eq!(setting(&xml, name, None).as_deref(), Some(value), "{name}");
    }
    let firmware = render("00041396D9B4-firmware.xml", &phone).unwrap();
    assert_eq!(setting(&firmware, "firmware", None).unwrap(), "http://10.20.0.5:8080/firmware/snomD785.bin");
    assert_eq!(setting(&own_file(&self::phone("snomD785")), "update_policy", None), None);
    assert!(snom().complaints(&phone).iter().any(|complaint| complaint.field == "time.ntp.1"));
}

#[test]
fn words_that_are_not_known_are_left_out_and_reported() {
    let mut phone = phone("snomD785");
    phone.settings.locale.language = some("tlh");
    phone.settings.locale.tones = some("AQ");
    let xml = own_file(&phone);
    assert_eq!((setting(&xml, "language", None), setting(&xml, "tone_scheme", None)), (None, None));
    let fields: Vec<String> = snom().complaints(&phone).into_iter().map(|complaint| complaint.field).collect();
    assert_eq!(fields, ["locale.language", "locale.tones"]);
}

#[test]
fn a_base_numbers_its_servers_and_each_extension_names_one() {
    let mut phone = phone("snomM700");
    phone.settings.lines.push(line(3, "103"));
    phone.settings.lines[1].sip.server = some("other.example.net");
    phone.settings.lines[1].sip.port = Some(5070);
    phone.settings.lines[2].sip.srtp = None;
    phone.settings.dect.access_code = Some(Secret::new("1234"));
    phone.settings.dect.handsets = vec![
        Handset { ipei: some("0328D3C8B1"), line: Some(2), name: None },
        Handset { ipei: some("0328D3C8B2"), line: Some(1), name: None },
    ];
    phone.settings.keys = vec![key(1, KeyKind::Line, "")];
    let xml = own_file(&phone);
    assert_eq!(setting(&xml, "user_host", Some("1")).unwrap(), "pbx.example.net");
    assert_eq!(setting(&xml, "user_host", Some("2")).unwrap(), "other.example.net:5070");
    assert_eq!(setting(&xml, "user_host", Some("3")), None);
    let of = |name: &str| ["1", "2", "3"].map(|idx| setting(&xml, name, Some(idx)));
    assert_eq!(of("subscr_sip_ua_data_server_id"), [some("1"), some("2"), some("1")]);
    assert_eq!(of("subscr_sip_hs_idx"), [some("2"), some("1"), None]);
    assert_eq!(of("subscr_dect_ipui"), [some("0328D3C8B2"), some("0328D3C8B1"), None]);
    assert_eq!(setting(&xml, "subscr_dect_ac_code", Some("1")).unwrap(), "1234");
    assert!(!xml.contains("fkey") && !xml.contains("perm="), "{xml}");
    assert!(snom().complaints(&phone).iter().any(|complaint| complaint.field.starts_with("keys")));

    // Without a list the base takes handsets in the order of the lines.
    phone.settings.dect.handsets.clear();
    assert_eq!(setting(&own_file(&phone), "subscr_sip_hs_idx", Some("3")).unwrap(), "3");
}

#[test]
fn phones_are_known_by_every_user_agent_seen() {
    let cases = [
        (
            "Mozilla/4.0 (compatible; snomD785-SIP 10.1.169.16 2010.12-00001-gd311851f1 (Feb 25 2019 - 14:19:43) 00041396D9B4 SXM:0 UXM:0 UXMC:0)",
            (Some("snomD785"), Some("10.1.169.16"), Some("00041396d9b4")),
        ),
        (
            "Mozilla/4.0 (compatible; snom710-SIP 8.7.5.35 1.1.5-IFX-05.01.12 000413741767)",
            (Some("snom710"), Some("8.7.5.35"), Some("000413741767")),
        ),
        ("Mozilla/4.0 (compatible; snom320-SIP 8.4.18 1.1.3-s)", (Some("snom320"), Some("8.4.18"), None)),
        (
            "Mozilla/4.0 (compatible; snom320-SIP 6.5.20; snom320 jffs2 v3.36; snom320 linux 3.38)",
            (Some("snom320"), Some("6.5.20"), None),
        ),
        ("Mozilla/4.0 (compatible; snom lid 3605)", (None, None, None)),
        (
            "Mozilla/4.0 (compatible; Snom M900 05.20.0001 000413b60680)",
            (Some("M900"), Some("05.20.0001"), Some("000413b60680")),
        ),
        ("snom370/8.7.5.48", (Some("snom370"), Some("8.7.5.48"), None)),
        (
            "snomM700/03.23.0005 (MAC=000413600001; SER= 00000; HW=255)",
            (Some("snomM700"), Some("03.23.0005"), Some("000413600001")),
        ),
    ];
    let snom = snom();
    for (user_agent, (model, firmware, mac)) in cases {
        let identity = snom.spec().identify(user_agent).unwrap_or_else(|| panic!("{user_agent}"));
        assert_eq!(identity.model.as_deref(), model, "{user_agent}");
        assert_eq!(identity.firmware.as_deref(), firmware, "{user_agent}");
        assert_eq!(identity.mac, mac.map(|mac| mac.parse().unwrap()), "{user_agent}");
    }
    assert_eq!(snom.spec().model("M900").unwrap().0, "snomM900");
    for other in ["Grandstream GXP1628 1.0.2.7", "Yealink SIP-T46G 28.72.0.1 00:15:65:4a:a9:37", "curl/8.0"] {
        assert!(snom.spec().identify(other).is_none(), "{other}");
    }
}

#[test]
fn each_model_falls_into_its_family_and_each_file_is_the_right_one() {
    let snom = snom();
    for (model, family) in [
        ("snomD785", "desk"),
        ("snomD895", "desk_d8"),
        ("snomM430", "dect"),
        ("snomMP", "desk"),
        ("snomPA1", "desk"),
        ("snomm700", "dect"),
    ] {
        assert_eq!(snom.spec().model(model).unwrap().1.family.as_deref(), Some(family), "{model}");
    }
    for (path, file) in [
        ("snom370.htm", "{model}.htm"),
        ("snom370-0004132E08B4.htm", "{model}-{MAC}.htm"),
        ("0004132E08B4.xml", "{MAC}.xml"),
        ("0004132e08b4.xml", "{MAC}.xml"),
        ("0004132E08B4-firmware.xml", "{MAC}-firmware.xml"),
        ("snom370-firmware.xml", "{model}-firmware.xml"),
        ("snom370.xml", "{model}.xml"),
        ("snom-general.xml", "snom-general.xml"),
    ] {
        assert_eq!(snom.spec().find(path).next().unwrap().0.name.to_string(), file, "{path}");
    }
}

#[test]
fn simulated_phones_announce_themselves_as_the_captured_ones_did() {
    // Per capture: what the numbers and addresses of the phone were; the rest must be the same to the byte.
    let cases = [
        (
            "snom370",
            "02-snom370-8.7.5.48.sip",
            "0004132E08B4",
            "192.168.12.155",
            "1053",
            &["668717252", "949137397"][..],
        ),
        (
            "snomM700",
            "04-snomM700-dect-03.23.0005.sip",
            "000413600001",
            "10.0.0.90",
            "-",
            &["l1d23iyadenuaa1jr4vm", "dmrud.mzfyg66", "6cm70qdo.o.8i"][..],
        ),
    ];
    for (model, capture, mac, ip, port, numbers) in cases {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/captures").join(capture);
        let mut captured = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
        for number in numbers {
            captured = captured.replace(number, "7");
        }
        let snom = snom();
        let simulation = snom.spec().simulate.iter().find(|simulation| simulation.model == model).unwrap();
        let values = [
            ("{MAC}", mac),
            ("{ip}", ip),
            ("{port}", port),
            ("{model}", model),
            ("{firmware}", &simulation.firmware),
            ("{number}", "7"),
        ];
        let sent = values.iter().fold(simulation.subscribe.clone(), |text, (name, value)| text.replace(name, value));
        assert_eq!(sent.trim_end(), captured.trim_end(), "{model}");
        let user_agent = simulation.user_agent.replace("{mac}", &mac.to_lowercase());
        let user_agent = values.iter().fold(user_agent, |text, (name, value)| text.replace(name, value));
        assert!(snom.spec().identify(&user_agent).is_some(), "{user_agent}");
    }
}
