//! The result of a diagnosis: its stages in order, each passed, failed or skipped, and the verdict.
//! Pure.

use std::time::Duration;

use beam::connect::dial::DialError;
use beam::dist::HandshakeError;
use beam::dist::setup::SetupError;
use beam::name::NodeName;

/// A stage of a connection. The order is that in which a connection passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Our node has a name, and both names are short or both long.
    Name,
    /// The node's host has an address.
    Resolve,
    /// The EPMD of that host answers.
    Epmd,
    /// That EPMD has the node's name.
    Registered,
    /// The node's port accepts connections.
    Tcp,
    /// The port belongs to an allowed user. Only checked on this host.
    Owner,
    /// The node speaks the protocol, has the expected name, and accepts our node.
    Handshake,
    /// The node has all mandatory distribution flags.
    Flags,
    /// The node has our cookie.
    Cookie,
    /// The node answers a ping.
    Ticks,
    /// The node runs our scopes of process groups.
    Scope,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 11] = [
        Self::Name,
        Self::Resolve,
        Self::Epmd,
        Self::Registered,
        Self::Tcp,
        Self::Owner,
        Self::Handshake,
        Self::Flags,
        Self::Cookie,
        Self::Ticks,
        Self::Scope,
    ];

    /// Returns the name of the stage, which never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Resolve => "resolve",
            Self::Epmd => "epmd",
            Self::Registered => "registered",
            Self::Tcp => "tcp",
            Self::Owner => "owner",
            Self::Handshake => "handshake",
            Self::Flags => "flags",
            Self::Cookie => "cookie",
            Self::Ticks => "ticks",
            Self::Scope => "scope",
        }
    }

    /// Returns the stage at which an attempt to connect failed.
    #[must_use]
    pub fn of(error: &DialError) -> Self {
        match error {
            DialError::Mixed { .. } => Self::Name,
            DialError::HostUnresolved(..) => Self::Resolve,
            DialError::Epmd(_) => Self::Epmd,
            DialError::NotRegistered => Self::Registered,
            DialError::Refused(..) | DialError::TcpTimedOut(_) => Self::Tcp,
            DialError::ForeignOwner { .. } => Self::Owner,
            DialError::Setup(SetupError::Handshake(HandshakeError::FlagsMissing(_))) => Self::Flags,
            DialError::Setup(
                SetupError::ProofRefused
                | SetupError::Handshake(HandshakeError::CookieMismatch | HandshakeError::Reflected),
            ) => Self::Cookie,
            DialError::Setup(_) => Self::Handshake,
        }
    }
}

/// Why a stage failed, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The stable code.
    pub code: &'static str,
    /// What to do.
    pub advice: String,
}

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The stage passed.
    Passed,
    /// The stage failed.
    Failed(Failure),
    /// The stage was not checked.
    Skipped,
}

/// The result of one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The stage.
    pub stage: Stage,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found, for people.
    pub detail: String,
}

/// The answers of a connected node about itself. A field is `None` if the node did not answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnView {
    /// Its OTP release.
    pub otp_release: Option<String>,
    /// Its `net_ticktime`.
    pub tick_time: Option<Duration>,
    /// The round-trip time of a ping.
    pub round_trip: Option<Duration>,
    /// The nodes that it is connected to, including hidden ones. A hecate-daemon reports only the
    /// visible ones.
    pub nodes: Option<Vec<NodeName>>,
    /// Our scopes of process groups, each with whether a scope of that name runs there.
    pub scopes: Vec<(String, Option<bool>)>,
}

/// The result of a diagnosis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The diagnosed node.
    pub node: NodeName,
    /// Our own node, if it has a name.
    pub our_node: Option<NodeName>,
    /// Whether the two nodes are connected.
    pub connected: bool,
    /// The hash of our cookie.
    pub cookie_hash: String,
    /// The results of the stages.
    pub findings: Vec<Finding>,
    /// The answers of the node, if it is connected.
    pub own_view: Option<OwnView>,
    /// The verdict if no stage failed.
    pub verdict_if_passed: String,
}

impl Report {
    /// Returns a report without results.
    #[must_use]
    pub fn new(node: NodeName, our_node: Option<NodeName>, cookie_hash: String) -> Self {
        Self {
            node,
            our_node,
            connected: false,
            cookie_hash,
            findings: Vec::new(),
            own_view: None,
            verdict_if_passed: String::new(),
        }
    }

    /// Adds a stage that passed.
    pub fn passed(&mut self, stage: Stage, detail: impl Into<String>) {
        self.add(stage, Outcome::Passed, detail.into());
    }

    /// Adds a stage that failed.
    pub fn failed(&mut self, stage: Stage, detail: impl Into<String>, failure: Failure) {
        self.add(stage, Outcome::Failed(failure), detail.into());
    }

    /// Adds a stage that was not checked.
    pub fn skipped(&mut self, stage: Stage, detail: impl Into<String>) {
        self.add(stage, Outcome::Skipped, detail.into());
    }

    /// Adds the result of a stage, unless the stage has one.
    fn add(&mut self, stage: Stage, outcome: Outcome, detail: String) {
        if self.findings.iter().all(|finding| finding.stage != stage) {
            self.findings.push(Finding { stage, outcome, detail });
        }
    }

    /// Returns the first stage without a result.
    #[must_use]
    pub fn next_stage(&self) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| self.findings.iter().all(|finding| finding.stage != *stage))
    }

    /// Marks the remaining stages as not reached, and sorts the results.
    pub fn finish(&mut self) {
        while let Some(stage) = self.next_stage() {
            self.skipped(stage, "not reached");
        }
        self.findings.sort_by_key(|finding| finding.stage);
    }

    /// Returns the first stage that failed, with its failure.
    #[must_use]
    pub fn first_failure(&self) -> Option<(&Finding, &Failure)> {
        self.findings.iter().find_map(|finding| match &finding.outcome {
            Outcome::Failed(failure) => Some((finding, failure)),
            Outcome::Passed | Outcome::Skipped => None,
        })
    }

    /// Returns the result as one sentence.
    #[must_use]
    pub fn verdict(&self) -> String {
        match self.first_failure() {
            Some((finding, failure)) => format!("{}: {}", finding.detail, failure.advice),
            None => self.verdict_if_passed.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_the_verdict_and_later_stages_are_not_reached() {
        let mut report = Report::new("a@h".parse().unwrap(), Some("us@h".parse().unwrap()), String::new());
        report.passed(Stage::Name, "both are short");
        report.failed(Stage::Resolve, "no address", Failure { code: "host_unresolved", advice: "add it".to_owned() });
        assert_eq!(report.next_stage(), Some(Stage::Epmd));
        report.finish();
        assert_eq!(report.findings.iter().map(|finding| finding.stage).collect::<Vec<_>>(), Stage::ALL);
        assert!(report.findings[2..].iter().all(|finding| finding.outcome == Outcome::Skipped));
        assert_eq!(report.first_failure().map(|(_, failure)| failure.code), Some("host_unresolved"));
        assert_eq!(report.verdict(), "no address: add it");
    }
}
