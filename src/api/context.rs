//! The handles and views that connect the API to the rest of the daemon.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::status::DaemonStatus;
use crate::cluster::diagnosis::Diagnostician;
use crate::cluster::view::{ClusterView, NodeStates};
use crate::layout::Home;
use crate::registry::Handle;

/// The handles and views that calls use. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// The way to the registry.
    pub registry: Handle,
    /// Where plugins have their namespaces.
    pub home: Home,
    /// How the daemon as a whole is doing.
    pub status: watch::Receiver<DaemonStatus>,
    /// The cluster as our node sees it.
    pub cluster: watch::Receiver<Arc<ClusterView>>,
    /// What tells why a node is, or isn't, connected.
    pub diagnostician: Diagnostician,
    /// Users who may call, besides our own and root.
    pub allowed_uids: Vec<u32>,
    /// When the daemon started.
    pub started: Instant,
}

impl Context {
    /// Returns the cluster as it is now. A borrow that is held while another one is taken can wait for ever for the task
    /// that publishes the next view: nothing else borrows it here.
    pub(super) fn cluster(&self) -> Arc<ClusterView> {
        Arc::clone(&self.cluster.borrow())
    }

    /// Returns whether the nodes of plugins are connected.
    pub(super) fn plugin_nodes(&self) -> NodeStates {
        self.cluster().plugin_nodes.clone()
    }
}
