//! Building a [`ReplicatedStore`].

use std::collections::BTreeSet;
use std::sync::Arc;

use registry_core::{Clock, MetadataStore, SystemClock};

use crate::cluster::Cluster;
use crate::events::{EventSink, Events};
use crate::ledger::PlacementLedger;
use crate::member::Member;
use crate::options::{Closest, Options};
use crate::policy::{PlacementPolicy, ZoneSet};
use crate::store::ReplicatedStore;
use crate::zone::Zone;

/// Why a [`ReplicatedStore`] cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no zone at all.
    #[error("there is no zone")]
    NoZone,
    /// Two zones have one name.
    #[error("two zones are called {0}")]
    DuplicateName(String),
    /// Two zones are the same place: draining one would delete the only bytes.
    #[error("the zones {0} and {1} are the same place: they have the same identity")]
    SamePlace(String, String),
    /// A preference or a policy names a zone that there is not.
    #[error("there is no zone {zone}, which {by} names")]
    UnknownZone {
        /// The name.
        zone: String,
        /// Where it stands.
        by: String,
    },
    /// A policy asks for more copies than it has zones, or for none.
    #[error("the policy for {pattern} asks for {min_copies} copies in {zones} zones")]
    MinCopies {
        /// The rule's pattern.
        pattern: String,
        /// What it asks for.
        min_copies: u32,
        /// What it has.
        zones: usize,
    },
    /// The ledger does not answer.
    #[error("the ledger of placements does not answer")]
    Ledger(#[source] registry_core::Error),
}

/// Builds a [`ReplicatedStore`].
#[derive(Debug)]
#[must_use]
pub struct ReplicatedStoreBuilder {
    zones: Vec<Zone>,
    ledger: Arc<dyn PlacementLedger>,
    metadata: Option<Arc<dyn MetadataStore>>,
    policy: PlacementPolicy,
    closest: Closest,
    options: Options,
    clock: Arc<dyn Clock>,
    events: Option<Arc<dyn EventSink>>,
}

impl ReplicatedStore {
    /// A store whose placements are kept in this ledger, to be given its zones.
    pub fn builder(ledger: Arc<dyn PlacementLedger>) -> ReplicatedStoreBuilder {
        ReplicatedStoreBuilder {
            zones: Vec::new(),
            ledger,
            metadata: None,
            policy: PlacementPolicy::default(),
            closest: Closest::default(),
            options: Options::default(),
            clock: Arc::new(SystemClock),
            events: None,
        }
    }
}

impl ReplicatedStoreBuilder {
    /// Adds a zone.
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zones.push(zone);
        self
    }

    /// Which zones which blobs belong in; everything everywhere by default.
    pub fn policy(mut self, policy: PlacementPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Which zone is the closest; the quickest by default.
    pub fn closest(mut self, closest: Closest) -> Self {
        self.closest = closest;
        self
    }

    /// The database that says which repositories hold which blobs: without it, copies that no policy wants any more stay where they are.
    pub fn metadata(mut self, metadata: Arc<dyn MetadataStore>) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Times and sizes.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Where the time comes from by which the age of a verification is told; the machine's clock by default. The ledger has its own.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where events are told; nowhere by default.
    pub fn events(mut self, sink: Arc<dyn EventSink>) -> Self {
        self.events = Some(sink);
        self
    }

    /// Asks each zone who it is, and makes the store. A zone that does not answer, or is not the one it was, does not keep the others from serving: it is
    /// passed over until [the probe](ReplicatedStore::start) finds it in order.
    pub async fn build(self) -> Result<ReplicatedStore, BuildError> {
        self.check()?;
        let Self { zones, ledger, metadata, policy, closest, options, clock, events } = self;
        let events = Events::new(events);
        ledger.zones().await.map_err(BuildError::Ledger)?;
        let members: Vec<_> = zones.into_iter().map(|zone| Arc::new(Member::new(zone, events.clone()))).collect();
        // One after the other: two that are the same place must not both give it an identity.
        let mut found: Vec<(String, String)> = Vec::new();
        for member in &members {
            let start = tokio::time::Instant::now();
            match member.confirm(&*ledger, options.request_timeout).await {
                Ok(id) => {
                    member.health.answered(start.elapsed());
                    if let Some((other, _)) = found.iter().find(|(_, known)| known == id.as_str()) {
                        return Err(BuildError::SamePlace(other.clone(), member.name.clone()));
                    }
                    found.push((member.name.clone(), id.as_str().to_owned()));
                }
                Err(error) => {
                    if let Some(other) = same_place(member, &found).await {
                        return Err(BuildError::SamePlace(other, member.name.clone()));
                    }
                    tracing::error!(zone = member.name, %error, "a zone cannot be used now");
                    member.trip(&error);
                }
            }
        }
        let cluster = Cluster::new(members, ledger, metadata, policy, closest, options, clock);
        cluster.hear_states().await.map_err(BuildError::Ledger)?;
        Ok(ReplicatedStore { cluster: Arc::new(cluster) })
    }

    fn check(&self) -> Result<(), BuildError> {
        if self.zones.is_empty() {
            return Err(BuildError::NoZone);
        }
        let mut names = BTreeSet::new();
        for zone in &self.zones {
            if !names.insert(zone.name.as_str()) {
                return Err(BuildError::DuplicateName(zone.name.clone()));
            }
        }
        let known = |zone: &String, by: String| {
            if names.contains(zone.as_str()) { Ok(()) } else { Err(BuildError::UnknownZone { zone: zone.clone(), by }) }
        };
        if let Closest::Preference(preference) = &self.closest {
            for zone in preference {
                known(zone, "the preference".to_owned())?;
            }
        }
        for rule in self.policy.rules() {
            let zones = match &rule.zones {
                ZoneSet::All => names.len(),
                ZoneSet::Named(zones) => {
                    for zone in zones {
                        known(zone, format!("the policy for {}", rule.pattern))?;
                    }
                    zones.iter().collect::<BTreeSet<_>>().len()
                }
            };
            if rule.min_copies == 0 || rule.min_copies as usize > zones {
                return Err(BuildError::MinCopies { pattern: rule.pattern.to_string(), min_copies: rule.min_copies, zones });
            }
        }
        Ok(())
    }
}

/// A zone that cannot be used because it says that it is another one of ours.
async fn same_place(member: &Member, found: &[(String, String)]) -> Option<String> {
    let patience = std::time::Duration::from_secs(2);
    let identity = tokio::time::timeout(patience, registry_core::blob::StoreIdentity::read(member.store.named()?)).await.ok()?.ok()??;
    found.iter().find(|(_, id)| *id == identity.id).map(|(name, _)| name.clone())
}
