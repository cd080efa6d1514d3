//! Tags and temporary tags.

use std::ops::Bound;

use blob_traits::{HashAndFormat, Store, Tag, TagRange, collect};

use super::{Check, done, expect, op::Op, refused, world::World};

/// Names that are prefixes of others, or neighbours, or at the end of a range of bytes.
const NAMES: [&[u8]; N_TAGS] = [b"", b"a", b"a\xff", b"a/b", b"b", b"auto-"];
/// How many of them there are.
pub(super) const N_TAGS: usize = 6;

/// A name by its number.
pub(super) fn name(number: usize) -> Tag {
    Tag::from(NAMES.get(number % N_TAGS).copied().unwrap_or_default())
}

impl<S: Store> World<'_, S> {
    pub(super) async fn apply_to_names(&mut self, op: &Op) -> Check {
        let store = self.store()?;
        let content = |blob: usize, format| HashAndFormat::new(self.known(blob).hash, format);
        match op {
            Op::SetTag { tag, blob, format } => {
                let content = content(*blob, *format);
                done("set_tag", store.set_tag(name(*tag), Some(content)).await)?;
                self.tags.insert(name(*tag), content);
                self.check_tags(TagRange::one(name(*tag))).await
            }
            Op::DeleteTag { tag } => {
                done("delete_tag", store.delete_tag(name(*tag)).await)?;
                self.tags.remove(&name(*tag));
                self.check_tags(TagRange::one(name(*tag))).await
            }
            Op::CreateTag { blob } => self.create_tag(HashAndFormat::raw(self.known(*blob).hash)).await,
            Op::RenameTag { from, to } => self.rename_tag(name(*from), name(*to)).await,
            Op::DeleteTags { from, to } => {
                let range = (Bound::Excluded(name(*from)), Bound::Included(name(*to)));
                self.delete_tags(range.into()).await
            }
            Op::DeleteTagsWithPrefix { prefix } => self.delete_tags(TagRange::prefix(name(*prefix))).await,
            Op::TempTag { blob, format } => {
                let temp_tag = store.temp_tag(content(*blob, *format));
                self.temp_tags.push(temp_tag);
                Ok(())
            }
            Op::CloneTempTag { which } => {
                let n = self.temp_tags.len().max(1);
                self.temp_tags.extend(self.temp_tags.get(which % n).cloned());
                Ok(())
            }
            Op::DropTempTag { which } => {
                if let Some(which) = which.checked_rem(self.temp_tags.len()) {
                    self.temp_tags.swap_remove(which);
                }
                Ok(())
            }
            other => Err(format!("{other:?} has nothing to do with names")),
        }
    }

    async fn create_tag(&mut self, content: HashAndFormat) -> Check {
        let tag = done("create_tag", self.store()?.create_tag(content).await)?;
        expect("a created tag has a name that says so", &tag.0.starts_with(b"auto-"), &true)?;
        expect("a created tag is new", &self.tags.insert(tag.clone(), content), &None)?;
        self.check_tags(TagRange::prefix("auto-")).await
    }

    async fn rename_tag(&mut self, from: Tag, to: Tag) -> Check {
        let renamed = self.store()?.rename_tag(from.clone(), to.clone()).await;
        match self.tags.remove(&from) {
            None => refused("rename_tag", renamed, &["tag-not-found"])?,
            Some(content) => {
                done("rename_tag", renamed)?;
                self.tags.insert(to, content);
            }
        }
        self.check_tags(TagRange::all()).await
    }

    async fn delete_tags(&mut self, range: TagRange) -> Check {
        done("delete_tags", self.store()?.delete_tags(range.clone()).await)?;
        self.tags.retain(|tag, _| !range.contains(tag));
        self.check_tags(range).await?;
        self.check_tags(TagRange::all()).await
    }

    /// Compares the tags in a range.
    pub(super) async fn check_tags(&self, range: TagRange) -> Check {
        let store = self.store()?;
        let expected: Vec<_> =
            self.tags.iter().filter(|(tag, _)| range.contains(tag)).map(|(t, c)| (t.clone(), *c)).collect();
        let found = done("tags", async { collect(store.tags(range).await?).await }.await)?;
        expect("tags", &found, &expected)
    }
}
