//! A store that is made of the protocol and little else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, Weak},
};

use shuttle::sync::{Mutex, MutexGuard};

use crate::{
    Hash, HashAndFormat,
    temp_tag::{Refused, SweepEpoch, TempTag, TempTagRegistry},
};

/// What a store and a collector have to do. Each can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    TemporaryTagsFirst,
    ActsAreNoted,
    PinnedUntilVisible,
    PinnedBeforeLookUp,
    DecidedUnderStateLock,
    ReachedAreMarked,
    OneRound,
    WatchedBeforeRead,
    GrowthNotedFirst,
    FailureSpoils,
}

pub(crate) struct Toy {
    /// The rule that is switched off.
    broken: Option<Rule>,
    pub(crate) registry: TempTagRegistry,
    state: Mutex<State>,
    /// The round that runs, for a collector that does not care that there is one. Nobody else waits for this lock.
    running: std::sync::Mutex<Weak<SweepEpoch>>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) blobs: BTreeMap<Hash, Arc<Blob>>,
    pub(crate) tags: BTreeMap<&'static str, Tagged>,
    /// What users hold by temporary tags and have seen to be there: it is theirs until they let go.
    held: BTreeMap<HashAndFormat, u32>,
    /// How many children of a sequence somebody knows of.
    known: BTreeMap<Hash, usize>,
}

pub(crate) struct Tagged {
    content: HashAndFormat,
    is_hidden: bool,
}

/// A blob with the hashes that it lists, of which the first can be read.
pub(crate) struct Blob {
    children: Vec<Hash>,
    n_readable: Mutex<usize>,
}

/// A temporary tag on something that was seen to be there.
pub(crate) struct Held<'a> {
    toy: &'a Toy,
    tag: TempTag,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let content = self.tag.hash_and_format();
        if let Some(count) = self.toy.state().held.get_mut(&content) {
            *count -= 1;
        }
    }
}

impl Blob {
    pub(crate) fn readable(&self) -> &[Hash] {
        let n_readable = *lock(&self.n_readable);
        self.children.get(..n_readable).unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn insert(&mut self, hash: Hash, children: &[Hash], n_readable: usize) {
        let blob = Blob { children: children.to_vec(), n_readable: Mutex::new(n_readable) };
        self.blobs.insert(hash, Arc::new(blob));
        self.known.insert(hash, n_readable);
    }

    fn hold(&mut self, content: HashAndFormat) {
        *self.held.entry(content).or_default() += 1;
    }

    pub(crate) fn visible_tags(&self) -> impl Iterator<Item = HashAndFormat> {
        self.tags.values().filter(|tagged| !tagged.is_hidden).map(|tagged| tagged.content)
    }

    /// What a root reaches, as far as anybody can know.
    pub(crate) fn reachable(&self) -> BTreeSet<Hash> {
        let held = self.held.iter().filter(|(_, count)| **count > 0).map(|(content, _)| *content);
        let mut reachable = BTreeSet::new();
        for root in self.visible_tags().chain(held) {
            reachable.insert(root.hash);
            if let Some(blob) = self.blobs.get(&root.hash).filter(|_| root.format.is_hash_seq()) {
                let n_known = self.known.get(&root.hash).copied().unwrap_or_default();
                reachable.extend(blob.children.iter().take(n_known));
            }
        }
        reachable
    }

    fn remove(&mut self, condemned: &[Hash]) {
        let reachable = self.reachable();
        for hash in condemned {
            assert!(!reachable.contains(hash), "{hash} is lost");
            self.blobs.remove(hash);
            self.known.remove(hash);
        }
    }
}

impl Toy {
    pub(crate) fn new(broken: Option<Rule>) -> Self {
        let (registry, state) = (TempTagRegistry::new(), Mutex::default());
        Self { broken, registry, state, running: std::sync::Mutex::default() }
    }

    pub(crate) fn has(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What was there before anybody came.
    pub(crate) fn prepare(&self, hash: Hash, children: &[Hash], n_readable: usize) {
        self.state().insert(hash, children, n_readable);
    }

    /// Takes a temporary tag and looks whether the blob is there.
    pub(crate) fn hold(&self, content: HashAndFormat) -> Option<Held<'_>> {
        let tag = self.registry.issue(content);
        let mut state = self.state();
        if !state.blobs.contains_key(&content.hash) {
            return None;
        }
        state.hold(content);
        drop(state);
        Some(Held { toy: self, tag })
    }

    /// Decides, and makes what it has decided visible later, as a store with a log does.
    pub(crate) fn import(&self, content: HashAndFormat, children: &[Hash]) -> Held<'_> {
        let (pin, is_there) = self.decide_import(content);
        let mut state = self.state();
        if !is_there {
            state.hold(content);
        }
        if !state.blobs.contains_key(&content.hash) {
            state.insert(content.hash, children, children.len());
            self.registry.changed(&content.hash);
        }
        drop(state);
        let tag = pin.unwrap_or_else(|| self.registry.issue(content));
        Held { toy: self, tag }
    }

    fn decide_import(&self, content: HashAndFormat) -> (Option<TempTag>, bool) {
        let pin = || Some(self.registry.issue(content)).filter(|_| self.has(Rule::PinnedUntilVisible));
        let mut state = self.state();
        let early = if self.has(Rule::PinnedBeforeLookUp) { pin() } else { None };
        let is_there = state.blobs.contains_key(&content.hash);
        if is_there {
            // It is relied on from here on.
            state.hold(content);
        }
        drop(state);
        (early.or_else(pin), is_there)
    }

    pub(crate) fn set_tag(&self, name: &'static str, content: HashAndFormat) {
        let pin = {
            let _state = self.state();
            Some(content).filter(|_| self.has(Rule::ActsAreNoted)).map(|content| self.registry.issue(content))
        };
        let pin = pin.filter(|_| self.has(Rule::PinnedUntilVisible));
        self.state().tags.insert(name, Tagged { content, is_hidden: false });
        drop(pin);
    }

    pub(crate) fn delete_tag(&self, name: &'static str) {
        self.state().tags.remove(name);
    }

    /// A removal that is seen before it is durable, and then fails.
    pub(crate) fn fail_to_delete_tag(&self, name: &'static str) {
        if let Some(tagged) = self.state().tags.get_mut(name) {
            tagged.is_hidden = true;
        }
        let mut state = self.state();
        if let Some(tagged) = state.tags.get_mut(name) {
            tagged.is_hidden = false;
        }
        if self.has(Rule::FailureSpoils) {
            self.registry.spoil_round();
        }
    }

    /// By force.
    pub(crate) fn delete(&self, hash: Hash) {
        let mut state = self.state();
        state.blobs.remove(&hash);
        state.known.remove(&hash);
    }

    /// Brings the rest of a partial sequence. Takes no lock of the store's.
    pub(crate) fn write_rest(&self, hash: Hash) {
        let Some(blob) = self.state().blobs.get(&hash).cloned() else { return };
        let mut n_readable = lock(&blob.n_readable);
        *n_readable = blob.children.len();
        if self.has(Rule::GrowthNotedFirst) {
            self.registry.changed(&hash);
            drop(n_readable);
        } else {
            drop(n_readable);
            self.registry.changed(&hash);
        }
        self.learn(hash);
    }

    /// Somebody reads what a sequence lists by now.
    pub(crate) fn learn(&self, hash: Hash) {
        let Some(blob) = self.state().blobs.get(&hash).cloned() else { return };
        let n_readable = blob.readable().len();
        let mut state = self.state();
        if state.blobs.contains_key(&hash) {
            let n_known = state.known.entry(hash).or_default();
            *n_known = n_readable.max(*n_known);
        }
    }

    pub(crate) fn begin_round(&self) -> Option<Arc<SweepEpoch>> {
        let begun = self.registry.begin_round().map(Arc::new);
        if self.has(Rule::OneRound) {
            return begun;
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(begun) = &begun {
            *running = Arc::downgrade(begun);
        }
        begun.or_else(|| running.upgrade())
    }

    /// Deletes what of a batch nothing covers.
    pub(crate) fn sweep(&self, epoch: &SweepEpoch, batch: &[Hash]) -> Result<(), Refused> {
        let decide = || {
            epoch.decide(|covered| {
                batch.iter().copied().filter(|hash| !covered.covers(hash)).collect::<Vec<_>>()
            })
        };
        if self.has(Rule::DecidedUnderStateLock) {
            let mut state = self.state();
            state.remove(&decide()?);
        } else {
            let condemned = decide()?;
            self.state().remove(&condemned);
        }
        Ok(())
    }
}
