//! The conformance suite on the stores of iroh-blobs 0.35. That cases fail is no fault of this crate.

use std::{future::ready, process::ExitCode, time::Duration};

use blob_conformance::{Capability, Harness, Suite, groups};
use blob_seed::{InlineOptions, Promotion, Seed, fs, mem};
use blob_traits::{ScanBlobs, Store};

/// More than what the adapter waits for a call that the seed never answers.
const TRIAL_LIMIT: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    Harness::new()
        .suite(in_memory("seed-mem", Promotion::AsAsked))
        .suite(on_disk("seed-fs", Promotion::AsAsked))
        .suite(in_memory("seed-mem-checked", Promotion::WhenValid))
        .suite(on_disk("seed-fs-checked", Promotion::WhenValid))
        .main()
}

fn in_memory(name: &str, promotion: Promotion) -> Suite<Seed<mem::Store>> {
    let suite = Suite::without_cases(name, move |_home| ready(Ok(Seed::memory(promotion))));
    with_cases(suite)
        .lacks(Capability::Persistence, "memory does not outlive its process")
        .lacks(Capability::Durability, "memory does not outlive its process")
        .lacks(Capability::Lock, "every opening makes a store of its own")
        .lacks(Capability::Files, "it has no files")
        .lacks(Capability::References, "it copies every file")
        .lacks(Capability::MovesOut, "it keeps what it exports")
}

fn on_disk(name: &str, promotion: Promotion) -> Suite<Seed<fs::Store>> {
    let suite = Suite::without_cases(name, move |home| async move {
        Seed::open(home.dir(), InlineOptions::default(), promotion).await
    });
    let inline = InlineOptions::default();
    with_cases(suite).thresholds([inline.max_data_inlined, inline.max_outboard_inlined])
}

fn with_cases<S: Store + ScanBlobs>(suite: Suite<S>) -> Suite<S> {
    groups::core()
        .into_iter()
        .chain([groups::validate_repair::validation()])
        .fold(suite.trial_limit(TRIAL_LIMIT), Suite::group)
        .lacks(Capability::SizeLimit, "it has no limit")
        .lacks(Capability::Faults, "it has no seam to the file system")
}
