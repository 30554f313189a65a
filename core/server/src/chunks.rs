//! Reads a file piece by piece without holding up whoever is waiting for the next piece.
//!
//! Both doors send files of any size from it: never is more than one piece in memory. Which file may be read at all is the desk's business.
//! Polling needs no tokio context, because one of the TFTP engines brings an executor of its own.

use std::{
    fs::{File, Metadata},
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
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
}

impl FileChunks {
    /// Opens a file to be read whole. The metadata is of the open file, so it cannot be another's than the bytes that follow.
    pub(crate) async fn open(path: PathBuf) -> io::Result<(FileChunks, Metadata)> {
        let runtime = Handle::current();
        let opened = runtime.spawn_blocking(move || {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "not a regular file"));
            }
            Ok((file, metadata))
        });
        let (file, metadata) = opened.await.map_err(io::Error::other)??;
        let left = metadata.len();
        Ok((FileChunks { runtime, file: Some(file), reading: None, left }, metadata))
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
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => {
                let Some(mut file) = self.file.take() else {
                    return Poll::Ready(Some(Err(io::Error::other("the file is lost"))));
                };
                let want = self.left.min(CHUNK);
                self.reading.insert(self.runtime.spawn_blocking(move || {
                    let mut chunk = Vec::with_capacity(want as usize);
                    let read = (&mut file).take(want).read_to_end(&mut chunk);
                    (file, read.map(|_| Bytes::from(chunk)))
                }))
            }
        };
        let done = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let chunk = done.map_err(io::Error::other).and_then(|(file, chunk)| {
            self.file = Some(file);
            chunk
        });
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_file_that_becomes_shorter_does_not_end_as_if_it_were_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(3 * CHUNK + 1).unwrap();
        let (mut chunks, _) = FileChunks::open(file.path().to_owned()).await.unwrap();
        assert_eq!(poll_fn(|cx| chunks.poll_chunk(cx)).await.unwrap().unwrap().len() as u64, CHUNK);
        file.as_file().set_len(2 * CHUNK).unwrap();
        assert_eq!(poll_fn(|cx| chunks.poll_chunk(cx)).await.unwrap().unwrap().len() as u64, CHUNK);
        let end = poll_fn(|cx| chunks.poll_chunk(cx)).await.unwrap();
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_directory_is_not_a_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(FileChunks::open(dir.path().to_owned()).await.is_err());
    }
}
