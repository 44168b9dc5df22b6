//! Why a node is, or isn't, connected: stage by stage, each failure with what to do (as RabbitMQ's diagnostics go, in
//! `rabbit_nodes_common.erl`).
//!
//! [`report`] holds what was found and [`advice`] what to do about it, both pure; `probe` tries the stages where we
//! aren't connected. A connected node is asked over our own link what it sees.
//!
//! A diagnosis disturbs nobody: it opens a connection of its own only where there is none, proves the cookie to nobody that
//! an attempt to connect would not prove it to, and replaces no connection.

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
use advice::About;
use report::{OwnView, Report, Stage};

/// What diagnoses depend on.
#[derive(Debug, Clone)]
pub struct DiagnosisSettings {
    /// How nodes are reached.
    pub dialer: Dialer,
    /// The cluster's secret.
    pub cookie: Cookie,
    /// The challenges that we have issued, shared with our node.
    pub challenges: Challenges,
    /// Whether our node is hidden.
    pub hidden: bool,
    /// Our scopes of process groups.
    pub scopes: Vec<String>,
    /// Silence after which a peer counts as gone.
    pub tick_time: Duration,
}

/// As many diagnoses are under way as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{max} diagnoses are under way: ask again when one is done", max = limits::DIAGNOSES)]
pub struct Busy;

/// Who makes diagnoses. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Diagnostician {
    settings: Arc<DiagnosisSettings>,
    cluster: watch::Receiver<Arc<ClusterView>>,
    node: watch::Receiver<Option<Handle>>,
    permits: Arc<Semaphore>,
    /// One trial at a time: all have the same name.
    trial: Arc<Semaphore>,
    time: Duration,
    /// Diagnoses always run on the node's runtime.
    runtime: runtime::Handle,
}

impl Diagnostician {
    /// Creates the diagnosis for our node. Diagnoses run on the current runtime.
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

    /// Looks at all that stands between us and a node. A step that takes too long is reported as
    /// such. Ends when it is dropped.
    ///
    /// # Errors
    /// [`Busy`].
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
        let examined = timeout(self.time, self.examine(node, &mut report)).await;
        if examined.is_err()
            && let Some(stage) = report.next_stage()
        {
            report.failed(stage, format!("no end after {} s", self.time.as_secs()), advice::too_slow());
        }
        report.finish();
        report
    }

    async fn examine(&self, node: &NodeName, report: &mut Report) {
        let handle = self.node.borrow().clone();
        let (Some(handle), Some(us)) = (handle, report.our_node.clone()) else {
            return report.failed(Stage::Name, "we are no node of a cluster yet", advice::no_node());
        };
        if self.settings.dialer.is_same_node(&us, node) {
            return report.failed(Stage::Name, format!("{node} is our own node"), advice::ourselves());
        }
        // Two attempts at once would be in each other's way.
        let settled = |view: &ClusterView| !matches!(peer(view, node), Some((PeerState::Connecting, _)));
        let _ = timeout(limits::DIAGNOSIS_WAIT, self.cluster.clone().wait_for(|view| settled(view))).await;
        if is_up(&handle, node) && self.ask(&handle, node, report).await {
            return;
        }
        let Err(error) = self.try_out(&handle, node, &us, report).await else { return };
        // The connection has come about meanwhile: the trial met it.
        let crossing = matches!(
            error,
            DialError::Setup(SetupError::Handshake(HandshakeError::AlreadyAlive | HandshakeError::Simultaneous))
        );
        let comes = async { handle.watch().wait_for(|view| is_in(view, node)).await.is_ok() };
        if crossing && timeout(limits::DIAGNOSIS_WAIT, comes).await == Ok(true) {
            report.findings.clear();
            if self.ask(&handle, node, report).await {
                return;
            }
        }
        // It is connected, and by another name: it had no occasion to say so.
        let error = match self.connected_as(&handle, node) {
            Some(other) if crossing => DialError::Setup(HandshakeError::NameMismatch(other).into()),
            _ => error,
        };
        let failure = advice_for(&error, &self.settings.dialer, node, &us, report);
        report.failed(Stage::of(&error), error.to_string(), failure);
    }

    /// The other name of this host by which a node of this host is connected, such as `x@localhost`.
    fn connected_as(&self, handle: &Handle, node: &NodeName) -> Option<NodeName> {
        let is_it = |name: &NodeName| name != node && self.settings.dialer.is_same_node(name, node);
        let view = handle.watch().borrow().clone();
        view.peers.iter().find(|(name, peer)| peer.is_up() && is_it(name)).map(|(name, _)| name.clone())
    }

    // ---- Where we are not connected -----------------------------------------------------------

    async fn try_out(
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
        if let Some(since) = known.as_ref().and_then(resting) {
            report.skipped(Stage::Handshake, "the node rests: see the cookie");
            report.skipped(Stage::Flags, "the node rests: see the cookie");
            let failure = advice_for(&DialError::Setup(SetupError::ProofRefused), dialer, node, us, report);
            let detail = format!(
                "it refused our cookie {} s ago, and is asked again once its port in EPMD changes, or in 5 minutes",
                since.as_secs()
            );
            report.failed(Stage::Cookie, detail, failure);
            return Ok(());
        }
        let creation = handle.watch().borrow().creation;
        let flags = flags::ours(*hidden);
        let (cookie, challenges) = (cookie.clone(), challenges.clone());
        let us = Identity { name: us.clone(), creation, flags, cookie, challenges };
        probe::shake(dialer, reached, node, &us, &self.trial, report).await?;
        for stage in [Stage::Ticks, Stage::Scope] {
            report.skipped(stage, "only a connected node can be asked");
        }
        report.otherwise = match known {
            Some(_) => format!("nothing is in the way: {node} is connected at the next attempt"),
            None => format!(
                "nothing is in the way, and nobody has told us to connect to {node}: add it to HECATE_CLUSTER_PEERS, or let it \
                 connect to us"
            ),
        };
        Ok(())
    }

    // ---- Where we are -----------------------------------------------------------------------------

    /// Asks a connected node what it sees, over the connection itself. `false`: it ended meanwhile, and nothing is reported.
    async fn ask(&self, handle: &Handle, node: &NodeName, report: &mut Report) -> bool {
        report.connected = true;
        report.otherwise = format!("{node} is connected, and nothing is wrong");
        for stage in
            [Stage::Name, Stage::Resolve, Stage::Epmd, Stage::Registered, Stage::Tcp, Stage::Owner, Stage::Handshake]
        {
            report.passed(stage, "it is connected");
        }
        let link = peer(&self.cluster.borrow(), node).and_then(|(_, details)| details.link);
        let agreed = link.map(|link| link.flags.join(" ")).unwrap_or_default();
        report.passed(Stage::Flags, format!("both have {agreed}"));
        report.passed(Stage::Cookie, "both have proved the same");

        let scopes = async {
            // A hecate-daemon, which can't be asked, has told our scopes of its own.
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
                Some("it takes no calls (as nodes in C and Java don't), and can't be asked")
            }
            Err(Unanswered::NotAsked) => Some("too many calls wait for answers: ask again in a moment"),
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
            let detail = format!("it has not answered a ping within {} s", beam::limits::CALL_TIME.as_secs());
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
        self.judge(&view, report);
        report.own_view = Some(view);
        true
    }

    fn judge(&self, view: &OwnView, report: &mut Report) {
        let ours = self.settings.tick_time.as_secs();
        let theirs = match view.tick_time {
            Some(time) => format!("its net_ticktime is {} s, ours {ours} s", time.as_secs()),
            None => format!("our net_ticktime is {ours} s, and its own can't be asked"),
        };
        let took = view.round_trip.unwrap_or_default();
        report.passed(Stage::Ticks, format!("it answered a ping in {:.1} ms; {theirs}", took.as_secs_f64() * 1000.0));
        let absent = view.scopes.iter().find(|(_, runs)| *runs == Some(false));
        if let Some((scope, _)) = absent {
            let detail = format!("no pg scope named {scope} runs there, so that it sees no plugin");
            report.failed(Stage::Scope, detail, advice::scope_absent(scope));
        } else if view.scopes.iter().all(|(_, runs)| runs.is_some()) {
            report.passed(Stage::Scope, format!("it has {}", self.settings.scopes.join(", ")));
        } else {
            report.skipped(Stage::Scope, "it has told us of none, and can't be asked: it runs no calls for others");
        }
    }
}

/// How the cluster's side stands with a node.
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

/// "After a wrong cookie a name rests until its EPMD port changes, one try in 5 minutes at most." For how long it has.
fn resting(details: &PeerDetails) -> Option<Duration> {
    let failure = details.last_failure.as_ref().filter(|failure| failure.code == DialCode::CookieMismatch)?;
    let since = SystemTime::now().duration_since(failure.at).unwrap_or_default();
    (details.attempts > 0 && since < redial::REST).then_some(since)
}

fn advice_for(error: &DialError, dialer: &Dialer, node: &NodeName, us: &NodeName, report: &Report) -> report::Failure {
    advice::of(error, &About { node, us, epmd_port: dialer.epmd_port, cookie_hash: &report.cookie_hash })
}

#[cfg(test)]
mod tests;
