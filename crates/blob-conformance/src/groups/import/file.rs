//! From files that are copied.

use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    time::{Duration, SystemTime},
};

use blob_traits::{
    BlobFormat, BlobStatus, Delete, Error, Import, ImportExt, ImportMode, Map, MapExt, Progress, Store,
};

use super::way::check_whole;
use crate::{Outcome, Sample, Trial, case::group};

group! {
    "import", for S: Store;
    import_file_copy_boundary_sizes,
    import_file_reference_boundary_sizes,
    import_file_copy_source_unchanged_and_untouched_mtime,
    import_file_reference_source_unchanged_and_untouched_mtime,
    import_file_copy_then_source_modified_entry_still_valid,
    import_file_copy_then_source_deleted_entry_still_valid,
    import_file_symlink_followed,
    import_file_symlink_retargeted_later_never_wrong_bytes,
    import_file_sparse_source_preserves_content,
}

pub(super) const MODES: [ImportMode; 2] = [ImportMode::Copy, ImportMode::TryReference];

async fn boundary_sizes<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
    mode: ImportMode,
) -> Outcome {
    for sample in trial.sizes().into_iter().map(Sample::new) {
        let path = trial.user_file(&sample.size().to_string(), &sample.data)?;
        let (pin, size) = store.import_file(path, mode, BlobFormat::Raw, Progress::none()).await?;
        assert_eq!((pin.hash(), size), (sample.hash, sample.size()));
        check_whole(&store, &sample).await?;
    }
    Ok(())
}

async fn import_file_copy_boundary_sizes<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    boundary_sizes(trial, store, ImportMode::Copy).await
}

async fn import_file_reference_boundary_sizes<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    boundary_sizes(trial, store, ImportMode::TryReference).await
}

/// Makes a file look as if it had not been written to for an hour.
pub(super) fn age(path: &Path) -> io::Result<()> {
    let then = SystemTime::now() - Duration::from_hours(1);
    File::options().write(true).open(path)?.set_modified(then)
}

/// What a user can see of a file, but for the time of the last read.
#[derive(PartialEq)]
struct Look {
    inode: u64,
    n_links: u64,
    modified: SystemTime,
    mode: u32,
    bytes: Vec<u8>,
}

fn look(path: &Path) -> io::Result<Look> {
    let found = path.symlink_metadata()?;
    let (inode, n_links, modified, mode) = (found.ino(), found.nlink(), found.modified()?, found.mode());
    Ok(Look { inode, n_links, modified, mode, bytes: fs::read(path)? })
}

async fn source_untouched<S: Map + Import + Delete>(trial: &Trial<S>, store: S, mode: ImportMode) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let path = trial.user_file("source", &sample.data)?;
        age(&path)?;
        let before = look(&path)?;
        let imported = store.import_file(path.clone(), mode, BlobFormat::Raw, Progress::none()).await?;
        assert!(look(&path)? == before, "the import touched the file");
        assert!(store.read_to_bytes(sample.hash).await? == sample.data);
        drop(imported);
        store.delete(vec![sample.hash]).await?;
        assert!(look(&path)? == before, "deleting the blob touched the file");
        assert_eq!(trial.user_names()?, ["source"]);
    }
    Ok(())
}

async fn import_file_copy_source_unchanged_and_untouched_mtime<S: Map + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    source_untouched(trial, store, ImportMode::Copy).await
}

async fn import_file_reference_source_unchanged_and_untouched_mtime<S: Map + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    source_untouched(trial, store, ImportMode::TryReference).await
}

async fn import_file_copy_then_source_modified_entry_still_valid<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let path = trial.user_file("source", &sample.data)?;
        store.import_file(path.clone(), ImportMode::Copy, BlobFormat::Raw, Progress::none()).await?;
        let mut file = File::options().write(true).open(&path)?;
        file.seek(SeekFrom::Start(sample.size() / 2))?;
        file.write_all(b"later")?;
        check_whole(&store, &sample).await?;
        file.set_len(10)?;
        check_whole(&store, &sample).await?;
    }
    Ok(())
}

async fn import_file_copy_then_source_deleted_entry_still_valid<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let path = trial.user_file("source", &sample.data)?;
        store.import_file(path.clone(), ImportMode::Copy, BlobFormat::Raw, Progress::none()).await?;
        fs::remove_file(path)?;
        check_whole(&store, &sample).await?;
    }
    Ok(())
}

/// The policy: links are followed, through any number of them.
async fn import_file_symlink_followed<S: Map + Import + BlobStatus>(trial: &Trial<S>, store: S) -> Outcome {
    let [link, link_to_link, dangling] = ["link", "link to link", "dangling"].map(|name| trial.user(name));
    symlink("source", &link)?;
    symlink(&link, &link_to_link)?;
    symlink("nowhere", &dangling)?;
    for (number, mode) in (0..).zip(MODES) {
        for size in [1000, trial.large()] {
            let sample = Sample::numbered(size, number);
            trial.user_file("source", &sample.data)?;
            for path in [&link, &link_to_link] {
                let import = store.import_file(path.clone(), mode, BlobFormat::Raw, Progress::none());
                assert_eq!(import.await?.0.hash(), sample.hash);
            }
            check_whole(&store, &sample).await?;
        }
        let import = store.import_file(dangling.clone(), mode, BlobFormat::Raw, Progress::none());
        let error = import.await.expect_err("the link leads nowhere");
        assert!(matches!(&error, Error::FileNotFound { path } if *path == dangling), "{error:?}");
    }
    Ok(())
}

async fn import_file_symlink_retargeted_later_never_wrong_bytes<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for size in trial.ways() {
        let sample = Sample::new(size);
        let source = trial.user_file("source", &sample.data)?;
        let other = trial.user_file("other", &Sample::numbered(size, 1).data)?;
        [&source, &other].into_iter().try_for_each(|path| age(path))?;
        let link = trial.user("link");
        symlink(&source, &link)?;
        store.import_file(link.clone(), ImportMode::TryReference, BlobFormat::Raw, Progress::none()).await?;
        fs::remove_file(&link)?;
        symlink(&other, &link)?;
        if let Ok(bytes) = store.read_to_bytes(sample.hash).await {
            assert!(bytes == sample.data, "the other file was served");
        }
        fs::remove_file(link)?;
    }
    Ok(())
}

async fn import_file_sparse_source_preserves_content<S: Map + Import + BlobStatus + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    const SIZE: usize = 3_000_001;
    let path = trial.user("sparse");
    let mut file = File::create(&path)?;
    file.set_len(SIZE as u64)?;
    let mut data = vec![0; SIZE];
    for written in [None, Some(1_500_000_usize)] {
        if let Some(at) = written {
            file.seek(SeekFrom::Start(at as u64))?;
            file.write_all(b"an island")?;
            data.splice(at..at + 9, *b"an island");
        }
        let sample = Sample::of(data.clone());
        for mode in MODES {
            let (pin, size) =
                store.import_file(path.clone(), mode, BlobFormat::Raw, Progress::none()).await?;
            assert_eq!((pin.hash(), size), (sample.hash, sample.size()));
            check_whole(&store, &sample).await?;
            store.delete(vec![sample.hash]).await?;
        }
    }
    Ok(())
}
