//! Becoming a node: the distribution port, an EPMD to be known by, and the name.
//!
//! The EPMD that answers is used; where none does, the system's is started; where there is none to start, we serve one
//! ourselves. When the one in use vanishes the same is done again, so that whoever finds the port free serves next.
//!
//! A default name that is taken gives way: after a pause for a predecessor on its way out, the name with our uid is taken,
//! so that a second user of the host needs no configuration. A name that was asked for never does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tracing::{debug, info, warn};

use crate::cluster::view::EpmdState;
use crate::epmd::client::{self as epmd, Registration};
use crate::epmd::server::{self, Server};
use crate::limits;
use crate::node::listeners::user_of_end;

/// How we want to be called.
#[derive(Debug, Clone)]
pub struct WantedName {
    /// The part before the `@`.
    pub short: String,
    /// The part after it.
    pub host: String,
    /// Whether it was asked for: then it is this one or none.
    pub explicit: bool,
}

/// The EPMD of this host, and what we register there.
#[derive(Debug, Clone)]
pub struct Epmd {
    address: SocketAddr,
    port: u16,
    hidden: bool,
    /// Whether starting the system's EPMD has been tried since one answered last.
    started: bool,
    /// Where we would serve, besides loopback; everywhere if there are none.
    addresses: Vec<IpAddr>,
    /// Ours, if we serve it.
    server: Option<Arc<Server>>,
}

impl Epmd {
    /// The EPMD on `epmd_port`, for a node that listens on the port of `listener`. One of our own serves `addresses`
    /// (`ERL_EPMD_ADDRESS`) and loopback; without any, wherever the node listens.
    ///
    /// # Errors
    /// The port of the listener can't be told.
    pub fn new(
        epmd_port: u16,
        listener: &TcpListener,
        hidden: bool,
        mut addresses: Vec<IpAddr>,
    ) -> std::io::Result<Self> {
        let node = listener.local_addr()?;
        if addresses.is_empty() && !node.ip().is_unspecified() {
            addresses.push(node.ip());
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, epmd_port));
        Ok(Self { address, port: node.port(), hidden, started: false, addresses, server: None })
    }

    /// How we stand with it while we are registered.
    #[must_use]
    pub fn state(&self) -> EpmdState {
        if self.server.as_ref().is_some_and(|server| server.serves()) {
            EpmdState::Served
        } else {
            EpmdState::Registered
        }
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Registers `short_name` once. Where no EPMD answers, the system's is started, or else our own.
    ///
    /// # Errors
    /// The state to show.
    pub async fn register(&mut self, short_name: &str) -> Result<Registration, EpmdState> {
        let mut result = self.ask(short_name).await;
        if is_unreachable(&result)
            && (std::mem::replace(&mut self.started, true) || !self.start_system(&mut result, short_name).await)
        {
            // Erlang may be installed later: then the system's is tried again.
            self.started = false;
            self.serve(&mut result, short_name).await;
        }
        // One that was started and answered is started again when it is gone.
        if !is_unreachable(&result) {
            self.started = false;
        }
        match result {
            Ok(registration) => Ok(registration),
            Err(epmd::Error::NameTaken(_)) => Err(EpmdState::NameTaken { name: short_name.to_owned() }),
            Err(e) => Err(EpmdState::Unavailable {
                reason: format!(
                    "{e}. Without an EPMD no Erlang node of this host can be found: free its port, or set ERL_EPMD_PORT to \
                     another; it is tried again every {} s",
                    limits::EPMD_RETRY.as_secs()
                ),
            }),
        }
    }

    async fn ask(&self, short_name: &str) -> Result<Registration, epmd::Error> {
        epmd::register(self.address, short_name, self.port, self.hidden).await
    }

    /// Tells whether there is a system's EPMD to start.
    async fn start_system(&self, result: &mut Result<Registration, epmd::Error>, short_name: &str) -> bool {
        if let Err(e) = epmd::start_system_epmd(self.address.port()).await {
            debug!("no EPMD answers, and the system's epmd can't be started: {e}");
            return false;
        }
        info!(address = %self.address, "no EPMD answered: the system's epmd was started");
        // `epmd -daemon` returns before its port is open.
        for _ in 0..limits::EPMD_START_TRIES {
            *result = self.ask(short_name).await;
            if !is_unreachable(result) {
                break;
            }
            tokio::time::sleep(limits::EPMD_START_PAUSE).await;
        }
        true
    }

    /// "Whoever finds the port free may serve it": another may have been faster, and then it is asked.
    async fn serve(&mut self, result: &mut Result<Registration, epmd::Error>, short_name: &str) {
        match server::start(&self.addresses, self.address.port(), user_of_end) {
            Ok(server) => {
                info!(address = %self.address, "no EPMD answered, and none could be started: we serve one");
                self.server = Some(Arc::new(server));
            }
            Err(e) => debug!("no EPMD of ours: {e}"),
        }
        *result = self.ask(short_name).await;
    }

    /// Registers us for the first time, however long it takes. What stands in the way is told to `report`. Returns the
    /// name that we have, and what it is registered by.
    pub async fn join(&mut self, wanted: &WantedName, mut report: impl FnMut(EpmdState)) -> (String, Registration) {
        let mut taken_since = None;
        let with_uid = format!("{}_{}", wanted.short, rustix::process::getuid().as_raw());
        let mut told = EpmdState::Unknown;
        loop {
            let give_way =
                !wanted.explicit && taken_since.is_some_and(|since: Instant| since.elapsed() >= limits::NAME_PATIENCE);
            let name = if give_way { &with_uid } else { &wanted.short };
            let state = match self.register(name).await {
                Ok(registration) => return (format!("{name}@{}", wanted.host), registration),
                Err(state) => state,
            };
            if matches!(state, EpmdState::NameTaken { .. }) {
                taken_since.get_or_insert_with(Instant::now);
            }
            let pause = match &state {
                EpmdState::NameTaken { .. } if !wanted.explicit && !give_way => Duration::from_millis(250),
                EpmdState::NameTaken { .. } => limits::NAME_RETRY,
                _ => limits::EPMD_RETRY,
            };
            // A predecessor on its way out is no problem to speak of yet.
            let quiet = matches!(state, EpmdState::NameTaken { .. }) && !wanted.explicit && !give_way;
            if !quiet && state != told {
                match &state {
                    EpmdState::Unavailable { reason } => warn!("not in the cluster: {reason}"),
                    EpmdState::NameTaken { name } => warn!(
                        "not in the cluster: the node name {name} is taken by another node of this host; stop that node, \
                         or choose another name"
                    ),
                    EpmdState::Unknown | EpmdState::Registered | EpmdState::Served => {}
                }
                told = state.clone();
                report(state);
            }
            tokio::time::sleep(pause).await;
        }
    }
}

fn is_unreachable(result: &Result<Registration, epmd::Error>) -> bool {
    matches!(result, Err(epmd::Error::Unreachable(..)))
}
