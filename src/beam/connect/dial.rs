//! Reaching another node: its host's address, its port from that host's EPMD, TCP, the handshake.
//!
//! Answering a challenge proves our cookie to whoever gets us to dial: the answer could be relayed. So on this host, where
//! any user can register any name with EPMD, nothing is sent before the owner of the listening socket is known to be one
//! of those that we mean to talk to.

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

/// What dialling depends on, beside the node's name.
#[derive(Debug, Clone)]
pub struct Dialer {
    /// The port of every host's EPMD.
    pub epmd_port: u16,
    /// Where a peer is tried that its host's EPMD doesn't know.
    pub default_port: Option<u16>,
    /// The host parts that mean this host.
    pub this_host: BTreeSet<String>,
    /// Whose sockets may listen behind the names of this host.
    pub allowed_uids: BTreeSet<u32>,
}

/// Why a node was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// One of the two names is short and the other long. A node of Erlang would take such a connection, and never make one, neither
    /// to us nor to our peers: it would be in no mesh.
    #[error(
        "{theirs} is a {} name and {ours} a {} one, which never connect",
        kind(.theirs),
        kind(.ours),
    )]
    Mixed {
        /// Its name.
        theirs: NodeName,
        /// Our own.
        ours: NodeName,
    },
    /// Its host has no address.
    #[error("the host {0} could not be resolved: {1}")]
    HostUnresolved(String, io::Error),
    /// Its host's EPMD doesn't answer.
    #[error(transparent)]
    Epmd(#[from] epmd::Error),
    /// Its host's EPMD doesn't know it.
    #[error("no node of that name is registered with the EPMD of its host")]
    NotRegistered,
    /// Nothing listens on its port.
    #[error("the port at {0} refused the connection: {1}")]
    Refused(SocketAddr, io::Error),
    /// No answer from its port.
    #[error("the port at {0} did not answer in time")]
    TcpTimedOut(SocketAddr),
    /// Somebody else's process listens behind the name, or whose it is can't be told.
    #[error("the port at {address} belongs to {}, who is not among the allowed users", match .owner {
        Some(uid) => format!("uid {uid}"),
        None => "an unknown user".to_owned(),
    })]
    ForeignOwner {
        /// The port.
        address: SocketAddr,
        /// Its owner.
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
    /// The stable code of the failure.
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

    /// Whether other addresses of the host need not be tried: another user's socket is no reason to look for one there.
    fn is_final(&self) -> bool {
        matches!(self, Self::ForeignOwner { .. })
    }

    /// The name that the node gave instead of the one it was dialled by.
    #[must_use]
    pub fn calls_itself(&self) -> Option<&NodeName> {
        match self {
            Self::Setup(SetupError::Handshake(HandshakeError::NameMismatch(name))) => Some(name),
            _ => None,
        }
    }
}

/// A TCP connection to a node, over which nothing has been sent, and whose the other end is, if that is on this host.
pub type Reached = (TcpStream, Option<u32>);

impl Dialer {
    /// Whether a node of this full name would be on this host.
    #[must_use]
    pub fn is_here(&self, name: &NodeName) -> bool {
        self.this_host.contains(name.host())
    }

    /// Whether both full names are those of one node: they are equal, or two of this host, which can be called by several
    /// names, while its EPMD has each short name once.
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

    /// Connects to the node `name` and shakes hands with it. `answered` and `still_wanted` are those of
    /// `setup::dial_noting`. Returns the owner of its process too, if it is on this host.
    ///
    /// # Errors
    /// See [`DialError`]; where the host has several addresses, of the last that was tried.
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
        // Before its own name is resolved, which may take long where nobody has given it an address.
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

    /// The addresses of a host that are tried, in this order. `here` says that it is this host.
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

    /// A TCP connection to the node, over which nothing has been sent, and whose the other end is, if that is on this host.
    async fn reach(&self, ip: IpAddr, short_name: &str, here: bool) -> Result<Reached, DialError> {
        let asked = epmd::port(SocketAddr::new(ip, self.epmd_port), short_name).await;
        // On this host that port is our own.
        let port = match (asked, self.default_port.filter(|_| !here)) {
            (Ok(Some(port)), _) | (Ok(None) | Err(_), Some(port)) => port,
            (Ok(None), None) => return Err(DialError::NotRegistered),
            (Err(e), None) => return Err(e.into()),
        };
        self.connect(SocketAddr::new(ip, port), here).await
    }

    /// A TCP connection to a node at this address, over which nothing has been sent, and nothing may be unless this succeeds; and
    /// whose the other end is, if that is on this host. `here` says that its host is this one.
    ///
    /// # Errors
    /// [`DialError::Refused`], [`DialError::TcpTimedOut`] or [`DialError::ForeignOwner`].
    pub async fn connect(&self, address: SocketAddr, here: bool) -> Result<Reached, DialError> {
        // Another user's node need not even hear of us.
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

    /// Whose sockets take connections there: only of those that we mean to talk to, or it is an error.
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

/// Whether the other end of a connection is on this host. The address that was asked for doesn't tell: `0.0.0.0` leads here too.
#[must_use]
fn is_to_here(stream: &TcpStream) -> bool {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return true };
    peer.ip().is_loopback() || local.ip() == peer.ip()
}

/// The addresses of a host that are tried, in this order, of those that its name resolves to.
fn to_try(here: bool, found: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    // This host is tried over loopback first: its own name need not resolve anywhere.
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
    fn a_node_of_this_host_is_one_by_whatever_name_the_host_goes() {
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
    async fn a_port_of_ours_is_ours_and_not_anybody_elses() {
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
    async fn however_this_host_is_called_the_owner_is_asked_for() {
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
    async fn a_port_that_does_not_answer_costs_only_its_time() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        // The system leaves connections unanswered while as many wait as the listener asked for.
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
