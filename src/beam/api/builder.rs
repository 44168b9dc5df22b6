//! Starts a node.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::watch;

use super::epmd::Epmd;
use super::functions::Table;
use super::handle::Node;
use crate::connect::dial::Dialer;
use crate::cookie::{Cookie, CookieTextError};
use crate::dist::challenges::Challenges;
use crate::dist::flags;
use crate::dist::handshake::Identity;
use crate::epmd::client;
use crate::etf::{Atom, Term};
use crate::limits;
use crate::name::{NodeName, NodeNameError};
use crate::node::accept;
use crate::node::process::{BadArg, Functions};
use crate::node::registrar::{Registrar, default_addresses};
use crate::node::services::functions::Program;
use crate::node::services::pg::Watched;
use crate::node::task::{self, NodeSettings};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node name is invalid.
    #[error("{0:?} is not a valid node name: {1}")]
    Name(String, NodeNameError),
    /// The cookie is invalid.
    #[error(transparent)]
    Cookie(#[from] CookieTextError),
    /// A scope, module or function name is too long for an atom.
    #[error("{0:?} is too long for an atom")]
    Atom(String),
    /// The distribution port cannot be opened.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// EPMD did not register the name.
    #[error(transparent)]
    Epmd(#[from] client::Error),
}

/// The settings of a new node.
///
/// A new builder makes a visible node with the scope `pg` that listens on loopback, at a port that
/// the system chooses.
#[must_use = "a node starts with `start`"]
pub struct Builder {
    name: String,
    cookie: String,
    hidden: bool,
    scopes: Vec<String>,
    address: SocketAddr,
    epmd_port: u16,
    serve_epmd: bool,
    tick_time: Duration,
    users: BTreeSet<u32>,
    program: Program,
    functions: Table,
    /// The first name that is too long.
    too_long: Option<String>,
}

impl Node {
    /// Describes a node with the full name `name@host` and the cookie of its cluster, see
    /// [`Builder`].
    pub fn builder(name: impl Into<String>, cookie: impl Into<String>) -> Builder {
        Builder::new(name, cookie)
    }
}

impl Builder {
    /// Describes a node with the full name `name@host` and the cookie of its cluster.
    pub fn new(name: impl Into<String>, cookie: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            cookie: cookie.into(),
            hidden: false,
            scopes: vec!["pg".to_owned()],
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            epmd_port: 4369,
            serve_epmd: true,
            tick_time: Duration::from_secs(60),
            users: BTreeSet::from([rustix::process::getuid().as_raw(), 0]),
            program: Program { name: "beam-node", version: env!("CARGO_PKG_VERSION") },
            functions: Table::default(),
            too_long: None,
        }
    }

    /// Makes the node hidden. `nodes()` of its peers does not list it, and peers do not connect to
    /// each other through it. Its scopes look for scopes of visible peers every 2 s.
    pub fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Sets the scopes of process groups, in place of `pg`.
    pub fn scopes<'a>(mut self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        self.scopes = scopes.into_iter().map(str::to_owned).collect();
        self
    }

    /// Listens on this address instead of loopback. Nodes of other hosts can connect only if they
    /// can reach it. The unspecified address means all addresses of this host.
    pub fn listen(mut self, address: IpAddr) -> Self {
        self.address.set_ip(address);
        self
    }

    /// Listens at this port; 0 lets the system choose.
    pub fn port(mut self, port: u16) -> Self {
        self.address.set_port(port);
        self
    }

    /// Sets the port of EPMD, on this host and on the hosts of peers; 4369 by default. The
    /// environment variable `ERL_EPMD_PORT` is not read.
    pub fn epmd_port(mut self, port: u16) -> Self {
        self.epmd_port = port;
        self
    }

    /// Sets whether the node serves EPMD itself, until it stops, if no EPMD answers; true by
    /// default.
    pub fn serve_epmd(mut self, serve: bool) -> Self {
        self.serve_epmd = serve;
        self
    }

    /// Sets the silence after which a connection counts as lost, as `net_ticktime` of Erlang's
    /// kernel does. The default is 60 s.
    pub fn tick_time(mut self, time: Duration) -> Self {
        self.tick_time = time;
        self
    }

    /// Also connects to nodes of this host that belong to this user. The user of this process and
    /// root are always allowed. On other hosts the cookie alone decides.
    pub fn allow_user(mut self, uid: u32) -> Self {
        self.users.insert(uid);
        self
    }

    /// Sets the name and version of the program that `erlang:system_info/1` returns.
    pub fn program(mut self, name: &'static str, version: &'static str) -> Self {
        self.program = Program { name, version };
        self
    }

    /// Offers a function that peers call by `erpc`, `rpc` or `spawn`. It runs in the node's task,
    /// so it must return at once; see [`Builder::functions`] for those that take longer.
    pub fn function(
        mut self,
        module: &str,
        name: &str,
        arity: usize,
        body: impl FnMut(&[Term]) -> Result<Term, BadArg> + Send + 'static,
    ) -> Self {
        if let (Some(module), Some(name)) = (self.atom(module), self.atom(name)) {
            self.functions.functions.insert((module, name, arity), Box::new(body));
        }
        self
    }

    /// Answers the calls of all functions that were not added by [`Builder::function`]. Such calls
    /// may be answered later.
    pub fn functions(mut self, functions: impl Functions + 'static) -> Self {
        self.functions.others = Some(Box::new(functions));
        self
    }

    fn atom(&mut self, text: &str) -> Option<Atom> {
        let atom = Atom::new(text).ok();
        if atom.is_none() {
            self.too_long.get_or_insert_with(|| text.to_owned());
        }
        atom
    }

    /// Starts the node: opens its port, registers its name with EPMD and accepts connections. The
    /// node runs until [`Node::stop`], also after the last handle was dropped.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(mut self) -> Result<Node, StartError> {
        let name = NodeName::parse(&self.name).map_err(|e| StartError::Name(self.name.clone(), e))?;
        let cookie = Cookie::parse(self.cookie.as_bytes())?;
        let scopes = std::mem::take(&mut self.scopes);
        let scopes = scopes.iter().filter_map(|scope| self.atom(scope)).collect();
        if let Some(name) = self.too_long {
            return Err(StartError::Atom(name));
        }
        let listen = |e| StartError::Listen(self.address, e);
        let listener = accept::listen(self.address).map_err(listen)?;
        let port = listener.local_addr().map_err(listen)?.port();
        let mut registrar = Registrar::new(self.epmd_port, port, self.hidden);
        if self.serve_epmd {
            registrar = registrar.serving_epmd(default_addresses(&listener).map_err(listen)?);
        }
        let mut epmd = Epmd { short_name: name.short_name().to_owned(), registrar };
        let registration = epmd.registrar.register(&epmd.short_name).await?;
        let settings = NodeSettings {
            identity: Identity {
                name: name.clone(),
                creation: registration.creation,
                flags: flags::ours(self.hidden),
                cookie,
                challenges: Challenges::default(),
            },
            dialer: Dialer {
                epmd_port: self.epmd_port,
                default_port: None,
                this_host: this_host(name.host()),
                allowed_uids: self.users,
            },
            scopes,
            watched: Watched { tag: Atom::literal(""), group: Atom::literal("") },
            functions: Box::new(self.functions),
            program: self.program,
            tick_time: self.tick_time,
            peer_memory: limits::PEER_BYTES,
        };
        let (handle, _task) = task::start(listener, settings);
        let (registered, free) = watch::channel(());
        tokio::spawn(epmd.keep(registration, handle.watch(), registered));
        Ok(Node::new(handle, port, free))
    }
}

/// Returns the names of this host, including the host part of the node's name.
fn this_host(host: &str) -> BTreeSet<String> {
    let system = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let names = [host, &system, "localhost"];
    // A numeric address has no short form.
    let is_name = |name: &&str| name.parse::<IpAddr>().is_err();
    let short = names.into_iter().filter(is_name).filter_map(|name| name.split('.').next());
    names.into_iter().chain(short).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
