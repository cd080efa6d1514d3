//! Listings: a snapshot taken at once, in memory while it is short, in an unlinked file otherwise.
//!
//! No read transaction of the index outlives the call that makes the listing (E34).

mod parts;
mod spill;

use std::{cell::Cell, cmp::Ordering, collections::BTreeMap, iter::Peekable, sync::Arc};

use blob_traits::{BoxStream, Hash, ListBlobs, Result, Tag, TagRange, blocking::unblock};

pub(crate) use self::{
    parts::with_parts,
    spill::{Item, Listing, Spill},
};
use crate::{
    engine::{Engine, Keys, Look},
    overlay::Change,
    row::{BlobRow, TagRow},
    state::State,
    store::FsStore,
};

impl ListBlobs for FsStore {
    async fn blobs(&self) -> Result<BoxStream<Hash>> {
        let engine = self.engine.clone();
        unblock(move || list_blobs(&engine, Which::Complete)).await
    }

    async fn partial_blobs(&self) -> Result<BoxStream<Hash>> {
        let engine = self.engine.clone();
        unblock(move || list_blobs(&engine, Which::Partial)).await
    }
}

/// Which blobs are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Complete,
    /// Those in memory, which have no rows, among them.
    Partial,
    /// Both.
    All,
}

fn list_blobs(engine: &Arc<Engine>, which: Which) -> Result<BoxStream<Hash>> {
    with_rows(engine, which, |rows, in_memory| {
        let in_memory = if which == Which::Complete { Vec::new() } else { in_memory };
        let mut in_memory = in_memory.into_iter().peekable();
        let mut listing = Spill::new(engine.clone());
        for item in rows {
            let (hash, row) = item?;
            while let Some(hash) = in_memory.next_if(|next| *next < hash) {
                listing.push(&hash)?;
            }
            let is_complete = row.state.complete_size().is_some();
            if is_complete == (which == Which::Complete) {
                in_memory.next_if_eq(&hash);
                listing.push(&hash)?;
            }
        }
        in_memory.try_for_each(|hash| listing.push(&hash))?;
        listing.finish()
    })
}

/// Has a snapshot taken: of the rows that readers see, in order, at least of the blobs that are wanted, and of the partial
/// blobs that somebody works with, which may have rows or not. `take` looks at all of them.
pub(crate) fn with_rows<T>(
    engine: &Engine,
    which: Which,
    take: impl Fn(&mut dyn Iterator<Item = Result<(Hash, BlobRow)>>, Vec<Hash>) -> Result<T>,
) -> Result<T> {
    engine.look(recent, |reader, (changes, in_memory)| {
        // Who has listed the complete ones knows; collection lists both.
        let are_none = which == Which::Partial && reader.has_partial_blobs() == Some(false);
        let rows = if are_none { None } else { Some(reader.blobs()?) };
        let has_partial = Cell::new(false);
        let rows = rows.into_iter().flatten().inspect(|row| {
            if let Ok((_, row)) = row {
                has_partial.set(has_partial.get() || row.state.complete_size().is_none());
            }
        });
        let taken = take(&mut Merge::new(rows, changes.into_iter()), in_memory)?;
        reader.note_partial_blobs(has_partial.get());
        Ok(taken)
    })
}

/// The changes that the index does not have, and the partial blobs that somebody works with, in order.
type Recent = (BTreeMap<Hash, Change<BlobRow>>, Vec<Hash>);

fn recent<T>(state: &State) -> Look<T, Recent> {
    let mut changes = BTreeMap::new();
    if let Some(frozen) = &state.visible.frozen {
        changes.extend(frozen.blobs.iter().map(|(hash, change)| (*hash, *change)));
    }
    changes.extend(state.visible.active.blobs.iter().map(|(hash, change)| (*hash, *change)));
    changes.extend(state.hidden_blobs().map(|hash| (hash, Change::Removed)));
    Look::Ask((changes, state.partials.hashes()))
}

/// Lists the blobs that have rows and that readers see, in order.
pub(crate) fn rows(engine: &Arc<Engine>) -> Result<Listing<(Hash, BlobRow)>> {
    with_rows(engine, Which::All, |rows, _| {
        let mut listing = Spill::new(engine.clone());
        for item in rows {
            listing.push(&item?)?;
        }
        listing.finish_listing()
    })
}

/// Lists the tags of a range that readers see.
pub(crate) fn tags(engine: &Arc<Engine>, range: &TagRange) -> Result<Listing<(Tag, TagRow)>> {
    let known = |state: &State| {
        let mut changes: BTreeMap<Tag, Change<TagRow>> = BTreeMap::new();
        if let Some(bounds) = range.bounds() {
            let overlays = state.visible.frozen.as_deref().into_iter().chain([&state.visible.active]);
            for overlay in overlays {
                changes
                    .extend(overlay.tags.range::<Tag, _>(bounds).map(|(tag, change)| (tag.clone(), *change)));
            }
        }
        let hidden = state.hidden_tags().filter(|tag| range.contains(tag));
        changes.extend(hidden.map(|tag| (tag.clone(), Change::Removed)));
        Look::Ask(changes)
    };
    engine.look(known, |reader, changes| {
        let mut listing = Spill::new(engine.clone());
        for item in Merge::new(reader.tags(range)?, changes.into_iter()) {
            listing.push(&item?)?;
        }
        listing.finish_listing()
    })
}

/// Names the tags of a range. As long as the index has the generation that is returned, those that are missing are
/// among the [recent ones](State::recent_tags).
pub(crate) fn tag_names(engine: &Arc<Engine>, range: &TagRange) -> Result<(Keys, u64)> {
    let generation = engine.state().visible.generation;
    let mut keys = Keys::default();
    for item in tags(engine, range)?.into_blocking() {
        keys.tags.push(item?.0);
    }
    Ok((keys, generation))
}

/// Rows of the index with the changes that it does not have, in order.
struct Merge<K, R, I, C>
where
    I: Iterator<Item = Result<(K, R)>>,
    C: Iterator<Item = (K, Change<R>)>,
{
    rows: Peekable<I>,
    changes: Peekable<C>,
}

impl<K: Ord, R, I, C> Merge<K, R, I, C>
where
    I: Iterator<Item = Result<(K, R)>>,
    C: Iterator<Item = (K, Change<R>)>,
{
    fn new(rows: I, changes: C) -> Self {
        Self { rows: rows.peekable(), changes: changes.peekable() }
    }
}

impl<K: Ord, R, I, C> Iterator for Merge<K, R, I, C>
where
    I: Iterator<Item = Result<(K, R)>>,
    C: Iterator<Item = (K, Change<R>)>,
{
    type Item = Result<(K, R)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let order = match (self.rows.peek(), self.changes.peek()) {
                (Some(Err(_)), _) | (_, None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(Ok((row, _))), Some((change, _))) => row.cmp(change),
            };
            if order == Ordering::Less {
                return self.rows.next();
            }
            if order == Ordering::Equal {
                self.rows.next();
            }
            let (key, change) = self.changes.next()?;
            if let Some(row) = change.row() {
                return Some(Ok((key, row)));
            }
        }
    }
}
