//! Renaming tags, and deleting ranges of them.

use blob_traits::{Error, ReadTagsExt, Tag, TagRange, WriteTags};

use super::{all, content};
use crate::{Handle, Outcome, Trial, case::group};

group! {
    "tags", for S: WriteTags, Handle;
    rename_tag_replaces_the_tag_of_that_name,
    rename_tag_to_itself_changes_nothing,
    rename_tag_of_a_missing_one_is_refused_and_changes_nothing,
    rename_tag_is_one_step,
    delete_tags_of_a_range_and_of_a_prefix,
    delete_tags_is_one_step,
}

async fn rename_tag_replaces_the_tag_of_that_name<S: WriteTags>(_: &Trial<S>, store: S) -> Outcome {
    for (name, n) in [("a", 1), ("b", 2), ("c", 3)] {
        store.set_tag(name.into(), Some(content(n))).await?;
    }
    store.rename_tag("a".into(), "b".into()).await?;
    assert_eq!(all(&store).await?, [("b".into(), content(1)), ("c".into(), content(3))]);
    store.rename_tag("b".into(), "d".into()).await?;
    assert_eq!(all(&store).await?, [("c".into(), content(3)), ("d".into(), content(1))]);
    Ok(())
}

async fn rename_tag_to_itself_changes_nothing<S: WriteTags>(_: &Trial<S>, store: S) -> Outcome {
    store.set_tag("a".into(), Some(content(1))).await?;
    store.rename_tag("a".into(), "a".into()).await?;
    assert_eq!(all(&store).await?, [("a".into(), content(1))]);
    Ok(())
}

async fn rename_tag_of_a_missing_one_is_refused_and_changes_nothing<S: WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    store.set_tag("kept".into(), Some(content(1))).await?;
    for to in ["kept", "new", "missing"] {
        let renamed = store.rename_tag("missing".into(), to.into()).await;
        assert!(
            matches!(&renamed, Err(Error::TagNotFound { tag }) if *tag == "missing".into()),
            "{renamed:?}"
        );
    }
    assert_eq!(all(&store).await?, [("kept".into(), content(1))]);
    Ok(())
}

/// Whoever looks finds the tag under one name or the other, never under both or none.
async fn rename_tag_is_one_step<S: WriteTags + Handle>(_: &Trial<S>, store: S) -> Outcome {
    store.set_tag("a".into(), Some(content(1))).await?;
    let renaming = tokio::spawn({
        let store = store.clone();
        async move {
            for _ in 0..20 {
                store.rename_tag("a".into(), "z".into()).await?;
                store.rename_tag("z".into(), "a".into()).await?;
            }
            Ok::<(), Error>(())
        }
    });
    while !renaming.is_finished() {
        let found = all(&store).await?;
        let is_there =
            matches!(&*found, [(tag, to)] if ["a", "z"].map(Tag::from).contains(tag) && *to == content(1));
        assert!(is_there, "{found:?}");
        tokio::task::yield_now().await;
    }
    renaming.await??;
    Ok(())
}

/// Where the prefix ends in 0xff, counting it up takes care: the tag after it is not meant.
async fn delete_tags_of_a_range_and_of_a_prefix<S: WriteTags>(_: &Trial<S>, store: S) -> Outcome {
    let names =
        [&b""[..], b"a", b"a\xfe", b"a\xff", b"a\xff\xff", b"b", b"b\x00", b"c", b"\xff", b"\xff\xff"];
    let names = names.map(Tag::from);
    let prefix = |bytes: &[u8]| TagRange::prefix(Tag::from(bytes));
    let ranges = [
        prefix(b"a\xff"),
        prefix(b"a"),
        prefix(b"\xff"),
        prefix(b"b\x00\x00"),
        prefix(b""),
        TagRange::one("b"),
        TagRange::from(Tag::from("a")..Tag::from("b")),
        TagRange::from(Tag::from("a")..=Tag::from("b")),
        TagRange::from(Tag::from("c")..Tag::from("a")),
        TagRange::from(..Tag::from("a")),
        TagRange::from(Tag::from("b")..),
        TagRange::all(),
    ];
    for range in ranges {
        for name in &names {
            store.set_tag(name.clone(), Some(content(1))).await?;
        }
        store.delete_tags(range.clone()).await?;
        let left: Vec<_> = all(&store).await?.into_iter().map(|(tag, _)| tag).collect();
        let expected: Vec<_> = names.iter().filter(|name| !range.contains(name)).cloned().collect();
        assert_eq!(left, expected, "after the deletion of {range:?}");
    }
    Ok(())
}

/// Whoever looks finds all of the range or nothing of it.
async fn delete_tags_is_one_step<S: WriteTags + Handle>(_: &Trial<S>, store: S) -> Outcome {
    const N_TAGS: u8 = 20;
    for _ in 0..4 {
        for n in 0..N_TAGS {
            store.set_tag(Tag::from([b'x', n].as_slice()), Some(content(n))).await?;
        }
        let deleting = tokio::spawn({
            let store = store.clone();
            async move { store.delete_tags(TagRange::prefix("x")).await }
        });
        loop {
            let is_over = deleting.is_finished();
            let n_found = all(&store).await?.len();
            assert!([0, usize::from(N_TAGS)].contains(&n_found), "{n_found} of {N_TAGS}");
            if is_over {
                break;
            }
            tokio::task::yield_now().await;
        }
        deleting.await??;
        assert_eq!(store.get_tag(&Tag::from(&b"x\0"[..])).await?, None);
    }
    Ok(())
}
