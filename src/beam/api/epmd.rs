//! The registration of a node with EPMD, for as long as the node runs.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;

use crate::epmd::client::Registration;
use crate::limits;
use crate::node::registrar::Registrar;
use crate::node::view::View;

/// A short name and its registrar.
pub(super) struct Epmd {
    pub(super) short_name: String,
    pub(super) registrar: Registrar,
}

impl Epmd {
    /// Registers again whenever EPMD ends, until the node stops. Then frees the name, and drops
    /// `registered`.
    pub(super) async fn keep(
        mut self,
        mut registration: Registration,
        mut view: watch::Receiver<Arc<View>>,
        registered: watch::Sender<()>,
    ) {
        loop {
            tokio::select! {
                () = registration.lost() => debug!(name = self.short_name, "EPMD has ended: registering again"),
                () = stopped(&mut view) => {
                    registration.unregister().await;
                    drop(registered);
                    return;
                }
            }
            registration = loop {
                tokio::select! {
                    () = sleep(limits::EPMD_RETRY) => {}
                    () = stopped(&mut view) => return,
                }
                match self.registrar.register(&self.short_name).await {
                    Ok(registration) => break registration,
                    Err(e) => debug!(name = self.short_name, "not registered: {e}"),
                }
            }
        }
    }
}

/// Returns when the node's task has ended.
async fn stopped(view: &mut watch::Receiver<Arc<View>>) {
    while view.changed().await.is_ok() {}
}
