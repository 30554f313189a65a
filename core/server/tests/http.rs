//! The HTTP door as its peers meet it: curl, and bytes on a socket where curl is too well-behaved.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant, SystemTime},
};

use provost_server::{
    http::{HttpLimits, listen, serve},
    request::{Asset, ConfigFile, ConfigRequest, Desk, Door, Fetched},
};
use tokio::{
    runtime::Runtime,
    sync::{Semaphore, watch},
    task::JoinHandle,
};

const CONFIG: &str = "<config>\n  <line>1</line>\n</config>\n";
/// Longer than any wait in here; reached only when something is broken.
const FAR: Duration = Duration::from_secs(30);

/// A desk with a handful of names, that remembers what it was asked.
#[derive(Debug)]
struct Shelf {
    assets: PathBuf,
    asked: Mutex<Vec<ConfigRequest>>,
    /// `slow.xml` was asked for; may be answered.
    begun: Semaphore,
    may_end: Semaphore,
}

impl Desk for Shelf {
    async fn fetch(&self, request: ConfigRequest) -> Fetched {
        let path = request.path.clone();
        self.asked.lock().unwrap().push(request);
        match path.as_str() {
            "phone.xml" => {}
            "slow.xml" => {
                self.begun.add_permits(1);
                self.may_end.acquire().await.unwrap().forget();
            }
            "refused.xml" => return Fetched::Refused { reason: "this phone is not enrolled yet".into() },
            "broken.xml" => return Fetched::Failed { public: "the file cannot be made, see the log".into() },
            asset if asset.starts_with("asset-") => {
                let path = self.assets.join(asset);
                let found = path.metadata().unwrap();
                return Fetched::Asset(Asset {
                    path,
                    content_type: "application/octet-stream".into(),
                    len: found.len(),
                    modified: found.modified().unwrap(),
                });
            }
            other => return Fetched::Unknown { reason: format!("nothing is called {other:?} here") },
        }
        Fetched::Found(ConfigFile {
            body: CONFIG.into(),
            content_type: "text/xml; charset=utf-8".into(),
            etag: "0123abcd".into(),
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        })
    }
}

/// A door on a free loopback port; closed when dropped.
#[derive(Debug)]
struct Served {
    desk: Arc<Shelf>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: Option<JoinHandle<std::io::Result<()>>>,
    runtime: Runtime,
    assets: tempfile::TempDir,
}

fn served() -> Served {
    served_within(HttpLimits::default())
}

fn served_within(limits: HttpLimits) -> Served {
    let assets = tempfile::tempdir().unwrap();
    let desk = Arc::new(Shelf {
        assets: assets.path().to_owned(),
        asked: Mutex::default(),
        begun: Semaphore::new(0),
        may_end: Semaphore::new(0),
    });
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let runtime = Runtime::new().unwrap();
    let serving = runtime.spawn(serve(listener, Arc::clone(&desk), limits, stopped));
    Served { desk, address, stop, serving: Some(serving), runtime, assets }
}

impl Served {
    fn asset(&self, name: &str, body: &[u8]) {
        std::fs::write(self.assets.path().join(name), body).unwrap();
    }

    /// A file that reads as zeros and takes no room.
    fn hollow_asset(&self, name: &str, len: u64) {
        File::create(self.assets.path().join(name)).unwrap().set_len(len).unwrap();
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn curl(&self, path: &str, args: &[&str]) -> Answer {
        let out = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--noproxy", "*", "--path-as-is", "--max-time", "30"])
            .args(args)
            .arg(self.url(path))
            .output()
            .expect("cannot run curl; install curl");
        assert!(out.status.success(), "curl {args:?} {path}: {}", String::from_utf8_lossy(&out.stderr));
        Answer::read(&out.stdout)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(FAR)).unwrap();
        stream
    }

    /// Sends bytes as they are, and reads until the door closes.
    fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        Answer::read(&all)
    }

    fn last_asked(&self) -> ConfigRequest {
        self.desk.asked.lock().unwrap().last().expect("the desk was asked").clone()
    }

    /// Waits for `serve` to return.
    fn ended(&mut self) {
        let serving = self.serving.take().unwrap();
        self.runtime.block_on(async { tokio::time::timeout(FAR, serving).await.unwrap().unwrap().unwrap() });
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if self.serving.is_some() && !thread::panicking() {
            self.ended();
        }
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Reads one answer with a Content-Length from a connection that stays open.
fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    let mut answer = Answer::read(&bytes);
    answer.body = vec![0; answer.header("content-length").unwrap().parse().unwrap()];
    stream.read_exact(&mut answer.body).unwrap();
    answer
}

#[test]
fn a_file_comes_with_its_length_version_and_date() {
    let door = served();
    let answer = door.curl("phone.xml", &["--user-agent", "Phone 1.2 00:11:22:33:44:55"]);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), CONFIG);
    assert_eq!(answer.header("content-type"), Some("text/xml; charset=utf-8"));
    assert_eq!(answer.header("content-length"), Some(CONFIG.len().to_string().as_str()));
    assert_eq!(answer.header("etag"), Some("\"0123abcd\""));
    assert_eq!(answer.header("last-modified"), Some("Tue, 14 Nov 2023 22:13:20 GMT"));
    assert_eq!(answer.header("server"), Some("Provost"));
    assert!(answer.header("date").is_some());

    let asked = door.last_asked();
    assert_eq!(asked.door, Door::Http);
    assert_eq!(asked.path, "phone.xml");
    assert_eq!(asked.user_agent.as_deref(), Some("Phone 1.2 00:11:22:33:44:55"));
    assert_eq!(asked.local, door.address);
    assert_eq!(asked.peer.ip(), door.address.ip());
}

#[test]
fn head_says_what_get_would_and_sends_nothing() {
    let door = served();
    door.asset("asset-a", &[7; 3000]);
    for name in ["phone.xml", "asset-a", "missing.xml"] {
        let get = door.curl(name, &[]);
        let head = door.curl(name, &["--head"]);
        assert_eq!(head.status, get.status, "{name}");
        assert!(head.body.is_empty(), "{name}");
        for header in ["content-length", "content-type", "etag", "last-modified", "accept-ranges"] {
            assert_eq!(head.header(header), get.header(header), "{header} of {name}");
        }
    }
    // And the connection is in step afterwards.
    let mut stream = door.connect();
    stream
        .write_all(
            b"HEAD /asset-a HTTP/1.1\r\nHost: x\r\n\r\nGET /phone.xml HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .unwrap();
    let mut both = String::new();
    stream.read_to_string(&mut both).unwrap();
    assert_eq!(both.matches("HTTP/1.1 200").count(), 2, "{both}");
    assert!(both.ends_with(CONFIG), "{both}");
}

#[test]
fn who_has_the_file_already_is_told_so() {
    let door = served();
    let status = |headers: &[&str]| {
        let args: Vec<_> = headers.iter().flat_map(|header| ["--header", header]).collect();
        let answer = door.curl("phone.xml", &args);
        assert_eq!(answer.body.is_empty(), answer.status == 304);
        assert_eq!(answer.header("etag"), Some("\"0123abcd\""));
        answer.status
    };
    assert_eq!(status(&["If-None-Match: \"0123abcd\""]), 304);
    assert_eq!(status(&["If-None-Match: \"old\", W/\"0123abcd\""]), 304);
    assert_eq!(status(&["If-None-Match: *"]), 304);
    assert_eq!(status(&["If-None-Match: \"old\""]), 200);
    assert_eq!(status(&["If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"]), 304);
    assert_eq!(status(&["If-Modified-Since: Tue, 14 Nov 2023 22:13:19 GMT"]), 200);
    assert_eq!(status(&["If-Modified-Since: nonsense"]), 200);
    // The version outweighs the date, either way.
    assert_eq!(status(&["If-None-Match: \"old\"", "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"]), 200);
    assert_eq!(status(&["If-None-Match: \"0123abcd\"", "If-Modified-Since: Tue, 14 Nov 2000 22:13:20 GMT"]), 304);
}

#[test]
fn an_asset_comes_in_parts_if_asked() {
    let door = served();
    let body: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    door.asset("asset-firmware.bin", &body);
    let whole = door.curl("asset-firmware.bin", &[]);
    assert_eq!((whole.status, whole.body == body), (200, true));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let etag = whole.header("etag").unwrap();

    let middle = door.curl("asset-firmware.bin", &["--range", "70000-150000"]);
    assert_eq!((middle.status, middle.body == body[70_000..=150_000]), (206, true));
    assert_eq!(middle.header("content-range"), Some("bytes 70000-150000/200000"));
    assert_eq!(middle.header("content-length"), Some("80001"));
    let tail = door.curl("asset-firmware.bin", &["--range", "-10"]);
    assert_eq!((tail.status, tail.body == body[199_990..]), (206, true));
    let rest = door.curl("asset-firmware.bin", &["--range", "199999-", "--header", &format!("If-Range: {etag}")]);
    assert_eq!((rest.status, rest.body.len()), (206, 1));

    let beyond = door.curl("asset-firmware.bin", &["--range", "200000-"]);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */200000")));
    for args in [["--range", "0-1,5-6"].as_slice(), &["--range", "5-", "--header", "If-Range: \"old\""]] {
        let whole = door.curl("asset-firmware.bin", args);
        assert_eq!((whole.status, whole.body.len()), (200, 200_000), "{args:?}");
    }
    // A config file is small and made anew each time: no parts.
    let config = door.curl("phone.xml", &["--range", "0-3"]);
    assert_eq!((config.status, config.text(), config.header("accept-ranges")), (200, CONFIG, None));
}

#[test]
fn a_file_larger_than_memory_ought_to_hold_is_streamed() {
    let door = served();
    door.hollow_asset("asset-large", 300 << 20);
    let out = Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "60"])
        .args(["--output", "/dev/null", "--write-out", "%{size_download}", &door.url("asset-large")])
        .output()
        .expect("cannot run curl; install curl");
    assert_eq!(String::from_utf8_lossy(&out.stdout), (300 << 20).to_string());
    #[cfg(target_os = "linux")]
    {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak < 200 << 10, "{peak} KiB of memory were used at once");
    }
}

#[test]
fn what_is_not_served_is_said_in_one_plain_sentence() {
    let door = served();
    for (path, status, text) in [
        ("missing.xml", 404, "nothing is called \"missing.xml\" here\n"),
        ("refused.xml", 403, "this phone is not enrolled yet\n"),
        ("broken.xml", 500, "the file cannot be made, see the log\n"),
    ] {
        let answer = door.curl(path, &[]);
        assert_eq!((answer.status, answer.text()), (status, text));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    for method in ["POST", "DELETE", "OPTIONS", "PROPFIND"] {
        let answer = door.curl("phone.xml", &["--request", method]);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    // Some phones upload their log to wherever they fetch from.
    door.asset("log", &[b'x'; 50_000]);
    let log = door.assets.path().join("log");
    assert_eq!(door.curl("phone.log", &["--upload-file", log.to_str().unwrap()]).status, 405);
}

#[test]
fn http_1_0_is_spoken_too() {
    let door = served();
    let answer = door.curl("phone.xml", &["--http1.0"]);
    assert_eq!((answer.status, answer.text()), (200, CONFIG));
    // Without any header, and with the sending side closed at once.
    let mut stream = door.connect();
    stream.write_all(b"GET /phone.xml HTTP/1.0\r\n\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(Answer::read(&all).text(), CONFIG);
    // Kept open when asked for.
    let mut stream = door.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /phone.xml HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut stream).text(), CONFIG);
    }
}

#[test]
fn odd_requests_are_read_as_far_as_they_make_sense() {
    let door = served();
    let get =
        |target: &str| door.raw(format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
    for target in [
        "/phone.xml?mac=1",
        "//phone.xml",
        "///phone.xml",
        "http://10.0.0.1:1/phone.xml",
        "phone.xml",
        "/%70hone%2Exml",
    ] {
        let answer = get(target);
        assert_eq!((answer.status, answer.text()), (200, CONFIG), "{target}");
        assert_eq!(door.last_asked().path, "phone.xml", "{target}");
    }
    let answer = get("/d/%7Bmac%7D/a%20b.cfg");
    assert_eq!((answer.status, door.last_asked().path.as_str()), (404, "d/{mac}/a b.cfg"));
    assert_eq!(door.raw(b"\r\nGET /phone.xml HTTP/1.1\nHost: x\nConnection: close\n\n").text(), CONFIG);
    let latin = door.raw(b"GET /phone.xml HTTP/1.1\r\nUser-Agent: Telef\xf3n 1\r\nConnection: close\r\n\r\n");
    assert_eq!((latin.status, door.last_asked().user_agent.as_deref()), (200, Some("Telef\u{fffd}n 1")));
    let body = door.raw(b"GET /phone.xml HTTP/1.1\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    assert_eq!(body.text(), CONFIG);

    let asked = door.desk.asked.lock().unwrap().len();
    for target in
        ["/%2e%2e/%2e%2e/etc/passwd", "/../phone.xml", "/a/..", "/a%00.xml", "/a%5cb", "/%ff%fe", "/a%0ab", "/..%2fx"]
    {
        let answer = get(target);
        assert_eq!(answer.status, 404, "{target}");
        assert!(answer.text().ends_with('\n') && !answer.text().contains('<'), "{target}");
    }
    assert_eq!(get(&format!("/{}", "x".repeat(2000))).status, 414);
    assert_eq!(get("/a b").status, 400);
    let headers = "X-Padding: 0123456789012345678901234567890123456789\r\n".repeat(500);
    assert_eq!(door.raw(format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes()).status, 431);
    assert_eq!(door.desk.asked.lock().unwrap().len(), asked, "the desk hears of none of these");
}

#[test]
fn two_hundred_phones_at_once_are_all_served() {
    let door = served();
    // All connected before the first asks.
    let streams: Vec<_> = (0..200).map(|_| door.connect()).collect();
    let all: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            thread::spawn(move || {
                for _ in 0..3 {
                    stream.write_all(b"GET /phone.xml HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                    assert_eq!(read_answer(&mut stream).text(), CONFIG);
                }
            })
        })
        .collect();
    all.into_iter().for_each(|one| one.join().unwrap());
}

#[test]
fn who_is_slow_to_ask_is_closed() {
    let short = Duration::from_millis(200);
    let long = Duration::from_secs(3600);
    let closes = |limits: HttpLimits, bytes: &[u8]| {
        let door = served_within(limits);
        let mut stream = door.connect();
        stream.write_all(bytes).unwrap();
        if bytes.ends_with(b"\r\n\r\n") {
            read_answer(&mut stream);
        }
        // Nothing more is sent, and the end comes (an elapsed read timeout would be an error here).
        assert_eq!(stream.read(&mut [0; 100]).unwrap(), 0, "closed, without a word");
    };
    let header = HttpLimits { header_timeout: short, idle_timeout: long, ..HttpLimits::default() };
    closes(header.clone(), b"");
    closes(header, b"GET /phone.xml HTTP/1.1\r\nHo");
    let idle = HttpLimits { header_timeout: long, idle_timeout: short, ..HttpLimits::default() };
    closes(idle, b"GET /phone.xml HTTP/1.1\r\nHost: x\r\n\r\n");
}

#[test]
fn a_slow_desk_is_not_the_phones_fault() {
    let short = Duration::from_millis(50);
    let limits = HttpLimits { header_timeout: short, idle_timeout: short, ..HttpLimits::default() };
    let door = served_within(limits);
    let mut stream = door.connect();
    stream.write_all(b"GET /slow.xml HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    door.runtime.block_on(async {
        door.desk.begun.acquire().await.unwrap().forget();
        // The one wait for a time: what is claimed is that in this time nothing happens.
        tokio::time::sleep(short * 6).await;
    });
    door.desk.may_end.add_permits(1);
    assert_eq!(read_answer(&mut stream).text(), CONFIG);
}

#[test]
fn who_never_reads_loses_the_connection() {
    let limits =
        HttpLimits { connections_per_peer: 1, write_timeout: Duration::from_millis(200), ..HttpLimits::default() };
    let door = served_within(limits);
    door.hollow_asset("asset-large", 64 << 20);
    let mut deaf = door.connect();
    deaf.write_all(b"GET /asset-large HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    // It holds the only place there is, so its end shows in another's being served.
    let begun = Instant::now();
    loop {
        let mut other = door.connect();
        other.write_all(b"GET /phone.xml HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut all = Vec::new();
        let _ = other.read_to_end(&mut all);
        if all.starts_with(b"HTTP/1.1 200") {
            break;
        }
        assert!(begun.elapsed() < FAR, "the deaf client still has its place");
        thread::yield_now();
    }
    let mut rest = Vec::new();
    let _ = deaf.read_to_end(&mut rest);
    assert!(rest.len() < 64 << 20);
}

#[test]
fn a_slow_reader_that_does_read_gets_everything() {
    let door = served_within(HttpLimits { write_timeout: Duration::from_secs(2), ..HttpLimits::default() });
    door.hollow_asset("asset-large", 32 << 20);
    let mut stream = door.connect();
    stream.write_all(b"GET /asset-large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let (mut got, mut buf) = (0, vec![0; 1 << 20]);
    loop {
        match stream.read(&mut buf).unwrap() {
            0 => break,
            read => got += read,
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!(got > 32 << 20, "{got}");
}

#[test]
fn one_peer_cannot_take_every_place() {
    let door = served_within(HttpLimits { connections_per_peer: 2, ..HttpLimits::default() });
    let mut held = [door.connect(), door.connect()];
    for stream in &mut held {
        stream.write_all(b"GET /phone.xml HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        read_answer(stream);
    }
    let mut third = Vec::new();
    door.connect().read_to_end(&mut third).unwrap();
    let third = Answer::read(&third);
    assert_eq!((third.status, third.header("retry-after")), (503, Some("5")));
    // Another address is another peer.
    let local: SocketAddr = "127.0.0.2:0".parse().unwrap();
    let other = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    other.bind(&local.into()).unwrap();
    other.connect(&door.address.into()).unwrap();
    let mut other: TcpStream = other.into();
    other.write_all(b"GET /phone.xml HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut other).status, 200);
}

#[test]
fn an_answer_under_way_is_finished_when_the_door_closes() {
    let mut door = served();
    let mut idle = door.connect();
    idle.write_all(b"GET /phone.xml HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_answer(&mut idle);
    let mut silent = door.connect();
    let mut busy = door.connect();
    busy.write_all(b"GET /slow.xml HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    door.runtime.block_on(async { door.desk.begun.acquire().await.unwrap().forget() });

    door.stop.send(true).unwrap();
    assert_eq!(idle.read(&mut [0; 10]).unwrap(), 0, "an idle connection is closed at once");
    assert_eq!(silent.read(&mut [0; 10]).unwrap(), 0, "and so is one that never asked");
    // Not always at once: a curl that another test is just starting holds every descriptor of ours until it is executed.
    let begun = Instant::now();
    while TcpStream::connect(door.address).is_ok() {
        assert!(begun.elapsed() < FAR, "somebody new gets in");
    }
    door.desk.may_end.add_permits(1);
    assert_eq!(read_answer(&mut busy).text(), CONFIG);
    assert_eq!(busy.read(&mut [0; 10]).unwrap(), 0, "and then that connection is closed, too");
    door.ended();
}

#[test]
fn a_desk_that_never_answers_does_not_keep_the_door_from_closing() {
    let mut door = served_within(HttpLimits { stop_timeout: Duration::from_millis(100), ..HttpLimits::default() });
    let mut stream = door.connect();
    stream.write_all(b"GET /slow.xml HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    door.runtime.block_on(async { door.desk.begun.acquire().await.unwrap().forget() });
    door.stop.send(true).unwrap();
    door.ended();
    assert_eq!(stream.read(&mut [0; 10]).unwrap_or(0), 0);
}

#[test]
fn an_ipv4_peer_of_a_dual_stack_door_is_an_ipv4_peer() {
    let Ok(listener) = listen("[::]:0".parse().unwrap()) else {
        // A machine without IPv6 cannot have the problem.
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let desk = Arc::new(Shelf {
        assets: Path::new("/nonexistent").to_owned(),
        asked: Mutex::default(),
        begun: Semaphore::new(0),
        may_end: Semaphore::new(0),
    });
    let runtime = Runtime::new().unwrap();
    let (stop, stopped) = watch::channel(false);
    let serving = runtime.spawn(serve(listener, Arc::clone(&desk), HttpLimits::default(), stopped));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /phone.xml HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_answer(&mut stream);
    let asked = desk.asked.lock().unwrap()[0].clone();
    assert_eq!(asked.peer, stream.local_addr().unwrap());
    assert_eq!(asked.local, format!("127.0.0.1:{port}").parse().unwrap());
    stop.send(true).unwrap();
    runtime.block_on(serving).unwrap().unwrap();
}
