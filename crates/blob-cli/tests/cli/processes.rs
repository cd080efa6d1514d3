//! Other processes and the end of this one.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::home::{Home, Run, bytes, files};

/// A process that has the store open and waits for its standard input.
fn holder(home: &Home) -> Child {
    let mut child = home.command(["has"]).stdin(Stdio::piped()).spawn().unwrap();
    wait_until_open(home, &mut child);
    child
}

/// Waits until the lock file names the process. Trying the lock instead could keep the process from it.
pub(crate) fn wait_until_open(home: &Home, child: &mut Child) {
    let words = format!("pid {} ", child.id());
    while !fs::read_to_string(home.store().join("LOCK")).is_ok_and(|text| text.contains(&words)) {
        assert!(child.try_wait().unwrap().is_none(), "the process is gone");
    }
}

/// Counts what is in a directory that changes meanwhile.
fn n_bytes_in(dir: &Path) -> u64 {
    let entries = walkdir::WalkDir::new(dir).into_iter().filter_map(Result::ok);
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

pub(crate) fn send(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn second_process_is_refused_and_told_who_has_the_store() {
    let home = Home::new();
    home.add("f", "f");
    let mut holder = holder(&home);
    let pid = holder.id().to_string();
    for args in [&["ls"][..], &["add", "f"], &["rm", "x"]] {
        home.run(args).refused(11, &["open elsewhere", &pid, "wait for the other process"]);
    }
    let document = home.run(["ls", "--json"]).exited(11).json();
    assert_eq!(document["code"], "locked");
    drop(holder.stdin.take());
    assert_eq!(holder.wait().unwrap().code(), Some(0));
    home.run(["ls"]).succeeded();
}

#[test]
fn interrupted_add_ends_in_good_order_with_a_summary() {
    for signal in ["-INT", "-TERM"] {
        let home = Home::new();
        let mut child = home.command(["add", "-", "--json"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(&bytes(300_000, 0)).unwrap();
        wait_until_open(&home, &mut child);
        send(&child, signal);
        let stdin = child.stdin.take();
        let run = Run::from(child.wait_with_output().unwrap()).exited(130);
        drop(stdin);
        let lines = run.json_lines();
        let summary = lines.last().unwrap();
        assert_eq!((summary["type"].as_str(), summary["exit"].as_i64()), (Some("summary"), Some(130)));
        assert_eq!(lines.iter().filter(|line| line["type"] == "summary").count(), 1);
        assert_eq!(home.run(["ls"]).succeeded().text(), "", "nothing half-written");
        assert!(files(&home.store().join("temp")).is_empty());
    }
}

#[test]
fn acknowledged_blobs_survive_a_kill() {
    let home = Home::new();
    let kept = home.add("kept", bytes(200_000, 1));
    for i in 0..80 {
        home.write(&format!("many/{i}"), bytes(3000 + i, u8::try_from(i % 250).unwrap()));
    }
    home.write("many/large", bytes(5_000_000, 2));
    for n_bytes in [0, 1, 30_000, 150_000] {
        let mut child = home.command(["add", "-r", "many"]).spawn().unwrap();
        let before = n_bytes_in(&home.store());
        while n_bytes_in(&home.store()) < before + n_bytes && child.try_wait().unwrap().is_none() {}
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(home.run(["cat", &kept]).succeeded().out, bytes(200_000, 1));
        for hash in home.run(["ls"]).succeeded().words() {
            let bytes = home.run(["cat", &hash]).succeeded().out;
            assert_eq!(blob_traits::Hash::new(bytes).to_hex(), hash);
        }
    }
    home.run(["add", "-r", "many", "--tag", "t"]).succeeded();
    home.run(["export", "t", "out"]).succeeded();
    assert_eq!(files(&home.path("many")), files(&home.path("out")));
}

#[test]
fn interrupted_get_leaves_no_file() {
    let home = Home::new();
    let hash = home.add("f", bytes(1 << 20, 0));
    // Standard input of a decode never ends.
    let mut child = home
        .command(["bao", "decode", "-", "--hash", &hash, "-o", "out"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(&(1_u64 << 20).to_le_bytes()).unwrap();
    let begun =
        || files(&home.path(".")).iter().any(|(path, _)| path.to_string_lossy().starts_with(".blob-"));
    while !begun() {}
    send(&child, "-INT");
    let stdin = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(stdin);
    assert!(!begun() && !home.path("out").exists());
}

#[test]
fn progress_goes_to_standard_error_only_when_it_is_wanted() {
    let home = Home::new();
    home.write("f", bytes(100_000, 0));
    assert_eq!(home.run(["add", "f"]).succeeded().err, "");
    let plain = home.run(["add", "f", "--progress", "plain"]).succeeded();
    assert!(plain.err.contains("added 1 files"));
    let mut child = home.command(["add", "f", "--progress", "bar"]).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.count(), 1, "bars are never on standard output");
    assert!(child.wait().unwrap().success());
}
