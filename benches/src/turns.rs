//! Ways of doing the same, by turns: how long each takes, and whose CPU time.

use std::fs;
use std::time::Duration;

use crate::measure::{Result, Spread};

/// Seconds of CPU time: of this process and those it has started, and of a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// This process, and its children that have ended.
    pub client: f64,
    /// All of the service's processes here.
    pub service: f64,
}

impl Cpu {
    /// Until now. `service` is what the command line of its processes has in it, one or the other.
    pub fn now(service: &[String]) -> Result<Self> {
        let mut cpu = Self { client: times("self")?.iter().sum(), service: 0.0 };
        for process in fs::read_dir("/proc")? {
            let name = process?.file_name().to_string_lossy().into_owned();
            let command = fs::read_to_string(format!("/proc/{name}/cmdline")).unwrap_or_default();
            if service.iter().any(|part| command.contains(part)) {
                // It may have ended just now.
                cpu.service += times(&name).map_or(0.0, |[own, _]| own);
            }
        }
        Ok(cpu)
    }

    /// What was used since then.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { client: self.client - before.client, service: self.service - before.service }
    }
}

/// Of a process, and of its children that have ended. Linux counts in hundredths of a second.
fn times(process: &str) -> Result<[f64; 2]> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/PID/stat is not as it should be")?;
    let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(4).map(str::parse).collect::<std::result::Result<_, _>>()?;
    let [user, system, children_user, children_system] = ticks[..] else { return Err("/proc/PID/stat is too short".into()) };
    Ok([(user + system) / 100.0, (children_user + children_system) / 100.0])
}

/// All rounds of one way to do it.
#[derive(Debug, Default)]
pub struct Way {
    times: Vec<Duration>,
    cpu: Cpu,
}

impl Way {
    /// Does it once more.
    pub async fn add(&mut self, service: &[String], run: impl Future<Output = Result<Duration>>) -> Result<()> {
        let before = Cpu::now(service)?;
        self.times.push(run.await?);
        let used = Cpu::now(service)?.since(before);
        self.cpu.client += used.client;
        self.cpu.service += used.service;
        Ok(())
    }

    /// The times.
    pub fn spread(&self) -> Spread {
        Spread::new(self.times.clone())
    }

    /// CPU seconds of one round.
    pub fn cpu(&self) -> Cpu {
        let rounds = self.times.len().max(1) as f64;
        Cpu { client: self.cpu.client / rounds, service: self.cpu.service / rounds }
    }

    /// A row of the table that [`header`] begins, of so many bytes a round. `peer` is what its rate is compared with.
    pub fn print(&self, name: &str, size: u64, peer: &Self) {
        let (spread, cpu, gigabytes) = (self.spread(), self.cpu(), size as f64 / 1e9);
        let seconds = spread.median().as_secs_f64();
        let (rate, of_peer) = (gigabytes * 1e3 / seconds, 100.0 * peer.spread().median().as_secs_f64() / seconds);
        println!("| {name} | {spread} | {rate:.0} | {of_peer:.0} % | {:.2} | {:.2} |", cpu.client / gigabytes, cpu.service / gigabytes);
    }
}

/// The head of a table of ways.
pub fn header(what: &str, peer: &str, service: &str) {
    println!(
        "| {what} | seconds: median (smallest–largest) | MB/s | of {peer}'s rate | client, CPU s/GB | {service}, CPU s/GB |\n|---|---|---|---|---|---|"
    );
}
