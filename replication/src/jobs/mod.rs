//! What operators do to zones, and the long pieces of work that follow from it: each is a [job](crate::ledger::Job) in the ledger, done by the workers of
//! whichever process has the zone, and taken up by another where the first one vanished.
//!
//! A job only ever changes what is *desired*: the copies and deletes are placements like all others, with their fences and their checks. So there is nothing
//! that a job could do in the wrong order, and one that begins anew does no harm.

mod drain;
mod fill;
mod reconcile;
mod remove;
mod scrub;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use registry_core::{Error, ErrorKind, Result, Timestamp};
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::events::Event;
use crate::health::is_zones_fault;
use crate::ledger::{Job, JobKind, JobState, ZoneId, ZoneState};
use crate::member::Member;
use crate::store::ReplicatedStore;
use crate::workers::Stop;

/// How many jobs a process has in progress at once. Each is mostly waiting, some of them for hours.
const AT_ONCE: usize = 256;

/// How often to look whether a zone is to be compared or scrubbed, at least.
const LOOK_AFTER: Duration = Duration::from_secs(3600);

/// Jobs that are looked at for the last one of a zone.
const JOBS: u32 = 1000;

/// How often to look whether the hours of a zone have come.
const LOOK_AT_HOURS: Duration = Duration::from_secs(10);

/// Why nothing moves outside of the hours of a zone.
const CLOSED: &str = "it waits for the hours in which work in the background may be done in the zone";

/// How often to hear what zones are used for.
const HEAR: Duration = Duration::from_secs(2);

/// A long piece of work on a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobStatus {
    /// Which.
    pub id: String,
    /// What it is about: `drain`, `remove`, `reconcile`, `scrub`, `fill`.
    pub kind: &'static str,
    /// The zone's name, or its id if it was removed and this process does not know it.
    pub zone: Option<String>,
    /// `open`, `done`, `failed` or `cancelled`.
    pub state: &'static str,
    /// Whether a process is at it now. One that is open and that nobody is at is taken up by the next process with workers that has the zone.
    pub running: bool,
    /// What is counted in `done`: `blobs`, or `shards` (the 256 parts of a zone by the first two digits of a digest, each of which `reconcile` goes through twice).
    pub unit: &'static str,
    /// How many are done.
    pub done: u64,
    /// Of how many.
    pub total: Option<u64>,
    /// What it waits for.
    pub note: String,
    /// What it has found so far, by name.
    pub counts: BTreeMap<String, u64>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was begun, by the ledger's clock.
    pub begun_at: Timestamp,
    /// When somebody last noted how far it is.
    pub updated_at: Timestamp,
}

impl JobStatus {
    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.state == JobState::Open.as_str()
    }
}

impl ReplicatedStore {
    /// Writes nothing new to a zone: pushes go to others, and copies that it is owed wait. What is there is read, verified and deleted as ever. Every process
    /// knows within two seconds. A zone that is cordoned already is fine.
    ///
    /// [`ErrorKind::InvalidInput`] if there is no such zone; [`ErrorKind::Conflict`] if it is draining.
    pub async fn cordon(&self, zone: &str) -> Result<()> {
        self.set_state(zone, &[ZoneState::Active, ZoneState::Cordoned], ZoneState::Cordoned).await.map(drop)
    }

    /// Writes to a zone again that was cordoned, or is draining: that is called off, and what is gone from it is copied back.
    ///
    /// [`ErrorKind::InvalidInput`] if there is no such zone.
    pub async fn uncordon(&self, zone: &str) -> Result<()> {
        let from = [ZoneState::Active, ZoneState::Cordoned, ZoneState::Draining];
        self.set_state(zone, &from, ZoneState::Active).await?;
        let (_, id) = self.seen(zone)?;
        for kind in [JobKind::Drain, JobKind::Remove] {
            self.cluster.ledger.cancel_job(kind, Some(id)).await?;
        }
        Ok(())
    }

    /// Begins to empty a zone, as a job: nothing new is written there; each blob goes from it once every other zone that is to have it has a verified copy,
    /// and one of those was read within [`verified_within`](crate::Options::verified_within). The last copy of a blob never goes. Returns at once;
    /// [workers](Self::start) of any process that has the zone do the rest, and [`jobs`](Self::jobs) tells how far they are. Begun again, it is the same job.
    ///
    /// [`ErrorKind::InvalidInput`] if there is no such zone, or if a policy would be left with no zone, or with fewer than its
    /// [`min_copies`](crate::PolicyRule::with_min_copies).
    pub async fn drain(&self, zone: &str) -> Result<JobStatus> {
        self.cluster.hear_states().await?;
        drain::check(&self.cluster, self.seen(zone)?.0)?;
        let from = [ZoneState::Active, ZoneState::Cordoned, ZoneState::Draining];
        let was = self.set_state(zone, &from, ZoneState::Draining).await?;
        if let Err(error) = drain::check(&self.cluster, self.seen(zone)?.0) {
            // Another one was begun to be emptied at the same moment.
            self.set_state(zone, &[ZoneState::Draining], was).await?;
            return Err(error);
        }
        self.cluster.ledger.cancel_job(JobKind::Fill, Some(self.seen(zone)?.1)).await?;
        self.begin(JobKind::Drain, zone, Bytes::new()).await
    }

    /// Begins to take a zone out of the registry, as a job: see [`drain`](Self::drain), which comes before it. Refused as long as any blob is only there;
    /// one that is in another zone, verified and to stay there, is not waited for, so that a zone can be removed whose storage is gone for good. Bytes that
    /// are left in it then are nobody's. The zone keeps its identity, by which it is known as one that was removed: a process that is still configured with it
    /// does not use it.
    ///
    /// [`ErrorKind::InvalidInput`] if there is no such zone; [`ErrorKind::Conflict`] if it is not draining, or if blobs are only there, with how many.
    pub async fn remove(&self, zone: &str) -> Result<JobStatus> {
        self.cluster.hear_states().await?;
        let (member, _) = self.seen(zone)?;
        if member.state() != ZoneState::Draining {
            let message = format!("the zone is {}: drain it first", member.state().as_str());
            return Err(Error::new(ErrorKind::Conflict, message).with_zone(zone));
        }
        remove::check(&self.cluster, member).await?;
        self.begin(JobKind::Remove, zone, Bytes::new()).await
    }

    /// Begins to compare what is in a zone with what the ledger and the [metadata](crate::ReplicatedStoreBuilder::metadata) say of it, as a job, and to
    /// make the ledger true: copies that are gone are made again; blobs that repositories hold and the ledger does not know are verified and then trusted,
    /// so that a lost ledger is rebuilt; what nobody knows is deleted once it is older than [`keep_unknown`](crate::Options::keep_unknown). Nothing is
    /// changed if more than one in twenty of the copies that are to be there is not: then it is the wrong place, and the job fails. It also fails, in the
    /// end, if the metadata know nothing of more than one in twenty of the blobs (of few, one in four): it may be the wrong database, and those are left
    /// alone. Workers do this by themselves now and then: see [`compare_interval`](crate::Options::compare_interval).
    ///
    /// What it finds is counted by name in [`JobStatus::counts`]: `blobs` that were looked at; `missing` copies; copies of `wrong_size`; copies that were
    /// `found` where they were to be; blobs that were `adopted`; `stray` copies that are wanted elsewhere only; `foreign` blobs that nobody knows, `young`
    /// ones that stay for now, and `unknown` ones that are left alone; blobs that are `unheld` and garbage collection's to delete; `forgotten` ones that
    /// it has never heard of. What loses trust or is deleted is logged, each blob by its digest.
    ///
    /// [`ErrorKind::InvalidInput`] if there is no such zone.
    pub async fn reconcile(&self, zone: &str) -> Result<JobStatus> {
        self.begin(JobKind::Reconcile, zone, Bytes::new()).await
    }

    /// Begins to read all copies in a zone that were not read and found right within `not_read_for`, as a job; `Duration::ZERO` reads all of them. One that is wrong or
    /// gone is not read from any more, is read once more alone, and made again from another zone. Workers do this by themselves now and then: see
    /// [`scrub_interval`](crate::Options::scrub_interval).
    ///
    /// What it finds is counted by name in [`JobStatus::counts`]: copies that were `read`, and their `bytes`; `corrupt` and `missing` ones; `unreadable` ones,
    /// which are read again the next time. Each of these is logged.
    ///
    /// [`ErrorKind::InvalidInput`] if there is no such zone.
    pub async fn scrub(&self, zone: &str, not_read_for: Duration) -> Result<JobStatus> {
        let before = self.cluster.clock.now() - not_read_for;
        self.begin(JobKind::Scrub, zone, scrub::Marker::new(before).encode()?).await
    }

    /// Begins to copy into a zone what is to be there, as a job: the manifests, then what they need, image by image, those that were used last first
    /// ([`note_uses`](registry_core::MetadataStore::note_uses)); then all else that repositories hold. The zone is owed little at once, so that what is pushed
    /// meanwhile does not wait behind all that is there. [Workers](Self::start) begin this by themselves where a zone lacks more than a few blobs, as a new one
    /// does; begun again, it is the same job.
    ///
    /// [`ErrorKind::InvalidInput`] if there is no such zone, or there are no [metadata](crate::ReplicatedStoreBuilder::metadata);
    /// [`ErrorKind::Conflict`] if the zone is draining; what [`identify`](Self::identify) says if the zone cannot be used now.
    pub async fn fill(&self, zone: &str) -> Result<JobStatus> {
        if self.cluster.metadata.is_none() {
            return Err(Error::new(ErrorKind::InvalidInput, "without metadata nobody knows what is to be in it").with_zone(zone));
        }
        self.identify(zone).await?;
        self.cluster.hear_states().await?;
        let (member, id) = self.seen(zone)?;
        if !matches!(member.state(), ZoneState::Active | ZoneState::Cordoned) {
            let message = format!("the zone is {}: nothing is copied into it", member.state().as_str());
            return Err(Error::new(ErrorKind::Conflict, message).with_zone(zone));
        }
        Ok(self.status_of(fill(&self.cluster, id).await?))
    }

    /// The jobs that have not ended, and those that ended last, newest first.
    pub async fn jobs(&self, limit: u32) -> Result<Vec<JobStatus>> {
        let jobs = self.cluster.ledger.jobs(limit).await?;
        let mut statuses: Vec<_> = jobs.into_iter().map(|job| self.status_of(job)).collect();
        // Another process may know the zone.
        let is_unknown =
            |status: &JobStatus| status.zone.as_ref().is_some_and(|zone| self.cluster.members.iter().all(|member| member.name != *zone));
        if statuses.iter().any(is_unknown) {
            let known = self.cluster.ledger.zones().await?;
            for zone in statuses.iter_mut().filter_map(|status| status.zone.as_mut()) {
                if let Some(record) = known.iter().find(|record| record.id.as_str() == zone) {
                    zone.clone_from(&record.name);
                }
            }
        }
        Ok(statuses)
    }

    async fn set_state(&self, zone: &str, from: &[ZoneState], to: ZoneState) -> Result<ZoneState> {
        let (_, id) = self.seen(zone)?;
        let was = self.cluster.ledger.set_zone_state(id, from, to).await.map_err(|error| error.with_zone(zone))?;
        self.cluster.hear_states().await?;
        Ok(was)
    }

    async fn begin(&self, kind: JobKind, zone: &str, marker: Bytes) -> Result<JobStatus> {
        let (_, id) = self.seen(zone)?;
        let job = self.cluster.ledger.begin_job(kind, Some(id), marker).await?;
        self.cluster.jobs.notify_one();
        Ok(self.status_of(job))
    }

    fn status_of(&self, job: Job) -> JobStatus {
        let name = |id: &ZoneId| self.cluster.member(id).map_or_else(|| id.to_string(), |member| member.name.clone());
        JobStatus {
            zone: job.zone.as_ref().map(name),
            id: job.id,
            kind: job.kind.as_str(),
            unit: job.kind.unit(),
            state: job.state.as_str(),
            running: job.state == JobState::Open && job.lease_id.is_some(),
            done: job.done,
            total: job.total,
            note: job.note,
            counts: job.counts,
            error: job.error,
            begun_at: job.begun_at,
            updated_at: job.updated_at,
        }
    }
}

/// Something came to a zone that is to be emptied, perhaps after all else had gone. If this is forgotten, the next comparison of places with policies sees to it.
pub(crate) async fn drain_again(cluster: &Cluster, zone: &ZoneId) {
    match cluster.ledger.begin_job(JobKind::Drain, Some(zone), Bytes::new()).await {
        Ok(_) => cluster.jobs.notify_one(),
        Err(error) => tracing::warn!(%zone, %error, "could not begin to empty a zone again"),
    }
}

/// The zones that jobs owe little by little what is to be there.
pub(crate) async fn filling(cluster: &Cluster) -> Result<Vec<ZoneId>> {
    let open = cluster.ledger.jobs(JOBS).await?.into_iter().filter(|job| job.kind == JobKind::Fill && job.state == JobState::Open);
    Ok(open.filter_map(|job| job.zone).collect())
}

/// Begins to fill a zone that lacks more than a few. A job that is at it looks for what has come to be lacking since before it ends; if that was just a
/// moment ago, the next comparison begins another.
pub(crate) async fn fill(cluster: &Cluster, zone: &ZoneId) -> Result<Job> {
    let job = cluster.ledger.begin_job(JobKind::Fill, Some(zone), Bytes::new()).await?;
    cluster.jobs.notify_one();
    Ok(job)
}

/// Hears what zones are used for, again and again.
pub(crate) async fn hear_states(cluster: Arc<Cluster>, mut stop: Stop) {
    while !stop.sleep(cluster.jittered(HEAR.min(cluster.options.poll_interval))).await {
        if let Err(error) = cluster.hear_states().await {
            tracing::warn!(%error, "the ledger does not tell what zones are used for");
        }
    }
}

/// Does jobs, whichever nobody has.
pub(crate) async fn work(cluster: Arc<Cluster>, mut stop: Stop) {
    let mut running = JoinSet::new();
    while !stop.is_set() {
        let woken = cluster.jobs.notified();
        if running.len() < AT_ONCE {
            match cluster.ledger.take_job(&cluster.ids(), cluster.options.lease).await {
                Ok(Some(job)) => {
                    running.spawn(run(Arc::clone(&cluster), job, stop.clone()));
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the ledger does not give out jobs"),
            }
        }
        let pause = cluster.jittered(cluster.options.poll_interval * 2);
        tokio::select! {
            biased;
            () = stop.wait() => break,
            _ = running.join_next(), if !running.is_empty() => {}
            () = woken => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    while running.join_next().await.is_some() {}
}

/// Begins to compare and to scrub the zones that were not for long.
pub(crate) async fn look_after_zones(cluster: Arc<Cluster>, mut stop: Stop) {
    let options = &cluster.options;
    let mut kinds = vec![(JobKind::Reconcile, options.compare_interval), (JobKind::Scrub, options.scrub_interval)];
    kinds.retain(|(_, interval)| !interval.is_zero());
    let Some(shortest) = kinds.iter().map(|(_, interval)| *interval).min() else { return };
    // Many processes may look; who begins what another has begun finds it begun.
    while !stop.sleep(cluster.jittered((shortest / 30).min(LOOK_AFTER))).await {
        if let Err(error) = begin_due(&cluster, &kinds).await {
            tracing::warn!(%error, "could not begin to look after the zones");
        }
    }
}

/// Begins what is to be done once in an interval, where that is over.
async fn begin_due(cluster: &Cluster, kinds: &[(JobKind, Duration)]) -> Result<()> {
    let known = cluster.ledger.jobs(JOBS).await?;
    let now = cluster.clock.now();
    for zone in cluster.members.iter().filter_map(|member| member.usable()) {
        for (kind, interval) in kinds.iter().copied() {
            let last = known.iter().find(|job| job.kind == kind && job.zone.as_ref() == Some(zone));
            let is_due = last.is_none_or(|last| match last.state {
                JobState::Open => false,
                JobState::Done => now.since(last.begun_at) > about(interval, last),
                // It was not done.
                _ => now.since(last.updated_at) > interval / 30,
            });
            if is_due {
                let marker = match kind {
                    // What was read during the last one is read again only if that was long ago.
                    JobKind::Scrub => scrub::Marker::new(now - interval / 2).encode()?,
                    _ => Bytes::new(),
                };
                cluster.ledger.begin_job(kind, Some(zone), marker).await?;
                cluster.jobs.notify_one();
            }
        }
    }
    Ok(())
}

/// This long, give or take a sixth; for all processes the same, so that none of them begins early.
fn about(interval: Duration, last: &Job) -> Duration {
    let text = format!("{:?} {}", last.zone, last.begun_at.as_millis());
    // FNV-1a (Fowler, Noll, Vo).
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    interval.mul_f64(5.0 / 6.0 + (hash % 1000) as f64 / 3000.0)
}

async fn run(cluster: Arc<Cluster>, mut job: Job, mut stop: Stop) {
    let (cluster, stop) = (&cluster, &mut stop);
    tracing::info!(job = job.id, kind = job.kind.as_str(), "began with a job, or went on with it");
    let ended = match job.kind {
        JobKind::Drain => drain::run(cluster, &mut job, stop).await,
        JobKind::Remove => remove::run(cluster, &mut job, stop).await,
        JobKind::Reconcile => reconcile::run(cluster, &mut job, stop).await,
        JobKind::Scrub => scrub::run(cluster, &mut job, stop).await,
        JobKind::Fill => fill::run(cluster, &mut job, stop).await,
    };
    match ended {
        Ok(state) => job.state = state,
        // Another process is to go on with it.
        Err(error) if stop.is_set() && error.kind() != ErrorKind::LeaseLost => {}
        // Somebody has called it off, or has it: nothing is to be said of it.
        Err(error) if error.kind() == ErrorKind::LeaseLost => {
            tracing::info!(job = job.id, kind = job.kind.as_str(), "a job has ended, or is another process's");
            return;
        }
        // Whatever is wrong with the zone may be mended.
        Err(error) if is_zones_fault(&error) => {
            job.note = error.to_string();
            tracing::warn!(job = job.id, kind = job.kind.as_str(), %error, "a job cannot go on now");
            let pause = cluster.jittered(cluster.options.look_again).min(cluster.options.lease / 2);
            // If it was called off meanwhile, giving it back changes nothing.
            let _ = save(cluster, &job).await;
            stop.sleep(pause).await;
        }
        Err(error) => {
            job.state = JobState::Failed;
            job.error = Some(error.to_string());
        }
    }
    tracing::info!(job = job.id, kind = job.kind.as_str(), state = job.state.as_str(), note = job.note, "ended with a job");
    match cluster.ledger.end_job(&job).await {
        // It was called off, or has ended with its zone.
        Err(error) if error.kind() == ErrorKind::LeaseLost => {}
        // Whoever takes it up finds out the same.
        Err(error) => tracing::warn!(job = job.id, %error, "could not note how a job ended"),
        Ok(()) => tell(cluster, &job),
    }
}

/// Tells of the end of a job that has ended; one that removes a zone ends with it, and has told by then.
fn tell(cluster: &Cluster, job: &Job) {
    let Some(member) = job.zone.as_ref().and_then(|zone| cluster.member(zone)) else { return };
    let zone = member.name.clone();
    let event = match (job.kind, job.state) {
        (JobKind::Drain, JobState::Done) => Event::Drained { zone },
        (JobKind::Fill, JobState::Done) => Event::Filled { zone },
        (kind, JobState::Failed) => Event::JobFailed { job: kind.as_str(), zone, reason: job.error.clone().unwrap_or_default() },
        _ => return,
    };
    member.events.tell(&event);
}

/// Notes how far a job is. An error other than that it is lost is passed over: the lease is long.
async fn save(cluster: &Cluster, job: &Job) -> Result<()> {
    match cluster.ledger.save_job(job, cluster.options.lease).await {
        Err(error) if error.kind() == ErrorKind::LeaseLost => Err(error),
        Err(error) => {
            tracing::warn!(job = job.id, %error, "could not note how far a job is");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Does something that may take longer than the lease, and keeps the job meanwhile; gives it up if the job is lost, or if it is time to stop.
async fn keeping<T>(cluster: &Cluster, job: &Job, stop: &mut Stop, work: impl Future<Output = T>) -> Result<T> {
    if stop.is_set() {
        return Err(stopping());
    }
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            () = stop.wait() => return Err(stopping()),
            () = tokio::time::sleep(cluster.options.lease / 4) => save(cluster, job).await?,
        }
    }
}

/// After having worked for so long, leaves the zone to others for as long as its share asks for.
async fn rest(cluster: &Cluster, job: &Job, stop: &mut Stop, worked: Duration) -> Result<()> {
    let share = cluster.options.background_share.clamp(0.01, 1.0);
    let pause = worked.mul_f64((1.0 - share) / share);
    if pause.is_zero() {
        return Ok(());
    }
    keeping(cluster, job, stop, tokio::time::sleep(pause)).await
}

/// Waits until work in the background may be done in the zone; says so meanwhile.
async fn in_its_hours(cluster: &Cluster, job: &mut Job, stop: &mut Stop, member: &Member) -> Result<()> {
    if !member.throttle.is_closed(cluster.clock.now()) {
        return Ok(());
    }
    job.note = CLOSED.to_owned();
    save(cluster, job).await?;
    let hours = async {
        while member.throttle.is_closed(cluster.clock.now()) {
            tokio::time::sleep(LOOK_AT_HOURS).await;
        }
    };
    keeping(cluster, job, stop, hours).await?;
    job.note = String::new();
    Ok(())
}

/// Why a job is left for somebody else.
fn stopping() -> Error {
    Error::new(ErrorKind::Interrupted, "the process is stopping")
}

/// The zone that a job is about, if this process has it.
fn zone_of<'a>(cluster: &'a Cluster, job: &Job) -> Result<&'a Arc<Member>> {
    let member = job.zone.as_ref().and_then(|zone| cluster.member(zone));
    member.ok_or_else(|| Error::new(ErrorKind::Internal, "the job is about a zone that this process does not have"))
}
