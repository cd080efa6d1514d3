//! Names of a collection that are never written as files, on any system.

use std::fs;

use blob_traits::{Collection, Error, ExportExt, ExportMode, Import, Progress, Store};

use super::replacing;
use crate::{Outcome, Sample, Trial, case::group};

group! {
    "export", for S: Store;
    export_collection_accepts_names_next_to_those_refused,
    export_collection_rejects_dotdot,
    export_collection_rejects_dot,
    export_collection_rejects_empty_component,
    export_collection_rejects_absolute,
    export_collection_rejects_backslash_and_unc,
    export_collection_rejects_colon_and_drive,
    export_collection_rejects_nul,
    export_collection_rejects_control_characters,
    export_collection_rejects_outer_space,
    export_collection_rejects_trailing_dot,
    export_collection_rejects_windows_reserved,
    export_collection_rejects_component_over_255_bytes,
    export_collection_rejects_path_over_4096_bytes,
    export_collection_rejects_over_128_components,
    export_collection_duplicate_names_refused_before_first_write,
    export_collection_case_colliding_names_refused_before_first_write,
    export_collection_names_equal_in_nfc_refused_before_first_write,
    export_collection_file_vs_dir_prefix_conflict_refused,
}

/// Stores a collection of these names, all of one small blob, and exports it to `target`.
async fn export_names<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: &S,
    names: &[&str],
    mode: ExportMode,
) -> blob_traits::Result<()> {
    let child = Sample::new(10);
    let _pinned = child.import(store).await?;
    let collection: Collection = names.iter().map(|name| (*name, child.hash)).collect();
    let root = collection.store(store).await?;
    store.export_collection(root.hash(), trial.user("target"), replacing(mode), Progress::none()).await
}

/// Nothing is written when one of these sets of names is exported among good ones.
async fn refused<S: Import + ExportExt>(trial: &Trial<S>, store: &S, sets: &[&[&str]]) -> Outcome {
    for (names, mode) in sets.iter().zip([ExportMode::Copy, ExportMode::TryReference].into_iter().cycle()) {
        let among_good = [&["good-first"], *names, &["good-last"]].concat();
        let ended = export_names(trial, store, &among_good, mode).await;
        assert!(matches!(ended, Err(Error::UnsafeName { .. })), "{names:?}: {ended:?}");
        assert!(trial.user_names()?.is_empty(), "{names:?}: {:?}", trial.user_names()?);
    }
    Ok(())
}

/// The same for names that are bad by themselves.
async fn each_refused<S: Import + ExportExt>(trial: &Trial<S>, store: S, names: &[&str]) -> Outcome {
    let sets: Vec<_> = names.chunks(1).collect();
    refused(trial, &store, &sets).await
}

async fn export_collection_accepts_names_next_to_those_refused<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let longest = "x".repeat(255);
    let deepest = vec!["z"; 128].join("/");
    let names = [
        "...x",
        ".hidden",
        "..a",
        "a b",
        "a..b",
        "con fig",
        "com10",
        "console",
        "nulls.txt",
        "lpt",
        "~",
        "%2e%2e",
        "größe/日本語.tar.gz",
        "ı",
        "i",
        "a/b",
        "a-b",
        "a.b",
        "x\u{a0}",
        &longest,
        &deepest,
    ];
    export_names(trial, &store, &names, ExportMode::Copy).await?;
    for name in names {
        assert_eq!(fs::read(trial.user("target").join(name))?, Sample::new(10).data, "{name}");
    }
    Ok(())
}

async fn export_collection_rejects_dotdot<S: Import + ExportExt>(trial: &Trial<S>, store: S) -> Outcome {
    each_refused(trial, store, &["..", "../escaped", "a/..", "a/../b", "a/../../escaped"]).await
}

async fn export_collection_rejects_dot<S: Import + ExportExt>(trial: &Trial<S>, store: S) -> Outcome {
    each_refused(trial, store, &[".", "./a", "a/.", "a/./b"]).await
}

async fn export_collection_rejects_empty_component<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    each_refused(trial, store, &["", "a/", "a//b"]).await
}

async fn export_collection_rejects_absolute<S: Import + ExportExt>(trial: &Trial<S>, store: S) -> Outcome {
    let escaped = trial.user("escaped").display().to_string();
    each_refused(trial, store, &["/", &escaped, "//server/share"]).await
}

async fn export_collection_rejects_backslash_and_unc<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    each_refused(trial, store, &["a\\b", "..\\escaped", "\\\\server\\share\\a", "a/b\\"]).await
}

async fn export_collection_rejects_colon_and_drive<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    each_refused(trial, store, &["C:", "c:a", "C:/a", "dir/file.txt:stream"]).await
}

async fn export_collection_rejects_nul<S: Import + ExportExt>(trial: &Trial<S>, store: S) -> Outcome {
    each_refused(trial, store, &["\0", "a\0b", "dir\0/a", "a\0"]).await
}

async fn export_collection_rejects_control_characters<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    each_refused(trial, store, &["a\nb", "\u{1b}[2J", "dir/\u{7f}", "\u{9b}31m", "a\tb/c"]).await
}

async fn export_collection_rejects_outer_space<S: Import + ExportExt>(trial: &Trial<S>, store: S) -> Outcome {
    each_refused(trial, store, &[" a", "a ", "dir /a", "dir/ a", " "]).await
}

async fn export_collection_rejects_trailing_dot<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    each_refused(trial, store, &["a.", "...", "dir./a", "dir/a.."]).await
}

async fn export_collection_rejects_windows_reserved<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let names = [
        "CON",
        "prn",
        "Aux.txt",
        "dir/nul",
        "NUL/a",
        "com1",
        "LPT9.tar.gz",
        "COM²",
        "nul .txt",
        "conin$",
        "CONOUT$",
    ];
    each_refused(trial, store, &names).await
}

async fn export_collection_rejects_component_over_255_bytes<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let long = "x".repeat(256);
    each_refused(trial, store, &[&long, &format!("dir/{long}/a"), &"ö".repeat(128)]).await
}

async fn export_collection_rejects_path_over_4096_bytes<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    // 16 components with 255 slashes and bytes each, and a last one that makes 4097.
    let over = format!("{}/y", vec!["y".repeat(255); 16].join("/"));
    each_refused(trial, store, &[&over, &vec!["y".repeat(200); 30].join("/")]).await
}

async fn export_collection_rejects_over_128_components<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    each_refused(trial, store, &[&vec!["z"; 129].join("/"), &vec!["dir"; 500].join("/")]).await
}

async fn export_collection_duplicate_names_refused_before_first_write<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    refused(trial, &store, &[&["a", "a"], &["dir/a", "b", "dir/a"]]).await
}

async fn export_collection_case_colliding_names_refused_before_first_write<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sets: [&[&str]; 5] = [
        &["README", "readme"],
        &["DIR/a", "dir/a"],
        &["straße", "STRASSE"],
        &["ΣΑΣ", "σας"],
        &["\u{212a}", "k"],
    ];
    refused(trial, &store, &sets).await
}

async fn export_collection_names_equal_in_nfc_refused_before_first_write<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sets: [&[&str]; 3] =
        [&["\u{e9}", "e\u{301}"], &["dir/\u{c5}", "dir/A\u{30a}"], &["\u{c9}t\u{c9}", "e\u{301}te\u{301}"]];
    refused(trial, &store, &sets).await
}

async fn export_collection_file_vs_dir_prefix_conflict_refused<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sets: [&[&str]; 4] =
        [&["a", "a/b"], &["a/b", "a-b", "a"], &["dir/X", "dir/x/y/z"], &["a/e\u{301}", "a/\u{e9}/b"]];
    refused(trial, &store, &sets).await
}
