//! What may lie where a collection is to be written: links, files, directories of others.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use blob_traits::{
    Error, ExportExt, ExportMode, ExportProgress, Hash, Import, Progress, Result, Store, TempTag,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{MODES, assert_holds, collection::stored, replacing};
use crate::{Failure, Outcome, Sample, Trial, case::group};

group! {
    "export", for S: Store;
    export_collection_preexisting_symlink_component_not_traversed,
    export_collection_preexisting_symlink_in_place_of_a_file_not_followed,
    export_collection_directory_swapped_for_a_link_meanwhile_not_followed,
    export_collection_existing_file_refused_before_first_write,
    export_collection_existing_file_replaced_as_asked,
    export_collection_what_is_no_file_is_never_replaced,
    export_collection_file_in_place_of_a_directory_refused,
    export_collection_target_created_below_what_is_there,
}

/// A collection of `other` and `dir/file`, the place for it, and what lies outside.
struct Scene {
    child: Sample,
    root: Hash,
    target: PathBuf,
    outside: PathBuf,
    _pinned: Vec<TempTag>,
}

impl Scene {
    async fn new<S: Import>(trial: &Trial<S>, store: &S) -> Result<Self, Failure> {
        let child = Sample::new(1000);
        let (root, pinned) = stored(store, &[("other", &child), ("dir/file", &child)]).await?;
        let (target, outside) = (trial.user("target"), trial.user("outside"));
        fs::create_dir(&target)?;
        fs::create_dir(&outside)?;
        fs::write(outside.join("kept"), "mine")?;
        Ok(Self { child, root, target, outside, _pinned: pinned })
    }

    /// Exports with every combination of options, or with those that replace alone; none succeeds and none writes.
    async fn refused<S: ExportExt>(&self, store: &S, replacing_only: bool) -> Result<Vec<Error>, Failure> {
        let mut errors = Vec::new();
        let before = self.names()?;
        for (mode, replaces) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
            if replacing_only && !replaces {
                continue;
            }
            let options = if replaces { replacing(mode) } else { mode.into() };
            let ended =
                store.export_collection(self.root, self.target.clone(), options, Progress::none()).await;
            errors.push(ended.err().ok_or("it was exported")?);
            assert_eq!(self.names()?, before);
            assert_eq!(fs::read(self.outside.join("kept"))?, b"mine");
        }
        Ok(errors)
    }

    /// The names in the target and outside.
    fn names(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for dir in [&self.target, &self.outside] {
            for entry in fs::read_dir(dir)? {
                names.push(entry?.path());
            }
        }
        names.sort();
        Ok(names)
    }
}

async fn export_collection_preexisting_symlink_component_not_traversed<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let scene = Scene::new(trial, &store).await?;
    fs::create_dir(scene.target.join("inside"))?;
    let link = scene.target.join("dir");
    for points_to in
        [scene.outside.clone(), "../outside".into(), "inside".into(), "nowhere".into(), "..".into()]
    {
        symlink(&points_to, &link)?;
        for error in scene.refused(&store, false).await? {
            assert!(matches!(error, Error::TargetExists { .. }), "{} {error:?}", points_to.display());
        }
        assert!(fs::read_dir(scene.target.join("inside"))?.next().is_none());
        fs::remove_file(&link)?;
    }
    Ok(())
}

async fn export_collection_preexisting_symlink_in_place_of_a_file_not_followed<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let scene = Scene::new(trial, &store).await?;
    fs::create_dir(scene.target.join("dir"))?;
    for (points_to, mode) in [("../../outside/kept", MODES[0]), ("../../outside/new", MODES[1])] {
        let link = scene.target.join("dir/file");
        symlink(points_to, &link)?;
        let target = scene.target.clone();
        let refused = store.export_collection(scene.root, target.clone(), mode, Progress::none()).await;
        assert!(matches!(refused, Err(Error::TargetExists { .. })), "{refused:?}");
        assert!(!fs::exists(target.join("other"))?, "something was written before");
        store.export_collection(scene.root, target.clone(), replacing(mode), Progress::none()).await?;
        assert!(link.symlink_metadata()?.is_file());
        assert_holds(&link, &scene.child);
        assert_eq!(fs::read(scene.outside.join("kept"))?, b"mine");
        assert_eq!(fs::read_dir(&scene.outside)?.count(), 1);
        fs::remove_file(link)?;
        fs::remove_file(target.join("other"))?;
    }
    Ok(())
}

/// Somebody who may write to the target swaps a directory once the export has looked at it.
async fn export_collection_directory_swapped_for_a_link_meanwhile_not_followed<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    if !cfg!(target_os = "linux") {
        return Err(Failure::skipped("only Linux has paths that stand for an open directory"));
    }
    let child = Sample::new(1000);
    let names: Vec<_> = (0..40).map(|number| format!("dir/{number}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), &child)).collect();
    let (root, _pinned) = stored(&store, &files).await?;
    let (target, outside) = (trial.user("target"), trial.user("outside"));
    fs::create_dir(&outside)?;
    let (dir, moved, to) = (target.join("dir"), trial.user("moved"), outside.clone());
    let is_swapped = AtomicBool::new(false);
    let progress = Progress::from_fn(move |event| {
        if matches!(event, ExportProgress::Start { .. }) && !is_swapped.swap(true, Ordering::SeqCst) {
            let swapped = fs::rename(&dir, &moved).and_then(|()| symlink(&to, &dir));
            assert!(swapped.is_ok(), "{swapped:?}");
        }
        Ok(())
    });
    let ended = store.export_collection(root, target, ExportMode::Copy, progress).await;
    assert!(trial.user("moved").is_dir(), "nothing was swapped");
    assert!(fs::read_dir(&outside)?.next().is_none(), "it was written through the link: {ended:?}");
    Ok(())
}

async fn export_collection_existing_file_refused_before_first_write<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let scene = Scene::new(trial, &store).await?;
    fs::create_dir(scene.target.join("dir"))?;
    fs::write(scene.target.join("dir/file"), "mine")?;
    for mode in MODES {
        let refused = store.export_collection(scene.root, scene.target.clone(), mode, Progress::none()).await;
        assert!(matches!(refused, Err(Error::TargetExists { .. })), "{refused:?}");
        assert_eq!(fs::read(scene.target.join("dir/file"))?, b"mine");
        assert!(!fs::exists(scene.target.join("other"))?);
    }
    Ok(())
}

async fn export_collection_existing_file_replaced_as_asked<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let scene = Scene::new(trial, &store).await?;
    fs::create_dir(scene.target.join("dir"))?;
    fs::write(scene.target.join("dir/file"), vec![7; 5000])?;
    fs::write(scene.target.join("dir/stays"), "mine")?;
    for mode in MODES {
        let target = scene.target.clone();
        store.export_collection(scene.root, target, replacing(mode), Progress::none()).await?;
        for name in ["other", "dir/file"] {
            assert_holds(&scene.target.join(name), &scene.child);
        }
        assert_eq!(fs::read(scene.target.join("dir/stays"))?, b"mine");
        assert_eq!(fs::read_dir(scene.target.join("dir"))?.count(), 2);
    }
    Ok(())
}

async fn export_collection_what_is_no_file_is_never_replaced<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let scene = Scene::new(trial, &store).await?;
    let in_the_way = scene.target.join("other");
    fs::create_dir(&in_the_way)?;
    for error in scene.refused(&store, true).await? {
        assert!(matches!(error, Error::IsADirectory { .. }), "{error:?}");
    }
    fs::remove_dir(&in_the_way)?;
    mknodat(CWD, &in_the_way, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    for error in scene.refused(&store, true).await? {
        assert!(matches!(error, Error::NotAFile { .. }), "{error:?}");
    }
    Ok(())
}

async fn export_collection_file_in_place_of_a_directory_refused<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut scene = Scene::new(trial, &store).await?;
    fs::write(scene.target.join("dir"), "mine")?;
    for error in scene.refused(&store, false).await? {
        assert!(matches!(error, Error::TargetExists { .. }), "{error:?}");
    }
    assert_eq!(fs::read(scene.target.join("dir"))?, b"mine");
    let target = std::mem::replace(&mut scene.target, trial.user_file("file", b"mine")?);
    for mode in MODES {
        let target = scene.target.clone();
        let refused = store.export_collection(scene.root, target, replacing(mode), Progress::none()).await;
        assert!(matches!(refused, Err(Error::TargetExists { .. })), "{refused:?}");
    }
    assert_eq!(fs::read(&scene.target)?, b"mine");
    assert_eq!(fs::read_dir(target)?.count(), 1);
    Ok(())
}

async fn export_collection_target_created_below_what_is_there<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let child = Sample::new(1000);
    let (root, _pinned) = stored(&store, &[("dir/file", &child)]).await?;
    let name = format!("export-{:016x}-{}", trial.seed(), std::process::id());
    for mode in MODES {
        let orphan =
            store.export_collection(root, trial.user("missing/target"), mode, Progress::none()).await;
        assert!(matches!(orphan, Err(Error::FileNotFound { .. })), "{orphan:?}");
        let relative = store.export_collection(root, name.clone().into(), mode, Progress::none()).await;
        let was_written = fs::remove_dir_all(&name).is_ok();
        assert!(matches!(relative, Err(Error::RelativePath { .. })) && !was_written, "{relative:?}");
        assert!(trial.user_names()?.is_empty());
        store.export_collection(root, trial.user("target"), mode, Progress::none()).await?;
        assert_holds(&trial.user("target/dir/file"), &child);
        fs::remove_dir_all(trial.user("target"))?;
    }
    Ok(())
}
