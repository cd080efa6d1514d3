//! What temporary tags are for.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use blob_gc::GcStore;
use blob_traits::{EntryStatus, HashAndFormat, Import, Store, Sweep, WriteTags};

use super::{assert_gone, assert_kept, import, samples, sequence, sweep, sweep_after, tag_raw};
use crate::{Outcome, Sample, Trial, case::group};

group! {
    "gc", for S: Store, Sweep;
    temp_tag_protects_until_drop,
    temp_tag_clone_protects_after_the_first_is_dropped,
    temp_tag_leak_means_permanent_protection,
    temp_tag_returned_by_import_protects_dedup_hit_on_existing_blob,
    temp_tag_hashseq_protects_children,
    temp_tag_create_between_mark_and_sweep_protects,
    temp_tag_of_a_hashseq_between_mark_and_sweep_protects_children,
    temp_tag_drop_between_mark_and_sweep_deletes_next_round_only_ok,
    temp_tag_dropped_after_set_tag_between_mark_and_sweep_leaves_it_kept,
    temp_tag_vs_gc_never_loses_what_was_seen_under_it,
}

async fn temp_tag_protects_until_drop<S: GcStore + Import>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let pin = sample.import(&store).await?;
        sweep(&store).await?;
        assert_kept(&store, [&sample]).await?;
        drop(pin);
        sweep(&store).await?;
        assert_gone(&store, [&sample]).await?;
    }
    Ok(())
}

async fn temp_tag_clone_protects_after_the_first_is_dropped<S: GcStore + Import>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(100);
    let first = sample.import(&store).await?;
    let second = first.clone();
    drop(first);
    sweep(&store).await?;
    assert_kept(&store, [&sample]).await?;
    drop(second);
    sweep(&store).await?;
    assert_gone(&store, [&sample]).await
}

async fn temp_tag_leak_means_permanent_protection<S: GcStore + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    trial.expect_temp_tags();
    let sample = Sample::new(100);
    sample.import(&store).await?.leak();
    sweep(&store).await?;
    assert_kept(&store, [&sample]).await
}

async fn temp_tag_returned_by_import_protects_dedup_hit_on_existing_blob<S: GcStore + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let first = sample.import(&store).await?;
        let second = sample.import(&store).await?;
        drop(first);
        sweep(&store).await?;
        assert_kept(&store, [&sample]).await?;
        drop(second);
        sweep(&store).await?;
        assert_gone(&store, [&sample]).await?;
    }
    Ok(())
}

async fn temp_tag_hashseq_protects_children<S: GcStore + Import>(_: &Trial<S>, store: S) -> Outcome {
    let children = samples(3);
    let list = sequence(children.iter().map(|child| child.hash));
    import(&store, children.iter().chain([&list])).await?;
    let raw = store.temp_tag(HashAndFormat::raw(list.hash));
    let pin = store.temp_tag(HashAndFormat::hash_seq(list.hash));
    sweep(&store).await?;
    assert_kept(&store, children.iter().chain([&list])).await?;
    drop(pin);
    sweep(&store).await?;
    assert_kept(&store, [&list]).await?;
    assert_gone(&store, &children).await?;
    drop(raw);
    Ok(())
}

async fn temp_tag_create_between_mark_and_sweep_protects<S: GcStore + Import>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let [held, garbage] = [1, 2].map(|number| Sample::numbered(100, number));
    import(&store, [&held, &garbage]).await?;
    let mut pin = None;
    let act = async || {
        pin = Some(store.temp_tag(HashAndFormat::raw(held.hash)));
        Ok(())
    };
    sweep_after(&store, act).await??;
    assert_kept(&store, [&held]).await?;
    assert_gone(&store, [&garbage]).await?;
    drop(pin);
    Ok(())
}

async fn temp_tag_of_a_hashseq_between_mark_and_sweep_protects_children<S: GcStore + Import>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let children = samples(3);
    let list = sequence(children.iter().map(|child| child.hash));
    import(&store, children.iter().chain([&list])).await?;
    let mut pin = None;
    let act = async || {
        pin = Some(store.temp_tag(HashAndFormat::hash_seq(list.hash)));
        Ok(())
    };
    sweep_after(&store, act).await??;
    assert_kept(&store, children.iter().chain([&list])).await?;
    drop(pin);
    Ok(())
}

/// It may go in this round; in the next one it has to.
async fn temp_tag_drop_between_mark_and_sweep_deletes_next_round_only_ok<S: GcStore + Import>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(100);
    let pin = sample.import(&store).await?;
    let act = async || {
        drop(pin);
        Ok(())
    };
    sweep_after(&store, act).await??;
    if store.entry_status(&sample.hash).await? == EntryStatus::Complete {
        assert_kept(&store, [&sample]).await?;
    }
    sweep(&store).await?;
    assert_gone(&store, [&sample]).await
}

async fn temp_tag_dropped_after_set_tag_between_mark_and_sweep_leaves_it_kept<
    S: GcStore + Import + WriteTags,
>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let [there, held] = [1, 2].map(|number| Sample::numbered(100, number));
    import(&store, [&there]).await?;
    let pin = held.import(&store).await?;
    let act = async || {
        let late = store.temp_tag(HashAndFormat::raw(there.hash));
        tag_raw(&store, "there", &there).await?;
        drop(late);
        tag_raw(&store, "held", &held).await?;
        drop(pin);
        Ok(())
    };
    sweep_after(&store, act).await??;
    assert_kept(&store, [&there, &held]).await
}

struct EndOnDrop(Arc<AtomicBool>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A thread takes temporary tags on what may be gone already, while rounds come one after another. What is there under such a
/// tag stays.
async fn temp_tag_vs_gc_never_loses_what_was_seen_under_it<S: GcStore + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(100);
    let ended = Arc::new(AtomicBool::new(false));
    // Also where the case fails.
    let _end = EndOnDrop(ended.clone());
    let (other, hash, is_ended) = (store.clone(), sample.hash, ended.clone());
    let thread = trial.thread(move || -> u64 {
        let mut n_lost = 0;
        while !is_ended.load(Ordering::Relaxed) {
            let pin = other.temp_tag(HashAndFormat::raw(hash));
            let is_there = || matches!(other.entry_status_sync(&hash), Ok(EntryStatus::Complete));
            if is_there() {
                n_lost += (0..20).filter(|_| !is_there()).count() as u64;
            }
            drop(pin);
        }
        n_lost
    })?;
    for _ in 0..100 {
        import(&store, [&sample]).await?;
        sweep(&store).await?;
    }
    ended.store(true, Ordering::Relaxed);
    assert_eq!(thread.join().unwrap_or(u64::MAX), 0);
    Ok(())
}
