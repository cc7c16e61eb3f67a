//! [`Options`]: every time and size that can be chosen.

use std::time::Duration;

/// Which zone is the closest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closest {
    /// Those named here, in this order, and behind them the others in the order in which they were configured.
    Preference(Vec<String>),
    /// The one that was the quickest to answer of late.
    #[default]
    Measured,
}

/// Times and sizes. The defaults are for zones on the other side of an ocean.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// How long a zone may take to answer a small request, and to begin an answer; 10 seconds by default.
    pub request_timeout: Duration,
    /// How long a stream may stand still before the next zone is tried; 15 seconds by default. There is no limit to how long all of it takes.
    pub stall_timeout: Duration,
    /// How long a zone may take to make staged bytes a blob, or durable; 5 minutes by default.
    pub commit_timeout: Duration,
    /// When to ask the next zone too, if the first has not sent a byte of a blob yet; never by default.
    pub hedge_after: Option<Duration>,
    /// How many failures in a row make a zone be passed over. One request that was not answered in time is enough. 3 by default.
    pub breaker_threshold: u32,
    /// How often a zone is asked who it is while all is well; 30 seconds by default.
    pub probe_interval: Duration,
    /// How soon, at first, a zone that is passed over is asked again; 1 second by default, growing to `probe_interval`.
    pub reprobe_interval: Duration,
    /// How long a push waits for a delete of the same blob that is on its way; 20 seconds by default.
    pub deletion_patience: Duration,
    /// How long the bytes of a deleted blob, and copies that are not wanted any more, are kept; not at all by default, since the registry above has a delay
    /// of its own.
    pub trash_delay: Duration,
    /// How long a blob that somebody refers to, or means to, is kept where its policy does not want it any more; 10 minutes by default. Longer than a
    /// reference takes to be written down.
    pub narrow_after: Duration,
    /// How lately a copy that stays has to have been read and found right, for one that is not wanted to be deleted; an hour by default. If none was, one is
    /// read before.
    pub verified_within: Duration,
    /// For how long a worker claims a piece of work, before it has to say that it is still alive; a minute by default.
    pub lease: Duration,
    /// How often workers look for work that other processes have made; 2 seconds by default. Work that was made by this process begins at once.
    pub poll_interval: Duration,
    /// When to look again at what cannot be done for want of a source; 10 seconds by default.
    pub look_again: Duration,
    /// The first pause after a failure; it doubles with each further one, give or take a half. 1 second by default.
    pub backoff: Duration,
    /// The longest pause after a failure; 10 minutes by default.
    pub max_backoff: Duration,
    /// Up to how many bytes a blob is copied in one request; 16 MiB by default. Longer ones are copied in pieces.
    pub copy_whole: u64,
    /// After how many bytes of a longer one a copy writes down how far it is, and goes on from there after a crash; 256 MiB by default.
    pub checkpoint: u64,
    /// How many bytes of a push are kept in memory, so that it can begin anew in another zone when the first one fails; 1 MiB by default.
    pub replay: usize,
    /// How often places are compared with what the repositories' policies say; an hour by default.
    pub reconcile_interval: Duration,
    /// How long placements of deleted blobs are remembered; a day by default.
    pub keep_deleted: Duration,
    /// How long bytes that nobody knows are left in a zone before a [reconciliation](crate::ReplicatedStore::reconcile) deletes them; a day by default.
    pub keep_unknown: Duration,
    /// How often each zone is [compared](crate::ReplicatedStore::reconcile) with the ledger and the metadata, by itself: a week by default, give or take a
    /// sixth. Zero: never.
    pub compare_interval: Duration,
    /// How often all copies in a zone are read, if nothing else has read them: a month by default, give or take five days in thirty. Zero: never.
    pub scrub_interval: Duration,
    /// How long a copy that a zone is owed may wait before that is told as [`Event::Late`](crate::Event::Late); 15 minutes by default. Zero: never.
    pub lag_alert: Duration,
    /// Which share of its time a reconciliation or a scrub works, from above 0 to 1; a half by default. The rest it waits, so that others are served.
    pub background_share: f64,
    /// What jitter is drawn from; by chance by default. For tests that must run the same twice.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            request_timeout: seconds(10),
            stall_timeout: seconds(15),
            commit_timeout: seconds(300),
            hedge_after: None,
            breaker_threshold: 3,
            probe_interval: seconds(30),
            reprobe_interval: seconds(1),
            deletion_patience: seconds(20),
            trash_delay: Duration::ZERO,
            narrow_after: seconds(600),
            verified_within: seconds(3600),
            lease: seconds(60),
            poll_interval: seconds(2),
            look_again: seconds(10),
            backoff: seconds(1),
            max_backoff: seconds(600),
            copy_whole: 16 << 20,
            checkpoint: 256 << 20,
            replay: 1 << 20,
            reconcile_interval: seconds(3600),
            keep_deleted: seconds(24 * 3600),
            keep_unknown: seconds(24 * 3600),
            compare_interval: seconds(7 * 24 * 3600),
            scrub_interval: seconds(30 * 24 * 3600),
            lag_alert: seconds(15 * 60),
            background_share: 0.5,
            seed: None,
        }
    }
}
