//! The handle of a running node.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::server::{Adapter, GenServer};
use crate::connect::dial::DialError;
use crate::etf::{Atom, AtomTooLong, Atoms, DecodeError, Pid, Raw, Term};
use crate::name::{NodeName, NodeNameError};
use crate::node::handle::{Handle, Stopped};
use crate::node::process::{Address, Behaviour, CallId, ProcessId};
use crate::node::services::rpc::{CallError, Function};
use crate::node::view::View;

/// Why a node is not connected.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// Our node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The node name is invalid.
    #[error("{0:?} is not a valid node name: {1}")]
    Name(String, NodeNameError),
    /// The other node could not be reached, or it refused the connection.
    #[error(transparent)]
    Dial(Arc<DialError>),
}

/// Why a request to a peer has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Our node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A name is too long for an atom.
    #[error(transparent)]
    Atom(#[from] AtomTooLong),
    /// Our node does not have this scope.
    #[error("the node has no scope {0:?}")]
    NoScope(String),
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The result exceeds the limits of a term.
    #[error("the result cannot be decoded: {0}")]
    Decode(#[from] DecodeError),
}

/// A running node. Clones are cheap and are handles to the same node.
#[derive(Clone)]
pub struct Node {
    handle: Handle,
    port: u16,
    /// Closed when EPMD has freed the name of a node that stopped.
    free: watch::Receiver<()>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name()).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Node {
    pub(super) fn new(handle: Handle, port: u16, free: watch::Receiver<()>) -> Self {
        Self { handle, port, free }
    }

    /// Returns the full name.
    #[must_use]
    pub fn name(&self) -> NodeName {
        self.handle.watch().borrow().name.clone()
    }

    /// Returns the distribution port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connects to a node. Does nothing if it is connected.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, node: &str) -> Result<(), ConnectError> {
        let node = NodeName::parse(node).map_err(|e| ConnectError::Name(node.to_owned(), e))?;
        self.handle.connect(node).await?.map_err(ConnectError::Dial)
    }

    /// Returns the connected nodes in name order, hidden ones included, as `nodes(connected)` does.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeName> {
        let view = self.handle.watch();
        let view = view.borrow();
        view.peers.iter().filter(|(_, peer)| peer.is_up()).map(|(name, _)| name.clone()).collect()
    }

    /// Returns a receiver of the view of the node and its peers, which each change replaces.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.handle.watch()
    }

    /// Describes a new process, which [`Spawn::spawn`] starts.
    pub fn process(&self, server: impl GenServer + 'static) -> Spawn<'_> {
        Spawn { node: self, behaviour: Box::new(Adapter(server)), name: Ok(None), groups: Vec::new() }
    }

    /// Ends a process. Monitors and links of peers get this reason.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn exit(&self, process: ProcessId, reason: &'static str) -> Result<(), Stopped> {
        self.handle.exit(process, reason).await
    }

    /// Answers a call for which a callback returned [`Answer::Later`](crate::Answer::Later).
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn reply(&self, call: CallId, value: Term) -> Result<(), Stopped> {
        self.handle.answer(call, value).await
    }

    /// Calls the process that is registered as `name` on a connected node, as `gen_server:call/2`
    /// does, and waits at most [`limits::CALL_TIME`](crate::limits::CALL_TIME).
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn call(&self, node: &str, name: &str, request: Term) -> Result<Term, RequestError> {
        let name = Atom::new(name)?;
        decode(&self.handle.gen_call(peer(node)?, name, request).await??)
    }

    /// Calls `module:function(Args)` on a connected node, as `erpc:call/4` does, and waits at most
    /// [`limits::CALL_TIME`](crate::limits::CALL_TIME).
    ///
    /// # Errors
    /// See [`RequestError`]; [`CallError::Failed`] if the function raised an exception.
    pub async fn erpc(
        &self,
        node: &str,
        module: &str,
        function: &str,
        args: impl Into<Vec<Term>>,
    ) -> Result<Term, RequestError> {
        let function = Function { module: Atom::new(module)?, function: Atom::new(function)?, args: args.into() };
        decode(&self.handle.call(peer(node)?, function).await??)
    }

    /// Sends a message once to each process of a peer that is in this group in any scope.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn publish(&self, group: &Term, message: &Term) -> Result<(), Stopped> {
        self.handle.publish(group, message).await
    }

    /// Sends a message to a process of a connected node. As with `!`, the sender does not
    /// learn whether it arrives.
    ///
    /// # Errors
    /// See [`RequestError`]; [`CallError::NoConnection`] if the node is not connected.
    pub async fn send(&self, to: impl Into<Address>, message: &Term) -> Result<(), RequestError> {
        Ok(self.handle.send(to.into(), message).await??)
    }

    /// Monitors a process of a peer, until the monitor is dropped.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn monitor(&self, to: impl Into<Address>) -> Result<Monitor, Stopped> {
        Ok(Monitor(self.handle.monitor(to.into()).await?))
    }

    /// Links a process of our node to a process of a peer. When our process ends, the peer's
    /// process gets an exit signal. Our process traps exits: when the peer's process ends,
    /// [`GenServer::handle_info`](crate::GenServer::handle_info) gets `{'EXIT', Pid, Reason}`. As
    /// in Erlang, the reason is `noproc` if there is no such process, and `noconnection` if its
    /// node is not connected. A reason that exceeds
    /// [`limits::CALL_ARGUMENTS`](crate::limits::CALL_ARGUMENTS) is replaced by `too_large`.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn link(&self, process: ProcessId, to: Pid) -> Result<(), Stopped> {
        self.handle.link(process, to).await
    }

    /// Follows the members of a process group in a scope of our node.
    ///
    /// # Errors
    /// [`RequestError::Stopped`], [`RequestError::Atom`] and [`RequestError::NoScope`].
    pub async fn members(&self, scope: &str, group: &Term) -> Result<Members, RequestError> {
        let members = self.handle.members(Atom::new(scope)?, group).await?;
        members.map(Members).ok_or_else(|| RequestError::NoScope(scope.to_owned()))
    }

    /// Stops the node: ends all processes, sends queued messages, closes all connections and frees
    /// the name. Returns when the name is free.
    pub async fn stop(&self) {
        self.handle.stop().await;
        let mut free = self.free.clone();
        while free.changed().await.is_ok() {}
    }
}

/// A monitor of a process. After it is dropped, it is removed when more monitors are created.
#[derive(Debug)]
pub struct Monitor(oneshot::Receiver<Raw>);

impl Monitor {
    /// Waits until the process has ended, and returns its exit reason. As in Erlang, the reason is
    /// `noproc` if there is no such process, and `noconnection` if its node is not connected.
    ///
    /// # Errors
    /// [`RequestError::Stopped`] and [`RequestError::Decode`].
    pub async fn down(self) -> Result<Term, RequestError> {
        decode(&self.0.await.map_err(|_| Stopped)?)
    }
}

/// The members of a process group, as they change.
#[derive(Debug, Clone)]
pub struct Members(watch::Receiver<Arc<[Pid]>>);

impl Members {
    /// Returns the current members in order: the processes of our node and of connected peers. Each
    /// process appears once. At most [`limits::PG_RECEIVERS`](crate::limits::PG_RECEIVERS)
    /// processes of each peer appear.
    #[must_use]
    pub fn now(&mut self) -> Arc<[Pid]> {
        self.0.borrow_and_update().clone()
    }

    /// Waits until the members differ from the last result of [`Members::now`].
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn changed(&mut self) -> Result<(), Stopped> {
        self.0.changed().await.map_err(|_| Stopped)
    }
}

/// Parses a node name. No node is connected under an invalid name.
fn peer(node: &str) -> Result<NodeName, CallError> {
    NodeName::parse(node).map_err(|NodeNameError| CallError::NoConnection)
}

fn decode(result: &Raw) -> Result<Term, RequestError> {
    Ok(result.term(&mut Atoms::new())?)
}

/// A process that is not started yet.
#[must_use = "a process starts with `spawn`"]
pub struct Spawn<'a> {
    node: &'a Node,
    behaviour: Box<dyn Behaviour>,
    name: Result<Option<Atom>, AtomTooLong>,
    groups: Vec<Term>,
}

impl Spawn<'_> {
    /// Registers the process under this name. Another process of our node that has it loses it.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Atom::new(name).map(Some);
        self
    }

    /// Joins this process group, in every scope of our node.
    pub fn group(mut self, group: Term) -> Self {
        self.groups.push(group);
        self
    }

    /// Starts the process. It runs until [`Node::exit`]. If a peer kills or stops it, it restarts
    /// with the same state, name and groups and a new pid, as under a supervisor.
    ///
    /// # Errors
    /// [`RequestError::Stopped`] and [`RequestError::Atom`].
    pub async fn spawn(self) -> Result<ProcessId, RequestError> {
        Ok(self.node.handle.spawn(self.name?, self.behaviour, self.groups).await?)
    }
}
