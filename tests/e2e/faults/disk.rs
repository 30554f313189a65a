//! Disks are full, or must not be written.

use std::process::Command;

use super::*;

/// Fills the disk that a directory is on, as the server sees it.
fn fill(site: &Site, directory: &str) -> std::path::PathBuf {
    let ballast = inside(site.server().pid(), &site.server().data().join(directory).join("ballast"));
    let mut file = fs::File::create(&ballast).unwrap();
    for size in [1 << 16, 1] {
        let zeros = vec![0; size];
        while file.write_all(&zeros).is_ok() {}
    }
    ballast
}

/// Takes what is in a directory of the server's own mount out of it, so that it is there after the power cut.
fn rescue(site: &Site, directory: &str) {
    let there = inside(site.server().pid(), &site.server().data().join(directory));
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(there.join(".")).arg(site.server().data().join(directory));
    tools::feed(&mut copy, b"").unwrap();
}

fn in_mounts_of(pid: u32, command: &str) {
    let mut nsenter = Command::new(tools::require("nsenter"));
    nsenter.args(["--target", &pid.to_string(), "--mount", "sh", "-c", command]);
    tools::feed(&mut nsenter, b"").unwrap();
}

#[test]
fn the_disk_of_the_state_is_full() {
    // With room for what the plugins' libraries take there, and a little more.
    let libraries: u64 = built().libraries.iter().map(|library| fs::metadata(library).unwrap().len() >> 20).sum();
    let size = libraries + 8;
    let mut site = Site::new(|plan| prepared(plan, &format!("mount -t tmpfs -o size={size}m tmpfs state")));
    assert_eq!(site.edit(), 204);
    site.boot(When::Before, &[]);
    let ballast = fill(&site, "state");
    let mark = site.server().mark();
    site.boot(When::During, &[]);
    let status = site.edit();
    site.server().wait_after(mark, "a complaint", |line| line.text.contains("cannot write the registry"));
    let complaints = site.complaints(mark);
    fs::remove_file(ballast).unwrap();
    site.boot(When::After, &[]);
    site.server().wait_after(mark, "the end of it", |line| line.is("message", "the registry is written again"));
    assert_eq!(site.edit(), 204);
    assert!((1..=4).contains(&complaints.len()), "{complaints:#?}");
    rescue(&site, "state");
    let lost = site.lost(|plan| plan.binary(&built().provost));
    let seen = format!("{} lines of complaint; an edit meanwhile: {status}", complaints.len());
    site.settle("disk full: state/", &seen, &lost);
}

#[test]
fn the_disk_of_the_profiles_is_full() {
    let script = "cp -a profiles seed\nmount -t tmpfs -o size=256k tmpfs profiles\ncp -a seed/. profiles/";
    let mut site = Site::new(|plan| prepared(plan, script));
    assert_eq!(site.edit(), 204);
    site.boot(When::Before, &[]);
    let ballast = fill(&site, "profiles");
    let mark = site.server().mark();
    site.boot(When::During, &[]);
    assert_eq!(site.edit(), 500, "not acknowledged");
    let complaints = site.complaints(mark);
    fs::remove_file(ballast).unwrap();
    assert_eq!(site.edit(), 204);
    site.boot(When::After, &[]);
    rescue(&site, "profiles");
    // Of what was refused nothing is left, whole or in part.
    let devices: Vec<_> = fs::read_dir(site.server().data().join("profiles/devices")).unwrap().flatten().collect();
    assert_eq!(devices.len(), 2, "{devices:?}");
    let lost = site.lost(|plan| plan.binary(&built().provost));
    let seen = format!("an edit meanwhile is refused; {} lines of complaint", complaints.len());
    site.settle("disk full: profiles/", &seen, &lost);
}

#[test]
fn the_profiles_are_read_only_while_it_runs() {
    let mut site = Site::new(|plan| prepared(plan, "mount --bind profiles profiles"));
    assert_eq!(site.edit(), 204);
    site.boot(When::Before, &[]);
    let profiles = site.server().data().join("profiles").display().to_string();
    let remount = |site: &Site, how: &str| {
        in_mounts_of(site.server().pid(), &format!("mount -o remount,bind,{how} '{profiles}'"))
    };
    remount(&site, "ro");
    site.boot(When::During, &[]);
    assert_eq!(site.edit(), 500, "not acknowledged");
    remount(&site, "rw");
    assert_eq!(site.edit(), 204);
    site.boot(When::After, &[]);
    let lost = site.lost(|plan| plan.binary(&built().provost));
    site.settle("read-only: profiles/", "an edit meanwhile is refused", &lost);
}

/// It cannot become so under a server that has its registry open; so it is so from the start.
#[test]
fn the_state_is_read_only_from_the_start() {
    let mut site = Site::new(|plan| plan);
    assert_eq!(site.edit(), 204);
    site.boot(When::Before, &[]);
    site.restart(|plan| prepared(plan, "mount --bind state state\nmount -o remount,bind,ro state"));
    let booted = site.booted.clone();
    site.boot(When::During, &[]);
    let complaints = site.complaints(0);
    assert!(complaints.iter().any(|line| line.contains("no door for people")), "{complaints:#?}");
    assert!(complaints.iter().any(|line| line.contains("will be forgotten at the next start")), "{complaints:#?}");
    // What phones were seen doing meanwhile is not kept, and the log has said so; what was before is.
    site.booted = booted;
    site.restart(|plan| plan.binary(&built().provost));
    assert_eq!(site.missing(), Vec::<String>::new());
    site.boot(When::After, &[]);
    assert_eq!(site.edit(), 204);
    let seen = format!(
        "{} lines of complaint: no door for people, and what phones do meanwhile is forgotten",
        complaints.len()
    );
    site.end("read-only: state/", &seen);
}
