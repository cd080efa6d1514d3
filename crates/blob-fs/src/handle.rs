//! Pins on files: a file that is to be removed stays until nobody who may read it is left (E51).

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use crate::layout::FileNo;

/// Keeps the files of one number, or a segment, in place while it lives.
#[derive(Debug)]
pub(crate) struct Guard;

/// Who pins what. Guarded by the state lock.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    guards: HashMap<FileNo, Weak<Guard>>,
    segments: HashMap<u32, Weak<Guard>>,
    /// When to look for guards that are gone.
    sweep_at: usize,
}

impl Handles {
    /// Returns the pin of a number.
    pub(crate) fn guard(&mut self, no: FileNo) -> Arc<Guard> {
        if let Some(guard) = self.guards.get(&no).and_then(Weak::upgrade) {
            return guard;
        }
        if self.guards.len() >= self.sweep_at.max(1024) {
            self.guards.retain(|_, guard| guard.strong_count() > 0);
            self.sweep_at = self.guards.len() * 2;
        }
        let guard = Arc::new(Guard);
        self.guards.insert(no, Arc::downgrade(&guard));
        guard
    }

    /// Returns the pin of a segment.
    pub(crate) fn segment(&mut self, id: u32) -> Arc<Guard> {
        if let Some(guard) = self.segments.get(&id).and_then(Weak::upgrade) {
            return guard;
        }
        self.segments.retain(|_, guard| guard.strong_count() > 0);
        let guard = Arc::new(Guard);
        self.segments.insert(id, Arc::downgrade(&guard));
        guard
    }

    /// Whether somebody may still read a segment.
    pub(crate) fn is_segment_pinned(&self, id: u32) -> bool {
        self.segments.get(&id).is_some_and(|guard| guard.strong_count() > 0)
    }

    /// Whether somebody may still read the files of a number.
    pub(crate) fn is_pinned(&self, no: FileNo) -> bool {
        self.guards.get(&no).is_some_and(|guard| guard.strong_count() > 0)
    }
}
