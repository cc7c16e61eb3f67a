//! [`Plan`]: what a seed decides beforehand.

use std::time::Duration;

use bytes::Bytes;
use registry_core::testing::Rng;
use replication::{Options, PlacementPolicy, PolicyRule, TooFewCopies, ZoneSet};

pub(super) const ZONES: usize = 3;
pub(super) const ZONE_NAMES: [&str; ZONES] = ["boston", "frankfurt", "tokyo"];
pub(super) const PROCESSES: usize = 3;
pub(super) const CLIENTS: u64 = 4;
pub(super) const REPOSITORIES: [&str; 4] = ["eu/a", "us/b", "all/c", "all/d"];

/// How long clients are at work, and things go wrong.
pub(super) const ACTIVE: Duration = Duration::from_secs(60);
/// How often each zone is compared with the ledger and the metadata. One comparison takes a minute, with answers as slow as those are here.
pub(super) const COMPARE: Duration = Duration::from_secs(120);
/// How long it may take afterwards until everything is as it should be.
pub(super) const SETTLE: Duration = Duration::from_secs(400);

pub(super) const LEASE: Duration = Duration::from_secs(2);
pub(super) const GRACE: Duration = Duration::from_secs(14);
pub(super) const NARROW: Duration = Duration::from_secs(10);
/// A process that stands still for longer than this may overrun any of these times: what it does afterwards may leave something behind if it then dies.
pub(super) const LONG: Duration = Duration::from_millis(8_500);
pub(super) const UPLOAD_EXPIRY: Duration = Duration::from_secs(10);

/// What a seed decides beforehand.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) contents: Vec<Bytes>,
    /// One after the other.
    pub(super) policies: Vec<PlacementPolicy>,
    /// Which zones are disks; the others are object storages.
    pub(super) disks: [bool; ZONES],
    pub(super) latency: [[Duration; ZONES]; PROCESSES],
    pub(super) database: Duration,
    /// How often what was sent arrives quite late.
    pub(super) late: f64,
    pub(super) hedge: bool,
    pub(super) measured: bool,
    pub(super) trash: Duration,
    pub(super) replay: usize,
    /// Reads never lie, and media do not rot.
    pub(super) honest: bool,
    /// How many things go wrong.
    pub(super) episodes: u64,
}

fn milliseconds(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Some of the zones, one at least.
fn some_zones(rng: &mut Rng) -> ZoneSet {
    let bits = 1 + rng.below((1 << ZONES) - 1);
    let named = ZONE_NAMES.iter().enumerate().filter(|(zone, _)| bits & (1 << zone) != 0);
    ZoneSet::Named(named.map(|(_, name)| (*name).to_owned()).collect())
}

fn policy(rng: &mut Rng) -> PlacementPolicy {
    let mut rules = Vec::new();
    for pattern in ["eu/**", "us/**", "all/c"] {
        let zones = if rng.chance(0.2) { ZoneSet::All } else { some_zones(rng) };
        let most = match &zones {
            ZoneSet::Named(names) => names.len(),
            _ => ZONES,
        };
        let mut rule = PolicyRule::new(pattern.parse().unwrap(), zones).with_min_copies_timeout(Duration::from_secs(10));
        if most > 1 && rng.chance(0.3) {
            rule = rule.with_min_copies(2);
        }
        if rng.chance(0.5) {
            rule = rule.with_too_few_copies(TooFewCopies::Warn);
        }
        rules.push(rule);
    }
    PlacementPolicy::new(rules)
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let rng = &mut Rng::new(seed.wrapping_mul(0x9e37).wrapping_add(1));
        let sizes = [0, 24, 60, 180, 300, 520, 1100];
        let contents = sizes.iter().map(|size| Bytes::from(rng.bytes(*size))).collect();
        let policies = (0..1 + rng.below(3)).map(|_| policy(rng)).collect();
        let disks = [rng.chance(0.3), rng.chance(0.3), rng.chance(0.3)];
        let latency = std::array::from_fn(|_| std::array::from_fn(|_| milliseconds(2 + rng.below(60))));
        Self {
            contents,
            policies,
            disks,
            latency,
            database: milliseconds(1 + rng.below(20)),
            late: if rng.chance(0.3) { 0.3 } else { 0.04 },
            hedge: rng.chance(0.3),
            measured: rng.chance(0.3),
            trash: if rng.chance(0.5) { Duration::ZERO } else { Duration::from_secs(3) },
            replay: if rng.chance(0.5) { 100 } else { 2_000 },
            honest: rng.chance(0.5),
            episodes: 6 + rng.below(12),
        }
    }

    /// What each process of it is given.
    pub(super) fn options(&self, seed: u64) -> Options {
        let mut options = Options::default();
        options.request_timeout = milliseconds(800);
        options.stall_timeout = milliseconds(1_200);
        options.commit_timeout = Duration::from_secs(3);
        options.hedge_after = self.hedge.then_some(milliseconds(100));
        options.probe_interval = Duration::from_secs(5);
        options.reprobe_interval = milliseconds(500);
        options.deletion_patience = Duration::from_secs(5);
        options.trash_delay = self.trash;
        options.narrow_after = NARROW;
        options.lease = LEASE;
        options.poll_interval = milliseconds(700);
        options.verified_within = Duration::ZERO;
        options.look_again = Duration::from_secs(2);
        options.backoff = milliseconds(200);
        options.max_backoff = Duration::from_secs(5);
        options.copy_whole = 256;
        options.checkpoint = 200;
        options.replay = self.replay;
        options.reconcile_interval = Duration::from_secs(8);
        options.keep_deleted = Duration::from_secs(40);
        options.compare_interval = COMPARE;
        options.scrub_interval = Duration::ZERO;
        options.keep_unknown = Duration::from_secs(10);
        options.background_share = 1.0;
        options.seed = Some(seed);
        options
    }
}
