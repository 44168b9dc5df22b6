//! Reports to the registry which nodes refuse to connect, and finds to whose home a node belongs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use beam::epmd;
use beam::node::listeners::owners;
use beam::node::view::Peer;
use tokio::task::spawn_blocking;

use super::Cluster;
use crate::cluster::join::is_default_name;
use crate::cluster::peers::strategies::NODE;
use crate::cluster::plugins::nodes::{self, Evidence};
use crate::cluster::plugins::refusing::{self, Refusal, Seen};
use crate::plugin::PluginName;

impl Cluster {
    /// Reports to the registry which nodes of plugins run on this host but refuse to connect.
    pub(super) async fn report_refusals(&mut self) {
        let node = self.node.watch().borrow().clone();
        let plugins = self.registry.view().plugins.clone();
        let is_plugins = |name: &str| {
            let named = name.split('@').next().and_then(|short| PluginName::parse(&short.replace('_', "-")).ok());
            self.plugin_nodes.contains(name) || named.is_some_and(|plugin| plugins.contains_key(&plugin))
        };
        let failed = self.finder.failed_here().filter(|(name, ..)| is_plugins(name));
        let refusing = failed.filter_map(|(name, port, attempt)| {
            let peer = node.peers.get(name);
            let state = nodes::state(Evidence { peer, attempt: Some(attempt), is_missing: false });
            let code = state.failure().filter(|code| refusing::CODES.contains(code))?;
            Some((name.clone(), Refusal { port, code }))
        });
        let refusing: BTreeMap<_, _> = refusing.collect();
        let mut neighbours = BTreeSet::new();
        for (name, port) in self.refusing.strangers(&refusing) {
            if self.is_neighbours(port).await {
                neighbours.insert(name);
            }
        }
        let seen = |name: &str| match self.finder.known(name).0.and_then(|attempt| attempt.last_failure.as_ref()) {
            _ if node.peers.get(name).is_some_and(Peer::is_up) => Seen::Connected,
            _ if self.finder.port_of(name).is_none() => Seen::Missing,
            Some(failure) if ["foreign_owner", "tcp_refused"].contains(&failure.code) => Seen::Ended,
            _ => Seen::Registered,
        };
        for news in self.refusing.news(Instant::now(), &refusing, &neighbours, seen) {
            self.registry.membership(news).await;
        }
    }

    /// Returns whether the process that listens on this port belongs to another user who has a
    /// hecate-daemon. A process that does not listen on loopback counts as ours.
    async fn is_neighbours(&mut self, port: u16) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let Ok(Some(owner)) = spawn_blocking(move || owners(address).first().copied()).await else { return false };
        if self.told.is_stranger(owner) && self.has_daemon(owner).await {
            self.told.has_daemon(owner);
        }
        self.told.is_neighbour(owner)
    }

    /// Returns whether a user of this host has a hecate-daemon with a default name. Checked before
    /// a node of that user is reported, because `pg` may show the daemon only later.
    pub(super) async fn has_daemon(&self, uid: u32) -> bool {
        let names = epmd::client::names(self.epmd.address()).await.unwrap_or_default();
        for (_, port) in names.into_iter().filter(|(name, _)| is_default_name(name, NODE, uid)) {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if spawn_blocking(move || owners(address)).await.is_ok_and(|owners| owners.contains(&uid)) {
                return true;
            }
        }
        false
    }
}
