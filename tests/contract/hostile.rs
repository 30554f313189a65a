//! Values that break files: they come back out as they went in, or the file is refused and the field is named.
//!
//! A value is put where a marker was. Then the file must differ from the one with the marker in nothing but the value: the same settings
//! in the same order, and in each that held the marker, the value. So no test here knows what any vendor calls its settings.

use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use provost_host::InService;
use provost_plugin::{
    Phone, Secret,
    model::{FunctionKey, Line},
};

use crate::{
    bench,
    readers::{Settings, Shape},
};

const MARKER: &str = "Marker0815";

struct Field {
    name: &'static str,
    put: fn(&mut Phone, String),
    /// What an error must name: the field, or what the library makes of it for its template.
    named: &'static [&'static str],
    /// The value may be worded anew (a number becomes an address at the line's host, and an address stays one), but not be cut.
    worded: bool,
}

const FIELDS: &[Field] = &[
    Field {
        name: "password",
        put: |phone, value| line(phone).password = Some(Secret::new(value)),
        named: &["password"],
        worded: false,
    },
    Field {
        name: "display name",
        put: |phone, value| line(phone).display_name = Some(value),
        named: &["display_name"],
        worded: false,
    },
    Field { name: "label", put: |phone, value| line(phone).label = Some(value), named: &["label"], worded: false },
    Field {
        name: "user for authentication",
        put: |phone, value| line(phone).auth_username = Some(value),
        named: &["auth_username"],
        worded: false,
    },
    Field {
        name: "speed dial",
        put: |phone, value| key(phone, 1).value = Some(value),
        named: &["value", "text"],
        worded: true,
    },
    Field {
        name: "watched number",
        put: |phone, value| key(phone, 2).value = Some(value),
        named: &["value", "text"],
        worded: true,
    },
    Field {
        name: "label of a key",
        put: |phone, value| key(phone, 1).label = Some(value),
        named: &["label"],
        worded: false,
    },
    Field {
        name: "web password",
        put: |phone, value| phone.settings.access.admin.password = Some(Secret::new(value)),
        named: &["password"],
        worded: false,
    },
    Field {
        name: "provisioning password",
        put: |phone, value| phone.settings.provisioning.password = Some(Secret::new(value)),
        named: &["password"],
        worded: false,
    },
    Field {
        name: "LDAP password",
        put: |phone, value| phone.settings.phonebook.ldap.password = Some(Secret::new(value)),
        named: &["password"],
        worded: false,
    },
    Field {
        name: "phonebook's name",
        put: |phone, value| phone.settings.phonebook.remote[0].name = Some(value),
        named: &["name"],
        worded: false,
    },
];

fn line(phone: &mut Phone) -> &mut Line {
    &mut phone.settings.lines[0]
}

fn key(phone: &mut Phone, index: usize) -> &mut FunctionKey {
    &mut phone.settings.keys[index]
}

/// Each has broken somebody's file.
const VALUES: &[&str] = &[
    "s3<&>\"';#=%\\",
    "]]></config><P2>owned</P2><!--",
    "&amp;&#10;&x;",
    "one\nstatic.security.user_password = admin:owned",
    "one\r\nPHONE_NUMBER_1=\"911",
    "nul\0nul",
    " blanks at both ends ",
    "\ttab",
    "{{ phone.lines[0].password }}{% raw %}",
    "Zoë Ωmega 電話 🙂 e\u{301}",
    "line\u{2028}separator\u{85}next",
    "\u{fdd0}\u{fffe}",
    "\u{feff}\u{202e}right to left",
    "# comment",
    "%00%0a+%26",
    "$MAC {mac} ${IFS} `id`",
    "sip:200@example.net|**",
    "none",
    "\"",
    "\\",
];

/// Whether a file of this shape has no way to carry this value, so that refusing it is right. Anything else must get through.
fn may_refuse(shape: Shape, value: &str) -> bool {
    // The binary file is made of the XML.
    let is_xml = matches!(shape, Shape::Xml | Shape::Binary);
    let control = |character: char| character.is_control() && !(is_xml && matches!(character, '\t' | '\n' | '\r'));
    let nowhere = |character: char| matches!(character, '\u{fdd0}' | '\u{fffe}' | '\u{ffff}');
    value.chars().any(|character| control(character) || nowhere(character))
        || match shape {
            // Those are put into quotes where they would be misread without.
            Shape::Colons if value.contains('"') => true,
            Shape::Lines | Shape::Colons | Shape::Modules => {
                value != value.trim() || value.contains(['\u{2028}', '\u{2029}'])
            }
            Shape::Quoted => value.contains(['"', '\u{2028}', '\u{2029}']),
            Shape::Xml | Shape::Binary => false,
        }
}

/// Puts the value into the field of this phone and compares all of its own files. How many of them hold the field.
fn hold(plugin: &InService, phone: &Phone, field: &Field, value: &str) -> Result<usize, String> {
    let with = |value: &str| {
        let mut phone = phone.clone();
        (field.put)(&mut phone, value.to_owned());
        phone
    };
    let (marked, tried) = (with(MARKER), with(value));
    let mut holding = 0;
    for (file, name) in bench::own_files(plugin, phone) {
        let at = format!("{} {} {name}, {}", plugin.id, phone.model.as_deref().unwrap_or("?"), field.name);
        let before = plugin.render(file, &marked).map_err(|error| format!("{at}: {error}"))?;
        let shape = Shape::of(&before.body);
        let before = shape.read(&before.body).map_err(|error| format!("{at}: {error}"))?;
        let holds = before.iter().any(|(_, text)| text.contains(MARKER));
        holding += usize::from(holds);
        let after = match plugin.render(file, &tried) {
            Ok(after) => after,
            Err(error) => {
                let error = error.to_string();
                // A value may be put into a notation inside the format, whose own characters it cannot hold: then the template says so.
                let on_purpose = error.contains("refuse(");
                if !may_refuse(shape, value) && !on_purpose {
                    return Err(format!("{at}: a value that the format can carry is refused: {error}"));
                }
                // A value that could stand in any message proves nothing.
                if value.chars().count() > 3 && error.contains(value) {
                    return Err(format!("{at}: the error shows the value: {error}"));
                }
                if !field.named.iter().any(|name| error.contains(name)) {
                    return Err(format!("{at}: the error does not name the field: {error}"));
                }
                continue;
            }
        };
        let after = shape.read(&after.body).map_err(|error| format!("{at}: {error}"))?;
        let names = |settings: &Settings| settings.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        if names(&before) != names(&after) {
            return Err(format!("{at}: other settings than before"));
        }
        for ((name, before), (_, after)) in before.iter().zip(&after) {
            let is_held = match before.contains(MARKER) {
                false => before == after,
                true if field.worded => after.contains(value),
                // Where the phone itself puts something in the place of names that begin with a dollar, it reads two as one.
                true => [value, &value.replace('$', "$$")].iter().any(|value| *after == before.replace(MARKER, value)),
            };
            if !is_held {
                return Err(format!("{at}: {name} was {before:?} and is {after:?}"));
            }
        }
    }
    Ok(holding)
}

#[test]
fn known_bad_values_stay_inside_every_field_of_every_family() {
    let long = format!("{}<&\"'%\\", "long".repeat(2500));
    let mut failures = Vec::new();
    for (plugin, model) in bench::families() {
        let phone = bench::office(plugin, model.as_deref()).phone;
        for field in FIELDS {
            for value in VALUES.iter().copied().chain([long.as_str()]) {
                if let Err(failure) = hold(plugin, &phone, field, value) {
                    failures.push(format!("{value:.60?}: {failure:.600}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_vendor_holds_the_fields_that_the_values_are_tried_in() {
    for plugin in bench::shelf().plugins() {
        let held = |field: &Field| {
            bench::families().iter().filter(|(other, _)| other.id == plugin.id).any(|(_, model)| {
                let phone = bench::office(plugin, model.as_deref()).phone;
                hold(plugin, &phone, field, "other").is_ok_and(|holding| holding > 0)
            })
        };
        for field in &FIELDS[..2] {
            assert!(held(field), "no file of {} holds the {}", plugin.id, field.name);
        }
    }
    for field in FIELDS {
        let holding = bench::families().iter().any(|(plugin, model)| {
            let phone = bench::office(plugin, model.as_deref()).phone;
            hold(plugin, &phone, field, "other").is_ok_and(|holding| holding > 0)
        });
        assert!(holding, "no file of any vendor holds the {}", field.name);
    }
}

#[test]
fn random_values_stay_inside_their_field() {
    let families: Vec<_> = bench::families()
        .into_iter()
        .map(|(plugin, model)| (plugin, bench::office(plugin, model.as_deref()).phone))
        .collect();
    let piece = prop_oneof![
        3 => select(VALUES).prop_map(str::to_owned),
        3 => "[<&>\"';#=%\\\\|,:@{}()$ \\[\\]/?+*-]{1,4}",
        2 => any::<char>().prop_map(String::from),
        1 => select(vec!["\n", "\r", "\0", " ", "\t", "\u{a0}", "]]>", "-->", "&#x0;", "=\"", "//"]).prop_map(str::to_owned),
        4 => "[A-Za-z0-9]{1,8}",
    ];
    let values = prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat());
    let cases = (0..families.len(), 0..FIELDS.len(), values);
    // The same values each time, so that a failure is there for whoever looks next.
    let config = Config { cases: 1500, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&cases, |(family, field, value)| {
        let (plugin, phone) = &families[family];
        hold(plugin, phone, &FIELDS[field], &value).map(drop).map_err(TestCaseError::fail)
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
