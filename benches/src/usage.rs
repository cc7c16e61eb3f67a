//! What a process used, as the kernel counts it (proc(5)).

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use crate::measure::Result;

/// Clock ticks per second in /proc; the kernel's ABI fixes it on every architecture that Debian's docker-registry exists for.
const TICKS: u64 = 100;

/// The CPU time of a process at one moment.
#[derive(Debug)]
pub struct Cpu {
    /// User and system time of all threads, those that ended included; in steps of 10 ms.
    ticks: Duration,
    /// To the nanosecond, but only of threads that live.
    threads: HashMap<u32, Duration>,
}

impl Cpu {
    /// What it used so far.
    pub fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let ticks = ticks(&stat).ok_or("/proc/PID/stat is not as proc(5) says")?;
        let mut threads = HashMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // Absent in kernels built without it, or when the thread ended just now.
            let Ok(schedstat) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
            if let Some(nanoseconds) = schedstat.split(' ').next().and_then(|field| field.parse().ok()) {
                threads.insert(id, Duration::from_nanos(nanoseconds));
            }
        }
        Ok(Self { ticks: Duration::from_millis(ticks * 1000 / TICKS), threads })
    }

    /// What was used since then: the precise count if no thread has ended meanwhile, the coarse one otherwise.
    pub fn since(&self, before: &Self) -> Duration {
        if self.threads.is_empty() || before.threads.keys().any(|id| !self.threads.contains_key(id)) {
            return self.ticks.saturating_sub(before.ticks);
        }
        let now: Duration = self.threads.values().sum();
        now.saturating_sub(before.threads.values().sum())
    }
}

/// User and system time. The command's name, which comes before them, may hold spaces and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The most memory the process ever had resident, in bytes.
pub fn peak_memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("/proc/PID/status has no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

/// Bytes that could be put into a file system in memory without swapping.
pub fn available_memory() -> Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")).ok_or("/proc/meminfo has no MemAvailable")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_hide_the_times() {
        assert_eq!(ticks("1 (a) b (c)) S 2 3 4 5 6 7 8 9 10 11 120 34 0 0 20 0"), Some(154));
    }

    #[test]
    fn work_shows_up_as_cpu_time() {
        let pid = std::process::id();
        let before = Cpu::of(pid).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        let mut x = 1_u64;
        while Cpu::of(pid).unwrap().since(&before) < Duration::from_millis(50) {
            assert!(std::time::Instant::now() < deadline, "no CPU time was counted");
            x = (0..1_000_000).fold(x, |x, _| std::hint::black_box(x.wrapping_mul(3)));
        }
        assert!(peak_memory(pid).unwrap() > 1 << 20);
    }
}
