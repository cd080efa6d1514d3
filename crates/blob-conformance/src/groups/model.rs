//! Random histories, compared with a plain reference.

use std::{collections::BTreeMap, path::Path, sync::Mutex};

use blob_traits::Store;
use tokio::{runtime::Runtime, sync::oneshot};

use crate::{
    Capability, Failure, Home, Outcome, Trial,
    case::group,
    model::{Opener, Setup, run_concurrent, run_sequential},
};

group! {
    "model", for S: Store;
    random_history_agrees_with_the_reference,
    random_histories_in_number_agree_with_the_reference [deep],
    concurrent_history_has_a_sequential_explanation,
    concurrent_histories_in_number_have_sequential_explanations [deep],
}

/// Larger thresholds would make every step of a history slow; blobs above them are for other cases.
const LARGEST: u64 = 200_000;

async fn random_history_agrees_with_the_reference<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    drop(store);
    run(trial, 4, 40, run_sequential).await
}

async fn random_histories_in_number_agree_with_the_reference<S: Store>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    drop(store);
    run(trial, 1000, 60, run_sequential).await
}

async fn concurrent_history_has_a_sequential_explanation<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    drop(store);
    run(trial, 4, 60, run_concurrent).await
}

async fn concurrent_histories_in_number_have_sequential_explanations<S: Store>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    drop(store);
    run(trial, 1000, 80, run_concurrent).await
}

type Run<S> = fn(&Setup<S>, &Runtime) -> Result<(), Box<dyn std::error::Error>>;

/// Runs histories on a thread and a runtime of their own: they are driven from outside.
async fn run<S: Store>(trial: &Trial<S>, n_histories: u32, len: usize, run: Run<S>) -> Outcome {
    let setup = Setup {
        open: opener(trial),
        dir: trial.user(""),
        persistent: trial.has(Capability::Persistence),
        references: trial.has(Capability::References),
        thresholds: trial.thresholds().map(|size| size.min(LARGEST)).collect(),
        seed: trial.seed(),
        n_histories,
        len,
    };
    let work = move || {
        let runtime = Runtime::new().map_err(|e| e.to_string())?;
        run(&setup, &runtime).map_err(|e| e.to_string())
    };
    let (sender, outcome) = oneshot::channel();
    // Nobody listens where the trial took too long.
    trial.thread(move || drop(sender.send(work())))?;
    Ok(outcome.await.map_err(|_| Failure::from("it panicked"))??)
}

/// Opens stores as the backend is opened, each directory a home that stays the same.
fn opener<S: Store>(trial: &Trial<S>) -> Opener<S> {
    let open = trial.backend.open.clone();
    let homes: Mutex<BTreeMap<_, Home>> = Mutex::default();
    Box::new(move |dir: &Path| {
        let mut homes = homes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        open(homes.entry(dir.to_owned()).or_insert_with(|| Home::new(dir)).clone())
    })
}
