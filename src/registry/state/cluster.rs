//! Applies changes of nodes to the status of plugins. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use beam::name::NodeName;

use super::State;
use crate::plugin::{Plugin, PluginName, Reason, ReasonCode, Status};
use crate::registry::effect::{Now, RegistryEffect, Warning};
use crate::registry::entries::Entry;

impl State {
    pub(super) fn node_up(&mut self, now: Now, node: &NodeName, on_this_host: bool, out: &mut Vec<RegistryEffect>) {
        if let Err(warning) = Arc::make_mut(&mut self.nodes).up(node, on_this_host) {
            out.push(RegistryEffect::Warn(warning));
        }
        let nodes = &self.nodes;
        let runs_there = |plugin: &Plugin| nodes.node_of(plugin).as_ref() == Some(node);
        for name in self.entries.names_where(|entry| runs_there(&entry.plugin)) {
            self.follow_node(now, &name, out);
            out.push(RegistryEffect::EnsureLayout(name));
        }
    }

    pub(super) fn node_down(&mut self, now: Now, node: &NodeName, reason: &str, out: &mut Vec<RegistryEffect>) {
        if !Arc::make_mut(&mut self.nodes).down(node) {
            return;
        }
        for name in self.entries.names_where(|entry| entry.plugin.node.as_ref() == Some(node)) {
            let left = Reason::new(ReasonCode::NodeDown, format!("its node {node} left the cluster: {reason}"));
            self.entries.change(&name, |Entry { liveness, .. }| {
                liveness.node_left = Some(left.clone());
                // At once, because the reason includes whether the socket still answers.
                liveness.next_probe = now.instant;
            });
            self.stop(now, &name, left, out);
            self.follow_node(now, &name, out);
        }
        self.probe_all_due(now, out);
    }

    /// Handles a running node that refuses to connect, which is a sign of life. A plugin whose node
    /// was connected before stays stopped until that node connects again.
    pub(super) fn node_refused(&mut self, now: Now, node: &NodeName, code: &str, out: &mut Vec<RegistryEffect>) {
        if self.nodes.is_connected(node) {
            return;
        }
        if let Err(warning) = Arc::make_mut(&mut self.nodes).refused(node) {
            return out.push(RegistryEffect::Warn(warning));
        }
        let nodes = &self.nodes;
        let follows = |entry: &Entry| !entry.liveness.governed && nodes.node_of(&entry.plugin).as_ref() == Some(node);
        let detail = format!("its node {node} is running, but refuses to connect ({code})");
        let reason = Reason::new(ReasonCode::NodeRefused, detail);
        for name in self.entries.names_where(follows) {
            self.entries.change(&name, |Entry { liveness, .. }| {
                liveness.unjudged = false;
                liveness.grace = None;
                liveness.node_left = None;
                liveness.silent = false;
            });
            self.change(now, &name, Status::Running, Some(node.clone()), reason.clone(), out);
            self.change_reason(now, &name, reason.clone(), out);
        }
    }

    /// Handles the end of a node that refused to connect. The socket decides the status from now
    /// on.
    pub(super) fn node_ended(&mut self, now: Now, node: &NodeName, out: &mut Vec<RegistryEffect>) {
        Arc::make_mut(&mut self.nodes).ended(node);
        let ran_there = |entry: &Entry| !entry.liveness.governed && entry.plugin.node.as_ref() == Some(node);
        for name in self.entries.names_where(ran_there) {
            self.entries.change(&name, |Entry { liveness, .. }| {
                liveness.node_left = Some(Reason::new(ReasonCode::NodeEnded, format!("its node {node} has ended")));
                liveness.next_probe = now.instant;
            });
            self.probe_if_due(now, &name, out);
        }
    }

    /// Records the names of the daemon's own node, and clears them from stored registrations.
    pub(super) fn joined(&mut self, now: Now, names: BTreeSet<NodeName>, out: &mut Vec<RegistryEffect>) {
        self.own_node = Arc::new(names);
        let own = Arc::clone(&self.own_node);
        let is_own = |entry: &Entry| entry.plugin.node.as_ref().is_some_and(|node| own.contains(node));
        for name in self.entries.names_where(is_own) {
            let Some(Entry { plugin, .. }) = self.entries.get(&name) else { continue };
            let Some(node) = plugin.node.clone() else { continue };
            out.push(RegistryEffect::Warn(Warning::OwnNode { node, plugin: name.clone() }));
            let changed = Plugin { node: None, node_given: false, ..Plugin::clone(plugin) };
            self.replace(now, changed, out);
            self.follow_node(now, &name, out);
        }
    }

    pub(super) fn is_refusing(&self, plugin: &Plugin) -> bool {
        plugin.node.as_ref().is_some_and(|node| self.nodes.is_refusing(node))
    }

    pub(super) fn announce(&mut self, now: Now, plugin: PluginName, node: NodeName, out: &mut Vec<RegistryEffect>) {
        if let Err(warning) = Arc::make_mut(&mut self.nodes).announce(&plugin, node) {
            return out.push(RegistryEffect::Warn(warning));
        }
        self.follow_node(now, &plugin, out);
        let admitted = match self.entries.get(&plugin) {
            Some(_) => Ok(()),
            None => Arc::make_mut(&mut self.nodes).admit_unregistered(&plugin),
        };
        out.push(admitted.map_or_else(RegistryEffect::Warn, |()| RegistryEffect::EnsureLayout(plugin)));
    }

    pub(super) fn withdraw(&mut self, now: Now, plugin: &PluginName, node: &NodeName, out: &mut Vec<RegistryEffect>) {
        Arc::make_mut(&mut self.nodes).withdraw(plugin, node);
        self.follow_node(now, plugin, out);
    }

    /// Finds the plugin's node. If it is connected, the plugin is running, and the node decides its
    /// status from now on.
    pub(super) fn follow_node(&mut self, now: Now, name: &PluginName, out: &mut Vec<RegistryEffect>) {
        let Some(entry) = self.entries.get(name) else { return };
        let Some(node) = self.nodes.node_of(&entry.plugin) else {
            return;
        };
        if !self.nodes.is_connected(&node) {
            return;
        }
        self.entries.change(name, |Entry { liveness, .. }| {
            liveness.unjudged = false;
            liveness.governed = true;
            liveness.grace = None;
            liveness.node_left = None;
        });
        let reason = Reason::new(ReasonCode::NodeConnected, format!("its node {node} is connected"));
        self.change(now, name, Status::Running, Some(node), reason, out);
    }
}
