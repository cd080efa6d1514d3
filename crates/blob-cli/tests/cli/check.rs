//! What the store knows of itself, and what is put aside.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::home::{Home, Run, bytes, files};

fn lines(run: &Run, kind: &str) -> Vec<Value> {
    run.json_lines().into_iter().filter(|line| line["type"] == kind).collect()
}

fn levels(run: &Run) -> Vec<String> {
    lines(run, "item").iter().map(|item| item["level"].as_str().unwrap().to_owned()).collect()
}

fn summary(run: &Run) -> Value {
    run.json_lines().pop().unwrap()
}

/// The file with the bytes of the only large blob.
fn data_file(home: &Home) -> PathBuf {
    let entries = walkdir::WalkDir::new(home.store().join("data")).into_iter().map(Result::unwrap);
    let mut data = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "data"));
    data.next().unwrap().into_path()
}

#[test]
fn sound_store_agrees_with_itself() {
    let home = Home::new();
    home.add("large", bytes(400_000, 1));
    home.add("small", bytes(5000, 2));
    let text = home.run(["check"]).succeeded().text();
    assert!(text.ends_with("\nfiles and records agree\n") && text.contains("info   the log has"), "{text}");
    assert!(!text.contains("trace"), "{text}");
    let text = home.run(["check", "-v", "--repair"]).succeeded().text();
    assert!(text.contains("trace  checking tags"), "{text}");
    let run = home.run(["check", "--json"]).succeeded();
    assert!(levels(&run).iter().all(|level| level == "info"), "{}", run.text());
    assert_eq!(
        (summary(&run)["verb"].as_str(), summary(&run)["found_errors"].as_u64()),
        (Some("check"), Some(0))
    );
    home.run(["check", "--store", "none"]).refused(10, &["no store"]);
    home.run(["check", "--repair", "--purge-quarantine"]).exited(2);
}

#[test]
fn odd_things_without_data_are_no_damage() {
    let home = Home::new();
    home.add("f", "f");
    home.write("store/log/notes.txt", "a stranger's");
    home.run(["tag", "set", "later", &"0".repeat(64)]).succeeded();
    for args in [&["check"][..], &["check", "--repair"]] {
        let text = home.run(args).succeeded().text();
        assert!(
            text.contains("notes.txt") && text.contains("\"later\"") && text.contains("0 errors, 2 warnings"),
            "{text}"
        );
    }
    let text = home.run(["check", "--repair"]).succeeded().text();
    assert!(
        text.contains("\nleft: warn   ") && text.contains("left of them: 0 errors, 2 warnings"),
        "{text}"
    );
    assert_eq!(fs::read(home.path("store/log/notes.txt")).unwrap(), b"a stranger's");
}

#[test]
fn missing_file_is_damage_until_its_bytes_are_back() {
    let home = Home::new();
    let hash = home.add("large", bytes(400_000, 1));
    fs::remove_file(data_file(&home)).unwrap();
    let run = home.run(["check", "--json"]).exited(5);
    let error = lines(&run, "item").into_iter().find(|item| item["level"] == "error").unwrap();
    assert_eq!((error["hash"].as_str(), error["left"].as_bool()), (Some(&*hash), None));
    assert!(error["message"].as_str().unwrap().contains("is missing"));
    let text = home.run(["check"]).exited(5).text();
    assert!(
        text.contains(&format!("(blob {hash})")) && text.contains("1 error,") && text.contains("--repair"),
        "{text}"
    );
    let text = home.run(["check", "--repair"]).exited(5).text();
    assert!(text.contains("all mended; bytes of 1 blob are missing"), "{text}");
    let run = home.run(["check", "--json"]).exited(5);
    assert_eq!(
        (summary(&run)["found_errors"].as_u64(), summary(&run)["demoted"].as_u64()),
        (Some(0), Some(1))
    );
    let stat = home.run(["stat", &hash]).succeeded().text();
    assert!(stat.contains("damaged: 400000 bytes missing"), "{stat}");
    home.run(["add", "large"]).succeeded();
    home.run(["check"]).succeeded();
    home.run(["validate"]).succeeded();
}

#[test]
fn what_is_put_aside_is_counted_and_goes_only_when_that_is_said() {
    let home = Home::new();
    home.add("f", "f");
    assert_eq!(home.run(["check", "--purge-quarantine"]).succeeded().text(), "0 files removed, 0 B\n");
    let hash = blob_traits::Hash::new(b"nobody's");
    let orphan = format!("store/data/{}/{hash}-00000000000000ff.data", &hash.to_hex()[..2]);
    home.write(&orphan, bytes(100_000, 3));
    home.run(["check", "--repair"]).succeeded();
    assert!(!home.path(&orphan).exists());
    let aside = files(&home.path("store/quarantine"));
    assert_eq!((aside.len(), &aside[0].1), (1, &bytes(100_000, 3)));
    let du = home.run(["du", "--json"]).succeeded().json();
    assert!(du["disk"]["quarantine"].as_u64() >= Some(100_000), "{du}");
    let text = home.run(["check"]).succeeded().text();
    assert!(text.contains("quarantine/") && text.contains("100000 bytes"), "{text}");
    let run = home.run(["check", "--purge-quarantine", "--json"]).succeeded();
    let item = &lines(&run, "item")[0];
    assert_eq!((item["size"].as_u64(), item["hash"].as_str()), (Some(100_000), Some(&*hash.to_string())));
    assert_eq!(item["removed"].as_str(), aside[0].0.to_str());
    assert_eq!(summary(&run)["bytes"], 100_000);
    assert!(files(&home.path("store/quarantine")).is_empty());
}

#[test]
fn damaged_log_is_given_up_by_repair_and_named() {
    let home = Home::new();
    let lost = home.add("small", bytes(5000, 2));
    let kept = home.add("other", bytes(6000, 3));
    let log: Vec<_> = fs::read_dir(home.store().join("log")).unwrap().map(|e| e.unwrap().path()).collect();
    let mut content = fs::read(&log[0]).unwrap();
    let at = content.windows(50).position(|window| window == &bytes(5000, 2)[2000..2050]).unwrap();
    // The record's header, too, so that it is not only the blob that is damaged.
    content[at - 2000 - 40..at].fill(0);
    fs::write(&log[0], content).unwrap();
    let text = home.run(["check"]).exited(5).text();
    assert!(text.contains("error") && text.contains(&lost), "{text}");
    home.run(["check", "--repair"]);
    assert_eq!(home.run(["cat", &kept]).succeeded().out, bytes(6000, 3));
    let run = home.run(["check", "--json"]);
    assert_eq!(summary(&run)["found_errors"], 0, "{}", run.text());
    home.run(["add", "small"]).succeeded();
    home.run(["check"]).succeeded();
    home.run(["validate"]).succeeded();
    home.run(["gc"]).succeeded();
}

/// A store with a large and a small blob and a tag.
fn with_tag() -> Home {
    let home = Home::new();
    home.add("large", bytes(400_000, 1));
    home.write("small", bytes(5000, 2));
    home.run(["add", "small", "--tag", "t"]).succeeded();
    home
}

#[test]
fn lost_index_comes_back_from_the_log() {
    let index = |home: &Home| home.store().join("index.redb");
    for damage in [
        (&|home: &Home| fs::remove_file(index(home)).unwrap()) as &dyn Fn(&Home),
        &|home| fs::write(index(home), bytes(50_000, 9)).unwrap(),
        &|home| fs::write(index(home), "").unwrap(),
    ] {
        let home = with_tag();
        let before = [home.run(["ls", "-l"]).succeeded().text(), home.run(["tag", "ls"]).succeeded().text()];
        damage(&home);
        let run = home.run(["check", "--rebuild-index", "--json"]).succeeded();
        assert_eq!(
            (summary(&run)["rebuilt"].as_bool(), summary(&run)["blobs"].as_u64()),
            (Some(true), Some(2))
        );
        assert!(lines(&run, "item").iter().all(|item| item.get("lost").is_none()), "{}", run.text());
        let after = [home.run(["ls", "-l"]).succeeded().text(), home.run(["tag", "ls"]).succeeded().text()];
        assert_eq!(before, after);
        home.run(["validate"]).succeeded();
    }
}

#[test]
fn index_that_can_be_used_is_kept() {
    let home = with_tag();
    let text = home.run(["check", "--rebuild-index"]).succeeded().text();
    assert!(text.contains("can be used and was kept; there are 2 blobs and 2 tags"), "{text}");
    home.run(["check", "--rebuild-index", "--purge-quarantine"]).exited(2);
    home.run(["check", "--rebuild-index", "--store", "none"]).refused(10, &["no store"]);
}

#[test]
fn store_without_its_log_says_what_gives_it_up() {
    let home = with_tag();
    let log: Vec<_> = fs::read_dir(home.store().join("log")).unwrap().map(|e| e.unwrap().path()).collect();
    let mut content = fs::read(&log[0]).unwrap();
    content[..64].fill(0);
    fs::write(&log[0], content).unwrap();
    for args in [&["ls"][..], &["check"], &["validate"]] {
        home.run(args).refused(5, &["damaged", "blob check --rebuild-index"]);
    }
    let run = home.run(["check", "--rebuild-index", "--repair", "--json"]).exited(5);
    let lost: Vec<_> = lines(&run, "item").into_iter().filter(|item| item.get("lost").is_some()).collect();
    assert!(!lost.is_empty() && lost[0]["message"].is_string(), "{}", run.text());
    assert!(!run.text().contains("nothing was changed"), "{}", run.text());
    home.run(["add", "large", "small"]).succeeded();
    home.run(["validate"]).succeeded();
    home.run(["gc", "--allow-empty"]).succeeded();
}
