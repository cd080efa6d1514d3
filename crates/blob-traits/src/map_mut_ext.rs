//! Conveniences over writing: taking verified streams in.

use std::future::Future;

use bao_tree::{
    BaoTree, ChunkRanges,
    io::{
        BaoContentItem,
        fsm::{ResponseDecoder, ResponseDecoderNext},
    },
};
use iroh_io::AsyncStreamReader;

use crate::{
    BLOCK_SIZE, BaoBatchWriter, Error, Hash, MapEntry, MapEntryMut, MapMut, Result,
    blocking::on_blocking_pool,
};

/// How much of a stream is gathered before it is written: a few parents and this many bytes of leaves.
const BATCH_BYTES: usize = 256 << 10;

/// Conveniences for [`MapMut`].
pub trait MapMutExt: MapMut {
    /// Takes in the verified stream of a range set of a blob that is said to have `size` bytes, as
    /// [`export_bao`](crate::MapExt::export_bao) writes it. Nothing is written that has not been checked against the
    /// root. When the blob is whole afterwards it becomes complete. Returns the reader, which may have more to read.
    ///
    /// What arrived before an error stays; dropping the future ends the work at the reader's next wait.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a stream that does not belong to `hash`, [`Error::SizeConflict`],
    /// [`Error::TooLarge`], and those of the reader: [`std::io::ErrorKind::UnexpectedEof`] when it ends early.
    fn import_bao<R: AsyncStreamReader + Send + 'static>(
        &self,
        hash: Hash,
        size: u64,
        ranges: ChunkRanges,
        reader: R,
    ) -> impl Future<Output = Result<R>> + Send {
        async move {
            let entry = self.get_or_create(hash, size).await?;
            let handle = entry.clone();
            let reader = on_blocking_pool(move || async move {
                let mut writer = handle.batch_writer().await?;
                let (reader, decoded) = decode_into(&mut writer, hash, size, ranges, reader).await?;
                writer.sync().await?;
                decoded.map(|()| reader)
            })
            .await?;
            if !entry.is_complete() {
                match self.insert_complete(entry).await {
                    // A part of the blob was asked for and came.
                    Err(Error::Incomplete { .. } | Error::SizeUnverified { .. }) => {}
                    other => other?,
                }
            }
            Ok(reader)
        }
    }
}

impl<T: MapMut> MapMutExt for T {}

/// Writes what can be decoded. The inner result is the stream's fault, after which the writer is still good.
async fn decode_into<R: AsyncStreamReader>(
    writer: &mut impl BaoBatchWriter,
    hash: Hash,
    size: u64,
    ranges: ChunkRanges,
    reader: R,
) -> Result<(R, Result<()>)> {
    let mut decoder = ResponseDecoder::new(hash.into(), ranges, BaoTree::new(size, BLOCK_SIZE), reader);
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    loop {
        match decoder.next().await {
            ResponseDecoderNext::More((next, Ok(item))) => {
                decoder = next;
                if let BaoContentItem::Leaf(leaf) = &item {
                    batch_bytes += leaf.data.len();
                }
                batch.push(item);
                if batch_bytes >= BATCH_BYTES {
                    writer.write_batch(size, std::mem::take(&mut batch)).await?;
                    batch_bytes = 0;
                    // A stream from memory never waits: let a dropped future be noticed.
                    futures_lite::future::yield_now().await;
                }
            }
            ResponseDecoderNext::More((decoder, Err(e))) => {
                writer.write_batch(size, batch).await?;
                return Ok((decoder.finish(), Err(Error::decode(hash, e))));
            }
            ResponseDecoderNext::Done(reader) => {
                writer.write_batch(size, batch).await?;
                return Ok((reader, Ok(())));
            }
        }
    }
}
