use serde_json::{Value, json};

use crate::{
    people::{Person, refused},
    site::{TEMPLATE, defaults, file, plan, start},
};

const OWN: &str = "templates%2Facme%2Fdevice.cfg.j2";

fn phone(number: u8) -> String {
    format!("02:ac:de:00:00:{number:02x}")
}

fn would(person: &Person, file: &str, content: &str) -> Value {
    let said = person.post("/api/v1/changes", &json!({ "edits": [{ "file": file, "content": content }] }));
    assert_eq!(said.status, 200, "{said:?}");
    said.json()
}

#[test]
fn an_edit_of_a_profile_tells_whom_it_concerns_and_what_would_differ_before_it_is_written() {
    let site = start(plan());
    let person = Person::of(&site);
    // One phone is served by its own server already, so that the defaults do not reach it.
    let own = "devices:\n  02:ac:de:00:00:03:\n    sip: { server: own.example }\n    lines: [{ number: \"103\", password: x }]\n";
    site.write("profiles/devices/3.yaml", own);
    site.until("its own server", &file(3), |answer| answer.says("own.example"));

    let edited = defaults("two.example");
    let outlook = would(&person, "profiles/site.yaml", &edited);
    let macs: Vec<&str> =
        outlook["items"].as_array().unwrap().iter().map(|item| item["mac"].as_str().unwrap()).collect();
    assert_eq!(macs, [phone(1), phone(2)], "{outlook}");
    assert_eq!((&outlook["phones"], &outlook["looked_at"], &outlook["of"]), (&json!(2), &json!(3), &json!(3)));
    assert_eq!(outlook["items"][0]["files"], json!([file(1)]));
    assert_eq!(
        (&outlook["restarts"], &outlook["perhaps"]),
        (&json!(0), &json!(0)),
        "check-sync;reboot=false: {outlook}"
    );
    // Comments alone are no change for anybody.
    assert_eq!(would(&person, "profiles/site.yaml", &format!("# why\n{}", defaults("one.example")))["phones"], 0);

    let edits = json!([{ "file": "profiles/site.yaml", "content": edited }]);
    let differences = person.post("/api/v1/changes/diff", &json!({ "mac": phone(1), "edits": edits })).json();
    let diff = differences[0]["diff"].as_str().unwrap();
    assert!(diff.contains("-server = one.example\n+server = two.example\n"), "{diff}");
    assert!(diff.contains("•••") && !differences.to_string().contains("secret-word"), "{differences}");
    assert_eq!(person.post("/api/v1/changes/diff", &json!({ "mac": phone(3), "edits": edits })).json(), json!([]));
    // A password that changes is a change that shows nothing.
    let other = "devices:\n  02:ac:de:00:00:01:\n    lines: [{ number: \"101\", password: other-word }]\n";
    let edits = json!([{ "file": "profiles/devices/1.yaml", "content": other }]);
    let differences = person.post("/api/v1/changes/diff", &json!({ "mac": phone(1), "edits": edits })).json();
    assert_eq!((&differences[0]["name"], &differences[0]["diff"]), (&json!(file(1)), &json!("")), "{differences}");

    // Nothing of all that was written.
    assert!(site.get(&file(1)).says("one.example") && site.get(&file(1)).says("secret-word"));
    let wrong = json!({ "edits": [{ "file": "profiles/site.yaml", "content": "defaults:\n  sip: { servre: x }\n" }] });
    let said = person.post("/api/v1/changes", &wrong);
    assert!(refused(&said, 422).contains("not written"), "{said:?}");
    assert!(said.json()["errors"][0]["at"].as_str().unwrap().ends_with("site.yaml:2:10"), "{said:?}");
    for name in
        ["../site.yaml", "profiles/../provost.yaml", "profiles/.hidden.yaml", "state/admin.key", "profiles/x.txt", ""]
    {
        let edits = json!({ "edits": [{ "file": name, "content": "" }] });
        refused(&person.post("/api/v1/changes", &edits), 404);
    }
}

#[test]
fn a_template_is_edited_as_the_sites_own_and_taken_back() {
    let site = start(plan());
    let person = Person::of(&site);
    let path = format!("/api/v1/files/{OWN}");
    let shipped = person.get(&path);
    assert!(shipped.status == 200 && shipped.body == TEMPLATE && !shipped.head.contains("etag: "), "{shipped:?}");

    let own = format!("# of the site\n{TEMPLATE}");
    let outlook = would(&person, "templates/acme/device.cfg.j2", &own);
    assert_eq!(outlook["phones"], 3, "{outlook}");
    let said = person.ask("PUT", &path, &[("If-None-Match", "*")], &own).unwrap();
    assert_eq!(said.status, 204, "{said:?}");
    // In service when the answer comes; the shipped one is as it was.
    assert!(site.get(&file(1)).says("# of the site"));
    assert_eq!(std::fs::read_to_string(site.path("templates/acme/device.cfg.j2")).unwrap(), TEMPLATE);
    let first = person.get(&path);
    assert_eq!(first.body, own);
    assert_eq!(person.get(&format!("{path}?version=shipped")).body, TEMPLATE);
    let listed = person.get("/api/v1/files?kind=template").json();
    assert_eq!((&listed["items"][0]["overridden"], &listed["items"][0]["shipped"]), (&json!(true), &json!(true)));

    // A broken one is refused with its line, and so is one that is not for what it was made of.
    let said = person.ask("PUT", &path, &[("If-Match", &first.etag())], "{% if %}\n").unwrap();
    refused(&said, 422);
    assert!(said.json()["errors"][0]["at"].as_str().unwrap().contains("device.cfg.j2:1"), "{said:?}");
    let said =
        person.ask("PUT", &path, &[("If-Match", &first.etag())], "a = 1\nb = {{ phone.nothing_of_that }}\n").unwrap();
    refused(&said, 422);
    assert!(said.json()["errors"][0]["at"].as_str().unwrap().contains("device.cfg.j2:2"), "{said:?}");
    refused(&person.ask("PUT", &path, &[("If-None-Match", "*")], &own).unwrap(), 409);
    refused(&person.ask("PUT", &path, &[], &own).unwrap(), 428);
    refused(
        &person.ask("PUT", "/api/v1/files/templates%2Fnobody%2Fx.j2", &[("If-None-Match", "*")], "x").unwrap(),
        404,
    );
    assert!(site.get(&file(1)).says("# of the site"));

    let second = own.replace("# of the site", "# another");
    let said = person.ask("PUT", &path, &[("If-Match", &first.etag())], &second).unwrap();
    assert_eq!(said.status, 204, "{said:?}");
    assert!(site.get(&file(1)).says("# another"));
    // What was there before is kept, and can be had back.
    let kept = person.get(&format!("{path}/versions")).json();
    let version = kept[0]["version"].as_str().unwrap();
    assert_eq!(format!("\"{version}\""), first.etag());
    let before = person.get(&format!("{path}?version={version}"));
    assert_eq!(before.body, own);
    let said = person.ask("PUT", &path, &[("If-Match", &said.etag())], &before.body).unwrap();
    assert!(said.status == 204 && site.get(&file(1)).says("# of the site"), "{said:?}");
    let said = person.ask("DELETE", &path, &[("If-Match", &said.etag())], "").unwrap();
    assert!(said.status == 204 && !site.get(&file(1)).says("# of the site"), "{said:?}");
    assert_eq!(person.get(&path).body, TEMPLATE);
}
