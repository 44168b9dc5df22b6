//! Decides what follows from each change of the registry, of our node and of EPMD: which proxies
//! run, which nodes to find, what to report to the registry, when to register with EPMD again, and
//! whether the published view is out of date. Pure: [`super::task`] carries out its effects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use beam::connect::dial::Dialer;
use beam::name::NodeName;
use beam::node::view::{Peer, View};

use crate::cluster::peers::records::PeerRecord;
use crate::cluster::plugins::changes::Changes;
use crate::cluster::plugins::membership::MembershipTracker;
use crate::cluster::plugins::nodes::{self, Evidence, PluginNodes};
use crate::cluster::plugins::refusing::{Refusal, Refusing, Seen};
use crate::cluster::view::{EpmdState, NodeStates};
use crate::limits;
use crate::plugin::{PluginName, Plugins, Status};
use crate::registry::{self, Membership};

/// An effect of the machine. The task carries out effects in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterEffect {
    /// Start a proxy for this plugin, which is running.
    StartProxy(PluginName),
    /// End the proxy of this plugin.
    EndProxy(PluginName),
    /// Find these nodes, which are all nodes of plugins.
    FindNodes(BTreeSet<NodeName>),
    /// Report to the finder that this node has connected.
    NodeUp(NodeName),
    /// Report to the finder that this node is no longer connected.
    NodeDown(NodeName),
    /// Publish the view. It comes before the reports that the registry derives a status from, so
    /// that no stopped plugin is shown with a connected node.
    Publish,
    /// Report this to the registry.
    Report(Membership),
    /// Register our name with EPMD again.
    Register,
}

/// A node of this host that failed to connect.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    /// The full name.
    pub name: &'a NodeName,
    /// The port in this host's EPMD.
    pub port: u16,
    /// The last attempts to connect to it.
    pub record: &'a PeerRecord,
}

/// The state of the cluster's policy, all of which can be derived again from the registry and the
/// node.
#[derive(Debug)]
pub struct ClusterMachine {
    dialer: Dialer,
    /// The plugins that have a proxy, each with the incarnation that the proxy is for.
    proxies: BTreeMap<PluginName, u64>,
    /// The node of each plugin that has one.
    nodes: BTreeMap<PluginName, NodeName>,
    plugin_nodes: PluginNodes,
    /// The plugins for which `proxies` and `nodes` may be out of date.
    changes: Changes,
    membership: MembershipTracker,
    refusing: Refusing,
    epmd: EpmdState,
    /// The time at which to register with EPMD again, after EPMD was lost.
    register_at: Option<Instant>,
    /// The time since when EPMD has not answered, and its last failure.
    unanswered: Option<(Instant, String)>,
    /// Whether `unanswered` has lasted long enough to be shown.
    is_epmd_silent: bool,
    has_settled: bool,
    is_stale: bool,
}

impl ClusterMachine {
    /// Returns the machine of a node that has just joined. `membership` is for our own user.
    #[must_use]
    pub fn new(dialer: Dialer, membership: MembershipTracker, epmd: EpmdState) -> Self {
        Self {
            dialer,
            proxies: BTreeMap::new(),
            nodes: BTreeMap::new(),
            plugin_nodes: PluginNodes::default(),
            changes: Changes::new(),
            membership,
            refusing: Refusing::default(),
            epmd,
            register_at: None,
            unanswered: None,
            is_epmd_silent: false,
            has_settled: false,
            is_stale: true,
        }
    }

    // ---- Registry -------------------------------------------------------------------------------

    /// An event of this plugin was sent to the peers.
    pub fn event_sent(&mut self, plugin: PluginName) {
        self.changes.delivered(plugin);
    }

    /// Events were missed, so any plugin may have changed.
    pub fn events_missed(&mut self) {
        self.changes.missed();
    }

    /// The registry has another view. `sent` is the revision of the last event that was sent to the
    /// peers.
    pub fn plugins_changed(&mut self, view: &registry::View, sent: u64, out: &mut Vec<ClusterEffect>) {
        let changed = self.changes.take(view, sent, self.nodes.keys().chain(self.proxies.keys()));
        self.find_nodes(&view.plugins, &changed, out);
        // Before the registry has judged the stored plugins, their status is not known.
        if view.ready {
            for name in changed {
                self.keep_proxy(name, &view.plugins, out);
            }
        }
    }

    fn find_nodes(&mut self, plugins: &Plugins, changed: &BTreeSet<PluginName>, out: &mut Vec<ClusterEffect>) {
        let mut has_changed = false;
        for name in changed {
            let node = plugins.get(name).and_then(|plugin| plugin.node.as_ref());
            if self.nodes.get(name) == node {
                continue;
            }
            has_changed = true;
            let before = match node {
                Some(node) => {
                    self.plugin_nodes.add(node.clone(), name.clone());
                    self.nodes.insert(name.clone(), node.clone())
                }
                None => self.nodes.remove(name),
            };
            if let Some(before) = before {
                self.plugin_nodes.remove(before, name);
            }
        }
        if has_changed {
            self.is_stale = true;
            out.push(ClusterEffect::FindNodes(self.nodes.values().cloned().collect()));
        }
    }

    /// A running plugin has a proxy, and another one each time that it starts to run.
    fn keep_proxy(&mut self, name: PluginName, plugins: &Plugins, out: &mut Vec<ClusterEffect>) {
        let running = plugins.get(&name).filter(|plugin| plugin.status == Status::Running);
        let wanted = running.map(|plugin| plugin.incarnation);
        if self.proxies.get(&name).copied() == wanted {
            return;
        }
        if self.proxies.remove(&name).is_some() {
            out.push(ClusterEffect::EndProxy(name.clone()));
        }
        if let Some(incarnation) = wanted {
            self.proxies.insert(name.clone(), incarnation);
            out.push(ClusterEffect::StartProxy(name));
        }
    }

    // ---- Node -----------------------------------------------------------------------------------

    /// Returns the users of this host who own newly connected nodes, and who may have a
    /// hecate-daemon that we do not know yet. They must be looked up before [`Self::node_changed`].
    #[must_use]
    pub fn strangers(&self, view: &View) -> BTreeSet<u32> {
        self.membership.strangers(view, |name| self.dialer.is_here(name))
    }

    /// Returns whether this is another user who may have a hecate-daemon that we do not know yet.
    #[must_use]
    pub fn is_stranger(&self, uid: u32) -> bool {
        self.membership.is_stranger(uid)
    }

    /// A user of this host has a hecate-daemon.
    pub fn has_daemon(&mut self, uid: u32) {
        self.membership.has_daemon(uid);
    }

    /// Returns whether this user is another user of this host who has a hecate-daemon.
    #[must_use]
    pub fn is_neighbour(&self, uid: u32) -> bool {
        self.membership.is_neighbour(uid)
    }

    /// Our node has another view.
    pub fn node_changed(&mut self, view: &View, out: &mut Vec<ClusterEffect>) {
        self.is_stale = true;
        let reports = self.membership.news(view, |name| self.dialer.is_here(name));
        for report in &reports {
            let (node, effect): (_, fn(NodeName) -> ClusterEffect) = match report {
                Membership::NodeUp { node, .. } => (node, ClusterEffect::NodeUp),
                Membership::NodeDown { node, .. } => (node, ClusterEffect::NodeDown),
                Membership::WantedNames { .. }
                | Membership::OwnNode { .. }
                | Membership::NodeRefused { .. }
                | Membership::NodeEnded { .. }
                | Membership::Announced { .. }
                | Membership::Withdrawn { .. }
                | Membership::Settled => continue,
            };
            self.plugin_nodes.touch(node.clone());
            out.push(effect(node.clone()));
        }
        if !reports.is_empty() {
            out.push(ClusterEffect::Publish);
        }
        out.extend(reports.into_iter().map(ClusterEffect::Report));
    }

    /// Returns whether the stored plugins can be judged now, which is true once: when every node
    /// that could be found at the start has been tried.
    pub fn settles(&mut self, has_tried_all: bool) -> bool {
        has_tried_all && !std::mem::replace(&mut self.has_settled, true)
    }

    // ---- Nodes that refuse to connect -----------------------------------------------------------

    /// Returns the nodes of plugins that run on this host and refuse to connect. A plugin has
    /// registered the node, or the node has the name of a plugin.
    pub fn refusing<'a>(
        &self,
        view: &View,
        plugins: &Plugins,
        failed: impl Iterator<Item = Failed<'a>>,
    ) -> BTreeMap<NodeName, Refusal> {
        let is_plugins = |name: &NodeName| {
            let short = name.short_name().replace('_', "-");
            self.plugin_nodes.contains(name)
                || PluginName::parse(&short).is_ok_and(|plugin| plugins.contains_key(&plugin))
        };
        let refusal = |Failed { name, port, record }: Failed<'_>| {
            let evidence = Evidence { peer: view.peers.get(name), record: Some(record), ..Evidence::default() };
            let code = nodes::state(evidence).failure().filter(|code| code.is_refused_by_node())?;
            Some((name.clone(), Refusal { port, code }))
        };
        failed.filter(|failed| is_plugins(failed.name)).filter_map(refusal).collect()
    }

    /// Returns the nodes of `refusing` whose owners must be looked up, each with its port.
    #[must_use]
    pub fn unknown_owners(&self, refusing: &BTreeMap<NodeName, Refusal>) -> Vec<(NodeName, u16)> {
        self.refusing.strangers(refusing)
    }

    /// Reports the changes since the last call. The arguments are the same as for
    /// [`Refusing::news`].
    pub fn report_refusing(
        &mut self,
        now: Instant,
        refusing: &BTreeMap<NodeName, Refusal>,
        neighbours: &BTreeSet<NodeName>,
        seen: impl Fn(&NodeName) -> Seen,
        out: &mut Vec<ClusterEffect>,
    ) {
        out.extend(self.refusing.news(now, refusing, neighbours, seen).into_iter().map(ClusterEffect::Report));
    }

    // ---- EPMD -----------------------------------------------------------------------------------

    /// EPMD has closed the connection of our registration.
    pub fn epmd_lost(&mut self, now: Instant) {
        self.register_at = Some(now + beam::limits::EPMD_RETRY);
    }

    /// An attempt to register again has ended, with success or without.
    pub fn epmd_asked(&mut self, now: Instant, state: EpmdState, has_succeeded: bool) {
        if !has_succeeded {
            self.register_at = Some(now + beam::limits::EPMD_RETRY);
        }
        self.epmd = state;
        self.is_stale = true;
    }

    /// EPMD was asked for the names of this host. Returns whether EPMD counts as unavailable from
    /// now on: after [`limits::EPMD_ABSENCE`] without an answer, in which it could have been
    /// restarted.
    pub fn epmd_answered(&mut self, now: Instant, answer: Result<(), String>) -> bool {
        let was_silent = self.is_epmd_silent;
        match answer {
            Ok(()) => (self.unanswered, self.is_epmd_silent) = (None, false),
            Err(failure) => {
                let since = self.unanswered.take().map_or(now, |(since, _)| since);
                self.is_epmd_silent = now.saturating_duration_since(since) >= limits::EPMD_ABSENCE;
                self.unanswered = Some((since, failure));
            }
        }
        self.is_stale |= self.is_epmd_silent != was_silent;
        self.is_epmd_silent && !was_silent
    }

    /// Returns the time at which [`Self::time_passed`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.register_at
    }

    /// Does what is due.
    pub fn time_passed(&mut self, now: Instant, out: &mut Vec<ClusterEffect>) {
        if self.register_at.is_some_and(|at| at <= now) {
            self.register_at = None;
            out.push(ClusterEffect::Register);
        }
    }

    // ---- The published view ---------------------------------------------------------------------

    /// Something that the view shows has changed.
    pub fn mark_stale(&mut self) {
        self.is_stale = true;
    }

    /// Returns whether the published view may be out of date.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// The view is about to be published.
    pub fn published(&mut self) {
        self.is_stale = false;
    }

    /// The attempts to connect to this node have changed.
    pub fn touch(&mut self, node: NodeName) {
        self.plugin_nodes.touch(node);
    }

    /// Returns whether the node of each plugin is connected.
    pub fn plugin_nodes<'a>(&mut self, evidence: impl Fn(&NodeName) -> Evidence<'a>) -> NodeStates {
        self.plugin_nodes.update(evidence)
    }

    /// Returns whether a node belongs to this host and to no other user's hecate-daemon.
    #[must_use]
    pub fn is_here(&self, name: &NodeName, peer: Option<&Peer>) -> bool {
        self.dialer.is_here(name) && !peer.is_some_and(|peer| self.membership.is_neighbours(peer))
    }

    /// Returns the state of EPMD and of our registration with it.
    #[must_use]
    pub fn epmd(&self) -> EpmdState {
        match (&self.epmd, &self.unanswered) {
            (EpmdState::Registered, Some((_, failure))) if self.is_epmd_silent => EpmdState::Unavailable {
                reason: format!(
                    "{failure}. This daemon's node is registered, but no Erlang node of this host can be found until EPMD \
                     answers: resume or restart the process `epmd`"
                ),
            },
            (epmd, _) => epmd.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
