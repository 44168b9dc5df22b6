//! Publishes the cluster's view, which combines the states of the machine, the finder and the node.

use std::sync::Arc;

use beam::name::NodeName;
use beam::node::view as node_view;

use super::Cluster;
use crate::cluster::peers::views;
use crate::cluster::plugins::nodes::Evidence;
use crate::cluster::view::{ClusterView, ScopeView};

impl Cluster {
    /// Publishes the view if it has changed.
    pub(super) fn publish(&mut self) {
        if !self.machine.is_stale() {
            return;
        }
        let node = self.node.watch().borrow().clone();
        self.finder.forget(&node);
        for name in self.finder.take_touched() {
            self.machine.touch(name);
        }
        self.machine.published();
        let plugin_nodes = self.machine.plugin_nodes(|name| {
            let (record, is_missing) = self.finder.known(name);
            Evidence { peer: node.peers.get(name), record, is_missing, is_mixed: name.is_mixed_with(&self.name) }
        });
        let is_here = |name: &NodeName, peer: Option<&node_view::Peer>| self.machine.is_here(name, peer);
        let peers = views::seen(&node, self.finder.records(), is_here);
        let scope = |(name, census): (&Arc<str>, &node_view::Census)| ScopeView {
            name: name.to_string(),
            own_groups: census.own_groups,
            own_members: census.own_members,
            peer_groups: census.peer_groups,
            peer_members: census.peer_members,
        };
        let view = ClusterView {
            scopes: self.node.watch_groups().borrow().iter().map(scope).collect(),
            node: Some(self.name.clone()),
            host: self.settings.name.name.host().to_owned(),
            since: Some(self.since),
            hosts: Arc::clone(&self.hosts.borrow()),
            epmd: self.machine.epmd(),
            epmd_owners: Arc::clone(self.epmd.owners()),
            names_taken: self.names_taken.clone(),
            peers,
            plugin_nodes,
            cookie_hash: self.settings.cookie.hash(),
        };
        self.publish.send_if_modified(|published| {
            let changed = **published != view;
            if changed {
                *published = Arc::new(view);
            }
            changed
        });
    }
}
