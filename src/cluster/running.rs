//! The cluster's running task as `daemon` holds it: to stop it, to see that it lives, and to have diagnoses made.

use beam::node::handle::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::cluster::diagnosis::Diagnostician;

/// The running task.
#[derive(Debug)]
pub struct Running {
    /// Asks it to leave.
    pub(super) stop: oneshot::Sender<()>,
    pub(super) task: JoinHandle<()>,
    /// Once there is one.
    pub(super) node: watch::Receiver<Option<Handle>>,
    pub(super) diagnostician: Diagnostician,
}

impl Running {
    /// Leaves the cluster: pg is left, monitors fire, the name is given back.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        if !self.task.is_finished() {
            let _ = self.task.await;
        }
    }

    /// What tells whether the node's task is stuck.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse(self.node.clone())
    }

    /// What tells why a node is, or isn't, connected.
    #[must_use]
    pub fn diagnostician(&self) -> Diagnostician {
        self.diagnostician.clone()
    }

    /// Waits for the task to end by itself, which it does only by a panic.
    pub async fn ended(&mut self) {
        let _ = (&mut self.task).await;
    }
}

/// A way to the node's task, once there is one, to see whether it is stuck.
#[derive(Debug, Clone)]
pub struct Pulse(watch::Receiver<Option<Handle>>);

impl Pulse {
    /// Returns once the node's task has answered; at once while there is none.
    pub async fn answers(&self) {
        let node = self.0.borrow().clone();
        if let Some(node) = node {
            // One that has ended ends the whole, and is not this one's business.
            let _ = node.answers().await;
        }
    }
}
