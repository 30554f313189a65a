use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use provost_tests::tools::{feed, require};
use serde_json::json;

use crate::{
    pages::Visitor,
    people::Person,
    site::{Site, TEMPLATE, command, defaults, device, file, plan, run, serve, start},
};

const PHONE: &str = "/api/v1/devices/02acde000001";
const MAC: &str = "02:ac:de:00:00:01";

/// A command that gets this on standard input; what it printed.
fn fed(mut command: Command, input: &str) -> String {
    let said = feed(&mut command, input.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(said).unwrap()
}

/// A command that must do its work; what it printed and complained of.
fn does(data: &Path, words: &[&str]) -> (String, String) {
    let (code, said, complained) = run(command(data, words));
    assert!(code == 0, "{words:?} ended with {code}:\n{said}{complained}");
    (said, complained)
}

fn cannot(data: &Path, words: &[&str]) -> String {
    let (code, said, complained) = run(command(data, words));
    assert!(code == 1, "{words:?} ended with {code}:\n{said}{complained}");
    said + &complained
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The file of a phone as curl gets it.
fn curl(site: &Site, number: u8) -> String {
    let url = format!("http://{}/{}", site.http(), file(number));
    fed(
        {
            let mut curl = Command::new(require("curl"));
            curl.args(["--silent", "--fail", "--max-time", "20", &url]).stderr(Stdio::inherit());
            curl
        },
        "",
    )
}

#[test]
fn a_password_that_is_kept_elsewhere_is_in_the_phones_file_and_nowhere_else() {
    let words = ["Zwetschge-named", "Zwetschge-env", "Zwetschge-credential", "Zwetschge-sealed", "Zwetschge-raw"];
    let plan = plan();
    let credentials = plan.data().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("phone"), "Zwetschge-credential\n").unwrap();
    // Sealed by the age tool itself, for an identity of its own making.
    let identity = plan.data().join("state/age.identity");
    fs::create_dir_all(identity.parent().unwrap()).unwrap();
    let (recipient, _) = {
        let mut keygen = Command::new(require("age-keygen"));
        keygen.arg("-o").arg(&identity);
        fed(keygen, "");
        does(plan.data(), &["secret", "identity"])
    };
    let mut age = Command::new(require("age"));
    age.args(["--armor", "--recipient", recipient.trim()]);
    let armored = fed(age, "Zwetschge-sealed\n").replace('\n', "\n          ");
    let raw = "    vendor: { acme: { wifi: { secret: raw } } }\n";
    let site = start(
        plan.file("secrets.yaml", "anna-101: Zwetschge-named\nraw: Zwetschge-raw\n")
            .file("templates/acme/device.cfg.j2", TEMPLATE.to_owned() + "{% if phone.raw.wifi is defined %}\nwifi = {{ phone.raw.wifi }}\n{% endif %}\n")
            .file("profiles/devices/1.yaml", device(1, "{ secret: anna-101 }") + raw)
            .file("profiles/devices/2.yaml", device(2, "{ env: PROVOST_TEST_PHONE }"))
            .file("profiles/devices/3.yaml", device(3, "{ credential: phone }"))
            .file(
                "profiles/devices/4.yaml",
                format!("devices:\n  02:ac:de:00:00:04:\n    lines:\n      - number: 104\n        password:\n          age: |\n          {}\n",
                    armored.trim_end().lines().map(|line| format!("  {}", line.trim_start())).collect::<Vec<_>>().join("\n          ")),
            )
            .environment("PROVOST_TEST_PHONE", "Zwetschge-env")
            .environment("CREDENTIALS_DIRECTORY", &credentials.display().to_string())
            .flags(["--log", "trace"]),
    );
    for (number, word) in (1..).zip(&words[..4]) {
        let got = curl(&site, number);
        assert!(got.contains(&format!("line.1.password = {word}")), "{number}: {got}");
    }
    assert!(curl(&site, 1).contains("wifi = Zwetschge-raw"));

    let untold = |what: &str, text: &str| {
        for word in words {
            assert!(!text.contains(word), "{what} tells {word}:\n{text}");
        }
    };
    let (said, _) = does(site.data(), &["explain", MAC]);
    assert!(said.contains("1.yaml:4:") && said.contains(", secret anna-101") && said.contains("•••"), "{said}");
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["explain", MAC],
        &["explain", "--json", "02:ac:de:00:00:04"],
        &["secret", "list"],
    ] {
        let mut asked = site.command(arguments);
        asked.env("PROVOST_TEST_PHONE", "Zwetschge-env").env("CREDENTIALS_DIRECTORY", &credentials);
        let (code, said, complained) = run(asked);
        assert!(code == 0, "{arguments:?}: {said}{complained}");
        untold(&format!("{arguments:?}"), &(said + &complained));
    }
    let person = Person::of(&site);
    let settings = person.get(&format!("{PHONE}/settings"));
    assert_eq!(settings.json()["lines"][0]["password"], json!({ "secret": "anna-101" }));
    let exported = person.get("/api/v1/export?form=yaml");
    assert!(exported.body.contains("anna-101") && exported.body.contains("PROVOST_TEST_PHONE"), "{}", exported.body);
    let rows = person.get("/api/v1/export?form=csv");
    assert!(rows.body.contains("\"{\"\"secret\"\":\"\"anna-101\"\"}\""), "{}", rows.body);
    for said in [
        &settings,
        &exported,
        &rows,
        &person.get(&format!("{PHONE}/explanation")),
        &person.get(&format!("{PHONE}/source")),
        &person.get(&format!("{PHONE}/preview?file={}", file(1))),
    ] {
        assert_eq!(said.status, 200);
        untold("the API", &said.body);
    }
    let mut visitor = Visitor::inside(&site);
    for path in [
        "/devices/02:ac:de:00:00:01",
        "/devices/02:ac:de:00:00:01/edit",
        "/devices/02:ac:de:00:00:02/edit",
        "/activity",
        "/profiles",
    ] {
        let page = visitor.get(path);
        assert_eq!(page.status, 200, "{path}");
        untold(path, &page.body);
    }
    assert!(visitor.get("/devices/02:ac:de:00:00:01/edit").says("kept in secrets.yaml as anna-101"));

    // The API puts either in the place of the other, and the file around it stays.
    let change = |password: serde_json::Value| {
        let headers = [("If-Match", "*"), ("Content-Type", "application/merge-patch+json")];
        let patch = json!({ "lines": [{ "number": "101", "password": password }] });
        person.ask("PATCH", PHONE, &headers, &patch.to_string()).unwrap()
    };
    assert_eq!(change(json!("plain-word")).status, 204);
    assert!(site.get(&file(1)).says("password = plain-word"));
    assert_eq!(change(json!({ "secret": "anna-101" })).status, 204);
    assert!(site.get(&file(1)).says("password = Zwetschge-named"));
    let text = fs::read_to_string(site.path("profiles/devices/1.yaml")).unwrap();
    assert!(text.contains("password: { secret: anna-101 }"), "{text}");
    let wrong = change(json!({ "secret": "anna-102" }));
    assert!(
        wrong.status == 422 && wrong.body.contains("unknown secret") && wrong.body.contains("anna-101"),
        "{wrong:?}"
    );
    for line in site.log() {
        untold("the log", &line.text);
    }
}

#[test]
fn the_file_of_secrets_is_followed_and_a_broken_one_changes_nothing() {
    let site = start(
        plan()
            .file("secrets.yaml", "anna-101: one-word\n")
            .file("profiles/devices/1.yaml", device(1, "{ secret: anna-101 }")),
    );
    assert!(site.get(&file(1)).says("password = one-word"));
    site.write("secrets.yaml", "anna-101: another-word\n");
    site.until("the new value", &file(1), |answer| answer.says("password = another-word"));
    let mark = site.mark();
    site.write("secrets.yaml", "anna-101: [hunter2\n");
    let refused = site.refused(mark, "secrets.yaml");
    assert!(!refused.contains("hunter2"), "{refused}");
    assert!(site.get(&file(1)).says("password = another-word"));
    let mark = site.mark();
    site.write("secrets.yaml", "anna-102: third-word\n");
    let refused = site.refused(mark, "profiles/devices/1.yaml:4:");
    assert!(refused.contains("unknown secret") && refused.contains("did you mean"), "{refused}");
    assert!(site.get(&file(1)).says("password = another-word") && site.get(&file(2)).status == 200);
    site.write("secrets.yaml", "anna-101: fourth-word\n");
    site.until("it is mended", &file(1), |answer| answer.says("password = fourth-word"));
}

#[test]
fn secrets_are_set_listed_made_moved_and_removed_in_files() {
    let plan = plan().file("secrets.yaml", "# of the branch\nunused: x # long ago\n").file(
        "profiles/devices/1.yaml",
        "# Anna's\n".to_owned() + &device(1, "'s3 #1'   ").replace("number", "display_name: Anna Berg, number"),
    );
    let data = plan.data();
    let kept = || fs::read_to_string(data.join("secrets.yaml")).unwrap();
    fs::set_permissions(data.join("secrets.yaml"), fs::Permissions::from_mode(0o640)).unwrap();
    let said = fed(command(data, &["secret", "set", "hall"]), "p: #w\n");
    assert!(said.contains("hall is kept in") && !said.contains("#w"), "{said}");
    assert_eq!(kept(), "# of the branch\nunused: x # long ago\nhall: \"p: #w\"\n");
    assert_eq!(mode(&data.join("secrets.yaml")), 0o640, "it keeps the rights that it has");
    assert!(cannot(data, &["secret", "set", "../x"]).contains("no name for a secret"));

    let profile = data.join("profiles/devices/1.yaml").display().to_string();
    let before = fs::read_to_string(&profile).unwrap();
    let (said, _) = does(data, &["secret", "move", "--dry-run", &profile]);
    assert!(said.contains("1.yaml:5: anna-101") && said.contains("nothing is written"), "{said}");
    assert_eq!(fs::read_to_string(&profile).unwrap(), before);
    does(data, &["secret", "move", &profile]);
    assert_eq!(fs::read_to_string(&profile).unwrap(), before.replace("'s3 #1'", "{ secret: anna-101 }"));
    assert!(kept().ends_with("anna-101: \"s3 #1\"\n"), "{}", kept());
    let (said, _) = does(data, &["render", MAC]);
    assert!(said.contains("line.1.password = s3 #1"), "{said}");
    // One that cannot be moved keeps all of them where they are.
    let woven =
        "devices:\n  02:ac:de:00:00:08: &a { lines: [{ number: 8, password: w }] }\n  02:ac:de:00:00:09: { <<: *a }\n";
    fs::write(data.join("profiles/woven.yaml"), woven).unwrap();
    let second = data.join("profiles/devices/2.yaml").display().to_string();
    let (first_text, names) = (fs::read_to_string(&second).unwrap(), kept());
    let said = cannot(data, &["secret", "move", &second, &data.join("profiles/woven.yaml").display().to_string()]);
    assert!(said.contains("woven.yaml:") && said.contains("move it by hand"), "{said}");
    assert_eq!((fs::read_to_string(&second).unwrap(), kept()), (first_text, names));
    fs::remove_file(data.join("profiles/woven.yaml")).unwrap();

    let (made, complained) = does(data, &["secret", "generate", "--line", "02acde000003"]);
    assert!(made.trim().len() == 20 && complained.contains("line-103"), "{complained}");
    let (said, _) = does(data, &["render", "02:ac:de:00:00:03"]);
    assert!(said.contains(&format!("line.1.password = {}", made.trim())), "{said}");
    assert!(cannot(data, &["secret", "generate", "hall"]).contains("already"));

    let (said, _) = does(data, &["secret", "list"]);
    for row in ["anna-101  1 device", "hall      unused", "line-103  1 device", "unused    unused"] {
        assert!(said.contains(row), "{row}: {said}");
    }
    let refused = cannot(data, &["secret", "remove", "anna-101"]);
    assert!(refused.contains("is used at") && refused.contains("1.yaml:5"), "{refused}");
    does(data, &["secret", "remove", "unused"]);
    assert!(kept().starts_with("# of the branch\nhall: "), "{}", kept());
    does(data, &["secret", "remove", "--force", "anna-101"]);
    assert!(cannot(data, &["check"]).contains("unknown secret \"anna-101\""));

    // A new file is for its owner alone, and what we seal, age opens.
    fs::remove_file(data.join("secrets.yaml")).unwrap();
    fed(command(data, &["secret", "set", "a"]), "b");
    assert_eq!(mode(&data.join("secrets.yaml")), 0o600);
    let (recipient, complained) = does(data, &["secret", "identity"]);
    assert!(recipient.starts_with("age1") && complained.contains("keep a copy"));
    assert_eq!(does(data, &["secret", "identity"]), (recipient, String::new()));
    let identity = data.join("state/age.identity");
    assert_eq!(mode(&identity), 0o600);
    let sealed = fed(command(data, &["secret", "encrypt"]), "sealed-word\n");
    let text = sealed.trim().trim_start_matches("{ age: ").trim_end_matches(" }");
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    let armored =
        format!("-----BEGIN AGE ENCRYPTED FILE-----\n{}\n-----END AGE ENCRYPTED FILE-----\n", lines.join("\n"));
    let mut age = Command::new(require("age"));
    age.arg("--decrypt").arg("--identity").arg(&identity);
    assert_eq!(fed(age, &armored), "sealed-word");
    fs::write(&profile, device(1, sealed.trim())).unwrap();
    assert!(does(data, &["render", MAC]).0.contains("line.1.password = sealed-word"));
}

#[test]
fn a_phone_has_a_password_of_its_own_that_is_shown_to_who_asks() {
    let access = "  access: { admin: { username: admin, password: { generate: 16 } } }\n";
    let plan = plan()
        .file("profiles/site.yaml", defaults("one.example") + access)
        .file("templates/acme/device.cfg.j2", TEMPLATE.to_owned() + "admin = {{ phone.access.admin.password }}\n");
    // Nothing is made by who only looks.
    let (said, _) = does(plan.data(), &["check"]);
    assert!(said.contains(" 0 errors"), "{said}");
    assert!(
        cannot(plan.data(), &["render", MAC]).contains("passwords.key")
            && !plan.data().join("state/passwords.key").exists()
    );

    let site = start(plan);
    let admin = |number| {
        let got = curl(&site, number);
        got.lines().find_map(|line| line.strip_prefix("admin = ")).unwrap().to_owned()
    };
    let own = admin(1);
    assert!(own.len() == 16 && own != admin(2));
    assert_eq!(mode(&site.path("state/passwords.key")), 0o600);
    assert_eq!(does(site.data(), &["secret", "show-web", MAC]).0, format!("admin {own}\n"));

    let person = Person::of(&site);
    let mark = site.mark();
    let shown = person.post(&format!("{PHONE}/web-password"), &json!({}));
    assert_eq!(shown.json(), json!({ "passwords": [{ "account": "admin", "username": "admin", "password": own }] }));
    site.wait_after(mark, "the act in the log", |line| {
        line.is("message", "change asked for") && line.text.contains("web-password") && !line.text.contains(&own)
    });
    assert_eq!(person.get(&format!("{PHONE}/web-password")).status, 405);
    let key = person.post("/api/v1/keys", &json!({ "name": "board", "scope": "operate" })).json()["key"].clone();
    let other = Person { door: site.admin(), key: key.as_str().unwrap().to_owned() };
    assert_eq!(other.post(&format!("{PHONE}/web-password"), &json!({})).status, 403);

    let mut visitor = Visitor::inside(&site);
    let page = visitor.get(&format!("/devices/{MAC}"));
    assert!(page.says("Show its web password") && !page.says(&own), "{}", page.body);
    let token = visitor.token();
    let page = visitor.post(&format!("/devices/{MAC}/web-password"), &[("csrf", &token)]);
    assert!(page.says(&own) && page.head.to_lowercase().contains("cache-control: no-store"), "{page:?}");
    assert!(!visitor.get(&format!("/devices/{MAC}")).says(&own));

    // The same after a restart, and held back when the key is broken.
    let plan = site.kill();
    let site = serve(plan);
    assert!(site.get(&file(1)).says(&own));
    let plan = site.kill();
    fs::write(plan.data().join("state/passwords.key"), "broken\n").unwrap();
    let second = device(2, "secret-word") + "    access: { admin: { password: its-own } }\n";
    let site = serve(plan.file("profiles/devices/2.yaml", second));
    assert!(site.get(&file(1)).status != 200 && site.get(&file(2)).says("admin = its-own"));
    assert_eq!(fs::read_to_string(site.path("state/passwords.key")).unwrap(), "broken\n");
}

#[test]
fn check_names_each_file_with_passwords_that_everybody_can_read() {
    let plan = plan().file("secrets.yaml", "a: b\n");
    let data = plan.data();
    fs::create_dir_all(data.join("state")).unwrap();
    fs::write(data.join("state/age.identity"), "#\n").unwrap();
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(data, 0o700);
    for (path, mode) in [
        ("profiles/devices/1.yaml", 0o644),
        ("profiles/devices/2.yaml", 0o640),
        ("secrets.yaml", 0o644),
        ("state/age.identity", 0o604),
        ("profiles/site.yaml", 0o644),
    ] {
        open(&data.join(path), mode);
    }
    open(&data.join("profiles/devices/3.yaml"), 0o600);
    let (said, _) = does(data, &["check"]);
    assert!(!said.contains("readable by everybody"), "nobody gets in there: {said}");
    open(data, 0o755);
    let (said, _) = does(data, &["check"]);
    let told: Vec<&str> = said.lines().filter(|line| line.contains("readable by everybody")).collect();
    assert_eq!(told.len(), 3, "{said}");
    for (file, mode) in [
        ("devices/1.yaml: warning:", "mode 0644): chmod 0640"),
        ("secrets.yaml: warning:", "0644"),
        ("age.identity: warning:", "mode 0604): chmod 0600"),
    ] {
        assert!(told.iter().any(|line| line.contains(file) && line.contains(mode)), "{file}: {told:?}");
    }
}
