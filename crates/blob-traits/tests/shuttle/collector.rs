//! A collector that goes through the steps of the real one.

use std::collections::BTreeSet;

use crate::{
    Hash, HashAndFormat,
    store::{Rule, Toy},
    temp_tag::Refused,
};

/// Small, so that there are several.
const BATCH: usize = 2;
/// A batch is given up after so many refusals.
const MAX_REFUSALS: usize = 10;

/// One round. It ends early where the store refuses it.
pub(crate) fn collect(toy: &Toy) {
    let Some(epoch) = toy.begin_round() else { return };
    let roots = sample_roots(toy);
    let sequences = || roots.iter().filter(|root| root.format.is_hash_seq()).map(|root| root.hash);
    if toy.has(Rule::WatchedBeforeRead) {
        epoch.watch(sequences());
    }
    let mut live: BTreeSet<Hash> = roots.iter().map(|root| root.hash).collect();
    sequences().for_each(|hash| live.extend(read(toy, hash)));
    if !toy.has(Rule::WatchedBeforeRead) {
        epoch.watch(sequences());
    }
    let listing: Vec<Hash> = toy.state().blobs.keys().copied().collect();
    let garbage: Vec<Hash> = listing.into_iter().filter(|hash| !live.contains(hash)).collect();
    for batch in garbage.chunks(BATCH) {
        for _ in 0..MAX_REFUSALS {
            for hash in epoch.take_reached() {
                if toy.has(Rule::ReachedAreMarked) {
                    live.extend(read(toy, hash));
                }
            }
            let batch: Vec<_> = batch.iter().copied().filter(|hash| !live.contains(hash)).collect();
            match toy.sweep(&epoch, &batch) {
                Ok(()) => break,
                Err(Refused::MarkFirst) => {}
                Err(Refused::Spoiled) => return,
            }
        }
    }
}

fn sample_roots(toy: &Toy) -> BTreeSet<HashAndFormat> {
    let temporary = || toy.registry.snapshot();
    let tags = || toy.state().visible_tags().collect::<Vec<_>>();
    if toy.has(Rule::TemporaryTagsFirst) {
        temporary().into_iter().chain(tags()).collect()
    } else {
        let tags = tags();
        tags.into_iter().chain(temporary()).collect()
    }
}

fn read(toy: &Toy, hash: Hash) -> Vec<Hash> {
    let blob = toy.state().blobs.get(&hash).cloned();
    blob.map(|blob| blob.readable().to_vec()).unwrap_or_default()
}
