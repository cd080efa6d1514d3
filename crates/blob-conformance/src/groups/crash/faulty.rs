//! Faults at every operation that writes or makes durable.

use blob_traits::{
    BaoBatchWriter, BlobFormat, EntryStatus, ExistingTarget, ExportMode, ExportOptions, Hash, HashAndFormat,
    ImportMode, ImportSource, MapEntryMut, Progress, Store, Tag, TagRange, bao_tree::ChunkRanges,
};

use super::sweep::{EIO, ENOSPC, sweep};
use crate::{
    Operations::{Syncs, Writes},
    Outcome, Sample, Trial,
    case::group,
    group_ranges,
    ledger::{Has, Ledger},
};

/// One case for each workload and each kind of fault.
macro_rules! cases {
    ($($workload:ident: $enospc:ident, $eio:ident, $sync:ident;)+) => {
        group! {
            "crash", for S: Store;
            $($enospc [needs Faults Durability], $eio [needs Faults Durability], $sync [needs Faults Durability],)+
        }

        $(
            async fn $enospc<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
                $workload(trial, store, (Writes, ENOSPC)).await
            }

            async fn $eio<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
                $workload(trial, store, (Writes, EIO)).await
            }

            async fn $sync<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
                $workload(trial, store, (Syncs, EIO)).await
            }
        )+
    };
}

cases! {
    import_small: enospc_at_every_op_store_usable_after_space_freed_import_small,
        eio_at_every_op_once_and_sticky_import_small, sync_error_poisoned_never_promoted_import_small;
    import_large: enospc_at_every_op_store_usable_after_space_freed_import_large,
        eio_at_every_op_once_and_sticky_import_large, sync_error_poisoned_never_promoted_import_large;
    import_file: enospc_at_every_op_store_usable_after_space_freed_import_file,
        eio_at_every_op_once_and_sticky_import_file, sync_error_poisoned_never_promoted_import_file;
    import_stream: enospc_at_every_op_store_usable_after_space_freed_import_stream,
        eio_at_every_op_once_and_sticky_import_stream, sync_error_poisoned_never_promoted_import_stream;
    import_tagged: enospc_at_every_op_store_usable_after_space_freed_import_tagged,
        eio_at_every_op_once_and_sticky_import_tagged, sync_error_poisoned_never_promoted_import_tagged;
    partial: enospc_at_every_op_store_usable_after_space_freed_partial,
        eio_at_every_op_once_and_sticky_partial, sync_error_poisoned_never_promoted_partial;
    tags: enospc_at_every_op_store_usable_after_space_freed_tags,
        eio_at_every_op_once_and_sticky_tags, sync_error_poisoned_never_promoted_tags;
    delete: enospc_at_every_op_store_usable_after_space_freed_delete,
        eio_at_every_op_once_and_sticky_delete, sync_error_poisoned_never_promoted_delete;
    export: enospc_at_every_op_store_usable_after_space_freed_export,
        eio_at_every_op_once_and_sticky_export, sync_error_poisoned_never_promoted_export;
}

type Kind = (crate::Operations, i32);

async fn import_of<S: Store>(trial: &Trial<S>, store: S, kind: Kind, size: usize) -> Outcome {
    let work = async |store: &S, ledger: &mut Ledger, number| {
        let sample = Sample::numbered(size, number);
        let done = sample.import(store).await;
        ledger.blob(&sample, Has::Complete, &done);
        done.map(drop)
    };
    sweep(trial, store, kind, work).await
}

async fn import_small<S: Store>(trial: &Trial<S>, store: S, kind: Kind) -> Outcome {
    import_of(trial, store, kind, 1000).await
}

async fn import_large<S: Store>(trial: &Trial<S>, store: S, kind: Kind) -> Outcome {
    import_of(trial, store, kind, medium(trial)).await
}

/// Above the lowest threshold, so that it is not slow.
fn medium<S: Clone>(trial: &Trial<S>) -> usize {
    trial.ways().into_iter().find(|size| *size >= 100_000).unwrap_or(100_000)
}

async fn import_file<S: Store>(trial: &Trial<S>, store: S, kind: Kind) -> Outcome {
    let size = medium(trial);
    let work = async |store: &S, ledger: &mut Ledger, number| {
        let sample = Sample::numbered(size, number);
        let path = trial.user_file("source", &sample.data)?;
        let source = ImportSource::File { path, mode: ImportMode::Copy };
        let done = store.import(source, BlobFormat::Raw.into(), Progress::none()).await;
        ledger.blob(&sample, Has::Complete, &done);
        done.map(drop)
    };
    sweep(trial, store, kind, work).await
}

async fn import_stream<S: Store>(trial: &Trial<S>, store: S, kind: Kind) -> Outcome {
    let size = medium(trial);
    let work = async |store: &S, ledger: &mut Ledger, number| {
        let sample = Sample::numbered(size, number);
        let pieces: Vec<_> =
            (0..sample.size()).step_by(40_000).map(|at| Ok(sample.slice(at, 40_000))).collect();
        let stream = futures_lite::stream::iter(pieces);
        let done = store.import_stream(stream, BlobFormat::Raw, Progress::none()).await;
        ledger.blob(&sample, Has::Complete, &done);
        done.map(drop)
    };
    sweep(trial, store, kind, work).await
}

async fn import_tagged<S: Store>(trial: &Trial<S>, store: S, kind: Kind) -> Outcome {
    let work = async |store: &S, ledger: &mut Ledger, number: u64| {
        let sample = Sample::numbered(3000, number);
        let (source, tag) = (ImportSource::Bytes(sample.data.clone()), Tag::from(format!("{number}")));
        let done = store.import_tagged(source, BlobFormat::Raw, tag.clone(), Progress::none()).await;
        ledger.blob(&sample, Has::Complete, &done);
        ledger.tag(&tag, Some(HashAndFormat::raw(sample.hash)), &done);
        let is_tagged = store.get_tag(&tag).await?.is_some();
        let is_there = store.entry_status(&sample.hash).await? == EntryStatus::Complete;
        assert_eq!(is_tagged, is_there, "blob and tag are one step");
        done.map(drop)
    };
    sweep(trial, store, kind, work).await
}

/// Half of a blob and a sync, the rest, and the promotion.
async fn partial<S: Store>(trial: &Trial<S>, store: S, kind: Kind) -> Outcome {
    let work = async |store: &S, ledger: &mut Ledger, number| {
        let sample = Sample::numbered(100_000, number);
        let half = group_ranges(0..3);
        ledger.may_be(&sample, Has::Partial(ChunkRanges::empty()));
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        writer.write_batch(sample.size(), sample.items(&half)).await?;
        writer.sync().await?;
        if store.entry_status(&sample.hash).await? != EntryStatus::Complete {
            ledger.is(&sample, Has::Partial(half));
        }
        writer.write_batch(sample.size(), sample.all_items()).await?;
        drop(writer);
        let done = store.insert_complete(entry).await;
        ledger.blob(&sample, Has::Complete, &done);
        done
    };
    sweep(trial, store, kind, work).await
}

async fn tags<S: Store>(trial: &Trial<S>, store: S, kind: Kind) -> Outcome {
    let work = async |store: &S, ledger: &mut Ledger, number: u64| {
        let content = Some(HashAndFormat::raw(Hash::new(number.to_le_bytes())));
        let [one, two, three] = [1, 2, 3].map(|which| Tag::from(format!("{number}/{which}")));
        for tag in [&one, &two] {
            let done = store.set_tag(tag.clone(), content).await;
            ledger.tag(tag, content, &done);
            done?;
        }
        let renamed = store.rename_tag(two.clone(), three.clone()).await;
        ledger.tag(&two, None, &renamed);
        ledger.tag(&three, content, &renamed);
        renamed?;
        let deleted = store.delete_tags(TagRange::one(one.clone())).await;
        ledger.tag(&one, None, &deleted);
        deleted
    };
    sweep(trial, store, kind, work).await
}

/// Imports two small blobs and two larger ones, and deletes one of each.
async fn delete<S: Store>(trial: &Trial<S>, store: S, kind: Kind) -> Outcome {
    let size = medium(trial);
    let work = async |store: &S, ledger: &mut Ledger, number| {
        for size in [1000, size] {
            let [kept, deleted] = [2 * number, 2 * number + 1].map(|number| Sample::numbered(size, number));
            for sample in [&kept, &deleted] {
                let done = sample.import(store).await;
                ledger.blob(sample, Has::Complete, &done);
                done?;
            }
            let done = store.delete(vec![deleted.hash]).await;
            ledger.blob(&deleted, Has::Nothing, &done);
            done?;
        }
        Ok(())
    };
    sweep(trial, store, kind, work).await
}

/// The target is new, old, or not there, and nothing else lies beside it.
async fn export<S: Store>(trial: &Trial<S>, store: S, kind: Kind) -> Outcome {
    let (sample, target) = (Sample::new(medium(trial)), trial.user("target"));
    sample.import(&store).await?;
    let work = async |store: &S, ledger: &mut Ledger, number: u64| {
        ledger.is(&sample, Has::Complete);
        if number.is_multiple_of(2) {
            std::fs::write(&target, "old")?;
        } else if target.exists() {
            std::fs::remove_file(&target)?;
        }
        let options = ExportOptions { mode: ExportMode::Copy, existing: ExistingTarget::Replace };
        let done = store.export(sample.hash, target.clone(), options, Progress::none()).await;
        match std::fs::read(&target) {
            Ok(bytes) if bytes == sample.data => {}
            Ok(bytes) => assert!(done.is_err() && number.is_multiple_of(2) && bytes == b"old", "half a file"),
            Err(_) => assert!(done.is_err() && !number.is_multiple_of(2), "the target is gone"),
        }
        done
    };
    sweep(trial, store, kind, work).await
}
