//! Becoming a node: the distribution port, an EPMD to be known by, and the name.
//!
//! A default name that is taken gives way: after a pause for a predecessor on its way out, the name with our uid is taken,
//! so that a second user of the host needs no configuration. A name that was asked for never does.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tracing::{debug, info, warn};

use crate::cluster::view::EpmdState;
use crate::epmd::client::{self as epmd, Registration};
use crate::limits;

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
}

impl Epmd {
    /// The EPMD on `epmd_port`, for a node that listens on the port of `listener`.
    ///
    /// # Errors
    /// The port of the listener can't be told.
    pub fn new(epmd_port: u16, listener: &TcpListener, hidden: bool) -> std::io::Result<Self> {
        let port = listener.local_addr()?.port();
        Ok(Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, epmd_port)), port, hidden, started: false })
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Registers `short_name` once. Where no EPMD answers, the system's is started if there is one.
    ///
    /// # Errors
    /// The state to show.
    pub async fn register(&mut self, short_name: &str) -> Result<Registration, EpmdState> {
        let mut result = epmd::register(self.address, short_name, self.port, self.hidden).await;
        if matches!(result, Err(epmd::Error::Unreachable(..))) && !std::mem::replace(&mut self.started, true) {
            match epmd::start_system_epmd(self.address.port()).await {
                Ok(()) => {
                    info!(address = %self.address, "no EPMD answered: the system's epmd was started");
                    // `epmd -daemon` returns before its port is open.
                    for _ in 0..limits::EPMD_START_TRIES {
                        result = epmd::register(self.address, short_name, self.port, self.hidden).await;
                        if !matches!(result, Err(epmd::Error::Unreachable(..))) {
                            break;
                        }
                        tokio::time::sleep(limits::EPMD_START_PAUSE).await;
                    }
                }
                // Erlang may be installed later: it is tried again.
                Err(e) => {
                    debug!("no EPMD answers, and the system's epmd can't be started: {e}");
                    self.started = false;
                }
            }
        }
        match result {
            Ok(registration) => {
                self.started = false;
                Ok(registration)
            }
            Err(epmd::Error::NameTaken(_)) => Err(EpmdState::NameTaken { name: short_name.to_owned() }),
            Err(e) => Err(EpmdState::Unavailable {
                reason: format!(
                    "{e}. Without an EPMD no Erlang node of this host can be found: install Erlang, or start `epmd -daemon`; \
                     it is tried again every {} s",
                    limits::EPMD_RETRY.as_secs()
                ),
            }),
        }
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
                    EpmdState::Unknown | EpmdState::Registered => {}
                }
                told = state.clone();
                report(state);
            }
            tokio::time::sleep(pause).await;
        }
    }
}
