//! Changes of a device or a profile in a file that people wrote: what is asked for comes out, and nothing else moves.

use proptest::prelude::*;
use provost_fleet::{AmendError, Whose, amend, field_at, settings};
use serde_json::{Map, Value, json};

fn phone_of(mac: &str) -> Whose {
    Whose::Device(mac.parse().unwrap())
}

fn mac() -> Whose {
    phone_of("000413000001")
}

fn named(name: &str) -> Whose {
    Whose::Profile(name.into())
}

fn changed(text: &str, patch: Value) -> String {
    amend("a.yaml", text, &mac(), &patch).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn only_the_lines_that_a_change_is_about_change() {
    let file = "# Our phones.
defaults: { sip: { server: pbx } }

devices:
  # The front desk, see ticket 12.
  \"00:04:13:00:00:01\":   # by the door
    label: 'Front desk'   # as on the sign
    profile:    reception

    sip: { port: 5062, transport: tls }   # odd
    lines:
    # Anna first.
    - number: 0101        # with the zero
      password: \"s3<&>\"
    - { number: 102, display_name: Bert }
    keys:
      - {kind: blf, value: 200}
      - kind: none
      # The door.
      - kind: speed_dial
        value: '*97'
  # Next.
  00:04:13:00:00:02: { label: Other }
# The end.";
    for (patch, from, to) in [
        (json!({ "label": "Kitchen" }), "'Front desk'", "'Kitchen'"),
        (json!({ "label": "It's" }), "'Front desk'", "\"It's\""),
        (json!({ "profile": null }), "    profile:    reception\n", ""),
        (json!({ "profile": "no" }), "reception\n", "\"no\"\n"),
        (json!({ "sip": { "port": 5063 } }), "5062", "5063"),
        (json!({ "sip": { "port": null } }), "port: 5062, ", ""),
        (json!({ "sip": { "transport": null } }), ", transport: tls", ""),
        (json!({ "sip": { "transport": null, "port": null } }), "{ port: 5062, transport: tls }", "{}"),
        (json!({ "sip": { "server": "b.example" } }), "tls }", "tls, server: b.example }"),
        (json!({ "site": "berlin" }), "        value: '*97'\n", "        value: '*97'\n    site: berlin\n"),
        (json!({ "vlan": { "voice": { "id": 20 } } }), "'*97'\n", "'*97'\n    vlan:\n      voice:\n        id: 20\n"),
        (
            json!({ "lines": [{ "number": "0103", "password": "s3<&>" }, { "number": "102", "display_name": "Bert" }] }),
            "0101",
            "0103",
        ),
        (
            json!({ "lines": [{ "password": "s3<&>" }, { "number": "102", "display_name": "Bert" }] }),
            "number: 0101        # with the zero\n      ",
            "",
        ),
        (
            json!({ "lines": [{ "number": "102", "display_name": "Bert" }] }),
            "    - number: 0101        # with the zero\n      password: \"s3<&>\"\n",
            "",
        ),
        (
            json!({ "keys": [{ "kind": "blf", "value": "200" }, { "kind": "speed_dial", "value": "*97" }] }),
            "      - kind: none\n",
            "",
        ),
        (
            json!({ "keys": [{ "kind": "blf", "value": "200" }, { "kind": "none" }, { "kind": "speed_dial", "value": "*97" }, { "kind": "dnd" }] }),
            "value: '*97'\n",
            "value: '*97'\n      - kind: dnd\n",
        ),
        (
            json!({ "lines": null }),
            "    lines:\n    # Anna first.\n    - number: 0101        # with the zero\n      password: \"s3<&>\"\n    - { number: 102, display_name: Bert }\n",
            "",
        ),
        (
            json!({ "lines": [] }),
            "lines:\n    # Anna first.\n    - number: 0101        # with the zero\n      password: \"s3<&>\"\n    - { number: 102, display_name: Bert }\n",
            "lines: []\n    # Anna first.\n",
        ),
        (json!({}), "", ""),
        (json!({ "label": "Front desk", "sip": { "rport": null } }), "", ""),
    ] {
        assert!(file.contains(from), "{from}");
        let expected = file.replacen(from, to, 1);
        assert_eq!(changed(file, patch.clone()), expected, "{patch}");
        let windows = format!("\u{feff}{}", file.replace('\n', "\r\n"));
        let expected = format!("\u{feff}{}", expected.replace('\n', "\r\n"));
        assert_eq!(changed(&windows, patch.clone()), expected, "{patch}, as Windows writes it");
    }
}

#[test]
fn a_device_that_says_nothing_yet_can_say_something() {
    for (before, after) in [
        ("devices:\n  000413000001:\n", "devices:\n  000413000001:\n    label: A\n"),
        ("devices:\n  000413000001: # new", "devices:\n  000413000001: # new\n    label: A"),
        ("devices:\n  000413000001: {}\n", "devices:\n  000413000001:\n    label: A\n"),
        ("devices:\n  000413000001: ~\n", "devices:\n  000413000001:\n    label: A\n"),
        (
            "devices: { 000413000001: , x: }\n".replace(", x: ", "").as_str(),
            "devices: { 000413000001: { label: A } }\n",
        ),
        ("devices: {000413000001: {profile: x}}\n", "devices: {000413000001: {profile: x, label: A}}\n"),
        (
            "{devices: {\"000413000001\": {\n  profile: x, # why\n}}}",
            "{devices: {\"000413000001\": {\n  profile: x, label: A, # why\n}}}",
        ),
    ] {
        assert_eq!(changed(before, json!({ "label": "A" })), after);
    }
}

#[test]
fn a_profile_is_changed_as_a_device_is() {
    let file = "devices: { 000413000001: { profile: desk } }\nprofiles:\n  desk: &desk # of all desks\n    extends: base\n    match: { vendor: acme } # ours\n  \"b: c\": *desk\n  base: {}\n";
    let of = |name: &'static str, patch: Value| amend("a.yaml", file, &named(name), &patch);
    let desk = |patch: Value| of("desk", patch).unwrap_err().to_string();
    assert!(desk(json!({ "extends": null })).contains("an anchor, an alias or a merge key (line 4)"));
    assert_eq!(desk(json!({ "label": "x" })).split(':').next(), Some("label"), "that is a device's");
    assert!(of("none", json!({})).unwrap_err().to_string().contains("does not hold the profile \"none\""));
    let file = file.replace("&desk ", "").replace("*desk", "{ extends: base }");
    let of = |name: &'static str, patch: Value| amend("a.yaml", &file, &named(name), &patch).unwrap();
    assert_eq!(settings("a.yaml", &file, &named("desk")).unwrap()["match"], json!({ "vendor": "acme" }));
    assert_eq!(
        of("desk", json!({ "match": { "model": "D7*" }, "extends": null })),
        file.replace("    extends: base\n", "").replace("acme }", "acme, model: \"D7*\" }")
    );
    assert_eq!(
        of("b: c", json!({ "sip": { "server": "a" } })),
        file.replace("{ extends: base }", "{ extends: base, sip: { server: a } }")
    );
    assert_eq!(field_at("a.yaml", &file, &named("desk"), 4, 14).as_deref(), Some("extends"));
}

#[test]
fn what_is_shared_is_not_changed_behind_anybodys_back() {
    let file = "defaults: &all\n  syslog: { server: a }\ndevices:\n  000413000001:\n    <<: *all\n    sip: &sip\n      server: b\n    label: &l A\n  \
                000413000002:\n    sip: *sip\n    label: *l\n";
    let refused = |patch: Value| match amend("a.yaml", file, &mac(), &patch) {
        Err(error @ AmendError::Woven { shared: true, line: 5 }) => error.to_string(),
        other => panic!("{patch}: {other:?}"),
    };
    assert!(refused(json!({ "sip": { "server": "c" } })).contains("an anchor, an alias or a merge key (line 5)"));
    refused(json!({ "sip": null }));
    refused(json!({ "label": "B" }));
    refused(json!({ "syslog": null }));
    // What stands beside it can be changed, and what comes in by the merge key can be said otherwise.
    assert_eq!(
        changed(file, json!({ "profile": "x", "syslog": { "server": "z" } })),
        file.replace("label: &l A\n", "label: &l A\n    profile: x\n    syslog:\n      server: z\n")
    );
    let other = phone_of("000413000002");
    let of = |patch: Value| amend("a.yaml", file, &other, &patch);
    assert_eq!(
        of(json!({ "label": "B" })).unwrap(),
        file.replace("*l\n", "B\n"),
        "an alias of a single value is only that value"
    );
    assert!(matches!(of(json!({ "sip": { "port": 1 } })), Err(AmendError::Woven { shared: true, line: 10 })));
    assert_eq!(of(json!({ "sip": null })).unwrap(), file.replace("    sip: *sip\n", ""));
}

#[test]
fn what_is_wrong_names_its_field_and_no_password() {
    let file = "devices:\n  000413000001:\n    keys:\n    - { kind: blf, value: 1 }\n";
    let wrong = |patch: Value| match amend("a.yaml", file, &mac(), &patch) {
        Err(AmendError::Wrong(wrong)) => wrong,
        other => panic!("{patch}: {other:?}"),
    };
    for (patch, field, message) in [
        (json!({ "lines": [{}, { "port": 70000 }] }), "lines.1.port", "0 to 65535"),
        (
            json!({ "lines": [{ "forward": { "busy": { "targt": "x" } } }] }),
            "lines.0.forward.busy.targt",
            "did you mean \"target\"",
        ),
        (json!({ "sip": { "transport": "udb" } }), "sip.transport", "udp"),
        (json!({ "enabled": "true" }), "enabled", "write true"),
        (json!({ "keys": [{ "value": "2" }] }), "keys.0", "needs \"kind\""),
        (
            json!({ "keys": [{ "kind": "dnd" }, { "kind": "dnd", "position": 1 }] }),
            "keys.1.position",
            "the other is keys.0",
        ),
        (json!({ "lines": "s3cret" }), "lines", "a list"),
        (json!({ "label": ["s3cret"] }), "label", "not a list"),
    ] {
        let found = wrong(patch.clone());
        let [(at, said)] = &found[..] else { panic!("{patch}: {found:?}") };
        assert!(at == field && said.contains(message) && !said.contains("s3cret"), "{patch}: {found:?}");
    }
    assert_eq!(wrong(json!([1])).len(), 1);
    assert!(matches!(amend("a.yaml", "devices: {}\n", &mac(), &json!({})), Err(AmendError::Absent(_))));
    let broken = amend("a.yaml", &file.replace("kind", "kimd"), &mac(), &json!({}));
    assert!(matches!(&broken, Err(AmendError::Unreadable(problem)) if problem.line == 4), "{broken:?}");
    assert_eq!(field_at("a.yaml", file, &mac(), 4, 27).as_deref(), Some("keys.0.value"));
    assert_eq!(field_at("a.yaml", file, &mac(), 9, 1), None);
}

/// RFC 7396, section 2, once more.
fn merged(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut all = target.as_object().cloned().unwrap_or_default();
    for (name, value) in patch {
        let new = (!value.is_null()).then(|| merged(all.get(name).unwrap_or(&Value::Null), value));
        match new {
            Some(new) => drop(all.insert(name.clone(), new)),
            None => drop(all.remove(name)),
        }
    }
    Value::Object(all)
}

/// How one value was typed: a source of endless small choices.
struct Hand {
    choices: Vec<u8>,
    next: usize,
    comments: usize,
}

impl Hand {
    fn one_of(&mut self, many: u8) -> u8 {
        self.next += 1;
        self.choices[self.next % self.choices.len()].wrapping_add(self.next as u8) % many
    }

    fn comment(&mut self) -> String {
        self.comments += 1;
        format!("# note {}.", self.comments)
    }

    fn text(&mut self, text: &str) -> String {
        let plain = !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && text.parse::<f64>().is_err()
            && text != "true";
        let single = !text.contains(['\'', '\n', '\\']);
        match self.one_of(3) {
            0 if plain => text.to_owned(),
            1 if single => format!("'{text}'"),
            _ => Value::from(text).to_string(),
        }
    }

    fn flow(&mut self, value: &Value) -> String {
        let blank = ["", " "][usize::from(self.one_of(2))];
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| self.flow(item)).collect();
                format!("[{blank}{}{blank}]", items.join(", "))
            }
            Value::Object(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|(name, value)| format!("{name}: {}", self.flow(value))).collect();
                format!("{{{blank}{}{blank}}}", fields.join(if blank.is_empty() { ", " } else { " , " }))
            }
            Value::Null => "~".to_owned(),
            other => other.to_string(),
        }
    }

    /// What stands behind a key or a dash, to the end of its last line.
    fn behind(&mut self, value: &Value, indent: usize, in_list: bool) -> String {
        let empty = value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
        let single = !value.is_object() && !value.is_array();
        if value.is_null() && self.one_of(2) == 0 {
            return self.end();
        }
        if single || empty || self.one_of(3) == 0 {
            return format!(" {}{}", self.flow(value), self.end());
        }
        let step = if value.is_array() && !in_list && self.one_of(2) == 0 { 0 } else { 2 };
        let lines = self.block(value, indent + step);
        if in_list && self.one_of(3) > 0 && !lines.trim_start().starts_with('#') {
            return format!(" {}", lines.trim_start());
        }
        format!("{}{lines}", self.end())
    }

    fn end(&mut self) -> String {
        match self.one_of(4) {
            0 => format!("  {}\n", self.comment()),
            _ => "\n".to_owned(),
        }
    }

    fn block(&mut self, value: &Value, indent: usize) -> String {
        let pad = " ".repeat(indent);
        let mut out = String::new();
        let entries: Vec<(String, &Value)> = match value {
            Value::Object(fields) => fields.iter().map(|(name, value)| (format!("{name}:"), value)).collect(),
            Value::Array(items) => items.iter().map(|item| ("-".to_owned(), item)).collect(),
            _ => Vec::new(),
        };
        for (head, value) in entries {
            match self.one_of(5) {
                0 => out += &format!("{pad}{}\n", self.comment()),
                1 => out.push('\n'),
                _ => {}
            }
            out += &format!("{pad}{head}{}", self.behind(value, indent, head == "-"));
        }
        out
    }
}

fn words() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[a-z]{1,4}".prop_map(Value::from),
        "[0-9]{1,4}".prop_map(Value::from),
        Just(Value::from("true")),
        Just(Value::from("s3<&>\"':#{[\n\\ä\u{85}\u{2028}~ ")),
        Just(Value::from("- a: b # c")),
        Just(Value::from("")),
    ]
}

fn maybe(name: &'static str, value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<(String, Value)>> {
    proptest::option::weighted(0.5, value.prop_map(move |value| (name.to_owned(), value))).boxed()
}

fn section(fields: Vec<BoxedStrategy<Option<(String, Value)>>>) -> BoxedStrategy<Value> {
    fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect())).boxed()
}

fn line() -> BoxedStrategy<Value> {
    let forward = section(vec![maybe(
        "always",
        section(vec![maybe("enabled", any::<bool>().prop_map(Value::from)), maybe("target", words())]),
    )]);
    section(vec![
        maybe("number", words()),
        maybe("password", words()),
        maybe("port", (0..65536_u32).prop_map(Value::from)),
        maybe("forward", forward),
        maybe("codecs", codecs()),
    ])
}

fn codecs() -> BoxedStrategy<Value> {
    proptest::collection::vec(proptest::sample::select(vec!["opus", "g722", "pcma"]), 0..4)
        .prop_map(Value::from)
        .boxed()
}

fn key() -> impl Strategy<Value = Value> {
    (proptest::sample::select(vec!["blf", "dnd", "none"]), maybe("value", words()), maybe("label", words())).prop_map(
        |(kind, value, label)| {
            let fields = [Some(("kind".to_owned(), Value::from(kind))), value, label];
            Value::Object(fields.into_iter().flatten().collect())
        },
    )
}

fn raw() -> BoxedStrategy<Value> {
    let values = prop_oneof![words(), any::<bool>().prop_map(Value::from), (-9..9999_i64).prop_map(Value::from)];
    section(vec![maybe("P1", values.clone()), maybe("b_c", values)])
}

fn phone() -> BoxedStrategy<Value> {
    section(vec![
        maybe("label", words()),
        maybe("enabled", any::<bool>().prop_map(Value::from)),
        maybe(
            "sip",
            section(vec![maybe("server", words()), maybe("port", Just(Value::from(5060))), maybe("codecs", codecs())]),
        ),
        maybe(
            "lines",
            proptest::collection::vec(prop_oneof![4 => line(), 1 => Just(Value::Null)], 0..4).prop_map(Value::from),
        ),
        maybe("keys", proptest::collection::vec(key(), 0..5).prop_map(Value::from)),
        maybe("vendor", section(vec![maybe("acme", raw()), maybe("other", raw())])),
    ])
}

/// What of a phone a profile may say.
fn as_profile(mut phone: Value) -> Value {
    if let Value::Object(fields) = &mut phone {
        fields.remove("enabled");
        if let Some(label) = fields.remove("label") {
            fields.insert("extends".to_owned(), label);
        }
    }
    phone
}

/// A patch that takes some of what is there away, and brings some of what may be there.
fn thinned(value: Value, choices: &mut impl Iterator<Item = u8>) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter_map(|(name, value)| match choices.next().unwrap_or_default() % 4 {
                    0 => Some((name, Value::Null)),
                    1 => None,
                    _ => Some((name, thinned(value, choices))),
                })
                .collect(),
        ),
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_change_of_any_file_is_that_change(
        before in phone(),
        after in phone(),
        choices in proptest::collection::vec(any::<u8>(), 16..64),
        of_profile in any::<bool>(),
    ) {
        let (whose, key, section, other) = match of_profile {
            true => (named("my desk: 1"), "'my desk: 1'", "profiles", ["base", "last"]),
            false => (mac(), "\"00:04:13:00:00:01\"", "devices", ["000413000000", "000413000002"]),
        };
        let [before, after] = [before, after].map(|phone| if of_profile { as_profile(phone) } else { phone });
        let mut hand = Hand { choices: choices.clone(), next: 0, comments: 0 };
        let head = "# Head.\ndefaults: { label: x }\n".replace("{ label: x }", "{ sip: { server: s } }");
        let of_mine = hand.behind(&before, 2, false);
        let start = format!("{head}{section}:\n  {}: {{ site: a }} # before\n", other[0]);
        let end = format!("  # Of the next.\n  {}:\n    site:  b\n# Foot.\n", other[1]);
        let text = format!("{start}  {key}:{of_mine}{end}");
        prop_assert_eq!(settings("a.yaml", &text, &whose).unwrap(), before.clone(), "the hand wrote what it was to write:\n{}", text);
        let patch = thinned(after, &mut choices.iter().copied());
        let changed = match amend("a.yaml", &text, &whose, &patch) {
            Ok(changed) => changed,
            Err(error) => return Err(TestCaseError::fail(format!("{error}\n{patch}\n{text}"))),
        };
        let wanted = merged(&before, &patch);
        prop_assert_eq!(settings("a.yaml", &changed, &whose).unwrap(), wanted.clone(), "{}\n{}", text, changed);
        prop_assert!(changed.starts_with(&start) && changed.ends_with(&end), "{}\n{}", text, changed);
        if wanted == before {
            prop_assert_eq!(&changed, &text);
        }
        // Each line that is a comment stays, unless what it stands in is gone. What stands in a list may be gone with an entry of it.
        let lists = [("", "lines"), ("", "keys"), ("sip", "codecs")];
        let same = |(section, list): (&str, &str)| {
            let of = |all: &Value| if section.is_empty() { all[list].clone() } else { all[section][list].clone() };
            of(&wanted) == of(&before)
        };
        if lists.into_iter().all(same) {
            let stays = |section: &str| before.get(section).is_none_or(|_| wanted.get(section).is_some());
            let sections = ["sip", "vendor"].into_iter().all(stays)
                && before["vendor"].as_object().is_none_or(|all| all.keys().all(|name| wanted["vendor"].get(name).is_some()));
            // A section that changes its kind or is one line in braces is written anew.
            for note in text.lines().map(str::trim).filter(|line| line.starts_with('#')) {
                prop_assert!(!sections || changed.contains(note), "{} is gone\n{}\n{}\n{}", note, patch, text, changed);
            }
        }
    }
}
