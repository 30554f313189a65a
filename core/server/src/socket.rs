//! Socket options that neither std nor socket2 can set: thin, safe wrappers, and nothing that decides.

use std::{io, net::UdpSocket};

use socket2::SockRef;
use tokio::io::{Interest, unix::AsyncFd};

/// The socket, watched for what comes. Not for room to send, as tokio's own would be: of that the kernel tells after each packet that has
/// left, and a thread would be woken for nothing. To be called within a tokio runtime.
pub(crate) fn heard(socket: UdpSocket) -> io::Result<AsyncFd<UdpSocket>> {
    // SAFETY: a UdpSocket has one descriptor, which is open for as long as the socket lives, and the AsyncFd owns it.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    Ok(watched?)
}

/// Asks for a receive buffer of so many bytes, beyond the system's limit if we may, and says how many were granted.
///
/// The receive buffer decides a burst: with the usual one, a site that powers up loses most of its first datagrams.
pub(crate) fn set_receive_buffer(socket: &UdpSocket, bytes: usize) -> io::Result<usize> {
    let socket = SockRef::from(socket);
    #[cfg(target_os = "linux")]
    let forced = linux::force_receive_buffer(&socket, bytes).is_ok();
    #[cfg(not(target_os = "linux"))]
    let forced = false;
    if !forced {
        socket.set_recv_buffer_size(bytes)?;
    }
    let granted = socket.recv_buffer_size()?;
    // Linux doubles what it was asked for, for its own book-keeping, and reports the double.
    Ok(if cfg!(target_os = "linux") { granted / 2 } else { granted })
}

#[cfg(target_os = "linux")]
pub(crate) use linux::attach_reuseport_cbpf;

#[cfg(target_os = "linux")]
mod linux {
    use std::{ffi::c_int, io, mem, net::UdpSocket, os::fd::AsRawFd};

    use socket2::SockRef;

    /// Lets a classic BPF program choose which socket of a SO_REUSEPORT group gets a datagram: it sees the payload from offset 0
    /// and returns the socket's place in the order of binding. Any member of the group will do to attach it.
    pub(crate) fn attach_reuseport_cbpf(socket: &UdpSocket, program: &[libc::sock_filter]) -> io::Result<()> {
        let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
        // SAFETY: the descriptor is open for as long as `socket` is borrowed. The kernel reads one sock_fprog of the size given, and
        // through it `len` instructions of the slice, which outlives the call; it copies them, and writes to neither.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_REUSEPORT_CBPF,
                (&raw const program).cast(),
                mem::size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// SO_RCVBUFFORCE: like SO_RCVBUF, but not held back by net.core.rmem_max. Needs CAP_NET_ADMIN.
    pub(super) fn force_receive_buffer(socket: &SockRef<'_>, bytes: usize) -> io::Result<()> {
        let bytes = c_int::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the kernel only reads one int, which outlives the call.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const bytes).cast(),
                mem::size_of::<c_int>() as libc::socklen_t,
            )
        };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
