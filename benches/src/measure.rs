//! What is measured of this process and of this machine.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use sha2::Digest as _;

use crate::usage::peak_memory;

/// What goes wrong here ends the program; nobody branches on it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Median, smallest and largest of some times.
#[derive(Debug)]
pub struct Spread(Vec<Duration>);

impl Spread {
    /// Of these times.
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The one in the middle.
    pub fn median(&self) -> Duration {
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
pub fn peak() -> Result<f64> {
    Ok(mib(peak_memory(std::process::id())?))
}

/// Forgets the peak so far.
pub fn forget_peak() -> Result<()> {
    Ok(fs::write("/proc/self/clear_refs", "5")?)
}

/// Bytes as MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The machine in a few words.
pub fn machine() -> String {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let sha = if field("/proc/cpuinfo", "flags").contains("sha_ni") { ", SHA instructions" } else { "" };
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    format!("{cores} × {}{sha}, Linux {kernel}; SHA-256 {:.1} GB/s on one core", field("/proc/cpuinfo", "model name"), sha256_rate())
}

/// What one core hashes, in GB/s: the yardstick for pushes, by which figures of different machines, or of one on different days, can be compared.
fn sha256_rate() -> f64 {
    let bytes = vec![7_u8; 16 << 20];
    let fastest = (0..10).map(|_| {
        let began = Instant::now();
        std::hint::black_box(sha2::Sha256::digest(&bytes));
        began.elapsed()
    });
    bytes.len() as f64 / 1e9 / fastest.min().unwrap_or_default().as_secs_f64()
}
