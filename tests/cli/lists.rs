use std::fs;

use serde_json::{Value, json};

use crate::{
    pages::Visitor,
    site::{Answer, Site, TEMPLATE, VENDOR_YAML, file, plan, start},
};

fn get(visitor: &mut Visitor, path: &str) -> Value {
    let answer = visitor.get(path);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

fn send(visitor: &mut Visitor, method: &str, path: &str, headers: &str, body: &Value) -> Answer {
    let token = visitor.token();
    let headers = format!("X-CSRF-Token: {token}\r\nContent-Type: application/json\r\n{headers}");
    visitor.ask(method, path, &headers, &body.to_string())
}

fn read(site: &Site, name: &str) -> String {
    fs::read_to_string(site.path(name)).unwrap()
}

#[test]
fn a_profile_is_found_in_the_tree_tried_and_saved_and_a_mistake_is_shown_at_its_line() {
    let profiles = "profiles:\n  office:\n    sip: { outbound_proxy: old.example }\n  desk:\n    extends: office\n    match: { vendor: acme, model: D* }\n";
    let site = start(
        plan()
            .file("profiles/offices.yaml", profiles)
            .file("profiles/devices/1.yaml", "devices:\n  02:ac:de:00:00:01: { profile: office, label: Front }\n"),
    );
    let mut visitor = Visitor::inside(&site);
    assert!(site.get_as(&file(2), "Acme Desk 1.0 02acde000002").status == 200);
    visitor.until("/api/v1/devices/02:ac:de:00:00:02", "\"model\":\"Desk\"");
    let all = get(&mut visitor, "/api/v1/profiles");
    let (desk, office) = (&all["items"][0], &all["items"][1]);
    assert_eq!(
        (&desk["name"], &desk["extends"], &desk["chosen"]),
        (&"desk".into(), &"office".into(), &1.into()),
        "{all}"
    );
    assert_eq!(desk["selector"], "vendor acme, model D*");
    assert_eq!(
        (&office["devices"], &office["sets"], &office["line"]),
        (&1.into(), &json!(["sip.outbound_proxy"]), &2.into())
    );
    assert_eq!(all["profiles"], json!(["desk", "office"]), "as programs know it");
    let page = visitor.get("/profiles");
    assert!(page.says("href=\"/profiles/desk\"") && page.says("vendor acme, model D*"), "{}", page.body);

    let page = visitor.get("/profiles/desk");
    assert!(page.says("href=\"/profiles/office\"") && page.says("sip.outbound_proxy"), "{}", page.body);
    let page = visitor.get("/profiles/office");
    assert!(
        page.says("href=\"/files/profiles&#x2f;offices.yaml?line=2\"") && page.says("/profiles/desk"),
        "{}",
        page.body
    );

    let path = "/files/profiles/offices.yaml";
    let page = visitor.get("/files/profiles/offices.yaml?line=2");
    assert!(page.says("old.example") && page.says("data-begin=\"2\""), "{}", page.body);
    let (_, rest) = page.body.split_once("name=\"version\" value=\"").unwrap();
    let version = rest.split('"').next().unwrap().to_owned();
    let token = visitor.token();
    let post = |visitor: &mut Visitor, version: &str, act: &str, text: &str| {
        visitor.post(path, &[("csrf", &token), ("version", version), ("do", act), ("text", text)])
    };
    let better = profiles.replace("old.example", "new.example");
    let tried = post(&mut visitor, &version, "preview", &better);
    assert!(tried.says("2 phones would change") && tried.says("02:ac:de:00:00:02"), "{}", tried.body);
    assert_eq!(read(&site, "profiles/offices.yaml"), profiles, "it was only tried");
    for act in ["preview", "save"] {
        let wrong = post(&mut visitor, &version, act, &better.replace("outbound_proxy", "outbound_<proxy>"));
        assert_eq!(wrong.status, 422);
        assert!(wrong.body.contains("data-line=\"3\"") && wrong.body.contains("outbound_&lt;proxy"), "{}", wrong.body);
    }
    let saved = post(&mut visitor, &version, "save", &better);
    assert_eq!((saved.status, read(&site, "profiles/offices.yaml")), (303, better));
    assert!(site.get(&file(1)).says("proxy = new.example"));

    // A new file, and names that are none.
    let page = visitor.get("/files?name=profiles%2Fnew.yaml");
    assert_eq!(page.header("location"), "/files/profiles/new.yaml");
    assert!(visitor.get("/files/profiles/new.yaml").says("A new file"));
    let fields = [("csrf", token.as_str()), ("do", "save"), ("text", "profiles: { lobby: {} }\n")];
    let answer = visitor.post("/files/profiles/new.yaml", &fields);
    assert_eq!((answer.status, read(&site, "profiles/new.yaml").as_str()), (303, "profiles: { lobby: {} }\n"));
    assert!(visitor.get("/profiles/lobby").says("lobby"));
    for path in ["/files?name=..%2Fprovost.yaml", "/files?name=state%2Fadmin.key", "/files", "/profiles/none"] {
        assert_eq!(visitor.get(path).status, 404, "{path}");
    }
}

#[test]
fn somebody_is_put_into_a_list_and_taken_out_and_the_rest_of_the_file_stays() {
    let vendor = VENDOR_YAML
        .replace("files: [", "files: [{ name: 'acme-{book}.book', template: book.book.j2, kind: directory }, ");
    let vendor = vendor.replace("formats: {", "formats: { book: { escape: line, content_type: text/plain },");
    let csv = "\u{feff}Name;Work;Group\r\nBen;1;Sales\r\n# \"kept\";;\r\nEve;2;\r\n";
    let yaml = "title: Site <one>\n# ours\nentries:\n  - { name: Zoe, numbers: [{ kind: home, number: 9 }] }\n";
    let site = start(
        plan()
            .file("plugins/acme/vendor.yaml", vendor)
            .file("templates/acme/device.cfg.j2", TEMPLATE)
            .file("templates/acme/book.book.j2", "{% for one in book.entries %}{{ one.name }}\n{% endfor %}")
            .file("phonebooks/staff.csv", csv)
            .file("phonebooks/site.yaml", yaml),
    );
    let mut visitor = Visitor::inside(&site);
    let page = visitor.get("/phonebooks");
    assert!(page.says("Site &lt;one&gt;") && page.says("/acme-staff.book"), "{}", page.body);
    let staff = get(&mut visitor, "/api/v1/phonebooks/staff?q=sales");
    assert_eq!(
        (&staff["total"], &staff["found"], &staff["items"][0]["name"]),
        (&2.into(), &1.into(), &"Ben".into()),
        "{staff}"
    );
    let version = staff["version"].as_str().unwrap().to_owned();

    let entries = "/api/v1/phonebooks/staff/entries";
    let anna = json!({ "name": "Anna \"A\"; B", "numbers": [{ "number": "+49 30/1" }] });
    let answer = send(&mut visitor, "POST", entries, "", &anna);
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(read(&site, "phonebooks/staff.csv"), format!("{csv}\"Anna \"\"A\"\"; B\";+49 30/1;\r\n"));
    assert!(site.get("acme-staff.book").says("Anna \"A\"; B"));
    for (person, at) in [
        (json!({ "name": "A", "numbers": [{ "kind": "mobile", "number": "1" }] }), "mobile"),
        (json!({ "name": " ", "numbers": [{ "number": "1" }] }), "name"),
        (json!({ "name": "A" }), "numbers"),
        (json!({ "name": "A\nB", "numbers": [{ "number": "1" }] }), "entry"),
        (json!({ "nmae": "A" }), "nmae"),
    ] {
        let answer = send(&mut visitor, "POST", entries, "", &person);
        assert!(answer.status == 422 && answer.body.contains(at), "{person}: {answer:?}");
    }
    // The place was counted before Anna came.
    let old = format!("If-Match: \"{version}\"\r\n");
    assert_eq!(send(&mut visitor, "DELETE", &format!("{entries}/1"), &old, &Value::Null).status, 412);
    assert_eq!(send(&mut visitor, "DELETE", &format!("{entries}/1"), "", &Value::Null).status, 428);
    let now = get(&mut visitor, "/api/v1/phonebooks/staff")["version"].as_str().unwrap().to_owned();
    let now = format!("If-Match: \"{now}\"\r\n");
    assert_eq!(send(&mut visitor, "DELETE", &format!("{entries}/9"), &now, &Value::Null).status, 404);
    assert_eq!(send(&mut visitor, "DELETE", &format!("{entries}/1"), &now, &Value::Null).status, 204);
    let left = read(&site, "phonebooks/staff.csv");
    assert_eq!(left, format!("{csv}\"Anna \"\"A\"\"; B\";+49 30/1;\r\n").replace("Eve;2;\r\n", ""));

    // The same on the pages, in YAML.
    let token = visitor.token();
    let fields = [("csrf", token.as_str()), ("name", "Ada: <x>"), ("work", ""), ("mobile", "77"), ("home", "")];
    let answer = visitor.post("/phonebooks/site/add", &fields);
    assert_eq!((answer.status, answer.header("location")), (303, "/phonebooks/site?done=added"), "{}", answer.body);
    let line = "  - { name: \"Ada: <x>\", numbers: [{ kind: mobile, number: \"77\" }] }\n";
    assert_eq!(read(&site, "phonebooks/site.yaml"), format!("{yaml}{line}"));
    let wrong = visitor.post("/phonebooks/site/add", &[("csrf", &token), ("name", "<Kept>"), ("group", "G")]);
    assert!(wrong.status == 422 && wrong.body.contains("value=\"&lt;Kept&gt;\""), "{}", wrong.body);
    let page = visitor.get("/phonebooks/site");
    assert!(page.says("Ada: &lt;x&gt;"), "{}", page.body);
    let (_, rest) = page.body.split_once("name=\"version\" value=\"").unwrap();
    let version = rest.split('"').next().unwrap();
    let answer = visitor.post("/phonebooks/site/remove", &[("csrf", &token), ("index", "0"), ("version", version)]);
    assert_eq!(answer.header("location"), "/phonebooks/site?done=removed", "{}", answer.body);
    assert_eq!(read(&site, "phonebooks/site.yaml"), format!("title: Site <one>\n# ours\nentries:\n{line}"));
    assert_eq!(visitor.get("/phonebooks/nobody").status, 404);
}
