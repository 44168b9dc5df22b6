//! What the benches share: runs that take turns, medians, and a table of ratios with the goal beside each.
//!
//! A figure by itself says little on a machine that does other things too. So whatever is compared runs in turns, in the
//! same process and the same minute, each round gives one ratio, and the median of these is what counts. Nothing here
//! fails: a goal that is missed is printed as such.

#![allow(dead_code, reason = "each bench is a crate of its own and needs another part of this")]

pub mod client;

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What one side of a comparison measured, one figure a round.
#[derive(Debug, Default, Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// The value that half of the samples don't exceed.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value that this share of the samples doesn't exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        // A rank within the samples: neither negative nor beyond them.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let rank = (share * (sorted.len() - 1) as f64).round() as usize;
        sorted[rank]
    }

    /// Each round's figure as a multiple of another's in the same round.
    fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(ours, theirs)| ours / theirs).collect())
    }
}

impl From<Vec<f64>> for Samples {
    fn from(samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "something was measured");
        Self(samples)
    }
}

/// Has the runs take turns, every second round in the opposite order; each gives one figure a round.
pub fn take_turns<const N: usize>(rounds: usize, runs: [&mut dyn FnMut() -> f64; N]) -> [Samples; N] {
    let mut samples = std::array::from_fn(|_| Samples::default());
    for round in 0..rounds {
        for turn in 0..N {
            let who = if round % 2 == 0 { turn } else { N - 1 - turn };
            samples[who].0.push(runs[who]());
        }
    }
    samples
}

/// What a ratio should be.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
    /// Shown for orientation.
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

/// What a figure counts.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    /// How many a second.
    PerSecond,
    /// How many messages a second, each with so many bytes of its own; shown as messages and as MB of these.
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
                let bytes = f64::from(u32::try_from(size).expect("of some MB"));
                format!("{value:.0}/s {:.0} MB/s", value * bytes / 1e6)
            }
            Self::Time => format!("{:.3} ms", value * 1e3),
            Self::Memory => format!("{:.1} MiB", value / (1024.0 * 1024.0)),
        }
    }
}

/// The head of the table.
pub fn heading() {
    println!("{:<58} {:>20} {:>20}  {:<22} goal", "", "ours", "theirs", "ratio (quartiles)");
}

/// One line of the table, of runs that took turns.
pub fn compare(what: &str, unit: Unit, ours: &Samples, theirs: &Samples, goal: Goal) {
    let ratios = ours.over(theirs);
    let spread = format!("{:.3} ({:.3}-{:.3})", ratios.median(), ratios.quantile(0.25), ratios.quantile(0.75));
    line(what, unit, [ours.median(), theirs.median()], &spread, &goal.judge(ratios.median()));
}

/// One line of the table, of two figures.
pub fn compare_figures(what: &str, unit: Unit, ours: f64, theirs: f64, goal: Goal) {
    let ratio = ours / theirs;
    line(what, unit, [ours, theirs], &format!("{ratio:.3}"), &goal.judge(ratio));
}

fn line(what: &str, unit: Unit, figures: [f64; 2], ratio: &str, goal: &str) {
    let [ours, theirs] = figures.map(|figure| unit.show(figure));
    println!("{what:<58} {ours:>20} {theirs:>20}  {ratio:<22} {goal}");
}

/// What a process has in memory, in bytes.
pub fn resident_memory(pid: u32) -> f64 {
    memory(pid, "VmRSS:")
}

/// What of it is its own: no page of a program or of a library, which the system can drop and read again.
pub fn own_memory(pid: u32) -> f64 {
    memory(pid, "RssAnon:")
}

fn memory(pid: u32, which: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("a process with memory");
    line.trim().strip_suffix(" kB").expect("in kB").parse::<f64>().unwrap() * 1024.0
}

/// The clock of `os:system_time(nanosecond)`.
pub fn since_epoch() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

/// In seconds.
pub fn between(begun: u128, ended: u128) -> f64 {
    Duration::from_nanos(u64::try_from(ended - begun).unwrap()).as_secs_f64()
}
