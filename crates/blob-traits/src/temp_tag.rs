//! Temporary tags: what keeps a blob alive while somebody works with it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use crate::{BlobFormat, Hash, HashAndFormat};

/// Keeps a blob alive, with what it lists where it is a hash sequence, as long as any clone of it lives.
///
/// Dropping the last clone releases the blob; nothing is deleted at that moment. A temporary tag does not outlive the
/// store's process and may outlive the store. Get one from [`TempTags::temp_tag`](crate::TempTags::temp_tag).
#[derive(Debug)]
pub struct TempTag {
    content: HashAndFormat,
    counts: Weak<Mutex<Counts>>,
}

type Counts = BTreeMap<HashAndFormat, u64>;

impl TempTag {
    /// The blob that is kept alive.
    pub fn hash(&self) -> Hash {
        self.content.hash
    }

    /// Its format.
    pub fn format(&self) -> BlobFormat {
        self.content.format
    }

    /// Both.
    pub fn hash_and_format(&self) -> HashAndFormat {
        self.content
    }

    /// Keeps the blob alive for as long as the store is open.
    pub fn leak(mut self) {
        self.counts = Weak::new();
    }
}

impl Clone for TempTag {
    fn clone(&self) -> Self {
        if let Some(counts) = self.counts.upgrade() {
            *lock(&counts).entry(self.content).or_default() += 1;
        }
        Self { content: self.content, counts: self.counts.clone() }
    }
}

impl Drop for TempTag {
    fn drop(&mut self) {
        let Some(counts) = self.counts.upgrade() else { return };
        let mut counts = lock(&counts);
        if let Some(count) = counts.get_mut(&self.content) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.content);
            }
        }
    }
}

/// Issues and counts the temporary tags of one store. Any backend can use it.
#[derive(Clone, Debug, Default)]
pub struct TempTagRegistry(Arc<Mutex<Counts>>);

impl TempTagRegistry {
    /// Creates a registry without tags.
    pub fn new() -> Self {
        Self::default()
    }

    /// Issues a tag. It protects from this moment on.
    pub fn issue(&self, content: HashAndFormat) -> TempTag {
        *lock(&self.0).entry(content).or_default() += 1;
        TempTag { content, counts: Arc::downgrade(&self.0) }
    }

    /// Tells whether a tag of either format holds this blob itself. What a hash sequence lists is not looked at.
    pub fn holds(&self, hash: &Hash) -> bool {
        let counts = lock(&self.0);
        counts.contains_key(&HashAndFormat::raw(*hash))
            || counts.contains_key(&HashAndFormat::hash_seq(*hash))
    }

    /// Everything that is held at this moment, each once, in order.
    pub fn snapshot(&self) -> Vec<HashAndFormat> {
        lock(&self.0).keys().copied().collect()
    }
}

/// The map is consistent after any panic: no code of others runs while it is locked.
fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_clone_releases() {
        let registry = TempTagRegistry::new();
        let content = HashAndFormat::raw(Hash::new(b"a"));
        let first = registry.issue(content);
        let second = first.clone();
        drop(first);
        assert!(registry.holds(&content.hash));
        assert_eq!(registry.snapshot(), [content]);
        drop(second);
        assert!(!registry.holds(&content.hash));
    }

    #[test]
    fn formats_are_counted_apart() {
        let registry = TempTagRegistry::new();
        let hash = Hash::new(b"a");
        let raw = registry.issue(HashAndFormat::raw(hash));
        let seq = registry.issue(HashAndFormat::hash_seq(hash));
        drop(raw);
        assert_eq!(registry.snapshot(), [seq.hash_and_format()]);
    }

    #[test]
    fn a_leaked_tag_protects_for_ever() {
        let registry = TempTagRegistry::new();
        let content = HashAndFormat::raw(Hash::new(b"a"));
        registry.issue(content).leak();
        drop(registry.issue(content));
        assert_eq!(registry.snapshot(), [content]);
    }

    #[test]
    fn a_tag_outlives_its_registry() {
        let registry = TempTagRegistry::new();
        let tag = registry.issue(HashAndFormat::raw(Hash::EMPTY));
        drop(registry);
        drop(tag.clone());
        assert_eq!(tag.hash(), Hash::EMPTY);
    }
}
