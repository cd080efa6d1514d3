//! Files that change while they are imported, imports at the same time, imports that are given up.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use blob_traits::{
    BlobFormat, BlobStatus, Delete, Hash, HashAndFormat, Import, ImportExt, ImportMode, ListBlobs, Map,
    MapExt, Progress, Result, Store, TempTag, collect,
};
use bytes::Bytes;

use super::way::{Way, check_dropped, check_whole, two_ways};
use crate::{Outcome, Sample, Trial, case::group, drop_at_every_await};

group! {
    "import", for S: Store;
    import_file_modified_while_hashing_copy_mode_hash_matches_stored_bytes,
    import_file_modified_while_hashing_reference_mode_never_wrong_bytes,
    import_file_grows_while_importing_size_consistent,
    import_file_shrinks_while_importing_size_consistent,
    import_same_content_concurrently_16x_one_entry,
    import_cancelled_at_every_await_point_leaves_no_temp,
}

/// A thread that does something to a file again and again until it is dropped.
struct Meddler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Meddler {
    fn new<S: Clone>(
        trial: &Trial<S>,
        path: &Path,
        mut meddle: impl FnMut(&File, u64) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = trial.thread(move || {
            for n in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                meddle(&file, n).expect("the user's files can be written");
                std::thread::yield_now();
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Its panic counts as one of the trial.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Checks that what was imported is what its hash says, or is refused. Returns the bytes.
async fn check_hash<S: Map>(store: &S, imported: Result<(TempTag, u64)>) -> Result<Option<Bytes>> {
    // A file that does not hold still may be refused.
    let Ok((pin, size)) = imported else { return Ok(None) };
    let read = store.read_to_bytes(pin.hash()).await?;
    assert_eq!(Hash::new(&read), pin.hash(), "the stored bytes are not those that were hashed");
    assert_eq!(read.len() as u64, size);
    assert!(store.read_verified(pin.hash(), 0..u64::MAX).await? == read);
    Ok(Some(read))
}

/// Writes a number over and over at two places at once: a blob with two different numbers was read in between.
fn overwrite(size: u64) -> impl FnMut(&File, u64) -> io::Result<()> {
    move |file, n| {
        file.write_all_at(&n.to_le_bytes(), 100)?;
        file.write_all_at(&n.to_le_bytes(), size - 100)
    }
}

async fn import_file_modified_while_hashing_copy_mode_hash_matches_stored_bytes<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let path = trial.user_file("source", &sample.data)?;
        let meddler = Meddler::new(trial, &path, overwrite(sample.size()))?;
        for _ in 0..3 {
            let import = store.import_file(path.clone(), ImportMode::Copy, BlobFormat::Raw, Progress::none());
            check_hash(&store, import.await).await?;
        }
        drop(meddler);
    }
    Ok(())
}

async fn import_file_modified_while_hashing_reference_mode_never_wrong_bytes<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let path = trial.user_file("source", &sample.data)?;
        let meddler = Meddler::new(trial, &path, overwrite(sample.size()))?;
        for _ in 0..3 {
            let path = path.clone();
            let import = store.import_file(path, ImportMode::TryReference, BlobFormat::Raw, Progress::none());
            let Ok((pin, _)) = import.await else { continue };
            if let Ok(read) = store.read_to_bytes(pin.hash()).await {
                assert_eq!(Hash::new(&read), pin.hash(), "changed bytes were served");
            }
        }
        drop(meddler);
        // Now that it holds still.
        let (path, current) = (path.clone(), Sample::of(fs::read(&path)?));
        let import = store.import_file(path, ImportMode::TryReference, BlobFormat::Raw, Progress::none());
        assert_eq!(import.await?.0.hash(), current.hash);
        assert!(store.read_to_bytes(current.hash).await? == current.data);
    }
    Ok(())
}

async fn import_file_grows_while_importing_size_consistent<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    /// An end it has, for stores that read for as long as there is more.
    const MOST: u64 = 4 << 20;
    for sample in trial.ways().into_iter().map(Sample::new) {
        let path = trial.user_file("source", &sample.data)?;
        let meddler = Meddler::new(trial, &path, |file, n| {
            let len = file.metadata()?.len();
            if len < MOST { file.write_all_at(&n.to_le_bytes().repeat(64), len) } else { Ok(()) }
        })?;
        let import = store.import_file(path.clone(), ImportMode::Copy, BlobFormat::Raw, Progress::none());
        let read = check_hash(&store, import.await).await?;
        drop(meddler);
        let end = fs::read(&path)?;
        let is_beginning = |read: Bytes| end.starts_with(&read) && read.starts_with(&sample.data);
        assert!(read.is_none_or(is_beginning), "bytes were stored that the file never had in this order");
    }
    Ok(())
}

async fn import_file_shrinks_while_importing_size_consistent<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let (path, size) = (trial.user_file("source", &sample.data)?, sample.size());
        let meddler = Meddler::new(trial, &path, move |file, n| file.set_len(size - (n * 997).min(size)))?;
        let import = store.import_file(path, ImportMode::Copy, BlobFormat::Raw, Progress::none());
        let read = check_hash(&store, import.await).await?;
        drop(meddler);
        // Not that they are the beginning of the file: while it is cut off the system may show zeros at its end.
        assert!(read.is_none_or(|read| read.len() as u64 <= size));
    }
    Ok(())
}

async fn import_same_content_concurrently_16x_one_entry<S: Map + Import + ListBlobs + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in two_ways(trial) {
        // All of them first, as each writes the file.
        let sources: io::Result<Vec<_>> =
            [Way::ALL; 4].concat().into_iter().map(|way| way.source(trial, &sample)).collect();
        let tasks: Vec<_> = sources?
            .into_iter()
            .map(|source| {
                let store = store.clone();
                tokio::spawn(
                    async move { store.import(source, BlobFormat::Raw.into(), Progress::none()).await },
                )
            })
            .collect();
        let mut pins = Vec::new();
        for task in tasks {
            let (pin, size) = task.await??;
            assert_eq!((pin.hash(), size), (sample.hash, sample.size()));
            pins.push(pin);
        }
        assert_eq!(store.temp_tags().collect::<Vec<_>>(), [HashAndFormat::raw(sample.hash)]);
        drop(pins);
        assert_eq!(store.temp_tags().count(), 0);
        let all = collect(store.blobs().await?).await?;
        assert_eq!(all.iter().filter(|hash| **hash == sample.hash).count(), 1);
        check_whole(&store, &sample).await?;
    }
    assert_eq!(collect(store.blobs().await?).await?.len(), 2);
    Ok(())
}

async fn import_cancelled_at_every_await_point_leaves_no_temp<S: Map + Import + BlobStatus + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in two_ways(trial) {
        for way in Way::ALL {
            let import = async || {
                let source = way.source(trial, &sample)?;
                Ok(store.import(source, BlobFormat::Raw.into(), Progress::none()).await?)
            };
            drop_at_every_await(import, async || {
                check_dropped(&store, &sample).await?;
                Ok(store.delete(vec![sample.hash]).await?)
            })
            .await?;
            check_whole(&store, &sample).await?;
            store.delete(vec![sample.hash]).await?;
        }
    }
    Ok(())
}
