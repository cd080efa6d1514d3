//! Damage, and that it is found where it is.

use std::fs;

use bao_tree::ChunkRanges;
use blob_traits::{BlobFormat, ImportMode, Progress, ScanBlobs, Store};
use blob_validate::{DamagedBlob, ValidateReport};
use proptest::prelude::{Strategy, any};

use super::{import, validated};
use crate::{
    Failure, GROUP, Outcome, Sample, Trial,
    case::group,
    group_ranges,
    harm::{Harm, Harmful, harmed, harmed_in},
};

group! {
    "validate_repair", for S: Store, ScanBlobs;
    validate_bitflip_in_data_detected,
    validate_bitflip_in_outboard_detected,
    validate_damage_of_a_tree_over_damaged_bytes_costs_only_those,
    validate_truncated_data_detected,
    validate_truncated_outboard_detected,
    validate_zero_length_file_detected,
    validate_lost_file_detected,
    validate_swapped_files_of_two_hashes_detected,
    validate_extra_bytes_at_end_detected,
    validate_external_reference_modified_detected [needs References],
    validate_partial_reports_exact_valid_ranges,
}

/// Exactly these blobs are damaged, each as it was harmed: in these groups, and as to its tree.
#[track_caller]
fn assert_damaged(report: &ValidateReport, harms: &[Harmful]) {
    let mut expected: Vec<_> = harms.iter().map(|harm| (harm.sample.hash, harm.hit())).collect();
    expected.sort_by_key(|(hash, _)| *hash);
    let found: Vec<_> = report.damaged.iter().map(|blob| (blob.hash, blob.bad.clone())).collect();
    assert_eq!(found, expected);
    assert!(report.damaged.iter().all(|blob| blob.unreadable.is_empty()), "{:?}", report.damaged);
    assert!(report.failed.is_empty(), "{:?}", report.failed);
}

fn damaged<'a>(report: &'a ValidateReport, sample: &Sample) -> Result<&'a DamagedBlob, Failure> {
    let mut found = report.damaged.iter().filter(|blob| blob.hash == sample.hash);
    Ok(found.next().ok_or("a damaged blob is not reported")?)
}

/// Imports the blobs that are harmed and as many that are not, does the harm, and validates.
async fn found<S: Store + ScanBlobs>(
    trial: &Trial<S>,
    store: S,
    harms: &[Harmful],
) -> Result<ValidateReport, Failure> {
    let sound: Vec<_> = harms.iter().map(|harm| Sample::numbered(harm.sample.data.len(), 1 << 40)).collect();
    import(&store, harms.iter().map(|harm| &harm.sample).chain(&sound)).await?;
    let store = harmed(trial, store, harms).await?;
    let report = validated(&store).await?;
    assert_damaged(&report, harms);
    Ok(report)
}

async fn validate_bitflip_in_data_detected<S: Store + ScanBlobs>(trial: &Trial<S>, store: S) -> Outcome {
    let mut harms = Vec::new();
    for size in trial.ways() {
        for (number, at) in (0..).zip([0, size / 2, size - 1]) {
            harms.push(Harmful::data(&Sample::numbered(size, number), Harm::Flipped(at as u64)));
        }
    }
    let report = found(trial, store, &harms).await?;
    assert!(report.damaged.iter().all(|blob| blob.n_bad_pairs == 0 && blob.stored_len.is_none()));
    Ok(())
}

async fn validate_bitflip_in_outboard_detected<S: Store + ScanBlobs>(trial: &Trial<S>, store: S) -> Outcome {
    let mut harms = Vec::new();
    for size in trial.ways().into_iter().filter(|size| *size as u64 > GROUP) {
        let len = Sample::new(size).outboard.data.len();
        for (number, at) in (0..).zip([0, len / 2, len - 1]) {
            harms.push(Harmful::tree(&Sample::numbered(size, number), Harm::Flipped(at as u64)));
        }
    }
    let report = found(trial, store, &harms).await?;
    // No byte of a blob is lost with it.
    assert!(report.damaged.iter().all(|blob| blob.n_bad_pairs == 1 && blob.bad.is_empty()));
    Ok(())
}

/// The root pair and the last byte: what is below one side of it proves the other.
async fn validate_damage_of_a_tree_over_damaged_bytes_costs_only_those<S: Store + ScanBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let (mut harms, mut expected) = (Vec::new(), Vec::new());
    for size in trial.ways().into_iter().filter(|size| *size as u64 > 2 * GROUP) {
        let sample = Sample::new(size);
        harms.push(Harmful::tree(&sample, Harm::Flipped(0)));
        harms.push(Harmful::data(&sample, Harm::Flipped(sample.size() - 1)));
        expected.push((sample.hash, sample.group_range(sample.n_groups() - 1)));
    }
    import(&store, harms.iter().map(|harm| &harm.sample)).await?;
    let store = harmed(trial, store, &harms).await?;
    let report = validated(&store).await?;
    expected.sort_by_key(|(hash, _)| *hash);
    let found: Vec<_> = report.damaged.iter().map(|blob| (blob.hash, blob.bad.clone())).collect();
    assert_eq!(found, expected);
    assert!(report.damaged.iter().all(|blob| blob.n_bad_pairs == 1));
    Ok(())
}

async fn validate_truncated_data_detected<S: Store + ScanBlobs>(trial: &Trial<S>, store: S) -> Outcome {
    let large = trial.large();
    let lens = [large as u64 - 1, 3 * GROUP, 3 * GROUP + 5, 1];
    let harms: Vec<_> = (0..)
        .zip(lens)
        .map(|(number, len)| Harmful::data(&Sample::numbered(large, number), Harm::Cut(len)))
        .collect();
    let report = found(trial, store, &harms).await?;
    for (harm, len) in harms.iter().zip(lens) {
        assert_eq!(damaged(&report, &harm.sample)?.stored_len, Some(len));
    }
    Ok(())
}

async fn validate_truncated_outboard_detected<S: Store + ScanBlobs>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large());
    let n_pairs = sample.n_groups() - 1;
    let lens = [(64 * n_pairs - 1, 1), (64 * 2 + 5, n_pairs - 2)];
    let harms: Vec<_> = (0..)
        .zip(lens)
        .map(|(number, (len, _))| Harmful::tree(&Sample::numbered(trial.large(), number), Harm::Cut(len)))
        .collect();
    let report = found(trial, store, &harms).await?;
    for (harm, (_, n_cut)) in harms.iter().zip(lens) {
        let n_bad = damaged(&report, &harm.sample)?.n_bad_pairs;
        // A store may have no use for a tree of the wrong length.
        assert!((n_cut..=n_pairs).contains(&n_bad), "{n_bad} pairs, where {n_cut} were cut off");
    }
    Ok(())
}

async fn validate_zero_length_file_detected<S: Store + ScanBlobs>(trial: &Trial<S>, store: S) -> Outcome {
    let [data, tree] = [0, 1].map(|number| Sample::numbered(trial.large(), number));
    let harms = [Harmful::data(&data, Harm::Cut(0)), Harmful::tree(&tree, Harm::Cut(0))];
    let report = found(trial, store, &harms).await?;
    assert_eq!(damaged(&report, &data)?.bad, data.all_chunks());
    assert_eq!(damaged(&report, &tree)?.n_bad_pairs, tree.n_groups() - 1);
    Ok(())
}

async fn validate_lost_file_detected<S: Store + ScanBlobs>(trial: &Trial<S>, store: S) -> Outcome {
    let [data, tree] = [0, 1].map(|number| Sample::numbered(trial.large(), number));
    let harms = [Harmful::data(&data, Harm::Lost), Harmful::tree(&tree, Harm::Lost)];
    let report = found(trial, store, &harms).await?;
    assert_eq!(damaged(&report, &data)?.bad, data.all_chunks());
    assert_eq!(damaged(&report, &tree)?.n_bad_pairs, tree.n_groups() - 1);
    Ok(())
}

async fn validate_swapped_files_of_two_hashes_detected<S: Store + ScanBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let [one, other] = [0, 1].map(|number| Sample::numbered(trial.large(), number));
    let longer = Sample::numbered(trial.large() + 5, 2);
    let swapped = |sample: &Sample, with: &Sample| {
        [
            Harmful::data(sample, Harm::Replaced(with.data.clone())),
            Harmful::tree(sample, Harm::Replaced(with.outboard.data.clone().into())),
        ]
    };
    // The first two with each other; the third by the first, data alone.
    let harms: Vec<_> = swapped(&one, &other)
        .into_iter()
        .chain(swapped(&other, &one))
        .chain([Harmful::data(&longer, Harm::Replaced(one.data.clone()))])
        .collect();
    import(&store, [&one, &other, &longer]).await?;
    let store = harmed(trial, store, &harms).await?;
    let report = validated(&store).await?;
    assert_eq!(report.damaged.len(), 3);
    for sample in [&one, &other, &longer] {
        assert_eq!(damaged(&report, sample)?.bad, sample.all_chunks());
    }
    Ok(())
}

/// Their blob is all there, and its file is not what it should be.
async fn validate_extra_bytes_at_end_detected<S: Store + ScanBlobs>(trial: &Trial<S>, store: S) -> Outcome {
    let large = trial.large();
    let harms = [(0, 1), (1, 20_000)]
        .map(|(number, n)| Harmful::data(&Sample::numbered(large, number), Harm::Extended(n)));
    let report = found(trial, store, &harms).await?;
    for (harm, n) in harms.iter().zip([1, 20_000]) {
        assert_eq!(damaged(&report, &harm.sample)?.stored_len, Some(large as u64 + n));
    }
    Ok(())
}

async fn validate_external_reference_modified_detected<S: Store + ScanBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut files = Vec::new();
    for (number, harm) in
        (0..).zip([Harm::Flipped(GROUP), Harm::Cut(GROUP), Harm::Extended(7), Harm::Cut(0), Harm::Lost])
    {
        let sample = Sample::numbered(trial.large(), number);
        let path = trial.user_file(&number.to_string(), &sample.data)?;
        let mode = ImportMode::TryReference;
        drop(store.import_file(path.clone(), mode, BlobFormat::Raw, Progress::none()).await?);
        files.push((sample, path, harm));
    }
    assert!(validated(&store).await?.is_clean());
    for (sample, path, harm) in &files {
        match harm.applied(&sample.data) {
            Some(bytes) => fs::write(path, bytes)?,
            None => fs::remove_file(path)?,
        }
    }
    let report = validated(&store).await?;
    assert_eq!(report.damaged.len(), files.len(), "{:?}", report.damaged);
    for (sample, path, harm) in &files {
        // All of a file that has changed may count as lost.
        let bad = &damaged(&report, sample)?.bad;
        assert!(Harmful::data(sample, harm.clone()).hit().is_subset(bad), "{harm:?}: {bad:?}");
        assert_eq!(fs::read(path).ok(), harm.applied(&sample.data), "the file is the user's");
    }
    Ok(())
}

/// Some groups of a blob are there, and some of those are damaged.
#[derive(Debug)]
struct Partial {
    size: usize,
    present: Vec<bool>,
    flipped: Vec<bool>,
}

fn partial() -> impl Strategy<Value = Partial> {
    (2..12_usize, any::<[bool; 12]>(), any::<[bool; 12]>(), 1..16384_usize).prop_map(
        |(n, present, flipped, last)| {
            let some = |flags: [bool; 12]| flags.into_iter().take(n).collect();
            Partial { size: (n - 1) * 16384 + last, present: some(present), flipped: some(flipped) }
        },
    )
}

fn chosen(flags: &[bool]) -> ChunkRanges {
    let groups = (0..).zip(flags).filter(|(_, is_chosen)| **is_chosen);
    groups.fold(ChunkRanges::empty(), |all, (group, _)| all | group_ranges(group..group + 1))
}

async fn validate_partial_reports_exact_valid_ranges<S: Store + ScanBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    drop(store);
    let mut number = 0;
    trial
        .for_all(6, partial(), async |Partial { size, present, flipped }| {
            number += 1;
            let home = trial.other_home(&number.to_string());
            let store = trial.open(&home).await?;
            let sample = Sample::numbered(size, number);
            let present = chosen(&present) & sample.all_chunks();
            let hit = chosen(&flipped) & present.clone();
            sample.write(&store, &present).await?;
            store.sync().await?;
            let flips = (0..sample.n_groups()).filter(|group| sample.group_range(*group).is_subset(&hit));
            let harms: Vec<_> =
                flips.map(|group| Harmful::data(&sample, Harm::Flipped(group * GROUP))).collect();
            let store = harmed_in(trial, &home, store, &harms).await?;
            let report = validated(&store).await?;
            assert_eq!((report.n_complete, report.n_partial), (0, 1));
            let found: Vec<_> = report.damaged.iter().map(|blob| blob.bad.clone()).collect();
            let expected: Vec<_> = [hit].into_iter().filter(|hit| !hit.is_empty()).collect();
            assert_eq!(found, expected);
            store.into_inner().shutdown().await?;
            Ok(())
        })
        .await
}
