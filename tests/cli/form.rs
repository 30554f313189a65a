use std::fs;

use provost_tests::Plan;
use serde_json::{Value, json};

use crate::{
    pages::Visitor,
    people::{Person, Said, refused},
    site::{Site, TEMPLATE, VENDOR_YAML, file, plan, start},
};

const PHONE: &str = "/api/v1/devices/02acde000001";

const WRITTEN: &str = "# Who has which phone; ask Anna before you change it.
devices:
  # Front desk.
  02:ac:de:00:00:01:   # by the door
    label:  'Front desk'
    lines:
      # The zero is dialled too.
      - { number: 0101, password: secret-word }
    sip: { outbound_proxy: proxy.example }   # ticket 12
  02:ac:de:00:00:02: { label: Kitchen, lines: [{ number: 102, password: secret-word }] }
";

/// The first two phones in one file, as people write it.
fn several() -> Plan {
    plan().file("profiles/devices/1.yaml", WRITTEN).file("profiles/devices/2.yaml", "devices: {}\n")
}

fn read(site: &Site) -> String {
    fs::read_to_string(site.path("profiles/devices/1.yaml")).unwrap()
}

fn patch(person: &Person, etag: &str, patch: &Value) -> Said {
    let headers = [("If-Match", etag), ("Content-Type", "application/merge-patch+json")];
    person.ask("PATCH", PHONE, &headers, &patch.to_string()).unwrap()
}

#[test]
fn a_setting_is_changed_where_people_wrote_it_and_their_comments_stay() {
    let site = start(several());
    let person = Person::of(&site);
    let written = || read(&site);
    let first = person.get(&format!("{PHONE}/settings"));
    let expected = json!({
        "label": "Front desk", "lines": [{ "number": "0101", "password": "secret-word" }], "sip": { "outbound_proxy": "proxy.example" },
    });
    assert_eq!(first.json(), expected);

    let change =
        json!({ "label": null, "sip": { "outbound_proxy": "other.example", "port": 5062 }, "location": "Hall: 2" });
    let said = patch(&person, &first.etag(), &change);
    assert_eq!(said.status, 204, "{said:?}");
    // In service when the answer comes.
    assert!(site.get(&file(1)).says("proxy = other.example"));
    let after = WRITTEN.replace("    label:  'Front desk'\n", "").replace(
        "proxy.example }   # ticket 12\n",
        "other.example, port: 5062 }   # ticket 12\n    location: \"Hall: 2\"\n",
    );
    assert_eq!(written(), after);
    assert_eq!(said.etag(), person.get(&format!("{PHONE}/source")).etag());

    // The second of two people is told, and nothing is lost.
    let said = patch(&person, &first.etag(), &json!({ "label": "Theirs" }));
    assert!(refused(&said, 412).contains("changed by somebody else"));
    assert_eq!(patch(&person, "*", &json!({ "location": null })).status, 204);
    let now = written();

    for (change, status, field, word) in [
        (json!({ "lines": [{ "port": "none" }] }), 422, "lines.0.port", "0 to 65535"),
        (json!({ "sip": { "srever": "x" } }), 422, "sip.srever", "did you mean"),
        (json!({ "lines": [{ "password": "•••" }] }), 422, "lines.0.password", "stands for a password"),
        // Only the template of its vendor can know this: the phone's file has lines.
        (json!({ "lines": [{ "number": "0101", "password": "s3cret\nword" }] }), 422, "1.yaml:", "line break"),
        (json!(7), 422, "", "object"),
    ] {
        let said = patch(&person, "*", &change);
        refused(&said, status);
        let wrong = said.json()["errors"][0].clone();
        let message = wrong["message"].as_str().unwrap();
        assert!(wrong["at"].as_str().unwrap().contains(field) && message.contains(word), "{change}: {said:?}");
        assert!(!said.body.contains("s3cret"), "{said:?}");
    }
    assert_eq!(written(), now, "what is refused is not written");
    let plain = |headers: &[(&str, &str)], body: &str| person.ask("PATCH", PHONE, headers, body).unwrap().status;
    let kind = ("Content-Type", "application/merge-patch+json");
    assert_eq!(plain(&[("If-Match", "*"), ("Content-Type", "text/plain")], "{}"), 415);
    assert_eq!(plain(&[("If-Match", "*"), kind], "{"), 400);
    assert_eq!(plain(&[kind], "{}"), 428);
    let nobody = person.ask("PATCH", "/api/v1/devices/02acde0000ee", &[("If-Match", "*"), kind], "{}").unwrap();
    assert!(refused(&nobody, 404).contains("not in the inventory"));

    // An anchor that two phones share is changed for neither.
    let shared = "devices:\n  02:ac:de:00:00:01: { sip: &sip { outbound_proxy: a }, lines: [{ number: 1 }] }\n  02:ac:de:00:00:02:\n    sip: *sip\n    lines: [{ number: 2 }]\n";
    site.write("profiles/devices/1.yaml", shared);
    site.until("the shared proxy", &file(2), |answer| answer.says("proxy = a"));
    let said = patch(&person, "*", &json!({ "sip": { "outbound_proxy": "b" } }));
    assert!(refused(&said, 409).contains("an anchor, an alias or a merge key (line 2)"), "{said:?}");
    assert_eq!(written(), shared);
}

#[test]
fn the_form_saves_what_was_changed_in_it_and_keeps_what_was_typed_when_it_cannot() {
    let site = start(several());
    let mut visitor = Visitor::inside(&site);
    let token = visitor.token();
    let form = "/devices/02:ac:de:00:00:01/edit";
    let page = visitor.get(form);
    assert!(page.status == 200 && page.body.contains("value=\"Front desk\""), "{page:?}");
    // What it inherits stands beside its field, with the place; a password nowhere.
    assert!(page.body.contains("one.example (") && page.body.contains("site.yaml:2:"), "{}", page.body);
    assert!(
        !page.body.contains("secret-word")
            && page.body.contains("name=\"line.0.password\" value=\"\" type=\"password\"")
    );
    let version =
        |page: &str| page.split_once("name=\"version\" value=\"").unwrap().1.split('"').next().unwrap().to_owned();
    let first = version(&page.body);

    // What would change, before it is written.
    let fields = |more: &[(&'static str, &'static str)], version: &str, act: &str| -> Vec<(String, String)> {
        let all = [
            ("csrf", token.as_str()),
            ("version", version),
            ("act", act),
            ("line", "0"),
            ("line.0.number", "0101"),
            ("line.0.password", ""),
        ];
        let kept = all.into_iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
        kept.chain(more.iter().copied()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let mut post = |fields: Vec<(String, String)>| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        visitor.post(form, &fields)
    };
    let change = [("label", "Front desk"), ("sip.outbound_proxy", "other.example"), ("line.0.number", "0107")];
    let page = post(fields(&change, &first, "compare"));
    assert!(
        page.body.contains("-proxy = proxy.example") && page.body.contains("+proxy = other.example"),
        "{}",
        page.body
    );
    assert!(page.body.contains("value=\"0107\"") && read(&site) == WRITTEN);

    let answer = post(fields(&change, &first, "save"));
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, "/devices/02:ac:de:00:00:01?done=saved"),
        "{answer:?}"
    );
    let after = WRITTEN.replace("0101", "0107").replace("proxy.example", "other.example");
    assert_eq!(read(&site), after, "the password stays, and so does everything else");

    // Of two people who fill the form in, the second sees both.
    let page = post(fields(&[("label", "Mine"), ("sip.outbound_proxy", "other.example")], &first, "save"));
    assert_eq!(page.status, 412, "{page:?}");
    assert!(
        page.body.contains("Somebody else changed the file") && page.body.contains("value=\"Mine\""),
        "{}",
        page.body
    );
    assert!(page.body.contains("The file says now: <code>Front desk</code>"), "{}", page.body);
    let second = version(&page.body);
    assert_eq!(read(&site), after);

    // A fault is said at its field, and nothing that was typed is lost.
    let page = post(fields(&[("label", "Mine"), ("sip.port", "many"), ("line.0.number", "0107")], &second, "save"));
    assert_eq!(page.status, 422, "{page:?}");
    assert!(
        page.body.contains("value=\"many\"")
            && page.body.contains("id=\"sip-port-error\"")
            && page.body.contains("value=\"Mine\"")
    );
    assert!(page.body.contains("aria-describedby=\"sip-port-error"), "{}", page.body);

    // Lines come and go without a script, and what is typed into one that came is saved with the rest.
    let page = post(fields(&[("line.0.number", "0107")], &second, "add-line"));
    assert!(page.body.contains("name=\"line\" value=\"new0\"") && read(&site) == after, "{}", page.body);
    let mut with_line = fields(
        &[("line.0.number", "0107"), ("label", ""), ("line.new0.number", "108"), ("line.new0.password", "s3<&>")],
        &second,
        "save",
    );
    with_line.push(("line".to_owned(), "new0".to_owned()));
    assert_eq!(post(with_line).status, 303);
    let last = read(&site);
    let line = "      - { number: 0107, password: secret-word }\n";
    assert!(last.contains(&format!("{line}      - {{ number: \"108\", password: \"s3<&>\" }}\n")), "{last}");
    assert!(!last.contains("label:  ") && last.contains("# The zero is dialled too."), "{last}");
    assert!(site.get(&file(1)).says("line.2.password = s3<&>"));
}

#[test]
fn a_profile_has_a_form_too_and_its_comments_stay() {
    let profiles = "# Ask Anna.
profiles:
  base:
    time: { zone: Europe/Berlin }
    access: { admin: { password: secret-word } }
  desks: # all of them
    extends: base
    match: { vendor: acme } # ours
    sip:
      outbound_proxy: proxy.example # ticket 12
  'odd/one?': {}
";
    let site = start(plan().file("profiles/profiles.yaml", profiles));
    let written = || fs::read_to_string(site.path("profiles/profiles.yaml")).unwrap();
    let mut visitor = Visitor::inside(&site);
    let token = visitor.token();
    let page = visitor.get("/profiles/desks");
    assert!(page.says("href=\"/profiles/desks/edit\"") && page.says("profiles.yaml?line=6"), "{page:?}");
    let form = "/profiles/desks/edit";
    let page = visitor.get(form);
    assert!(page.says("value=\"proxy.example\"") && page.says("<option value=\"acme\" selected>"), "{page:?}");
    // What it would have from below stands under the field; a password is only said to be there.
    assert!(page.says("Europe&#x2f;Berlin (profile base)") && page.says("••• (profile base)"), "{}", page.body);
    assert!(!page.body.contains("secret-word") && !page.body.contains("<option value=\"desks\""), "{}", page.body);
    let version = page.body.split_once("name=\"version\" value=\"").unwrap().1.split('"').next().unwrap().to_owned();
    let mut post = |change: &[(&str, &str)]| {
        let fields = [("csrf", token.as_str()), ("version", &version), ("extends", "base"), ("match.vendor", "acme")];
        visitor.post(form, &[&fields[..], change].concat())
    };
    let change = [("sip.outbound_proxy", "other.example"), ("sip.port", "5062"), ("match.mac", "02acde")];
    let page = post(&[&change[..], &[("act", "compare")]].concat());
    assert!(page.says("3 phones would change") && page.says("+proxy = other.example"), "{}", page.body);
    assert!(page.body.contains("value=\"other.example\"") && written() == profiles, "{}", page.body);
    let page =
        post(&[("sip.outbound_proxy", "proxy.example"), ("sip.port", "many"), ("match.mac", "x"), ("act", "save")]);
    assert_eq!(page.status, 422, "{page:?}");
    for id in ["sip-port-error", "match-mac-error"] {
        assert!(page.body.contains(&format!("id=\"{id}\"")), "{id}: {}", page.body);
    }
    let answer = post(&[&change[..], &[("act", "save")]].concat());
    assert_eq!((answer.status, answer.header("location")), (303, "/profiles/desks?done=saved"), "{answer:?}");
    assert_eq!(
        written(),
        profiles
            .replace("acme }", "acme, mac: \"02acde\" }")
            .replace("proxy.example # ticket 12\n", "other.example # ticket 12\n      port: 5062\n")
    );
    // Somebody else was first; and what would break a phone or a reference is not written.
    let page = post(&[("extends", "nobody"), ("sip.outbound_proxy", "mine.example"), ("act", "save")]);
    assert!(page.status == 412 && page.body.contains("The file says now: <code>other.example</code>"), "{page:?}");
    assert_eq!(visitor.get("/profiles/nobody/edit").status, 404);
    assert_eq!(visitor.get("/profiles/odd%2Fone%3F/edit").status, 200);

    // A program can do the same, with every scope but the smaller ones.
    let person = Person::of(&site);
    let settings = person.get("/api/v1/profiles/desks/settings");
    assert_eq!(settings.json()["match"], json!({ "vendor": "acme", "mac": "02acde" }));
    let patch = |body: &str| {
        let headers = [("If-Match", settings.etag()), ("Content-Type", "application/merge-patch+json".to_owned())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        person.ask("PATCH", "/api/v1/profiles/desks", &headers, body).unwrap()
    };
    let said = patch(r#"{"extends": "bsae"}"#);
    refused(&said, 422);
    assert_eq!(said.json()["errors"][0]["at"], "extends", "{said:?}");
    assert_eq!(patch(r#"{"match": null, "time": {"zone": "Europe/Rome"}}"#).status, 204);
    assert!(!written().contains("match") && written().contains("# all of them"), "{}", written());
    assert_eq!(
        refused(&person.get("/api/v1/profiles/nobody/settings"), 404),
        "there is no profile of this name in service"
    );
}

#[test]
fn keys_lie_on_the_page_as_on_the_phone_and_each_line_of_a_file_tells_where_it_comes_from() {
    let vendor = VENDOR_YAML.replace("lines: 4", "lines: 4, keys: 6, expansion_modules: 1, expansion_keys: 3");
    let template = format!(
        "{TEMPLATE}{{% for key in phone.keys %}}\nkey.{{{{ key.position }}}} = {{{{ key.kind }}}} {{{{ key.value }}}}\n{{% endfor %}}{{% for name, value in phone.raw|items %}}\nraw.{{{{ name }}}} = {{{{ value }}}}\n{{% endfor %}}\n"
    );
    let site = "defaults:\n  sip: { server: one.example }\n  keys: [{ kind: blf, value: 200, label: Reception }]\n  vendor: { acme: { secret: raw-word } }\n";
    let own = "devices:\n  02:ac:de:00:00:01:\n    identity: { model: Desk }\n    lines:\n      - { number: 101, password: secret-word }\n";
    let plan = plan()
        .file("plugins/acme/vendor.yaml", vendor)
        .file("templates/acme/device.cfg.j2", template)
        .file("profiles/site.yaml", site)
        .file("profiles/devices/1.yaml", own);
    let site = start(plan);
    for _ in 0..2 {
        assert!(site.get(&file(1)).says("key.1 = blf 200"));
    }
    let mut visitor = Visitor::inside(&site);
    let token = visitor.token();
    let path = "/devices/02:ac:de:00:00:01";
    let page = visitor.get(path);
    for word in [
        "?key=6#keys",
        "?module=1&amp;key=3#keys",
        "<strong>Reception</strong>",
        "<svg class=\"picture\"",
        "class=\"mark good\"",
    ] {
        assert!(page.body.contains(word), "{word}: {}", page.body);
    }
    // What is empty is folded, and says so.
    let module = "<details><summary><h3>Expansion module 1</h3> <span class=\"dim\">none of 3 keys set</span>";
    assert!(page.body.contains(module), "{}", page.body);
    assert!(
        !page.body.contains("?key=7#keys") && !page.body.contains("module=2"),
        "no more than it has: {}",
        page.body
    );

    let mut press = |fields: &[(&str, &str)]| {
        let all: Vec<(&str, &str)> = [("csrf", token.as_str())].into_iter().chain(fields.iter().copied()).collect();
        visitor.post(&format!("{path}/key"), &all)
    };
    let wrong = press(&[("module", "0"), ("key", "3"), ("kind", "speed_dial"), ("value", "0049"), ("line", "many")]);
    assert_eq!(wrong.status, 422, "{wrong:?}");
    assert!(wrong.body.contains("value=\"many\"") && wrong.body.contains("value=\"0049\""), "{}", wrong.body);
    for (fields, line) in [
        (
            [("module", "0"), ("key", "3"), ("kind", "speed_dial"), ("value", "0049")],
            "      - { kind: speed_dial, position: 3, value: \"0049\" }\n",
        ),
        (
            [("module", "1"), ("key", "1"), ("kind", "dnd"), ("value", "")],
            "    expansion:\n      - keys:\n          - { kind: dnd }\n",
        ),
    ] {
        let answer = press(&fields);
        assert_eq!(answer.status, 303, "{answer:?}");
        assert!(answer.header("location").ends_with(&format!("key={}#keys", fields[1].1)), "{answer:?}");
        assert!(read(&site).contains(line), "{}", read(&site));
    }
    assert!(site.get(&file(1)).says("key.3 = speed_dial 0049"));
    let answer = press(&[("module", "0"), ("key", "3"), ("act", "inherit")]);
    assert!(answer.status == 303 && !read(&site).contains("speed_dial"), "{}", read(&site));

    // Where each line comes from, asked of the template by changing each setting.
    let person = Person::of(&site);
    let traced = person.get(&format!("{PHONE}/provenance?file={}", file(1)));
    assert!(!traced.body.contains("secret-word") && !traced.body.contains("raw-word"), "{traced:?}");
    let traced = traced.json();
    assert_eq!(traced["complete"], true, "{traced}");
    let text = person.get(&format!("{PHONE}/preview?file={}", file(1))).json()["text"].as_str().unwrap().to_owned();
    let mut told: Vec<(String, String, String)> = Vec::new();
    for carried in traced["lines"].as_array().unwrap() {
        let line = text.lines().nth(carried["line"].as_u64().unwrap() as usize - 1).unwrap();
        let word = |name: &str| carried[name].as_str().unwrap().to_owned();
        told.push((line.split(" =").next().unwrap().to_owned(), word("field"), word("origin")));
    }
    for (name, field, place) in [
        ("server", "sip.server", "site.yaml:2:"),
        ("line.1.number", "lines.0.number", "1.yaml:5:"),
        ("line.1.password", "lines.0.password", "1.yaml:5:"),
        ("key.1", "keys.0.value", "site.yaml:3:"),
        ("raw.secret", "vendor.acme.secret", "site.yaml:4:"),
    ] {
        let of: Vec<_> = told.iter().filter(|(line, carried, _)| line == name && carried == field).collect();
        assert!(of.len() == 1 && of[0].2.contains(place), "{name}: {told:?}");
    }
    assert!(!told.iter().any(|(line, ..)| line.starts_with('#') || line == "base"), "{told:?}");
    let page = visitor.get(path);
    assert!(page.body.contains("title=\"sip.server from "), "{}", page.body);
}
