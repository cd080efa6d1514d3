//! Rounds that are killed, or fail on their way: nothing live is lost, and the next one does the rest.

use std::collections::BTreeSet;

use blob_traits::{EntryStatus, Hash, HashAndFormat, ListBlobs, Store, Sweep, Tag, TagRange, collect};

use super::{assert_kept, import, sequence, sweep};
use crate::{
    Failure, Home, Lasts, Outcome, Sample, Trial,
    case::group,
    group_ranges,
    interrupted::{Work, fail_at_every_op, kill_at_any_time},
    ledger::everything_verifies,
};

group! {
    "gc", for S: Store, Sweep;
    gc_kill_at_every_io_op_no_live_loss_next_gc_finishes [needs Faults Persistence Durability],
    gc_that_fails_at_any_io_op_loses_nothing_live_next_gc_finishes [needs Faults Persistence Durability],
    gc_killed_at_any_time_loses_nothing_live_next_gc_finishes [needs Files Persistence Durability],
}

/// What a round finds.
struct Scene {
    /// Whole blobs that tags and a hash sequence keep.
    live: Vec<Sample>,
    /// A partial blob that a tag keeps.
    begun: Sample,
    roots: Vec<(Tag, HashAndFormat)>,
    /// Whole blobs that nothing keeps.
    garbage: Vec<Sample>,
    /// A partial blob that nothing keeps.
    given_up: Sample,
}

/// Rounds of collection.
struct Collecting<'a, S> {
    trial: &'a Trial<S>,
    /// How many small blobs are garbage, besides one of each way of the store.
    n_small: u64,
}

impl<S: Store + Sweep> Work<S> for Collecting<'_, S> {
    type Scene = Scene;

    fn scene(&self, number: u64) -> Scene {
        let sizes: Vec<_> = self.trial.ways().into_iter().take(2).collect();
        let of = |which| sizes.iter().map(move |size| Sample::numbered(*size, 10 * number + which));
        let begun = Sample::numbered(100_001, 2 * number);
        let given_up = Sample::numbered(100_001, 2 * number + 1);
        let children: Vec<_> = of(1).collect();
        let list = sequence(children.iter().map(|child| child.hash));
        let tagged: Vec<_> = of(2).collect();
        let raw = tagged.iter().chain([&begun]).map(|sample| HashAndFormat::raw(sample.hash));
        let roots = raw.chain([HashAndFormat::hash_seq(list.hash)]);
        let name = |which| Tag::from(format!("{number}/{which}"));
        let roots = (0..).zip(roots).map(|(which, root)| (name(which), root)).collect();
        let small = (0..self.n_small).map(|which| Sample::numbered(500, self.n_small * number + which));
        let garbage = of(3).chain(small).collect();
        let live = children.into_iter().chain(tagged).chain([list]).collect();
        Scene { live, begun, roots, garbage, given_up }
    }

    async fn set_up(&self, _: &Home, store: S, scene: &Scene) -> Result<S, Failure> {
        import(&store, scene.live.iter().chain(&scene.garbage)).await?;
        for sample in [&scene.begun, &scene.given_up] {
            sample.write(&store, &group_ranges(0..2)).await?;
        }
        for (tag, root) in &scene.roots {
            store.set_tag(tag.clone(), Some(*root)).await?;
        }
        store.sync().await?;
        Ok(store)
    }

    async fn act(&self, store: &S, _: &Scene) -> Outcome {
        sweep(store).await?;
        // Not every store makes a round last by itself.
        Ok(store.sync().await?)
    }

    async fn check(&self, store: &S, scene: &Scene) -> Outcome {
        assert_live(store, scene).await?;
        everything_verifies(store).await?;
        sweep(store).await?;
        assert_live(store, scene).await?;
        let live = scene.live.iter().chain([&scene.begun]).map(|sample| sample.hash);
        assert_eq!(listed(store).await?, live.collect::<BTreeSet<_>>());
        everything_verifies(store).await?;
        // All of it is garbage of the next round.
        Ok(store.delete_tags(TagRange::all()).await?)
    }
}

async fn assert_live<S: Store>(store: &S, scene: &Scene) -> Outcome {
    assert_kept(store, &scene.live).await?;
    assert_eq!(store.entry_status(&scene.begun.hash).await?, EntryStatus::Partial);
    let range = group_ranges(0..2);
    let stream = store.export_bao(scene.begun.hash, range.clone(), Vec::new()).await?;
    assert!(stream == scene.begun.encode(&range), "a partial blob has other bytes");
    for (tag, root) in &scene.roots {
        assert_eq!(store.get_tag(tag).await?, Some(*root));
    }
    Ok(())
}

/// All that is there, but for the blob that always is.
async fn listed<S: ListBlobs>(store: &S) -> Result<BTreeSet<Hash>, Failure> {
    let mut listed: BTreeSet<_> = collect(store.blobs().await?).await?.into_iter().collect();
    listed.extend(collect(store.partial_blobs().await?).await?);
    listed.remove(&Hash::EMPTY);
    Ok(listed)
}

async fn fail_gc_at_every_op<S: Store + Sweep>(trial: &Trial<S>, store: S, lasts: Lasts) -> Outcome {
    fail_at_every_op(trial, store, lasts, &Collecting { trial, n_small: 2 }).await?;
    Ok(())
}

async fn gc_kill_at_every_io_op_no_live_loss_next_gc_finishes<S: Store + Sweep>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    fail_gc_at_every_op(trial, store, Lasts::UntilDisarmed).await
}

async fn gc_that_fails_at_any_io_op_loses_nothing_live_next_gc_finishes<S: Store + Sweep>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    fail_gc_at_every_op(trial, store, Lasts::Once).await
}

async fn gc_killed_at_any_time_loses_nothing_live_next_gc_finishes<S: Store + Sweep>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    kill_at_any_time(trial, store, &Collecting { trial, n_small: 200 }).await
}
