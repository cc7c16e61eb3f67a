//! Long pieces of work: doing them, and telling how far they are.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use clap::Args;
use replication::{JobStatus, ReplicatedStore};
use serde_json::{Value, json};

use super::text::age;
use super::{print, print_json};
use crate::config::Config;
use crate::failure::Failure;
use crate::signals;
use crate::stores::{Purpose, Stores};

/// How often to look how far a job is.
const LOOK: Duration = Duration::from_millis(300);

/// How often to say so where nobody looks on.
const SAY: Duration = Duration::from_secs(5);

/// Jobs that are looked at for those that are waited for.
const JOBS: u32 = 100;

/// How to see to it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave the work to the servers that run, and do not wait for its end
    #[arg(long)]
    no_wait: bool,
    /// Print one JSON object for each job, when it has ended
    #[arg(long)]
    json: bool,
}

impl Options {
    /// Whether to print JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }
}

/// The zones that a command is about: one, or all.
pub(crate) fn zones(config: &Config, only: Option<&str>) -> Result<Vec<String>, Failure> {
    let names: Vec<_> = config.zones.iter().map(|zone| zone.name.clone()).collect();
    match only {
        None => Ok(names),
        Some(name) if names.iter().any(|known| known == name) => Ok(vec![name.to_owned()]),
        Some(name) => Err(Failure::new(format!("there is no zone {name}")).hint(format!("the zones are {}", names.join(", ")))),
    }
}

/// Begins a job in one zone or in each, and [follows](follow) them.
pub(crate) async fn in_zones(
    config: &Config,
    only: Option<&str>,
    options: &Options,
    begin: impl AsyncFn(&ReplicatedStore, &str) -> registry_core::Result<JobStatus>,
) -> Result<(), Failure> {
    let names = zones(config, only)?;
    let stores = Stores::open(config, Purpose::Use).await?;
    let followed = match &stores.zones {
        Some(zones) => match begin_all(&zones.replicated, &names, only.is_some(), begin).await {
            Ok(jobs) => follow(&zones.replicated, jobs, options).await,
            Err(failure) => Err(failure),
        },
        None => Err(Failure::new("there is only one zone").hint("what is in it could be compared with no other, and made again from none")),
    };
    stores.close().await;
    followed
}

async fn begin_all(
    store: &ReplicatedStore,
    names: &[String],
    is_named: bool,
    begin: impl AsyncFn(&ReplicatedStore, &str) -> registry_core::Result<JobStatus>,
) -> Result<Vec<JobStatus>, Failure> {
    let mut jobs = Vec::new();
    for zone in names {
        match begin(store, zone).await {
            Ok(job) => jobs.push(job),
            // One that nobody has ever seen, or that was removed: there is nothing to look at.
            Err(error) if !is_named && error.kind() == registry_core::ErrorKind::InvalidInput => {
                tracing::warn!(zone, %error, "passed over a zone");
            }
            Err(error) => return Err(Failure::because(format!("cannot begin with {zone}"), &error)),
        }
    }
    Ok(jobs)
}

/// Works until the jobs have ended, and tells how far they are; fails if one has.
pub(crate) async fn follow(store: &ReplicatedStore, mut jobs: Vec<JobStatus>, options: &Options) -> Result<(), Failure> {
    if options.no_wait {
        return tell(&jobs, options, |job| {
            let zone = job.zone.as_deref().unwrap_or("all zones");
            format!("The servers that run {} {zone} from now on; `registry status` tells how far they are.", job.kind)
        });
    }
    let stop = signals::stop_token()?;
    let workers = store.start();
    let mut screen = Screen::new(options, &jobs);
    while jobs.iter().any(JobStatus::is_open) {
        screen.show(&jobs)?;
        if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
            break;
        }
        match store.jobs(JOBS).await {
            Ok(known) => {
                for job in &mut jobs {
                    if let Some(now) = known.iter().find(|known| known.id == job.id) {
                        job.clone_from(now);
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot tell how far it is"),
        }
    }
    workers.stop().await;
    screen.clear()?;
    tell(&jobs, options, |job| line(job, None))?;
    match jobs.iter().find(|job| job.state != "done") {
        None => Ok(()),
        Some(job) if job.is_open() => {
            Err(Failure::new("stopped before its end").hint("servers that run go on with it; without any, give the same command again"))
        }
        Some(job) => {
            let (zone, why) = (job.zone.as_deref().unwrap_or("all zones"), job.error.as_deref().unwrap_or("somebody called it off"));
            Err(Failure::new(format!("{} {zone}: {}: {why}", job.kind, job.state)))
        }
    }
}

fn tell(jobs: &[JobStatus], options: &Options, text: impl Fn(&JobStatus) -> String) -> Result<(), Failure> {
    for job in jobs {
        if options.json { print_json(&as_json(job))? } else { print(&format!("{}\n", text(job)))? }
    }
    Ok(())
}

/// Where it is told how far jobs are: on a terminal in lines that are drawn over, elsewhere now and then in new ones.
struct Screen {
    is_terminal: bool,
    is_silent: bool,
    drawn: usize,
    said: Option<Instant>,
    /// When it was begun to be told, and how far each job was then.
    begun: Instant,
    were: Vec<u64>,
}

impl Screen {
    fn new(options: &Options, jobs: &[JobStatus]) -> Self {
        let (is_terminal, were) = (std::io::stdout().is_terminal(), jobs.iter().map(|job| job.done).collect());
        Self { is_terminal, is_silent: options.json, drawn: 0, said: None, begun: Instant::now(), were }
    }

    fn show(&mut self, jobs: &[JobStatus]) -> Result<(), Failure> {
        if self.is_silent || (!self.is_terminal && self.said.is_some_and(|said| said.elapsed() < SAY)) {
            return Ok(());
        }
        self.clear()?;
        self.said = Some(Instant::now());
        let since = self.begun.elapsed();
        for (job, was) in jobs.iter().zip(&self.were) {
            let line = line(job, pace(job.done.saturating_sub(*was), since));
            // A line that is broken by the terminal could not be drawn over.
            let line: String = if self.is_terminal { format!("{} {line}", bar(job)).chars().take(120).collect() } else { line };
            print(&format!("{line}\n"))?;
        }
        if self.is_terminal {
            self.drawn = jobs.len();
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Failure> {
        match std::mem::take(&mut self.drawn) {
            0 => Ok(()),
            // Up so many lines, and everything below goes.
            lines => print(&format!("\x1b[{lines}A\x1b[J")),
        }
    }
}

fn bar(job: &JobStatus) -> String {
    const WIDTH: u64 = 20;
    let full = job.total.filter(|total| *total > 0).map_or(0, |total| (job.done * WIDTH / total).min(WIDTH));
    (0..WIDTH).map(|at| if at < full { '█' } else { '░' }).collect()
}

/// How many are done in a second, if that can be told.
pub(crate) fn pace(done: u64, within: Duration) -> Option<f64> {
    (done > 0 && within >= Duration::from_secs(1)).then(|| done as f64 / within.as_secs_f64())
}

fn rate(pace: f64) -> String {
    match pace {
        10.0.. => format!("{pace:.0}/s"),
        0.1.. => format!("{pace:.1}/s"),
        _ => format!("{:.1}/min", pace * 60.0),
    }
}

/// How far a job is, and how fast it goes, in a line.
pub(crate) fn line(job: &JobStatus, pace: Option<f64>) -> String {
    let zone = job.zone.as_deref().unwrap_or("all zones");
    let share = match job.total {
        Some(0) => "nothing to do".to_owned(),
        Some(total) => format!("{} of {total} {} ({} %)", job.done, job.unit, job.done * 100 / total),
        None => "beginning".to_owned(),
    };
    let state = match job.state {
        "open" if job.running => String::new(),
        "open" if job.total.is_some() => ", nobody is at it".to_owned(),
        "open" => ", no server with the zone has taken it up yet".to_owned(),
        state => format!(", {state}"),
    };
    let rest = match (job.total, pace) {
        // What waits goes at no pace.
        (Some(total), Some(pace)) if job.is_open() && job.note.is_empty() && total > job.done => {
            let left = (total - job.done) as f64 / pace;
            format!(", {}, about {} left", rate(pace), age(Duration::from_secs_f64(left.min(1e9))))
        }
        _ => String::new(),
    };
    let counts: String = job.counts.iter().map(|(name, count)| format!(", {count} {}", name.replace('_', " "))).collect();
    let note = if job.note.is_empty() { String::new() } else { format!(": {}", job.note) };
    let error = job.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
    format!("{} {zone}: {share}{state}{rest}{counts}{note}{error}", job.kind)
}

/// A job as the commands tell it.
pub(crate) fn as_json(job: &JobStatus) -> Value {
    json!({
        "id": job.id,
        "kind": job.kind,
        "zone": job.zone,
        "state": job.state,
        "running": job.running,
        "done": job.done,
        "total": job.total,
        "unit": job.unit,
        "counts": job.counts,
        "note": job.note,
        "error": job.error,
        "begun_at": job.begun_at.as_millis(),
        "updated_at": job.updated_at.as_millis(),
    })
}
