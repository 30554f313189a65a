//! The MAC of a phone that does not say it: what the kernel knows of its neighbours.

use std::{fs, net::Ipv4Addr};

use provost_plugin::MacAddr;

/// The MAC behind an address on one of our own segments, if the kernel has it by now (proc_net(5), `/proc/net/arp`).
pub(super) fn mac_of(address: Ipv4Addr) -> Option<MacAddr> {
    find(&fs::read_to_string("/proc/net/arp").ok()?, address)
}

fn find(table: &str, address: Ipv4Addr) -> Option<MacAddr> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let of = columns.next()?.parse::<Ipv4Addr>().ok()?;
        let flags = columns.nth(1)?;
        let mac: MacAddr = columns.next()?.parse().ok()?;
        // ATF_COM: the neighbour has answered. Until then the MAC is zeros.
        let complete = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()? & 2 != 0;
        (of == address && complete).then_some(mac)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_neighbour_that_has_answered_has_a_mac() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.20.0.7        0x1         0x2         00:90:8f:60:2a:ac     *        eth0\n\
                     10.20.0.8        0x1         0x0         00:00:00:00:00:00     *        eth0\n\
                     nonsense\n";
        assert_eq!(find(table, Ipv4Addr::new(10, 20, 0, 7)), "00:90:8f:60:2a:ac".parse().ok());
        assert_eq!(find(table, Ipv4Addr::new(10, 20, 0, 8)), None);
        assert_eq!(find(table, Ipv4Addr::new(10, 20, 0, 9)), None);
        assert_eq!(find("", Ipv4Addr::new(10, 20, 0, 7)), None);
    }
}
