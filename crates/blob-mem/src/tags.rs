//! Tags and temporary tags.

use std::time::SystemTime;

use blob_traits::{
    BoxStream, Error, HashAndFormat, MAX_TAG_LEN, ReadTags, Result, Tag, TagRange, TempTag, TempTags,
    WriteTags,
};

use crate::{
    list::stream,
    store::{MemStore, State},
};

/// Checks the length of a tag.
pub(crate) fn check_tag(tag: &Tag) -> Result<()> {
    let len = tag.0.len();
    if len > MAX_TAG_LEN { Err(Error::TagTooLong { len, limit: MAX_TAG_LEN }) } else { Ok(()) }
}

/// The tags in a range, in order.
fn tags_in(state: &State, range: &TagRange) -> Vec<(Tag, HashAndFormat)> {
    let bounds = range.bounds();
    let tags = bounds.into_iter().flat_map(|bounds| state.tags.range::<Tag, _>(bounds));
    tags.map(|(tag, content)| (tag.clone(), *content)).collect()
}

impl ReadTags for MemStore {
    async fn tags(&self, range: impl Into<TagRange> + Send) -> Result<BoxStream<(Tag, HashAndFormat)>> {
        let range = range.into();
        Ok(stream(tags_in(&*self.state()?, &range)))
    }
}

impl WriteTags for MemStore {
    async fn set_tag(&self, tag: Tag, content: Option<HashAndFormat>) -> Result<()> {
        check_tag(&tag)?;
        let mut state = self.state()?;
        if let Some(content) = content {
            let _pin = self.pins().tag(&state, content);
            state.tags.insert(tag, content);
        } else {
            state.tags.remove(&tag);
        }
        Ok(())
    }

    async fn create_tag(&self, content: HashAndFormat) -> Result<Tag> {
        let mut state = self.state()?;
        let _pin = self.pins().tag(&state, content);
        let tag = Tag::auto(SystemTime::now(), |tag| state.tags.contains_key(tag));
        state.tags.insert(tag.clone(), content);
        Ok(tag)
    }

    async fn delete_tags(&self, range: impl Into<TagRange> + Send) -> Result<()> {
        let range = range.into();
        let mut state = self.state()?;
        for (tag, _) in tags_in(&state, &range) {
            state.tags.remove(&tag);
        }
        Ok(())
    }

    async fn rename_tag(&self, from: Tag, to: Tag) -> Result<()> {
        check_tag(&to)?;
        let mut state = self.state()?;
        let Some(content) = state.tags.get(&from).copied() else {
            return Err(Error::TagNotFound { tag: from });
        };
        let _pin = self.pins().tag(&state, content);
        state.tags.remove(&from);
        state.tags.insert(to, content);
        Ok(())
    }
}

impl TempTags for MemStore {
    fn temp_tag(&self, content: HashAndFormat) -> TempTag {
        self.pins().temp_tag(content)
    }

    fn temp_tags(&self) -> Box<dyn Iterator<Item = HashAndFormat> + Send + Sync + 'static> {
        Box::new(self.pins().snapshot().into_iter())
    }
}
