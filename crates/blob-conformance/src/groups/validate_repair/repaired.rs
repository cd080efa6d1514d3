//! What repair makes of damage, without anybody to ask for what is lost.

use bao_tree::ChunkRanges;
use blob_traits::{CheckMode, EntryStatus, FullStore, HashAndFormat, Progress, collect};
use blob_validate::Outcome as Left;

use super::{
    assert_complete, assert_missing, assert_outcome, assert_partial, import, repaired, validated,
    what_became_of,
};
use crate::{
    GROUP, Outcome, Sample, Trial,
    case::group,
    copied::Copied,
    group_ranges,
    harm::{Harm, Harmful, harmed},
    harmed::Harmed,
};

group! {
    "validate_repair", for S: FullStore;
    repair_complete_with_damage_becomes_partial_with_valid_ranges_kept,
    repair_partial_with_damage_keeps_its_valid_ranges,
    repair_never_touches_valid_entries,
    repair_rebuilds_outboard_when_data_intact,
    repair_cuts_off_what_is_too_much,
    repair_inline_entry_damage_removed_or_partial,
    repair_then_validate_clean_and_redownload_completes,
    repair_without_sources_leaves_what_cannot_be_read,
    repair_of_a_damaged_reference_leaves_the_users_file [needs References],
    repair_is_durable_and_survives_crash [needs Persistence Durability],
    repair_false_changes_nothing_on_disk [needs Files Persistence],
    repair_of_a_sound_store_changes_nothing_on_disk [needs Files Persistence],
}

/// Damage of each way of a store: at the start, in the middle, at the end of a blob.
fn flips(trial: &Trial<impl Clone>) -> Vec<Harmful> {
    let mut harms = Vec::new();
    for size in trial.ways() {
        for (number, at) in (0..).zip([0, size / 2, size - 1]) {
            harms.push(Harmful::data(&Sample::numbered(size, number), Harm::Flipped(at as u64)));
        }
    }
    harms
}

fn n_bytes(sample: &Sample, chunks: &ChunkRanges) -> u64 {
    let groups = (0..sample.n_groups()).filter(|group| sample.group_range(*group).is_subset(chunks));
    groups.map(|group| sample.bytes_of_group(group).len() as u64).sum()
}

async fn repair_complete_with_damage_becomes_partial_with_valid_ranges_kept<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let harms = flips(trial);
    import(&store, harms.iter().map(|harm| &harm.sample)).await?;
    let store = harmed(trial, store, &harms).await?;
    let report = repaired(&store, Vec::new()).await?;
    assert_eq!(report.blobs.len(), harms.len());
    for harm in &harms {
        let (sample, lost) = (&harm.sample, harm.hit());
        let Left::Partial { missing } = &what_became_of(&report, sample)?.outcome else {
            return Err(format!("{report:?}").into());
        };
        let n_missing: u64 = missing.iter().map(|range| range.end - range.start).sum();
        assert_eq!(n_missing, n_bytes(sample, &lost));
        assert_partial(&store, sample, &lost).await?;
        assert!(store.inner().was_demoted(&sample.hash).await?);
    }
    Ok(())
}

async fn repair_partial_with_damage_keeps_its_valid_ranges<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sizes = [100_000, trial.large() + 100_000];
    let harms = sizes.map(|size| Harmful::data(&Sample::new(size), Harm::Flipped(2 * GROUP + 7)));
    for harm in &harms {
        harm.sample.write(&store, &group_ranges(1..4)).await?;
    }
    store.sync().await?;
    let store = harmed(trial, store, &harms).await?;
    repaired(&store, Vec::new()).await?;
    for Harmful { sample, .. } in &harms {
        let kept = group_ranges(1..2) | group_ranges(3..4);
        assert_partial(&store, sample, &(sample.all_chunks() - kept)).await?;
    }
    Ok(())
}

async fn repair_never_touches_valid_entries<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let harms = flips(trial);
    let sound: Vec<_> = trial.ways().into_iter().map(|size| Sample::numbered(size, 99)).collect();
    import(&store, harms.iter().map(|harm| &harm.sample).chain(&sound)).await?;
    let partial = Sample::numbered(trial.large(), 98);
    partial.write(&store, &group_ranges(0..3)).await?;
    store.sync().await?;
    let content = HashAndFormat::raw(partial.hash);
    store.set_tag("tag".into(), Some(content)).await?;
    let store = harmed(trial, store, &harms).await?;
    let report = repaired(&store, Vec::new()).await?;
    assert!(!report.blobs.iter().any(|blob| sound.iter().any(|sample| sample.hash == blob.hash)));
    for sample in &sound {
        assert_complete(&store, sample).await?;
        assert!(!store.inner().was_demoted(&sample.hash).await?);
    }
    assert_partial(&store, &partial, &(partial.all_chunks() - group_ranges(0..3))).await?;
    assert!(!store.inner().was_demoted(&partial.hash).await?);
    assert_eq!(collect(store.inner().tags(..).await?).await?, [("tag".into(), content)]);
    Ok(())
}

async fn repair_rebuilds_outboard_when_data_intact<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let mut harms = Vec::new();
    for size in trial.ways().into_iter().filter(|size| *size as u64 > GROUP) {
        let len = Sample::new(size).outboard.data.len() as u64;
        for (number, harm) in (0..).zip([Harm::Flipped(0), Harm::Flipped(len - 1), Harm::Zeroed(0..len)]) {
            harms.push(Harmful::tree(&Sample::numbered(size, number), harm));
        }
    }
    for (number, harm) in (10..).zip([Harm::Cut(0), Harm::Cut(100), Harm::Lost]) {
        harms.push(Harmful::tree(&Sample::numbered(trial.large(), number), harm));
    }
    import(&store, harms.iter().map(|harm| &harm.sample)).await?;
    let store = harmed(trial, store, &harms).await?;
    let report = repaired(&store, Vec::new()).await?;
    for Harmful { sample, .. } in &harms {
        assert_outcome(&report, sample, &Left::Complete);
        assert_complete(&store, sample).await?;
        assert!(!store.inner().was_demoted(&sample.hash).await?, "it is complete again");
    }
    assert_eq!(report.n_fetched_bytes(), 0);
    assert!(validated(&store).await?.is_clean());
    Ok(())
}

async fn repair_cuts_off_what_is_too_much<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let harms = [(0, 1), (1, 20_000)]
        .map(|(number, n)| Harmful::data(&Sample::numbered(trial.large(), number), Harm::Extended(n)));
    import(&store, harms.iter().map(|harm| &harm.sample)).await?;
    let store = harmed(trial, store, &harms).await?;
    let report = repaired(&store, Vec::new()).await?;
    for Harmful { sample, .. } in &harms {
        assert_outcome(&report, sample, &Left::Complete);
        assert_complete(&store, sample).await?;
    }
    assert!(validated(&store).await?.is_clean());
    Ok(())
}

/// Of a blob of one chunk group nothing is left: it is partial and empty, or gone.
async fn repair_inline_entry_damage_removed_or_partial<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let harms: Vec<_> = (0..)
        .zip([1, 100, 1024, 1025, 5000, 16_384])
        .map(|(number, size)| Harmful::data(&Sample::numbered(size, number), Harm::Flipped(size as u64 / 2)))
        // A hash of one byte is found in many places.
        .filter(|harm| harm.sample.size() > 64)
        .collect();
    import(&store, harms.iter().map(|harm| &harm.sample)).await?;
    let store = harmed(trial, store, &harms).await?;
    repaired(&store, Vec::new()).await?;
    for Harmful { sample, .. } in &harms {
        match store.inner().entry_status(&sample.hash).await? {
            EntryStatus::NotFound => {}
            EntryStatus::Partial => assert_missing(&store, sample, &sample.all_chunks()).await?,
            EntryStatus::Complete => return Err("damage is served as complete".into()),
        }
        import(store.inner(), [sample]).await?;
        assert_complete(&store, sample).await?;
    }
    assert!(validated(&store).await?.is_clean());
    Ok(())
}

/// Check, repair, check; then somebody has what was lost.
async fn repair_then_validate_clean_and_redownload_completes<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let harms = flips(trial);
    import(&store, harms.iter().map(|harm| &harm.sample)).await?;
    let store = harmed(trial, store, &harms).await?;
    assert!(!repaired(&store, Vec::new()).await?.is_clean(), "data is missing");
    let between = validated(&store).await?;
    assert!(between.damaged.is_empty() && between.failed.is_empty(), "{between:?}");
    let mut demoted: Vec<_> = harms.iter().map(|harm| harm.sample.hash).collect();
    demoted.sort();
    assert_eq!(between.demoted, demoted);
    for harm in &harms {
        let (sample, lost) = (&harm.sample, harm.hit());
        store.inner().import_bao(sample.hash, sample.size(), lost.clone(), sample.encode(&lost)).await?;
        let entry = store.inner().get_mut(&sample.hash).await?.ok_or("it is gone")?;
        store.inner().insert_complete(entry).await?;
        assert_complete(&store, sample).await?;
    }
    assert!(validated(&store).await?.is_clean());
    // There is nothing left to do.
    assert!(repaired(&store, Vec::new()).await?.blobs.is_empty());
    Ok(())
}

/// The disk may come back; what was thrown away does not.
async fn repair_without_sources_leaves_what_cannot_be_read<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    import(&store, &samples).await?;
    let store = Harmed::new(store);
    for sample in &samples {
        store.make_unreadable(sample, &sample.group_range(sample.n_groups() - 1));
    }
    let report = repaired(&store, Vec::new()).await?;
    assert!(!report.is_clean());
    for sample in &samples {
        assert_outcome(&report, sample, &Left::Unreadable);
    }
    store.heal();
    for sample in &samples {
        assert_complete(&store, sample).await?;
    }
    // The same when nothing at all can be read, the trees neither.
    for sample in &samples {
        store.make_unreadable(sample, &sample.all_chunks());
        store.make_tree_unreadable(sample);
    }
    let report = repaired(&store, Vec::new()).await?;
    store.heal();
    for sample in &samples {
        assert_outcome(&report, sample, &Left::Unreadable);
        assert_complete(&store, sample).await?;
    }
    Ok(())
}

async fn repair_of_a_damaged_reference_leaves_the_users_file<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    use blob_traits::{BlobFormat, ImportMode};

    let sample = Sample::new(trial.large());
    let path = trial.user_file("file", &sample.data)?;
    let mode = ImportMode::TryReference;
    drop(store.import_file(path.clone(), mode, BlobFormat::Raw, Progress::none()).await?);
    let changed = Harm::Flipped(GROUP).applied(&sample.data).ok_or("it is there")?;
    std::fs::write(&path, &changed)?;
    repaired(&store, Vec::new()).await?;
    assert!(std::fs::read(&path)? == changed, "the file is the user's");
    assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
    let present = store.present_ranges(&sample.hash).await?.ok_or("it is gone")?;
    assert!(present.is_disjoint(&sample.group_range(1)));
    let stream = store.export_bao(sample.hash, present.clone(), Vec::new()).await?;
    assert!(stream == sample.encode(&present), "it has other bytes");
    assert!(validated(&store).await?.damaged.is_empty());
    Ok(())
}

async fn repair_is_durable_and_survives_crash<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let harms = flips(trial);
    import(&store, harms.iter().map(|harm| &harm.sample)).await?;
    let store = harmed(trial, store, &harms).await?;
    repaired(&store, Vec::new()).await?;
    let store = trial.crash_and_reopen(store.into_inner()).await?;
    for harm in &harms {
        assert_partial(&store, &harm.sample, &harm.hit()).await?;
        assert!(store.was_demoted(&harm.sample.hash).await?);
    }
    Ok(())
}

/// Work that was put off is done before the files are looked at.
async fn settled<S: FullStore>(trial: &Trial<S>, store: S) -> Result<S, crate::Failure> {
    store.sync().await?;
    trial.reopen(store).await.map_err(Into::into)
}

async fn repair_false_changes_nothing_on_disk<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let mut harms = flips(trial);
    harms.push(Harmful::data(&Sample::numbered(trial.large(), 50), Harm::Cut(GROUP)));
    harms.push(Harmful::data(&Sample::numbered(trial.large(), 51), Harm::Extended(9)));
    harms.push(Harmful::data(&Sample::numbered(trial.large(), 52), Harm::Lost));
    harms.push(Harmful::tree(&Sample::numbered(trial.large(), 53), Harm::Lost));
    import(&store, harms.iter().map(|harm| &harm.sample)).await?;
    let store = settled(trial, harmed(trial, store, &harms).await?.into_inner()).await?;
    let before = Copied::of(trial.home().dir())?;
    assert_eq!(validated(&store).await?.damaged.len(), harms.len());
    store.consistency_check(CheckMode::Report, Progress::none()).await?;
    assert!(Copied::of(trial.home().dir())? == before, "a file was changed");
    for Harmful { sample, .. } in &harms {
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
    }
    Ok(())
}

async fn repair_of_a_sound_store_changes_nothing_on_disk<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    import(&store, &samples).await?;
    let store = settled(trial, store).await?;
    let before = Copied::of(trial.home().dir())?;
    let report = repaired(&store, Vec::new()).await?;
    assert!(report.is_clean() && report.blobs.is_empty());
    assert!(Copied::of(trial.home().dir())? == before, "a file was changed");
    Ok(())
}
