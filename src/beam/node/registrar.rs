//! Registers the name of a node with this host's EPMD. If no EPMD answers, starts the system's
//! `epmd` or serves EPMD itself, as far as its settings allow.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::time::sleep;
use tracing::{debug, info};

use crate::connect::owners::user_of_end;
use crate::epmd::client::{self, Error, Registration};
use crate::epmd::server::{self, Server};
use crate::limits;

/// The registration of a node, and the ways to provide an EPMD. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registrar {
    /// The address of EPMD.
    address: SocketAddr,
    /// The distribution port of the node.
    port: u16,
    hidden: bool,
    /// The addresses on which the system's `epmd` listens if it is started because no EPMD answers.
    start_on: Option<Vec<IpAddr>>,
    /// Whether the system's `epmd` was started since an EPMD last answered.
    has_started: bool,
    /// The addresses on which to serve EPMD if no EPMD answers and none was started.
    serve_on: Option<Vec<IpAddr>>,
    server: Option<Arc<Server>>,
}

impl Registrar {
    /// Creates the registrar of a node that listens at `port`, for the EPMD at `epmd_port`. By
    /// default, it neither starts nor serves EPMD.
    #[must_use]
    pub fn new(epmd_port: u16, port: u16, hidden: bool) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, epmd_port));
        Self { address, port, hidden, start_on: None, has_started: false, serve_on: None, server: None }
    }

    /// Starts the system's `epmd` if no EPMD answers. It listens on these addresses and on
    /// loopback. An empty list means all addresses of this host.
    #[must_use]
    pub fn starting_system_epmd(mut self, addresses: Vec<IpAddr>) -> Self {
        self.start_on = Some(addresses);
        self
    }

    /// Serves EPMD on these addresses and on loopback if no EPMD answers and none was started. An
    /// empty list means all addresses of this host.
    #[must_use]
    pub fn serving_epmd(mut self, addresses: Vec<IpAddr>) -> Self {
        self.serve_on = Some(addresses);
        self
    }

    /// Returns the address of EPMD.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns whether it serves EPMD itself.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.serves())
    }

    /// Registers `short_name` once.
    ///
    /// # Errors
    /// See [`client::register`].
    pub async fn register(&mut self, short_name: &str) -> Result<Registration, Error> {
        let mut result = self.ask(short_name).await;
        if is_unreachable(&result) {
            // If the `epmd` that was started has ended, it is not started again until an EPMD
            // answers.
            let had_started = std::mem::replace(&mut self.has_started, true);
            if had_started || !self.start_system(&mut result, short_name).await {
                // Erlang may be installed later, so the next registration tries again.
                self.has_started = false;
                self.serve(&mut result, short_name).await;
            }
        }
        if !is_unreachable(&result) {
            self.has_started = false;
        }
        result
    }

    async fn ask(&self, short_name: &str) -> Result<Registration, Error> {
        client::register(self.address, short_name, self.port, self.hidden).await
    }

    /// Starts the system's `epmd` and registers with it. Returns whether the system has one.
    async fn start_system(&self, result: &mut Result<Registration, Error>, short_name: &str) -> bool {
        let Some(addresses) = &self.start_on else { return false };
        if let Err(e) = client::start_system_epmd(addresses, self.address.port()).await {
            debug!("no EPMD answers, and the system's epmd cannot be started: {e}");
            return false;
        }
        info!(address = %self.address, "no EPMD answered; started the system's epmd");
        // `epmd -daemon` returns before its port is open.
        for _ in 0..limits::EPMD_START_TRIES {
            *result = self.ask(short_name).await;
            if !is_unreachable(result) {
                break;
            }
            sleep(limits::EPMD_START_PAUSE).await;
        }
        true
    }

    async fn serve(&mut self, result: &mut Result<Registration, Error>, short_name: &str) {
        let Some(addresses) = &self.serve_on else { return };
        match server::start(addresses, self.address.port(), user_of_end) {
            Ok(server) => {
                info!(address = %self.address, "no EPMD answers; serving EPMD on this node");
                self.server = Some(Arc::new(server));
            }
            // If another program has opened the port first, it answers.
            Err(e) => debug!(address = %self.address, "cannot serve EPMD: {e}"),
        }
        *result = self.ask(short_name).await;
    }
}

fn is_unreachable(result: &Result<Registration, Error>) -> bool {
    matches!(result, Err(Error::Unreachable(..)))
}

/// Returns the addresses on which a node with this listening address serves EPMD by default.
///
/// # Errors
/// The address of the listener cannot be read.
pub fn default_addresses(listener: &tokio::net::TcpListener) -> io::Result<Vec<IpAddr>> {
    let ip = listener.local_addr()?.ip();
    Ok(if ip.is_unspecified() { Vec::new() } else { vec![ip] })
}
