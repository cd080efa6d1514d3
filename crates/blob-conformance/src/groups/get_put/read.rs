//! Reading at any offset.

use std::io::{Cursor, Read, Seek, SeekFrom};

use blob_traits::{
    BlobFormat, Delete, Error, Import, ImportExt, Map, MapEntry, MapExt, MapMut, ReadBlob, Result, Store,
    Tag, WriteTags,
};
use bytes::Bytes;
use iroh_io::AsyncSliceReader;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::{GROUP, Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "get_put", for S: Store;
    import_bytes_roundtrip_boundary_sizes,
    read_at_random_ranges_match_model,
    read_verified_random_ranges_match_model,
    read_at_past_end_short_or_empty_never_error,
    read_at_offset_u64_max_no_overflow,
    reader_len_equals_size,
    reader_seeks_and_reads_as_a_file_does,
    entry_handle_survives_tag_delete_until_dropped,
    entry_handle_read_after_forced_delete_is_data_or_notfound_never_wrong,
    readers_of_one_blob_do_not_disturb_each_other,
}

/// Reads through both ways that a reader has, which have to agree.
pub(super) async fn at(reader: &mut impl ReadBlob, offset: u64, len: usize) -> Result<Bytes> {
    let bytes = reader.read_range(offset, len).await?;
    assert_eq!(reader.read_at(offset, len).await?, bytes);
    Ok(bytes)
}

async fn import_bytes_roundtrip_boundary_sizes<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in trial.sizes().into_iter().map(Sample::new) {
        let pinned = sample.import(&store).await?;
        assert_eq!((pinned.hash(), pinned.format()), (sample.hash, BlobFormat::Raw));
        assert_eq!(store.read_to_bytes(sample.hash).await?, sample.data);
    }
    Ok(())
}

/// Offsets in and a little after a blob, many of them next to a border of chunk groups, and lengths.
fn ranges(sample: &Sample) -> impl Strategy<Value = (u64, u64)> + use<> {
    let near_border =
        (0..=sample.n_groups(), 0..=2_u64).prop_map(|(group, step)| (group * GROUP + step).saturating_sub(1));
    let len = prop_oneof![0..3_u64, 0..100_000_u64, Just(GROUP), Just(u64::from(u32::MAX))];
    (prop_oneof![0..sample.size() + 2000, near_border], len)
}

async fn read_at_random_ranges_match_model<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let mut reader = store.existing(sample.hash).await?.data_reader().await?;
        trial
            .for_all(32, ranges(&sample), async |(offset, len)| {
                let expected = sample.slice(offset, len);
                assert_eq!(at(&mut reader, offset, usize::try_from(len)?).await?, expected);
                assert_eq!(store.read_range(sample.hash, offset..offset + len).await?, expected);
                Ok(())
            })
            .await?;
    }
    Ok(())
}

async fn read_verified_random_ranges_match_model<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        trial
            .for_all(8, ranges(&sample), async |(offset, len)| {
                let read = store.read_verified(sample.hash, offset..offset + len).await?;
                assert_eq!(read, sample.slice(offset, len));
                Ok(())
            })
            .await?;
    }
    Ok(())
}

async fn read_at_past_end_short_or_empty_never_error<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in [0, 1, 1024, 16384].into_iter().chain(trial.ways()).map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let mut reader = store.existing(sample.hash).await?.data_reader().await?;
        let size = sample.size();
        for past in [size, size + 1, size + GROUP, size + (1 << 40)] {
            for len in [0, 1, 100_000] {
                assert_eq!(at(&mut reader, past, len).await?, "", "{len} bytes at {past} of {size}");
            }
        }
        for back in [1, 5, GROUP + 1] {
            let start = size.saturating_sub(back);
            assert_eq!(at(&mut reader, start, 200_000).await?, sample.slice(start, 200_000));
        }
    }
    Ok(())
}

async fn read_at_offset_u64_max_no_overflow<S: MapMut + Import>(trial: &Trial<S>, store: S) -> Outcome {
    let begun = Sample::numbered(100_000, 1);
    begun.write(&store, &group_ranges(0..1)).await?;
    let mut partial = store.existing(begun.hash).await?.data_reader().await?;
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let mut reader = store.existing(sample.hash).await?.data_reader().await?;
        for offset in [u64::MAX, u64::MAX - 1, u64::MAX - 16_384, 1 << 63, (1 << 63) - 1] {
            for len in [0, 1, 32_768, usize::MAX] {
                assert_eq!(at(&mut reader, offset, len).await?, "");
                let read = partial.read_range(offset, len).await.map_err(Error::from);
                assert!(matches!(&read, Ok(bytes) if bytes.is_empty()), "{read:?}");
            }
            assert_eq!(store.read_range(sample.hash, offset..u64::MAX).await?, "");
            assert_eq!(store.read_verified(sample.hash, offset..u64::MAX).await?, "");
        }
        assert_eq!(at(&mut reader, 1, usize::MAX).await?, sample.slice(1, u64::MAX));
    }
    Ok(())
}

async fn reader_len_equals_size<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in [0, 1, 1025, 16385].into_iter().chain(trial.ways()).map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let mut reader = store.existing(sample.hash).await?.data_reader().await?;
        assert_eq!(AsyncSliceReader::size(&mut reader).await?, sample.size());
        assert_eq!(store.reader(sample.hash).await?.size(), sample.size());
    }
    Ok(())
}

fn seeks_and_reads() -> impl Strategy<Value = Vec<(SeekFrom, u64)>> {
    let seek = prop_oneof![
        (0..300_000_u64).prop_map(SeekFrom::Start),
        (-150_000..1000_i64).prop_map(SeekFrom::End),
        (-100_000..100_000_i64).prop_map(SeekFrom::Current),
    ];
    prop::collection::vec((seek, 0..100_000_u64), 1..6)
}

async fn reader_seeks_and_reads_as_a_file_does<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large());
    let _pinned = sample.import(&store).await?;
    trial
        .for_all(12, seeks_and_reads(), async |steps| {
            let (mut reader, mut model) = (store.reader(sample.hash).await?, Cursor::new(&sample.data));
            for (seek, len) in steps {
                match (reader.seek(seek).await, Seek::seek(&mut model, seek)) {
                    (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                    (Err(found), Err(expected)) => assert_eq!(found.kind(), expected.kind()),
                    (found, expected) => panic!("{found:?} where a file says {expected:?}"),
                }
                let (mut read, mut expected) = (Vec::new(), Vec::new());
                AsyncReadExt::take(&mut reader, len).read_to_end(&mut read).await?;
                Read::take(&mut model, len).read_to_end(&mut expected)?;
                assert!(read == expected, "{len} other bytes after {seek:?}");
                assert_eq!(reader.stream_position().await?, model.position());
            }
            Ok(())
        })
        .await
}

async fn entry_handle_survives_tag_delete_until_dropped<S: Map + Import + WriteTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let pinned = sample.import(&store).await?;
        let tag = Tag::from("kept");
        store.set_tag(tag.clone(), Some(pinned.hash_and_format())).await?;
        let entry = store.existing(sample.hash).await?;
        store.set_tag(tag, None).await?;
        drop(pinned);
        assert_eq!(at(&mut entry.data_reader().await?, 0, usize::MAX).await?, sample.data);
        entry.outboard().await?;
    }
    Ok(())
}

/// Other blobs come in afterwards, so that a store that uses the space again would show their bytes.
async fn entry_handle_read_after_forced_delete_is_data_or_notfound_never_wrong<S: Map + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for size in trial.ways() {
        let sample = Sample::new(size);
        sample.import(&store).await?;
        let entry = store.existing(sample.hash).await?;
        let mut open = entry.data_reader().await?;
        let mut begun = entry.data_reader().await?;
        assert_eq!(at(&mut begun, 0, 10).await?, sample.slice(0, 10));
        store.delete(vec![sample.hash]).await?;
        for number in 1..4 {
            Sample::numbered(size, number).import(&store).await?;
        }
        let mut reads = vec![open.read_range(0, usize::MAX).await, begun.read_range(5, usize::MAX).await];
        match entry.data_reader().await {
            Ok(mut late) => reads.push(late.read_range(0, usize::MAX).await),
            Err(e) => reads.push(Err(e)),
        }
        for (read, start) in reads.into_iter().zip([0, 5, 0]) {
            match read.map_err(Error::from) {
                Ok(bytes) => assert!(bytes == sample.slice(start, u64::MAX), "wrong bytes of {size}"),
                Err(Error::NotFound { hash }) => assert_eq!(hash, sample.hash),
                Err(other) => return Err(other.into()),
            }
        }
    }
    Ok(())
}

async fn readers_of_one_blob_do_not_disturb_each_other<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    let _pinned = store.import_bytes(sample.data.clone(), BlobFormat::Raw).await?;
    let mut reading = tokio::task::JoinSet::new();
    for task in 0..8 {
        let (entry, sample) = (store.existing(sample.hash).await?, sample.clone());
        reading.spawn(async move {
            let mut reader = entry.data_reader().await?;
            for step in 0..20 {
                let offset = (task * 7919 + step * 104_729) % sample.size();
                assert_eq!(reader.read_range(offset, 5000).await?, sample.slice(offset, 5000));
                tokio::task::yield_now().await;
            }
            std::io::Result::Ok(())
        });
    }
    while let Some(ended) = reading.join_next().await {
        ended??;
    }
    Ok(())
}
