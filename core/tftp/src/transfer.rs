//! One file on its way to one peer, as a state machine: it is told what was heard and what time it is, and says what to send.
//!
//! Neither sockets nor a clock: the caller asks for [`Transfer::next_packet`] until there is none, feeds it while it is
//! [`hungry`](Transfer::is_hungry), and comes back when a packet was heard or at [`Transfer::deadline`].
//!
//! * An acknowledgement that brings nothing new is not answered by the block again, or each repetition would double (the sorcerer's
//!   apprentice). In a window it may mean that the first block was lost, so there it is answered, once.
//! * Whoever acknowledges a part of a window gets the rest of it again: what came after a gap is not kept by receivers (RFC 7440).
//! * Block numbers go on with 0 after 65535, as everybody's do.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};

use crate::{
    netascii,
    packet::{self, BLOCK_SIZE, Code, Mode, Options, Packet},
};

/// The waits after each send of a packet, in first waits. After the last of them the peer is gone.
const WAITS: [u32; 5] = [1, 2, 4, 4, 4];
/// So many of them for a peer that has acknowledged nothing yet: somebody may have written its address into a request of his own, and a
/// phone that waits for its first block asks again by itself.
const UNHEARD: usize = 3;
/// Of text that is translated at a time.
const TEXT_PIECE: usize = 4096;

/// What a peer is granted at most, and how patient the server is.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub block_size: u16,
    pub window: u16,
    /// In seconds. A longer one is not agreed to: a dead transfer would be kept for as long, five times over.
    pub timeout: u8,
    /// From a packet to its first repetition, for peers that do not say.
    pub resend_after: Duration,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            // What fits an Ethernet frame with room for a tunnel's header: phones do not all reassemble fragments.
            block_size: 1428,
            // More would turn one forged packet into a flood, and gains nothing on a LAN.
            window: 16,
            timeout: 8,
            resend_after: Duration::from_secs(1),
        }
    }
}

impl Terms {
    /// What a request is granted of what it asked for.
    fn grant(&self, asked: &Options, mode: Mode, size: Option<u64>) -> Options {
        Options {
            block_size: asked.block_size.map(|size| size.min(self.block_size)),
            timeout: asked.timeout.filter(|&seconds| seconds <= self.timeout),
            // How long a text becomes is known when it has been translated. And the size of an empty file is left out: curl, for
            // one, takes `tsize 0` in an answer for a mistake and gives up.
            size: asked.size.and(size).filter(|&size| mode == Mode::Octet && size > 0),
            window: asked.window.map(|blocks| blocks.min(self.window)),
        }
    }
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The last block was acknowledged.
    Complete,
    /// The peer said that it wants no more, with this code.
    GivenUp(u16),
    /// The peer has not been heard for too long.
    Silent,
    /// There was no more to send, and the peer was told so.
    Failed,
}

#[derive(Debug)]
pub struct Transfer {
    block_size: usize,
    window: u64,
    first_wait: Duration,
    /// What is to be agreed upon before the first block, until the peer has done so.
    granted: Option<Options>,
    granted_sent: bool,
    held: Held,
    /// Blocks that were acknowledged, and those sent since the last acknowledgement or pause; counted from the file's begin.
    acknowledged: u64,
    sent: u64,
    /// The first packet in flight is to be sent again, and no other.
    again: bool,
    /// The window was sent again for an acknowledgement that brought nothing new.
    went_back: bool,
    /// The peer has acknowledged something, which takes having got it.
    is_there: bool,
    /// Waits that ended in silence since the peer was last heard of.
    silences: usize,
    /// When the packets in flight are due again.
    due: Option<Instant>,
    /// The last thing to be said.
    error: Option<(Code, String)>,
    end: Option<End>,
}

impl Transfer {
    /// A transfer that has sent nothing yet. The size is of the file as stored, where it is known.
    pub fn new(asked: &Options, mode: Mode, size: Option<u64>, terms: &Terms) -> Transfer {
        let granted = terms.grant(asked, mode, size);
        let first_wait = granted.timeout.map_or(terms.resend_after, |seconds| Duration::from_secs(seconds.into()));
        Transfer {
            block_size: granted.block_size.unwrap_or(BLOCK_SIZE).into(),
            window: granted.window.unwrap_or(1).into(),
            first_wait,
            granted: (!granted.is_empty()).then_some(granted),
            granted_sent: false,
            held: Held { is_text: mode == Mode::Netascii, ..Held::default() },
            acknowledged: 0,
            sent: 0,
            again: false,
            went_back: false,
            is_there: false,
            silences: 0,
            due: None,
            error: None,
            end: None,
        }
    }

    /// More of the file is needed before the window can be filled.
    pub fn is_hungry(&self) -> bool {
        self.end.is_none() && !self.held.ended && self.held.len < self.reach() && self.held.untranslated.is_empty()
    }

    /// The next piece of the file, in reply to hunger; `None` after the last.
    pub fn feed(&mut self, piece: Option<Bytes>) {
        self.held.add(piece);
        self.held.translate(self.reach());
    }

    /// The bytes that fill a window.
    fn reach(&self) -> usize {
        self.window as usize * self.block_size
    }

    /// The rest of the file cannot be had. The peer is told with the next packet, once.
    pub fn fail(&mut self, code: Code, why: &str) {
        self.error = Some((code, why.to_owned()));
    }

    /// What the peer has sent.
    pub fn heard(&mut self, packet: &Packet<'_>) {
        match *packet {
            Packet::Acknowledgement(number) => self.acknowledge(number),
            Packet::Error { code, .. } => self.end = Some(End::GivenUp(code)),
            // Requests come to another place, and the rest is not for servers.
            Packet::Read(_) | Packet::Write(_) | Packet::Data | Packet::Options => {}
        }
    }

    fn acknowledge(&mut self, number: u16) {
        if self.granted.is_some() {
            if number == 0 && self.granted_sent {
                self.granted = None;
                self.moved();
            }
            return;
        }
        let new = u64::from(number.wrapping_sub(self.acknowledged as u16));
        if new == 0 {
            if self.window > 1 && !self.went_back {
                self.went_back = true;
                self.sent = self.acknowledged;
            }
        } else if new <= self.sent - self.acknowledged {
            let is_all = self.held.is_whole() && new as usize > self.held.len / self.block_size;
            self.held.forget(new as usize * self.block_size);
            self.held.translate(self.reach());
            self.acknowledged += new;
            self.sent = self.acknowledged;
            self.went_back = false;
            self.moved();
            if is_all {
                self.end = Some(End::Complete);
            }
        }
    }

    fn moved(&mut self) {
        self.is_there = true;
        self.silences = 0;
        self.again = false;
        self.due = None;
    }

    /// The peer has sent the same request again: it has not seen our first packet, and gets what is in flight.
    ///
    /// False if it had seen it and then fell silent, or has all of it: this is a peer that has begun anew, and wants the file from the start.
    pub fn asked_again(&mut self) -> bool {
        let is_anew = self.end.is_some() || self.acknowledged > 0 && self.silences > 0;
        self.again = self.due.is_some();
        !is_anew
    }

    /// When to call [`timed_out`](Transfer::timed_out). `None` while nothing is in flight.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.filter(|_| self.end.is_none())
    }

    /// Some time has passed. Before the deadline this does nothing.
    pub fn timed_out(&mut self, now: Instant) {
        if self.deadline().is_none_or(|due| now < due) {
            return;
        }
        self.silences += 1;
        self.due = None;
        self.again = false;
        self.granted_sent = false;
        self.sent = self.acknowledged;
        if self.silences == if self.is_there { WAITS.len() } else { UNHEARD } {
            self.end = Some(End::Silent);
        }
    }

    /// Writes the next packet to be sent into an empty buffer; false if there is none for now.
    pub fn next_packet(&mut self, now: Instant, packet: &mut Vec<u8>) -> bool {
        if self.end.is_some() {
            return false;
        }
        let written = if let Some((code, why)) = self.error.take() {
            packet::write_error(packet, code, &why);
            self.end = Some(End::Failed);
            true
        } else if let Some(granted) = &self.granted {
            let written = !self.granted_sent || self.again;
            if written {
                packet::write_options(packet, granted);
                self.granted_sent = true;
            }
            written
        } else if self.again {
            self.write_block(self.acknowledged + 1, packet)
        } else if self.sent - self.acknowledged < self.window && self.write_block(self.sent + 1, packet) {
            self.sent += 1;
            true
        } else {
            false
        };
        if written {
            // A packet that was asked for again is no sign that the peer hears us.
            if !std::mem::take(&mut self.again) {
                self.due = Some(now + self.first_wait * WAITS[self.silences]);
            }
        }
        written
    }

    /// False if this block is not there yet, or beyond the last.
    fn write_block(&self, block: u64, packet: &mut Vec<u8>) -> bool {
        let place = (block - self.acknowledged - 1) as usize;
        let full = self.held.len / self.block_size;
        // The last block is never a full one; of a file that fills its blocks it is empty.
        let is_last = self.held.is_whole() && place == full;
        if place >= full && !is_last {
            return false;
        }
        packet::write_data_header(packet, block as u16);
        self.held.copy(place * self.block_size, self.block_size, packet);
        true
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// How far it came.
    pub fn acknowledged_blocks(&self) -> u64 {
        self.acknowledged
    }
}

/// The file from the first block on that is not acknowledged, as far as it is known.
#[derive(Debug, Default)]
struct Held {
    /// As they are sent.
    pieces: VecDeque<Bytes>,
    /// Of all pieces.
    len: usize,
    is_text: bool,
    /// Text is translated as it is needed: it may become twice as long.
    untranslated: Bytes,
    /// Nothing more will be added.
    ended: bool,
}

impl Held {
    fn is_whole(&self) -> bool {
        self.ended && self.untranslated.is_empty()
    }

    fn add(&mut self, piece: Option<Bytes>) {
        match piece {
            Some(text) if self.is_text => self.untranslated = text,
            Some(bytes) => self.push(bytes),
            None => self.ended = true,
        }
    }

    fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        self.pieces.push_back(piece);
    }

    fn translate(&mut self, wanted: usize) {
        while self.len < wanted && !self.untranslated.is_empty() {
            let text = self.untranslated.split_to(TEXT_PIECE.min(self.untranslated.len()));
            self.push(netascii::translate(&text).into());
        }
    }

    fn forget(&mut self, bytes: usize) {
        let mut bytes = bytes.min(self.len);
        self.len -= bytes;
        while let Some(first) = self.pieces.front_mut() {
            if bytes < first.len() {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.pieces.pop_front();
        }
    }

    /// As many bytes as there are, and at most `len`.
    fn copy(&self, mut offset: usize, mut len: usize, packet: &mut Vec<u8>) {
        for piece in &self.pieces {
            let part = piece.get(offset..).unwrap_or_default();
            let part = &part[..len.min(part.len())];
            packet.extend_from_slice(part);
            len -= part.len();
            offset = offset.saturating_sub(piece.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A transfer, its file, and the time.
    struct Scene {
        transfer: Transfer,
        pieces: VecDeque<Bytes>,
        now: Instant,
    }

    fn scene(options: Options, mode: Mode, file: &[u8]) -> Scene {
        let pieces = file.chunks(1000).map(Bytes::copy_from_slice).collect();
        let transfer = Transfer::new(&options, mode, Some(file.len() as u64), &Terms::default());
        Scene { transfer, pieces, now: Instant::now() }
    }

    fn plain(file: &[u8]) -> Scene {
        scene(Options::default(), Mode::Octet, file)
    }

    fn windowed(window: u16, file: &[u8]) -> Scene {
        let mut scene = scene(Options { window: Some(window), ..Options::default() }, Mode::Octet, file);
        assert_eq!(scene.sent().len(), 1, "the OACK");
        scene.acknowledge(0);
        scene
    }

    impl Scene {
        /// All that is to be sent now.
        fn sent(&mut self) -> Vec<Vec<u8>> {
            let mut packets = Vec::new();
            loop {
                while self.transfer.is_hungry() {
                    self.transfer.feed(self.pieces.pop_front());
                }
                let mut packet = Vec::new();
                if !self.transfer.next_packet(self.now, &mut packet) {
                    return packets;
                }
                packets.push(packet);
            }
        }

        /// The numbers of the blocks that are to be sent now.
        fn blocks(&mut self) -> Vec<u16> {
            self.sent().iter().map(|packet| u16::from_be_bytes([packet[2], packet[3]])).collect()
        }

        fn acknowledge(&mut self, block: u16) {
            self.transfer.heard(&Packet::Acknowledgement(block));
        }

        fn pass(&mut self, millis: u64) {
            self.now += Duration::from_millis(millis);
            self.transfer.timed_out(self.now);
        }
    }

    /// Everything that a well-behaved peer gets; it acknowledges the last block of each burst.
    fn fetched(mut scene: Scene) -> Vec<u8> {
        let mut file = Vec::new();
        loop {
            let packets = scene.sent();
            for packet in &packets {
                if packet[1] == 3 {
                    file.extend(&packet[4..]);
                }
            }
            let last = packets.last().expect("it goes on until it ends");
            scene.acknowledge(if last[1] == 6 { 0 } else { u16::from_be_bytes([last[2], last[3]]) });
            if scene.transfer.end().is_some() {
                assert_eq!(scene.transfer.end(), Some(End::Complete));
                return file;
            }
        }
    }

    #[test]
    fn files_of_every_length_arrive_whole() {
        for len in [0, 1, 511, 512, 513, 1023, 1024, 1025, 5000, 8192] {
            let file: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            for window in [None, Some(1), Some(3), Some(64)] {
                for block_size in [None, Some(8), Some(1024), Some(9000)] {
                    let options = Options { window, block_size, size: Some(0), ..Options::default() };
                    assert!(fetched(scene(options, Mode::Octet, &file)) == file, "{len} {options:?}");
                    let text = netascii::translate(&file);
                    assert!(fetched(scene(options, Mode::Netascii, &file)) == text, "{len} {options:?}");
                }
            }
        }
    }

    #[test]
    fn more_is_granted_to_nobody_than_the_terms_allow() {
        let asked = Options { block_size: Some(9000), timeout: Some(200), size: Some(0), window: Some(1000) };
        let terms = Terms::default();
        let granted = terms.grant(&asked, Mode::Octet, Some(7));
        assert_eq!(granted, Options { block_size: Some(1428), timeout: None, size: Some(7), window: Some(16) });
        assert_eq!(terms.grant(&asked, Mode::Netascii, Some(7)).size, None, "its length is not known");
        assert_eq!(terms.grant(&asked, Mode::Octet, Some(0)).size, None, "curl would give up");
        assert_eq!(terms.grant(&asked, Mode::Octet, None).size, None);
    }

    #[test]
    fn an_unheard_packet_is_sent_five_times_at_growing_distances() {
        let mut scene = plain(&[0; 600]);
        scene.sent();
        scene.acknowledge(1);
        let second = scene.sent();
        for wait in [1000, 2000, 4000, 4000] {
            scene.pass(wait - 1);
            assert!(scene.sent().is_empty());
            scene.pass(1);
            assert_eq!(scene.sent(), second);
        }
        scene.pass(3999);
        assert_eq!(scene.transfer.end(), None);
        scene.pass(1);
        assert_eq!((scene.transfer.end(), scene.sent().len()), (Some(End::Silent), 0));
    }

    #[test]
    fn who_has_acknowledged_nothing_is_sent_the_first_packet_three_times() {
        let mut scene = plain(&[0; 600]);
        let first = scene.sent();
        for wait in [1000, 2000] {
            scene.pass(wait);
            assert_eq!(scene.sent(), first);
        }
        scene.pass(3999);
        assert_eq!(scene.transfer.end(), None);
        scene.pass(1);
        assert_eq!((scene.transfer.end(), scene.sent().len()), (Some(End::Silent), 0));
    }

    #[test]
    fn a_peer_that_is_heard_has_all_the_patience_again() {
        let mut scene = plain(&[0; 2000]);
        scene.sent();
        scene.pass(1000);
        scene.sent();
        scene.acknowledge(1);
        assert_eq!(scene.blocks(), [2]);
        assert_eq!(scene.transfer.deadline(), Some(scene.now + Duration::from_secs(1)));
    }

    #[test]
    fn the_peers_timeout_is_the_first_wait() {
        let mut scene = scene(Options { timeout: Some(3), ..Options::default() }, Mode::Octet, b"file");
        assert_eq!(scene.sent(), [b"\0\x06timeout\x003\0"]);
        assert_eq!(scene.transfer.deadline(), Some(scene.now + Duration::from_secs(3)));
    }

    #[test]
    fn an_acknowledgement_said_twice_is_not_answered_twice() {
        let mut scene = plain(&[0; 2000]);
        assert_eq!(scene.blocks(), [1]);
        scene.acknowledge(1);
        assert_eq!(scene.blocks(), [2]);
        for nothing_new in [1, 0, 3, 65_535] {
            scene.acknowledge(nothing_new);
            assert!(scene.blocks().is_empty(), "{nothing_new}");
        }
        scene.acknowledge(2);
        assert_eq!(scene.blocks(), [3]);
    }

    #[test]
    fn after_a_gap_in_a_window_the_rest_comes_again() {
        let mut scene = windowed(4, &[0; 512 * 10]);
        assert_eq!(scene.blocks(), [1, 2, 3, 4]);
        scene.acknowledge(2);
        assert_eq!(scene.blocks(), [3, 4, 5, 6]);
        // The first of them lost: what the peer says brings nothing new, and is answered all the same, once.
        scene.acknowledge(2);
        assert_eq!(scene.blocks(), [3, 4, 5, 6]);
        scene.acknowledge(2);
        assert!(scene.blocks().is_empty());
        scene.pass(1000);
        assert_eq!(scene.blocks(), [3, 4, 5, 6]);
        scene.acknowledge(6);
        assert_eq!(scene.blocks(), [7, 8, 9, 10]);
        scene.acknowledge(10);
        assert_eq!(scene.blocks(), [11], "an empty one, to say that this was all");
        scene.acknowledge(11);
        assert_eq!(scene.transfer.end(), Some(End::Complete));
    }

    #[test]
    fn block_numbers_begin_again_with_0() {
        let mut scene = windowed(16, &vec![0; 512 * 65_540]);
        let mut last = 0u16;
        while scene.transfer.end().is_none() {
            for block in scene.blocks() {
                assert_eq!(block, last.wrapping_add(1));
                last = block;
            }
            scene.acknowledge(last);
        }
        assert_eq!((last, scene.transfer.acknowledged_blocks()), (5, 65_541));
    }

    #[test]
    fn who_asks_again_gets_the_packet_in_flight_and_no_more_of_them() {
        let mut scene = windowed(4, &[0; 5000]);
        assert_eq!(scene.blocks(), [1, 2, 3, 4]);
        assert!(scene.transfer.asked_again());
        assert_eq!(scene.blocks(), [1]);
        scene.pass(999);
        assert!(scene.transfer.asked_again());
        assert_eq!(scene.blocks(), [1]);
        // It did not make the peer seem alive.
        scene.pass(1);
        assert_eq!(scene.blocks(), [1, 2, 3, 4]);
        scene.acknowledge(4);
        scene.sent();
        assert!(scene.transfer.asked_again(), "a request that was long on its way");
        scene.pass(1000);
        scene.sent();
        assert!(!scene.transfer.asked_again(), "it has begun anew");
        let mut scene = plain(b"file");
        scene.sent();
        scene.acknowledge(1);
        assert!(!scene.transfer.asked_again(), "it has all of it, and wants it once more");
    }

    #[test]
    fn an_agreement_is_repeated_until_it_is_taken() {
        let mut scene = scene(Options { size: Some(0), ..Options::default() }, Mode::Octet, b"file");
        let agreement = scene.sent();
        assert_eq!(agreement, [b"\0\x06tsize\x004\0"]);
        scene.acknowledge(1);
        assert!(scene.sent().is_empty());
        assert!(scene.transfer.asked_again());
        assert_eq!(scene.sent(), agreement);
        scene.pass(1000);
        assert_eq!(scene.sent(), agreement);
        scene.acknowledge(0);
        assert_eq!(scene.blocks(), [1]);
    }

    #[test]
    fn an_error_of_the_peers_ends_it_and_one_of_ours_is_told_once() {
        let mut scene = plain(b"file");
        scene.sent();
        scene.transfer.heard(&Packet::Error { code: 3, message: b"disk full" });
        assert_eq!((scene.transfer.end(), scene.sent().len()), (Some(End::GivenUp(3)), 0));
        let mut scene = plain(&[0; 5000]);
        scene.sent();
        scene.transfer.fail(Code::Undefined, "unreadable");
        assert_eq!(scene.sent(), [b"\0\x05\0\0unreadable\0"]);
        assert_eq!(scene.transfer.end(), Some(End::Failed));
    }

    #[test]
    fn waiting_for_the_file_is_not_the_peers_fault() {
        let mut scene = plain(&[0; 512]);
        while scene.transfer.is_hungry() {
            scene.transfer.feed(scene.pieces.pop_front());
        }
        scene.sent();
        let mut unfed = Transfer::new(&Options::default(), Mode::Octet, None, &Terms::default());
        assert!(unfed.is_hungry() && !unfed.next_packet(scene.now, &mut Vec::new()));
        assert_eq!(unfed.deadline(), None);
    }
}
