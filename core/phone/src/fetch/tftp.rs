//! A phone's TFTP: read requests of RFC 1350 with the options that phones send (`tsize`, `blksize`, `timeout`; RFC 2348, 2349).

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::UdpSocket,
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{Answer, MOST_BYTES, Status};
use crate::{outcome::Finding, phone::Options};

/// Of one packet. With a fifth of all packets lost in each direction a transfer of a hundred blocks fails once in 300 at 12.
const TRIES: u32 = 12;
/// A few transfers stay to acknowledge their last block again; with many phones the rest go at once, as small phones do.
static LINGERING: Semaphore = Semaphore::const_new(64);

#[derive(Debug, PartialEq, Eq)]
enum Packet<'a> {
    Data { block: u16, payload: &'a [u8] },
    Error { code: u16, message: String },
    Options(Vec<(String, String)>),
}

fn decode(datagram: &[u8]) -> Option<Packet<'_>> {
    let number = |at: usize| Some(u16::from_be_bytes([*datagram.get(at)?, *datagram.get(at + 1)?]));
    match number(0)? {
        3 => Some(Packet::Data { block: number(2)?, payload: &datagram[4..] }),
        5 => Some(Packet::Error { code: number(2)?, message: texts(&datagram[4..]).next().unwrap_or_default() }),
        6 => {
            let texts: Vec<String> = texts(&datagram[2..]).collect();
            let pairs = texts.chunks_exact(2).map(|pair| (pair[0].to_ascii_lowercase(), pair[1].clone())).collect();
            Some(Packet::Options(pairs))
        }
        _ => None,
    }
}

fn texts(bytes: &[u8]) -> impl Iterator<Item = String> + '_ {
    bytes
        .strip_suffix(&[0])
        .unwrap_or(bytes)
        .split(|&byte| byte == 0)
        .map(|text| String::from_utf8_lossy(text).into_owned())
}

fn read_request(name: &str, block_size: u16, interval: Duration) -> Vec<u8> {
    let mut packet = vec![0, 1];
    let timeout = interval.as_secs().clamp(1, 255).to_string();
    for text in [name, "octet", "tsize", "0", "blksize", &block_size.to_string(), "timeout", &timeout] {
        packet.extend_from_slice(text.as_bytes());
        packet.push(0);
    }
    packet
}

fn acknowledgement(block: u16) -> Vec<u8> {
    [4_u16.to_be_bytes(), block.to_be_bytes()].concat()
}

fn error(code: u16, message: &str) -> Vec<u8> {
    [&5_u16.to_be_bytes()[..], &code.to_be_bytes(), message.as_bytes(), &[0]].concat()
}

pub(super) async fn read(
    name: &str,
    server: SocketAddr,
    from: Ipv4Addr,
    options: &Options,
    findings: &mut Vec<Finding>,
) -> Answer {
    match transfer(name, server, from, options, findings).await {
        Ok(answer) => answer,
        Err(error) => Answer::failed(format!("the TFTP socket failed: {error}")),
    }
}

/// What the server agreed to.
struct Agreed {
    block_size: usize,
    size: Option<usize>,
}

fn agree(pairs: &[(String, String)], asked: u16) -> Result<Agreed, String> {
    let mut agreed = Agreed { block_size: 512, size: None };
    for (name, value) in pairs {
        let number: usize = value.parse().map_err(|_| format!("{name}={value} is no number"))?;
        match name.as_str() {
            "blksize" if (8..=usize::from(asked)).contains(&number) => agreed.block_size = number,
            "blksize" => return Err(format!("blksize={value} was not asked for")),
            "tsize" => agreed.size = Some(number),
            "timeout" => {}
            _ => return Err(format!("option {name} was not asked for")),
        }
    }
    Ok(agreed)
}

async fn transfer(
    name: &str,
    server: SocketAddr,
    from: Ipv4Addr,
    options: &Options,
    findings: &mut Vec<Finding>,
) -> io::Result<Answer> {
    let socket = UdpSocket::bind((from, 0)).await?;
    let mut agreed = Agreed { block_size: 512, size: None };
    let mut content = Vec::new();
    // Every packet of the server comes from a port that it chose for this transfer.
    let mut peer: Option<SocketAddr> = None;
    let mut started = false;
    let mut next_block: u16 = 1;
    let mut last_sent = read_request(name, options.block_size, options.fetch_pause);
    let mut tries = 0;
    let mut buffer = vec![0; 65_536];
    loop {
        if tries == TRIES {
            return Ok(Answer::failed(format!("no answer to {TRIES} packets, after {} bytes", content.len())));
        }
        tries += 1;
        socket.send_to(&last_sent, peer.unwrap_or(server)).await?;
        let until = Instant::now() + options.fetch_pause;
        // Until something moves the transfer forward, or it is time to send again.
        loop {
            let (length, sender) = match timeout_at(until, socket.recv_from(&mut buffer)).await {
                Err(_) => break,
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Ok(received) => received?,
            };
            if sender.ip() != server.ip() || peer.is_some_and(|peer| peer != sender) {
                // A second transfer that a retransmitted request has started.
                socket.send_to(&error(5, "unknown transfer"), sender).await?;
                continue;
            }
            match decode(&buffer[..length]) {
                Some(Packet::Error { code, message }) => return Ok(Answer::refused(code, message)),
                Some(Packet::Options(pairs)) if !started => {
                    match agree(&pairs, options.block_size) {
                        Ok(terms) => agreed = terms,
                        Err(why) => {
                            socket.send_to(&error(8, &why), sender).await?;
                            return Ok(Answer::failed(format!("the server's options cannot be taken: {why}")));
                        }
                    }
                    let again = peer.replace(sender).is_some();
                    last_sent = acknowledgement(0);
                    if again {
                        socket.send_to(&last_sent, sender).await?;
                        continue;
                    }
                    tries = 0;
                    break;
                }
                Some(Packet::Data { block, payload }) if block == next_block => {
                    peer = Some(sender);
                    started = true;
                    if payload.len() > agreed.block_size || content.len() + payload.len() > MOST_BYTES {
                        socket.send_to(&error(4, "too much data"), sender).await?;
                        return Ok(Answer::failed(format!("block {block} is of {} bytes", payload.len())));
                    }
                    content.extend_from_slice(payload);
                    last_sent = acknowledgement(block);
                    if payload.len() < agreed.block_size {
                        socket.send_to(&last_sent, sender).await?;
                        if let Some(size) = agreed.size
                            && size != content.len()
                        {
                            findings.push(Finding::new(
                                "TFTP: tsize is not the size of the file",
                                format!("{name}: {size}, and {} bytes came", content.len()),
                            ));
                        }
                        linger(socket, sender, block, options.fetch_pause);
                        return Ok(Answer { status: Status::Found, content_type: None, body: Bytes::from(content) });
                    }
                    // After block 65535 comes block 0: so do phones and servers count files above 32 MB.
                    next_block = next_block.wrapping_add(1);
                    tries = 0;
                    break;
                }
                // The block before, again: its acknowledgement was lost.
                Some(Packet::Data { block, .. }) if started && block == next_block.wrapping_sub(1) => {
                    socket.send_to(&acknowledgement(block), sender).await?;
                }
                _ => {}
            }
        }
    }
}

/// Stays for the case that the last acknowledgement is lost (RFC 1350 §6), without keeping the phone.
fn linger(socket: UdpSocket, peer: SocketAddr, block: u16, interval: Duration) {
    let Ok(place) = LINGERING.try_acquire() else { return };
    tokio::spawn(async move {
        let until = Instant::now() + 3 * interval;
        let mut buffer = [0; 4];
        while let Ok(received) = timeout_at(until, socket.recv_from(&mut buffer)).await {
            if let Ok((_, sender)) = received
                && sender == peer
                && buffer == [&[0, 3][..], &block.to_be_bytes()].concat()[..]
                && socket.send_to(&acknowledgement(block), peer).await.is_err()
            {
                break;
            }
        }
        drop(place);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_the_captured_phone_sent() {
        let packet = read_request("0a.cfg", 512, Duration::from_secs(4));
        assert_eq!(packet, b"\x00\x010a.cfg\0octet\0tsize\x000\0blksize\x00512\0timeout\x004\0");
    }

    #[test]
    fn packets_are_told_apart_and_rubbish_is_none() {
        assert_eq!(decode(b"\0\x03\0\x07ab"), Some(Packet::Data { block: 7, payload: b"ab" }));
        assert_eq!(decode(b"\0\x05\0\x01gone\0"), Some(Packet::Error { code: 1, message: "gone".into() }));
        assert_eq!(decode(b"\0\x06BLKSIZE\x00512\0"), Some(Packet::Options(vec![("blksize".into(), "512".into())])));
        for rubbish in [&b""[..], b"\0", b"\0\x03\0", b"\0\x05\0", b"\0\x09ab", b"\0\x04\0\x01"] {
            assert_eq!(decode(rubbish), None, "{rubbish:?}");
        }
    }

    #[test]
    fn only_what_was_asked_for_is_agreed_to() {
        let agreed = |name: &str, value: &str| agree(&[(name.into(), value.into())], 1428);
        assert_eq!(agreed("blksize", "1428").unwrap().block_size, 1428);
        assert_eq!(agreed("tsize", "70").unwrap().size, Some(70));
        for (name, value) in [("blksize", "1429"), ("blksize", "7"), ("windowsize", "4"), ("tsize", "x")] {
            assert!(agreed(name, value).is_err(), "{name}={value}");
        }
    }
}
