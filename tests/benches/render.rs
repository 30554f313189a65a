//! A phone's own file, in this process and on one core: what there is to do for it, step by step.
//!
//! The peer is Jinja2, in a process of its own, with one template (`plain/`) that both engines understand and the same thousand phones; both must
//! come to the same bytes. Jinja2 has its phones as dictionaries beforehand; with us the step from our types to the engine's is timed too.

use std::{fs, process::Command, sync::Arc, time::Instant};

use provost_host::{Limits, Places, Shelf};
use provost_plugin::{Phone, Secret};
use provost_server::world;
use provost_tests::{repository, tools};
use sha2::{Digest, Sha256};

use crate::{
    Scale,
    figures::{Better, Figures},
    peers,
    site::Site,
};

pub(crate) fn measure(site: &Site, scale: Scale, figures: &mut Figures) {
    let world = site.world();
    let asked: Vec<_> = site
        .phones
        .iter()
        .zip(site.names(&world))
        .map(|(phone, name)| (site.peer(phone.mac, site.sources[0]), name))
        .collect();
    let located: Vec<_> = asked.iter().map(|(peer, name)| world.locate(name, peer).expect("it is offered")).collect();
    let each = |step: &dyn Fn(usize)| -> Vec<f64> {
        let pass = || {
            let begun = Instant::now();
            (0..located.len()).for_each(step);
            begun.elapsed().as_secs_f64() * 1e6 / located.len() as f64
        };
        pass();
        (0..scale.repetitions).map(|_| pass()).collect()
    };
    let modified = std::time::SystemTime::UNIX_EPOCH;
    let mut add =
        |what: &str, values| figures.add(format!("Render, in process: {what}"), "µs/file", Better::Less, values, None);
    add(
        "whose file it is, settings, text, digest",
        each(&|index| {
            let (peer, name) = &asked[index];
            let located = world.locate(name, peer).expect("it is offered");
            drop(world::render(&located, modified).expect("it can be rendered"));
        }),
    );
    add(
        "of that, whose file it is and its settings",
        each(&|index| {
            let (peer, name) = &asked[index];
            drop(world.locate(name, peer).expect("it is offered"));
        }),
    );
    add(
        "of that, the settings",
        each(&|index| {
            drop(world.resolve(site.phones[index].mac, &located[index].plugin, &asked[index].0).expect("it is known"))
        }),
    );
    // What every call into a library costs twice over, since requests and answers cross as JSON.
    let texts: Vec<_> = located.iter().map(|located| to_json(&located.resolved.phone)).collect();
    let mean = texts.iter().map(Vec::len).sum::<usize>() / texts.len();
    let what = format!("a phone written as JSON ({mean} bytes)");
    add(&what, each(&|index| drop(to_json(&located[index].resolved.phone))));
    let read = |index: usize| drop(serde_json::from_slice::<Phone>(&texts[index]).expect("it was written so"));
    add("a phone read from JSON", each(&read));
    for plugin in world.shelf.plugins() {
        let own: Vec<_> = located.iter().filter(|located| located.plugin.id == plugin.id).collect();
        if own.is_empty() {
            continue;
        }
        let pass = || {
            let begun = Instant::now();
            let bytes: usize = own
                .iter()
                .map(|located| {
                    plugin.render(located.file, &located.resolved.phone).expect("it can be rendered").body.len()
                })
                .sum();
            (begun.elapsed().as_secs_f64() * 1e6 / own.len() as f64, bytes / own.len())
        };
        let (_, bytes) = pass();
        let how = if plugin.is_library() { "library" } else { "data" };
        let what = format!("text by the plugin for {} ({how}, {bytes} bytes)", plugin.spec.vendor);
        add(&what, (0..scale.repetitions).map(|_| pass().0).collect());
    }
    plain(site, located.iter().map(|located| &located.resolved.phone), scale, figures);
}

fn to_json(phone: &Phone) -> Vec<u8> {
    Secret::exposed(|| serde_json::to_vec(phone)).expect("a phone is plain data")
}

/// One plain template, rendered by both engines.
fn plain<'a>(site: &Site, phones: impl Iterator<Item = &'a Phone>, scale: Scale, figures: &mut Figures) {
    let phones: Vec<&Phone> = phones.collect();
    let folder = repository().join("tests/benches/plain");
    let plugins = site.work("plain-plugins");
    fs::create_dir_all(&plugins).expect("a temporary directory takes more");
    std::os::unix::fs::symlink(&folder, plugins.join("plain")).expect("a temporary directory takes more");
    let places = Places { plugins: vec![plugins], staged: site.work("staged"), ..Places::default() };
    let (shelf, problems) = Shelf::build(&places, None, Limits::default(), None);
    assert!(problems.is_empty(), "{problems:#?}");
    let plugin = Arc::clone(shelf.get("plain").expect("it is in service"));
    let mut digest = String::new();
    let mut bytes = 0;
    let mut pass = || {
        let begun = Instant::now();
        let bodies: Vec<_> =
            phones.iter().map(|phone| plugin.render(0, phone).expect("it can be rendered").body).collect();
        let spent = begun.elapsed().as_secs_f64() * 1e6 / phones.len() as f64;
        let whole: Vec<u8> = bodies.concat();
        bytes = whole.len() / phones.len();
        digest = Sha256::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect();
        spent
    };
    pass();
    let ours: Vec<f64> = (0..scale.repetitions).map(|_| pass()).collect();

    let theirs = peers::python("jinja2", "python3-jinja2", figures).map(|(python, _)| {
        let json: Vec<_> = phones.iter().map(|phone| phone.to_json()).collect();
        fs::write(site.work("phones.json"), serde_json::to_vec(&json).expect("phones are plain data"))
            .expect("there is room");
        let mut command = Command::new(python);
        command.arg(peers::file("render.py")).arg(folder.join("templates/phone.xml.j2")).arg(site.work("phones.json"));
        command.arg(scale.repetitions.to_string());
        let output = tools::feed(&mut command, b"").unwrap_or_else(|error| panic!("{error}"));
        let said: serde_json::Value = serde_json::from_slice(&output).expect("the script prints JSON");
        assert_eq!(said["digest"], digest.as_str(), "the two engines made different files of the same template");
        let seconds = said["seconds"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_f64);
        seconds.map(|seconds| seconds * 1e6 / phones.len() as f64).collect::<Vec<f64>>()
    });
    let what = format!("Render, one plain template, {bytes} bytes");
    figures.add(what, "µs/file", Better::Less, ours, theirs.map(|theirs| ("Jinja2", theirs)));
}
