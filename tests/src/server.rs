//! The real `provost`, on a network of the test's or on loopback, with a data directory of its own.

use std::{
    fmt, fs,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{Host, built, repository};

/// For whatever the server is waited for. A busy machine is slow; nothing here waits so long when all is well.
const PATIENCE: Duration = Duration::from_secs(20);
/// For lines of the log that are on their way.
const SETTLED: Duration = Duration::from_millis(30);

/// A server to be started. The data directory is there already, with the shipped templates and plugins in it, so a test can write into it
/// what it wants to be found there.
#[derive(Clone, Debug)]
pub struct Plan {
    data: Arc<tempfile::TempDir>,
    binary: Option<PathBuf>,
    namespace: Option<String>,
    http: SocketAddrV4,
    tftp: SocketAddrV4,
    admin: SocketAddrV4,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    pardons_panics: bool,
}

impl Plan {
    /// For a server on this host of a [`crate::Lan`], with its doors open on all of the host's addresses at the ports of custom.
    ///
    /// A host of a [`crate::Lan`] plays many phones and has the MAC address of none, so everybody may ask from everywhere.
    pub fn on(host: &Host) -> Plan {
        Plan::as_shipped_on(host).file("profiles/lab.yaml", "defaults: { trust: { address: anywhere } }\n")
    }

    /// The same as it comes, where phones have to have their own MAC addresses.
    pub fn as_shipped_on(host: &Host) -> Plan {
        let any = |port| SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
        Plan { namespace: Some(host.name().to_owned()), http: any(8080), tftp: any(69), ..Plan::on_loopback() }
    }

    /// For a server that is reached on this machine alone, at ports that were free a moment ago.
    pub fn on_loopback() -> Plan {
        let free = || std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let (tcp, people) = (free(), free());
        let udp = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let [http, tftp, admin] = [tcp, udp, people]
            .map(|address| SocketAddrV4::new(Ipv4Addr::LOCALHOST, address.expect("loopback is up").port()));
        let data = tempfile::tempdir().expect("a temporary directory");
        for directory in ["profiles", "templates", "plugins"] {
            fs::create_dir(data.path().join(directory)).expect("a fresh directory");
        }
        copy(&repository().join("templates"), &data.path().join("templates"), &|_| true);
        // Of a plugin's folder what is data; its library is found beside the program.
        copy(&repository().join("plugins"), &data.path().join("plugins"), &|path| {
            path.is_dir()
                || path.ends_with("vendor.yaml")
                || path.extension().is_some_and(|extension| extension == "j2")
                || path.parent().is_some_and(|folder| folder.ends_with("captures"))
        });
        Plan {
            data: Arc::new(data),
            binary: None,
            namespace: None,
            http,
            tftp,
            admin,
            flags: Vec::new(),
            environment: Vec::new(),
            pardons_panics: false,
        }
    }

    /// Another program than the one just built.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Plan {
        self.binary = Some(path.into());
        self
    }

    /// Writes a file below the data directory: `profiles/site.yaml`, `overrides/VENDOR/x.j2`, `provost.yaml`.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Plan {
        write(self.data.path(), name, content.as_ref());
        self
    }

    pub fn http(mut self, address: SocketAddrV4) -> Plan {
        self.http = address;
        self
    }

    pub fn tftp(mut self, address: SocketAddrV4) -> Plan {
        self.tftp = address;
        self
    }

    /// Further flags of `serve`.
    pub fn flags<const N: usize>(mut self, flags: [&str; N]) -> Plan {
        self.flags.extend(flags.map(str::to_owned));
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Plan {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// For tests of plugins that panic: panics in the log are then no failure.
    pub fn pardon_panics(mut self) -> Plan {
        self.pardons_panics = true;
        self
    }

    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Starts it. It may not be ready yet: see [`Server::ready`].
    pub fn start(self) -> Server {
        let mut command = self.command();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let log = Log::default();
        let readers = vec![
            log.read(child.stdout.take().expect("it is piped")),
            log.read(child.stderr.take().expect("it is piped")),
        ];
        Server { plan: self, child, log, readers, ended: None }
    }

    fn command(&self) -> Command {
        let program = self.binary.clone().unwrap_or_else(|| built().provost.clone());
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new(crate::tools::require("ip"));
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
            None => Command::new(program),
        };
        let data = self.data.path();
        command.arg("serve").arg("--data").arg(data);
        for directory in ["profiles", "templates", "plugins"] {
            command.arg(format!("--{directory}")).arg(data.join(directory));
        }
        let settings = data.join("provost.yaml");
        if settings.exists() {
            command.arg("--settings").arg(settings);
        }
        command.args(["--http", &self.http.to_string(), "--tftp", &self.tftp.to_string(), "--log-format", "json"]);
        command.args(["--admin", &self.admin.to_string()]);
        // What the developer's shell says of a provost of his own is not meant for this one.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PROVOST_")) {
            command.env_remove(name);
        }
        command.args(&self.flags).envs(self.environment.iter().cloned()).current_dir(data);
        command
    }
}

/// A running server. It is ended, and judged by its log, when it goes.
#[derive(Debug)]
pub struct Server {
    plan: Plan,
    child: Child,
    log: Log,
    readers: Vec<thread::JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Server {
    /// Waits until all doors are open, which the kernel knows best: the HTTP port listens, the TFTP port is bound, and the group of PnP
    /// is joined.
    pub fn ready(mut self) -> Server {
        let pid = self.child.id();
        let table = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
        let port = |address: SocketAddrV4| format!(":{:04X} ", address.port());
        // As the kernel prints it: the bytes of 224.0.1.75 in host order.
        let group = format!("{:08X}", u32::from_ne_bytes(Ipv4Addr::new(224, 0, 1, 75).octets()));
        let (http, tftp) = (port(self.plan.http), port(self.plan.tftp));
        let until = Instant::now() + PATIENCE;
        loop {
            let shut = |flag: &str| {
                self.plan.flags.iter().any(|given| given == flag || given == "--url" && flag != "--no-pnp")
            };
            let missing = [
                (
                    "HTTP",
                    shut("--no-http") || table("tcp").lines().any(|line| line.contains(&http) && line.contains(" 0A ")),
                ),
                ("TFTP", shut("--no-tftp") || table("udp").contains(&tftp)),
                ("PnP", shut("--no-pnp") || table("igmp").contains(&group)),
            ];
            let missing: Vec<_> = missing.into_iter().filter(|(_, open)| !open).map(|(door, _)| door).collect();
            if missing.is_empty() {
                return self;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                self.ended = Some(status);
                panic!("the server ended with {status} before it was ready\n{}", self.log);
            }
            assert!(
                Instant::now() < until,
                "not ready after {PATIENCE:?}; missing: {}\n{}",
                missing.join(", "),
                self.log
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where its files are: profiles, templates, plugins.
    pub fn data(&self) -> &Path {
        self.plan.data.path()
    }

    /// Writes a file below the data directory, at once and whole, as editors do.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        write(self.data(), name, content.as_ref());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The door for people.
    pub fn admin(&self) -> SocketAddrV4 {
        self.plan.admin
    }

    /// The base URL of HTTP as a phone on this address's network sees it.
    pub fn http_url(&self, address: Ipv4Addr) -> String {
        format!("http://{address}:{}/", self.plan.http.port())
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process has a number above zero");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot send {signal:?} to the server: {error}"));
    }

    /// Waits for a line of the log, from the first one on; `what` is for the failure.
    pub fn wait_for(&self, what: &str, is_it: impl Fn(&Line) -> bool) -> Line {
        self.wait_after(0, what, is_it)
    }

    /// The same, among the lines after a [`Server::mark`].
    pub fn wait_after(&self, mark: usize, what: &str, is_it: impl Fn(&Line) -> bool) -> Line {
        self.log.wait(mark, what, is_it)
    }

    /// How many lines there are of what the server has done by now.
    pub fn mark(&self) -> usize {
        self.log.settled().len()
    }

    /// The lines of what the server has done by now.
    pub fn log(&self) -> Vec<Line> {
        self.log.settled().clone()
    }

    /// Ends it as a power cut would; what it left on disk is in the plan that comes back.
    pub fn kill(mut self) -> Plan {
        drop(self.child.kill());
        self.ended = Some(self.child.wait().expect("the server is our child"));
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        self.plan.clone()
    }

    pub fn is_running(&mut self) -> bool {
        self.ended.is_none() && matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end, as systemd does, and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::TERM);
        }
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("the server is our child") {
                Some(status) => break status,
                None if Instant::now() > until => {
                    drop(self.child.kill());
                    drop(self.child.wait());
                    panic!("the server did not end within {PATIENCE:?} of SIGTERM\n{}", self.log);
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        self.ended = Some(status);
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        status
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            // The test has its failure; a second panic would abort and hide it.
            drop(self.child.kill());
            drop(self.child.wait());
            return;
        }
        let ended_by_the_test = self.ended.is_some();
        let status = self.stop();
        let panics: Vec<_> =
            self.log.lines().iter().filter(|line| line.text.contains("panicked at")).cloned().collect();
        assert!(panics.is_empty() || self.plan.pardons_panics, "the server panicked: {panics:#?}");
        assert!(ended_by_the_test || status.success(), "the server ended with {status}\n{}", self.log);
    }
}

/// A line of the log.
#[derive(Clone, Debug)]
pub struct Line {
    pub text: String,
    /// Of a line that is JSON; null otherwise.
    pub json: Value,
}

impl Line {
    /// A field of the event, wherever the log's form puts it: at the top, or under `fields`.
    pub fn field(&self, name: &str) -> &Value {
        match &self.json[name] {
            Value::Null => &self.json["fields"][name],
            value => value,
        }
    }

    pub fn is(&self, name: &str, value: &str) -> bool {
        self.field(name) == value
    }
}

/// Lines as they come, and somebody waiting for them.
#[derive(Clone, Debug, Default)]
struct Log(Arc<(Mutex<Vec<Line>>, Condvar)>);

impl Log {
    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.0.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn read(&self, stream: impl Read + Send + 'static) -> thread::JoinHandle<()> {
        let log = self.clone();
        thread::spawn(move || {
            for bytes in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let json = serde_json::from_str(&text).unwrap_or_default();
                log.lines().push(Line { text, json });
                log.0.1.notify_all();
            }
        })
    }

    /// A line is written some moments after what it tells of, and nothing tells which is the last; so none has come for a while.
    fn settled(&self) -> MutexGuard<'_, Vec<Line>> {
        let until = Instant::now() + 10 * SETTLED;
        let mut lines = self.lines();
        loop {
            let count = lines.len();
            lines = self.0.1.wait_timeout(lines, SETTLED).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            if lines.len() == count || Instant::now() > until {
                return lines;
            }
        }
    }

    fn wait(&self, from: usize, what: &str, is_it: impl Fn(&Line) -> bool) -> Line {
        let until = Instant::now() + PATIENCE;
        let mut seen = from;
        let mut lines = self.lines();
        loop {
            if let Some(line) = lines.iter().skip(seen).find(|line| is_it(line)) {
                return line.clone();
            }
            seen = seen.max(lines.len());
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(lines);
                panic!("no {what} in the log within {PATIENCE:?}\n{self}");
            }
            lines = self.0.1.wait_timeout(lines, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        // The end tells most; all of a busy server's log would bury the failure.
        let first = lines.len().saturating_sub(60);
        writeln!(f, "the server's log, from line {first}:")?;
        lines[first..].iter().try_for_each(|line| writeln!(f, "{}", line.text))
    }
}

fn write(data: &Path, name: &str, content: &[u8]) {
    let path = data.join(name);
    let parent = path.parent().expect("a file below the data directory");
    let act = || -> std::io::Result<()> {
        fs::create_dir_all(parent)?;
        // Beside the data directory's own folders, so that nobody watches the half-written file.
        let new = tempfile::NamedTempFile::new_in(data)?;
        fs::write(new.path(), content)?;
        new.persist(&path)?;
        Ok(())
    };
    act().unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// Copies what `wanted` says, folders with it. Folders that then hold nothing are left out.
fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) {
    let entries = fs::read_dir(from).unwrap_or_else(|error| panic!("cannot read {}: {error}", from.display()));
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| wanted(path)) {
        let to = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy(&path, &to, wanted);
        } else {
            fs::create_dir_all(to.parent().expect("it is below the data directory"))
                .and_then(|()| fs::copy(&path, &to))
                .unwrap_or_else(|error| panic!("cannot copy {} to {}: {error}", path.display(), to.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt, process::ExitStatusExt};

    use super::*;

    /// A program that stands for the server: it prints its arguments as a line of the log, and then what it is told.
    fn stand_in(script: &str) -> Plan {
        let plan = Plan::on_loopback();
        let program = plan.data().join("stand-in");
        let head = "#!/bin/sh\nprintf '{\"fields\":{\"message\":\"started\",\"arguments\":\"%s\"}}\\n' \"$*\" >&2\n";
        fs::write(&program, format!("{head}{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        plan.binary(program)
    }

    #[test]
    fn a_line_is_waited_for_and_found_however_late_it_comes() {
        let server = stand_in("trap 'echo going; exit 0' TERM; sleep 0.2; echo '{\"outcome\":\"rendered\"}'; while :; do sleep 0.05; done").start();
        let line = server.wait_for("start", |line| line.is("message", "started"));
        let arguments = line.field("arguments").as_str().unwrap().to_owned();
        assert!(arguments.starts_with("serve --data ") && arguments.contains("--log-format json"), "{arguments}");
        let line = server.wait_after(1, "rendering", |line| line.is("outcome", "rendered"));
        assert_eq!(line.text, "{\"outcome\":\"rendered\"}");
    }

    #[test]
    fn a_server_is_asked_to_end_and_heard_to_its_last_word() {
        let mut server = stand_in("trap 'echo going; exit 3' TERM; echo up; while :; do sleep 0.05; done").start();
        server.wait_for("up", |line| line.text == "up");
        assert_eq!(server.stop().code(), Some(3));
        assert_eq!(server.log().last().unwrap().text, "going");
    }

    #[test]
    #[should_panic(expected = "the server panicked")]
    fn a_panic_in_the_log_fails_the_test() {
        let server = stand_in("echo \"thread 'main' panicked at src/x.rs:1:1:\" >&2").start();
        server.wait_for("panic", |line| line.text.contains("src/x.rs"));
    }

    #[test]
    fn a_panic_can_be_pardoned_and_an_early_end_is_no_surprise() {
        let mut server = stand_in("trap '' TERM; echo panicked at >&2; kill -9 $$").pardon_panics().start();
        server.wait_for("panic", |line| line.text == "panicked at");
        assert_eq!(server.stop().signal(), Some(9));
    }

    #[test]
    #[should_panic(expected = "before it was ready")]
    fn a_server_that_ends_at_once_is_not_waited_for() {
        stand_in("exit 2").start().ready();
    }

    #[test]
    fn files_are_written_whole_below_the_data_directory() {
        let plan = Plan::on_loopback().file("profiles/devices/a.yaml", "x: 1");
        assert_eq!(fs::read_to_string(plan.data().join("profiles/devices/a.yaml")).unwrap(), "x: 1");
        assert_eq!(fs::read_dir(plan.data()).unwrap().count(), 3, "only profiles, templates, plugins");
        let rust = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
        fn any(directory: &Path, is: &dyn Fn(&Path) -> bool) -> bool {
            fs::read_dir(directory)
                .unwrap()
                .flatten()
                .any(|entry| is(&entry.path()) || entry.path().is_dir() && any(&entry.path(), is))
        }
        assert!(!any(&plan.data().join("plugins"), &rust), "of plugins only what is data");
    }
}
