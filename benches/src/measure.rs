//! What the benchmarks of one process share: spreads, memory, CPU time.

use std::fmt;
use std::time::Duration;

/// What goes wrong here ends the program; nobody branches on it.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Median, smallest and largest of some times.
pub(crate) struct Spread(Vec<Duration>);

impl Spread {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    pub(crate) fn median(&self) -> Duration {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |at: Option<&Duration>| at.copied().unwrap_or_default().as_secs_f64();
        write!(f, "{:.3} ({:.3}–{:.3})", self.median().as_secs_f64(), seconds(self.0.first()), seconds(self.0.last()))
    }
}

/// The most memory that this process had since the peak was forgotten, in MiB.
pub(crate) fn peak() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no number after VmHWM")?.parse()?;
    Ok(kib / 1024.0)
}

/// Forgets the peak so far.
pub(crate) fn forget_peak() -> Result<()> {
    Ok(std::fs::write("/proc/self/clear_refs", "5")?)
}
