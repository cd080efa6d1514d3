//! Failing operation after operation of a workload.

use std::time::{Duration, Instant};

use blob_traits::{Error, Result, Store};

use crate::{
    Failure, Fault, Lasts, Operations, Outcome, Trial,
    ledger::{Ledger, everything_verifies},
};

/// What a full disk says.
pub(super) const ENOSPC: i32 = 28;
/// What a broken disk says.
pub(super) const EIO: i32 = 5;

/// No workload does more operations than this.
const MOST: u64 = 60;
/// How long a store may take to find its feet again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lets operation 1, 2, 3, ... of a workload fail, once and from then on, until the fault is not met any more.
///
/// `work` gets a number that is new each time, and notes what it did. Afterwards what was acknowledged is there, what
/// failed is whole or absent, and the same work succeeds.
pub(super) async fn sweep<S: Store>(
    trial: &Trial<S>,
    mut store: S,
    (what, errno): (Operations, i32),
    mut work: impl AsyncFnMut(&S, &mut Ledger, u64) -> Result<()>,
) -> Outcome {
    let faults = trial.faults()?;
    let (mut all, mut number, mut n_fired) = (Ledger::default(), 0, 0);
    for lasts in [Lasts::Once, Lasts::UntilDisarmed] {
        for at in 1..=MOST {
            let mut ledger = Ledger::default();
            number += 1;
            faults.arm(Fault { at, what, lasts, errno });
            let done = work(&store, &mut ledger, number).await;
            faults.disarm();
            if !faults.has_fired() {
                done?;
                all.merge(ledger);
                break;
            }
            n_fired += 1;
            assert!(at < MOST, "it does not end");
            says_what_is_wrong(errno, done);
            store = works_again(trial, store).await?;
            ledger.check(&store).await?;
            work(&store, &mut ledger, number).await.map_err(|e| format!("{lasts:?} at {at}: {e:?}"))?;
            ledger.check(&store).await?;
            all.merge(ledger);
        }
    }
    assert!(n_fired > 0, "nothing failed");
    all.check_all(&store).await?;
    store = trial.crash_and_reopen(store).await?;
    all.check_all(&store).await?;
    everything_verifies(&store).await
}

#[track_caller]
fn says_what_is_wrong(errno: i32, done: Result<()>) {
    match done {
        Err(Error::NoSpace { .. }) if errno == ENOSPC => {}
        Err(Error::Io { .. }) if errno == EIO => {}
        // What had failed may have been put right, or have to be done again.
        Ok(()) | Err(Error::Failed { .. } | Error::NotFound { .. }) => {}
        Err(other) => panic!("{other:?} for error {errno} of the system"),
    }
}

/// The store, opened again if it asks for that, once it accepts changes.
async fn works_again<S: Store>(trial: &Trial<S>, mut store: S) -> Result<S, Failure> {
    let begun = Instant::now();
    loop {
        match store.set_tag("no such tag".into(), None).await {
            Ok(()) => return Ok(store),
            Err(Error::Failed { .. }) if begun.elapsed() < PATIENCE => {
                store = trial.crash_and_reopen(store).await?;
            }
            Err(e) if begun.elapsed() > PATIENCE => return Err(e.into()),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
