//! What an engine needs of whoever has the files.

use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll},
};

use bytes::Bytes;

use crate::{packet::Code, transfer::End};

/// Where the files come from. Caps are kept here too: for who has too many transfers open there is no room.
pub trait Files {
    /// A file that may take its time. Dropped when the peer has given up.
    type Opening: Future<Output = Result<Self::Content, Denied>> + Unpin;
    type Content: Content;

    /// Begins to open what a read request names. Called on the engine's thread, so it must not wait; what it returns may, and is served
    /// without a detour if it is ready at once.
    fn open(&self, name: &str, peer: SocketAddr, local: SocketAddr) -> Result<Self::Opening, Denied>;

    /// A transfer has come to its end. For a log.
    fn ended(&self, _peer: SocketAddr, _end: End) {}
}

/// A file that is being sent.
pub trait Content {
    /// Of the whole file as stored, before anything was taken from it.
    fn len(&self) -> u64;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next piece, `None` after the last.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>>;
}

/// Why there is no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// What is sent to the peer.
    Error { code: Code, message: String },
    /// There is no room for it now. Nothing is sent: to a client a request that is not answered was lost on the way and is sent again,
    /// and an ERROR is the end.
    NoRoom,
}
