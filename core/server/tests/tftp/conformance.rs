//! One row for each thing that clients rely on, asked of both engines over sockets.
//!
//! What the own engine should do stands beside each row and is asserted, with a port per transfer and without; what the portable one does
//! is shown. The table is kept in TARGET/tftp-conformance.md.

use std::{env, fmt::Write, fs, path::Path, time::Duration};

use provost_server::tftp::{TftpEngine, TftpLimits};

use crate::kit::{Packet, Phone, Served, TEXT, TEXT_ON_THE_WIRE, served_from};

/// The first wait for an acknowledgement.
const WAIT: Duration = Duration::from_millis(100);
/// After which a packet does not come any more: longer than the longest wait between two sends.
const LONG: Duration = Duration::from_millis(600);

struct Row {
    what: &'static str,
    /// What the own engine does.
    expected: &'static str,
    ask: fn(&Served) -> String,
}

const fn row(what: &'static str, expected: &'static str, ask: fn(&Served) -> String) -> Row {
    Row { what, expected, ask }
}

const ROWS: &[Row] = &[
    // Clients of others.
    row("curl: a file, with its options", "whole", |door| whole(&door.curl("asset-a", &[]).unwrap())),
    row("curl: a file, blksize 8192", "whole", |door| {
        whole(&door.curl("asset-a", &["--tftp-blksize", "8192"]).unwrap())
    }),
    row("curl: a file, without options", "whole", |door| whole(&door.curl("asset-a", &["--tftp-no-options"]).unwrap())),
    row("curl: an empty file", "[]", |door| format!("{:?}", door.curl("empty.cfg", &[]).unwrap())),
    row("curl: a file that is not there", "Err(68)", |door| format!("{:?}", door.curl("missing.cfg", &[]))),
    row("atftp: a file, all options", "whole", |door| {
        whole(&door.atftp("asset-a", &["blksize 1024", "tsize", "timeout 2", "windowsize 8"]))
    }),
    row("atftp: a file, without options", "whole", |door| whole(&door.atftp("asset-a", &[]))),
    row("atftp: netascii", "as stored", |door| as_stored(&door.atftp("phone.cfg", &["mode netascii"]))),
    row("tftp-hpa: a file", "whole", |door| whole(&door.tftp_hpa("asset-a", "octet").unwrap())),
    row("tftp-hpa: netascii", "as stored", |door| as_stored(&door.tftp_hpa("phone.cfg", "netascii").unwrap())),
    row("tftp-hpa: a file that is not there", "Error code 1: nothing is called \"missing.cfg\" here", |door| {
        door.tftp_hpa("missing.cfg", "octet").unwrap_err()
    }),
    // Options.
    row("all options asked for", "OACK blksize=1428 timeout=5 tsize=1024 windowsize=16", |door| {
        ask(door, &["1024.cfg", "octet", "tsize", "0", "blksize", "9000", "timeout", "5", "windowsize", "99"])
    }),
    row("options in capitals", "OACK blksize=1024", |door| ask(door, &["1024.cfg", "OCTET", "BLKSIZE", "1024"])),
    row("options that make no sense", "DATA 1, 512 bytes", |door| {
        ask(door, &["1024.cfg", "octet", "blksize", "7", "timeout", "0", "windowsize", "-1", "multicast", ""])
    }),
    row("a timeout of 255 s", "DATA 1, 512 bytes", |door| ask(door, &["1024.cfg", "octet", "timeout", "255"])),
    row("the size of an empty file", "DATA 1, 0 bytes", |door| ask(door, &["empty.cfg", "octet", "tsize", "0"])),
    row("netascii with options", "OACK blksize=1024", |door| {
        ask(door, &["phone.cfg", "netascii", "tsize", "0", "blksize", "1024"])
    }),
    row("an option that is not a text", "DATA 1, 512 bytes", |door| {
        send(door, b"\0\x01asset-a\0octet\0blksize\0\xff\0")
    }),
    row("a mode without its NUL", "nothing", |door| send(door, b"\0\x01asset-a\0octet")),
    // What is not served.
    row("a file that is not there", "ERROR 1", |door| ask(door, &["missing.cfg", "octet"])),
    row("a file that is refused", "ERROR 2", |door| ask(door, &["refused.cfg", "octet"])),
    row("a name that is not UTF-8", "ERROR 1", |door| send(door, b"\0\x01\xff\xfe\0octet\0")),
    row("a mode that nobody knows", "ERROR 4", |door| ask(door, &["phone.cfg", "binary"])),
    row("mail", "ERROR 4", |door| ask(door, &["phone.cfg", "mail"])),
    row("a write request", "ERROR 4", |door| send(door, b"\0\x02phone.cfg\0octet\0")),
    row("an acknowledgement out of the blue", "ERROR 5", |door| send(door, b"\0\x04\0\x01")),
    row("an ERROR out of the blue", "nothing", |door| send(door, b"\0\x05\0\x01\0")),
    // The course of a transfer.
    row("sends to who acknowledges nothing at all", "3", |door| {
        let mut phone = door.phone();
        phone.ask(&["1024.cfg", "octet"]);
        let mut sends = 1;
        while phone.hear_within(LONG).is_some() {
            sends += 1;
        }
        sends.to_string()
    }),
    row("sends of a block that is not acknowledged as the one before", "5", |door| {
        let mut phone = door.phone();
        phone.ask(&["1024.cfg", "octet"]);
        phone.acknowledge(1);
        phone.hear();
        let mut sends = 1;
        while phone.hear_within(LONG).is_some() {
            sends += 1;
        }
        sends.to_string()
    }),
    row("the request said again", "DATA 1, 512 bytes, of the same transfer", |door| {
        let mut phone = door.phone();
        phone.ask(&["1024.cfg", "octet"]);
        let first = phone.from;
        let again = ask_from(&mut phone, &["1024.cfg", "octet"]);
        format!("{again}, of {} transfer", if phone.from == first { "the same" } else { "another" })
    }),
    row("another request from the same port", "DATA 1, 28 bytes", |door| {
        let mut phone = door.phone();
        phone.ask(&["1024.cfg", "octet"]);
        ask_from(&mut phone, &["phone.cfg", "octet"])
    }),
    row("after the client's ERROR", "nothing", |door| {
        let mut phone = door.phone();
        phone.ask(&["1024.cfg", "octet"]);
        phone.socket.send_to(b"\0\x05\0\x03full\0", phone.from).unwrap();
        heard(&mut phone)
    }),
    row("a stranger to the transfer", "ERROR 5", |door| {
        let mut phone = door.phone();
        phone.ask(&["1024.cfg", "octet"]);
        let mut stranger = door.phone();
        stranger.from = phone.from;
        stranger.acknowledge(1);
        heard(&mut stranger)
    }),
    row("a block acknowledged twice", "DATA 2, 512 bytes; DATA 3, 0 bytes", |door| {
        let mut phone = door.phone();
        phone.ask(&["1024.cfg", "octet"]);
        phone.acknowledge(1);
        phone.acknowledge(1);
        let second = heard(&mut phone);
        phone.acknowledge(2);
        format!("{second}; {}", heard(&mut phone))
    }),
    row("a window with a gap", "1 2 3 4; 3 4 5 6", |door| {
        let mut phone = door.phone();
        phone.ask(&["asset-a", "octet", "windowsize", "4"]);
        phone.acknowledge(0);
        let first = blocks(&mut phone, 4);
        phone.acknowledge(2);
        format!("{first}; {}", blocks(&mut phone, 4))
    }),
    row("a window whose first block was lost", "5 6 7 8; 5 6 7 8", |door| {
        let mut phone = door.phone();
        phone.ask(&["asset-a", "octet", "windowsize", "4"]);
        phone.acknowledge(0);
        blocks(&mut phone, 4);
        phone.acknowledge(4);
        let first = blocks(&mut phone, 4);
        phone.acknowledge(4);
        format!("{first}; {}", blocks(&mut phone, 4))
    }),
    row("the block after 65535", "0", |door| {
        let mut phone = door.phone();
        phone.ask(&["asset-long", "octet", "blksize", "8", "windowsize", "16"]);
        phone.acknowledge(0);
        loop {
            match phone.hear() {
                Packet::Data(65_535, _) => {
                    phone.acknowledge(65_535);
                    return blocks(&mut phone, 1);
                }
                Packet::Data(block, _) if block % 16 == 0 => phone.acknowledge(block),
                _ => {}
            }
        }
    }),
];

/// The file called `asset-a`.
fn file() -> Vec<u8> {
    (0..30_000u32).map(|n| (n % 251) as u8).collect()
}

fn whole(got: &[u8]) -> String {
    if got == file() { "whole".to_owned() } else { format!("{} bytes", got.len()) }
}

fn as_stored(got: &[u8]) -> String {
    match got {
        text if text == TEXT.as_bytes() => "as stored".to_owned(),
        text if text == TEXT_ON_THE_WIRE => "as on the wire".to_owned(),
        other => format!("{} bytes", other.len()),
    }
}

fn ask(door: &Served, fields: &[&str]) -> String {
    ask_from(&mut door.phone(), fields)
}

fn ask_from(phone: &mut Phone, fields: &[&str]) -> String {
    phone.send_request(1, fields);
    heard(phone)
}

fn send(door: &Served, packet: &[u8]) -> String {
    let mut phone = door.phone();
    phone.socket.send_to(packet, door.bound.address).unwrap();
    heard(&mut phone)
}

fn heard(phone: &mut Phone) -> String {
    match phone.hear_within(LONG) {
        None => "nothing".to_owned(),
        Some(Packet::Data(block, bytes)) => format!("DATA {block}, {} bytes", bytes.len()),
        Some(Packet::Error(code, _)) => format!("ERROR {code}"),
        Some(Packet::Options(options)) => {
            options.iter().fold("OACK".to_owned(), |text, (option, value)| format!("{text} {option}={value}"))
        }
    }
}

/// The numbers of the next few blocks.
fn blocks(phone: &mut Phone, count: usize) -> String {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        match phone.hear_within(LONG) {
            Some(Packet::Data(block, _)) => numbers.push(block.to_string()),
            _ => break,
        }
    }
    numbers.join(" ")
}

/// What each row came to.
fn outcomes(engine: TftpEngine, port_per_transfer: bool) -> Vec<String> {
    let limits = TftpLimits { resend_after: WAIT, transfers_per_peer: 1000, ..TftpLimits::default() };
    let door = served_from(engine, port_per_transfer, limits);
    door.asset("asset-a", &file());
    door.asset("asset-long", &vec![b'x'; 8 * 65_600]);
    ROWS.iter().map(|row| (row.ask)(&door)).collect()
}

#[test]
fn the_own_engine_does_what_clients_rely_on() {
    let (own, single, portable) = std::thread::scope(|scope| {
        let own = scope.spawn(|| outcomes(TftpEngine::Own, true));
        let single = scope.spawn(|| outcomes(TftpEngine::Own, false));
        let portable = scope.spawn(|| outcomes(TftpEngine::Portable, true));
        (own.join().unwrap(), single.join().unwrap(), portable.join().unwrap())
    });
    let mut table = "| asked | own | portable, where it differs |\n|---|---|---|\n".to_owned();
    for ((row, own), portable) in ROWS.iter().zip(&own).zip(&portable) {
        let portable = if portable == own { "" } else { portable };
        writeln!(table, "| {} | {own} | {portable} |", row.what).unwrap();
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    fs::write(target.join("tftp-conformance.md"), &table).unwrap();
    let expected: Vec<_> = ROWS.iter().map(|row| (row.what, row.expected)).collect();
    for (outcomes, which) in [(&own, "a port per transfer"), (&single, "one port")] {
        let got: Vec<_> = ROWS.iter().zip(outcomes).map(|(row, outcome)| (row.what, outcome.as_str())).collect();
        assert_eq!(got, expected, "{which}\n{table}");
    }
}

#[test]
fn a_transfer_has_a_port_of_its_own_or_that_which_was_asked() {
    for port_per_transfer in [true, false] {
        let door = served_from(TftpEngine::Own, port_per_transfer, TftpLimits::default());
        let mut phones: Vec<_> = (0..20).map(|_| door.phone()).collect();
        for phone in &mut phones {
            phone.ask(&["1024.cfg", "octet"]);
        }
        let mut ports: Vec<_> = phones.iter().map(|phone| phone.from.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), if port_per_transfer { 20 } else { 1 });
        assert_eq!(ports.contains(&door.bound.address.port()), !port_per_transfer);
    }
}
