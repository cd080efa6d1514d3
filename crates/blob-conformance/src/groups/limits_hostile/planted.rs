//! Links, fifos and directories in the places of the store's files.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use blob_traits::{
    BlobStatus, Delete, Error, Import, Lifecycle, ListBlobs, MapExt, MapMut, ReadTags, ReadTagsExt, Store,
    collect,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::time::timeout;

use crate::{
    Failure, Home, Outcome, Sample, Trial,
    case::group,
    chunks,
    copied::{Copied, paths_below},
    panics,
};

group! {
    "limits_hostile", for S: Store;
    planted_symlink_at_data_path_not_followed [needs Files Persistence],
    planted_symlink_in_a_fresh_store_not_followed [needs Files Persistence],
    planted_symlink_to_nothing_creates_nothing_there [needs Files Persistence],
    planted_hardlink_in_a_fresh_store_not_written_through [needs Files Persistence],
    planted_fifo_at_data_path_does_not_block [needs Files Persistence],
    planted_fifo_in_a_fresh_store_does_not_block [needs Files Persistence],
    planted_directory_at_data_path_gives_an_error [needs Files Persistence],
}

/// What a store must not hang for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a store is asked for in these cases.
pub trait HostileStore: MapMut + Import + BlobStatus + ListBlobs + ReadTags + Delete + Lifecycle {}

impl<S: MapMut + Import + BlobStatus + ListBlobs + ReadTags + Delete + Lifecycle> HostileStore for S {}

/// Fills a store with blobs of all kinds.
pub(super) async fn fill<S: HostileStore>(trial: &Trial<S>, store: &S) -> Outcome {
    for size in trial.ways() {
        drop(Sample::new(size).import(store).await?);
        let partial = Sample::numbered(size + 20_000, 1);
        partial.write(store, &chunks(0..16)).await?;
    }
    store.sync().await?;
    Ok(())
}

/// Opens a store that somebody has tampered with, and uses it: everything may fail, but in so many words, nothing wrong is
/// read and nothing hangs.
///
/// A library below the store may panic over a damaged file, if the store makes an error of it; what comes through to the
/// caller still fails the trial.
pub(super) async fn open_and_use<S: HostileStore>(trial: &Trial<S>, home: &Home) -> Outcome {
    trial.expect_panics();
    let used = timeout(PATIENCE, async {
        let store = match trial.open(home).await {
            // As a panic comes through that was caught by a runtime. Without one it is an error like any other.
            Err(Error::Io { source, .. })
                if source.kind() == io::ErrorKind::Other && panics::has_panicked() =>
            {
                return Err(source.into());
            }
            Err(_) => return Ok(()),
            Ok(store) => store,
        };
        let mut hashes = match store.blobs().await {
            Ok(blobs) => collect(blobs).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        for hash in &hashes {
            if let Ok(data) = store.read_verified(*hash, 0..u64::MAX).await {
                assert_eq!(Sample::of(data).hash, *hash);
            }
        }
        if let Ok(blobs) = store.partial_blobs().await {
            hashes.extend(collect(blobs).await.unwrap_or_default());
        }
        for hash in &hashes {
            if let Ok(Some(ranges)) = store.present_ranges(hash).await {
                let _ = store.export_bao(*hash, ranges, Vec::new()).await;
                let _ = store.read_range(*hash, 0..1 << 20).await;
            }
        }
        if let Ok(tags) = store.tags_with_prefix("").await {
            let _ = collect(tags).await;
        }
        let new = Sample::numbered(100_000, 9);
        if new.import(&store).await.is_ok() {
            assert_eq!(store.read_verified(new.hash, 0..u64::MAX).await?, new.data);
        }
        let _ = Sample::numbered(100_000, 10).write(&store, &chunks(0..16)).await;
        let _ = store.sync().await;
        let _ = store.delete(hashes).await;
        let _ = store.shutdown().await;
        trial.abandon(store);
        Ok(())
    });
    used.await.map_err(|_| "the store hangs")?
}

/// Fills a store, lets `replace` take the place of one of its files at a time, and uses what is then there.
async fn replace_each<S: HostileStore>(
    trial: &Trial<S>,
    store: S,
    replace: impl Fn(&Path) -> io::Result<()>,
    check: impl Fn(&Path) -> Outcome,
) -> Outcome {
    fill(trial, &store).await?;
    store.shutdown().await?;
    trial.abandon(store);
    let dir = trial.home().dir();
    let copy = Copied::of(dir)?;
    for path in copy.some(4) {
        copy.put_back(dir)?;
        fs::remove_file(dir.join(path))?;
        replace(&dir.join(path))?;
        open_and_use(trial, trial.home()).await?;
        check(path)?;
    }
    Ok(())
}

/// Where the files of a store are that was just created; this one is closed.
async fn places_in_fresh<S: HostileStore>(trial: &Trial<S>, store: S) -> Result<Vec<PathBuf>, Failure> {
    drop(Sample::new(1000).import(&store).await?);
    let mut places: Vec<PathBuf> = paths_below(trial.home().dir())?;
    store.shutdown().await?;
    trial.abandon(store);
    places.extend(paths_below(trial.home().dir())?);
    places.sort();
    places.dedup();
    Ok(places)
}

/// Puts something into one of the places, opens a store there and uses it.
async fn plant_in_fresh<S: HostileStore>(
    trial: &Trial<S>,
    place: &Path,
    plant: impl Fn(&Path) -> io::Result<()>,
) -> Outcome {
    let home = trial.other_home("planted");
    let planted = home.dir().join(place);
    fs::create_dir_all(planted.parent().unwrap_or(home.dir()))?;
    plant(&planted)?;
    open_and_use(trial, &home).await?;
    fs::remove_dir_all(home.dir())?;
    Ok(())
}

/// Whether a file of the user's is what it was.
fn unharmed(path: &Path, expected: &[u8], place: &Path) -> Outcome {
    if fs::read(path)? == expected {
        return Ok(());
    }
    Err(format!("a file of the user's was changed through {}", place.display()).into())
}

async fn planted_symlink_at_data_path_not_followed<S: HostileStore>(trial: &Trial<S>, store: S) -> Outcome {
    let precious = Sample::new(70_000).data;
    let victim = trial.user_file("victim", &precious)?;
    replace_each(trial, store, |place| symlink(&victim, place), |place| unharmed(&victim, &precious, place))
        .await
}

async fn planted_symlink_in_a_fresh_store_not_followed<S: HostileStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for place in places_in_fresh(trial, store).await? {
        for precious in ["", "precious"] {
            let victim = trial.user_file("victim", precious.as_bytes())?;
            plant_in_fresh(trial, &place, |planted| symlink(&victim, planted)).await?;
            unharmed(&victim, precious.as_bytes(), &place)?;
        }
    }
    Ok(())
}

async fn planted_symlink_to_nothing_creates_nothing_there<S: HostileStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for place in places_in_fresh(trial, store).await? {
        let nothing = trial.user("nothing");
        plant_in_fresh(trial, &place, |planted| symlink(&nothing, planted)).await?;
        assert!(!nothing.exists(), "a file was created through {}", place.display());
    }
    Ok(())
}

async fn planted_hardlink_in_a_fresh_store_not_written_through<S: HostileStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for place in places_in_fresh(trial, store).await? {
        for precious in ["", "precious"] {
            let victim = trial.user_file("victim", precious.as_bytes())?;
            plant_in_fresh(trial, &place, |planted| fs::hard_link(&victim, planted)).await?;
            unharmed(&victim, precious.as_bytes(), &place)?;
        }
    }
    Ok(())
}

fn fifo(place: &Path) -> io::Result<()> {
    Ok(mknodat(CWD, place, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?)
}

async fn planted_fifo_at_data_path_does_not_block<S: HostileStore>(trial: &Trial<S>, store: S) -> Outcome {
    replace_each(trial, store, fifo, |_| Ok(())).await
}

async fn planted_fifo_in_a_fresh_store_does_not_block<S: HostileStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for place in places_in_fresh(trial, store).await? {
        plant_in_fresh(trial, &place, fifo).await?;
    }
    Ok(())
}

async fn planted_directory_at_data_path_gives_an_error<S: HostileStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    replace_each(trial, store, |place| fs::create_dir(place), |_| Ok(())).await
}
