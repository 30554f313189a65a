//! A network for one test: a switch, a server and phones, each a namespace, cabled with veth pairs.
//!
//! A segment is a bridge in the switch with a subnet of its own: 10.200.0.0/16, 10.201.0.0/16, …. The server's first interface on it has
//! the host number 0.1, phones begin at 1.1, further addresses at 128.1. What hosts need of routes is that multicast leaves by an
//! interface; there is no router, as PnP does not cross one.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    ops::Deref,
    process::Command,
};

use crate::{Capture, namespace::Namespace, reordering::Reordering, tools};

/// Who sits at the end of a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    Server,
    Phone(usize),
}

/// A network interface of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub segment: u8,
    pub address: Ipv4Addr,
}

/// A namespace with the interfaces that were plugged into it, in that order.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    interfaces: Vec<Interface>,
    /// Cables plugged so far: names of interfaces are not used twice.
    plugged: usize,
}

impl Host {
    fn new(role: &str) -> Host {
        Host { namespace: Namespace::new(role), interfaces: Vec::new(), plugged: 0 }
    }

    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The address of its first interface.
    pub fn address(&self) -> Ipv4Addr {
        self.interfaces.first().unwrap_or_else(|| panic!("{} has no interface", self.namespace.name())).address
    }

    /// Asks for a file by HTTP, as a phone does; the answer.
    pub fn fetch(&self, url: &str) -> String {
        let (authority, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("an http URL");
        self.enter(|| {
            let act = || {
                let mut stream = TcpStream::connect(authority)?;
                write!(stream, "GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")?;
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer)?;
                std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
            };
            act().unwrap_or_else(|error| panic!("cannot fetch {url}: {error}"))
        })
    }

    /// Gives an interface another address in place of the one it has.
    pub fn readdress(&mut self, name: &str, address: Ipv4Addr) {
        let interface = self.interfaces.iter_mut().find(|interface| interface.name == name);
        let interface = interface.unwrap_or_else(|| panic!("there is no interface {name}"));
        let old = interface.address;
        interface.address = address;
        // The old one goes first; with it go the routes, so multicast's is laid anew.
        self.namespace.ip(&format!(
            "address del {old}/16 dev {name}\naddress add {address}/16 broadcast + dev {name}\n{}",
            multicast_route(name)
        ));
    }

    /// Takes an interface down, or up again.
    pub fn set_up(&self, name: &str, up: bool) {
        self.namespace.ip(&format!("link set {name} {}", if up { "up" } else { "down" }));
        if up {
            self.namespace.ip(&multicast_route(name));
        }
    }
}

impl Deref for Host {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

/// Later interfaces take the larger metric: without an interface of its choice a program's multicast goes out at the first.
fn multicast_route(interface: &str) -> String {
    let metric = interface.trim_start_matches("eth").parse::<u32>().map_or(0, |number| number + 1);
    format!("route replace 224.0.0.0/4 dev {interface} metric {metric}\n")
}

#[derive(Debug)]
pub struct Lan {
    // Hosts go before the switch that their cables end in.
    server: Host,
    phones: Vec<Host>,
    switch: Namespace,
    segments: Vec<u8>,
    more_addresses: u16,
}

impl Lan {
    /// A server and so many phones on one segment.
    pub fn new(phones: usize) -> Lan {
        Lan::with(&[0], &vec![0; phones])
    }

    /// A server with an interface on each of these segments (the same one twice if it stands there twice), and a phone for each of those.
    pub fn with(server: &[u8], phones: &[u8]) -> Lan {
        let mut lan = Lan {
            server: Host::new("server"),
            phones: Vec::new(),
            switch: Namespace::new("switch"),
            segments: Vec::new(),
            more_addresses: 0,
        };
        for &segment in server {
            lan.plug(Seat::Server, segment);
        }
        for &segment in phones {
            lan.add_phone(segment);
        }
        lan
    }

    pub fn server(&self) -> &Host {
        &self.server
    }

    pub fn server_mut(&mut self) -> &mut Host {
        &mut self.server
    }

    pub fn phone(&self, index: usize) -> &Host {
        &self.phones[index]
    }

    pub fn phone_mut(&mut self, index: usize) -> &mut Host {
        &mut self.phones[index]
    }

    pub fn phones(&self) -> &[Host] {
        &self.phones
    }

    /// Puts one more phone on the network; its index.
    pub fn add_phone(&mut self, segment: u8) -> usize {
        let index = self.phones.len();
        self.phones.push(Host::new(&format!("phone{index}")));
        self.plug(Seat::Phone(index), segment);
        index
    }

    /// Lays a cable from a host to a segment, and gives it an address there.
    pub fn plug(&mut self, seat: Seat, segment: u8) -> Interface {
        self.add_segment(segment);
        let [network, last] = [10, 200 + segment];
        let (host, role, address) = match seat {
            Seat::Server => {
                let number = self.server.plugged as u8 + 1;
                (&mut self.server, "server".to_owned(), Ipv4Addr::new(network, last, 0, number))
            }
            Seat::Phone(index) => {
                let host = &mut self.phones[index];
                let (block, number) = (1 + index / 250, 1 + index % 250);
                // Further cables of the same phone count down from the end of its half of the segment.
                let block = if host.plugged == 0 { block } else { 128 - host.plugged };
                (host, format!("phone{index}"), Ipv4Addr::new(network, last, block as u8, number as u8))
            }
        };
        let name = format!("eth{}", host.plugged);
        let port = format!("{role}-{name}");
        host.plugged += 1;
        self.switch.ip(&format!(
            "link add {port} type veth peer name {name} netns {}\nlink set {port} master {} up\n",
            host.namespace.name(),
            bridge(segment)
        ));
        host.namespace.ip(&format!(
            "address add {address}/16 broadcast + dev {name}\nlink set {name} up\n{}",
            multicast_route(&name)
        ));
        let interface = Interface { name, segment, address };
        host.interfaces.push(interface.clone());
        interface
    }

    /// Takes a cable away, with the interface that it ended in.
    pub fn unplug(&mut self, seat: Seat, name: &str) {
        let host = match seat {
            Seat::Server => &mut self.server,
            Seat::Phone(index) => &mut self.phones[index],
        };
        let before = host.interfaces.len();
        host.interfaces.retain(|interface| interface.name != name);
        assert!(host.interfaces.len() < before, "there is no interface {name}");
        host.namespace.ip(&format!("link delete {name}\n"));
    }

    /// Takes the switch's end of a cable down: the interface stays, and has no link any more.
    pub fn cut(&self, seat: Seat, name: &str) {
        let role = match seat {
            Seat::Server => "server".to_owned(),
            Seat::Phone(index) => format!("phone{index}"),
        };
        self.switch.ip(&format!("link set {role}-{name} down\n"));
    }

    /// So many more addresses for a phone's first interface, so that it can play a fleet.
    pub fn add_addresses(&mut self, phone: usize, count: u16) -> Vec<Ipv4Addr> {
        let host = &self.phones[phone];
        let interface = host.interfaces.first().expect("a phone has an interface");
        let addresses: Vec<_> = (self.more_addresses..self.more_addresses + count)
            .map(|number| {
                Ipv4Addr::new(10, 200 + interface.segment, (128 + number / 250) as u8, (1 + number % 250) as u8)
            })
            .collect();
        self.more_addresses += count;
        let commands: String = addresses
            .iter()
            .map(|address| format!("address add {address}/16 broadcast + dev {}\n", interface.name))
            .collect();
        host.namespace.ip(&commands);
        addresses
    }

    /// Tells the server's kernel for good where these addresses of a phone are. By itself it keeps 1,024 neighbours, over all namespaces of
    /// a machine, which is less than a phone that plays a large fleet has addresses.
    pub fn introduce(&self, phone: usize, addresses: &[Ipv4Addr]) {
        let host = &self.phones[phone];
        let mut ip = Command::new(tools::require("ip"));
        ip.args(["-n", host.namespace.name(), "-json", "link", "show", "dev", &host.interfaces[0].name]);
        let told = tools::feed(&mut ip, b"").unwrap_or_else(|error| panic!("{error}"));
        let told: serde_json::Value = serde_json::from_slice(&told).expect("ip prints JSON");
        let mac = told[0]["address"].as_str().expect("an interface has a MAC address");
        let at = &self.server.interfaces[0].name;
        let commands: String = addresses
            .iter()
            .map(|address| format!("neighbour replace {address} lladdr {mac} dev {at} nud permanent\n"))
            .collect();
        self.server.namespace.ip(&commands);
    }

    /// From now on the switch loses this share of the UDP packets that it forwards, in each direction and for each receiver by itself.
    /// In the switch, and not at the hosts: there a sender would be told, and a raw socket would hear what the host drops.
    pub fn drop_packets(&self, percent: u8) {
        self.heal();
        // nftables will not compare a number below 100 with 100.
        let drawn = if percent < 100 { format!("numgen random mod 100 < {percent}") } else { String::new() };
        self.switch.nft(&format!(
            "table bridge loss {{\n chain forward {{\n  type filter hook forward priority 0\n  ip protocol udp {drawn} drop\n }}\n}}\n"
        ));
    }

    /// From now on this share of the UDP packets between the first phone and the server's first interface arrives twice.
    pub fn duplicate_packets(&self, percent: u8) {
        let ends = ["phone0-eth0", "server-eth0"];
        let twice = |[from, to]: [&str; 2]| {
            format!(
                " chain from-{from} {{\n  type filter hook ingress device \"{from}\" priority 0\n  ip protocol udp numgen random mod 100 < {percent} dup to \"{to}\"\n }}\n"
            )
        };
        let [one, other] = [twice(ends), twice([ends[1], ends[0]])];
        self.switch.nft(&format!("table netdev twice {{\n{one}{other}}}\n"));
    }

    /// From now on frames of a phone's first interface, and those to it, overtake each other.
    pub fn reorder_packets(&self, phone: usize) -> Reordering {
        let port = format!("phone{phone}-eth0");
        self.switch.ip(&format!(
            "link set {port} nomaster\nlink add bent{phone} type veth peer name straight{phone}\n\
             link set straight{phone} master {} up\nlink set bent{phone} up\n",
            bridge(self.phones[phone].interfaces[0].segment)
        ));
        Reordering::start(&self.switch, &port, &format!("bent{phone}"))
    }

    /// Ends what [`Lan::reorder_packets`] has begun; how many frames were overtaken.
    pub fn straighten(&self, phone: usize, reordering: Reordering) -> u64 {
        let overtaken = reordering.end();
        let segment = bridge(self.phones[phone].interfaces[0].segment);
        self.switch.ip(&format!("link delete bent{phone}\nlink set phone{phone}-eth0 master {segment}\n"));
        overtaken
    }

    /// Ends what [`Lan::drop_packets`] and [`Lan::duplicate_packets`] have begun.
    pub fn heal(&self) {
        // Declared before they are deleted: so they are there to be deleted.
        for table in ["bridge loss", "netdev twice"] {
            self.switch.nft(&format!("table {table}\ndelete table {table}\n"));
        }
    }

    /// Makes the switch of a segment snoop IGMP, and ask for the members of groups once a second.
    pub fn ask_for_members(&self, segment: u8, version: u8) {
        // In hundredths of a second.
        let often = "mcast_query_interval 100 mcast_startup_query_interval 100";
        self.switch.ip(&format!(
            "link set {} type bridge mcast_snooping 1 mcast_igmp_version {version} mcast_query_use_ifaddr 1 {often} mcast_querier 1\n",
            bridge(segment)
        ));
    }

    /// Writes down everything that crosses the switch from now on, also what it is about to lose.
    pub fn capture(&self) -> Capture {
        let bridges: Vec<_> = self.segments.iter().map(|&segment| (bridge(segment), switch_address(segment))).collect();
        Capture::start(&self.switch, &bridges)
    }

    fn add_segment(&mut self, segment: u8) {
        assert!(segment <= 55, "there are segments 0 to 55");
        if !self.segments.contains(&segment) {
            self.segments.push(segment);
            // Without a multicast querier, snooping would in the end cut the group off.
            let bridge = bridge(segment);
            self.switch.ip(&format!("link add {bridge} type bridge mcast_snooping 0\naddress add {}/32 dev {bridge}\nlink set {bridge} up\n", switch_address(segment)));
        }
    }
}

fn bridge(segment: u8) -> String {
    format!("segment{segment}")
}

/// On the segment, and of no use to anybody but captures, which mark their ends from here.
fn switch_address(segment: u8) -> Ipv4Addr {
    Ipv4Addr::new(169, 254, 255, segment + 1)
}

#[cfg(test)]
mod tests {
    use std::{
        io::ErrorKind,
        net::{TcpStream, UdpSocket},
        time::Duration,
    };

    use super::*;
    use crate::receive;

    const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 1, 75), 5060);

    fn listener(lan: &Lan, interface: usize) -> UdpSocket {
        let socket = lan.server().udp(GROUP);
        let address = lan.server().interfaces()[interface].address;
        lan.server().enter(|| socket.join_multicast_v4(&GROUP.0, &address)).unwrap();
        socket
    }

    fn sender(host: &Host) -> UdpSocket {
        host.udp((host.address(), 0))
    }

    #[test]
    fn a_multicast_datagram_of_a_phone_reaches_the_server_of_its_segment_only() {
        let lan = Lan::with(&[0, 1], &[0, 1]);
        let socket = listener(&lan, 0);
        // Sent from the other segment first: had it been heard, it would be read first.
        sender(lan.phone(1)).send_to(b"other", GROUP).unwrap();
        sender(lan.phone(0)).send_to(b"SUBSCRIBE", GROUP).unwrap();
        let mut buffer = [0; 64];
        let (length, from) = receive(&socket, &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"SUBSCRIBE");
        assert_eq!(from.ip(), lan.phone(0).address());
        assert_eq!(lan.phone(0).address(), Ipv4Addr::new(10, 200, 1, 1));
        assert_eq!(lan.server().interfaces()[1].address, Ipv4Addr::new(10, 201, 0, 2));
    }

    #[test]
    fn the_switch_loses_about_the_share_it_was_told_and_then_none() {
        let lan = Lan::new(1);
        let socket = lan.server().udp((Ipv4Addr::UNSPECIFIED, 9999));
        let phone = sender(lan.phone(0));
        let to = (lan.server().address(), 9999);
        let arrived = |count: usize| {
            let mut arrived = 0;
            for _ in 0..count {
                phone.send_to(b"x", to).unwrap();
                socket.set_nonblocking(true).unwrap();
                while receive(&socket, &mut [0; 8]).is_ok() {
                    arrived += 1;
                }
            }
            // What is still on its way is ended by a mark that the switch lets through.
            lan.heal();
            phone.send_to(b"end", to).unwrap();
            socket.set_nonblocking(false).unwrap();
            while receive(&socket, &mut [0; 8]).unwrap().0 != 3 {
                arrived += 1;
            }
            arrived
        };
        lan.drop_packets(20);
        // 1600 ± 6 σ of a binomial distribution with n = 2000.
        let with_loss = arrived(2000);
        assert!((1490..1710).contains(&with_loss), "{with_loss} of 2000");
        assert_eq!(arrived(200), 200);
    }

    #[test]
    fn interfaces_come_go_and_change_while_the_network_runs() {
        let mut lan = Lan::new(1);
        let second = lan.plug(Seat::Server, 0);
        assert_eq!(second.address, Ipv4Addr::new(10, 200, 0, 2));
        // Nobody listens there: whoever has the address refuses, and an address that nobody has is waited for in vain.
        let reaches = |lan: &Lan, address: Ipv4Addr| {
            let connect = || TcpStream::connect_timeout(&(address, 1).into(), Duration::from_millis(300));
            lan.phone(0).enter(connect).unwrap_err().kind() == ErrorKind::ConnectionRefused
        };
        assert!(reaches(&lan, second.address));
        let moved = Ipv4Addr::new(10, 200, 0, 99);
        lan.server_mut().readdress(&second.name, moved);
        assert!(reaches(&lan, moved));
        assert!(!reaches(&lan, second.address));
        lan.unplug(Seat::Server, &second.name);
        assert_eq!(lan.server().interfaces().len(), 1);
        let first = lan.server().interfaces()[0].clone();
        lan.server().set_up(&first.name, false);
        lan.server().set_up(&first.name, true);
        sender(lan.phone(0)).send_to(b"x", (first.address, 9)).unwrap();
        let more = lan.add_addresses(0, 300);
        assert_eq!(more[299], Ipv4Addr::new(10, 200, 129, 50));
        lan.phone(0).udp((more[299], 0));
    }

    #[test]
    fn nothing_is_left_behind() {
        let lan = Lan::new(2);
        let names: Vec<String> = lan
            .phones()
            .iter()
            .chain([lan.server()])
            .map(|host| host.name().to_owned())
            .chain([lan.switch.name().to_owned()])
            .collect();
        let listed = || {
            String::from_utf8(std::process::Command::new("ip").args(["netns", "list"]).output().unwrap().stdout)
                .unwrap()
        };
        assert!(names.iter().all(|name| listed().contains(name.as_str())));
        drop(lan);
        let after = listed();
        assert!(!names.iter().any(|name| after.contains(name.as_str())), "{after}");
    }
}
