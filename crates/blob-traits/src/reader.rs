//! A blob as a file that can be read and sought in.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures_lite::FutureExt;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf, SeekFrom};

use crate::ReadBlob;

/// How much is read ahead.
const BUFFER: usize = 64 << 10;

type Reading<R> = Pin<Box<dyn Future<Output = (R, io::Result<Bytes>)> + Send>>;

/// Reads a blob through tokio's traits. Buffers 64 KiB; verifies nothing by itself.
pub struct BlobReader<R> {
    state: State<R>,
    position: u64,
    size: u64,
    buffer: Bytes,
}

enum State<R> {
    Idle(R),
    Reading(Reading<R>),
    Taken,
}

/// Its reader is moved from state to state, never pinned in place: code over any store can use it without a pin.
impl<R> Unpin for BlobReader<R> {}

impl<R: ReadBlob> BlobReader<R> {
    /// Reads `size` bytes from `reader`.
    pub fn new(reader: R, size: u64) -> Self {
        Self { state: State::Idle(reader), position: 0, size, buffer: Bytes::new() }
    }

    /// The number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match std::mem::replace(&mut self.state, State::Taken) {
                State::Idle(mut reader) => {
                    if !self.buffer.is_empty() || self.position >= self.size {
                        self.state = State::Idle(reader);
                        return Poll::Ready(Ok(()));
                    }
                    let offset = self.position;
                    let len = usize::try_from(self.size - offset).unwrap_or(BUFFER).min(BUFFER);
                    self.state = State::Reading(Box::pin(async move {
                        let bytes = reader.read_range(offset, len).await;
                        (reader, bytes)
                    }));
                }
                State::Reading(mut reading) => {
                    let Poll::Ready((reader, bytes)) = reading.poll(cx) else {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    };
                    self.state = State::Idle(reader);
                    self.buffer = bytes?;
                    if self.buffer.is_empty() {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                }
                State::Taken => return Poll::Ready(Err(io::Error::other("a read panicked"))),
            }
        }
    }
}

impl<R: ReadBlob> AsyncRead for BlobReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_fill(cx))?;
        let n = self.buffer.len().min(out.remaining());
        out.put_slice(&self.buffer.split_to(n));
        self.position += n as u64;
        Poll::Ready(Ok(()))
    }
}

impl<R: ReadBlob> AsyncSeek for BlobReader<R> {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let (base, delta) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::End(delta) => (self.size, delta),
            SeekFrom::Current(delta) => (self.position, delta),
        };
        let outside =
            || io::Error::new(io::ErrorKind::InvalidInput, "seek to before the start or past all numbers");
        let position = base.checked_add_signed(delta).ok_or_else(outside)?;
        let ahead = position.checked_sub(self.position).and_then(|n| usize::try_from(n).ok());
        match ahead.filter(|n| matches!(self.state, State::Idle(_)) && *n <= self.buffer.len()) {
            Some(n) => self.buffer.advance(n),
            None => self.buffer.clear(),
        }
        self.position = position;
        Ok(())
    }

    /// A read that was under way at another position ends here and is thrown away.
    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        if let State::Reading(reading) = &mut self.state {
            let (reader, _) = ready!(reading.poll(cx));
            self.state = State::Idle(reader);
        }
        Poll::Ready(Ok(self.position))
    }
}

impl<R> fmt::Debug for BlobReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobReader")
            .field("position", &self.position)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
