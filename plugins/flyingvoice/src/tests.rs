//! Renders what a phone would fetch and reads it back as the phone would.

use std::{collections::BTreeMap, path::Path};

use provost_plugin::{
    Announced, Plugin, PluginError, Spec, announce_by_data,
    model::{Claim, Identity, Phone},
    offered_files, switches, testing,
};
use serde_json::{Value, json};

use crate::Flyingvoice;

const VENDOR_YAML: &str = include_str!("../vendor.yaml");
const YEALINK_YAML: &str = include_str!("../../yealink/vendor.yaml");
const MAC: &str = "00:21:f2:22:b0:21";
const HOSTILE: &str = "p<&>\"';#=%\\ü";

fn plugin() -> Flyingvoice {
    Flyingvoice::from(Spec::read_like(VENDOR_YAML, |like| (like == "yealink").then(|| YEALINK_YAML.into())).unwrap())
}

/// A phone of `model` as the host would resolve it, with `settings` on top.
fn phone(model: &str, settings: Value) -> Phone {
    let plugin = plugin();
    let (name, capabilities) = plugin.spec().model(model).unwrap();
    let mut phone = json!({
        "mac": MAC, "vendor": "flyingvoice", "model": name, "base_url": "http://10.20.0.5:8080/",
        "capabilities": capabilities,
        "switches": switches(plugin.spec(), &BTreeMap::new()),
        "provisioning": {"url": "http://10.20.0.5:8080/"},
    });
    merge(&mut phone, settings);
    serde_json::from_value(phone).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(name, value)| merge(into.entry(name).or_insert(Value::Null), value))
        }
        (into, from) => *into = from,
    }
}

fn line(position: u16) -> Value {
    let number = format!("10{position}");
    json!({ "position": position, "enabled": true, "number": number, "username": number, "auth_username": number, "label": number,
        "display_name": number, "password": "secret", "server": "pbx.example.net", "transport": "udp" })
}

fn with(mut line: Value, fields: Value) -> Value {
    merge(&mut line, fields);
    line
}

fn render(path: &str, phone: &Phone) -> Result<String, PluginError> {
    let plugin = plugin();
    let folder = |vendor: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../templates").join(vendor);
    let templates = testing::templates_like(&plugin, &folder("flyingvoice"), &folder("yealink"));
    testing::render(&plugin, &templates, path, phone).map(|file| {
        assert_eq!(file.content_type, "text/plain");
        String::from_utf8(file.body).unwrap()
    })
}

/// What the phone makes of a cfg: the version line first, comments, `key = value` up to the end of the line.
fn read(cfg: &str) -> BTreeMap<String, String> {
    let mut lines = cfg.split('\n');
    assert_eq!(lines.next(), Some("#!version:1.0.0.1"), "the first line is part of the format");
    assert!(!cfg.contains('\r'), "line ends are LF");
    let mut settings = BTreeMap::new();
    for line in lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("not a setting: {line}"));
        let twice = settings.insert(name.trim().to_owned(), value.trim().to_owned());
        assert_eq!(twice, None, "{name} is set twice");
    }
    settings
}

fn device(phone: &Phone) -> BTreeMap<String, String> {
    read(&render("0021f222b021.cfg", phone).unwrap())
}

#[test]
fn every_value_comes_back_as_it_went_in() {
    let phone = phone(
        "FIP14G",
        json!({
            "lines": [with(line(1), json!({"password": HOSTILE, "label": HOSTILE, "display_name": HOSTILE}))],
            "access": {"admin": {"password": HOSTILE}},
            "provisioning": {"username": "prov", "password": HOSTILE},
            "phonebook": {
                "remote": [{"url": "http://pbx.example.net/book.xml", "name": HOSTILE, "username": "u", "password": HOSTILE}],
                "ldap": {"server": "ldap.example.net", "base": "dc=example,dc=net", "username": "cn=phone", "password": HOSTILE,
                    "name_filter": "(|(cn=%)(sn=%))", "name_attributes": ["cn", "sn"]},
            },
        }),
    );
    let cfg = device(&phone);
    for name in [
        "account.1.password",
        "account.1.label",
        "account.1.display_name",
        "static.auto_provision.server.password",
        "remote_phonebook.data.1.name",
        "remote_phonebook.data.1.password",
        "ldap.password",
    ] {
        assert_eq!(cfg[name], HOSTILE, "{name}");
    }
    assert_eq!(cfg["static.security.user_password"], format!("admin:{HOSTILE}"));
    assert_eq!(cfg["ldap.base"], "dc=example,dc=net");
    assert_eq!(cfg["ldap.name_filter"], "(|(cn=%)(sn=%))");
    assert_eq!(cfg["ldap.name_attr"], "cn sn");
}

#[test]
fn a_line_break_in_a_password_is_refused_by_name() {
    let sip = phone(
        "FIP14G",
        json!({"lines": [with(line(1), json!({"password": "a\nstatic.firmware.url = http://evil/"}))]}),
    );
    let web = phone("FIP14G", json!({"access": {"admin": {"password": "a\nb"}}}));
    for (phone, field) in [(sip, "line.password"), (web, "admin.password")] {
        let error = render("0021f222b021.cfg", &phone).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("line break") && !error.contains("evil"), "{error}");
    }
}

#[test]
fn a_colon_in_the_name_of_the_web_login_is_refused() {
    let phone = phone("FIP14G", json!({"access": {"admin": {"username": "a:b", "password": "x"}}}));
    let error = render("0021f222b021.cfg", &phone).unwrap_err().to_string();
    assert!(error.contains("access.admin.username"), "{error}");
}

#[test]
fn another_name_for_the_web_login_goes_before_its_password() {
    let phone = phone("FIP14G", json!({"access": {"admin": {"username": "root", "password": "x"}}}));
    let cfg = device(&phone);
    assert_eq!(
        (cfg["static.security.user_name.admin"].as_str(), cfg["static.security.user_password"].as_str()),
        ("root", "root:x")
    );
}

#[test]
fn raw_settings_win() {
    let raw = json!({"account.1.label": "Desk", "static.firmware.url": "http://fw/", "features.dnd.enable": true});
    let phone = phone("FIP14G", json!({"lines": [line(1)], "firmware_update": {"url": "http://other/"}, "raw": raw}));
    let cfg = device(&phone);
    assert_eq!(cfg["account.1.label"], "Desk");
    assert_eq!(cfg["static.firmware.url"], "http://fw/");
    assert_eq!(cfg["features.dnd.enable"], "1");
    assert_eq!(plugin().complaints(&phone), []);
}

#[test]
fn a_phone_that_walks_the_list_ends_up_with_its_configuration() {
    let phone = phone("FIP14G", json!({"lines": [line(1)]}));
    let plugin = plugin();
    let offered: Vec<String> = offered_files(plugin.spec(), &phone).into_iter().map(|(name, _)| name).collect();
    assert_eq!(offered, ["0021f222b021.boot", "y000000000000.boot", "y000000000000.cfg", "0021f222b021.cfg"]);
    assert!(render("0021f222b021", &phone).is_err(), "the bare MAC is not there, so the phone goes on");

    // As the phones play it in the simulation: the first file that is there, then what that includes.
    let simulation = &plugin.spec().simulate[0];
    let first = simulation
        .fetch
        .iter()
        .map(|name| name.replace("{mac}", "0021f222b021"))
        .find(|name| offered.contains(name))
        .unwrap();
    let boot = render(&first, &phone).unwrap();
    assert!(boot.starts_with("#!version:1.0.0.1\n"));
    let follow = &simulation.follow.as_ref().unwrap().0;
    let included: Vec<&str> = follow.captures_iter(&boot).map(|found| found.get(1).unwrap().as_str()).collect();
    assert_eq!(included, ["y000000000000.cfg", "0021f222b021.cfg"]);
    for name in &included {
        assert!(offered.iter().any(|offer| offer == name), "{name} is named in the boot file and must exist");
        read(&render(name, &phone).unwrap());
    }
    let common = phone_in_common(&phone);
    let boot = render("y000000000000.boot", &common).unwrap();
    assert_eq!(follow.captures_iter(&boot).map(|found| found[1].to_owned()).collect::<Vec<_>>(), ["y000000000000.cfg"]);
}

/// The same phone as the host shows it to a file that many phones share.
fn phone_in_common(phone: &Phone) -> Phone {
    let mut common = phone.clone();
    common.mac = None;
    common.settings.lines.clear();
    common.settings.keys.clear();
    common
}

#[test]
fn the_bare_mac_is_answered_in_full_where_that_is_asked_for() {
    let phone = phone("FIP14G", json!({"lines": [line(1)], "switches": {"bare_mac": true}}));
    assert_eq!(render("0021f222b021", &phone).unwrap(), render("0021f222b021.cfg", &phone).unwrap());
}

#[test]
fn the_common_file_holds_no_secret_even_if_it_is_given_some() {
    let phone = phone(
        "FIP14G",
        json!({
            "lines": [with(line(1), json!({"password": "SECRET"}))],
            "access": {"admin": {"username": "admin", "password": "SECRET"}},
            "provisioning": {"username": "prov", "password": "SECRET"},
            "phonebook": {"remote": [{"url": "http://x/", "password": "SECRET"}], "ldap": {"server": "ldap", "password": "SECRET"}},
            "raw": {"static.security.user_password": "admin:SECRET"},
            "time": {"ntp": ["192.168.1.1"]},
        }),
    );
    let common = render("y000000000000.cfg", &phone_in_common(&phone)).unwrap();
    assert!(!common.contains("SECRET"), "{common}");
    assert_eq!(read(&common)["local_time.ntp_server1"], "192.168.1.1");
}

#[test]
fn an_account_that_is_gone_is_switched_off() {
    let cfg = device(&phone(
        "FIP11C",
        json!({"lines": [with(line(2), json!({"backup_server": "pbx2.example.net", "transport": "tls"}))]}),
    ));
    let enabled: Vec<&str> = (1..=3).map(|account| cfg[&format!("account.{account}.enable")].as_str()).collect();
    assert_eq!(enabled, ["0", "1", "0"]);
    assert_eq!(cfg["account.2.sip_server.1.transport_type"], "2");
    assert_eq!(cfg["account.2.sip_server.2.address"], "pbx2.example.net");
    assert_eq!(cfg["account.2.outbound_proxy_enable"], "0");
}

#[test]
fn a_domain_of_its_own_goes_into_the_user_name() {
    let cfg = device(&phone(
        "FIP14G",
        json!({"lines": [with(line(1), json!({"domain": "example.net"})), with(line(2), json!({"domain": "pbx.example.net"}))]}),
    ));
    assert_eq!((cfg["account.1.user_name"].as_str(), cfg["account.2.user_name"].as_str()), ("101@example.net", "102"));
}

#[test]
fn codecs_that_are_not_wanted_are_switched_off() {
    let cfg = device(&phone(
        "FIP14G",
        json!({"lines": [with(line(1), json!({"codecs": ["opus", "pcma", "ilbc", "g722"]}))]}),
    ));
    let codec = |name: &str| {
        (
            cfg[&format!("account.1.codec.{name}.enable")].as_str(),
            cfg[&format!("account.1.codec.{name}.priority")].as_str(),
        )
    };
    assert_eq!(codec("opus"), ("1", "1"));
    assert_eq!(codec("pcma"), ("1", "2"));
    assert_eq!(codec("ilbc_13_33kbps"), ("1", "3"));
    assert_eq!(codec("g722"), ("1", "5"));
    assert_eq!(codec("pcmu"), ("0", "0"));
    assert!(
        !device(&phone("FIP14G", json!({"lines": [line(1)]}))).keys().any(|name| name.contains("codec")),
        "no wish, no change"
    );
}

#[test]
fn keys_go_to_the_section_that_holds_them() {
    let phone = phone(
        "FIP11C",
        json!({
            "lines": [with(line(1), json!({"pickup_code": "*8"}))],
            "keys": [
                {"position": 1, "kind": "line", "line": 1, "label": "Anna"},
                {"position": 2, "kind": "blf", "value": "200", "label": "Desk", "line": 1},
                {"position": 3, "kind": "blf", "value": "201", "line": 1, "pickup": "*04"},
                {"position": 4, "kind": "none", "line": 1},
                {"position": 7, "kind": "dnd", "line": 1},
                {"position": 8, "kind": "blf", "value": "202", "line": 1},
                {"position": 9, "kind": "redial", "line": 1},
                {"position": 11, "kind": "blf", "value": "203", "line": 1},
            ],
        }),
    );
    let cfg = device(&phone);
    let expected = [
        ("linekey.1.type", "15"),
        ("linekey.1.label", "Anna"),
        ("linekey.2.type", "16"),
        ("linekey.2.value", "200"),
        ("linekey.2.pickup_value", "*8"),
        ("linekey.3.pickup_value", "*04"),
        ("linekey.4.type", "0"),
        ("linekey.4.value", ""),
        ("programablekey.1.type", "5"),
        ("programablekey.2.type", "16"),
        ("programablekey.2.extension", "*8"),
    ];
    for (name, value) in expected {
        assert_eq!(cfg[name], value, "{name}");
    }
    for absent in ["linekey.2.extension", "linekey.7.type", "programablekey.3.type", "programablekey.5.type"] {
        assert!(!cfg.contains_key(absent), "{absent}");
    }
    let fields: Vec<String> = plugin().complaints(&phone).into_iter().map(|complaint| complaint.field).collect();
    assert_eq!(fields, ["keys.6.kind", "keys.7"]);
}

#[test]
fn what_only_yealink_phones_are_known_to_do_is_reported_and_left_out() {
    let phone = phone(
        "FIP14G",
        json!({
            "lines": [with(line(1), json!({"shared": true, "dial_plan": "xx", "forward": {"no_answer": {"timeout": 20}}}))],
            "keys": [{"position": 1, "kind": "hold", "line": 1}, {"position": 2, "kind": "xml_app", "line": 1, "value": "http://x/"}],
            "expansion": [{"keys": [{"position": 1, "kind": "blf", "line": 1, "value": "200"}]}],
            "access": {"user": {"password": "us3r"}, "lock_pin": "1234"},
            "qos": {"sip_dscp": 24},
            "display": {"brightness": 50},
        }),
    );
    let cfg = device(&phone);
    let yealink = [
        "linekey",
        "expansion",
        "shared_line",
        "dialplan",
        "timeout_fwd.timeout",
        "user:",
        "phone_lock",
        "qos",
        "backlight",
    ];
    for (name, value) in &cfg {
        assert!(!yealink.iter().any(|word| name.contains(word) || value.contains(word)), "{name} = {value}");
    }
    let mut fields: Vec<String> = plugin().complaints(&phone).into_iter().map(|complaint| complaint.field).collect();
    fields.sort();
    assert_eq!(
        fields,
        [
            "access.lock_pin",
            "access.user.password",
            "display.brightness",
            "expansion.0",
            "keys.0.kind",
            "keys.1.kind",
            "lines.0.dial_plan",
            "lines.0.forward.no_answer.timeout",
            "lines.0.shared",
            "qos.sip_dscp",
        ]
    );
}

#[test]
fn a_phone_without_line_keys_still_has_programmable_ones() {
    let cfg =
        device(&phone("FIP16", json!({"keys": [{"position": 1, "kind": "speed_dial", "value": "200", "line": 1}]})));
    assert_eq!(cfg["programablekey.1.type"], "13");
    assert!(!cfg.keys().any(|name| name.starts_with("linekey")));
}

#[test]
fn time_is_told_as_far_as_the_phones_understand_it() {
    let zone = |name: &str, hours: f64, dst: bool| {
        let rule = json!({"abbreviation": "X", "save": 3600, "start": {"month": 3, "week": 5, "weekday": 0, "time": 7200},
            "end": {"month": 10, "week": 5, "weekday": 0, "time": 10800}});
        let zone = json!({"name": name, "utc_offset": (hours * 3600.0) as i32, "abbreviation": "X", "posix": "X", "dst": if dst { rule } else { Value::Null }});
        let phone = phone("FIP14G", json!({"zone": zone, "time": {"zone": name, "hours": "24h", "date": "dmy"}}));
        (device(&phone), plugin().complaints(&phone).into_iter().map(|complaint| complaint.field).collect::<Vec<_>>())
    };
    let (berlin, complaints) = zone("Europe/Berlin", 1.0, true);
    assert_eq!(berlin["local_time.time_zone"], "+1");
    assert_eq!((berlin["local_time.time_format"].as_str(), berlin["local_time.date_format"].as_str()), ("1", "3"));
    assert_eq!(complaints, ["time.zone"], "summer time cannot be told");
    let (new_york, _) = zone("America/New_York", -5.0, true);
    assert_eq!(new_york["local_time.time_zone"], "-5");
    assert_eq!(zone("UTC", 0.0, false).0["local_time.time_zone"], "0");
    let (kolkata, complaints) = zone("Asia/Kolkata", 5.5, false);
    assert!(!kolkata.contains_key("local_time.time_zone"));
    assert_eq!(complaints, ["time.zone"]);
}

#[test]
fn what_has_no_name_on_the_phone_is_reported_and_left_out() {
    let phone = phone(
        "FIP14G",
        json!({
            "locale": {"language": "de-AT", "web_language": "sv", "tones": "XX"},
            "lines": [with(line(1), json!({"codecs": ["gsm", "pcma"], "call_waiting": true})), with(line(2), json!({"call_waiting": false}))],
            "phonebook": {"remote": [{"url": "1"}, {"url": "2"}, {"url": "3"}, {"url": "4"}, {"url": "5"}, {"url": "6"}]},
            "syslog": {"server": "10.0.0.9"},
            "access": {"admin": {"password": "a:b"}},
        }),
    );
    let cfg = device(&phone);
    assert_eq!(cfg["lang.gui"], "German");
    for absent in ["lang.wui", "voice.tone.country", "call_waiting.enable", "remote_phonebook.data.6.url"] {
        assert!(!cfg.contains_key(absent), "{absent}");
    }
    let mut fields: Vec<String> = plugin().complaints(&phone).into_iter().map(|complaint| complaint.field).collect();
    fields.sort();
    assert_eq!(
        fields,
        [
            "access.admin.password",
            "lines.0.call_waiting",
            "lines.0.codecs.0",
            "lines.1.call_waiting",
            "locale.tones",
            "locale.web_language",
            "phonebook.remote.5",
            "syslog.server"
        ]
    );
}

#[test]
fn a_vlan_without_a_number_is_no_vlan() {
    let cfg = device(&phone(
        "FIP14G",
        json!({"vlan": {"voice": {"id": 20, "priority": 5}, "pc": {"priority": 1}, "lldp": false}}),
    ));
    assert_eq!(cfg["static.network.vlan.internet_port_vid"], "20");
    assert_eq!(cfg["static.network.lldp.enable"], "0");
    assert!(!cfg.keys().any(|name| name.contains("pc_port")));
}

#[test]
fn the_provisioning_address_is_written_back() {
    let cfg = device(&phone(
        "FIP14G",
        json!({"provisioning": {"refresh": 3601, "pnp": true, "redirection": false}, "switches": {"notify_reboot": 1}}),
    ));
    let expected = [
        ("static.auto_provision.server.url", "http://10.20.0.5:8080/"),
        ("static.auto_provision.repeat.enable", "1"),
        ("static.auto_provision.repeat.minutes", "61"),
        ("static.auto_provision.pnp_enable", "1"),
        ("static.zero_touch.enable", "0"),
        ("sip.notify_reboot_enable", "1"),
    ];
    for (name, value) in expected {
        assert_eq!(cfg[name], value, "{name}");
    }
    assert!(!device(&phone("FIP14G", json!({}))).contains_key("sip.notify_reboot_enable"));
}

#[test]
fn the_phones_are_recognised_in_all_their_spellings() {
    let plugin = plugin();
    for (agent, model, firmware, mac) in [
        ("Flyingvoice FIP14G V0.7.3.1 00:21:F2:22:B0:21", "FIP14G", "V0.7.3.1", Some(MAC)),
        ("Flyingvoice FIP14G V0.6.61 0021F222B021", "FIP14G", "V0.6.61", Some(MAC)),
        ("FLYINGVOICE FIP14G SV0.6.61(202112301720) 202112301720", "FIP14G", "V0.6.61", None),
        ("FLYINGVOICE FIP13G SV0.6.59(202112251856) 202112251856", "FIP13G", "V0.6.59", None),
        ("FLYINGVOICE FIP14G V0.6.61", "FIP14G", "V0.6.61", None),
    ] {
        let identity = plugin.spec().identify(agent).unwrap_or_else(|| panic!("{agent}"));
        assert_eq!((identity.model.as_deref(), identity.firmware.as_deref()), (Some(model), Some(firmware)), "{agent}");
        assert_eq!(identity.mac.map(|mac| mac.to_string()).as_deref(), mac, "{agent}");
    }
    assert!(plugin.spec().identify("Yealink SIP-T46G 28.72.0.1 00:15:65:4a:a9:37").is_none());
    let announced = Identity { vendor: Some("FLYINGVOICE".into()), ..Identity::default() };
    assert_eq!(plugin.spec().evidence(&announced).claim(), Claim::Certain);
    assert_eq!(plugin.spec().model("FIP10P").unwrap().0, "FIP10");
}

#[test]
fn the_url_is_that_of_the_phones_own_file() {
    let announced = Announced {
        identity: Identity { mac: MAC.parse().ok(), ..Identity::default() },
        base_url: "tftp://192.168.50.165/".into(),
    };
    assert_eq!(announce_by_data(plugin().spec(), &announced).unwrap(), "tftp://192.168.50.165/0021f222b021.cfg");
}

#[test]
fn the_simulated_announcement_is_the_capture() {
    let capture = include_str!("../../../tests/captures/10-flyingvoice-fip14g-RECONSTRUCTED.sip");
    let simulation = &plugin().spec.simulate[0];
    let written = simulation
        .subscribe
        .replace("{mac}", "0021f222abd9")
        .replace("{ip}", "192.168.20.2")
        .replace("{number}", "1536537630")
        .replace("{model}", &simulation.model)
        .replace("{firmware}", &simulation.firmware);
    assert_eq!(written, capture.replace("\r\n", "\n").trim_end().to_owned() + "\n");
}
