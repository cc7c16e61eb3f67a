//! [`Cluster`]: the zones, the ledger and the rules, shared by readers, writers and workers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use registry_core::{Clock, Digest, Error, ErrorKind, MetadataStore, Result};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ledger::{Placement, PlacementLedger, Sighting, ZoneId, ZoneRecord, ZoneState};
use crate::member::Member;
use crate::metrics;
use crate::options::{Closest, Options};
use crate::policy::{PlacementPolicy, PolicyRule};

/// For how long a write need not be followed by another touch of the ledger when a repository refers to what was just written on its behalf.
const FRESH: Duration = Duration::from_secs(60);

/// How many of these are remembered.
const FRESH_LIMIT: usize = 4096;

/// How long a zone is taken to need that nobody has measured yet: behind all that were.
const UNMEASURED: Duration = Duration::from_secs(10);

/// What is shared by everything that a process does with its zones.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) members: Vec<Arc<Member>>,
    pub(crate) ledger: Arc<dyn PlacementLedger>,
    pub(crate) metadata: Option<Arc<dyn MetadataStore>>,
    pub(crate) policy: PlacementPolicy,
    pub(crate) closest: Closest,
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    /// A copy became good, or was lost.
    pub(crate) progress: Notify,
    /// It is time to compare places with policies.
    pub(crate) compare: Notify,
    /// There is a job to be done.
    pub(crate) jobs: Notify,
    jitter: Mutex<u64>,
    /// What was lately written on behalf of whom.
    fresh: Mutex<BTreeMap<(Digest, String), Instant>>,
}

impl Cluster {
    pub(crate) fn new(
        members: Vec<Arc<Member>>,
        ledger: Arc<dyn PlacementLedger>,
        metadata: Option<Arc<dyn MetadataStore>>,
        policy: PlacementPolicy,
        closest: Closest,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let chance = || u64::from_str_radix(&registry_core::random_id()[..16], 16).unwrap_or(0);
        let jitter = Mutex::new(options.seed.unwrap_or_else(chance));
        let fresh = Mutex::default();
        Self {
            members,
            ledger,
            metadata,
            policy,
            closest,
            options,
            clock,
            progress: Notify::new(),
            compare: Notify::new(),
            jobs: Notify::new(),
            jitter,
            fresh,
        }
    }

    pub(crate) fn member(&self, id: &ZoneId) -> Option<&Arc<Member>> {
        self.members.iter().find(|member| member.id() == Some(id))
    }

    /// The ids of all zones that have one.
    pub(crate) fn ids(&self) -> Vec<ZoneId> {
        self.members.iter().filter_map(|member| member.id().cloned()).collect()
    }

    /// Closest first, those that fail last. Zones that are equally close stay in the order in which they were configured.
    pub(crate) fn by_closeness<T>(&self, mut items: Vec<T>, member: impl Fn(&T) -> &Member) -> Vec<T> {
        let rank = |member: &Member| match &self.closest {
            Closest::Preference(names) => {
                let rank = names.iter().position(|name| *name == member.name).unwrap_or(names.len());
                Duration::from_micros(rank as u64)
            }
            // Whole milliseconds: no jumping about between zones that are as good as each other.
            Closest::Measured => {
                Duration::from_millis(u64::try_from(member.health.latency().unwrap_or(UNMEASURED).as_millis()).unwrap_or(u64::MAX))
            }
        };
        items.sort_by_key(|item| {
            let member = member(item);
            let configured = self.members.iter().position(|one| std::ptr::eq(&**one, member));
            (member.health.is_open(), rank(member), configured)
        });
        items
    }

    /// The zones in which the rule allows blobs and which are written to, closest first.
    pub(crate) fn allowed(&self, rule: &PolicyRule) -> Vec<Arc<Member>> {
        let is_allowed =
            |member: &&Arc<Member>| member.usable().is_some() && member.state().takes_writes() && rule.zones.contains(&member.name);
        self.by_closeness(self.members.iter().filter(is_allowed).map(Arc::clone).collect(), |member| member)
    }

    /// The zones that the rule wants its blobs in, as long as they are not being emptied.
    pub(crate) fn wanted<'a>(&'a self, rule: &'a PolicyRule) -> impl Iterator<Item = &'a Arc<Member>> {
        self.members.iter().filter(|member| member.state().is_target() && rule.zones.contains(&member.name))
    }

    /// Hears from the ledger what each zone is used for. What has changed may be something to do.
    pub(crate) async fn hear_states(&self) -> Result<()> {
        let known = self.ledger.zones().await?;
        let mut is_news = false;
        for member in &self.members {
            let Some(id) = member.id() else { continue };
            let state = match known.iter().find(|zone| zone.id == *id) {
                Some(zone) => zone.state,
                None if member.state() == ZoneState::Removed => continue,
                // Removed, or lost with the ledger: who was removed cannot be registered again.
                None => match self.ledger.register_zone(&ZoneRecord::new(id.clone(), &member.name)).await {
                    Ok(()) => ZoneState::Active,
                    Err(error) if error.kind() == ErrorKind::Conflict => ZoneState::Removed,
                    Err(error) => return Err(error),
                },
            };
            if member.set_state(state) {
                tracing::info!(zone = member.name, state = state.as_str(), "what the zone is used for has changed");
                is_news = true;
                if state == ZoneState::Active {
                    // This process has put off what the zone is owed until now. If it stays so, it is late, and no more.
                    if let Err(error) = self.ledger.set_zone_state(id, &[state], state).await {
                        tracing::debug!(zone = member.name, %error, "what was put off is not due at once");
                    }
                }
            }
        }
        if is_news {
            self.wake(&self.ids());
            // Another zone may be owed something, or be so no more.
            self.compare.notify_one();
        }
        Ok(())
    }

    /// Where blobs of this scope are to be.
    pub(crate) fn targets(&self, scope: Option<&str>) -> Vec<ZoneId> {
        self.wanted(self.policy.rule(scope)).filter_map(|member| member.id().cloned()).collect()
    }

    /// Where a blob is to be that these repositories hold.
    pub(crate) fn union<'a>(&self, scopes: impl Iterator<Item = &'a str>) -> Vec<ZoneId> {
        let mut union: Vec<_> = scopes.flat_map(|scope| self.targets(Some(scope))).collect();
        union.sort_unstable();
        union.dedup();
        union
    }

    /// The placements of each of these blobs.
    pub(crate) async fn placements(&self, digests: &[Digest]) -> Result<BTreeMap<Digest, Vec<Placement>>> {
        let mut placements: BTreeMap<_, Vec<Placement>> = BTreeMap::new();
        for placement in self.ledger.placements(digests).await? {
            placements.entry(placement.digest).or_default().push(placement);
        }
        Ok(placements)
    }

    /// Whether blobs of these scopes are to be in a zone too that nobody has ever seen.
    pub(crate) fn wants_unseen<'a>(&self, mut scopes: impl Iterator<Item = &'a str>) -> bool {
        scopes.any(|scope| self.wanted(self.policy.rule(Some(scope))).any(|member| member.id().is_none()))
    }

    /// Where a blob may be that was written on behalf of one knows not whom, perhaps under a policy that there is no more: where every rule wants its blobs.
    pub(crate) fn common(&self) -> Vec<ZoneId> {
        let rules: Vec<_> = self.policy.all_rules().collect();
        let Some((first, others)) = rules.split_first() else { return Vec::new() };
        let is_in_all = |member: &&Arc<Member>| others.iter().all(|rule| rule.zones.contains(&member.name));
        self.wanted(first).filter(is_in_all).filter_map(|member| member.id().cloned()).collect()
    }

    /// Something is to be done in these zones.
    pub(crate) fn wake(&self, zones: &[ZoneId]) {
        for member in zones.iter().filter_map(|zone| self.member(zone)) {
            member.wake.notify_one();
        }
    }

    /// A copy in this zone became good: there may be something to do in the others.
    pub(crate) fn good_copy(&self, zone: Option<&ZoneId>) {
        self.progress.notify_waiters();
        for member in self.members.iter().filter(|member| member.id() != zone) {
            member.wake.notify_one();
        }
    }

    /// A number from 0 up to 1.
    pub(crate) fn chance(&self) -> f64 {
        // SplitMix64 (Steele, Lea, Flood, 2014).
        let mut state = self.jitter.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// This long, give or take a fifth, so that processes do not all do the same at once.
    pub(crate) fn jittered(&self, interval: Duration) -> Duration {
        interval.mul_f64(0.8 + 0.4 * self.chance())
    }

    /// The pause before the next attempt after so many failures: doubling, give or take a half, up to a limit.
    pub(crate) fn backoff(&self, attempts: u32) -> Duration {
        let pause = self.options.backoff.saturating_mul(1 << attempts.min(20)).min(self.options.max_backoff);
        pause.mul_f64(0.5 + self.chance())
    }

    /// Notes that a copy may be wrong or missing. A zone is only accused of having lost something after it has said who it is.
    pub(crate) async fn suspect(&self, member: &Member, digest: &Digest, generation: u64, reason: &str) {
        let Some(zone) = member.id() else { return };
        if let Err(error) = member.be_sure(&*self.ledger, self.options.request_timeout).await {
            member.failed(&error, &self.options);
            return;
        }
        tracing::warn!(zone = member.name, %digest, reason, "a copy is doubted: it is not read from until it was verified");
        metrics::suspect(&member.name);
        if let Err(error) = self.ledger.observe(digest, zone, generation, &Sighting::Suspect(reason.to_owned())).await {
            tracing::warn!(zone = member.name, %digest, %error, "could not note a doubtful copy");
        }
        member.wake.notify_one();
    }

    /// Remembers that this was just written on behalf of this scope.
    pub(crate) fn freshly_written(&self, digest: &Digest, scope: Option<&str>) {
        let Some(scope) = scope else { return };
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        if fresh.len() >= FRESH_LIMIT {
            fresh.retain(|_, at| at.elapsed() < FRESH);
        }
        if fresh.len() < FRESH_LIMIT {
            fresh.insert((*digest, scope.to_owned()), Instant::now());
        }
    }

    /// Whether this was just written on behalf of this scope; it is not asked a second time.
    pub(crate) fn take_fresh(&self, digest: &Digest, scope: &str) -> bool {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.remove(&(*digest, scope.to_owned())).is_some_and(|at| at.elapsed() < FRESH)
    }
}

/// A copy that may be read.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) member: Arc<Member>,
    pub(crate) generation: u64,
    pub(crate) verified_at: Option<registry_core::Timestamp>,
    /// How often it has failed during this read.
    pub(crate) failures: u32,
}

impl Cluster {
    /// The copies that may be read, closest first.
    pub(crate) fn sources(&self, placements: &[Placement]) -> Vec<Source> {
        let sources = placements.iter().filter(|placement| placement.is_source()).filter_map(|placement| {
            let member = Arc::clone(self.member(&placement.zone).filter(|member| member.usable().is_some())?);
            Some(Source { member, generation: placement.generation, verified_at: placement.verified_at, failures: 0 })
        });
        self.by_closeness(sources.collect(), |source| &source.member)
    }

    /// The same for a client. If no zone that has a copy may be used, because it was not itself when it was last asked who it is, it is asked once more: the
    /// next probe may be far away.
    pub(crate) async fn readable(&self, placements: &[Placement]) -> Vec<Source> {
        let sources = self.sources(placements);
        if !sources.is_empty() {
            return sources;
        }
        for member in placements.iter().filter(|placement| placement.is_source()).filter_map(|placement| self.member(&placement.zone)) {
            if let Err(error) = member.be_sure(&*self.ledger, self.options.request_timeout).await {
                tracing::debug!(zone = member.name, %error, "a zone that has a blob cannot be used");
            }
        }
        self.sources(placements)
    }
}

/// What a caller is told of a blob none of whose copies can be read.
pub(crate) fn unreadable(digest: &Digest, placements: &[Placement]) -> Error {
    use crate::ledger::Observed;
    let any = |observed| placements.iter().any(|placement| placement.observed == observed);
    if placements.iter().any(Placement::is_source) {
        return Error::new(ErrorKind::Unavailable, "no zone that has the blob can be asked")
            .with_key(digest)
            .with_retry_after(Duration::from_secs(5));
    }
    if any(Observed::Suspect) {
        let message = "its only copies are doubted, and are being verified";
        return Error::new(ErrorKind::Unavailable, message).with_key(digest).with_retry_after(Duration::from_secs(2));
    }
    if any(Observed::Damaged) || any(Observed::Quarantined) {
        return Error::new(ErrorKind::NotFound, "its only copy is damaged, and is not served: push it again").with_key(digest);
    }
    Error::not_found(digest)
}

/// Whether anybody wants the blob to be anywhere.
pub(crate) fn is_visible(placements: &[Placement]) -> bool {
    placements.iter().any(|placement| placement.desired == crate::ledger::Desired::Present)
}

/// The blob's placements, if anybody wants it to be anywhere.
pub(crate) async fn visible(cluster: &Cluster, digest: &Digest) -> Result<Vec<Placement>> {
    let placements = cluster.ledger.placements(&[*digest]).await?;
    if is_visible(&placements) { Ok(placements) } else { Err(Error::not_found(digest)) }
}
