use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use provost_tests::{Plan, built, repository};

use crate::site::{Site, VENDOR_YAML, bare_plan, compile, defaults, file, rename_over, run, start};

/// A library is copied, tried in a process of its own and opened; a loaded machine takes its time for that.
const SOON: Duration = Duration::from_secs(5);

pub(crate) fn rude_library() -> PathBuf {
    let libraries = &built().libraries;
    let found = libraries.iter().find(|path| path.ends_with("libprovost_rude.so"));
    found.unwrap_or_else(|| panic!("the rude plugin was not built: {libraries:?}")).clone()
}

/// Phones of the vendors that are dropped in, before there is any plugin. Of those that misbehave there is one for each manner: a
/// phone is of the model that it was first seen to be.
pub(crate) fn inventory() -> Plan {
    let phone = |mac: String| format!("  {mac}:\n    lines: [{{ number: \"7\", password: secret-word }}]\n");
    let macs = ["02:c0:de:00:00:01", "02:ac:de:00:00:01", "00:80:f0:00:00:01"].map(str::to_owned).into_iter();
    let macs =
        macs.chain((1..=20).flat_map(|number| ["02:ba:d0", "02:ba:dc"].map(|oui| format!("{oui}:00:00:{number:02x}"))));
    bare_plan()
        .file("profiles/site.yaml", defaults("one.example") + "devices:\n" + &macs.map(phone).collect::<String>())
}

pub(crate) const RUDE_TEMPLATE: &str =
    "# {{ manners }}\n{% for line in phone.lines %}\nnumber = {{ line.number }}\n{% endfor %}\n";
pub(crate) const RUDE: &str = "rude/Polite/02badc000001.cfg";
const NONSENSE: &str = "nonsense/Polite/02bad0000001.cfg";

fn soon(site: &Site, what: &str, path: &str, word: &str) {
    let took = site.until(what, path, |answer| answer.says(word));
    println!("{:5} ms  {what}", took.as_millis());
    assert!(took < SOON, "{what} took {took:?}");
}

fn gone(site: &Site, what: &str, path: &str) {
    let took = site.until(what, path, |answer| answer.status == 404);
    println!("{:5} ms  {what}", took.as_millis());
    assert!(took < SOON, "{what} took {took:?}");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to)
        } else {
            let _ = fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_folder_that_is_dropped_in_is_a_vendor_in_service() {
    let site = start(inventory());
    let own = "Config0080F0000001.cfg";
    assert_eq!(site.get(own).status, 404);
    copy_folder(&repository().join("plugins/panasonic"), &site.path("plugins/panasonic"));
    soon(&site, "a shipped vendor dropped in", own, "SIP_PASS_1=\"secret-word\"");
    let (code, said, _) = run(site.command(&["explain", "00:80:f0:00:00:01"]));
    assert!(code == 0 && said.contains("Panasonic") && said.contains("0080F0") && said.contains(own), "{said}");

    fs::create_dir_all(site.path("plugins/acme/templates")).unwrap();
    fs::write(site.path("plugins/acme/templates/device.cfg.j2"), "# of the plugin's own folder\n").unwrap();
    fs::write(site.path("plugins/acme/vendor.yaml"), VENDOR_YAML).unwrap();
    soon(&site, "a made-up vendor dropped in", &file(1), "# of the plugin's own folder");
    let (code, said, _) = run(site.command(&["plugin", "list"]));
    assert!(code == 0 && said.contains("Acme") && said.contains("Panasonic"), "{said}");

    fs::rename(site.path("plugins/panasonic"), site.path("away")).unwrap();
    gone(&site, "a vendor taken away", own);
    assert_eq!(site.get(&file(1)).status, 200);
    fs::remove_dir_all(site.path("plugins/acme")).unwrap();
    gone(&site, "a vendor deleted", &file(1));
}

#[test]
fn a_bare_library_is_dropped_in_exchanged_overwritten_and_taken_away() {
    let site = start(inventory().file("templates/rude/device.cfg.j2", RUDE_TEMPLATE));
    let library = site.path("plugins/anything-at-all.so");
    fs::copy(rude_library(), &library).unwrap();
    soon(&site, "a bare library dropped in", RUDE, "manners of the first version");
    assert!(site.get(RUDE).says("number = 7"));

    let mut bytes = fs::read(rude_library()).unwrap();
    let mut rewrite = |from: &str, to: &str| {
        let places: Vec<_> = bytes
            .windows(from.len())
            .enumerate()
            .filter(|(_, part)| *part == from.as_bytes())
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty() && from.len() == to.len(), "{from}");
        for at in places {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        bytes.clone()
    };
    let second = rewrite("manners of the first version", "manners of the other version");
    rename_over(&library, &second);
    soon(&site, "a new version by rename", RUDE, "manners of the other version");

    // Overwriting what is mapped would kill a process that had opened this very file.
    let third = rewrite("manners of the other version", "manners of the third version");
    let mark = site.mark();
    fs::write(&library, &third).unwrap();
    soon(&site, "a new version written over the old one", RUDE, "manners of the third version");
    site.wait_after(mark, "reload", |line| line.is("message", "reloaded"));

    // And slowly, as over a bad line: what is there of it meanwhile is refused, and the old version goes on.
    let fourth = rewrite("manners of the third version", "manners of the fourt version");
    let mark = site.mark();
    {
        use std::io::Write;
        let mut file = fs::File::create(&library).unwrap();
        let half = fourth.len() / 2;
        file.write_all(&fourth[..half]).unwrap();
        site.refused(mark, "anything-at-all.so");
        assert!(site.get(RUDE).says("manners of the third version"));
        file.write_all(&fourth[half..]).unwrap();
    }
    soon(&site, "a new version copied slowly", RUDE, "manners of the fourt version");

    // The template of a library is edited without touching the library.
    fs::write(site.path("templates/rude/device.cfg.j2"), "# edited\n").unwrap();
    soon(&site, "the template of a library", RUDE, "# edited");
    fs::remove_file(&library).unwrap();
    gone(&site, "a library taken away", RUDE);
}

#[test]
fn a_library_that_is_no_good_is_refused_with_the_reason_and_the_old_one_serves() {
    let site = start(inventory());
    let library = site.path("plugins/libnonsense.so");
    let build = |defines: &[&str]| {
        let made = site.path("made.so");
        compile("nonsense.c", &made, defines);
        fs::read(made).unwrap()
    };
    rename_over(&library, build(&[]));
    soon(&site, "a library in C", NONSENSE, "nonsense says one");
    let good = build(&[]);
    let cut = |percent: usize| good[..good.len() * percent / 100].to_vec();
    // The same words about the same file are told once, so no two neighbours fail alike.
    let broken: [(&str, Vec<u8>, &str); 14] = [
        ("a text", b"this is no library".to_vec(), "no ELF header"),
        ("the first half", cut(50), "shorter than its own tables"),
        ("an empty file", Vec::new(), "no ELF header"),
        ("all but the end", cut(95), "shorter than its own tables"),
        ("another library", build(&["NO_ENTRY"]), "does not export `provost_plugin_v1`"),
        ("no table", build(&["NULL_TABLE"]), "no valid table"),
        ("another ABI", build(&["MAJOR=2"]), "built for plugin ABI 2, this server speaks 1"),
        ("a table without magic", build(&["MAGIC=7"]), "no valid table"),
        ("built to abort", build(&["FLAGS=0"]), "panic = \"abort\""),
        ("a table too short", build(&["SIZE=16"]), "no valid table"),
        ("a crash", build(&["CRASHES"]), "signal"),
        ("a description cut short", build(&["MUMBLES"]), "description cannot be read"),
        ("no instance", build(&["WITHOUT_INSTANCE"]), "no instance"),
        ("a hang", build(&["HANGS"]), "did not end within"),
    ];
    for (what, bytes, reason) in broken {
        let mark = site.mark();
        rename_over(&library, bytes);
        let message = site.refused(mark, "libnonsense.so");
        println!("{what}: {message}");
        assert!(message.contains(reason) && message.contains("stays in service"), "{what}: {message}");
        assert!(site.get(NONSENSE).says("nonsense says one"), "{what}");
        let (code, said, _) = run(site.command(&["plugin", "list"]));
        assert!(code == 1 && said.contains("refused: ") && said.contains(reason), "{what}: {said}");
        // A library that is known to be no good costs the next edit nothing.
        let word = format!("after-{}.example", what.replace(' ', "-"));
        let text = fs::read_to_string(site.path("profiles/site.yaml")).unwrap();
        let server = text.lines().find(|line| line.contains("sip:")).unwrap().to_owned();
        let mark = site.mark();
        rename_over(&site.path("profiles/site.yaml"), text.replace(&server, &format!("  sip: {{ server: {word} }}")));
        let line = site.wait_after(mark, "reload", |line| line.is("message", "reloaded"));
        let millis = line.field("millis").as_u64().unwrap();
        assert!(millis < 1500, "{what}: a look took {millis} ms");
    }
    let mark = site.mark();
    rename_over(&library, &good);
    fs::set_permissions(&library, fs::Permissions::from_mode(0o777)).unwrap();
    rename_over(&site.path("plugins/x"), "");
    let message = site.refused(mark, "libnonsense.so");
    assert!(message.contains("chmod o-w"), "{message}");
    fs::set_permissions(&library, fs::Permissions::from_mode(0o755)).unwrap();
    let two = build(&["SAYS=\"two\""]);
    rename_over(&library, &two);
    soon(&site, "a new version after all that", NONSENSE, "nonsense says two");
    let (code, said, _) = run(site.command(&["plugin", "list", "--json"]));
    let list: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(code == 0 && list["plugins"][0]["id"] == "nonsense" && list["plugins"][0]["library"] == "two", "{said}");
}

#[test]
fn a_library_that_was_never_good_harms_nobody_at_the_start() {
    let plan = inventory()
        .file("plugins/acme/vendor.yaml", VENDOR_YAML)
        .file("plugins/acme/templates/device.cfg.j2", "# here\n");
    compile("nonsense.c", &plan.data().join("plugins/crash.so"), &["CRASHES"]);
    fs::write(plan.data().join("plugins/text.so"), "no library").unwrap();
    fs::create_dir(plan.data().join("plugins/half")).unwrap();
    fs::write(plan.data().join("plugins/half/vendor.yaml"), VENDOR_YAML.replace("Acme", "Half") + "library: nowhere\n")
        .unwrap();
    let site = start(plan);
    assert!(site.get(&file(1)).says("# here"));
    for (name, reason) in [("crash.so", "signal"), ("text.so", "ELF"), ("half/vendor.yaml", "libnowhere.so is neither")]
    {
        let message = site.refused(0, name);
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn a_plugin_in_c_is_dropped_in_and_renders_through_a_template() {
    let site = start(inventory());
    let path = "cplug-02c0de000001.cfg";
    assert_eq!(site.get(path).status, 404);
    compile("plugin.c", &site.path("libcplug.so"), &[]);
    // Into place by rename, as careful people do it; its template is inside.
    fs::rename(site.path("libcplug.so"), site.path("plugins/libcplug.so")).unwrap();
    soon(&site, "the plugin in C", path, "line.1.password = secret-word");
    let answer = site.get(path);
    assert_eq!(answer.body, "# rendered for a plugin in C\nline.1.number = 7\nline.1.password = secret-word\n");
    assert_eq!(site.tftp(path).unwrap(), answer.body.as_bytes());
    // The site's own template wins over the one inside, with what it can reach of it.
    fs::create_dir_all(site.path("overrides/cplug")).unwrap();
    fs::write(site.path("overrides/cplug/device.cfg.j2"), "# ours\n{% include \"@shipped/device.cfg.j2\" %}").unwrap();
    soon(&site, "an override for the plugin in C", path, "# ours\n# rendered for a plugin in C");
    let mark = site.mark();
    fs::write(site.path("overrides/cplug/device.cfg.j2"), "# ours\n{{ phone.lines[0].nothing }}\n").unwrap();
    let message = site.refused(mark, "overrides/cplug/device.cfg.j2:2");
    assert!(message.contains("stays in service"), "{message}");
    assert!(site.get(path).says("# ours\n# rendered"));
}

#[test]
fn editing_templates_all_day_fills_no_memory_with_copies_of_the_library() {
    let site = start(inventory().file("templates/rude/device.cfg.j2", RUDE_TEMPLATE));
    fs::copy(rude_library(), site.path("plugins/rude.so")).unwrap();
    soon(&site, "the library", RUDE, "manners");
    let mapped = || {
        let maps = fs::read_to_string(format!("/proc/{}/maps", site.pid())).unwrap();
        let mut libraries: Vec<_> = maps
            .lines()
            .filter(|line| line.contains("staged"))
            .filter_map(|line| line.split_whitespace().nth(5))
            .collect();
        libraries.dedup();
        libraries.len()
    };
    let before = mapped();
    assert!(before > 0, "the mapping is not found by its path");
    let began = Instant::now();
    for round in 0..10 {
        fs::write(site.path("templates/rude/device.cfg.j2"), format!("# round {round}\n")).unwrap();
        soon(&site, "an edit of the template", RUDE, &format!("# round {round}"));
    }
    println!("{:?} for ten edits", began.elapsed());
    assert_eq!(mapped(), before);
    assert_eq!(fs::read_dir(site.path("state/staged")).unwrap().count(), 0, "no copy is left behind");
}
