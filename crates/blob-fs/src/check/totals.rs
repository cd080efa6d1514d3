//! Tags that point to nothing, what is counted, and what takes room.

use blob_traits::{Hash, Result, TagRange};

use super::Check;
use crate::{
    engine::Look,
    index::{FILES, SegmentNote},
    list, quarantine,
    row::TagRow,
};

impl Check {
    /// Tags that point to nothing. They are allowed, and stay.
    pub(super) fn check_tags(&self) -> Result<()> {
        for item in list::tags(self.engine(), &TagRange::all())?.into_blocking() {
            let (tag, row) = item?;
            let hash = row.content.hash;
            self.go_on()?;
            let is_there = hash == Hash::EMPTY
                || self.engine().blob(&hash)?.is_some()
                || self.engine().state().partials.get(&hash).is_some();
            if !is_there && self.engine().tag(&tag)? == Some(row) {
                let what = format!("tag \"{tag}\" points to a blob that is not in the store");
                self.report.warn(what, Some(hash))?;
            }
        }
        Ok(())
    }

    pub(super) fn check_totals(&self) -> Result<()> {
        self.check_counts()?;
        let (live, files) = self.count_live()?;
        let log_bytes = self.engine().space()?.log_bytes;
        // More may have been written since.
        let live = live.min(log_bytes);
        let log = format!("the log has {log_bytes} bytes, {live} of them live and {} dead", log_bytes - live);
        self.report.info(format!("{log}; files of blobs have {files}"), None)?;
        let aside = quarantine::list(&*self.engine().vfs, &self.engine().layout)?;
        for file in &aside {
            let what = format!("{} was put aside, {} bytes", self.shown(&file.path), file.size);
            self.report.info(what, file.hash)?;
        }
        Ok(())
    }

    /// The bytes that rows need in the log and in files, those included that are not in the index yet (E33).
    fn count_live(&self) -> Result<(u64, u64)> {
        let (mut log, mut files) = (0_u64, 0_u64);
        for item in list::rows(self.engine())?.into_blocking() {
            let (_, row) = item?;
            log = log.saturating_add(row.state.log_len());
            files = files.saturating_add(row.state.file_len());
        }
        for item in list::tags(self.engine(), &TagRange::all())?.into_blocking() {
            let (tag, _) = item?;
            log = log.saturating_add(TagRow::log_len(tag.as_ref().len()));
        }
        self.go_on()?;
        Ok((log, files))
    }

    /// The live bytes of segments, which steer compaction (E54).
    fn check_counts(&self) -> Result<()> {
        let wrong = self.engine().look(|_| Look::Ask(()), |reader, ()| reader.miscounted())?;
        for (id, by) in &wrong {
            let what = if *id == FILES { "of files".to_owned() } else { format!("of segment {id}") };
            self.report.warn(format!("the live bytes {what} were counted wrongly, by {by}"), None)?;
        }
        if self.repairs() && !wrong.is_empty() {
            let notes = wrong.into_iter().map(|(id, by)| SegmentNote::Corrected { id, by });
            self.engine().state().compaction.notes.extend(notes);
            self.engine().commit_index()?;
        }
        Ok(())
    }
}
