//! Several tasks at once, recorded, and explained.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use blob_traits::Store;
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::Barrier};

use crate::Dice;

use super::{
    Check, Disagreement, Setup,
    calls::{Caller, Shared},
    done,
    explain::{Stuck, Timed, explain},
    spec::{Call, Key, N_BLOBS, N_TAGS, State, What},
};

/// How many work at once.
const N_TASKS: usize = 8;
/// How many steps a history has at most whose calls are all about one another.
const MAX_WIDE: usize = 48;

/// Runs histories of several tasks on fresh stores, and looks for an order of their calls that explains what they were
/// told; afterwards of what the store says, also when it was opened again. Blocks; not to be called from within a
/// runtime. Real concurrency takes a runtime with several threads.
///
/// # Errors
/// [`Disagreement`] has the history that cannot be explained, and where an explanation got stuck.
pub fn run_concurrent<S: Store>(setup: &Setup<S>, runtime: &Runtime) -> Result<(), Box<dyn Error>> {
    for number in 0..u64::from(setup.n_histories) {
        let seed = setup.seed.wrapping_mul(1_000_003).wrapping_add(number);
        let history = runtime.block_on(record(setup, seed))?;
        for part in parts(&history) {
            explain(&State::default(), &part, State::after)
                .map_err(|stuck| disagreement(setup.seed, number, &part, &stuck))?;
        }
    }
    Ok(())
}

/// Lets the tasks work, and then looks at everything.
async fn record<S: Store>(setup: &Setup<S>, seed: u64) -> Check<Vec<Timed<Call>>> {
    let home = TempDir::new_in(&setup.dir).map_err(|e| format!("make a directory: {e}"))?;
    let path = home.path().join("store");
    let store = done("open", (setup.open)(&path).await)?;
    let shared = Arc::new(Shared::new(seed));
    let recorder = Arc::new(Recorder::default());
    let start = Arc::new(Barrier::new(N_TASKS));
    let tasks = programs(seed, setup.len).into_iter().enumerate().map(|(task, program)| {
        let caller =
            Caller { store: store.clone(), shared: shared.clone(), recorder: recorder.clone(), task };
        let start = start.clone();
        tokio::spawn(async move {
            start.wait().await;
            for step in program {
                caller.call(step).await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.map_err(|e| format!("a task: {e}"))?;
    }
    let caller = |store| Caller { store, shared: shared.clone(), recorder: recorder.clone(), task: N_TASKS };
    caller(store.clone()).look().await;
    done("shutdown", store.shutdown().await)?;
    drop(store);
    if setup.persistent {
        let store = done("open", (setup.open)(&path).await)?;
        caller(store.clone()).look().await;
        done("shutdown", store.shutdown().await)?;
    }
    let mut history = recorder.take();
    history.sort_by_key(|timed| timed.invoked);
    Ok(history)
}

/// What the tasks do. Every other history has calls about several blobs or tags at once, which makes it one whole, and
/// is short; the others fall apart into one history for each key.
fn programs(seed: u64, len: usize) -> Vec<Vec<What>> {
    let mut dice = Dice::new(seed);
    let wide = dice.below(2) == 0;
    let len = if wide { len.min(MAX_WIDE) } else { len };
    let per_task = len.div_ceil(N_TASKS);
    (0..N_TASKS).map(|_| (0..per_task).map(|_| step(&mut dice, wide)).collect()).collect()
}

fn step(dice: &mut Dice, wide: bool) -> What {
    let mut below = |n: u8| u8::try_from(dice.below(n.into())).unwrap_or_default();
    let (blob, tag, other) = (below(N_BLOBS), below(N_TAGS), below(N_TAGS));
    match below(if wide { 20 } else { 14 }) {
        0..2 => What::Import { blob, tag: None },
        2..4 => What::Delete { blob },
        4 => What::Status { blob },
        5 => What::Present { blob },
        6..9 => What::Write { blob, handle: 0, group: below(5) },
        9 => What::InsertComplete { blob, handle: 0 },
        10 => What::SetTag { tag, blob },
        11 => What::DeleteTag { tag },
        12..14 => What::GetTag { tag },
        14 => What::Import { blob, tag: Some(tag) },
        15 => What::Blobs,
        16 => What::PartialBlobs,
        17 => What::RenameTag { from: tag, to: other },
        18 => What::Tags,
        _ => What::DeleteTags,
    }
}

/// Notes what was called and answered, and when.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    clock: AtomicU64,
    calls: Mutex<Vec<Timed<Call>>>,
}

impl Recorder {
    pub(super) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    pub(super) fn add(&self, timed: Timed<Call>) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(timed);
    }

    fn take(&self) -> Vec<Timed<Call>> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes a history apart into those that have no key in common. Each of them is explained by itself: together they
/// have an explanation exactly if each has one.
fn parts(history: &[Timed<Call>]) -> Vec<Vec<Timed<Call>>> {
    let mut groups: Vec<BTreeSet<Key>> = Vec::new();
    for timed in history {
        let mut keys: BTreeSet<_> = timed.call.keys().into_iter().collect();
        groups.retain(|group| {
            let apart = group.is_disjoint(&keys);
            if !apart {
                keys.extend(group);
            }
            apart
        });
        groups.push(keys);
    }
    let of = |group: &BTreeSet<Key>| {
        let mine = |timed: &&Timed<Call>| timed.call.keys().iter().any(|key| group.contains(key));
        history.iter().filter(mine).cloned().collect()
    };
    groups.iter().map(of).collect()
}

fn disagreement(seed: u64, number: u64, part: &[Timed<Call>], stuck: &Stuck) -> Disagreement {
    let places: BTreeMap<_, _> = stuck.explained.iter().enumerate().map(|(n, i)| (*i, n)).collect();
    let mut text =
        format!("seed {seed}, history {number}: no order of these calls explains what they were told;");
    text.push_str(" #n: the n-th in the longest explanation, ??: had to come next and cannot\n");
    for (i, Timed { task, invoked, returned, call }) in part.iter().enumerate() {
        let place = match places.get(&i) {
            Some(place) => format!("#{place}"),
            None if stuck.next.contains(&i) => "??".to_owned(),
            None => String::new(),
        };
        let Call { what, told } = call;
        let _ =
            writeln!(text, "  {place:>4} [{invoked:>3}..{returned:>3}] task {task}: {what:?} -> {told:?}");
    }
    Disagreement { n_steps: part.len(), text }
}

#[cfg(test)]
mod tests {
    use blob_traits::EntryStatus;

    use super::*;
    use crate::model::spec::Told;

    fn timed(calls: &[(u64, u64, What, Told)]) -> Vec<Timed<Call>> {
        let one = |(task, (invoked, returned, what, told)): (usize, &(u64, u64, What, Told))| Timed {
            task,
            invoked: *invoked,
            returned: *returned,
            call: Call { what: what.clone(), told: told.clone() },
        };
        calls.iter().enumerate().map(one).collect()
    }

    fn is_explained(calls: &[(u64, u64, What, Told)]) -> bool {
        parts(&timed(calls)).iter().all(|part| explain(&State::default(), part, State::after).is_ok())
    }

    const IMPORT: What = What::Import { blob: 0, tag: None };
    const DELETE: What = What::Delete { blob: 0 };
    const STATUS: What = What::Status { blob: 0 };

    #[test]
    fn blob_that_is_gone_after_its_import_was_acknowledged_is_noticed() {
        let gone = Told::Status(EntryStatus::NotFound);
        assert!(is_explained(&[(0, 3, IMPORT, Told::Done), (1, 2, STATUS, gone.clone())]));
        assert!(!is_explained(&[(0, 1, IMPORT, Told::Done), (2, 3, STATUS, gone)]));
    }

    #[test]
    fn delete_that_comes_back_is_noticed() {
        let there = Told::Status(EntryStatus::Complete);
        let calls = [(0, 1, IMPORT, Told::Done), (2, 3, DELETE, Told::Done), (4, 5, STATUS, there.clone())];
        assert!(!is_explained(&calls));
        let again = [(0, 1, IMPORT, Told::Done), (2, 3, DELETE, Told::Done), (3, 9, IMPORT, Told::Done)];
        assert!(is_explained(&[&again[..], &[(4, 5, STATUS, there)]].concat()));
    }

    #[test]
    fn write_to_a_deleted_partial_blob_must_fail() {
        let create = |handle| What::GetOrCreate { blob: 0, handle };
        let write = What::Write { blob: 0, handle: 1, group: 0 };
        for (told, fine) in [(Told::Done, false), (Told::Refused("not-found"), true)] {
            let calls = [
                (0, 1, create(1), Told::Done),
                (2, 3, DELETE, Told::Done),
                (4, 5, create(2), Told::Done),
                (6, 7, write.clone(), told),
            ];
            assert_eq!(is_explained(&calls), fine);
        }
    }

    #[test]
    fn listing_that_is_no_snapshot_is_noticed() {
        let import = |blob| What::Import { blob, tag: None };
        let calls = |listed| {
            [
                (0, 1, import(0), Told::Done),
                (2, 3, import(1), Told::Done),
                (2, 4, What::Blobs, Told::Blobs(listed)),
            ]
        };
        assert!(is_explained(&calls(vec![0])) && is_explained(&calls(vec![0, 1])));
        assert!(!is_explained(&calls(vec![1])));
    }

    #[test]
    fn calls_about_different_keys_fall_apart() {
        let calls = [
            (0, 1, IMPORT, Told::Done),
            (2, 3, What::Delete { blob: 1 }, Told::Done),
            (4, 5, What::GetTag { tag: 0 }, Told::Tag(None)),
        ];
        assert_eq!(parts(&timed(&calls)).len(), 3);
        let tagged = (6, 7, What::Import { blob: 1, tag: Some(0) }, Told::Done);
        assert_eq!(parts(&timed(&[&calls[..], &[tagged]].concat())).len(), 2);
    }
}
