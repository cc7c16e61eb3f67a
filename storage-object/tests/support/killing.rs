//! Kills a process that uploads at each of its requests that change anything: before and after those that only look, nothing is different. For the tests of each crate
//! that speaks HTTP to a service.

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;

use crate::proxy::{At, Fault, Proxy, Seen};

#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// Before the request is passed on.
    Asked,
    /// When the service has done it, before it is told.
    Answered,
}

/// What a process says when it has come to its end.
pub(crate) const DONE: &str = "#done";

fn changes_something(seen: &Seen) -> bool {
    !["GET", "HEAD"].contains(&seen.method.as_str())
}

/// Kills the process, which goes through this proxy, at its `nth` such request. That, or `None` if it had come to its end before; and whether it says that it has.
pub(crate) async fn kill_at(nth: usize, when: When, proxy: &Proxy, start: impl FnOnce() -> Child) -> (Option<Seen>, bool) {
    let process = Arc::new(Mutex::new(None::<Child>));
    let kill = {
        let process = Arc::clone(&process);
        Arc::new(move || process.lock().unwrap().as_mut().unwrap().kill().unwrap())
    };
    let changes = AtomicUsize::new(0);
    proxy.plan(move |seen| match when {
        _ if !changes_something(seen) || changes.fetch_add(1, Ordering::Relaxed) + 1 != nth => Fault::None,
        When::Asked => {
            kill();
            Fault::CutRequest(At::Byte(0))
        }
        When::Answered => Fault::Instead(Arc::clone(&kill) as _),
    });
    let mut out = {
        let mut process = process.lock().unwrap();
        let mut child = start();
        let out = child.stdout.take().unwrap();
        *process = Some(child);
        out
    };
    let said = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        out.read_to_string(&mut said).map(|_| said).unwrap()
    });
    let is_done = said.await.unwrap().contains(DONE);
    let status = process.lock().unwrap().as_mut().unwrap().wait().unwrap();
    // What it had sent in full is still done.
    proxy.quiet().await;
    let killed_at = proxy.seen().into_iter().filter(changes_something).nth(nth - 1);
    assert_eq!(status.signal(), killed_at.as_ref().map(|_| 9), "{nth}, {when:?}");
    assert!(killed_at.is_some() || is_done, "who is not killed comes to its end: {status:?}");
    (killed_at, is_done)
}

/// One round after the other, some at a time, until one is not killed. The requests of the others.
pub(crate) async fn kill_at_each<F: Future<Output = Option<Seen>>>(round: impl Fn(usize) -> F) -> Vec<String> {
    let mut killed = Vec::new();
    for batch in 0.. {
        let seen: Vec<_> = join_all((1..=4).map(|n| round(batch * 4 + n))).await;
        let survived = seen.iter().any(Option::is_none);
        killed.extend(seen.into_iter().flatten().map(|seen| format!("{} {}", seen.method, seen.target)));
        if survived {
            break;
        }
    }
    killed
}

/// Among the requests is each of these steps.
pub(crate) fn all_of(killed: &[String], steps: &[&[&str]]) {
    for step in steps {
        let is_step = |request: &&String| step.iter().all(|part| request.contains(part));
        assert!(killed.iter().any(|request| is_step(&request)), "{step:?} is not among {killed:#?}");
    }
}
