//! Passwords that are kept elsewhere: what each form of a reference comes to, and what happens when it comes to nothing.

use std::{fs, path::PathBuf};

use provost_fleet::{Asker, Fleet, Place, Places, Problem, ResolveError, Resolved, WithoutKey, new_identity, seal};
use provost_plugin::{MacAddr, Secret, Spec, model::Identity};

const SPEC: &str = "vendor: Acme\nfiles: []\nformats: {}\nannounce: { url: '{base}' }\n";
const ONE: &str = "00:04:13:00:00:01";
const TWO: &str = "00:04:13:00:00:02";

struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Site {
        let site = Site(tempfile::tempdir().unwrap());
        fs::create_dir_all(site.path("profiles")).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn places(&self, without_key: WithoutKey) -> Places {
        Places {
            secrets: self.path("secrets.yaml"),
            identity: self.path("state/age.identity"),
            key: self.path("state/passwords.key"),
            without_key,
        }
    }

    fn read(&self, previous: Option<&Fleet>) -> (Fleet, Vec<Problem>) {
        Fleet::read_with(&self.path("profiles"), self.places(WithoutKey::Make), previous)
    }

    fn good(&self, previous: Option<&Fleet>) -> Fleet {
        let (fleet, problems) = self.read(previous);
        assert!(problems.is_empty(), "{problems:?}");
        fleet
    }
}

fn resolve(fleet: &Fleet, mac: &str) -> Result<Resolved, ResolveError> {
    let spec = Spec::read(SPEC).unwrap();
    let place = Place { base_url: "http://10.0.0.5:8080/".into(), ..Place::default() };
    fleet.resolve(&Asker { mac: mac.parse().unwrap(), identity: Identity::default(), place }, &spec)
}

fn password(fleet: &Fleet, mac: &str) -> String {
    let resolved = resolve(fleet, mac).unwrap();
    resolved.phone.settings.lines[0].password.as_ref().map(|it| it.expose().to_owned()).unwrap_or_default()
}

fn device(mac: &str, password: &str) -> String {
    format!("devices:\n  \"{mac}\":\n    lines:\n      - number: 101\n        password: {password}\n")
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn each_form_of_a_reference_comes_to_its_value_and_its_origin_says_to_what_and_not_which() {
    let site = Site::new();
    let (identity, recipient) = new_identity();
    site.write("state/age.identity", identity.expose());
    site.write("secrets.yaml", "anna-101: 's3<&>'\nraw: raw-word\nadmin: 0049\n");
    let sealed = seal(&recipient, &Secret::new("sealed-word")).unwrap();
    let home = std::env::var("PATH").unwrap();
    for (form, value, refers) in [
        ("{ secret: anna-101 }", "s3<&>", "secret anna-101"),
        ("{ env: PATH }", &*home, "environment variable PATH"),
        (&*format!("{{ age: {sealed} }}"), "sealed-word", "encrypted by age"),
    ] {
        site.write("profiles/a.yaml", &device(ONE, form));
        let fleet = site.good(None);
        assert_eq!(password(&fleet, ONE), value);
        let resolved = resolve(&fleet, ONE).unwrap();
        let origin = resolved.origins.of("lines.0.password").unwrap();
        assert_eq!((origin.line, origin.refers_to.as_deref()), (5, Some(refers)));
        assert!(
            origin.to_string().ends_with(&format!(", {refers}")) && !origin.to_string().contains(value),
            "{origin}"
        );
        assert!(!format!("{fleet:?}").contains(value));
        assert_eq!(
            fleet.device(ONE.parse().unwrap()).unwrap().section()["lines"][0]["password"].as_object().unwrap().len(),
            1
        );
    }
    // Anywhere in the model, and among a vendor's own parameters.
    site.write(
        "profiles/a.yaml",
        &format!(
            "defaults:\n  access: {{ admin: {{ password: {{ secret: admin }} }}, lock_pin: {{ secret: admin }} }}\n  \
             provisioning: {{ password: {{ secret: admin }}, encryption: {{ key: {{ secret: admin }} }} }}\n  \
             phonebook: {{ ldap: {{ password: {{ secret: admin }} }}, remote: [{{ url: x, password: {{ secret: admin }} }}] }}\n  \
             vendor: {{ acme: {{ wifi: {{ secret: raw }}, plain: 1 }} }}\n{}",
            device(ONE, "plain-word")
        ),
    );
    let fleet = site.good(None);
    let phone = resolve(&fleet, ONE).unwrap().phone;
    let exposed = Secret::exposed(|| serde_json::to_value(&phone).unwrap());
    for path in [
        "/access/admin/password",
        "/access/lock_pin",
        "/provisioning/encryption/key",
        "/phonebook/ldap/password",
        "/phonebook/remote/0/password",
    ] {
        assert_eq!(exposed.pointer(path).unwrap(), "0049", "{path}");
    }
    assert_eq!(exposed.pointer("/raw/wifi").unwrap(), "raw-word");
    let spec = Spec::read(SPEC).unwrap();
    let common = fleet.common(&Place::default(), &spec, None).unwrap().phone;
    assert!(!Secret::exposed(|| serde_json::to_string(&common).unwrap()).contains("0049"));
}

#[test]
fn a_reference_that_is_written_wrongly_is_told_with_its_place_and_what_was_meant() {
    let site = Site::new();
    site.write("secrets.yaml", "anna-101: hunter2\n");
    for (form, wanted) in [
        ("{ secrt: anna-101 }", "did you mean \"secret\"?"),
        ("{ secret: anna-11 }", "unknown secret \"anna-11\""),
        ("{ secret: anna-101, env: X }", "takes text, or one of secret, env, credential and age"),
        ("{}", "takes text, or one of"),
        ("[a]", "takes text"),
        ("{ secret: [a] }", "\"secret\" takes a single value"),
        ("{ env: PROVOST_NO_SUCH_THING }", "there is no environment variable"),
        ("{ credential: ../x }", "takes the name of a credential"),
        ("{ credential: x }", "credential \"x\""),
        ("{ age: hunter2 }", "there is no identity"),
        ("{ generate: 16 }", "cannot be generated"),
    ] {
        site.write("profiles/a.yaml", &device(ONE, form));
        let (fleet, problems) = site.read(None);
        assert_eq!(problems.len(), 1, "{form}: {problems:?}");
        let (problem, text) = (&problems[0], told(&problems));
        assert!(
            problem.is_error() && problem.line == 5 && text.contains(wanted) && !text.contains("hunter2"),
            "{form}: {text}"
        );
        assert!(resolve(&fleet, ONE).is_err(), "{form}");
    }
    site.write("profiles/a.yaml", &device(ONE, "{ secret: anna-11 }"));
    let (fleet, problems) = site.read(None);
    assert!(told(&problems).contains("did you mean \"anna-101\"?"), "{problems:?}");
    let refused = resolve(&fleet, ONE).unwrap_err().to_string();
    assert!(
        refused.starts_with("lines.0.password: unknown secret") || refused.starts_with("lines.1.password"),
        "{refused}"
    );
    assert!(fleet.device(ONE.parse().unwrap()).is_some(), "it waits for its password, and is no stranger");
}

#[test]
fn what_was_good_serves_on_until_it_is_good_again() {
    let site = Site::new();
    site.write("secrets.yaml", "anna-101: one\nberta-102: two\n");
    site.write("profiles/a.yaml", &device(ONE, "{ secret: anna-101 }"));
    site.write("profiles/b.yaml", &device(TWO, "{ secret: berta-102 }"));
    let first = site.good(None);

    // A device that is changed to a name that is not there keeps the version before, and others change.
    site.write("profiles/a.yaml", &device(ONE, "{ secret: anna }").replace("101", "109"));
    site.write("secrets.yaml", "anna-101: uno\nberta-102: due\n");
    let (second, problems) = site.read(Some(&first));
    assert!(problems.len() == 1 && problems[0].file.ends_with("a.yaml"), "{problems:?}");
    assert_eq!((password(&second, ONE), password(&second, TWO)), ("uno".into(), "due".into()));
    assert_eq!(resolve(&second, ONE).unwrap().phone.settings.lines[0].number.as_deref(), Some("101"));
    assert!(second.modified() > first.modified(), "phones are given something else");

    // A broken file of secrets changes nothing, and neither does one that is away.
    site.write("profiles/a.yaml", &device(ONE, "{ secret: anna-101 }"));
    let third = site.good(Some(&second));
    site.write("secrets.yaml", "anna-101: [hunter2]\n");
    let (fourth, problems) = site.read(Some(&third));
    assert!(problems.len() == 1 && told(&problems).contains("secrets.yaml:1:") && !told(&problems).contains("hunter2"));
    assert!(fourth.serves(&site.path("secrets.yaml").display().to_string()) && fourth.modified() == third.modified());
    fs::remove_file(site.path("secrets.yaml")).unwrap();
    let (fifth, problems) = site.read(Some(&fourth));
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!((password(&fifth, ONE), password(&fifth, TWO)), ("uno".into(), "due".into()));
    site.write("secrets.yaml", "anna-101: eins\nberta-102: zwei\n");
    assert_eq!(password(&site.good(Some(&fifth)), ONE), "eins");

    // A layer keeps its last version too.
    site.write("profiles/c.yaml", "defaults: { access: { lock_pin: { secret: berta-102 } } }\n");
    let sixth = site.good(Some(&fifth));
    site.write("profiles/c.yaml", "defaults: { access: { lock_pin: { secret: nobody } } }\n");
    let (seventh, problems) = site.read(Some(&sixth));
    assert_eq!(problems.len(), 1);
    let pin =
        |fleet: &Fleet| resolve(fleet, ONE).map(|it| it.phone.settings.access.lock_pin.unwrap().expose().to_owned());
    assert_eq!(pin(&seventh).unwrap(), "zwei");
    let (fresh, _) = site.read(None);
    assert!(pin(&fresh).is_err(), "after a restart there is no older version");
    // Nobody needs what nothing refers to any more.
    assert_eq!(seventh.references_to("nobody").len(), 1);
    assert!(seventh.references_to("berta-102").len() == 1 && site.good_after_mending().is_empty());
}

impl Site {
    fn good_after_mending(&self) -> Vec<Problem> {
        self.write("profiles/c.yaml", "defaults: {}\n");
        self.read(None).1
    }
}

#[test]
fn a_password_is_made_of_the_key_and_the_phone() {
    let site = Site::new();
    let profile = "profiles:\n  office:\n    access: { admin: { password: { generate: 16 } }, user: { password: { generate: 12 } } }\n";
    site.write("profiles/p.yaml", profile);
    site.write("profiles/a.yaml", &format!("devices:\n  \"{ONE}\": {{ profile: office }}\n  \"{TWO}\": {{}}\n"));
    let read = |without_key, previous: Option<&Fleet>| {
        Fleet::read_with(&site.path("profiles"), site.places(without_key), previous)
    };
    let admin = |fleet: &Fleet, mac| {
        resolve(fleet, mac).map(|it| it.phone.settings.access.admin.password.map(|it| it.expose().to_owned()))
    };
    let (refused, problems) = read(WithoutKey::Refuse, None);
    assert!(told(&problems).contains("passwords.key") && told(&problems).contains("p.yaml:3:"), "{problems:?}");
    assert!(admin(&refused, ONE).is_err() && admin(&refused, TWO) == Ok(None), "only those who need it wait");
    let (_, problems) = read(WithoutKey::Pretend, None);
    assert!(problems.is_empty() && !site.path("state/passwords.key").exists());

    let first = site.good(None);
    let made = admin(&first, ONE).unwrap().unwrap();
    assert_eq!(made.len(), 16);
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(site.path("state/passwords.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(admin(&site.good(None), ONE).unwrap().unwrap(), made, "the same after a restart");
    let user = resolve(&first, ONE).unwrap().phone.settings.access.user.password.unwrap().expose().to_owned();
    assert!(user.len() == 12 && !made.starts_with(&user));

    // Broken while it serves, it serves on; nobody writes over it.
    site.write("state/passwords.key", "no key\n");
    let (second, problems) = site.read(Some(&first));
    assert!(
        told(&problems).contains("cannot read the key") && admin(&second, ONE).unwrap().unwrap() == made,
        "{problems:?}"
    );
    let (fresh, _) = site.read(None);
    assert!(admin(&fresh, ONE).is_err() && admin(&fresh, TWO).is_ok());
    assert_eq!(fs::read_to_string(site.path("state/passwords.key")).unwrap(), "no key\n");
}

#[test]
fn a_reference_is_amended_as_one_value() {
    use provost_fleet::amend;
    let mac: MacAddr = ONE.parse().unwrap();
    let text = device(ONE, "{ secret: anna-101 } # kept elsewhere");
    let amended = |text: &str, patch: serde_json::Value| {
        amend("a.yaml", text, &provost_fleet::Whose::Device(mac), &patch).unwrap()
    };
    let lines =
        |password: serde_json::Value| serde_json::json!({ "lines": [{ "number": "101", "password": password }] });
    let env = amended(&text, lines(serde_json::json!({ "env": "ANNA" })));
    assert_eq!(env, text.replace("secret: anna-101", "env: ANNA"));
    let plain = amended(&text, lines("word".into()));
    assert_eq!(plain, text.replace("{ secret: anna-101 }", "word"));
    assert_eq!(amended(&plain, lines(serde_json::json!({ "secret": "anna-101" }))), text);
    let access = amended(&text, serde_json::json!({ "access": { "admin": { "password": { "generate": 16 } } } }));
    assert!(access.contains("      password: { generate: 16 }\n"), "{access}");
    let changed = amended(&access, serde_json::json!({ "access": { "admin": { "password": { "secret": "x" } } } }));
    assert!(changed.contains("      password: { secret: x }\n"), "{changed}");
    let wrong = amend("a.yaml", &text, &provost_fleet::Whose::Device(mac), &lines(serde_json::json!({ "secrt": "x" })))
        .unwrap_err()
        .to_string();
    assert!(wrong.starts_with("lines.0.password: ") && wrong.contains("did you mean"), "{wrong}");
}

#[test]
fn ten_thousand_sealed_passwords_are_opened_once() {
    let site = Site::new();
    let (identity, recipient) = new_identity();
    site.write("state/age.identity", identity.expose());
    let mut text = "devices:\n".to_owned();
    for number in 0..100 {
        let sealed = seal(&recipient, &Secret::new(format!("word-{number}"))).unwrap();
        text += &format!("  \"0004130000{number:02x}\": {{ lines: [{{ password: {{ age: {sealed} }} }}] }}\n");
    }
    site.write("profiles/a.yaml", &text);
    let first = site.good(None);
    assert_eq!(password(&first, "00:04:13:00:00:63"), "word-99");
    // Without the identity the values are those that were opened already.
    fs::remove_file(site.path("state/age.identity")).unwrap();
    let (second, problems) = site.read(Some(&first));
    assert_eq!((problems.len(), password(&second, "00:04:13:00:00:63").as_str()), (100, "word-99"));
}

#[test]
fn the_schema_offers_both_forms() {
    let schema = provost_fleet::schema();
    for definition in ["Secret", "Reference", "Generated"] {
        assert!(schema["$defs"][definition].is_object(), "{definition}");
    }
    assert!(schema["$defs"]["Line"]["properties"]["password"].to_string().contains("#/$defs/Secret"));
    assert!(schema["$defs"]["Credentials"]["properties"]["password"].to_string().contains("Generated"));
}
