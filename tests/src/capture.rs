//! What went over the wire: tshark writes it down, and reads it with a dissector's eye.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Namespace, tools};

/// How long tshark may take to begin, and to write what it has heard.
const PATIENCE: Duration = Duration::from_secs(20);

/// A group that nobody joins, for the marks by which the two ends of a capture are known.
const NOBODY: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 255, 255), 9);

#[derive(Debug)]
pub struct Capture {
    tshark: Child,
    /// A sender on each segment.
    marks: Vec<UdpSocket>,
    file: PathBuf,
    /// Ports on which a protocol is spoken that has others by custom, as tshark's `-d` wants them.
    decode_as: Vec<String>,
    stopped: bool,
    _directory: tempfile::TempDir,
}

impl Capture {
    /// On these bridges of the switch, each with the switch's address there.
    pub(crate) fn start(switch: &Namespace, bridges: &[(String, Ipv4Addr)]) -> Capture {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("wire.pcapng");
        let mut tshark = switch.command(tools::require("tshark"));
        for (bridge, _) in bridges {
            tshark.args(["-i", bridge]);
        }
        tshark.arg("-q").arg("-w").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let tshark = tshark.spawn().expect("tshark can be started");
        let marks = bridges.iter().map(|(_, address)| switch.udp((*address, 0))).collect();
        let mut capture = Capture { tshark, marks, file, decode_as: Vec::new(), stopped: false, _directory: directory };
        capture.mark("begin");
        capture
    }

    /// Tells tshark that this port speaks this protocol: `decode("udp.port", 6969, "tftp")`.
    pub fn decode(&mut self, layer: &str, port: u16, protocol: &str) -> &mut Capture {
        self.decode_as.extend(["-d".to_owned(), format!("{layer}=={port},{protocol}")]);
        self
    }

    /// Ends the capture, with all that was sent before this call in it. The file lives as long as the capture.
    pub fn stop(&mut self) -> &Path {
        if !self.stopped {
            self.mark("end");
            self.end();
        }
        &self.file
    }

    /// The packets that this display filter shows, as tab-separated lines of these fields.
    pub fn fields(&mut self, filter: &str, fields: &[&str]) -> Vec<String> {
        self.stop();
        let mut tshark = Command::new(tools::require("tshark"));
        tshark.arg("-r").arg(&self.file).args(&self.decode_as).args(["-Y", filter, "-T", "fields"]);
        for field in fields {
            tshark.args(["-e", field]);
        }
        let output = tools::feed(&mut tshark, b"").unwrap_or_else(|error| panic!("{error}"));
        String::from_utf8_lossy(&output).lines().map(str::to_owned).collect()
    }

    /// How many packets this display filter shows. An ICMP error counts as what it quotes: `sip and not icmp`.
    pub fn count(&mut self, filter: &str) -> usize {
        self.fields(filter, &["frame.number"]).len()
    }

    /// Every SIP, HTTP and TFTP packet that a dissector cannot read, or calls an error; in SIP also what it warns of. One line each:
    /// frame, protocol, sender, what is wrong. It does not hold a SIP Content-Length against the body: the simulated phone does.
    pub fn malformed(&mut self) -> Vec<String> {
        // 0x800000 is an error, 0x600000 a warning.
        self.fields(
            "not icmp and (sip or http or tftp) and (_ws.malformed or _ws.expert.severity == 0x800000 or (sip and _ws.expert.severity == 0x600000))",
            &["frame.number", "_ws.col.Protocol", "ip.src", "_ws.expert.message", "_ws.col.Info"],
        )
    }

    fn end(&mut self) {
        self.stopped = true;
        if let Some(pid) = Pid::from_raw(self.tshark.id() as i32) {
            // tshark ends its capturing child by itself.
            // Gone already is as good.
            let _ = kill_process(pid, Signal::INT);
        }
        drop(self.tshark.wait());
    }

    /// Sends a mark on every segment, again and again, until it is in the file: what was sent before it is then in there too.
    fn mark(&mut self, word: &str) {
        let words: Vec<String> =
            (0..self.marks.len()).map(|segment| format!("provost capture: {word} {segment}.")).collect();
        let until = Instant::now() + PATIENCE;
        loop {
            for (socket, word) in self.marks.iter().zip(&words) {
                socket
                    .send_to(word.as_bytes(), NOBODY)
                    .unwrap_or_else(|error| panic!("cannot mark a capture: {error}"));
            }
            std::thread::sleep(Duration::from_millis(50));
            let written = fs::read(&self.file).unwrap_or_default();
            if words.iter().all(|word| written.windows(word.len()).any(|window| window == word.as_bytes())) {
                return;
            }
            if let Ok(Some(status)) = self.tshark.try_wait() {
                panic!("tshark ended by itself with {status}");
            }
            assert!(Instant::now() < until, "tshark did not write the {word} of the capture within {PATIENCE:?}");
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if !self.stopped {
            self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Lan;

    #[test]
    fn a_capture_holds_what_crossed_the_switch_and_tells_good_from_malformed() {
        let lan = Lan::with(&[0, 1], &[0, 1]);
        let mut capture = lan.capture();
        let proper = "SUBSCRIBE sip:MAC02005e000001@224.0.1.75 SIP/2.0\r\nVia: SIP/2.0/UDP 10.200.1.1:5060;branch=z9hG4bK1\r\n\
            From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 SUBSCRIBE\r\nContact: <sip:10.200.1.1>\r\n\
            Max-Forwards: 70\r\nEvent: ua-profile\r\nContent-Length: 0\r\n\r\n";
        let to = (lan.server().address(), 5060);
        let send = |phone: usize, port: u16, bytes: &[u8]| {
            let phone = lan.phone(phone);
            phone.udp((phone.address(), port)).send_to(bytes, to).unwrap();
        };
        send(0, 5060, proper.as_bytes());
        assert_eq!(capture.malformed(), Vec::<String>::new());
        assert_eq!(capture.fields("sip and not icmp", &["ip.src", "sip.Method"]), ["10.200.1.1\tSUBSCRIBE"]);

        let mut capture = lan.capture();
        lan.drop_packets(100);
        send(0, 5060, proper.replace("Content-Length: 0", "Content-Length 0").as_bytes());
        assert_eq!(capture.count("sip and not icmp"), 1, "seen, though the switch lost it");
        assert_eq!(capture.malformed().len(), 1, "{:?}", capture.malformed());
    }
}
