//! The TFTP door as its peers meet it: curl, atftp, and packets made by hand where those are too well-behaved.
//!
//! Each test is run against both engines. `conformance` asks both the same questions and shows where they differ.

mod conformance;
mod kit;

use std::{
    fs::File,
    io::Write,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use provost_server::tftp::{Door, TftpEngine, TftpLimits};
use tokio::runtime::Runtime;

use crate::kit::{
    FAR, LOOPBACK, Packet, Phone, Served, TEXT, TEXT_ON_THE_WIRE, desk, error_code, served, served_within,
};

macro_rules! against_both {
    ($($test:ident)*) => {
        mod own {
            $(#[test] fn $test() { super::$test(provost_server::tftp::TftpEngine::Own) })*
        }
        mod portable {
            $(#[test] fn $test() { super::$test(provost_server::tftp::TftpEngine::Portable) })*
        }
    };
}

against_both! {
    curl_gets_files_of_all_sizes
    atftp_gets_files_with_the_options_it_likes
    a_size_is_told_and_a_block_kept_within_a_frame
    netascii_has_the_networks_line_ends
    netascii_comes_back_as_the_file_it_was
    a_netascii_transfer_is_patient_but_not_for_ever
    a_netascii_transfer_listens_to_its_own_client_only
    what_is_not_served_has_the_right_code
    a_file_that_is_long_in_the_making_delays_nobody_else
    a_late_no_is_still_the_right_no
    a_desk_that_never_answers_is_given_up
    three_hundred_transfers_at_once_are_all_served
    a_file_of_more_blocks_than_can_be_numbered_arrives_whole
    there_is_an_end_to_how_many_are_served_at_once
    nonsense_costs_nobody_but_its_sender
    addresses_come_and_go
}

fn curl_gets_files_of_all_sizes(engine: TftpEngine) {
    let door = served(engine);
    assert_eq!(door.curl("phone.cfg", &[]).unwrap(), TEXT.as_bytes());
    assert_eq!(door.curl("empty.cfg", &[]).unwrap(), b"");
    assert_eq!(door.curl("1024.cfg", &[]).unwrap(), [b'x'; 1024], "a file that fills its last block");
    let body: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    door.asset("asset-a", &body);
    assert!(door.curl("asset-a", &["--tftp-blksize", "1428"]).unwrap() == body);
    assert!(door.curl("asset-a", &["--tftp-no-options"]).unwrap() == body);
    assert_eq!(door.curl("missing.cfg", &[]), Err(68), "curl's status for a file not found");
    assert_eq!(door.curl("refused.cfg", &[]), Err(69), "and for one not permitted");

    let asked = door.desk.asked.lock().unwrap()[0].clone();
    assert_eq!((asked.path.as_str(), asked.local), ("phone.cfg", door.bound.address));
    assert_eq!(asked.peer.ip(), LOOPBACK);
}

fn atftp_gets_files_with_the_options_it_likes(engine: TftpEngine) {
    let door = served(engine);
    let body: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    door.asset("asset-a", &body);
    for options in [
        [].as_slice(),
        &["blksize 1428"],
        &["tsize"],
        &["timeout 3"],
        &["blksize 8192", "tsize", "timeout 2"],
        &["windowsize 8", "blksize 1024"],
        &["windowsize 60000"],
    ] {
        assert!(door.atftp("asset-a", options) == body, "{options:?}");
    }
    assert_eq!(door.atftp("phone.cfg", &["mode octet"]), TEXT.as_bytes());
}

fn a_size_is_told_and_a_block_kept_within_a_frame(engine: TftpEngine) {
    let door = served(engine);
    let mut phone = door.phone();
    let options = phone.ask(&["phone.cfg", "octet", "tsize", "0", "blksize", "512", "timeout", "5"]);
    let mut expected = vec![("blksize".into(), "512".into()), ("timeout".into(), "5".into())];
    if engine == TftpEngine::Portable {
        // It would listen to any timeout, so it listens to none.
        expected.pop();
    }
    expected.push(("tsize".to_owned(), TEXT.len().to_string()));
    assert_eq!(options, Packet::Options(expected));
    phone.acknowledge(0);
    assert_eq!(phone.hear(), Packet::Data(1, TEXT.into()));
    phone.acknowledge(1);

    let options = door.phone().ask(&["phone.cfg", "octet", "blksize", "65464", "windowsize", "65535"]);
    let expected = [("blksize", "1428"), ("windowsize", "16")];
    assert_eq!(options, Packet::Options(expected.map(|(name, value)| (name.into(), value.into())).into()));
}

fn netascii_has_the_networks_line_ends(engine: TftpEngine) {
    let door = served(engine);
    assert!(door.bound.netascii, "this system has no SO_ATTACH_REUSEPORT_CBPF");
    for mode in ["netascii", "NETASCII", "NetAscii"] {
        assert_eq!(door.phone().fetch("phone.cfg", mode), TEXT_ON_THE_WIRE, "{mode}");
    }
    for mode in ["octet", "OCTET"] {
        assert_eq!(door.phone().fetch("phone.cfg", mode), TEXT.as_bytes(), "{mode}");
    }
    // How long a text becomes is not said.
    let first = door.phone().ask(&["phone.cfg", "netascii", "blksize", "1428", "tsize", "0"]);
    assert_eq!(
        first,
        match engine {
            TftpEngine::Own => Packet::Options(vec![("blksize".into(), "1428".into())]),
            // Options may be ignored, and are.
            TftpEngine::Portable => Packet::Data(1, TEXT_ON_THE_WIRE.into()),
        }
    );
    // And where the name ends must not matter, nor a mode's name in a file's.
    for len in 6..250 {
        let name = format!("/long-{}", "n".repeat(len - 6));
        assert_eq!(door.phone().fetch(&name, "netascii"), TEXT_ON_THE_WIRE, "{len}");
        assert_eq!(door.phone().fetch(&name, "octet"), TEXT.as_bytes(), "{len}");
    }
    let long = door.phone().fetch(&format!("long-{}", "n".repeat(300)), "netascii");
    assert_eq!(
        long,
        match engine {
            TftpEngine::Own => TEXT_ON_THE_WIRE,
            // This is wrong, and what it costs to have no loop in the kernel: the end of such a name is not looked for.
            TftpEngine::Portable => TEXT.as_bytes(),
        }
    );
}

fn netascii_comes_back_as_the_file_it_was(engine: TftpEngine) {
    let door = served(engine);
    let mut text = Vec::new();
    for line in 0..20_000 {
        // Lines of every length, so that pairs fall on every place in a block.
        writeln!(text, "{}", "y".repeat(line % 97)).unwrap();
    }
    door.asset("asset-text", &text);
    let on_the_wire = door.phone().fetch("asset-text", "netascii");
    let expected = String::from_utf8(text.clone()).unwrap().replace('\n', "\r\n");
    assert!(on_the_wire == expected.as_bytes());
    assert!(door.atftp("asset-text", &["mode netascii"]) == text, "atftp translates back");
    assert!(door.curl("asset-text", &["--use-ascii"]).unwrap() == expected.as_bytes(), "curl does not");
}

fn a_netascii_transfer_is_patient_but_not_for_ever(engine: TftpEngine) {
    let door = served_within(engine, TftpLimits { resend_after: Duration::from_millis(20), ..TftpLimits::default() });
    let mut phone = door.phone();
    assert_eq!(phone.ask(&["1024.cfg", "netascii"]), Packet::Data(1, vec![b'x'; 512]));
    let transfer = phone.from;
    // Who has acknowledged nothing yet is not worth so much.
    phone.acknowledge(1);
    let second = phone.hear();
    for _ in 0..4 {
        assert_eq!(phone.hear(), second, "sent again");
    }
    // Five sends in all. That it is over shows in that the same port may ask anew; until then its requests are repetitions.
    let begun = Instant::now();
    loop {
        phone.send_request(1, &["phone.cfg", "netascii"]);
        phone.socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut packet = [0; 600];
        match phone.socket.recv_from(&mut packet) {
            Ok((len, from)) => {
                assert_ne!(from, transfer, "a sixth send");
                assert_eq!(&packet[4..len], TEXT_ON_THE_WIRE);
                break;
            }
            Err(_) => assert!(begun.elapsed() < FAR, "the transfer never ended"),
        }
    }
}

fn a_netascii_transfer_listens_to_its_own_client_only(engine: TftpEngine) {
    let door = served_within(engine, TftpLimits { resend_after: FAR, transfers: 1, ..TftpLimits::default() });
    let mut phone = door.phone();
    phone.ask(&["1024.cfg", "netascii"]);
    let mut stranger = door.phone();
    stranger.from = phone.from;
    stranger.acknowledge(1);
    assert_eq!(error_code(stranger.hear()), 5);
    phone.acknowledge(7);
    phone.acknowledge(1);
    assert_eq!(phone.hear(), Packet::Data(2, vec![b'x'; 512]), "the stranger did no harm");
    // A client that gives up frees its place at once: there is only one here, and no packet is sent again.
    there_is_no_room(engine, &door, "octet");
    phone.socket.send_to(b"\0\x05\0\0gone\0", phone.from).unwrap();
    until_there_is_room(&door, "netascii");
}

fn what_is_not_served_has_the_right_code(engine: TftpEngine) {
    let door = served(engine);
    for mode in ["octet", "netascii"] {
        assert_eq!(error_code(door.phone().ask(&["missing.cfg", mode])), 1, "{mode}");
        assert_eq!(error_code(door.phone().ask(&["refused.cfg", mode])), 2, "{mode}");
        assert_eq!(door.phone().ask(&["broken.cfg", mode]), Packet::Error(0, "cannot be made".into()));
        assert_eq!(door.phone().ask(&["panic.cfg", mode]), Packet::Error(0, "internal error".into()));
    }
    assert_eq!(error_code(door.phone().ask(&["phone.cfg", "mail"])), 4);
    let mut phone = door.phone();
    phone.send_request(2, &["phone.cfg", "octet"]);
    assert_eq!(error_code(phone.hear()), 4);
    phone.send_request(2, &["phone.cfg", "netascii"]);
    assert_eq!(error_code(phone.hear()), 4);

    let asked = door.desk.asked.lock().unwrap().len();
    for name in ["a\\b", "a\nb", "../phone.cfg", "/a/../phone.cfg", &"x".repeat(1500)] {
        assert_eq!(error_code(door.phone().ask(&[name, "octet"])), 1, "{name:?}");
    }
    assert_eq!(door.desk.asked.lock().unwrap().len(), asked, "the desk hears of none of these");
    assert_eq!(door.phone().fetch("//phone.cfg", "octet"), TEXT.as_bytes());
}

fn a_file_that_is_long_in_the_making_delays_nobody_else(engine: TftpEngine) {
    let door = served(engine);
    let mut slow: Vec<_> = (0..50)
        .map(|n| {
            let mut phone = door.phone();
            // A busy client repeats its request; that must not make it two.
            let mode = if n % 5 == 0 { "netascii" } else { "octet" };
            phone.send_request(1, &["slow-phone.cfg", mode, "tsize", "0"]);
            phone.send_request(1, &["slow-phone.cfg", mode, "tsize", "0"]);
            phone.from = phone.server;
            (phone, mode)
        })
        .collect();
    for _ in 0..50 {
        door.slow_begun();
    }
    let begun = Instant::now();
    for mode in ["octet", "netascii"].repeat(10) {
        door.phone().fetch("phone.cfg", mode);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(door.desk.begun.available_permits(), 0, "each was asked for once");
    door.desk.may_end.add_permits(50);
    for (phone, mode) in &mut slow {
        if engine == TftpEngine::Own && *mode == "octet" {
            assert_eq!(phone.hear(), Packet::Options(vec![("tsize".into(), TEXT.len().to_string())]));
            phone.acknowledge(0);
        }
        // To the portable one its size was not known in time, so nothing is left of the options.
        let text = if *mode == "octet" { TEXT.as_bytes() } else { TEXT_ON_THE_WIRE };
        assert_eq!(phone.hear(), Packet::Data(1, text.to_vec()));
        phone.acknowledge(1);
    }
}

fn a_late_no_is_still_the_right_no(engine: TftpEngine) {
    let door = served(engine);
    for (name, code) in
        [("slow-missing.cfg", 1), ("slow-refused.cfg", 2), ("slow-broken.cfg", 0), ("slow-panic.cfg", 0)]
    {
        let mut phone = door.phone();
        phone.send_request(1, &[name, "octet"]);
        door.slow_begun();
        // The next of the peers to be served shows that the engine has stopped waiting for this one.
        door.phone().fetch("phone.cfg", "octet");
        door.desk.may_end.add_permits(1);
        assert_eq!(error_code(phone.hear()), code, "{name}");
    }
}

fn a_desk_that_never_answers_is_given_up(engine: TftpEngine) {
    let door =
        served_within(engine, TftpLimits { fetch_deadline: Duration::from_millis(100), ..TftpLimits::default() });
    for mode in ["octet", "netascii"] {
        assert_eq!(error_code(door.phone().ask(&["slow-phone.cfg", mode])), 0);
    }
}

fn three_hundred_transfers_at_once_are_all_served(engine: TftpEngine) {
    let door = served_within(engine, TftpLimits { transfers_per_peer: 1000, ..TftpLimits::default() });
    let body: Vec<u8> = (0..5000u32).map(|n| (n % 251) as u8).collect();
    door.asset("asset-a", &body);
    let mut phones: Vec<_> = (0..300).map(|_| door.phone()).collect();
    // All have asked before the first is acknowledged.
    for phone in &phones {
        phone.send_request(1, &["asset-a", "octet"]);
    }
    for (block, expected) in (1u16..).zip(body.chunks(512)) {
        for phone in &mut phones {
            loop {
                let packet = phone.hear();
                let Packet::Data(number, data) = packet else { panic!("{packet:?}") };
                if number == block {
                    assert!(data == expected);
                    break;
                }
            }
            phone.acknowledge(block);
        }
    }
}

/// From the same port, with the last acknowledgement still on its way. The portable engine takes such a request for a repetition.
#[test]
fn who_wants_it_once_more_at_the_same_moment_gets_it() {
    let door = served(TftpEngine::Own);
    let mut phone = door.phone();
    for _ in 0..500 {
        phone.ask(&["phone.cfg", "octet"]);
        phone.acknowledge(1);
    }
}

fn a_file_of_more_blocks_than_can_be_numbered_arrives_whole(engine: TftpEngine) {
    let door = served(engine);
    let path = door.dir.path().join("asset-large");
    let mut file = std::io::BufWriter::new(File::create(&path).unwrap());
    let blocks = 66_000u32;
    for block in 0..blocks {
        // No two blocks alike.
        file.write_all(&block.to_be_bytes().repeat(128)).unwrap();
    }
    drop(file);
    let whole = std::fs::read(&path).unwrap();
    assert!(whole.len() > 65_536 * 512);
    assert!(door.curl("asset-large", &["--tftp-no-options"]).unwrap() == whole);
    // The same in windows, which roll over somewhere inside.
    assert!(door.atftp("asset-large", &["windowsize 16"]) == whole);
}

/// After which nothing will come any more: no event tells that.
const A_WHILE: Duration = Duration::from_millis(300);

/// A phone that hears nothing asks again, and one that is told of an error gives up; the portable engine cannot but tell.
fn there_is_no_room(engine: TftpEngine, door: &Served, mode: &str) {
    let mut phone = door.phone();
    phone.send_request(1, &["phone.cfg", mode]);
    match engine {
        TftpEngine::Own => assert_eq!(phone.hear_within(A_WHILE), None),
        TftpEngine::Portable => assert_eq!(phone.hear(), Packet::Error(0, "busy, try again".into())),
    }
}

fn until_there_is_room(door: &Served, mode: &str) {
    let begun = Instant::now();
    loop {
        let mut phone = door.phone();
        phone.send_request(1, &["phone.cfg", mode]);
        if let Some(Packet::Data(..)) = phone.hear_within(A_WHILE) {
            return;
        }
        assert!(begun.elapsed() < FAR, "no place is given back");
    }
}

fn there_is_an_end_to_how_many_are_served_at_once(engine: TftpEngine) {
    let door = served_within(engine, TftpLimits { transfers_per_peer: 2, ..TftpLimits::default() });
    let mut held = [door.phone(), door.phone()];
    for (phone, mode) in held.iter_mut().zip(["octet", "netascii"]) {
        phone.ask(&["1024.cfg", mode]);
    }
    for mode in ["octet", "netascii"] {
        there_is_no_room(engine, &door, mode);
    }
    let other = IpAddr::from([127, 0, 0, 2]);
    Phone::at(other, door.bound.address).fetch("phone.cfg", "octet");
    for phone in &mut held {
        phone.acknowledge(1);
        phone.hear();
        phone.acknowledge(2);
        phone.hear();
        phone.acknowledge(3);
    }
    until_there_is_room(&door, "octet");
}

fn nonsense_costs_nobody_but_its_sender(engine: TftpEngine) {
    let door = served(engine);
    let phone = door.phone();
    let long = [b"\0\x01".as_slice(), &[b'a'; 4000], b"\0octet\0"].concat();
    for packet in [
        b"".as_slice(),
        b"\0",
        b"\0\x01",
        b"\0\x01phone.cfg",
        b"\0\x01phone.cfg\0",
        b"\0\x01phone.cfg\0octet",
        b"\0\x01phone.cfg\0netascii",
        b"\0\x01phone.cfg\0n",
        b"\0\x01phone.cfg\0nonsense\0",
        b"\0\x01phone.cfg\0octet\0blksize\0",
        b"\0\x01phone.cfg\0octet\0blksize\0-1\0tsize\0\xff\0",
        b"\0\x01\xff\xfe\0octet\0",
        b"\0\x01\xff\xfe\0netascii\0",
        b"\0\x03\0\x01data",
        b"\0\x04\0\x01",
        b"\0\x05\0\x01\0",
        b"\0\x06blksize\x0088\0",
        b"\xff\xff\xff\xff",
        &long,
        &[0; 1000],
        &[0xff; 1000],
    ] {
        phone.socket.send_to(packet, door.bound.address).unwrap();
    }
    for mode in ["octet", "netascii"] {
        door.phone().fetch("phone.cfg", mode);
    }
    // Odd options are no reason not to send the file.
    let first = door.phone().ask(&["phone.cfg", "octet", "blksize", "7", "multicast", "", "windowsize", "0"]);
    assert_eq!(first, Packet::Data(1, TEXT.into()));
}

/// An address that has been stopped is free. Not always at once: a curl that another test is just starting holds every descriptor of
/// ours until it is executed.
fn becomes_free(address: SocketAddr) {
    let begun = Instant::now();
    while let Err(error) = UdpSocket::bind(address) {
        assert!(begun.elapsed() < FAR, "{address}: {error}");
    }
}

fn addresses_come_and_go(engine: TftpEngine) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let [first, second, foreign] = [[127, 0, 0, 1], [127, 0, 0, 3], [192, 0, 2, 1]].map(IpAddr::from);
    // A port that is free now; taken for all addresses below.
    let port = UdpSocket::bind((first, 0)).unwrap().local_addr().unwrap().port();
    runtime.block_on(async {
        let mut door = Door::new(desk(dir.path()), engine, true, port, TftpLimits::default());
        let synced = door.sync_addresses(&[first, second, foreign]).await;
        assert_eq!(synced.started.iter().map(|bound| bound.address.ip()).collect::<Vec<_>>(), [first, second]);
        assert_eq!(synced.failed.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [foreign]);
        assert!(synced.started.iter().all(|bound| bound.rcvbuf_granted > 100_000));
        // Asked at an address, answers from it: the phone sees to that.
        for address in [first, second] {
            let fetch = move || Phone::at(first, (address, port).into()).fetch("phone.cfg", "octet");
            assert_eq!(tokio::task::spawn_blocking(fetch).await.unwrap(), TEXT.as_bytes());
        }
        // Nobody else takes our place unnoticed, not even another of us.
        let mut other = Door::new(desk(dir.path()), engine, true, port, TftpLimits::default());
        assert_eq!(other.serve_on(first).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        assert!(other.serve_on(IpAddr::from([0, 0, 0, 0])).is_err());

        for _ in 0..20 {
            let synced = door.sync_addresses(&[second]).await;
            assert_eq!((synced.stopped.as_slice(), synced.started.len()), ([first].as_slice(), 0));
            becomes_free((first, port).into());
            let synced = door.sync_addresses(&[second, first]).await;
            assert_eq!((synced.stopped.len(), synced.started.len(), synced.failed.len()), (0, 1, 0));
        }
        for mode in ["octet", "netascii"] {
            let fetch = move || Phone::at(first, (first, port).into()).fetch("phone.cfg", mode);
            tokio::task::spawn_blocking(fetch).await.unwrap();
        }
        // A transfer under way does not keep an address.
        let phone = Phone::at(first, (first, port).into());
        phone.send_request(1, &["1024.cfg", "octet"]);
        phone.send_request(1, &["slow-phone.cfg", "netascii"]);
        assert!(door.stop_on(first).await);
        assert!(!door.stop_on(first).await);
        becomes_free((first, port).into());
        door.close().await;
        becomes_free((second, port).into());
    });
}
