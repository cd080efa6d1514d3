//! Telling what of a blob is sound: which groups verify and, where a pair of the tree is damaged, whether it can be told
//! what it was.
//!
//! Everything is proved from the root down. A stored pair that does not verify is not the end: the hash of its left side is
//! also what the pair below on the left adds up to, and what the bytes below add up to, and the same holds for the right.
//! As soon as one of the left hashes and one of the right ones together give the hash that is expected, the pair is proved,
//! whatever was stored. So only what nothing can prove is lost, and damage to the tree costs no data.

use std::{collections::HashMap, ops::Range};

use bao_tree::{ChunkNum, ChunkRanges, TreeNode, blake3, io::Parent};
use blob_traits::{
    Error, Hash, Result,
    blocking::Watch,
    tree::{parent_cv, subtree_cv},
};
use bytes::Bytes;

use crate::{
    pieces::{Pair, Pieces},
    subtree::{GROUP, Subtree},
};

/// A chaining value; that of the root is the hash of the blob.
pub(crate) type Cv = [u8; 32];

/// Pairs are computed from the bytes once, for up to so many groups, 1 GiB, at a time.
const MAX_COMPUTED: u64 = 1 << 16;

/// What is told of a blob, from the left to the right, parents before what is below them.
pub(crate) trait Visit {
    /// A pair is proved; where it was not what is stored, it is mended.
    fn parent(&mut self, parent: Parent, origin: Origin) -> Result<()>;

    /// A group is proved.
    fn group(&mut self, offset: u64, bytes: Bytes) -> Result<()>;

    /// Chunks are not.
    fn lost(&mut self, chunks: Range<ChunkNum>, why: Lost) -> Result<()>;
}

/// Where a proved pair comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Stored,
    /// From what is below it.
    Mended,
}

/// Why chunks are not proved.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The bytes of a group have another hash.
    Mismatch,
    /// The bytes of a group are not there.
    Missing(Error),
    /// The bytes of a group could not be read this time.
    Unreadable(Error),
    /// The pair above them cannot be told.
    NoPair,
}

impl Lost {
    fn by(error: Error) -> Self {
        if is_absence(&error) { Self::Missing(error) } else { Self::Unreadable(error) }
    }
}

/// Goes through a blob, or a part of it.
pub(crate) struct Inspection<'a, V> {
    pieces: &'a mut dyn Pieces,
    visitor: &'a mut V,
    /// What is looked at; `None` is everything.
    only: Option<&'a ChunkRanges>,
    /// What there is of a partial blob, whose size may be no more than a claim; `None` for all of it.
    there: Option<&'a ChunkRanges>,
    watch: Option<&'a Watch>,
    computed: Computed,
    /// What kept something from being read, until it is told.
    failure: Option<Error>,
}

/// Pairs that the bytes add up to, whether they are right or not.
#[derive(Default)]
struct Computed {
    groups: Range<u64>,
    pairs: HashMap<TreeNode, [Sum; 2]>,
}

/// What a part adds up to by what is stored of it.
#[derive(Clone, Copy, Debug)]
enum Sum {
    Is(Cv),
    /// Something of it is not there.
    Missing,
    /// Something of it could not be read this time.
    Unreadable,
}

impl Sum {
    fn cv(self) -> Option<Cv> {
        match self {
            Self::Is(cv) => Some(cv),
            Self::Missing | Self::Unreadable => None,
        }
    }

    fn is_unreadable(self) -> bool {
        matches!(self, Self::Unreadable)
    }

    /// What two parts add up to.
    fn parent(left: Self, right: Self) -> Self {
        match (left, right) {
            (Self::Is(left), Self::Is(right)) => Self::Is(parent_cv(&left, &right, false)),
            (Self::Unreadable, _) | (_, Self::Unreadable) => Self::Unreadable,
            _ => Self::Missing,
        }
    }
}

impl<'a, V: Visit> Inspection<'a, V> {
    pub(crate) fn new(pieces: &'a mut dyn Pieces, visitor: &'a mut V) -> Self {
        Self {
            pieces,
            visitor,
            only: None,
            there: None,
            watch: None,
            computed: Computed::default(),
            failure: None,
        }
    }

    /// Looks at these chunks alone.
    pub(crate) fn only(self, ranges: Option<&'a ChunkRanges>) -> Self {
        Self { only: ranges, ..self }
    }

    /// Looks at what there is of a partial blob.
    pub(crate) fn there(self, ranges: Option<&'a ChunkRanges>) -> Self {
        Self { only: ranges, there: ranges, ..self }
    }

    /// Ends with [`Error::Cancelled`] once nobody waits any more.
    pub(crate) fn watched(self, watch: &'a Watch) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// Looks at a part of the blob whose hash is known.
    ///
    /// # Errors
    /// Those of the visitor, and those that concern the store as a whole.
    pub(crate) fn run(&mut self, tree: &Subtree, expected: &Cv) -> Result<()> {
        match self.open(tree, expected)? {
            None => Ok(()),
            Some(below) => below.iter().try_for_each(|(below, expected)| self.run(below, expected)),
        }
    }

    /// Looks at the top of a part. Returns what is below it where that can be told and is still to be looked at.
    pub(crate) fn open(&mut self, tree: &Subtree, expected: &Cv) -> Result<Option<[(Subtree, Cv); 2]>> {
        if self.only.is_some_and(|only| !tree.touches(only)) {
            return Ok(None);
        }
        let Some((parent, [left, right])) = tree.split() else {
            return self.look_at_group(tree, expected).map(|()| None);
        };
        let (pair, origin) = match self.prove(tree, parent, [&left, &right], expected)? {
            Ok(proved) => proved,
            Err(why) => {
                self.visitor.lost(tree.chunks(), why)?;
                return Ok(None);
            }
        };
        let below = [(left, *pair.0.as_bytes()), (right, *pair.1.as_bytes())];
        self.visitor.parent(Parent { node: parent, pair }, origin)?;
        Ok(Some(below))
    }

    fn look_at_group(&mut self, tree: &Subtree, expected: &Cv) -> Result<()> {
        match self.read(tree)? {
            Ok(bytes) if cv(tree, &bytes) == *expected => self.visitor.group(tree.bytes().start, bytes),
            Ok(_) => self.visitor.lost(tree.chunks(), Lost::Mismatch),
            Err(e) => self.visitor.lost(tree.chunks(), Lost::by(e)),
        }
    }

    /// Reads a group. What is wrong with this blob alone is in the answer.
    fn read(&mut self, tree: &Subtree) -> Result<Result<Bytes>> {
        if let Some(watch) = self.watch {
            watch.check()?;
        }
        let bytes = tree.bytes();
        let len = usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX);
        of_this_blob(self.pieces.group(bytes.start, len))
    }

    /// Loads a pair, or says whether that it is not there is certain.
    fn stored(&mut self, parent: TreeNode) -> Result<Result<Pair, Sum>> {
        Ok(match of_this_blob(self.pieces.pair(parent))? {
            Ok(Some(pair)) => Ok(pair),
            Ok(None) => Err(Sum::Missing),
            Err(e) => Err(self.gap(e)),
        })
    }

    /// What an error leaves of a sum.
    fn gap(&mut self, error: Error) -> Sum {
        if is_absence(&error) {
            return Sum::Missing;
        }
        self.failure.get_or_insert(error);
        Sum::Unreadable
    }

    /// Finds the pair of a parent whose hash is known. Where something could not be read that might have told it, nothing is
    /// known to be wrong.
    fn prove(
        &mut self,
        tree: &Subtree,
        parent: TreeNode,
        below: [&Subtree; 2],
        expected: &Cv,
    ) -> Result<Result<(Pair, Origin), Lost>> {
        let is_root = tree.is_whole();
        let proves = |left: &Cv, right: &Cv| parent_cv(left, right, is_root) == *expected;
        let stored = self.stored(parent)?;
        if let Ok(pair) = stored
            && proves(pair.0.as_bytes(), pair.1.as_bytes())
        {
            return Ok(Ok((pair, Origin::Stored)));
        }
        let [mut lefts, mut rights] = [Vec::new(), Vec::new()];
        if let Ok((left, right)) = stored {
            lefts.push(*left.as_bytes());
            rights.push(*right.as_bytes());
        }
        let sums = [self.stored_below(below[0])?, self.stored_below(below[1])?];
        lefts.extend(sums[0].cv());
        rights.extend(sums[1].cv());
        let search = |lefts: &[Cv], rights: &[Cv]| {
            let mut pairs = lefts.iter().flat_map(|left| rights.iter().map(move |right| (left, right)));
            pairs.find(|(left, right)| proves(left, right)).map(|(left, right)| pair_of(left, right))
        };
        if let Some(pair) = search(&lefts, &rights) {
            return Ok(Ok((pair, Origin::Mended)));
        }
        let computed = self.compute(tree, parent, below)?;
        lefts.extend(computed[0].cv());
        rights.extend(computed[1].cv());
        if let Some(pair) = search(&lefts, &rights) {
            return Ok(Ok((pair, Origin::Mended)));
        }
        let mut gaps = sums.into_iter().chain(computed).chain(stored.err());
        Ok(Err(if gaps.any(Sum::is_unreadable) {
            Lost::Unreadable(self.take_failure())
        } else {
            Lost::NoPair
        }))
    }

    /// The error for what could not be read; told already, it is said in general.
    fn take_failure(&mut self) -> Error {
        let again = || Error::Io { doing: "read", path: None, source: std::io::ErrorKind::Other.into() };
        self.failure.take().unwrap_or_else(again)
    }

    /// The hash of a part by the pair that is stored for it.
    fn stored_below(&mut self, tree: &Subtree) -> Result<Sum> {
        let Some((parent, _)) = tree.split() else { return Ok(Sum::Missing) };
        Ok(match self.stored(parent)? {
            Ok((left, right)) => Sum::Is(parent_cv(left.as_bytes(), right.as_bytes(), false)),
            Err(gap) => gap,
        })
    }

    /// The pair of a parent by the bytes below it, as far as they can be read.
    fn compute(
        &mut self,
        tree: &Subtree,
        parent: TreeNode,
        [left, right]: [&Subtree; 2],
    ) -> Result<[Sum; 2]> {
        if !tree.is_within(&self.computed.groups) {
            let groups = if tree.n_groups() <= MAX_COMPUTED { tree.groups() } else { 0..0 };
            self.computed = Computed { groups, pairs: HashMap::new() };
            let pair = [self.hash(left)?, self.hash(right)?];
            self.computed.pairs.insert(parent, pair);
        }
        Ok(self.computed.pairs.get(&parent).copied().unwrap_or([Sum::Missing; 2]))
    }

    /// Hashes all bytes below.
    fn hash(&mut self, tree: &Subtree) -> Result<Sum> {
        if self.there.is_some_and(|there| !tree.touches(there)) {
            return Ok(Sum::Missing);
        }
        let Some((parent, [left, right])) = tree.split() else {
            return Ok(match self.read(tree)? {
                Ok(bytes) => Sum::Is(cv(tree, &bytes)),
                Err(e) => self.gap(e),
            });
        };
        let [left, right] = [self.hash(&left)?, self.hash(&right)?];
        if tree.is_within(&self.computed.groups) {
            self.computed.pairs.insert(parent, [left, right]);
        }
        Ok(Sum::parent(left, right))
    }
}

fn cv(group: &Subtree, bytes: &[u8]) -> Cv {
    subtree_cv(group.chunks().start.0, bytes, group.is_whole())
}

fn pair_of(left: &Cv, right: &Cv) -> Pair {
    (blake3::Hash::from_bytes(*left), blake3::Hash::from_bytes(*right))
}

/// Lets what concerns the store as a whole end the work.
pub(crate) fn of_this_blob<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(e @ (Error::Closed | Error::Cancelled)) => Err(e),
        other => Ok(other),
    }
}

/// Whether reading again would not help: the bytes are not there, or the file is another one.
pub(crate) fn is_absence(error: &Error) -> bool {
    match error {
        Error::Incomplete { .. }
        | Error::Damaged { .. }
        | Error::Mismatch { .. }
        | Error::Changed { .. }
        | Error::NotFound { .. }
        | Error::FileNotFound { .. }
        | Error::NotAFile { .. }
        | Error::IsADirectory { .. } => true,
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::UnexpectedEof,
        _ => false,
    }
}

/// What was found of a blob, or of a part of one.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Chunks that are not what the root says, or not there.
    pub(crate) bad: ChunkRanges,
    /// Chunks that could not be read.
    pub(crate) unreadable: ChunkRanges,
    /// Pairs that are stored wrongly or not at all, as they should be.
    pub(crate) mended: Vec<Parent>,
    /// How many there were of these, also of those that were [forgotten](Self::forget_pairs).
    pub(crate) n_mended: u64,
    /// How many pairs are wrong beyond that.
    pub(crate) n_lost_pairs: u64,
    /// Bytes that were proved.
    pub(crate) n_sound: u64,
    /// The first thing that went wrong.
    pub(crate) error: Option<Error>,
}

impl Findings {
    pub(crate) fn is_sound(&self) -> bool {
        self.bad.is_empty() && self.unreadable.is_empty() && self.n_mended == 0
    }

    /// Takes note of a part that cannot even be opened.
    ///
    /// # Errors
    /// That of opening, where it concerns the store as a whole.
    pub(crate) fn lose(&mut self, tree: &Subtree, error: Error) -> Result<()> {
        match of_this_blob::<()>(Err(error))? {
            Ok(()) => Ok(()),
            Err(error) => self.lost(tree.chunks(), Lost::by(error)),
        }
    }

    /// Keeps no more than the number of the pairs that are wrong: those of a lost tree would fill the memory.
    pub(crate) fn forget_pairs(&mut self) {
        self.mended = Vec::new();
    }

    /// Adds what was found of another part.
    pub(crate) fn join(&mut self, other: Self) {
        self.bad |= other.bad;
        self.unreadable |= other.unreadable;
        self.mended.extend(other.mended);
        self.n_mended += other.n_mended;
        self.n_lost_pairs += other.n_lost_pairs;
        self.n_sound += other.n_sound;
        self.error = self.error.take().or(other.error);
    }
}

impl Visit for Findings {
    fn parent(&mut self, parent: Parent, origin: Origin) -> Result<()> {
        if origin == Origin::Mended {
            self.n_mended += 1;
            self.mended.push(parent);
        }
        Ok(())
    }

    fn group(&mut self, _: u64, bytes: Bytes) -> Result<()> {
        self.n_sound += bytes.len() as u64;
        Ok(())
    }

    fn lost(&mut self, chunks: Range<ChunkNum>, why: Lost) -> Result<()> {
        let chunks = ChunkRanges::from(chunks);
        match why {
            Lost::Unreadable(error) => {
                self.unreadable |= chunks;
                self.error.get_or_insert(error);
            }
            Lost::Missing(error) => {
                self.bad |= chunks;
                self.error.get_or_insert(error);
            }
            Lost::Mismatch => self.bad |= chunks,
            Lost::NoPair => {
                self.bad |= chunks;
                self.n_lost_pairs += 1;
            }
        }
        Ok(())
    }
}

/// Looks at a whole blob in memory.
pub(crate) fn is_sound_in_memory(hash: Hash, data: Bytes, outboard: Bytes) -> bool {
    if data.len() as u64 <= GROUP {
        return outboard.is_empty() && Hash::new(&data) == hash;
    }
    let mut pieces = crate::pieces::InMemory::new(data, outboard);
    let mut findings = Findings::default();
    let size = pieces.stored_len().ok().flatten().unwrap_or_default();
    let looked = Inspection::new(&mut pieces, &mut findings).run(&Subtree::whole(size), hash.as_bytes());
    looked.is_ok() && findings.is_sound() && pieces.fits()
}

#[cfg(test)]
mod tests;
