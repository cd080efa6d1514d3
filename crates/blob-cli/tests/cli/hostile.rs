//! Collections that somebody made to harm whoever exports them.

use std::{fs, os::unix::fs::symlink};

use blob_fs::{FsStore, Options};
use blob_traits::{BlobFormat, Collection, Hash, HashSeq, prelude::*};

use crate::home::{Home, files};

/// Puts a collection into the store that `add` would not make, under the tag `t`.
fn plant(home: &Home, names: &[&str]) {
    with_store(home, async |store| {
        let pinned = store.import_bytes("evil".into(), BlobFormat::Raw).await.unwrap();
        let collection: Collection = names.iter().map(|name| ((*name).to_owned(), pinned.hash())).collect();
        let root = collection.store(store).await.unwrap();
        store.set_tag("t".into(), Some(root.hash_and_format())).await.unwrap();
    });
}

fn with_store(home: &Home, work: impl AsyncFnOnce(&FsStore)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = FsStore::open(Options::new(home.store())).await.unwrap();
        work(&store).await;
        store.shutdown().await.unwrap();
    });
}

#[test]
fn unsafe_names_are_refused_before_the_first_write() {
    let long = "x".repeat(256);
    for names in [
        &["ok", "../evil"][..],
        &["ok", "a/../../evil"],
        &["ok", "/tmp/evil"],
        &["ok", "C:evil"],
        &["ok", "\\\\server\\evil"],
        &["ok", "a\0b"],
        &["ok", "a\u{1b}[2J"],
        &["ok", ""],
        &["ok", "."],
        &["ok", "nul.txt"],
        &["ok", "dot."],
        &["ok", &long],
        &["ok", "OK"],
        &["ok", "ok/below"],
    ] {
        let home = Home::new();
        plant(&home, names);
        let refused = home.run(["export", "t", "out"]).refused(4, &["cannot be exported"]);
        assert!(!home.path("out").exists(), "{names:?}");
        assert!(!refused.err.contains('\u{1b}'), "names are escaped");
        assert_eq!(home.run(["ls", "t"]).succeeded().text().matches("  ").count(), 2);
    }
}

#[test]
fn planted_links_are_not_followed() {
    let home = Home::new();
    plant(&home, &["dir/evil", "other"]);
    fs::create_dir(home.path("outside")).unwrap();
    fs::create_dir(home.path("out")).unwrap();
    symlink("../outside", home.path("out/dir")).unwrap();
    home.run(["export", "t", "out"]).refused(4, &["out/dir"]);
    home.run(["export", "t", "out", "--force"])
        .refused(4, &["out/dir is in the way", "links are not followed"]);
    assert!(files(&home.path("outside")).is_empty() && !home.path("out/other").exists());
}

#[test]
fn link_in_place_of_a_file_is_replaced_itself() {
    let home = Home::new();
    plant(&home, &["file"]);
    home.write("outside", "precious");
    fs::create_dir(home.path("out")).unwrap();
    symlink("../outside", home.path("out/file")).unwrap();
    home.run(["export", "t", "out"]).refused(4, &["out/file exists already"]);
    home.run(["export", "t", "out", "--force"]).succeeded();
    assert_eq!(fs::read(home.path("outside")).unwrap(), b"precious");
    assert_eq!(files(&home.path("out")), [("file".into(), b"evil".to_vec())]);
}

#[test]
fn names_and_children_must_agree() {
    let home = Home::new();
    with_store(&home, async |store| {
        let evil = store.import_bytes("evil".into(), BlobFormat::Raw).await.unwrap();
        let collection: Collection = [("a".to_owned(), evil.hash())].into_iter().collect();
        let [names, _] = collection.to_blobs();
        let names = store.import_bytes(names, BlobFormat::Raw).await.unwrap();
        let children: HashSeq = [names.hash(), evil.hash(), evil.hash()].into_iter().collect();
        let root = store.import_bytes(children.into_inner(), BlobFormat::HashSeq).await.unwrap();
        store.set_tag("t".into(), Some(root.hash_and_format())).await.unwrap();
        let raw = store.import_bytes("no sequence".into(), BlobFormat::HashSeq).await.unwrap();
        store.set_tag("u".into(), Some(raw.hash_and_format())).await.unwrap();
    });
    home.run(["export", "t", "out"]).refused(1, &["no collection", "1 names for 2 blobs"]);
    home.run(["export", "u", "out"]).refused(1, &["no collection"]);
    home.run(["export", "u", "out", "--as", "blob"]).succeeded();
}

#[test]
fn child_that_is_missing_is_named_before_the_first_write() {
    let home = Home::new();
    let missing = Hash::new("missing");
    with_store(&home, async |store| {
        let there = store.import_bytes("there".into(), BlobFormat::Raw).await.unwrap();
        let collection: Collection =
            [("a".to_owned(), there.hash()), ("b".to_owned(), missing)].into_iter().collect();
        let root = collection.store(store).await.unwrap();
        store.set_tag("t".into(), Some(root.hash_and_format())).await.unwrap();
    });
    home.run(["export", "t", "out"]).refused(1, &[&missing.to_hex(), "not in the store"]);
    assert!(!home.path("out").exists());
}
