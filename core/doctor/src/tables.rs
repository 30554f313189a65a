//! The kernel's tables as /proc/net shows them.

use std::net::Ipv4Addr;

/// A socket of the tables `udp`, `tcp` and `raw`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) table: Table,
    pub(crate) address: Ipv4Addr,
    /// Of a raw socket the protocol.
    pub(crate) port: u16,
    pub(crate) inode: u64,
    /// Datagrams that it had no room for.
    pub(crate) lost: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Udp,
    /// Only those that listen.
    Tcp,
    Raw,
}

/// The sockets of one table. Of IPv6 ones only those that hear everything are told, as the IPv4 wildcard that they take too.
pub(crate) fn sockets(text: &str, table: Table) -> Vec<Socket> {
    text.lines().skip(1).filter_map(|line| socket(line, table)).collect()
}

fn socket(line: &str, table: Table) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.rsplit_once(':')?;
    // LISTEN; the other tables have no such state.
    if table == Table::Tcp && *fields.get(3)? != "0A" {
        return None;
    }
    let address = match address.len() {
        8 => Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes()),
        _ if address.bytes().all(|digit| digit == b'0') => Ipv4Addr::UNSPECIFIED,
        _ => return None,
    };
    let lost = if table == Table::Tcp { 0 } else { fields.get(12).and_then(|lost| lost.parse().ok()).unwrap_or(0) };
    Some(Socket {
        table,
        address,
        port: u16::from_str_radix(port, 16).ok()?,
        inode: fields.get(9)?.parse().ok()?,
        lost,
    })
}

/// How many sockets have joined the group on each interface, by its index: what `ip maddress` and `netstat -g` show.
pub(crate) fn members(igmp: &str, group: Ipv4Addr) -> Vec<(u32, u32)> {
    let wanted = format!("{:08X}", u32::from_ne_bytes(group.octets()));
    let mut index = 0;
    let mut members = Vec::new();
    for line in igmp.lines().skip(1) {
        let mut fields = line.split_whitespace();
        match fields.next() {
            Some(first) if !line.starts_with(['\t', ' ']) => index = first.parse().unwrap_or(0),
            Some(group) if group == wanted => {
                members.push((index, fields.next().and_then(|users| users.parse().ok()).unwrap_or(1)));
            }
            _ => {}
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_of_members_is_read() {
        let igmp = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
                    1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
                    4\teth0      :     2      V3\n\t\t\t\t4B0100E0     3 0:00000000\t\t0\n\t\t\t\t010000E0     1 0:00000000\t\t0\n";
        assert_eq!(members(igmp, Ipv4Addr::new(224, 0, 1, 75)), [(4, 3)]);
        assert_eq!(members("", Ipv4Addr::new(224, 0, 1, 75)), []);
    }

    #[test]
    fn sockets_are_read() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
        let raw = format!(
            "{head}   17: 4B0100E0:0011 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 34137 2 00000000f4cd 17\n"
        );
        let group = Ipv4Addr::new(224, 0, 1, 75);
        let found = Socket { table: Table::Raw, address: group, port: 17, inode: 34137, lost: 17 };
        assert_eq!(sockets(&raw, Table::Raw), [found]);
        let tcp = format!(
            "{head}   0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 1 1 0 100 0 0 10 0\n\
                     1: 0100007F:1F91 0100007F:9999 01 00000000:00000000 00:00000000 00000000  0  0 2 1 0 100 0 0 10 0\n"
        );
        let found = sockets(&tcp, Table::Tcp);
        assert_eq!((found.len(), found[0].address, found[0].port), (1, Ipv4Addr::LOCALHOST, 8081));
        let udp6 = format!(
            "{head}  1: 00000000000000000000000000000000:13C4 00000000000000000000000000000000:0000 07 0:0 00:0 0 0 0 7 2 0 0\n\
                    2: 00000000000000000000000001000000:13C4 00000000000000000000000000000000:0000 07 0:0 00:0 0 0 0 8 2 0 0\n"
        );
        let found = sockets(&udp6, Table::Udp);
        assert_eq!((found.len(), found[0].address, found[0].port), (1, Ipv4Addr::UNSPECIFIED, 5060));
        assert_eq!(sockets("x\ny\n", Table::Udp), []);
    }
}
