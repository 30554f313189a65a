use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddrV4, TcpStream},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use provost_tests::tools::{feed, require};
use serde_json::{Value, json};

use crate::{
    pages::Visitor,
    site::{Site, defaults, plan, run, serve, start},
};

/// Somebody who asks through the door for people.
pub(crate) struct Person {
    pub(crate) door: SocketAddrV4,
    pub(crate) key: String,
}

#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn etag(&self) -> String {
        let line = self.head.lines().find_map(|line| line.strip_prefix("etag: "));
        line.unwrap_or_else(|| panic!("no ETag: {}", self.head)).to_owned()
    }
}

impl Person {
    pub(crate) fn of(site: &Site) -> Person {
        let key = fs::read_to_string(site.data().join("state/admin.key")).unwrap();
        Person { door: site.admin(), key: key.trim().to_owned() }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Said> {
        let mut stream = TcpStream::connect(self.door).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.door);
        if !self.key.is_empty() {
            request += &format!("Authorization: Bearer {}\r\n", self.key);
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).ok()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Said { status, head: head.to_lowercase(), body: body.to_owned() })
    }

    pub(crate) fn get(&self, path: &str) -> Said {
        self.ask("GET", path, &[], "").unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Said {
        self.ask("POST", path, &[("Content-Type", "application/json")], &body.to_string()).unwrap()
    }
}

const STRANGER: &str = "02acde0000aa";

/// The detail of a refusal, which must have this status.
pub(crate) fn refused(said: &Said, status: u16) -> String {
    assert_eq!(said.status, status, "{said:?}");
    assert!(said.head.contains("application/problem+json"), "{said:?}");
    said.json()["detail"].as_str().unwrap().to_owned()
}

#[test]
fn a_phone_that_waits_is_seen_approved_and_followed_until_it_is_in_step() {
    let site = start(plan());
    let person = Person::of(&site);
    let file = format!("acme-{STRANGER}.cfg");
    assert_eq!(site.get_as(&file, &format!("Acme Desk 1.2 {STRANGER}")).status, 404);
    let waiting = person.get("/api/v1/devices?state=pending").json();
    assert_eq!((&waiting["total"], &waiting["items"][0]["model"]), (&json!(1), &json!("Desk")), "{waiting}");

    let assignment = json!({ "label": "Porter", "lines": [{ "number": "107", "password": "s3<&>\"':#" }] });
    let approve = format!("/api/v1/devices/{STRANGER}/approve");
    let said = person.post(&approve, &assignment);
    assert_eq!(said.status, 201, "{said:?}");
    assert!(said.json()["files"].as_array().unwrap().contains(&json!(file)), "{said:?}");
    // In service when the answer comes, with the very password.
    let progress = || person.get(&format!("/api/v1/devices/{STRANGER}")).json()["progress"].clone();
    assert_eq!(progress(), "never_fetched");
    assert!(site.get(&file).says("line.1.password = s3<&>\"':#"));
    assert_eq!(progress(), "in_step");
    // Before it is asked for so often that its first steps are forgotten.
    let admin = site.admin().to_string();
    let (_, said, _) = run(site.command(&["history", STRANGER, "--admin", &admin]));
    assert!(said.contains("over http: unknown") && said.contains("over http: rendered"), "{said}");
    site.write("profiles/site.yaml", defaults("two.example"));
    site.until("the other server", &file, |answer| answer.says("two.example"));
    site.write("profiles/site.yaml", defaults("three.example"));
    site.until("the other server for another phone", &crate::site::file(1), |answer| answer.says("three.example"));
    assert_eq!(progress(), "out_of_date");

    assert!(refused(&person.post(&approve, &assignment), 409).contains("enrolled already"));
    let shown = person.get(&format!("/api/v1/devices/{STRANGER}"));
    assert!(!shown.body.contains("s3<"), "a password stays in its file: {shown:?}");
    // The same from the command line.
    let enrolled = ["devices", "porter", "--standing", "enrolled", "--vendor", "acme", "--admin", &admin];
    let (code, said, complained) = run(site.command(&enrolled));
    assert!(code == 0 && said.contains("out of date") && said.contains("1 phone\n"), "{said}{complained}");
    let (code, said, _) = run(site.command(&["approve", "02acde0000ab", "--number", "108", "--admin", &admin]));
    assert!(
        code == 0 && said.contains("02acde0000ab.yaml") && site.get("acme-02acde0000ab.cfg").status == 200,
        "{said}"
    );
    let (code, _, complained) = run(site.command(&["approve", "02acde0000ac", "--profile", "none", "--admin", &admin]));
    assert!(code == 1 && complained.contains("there is no profile \"none\""), "{complained}");
}

#[test]
fn two_people_who_change_one_file_do_not_undo_each_other_and_a_bad_change_is_no_change() {
    let site = start(plan());
    let person = Person::of(&site);
    let path = "/api/v1/devices/02acde000001/source";
    let first = person.get(path);
    assert!(first.body.contains("secret-word") && first.head.contains("application/yaml"), "{first:?}");
    let put = |etag: &str, body: &str| {
        person.ask("PUT", path, &[("If-Match", etag), ("Content-Type", "application/yaml")], body).unwrap()
    };
    let mine = format!("# why: asked for by phone\n{}", first.body.replace("secret-word", "another-word"));
    let said = put(&first.etag(), &mine);
    assert_eq!(said.status, 204, "{said:?}");
    assert!(site.get(&crate::site::file(1)).says("another-word"));
    let theirs = first.body.replace("secret-word", "third-word");
    assert!(refused(&put(&first.etag(), &theirs), 412).contains("changed by somebody else"));
    assert_eq!(person.get(path).body, mine);

    // What does not parse, and what breaks a phone: refused with the place, and nothing is written.
    let now = person.get(path).etag();
    for (bad, at, why) in [
        (mine.replace("password:", "pasword:"), ":5:", "did you mean"),
        (mine.replace("another-word", "\"line\\nbreak\""), "1.yaml:", "line break"),
    ] {
        let said = put(&now, &bad);
        refused(&said, 422);
        let errors = said.json()["errors"].clone();
        let text = errors.to_string();
        assert!(text.contains(at) && text.to_lowercase().contains(why), "{text}");
        assert_eq!((person.get(path).body, person.get(path).etag()), (mine.clone(), now.clone()));
    }
    assert_eq!(person.ask("PUT", path, &[], &mine).unwrap().status, 428);
    // A replacement phone, in the same place; the comment stays.
    let said = person.post("/api/v1/devices/02acde000001/swap", &json!({ "to": "02:ac:de:00:00:f1" }));
    assert_eq!(said.status, 204, "{said:?}");
    assert!(site.get("acme-02acde0000f1.cfg").says("another-word") && site.get(&crate::site::file(1)).status == 404);
    let file = fs::read_to_string(site.data().join("profiles/devices/1.yaml")).unwrap();
    assert_eq!(file, mine.replace("02:ac:de:00:00:01", "02:ac:de:00:00:f1"));
    let said = person.post("/api/v1/devices/02acde000002/swap", &json!({ "to": "02acde000003" }));
    assert!(refused(&said, 409).contains("is enrolled itself"));
}

#[test]
fn nobody_is_let_in_without_a_key_and_every_mistake_is_a_problem_that_names_its_field() {
    let site = start(plan());
    let person = Person::of(&site);
    let nobody = Person { key: String::new(), ..Person::of(&site) };
    let stranger = Person { key: "0".repeat(64), ..Person::of(&site) };
    for path in ["/api/v1/devices", "/metrics", "/api/v1/devices/02acde000001/source", "/nothing"] {
        assert!(refused(&nobody.get(path), 401).contains("a key is needed"));
        assert!(refused(&stranger.get(path), 401).contains("not known"));
    }
    for path in ["/healthz", "/readyz", "/api/v1/openapi.json"] {
        assert_eq!(nobody.get(path).status, 200, "{path}");
    }
    let metrics = person.get("/metrics");
    assert!(metrics.body.contains("\nprovost_devices 3\n"), "{}", metrics.body);

    assert!(refused(&person.get("/api/v1/devices/nonsense"), 422).contains("\"nonsense\" is no MAC address"));
    assert!(refused(&person.get("/api/v1/devices?limit=5000"), 422).contains("limit"));
    assert!(refused(&person.get("/api/v1/devices?colour=red"), 422).contains("colour"));
    assert!(refused(&person.get("/api/v1/devices/02acde0000ee"), 404).contains("never seen"));
    assert!(refused(&person.get("/nothing"), 404).contains("openapi.json"));
    assert_eq!(person.ask("DELETE", "/api/v1/profiles", &[], "").unwrap().status, 405);
    let approve = "/api/v1/devices/02acde0000ee/approve";
    let json_body = [("Content-Type", "application/json")];
    for (body, status, word) in
        [("{", 400, ""), ("{\"colour\": 1}", 422, "colour"), ("{\"profile\": \"none\"}", 422, "profile")]
    {
        let said = person.ask("POST", approve, &json_body, body).unwrap();
        assert!(refused(&said, status).contains(word), "{said:?}");
    }
    assert_eq!(person.ask("POST", approve, &[], "{}").unwrap().status, 415);
    assert!(!site.data().join("profiles/devices/02acde0000ee.yaml").exists());
    // The document is JSON Schema that somebody else's judge reads.
    let document = nobody.get("/api/v1/openapi.json");
    let python =
        "import json,sys; d=json.load(sys.stdin); assert d['openapi'].startswith('3.1'); print(len(d['paths']))";
    let paths = feed(Command::new(require("python3")).args(["-c", python]), document.body.as_bytes()).unwrap();
    assert!(String::from_utf8_lossy(&paths).trim().parse::<usize>().unwrap() > 8);
}

#[test]
fn what_was_acknowledged_is_there_after_every_kill() {
    let mut plan = plan().flags(["--no-pnp"]);
    let (mut approved, mut ignored) = (Vec::new(), Vec::new());
    for round in 0..6_u8 {
        let site = serve(plan);
        let person = Person::of(&site);
        for mac in &approved {
            assert_eq!(site.get(&format!("acme-{mac}.cfg")).status, 200, "{mac} was approved before the kill");
        }
        for mac in &ignored {
            let phone = person.get(&format!("/api/v1/devices/{mac}")).json();
            assert_eq!(phone["state"], "ignored", "{mac} was ignored before the kill: {phone}");
        }
        let enough = AtomicBool::new(false);
        let (more, hidden) = std::thread::scope(|scope| {
            let (site, person, enough) = (&site, &person, &enough);
            // Strangers that ask, as fast as they are answered, until the power goes.
            scope.spawn(move || {
                for number in 0_u16.. {
                    if enough.load(Ordering::Relaxed) {
                        return;
                    }
                    drop(site.get(&format!("acme-02acde{round:02x}{number:04x}.cfg")));
                }
            });
            let approving = scope.spawn(move || {
                let mut done = Vec::new();
                for number in 0..4_u8 {
                    let mac = format!("02acdf{round:02x}00{number:02x}");
                    let said = person
                        .post(&format!("/api/v1/devices/{mac}/approve"), &json!({ "lines": [{ "number": "1" }] }));
                    if said.status == 201 {
                        done.push(mac);
                    }
                }
                done
            });
            let mut hidden = Vec::new();
            for number in 0..20_u8 {
                let mac = format!("02acde{round:02x}f0{number:02x}");
                assert_eq!(site.get(&format!("acme-{mac}.cfg")).status, 404);
                let said = person.ask("PUT", &format!("/api/v1/devices/{mac}/ignore"), &[], "").unwrap();
                assert_eq!(said.status, 204, "{said:?}");
                hidden.push(mac);
            }
            let more = approving.join().unwrap();
            enough.store(true, Ordering::Relaxed);
            (more, hidden)
        });
        assert_eq!(more.len(), 4, "every approval was answered");
        approved.extend(more);
        ignored.extend(hidden);
        plan = site.kill();
    }
    let site = serve(plan);
    assert!(approved.iter().all(|mac| site.get(&format!("acme-{mac}.cfg")).status == 200));
    let kept = Person::of(&site).get("/api/v1/devices?state=ignored").json();
    assert_eq!((approved.len(), &kept["total"]), (24, &json!(120)));
    println!("after 6 kills: {} approvals and {} ignored phones are there", approved.len(), ignored.len());
}

#[test]
fn a_registry_that_is_no_good_is_kept_aside_and_phones_are_served() {
    let site = start(plan().file("state/registry.db", "SQLite format 3\0 no, it is not".repeat(64)));
    let line = site.wait_for("the message", |line| line.text.contains("cannot use the registry"));
    assert!(line.text.contains("registry.db.aside-1") && site.data().join("state/registry.db.aside-1").exists());
    assert_eq!(site.get(&crate::site::file(1)).status, 200);
}

#[test]
fn ten_thousand_rows_are_enrolled_together_or_not_at_all() {
    let site = start(plan());
    let admin = site.admin().to_string();
    let mac = |number: u32| format!("02acde{number:06x}");
    let row =
        |number: u32| format!("{},Desk {number},{},s3<&>\"\"{number}\n", mac(0x10_0000 + number), 10_000 + number);
    let rows: Vec<String> =
        (0..10_000).map(row).map(|row| row.replacen("s3", "\"s3", 1).replace('\n', "\"\n")).collect();
    let good = format!("mac,label,number,password\n{}", rows.concat());
    let mut bad = rows.clone();
    bad[41] = bad[41].replacen("02acde", "02acdx", 1);
    bad[5000] = bad[5000].replacen(&mac(0x10_0000 + 5000), "02acde000001", 1);
    bad[9999] = bad[9999].replace("\"\n", "\",surplus\n");
    let file = site.data().join("phones.csv");
    let import = |text: &str, words: &[&str]| {
        fs::write(&file, text).unwrap();
        let all = [&["import", file.to_str().unwrap(), "--admin", &admin], words].concat();
        run(site.command(&all))
    };
    let (code, _, complained) = import(&format!("mac,label,number,password\n{}", bad.concat()), &[]);
    assert_eq!(code, 1, "{complained}");
    for place in ["row 43, column mac", "row 5002, column mac", "row 10001, column password"] {
        assert!(complained.contains(place), "{place}: {complained}");
    }
    assert_eq!(complained.matches("row ").count(), 3, "{complained}");
    assert!(!complained.contains("s3<"), "a password is in no message: {complained}");
    let written = || fs::read_dir(site.data().join("profiles/devices")).unwrap().count();
    assert_eq!(written(), 3, "nothing is written");

    let (code, said, complained) = import(&good, &["--dry-run"]);
    assert!(code == 0 && said.contains("10000 phones with 10000 accounts could be enrolled"), "{said}{complained}");
    assert_eq!(written(), 3);
    let (code, said, complained) = import(&good, &[]);
    assert!(code == 0 && said.contains("are enrolled") && said.contains("import-1"), "{said}{complained}");
    // In service when the command ends, every one of them.
    let (_, said, complained) = run(site.command(&["check"]));
    assert!(said.contains("10003 devices, 1 vendors: 0 errors"), "{said}{complained}");
    for number in [0, 41, 5000, 9999] {
        let answer = site.get(&format!("acme-{}.cfg", mac(0x10_0000 + number)));
        assert!(answer.says(&format!("line.1.password = s3<&>\"{number}\n")), "{answer:?}");
    }
    let (code, _, complained) = import(&good, &[]);
    assert!(code == 1 && complained.contains("enrolled already"), "{complained}");
    let (_, exported, _) = run(site.command(&["export", "--admin", &admin]));
    assert_eq!(exported.lines().count(), 10_004);
    let line = format!("{},Desk 9999,,,,,19999,19999,19999,\"s3<&>\"\"9999\"", "02:ac:de:10:27:0f");
    assert!(exported.lines().any(|exported| exported.starts_with(&line)), "{:?}", exported.lines().last());
}

#[test]
fn a_key_opens_what_its_scope_says_until_it_is_removed_also_after_a_restart() {
    let site = start(plan());
    let admin = site.admin().to_string();
    let key = |words: &[&str]| run(site.command(&[&["key"], words, &["--admin", &admin]].concat()));
    let (code, made, complained) = key(&["add", "dash board", "--scope", "read"]);
    assert!(code == 0 && made.starts_with("provost_") && made.lines().count() == 1, "{made}{complained}");
    let (_, operator, _) = key(&["add", "operator", "--scope", "operate", "--expires", "2999-12-31"]);
    let of = |key: &str| Person { key: key.trim().to_owned(), ..Person::of(&site) };
    let (reader, operator) = (of(&made), of(&operator));
    assert_eq!(reader.get("/api/v1/devices").status, 200);
    let resync = "/api/v1/devices/02acde000001/resync";
    assert!(refused(&reader.post(resync, &json!({})), 403).contains("the scope operate, and the key has read"));
    // It was never seen: that is beyond the question of who asks.
    refused(&operator.post(resync, &json!({})), 422);
    for path in ["/api/v1/keys", "/api/v1/devices/02acde000001/source", "/api/v1/files/profiles/site.yaml"] {
        assert!(refused(&operator.get(path), 403).contains("the scope admin"), "{path}");
    }
    let (code, _, complained) = key(&["add", "operator", "--scope", "read"]);
    assert!(code == 1 && complained.contains("there is a key of that name already"), "{complained}");
    let wrong =
        Person::of(&site).post("/api/v1/keys", &json!({ "name": "x", "scope": "read", "expires": "2020-01-01" }));
    assert!(refused(&wrong, 422).contains("expires: that day is over"));
    let line = site.wait_for("who asked", |line| {
        line.is("message", "change asked for") && line.is("by", "the key \"operator\"") && line.is("path", resync)
    });
    assert_eq!(line.field("status"), 422);
    let kept = fs::read_to_string(site.data().join("state/keys.json")).unwrap();
    assert!(kept.contains("dash board") && !kept.contains(&reader.key), "{kept}");
    assert!(site.log().iter().all(|line| !line.text.contains(&reader.key)), "a key is in no log");

    let site = serve(site.kill());
    let reader = Person { door: site.admin(), ..reader };
    assert_eq!(reader.get("/api/v1/devices").status, 200);
    let list = Person::of(&site).get("/api/v1/keys").json();
    assert_eq!(
        (&list["keys"][0]["name"], &list["keys"][1]["expires"]),
        (&json!("dash board"), &json!("2999-12-31")),
        "{list}"
    );
    let removed = Person::of(&site).ask("DELETE", "/api/v1/keys/dash%20board", &[], "").unwrap();
    assert_eq!(removed.status, 204, "{removed:?}");
    assert!(refused(&reader.get("/api/v1/devices"), 401).contains("not known"));
    // A file that is no good takes nobody's way in but that of the keys in it.
    let plan = site.kill();
    fs::write(plan.data().join("state/keys.json"), "{").unwrap();
    let site = serve(plan);
    let line = site.wait_for("the message", |line| line.text.contains("cannot use the keys"));
    assert!(line.text.contains("keys.json.aside-1"), "{}", line.text);
    assert_eq!(Person::of(&site).get("/api/v1/keys").json()["keys"], json!([]));
}

#[test]
fn a_phone_that_waits_is_shown_with_the_profile_that_fits_it() {
    let profiles = "profiles:\n  default: {}\n  desks:\n    match: { vendor: acme, model: D* }\n";
    let site = start(plan().file("profiles/profiles.yaml", profiles));
    let person = Person::of(&site);
    let file = format!("acme-{STRANGER}.cfg");
    assert_eq!(site.get_as(&file, &format!("Acme Desk 1.2 {STRANGER}")).status, 404);
    assert_eq!(site.get_as("acme-02acde0000ab.cfg", "Acme Wall 1.2 02acde0000ab").status, 404);
    let phone = person.get(&format!("/api/v1/devices/{STRANGER}")).json();
    assert_eq!(phone["suggested_profile"], "desks", "{phone}");
    let why = phone["suggested_because"].as_str().unwrap();
    assert_eq!(why, "it is for phones of vendor acme, model D*, and no other fits this one more closely");
    assert!(phone["suggested_place"].as_str().unwrap().ends_with("profiles.yaml:3"), "{phone}");
    let rows = person.get("/api/v1/devices?state=pending").json();
    assert_eq!(rows["items"][1]["suggested_profile"], "default", "{rows}");
    // The page of those that wait says why, in the same words.
    let page = Visitor::inside(&site).get("/");
    for words in [why, "it is the one called default, and no other is for phones like this one"] {
        assert!(page.says(words), "{words}: {page:?}");
    }
    let admin = site.admin().to_string();
    let (_, said, _) = run(site.command(&["devices", "--standing", "pending", "--admin", &admin]));
    assert!(said.contains("(desks)") && said.contains("(default)"), "{said}");
    let (_, said, _) = run(site.command(&["approve", STRANGER, "--number", "107", "--admin", &admin]));
    assert!(said.contains("is enrolled with profile desks"), "{said}");
    let phone = person.get(&format!("/api/v1/devices/{STRANGER}")).json();
    assert_eq!(phone["suggested_profile"], Value::Null, "{phone}");
}

#[test]
fn a_phone_is_assigned_from_the_command_line_where_it_stands_or_ahead_of_time() {
    let site = start(plan().file("profiles/office.yaml", "profiles:\n  office: {}\n"));
    let admin = site.admin().to_string();
    let assign = |words: &[&str]| run(site.command(&[&["assign"], words, &["--admin", &admin]].concat()));
    let place = site.data().join("profiles/devices/1.yaml");
    let before = fs::read_to_string(&place).unwrap();
    fs::write(&place, format!("# the porter's\n{before}")).unwrap();
    site.until("the comment", &crate::site::file(1), |answer| answer.status == 200);
    let (code, said, complained) = assign(&["02acde000001", "--profile", "office", "--number", "201"]);
    assert!(code == 0 && said.contains("lines, profile changed"), "{said}{complained}");
    let answer = site.get(&crate::site::file(1));
    assert!(answer.says("line.1.number = 201") && answer.says("secret-word"), "the password stays: {answer:?}");
    let now = fs::read_to_string(&place).unwrap();
    assert!(now.starts_with("# the porter's\n") && now.contains("profile: office"), "{now}");
    let (code, _, complained) = assign(&["02acde000001"]);
    assert!(code == 1 && complained.contains("there is nothing to change"), "{complained}");
    let (code, _, complained) = assign(&["02acde000001", "--profile", "ofice"]);
    assert!(code == 1 && complained.contains("office") && fs::read_to_string(&place).unwrap() == now, "{complained}");
    let (code, said, complained) = assign(&["02acde0000ad", "--profile", "office", "--number", "109"]);
    assert!(code == 0 && said.contains("is enrolled with profile office"), "{said}{complained}");
    assert!(site.get("acme-02acde0000ad.cfg").says("line.1.number = 109"));
}
