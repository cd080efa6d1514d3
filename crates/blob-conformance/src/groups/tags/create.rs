//! Tags whose names the store makes up.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use blob_traits::{ReadTagsExt, Tag, WriteTags};
use tokio::task::JoinSet;

use super::{all, content};
use crate::{Failure, Handle, Outcome, Trial, case::group};

group! {
    "tags", for S: WriteTags, Handle;
    create_tag_unique_under_concurrency_1000,
    create_tag_never_collides_with_user_named_tag,
    create_tag_is_named_after_the_time,
}

async fn create_tag_unique_under_concurrency_1000<S: WriteTags + Handle>(_: &Trial<S>, store: S) -> Outcome {
    let mut creating = JoinSet::new();
    for n in 0..1000_u32 {
        let store = store.clone();
        let content = content(n.to_le_bytes()[0]);
        creating.spawn(async move { store.create_tag(content).await.map(|tag| (tag, content)) });
    }
    let mut created = BTreeMap::new();
    while let Some(ended) = creating.join_next().await {
        let (tag, content) = ended??;
        assert_eq!(created.insert(tag.clone(), content), None, "{tag} was given twice");
    }
    assert_eq!(all(&store).await?, created.into_iter().collect::<Vec<_>>());
    Ok(())
}

/// Takes the names of the next milliseconds, with the first numbers, before the store can.
async fn take_names<S: WriteTags + Handle>(store: &S) -> Result<BTreeSet<Tag>, Failure> {
    let (now, mut taking, mut names) = (SystemTime::now(), JoinSet::new(), BTreeSet::new());
    for ms in 0..200 {
        let name = Tag::auto(now + Duration::from_millis(ms), |_| false);
        for name in [name.clone(), Tag::from(format!("{name}-1"))] {
            names.insert(name.clone());
            let store = store.clone();
            taking.spawn(async move { store.set_tag(name, Some(content(1))).await });
        }
    }
    while let Some(ended) = taking.join_next().await {
        ended??;
    }
    Ok(names)
}

async fn create_tag_never_collides_with_user_named_tag<S: WriteTags + Handle>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let mut names = take_names(&store).await?;
    let users = names.clone();
    for _ in 0..20 {
        let created = store.create_tag(content(2)).await?;
        assert!(names.insert(created.clone()), "{created} was taken");
        assert_eq!(store.get_tag(&created).await?, Some(content(2)));
    }
    for (tag, found) in all(&store).await? {
        assert_eq!(found, content(if users.contains(&tag) { 1 } else { 2 }), "{tag}");
    }
    Ok(())
}

async fn create_tag_is_named_after_the_time<S: WriteTags>(_: &Trial<S>, store: S) -> Outcome {
    let now = || Tag::auto(SystemTime::now(), |_| false);
    for _ in 0..3 {
        let before = now();
        let created = store.create_tag(content(1)).await?;
        let after = now();
        // A number may follow.
        let time = Tag(created.0.slice(..before.0.len().min(created.0.len())));
        assert!(before <= time && time <= after, "{before} .. {created} .. {after}");
    }
    Ok(())
}
