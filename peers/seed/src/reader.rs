//! The bytes of a blob.

use std::io;

use blob_traits::ReadBlob;
use bytes::Bytes;
use iroh_blobs::store::MapEntry;
use iroh_io::AsyncSliceReader;

use crate::served::{Reply, Served, answer};

/// The seed's data reader. What it returns for bytes that a partial blob does not have is the seed's.
#[derive(Debug)]
pub struct SeedReader(Served<Call>);

#[derive(Debug)]
enum Call {
    ReadAt { offset: u64, len: usize, reply: Reply<io::Result<Bytes>> },
    Size { reply: Reply<io::Result<u64>> },
}

impl SeedReader {
    pub(crate) async fn open<E: MapEntry>(entry: E) -> io::Result<Self> {
        let (served, ()) = Served::open(async move |opened: Reply<io::Result<()>>, mut calls| {
            let mut reader = match entry.data_reader().await {
                Ok(reader) => reader,
                Err(e) => return drop(opened.send(Err(e))),
            };
            let _ = opened.send(Ok(()));
            while let Some(call) = calls.recv().await {
                match call {
                    Call::ReadAt { offset, len, reply } => answer(reply, reader.read_at(offset, len)).await,
                    Call::Size { reply } => answer(reply, reader.size()).await,
                }
            }
        })
        .await?;
        Ok(Self(served))
    }
}

impl AsyncSliceReader for SeedReader {
    async fn read_at(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.read_range(offset, len).await
    }

    async fn size(&mut self) -> io::Result<u64> {
        self.0.call(|reply| Call::Size { reply }).await
    }
}

impl ReadBlob for SeedReader {
    async fn read_range(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.0.call(|reply| Call::ReadAt { offset, len, reply }).await
    }
}
