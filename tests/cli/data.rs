//! What data alone can say: a vendor that is like another, words that phones may lack, and what no file says.

use std::process::Command;

use provost_tests::tools::{feed, require};

use crate::site::{VENDOR_YAML, command, defaults, file, plan, run, start};

/// A second maker of the first one's phones, who calls a few things otherwise.
const COUSIN: &str = "\
vendor: Cousin
like: acme
announces: [cousin]
ouis: ['02C0C0']
models: { Desk: { lines: 2 }, '*': { lines: 1 } }
files: [{ name: 'cousin-{mac}.cfg', template: device.cfg.j2 }]
announce: { url: '{base}cousin-{mac}.cfg' }
";

const COUSINS_FILE: &str = "cousin-02c0c0000001.cfg";
const COUSINS_PHONE: &str =
    "devices:\n  02:c0:c0:00:00:01: { lines: [{ number: \"7\", password: \"s3<&>\\\"';#=%\\\\\" }] }\n";

#[test]
fn a_vendor_that_is_like_another_has_its_formats_and_templates_and_follows_when_they_change() {
    let site = start(plan().file("plugins/cousin/vendor.yaml", COUSIN).file("profiles/cousin.yaml", COUSINS_PHONE));
    let answer = site.get(COUSINS_FILE);
    assert!(answer.says("# template one") && answer.says("line.1.password = s3<&>\"';#=%\\"), "{answer:?}");

    // An edit of the first one's template is an edit of both; one of its own is its own.
    site.write("templates/acme/device.cfg.j2", "# template two\n{% include 'lines.cfg.j2' %}\n");
    site.write("templates/acme/lines.cfg.j2", "lines = the first one's\n");
    site.until("the other's template", COUSINS_FILE, |answer| answer.says("lines = the first one's"));
    site.write("templates/cousin/lines.cfg.j2", "lines = its own\n");
    site.until("its own part", COUSINS_FILE, |answer| answer.says("# template two") && answer.says("lines = its own"));
    assert!(site.get(&file(1)).says("lines = the first one's"));
    site.write("templates/cousin/device.cfg.j2", "{% extends '@acme/device.cfg.j2' %}");
    site.until("a template that extends the other's", COUSINS_FILE, |answer| answer.says("# template two"));

    // What breaks the first one breaks neither of those that serve.
    let mark = site.mark();
    site.write("plugins/acme/vendor.yaml", VENDOR_YAML.replace("escape: line", "escape: lime"));
    site.refused(mark, "plugins/acme/vendor.yaml:");
    assert!(site.get(COUSINS_FILE).says("# template two") && site.get(&file(1)).says("# template two"));
    site.write("plugins/acme/vendor.yaml", VENDOR_YAML);

    let (code, said, _) = run(site.command(&["plugin", "list"]));
    assert!(code == 0 && said.contains("Acme") && said.contains("Cousin"), "{said}");
}

#[test]
fn a_vendor_that_is_like_nobody_who_is_here_is_refused_by_that_name() {
    let plan = plan()
        .file("plugins/cousin/vendor.yaml", COUSIN.replace("like: acme", "like: acne"))
        .file("plugins/third/vendor.yaml", COUSIN.replace("Cousin", "Third").replace("like: acme", "like: fourth"))
        .file("plugins/fourth/vendor.yaml", COUSIN.replace("Cousin", "Fourth").replace("cousin", "fourth"));
    let (code, said, _) = run(command(plan.data(), &["plugin", "list"]));
    assert!(code == 1 && said.contains("it is like \"acne\", a vendor that is not here"), "{said}");
    assert!(said.contains("it is like \"fourth\", which is itself like another"), "{said}");
    assert!(said.contains("Acme") && said.contains("Fourth"), "the others are in service: {said}");
}

#[test]
fn a_word_that_the_phones_lack_is_reported_with_its_line_and_left_out_of_the_file() {
    let yaml = VENDOR_YAML.to_owned()
        + "words: { locale.language: languages, lines.codecs: codecs }\n\
           tables: { languages: { de: German, pt-BR: Brazilian }, codecs: { pcma: 8, g722: 9 } }\nnot_yet: [time.zone]\n";
    let template = "language = {{ phone.locale.language | word('languages') }}\n\
                    {% for line in phone.lines %}\n{% for codec in line.codecs or [] if codec | word('codecs') is not none %}\n\
                    codec.{{ loop.index }} = {{ codec | word('codecs') }}\n{% endfor %}\n{% endfor %}\n\
                    zone = {{ phone.zone.utc_offset | offset('GMT%:z') if phone.zone else none }}\n";
    let profile = "devices:\n  02:ac:de:00:00:01:\n    locale: { language: fr }\n    time: { zone: Asia/Kolkata }\n    \
                   lines: [{ number: \"1\", codecs: [opus, pcma] }]\n  02:ac:de:00:00:02:\n    locale: { language: de-AT }\n    \
                   lines: [{ number: \"2\" }]\n";
    let plan = crate::site::bare_plan()
        .file("plugins/acme/vendor.yaml", yaml)
        .file("templates/acme/device.cfg.j2", template)
        .file("profiles/all.yaml", profile);
    let provost = |words: &[&str]| run(command(plan.data(), words));
    let (_, said, _) = provost(&["render", "02:ac:de:00:00:01"]);
    assert!(said.contains("codec.1 = 8") && said.contains("zone = GMT+05:30") && !said.contains("language"), "{said}");
    let (_, said, _) = provost(&["render", "02:ac:de:00:00:02"]);
    assert!(said.contains("language = German"), "{said}");
    let (code, said, _) = provost(&["check"]);
    assert!(code == 0 && said.contains("all.yaml:3:"), "{said}");
    for word in ["no word of Acme phones is known for \"fr\"", "for \"opus\"", "do not write it yet"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("de-AT"), "{said}");
}

#[test]
fn a_plugin_is_told_which_fields_no_file_says_and_nothing_declares() {
    let plan = plan();
    let (code, said, _) = run(command(plan.data(), &["plugin", "check", "acme"]));
    assert!(code == 1 && said.contains("no file says lines.label"), "{said}");
    assert!(
        !said.contains("no file says lines.password") && !said.contains("no file says lines.outbound_proxy "),
        "{said}"
    );
    let plan = plan.file(
        "plugins/acme/vendor.yaml",
        VENDOR_YAML.to_owned() + "unsupported: [lines.password]\nnot_yet: [lines.label]\n",
    );
    let folder = plan.data().join("plugins/acme").display().to_string();
    let (code, said, _) = run(command(plan.data(), &["plugin", "check", &folder, "--json"]));
    let report: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(code, 1);
    assert_eq!(report["fields"]["lines.password"], "contradicted", "{said}");
    assert_eq!(report["fields"]["lines.label"], "not_yet", "{said}");
    let (code, _, complained) = run(command(plan.data(), &["plugin", "check", "nobody"]));
    assert!(code != 0 && complained.contains("no plugin \"nobody\" is in service"), "{complained}");
}

#[test]
fn what_one_family_does_otherwise_is_data_too() {
    let yaml = VENDOR_YAML
        .replace("models: { Desk: { lines: 4 } }", "models: { Desk: { lines: 4 }, Wall: { family: wall, lines: 1 } }")
        + "words: { lines.transport: transports }\n\
           tables: { transports: { udp: plain, tls: safe }, key_kind: { none: 0, blf: 1 } }\n\
           families:\n  wall:\n    announce: '{base}wall-{mac}'\n    unsupported: [lines.voicemail]\n    \
           tables: { transports: { udp: 7, tls: 9 }, key_kind: { none: 0, park: 2 } }\n";
    let template = "{% macro transport(line) %}transport = {{ line.transport | word('transports') }}{% endmacro %}\n\
                    {% for line in phone.lines %}\n{{ transport(line) }}\n{% endfor %}\n\
                    {% for key in phone.keys %}\nkey = {{ key.kind | table('key_kind') }}\n{% endfor %}\n";
    let phone = |number: u8, model: &str, transport: &str, kind: &str| {
        format!(
            "  02:ac:de:00:00:0{number}:\n    identity: {{ vendor: acme, model: {model} }}\n    \
             lines: [{{ number: \"1\", transport: {transport}, voicemail: '*97' }}]\n    keys: [{{ kind: {kind} }}]\n"
        )
    };
    let profile = format!("devices:\n{}{}", phone(1, "Desk", "tls", "blf"), phone(2, "Wall", "udp", "park"));
    let plan = crate::site::bare_plan()
        .file("plugins/acme/vendor.yaml", yaml.clone())
        .file("templates/acme/device.cfg.j2", template)
        .file("profiles/all.yaml", profile);
    let provost = |words: &[&str]| run(command(plan.data(), words));
    let (_, said, _) = provost(&["render", "02:ac:de:00:00:01"]);
    assert!(said.contains("transport = safe") && said.contains("key = 1"), "{said}");
    let (_, said, complained) = provost(&["render", "02:ac:de:00:00:02"]);
    assert!(said.contains("transport = 7") && said.contains("key = 2"), "{said}{complained}");
    let (_, said, _) = provost(&["explain", "02:ac:de:00:00:02"]);
    assert!(said.contains("wall-02acde000002"), "{said}");
    let (_, said, _) = provost(&["check"]);
    assert!(
        said.contains("all.yaml:8:") && said.contains("lines.0.voicemail") && !said.contains("all.yaml:4:"),
        "{said}"
    );

    // What the vendor's phones say and those of one family do not is found, and is nothing when it is listed there.
    let (_, said, _) = provost(&["plugin", "check", "acme", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(report["fields"]["lines.transport"], "honoured", "{said}");
    assert_eq!(report["families"]["lines.voicemail"]["wall"], "unsupported", "{said}");
    let wrong = yaml.replace("  wall:\n", "  well:\n");
    let plan = plan.file("plugins/acme/vendor.yaml", wrong);
    let (_, said, _) = run(command(plan.data(), &["plugin", "list"]));
    assert!(said.contains("no model belongs to the family \"well\""), "{said}");
}

#[test]
fn a_file_goes_out_encrypted_where_the_profile_says_so_and_never_in_the_clear_instead() {
    let yaml = VENDOR_YAML.replace("template: device.cfg.j2", "template: device.cfg.j2, encrypted: true")
        + "encryption: { cipher: aes-128-ecb, key_lengths: [16] }\n";
    let profile =
        |encryption: &str| format!("{}  provisioning: {{ encryption: {encryption} }}\n", defaults("one.example"));
    let key = "0123456789abcdef";
    let plan =
        plan().file("plugins/acme/vendor.yaml", yaml).file("profiles/site.yaml", profile(&format!("{{ key: {key} }}")));
    let site = start(plan);
    // The key alone is what the phone has to learn first.
    let answer = site.get(&file(1));
    assert!(answer.says("line.1.password = secret-word"), "{answer:?}");
    site.write("profiles/site.yaml", profile(&format!("{{ key: {key}, active: true }}")));
    site.until("an encrypted file", &file(1), |answer| answer.says("octet-stream"));
    let url = format!("http://{}/{}", site.http(), file(1));
    let encrypted = feed(Command::new(require("curl")).args(["-sS", "-f", &url]), b"").unwrap();
    assert!(!String::from_utf8_lossy(&encrypted).contains("secret-word"));
    let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut openssl = Command::new(require("openssl"));
    let plain = feed(openssl.args(["enc", "-d", "-aes-128-ecb", "-nopad", "-K", &hex]), &encrypted).unwrap();
    let (code, said, _) = run(site.command(&["render", "--plain", "02:ac:de:00:00:01"]));
    let (plain, expected) = (String::from_utf8(plain).unwrap(), said);
    assert!(code == 0 && plain.contains("line.1.password = secret-word"), "{plain}");
    assert_eq!(
        plain.trim_end().lines().skip(2).collect::<Vec<_>>(),
        expected.trim_end().lines().skip(2).collect::<Vec<_>>()
    );

    // A key that the phones would not take: the phone keeps what it has, and nobody hears the password or the key.
    let mark = site.mark();
    site.write("profiles/site.yaml", profile("{ key: too-short-a-key, active: true }"));
    site.wait_after(mark, "the refusal", |line| line.text.contains("must have 16"));
    let answer = site.get(&file(1));
    assert!(answer.status == 200 && !answer.body.contains("secret-word"), "{answer:?}");
    assert!(site.log().iter().all(|line| !line.text.contains("too-short-a-key")));
}
