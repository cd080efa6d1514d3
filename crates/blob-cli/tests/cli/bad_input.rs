//! What a user can get wrong: each with its exit code and a message that says what to do.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener, process::CommandExt},
    process::Command,
};

use crate::home::{Home, Run};

#[test]
fn queries_do_not_create_a_store() {
    let home = Home::new();
    let hash = "0".repeat(64);
    for args in [
        &["ls"][..],
        &["stat", &hash],
        &["has", &hash],
        &["cat", &hash],
        &["get", &hash, "-o", "x"],
        &["export", &hash, "x"],
        &["rm", "x"],
        &["gc"],
        &["why", &hash],
        &["du"],
        &["tag", "ls"],
        &["tag", "rm", "x"],
        &["tag", "mv", "x", "y"],
        &["bao", "encode", &hash],
        &["bao", "outboard", &hash],
    ] {
        home.run(args).refused(10, &["no store in", "/store", "blob add"]);
        assert!(!home.store().exists(), "{args:?}");
    }
    // A directory that is no store does not become one either.
    fs::create_dir(home.store()).unwrap();
    home.run(["ls"]).exited(10);
    assert_eq!(fs::read_dir(home.store()).unwrap().count(), 0);
}

#[test]
fn nothing_to_add_creates_no_store() {
    let home = Home::new();
    home.run(["add", "missing"]).refused(1, &["no file", "missing", "spelling"]);
    assert!(!home.store().exists());
}

#[test]
fn directory_needs_r() {
    let home = Home::new();
    home.write("in/a", "a");
    home.run(["add", "in"]).refused(1, &["in is a directory", "add -r to store it as a collection"]);
}

#[test]
fn fifo_socket_and_device_are_refused_without_waiting() {
    let home = Home::new();
    let fifo = home.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let _socket = UnixListener::bind(home.path("socket")).unwrap();
    for name in ["fifo", "socket", "/dev/null"] {
        home.run(["add", name]).refused(1, &[name, "no regular file", "blob add -"]);
    }
    fs::create_dir(home.path("in")).unwrap();
    fs::rename(fifo, home.path("in/fifo")).unwrap();
    home.run(["add", "-r", "in"]).refused(1, &["in/fifo is a fifo", "--skip-special"]);
}

#[test]
fn name_that_is_no_text_is_named() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let home = Home::new();
    fs::create_dir(home.path("in")).unwrap();
    fs::write(home.path("in").join(OsStr::from_bytes(b"bad\xff")), "x").unwrap();
    home.run(["add", "-r", "in"]).refused(1, &["bad\u{fffd}", "not UTF-8", "rename it"]);
}

#[test]
fn unreadable_file_is_refused() {
    let home = Home::new();
    let secret = home.write("in/secret", "x");
    home.write("in/open", "y");
    let Some(run) = unprivileged(&home) else { return };
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o000)).unwrap();
    run(&["add", "in/secret"]).refused(1, &["no permission", "in/secret", "check the permissions"]);
    run(&["add", "-r", "in"]).refused(1, &["no permission", "in/secret"]);
    run(&["add", "in/secret", "in/open"]).refused(3, &["no permission"]);
    fs::set_permissions(home.path("in"), PermissionsExt::from_mode(0o000)).unwrap();
    run(&["add", "-r", "in"]).refused(1, &["no permission", "in"]);
    fs::set_permissions(home.path("in"), PermissionsExt::from_mode(0o755)).unwrap();
}

/// Runs the command as somebody for whom permissions count. `None` where that cannot be done.
fn unprivileged(home: &Home) -> Option<impl Fn(&[&str]) -> Run> {
    let program = home.path("blob");
    fs::copy(env!("CARGO_BIN_EXE_blob"), &program).unwrap();
    fs::set_permissions(home.path("."), PermissionsExt::from_mode(0o777)).unwrap();
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let (dir, store) = (home.path("."), home.store());
    let run = move |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args).current_dir(&dir).env_clear().env("BLOB_STORE", &store);
        if is_root {
            command.uid(65_534);
        }
        command.output()
    };
    run(&["--version"]).ok()?;
    Some(move |args: &[&str]| run(args).unwrap().into())
}

#[test]
fn malformed_hashes_are_told_from_missing_tags() {
    let home = Home::new();
    let hash = home.add("f", "f");
    home.run(["cat", &hash[1..]]).refused(2, &["is no hash", "63 characters"]);
    home.run(["cat", &format!("{hash}0")]).refused(2, &["is no hash", "65 characters"]);
    home.run(["cat", &format!("{}g", &hash[1..])]).refused(2, &["is no hash", "position 63"]);
    home.run(["cat", "deadbeef"]).refused(1, &["no tag \"deadbeef\"", "blob tag ls"]);
    home.run(["cat", ""]).refused(2, &["hash or the name of a tag"]);
    home.run(["has", "deadbeef"]).refused(2, &["is no hash", "8 characters"]);
}

#[test]
fn malformed_ranges_are_precise() {
    let home = Home::new();
    let hash = home.add("f", "0123456789");
    for (range, word) in [
        ("5..3", "5..3 ends before it begins"),
        ("x", "\"x\" is no range"),
        ("", "no range"),
        ("1..y", "\"y\" is no number of bytes"),
        ("1..2kb", "\"2kb\" is no number"),
        ("-1..2", "\"-1\" is no number"),
        ("0..99999999999999999999", "too large"),
        ("1+18446744073709551615", "too large"),
    ] {
        home.run(["cat", &format!("{hash}:{range}")]).refused(2, &[word]);
    }
    home.run(["cat", &format!("{hash}:11..")]).refused(1, &["begins at byte 11", "10 bytes", "blob stat"]);
}

#[test]
fn blob_that_is_not_there_is_named() {
    let home = Home::new();
    home.add("f", "f");
    let missing = "0".repeat(64);
    for args in [
        &["cat", &missing][..],
        &["get", &missing, "-o", "x"],
        &["export", &missing, "x"],
        &["stat", &missing],
        &["rm", &missing],
        &["bao", "encode", &missing],
    ] {
        home.run(args).refused(1, &[&missing, "not in the store", "blob ls"]);
        assert!(!home.path("x").exists());
    }
}

#[test]
fn full_disk_is_named_and_nothing_is_lost() {
    let home = Home::new();
    home.write("small", "small");
    home.write("big", vec![1; 8 << 20]);
    fs::create_dir(home.path("disk")).unwrap();
    let script = "mount -t tmpfs -o size=4m none disk || exit 99
        export BLOB_STORE=disk/store
        $0 add small --tag small || exit 98
        $0 add big && exit 97
        code=$?
        test \"$($0 cat small)\" = small || exit 96
        exit $code";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_blob")]).current_dir(home.path("."));
    let Ok(output) = command.output() else { return };
    let run = Run::from(output);
    // Without the right to mount, there is no small disk to fill.
    if !run.err.contains("unshare") && run.code != Some(99) {
        run.refused(1, &["no space left", "make room"]);
    }
}

#[test]
fn full_output_is_an_error_and_a_closed_one_is_not() {
    let home = Home::new();
    let hash = home.add("f", vec![0; 1 << 20]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let run: Run = home.command(["cat", &hash]).stdout(full).output().unwrap().into();
    run.refused(1, &["standard output", "No space left"]);
    let mut child = home.command(["cat", &hash]).spawn().unwrap();
    drop(child.stdout.take());
    let run = Run::from(child.wait_with_output().unwrap()).succeeded();
    assert_eq!(run.err, "");
}

#[test]
fn wrong_usage_is_two() {
    let home = Home::new();
    for args in
        [&["add"][..], &["frobnicate"], &["ls", "--partial", "--untagged"], &["cat", "--bogus", "x"], &[]]
    {
        home.run(args).exited(2);
    }
    assert!(home.run(["--help"]).succeeded().text().contains("130  interrupted"));
    home.run(["completions", "bash"]).succeeded();
}
