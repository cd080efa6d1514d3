//! Running histories one step after the other, and shrinking those that fail.

use std::{error::Error, fmt::Write as _};

use blob_traits::Store;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::runtime::Runtime;

use super::{
    Check, Disagreement, Setup,
    op::{Op, history},
    universe::Universe,
    world::World,
};

/// How often a failing history is tried in a shorter form.
const MAX_TRIES: u32 = 3000;

/// Runs histories on fresh stores and compares with the reference after every step. Blocks; not to be called from
/// within a runtime.
///
/// # Errors
/// [`Disagreement`] has the shortest history found that fails, and where it does.
pub fn run_sequential<S: Store>(setup: &Setup<S>, runtime: &Runtime) -> Result<(), Box<dyn Error>> {
    let universe = Universe::new(setup.seed, &setup.thresholds);
    let config = Config {
        cases: setup.n_histories,
        failure_persistence: None,
        max_shrink_iters: MAX_TRIES,
        ..Config::default()
    };
    let seed = blake3::hash(&setup.seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, seed.as_bytes());
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(&history(universe.0.len(), setup.len), |ops| {
        runtime.block_on(run(setup, &universe, &ops)).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(TestError::Abort(reason)) => Err(reason.message().into()),
        Err(TestError::Fail(reason, ops)) => {
            Err(Box::new(disagreement(setup.seed, &universe, &ops, reason.message())))
        }
    }
}

async fn run<S: Store>(setup: &Setup<S>, universe: &Universe, ops: &[Op]) -> Check {
    let mut world = World::open(setup, universe).await?;
    for (i, op) in ops.iter().enumerate() {
        let step = async {
            world.apply(op).await?;
            world.check_temp_tags()
        };
        step.await.map_err(|e| format!("step {i}: {e}"))?;
    }
    world.check_all().await.map_err(|e| format!("at the end: {e}"))
}

fn disagreement(seed: u64, universe: &Universe, ops: &[Op], reason: &str) -> Disagreement {
    let mut text = format!("{reason}\nseed {seed}, the shortest history found:\n");
    for (i, op) in ops.iter().enumerate() {
        let _ = writeln!(text, "  {i}: {op:?}");
    }
    text.push_str("blobs:\n");
    for (i, known) in universe.0.iter().enumerate() {
        let _ = writeln!(text, "  {i}: {} bytes, {}", known.size(), known.hash);
    }
    Disagreement { n_steps: ops.len(), text }
}
