//! Limits slow work to a tenth of the time. Pure.

use std::time::{Duration, Instant};

// ---- Tuning constants -----------------------------------------------------------------------

/// Work that takes at most this long may be repeated at once. More means fresher views; less means
/// that the node's task spends less time on them.
const WORK_TIME: Duration = Duration::from_millis(1);

/// When slow work may be done again.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    due: Option<Instant>,
}

impl Pace {
    /// Returns whether the work may be done now.
    #[must_use]
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// Returns when the work may be done again.
    #[must_use]
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Records that the work ended at `now` after `time`.
    pub(crate) fn took(&mut self, now: Instant, time: Duration) {
        self.due = (time > WORK_TIME).then(|| now + time * 9);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_work_is_done_less_often() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert!(pace.is_due(now));
        pace.took(now, WORK_TIME);
        assert!(pace.is_due(now), "the work was quick enough");
        let long = WORK_TIME * 2;
        pace.took(now, long);
        assert!(!pace.is_due(now + long * 8) && pace.is_due(now + long * 9));
        assert_eq!(pace.due(), Some(now + long * 9));
    }
}
