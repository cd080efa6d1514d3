//! Going through all blobs of a store.

use std::collections::BTreeSet;

use blob_traits::{Hash, MapEntry, ReadBlob, ScanBlobs, ScanOf, Scanned, Store};

use super::import;
use crate::{Failure, Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "validate_repair", for S: Store, ScanBlobs;
    scan_hands_out_each_blob_once_with_its_bytes,
    scan_of_some_hands_out_those_that_are_there,
    scan_shows_the_store_as_it_was_when_asked,
}

async fn scanned<S: ScanBlobs>(store: &S, which: ScanOf) -> Result<Vec<Scanned<S::Entry>>, Failure> {
    let scan = store.scan(which).await?;
    let n_blobs = scan.n_blobs;
    let scanned = scan.read_all().await?;
    assert_eq!(scanned.len() as u64, n_blobs, "it does not know how many there are");
    Ok(scanned)
}

fn hashes<E: MapEntry>(scanned: &[Scanned<E>]) -> Vec<Hash> {
    let mut hashes: Vec<_> = scanned.iter().map(Scanned::hash).filter(|hash| *hash != Hash::EMPTY).collect();
    hashes.sort();
    hashes
}

fn sorted<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Vec<Hash> {
    let mut hashes: Vec<_> = samples.into_iter().map(|sample| sample.hash).collect();
    hashes.sort();
    hashes
}

async fn scan_hands_out_each_blob_once_with_its_bytes<S: Store + ScanBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut complete: Vec<_> = (0..100).map(|number| Sample::numbered(1000, number)).collect();
    complete.extend(trial.ways().into_iter().map(|size| Sample::numbered(size, 1000)));
    import(&store, &complete).await?;
    let partial = [Sample::numbered(100_000, 2000), Sample::numbered(trial.large() + 100_000, 2000)];
    for sample in &partial {
        sample.write(&store, &group_ranges(0..2)).await?;
    }
    let scanned = scanned(&store, ScanOf::All).await?;
    assert_eq!(hashes(&scanned), sorted(complete.iter().chain(&partial)));
    for scanned in scanned {
        let Some(sample) = complete.iter().chain(&partial).find(|sample| sample.hash == scanned.hash())
        else {
            continue;
        };
        match scanned {
            Scanned::Whole { data, outboard, .. } => {
                assert!(data == sample.data, "it has other bytes");
                assert!(outboard == sample.outboard.data, "it has another tree");
            }
            Scanned::Entry { entry, .. } => {
                let is_complete = complete.iter().any(|complete| complete.hash == sample.hash);
                assert_eq!(entry.is_complete(), is_complete);
                assert_eq!(entry.size().value(), sample.size());
                let read = entry.data_reader().await?.read_range(0, 1000).await?;
                assert!(read == sample.slice(0, 1000), "it reads other bytes");
            }
        }
    }
    Ok(())
}

async fn scan_of_some_hands_out_those_that_are_there<S: Store + ScanBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    import(&store, &samples).await?;
    let partial = Sample::numbered(100_000, 1);
    partial.write(&store, &group_ranges(0..1)).await?;
    let some: Vec<_> = samples.iter().step_by(2).chain([&partial]).collect();
    let absent = Hash::new("absent");
    let which: BTreeSet<_> = some.iter().map(|sample| sample.hash).chain([absent]).collect();
    let found = scanned(&store, ScanOf::Hashes(which)).await?;
    assert_eq!(hashes(&found), sorted(some));
    assert!(scanned(&store, ScanOf::Hashes(BTreeSet::from([absent]))).await?.is_empty());
    Ok(())
}

/// What comes later is not in it; what is there all the time is.
async fn scan_shows_the_store_as_it_was_when_asked<S: Store + ScanBlobs>(_: &Trial<S>, store: S) -> Outcome {
    let before: Vec<_> = (0..50).map(|number| Sample::numbered(3000, number)).collect();
    import(&store, &before).await?;
    let scan = store.scan(ScanOf::All).await?;
    let later: Vec<_> = (50..100).map(|number| Sample::numbered(3000, number)).collect();
    import(&store, &later).await?;
    let (deleted, kept) = before.split_at(10);
    store.delete(deleted.iter().map(|sample| sample.hash).collect()).await?;
    let found = scan.read_all().await?;
    let found: BTreeSet<_> = hashes(&found).into_iter().collect();
    assert!(sorted(kept).iter().all(|hash| found.contains(hash)), "what was there all the time is left out");
    assert!(!sorted(&later).iter().any(|hash| found.contains(hash)), "it was not there yet");
    Ok(())
}
