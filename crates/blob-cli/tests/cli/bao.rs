//! Verified slices in files.

use std::fs;

use blob_traits::{
    BLOCK_SIZE,
    bao_tree::{ByteRanges, io::outboard::PreOrderMemOutboard, io::round_up_to_chunks, io::sync},
};

use crate::home::{Home, bytes};

#[test]
fn slice_goes_from_store_to_file_to_bytes() {
    let home = Home::new();
    for size in [0, 1, 1024, 16_384, 16_385, 200_000] {
        let all = bytes(size, 1);
        let hash = home.add("f", &all);
        home.run(["bao", "encode", &hash, "-o", "slice", "--force"]).succeeded();
        assert_eq!(home.run(["bao", "decode", "slice", "--hash", &hash]).succeeded().out, all, "{size}");
    }
}

#[test]
fn stream_is_that_of_bao_tree_behind_the_size() {
    let home = Home::new();
    let all = bytes(200_000, 2);
    let hash = home.add("f", &all);
    let encoded = home.run(["bao", "encode", &format!("{hash}:1000..40000,150000..150001")]).succeeded().out;
    let outboard = PreOrderMemOutboard::create(&all, BLOCK_SIZE);
    let ranges = round_up_to_chunks(&(ByteRanges::from(1000..40_000) | ByteRanges::from(150_000..150_001)));
    let mut expected = 200_000_u64.to_le_bytes().to_vec();
    sync::encode_ranges_validated(&all, &outboard, &ranges, &mut expected).unwrap();
    assert_eq!(encoded, expected);
    let range = ["-r", "1000..40000,150000..150001"];
    let decoded =
        home.feed(["bao", "decode", "-", "--hash", &hash, range[0], range[1]], &encoded).succeeded();
    assert_eq!(decoded.out, [&all[1000..40_000], &all[150_000..150_001]].concat());
}

#[test]
fn outboard_is_that_of_bao_tree() {
    let home = Home::new();
    for size in [0, 16_384, 16_385, 100_000, 1_000_000] {
        let all = bytes(size, 3);
        let hash = home.add("f", &all);
        let outboard = home.run(["bao", "outboard", &hash]).succeeded().out;
        assert_eq!(outboard, PreOrderMemOutboard::create(&all, BLOCK_SIZE).data, "{size}");
    }
}

#[test]
fn slices_make_a_blob_whole() {
    let home = Home::new();
    let all = bytes(300_000, 4);
    let hash = home.add("f", &all);
    for (name, range) in [("first", "..100000"), ("second", "100000..")] {
        home.run(["bao", "encode", &format!("{hash}:{range}"), "-o", name]).succeeded();
    }
    let other = home.path("other");
    let run = |args: &[&str]| home.command(args).env("BLOB_STORE", &other).output().unwrap();
    let run = |args: &[&str]| crate::home::Run::from(run(args));
    let import =
        |name, range| run(&["bao", "decode", name, "--hash", &hash, "-r", range, "--import", "--tag", "t"]);
    assert!(import("first", "..100000").succeeded().text().ends_with("partial\n"));
    assert_eq!(run(&["ls", "--partial"]).succeeded().words(), [hash.as_str()]);
    assert_eq!(run(&["cat", "t:5..50000"]).succeeded().out, all[5..50_000]);
    for refused in
        [vec!["cat", "t"], vec!["get", "t", "-o", "x"], vec!["export", "t", "x"], vec!["bao", "encode", "t"]]
    {
        let refused = run(&refused).refused(1, &["is partial", &hash, "blob stat"]);
        assert!(refused.out.is_empty() && !home.path("x").exists());
    }
    assert!(import("second", "100000..").succeeded().text().ends_with("complete\n"));
    assert_eq!(run(&["cat", "t"]).succeeded().out, all);
}

#[test]
fn wrong_stream_is_refused_and_leaves_nothing() {
    let home = Home::new();
    let hash = home.add("f", bytes(100_000, 5));
    home.run(["bao", "encode", &hash, "-o", "slice"]).succeeded();
    let good = fs::read(home.path("slice")).unwrap();
    let mut flipped = good.clone();
    flipped[50_000] ^= 1;
    let mut longer = good.clone();
    longer.push(0);
    let mut resized = good.clone();
    resized[7] = 0x7f;
    for (name, bytes, word) in [
        ("flipped", &flipped[..], "does not belong"),
        ("cut", &good[..good.len() - 1], "cut off"),
        ("headless", &good[..3], "cut off"),
        ("longer", &longer[..], "does not end"),
        ("resized", &resized[..], "does not belong"),
    ] {
        home.write(name, bytes);
        home.run(["bao", "decode", name, "--hash", &hash, "-o", "out"]).refused(5, &[word, "-r"]);
        assert!(!home.path("out").exists(), "{name}");
    }
    assert_eq!(fs::read_dir(home.path(".")).unwrap().filter(|e| hidden(e.as_ref().unwrap())).count(), 0);
    home.run(["bao", "decode", "slice", "--hash", &hash, "-r", "0..10"]).exited(5);
    home.run(["bao", "decode", "slice", "--hash", "xyz"]).refused(2, &["xyz"]);
}

fn hidden(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with('.')
}
