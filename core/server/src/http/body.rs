//! The body of an answer: nothing, bytes in memory, or a file sent piece by piece.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::patience::Answering;
use crate::chunks::FileChunks;

#[derive(Debug)]
pub(super) enum Content {
    Nothing,
    Whole(Bytes),
    File(FileChunks),
}

#[derive(Debug)]
pub(super) struct Body {
    content: Content,
    /// Held for as long as there is something to send.
    _answering: Answering,
}

impl Content {
    /// Bytes still to send.
    pub(super) fn len(&self) -> u64 {
        match self {
            Content::Nothing => 0,
            Content::Whole(bytes) => bytes.len() as u64,
            Content::File(chunks) => chunks.left(),
        }
    }
}

impl Body {
    pub(super) fn new(content: Content, answering: Answering) -> Body {
        Body { content, _answering: answering }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.content {
            Content::Nothing => Poll::Ready(None),
            Content::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Content::File(chunks) => chunks.poll_chunk(cx).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.content.len() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.len())
    }
}
