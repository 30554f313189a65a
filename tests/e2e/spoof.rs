//! Datagrams in anybody's name: what an attacker on the phones' own network can send.

use std::{
    io::Read,
    net::{Ipv4Addr, SocketAddrV4},
};

use provost_tests::Host;
use socket2::{Domain, Protocol, Socket, Type};

/// IPPROTO_RAW: the header of the packet is ours.
const RAW: i32 = 255;
const UDP: u8 = 17;

#[derive(Debug)]
pub(crate) struct Spoofer(Socket);

impl Spoofer {
    pub(crate) fn on(host: &Host) -> Spoofer {
        Spoofer(host.enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)))).unwrap())
    }

    /// Sends a datagram from whatever address; length, number and checksum of the header are the kernel's to fill in.
    pub(crate) fn send(&self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0];
        packet.extend_from_slice(&from.ip().octets());
        packet.extend_from_slice(&to.ip().octets());
        packet.extend_from_slice(&from.port().to_be_bytes());
        packet.extend_from_slice(&to.port().to_be_bytes());
        packet.extend_from_slice(&(payload.len() as u16 + 8).to_be_bytes());
        // No checksum, which IPv4 allows.
        packet.extend_from_slice(&[0, 0]);
        packet.extend_from_slice(payload);
        self.0.send_to(&packet, &to.into()).unwrap_or_else(|error| panic!("cannot send to {to}: {error}"));
    }
}

/// From now on this host says nothing when something comes for a port that nobody has: it is as silent as a phone that was unplugged.
pub(crate) fn silence(host: &Host) {
    host.nft(
        "table inet silence {\n chain output {\n  type filter hook output priority 0\n  icmp type destination-unreachable drop\n }\n}\n",
    );
}

/// Everything that comes to a host, whoever it is for: IP packets, as a raw socket for UDP hears them.
#[derive(Debug)]
pub(crate) struct Overheard(Socket);

impl Overheard {
    pub(crate) fn on(host: &Host) -> Overheard {
        let socket = host.enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP))).unwrap();
        socket.set_recv_buffer_size(4 << 20).unwrap();
        socket.set_nonblocking(true).unwrap();
        Overheard(socket)
    }

    /// Payloads of the datagrams to this address since the last call.
    pub(crate) fn to(&self, address: Ipv4Addr) -> Vec<Vec<u8>> {
        let mut heard = Vec::new();
        let mut buffer = [0; 65536];
        while let Ok(length) = (&self.0).read(&mut buffer) {
            if length >= 28 && buffer[16..20] == address.octets() {
                heard.push(buffer[28..length].to_vec());
            }
        }
        heard
    }
}
