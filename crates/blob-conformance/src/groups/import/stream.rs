//! From memory, streams and readers.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use blob_traits::{
    BlobFormat, BlobStatus, Hash, HashAndFormat, Import, ImportExt, ListBlobs, Map, Progress, Store, TempTags,
};
use bytes::Bytes;
use futures_lite::{StreamExt, stream};
use proptest::prelude::*;
use tokio::io::{AsyncRead, ReadBuf};

use super::way::{Way, check_empty, check_whole, pieces};
use crate::{Outcome, Sample, Trial, case::group};

group! {
    "import", for S: Store;
    import_bytes_returns_live_temp_tag,
    import_format_hashseq_does_not_validate_content,
    import_stream_chunk_boundaries_irrelevant,
    import_stream_empty_chunks_ok,
    import_stream_error_midway_leaves_nothing,
    import_stream_error_kind_preserved,
    import_reader_short_reads_and_pending,
    import_reader_error_kind_preserved,
}

const KINDS: [io::ErrorKind; 6] = [
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::NotFound,
    io::ErrorKind::Other,
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::StorageFull,
    io::ErrorKind::UnexpectedEof,
];

async fn import_bytes_returns_live_temp_tag<S: Import + Clone>(trial: &Trial<S>, store: S) -> Outcome {
    for size in trial.ways() {
        let sample = Sample::new(size);
        let seq = HashAndFormat::hash_seq(sample.hash);
        let raw = HashAndFormat::raw(sample.hash);
        let first = store.import_bytes(sample.data.clone(), BlobFormat::Raw).await?;
        assert_eq!(first.hash_and_format(), raw);
        assert_eq!(store.temp_tags().collect::<Vec<_>>(), [raw]);
        let second = store.import_bytes(sample.data.clone(), BlobFormat::HashSeq).await?;
        assert_eq!(second.hash_and_format(), seq);
        assert_eq!(store.temp_tags().collect::<Vec<_>>(), [raw, seq]);
        drop(first);
        assert_eq!(store.temp_tags().collect::<Vec<_>>(), [seq]);
        drop(second);
        assert_eq!(store.temp_tags().count(), 0);
    }
    Ok(())
}

async fn import_format_hashseq_does_not_validate_content<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for (number, way) in (0..).zip(Way::ALL) {
        for size in [0, 31, 33, 1000] {
            let sample = Sample::numbered(size, number);
            let source = way.source(trial, &sample)?;
            let (pin, _) = store.import(source, BlobFormat::HashSeq.into(), Progress::none()).await?;
            assert_eq!(pin.hash_and_format(), HashAndFormat::hash_seq(sample.hash));
            check_whole(&store, &sample).await?;
        }
    }
    Ok(())
}

async fn import_stream_chunk_boundaries_irrelevant<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sizes = prop::sample::select([trial.ways(), vec![1, 1024, 16_384, 16_385]].concat());
    let lens = prop::collection::vec(0_usize..40_000, 0..8);
    trial
        .for_all(12, (sizes, lens, any::<u8>()), async |(size, lens, number)| {
            let sample = Sample::numbered(size, number.into());
            let mut rest = sample.data.clone();
            let mut cut: Vec<_> =
                lens.into_iter().map(|len| Ok(rest.split_to(len.min(rest.len())))).collect();
            cut.push(Ok(rest));
            let (pin, size) =
                store.import_stream(stream::iter(cut), BlobFormat::Raw, Progress::none()).await?;
            assert_eq!((pin.hash(), size), (sample.hash, sample.size()));
            check_whole(&store, &sample).await
        })
        .await
}

async fn import_stream_empty_chunks_ok<S: Map + Import + BlobStatus>(trial: &Trial<S>, store: S) -> Outcome {
    let empty = || stream::iter([Ok(Bytes::new()), Ok(Bytes::new())]);
    for sample in trial.ways().into_iter().map(Sample::new) {
        let spaced = pieces(&sample, sample.data.len().div_ceil(3)).flat_map(move |piece| {
            let empty: [io::Result<Bytes>; 2] = [Ok(Bytes::new()), Ok(Bytes::new())];
            stream::iter([piece]).chain(stream::iter(empty))
        });
        let all = Box::pin(empty().chain(spaced));
        let (pin, size) = store.import_stream(all, BlobFormat::Raw, Progress::none()).await?;
        assert_eq!((pin.hash(), size), (sample.hash, sample.size()));
        check_whole(&store, &sample).await?;
    }
    let (pin, size) = store.import_stream(empty(), BlobFormat::Raw, Progress::none()).await?;
    assert_eq!((pin.hash(), size), (Hash::EMPTY, 0));
    let (pin, size) =
        store.import_stream(stream::empty::<io::Result<Bytes>>(), BlobFormat::Raw, Progress::none()).await?;
    assert_eq!((pin.hash(), size), (Hash::EMPTY, 0));
    Ok(())
}

async fn import_stream_error_midway_leaves_nothing<S: Map + Import + ListBlobs + TempTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for size in trial.ways() {
        let sample = Sample::new(size);
        let broken = stream::iter([Err(io::ErrorKind::ConnectionReset.into())]);
        // What follows the error does not belong to the blob any more.
        let rest = pieces(&Sample::new(100), 100);
        let source = Box::pin(pieces(&sample, size.div_ceil(5)).chain(broken).chain(rest));
        let failed = store.import_stream(source, BlobFormat::Raw, Progress::none()).await;
        assert!(failed.is_err(), "a stream with an error was taken for a blob");
        check_empty(&store).await?;
        assert!(store.get(&sample.hash).await?.is_none());
    }
    Ok(())
}

async fn import_stream_error_kind_preserved<S: Import>(_: &Trial<S>, store: S) -> Outcome {
    for kind in KINDS {
        let broken = stream::iter([Ok(Bytes::from_static(b"begun")), Err(kind.into())]);
        let failed = store.import_stream(broken, BlobFormat::Raw, Progress::none()).await;
        let error = failed.expect_err("the stream has an error");
        assert_eq!(io::Error::from(error).kind(), kind);
    }
    Ok(())
}

async fn import_reader_short_reads_and_pending<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let steps = prop::collection::vec((1_usize..30_000, any::<bool>()), 1..6);
    let sizes = prop::sample::select(vec![0, 1, 1000, 40_000, 100_000]);
    trial
        .for_all(12, (sizes, steps, any::<u8>()), async |(size, steps, number)| {
            let sample = Sample::numbered(size, number.into());
            let reader = Hesitant::new(sample.data.clone(), steps, None);
            let (pin, size) = store.import_reader(reader, BlobFormat::Raw, Progress::none()).await?;
            assert_eq!((pin.hash(), size), (sample.hash, sample.size()));
            check_whole(&store, &sample).await
        })
        .await
}

async fn import_reader_error_kind_preserved<S: Map + Import + ListBlobs>(_: &Trial<S>, store: S) -> Outcome {
    for (kind, size) in KINDS.into_iter().zip([0, 1, 1000, 70_000, 100_000, 200_000]) {
        let reader = Hesitant::new(Sample::new(size).data, vec![(9000, true)], Some(kind));
        let failed = store.import_reader(reader, BlobFormat::Raw, Progress::none()).await;
        let error = failed.expect_err("the reader has an error");
        assert_eq!(io::Error::from(error).kind(), kind);
        check_empty(&store).await?;
    }
    Ok(())
}

/// A reader that gives a few bytes at a time, keeps its caller waiting, and may end with an error.
struct Hesitant {
    left: Bytes,
    /// How much comes at a time, and whether the caller is to wait first, in a circle.
    steps: Vec<(usize, bool)>,
    n_done: usize,
    has_waited: bool,
    error: Option<io::ErrorKind>,
}

impl Hesitant {
    fn new(left: Bytes, steps: Vec<(usize, bool)>, error: Option<io::ErrorKind>) -> Self {
        Self { left, steps, n_done: 0, has_waited: false, error }
    }
}

impl AsyncRead for Hesitant {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (len, waits) = self.steps.get(self.n_done % self.steps.len()).copied().unwrap_or((1, false));
        if waits && !self.has_waited {
            self.has_waited = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_waited = false;
        self.n_done += 1;
        let n = len.min(out.remaining()).min(self.left.len());
        if let (0, Some(kind)) = (n, self.error) {
            return Poll::Ready(Err(kind.into()));
        }
        out.put_slice(&self.left.split_to(n));
        Poll::Ready(Ok(()))
    }
}
