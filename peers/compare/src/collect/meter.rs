//! What the system has counted since something began.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::memory;

pub(super) struct Meter {
    begun: Instant,
    written: u64,
    resident: u64,
}

impl Meter {
    pub(super) fn begin() -> Result<Self> {
        // Since Linux 4.0 this resets the peak of resident memory to what is resident now.
        std::fs::write("/proc/self/clear_refs", "5").context("resetting the peak of memory")?;
        let (written, resident) = (written_bytes()?, memory::peak_bytes()?);
        Ok(Self { begun: Instant::now(), written, resident })
    }

    pub(super) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Peak memory above what there was at the beginning.
    pub(super) fn peak_bytes(&self) -> Result<u64> {
        Ok(memory::peak_bytes()?.saturating_sub(self.resident))
    }

    /// Bytes handed to the system to be written.
    pub(super) fn written_bytes(&self) -> Result<u64> {
        Ok(written_bytes()? - self.written)
    }
}

fn written_bytes() -> Result<u64> {
    let io = std::fs::read_to_string("/proc/self/io").context("reading /proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).context("no wchar")?;
    Ok(line.trim().parse()?)
}
