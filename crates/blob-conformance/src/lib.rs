//! What every blob store must show, as tests that run on any of them.

pub mod model;
