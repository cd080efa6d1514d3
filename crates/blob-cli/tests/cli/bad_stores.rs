//! Stores that cannot be used, or not as they were left.

use std::{fs, path::PathBuf};

use blob_traits::bao_tree::blake3;

use crate::home::{Home, bytes};

fn segment(home: &Home) -> PathBuf {
    let mut segments: Vec<_> =
        fs::read_dir(home.store().join("log")).unwrap().map(|e| e.unwrap().path()).collect();
    segments.sort();
    segments.pop().unwrap()
}

#[test]
fn store_of_a_newer_format_is_left_alone() {
    let home = Home::new();
    home.add("f", "f");
    let segment = segment(&home);
    let mut content = fs::read(&segment).unwrap();
    content[8] = 99;
    let header = usize::from(u16::from_le_bytes([content[10], content[11]])) * 4096;
    let check = blake3::hash(&content[..header - 8]);
    content[header - 8..header].copy_from_slice(&check.as_bytes()[..8]);
    fs::write(&segment, &content).unwrap();
    for args in [&["ls"][..], &["add", "f"]] {
        home.run(args).refused(1, &["99", "newer release"]);
        assert_eq!(fs::read(&segment).unwrap(), content);
    }
}

#[test]
fn torn_end_of_the_log_loses_nothing_that_was_acknowledged() {
    let home = Home::new();
    let hash = home.add("f", bytes(5000, 0));
    let segment = segment(&home);
    let mut content = fs::read(&segment).unwrap();
    content.extend_from_slice(&bytes(700, 1));
    fs::write(&segment, content).unwrap();
    assert_eq!(home.run(["cat", &hash]).succeeded().out, bytes(5000, 0));
    let second = home.add("g", "after");
    assert_eq!(home.run(["cat", &second]).succeeded().out, b"after");
}

#[test]
fn damaged_index_is_an_error_or_made_again_but_never_wrong() {
    let home = Home::new();
    let hash = home.add("f", bytes(5000, 0));
    fs::write(home.store().join("index.redb"), bytes(20_000, 2)).unwrap();
    let run = home.run(["cat", &hash]);
    match run.code {
        Some(0) => assert_eq!(run.out, bytes(5000, 0)),
        _ => drop(run.refused(5, &["index.redb", "damaged", "hint"])),
    }
}

#[test]
fn damaged_bytes_are_never_served() {
    let home = Home::new();
    let all = bytes(400_000, 0);
    let hash = home.add("f", &all);
    let data = walkdir::WalkDir::new(home.store().join("data")).into_iter().map(Result::unwrap);
    let data = data.into_iter().find(|entry| entry.path().extension().is_some_and(|e| e == "data")).unwrap();
    let mut content = fs::read(data.path()).unwrap();
    content[200_000] ^= 1;
    fs::write(data.path(), content).unwrap();
    assert_eq!(home.run(["cat", &format!("{hash}:0..100000")]).succeeded().out, all[..100_000]);
    home.run(["cat", &format!("{hash}:199000..201000")]).refused(5, &[&hash, "damaged"]);
    home.run(["get", &hash, "-o", "out"]).exited(5);
    home.run(["export", &hash, "out"]).exited(5);
    assert!(!home.path("out").exists());
}
