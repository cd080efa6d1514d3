//! What was found of each blob, and what became of it.

use std::{collections::BTreeMap, ops::Range};

use blob_fs::FsStore;
use blob_traits::{BlobStatus, EntryStatus, Hash, Tag, prelude::*};
use blob_validate::{DamagedBlob, FailedBlob, Outcome, RepairedBlob};
use serde_json::{Value, json};

use super::{Done, hashes};
use crate::{
    exit::Failure,
    ls::{tag_element, tags_by_hash},
    output::{set, shown, shown_bytes},
    run::Context,
    stat::{in_bytes, missing},
};

/// So many ranges are printed of a blob; JSON has all of them.
const MAX_RANGES: usize = 8;

/// Lists what there is to say of single blobs.
pub(super) struct Findings<'a> {
    context: &'a Context,
    store: &'a FsStore,
    done: &'a Done,
    tags: BTreeMap<Hash, Vec<Tag>>,
}

impl<'a> Findings<'a> {
    pub(super) async fn new(
        context: &'a Context,
        store: &'a FsStore,
        done: &'a Done,
    ) -> Result<Self, Failure> {
        // They say what is concerned. Nobody waits for them where nothing is.
        let tags = if hashes(done).is_empty() { BTreeMap::new() } else { tags_by_hash(store).await? };
        Ok(Self { context, store, done, tags })
    }

    /// First what was found, in the order of the hashes, then what was done about it.
    pub(super) async fn list(&self) -> Result<(), Failure> {
        let found = self.done.found();
        for blob in &found.damaged {
            self.show("damaged", blob.hash, shown(&blob.to_string()), damaged_fields(blob))?;
        }
        for FailedBlob { hash, error, .. } in &found.failed {
            let fields = json!({ "code": error.code, "message": error.message });
            self.show("failed", *hash, shown(&error.message), fields)?;
        }
        let Some(report) = self.done.repaired() else {
            for hash in &found.demoted {
                self.show_demoted(*hash).await?;
            }
            return Ok(());
        };
        for blob in &report.blobs {
            for failure in &blob.failures {
                self.context.output.warning(&format!("{}: {}", blob.hash, shown(failure)));
            }
            let (line, fields) = outcome(blob);
            let fields = with_hash(blob.hash, fields);
            self.context
                .output
                .item(format_args!("{:10}  {}  {line}", word(&blob.outcome), blob.hash), &fields)?;
        }
        Ok(())
    }

    /// Of this blob an earlier repair took ranges back.
    async fn show_demoted(&self, hash: Hash) -> Result<(), Failure> {
        let Some(entry) = self.store.get(&hash).await? else { return Ok(()) };
        if !self.store.was_demoted(&hash).await? {
            return Ok(());
        }
        let missing = missing(self.store, &entry).await?;
        let line = format!("partial since an earlier repair: {}", missing_line(&missing));
        self.show("demoted", hash, line, json!({ "missing": missing }))
    }

    fn show(&self, found: &str, hash: Hash, mut line: String, mut fields: Value) -> Result<(), Failure> {
        set(&mut fields, "found", found);
        if let Some(tags) = self.tags.get(&hash) {
            let printed: Vec<_> = tags.iter().map(Tag::to_string).collect();
            line = format!("{line}  ({})", printed.join(", "));
            set(&mut fields, "tags", tags.iter().map(tag_element).collect::<Vec<_>>());
        }
        let fields = with_hash(hash, fields);
        self.context.output.item(format_args!("{found:10}  {hash}  {line}"), &fields)
    }
}

fn with_hash(hash: Hash, mut fields: Value) -> Value {
    set(&mut fields, "hash", hash.to_string());
    fields
}

fn damaged_fields(blob: &DamagedBlob) -> Value {
    let status = if blob.status == EntryStatus::Complete { "complete" } else { "partial" };
    json!({
        "status": status,
        "size": blob.size,
        "path": blob.path.as_ref().map(|path| path.to_string_lossy()),
        "damaged": in_bytes(&blob.bad, blob.size),
        "unreadable": in_bytes(&blob.unreadable, blob.size),
        "damaged_pairs": blob.n_bad_pairs,
        "stored_size": blob.stored_len,
        "message": blob.to_string(),
    })
}

/// The outcome in a word for people.
fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "repaired",
        Outcome::Partial { .. } => "partial",
        Outcome::Unreadable => "unreadable",
        Outcome::Vanished => "deleted",
        Outcome::NotBegun => "not begun",
        _ => "failed",
    }
}

fn outcome(blob: &RepairedBlob) -> (String, Value) {
    let fetched = blob.fetched;
    let mut fields = json!({
        "fetched_bytes": fetched.n_bytes,
        "fetched_hash_bytes": fetched.n_hash_bytes,
        "failures": blob.failures,
    });
    let (name, line) = match &blob.outcome {
        Outcome::Complete if fetched.n_bytes == 0 => ("complete", "nothing was lost".to_owned()),
        Outcome::Complete => ("complete", fetched_line(fetched.n_bytes, fetched.n_hash_bytes)),
        Outcome::Partial { missing } => {
            let missing: Vec<_> = missing.iter().map(|Range { start, end }| (*start, *end)).collect();
            set(&mut fields, "missing", json!(missing));
            ("partial", missing_line(&missing))
        }
        Outcome::Unreadable => {
            ("unreadable", "left as it is: what the system cannot read now may be sound".to_owned())
        }
        Outcome::Vanished => ("vanished", "it was deleted meanwhile".to_owned()),
        Outcome::Failed(error) => {
            set(&mut fields, "code", error.code.clone());
            set(&mut fields, "message", error.message.clone());
            ("failed", shown(&error.message))
        }
        Outcome::NotBegun => ("not_begun", "left as it is: the budget was spent".to_owned()),
        _ => ("failed", String::new()),
    };
    set(&mut fields, "repaired", name);
    (line, fields)
}

/// What came from sources.
pub(super) fn fetched_line(n_bytes: u64, n_hash_bytes: u64) -> String {
    format!("{} and {} of hashes fetched", shown_bytes(n_bytes), shown_bytes(n_hash_bytes))
}

/// `bytes 0..5, 7..9 missing`, and no more than a line of it.
fn missing_line(missing: &[(u64, u64)]) -> String {
    let n_bytes: u64 = missing.iter().map(|(start, end)| end - start).sum();
    let shown: Vec<_> =
        missing.iter().take(MAX_RANGES).map(|(start, end)| format!("{start}..{end}")).collect();
    let more = match missing.len().saturating_sub(MAX_RANGES) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    format!("{n_bytes} bytes missing: {}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_ranges_are_summed_up() {
        assert_eq!(missing_line(&[(0, 5), (7, 9)]), "7 bytes missing: 0..5, 7..9");
        let many: Vec<_> = (0..20).map(|i| (2 * i, 2 * i + 1)).collect();
        assert!(missing_line(&many).ends_with("12..13, 14..15 and 12 more"));
    }
}
