//! The tools of the benches: alternating runs, medians, and a table of ratios with goals.
//!
//! Absolute figures mean little on a machine that also does other work. So the runs of a comparison
//! alternate in the same process and the same minute. Each round yields one ratio, and the result
//! is their median. A missed goal is printed, and no bench fails because of it.

#![allow(dead_code, reason = "each bench is a separate crate and uses only a part of this module")]

pub mod client;

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The figures of one side of a comparison, one for each round.
#[derive(Debug, Default, Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Returns the median.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Returns the quantile at `share`, from 0 to 1.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        // The rank is from 0 to the last sample.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let rank = (share * (sorted.len() - 1) as f64).round() as usize;
        sorted[rank]
    }

    /// Returns the ratio to `other` in each round.
    fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(ours, theirs)| ours / theirs).collect())
    }
}

impl From<Vec<f64>> for Samples {
    fn from(samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "there are samples");
        Self(samples)
    }
}

/// Calls each of `runs` once per round, in the opposite order in every second round. Each call
/// returns a figure.
pub fn take_turns<const N: usize>(rounds: usize, runs: [&mut dyn FnMut() -> f64; N]) -> [Samples; N] {
    let mut samples = std::array::from_fn(|_| Samples::default());
    for round in 0..rounds {
        for turn in 0..N {
            let run = if round % 2 == 0 { turn } else { N - 1 - turn };
            samples[run].0.push(runs[run]());
        }
    }
    samples
}

/// The goal of a ratio.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// The ratio should be at least this.
    AtLeast(f64),
    /// The ratio should be at most this.
    AtMost(f64),
    /// The ratio is only informative.
    None,
}

impl Goal {
    fn judge(self, ratio: f64) -> String {
        let reached = match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
            Self::None => return "-".to_owned(),
        };
        let word = if reached { "reached" } else { "MISSED" };
        match self {
            Self::AtLeast(least) => format!(">= {least:<5} {word}"),
            Self::AtMost(most) => format!("<= {most:<5} {word}"),
            Self::None => String::new(),
        }
    }
}

/// The unit of a figure.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    PerSecond,
    /// Messages per second, each with this many bytes of payload. Shown as messages and as MB of
    /// payload.
    Messages(usize),
    /// Seconds, shown as milliseconds.
    Time,
    /// Bytes, shown as MiB.
    Memory,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{value:.0}/s"),
            Self::Messages(size) => {
                let bytes = f64::from(u32::try_from(size).expect("at most 4 GB"));
                format!("{value:.0}/s {:.0} MB/s", value * bytes / 1e6)
            }
            Self::Time => format!("{:.3} ms", value * 1e3),
            Self::Memory => format!("{:.1} MiB", value / (1024.0 * 1024.0)),
        }
    }
}

/// Prints the head of the table.
pub fn heading() {
    println!("{:<58} {:>20} {:>20}  {:<22} goal", "", "ours", "theirs", "ratio (quartiles)");
}

/// Prints a line of the table for alternating runs.
pub fn compare(what: &str, unit: Unit, ours: &Samples, theirs: &Samples, goal: Goal) {
    let ratios = ours.over(theirs);
    let spread = format!("{:.3} ({:.3}-{:.3})", ratios.median(), ratios.quantile(0.25), ratios.quantile(0.75));
    line(what, unit, [ours.median(), theirs.median()], &spread, &goal.judge(ratios.median()));
}

/// Prints a line of the table for two figures.
pub fn compare_figures(what: &str, unit: Unit, ours: f64, theirs: f64, goal: Goal) {
    let ratio = ours / theirs;
    line(what, unit, [ours, theirs], &format!("{ratio:.3}"), &goal.judge(ratio));
}

fn line(what: &str, unit: Unit, figures: [f64; 2], ratio: &str, goal: &str) {
    let [ours, theirs] = figures.map(|figure| unit.show(figure));
    println!("{what:<58} {ours:>20} {theirs:>20}  {ratio:<22} {goal}");
}

/// Returns the resident memory of a process, in bytes.
pub fn resident_memory(pid: u32) -> f64 {
    memory(pid, "VmRSS:")
}

/// Returns the anonymous resident memory, in bytes. It excludes pages of programs and libraries,
/// which the system can drop and read again.
pub fn own_memory(pid: u32) -> f64 {
    memory(pid, "RssAnon:")
}

fn memory(pid: u32, which: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("a process with memory");
    line.trim().strip_suffix(" kB").expect("in kB").parse::<f64>().unwrap() * 1024.0
}

/// Returns the clock of `os:system_time(nanosecond)`.
pub fn since_epoch() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

/// Returns the seconds between two readings of [`since_epoch`].
pub fn between(begun: u128, ended: u128) -> f64 {
    Duration::from_nanos(u64::try_from(ended - begun).unwrap()).as_secs_f64()
}
