//! Which node is a plugin's: the connected nodes, who announced what, and the choice among them. Pure.
//!
//! Follows the contract's "Status": the node of the registration, else among the nodes on this host one with a process in
//! the plugin's pg group, else one whose short name is the plugin's. Never decides what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use beam::name::NodeName;

use super::effect::Warning;
use crate::limits;
use crate::plugin::{Plugin, PluginName};

/// What the cluster shows of nodes.
#[derive(Debug, Clone, Default)]
pub(super) struct Nodes {
    /// The connected ones, and whether each is on this host.
    connected: BTreeMap<NodeName, bool>,
    /// The nodes of this host that are running and refuse to connect.
    refusing: BTreeSet<NodeName>,
    /// Those with a process in the plugin's pg group, whether it is registered or not.
    announced: BTreeMap<PluginName, BTreeSet<NodeName>>,
    /// The unregistered plugins whose directories were made for an announcement.
    unregistered: BTreeSet<PluginName>,
}

/// How a node on this host came to be a plugin's, the better the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// By its short name.
    Named,
    /// By a process in the plugin's pg group.
    Announced,
}

impl Nodes {
    /// Notes that a node is connected.
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

    /// Notes that a node of this host is running but refuses to connect.
    ///
    /// # Errors
    /// Too many nodes refuse.
    pub(super) fn refused(&mut self, node: &NodeName) -> Result<(), Warning> {
        if self.refusing.len() >= limits::REGISTRY_NODES && !self.is_refusing(node) {
            return Err(Warning::TooManyRefusals { node: node.clone() });
        }
        self.refusing.insert(node.clone());
        Ok(())
    }

    /// Notes that a node that refused to connect has ended.
    pub(super) fn ended(&mut self, node: &NodeName) {
        self.refusing.remove(node);
    }

    pub(super) fn is_refusing(&self, node: &str) -> bool {
        self.refusing.contains(node)
    }

    /// Tells whether it was connected. What it had announced went with it.
    pub(super) fn down(&mut self, node: &NodeName) -> bool {
        self.announced.retain(|_, nodes| {
            nodes.remove(node);
            !nodes.is_empty()
        });
        self.connected.remove(node).is_some()
    }

    /// Notes that a node announced a plugin.
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

    /// Checks that an announced plugin that is not registered may have directories. It counts until
    /// it is registered, even if the announcement is withdrawn.
    ///
    /// # Errors
    /// Too many of them have.
    pub(super) fn admit_unregistered(&mut self, plugin: &PluginName) -> Result<(), Warning> {
        let has_room = self.unregistered.len() < limits::UNREGISTERED || self.unregistered.contains(plugin);
        if !has_room {
            return Err(Warning::TooManyUnregistered { plugin: plugin.clone() });
        }
        self.unregistered.insert(plugin.clone());
        Ok(())
    }

    /// A plugin has been registered.
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

    /// The node of a plugin: the one that was given, else the best one connected on this host, else
    /// one that is running there and refuses to connect, else the last one.
    pub(super) fn node_of(&self, plugin: &Plugin) -> Option<NodeName> {
        if plugin.node_given {
            return plugin.node.clone();
        }
        let present = plugin.node.as_ref();
        self.best_here(&plugin.name, present)
            .or_else(|| self.refusing_here(&plugin.name, present))
            .or_else(|| present.cloned())
    }

    /// The node of a plugin that is running on this host and refuses to connect: the present one,
    /// else the one named like the plugin.
    pub(super) fn refusing_here(&self, name: &PluginName, present: Option<&NodeName>) -> Option<NodeName> {
        if let Some(present) = present.filter(|node| self.is_refusing(node)) {
            return Some(present.clone());
        }
        let prefix = format!("{}@", name.node_short_name());
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let found = self.refusing.range::<str, _>(from).next().filter(|node| node.starts_with(&prefix));
        found.cloned()
    }

    /// The connected node on this host that is most likely a plugin's. Of two as good the present one stays.
    pub(super) fn best_here(&self, name: &PluginName, present: Option<&NodeName>) -> Option<NodeName> {
        let announced = self.announced.get(name);
        let short_name = name.node_short_name();
        let rank = |node: &NodeName| {
            if announced.is_some_and(|nodes| nodes.contains(node)) {
                Some(Rank::Announced)
            } else {
                (node.short_name() == short_name).then_some(Rank::Named)
            }
        };
        let here = self.connected.iter().filter(|(_, on_this_host)| **on_this_host);
        let ranked = here.filter_map(|(node, _)| Some((rank(node)?, present == Some(node), node)));
        ranked.max().map(|(_, _, node)| node.clone())
    }
}
