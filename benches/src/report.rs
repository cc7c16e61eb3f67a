//! The figures, as Markdown.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use benches::measure::{machine, mib};

use crate::Arguments;
use crate::load::{LARGE, Measured};
use crate::server::Kind;

/// A measured load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    PullOne,
    PullMany,
    PushOne,
    PushMany,
    Manifest,
    Small,
    Tags,
}

/// The one figure of a load that has a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    /// CPU seconds of the server per 10⁹ bytes of blobs of this many bytes.
    CpuPerGigabyte { blob: u64 },
    /// CPU microseconds of the server per operation.
    CpuPerOperation,
    /// Operations per second.
    Rate,
    /// The median latency in milliseconds.
    Median,
}

impl Row {
    const ALL: [Self; 7] = [Self::PullOne, Self::PullMany, Self::PushOne, Self::PushMany, Self::Manifest, Self::Small, Self::Tags];

    fn name(self) -> &'static str {
        match self {
            Self::PullOne => "pull 64 MiB blobs, 1 client",
            Self::PullMany => "pull 64 MiB blobs, 16 clients",
            Self::PushOne => "push 64 MiB blobs (POST, chunked PATCH, PUT), 1 client",
            Self::PushMany => "push 64 MiB blobs, 16 clients",
            Self::Manifest => "GET manifest by tag, one hot key, 64 clients",
            Self::Small => "durable push of 4 KiB blobs (POST, PUT), 16 clients",
            Self::Tags => "100 tags out of 10,000, 1 client",
        }
    }

    fn figure(self) -> Figure {
        match self {
            Self::PullOne | Self::PullMany | Self::PushOne | Self::PushMany => Figure::CpuPerGigabyte { blob: LARGE },
            Self::Manifest => Figure::CpuPerOperation,
            Self::Small => Figure::Rate,
            Self::Tags => Figure::Median,
        }
    }

    fn target(self) -> f64 {
        match self {
            Self::PullOne => 0.40,
            Self::PullMany => 0.35,
            Self::PushOne | Self::PushMany => 1.15,
            Self::Manifest => 20.0,
            Self::Small => 5000.0,
            Self::Tags => 1.0,
        }
    }

    fn bytes(self) -> Option<u64> {
        match self.figure() {
            Figure::CpuPerGigabyte { blob } => Some(blob),
            _ => None,
        }
    }
}

impl Figure {
    fn of(self, measured: &Measured) -> f64 {
        let operations = measured.operations() as f64;
        match self {
            Self::CpuPerGigabyte { blob } => measured.cpu.as_secs_f64() / (operations * blob as f64 / 1e9),
            Self::CpuPerOperation => measured.cpu.as_secs_f64() * 1e6 / operations,
            Self::Rate => operations / measured.elapsed.as_secs_f64(),
            Self::Median => milliseconds(measured.latency(0.5)),
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::CpuPerGigabyte { .. } => "CPU s/GB",
            Self::CpuPerOperation => "CPU µs each",
            Self::Rate => "per second",
            Self::Median => "ms, median",
        }
    }

    fn decimals(self) -> usize {
        match self {
            Self::CpuPerGigabyte { .. } | Self::Median => 2,
            Self::CpuPerOperation => 1,
            Self::Rate => 0,
        }
    }

    fn bound(self) -> char {
        if self == Self::Rate { '≥' } else { '≤' }
    }

    fn reached(self, value: f64, target: f64) -> bool {
        if self == Self::Rate { value >= target } else { value <= target }
    }
}

const MEMORY_TARGET: u64 = 64 << 20;

/// Everything measured so far.
#[derive(Debug)]
pub(crate) struct Report {
    machine: String,
    folder: String,
    memory_mib: u64,
    servers: Vec<Kind>,
    rows: BTreeMap<Row, Vec<(Kind, Measured)>>,
    /// Peak before and under load, in bytes.
    memory: Vec<(Kind, u64, u64)>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        Self {
            machine: machine(),
            folder: arguments.folder.display().to_string(),
            memory_mib: arguments.memory_mib,
            servers: Vec::new(),
            rows: BTreeMap::new(),
            memory: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, kind: Kind, row: Row, measured: Measured) {
        let figure = row.figure();
        eprintln!("  {}: {:.*} {}", row.name(), figure.decimals(), figure.of(&measured), figure.unit());
        self.knows(kind);
        self.rows.entry(row).or_default().push((kind, measured));
    }

    pub(crate) fn memory(&mut self, kind: Kind, before: u64, under_load: u64) {
        eprintln!("  peak memory: {} MiB, {} MiB before the load", under_load >> 20, before >> 20);
        self.knows(kind);
        self.memory.push((kind, before, under_load));
    }

    pub(crate) fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    fn knows(&mut self, kind: Kind) {
        if !self.servers.contains(&kind) {
            self.servers.push(kind);
        }
    }

    /// What the rounds of one server came to in one row.
    fn rounds(&self, row: Row, kind: Kind) -> Vec<&Measured> {
        self.rows.get(&row).into_iter().flatten().filter(|(of, _)| *of == kind).map(|(_, measured)| measured).collect()
    }

    /// Median, smallest and largest.
    fn cell(&self, row: Row, kind: Kind) -> Option<(f64, String)> {
        let figure = row.figure();
        let (middle, low, high) = spread(self.rounds(row, kind).into_iter().map(|measured| figure.of(measured)))?;
        let decimals = figure.decimals();
        Some((middle, format!("**{middle:.decimals$}** ({low:.decimals$}–{high:.decimals$})")))
    }
}

/// Median, smallest and largest of some values.
fn spread(values: impl Iterator<Item = f64>) -> Option<(f64, f64, f64)> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    Some((*values.get(values.len() / 2)?, *values.first()?, *values.last()?))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Machine: {}; client on the same machine; data in {}.\n", self.machine, self.folder)?;
        write!(f, "| load | figure | target |")?;
        self.servers.iter().try_for_each(|kind| write!(f, " {kind} |"))?;
        write!(f, "\n|---|---|---|")?;
        self.servers.iter().try_for_each(|_| write!(f, "---|"))?;
        writeln!(f)?;
        for row in Row::ALL {
            if !self.rows.contains_key(&row) {
                continue;
            }
            let figure = row.figure();
            let decimals = if figure == Figure::CpuPerOperation { 0 } else { figure.decimals() };
            write!(f, "| {} | {} | {} {:.decimals$} |", row.name(), figure.unit(), figure.bound(), row.target())?;
            for &kind in &self.servers {
                let Some((middle, text)) = self.cell(row, kind) else {
                    write!(f, " – |")?;
                    continue;
                };
                let missed = kind != Kind::DockerRegistry && !figure.reached(middle, row.target());
                write!(f, " {text}{} |", if missed { " missed" } else { "" })?;
            }
            writeln!(f)?;
        }
        if !self.memory.is_empty() {
            write!(f, "| push {} MiB blobs, 16 clients | peak RSS, MiB | ≤ {} |", self.memory_mib, MEMORY_TARGET >> 20)?;
            for &kind in &self.servers {
                let Some((_, before, peak)) = self.memory.iter().find(|(of, ..)| *of == kind) else {
                    write!(f, " – |")?;
                    continue;
                };
                let missed = kind != Kind::DockerRegistry && *peak > MEMORY_TARGET;
                write!(f, " **{:.0}** ({:.0} before){} |", mib(*peak), mib(*before), if missed { " missed" } else { "" })?;
            }
            writeln!(f)?;
        }

        writeln!(f, "\nMedian of the rounds (smallest–largest). The same runs otherwise:\n")?;
        writeln!(f, "| load | server | per second | MB/s | CPU µs each | p50 ms | p99 ms |\n|---|---|---|---|---|---|---|")?;
        for row in Row::ALL {
            for &kind in &self.servers {
                let rounds = self.rounds(row, kind);
                let of =
                    |value: &dyn Fn(&Measured) -> f64| spread(rounds.iter().map(|measured| value(measured))).map(|(middle, ..)| middle);
                let Some(rate) = of(&|measured| Figure::Rate.of(measured)) else { continue };
                let cpu = of(&|measured| Figure::CpuPerOperation.of(measured)).unwrap_or_default();
                let p50 = of(&|measured| milliseconds(measured.latency(0.5))).unwrap_or_default();
                let p99 = of(&|measured| milliseconds(measured.latency(0.99))).unwrap_or_default();
                let megabytes = row.bytes().map_or("–".to_owned(), |bytes| format!("{:.0}", rate * bytes as f64 / 1e6));
                let rate = if rate < 100.0 { format!("{rate:.1}") } else { format!("{rate:.0}") };
                writeln!(f, "| {} | {kind} | {rate} | {megabytes} | {cpu:.1} | {p50:.2} | {p99:.2} |", row.name())?;
            }
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n{note}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_median_smallest_and_largest() {
        assert_eq!(spread([3.0, 1.0, 2.0].into_iter()), Some((2.0, 1.0, 3.0)));
        assert_eq!(spread([].into_iter()), None);
    }

    #[test]
    fn a_rate_must_be_high_and_a_cost_low() {
        assert!(Figure::Rate.reached(5001.0, 5000.0) && !Figure::Rate.reached(4999.0, 5000.0));
        assert!(Figure::CpuPerOperation.reached(19.0, 20.0) && !Figure::CpuPerOperation.reached(21.0, 20.0));
    }
}
