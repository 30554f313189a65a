//! A server that runs: ours or a peer's, alone in its process group, its log in a file.
//!
//! Not [`provost_tests::Server`]: that one reads the log while the server runs, which on two cores would be measured too.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

/// For a start and for an end; a hundred thousand devices on a busy machine take their time.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a program that stays in the foreground.
    pub(crate) fn start(mut command: Command, log: &Path) -> Running {
        let name = format!("{command:?}");
        let out = fs::File::create(log).unwrap_or_else(|error| panic!("cannot create {}: {error}", log.display()));
        let both = out.try_clone().expect("a file has two ends");
        command.stdin(Stdio::null()).stdout(out).stderr(both).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Running { name, child, log: log.to_owned() }
    }

    /// Waits until it is so; panics with its log if it ends before, or never comes to it.
    pub(crate) fn until(mut self, what: &str, is_it: impl Fn(&Running) -> bool) -> Running {
        let begun = Instant::now();
        while !is_it(&self) {
            let ended = self.child.try_wait().ok().flatten();
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(status) = ended {
                panic!("{} ended with {status} before {what}\n{}", self.name, log());
            }
            assert!(begun.elapsed() < PATIENCE, "{}: not {what} after {PATIENCE:?}\n{}", self.name, log());
            thread::sleep(Duration::from_millis(2));
        }
        self
    }

    pub(crate) fn has_said(&self, text: &str) -> bool {
        fs::read_to_string(&self.log).is_ok_and(|log| log.contains(text))
    }

    /// Whether a table of the kernel's (`tcp`, `udp`, `igmp`), as this process's namespace has it, has a line with all of these words.
    pub(crate) fn kernel_knows(&self, table: &str, words: &[&str]) -> bool {
        let table = fs::read_to_string(format!("/proc/{}/net/{table}", self.child.id())).unwrap_or_default();
        table.lines().any(|line| words.iter().all(|word| line.contains(word)))
    }

    pub(crate) fn listens_on_tcp(&self, port: u16) -> bool {
        self.kernel_knows("tcp", &[&format!(":{port:04X} "), " 0A "])
    }

    pub(crate) fn listens_on_udp(&self, port: u16) -> bool {
        self.kernel_knows("udp", &[&format!(":{port:04X} ")])
    }

    /// Whether somebody in its namespace has joined a multicast group.
    pub(crate) fn has_joined(&self, group: Ipv4Addr) -> bool {
        // As the kernel prints it: the bytes in host order.
        self.kernel_knows("igmp", &[&format!("{:08X}", u32::from_ne_bytes(group.octets()))])
    }

    /// Processor time spent so far by it and the processes that it started, as the kernel counts it: in ticks of a hundredth second.
    pub(crate) fn processor_time(&self) -> Duration {
        let group = self.child.id().to_string();
        let ticks: u64 = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
                // Behind the name, which may hold anything: state, parent, group, …, user time, system time.
                let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
                (fields.get(2)? == &group).then_some(())?;
                Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
            })
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Memory in MiB by its name in /proc: `VmRSS` now, `VmHWM` at most.
    pub(crate) fn memory(&self, name: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or_else(|| panic!("cannot read {name} of {}", self.name)) / 1024.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.child.id() as i32).expect("a process has a number above zero");
        // It may have ended by itself.
        let _ = kill_process_group(group, Signal::TERM);
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}
