//! Setting and deleting single tags.

use std::collections::BTreeMap;

use blob_traits::{
    BlobFormat, BlobStatus, CheckMode, ConsistencyCheck, EntryStatus, Error, Hash, HashAndFormat, Import,
    ImportExt, ImportSource, MAX_TAG_LEN, Progress, ReadTagsExt, Store, Tag, TempTags, WriteTags,
    WriteTagsExt,
};
use proptest::prelude::*;

use super::{all, content};
use crate::{Outcome, Sample, Trial, case::group, groups::consistency_check::troubles};

const CRASHES: &str = "needs the crash simulator";

group! {
    "tags", for S: Store;
    set_get_list_delete_tag,
    set_tag_overwrite_points_to_the_new_root_alone,
    set_tag_none_deletes_and_missing_is_ok,
    set_tag_leaves_no_temp_tag,
    tag_bytes_arbitrary_non_utf8_empty_max_len,
    tag_too_long_rejected,
    tag_too_long_refuses_the_import_with_it,
    tag_to_missing_hash_allowed,
    tag_to_missing_hash_reported_by_consistency_check,
    tag_raw_and_hashseq_same_hash_both_kept,
    tags_survive_reopen [needs Persistence],
    tag_set_acked_survives_end_of_process [needs Durability],
    tag_set_acked_survives_powercut [pending CRASHES],
    tag_ops_linearizable_vs_model,
}

async fn set_get_list_delete_tag<S: WriteTags>(_: &Trial<S>, store: S) -> Outcome {
    let tags = ["a", "b", "c"].map(Tag::from);
    assert!(all(&store).await?.is_empty());
    for (tag, n) in tags.iter().zip(1..) {
        assert_eq!(store.get_tag(tag).await?, None);
        store.set_tag(tag.clone(), Some(content(n))).await?;
        assert_eq!(store.get_tag(tag).await?, Some(content(n)));
    }
    let [a, b, c] = tags;
    assert_eq!(
        all(&store).await?,
        [(a.clone(), content(1)), (b.clone(), content(2)), (c.clone(), content(3))]
    );
    store.delete_tag(b.clone()).await?;
    assert_eq!(store.get_tag(&b).await?, None);
    assert_eq!(all(&store).await?, [(a, content(1)), (c, content(3))]);
    Ok(())
}

async fn set_tag_overwrite_points_to_the_new_root_alone<S: WriteTags>(_: &Trial<S>, store: S) -> Outcome {
    let tag = Tag::from("a");
    for next in [content(1), content(2), HashAndFormat::hash_seq(content(2).hash), content(1)] {
        store.set_tag(tag.clone(), Some(next)).await?;
        assert_eq!(all(&store).await?, [(tag.clone(), next)]);
        assert_eq!(store.get_tag(&tag).await?, Some(next));
    }
    Ok(())
}

async fn set_tag_none_deletes_and_missing_is_ok<S: WriteTags>(_: &Trial<S>, store: S) -> Outcome {
    store.set_tag("missing".into(), None).await?;
    store.set_tag("kept".into(), Some(content(1))).await?;
    store.set_tag("gone".into(), Some(content(2))).await?;
    for _ in 0..2 {
        store.set_tag("gone".into(), None).await?;
        store.delete_tag("missing".into()).await?;
        assert_eq!(all(&store).await?, [("kept".into(), content(1))]);
    }
    Ok(())
}

async fn set_tag_leaves_no_temp_tag<S: WriteTags + TempTags>(_: &Trial<S>, store: S) -> Outcome {
    for n in 0..50 {
        store.set_tag("a".into(), Some(content(n))).await?;
        assert_eq!(store.temp_tags().count(), 0);
        store.rename_tag("a".into(), "b".into()).await?;
        assert_eq!(store.temp_tags().count(), 0);
    }
    store.create_tag(content(1)).await?;
    assert_eq!(store.temp_tags().count(), 0);
    Ok(())
}

async fn tag_bytes_arbitrary_non_utf8_empty_max_len<S: WriteTags + Clone>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let name = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..20),
        2 => prop::collection::vec(prop::sample::select(vec![0, b'/', b'.', b'\n', 0xfe, 0xff]), 0..6),
        1 => any::<u8>().prop_map(|byte| vec![byte; MAX_TAG_LEN]),
        1 => Just(Vec::new()),
    ];
    let names = prop::collection::btree_map(name, any::<u8>(), 1..6);
    trial
        .for_all(12, names, async |names| {
            let expected: Vec<_> =
                names.into_iter().map(|(name, n)| (Tag::from(&*name), content(n))).collect();
            for (tag, content) in expected.iter().rev() {
                store.set_tag(tag.clone(), Some(*content)).await?;
            }
            assert_eq!(all(&store).await?, expected);
            for (tag, content) in expected {
                assert_eq!(store.get_tag(&tag).await?, Some(content));
                store.delete_tag(tag).await?;
            }
            assert!(all(&store).await?.is_empty());
            Ok(())
        })
        .await
}

async fn tag_too_long_rejected<S: WriteTags>(_: &Trial<S>, store: S) -> Outcome {
    let longest = Tag::from(vec![b'x'; MAX_TAG_LEN].as_slice());
    store.set_tag(longest.clone(), Some(content(1))).await?;
    for len in [MAX_TAG_LEN + 1, 2 * MAX_TAG_LEN, 70_000] {
        let long = Tag::from(vec![b'x'; len].as_slice());
        let refused = [
            store.set_tag(long.clone(), Some(content(2))).await,
            store.set_tag(long.clone(), None).await,
            store.rename_tag(longest.clone(), long.clone()).await,
        ];
        for refused in refused {
            let is_right =
                matches!(refused, Err(Error::TagTooLong { len: n, limit: MAX_TAG_LEN }) if n == len);
            assert!(is_right, "{refused:?}");
        }
    }
    assert_eq!(all(&store).await?, [(longest, content(1))]);
    Ok(())
}

async fn tag_too_long_refuses_the_import_with_it<S: WriteTags + Import + BlobStatus + Clone>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let long = Tag::from(vec![b'x'; MAX_TAG_LEN + 1].as_slice());
    for sample in trial.ways().into_iter().map(Sample::new) {
        let source = ImportSource::Bytes(sample.data.clone());
        let refused = store.import_tagged(source, BlobFormat::Raw, long.clone(), Progress::none()).await;
        assert!(matches!(refused, Err(Error::TagTooLong { .. })), "{refused:?}");
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::NotFound);
    }
    assert!(all(&store).await?.is_empty());
    Ok(())
}

async fn tag_to_missing_hash_allowed<S: WriteTags + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    let missing = Hash::new(b"missing");
    for content in [HashAndFormat::raw(missing), HashAndFormat::hash_seq(missing)] {
        store.set_tag("a".into(), Some(content)).await?;
        let created = store.create_tag(content).await?;
        assert_eq!(store.get_tag(&"a".into()).await?, Some(content));
        assert_eq!(store.get_tag(&created).await?, Some(content));
        assert_eq!(store.entry_status(&missing).await?, EntryStatus::NotFound);
    }
    Ok(())
}

async fn tag_raw_and_hashseq_same_hash_both_kept<S: WriteTags>(_: &Trial<S>, store: S) -> Outcome {
    let (raw, seq) = (content(1), HashAndFormat::hash_seq(content(1).hash));
    store.set_tag("raw".into(), Some(raw)).await?;
    store.set_tag("seq".into(), Some(seq)).await?;
    assert_eq!(all(&store).await?, [("raw".into(), raw), ("seq".into(), seq)]);
    store.delete_tag("raw".into()).await?;
    assert_eq!(all(&store).await?, [("seq".into(), seq)]);
    Ok(())
}

/// Sets, replaces, renames and deletes tags of all kinds of names, and tells which are left.
async fn leave_some<S: WriteTags>(store: &S) -> Result<Vec<(Tag, HashAndFormat)>, Error> {
    let longest = Tag::from(vec![0xff; MAX_TAG_LEN].as_slice());
    for name in ["".into(), "old".into(), "gone".into(), "set twice".into(), longest.clone()] {
        store.set_tag(name, Some(content(1))).await?;
    }
    let seq = HashAndFormat::hash_seq(content(2).hash);
    store.set_tag("set twice".into(), Some(seq)).await?;
    store.set_tag("gone".into(), None).await?;
    store.rename_tag("old".into(), "new".into()).await?;
    let created = store.create_tag(content(3)).await?;
    let expected = [
        ("".into(), content(1)),
        ("new".into(), content(1)),
        ("set twice".into(), seq),
        (longest, content(1)),
        (created, content(3)),
    ];
    Ok(BTreeMap::from(expected).into_iter().collect())
}

async fn tags_survive_reopen<S: WriteTags + Clone>(trial: &Trial<S>, mut store: S) -> Outcome {
    let expected = leave_some(&store).await?;
    for _ in 0..2 {
        store = trial.reopen(store).await?;
        assert_eq!(all(&store).await?, expected);
    }
    for (tag, content) in expected {
        assert_eq!(store.get_tag(&tag).await?, Some(content));
    }
    Ok(())
}

async fn tag_set_acked_survives_end_of_process<S: WriteTags + Clone>(
    trial: &Trial<S>,
    mut store: S,
) -> Outcome {
    let expected = leave_some(&store).await?;
    for _ in 0..2 {
        store = trial.crash_and_reopen(store).await?;
        assert_eq!(all(&store).await?, expected);
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Set(u8, u8),
    Delete(u8),
    Rename(u8, u8),
    DeleteRange(u8, u8),
    Create(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = 0..6_u8;
    let step = prop_oneof![
        4 => (name.clone(), any::<u8>()).prop_map(|(name, n)| Step::Set(name, n)),
        1 => name.clone().prop_map(Step::Delete),
        2 => (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (name.clone(), name).prop_map(|(start, end)| Step::DeleteRange(start, end)),
        1 => any::<u8>().prop_map(Step::Create),
    ];
    prop::collection::vec(step, 1..14)
}

/// Does a step to the store and to the model.
async fn apply<S: WriteTags>(
    store: &S,
    model: &mut BTreeMap<Tag, HashAndFormat>,
    step: Step,
) -> Result<(), Error> {
    let tag = |name: u8| Tag::from([name].as_slice());
    match step {
        Step::Set(name, n) => {
            store.set_tag(tag(name), Some(content(n))).await?;
            model.insert(tag(name), content(n));
        }
        Step::Delete(name) => {
            store.set_tag(tag(name), None).await?;
            model.remove(&tag(name));
        }
        Step::Rename(from, to) => {
            match (store.rename_tag(tag(from), tag(to)).await, model.remove(&tag(from))) {
                (Ok(()), Some(content)) => drop(model.insert(tag(to), content)),
                (Err(Error::TagNotFound { tag: missing }), None) => assert_eq!(missing, tag(from)),
                (renamed, there) => panic!("{renamed:?} where {there:?} was there"),
            }
        }
        Step::DeleteRange(start, end) => {
            store.delete_tags(tag(start)..tag(end)).await?;
            model.retain(|name, _| !(tag(start)..tag(end)).contains(name));
        }
        Step::Create(n) => {
            let created = store.create_tag(content(n)).await?;
            assert_eq!(model.insert(created, content(n)), None);
        }
    }
    Ok(())
}

/// One call after the other: each finds what the ones before it left.
async fn tag_ops_linearizable_vs_model<S: WriteTags + Clone>(trial: &Trial<S>, store: S) -> Outcome {
    trial
        .for_all(12, steps(), async |steps| {
            store.delete_tags(..).await?;
            let mut model = BTreeMap::new();
            for step in steps {
                apply(&store, &mut model, step).await?;
                assert_eq!(all(&store).await?, model.clone().into_iter().collect::<Vec<_>>());
            }
            Ok(())
        })
        .await
}

async fn tag_to_missing_hash_reported_by_consistency_check<S: WriteTags + ConsistencyCheck>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let content = HashAndFormat::raw(Hash::new("absent"));
    store.set_tag("nowhere".into(), Some(content)).await?;
    let said = troubles(&store, CheckMode::Report).await?;
    assert!(said.iter().any(|said| said.entry == Some(content.hash)), "{said:?}");
    store.set_tag("nowhere".into(), None).await?;
    assert_eq!(troubles(&store, CheckMode::Report).await?, []);
    Ok(())
}
