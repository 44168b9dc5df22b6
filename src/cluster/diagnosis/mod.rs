//! Finds out why a node is not connected: checks the stages of a connection in order, and returns
//! what to do about the first that fails. (RabbitMQ's `rabbit_nodes_common.erl` does the same.)
//!
//! [`report`] holds the results and [`advice`] what to do; both are pure. `probe` tries the stages
//! of a node that is not connected. A connected node is asked over the existing connection.
//!
//! A diagnosis does not disturb the cluster. It opens a connection only to a node that is not
//! connected. It proves the cookie only where an attempt to connect would. It does not replace a
//! connection of our node.

pub mod advice;
mod probe;
pub mod report;

use std::future::pending;
use std::panic;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use beam::connect::dial::{DialCode, DialError, Dialer};
use beam::cookie::Cookie;
use beam::dist::challenges::Challenges;
use beam::dist::flags;
use beam::dist::setup::SetupError;
use beam::dist::{HandshakeError, Identity};
use beam::etf::Atom;
use beam::name::NodeName;
use beam::node::handle::Handle;
use tokio::runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cluster::peers::questions::{self, Unanswered};
use crate::cluster::peers::redial;
use crate::cluster::view::{ClusterView, PeerDetails, PeerState};
use crate::limits;
use advice::AdviceContext;
use report::{OwnView, Report, Stage};

/// The settings of diagnoses.
#[derive(Debug, Clone)]
pub struct DiagnosisSettings {
    /// Connects to nodes.
    pub dialer: Dialer,
    /// The cookie of the cluster.
    pub cookie: Cookie,
    /// The challenges of all handshakes, shared with our node.
    pub challenges: Challenges,
    /// Whether our node is hidden.
    pub hidden: bool,
    /// Our scopes of process groups.
    pub scopes: Vec<String>,
    /// The time without data after which a peer is disconnected.
    pub tick_time: Duration,
}

/// Too many diagnoses are running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many diagnoses (limit {max}); try again when one has ended", max = limits::DIAGNOSES)]
pub struct Busy;

/// Diagnoses nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Diagnostician {
    settings: Arc<DiagnosisSettings>,
    cluster: watch::Receiver<Arc<ClusterView>>,
    node: watch::Receiver<Option<Handle>>,
    permits: Arc<Semaphore>,
    /// Allows one trial at a time, because all have the same name.
    trial: Arc<Semaphore>,
    /// The time limit of a diagnosis.
    time: Duration,
    /// The node's runtime, on which all diagnoses run.
    runtime: runtime::Handle,
}

impl Diagnostician {
    /// Creates a diagnostician for our node. Diagnoses run on the current runtime.
    ///
    /// # Panics
    /// There is no current runtime.
    #[must_use]
    pub fn new(
        settings: DiagnosisSettings,
        cluster: watch::Receiver<Arc<ClusterView>>,
        node: watch::Receiver<Option<Handle>>,
    ) -> Self {
        Self {
            settings: Arc::new(settings),
            cluster,
            node,
            permits: Arc::new(Semaphore::new(limits::DIAGNOSES)),
            trial: Arc::new(Semaphore::new(1)),
            time: limits::DIAGNOSIS_TIME,
            runtime: runtime::Handle::current(),
        }
    }

    /// Checks each stage of a connection to a node. A stage that takes too long has failed. The
    /// diagnosis ends when the future is dropped.
    ///
    /// # Errors
    /// [`Busy`] if [`limits::DIAGNOSES`] are running.
    pub async fn diagnose(&self, node: &NodeName) -> Result<Report, Busy> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| Busy)?;
        let (this, node) = (self.clone(), node.clone());
        let mut work = JoinSet::new();
        work.spawn_on(
            async move {
                let _permit = permit;
                this.report_on(&node).await
            },
            &self.runtime,
        );
        match work.join_next().await {
            Some(Ok(report)) => Ok(report),
            Some(Err(error)) if error.is_panic() => panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down.
            _ => pending().await,
        }
    }

    async fn report_on(&self, node: &NodeName) -> Report {
        let us = self.cluster.borrow().node.clone();
        let mut report = Report::new(node.clone(), us, self.settings.cookie.hash());
        let checked = timeout(self.time, self.check_stages(node, &mut report)).await;
        if checked.is_err()
            && let Some(stage) = report.next_stage()
        {
            let detail = format!("not finished after {} s", self.time.as_secs());
            report.failed(stage, detail, advice::diagnosis_timeout());
        }
        report.finish();
        report
    }

    async fn check_stages(&self, node: &NodeName, report: &mut Report) {
        let handle = self.node.borrow().clone();
        let (Some(handle), Some(us)) = (handle, report.our_node.clone()) else {
            return report.failed(Stage::Name, "this daemon's node is not in the cluster yet", advice::no_node());
        };
        if self.settings.dialer.is_same_node(&us, node) {
            return report.failed(Stage::Name, format!("{node} is this daemon's node"), advice::ourselves());
        }
        // Lets our node's own attempt end first, because two attempts at once would collide.
        let has_ended = |view: &ClusterView| !matches!(peer(view, node), Some((PeerState::Connecting, _)));
        let _ = timeout(limits::DIAGNOSIS_WAIT, self.cluster.clone().wait_for(|view| has_ended(view))).await;
        if is_up(&handle, node) && self.ask(&handle, node, report).await {
            return;
        }
        let Err(error) = self.try_connecting(&handle, node, &us, report).await else { return };
        // The node may have connected in the meantime, and refused the trial because of that.
        let has_collided = matches!(
            error,
            DialError::Setup(SetupError::Handshake(HandshakeError::AlreadyAlive | HandshakeError::Simultaneous))
        );
        let connects = async { handle.watch().wait_for(|view| is_in(view, node)).await.is_ok() };
        if has_collided && timeout(limits::DIAGNOSIS_WAIT, connects).await == Ok(true) {
            report.findings.clear();
            if self.ask(&handle, node, report).await {
                return;
            }
        }
        // The node is connected under another name, which it did not send because it refused first.
        let error = match self.connected_as(&handle, node) {
            Some(other) if has_collided => DialError::Setup(HandshakeError::NameMismatch(other).into()),
            _ => error,
        };
        let failure = advice_for(&error, &self.settings.dialer, node, &us, report);
        report.failed(Stage::of(&error), error.to_string(), failure);
    }

    /// Returns the other name under which a node of this host is connected, such as `x@localhost`.
    fn connected_as(&self, handle: &Handle, node: &NodeName) -> Option<NodeName> {
        let is_it = |name: &NodeName| name != node && self.settings.dialer.is_same_node(name, node);
        let view = handle.watch().borrow().clone();
        view.peers.iter().find(|(name, peer)| peer.is_up() && is_it(name)).map(|(name, _)| name.clone())
    }

    // ---- A node that is not connected ---------------------------------------------------------

    async fn try_connecting(
        &self,
        handle: &Handle,
        node: &NodeName,
        us: &NodeName,
        report: &mut Report,
    ) -> Result<(), DialError> {
        let DiagnosisSettings { dialer, cookie, challenges, hidden, .. } = &*self.settings;
        if node.is_mixed_with(us) {
            return Err(DialError::Mixed { theirs: node.clone(), ours: us.clone() });
        }
        report.passed(Stage::Name, format!("{node} and {us} are both {}", if us.is_long() { "long" } else { "short" }));
        let reached = probe::reach(dialer, node, us, report).await?;
        let known = peer(&self.cluster.borrow(), node).map(|(_, details)| details);
        if let Some(since) = known.as_ref().and_then(time_since_refusal) {
            for stage in [Stage::Handshake, Stage::Flags] {
                report.skipped(stage, "not checked: the node refused the cookie before");
            }
            let failure = advice_for(&DialError::Setup(SetupError::ProofRefused), dialer, node, us, report);
            let detail = format!(
                "the node refused the cookie {} s ago; the daemon tries again 5 min after that, or when the node \
                 registers with EPMD again",
                since.as_secs()
            );
            report.failed(Stage::Cookie, detail, failure);
            return Ok(());
        }
        let creation = handle.watch().borrow().creation;
        let flags = flags::ours(*hidden);
        let (cookie, challenges) = (cookie.clone(), challenges.clone());
        let us = Identity { name: us.clone(), creation, flags, cookie, challenges };
        probe::try_handshake(dialer, reached, node, &us, &self.trial, report).await?;
        for stage in [Stage::Ticks, Stage::Scope] {
            report.skipped(stage, "not checked: the node is not connected");
        }
        report.verdict_if_passed = match known {
            Some(_) => format!("no errors; the daemon connects to {node} at its next attempt"),
            None => format!(
                "no errors, but the daemon does not try to connect to {node}: add the node to HECATE_CLUSTER_PEERS, or, \
                 if it runs on this host, a pattern to HECATE_EPMD_NAMES, or connect from the node to the daemon"
            ),
        };
        Ok(())
    }

    // ---- A connected node -------------------------------------------------------------------------

    /// Asks a connected node about itself. Returns `false`, and reports nothing, if the connection
    /// ended in the meantime.
    async fn ask(&self, handle: &Handle, node: &NodeName, report: &mut Report) -> bool {
        report.connected = true;
        report.verdict_if_passed = format!("{node} is connected; no errors");
        for stage in
            [Stage::Name, Stage::Resolve, Stage::Epmd, Stage::Registered, Stage::Tcp, Stage::Owner, Stage::Handshake]
        {
            report.passed(stage, "connected");
        }
        let link = peer(&self.cluster.borrow(), node).and_then(|(_, details)| details.link);
        let agreed = link.map(|link| link.flags.join(" ")).unwrap_or_default();
        report.passed(Stage::Flags, format!("both have {agreed}"));
        report.passed(Stage::Cookie, "both nodes have the same");

        let scopes = async {
            // A hecate-daemon does not run this call, but its scopes have discovered ours.
            let exchanges = handle.exchanges(node.clone()).await.unwrap_or_default();
            let mut answers = Vec::new();
            for scope in &self.settings.scopes {
                let answer = match Atom::new(scope) {
                    Ok(scope) => questions::is_registered(handle, node, &scope).await,
                    Err(_) => Err(Unanswered::Unable),
                };
                answers.push((scope.clone(), answer.ok().or(exchanges.contains(&**scope).then_some(true))));
            }
            answers
        };
        let round_trip = questions::round_trip(handle, node).await;
        let unasked = match round_trip {
            Err(Unanswered::NotCallable) => {
                Some("not checked: the node does not accept calls (nodes in C and Java do not)")
            }
            Err(Unanswered::NotAsked) => Some("not checked: too many calls await an answer; try again in a moment"),
            _ => None,
        };
        if let Some(why) = unasked {
            report.skipped(Stage::Ticks, why);
            report.skipped(Stage::Scope, why);
            return true;
        }
        if round_trip.is_err() {
            if !is_up(handle, node) {
                report.connected = false;
                report.findings.clear();
                return false;
            }
            let detail = format!("no answer to a ping within {} s", beam::limits::CALL_TIME.as_secs());
            report.failed(Stage::Ticks, detail, advice::tick_timeout(node, self.settings.tick_time));
            return true;
        }
        let (otp_release, tick_time, nodes, scopes) = tokio::join!(
            questions::otp_release(handle, node),
            questions::tick_time(handle, node),
            questions::nodes(handle, node),
            scopes
        );
        let nodes = nodes.ok().map(|nodes| nodes.into_iter().collect());
        let (otp_release, tick_time, round_trip) = (otp_release.ok(), tick_time.ok(), round_trip.ok());
        let view = OwnView { otp_release, tick_time, round_trip, nodes, scopes };
        self.check_view(&view, report);
        report.own_view = Some(view);
        true
    }

    fn check_view(&self, view: &OwnView, report: &mut Report) {
        let ours = self.settings.tick_time.as_secs();
        let tick_times = match view.tick_time {
            Some(time) => format!("net_ticktime is {} s there, {ours} s here", time.as_secs()),
            None => format!("net_ticktime is unknown there, {ours} s here"),
        };
        let took = view.round_trip.unwrap_or_default().as_secs_f64() * 1000.0;
        report.passed(Stage::Ticks, format!("ping answered in {took:.1} ms; {tick_times}"));
        let absent = view.scopes.iter().find(|(_, runs)| *runs == Some(false));
        if let Some((scope, _)) = absent {
            let detail = format!("the pg scope '{scope}' does not run there, so the node sees no plugins");
            report.failed(Stage::Scope, detail, advice::scope_absent(scope));
        } else if view.scopes.iter().all(|(_, runs)| runs.is_some()) {
            report.passed(Stage::Scope, format!("the node runs {}", self.settings.scopes.join(", ")));
        } else {
            report.skipped(Stage::Scope, "not checked: the node has not reported its scopes, and does not run calls");
        }
    }
}

fn peer(view: &ClusterView, node: &NodeName) -> Option<(PeerState, PeerDetails)> {
    let peer = view.peers.iter().find(|peer| peer.name == node.as_str())?;
    Some((peer.state, peer.details.clone()))
}

fn is_in(view: &beam::node::view::View, node: &NodeName) -> bool {
    view.peers.get(node.as_str()).is_some_and(beam::node::view::Peer::is_up)
}

fn is_up(handle: &Handle, node: &NodeName) -> bool {
    is_in(&handle.watch().borrow(), node)
}

/// Returns the time since a node refused our cookie; none after [`redial::REFUSED_PAUSE`], when our
/// node tries again.
fn time_since_refusal(details: &PeerDetails) -> Option<Duration> {
    let failure = details.last_failure.as_ref().filter(|failure| failure.code == DialCode::CookieMismatch)?;
    let since = SystemTime::now().duration_since(failure.at).unwrap_or_default();
    (details.attempts > 0 && since < redial::REFUSED_PAUSE).then_some(since)
}

fn advice_for(error: &DialError, dialer: &Dialer, node: &NodeName, us: &NodeName, report: &Report) -> report::Failure {
    let context = AdviceContext { node, us, epmd_port: dialer.epmd_port, cookie_hash: &report.cookie_hash };
    advice::of(error, &context)
}

#[cfg(test)]
mod tests;
