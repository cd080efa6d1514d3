//! Every panic of a trial, on whichever of its threads.

use std::{
    collections::BTreeMap,
    panic,
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
};

static PANICS: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());
static HOOK: Once = Once::new();

/// The threads of trials have this name and the trial's number.
const PREFIX: &str = "trial-";

/// The name of the threads of a trial.
pub(crate) fn thread_name(number: u64) -> String {
    format!("{PREFIX}{number}")
}

/// From now on panics of trials are gathered instead of printed. Those of other threads are printed as before.
pub(crate) fn gather() {
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| match trial() {
            Some(trial) => {
                let place = info.location().map(ToString::to_string).unwrap_or_default();
                let text = info.payload_as_str().unwrap_or("something that is not text");
                panics().entry(trial).or_default().push(format!("panicked at {place}: {text}"));
            }
            None => before(info),
        }));
    });
}

/// The trial that this thread belongs to: all its threads have the same name.
pub(crate) fn trial() -> Option<String> {
    thread::current().name().filter(|name| name.starts_with(PREFIX)).map(str::to_owned)
}

/// Whether a thread of this trial has panicked.
pub(crate) fn has_panicked() -> bool {
    trial().is_some_and(|trial| panics().contains_key(&trial))
}

/// Gathers what was taken once more.
pub(crate) fn put_back(trial: &str, taken: Vec<String>) {
    if !taken.is_empty() {
        panics().entry(trial.to_owned()).or_default().extend(taken);
    }
}

/// Takes what was gathered for a trial.
pub(crate) fn take(trial: &str) -> Vec<String> {
    panics().remove(trial).unwrap_or_default()
}

/// The map holds no code of others while it is locked, and is consistent after any panic.
fn panics() -> MutexGuard<'static, BTreeMap<String, Vec<String>>> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner)
}
