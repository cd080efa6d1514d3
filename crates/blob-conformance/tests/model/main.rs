//! Proof that random histories find faults.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod broken;

use blob_conformance::model::{Disagreement, Setup, run_concurrent, run_sequential};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use broken::{Broken, Fault};

fn broken(dir: &TempDir, fault: Fault) -> Setup<Broken> {
    Setup {
        open: Box::new(move |_| Box::pin(async move { Ok(Broken::new(fault)) })),
        dir: dir.path().to_owned(),
        persistent: false,
        references: false,
        thresholds: Vec::new(),
        seed: 1,
        n_histories: 200,
        len: 40,
    }
}

#[test]
fn each_fault_is_found_and_shown_by_a_short_history() {
    for (fault, n_steps) in [
        (Fault::ForgetsTagOfKnownBlob, 2),
        (Fault::FailedImportStays, 1),
        (Fault::RenameCopies, 2),
        (Fault::KeepsPartialBlobs, 2),
        (Fault::ReplacesTarget, 3),
        (Fault::ClaimForgets, 2),
        (Fault::TempTagsAreAllRaw, 1),
        (Fault::StaleStatus, 2),
    ] {
        let dir = TempDir::new().unwrap();
        let error = run_sequential(&broken(&dir, fault), &Runtime::new().unwrap()).unwrap_err();
        let found = error.downcast_ref::<Disagreement>().unwrap();
        assert!(found.n_steps <= n_steps, "{fault:?}: {found}");
    }
}

#[test]
fn each_race_is_found() {
    for fault in [Fault::StaleStatus, Fault::RenameInSteps, Fault::ListsInSteps] {
        let dir = TempDir::new().unwrap();
        let outcome = run_concurrent(&broken(&dir, fault), &Runtime::new().unwrap());
        assert!(outcome.is_err_and(|e| e.is::<Disagreement>()), "{fault:?}");
    }
}
