//! Why a blob is kept, and what a tag alone keeps.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use blob_traits::{
    Hash, HashAndFormat, MapEntry, Progress, Tag, TagRange, blocking::on_blocking_pool, collect as list,
};

use crate::{
    GcError, GcOptions, GcReport, MarkStore,
    live::{LiveSet, Verdict},
    mark::{Marker, Roots},
};

/// What keeps something for its own sake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// A tag.
    Tag(Tag),
    /// A temporary tag of this process.
    TempTag,
}

/// One way in which a blob is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// What keeps it.
    pub root: Root,
    /// The hash sequence that lists it; `None` where the root names the blob itself.
    pub through: Option<Hash>,
}

/// Says why a blob is kept: every chain from a root to it, in order. Empty if nothing reaches it.
///
/// Reads every hash sequence that a root names.
///
/// # Errors
/// Those of [`collect`](crate::collect), when a sequence cannot be read.
pub async fn why<S: MarkStore>(store: &S, hash: Hash) -> Result<Vec<Reason>, GcError> {
    let store = store.clone();
    on_blocking_pool(move || async move { Ok(find_reasons(&store, hash).await) }).await?
}

async fn find_reasons<S: MarkStore>(store: &S, hash: Hash) -> Result<Vec<Reason>, GcError> {
    let mut lists: BTreeMap<Hash, bool> = BTreeMap::new();
    let mut reasons = Vec::new();
    for (root, content) in all_roots(store).await? {
        if content.hash == hash {
            reasons.push(Reason { root: root.clone(), through: None });
        }
        if !content.format.is_hash_seq() {
            continue;
        }
        if let Entry::Vacant(unread) = lists.entry(content.hash) {
            let mut is_listed = false;
            read(store, content.hash, |child| is_listed |= child == hash).await?;
            unread.insert(is_listed);
        }
        if lists.get(&content.hash) == Some(&true) {
            reasons.push(Reason { root, through: Some(content.hash) });
        }
    }
    reasons.sort();
    // Temporary tags of both formats are one reason.
    reasons.dedup();
    Ok(reasons)
}

/// What would go if a tag went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclusive {
    /// The blobs that nothing else keeps, in order, with their sizes in bytes. Those that are not there are left out.
    pub blobs: Vec<(Hash, u64)>,
    /// The sum of those sizes.
    pub bytes: u64,
}

/// Says what only this tag keeps; `None` if there is no such tag.
///
/// Reads every hash sequence that a root names.
///
/// # Errors
/// Those of [`collect`](crate::collect), when a sequence cannot be read.
pub async fn exclusive<S: MarkStore>(store: &S, tag: Tag) -> Result<Option<Exclusive>, GcError> {
    let store = store.clone();
    on_blocking_pool(move || async move { Ok(find_exclusive(&store, tag).await) }).await?
}

async fn find_exclusive<S: MarkStore>(store: &S, tag: Tag) -> Result<Option<Exclusive>, GcError> {
    let roots = all_roots(store).await?;
    let wanted = Root::Tag(tag);
    let Some((_, content)) = roots.iter().find(|(root, _)| *root == wanted) else { return Ok(None) };
    let others: Roots =
        roots.iter().filter(|(root, _)| *root != wanted).map(|(_, content)| *content).collect();
    let (options, progress) = (GcOptions::default(), Progress::none());
    let mut live = LiveSet::new(0, usize::MAX);
    Marker::new(store, &options, &progress, &mut GcReport::default()).mark(&others, &mut live).await?;
    let mut kept = BTreeSet::from([content.hash]);
    if content.format.is_hash_seq() {
        let keep = |child| {
            kept.insert(child);
        };
        read(store, content.hash, keep).await?;
    }
    let mut cursor = live.cursor();
    let mut exclusive = Exclusive::default();
    for hash in kept.into_iter().filter(|hash| cursor.look_up(hash) == Verdict::Garbage) {
        if let Some(entry) = store.get(&hash).await? {
            let size = entry.size().value();
            exclusive.blobs.push((hash, size));
            exclusive.bytes = exclusive.bytes.saturating_add(size);
        }
    }
    Ok(Some(exclusive))
}

async fn all_roots<S: MarkStore>(store: &S) -> Result<Vec<(Root, HashAndFormat)>, GcError> {
    let mut roots: Vec<_> = store.temp_tags().map(|content| (Root::TempTag, content)).collect();
    let tags = list(store.tags(TagRange::all()).await?).await?;
    roots.extend(tags.into_iter().map(|(tag, content)| (Root::Tag(tag), content)));
    Ok(roots)
}

async fn read<S: MarkStore>(store: &S, hash: Hash, sink: impl FnMut(Hash)) -> Result<(), GcError> {
    let (options, progress) = (GcOptions::default(), Progress::none());
    Marker::new(store, &options, &progress, &mut GcReport::default()).mark_sequence(hash, sink).await
}
