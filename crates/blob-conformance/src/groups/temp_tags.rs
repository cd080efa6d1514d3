//! Temporary tags: what they protect, and how long.
#![expect(clippy::unused_async, reason = "a case is asynchronous whether it waits or not")]

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use bao_tree::ChunkRanges;
use blob_traits::{
    BlobFormat, BlobStatus, EntryStatus, Error, Hash, HashAndFormat, Import, ImportExt, ImportOptions,
    ImportSource, Lifecycle, Map, MapMut, Progress, Store, TempTag, TempTags, WriteTags,
};
use proptest::prelude::*;
use tokio::{sync::oneshot, task::JoinSet};

use crate::{Outcome, Sample, Trial, case::group};

group! {
    "temp_tags", for S: Store;
    temp_tag_says_what_it_holds,
    temp_tag_of_a_missing_blob_is_listed_at_once,
    temp_tag_refcount_n_clones,
    temp_tag_distinct_formats_counted_separately,
    temp_tag_drop_after_store_dropped_no_panic,
    temp_tag_of_a_closed_store_no_panic,
    temp_tag_drop_from_other_thread_and_in_destructor,
    temp_tag_cloned_and_dropped_by_many_threads_is_counted,
    temp_tag_leaked_is_listed_whatever_else_is_dropped,
    temp_tags_iterator_consistent_under_churn,
    temp_tags_not_persisted_across_reopen [needs Persistence],
    temp_tag_of_the_store_before_does_not_touch_the_one_after [needs Persistence],
    temp_tag_returned_by_import_of_an_existing_blob_is_listed,
    temp_tag_is_issued_before_the_import_shows,
    temp_tags_of_a_call_end_with_it,
}

/// Something to hold that is not there.
fn content(n: u8) -> HashAndFormat {
    HashAndFormat::raw(Hash::from_bytes([n; 32]))
}

fn held<S: TempTags>(store: &S) -> Vec<HashAndFormat> {
    store.temp_tags().collect()
}

async fn temp_tag_says_what_it_holds<S: TempTags + Import>(_: &Trial<S>, store: S) -> Outcome {
    let bytes = || ImportSource::Bytes("a".into());
    let hash = Hash::new(b"a");
    for format in [BlobFormat::Raw, BlobFormat::HashSeq] {
        let content = HashAndFormat { hash, format };
        let (imported, _) = store.import(bytes(), format.into(), Progress::none()).await?;
        for tag in [store.temp_tag(content), store.temp_tag(content).clone(), imported] {
            assert_eq!((tag.hash(), tag.format(), tag.hash_and_format()), (hash, format, content));
        }
    }
    Ok(())
}

async fn temp_tag_of_a_missing_blob_is_listed_at_once<S: TempTags + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    assert!(held(&store).is_empty());
    let tags = [3, 1, 2].map(|n| store.temp_tag(content(n)));
    assert_eq!(held(&store), [1, 2, 3].map(content));
    assert_eq!(store.entry_status(&content(1).hash).await?, EntryStatus::NotFound);
    drop(tags);
    assert!(held(&store).is_empty());
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Issue(u8),
    Clone(usize),
    Drop(usize),
}

async fn temp_tag_refcount_n_clones<S: TempTags + Clone>(trial: &Trial<S>, store: S) -> Outcome {
    let step = prop_oneof![
        2 => (0..3_u8).prop_map(Step::Issue),
        2 => any::<usize>().prop_map(Step::Clone),
        4 => any::<usize>().prop_map(Step::Drop),
    ];
    trial
        .for_all(32, prop::collection::vec(step, 1..40), async |steps| {
            let mut tags: Vec<TempTag> = Vec::new();
            for step in steps {
                match step {
                    Step::Issue(n) => tags.push(store.temp_tag(content(n))),
                    Step::Clone(at) => tags.extend(tags.get(at % tags.len().max(1)).cloned()),
                    Step::Drop(_) if tags.is_empty() => {}
                    Step::Drop(at) => drop(tags.swap_remove(at % tags.len())),
                }
                let mut expected: Vec<_> = tags.iter().map(TempTag::hash_and_format).collect();
                expected.sort();
                expected.dedup();
                assert_eq!(held(&store), expected);
            }
            Ok(())
        })
        .await
}

async fn temp_tag_distinct_formats_counted_separately<S: TempTags>(_: &Trial<S>, store: S) -> Outcome {
    let (raw, seq) = (content(1), HashAndFormat::hash_seq(content(1).hash));
    let tags = [raw, seq, seq, raw].map(|content| store.temp_tag(content));
    assert_eq!(held(&store), [raw, seq]);
    let [first_raw, first_seq, second_seq, second_raw] = tags;
    drop((first_raw, first_seq));
    assert_eq!(held(&store), [raw, seq]);
    drop(second_raw);
    assert_eq!(held(&store), [seq]);
    drop(second_seq);
    assert!(held(&store).is_empty());
    Ok(())
}

async fn temp_tag_drop_after_store_dropped_no_panic<S: TempTags + Import + Clone>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let issued = store.temp_tag(content(1));
    let imported = Sample::new(1000).import(&store).await?;
    trial.abandon(store);
    let clones = [issued.clone(), imported.clone()];
    assert_eq!((issued.hash(), imported.hash()), (content(1).hash, Sample::new(1000).hash));
    drop((issued, imported));
    let [leaked, dropped] = clones;
    drop((dropped.clone(), dropped));
    leaked.leak();
    // What was left open would have been noticed by the next one.
    trial.open(trial.home()).await?;
    Ok(())
}

async fn temp_tag_of_a_closed_store_no_panic<S: TempTags + Lifecycle>(_: &Trial<S>, store: S) -> Outcome {
    let before = store.temp_tag(content(1));
    store.shutdown().await?;
    let after = store.temp_tag(content(2));
    let (_listed, clones) = (held(&store), [before.clone(), after.clone()]);
    drop((before, after, clones));
    assert!(held(&store).is_empty());
    Ok(())
}

/// Tells what is held before and after it gives its tag up.
struct Holder<S: TempTags> {
    tag: Option<TempTag>,
    store: S,
    tell: mpsc::Sender<Vec<HashAndFormat>>,
}

impl<S: TempTags> Drop for Holder<S> {
    fn drop(&mut self) {
        // Whoever asked may have given up.
        let _ = self.tell.send(held(&self.store));
        drop(self.tag.take());
        let _ = self.tell.send(held(&self.store));
    }
}

async fn temp_tag_drop_from_other_thread_and_in_destructor<S: TempTags + Clone + 'static>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    thread_local!(static LAST: RefCell<Option<TempTag>> = const { RefCell::new(None) });
    let dropped = store.temp_tag(content(1));
    trial.thread(move || drop(dropped))?.join().map_err(|_| "the thread panicked")?;
    assert!(held(&store).is_empty());
    let (tell, told) = mpsc::channel();
    let holder = Holder { tag: Some(store.temp_tag(content(2))), store: store.clone(), tell };
    trial.thread(move || drop(holder))?.join().map_err(|_| "the thread panicked")?;
    assert_eq!(told.iter().collect::<Vec<_>>(), [vec![content(2)], vec![]]);
    // Destructors of thread-local variables run when the thread is nearly gone.
    let last = store.temp_tag(content(3));
    trial.thread(|| LAST.set(Some(last)))?.join().map_err(|_| "the thread panicked")?;
    assert!(held(&store).is_empty());
    Ok(())
}

async fn temp_tag_cloned_and_dropped_by_many_threads_is_counted<S: TempTags + Clone>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let shared = store.temp_tag(content(4));
    let droppers: Result<Vec<_>, _> = (0..8)
        .map(|_| {
            let shared = shared.clone();
            trial.thread(move || (0..200).for_each(|_| drop(shared.clone())))
        })
        .collect();
    for dropper in droppers? {
        dropper.join().map_err(|_| "a thread panicked")?;
    }
    assert_eq!(held(&store), [content(4)]);
    drop(shared);
    assert!(held(&store).is_empty());
    Ok(())
}

async fn temp_tag_leaked_is_listed_whatever_else_is_dropped<S: TempTags + Clone>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    trial.expect_temp_tags();
    let tag = store.temp_tag(content(1));
    tag.clone().leak();
    drop(tag);
    assert_eq!(held(&store), [content(1)]);
    let again = store.temp_tag(content(1));
    drop((again.clone(), again));
    assert_eq!(held(&store), [content(1)]);
    Ok(())
}

/// Some tags come and go while others stay: each listing has all that stay, in order, and nothing that never was.
async fn temp_tags_iterator_consistent_under_churn<S: TempTags + Clone + 'static>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let staying = [0, 20, 40, 60].map(|n| store.temp_tag(content(n)));
    let is_over = Arc::new(AtomicBool::new(false));
    let churn: Result<Vec<_>, _> = [10, 30, 50]
        .map(|first| {
            let (store, is_over) = (store.clone(), is_over.clone());
            trial.thread(move || {
                for round in 0..10_000_u32 {
                    let tags = [0, 1].map(|step| store.temp_tag(content(first + step)));
                    drop((tags.clone(), tags));
                    if round >= 100 && is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            })
        })
        .into_iter()
        .collect();
    let churn = churn?;
    for _ in 0..200 {
        let listed = held(&store);
        assert!(listed.is_sorted_by(|a, b| a < b), "{listed:?}");
        let known = |content: &HashAndFormat| {
            [0, 10, 11, 20, 30, 31, 40, 50, 51, 60].contains(&content.hash.as_bytes()[0])
        };
        assert!(listed.iter().all(known), "{listed:?}");
        assert!(staying.iter().all(|tag| listed.contains(&tag.hash_and_format())), "{listed:?}");
    }
    is_over.store(true, Ordering::Relaxed);
    for thread in churn {
        thread.join().map_err(|_| "a thread panicked")?;
    }
    assert_eq!(held(&store), staying.each_ref().map(TempTag::hash_and_format));
    Ok(())
}

async fn temp_tags_not_persisted_across_reopen<S: Import + WriteTags + Clone>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    trial.expect_temp_tags();
    store.temp_tag(content(1)).leak();
    let held_on = [store.temp_tag(content(2)), Sample::new(1000).import(&store).await?];
    store.set_tag("a".into(), Some(content(3))).await?;
    let store = trial.reopen(store).await?;
    assert!(held(&store).is_empty());
    drop(held_on);
    assert!(held(&store).is_empty());
    Ok(())
}

async fn temp_tag_of_the_store_before_does_not_touch_the_one_after<S: TempTags + Clone>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let before = store.temp_tag(content(1));
    let store = trial.reopen(store).await?;
    let after = store.temp_tag(content(1));
    drop(before.clone());
    assert_eq!(held(&store), [content(1)]);
    drop(before);
    assert_eq!(held(&store), [content(1)]);
    drop(after);
    assert!(held(&store).is_empty());
    Ok(())
}

async fn temp_tag_returned_by_import_of_an_existing_blob_is_listed<S: MapMut + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for (sample, other) in trial.ways().into_iter().map(|size| (Sample::new(size), Sample::numbered(size, 1)))
    {
        let first = sample.import(&store).await?;
        let content = first.hash_and_format();
        let second = sample.import(&store).await?;
        drop(first);
        assert_eq!(held(&store), [content]);
        drop(second);
        assert!(held(&store).is_empty());
        let source = ImportSource::Bytes(sample.data.clone());
        let seq = ImportOptions { format: BlobFormat::HashSeq, tag: None };
        let (third, _) = store.import(source, seq, Progress::none()).await?;
        assert_eq!(held(&store), [HashAndFormat::hash_seq(sample.hash)]);
        drop(third);
        other.write(&store, &ChunkRanges::all()).await?;
        let whole = other.import(&store).await?;
        assert_eq!(held(&store), [whole.hash_and_format()]);
    }
    Ok(())
}

/// Whoever sees the blob as complete sees it held: otherwise a collection could come in between.
async fn temp_tag_is_issued_before_the_import_shows<S: Map + BlobStatus + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for (number, size) in trial.ways().into_iter().cycle().take(6).enumerate() {
        let sample = Sample::numbered(size, number as u64);
        let content = HashAndFormat::raw(sample.hash);
        let is_over = Arc::new(AtomicBool::new(false));
        let (seen, was_seen) = oneshot::channel();
        let watching = trial.thread({
            let (store, is_over) = (store.clone(), is_over.clone());
            move || {
                let mut status = EntryStatus::NotFound;
                while status != EntryStatus::Complete && !is_over.load(Ordering::Acquire) {
                    status = store.entry_status_sync(&content.hash)?;
                }
                let is_held = held(&store).contains(&content);
                // The tag is kept until this is told; the import may also have failed.
                let _ = seen.send(());
                assert!(is_held || status != EntryStatus::Complete, "complete, and nothing held it");
                Ok::<(), Error>(())
            }
        })?;
        let imported = store.import_bytes(sample.data.clone(), BlobFormat::Raw).await;
        is_over.store(imported.is_err(), Ordering::Release);
        // A blob that never shows as complete is for other cases.
        let waited = tokio::time::timeout(std::time::Duration::from_secs(5), was_seen).await;
        is_over.store(true, Ordering::Release);
        watching.join().map_err(|_| "the watching thread panicked")??;
        drop(imported?);
        assert!(waited.is_ok(), "an imported blob never became complete");
    }
    Ok(())
}

/// What a call holds while it works is given up before it is acknowledged.
async fn temp_tags_of_a_call_end_with_it<S: MapMut + Import + WriteTags>(_: &Trial<S>, store: S) -> Outcome {
    let mut calling = JoinSet::new();
    for task in 0..8 {
        let store = store.clone();
        calling.spawn(async move {
            for round in 0..12 {
                let sample = Sample::numbered(1000, task * 100 + round);
                let held = || held(&store).iter().any(|content| content.hash == sample.hash);
                let content = HashAndFormat::raw(sample.hash);
                store.create_tag(content).await?;
                assert!(!held(), "after create_tag");
                let entry = store.get_or_create(sample.hash, sample.size()).await?;
                sample.write(&store, &ChunkRanges::all()).await?;
                store.insert_complete(entry).await?;
                assert!(!held(), "after insert_complete");
                let tag = sample.import(&store).await?;
                assert!(held(), "after import");
                drop(tag);
                assert!(!held(), "after the tag was dropped");
            }
            Ok::<(), Error>(())
        });
    }
    while let Some(ended) = calling.join_next().await {
        ended??;
    }
    Ok(())
}
