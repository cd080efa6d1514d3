//! Peak memory of this process.

use anyhow::{Context, Result};

/// The most that has been resident so far, in bytes.
pub(crate) fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .context("no VmHWM in /proc/self/status")?;
    Ok(kib.trim().parse::<u64>().context("VmHWM is no number")? * 1024)
}
