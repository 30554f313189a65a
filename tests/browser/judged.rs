//! axe finds nothing serious on any page, light and dark, wide and narrow; and every page works for who runs no script.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use provost_tests::{Lan, Plan, Server};
use regex::Regex;
use serde_json::Value;

use crate::{
    Phone,
    window::{Window, button, element, field, link, text},
};

const PLAIN: &str = "80:5e:c0:00:00:01";
const TROUBLED: &str = "80:5e:c0:00:00:02";
const OFF: &str = "80:5e:c0:00:00:03";
const PENDING: &str = "80:5e:c0:00:00:aa";
const IGNORED: &str = "80:5e:c0:00:00:bb";

/// Something of everything that a page may have to show.
const PROFILES: &str = r#"
profiles:
  office:
    time: { zone: Europe/Berlin }
  desk: { extends: office, match: { vendor: yealink } }
devices:
  "80:5e:c0:00:00:01":
    label: Reception
    profile: office
    identity: { vendor: yealink, model: SIP-T46U }
    lines: [{ number: "101", display_name: Anna Berg, password: s3cret-101, server: pbx.example }]
    keys: [{ kind: blf, value: "200", label: Workshop }]
  "80:5e:c0:00:00:02": { label: "Nobody's", identity: { vendor: nobody } }
  "80:5e:c0:00:00:03": { label: Switched off, enabled: false, identity: { vendor: yealink } }
"#;

fn site(lan: &Lan) -> Server {
    let plan = Plan::on(lan.server())
        .file("profiles/site.yaml", PROFILES)
        .file("plugins/broken/vendor.yaml", "vendor: Broken\nouis: nonsense\n");
    let server = plan.start().ready();
    for mac in [PENDING, IGNORED] {
        let url = server.http_url(lan.server().address());
        lan.phone(0).fetch(&format!("{url}{}.cfg", mac.replace(':', "")));
    }
    server
}

/// An address without what differs from phone to phone and from version to version: two of the same kind are one page.
fn kind(path: &str) -> String {
    let mac = Regex::new("(?i)([0-9a-f]{2}[:-]?){5}[0-9a-f]{2}").expect("a pattern");
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    // Of files there are hundreds; a template, a profile and a list are a page each.
    let path = match path.strip_prefix("/files/") {
        Some(name) => format!(
            "/files/{} {}",
            name.split('/').next().unwrap_or_default(),
            name.rsplit('.').next().unwrap_or_default()
        ),
        None => path.to_owned(),
    };
    let number = Regex::new("/[0-9]+(/|$)").expect("a pattern");
    let path = number.replace_all(&path, "/N$1");
    let keys: BTreeSet<&str> = query.split('&').filter_map(|pair| pair.split('=').next()).collect();
    format!("{} {keys:?}", mac.replace_all(&path, "MAC"))
}

#[derive(Default)]
pub(crate) struct Verdict {
    judged: usize,
    /// What is wrong, and where.
    faults: BTreeMap<String, BTreeSet<String>>,
}

impl Verdict {
    pub(crate) fn on(&mut self, window: &mut Window, page: &str) {
        self.judged += 1;
        for fault in window.judge() {
            if !["serious", "critical"].contains(&fault["impact"].as_str().unwrap_or_default()) {
                continue;
            }
            let mut what =
                format!("{}: {}", fault["id"].as_str().unwrap_or_default(), fault["help"].as_str().unwrap_or_default());
            for node in fault["nodes"].as_array().into_iter().flatten() {
                let summary = node["failureSummary"].as_str().unwrap_or_default().replace('\n', " ");
                write!(what, "\n    {} {summary}", node["target"].as_str().unwrap_or_default()).expect("text");
            }
            let how = format!(
                "{page} ({} {})",
                fault["width"].as_str().unwrap_or_default(),
                fault["colorScheme"].as_str().unwrap_or_default()
            );
            self.faults.entry(what).or_default().insert(how);
        }
    }

    pub(crate) fn pronounce(self) {
        let mut report = String::new();
        for (what, pages) in &self.faults {
            writeln!(report, "{what}\n  on {}", pages.iter().cloned().collect::<Vec<_>>().join(", ")).expect("text");
        }
        assert!(report.is_empty(), "{} pages were judged:\n{report}", self.judged);
    }
}

#[test]
fn axe_finds_nothing_serious_on_any_page() {
    let lan = Lan::new(1);
    let server = site(&lan);
    let mut window = Window::on(lan.server(), &server, "judged");
    let mut verdict = Verdict::default();
    window.go("/");
    verdict.on(&mut window, "/setup");
    window.first_visit(&server);
    // One that is in step and has a history, and one that waits for an order.
    let phone = Phone::plugged_in(lan.phone(0), &server, PLAIN, "101:s3cret-101");
    window.see(text("in step"));
    window.go(&format!("/devices/{IGNORED}"));
    window.click(button("Ignore it"));
    window.see(text("It is ignored"));

    // What each kind of page shows depends on the phone, so these are looked at one by one; all others are found by their links.
    let mut due: Vec<String> = [PENDING, IGNORED, TROUBLED, OFF, PLAIN].map(|mac| format!("/devices/{mac}")).into();
    due.extend(["/?state=all&progress=&q=nobody+at+all", "/?state=pending", "/"].map(str::to_owned));
    let mut known: BTreeSet<String> = BTreeSet::new();
    let origin = format!("http://{}", server.admin());
    while let Some(path) = due.pop() {
        assert!(known.len() < 80, "more pages than a person can look through: {known:#?}");
        let status = window.go(&path);
        assert_eq!(status, 200, "{path}");
        let page = kind(&path);
        let words = page.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        window.picture(&["page"].into_iter().chain(words).collect::<Vec<_>>().join("-"));
        known.insert(page);
        verdict.on(&mut window, &path);
        for link in window.links() {
            let path = link.strip_prefix(&origin).unwrap_or_else(|| panic!("{path} leads to {link}"));
            let path = path.split('#').next().unwrap_or_default();
            let is_page = !path.starts_with("/api/") && !path.starts_with("/assets/");
            if is_page && !path.is_empty() && known.insert(kind(path)) {
                due.push(path.to_owned());
            }
        }
    }
    for page in [
        "/import ",
        "/profiles/desk/edit ",
        "/devices/MAC/edit ",
        "/devices/MAC/source ",
        "/files/templates j2 ",
        "/plugins ",
        "/network/doctor ",
    ] {
        assert!(known.iter().any(|kind| kind.starts_with(page)), "no {page} among {known:?}");
    }

    // What is seen only when something goes wrong.
    window.go(&format!("/devices/{PLAIN}/source"));
    let profile = window.value(field("Profile file (YAML)"));
    window.fill(field("Profile file (YAML)"), &profile.replace("label: Reception", "lable: Reception"));
    window.click(button("Save"));
    window.see(element("[role=alert]"));
    window.picture("mistake");
    verdict.on(&mut window, "a mistake in the editor");
    window.go("/profiles/desk/edit");
    window.fill(field("match, mac"), "none");
    window.click(button("Save"));
    window.see(element("[aria-invalid]"));
    verdict.on(&mut window, "a mistake in the form of a profile");
    window.fill(field("match, mac"), "805ec0");
    window.click(button("What would change?"));
    window.see(element("#comes-to"));
    window.picture("profile-outlook");
    verdict.on(&mut window, "what a change of a profile would come to");
    enrolled_by_keyboard(&mut window, &mut verdict);
    assert_eq!(window.go("/devices/00:00:00:00:00:00"), 404);
    verdict.on(&mut window, "no such phone");
    window.visitor(true);
    window.go("/login");
    window.fill(field("Password"), "wrong");
    window.click(button("Log in"));
    window.see(element("[role=alert]"));
    verdict.on(&mut window, "a wrong password");
    drop(phone);
    verdict.pronounce();
}

/// Who has no mouse imports phones too: each mistake leads to its line, and what is mended there is looked at and enrolled.
fn enrolled_by_keyboard(window: &mut Window, verdict: &mut Verdict) {
    window.go("/import");
    window.reach(field("Or its text"));
    window.types("mac,number,password\n80:5e:c0:00:00:0x,107,s3cret\n");
    window.reach(button("Look at it"));
    window.press("Enter");
    window.see(text("nothing is written: 1 place is wrong"));
    window.picture("import-mistakes");
    verdict.on(window, "mistakes in an import");
    window.reach(link("row 2, column mac"));
    window.press("Enter");
    // The line is chosen, so that what is typed takes its place.
    window.types("80:5e:c0:00:00:07,107,s3cret");
    window.reach(button("Look at it"));
    window.press("Enter");
    window.see(text("could be enrolled"));
    window.picture("import-looked-at");
    verdict.on(window, "an import that was looked at");
    window.reach(button("Enrol the phone"));
    window.press("Enter");
    window.see(text("1 phone is enrolled."));
    verdict.on(window, "an import that is done");
}

#[test]
fn a_phone_is_approved_by_somebody_whose_browser_runs_no_script() {
    let lan = Lan::new(1);
    let server = site(&lan);
    let mut window = Window::on(lan.server(), &server, "no-script");
    window.visitor(false);
    window.first_visit(&server);
    window.see(text("2 pending"));
    window.click(link(&format!("Approve {PENDING}")));
    window.fill(field("Name"), "Porter");
    window.fill(field("Number"), "105");
    window.click(button("Approve"));
    window.see(text("It is enrolled."));
    window.picture("approved");
    window.go(&format!("/devices/{IGNORED}"));
    window.click(button("Ignore it"));
    window.see(text("It is ignored"));
    window.click(button("Log out"));
    window.log_in();
    window.see(link(PENDING));
}

#[test]
fn a_page_that_is_spoiled_is_found_out() {
    let lan = Lan::new(1);
    let server = site(&lan);
    let mut window = Window::on(lan.server(), &server, "spoiled");
    window.go("/");
    assert_eq!(window.judge(), Vec::<Value>::new());
    let faults = format!("{:?}", window.spoil());
    for what in ["script-src", "img-src", "192.0.2.1", "script: Error: spoiled"] {
        assert!(faults.contains(what), "{what} was not noticed: {faults}");
    }
    let found = window.judge();
    for (what, how) in [("color-contrast", "dark"), ("image-alt", "light"), ("overflow", "any")] {
        let is = |fault: &Value| fault["id"] == what && fault["colorScheme"] == how && fault["width"] == "narrow";
        assert!(found.iter().any(is), "{what} was not found: {found:#?}");
    }
}

#[test]
fn pages_of_one_kind_are_known_as_one() {
    assert_eq!(kind("/devices/80:5e:c0:00:00:01?file=a.cfg"), kind("/devices/805EC0000002?file=b"));
    assert_ne!(kind("/devices/80:5e:c0:00:00:01"), kind("/devices/80:5e:c0:00:00:01/edit"));
}
