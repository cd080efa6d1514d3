//! Listing tags.

use std::{collections::BTreeMap, ops::Bound};

use blob_traits::{HashAndFormat, ReadTagsExt, Tag, TagRange, WriteTags, WriteTagsExt, collect};
use futures_lite::StreamExt;
use proptest::prelude::*;
use tokio::task::JoinSet;

use super::{all, content};
use crate::{Handle, Outcome, Trial, case::group};

group! {
    "tags", for S: WriteTags, Handle;
    tags_iteration_sorted_stable_snapshot,
    tags_of_a_range_or_a_prefix_are_those_in_it,
    tags_listing_longer_than_a_page_is_a_snapshot,
    tags_listed_during_changes_are_those_of_one_moment,
}

/// Few different bytes, so that prefixes and neighbours are met often.
fn short_tag() -> impl Strategy<Value = Tag> {
    let byte = prop::sample::select(vec![0, 1, b'a', 0xfe, 0xff]);
    prop::collection::vec(byte, 0..4).prop_map(|bytes| Tag::from(&*bytes))
}

fn some_tags() -> impl Strategy<Value = BTreeMap<Tag, HashAndFormat>> {
    prop::collection::btree_map(short_tag(), any::<u8>().prop_map(content), 0..8)
}

async fn tags_iteration_sorted_stable_snapshot<S: WriteTags + Handle>(trial: &Trial<S>, store: S) -> Outcome {
    trial
        .for_all(10, (some_tags(), some_tags(), any::<bool>()), async |(before, after, is_begun)| {
            store.delete_tags(..).await?;
            for (tag, content) in before.iter().rev() {
                store.set_tag(tag.clone(), Some(*content)).await?;
            }
            let mut listing = store.tags(..).await?;
            // Whether or not somebody has begun to read it.
            let first = if is_begun { listing.next().await.transpose()? } else { None };
            for tag in before.keys() {
                store.delete_tag(tag.clone()).await?;
            }
            for (tag, content) in after.clone() {
                store.set_tag(tag, Some(content)).await?;
            }
            let found: Vec<_> = first.into_iter().chain(collect(listing).await?).collect();
            assert_eq!(found, before.into_iter().collect::<Vec<_>>());
            assert_eq!(all(&store).await?, after.into_iter().collect::<Vec<_>>());
            Ok(())
        })
        .await
}

fn bound() -> impl Strategy<Value = Bound<Tag>> {
    prop_oneof![
        Just(Bound::Unbounded),
        short_tag().prop_map(Bound::Included),
        short_tag().prop_map(Bound::Excluded),
    ]
}

async fn tags_of_a_range_or_a_prefix_are_those_in_it<S: WriteTags + Handle>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let ranges = prop::collection::vec((bound(), bound()), 12);
    let prefixes = prop::collection::vec(short_tag(), 12);
    trial
        .for_all(8, (some_tags(), ranges, prefixes), async |(tags, ranges, prefixes)| {
            store.delete_tags(..).await?;
            for (tag, content) in tags.clone() {
                store.set_tag(tag, Some(content)).await?;
            }
            let those = |is_meant: &dyn Fn(&Tag) -> bool| -> Vec<_> {
                tags.clone().into_iter().filter(|(tag, _)| is_meant(tag)).collect()
            };
            for range in ranges.into_iter().map(TagRange::from) {
                let found = collect(store.tags(range.clone()).await?).await?;
                assert_eq!(found, those(&|tag| range.contains(tag)), "{range:?}");
            }
            for prefix in prefixes {
                let found = collect(store.tags_with_prefix(prefix.clone()).await?).await?;
                assert_eq!(found, those(&|tag| tag.0.starts_with(&prefix.0)), "{prefix}");
            }
            Ok(())
        })
        .await
}

/// More than a store would read in one go.
async fn tags_listing_longer_than_a_page_is_a_snapshot<S: WriteTags + Handle>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    const N_TAGS: u64 = 1100;
    let name = |n: u64| Tag::from(format!("{n:05}"));
    let mut setting = JoinSet::new();
    for n in 0..N_TAGS {
        let store = store.clone();
        setting.spawn(async move { store.set_tag(name(n), Some(content(1))).await });
    }
    while let Some(ended) = setting.join_next().await {
        ended??;
    }
    let mut listing = store.tags(..).await?;
    assert_eq!(listing.next().await.transpose()?, Some((name(0), content(1))));
    store.delete_tags(name(N_TAGS - 30)..).await?;
    store.set_tag(name(N_TAGS - 31), Some(content(2))).await?;
    store.set_tag("zzz".into(), Some(content(2))).await?;
    let expected: Vec<_> = (1..N_TAGS).map(|n| (name(n), content(1))).collect();
    assert_eq!(collect(listing).await?, expected);
    Ok(())
}

/// Three tags are set one after the other to the same number, again and again.
async fn tags_listed_during_changes_are_those_of_one_moment<S: WriteTags + Handle>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let tags = ["a", "m", "z"].map(Tag::from);
    for tag in &tags {
        store.set_tag(tag.clone(), Some(content(0))).await?;
    }
    let changing = tokio::spawn({
        let store = store.clone();
        async move {
            for n in 1..20 {
                for tag in &tags {
                    store.set_tag(tag.clone(), Some(content(n))).await?;
                }
            }
            Ok::<(), blob_traits::Error>(())
        }
    });
    while !changing.is_finished() {
        let found: Vec<_> = all(&store).await?.into_iter().map(|(_, content)| content).collect();
        let [first, middle, last] = *found else { panic!("{found:?}") };
        let step = |newer: HashAndFormat, older: HashAndFormat| {
            newer.hash.as_bytes()[0].wrapping_sub(older.hash.as_bytes()[0])
        };
        let is_one_moment = step(first, last) <= 1 && step(first, middle) + step(middle, last) <= 1;
        assert!(is_one_moment, "{found:?}");
        tokio::task::yield_now().await;
    }
    changing.await??;
    Ok(())
}
