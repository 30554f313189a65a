//! The engine alone beside dnsmasq: a file of 4 KiB that lies in memory, fetched by many at once over loopback.
//!
//! `cargo bench -p provost-tftp` prints transfers per second, the server's processor time for each, and both as dnsmasq's in ours. The
//! server has one processor and the clients another. dnsmasq takes port 69 of 127.0.0.1: `unshare --net` gives it one of its own. What the whole of Provost takes is measured by tests/benches.

#![allow(clippy::print_stdout, reason = "a table is what this is for")]

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        env, fs,
        future::{Ready, pending, ready},
        io,
        net::{Ipv4Addr, SocketAddr, UdpSocket},
        path::Path,
        process::{Child, Command, Stdio},
        task::{Context, Poll},
        thread,
        time::{Duration, Instant},
    };

    use bytes::Bytes;
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    use provost_tftp::{Content, Denied, Files, Manner, Terms, serve};

    const NAME: &str = "phone.cfg";
    const SIZE: usize = 4096;
    const PATIENCE: Duration = Duration::from_secs(1);
    const ROUNDS: usize = 5;

    pub(super) fn main() {
        let args: Vec<String> = env::args().collect();
        match args.get(1).map(String::as_str) {
            Some("serve") => return serve_on(args[2].parse().expect("an address"), args[3] == "own-port"),
            Some("load") => {
                let (address, at_once, block) = (&args[2], &args[3], &args[4]);
                return load(address.parse().expect("an address"), at_once.parse().unwrap(), block.parse().unwrap());
            }
            _ => {}
        }
        println!(
            "{:<16} {:>7} {:>5} {:>10} {:>8} {:>6}",
            "server", "at once", "block", "transfers/s", "µs each", "late"
        );
        for at_once in [1, 64, 512] {
            for block in [512, 1428] {
                measure(at_once, block);
            }
        }
    }

    /// What one server came to in one round.
    #[derive(Clone, Copy)]
    struct Figures {
        rate: f64,
        micros: f64,
        late: f64,
    }

    fn measure(at_once: usize, block: usize) {
        let mut kinds = vec!["own-port", "single-port"];
        if Path::new("/usr/sbin/dnsmasq").exists() {
            // As it comes, with a port for each transfer.
            kinds.push("dnsmasq");
        }
        if Path::new("/usr/sbin/atftpd").exists() {
            kinds.push("atftpd");
        }
        let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); kinds.len()];
        for _ in 0..ROUNDS {
            for (kind, rounds) in kinds.iter().zip(&mut rounds) {
                rounds.push(round(kind, at_once, block));
            }
        }
        for (kind, rounds) in kinds.iter().zip(&mut rounds) {
            let mut median = |of: fn(&Figures) -> f64| {
                rounds.sort_by(|a, b| of(a).total_cmp(&of(b)));
                of(&rounds[rounds.len() / 2])
            };
            let (rate, micros, late) = (median(|f| f.rate), median(|f| f.micros), median(|f| f.late));
            println!("{kind:<16} {at_once:>7} {block:>5} {rate:>10.0} {micros:>8.1} {late:>6}");
        }
    }

    fn round(kind: &str, at_once: usize, block: usize) -> Figures {
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let dir = env::temp_dir().join(format!("tftp-rate-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(NAME), file()).unwrap();
        let own = env::current_exe().unwrap();
        let mut server = Command::new("taskset");
        server.args(["-c", "0"]).stdout(Stdio::null()).stderr(Stdio::null());
        match kind {
            "dnsmasq" => {
                server.args(["/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--enable-tftp"]);
                server.args([
                    "--user=root",
                    "--tftp-max=1024",
                    "--quiet-tftp",
                    "--pid-file=",
                    "--log-facility=/dev/null",
                ]);
                server.args(["--port=0", "--listen-address=127.0.0.1", "--bind-interfaces"]);
                server.arg(format!("--tftp-root={}", dir.display()));
            }
            "atftpd" => {
                server.args(["/usr/sbin/atftpd", "--daemon", "--no-fork", "--user", "root", "--verbose=0"]);
                server.args(["--maxthread", "2000", "--bind-address", "127.0.0.1", "--port", &port.to_string()]);
                server.arg(&dir);
            }
            kind => {
                server.arg(own.as_os_str()).args(["serve", &address.to_string(), kind]);
            }
        }
        let address = if kind == "dnsmasq" { SocketAddr::from((Ipv4Addr::LOCALHOST, 69)) } else { address };
        let mut server = server.spawn().expect("taskset is there");
        while !listens(address.port()) {
            assert!(server.try_wait().unwrap().is_none(), "{kind} ended");
            thread::yield_now();
        }
        let run = || {
            let mut load = Command::new("taskset");
            load.args(["-c", "1"]).arg(&own).args([
                "load",
                &address.to_string(),
                &at_once.to_string(),
                &block.to_string(),
            ]);
            let out = load.output().unwrap();
            assert!(out.status.success(), "{kind}: {}", String::from_utf8_lossy(&out.stderr));
            let out = String::from_utf8(out.stdout).unwrap();
            let mut figures = out.split_whitespace().map(|figure| figure.parse::<f64>().unwrap());
            (figures.next().unwrap(), figures.next().unwrap(), figures.next().unwrap())
        };
        let before = busy(&server);
        let (done, seconds, late) = run();
        let micros = (busy(&server) - before) / 1e3 / done;
        server.kill().unwrap();
        server.wait().unwrap();
        fs::remove_dir_all(&dir).unwrap();
        Figures { rate: done / seconds, micros, late }
    }

    fn listens(port: u16) -> bool {
        let table = fs::read_to_string("/proc/net/udp").unwrap();
        table.contains(&format!("0100007F:{port:04X} ")) || table.contains(&format!("00000000:{port:04X} "))
    }

    /// Nanoseconds that all threads of a process have run; threads that have ended are lost, so this is for servers without.
    fn busy(server: &Child) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
        let of = |stat: String| stat.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok());
        tasks.flatten().filter_map(|task| of(fs::read_to_string(task.path().join("schedstat")).ok()?)).sum()
    }

    fn file() -> Vec<u8> {
        (0..SIZE).map(|n| (n % 251) as u8).collect()
    }

    struct Memory(Bytes);

    impl Files for Memory {
        type Opening = Ready<Result<Body, Denied>>;
        type Content = Body;

        fn open(&self, _name: &str, _peer: SocketAddr, _local: SocketAddr) -> Result<Self::Opening, Denied> {
            Ok(ready(Ok(Body(self.0.clone()))))
        }
    }

    struct Body(Bytes);

    impl Content for Body {
        fn len(&self) -> u64 {
            SIZE as u64
        }

        fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
            let piece = std::mem::take(&mut self.0);
            Poll::Ready((!piece.is_empty()).then_some(Ok(piece)))
        }
    }

    fn serve_on(address: SocketAddr, port_per_transfer: bool) {
        let socket = UdpSocket::bind(address).unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
        let manner = Manner { terms: Terms::default(), port_per_transfer };
        serve(&socket, &Memory(file().into()), manner, pending()).unwrap();
    }

    /// One of those that fetch at once: one file after the other, each from a port of its own as phones do it.
    struct Client {
        socket: UdpSocket,
        server: SocketAddr,
        packet: Vec<u8>,
        expected: u16,
        got: usize,
        sent: Instant,
    }

    fn load(server: SocketAddr, at_once: usize, block: usize) {
        let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
        let (begun, whole) = (Instant::now(), file());
        let time = Duration::from_millis(1500);
        let mut late = 0;
        let mut done = 0;
        let ask = |number: usize| {
            // Not from the server's address, whose ports are those of its transfers.
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, number as u64)).unwrap();
            let mut packet = [b"\0\x01", NAME.as_bytes(), b"\0octet\0"].concat();
            if block != 512 {
                packet.extend_from_slice(format!("blksize\0{block}\0").as_bytes());
            }
            socket.send_to(&packet, server).unwrap();
            Client { socket, server, packet, expected: 1, got: 0, sent: Instant::now() }
        };
        let mut clients: Vec<Option<Client>> = (0..at_once).map(|number| Some(ask(number))).collect();
        let mut left = at_once;
        let mut events = vec![EpollEvent::empty(); 512];
        let mut last_look = begun;
        while left > 0 {
            let ready = epoll.wait(&mut events, EpollTimeout::from(200u16)).unwrap();
            let now = Instant::now();
            for event in &events[..ready] {
                let number = event.data() as usize;
                let Some(client) = &mut clients[number] else { continue };
                if !client.hear(block, &whole, now) {
                    continue;
                }
                done += 1;
                clients[number] = if begun.elapsed() < time { Some(ask(number)) } else { None };
                left -= usize::from(clients[number].is_none());
            }
            if now.duration_since(last_look) > Duration::from_millis(200) {
                last_look = now;
                for client in clients.iter_mut().flatten().filter(|client| now.duration_since(client.sent) > PATIENCE) {
                    late += 1;
                    assert!(late < 10 * at_once, "it does not answer any more");
                    client.sent = now;
                    client.socket.send_to(&client.packet, client.server).unwrap();
                }
            }
        }
        println!("{done} {} {late}", begun.elapsed().as_secs_f64());
    }

    impl Client {
        /// True when the file is there.
        fn hear(&mut self, block: usize, whole: &[u8], now: Instant) -> bool {
            let mut buffer = [0; 2048];
            let Ok((len, from)) = self.socket.recv_from(&mut buffer) else { return false };
            let number = match buffer[..len] {
                [0, 6, ..] if self.got == 0 => 0,
                [0, 3, high, low, ..] if u16::from_be_bytes([high, low]) == self.expected => {
                    assert!(buffer[4..len] == whole[self.got..self.got + len - 4], "wrong bytes");
                    self.got += len - 4;
                    self.expected += 1;
                    self.expected - 1
                }
                [0, 3, ..] | [0, 6, ..] => return false,
                _ => panic!("{}", String::from_utf8_lossy(&buffer[..len])),
            };
            let [high, low] = number.to_be_bytes();
            self.packet = vec![0, 4, high, low];
            self.server = from;
            self.sent = now;
            self.socket.send_to(&self.packet, from).unwrap();
            number > 0 && len < block + 4
        }
    }
}
