//! The JSON of a diagnosis.

use super::milliseconds;
use crate::cluster::diagnosis::report::{self, Outcome, Report};
use crate::wire::{Diagnosis, OwnScope, OwnView, Stage, StageOutcome};

impl Diagnosis {
    /// Describes the report of a diagnosis.
    #[must_use]
    pub fn new(report: &Report) -> Self {
        Self {
            node: report.node.to_string(),
            our_node: report.our_node.as_ref().map(ToString::to_string),
            connected: report.connected,
            code: report.first_failure().map(|(_, failure)| failure.code.to_owned()),
            verdict: report.verdict(),
            cookie_hash: report.cookie_hash.clone(),
            stages: report.findings.iter().map(Stage::new).collect(),
            peer: report.own_view.as_ref().map(OwnView::new),
        }
    }
}

impl Stage {
    fn new(finding: &report::Finding) -> Self {
        let (outcome, failure) = match &finding.outcome {
            Outcome::Passed => (StageOutcome::Passed, None),
            Outcome::Failed(failure) => (StageOutcome::Failed, Some(failure)),
            Outcome::Skipped => (StageOutcome::Skipped, None),
        };
        Self {
            stage: finding.stage.name().into(),
            outcome,
            detail: finding.detail.clone(),
            code: failure.map(|failure| failure.code.to_owned()),
            advice: failure.map(|failure| failure.advice.clone()),
        }
    }
}

impl OwnView {
    fn new(view: &report::OwnView) -> Self {
        let scope = |(name, runs): &(String, Option<bool>)| OwnScope { name: name.clone(), runs: *runs };
        Self {
            otp_release: view.otp_release.clone(),
            net_ticktime: view.tick_time.map(|time| time.as_secs()),
            round_trip_ms: view.round_trip.map(milliseconds),
            nodes: view.nodes.as_ref().map(|nodes| nodes.iter().map(ToString::to_string).collect()),
            scopes: view.scopes.iter().map(scope).collect(),
        }
    }
}
