//! The time as an input.

use std::time::{Instant, SystemTime};

/// The present time by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// To be shown.
    pub wall: SystemTime,
}
