//! Queries: what is there.

use crate::home::{Home, bytes};

#[test]
fn listings_are_in_order_and_complete() {
    let home = Home::new();
    let mut hashes: Vec<_> = (0..20).map(|i| home.add("f", bytes(100, i))).collect();
    hashes.sort();
    assert_eq!(home.run(["ls"]).succeeded().words(), hashes);
    let listed = home.run(["ls", "--json"]).succeeded().json();
    let listed: Vec<_> =
        listed["blobs"].as_array().unwrap().iter().map(|b| b["hash"].as_str().unwrap()).collect();
    assert_eq!(listed, hashes);
    assert_eq!(home.run(["ls", "--partial"]).succeeded().text(), "");
    assert_eq!(home.run(["ls", "--partial", "--json"]).succeeded().json()["blobs"], serde_json::json!([]));
}

#[test]
fn untagged_blobs_are_those_that_no_tag_reaches() {
    let home = Home::new();
    home.write("in/a", "a");
    home.write("in/b", "b");
    home.run(["add", "-r", "in", "--tag", "t"]).succeeded();
    let loose = home.add("c", "c");
    assert_eq!(home.run(["ls", "--untagged"]).succeeded().text(), "");
    let tag = home.run(["tag", "ls", "auto-"]).succeeded().words()[2].clone();
    home.run(["tag", "rm", &tag]).succeeded();
    assert_eq!(home.run(["ls", "--untagged"]).succeeded().words(), [loose]);
    home.run(["rm", "t"]).succeeded();
    assert_eq!(home.run(["ls", "--untagged"]).succeeded().words().len(), 5);
}

#[test]
fn long_listing_has_size_and_tags() {
    let home = Home::new();
    home.write("f", bytes(12_345, 0));
    home.run(["add", "f", "--tag", "one"]).succeeded();
    let long = home.run(["ls", "--long"]).succeeded().words();
    assert_eq!(long[1..], ["complete", "12345", "one"]);
    let json = home.run(["ls", "--long", "--json"]).succeeded().json();
    assert_eq!(json["blobs"][0]["size"], 12_345);
    assert_eq!(json["blobs"][0]["tags"][0]["tag"], "one");
}

#[test]
fn files_of_a_collection_are_listed_by_name() {
    let home = Home::new();
    home.write("in/z", "z");
    home.write("in/a/b", "ab");
    home.run(["add", "-r", "in", "--tag", "t"]).succeeded();
    let listed = home.run(["ls", "t"]).succeeded().words();
    assert_eq!([&listed[1], &listed[3]], ["a/b", "z"]);
    let json = home.run(["ls", "t", "--long", "--json"]).succeeded().json();
    assert_eq!(json["files"][0]["name"], "a/b");
    assert_eq!(json["files"][0]["size"], 2);
    let hash = home.add("f", "no collection");
    home.run(["ls", &hash]).refused(1, &["is no collection", "blob get"]);
}

#[test]
fn stat_shows_what_a_blob_is() {
    let home = Home::new();
    let hash = home.add("f", bytes(20_000, 0));
    let json = home.run(["stat", &hash, "--json"]).succeeded().json();
    let blob = &json["blobs"][0];
    assert_eq!((blob["size"].as_u64(), blob["status"].as_str()), (Some(20_000), Some("complete")));
    assert_eq!((blob["format"].as_str(), blob["outboard_size"].as_u64()), (Some("raw"), Some(64)));
    home.write("in/a", "a");
    home.run(["add", "-r", "in", "--tag", "t"]).succeeded();
    assert!(home.run(["stat", "t"]).succeeded().text().contains("collection\nfiles     1"));
}

#[test]
fn has_answers_for_many_hashes_on_standard_input() {
    let home = Home::new();
    let there = home.add("f", "f");
    let missing = "0".repeat(64);
    let answer = home.feed(["has"], format!("{there}\n\n{missing}\n").as_bytes()).exited(1);
    assert_eq!(answer.text(), format!("{there}  complete\n{missing}  missing\n"));
    home.feed(["has", "-"], format!("{there}\n").as_bytes()).succeeded();
    home.run(["has", &there]).succeeded();
    home.run(["has", &missing]).exited(1);
    home.feed(["has"], b"nonsense\n").refused(2, &["\"nonsense\" is no hash"]);
    let json = home.run(["has", "--json", &there, &missing]).exited(1).json();
    assert_eq!(json["blobs"][1]["status"], "missing");
}
