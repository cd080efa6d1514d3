//! What damage has left of a blob, told from the bytes of the files before and after.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use bao_tree::{BaoTree, ChunkRanges};
use blob_conformance::{GROUP, Sample, chunks};
use blob_traits::{BLOCK_SIZE, StoredParent};

use crate::scene::{Blob, Kept, Record, Scene};

/// The files of a store after damage.
pub(crate) struct After<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    /// The index that was there is used, and was not hit.
    pub(crate) index_is_used: bool,
}

/// What there is to be of a blob.
#[derive(Debug)]
pub(crate) struct Expected {
    /// The store knows of it.
    pub(crate) is_known: bool,
    /// At least this is there.
    pub(crate) at_least: ChunkRanges,
    /// And no more than this.
    pub(crate) at_most: ChunkRanges,
}

impl After<'_> {
    /// The names of files that are not what they were.
    pub(crate) fn hit(&self) -> Vec<&PathBuf> {
        self.scene
            .files
            .iter()
            .filter(|(name, bytes)| self.files.get(*name) != Some(bytes))
            .map(|(n, _)| n)
            .collect()
    }

    pub(crate) fn is_index_same(&self) -> bool {
        let index = PathBuf::from("index.redb");
        self.files.get(&index) == self.scene.files.get(&index)
    }

    fn is_same(&self, file: &PathBuf, range: Range<usize>) -> bool {
        let bytes =
            |files: &'_ BTreeMap<PathBuf, Vec<u8>>| files.get(file)?.get(range.clone()).map(<[u8]>::to_vec);
        bytes(&self.files).is_some_and(|now| Some(now) == bytes(&self.scene.files))
    }

    fn segment_is_readable(&self, record: &Record) -> bool {
        self.is_same(&record.segment, 0..record.segment_header)
    }

    /// Whether a record says what it said.
    pub(crate) fn is_recorded(&self, record: &Record) -> bool {
        self.segment_is_readable(record) && self.is_same(&record.segment, record.bytes.clone())
    }

    /// Whether nothing is left that could tell of the loss of a record: without an index the end of the log is where it seems
    /// to be, and so is that of a segment whose successor was lost, or compacted away (E67, E69).
    pub(crate) fn may_go_unnoticed(&self, record: &Record) -> bool {
        let id = segment_id(&record.segment);
        let mut files = self.scene.files.iter().filter(|(name, _)| name.starts_with("log"));
        let tells =
            |(name, bytes): (&PathBuf, _)| segment_id(name) == id + 1 && self.files.get(name) == Some(bytes);
        !self.index_is_used && !files.any(tells)
    }

    /// What is left of a blob.
    ///
    /// A blob is known while its record can be read, or the index tells of it; where a user's file lies, only the record
    /// says. Of a blob that is known, exactly those groups are missing that were hit, if its bytes alone were hit, or its
    /// tree alone. Where both were, at least all sound groups under sound pairs are there.
    pub(crate) fn expected(&self, blob: &Blob) -> Expected {
        let is_recorded = self.is_recorded(&blob.record);
        let is_known = is_recorded || (self.index_is_used && blob.kept != Kept::Referenced);
        let sound = self.sound_groups(blob);
        let at_most = blob.present.clone() & sound.clone();
        let is_readable = match blob.kept {
            // Bytes in a segment whose header cannot be read are put aside with it.
            Kept::Small => self.segment_is_readable(&blob.record),
            Kept::Partial => self.is_file_same(blob, "bits"),
            Kept::Large | Kept::Referenced => true,
        };
        let at_least = match () {
            () if !(is_known && is_readable) => ChunkRanges::empty(),
            // Its bytes add up to its tree.
            () if blob.is_complete() && blob.present.is_subset(&sound) => at_most.clone(),
            () => at_most.clone() & self.provable_groups(blob),
        };
        Expected { is_known, at_least, at_most }
    }

    /// The groups whose bytes are where they were.
    fn sound_groups(&self, blob: &Blob) -> ChunkRanges {
        let sample = &blob.sample;
        let groups = (0..sample.n_groups()).filter(|group| {
            let range = group * GROUP..((group + 1) * GROUP).min(sample.size());
            let range = usize_range(range);
            match blob.kept {
                Kept::Referenced => true,
                Kept::Small => {
                    let start = blob.record.payload.start;
                    self.is_same(&blob.record.segment, start + range.start..start + range.end)
                }
                Kept::Large | Kept::Partial => self.is_part_same(blob, "data", range),
            }
        });
        groups.fold(ChunkRanges::empty(), |all, group| all | group_chunks(sample, group))
    }

    /// The groups under pairs that are what they were, up to the root.
    fn provable_groups(&self, blob: &Blob) -> ChunkRanges {
        let sample = &blob.sample;
        let tree = BaoTree::new(sample.size(), BLOCK_SIZE);
        let mut provable = chunks(0..sample.n_chunks());
        for node in tree.pre_order_nodes_iter() {
            let Some(position) = tree.pre_order_offset(node) else { continue };
            let pre_order = usize_range(position * 64..position * 64 + 64);
            let is_same = match blob.kept {
                Kept::Small => {
                    let start = blob.record.payload.start + sample.data.len();
                    self.is_same(&blob.record.segment, start + pre_order.start..start + pre_order.end)
                }
                Kept::Large | Kept::Referenced => self.is_part_same(blob, "obao4", pre_order),
                Kept::Partial => StoredParent::new(node).is_some_and(|parent| {
                    let at = parent.number() * 64;
                    self.is_part_same(blob, "pairs", usize_range(at..at + 64))
                }),
            };
            if !is_same {
                provable -= ChunkRanges::from(node.chunk_range());
            }
        }
        provable
    }

    fn file_of(&self, blob: &Blob, extension: &str) -> Option<&PathBuf> {
        let prefix = format!("{}-", blob.sample.hash);
        self.scene.files.keys().find(|name| {
            let file = name.file_name().unwrap().to_str().unwrap();
            file.starts_with(&prefix) && name.extension().is_some_and(|its| its == extension)
        })
    }

    fn is_part_same(&self, blob: &Blob, extension: &str, range: Range<usize>) -> bool {
        self.file_of(blob, extension).is_some_and(|file| self.is_same(file, range))
    }

    fn is_file_same(&self, blob: &Blob, extension: &str) -> bool {
        self.file_of(blob, extension).is_some_and(|file| self.files.get(file) == self.scene.files.get(file))
    }
}

fn segment_id(name: &Path) -> u64 {
    u64::from_str_radix(name.file_stem().unwrap().to_str().unwrap(), 16).unwrap()
}

fn group_chunks(sample: &Sample, group: u64) -> ChunkRanges {
    chunks(group * 16..((group + 1) * 16).min(sample.n_chunks()))
}

fn usize_range(range: Range<u64>) -> Range<usize> {
    usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()
}
