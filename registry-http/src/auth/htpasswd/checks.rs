//! [`Checks`]: passwords are checked beside the runtime, no more at a time than there are processors.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use registry_core::{Error, ErrorKind, Result};
use tokio::sync::{OnceCell, Semaphore};

use super::hash::Bcrypt;
use super::verified::Credentials;

/// Whether these credentials are of this hash.
pub(super) type Question = (Credentials, Bcrypt);

/// Checks that are under way. Clients open several connections and log in on each: who asks what is being found out already waits for that.
pub(super) struct Checks {
    slots: Arc<Semaphore>,
    open: Mutex<HashMap<Question, Open>>,
}

/// The most that may wait: with more, a guess would keep whoever knows the password waiting for minutes.
const MOST_WAITING: usize = 256;

#[derive(Default)]
struct Open {
    answer: Arc<OnceCell<bool>>,
    waiting: usize,
}

impl Checks {
    /// At most `most` at a time.
    pub(super) fn new(most: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(most)), open: Mutex::default() }
    }

    /// What `work` answers to the question, or somebody else's who asked it before. May be dropped at any point: work that has begun goes on and keeps its
    /// place until it has ended, and another who waits for the answer begins anew.
    pub(super) async fn answer(&self, question: Question, work: impl FnOnce() -> bool + Send + 'static) -> Result<bool> {
        let asked = self.ask(question)?;
        let find_out = || async {
            let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(failed)?;
            let work = move || {
                let answer = work();
                drop(slot);
                answer
            };
            tokio::task::spawn_blocking(work).await.map_err(failed)
        };
        asked.answer.get_or_try_init(find_out).await.copied()
    }

    fn ask(&self, question: Question) -> Result<Asked<'_>> {
        let mut table = self.open();
        if table.len() >= MOST_WAITING && !table.contains_key(&question) {
            let error = Error::new(ErrorKind::Unavailable, "too many passwords are being checked");
            return Err(error.with_retry_after(std::time::Duration::from_secs(5)));
        }
        let open = table.entry(question.clone()).or_default();
        open.waiting += 1;
        let answer = Arc::clone(&open.answer);
        Ok(Asked { checks: self, question, answer })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Question, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Internal, "a password could not be checked").with_source(error)
}

/// One who waits for an answer; with the last of them the question goes.
struct Asked<'a> {
    checks: &'a Checks,
    question: Question,
    answer: Arc<OnceCell<bool>>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut table = self.checks.open();
        if let Some(open) = table.get_mut(&self.question) {
            open.waiting -= 1;
            if open.waiting == 0 {
                table.remove(&self.question);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    fn question(n: u8) -> Question {
        ([n; 32], Bcrypt::nobody(4))
    }

    /// Polls it once.
    #[track_caller]
    fn begin<F: Future>(future: Pin<&mut F>) {
        assert!(future.now_or_never().is_none());
    }

    #[tokio::test]
    async fn who_asks_the_same_at_the_same_time_gets_one_answer() {
        let checks = Checks::new(4);
        let runs = Arc::new(AtomicUsize::new(0));
        let (go, wait) = mpsc::channel::<()>();
        let counted = |work: Box<dyn FnOnce() -> bool + Send>| {
            let runs = Arc::clone(&runs);
            move || {
                runs.fetch_add(1, Ordering::SeqCst);
                work()
            }
        };
        let mut first = pin!(checks.answer(question(1), counted(Box::new(move || wait.recv().is_ok()))));
        begin(first.as_mut());
        let mut second = pin!(checks.answer(question(1), counted(Box::new(|| false))));
        begin(second.as_mut());
        assert!(!checks.answer(question(2), counted(Box::new(|| false))).await.unwrap(), "other questions do not wait");
        go.send(()).unwrap();
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (true, true));
        assert_eq!(runs.load(Ordering::SeqCst), 2);
        // Later it is asked anew.
        assert!(!checks.answer(question(1), counted(Box::new(|| false))).await.unwrap());
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_no_question_and_keeps_nobody_waiting() {
        let checks = Checks::new(1);
        let (go, wait) = mpsc::channel::<()>();
        {
            let mut first = pin!(checks.answer(question(1), move || wait.recv().is_ok()));
            begin(first.as_mut());
            let mut queued = pin!(checks.answer(question(2), || true));
            begin(queued.as_mut());
            assert_eq!(checks.open().len(), 2);
        }
        assert_eq!(checks.open().len(), 0);
        assert_eq!(checks.slots.available_permits(), 0, "work that goes on keeps its place");
        let mut next = pin!(checks.answer(question(1), || true));
        begin(next.as_mut());
        go.send(()).unwrap();
        assert!(next.await.unwrap());
        assert_eq!((checks.slots.available_permits(), checks.open().len()), (1, 0));
    }

    #[tokio::test]
    async fn one_who_waits_takes_over_from_one_who_went_away() {
        let checks = Checks::new(2);
        let (go, wait) = mpsc::channel::<()>();
        let mut second = {
            let mut first = Box::pin(checks.answer(question(1), move || wait.recv().is_ok()));
            begin(first.as_mut());
            let mut second = Box::pin(checks.answer(question(1), || true));
            begin(second.as_mut());
            second
        };
        assert!(second.as_mut().await.unwrap());
        drop(go);
    }

    #[tokio::test]
    async fn no_more_are_checked_at_a_time_than_there_are_places() {
        let checks = Checks::new(2);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = || {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(10));
                now.fetch_sub(1, Ordering::SeqCst);
                true
            }
        };
        let all = (0..10).map(|n| checks.answer(question(n), work()));
        for answer in futures_util::future::join_all(all).await {
            assert!(answer.unwrap());
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_gives_its_place_back() {
        let checks = Checks::new(1);
        let error = checks.answer(question(1), || panic!("not a password")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(checks.answer(question(1), || true).await.unwrap());
    }
}
