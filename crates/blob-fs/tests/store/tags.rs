use std::collections::{BTreeMap, BTreeSet};

use blob_fs::FsStore;
use blob_traits::{Error, Hash, HashAndFormat, MAX_TAG_LEN, Tag, TagRange, collect, prelude::*};
use proptest::prelude::*;

use crate::home::{Home, SETUPS, Setup, open};

fn content(n: u8) -> HashAndFormat {
    HashAndFormat::raw(Hash::from_bytes([n; 32]))
}

async fn all(store: &FsStore) -> Vec<(Tag, HashAndFormat)> {
    collect(store.tags(..).await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn tag_is_set_overwritten_and_deleted() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let tag = Tag::from("a");
        store.set_tag(tag.clone(), None).await.unwrap();
        store.set_tag(tag.clone(), Some(content(1))).await.unwrap();
        store.set_tag(tag.clone(), Some(HashAndFormat::hash_seq(content(2).hash))).await.unwrap();
        let store = home.reopen(store).await;
        assert_eq!(store.get_tag(&tag).await.unwrap(), Some(HashAndFormat::hash_seq(content(2).hash)));
        store.delete_tag(tag.clone()).await.unwrap();
        assert_eq!(store.get_tag(&tag).await.unwrap(), None);
        assert_eq!(store.temp_tags().count(), 0);
        let store = home.reopen(store).await;
        assert!(all(&store).await.is_empty());
    }
}

#[tokio::test]
async fn any_name_up_to_the_limit_will_do() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let names = [vec![], vec![0], vec![0xff, 0], vec![0xff; MAX_TAG_LEN], b"a\n\x1b/../b".to_vec()];
        for bytes in names.clone() {
            store.set_tag(Tag(bytes.into()), Some(content(1))).await.unwrap();
        }
        let long = Tag::from("x".repeat(MAX_TAG_LEN + 1));
        for content in [Some(content(1)), None] {
            assert!(matches!(store.set_tag(long.clone(), content).await, Err(Error::TagTooLong { .. })));
        }
        let renamed = store.rename_tag(Tag::from(""), long.clone()).await;
        assert!(matches!(renamed, Err(Error::TagTooLong { len: 4097, limit: 4096 })));
        let store = home.reopen(store).await;
        let expected: BTreeSet<_> = names.into_iter().map(|name| Tag(name.into())).collect();
        assert_eq!(all(&store).await.into_iter().map(|(tag, _)| tag).collect::<BTreeSet<_>>(), expected);
        for tag in expected {
            assert_eq!(store.get_tag(&tag).await.unwrap(), Some(content(1)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn created_tags_are_unique_and_stay() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let tasks: Vec<_> = (0..200)
            .map(|i| {
                let store = store.clone();
                tokio::spawn(async move { (store.create_tag(content(i)).await.unwrap(), content(i)) })
            })
            .collect();
        let mut created = BTreeMap::new();
        for task in tasks {
            let (tag, content) = task.await.unwrap();
            assert!(tag.to_string().starts_with("auto-"));
            assert_eq!(created.insert(tag, content), None);
        }
        assert_eq!(all(&store).await, created.clone().into_iter().collect::<Vec<_>>());
        let store = home.reopen(store).await;
        assert_eq!(all(&store).await, created.into_iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn tag_is_renamed_over_another() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let missing = store.rename_tag("a".into(), "b".into()).await;
        assert!(matches!(missing, Err(Error::TagNotFound { tag }) if tag == "a".into()));
        store.set_tag("a".into(), Some(content(1))).await.unwrap();
        store.set_tag("b".into(), Some(content(2))).await.unwrap();
        store.rename_tag("a".into(), "a".into()).await.unwrap();
        store.rename_tag("a".into(), "b".into()).await.unwrap();
        assert_eq!(all(&store).await, [("b".into(), content(1))]);
        let store = home.reopen(store).await;
        assert_eq!(all(&store).await, [("b".into(), content(1))]);
    }
}

#[tokio::test]
async fn range_of_tags_is_listed_and_deleted() {
    for setup in SETUPS {
        for reopened in [false, true] {
            let (home, mut store) = open(setup).await;
            for name in [&b"a"[..], b"a\xfe", b"a\xff", b"a\xff\xff", b"b", b"c", b"\xff", b"\xff\xff\xff"] {
                store.set_tag(name.into(), Some(content(1))).await.unwrap();
            }
            if reopened {
                store = home.reopen(store).await;
            }
            let prefix = |bytes: &[u8]| TagRange::prefix(Tag::from(bytes));
            let count =
                async |range: TagRange| collect(store.tags(range).await.unwrap()).await.unwrap().len();
            assert_eq!(count(prefix(b"a\xff")).await, 2);
            assert_eq!(count(prefix(b"\xff")).await, 2);
            assert_eq!(count(prefix(b"")).await, 8);
            assert_eq!(count((Tag::from("c")..Tag::from("a")).into()).await, 0);
            store.delete_tags(prefix(b"a\xff")).await.unwrap();
            store.delete_tags(prefix(b"\xff\xff")).await.unwrap();
            store.delete_tags(Tag::from("c")..Tag::from("a")).await.unwrap();
            let left: Vec<_> = all(&store).await.into_iter().map(|(tag, _)| tag).collect();
            assert_eq!(left, [&b"a"[..], b"a\xfe", b"b", b"c", b"\xff"].map(Tag::from));
            store.delete_tags(..).await.unwrap();
            let store = home.reopen(store).await;
            assert!(all(&store).await.is_empty());
        }
    }
}

/// Who sets tags while a range that they are in is deleted loses either all that were there at one moment, or none.
#[tokio::test(flavor = "multi_thread")]
async fn deletion_of_a_range_is_one_step() {
    for setup in [Setup::Default, Setup::Tiny] {
        let (_home, store) = open(setup).await;
        for round in 0..30 {
            let first = Tag::from(format!("{round}/a"));
            store.set_tag(first.clone(), Some(content(1))).await.unwrap();
            let setting = {
                let store = store.clone();
                tokio::spawn(async move {
                    for name in ["b", "c", "d"] {
                        let tag = Tag::from(format!("{round}/{name}"));
                        store.set_tag(tag, Some(content(2))).await.unwrap();
                    }
                })
            };
            let prefix = Tag::from(format!("{round}/"));
            store.delete_tags(TagRange::prefix(prefix.clone())).await.unwrap();
            assert_eq!(store.get_tag(&first).await.unwrap(), None);
            setting.await.unwrap();
            // Those that were set later are there: no earlier one without all later ones.
            let left = collect(store.tags_with_prefix(prefix).await.unwrap()).await.unwrap();
            let names: Vec<_> = left.iter().map(|(tag, _)| *tag.0.last().unwrap()).collect();
            assert!(b"bcd".ends_with(&names), "{names:?}");
        }
    }
}

#[tokio::test]
async fn listing_shows_the_state_at_the_call() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        store.set_tag("a".into(), Some(content(1))).await.unwrap();
        let listing = store.tags(..).await.unwrap();
        store.set_tag("b".into(), Some(content(2))).await.unwrap();
        store.set_tag("a".into(), Some(content(3))).await.unwrap();
        store.delete_tag("a".into()).await.unwrap();
        assert_eq!(collect(listing).await.unwrap(), [("a".into(), content(1))]);
    }
}

#[tokio::test]
async fn both_formats_of_one_blob_may_be_tagged() {
    let (home, store) = open(Setup::Default).await;
    let (raw, seq) = (content(1), HashAndFormat::hash_seq(content(1).hash));
    store.set_tag("raw".into(), Some(raw)).await.unwrap();
    store.set_tag("seq".into(), Some(seq)).await.unwrap();
    let store = home.reopen(store).await;
    assert_eq!(all(&store).await, [("raw".into(), raw), ("seq".into(), seq)]);
}

#[tokio::test]
async fn temporary_tags_are_counted_by_format_and_end_with_the_store() {
    let (home, store) = open(Setup::Default).await;
    let hash = Hash::new(b"a");
    let raw = store.temp_tag(HashAndFormat::raw(hash));
    let clone = raw.clone();
    let seq = store.temp_tag(HashAndFormat::hash_seq(hash));
    let held = |store: &FsStore| store.temp_tags().collect::<Vec<_>>();
    assert_eq!(held(&store), [HashAndFormat::raw(hash), HashAndFormat::hash_seq(hash)]);
    drop(raw);
    drop(seq);
    assert_eq!(held(&store), [HashAndFormat::raw(hash)]);
    std::thread::spawn(move || drop(clone)).join().unwrap();
    assert!(held(&store).is_empty());
    store.temp_tag(HashAndFormat::raw(hash)).leak();
    let kept = store.temp_tag(HashAndFormat::hash_seq(hash));
    assert_eq!(held(&store), [HashAndFormat::raw(hash), HashAndFormat::hash_seq(hash)]);
    let store = home.reopen(store).await;
    assert!(held(&store).is_empty());
    drop(kept);
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u8),
    Delete(u8),
    Rename(u8, u8),
    DeleteRange(u8, u8),
    Reopen,
    Drop,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..6_u8;
    prop_oneof![
        12 => (name.clone(), any::<u8>()).prop_map(|(name, n)| Step::Set(name, n)),
        4 => name.clone().prop_map(Step::Delete),
        4 => (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        4 => (name.clone(), name).prop_map(|(start, end)| Step::DeleteRange(start, end)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Drop),
    ]
}

/// Does a step to the store and to a map.
async fn apply(home: &Home, store: FsStore, model: &mut BTreeMap<Tag, HashAndFormat>, step: Step) -> FsStore {
    let tag = |name: u8| Tag(vec![name].into());
    match step {
        Step::Set(name, n) => {
            store.set_tag(tag(name), Some(content(n))).await.unwrap();
            model.insert(tag(name), content(n));
        }
        Step::Delete(name) => {
            store.set_tag(tag(name), None).await.unwrap();
            model.remove(&tag(name));
        }
        Step::Rename(from, to) => {
            let renamed = store.rename_tag(tag(from), tag(to)).await;
            let moved = model.remove(&tag(from));
            assert_eq!(renamed.is_ok(), moved.is_some());
            moved.map(|content| model.insert(tag(to), content));
        }
        Step::DeleteRange(start, end) => {
            store.delete_tags(tag(start)..tag(end)).await.unwrap();
            model.retain(|name, _| !(tag(start)..tag(end)).contains(name));
        }
        Step::Reopen => return home.reopen(store).await,
        Step::Drop => {
            drop(store);
            return home.open().await;
        }
    }
    store
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn tags_behave_like_a_map(
        setup in prop::sample::select(vec![Setup::Default, Setup::Tiny]),
        steps in prop::collection::vec(step(), 0..30),
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let (home, mut store) = open(setup).await;
            let mut model = BTreeMap::new();
            for step in steps {
                store = apply(&home, store, &mut model, step).await;
                prop_assert_eq!(all(&store).await, model.clone().into_iter().collect::<Vec<_>>());
            }
            Ok(())
        })?;
    }
}
