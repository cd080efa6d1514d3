//! Checking a store that is being worked with: what is told is what is so.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::sync::{Arc, Mutex};

use blob_fs::FsStore;
use blob_traits::{CheckMode, ConsistencyCheckProgress as Event, Hash, HashAndFormat, Progress, prelude::*};
use support::{
    files::segments,
    has, hash, import, lazy,
    log::{change, records},
    open, temp_dir, tiny,
};

const SMALL_LEN: usize = 20_000;
const LARGE_LEN: usize = 100_000;
/// The kind of the record of a large blob.
const LARGE: u8 = 2;

/// What a check says.
async fn said(store: &FsStore, mode: CheckMode, act: impl Fn(&Event) + Send + Sync + 'static) -> Vec<String> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let seen = said.clone();
    let progress = Progress::from_fn(move |event| {
        act(&event);
        if let Event::Update { message, .. } = event {
            seen.lock().unwrap().push(message);
        }
        Ok(())
    });
    store.consistency_check(mode, progress).await.unwrap();
    said.lock().unwrap().clone()
}

/// The numbers in what is said of the whole store: bytes of the log, live, dead, of files.
async fn totals(store: &FsStore) -> Vec<u64> {
    let said = said(store, CheckMode::Report, |_| {}).await;
    let line = said.iter().find(|line| line.starts_with("the log has")).unwrap();
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[tokio::test]
async fn totals_are_those_of_what_is_there_now_and_of_what_the_index_has_later() {
    let dir = temp_dir();
    let store = open(lazy(dir.path())).await;
    for seed in 0..3 {
        let name = import(&store, seed, SMALL_LEN).await;
        store.set_tag(format!("tag {seed}").as_str().into(), Some(HashAndFormat::raw(name))).await.unwrap();
    }
    import(&store, 10, LARGE_LEN).await;
    let now = totals(&store).await;
    let [log, live, dead, files] = now.as_slice() else { panic!("{now:?}") };
    assert!(*live > 60_000 && log == &(live + dead) && *files > 100_000, "{now:?}");
    store.delete(vec![hash(0, SMALL_LEN), hash(10, LARGE_LEN)]).await.unwrap();
    let fewer = totals(&store).await;
    assert!(fewer[1] < live - 20_000 && fewer[3] == 0, "{now:?}, then {fewer:?}");
    store.shutdown().await.unwrap();
    drop(store);
    // Now the index has it all.
    let store = open(lazy(dir.path())).await;
    let space = store.space().await.unwrap();
    let later = totals(&store).await;
    assert_eq!((later[1], later[3]), (fewer[1], 0));
    assert_eq!((space.live_log_bytes, space.file_bytes), (fewer[1], 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_while_it_was_looked_at_is_not_said_to_be_mended() {
    let dir = temp_dir();
    let store = open(tiny(dir.path())).await;
    let (name, other) = (import(&store, 1, LARGE_LEN).await, import(&store, 2, LARGE_LEN).await);
    for seed in 10..16 {
        import(&store, seed, SMALL_LEN).await;
    }
    store.shutdown().await.unwrap();
    drop(store);
    let segment = segments(dir.path()).remove(0);
    let larges: Vec<_> = records(&segment).into_iter().filter(|record| record.kind == LARGE).collect();
    assert_eq!(larges.len(), 2);
    for large in larges {
        change(&segment, |bytes| bytes.iter_mut().skip(large.range.start + 10).take(1).for_each(|b| *b ^= 1));
    }
    let store = open(tiny(dir.path())).await;
    let deleting = store.clone();
    let said = said(&store, CheckMode::Repair, move |event| {
        let is_it =
            |entry: &Option<Hash>, message: &str| *entry == Some(name) && message.contains("cannot be read");
        if matches!(event, Event::Update { message, entry, .. } if is_it(entry, message)) {
            futures_lite::future::block_on(deleting.delete(vec![name])).unwrap();
        }
    });
    let said = said.await;
    assert_eq!(said.iter().filter(|what| what.contains("recorded anew")).count(), 1, "{said:?}");
    assert!(
        !has(&store, 1, LARGE_LEN).await && has(&store, 2, LARGE_LEN).await && other == hash(2, LARGE_LEN)
    );
    assert!(said.iter().any(|what| what.contains("what can be read was moved")), "{said:?}");
}
