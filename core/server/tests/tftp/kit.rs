//! A door on loopback with a handful of files, and the clients that ask it: curl, atftp, tftp-hpa, and a phone made by hand.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime},
};

use provost_server::{
    request::{Asset, ConfigFile, ConfigRequest, Desk, Fetched},
    tftp::{Bound, Door, TftpEngine, TftpLimits},
};
use tokio::{runtime::Runtime, sync::Semaphore};

pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const TEXT: &str = "# phone\nuser=200\rname=Ann\r\n\n";
/// TEXT as netascii.
pub(crate) const TEXT_ON_THE_WIRE: &[u8] = b"# phone\r\nuser=200\r\0name=Ann\r\0\r\n\r\n";
/// Longer than any wait in here; reached only when something is broken.
pub(crate) const FAR: Duration = Duration::from_secs(30);

/// A desk with a handful of names, that remembers what it was asked.
#[derive(Debug)]
pub(crate) struct Shelf {
    assets: PathBuf,
    pub(crate) asked: Mutex<Vec<ConfigRequest>>,
    /// A name beginning with `slow-` was asked for; may be answered.
    pub(crate) begun: Semaphore,
    pub(crate) may_end: Semaphore,
}

impl Desk for Shelf {
    async fn fetch(&self, request: ConfigRequest) -> Fetched {
        let path = request.path.clone();
        self.asked.lock().unwrap().push(request);
        let mut name = path.as_str();
        if let Some(rest) = name.strip_prefix("slow-") {
            name = rest;
            self.begun.add_permits(1);
            self.may_end.acquire().await.unwrap().forget();
        }
        let body = match name {
            "phone.cfg" => TEXT.into(),
            "empty.cfg" => "".into(),
            "1024.cfg" => vec![b'x'; 1024].into(),
            "refused.cfg" => return Fetched::Refused { reason: "not enrolled yet".into() },
            "broken.cfg" => return Fetched::Failed { public: "cannot be made".into() },
            // Without the hook: where backtraces are wanted, writing one takes longer than the engine waits for the reason.
            "panic.cfg" => std::panic::resume_unwind(Box::new("the desk panics, as this test wants it to")),
            asset if asset.starts_with("asset-") => {
                let path = self.assets.join(asset);
                let found = path.metadata().unwrap();
                return Fetched::Asset(Asset {
                    path,
                    content_type: "application/octet-stream".into(),
                    len: found.len(),
                    modified: found.modified().unwrap(),
                });
            }
            name if name.starts_with("long-") => TEXT.into(),
            other => return Fetched::Unknown { reason: format!("nothing is called {other:?} here") },
        };
        Fetched::Found(ConfigFile {
            body,
            content_type: "text/plain".into(),
            etag: "0".into(),
            modified: SystemTime::UNIX_EPOCH,
        })
    }
}

/// A door on a free port of a loopback address; closed when dropped.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) desk: Arc<Shelf>,
    pub(crate) bound: Bound,
    door: Option<Door>,
    pub(crate) runtime: Runtime,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) fn served(engine: TftpEngine) -> Served {
    served_within(engine, TftpLimits::default())
}

pub(crate) fn served_within(engine: TftpEngine, limits: TftpLimits) -> Served {
    served_from(engine, true, limits)
}

pub(crate) fn served_from(engine: TftpEngine, port_per_transfer: bool, limits: TftpLimits) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path());
    let runtime = Runtime::new().unwrap();
    let mut door = {
        let _context = runtime.enter();
        Door::new(Arc::clone(&desk), engine, port_per_transfer, 0, limits)
    };
    let bound = door.serve_on(LOOPBACK).unwrap();
    Served { desk, bound, door: Some(door), runtime, dir }
}

pub(crate) fn desk(assets: &Path) -> Arc<Shelf> {
    Arc::new(Shelf {
        assets: assets.to_owned(),
        asked: Mutex::default(),
        begun: Semaphore::new(0),
        may_end: Semaphore::new(0),
    })
}

impl Served {
    pub(crate) fn asset(&self, name: &str, body: &[u8]) {
        std::fs::write(self.dir.path().join(name), body).unwrap();
    }

    /// The file, or curl's exit status. (Its words are of no use: several versions hide the true error behind one of their own.)
    pub(crate) fn curl(&self, name: &str, args: &[&str]) -> Result<Vec<u8>, i32> {
        let out = Command::new("curl")
            .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "120"])
            .args(args)
            .arg(format!("tftp://{}/{name}", self.bound.address))
            .output()
            .expect("cannot run curl; install curl");
        if out.status.success() { Ok(out.stdout) } else { Err(out.status.code().unwrap()) }
    }

    pub(crate) fn atftp(&self, name: &str, options: &[&str]) -> Vec<u8> {
        let local = self.dir.path().join("fetched");
        let mut atftp = Command::new("atftp");
        for option in options {
            atftp.args(["--option", option]);
        }
        let out = atftp
            .args(["--get", "--remote-file", name, "--local-file", local.to_str().unwrap()])
            .args([self.bound.address.ip().to_string(), self.bound.address.port().to_string()])
            .output()
            .expect("cannot run atftp; install atftp");
        assert!(
            out.status.success(),
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        std::fs::read(local).unwrap()
    }

    /// tftp-hpa's client, which has no option for options.
    pub(crate) fn tftp_hpa(&self, name: &str, mode: &str) -> Result<Vec<u8>, String> {
        let local = self.dir.path().join("fetched-by-hpa");
        let _ = std::fs::remove_file(&local);
        let (address, port) = (self.bound.address.ip().to_string(), self.bound.address.port().to_string());
        let out = Command::new("tftp")
            .args(["-m", mode, &address, &port, "-c", "get", name, local.to_str().unwrap()])
            .output()
            .expect("cannot run tftp; install tftp-hpa");
        // Its exit status is 0 whatever happened.
        match String::from_utf8_lossy(&out.stdout).trim() {
            "" => Ok(std::fs::read(local).unwrap()),
            complaint => Err(complaint.to_owned()),
        }
    }

    pub(crate) fn phone(&self) -> Phone {
        Phone::at(LOOPBACK, self.bound.address)
    }

    /// Waits until the desk has begun a slow fetch.
    pub(crate) fn slow_begun(&self) {
        self.runtime.block_on(async {
            tokio::time::timeout(FAR, self.desk.begun.acquire()).await.unwrap().unwrap().forget();
        });
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let (Some(door), false) = (self.door.take(), thread::panicking()) {
            self.runtime.block_on(async { tokio::time::timeout(FAR, door.close()).await.unwrap() });
        }
    }
}

/// A peer made by hand: one socket, one transfer.
#[derive(Debug)]
pub(crate) struct Phone {
    pub(crate) socket: UdpSocket,
    pub(crate) server: SocketAddr,
    /// Where the last packet came from.
    pub(crate) from: SocketAddr,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Packet {
    Data(u16, Vec<u8>),
    Error(u16, String),
    Options(Vec<(String, String)>),
}

impl Phone {
    pub(crate) fn at(address: IpAddr, server: SocketAddr) -> Phone {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        socket.set_read_timeout(Some(FAR)).unwrap();
        Phone { socket, server, from: server }
    }

    pub(crate) fn send_request(&self, opcode: u8, fields: &[&str]) {
        let mut packet = vec![0, opcode];
        for field in fields {
            packet.extend(field.bytes());
            packet.push(0);
        }
        self.socket.send_to(&packet, self.server).unwrap();
    }

    pub(crate) fn ask(&mut self, fields: &[&str]) -> Packet {
        self.send_request(1, fields);
        self.hear()
    }

    pub(crate) fn hear(&mut self) -> Packet {
        let mut packet = [0; 2048];
        let (len, from) = self.socket.recv_from(&mut packet).unwrap();
        self.from = from;
        self.read(&packet[..len])
    }

    /// The next packet, if one comes within this time. For what must not come: no event tells that.
    pub(crate) fn hear_within(&mut self, time: Duration) -> Option<Packet> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let mut packet = [0; 2048];
        let received = self.socket.recv_from(&mut packet);
        self.socket.set_read_timeout(Some(FAR)).unwrap();
        let (len, from) = received.ok()?;
        self.from = from;
        Some(self.read(&packet[..len]))
    }

    fn read(&self, packet: &[u8]) -> Packet {
        let (len, from) = (packet.len(), self.from);
        assert_eq!(from.ip(), self.server.ip(), "answers come from the address that was asked");
        let number = u16::from_be_bytes([packet[2], packet[3]]);
        match packet[1] {
            3 => Packet::Data(number, packet[4..len].to_vec()),
            5 => Packet::Error(number, String::from_utf8(packet[4..len - 1].to_vec()).unwrap()),
            6 => {
                let text = String::from_utf8(packet[2..len].to_vec()).unwrap();
                let mut fields = text.split_terminator('\0').map(str::to_owned);
                let mut options = Vec::new();
                while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
                    options.push((name, value));
                }
                Packet::Options(options)
            }
            other => panic!("opcode {other}"),
        }
    }

    pub(crate) fn acknowledge(&self, block: u16) {
        let [high, low] = block.to_be_bytes();
        self.socket.send_to(&[0, 4, high, low], self.from).unwrap();
    }

    /// The whole of a file, without options.
    pub(crate) fn fetch(&mut self, name: &str, mode: &str) -> Vec<u8> {
        let mut file = Vec::new();
        let mut packet = self.ask(&[name, mode]);
        let mut expected = 1;
        loop {
            let Packet::Data(block, data) = packet else { panic!("{packet:?} for {name} in {mode}") };
            if block == expected {
                file.extend(&data);
                expected += 1;
            }
            self.acknowledge(block);
            if data.len() < 512 {
                return file;
            }
            packet = self.hear();
        }
    }
}

pub(crate) fn error_code(packet: Packet) -> u16 {
    let Packet::Error(code, _) = packet else { panic!("{packet:?}") };
    code
}
