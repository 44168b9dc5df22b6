//! The time as an input.

use std::time::{Instant, SystemTime};

/// The present time by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The monotonic time, for deadlines.
    pub instant: Instant,
    /// The time of day, for the view.
    pub wall: SystemTime,
}
