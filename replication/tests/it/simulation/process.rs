//! A process: a registry over all zones, its workers and its garbage collection; and the supervisor that starts it again whenever it has died.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use registry_core::{BlobStore, GcOptions, MetadataStore, Registry, VerifyReads};
use replication::{BuildError, Closest, PlacementLedger, PlacementPolicy, ReplicatedStore, Zone};
use tokio::sync::mpsc;

use super::life::Life;
use super::mutants::Mutant;
use super::plan::{GRACE, LEASE, REPOSITORIES, UPLOAD_EXPIRY, ZONE_NAMES, ZONES};
use super::remote::Remote;
use super::world::{Running, World};

/// How often a process collects garbage.
const COLLECT: Duration = Duration::from_secs(2);

/// Keeps a process running, from one death to the next. An order stops it in an orderly way, and starts it with the policy of the day.
pub(super) async fn supervise(world: Arc<World>, process: usize, mut orders: mpsc::UnboundedReceiver<()>) {
    for run in 0.. {
        let life = Arc::new(Life::new(format!("p{process}.{run}")));
        let policy = *world.policy.lock().unwrap();
        allow(&world, policy);
        let Some(store) = start(&world, process, run, policy, &life).await else { continue };
        let metadata: Arc<dyn MetadataStore> =
            Arc::new(Remote::new(&life, &world.metadata_links[process], &world.ledger_links[process], Arc::clone(&world.metadata)));
        let registry = Registry::builder(Arc::new(store.clone()), metadata)
            .clock(Arc::clone(&world.clock))
            .verify_reads(VerifyReads::Never)
            .grace(GRACE)
            .trash_delay(Duration::from_millis(500))
            .delete_lease(LEASE)
            .deletion_patience(Duration::from_secs(4))
            .upload_expiry(UPLOAD_EXPIRY)
            .build();
        let workers = store.start();
        let collector = tokio::spawn(collect(Arc::clone(&world), registry.clone()));
        world.note("starts", format_args!("{} policy {policy}", life.name));
        world.processes.lock().unwrap()[process] = Some(Running { registry, store, life: Arc::clone(&life), policy });
        tokio::select! {
            biased;
            () = life.died() => drop(workers),
            _ = orders.recv() => {
                tokio::select! {
                    biased;
                    () = life.died() => {}
                    () = workers.stop() => world.note("orderly stops", &life.name),
                    () = tokio::time::sleep(Duration::from_secs(6)) => {}
                }
                life.kill();
            }
        }
        // All that is left of it are calls that never go on.
        collector.abort();
        world.count("stops", life.stops());
        world.overslept.fetch_or(life.overslept(), Ordering::Relaxed);
        world.note("deaths", &life.name);
        world.processes.lock().unwrap()[process] = None;
        let pause = world.rng().below(2_000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// From now on the blobs of each repository may be where this policy wants them.
fn allow(world: &World, policy: usize) {
    let mut model = world.model();
    for (index, repository) in REPOSITORIES.iter().enumerate() {
        let rule = world.plan.policies[policy].rule(Some(repository));
        let zones = (0..ZONES).filter(|zone| rule.zones().contains(ZONE_NAMES[*zone]));
        model.allowed.entry(index).or_default().extend(zones);
    }
}

/// The same zones, and no more than one copy is waited for.
fn one_copy(policy: &PlacementPolicy) -> PlacementPolicy {
    PlacementPolicy::new(policy.rules().iter().map(|rule| rule.clone().with_min_copies(1)).collect())
}

async fn start(world: &Arc<World>, process: usize, run: u64, policy: usize, life: &Arc<Life>) -> Option<ReplicatedStore> {
    loop {
        let seed = world.seed ^ (process as u64 + 1) << 40 ^ run << 50;
        let ledger: Arc<dyn PlacementLedger> =
            Arc::new(Remote::new(life, &world.ledger_links[process], &world.ledger_links[process], Arc::clone(&world.ledger)));
        let metadata: Arc<dyn MetadataStore> =
            Arc::new(Remote::new(life, &world.metadata_links[process], &world.ledger_links[process], Arc::clone(&world.metadata)));
        let rules = match world.mutant {
            Mutant::NoPolicy => PlacementPolicy::default(),
            Mutant::NoCopiesAwaited => one_copy(&world.plan.policies[policy]),
            _ => world.plan.policies[policy].clone(),
        };
        let mut builder = ReplicatedStore::builder(ledger)
            .metadata(metadata)
            .clock(Arc::clone(&world.clock))
            .policy(rules)
            .options(world.plan.options(seed));
        if !world.plan.measured {
            let names = ZONE_NAMES.iter().cycle().skip(process).take(ZONES);
            builder = builder.closest(Closest::Preference(names.map(ToString::to_string).collect()));
        }
        for (zone, name) in ZONE_NAMES.iter().enumerate() {
            let store: Arc<dyn BlobStore> = Arc::new(world.zones[zone].clone());
            let store = Remote::new(life, &world.links[process][zone], &world.ledger_links[process], store);
            let mut zone = Zone::new(*name, Arc::new(store));
            if world.mutant == Mutant::NoVerification {
                zone = zone.with_verify_reads(VerifyReads::Never);
            }
            builder = builder.zone(zone);
        }
        tokio::select! {
            biased;
            () = life.died() => return None,
            built = builder.build() => match built {
                Ok(store) => return Some(store),
                Err(BuildError::Ledger(_)) => {}
                Err(error) => world.violation(format_args!("a process does not start: {error:?}")),
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn collect(world: Arc<World>, registry: Registry) {
    loop {
        let pause = COLLECT.mul_f64(0.5) + Duration::from_millis(world.rng().below(2_000));
        tokio::time::sleep(pause).await;
        match registry.collect_garbage(&GcOptions::default()).await {
            Ok(report) => {
                world.count("links expired", report.links);
                world.count("blobs collected", report.deleted);
            }
            Err(error) => world.say(format_args!("a collection failed: {error}")),
        }
    }
}
