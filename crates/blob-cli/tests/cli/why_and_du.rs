//! What keeps a blob, and how much there is.

use serde_json::json;

use crate::home::{Home, bytes};

/// A store with a collection of two files under the tag `t`; returns its hash and those of its files.
fn collection() -> (Home, String, Vec<String>) {
    let home = Home::new();
    home.write("in/a", bytes(1000, 1));
    home.write("in/b", bytes(200_000, 2));
    let hash = home.run(["add", "-r", "in", "--tag", "t"]).succeeded().words()[0].clone();
    let children = home.run(["ls", "t"]).succeeded().words().into_iter().step_by(2).collect();
    (home, hash, children)
}

#[test]
fn every_chain_from_a_tag_is_told() {
    let (home, hash, children) = collection();
    home.run(["tag", "set", "again", "t"]).succeeded();
    home.run(["tag", "set", "child", &children[0]]).succeeded();
    let text = home.run(["why", &children[0]]).succeeded().text();
    assert_eq!(text, format!("tag again through {hash}\ntag child\ntag t through {hash}\n"));
    assert_eq!(home.run(["why", "child"]).succeeded().text(), text);
    assert_eq!(home.run(["why", "t"]).succeeded().text(), "tag again\ntag t\n");
    let document = home.run(["why", &children[0], "--json"]).succeeded().json();
    assert_eq!((document["type"].as_str(), document["hash"].as_str()), (Some("why"), Some(&*children[0])));
    assert_eq!(document["reasons"][0], json!({ "tag": "again", "through": hash }));
    assert_eq!(document["reasons"][1], json!({ "tag": "child", "through": null }));
}

#[test]
fn blob_that_nothing_keeps_is_exit_code_1() {
    let (home, _, children) = collection();
    home.run(["tag", "rm", "t"]).succeeded();
    let run = home.run(["why", &children[0]]).refused(1, &[]);
    assert_eq!((run.text(), run.err.as_str()), (format!("nothing keeps {}\n", children[0]), ""));
    let document = home.run(["why", &children[0], "--json"]).exited(1).json();
    assert_eq!((document["type"].as_str(), document["reasons"].as_array().unwrap().len()), (Some("why"), 0));
    home.run(["why", &"0".repeat(64)]).refused(1, &["not in the store"]);
    home.run(["why", "t"]).refused(1, &["no tag \"t\""]);
    home.run(["tag", "set", "later", &"0".repeat(64)]).succeeded();
    assert_eq!(home.run(["why", "later"]).succeeded().text(), "tag later\n");
}

#[test]
fn sizes_of_tags_count_each_blob_once() {
    let (home, hash, children) = collection();
    let meta = home.run(["ls", "-l", "--json"]).succeeded().json();
    let meta = meta["blobs"].as_array().unwrap();
    let all: u64 = meta.iter().map(|blob| blob["size"].as_u64().unwrap()).sum();
    for name in ["t", &hash] {
        let sizes = home.run(["du", name, "--json"]).succeeded().json();
        assert_eq!(sizes["type"], "sizes");
        assert_eq!(
            (sizes["names"][0]["blobs"].as_u64(), sizes["names"][0]["bytes"].as_u64()),
            (Some(4), Some(all))
        );
    }
    let text = home.run(["du", "t", &children[0]]).succeeded().text();
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[0][2..], ["4", "blobs", "t"]);
    assert_eq!(lines[1], ["1000", "B", "1", "blobs", &children[0]]);
    home.run(["rm", "--force", &children[0]]).succeeded();
    assert!(home.run(["du", "t"]).succeeded().text().ends_with("t (1 more are missing)\n"));
    home.run(["du", &"0".repeat(64)]).refused(1, &["not in the store"]);
}

#[test]
fn exclusive_size_is_what_goes_with_the_tag() {
    let (home, _, children) = collection();
    home.run(["tag", "set", "child", &children[1]]).succeeded();
    let sizes = home.run(["du", "--exclusive", "t", "child", "--json"]).succeeded().json();
    let alone = sizes["names"][0]["bytes"].as_u64().unwrap();
    assert_eq!(
        (sizes["names"][0]["blobs"].as_u64(), sizes["names"][1]["blobs"].as_u64()),
        (Some(3), Some(0))
    );
    home.run(["rm", "t"]).succeeded();
    let lines = home.run(["gc", "--json"]).succeeded().json_lines();
    assert_eq!(
        (lines.last().unwrap()["bytes"].as_u64(), lines.last().unwrap()["deleted"].as_u64()),
        (Some(alone), Some(3))
    );
    home.run(["du", "--exclusive", &children[1]]).refused(2, &["about tags", "tag ls"]);
    home.run(["du", "--exclusive"]).exited(2);
}

#[test]
fn claimed_size_of_a_partial_blob_does_not_count() {
    let (home, hash, children) = collection();
    let other = Home::new();
    home.run(["bao", "encode", &format!("{}:0..16384", children[1]), "-o", "s"]).succeeded();
    std::fs::copy(home.path("s"), other.path("s")).unwrap();
    let import = ["bao", "decode", "s", "--hash", &children[1], "-r", "0..16384", "--import", "--tag", "p"];
    other.run(import).succeeded();
    let sizes = other.run(["du", "p", "--json"]).succeeded().json();
    assert_eq!(sizes["names"][0]["bytes"], 16_384);
    let all = other.run(["du", "--json"]).succeeded().json();
    assert_eq!(all["partial"], json!({ "blobs": 1, "bytes": 16_384 }));
    assert_eq!(all["complete"], json!({ "blobs": 0, "bytes": 0 }));
    assert!(all["disk"]["partial"].as_u64() >= Some(16_384));
    home.run(["stat", &hash]).succeeded();
}

#[test]
fn size_of_the_store_is_that_of_its_directory() {
    let (home, ..) = collection();
    let all = home.run(["du", "--json"]).succeeded().json();
    assert_eq!((all["type"].as_str(), all["complete"]["blobs"].as_u64()), (Some("du"), Some(4)));
    let disk = &all["disk"];
    assert!(disk["data"].as_u64() >= Some(200_000) && disk["log"].as_u64() > Some(0), "{disk}");
    assert!(disk["index"].as_u64() > Some(0));
    let kinds = ["log", "data", "partial", "index", "quarantine", "reserve", "temp"];
    let sum: u64 = kinds.iter().map(|kind| disk[kind].as_u64().unwrap()).sum();
    assert!(disk["total"].as_u64().unwrap() >= sum);
    let text = home.run(["du"]).succeeded().text();
    assert!(text.starts_with("complete       4 blobs") && text.contains("\n  quarantine"), "{text}");
}
