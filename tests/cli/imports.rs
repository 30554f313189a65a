use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use provost_host::{Limits, Places, Reader, Shelf};
use provost_plugin::{
    MacAddr, Phone,
    model::Settings,
    offers,
    spec::{FileKind, Model},
    switches,
};
use provost_tests::{built, repository};
use serde_json::{Value, json};

use crate::{
    pages::Visitor,
    site::{Answer, Site, TEMPLATE, bare_plan, plan, run, start},
};

/// A password with everything that breaks files, but for what only XML can carry.
const HOSTILE: &str = "s3<&>';=%x";

fn import(site: &Site, words: &[&str]) -> (i32, String, String) {
    let admin = site.admin().to_string();
    run(site.command(&[&["import", "--admin", &admin], words].concat()))
}

fn written(site: &Site) -> usize {
    fs::read_dir(site.data().join("profiles/devices")).map_or(0, Iterator::count)
}

/// A file of this form with three mistakes is refused with their places and writes nothing; mended, all its phones are enrolled and get
/// their files.
fn whole_or_not_at_all(site: &Site, form: &str, bad: &Path, places: [&str; 3], good: &Path, phones: &[(&str, &str)]) {
    let before = written(site);
    let (code, _, complained) = import(site, &[bad.to_str().unwrap()]);
    assert_eq!(code, 1, "{form}: {complained}");
    for place in places {
        assert!(complained.contains(place), "{form}: {place} is not in {complained}");
    }
    assert_eq!(complained.matches("\n  ").count(), 3, "{form}: {complained}");
    assert!(!complained.contains(HOSTILE), "{form}: a password is in no message: {complained}");
    assert_eq!(written(site), before, "{form}: nothing is written");
    let good = good.to_str().unwrap();
    let (code, said, complained) = import(site, &[good, "--dry-run"]);
    assert!(code == 0 && said.contains("could be enrolled") && written(site) == before, "{form}: {said}{complained}");
    let (code, said, complained) = import(site, &[good]);
    let count = format!("{} phones with ", phones.len());
    assert!(code == 0 && said.contains(&count) && said.contains("are enrolled"), "{form}: {said}{complained}");
    assert!(!said.contains(HOSTILE), "{form}: {said}");
    for (mac, line) in phones {
        let (code, file, complained) = run(site.command(&["render", mac]));
        assert!(code == 0 && file.contains(line), "{form}: {mac}: no {line} in {file}{complained}");
        assert!(site.get(&format!("acme-{mac}.cfg")).says(line), "{form}: {mac} is not served");
    }
    let (code, _, complained) = import(site, &[good]);
    assert!(code == 1 && complained.contains("enrolled already"), "{form}: {complained}");
}

#[test]
fn each_form_is_read_whole_or_not_at_all() {
    let site = start(plan());
    let write = |name: &str, text: &str| {
        let path = site.data().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    let quoted = serde_json::to_string(HOSTILE).unwrap();

    let yaml = |mac: &str, line: &str, port: &str| {
        format!(
            "devices:\n  {mac}: {{ lines: [{{ {line}: 300, password: {quoted}, port: {port} }}], time: {{ ntp: [a] }} }}\n  02acde000031: {{}}\n"
        )
    };
    let bad = yaml("02acdx000030", "nmuber", "70000");
    let places = ["line 2, column 3: ", "line 3, column ", "\"port\" takes"];
    let good = write("good.yaml", &yaml("02acde000030", "number", "5070"));
    let phones = [("02acde000030", &*format!("line.1.password = {HOSTILE}")), ("02acde000031", "# template one")];
    // A MAC that is none hides what stands below it, so the other two are of another phone.
    let bad = bad.replace("  02acde000031: {}\n", "  02acde000031: { lines: [{ nmuber: 1, port: 70000 }] }\n");
    whole_or_not_at_all(&site, "yaml", &write("bad.yaml", &bad), places, &good, &phones);

    // As in provd/devices/config.py of wazo-platform/wazo-provd.
    let wazo = |mac: &str, config: &str, kind: &str| {
        json!({
            "devices": [
                { "id": "1", "mac": mac, "vendor": "Acme", "model": "Desk", "config": "one", "description": "Front" },
                { "id": "2", "mac": "02:ac:de:00:00:41", "config": config },
            ],
            "configs": [
                { "id": "base", "parent_ids": [], "raw_config": { "ip": "192.0.2.1", "sip_proxy_ip": "w.example", "X_xivo_user": "u" } },
                { "id": "one", "parent_ids": ["base"], "raw_config": {
                    "sip_lines": { "1": { "username": "400", "password": HOSTILE, "display_name": "A" } },
                    "funckeys": { "2": { "type": kind, "value": "401" } } } },
            ],
        })
        .to_string()
    };
    let first = "\"devices\":[{\"mac\":\"02acde000049\",\"config\":\"one\"},";
    let bad = write("bad.json", &wazo("02:ac:de:00:00:4x", "none", "dance").replace("\"devices\":[", first));
    let places = ["/configs/1/raw_config/funckeys/2/type: ", "/devices/1/mac: ", "/devices/2/config: "];
    let good = write("good.json", &wazo("02:ac:de:00:00:40", "base", "blf"));
    let phones = [("02acde000040", &*format!("line.1.password = {HOSTILE}")), ("02acde000041", "# template one")];
    whole_or_not_at_all(&site, "wazo", &bad, places, &good, &phones);

    // As app/devices/device_download.php of fusionpbx/fusionpbx names its columns.
    let fusionpbx = |mac: &str, line: &str, port: &str| {
        format!(
            "device_uuid,device_mac_address,device_label,device_vendor,line_number,server_address,user_id,auth_id,password,sip_port,device_provisioned_ip\n\
             7f,{mac},Front,acme,1,f.example,500,500,\"{HOSTILE}\",5060,192.0.2.7\n\
             80,02-AC-DE-00-00-51,Back,acme,{line},f.example,501,501,x,5060,\n\
             81,02acde000052,Hall,acme,1,f.example,502,502,y,{port},\n"
        )
    };
    let bad = write("bad.csv", &fusionpbx("02acde00005x", "first", "sip"));
    let places = ["row 2, column device_mac_address: ", "row 3, column line_number: ", "row 4, column sip_port: "];
    let good = write("good.csv", &fusionpbx("02acde000050", "1", "5060"));
    let phones = [
        ("02acde000050", &*format!("line.1.password = {HOSTILE}")),
        ("02acde000051", "line.1.number = 501"),
        ("02acde000052", "line.1.password = y"),
    ];
    whole_or_not_at_all(&site, "fusionpbx", &bad, places, &good, &phones);

    // As this vendor's phones are served elsewhere; what it means, the plugin's own template tells.
    let file = |number: u8| {
        format!("server = e.example\nline.1.number = 60{number}\nline.1.password = {HOSTILE}\nfancy = 1\n")
    };
    let bad = write("bad/acme-02acde000001.cfg", &file(1)).parent().unwrap().to_owned();
    write("bad/acme-02acde000060.cfg", "\0\u{1}\u{2}");
    write("bad/acme-02acde000061.cfg", "colour = red\n");
    write("bad/readme.txt", "no phone's\n");
    let places = ["acme-02acde000001.cfg: ", "acme-02acde000060.cfg: it is no text", "acme-02acde000061.cfg: "];
    let good = write("good/a/acme-02acde000060.cfg", &file(0)).ancestors().nth(2).unwrap().to_owned();
    write("good/acme-02acde000061.cfg", &file(1));
    let phones = [("02acde000060", &*format!("line.1.password = {HOSTILE}")), ("02acde000061", "line.1.number = 601")];
    whole_or_not_at_all(&site, "files", &bad, places, &good, &phones);
    assert_eq!(written(&site), 3 + 4, "each of the four has a directory");
}

#[test]
fn what_is_not_carried_over_is_told() {
    let site = start(plan());
    let directory = site.data().join("old");
    fs::create_dir(&directory).unwrap();
    let file = format!("line.1.number = 700\nline.1.password = {HOSTILE}\nfancy.setting = 1\n");
    fs::write(directory.join("acme-02acde000070.cfg"), file).unwrap();
    let (code, said, complained) = import(&site, &[directory.to_str().unwrap(), "--dry-run"]);
    assert!(code == 0 && said.contains("acme-02acde000070.cfg: not carried over: fancy.setting"), "{said}{complained}");
    let config = json!({ "devices": [{ "mac": "02acde000071", "vendor": "Nobody", "config": "c" }],
        "configs": [{ "id": "c", "parent_ids": [], "raw_config": { "config_encryption_enabled": true } }] });
    fs::write(site.data().join("w.json"), config.to_string()).unwrap();
    let (code, said, complained) = import(&site, &[site.data().join("w.json").to_str().unwrap(), "--dry-run"]);
    assert!(
        code == 0 && said.contains("/configs/0/raw_config: not carried over: config_encryption_enabled"),
        "{said}{complained}"
    );
    assert!(said.contains("/devices/0/vendor: no plugin for the vendor \"Nobody\""), "{said}");
}

#[test]
fn what_has_no_field_is_kept_raw_where_that_is_asked_for() {
    let template = format!(
        "{TEMPLATE}{{% for name, value in phone.raw|items %}}\n{{{{ name }}}} = {{{{ value }}}}\n{{% endfor %}}\n"
    );
    let site = start(plan().file("templates/acme/device.cfg.j2", template));
    let old = |mac: &str| {
        let directory = site.data().join(mac);
        fs::create_dir(&directory).unwrap();
        let text = format!("line.1.number = 700\nline.1.password = {HOSTILE}\nfancy.setting = a: 'b' # c\nplain = 1\n");
        fs::write(directory.join(format!("acme-{mac}.cfg")), text).unwrap();
        directory.display().to_string()
    };
    let (without, with) = (old("02acde000070"), old("02acde000071"));
    let (code, said, complained) = import(&site, &[&without]);
    assert!(code == 0 && said.contains("not carried over: fancy.setting, plain"), "{said}{complained}");
    let (code, said, complained) = import(&site, &["--raw", &with]);
    assert!(code == 0 && !said.contains("not carried over"), "{said}{complained}");
    for (mac, kept) in [("02acde000070", false), ("02acde000071", true)] {
        let answer = site.get(&format!("acme-{mac}.cfg"));
        assert!(
            answer.says("line.1.number = 700") && answer.says(&format!("line.1.password = {HOSTILE}")),
            "{answer:?}"
        );
        for line in ["\nfancy.setting = a: 'b' # c\n", "\nplain = 1\n"] {
            assert_eq!(answer.says(line), kept, "{line}: {answer:?}");
        }
    }
    // As raw settings of the vendor, which people find under the names that they know.
    let raw = run(site.command(&["export", "--form", "yaml", "--admin", &site.admin().to_string()])).1;
    assert!(raw.contains("acme:") && raw.contains("fancy.setting"), "{raw}");
}

/// As a browser sends a form with a file.
fn upload(visitor: &mut Visitor, fields: &[(&str, &str)], file: &[u8]) -> Answer {
    let part = |name: &str, more: &str, value: &str| {
        format!("--limit\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n{value}\r\n")
    };
    let mut body: String = fields.iter().map(|(name, value)| part(name, "", value)).collect();
    let more = "; filename=\"phones.csv\"\r\nContent-Type: text/csv";
    body += &part("file", more, std::str::from_utf8(file).unwrap());
    body += "--limit--\r\n";
    visitor.ask("POST", "/import", "Content-Type: multipart/form-data; boundary=limit\r\n", &body)
}

#[test]
fn a_file_is_looked_at_in_the_page_its_mistakes_are_told_row_by_row_and_then_it_is_enrolled() {
    let site = start(plan());
    let mut visitor = Visitor::inside(&site);
    let token = visitor.token();
    let page = visitor.get("/import");
    assert!(
        page.says("<code>mac, label, profile") && page.body.contains("enctype=\"multipart/form-data\""),
        "{page:?}"
    );
    let bad = format!("mac,number,password\n02acdx000090,300,{HOSTILE}\n02acde000091,301,x\n02acde000001,302,y\n");
    let before = written(&site);

    let answer = upload(&mut visitor, &[("csrf", "guessed"), ("act", "import")], bad.as_bytes());
    assert_eq!(answer.status, 403, "{answer:?}");
    let mut send = |fields: &[(&str, &str)], file: &str| {
        upload(&mut visitor, &[&[("csrf", token.as_str())], fields].concat(), file.as_bytes())
    };
    let answer = send(&[("act", "check")], &bad);
    assert_eq!(answer.status, 422, "{answer:?}");
    for words in [
        "2 places are wrong",
        "data-line=\"2\">row 2, column mac</a>",
        "is no MAC address",
        "data-line=\"4\">row 4, column mac</a>",
        "enrolled already",
        // What was sent comes back, to be mended here.
        "02acde000091,301,x",
    ] {
        assert!(answer.body.contains(words), "{words}: {}", answer.body);
    }
    assert!(!answer.body.contains("value=\"import\""), "it cannot be enrolled: {}", answer.body);
    assert!(send(&[("act", "check"), ("form", "dance")], &bad).body.contains("there is no such form"));
    assert_eq!(send(&[("act", "check")], "").status, 422);
    let tar = "a\0b";
    assert!(send(&[("act", "check")], tar).body.contains("no UTF-8 text"));

    // Mended, looked at, and only then enrolled.
    let good = bad.replace("acdx", "acde").replace("02acde000001,302,y\n", "");
    let answer = send(&[("act", "check"), ("form", "csv"), ("text", &good.replace('\n', "\r\n"))], "");
    assert!(answer.says("2 phones with 2 accounts could be enrolled"), "{answer:?}");
    assert!(answer.body.contains("value=\"import\"") && answer.body.contains("value=\"csv\" selected"), "{answer:?}");
    // One that comes with the order was not looked at yet.
    assert!(send(&[("act", "import")], &good).says("could be enrolled"));
    assert_eq!(written(&site), before, "nothing was written so far");
    let answer = send(&[("act", "import"), ("text", &good)], "");
    assert_eq!((answer.status, answer.header("location")), (303, "/import?done=2"), "{answer:?}");
    assert!(site.get("acme-02acde000090.cfg").says(&format!("line.1.password = {HOSTILE}")));
    assert!(site.log().iter().all(|line| !line.text.contains(HOSTILE)), "a password is in no log");

    // What is too long is told, however much of it there is, and read to its end for that.
    let long = format!("mac\n{}", "#".repeat(5 << 20));
    let answer = send(&[("act", "check")], &long);
    assert!(answer.status == 413 && answer.body.contains("longer than 4 MiB"), "{}", answer.head);
    let answer = visitor.get("/import?done=2");
    assert!(answer.says("2 phones are enrolled"), "{answer:?}");
}

#[test]
fn what_is_exported_makes_the_same_phones_elsewhere() {
    let device = format!(
        "devices:\n  02:ac:de:00:00:81:\n    label: 'Front: #1'\n    identity: {{ vendor: acme, model: Desk }}\n    sip: {{ server: two.example }}\n    \
         lines:\n      - {{ number: 0801, password: {} }}\n      - {{ number: '+49 30', position: 3, expires: 60 }}\n    \
         keys: [{{ kind: blf, value: '200', label: 'yes' }}]\n    time: {{ ntp: [192.0.2.1, 192.0.2.2] }}\n    \
         vendor: {{ acme: {{ 'on': no, \"a b\": '1' }} }}\n",
        serde_json::to_string("s3<&>\"':#{ \\").unwrap()
    );
    let site = start(plan().file("profiles/devices/more.yaml", device));
    let admin = site.admin().to_string();
    let (code, exported, complained) = run(site.command(&["export", "--form", "yaml", "--admin", &admin]));
    assert_eq!(code, 0, "{complained}");
    let other = start(
        bare_plan()
            .file("plugins/acme/vendor.yaml", crate::site::VENDOR_YAML)
            .file("templates/acme/device.cfg.j2", crate::site::TEMPLATE)
            .file("profiles/site.yaml", crate::site::defaults("one.example"))
            .file("exported.yaml", &exported),
    );
    let (code, said, complained) = import(&other, &["exported.yaml"]);
    assert!(code == 0 && said.contains("4 phones with 5 accounts are enrolled"), "{said}{complained}");
    let there = other.admin().to_string();
    let (_, again, _) = run(other.command(&["export", "--form", "yaml", "--admin", &there]));
    assert_eq!(exported, again);
    for mac in ["02acde000001", "02acde000081"] {
        let file = |site: &Site| {
            let body = site.get(&format!("acme-{mac}.cfg")).body;
            body.lines().filter(|line| !line.starts_with("base = ")).map(|line| format!("{line}\n")).collect::<String>()
        };
        assert!(file(&site).contains("password = ") && file(&site) == file(&other), "{}", file(&other));
    }
}

/// Every vendor's own files, read back: the accounts as they were, whatever is in their passwords. How many families lose nothing at all
/// stands in the README, so that the day one more or one fewer does, this says so.
#[test]
fn every_vendors_files_are_read_back_as_the_phones_that_they_are_of() {
    let scratch = tempfile::tempdir().unwrap();
    let places = Places {
        plugins: vec![repository().join("plugins")],
        libraries: built().provost.parent().map(Path::to_owned).into_iter().collect(),
        templates: repository().join("templates"),
        overrides: scratch.path().join("overrides"),
        staged: scratch.path().join("staged"),
        ..Places::default()
    };
    let (shelf, problems) = Shelf::build(&places, None, Limits::default(), None);
    assert!(problems.is_empty(), "{problems:?}");
    let mut reader = Reader::new(&shelf);
    let mut table = String::from("| vendor | accounts | and keys, with nothing lost |\n|---|--:|--:|\n");
    for plugin in shelf.plugins() {
        let spec = &plugin.spec;
        let (mut families, mut read_back, mut exact) = (BTreeSet::new(), 0, 0);
        for (name, model) in &spec.models {
            if !families.insert(&model.family) {
                continue;
            }
            let mac = phone_of(spec.ouis.first().map(ToString::to_string).unwrap_or_default());
            let phone = phone(plugin, &name.replace('*', "0"), model, mac);
            let mut best: Option<usize> = None;
            for (index, file) in spec.files.iter().enumerate() {
                if file.kind != FileKind::Device || file.template.is_none() || !offers(file, &phone) {
                    continue;
                }
                let body = plugin.render(index, &phone).unwrap_or_else(|error| panic!("{}: {error}", plugin.id)).body;
                let Some(name) = file.name.expand(phone.mac, phone.model.as_deref(), model) else { continue };
                let Ok(read) = reader.read(&name, &body, false) else { continue };
                assert_eq!((read.mac, &read.plugin.id), (mac, &plugin.id), "{name}");
                let lines = read.settings["lines"].as_array().cloned().unwrap_or_default();
                let of = |line: &Value, field: &str, or: &str| {
                    let value = line.get(field).or(line.get(or)).and_then(Value::as_str);
                    value.unwrap_or_default().to_owned()
                };
                let told: Vec<[String; 3]> = lines
                    .iter()
                    .map(|line| {
                        [of(line, "username", "number"), of(line, "auth_username", "number"), of(line, "password", "")]
                    })
                    .collect();
                let wanted: Vec<[String; 3]> = phone
                    .settings
                    .lines
                    .iter()
                    .map(|line| {
                        let text = |text: &Option<String>| text.clone().unwrap_or_default();
                        let password = line.password.as_ref().map(|password| password.expose().to_owned());
                        [text(&line.username), text(&line.auth_username), password.unwrap_or_default()]
                    })
                    .collect();
                assert_eq!(told, wanted, "{} {:?}", plugin.id, model.family);
                best = Some(best.unwrap_or(usize::MAX).min(read.lost.len()));
                if !read.lost.is_empty() {
                    println!("{} {:?} {}: {:?}", plugin.id, model.family, read.model, read.lost);
                }
            }
            read_back += usize::from(best.is_some());
            exact += usize::from(best == Some(0));
        }
        let all = families.len();
        let _ = writeln!(table, "| {} | {read_back} of {all} | {exact} of {all} |", spec.vendor);
    }
    let readme = fs::read_to_string(repository().join("core/admin/README.md")).unwrap();
    assert!(readme.contains(&table), "core/admin/README.md must have this table:\n{table}");
}

fn phone_of(oui: String) -> MacAddr {
    let digits: String = format!("{oui}0000ffffff").chars().filter(char::is_ascii_hexdigit).take(12).collect();
    digits.parse().unwrap_or(MacAddr::new([2, 0, 0x5e, 0, 0, 1]))
}

/// A phone with two accounts and four keys, as far as the model has room.
fn phone(plugin: &provost_host::InService, name: &str, model: &Model, mac: MacAddr) -> Phone {
    let count = if model.lines == 1 { 1 } else { 2 };
    let line = |number: u16| {
        json!({
            "position": number, "enabled": true, "number": format!("10{number}"), "username": format!("10{number}"),
            "auth_username": format!("auth{number}"), "password": format!("{HOSTILE}{number}"), "label": format!("Desk {number}"),
            "display_name": format!("Anna {number}"), "server": "pbx.example.net", "port": 5070, "transport": "tcp",
        })
    };
    let kinds = plugin.spec.table("key_kind", model.family.as_deref());
    let keys =
        [("line", None, 1), ("blf", Some("201"), 1), ("speed_dial", Some("0301"), 1), ("blf", Some("202"), count)];
    let keys = keys.into_iter().zip(1..).filter(|((kind, ..), position)| {
        kinds.is_none_or(|kinds| kinds.contains_key(*kind)) && model.keys.is_none_or(|keys| keys >= *position)
    });
    let keys: Vec<Value> = keys
        .map(|((kind, value, line), position)| {
            let label = value.map(|value| format!("To {value}"));
            json!({ "position": position, "kind": kind, "value": value, "label": label, "line": line })
        })
        .collect();
    let settings: Settings = serde_json::from_value(json!({
        "lines": (1..=count).map(line).collect::<Vec<_>>(), "keys": keys,
        "sip": { "server": "pbx.example.net", "port": 5070, "transport": "tcp" },
        "provisioning": { "url": "http://192.0.2.1:8080/" }, "time": { "ntp": ["ntp.example.net"] },
        "access": { "admin": { "username": "admin", "password": "secret-word" } },
    }))
    .unwrap();
    Phone {
        mac: Some(mac),
        vendor: plugin.id.clone(),
        model: Some(name.to_owned()),
        base_url: "http://192.0.2.1:8080/".into(),
        capabilities: model.clone(),
        switches: switches(&plugin.spec, &std::collections::BTreeMap::default()),
        settings,
        ..Phone::default()
    }
}
