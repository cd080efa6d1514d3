//! Finding out what is reachable.

use std::collections::BTreeSet;

use blob_traits::{BlobFormat, EntryStatus, Hash, HashAndFormat, Progress, Result, TagRange};
use futures_lite::StreamExt;

use crate::{
    Event, GcError, GcMarkEvent, GcOptions, GcReport, MarkStore, UnreadableSequences,
    children::{Read, ReadOutcome, read_children},
    live::LiveSet,
};

/// So many sequences are read between two reports.
const REPORT_EVERY: u64 = 1000;
/// So many children are read between two reports.
const REPORT_EVERY_CHILDREN: u64 = 1 << 16;

/// What is kept for its own sake, each content once.
pub(crate) type Roots = BTreeSet<HashAndFormat>;

/// Samples the roots: temporary tags, then tags. In this order a blob whose tag is set before its temporary tag is dropped is
/// seen at least once.
pub(crate) async fn sample_roots<S: MarkStore>(store: &S, protected: &[HashAndFormat]) -> Result<Roots> {
    let mut roots: Roots = protected.iter().copied().collect();
    roots.extend(store.temp_tags());
    let mut tags = store.tags(TagRange::all()).await?;
    while let Some(tag) = tags.next().await {
        roots.insert(tag?.1);
    }
    Ok(roots)
}

/// Marks in one pass.
pub(crate) struct Marker<'a, S> {
    pub(crate) store: &'a S,
    pub(crate) options: &'a GcOptions,
    pub(crate) progress: &'a Progress<Event>,
    pub(crate) report: &'a mut GcReport,
    n_children: u64,
    /// What there is to say of roots and sequences has been said in an earlier pass.
    is_told: bool,
}

impl<'a, S: MarkStore> Marker<'a, S> {
    pub(crate) fn new(
        store: &'a S,
        options: &'a GcOptions,
        progress: &'a Progress<Event>,
        report: &'a mut GcReport,
    ) -> Self {
        Self { store, options, progress, report, n_children: 0, is_told: false }
    }

    /// For another pass over the same roots.
    pub(crate) fn again(self) -> Self {
        Self { is_told: true, ..self }
    }

    /// Marks all roots and what the sequences among them list.
    pub(crate) async fn mark(&mut self, roots: &Roots, live: &mut LiveSet) -> Result<(), GcError> {
        for root in roots {
            live.insert(&root.hash);
            match root.format {
                BlobFormat::Raw => self.note_missing(*root).await?,
                BlobFormat::HashSeq => self.mark_sequence(root.hash, |child| live.insert(&child)).await?,
            }
        }
        live.finish();
        let n_live = live.len() as u64;
        self.report.n_live += n_live;
        Ok(self.progress.send(Event::Mark(GcMarkEvent::Marked { n_live })).await?)
    }

    async fn note_missing(&mut self, root: HashAndFormat) -> Result<(), GcError> {
        if !self.is_told && self.store.entry_status(&root.hash).await? == EntryStatus::NotFound {
            self.report.n_missing += 1;
            self.tell(GcMarkEvent::Missing { root }).await?;
        }
        Ok(())
    }

    /// Marks what a sequence lists. Fails closed.
    pub(crate) async fn mark_sequence(
        &mut self,
        hash: Hash,
        mut sink: impl FnMut(Hash),
    ) -> Result<(), GcError> {
        let (progress, n_sequences, mut n_marked) = (self.progress, self.report.n_sequences, self.n_children);
        let mut told = Ok(());
        let sink = |child| {
            sink(child);
            n_marked += 1;
            if n_marked.is_multiple_of(REPORT_EVERY_CHILDREN) && told.is_ok() {
                told = tell_progress(progress, n_sequences, n_marked);
            }
        };
        let Read { n_children, outcome } = read_children(self.store, hash, sink).await?;
        told?;
        self.report.n_sequences += 1;
        self.n_children = n_marked;
        let keeps_going = self.options.unreadable == UnreadableSequences::KeepWhatCanBeRead;
        match outcome {
            ReadOutcome::All => {}
            ReadOutcome::Part => self.tell(GcMarkEvent::PartialSequence { hash, n_children }).await?,
            ReadOutcome::Missing => {
                self.report.n_missing += 1;
                self.tell(GcMarkEvent::Missing { root: HashAndFormat::hash_seq(hash) }).await?;
            }
            ReadOutcome::Malformed { .. } | ReadOutcome::Unreadable(_) if keeps_going => {
                self.tell(GcMarkEvent::UnreadableSequence { hash, n_children }).await?;
            }
            ReadOutcome::Malformed { size } => return Err(GcError::MalformedSequence { hash, size }),
            ReadOutcome::Unreadable(source) => return Err(GcError::UnreadableSequence { hash, source }),
        }
        if self.report.n_sequences.is_multiple_of(REPORT_EVERY) {
            tell_progress(self.progress, self.report.n_sequences, self.n_children)?;
        }
        Ok(())
    }

    async fn tell(&self, event: GcMarkEvent) -> Result<(), GcError> {
        if self.is_told {
            return Ok(());
        }
        Ok(self.progress.send(Event::Mark(event)).await?)
    }
}

/// Numbers may be missed by who is slow.
fn tell_progress(progress: &Progress<Event>, n_sequences: u64, n_children: u64) -> Result<()> {
    progress.try_send(Event::Mark(GcMarkEvent::Progress { n_sequences, n_children }))
}

/// The sequences among some roots.
pub(crate) fn sequences(roots: &Roots) -> Vec<Hash> {
    roots.iter().filter(|root| root.format.is_hash_seq()).map(|root| root.hash).collect()
}
