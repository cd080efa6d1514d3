use std::collections::BTreeMap;

use blob_mem::MemStore;
use blob_traits::{Error, Hash, HashAndFormat, MAX_TAG_LEN, Tag, TagRange, collect, prelude::*};
use proptest::prelude::*;

fn content(n: u8) -> HashAndFormat {
    HashAndFormat::raw(Hash::from_bytes([n; 32]))
}

async fn all(store: &MemStore) -> Vec<(Tag, HashAndFormat)> {
    collect(store.tags(..).await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn tag_is_set_overwritten_and_deleted() {
    let store = MemStore::new();
    let tag = Tag::from("a");
    store.set_tag(tag.clone(), None).await.unwrap();
    store.set_tag(tag.clone(), Some(content(1))).await.unwrap();
    store.set_tag(tag.clone(), Some(HashAndFormat::hash_seq(content(2).hash))).await.unwrap();
    assert_eq!(store.get_tag(&tag).await.unwrap(), Some(HashAndFormat::hash_seq(content(2).hash)));
    store.delete_tag(tag.clone()).await.unwrap();
    assert_eq!(store.get_tag(&tag).await.unwrap(), None);
    assert_eq!(store.temp_tags().count(), 0);
}

#[tokio::test]
async fn any_name_up_to_the_limit_will_do() {
    let store = MemStore::new();
    for bytes in [vec![], vec![0xff, 0], vec![b'x'; MAX_TAG_LEN]] {
        store.set_tag(Tag(bytes.into()), Some(content(1))).await.unwrap();
    }
    let long = Tag::from("x".repeat(MAX_TAG_LEN + 1));
    for content in [Some(content(1)), None] {
        assert!(matches!(store.set_tag(long.clone(), content).await, Err(Error::TagTooLong { .. })));
    }
    let renamed = store.rename_tag(Tag::from(""), long).await;
    assert!(matches!(renamed, Err(Error::TagTooLong { .. })));
    assert_eq!(all(&store).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn created_tags_are_unique() {
    let store = MemStore::new();
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.create_tag(content(1)).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().to_string().starts_with("auto-"));
    }
    assert_eq!(all(&store).await.len(), 1000);
}

#[tokio::test]
async fn tag_is_renamed_over_another() {
    let store = MemStore::new();
    let missing = store.rename_tag("a".into(), "b".into()).await;
    assert!(matches!(missing, Err(Error::TagNotFound { tag }) if tag == "a".into()));
    store.set_tag("a".into(), Some(content(1))).await.unwrap();
    store.set_tag("b".into(), Some(content(2))).await.unwrap();
    store.rename_tag("a".into(), "a".into()).await.unwrap();
    store.rename_tag("a".into(), "b".into()).await.unwrap();
    assert_eq!(all(&store).await, [("b".into(), content(1))]);
}

#[tokio::test]
async fn range_of_tags_is_listed_and_deleted() {
    let store = MemStore::new();
    let names: [&[u8]; 6] = [b"a", b"a\xfe", b"a\xff", b"a\xff\xff", b"b", b"c"];
    for name in names {
        store.set_tag(name.into(), Some(content(1))).await.unwrap();
    }
    let prefix = || Tag::from(&b"a\xff"[..]);
    let listed = collect(store.tags_with_prefix(prefix()).await.unwrap()).await.unwrap();
    assert_eq!(listed.len(), 2);
    store.delete_tags(TagRange::prefix(prefix())).await.unwrap();
    store.delete_tags(Tag::from("c")..Tag::from("a")).await.unwrap();
    let left: Vec<_> = all(&store).await.into_iter().map(|(tag, _)| tag).collect();
    assert_eq!(left, [b"a", &b"a\xfe"[..], b"b", b"c"].map(Tag::from));
    store.delete_tags(..).await.unwrap();
    assert!(all(&store).await.is_empty());
}

#[tokio::test]
async fn listing_shows_the_state_at_the_call() {
    let store = MemStore::new();
    store.set_tag("a".into(), Some(content(1))).await.unwrap();
    let listing = store.tags(..).await.unwrap();
    store.set_tag("b".into(), Some(content(2))).await.unwrap();
    store.delete_tag("a".into()).await.unwrap();
    assert_eq!(collect(listing).await.unwrap(), [("a".into(), content(1))]);
}

#[tokio::test]
async fn temporary_tags_are_counted_by_format() {
    let store = MemStore::new();
    let hash = Hash::new(b"a");
    let raw = store.temp_tag(HashAndFormat::raw(hash));
    let clone = raw.clone();
    let seq = store.temp_tag(HashAndFormat::hash_seq(hash));
    let held = || store.temp_tags().collect::<Vec<_>>();
    assert_eq!(held(), [HashAndFormat::raw(hash), HashAndFormat::hash_seq(hash)]);
    drop(raw);
    drop(seq);
    assert_eq!(held(), [HashAndFormat::raw(hash)]);
    drop(clone);
    assert!(held().is_empty());
    store.temp_tag(HashAndFormat::raw(hash)).leak();
    assert_eq!(held(), [HashAndFormat::raw(hash)]);
}

#[tokio::test]
async fn temporary_tag_may_outlive_its_store() {
    let store = MemStore::new();
    let tag = store.temp_tag(content(1));
    drop(store);
    drop(tag);
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u8),
    Delete(u8),
    Rename(u8, u8),
    DeleteRange(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..6_u8;
    prop_oneof![
        3 => (name.clone(), any::<u8>()).prop_map(|(name, n)| Step::Set(name, n)),
        1 => name.clone().prop_map(Step::Delete),
        1 => (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (name.clone(), name).prop_map(|(start, end)| Step::DeleteRange(start, end)),
    ]
}

proptest! {
    #[test]
    fn tags_behave_like_a_map(steps in prop::collection::vec(step(), 0..30)) {
        futures_lite::future::block_on(async {
            let store = MemStore::new();
            let mut model = BTreeMap::new();
            let tag = |name: u8| Tag(vec![name].into());
            for step in steps {
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
                        prop_assert_eq!(renamed.is_ok(), moved.is_some());
                        moved.map(|content| model.insert(tag(to), content));
                    }
                    Step::DeleteRange(start, end) => {
                        store.delete_tags(tag(start)..tag(end)).await.unwrap();
                        model.retain(|name, _| !(tag(start)..tag(end)).contains(name));
                    }
                }
                prop_assert_eq!(all(&store).await, model.clone().into_iter().collect::<Vec<_>>());
            }
            Ok(())
        })?;
    }
}
