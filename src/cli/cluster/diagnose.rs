//! `diagnose NODE`: checks each stage of the connection to a node, and shows what to do. The daemon
//! makes the checks, or with `--independent` this process.

use std::path::Path;

use beam::name::NodeName;
use clap::Args;
use hyper::Method;

use super::independent;
use crate::cli::help;
use crate::cli::support::client::{self, Call, encode};
use crate::cli::support::command::{Common, unreadable};
use crate::cli::support::exit::Exit;
use crate::cli::support::page::{self, Cell, complain, fields, table};
use crate::cli::support::{refusal, suggest};
use crate::limits;
use crate::wire::{Diagnosis, OwnView, Stage, StageName, StageOutcome};

/// The arguments of `diagnose`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Diagnose {
    /// Full name of the node, such as hecate_traderd@beam00
    #[arg(value_parser = node)]
    node: NodeName,
    /// Connect to the node without the daemon
    #[arg(long, long_help = help::INDEPENDENT)]
    independent: bool,
    #[command(flatten)]
    pub(in crate::cli) common: Common,
}

/// Parses the name of a node on the command line.
pub(super) fn node(text: &str) -> Result<NodeName, beam::name::NodeNameError> {
    NodeName::parse(text)
}

impl Diagnose {
    pub(in crate::cli) fn is_independent(&self) -> bool {
        self.independent
    }

    /// Connects to the node from this process.
    pub(in crate::cli) async fn run_independent(&self) -> Exit {
        let view = match independent::ask(&self.node, &self.common.place.0).await {
            Ok(view) => view,
            Err(error) => {
                complain(&error.to_string());
                return error.exit();
            }
        };
        let whole = serde_json::json!({ "node": self.node.as_str(), "peer": view });
        match self.common.json {
            true => page::write(&format!("{whole}\n")),
            false => page::show(&format!(
                "{}\nverdict: {} accepts a connection with this cookie\n",
                answers(&view),
                page::plain(self.node.as_str())
            )),
        }
        .exit()
    }

    /// Requests the diagnosis from the daemon. Returns [`Exit::Refused`] if a stage failed.
    pub(in crate::cli) async fn run(&self, socket: &Path) -> Exit {
        let path = format!("/api/cluster/peers/{}/diagnosis", encode(self.node.as_str()));
        let call = Call::new(Method::GET, path, |_| Ok(String::new()));
        let answer = match client::send(socket, &call, limits::CLIENT_DIAGNOSIS).await {
            Ok(answer) => answer,
            Err(error) => {
                complain(&error.to_string());
                return error.exit();
            }
        };
        let whole = || page::write(&format!("{}\n", String::from_utf8_lossy(&answer.body)));
        if !answer.status.is_success() {
            if self.common.json {
                let _ = whole();
            }
            complain(&refusal::for_people(answer.status, &answer.body));
            return Exit::Refused;
        }
        let diagnosis: Diagnosis = match serde_json::from_slice(&answer.body) {
            Ok(diagnosis) => diagnosis,
            Err(error) => {
                complain(&unreadable(&error));
                return Exit::NoDaemon;
            }
        };
        let printed = match self.common.json {
            true => whole(),
            false => page::show(&(shown(&diagnosis) + &self.hint(socket, &diagnosis).await)),
        };
        if diagnosis.code.is_some() { Exit::Refused } else { printed.exit() }
    }

    /// Returns a line with the most similar node, if the failure may be a misspelled name.
    async fn hint(&self, socket: &Path, diagnosis: &Diagnosis) -> String {
        let may_be_misspelled = matches!(diagnosis.code.as_deref(), Some("host_unresolved" | "not_registered"));
        match may_be_misspelled.then(|| suggest::node(socket, &self.node)) {
            Some(search) => search.await.map(|node| format!("did you mean '{node}'?\n")).unwrap_or_default(),
            None => String::new(),
        }
    }
}

fn shown(diagnosis: &Diagnosis) -> String {
    let row = |stage: &Stage| {
        let outcome = match stage.outcome {
            StageOutcome::Passed => Cell::good("ok"),
            StageOutcome::Failed => Cell::bad("FAIL"),
            StageOutcome::Skipped | StageOutcome::Other(_) => Cell::faint("-"),
        };
        vec![outcome, Cell::head(&stage.stage.to_string()), Cell::from(detail(stage))]
    };
    let mut text = table(&diagnosis.stages.iter().map(row).collect::<Vec<_>>());
    if let Some(view) = &diagnosis.peer {
        text.push('\n');
        text.push_str(&answers(view));
    }
    // The failed stage is in the table. The verdict is what to do.
    let failed = diagnosis.stages.iter().find_map(|stage| Some((stage.code.as_deref()?, stage.advice.as_deref()?)));
    let verdict = match failed {
        Some((code, advice)) => format!("{code}: {advice}"),
        None => diagnosis.verdict.clone(),
    };
    text.push_str(&format!("\ncookie hash: {}\nverdict: {}\n", diagnosis.cookie_hash, page::plain(&verdict)));
    text
}

/// Returns the detail of a stage. The names of the agreed flags are left to `--json`.
fn detail(stage: &Stage) -> &str {
    match (&stage.stage, &stage.outcome) {
        (StageName::Flags, StageOutcome::Passed) => "both nodes have all mandatory flags (names: --json)",
        _ => &stage.detail,
    }
}

/// Shows the node's own answers.
fn answers(view: &OwnView) -> String {
    let seconds = view.net_ticktime.map(|seconds| format!("{seconds} s"));
    let round_trip = view.round_trip_ms.map(|time| format!("{time} ms"));
    let mut rows = fields([
        ("OTP release", Cell::optional(view.otp_release.as_deref())),
        ("net_ticktime", Cell::optional(seconds.as_deref())),
        ("round trip", Cell::optional(round_trip.as_deref())),
        (
            "peers",
            Cell::optional(
                view.nodes.as_ref().filter(|nodes| !nodes.is_empty()).map(|nodes| nodes.join(", ")).as_deref(),
            ),
        ),
    ]);
    rows.extend(view.scopes.iter().map(|scope| {
        let runs = match scope.runs {
            Some(true) => Cell::good("runs"),
            Some(false) => Cell::bad("does not run"),
            None => Cell::faint("-"),
        };
        vec![Cell::head(&format!("scope {}", scope.name)), runs]
    }));
    table(&rows)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;
    use tokio::time::Instant;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        diagnose: Diagnose,
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_daemon_causes_a_timeout_of_the_diagnosis() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        let _listener = tokio::net::UnixListener::bind(&path).expect("bound");
        let line = Line::try_parse_from(["diagnose", "x@h"]).expect("a node");
        let begun = Instant::now();
        assert!(matches!(line.diagnose.run(&path).await, Exit::NoDaemon));
        let promised = Duration::from_secs(30)..Duration::from_millis(30_100);
        assert!(promised.contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
}
