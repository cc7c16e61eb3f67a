//! What goes on in the background: work from the ledger, one lane a zone; the probe of each zone; and now and then a look whether everything is where its
//! policy wants it.

mod copy;
mod delete;
mod task;
pub(crate) mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::events::Event;
use crate::ledger::{Backlog, Claim};
use crate::member::Member;
use crate::store::ReplicatedStore;
use crate::{jobs, metrics, reconcile};

/// How often the gauges are set.
const GAUGES: Duration = Duration::from_secs(15);

/// How many placements of deleted blobs are forgotten at a time.
const TIDY: u32 = 500;

/// How soon after its start a process first compares places with policies.
const FIRST_RECONCILE: Duration = Duration::from_secs(3);

/// What runs in the background, until it is [stopped](Self::stop) or dropped. Dropped, it is like a crash: what was in progress is taken up again by
/// somebody when its lease is over.
#[derive(Debug)]
#[must_use = "when this is dropped, nothing is copied any more"]
pub struct Workers {
    stop: Stop,
    tasks: JoinSet<()>,
}

impl Workers {
    /// Gives back what is in progress, so that others can go on with it at once, and returns when all has ended.
    pub async fn stop(mut self) {
        self.stop.set();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Says when to stop.
///
/// Those who wait are woken in the order in which they began to wait: a `watch` channel would wake them in any, and no simulation could be repeated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<(AtomicBool, Notify)>);

impl Stop {
    fn set(&self) {
        self.0.0.store(true, Ordering::Release);
        self.0.1.notify_waiters();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.0.load(Ordering::Acquire)
    }

    /// Returns when it is time to stop.
    pub(crate) async fn wait(&mut self) {
        let told = self.0.1.notified();
        if !self.is_set() {
            told.await;
        }
    }

    /// Sleeps; whether that ended because it is time to stop.
    pub(crate) async fn sleep(&mut self, pause: Duration) -> bool {
        if self.is_set() {
            return true;
        }
        let (stopped, slept) = (Box::pin(self.wait()), Box::pin(tokio::time::sleep(pause)));
        matches!(select(stopped, slept).await, Either::Left(_))
    }
}

impl ReplicatedStore {
    /// Starts what goes on in the background: copying, verifying, deleting; probing the zones; comparing what is with the policies. Any number of
    /// processes may do so over the same zones and ledger.
    pub fn start(&self) -> Workers {
        let stop = Stop::default();
        let mut tasks = JoinSet::new();
        for member in &self.cluster.members {
            member.begin_to_tell();
            tasks.spawn(work(Arc::clone(&self.cluster), Arc::clone(member), stop.clone()));
            tasks.spawn(probe(Arc::clone(&self.cluster), Arc::clone(member), stop.clone()));
        }
        tasks.spawn(watch_backlog(Arc::clone(&self.cluster), stop.clone()));
        tasks.spawn(reconcile_now_and_then(Arc::clone(&self.cluster), stop.clone()));
        tasks.spawn(jobs::hear_states(Arc::clone(&self.cluster), stop.clone()));
        tasks.spawn(jobs::work(Arc::clone(&self.cluster), stop.clone()));
        tasks.spawn(jobs::look_after_zones(Arc::clone(&self.cluster), stop.clone()));
        Workers { stop, tasks }
    }

    /// Does the work that is due now and that can be done now, in all zones that work, and returns how much there was. For commands beside a server, and for
    /// tests; a server [starts](Self::start) workers.
    pub async fn work_once(&self) -> registry_core::Result<u64> {
        let mut done = 0;
        loop {
            let mut found = 0;
            for member in &self.cluster.members {
                let tasks = claim(&self.cluster, member, member.concurrency).await?;
                found += tasks.len() as u64;
                let mut running = JoinSet::new();
                for claimed in tasks {
                    let (cluster, member) = (Arc::clone(&self.cluster), Arc::clone(member));
                    running.spawn(task::run(cluster, member, claimed, Stop::default()));
                }
                while running.join_next().await.is_some() {}
            }
            done += found;
            if found == 0 {
                return Ok(done);
            }
        }
    }
}

/// Work that can be done in this zone now, claimed at the moment that is given with it.
async fn claim(cluster: &Cluster, member: &Member, limit: usize) -> registry_core::Result<Vec<task::Claimed>> {
    let Some(zone) = member.usable().filter(|_| !member.health.is_open()) else { return Ok(Vec::new()) };
    let now = cluster.clock.now();
    let can_be_read = |other: &&Arc<Member>| !other.health.is_open() && !other.throttle.is_closed(now);
    let sources = cluster.members.iter().filter(can_be_read).filter_map(|other| other.usable());
    let sources: Vec<_> = sources.filter(|other| *other != zone).cloned().collect();
    let options = &cluster.options;
    let takes_copies = member.state().takes_writes() && !member.throttle.is_closed(now);
    let claim = Claim {
        zone: zone.clone(),
        // Nothing is copied to where nothing is to be written.
        sources: if takes_copies { sources } else { Vec::new() },
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        lease: options.lease,
        look_again: options.look_again,
    };
    // Before the claim: whatever holds us up from here on is taken off the time in which the work may be done.
    let at = Instant::now();
    let tasks = cluster.ledger.claim(&claim).await?;
    Ok(tasks.into_iter().map(|task| task::Claimed { task, at }).collect())
}

/// The lane of one zone: as much at once as it may, and nothing that waits for another zone.
async fn work(cluster: Arc<Cluster>, member: Arc<Member>, mut stop: Stop) {
    let mut running = JoinSet::new();
    let mut failures = 0;
    while !stop.is_set() {
        // Before the look: what is made due after it wakes us up again.
        let woken = member.wake.notified();
        let free = member.concurrency.saturating_sub(running.len());
        let mut found = 0;
        let mut pause = cluster.jittered(cluster.options.poll_interval);
        if free > 0 {
            match claim(&cluster, &member, free).await {
                Ok(tasks) => {
                    failures = 0;
                    found = tasks.len();
                    for claimed in tasks {
                        running.spawn(task::run(Arc::clone(&cluster), Arc::clone(&member), claimed, stop.clone()));
                    }
                }
                Err(error) => {
                    tracing::warn!(zone = member.name, %error, "the ledger does not give out work");
                    pause = cluster.backoff(failures).min(cluster.options.probe_interval);
                    failures += 1;
                }
            }
        }
        if found > 0 && found == free {
            // There may be more as soon as there is room.
            tokio::select! {
                biased;
                () = stop.wait() => break,
                _ = running.join_next() => {}
            }
            continue;
        }
        tokio::select! {
            biased;
            () = stop.wait() => break,
            _ = running.join_next(), if !running.is_empty() => {}
            () = woken, if free > 0 => {}
            () = tokio::time::sleep(pause), if free > 0 => {}
        }
    }
    while running.join_next().await.is_some() {}
}

/// Asks the zone who it is: rarely while all is well, often at first when it is passed over.
async fn probe(cluster: Arc<Cluster>, member: Arc<Member>, mut stop: Stop) {
    let options = &cluster.options;
    let mut pause = options.reprobe_interval;
    loop {
        let wait = cluster.jittered(if member.health.is_open() { pause } else { options.probe_interval });
        let interrupted = {
            let sleep = Box::pin(stop.sleep(wait));
            // When the breaker opens, the short pause begins at once.
            match select(sleep, Box::pin(member.health.changed())).await {
                Either::Left((stopped, _)) => stopped.then_some(true),
                Either::Right(_) => Some(false),
            }
        };
        match interrupted {
            Some(true) => return,
            Some(false) => {
                pause = options.reprobe_interval;
                continue;
            }
            None => {}
        }
        let start = Instant::now();
        let is_new = member.id().is_none();
        match member.confirm(&*cluster.ledger, options.request_timeout).await {
            Ok(id) => {
                pause = options.reprobe_interval;
                if member.works(&*cluster.ledger, &id, start.elapsed()).await {
                    cluster.wake(&cluster.ids());
                }
            }
            Err(error) => {
                pause = (pause * 2).min(options.probe_interval);
                member.trip(&error);
            }
        }
        if is_new && member.id().is_some() {
            // Nothing that was pushed before is owed to it yet.
            cluster.compare.notify_one();
        }
    }
}

/// Sets the gauges, and forgets placements of blobs that are gone for long.
async fn watch_backlog(cluster: Arc<Cluster>, mut stop: Stop) {
    for member in &cluster.members {
        metrics::breaker(&member.name, member.health.is_open());
    }
    loop {
        match cluster.ledger.backlog().await {
            Ok(backlogs) => {
                for member in &cluster.members {
                    let Some(id) = member.id() else { continue };
                    let empty = Backlog::new(id.clone());
                    let backlog = backlogs.iter().find(|backlog| backlog.zone == *id).unwrap_or(&empty);
                    metrics::backlog(&member.name, backlog);
                    is_late(&cluster, member, backlog);
                }
            }
            Err(error) => tracing::warn!(%error, "the ledger does not tell the backlog"),
        }
        loop {
            match cluster.ledger.tidy(cluster.options.keep_deleted, TIDY).await {
                Ok(TIDY) => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "could not forget placements of deleted blobs");
                    break;
                }
            }
        }
        if stop.sleep(cluster.jittered(GAUGES)).await {
            return;
        }
    }
}

/// Tells when a zone begins to be late, and when it is no more. One whose hours it is not is as late as it is to be.
fn is_late(cluster: &Cluster, member: &Member, backlog: &Backlog) {
    let alert = cluster.options.lag_alert;
    let is_late = !alert.is_zero() && backlog.copy_lag > alert;
    if is_late && member.throttle.is_closed(cluster.clock.now()) {
        return;
    }
    let zone = || member.name.clone();
    match (member.late.swap(is_late, Ordering::Relaxed), is_late) {
        (false, true) => {
            tracing::warn!(zone = member.name, lag = ?backlog.copy_lag, copies = backlog.copies, "a zone has been owed copies for long");
            member.events.tell(&Event::Late { zone: zone(), lag: backlog.copy_lag, copies: backlog.copies });
        }
        (true, false) => {
            tracing::info!(zone = member.name, "the zone is owed nothing for long any more");
            member.events.tell(&Event::InTime { zone: zone() });
        }
        _ => {}
    }
}

async fn reconcile_now_and_then(cluster: Arc<Cluster>, mut stop: Stop) {
    let mut pause = FIRST_RECONCILE.min(cluster.options.reconcile_interval);
    loop {
        let sleep = Box::pin(stop.sleep(cluster.jittered(pause)));
        if let Either::Left((true, _)) = select(sleep, Box::pin(cluster.compare.notified())).await {
            return;
        }
        pause = cluster.options.reconcile_interval;
        let mut stopped = stop.clone();
        let (reconcile, stopped) = (Box::pin(reconcile::run(&cluster)), Box::pin(stopped.wait()));
        match select(stopped, reconcile).await {
            Either::Left(_) => return,
            Either::Right((Ok(report), _)) if report.changed > 0 => {
                tracing::info!(blobs = report.blobs, changed = report.changed, "brought placements in line with the policies");
            }
            Either::Right((Ok(_), _)) => {}
            Either::Right((Err(error), _)) => tracing::warn!(%error, "could not compare placements with the policies"),
        }
    }
}
