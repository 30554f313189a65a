use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    process::Command,
};

use provost_tests::{Plan, tools};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::site::{Answer, Site, VENDOR_YAML, bare_plan, command, device, file, rename_over, run, start};

/// Names that would break out of XML, of a row or of a line.
const HOSTILE: [&str; 3] = ["Anna \"A\" <Berg> & O'Neil", "]]> --> &amp; 'x' <!--", "Größe; 50 %, \\ {{ book }}"];

/// The same list as a spreadsheet writes it.
fn hostile_csv() -> String {
    let rows: Vec<String> = HOSTILE
        .iter()
        .enumerate()
        .map(|(row, name)| format!("\"{}\";10{row};+49 (0)151 22-{row};S&<\">\r\n", name.replace('"', "\"\"")))
        .collect();
    format!("\u{feff}Name;Work;Mobile;Group\r\n{}", rows.concat())
}

/// What each vendor calls the name of somebody, and where its phones read the list "company".
const FORMS: [(&str, &str, &str); 4] = [
    ("phonebook/snom/company.xml", "SnomIPPhoneDirectory", "Name"),
    ("phonebook/snom/dect/company.xml", "tbook", "name"),
    ("phonebook/grandstream/company/phonebook.xml", "AddressBook", "FirstName"),
    ("phonebook/flyingvoice/company.xml", "YealinkIPPhoneDirectory", "Name"),
];

fn office() -> Plan {
    Plan::on_loopback().file("phonebooks/company.csv", hostile_csv()).file(
        "profiles/office.yaml",
        "defaults:\n  phonebook: { remote: [{ book: company }] }\n\
         devices:\n\
         \x20 00:04:13:00:00:01: { identity: { vendor: snom, model: snomD735 }, lines: [{ number: 1, password: pw-word }] }\n\
         \x20 00:04:13:00:00:02: { identity: { vendor: snom, model: snomM900 }, lines: [{ number: 2, password: pw-word }] }\n\
         \x20 00:0b:82:00:00:03: { identity: { vendor: grandstream, model: GXP1628 }, lines: [{ number: 3, password: pw-word }] }\n\
         \x20 00:21:f2:00:00:04: { identity: { vendor: flyingvoice, model: FIP14G }, lines: [{ number: 4, password: pw-word }] }\n",
    )
}

/// Answers a request that has further lines in its head.
fn get_with(site: &Site, path: &str, user_agent: &str, more: &str) -> Answer {
    let mut stream = site.connect();
    let head =
        format!("GET /{path} HTTP/1.1\r\nHost: p\r\nUser-Agent: {user_agent}\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let line = answer.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {}", answer.head))
}

#[test]
fn a_list_is_read_in_the_form_of_every_vendor_and_its_phones_are_told_where() {
    let site = start(office());
    for (path, root, element) in FORMS {
        let answer = site.get(path);
        assert!(answer.says(root) && answer.head.contains("text/xml"), "{path}: {answer:?}");
        tools::xmllint(answer.body.as_bytes()).unwrap_or_else(|error| panic!("{path}: {error}\n{}", answer.body));
        let document = roxmltree::Document::parse(&answer.body).unwrap();
        assert_eq!(document.root_element().tag_name().name(), root);
        let texts = |name: &str| -> Vec<String> {
            let elements = document.descendants().filter(|node| node.has_tag_name(name));
            elements.map(|node| node.text().unwrap_or_default().to_owned()).collect()
        };
        for name in HOSTILE {
            assert!(
                texts(element).iter().any(|text| text.starts_with(name)),
                "{name} is not in {path}: {:?}",
                texts(element)
            );
        }
        let numbers: Vec<String> = ["Telephone", "number", "phonenumber"].into_iter().flat_map(texts).collect();
        assert!(numbers.contains(&"100".into()) && numbers.contains(&"+49151222".into()), "{path}: {numbers:?}");
        assert!(!answer.body.contains("pw-word"));

        assert_eq!(site.tftp(path).unwrap(), answer.body.as_bytes(), "{path}: both doors give the same");
        let again = site.get(path);
        assert_eq!((header(&again, "Etag"), &again.body), (header(&answer, "Etag"), &answer.body), "{path}");
        let known = get_with(&site, path, "x", &format!("If-None-Match: {}\r\n", header(&answer, "Etag")));
        assert_eq!(known.status, 304, "{path}");
        let (code, rendered, complained) = run(site.command(&["explain", path]));
        assert!(
            code == 0 && rendered.contains("3 entries") && rendered.contains("phonebooks/company.csv"),
            "{rendered}{complained}"
        );
    }
    for (mac, path, setting) in [
        ("000413000001", FORMS[0].0, "<dkey_directory perm=\"RW\">url http://127.0.0.1"),
        ("000413000002", FORMS[1].0, "<phonebook_filename>company.xml<"),
        ("000b82000003", FORMS[2].0, "/phonebook/grandstream/company</P331>"),
        ("0021f2000004", FORMS[3].0, "remote_phonebook.data.1.name = company"),
    ] {
        let (code, said, complained) = run(site.command(&["render", mac, "--local", "127.0.0.1"]));
        assert!(code == 0 && said.contains(setting), "{setting} is not in {said}{complained}");
        assert!(said.contains(&format!("==> {path} <==\n")) && said.contains(&site.get(path).body), "{path}: {said}");
        let (_, said, _) = run(site.command(&["explain", mac]));
        assert!(said.contains(path) && said.contains("the title of the list"), "{said}");
    }
    for path in [
        "phonebook/snom/nobody.xml",
        "phonebook/snom/../company.xml",
        "phonebook/acme/company.xml",
        "phonebooks/company.csv",
    ] {
        assert_eq!(site.get(path).status, 404, "{path}");
    }
    assert_eq!(site.tftp("phonebook/snom/nobody.xml").unwrap_err().0, 1);
}

#[test]
fn a_list_takes_service_when_it_is_saved_and_a_broken_one_does_not() {
    let mut site = start(office());
    let path = "phonebook/snom/company.xml";
    let list = site.path("phonebooks/company.csv");
    let before = site.get(path);
    let mark = site.mark();
    rename_over(&list, "name,work\n\"Anna,1\nBen,2\n");
    let refused = site.refused(mark, "phonebooks/company.csv:2");
    assert!(refused.contains("is a quote left open?") && refused.contains("the version before it stays"), "{refused}");
    assert_eq!(site.get(path).body, before.body);
    let (code, said, _) = run(site.command(&["check"]));
    assert!(code == 1 && said.contains("phonebooks/company.csv:2:1: \"Anna,1…\" goes on after a line break"), "{said}");
    rename_over(&list, "name,work\nCleo,3\n");
    site.until("the mended list", path, |answer| answer.says("<Telephone>3<"));
    // Nobody changed a phone's own file, and it says no other than before; but whoever asks for the list by its date gets the new one.
    let fresh = get_with(&site, path, "x", &format!("If-Modified-Since: {}\r\n", header(&before, "Last-Modified")));
    assert_eq!(fresh.status, 200);
    site.write("phonebooks/sales.yaml", "title: Sales\nentries: [{ name: Dora, numbers: [{ number: 4 }] }]\n");
    site.until("a list in a new file", "phonebook/snom/sales.xml", |answer| answer.says("<Title>Sales<"));
    fs::remove_file(site.path("phonebooks/sales.yaml")).unwrap();
    site.until("a list that was deleted", "phonebook/snom/sales.xml", |answer| answer.status == 404);
    assert!(site.stop().success());
}

#[test]
fn lists_and_firmware_may_come_to_a_server_that_had_none() {
    let site = start(
        Plan::on_loopback()
            .file("plugins/acme/vendor.yaml", VENDOR_YAML)
            .file("templates/acme/device.cfg.j2", "firmware = {{ phone.firmware_update.url }}\n")
            .file("profiles/a.yaml", device(1, "x") + "    firmware_update: { policy: pin }\n"),
    );
    // Until the phone has spoken nobody can say that there is nothing for it; but there is nothing for anybody.
    let (code, said, _) = run(site.command(&["check"]));
    assert!(code == 0 && said.contains("firmware.yaml has nothing for acme"), "{said}");
    site.write("phonebooks/late.csv", "name,work\nAnna,1\n");
    site.until("a first list", "phonebook/snom/late.xml", |answer| answer.says("<Telephone>1<"));
    site.write("firmware/desk/1.9.bin", "old");
    site.write("firmware/desk/1.10.bin", "new");
    site.write("firmware/firmware.yaml", FIRMWARE);
    site.until("a first manifest", &format!("{}?", file(1)), |_| {
        site.get_as(&file(1), "Acme Desk 1.0 02acde000001").says("firmware/desk/1.10.bin")
    });
    let (_, said, _) = run(site.command(&["check"]));
    assert!(!said.contains("asked for in vain"), "{said}");
}

#[test]
fn the_list_of_a_phone_may_have_a_name_of_the_phones_own() {
    let vendor = VENDOR_YAML
        .replace("files: [", "files: [{ name: '{mac}-directory.txt', template: directory.cfg.j2, kind: directory }, ");
    let site = start(
        bare_plan()
            .file("plugins/acme/vendor.yaml", vendor)
            .file("templates/acme/device.cfg.j2", "a = 1\n")
            .file(
                "templates/acme/directory.cfg.j2",
                "{% for entry in book.entries %}\n{{ entry.name }} = {{ entry.numbers[0].number }}\n{% endfor %}\nlines = {{ phone.lines | length }}\n",
            )
            .file("phonebooks/first.csv", "name,work\nAnna,1\nAnna,2\n")
            .file("profiles/a.yaml", device(1, "secret-word") + "    phonebook: { remote: [{ url: 'x.xml' }, { book: first }] }\n")
            .file("profiles/b.yaml", device(2, "secret-word")),
    );
    // The same name twice is two people, though the format says that the later of two settings stays.
    assert_eq!(site.get("02acde000001-directory.txt").body, "Anna = 1\nAnna = 2\nlines = 0\n");
    assert_eq!(site.get("02acde000002-directory.txt").status, 404);
    let (_, said, _) = run(site.command(&["check"]));
    assert!(said.ends_with("0 errors, 0 warnings\n"), "{said}");
}

#[test]
fn check_says_what_is_asked_for_in_vain() {
    let plan = office()
        .file("profiles/more.yaml", "sites: { a: { phonebook: { remote: [{ book: compny }] }, firmware_update: { policy: pin, version: 9.9 } } }\n\
             devices:\n  00:04:13:00:00:05: { site: a, identity: { vendor: snom, model: snomD735 } }\n\
             \x20 00:80:f0:00:00:06: { identity: { vendor: panasonic, model: KX-HDV130 } }\n")
        .file("firmware/d7.bin", "firmware")
        .file("firmware/firmware.yaml", "entries:\n\
             - { vendor: snom, models: ['snomD7*'], version: 10.1.169.16, file: d7.bin }\n\
             - { vendor: snom, models: [snomD785], version: 10.2, file: missing.bin }\n\
             - { vendor: snmo, models: ['*'], version: 1, file: d7.bin }\n\
             - { vendor: flyingvoice, models: [FOP14G], version: 1, file: d7.bin }\n");
    let (code, said, _) = run(command(plan.data(), &["check"]));
    assert_eq!(code, 1, "{said}");
    for told in [
        "more.yaml:1:45: warning: phonebook.remote.0.book is asked for in vain: there is no list \"compny\" under phonebooks/, did you mean \"company\"? (for 00:04:13:00:00:05)",
        "more.yaml:1:85: warning: firmware_update.policy is asked for in vain: firmware.yaml has no 9.9 for snom snomD735 (for 00:04:13:00:00:05)",
        "office.yaml:2:33: warning: phonebook.remote.0.book is asked for in vain: how Panasonic phones of this model read a list is not known here (for 00:80:f0:00:00:06)",
        "firmware/firmware.yaml:3:3: there is no file ",
        "firmware/firmware.yaml:4:3: warning: no plugin \"snmo\" is in service",
        "firmware/firmware.yaml:5:3: warning: no model of Flyingvoice is known that \"FOP14G\" fits",
    ] {
        assert!(said.contains(told), "{told}\nis not in\n{said}");
    }
    let (code, said, _) = run(command(plan.data(), &["check", "--json"]));
    let findings: Value = serde_json::from_str(&said).unwrap();
    assert!(code == 1 && findings["ok"] == false, "{said}");
    for of in ["phonebook", "firmware"] {
        let (code, said, _) = run(command(plan.data(), &["schema", of]));
        assert!(
            code == 0 && serde_json::from_str::<Value>(&said).unwrap()["properties"]["entries"].is_object(),
            "{said}"
        );
    }
}

const FIRMWARE: &str = "entries:\n\
    - { vendor: acme, models: [Desk], version: 1.9, file: desk/1.9.bin }\n\
    - { vendor: acme, models: ['D*'], version: 1.10, file: desk/1.10.bin }\n";

/// A vendor whose file says what firmware it is told of, and a phone with this policy.
fn policy(policy: &str) -> Plan {
    bare_plan()
        .file("plugins/acme/vendor.yaml", VENDOR_YAML)
        .file(
            "templates/acme/device.cfg.j2",
            "always = 1\nfirmware = {{ phone.firmware_update.url }}\nversion = {{ phone.firmware_update.version }}\n",
        )
        .file("firmware/firmware.yaml", FIRMWARE)
        .file("firmware/desk/1.9.bin", "old")
        .file("firmware/desk/1.10.bin", "new")
        .file(
            "profiles/a.yaml",
            device(1, "x")
                + &format!("    firmware_update: {{ {policy} }}\n    identity: {{ vendor: acme, model: Desk }}\n"),
        )
}

/// What the phone that runs this is told.
fn told(site: &Site, runs: &str) -> Vec<String> {
    let ask = || site.get_as(&file(1), &format!("Acme Desk {runs} 02acde000001")).body;
    let body = ask();
    assert_eq!(ask(), body, "the same phone and version get the same bytes");
    let (_, rest) = body.split_once("always = 1\n").unwrap_or_else(|| panic!("{body}"));
    rest.lines().map(|line| line.split("/firmware/").last().unwrap().replace("version = ", "")).collect()
}

#[test]
fn a_policy_decides_by_what_the_phone_runs() {
    for (setting, by_version) in [
        ("policy: pin", [("1.8", Some("1.10")), ("1.9", Some("1.10")), ("v1.10.0", None), ("2.0", Some("1.10"))]),
        ("policy: minimum", [("1.8", Some("1.10")), ("1.9.9", Some("1.10")), ("1.10", None), ("2.0", None)]),
        ("policy: minimum, version: 1.9", [("1.8", Some("1.9")), ("1.9", None), ("1.10", None), ("2.0", None)]),
        (
            "policy: pin, version: 1.9",
            [("1.8", Some("1.9")), ("1.9", None), ("1.10", Some("1.9")), ("nightly", Some("1.9"))],
        ),
        ("policy: off, version: 1.9, url: 'x.bin'", [("1.8", None), ("1.9", None), ("1.10", None), ("2.0", None)]),
    ] {
        let site = start(policy(setting));
        // Over TFTP nobody says what it runs, before anybody else has.
        let unknown = String::from_utf8(site.tftp(&file(1)).unwrap()).unwrap();
        assert_eq!(unknown.contains("/firmware/desk/"), !setting.contains("off"), "{setting}: {unknown}");
        for (runs, version) in by_version {
            let expected: Vec<String> =
                version.iter().flat_map(|version| [format!("desk/{version}.bin"), (*version).to_owned()]).collect();
            assert_eq!(told(&site, runs), expected, "{setting}, which runs {runs}");
        }
        // What it said over HTTP is remembered.
        let remembered = String::from_utf8(site.tftp(&file(1)).unwrap()).unwrap();
        assert_eq!(remembered.contains("/firmware/desk/"), by_version[3].1.is_some(), "{setting}: {remembered}");
    }
    let given = start(policy("policy: minimum, version: 3, url: 'mine/x.bin'"));
    assert_eq!(told(&given, "3.1"), [""; 0]);
    assert!(given.get_as(&file(1), "Acme Desk 2.9 02acde000001").says("/mine/x.bin\nversion = 3\n"));
    let none = start(policy("url: 'mine/x.bin', version: 3"));
    assert!(
        none.get_as(&file(1), "Acme Desk 9 02acde000001").says("/mine/x.bin\nversion = 3\n"),
        "no policy: as given"
    );
}

#[test]
fn explain_says_why_a_phone_is_told_of_firmware() {
    let site = start(policy("policy: minimum"));
    for (runs, why) in [
        ("1.9", "policy minimum: it runs 1.9, which is older than 1.10; it is told of http://192.0.2.1:"),
        ("1.11", "policy minimum: it runs 1.11, which is newer than 1.10; it is told of none"),
    ] {
        let agent = format!("Acme Desk {runs} 02acde000001");
        for what in ["02acde000001", &file(1)] {
            let (code, said, _) = run(site.command(&["explain", what, "--user-agent", &agent]));
            assert!(code == 0 && said.contains(why), "{why}: {said}");
            let origin = "firmware_update.url      http://192.0.2.1";
            assert_eq!(said.contains(origin) && said.contains("firmware.yaml:3"), runs == "1.9", "{said}");
        }
    }
    let (_, said, _) = run(site.command(&["explain", "02acde000001"]));
    assert!(said.contains("what it runs is not known, and it should run 1.10"), "{said}");
}

#[test]
fn a_phone_that_was_upgraded_is_not_told_that_nothing_changed() {
    let site = start(policy("policy: minimum"));
    let ask = |runs: &str, since: &str| {
        get_with(&site, &file(1), &format!("Acme Desk {runs} 02acde000001"), &format!("If-Modified-Since: {since}\r\n"))
    };
    let before = site.get_as(&file(1), "Acme Desk 1.9 02acde000001");
    assert!(before.says("/firmware/desk/1.10.bin"));
    let since = header(&before, "Last-Modified");
    assert_eq!(ask("1.9", since).status, 304);
    // Dates tell seconds apart, and no upgrade is that fast.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let after = ask("1.10", since);
    assert!(after.status == 200 && !after.body.contains("firmware ="), "{after:?}");
    assert_eq!(ask("1.10", header(&after, "Last-Modified")).status, 304);
}

#[test]
fn firmware_takes_service_when_its_file_is_there() {
    let site = start(policy("policy: pin").file(
        "firmware/firmware.yaml",
        FIRMWARE.to_owned() + "- { vendor: acme, models: [Desk], version: 2.0, file: desk/2.0.bin, hardware: 'B*' }\n- { vendor: acme, models: [Desk], version: 2.0, file: late/2.0.bin }\n",
    ));
    assert_eq!(told(&site, "1.9"), ["desk/1.10.bin", "1.10"], "an entry without its file is left out");
    site.write("firmware/late/2.0.bin", "late");
    site.until("the late file", &file(1), |answer| answer.says("/firmware/late/2.0.bin"));
    site.write("firmware/desk/2.0.bin", "for B");
    let mark = site.mark();
    site.write(
        "profiles/b.yaml",
        device(2, "x")
            + "    identity: { vendor: acme, model: Desk, hardware: B2 }\n    firmware_update: { policy: pin }\n",
    );
    site.until("the second device", &file(2), |answer| answer.says("/firmware/desk/2.0.bin"));
    assert_eq!(told(&site, "1.9"), ["late/2.0.bin", "2.0"], "that of another hardware is not for it");
    rename_over(&site.path("firmware/firmware.yaml"), "entries: [{ vendor: acme }]\n");
    let refused = site.refused(mark, "firmware/firmware.yaml:1");
    assert!(refused.contains("needs \"models\"") || refused.contains("needs \"file\""), "{refused}");
    assert_eq!(told(&site, "1.9"), ["late/2.0.bin", "2.0"], "the last good version stays");
}

fn digest(path: &Path) -> String {
    Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn firmware_beyond_what_the_block_numbers_of_tftp_count_arrives_whole() {
    let site = start(policy("policy: pin"));
    // Mostly holes; what is no hole lies at both ends and around the block where the number begins again.
    let path = site.path("firmware/big.bin");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut big = File::create(&path).unwrap();
    big.set_len(36 << 20).unwrap();
    for place in [0, 65534 * 512, 65535 * 512 + 7, 65536 * 512, (36 << 20) + 3] {
        big.seek(SeekFrom::Start(place)).unwrap();
        write!(big, "here is {place}").unwrap();
    }
    drop(big);
    let wanted = digest(&path);
    let got = tempfile::tempdir().unwrap();
    let port = site.tftp_port().to_string();
    let url = format!("tftp://127.0.0.1:{port}/firmware/big.bin");
    let clients: [(&str, Vec<&str>); 3] = [
        ("curl", vec!["--silent", "--show-error", "--tftp-no-options", &url, "--output"]),
        (
            "atftp",
            vec![
                "--option",
                "windowsize 16",
                "--get",
                "--remote-file",
                "firmware/big.bin",
                "127.0.0.1",
                &port,
                "--local-file",
            ],
        ),
        ("atftp", vec!["--get", "--remote-file", "firmware/big.bin", "127.0.0.1", &port, "--local-file"]),
    ];
    for (number, (client, words)) in clients.into_iter().enumerate() {
        let file = got.path().join(number.to_string());
        tools::feed(Command::new(tools::require(client)).args(words).arg(&file), b"")
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(digest(&file), wanted, "by {client}");
    }
    let part = get_with(&site, "firmware/big.bin", "x", "Range: bytes=33554432-33554438\r\n");
    assert_eq!((part.status, part.body.as_str()), (206, "here is"));
    assert_eq!(
        header(&part, "Content-Range"),
        format!("bytes 33554432-33554438/{}", fs::metadata(&path).unwrap().len())
    );
}

#[test]
fn nothing_but_firmware_is_given_from_there() {
    let site = start(
        policy("policy: pin")
            .file("firmware/.hidden", "x")
            .file("secret", "x")
            .file("assets/firmware/legacy.bin", "from assets")
            .file("assets/rings/bell.wav", "RIFF"),
    );
    std::os::unix::fs::symlink(site.path("secret"), site.path("firmware/link")).unwrap();
    for path in [
        "firmware/firmware.yaml",
        "firmware/.hidden",
        "firmware/link",
        "firmware",
        "firmware/desk",
        "firmware/",
        "firmware//secret",
        "secret",
    ] {
        assert_eq!(site.get(path).status, 404, "{path}");
        assert_eq!(site.tftp(path).unwrap_err().0, 1, "{path}");
    }
    assert_eq!(site.get("firmware/desk/1.9.bin").body, "old");
    assert_eq!(site.get("firmware/legacy.bin").body, "from assets", "what lay there before stays");
    assert_eq!(site.get("rings/bell.wav").body, "RIFF");
}
