//! What a case is: a function, its name, and what it asks of a backend.

use std::{fmt, pin::Pin};

use crate::Trial;

/// What a case returns: nothing, or why the backend is at fault.
pub type Outcome = Result<(), Failure>;

/// Why a case did not pass. Any error becomes one with `?`; a case may also panic, as `assert!` does.
#[derive(Debug)]
pub enum Failure {
    /// The machine lacks what the case needs: neither passed nor failed.
    Skipped(String),
    /// The backend does not keep its promise.
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl Failure {
    /// Says that this machine lacks what the case needs.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped(reason.into())
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What a backend has beyond its traits, or lacks. A case that needs what a backend
/// [lacks](crate::Suite::lacks) is waived for it, with the backend's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// What is stored outlives the process; a store is opened again by its directory.
    Persistence,
    /// A directory belongs to one open store at a time.
    Lock,
    /// The store keeps its blobs in files below its directory.
    Files,
    /// A file that is imported with `TryReference` is used where it lies, if it is larger than every
    /// [threshold](crate::Suite::thresholds).
    References,
    /// A blob that is exported with `TryReference` is moved out, if it is larger than every threshold.
    MovesOut,
    /// The store observes [`Home::max_blob_size`](crate::Home::max_blob_size).
    SizeLimit,
    /// Failures of the file system can be arranged: [`Home::set_faults`](crate::Home::set_faults).
    Faults,
    /// A store that is dropped without a shutdown has kept what it acknowledged.
    Durability,
}

/// The future of a case. It need not be `Send`: it is driven by `block_on`.
pub type CaseFuture<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

pub(crate) type CaseFn<S> = for<'a> fn(&'a Trial<S>, S) -> CaseFuture<'a>;

/// A behaviour that a store of type `S` is to show.
pub struct Case<S> {
    pub(crate) name: &'static str,
    pub(crate) needs: &'static [Capability],
    pub(crate) act: Act<S>,
}

pub(crate) enum Act<S> {
    Run(CaseFn<S>),
    /// Takes minutes: runs when it is asked for.
    Deep(CaseFn<S>),
    /// Needs what this project does not have yet.
    Pending(&'static str),
}

impl<S> Clone for Act<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Run(run) => Self::Run(*run),
            Self::Deep(run) => Self::Deep(*run),
            Self::Pending(reason) => Self::Pending(reason),
        }
    }
}

impl<S> Case<S> {
    /// Makes a case of a function.
    pub fn new(name: &'static str, run: for<'a> fn(&'a Trial<S>, S) -> CaseFuture<'a>) -> Self {
        Self { name, needs: &[], act: Act::Run(run) }
    }

    /// Makes a case that takes minutes and runs only when deep runs are asked for.
    pub fn deep(name: &'static str, run: for<'a> fn(&'a Trial<S>, S) -> CaseFuture<'a>) -> Self {
        Self { name, needs: &[], act: Act::Deep(run) }
    }

    /// Registers a case that cannot run yet, and says why.
    pub fn pending(name: &'static str, reason: &'static str) -> Self {
        Self { name, needs: &[], act: Act::Pending(reason) }
    }

    /// States what the case needs beyond the traits in its signature.
    #[must_use]
    pub fn needs(mut self, needs: &'static [Capability]) -> Self {
        self.needs = needs;
        self
    }
}

impl<S> fmt::Debug for Case<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("needs", &self.needs).finish_non_exhaustive()
    }
}

/// A store that tasks can share. Implemented by whatever can.
pub trait Handle: Clone + Send + Sync + 'static {}

impl<T: Clone + Send + Sync + 'static> Handle for T {}

/// Cases that belong together.
#[derive(Debug)]
pub struct Group<S> {
    pub(crate) name: &'static str,
    pub(crate) cases: Vec<Case<S>>,
}

impl<S> Group<S> {
    /// Names some cases.
    pub fn new(name: &'static str, cases: Vec<Case<S>>) -> Self {
        Self { name, cases }
    }

    /// Adds the cases of another part of the group, which has a file of its own.
    #[must_use]
    pub fn and(mut self, part: Self) -> Self {
        self.cases.extend(part.cases);
        self
    }
}

/// Lists the cases of a group: `name`, `name [needs Persistence Lock]`, `name [deep]`, `name [pending REASON]`.
///
/// Makes a function `group` for every store that has what the cases' signatures ask for.
macro_rules! group {
    ($group:literal, for $s:ident: $($bound:path),+; $($name:ident $([$($how:tt)+])?),* $(,)?) => {
        /// The cases of this group.
        pub fn group<$s: $($bound +)+>() -> $crate::Group<$s> {
            $crate::Group::new($group, vec![$($crate::case::group!(@ $s $name $($($how)+)?)),*])
        }
    };
    (@ $s:ident $name:ident) => {
        $crate::Case::new(stringify!($name), |trial, store| Box::pin($name::<$s>(trial, store)))
    };
    (@ $s:ident $name:ident needs $($capability:ident)+) => {
        $crate::case::group!(@ $s $name).needs(&[$($crate::Capability::$capability),+])
    };
    (@ $s:ident $name:ident deep) => {
        $crate::Case::deep(stringify!($name), |trial, store| Box::pin($name::<$s>(trial, store)))
    };
    (@ $s:ident $name:ident deep needs $($capability:ident)+) => {
        $crate::case::group!(@ $s $name deep).needs(&[$($crate::Capability::$capability),+])
    };
    (@ $s:ident $name:ident pending $reason:expr) => {
        $crate::Case::pending(stringify!($name), $reason)
    };
}

pub(crate) use group;
