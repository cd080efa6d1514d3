//! Collection: what no tag keeps goes, and nothing else.

use std::{fs, io::Write, path::PathBuf, process::Command};

use crate::{
    home::{Home, Run, bytes, files},
    processes::{send, wait_until_open},
};

/// A store with a tagged collection of two files, and a tagged blob.
fn kept() -> Home {
    let home = Home::new();
    home.write("in/a", "first");
    home.write("in/b", bytes(200_000, 1));
    home.run(["add", "-r", "in", "--tag", "t"]).succeeded();
    home.write("one", "one");
    home.run(["add", "one", "--tag", "one"]).succeeded();
    home
}

/// Adds something that no tag keeps, and returns its hash.
fn add_loose(home: &Home, content: &[u8]) -> String {
    home.write("loose", content);
    let words = home.run(["add", "loose", "--tag", "loose"]).succeeded().words();
    home.run(["tag", "rm", "loose"]).succeeded();
    words[0].clone()
}

/// Begins a blob of which the first half is there.
fn add_partial(home: &Home, seed: u8) -> String {
    let other = Home::new();
    let hash = other.add("f", bytes(200_000, seed));
    other.run(["bao", "encode", &format!("{hash}:0..65536"), "-o", "s"]).succeeded();
    fs::copy(other.path("s"), home.path("s")).unwrap();
    home.run(["bao", "decode", "s", "--hash", &hash, "-r", "0..65536", "--import", "--tag", "p"]).succeeded();
    home.run(["tag", "rm", "p"]).succeeded();
    hash
}

/// Tags a blob as a hash sequence.
fn plant_sequence(home: &Home, content: &[u8]) -> String {
    let hash = home.feed(["add", "-"], content).succeeded().words()[0].clone();
    home.run(["tag", "rm", &home.run(["tag", "ls", "auto-"]).succeeded().words()[2]]).succeeded();
    home.run(["tag", "set", "planted", &hash, "--format", "hash-seq"]).succeeded();
    hash
}

fn summary(run: &Run) -> serde_json::Value {
    run.json_lines().pop().unwrap()
}

/// The file with the bytes of the only large blob of that size.
fn data_file(home: &Home, len: u64) -> PathBuf {
    let entries = walkdir::WalkDir::new(home.store().join("data")).into_iter().map(Result::unwrap);
    entries.into_iter().find(|e| e.metadata().unwrap().len() == len).unwrap().into_path()
}

#[test]
fn what_no_tag_keeps_goes_and_nothing_else() {
    let home = kept();
    let before = home.run(["ls"]).succeeded().text();
    let loose: Vec<_> = (0..5).map(|i| add_loose(&home, &bytes(100_000, 10 + i))).collect();
    home.run(["gc"]).succeeded();
    assert_eq!(home.run(["ls"]).succeeded().text(), before);
    for hash in &loose {
        home.run(["cat", hash]).refused(1, &["not in the store"]);
    }
    home.run(["export", "t", "out"]).succeeded();
    assert_eq!(files(&home.path("in")), files(&home.path("out")));
    assert_eq!(home.run(["cat", "one"]).succeeded().out, b"one");
    assert_eq!(summary(&home.run(["gc", "--json"]).succeeded())["deleted"], 0);
}

#[test]
fn collection_goes_with_its_tag_but_for_what_others_keep() {
    let home = kept();
    let child = home.run(["ls", "t"]).succeeded().words()[0].clone();
    home.run(["tag", "set", "child", &child]).succeeded();
    home.run(["tag", "rm", "t"]).succeeded();
    let done = home.run(["gc"]).succeeded().text();
    assert!(done.starts_with("deleted 3 complete and 0 partial blobs"), "{done}");
    assert_eq!(home.run(["ls"]).succeeded().words().len(), 2);
    assert_eq!(home.run(["cat", "child"]).succeeded().out, b"first");
}

#[test]
fn dry_run_names_what_would_go_and_changes_nothing() {
    let home = kept();
    let mut garbage = vec![(add_loose(&home, b"loose"), "complete", 5)];
    garbage.push((add_partial(&home, 3), "partial", 65_536));
    garbage.sort();
    let listed = [home.run(["ls"]).succeeded().text(), home.run(["ls", "--partial"]).succeeded().text()];
    let lines = home.run(["gc", "--dry-run"]).succeeded().text();
    let lines: Vec<Vec<_>> = lines.lines().map(|line| line.split_whitespace().collect()).collect();
    for (line, (hash, status, size)) in lines.iter().zip(&garbage) {
        assert_eq!(line[2..], [hash, *status, &size.to_string()]);
    }
    assert_eq!(lines[2][..7], ["would", "delete", "1", "complete", "and", "1", "partial"]);
    let run = home.run(["gc", "--dry-run", "--json"]).succeeded();
    let items: Vec<_> = run.json_lines().into_iter().filter(|line| line["type"] == "item").collect();
    assert_eq!((items[0]["hash"].as_str(), items.len()), (Some(garbage[0].0.as_str()), 2));
    assert_eq!((summary(&run)["bytes"].as_u64(), summary(&run)["deleted"].as_u64()), (Some(65_541), Some(2)));
    let after = [home.run(["ls"]).succeeded().text(), home.run(["ls", "--partial"]).succeeded().text()];
    assert_eq!(listed, after);
}

#[test]
fn partial_blob_goes_unless_a_tag_keeps_it() {
    let home = kept();
    let hash = add_partial(&home, 4);
    home.run(["tag", "set", "later", &hash]).succeeded();
    home.run(["gc"]).succeeded();
    assert_eq!(home.run(["ls", "--partial"]).succeeded().words(), [hash]);
    home.run(["tag", "rm", "later"]).succeeded();
    let run = home.run(["gc", "--json"]).succeeded();
    assert_eq!((summary(&run)["partial"].as_u64(), summary(&run)["complete"].as_u64()), (Some(1), Some(0)));
    assert_eq!(summary(&run)["bytes"], 65_536, "what was there of it");
    assert_eq!(home.run(["ls", "--partial"]).succeeded().text(), "");
    assert!(files(&home.store().join("partial")).is_empty());
}

#[test]
fn enough_is_deleted_and_not_more() {
    let home = kept();
    (0..8).for_each(|i| drop(add_loose(&home, &bytes(10_000, 20 + i))));
    let loose = home.run(["ls", "--untagged"]).succeeded().words();
    let would = home.run(["gc", "--dry-run", "--ensure-free", "25KiB"]).succeeded().text();
    assert_eq!(would.lines().count(), 4);
    let run = home.run(["gc", "--ensure-free", "25KiB", "--json"]).succeeded();
    assert_eq!((summary(&run)["deleted"].as_u64(), summary(&run)["bytes"].as_u64()), (Some(3), Some(30_000)));
    assert_eq!(home.run(["ls", "--untagged"]).succeeded().words(), loose[3..]);
    assert_eq!(summary(&home.run(["gc", "--ensure-free", "0", "--json"]).succeeded())["deleted"], 0);
    assert_eq!(summary(&home.run(["gc", "--ensure-free", "1GiB", "--json"]).succeeded())["deleted"], 5);
}

#[test]
fn store_without_tags_is_collected_only_when_that_is_meant() {
    let home = Home::new();
    let hash = add_loose(&home, b"loose");
    for args in [&["gc"][..], &["gc", "--dry-run"]] {
        home.run(args).refused(4, &["all of them", "hint: nothing was deleted", "--allow-empty"]);
        let lines = home.run([args, &["--json"]].concat()).exited(4).json_lines();
        assert_eq!((lines[0]["code"].as_str(), lines[0]["exit"].as_u64()), (Some("no-roots"), Some(4)));
    }
    assert_eq!(home.run(["ls", "--untagged"]).succeeded().words(), [hash.as_str()]);
    let would = home.run(["gc", "--dry-run", "--allow-empty"]).succeeded().words();
    assert_eq!(would[2], hash);
    home.run(["gc", "--allow-empty"]).succeeded();
    assert_eq!(home.run(["ls"]).succeeded().text(), "");
    home.run(["gc"]).succeeded();
}

#[test]
fn damaged_hash_sequence_is_refused_and_nothing_is_lost() {
    let home = kept();
    let loose = add_loose(&home, b"loose");
    let sequence = plant_sequence(&home, &bytes(320_000, 5));
    let file = data_file(&home, 320_000);
    let good = fs::read(&file).unwrap();
    let mut content = good.clone();
    content[319_000] ^= 1;
    fs::write(&file, content).unwrap();
    let before = home.run(["ls"]).succeeded().text();
    for args in [&["gc"][..], &["gc", "--dry-run"], &["rm", &loose], &["ls", "--untagged"], &["why", &loose]]
    {
        home.run(args).refused(5, &[&sequence, "cannot be read", "hint: nothing was deleted", "tag ls"]);
    }
    let lines = home.run(["gc", "--json"]).exited(5).json_lines();
    assert_eq!(
        (lines[0]["code"].as_str(), lines[0]["hash"].as_str()),
        (Some("unreadable-sequence"), Some(&*sequence))
    );
    assert_eq!(home.run(["ls"]).succeeded().text(), before);
    fs::write(&file, good).unwrap();
    assert_eq!(summary(&home.run(["gc", "--json"]).succeeded())["deleted"], 1);
}

#[test]
fn blob_that_is_no_sequence_is_refused_until_its_tag_says_so() {
    let home = kept();
    let loose = add_loose(&home, b"loose");
    let hash = plant_sequence(&home, b"33 bytes are no sequence of them.");
    home.run(["gc"]).refused(4, &[&hash, "33 bytes", "hint: nothing was deleted", "--format raw"]);
    assert_eq!(home.run(["cat", &loose]).succeeded().out, b"loose");
    home.run(["tag", "set", "planted", &hash, "--format", "raw"]).succeeded();
    assert_eq!(summary(&home.run(["gc", "--json"]).succeeded())["deleted"], 1);
}

#[test]
fn sequence_that_is_not_complete_is_warned_of_once() {
    let home = kept();
    home.run(["tag", "set", "later", &format!("s{}", "0".repeat(64))]).succeeded();
    let run =
        home.run(["gc", "--max-memory", "32"]).refused(0, &["warning: hash sequence 000", "not complete"]);
    assert_eq!(run.err.lines().count(), 1);
    let run = home.run(["gc", "--json", "--max-memory", "1KiB"]).succeeded();
    assert_eq!((summary(&run)["missing"].as_u64(), summary(&run)["warnings"].as_u64()), (Some(1), Some(1)));
}

#[test]
fn little_memory_takes_passes_and_comes_to_the_same() {
    let home = kept();
    let before = home.run(["ls"]).succeeded().text();
    (0..4).for_each(|i| drop(add_loose(&home, &bytes(1000, i))));
    let run = home.run(["gc", "--max-memory", "32", "--json"]).succeeded();
    assert!(summary(&run)["passes"].as_u64() > Some(1));
    assert_eq!(summary(&run)["deleted"], 4);
    assert_eq!(home.run(["ls"]).succeeded().text(), before);
}

#[test]
fn interrupted_collection_ends_in_good_order_and_the_next_one_finishes() {
    let home = kept();
    // With two hashes in memory there are thousands of passes over it.
    plant_sequence(&home, &bytes(640_000, 6));
    let before = home.run(["ls"]).succeeded().text();
    let loose = add_loose(&home, b"loose");
    let mut child = home.command(["gc", "--json", "--max-memory", "32"]).spawn().unwrap();
    wait_until_open(&home, &mut child);
    send(&child, "-INT");
    let run = Run::from(child.wait_with_output().unwrap()).exited(130);
    assert_eq!(
        (summary(&run)["type"].as_str(), summary(&run)["exit"].as_u64()),
        (Some("summary"), Some(130))
    );
    home.run(["gc"]).succeeded();
    assert_eq!(home.run(["ls"]).succeeded().text(), before);
    home.run(["cat", &loose]).exited(1);
}

#[test]
fn progress_counts_sequences_and_blobs() {
    let home = kept();
    plant_sequence(&home, &bytes(640_000, 6));
    let mut child = home.command(["gc", "--json", "--max-memory", "32"]).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let progress: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    send(&child, "-INT");
    assert_eq!(progress["type"], "progress");
    let is_marking =
        progress["phase"] == "mark" && progress["sequences"].is_u64() && progress["children"].is_u64();
    let is_sweeping =
        progress["phase"] == "sweep" && progress["seen"].is_u64() && progress["deleted"].is_u64();
    assert!(is_marking || is_sweeping, "{progress}");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// A small file system where a store lies.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount one.
    fn below(home: &Home) -> Option<Self> {
        fs::create_dir(home.store()).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=112m", "tmpfs"])
            .arg(home.store())
            .output();
        if mount.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(home.store()));
        }
        println!("skipped: no file system can be mounted here: {mount:?}");
        None
    }

    /// Leaves no room at all.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("somebody's")).unwrap();
        while file.write_all(&[1; 1024]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        println!("unmounted: {:?}", Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn full_disk_is_cleaned_up() {
    let home = Home::new();
    let Some(disk) = SmallDisk::below(&home) else { return };
    for (tag, seeds) in [("kept", 0..17), ("dropped", 50..70)] {
        seeds.for_each(|seed| drop(home.write(&format!("{tag}/{seed}"), bytes(2 << 20, seed))));
        home.run(["add", "-r", tag, "--tag", tag]).succeeded();
    }
    assert!(home.run(["du", "--json"]).succeeded().json()["disk"]["reserve"].as_u64() > Some(8 << 20));
    disk.fill();
    home.write("one", bytes(20_000, 99));
    home.run(["add", "one"]).refused(1, &["hint: make room on the disk"]);
    home.run(["tag", "rm", "dropped"]).succeeded();
    home.run(["add", "one"]).refused(1, &["hint: make room on the disk"]);
    assert_eq!(summary(&home.run(["gc", "--json"]).succeeded())["deleted"], 22);
    home.run(["add", "one", "--tag", "one"]).succeeded();
    assert!(home.run(["du", "--json"]).succeeded().json()["disk"]["reserve"].as_u64() > Some(4 << 20));
    home.run(["export", "kept", "out"]).succeeded();
    assert_eq!(files(&home.path("kept")), files(&home.path("out")));
}
