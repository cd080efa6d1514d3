//! Collections that somebody made to harm whoever exports them.

use std::{fs, os::unix::fs::symlink};

use blob_traits::{Collection, Hash, HashSeq};

use crate::home::{Home, files};

/// Puts a collection into the store that `add` would not make, under the tag `t`.
fn plant(home: &Home, names: &[&str]) {
    let evil = import(home, b"evil");
    plant_collection(home, &names.iter().map(|name| ((*name).to_owned(), evil)).collect());
}

fn plant_collection(home: &Home, collection: &Collection) {
    let [names, children] = collection.to_blobs();
    import(home, &names);
    plant_sequence(home, "t", &children);
}

fn plant_sequence(home: &Home, tag: &str, children: &[u8]) {
    let root = import(home, children).to_hex();
    home.run(["tag", "set", tag, &root, "--format", "hash-seq"]).succeeded();
}

fn import(home: &Home, bytes: &[u8]) -> Hash {
    home.feed(["add", "-"], bytes).succeeded().words()[0].parse().unwrap()
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
    let evil = import(&home, b"evil");
    let collection: Collection = [("a".to_owned(), evil)].into_iter().collect();
    let names = import(&home, &collection.to_blobs()[0]);
    let children: HashSeq = [names, evil, evil].into_iter().collect();
    plant_sequence(&home, "t", &children.into_inner());
    plant_sequence(&home, "u", b"no sequence");
    home.run(["export", "t", "out"]).refused(1, &["no collection", "1 names for 2 blobs"]);
    home.run(["export", "u", "out"]).refused(1, &["no collection"]);
    assert!(!home.path("out").exists());
    home.run(["export", "u", "out", "--as", "blob"]).succeeded();
}

#[test]
fn child_that_is_missing_is_named_before_the_first_write() {
    let home = Home::new();
    let (there, missing) = (import(&home, b"there"), Hash::new("missing"));
    plant_collection(&home, &[("a".to_owned(), there), ("b".to_owned(), missing)].into_iter().collect());
    home.run(["export", "t", "out"]).refused(1, &[&missing.to_hex(), "not in the store"]);
    assert!(!home.path("out").exists());
}

#[test]
fn child_that_is_partial_is_named_before_the_first_write() {
    let home = Home::new();
    let bytes = crate::home::bytes(100_000, 0);
    let partial = home.add("f", &bytes);
    home.run(["bao", "encode", &format!("{partial}:..50000"), "-o", "slice"]).succeeded();
    home.run(["rm", &partial, "--force"]).succeeded();
    home.run(["bao", "decode", "slice", "--hash", &partial, "-r", "..50000", "--import"]).succeeded();
    let there = import(&home, b"there");
    let children = [("a".to_owned(), there), ("b".to_owned(), partial.parse().unwrap())];
    plant_collection(&home, &children.into_iter().collect());
    home.run(["export", "t", "out"]).refused(1, &[&partial, "is partial"]);
    assert!(!home.path("out").exists());
}
