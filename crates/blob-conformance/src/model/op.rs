//! The steps of a history, and how they come about.
//!
//! Every step can be applied in every state: what it speaks of is taken modulo what there is. So any part of a history
//! is a history, and shrinking is leaving out.

use blob_traits::{BlobFormat, ExistingTarget, ExportMode};
use proptest::prelude::*;

use super::{
    files::N_TARGETS,
    tags::N_TAGS,
    universe::{GROUP, Known, groups, n_chunks},
};

/// A blob, by its place in the universe.
pub(super) type Blob = usize;
/// How many handles a history keeps open.
pub(super) const N_HANDLES: usize = 3;

#[derive(Clone, Debug)]
pub(super) enum Op {
    Import { blob: Blob, by: By, format: BlobFormat, tag: Option<usize>, keep: bool },
    ImportFails { blob: Blob },
    GetOrCreate { blob: Blob, claim: Claim },
    Write { blob: Blob, claim: Claim, span: Span, order: Order, sync: bool },
    ImportBao { blob: Blob, claim: Claim, span: Span },
    InsertComplete { blob: Blob },
    Open { handle: usize, blob: Blob, claim: Claim },
    WriteOpen { handle: usize, span: Span, order: Order, sync: bool },
    ReadOpen { handle: usize, at: u32, len: u32 },
    InsertOpen { handle: usize },
    Read { blob: Blob, at: u32, len: u32, proof: bool },
    SetTag { tag: usize, blob: Blob, format: BlobFormat },
    DeleteTag { tag: usize },
    CreateTag { blob: Blob },
    RenameTag { from: usize, to: usize },
    DeleteTags { from: usize, to: usize },
    DeleteTagsWithPrefix { prefix: usize },
    TempTag { blob: Blob, format: BlobFormat },
    CloneTempTag { which: usize },
    DropTempTag { which: usize },
    Delete { blobs: Vec<Blob> },
    Export { blob: Blob, target: usize, mode: ExportMode, existing: ExistingTarget },
    EditExported { target: usize },
    ListAll,
    Sync,
    ShutdownAndOpen,
    DropAndOpen,
}

/// How a blob is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Bytes,
    Stream,
    Reader,
    Copy,
    Reference,
}

/// What somebody says a blob's size is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Claim {
    Truth,
    OneLess,
    OneMore,
    Zero,
    GroupLess,
    Double,
    Huge,
}

/// Chunk groups in a row, modulo how many there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: u8,
    len: u8,
}

/// How items are cut into batches.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    AtOnce,
    OneByOne,
    Backwards,
}

impl Claim {
    pub(super) fn of(self, known: &Known) -> u64 {
        let size = known.size();
        match self {
            Self::Truth => size,
            Self::OneLess => size.saturating_sub(1),
            Self::OneMore => size + 1,
            Self::Zero => 0,
            Self::GroupLess => size.saturating_sub(16 << 10),
            Self::Double => size * 2,
            Self::Huge => 1 << 40,
        }
    }
}

impl Span {
    pub(super) fn of(self, known: &Known) -> bao_tree::ChunkRanges {
        let n_groups = n_chunks(known.size()).div_ceil(GROUP);
        let start = u64::from(self.start) % n_groups;
        groups(start, start + 1 + u64::from(self.len) % n_groups)
    }
}

/// A history of up to `len` steps.
pub(super) fn history(n_blobs: usize, len: usize) -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(op(n_blobs), 1..=len.max(1))
}

fn op(n_blobs: usize) -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => whole(n_blobs),
        6 => partial(n_blobs),
        5 => open(n_blobs),
        4 => names(n_blobs),
        3 => rest(n_blobs),
        1 => prop_oneof![Just(Op::ListAll), Just(Op::Sync), Just(Op::ShutdownAndOpen), Just(Op::DropAndOpen)],
    ]
}

fn whole(n_blobs: usize) -> impl Strategy<Value = Op> {
    let by = prop::sample::select(vec![By::Bytes, By::Stream, By::Reader, By::Copy, By::Reference]);
    let tag = prop::option::weighted(0.3, 0..N_TAGS);
    prop_oneof![
        6 => (blob(n_blobs), by, format(), tag, any::<bool>())
            .prop_map(|(blob, by, format, tag, keep)| Op::Import { blob, by, format, tag, keep }),
        1 => (blob(n_blobs)).prop_map(|blob| Op::ImportFails { blob }),
    ]
}

fn partial(n_blobs: usize) -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => (blob(n_blobs), claim()).prop_map(|(blob, claim)| Op::GetOrCreate { blob, claim }),
        4 => (blob(n_blobs), claim(), span(), order(), any::<bool>())
            .prop_map(|(blob, claim, span, order, sync)| Op::Write { blob, claim, span, order, sync }),
        2 => (blob(n_blobs), claim(), span()).prop_map(|(blob, claim, span)| Op::ImportBao { blob, claim, span }),
        2 => (blob(n_blobs)).prop_map(|blob| Op::InsertComplete { blob }),
        3 => (blob(n_blobs), place(), place(), any::<bool>())
            .prop_map(|(blob, at, len, proof)| Op::Read { blob, at, len, proof }),
    ]
}

fn open(n_blobs: usize) -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..N_HANDLES, blob(n_blobs), claim())
            .prop_map(|(handle, blob, claim)| Op::Open { handle, blob, claim }),
        3 => (0..N_HANDLES, span(), order(), any::<bool>())
            .prop_map(|(handle, span, order, sync)| Op::WriteOpen { handle, span, order, sync }),
        1 => (0..N_HANDLES, place(), place()).prop_map(|(handle, at, len)| Op::ReadOpen { handle, at, len }),
        1 => (0..N_HANDLES).prop_map(|handle| Op::InsertOpen { handle }),
    ]
}

fn names(n_blobs: usize) -> impl Strategy<Value = Op> {
    let tag = || 0..N_TAGS;
    prop_oneof![
        3 => (tag(), blob(n_blobs), format()).prop_map(|(tag, blob, format)| Op::SetTag { tag, blob, format }),
        1 => tag().prop_map(|tag| Op::DeleteTag { tag }),
        1 => (blob(n_blobs)).prop_map(|blob| Op::CreateTag { blob }),
        2 => (tag(), tag()).prop_map(|(from, to)| Op::RenameTag { from, to }),
        1 => (tag(), tag()).prop_map(|(from, to)| Op::DeleteTags { from, to }),
        1 => tag().prop_map(|prefix| Op::DeleteTagsWithPrefix { prefix }),
        1 => (blob(n_blobs), format()).prop_map(|(blob, format)| Op::TempTag { blob, format }),
        1 => any::<u8>().prop_map(|which| Op::CloneTempTag { which: which.into() }),
        2 => any::<u8>().prop_map(|which| Op::DropTempTag { which: which.into() }),
    ]
}

fn rest(n_blobs: usize) -> impl Strategy<Value = Op> {
    let mode = prop::sample::select(vec![ExportMode::Copy, ExportMode::TryReference]);
    let existing = prop::sample::select(vec![ExistingTarget::Refuse, ExistingTarget::Replace]);
    prop_oneof![
        3 => proptest::collection::vec(blob(n_blobs), 1..3).prop_map(|blobs| Op::Delete { blobs }),
        4 => (blob(n_blobs), 0..N_TARGETS, mode, existing)
            .prop_map(|(blob, target, mode, existing)| Op::Export { blob, target, mode, existing }),
        1 => (0..N_TARGETS).prop_map(|target| Op::EditExported { target }),
    ]
}

fn format() -> impl Strategy<Value = BlobFormat> {
    prop::sample::select(vec![BlobFormat::Raw, BlobFormat::HashSeq])
}

fn claim() -> impl Strategy<Value = Claim> {
    let lies =
        [Claim::OneLess, Claim::OneMore, Claim::Zero, Claim::GroupLess, Claim::Double, Claim::Huge].to_vec();
    prop_oneof![6 => Just(Claim::Truth), 2 => prop::sample::select(lies)]
}

/// Short ones mostly, and some that go to the end.
fn span() -> impl Strategy<Value = Span> {
    (any::<u8>(), prop_oneof![3 => 0..3_u8, 1 => any::<u8>()]).prop_map(|(start, len)| Span { start, len })
}

fn order() -> impl Strategy<Value = Order> {
    prop::sample::select(vec![Order::AtOnce, Order::OneByOne, Order::Backwards])
}

/// An offset or a length, modulo a little more than the size.
fn place() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), any::<u32>()]
}

/// Some more often than others, so that the steps of a history meet.
fn blob(n_blobs: usize) -> impl Strategy<Value = Blob> {
    prop_oneof![2 => 1..4_usize, 1 => 0..n_blobs]
}
