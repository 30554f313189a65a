//! What the machine allows and who else wants it, in words for the person who has to sort it out.

use std::{fs, path::Path};

/// Who owns a UDP port, as far as /proc tells: `It is held by asterisk (pid 812).`
pub fn udp_owner(port: u16) -> String {
    owner("udp", port)
}

/// The same for a TCP port that is listened on.
pub fn tcp_owner(port: u16) -> String {
    owner("tcp", port)
}

fn owner(protocol: &str, port: u16) -> String {
    let inodes: Vec<String> = [protocol.to_owned(), format!("{protocol}6")]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/net/{table}")).ok())
        .flat_map(|table| table.lines().skip(1).filter_map(|line| inode_of(line, protocol, port)).collect::<Vec<_>>())
        .collect();
    let Ok(processes) = fs::read_dir("/proc") else {
        return "Who holds the port is not to be seen here.".into();
    };
    let mut unreadable = false;
    for process in processes.flatten() {
        let path = process.path();
        let Some(pid) = path
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        else {
            continue;
        };
        match holds(&path, &inodes) {
            Ok(true) => {
                let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
                return format!("It is held by {} (pid {pid}).", name.trim());
            }
            Ok(false) => {}
            Err(_) => unreadable = true,
        }
    }
    if unreadable && !inodes.is_empty() {
        return format!("It is held by a process that only root can see (`ss -lpn sport = {port}` as root names it).");
    }
    format!("Who holds it is not to be seen here (`ss -lpn sport = {port}` may tell).")
}

/// The inode of a socket table's line, if its local port is the one.
fn inode_of(line: &str, protocol: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let local = fields.get(1)?.rsplit_once(':')?.1;
    // State 0A is LISTEN; UDP has no such state.
    let listens = protocol == "udp" || *fields.get(3)? == "0A";
    (listens && u16::from_str_radix(local, 16) == Ok(port)).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

fn holds(process: &Path, inodes: &[String]) -> std::io::Result<bool> {
    for entry in fs::read_dir(process.join("fd"))?.flatten() {
        if let Ok(target) = fs::read_link(entry.path())
            && let Some(inode) = target
                .to_string_lossy()
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']').map(str::to_owned))
            && inodes.contains(&inode)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
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
