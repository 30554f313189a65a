//! What phones ask for, and how they name themselves, at the HTTP and the TFTP door.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
};

use provost_server::{
    http,
    request::{ConfigRequest, Desk, Fetched},
    tftp,
};
use provost_tftp::packet::{LARGEST_BLOCK, Options, Packet, Request};

use crate::bench::bench;

pub fn path(input: &[u8]) {
    get(&[b"GET /", input, b" HTTP/1.1\r\nHost: provost\r\nConnection: close\r\n\r\n"].concat());
}

/// A request for a name of each kind that many phones share, or that says nothing of which phone is meant.
pub fn user_agent(input: &[u8]) {
    let Some((which, agent)) = input.split_first() else { return };
    let names = shared_names();
    let name = &names[usize::from(*which) % names.len()];
    get(&[
        b"GET /",
        name.as_bytes(),
        b" HTTP/1.1\r\nHost: provost\r\nUser-Agent: ",
        agent,
        b"\r\nConnection: close\r\n\r\n",
    ]
    .concat());
}

pub fn rrq(input: &[u8]) {
    // Whatever a port of a transfer may be sent.
    let _ = Packet::read(input);
    let bench = bench();
    let packet = [b"\0\x01", input].concat();
    if let Some(request) = Request::read(&packet) {
        let Options { block_size, timeout, window, size: _ } = request.options;
        assert!(block_size.is_none_or(|size| (8..=LARGEST_BLOCK).contains(&size)), "{request:?}");
        assert!(timeout != Some(0) && window != Some(0), "{request:?}");
    }
    let desk = Arc::new(Noting { desk: bench.desk(), given: Mutex::default() });
    let _ = bench.runtime.block_on(tftp::answer_to(Arc::clone(&desk), &packet, peer(), here()));
    bench.nothing_of_others(input, &desk.given.lock().expect("nobody panicked"));
}

fn get(request: &[u8]) {
    let bench = bench();
    let answer = bench.runtime.block_on(http::answer_to(bench.desk(), request, peer(), here()));
    // hyper hangs up on what it cannot read as a request at all, or answers 400.
    let Ok(answer) = answer else { return };
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
    assert!(!answer.starts_with(b"HTTP/1.1 500"), "{}", answer.escape_ascii());
    bench.nothing_of_others(request, &answer);
}

fn shared_names() -> &'static [String] {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut names = vec![String::new(), "/".into()];
        for plugin in bench().world.shelf.plugins() {
            for file in &plugin.spec.files {
                names.extend(file.name.expand_for(Some("company"), None, None, &Default::default()));
            }
        }
        names
    })
}

/// A desk that keeps what it gave.
struct Noting<D> {
    desk: Arc<D>,
    given: Mutex<Vec<u8>>,
}

impl<D: Desk> Desk for Noting<D> {
    async fn fetch(&self, request: ConfigRequest) -> Fetched {
        let fetched = self.desk.fetch(request).await;
        if let Fetched::Found(file) = &fetched {
            *self.given.lock().expect("nobody panicked") = file.body.to_vec();
        }
        assert!(!matches!(fetched, Fetched::Failed { .. }), "{fetched:?}");
        fetched
    }
}

fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], 40000))
}

fn here() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 8080))
}
