//! Configs over TFTP: a thousand phones' own files in turn, from a lean client of ours that compares every byte.
//!
//! The peers are dnsmasq, with the same bytes as files, and async-tftp, which is our portable engine: what differs there is the engine
//! alone. All write a line of log for each transfer. Beside the phones' files, which are rendered, there is one of 4 KiB that is served as it is.

use std::{
    cell::Cell,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{net::UdpSocket, task::LocalSet, time::timeout};

use crate::{
    Scale,
    figures::{Better, Figures, said},
    peers,
    running::Running,
    site::{File, Site, TFTP},
};

const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: usize = 5;

pub(crate) fn measure(site: &Site, files: &[File], scale: Scale, figures: &mut Figures) {
    let dnsmasq = peers::find("dnsmasq", "dnsmasq-base", figures);
    if let Some(dnsmasq) = &dnsmasq {
        let version = said(&dnsmasq.display().to_string(), &["--version"]);
        figures.peer(version.split("  ").next().unwrap_or_default().replace("Dnsmasq version", "dnsmasq"));
    }
    let fixed = site.asset("bench.bin", 4096);
    for files in [files, std::slice::from_ref(&fixed)] {
        let root = site.lay_out(files);
        for (at_once, block) in [(1, 512), (1, 1428), (64, 512), (64, 1428), (512, 512), (512, 1428)] {
            compare(
                site,
                files,
                dnsmasq.as_deref().map(|dnsmasq| (dnsmasq, root.as_path())),
                at_once,
                block,
                scale,
                figures,
            );
        }
    }
}

fn compare(
    site: &Site,
    files: &[File],
    dnsmasq: Option<(&Path, &Path)>,
    at_once: usize,
    block: usize,
    scale: Scale,
    figures: &mut Figures,
) {
    let mean = files.iter().map(|file| file.body.len()).sum::<usize>() / files.len();
    let (mut ours, mut portable, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..scale.repetitions {
        ours.push(load(site, &serve(site, "own"), files, at_once, block, scale));
        portable.push(load(site, &serve(site, "portable"), files, at_once, block, scale));
        if let Some((dnsmasq, root)) = dnsmasq {
            theirs.push(load(site, &static_files(site, dnsmasq, root), files, at_once, block, scale));
        }
    }
    for (name, peer) in [("dnsmasq", &theirs), ("async-tftp", &portable)] {
        let mut add = |measure: &str, unit, better, of: fn(&Load) -> f64| {
            let what = format!("TFTP, {at_once} at once, blocks of {block}, {mean} bytes: {measure}");
            figures.add(what, unit, better, ours.iter().map(of).collect(), Some((name, peer.iter().map(of).collect())));
        };
        add("transfers", "transfers/s", Better::More, |load| load.rate);
        if at_once > 1 {
            add("server's processor time", "µs/transfer", Better::Less, |load| load.processor);
        }
    }
    let again = |loads: &[Load]| loads.iter().map(|load| load.again).sum::<usize>();
    if again(&ours) + again(&portable) + again(&theirs) > 0 {
        figures.note(format!(
            "TFTP, {at_once} at once, blocks of {block}, {mean} bytes: packets that waited longer than {} s for an answer: {} at provost, {} at async-tftp, {} at dnsmasq",
            PATIENCE.as_secs(),
            again(&ours),
            again(&portable),
            again(&theirs)
        ));
    }
}

fn serve(site: &Site, engine: &str) -> Running {
    site.serve_with(&format!("tftp: {{ engine: {engine} }}")).until("listening", |server| server.listens_on_udp(TFTP))
}

pub(crate) fn static_files(site: &Site, dnsmasq: &Path, root: &Path) -> Running {
    let mut command = site.lan.server().command(dnsmasq);
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--enable-tftp",
        "--tftp-max=1024",
        "--user=root",
    ]);
    let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
    command.arg(option("tftp-root", root));
    command
        .arg(option("pid-file", &site.work("dnsmasq.pid")))
        .arg(option("log-facility", &site.work("dnsmasq-tftp.log")));
    let dnsmasq = Running::start(command, &site.work("dnsmasq.log"));
    dnsmasq.until("listening", |dnsmasq| dnsmasq.listens_on_udp(TFTP))
}

#[derive(Debug)]
struct Load {
    rate: f64,
    processor: f64,
    /// Packets of ours that had to be sent again.
    again: usize,
}

fn load(site: &Site, server: &Running, files: &[File], at_once: usize, block: usize, scale: Scale) -> Load {
    let address = SocketAddrV4::new(site.server_address(), TFTP);
    let run = |time: Duration, least: usize| {
        site.lan.phone(0).block_on(async || clients(address, &site.sources, at_once, files, block, time, least).await)
    };
    // Each file once at least: what a first fetch costs is measured with the storms.
    run(Duration::from_millis(300), files.len());
    let before = server.processor_time();
    let (transfers, seconds, again) = run(Duration::from_millis(scale.pick(1000, 500)), 0);
    let processor = server.processor_time() - before;
    Load { rate: transfers as f64 / seconds, processor: processor.as_secs_f64() * 1e6 / transfers as f64, again }
}

/// So many fetch one file after the other, until the time is up and the last ones are there, and `least` were.
async fn clients(
    server: SocketAddrV4,
    sources: &[Ipv4Addr],
    at_once: usize,
    files: &[File],
    block: usize,
    time: Duration,
    least: usize,
) -> (usize, f64, usize) {
    let (next, again) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let files: Rc<[File]> = files.into();
    let begun = Instant::now();
    let local = LocalSet::new();
    let sources: Rc<[Ipv4Addr]> = sources.into();
    for _ in 0..at_once {
        let (next, again, files) = (Rc::clone(&next), Rc::clone(&again), Rc::clone(&files));
        let sources = Rc::clone(&sources);
        local.spawn_local(async move {
            while begun.elapsed() < time || next.get() < least {
                let turn = next.replace(next.get() + 1);
                let number = turn % files.len();
                // A phone has an address, and keeps it; what is for all is fetched by each in turn.
                let phone = if files.len() > 1 { number } else { turn };
                fetch(server, sources[phone % sources.len()], &files[number], block, &again).await;
            }
        });
    }
    // A task that panics takes the runtime's caller with it: nothing that failed is counted.
    local.await;
    (next.get(), begun.elapsed().as_secs_f64(), again.get())
}

/// One transfer. Panics at any answer that is not the file.
pub(crate) async fn fetch(server: SocketAddrV4, source: Ipv4Addr, file: &File, block: usize, again: &Cell<usize>) {
    let got = get(server, source, &file.name, block, again).await;
    assert!(got == file.body, "{}: {} bytes came, and not those that were served over HTTP", file.name, got.len());
}

/// A file of this name, to a port of its own as phones do it. Panics where none comes.
pub(crate) async fn get(
    server: SocketAddrV4,
    source: Ipv4Addr,
    name: &str,
    block: usize,
    again: &Cell<usize>,
) -> Vec<u8> {
    let socket = UdpSocket::bind((source, 0)).await.expect("there are ports left");
    let mut packet = [&[0, 1], name.as_bytes(), b"\0octet\0"].concat();
    if block != 512 {
        packet.extend_from_slice(format!("blksize\0{block}\0").as_bytes());
    }
    let mut to = server;
    let mut got = Vec::with_capacity(4096);
    let mut expected: u16 = 1;
    let mut buffer = vec![0; block + 4];
    socket.send_to(&packet, to).await.expect("the network is up");
    loop {
        let mut tries = 0;
        let (length, from) = loop {
            match timeout(PATIENCE, socket.recv_from(&mut buffer)).await {
                Ok(received) => break received.expect("the network is up"),
                Err(_) => {
                    tries += 1;
                    assert!(tries < TRIES, "{name}: no answer after {TRIES} tries");
                    again.set(again.get() + 1);
                    socket.send_to(&packet, to).await.expect("the network is up");
                }
            }
        };
        if let std::net::SocketAddr::V4(from) = from {
            to = from;
        }
        let number = match buffer[..length] {
            // OACK: the transfer begins with the acknowledgement of block 0.
            [0, 6, ..] if got.is_empty() => 0,
            [0, 3, high, low, ..] if u16::from_be_bytes([high, low]) == expected => {
                got.extend_from_slice(&buffer[4..length]);
                expected = expected.wrapping_add(1);
                expected.wrapping_sub(1)
            }
            // A repetition of what has been acknowledged.
            [0, 3, ..] | [0, 6, ..] => continue,
            _ => panic!("{name}: {}", String::from_utf8_lossy(&buffer[..length])),
        };
        let [high, low] = number.to_be_bytes();
        packet = vec![0, 4, high, low];
        socket.send_to(&packet, to).await.expect("the network is up");
        if number > 0 && length < block + 4 {
            return got;
        }
    }
}
