//! Reports to the registry which nodes refuse to connect, and finds out to which user's home a node
//! belongs.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use beam::connect::dial::DialCode;
use beam::connect::owners::owners;
use beam::epmd;
use beam::name::NodeName;
use beam::node::handle::Stopped;
use beam::node::view::Peer;
use tokio::task::spawn_blocking;

use super::Cluster;
use crate::cluster::machine::Failed;
use crate::cluster::own_name::is_default_name;
use crate::cluster::peers::strategies::NODE;
use crate::cluster::plugins::refusing::Seen;

impl Cluster {
    /// Reports to the registry which nodes of plugins run on this host but refuse to connect.
    pub(super) async fn report_refusing(&mut self) -> Result<(), Stopped> {
        let node = self.node.watch().borrow().clone();
        let plugins = self.registry.view().plugins.clone();
        let failed = self.finder.failed_here().map(|(name, port, record)| Failed { name, port, record });
        let refusing = self.machine.refusing(&node, &plugins, failed);
        let mut neighbours = BTreeSet::new();
        for (name, port) in self.machine.unknown_owners(&refusing) {
            if self.is_neighbours(port).await {
                neighbours.insert(name);
            }
        }
        let seen = |name: &NodeName| match self.finder.known(name).0.and_then(|record| record.last_failure.as_ref()) {
            _ if node.peers.get(name).is_some_and(Peer::is_up) => Seen::Connected,
            _ if self.finder.port_of(name).is_none() => Seen::Missing,
            Some(failure) if [DialCode::ForeignOwner, DialCode::TcpRefused].contains(&failure.code) => Seen::Ended,
            _ => Seen::Registered,
        };
        let mut effects = Vec::new();
        self.machine.report_refusing(Instant::now(), &refusing, &neighbours, seen, &mut effects);
        self.carry_out(effects).await
    }

    /// Returns whether the process that listens on this port belongs to another user who has a
    /// hecate-daemon. A process that does not listen on loopback counts as ours.
    async fn is_neighbours(&mut self, port: u16) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let Ok(Some(owner)) = spawn_blocking(move || owners(address).first().copied()).await else { return false };
        if self.machine.is_stranger(owner) && self.has_daemon(owner).await {
            self.machine.has_daemon(owner);
        }
        self.machine.is_neighbour(owner)
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
