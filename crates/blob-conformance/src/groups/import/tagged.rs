//! Blob and tag in one step.

use std::{cell::RefCell, io};

use blob_traits::{
    BlobFormat, BlobStatus, Cancelled, Delete, EntryStatus, Error, HashAndFormat, Import, ImportExt,
    ImportMode, ImportSource, ListBlobs, MAX_TAG_LEN, Map, Progress, ReadTags, ReadTagsExt, Store, Tag,
    WriteTags, WriteTagsExt, collect,
};
use futures_lite::{StreamExt, stream};

use super::way::{Way, check_dropped, check_empty, check_whole, pieces, two_ways};
use crate::{Failure, Outcome, Sample, Trial, case::group, drop_at_every_await, eventually};

group! {
    "import", for S: Store;
    import_tagged_bytes_stores_blob_and_tag,
    import_tagged_stream_stores_blob_and_tag,
    import_tagged_copied_file_stores_blob_and_tag,
    import_tagged_referred_file_stores_blob_and_tag,
    import_tagged_bytes_survives_crash [needs Durability],
    import_tagged_stream_survives_crash [needs Durability],
    import_tagged_copied_file_survives_crash [needs Durability],
    import_tagged_referred_file_survives_crash [needs Durability],
    import_tagged_of_a_present_blob_sets_the_tag,
    import_tagged_replaces_the_tag,
    import_tagged_that_fails_sets_no_tag,
    import_tagged_too_long_imports_nothing,
    import_tagged_cancelled_at_every_await_point_leaves_both_or_neither,
    import_tagged_cancelled_then_crash_leaves_both_or_neither [needs Durability],
}

/// Blobs that go different ways, each with the format that it is to have.
fn samples<S: Clone>(trial: &Trial<S>) -> impl Iterator<Item = (Sample, HashAndFormat)> {
    let formats = [BlobFormat::Raw, BlobFormat::HashSeq].into_iter().cycle();
    trial.ways().into_iter().map(Sample::new).zip(formats).map(|(sample, format)| {
        let content = HashAndFormat { hash: sample.hash, format };
        (sample, content)
    })
}

/// Imports some blobs, and checks that they and their tags are there.
async fn store_tagged<S: Map + Import + BlobStatus + ReadTags>(
    trial: &Trial<S>,
    store: &S,
    way: Way,
) -> Outcome {
    for (sample, content) in samples(trial) {
        let (source, tag) = (way.source(trial, &sample)?, tag_of(&sample));
        let (pin, size) = store.import_tagged(source, content.format, tag, Progress::none()).await?;
        assert_eq!((pin.hash_and_format(), size), (content, sample.size()));
        assert_eq!(store.temp_tags().collect::<Vec<_>>(), [content]);
    }
    check_tagged(trial, store).await
}

/// Checks what [`store_tagged`] has stored.
async fn check_tagged<S: Map + BlobStatus + ReadTags>(trial: &Trial<S>, store: &S) -> Outcome {
    for (sample, content) in samples(trial) {
        assert_eq!(store.get_tag(&tag_of(&sample)).await?, Some(content));
        check_whole(store, &sample).await?;
    }
    assert_eq!(collect(store.tags(..).await?).await?.len(), trial.ways().len());
    Ok(())
}

fn tag_of(sample: &Sample) -> Tag {
    sample.hash.to_string().into()
}

async fn import_tagged_bytes_stores_blob_and_tag<S: Map + Import + BlobStatus + ReadTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    store_tagged(trial, &store, Way::Bytes).await
}

async fn import_tagged_stream_stores_blob_and_tag<S: Map + Import + BlobStatus + ReadTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    store_tagged(trial, &store, Way::Stream).await
}

async fn import_tagged_copied_file_stores_blob_and_tag<S: Map + Import + BlobStatus + ReadTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    store_tagged(trial, &store, Way::CopiedFile).await
}

async fn import_tagged_referred_file_stores_blob_and_tag<S: Map + Import + BlobStatus + ReadTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    store_tagged(trial, &store, Way::ReferredFile).await
}

async fn survives_crash<S: Map + Import + BlobStatus + ReadTags>(
    trial: &Trial<S>,
    store: S,
    way: Way,
) -> Outcome {
    store_tagged(trial, &store, way).await?;
    check_tagged(trial, &trial.crash_and_reopen(store).await?).await
}

async fn import_tagged_bytes_survives_crash<S: Map + Import + BlobStatus + ReadTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    survives_crash(trial, store, Way::Bytes).await
}

async fn import_tagged_stream_survives_crash<S: Map + Import + BlobStatus + ReadTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    survives_crash(trial, store, Way::Stream).await
}

async fn import_tagged_copied_file_survives_crash<S: Map + Import + BlobStatus + ReadTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    survives_crash(trial, store, Way::CopiedFile).await
}

async fn import_tagged_referred_file_survives_crash<S: Map + Import + BlobStatus + ReadTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    survives_crash(trial, store, Way::ReferredFile).await
}

async fn import_tagged_of_a_present_blob_sets_the_tag<S: Map + Import + ReadTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for size in trial.ways() {
        let sample = Sample::new(size);
        sample.import(&store).await?;
        for way in Way::ALL {
            let source = way.source(trial, &sample)?;
            let tag = Tag::from(format!("{size} {way:?}"));
            let import = store.import_tagged(source, BlobFormat::HashSeq, tag.clone(), Progress::none());
            assert_eq!(import.await?.0.hash(), sample.hash);
            let content = HashAndFormat::hash_seq(sample.hash);
            assert_eq!(store.get_tag(&tag).await?, Some(content), "{way:?}");
        }
    }
    Ok(())
}

async fn import_tagged_replaces_the_tag<S: Map + Import + ReadTags>(trial: &Trial<S>, store: S) -> Outcome {
    for (number, way) in (0..).zip(Way::ALL) {
        let sample = Sample::numbered(1000, number);
        let source = way.source(trial, &sample)?;
        store.import_tagged(source, BlobFormat::Raw, "latest".into(), Progress::none()).await?;
        let tags = collect(store.tags(..).await?).await?;
        assert_eq!(tags, [(Tag::from("latest"), HashAndFormat::raw(sample.hash))], "{way:?}");
    }
    Ok(())
}

async fn import_tagged_that_fails_sets_no_tag<S: Map + Import + ReadTags + ListBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let broken = stream::iter([Err(io::ErrorKind::ConnectionReset.into())]);
        let path = trial.user("missing");
        for source in [
            ImportSource::Stream(Box::pin(pieces(&sample, 30_000).chain(broken))),
            ImportSource::File { path, mode: ImportMode::Copy },
        ] {
            let import = store.import_tagged(source, BlobFormat::Raw, "tag".into(), Progress::none());
            assert!(import.await.is_err());
        }
        for way in Way::ALL {
            let refused = Progress::from_fn(|_| Err(Cancelled));
            let source = way.source(trial, &sample)?;
            let import = store.import_tagged(source, BlobFormat::Raw, "tag".into(), refused);
            assert!(matches!(import.await, Err(Error::Cancelled)), "{way:?}");
        }
        check_empty(&store).await?;
        assert_eq!(collect(store.tags(..).await?).await?, []);
    }
    Ok(())
}

async fn import_tagged_too_long_imports_nothing<S: Map + Import + ReadTags + ListBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let long = Tag::from("x".repeat(MAX_TAG_LEN + 1));
    for sample in trial.ways().into_iter().map(Sample::new) {
        for way in Way::ALL {
            let source = way.source(trial, &sample)?;
            let import = store.import_tagged(source, BlobFormat::Raw, long.clone(), Progress::none());
            let error = import.await.expect_err("the tag is too long");
            let is_typed =
                matches!(error, Error::TagTooLong { len, limit: MAX_TAG_LEN } if len == MAX_TAG_LEN + 1);
            assert!(is_typed, "{error:?}");
        }
        check_empty(&store).await?;
        assert_eq!(collect(store.tags(..).await?).await?, []);
    }
    Ok(())
}

/// One look at each, in an order in which neither may be seen without the other.
async fn check_both_or_neither<S: Map + BlobStatus + ReadTags>(store: &S, sample: &Sample) -> Outcome {
    let tag = Tag::from("tag");
    let found = store.get_tag(&tag).await?;
    let status = store.entry_status(&sample.hash).await?;
    if found.is_some() {
        assert_eq!(found, Some(HashAndFormat::raw(sample.hash)));
        assert_eq!(status, EntryStatus::Complete, "there is a tag without its blob");
    }
    if status == EntryStatus::Complete {
        assert!(store.get_tag(&tag).await?.is_some(), "there is a blob without its tag");
    }
    Ok(())
}

async fn import_tagged_cancelled_at_every_await_point_leaves_both_or_neither<
    S: Map + Import + BlobStatus + WriteTags + Delete,
>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in two_ways(trial) {
        for way in Way::ALL {
            let import = async || {
                let source = way.source(trial, &sample)?;
                store.import_tagged(source, BlobFormat::Raw, "tag".into(), Progress::none()).await?;
                Ok(())
            };
            drop_at_every_await(import, async || {
                check_both_or_neither(&store, &sample).await?;
                check_dropped(&store, &sample).await?;
                store.delete_tag("tag".into()).await?;
                Ok(store.delete(vec![sample.hash]).await?)
            })
            .await?;
            assert_eq!(store.get_tag(&"tag".into()).await?, Some(HashAndFormat::raw(sample.hash)));
            check_whole(&store, &sample).await?;
            store.delete_tag("tag".into()).await?;
            store.delete(vec![sample.hash]).await?;
        }
    }
    Ok(())
}

/// Drops a store as a crash would, and opens it again when what is still under way in this process has let go of it.
async fn crash_and_reopen<S: Map>(trial: &Trial<S>, store: S) -> Result<S, Failure> {
    trial.abandon(store);
    let opened = RefCell::new(None);
    eventually("the store is not locked", async || match trial.open(trial.home()).await {
        Err(Error::Locked { .. }) => Ok(false),
        other => {
            opened.replace(Some(other?));
            Ok(true)
        }
    })
    .await?;
    opened.take().ok_or_else(|| "it was not opened".into())
}

async fn import_tagged_cancelled_then_crash_leaves_both_or_neither<
    S: Map + Import + BlobStatus + WriteTags + Delete,
>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let opened = RefCell::new(Some(store));
    let current = || opened.borrow().clone().ok_or("no store is open");
    for (way, size) in Way::ALL.into_iter().zip([trial.large(), trial.large(), 1000, trial.large()]) {
        let sample = Sample::new(size);
        let import = async || {
            let (store, source) = (current()?, way.source(trial, &sample)?);
            store.import_tagged(source, BlobFormat::Raw, "tag".into(), Progress::none()).await?;
            Ok(())
        };
        let check = async || {
            let store = opened.take().ok_or("no store is open")?;
            let store = crash_and_reopen(trial, store).await?;
            check_both_or_neither(&store, &sample).await?;
            check_dropped(&store, &sample).await?;
            store.delete_tag("tag".into()).await?;
            store.delete(vec![sample.hash]).await?;
            opened.replace(Some(store));
            Ok(())
        };
        drop_at_every_await(import, check).await?;
        assert_eq!(current()?.entry_status(&sample.hash).await?, EntryStatus::Complete);
        check().await?;
    }
    Ok(())
}
