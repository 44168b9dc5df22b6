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
    /// The registry.
    pub registry: Handle,
    /// The directory that contains the namespaces of plugins.
    pub home: Home,
    /// The state of the daemon.
    pub status: watch::Receiver<DaemonStatus>,
    /// The cluster as our node sees it.
    pub cluster: watch::Receiver<Arc<ClusterView>>,
    /// Diagnoses why a node is connected or not.
    pub diagnostician: Diagnostician,
    /// Users who may call, besides our own and root.
    pub allowed_uids: Vec<u32>,
    /// When the daemon started.
    pub started: Instant,
}

impl Context {
    /// Returns the latest view of the cluster. Other code must not borrow the view: two borrows
    /// held at once can deadlock with the task that publishes the next view.
    pub(super) fn cluster(&self) -> Arc<ClusterView> {
        Arc::clone(&self.cluster.borrow())
    }

    /// Returns the states of the plugins' nodes.
    pub(super) fn plugin_nodes(&self) -> NodeStates {
        self.cluster().plugin_nodes.clone()
    }
}
