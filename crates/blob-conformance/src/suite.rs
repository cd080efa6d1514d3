//! One configuration of a backend, and what is to be known about it.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use blob_traits::{FullStore, HashAndFormat, Lifecycle, Result, TempTags};

use crate::{
    Capability, Group, Home,
    case::{Act, Case, CaseFn},
    groups,
};

pub(crate) type Opening<S> = Pin<Box<dyn Future<Output = Result<S>> + Send>>;
pub(crate) type Opener<S> = Arc<dyn Fn(Home) -> Opening<S> + Send + Sync>;
/// No trial takes so long; a deep one may.
const TRIAL_LIMIT: Duration = Duration::from_mins(2);

type Compacting<S> = Arc<dyn Fn(S) -> Opening<()> + Send + Sync>;
type Leftovers = fn(&Path) -> io::Result<Vec<String>>;
type Derived = fn(&Path) -> io::Result<Vec<PathBuf>>;

/// One configuration of a backend: how it is opened, what it lacks, and the cases that it is held to.
pub struct Suite<S> {
    pub(crate) cases: Vec<(&'static str, Case<S>)>,
    pub(crate) waived: BTreeMap<&'static str, &'static str>,
    pub(crate) trial_limit: Duration,
    pub(crate) backend: Backend<S>,
}

/// What a trial needs to know of a backend.
pub(crate) struct Backend<S> {
    pub(crate) name: String,
    pub(crate) open: Opener<S>,
    pub(crate) end: End<S>,
    pub(crate) lacks: Arc<BTreeMap<Capability, &'static str>>,
    pub(crate) thresholds: Arc<[u64]>,
    pub(crate) leftovers: Option<Leftovers>,
    pub(crate) derived: Option<Derived>,
    pub(crate) compact: Option<Compacting<S>>,
}

/// How a store is looked at and closed when its trial is over.
pub(crate) struct End<S> {
    pub(crate) temp_tags: fn(&S) -> Vec<HashAndFormat>,
    pub(crate) shutdown: fn(S) -> Opening<()>,
}

impl<S: FullStore> Suite<S> {
    /// A backend with all capabilities, held to all cases.
    ///
    /// `name` is that of the backend and its configuration (`fs-inline-none`); `open` opens the store in a
    /// [`Home`].
    pub fn new<F>(name: impl Into<String>, open: impl Fn(Home) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<S>> + Send + 'static,
    {
        groups::all().into_iter().fold(Self::without_cases(name, open), Self::group)
    }
}

impl<S: Clone + Send + Sync + TempTags + Lifecycle + 'static> Suite<S> {
    /// A backend that is held to the groups that are [added](Self::group): for one that lacks traits.
    pub fn without_cases<F>(name: impl Into<String>, open: impl Fn(Home) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<S>> + Send + 'static,
    {
        let backend = Backend {
            name: name.into(),
            open: Arc::new(move |home| Box::pin(open(home))),
            end: End {
                temp_tags: |store| store.temp_tags().collect(),
                shutdown: |store| Box::pin(async move { store.shutdown().await }),
            },
            lacks: Arc::default(),
            thresholds: Arc::default(),
            leftovers: None,
            derived: None,
            compact: None,
        };
        Self { cases: Vec::new(), waived: BTreeMap::new(), trial_limit: TRIAL_LIMIT, backend }
    }

    /// Adds a group of cases.
    #[must_use]
    pub fn group(mut self, group: Group<S>) -> Self {
        self.cases.extend(group.cases.into_iter().map(|case| (group.name, case)));
        self
    }

    /// Says that the backend lacks something, and why. Cases that need it are waived, and shown as such.
    #[must_use]
    pub fn lacks(mut self, capability: Capability, reason: &'static str) -> Self {
        Arc::make_mut(&mut self.backend.lacks).insert(capability, reason);
        self
    }

    /// Waives one case, by its name, and says why.
    #[must_use]
    pub fn waive(mut self, case: &'static str, reason: &'static str) -> Self {
        self.waived.insert(case, reason);
        self
    }

    /// Names the sizes in bytes at which the backend changes its ways; cases look closely there.
    #[must_use]
    pub fn thresholds(mut self, sizes: impl IntoIterator<Item = u64>) -> Self {
        self.backend.thresholds = sizes.into_iter().collect();
        self
    }

    /// Says how long a trial may take before it has failed, instead of two minutes; for a backend that is known to hang, so
    /// that the run ends. The trial's threads are left behind. Deep trials keep their own limit.
    #[must_use]
    pub fn trial_limit(mut self, limit: Duration) -> Self {
        self.trial_limit = limit;
        self
    }

    /// Tells which files below a home's directory hold nothing that others do not: a closed store makes them anew when they are
    /// lost.
    #[must_use]
    pub fn derived(mut self, find: Derived) -> Self {
        self.backend.derived = Some(find);
        self
    }

    /// Says how a store gives back what deleted blobs take up, where it does not do so at once.
    #[must_use]
    pub fn compacts<F>(mut self, compact: impl Fn(S) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.backend.compact = Some(Arc::new(move |store| Box::pin(compact(store))));
        self
    }

    /// Tells what lies below a home's directory that should not once the store is closed: temporary files, say.
    #[must_use]
    pub fn leftovers(mut self, find: Leftovers) -> Self {
        self.backend.leftovers = Some(find);
        self
    }
}

/// What is done with a case on a backend.
pub(crate) enum Plan<S> {
    Run(CaseFn<S>),
    Deep(CaseFn<S>),
    Waived(&'static str),
    Pending(&'static str),
}

impl<S> Suite<S> {
    pub(crate) fn plan(&self, case: &Case<S>) -> Plan<S> {
        if let Act::Pending(reason) = case.act {
            return Plan::Pending(reason);
        }
        let lacking = case.needs.iter().find_map(|needed| self.backend.lacks.get(needed));
        match (self.waived.get(case.name).or(lacking), &case.act) {
            (Some(reason), _) | (None, Act::Pending(reason)) => Plan::Waived(reason),
            (None, Act::Deep(run)) => Plan::Deep(*run),
            (None, Act::Run(run)) => Plan::Run(*run),
        }
    }
}

impl<S> Clone for Backend<S> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            open: self.open.clone(),
            end: End { ..self.end },
            lacks: self.lacks.clone(),
            thresholds: self.thresholds.clone(),
            leftovers: self.leftovers,
            derived: self.derived,
            compact: self.compact.clone(),
        }
    }
}

impl<S> fmt::Debug for Suite<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite")
            .field("name", &self.backend.name)
            .field("n_cases", &self.cases.len())
            .finish_non_exhaustive()
    }
}
