//! What a round can be told.

use blob_gc::{Event, GcError, GcMode, GcOptions, GcStore, GcSweepEvent, NoRoots, collect};
use blob_traits::{Hash, HashAndFormat, Import, MapMut, Progress, Store, Sweep, WriteTags};

use super::{all, assert_gone, assert_kept, import, samples, sequence, sweep, tag_seq};
use crate::{Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "gc", for S: Store, Sweep;
    gc_dry_run_deletes_nothing_and_names_everything_that_would_go,
    gc_dry_run_counts_what_a_round_then_deletes,
    gc_ensure_free_stops_with_the_blob_that_makes_it_enough,
    gc_memory_limit_changes_passes_not_results,
    gc_no_roots_is_refused_unless_allowed,
    gc_protected_options_are_roots,
}

/// Live and dead blobs, complete and partial.
async fn mixed<S: GcStore + Import + MapMut + WriteTags>(
    store: &S,
) -> Result<(Vec<Sample>, Vec<Sample>), crate::Failure> {
    let mut live = samples(5);
    let mut garbage: Vec<_> = (100..105).map(|number| Sample::numbered(200, number)).collect();
    live.push(sequence(live.iter().map(|child| child.hash)));
    import(store, live.iter().chain(&garbage)).await?;
    if let Some(list) = live.last() {
        tag_seq(store, "seq", list).await?;
    }
    let partial = Sample::new(100_000);
    partial.write(store, &group_ranges(1..3)).await?;
    garbage.push(partial);
    Ok((live, garbage))
}

async fn gc_dry_run_deletes_nothing_and_names_everything_that_would_go<
    S: GcStore + Import + MapMut + WriteTags,
>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let (live, garbage) = mixed(&store).await?;
    let mut options = GcOptions::default();
    options.mode = GcMode::DryRun;
    let (progress, mut events) = Progress::channel(1000);
    collect(&store, options, progress).await?;
    let mut named: Vec<Hash> = Vec::new();
    while let Some(event) = events.recv().await {
        if let Event::Sweep(GcSweepEvent::Garbage { hash, .. }) = event {
            named.push(hash);
        }
    }
    named.sort_unstable();
    let mut wanted: Vec<_> = garbage.iter().map(|sample| sample.hash).collect();
    wanted.sort_unstable();
    assert_eq!(named, wanted);
    let (partial, complete) = garbage.split_last().ok_or("there is garbage")?;
    assert_kept(&store, live.iter().chain(complete)).await?;
    assert_eq!(store.present_ranges(&partial.hash).await?, Some(group_ranges(1..3)));
    Ok(())
}

async fn gc_dry_run_counts_what_a_round_then_deletes<S: GcStore + Import + MapMut + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let (live, garbage) = mixed(&store).await?;
    let mut options = GcOptions::default();
    options.mode = GcMode::DryRun;
    let told = collect(&store, options, Progress::none()).await?;
    let done = collect(&store, GcOptions::default(), Progress::none()).await?;
    let counts = |report: &blob_gc::GcReport| {
        let swept = report.swept;
        (report.n_live, report.n_seen, swept.n_complete, swept.n_partial, swept.logical_bytes)
    };
    assert_eq!(counts(&told), counts(&done));
    assert_eq!(counts(&done), (6, 12, 5, 1, 5 * 200 + 32_768));
    assert_kept(&store, &live).await?;
    assert_gone(&store, &garbage).await
}

async fn gc_ensure_free_stops_with_the_blob_that_makes_it_enough<S: GcStore + Import>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let garbage: Vec<_> = (0..10).map(|number| Sample::numbered(1000, number)).collect();
    import(&store, &garbage).await?;
    let mut options = all();
    options.ensure_free = Some(2500);
    let report = collect(&store, options.clone(), Progress::none()).await?;
    assert_eq!((report.swept.n_complete, report.swept.logical_bytes), (3, 3000));
    options.ensure_free = Some(u64::MAX);
    let report = collect(&store, options, Progress::none()).await?;
    assert_eq!(report.swept.n_complete, 7);
    assert_gone(&store, &garbage).await
}

async fn gc_memory_limit_changes_passes_not_results<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let live = samples(60);
    let garbage: Vec<_> = (100..160).map(|number| Sample::numbered(100, number)).collect();
    let list = sequence(live.iter().map(|child| child.hash));
    for max_memory in [0, 16, 16 * 20, 16 * 1000] {
        import(&store, live.iter().chain(&garbage).chain([&list])).await?;
        tag_seq(&store, "seq", &list).await?;
        let mut options = GcOptions::default();
        options.max_memory = max_memory;
        let report = collect(&store, options, Progress::none()).await?;
        assert_kept(&store, live.iter().chain([&list])).await?;
        assert_gone(&store, &garbage).await?;
        assert_eq!((report.n_live, report.n_seen, report.swept.n_complete), (61, 121, 60));
        assert_eq!((report.n_roots, report.n_sequences), (1, 1));
        assert_eq!(report.n_passes == 1, max_memory == 16 * 1000, "{} passes", report.n_passes);
    }
    Ok(())
}

async fn gc_no_roots_is_refused_unless_allowed<S: GcStore + Import + MapMut>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let (complete, partial) = (Sample::new(100), Sample::new(100_000));
    partial.write(&store, &group_ranges(0..1)).await?;
    let refused = collect(&store, GcOptions::default(), Progress::none()).await;
    assert!(matches!(refused, Err(GcError::NoRoots)));
    import(&store, [&complete]).await?;
    let refused = collect(&store, GcOptions::default(), Progress::none()).await;
    assert!(matches!(refused, Err(GcError::NoRoots)));
    assert_kept(&store, [&complete]).await?;
    assert_eq!(store.present_ranges(&partial.hash).await?, Some(group_ranges(0..1)));
    assert_eq!(all().no_roots, NoRoots::DeleteAll);
    sweep(&store).await?;
    assert_gone(&store, [&complete, &partial]).await
}

async fn gc_protected_options_are_roots<S: GcStore + Import>(_: &Trial<S>, store: S) -> Outcome {
    let [raw, child, garbage] = [1, 2, 3].map(|number| Sample::numbered(100, number));
    let list = sequence([child.hash]);
    import(&store, [&raw, &child, &garbage, &list]).await?;
    let mut options = GcOptions::default();
    options.protected = vec![HashAndFormat::raw(raw.hash), HashAndFormat::hash_seq(list.hash)];
    collect(&store, options, Progress::none()).await?;
    assert_kept(&store, [&raw, &child, &list]).await?;
    assert_gone(&store, [&garbage]).await
}
