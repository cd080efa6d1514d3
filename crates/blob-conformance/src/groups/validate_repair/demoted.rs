//! Blobs that were demoted, and collection.

use blob_gc::{GcError, GcOptions, GcStore, UnreadableSequences, collect};
use blob_traits::{
    BlobFormat, Damage, Demote, EntryStatus, Error, Hash, HashAndFormat, Import, ImportExt, MapMut, Progress,
    Store, Sweep, WriteTags,
};

use crate::{Outcome, Sample, Trial, case::group, chunks};

group! {
    "validate_repair", for S: Store, Sweep, Demote;
    repair_demoted_sequence_keeps_its_children,
}

/// What the lost part of a hash sequence lists is not known: a round that found it partial and swept on would delete blobs
/// that are kept by it.
async fn repair_demoted_sequence_keeps_its_children<S: GcStore + Import + MapMut + WriteTags + Demote>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let children: Vec<_> = (0..3).map(|number| Sample::numbered(100, number)).collect();
    // One of them is listed in each chunk group.
    let fill = |number: usize| Hash::new(number.to_le_bytes());
    let in_group = |child: &Sample| std::iter::once(child.hash).chain((0..511).map(fill)).collect::<Vec<_>>();
    let listed = children.iter().flat_map(in_group);
    let list = Sample::of(listed.flat_map(|hash| *hash.as_bytes()).collect::<Vec<_>>());
    let garbage = Sample::numbered(100, 9);
    for sample in children.iter().chain([&list, &garbage]) {
        drop(store.import_bytes(sample.data.clone(), BlobFormat::Raw).await?);
    }
    store.set_tag("list".into(), Some(HashAndFormat::hash_seq(list.hash))).await?;
    let entry = store.get(&list.hash).await?.ok_or("the list is not there")?;
    let damage = Damage { lost: chunks(16..32), mended: Vec::new() };
    store.demote(entry, damage).await?.ok_or("the list is something else")?;
    assert!(store.was_demoted(&list.hash).await?);
    let sweep = || collect(&store, GcOptions::default(), Progress::none());
    match sweep().await {
        Err(GcError::UnreadableSequence { hash, source: Error::Damaged { .. } }) => {
            assert_eq!(hash, list.hash);
        }
        other => panic!("{other:?}"),
    }
    for sample in children.iter().chain([&garbage]) {
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
    }
    // More of it, and not all.
    list.write(&store, &chunks(16..20)).await?;
    assert!(sweep().await.is_err());
    // All of it again.
    list.write(&store, &chunks(16..32)).await?;
    store.insert_complete(store.get_mut(&list.hash).await?.ok_or("the list has gone")?).await?;
    assert!(!store.was_demoted(&list.hash).await?);
    sweep().await.map_err(|e| e.to_string())?;
    assert_eq!(store.entry_status(&garbage.hash).await?, EntryStatus::NotFound);
    for child in &children {
        assert_eq!(store.entry_status(&child.hash).await?, EntryStatus::Complete);
    }
    // Whoever asks for it collects what nothing is known to keep.
    let entry = store.get(&list.hash).await?.ok_or("the list has gone")?;
    store.demote(entry, Damage { lost: chunks(16..32), mended: Vec::new() }).await?;
    let mut options = GcOptions::default();
    options.unreadable = UnreadableSequences::KeepWhatCanBeRead;
    collect(&store, options, Progress::none()).await.map_err(|e| e.to_string())?;
    let mut kept = Vec::new();
    for child in &children {
        kept.push(store.entry_status(&child.hash).await? == EntryStatus::Complete);
    }
    assert_eq!(kept, [true, false, true]);
    Ok(())
}
