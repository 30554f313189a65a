//! One question to the kernel about routes, neighbours or links, and its one answer (rtnetlink(7)).

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use nix::sys::{
    socket::{
        AddressFamily as Family, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
        setsockopt, socket, sockopt::ReceiveTimeout,
    },
    time::{TimeVal, TimeValLike as _},
};

/// Room for one answer; the kernel's are some hundred bytes, of a link some thousand.
const ANSWER: usize = 16 * 1024;
/// The kernel answers while it is asked; longer means that something is broken, and nobody is to hang on it.
const PATIENCE: i64 = 1;

#[derive(Debug)]
pub struct Kernel {
    socket: OwnedFd,
    asked: u32,
}

impl Kernel {
    pub fn open() -> io::Result<Kernel> {
        let socket = socket(Family::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Kernel { socket, asked: 0 })
    }

    /// None where the kernel says that there is no such thing.
    pub fn ask(&mut self, question: RouteNetlinkMessage) -> io::Result<Option<RouteNetlinkMessage>> {
        self.asked = self.asked.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        header.sequence_number = self.asked;
        let mut question = NetlinkMessage::new(header, NetlinkPayload::from(question));
        question.finalize();
        let mut bytes = vec![0; question.buffer_len()];
        question.serialize(&mut bytes);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut room = [0; ANSWER];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut room, MsgFlags::empty()) {
                Err(nix::errno::Errno::EINTR) => continue,
                received => received?,
            };
            let answer =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(&room[..length]).map_err(io::Error::other)?;
            if answer.header.sequence_number != self.asked {
                continue;
            }
            return match answer.payload {
                NetlinkPayload::InnerMessage(found) => Ok(Some(found)),
                NetlinkPayload::Error(error) => match error.to_io().raw_os_error() {
                    Some(libc::ENOENT | libc::ESRCH | libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENODEV) => {
                        Ok(None)
                    }
                    _ => Err(error.to_io()),
                },
                _ => Ok(None),
            };
        }
    }
}
