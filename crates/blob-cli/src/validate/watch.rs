//! How far a run is, and what it has found when it ends too early.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use blob_traits::Hash;
use blob_validate::{RepairProgress, ValidateProgress};
use serde_json::json;

use crate::{progress::Total, run::Context};

/// Counts what a run reports. Where it ends before its report, what was found until then is printed.
#[derive(Clone)]
pub(super) struct Watcher(Arc<Shared>);

struct Shared {
    context: Arc<Context>,
    /// How many bytes there are to look at, about; 0 where that is not known.
    expected: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Blobs that are being looked at, by their numbers.
    begun: HashMap<u64, Begun>,
    /// What was begun, in bytes.
    n_begun: u64,
    is_repairing: bool,
    found: Vec<(Hash, String)>,
}

struct Begun {
    hash: Hash,
    size: u64,
    /// How many bytes of it have been counted.
    counted: u64,
}

impl Watcher {
    pub(super) fn new(context: Arc<Context>, expected: u64) -> Self {
        Self(Arc::new(Shared { context, expected, state: Mutex::default() }))
    }

    /// Takes note of an event.
    pub(super) fn see_repair(&self, event: RepairProgress) {
        let Shared { context, .. } = &*self.0;
        match event {
            RepairProgress::Validate(event) => self.see(event),
            RepairProgress::Repairing { id, hash, n_lost } => {
                let mut state = self.0.state();
                if !std::mem::replace(&mut state.is_repairing, true) {
                    context.meter.begin("repair", Total::default(), &context.output);
                }
                state.begun.insert(id, Begun { hash, size: n_lost, counted: 0 });
            }
            RepairProgress::Fetched { id, n_bytes } => self.reach(id, n_bytes),
            RepairProgress::Repaired { id, .. } => {
                if self.0.state().begun.remove(&id).is_some() {
                    context.meter.advance(1, 0);
                }
            }
        }
    }

    fn see(&self, event: ValidateProgress) {
        let Shared { context, expected, .. } = &*self.0;
        match event {
            ValidateProgress::Starting { total } => {
                let total = Total { n_items: total, n_bytes: *expected };
                context.meter.begin("validate", total, &context.output);
            }
            ValidateProgress::Entry { id, hash, size, .. } => {
                let mut state = self.0.state();
                state.begun.insert(id, Begun { hash, size, counted: 0 });
                state.n_begun = state.n_begun.saturating_add(size);
                if *expected > 0 {
                    context.meter.expect_at_least(state.n_begun);
                }
            }
            // Its size may be no more than a claim.
            ValidateProgress::PartialEntry { id, hash, .. } => {
                self.0.state().begun.insert(id, Begun { hash, size: 0, counted: 0 });
            }
            ValidateProgress::EntryProgress { id, offset }
            | ValidateProgress::PartialEntryProgress { id, offset } => self.reach(id, offset),
            ValidateProgress::EntryDone { id, error } => self.finish(id, error),
            ValidateProgress::PartialEntryDone { id, .. } => self.finish(id, None),
            ValidateProgress::AllDone | ValidateProgress::Abort(_) => {}
        }
    }

    fn reach(&self, id: u64, offset: u64) {
        if let Some(begun) = self.0.state().begun.get_mut(&id) {
            self.0.context.meter.advance(0, offset.saturating_sub(begun.counted));
            begun.counted = begun.counted.max(offset);
        }
    }

    fn finish(&self, id: u64, error: Option<String>) {
        let mut state = self.0.state();
        let Some(begun) = state.begun.remove(&id) else { return };
        // Of small blobs no offsets are reported.
        let rest = if error.is_none() { begun.size.saturating_sub(begun.counted) } else { 0 };
        self.0.context.meter.advance(1, rest);
        state.found.extend(error.map(|error| (begun.hash, error)));
    }

    /// Says that the report is there, which has all of it.
    pub(super) fn settle(&self) {
        self.0.state().found.clear();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let found = std::mem::take(&mut self.state.get_mut().unwrap_or_else(PoisonError::into_inner).found);
        if found.is_empty() {
            return;
        }
        self.context.meter.end(&self.context.output);
        self.context.output.summarize(json!({ "damaged": found.len() }));
        for (hash, what) in found {
            let fields = json!({ "hash": hash.to_string(), "found": "damaged", "message": what });
            // Whoever stops reading has seen enough.
            let _ = self.context.output.item(format_args!("damaged     {hash}  {what}"), &fields);
        }
    }
}
