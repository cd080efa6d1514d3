//! Negative controls: stores with a known defect, each of which some case must catch.
//!
//! A case that passes on every broken store proves nothing, and a defect that no case catches is a hole in the suite.
//! [`Broken`] puts one [`Defect`] on top of any store, chosen at run time, so that the cases are compiled once for all of
//! them.

mod broken;
mod check;
mod defect;
mod entry;
mod export;
mod import;
mod opening;
mod program;
mod sweep;
mod tags;

pub use broken::Broken;
pub use defect::Defect;
pub use entry::{BrokenEntry, BrokenOutboard, BrokenReader, BrokenWriter};
pub use program::Controls;
pub use sweep::BrokenRound;
