//! Attempts to connect that give way to an attempt of the peer. If two attempts cross, the attempt
//! of the node with the greater name continues (`accept_pending` in OTP's `net_kernel.erl`).
//!
//! A name proves nothing yet, so a stranger could end each attempt by pretending to be the peer.
//! Therefore an attempt that the peer has answered ends only when the peer's own attempt has
//! connected. (A peer whose own attempt continues answers `nok`.) An unanswered attempt ends at
//! once, but only [`limits::GIVEN_WAY`] times in a row without a connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use crate::limits;
use crate::name::NodeName;

/// The attempts that are under way.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    pending: HashMap<NodeName, Attempt>,
    /// How many attempts to connect to a node gave way since the last connection.
    yielded: HashMap<NodeName, u32>,
}

#[derive(Debug)]
struct Attempt {
    end: oneshot::Sender<()>,
    answered: Arc<AtomicBool>,
}

/// The channels of an attempt.
#[derive(Debug)]
pub(crate) struct AttemptChannels {
    /// The attempt ends when a message arrives.
    pub end: oneshot::Receiver<()>,
    /// The attempt stores here that the peer has answered.
    pub answered: Arc<AtomicBool>,
}

impl Attempts {
    /// Records an attempt to connect to `name`.
    pub(crate) fn begin(&mut self, name: NodeName) -> AttemptChannels {
        let (sender, end) = oneshot::channel();
        let answered = Arc::new(AtomicBool::new(false));
        self.pending.insert(name, Attempt { end: sender, answered: answered.clone() });
        AttemptChannels { end, answered }
    }

    /// Ends the attempt to connect to `name`, because a peer of that name dials us.
    pub(crate) fn give_way(&mut self, name: &NodeName) {
        if self.pending.get(name).is_none_or(|attempt| attempt.answered.load(Ordering::Relaxed)) {
            return;
        }
        if self.yielded.len() >= limits::KNOWN_NODES {
            self.yielded.clear();
        }
        let times = self.yielded.entry(name.clone()).or_default();
        if *times < limits::GIVEN_WAY {
            *times += 1;
            self.end(name);
        }
    }

    fn end(&mut self, name: &NodeName) {
        if let Some(attempt) = self.pending.remove(name) {
            // The attempt may have ended meanwhile.
            let _ = attempt.end.send(());
        }
    }

    /// Records that the attempt to connect to `name` has ended.
    pub(crate) fn ended(&mut self, name: &NodeName) {
        self.pending.remove(name);
    }

    /// Records a connection to `name`. If the peer's attempt continues when two cross, ours ends.
    pub(crate) fn connected(&mut self, name: &NodeName, peer_continues: bool) {
        self.yielded.remove(name);
        if peer_continues {
            self.end(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::node;

    fn gives_way(attempts: &mut Attempts, name: &str) -> bool {
        let mut attempt = attempts.begin(node(name));
        attempts.give_way(&node(name));
        let ends = attempt.end.try_recv().is_ok();
        attempts.ended(&node(name));
        ends
    }

    #[test]
    fn the_attempts_that_give_way_without_a_connection_are_bounded() {
        let mut attempts = Attempts::default();
        for _ in 0..2 {
            for _ in 0..limits::GIVEN_WAY {
                assert!(gives_way(&mut attempts, "a@h"));
            }
            assert!(!gives_way(&mut attempts, "a@h"));
            assert!(gives_way(&mut attempts, "b@h"), "another node");
            attempts.connected(&node("a@h"), false);
            attempts.connected(&node("b@h"), false);
        }
    }

    #[test]
    fn an_ended_attempt_gets_no_message() {
        let mut attempts = Attempts::default();
        let mut attempt = attempts.begin("a@h".parse().unwrap());
        attempts.ended(&node("a@h"));
        attempts.give_way(&"a@h".parse().unwrap());
        assert!(attempt.end.try_recv().is_err());
        assert!(attempts.pending.is_empty());
    }

    #[test]
    fn an_answered_attempt_gives_way_only_to_a_connection() {
        for peer_continues in [true, false] {
            let mut attempts = Attempts::default();
            let mut attempt = attempts.begin("a@h".parse().unwrap());
            attempt.answered.store(true, Ordering::Relaxed);
            attempts.give_way(&"a@h".parse().unwrap());
            assert!(attempt.end.try_recv().is_err());
            attempts.connected(&node("a@h"), peer_continues);
            assert_eq!(attempt.end.try_recv().is_ok(), peer_continues);
        }
    }

    #[test]
    fn remembered_names_are_bounded() {
        let mut attempts = Attempts::default();
        for number in 0..=limits::KNOWN_NODES {
            assert!(gives_way(&mut attempts, &format!("n{number}@h")));
            assert!(attempts.yielded.len() <= limits::KNOWN_NODES);
        }
    }
}
