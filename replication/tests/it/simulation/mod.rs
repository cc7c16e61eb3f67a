//! The shipped code in a world that is made of one number: several processes over zones, a ledger and metadata in memory, with a network between them that
//! is slow, loses things and breaks, with clients who try again, operators who change policies, and processes that die or stand still between any two
//! steps. Time is paused, so that minutes take milliseconds; a seed gives the same run every time.
//!
//! | file | what it is |
//! |---|---|
//! | `plan` | what a seed decides beforehand |
//! | `world` | what outlives every process, and what is known of the truth |
//! | `life`, `link`, `remote` | deaths and stops; the network; what a process has of a zone, the ledger, the metadata |
//! | `medium`, `object_zone`, `book` | the bytes of a zone and the ledger, and who watches them at every moment |
//! | `process`, `clients`, `operators` | who acts |
//! | `checks` | what must hold in the end |
//! | `mutants` | processes that are wrong on purpose, to see that it is noticed |

mod book;
mod checks;
mod clients;
mod life;
mod link;
mod medium;
mod meter;
mod mutants;
mod object_zone;
mod operators;
mod plan;
mod process;
mod remote;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use self::clients::Client;
use self::meter::Meter;
use self::mutants::Mutant;
use self::plan::{CLIENTS, PROCESSES};
use self::world::{Counts, World};

/// How many seeds are run.
const SEEDS: u64 = 1_000;

/// Threads that run them.
const THREADS: usize = 2;

/// What a run came to.
struct Run {
    violations: Vec<String>,
    trace: Vec<String>,
    counts: Counts,
}

/// One run.
fn simulate(seed: u64, mutant: Mutant, verbose: bool) -> Run {
    let meter = Meter::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&meter, || {
        runtime.block_on(async {
            let world = World::new(seed, mutant, verbose);
            let mut orders = Vec::new();
            for process in 0..PROCESSES {
                let (order, orders_of) = tokio::sync::mpsc::unbounded_channel();
                orders.push(order);
                drop(tokio::spawn(process::supervise(Arc::clone(&world), process, orders_of)));
            }
            let clients: Vec<_> = (0..CLIENTS).map(|number| tokio::spawn(Client::new(&world, number).run())).collect();
            let operators = tokio::spawn(operators::run(Arc::clone(&world), orders.clone()));
            for client in clients {
                client.await.unwrap();
            }
            operators.await.unwrap();
            checks::settle(&world, &orders).await;
            meter.tell(|name, n| world.count(name, n));
            let (violations, trace, counts) = world.results();
            Run { violations, trace, counts }
        })
    })
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Runs all seeds on some threads, until one is found to `stop` at.
fn all(seeds: std::ops::Range<u64>, mutant: Mutant, stop: impl Fn(&Run) -> bool + Sync) -> (Counts, Option<u64>) {
    let (next, found, done) = (AtomicU64::new(seeds.start), AtomicU64::new(u64::MAX), AtomicBool::new(false));
    let counts = std::thread::scope(|scope| {
        let work = || {
            let mut counts = Counts::new();
            while !done.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    break;
                }
                let run = std::panic::catch_unwind(|| simulate(seed, mutant, false)).unwrap_or_else(|_| panic!("seed {seed} panicked"));
                if stop(&run) {
                    found.fetch_min(seed, Ordering::Relaxed);
                    done.store(true, Ordering::Relaxed);
                }
                for (what, n) in run.counts {
                    *counts.entry(what).or_default() += n;
                }
            }
            counts
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut all = Counts::new();
        for thread in threads {
            for (what, n) in thread.join().unwrap() {
                *all.entry(what).or_default() += n;
            }
        }
        all
    });
    let found = found.into_inner();
    (counts, (found < u64::MAX).then_some(found))
}

/// Fails with everything there is to know of a seed.
fn report(seed: u64) {
    let run = simulate(seed, Mutant::None, true);
    let command = format!("REGISTRY_TEST_SEED={seed} cargo test --release -p replication --test it simulation::nothing");
    println!("{}", run.trace.join("\n"));
    assert!(run.violations.is_empty(), "seed {seed} fails; its trace is above; replay it with\n  {command}\n{}", run.violations.join("\n"));
}

/// What has to happen in a thousand seeds, or they show nothing.
const HAPPENS: [&str; 39] = [
    "checkpoints",
    "commits overtaken",
    "comparisons",
    "cordons",
    "crashes",
    "cut streams",
    "damage noticed",
    "drained",
    "drains",
    "falls over: corrupt",
    "falls over: cut",
    "falls over: timeout",
    "fills",
    "flips",
    "full disks",
    "intents fenced",
    "leases lost",
    "lost acknowledgements",
    "mounts",
    "narrowings",
    "orderly stops",
    "policy changes",
    "pulls",
    "quarantines",
    "races for an upload",
    "reconciliations",
    "resumes of a copy",
    "rot",
    "scrubs",
    "stops",
    "strays",
    "suspicions",
    "truncations",
    "uncordons",
    "uploads discarded",
    "verified",
    "warned",
    "widenings",
    "work overtaken",
];

#[test]
fn nothing_that_was_acknowledged_is_lost_and_everything_converges_in_any_interleaving() {
    if let Some(seed) = from_environment("REGISTRY_TEST_SEED") {
        return report(seed);
    }
    let start = std::time::Instant::now();
    let first = from_environment("REGISTRY_TEST_FIRST_SEED").unwrap_or(0);
    let count = from_environment("REGISTRY_TEST_SEEDS").unwrap_or(SEEDS);
    let (counts, failed) = all(first..first + count, Mutant::None, |run| !run.violations.is_empty());
    if let Some(seed) = failed {
        report(seed);
        panic!("seed {seed} failed, and does not when it is run again: it is not deterministic");
    }
    println!("{count} seeds in {:?}: {counts:#?}", start.elapsed());
    let never: Vec<_> = HAPPENS.iter().filter(|what| !counts.contains_key(*what)).collect();
    assert!(count < SEEDS || never.is_empty(), "the simulation has ceased to test something: {never:?} never happens");
}

fn is_caught(mutant: Mutant) {
    let (_, caught) = all(0..SEEDS, mutant, |run| !run.violations.is_empty());
    println!("{mutant:?} is caught by seed {caught:?}");
    if let Some(seed) = caught {
        println!("{}", simulate(seed, mutant, false).violations.join("\n"));
    }
    assert!(caught.is_some(), "{mutant:?} is not caught within {SEEDS} seeds");
}

macro_rules! mutants {
    ($($name:ident: $mutant:ident;)*) => {
        $(#[test]
        fn $name() {
            is_caught(Mutant::$mutant);
        })*
    };
}

mutants! {
    a_ledger_that_hears_of_blobs_after_their_bytes_is_caught: NoIntend;
    commits_under_any_generation_are_caught: NoGenerationOfCommits;
    a_delete_without_a_verified_copy_elsewhere_is_caught: DeleteWithoutCopy;
    writers_of_one_upload_without_epochs_are_caught: NoWriterEpoch;
    writers_that_do_not_wait_for_deletes_are_caught: NoFence;
    deletes_whose_fence_is_not_kept_up_are_caught: NoRenewalOfDeletes;
    doubts_that_nobody_writes_down_are_caught: NoSuspicion;
    reads_that_are_not_verified_are_caught: NoVerification;
    writes_to_any_zone_are_caught: NoPolicy;
    images_that_are_acknowledged_too_soon_are_caught: NoCopiesAwaited;
    copies_that_are_announced_too_soon_are_caught: CopiedTooSoon;
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in 0..20 {
        let (first, second) = (simulate(seed, Mutant::None, true), simulate(seed, Mutant::None, true));
        let differs = first.trace.iter().zip(&second.trace).position(|(first, second)| first != second);
        if let Some(at) = differs {
            let from = at.saturating_sub(10);
            panic!("seed {seed}:\n{}\n--\n{}", first.trace[from..=at].join("\n"), second.trace[from..=at].join("\n"));
        }
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
    }
}
