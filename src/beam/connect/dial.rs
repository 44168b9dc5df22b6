//! Dials a node: resolves its host, requests its port from the EPMD of that host, connects, and
//! performs the handshake.
//!
//! The answer to a challenge proves the cookie to the other end, which could relay it. Any user of
//! this host can register any name with EPMD. So on this host, nothing is sent until the owner of
//! the listening socket is known to be an allowed user.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicBool;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connect::owners::owners;
use crate::connect::resolve;
use crate::dist::handshake::{HandshakeError, Identity};
use crate::dist::setup::{self, Connection, SetupError};
use crate::epmd::client as epmd;
use crate::limits;
use crate::name::NodeName;
use crate::trace;

/// The settings for dialling.
#[derive(Debug, Clone)]
pub struct Dialer {
    /// The port of EPMD on every host.
    pub epmd_port: u16,
    /// The port of nodes that the EPMD of their host does not have.
    pub default_port: Option<u16>,
    /// The host parts that mean this host.
    pub this_host: BTreeSet<String>,
    /// The users whose nodes on this host may be dialled.
    pub allowed_uids: BTreeSet<u32>,
}

/// Why a node was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// One of the two names is short and the other is long. An Erlang node would accept such a
    /// connection, but would never dial this node or its peers, so the mesh would be incomplete.
    #[error(
        "{theirs} is a {} name and {ours} a {} one, which never connect",
        kind(.theirs),
        kind(.ours),
    )]
    Mixed {
        /// The name of the node.
        theirs: NodeName,
        /// The name of this node.
        ours: NodeName,
    },
    /// The host of the node could not be resolved.
    #[error("the host {0} could not be resolved: {1}")]
    HostUnresolved(String, io::Error),
    /// The EPMD of the host does not answer.
    #[error(transparent)]
    Epmd(#[from] epmd::Error),
    /// The EPMD of the host does not have the name.
    #[error("no node of that name is registered with the EPMD of its host")]
    NotRegistered,
    /// Nothing listens on the port.
    #[error("the port at {0} refused the connection: {1}")]
    Refused(SocketAddr, io::Error),
    /// The port does not answer.
    #[error("the port at {0} did not answer within {time} s", time = limits::CONNECT_TIME.as_secs())]
    TcpTimedOut(SocketAddr),
    /// The process that listens on the port belongs to a user who is not allowed, or to an unknown
    /// one.
    #[error("the port at {address} belongs to {}, who is not among the allowed users", match .owner {
        Some(uid) => format!("uid {uid}"),
        None => "an unknown user".to_owned(),
    })]
    ForeignOwner {
        /// The port.
        address: SocketAddr,
        /// The owner, if known.
        owner: Option<u32>,
    },
    /// The handshake failed.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// The stable code of a [`DialError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DialCode {
    /// One of the two names is short and the other long.
    ShortnameLongnameMix,
    /// The host has no address.
    HostUnresolved,
    /// The host's EPMD does not answer.
    EpmdUnreachable,
    /// The host's EPMD does not have the name.
    NotRegistered,
    /// Nothing listens on the port.
    TcpRefused,
    /// The port does not answer.
    TcpTimeout,
    /// The port belongs to a user who is not allowed, or to an unknown one.
    ForeignOwner,
    /// The cookies differ.
    CookieMismatch,
    /// The node has another name.
    NameMismatch,
    /// The node lacks mandatory distribution flags.
    FlagsMissing,
    /// The node does not allow ours to connect.
    NotAllowed,
    /// The node sent our own challenge back.
    ChallengeReflected,
    /// An older connection was kept.
    AlreadyAlive,
    /// The node's own attempt continues instead.
    Simultaneous,
    /// The node expects TLS.
    TlsExpected,
    /// The handshake failed in another way.
    HandshakeFailed,
}

impl DialCode {
    /// All codes.
    pub const ALL: [Self; 16] = [
        Self::ShortnameLongnameMix,
        Self::HostUnresolved,
        Self::EpmdUnreachable,
        Self::NotRegistered,
        Self::TcpRefused,
        Self::TcpTimeout,
        Self::ForeignOwner,
        Self::CookieMismatch,
        Self::NameMismatch,
        Self::FlagsMissing,
        Self::NotAllowed,
        Self::ChallengeReflected,
        Self::AlreadyAlive,
        Self::Simultaneous,
        Self::TlsExpected,
        Self::HandshakeFailed,
    ];

    /// Returns the code as text, which never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ShortnameLongnameMix => "shortname_longname_mix",
            Self::HostUnresolved => "host_unresolved",
            Self::EpmdUnreachable => "epmd_unreachable",
            Self::NotRegistered => "not_registered",
            Self::TcpRefused => "tcp_refused",
            Self::TcpTimeout => "tcp_timeout",
            Self::ForeignOwner => "foreign_owner",
            Self::CookieMismatch => "cookie_mismatch",
            Self::NameMismatch => "name_mismatch",
            Self::FlagsMissing => "flags_missing",
            Self::NotAllowed => "not_allowed",
            Self::ChallengeReflected => "challenge_reflected",
            Self::AlreadyAlive => "already_alive",
            Self::Simultaneous => "simultaneous",
            Self::TlsExpected => "tls_expected",
            Self::HandshakeFailed => "handshake_failed",
        }
    }

    /// Returns whether the node is running and refuses to connect. This follows from what it sent.
    #[must_use]
    pub fn is_refused_by_node(self) -> bool {
        matches!(
            self,
            Self::CookieMismatch | Self::FlagsMissing | Self::NameMismatch | Self::NotAllowed | Self::TlsExpected
        )
    }
}

impl DialError {
    /// Returns the stable code of the failure.
    #[must_use]
    pub fn code(&self) -> DialCode {
        match self {
            Self::Mixed { .. } => DialCode::ShortnameLongnameMix,
            Self::HostUnresolved(..) => DialCode::HostUnresolved,
            Self::Epmd(_) => DialCode::EpmdUnreachable,
            Self::NotRegistered => DialCode::NotRegistered,
            Self::Refused(..) => DialCode::TcpRefused,
            Self::TcpTimedOut(_) => DialCode::TcpTimeout,
            Self::ForeignOwner { .. } => DialCode::ForeignOwner,
            Self::Setup(SetupError::ProofRefused | SetupError::Handshake(HandshakeError::CookieMismatch)) => {
                DialCode::CookieMismatch
            }
            Self::Setup(SetupError::Handshake(HandshakeError::NameMismatch(_))) => DialCode::NameMismatch,
            Self::Setup(SetupError::Handshake(HandshakeError::FlagsMissing(_))) => DialCode::FlagsMissing,
            Self::Setup(SetupError::Handshake(HandshakeError::NotAllowed)) => DialCode::NotAllowed,
            Self::Setup(SetupError::Handshake(HandshakeError::Reflected)) => DialCode::ChallengeReflected,
            Self::Setup(SetupError::Handshake(HandshakeError::AlreadyAlive)) => DialCode::AlreadyAlive,
            Self::Setup(SetupError::Handshake(HandshakeError::Simultaneous)) => DialCode::Simultaneous,
            Self::Setup(SetupError::TlsExpected) => DialCode::TlsExpected,
            Self::Setup(_) => DialCode::HandshakeFailed,
        }
    }

    /// Returns whether the other addresses of the host must not be tried. If another user has the
    /// port at one address, the node is not looked for at others.
    fn is_final(&self) -> bool {
        matches!(self, Self::ForeignOwner { .. })
    }

    /// Returns the name that the node sent, if it is not the one that was dialled.
    #[must_use]
    pub fn calls_itself(&self) -> Option<&NodeName> {
        match self {
            Self::Setup(SetupError::Handshake(HandshakeError::NameMismatch(name))) => Some(name),
            _ => None,
        }
    }
}

/// A TCP connection to a node over which nothing has been sent, and the owner of its other end, if
/// that is on this host.
pub type Reached = (TcpStream, Option<u32>);

impl Dialer {
    /// Returns whether a node with this name would be on this host.
    #[must_use]
    pub fn is_here(&self, name: &NodeName) -> bool {
        self.this_host.contains(name.host())
    }

    /// Returns whether both full names belong to one node. Two different names do if they have the
    /// same short name and both hosts are this host, because its EPMD has each short name once.
    #[must_use]
    pub fn is_same_node(&self, one: &NodeName, other: &NodeName) -> bool {
        one == other || (one.has_short_name_of(other) && self.is_here(one) && self.is_here(other))
    }

    /// Returns all full names of a node; a node of this host has one per name of the host.
    #[must_use]
    pub fn all_names(&self, name: &NodeName) -> BTreeSet<NodeName> {
        let hosts = self.this_host.iter().filter(|_| self.is_here(name));
        hosts.filter_map(|host| name.with_host(host).ok()).chain([name.clone()]).collect()
    }

    /// Connects to the node `name` and performs the handshake. See `setup::dial_noting` for
    /// `answered` and `still_wanted`. Also returns the owner of the node's process, if it is on
    /// this host.
    ///
    /// # Errors
    /// See [`DialError`]. If the host has several addresses, returns the error of the last address
    /// that was tried.
    pub async fn dial(
        &self,
        name: NodeName,
        local: &Identity,
        answered: &AtomicBool,
        still_wanted: impl AsyncFnOnce() -> bool,
    ) -> Result<(Connection, Option<u32>), DialError> {
        let found = self.find(&name, &local.name).await;
        let (stream, owner) = found.inspect_err(|error| trace::unreachable(&name, error))?;
        Ok((setup::dial_noting(stream, local, name, answered, still_wanted).await?, owner))
    }

    async fn find(&self, name: &NodeName, ours: &NodeName) -> Result<Reached, DialError> {
        const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        if name.is_mixed_with(ours) {
            return Err(DialError::Mixed { theirs: name.clone(), ours: ours.clone() });
        }
        let (short_name, host) = (name.short_name(), name.host());
        let here = self.this_host.contains(host);
        let mut last = DialError::NotRegistered;
        // Loopback comes before the resolver, which may take long if the name of this host has no
        // address.
        if here {
            match self.reach(LOOPBACK, short_name, here).await {
                Err(e) if !e.is_final() => last = e,
                reached => return reached,
            }
        }
        for address in self.resolve(host, here).await? {
            if here && address == LOOPBACK {
                continue;
            }
            match self.reach(address, short_name, here).await {
                Err(e) if !e.is_final() => last = e,
                reached => return reached,
            }
        }
        Err(last)
    }

    /// Returns the addresses of a host to try, in order. `here` is whether it is this host.
    ///
    /// # Errors
    /// [`DialError::HostUnresolved`].
    pub async fn resolve(&self, host: &str, here: bool) -> Result<Vec<IpAddr>, DialError> {
        match resolve::addresses(host).await {
            Ok(found) => Ok(to_try(here, found)),
            Err(_) if here => Ok(to_try(here, [])),
            Err(e) => Err(DialError::HostUnresolved(host.to_owned(), e)),
        }
    }

    /// Connects to the node at one address of its host, and sends nothing. Also returns the owner
    /// of the other end, if it is on this host.
    async fn reach(&self, ip: IpAddr, short_name: &str, here: bool) -> Result<Reached, DialError> {
        let asked = epmd::port(SocketAddr::new(ip, self.epmd_port), short_name).await;
        // On this host, the default port is this node's own.
        let port = match (asked, self.default_port.filter(|_| !here)) {
            (Ok(Some(port)), _) | (Ok(None) | Err(_), Some(port)) => port,
            (Ok(None), None) => return Err(DialError::NotRegistered),
            (Err(e), None) => return Err(e.into()),
        };
        self.connect(SocketAddr::new(ip, port), here).await
    }

    /// Connects to a node at this address, and sends nothing. Nothing may be sent unless this
    /// succeeds. `here` is whether the address was resolved from a name of this host. Also returns
    /// the owner of the other end, if it is on this host.
    ///
    /// # Errors
    /// [`DialError::Refused`], [`DialError::TcpTimedOut`] or [`DialError::ForeignOwner`].
    pub async fn connect(&self, address: SocketAddr, here: bool) -> Result<Reached, DialError> {
        // A node of another user does not even get a connection.
        if (here || address.ip().is_loopback())
            && let Err(e @ DialError::ForeignOwner { owner: Some(_), .. }) = self.check_owner(address).await
        {
            return Err(e);
        }
        let stream = match timeout(limits::CONNECT_TIME, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => return Err(DialError::Refused(address, e)),
            Err(_) => return Err(DialError::TcpTimedOut(address)),
        };
        // Looks up the owner again after connecting, because only this answer is about this
        // connection. It does so for any name of the host, if the other end is on this host.
        let owner = match here || is_to_here(&stream) {
            true => Some(self.check_owner(stream.peer_addr().unwrap_or(address)).await?),
            false => None,
        };
        Ok((stream, owner))
    }

    /// Returns the owner of the sockets that accept connections at this address.
    ///
    /// # Errors
    /// [`DialError::ForeignOwner`] if an owner is not allowed or unknown.
    async fn check_owner(&self, address: SocketAddr) -> Result<u32, DialError> {
        let owners = tokio::task::spawn_blocking(move || owners(address)).await.unwrap_or_default();
        match (owners.iter().find(|uid| !self.allowed_uids.contains(uid)), owners.first()) {
            (None, Some(&owner)) => Ok(owner),
            (foreign, _) => Err(DialError::ForeignOwner { address, owner: foreign.copied() }),
        }
    }
}

fn kind(name: &NodeName) -> &'static str {
    if name.is_long() { "long" } else { "short" }
}

/// Returns whether the other end of a connection is on this host. The dialled address does not
/// decide: `0.0.0.0` leads to this host too.
#[must_use]
fn is_to_here(stream: &TcpStream) -> bool {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return true };
    peer.ip().is_loopback() || local.ip() == peer.ip()
}

/// Returns the addresses to try, in order, of those that the host name resolves to.
fn to_try(here: bool, found: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    // This host is tried over loopback first, because its name may not resolve.
    let mut addresses = if here { vec![IpAddr::V4(Ipv4Addr::LOCALHOST)] } else { Vec::new() };
    for address in found {
        if addresses.len() < limits::ADDRESSES && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use std::time::Duration;
    use tokio::time::Instant;

    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    #[test]
    fn only_so_many_addresses_of_a_host_are_tried() {
        let found = (1..20).map(|last| IpAddr::from([10, 0, 0, last]));
        let first = |n| found.clone().take(n).collect::<Vec<_>>();
        assert_eq!(to_try(false, found.clone()), first(limits::ADDRESSES));
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let here = [vec![loopback], first(limits::ADDRESSES - 1)].concat();
        assert_eq!(to_try(true, [loopback].into_iter().chain(found.clone())), here, "loopback first, and once");
    }

    #[test]
    fn all_names_of_this_host_mean_the_same_node() {
        let dialer = Dialer {
            epmd_port: 0,
            default_port: None,
            this_host: ["a", "localhost"].map(str::to_owned).into(),
            allowed_uids: BTreeSet::new(),
        };
        for (one, other, expected) in [
            ("us@a", "us@a", true),
            ("us@b", "us@b", true),
            ("us@a", "us@localhost", true),
            ("us@a", "trader@localhost", false),
            ("us@a", "us@b", false),
            ("us@b", "us@localhost", false),
        ] {
            assert_eq!(dialer.is_same_node(&node(one), &node(other)), expected, "{one} {other}");
        }
        assert_eq!(dialer.all_names(&node("x@a")), ["x@a", "x@localhost"].map(node).into());
        assert_eq!(dialer.all_names(&node("x@b")), [node("x@b")].into());
    }

    #[tokio::test]
    async fn only_ports_of_allowed_users_are_accepted() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut dialer = Dialer {
            epmd_port: 0,
            default_port: None,
            this_host: BTreeSet::new(),
            allowed_uids: BTreeSet::from([rustix::process::getuid().as_raw()]),
        };
        assert!(dialer.check_owner(address).await.is_ok());
        dialer.allowed_uids = BTreeSet::from([4_000_000_000]);
        let refused = dialer.check_owner(address).await.unwrap_err();
        assert_eq!(refused.code(), DialCode::ForeignOwner);
    }

    #[tokio::test]
    async fn the_owner_is_checked_for_every_address_of_this_host() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialer = Dialer {
            epmd_port: 0,
            default_port: None,
            this_host: BTreeSet::new(),
            allowed_uids: BTreeSet::from([4_000_000_000]),
        };
        for ip in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
            let refused = dialer.connect(SocketAddr::new(ip.into(), port), false).await.unwrap_err();
            assert_eq!(refused.code(), DialCode::ForeignOwner, "{ip}");
        }
    }

    #[tokio::test]
    async fn a_silent_port_delays_a_dial_for_a_limited_time() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        // The system does not answer connections once the queue of the listener is full.
        let mut waiting = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
            waiting.push(stream.unwrap());
        }
        let unused = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let dialer = Dialer {
            epmd_port: unused.port(),
            default_port: Some(address.port()),
            this_host: BTreeSet::new(),
            allowed_uids: BTreeSet::from([rustix::process::getuid().as_raw()]),
        };
        tokio::time::pause();
        let start = Instant::now();
        let reached = dialer.reach(address.ip(), "n", false).await;
        assert!(matches!(reached, Err(DialError::TcpTimedOut(at)) if at == address), "{reached:?}");
        let promised = Duration::from_secs(3)..Duration::from_millis(3100);
        assert!(promised.contains(&start.elapsed()), "{:?}", start.elapsed());
    }
}
