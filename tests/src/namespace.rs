//! A network namespace as a value: made when it is made, gone when it goes.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::tools;

/// Where iproute2 keeps them.
const PLACE: &str = "/run/netns";
const PREFIX: &str = "provost-";

#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace with its loopback up. `role` is the last part of its name, for whoever looks at `ip netns list` meanwhile.
    pub fn new(role: &str) -> Namespace {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes network namespaces and must be run as root: cargo test --no-run, then run the test binary with sudo"
        );
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = Namespace { name: format!("{PREFIX}{}-{number}-{role}", std::process::id()) };
        add(&namespace.name);
        namespace.ip("link set lo up");
        // Router solicitations and the like only stand in the way in captures. Kernels without IPv6 have no such file.
        namespace.enter(|| drop(fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")));
        namespace.enter(|| drop(fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")));
        namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run in here.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(tools::require("ip"));
        command.args(["netns", "exec", &self.name]).arg(program.as_ref());
        command
    }

    /// Runs `work` on a thread that has moved in here, and waits for it. What it opens stays in the namespace, wherever it is used.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file =
            fs::File::open(self.path()).unwrap_or_else(|error| panic!("cannot open namespace {}: {error}", self.name));
        let moved = move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap_or_else(|error| panic!("cannot enter a namespace: {error}"));
            work()
        };
        // A thread of its own that ends here: the namespace belongs to the thread, and the caller keeps its own.
        thread::scope(|scope| scope.spawn(moved).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs asynchronous work in here to its end, on a runtime of one thread.
    pub fn block_on<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        self.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(work())
        })
    }

    /// A UDP socket in here, usable from anywhere. Reads from it end after five seconds.
    pub fn udp(&self, address: impl Into<SocketAddr>) -> UdpSocket {
        let address = address.into();
        let socket = self
            .enter(|| UdpSocket::bind(address))
            .unwrap_or_else(|error| panic!("cannot bind {address} in {}: {error}", self.name));
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a timeout above zero");
        socket
    }

    /// Runs iproute2's commands in here, one a line.
    pub fn ip(&self, commands: &str) {
        let mut ip = Command::new(tools::require("ip"));
        ip.args(["-n", &self.name, "-batch", "-"]);
        tools::feed(&mut ip, commands.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{commands}"));
    }

    /// Loads these nftables rules in here.
    pub fn nft(&self, rules: &str) {
        let mut nft = self.command(tools::require("nft"));
        tools::feed(nft.args(["-f", "-"]), rules.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{rules}"));
    }

    fn path(&self) -> PathBuf {
        Path::new(PLACE).join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let deleted = delete(&self.name);
        if !thread::panicking() {
            deleted.unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

fn add(name: &str) {
    // The first `ip netns add` on a machine makes the directory a shared mount, and two at once can trip over each other.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let attempt = || tools::feed(Command::new(tools::require("ip")).args(["netns", "add", name]), b"");
    if let Err(error) = attempt().or_else(|_| attempt()) {
        panic!("{error}");
    }
}

fn delete(name: &str) -> Result<(), String> {
    tools::feed(Command::new(tools::require("ip")).args(["netns", "delete", name]), b"").map(drop)
}

/// Takes away what test processes that were killed have left.
fn sweep() {
    for entry in fs::read_dir(PLACE).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok())
            && !Path::new(&format!("/proc/{owner}")).exists()
        {
            // Another process may be sweeping the same.
            drop(delete(&name));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::receive;

    #[test]
    fn a_namespace_is_there_as_long_as_its_value() {
        let namespace = Namespace::new("life");
        let path = namespace.path();
        assert!(path.exists());
        let listed = String::from_utf8(namespace.command("ip").args(["-br", "link"]).output().unwrap().stdout).unwrap();
        assert_eq!(listed.lines().count(), 1, "only its loopback: {listed}");
        drop(namespace);
        assert!(!path.exists());
    }

    #[test]
    fn a_namespace_goes_with_a_test_that_panics() {
        let panic = std::panic::catch_unwind(|| {
            let namespace = Namespace::new("panic");
            let name = namespace.name.clone();
            namespace.enter(|| std::panic::resume_unwind(Box::new(name)));
        });
        let name = *panic.unwrap_err().downcast::<String>().unwrap();
        assert!(!Path::new(PLACE).join(name).exists());
    }

    #[test]
    fn only_the_thread_that_entered_is_inside() {
        let namespace = Namespace::new("inside");
        let own = || fs::read_link("/proc/thread-self/ns/net").unwrap();
        assert_ne!(namespace.enter(own), own());
        assert_eq!(namespace.enter(own), namespace.block_on(async || own()));
    }

    #[test]
    fn a_socket_stays_where_it_was_opened() {
        let (one, other) = (Namespace::new("one"), Namespace::new("other"));
        let address = (Ipv4Addr::LOCALHOST, 5060);
        let here = one.udp(address);
        // The same address is free in the other namespace, and what is sent there is not heard here.
        let there = other.udp(address);
        other.udp((Ipv4Addr::LOCALHOST, 0)).send_to(b"x", address).unwrap();
        assert_eq!(receive(&there, &mut [0; 8]).unwrap().0, 1);
        here.set_nonblocking(true).unwrap();
        assert!(here.recv(&mut [0; 8]).is_err());
    }
}
