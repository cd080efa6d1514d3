//! The files of partial blobs.

use blob_traits::{Hash, Result};

use super::{Check, blobs::Found};
use crate::{layout::FileNo, partial::BitsFile, row::BlobRow};

impl Check {
    /// A partial blob needs bytes, pairs, and a list of what is valid in them that does not claim more than there is.
    pub(super) fn check_partial(&self, hash: Hash, row: &BlobRow, no: FileNo) -> Result<()> {
        let layout = &self.engine().layout;
        let data_path = layout.partial_data(&hash, no);
        // One that was demoted has its bytes where they were, until they are moved.
        let data = self.find(&[data_path.clone(), layout.data(&hash, no)])?;
        let pairs_path = layout.partial_pairs(&hash, no);
        let pairs = self.find(std::slice::from_ref(&pairs_path))?;
        let bits = self.engine().bits_of(hash, no)?;
        let path = self.shown(&layout.partial_bits(&hash, no));
        let mut wrong = Vec::new();
        for (found, path) in [(data, &data_path), (pairs, &pairs_path)] {
            if found == Found::Missing {
                wrong.push(format!("{} is missing", self.shown(path)));
            }
        }
        match &bits {
            BitsFile::Good(bits) => {
                if let Found::File(len) = data
                    && let Some(end) = bits.claimed_end().filter(|end| *end > len)
                {
                    wrong.push(format!("{} has {len} bytes, {end} are claimed", self.shown(&data_path)));
                }
            }
            BitsFile::Bad => {
                wrong.push(format!("{path} cannot be read: nothing of the blob counts as valid"));
            }
            BitsFile::Missing => {
                wrong.push(format!("{path} is missing: nothing of the blob counts as valid"));
            }
        }
        if wrong.is_empty() || !self.is_row(hash, row)? {
            return Ok(());
        }
        for what in wrong {
            self.report.error(what, Some(hash))?;
        }
        if self.repairs() {
            let whole = (data != Found::Missing && pairs != Found::Missing).then_some(match data {
                Found::File(len) => len,
                Found::Missing => 0,
            });
            self.engine().mend_partial(hash, no, whole.unwrap_or(0))?;
            self.report.info(
                "what is missing of this partial blob can be downloaded again".to_owned(),
                Some(hash),
            )?;
        }
        Ok(())
    }
}
