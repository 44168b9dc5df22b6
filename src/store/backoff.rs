//! Limits how often a failing copy of the database is attempted, and how often its failure is
//! logged. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::limits;

// ---- Tuning constants -----------------------------------------------------------------------

/// Delay after the first failure. More means that the copy is missing for longer; less means more
/// attempts while the disk is full. [`limits::COPY_RETRY`] bounds the delay.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// The delay before the next attempt, which doubles with each failure.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    delay: Duration,
    due: Option<Instant>,
    /// The last logged cause of each failing step.
    logged: BTreeMap<&'static str, String>,
}

impl Backoff {
    /// Returns whether the next attempt may begin.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    /// Delays the next attempt after a failure.
    pub(super) fn failed(&mut self, now: Instant) {
        self.delay = (self.delay * 2).clamp(FIRST_DELAY, limits::COPY_RETRY);
        self.due = Some(now + self.delay);
    }

    /// Returns whether a step failed for another cause than the last time, so that it must be
    /// logged.
    pub(super) fn is_new(&mut self, step: &'static str, cause: &str) -> bool {
        self.logged.insert(step, cause.to_owned()).as_deref() != Some(cause)
    }

    /// Forgets all failures.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_its_limit() {
        let mut now = Instant::now();
        let mut backoff = Backoff::default();
        assert!(backoff.is_due(now));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            backoff.failed(now);
            assert!(!backoff.is_due(now + Duration::from_millis(seconds * 1000 - 1)), "{seconds}");
            now += Duration::from_secs(seconds);
            assert!(backoff.is_due(now), "{seconds}");
        }
        backoff.failed(now);
        backoff.reset();
        assert!(backoff.is_due(now));
    }

    #[test]
    fn each_cause_of_a_step_is_logged_once() {
        let mut backoff = Backoff::default();
        for (step, cause, is_new) in
            [("copy", "full", true), ("copy", "full", false), ("keep", "full", true), ("copy", "damaged", true)]
        {
            assert_eq!(backoff.is_new(step, cause), is_new, "{step}, {cause}");
        }
        backoff.reset();
        assert!(backoff.is_new("copy", "damaged"));
    }
}
