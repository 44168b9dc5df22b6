//! What a diagnosis has found: its stages in order, each passed, failed or not looked at, and the verdict. Pure.

use std::time::Duration;

use beam::connect::dial::DialError;
use beam::dist::HandshakeError;
use beam::dist::setup::SetupError;
use beam::name::NodeName;

/// What stands between two nodes, in the order in which one meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Both names are short, or both long; and we have one.
    Name,
    /// Its host has an address.
    Resolve,
    /// Its host's EPMD answers.
    Epmd,
    /// That EPMD knows its name.
    Registered,
    /// Its port takes connections.
    Tcp,
    /// Whose port it is, on this host.
    Owner,
    /// It speaks the protocol, is who it should be, and wants us.
    Handshake,
    /// It can do what we need.
    Flags,
    /// It has our cookie.
    Cookie,
    /// It gives signs of life.
    Ticks,
    /// It takes part in our scopes of process groups.
    Scope,
}

impl Stage {
    /// All of them, in order.
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

    /// Its stable name.
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

    /// The stage at which an attempt to connect failed.
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
    /// Nothing is in the way there.
    Passed,
    /// This is in the way.
    Failed(Failure),
    /// It was not looked at.
    Skipped,
}

/// What was found at one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub stage: Stage,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen, as a sentence for people.
    pub detail: String,
}

/// What a connected node says of itself; what it could not be asked is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnView {
    /// Its release of OTP.
    pub otp_release: Option<String>,
    /// Its `net_ticktime`.
    pub tick_time: Option<Duration>,
    /// How long a ping of it took.
    pub round_trip: Option<Duration>,
    /// The nodes that it is connected to, hidden ones too; a hecate-daemon tells only those that don't hide.
    pub nodes: Option<Vec<NodeName>>,
    /// Our scopes of process groups, each with whether one of that name runs there.
    pub scopes: Vec<(String, Option<bool>)>,
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The node that was asked for.
    pub node: NodeName,
    /// Ours.
    pub our_node: Option<NodeName>,
    /// Whether the two are connected.
    pub connected: bool,
    /// The hash of our cookie.
    pub cookie_hash: String,
    /// What was found, a stage each.
    pub findings: Vec<Finding>,
    /// What the node says of itself.
    pub own_view: Option<OwnView>,
    /// What follows where no stage failed.
    pub otherwise: String,
}

impl Report {
    /// One in which nothing has been found yet.
    #[must_use]
    pub fn new(node: NodeName, our_node: Option<NodeName>, cookie_hash: String) -> Self {
        Self {
            node,
            our_node,
            connected: false,
            cookie_hash,
            findings: Vec::new(),
            own_view: None,
            otherwise: String::new(),
        }
    }

    /// A stage is passed.
    pub fn passed(&mut self, stage: Stage, detail: impl Into<String>) {
        self.add(stage, Outcome::Passed, detail.into());
    }

    /// A stage failed.
    pub fn failed(&mut self, stage: Stage, detail: impl Into<String>, failure: Failure) {
        self.add(stage, Outcome::Failed(failure), detail.into());
    }

    /// A stage was not looked at.
    pub fn skipped(&mut self, stage: Stage, detail: impl Into<String>) {
        self.add(stage, Outcome::Skipped, detail.into());
    }

    /// What is found of a stage first counts.
    fn add(&mut self, stage: Stage, outcome: Outcome, detail: String) {
        if self.findings.iter().all(|finding| finding.stage != stage) {
            self.findings.push(Finding { stage, outcome, detail });
        }
    }

    /// The first stage of which nothing has been found.
    #[must_use]
    pub fn next_stage(&self) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| self.findings.iter().all(|finding| finding.stage != *stage))
    }

    /// Nothing more will be found: the rest of the stages was not reached.
    pub fn finish(&mut self) {
        while let Some(stage) = self.next_stage() {
            self.skipped(stage, "not reached");
        }
        self.findings.sort_by_key(|finding| finding.stage);
    }

    /// What is in the way first.
    #[must_use]
    pub fn first_failure(&self) -> Option<(&Finding, &Failure)> {
        self.findings.iter().find_map(|finding| match &finding.outcome {
            Outcome::Failed(failure) => Some((finding, failure)),
            Outcome::Passed | Outcome::Skipped => None,
        })
    }

    /// The whole in a sentence.
    #[must_use]
    pub fn verdict(&self) -> String {
        match self.first_failure() {
            Some((finding, failure)) => format!("{}: {}", finding.detail, failure.advice),
            None => self.otherwise.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_the_verdict_and_what_lies_behind_was_not_reached() {
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
