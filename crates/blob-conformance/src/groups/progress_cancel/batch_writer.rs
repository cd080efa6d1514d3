//! The adapter that reports what a batch writer has written.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use blob_traits::{
    BaoBatchWriter, BlobStatus, EntryStatus, Error, FallibleProgressBatchWriter, MapEntryMut, MapExt, MapMut,
    Store,
    bao_tree::{
        ChunkRanges,
        io::{BaoContentItem, Leaf},
    },
};

use crate::{GROUP, Outcome, Sample, Trial, case::group, chunks, error_of};

group! {
    "progress_cancel", for S: Store;
    batch_writer_progress_reports_every_leaf_in_batch,
    batch_writer_progress_refused_is_the_error_of_the_batch,
    batch_writer_progress_reports_nothing_of_a_refused_batch,
}

type Leaves = Arc<Mutex<Vec<(u64, usize)>>>;

/// A callback that remembers, and what it remembers.
fn remember() -> (Leaves, impl Fn(u64, usize) -> io::Result<()> + Send + Sync + 'static) {
    let leaves = Leaves::default();
    let remembered = leaves.clone();
    let on_leaf = move |offset, len| {
        remembered.lock().unwrap_or_else(PoisonError::into_inner).push((offset, len));
        Ok(())
    };
    (leaves, on_leaf)
}

fn remembered(leaves: &Leaves) -> Vec<(u64, usize)> {
    std::mem::take(&mut *leaves.lock().unwrap_or_else(PoisonError::into_inner))
}

fn leaves_of(items: &[BaoContentItem]) -> Vec<(u64, usize)> {
    let leaf = |item: &BaoContentItem| match item {
        BaoContentItem::Leaf(leaf) => Some((leaf.offset, leaf.data.len())),
        BaoContentItem::Parent(_) => None,
    };
    items.iter().filter_map(leaf).collect()
}

async fn batch_writer_progress_reports_every_leaf_in_batch<S: MapMut>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large() + 5);
    let entry = store.get_or_create(sample.hash, sample.size()).await?;
    let (leaves, on_leaf) = remember();
    let mut writer = FallibleProgressBatchWriter::new(entry.batch_writer().await?, on_leaf);
    writer.write_batch(sample.size(), Vec::new()).await?;
    assert_eq!(remembered(&leaves), []);
    for ranges in [chunks(0..1) | chunks(32..64), ChunkRanges::all()] {
        let items = sample.items(&ranges);
        let expected = leaves_of(&items);
        assert!(expected.len() > 1);
        writer.write_batch(sample.size(), items).await?;
        assert_eq!(remembered(&leaves), expected);
    }
    writer.sync().await?;
    assert_eq!(remembered(&leaves), []);
    store.insert_complete(entry).await?;
    assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    Ok(())
}

async fn batch_writer_progress_refused_is_the_error_of_the_batch<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(10 * 16_384);
    let entry = store.get_or_create(sample.hash, sample.size()).await?;
    let n_leaves = Arc::new(AtomicUsize::new(0));
    let counter = n_leaves.clone();
    let third = move |_, _| match counter.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Ok(()),
        _ => Err(io::ErrorKind::ConnectionAborted.into()),
    };
    let mut writer = FallibleProgressBatchWriter::new(entry.batch_writer().await?, third);
    let refused = writer.write_batch(sample.size(), sample.items(&chunks(0..80))).await;
    assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionAborted));
    assert_eq!(n_leaves.load(Ordering::SeqCst), 3, "it was called again after it had refused");
    // What was reported was written.
    assert_eq!(store.read_verified(sample.hash, 0..2 * GROUP).await?, sample.slice(0, 2 * GROUP));
    assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
    Ok(())
}

async fn batch_writer_progress_reports_nothing_of_a_refused_batch<S: MapMut>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(3 * 16_384);
    let entry = store.get_or_create(sample.hash, sample.size()).await?;
    let (leaves, on_leaf) = remember();
    let mut writer = FallibleProgressBatchWriter::new(entry.batch_writer().await?, on_leaf);
    let mut items = sample.all_items();
    items.push(Leaf { offset: sample.size(), data: vec![0; 1024].into() }.into());
    let error = error_of(writer.write_batch(sample.size(), items).await);
    assert!(matches!(error, Error::InvalidBatch { .. }), "{error:?}");
    assert_eq!(remembered(&leaves), []);
    Ok(())
}
