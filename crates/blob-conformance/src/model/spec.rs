//! What one call does to a store that does nothing else meanwhile, for blobs and tags by number.

use std::collections::{BTreeMap, BTreeSet};

use blob_traits::EntryStatus;

/// A call as it was made and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) what: What,
    pub(super) told: Told,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Import {
        blob: u8,
        tag: Option<u8>,
    },
    Delete {
        blob: u8,
    },
    Status {
        blob: u8,
    },
    Present {
        blob: u8,
    },
    /// Handles have numbers of their own.
    GetOrCreate {
        blob: u8,
        handle: usize,
    },
    Write {
        blob: u8,
        handle: usize,
        group: u8,
    },
    InsertComplete {
        blob: u8,
        handle: usize,
    },
    Blobs,
    PartialBlobs,
    SetTag {
        tag: u8,
        blob: u8,
    },
    DeleteTag {
        tag: u8,
    },
    GetTag {
        tag: u8,
    },
    RenameTag {
        from: u8,
        to: u8,
    },
    DeleteTags,
    Tags,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Done,
    Refused(&'static str),
    Status(EntryStatus),
    /// The chunk groups that are there.
    Present(Option<BTreeSet<u8>>),
    Blobs(Vec<u8>),
    Tag(Option<u8>),
    Tags(BTreeMap<u8, u8>),
}

/// What a call reads or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Blob(u8),
    Tag(u8),
}

pub(super) const N_BLOBS: u8 = 3;
pub(super) const N_TAGS: u8 = 3;
/// The chunk groups of each blob.
pub(super) const N_GROUPS: [u8; N_BLOBS as usize] = [1, 3, 5];

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct State {
    blobs: BTreeMap<u8, Life>,
    tags: BTreeMap<u8, u8>,
    /// The partial blobs that handles were opened on; those that were opened on a complete one are not here.
    handles: BTreeMap<usize, u64>,
    /// The partial blobs that became complete.
    completed: BTreeSet<u64>,
    n_partials: u64,
}

/// What there is of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Life {
    Partial { no: u64, groups: BTreeSet<u8> },
    Complete,
}

impl Call {
    pub(super) fn keys(&self) -> Vec<Key> {
        let blobs = || (0..N_BLOBS).map(Key::Blob);
        let tags = || (0..N_TAGS).map(Key::Tag);
        match self.what {
            What::Import { blob, tag: Some(tag) } => vec![Key::Blob(blob), Key::Tag(tag)],
            What::Import { blob, tag: None }
            | What::Delete { blob }
            | What::Status { blob }
            | What::Present { blob }
            | What::GetOrCreate { blob, .. }
            | What::Write { blob, .. }
            | What::InsertComplete { blob, .. } => vec![Key::Blob(blob)],
            What::Blobs | What::PartialBlobs => blobs().collect(),
            What::SetTag { tag, .. } | What::DeleteTag { tag } | What::GetTag { tag } => vec![Key::Tag(tag)],
            What::RenameTag { from, to } => vec![Key::Tag(from), Key::Tag(to)],
            What::DeleteTags | What::Tags => tags().collect(),
        }
    }
}

impl State {
    /// The state after a call, or `None` where it cannot have been told this.
    pub(super) fn after(&self, call: &Call) -> Option<Self> {
        let mut state = self.clone();
        let told = &call.told;
        let explained = match call.what {
            What::Import { blob, tag } => {
                state.complete(blob);
                state.tags.extend(tag.map(|tag| (tag, blob)));
                *told == Told::Done
            }
            What::Delete { blob } => {
                state.blobs.remove(&blob);
                *told == Told::Done
            }
            What::Status { blob } => *told == Told::Status(self.status(blob)),
            What::Present { blob } => *told == Told::Present(self.present(blob)),
            What::GetOrCreate { blob, handle } => {
                state.get_or_create(blob, handle);
                *told == Told::Done
            }
            What::Write { blob, handle, group } => state.write(blob, handle, group, told),
            What::InsertComplete { blob, handle } => state.insert_complete(blob, handle, told),
            What::Blobs => *told == self.listed(EntryStatus::Complete),
            What::PartialBlobs => *told == self.listed(EntryStatus::Partial),
            What::SetTag { tag, blob } => {
                state.tags.insert(tag, blob);
                *told == Told::Done
            }
            What::DeleteTag { tag } => {
                state.tags.remove(&tag);
                *told == Told::Done
            }
            What::GetTag { tag } => *told == Told::Tag(self.tags.get(&tag).copied()),
            What::RenameTag { from, to } => match state.tags.remove(&from) {
                Some(blob) => {
                    state.tags.insert(to, blob);
                    *told == Told::Done
                }
                None => *told == Told::Refused("tag-not-found"),
            },
            What::DeleteTags => {
                state.tags.clear();
                *told == Told::Done
            }
            What::Tags => *told == Told::Tags(self.tags.clone()),
        };
        explained.then_some(state)
    }

    fn status(&self, blob: u8) -> EntryStatus {
        match self.blobs.get(&blob) {
            None => EntryStatus::NotFound,
            Some(Life::Partial { .. }) => EntryStatus::Partial,
            Some(Life::Complete) => EntryStatus::Complete,
        }
    }

    fn present(&self, blob: u8) -> Option<BTreeSet<u8>> {
        self.blobs.get(&blob).map(|life| match life {
            Life::Partial { groups, .. } => groups.clone(),
            Life::Complete => all_groups(blob),
        })
    }

    fn listed(&self, status: EntryStatus) -> Told {
        Told::Blobs((0..N_BLOBS).filter(|blob| self.status(*blob) == status).collect())
    }

    fn complete(&mut self, blob: u8) {
        if let Some(Life::Partial { no, .. }) = self.blobs.insert(blob, Life::Complete) {
            self.completed.insert(no);
        }
    }

    fn get_or_create(&mut self, blob: u8, handle: usize) {
        self.n_partials += 1;
        let new = Life::Partial { no: self.n_partials, groups: BTreeSet::new() };
        if let Life::Partial { no, .. } = self.blobs.entry(blob).or_insert(new) {
            self.handles.insert(handle, *no);
        }
    }

    /// A handle to what was deleted while it was partial writes nothing; one to what was complete need not say so.
    fn write(&mut self, blob: u8, handle: usize, group: u8, told: &Told) -> bool {
        let no = self.handles.get(&handle);
        let was_complete = self.was_complete(no);
        match self.blobs.get_mut(&blob) {
            Some(Life::Partial { no: current, groups }) if Some(&*current) == no => {
                groups.insert(group);
                *told == Told::Done
            }
            Some(Life::Complete) if was_complete => *told == Told::Done,
            _ if was_complete => matches!(told, Told::Done | Told::Refused("not-found")),
            _ => *told == Told::Refused("not-found"),
        }
    }

    fn insert_complete(&mut self, blob: u8, handle: usize, told: &Told) -> bool {
        let no = self.handles.get(&handle);
        match self.blobs.get(&blob) {
            Some(Life::Partial { no: current, groups }) if Some(current) == no => {
                if *groups != all_groups(blob) {
                    return matches!(told, Told::Refused("incomplete" | "size-unverified"));
                }
                self.complete(blob);
                *told == Told::Done
            }
            Some(Life::Complete) if self.was_complete(no) => *told == Told::Done,
            // What is complete again is as good as what was asked for.
            Some(Life::Complete) => matches!(told, Told::Done | Told::Refused("not-found")),
            _ => *told == Told::Refused("not-found"),
        }
    }

    fn was_complete(&self, no: Option<&u64>) -> bool {
        no.is_none_or(|no| self.completed.contains(no))
    }
}

fn all_groups(blob: u8) -> BTreeSet<u8> {
    (0..N_GROUPS.get(usize::from(blob)).copied().unwrap_or_default()).collect()
}
