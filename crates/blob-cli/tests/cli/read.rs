//! Reading whole blobs and ranges.

use std::fs;

use crate::home::{Home, bytes};

#[test]
fn ranges_are_those_of_the_file() {
    let home = Home::new();
    let all = bytes(2_500_000, 1);
    let hash = home.add("file", &all);
    for (range, expected) in [
        ("0..1", &all[0..1]),
        ("1000..70000", &all[1000..70_000]),
        ("1048570..1048590", &all[1_048_570..1_048_590]),
        ("1MiB+1KiB", &all[1 << 20..(1 << 20) + 1024]),
        ("2499990..", &all[2_499_990..]),
        ("2499990..9999999", &all[2_499_990..]),
        ("..10", &all[..10]),
        ("..", &all[..]),
        ("5..5", &all[..0]),
        ("2500000..", &all[..0]),
    ] {
        assert_eq!(home.run(["cat", &format!("{hash}:{range}")]).succeeded().out, expected, "{range}");
    }
    let two = home.run(["cat", &format!("{hash}:10..20,0..5"), &format!("{hash}:7+1")]).succeeded().out;
    assert_eq!(two, [&all[10..20], &all[0..5], &all[7..8]].concat());
}

#[test]
fn range_of_a_tag_with_colons_is_read() {
    let home = Home::new();
    home.write("f", "0123456789");
    let tag = home.run(["add", "f"]).succeeded().words()[1].clone();
    assert!(tag.contains(':'));
    assert_eq!(home.run(["cat", &tag]).succeeded().out, b"0123456789");
    assert_eq!(home.run(["cat", &format!("{tag}:3..5")]).succeeded().out, b"34");
}

#[test]
fn get_writes_a_file_whole_or_not_at_all() {
    let home = Home::new();
    let hash = home.add("file", bytes(1_200_000, 2));
    home.run(["get", &hash, "-o", "out"]).succeeded();
    assert_eq!(fs::read(home.path("out")).unwrap(), bytes(1_200_000, 2));
    home.run(["get", &format!("{hash}:5..9"), "-o", "out"]).refused(4, &["exists already", "--force"]);
    home.run(["get", &format!("{hash}:5..9"), "-o", "out", "--force"]).succeeded();
    assert_eq!(fs::read(home.path("out")).unwrap(), bytes(1_200_000, 2)[5..9]);
    home.run(["get", &hash, "-o", "missing/out"]).refused(1, &["no file", "missing"]);
    home.run(["get", &hash, "-o", "."]).refused(1, &["is a directory"]);
    assert_eq!(home.run(["get", &hash, "-o", "-"]).succeeded().out, bytes(1_200_000, 2));
}

#[test]
fn base32_names_a_blob_too() {
    let home = Home::new();
    let hash = home.add("file", "x");
    let bytes: Vec<u8> =
        (0..64).step_by(2).map(|i| u8::from_str_radix(&hash[i..i + 2], 16).unwrap()).collect();
    let (mut base32, mut bits, mut n_bits) = (String::new(), 0_u32, 0);
    for byte in bytes.into_iter().chain([0]) {
        bits = bits << 8 | u32::from(byte);
        n_bits += 8;
        while n_bits >= 5 && base32.len() < 52 {
            n_bits -= 5;
            let digit = u8::try_from(bits >> n_bits & 31).unwrap();
            base32.push(char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(digit)]));
        }
        bits &= 0xff;
    }
    assert_eq!(home.run(["cat", &base32]).succeeded().out, b"x");
}

#[test]
fn bytes_and_json_do_not_mix() {
    let home = Home::new();
    let hash = home.add("file", "x");
    for verb in ["cat", "get"] {
        let lines = home.run([verb, &hash, "--json"]).exited(2).json_lines();
        assert_eq!(lines.last().unwrap()["type"], "summary");
    }
}
