//! SUBSCRIBE → NOTIFY: phones that ask by multicast, are answered with a 200 and a NOTIFY, and answer that with a 200.
//!
//! The generator is one socket that keeps so many phones waiting at a time. Each boots with a Call-ID of its own; phones take turns,
//! so that each boots several times. The peer is kamailio with a script that answers every SUBSCRIBE with a URL made from its Request-URI:
//! it has no inventory and no vendors to tell apart.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};
use provost_tests::{Host, receive};

use crate::{
    Scale,
    figures::{Better, Figures, median, quantile, said},
    peers,
    running::Running,
    site::{GROUP, Member, Site, expand},
};

const PORT: u16 = 5060;
/// As kamailio is shipped.
const BUFFER: usize = 256 << 10;
/// A phone that hears nothing for so long asks again.
const RETRY: Duration = Duration::from_millis(500);
/// Without any NOTIFY for so long the rest will not come.
const SILENCE: Duration = Duration::from_secs(5);

pub(crate) fn measure(site: &Site, scale: Scale, figures: &mut Figures) {
    let kamailio = peers::find("kamailio", "kamailio", figures);
    if let Some(kamailio) = &kamailio {
        figures.peer(said(&kamailio.display().to_string(), &["-v"]).replace("version: ", ""));
    }
    for (at_once, boots) in [(1, scale.pick(2_000, 300)), (64, scale.pick(20_000, 2_000))] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..scale.repetitions {
            ours.push(storm(site, &serve(site), boots, at_once));
            if let Some(kamailio) = &kamailio {
                theirs.push(storm(site, &relay(site, kamailio, BUFFER), boots, at_once));
            }
        }
        let mut add = |what: &str, unit, better, of: fn(&Storm) -> f64| {
            let what = format!("SUBSCRIBE → NOTIFY, {at_once} at once: {what}");
            let peer = ("kamailio", theirs.iter().map(of).collect());
            figures.add(what, unit, better, ours.iter().map(of).collect(), Some(peer));
        };
        if at_once > 1 {
            add("all answered", "phones/s", Better::More, |storm| storm.answered as f64 / storm.seconds);
        }
        add("wait, median", "ms", Better::Less, |storm| median(&storm.waits));
        add("wait, 99 %", "ms", Better::Less, |storm| quantile(&storm.waits, 0.99));
        if at_once > 1 {
            add("server's processor time", "µs/phone", Better::Less, |storm| {
                storm.processor * 1e6 / storm.answered as f64
            });
        }
        let again = |storms: &[Storm]| storms.iter().map(|storm| storm.again).sum::<usize>();
        if again(&ours) + again(&theirs) > 0 {
            figures.note(format!(
                "SUBSCRIBE → NOTIFY, {at_once} at once: sent again for want of a NOTIFY within {} ms: {} times at provost, {} at kamailio",
                RETRY.as_millis(),
                again(&ours),
                again(&theirs)
            ));
        }
    }
}

pub(crate) fn serve(site: &Site) -> Running {
    site.serve().until("heard on the group", |server| server.has_joined(GROUP))
}

/// `buffer`: the most that its receive buffer may have, in bytes.
pub(crate) fn relay(site: &Site, kamailio: &Path, buffer: usize) -> Running {
    let (script, address) = (site.work("kamailio.cfg"), site.server_address().to_string());
    peers::configure("kamailio.cfg", &[("address", &address)], &script);
    let mut command = site.lan.server().command(kamailio);
    // In the foreground, log to standard error, no privileges to give up.
    // Transactions stay for a while after their end; Debian's 64 MB would be full of them in the middle of a run.
    command.args(["-DD", "-E", "-m", "512", "-b", &buffer.to_string(), "-f"]).arg(script).arg("-Y").arg(site.work("."));
    let relay = Running::start(command, &site.work("kamailio.log"));
    relay.until("heard on the group", |relay| relay.has_joined(GROUP) && relay.listens_on_udp(PORT))
}

/// What came of so many boots.
#[derive(Debug)]
struct Storm {
    seconds: f64,
    answered: usize,
    /// From the first SUBSCRIBE to the first NOTIFY of each boot, in ms.
    waits: Vec<f64>,
    /// SUBSCRIBEs sent again.
    again: usize,
    /// Seconds that the server computed.
    processor: f64,
}

fn storm(site: &Site, server: &Running, boots: usize, at_once: usize) -> Storm {
    let phones = site.lan.phone(0);
    let socket = socket(phones);
    let port = socket.local_addr().expect("it is bound").port();
    // Some kinds hold their tongues.
    let speaking: Vec<&Member> = site.phones.iter().filter(|phone| !phone.kind.subscribe.is_empty()).collect();
    let subscribes = |first: usize, count: usize| -> Vec<(String, Vec<u8>)> {
        let of = |number: usize| subscribe(speaking[number % speaking.len()], phones.address(), port, number);
        (first..first + count).map(of).collect()
    };
    // What is made at the first request, threads for one, is there before the clock starts.
    run(&socket, &subscribes(0, 400), at_once);
    let subscribes = subscribes(400, boots);
    let before = server.processor_time();
    let storm = run(&socket, &subscribes, at_once);
    Storm { processor: (server.processor_time() - before).as_secs_f64(), ..storm }
}

pub(crate) fn socket(phones: &Host) -> UdpSocket {
    let socket = phones.udp((phones.address(), 0));
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout above zero");
    // Two answers for each phone that waits must fit, or the generator would lose what the server sent.
    setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20)).expect("root may have a large buffer");
    socket
}

/// A phone's boot of that number: its Call-ID and its SUBSCRIBE.
pub(crate) fn subscribe(phone: &Member, address: Ipv4Addr, port: u16, number: usize) -> (String, Vec<u8>) {
    let [address, port, number] = [address.to_string(), port.to_string(), (10_000_000 + number).to_string()];
    let text = expand(&phone.kind.subscribe, phone, &[("ip", &address), ("port", &port), ("number", &number)]);
    let message = text.trim_end().lines().map(|line| format!("{}\r\n", line.trim_end())).collect::<String>() + "\r\n";
    let call_id = header(&message, "Call-ID").expect("a SUBSCRIBE has a Call-ID").to_owned();
    (call_id, message.into_bytes())
}

fn run(socket: &UdpSocket, subscribes: &[(String, Vec<u8>)], at_once: usize) -> Storm {
    let group = SocketAddrV4::new(GROUP, PORT);
    let by_call: HashMap<&str, usize> =
        subscribes.iter().enumerate().map(|(index, (call_id, _))| (call_id.as_str(), index)).collect();
    assert_eq!(by_call.len(), subscribes.len(), "each boot has a Call-ID of its own");
    let send = |index: usize| socket.send_to(&subscribes[index].1, group).expect("the network is up");

    let mut waits: Vec<Option<f64>> = vec![None; subscribes.len()];
    let mut begun: Vec<(Instant, Instant)> = Vec::with_capacity(subscribes.len());
    let (mut answered, mut again) = (0, 0);
    let mut datagram = vec![0; 4096];
    let start = Instant::now();
    let mut last = start;
    let mut oldest = 0;
    while answered < subscribes.len() {
        while begun.len() < subscribes.len() && begun.len() - answered < at_once {
            begun.push((Instant::now(), Instant::now()));
            send(begun.len() - 1);
        }
        match receive(socket, &mut datagram) {
            Ok((length, from)) => {
                let message = std::str::from_utf8(&datagram[..length]).expect("SIP is text");
                if message.starts_with("NOTIFY ") {
                    let index = *header(message, "Call-ID")
                        .and_then(|call_id| by_call.get(call_id))
                        .expect("a NOTIFY is for a boot");
                    socket.send_to(ok(message).as_bytes(), from).expect("the network is up");
                    if waits[index].is_none() {
                        let body = message.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
                        assert!(body.contains("://"), "a NOTIFY without a URL:\n{message}");
                        last = Instant::now();
                        waits[index] = Some((last - begun[index].0).as_secs_f64() * 1e3);
                        answered += 1;
                    }
                } else {
                    assert!(message.starts_with("SIP/2.0 200 "), "neither a 200 nor a NOTIFY:\n{message}");
                }
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                assert!(
                    last.elapsed() < SILENCE,
                    "{answered} of {} boots were answered, and then none",
                    subscribes.len()
                );
                while oldest < begun.len() && waits[oldest].is_some() {
                    oldest += 1;
                }
                for index in oldest..begun.len() {
                    if waits[index].is_none() && begun[index].1.elapsed() > RETRY {
                        begun[index].1 = Instant::now();
                        again += 1;
                        send(index);
                    }
                }
            }
            Err(error) => panic!("cannot receive: {error}"),
        }
    }
    let seconds = (last - start).as_secs_f64();
    Storm { seconds, answered, waits: waits.into_iter().flatten().collect(), again, processor: 0.0 }
}

/// The phone's 200: what identifies the NOTIFY comes back as it came.
pub(crate) fn ok(notify: &str) -> String {
    let mut answer = String::with_capacity(512);
    answer.push_str("SIP/2.0 200 OK\r\n");
    let head = notify.split("\r\n\r\n").next().unwrap_or_default();
    for line in head.split("\r\n") {
        let name = line.split(':').next().unwrap_or_default();
        if ["Via", "From", "To", "Call-ID", "CSeq"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
            answer.push_str(line);
            answer.push_str("\r\n");
        }
    }
    answer.push_str("Content-Length: 0\r\n\r\n");
    answer
}

pub(crate) fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = message.split("\r\n").take_while(|line| !line.is_empty());
    lines.find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
