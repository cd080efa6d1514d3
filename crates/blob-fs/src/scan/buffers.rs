//! Memory that is read into again and again: fresh memory costs more than reading what is in the page cache.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

/// So many buffers wait to be used again, at most.
const MAX_FREE: usize = 16;

/// Buffers of one scan.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

/// Goes back when nobody has a part of it any more.
struct Lent {
    bytes: Vec<u8>,
    len: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// Fills a buffer with `len` bytes.
    pub(super) fn fill(
        self: &Arc<Self>,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Bytes> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut lent = Lent { bytes: free.unwrap_or_default(), len, home: self.clone() };
        if lent.bytes.len() < len {
            lent.bytes.resize(len, 0);
        }
        read(lent.bytes.get_mut(..len).unwrap_or_default())?;
        Ok(Bytes::from_owner(lent))
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut free = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < MAX_FREE {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_is_used_again_once_its_parts_are_gone_and_not_before() {
        let buffers = Arc::new(Buffers::default());
        let fill = |with: u8, len| {
            let filled = buffers.fill(len, |bytes| {
                bytes.fill(with);
                Ok(())
            });
            filled.unwrap()
        };
        let first = fill(1, 100);
        let part = first.slice(10..20);
        drop(first);
        assert_eq!(fill(2, 50), [2; 50][..]);
        assert_eq!(part, [1; 10][..]);
        drop(part);
        assert_eq!(buffers.0.lock().unwrap().len(), 2);
        assert_eq!(fill(3, 30), [3; 30][..]);
        assert!(buffers.fill(10, |_| Err(io::ErrorKind::UnexpectedEof.into())).is_err());
        assert_eq!(buffers.0.lock().unwrap().len(), 2);
    }
}
