//! What the server holds of the network, for people to see: the interfaces and whether phones are heard on each, the sockets of the
//! doors, and what is missing, in the words of the log. Nothing is decided by it.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use crate::pnp::interfaces::Interface;

/// Interfaces of which is remembered what was heard there. Beyond that all are forgotten and counted anew: a machine that makes and
/// drops them all day (one for each container) must not fill the memory.
const INTERFACES: usize = 256;

#[derive(Debug, Default)]
pub struct Network {
    view: Mutex<View>,
    changes: AtomicU64,
    pub(crate) heard: Arc<Heard>,
}

/// How it stands at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub interfaces: Vec<Interface>,
    /// By the name of the interface: joined, or why not. Of interfaces that were not tried nothing stands here.
    pub joins: BTreeMap<String, Result<(), String>>,
    /// None where phones are not heard.
    pub ears: Option<Hearing>,
    /// Why phones are not heard, if they should be.
    pub deaf: Option<String>,
    pub sockets: Vec<Socket>,
}

/// The socket that hears the group.
#[derive(Clone, Debug)]
pub struct Hearing {
    /// `raw` or `udp`.
    pub kind: &'static str,
    /// Why it is not the raw one that `auto` would rather have.
    pub instead_of_raw: Option<String>,
    /// Bytes, as the kernel granted them.
    pub receive_buffer: usize,
    /// The UDP port that answers come from.
    pub reply_port: u16,
    /// As the kernel numbers sockets.
    pub(crate) inode: Option<u64>,
}

/// Where a door is, or was to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    pub door: &'static str,
    pub address: SocketAddr,
    /// Why it is not open.
    pub refused: Option<String>,
}

/// What the kernel says of the socket that hears the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Bytes that wait to be read.
    pub waiting: u64,
    /// Datagrams lost since the start because there was no room for them.
    pub lost: u64,
}

impl Network {
    fn lock(&self) -> MutexGuard<'_, View> {
        // Each change is one assignment: what another thread left is whole.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> MutexGuard<'_, View> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.lock()
    }

    pub fn view(&self) -> View {
        self.lock().clone()
    }

    /// Another number whenever the view may have changed.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// What was heard on the interface of this index, if anything was.
    pub fn last(&self, interface: u32) -> Option<Last> {
        let heard = self.heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().find(|(index, _)| *index == interface).map(|(_, ear)| ear.last())
    }

    /// Asked of the kernel now.
    pub fn kernel(&self) -> Option<Kernel> {
        let (kind, inode) = self.lock().ears.as_ref().and_then(|ears| Some((ears.kind, ears.inode?)))?;
        let table = fs::read_to_string(format!("/proc/self/net/{kind}")).ok()?;
        table.lines().skip(1).find_map(|line| kernel(line, inode))
    }

    pub(crate) fn interfaces(&self, interfaces: &[Interface]) {
        let mut view = self.change();
        view.joins.retain(|name, _| interfaces.iter().any(|interface| interface.name == *name));
        view.interfaces = interfaces.to_vec();
    }

    /// What became of joining the group there; none: it was left.
    pub(crate) fn joined(&self, interface: &str, outcome: Option<Result<(), String>>) {
        let mut view = self.change();
        match outcome {
            Some(outcome) => drop(view.joins.insert(interface.to_owned(), outcome)),
            None => drop(view.joins.remove(interface)),
        }
    }

    pub(crate) fn hears(&self, ears: Hearing) {
        self.change().ears = Some(ears);
    }

    pub(crate) fn deaf(&self, why: String) {
        let mut view = self.change();
        (view.ears, view.deaf) = (None, Some(why));
    }

    pub(crate) fn socket(&self, door: &'static str, address: SocketAddr, refused: Option<String>) {
        let mut view = self.change();
        view.sockets.retain(|socket| (socket.door, socket.address) != (door, address));
        view.sockets.push(Socket { door, address, refused });
        view.sockets.sort_by_key(|socket| (socket.door, socket.address));
    }

    pub(crate) fn closed(&self, door: &str, address: IpAddr) {
        self.change().sockets.retain(|socket| (socket.door, socket.address.ip()) != (door, address));
    }

    /// Forgets sockets that were refused on addresses that are gone.
    pub(crate) fn only(&self, door: &str, addresses: &[IpAddr]) {
        self.change().sockets.retain(|socket| socket.door != door || addresses.contains(&socket.address.ip()));
    }
}

/// A line of the kernel's table of sockets, if it is the one.
fn kernel(line: &str, inode: u64) -> Option<Kernel> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if fields.get(9)?.parse() != Ok(inode) {
        return None;
    }
    let waiting = u64::from_str_radix(fields.get(4)?.split_once(':')?.1, 16).ok()?;
    Some(Kernel { waiting, lost: fields.get(12)?.parse().ok()? })
}

/// What was heard where. The thread that empties the socket writes numbers and takes the lock only for an interface that is new to it.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Vec<(u32, Arc<Ear>)>>);

/// What was heard on one interface.
#[derive(Debug, Default)]
struct Ear {
    datagrams: AtomicU64,
    /// Milliseconds since 1970.
    at: AtomicU64,
    /// Address and port.
    from: AtomicU64,
}

/// The last datagram heard on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Datagrams since the start, this one among them.
    pub datagrams: u64,
    /// Milliseconds since 1970.
    pub at: u64,
    pub from: SocketAddrV4,
}

impl Ear {
    fn last(&self) -> Last {
        // The three may be of two datagrams that came within the same microsecond, which does no harm to who looks at a page.
        let from = self.from.load(Ordering::Relaxed);
        Last {
            datagrams: self.datagrams.load(Ordering::Relaxed),
            at: self.at.load(Ordering::Relaxed),
            from: SocketAddrV4::new(Ipv4Addr::from((from >> 16) as u32), from as u16),
        }
    }
}

/// The pen of the one thread that listens.
#[derive(Debug)]
pub(crate) struct Notes {
    heard: Arc<Heard>,
    known: HashMap<u32, Arc<Ear>>,
}

impl Notes {
    pub(crate) fn new(heard: Arc<Heard>) -> Notes {
        Notes { heard, known: HashMap::new() }
    }

    pub(crate) fn heard(&mut self, interface: u32, from: SocketAddrV4) {
        let ear = match self.known.get(&interface) {
            Some(ear) => ear,
            None => self.new_ear(interface),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        ear.datagrams.fetch_add(1, Ordering::Relaxed);
        ear.at.store(now, Ordering::Relaxed);
        ear.from.store(u64::from(u32::from(*from.ip())) << 16 | u64::from(from.port()), Ordering::Relaxed);
    }

    fn new_ear(&mut self, interface: u32) -> &Arc<Ear> {
        let mut heard = self.heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.known.len() >= INTERFACES {
            self.known.clear();
            heard.clear();
        }
        let ear = Arc::new(Ear::default());
        heard.push((interface, Arc::clone(&ear)));
        self.known.entry(interface).or_insert(ear)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_each_interface_is_kept_and_no_more_interfaces_than_there_may_be() {
        let network = Network::default();
        let mut notes = Notes::new(Arc::clone(&network.heard));
        let from = |port| SocketAddrV4::new("192.0.2.77".parse().unwrap(), port);
        notes.heard(2, from(5060));
        notes.heard(2, from(65_535));
        let last = network.last(2).unwrap();
        assert_eq!((last.datagrams, last.from), (2, from(65_535)));
        assert!(last.at > 1_600_000_000_000 && network.last(3).is_none());
        for index in 3..2 + INTERFACES as u32 {
            notes.heard(index, from(1));
        }
        assert_eq!(network.last(2).unwrap().datagrams, 2, "as many as there may be");
        notes.heard(9999, from(1));
        assert_eq!((network.last(2), network.last(9999).unwrap().datagrams), (None, 1));
    }

    #[test]
    fn the_kernel_is_understood() {
        let line = "   75: 4B0100E0:0011 00000000:0000 07 00000000:0000A200 00:00000000 00000000     0        0 34137 2 00000000f4cd 17";
        assert_eq!(kernel(line, 34137), Some(Kernel { waiting: 0xa200, lost: 17 }));
        assert_eq!(kernel(line, 3413), None);
        assert_eq!(kernel("", 1), None);
    }

    #[test]
    fn a_door_stands_once_with_what_it_came_to_last() {
        let network = Network::default();
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        network.socket("tftp", address("192.0.2.1:69"), Some("in use".into()));
        network.socket("http", address("0.0.0.0:8080"), None);
        network.socket("tftp", address("192.0.2.1:69"), None);
        network.socket("tftp", address("192.0.2.9:69"), Some("in use".into()));
        let shown = |network: &Network| -> Vec<String> {
            let sockets = network.view().sockets;
            sockets.iter().map(|at| format!("{} {} {}", at.door, at.address, at.refused.is_some())).collect()
        };
        assert_eq!(shown(&network), ["http 0.0.0.0:8080 false", "tftp 192.0.2.1:69 false", "tftp 192.0.2.9:69 true"]);
        network.only("tftp", &["192.0.2.1".parse().unwrap()]);
        network.closed("http", "0.0.0.0".parse().unwrap());
        assert_eq!(shown(&network), ["tftp 192.0.2.1:69 false"]);
    }
}
