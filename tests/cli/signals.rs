use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::site::{Site, plan, start};

const LARGE: usize = 24 << 20;

fn ends_cleanly(site: &mut Site, signal: Signal) -> Duration {
    let began = Instant::now();
    site.signal(signal);
    site.wait_for("farewell", |line| line.is("message", "stopping"));
    let status = site.stop();
    assert!(status.success(), "{signal:?}: {status}");
    began.elapsed()
}

/// Asks for the large file and reads the head of the answer.
fn begin_download(site: &Site) -> TcpStream {
    let mut stream = site.connect();
    write!(stream, "GET /large.bin HTTP/1.1\r\nHost: provost\r\nConnection: close\r\n\r\n").unwrap();
    let mut first = [0; 16];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK\r");
    stream
}

#[test]
fn the_server_ends_at_once_when_nothing_is_under_way() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut site = start(plan());
        // A connection that only waits for its next request keeps nobody.
        let mut idle = site.connect();
        write!(idle, "GET /acme-02acde000001.cfg HTTP/1.1\r\nHost: provost\r\n\r\n").unwrap();
        idle.read_exact(&mut [0; 16]).unwrap();
        let took = ends_cleanly(&mut site, signal);
        println!("{signal:?}: {took:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
}

#[test]
fn a_download_under_way_is_finished() {
    let mut site = start(plan().file("assets/large.bin", vec![b'x'; LARGE]));
    let mut stream = begin_download(&site);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        let outcome = stream.read_to_end(&mut all);
        (outcome, all.len())
    });
    ends_cleanly(&mut site, Signal::TERM);
    let (outcome, len) = reader.join().unwrap();
    outcome.unwrap();
    assert!(len >= LARGE, "{len} of {LARGE} bytes");
}

#[test]
fn a_download_that_nobody_reads_is_cut_in_the_end() {
    let mut site = start(plan().file("assets/large.bin", vec![b'x'; LARGE]));
    let _stream = begin_download(&site);
    let took = ends_cleanly(&mut site, Signal::INT);
    println!("{took:?}");
    assert!(took > Duration::from_secs(3), "it was given no time: {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hear = || {
        let mut buffer = [0; 4096];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    let mut site =
        start(plan().file("assets/large.bin", vec![b'x'; LARGE]).environment("NOTIFY_SOCKET", path.to_str().unwrap()));
    let ready = hear();
    assert!(ready.contains("READY=1") && ready.contains("STATUS=3 devices, 1 vendors; HTTP 127.0.0.1:"), "{ready}");
    assert_eq!(site.get("acme-02acde000001.cfg").status, 200, "ready means ready");
    // It says so when it begins to stop, and not only when it has.
    let _stream = begin_download(&site);
    let began = Instant::now();
    site.signal(Signal::TERM);
    let stopping = hear();
    assert!(stopping.contains("STOPPING=1"), "{stopping}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(site.stop().success());
}
