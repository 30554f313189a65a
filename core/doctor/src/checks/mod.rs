//! The checks. Each looks at the facts and says what stands in the way; none asks anybody.

mod buffer;
mod clock;
mod echo;
mod firewall;
mod links;
mod membership;
mod neighbours;
mod ports;
mod resolver;
mod reverse_path;
mod snooping;
mod subnet;

pub(crate) use firewall::fates;

use crate::{Finding, Severity, facts::Facts};

/// Everything that stands in the way, the worst first.
pub(crate) fn findings(facts: &Facts) -> Vec<Finding> {
    let checks: [fn(&Facts) -> Vec<Finding>; 12] = [
        links::check,
        membership::check,
        firewall::check,
        echo::check,
        reverse_path::check,
        ports::check,
        subnet::check,
        snooping::check,
        buffer::check,
        neighbours::check,
        clock::check,
        resolver::check,
    ];
    let mut findings: Vec<Finding> = checks.iter().flat_map(|check| check(facts)).collect();
    findings.sort_by_key(|finding| finding.severity);
    findings
}

fn error(check: &'static str, interface: Option<&str>, what: String, do_next: impl Into<String>) -> Finding {
    Finding { check, severity: Severity::Error, interface: interface.map(str::to_owned), what, do_next: do_next.into() }
}

fn warning(check: &'static str, interface: Option<&str>, what: String, do_next: impl Into<String>) -> Finding {
    Finding { severity: Severity::Warning, ..error(check, interface, what, do_next) }
}

#[cfg(test)]
pub(crate) mod sample {
    //! A machine on which all is well, to be broken.

    use std::time::SystemTime;

    use provost_server::{
        limits::Holder,
        pnp::interfaces::{Address, Interface},
    };

    use crate::{
        facts::{Clock, Door, Facts, Held, Link, Resolver, Wanted},
        tables::{Socket, Table},
    };

    pub(crate) fn link(name: &str, index: u32, address: &str) -> Link {
        let address = Address { address: address.parse().unwrap(), mask: "255.255.0.0".parse().unwrap() };
        Link {
            interface: Interface { name: name.into(), index, up: true, multicast: true, addresses: vec![address] },
            loopback: false,
            broadcast: true,
            carrier: true,
            vlan: None,
            carries: Vec::new(),
            bridge: None,
            part_of: None,
            members: 1,
            reverse_path: 0,
        }
    }

    pub(crate) fn held(table: Table, address: &str, port: u16, by: &str) -> Held {
        let socket = Socket { table, address: address.parse().unwrap(), port, inode: 1, lost: 0 };
        Held { socket, holder: Some(Holder { pid: 12, name: by.into() }) }
    }

    pub(crate) fn facts() -> Facts {
        Facts {
            wanted: Wanted {
                pnp: true,
                group: "224.0.1.75:5060".parse().unwrap(),
                interfaces: Vec::new(),
                off_link: false,
                receive_buffer: 16 << 20,
                reply_port: 0,
                doors: vec![
                    Door { name: "HTTP", protocol: 6, port: 8080 },
                    Door { name: "TFTP", protocol: 17, port: 69 },
                ],
            },
            links: vec![link("eth0", 2, "10.200.0.1")],
            sockets: vec![
                held(Table::Raw, "224.0.1.75", 17, "provost"),
                held(Table::Tcp, "0.0.0.0", 8080, "provost"),
                held(Table::Udp, "10.200.0.1", 69, "provost"),
            ],
            told: None,
            phones: Vec::new(),
            phones_in_all: 0,
            chains: Vec::new(),
            echoes: Vec::new(),
            unheard: Vec::new(),
            not_believed: Vec::new(),
            buffer_limit: Some(212_992),
            neighbour_limit: Some(1024),
            may_exceed: true,
            listened: None,
            clock: Clock { now: SystemTime::now(), newest: None, servers: Vec::new() },
            resolver: Some(Resolver { servers: vec!["192.0.2.53".parse().unwrap()], ..Resolver::default() }),
            not_looked: Vec::new(),
        }
    }

    #[test]
    fn nothing_is_found_where_all_is_well() {
        assert_eq!(super::findings(&facts()), []);
    }
}
