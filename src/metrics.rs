//! What the process counts about itself, besides what views show: numbers that rooms add to, and the API reads.
//!
//! They are of the process, as its memory and its file descriptors are, so they are statics, and no room hands them
//! to another. Each is an atomic: adding to one is all that a room ever does, once a batch where messages come in batches.
//! Knows neither who counts, nor what a number is called outside, nor in which format it is told: that is
//! `api::metrics`'.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use beam::stats::Counter;

/// Commits of the registry to its store, failed ones too.
pub static STORE_COMMITS: Histogram = Histogram::new();
/// Connections to the API that were closed to make room for others.
pub static HTTP_EVICTIONS: Counter = Counter::new();
/// Clients that follow the events now.
pub static EVENT_SUBSCRIBERS: Gauge = Gauge::new();

/// Upper bounds of the buckets of every [`Histogram`]: from a call that only looks at memory to one that waits for a disk, and
/// for us to be ready.
pub const BOUNDS: [Duration; 12] = [
    Duration::from_micros(100),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// How many there are of something now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// One more, until what is returned is dropped.
    #[must_use]
    pub fn one(&'static self) -> One {
        self.0.fetch_add(1, Ordering::Relaxed);
        One(self)
    }

    /// How many.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of those that a [`Gauge`] counts.
#[derive(Debug)]
pub struct One(&'static Gauge);

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long something took, sorted into [`BOUNDS`].
#[derive(Debug)]
pub struct Histogram {
    /// How many took at most this bound and more than the one before; the last took longer than all.
    buckets: [Counter; BOUNDS.len() + 1],
    nanoseconds: Counter,
}

impl Histogram {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { buckets: [const { Counter::new() }; BOUNDS.len() + 1], nanoseconds: Counter::new() }
    }

    /// Once more.
    pub fn observe(&self, took: Duration) {
        let bucket = BOUNDS.iter().take_while(|bound| took > **bound).count();
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.add(1);
        }
        self.nanoseconds.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many took at most each of [`BOUNDS`], and how many in all.
    #[must_use]
    pub fn cumulative(&self) -> Vec<u64> {
        let mut sum = 0;
        let cumulative = |bucket: &Counter| {
            sum += bucket.get();
            sum
        };
        self.buckets.iter().map(cumulative).collect()
    }

    /// All the time that was taken.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.get())
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_belongs_to_the_first_bound_that_it_does_not_pass() {
        let times = Histogram::new();
        for took in [Duration::ZERO, BOUNDS[0], BOUNDS[0] + Duration::from_nanos(1), Duration::from_secs(60)] {
            times.observe(took);
        }
        let mut expected = vec![3; BOUNDS.len() + 1];
        expected[0] = 2;
        expected[BOUNDS.len()] = 4;
        assert_eq!(times.cumulative(), expected);
        assert_eq!(times.total(), BOUNDS[0] * 2 + Duration::from_nanos(1) + Duration::from_secs(60));
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn who_is_dropped_counts_no_more() {
        static HERE: Gauge = Gauge::new();
        let (first, second) = (HERE.one(), HERE.one());
        assert_eq!(HERE.get(), 2);
        drop(first);
        assert_eq!(HERE.get(), 1);
        drop(second);
        assert_eq!(HERE.get(), 0);
    }
}
