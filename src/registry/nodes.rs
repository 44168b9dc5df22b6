//! Finds the node of a plugin among the connected nodes and the nodes that refuse to connect. Pure.
//!
//! The node of a plugin is, in this order: the node from its registration; a connected node on this
//! host with a process in the plugin's process group; a connected node on this host that is named
//! like the plugin; a node on this host that refuses to connect; the plugin's last node.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use beam::name::NodeName;

use super::effect::Warning;
use crate::limits;
use crate::plugin::{Plugin, PluginName};

/// The nodes, as reported by the cluster.
#[derive(Debug, Clone, Default)]
pub(super) struct Nodes {
    /// The connected nodes, and whether each is on this host.
    connected: BTreeMap<NodeName, bool>,
    /// The nodes on this host that are running and refuse to connect.
    refusing: BTreeSet<NodeName>,
    /// The nodes with a process in the process group of a plugin, which may be unregistered.
    announced: BTreeMap<PluginName, BTreeSet<NodeName>>,
    /// The unregistered plugins whose directories were created for an announcement.
    unregistered: BTreeSet<PluginName>,
}

/// Why a node on this host is the node of a plugin. A greater rank wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Its short name is the plugin's.
    Named,
    /// It has a process in the process group of the plugin.
    Announced,
}

impl Nodes {
    /// Records that a node connected.
    ///
    /// # Errors
    /// Too many nodes are connected.
    pub(super) fn up(&mut self, node: &NodeName, on_this_host: bool) -> Result<(), Warning> {
        if self.connected.len() >= limits::REGISTRY_NODES && !self.is_connected(node) {
            return Err(Warning::TooManyNodes { node: node.clone() });
        }
        self.refusing.remove(node);
        self.connected.insert(node.clone(), on_this_host);
        Ok(())
    }

    /// Records that a node on this host is running but refuses to connect.
    ///
    /// # Errors
    /// Too many nodes refuse to connect.
    pub(super) fn refused(&mut self, node: &NodeName) -> Result<(), Warning> {
        if self.refusing.len() >= limits::REGISTRY_NODES && !self.is_refusing(node) {
            return Err(Warning::TooManyRefusals { node: node.clone() });
        }
        self.refusing.insert(node.clone());
        Ok(())
    }

    /// Records that a node that refused to connect has ended.
    pub(super) fn ended(&mut self, node: &NodeName) {
        self.refusing.remove(node);
    }

    pub(super) fn is_refusing(&self, node: &str) -> bool {
        self.refusing.contains(node)
    }

    /// Removes a node and its announcements. Returns whether it was connected.
    pub(super) fn down(&mut self, node: &NodeName) -> bool {
        self.announced.retain(|_, nodes| {
            nodes.remove(node);
            !nodes.is_empty()
        });
        self.connected.remove(node).is_some()
    }

    /// Records that a node announced a plugin.
    ///
    /// # Errors
    /// There are too many announcements.
    pub(super) fn announce(&mut self, plugin: &PluginName, node: NodeName) -> Result<(), Warning> {
        let pairs: usize = self.announced.values().map(BTreeSet::len).sum();
        if pairs >= limits::ANNOUNCEMENTS {
            return Err(Warning::TooManyAnnouncements { node, plugin: plugin.clone() });
        }
        self.announced.entry(plugin.clone()).or_default().insert(node);
        Ok(())
    }

    /// Checks whether directories may be created for an announced plugin that is not registered. It
    /// counts towards the limit until it is registered, even if the announcement is withdrawn.
    ///
    /// # Errors
    /// Too many unregistered plugins have directories.
    pub(super) fn admit_unregistered(&mut self, plugin: &PluginName) -> Result<(), Warning> {
        if self.unregistered.len() >= limits::UNREGISTERED && !self.unregistered.contains(plugin) {
            return Err(Warning::TooManyUnregistered { plugin: plugin.clone() });
        }
        self.unregistered.insert(plugin.clone());
        Ok(())
    }

    /// Records that a plugin was registered.
    pub(super) fn registered(&mut self, plugin: &PluginName) {
        self.unregistered.remove(plugin);
    }

    pub(super) fn withdraw(&mut self, plugin: &PluginName, node: &NodeName) {
        if let Some(nodes) = self.announced.get_mut(plugin) {
            nodes.remove(node);
            if nodes.is_empty() {
                self.announced.remove(plugin);
            }
        }
    }

    pub(super) fn is_connected(&self, node: &str) -> bool {
        self.connected.contains_key(node)
    }

    /// Returns the node of a plugin, see the module.
    pub(super) fn node_of(&self, plugin: &Plugin) -> Option<NodeName> {
        if plugin.node_given {
            return plugin.node.clone();
        }
        let current = plugin.node.as_ref();
        self.best_on_this_host(&plugin.name, current)
            .or_else(|| self.refusing_on_this_host(&plugin.name, current))
            .or_else(|| current.cloned())
    }

    /// Returns a node on this host that refuses to connect: the plugin's current node, or else a
    /// node that is named like the plugin.
    pub(super) fn refusing_on_this_host(&self, name: &PluginName, current: Option<&NodeName>) -> Option<NodeName> {
        if let Some(current) = current.filter(|node| self.is_refusing(node)) {
            return Some(current.clone());
        }
        let prefix = format!("{}@", name.node_short_name());
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let found = self.refusing.range::<str, _>(from).next().filter(|node| node.starts_with(&prefix));
        found.cloned()
    }

    /// Returns the connected node on this host with the highest rank for a plugin. Among equal
    /// ranks, the plugin's current node wins.
    pub(super) fn best_on_this_host(&self, name: &PluginName, current: Option<&NodeName>) -> Option<NodeName> {
        let announced = self.announced.get(name);
        let short_name = name.node_short_name();
        let rank = |node: &NodeName| {
            if announced.is_some_and(|nodes| nodes.contains(node)) {
                Some(Rank::Announced)
            } else {
                (node.short_name() == short_name).then_some(Rank::Named)
            }
        };
        let on_this_host = self.connected.iter().filter(|(_, on_this_host)| **on_this_host);
        let ranked = on_this_host.filter_map(|(node, _)| Some((rank(node)?, current == Some(node), node)));
        ranked.max().map(|(_, _, node)| node.clone())
    }
}
