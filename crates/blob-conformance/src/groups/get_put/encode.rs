//! Verified streams of blobs.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bao_tree::ChunkRanges;
use blob_traits::{Delete, Error, Import, Map, MapExt, MapMut, Store};
use bytes::Bytes;
use iroh_io::AsyncStreamWriter;
use proptest::prelude::*;

use crate::{Outcome, Sample, Trial, case::group, chunks, group_ranges};

group! {
    "get_put", for S: Store;
    bao_encode_any_ranges_decodes_and_verifies,
    bao_encode_of_missing_ranges_fails_cleanly,
}

/// Unions of up to four ranges that start within the first `n_chunks` chunks.
fn ranges(n_chunks: u64) -> impl Strategy<Value = ChunkRanges> {
    let range = (0..n_chunks, prop_oneof![1..4_u64, 1..200_u64]);
    prop::collection::vec(range, 1..5).prop_map(|ranges| {
        let ranges = ranges.into_iter().map(|(start, len)| chunks(start..start + len));
        ranges.fold(ChunkRanges::empty(), |all, range| all | range)
    })
}

/// The stream is that of bao-tree's own encoder, byte for byte, and is decoded by its own decoder.
async fn bao_encode_any_ranges_decodes_and_verifies<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in [0, 1].into_iter().chain(trial.ways()).map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let wanted = prop_oneof![
            12 => ranges(sample.n_chunks() + 20),
            1 => Just(ChunkRanges::all()),
            1 => Just(ChunkRanges::empty()),
        ];
        trial
            .for_all(10, wanted, async |wanted| {
                let encoded = store.export_bao(sample.hash, wanted.clone(), Vec::new()).await?;
                assert!(encoded == sample.encode(&wanted), "another stream");
                Ok(())
            })
            .await?;
    }
    Ok(())
}

/// Keeps what is written for those who do not get the writer back.
#[derive(Clone, Default)]
struct Gathered(Arc<Mutex<Vec<u8>>>);

impl Gathered {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AsyncStreamWriter for Gathered {
    async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(data);
        Ok(())
    }

    async fn write_bytes(&mut self, data: Bytes) -> io::Result<()> {
        self.write(&data).await
    }

    async fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn bao_encode_of_missing_ranges_fails_cleanly<S: MapMut + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(100_000);
    let present = prop::collection::btree_set(0..sample.n_groups(), 0..7);
    trial
        .for_all(24, (present, ranges(sample.n_chunks())), async |(present, wanted)| {
            store.delete(vec![sample.hash]).await?;
            let there = present.into_iter().map(|group| group_ranges(group..group + 1));
            let there = there.fold(ChunkRanges::empty(), |all, group| all | group);
            sample.write(&store, &there).await?;
            let all = chunks(0..sample.n_chunks());
            let is_there = (&(&wanted & &all) - &there).is_empty();
            let (written, expected) = (Gathered::default(), sample.encode(&wanted));
            match store.export_bao(sample.hash, wanted, written.clone()).await {
                Ok(_) => assert!(is_there && written.bytes() == expected),
                Err(Error::Incomplete { hash, .. }) => {
                    assert!(!is_there && hash == sample.hash);
                    assert!(expected.starts_with(&written.bytes()), "what was written is not valid");
                }
                Err(other) => return Err(other.into()),
            }
            Ok(())
        })
        .await
}
