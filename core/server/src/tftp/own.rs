//! The engine of `provost-tftp` behind the seam: a thread for each address.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
};

use bytes::Bytes;
use provost_tftp::{End, Files, Manner, Terms};
use tokio::sync::{oneshot, watch};
use tracing::{debug, warn};

use super::{
    Bound, RESTART_PAUSE,
    engine::{Content, Denied, Engine, FileSource, Opening, Pace, Started},
};

#[derive(Debug)]
pub(super) struct Own {
    pub(super) port_per_transfer: bool,
}

impl Engine for Own {
    fn start(
        &self,
        address: SocketAddr,
        source: Arc<dyn FileSource>,
        pace: Pace,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<Started> {
        let socket = UdpSocket::bind(address)?;
        let bound = Bound {
            address: socket.local_addr()?,
            rcvbuf_granted: crate::socket::set_receive_buffer(&socket, pace.receive_buffer)?,
            netascii: true,
        };
        let terms = Terms { resend_after: pace.resend_after, ..Terms::default() };
        let manner = Manner { terms, port_per_transfer: self.port_per_transfer };
        let (end, ended) = oneshot::channel();
        let local = bound.address;
        thread::Builder::new().name(format!("tftp {}", local.ip())).spawn(move || {
            loop {
                let stopped = async {
                    let _ = stop.wait_for(|stop| *stop).await;
                };
                let files = FromSource(&*source);
                let round = catch_unwind(AssertUnwindSafe(|| provost_tftp::serve(&socket, &files, manner, stopped)));
                let error = match round {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the engine panicked".to_owned(),
                };
                warn!(door = "tftp", %local, error, "the engine failed, its transfers are lost; starting it again");
                thread::sleep(RESTART_PAUSE);
            }
            debug!(door = "tftp", %local, "stopped");
            // The socket first, so that whoever waits for the end can bind the address again.
            drop(socket);
            drop(end);
        })?;
        Ok(Started { bound, ended: vec![ended] })
    }
}

/// What the engine asks, put to the desk.
struct FromSource<'a>(&'a dyn FileSource);

impl Files for FromSource<'_> {
    type Opening = Opens;
    type Content = Content;

    fn open(&self, name: &str, peer: SocketAddr, local: SocketAddr) -> Result<Opens, provost_tftp::Denied> {
        self.0.open(name, peer, local).map(Opens).map_err(in_packets)
    }

    fn ended(&self, peer: SocketAddr, end: End) {
        debug!(door = "tftp", %peer, ?end, "transfer ended");
    }
}

struct Opens(Opening);

impl Future for Opens {
    type Output = Result<Content, provost_tftp::Denied>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(in_packets)
    }
}

impl provost_tftp::Content for Content {
    fn len(&self) -> u64 {
        self.len()
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.poll_chunk(cx)
    }
}

fn in_packets(Denied { code, message, is_for_want_of_room }: Denied) -> provost_tftp::Denied {
    if is_for_want_of_room {
        return provost_tftp::Denied::NoRoom;
    }
    provost_tftp::Denied::Error { code, message }
}
