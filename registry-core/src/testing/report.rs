//! Running the cases of a suite.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

/// How the cases of a suite ended.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The cases that held.
    pub passed: Vec<&'static str>,
    /// The cases that did not apply, and why: the store says that it lacks the capability.
    pub skipped: BTreeMap<&'static str, String>,
    /// The cases that did not hold, and what was seen.
    pub failed: BTreeMap<&'static str, String>,
}

impl Report {
    /// Runs a case in a task of its own, so that a panic is its failure and the next one still runs, and notes how it ended: for suites of other
    /// contracts. A case returns `None`, or `Some(reason)` if it does not apply. Needs a tokio runtime. If the future of this is dropped, the case runs on.
    pub async fn run(&mut self, name: &'static str, case: impl Future<Output = Option<String>> + Send + 'static) {
        match tokio::spawn(case).await {
            Ok(None) => self.passed.push(name),
            Ok(Some(reason)) => drop(self.skipped.insert(name, reason)),
            Err(error) => {
                let message = error.try_into_panic().map_or_else(|error| error.to_string(), |panic| panic_message(&*panic));
                self.failed.insert(name, message);
            }
        }
    }

    /// Whether this case failed.
    pub fn has_failed(&self, name: &str) -> bool {
        self.failed.contains_key(name)
    }

    /// # Panics
    ///
    /// If a case failed, or none passed.
    pub fn assert_passed(&self) {
        assert!(self.failed.is_empty() && !self.passed.is_empty(), "{self}");
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} cases passed, {} skipped, {} failed", self.passed.len(), self.skipped.len(), self.failed.len())?;
        for (name, reason) in &self.skipped {
            writeln!(f, "  skipped {name}: {reason}")?;
        }
        for (name, message) in &self.failed {
            writeln!(f, "  FAILED {name}: {message}")?;
        }
        Ok(())
    }
}
