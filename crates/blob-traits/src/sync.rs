//! The primitives of the protocol that collection rests on. Where its interleavings are explored, others take their place.

pub(crate) use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
