//! Futures that are dropped at every place where they wait.

use std::{
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use crate::{Failure, Outcome};

/// No step of any operation of a case takes so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often an operation of a case waits, at most.
const MAX_POLLS: usize = 60;

/// Where a future is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// It has been polled so many times and was not done.
    n_polls: usize,
    when: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Right after the last poll.
    AtOnce,
    /// When it asked for the next poll: what it waited for has come, and nobody takes it.
    Woken,
}

/// Drops an operation at each place where it waits: begins it, polls it some times, drops it, and calls `check`; then
/// the same one place further, until the operation was not to be dropped any more. Returns what it ended with.
///
/// `check` is called after each drop, not after the end. It also prepares what the next round needs.
///
/// # Errors
/// Those of the operation and of `check`, with the place, and when the operation waits too long or too often.
pub async fn drop_at_every_await<T>(
    mut operation: impl AsyncFnMut() -> Result<T, Failure>,
    mut check: impl AsyncFnMut() -> Outcome,
) -> Result<T, Failure> {
    for n_polls in 1..=MAX_POLLS {
        for when in [When::AtOnce, When::Woken] {
            let place = Place { n_polls, when };
            let at = |failure| at_place(place, failure);
            match timeout(PATIENCE, drop_at(place, operation())).await {
                Ok(Some(ended)) => return ended.map_err(at),
                Ok(None) => check().await.map_err(at)?,
                Err(_) => return Err(at("it waits for ever".into())),
            }
        }
    }
    Err(format!("the operation was not done after {MAX_POLLS} polls").into())
}

/// Polls a future up to `n_polls` times, each time it asks for it, then drops it; `None`: it was not done by then.
async fn drop_at<T>(place: Place, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut n = 0;
    poll_fn(|context| {
        if n < place.n_polls {
            n += 1;
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            let is_last = n == place.n_polls && place.when == When::AtOnce;
            return if is_last { Poll::Ready(None) } else { Poll::Pending };
        }
        Poll::Ready(None)
    })
    .await
}

fn at_place(place: Place, failure: Failure) -> Failure {
    match failure {
        Failure::Failed(error) => format!("dropped at {place:?}: {error} ({error:?})").into(),
        skipped @ Failure::Skipped(_) => skipped,
    }
}

/// Waits until something has become true, as it has to soon: what nobody waits for any more ends by itself.
///
/// # Errors
/// When it does not within 20 seconds; those of `holds`.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> Result<bool, Failure>) -> Outcome {
    let begun = Instant::now();
    while !holds().await? {
        if begun.elapsed() > PATIENCE {
            return Err(format!("this never came: {what}").into());
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn each_place_is_visited_once_in_order() {
        let (mut steps, mut n_checks) = (Vec::new(), 0);
        let steps = &mut steps;
        let ended = drop_at_every_await(
            async || {
                steps.push(0);
                for step in 1..=2 {
                    yield_now().await;
                    steps.push(step);
                }
                Ok(steps.len())
            },
            async || {
                n_checks += 1;
                Ok(())
            },
        );
        // at the first and the second wait, each at once and woken; to the end
        assert_eq!(ended.await.expect("it ends"), 9);
        assert_eq!(n_checks, 4);
        assert_eq!(*steps, [0, 0, 0, 1, 0, 1, 0, 1, 2]);
    }

    #[tokio::test]
    async fn operation_without_end_is_given_up() {
        let endless = async || loop {
            yield_now().await;
        };
        assert!(drop_at_every_await::<()>(endless, async || Ok(())).await.is_err());
    }

    #[tokio::test]
    async fn what_has_come_is_dropped_in_place_of_being_taken() {
        for (when, n_sent) in [(When::AtOnce, 0), (When::Woken, 1)] {
            let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
            let sending = tokio::spawn(async move {
                yield_now().await;
                sender.send(()).await
            });
            assert!(drop_at(Place { n_polls: 1, when }, receiver.recv()).await.is_none());
            assert_eq!(receiver.len(), n_sent);
            assert!(sending.await.is_ok_and(|sent| sent.is_ok()));
        }
    }
}
