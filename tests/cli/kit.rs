use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use provost_tests::{Plan, repository};

use crate::site::{Site, bare_plan, command, run, start};

/// A desk of somebody who writes plugins: a folder, and a data directory without any vendor.
struct Author {
    plan: Plan,
}

impl Author {
    fn new() -> Author {
        Author { plan: bare_plan() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.plan.data().join(name)
    }

    fn provost(&self, words: &[&str]) -> (i32, String, String) {
        run(command(self.plan.data(), words))
    }

    /// Runs a command that must do its work; what it printed.
    fn does(&self, words: &[&str]) -> String {
        let (code, said, complained) = self.provost(words);
        assert!(code == 0, "{words:?} ended with {code}:\n{said}{complained}");
        said
    }

    /// Runs a command that must refuse; all that it said.
    fn cannot(&self, words: &[&str]) -> String {
        let (code, said, complained) = self.provost(words);
        assert!(code == 1, "{words:?} ended with {code}:\n{said}{complained}");
        said + &complained
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from}:\n{text}");
        fs::write(self.path(name), text.replace(from, to)).unwrap();
    }
}

#[test]
fn a_plugin_passes_its_own_check_and_tests_as_it_is_made() {
    let author = Author::new();
    let all: [(&str, &[&str]); 4] = [
        ("acme", &["Acme"]),
        (
            "bergundsohn",
            &[
                "Berg und Sohn",
                "--oui",
                "02ACDE,02ACDF123",
                "--announces",
                "berg",
                "--announces",
                "BERG OEM",
                "--model",
                "T1,T2*",
            ],
        ),
        // What ends a YAML text; of it only the ASCII letters and digits are the name in paths.
        (
            "rets1",
            &[
                "R'ets: #1 \"é\"",
                "--model",
                "12",
                "--model",
                "on",
                "--user-agent",
                "Mozilla/4.0 (R'ets on 10.1.2; 02:AC:DE:00:00:01)",
            ],
        ),
        ("x", &["x", "--user-agent", r"^x (?<model>\S+)$", "--oui", "02acd0"]),
    ];
    for (id, words) in all {
        let said = author.does(&[&["plugin", "new", "--in", "made"], words].concat());
        let folder = format!("made/{id}");
        assert!(said.contains(&format!("{folder}/vendor.yaml")), "{said}");
        let said = author.does(&["plugin", "check", &folder]);
        assert!(said.contains("no findings"), "{said}");
        let said = author.does(&["plugin", "test", &folder]);
        assert!(said.contains("ok       goldens/first-phone") && said.contains("1 cases, 0 failed"), "{said}");
        let readme = fs::read_to_string(author.path(&format!("{folder}/README.md"))).unwrap();
        let sections: Vec<_> = readme.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(sections, ["Phones", "Identification", "Files", "Settings", "Resync", "Sources", "Limitations"]);
        for name in ["vendor.yaml", "README.md", "goldens/first-phone/profiles.yaml"] {
            let text = fs::read_to_string(author.path(&format!("{folder}/{name}"))).unwrap();
            assert!(
                !text.contains("@ID@") && !text.contains("@M"),
                "{name} has a place that was not filled in:\n{text}"
            );
        }
        // What it simulates is recognised by what it says.
        let said = author.does(&["simulate", "--plugins", &folder, "--inventory"]);
        assert!(said.contains(&format!("vendor: {id}")), "{said}");
    }
    let said = author.cannot(&["plugin", "new", "--in", "made", "ACME"]);
    assert!(said.contains("made/acme is there already; nothing was changed"), "{said}");
    let said = author.cannot(&["plugin", "new", "--in", "made", "Öäü"]);
    assert!(said.contains("takes a letter or a digit"), "{said}");
    let said = author.cannot(&["plugin", "new", "y", "--user-agent", "^("]);
    assert!(said.contains("regular expression") && !author.path("y").exists(), "{said}");
    let said = author.cannot(&["plugin", "new", "y", "--library", "--sdk", "nowhere"]);
    assert!(said.contains("no SDK in nowhere") && !author.path("y").exists(), "{said}");
}

/// Each as its maker would ask, among all the others.
#[test]
fn every_plugin_here_passes_its_own_check_and_tests() {
    let plan = Plan::on_loopback();
    let folders = fs::read_dir(repository().join("plugins")).unwrap().map(|entry| entry.unwrap().path());
    let vendors: Vec<PathBuf> = folders.filter(|folder| folder.join("vendor.yaml").is_file()).collect();
    assert!(vendors.len() >= 16, "{vendors:?}");
    let ask = |word: &str, vendor: &Path| {
        let name = vendor.file_name().unwrap().to_str().unwrap();
        let (code, said, complained) = run(command(plan.data(), &["plugin", word, name]));
        (code != 0).then(|| format!("provost plugin {word} {name}:\n{said}{complained}"))
    };
    let (first, second) = vendors.split_at(vendors.len() / 2);
    let half = |vendors: &[PathBuf]| {
        let both = |vendor: &PathBuf| ["check", "test"].map(|word| ask(word, vendor));
        vendors.iter().flat_map(both).flatten().collect::<Vec<String>>()
    };
    let wrong = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(second));
        let mut wrong = half(first);
        wrong.extend(other.join().unwrap());
        wrong
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn check_tells_findings_with_file_and_line_for_people_and_as_json() {
    let author = Author::new();
    author.does(&["plugin", "new", "Acme"]);
    author.edit("acme/templates/device.cfg.j2", "line.voicemail", "line.voicemial");
    author.edit("acme/vendor.yaml", "tables:\n", "tables:\n  unused: { a: b }\n");
    let said = author.cannot(&["plugin", "check", "acme"]);
    // What no phone could be given is refused before anything else is looked at.
    assert!(said.contains("acme/templates/device.cfg.j2:13: undefined value in \"line.voicemial\""), "{said}");
    assert!(said.contains("acme is refused; 1 finding"), "{said}");
    author.edit("acme/templates/device.cfg.j2", "line.voicemial", "line.voicemail");
    let said = author.cannot(&["plugin", "check", "acme", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(
        (findings.len(), &report["vendor"], &report["fields"]["lines.label"]),
        (1, &"Acme".into(), &"honoured".into())
    );
    let finding = &findings[0];
    assert!(
        finding["file"].as_str().unwrap().ends_with("acme/vendor.yaml") && finding["line"].as_u64().unwrap() > 30,
        "{said}"
    );
    assert_eq!(finding["message"], "no template reads the table \"unused\"");
    author.edit("acme/vendor.yaml", "announces:", "announcse:");
    let said = author.cannot(&["plugin", "check", "acme"]);
    assert!(said.contains("acme/vendor.yaml:10: ") && said.contains("announcse"), "{said}");
    assert!(author.cannot(&["plugin", "check", "nobody"]).contains("no plugin \"nobody\" is in service"));
}

const SUBSCRIBE: &str = "\
SUBSCRIBE sip:MAC%3A02acde000001@224.0.1.75 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK1;rport
From: <sip:MAC%3A02acde000001@224.0.1.75>;tag=1
To: <sip:MAC%3A02acde000001@224.0.1.75>
Call-ID: 1@192.0.2.7
CSeq: 1 SUBSCRIBE
Contact: <sip:1@192.0.2.7:5060>
Expires: 0
Event: ua-profile;profile-type=\"device\";vendor=\"acme\";model=\"X1\";version=\"1.2\"
Content-Length: 0
";

#[test]
fn captures_and_goldens_say_what_must_come_of_them_and_what_comes_instead() {
    let author = Author::new();
    author.does(&["plugin", "new", "Acme", "--oui", "02ACDE"]);
    let capture = |name: &str, bytes: &[u8]| fs::write(author.path("acme/captures").join(name), bytes).unwrap();
    let expected = |name: &str| fs::read_to_string(author.path(&format!("acme/captures/{name}.expected"))).unwrap();
    capture("a.sip", SUBSCRIBE.as_bytes());
    capture("b.http", b"GET /02acde000001.cfg HTTP/1.1\r\nUser-Agent: Acme X1 1.2 02acde000001\r\nHost: x\r\n\r\n");
    capture("c.http", b"GET /%2e%2e/x HTTP/1.0");
    capture("d.http", b"DELETE /02acde000001.cfg HTTP/1.1\nHost: x\n");
    capture("e.rrq", b"\0\x0102ACDE000001.cfg\0octet\0blksize\x001468\0");
    capture("f.rrq", b"RRQ nothing.cfg netascii\n");
    let said = author.cannot(&["plugin", "test", "acme"]);
    assert!(
        said.contains("FAILED   captures/a.sip") && said.contains("nothing says yet what must come of it"),
        "{said}"
    );
    assert!(said.contains("7 cases, 6 failed, 0 written"), "{said}");
    assert!(author.does(&["plugin", "test", "acme", "--update"]).contains("0 failed, 6 written"));
    assert!(author.does(&["plugin", "test", "acme"]).contains("7 cases, 0 failed, 0 written"));
    for (name, words) in [
        ("a.sip", "MAC found: in the Request-URI\n"),
        ("a.sip", "model: X1\nfirmware: 1.2\n"),
        ("a.sip", "claimed by: Acme (the Event header names the vendor \"acme\", the MAC begins with 02ACDE)\n"),
        ("a.sip", "URL: http://192.0.2.1:8080/02acde000001.cfg\n"),
        ("b.http", "asks for: 02acde000001.cfg\nUser-Agent: Acme X1 1.2 02acde000001\nphone of: Acme ("),
        ("b.http", "file: \"{mac}.cfg\" (device), rendered from device.cfg.j2\nanswer: 200 OK, text/plain\n"),
        ("c.http", "answer: 404 Not Found"),
        ("d.http", "answer: 405 Method Not Allowed"),
        ("e.rrq", "asks for: 02ACDE000001.cfg\nphone of: Acme (the MAC begins with 02ACDE)\n"),
        ("e.rrq", "answer: the file\n"),
        ("f.rrq", "answer: ERROR 1 "),
    ] {
        assert!(expected(name).contains(words), "{name} says no {words}:\n{}", expected(name));
    }
    // Nothing of what is in a file is in what is written down.
    for name in ["a.sip", "b.http", "e.rrq"] {
        assert!(!expected(name).contains("captured"), "{}", expected(name));
    }

    author.edit("acme/templates/device.cfg.j2", "time.ntp.{{ loop.index }} =", "ntp{{ loop.index }} =");
    author.edit("acme/vendor.yaml", "'{base}{mac}.cfg'", "'{base}'");
    let said = author.cannot(&["plugin", "test", "acme"]);
    for words in [
        "FAILED   captures/a.sip\n",
        "-URL: http://192.0.2.1:8080/02acde000001.cfg\n         +URL: http://192.0.2.1:8080/\n",
        "ok       captures/b.http\n",
        "FAILED   goldens/first-phone\n",
        "-time.ntp.1 = ntp.example.net\n         +ntp1 = ntp.example.net\n",
        "7 cases, 2 failed, 0 written",
    ] {
        assert!(said.contains(words), "{words} is not in:\n{said}");
    }

    // What another vendor claims is no capture of this one, whatever was written down before.
    author.does(&["plugin", "new", "Other", "--in", "plugins", "--oui", "02ACDE"]);
    let said = author.cannot(&["plugin", "test", "acme", "--update"]);
    assert!(said.contains("Other claims the phone too (the MAC begins with 02ACDE)"), "{said}");
    assert!(
        said.contains("another vendor has a file of that name too: not found: \"02ACDE000001.cfg\" could be"),
        "{said}"
    );
    fs::remove_dir_all(author.path("plugins/other")).unwrap();
}

#[test]
fn a_case_that_cannot_be_a_case_says_why() {
    let author = Author::new();
    author.does(&["plugin", "new", "Acme"]);
    let case = |name: &str, text: &str| {
        fs::create_dir_all(author.path(&format!("acme/goldens/{name}"))).unwrap();
        fs::write(author.path(&format!("acme/goldens/{name}/profiles.yaml")), text).unwrap();
    };
    fs::create_dir(author.path("acme/goldens/empty")).unwrap();
    case("nobody", "devices: {}\n");
    case("wrong", "devices:\n  02:ac:de:00:00:01: { lnies: [] }\n");
    case("stranger", "devices:\n  02:ac:de:00:00:01: { lines: [] }\n");
    case(
        "refused",
        "devices:\n  02:ac:de:00:00:01:\n    identity: { vendor: acme }\n    lines: [{ number: 1, password: \"a\\nb\" }]\n",
    );
    fs::write(author.path("acme/captures/x.rrq"), "no request").unwrap();
    fs::write(author.path("acme/captures/y.sip"), "no request").unwrap();
    let said = author.cannot(&["plugin", "test", "acme", "--update"]);
    for words in [
        "there is no goldens/empty/profiles.yaml",
        "its profiles.yaml has 0 devices, not one",
        "goldens/wrong/profiles.yaml:2",
        "no plugin knows it",
        "written  goldens/refused",
        "it is no TFTP read request",
        "Acme does not claim the phone by anything that it says",
    ] {
        assert!(said.contains(words), "{words} is not in:\n{said}");
    }
    let error = fs::read_to_string(author.path("acme/goldens/refused/expected/error")).unwrap();
    assert!(
        error.starts_with("provost: cannot render \"02acde000001.cfg\"") && error.contains("(templates/device.cfg.j2:"),
        "{error}"
    );
    fs::remove_dir_all(author.path("acme/captures")).unwrap();
    fs::remove_dir_all(author.path("acme/goldens")).unwrap();
    assert!(author.cannot(&["plugin", "test", "acme"]).contains("there is nothing to test"));
}

const DEVICE: &str = "devices:\n  02:ac:de:00:00:01:\n    lines: [{ number: \"101\", password: secret-word }]\n";

/// A server that serves one phone, of a vendor that it does not have yet.
fn site() -> Site {
    start(bare_plan().file("profiles/site.yaml", DEVICE))
}

#[test]
fn a_packed_plugin_is_added_to_a_running_server_and_replaced_by_force() {
    let author = Author::new();
    author.does(&["plugin", "new", "Acme", "--oui", "02ACDE"]);
    let said = author.does(&["plugin", "pack", "acme"]);
    assert!(said.starts_with("acme-0.1.0.provost-plugin: Acme 0.1.0, "), "{said}");
    author.does(&["plugin", "pack", "acme", "--output", "again"]);
    let packed = fs::read(author.path("acme-0.1.0.provost-plugin")).unwrap();
    assert_eq!(packed, fs::read(author.path("again")).unwrap(), "the same plugin, the same bytes");

    let site = site();
    let file = "02acde000001.cfg";
    assert_eq!(site.get(file).status, 404);
    let path = author.path("acme-0.1.0.provost-plugin").display().to_string();
    let add = |words: &[&str]| run(site.command(&[&["plugin", "add"], words].concat()));
    let (code, said, complained) = add(&[&path]);
    assert!(code == 0 && said.contains("plugins/acme: 1 models, 1 files"), "{said}{complained}");
    site.until("the plugin", file, |answer| answer.says("account.1.password = secret-word"));

    author.edit("acme/vendor.yaml", "version: 0.1.0", "version: 0.2.0");
    author.edit("acme/templates/device.cfg.j2", "# One phone's own file.", "# The second version.");
    author.does(&["plugin", "pack", "acme"]);
    let path = author.path("acme-0.2.0.provost-plugin").display().to_string();
    let (code, _, complained) = add(&[&path]);
    assert!(
        code == 1 && complained.contains("Acme is installed already") && complained.contains("--force"),
        "{complained}"
    );
    assert!(site.get(file).says("# One phone's own file."));
    let (code, said, complained) = add(&["--force", &path]);
    assert!(code == 0 && said.contains("in place of the one before"), "{said}{complained}");
    site.until("the second version", file, |answer| answer.says("# The second version."));

    // What is no good is not even tried, and leaves nothing.
    let good = fs::read(&path).unwrap();
    for (what, bytes) in [("half of one", &good[..good.len() / 2]), ("a text", b"hello"), ("nothing", b"")] {
        fs::write(author.path("bad"), bytes).unwrap();
        let (code, said, complained) = add(&["--force", &author.path("bad").display().to_string()]);
        assert!(code == 1 && said.is_empty() && complained.contains("cannot add "), "{what}: {said}{complained}");
    }
    let (code, _, complained) = add(&["/dev/zero"]);
    assert!(code == 1 && complained.contains("more than 64 MiB"), "{complained}");
    let left: Vec<_> = fs::read_dir(site.path("plugins")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["acme"]);
    assert!(site.get(file).says("# The second version."));

    // A plugin that is refused is not packed.
    author.edit("acme/vendor.yaml", "files:", "flies:");
    let said = author.cannot(&["plugin", "pack", "acme", "-o", "refused"]);
    assert!(said.contains("acme/vendor.yaml:") && !author.path("refused").exists(), "{said}");
}

#[test]
fn a_new_library_builds_outside_the_repository_and_travels_in_a_package() {
    let author = Author::new();
    let sdk = repository().join("plugins/sdk").display().to_string();
    author.does(&["plugin", "new", "Acme", "--oui", "02ACDE", "--library", "--sdk", &sdk]);
    let said = author.cannot(&["plugin", "check", "acme"]);
    assert!(said.contains("libprovost_acme.so is neither in this folder"), "{said}");

    // The crates that the repository was built with, so that nothing is fetched.
    fs::copy(repository().join("Cargo.lock"), author.path("acme/Cargo.lock")).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kit");
    let cargo = |words: &[&str]| {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(author.path("acme")).args(words).args(["--offline", "--target-dir"]).arg(&target);
        let output = cargo.output().unwrap_or_else(|error| panic!("cannot start cargo: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    cargo(&["build"]);
    cargo(&["test"]);
    fs::copy(target.join("debug/libprovost_acme.so"), author.path("acme/libprovost_acme.so")).unwrap();
    let said = author.does(&["plugin", "check", "acme"]);
    assert!(said.contains("no findings"), "{said}");
    let said = author.does(&["plugin", "test", "acme"]);
    assert!(said.contains("1 cases, 0 failed"), "{said}");

    let said = author.does(&["plugin", "pack", "acme"]);
    assert!(said.contains("with a library for ") && said.contains("-linux-"), "{said}");
    let site = site();
    let path = author.path("acme-0.1.0.provost-plugin").display().to_string();
    let (code, said, complained) = run(site.command(&["plugin", "add", &path]));
    assert_eq!(code, 0, "{said}{complained}");
    site.until("the library", "02acde000001.cfg", |answer| answer.says("accounts.in_use = 1"));
    let names: Vec<_> =
        fs::read_dir(site.path("plugins/acme")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !names.iter().any(|name| ["Cargo.toml", "Cargo.lock", "src"].iter().any(|source| name == source)),
        "{names:?}"
    );
}
