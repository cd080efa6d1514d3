//! What must hold after a crash, a fault, a full disk.

pub mod dropped;
pub mod faulty;
pub mod faulty_reads;
pub mod killed;
mod sweep;
pub mod to_come;

use blob_traits::Store;

use crate::Group;

/// The cases of this group.
pub fn group<S: Store>() -> Group<S> {
    killed::group()
        .and(dropped::group())
        .and(faulty::group())
        .and(faulty_reads::group())
        .and(to_come::group())
}
