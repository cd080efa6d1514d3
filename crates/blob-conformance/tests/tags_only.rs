//! A backend that has tags and nothing else: the smallest there is, held to the cases that it has the capabilities for.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use blob_conformance::{
    Harness, Suite,
    groups::tags::{create, listing, rename},
};
use blob_traits::{
    BoxStream, Error, HashAndFormat, Lifecycle, MAX_TAG_LEN, ReadTags, Result, Tag, TagRange, TempTag,
    TempTagRegistry, TempTags, WriteTags,
};
use futures_lite::stream;

fn main() -> ExitCode {
    let suite = Suite::without_cases("tags-only", async |_| Ok(TagStore::default()))
        .group(create::group())
        .group(rename::group())
        .group(listing::group());
    Harness::new().suite(suite).main()
}

#[derive(Clone, Default)]
struct TagStore {
    tags: Arc<Mutex<BTreeMap<Tag, HashAndFormat>>>,
    temp_tags: TempTagRegistry,
    is_closed: Arc<AtomicBool>,
}

impl TagStore {
    fn tags(&self) -> Result<MutexGuard<'_, BTreeMap<Tag, HashAndFormat>>> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        Ok(self.tags.lock().expect("nobody panics while holding it"))
    }
}

impl ReadTags for TagStore {
    async fn tags(&self, range: impl Into<TagRange> + Send) -> Result<BoxStream<(Tag, HashAndFormat)>> {
        let range = range.into();
        let tags = self.tags()?.clone();
        Ok(Box::pin(stream::iter(tags.into_iter().filter(move |(tag, _)| range.contains(tag)).map(Ok))))
    }
}

impl WriteTags for TagStore {
    async fn set_tag(&self, tag: Tag, content: Option<HashAndFormat>) -> Result<()> {
        if tag.0.len() > MAX_TAG_LEN {
            return Err(Error::TagTooLong { len: tag.0.len(), limit: MAX_TAG_LEN });
        }
        match content {
            Some(content) => self.tags()?.insert(tag, content),
            None => self.tags()?.remove(&tag),
        };
        Ok(())
    }

    async fn create_tag(&self, content: HashAndFormat) -> Result<Tag> {
        let mut tags = self.tags()?;
        let tag = Tag::auto(SystemTime::now(), |tag| tags.contains_key(tag));
        tags.insert(tag.clone(), content);
        Ok(tag)
    }

    async fn delete_tags(&self, range: impl Into<TagRange> + Send) -> Result<()> {
        let range = range.into();
        self.tags()?.retain(|tag, _| !range.contains(tag));
        Ok(())
    }

    async fn rename_tag(&self, from: Tag, to: Tag) -> Result<()> {
        let mut tags = self.tags()?;
        let content = tags.remove(&from).ok_or(Error::TagNotFound { tag: from })?;
        tags.insert(to, content);
        Ok(())
    }
}

impl TempTags for TagStore {
    fn temp_tag(&self, content: HashAndFormat) -> TempTag {
        self.temp_tags.issue(content)
    }

    fn temp_tags(&self) -> Box<dyn Iterator<Item = HashAndFormat> + Send + Sync + 'static> {
        Box::new(self.temp_tags.snapshot().into_iter())
    }
}

impl Lifecycle for TagStore {
    async fn sync(&self) -> Result<()> {
        self.tags().map(drop)
    }

    async fn shutdown(&self) -> Result<()> {
        self.is_closed.store(true, Ordering::Relaxed);
        Ok(())
    }
}
