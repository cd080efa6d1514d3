//! Which files somebody needs, or is dealing with.

use blob_traits::Hash;

use super::{Looked, State};
use crate::{layout::FileNo, row::BlobState};

impl State {
    /// Whether the files of a number belong to a record, or are on their way in or out.
    pub(crate) fn is_file_wanted(&self, hash: &Hash, no: FileNo, looked: &Looked) -> bool {
        let row = self.blob_row(hash, looked).map(|row| row.state);
        let pending = self.pending_blob(hash, looked).map(|(state, _)| state);
        row.and_then(BlobState::file_no) == Some(no)
            || pending.and_then(BlobState::file_no) == Some(no)
            || self.orphans.iter().any(|(_, orphan)| orphan.no == no)
            || self.moves.iter().any(|moved| moved.no == no)
            || self.handles.is_pinned(no)
    }
}
