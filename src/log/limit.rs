//! How often outsiders can make us write a line: a few times in each window, and then once how many more there were.
//!
//! Whatever a peer, a client, or anybody who reaches a port can bring about asks one of these before it is logged. Each is
//! one number, so a storm costs an addition a blow, whoever's task it falls on, and no more memory than a calm. Pure: windows
//! are ended from outside, by [`tell`].

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits;

/// Who was refused on the distribution port.
pub static HANDSHAKES: Limit = Limit::new("handshakes refused", 1);
/// Who had to give way there.
pub static CROWDS: Limit = Limit::new("unfinished handshakes that gave way", 1);
/// What a port or the socket could not take.
pub static ACCEPTS: Limit = Limit::new("connections that could not be taken", 1);
/// Who was refused on the socket.
pub static STRANGERS: Limit = Limit::new("connections to the API of users who may not call", 1);
/// Connections to the API that were closed for others.
pub static EVICTIONS: Limit = Limit::new("connections to the API that were closed for others", 1);
/// Nodes that come and go. They have proved the cookie, and each is worth a line.
pub static NODES: Limit = Limit::new("nodes that came or went", limits::LOG_NODES);
/// Nodes that could not be connected to: anybody can register names with an EPMD.
pub static DIALS: Limit = Limit::new("nodes that could not be connected to", limits::LOG_DIALS);
/// What was too much for the registry.
pub static SURPLUS: Limit = Limit::new("nodes and announcements that were too many", 1);
/// What was asked of the disk and could not be done.
pub static DISK: Limit = Limit::new("changes on disk that failed", 1);
/// What the service manager did not take.
pub static MANAGER: Limit = Limit::new("messages that the service manager could not be told", 1);
/// What happens to plugins: each is worth a line.
pub static PLUGINS: Limit = Limit::new("changes of plugins", limits::LOG_PLUGINS);

static ALL: [&Limit; 11] =
    [&HANDSHAKES, &CROWDS, &ACCEPTS, &STRANGERS, &EVICTIONS, &NODES, &DIALS, &SURPLUS, &DISK, &MANAGER, &PLUGINS];

/// One kind of line.
#[derive(Debug)]
pub struct Limit {
    what: &'static str,
    most: u64,
    /// How often it was asked for in this window.
    asked: AtomicU64,
}

impl Limit {
    /// Lets `most` lines through in each window.
    #[must_use]
    const fn new(what: &'static str, most: u64) -> Self {
        Self { what, most, asked: AtomicU64::new(0) }
    }

    /// Whether the line is to be written.
    pub fn admits(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) < self.most
    }

    /// The window is over: how many lines were not written in it.
    fn end_window(&self) -> u64 {
        self.asked.swap(0, Ordering::Relaxed).saturating_sub(self.most)
    }
}

/// Writes a line at its level as often as its limit admits, and for whoever debugs each of them.
macro_rules! limited {
    ($limit:expr, $level:ident, $($line:tt)+) => {
        if $limit.admits() { tracing::$level!($($line)+) } else { tracing::debug!($($line)+) }
    };
}
pub(crate) use limited;

/// Ends the window of every kind, and writes how many lines were left out, where there were any. Due each
/// [`limits::LOG_WINDOW`].
pub fn tell() {
    for limit in ALL {
        let more = limit.end_window();
        if more > 0 {
            tracing::warn!("{more} more within {} s: {}", limits::LOG_WINDOW.as_secs(), limit.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written at each second: lines, and the sum of those left out where a window has ended.
    fn play(limit: &Limit, blows: &[u64]) -> Vec<(usize, u64)> {
        let window = usize::try_from(limits::LOG_WINDOW.as_secs()).expect("short");
        let mut written = Vec::new();
        for (second, blows) in blows.iter().enumerate() {
            let lines = (0..*blows).filter(|_| limit.admits()).count();
            let over = (second + 1).is_multiple_of(window);
            written.push((lines, if over { limit.end_window() } else { 0 }));
        }
        written
    }

    #[test]
    fn a_storm_is_one_line_a_window_and_its_sum() {
        let limit = Limit::new("blows", 1);
        // Two seconds of calm, 23 of storm, five of calm.
        let blows = [[0; 2].as_slice(), &[100; 23], &[0; 5]].concat();
        let mut expected = vec![(0, 0); 30];
        expected[2] = (1, 0);
        expected[9] = (0, 799);
        expected[10] = (1, 0);
        expected[19] = (0, 999);
        expected[20] = (1, 0);
        expected[29] = (0, 499);
        assert_eq!(play(&limit, &blows), expected);
    }

    #[test]
    fn what_happens_now_and_then_is_written_each_time() {
        let limit = Limit::new("blows", limits::LOG_NODES);
        let blows = [3; 20];
        assert_eq!(play(&limit, &blows), [(3, 0); 20]);
        let storm = [limits::LOG_NODES + 7; 1];
        let most = usize::try_from(limits::LOG_NODES).expect("few");
        assert_eq!(play(&limit, &storm), [(most, 0)]);
        assert_eq!(limit.end_window(), 7);
    }

    #[test]
    fn every_kind_has_its_window_ended() {
        let kinds: std::collections::BTreeSet<&str> = ALL.iter().map(|limit| limit.what).collect();
        assert_eq!(kinds.len(), ALL.len());
    }
}
