//! Limits on log lines that outsiders can trigger: a few lines in each window, and a count of the
//! others at its end.
//!
//! Each kind of line has a [`Limit`], which is one atomic number, so a storm of lines costs one
//! addition per line and no memory. The program that runs the node ends the windows with
//! [`end_windows`].

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits;

/// Refused handshakes on the distribution port.
pub(crate) static HANDSHAKES: Limit = Limit::new("handshakes refused", 1);
/// Unfinished handshakes that were closed in favour of others.
pub(crate) static CROWDS: Limit = Limit::new("unfinished handshakes that gave way", 1);
/// Nodes that connected or were lost. They have proved the cookie, and each is worth a line.
pub(crate) static NODES: Limit = Limit::new("nodes that came or went", limits::LOG_NODES);
/// Connections that could not be accepted on a port or socket.
pub static ACCEPTS: Limit = Limit::new("connections that could not be accepted", 1);

static ALL: [&Limit; 4] = [&HANDSHAKES, &CROWDS, &ACCEPTS, &NODES];

/// One kind of line.
#[derive(Debug)]
pub struct Limit {
    what: &'static str,
    most: u64,
    /// The number of lines in this window, logged or not.
    counted: AtomicU64,
}

impl Limit {
    /// Creates a limit of `most` lines in each window. `what` names the others in the log.
    #[must_use]
    pub const fn new(what: &'static str, most: u64) -> Self {
        Self { what, most, counted: AtomicU64::new(0) }
    }

    /// Counts a line. Returns whether it may be logged.
    pub fn admits(&self) -> bool {
        self.counted.fetch_add(1, Ordering::Relaxed) < self.most
    }

    /// Ends the window, and logs the number of lines that were left out, if any.
    pub fn log_left_out(&self) {
        let more = self.end_window();
        if more > 0 {
            tracing::warn!("{more} more within {} s: {}", limits::LOG_WINDOW.as_secs(), self.what);
        }
    }

    /// Ends the window. Returns the number of lines that were left out.
    fn end_window(&self) -> u64 {
        self.counted.swap(0, Ordering::Relaxed).saturating_sub(self.most)
    }
}

/// Logs a line at its level as often as its limit admits, and at level `debug` otherwise.
///
/// The arguments are a [`Limit`], a level, and the arguments of that level's macro of `tracing`.
#[macro_export]
macro_rules! limited {
    ($limit:expr, $level:ident, $($line:tt)+) => {
        if $limit.admits() { tracing::$level!($($line)+) } else { tracing::debug!($($line)+) }
    };
}
pub use limited;

/// Ends the window of every kind of line of a node, and logs the number of lines that were left
/// out. To be called every [`limits::LOG_WINDOW`].
pub fn end_windows() {
    for limit in ALL {
        limit.log_left_out();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of logged lines for each second, and the number of those left out in a
    /// window that ends with it.
    fn play(limit: &Limit, events: &[u64]) -> Vec<(usize, u64)> {
        let window = usize::try_from(limits::LOG_WINDOW.as_secs()).expect("short");
        let mut written = Vec::new();
        for (second, events) in events.iter().enumerate() {
            let lines = (0..*events).filter(|_| limit.admits()).count();
            let over = (second + 1).is_multiple_of(window);
            written.push((lines, if over { limit.end_window() } else { 0 }));
        }
        written
    }

    #[test]
    fn a_storm_is_one_line_per_window_and_a_count() {
        let limit = Limit::new("events", 1);
        // Two seconds of calm, 23 of storm, five of calm.
        let events = [[0; 2].as_slice(), &[100; 23], &[0; 5]].concat();
        let mut expected = vec![(0, 0); 30];
        expected[2] = (1, 0);
        expected[9] = (0, 799);
        expected[10] = (1, 0);
        expected[19] = (0, 999);
        expected[20] = (1, 0);
        expected[29] = (0, 499);
        assert_eq!(play(&limit, &events), expected);
    }

    #[test]
    fn lines_below_the_limit_are_all_logged() {
        let limit = Limit::new("events", limits::LOG_NODES);
        let events = [3; 20];
        assert_eq!(play(&limit, &events), [(3, 0); 20]);
        let storm = [limits::LOG_NODES + 7; 1];
        let most = usize::try_from(limits::LOG_NODES).expect("few");
        assert_eq!(play(&limit, &storm), [(most, 0)]);
        assert_eq!(limit.end_window(), 7);
    }
}
