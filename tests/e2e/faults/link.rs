//! The network loses, repeats and shuffles, and interfaces go and come.

use std::{net::Ipv4Addr, process::Stdio};

use provost_tests::{Lan, Seat};

use super::*;

#[test]
fn packets_are_lost_and_come_twice() {
    let mut site = Site::new(|plan| plan);
    site.boot(When::Before, &[]);
    site.lan.drop_packets(20);
    site.lan.duplicate_packets(30);
    // Kinds that announce once in a boot are often not heard at all, and then boot again.
    site.boot(When::During, &["--boots", "8"]);
    assert_eq!(site.edit(), 204);
    site.lan.heal();
    site.boot(When::After, &[]);
    let seen = format!("the slowest phone took {:.1} s", site.slowest);
    site.end("20 % of datagrams lost, 30 % doubled", &seen);
}

#[test]
fn packets_overtake_each_other() {
    let mut site = Site::new(|plan| plan);
    site.boot(When::Before, &[]);
    let reordering = site.lan.reorder_packets(PHONES);
    site.boot(When::During, &["--boots", "5"]);
    // Over TFTP, where a block that is late meets its own repetition.
    site.boot(When::During, &["--boots", "5", "--door", "tftp"]);
    assert_eq!(site.edit(), 204);
    let overtaken = site.lan.straighten(PHONES, reordering);
    assert!(overtaken > 10, "only {overtaken} frames were overtaken");
    site.boot(When::After, &[]);
    let seen = format!("{overtaken} frames overtaken; over HTTP and TFTP");
    site.end("30 % of frames late by up to 20 ms", &seen);
}

/// Plays a lot of phones while `trouble` is made.
fn meanwhile(site: &mut Site, flags: &[&str], trouble: impl FnOnce(&mut Site)) -> Tally {
    let mut command = site.simulate(When::During, flags);
    let phones = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    trouble(site);
    let report = phones.wait_with_output().unwrap();
    site.count(When::During, &report)
}

fn joined(site: &Site, mark: usize, what: &str) {
    site.server().wait_after(mark, what, |line| line.is("message", &format!("{what} the group")));
}

#[test]
fn an_interface_flaps_and_loses_its_address_and_is_deleted() {
    let mut site = Site::on(Lan::new(2), |plan| plan);
    site.boot(When::Before, &[]);
    meanwhile(&mut site, &["--boots", "10"], |site| {
        for _ in 0..5 {
            let mark = site.server().mark();
            site.lan.server().set_up("eth0", false);
            joined(site, mark, "left");
            let mark = site.server().mark();
            site.lan.server().set_up("eth0", true);
            joined(site, mark, "joined");
        }
        let was = site.lan.server().address();
        site.lan.server_mut().readdress("eth0", Ipv4Addr::new(10, 200, 77, 77));
        site.server().wait_for("the new address", |line| {
            line.is("message", "TFTP serves") && line.is("address", "10.200.77.77:69")
        });
        let mark = site.server().mark();
        site.lan.server_mut().readdress("eth0", was);
        let back = format!("{was}:69");
        site.server()
            .wait_after(mark, "the old address", |line| line.is("message", "TFTP serves") && line.is("address", &back));
        assert_eq!(site.edit(), 204);
        let mark = site.server().mark();
        site.lan.unplug(Seat::Server, "eth0");
        joined(site, mark, "left");
        let mark = site.server().mark();
        site.lan.plug(Seat::Server, 0);
        joined(site, mark, "joined");
    });
    site.boot(When::After, &[]);
    let seen =
        format!("down and up 5 times, another address and back, deleted and made anew: {:.1} s at most", site.slowest);
    site.end("interfaces flap", &seen);
}
