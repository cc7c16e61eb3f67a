//! What goes wrong, and what operators do meanwhile.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use registry_core::Result;
use registry_core::testing::{FaultPlan, Op, Rng};
use replication::ReplicatedStore;
use replication::ledger::{JobKind, JobState, Observed};
use tokio::sync::mpsc;

use super::life::When;
use super::link::Trouble;
use super::plan::{ACTIVE, LEASE, LONG, PROCESSES, Plan, ZONE_NAMES, ZONES};
use super::world::{World, zone_id};

/// Orders to each process's supervisor.
pub(super) type Orders = Vec<mpsc::UnboundedSender<()>>;

/// Something that goes wrong for a while.
#[derive(Clone, Debug)]
enum Episode {
    /// A process dies.
    Crash {
        process: usize,
        when: When,
    },
    /// A process stands still.
    Stop {
        process: usize,
        when: When,
        pause: Duration,
    },
    /// An orderly restart.
    Restart {
        process: usize,
    },
    /// All processes are restarted one after the other, with the next policy.
    Policy,
    /// Somebody compares places with policies.
    Reconcile {
        process: usize,
    },
    /// Between one process and one zone.
    Partition {
        process: usize,
        zone: usize,
        trouble: Trouble,
    },
    /// Between all processes and one zone.
    Zone {
        zone: usize,
        trouble: Trouble,
    },
    /// The zone itself.
    Faults {
        zone: usize,
        plan: FaultPlan,
        name: &'static str,
    },
    /// The database, for one process.
    Ledger {
        process: usize,
        trouble: Trouble,
    },
    Metadata {
        process: usize,
        trouble: Trouble,
    },
    /// A zone's disk is not there, and its mount point is.
    Unmounted {
        zone: usize,
    },
    /// A copy goes bad.
    Rot {
        zone: usize,
    },
    /// A zone is compared with what is known of it.
    Compare {
        process: usize,
        zone: usize,
    },
    /// A zone is filled with what is to be there.
    Fill {
        process: usize,
        zone: usize,
    },
    /// All that is in a zone is read.
    Scrub {
        process: usize,
        zone: usize,
    },
    /// Nothing new is to be written to a zone for a while.
    Cordon {
        process: usize,
        zone: usize,
    },
    /// A zone is to be emptied; after a while somebody calls it off, wherever it is by then.
    Drain {
        process: usize,
        zone: usize,
    },
}

fn trouble(rng: &mut Rng) -> Trouble {
    match rng.below(4) {
        0 => Trouble::Down,
        1 => Trouble::BlackHole,
        2 => Trouble::Slow(Duration::from_millis(200 + rng.below(1_500))),
        _ => Trouble::Lossy { before: 0.15, after: 0.15 },
    }
}

fn faults(rng: &mut Rng, plan: &Plan) -> (FaultPlan, &'static str) {
    let faults = FaultPlan::new(rng.next_u64());
    match rng.below(if plan.honest { 4 } else { 6 }) {
        0 => (faults.with_errors_after(0.3), "lost acknowledgements"),
        1 => (faults.with_cuts(0.4), "cut streams"),
        2 => (faults.with_space(rng.below(600)), "full disks"),
        3 => (faults.with_errors_before(0.3), "errors"),
        4 => (faults.only([Op::Read]).with_flips(0.3), "flips"),
        _ => (faults.only([Op::Read]).with_truncation(0.3), "truncations"),
    }
}

/// Steps that are worth being met at.
const STEPS: [&str; 26] = [
    "put",
    "write",
    "suspend",
    "resume",
    "commit",
    "delete_before",
    "discard",
    "intend",
    "committed",
    "condemn",
    "retain",
    "retarget",
    "claim",
    "renew",
    "complete",
    "defer",
    "observe",
    "stray",
    "list",
    "take_job",
    "save_job",
    "end_job",
    "unknown_blobs",
    "intend_blob",
    "link_blob",
    "put_manifest",
];

fn when(rng: &mut Rng) -> When {
    if rng.chance(0.4) {
        return When::Steps(rng.below(200));
    }
    let step = STEPS[usize::try_from(rng.below(STEPS.len() as u64)).unwrap()];
    When::At { step, skip: rng.below(3) }
}

/// Longer than a lease; now and then longer than anybody may.
fn pause(rng: &mut Rng) -> Duration {
    let leases = 1.0 + 3.0 * rng.below(100) as f64 / 100.0;
    if rng.chance(0.3) { LONG * 2 + LEASE.mul_f64(2.0 * leases) } else { LEASE.mul_f64(leases) }
}

fn draw(rng: &mut Rng, plan: &Plan) -> Episode {
    let process = usize::try_from(rng.below(PROCESSES as u64)).unwrap();
    let zone = usize::try_from(rng.below(ZONES as u64)).unwrap();
    match rng.below(if plan.honest { 33 } else { 37 }) {
        30 => Episode::Compare { process, zone },
        32 => Episode::Scrub { process, zone },
        31 => Episode::Fill { process, zone },
        26 => Episode::Cordon { process, zone },
        27..30 => Episode::Drain { process, zone },
        19..22 => Episode::Unmounted { zone },
        22..26 => Episode::Stop { process, when: when(rng), pause: pause(rng) },
        0..5 => Episode::Crash { process, when: when(rng) },
        5..8 => Episode::Stop { process, when: when(rng), pause: pause(rng) },
        8 => Episode::Restart { process },
        9..11 => Episode::Policy,
        11 => Episode::Reconcile { process },
        12 => Episode::Partition { process, zone, trouble: trouble(rng) },
        13..15 => Episode::Zone { zone, trouble: trouble(rng) },
        15..17 => {
            let (plan, name) = faults(rng, plan);
            Episode::Faults { zone, plan, name }
        }
        17 => Episode::Ledger { process, trouble: trouble(rng) },
        18 => Episode::Metadata { process, trouble: trouble(rng) },
        _ => Episode::Rot { zone },
    }
}

/// All that goes wrong in a run.
pub(super) async fn run(world: Arc<World>, orders: Orders) {
    let mut rng = Rng::new(world.seed ^ 0x0bad);
    let mut episodes = Vec::new();
    for _ in 0..world.plan.episodes {
        let start = Duration::from_millis(rng.below(u64::try_from(ACTIVE.as_millis()).unwrap()));
        let length = Duration::from_millis(500 + rng.below(15_000));
        let episode = draw(&mut rng, &world.plan);
        // What was lately pushed does not leave a zone before a while.
        let length = if matches!(episode, Episode::Drain { .. }) { length * 3 } else { length };
        let (world, orders) = (Arc::clone(&world), orders.clone());
        episodes.push(tokio::spawn(async move {
            tokio::time::sleep(start).await;
            happen(&world, &orders, episode, length.min(ACTIVE - start)).await;
        }));
    }
    for episode in episodes {
        episode.await.unwrap();
    }
}

async fn happen(world: &Arc<World>, orders: &Orders, episode: Episode, length: Duration) {
    world.say(format_args!("* {episode:?} for {length:?}"));
    let for_a_while = |links: Vec<Arc<super::link::Link>>, trouble: Trouble| async move {
        links.iter().for_each(|link| link.set(trouble));
        tokio::time::sleep(length).await;
        links.iter().for_each(|link| link.set(Trouble::None));
    };
    match episode {
        Episode::Crash { process, when } => {
            if let Some(running) = world.running(process) {
                running.life.kill_at(when);
                world.count("crashes", 1);
            }
        }
        Episode::Stop { process, when, pause } => {
            if let Some(running) = world.running(process) {
                running.life.stop_at(when, pause);
            }
        }
        Episode::Restart { process } => drop(orders[process].send(())),
        Episode::Policy => {
            {
                let mut policy = world.policy.lock().unwrap();
                if *policy + 1 == world.plan.policies.len() {
                    return;
                }
                *policy += 1;
            }
            world.note("policy changes", "");
            for order in orders {
                let _ = order.send(());
                let pause = world.rng().below(4_000);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
        Episode::Reconcile { process } => {
            if let Some(running) = world.running(process) {
                let reconciled = tokio::select! {
                    biased;
                    reconciled = running.store.reconcile_policies() => reconciled,
                    () = running.life.died() => return,
                };
                world.note("reconciliations", format_args!("{reconciled:?}"));
            }
        }
        Episode::Partition { process, zone, trouble } => {
            for_a_while(vec![Arc::clone(&world.links[process][zone])], trouble).await;
        }
        Episode::Zone { zone, trouble } => {
            for_a_while(world.links.iter().map(|links| Arc::clone(&links[zone])).collect(), trouble).await;
        }
        Episode::Faults { zone, plan, name } => {
            world.count(name, 1);
            world.zones[zone].set_plan(plan);
            tokio::time::sleep(length).await;
            world.zones[zone].set_plan(FaultPlan::default());
        }
        Episode::Ledger { process, trouble } => {
            if let Some(running) = world.running(process) {
                running.life.disturb();
            }
            for_a_while(vec![Arc::clone(&world.ledger_links[process])], trouble).await;
        }
        Episode::Metadata { process, trouble } => for_a_while(vec![Arc::clone(&world.metadata_links[process])], trouble).await,
        Episode::Unmounted { zone } => {
            world.note("disks unmounted", zone);
            world.mounted[zone].store(false, Ordering::Relaxed);
            tokio::time::sleep(length).await;
            world.mounted[zone].store(true, Ordering::Relaxed);
        }
        Episode::Rot { zone } => rot(world, zone),
        Episode::Compare { process, zone } => {
            let name = ZONE_NAMES[zone];
            order(world, process, "comparisons", |store| async move { store.reconcile(name).await.map(drop) }).await;
        }
        Episode::Fill { process, zone } => {
            let name = ZONE_NAMES[zone];
            order(world, process, "fills", |store| async move { store.fill(name).await.map(drop) }).await;
        }
        Episode::Scrub { process, zone } => {
            let name = ZONE_NAMES[zone];
            order(world, process, "scrubs", |store| async move { store.scrub(name, Duration::ZERO).await.map(drop) }).await;
        }
        Episode::Cordon { process, zone } => {
            let name = ZONE_NAMES[zone];
            order(world, process, "cordons", |store| async move { store.cordon(name).await }).await;
            tokio::time::sleep(length).await;
            uncordon(world, zone).await;
        }
        Episode::Drain { process, zone } => {
            let name = ZONE_NAMES[zone];
            order(world, process, "drains", |store| async move { store.drain(name).await.map(drop) }).await;
            tokio::time::sleep(length).await;
            uncordon(world, zone).await;
            let jobs = world.ledger.jobs(1000).now_or_never().unwrap().unwrap();
            let last = jobs.iter().find(|job| job.kind == JobKind::Drain && job.zone == Some(zone_id(zone)));
            world.count("drained", u64::from(last.is_some_and(|job| job.state == JobState::Done)));
        }
    }
}

/// Has a process do something, if it is there and lives long enough; whether it could.
async fn order<F: Future<Output = Result<()>>>(
    world: &World,
    process: usize,
    what: &'static str,
    command: impl FnOnce(ReplicatedStore) -> F,
) -> bool {
    let Some(running) = world.running(process) else { return false };
    let done = tokio::select! {
        biased;
        done = command(running.store.clone()) => done,
        () = running.life.died() => return false,
    };
    world.note(if done.is_ok() { what } else { "orders refused" }, format_args!("{what} {done:?}"));
    done.is_ok()
}

/// All is as it was before somebody cordoned or drained the zone: whoever is there sees to that.
async fn uncordon(world: &World, zone: usize) {
    let name = ZONE_NAMES[zone];
    for process in (0..PROCESSES).cycle() {
        if order(world, process, "uncordons", |store| async move { store.uncordon(name).await }).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Turns a bit of a copy that is not the only good one, in any zone that may have to do without the others.
fn rot(world: &World, zone: usize) {
    if world.plan.honest {
        return;
    }
    let others = |digest: &registry_core::Digest| (0..ZONES).filter(|other| *other != zone && world.is_good(*other, digest)).count();
    // Once another copy is on its way out because this one was just found right, it is too late to be saved.
    let rows = world.all_placements();
    let going = |digest: &registry_core::Digest| rows.iter().any(|row| row.digest == *digest && row.observed == Observed::Deleting);
    let everywhere = |digest: &&registry_core::Digest| world.is_good(zone, digest) && others(digest) == ZONES - 1 && !going(digest);
    if let Some(digest) = world.blobs.iter().find(everywhere) {
        world.note("rot", format_args!("{} in zone {zone}", world.name_of(digest)));
        world.media[zone].rot(digest);
    }
}
