//! The handle of the cluster's task, with which `daemon` stops the task, checks that it is alive,
//! and diagnoses nodes.

use beam::node::handle::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::cluster::diagnosis::Diagnostician;

/// The handle of the running task.
#[derive(Debug)]
pub struct Running {
    /// Makes the task leave the cluster.
    pub(super) stop: oneshot::Sender<()>,
    pub(super) task: JoinHandle<()>,
    /// The node; none until it has joined the cluster.
    pub(super) node: watch::Receiver<Option<Handle>>,
    pub(super) diagnostician: Diagnostician,
}

impl Running {
    /// Leaves the cluster and waits for the task to end. Peers see the node leave, and its name is
    /// free in EPMD again.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        if !self.task.is_finished() {
            let _ = self.task.await;
        }
    }

    /// Returns a check of whether the node's task is stuck.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse(self.node.clone())
    }

    /// Returns the diagnostician of this node.
    #[must_use]
    pub fn diagnostician(&self) -> Diagnostician {
        self.diagnostician.clone()
    }

    /// Waits for the task to end without [`Self::stop`], which it does only on a panic.
    pub async fn ended(&mut self) {
        let _ = (&mut self.task).await;
    }
}

/// Checks whether the node's task is stuck.
#[derive(Debug, Clone)]
pub struct Pulse(watch::Receiver<Option<Handle>>);

impl Pulse {
    /// Returns when the node's task has answered; at once while there is no node.
    pub async fn answers(&self) {
        let node = self.0.borrow().clone();
        if let Some(node) = node {
            // If the task has ended, `Running::ended` notices it.
            let _ = node.answers().await;
        }
    }
}
