//! One mechanism for progress and cancellation.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::mpsc;

use crate::{Error, ExportProgress, Result};

/// Where a long operation reports to, and by which it is cancelled.
///
/// An operation sends phase events with [`send`](Self::send), which waits for room and is never dropped, and offset
/// events with [`try_send`](Self::try_send), which a slow consumer may miss; the last offset event before the end of
/// a phase carries the total. When the receiver is gone, or a callback refuses, the operation ends with
/// [`Error::Cancelled`] and leaves nothing behind.
pub struct Progress<E> {
    sink: Option<Arc<dyn Sink<E>>>,
    ids: Arc<AtomicU64>,
}

/// What a progress callback returns to end the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl From<Cancelled> for Error {
    fn from(Cancelled: Cancelled) -> Self {
        Self::Cancelled
    }
}

type Sent<'a> = Pin<Box<dyn Future<Output = Result<(), Cancelled>> + Send + 'a>>;

trait Sink<E>: Send + Sync {
    fn send(&self, event: E) -> Sent<'_>;
    fn try_send(&self, event: E) -> Result<(), Cancelled>;
    fn blocking_send(&self, event: E) -> Result<(), Cancelled>;
}

impl<E: Send + 'static> Progress<E> {
    /// Reports to nobody and never cancels.
    pub fn none() -> Self {
        Self { sink: None, ids: Arc::default() }
    }

    /// Reports to a channel that holds `capacity` events (at least one).
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<E>) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        (Self::new(sender), receiver)
    }

    /// Reports to a callback, which must not block for long.
    pub fn from_fn(callback: impl Fn(E) -> Result<(), Cancelled> + Send + Sync + 'static) -> Self {
        Self::new(Callback(callback))
    }

    fn new(sink: impl Sink<E> + 'static) -> Self {
        Self { sink: Some(Arc::new(sink)), ids: Arc::default() }
    }

    /// Whether it reports to nobody.
    pub fn is_none(&self) -> bool {
        self.sink.is_none()
    }

    /// Returns a number that no clone of this handle has returned before.
    pub fn new_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Reports an event; waits for room.
    pub async fn send(&self, event: E) -> Result<()> {
        match &self.sink {
            Some(sink) => Ok(sink.send(event).await?),
            None => Ok(()),
        }
    }

    /// Reports an event, or drops it where there is no room.
    pub fn try_send(&self, event: E) -> Result<()> {
        match &self.sink {
            Some(sink) => Ok(sink.try_send(event)?),
            None => Ok(()),
        }
    }

    /// Reports an event from a thread that may block; waits for room.
    ///
    /// # Panics
    /// Inside an asynchronous context, as tokio's blocking send does.
    pub fn blocking_send(&self, event: E) -> Result<()> {
        match &self.sink {
            Some(sink) => Ok(sink.blocking_send(event)?),
            None => Ok(()),
        }
    }

    /// Returns a handle for other events, which are converted and reported here.
    pub fn map<F: Send + 'static>(&self, convert: impl Fn(F) -> E + Send + Sync + 'static) -> Progress<F> {
        let sink = self.sink.clone().map(|inner| Arc::new(Mapped { inner, convert }) as Arc<dyn Sink<F>>);
        Progress { sink, ids: self.ids.clone() }
    }
}

impl Progress<ExportProgress> {
    /// Reports the offsets of an export to a callback of the seed's form; its error cancels the export.
    pub fn from_offset_fn(callback: impl Fn(u64) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::from_fn(move |event| match event {
            ExportProgress::Progress { offset, .. } => callback(offset).map_err(|_| Cancelled),
            ExportProgress::Start { .. } | ExportProgress::Done { .. } => Ok(()),
        })
    }
}

impl<E> Clone for Progress<E> {
    fn clone(&self) -> Self {
        Self { sink: self.sink.clone(), ids: self.ids.clone() }
    }
}

impl<E: Send + 'static> Default for Progress<E> {
    fn default() -> Self {
        Self::none()
    }
}

impl<E> fmt::Debug for Progress<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("reports", &self.sink.is_some()).finish_non_exhaustive()
    }
}

impl<E: Send + 'static> Sink<E> for mpsc::Sender<E> {
    fn send(&self, event: E) -> Sent<'_> {
        Box::pin(async move { Self::send(self, event).await.map_err(|_| Cancelled) })
    }

    fn try_send(&self, event: E) -> Result<(), Cancelled> {
        match Self::try_send(self, event) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Cancelled),
        }
    }

    fn blocking_send(&self, event: E) -> Result<(), Cancelled> {
        Self::blocking_send(self, event).map_err(|_| Cancelled)
    }
}

struct Callback<F>(F);

impl<E: Send + 'static, F: Fn(E) -> Result<(), Cancelled> + Send + Sync> Sink<E> for Callback<F> {
    fn send(&self, event: E) -> Sent<'_> {
        let sent = self.0(event);
        Box::pin(async move { sent })
    }

    fn try_send(&self, event: E) -> Result<(), Cancelled> {
        self.0(event)
    }

    fn blocking_send(&self, event: E) -> Result<(), Cancelled> {
        self.0(event)
    }
}

struct Mapped<E, C> {
    inner: Arc<dyn Sink<E>>,
    convert: C,
}

impl<E: Send + 'static, F: Send + 'static, C: Fn(F) -> E + Send + Sync> Sink<F> for Mapped<E, C> {
    fn send(&self, event: F) -> Sent<'_> {
        self.inner.send((self.convert)(event))
    }

    fn try_send(&self, event: F) -> Result<(), Cancelled> {
        self.inner.try_send((self.convert)(event))
    }

    fn blocking_send(&self, event: F) -> Result<(), Cancelled> {
        self.inner.blocking_send((self.convert)(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_receiver_that_is_gone_cancels() {
        let (progress, receiver) = Progress::channel(1);
        progress.send(1).await.unwrap();
        progress.try_send(2).unwrap();
        drop(receiver);
        assert!(matches!(progress.send(3).await, Err(Error::Cancelled)));
        assert!(matches!(progress.try_send(3), Err(Error::Cancelled)));
        assert!(matches!(progress.map(|x: u8| i32::from(x)).try_send(3), Err(Error::Cancelled)));
    }

    #[test]
    fn ids_are_unique_over_clones_and_maps() {
        let progress = Progress::<u8>::none();
        let mapped = progress.map(|x: u16| x.to_le_bytes()[0]);
        assert_ne!(progress.new_id(), mapped.new_id());
        assert_ne!(progress.clone().new_id(), progress.new_id());
    }

    #[test]
    fn a_callback_that_refuses_cancels() {
        let progress = Progress::from_offset_fn(|_| Err(io::Error::other("enough")));
        assert!(progress.blocking_send(ExportProgress::Done { id: 0 }).is_ok());
        let refused = progress.blocking_send(ExportProgress::Progress { id: 0, offset: 1 });
        assert!(matches!(refused, Err(Error::Cancelled)));
    }
}
