//! What the modules share: a vendor of data alone that nobody makes, a server on loopback that serves its phones, and a phone's side
//! of HTTP and TFTP.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use provost_tests::{Plan, Server, built, repository, tools};

pub(crate) const VENDOR_YAML: &str = "\
vendor: Acme
announces: [acme]
ouis: ['02ACDE']
user_agents: ['^Acme (?<model>\\S+) (?<firmware>\\S+) (?<mac>[0-9a-f]{12})$']
models: { Desk: { lines: 4 } }
files: [{ name: 'acme-{mac}.cfg', template: device.cfg.j2 }]
formats: { cfg: { escape: line, content_type: text/plain, setting: '^([^#=]+?) *=' } }
announce: { url: '{base}acme-{mac}.cfg' }
";

pub(crate) const TEMPLATE: &str = "\
# template one
base = {{ phone.base_url }}
server = {{ phone.sip.server }}
proxy = {{ phone.sip.outbound_proxy }}
{% for line in phone.lines %}
line.{{ line.position }}.number = {{ line.number }}
line.{{ line.position }}.password = {{ line.password }}
{% endfor %}
";

/// The defaults of the site; what differs between versions of it is the server's name.
pub(crate) fn defaults(server: &str) -> String {
    format!("defaults:\n  sip: {{ server: {server} }}\n")
}

/// The file of the `number`th phone.
pub(crate) fn device(number: u8, password: &str) -> String {
    format!(
        "devices:\n  02:ac:de:00:00:{number:02x}:\n    lines:\n      - {{ number: \"10{number}\", password: {password} }}\n"
    )
}

pub(crate) fn file(number: u8) -> String {
    format!("acme-02acde0000{number:02x}.cfg")
}

/// A server to be: one vendor, three phones in files of their own, and no PnP.
pub(crate) fn plan() -> Plan {
    let plan = bare_plan()
        .file("plugins/acme/vendor.yaml", VENDOR_YAML)
        .file("templates/acme/device.cfg.j2", TEMPLATE)
        .file("profiles/site.yaml", defaults("one.example"));
    (1..=3)
        .fold(plan, |plan, number| plan.file(&format!("profiles/devices/{number}.yaml"), device(number, "secret-word")))
}

/// A server to be, without any vendor.
pub(crate) fn bare_plan() -> Plan {
    let plan = Plan::on_loopback();
    for directory in ["plugins", "templates"] {
        fs::remove_dir_all(plan.data().join(directory)).unwrap();
        fs::create_dir(plan.data().join(directory)).unwrap();
    }
    plan
}

/// A running server and its TFTP port.
#[derive(Debug)]
pub(crate) struct Site {
    server: Server,
    tftp: SocketAddr,
}

impl Deref for Site {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Site {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// Starts it without PnP, and waits until it serves.
pub(crate) fn start(plan: Plan) -> Site {
    serve(plan.flags(["--no-pnp"]))
}

/// Starts it with all that the plan says, and waits until it serves.
pub(crate) fn serve(plan: Plan) -> Site {
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let tftp = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let server = plan.tftp(tftp).start().ready();
    server.wait_for("start", |line| line.is("message", "serving"));
    Site { server, tftp: tftp.into() }
}

/// What HTTP brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn says(&self, words: &str) -> bool {
        self.status == 200 && (self.body.contains(words) || self.head.contains(words))
    }
}

impl Site {
    /// Whether nobody listens at either door.
    pub(crate) fn is_shut(&self) -> bool {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(self.tftp).unwrap();
        // A server that is there answers that there is no such file, or from another port, which is not heard here.
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.send(b"\0\x01x\0octet\0").unwrap();
        // The kernel's own answer for a port that nobody has.
        let tftp = socket.recv(&mut [0; 16]).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        tftp && TcpStream::connect(self.http()).is_err()
    }

    pub(crate) fn tftp_port(&self) -> u16 {
        self.tftp.port()
    }

    pub(crate) fn http(&self) -> SocketAddr {
        let url = self.http_url(Ipv4Addr::LOCALHOST);
        url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(self) -> Plan {
        self.server.kill()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_as(path, "Test")
    }

    pub(crate) fn get_as(&self, path: &str, user_agent: &str) -> Answer {
        let mut stream = self.connect();
        write!(
            stream,
            "GET /{path} HTTP/1.1\r\nHost: provost\r\nUser-Agent: {user_agent}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to GET {path}: {text}"));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// Fetches over TFTP in octets; the code and the words of an ERROR otherwise.
    pub(crate) fn tftp(&self, path: &str) -> Result<Vec<u8>, (u16, String)> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.send_to(format!("\0\x01{path}\0octet\0").as_bytes(), self.tftp).unwrap();
        let (mut content, mut buffer, mut expected) = (Vec::new(), [0; 2048], 1u16);
        loop {
            let (len, from) = socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("TFTP {path}: {error}"));
            let (head, rest) = buffer[..len].split_at(4);
            let number = u16::from_be_bytes([head[2], head[3]]);
            match head[1] {
                3 => {
                    socket.send_to(&[0, 4, head[2], head[3]], from).unwrap();
                    if number == expected {
                        content.extend_from_slice(rest);
                        expected = expected.wrapping_add(1);
                        if rest.len() < 512 {
                            return Ok(content);
                        }
                    }
                }
                5 => return Err((number, String::from_utf8_lossy(rest).trim_end_matches('\0').to_owned())),
                other => panic!("TFTP {path}: packet {other}"),
            }
        }
    }

    /// Asks until the answer is as wanted, and says how long that took.
    pub(crate) fn until(&self, what: &str, path: &str, wanted: impl Fn(&Answer) -> bool) -> Duration {
        let began = Instant::now();
        loop {
            let answer = self.get(path);
            if wanted(&answer) {
                return began.elapsed();
            }
            if began.elapsed() > Duration::from_secs(8) {
                let log: Vec<_> =
                    self.log().into_iter().map(|line| line.text).filter(|text| !text.contains("\"fetch\"")).collect();
                panic!("{what}: not in service after 8 s; the answer is still {answer:?}\n{}", log.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    /// The words of the command line with which a command sees what this server sees.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        command(self.data(), words)
    }

    /// Waits until a line of the log after `mark` refuses something at this place.
    pub(crate) fn refused(&self, mark: usize, place: &str) -> String {
        let line = self.wait_after(mark, &format!("refusal at {place}"), |line| {
            line.field("message")
                .as_str()
                .is_some_and(|message| message.starts_with("refused: ") && message.contains(place))
        });
        line.field("message").as_str().unwrap().to_owned()
    }
}

/// A command on the data directory, with nothing of the developer's environment.
pub(crate) fn command(data: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(&built().provost);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PROVOST_")) {
        command.env_remove(name);
    }
    if data.join("provost.yaml").exists() {
        command.arg("--settings").arg(data.join("provost.yaml"));
    }
    command.arg("--data").arg(data).current_dir(data).args(words);
    command
}

/// Runs a command to its end: its exit code, what it printed, and what it complained of.
pub(crate) fn run(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or_else(|| panic!("{command:?} ended with {status}")), text(stdout), text(stderr))
}

/// Compiles a fixture in C to a library.
pub(crate) fn compile(source: &str, to: &Path, defines: &[&str]) {
    let mut cc = Command::new(tools::require("cc"));
    cc.args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-I"]).arg(repository().join("plugins/sdk"));
    cc.args(defines.iter().map(|define| format!("-D{define}"))).arg("-o").arg(to);
    cc.arg(repository().join("tests/fixtures").join(source));
    let output = cc.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Replaces as a person does with `mv`: at once.
pub(crate) fn rename_over(path: &Path, content: impl AsRef<[u8]>) {
    let new = path.with_extension("new-version~");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}
