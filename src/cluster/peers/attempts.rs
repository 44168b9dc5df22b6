//! What became of our attempts to reach each node, and who told us of it: for people, who decide nothing by it here. Pure.
//!
//! It follows what [`super::discovery`] decides, and forgets what that forgets.

use std::collections::BTreeMap;
use std::time::SystemTime;

use beam::name::NodeName;

use crate::cluster::view::{DialFailure, Introduction};

/// What is known of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Who told us of it first.
    pub introduced_by: Introduction,
    /// When.
    pub since: SystemTime,
    /// How often we tried to connect since it was connected last.
    pub count: u32,
    /// How the last that failed did so.
    pub last_failure: Option<DialFailure>,
    /// Since when one is under way, if one is.
    pub under_way: Option<SystemTime>,
}

/// All nodes that we were told of.
#[derive(Debug, Default)]
pub struct Attempts(BTreeMap<NodeName, Attempt>);

impl Attempts {
    /// Somebody names these nodes. Who did so first counts.
    pub fn introduced(&mut self, now: SystemTime, names: impl IntoIterator<Item = NodeName>, by: &Introduction) {
        for name in names {
            if !self.0.contains_key(&name) && self.0.len() < beam::limits::KNOWN_NODES {
                let introduced_by = by.clone();
                let attempt = Attempt { introduced_by, since: now, count: 0, last_failure: None, under_way: None };
                self.0.insert(name, attempt);
            }
        }
    }

    /// An attempt begins.
    pub fn dialer(&mut self, now: SystemTime, name: &str) {
        if let Some(attempt) = self.0.get_mut(name) {
            attempt.under_way = Some(now);
            attempt.count = attempt.count.saturating_add(1);
        }
    }

    /// An attempt has ended.
    pub fn dialled(&mut self, name: &str, failure: Option<DialFailure>) {
        if let Some(attempt) = self.0.get_mut(name) {
            attempt.under_way = None;
            attempt.last_failure = failure.or_else(|| attempt.last_failure.take());
        }
    }

    /// A node was found to go by another name: whoever named the one has named the other.
    pub fn calls_itself(&mut self, now: SystemTime, name: &str, other: NodeName) {
        if let Some(by) = self.of(name).map(|attempt| attempt.introduced_by.clone()) {
            self.introduced(now, [other], &by);
        }
    }

    /// A node has connected, whoever dialled.
    pub fn connected(&mut self, name: &str) {
        if let Some(attempt) = self.0.get_mut(name) {
            attempt.count = 0;
        }
    }

    /// Forgets all other nodes, and returns them.
    pub fn keep(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<NodeName> {
        self.0.extract_if(.., |name, _| !wanted(name)).map(|(name, _)| name).collect()
    }

    /// What is known of a node.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<&Attempt> {
        self.0.get(name)
    }

    /// Each node with what is known of it.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeName, &Attempt)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use beam::node::dial::DialCode;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn failure(code: DialCode) -> Option<DialFailure> {
        Some(DialFailure { code, detail: code.name().to_owned(), at: NOW })
    }

    #[test]
    fn attempts_are_counted_until_one_succeeds_and_the_last_failure_is_remembered() {
        let mut attempts = Attempts::default();
        attempts.introduced(NOW, ["a@h".parse().unwrap()], &Introduction::Epmd);
        attempts.introduced(NOW, ["a@h".parse().unwrap()], &Introduction::Peer("b@h".parse().unwrap()));
        for code in [DialCode::TcpRefused, DialCode::CookieMismatch] {
            attempts.dialer(NOW, "a@h");
            assert_eq!(attempts.of("a@h").unwrap().under_way, Some(NOW));
            attempts.dialled("a@h", failure(code));
        }
        let known = attempts.of("a@h").unwrap();
        assert_eq!((known.count, known.under_way, &known.introduced_by), (2, None, &Introduction::Epmd));
        assert_eq!(known.last_failure, failure(DialCode::CookieMismatch));
        attempts.dialer(NOW, "a@h");
        attempts.dialled("a@h", None);
        attempts.connected("a@h");
        let known = attempts.of("a@h").unwrap();
        assert_eq!((known.count, &known.last_failure), (0, &failure(DialCode::CookieMismatch)));
        attempts.calls_itself(NOW, "a@h", "a@localhost".parse().unwrap());
        assert_eq!(attempts.of("a@localhost").unwrap().introduced_by, Introduction::Epmd);
        assert_eq!(attempts.keep(|name| name != "a@h"), ["a@h"]);
        assert!(attempts.keep(|name| name != "a@h").is_empty());
        assert_eq!(attempts.of("a@h"), None);
    }

    #[test]
    fn no_more_nodes_are_kept_in_mind_than_are_dialled() {
        let mut attempts = Attempts::default();
        let names = |n: usize| (0..n).map(|i| format!("n{i}@h").parse().unwrap());
        attempts.introduced(NOW, names(beam::limits::KNOWN_NODES + 1), &Introduction::Epmd);
        assert_eq!(attempts.iter().count(), beam::limits::KNOWN_NODES);
    }
}
