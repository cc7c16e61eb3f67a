//! What must hold once nothing goes wrong any more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use registry_core::Digest;
use replication::ledger::{Desired, Job, JobKind, JobState, Observed, Sighting};
use tokio::time::Instant;

use super::clients::Client;
use super::link::LATEST;
use super::operators::Orders;
use super::plan::{COMPARE, PROCESSES, REPOSITORIES, SETTLE, ZONE_NAMES, ZONES};
use super::world::{World, at_once, zone_id};

/// How often it is looked whether all is as it should be.
const LOOK: Duration = Duration::from_secs(3);

const NOT_WANTED: &str = "is to be there and not wanted";

const FOREIGN: &str = "is there and is not to be";

/// Lets everything come to rest, and compares it with what it should be.
pub(super) async fn settle(world: &Arc<World>, orders: &Orders) {
    let policy = *world.policy.lock().unwrap();
    for (process, order) in orders.iter().enumerate() {
        let running = world.running(process);
        if let Some(running) = &running {
            running.life.spare();
        }
        if running.is_some_and(|running| running.policy != policy) {
            let _ = order.send(());
        }
    }
    let start = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        doubt_what_is_bad(world);
        let differences = differences(world);
        if world.is_violated() {
            return;
        }
        // The others may be done before one that stands still goes on; nobody can be answered by that one.
        let stopped = (0..orders.len()).filter_map(|process| world.running(process)).any(|running| running.life.stands_still());
        if differences.is_empty() && !stopped {
            break;
        }
        if start.elapsed() > SETTLE {
            world.violation(format_args!("does not converge:\n    {}", differences.join("\n    ")));
            return;
        }
    }
    world.count("seconds to settle", start.elapsed().as_secs());
    read_everything(world).await;
}

/// As a scrub would do: a copy that went bad, and that nobody has read since, is looked at.
fn doubt_what_is_bad(world: &World) {
    for row in world.all_placements() {
        let Some(zone) = (0..ZONES).find(|zone| zone_id(*zone) == row.zone) else { continue };
        let there = world.media[zone].all();
        if row.observed == Observed::Present
            && !row.leased
            && there.get(&row.digest).is_some_and(|found| Some(found) != world.content(&row.digest).as_ref())
        {
            if world.plan.honest {
                world.violation(format_args!("zone {zone} has wrong bytes of {} as good ones", world.name_of(&row.digest)));
            }
            let suspect = Sighting::Suspect("scrubbed".to_owned());
            world.ledger.observe(&row.digest, &row.zone, row.generation, &suspect).now_or_never().unwrap().unwrap();
        }
    }
}

/// Where things are not as they should be.
fn differences(world: &World) -> Vec<String> {
    let mut differences = Vec::new();
    let held = at_once(world.metadata.held_blobs(None, 10_000)).unwrap();
    let media: Vec<_> = world.media.iter().map(super::medium::Medium::all).collect();
    let mut rows = world.all_placements();
    let overslept = world.overslept.load(Ordering::Relaxed)
        || (0..PROCESSES).filter_map(|process| world.running(process)).any(|running| running.life.overslept());
    // Who goes on when all it had said was collected long ago may say once more what it means to write, and fail. Nobody knows of that but the ledger; it is
    // for a comparison of the ledger with the metadata to find, and there is nothing that could be wrong.
    let is_forgotten = |digest: &Digest| overslept && !held.iter().any(|held| held.digest == *digest);
    rows.retain(|row| !is_forgotten(&row.digest) || media.iter().any(|media| media.contains_key(&row.digest)));
    for row in rows.iter().filter(|row| !row.is_converged()) {
        differences.push(format!("{} is not done: {row:?}", world.name_of(&row.digest)));
    }
    // The next ones begin by themselves.
    let is_young = |job: &Job| job.kind == JobKind::Reconcile && world.clock.now().since(job.begun_at) < COMPARE * 2;
    for job in at_once(world.ledger.jobs(1000)).unwrap().iter().filter(|job| job.is_open() && !is_young(job)) {
        differences.push(format!("a job is not done: {job:?}"));
    }
    let is_refused = |job: &Job| job.error.as_ref().is_some_and(|error| error.contains("known to nobody"));
    for job in at_once(world.ledger.jobs(1000)).unwrap().iter().filter(|job| job.state == JobState::Failed && !is_refused(job)) {
        world.violation(format_args!("a job failed: {job:?}"));
    }
    let policy = &world.plan.policies[*world.policy.lock().unwrap()];
    for zone in 0..ZONES {
        let wanted: BTreeSet<_> = held
            .iter()
            .filter(|held| held.repositories.iter().any(|name| policy.rule(Some(name.as_str())).zones().contains(ZONE_NAMES[zone])))
            .map(|held| held.digest)
            .collect();
        let present = |row: &&replication::ledger::Placement| row.desired == Desired::Present && row.zone == zone_id(zone);
        let desired: BTreeSet<_> = rows.iter().filter(present).map(|row| row.digest).collect();
        let there: BTreeSet<_> = media[zone].keys().copied().collect();
        let names = |digests: Vec<&Digest>| digests.into_iter().map(|digest| world.name_of(digest)).collect::<Vec<_>>();
        for (what, one, other) in [
            ("is wanted and not to be there", &wanted, &desired),
            (NOT_WANTED, &desired, &wanted),
            ("is to be there and is not", &desired, &there),
            (FOREIGN, &there, &desired),
        ] {
            let is_excused = |digest: &Digest| match what {
                NOT_WANTED => is_forgotten(digest),
                // While nobody holds anything, nothing can be told from what the metadata do not know.
                FOREIGN => held.is_empty() && !rows.iter().any(|row| row.digest == *digest),
                _ => false,
            };
            let found: Vec<_> = one.difference(other).filter(|digest| !is_excused(digest)).collect();
            if !found.is_empty() {
                differences.push(format!("zone {zone}: {:?} {what}", names(found)));
            }
        }
        for (digest, found) in &media[zone] {
            if Some(found) != world.content(digest).as_ref() {
                differences.push(format!("zone {zone}: {} has wrong bytes", world.name_of(digest)));
            }
        }
        let staged = world.media[zone].staged();
        if staged > 0 {
            differences.push(format!("zone {zone}: {staged} uploads are left"));
        }
    }
    differences
}

/// Everything that was acknowledged and not deleted can be read through every process.
async fn read_everything(world: &Arc<World>) {
    world.links.iter().flatten().for_each(|link| link.calm());
    // What is still on its way arrives.
    tokio::time::sleep(LATEST).await;
    let images: Vec<_> = world.model().images.iter().map(|(key, image)| (*key, image.clone())).collect();
    world.count("images at the end", images.len() as u64);
    for process in 0..PROCESSES {
        let mut client = Client::new(world, 100 + process as u64).only(process);
        for (key, image) in &images {
            if !client.pull_image(*key, image).await {
                world.violation(format_args!("{} cannot be read by process {process}", world.name_of(&key.1)));
            }
        }
        for index in 0..REPOSITORIES.len() {
            client.push_in_peace(index).await;
        }
    }
}
