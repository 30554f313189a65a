//! What stays in service while people edit.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use provost_fleet::{Asker, Fleet, Place, Problem};
use provost_plugin::{MacAddr, Spec, model::Identity};

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn label(fleet: &Fleet, mac: &str) -> Option<String> {
    fleet.device(mac.parse().unwrap()).and_then(|device| device.label()).map(str::to_owned)
}

fn errors(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.message.as_str()).collect()
}

const ONE: &str = "000413000001";
const TWO: &str = "000413000002";

#[test]
fn a_broken_file_keeps_its_last_good_version_until_it_is_mended() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "one.yaml", "devices: {000413000001: {label: a}}\n");
    write(root.path(), "two.yaml", "devices: {000413000002: {label: a}}\n");
    let (first, problems) = Fleet::read(root.path(), None);
    assert!(problems.is_empty());

    write(root.path(), "one.yaml", "devices: {000413000001: {lable: b}}\n");
    write(root.path(), "two.yaml", "devices: {000413000002: {label: b}}\n");
    let (second, problems) = Fleet::read(root.path(), Some(&first));
    assert_eq!(problems.len(), 1);
    assert_eq!((label(&second, ONE).as_deref(), label(&second, TWO).as_deref()), (Some("a"), Some("b")));
    assert_eq!(label(&first, TWO).as_deref(), Some("a"), "a snapshot never changes");

    let (third, again) = Fleet::read(root.path(), Some(&second));
    assert_eq!(again, problems, "it is reported until it is mended, though it is not parsed again");
    assert_eq!(label(&third, ONE).as_deref(), Some("a"));

    write(root.path(), "one.yaml", "devices: {000413000001: {label: c}}\n");
    let (fourth, problems) = Fleet::read(root.path(), Some(&third));
    assert!(problems.is_empty());
    assert_eq!(label(&fourth, ONE).as_deref(), Some("c"));

    fs::remove_file(root.path().join("one.yaml")).unwrap();
    let (fifth, problems) = Fleet::read(root.path(), Some(&fourth));
    assert!(problems.is_empty());
    assert_eq!(label(&fifth, ONE), None, "a deleted file is meant");
}

#[test]
fn modified_is_when_something_changed() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "one.yaml", "devices: {000413000001: {}}\n");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(root.path().join("one.yaml")).unwrap().set_modified(long_ago).unwrap();
    let (first, _) = Fleet::read(root.path(), None);
    assert_eq!(first.modified(), long_ago, "the same after every restart");
    write(root.path(), "one.yaml", "devices: {000413000001: {}}\n");
    let (second, _) = Fleet::read(root.path(), Some(&first));
    assert_eq!(second.modified(), long_ago, "touching is not changing");
    write(root.path(), "one.yaml", "devices: {}\n");
    let (third, _) = Fleet::read(root.path(), Some(&second));
    assert!(third.modified() > long_ago);
}

#[test]
fn a_change_concerns_the_devices_of_its_files_or_all() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "site.yaml", "profiles: {office: {}}\n");
    write(root.path(), "one.yaml", "devices: {000413000001: {label: a, profile: office}}\n");
    write(root.path(), "two.yaml", "devices: {000413000002: {}, 000413000003: {}}\n");
    let (mut before, _) = Fleet::read(root.path(), None);
    let mut concerned = |change: &dyn Fn(&Path)| {
        change(root.path());
        let (fleet, _) = Fleet::read(root.path(), Some(&before));
        let macs = fleet.changed_since(&before);
        before = fleet;
        macs.map(|macs| macs.into_iter().map(MacAddr::bare).collect::<Vec<_>>())
    };
    let some = |macs: &[&str]| Some(macs.iter().map(|mac| (*mac).to_owned()).collect::<Vec<_>>());
    assert_eq!(concerned(&|_| {}), some(&[]));
    assert_eq!(concerned(&|root| write(root, "one.yaml", "devices: {000413000001: {label: b}}\n")), some(&[ONE]));
    assert_eq!(
        concerned(&|root| write(root, "two.yaml", "devices: {000413000002: {}}\n")),
        some(&[TWO, "000413000003"]),
        "and those that are gone"
    );
    assert_eq!(concerned(&|root| write(root, "three.yaml", "devices: {000413000004: {}}\n")), some(&["000413000004"]));
    assert_eq!(concerned(&|root| write(root, "one.yaml", "devices: {000413000001: {lable: b}}\n")), some(&[]));
    assert_eq!(concerned(&|root| write(root, "site.yaml", "profiles: {office: {sip: {expires: 60}}}\n")), None);
    assert_eq!(concerned(&|root| fs::remove_file(root.join("site.yaml")).unwrap()), None);
}

#[test]
fn a_device_whose_references_break_keeps_its_version_and_a_new_one_is_refused() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "p.yaml", "profiles: {office: {}}\n");
    write(root.path(), "d.yaml", "devices: {000413000001: {label: a, profile: office}}\n");
    let (first, _) = Fleet::read(root.path(), None);
    write(
        root.path(),
        "d.yaml",
        "devices: {000413000001: {label: b, profile: offise}, 000413000002: {label: b, profile: offise}}\n",
    );
    let (second, problems) = Fleet::read(root.path(), Some(&first));
    assert_eq!(errors(&problems), ["unknown profile \"offise\", did you mean \"office\"?"; 2]);
    assert_eq!((label(&second, ONE).as_deref(), label(&second, TWO)), (Some("a"), None));

    write(root.path(), "p.yaml", "profiles: {}\n");
    let (third, _) = Fleet::read(root.path(), Some(&second));
    assert!(third.is_empty(), "half a configuration is worse than the one that the phone has");
}

#[test]
fn a_profile_that_breaks_keeps_its_version_and_its_devices() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "p.yaml", "profiles: {base: {}, office: {extends: base}}\n");
    write(root.path(), "d.yaml", "devices: {000413000001: {label: a, profile: office}}\n");
    let (first, _) = Fleet::read(root.path(), None);
    write(root.path(), "p.yaml", "profiles: {base: {extends: office}, office: {extends: base}}\n");
    let (second, problems) = Fleet::read(root.path(), Some(&first));
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert_eq!(second.len(), 1);
    let (fresh, problems) = Fleet::read(root.path(), None);
    assert!(fresh.is_empty());
    assert!(errors(&problems).contains(&"profile \"office\" was refused"), "{problems:#?}");
}

#[test]
fn a_device_pasted_into_a_second_file_stays_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "b.yaml", "devices: {000413000001: {label: b}}\n");
    let (first, _) = Fleet::read(root.path(), None);
    write(root.path(), "a.yaml", "devices: {000413000001: {label: a}}\n");
    let (second, problems) = Fleet::read(root.path(), Some(&first));
    assert_eq!(problems.len(), 1);
    assert_eq!(label(&second, ONE).as_deref(), Some("b"));
    fs::remove_file(root.path().join("b.yaml")).unwrap();
    let (third, problems) = Fleet::read(root.path(), Some(&second));
    assert!(problems.is_empty());
    assert_eq!(label(&third, ONE).as_deref(), Some("a"), "moved");
}

#[test]
fn a_directory_that_goes_away_does_not_empty_the_fleet() {
    let root = tempfile::tempdir().unwrap();
    let profiles = root.path().join("profiles");
    write(&profiles, "one.yaml", "devices: {000413000001: {label: a}}\n");
    let (first, _) = Fleet::read(&profiles, None);
    fs::rename(&profiles, root.path().join("away")).unwrap();
    let (second, problems) = Fleet::read(&profiles, Some(&first));
    assert_eq!((problems.len(), second.len()), (1, 1));
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_circles_are_not() {
    let root = tempfile::tempdir().unwrap();
    // The way a ConfigMap is laid out.
    write(root.path(), "profiles/..2026/one.yaml", "devices: {000413000001: {label: a}}\n");
    let profiles = root.path().join("profiles");
    std::os::unix::fs::symlink("..2026", profiles.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/one.yaml", profiles.join("one.yaml")).unwrap();
    std::os::unix::fs::symlink(".", profiles.join("round")).unwrap();
    let (fleet, problems) = Fleet::read(&profiles, None);
    assert!(problems.is_empty(), "{problems:#?}");
    assert_eq!(label(&fleet, ONE).as_deref(), Some("a"));
    // A link that leads nowhere is a fault, not a file that was deleted.
    fs::remove_file(profiles.join("..2026/one.yaml")).unwrap();
    let (fleet, problems) = Fleet::read(&profiles, Some(&fleet));
    assert_eq!((problems.len(), fleet.len()), (1, 1));
}

#[test]
fn a_large_inventory_loads_and_every_phone_of_it_resolves() {
    const PHONES: u32 = 5_000;
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        "profiles.yaml",
        "defaults: {sip: {server: pbx.example.net}}\nprofiles: {office: {keys: [{kind: dnd}]}}\n",
    );
    let mut text = "devices:\n".to_owned();
    for number in 0..PHONES {
        text += &format!(
            "  0004{number:08x}:\n    profile: office\n    lines: [{{number: {number}, password: 00{number}}}]\n"
        );
    }
    write(root.path(), "devices.yaml", &text);
    let (fleet, problems) = Fleet::read(root.path(), None);
    assert!(problems.is_empty(), "{problems:#?}");
    assert_eq!(fleet.len(), PHONES as usize);
    let spec = Spec::read("{vendor: Acme, files: [], formats: {}, announce: {url: '{base}'}}").unwrap();
    for (index, (mac, _)) in fleet.devices().enumerate() {
        let asker = Asker { mac, identity: Identity::default(), place: Place::default() };
        let phone = fleet.resolve(&asker, &spec).unwrap().phone;
        assert_eq!(phone.settings.lines[0].password.as_ref().unwrap().expose(), format!("00{index}"));
    }
    let last: MacAddr = format!("0004{:08x}", PHONES - 1).parse().unwrap();
    assert_eq!(fleet.device(last).unwrap().line(), 2 + 3 * (PHONES - 1));
}
