//! Properties: a check for many generated values, and the smallest value that fails it.

use std::{
    fmt::Debug,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_lite::FutureExt;
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{Failure, Outcome, Trial, panics};

/// How often a failing value is made smaller.
const MAX_SHRINKS: u32 = 200;
/// For how long.
const SHRINK_TIME: Duration = Duration::from_secs(20);

impl<S> Trial<S> {
    /// Checks `n` values that depend on the trial's seed alone. A value that fails is made as small as it still fails.
    ///
    /// # Errors
    /// The smallest value that fails, and how.
    pub async fn for_all<T: Debug>(
        &self,
        n: u32,
        strategy: impl Strategy<Value = T>,
        mut check: impl AsyncFnMut(T) -> Outcome,
    ) -> Outcome {
        let seed = *blake3::Hasher::new().update(&self.seed.to_le_bytes()).finalize().as_bytes();
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let config = Config { failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, rng);
        for _ in 0..n {
            let mut tree = strategy.new_tree(&mut runner).map_err(|e| format!("cannot generate: {e}"))?;
            let Some(mut failure) = fails(&mut check, tree.current()).await? else { continue };
            let mut smallest = format!("{:?}", tree.current());
            let begun = Instant::now();
            let mut is_smaller = tree.simplify();
            for _ in 0..MAX_SHRINKS {
                if !is_smaller || begun.elapsed() > SHRINK_TIME {
                    break;
                }
                is_smaller = match fails(&mut check, tree.current()).await? {
                    Some(smaller) => {
                        (failure, smallest) = (smaller, format!("{:?}", tree.current()));
                        tree.simplify()
                    }
                    None => tree.complicate(),
                };
            }
            return Err(format!("for {smallest}: {failure}").into());
        }
        Ok(())
    }
}

/// How a value fails the check, if it does.
async fn fails<T>(check: &mut impl AsyncFnMut(T) -> Outcome, value: T) -> Result<Option<String>, Failure> {
    let trial = panics::trial().unwrap_or_default();
    let before = panics::take(&trial);
    match AssertUnwindSafe(check(value)).catch_unwind().await {
        Ok(Ok(())) => {
            panics::put_back(&trial, before);
            Ok(None)
        }
        Ok(Err(Failure::Failed(error))) => Ok(Some(format!("{error} ({error:?})"))),
        Ok(Err(skipped)) => Err(skipped),
        Err(_) => Ok(Some(panics::take(&trial).join("\n"))),
    }
}
