//! Letting work on the blocking pool notice that the future it works for was dropped.

use std::sync::{Arc, Weak};

use blob_traits::{Error, Result};

/// Lives in a future, and with it.
#[derive(Default)]
pub(crate) struct Alive(Arc<()>);

/// Goes to the work.
pub(crate) struct Watch(Weak<()>);

impl Alive {
    pub(crate) fn watch(&self) -> Watch {
        Watch(Arc::downgrade(&self.0))
    }
}

impl Watch {
    /// Fails with [`Error::Cancelled`] once the future is gone.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.strong_count() == 0 { Err(Error::Cancelled) } else { Ok(()) }
    }
}
