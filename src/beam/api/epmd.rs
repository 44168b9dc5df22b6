//! The registration of a node with EPMD, for as long as the node runs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;

use crate::epmd::client::{self, Error, Registration};
use crate::epmd::server::{self, Server};
use crate::limits;
use crate::node::listeners::user_of_end;
use crate::node::view::View;

/// A registration: the name, and the EPMD that has it.
pub(super) struct Epmd {
    pub(super) short_name: String,
    /// The node's distribution port.
    pub(super) port: u16,
    pub(super) hidden: bool,
    pub(super) epmd_port: u16,
    /// The address on which to serve EPMD if none answers. Without one, the node waits for EPMD.
    pub(super) serve_on: Option<IpAddr>,
    /// The EPMD that we serve.
    pub(super) server: Option<Server>,
}

impl Epmd {
    /// Registers once. Serves an EPMD first if none answers and that is allowed.
    ///
    /// # Errors
    /// See [`client::register`].
    pub(super) async fn register(&mut self) -> Result<Registration, Error> {
        let result = self.ask().await;
        let (Err(Error::Unreachable(..)), Some(address)) = (&result, self.serve_on) else { return result };
        match server::start(&[address], self.epmd_port, user_of_end) {
            Ok(server) => self.server = Some(server),
            // Another program may have been faster, and then it answers.
            Err(e) => debug!(port = self.epmd_port, "cannot serve EPMD: {e}"),
        }
        self.ask().await
    }

    async fn ask(&self) -> Result<Registration, Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.epmd_port));
        client::register(address, &self.short_name, self.port, self.hidden).await
    }

    /// Registers again whenever EPMD has ended, until the node stops. Then frees the name. Drops
    /// `registered` when it is free.
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
                match self.register().await {
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
