//! What goes in comes out.

use std::{fs, os::unix::fs::symlink};

use crate::home::{Home, bytes, files};

/// Sizes around chunks, chunk groups, the threshold of files, and pieces.
const SIZES: [usize; 14] = [
    0,
    1,
    1023,
    1024,
    1025,
    16_383,
    16_384,
    16_385,
    65_535,
    65_536,
    65_537,
    1 << 20,
    (1 << 20) + 1,
    3_000_000,
];

fn tree(home: &Home) {
    for (i, size) in SIZES.into_iter().enumerate() {
        let depth = "d/".repeat(i % 4);
        home.write(&format!("tree/{depth}size {size}"), bytes(size, u8::try_from(i).unwrap()));
    }
    home.write("tree/größe/日本語", "names");
    home.write("tree/.hidden/..x", "dots");
}

#[test]
fn directory_comes_back_byte_for_byte() {
    let home = Home::new();
    tree(&home);
    let added = home.run(["add", "-r", "tree", "--tag", "t"]).succeeded();
    assert_eq!(added.words()[1..], ["t", "tree"]);
    home.run(["export", "t", "out"]).succeeded();
    assert_eq!(files(&home.path("tree")), files(&home.path("out")));
    home.run(["export", &added.words()[0], "by-hash"]).succeeded();
    assert_eq!(files(&home.path("tree")), files(&home.path("by-hash")));
}

#[test]
fn the_same_directory_has_the_same_hash() {
    let home = Home::new();
    tree(&home);
    let first = home.run(["add", "-r", "tree"]).succeeded().words();
    let second = home.run(["add", "-r", "./tree/"]).succeeded().words();
    assert_eq!(first[0], second[0]);
    assert_ne!(first[1], second[1]);
}

#[test]
fn hashes_are_those_of_blake3() {
    let home = Home::new();
    for size in SIZES {
        let bytes = bytes(size, 7);
        assert_eq!(home.add("file", &bytes), blob_traits::Hash::new(&bytes).to_hex(), "{size}");
    }
}

#[test]
fn single_file_is_exported_to_a_file() {
    let home = Home::new();
    let hash = home.add("file", bytes(100_000, 1));
    home.run(["export", &hash, "out"]).succeeded();
    assert_eq!(fs::read(home.path("out")).unwrap(), bytes(100_000, 1));
    home.write("out", "something else");
    home.run(["export", &hash, "out"]).refused(4, &["out exists already", "--force"]);
    assert_eq!(fs::read(home.path("out")).unwrap(), b"something else");
    home.run(["export", &hash, "out", "--force"]).succeeded();
    assert_eq!(fs::read(home.path("out")).unwrap(), bytes(100_000, 1));
    home.run(["export", &hash, "."]).refused(1, &["is a directory", "name a file"]);
}

#[test]
fn export_merges_into_a_directory_but_replaces_nothing_unasked() {
    let home = Home::new();
    home.write("in/a", "new a");
    home.write("in/sub/b", "new b");
    home.run(["add", "-r", "in", "--tag", "t"]).succeeded();
    home.write("out/other", "kept");
    home.write("out/sub/b", "old b");
    home.run(["export", "t", "out"]).refused(4, &["out/sub/b exists already", "--force"]);
    assert!(!home.path("out/a").exists(), "nothing was written before the refusal");
    home.run(["export", "t", "out", "--force"]).succeeded();
    assert_eq!(fs::read(home.path("out/sub/b")).unwrap(), b"new b");
    assert_eq!(fs::read(home.path("out/other")).unwrap(), b"kept");
}

#[test]
fn standard_input_is_a_blob() {
    let home = Home::new();
    let input = bytes(300_000, 3);
    let added = home.feed(["add", "-", "--tag", "in"], &input).succeeded();
    assert_eq!(added.words()[0], blob_traits::Hash::new(&input).to_hex());
    assert_eq!(home.run(["cat", "in"]).succeeded().out, input);
}

#[test]
fn referenced_file_is_used_in_place_and_never_served_when_changed() {
    let home = Home::new();
    let file = home.write("big", bytes(500_000, 4));
    home.run(["add", "--reference", "big", "--tag", "t"]).succeeded();
    assert_eq!(home.run(["cat", "t"]).succeeded().out, bytes(500_000, 4));
    let mut changed = bytes(500_000, 4);
    changed[250_000] ^= 1;
    fs::write(&file, changed).unwrap();
    let read = home.run(["cat", "t:240000..260000"]).refused(5, &["big", "changed", "add the file again"]);
    assert!(read.out.is_empty());
    home.run(["get", "t", "-o", "out"]).refused(5, &["changed"]);
    assert!(!home.path("out").exists());
}

#[test]
fn many_paths_are_added_past_a_bad_one() {
    let home = Home::new();
    home.write("a", "a");
    home.write("b", "b");
    let added = home.run(["add", "a", "missing", "b"]).refused(3, &["no file", "missing"]);
    assert_eq!(added.text().lines().count(), 2);
    home.run(["add", "--tag", "one", "a", "b"]).refused(2, &["--tag needs a single PATH"]);
}

#[test]
fn special_entries_are_skipped_on_request_with_a_warning() {
    let home = Home::new();
    home.write("in/a", "a");
    symlink("a", home.path("in/link")).unwrap();
    home.run(["add", "-r", "in"]).refused(1, &["in/link", "symbolic link", "--skip-special"]);
    home.run(["add", "-r", "in", "--skip-special", "--tag", "t"])
        .succeeded()
        .refused(0, &["warning", "in/link"]);
    home.run(["export", "t", "out"]).succeeded();
    assert_eq!(files(&home.path("out")).len(), 1);
}

#[test]
fn store_inside_the_directory_is_left_out() {
    let home = Home::new();
    home.write("a", "a");
    home.run(["add", "a"]).succeeded();
    home.run(["add", "-r", ".", "--tag", "t"]).refused(0, &["left out", "the store"]);
    home.run(["export", "t", "out"]).succeeded();
    assert_eq!(files(&home.path("out")).len(), 1);
}

#[test]
fn name_that_cannot_be_exported_is_warned_of() {
    let home = Home::new();
    home.write("in/a:b", "a");
    home.run(["add", "-r", "in", "--tag", "t"]).refused(0, &["will refuse this collection", "colon"]);
    home.run(["export", "t", "out"]).refused(4, &["a:b", "colon", "blob ls"]);
    assert!(!home.path("out").exists());
    let hash = home.run(["ls", "t"]).succeeded().words()[0].clone();
    assert_eq!(home.run(["cat", &hash]).succeeded().out, b"a");
}
