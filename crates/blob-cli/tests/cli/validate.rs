//! Damage is found, and mended from what has the bytes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use blob_traits::{
    BLOCK_SIZE,
    bao_tree::{blake3, io::outboard::PreOrderMemOutboard},
};
use serde_json::{Value, json};

use crate::{
    home::{Home, Run, bytes, files},
    processes::{send, wait_until_open},
};

/// A store with a large and a small blob; returns their hashes.
fn two_blobs() -> (Home, String, String) {
    let home = Home::new();
    let large = home.add("large", bytes(400_000, 1));
    let small = home.add("small", bytes(5000, 2));
    (home, large, small)
}

/// The only file below a directory that has these bytes in it, and where.
fn find(dir: &Path, wanted: &[u8]) -> (PathBuf, usize) {
    let at = |content: &[u8]| content.windows(wanted.len()).position(|window| window == wanted);
    let found = files(dir).into_iter().filter(|(path, _)| path.as_os_str() != "LOCK");
    let mut found = found.filter_map(|(path, content)| Some((dir.join(path), at(&content)?)));
    let first = found.next().expect("the bytes are there");
    assert!(found.next().is_none(), "the bytes are there once");
    first
}

/// Flips a bit of where these bytes lie in the store.
fn damage(home: &Home, original: &[u8]) {
    let (path, at) = find(&home.store(), original);
    let mut content = fs::read(&path).unwrap();
    content[at] ^= 1;
    fs::write(path, content).unwrap();
}

/// A store with the same blobs, in the directory `copy`.
fn copy(home: &Home) {
    for name in ["large", "small"] {
        home.run(["add", name, "--store", "copy"]).succeeded();
    }
}

fn items(run: &Run) -> Vec<Value> {
    run.json_lines().into_iter().filter(|line| line["type"] == "item").collect()
}

fn summary(run: &Run) -> Value {
    run.json_lines().pop().unwrap()
}

#[test]
fn sound_store_is_told_in_a_line() {
    let (home, large, _) = two_blobs();
    let text = home.run(["validate"]).succeeded().text();
    assert!(text.starts_with("2 blobs, 395.51 KiB read in ") && text.ends_with(" s: all sound\n"), "{text}");
    let run = home.run(["validate", "--json", &large]).succeeded();
    assert_eq!((items(&run).len(), summary(&run)["complete"].as_u64()), (0, Some(1)));
    assert_eq!(
        (summary(&run)["bytes"].as_u64(), summary(&run)["ended"].as_str()),
        (Some(400_000), Some("all"))
    );
    let text = home.run(["validate", "--repair"]).succeeded().text();
    assert_eq!(text.lines().count(), 1, "there was nothing to do: {text}");
}

#[test]
fn damage_is_told_with_its_ranges_and_tags() {
    let (home, large, small) = two_blobs();
    home.run(["tag", "set", "t", &large]).succeeded();
    damage(&home, &bytes(400_000, 1)[200_000..200_100]);
    damage(&home, &bytes(5000, 2)[4000..4100]);
    let before = files(&home.store().join("data"));
    let run = home.run(["validate"]).exited(5);
    let text = run.text();
    let line = |hash: &str| text.lines().find(|line| line.contains(hash)).unwrap().to_owned();
    assert!(line(&large).contains("bytes 196608..212992 damaged") && line(&large).contains("t)"), "{text}");
    assert!(line(&small).contains("bytes 0..5000 damaged"), "{text}");
    assert!(text.contains("2 damaged\n") && text.contains("--repair"), "{text}");
    let run = home.run(["validate", "--json"]).exited(5);
    let item = items(&run).into_iter().find(|item| item["hash"] == *large).unwrap();
    assert_eq!((item["found"].as_str(), item["status"].as_str()), (Some("damaged"), Some("complete")));
    assert_eq!((&item["damaged"], &item["unreadable"]), (&json!([[196_608, 212_992]]), &json!([])));
    assert!(item["tags"].as_array().unwrap().contains(&json!({ "tag": "t" })));
    assert_eq!(
        (summary(&run)["damaged"].as_u64(), summary(&run)["status"].as_str()),
        (Some(2), Some("damage"))
    );
    assert_eq!(files(&home.store().join("data")), before, "nothing is changed");
}

#[test]
fn only_what_is_named_is_looked_at() {
    let (home, large, small) = two_blobs();
    damage(&home, &bytes(400_000, 1)[..100]);
    home.run(["validate", &small]).succeeded();
    home.run(["validate", &small, &large]).exited(5);
    home.run(["tag", "set", "t", &large]).succeeded();
    home.run(["tag", "set", &small, &large]).succeeded();
    for args in [&["validate", "t"][..], &["validate", "--tag", "t"], &["validate", "--tag", &small]] {
        home.run(args).exited(5);
    }
    home.run(["validate", &"0".repeat(64)]).refused(1, &["not in the store"]);
    home.run(["validate", "--tag", "none"]).refused(1, &["no tag"]);
    home.run(["tag", "set", "later", &"0".repeat(64)]).succeeded();
    home.run(["validate", "later"]).refused(0, &["warning: tag \"later\"", "not in the store"]);
    home.write("in/a", bytes(300_000, 9));
    home.run(["add", "-r", "in", "--tag", "dir"]).succeeded();
    assert_eq!(summary(&home.run(["validate", "dir", "--json"]).succeeded())["complete"], 3);
    damage(&home, &bytes(300_000, 9)[..100]);
    home.run(["validate", "dir"]).exited(5);
}

/// Looking at eight blobs takes their bytes, and repairing them takes those once more and what is fetched.
#[test]
fn what_a_repair_does_not_come_to_stays_damaged() {
    let home = Home::new();
    let hashes: Vec<_> = (0..8).map(|i| home.add(&i.to_string(), bytes(100_000, i))).collect();
    for i in 0..8 {
        home.run(["add", &i.to_string(), "--store", "copy"]).succeeded();
        damage(&home, &bytes(100_000, i)[..64]);
    }
    let repair = ["validate", "--repair", "--from", "copy", "--json", "--budget", "800000B"];
    let repair: Vec<_> = repair.into_iter().chain(hashes.iter().map(String::as_str)).collect();
    let run = home.run(&repair).exited(5);
    let not_begun: Vec<_> = items(&run).into_iter().filter(|item| item["repaired"] == "not_begun").collect();
    assert_eq!((not_begun.len(), summary(&run)["not_begun"].as_u64()), (1, Some(1)));
    assert_eq!((summary(&run)["damaged"].as_u64(), summary(&run)["repaired"].as_u64()), (Some(8), Some(7)));
    let text = home.run(["validate"]).exited(5).text();
    assert!(text.contains("1 damaged") && text.contains(not_begun[0]["hash"].as_str().unwrap()), "{text}");
    home.run(&repair).succeeded();
}

#[test]
fn samples_and_budgets_leave_blobs_out() {
    let home = Home::new();
    for i in 0..64 {
        home.write(&format!("in/{i}"), bytes(100_000, i));
    }
    home.run(["add", "-r", "in"]).succeeded();
    let looked = |args: &[&str]| {
        let run = home.run([&["validate", "--json"], args].concat()).succeeded();
        (summary(&run)["complete"].as_u64().unwrap(), summary(&run)["ended"].as_str().unwrap().to_owned())
    };
    assert_eq!(looked(&[]), (66, "all".to_owned()));
    let (n, ended) = looked(&["--sample", "4"]);
    assert!(n > 4 && n < 40 && ended == "all", "{n}");
    let samples: Vec<_> =
        (0..20).map(|seed| looked(&["--sample", "4", "--seed", &seed.to_string()]).0).collect();
    assert!(samples.iter().any(|other| *other != n), "{samples:?}");
    let (n, ended) = looked(&["--budget", "200KiB", "--jobs", "1"]);
    assert!(n < 30 && ended == "budget", "{n}");
    let text = home.run(["validate", "--budget", "0s"]).succeeded().text();
    assert!(text.contains("the budget was spent"), "{text}");
    assert_eq!(looked(&["--rate", "1GiB", "--budget", "1h"]).0, 66);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_done() {
    let (home, large, _) = two_blobs();
    for args in [
        &["validate", "--from", "copy"][..],
        &["validate", "--sample", "0"],
        &["validate", "--seed", "1"],
        &["validate", "--sample", "2", &large],
        &["validate", "--budget", "5w"],
        &["validate", "--rate", "0"],
        &["validate", "--jobs", "0"],
        &["validate", "--repair", "--from", "bao:x"],
    ] {
        home.run(args).exited(2);
    }
    home.run(["validate", "--repair", "--from", "store"]).refused(2, &["the store itself"]);
    home.run(["validate", "--repair", "--from", "none"]).refused(1, &["no store in", "hint: --from takes"]);
    assert!(!home.path("none").exists());
    home.run(["validate", "--repair", "--from", &format!("{large}=none")]).refused(1, &["no file"]);
    home.run(["validate", "--repair", "--from", &format!("{large}=store")]).refused(1, &["is a directory"]);
    home.write("short", "short");
    home.run(["validate", "--repair", "--from", &format!("bao:{large}=short")]).refused(5, &["cut off"]);
}

#[test]
fn repair_without_a_copy_keeps_what_is_sound() {
    let (home, large, small) = two_blobs();
    let (all, tail) = (bytes(400_000, 1), bytes(5000, 2));
    damage(&home, &all[200_000..200_100]);
    damage(&home, &tail[4000..4100]);
    let text = home.run(["validate", "--repair"]).exited(5).text();
    assert!(text.contains("16384 bytes missing: 196608..212992") && text.contains("2 partial now"), "{text}");
    assert!(text.contains("5000 bytes missing: 0..5000"), "{text}");
    let stat = home.run(["stat", &large]).succeeded().text();
    assert!(stat.contains("partial (damaged: 16384 bytes missing)"), "{stat}");
    let partial = home.run(["ls", "--partial", "-l"]).succeeded().text();
    assert!(partial.contains("(damaged: 16384 bytes missing)"), "{partial}");
    let blobs = home.run(["ls", "--partial", "-l", "--json"]).succeeded().json()["blobs"].clone();
    assert!(blobs.as_array().unwrap().iter().all(|blob| blob["demoted"] == true), "{blobs}");
    assert_eq!(home.run(["cat", &format!("{large}:212992..")]).succeeded().out, all[212_992..]);
    let again = home.run(["validate", "--json"]).exited(5);
    let found: Vec<_> = items(&again).iter().map(|item| item["found"].as_str().unwrap().to_owned()).collect();
    assert_eq!((found, summary(&again)["damaged"].as_u64()), (vec!["demoted".to_owned(); 2], Some(0)));
    home.run(["add", "large", "small"]).succeeded();
    home.run(["validate"]).succeeded();
    assert_eq!(home.run(["cat", &small]).succeeded().out, tail);
}

#[test]
fn repair_from_a_copy_fetches_the_lost_groups_alone() {
    let (home, large, _) = two_blobs();
    let all = bytes(400_000, 1);
    damage(&home, &all[200_000..200_100]);
    damage(&home, &bytes(5000, 2)[4000..4100]);
    copy(&home);
    let before = files(&home.path("copy/data"));
    let run = home.run(["validate", "--repair", "--from", "copy", "--json"]).succeeded();
    assert_eq!(summary(&run)["fetched_bytes"], 16_384 + 5000);
    assert_eq!((summary(&run)["repaired"].as_u64(), summary(&run)["damaged"].as_u64()), (Some(2), Some(2)));
    let repaired =
        items(&run).into_iter().find(|item| item["hash"] == *large && item["repaired"] == "complete");
    assert_eq!(repaired.unwrap()["fetched_bytes"], 16_384);
    home.run(["validate"]).succeeded();
    assert_eq!(home.run(["cat", &large]).succeeded().out, all);
    assert_eq!(files(&home.path("copy/data")), before);
    home.run(["validate", "--store", "copy"]).succeeded();
}

#[test]
fn repair_says_in_words_what_it_did() {
    let (home, large, _) = two_blobs();
    damage(&home, &bytes(400_000, 1)[200_000..200_100]);
    copy(&home);
    let text = home.run(["validate", "--repair", "--from", "copy"]).succeeded().text();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("damaged") && lines[0].contains(&large), "{text}");
    assert!(lines[1].starts_with("repaired") && lines[1].contains("16.00 KiB and "), "{text}");
    assert!(lines[2].ends_with("s: 1 damaged"), "{text}");
    assert!(lines[3].starts_with("1 repaired (16.00 KiB and "), "{text}");
}

#[test]
fn damaged_hash_tree_costs_no_bytes() {
    let (home, large, _) = two_blobs();
    let all = bytes(400_000, 1);
    let outboard = PreOrderMemOutboard::create(&all, BLOCK_SIZE).data;
    damage(&home, &outboard[64..128]);
    let text = home.run(["validate"]).exited(5).text();
    assert!(text.contains("one pair of the hash tree damaged") && !text.contains("bytes 1"), "{text}");
    let text = home.run(["validate", "--repair"]).succeeded().text();
    assert!(text.contains(&format!("repaired    {large}  nothing was lost")), "{text}");
    home.run(["validate"]).succeeded();
}

#[test]
fn file_and_slices_repair_what_they_have() {
    let (home, large, _) = two_blobs();
    let all = bytes(400_000, 1);
    for (name, ranges) in [("slice1", "0..40000"), ("slice2", "190000..300000"), ("whole", "..")] {
        home.run(["bao", "encode", &format!("{large}:{ranges}"), "-o", name]).succeeded();
    }
    let from = |what: &str| format!("bao:{large}{what}");
    let pieces = [from(":0..40000=slice1"), from(":190000..300000=slice2")];
    let sources: [&[&str]; 4] = [
        &["--from", &format!("{large}=large")],
        &["--from", &from("=whole")],
        &["--from", &pieces[0], "--from", &pieces[1]],
        &["--from", &pieces[1], "--from", &format!("{large}=large")],
    ];
    for source in sources {
        damage(&home, &all[20_000..20_100]);
        damage(&home, &all[200_000..200_100]);
        let run = home.run([&["validate", "--repair", "--json"], source].concat()).succeeded();
        assert_eq!(summary(&run)["fetched_bytes"], 2 * 16_384, "{source:?}");
        assert!(summary(&run)["fetched_hash_bytes"].as_u64() < Some(16_384), "{source:?}");
        assert_eq!(home.run(["cat", &large]).succeeded().out, all, "{source:?}");
    }
    damage(&home, &all[20_000..20_100]);
    damage(&home, &all[200_000..200_100]);
    let text = home.run(["validate", "--repair", "--from", &pieces[0]]).exited(5).text();
    assert!(text.contains("16384 bytes missing: 196608..212992"), "{text}");
}

#[test]
fn wrong_source_is_told_and_harms_nothing() {
    let (home, large, small) = two_blobs();
    damage(&home, &bytes(400_000, 1)[200_000..200_100]);
    home.write("wrong", bytes(400_000, 7));
    home.run(["bao", "encode", &small, "-o", "other"]).succeeded();
    home.run(["bao", "encode", &large, "-o", "cut"]).exited(5);
    let slice = home.run(["bao", "encode", &format!("{large}:..100000")]).succeeded().out;
    home.write("cut", &slice);
    let from = [format!("{large}=wrong"), format!("bao:{large}=other"), format!("bao:{large}=cut")];
    let args = ["validate", "--repair", "--json", "--from", &from[0], "--from", &from[1], "--from", &from[2]];
    let run = home.run(args).exited(5);
    let lines = run.json_lines();
    let warnings: Vec<_> = lines.iter().filter(|line| line["type"] == "warning").collect();
    assert!(
        warnings.iter().any(|line| line["message"].as_str().unwrap().contains("other: ")),
        "{warnings:?}"
    );
    assert!(warnings.iter().any(|line| line["message"].as_str().unwrap().contains("cut: ")), "{warnings:?}");
    assert_eq!(
        (summary(&run)["left_partial"].as_u64(), summary(&run)["fetched_bytes"].as_u64()),
        (Some(1), Some(0))
    );
    home.run(["validate", "--repair", "--from", &format!("{large}=large")]).succeeded();
    home.run(["validate"]).succeeded();
}

#[test]
fn source_that_is_in_use_is_an_error() {
    let (home, _, _) = two_blobs();
    copy(&home);
    let other = Home::new();
    let mut holder = other
        .command(["has", "--store"])
        .arg(home.path("copy"))
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let words = format!("pid {} ", holder.id());
    while !fs::read_to_string(home.path("copy/LOCK")).is_ok_and(|text| text.contains(&words)) {
        assert!(holder.try_wait().unwrap().is_none(), "the process is gone");
    }
    home.run(["validate", "--repair", "--from", "copy"]).refused(11, &["copy", "open elsewhere"]);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    home.run(["validate", "--repair", "--from", "copy"]).succeeded();
}

#[test]
fn interrupted_run_tells_what_it_has_found() {
    let home = Home::new();
    for i in 0..40 {
        home.write(&format!("in/{i}"), bytes(200_000, i));
    }
    home.run(["add", "-r", "in"]).succeeded();
    let entries = walkdir::WalkDir::new(home.store().join("data")).into_iter().map(Result::unwrap);
    for entry in entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "data")) {
        let mut content = fs::read(entry.path()).unwrap();
        content[0] ^= 1;
        fs::write(entry.path(), content).unwrap();
    }
    let args = ["validate", "--json", "--rate", "200KiB", "--jobs", "1"];
    let mut child = home.command(args).spawn().unwrap();
    wait_until_open(&home, &mut child);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    // The collection is two small blobs, which come first.
    let progress = std::iter::from_fn(|| Some(next())).find(|line| line["items"].as_u64() > Some(3)).unwrap();
    assert_eq!((progress["phase"].as_str(), progress["items_total"].as_u64()), (Some("validate"), Some(42)));
    assert!(progress["bytes"].as_u64() > Some(0) && progress["bytes_total"].as_u64() >= Some(8_000_000));
    send(&child, "-INT");
    let rest: Vec<Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let n_items =
        rest.iter().filter(|line| line["found"] == "damaged" && line["message"].is_string()).count();
    let summary = rest.last().unwrap();
    assert!(n_items > 0);
    assert_eq!((summary["exit"].as_u64(), summary["damaged"].as_u64()), (Some(130), Some(n_items as u64)));
}

#[test]
fn interrupted_repair_is_finished_by_the_next_one() {
    let (home, large, _) = two_blobs();
    let all = bytes(400_000, 1);
    copy(&home);
    damage(&home, &all[..100]);
    damage(&home, &all[300_000..300_100]);
    let mut child =
        home.command(["validate", "--repair", "--from", "copy", "--rate", "200KiB"]).spawn().unwrap();
    wait_until_open(&home, &mut child);
    send(&child, "-INT");
    let code = child.wait().unwrap().code();
    assert!(matches!(code, Some(130 | 0)), "{code:?}");
    home.run(["validate", "--repair", "--from", "copy"]).succeeded();
    home.run(["validate"]).succeeded();
    assert_eq!(blake3::hash(&home.run(["cat", &large]).succeeded().out), blake3::hash(&all));
}

#[test]
fn sequence_that_lost_bytes_holds_collection_until_it_has_them_back() {
    let home = Home::new();
    for i in 0..2000 {
        home.write(&format!("in/{i}"), format!("{i}"));
    }
    let hash = home.run(["add", "-r", "in", "--tag", "t"]).succeeded().words()[0].clone();
    home.run(["tag", "set", "child", &home.run(["ls", "t"]).succeeded().words()[0]]).succeeded();
    let sequence = home.run(["cat", &hash]).succeeded().out;
    home.run(["cat", &format!("{hash}:0..16384")]).succeeded();
    damage(&home, &sequence[20_000..20_100]);
    home.write("sequence", &sequence);
    home.run(["validate", "--repair"]).exited(5);
    home.run(["gc"]).refused(5, &[&hash, "hint: nothing was deleted", "blob validate --repair --from"]);
    home.run(["validate", "--repair", "--from", &format!("{hash}=sequence")]).succeeded();
    let text = home.run(["gc"]).succeeded().text();
    assert!(text.starts_with("deleted 0 complete and 0 partial"), "{text}");
}
