//! What the machine allows and who else wants it, in words for the person who has to sort it out.

use std::{fs, io, path::Path, sync::OnceLock};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Open files that are none of phones': the registry, libraries, sockets that listen, the door for people.
const OURS: usize = 96;

/// How many files this process may have open, once it has asked for all that it may have: every transfer and connection is one, and the
/// usual soft limit of 1024 is not enough for a building.
pub(crate) fn files() -> Option<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let granted = if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(granted).ok()
}

/// What there is room for at a time. Without it the first address that opens many connections would take what all the others need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) connections: usize,
    pub(crate) transfers: usize,
}

impl Default for Room {
    fn default() -> Room {
        Room { connections: usize::MAX, transfers: usize::MAX }
    }
}

impl Room {
    /// Half for connections and half for transfers, each of which is a socket and may be a file too.
    pub(crate) fn within(files: usize) -> Room {
        let theirs = files.saturating_sub(OURS).max(16);
        Room { connections: theirs / 2, transfers: theirs / 4 }
    }

    /// The most that one address may have of it.
    pub(crate) fn share(of: usize) -> usize {
        of / 4
    }
}

/// Who owns a UDP port, as far as /proc tells: `It is held by asterisk (pid 812).`
pub fn udp_owner(port: u16) -> String {
    owner("udp", port)
}

/// The same for a TCP port that is listened on.
pub fn tcp_owner(port: u16) -> String {
    owner("tcp", port)
}

/// Who holds these ports now: after a process has given up its rights, it sees no other's sockets.
pub(crate) fn remember_owners(tcp: &[u16], udp: &[u16]) {
    let tcp = tcp.iter().map(|port| ("tcp", *port));
    let udp = udp.iter().map(|port| ("udp", *port));
    let held = tcp.chain(udp).map(|(protocol, port)| (inodes(protocol, port), protocol, port));
    let held = held.filter(|(inodes, ..)| !inodes.is_empty());
    let _ = REMEMBERED.set(held.map(|(inodes, protocol, port)| (inodes, owner(protocol, port))).collect());
}

/// Inodes of sockets, and the sentence about who holds them.
static REMEMBERED: OnceLock<Vec<(Vec<u64>, String)>> = OnceLock::new();

fn inodes(protocol: &str, port: u16) -> Vec<u64> {
    [protocol.to_owned(), format!("{protocol}6")]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/net/{table}")).ok())
        .flat_map(|table| table.lines().skip(1).filter_map(|line| inode_of(line, protocol, port)).collect::<Vec<_>>())
        .collect()
}

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// As `ps` shows it.
    pub name: String,
}

/// Who holds these sockets, by the kernel's numbers of them; and whether there were processes that could not be looked into.
pub fn holders(inodes: &[u64]) -> io::Result<(Vec<(u64, Holder)>, bool)> {
    let mut found = Vec::new();
    let mut unreadable = false;
    for process in fs::read_dir("/proc")?.flatten() {
        let path = process.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()) else {
            continue;
        };
        match held(&path, inodes) {
            Ok(held) if held.is_empty() => {}
            Ok(held) => {
                let name = fs::read_to_string(path.join("comm")).unwrap_or_default().trim().to_owned();
                found.extend(held.into_iter().map(|inode| (inode, Holder { pid, name: name.clone() })));
            }
            Err(_) => unreadable = true,
        }
    }
    Ok((found, unreadable))
}

fn owner(protocol: &str, port: u16) -> String {
    let inodes = inodes(protocol, port);
    let remembered = REMEMBERED.get().into_iter().flatten();
    if let Some((_, sentence)) = remembered.into_iter().find(|(held, _)| held.iter().any(|one| inodes.contains(one))) {
        return sentence.clone();
    }
    match holders(&inodes) {
        Err(_) => "Who holds the port is not to be seen here.".into(),
        Ok((found, unreadable)) => match found.first() {
            Some((_, Holder { pid, name })) => format!("It is held by {name} (pid {pid})."),
            None if unreadable && !inodes.is_empty() => {
                format!("It is held by a process that only root can see (`ss -lpn sport = {port}` as root names it).")
            }
            None => format!("Who holds it is not to be seen here (`ss -lpn sport = {port}` may tell)."),
        },
    }
}

/// The inode of a socket table's line, if its local port is the one.
fn inode_of(line: &str, protocol: &str, port: u16) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let local = fields.get(1)?.rsplit_once(':')?.1;
    // State 0A is LISTEN; UDP has no such state.
    let listens = protocol == "udp" || *fields.get(3)? == "0A";
    if !listens || u16::from_str_radix(local, 16) != Ok(port) {
        return None;
    }
    fields.get(9)?.parse().ok()
}

/// Which of these sockets the process holds.
fn held(process: &Path, inodes: &[u64]) -> io::Result<Vec<u64>> {
    let mut held = Vec::new();
    for entry in fs::read_dir(process.join("fd"))?.flatten() {
        if let Ok(target) = fs::read_link(entry.path())
            && let Some(inode) = target
                .to_string_lossy()
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']').and_then(|inode| inode.parse().ok()))
            && inodes.contains(&inode)
        {
            held.push(inode);
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_at_a_time_fits_into_the_files_that_may_be_open() {
        let usual = Room::within(524_288);
        assert!(usual.connections > 100_000 && Room::share(usual.transfers) > 10_000, "{usual:?}");
        for files in [0, 100, 200, 1024, 4096] {
            let room = Room::within(files);
            assert!(
                Room::share(room.transfers) >= 1
                    && room.connections + 2 * room.transfers <= files.max(OURS + 16) - OURS
            );
        }
        assert!(files().is_some_and(|files| files > 0));
    }

    #[test]
    fn the_owner_of_a_port_is_named() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let owner = super::udp_owner(socket.local_addr().unwrap().port());
        assert!(owner.contains(&std::process::id().to_string()), "{owner}");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = super::tcp_owner(listener.local_addr().unwrap().port());
        assert!(owner.contains(&std::process::id().to_string()), "{owner}");
    }
}
