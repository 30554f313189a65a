//! Phones find a server across the switch, are configured although a fifth of all packets is lost, and the capture of it is well-formed.

use std::{net::Ipv4Addr, time::Duration};

use provost_phone::{Fleet, Options, Phone};
use provost_plugin::spec::Simulation;
use provost_tests::{Host, Lan};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 1, 75);

fn kind() -> Simulation {
    let yaml = r#"
model: M1
firmware: "1.0"
oui: 02005E
subscribe: |
  SUBSCRIBE sip:MAC{mac}@224.0.1.75 SIP/2.0
  Via: SIP/2.0/UDP {ip}:{port};branch=z9hG4bK{number}
  From: <sip:MAC{mac}@224.0.1.75>;tag={number}
  To: <sip:MAC{mac}@224.0.1.75>
  Call-ID: {number}@{ip}
  CSeq: 1 SUBSCRIBE
  Contact: <sip:MAC{mac}@{ip}:{port}>
  Max-Forwards: 70
  Event: ua-profile;profile-type="device";vendor="acme";model="{model}";version="{firmware}"
  Expires: 0
  Accept: application/url
  Content-Length: 0
user_agent: acme {model} {firmware} {mac}
fetch: ['{mac}.cfg']
retry: 0.3
"#;
    serde_yaml::from_str(yaml).expect("a simulation")
}

/// Answers every SUBSCRIBE with a 200 and a NOTIFY, and every GET with the path that was asked for, until the future is dropped.
async fn respond(address: Ipv4Addr) {
    let group = UdpSocket::bind((GROUP, 5060)).await.unwrap();
    group.join_multicast_v4(GROUP, address).unwrap();
    let sip = UdpSocket::bind((address, 5060)).await.unwrap();
    let http = TcpListener::bind((address, 8080)).await.unwrap();
    let url = format!("http://{address}:8080/");
    let mut datagram = [0; 2048];
    loop {
        tokio::select! {
            received = group.recv_from(&mut datagram) => {
                let (length, phone) = received.unwrap();
                let subscribe = std::str::from_utf8(&datagram[..length]).unwrap();
                let [via, from, to, call, cseq, contact] = ["Via", "From", "To", "Call-ID", "CSeq", "Contact"].map(|name| {
                    subscribe.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap()
                });
                let answer = format!(
                    "SIP/2.0 200 OK\r\nVia: {via}\r\nFrom: {from}\r\nTo: {to};tag=s{call}\r\nCall-ID: {call}\r\nCSeq: {cseq}\r\n\
                     Expires: 0\r\nContact: <sip:{address}:5060>\r\nContent-Length: 0\r\n\r\n"
                );
                let target = contact.trim_matches(['<', '>']);
                let notify = format!(
                    "NOTIFY {target} SIP/2.0\r\nVia: SIP/2.0/UDP {address}:5060;branch=z9hG4bKn{call}\r\nMax-Forwards: 70\r\n\
                     From: {to};tag=s{call}\r\nTo: {from}\r\nCall-ID: {call}\r\nCSeq: 1 NOTIFY\r\nContact: <sip:{address}:5060>\r\n\
                     Event: ua-profile\r\nSubscription-State: terminated;reason=timeout\r\nContent-Type: application/url\r\n\
                     Content-Length: {}\r\n\r\n{url}",
                    url.len()
                );
                for packet in [answer, notify] {
                    sip.send_to(packet.as_bytes(), phone).await.unwrap();
                }
            }
            accepted = http.accept() => {
                let (mut stream, _) = accepted.unwrap();
                tokio::spawn(async move {
                    let mut request = vec![0; 2048];
                    let length = stream.read(&mut request).await.unwrap();
                    let path = String::from_utf8_lossy(&request[..length]).split(' ').nth(1).unwrap().to_owned();
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", path.len());
                    stream.write_all((head + &path).as_bytes()).await.unwrap();
                });
            }
        }
    }
}

/// Runs `phones` in the namespace of a phone while the responder runs in the server's.
fn against_responder<T: Send>(server: &Host, phone: &Host, phones: impl AsyncFnOnce() -> T + Send) -> T {
    let (done, end) = tokio::sync::oneshot::channel::<()>();
    let address = server.address();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            server.block_on(async move || {
                tokio::select! {
                    () = respond(address) => {}
                    _ = end => {}
                }
            });
        });
        let outcome = phone.block_on(phones);
        drop(done);
        outcome
    })
}

#[test]
fn a_phone_finds_a_server_across_the_switch_and_every_packet_of_it_is_well_formed() {
    let lan = Lan::new(1);
    let mut capture = lan.capture();
    let kind = kind();
    let outcome = against_responder(lan.server(), lan.phone(0), async || {
        Phone::new(&kind, provost_phone::mac(&kind, 1).unwrap(), Options::default()).run().await
    });
    assert!(outcome.configured, "{outcome:#?}");
    assert_eq!(outcome.file("02005e000001.cfg").unwrap().text(), "/02005e000001.cfg");
    assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
    capture.decode("tcp.port", 8080, "http");
    assert_eq!(capture.malformed(), Vec::<String>::new());
    let sent = capture.fields("sip and not icmp", &["ip.dst", "ip.ttl", "sip.CSeq.method"]);
    assert_eq!(sent[0], "224.0.1.75\t1\tSUBSCRIBE");
    assert_eq!(capture.count("http.request"), 1);
}

#[test]
fn a_fleet_on_many_addresses_is_configured_though_the_switch_loses_a_fifth() {
    let mut lan = Lan::new(1);
    let sources = lan.add_addresses(0, 40);
    lan.drop_packets(20);
    // The responder sends its NOTIFY once, as no server should: a phone that misses it has to boot again.
    let short = Duration::from_millis(500);
    let options = Options { boots: 12, patience: short, boot_pause: short, ..Options::default() };
    let fleet = Fleet { kinds: vec![kind()], phones: 120, first: 1, sources, at_once: 60, options };
    let report = against_responder(lan.server(), lan.phone(0), async || fleet.run(|_| ()).await.unwrap());
    assert!(report.is_complete(), "{report:#?}");
    assert!(report.announced > 120, "the loss was not felt: {report:#?}");
}
