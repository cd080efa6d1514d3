//! Verified streams, into and out of partial blobs.

use std::io;

use bao_tree::ChunkRanges;
use blob_traits::{
    BaoBlobSize, BlobStatus, EntryStatus, Error, Hash, Import, Map, MapEntry, MapExt, MapMut, MapMutExt,
    Store,
};
use bytes::Bytes;
use proptest::prelude::*;

use super::{answered, check_complete, check_present, present, whole};
use crate::{Outcome, Sample, Trial, case::group, chunks, group_ranges};

group! {
    "partial_batch_writer", for S: Store;
    import_bao_of_any_ranges_adds_them,
    import_bao_of_everything_completes,
    import_bao_of_the_last_missing_range_completes,
    import_bao_returns_the_reader_with_what_follows,
    import_bao_of_another_blob_is_refused_and_changes_nothing,
    import_bao_of_a_damaged_stream_keeps_what_came_before,
    import_bao_of_a_cut_stream_keeps_what_came_and_resumes,
    import_bao_into_a_complete_blob_leaves_it_complete,
    import_bao_under_a_false_size_after_the_last_chunk_is_a_conflict,
    export_bao_of_present_ranges_equals_the_reference,
    export_bao_of_absent_ranges_fails_cleanly,
    export_bao_of_a_missing_blob_is_not_found,
    bao_goes_from_partial_store_to_partial_store,
    verified_ranges_of_a_partial_blob_are_its_whole_groups,
}

fn parts() -> impl Strategy<Value = Vec<ChunkRanges>> {
    let range = || (0..150_u64, 1..40_u64).prop_map(|(start, len)| chunks(start..start + len));
    prop::collection::vec((range(), range()).prop_map(|(a, b)| a | b), 1..5)
}

async fn import_bao_of_any_ranges_adds_them<S: MapMut + BlobStatus>(trial: &Trial<S>, store: S) -> Outcome {
    let mut number = 0;
    trial
        .for_all(10, (1..150_000_usize, parts()), async |(size, parts)| {
            number += 1;
            let sample = Sample::numbered(size, number);
            let mut expected = ChunkRanges::empty();
            for part in parts {
                let encoded = sample.encode(&part);
                store.import_bao(sample.hash, sample.size(), part.clone(), encoded).await?;
                expected |= answered(&part, &sample);
                assert_eq!(present(&store, sample.hash).await?, expected);
            }
            if expected == whole(&sample) {
                return check_complete(&store, &sample).await;
            }
            assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
            check_present(&store, &sample, &expected).await
        })
        .await
}

async fn import_bao_of_everything_completes<S: MapMut + BlobStatus>(trial: &Trial<S>, store: S) -> Outcome {
    let sizes = trial.sizes().into_iter().filter(|size| *size <= 1 << 20).chain([trial.large()]);
    for sample in sizes.map(Sample::new) {
        let all = ChunkRanges::all();
        store.import_bao(sample.hash, sample.size(), all.clone(), sample.encode(&all)).await?;
        check_complete(&store, &sample).await?;
    }
    Ok(())
}

async fn import_bao_of_the_last_missing_range_completes<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in [17_000].into_iter().chain(trial.ways()).filter(|size| *size > 1024).map(Sample::new) {
        let last = chunks(0..sample.n_chunks() / 2);
        let first = whole(&sample) - last.clone();
        store.import_bao(sample.hash, sample.size(), first.clone(), sample.encode(&first)).await?;
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
        assert_eq!(store.existing(sample.hash).await?.size(), BaoBlobSize::Verified(sample.size()));
        store.import_bao(sample.hash, sample.size(), last.clone(), sample.encode(&last)).await?;
        check_complete(&store, &sample).await?;
    }
    Ok(())
}

async fn import_bao_returns_the_reader_with_what_follows<S: MapMut>(_: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(100_000);
    for part in [chunks(0..16), chunks(90..91), chunks(0..98)] {
        let mut stream = sample.encode(&part).to_vec();
        stream.extend_from_slice(b"what follows");
        let rest = store.import_bao(sample.hash, sample.size(), part, Bytes::from(stream)).await?;
        assert_eq!(rest, "what follows");
    }
    Ok(())
}

async fn import_bao_of_another_blob_is_refused_and_changes_nothing<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for size in trial.ways() {
        let (sample, other) = (Sample::new(size), Sample::numbered(size, 1));
        let there = answered(&chunks(0..1), &sample) - chunks(sample.n_chunks() - 1..sample.n_chunks());
        if !there.is_empty() {
            sample.write(&store, &there).await?;
        }
        let all = ChunkRanges::all();
        let result = store.import_bao(sample.hash, sample.size(), all.clone(), other.encode(&all)).await;
        let result = result.map(drop);
        assert!(matches!(result, Err(Error::Mismatch { hash, .. }) if hash == sample.hash), "{result:?}");
        assert_eq!(present(&store, sample.hash).await?, there);
        assert_eq!(store.entry_status(&other.hash).await?, EntryStatus::NotFound);
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
    }
    Ok(())
}

async fn import_bao_of_a_damaged_stream_keeps_what_came_before<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut dice = trial.dice();
    for number in 0..6 {
        let sample = Sample::numbered(300_000, number);
        let all = ChunkRanges::all();
        let mut stream = sample.encode(&all).to_vec();
        let at = dice.index(stream.len());
        let byte = stream.get_mut(at).ok_or("it is in the stream")?;
        *byte ^= 1 << dice.below(8);
        let result = store.import_bao(sample.hash, sample.size(), all.clone(), Bytes::from(stream)).await;
        let Err(Error::Mismatch { hash, offset }) = result else { return Err(format!("{result:?}").into()) };
        assert_eq!(hash, sample.hash);
        let there = present(&store, sample.hash).await?;
        // All groups before the damage came in, and none after it.
        let n_before = (offset >> 14).min(sample.n_groups());
        assert!(group_ranges(0..n_before).is_subset(&there), "{there:?}, not all before {offset}");
        assert!(there.is_subset(&group_ranges(0..(at as u64 >> 14) + 1)), "{there:?}, beyond {at}");
        check_present(&store, &sample, &there).await?;
        let rest = whole(&sample) - there;
        store.import_bao(sample.hash, sample.size(), rest.clone(), sample.encode(&rest)).await?;
        check_complete(&store, &sample).await?;
    }
    Ok(())
}

async fn import_bao_of_a_cut_stream_keeps_what_came_and_resumes<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut dice = trial.dice();
    for number in 0..6 {
        let sample = Sample::numbered(300_000, number);
        let all = ChunkRanges::all();
        let stream = sample.encode(&all);
        let cut = dice.index(stream.len());
        let result =
            store.import_bao(sample.hash, sample.size(), all.clone(), stream.slice(..cut)).await.map(drop);
        let Err(error) = result else { return Err("a stream that ends early was taken".into()) };
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::UnexpectedEof);
        let there = present(&store, sample.hash).await?;
        // A pair for each group at most, and the group that was cut.
        let n_whole = (cut as u64).saturating_sub(64 * sample.n_groups()) >> 14;
        assert!(group_ranges(0..n_whole).is_subset(&there), "{there:?} of {cut} bytes");
        check_present(&store, &sample, &there).await?;
        let rest = whole(&sample) - there;
        store.import_bao(sample.hash, sample.size(), rest.clone(), sample.encode(&rest)).await?;
        check_complete(&store, &sample).await?;
    }
    Ok(())
}

async fn import_bao_into_a_complete_blob_leaves_it_complete<S>(trial: &Trial<S>, store: S) -> Outcome
where
    S: MapMut + BlobStatus + Import,
{
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        for part in [chunks(0..1), ChunkRanges::all()] {
            store.import_bao(sample.hash, sample.size(), part.clone(), sample.encode(&part)).await?;
        }
        let other = Sample::numbered(sample.data.len(), 1).encode(&ChunkRanges::all());
        // Whether anybody still looks at the stream is the store's affair.
        let _ = store.import_bao(sample.hash, sample.size(), ChunkRanges::all(), other).await;
        check_complete(&store, &sample).await?;
    }
    Ok(())
}

async fn import_bao_under_a_false_size_after_the_last_chunk_is_a_conflict<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(99_081);
    sample.write(&store, &chunks(96..97)).await?;
    let part = chunks(0..16);
    let refused = store.import_bao(sample.hash, 99_082, part.clone(), sample.encode(&part)).await.map(drop);
    assert!(
        matches!(refused, Err(Error::SizeConflict { claimed: 99_082, current: 99_081, .. })),
        "{refused:?}"
    );
    check_present(&store, &sample, &chunks(96..97)).await
}

/// A partial blob gives whole chunk groups out, which a complete store could not give better.
async fn export_bao_of_present_ranges_equals_the_reference<S: MapMut>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(300_000);
    let there = group_ranges(1..4) | group_ranges(7..12) | group_ranges(18..19);
    sample.write(&store, &there).await?;
    let part = (0..300_u64, 1..80_u64).prop_map(|(start, len)| chunks(start..start + len));
    trial
        .for_all(12, part, async |part| {
            let within = part & there.clone();
            if within.is_empty() {
                return Ok(());
            }
            let exported = store.export_bao(sample.hash, within.clone(), Vec::new()).await?;
            assert_eq!(exported, sample.encode(&within));
            Ok(())
        })
        .await
}

async fn export_bao_of_absent_ranges_fails_cleanly<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(300_000);
    let there = group_ranges(1..4) | group_ranges(18..19);
    sample.write(&store, &there).await?;
    for part in [ChunkRanges::all(), group_ranges(0..1), group_ranges(3..5), chunks(200..201)] {
        let result = store.export_bao(sample.hash, part, Vec::new()).await;
        assert!(matches!(result, Err(Error::Incomplete { hash, .. }) if hash == sample.hash), "{result:?}");
    }
    // Of a group of which a part is there, nothing can be proved.
    sample.write(&store, &chunks(100..104)).await?;
    let result = store.export_bao(sample.hash, chunks(100..104), Vec::new()).await;
    assert!(matches!(result, Err(Error::Incomplete { .. })), "{result:?}");
    check_present(&store, &sample, &((there | chunks(100..104)) & whole(&sample))).await
}

async fn export_bao_of_a_missing_blob_is_not_found<S: Map>(_: &Trial<S>, store: S) -> Outcome {
    let missing = Hash::new(b"missing");
    let result = store.export_bao(missing, ChunkRanges::all(), Vec::new()).await;
    assert!(matches!(result, Err(Error::NotFound { hash }) if hash == missing), "{result:?}");
    Ok(())
}

async fn bao_goes_from_partial_store_to_partial_store<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let other = trial.open(&trial.other_home("other")).await?;
    for sample in trial.ways().into_iter().map(Sample::new) {
        let half = sample.n_groups().div_ceil(2);
        let [left, right] =
            [0..half, half..sample.n_groups()].map(|range| group_ranges(range) & whole(&sample));
        sample.write(&store, &left).await?;
        if !right.is_empty() {
            sample.write(&other, &right).await?;
            let stream = store.export_bao(sample.hash, left.clone(), Vec::new()).await?;
            other.import_bao(sample.hash, sample.size(), left, Bytes::from(stream)).await?;
            check_complete(&other, &sample).await?;
            let stream = other.export_bao(sample.hash, right.clone(), Vec::new()).await?;
            store.import_bao(sample.hash, sample.size(), right, Bytes::from(stream)).await?;
            check_complete(&store, &sample).await?;
        }
    }
    Ok(())
}

async fn verified_ranges_of_a_partial_blob_are_its_whole_groups<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(200_000);
    assert_eq!(store.verified_ranges(sample.hash).await?, None);
    sample.write(&store, &(chunks(16..48) | chunks(100..102) | chunks(192..196))).await?;
    assert_eq!(store.verified_ranges(sample.hash).await?, Some(chunks(16..48) | chunks(192..196)));
    Ok(())
}
