//! Steers read requests by their mode: two sockets on one address, and a program in the kernel that chooses between them.
//!
//! async-tftp serves netascii as if it were octet, and never says which was asked for. So netascii requests are kept from it: they
//! arrive at a second socket, where `netascii` answers. Where the system has no such means, there is one socket and no netascii.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

/// The sockets of one address.
#[derive(Debug)]
pub(super) struct Pair {
    /// Gets everything the other does not.
    pub(super) main: UdpSocket,
    /// Gets read requests for netascii and mail; or why there is none.
    pub(super) text: io::Result<UdpSocket>,
}

/// Binds an address for us alone, then puts the second socket beside the first.
pub(super) fn bind(address: SocketAddr) -> io::Result<Pair> {
    // Bound without SO_REUSEPORT, so that another server on this port is found out, be it a second one of ours.
    let main = socket(address)?;
    main.bind(&address.into())?;
    let main = UdpSocket::from(main);
    let text = beside(&main);
    Ok(Pair { main, text })
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn beside(main: &UdpSocket) -> io::Result<UdpSocket> {
    // Allowed on a bound socket: the next one to bind with it makes a group of the two, in which the first is number 0.
    socket2::SockRef::from(main).set_reuse_port(true)?;
    let text = steered(main.local_addr()?);
    if text.is_err() {
        // Alone again, and so closed to others.
        socket2::SockRef::from(main).set_reuse_port(false)?;
    }
    text
}

#[cfg(target_os = "linux")]
fn steered(address: SocketAddr) -> io::Result<UdpSocket> {
    let text = socket(address)?;
    text.set_reuse_port(true)?;
    text.bind(&address.into())?;
    let text = UdpSocket::from(text);
    // Between these two calls the kernel shares requests out by hash. Who falls to the wrong socket gets no answer and asks again.
    crate::socket::attach_reuseport_cbpf(&text, &program::program())?;
    Ok(text)
}

#[cfg(not(target_os = "linux"))]
fn beside(_main: &UdpSocket) -> io::Result<UdpSocket> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
mod program {
    use libc::sock_filter as Instruction;

    /// How far into a request the end of the file name is looked for. A name longer than this is served as octet whatever it asks for.
    ///
    /// It bounds the program, for there are no loops in classic BPF: some 20 instructions of the kernel's own per word, and before
    /// Linux 6.8 a program of more than about 2500 of them was refused (net.core.optmem_max).
    const SCANNED: u32 = 256;

    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const LOAD_BYTE_AT_X: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16;
    const SET_X: u16 = (libc::BPF_LDX | libc::BPF_IMM) as u16;
    const COPY_TO_X: u16 = (libc::BPF_MISC | libc::BPF_TAX) as u16;
    const SUBTRACT: u16 = (libc::BPF_ALU | libc::BPF_SUB | libc::BPF_K) as u16;
    const OR: u16 = (libc::BPF_ALU | libc::BPF_OR | libc::BPF_K) as u16;
    const OR_X: u16 = (libc::BPF_ALU | libc::BPF_OR | libc::BPF_X) as u16;
    const XOR_X: u16 = (libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    const GO: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

    const READ_REQUEST: u32 = 1;

    /// Returns 1 for a read request whose mode begins with n or m, else 0. A load beyond the packet's end returns 0 as well.
    ///
    /// ```text
    ///   opcode(2)  name  0  mode  0  options…
    /// ```
    pub(super) fn program() -> Vec<Instruction> {
        let step = |code, k| Instruction { code, jt: 0, jf: 0, k };
        let jump = |code, k, jt, jf| Instruction { code, jt, jf, k };

        let mut program = vec![step(LOAD_HALF, 0), jump(IF_EQUAL, READ_REQUEST, 1, 0), step(RETURN, 0)];
        // The name is searched by words, since a load is what costs: (w - 0x01010101) & !w & 0x80808080 is not zero exactly if a byte of
        // w is. A word can reach beyond the name, but not beyond the packet, because the shortest mode is longer than a word.
        let words: Vec<u32> = (2..SCANNED).step_by(4).collect();
        const PER_WORD: u32 = 8;
        let found = program.len() as u32 + words.len() as u32 * PER_WORD + 1;
        for offset in words {
            program.extend([
                step(LOAD_WORD, offset),
                step(COPY_TO_X, 0),
                step(SUBTRACT, 0x0101_0101),
                // a & !x, from what there is: (a | x) ^ x.
                step(OR_X, 0),
                step(XOR_X, 0),
                jump(IF_ANY_BIT, 0x8080_8080, 0, 2),
                step(SET_X, offset),
            ]);
            let go_on = found - (program.len() as u32 + 1);
            program.push(step(GO, go_on));
        }
        program.push(step(RETURN, 0));
        // Which of the four bytes it is; the mode begins after it.
        for byte in 0..4 {
            let to_decision = (3 - byte) * 4;
            program.extend([
                step(LOAD_BYTE_AT_X, byte),
                jump(IF_EQUAL, 0, 0, 2),
                step(LOAD_BYTE_AT_X, byte + 1),
                step(GO, to_decision),
            ]);
        }
        program.extend([
            step(OR, 0x20),
            jump(IF_EQUAL, u32::from(b'n'), 2, 0),
            jump(IF_EQUAL, u32::from(b'm'), 1, 0),
            step(RETURN, 0),
            step(RETURN, 1),
        ]);
        program
    }
}
