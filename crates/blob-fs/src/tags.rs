//! Tags and temporary tags.

use std::collections::BTreeSet;

use blob_traits::{
    BoxStream, Error, HashAndFormat, ReadTags, Result, Tag, TagRange, TempTag, TempTags, WriteTags,
    blocking::unblock,
};
use futures_lite::StreamExt;
use smallvec::{SmallVec, smallvec};

use crate::{
    engine::{Decision, Keys},
    format::record::MAX_TAG_DELETES,
    import::check_tag_len,
    list,
    op::Op,
    store::FsStore,
};

/// No transaction deletes names of more than so many bytes together.
const MAX_NAMES: usize = 8 << 20;

impl TempTags for FsStore {
    fn temp_tag(&self, content: HashAndFormat) -> TempTag {
        self.engine.pins.temp_tag(content)
    }

    fn temp_tags(&self) -> Box<dyn Iterator<Item = HashAndFormat> + Send + Sync + 'static> {
        Box::new(self.engine.pins.snapshot().into_iter())
    }
}

impl ReadTags for FsStore {
    async fn tags(&self, range: impl Into<TagRange> + Send) -> Result<BoxStream<(Tag, HashAndFormat)>> {
        let (engine, range) = (self.engine.clone(), range.into());
        let listed = unblock(move || list::tags(&engine, &range)).await?;
        Ok(Box::pin(listed.boxed().map(|item| item.map(|(tag, row)| (tag, row.content)))))
    }
}

impl WriteTags for FsStore {
    async fn set_tag(&self, tag: Tag, content: Option<HashAndFormat>) -> Result<()> {
        check_tag_len(tag.as_ref().len())?;
        let pins = &self.engine.pins;
        let keys = Keys { blobs: SmallVec::new(), tags: smallvec![tag.clone()] };
        self.engine
            .transact(&keys, 0, |state, looked| {
                let old = state.pending_tag(&tag, looked);
                Ok(match content {
                    Some(content) => {
                        let pin = pins.tag(state, content);
                        Decision::Write(vec![Op::TagSet { tag, content }], smallvec![pin], ())
                    }
                    None if old.is_some() => {
                        Decision::Write(vec![Op::TagDelete { tags: vec![tag] }], SmallVec::new(), ())
                    }
                    // A removal that is queued is not durable yet: what follows it in the log is.
                    None if state.is_tag_hidden(&tag) => Decision::Write(vec![Op::Mark], SmallVec::new(), ()),
                    None => Decision::Nothing(()),
                })
            })
            .await
    }

    async fn create_tag(&self, content: HashAndFormat) -> Result<Tag> {
        let pins = &self.engine.pins;
        loop {
            // One whose look-up failed is taken for free; the decision finds out.
            let taken = |tag: &Tag| self.engine.is_tag_taken(tag).unwrap_or(false);
            let tag = Tag::auto(self.engine.vfs.now(), taken);
            let keys = Keys { blobs: SmallVec::new(), tags: smallvec![tag.clone()] };
            let created = self
                .engine
                .transact(&keys, 0, |state, looked| {
                    if state.pending_tag(&tag, looked).is_some() {
                        return Ok(Decision::Nothing(None));
                    }
                    let pin = pins.tag(state, content);
                    let op = Op::TagSet { tag: tag.clone(), content };
                    Ok(Decision::Write(vec![op], smallvec![pin], Some(tag)))
                })
                .await?;
            if let Some(tag) = created {
                return Ok(tag);
            }
        }
    }

    async fn delete_tags(&self, range: impl Into<TagRange> + Send) -> Result<()> {
        let (engine, range) = (self.engine.clone(), range.into());
        loop {
            let (this, within) = (engine.clone(), range.clone());
            let (keys, generation) = unblock(move || list::tag_names(&this, &within)).await?;
            let deleted = engine
                .transact(&keys, 0, |state, looked| {
                    if state.visible.generation != generation {
                        // What was recent then may be in the index now: the list is made again.
                        return Ok(Decision::Nothing(false));
                    }
                    let names: BTreeSet<&Tag> = keys.tags.iter().chain(state.recent_tags(&range)).collect();
                    let hidden = names.iter().any(|tag| state.is_tag_hidden(tag));
                    let there = |tag: &&Tag| state.pending_tag(tag, looked).is_some();
                    let tags: Vec<Tag> = names.into_iter().filter(there).cloned().collect();
                    if tags.is_empty() && hidden {
                        // A removal that is queued is not durable yet: what follows it in the log is.
                        return Ok(Decision::Write(vec![Op::Mark], SmallVec::new(), true));
                    }
                    if tags.is_empty() {
                        return Ok(Decision::Nothing(true));
                    }
                    let names: usize = tags.iter().map(|tag| tag.as_ref().len() + 6).sum();
                    if names > MAX_NAMES {
                        let source = std::io::Error::new(
                            std::io::ErrorKind::InvalidInput,
                            "the names are over 8 MiB together; delete smaller ranges",
                        );
                        return Err(Error::Io { doing: "delete tags", path: None, source });
                    }
                    let ops = tags.chunks(MAX_TAG_DELETES).map(|tags| Op::TagDelete { tags: tags.to_vec() });
                    Ok(Decision::Write(ops.collect(), SmallVec::new(), true))
                })
                .await?;
            if deleted {
                return Ok(());
            }
        }
    }

    async fn rename_tag(&self, from: Tag, to: Tag) -> Result<()> {
        check_tag_len(to.as_ref().len())?;
        let pins = &self.engine.pins;
        let keys = Keys { blobs: SmallVec::new(), tags: smallvec![from.clone(), to.clone()] };
        self.engine
            .transact(&keys, 0, |state, looked| {
                let Some((content, _)) = state.pending_tag(&from, looked) else {
                    return Err(Error::TagNotFound { tag: from });
                };
                if from == to {
                    return Ok(Decision::Nothing(()));
                }
                let pin = pins.tag(state, content);
                let ops = vec![Op::TagDelete { tags: vec![from] }, Op::TagSet { tag: to, content }];
                Ok(Decision::Write(ops, smallvec![pin], ()))
            })
            .await
    }
}
