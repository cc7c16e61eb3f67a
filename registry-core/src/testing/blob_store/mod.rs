//! The conformance suite of [`BlobStore`]: what its documentation promises, as cases that a store holds or breaks.
//!
//! A backend's author writes one line:
//!
//! ```
//! use std::sync::Arc;
//! use registry_core::memory::MemoryBlobStore;
//! use registry_core::testing::blob_store::{self, Fixture};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let check = |report: registry_core::testing::Report| report.assert_passed();
//! # check(blob_store::run_case("a_missing_blob_is_not_found", || async { Fixture::new(Arc::new(MemoryBlobStore::default())) }).await);
//! # if false {
//! blob_store::check(|| async { Fixture::new(Arc::new(MemoryBlobStore::default())) }).await;
//! # }
//! # }
//! ```
//!
//! Each case gets a store of its own from the factory, empty, so that cases cannot disturb each other and the name of the one that fails says what is
//! broken. Cases go by the [capabilities](BlobStore::capabilities) that the store declares: a list that is only a hint is asked again for a while, an
//! unordered one is sorted before it is compared, and what the store says it cannot do is skipped, with the reason in the [`Report`].
//!
//! The suite knows no store: it sees nothing but the contract. That it finds broken stores is tested in turn, with stores that are broken on purpose.
//! What it cannot see (a power cut, a process killed between two writes) is left to each backend's own tests.

mod extras;
mod kit;
mod listing;
mod reading;
mod resuming;
mod writing;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Report;
use crate::blob::BlobStore;

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Reopen = Box<dyn Fn() -> Later<'static, Arc<dyn BlobStore>> + Send + Sync>;

/// What a case runs on: a store with nothing in it, and what the suite must know of it.
pub struct Fixture {
    store: Arc<dyn BlobStore>,
    reopen: Option<Reopen>,
    large_size: usize,
    patience: Duration,
    time_limit: Duration,
    guard: Option<Box<dyn Any + Send + Sync>>,
}

impl Fixture {
    /// A fixture over this store, which must be empty and used by nobody else.
    pub fn new(store: Arc<dyn BlobStore>) -> Self {
        Self {
            store,
            reopen: None,
            large_size: (9 << 20) + 7,
            patience: Duration::from_secs(15),
            time_limit: Duration::from_secs(120),
            guard: None,
        }
    }

    /// How to open the same storage once more, as a second process would. Without it, cases with two processes use the one store for both.
    #[must_use]
    pub fn with_reopen<F, Fut>(mut self, reopen: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Arc<dyn BlobStore>> + Send + 'static,
    {
        self.reopen = Some(Box::new(move || Box::pin(reopen())));
        self
    }

    /// The bytes of a large blob: 9 MiB and a little by default. More than the store handles in one request, and no multiple of anything.
    #[must_use]
    pub fn with_large_size(mut self, bytes: usize) -> Self {
        self.large_size = bytes;
        self
    }

    /// How long a list that is [only a hint](crate::blob::Capabilities::list_is_hint) may lag before a case fails: 15 seconds by default.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long a case may take before it is a failure: two minutes by default.
    #[must_use]
    pub fn with_time_limit(mut self, time_limit: Duration) -> Self {
        self.time_limit = time_limit;
        self
    }

    /// Keeps something until the case has ended: a temporary directory, a server's process.
    #[must_use]
    pub fn with_guard(mut self, guard: impl Any + Send + Sync) -> Self {
        self.guard = Some(Box::new(guard));
        self
    }

    /// The storage as a second process sees it.
    async fn reopened(&self) -> Arc<dyn BlobStore> {
        match &self.reopen {
            Some(reopen) => reopen().await,
            None => Arc::clone(&self.store),
        }
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("store", &self.store).field("large_size", &self.large_size).finish_non_exhaustive()
    }
}

/// What a case asks of a store.
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    Resume,
    NamedObjects,
}

impl Needs {
    /// Why the case does not apply to this store.
    fn unmet(self, store: &dyn BlobStore) -> Option<String> {
        let capabilities = store.capabilities();
        match self {
            Self::Resume if !capabilities.resume => Some("the store does not resume uploads".to_owned()),
            Self::NamedObjects if !capabilities.named_objects => Some("the store has no named objects".to_owned()),
            _ => None,
        }
    }
}

struct Case {
    name: &'static str,
    needs: Needs,
    run: for<'a> fn(&'a Fixture) -> Later<'a, ()>,
}

/// A table of cases, each an `async fn(&Fixture)` that panics when the contract is broken.
macro_rules! cases {
    ($needs:ident: $($case:ident,)+) => {
        &[$(super::Case { name: stringify!($case), needs: super::Needs::$needs, run: |fixture| Box::pin($case(fixture)) },)+]
    };
}
use cases;

fn all() -> impl Iterator<Item = &'static Case> {
    [writing::CASES, reading::CASES, resuming::CASES, listing::CASES, listing::STAGED, extras::CASES, extras::NAMED].into_iter().flatten()
}

/// The names of all cases.
pub fn case_names() -> Vec<&'static str> {
    all().map(|case| case.name).collect()
}

/// Runs the suite, one case after the other, each on a fixture of its own.
pub async fn run<F, Fut>(factory: F) -> Report
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Fixture> + Send + 'static,
{
    run_cases(all(), factory).await
}

/// Runs the case of this name.
///
/// # Panics
///
/// If there is none.
pub async fn run_case<F, Fut>(name: &str, factory: F) -> Report
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Fixture> + Send + 'static,
{
    let case = all().find(|case| case.name == name);
    run_cases([case.unwrap_or_else(|| panic!("the suite has no case {name}"))], factory).await
}

async fn run_cases<F, Fut>(cases: impl IntoIterator<Item = &'static Case>, mut factory: F) -> Report
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Fixture> + Send + 'static,
{
    let mut report = Report::default();
    for case in cases {
        let fixture = factory();
        let body = async move {
            let fixture = fixture.await;
            if let Some(reason) = case.needs.unmet(&*fixture.store) {
                return Some(reason);
            }
            let limit = fixture.time_limit;
            assert!(tokio::time::timeout(limit, (case.run)(&fixture)).await.is_ok(), "not done within {limit:?}");
            None
        };
        report.run(case.name, body).await;
    }
    report
}

/// Runs the suite and prints how it went.
///
/// # Panics
///
/// If a case failed.
pub async fn check<F, Fut>(factory: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Fixture> + Send + 'static,
{
    let report = run(factory).await;
    println!("{report}");
    report.assert_passed();
}
