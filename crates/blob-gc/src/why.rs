//! Why a blob is kept, and what a tag alone keeps.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use blob_traits::{
    Hash, HashAndFormat, Progress, Tag, TagRange, blocking::on_blocking_pool, collect as list,
};

use crate::{
    GcError, GcOptions, GcReport, MarkStore,
    listing::weigh,
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

/// The blobs that something keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// Those that are there, complete or partial, in order, with how many of their bytes are.
    pub blobs: Vec<(Hash, u64)>,
    /// The sum of those bytes.
    pub bytes: u64,
    /// How many are not there.
    pub n_missing: u64,
}

/// Says what a root keeps: a blob, and where it is a hash sequence also the blobs that it lists, each once.
///
/// # Errors
/// Those of [`collect`](crate::collect), when the sequence cannot be read.
pub async fn extent<S: MarkStore>(store: &S, root: HashAndFormat) -> Result<Extent, GcError> {
    let store = store.clone();
    on_blocking_pool(move || async move {
        let measured = async { measure(&store, kept_by(&store, root).await?).await };
        Ok(measured.await)
    })
    .await?
}

/// Says what only this tag keeps, and what would go if the tag went; `None` if there is no such tag.
///
/// Reads every hash sequence that a root names.
///
/// # Errors
/// Those of [`collect`](crate::collect), when a sequence cannot be read.
pub async fn exclusive<S: MarkStore>(store: &S, tag: Tag) -> Result<Option<Extent>, GcError> {
    let store = store.clone();
    on_blocking_pool(move || async move { Ok(find_exclusive(&store, tag).await) }).await?
}

async fn find_exclusive<S: MarkStore>(store: &S, tag: Tag) -> Result<Option<Extent>, GcError> {
    let roots = all_roots(store).await?;
    let wanted = Root::Tag(tag);
    let Some((_, content)) = roots.iter().find(|(root, _)| *root == wanted) else { return Ok(None) };
    let others: Roots =
        roots.iter().filter(|(root, _)| *root != wanted).map(|(_, content)| *content).collect();
    let (options, progress) = (GcOptions::default(), Progress::none());
    let mut live = LiveSet::new(0, usize::MAX);
    Marker::new(store, &options, &progress, &mut GcReport::default()).mark(&others, &mut live).await?;
    let mut kept = kept_by(store, *content).await?;
    let mut cursor = live.cursor();
    kept.retain(|hash| cursor.look_up(hash) == Verdict::Garbage);
    Ok(Some(measure(store, kept).await?))
}

async fn kept_by<S: MarkStore>(store: &S, root: HashAndFormat) -> Result<BTreeSet<Hash>, GcError> {
    let mut kept = BTreeSet::from([root.hash]);
    if root.format.is_hash_seq() {
        let keep = |child| {
            kept.insert(child);
        };
        read(store, root.hash, keep).await?;
    }
    Ok(kept)
}

async fn measure<S: MarkStore>(store: &S, hashes: BTreeSet<Hash>) -> Result<Extent, GcError> {
    let mut extent = Extent::default();
    for hash in hashes {
        match weigh(store, &hash).await? {
            Some((_, n_bytes)) => {
                extent.blobs.push((hash, n_bytes));
                extent.bytes = extent.bytes.saturating_add(n_bytes);
            }
            None => extent.n_missing += 1,
        }
    }
    Ok(extent)
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
