//! Tries a plugin on sample phones before it takes service: what fails for every phone must not replace what works.

use std::sync::Arc;

use provost_plugin::{
    Announced, MacAddr, Phone, PluginError, Spec,
    model::{Book, Credentials, Entry, FunctionKey, Identity, KeyKind, Line, Number, NumberKind, Secret, Settings},
    offers,
    spec::{FileKind, Model},
    switches,
};

use crate::{
    Problem,
    service::{CallError, InService},
};

/// Renders every file for one model of each family, and asks for the URL. The first failure of each file is reported.
pub(crate) fn sample(plugin: &InService, shown: &str) -> Vec<Problem> {
    let spec = &plugin.spec;
    let mut problems = Vec::new();
    let mut families: Vec<(&str, &Model)> = Vec::new();
    for (name, model) in &spec.models {
        if !families.iter().any(|(_, seen)| seen.family == model.family) {
            families.push((name, model));
        }
    }
    let unknown = Model::default();
    if families.is_empty() {
        families.push(("sample", &unknown));
    }
    let mut failed = vec![false; spec.files.len()];
    for (name, model) in families {
        // A pattern is no designation; a plausible one is made of it.
        let name = name.replace('*', "0");
        let phone = phone(spec, &name, model);
        let identity = Identity {
            mac: phone.mac,
            vendor: spec.announces.first().cloned(),
            model: Some(name),
            firmware: Some("1.0".into()),
            ..Identity::default()
        };
        if let Err(error) = plugin.announce(&Announced { identity, base_url: phone.base_url.clone() }) {
            problems.push(Problem::new(shown, 0, format!("no URL can be made for a sample phone: {error}")));
            return problems;
        }
        for (index, file) in spec.files.iter().enumerate() {
            if failed[index] || !offers(file, &phone) {
                continue;
            }
            let impersonal =
                || Phone { mac: None, settings: Settings::default(), raw: Default::default(), ..phone.clone() };
            let phone = match file.kind {
                FileKind::Common => impersonal(),
                FileKind::Directory => Phone { book: Some(Arc::new(book())), ..impersonal() },
                _ => phone.clone(),
            };
            if let Err(error) = plugin.render(index, &phone) {
                failed[index] = true;
                let what = format!("file \"{}\" cannot be rendered for a sample phone", file.name);
                problems.push(match &error {
                    CallError::Plugin(PluginError::Template(failure)) => {
                        Problem::new(&failure.template, failure.line, format!("{}: {what}", failure.message))
                    }
                    _ => Problem::new(shown, 0, format!("{what}: {error}")),
                });
                // One deadline waited for is enough to know.
                if matches!(error, CallError::Overran(_)) {
                    return problems;
                }
            }
        }
    }
    problems
}

/// A phone with the least that a phone needs.
pub(crate) fn phone(spec: &Spec, name: &str, model: &Model) -> Phone {
    let line = Line {
        position: Some(1),
        enabled: Some(true),
        number: Some("100".into()),
        username: Some("100".into()),
        auth_username: Some("100".into()),
        password: Some(Secret::new("sample")),
        label: Some("100".into()),
        display_name: Some("Sample".into()),
        ..Line::default()
    };
    let key = FunctionKey {
        position: Some(1),
        kind: KeyKind::Line,
        value: None,
        label: None,
        line: Some(1),
        pickup: None,
        locked: None,
    };
    let mut settings = Settings { lines: vec![line], ..Settings::default() };
    settings.sip.server = Some("pbx.example.net".into());
    settings.lines[0].sip = settings.sip.clone();
    if spec.table("key_kind", model.family.as_deref()).is_none_or(|kinds| kinds.contains_key("line"))
        && model.keys != Some(0)
    {
        settings.keys.push(key);
    }
    settings.access.admin = Credentials { username: Some("admin".into()), password: Some(Secret::new("sample")) };
    settings.provisioning.url = Some("http://192.0.2.1:8080/".into());
    Phone {
        mac: Some(MacAddr::new([2, 0, 0, 0, 0, 1])),
        vendor: spec.id(),
        model: Some(name.to_owned()),
        firmware: Some("1.0".into()),
        base_url: "http://192.0.2.1:8080/".into(),
        capabilities: model.clone(),
        zone: None,
        raw: Default::default(),
        switches: switches(spec, &Default::default()),
        settings,
        ..Phone::default()
    }
}

/// Somebody of whom everything is known, and somebody of whom hardly anything is.
pub(crate) fn book() -> Book {
    let number = |kind, number: &str| Number { kind, number: number.into() };
    let full = Entry {
        name: "Sample Person".into(),
        first: Some("Sample".into()),
        last: Some("Person".into()),
        numbers: vec![
            number(NumberKind::Work, "100"),
            number(NumberKind::Mobile, "101"),
            number(NumberKind::Home, "102"),
        ],
        group: Some("Samples".into()),
        email: Some("sample@example.net".into()),
    };
    let bare = Entry { name: "Sample".into(), numbers: vec![number(NumberKind::Work, "103")], ..Entry::default() };
    Book { name: "sample".into(), title: "Sample".into(), entries: vec![full, bare] }
}
