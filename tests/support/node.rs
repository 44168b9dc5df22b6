//! The daemon's node without the rest of the daemon, in the test's process.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use beam::connect::dial::Dialer;
use beam::cookie::Cookie;
use beam::dist::Identity;
use beam::dist::budget::Budget;
use beam::dist::challenges::Challenges;
use beam::dist::flags;
use beam::dist::link::{self, LinkEvent, LinkSender};
use beam::dist::setup::Connection;
use beam::epmd::client::{self as epmd, Registration};
use beam::etf::{Atom, Atoms, Raw, Term};
use beam::node::Watched;
use beam::node::handle::Handle;
use beam::node::task::{self, NodeSettings};
use beam::node::view::View;
use beam::node::{Answer, BadArg, Behaviour, Caller, Functions, ProcessId};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::erl::Erl;
use super::{Host, PATIENCE};

/// Starts the task of a connection after its handshake. The receiver queues at most `events`. The
/// task never sends a tick.
pub fn start_link(connection: Connection, events: usize) -> (LinkSender, mpsc::Receiver<LinkEvent>) {
    let (inbox, received) = mpsc::channel(events);
    let held = Budget::new(beam::limits::PEER_BYTES).holding();
    (link::start(connection, PATIENCE, Bytes::new(), held, inbox, |event| event), received)
}

/// A module without functions.
struct Nothing;

impl Functions for Nothing {
    fn call(&mut self, _: &Atom, _: &Atom, _: &[Term], _: &Caller) -> Option<Result<Answer, BadArg>> {
        None
    }
}

/// A process that is only a member of groups.
struct Member;

impl Behaviour for Member {
    fn call(&mut self, _: &Raw, _: &Caller, _: &mut Atoms) -> Answer {
        Answer::Now(Term::atom("ok"))
    }

    fn state(&self) -> Term {
        Term::atom("member")
    }
}

/// A running node. Its view shows the groups `{tag, Binary}`.
pub struct Node {
    pub handle: Handle,
    pub name: String,
    _registration: Registration,
}

impl Node {
    pub async fn start(host: &Host, short: &str) -> Self {
        Self::with(host, short, false, &["pg"]).await
    }

    pub async fn with(host: &Host, short: &str, hidden: bool, scopes: &[&'static str]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let registered = short.split('@').next().unwrap();
        let registration = epmd::register(address(host.epmd_port), registered, port, hidden).await.unwrap();
        let identity = Identity { flags: flags::ours(hidden), ..identity(host, short, registration.creation) };
        let name = identity.name.to_string();
        let dialer = Dialer {
            epmd_port: host.epmd_port,
            default_port: None,
            this_host: BTreeSet::from([host.name.clone()]),
            allowed_uids: BTreeSet::from([rustix::process::getuid().as_raw()]),
        };
        let settings = NodeSettings {
            identity,
            dialer,
            scopes: scopes.iter().map(|scope| Atom::literal(scope)).collect(),
            watched: Watched { tag: Atom::literal("tag"), group: Atom::literal("group") },
            functions: Box::new(Nothing),
            program: hecate_daemon::cluster::peers::questions::PROGRAM,
            tick_time: Duration::from_secs(60),
            peer_memory: beam::limits::PEER_BYTES,
        };
        let (handle, _) = task::start(listener, settings);
        Self { handle, name, _registration: registration }
    }

    /// Connects to a node, and waits until the view shows the connection.
    pub async fn connect(&self, peer: &str) {
        self.handle.connect(peer.parse().unwrap()).await.unwrap().unwrap();
        self.sees(peer, true).await;
    }

    /// Waits until a peer is up, or is not up.
    pub async fn sees(&self, peer: &str, up: bool) {
        let is_up = |view: &View| view.peers.get(peer).is_some_and(|peer| peer.is_up());
        self.shows(&format!("{peer} is up: {up}"), |view| is_up(view) == up).await;
    }

    /// Waits until the view satisfies `condition`.
    pub async fn shows(&self, what: &str, condition: impl Fn(&View) -> bool) {
        let mut view = self.handle.watch();
        let Ok(seen) = timeout(PATIENCE, view.wait_for(|view| condition(view))).await else {
            panic!("{} does not show that {what}: {:?}", self.name, *self.handle.watch().borrow());
        };
        seen.unwrap();
    }

    /// Waits until these are the announced groups `{tag, Name}`, each with the short name of its
    /// peer.
    pub async fn announced(&self, expected: &[(&str, &str)]) {
        let expected: BTreeSet<(String, String)> =
            expected.iter().map(|(name, node)| ((*name).to_owned(), (*node).to_owned())).collect();
        let short = |node: &beam::name::NodeName| node.short_name().to_owned();
        let shown = |view: &View| -> BTreeSet<(String, String)> {
            let pair = |(name, node): &(bytes::Bytes, beam::name::NodeName)| {
                (String::from_utf8_lossy(name).into_owned(), short(node))
            };
            view.announced.iter().map(pair).collect()
        };
        self.shows(&format!("{expected:?} are announced"), |view| shown(view) == expected).await;
    }

    /// Spawns a member of these groups, in each scope.
    pub async fn join(&self, groups: Vec<Term>) -> ProcessId {
        self.handle.spawn(None, Box::new(Member), groups).await.unwrap()
    }

    pub async fn exit(&self, member: ProcessId) {
        self.handle.exit(member, "shutdown").await.unwrap();
    }

    /// Returns the number of the connection to a peer that is up.
    pub fn connection(&self, peer: &str) -> Option<u64> {
        self.handle.watch().borrow().peers.get(peer).filter(|p| p.is_up()).map(|p| p.connection)
    }
}

pub fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Returns the identity of a visible node with this name and the host's cookie. A name with a host
/// part is used unchanged.
pub fn identity(host: &Host, short: &str, creation: u32) -> Identity {
    let cookie = Cookie::parse(host.cookie.as_bytes()).unwrap();
    let name = if short.contains('@') { short.parse().unwrap() } else { host.node(short).parse().unwrap() };
    Identity { name, creation, flags: flags::ours(false), cookie, challenges: Challenges::default() }
}

/// Evaluates an expression without blocking the other tasks of the runtime.
pub fn eval(erl: &mut Erl, expression: &str) -> String {
    tokio::task::block_in_place(|| erl.eval(expression))
}

/// Evaluates an expression until its value is `expected`.
pub fn eval_until(erl: &mut Erl, expression: &str, expected: &str) {
    tokio::task::block_in_place(|| erl.eval_until(expression, expected, PATIENCE));
}
