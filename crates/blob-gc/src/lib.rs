//! Garbage collection over any blob store: what nothing reaches is deleted, what something reaches never is.
//!
//! [`collect`] does one round, [`schedule`] (or [`GcExt::gc_run`]) round after round; [`why`] says what keeps a blob, [`extent`]
//! what a root keeps, and [`exclusive`] what a tag alone does. A store needs the capabilities of [`GcStore`]; what keeps it safe is
//! [`Sweep`](blob_traits::Sweep), which the store implements.
//!
//! # What is kept
//!
//! Roots are tags, temporary tags, and what the caller protects. A root of format `Raw` keeps its blob, one of format `HashSeq`
//! also the blobs that it lists; what those list is not looked at. A hash that is a root in both formats keeps its children.
//! Of a sequence that is not complete yet the children that can be read and verified are kept. One that was complete and was
//! [demoted](blob_traits::BlobStatus::was_demoted) because it is damaged ends the round: what it lists cannot be known.
//!
//! # Why no reachable blob is lost
//!
//! The claim: a blob that a root reaches at the moment of its deletion is not deleted. The moment is the critical section in
//! which a store decides about a batch; it holds the store's state lock, and inside it the lock of the
//! [`TempTagRegistry`](blob_traits::TempTagRegistry).
//!
//! 1. [`begin_sweep`](blob_traits::Sweep::begin_sweep) makes the registry note, under its lock, every act that reaches a blob
//!    from then on. Each such act issues a temporary tag first: `temp_tag` itself, and under the state lock `set_tag`,
//!    `create_tag`, `rename_tag`, an import, `get_or_create`, `insert_complete`.
//! 2. Roots are sampled afterwards: what the caller protects, then temporary tags under the registry's lock, then tags, a
//!    snapshot. A root that exists at the moment of a decision was there at its sampling, and is marked; or it came after step
//!    1, and is noted. A tag that was set before step 1 is durable or held by the temporary tag of the act, which is released
//!    only when the tag can be seen; so reading temporary tags first and tags second sees it at least once.
//! 3. A tag whose removal was shown and then failed comes back. The store then spoils the round
//!    ([`spoil_round`](blob_traits::TempTagRegistry::spoil_round), under the state lock), and it ends without sweeping further.
//! 4. Every sequence among the roots is [watched](blob_traits::SweepRound::watch) before it is read, so that a part that
//!    arrives later is noted under the registry's lock before anybody can read it. A complete sequence does not
//!    change.
//! 5. Marking fails closed: a complete sequence that cannot be read and verified to its last hash, a partial one of which a
//!    part that is there cannot be read, or one that repair has made partial, ends the round before anything more is swept,
//!    unless the caller has asked for something else. That a sequence was demoted is asked for after it was read: one that is
//!    demoted while it is read is found either complete, and then its bytes count only as far as they verify, or demoted; one
//!    that is completed again in between was reached by step 4 and is read again.
//! 6. A batch is decided under both locks. It fails if a sequence was reached or has grown since it was last
//!    [taken](blob_traits::SweepRound::take_reached); then that one is marked, and the batch is tried again without its
//!    children. Otherwise every blob that a temporary tag holds or that was noted in step 1 stays. The rest is condemned in the
//!    same critical section: whoever holds the state lock next does not see it any more. An import that comes then writes the
//!    blob again; its record has a higher number than the deletion's.
//! 7. Hashes are compared by their first 8 bytes in the set of what is reachable. Two hashes that share them are taken for one,
//!    which keeps garbage and loses nothing.
//!
//! A round ends under a steady stream of imports: those of single blobs never make a batch fail, and a batch that fails 100
//! times because new sequences come faster than they can be read is left to the next round.
//!
//! # Cost
//!
//! The set of what is reachable is one sorted vector of 8-byte prefixes, and the sweep merges it with the store's ordered
//! listing. Children are streamed. With a limit on memory the round makes several passes.
//!
//! # Example
//!
//! ```
//! use blob_gc::{Event, GcOptions, collect};
//! # use blob_gc::{GcError, GcStore};
//! # use blob_traits::Progress;
//!
//! # async fn example(store: &impl GcStore) -> Result<(), GcError> {
//! let progress = Progress::from_fn(|event: Event| {
//!     println!("{event:?}");
//!     Ok(())
//! });
//! let report = collect(store, GcOptions::default(), progress).await?;
//! println!("{} blobs went, {} are kept", report.swept.n_complete, report.n_live);
//! # Ok(())
//! # }
//! ```

mod children;
mod collect;
mod error;
mod event;
mod listing;
mod live;
mod mark;
mod options;
mod schedule;
mod store;
mod why;

pub use collect::{BoxError, collect, collect_protecting};
pub use error::GcError;
pub use event::{Event, GcMarkEvent, GcSweepEvent};
pub use options::{GcMode, GcOptions, GcReport, NoRoots, UnreadableSequences};
pub use schedule::{DoneCallback, GcConfig, GcExt, schedule};
pub use store::{GcStore, MarkStore};
pub use why::{Extent, Reason, Root, exclusive, extent, why};
