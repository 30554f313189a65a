//! Passwords are in the devices' own files and nowhere else.

use std::{fmt::Write, fs, net::IpAddr};

use provost_plugin::{Secret, spec::FileKind};
use provost_server::{check::check, explain, settings::SettingsFile};

use crate::bench;

/// The passwords of the office that show in this text.
fn showing(text: &str) -> Vec<&str> {
    text.match_indices("password-").map(|(at, _)| &text[at..text.len().min(at + 24)]).collect()
}

#[test]
fn no_text_for_people_shows_a_password() {
    for (plugin, model) in bench::families() {
        let resolved = bench::office(plugin, model.as_deref());
        let passwords = bench::passwords(&resolved.phone);
        assert!(
            // The access code of a DECT base is four digits, which may stand anywhere.
            passwords.len() >= 9
                && passwords
                    .iter()
                    .all(|(at, password)| password.starts_with("password-") || at.ends_with("access_code")),
            "{passwords:?}"
        );
        for text in [
            format!("{resolved:?}"),
            format!("{:#?}", resolved.phone),
            serde_json::to_string(&resolved.phone).expect("plain data"),
            format!("{:?}", plugin.complaints(&resolved.phone)),
        ] {
            assert!(showing(&text).is_empty(), "{} {model:?} shows {:?}", plugin.id, showing(&text));
        }
    }
}

#[test]
fn files_that_many_phones_share_hold_no_password_and_the_devices_own_hold_the_lines() {
    for (plugin, model) in bench::families() {
        let phone = bench::office(plugin, model.as_deref()).phone;
        let mut own = String::new();
        for (file, name, phone) in bench::offered(plugin, &phone) {
            let body = plugin.render(file, &phone).unwrap_or_else(|error| panic!("{} {name}: {error}", plugin.id)).body;
            let text = String::from_utf8_lossy(&body);
            match plugin.spec.files[file].kind {
                FileKind::Device => own.push_str(&text),
                _ => assert!(showing(&text).is_empty(), "{} {name} shows {:?}", plugin.id, showing(&text)),
            }
        }
        if own.is_empty() && model.is_none() {
            // Its families read different formats: nobody knows which one this phone reads.
            continue;
        }
        assert!(own.contains("password-one"), "{} {model:?} is never told the password of its line", plugin.id);
    }
}

#[test]
fn an_error_does_not_show_the_password_that_it_is_about() {
    let mut refused = 0;
    for (plugin, model) in bench::families() {
        let phone = bench::office(plugin, model.as_deref()).phone;
        let mut broken = phone.clone();
        // No text format that we know can carry it.
        broken.settings.lines[0].password = Some(Secret::new("password-one\0"));
        for (file, name) in bench::own_files(plugin, &phone) {
            if let Err(error) = plugin.render(file, &broken) {
                let told = format!("{error} {error:?}");
                assert!(showing(&told).is_empty(), "{} {name}: {told}", plugin.id);
                refused += 1;
            }
        }
    }
    assert!(refused >= bench::shelf().plugins().count(), "only {refused} files were refused");
}

#[test]
fn explain_and_check_show_no_password_of_any_vendor() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut profile = String::from(
        "defaults:\n  sip: { server: pbx.example.net }\n  access: { admin: { password: password-admin }, lock_pin: password-pin }\n  \
         provisioning: { password: password-provisioning }\n  phonebook: { ldap: { server: l, password: password-ldap } }\ndevices:\n",
    );
    let mut asked = Vec::new();
    for (index, (plugin, model)) in bench::families().into_iter().enumerate() {
        let mac = provost_plugin::MacAddr::new([2, 0, 0x5e, 1, 0, index as u8]);
        let model = model.map(|model| format!(", model: \"{model}\"")).unwrap_or_default();
        // Every other one cannot be written, so that errors are among what is shown.
        let end = if index % 2 == 1 { "\\0" } else { "" };
        writeln!(
            profile,
            "  \"{mac}\": {{ identity: {{ vendor: {}{model} }}, lines: [{{ number: 101, password: \"password-one{end}\" }}] }}",
            plugin.id
        )
        .expect("text");
        asked.push(mac);
    }
    let profiles = data.path().join("profiles");
    fs::create_dir(&profiles)
        .and_then(|()| fs::write(profiles.join("all.yaml"), &profile))
        .expect("a temporary directory");
    let places = bench::places(data.path());
    let file = SettingsFile {
        data: Some(data.path().to_owned()),
        plugins: places.plugins,
        templates: Some(places.templates),
        ..SettingsFile::default()
    };
    let mut settings = file.settle(None).expect("settings");
    settings.libraries = places.libraries;
    let (world, findings) = check(settings, provost_host::Limits::default(), None);

    let mut shown = findings.iter().map(|finding| format!("{finding} {finding:?}\n")).collect::<String>();
    let failed = findings.iter().filter(|finding| finding.message.contains("cannot render")).count();
    assert!(failed >= asked.len() / 3, "only {failed} of {} devices are found to fail:\n{shown}", asked.len());
    let from = explain::From { local: IpAddr::from([192, 0, 2, 1]), ..Default::default() };
    for mac in &asked {
        let explanation = explain::mac(&world, *mac, &from);
        assert!(explanation.values.iter().any(|value| value.field == "lines.0.password"), "{explanation}");
        let paths: Vec<String> = explanation.files.iter().map(|(name, _)| name.clone()).collect();
        let of_paths = paths.iter().map(|path| explain::path(&world, path, &from));
        for explanation in [explanation].into_iter().chain(of_paths) {
            let json = serde_json::to_string(&explanation).expect("plain data");
            write!(shown, "{explanation} {explanation:?} {json}").expect("text");
        }
    }
    assert!(shown.contains("•••"), "nothing is masked: {shown}");
    assert!(showing(&shown).is_empty(), "shown: {:?}", showing(&shown));
}
