//! Tags and removal.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use crate::home::Home;

#[test]
fn tags_are_set_listed_renamed_and_removed() {
    let home = Home::new();
    let hash = home.add("f", "f");
    home.run(["tag", "set", "b", &hash]).succeeded();
    home.run(["tag", "set", "a", "b"]).succeeded();
    let listed = home.run(["tag", "ls"]).succeeded().text();
    let names: Vec<_> = listed.lines().map(|line| line.rsplit_once("  ").unwrap().1).collect();
    assert_eq!(names[..1], ["a"]);
    assert_eq!(home.run(["tag", "ls", "b"]).succeeded().words(), [hash.as_str(), "raw", "b"]);
    home.run(["tag", "mv", "a", "c"]).succeeded();
    home.run(["tag", "mv", "c", "b"]).refused(4, &["tag \"b\" exists already", "--force"]);
    home.run(["tag", "mv", "c", "b", "--force"]).succeeded();
    home.run(["tag", "mv", "c", "d"]).refused(1, &["no tag \"c\"", "blob tag ls"]);
    home.run(["tag", "rm", "b"]).succeeded();
    home.run(["tag", "rm", "b"]).refused(1, &["no tag \"b\""]);
}

#[test]
fn tag_of_a_collection_keeps_its_children() {
    let home = Home::new();
    home.write("in/a", "a");
    let hash = home.run(["add", "-r", "in", "--tag", "t"]).succeeded().words()[0].clone();
    home.run(["tag", "set", "u", &hash]).succeeded();
    assert_eq!(home.run(["tag", "ls", "u"]).succeeded().words()[1], "hash-seq");
    home.run(["tag", "set", "u", &hash, "--format", "raw"]).succeeded();
    assert_eq!(home.run(["tag", "ls", "u"]).succeeded().words()[1], "raw");
}

#[test]
fn tag_for_a_blob_to_come_is_warned_of() {
    let home = Home::new();
    home.run(["tag", "set", "later", &"0".repeat(64)]).refused(0, &["warning", "not in the store"]);
    assert_eq!(home.run(["tag", "ls"]).succeeded().words()[2], "later");
}

#[test]
fn names_are_escaped_when_they_are_printed() {
    let home = Home::new();
    let hash = home.add("f", "f");
    let evil = OsStr::from_bytes(b"evil\x1b[31m\xff");
    home.run([OsStr::new("tag"), OsStr::new("set"), evil, OsStr::new(&hash)]).succeeded();
    let listed = home.run(["tag", "ls", "evil"]).succeeded();
    assert!(listed.text().ends_with("evil\\x1b[31m\\xff\n"), "{}", listed.text());
    let json = home.run(["tag", "ls", "evil", "--json"]).succeeded().json();
    assert_eq!(json["tags"][0]["tag_hex"], "6576696c1b5b33316dff");
    assert_eq!(home.run([OsStr::new("cat"), evil]).succeeded().out, b"f");
    let missing = home.run([OsStr::new("cat"), OsStr::from_bytes(b"no\x1b[2J")]).exited(1);
    assert!(!missing.err.contains('\u{1b}'));
}

#[test]
fn blob_that_a_tag_reaches_is_removed_by_force_only() {
    let home = Home::new();
    home.write("in/a", "child");
    home.run(["add", "-r", "in", "--tag", "t"]).succeeded();
    let child = home.run(["ls", "t"]).succeeded().words()[0].clone();
    home.run(["rm", &child]).refused(4, &["tag \"t\"", &child, "--force"]);
    assert_eq!(home.run(["cat", &child]).succeeded().out, b"child");
    home.run(["rm", &child, "--force"]).succeeded();
    home.run(["cat", &child]).refused(1, &["not in the store"]);
    home.run(["export", "t", "out"]).refused(1, &[&child, "not in the store"]);
    assert!(!home.path("out").exists());
}

#[test]
fn untagged_blob_is_removed_and_others_are_past_failures() {
    let home = Home::new();
    let hash = home.feed(["add", "-"], b"input").succeeded().words()[0].clone();
    let tag = home.run(["tag", "ls"]).succeeded().words()[2].clone();
    home.run(["rm", &tag, "missing", &hash]).refused(3, &["no tag \"missing\""]);
    home.run(["rm", &hash]).refused(1, &["not in the store"]);
    assert_eq!(home.run(["ls"]).succeeded().text(), "");
}
