//! Records for each node how it was found, our attempts to connect to it, and its answers about
//! itself. Pure.
//!
//! The records follow the decisions of [`super::redial`], and a node that it drops is forgotten
//! here too. The redialer and the introducer keep their own schedules.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use beam::name::NodeName;

use crate::cluster::view::{DialFailure, Introduction};

/// The answers of a peer about itself; none where it has not answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerAnswers {
    /// Its OTP release.
    pub otp_release: Option<String>,
    /// Its `net_ticktime`.
    pub tick_time: Option<Duration>,
    /// The round-trip time of the last ping.
    pub round_trip: Option<Duration>,
}

/// An answer of a peer to a request about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAnswer {
    /// Its OTP release; `None` if the peer has no release or did not answer.
    Release(Option<String>),
    /// The other answers. A field is `None` if the peer did not answer.
    Others {
        /// Its `net_ticktime`.
        tick_time: Option<Duration>,
        /// The round-trip time of a ping.
        round_trip: Option<Duration>,
    },
}

/// The record of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRecord {
    /// How it was found first.
    pub introduced_by: Introduction,
    /// When it was found first.
    pub since: SystemTime,
    /// The number of attempts to connect since its last connection.
    pub attempts: u32,
    /// The most recent failure.
    pub last_failure: Option<DialFailure>,
    /// When the present attempt began, if one is under way.
    pub under_way: Option<SystemTime>,
    /// Its answers over the present or the last connection.
    pub answers: PeerAnswers,
}

/// The records of all nodes.
#[derive(Debug, Default)]
pub struct PeerRecords(BTreeMap<NodeName, PeerRecord>);

impl PeerRecords {
    /// Nodes were found. The first introduction of each node is kept.
    pub fn introduced(&mut self, now: SystemTime, names: impl IntoIterator<Item = NodeName>, by: &Introduction) {
        for name in names {
            if !self.0.contains_key(&name) && self.0.len() < beam::limits::KNOWN_NODES {
                let (introduced_by, answers) = (by.clone(), PeerAnswers::default());
                let record =
                    PeerRecord { introduced_by, since: now, attempts: 0, last_failure: None, under_way: None, answers };
                self.0.insert(name, record);
            }
        }
    }

    /// An attempt begins.
    pub fn dialling(&mut self, now: SystemTime, name: &str) {
        if let Some(record) = self.0.get_mut(name) {
            record.under_way = Some(now);
            record.attempts = record.attempts.saturating_add(1);
        }
    }

    /// An attempt has ended.
    pub fn dialled(&mut self, name: &str, failure: Option<DialFailure>) {
        if let Some(record) = self.0.get_mut(name) {
            record.under_way = None;
            record.last_failure = failure.or_else(|| record.last_failure.take());
        }
    }

    /// A node has another name than the dialled one. That name gets the same introduction.
    pub fn calls_itself(&mut self, now: SystemTime, name: &str, other: NodeName) {
        if let Some(by) = self.of(name).map(|record| record.introduced_by.clone()) {
            self.introduced(now, [other], &by);
        }
    }

    /// A connected node has answered a request about itself, or did not answer in time.
    pub fn answered(&mut self, name: &str, answer: PeerAnswer) {
        let Some(PeerRecord { answers, .. }) = self.0.get_mut(name) else { return };
        match answer {
            PeerAnswer::Release(release) => answers.otp_release = release,
            PeerAnswer::Others { tick_time, round_trip } => {
                // The former tick time is probably still right; a former round trip is not.
                answers.tick_time = tick_time.or(answers.tick_time);
                answers.round_trip = round_trip;
            }
        }
    }

    /// A node has connected; either side may have dialled.
    pub fn connected(&mut self, name: &str) {
        if let Some(record) = self.0.get_mut(name) {
            (record.attempts, record.answers) = (0, PeerAnswers::default());
        }
    }

    /// Forgets the nodes that are not wanted, and returns them.
    pub fn keep(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<NodeName> {
        self.0.extract_if(.., |name, _| !wanted(name)).map(|(name, _)| name).collect()
    }

    /// Returns the record of a node.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<&PeerRecord> {
        self.0.get(name)
    }

    /// Returns all nodes with their records.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeName, &PeerRecord)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use beam::connect::dial::DialCode;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn failure(code: DialCode) -> Option<DialFailure> {
        Some(DialFailure { code, detail: code.name().to_owned(), at: NOW })
    }

    #[test]
    fn attempts_are_counted_until_one_succeeds_and_the_last_failure_is_remembered() {
        let mut records = PeerRecords::default();
        records.introduced(NOW, ["a@h".parse().unwrap()], &Introduction::Epmd);
        records.introduced(NOW, ["a@h".parse().unwrap()], &Introduction::Peer("b@h".parse().unwrap()));
        for code in [DialCode::TcpRefused, DialCode::CookieMismatch] {
            records.dialling(NOW, "a@h");
            assert_eq!(records.of("a@h").unwrap().under_way, Some(NOW));
            records.dialled("a@h", failure(code));
        }
        let known = records.of("a@h").unwrap();
        assert_eq!((known.attempts, known.under_way, &known.introduced_by), (2, None, &Introduction::Epmd));
        assert_eq!(known.last_failure, failure(DialCode::CookieMismatch));
        records.dialling(NOW, "a@h");
        records.dialled("a@h", None);
        records.connected("a@h");
        let known = records.of("a@h").unwrap();
        assert_eq!((known.attempts, &known.last_failure), (0, &failure(DialCode::CookieMismatch)));
        records.calls_itself(NOW, "a@h", "a@localhost".parse().unwrap());
        assert_eq!(records.of("a@localhost").unwrap().introduced_by, Introduction::Epmd);
        assert_eq!(records.keep(|name| name != "a@h"), ["a@h"]);
        assert!(records.keep(|name| name != "a@h").is_empty());
        assert_eq!(records.of("a@h"), None);
    }

    #[test]
    fn each_answer_changes_only_its_fields_and_a_new_connection_clears_all() {
        let mut records = PeerRecords::default();
        records.introduced(NOW, ["a@h".parse().unwrap()], &Introduction::Epmd);
        let (tick_time, round_trip) = (Some(Duration::from_secs(60)), Some(Duration::from_millis(1)));
        records.answered("a@h", PeerAnswer::Release(Some("27".to_owned())));
        records.answered("a@h", PeerAnswer::Others { tick_time, round_trip });
        let known = PeerAnswers { otp_release: Some("27".to_owned()), tick_time, round_trip };
        assert_eq!(records.of("a@h").unwrap().answers, known);
        records.answered("a@h", PeerAnswer::Others { tick_time: None, round_trip: None });
        assert_eq!(records.of("a@h").unwrap().answers, PeerAnswers { round_trip: None, ..known }, "the ping was lost");
        records.connected("a@h");
        assert_eq!(records.of("a@h").unwrap().answers, PeerAnswers::default());
    }

    #[test]
    fn the_number_of_records_is_bounded() {
        let mut records = PeerRecords::default();
        let names = |n: usize| (0..n).map(|i| format!("n{i}@h").parse().unwrap());
        records.introduced(NOW, names(beam::limits::KNOWN_NODES + 1), &Introduction::Epmd);
        assert_eq!(records.iter().count(), beam::limits::KNOWN_NODES);
    }
}
