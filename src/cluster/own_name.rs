//! The name of our own node: registers it with EPMD, and chooses another if it is taken.
//!
//! [`Registrar`] finds, starts or serves an EPMD.
//!
//! If the default name is taken, we wait, because a predecessor may be stopping. Then we append our
//! uid, so that a second user of the host needs no configuration. Any user of the host can register
//! both names. So if the second name is taken too, we append six digits, which cannot be predicted.
//! A configured name is never replaced.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use beam::connect::Holder;
use beam::connect::owners::owning_processes;
use beam::epmd::client::{self as epmd, Registration};
use beam::name::NodeName;
use beam::node::registrar::{self, Registrar};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::cluster::view::{EpmdOwner, EpmdState};
use crate::escape;
use crate::layout::Layout;
use crate::limits;

/// The preferred name of our node.
#[derive(Debug, Clone)]
pub struct WantedName {
    /// The full name.
    pub name: NodeName,
    /// Whether it is configured. A configured name is never replaced.
    pub explicit: bool,
}

impl WantedName {
    /// Returns the full names that the node may get, except one with digits, which is chosen only
    /// when the node joins.
    pub fn candidates(&self) -> impl Iterator<Item = NodeName> {
        let with_uid = NodeName::new(&with_uid(self), self.name.host()).ok().filter(|_| !self.explicit);
        [self.name.clone()].into_iter().chain(with_uid)
    }
}

/// Returns the name of the node if another user's node has the default name.
fn with_uid(wanted: &WantedName) -> String {
    format!("{}_{}", wanted.name.short_name(), rustix::process::getuid().as_raw())
}

/// Our registration with EPMD.
#[derive(Debug)]
pub struct Joined {
    /// Our full name.
    pub name: NodeName,
    /// Its registration with EPMD.
    pub registration: Registration,
    /// The preferred short names that other nodes have.
    pub taken: Vec<String>,
}

/// The EPMD of this host, and how our name is registered there.
#[derive(Debug, Clone)]
pub struct Epmd {
    registrar: Registrar,
    /// The users who own the sockets that accepted the last request; empty if unknown.
    owners: Arc<[EpmdOwner]>,
}

impl Epmd {
    /// Returns the EPMD at `epmd_port`, for a node that listens on the port of `listener`. An EPMD
    /// that we start or serve listens on `addresses` (`ERL_EPMD_ADDRESS`) and on loopback. Without
    /// addresses, the system's EPMD listens on all addresses, and ours on the addresses of
    /// `listener`.
    ///
    /// # Errors
    /// The address of the listener cannot be read.
    pub fn new(epmd_port: u16, listener: &TcpListener, hidden: bool, addresses: Vec<IpAddr>) -> std::io::Result<Self> {
        let registrar = Registrar::new(epmd_port, listener.local_addr()?.port(), hidden);
        let registrar = registrar.starting_system_epmd(addresses.clone());
        let serve_on = if addresses.is_empty() { registrar::default_addresses(listener)? } else { addresses };
        let registrar = registrar.serving_epmd(serve_on);
        Ok(Self { registrar, owners: Arc::default() })
    }

    /// Returns the state to show while we are registered.
    #[must_use]
    pub fn state(&self) -> EpmdState {
        if self.registrar.serves() { EpmdState::Served } else { EpmdState::Registered }
    }

    /// Returns the users who own the EPMD that answers; empty if unknown.
    #[must_use]
    pub fn owners(&self) -> &Arc<[EpmdOwner]> {
        &self.owners
    }

    /// Returns the address of EPMD.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.registrar.address()
    }

    /// Registers `short_name` once, see [`Registrar::register`].
    ///
    /// # Errors
    /// The state to show.
    pub async fn register(&mut self, short_name: &str) -> Result<Registration, EpmdState> {
        let result = self.registrar.register(short_name).await;
        let address = self.address();
        let owners = spawn_blocking(move || owning_processes(address)).await.unwrap_or_default();
        self.owners = owners.into_iter().map(owner).collect();
        match result {
            Ok(registration) => Ok(registration),
            Err(epmd::Error::NameTaken(_)) => Err(EpmdState::NameTaken { name: short_name.to_owned() }),
            Err(e) => Err(EpmdState::Unavailable {
                reason: format!(
                    "{e}. Without EPMD, no Erlang node of this host can be found: free its port, or set ERL_EPMD_PORT to \
                     another port. Retrying every {} s",
                    beam::limits::EPMD_RETRY.as_secs()
                ),
            }),
        }
    }

    /// Registers us for the first time, however long it takes. Failures go to `report`, with the
    /// users who own the EPMD.
    pub async fn join(
        &mut self,
        wanted: &WantedName,
        layout: &Arc<Layout>,
        mut report: impl FnMut(EpmdState, &Arc<[EpmdOwner]>),
    ) -> Joined {
        let (mut name, mut taken, mut taken_since) = (wanted.name.clone(), Vec::new(), None);
        let mut reported = EpmdState::Unknown;
        loop {
            let state = match self.register(name.short_name()).await {
                Ok(registration) => return Joined { name, registration, taken },
                Err(state) => state,
            };
            let is_taken = matches!(state, EpmdState::NameTaken { .. });
            // A predecessor may still be stopping, so this is not reported yet.
            let mut quiet = is_taken && !wanted.explicit;
            if quiet && taken_since.get_or_insert_with(Instant::now).elapsed() >= limits::NAME_PATIENCE {
                if let Some(next) = next_name(wanted, &name, layout).await {
                    taken.push(std::mem::replace(&mut name, next).short_name().to_owned());
                    taken_since = None;
                    continue;
                }
                // The next name could not be saved; it is tried again after the same wait.
                (quiet, taken_since) = (false, None);
            }
            let pause = match is_taken {
                true if quiet => Duration::from_millis(250),
                true => limits::NAME_RETRY,
                false => beam::limits::EPMD_RETRY,
            };
            if !quiet && state != reported {
                match &state {
                    EpmdState::Unavailable { reason } => warn!("not in the cluster: {reason}"),
                    EpmdState::NameTaken { name } => warn!(
                        "not in the cluster: the node name {name} is taken by another node of this host; stop that node, \
                         or set HECATE_NODE_NAME to another name"
                    ),
                    EpmdState::Unknown | EpmdState::Registered | EpmdState::Served => {}
                }
                reported = state.clone();
                report(state, &self.owners);
            }
            tokio::time::sleep(pause).await;
        }
    }
}

fn owner((uid, holder): (u32, Option<Holder>)) -> EpmdOwner {
    let (pid, program) = holder.map(|holder| (holder.pid, escape::text(&holder.program).into_owned())).unzip();
    EpmdOwner { uid, pid, program }
}

/// Returns the name to try if another node has the default name `taken`. Returns none if its digits
/// could not be saved, or if it would be too long.
async fn next_name(wanted: &WantedName, taken: &NodeName, layout: &Arc<Layout>) -> Option<NodeName> {
    let (with_uid, host) = (with_uid(wanted), wanted.name.host());
    if *taken == wanted.name {
        return NodeName::new(&with_uid, host).ok();
    }
    // Another node can have these digits only if it has read them in EPMD, so they are replaced.
    let digits = taken.short_name().strip_prefix(&with_uid).and_then(|rest| rest.strip_prefix('_')).map(str::to_owned);
    let layout = layout.clone();
    let next = spawn_blocking(move || layout.node_digits(digits.as_deref())).await.ok()?;
    let digits = next.inspect_err(|error| warn!("cannot choose another name for our node: {error}")).ok()?;
    NodeName::new(&format!("{with_uid}_{digits}"), host).ok()
}

/// Returns whether a short name is a default name of this user's daemon.
pub(super) fn is_default_name(short: &str, wanted: &str, uid: u32) -> bool {
    let rest = short.strip_prefix(wanted).map(|rest| rest.strip_prefix(&format!("_{uid}")).unwrap_or(rest));
    rest.is_some_and(|rest| {
        let digits = rest.strip_prefix('_').unwrap_or_default();
        rest.is_empty() || (rest.len() == 7 && digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_default_name_may_be_replaced() {
        let uid = rustix::process::getuid().as_raw();
        let names = |explicit| {
            let wanted = WantedName { name: "hecate@h".parse().unwrap(), explicit };
            wanted.candidates().map(|name| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(true), ["hecate@h"]);
        assert_eq!(names(false), ["hecate@h".to_owned(), format!("hecate_{uid}@h")]);
    }

    #[test]
    fn the_default_names_of_a_user() {
        for name in ["hecate", "hecate_1000", "hecate_1000_123456"] {
            assert!(is_default_name(name, "hecate", 1000), "{name}");
        }
        for name in ["hecate_1001", "hecate_10001", "hecate_1000_12345", "hecate_1000_12345x", "hecate_1000123456", "x"]
        {
            assert!(!is_default_name(name, "hecate", 1000), "{name}");
        }
    }
}
