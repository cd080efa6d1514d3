//! Files as the streams that bao-tree's encoders and decoders work on.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use blob_traits::Error;
use bytes::Bytes;
use iroh_io::{AsyncStreamReader, AsyncStreamWriter};

use crate::{args::OutputFile, exit::Failure, get::stdout_takes_bytes, new_file::NewFile, run::Context};

/// Reads or writes in the calling thread, which may block: encoders and decoders run on one of the blocking pool.
pub(crate) struct Blocking<T>(pub(crate) T);

impl<W: Write> AsyncStreamWriter for Blocking<W> {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    async fn write_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        self.0.write_all(&bytes)
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<R: Read> AsyncStreamReader for Blocking<R> {
    async fn read_bytes(&mut self, len: usize) -> io::Result<Bytes> {
        let mut bytes = Vec::new();
        (&mut self.0).take(len as u64).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }

    async fn read<const L: usize>(&mut self) -> io::Result<[u8; L]> {
        let mut bytes = [0; L];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Where the result goes.
pub(super) enum Destination {
    Stdout,
    File(NewFile),
}

impl Destination {
    /// Begins the file that was named, if any.
    pub(super) async fn begin(context: &Context, output: &OutputFile) -> Result<Self, Failure> {
        if let Some(path) = output.file() {
            return Ok(Self::File(NewFile::begin(path, output.force).await?));
        }
        stdout_takes_bytes(&context.output)?;
        Ok(Self::Stdout)
    }

    /// Returns what to write to.
    pub(super) fn writer(&self) -> Result<Box<dyn Write + Send>, Failure> {
        Ok(match self {
            Self::Stdout => Box::new(io::BufWriter::with_capacity(256 << 10, io::stdout())),
            Self::File(file) => Box::new(io::BufWriter::with_capacity(256 << 10, file.handle()?)),
        })
    }

    /// Tells a failure to write from others.
    pub(super) fn blame(&self, error: Error) -> Failure {
        match (self, error) {
            (Self::Stdout, Error::Io { doing: "", path: None, source }) => Failure::output(source),
            (Self::File(file), Error::Io { doing: "", path: None, source }) => {
                Error::io("write", file.target(), source).into()
            }
            (_, error) => error.into(),
        }
    }

    /// Gives the file its name; returns the path, if there is one.
    pub(super) async fn finish(self) -> Result<Option<PathBuf>, Failure> {
        let Self::File(file) = self else { return Ok(None) };
        let path = file.target().to_owned();
        file.finish().await?;
        Ok(Some(path))
    }
}

/// Opens the file with the stream, or standard input for `-`.
pub(super) fn open_input(path: &Path) -> Result<Box<dyn Read + Send>, Error> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    if file.metadata().is_ok_and(|found| found.is_dir()) {
        return Err(Error::IsADirectory { path: path.to_owned() });
    }
    Ok(Box::new(io::BufReader::with_capacity(256 << 10, file)))
}
