//! `provost doctor` on a network that is well, and on one after the other that is broken in one thing. What was broken and what it said is
//! printed and written to TARGET/doctor.md.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use provost_plugin::MacAddr;
use provost_tests::{Host, Lan, Plan, Seat, Server, built, receive, tools};
use serde_json::Value;

use crate::{
    resync,
    wire::{Captured, GROUP, Handset, decided, subscribe},
};

/// A DNS server that knows no name, on the phone's host, and the file that names it. Gone with the value.
struct Names {
    file: PathBuf,
    stop: Arc<AtomicBool>,
}

impl Names {
    fn serve(lan: &Lan) -> Names {
        let host = lan.phone(0);
        let socket = host.udp((host.address(), 53));
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            let mut question = [0; 512];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut question)
                    && length >= 12
                {
                    // An answer, and no such name.
                    (question[2], question[3]) = (0x81, 0x83);
                    let _ = socket.send_to(&question[..length], from);
                }
            }
        });
        let names = Names { file: PathBuf::from("/etc/netns").join(lan.server().name()).join("resolv.conf"), stop };
        names.say(&format!("nameserver {}\n", host.address()));
        names
    }

    /// `ip netns exec` shows programs this file as /etc/resolv.conf.
    fn say(&self, text: &str) {
        fs::create_dir_all(self.file.parent().unwrap()).unwrap();
        fs::write(&self.file, text).unwrap();
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = fs::remove_dir_all(self.file.parent().unwrap());
    }
}

/// A server with two legs, a phone on each, and a DNS server.
struct Bench {
    // The server goes before the network that it is on.
    server: Option<Server>,
    lan: Lan,
    names: Names,
    /// What it is asked beyond the usual.
    words: &'static [&'static str],
    /// A program that starts it, in place of itself.
    through: Option<PathBuf>,
    /// Whatever a case wants to be there as long as it looks.
    held: Vec<Box<dyn std::any::Any>>,
}

impl Bench {
    fn new(settings: &str) -> Bench {
        Bench::prepared(settings, |_| Vec::new(), opened)
    }

    /// The same with something in the server's way before it starts.
    fn prepared(
        settings: &str,
        before: impl FnOnce(&Lan) -> Vec<Box<dyn std::any::Any>>,
        wait: impl FnOnce(Server) -> Server,
    ) -> Bench {
        let lan = Lan::with(&[0, 1], &[0, 1]);
        let names = Names::serve(&lan);
        let held = before(&lan);
        let server = wait(Bench::plan(&lan, settings).start());
        Bench { server: Some(server), lan, names, words: &[], through: None, held }
    }

    fn plan(lan: &Lan, settings: &str) -> Plan {
        let inventory =
            format!("devices:\n  \"{}\": {{ lines: [{{ number: 100, password: secret-100 }}] }}\n", captured().mac);
        // On purpose, so that the log has no word about it.
        let settings = format!("process: {{ user: root }}\n{settings}");
        Plan::on(lan.server()).file("profiles/site.yaml", inventory).file("provost.yaml", settings)
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    fn doctor(&self, words: &[&str]) -> std::process::Command {
        let mut command = self.lan.server().command(self.through.as_ref().unwrap_or(&built().provost));
        let server = self.server();
        command
            .arg("doctor")
            .arg("--data")
            .arg(server.data())
            .arg("--settings")
            .arg(server.data().join("provost.yaml"));
        command.args(["--admin", &server.admin().to_string()]).args(words).stdin(Stdio::null());
        command
    }

    /// The report, and whether the program ended well.
    fn look(&self) -> (Value, bool) {
        let output = self.doctor(self.words).arg("--json").output().unwrap();
        let report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        (report, output.status.success())
    }
}

fn captured() -> Captured {
    Captured::one("02")
}

/// One thing that is broken.
struct Breakage {
    what: &'static str,
    make: fn() -> Bench,
    /// The checks that find it, and words of each; no other may find anything.
    found: &'static [(&'static str, &'static str)],
}

fn broken(change: impl FnOnce(&mut Bench)) -> Bench {
    let mut bench = Bench::new("");
    change(&mut bench);
    bench
}

/// A program of these lines of shell.
fn script(directory: &Path, name: &str, lines: &str) -> PathBuf {
    let script = directory.join(name);
    fs::write(&script, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    script
}

fn sysctl(host: &Host, name: &str, value: &str) {
    let file = format!("/proc/sys/net/ipv4/{name}");
    host.enter(|| fs::write(file, value).unwrap());
}

fn iptables(host: &Host, words: &str) {
    let mut command = host.command(tools::require("iptables"));
    tools::feed(command.args(words.split(' ')), b"").unwrap_or_else(|error| panic!("{error}"));
}

/// Waits until the server follows what happened to eth1.
fn left(bench: &Bench) {
    bench.server().wait_for("left eth1", |line| line.is("message", "left the group") && line.is("interface", "eth1"));
}

const BREAKAGES: &[Breakage] = &[
    Breakage {
        what: "`ip link set eth1 down`",
        make: || {
            broken(|bench| {
                bench.lan.server().set_up("eth1", false);
                left(bench);
            })
        },
        found: &[("links", "it is down")],
    },
    Breakage {
        what: "the switch's end of eth1 is taken down",
        make: || broken(|bench| bench.lan.cut(Seat::Server, "eth1")),
        found: &[("links", "nothing at the other end of its cable")],
    },
    Breakage {
        what: "`ip link set eth1 multicast off`",
        make: || {
            broken(|bench| {
                bench.lan.server().ip("link set eth1 multicast off\n");
                left(bench);
            })
        },
        found: &[("links", "multicast is switched off")],
    },
    Breakage {
        what: "`ip address flush dev eth1`",
        make: || {
            broken(|bench| {
                bench.lan.server().ip("address flush dev eth1\n");
                left(bench);
            })
        },
        found: &[("links", "no IPv4 address")],
    },
    Breakage {
        what: "`pnp.interfaces: [eth0, eth7]`",
        make: || Bench::new("pnp: { interfaces: [eth0, eth7] }\n"),
        found: &[("links", "there is no such interface")],
    },
    Breakage {
        what: "the server is stopped",
        make: || {
            broken(|bench| {
                bench.server.as_mut().unwrap().stop();
            })
        },
        found: &[("membership", "no Provost server runs on this machine")],
    },
    Breakage {
        what: "another program hears the group",
        make: || {
            broken(|bench| {
                let socket = bench.lan.server().udp(GROUP);
                let address = bench.lan.server().address();
                bench.lan.server().enter(|| socket.join_multicast_v4(GROUP.ip(), &address)).unwrap();
                bench.held.push(Box::new(socket));
            })
        },
        found: &[("membership", "hears 224.0.1.75:5060 as well")],
    },
    Breakage {
        what: "nftables: `udp dport 5060 drop` in input",
        make: || {
            broken(|bench| {
                let rules = "table inet filter {\n chain input {\n  type filter hook input priority 0\n  udp dport 5060 drop\n }\n}\n";
                bench.lan.server().nft(rules);
            })
        },
        found: &[
            ("firewall", "the firewall drops phones' SUBSCRIBEs: rule"),
            ("echo", "did not come back"),
            ("echo", "did not come back"),
        ],
    },
    Breakage {
        what: "nftables: policy drop, with 5060, 8080, IGMP and what is established let through, but not 69",
        make: || {
            broken(|bench| {
                let rules = "table inet filter {\n set tcp_in { type inet_service; elements = { 22, 8080 }; }\n chain input {\n  \
                             type filter hook input priority 0; policy drop;\n  iifname lo accept\n  ct state established,related accept\n  \
                             udp dport { 5060, 5061 } accept\n  tcp dport @tcp_in accept\n  meta l4proto igmp accept\n }\n}\n";
                bench.lan.server().nft(rules);
            })
        },
        found: &[("firewall", "the firewall drops phones' requests over TFTP: the policy of chain input")],
    },
    Breakage {
        what: "iptables: `-A INPUT -i eth1 -p tcp -m multiport --dports 80,8080 -j REJECT`",
        make: || {
            broken(|bench| {
                iptables(bench.lan.server(), "-A INPUT -i eth1 -p tcp -m multiport --dports 80,8080 -j REJECT");
            })
        },
        found: &[("firewall", "the firewall drops phones' requests over HTTP: `-A INPUT -i eth1")],
    },
    Breakage {
        what: "nftables: UDP to 5060 dropped in output",
        make: || {
            broken(|bench| {
                let rules = "table inet filter {\n chain output {\n  type filter hook output priority 0\n  udp dport 5060 drop\n }\n}\n";
                bench.lan.server().nft(rules);
            })
        },
        found: &[
            ("firewall", "the firewall drops answers and NOTIFYs to phones"),
            ("echo", "could not be sent"),
            ("echo", "could not be sent"),
        ],
    },
    Breakage {
        what: "strict rp_filter on eth1, and the route to its network by eth0",
        make: || {
            broken(|bench| {
                bench.lan.server().ip("route add 10.201.0.0/17 dev eth0\n");
                sysctl(bench.lan.server(), "conf/eth1/rp_filter", "1");
            })
        },
        found: &[("reverse-path", "the way back to it goes out at eth0")],
    },
    Breakage {
        what: "another program owns UDP 69 before the server starts",
        make: || {
            let hold = |lan: &Lan| -> Vec<Box<dyn std::any::Any>> {
                vec![Box::new(lan.server().udp((Ipv4Addr::UNSPECIFIED, 69)))]
            };
            Bench::prepared("", hold, |server| {
                server.wait_for("no TFTP", |line| line.text.contains("no files over TFTP"));
                heard(server)
            })
        },
        found: &[("ports", "UDP 69 is held by")],
    },
    Breakage {
        what: "another program owns TCP 8080 before the server starts",
        make: || {
            let hold = |lan: &Lan| -> Vec<Box<dyn std::any::Any>> {
                vec![Box::new(lan.server().enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080))).unwrap())]
            };
            Bench::prepared("", hold, |server| {
                server.wait_for("no HTTP", |line| line.text.contains("no files over HTTP"));
                heard(server)
            })
        },
        found: &[("ports", "TCP 8080 is held by")],
    },
    Breakage {
        what: "a PBX owns UDP 5060 on all addresses, and `pnp.listen: udp`",
        make: || {
            let hold = |lan: &Lan| -> Vec<Box<dyn std::any::Any>> {
                vec![Box::new(lan.server().udp((Ipv4Addr::UNSPECIFIED, 5060)))]
            };
            Bench::prepared("pnp: { listen: udp }\n", hold, |server| {
                server.wait_for("deaf", |line| line.text.contains("cannot bind 224.0.1.75:5060"));
                server.wait_for("it serves", |line| line.is("message", "serving"));
                server
            })
        },
        found: &[("membership", "the server hears no phones"), ("ports", "UDP 5060 is held by")],
    },
    Breakage {
        what: "the server runs without CAP_NET_ADMIN, and wants a larger buffer than net.core.rmem_max",
        make: || {
            let lan = Lan::with(&[0, 1], &[0, 1]);
            let names = Names::serve(&lan);
            let plan = Bench::plan(&lan, "pnp: { receive_buffer: 268435456 }\n");
            let weak = format!("exec setpriv --bounding-set=-net_admin {} \"$@\"", built().provost.display());
            let script = script(plan.data(), "weak", &weak);
            let server = plan.binary(script).start().ready();
            Bench { server: Some(server), lan, names, words: &[], through: None, held: Vec::new() }
        },
        found: &[("buffer", "and wants 256.0 MiB")],
    },
    Breakage {
        what: "net.ipv4.neigh.default.gc_thresh3 is 0",
        make: || {
            broken(|bench| {
                // It is the whole machine's, and cannot be seen from a namespace: so a directory is laid over where it would stand.
                let data = bench.server().data();
                let (limits, provost) = (data.join("limits"), built().provost.display());
                fs::create_dir_all(limits.join("default")).unwrap();
                fs::write(limits.join("default/gc_thresh3"), "0\n").unwrap();
                let mount = format!("mount --bind {} /proc/sys/net/ipv4/neigh", limits.display());
                let lines = format!("exec unshare --mount sh -c '{mount} && exec {provost} \"$@\"' sh \"$@\"");
                bench.through = Some(script(data, "forgetful", &lines));
            })
        },
        found: &[("neighbours", "remembers 0 neighbours at most, and there is 1 phone ")],
    },
    Breakage {
        what: "a bridge over eth1 that snoops IGMP, and nobody asks for members",
        make: || broken(|bench| bridge(bench, 0)),
        found: &[("snooping", "no querier was heard")],
    },
    Breakage {
        what: "a phone speaks on eth0 from an address of another network",
        make: || {
            broken(|bench| {
                let stranger = Ipv4Addr::new(172, 31, 9, 9);
                bench.lan.phone_mut(0).readdress("eth0", stranger);
                // The DNS server moves with the host that plays it.
                bench.names.say("nameserver 10.201.1.2\n");
                bench.held.push(Box::new(Answering::on(bench.lan.phone(1), 53, no_such_name)));
                let phone = bench.lan.phone(0);
                let handset = Handset::at(phone, stranger, 0);
                handset.subscribe(&subscribe(&captured(), &handset));
                let told = || api(bench, "/api/v1/network").to_string().contains("172.31.9.9");
                wait_until("it is heard", told);
            })
        },
        found: &[("subnet", "a phone speaks there from 172.31.9.9")],
    },
    Breakage {
        what: "a phone fetches from a network that is reached by a router",
        make: || {
            broken(|bench| {
                let far = Ipv4Addr::new(172, 31, 9, 9);
                bench.lan.phone(1).ip(&format!("address add {far}/32 dev lo\n"));
                bench.lan.server().ip("route add 172.31.9.0/24 via 10.201.1.2 dev eth1\n");
                let url =
                    format!("http://{}:8080/{}.cfg", bench.lan.server().interfaces()[1].address, captured().mac.bare());
                let file = own_file(bench, captured().mac);
                let url = url.replace(&format!("{}.cfg", captured().mac.bare()), &file);
                let mut curl = bench.lan.phone(1).command(tools::require("curl"));
                curl.args(["--silent", "--fail", "--max-time", "10", "--interface", &far.to_string(), &url]);
                tools::feed(&mut curl, b"").unwrap_or_else(|error| panic!("{error}"));
            })
        },
        found: &[("subnet", "was seen in 172.31.9.0/24")],
    },
    Breakage {
        what: "a file of the server's own was written two hours from now",
        make: || {
            broken(|bench| {
                let later = SystemTime::now() + Duration::from_secs(7260);
                let file = bench.server().data().join("state/later");
                fs::File::create(file).unwrap().set_modified(later).unwrap();
            })
        },
        found: &[("clock", "has been set back")],
    },
    Breakage {
        what: "phones are told an NTP server that is not there",
        make: || broken(|bench| told_time(bench, "10.200.77.77")),
        found: &[("clock", "take their time from 10.200.77.77, and nothing there answers")],
    },
    Breakage {
        what: "the clock of the NTP server that phones are told is two hours ahead",
        make: || {
            broken(|bench| {
                bench.held.push(Box::new(Answering::on(bench.lan.phone(1), 123, two_hours_ahead)));
                told_time(bench, "10.201.1.2");
            })
        },
        found: &[("clock", "clock is 120 minutes behind that of 10.201.1.2")],
    },
    Breakage {
        what: "the switch of eth0 asks for members of groups, that of eth1 does not, and it listens for 2 s",
        make: || {
            broken(|bench| {
                bench.lan.ask_for_members(0, 3);
                bench.words = &["--listen", "2"];
            })
        },
        found: &[("snooping", "no IGMP query was heard there in 2 s")],
    },
    Breakage {
        what: "/etc/resolv.conf is empty",
        make: || broken(|bench| bench.names.say("# nothing\n")),
        found: &[("resolver", "names no DNS server")],
    },
    Breakage {
        what: "/etc/resolv.conf names a DNS server that is not there",
        make: || broken(|bench| bench.names.say("nameserver 10.200.77.77\n")),
        found: &[("resolver", "no DNS server answers (10.200.77.77)")],
    },
    Breakage {
        what: "`public_url` has a name that nobody knows",
        make: || Bench::new("public_url: http://prov.example.invalid/\n"),
        found: &[("resolver", "the name prov.example.invalid")],
    },
];

fn no_such_name(question: &mut [u8]) {
    (question[2], question[3]) = (0x81, 0x83);
}

/// What an NTP server says whose clock is two hours ahead (RFC 5905, 7.3).
fn two_hours_ahead(question: &mut [u8]) {
    let since_1900 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 2_208_988_800;
    let (asked, now) = (question[40..48].to_vec(), ((since_1900 + 7200) << 32).to_be_bytes());
    // Version 4, a server, beside its clock.
    (question[0], question[1]) = (0x24, 1);
    question[24..32].copy_from_slice(&asked);
    for at in [16, 32, 40] {
        question[at..at + 8].copy_from_slice(&now);
    }
}

/// Tells phones this NTP server.
fn told_time(bench: &Bench, server: &str) {
    let mark = bench.server().mark();
    bench.server().write("profiles/time.yaml", format!("defaults: {{ time: {{ ntp: [{server}] }} }}\n"));
    bench.server().wait_after(mark, "the reload", |line| line.text.contains("reload"));
}

/// A server of others on a phone's host, which makes each question into its answer.
struct Answering(Arc<AtomicBool>);

impl Answering {
    fn on(host: &Host, port: u16, answer: fn(&mut [u8])) -> Answering {
        let socket: UdpSocket = host.udp((host.address(), port));
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            let mut question = [0; 512];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = receive(&socket, &mut question) {
                    answer(&mut question[..length]);
                    let _ = socket.send_to(&question[..length], from);
                }
            }
        });
        Answering(stop)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Puts eth1 into a bridge that has its address and snoops.
fn bridge(bench: &Bench, querier: u8) {
    let host = bench.lan.server();
    let address = host.interfaces()[1].address;
    host.ip(&format!(
        "address flush dev eth1\nlink add br0 type bridge mcast_snooping 1 mcast_querier {querier}\nlink set eth1 master br0\n\
         link set br0 up\naddress add {address}/16 broadcast + dev br0\n"
    ));
    bench.server().wait_for("joined br0", |line| line.is("message", "joined the group") && line.is("interface", "br0"));
    wait_until("br0 has a link", || {
        let output = host.command("ip").args(["-o", "link", "show", "br0"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("LOWER_UP")
    });
}

fn heard(server: Server) -> Server {
    // The door for people is the last to open.
    server.wait_for("start", |line| line.is("message", "serving"));
    for interface in ["eth0", "eth1"] {
        server.wait_for("joined", |line| line.is("message", "joined the group") && line.is("interface", interface));
    }
    server
}

fn opened(server: Server) -> Server {
    let server = server.ready();
    server.wait_for("start", |line| line.is("message", "serving"));
    server
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < until, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn api(bench: &Bench, path: &str) -> Value {
    resync::api(&bench.lan, bench.server(), path)
}

/// The name of the phone's own file.
fn own_file(bench: &Bench, mac: MacAddr) -> String {
    let files = api(bench, &format!("/api/v1/devices/{}", mac.bare()))["files"].as_array().unwrap().clone();
    let own = files.iter().find(|file| file["kind"] == "device").unwrap();
    own["name"].as_str().unwrap().to_owned()
}

fn findings(report: &Value) -> Vec<(String, String)> {
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|finding| (text(finding, "check"), text(finding, "what"))).collect()
}

#[test]
#[allow(clippy::print_stdout, reason = "what came of it is to be read, not only judged")]
fn each_breakage_is_found_and_nothing_else() {
    let mut table = String::from("| what was broken | what it said | and to do |\n|---|---|---|\n");
    let mut wrong = Vec::new();
    for breakage in BREAKAGES {
        let bench = (breakage.make)();
        let (report, good) = bench.look();
        let found = findings(&report);
        for finding in report["findings"].as_array().unwrap() {
            let text = |name: &str| finding[name].as_str().unwrap_or_default().replace('|', "\\|");
            let place = finding["interface"].as_str().map(|name| format!("{name}: ")).unwrap_or_default();
            let (severity, what, next) = (text("severity"), text("what"), text("do_next"));
            writeln!(table, "| {} | {severity}: {place}{what} | {next} |", breakage.what).unwrap();
        }
        let fits =
            |(check, words): &(&str, &str), (said, what): &(String, String)| check == said && what.contains(words);
        let mut left = found.clone();
        for expected in breakage.found {
            match left.iter().position(|finding| fits(expected, finding)) {
                Some(at) => drop(left.remove(at)),
                None => wrong.push(format!("{}: nothing of {expected:?} in {report:#}", breakage.what)),
            }
        }
        if !left.is_empty() {
            wrong.push(format!("{}: also {left:?} in {report:#}", breakage.what));
        }
        let has_error = report["findings"].as_array().unwrap().iter().any(|finding| finding["severity"] == "error");
        if good == has_error {
            wrong.push(format!("{}: the exit code does not say it", breakage.what));
        }
    }
    println!("{table}");
    let target = built().provost.parent().unwrap().parent().unwrap();
    fs::write(target.join("doctor.md"), &table).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_network_that_is_well_gives_no_finding_and_is_not_changed_by_being_looked_at() {
    let bench = Bench::new("");
    let before = api(&bench, "/api/v1/devices");
    let (report, good) = bench.look();
    assert!(good && findings(&report).is_empty() && report["not_looked"] == serde_json::json!([]), "{report:#}");
    let words = bench.doctor(&[]).output().unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    for part in [
        "eth0: up, 10.200.0.1/16, 224.0.1.75 joined, heard by provost (pid ",
        "a SUBSCRIBE sent there comes back\n",
        "\nnothing stands in the way\n",
    ] {
        assert!(words.contains(part), "no {part:?} in {words}");
    }
    assert_eq!(api(&bench, "/api/v1/devices"), before, "it was taken for a phone");
    let log = bench.server().log();
    assert!(!log.iter().any(|line| line.is("message", "subscribe") || line.is("level", "WARN")), "{log:#?}");

    // What looks alike and is good is good.
    bridge(&bench, 1);
    let rules = "table inet filter {\n chain input {\n  type filter hook input priority 0; policy drop;\n  iif lo accept\n  \
                 ct state vmap { established : accept, related : accept }\n  ip daddr 224.0.0.0/4 accept\n  \
                 ip saddr { 10.200.0.0/16, 10.201.0.0/16 } jump phones\n }\n \
                 chain phones {\n  udp dport vmap { 69 : accept, 5060 : accept }\n  tcp dport 8000-8099 accept\n }\n}\n";
    // Chains are declared before they are called.
    bench.lan.server().nft(&format!("table inet filter {{\n chain phones {{\n }}\n}}\n{rules}"));
    sysctl(bench.lan.server(), "conf/all/rp_filter", "1");
    let (report, good) = bench.look();
    assert!(good && findings(&report).is_empty(), "{report:#}");
}

#[test]
fn who_asks_for_members_of_groups_is_heard_on_request() {
    let bench = Bench::new("");
    bench.lan.ask_for_members(0, 3);
    bench.lan.ask_for_members(1, 2);
    // It ends by itself once there was a query on each interface.
    let output = bench.doctor(&["--listen", "600"]).output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{words}");
    for part in [
        "listening for IGMP queries, for 600 s at most\n",
        ", 169.254.255.1 asks for members of groups every 1 s (IGMP version 3)\neth1: ",
        "169.254.255.2 asks for members of groups (IGMP version 2)\n",
        "\nnothing stands in the way\n",
    ] {
        assert!(words.contains(part), "no {part:?} in {words}");
    }
}

/// The words of a watched boot, and whether it ended well.
fn watched(bench: &Bench, quiet: &str, act: impl FnOnce()) -> (String, bool) {
    let mac = captured().mac.to_string();
    let mut child = bench.doctor(&["--watch", &mac, "--quiet", quiet]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    // It says when it is ready to see.
    std::io::BufRead::read_line(&mut lines, &mut said).unwrap();
    act();
    std::io::Read::read_to_string(&mut lines, &mut said).unwrap();
    (said, child.wait().unwrap().success())
}

#[test]
fn a_boot_that_is_watched_is_told_step_by_step_and_what_is_missing() {
    let mut bench = Bench::new("");
    let (said, good) = watched(&bench, "1", || {});
    assert!(!good && said.contains("nothing was heard of it\n  Restart it."), "{said}");

    let (said, good) = watched(&bench, "2", || {
        let handset = Handset::at(bench.lan.phone(0), bench.lan.phone(0).address(), 0);
        handset.boot(&subscribe(&captured(), &handset));
    });
    assert!(!good && said.contains("  announced itself; answered for"), "{said}");
    assert!(
        said.contains("  answered the NOTIFY with 200\n") && said.contains("has fetched nothing from there"),
        "{said}"
    );

    // A phone plays it to the end.
    let (said, good) = watched(&bench, "20", || {
        let server = bench.server();
        let mut command = bench.lan.phone(0).command(&built().provost);
        command.args(["simulate", "--mac", &captured().mac.to_string(), "--source"]);
        command.arg(bench.lan.phone(0).address().to_string());
        for directory in ["profiles", "templates", "plugins"] {
            command.arg(format!("--{directory}")).arg(server.data().join(directory));
        }
        let output = command.arg("--state").arg(built().phones_state()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
    assert!(good && said.contains("\nit has all that it is to have: "), "{said}");

    // Out of the inventory, it is given no answer.
    let mark = bench.server().mark();
    bench.server().write("profiles/site.yaml", "devices: {}\n");
    bench.server().wait_after(mark, "the reload", |line| line.text.contains("reload"));
    let (said, good) = watched(&bench, "2", || {
        let handset = Handset::at(bench.lan.phone(0), bench.lan.phone(0).address(), 0);
        handset.subscribe(&subscribe(&captured(), &handset));
        decided(bench.server(), &handset, "silence");
    });
    assert!(!good && said.contains("was given no answer: ") && said.contains("`provost approve MAC`"), "{said}");

    // Where no server runs, it is heard all the same.
    bench.server.as_mut().unwrap().stop();
    let (said, good) = watched(&bench, "20", || {
        let handset = Handset::at(bench.lan.phone(0), bench.lan.phone(0).address(), 0);
        handset.subscribe(&subscribe(&captured(), &handset));
    });
    assert!(!good && said.contains(" on eth0\nnobody of ours answers it\n"), "{said}");
}

/// A DHCP server of others on the first phone's host, gone with the value.
struct Dhcp(std::process::Child, tempfile::TempDir);

impl Dhcp {
    fn serve(host: &Host, options: &[&str]) -> Dhcp {
        let directory = tempfile::tempdir().unwrap();
        let mut command = host.command(tools::require("dnsmasq"));
        command.args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces"]);
        command.args(["--no-ping", "--user=root", "--pid-file=", "--dhcp-range=10.200.9.1,10.200.9.50,255.255.0.0,1h"]);
        command.arg(format!("--dhcp-leasefile={}", directory.path().join("leases").display()));
        command.args(options.iter().map(|option| format!("--dhcp-option={option}")));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let port = format!(":{:04X} ", 67);
        wait_until("dnsmasq listens", || {
            fs::read_to_string(format!("/proc/{}/net/udp", child.id())).unwrap_or_default().contains(&port)
        });
        Dhcp(child, directory)
    }
}

impl Drop for Dhcp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_a_dhcp_server_tells_phones_is_asked_on_request_and_no_address_is_taken() {
    let bench = Bench::new("");
    let ask = |words: &[&str]| {
        let output = bench.doctor(&[&["--dhcp", "eth0"], words].concat()).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.success())
    };
    let (said, good) = ask(&[]);
    assert!(!good && said == "no DHCP server answers on eth0\n", "{said}");
    let options = [
        "66,http://10.200.0.1:8080/",
        "67,boot.cfg",
        "150,10.200.0.1",
        "160,http://10.200.0.1:8080/x",
        "120,10.200.0.7",
        "vendor:phone,1,http://10.200.0.1:8080/y",
    ];
    let server = Dhcp::serve(bench.lan.phone(0), &options);
    let (said, good) = ask(&[]);
    for part in [
        "10.200.1.1 offers 10.200.9.",
        "10.200.1.1 tells who has an address\n",
        "  option 66 (server name): http://10.200.0.1:8080/\n",
        "  option 67 (boot file): boot.cfg\n",
        "  option 120 (SIP servers): 10.200.0.7\n",
        "  option 150 (TFTP servers): 10.200.0.1\n",
        "  option 160 (URL, with some vendors): http://10.200.0.1:8080/x\n",
    ] {
        assert!(good && said.contains(part), "no {part:?} in {said}");
    }
    assert!(!said.contains("option 43"), "{said}");
    let (said, _) = ask(&["--class", "phone"]);
    assert!(said.contains("  option 43 (vendor-specific): 1=http://10.200.0.1:8080/y\n"), "{said}");
    let leases = fs::read_to_string(server.1.path().join("leases")).unwrap_or_default();
    assert_eq!(leases, "", "it took an address");
}
