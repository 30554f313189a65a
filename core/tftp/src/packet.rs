//! The packets: bytes in, values out, and the other way round. Neither sockets nor time.
//!
//! A reader for what phones send, which is not always what the RFCs say: options in any case and order, values that are no numbers, bytes
//! after the end. What an option says is taken if it makes sense, and else it was not asked for; no option is
//! a reason not to send the file.

const READ: u16 = 1;
const WRITE: u16 = 2;
const DATA: u16 = 3;
const ACKNOWLEDGEMENT: u16 = 4;
const ERROR: u16 = 5;
const OPTIONS: u16 = 6;

/// Of a block, when none is agreed upon.
pub const BLOCK_SIZE: u16 = 512;
/// The greatest block of RFC 2348.
pub const LARGEST_BLOCK: u16 = 65_464;
const SMALLEST_BLOCK: u16 = 8;
/// What stands before the bytes of a block.
pub const DATA_HEADER: usize = 4;

/// What a server may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Read(Request<'a>),
    Write(Request<'a>),
    /// This and the next are what servers of files send. Whoever sends one here is mistaken.
    Data,
    Options,
    Acknowledgement(u16),
    /// The peer has given up; why is between it and its log.
    Error {
        code: u16,
        message: &'a [u8],
    },
}

impl<'a> Packet<'a> {
    /// `None` is nothing that TFTP knows, or too little of it.
    pub fn read(datagram: &'a [u8]) -> Option<Packet<'a>> {
        let (opcode, rest) = number(datagram)?;
        Some(match opcode {
            READ => Packet::Read(Request::fields(rest)?),
            WRITE => Packet::Write(Request::fields(rest)?),
            DATA => Packet::Data,
            ACKNOWLEDGEMENT => Packet::Acknowledgement(number(rest)?.0),
            ERROR => {
                let (code, rest) = number(rest)?;
                Packet::Error { code, message: rest.split(|&byte| byte == 0).next().unwrap_or_default() }
            }
            OPTIONS => Packet::Options,
            _ => return None,
        })
    }
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), rest))
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// As it came: neither UTF-8 nor harmless.
    pub name: &'a [u8],
    pub mode: Mode,
    pub options: Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The bytes as they are.
    Octet,
    /// Text, with the network's line ends.
    Netascii,
    /// Of history, and nothing that a server of files does.
    Mail,
    /// None that the RFC knows.
    Unknown,
}

impl<'a> Request<'a> {
    /// A read request; `None` is any other packet.
    pub fn read(datagram: &'a [u8]) -> Option<Request<'a>> {
        match Packet::read(datagram)? {
            Packet::Read(request) => Some(request),
            _ => None,
        }
    }

    /// `name 0 mode 0`, and pairs of `option 0 value 0`.
    fn fields(bytes: &'a [u8]) -> Option<Request<'a>> {
        // What comes after the last NUL is no field, but half of one.
        let end = bytes.iter().rposition(|&byte| byte == 0)?;
        let mut fields = bytes[..end].split(|&byte| byte == 0);
        let name = fields.next()?;
        let mode = match fields.next()? {
            [] => return None,
            octet if octet.eq_ignore_ascii_case(b"octet") => Mode::Octet,
            text if text.eq_ignore_ascii_case(b"netascii") => Mode::Netascii,
            mail if mail.eq_ignore_ascii_case(b"mail") => Mode::Mail,
            _ => Mode::Unknown,
        };
        let mut options = Options::default();
        while let (Some(option), Some(value)) = (fields.next(), fields.next()) {
            options.take(option, value);
        }
        Some(Request { name, mode, options })
    }
}

/// What a request asks for beside the file; and, of the server, what it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// RFC 2348, 8 to 65464.
    pub block_size: Option<u16>,
    /// RFC 2349, in seconds, never 0.
    pub timeout: Option<u8>,
    /// RFC 2349. Whatever the client says here, it asks for the file's size.
    pub size: Option<u64>,
    /// RFC 7440, in blocks, never 0.
    pub window: Option<u16>,
}

impl Options {
    /// The first of two that contradict each other is the one that counts.
    fn take(&mut self, option: &[u8], value: &[u8]) {
        let Some(value) = decimal(value) else { return };
        let below = |most: u16| u16::try_from(value).unwrap_or(most).min(most);
        if option.eq_ignore_ascii_case(b"blksize") {
            // Too much is a wish that is granted in part; too little is no block at all.
            let size = Some(below(LARGEST_BLOCK)).filter(|&size| size >= SMALLEST_BLOCK);
            self.block_size = self.block_size.or(size);
        } else if option.eq_ignore_ascii_case(b"timeout") {
            self.timeout = self.timeout.or(u8::try_from(value).ok().filter(|&seconds| seconds > 0));
        } else if option.eq_ignore_ascii_case(b"tsize") {
            self.size = self.size.or(Some(value));
        } else if option.eq_ignore_ascii_case(b"windowsize") {
            self.window = self.window.or(Some(below(u16::MAX)).filter(|&blocks| blocks > 0));
        }
    }

    /// Nothing to acknowledge: the transfer begins with its first block.
    pub fn is_empty(&self) -> bool {
        *self == Options::default()
    }
}

/// Digits and nothing else; more of them than fit are the greatest number that does.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = value.iter().map(|digit| u64::from(digit - b'0'));
    Some(digits.fold(0, |number: u64, digit| number.saturating_mul(10).saturating_add(digit)))
}

/// The codes of RFC 1350 that a server of files has a use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Undefined = 0,
    NotFound = 1,
    AccessViolation = 2,
    IllegalOperation = 4,
    UnknownTransfer = 5,
}

/// Begins a DATA packet in an empty buffer; the block's bytes follow.
pub fn write_data_header(packet: &mut Vec<u8>, block: u16) {
    packet.extend_from_slice(&DATA.to_be_bytes());
    packet.extend_from_slice(&block.to_be_bytes());
}

/// Writes an OACK into an empty buffer: those options that were granted, and how.
pub fn write_options(packet: &mut Vec<u8>, granted: &Options) {
    packet.extend_from_slice(&OPTIONS.to_be_bytes());
    let pairs = [
        ("blksize", granted.block_size.map(u64::from)),
        ("timeout", granted.timeout.map(u64::from)),
        ("tsize", granted.size),
        ("windowsize", granted.window.map(u64::from)),
    ];
    for (option, value) in pairs {
        if let Some(value) = value {
            for text in [option, &value.to_string()] {
                packet.extend_from_slice(text.as_bytes());
                packet.push(0);
            }
        }
    }
}

/// Writes an ERROR into an empty buffer. A message ends at its first NUL, and after 400 bytes: it is one small packet.
pub fn write_error(packet: &mut Vec<u8>, code: Code, message: &str) {
    const LONGEST: usize = 400;
    packet.extend_from_slice(&ERROR.to_be_bytes());
    packet.extend_from_slice(&(code as u16).to_be_bytes());
    packet.extend(message.bytes().take_while(|&byte| byte != 0).take(LONGEST));
    packet.push(0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn options(datagram: &[u8]) -> Options {
        Request::read(datagram).unwrap().options
    }

    #[test]
    fn a_request_is_read_with_its_options_in_any_case_and_order() {
        let asked =
            Request::read(b"\0\x01a/b.cfg\0OcTeT\0TSIZE\x000\0blkSize\x001428\0windowsize\x004\0timeout\x005\0")
                .unwrap();
        assert_eq!((asked.name, asked.mode), (b"a/b.cfg".as_slice(), Mode::Octet));
        assert_eq!(asked.options, Options { block_size: Some(1428), timeout: Some(5), size: Some(0), window: Some(4) });
        let plain = Request::read(b"\0\x01\xff\xfe\0netascii\0").unwrap();
        assert_eq!((plain.name, plain.mode), (b"\xff\xfe".as_slice(), Mode::Netascii));
        assert!(plain.options.is_empty());
    }

    #[test]
    fn what_is_asked_for_badly_is_not_asked_for() {
        for (pairs, expected) in [
            (b"blksize\x007\0".as_slice(), Options::default()),
            (b"blksize\0-1\0timeout\x000\0timeout\x00256\0windowsize\x000\0", Options::default()),
            (b"blksize\x0099999999999999999999\0", Options { block_size: Some(65_464), ..Options::default() }),
            (b"windowsize\x0070000\0", Options { window: Some(65_535), ..Options::default() }),
            (b"blksize\x00512\0blksize\x001024\0", Options { block_size: Some(512), ..Options::default() }),
            (b"multicast\0\0tsize\x000\0", Options { size: Some(0), ..Options::default() }),
            (b"tsize\0\xff\0tsize\0", Options::default()),
            (b"tsize\0+1\0blksize\0 512\0", Options::default()),
            (b"tsize\x0012", Options::default()),
        ] {
            assert_eq!(options(&[b"\0\x01n\0octet\0", pairs].concat()), expected, "{}", pairs.escape_ascii());
        }
    }

    #[test]
    fn a_request_needs_a_name_and_a_mode_and_no_more() {
        for nothing in
            [b"".as_slice(), b"\0", b"\0\x01", b"\0\x01name", b"\0\x01name\0", b"\0\x01\0\0", b"\x01\0n\0octet\0"]
        {
            assert_eq!(Packet::read(nothing), None, "{}", nothing.escape_ascii());
        }
        assert_eq!(Request::read(b"\0\x01\0octet\0").unwrap().name, b"", "which is the name of no file");
        assert_eq!(Request::read(b"\0\x01n\0octets\0").unwrap().mode, Mode::Unknown);
        assert_eq!(Request::read(b"\0\x01n\0MAIL\0").unwrap().mode, Mode::Mail);
        assert!(matches!(Packet::read(b"\0\x02n\0octet\0"), Some(Packet::Write(_))));
        assert_eq!(Request::read(b"\0\x02n\0octet\0"), None);
    }

    #[test]
    fn the_other_packets_are_told_apart() {
        assert_eq!(Packet::read(b"\0\x04\x01\x02"), Some(Packet::Acknowledgement(0x0102)));
        assert_eq!(Packet::read(b"\0\x04\x01\x02padding"), Some(Packet::Acknowledgement(0x0102)));
        assert_eq!(Packet::read(b"\0\x04\x01"), None);
        assert_eq!(Packet::read(b"\0\x05\0\x03full\0"), Some(Packet::Error { code: 3, message: b"full" }));
        assert_eq!(Packet::read(b"\0\x05\0\x03"), Some(Packet::Error { code: 3, message: b"" }));
        assert_eq!(Packet::read(b"\0\x03\0\x01x"), Some(Packet::Data));
        assert_eq!(Packet::read(b"\0\x06"), Some(Packet::Options));
        assert_eq!(Packet::read(b"\0\x07\0\0"), None);
    }

    #[test]
    fn what_is_written_is_what_the_rfcs_draw() {
        let mut packet = Vec::new();
        write_data_header(&mut packet, 0x0102);
        assert_eq!(packet, b"\0\x03\x01\x02");
        packet.clear();
        write_options(&mut packet, &Options { size: Some(4096), block_size: Some(1428), ..Options::default() });
        assert_eq!(packet, b"\0\x06blksize\x001428\0tsize\x004096\0");
        packet.clear();
        write_error(&mut packet, Code::NotFound, "no \0such file");
        assert_eq!(packet, b"\0\x05\0\x01no \0");
        packet.clear();
        write_error(&mut packet, Code::Undefined, &"x".repeat(5000));
        assert_eq!(packet.len(), 405);
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_makes_the_reader_panic(datagram: Vec<u8>) {
            Packet::read(&datagram);
            for opcode in 1..=6 {
                Packet::read(&[[0, opcode].as_slice(), &datagram].concat());
            }
        }

        #[test]
        fn what_is_asked_for_stays_within_its_bounds(values in proptest::collection::vec("[0-9]{0,25}", 4)) {
            let mut datagram = b"\0\x01n\0octet\0".to_vec();
            for (option, value) in ["blksize", "timeout", "windowsize", "tsize"].iter().zip(&values) {
                datagram.extend([option, "\0", value, "\0"].concat().bytes());
            }
            let asked = options(&datagram);
            prop_assert!(asked.block_size.is_none_or(|size| (SMALLEST_BLOCK..=LARGEST_BLOCK).contains(&size)));
            prop_assert!(asked.timeout != Some(0) && asked.window != Some(0));
            prop_assert_eq!(asked.size.is_some(), !values[3].is_empty());
        }
    }
}
