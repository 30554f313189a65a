//! The torture messages of RFC 4475 at the running program: what the table of tests/fixtures/torture says of each is held, and when all
//! of them have been sent a phone is answered as ever.

use std::{fs, net::SocketAddrV4, time::Duration};

use provost_plugin::MacAddr;
use provost_tests::{Lan, Plan, repository};

use crate::wire::{Captured, GROUP, Handset, notified, subscribe};

/// Of the phone in whose name the fixtures speak.
const MAC: MacAddr = MacAddr::new([0x80, 0x5e, 0xc0, 0x44, 0x75, 0x00]);
const REPLIES: u16 = 5070;

#[test]
fn each_of_them_is_answered_or_not_as_the_table_says_and_then_a_phone_is() {
    let folder = repository().join("tests/fixtures/torture");
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    let rows: Vec<(&str, &str)> =
        readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | ")).collect();
    assert_eq!(rows.len(), 49);
    let lan = Lan::new(1);
    let captured = Captured::one("02");
    let device = |mac: MacAddr| format!("  \"{mac}\": {{ lines: [{{ number: 100, password: secret-100 }}] }}\n");
    let inventory = format!("devices:\n{}{}", device(MAC), device(captured.mac));
    let server = Plan::on(lan.server())
        .file("profiles/site.yaml", inventory)
        .file("provost.yaml", format!("pnp: {{ reply_port: {REPLIES} }}\n"))
        .start()
        .ready();
    let phone = lan.phone(0);
    let replies = SocketAddrV4::new(lan.server().address(), REPLIES);
    let mut wrong = Vec::new();
    for (name, rest) in rows {
        let of_a_phone = rest.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let bytes = |folder: &std::path::Path| fs::read(folder.join(format!("{name}.sip"))).unwrap();
        let message = bytes(&folder.join("subscribe"));
        let handset = Handset::at(phone, phone.address(), 0);
        // The message itself, to the group and to where answers are awaited.
        for to in [GROUP, replies] {
            handset.send(&bytes(&folder), to);
        }
        if message.starts_with(b"SIP/") {
            handset.send(&message, replies);
        }
        handset.send(&message, GROUP);
        // It is decided one after the other: when this one is answered, so was what came before.
        let guide = Handset::at(phone, phone.address(), 0);
        guide.subscribe(&subscribe(&captured, &guide));
        let (_, notify, from) = guide.hear_both();
        guide.accept(&notify, from);
        let expects_answer = of_a_phone.starts_with("answered");
        let mut heard = Vec::new();
        let patience = |heard: usize| Duration::from_millis(if expects_answer && heard < 2 { 3000 } else { 1 });
        while let Some((message, from)) = handset.hear_within(patience(heard.len())) {
            if message.is_notify() {
                handset.accept(&message, from);
            }
            heard.push(message);
        }
        let notifies = heard.iter().filter(|message| message.is_notify()).count();
        if (heard.len(), notifies) != if expects_answer { (2, 1) } else { (0, 0) } {
            wrong.push(format!("{name} ({of_a_phone}): {heard:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let handset = Handset::at(phone, phone.address(), 0);
    handset.boot(&subscribe(&captured, &handset));
    notified(&server, &handset, "notified");
}
