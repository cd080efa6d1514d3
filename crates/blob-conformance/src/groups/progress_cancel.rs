//! What operations report, and how they are cancelled.

pub mod batch_writer;
pub mod dropped;
pub mod export;
pub mod import;
pub mod refused;

use blob_traits::Store;

use crate::Group;

/// The cases of this group.
pub fn group<S: Store>() -> Group<S> {
    import::group()
        .and(refused::group())
        .and(export::group())
        .and(batch_writer::group())
        .and(dropped::group())
}
