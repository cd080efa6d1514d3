//! Any damage, in any number, anywhere: nothing that was not damaged is lost, and a copy brings back the rest.

use std::collections::BTreeMap;

use bao_tree::ChunkRanges;
use blob_traits::{CheckMode, FullStore, Hash, Progress};
use blob_validate::Source;
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof},
};

use super::{assert_complete, assert_missing, import, repaired, validated};
use crate::{
    Failure, Home, Outcome, Sample, Trial,
    case::group,
    group_ranges,
    harm::{Harm, Harmful, Part, harmed_in},
    harmed::Harmed,
};

group! {
    "validate_repair", for S: FullStore;
    repair_of_random_damage_with_a_copy_brings_back_every_blob,
    repair_of_random_damage_without_a_copy_loses_what_was_hit_and_nothing_else,
    repair_of_random_damage_when_derived_files_are_lost_as_well [needs Files Persistence],
}

/// How often a case is played.
const N: u32 = 4;

/// One blob, and what happens to it. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
struct Fate {
    way: usize,
    /// These groups are there of a partial blob.
    partial: Option<u64>,
    data: Vec<Blow>,
    tree: Vec<Blow>,
}

#[derive(Clone, Debug)]
enum Blow {
    Flip(u64),
    Zero(u64, u64),
    /// These change the length, which only a file can that has nothing else.
    Cut(u64),
    Extend(usize),
    Swap(usize),
    Lose,
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        6 => any::<u64>().prop_map(Blow::Flip),
        3 => (any::<u64>(), 1..100_000_u64).prop_map(|(at, len)| Blow::Zero(at, len)),
        1 => any::<u64>().prop_map(Blow::Cut),
        1 => (1..40_000_usize).prop_map(Blow::Extend),
        1 => any::<usize>().prop_map(Blow::Swap),
        1 => Just(Blow::Lose),
    ]
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let partial = prop_oneof![3 => Just(None), 1 => any::<u64>().prop_map(Some)];
    let fate = (any::<usize>(), partial, vec(blow(), 0..3), vec(blow(), 0..2))
        .prop_map(|(way, partial, data, tree)| Fate { way, partial, data, tree });
    vec(fate, 1..8)
}

impl Blow {
    /// As harm to so many bytes; `other` is what they may be swapped with.
    fn harm(&self, len: u64, is_alone: bool, other: impl FnOnce(usize) -> Vec<u8>) -> Option<Harm> {
        Some(match self {
            Self::Flip(at) => Harm::Flipped(at % len),
            Self::Zero(at, n) => Harm::Zeroed(at % len..(at % len).saturating_add(*n).min(len)),
            _ if !is_alone => return None,
            Self::Cut(at) => Harm::Cut(at % len),
            Self::Extend(n) => Harm::Extended(*n),
            Self::Swap(with) => Harm::Replaced(other(*with).into()),
            Self::Lose => Harm::Lost,
        })
    }

    fn keeps_length(&self) -> bool {
        matches!(self, Self::Flip(_) | Self::Zero(..))
    }
}

/// A blob, what was there of it, and what was done to it.
struct Blob {
    sample: Sample,
    present: ChunkRanges,
    harms: Vec<Harmful>,
}

impl Blob {
    fn is_complete(&self) -> bool {
        self.sample.all_chunks().is_subset(&self.present)
    }

    /// The groups that were there and are not what they were.
    fn hit(&self) -> ChunkRanges {
        let mut bytes = Some(self.sample.data.to_vec());
        for harm in self.harms.iter().filter(|harm| harm.part == Part::Data) {
            bytes = bytes.and_then(|bytes| harm.harm.applied(&bytes));
        }
        let now = Harm::Replaced(bytes.unwrap_or_default().into());
        Harmful::data(&self.sample, now).hit() & self.present.clone()
    }

    fn is_hit_in_both_parts(&self) -> bool {
        [Part::Data, Part::Tree].iter().all(|part| self.harms.iter().any(|harm| harm.part == *part))
    }
}

/// Fills a store, and says what is to be done to it.
async fn filled<S: FullStore>(
    trial: &Trial<S>,
    store: &S,
    fates: &[Fate],
    ways: &[usize],
) -> Result<Vec<Blob>, Failure> {
    let mut blobs = Vec::new();
    for (number, fate) in (0..).zip(fates) {
        let way = ways.get(fate.way % ways.len()).copied().unwrap_or(1000);
        let size = if fate.partial.is_some() { way.max(50_000) } else { way };
        let sample = Sample::numbered(size, number);
        let present = match fate.partial {
            None => sample.all_chunks(),
            Some(flags) => {
                let groups = (0..sample.n_groups()).filter(|group| flags >> (group % 64) & 1 == 1);
                let some = groups.fold(ChunkRanges::empty(), |all, n| all | sample.group_range(n));
                some & group_ranges(0..sample.n_groups() - 1)
            }
        };
        match fate.partial {
            None => import(store, [&sample]).await?,
            Some(_) => sample.write(store, &present).await?,
        }
        let is_alone = size == trial.large() && fate.partial.is_none();
        let harms = harms(&sample, fate, &present, is_alone);
        blobs.push(Blob { sample, present, harms });
    }
    store.sync().await?;
    Ok(blobs)
}

/// At most one blow to a part that changes its length, and then no other.
fn harms(sample: &Sample, fate: &Fate, present: &ChunkRanges, is_alone: bool) -> Vec<Harmful> {
    let other = |number: usize| Sample::numbered(sample.data.len(), 1000 + number as u64 % 5);
    let first_only = |blows: &[Blow]| {
        let keeps = blows.first().is_some_and(Blow::keeps_length);
        let kept: Vec<_> = blows.iter().filter(|blow| blow.keeps_length() == keeps).cloned().collect();
        if keeps { kept } else { kept.into_iter().take(1).collect() }
    };
    let mut harms = Vec::new();
    for blow in first_only(&fate.data).iter().filter(|_| !present.is_empty()) {
        let harm = blow.harm(sample.size(), is_alone, |number| other(number).data.to_vec());
        harms.extend(harm.map(|harm| Harmful::data(sample, harm)));
    }
    // The tree of a partial blob lies elsewhere, in an order of the store's own.
    let has_tree = sample.n_groups() > 1 && fate.partial.is_none();
    for blow in first_only(&fate.tree).iter().filter(|_| has_tree) {
        let len = sample.outboard.data.len() as u64;
        let harm = blow.harm(len, is_alone, |number| other(number).outboard.data);
        harms.extend(harm.map(|harm| Harmful::tree(sample, harm)));
    }
    harms
}

/// A store that was filled and harmed, checked for what only it knows of.
async fn prepared<S: FullStore>(
    trial: &Trial<S>,
    home: &Home,
    fates: &[Fate],
    ways: &[usize],
) -> Result<(Harmed<S>, Vec<Blob>), Failure> {
    let store = trial.open(home).await?;
    let blobs = filled(trial, &store, fates, ways).await?;
    let harms: Vec<_> = blobs.iter().flat_map(|blob| blob.harms.clone()).collect();
    let store = harmed_in(trial, home, store, &harms).await?;
    Ok((store, blobs))
}

/// What is not hit is there; exactly the rest is missing, unless a tree and the bytes below it were hit together.
async fn assert_lost_what_was_hit<S: FullStore>(store: &Harmed<S>, blobs: &[Blob]) -> Outcome {
    for blob in blobs {
        let (sample, hit) = (&blob.sample, blob.hit());
        let present = store.inner().present_ranges(&sample.hash).await?.ok_or("a blob is gone")?;
        let missing = sample.all_chunks() - present;
        let expected = (sample.all_chunks() - blob.present.clone()) | hit;
        if blob.is_hit_in_both_parts() {
            assert!(expected.is_subset(&missing), "{missing:?} instead of {expected:?}");
        } else {
            assert_eq!(missing, expected, "{:?}", blob.harms);
        }
        assert_missing(store, sample, &missing).await?;
    }
    Ok(())
}

async fn assert_brought_back<S: FullStore>(store: &Harmed<S>, blobs: &[Blob]) -> Outcome {
    for blob in blobs {
        if blob.is_complete() {
            assert_complete(store, &blob.sample).await?;
        } else {
            let missing = blob.sample.all_chunks() - blob.present.clone();
            assert_missing(store, &blob.sample, &missing).await?;
        }
    }
    Ok(())
}

async fn check_and_repair<S: FullStore>(store: &Harmed<S>, sources: Vec<Source>) -> Outcome {
    store.inner().consistency_check(CheckMode::Repair, Progress::none()).await?;
    repaired(store, sources).await?;
    // Nothing is left to be found.
    let report = validated(store).await?;
    assert!(report.damaged.is_empty() && report.failed.is_empty(), "{report:?}");
    Ok(())
}

/// A store that has all of these blobs.
async fn copy_of<S: FullStore>(trial: &Trial<S>, name: &str, blobs: &[Blob]) -> Result<S, Failure> {
    let copy = trial.open(&trial.other_home(name)).await?;
    let samples: BTreeMap<Hash, &Sample> =
        blobs.iter().map(|blob| (blob.sample.hash, &blob.sample)).collect();
    import(&copy, samples.into_values()).await?;
    Ok(copy)
}

async fn end<S: FullStore>(trial: &Trial<S>, stores: impl IntoIterator<Item = S>) -> Outcome {
    for store in stores {
        store.shutdown().await?;
        trial.abandon(store);
    }
    Ok(())
}

async fn repair_of_random_damage_with_a_copy_brings_back_every_blob<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    drop(store);
    let (mut number, ways) = (0, trial.ways());
    trial
        .for_all(N, fates(), async |fates| {
            number += 1;
            let home = trial.other_home(&number.to_string());
            let (store, blobs) = prepared(trial, &home, &fates, &ways).await?;
            let copy = copy_of(trial, &format!("copy-{number}"), &blobs).await?;
            check_and_repair(&store, vec![Source::store("copy", copy.clone())]).await?;
            assert_brought_back(&store, &blobs).await?;
            end(trial, [store.into_inner(), copy]).await
        })
        .await
}

async fn repair_of_random_damage_without_a_copy_loses_what_was_hit_and_nothing_else<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    drop(store);
    let (mut number, ways) = (0, trial.ways());
    trial
        .for_all(N, fates(), async |fates| {
            number += 1;
            let home = trial.other_home(&number.to_string());
            let (store, blobs) = prepared(trial, &home, &fates, &ways).await?;
            check_and_repair(&store, Vec::new()).await?;
            assert_lost_what_was_hit(&store, &blobs).await?;
            end(trial, [store.into_inner()]).await
        })
        .await
}

/// Blobs that have files of their own: what else there is of them, other files say as well.
async fn repair_of_random_damage_when_derived_files_are_lost_as_well<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    drop(store);
    let (mut number, ways) = (0, [trial.large()]);
    trial
        .for_all(N, fates(), async |fates| {
            number += 1;
            let home = trial.other_home(&number.to_string());
            let (store, blobs) = prepared(trial, &home, &fates, &ways).await?;
            end(trial, [store.into_inner()]).await?;
            let derived = trial.derived(&home)?;
            derived.iter().try_for_each(std::fs::remove_file)?;
            let store = Harmed::new(trial.open(&home).await?);
            check_and_repair(&store, Vec::new()).await?;
            assert_lost_what_was_hit(&store, &blobs).await?;
            let copy = copy_of(trial, &format!("copy-{number}"), &blobs).await?;
            check_and_repair(&store, vec![Source::store("copy", copy.clone())]).await?;
            for blob in blobs.iter().filter(|blob| blob.is_complete()) {
                assert_complete(&store, &blob.sample).await?;
            }
            end(trial, [store.into_inner(), copy]).await
        })
        .await
}
