//! One directory, one open store.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use blob_traits::{Error, Import, Lifecycle, Map, MapExt, Result, Store};

use crate::{Failure, Home, Outcome, Sample, Trial, case::group};

group! {
    "shutdown_reopen", for S: Store;
    second_open_same_process_refused [needs Lock],
    second_open_at_the_same_time_one_wins [needs Lock],
    second_open_by_another_spelling_refused [needs Lock],
    second_open_via_symlink_refused [needs Lock],
    second_open_via_bind_mount_refused [needs Lock],
    second_open_other_process_refused_with_pid_hint [needs Lock],
    second_open_from_another_process_refused [needs Lock],
    lock_released_after_shutdown [needs Lock],
    lock_released_after_the_last_handle_is_dropped [needs Lock],
    lock_released_after_kill_9 [needs Lock],
    lock_of_one_home_does_not_close_another [needs Lock],
    open_does_not_touch_temp_files_before_holding_lock [needs Lock],
}

#[track_caller]
fn locked<S>(opened: Result<S>) -> Option<String> {
    match opened {
        Err(Error::Locked { holder, .. }) => holder,
        Err(other) => panic!("{other:?} instead of Locked"),
        Ok(_) => panic!("it was opened twice"),
    }
}

/// The first owner does not suffer from the attempts of others.
async fn goes_on<S: Map + Import>(store: &S) -> Outcome {
    let sample = Sample::new(100_000);
    sample.import(store).await?;
    assert!(store.read_to_bytes(sample.hash).await? == sample.data);
    Ok(())
}

async fn second_open_same_process_refused<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    for _ in 0..2 {
        locked(trial.open(trial.home()).await);
        locked(trial.open(&Home::new(trial.home().dir())).await);
    }
    goes_on(&store).await
}

async fn second_open_at_the_same_time_one_wins<S: Map + Import>(trial: &Trial<S>, _: S) -> Outcome {
    for number in 0..3 {
        let home = trial.other_home(&format!("raced-{number}"));
        let (first, second) = futures_lite::future::zip(trial.open(&home), trial.open(&home)).await;
        let winner = match (first, second) {
            (Ok(winner), refused) | (refused, Ok(winner)) => {
                locked(refused);
                winner
            }
            (Err(first), Err(second)) => panic!("both were refused: {first:?}, {second:?}"),
        };
        goes_on(&winner).await?;
    }
    Ok(())
}

async fn second_open_by_another_spelling_refused<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    let dir = trial.home().dir();
    let name = dir.file_name().ok_or("the directory has no name")?;
    for dir in [dir.join("."), dir.join("..").join(name), trial.user("..").join(name)] {
        locked(trial.open(&Home::new(dir)).await);
    }
    goes_on(&store).await
}

async fn second_open_via_symlink_refused<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    let (link, parent) = (trial.user("link"), trial.user("parent"));
    symlink(trial.home().dir(), &link)?;
    symlink(trial.user(".."), &parent)?;
    let name = trial.home().dir().file_name().ok_or("the directory has no name")?;
    for dir in [link, parent.join(name)] {
        locked(trial.open(&Home::new(dir)).await);
    }
    goes_on(&store).await
}

/// Ends with its scope, whatever happens in it.
struct Mounted(PathBuf);

impl Mounted {
    fn bind(from: &Path, at: PathBuf) -> Result<Self, Failure> {
        fs::create_dir(&at)?;
        let mounted = Command::new("mount").arg("--bind").args([from, &at]).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self(at)),
            _ => Err(Failure::skipped("directories cannot be mounted here")),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: what is open below it does not keep it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

async fn second_open_via_bind_mount_refused<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    let mounted = Mounted::bind(trial.home().dir(), trial.user("mounted"))?;
    locked(trial.open(&Home::new(&mounted.0)).await);
    goes_on(&store).await
}

async fn second_open_other_process_refused_with_pid_hint<S: Map + Import>(trial: &Trial<S>, _: S) -> Outcome {
    let home = trial.other_home("theirs");
    let other = trial.open_elsewhere(home.dir())?;
    assert!(other.is_open(), "{}", other.said());
    let holder = locked(trial.open(&home).await).ok_or("the holder is not named")?;
    let numbers: Vec<_> = holder.split(|c: char| !c.is_ascii_digit()).collect();
    assert!(numbers.contains(&&*other.id().to_string()), "{holder} is not process {}", other.id());
    Ok(())
}

async fn second_open_from_another_process_refused<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    let other = trial.open_elsewhere(trial.home().dir())?;
    assert!(!other.is_open());
    drop(other);
    goes_on(&store).await?;
    locked(trial.open(trial.home()).await);
    Ok(())
}

async fn lock_released_after_shutdown<S: Map + Import + Lifecycle>(trial: &Trial<S>, store: S) -> Outcome {
    for _ in 0..5 {
        store.shutdown().await?;
        let again = trial.open(trial.home()).await?;
        goes_on(&again).await?;
        again.shutdown().await?;
    }
    let other = trial.open_elsewhere(trial.home().dir())?;
    assert!(other.is_open(), "{}", other.said());
    Ok(())
}

async fn lock_released_after_the_last_handle_is_dropped<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let clone = store.clone();
    trial.abandon(store);
    locked(trial.open(trial.home()).await);
    drop(clone);
    goes_on(&trial.open(trial.home()).await?).await
}

async fn lock_released_after_kill_9<S: Map + Import>(trial: &Trial<S>, _: S) -> Outcome {
    let home = trial.other_home("theirs");
    for _ in 0..2 {
        let other = trial.open_elsewhere(home.dir())?;
        assert!(other.is_open(), "{}", other.said());
        locked(trial.open(&home).await);
        other.kill()?;
        let store = trial.open(&home).await?;
        goes_on(&store).await?;
        trial.abandon(store);
    }
    Ok(())
}

async fn lock_of_one_home_does_not_close_another<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    let other = trial.open(&trial.other_home("beside")).await?;
    goes_on(&other).await?;
    goes_on(&store).await
}

/// All files below a directory with their bytes. A file that is gone when its turn comes is a change, too.
fn snapshot(dir: &Path) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let (mut files, mut open) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = fs::read(&path)?;
                files.insert(path, bytes);
            }
        }
        files.insert(at, Vec::new());
    }
    Ok(files)
}

/// Whatever a store would clear away or mend when it is opened belongs to its owner as long as there is one.
async fn open_does_not_touch_temp_files_before_holding_lock<S: Map + Import>(
    trial: &Trial<S>,
    _: S,
) -> Outcome {
    let home = trial.other_home("theirs");
    let other = trial.open_elsewhere(home.dir())?;
    assert!(other.is_open(), "{}", other.said());
    let dirs: Vec<_> = snapshot(home.dir())?.into_keys().filter(|path| path.is_dir()).collect();
    for dir in dirs {
        for name in ["0123456789abcdef.data", ".tmp", "unfinished.tmp", "temporary"] {
            fs::write(dir.join(name), "somebody is writing this")?;
        }
    }
    let before = snapshot(home.dir())?;
    locked(trial.open(&home).await);
    let third = trial.open_elsewhere(home.dir())?;
    assert!(!third.is_open());
    let after = snapshot(home.dir())?;
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert!(before == after, "a refused opening changed a file");
    Ok(())
}
