//! Why something is kept, and what a tag alone keeps.

use blob_gc::{GcError, GcStore, Reason, Root, exclusive, why};
use blob_traits::{HashAndFormat, Import, MapMut, Store, Sweep, WriteTags};

use super::{import, samples, sequence, tag_raw, tag_seq};
use crate::{Outcome, Sample, Trial, case::group};

group! {
    "gc", for S: Store, Sweep;
    why_names_every_chain_in_order,
    why_is_empty_for_garbage_and_what_is_missing,
    why_names_a_temporary_tag_once,
    why_fails_where_a_sequence_is_malformed,
    exclusive_is_what_nothing_else_keeps,
    exclusive_of_a_tag_whose_content_is_kept_otherwise_is_empty,
    exclusive_of_no_tag_is_none,
}

fn tagged(name: &str, through: Option<&Sample>) -> Reason {
    Reason { root: Root::Tag(name.into()), through: through.map(|list| list.hash) }
}

async fn why_names_every_chain_in_order<S: GcStore + Import + WriteTags>(_: &Trial<S>, store: S) -> Outcome {
    let [blob, other] = [1, 2].map(|number| Sample::numbered(100, number));
    let (list, longer) = (sequence([blob.hash]), sequence([other.hash, blob.hash, blob.hash]));
    import(&store, [&blob, &other, &list, &longer]).await?;
    tag_raw(&store, "raw", &blob).await?;
    tag_seq(&store, "b", &list).await?;
    tag_seq(&store, "a", &longer).await?;
    // Names the sequence, not what it lists.
    tag_raw(&store, "c", &list).await?;
    let reasons = why(&store, blob.hash).await?;
    assert_eq!(reasons, [tagged("a", Some(&longer)), tagged("b", Some(&list)), tagged("raw", None)]);
    assert_eq!(why(&store, list.hash).await?, [tagged("b", None), tagged("c", None)]);
    Ok(())
}

async fn why_is_empty_for_garbage_and_what_is_missing<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let [kept, garbage, missing] = [1, 2, 3].map(|number| Sample::numbered(100, number));
    import(&store, [&kept, &garbage]).await?;
    tag_raw(&store, "kept", &kept).await?;
    assert!(why(&store, garbage.hash).await?.is_empty());
    assert!(why(&store, missing.hash).await?.is_empty());
    Ok(())
}

async fn why_names_a_temporary_tag_once<S: GcStore + Import>(_: &Trial<S>, store: S) -> Outcome {
    let child = Sample::new(100);
    let list = sequence([child.hash]);
    import(&store, [&child, &list]).await?;
    let pins = [HashAndFormat::raw(list.hash), HashAndFormat::hash_seq(list.hash)]
        .map(|content| store.temp_tag(content));
    assert_eq!(why(&store, list.hash).await?, [Reason { root: Root::TempTag, through: None }]);
    let through = Some(list.hash);
    assert_eq!(why(&store, child.hash).await?, [Reason { root: Root::TempTag, through }]);
    drop(pins);
    assert!(why(&store, child.hash).await?.is_empty());
    Ok(())
}

async fn why_fails_where_a_sequence_is_malformed<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let malformed = Sample::new(33);
    import(&store, [&malformed]).await?;
    tag_seq(&store, "seq", &malformed).await?;
    let failed = why(&store, Sample::new(100).hash).await;
    assert!(matches!(failed, Err(GcError::MalformedSequence { hash, .. }) if hash == malformed.hash));
    Ok(())
}

async fn exclusive_is_what_nothing_else_keeps<S: GcStore + Import + MapMut + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let children = samples(4);
    let list = sequence(children.iter().map(|child| child.hash).chain([Sample::new(5).hash]));
    let other = sequence(children.iter().take(1).map(|child| child.hash));
    import(&store, children.iter().chain([&list, &other])).await?;
    tag_seq(&store, "list", &list).await?;
    tag_seq(&store, "other", &other).await?;
    let [_, second, third, fourth] = children.as_slice() else { return Err("there are four".into()) };
    tag_raw(&store, "third", third).await?;
    let pin = store.temp_tag(HashAndFormat::raw(fourth.hash));
    let found = exclusive(&store, "list".into()).await?.ok_or("the tag is there")?;
    let mut wanted = [(second.hash, second.size()), (list.hash, list.size())];
    wanted.sort_unstable();
    assert_eq!(found.blobs, wanted);
    assert_eq!(found.bytes, second.size() + list.size());
    drop(pin);
    Ok(())
}

async fn exclusive_of_a_tag_whose_content_is_kept_otherwise_is_empty<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let child = Sample::new(100);
    let list = sequence([child.hash]);
    import(&store, [&child, &list]).await?;
    tag_seq(&store, "a", &list).await?;
    tag_seq(&store, "b", &list).await?;
    for name in ["a", "b"] {
        let found = exclusive(&store, name.into()).await?.ok_or("the tag is there")?;
        assert_eq!((found.blobs.len(), found.bytes), (0, 0));
    }
    Ok(())
}

async fn exclusive_of_no_tag_is_none<S: GcStore>(_: &Trial<S>, store: S) -> Outcome {
    assert_eq!(exclusive(&store, "none".into()).await?, None);
    Ok(())
}
