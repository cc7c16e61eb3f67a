//! What the cases are written with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use registry_core::{Clock as _, Digest, Error, ErrorKind, Result, Timestamp};

use super::Fixture;
use crate::ledger::{
    Backlog, Claim, Commit, IntendedTarget, Intent, ListPlacements, Outcome, Placement, PlacementLedger, Retarget, Sighting, Task,
    TaskKind, ZoneId,
};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// How long a condemned copy is kept.
pub(super) const TRASH: Duration = Duration::from_secs(2 * 3600);
/// How long tasks are claimed for.
pub(super) const LEASE: Duration = Duration::from_secs(600);
/// Long enough after a claim for whoever had it to be dead and its requests to have arrived.
pub(super) const FENCE: Duration = Duration::from_secs(900);
/// When to look again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// Every blob's length.
pub(super) const SIZE: u64 = 7;

pub(super) fn blob(content: &str) -> Digest {
    Digest::sha256(content.as_bytes())
}

pub(super) fn zone(id: &str) -> ZoneId {
    ZoneId::new(id)
}

pub(super) fn zones(ids: &[&str]) -> Vec<ZoneId> {
    ids.iter().map(ZoneId::new).collect()
}

pub(super) fn claim(zone: &str, sources: &[&str], limit: u32) -> Claim {
    Claim { zone: ZoneId::new(zone), sources: zones(sources), limit, lease: LEASE, look_again: LOOK_AGAIN }
}

pub(super) fn retarget(targets: &[&str], untouched_for: Duration) -> Retarget {
    Retarget { targets: zones(targets), untouched_for, trash_delay: TRASH }
}

/// The failure, which has to be of this kind.
#[track_caller]
pub(super) fn fails<T: fmt::Debug>(result: Result<T>, kind: ErrorKind) -> Error {
    match result {
        Ok(answer) => panic!("expected {kind:?}, and got {answer:?}"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error}");
            error
        }
    }
}

/// What each task is about.
pub(super) fn kinds(tasks: &[Task]) -> Vec<(Digest, TaskKind)> {
    let mut kinds: Vec<_> = tasks.iter().map(|task| (task.digest, task.kind)).collect();
    kinds.sort_unstable();
    kinds
}

impl Fixture {
    /// Lets time pass.
    pub(super) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The database as another process has it open.
    pub(super) async fn other(&self) -> Arc<dyn PlacementLedger> {
        match &self.reopen {
            Some(reopen) => reopen().await,
            None => Arc::clone(&self.ledger),
        }
    }

    pub(super) async fn intend(&self, digest: &Digest, targets: &[&str]) -> Intent {
        self.ledger.intend(digest, Some(SIZE), &zones(targets)).await.expect("intend")
    }

    /// What an intent says about one zone.
    pub(super) async fn intend_in(&self, digest: &Digest, target: &str) -> IntendedTarget {
        let intent = self.intend(digest, &[target]).await;
        assert_eq!(intent.targets.len(), 1, "{intent:?}");
        assert_eq!(intent.targets[0].zone, zone(target));
        intent.targets[0].clone()
    }

    pub(super) async fn try_commit(&self, digest: &Digest, at: &str, generation: u64) -> Result<()> {
        self.ledger.committed(&Commit { digest: *digest, size: SIZE, zone: zone(at), generation }).await
    }

    pub(super) async fn commit(&self, digest: &Digest, at: &str, generation: u64) {
        self.try_commit(digest, at, generation).await.expect("committed");
    }

    /// Has a blob written to the first of `targets`; the others wait for copies.
    pub(super) async fn push(&self, digest: &Digest, targets: &[&str]) {
        let intent = self.intend(digest, targets).await;
        self.commit(digest, targets[0], intent.target(&zone(targets[0])).expect("the target").generation).await;
    }

    /// Has a blob written to all of `targets`.
    pub(super) async fn push_to_all(&self, digest: &Digest, targets: &[&str]) {
        for target in self.intend(digest, targets).await.targets {
            self.commit(digest, target.zone.as_str(), target.generation).await;
        }
    }

    pub(super) async fn rows(&self, digest: &Digest) -> Vec<Placement> {
        self.ledger.placements(&[*digest]).await.expect("placements")
    }

    pub(super) async fn find(&self, digest: &Digest, at: &str) -> Option<Placement> {
        self.rows(digest).await.into_iter().find(|row| row.zone == zone(at))
    }

    /// The blob's placement in a zone, which has to be there.
    pub(super) async fn row(&self, digest: &Digest, at: &str) -> Placement {
        self.find(digest, at).await.unwrap_or_else(|| panic!("{digest} has no placement in {at}"))
    }

    pub(super) async fn claim(&self, at: &str, sources: &[&str]) -> Vec<Task> {
        self.ledger.claim(&claim(at, sources, 100)).await.expect("claim")
    }

    /// The one task that is due in a zone, for a worker that can read from all the others.
    pub(super) async fn claim_one(&self, digest: &Digest, at: &str, kind: TaskKind) -> Task {
        let tasks = self.claim(at, &["a", "b", "c"]).await;
        assert_eq!(kinds(&tasks), [(*digest, kind)]);
        tasks.into_iter().next().expect("a task")
    }

    pub(super) async fn assert_idle(&self, at: &str, why: &str) {
        let tasks = self.claim(at, &["a", "b", "c"]).await;
        assert!(tasks.is_empty(), "{why}: {tasks:?}");
    }

    pub(super) async fn condemn(&self, digest: &Digest) {
        self.ledger.condemn(digest, None, TRASH, &[]).await.expect("condemn");
    }

    /// Brings the blob's one placement as far as being deleted.
    pub(super) async fn start_deleting(&self, digest: &Digest, at: &str) -> Task {
        self.condemn(digest).await;
        self.pass(TRASH + FENCE + SECOND);
        self.claim_one(digest, at, TaskKind::Delete).await
    }

    pub(super) async fn complete(&self, task: &Task, outcome: Outcome) -> Duration {
        self.ledger.complete(task, &outcome).await.expect("complete")
    }

    pub(super) async fn see(&self, digest: &Digest, at: &str, sighting: Sighting) {
        let generation = self.row(digest, at).await.generation;
        self.ledger.observe(digest, &zone(at), generation, &sighting).await.expect("observe");
    }

    pub(super) async fn suspect(&self, digest: &Digest, at: &str) {
        self.see(digest, at, Sighting::Suspect("a reader got something else".to_owned())).await;
    }

    pub(super) async fn list(&self, list: &ListPlacements) -> Vec<(Digest, String)> {
        let rows = self.ledger.list(list).await.expect("list");
        rows.into_iter().map(|row| (row.digest, row.zone.to_string())).collect()
    }

    /// The backlog of a zone, if there is any.
    pub(super) async fn backlog(&self, at: &str) -> Option<Backlog> {
        let backlog = self.ledger.backlog().await.expect("backlog");
        assert!(backlog.windows(2).all(|pair| pair[0].zone != pair[1].zone), "{backlog:?}");
        backlog.into_iter().find(|backlog| backlog.zone == zone(at))
    }
}
