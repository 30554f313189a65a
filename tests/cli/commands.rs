use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, UdpSocket},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use provost_tests::{Plan, tools};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::site::{TEMPLATE, VENDOR_YAML, command, defaults, device, file, plan, run, serve, start};

const MAC: &str = "02:ac:de:00:00:01";

fn provost(plan: &Plan, words: &[&str]) -> (i32, String, String) {
    run(command(plan.data(), words))
}

#[test]
fn check_says_what_is_wrong_and_ends_accordingly() {
    let good = plan();
    let (code, said, _) = provost(&good, &["check"]);
    assert_eq!((code, said.as_str()), (0, "3 devices, 1 vendors: 0 errors, 0 warnings\n"));
    let (code, said, _) = provost(&good, &["check", "--json"]);
    let json: Value = serde_json::from_str(&said).unwrap();
    assert!(
        code == 0 && json["ok"] == true && json["devices"] == 3 && json["findings"] == Value::Array(vec![]),
        "{said}"
    );

    let warned = plan()
        .file("plugins/acme/vendor.yaml", VENDOR_YAML.to_owned() + "unsupported: [vlan]\n")
        .file("profiles/vlan.yaml", "defaults:\n  vlan: { voice: { id: 5 } }\n");
    let (code, said, _) = provost(&warned, &["check"]);
    assert!(
        code == 0 && said.contains("profiles/vlan.yaml:2:24: warning: vlan.voice.id is asked for in vain"),
        "{said}"
    );
    assert!(said.contains("and 2 more"), "{said}");

    // Everything that is wrong, at once.
    let bad = plan()
        .file("profiles/a.yaml", "defaults:\n  spi: {}\n")
        .file("profiles/b.yaml", "devices: [\n")
        .file("templates/acme/other.cfg.j2", "{% for %}\n")
        .file("plugins/half/vendor.yaml", "vendor: Half\n");
    let (code, said, _) = provost(&bad, &["check"]);
    assert_eq!(code, 1, "{said}");
    for place in
        ["profiles/a.yaml:2:3", "profiles/b.yaml:1:10", "templates/acme/other.cfg.j2:1", "plugins/half/vendor.yaml"]
    {
        assert!(said.contains(place), "{place}: {said}");
    }
    let (code, said, _) = provost(&bad, &["check", "--json"]);
    let json: Value = serde_json::from_str(&said).unwrap();
    assert!(code == 1 && json["ok"] == false && json["findings"].as_array().unwrap().len() >= 4, "{said}");
    assert!(
        json["findings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|finding| finding["line"] == 2 && finding["severity"] == "error"),
        "{said}"
    );
}

#[test]
fn settings_that_are_no_good_are_refused_all_at_once_with_their_own_exit_code() {
    let unknown = plan().file("provost.yaml", "public_url: http://x/\nhtp: { port: 80 }\n");
    for words in [&["check"][..], &["render", MAC], &["explain", MAC], &["plugin", "list"], &["serve"]] {
        let (code, _, complained) = provost(&unknown, words);
        assert!(
            code == 78 && complained.contains("provost.yaml:2:1: unknown field `htp`"),
            "{words:?} {code}: {complained}"
        );
        assert_eq!(complained.lines().count(), 1, "{complained}");
    }
    let wrong = "public_url: gopher://x/\nforward: [{ url: 'http://x/{serial}' }]\npnp: { group: 10.0.0.1 }\n";
    let (code, _, complained) = provost(&plan().file("provost.yaml", wrong), &["check"]);
    assert_eq!(code, 78, "{complained}");
    for what in ["gopher", "{serial}", "10.0.0.1"] {
        assert!(complained.contains(what), "{what}: {complained}");
    }
    let (code, _, complained) = provost(&plan(), &["--settings", "nowhere.yaml", "check"]);
    assert!(code == 78 && complained.contains("nowhere.yaml"), "{code}: {complained}");
}

#[test]
fn render_prints_what_the_phone_gets() {
    let site = start(plan().file("provost.yaml", "public_url: http://provost.example/\n"));
    let served = site.get(&file(1)).body;
    let (code, said, _) = run(site.command(&["render", MAC]));
    assert_eq!((code, said), (0, served.clone()));
    let (code, said, _) = run(site.command(&["render", "02ACDE000001", &file(1)]));
    assert_eq!((code, said), (0, served.clone()));
    let (code, said, _) = run(site.command(&["render", MAC, "--output", "out"]));
    assert!(code == 0 && said.is_empty(), "{said}");
    let written = site.path("out").join(file(1));
    assert_eq!(fs::read_to_string(&written).unwrap(), served);
    assert_eq!(fs::metadata(&written).unwrap().permissions().mode() & 0o777, 0o600, "it holds a password");
    for (words, reason) in [
        (&["render", "02:ac:de:00:00:99"][..], "is not in the inventory"),
        (&["render", MAC, "nothing.cfg"], "no plugin offers a file"),
        (&["render", MAC, "acme-02acde000002.cfg"], "is a file of another phone"),
    ] {
        let (code, said, complained) = run(site.command(words));
        assert!(code == 1 && said.is_empty() && complained.contains(reason), "{words:?} {code}: {said}{complained}");
    }
}

#[test]
fn explain_says_why_for_a_mac_a_path_and_a_captured_message() {
    let plan = plan()
        .file("provost.yaml", "public_url: http://provost.example/\n")
        .file("capture.sip", "SUBSCRIBE sip:MAC%3A02acde000001@224.0.1.75 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK1\r\nFrom: <sip:MAC%3A02acde000001@224.0.1.75>;tag=1\r\nTo: <sip:MAC%3A02acde000001@224.0.1.75>\r\nCall-ID: 1@10.0.0.9\r\nCSeq: 1 SUBSCRIBE\r\nContact: <sip:10.0.0.9:5060>\r\nEvent: ua-profile;profile-type=\"device\";vendor=\"ACME\";model=\"Desk\";version=\"1.2\"\r\nContent-Length: 0\r\n\r\n");
    let site = start(plan);
    let explain = |what: &str| {
        let (code, said, complained) = run(site.command(&["explain", what]));
        assert!(code == 0 && complained.is_empty(), "{said}{complained}");
        assert!(!said.contains("secret-word"), "{said}");
        said
    };
    let holds = |said: &str, words: &[&str]| {
        for words in words {
            assert!(said.contains(words), "\"{words}\" is not in\n{said}");
        }
    };
    let said = explain(MAC);
    holds(&said, &["the MAC begins with 02ACDE", "plugin   Acme", "profiles/devices/1.yaml:2", &file(1)]);
    holds(&said, &["http://provost.example/acme-02acde000001.cfg", "answered with 200 and a NOTIFY"]);
    holds(&said, &["sip.server", "one.example", "profiles/site.yaml:2:18 (defaults)", "lines.0.password", "•••"]);
    holds(&said, &["profiles/devices/1.yaml:4"]);
    let said = explain(&file(1));
    holds(
        &said,
        &[
            "has a device file \"acme-{mac}.cfg\", of 02:ac:de:00:00:01",
            "rendered from device.cfg.j2",
            "served: ",
            "text/plain",
        ],
    );
    let said = explain("capture.sip");
    holds(
        &said,
        &["in the Request-URI", "ACME", "Desk", "1.2", "plugin   Acme", "answered with 200 and a NOTIFY", &file(1)],
    );
    holds(&explain("02:ac:de:00:00:99"), &["no answer", "is not in the inventory"]);
    holds(&explain("nothing.cfg"), &["not found", "no plugin offers"]);
    let (code, said, _) = run(site.command(&["explain", "--json", MAC]));
    let json: Value = serde_json::from_str(&said).unwrap();
    assert!(code == 0 && json["plugin"] == "Acme" && !said.contains("secret-word"), "{said}");
    let password =
        json["values"].as_array().unwrap().iter().find(|value| value["field"] == "lines.0.password").unwrap();
    assert_eq!(password["value"], "•••");
    // A template that fails is explained and not hidden.
    fs::write(site.path("templates/acme/device.cfg.j2"), "\n\n{{ phone.nothing }}\n").unwrap();
    let (code, said, complained) = run(site.command(&["explain", &file(1)]));
    assert!(complained.contains("device.cfg.j2:3") && (code == 0 || code == 1), "{said}{complained}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for words in
        [&["schema", "profile"][..], &["plugin", "list"], &["completions", "bash"], &["explain", MAC], &["--help"]]
    {
        let plan = plan();
        let mut child = command(plan.data(), words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complained.is_empty(), "{words:?}: {} {complained}", output.status);
    }
}

#[test]
fn words_that_mean_nothing_are_refused_with_the_usage() {
    for (words, hint) in [
        (&["serv"][..], "unrecognized subcommand"),
        (&["serve", "--htp", "x"], "unexpected argument"),
        (&["serve", "--http", "nowhere"], "invalid value"),
        (&["serve", "--listen", "loud"], "possible values"),
        (&["render"], "required"),
        (&["render", "not-a-mac"], "invalid value"),
        (&["schema", "nothing"], "possible values"),
        (&["simulate", "--mac", MAC, "--count", "3"], "cannot be used with"),
        (&["check", "--log", "no=such=level"], "cannot read the log level"),
        (&["simulate", "--vendor", "nobody"], "no plugin \"nobody\" is in service"),
    ] {
        let (code, said, complained) = provost(&plan(), words);
        assert!(
            matches!(code, 1 | 2) && said.is_empty() && complained.contains(hint),
            "{words:?} {code}: {said}{complained}"
        );
    }
    let (code, said, _) = provost(&plan(), &["--version"]);
    assert!(code == 0 && said.starts_with("provost 0."), "{said}");
}

#[test]
fn flags_stand_above_the_environment_and_that_above_the_settings() {
    let plan = plan().file("provost.yaml", "profiles: by-settings\n");
    for (directory, devices) in [("by-settings", 1), ("by-environment", 2), ("by-flag", 3)] {
        fs::create_dir(plan.data().join(directory)).unwrap();
        for number in 1..=devices {
            fs::write(plan.data().join(directory).join(format!("{number}.yaml")), device(number, "x")).unwrap();
        }
    }
    let devices = |environment: bool, flag: bool| {
        let mut command = command(plan.data(), &["check", "--json"]);
        if environment {
            command.env("PROVOST_PROFILES", plan.data().join("by-environment"));
        }
        if flag {
            command.arg("--profiles").arg("by-flag");
        }
        let (_, said, _) = run(command);
        serde_json::from_str::<Value>(&said).unwrap()["devices"].as_u64().unwrap()
    };
    assert_eq!([devices(false, false), devices(true, false), devices(true, true), devices(false, true)], [1, 2, 3, 3]);
}

#[test]
fn the_same_holds_for_the_server_and_through_a_reload() {
    let settings = "public_url: http://settings.example/\nhttp: { port: 1 }\n";
    let base = |plan: Plan| {
        let site = start(plan.file("provost.yaml", settings).environment("PROVOST_HTTP", "127.0.0.1:2"));
        let answer = site.get(&file(1));
        let base = answer.body.lines().find_map(|line| line.strip_prefix("base = ")).unwrap().to_owned();
        (site, base)
    };
    assert_eq!(base(plan()).1, "http://settings.example/");
    assert_eq!(
        base(plan().environment("PROVOST_PUBLIC_URL", "http://environment.example/")).1,
        "http://environment.example/"
    );
    let plan = plan().environment("PROVOST_PUBLIC_URL", "http://environment.example/");
    let (site, by_flag) = base(plan.flags(["--public-url", "http://flag.example/"]));
    assert_eq!(by_flag, "http://flag.example/");
    let mark = site.mark();
    site.write("provost.yaml", "public_url: http://edited.example/\n");
    site.write("profiles/site.yaml", defaults("edited.example"));
    site.wait_after(mark, "reload", |line| line.is("message", "reloaded"));
    let answer = site.get(&file(1));
    assert!(answer.says("http://flag.example/") && answer.says("edited.example"), "{answer:?}");
}

#[test]
fn schemas_completions_and_manual_pages_are_printed() {
    let plan = plan();
    for of in ["profile", "settings", "vendor"] {
        let (code, said, _) = provost(&plan, &["schema", of]);
        let schema: Value = serde_json::from_str(&said).unwrap();
        assert!(
            code == 0 && schema["properties"].as_object().is_some_and(|properties| properties.len() >= 6),
            "{of}: {said}"
        );
    }
    // The made-up vendor's words are all known to the schema, and others are not allowed.
    let (_, said, _) = provost(&plan, &["schema", "vendor"]);
    let schema: Value = serde_json::from_str(&said).unwrap();
    let vendor: Value = serde_yaml::from_str(VENDOR_YAML).unwrap();
    for key in vendor.as_object().unwrap().keys() {
        assert!(schema["properties"][key].is_object(), "{key}: {said}");
    }
    assert_eq!(schema["additionalProperties"], false);

    let commands = ["serve", "check", "render", "explain", "simulate", "plugin", "schema", "completions", "man"];
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = provost(&plan, &["completions", shell]);
        assert_eq!(code, 0);
        for word in commands {
            assert!(script.contains(word), "{shell} completes no {word}");
        }
        if shell == "bash" {
            tools::feed(Command::new(tools::require("bash")).arg("-n"), script.as_bytes()).unwrap();
        }
    }

    let (code, said, complained) = provost(&plan, &["man", "man"]);
    assert!(code == 0 && said.is_empty(), "{complained}");
    for word in [""].into_iter().chain(commands) {
        let name = if word.is_empty() { "provost.1".to_owned() } else { format!("provost-{word}.1") };
        let page = plan.data().join("man").join(&name);
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text.contains(".SH SYNOPSIS") && text.contains(".TH"), "{name}");
        let output =
            Command::new(tools::require("groff")).args(["-man", "-Tutf8", "-ww", "-z"]).arg(&page).output().unwrap();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complained.is_empty(), "{name}: {complained}");
    }
}

const SIMULATION: &str = "\
simulate:
  - model: Desk
    firmware: '1.2'
    oui: '02ACDE'
    subscribe: |
      SUBSCRIBE sip:MAC%3A{mac}@224.0.1.75 SIP/2.0
      Via: SIP/2.0/UDP {ip}:{port};branch=z9hG4bK{number};rport
      From: <sip:MAC%3A{mac}@224.0.1.75>;tag={number}
      To: <sip:MAC%3A{mac}@224.0.1.75>
      Call-ID: {number}@{ip}
      CSeq: 1 SUBSCRIBE
      Contact: <sip:{mac}@{ip}:{port}>
      Max-Forwards: 70
      Expires: 0
      Event: ua-profile;profile-type=\"device\";vendor=\"acme\";model=\"{model}\";version=\"{firmware}\"
      Accept: application/url
      Content-Length: 0
    user_agent: 'Acme {model} {firmware} {mac}'
    fetch: ['acme-{mac}.cfg']
";

#[test]
fn simulated_phones_boot_against_the_server() {
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let plan = plan()
        .file("provost.yaml", format!("pnp: {{ interfaces: [lo], port: {port}, listen: udp }}\n"))
        .file("plugins/acme/vendor.yaml", VENDOR_YAML.to_owned() + SIMULATION);
    let site = serve(plan);
    let group = format!("224.0.1.75:{port}");
    let simulate = |words: &[&str]| {
        let common = ["simulate", "--group", &group, "--source", "127.0.0.1"];
        run(site.command(&[&common[..], words].concat()))
    };
    let (code, said, complained) = simulate(&["--mac", MAC]);
    assert!(code == 0 && said.contains("answered with 200") && said.contains("configured in"), "{said}{complained}");
    assert!(said.contains("line.1.password = secret-word"), "what it got is printed: {said}");
    // A phone that nobody knows gets nothing, and that is a failure.
    let (code, said, _) = simulate(&["--mac", "02:ac:de:00:00:99", "--boots", "1", "--json"]);
    let json: Value = serde_json::from_str(&said).unwrap();
    assert!(code == 1 && json["configured"] == false, "{said}");
    // An inventory for made-up phones makes them known.
    let (code, inventory, _) = simulate(&["--count", "20", "--first", "4096", "--inventory"]);
    assert_eq!(code, 0);
    site.write("profiles/simulated.yaml", &inventory);
    site.until("the inventory", "acme-02acde001000.cfg", |answer| answer.says("simulated-1000"));
    let (code, said, complained) = simulate(&["--count", "20", "--first", "4096", "--output", "got", "--json"]);
    let json: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{complained}"));
    assert!(code == 0 && json["configured"] == 20, "{said}{complained}");
}

/// Passwords of every kind that the model has, each of them to be recognised.
const SECRETS: [&str; 9] = [
    "Zwetschge-line",
    "Zwetschge-admin",
    "Zwetschge-user",
    "Zwetschge-provisioning",
    "Zwetschge-ldap",
    "Zwetschge-lock",
    "Zwetschge-code",
    "Zwetschge-broken",
    "Zwetschge-typo",
];

fn plan_with_secrets() -> Plan {
    let secrets = "  access:\n    admin: { username: admin, password: Zwetschge-admin }\n    user: { username: user, password: Zwetschge-user }\n    lock_pin: Zwetschge-lock\n  provisioning: { username: p, password: Zwetschge-provisioning }\n  phonebook: { ldap: { server: l.example, password: Zwetschge-ldap } }\n  dect: { access_code: Zwetschge-code }\n";
    plan()
        .file("profiles/site.yaml", defaults("one.example") + secrets)
        .file("profiles/devices/1.yaml", device(1, "Zwetschge-line"))
        .file(
            "templates/acme/device.cfg.j2",
            TEMPLATE.to_owned()
                + "admin = {{ phone.access.admin.password }}\nuser = {{ phone.access.user.password }}\nlock = {{ phone.access.lock_pin }}\n\
                   provisioning = {{ phone.provisioning.password }}\nldap = {{ phone.phonebook.ldap.password if phone.phonebook.ldap }}\ncode = {{ phone.dect.access_code }}\n",
        )
}

fn holds_no_secret(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what} tells {secret}:\n{text}");
    }
}

#[test]
fn no_password_is_told_but_in_the_phones_own_file() {
    let site = start(plan_with_secrets().flags(["--log", "trace"]));
    let answer = site.get(&file(1));
    for secret in &SECRETS[..7] {
        assert!(answer.says(secret), "{secret}: {answer:?}");
    }
    site.tftp(&file(1)).unwrap();
    for path in ["nothing", "acme-02acde0000ff.cfg", "../x", "acme-02acde000001.cfg/x"] {
        let answer = site.get(path);
        holds_no_secret(path, &answer.body);
    }
    let everything = |when: &str| {
        for words in [
            &["check"][..],
            &["check", "--json"],
            &["explain", MAC],
            &["explain", "--json", MAC],
            &["explain", "acme-02acde000001.cfg"],
            &["plugin", "list"],
            &["plugin", "list", "--json"],
            &["--log", "trace", "check"],
            &["--log", "trace", "--log-format", "json", "explain", MAC],
        ] {
            let (_, said, complained) = run(site.command(words));
            holds_no_secret(&format!("{words:?} {when}"), &(said + &complained));
        }
    };
    everything("when all is well");
    // And what fails must not tell what it failed on.
    let broken = [
        ("profiles/devices/1.yaml", device(1, "\"Zwetschge-broken\\nx\"")),
        ("profiles/devices/2.yaml", device(2, "[Zwetschge-broken")),
        ("profiles/devices/2.yaml", device(2, "Zwetschge-broken").replace("password", "passwort")),
        ("profiles/devices/2.yaml", device(2, "{ a: Zwetschge-broken }")),
        ("profiles/devices/2.yaml", "devices:\n  02:ac:de:00:00:02: Zwetschge-typo\n".to_owned()),
        ("profiles/devices/2.yaml", "Zwetschge-typo\n".to_owned()),
        (
            "profiles/devices/2.yaml",
            "devices: { 02:ac:de:00:00:02: { lines: [ { password: \"Zwetschge-typo } ] } }\n".to_owned(),
        ),
        ("templates/acme/device.cfg.j2", "{{ phone.lines[0].password | nothing }}\n".to_owned()),
        ("templates/acme/device.cfg.j2", "{{ phone.lines[0].password.nothing }}\n".to_owned()),
        ("templates/acme/device.cfg.j2", "{{ phone.lines[0].password | table(\"nothing\") }}\n".to_owned()),
        ("templates/acme/device.cfg.j2", "{{ phone.lines[0].password | minutes }}\n".to_owned()),
        ("templates/acme/device.cfg.j2", "{{ phone.lines[0].password + 1 }}\n".to_owned()),
        ("templates/acme/device.cfg.j2", "{{ phone.lines[0].password[phone.access.admin.password] }}\n".to_owned()),
        ("templates/acme/device.cfg.j2", "{% include phone.access.admin.password %}\n".to_owned()),
    ];
    for (name, content) in broken {
        let mark = site.mark();
        site.write(name, &content);
        site.refused(mark, name);
        everything(&format!("when {name} holds {content}"));
        assert_eq!(site.get(&file(1)).status, 200);
    }
    for line in site.log() {
        holds_no_secret("the log", &line.text);
    }
}

#[test]
fn the_log_is_for_people_unless_it_is_asked_to_be_json() {
    let plan = plan_with_secrets();
    let mut child =
        command(plan.data(), &["serve", "--no-pnp", "--no-tftp", "--http", "127.0.0.1:0", "--log", "debug"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let serving = lines.by_ref().map(Result::unwrap).find(|line| line.contains("serving")).unwrap();
    assert!(serving.contains("INFO") && serving.contains("devices=3") && !serving.contains('\x1b'), "{serving}");
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::TERM).unwrap();
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    holds_no_secret("the log for people", &rest.join("\n"));
    assert!(child.wait().unwrap().success());

    let site = start(plan_with_secrets());
    site.get(&file(1));
    site.wait_for("a fetch", |line| {
        line.is("message", "fetch")
            && line.is("outcome", "rendered")
            && line.is("device", MAC)
            && line.is("vendor", "acme")
            && line.is("door", "http")
    });
    assert!(site.log().iter().all(|line| line.json.is_object()), "every line is JSON");
}
