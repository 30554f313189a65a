//! Crowds at the doors: of connections, of slow ones, of transfers that nobody takes.

use std::{
    net::SocketAddrV4,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::*;
use crate::spoof::{Spoofer, silence};

fn http(site: &Site) -> SocketAddrV4 {
    SocketAddrV4::new(site.lan.server().address(), 8080)
}

/// Connections from this address.
fn connect(host: &Host, from: Ipv4Addr, to: SocketAddrV4, count: usize) -> Vec<TcpStream> {
    host.enter(|| {
        let open = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&SocketAddrV4::new(from, 0).into())?;
            socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
            Ok::<_, std::io::Error>(TcpStream::from(socket))
        };
        (0..count).map(|_| open().unwrap()).collect()
    })
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The hard limit stays, as not even root may raise it everywhere.
fn limit_files(pid: u32, count: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(Pid::from_raw(pid as i32), Resource::Nofile, Rlimit { current: Some(count), maximum }).unwrap();
}

#[test]
fn files_run_out_for_one_and_the_others_are_served() {
    let mut site = Site::new(|plan| prepared(plan, "ulimit -n 200"));
    site.boot(When::Before, &[]);
    let mark = site.server().mark();
    let crowd = connect(site.trouble(), site.trouble().address(), http(&site), 400);
    site.boot(When::During, &[]);
    site.boot(When::During, &["--door", "tftp"]);
    assert_eq!(site.edit(), 204);
    let most = open_files(site.server().pid());
    let complaints = site.complaints(mark);
    drop(crowd);
    site.boot(When::After, &[]);
    assert!(complaints.len() <= 2, "{complaints:#?}");
    let seen = format!(
        "{most} of 200 open; the slowest phone took {:.1} s; {} lines of complaint",
        site.slowest,
        complaints.len()
    );
    site.end("400 connections of one address, 200 open files at most", &seen);
}

#[test]
fn no_file_can_be_opened_for_a_while() {
    let mut site = Site::new(|plan| plan);
    site.boot(When::Before, &[]);
    let pid = site.server().pid();
    let mark = site.server().mark();
    limit_files(pid, 8);
    let crowd = connect(site.trouble(), site.trouble().address(), http(&site), 50);
    site.server().wait_after(mark, "a complaint", |line| line.text.contains("cannot accept connections for now"));
    let (used, since) = (processor_time(pid), Instant::now());
    // Each that goes away makes no room either.
    for stream in crowd {
        drop(stream);
        thread::sleep(Duration::from_millis(20));
    }
    let share = (processor_time(pid) - used).as_secs_f64() / since.elapsed().as_secs_f64();
    let complaints = site.complaints(mark);
    limit_files(pid, 4096);
    site.boot(When::During, &[]);
    assert_eq!(site.edit(), 204);
    site.boot(When::After, &[]);
    assert!(complaints.len() <= 3, "{complaints:#?}");
    assert!(share < 0.3, "{share:.2} of a processor with nothing to do");
    let seen = format!(
        "{} lines of complaint, {:.0} % of a processor; \"during\" is as soon as files can be had again",
        complaints.len(),
        share * 100.0
    );
    site.end("no file can be opened, until some can", &seen);
}

#[test]
fn a_thousand_clients_are_slow() {
    let mut site = Site::new(|plan| plan.file("assets/large.bin", vec![b'x'; 4 << 20]));
    site.boot(When::Before, &[]);
    let mark = site.server().mark();
    let mut addresses = site.lan.add_addresses(TROUBLE, 3);
    addresses.push(site.trouble().address());
    let of_kind = |kind: usize| connect(site.trouble(), addresses[kind], http(&site), 250);
    let (dripping, deaf, idle, rest) = (of_kind(0), of_kind(1), of_kind(2), of_kind(3));
    for mut stream in &deaf {
        stream.write_all(b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    // Half of a request, and then no more.
    for mut stream in &rest {
        stream.write_all(b"GET /large.bin HTTP/1.1\r\nHo").unwrap();
    }
    let over = AtomicBool::new(false);
    let waited = thread::scope(|scope| {
        scope.spawn(|| {
            let letters = "GET /x HTTP/1.1\r\nX-Slow: ".bytes().chain(std::iter::repeat(b'x'));
            for letter in letters {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                for mut stream in &dripping {
                    // It may have been shown the door meanwhile.
                    drop(stream.write(&[letter]));
                }
                thread::sleep(Duration::from_millis(300));
            }
        });
        site.boot(When::During, &[]);
        assert_eq!(site.edit(), 204);
        // None of them stays as long as it likes.
        let since = Instant::now();
        for mut stream in idle.iter().chain(&rest).chain(&dripping) {
            stream.set_read_timeout(Some(Duration::from_secs(45))).unwrap();
            let mut last = Vec::new();
            if let Err(error) = stream.read_to_end(&mut last) {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
            }
        }
        over.store(true, Ordering::Relaxed);
        since.elapsed()
    });
    site.boot(When::After, &[]);
    let complaints = site.complaints(mark);
    assert!(complaints.len() <= 2, "{complaints:#?}");
    drop(deaf);
    let seen = format!(
        "the slowest phone took {:.1} s; who sends no whole request is shown the door within {:.0} s",
        site.slowest,
        waited.as_secs_f64().ceil()
    );
    site.end("1,000 slow HTTP clients (dripping, reading nothing, idle, half a request)", &seen);
}

/// RRQs for a file from this many addresses, and then silence.
fn half_open(addresses: u16, fault: &str, flags: &[&str]) {
    let mut site = Site::new(|plan| plan.file("assets/large.bin", vec![b'x'; 4096]));
    silence(site.trouble());
    let sources = site.lan.add_addresses(TROUBLE, addresses);
    site.boot(When::Before, &["--door", "tftp"]);
    let mark = site.server().mark();
    let spoofer = Spoofer::on(site.trouble());
    let to = SocketAddrV4::new(site.lan.server().address(), 69);
    let mut port = 1024;
    for number in 0..10_000 {
        let from = sources[number % sources.len()];
        port += u16::from(number % sources.len() == 0);
        spoofer.send(SocketAddrV4::new(from, port), to, b"\0\x01large.bin\0octet\0");
        // As fast as the server's buffer takes them: none of them is to be lost for want of room.
        if number % 250 == 0 {
            thread::sleep(Duration::from_millis(10));
        }
    }
    let most = open_files(site.server().pid());
    site.boot(When::During, flags);
    let slowest = site.slowest;
    assert_eq!(site.edit(), 204);
    site.boot(When::After, &["--door", "tftp"]);
    let complaints = site.complaints(mark);
    assert!(complaints.len() <= 5, "{complaints:#?}");
    let seen =
        format!("{most} files open, the slowest phone took {slowest:.1} s; {} lines of complaint", complaints.len());
    site.end(fault, &seen);
}

#[test]
fn ten_thousand_transfers_are_asked_for_and_not_taken() {
    half_open(30, "10,000 half-open TFTP transfers from 30 addresses", &["--door", "tftp"]);
}

/// More than the door has room for: phones then wait until the first of those are given up.
#[test]
fn ten_thousand_transfers_from_more_addresses_than_there_is_room_for() {
    half_open(100, "10,000 half-open TFTP transfers from 100 addresses", &["--door", "tftp", "--boots", "15"]);
}
