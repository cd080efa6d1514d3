//! `blob stat`: what is known of blobs.

use blob_fs::FsStore;
use blob_traits::{
    BLOCK_SIZE, BlobFormat, Collection, MapEntry, Tag,
    bao_tree::{BaoTree, ChunkRanges},
    prelude::*,
};
use serde_json::{Value, json};

use crate::{
    args::StatArgs,
    exit::{Exit, Failure},
    ls::{tag_element, tags_by_hash},
    open::{Access, detect, resolve},
    run::Context,
    target::Name,
};

const BLOBS: &str = "blobs";

/// Shows what is known of each.
pub(crate) async fn run(context: &Context, args: StatArgs) -> Result<Exit, Failure> {
    let store = context.open(Access::Existing).await?;
    let tags = tags_by_hash(&store).await?;
    for (i, name) in args.names.iter().enumerate() {
        let known = Known::of(&store, name).await?;
        let tags = tags.get(&known.hash).map(Vec::as_slice).unwrap_or_default();
        let gap = if i == 0 { "" } else { "\n" };
        context.output.element(BLOBS, format!("{gap}{}", known.lines(tags)), &known.fields(tags))?;
    }
    context.output.end_listing(BLOBS)?;
    Ok(Exit::Ok)
}

/// What is shown of a blob.
struct Known {
    hash: blob_traits::Hash,
    format: BlobFormat,
    is_complete: bool,
    size: u64,
    is_size_verified: bool,
    /// What is there of a partial blob, in bytes.
    present: Vec<(u64, u64)>,
    /// How many bytes repair had to take back, or has not got back yet.
    n_lost: Option<u64>,
    n_outboard_bytes: u64,
    /// Of a collection whose names are there.
    n_files: Option<usize>,
}

impl Known {
    async fn of(store: &FsStore, name: &Name) -> Result<Self, Failure> {
        let resolved = resolve(store, name).await?;
        let entry = store.existing(resolved.hash).await?;
        let (hash, size) = (entry.hash(), entry.size());
        let format = match resolved.format {
            Some(format) => format,
            None => detect(store, hash).await?.format,
        };
        let n_files = match format {
            BlobFormat::HashSeq => {
                Collection::load(hash, store).await.ok().map(|collection| collection.len())
            }
            BlobFormat::Raw => None,
        };
        let present = store.present_ranges(&hash).await?.unwrap_or_else(ChunkRanges::empty);
        Ok(Self {
            hash,
            format,
            is_complete: entry.is_complete(),
            size: size.value(),
            is_size_verified: size.is_verified(),
            present: in_bytes(&present, size.value()),
            n_lost: n_lost(store, &entry).await?,
            n_outboard_bytes: BaoTree::new(size.value(), BLOCK_SIZE).outboard_size(),
            n_files,
        })
    }

    fn status(&self) -> &'static str {
        if self.is_complete { "complete" } else { "partial" }
    }

    fn format_name(&self) -> &'static str {
        match (self.format, self.n_files) {
            (BlobFormat::Raw, _) => "raw",
            (BlobFormat::HashSeq, None) => "hash-seq",
            (BlobFormat::HashSeq, Some(_)) => "collection",
        }
    }

    fn lines(&self, tags: &[Tag]) -> String {
        let verified = if self.is_size_verified { "" } else { " (claimed, not verified)" };
        let lost = self.n_lost.map(|n| format!(" (damaged: {n} bytes missing)")).unwrap_or_default();
        let mut lines = vec![
            format!("hash      {}", self.hash),
            format!("status    {}{lost}", self.status()),
            format!("size      {}{verified}", self.size),
            format!("format    {}", self.format_name()),
        ];
        if !self.is_complete {
            let ranges: Vec<_> = self.present.iter().map(|(start, end)| format!("{start}..{end}")).collect();
            let n_present: u64 = self.present.iter().map(|(start, end)| end - start).sum();
            lines.push(format!("present   {n_present} bytes: {}", ranges.join(",")));
        }
        lines.extend(self.n_files.map(|n| format!("files     {n}")));
        lines.push(format!("outboard  {}", self.n_outboard_bytes));
        lines.extend(tags.iter().map(|tag| format!("tag       {tag}")));
        lines.join("\n")
    }

    fn fields(&self, tags: &[Tag]) -> Value {
        json!({
            "hash": self.hash.to_string(),
            "status": self.status(),
            "size": self.size,
            "size_verified": self.is_size_verified,
            "format": self.format_name(),
            "present": self.present,
            "demoted": self.n_lost.is_some(),
            "files": self.n_files,
            "outboard_size": self.n_outboard_bytes,
            "tags": tags.iter().map(tag_element).collect::<Vec<_>>(),
        })
    }
}

/// What of a partial blob is not there, in bytes.
pub(crate) async fn missing(store: &FsStore, entry: &impl MapEntry) -> Result<Vec<(u64, u64)>, Failure> {
    let present = store.present_ranges(&entry.hash()).await?.unwrap_or_else(ChunkRanges::empty);
    Ok(in_bytes(&(ChunkRanges::all() - present), entry.size().value()))
}

/// How many bytes are missing of a blob that repair has made partial, and that is not complete again.
pub(crate) async fn n_lost(store: &FsStore, entry: &impl MapEntry) -> Result<Option<u64>, Failure> {
    if entry.is_complete() || !store.was_demoted(&entry.hash()).await? {
        return Ok(None);
    }
    Ok(Some(missing(store, entry).await?.iter().map(|(start, end)| end - start).sum()))
}

/// Ranges of chunks as ranges of bytes, cut off at the end of the blob.
pub(crate) fn in_bytes(ranges: &ChunkRanges, size: u64) -> Vec<(u64, u64)> {
    let n_chunks = BaoTree::new(size, BLOCK_SIZE).chunks();
    let ranges = ranges & &ChunkRanges::from(..n_chunks);
    let bytes = ranges.boundaries().iter().map(|chunk| chunk.to_bytes().min(size)).collect::<Vec<_>>();
    bytes.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?))).collect()
}

#[cfg(test)]
mod tests {
    use blob_traits::bao_tree::ChunkNum;

    use super::*;

    #[test]
    fn chunks_become_bytes_up_to_the_end() {
        let ranges = ChunkRanges::from(..ChunkNum(2)) | ChunkRanges::from(ChunkNum(4)..);
        assert_eq!(in_bytes(&ranges, 5000), [(0, 2048), (4096, 5000)]);
        assert_eq!(in_bytes(&ChunkRanges::all(), 1024), [(0, 1024)]);
        assert_eq!(in_bytes(&ChunkRanges::empty(), 1024), []);
    }
}
