//! Opens the zones.
//!
//! One zone is a plain store, and the data directory remembers who it is (`zones.json`). Over several lies a [`ReplicatedStore`], whose ledger is in the
//! database of the metadata and remembers them. A data directory becomes one of several zones when it is first served from with several; from then on the
//! ledger has to hear of all that happens, even if it is configured with one zone again.

use std::collections::BTreeMap;
use std::sync::Arc;

use metadata_sql::SqlMetadataStore;
use registry_core::{BlobStore, Error, MetadataStore};
use replication::ledger::ZoneRecord;
use replication::{BuildError, MemoryLedger, PlacementLedger, ReplicatedStore, ZoneId};

use crate::config::{Config, Zone};
use crate::events::EventFile;
use crate::failure::Failure;
use crate::stores::Purpose;
use crate::zone_store::ZoneStore;
use crate::{backend, identity};

/// Several zones.
pub(crate) struct Zones {
    /// What lies over them.
    pub(crate) replicated: ReplicatedStore,
    /// Each of them.
    pub(crate) stores: Vec<(String, ZoneStore)>,
    /// What is in which of them.
    pub(crate) ledger: Arc<dyn PlacementLedger>,
    /// Names of zones that nobody has served from before.
    pub(crate) new: Vec<String>,
    /// What was a plain store until now: the ledger does not know what is in it.
    pub(crate) plain: BTreeMap<String, String>,
}

/// Opens them, and what lies over them.
pub(crate) async fn open(
    config: &Config,
    purpose: Purpose,
    metadata: &Arc<SqlMetadataStore>,
) -> Result<(Arc<dyn BlobStore>, Option<Zones>), Failure> {
    let ledger: Arc<dyn PlacementLedger> = Arc::new(metadata.ledger());
    let served = ledger.zones().await.map_err(no_ledger)?;
    let plain = identity::known(&config.data)?;
    if let [zone] = &config.zones[..]
        && (served.is_empty() || !plain.is_empty())
    {
        let known = plain.contains_key(&zone.name);
        let may_make = matches!(purpose, Purpose::Serve | Purpose::Try) && !config.read_only && !known;
        let store = open_plain(config, zone, may_make, known).await?;
        identity::confirm(&config.data, zone, &*store, !config.read_only).await?;
        return Ok((store, None));
    }
    check_names(config, &served, &plain)?;
    match purpose {
        _ if plain.is_empty() => open_several(config, purpose, metadata, ledger, served, plain).await,
        Purpose::Serve => open_several(config, purpose, metadata, ledger, served, plain).await,
        // The real ledger is to know nothing of zones that are not served from yet.
        Purpose::Try => open_several(config, purpose, metadata, Arc::new(MemoryLedger::default()), served, plain).await,
        Purpose::Use | Purpose::Add => {
            let names = names(plain.keys());
            Err(Failure::new(format!(
                "the data directory {} is served from with one zone, {names}, and not with several yet",
                config.data.display()
            ))
            .hint("give the configuration that it is served with, or serve with this one first"))
        }
    }
}

async fn open_several(
    config: &Config,
    purpose: Purpose,
    metadata: &Arc<SqlMetadataStore>,
    ledger: Arc<dyn PlacementLedger>,
    served: Vec<ZoneRecord>,
    plain: BTreeMap<String, String>,
) -> Result<(Arc<dyn BlobStore>, Option<Zones>), Failure> {
    let is_new = |zone: &&Zone| !served.iter().any(|known| known.name == zone.name);
    let new: Vec<_> = config.zones.iter().filter(is_new).map(|zone| zone.name.clone()).collect();
    let may_make = purpose != Purpose::Use && !config.read_only;
    // Two servers that start over one new zone must not both name it.
    let _lock = (may_make && !new.is_empty()).then(|| identity::lock(&config.data)).transpose()?;
    for (name, id) in &plain {
        ledger.register_zone(&ZoneRecord::new(ZoneId::new(id), name)).await.map_err(no_ledger)?;
    }
    let shared = backend::Shared::of(config);
    let make_store = |zone: &Zone| {
        let store = ZoneStore::new(&zone.name, zone.place(), backend::of(zone, &shared), Arc::clone(&ledger), may_make);
        (zone.name.clone(), store)
    };
    let stores: Vec<_> = config.zones.iter().map(make_store).collect();
    let rows: Arc<dyn MetadataStore> = Arc::<SqlMetadataStore>::clone(metadata);
    let mut builder = ReplicatedStore::builder(Arc::clone(&ledger))
        .metadata(rows)
        .closest(config.closest.clone())
        .policy(config.policy.clone())
        .options(config.replication.clone());
    if let Some(path) = &config.events {
        builder = builder.events(Arc::new(EventFile::start(path, purpose)?));
    }
    for (zone, (_, store)) in config.zones.iter().zip(&stores) {
        let member = replication::Zone::new(&zone.name, Arc::new(store.clone()));
        let member = member.with_verify_reads(zone.verify_reads).with_concurrency(zone.concurrency);
        builder = builder.zone(member.with_bandwidth(zone.bandwidth.clone()));
    }
    let replicated = builder.build().await.map_err(refused)?;
    Ok((Arc::new(replicated.clone()), Some(Zones { replicated, stores, ledger, new, plain })))
}

/// Refuses a configuration under which what was pushed would not be found.
fn check_names(config: &Config, served: &[ZoneRecord], plain: &BTreeMap<String, String>) -> Result<(), Failure> {
    let is_configured = |name: &str| config.zones.iter().any(|zone| zone.name == name);
    let missing: Vec<_> = served.iter().map(|zone| &zone.name).chain(plain.keys()).filter(|name| !is_configured(name)).collect();
    let known = served.len() + plain.len();
    if !plain.keys().all(|name| is_configured(name)) || (known > 0 && missing.len() == known) {
        return Err(Failure::new(format!("none of the zones is one that this registry was used with: {}", names(missing))).hint(
            "what was pushed is there, and would not be found here: is this the right data directory, and the right configuration?",
        ));
    }
    if !missing.is_empty() {
        tracing::warn!(zones = names(missing), "zones are not configured any more: what is only there cannot be read");
    }
    Ok(())
}

fn names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    names.into_iter().map(|name| name.as_ref().to_owned()).collect::<Vec<_>>().join(", ")
}

fn no_ledger(error: Error) -> Failure {
    Failure::because("cannot tell which zones there are", &error)
}

fn refused(error: BuildError) -> Failure {
    let failure = Failure::because("cannot serve from these zones", &error);
    match error {
        BuildError::SamePlace(..) => failure.hint("give each [[zone]] a place of its own: two copies in one place are one copy"),
        _ => failure,
    }
}

async fn open_plain(config: &Config, zone: &Zone, may_make: bool, known: bool) -> Result<Arc<dyn BlobStore>, Failure> {
    let backend = backend::of(zone, &backend::Shared::of(config));
    match backend.open(may_make).await {
        Ok((store, _)) => Ok(store),
        Err(error) => {
            let failure = Failure::because(format!("cannot open zone {} in {}", zone.name, zone.place()), &error);
            let hint = backend.hint();
            Err(failure.hint(if !known { hint.to_owned() } else { format!("{hint}. {}", identity::deliberate(&config.data)) }))
        }
    }
}
