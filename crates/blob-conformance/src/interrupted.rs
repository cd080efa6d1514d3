//! Work that is ended on its way: at every operation of the file system below the store, and by kills of its process.

use std::time::Duration;

use blob_traits::Store;

use crate::{Failure, Fault, Home, Kill, Lasts, Operations, Outcome, Trial};

/// No work that is failed at every operation does more operations of one kind.
const MOST: u64 = 300;
/// How often a process is killed.
const KILLS: u64 = 4;
/// The latest time of a kill, in microseconds after the beginning of the work.
const LATEST: u64 = 30_000;

/// Work on a store that may be ended anywhere, and what shall be so afterwards.
pub(crate) trait Work<S> {
    /// What the store has to do with: the same for the same number, in any process.
    type Scene;

    /// Makes a scene, another for each number.
    fn scene(&self, number: u64) -> Self::Scene;

    /// Brings a scene into the store in a home.
    async fn set_up(&self, home: &Home, store: S, scene: &Self::Scene) -> Result<S, Failure>;

    /// Does the work. It fails unless the work is done whole.
    async fn act(&self, store: &S, scene: &Self::Scene) -> Outcome;

    /// Looks at a store in which the work was ended, and does it again.
    async fn check(&self, store: &S, scene: &Self::Scene) -> Outcome;
}

/// Lets operation 1, 2, 3, ... of some work fail; ends the store as a kill would, opens it again, and looks at it.
///
/// Where the fault lasts, nothing gets through any more from that operation on, as if the process had ended there.
pub(crate) async fn fail_at_every_op<S: Store, W: Work<S>>(
    trial: &Trial<S>,
    mut store: S,
    lasts: Lasts,
    work: &W,
) -> Result<S, Failure> {
    let (faults, mut number) = (trial.faults()?, 0);
    for what in [Operations::Writes, Operations::Syncs] {
        let mut n_fired = 0;
        for at in 1..=MOST {
            number += 1;
            let scene = work.scene(number);
            store = work.set_up(trial.home(), store, &scene).await?;
            faults.arm(Fault { at, what, lasts, errno: 5 });
            let done = work.act(&store, &scene).await;
            let has_fired = faults.has_fired();
            trial.abandon(store);
            faults.disarm();
            store = trial.open_when_free(trial.home()).await?;
            if !has_fired {
                done?;
            }
            let checked = work.check(&store, &scene).await;
            checked.map_err(|e| format!("{what:?} {at}: {e:?}"))?;
            if !has_fired {
                break;
            }
            n_fired += 1;
        }
        assert!((1..MOST).contains(&n_fired), "{n_fired} operations failed");
    }
    Ok(store)
}

/// Kills processes in the midst of some work, at any time, and looks at what they leave.
pub(crate) async fn kill_at_any_time<S: Store, W: Work<S>>(trial: &Trial<S>, store: S, work: &W) -> Outcome {
    if let Some(victim) = trial.victim() {
        let store = trial.open(&victim.home()).await?;
        victim.acknowledge("begin")?;
        return work.act(&store, &work.scene(victim.round)).await;
    }
    drop(store);
    let (home, mut dice) = (trial.other_home("killed"), trial.dice());
    for round in 0..KILLS {
        let scene = work.scene(round);
        let store = work.set_up(&home, trial.open(&home).await?, &scene).await?;
        store.shutdown().await?;
        trial.abandon(store);
        let delay = Duration::from_micros(dice.below(LATEST));
        trial.run_and_kill(&home, &Kill { round, after: 1, delay })?;
        let store = trial.open(&home).await?;
        work.check(&store, &scene).await?;
        store.shutdown().await?;
        trial.abandon(store);
    }
    Ok(())
}
