//! The answers of a library that means ill, as far as bytes go: a library can do what the server can, and the table guards against mistakes.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::{Arc, OnceLock},
};

use provost_host::{InService, Limits, Places, Shelf};
use provost_plugin::{Announced, MacAddr, Phone, model::Identity};
use provost_tests::repository;

use crate::scratch::Scratch;

struct Hostile {
    plugin: Arc<InService>,
    /// Where it finds what to answer.
    answer: PathBuf,
    _data: Scratch,
}

pub fn abi(input: &[u8]) {
    let Some((call, answer)) = input.split_first() else { return };
    let hostile = hostile();
    fs::write(&hostile.answer, answer).expect("a file in a temporary directory");
    let phone = Phone { mac: Some(MacAddr::new([2, 0, 0x5e, 0, 0, 1])), ..Phone::default() };
    match call % 3 {
        0 => {
            let announced = Announced { identity: Identity::default(), base_url: "http://192.0.2.1:8080/".into() };
            let _ = hostile.plugin.announce(&announced).map_err(|error| error.to_string());
        }
        1 => drop(hostile.plugin.render(0, &phone).map_err(|error| error.to_string())),
        _ => drop(hostile.plugin.complaints(&phone).map_err(|error| error.to_string())),
    }
}

fn hostile() -> &'static Hostile {
    static HOSTILE: OnceLock<Hostile> = OnceLock::new();
    HOSTILE.get_or_init(|| {
        let data = Scratch::new();
        let (plugin, templates) = (data.path.join("plugins/hostile"), data.path.join("templates/hostile"));
        fs::create_dir_all(&plugin).expect("a directory");
        fs::create_dir_all(&templates).expect("a directory");
        let answer = data.path.join("answer");
        fs::write(&answer, "").expect("a file");
        fs::write(templates.join("own.cfg.j2"), "{{ phone.mac }} {% if said is defined %}{{ said }}{% endif %}\n").expect("a file");
        let source = repository().join("tests/fuzz/hostile.c");
        let compiled = Command::new("gcc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-I"])
            .arg(repository().join("plugins/sdk"))
            .arg(format!("-DANSWER=\"{}\"", answer.display()))
            .arg("-o")
            .arg(plugin.join("libhostile.so"))
            .arg(&source)
            .status()
            .unwrap_or_else(|error| panic!("cannot start gcc: {error}"));
        assert!(compiled.success(), "{} does not compile", source.display());
        let yaml = "vendor: Hostile\nlibrary: hostile\nannounces: [hostile]\nannounce: { url: '{base}{mac}.cfg' }\n\
            files: [{ name: '{mac}.cfg', template: own.cfg.j2 }]\nformats: { cfg: { escape: line, content_type: text/plain } }\n";
        fs::write(plugin.join("vendor.yaml"), yaml).expect("a file");
        let places = Places {
            plugins: vec![data.path.join("plugins")],
            templates: data.path.join("templates"),
            overrides: data.path.join("overrides"),
            staged: data.path.join("staged"),
            ..Places::default()
        };
        let (shelf, problems) = Shelf::build(&places, None, Limits::default(), None);
        let plugin = shelf.get("hostile").unwrap_or_else(|| panic!("{problems:?}"));
        Hostile { plugin: Arc::clone(plugin), answer, _data: data }
    })
}
