//! The cases, in groups. Each is a function whose signature says what it needs of a store.

use blob_traits::{FullStore, Store};

use crate::Group;

pub mod concurrency;
pub mod consistency_check;
pub mod crash;
pub mod export;
pub mod gc;
pub mod get_put;
pub mod import;
pub mod limits_hostile;
pub mod model;
pub mod partial_batch_writer;
pub mod progress_cancel;
pub mod seen_in_the_wild;
pub mod shutdown_reopen;
pub mod tags;
pub mod temp_tags;
pub mod validate_repair;

/// All groups.
pub fn all<S: FullStore>() -> Vec<Group<S>> {
    let mut groups = core();
    groups.push(import::validated::group());
    groups.push(gc::group());
    groups.push(validate_repair::group());
    groups.push(consistency_check::repaired::group());
    groups
}

/// The groups for a store that can neither be collected nor repaired.
pub fn core<S: Store>() -> Vec<Group<S>> {
    vec![
        get_put::group(),
        partial_batch_writer::group(),
        import::group(),
        export::group(),
        tags::group(),
        temp_tags::group(),
        consistency_check::group(),
        progress_cancel::group(),
        concurrency::group(),
        crash::group(),
        limits_hostile::group(),
        shutdown_reopen::group(),
        seen_in_the_wild::group(),
        model::group(),
    ]
}
