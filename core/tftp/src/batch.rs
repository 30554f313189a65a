//! Datagrams by the batch: one call for as many as have come, and one for as many as are to go.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

/// Datagrams in one call.
const BATCH: usize = 64;
/// Nothing that a client sends is longer; of what is, the rest is cut off.
pub(crate) const LONGEST: usize = 2048;

/// What has come to a socket that many peers write to.
pub(crate) struct Inbox {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Vec<[u8; LONGEST]>,
    came: Vec<(usize, SocketAddr)>,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox {
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: vec![[0; LONGEST]; BATCH],
            came: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what is there, without waiting.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.came.clear();
        let mut slices: Vec<_> = self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        match recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None) {
            Ok(messages) => {
                for message in messages {
                    // Without an address there is nobody to answer; an empty one keeps the others in their places.
                    let from = message.address.as_ref().and_then(address);
                    self.came.push(from.map_or((0, socket.local_addr()?), |from| (message.bytes, from)));
                }
                Ok(())
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        self.buffers.iter().zip(&self.came).map(|(buffer, &(len, from))| (&buffer[..len], from))
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|&v4| SocketAddr::V4(v4.into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|&v6| SocketAddr::V6(v6.into())))
}

/// What is to go from one socket.
///
/// A packet that cannot be sent is a packet lost, as the network loses them: transfers know how to deal with that.
pub(crate) struct Outbox {
    headers: MultiHeaders<SockaddrStorage>,
    /// As many as are in use, and spare ones after them.
    packets: Vec<Vec<u8>>,
    to: Vec<SocketAddr>,
}

impl Outbox {
    pub(crate) fn new() -> Outbox {
        Outbox {
            headers: MultiHeaders::preallocate(BATCH, None),
            packets: vec![Vec::new(); BATCH],
            to: Vec::with_capacity(BATCH),
        }
    }

    /// Puts down what `write` writes into an empty buffer, if it says that it has. What was put down before is sent when there is no
    /// more room.
    pub(crate) fn put(&mut self, socket: &UdpSocket, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        if self.to.len() == BATCH {
            self.flush(socket);
        }
        let packet = &mut self.packets[self.to.len()];
        packet.clear();
        let written = write(packet);
        if written {
            self.to.push(to);
        }
        written
    }

    /// Sends all of it.
    pub(crate) fn flush(&mut self, socket: &UdpSocket) {
        match *self.to {
            [] => {}
            [to] => {
                let _ = socket.send_to(&self.packets[0], to);
            }
            _ => {
                let packets = &self.packets[..self.to.len()];
                let slices: Vec<_> = packets.iter().map(|packet| [IoSlice::new(packet)]).collect();
                let to: Vec<_> = self.to.iter().map(|&to| Some(SockaddrStorage::from(to))).collect();
                let mut sent = 0;
                while sent < to.len() {
                    let (slices, to) = (&slices[sent..], &to[sent..]);
                    let flags = MsgFlags::MSG_DONTWAIT;
                    // It ends before the first that cannot be sent, and fails if that is the very first.
                    let done = sendmmsg(socket.as_raw_fd(), &mut self.headers, slices, to, [], flags);
                    sent += done.map_or(1, |done| done.count().max(1));
                }
            }
        }
        self.to.clear();
    }
}
