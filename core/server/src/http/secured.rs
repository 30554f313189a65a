//! The handshake of a connection that is to be encrypted, and what the client has shown in it.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::pki_types::CertificateDer;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, warn};

use super::patience::Patient;
use crate::{
    request::{ClientCertificate, Proof},
    tls::Tls,
};

/// Complaints of one kind that are closer together than this are one burst, and one line of the log.
const BURST: Duration = Duration::from_secs(10);

/// What went wrong with peers, for the log, without a line for each of a building that does not trust us.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<HashMap<&'static str, Instant>>);

impl Complaints {
    pub(super) fn tell(&self, peer: SocketAddr, what: &'static str, why: &str) {
        let now = Instant::now();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = told.get(what).is_none_or(|last| now.duration_since(*last) > BURST);
        if is_first {
            told.insert(what, now);
        }
        drop(told);
        if is_first {
            warn!(door = "https", %peer, reason = why, "{what}; further ones within {} s are told at level debug", BURST.as_secs());
        } else {
            debug!(door = "https", %peer, reason = why, "{what}");
        }
    }
}

/// Shakes hands. None where it came to nothing, which has been told.
pub(super) async fn handshake(
    io: Patient,
    tls: &Tls,
    within: Duration,
    peer: SocketAddr,
    complaints: &Complaints,
) -> Option<(TlsStream<Patient>, Proof)> {
    let Some(config) = tls.server() else {
        complaints.tell(peer, "no handshake", "this server has nothing to show; `provost check` says why");
        return None;
    };
    // The connection's own patience covers reading; one who does not take what we send has no longer either.
    let shaken = timeout(within, TlsAcceptor::from(config).accept(io)).await;
    let stream = match shaken.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long"))) {
        Ok(stream) => stream,
        // Somebody looked whether the port is open, and went.
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            debug!(door = "https", %peer, error = &error as &dyn std::error::Error, "connection ended in the handshake");
            return None;
        }
        Err(error) => {
            complaints.tell(peer, "no handshake", &error.to_string());
            return None;
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| shown(chain, tls, peer, complaints));
    Some((stream, Proof { encrypted: true, certificate, ..Proof::default() }))
}

/// Whose certificate it is, if it counts. One that does not is as good as none.
pub(super) fn shown(
    chain: &[CertificateDer<'_>],
    tls: &Tls,
    peer: SocketAddr,
    complaints: &Complaints,
) -> Option<Arc<ClientCertificate>> {
    match tls.client(chain) {
        Ok(certificate) => Some(Arc::new(certificate)),
        Err(why) => {
            complaints.tell(peer, "a client's certificate does not count", &why);
            None
        }
    }
}
