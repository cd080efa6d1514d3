//! Futures that are dropped at every place where they wait.

use std::pin::Pin;

use blob_fs::FsStore;
use blob_traits::{
    BlobFormat, EntryStatus, Error, ExistingTarget, ExportMode, ExportOptions, HashAndFormat, ImportMode,
    ImportSource, MapEntryMut, Progress, Result, prelude::*,
};
use futures_lite::{future::block_on, stream};

use crate::{
    drive::{eventually, poll_times, runtimes},
    home::{Home, Setup},
    layout::check_accounted,
    sample::{Sample, chunks, import, status, write},
};

type Doing<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;
type Act = for<'a> fn(&'a Home, &'a FsStore, &'a Sample) -> Doing<'a>;

/// Prepares the blob, does something to it that is dropped, and does it again.
struct Case {
    prepare: Act,
    act: Act,
}

fn source(home: &Home, sample: &Sample, which: usize) -> ImportSource {
    let path = home.user_file("source", &sample.data);
    let pieces: Vec<_> = sample.data.chunks(70_000).map(|piece| Ok(sample.data.slice_ref(piece))).collect();
    match which {
        0 => ImportSource::Bytes(sample.data.clone()),
        1 => ImportSource::Stream(Box::pin(stream::iter(pieces))),
        2 => ImportSource::File { path, mode: ImportMode::Copy },
        _ => ImportSource::File { path, mode: ImportMode::TryReference },
    }
}

fn import_from<'a>(home: &Home, store: &'a FsStore, sample: &Sample, which: usize) -> Doing<'a> {
    let source = source(home, sample, which);
    Box::pin(async move {
        store.import_tagged(source, BlobFormat::Raw, "tag".into(), Progress::none()).await.map(drop)
    })
}

fn export<'a>(home: &Home, store: &'a FsStore, sample: &Sample, mode: ExportMode) -> Doing<'a> {
    let (hash, target) = (sample.hash, home.user("target"));
    let options = ExportOptions { mode, existing: ExistingTarget::Replace };
    Box::pin(async move { store.export(hash, target, options, Progress::none()).await })
}

const NOTHING: Act = |_, _, _| Box::pin(async { Ok(()) });
const WHOLE: Act = |_, store, sample| {
    Box::pin(async {
        drop(import(store, sample).await);
        Ok(())
    })
};
const ALL_PARTS: Act =
    |_, store, sample| Box::pin(write(store, sample.hash, sample.size(), sample.all_items()));
const FEW_PARTS: Act = |_, store, sample| {
    Box::pin(async {
        write(store, sample.hash, sample.size(), sample.items(&chunks(0..16))).await?;
        store.sync().await
    })
};

const CASES: [Case; 13] = [
    Case { prepare: NOTHING, act: |home, store, sample| import_from(home, store, sample, 0) },
    Case { prepare: NOTHING, act: |home, store, sample| import_from(home, store, sample, 1) },
    Case { prepare: NOTHING, act: |home, store, sample| import_from(home, store, sample, 2) },
    Case { prepare: NOTHING, act: |home, store, sample| import_from(home, store, sample, 3) },
    Case { prepare: FEW_PARTS, act: |home, store, sample| import_from(home, store, sample, 1) },
    Case { prepare: WHOLE, act: |home, store, sample| export(home, store, sample, ExportMode::Copy) },
    Case { prepare: WHOLE, act: |home, store, sample| export(home, store, sample, ExportMode::TryReference) },
    Case {
        prepare: ALL_PARTS,
        act: |_, store, sample| {
            Box::pin(async {
                let Some(entry) = store.get_mut(&sample.hash).await? else { return Ok(()) };
                store.insert_complete(entry).await
            })
        },
    },
    Case {
        prepare: NOTHING,
        act: |_, store, sample| {
            let all = bao_tree::ChunkRanges::all();
            let encoded = sample.encode(&all);
            Box::pin(
                async move { store.import_bao(sample.hash, sample.size(), all, encoded).await.map(drop) },
            )
        },
    },
    Case {
        prepare: FEW_PARTS,
        act: |_, store, sample| {
            Box::pin(async {
                let entry = store.get_or_create(sample.hash, sample.size()).await?;
                let mut writer = entry.batch_writer().await?;
                writer.write_batch(sample.size(), sample.all_items()).await?;
                Ok(writer.sync().await?)
            })
        },
    },
    Case { prepare: ALL_PARTS, act: |_, store, _| Box::pin(store.sync()) },
    Case { prepare: WHOLE, act: |_, store, sample| Box::pin(store.delete(vec![sample.hash])) },
    Case {
        prepare: WHOLE,
        act: |_, store, sample| {
            Box::pin(async {
                store.set_tag("tag".into(), Some(HashAndFormat::raw(sample.hash))).await?;
                store.rename_tag("tag".into(), "other".into()).await?;
                store.create_tag(HashAndFormat::raw(sample.hash)).await?;
                store.delete_tags(..).await
            })
        },
    },
];

/// What must hold some time after a future was dropped.
fn check_after_drop(home: &Home, store: &FsStore, sample: &Sample) {
    eventually(|| store.temp_tags().count() == 0);
    let name = sample.hash.to_string();
    let is_left = |file: &str| {
        let ours = file.contains(&name) && status(store, sample.hash) == EntryStatus::Complete;
        file.starts_with("temp/") && !ours
    };
    eventually(|| !home.files().keys().any(|file| is_left(file)));
    eventually(|| home.user_names().iter().all(|name| !name.starts_with('.')));
    match block_on(store.read_verified(sample.hash, 0..u64::MAX)) {
        Ok(bytes) => assert_eq!(bytes, sample.data),
        Err(error) => {
            assert!(matches!(error, Error::NotFound { .. } | Error::Incomplete { .. }), "{error:?}");
        }
    }
}

#[test]
fn operation_that_is_dropped_anywhere_leaves_nothing_and_can_be_repeated() {
    for (setup, size) in [(Setup::Default, 20_000), (Setup::Tiny, 300_000), (Setup::NothingInlined, 300_000)]
    {
        for runtime in runtimes().into_iter().skip(1) {
            let _entered = runtime.enter();
            for case in CASES {
                let home = Home::new(setup);
                let store = block_on(home.open());
                let sample = Sample::new(size);
                for n in 1.. {
                    block_on((case.prepare)(&home, &store, &sample)).unwrap();
                    let done = poll_times(n, (case.act)(&home, &store, &sample));
                    check_after_drop(&home, &store, &sample);
                    block_on((case.prepare)(&home, &store, &sample)).unwrap();
                    block_on((case.act)(&home, &store, &sample)).unwrap();
                    block_on(store.delete(vec![sample.hash])).unwrap();
                    if let Some(done) = done {
                        done.unwrap();
                        break;
                    }
                }
                let store = block_on(home.reopen(store));
                block_on(check_accounted(&home, &store));
                block_on(store.shutdown()).unwrap();
            }
        }
    }
}
