//! Reads a file piece by piece without holding up whoever is waiting for the next piece.
//!
//! Both doors send files of any size from it: never is more than one piece in memory. Which file may be read at all is the desk's business.
//! Polling needs no tokio context, because one of the TFTP engines brings an executor of its own.
//!
//! A file of one piece, which is what a building's phones all ask for at once (a ring tone, a logo, a root certificate), is read there and
//! then: the kernel has it in memory after the first phone, and the two trips to the blocking threads cost more than the file.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{runtime::Handle, task::JoinHandle};

/// Big enough that a trip to the blocking threads is paid for, small enough for a thousand transfers at once.
const CHUNK: u64 = 64 * 1024;

#[derive(Debug)]
pub(crate) struct FileChunks {
    runtime: Handle,
    /// Away with `reading` while a piece is being read.
    file: Option<File>,
    reading: Option<JoinHandle<(File, io::Result<Bytes>)>>,
    left: u64,
    is_small: bool,
}

impl FileChunks {
    /// Opens a file to be read whole. The metadata is of the open file, so it cannot be another's than the bytes that follow.
    /// To be called within a tokio runtime.
    pub(crate) fn open(path: &Path) -> io::Result<(FileChunks, Metadata)> {
        // Should it have become a pipe since it was found, nobody waits for somebody to write.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "not a regular file"));
        }
        let left = metadata.len();
        let chunks =
            FileChunks { runtime: Handle::current(), file: Some(file), reading: None, left, is_small: left <= CHUNK };
        Ok((chunks, metadata))
    }

    /// Narrows what will be read to `len` bytes from `start`. Before the first piece only.
    pub(crate) fn narrow(&mut self, start: u64, len: u64) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(start))?;
        }
        self.left = len;
        Ok(())
    }

    /// Bytes not handed out yet.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// The next piece; never an empty one, and `None` after the last.
    /// A file that became shorter meanwhile is an error: half a firmware must not look like a whole one.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let chunk = match &mut self.reading {
            Some(reading) => {
                let done = ready!(Pin::new(reading).poll(cx));
                self.reading = None;
                done.map_err(io::Error::other).and_then(|(file, chunk)| {
                    self.file = Some(file);
                    chunk
                })
            }
            None => {
                let Some(mut file) = self.file.take() else {
                    return Poll::Ready(Some(Err(io::Error::other("the file is lost"))));
                };
                let want = self.left.min(CHUNK);
                if self.is_small {
                    let chunk = read(&mut file, want);
                    self.file = Some(file);
                    chunk
                } else {
                    self.reading = Some(self.runtime.spawn_blocking(move || {
                        let chunk = read(&mut file, want);
                        (file, chunk)
                    }));
                    return self.poll_chunk(cx);
                }
            }
        };
        Poll::Ready(Some(match chunk {
            Ok(chunk) if chunk.is_empty() => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was being sent"))
            }
            Ok(chunk) => {
                self.left -= chunk.len() as u64;
                Ok(chunk)
            }
            Err(error) => Err(error),
        }))
    }
}

fn read(file: &mut File, want: u64) -> io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(want as usize);
    file.take(want).read_to_end(&mut chunk)?;
    Ok(chunk.into())
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Waker};

    use super::*;

    #[tokio::test]
    async fn a_file_that_becomes_shorter_does_not_end_as_if_it_were_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(3 * CHUNK + 1).unwrap();
        let (mut chunks, _) = FileChunks::open(file.path()).unwrap();
        assert_eq!(poll_fn(|cx| chunks.poll_chunk(cx)).await.unwrap().unwrap().len() as u64, CHUNK);
        file.as_file().set_len(2 * CHUNK).unwrap();
        assert_eq!(poll_fn(|cx| chunks.poll_chunk(cx)).await.unwrap().unwrap().len() as u64, CHUNK);
        let end = poll_fn(|cx| chunks.poll_chunk(cx)).await.unwrap();
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_file_of_one_piece_is_at_hand_when_it_is_asked_for() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"a ring tone").unwrap();
        let (mut chunks, _) = FileChunks::open(file.path()).unwrap();
        chunks.narrow(2, 4).unwrap();
        let mut next = || match chunks.poll_chunk(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(chunk) => chunk.transpose().unwrap(),
            Poll::Pending => panic!("it has to be waited for"),
        };
        assert_eq!(next().as_deref(), Some(b"ring".as_slice()));
        assert_eq!(next(), None);
    }

    #[tokio::test]
    async fn a_small_file_that_becomes_shorter_is_an_error_too() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(10).unwrap();
        let (mut chunks, _) = FileChunks::open(file.path()).unwrap();
        file.as_file().set_len(4).unwrap();
        assert_eq!(poll_fn(|cx| chunks.poll_chunk(cx)).await.unwrap().unwrap().len(), 4);
        let end = poll_fn(|cx| chunks.poll_chunk(cx)).await.unwrap();
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_directory_is_not_a_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(FileChunks::open(dir.path()).is_err());
    }
}
