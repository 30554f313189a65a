use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use provost_tests::Plan;
use rustix::process::Signal;

use crate::site::{Site, TEMPLATE, VENDOR_YAML, defaults, device, file, plan, rename_over, run, start};

/// The promise is a second; a machine that builds and tests at once is given three.
const SOON: Duration = Duration::from_secs(3);

/// Changes something, and waits until the phone's file shows it.
fn shows(site: &Site, what: &str, path: &str, word: &str, change: impl FnOnce()) {
    let mark = site.mark();
    let began = Instant::now();
    change();
    site.until(what, path, |answer| answer.says(word));
    let took = began.elapsed();
    println!("{:5} ms  {what}", took.as_millis());
    site.wait_after(mark, "reload", |line| line.is("message", "reloaded"));
    assert!(took < SOON, "{what} took {took:?}");
}

/// One kind of file: where it is, what it says, and the version `word` of it.
struct Kind {
    name: &'static str,
    version: fn(&str) -> String,
}

const KINDS: [Kind; 5] = [
    Kind { name: "profiles/site.yaml", version: defaults },
    Kind { name: "templates/acme/device.cfg.j2", version: |word| TEMPLATE.replace("template one", word) },
    Kind { name: "overrides/acme/device.cfg.j2", version: |word| TEMPLATE.replace("template one", word) },
    Kind {
        name: "plugins/acme/vendor.yaml",
        version: |word| VENDOR_YAML.replace("text/plain", &format!("text/x-{word}")),
    },
    Kind { name: "provost.yaml", version: |word| format!("public_url: http://{word}.example/\n") },
];

fn plan_with_settings() -> Plan {
    plan().file("provost.yaml", "public_url: http://first.example/\n")
}

#[test]
fn an_edit_is_in_service_soon_whatever_file_it_is_in_and_however_it_is_made() {
    for kind in KINDS {
        let site = start(plan_with_settings());
        let path = site.path(kind.name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let says = |word: &str| (kind.version)(word);
        let step = |what: &str, word: &str, change: &dyn Fn()| {
            shows(&site, &format!("{}: {what}", kind.name), &file(1), word, change);
        };
        step("written in place", "word-in-place", &|| fs::write(&path, says("word-in-place")).unwrap());
        step("replaced by rename", "word-renamed", &|| rename_over(&path, says("word-renamed")));
        let target = site.path("version-one");
        fs::write(&target, says("word-linked")).unwrap();
        step("replaced by a link", "word-linked", &|| {
            symlink(&target, site.path("link")).unwrap();
            fs::rename(site.path("link"), &path).unwrap();
        });
        let other = site.path("version-two");
        fs::write(&other, says("word-swapped")).unwrap();
        step("its link swapped", "word-swapped", &|| {
            symlink(&other, site.path("link")).unwrap();
            fs::rename(site.path("link"), &path).unwrap();
        });
        step("what the link leads to written in place", "word-behind", &|| {
            fs::write(&other, says("word-behind")).unwrap();
        });
        step("what the link leads to replaced", "word-beyond", &|| rename_over(&other, says("word-beyond")));
        step("deleted and made again", "word-again", &|| {
            fs::remove_file(&path).unwrap();
            fs::write(&path, says("word-again")).unwrap();
        });
    }
}

#[test]
fn what_is_added_is_served_and_what_is_removed_is_not() {
    let site = start(plan());
    shows(&site, "a device file added", &file(9), "line.1.number = 109", || {
        fs::write(site.path("profiles/devices/9.yaml"), device(9, "x")).unwrap();
    });
    shows(&site, "a device file added in a new folder", &file(8), "line.1.number = 108", || {
        fs::create_dir_all(site.path("profiles/a/b/c")).unwrap();
        fs::write(site.path("profiles/a/b/c/8.yaml"), device(8, "x")).unwrap();
    });
    shows(&site, "a device file edited in the new folder", &file(8), "password = other", || {
        fs::write(site.path("profiles/a/b/c/8.yaml"), device(8, "other")).unwrap();
    });
    shows(&site, "an override where there was no folder for overrides", &file(1), "# ours", || {
        fs::create_dir_all(site.path("overrides/acme")).unwrap();
        fs::write(site.path("overrides/acme/device.cfg.j2"), "# ours\n").unwrap();
    });
    shows(&site, "an override removed", &file(1), "# template one", || {
        fs::remove_file(site.path("overrides/acme/device.cfg.j2")).unwrap();
    });
    fs::remove_file(site.path("profiles/devices/9.yaml")).unwrap();
    let took = site.until("a device file removed", &file(9), |answer| answer.status == 404);
    assert!(took < SOON, "{took:?}");
    fs::remove_dir_all(site.path("profiles/a")).unwrap();
    let took = site.until("a folder of devices removed", &file(8), |answer| answer.status == 404);
    assert!(took < SOON, "{took:?}");
    assert_eq!(site.get(&file(1)).status, 200);
}

/// A directory laid out as Kubernetes lays out a ConfigMap: every file is a link through `..data`, and an update swaps that one link.
struct ConfigMap<'a> {
    directory: &'a Path,
    version: u32,
}

impl ConfigMap<'_> {
    fn put(&mut self, files: &[(&str, String)]) {
        self.version += 1;
        let version = format!("..version_{}", self.version);
        fs::create_dir_all(self.directory.join(&version)).unwrap();
        for (name, content) in files {
            fs::write(self.directory.join(&version).join(name), content).unwrap();
            let link = self.directory.join(name);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
        symlink(&version, self.directory.join("..data_tmp")).unwrap();
        fs::rename(self.directory.join("..data_tmp"), self.directory.join("..data")).unwrap();
        if self.version > 1 {
            fs::remove_dir_all(self.directory.join(format!("..version_{}", self.version - 1))).unwrap();
        }
    }
}

#[test]
fn a_config_map_is_followed_from_version_to_version() {
    let plan = plan();
    fs::remove_file(plan.data().join("profiles/site.yaml")).unwrap();
    let [profiles, templates] = ["profiles", "templates/acme"].map(|directory| plan.data().join(directory));
    fs::remove_file(templates.join("device.cfg.j2")).unwrap();
    let mut profiles = ConfigMap { directory: &profiles, version: 0 };
    let mut templates = ConfigMap { directory: &templates, version: 0 };
    profiles.put(&[("site.yaml", defaults("zero.example"))]);
    templates.put(&[("device.cfg.j2", TEMPLATE.to_owned())]);
    let site = start(plan);
    assert!(site.get(&file(1)).says("zero.example"));
    for version in 1..4 {
        let word = format!("v{version}.example");
        shows(&site, &format!("ConfigMap of profiles, version {version}"), &file(1), &word, || {
            profiles.put(&[("site.yaml", defaults(&word))]);
        });
        let word = format!("# template v{version}");
        shows(&site, &format!("ConfigMap of templates, version {version}"), &file(1), &word, || {
            templates.put(&[("device.cfg.j2", TEMPLATE.replace("# template one", &word))]);
        });
    }
    assert!(site.get(&file(1)).says("v3.example"));
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &to)
        } else {
            let _ = fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_directory_is_replaced_as_a_whole_and_what_is_edited_in_the_new_one_is_seen() {
    let site = start(plan());
    let (profiles, next, old) = (site.path("profiles"), site.path("next"), site.path("old"));
    for round in 1..=3 {
        let word = format!("replaced{round}.example");
        copy_tree(&profiles, &next);
        fs::write(next.join("site.yaml"), defaults(&word)).unwrap();
        shows(&site, "profiles/ replaced by rename", &file(1), &word, || {
            fs::rename(&profiles, &old).unwrap();
            fs::rename(&next, &profiles).unwrap();
        });
        let word = format!("edited{round}.example");
        shows(&site, "edited in the new profiles/", &file(1), &word, || {
            fs::write(profiles.join("site.yaml"), defaults(&word)).unwrap();
        });
        fs::remove_dir_all(&old).unwrap();
    }
    // File systems like to give a new directory the number of the one just deleted.
    for round in 1..=3 {
        let word = format!("anew{round}.example");
        copy_tree(&profiles, &next);
        shows(&site, "profiles/ deleted and made again", &file(1), &word, || {
            fs::remove_dir_all(&profiles).unwrap();
            copy_tree(&next, &profiles);
            fs::write(profiles.join("site.yaml"), defaults(&word)).unwrap();
        });
        fs::remove_dir_all(&next).unwrap();
        let word = format!("anew-edited{round}.example");
        shows(&site, "edited in the profiles/ made again", &file(1), &word, || {
            fs::write(profiles.join("site.yaml"), defaults(&word)).unwrap();
        });
        let password = format!("word{round}");
        shows(&site, "edited in a folder of it", &file(1), &format!("password = {password}\n"), || {
            fs::write(profiles.join("devices/1.yaml"), device(1, &password)).unwrap();
        });
    }
    let templates = site.path("templates/acme");
    copy_tree(&templates, &next);
    fs::write(next.join("device.cfg.j2"), "# of the new folder\n").unwrap();
    shows(&site, "a vendor's templates replaced by rename", &file(1), "# of the new folder", || {
        fs::rename(&templates, &old).unwrap();
        fs::rename(&next, &templates).unwrap();
    });
    shows(&site, "edited in the vendor's new folder", &file(1), "# and edited", || {
        fs::write(templates.join("device.cfg.j2"), "# and edited\n").unwrap();
    });
}

#[test]
fn a_release_is_switched_by_one_link_to_everything() {
    let plan = plan();
    let release = |name: &str, word: &str| {
        let directory = plan.data().join("releases").join(name);
        for part in ["profiles", "templates", "plugins"] {
            copy_tree(&plan.data().join(part), &directory.join(part));
        }
        fs::write(directory.join("profiles/site.yaml"), defaults(word)).unwrap();
        directory
    };
    let [one, two] = [("1", "one.example"), ("2", "two.example")].map(|(name, word)| release(name, word));
    let current = plan.data().join("current");
    symlink(&one, &current).unwrap();
    // Two links on the way to every file, the second of them relative.
    for part in ["profiles", "templates", "plugins"] {
        fs::remove_dir_all(plan.data().join(part)).unwrap();
        symlink(Path::new("current").join(part), plan.data().join(part)).unwrap();
    }
    let site = start(plan);
    assert!(site.get(&file(1)).says("one.example"));
    shows(&site, "the link to the release swapped", &file(1), "two.example", || {
        symlink(&two, site.path("link")).unwrap();
        fs::rename(site.path("link"), &current).unwrap();
    });
    shows(&site, "edited in the new release", &file(1), "three.example", || {
        fs::write(two.join("profiles/site.yaml"), defaults("three.example")).unwrap();
    });
}

/// Breaks a file, sees that it is refused where it is broken, by the server and by `check` alike, and that nobody notices; mends it.
fn refuses(site: &Site, name: &str, broken: &str, line: usize, mended: &str, word: &str) {
    let before = site.get(&file(1));
    assert_eq!(before.status, 200, "{before:?}");
    let path = site.path(name);
    let mark = site.mark();
    let place = format!("{name}:{line}");
    rename_over(&path, broken);
    let message = site.refused(mark, &place);
    println!("{message}");
    assert!(message.contains("stays in service"), "{message}");
    assert_eq!(site.get(&file(1)).body, before.body, "the last good version stays in service");
    let (code, printed, complained) = run(site.command(&["check"]));
    let said = printed + &complained;
    assert_ne!(code, 0, "{said}");
    assert!(said.contains(&place), "check does not name {place}: {said}");
    assert!(!said.contains("secret-word"), "{said}");
    let (code, json, complained) = run(site.command(&["check", "--json"]));
    assert_ne!(code, 0);
    assert!(json.contains("\"ok\": false") || complained.contains(&place), "{json}{complained}");
    shows(site, &format!("{name} mended"), &file(1), word, || rename_over(&path, mended));
}

#[test]
fn what_is_no_good_is_refused_by_file_and_line_and_the_last_good_version_stays() {
    let site = start(plan_with_settings());
    let profile = |word: &str| defaults(word) + "  time: { zone: Europe/Berlin }\n";
    refuses(
        &site,
        "profiles/site.yaml",
        "defaults:\n  sip: { server: x\n",
        2,
        &profile("mended.example"),
        "mended.example",
    );
    refuses(
        &site,
        "profiles/site.yaml",
        "defaults:\n  sip: { sever: x }\n",
        2,
        &profile("again.example"),
        "again.example",
    );
    refuses(
        &site,
        "profiles/site.yaml",
        "defaults:\n  time:\n    zone: Europe/Atlantis\n",
        3,
        &profile("third.example"),
        "third.example",
    );

    let template = |first: &str| TEMPLATE.replace("# template one", first);
    let name = "templates/acme/device.cfg.j2";
    // It does not compile.
    refuses(&site, name, "# one\n{% if %}\n", 2, &template("# mended"), "# mended");
    // It compiles, and no phone can be rendered.
    refuses(&site, name, "# one\n\n{{ phone.nothing }}\n", 3, &template("# mended twice"), "# mended twice");
    // The sample phone can be rendered, and a phone of this house cannot.
    let picky = "# one\n{% for line in phone.lines if line.number != '100' %}\n\n{{ line.nothing }}\n{% endfor %}\n";
    refuses(&site, name, picky, 4, &template("# mended thrice"), "# mended thrice");
    fs::create_dir_all(site.path("overrides/acme")).unwrap();
    refuses(&site, "overrides/acme/device.cfg.j2", "\n{{ 1 + }}\n", 2, &template("# override"), "# override");

    let name = "plugins/acme/vendor.yaml";
    let other = VENDOR_YAML.replace("text/plain", "text/x-other");
    refuses(&site, name, "vendor: Acme\nfiles: [\n", 2, &other, "text/x-other");
    refuses(&site, name, "vendor: Acme\nfields: []\n", 2, VENDOR_YAML, "text/plain");

    let name = "provost.yaml";
    refuses(
        &site,
        name,
        "\npublic: http://x/\n",
        2,
        "public_url: http://mended.example/\n",
        "base = http://mended.example/",
    );
}

#[test]
fn a_setting_of_the_right_form_and_the_wrong_sense_is_refused_and_told_once() {
    let site = start(plan_with_settings());
    let mark = site.mark();
    rename_over(&site.path("provost.yaml"), "public_url: gopher://x/\n");
    let message = site.refused(mark, "provost.yaml: public_url");
    assert!(message.contains("stays in service"), "{message}");
    shows(&site, "a profile while the settings are broken", &file(1), "meanwhile.example", || {
        fs::write(site.path("profiles/site.yaml"), defaults("meanwhile.example")).unwrap();
    });
    assert!(site.get(&file(1)).says("http://first.example/"));
    let told = site.log().iter().filter(|line| line.text.contains("gopher")).count();
    assert_eq!(told, 1, "told once, not at every look");
}

#[test]
fn a_broken_device_file_costs_no_other_device() {
    let site = start(plan());
    let mark = site.mark();
    fs::write(site.path("profiles/devices/1.yaml"), "devices:\n  02:ac:de:00:00:01:\n    lines: [{ nmber: \"1\" }]\n")
        .unwrap();
    site.refused(mark, "profiles/devices/1.yaml:3");
    shows(&site, "another device, while one is broken", &file(2), "password = other", || {
        fs::write(site.path("profiles/devices/2.yaml"), device(2, "other")).unwrap();
    });
    shows(&site, "the defaults, while one is broken", &file(3), "two.example", || {
        fs::write(site.path("profiles/site.yaml"), defaults("two.example")).unwrap();
    });
    // Its own file is the last good one, and stands on the new defaults like all others.
    let answer = site.get(&file(1));
    assert!(answer.says("password = secret-word") && answer.says("two.example"), "{answer:?}");
    shows(&site, "the broken device mended", &file(1), "password = mended", || {
        fs::write(site.path("profiles/devices/1.yaml"), device(1, "mended")).unwrap();
    });
}

#[test]
fn a_device_that_cannot_be_rendered_keeps_its_file_while_the_others_get_theirs() {
    let site = start(plan());
    let before = site.get(&file(1));
    let mark = site.mark();
    // One file, one rename: a line break in a password, which no line format can hold, and new settings for everybody.
    rename_over(&site.path("profiles/devices/1.yaml"), device(1, "\"broken\\nword\""));
    rename_over(&site.path("profiles/site.yaml"), defaults("two.example"));
    let message = site.refused(mark, "profiles/devices/1.yaml:2");
    assert!(message.contains("device.cfg.j2:7") && message.contains("stays in service"), "{message}");
    assert!(!message.contains("broken"), "{message}");
    let took = site.until("the others", &file(2), |answer| answer.says("two.example"));
    assert!(took < SOON, "{took:?}");
    assert_eq!(site.get(&file(1)).body, before.body);
    let (code, printed, _) = run(site.command(&["check"]));
    assert!(code == 1 && printed.contains("profiles/devices/1.yaml:2"), "{printed}");
    // It stays so through further changes.
    shows(&site, "a further change", &file(3), "three.example", || {
        rename_over(&site.path("profiles/site.yaml"), defaults("three.example"));
    });
    assert_eq!(site.get(&file(1)).body, before.body);
    shows(&site, "the password mended", &file(1), "password = mended", || {
        rename_over(&site.path("profiles/devices/1.yaml"), device(1, "mended"));
    });
    assert!(site.get(&file(1)).says("three.example"));
}

#[test]
fn a_template_that_the_devices_refused_comes_in_when_the_devices_are_ready_for_it() {
    let site = start(plan());
    let mark = site.mark();
    let wants_proxy = TEMPLATE.replace(
        "{% for",
        "{% if phone.lines[0].number != '100' %}\nhost = {{ phone.sip.outbound_proxy | length }}\n{% endif %}\n{% for",
    );
    let wants_proxy = wants_proxy.replace("# template one", "# template two");
    rename_over(&site.path("templates/acme/device.cfg.j2"), &wants_proxy);
    site.refused(mark, "templates/acme/device.cfg.j2:6");
    assert!(site.get(&file(1)).says("# template one"));
    shows(&site, "the template with the devices", &file(1), "# template two", || {
        rename_over(
            &site.path("profiles/site.yaml"),
            "defaults:\n  sip: { server: a.example, outbound_proxy: b.example }\n",
        );
    });
    assert!(site.get(&file(2)).says("host = 9"));
}

#[test]
fn a_change_is_made_when_it_is_tried_and_once_and_costs_nobody_else_a_render() {
    let site = start(plan());
    (1..=3).for_each(|number| assert_eq!(site.get(&file(number)).status, 200));
    let mark = site.mark();
    shows(&site, "another password", &file(1), "other-word", || {
        site.write("profiles/devices/1.yaml", device(1, "other-word"));
    });
    (1..=3).for_each(|number| assert_eq!(site.get(&file(number)).status, 200));
    site.wait_after(mark, "the last fetch", |line| line.is("message", "fetch") && line.is("file", &file(3)));
    let log = site.log().split_off(mark);
    let since = log.iter().skip_while(|line| !line.is("message", "reloaded"));
    let fetches: Vec<_> = since.filter(|line| line.is("message", "fetch")).collect();
    assert!(fetches.len() >= 3, "{log:?}");
    assert!(fetches.iter().all(|line| line.field("kept") == true), "{fetches:#?}");
}

#[test]
fn no_request_sees_half_a_change() {
    let site = start(plan());
    let pair = |word: &str| format!("defaults:\n  sip: {{ server: {word}.example, outbound_proxy: {word}.example }}\n");
    let stop = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let hammer = || {
            let mut asked = 0;
            let value = |body: &str, name: &str| {
                body.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned).unwrap_or_default()
            };
            while !stop.load(Ordering::Relaxed) {
                let answer = site.get(&file(2));
                assert_eq!(answer.status, 200, "{answer:?}");
                let (server, proxy) = (value(&answer.body, "server = "), value(&answer.body, "proxy = "));
                assert!(server == proxy || proxy.is_empty() && server == "one.example", "half a change: {answer:?}");
                asked += 1;
            }
            asked
        };
        let hammers = [scope.spawn(hammer), scope.spawn(hammer)];
        let mut slowest = Duration::ZERO;
        for round in 0..50 {
            let word = format!("round{round}");
            let began = Instant::now();
            rename_over(&site.path("profiles/site.yaml"), pair(&word));
            site.until("a swap under load", &file(2), |answer| answer.says(&format!("server = {word}.example")));
            slowest = slowest.max(began.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        println!("{:5} ms  the slowest of 50 swaps under load", slowest.as_millis());
        assert!(slowest < SOON, "{slowest:?}");
        hammers.into_iter().map(|hammer| hammer.join().unwrap()).sum::<u32>()
    });
    println!("{asked} requests");
    assert!(asked > 500, "{asked}");
}

#[test]
fn files_that_belong_together_and_are_swapped_together_take_service_together() {
    let plan = plan();
    fs::remove_file(plan.data().join("profiles/site.yaml")).unwrap();
    let directory = plan.data().join("profiles");
    let mut map = ConfigMap { directory: &directory, version: 0 };
    let pair = |word: &str| {
        [
            ("a.yaml", format!("defaults:\n  sip: {{ server: {word}.example }}\n")),
            ("b.yaml", format!("vendors:\n  acme:\n    sip: {{ outbound_proxy: {word}.example }}\n")),
        ]
    };
    map.put(&pair("start"));
    let site = start(plan);
    for round in 0..15 {
        let word = format!("round{round}");
        map.put(&pair(&word));
        // The writer does not wait for the server: versions follow each other in the middle of its looks.
        site.until("a pair of files", &file(2), |answer| {
            let line = |name: &str| answer.body.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            assert_eq!(line("server = "), line("proxy = "), "half a change: {answer:?}");
            round % 3 != 0 || line("server = ").is_some_and(|server| server.starts_with(&word))
        });
    }
}

#[test]
fn a_hangup_signal_is_a_look_at_the_disk() {
    let site = start(plan());
    let mark = site.mark();
    site.signal(Signal::HUP);
    site.wait_after(mark, "SIGHUP", |line| line.text.contains("SIGHUP"));
    let line = site.wait_after(mark, "reload", |line| line.is("message", "reloaded"));
    assert_eq!(line.field("devices"), 3);
    assert_eq!(site.get(&file(1)).status, 200);
}

#[test]
fn what_lies_beside_the_data_is_nobodys_business() {
    let site = start(plan_with_settings());
    let mark = site.mark();
    for round in 0..30 {
        fs::write(site.path("server.log"), format!("{round}")).unwrap();
        fs::create_dir_all(site.path(&format!("notes/{round}"))).unwrap();
        site.get(&file(1));
    }
    // What is seen last is told last: nothing before it was taken for a change.
    shows(&site, "a change among noise", &file(1), "after.example", || {
        fs::write(site.path("profiles/site.yaml"), defaults("after.example")).unwrap();
    });
    let reloads = site.log()[mark..].iter().filter(|line| line.is("message", "reloaded")).count();
    assert_eq!(reloads, 1);
}
