//! What people get wrong in profile files, and what they are told: the exact words, the line and the column.

use std::{fs, path::Path};

use provost_fleet::{Fleet, Problem, Severity};

fn read(files: &[(&str, &str)]) -> (Fleet, Vec<String>) {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let (fleet, problems) = Fleet::read(root.path(), None);
    (fleet, shown(root.path(), &problems))
}

fn shown(root: &Path, problems: &[Problem]) -> Vec<String> {
    let root = format!("{}/", root.display());
    problems.iter().map(|problem| problem.to_string().replace(&root, "")).collect()
}

#[test]
fn every_mistake_is_told_where_it_is_and_what_was_meant() {
    let table: &[(&str, &[&str])] = &[
        // Words
        (
            "defaults:\n  audio: {ringtnoe: x}\n",
            &["a.yaml:2:11: unknown key \"ringtnoe\" in \"audio\", did you mean \"ringtone\"?"],
        ),
        ("device: {}\n", &["a.yaml:1:1: unknown key \"device\" at the top of the file, did you mean \"devices\"?"]),
        (
            "defaults: {server: pbx}\n",
            &["a.yaml:1:12: unknown key \"server\" in \"defaults\": it belongs under \"sip\""],
        ),
        (
            "defaults: {codecs: [opus]}\n",
            &["a.yaml:1:12: unknown key \"codecs\" in \"defaults\": it belongs under \"sip\""],
        ),
        (
            "defaults: {qos: {tos: 46}}\n",
            &["a.yaml:1:18: unknown key \"tos\" in \"qos\"; known are rtp_dscp, sip_dscp"],
        ),
        (
            "devices:\n  000413aabbcc:\n    lines:\n      - {number: 1}\n      - {nunber: 2}\n",
            &["a.yaml:5:10: unknown key \"nunber\" in \"lines\", did you mean \"number\"?"],
        ),
        (
            "defaults: {sip: {transport: TLS, srtp: maybe}}\n",
            &[
                "a.yaml:1:29: \"transport\" does not know \"TLS\", did you mean \"tls\"?",
                "a.yaml:1:40: \"srtp\" does not know \"maybe\"; known are off, optional, required",
            ],
        ),
        (
            "defaults: {sip: {codecs: [opus, g72]}}\n",
            &["a.yaml:1:33: \"codecs\" does not know \"g72\", did you mean \"g722\"?"],
        ),
        (
            "defaults: {time: {zone: Berlin}}\n",
            &["a.yaml:1:25: unknown time zone \"Berlin\", did you mean \"Europe/Berlin\"?"],
        ),
        // Types
        ("defaults: {sip: {rport: yes}}\n", &["a.yaml:1:25: \"rport\" takes true or false, not \"yes\": write true"]),
        ("defaults: {sip: {mwi: Off}}\n", &["a.yaml:1:23: \"mwi\" takes true or false, not \"Off\": write false"]),
        ("defaults: {sip: {mwi: \"true\"}}\n", &["a.yaml:1:23: \"mwi\" takes true or false, not \"true\": write true"]),
        (
            "defaults: {sip: {port: abc}}\n",
            &["a.yaml:1:24: \"port\" takes a whole number from 0 to 65535, not \"abc\""],
        ),
        (
            "defaults: {sip: {port: 70000}}\n",
            &["a.yaml:1:24: \"port\" takes a whole number from 0 to 65535, not \"70000\""],
        ),
        (
            "defaults: {vlan: {voice: {id: 4095, priority: 8}}}\n",
            &[
                "a.yaml:1:31: \"id\" takes a whole number from 1 to 4094, not \"4095\"",
                "a.yaml:1:47: \"priority\" takes a whole number from 0 to 7, not \"8\"",
            ],
        ),
        (
            "defaults: {qos: {sip_dscp: 64}}\n",
            &["a.yaml:1:28: \"sip_dscp\" takes a whole number from 0 to 63, not \"64\""],
        ),
        (
            "defaults: {audio: {ring_volume: 101}}\n",
            &["a.yaml:1:33: \"ring_volume\" takes a whole number from 0 to 100, not \"101\""],
        ),
        ("defaults: {sip: pbx}\n", &["a.yaml:1:17: \"sip\" takes a section with keys, not a single value"]),
        ("defaults: {time: {ntp: 10.0.0.1}}\n", &["a.yaml:1:24: \"ntp\" takes a list, not a single value"]),
        ("defaults: {sip: {server: [pbx]}}\n", &["a.yaml:1:26: \"server\" takes text, not a list"]),
        ("- a\n", &["a.yaml:1:1: the file takes a section with keys, not a list"]),
        ("hello\n", &["a.yaml:1:1: the file takes a section with keys, not a single value"]),
        ("vendors: {Acme: {vendor: {acme: {P1: [1]}}}}\n", &["a.yaml:1:38: \"P1\" takes a single value, not a list"]),
        // Never the text of what may be a password
        ("devices: {000413aabbcc: {lines: hunter2}}\n", &["a.yaml:1:33: \"lines\" takes a list, not a single value"]),
        // Lists with positions
        ("defaults: {keys: [{value: 1}]}\n", &["a.yaml:1:19: an entry of \"keys\" needs \"kind\""]),
        (
            "defaults: {keys: [{position: 2, kind: blf}, {position: 0, kind: blf}, {kind: dnd}, {kind: hold}]}\n",
            &[
                "a.yaml:1:56: positions of \"keys\" are counted from 1",
                "a.yaml:1:84: \"keys\" has position 2 twice: it is already on line 1",
            ],
        ),
        // Twice
        (
            "defaults: {sip: {port: 1}}\nsites: {}\ndefaults: {}\ndefaults: {}\n",
            &[
                "a.yaml:3:1: duplicate key \"defaults\": it is already on line 1",
                "a.yaml:4:1: duplicate key \"defaults\": it is already on line 1",
            ],
        ),
        (
            "devices:\n  000413aabbcc: {}\n  00:04:13:AA:BB:CC: {}\n",
            &["a.yaml:3:3: duplicate device \"00:04:13:aa:bb:cc\": it is already on line 2"],
        ),
        (
            "vendors: {Big-Phone: {}, bigphone: {}}\n",
            &["a.yaml:1:26: duplicate key \"bigphone\": it is already on line 1"],
        ),
        // Addresses
        (
            "devices: {000413aabb: {}}\n",
            &[
                "a.yaml:1:11: \"000413aabb\" is not a MAC address: it takes twelve hexadecimal digits, as in 80:5e:c0:aa:bb:cc or \
               805ec0aabbcc",
            ],
        ),
        (
            "networks: [{cidr: 10.0.0.0/33}]\n",
            &["a.yaml:1:19: \"10.0.0.0/33\" is not a network: write an address and a prefix, as in 10.20.0.0/16"],
        ),
        ("networks: [{vlan: {}}]\n", &["a.yaml:1:12: an entry of \"networks\" needs \"cidr\" or \"interface\""]),
        (
            "profiles: {x: {match: {mac: 0004zz}}}\n",
            &[
                "a.yaml:1:29: \"0004zz\" is not the beginning of a MAC address: it takes up to twelve hexadecimal digits",
            ],
        ),
        (
            "profiles: {x: {match: {}}}\n",
            &["a.yaml:1:16: \"match\" needs at least one of vendor, model, mac and network"],
        ),
        (
            "models: {'a*b*c*d*': {}}\n",
            &["a.yaml:1:10: \"a*b*c*d*\" can match no model: at most three *, and 64 characters"],
        ),
        // Names that stand for nothing
        (
            "profiles: {office: {}}\ndevices: {000413aabbcc: {profile: ofice}}\n",
            &["a.yaml:2:35: unknown profile \"ofice\", did you mean \"office\"?"],
        ),
        (
            "sites: {berlin: {}}\ndevices: {000413aabbcc: {site: bonn}}\n",
            &["a.yaml:2:32: unknown site \"bonn\"; known are berlin"],
        ),
        (
            "sites: {berlin: {}}\nnetworks: [{cidr: 10.0.0.0/8, site: berln}]\n",
            &["a.yaml:2:37: unknown site \"berln\", did you mean \"berlin\"?"],
        ),
        (
            "profiles: {a: {extends: b}, b: {extends: c}, c: {extends: a}, d: {extends: a}, e: {extends: e}}\n",
            &[
                "a.yaml:1:25: \"extends\" leads round in a circle: a → b → c → a",
                "a.yaml:1:42: \"extends\" leads round in a circle: b → c → a → b",
                "a.yaml:1:59: \"extends\" leads round in a circle: c → a → b → c",
                "a.yaml:1:76: profile \"a\" was refused",
                "a.yaml:1:93: \"extends\" leads round in a circle: e → e",
            ],
        ),
        // Rules
        (
            "profiles: {office: {}}\nenrol: {x: {profile: ofice, networks: [10.0.0.0/8]}, y: {profile: office}}\n",
            &["a.yaml:2:57: the rule \"y\" needs \"networks\""],
        ),
        (
            "profiles: {office: {}}\nenrol: {x: {profile: ofice, networks: [10.0.0.0/8]}}\n",
            &["a.yaml:2:22: unknown profile \"ofice\", did you mean \"office\"?"],
        ),
        (
            "profiles: {office: {}}\nenrol:\n  x: {profile: office, networks: [10.0.0.0/33], numbers: 9-1, until: soon, netwroks: 1}\n",
            &[
                "a.yaml:3:35: \"10.0.0.0/33\" is not a network: write an address and a prefix, as in 10.20.0.0/16",
                "a.yaml:3:58: \"9-1\" is no range of numbers: write the first and the last, as in 200-299, and commas between several",
                "a.yaml:3:70: \"soon\" is no day: write year, month and day, as in 2026-12-24",
                "a.yaml:3:76: unknown key \"netwroks\" in \"x\", did you mean \"networks\"?",
            ],
        ),
        (
            "profiles: {office: {}}\nenrol:\n  x: {profile: office, networks: [10.0.0.0/8], accounts: [{number: 7}, {password: hunter2}, {number: 7}]}\n",
            &["a.yaml:3:72: an account needs \"number\"", "a.yaml:3:93: number \"7\" is in the rule \"x\" twice"],
        ),
        // Not YAML
        ("defaults: {sip: {server: pbx}\n", &["a.yaml:1:11: not YAML: unclosed bracket '{'"]),
        ("a: b: c\n", &["a.yaml:1:5: not YAML: mapping values are not allowed in this context"]),
        (
            "defaults: {}\n---\ndefaults: {}\n",
            &["a.yaml:3:1: not YAML: a file holds one YAML document, but here begins a second one"],
        ),
        ("x: *y\n", &["a.yaml:1:4: not YAML: alias references unknown anchor"]),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in table {
        let (_, problems) = read(&[("a.yaml", text)]);
        if problems != *expected {
            wrong.push(format!("{text}\nexpected {expected:#?}\ngot {problems:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_file_that_is_not_text_is_told_by_its_line() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a.yaml"), b"sites:\n  x\xff: {}\n").unwrap();
    let (_, problems) = Fleet::read(root.path(), None);
    assert_eq!(shown(root.path(), &problems), ["a.yaml:2:4: the file is not UTF-8 text"]);
}

#[test]
fn a_password_is_never_in_a_message() {
    let (_, problems) = read(&[
        (
            "a.yaml",
            "devices:\n  000413aabbcc:\n    lines: [{number: 1, password: hunter2}, {password: [hunter2]}]\n    access: hunter2\n",
        ),
        ("b.yaml", "defaults: {access: {admin: {password: \"hunter2}}}\n"),
        ("c.yaml", "defaults: {access: {lock_pin: {a: hunter2}}, vendor: {acme: {P2: {x: hunter2}}}}\n"),
        ("d.yaml", "devices:\n  000413aabbcc:\n    lines:\n    - password: hunter2: 3\n"),
    ]);
    assert!(problems.len() >= 5, "{problems:#?}");
    for problem in problems {
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn all_problems_of_all_files_come_at_once_and_the_good_files_load() {
    let (fleet, problems) = read(&[
        ("a.yaml", "devices: {000413000001: {lines: [{nunber: 1}], audio: {x: 1}}}\n"),
        ("b/c.yml", "devices: {000413000002: {}}\n"),
        ("z.yaml", "nonsense: [\n"),
        (".hidden.yaml", "x"),
        ("#a.yaml#", "x"),
        ("a.yaml~", "x"),
        ("README.md", "x"),
    ]);
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert_eq!(fleet.devices().map(|(mac, _)| mac.bare()).collect::<Vec<_>>(), ["000413000002"]);
}

#[test]
fn a_device_in_two_files_is_told_with_both_places_and_the_first_stays() {
    let (fleet, problems) = read(&[
        ("a.yaml", "devices:\n  000413000001: {label: first}\n"),
        ("b.yaml", "devices:\n  00-04-13-00-00-01: {label: second}\n"),
    ]);
    let [problem] = &problems[..] else { panic!("{problems:#?}") };
    assert!(problem.starts_with("b.yaml:2:3: duplicate device \"00:04:13:00:00:01\": it is already at "), "{problem}");
    assert!(problem.ends_with("a.yaml:2, which stays in service"), "{problem}");
    assert_eq!(fleet.device("000413000001".parse().unwrap()).unwrap().label(), Some("first"));
}

#[test]
fn what_two_files_say_about_the_same_is_pointed_out() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a.yaml"), "defaults:\n  sip: {server: one, port: 5060}\n").unwrap();
    fs::write(root.path().join("b.yaml"), "defaults:\n  sip: {server: two}\n  time: {zone: Europe/Berlin}\n").unwrap();
    let (_, problems) = Fleet::read(root.path(), None);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].severity, Severity::Warning);
    assert_eq!(
        shown(root.path(), &problems),
        ["b.yaml:2:17: warning: \"sip.server\" is also set at a.yaml:2; what this file says counts"]
    );
}

#[test]
fn a_directory_that_is_not_there_is_a_problem_and_no_fleet() {
    let root = tempfile::tempdir().unwrap();
    let (fleet, problems) = Fleet::read(&root.path().join("profiles"), None);
    assert!(fleet.is_empty());
    assert_eq!(
        shown(root.path(), &problems),
        ["profiles: reading the directory: No such file or directory (os error 2)"]
    );
}
