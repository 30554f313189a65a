//! The encrypted side of the HTTP door, where a test has to choose the limits: whoever does not finish the handshake goes, and what is
//! open there counts with the rest. What people see of it is in `tests/cli/https.rs`.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use provost_host::Limits;
use provost_server::{
    authority,
    http::{HttpLimits, Listeners, Proxies, listen, serve},
    reload::first,
    request::{ConfigRequest, Desk, Fetched, Proof},
    settings::SettingsFile,
};
use tokio::{runtime::Runtime, sync::watch, task::JoinHandle};

/// Longer than any wait in here; reached only when something is broken.
const FAR: Duration = Duration::from_secs(30);

/// A desk that has nothing, and remembers what its askers have shown.
#[derive(Debug, Default)]
struct Empty(Mutex<Vec<Proof>>);

impl Desk for Empty {
    async fn fetch(&self, request: ConfigRequest) -> Fetched {
        self.0.lock().unwrap().push(request.proof);
        Fetched::Unknown { reason: "there is nothing here".into() }
    }
}

struct Served {
    desk: Arc<Empty>,
    plain: SocketAddr,
    secured: SocketAddr,
    root: PathBuf,
    stop: watch::Sender<bool>,
    serving: JoinHandle<std::io::Result<()>>,
    runtime: Runtime,
    _state: tempfile::TempDir,
}

fn served(limits: HttpLimits) -> Served {
    let state = tempfile::tempdir().unwrap();
    let mut file = SettingsFile { data: Some(state.path().to_owned()), ..SettingsFile::default() };
    file.https.enabled = true;
    for directory in ["profiles", "templates", "plugins"] {
        std::fs::create_dir(state.path().join(directory)).unwrap();
    }
    let settings = file.settle(None).unwrap();
    let root = authority::init(&settings).unwrap().file;
    authority::issue(&settings, &["127.0.0.1".to_owned()]).unwrap();
    let (world, findings) = first(settings, Limits::default(), None);
    assert!(findings.is_empty(), "{findings:?}");
    let (plain, secured) =
        (listen("127.0.0.1:0".parse().unwrap()).unwrap(), listen("127.0.0.1:0".parse().unwrap()).unwrap());
    let addresses = (plain.local_addr().unwrap(), secured.local_addr().unwrap());
    let listeners = Listeners {
        plain: Some(plain),
        secured: Some(secured),
        tls: Arc::new(move || Arc::clone(&world.tls)),
        proxies: Proxies::default(),
    };
    let desk = Arc::new(Empty::default());
    let (stop, stopped) = watch::channel(false);
    let runtime = Runtime::new().unwrap();
    let serving = runtime.spawn(serve(listeners, Arc::clone(&desk), limits, stopped));
    Served { desk, plain: addresses.0, secured: addresses.1, root, stop, serving, runtime, _state: state }
}

impl Served {
    /// The status of each of these requests over one connection.
    fn ask(&self, requests: usize) -> String {
        let url = format!("https://{}/x", self.secured);
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--noproxy",
            "*",
            "--max-time",
            "20",
            "--write-out",
            "%{http_code}:%{num_connects} ",
            "--cacert",
        ])
        .arg(Path::new(&self.root));
        for _ in 0..requests {
            curl.args(["--output", "/dev/null", &url]);
        }
        let output = curl.output().expect("cannot run curl; install curl");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn connect(&self, address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(FAR)).unwrap();
        stream
    }
}

#[test]
fn one_handshake_serves_several_requests() {
    let door = served(HttpLimits::default());
    assert_eq!(door.ask(2), "404:1 404:0");
    let seen = door.desk.0.lock().unwrap();
    assert!(seen.len() == 2 && seen.iter().all(|proof| proof.encrypted && proof.certificate.is_none()), "{seen:?}");
}

#[test]
fn who_does_not_finish_the_handshake_in_time_goes_and_leaves_the_place_to_others() {
    let door =
        served(HttpLimits { connections: 1, header_timeout: Duration::from_millis(300), ..HttpLimits::default() });
    let mut plain = door.connect(door.plain);
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(plain.read(&mut [0; 1024]).unwrap() > 0);
    // The only place is taken, for whoever asks at the other listener too.
    assert_eq!(door.connect(door.secured).read(&mut [0; 16]).unwrap_or(0), 0);
    drop(plain);

    let began = Instant::now();
    // One says nothing, one a byte at a time: they are let go when their time is up. Until the place is given back they are so at once.
    for drips in [false, true] {
        loop {
            assert!(began.elapsed() < FAR, "nobody gets the place");
            let began = Instant::now();
            let mut slow = door.connect(door.secured);
            slow.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let _ = slow.write_all(if drips { b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" } else { b"" });
            while let Err(error) = slow.read(&mut [0; 16])
                && matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
            {
                assert!(began.elapsed() < FAR, "it is not let go");
                let _ = slow.write_all(if drips { b"\x03" } else { b"" });
            }
            if began.elapsed() >= Duration::from_millis(250) {
                break;
            }
        }
    }
    while door.ask(1) != "404:1" {
        assert!(began.elapsed() < FAR, "the place is not given back");
    }
}

#[test]
fn what_is_no_handshake_ends_the_connection_and_nothing_else() {
    let door = served(HttpLimits::default());
    for nonsense in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0; 64], &[0x16; 70_000]] {
        let mut stream = door.connect(door.secured);
        let _ = stream.write_all(nonsense);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(said.len() < 16 && !said.starts_with(b"HTTP"), "{said:?}");
    }
    assert_eq!(door.ask(1), "404:1");
}

#[test]
fn the_end_does_not_wait_for_handshakes() {
    let door = served(HttpLimits::default());
    let mut hanging = door.connect(door.secured);
    // Accepted after it, so that it is.
    assert_eq!(door.ask(1), "404:1");
    let began = Instant::now();
    door.stop.send(true).unwrap();
    door.runtime.block_on(door.serving).unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(hanging.read(&mut [0; 16]).unwrap_or(0), 0);
}
