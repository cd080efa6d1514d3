//! The grammar of what `--json` prints.

use serde_json::Value;

use crate::home::{Home, Run, bytes};

/// Lines of known types, all with a version, and one summary, the last.
#[track_caller]
fn check_lines(run: &Run) -> Vec<Value> {
    let lines = run.json_lines();
    for line in &lines {
        assert_eq!(line["v"], 1, "{line}");
        let kind = line["type"].as_str().unwrap();
        assert!(["progress", "item", "warning", "error", "summary"].contains(&kind), "{line}");
    }
    let count = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count() as u64;
    let summary = lines.last().unwrap();
    assert_eq!((count("summary"), summary["type"].as_str()), (1, Some("summary")), "{}", run.text());
    assert_eq!(summary["items"], count("item"));
    assert_eq!(summary["errors"], count("error"));
    assert_eq!(summary["warnings"], count("warning"));
    assert_eq!(summary["exit"].as_i64(), run.code.map(i64::from));
    lines
}

#[test]
fn operations_print_lines_and_one_summary_at_the_end() {
    let home = Home::new();
    home.write("in/a", bytes(100_000, 0));
    home.write("in/c:d", "x");
    let lines = check_lines(&home.run(["add", "--json", "-r", "in", "--tag", "t"]).succeeded());
    let item = lines.iter().find(|line| line["type"] == "item").unwrap();
    assert_eq!((item["format"].as_str(), item["tag"].as_str()), (Some("hash-seq"), Some("t")));
    assert_eq!((item["files"].as_u64(), item["size"].as_u64()), (Some(2), Some(100_001)));
    assert!(lines.iter().any(|line| line["type"] == "warning"));
    let hash = home.run(["ls", "t"]).succeeded().words()[0].clone();
    for (args, code) in [
        (&["get", &hash, "-o", "o"][..], 0),
        (&["get", &hash, "-o", "o"], 4),
        (&["export", &hash, "e"], 0),
        (&["export", "t", "e2"], 4),
        (&["tag", "set", "u", "t"], 0),
        (&["tag", "mv", "u", "w"], 0),
        (&["tag", "rm", "w", "w2"], 3),
        (&["rm", &hash], 4),
        (&["bao", "encode", &hash, "-o", "s"], 0),
        (&["bao", "decode", "s", "--hash", &hash, "-o", "d"], 0),
        (&["bao", "decode", "s", "--hash", &hash, "--import"], 0),
        (&["bao", "outboard", &hash, "-o", "ob"], 0),
        (&["validate"], 0),
        (&["validate", "--repair", "t"], 0),
        (&["validate", "none"], 1),
        (&["validate", "--from", "x"], 2),
        (&["check"], 0),
        (&["check", "--repair"], 0),
        (&["check", "--purge-quarantine"], 0),
        (&["check", "x"], 2),
        (&["gc"], 0),
        (&["gc", "--dry-run"], 0),
        (&["gc", "--ensure-free", "x"], 2),
        (&["add", "missing"], 1),
        (&["add", "missing", "in/a"], 3),
        (&["add", "in"], 1),
        (&["cat", &hash], 2),
        (&["add"], 2),
        (&["get", "x:9..1"], 2),
        (&["frobnicate"], 2),
    ] {
        let args = [&["--json"], args].concat();
        check_lines(&home.run(&args).exited(code));
    }
}

#[test]
fn errors_have_a_code_and_a_hint() {
    let home = Home::new();
    home.add("f", "f");
    let lines = check_lines(&home.run(["--json", "add", "missing"]).exited(1));
    assert_eq!((lines[0]["code"].as_str(), lines[0]["exit"].as_i64()), (Some("file-not-found"), Some(1)));
    assert!(lines[0]["path"].as_str().unwrap().ends_with("missing") && lines[0]["hint"].is_string());
}

#[test]
fn queries_print_one_document_even_when_they_fail() {
    let home = Home::new();
    let none = home.run(["ls", "--json"]).exited(10).json();
    assert_eq!((none["type"].as_str(), none["code"].as_str()), (Some("error"), Some("no-store")));
    let hash = home.add("f", "f");
    for (args, code, kind) in [
        (&["ls"][..], 0, "ls"),
        (&["ls", "--long"], 0, "ls"),
        (&["ls", "--untagged"], 0, "ls"),
        (&["tag", "ls"], 0, "tags"),
        (&["stat", &hash], 0, "stat"),
        (&["has", &hash], 0, "has"),
        (&["why", &hash], 0, "why"),
        (&["du"], 0, "du"),
        (&["du", &hash], 0, "sizes"),
        (&["ls", &hash], 1, "error"),
        (&["stat", "missing"], 1, "error"),
        (&["stat"], 2, "error"),
        (&["why"], 2, "error"),
        (&["du", "missing"], 1, "error"),
    ] {
        let document = home.run([&["--json"], args].concat()).exited(code).json();
        assert_eq!((document["v"].as_u64(), document["type"].as_str()), (Some(1), Some(kind)), "{args:?}");
    }
}

#[test]
fn document_that_fails_in_the_middle_is_still_one() {
    let home = Home::new();
    let hash = home.add("f", "f");
    let document = home.run(["--json", "stat", &hash, "missing"]).exited(1).json();
    assert_eq!(document["blobs"][0]["hash"], hash.as_str());
    assert_eq!(document["error"]["code"], "tag-not-found");
}
