//! The node as others use it: a cheap handle to the task that owns it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot, watch};

use crate::connect::dial::DialError;
use crate::etf::{Atom, Iovec, Pid, Raw, Term};
use crate::name::NodeName;
use crate::node::event::NodeCommand;
use crate::node::machine::{NodeInput, Token};
use crate::node::process::{Address, Behaviour, CallId, ProcessId};
use crate::node::replies::Reply;
use crate::node::services::rpc::{CallError, Function};
use crate::node::view::{Groups, View};

/// The node has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct Stopped;

/// A handle to the node's task. Every request waits for room in the task's bounded queue.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) inbox: mpsc::Sender<NodeCommand>,
    pub(super) view: watch::Receiver<Arc<View>>,
    pub(super) groups: watch::Receiver<Arc<Groups>>,
    /// The last token.
    pub(super) tokens: Arc<AtomicU64>,
}

impl Handle {
    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> NodeCommand) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.inbox.send(event(answer)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Tells the node's task to carry out an operation that has no result.
    async fn tell(&self, operation: NodeInput) -> Result<(), Stopped> {
        self.inbox.send(NodeCommand::Operation(operation)).await.map_err(|_| Stopped)
    }

    /// Requests an operation. `operation` receives the token that names the request.
    async fn request<T>(
        &self,
        operation: impl FnOnce(Token) -> NodeInput,
        reply: impl FnOnce(oneshot::Sender<T>) -> Reply,
    ) -> Result<oneshot::Receiver<T>, Stopped> {
        let token = self.tokens.fetch_add(1, Ordering::Relaxed);
        let (result, receiver) = oneshot::channel();
        let request = NodeCommand::Request(operation(token), token, reply(result));
        self.inbox.send(request).await.map_err(|_| Stopped)?;
        Ok(receiver)
    }

    /// What the node looks like now, and at each later change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Returns the groups in each scope, now and after each change.
    #[must_use]
    pub fn watch_groups(&self) -> watch::Receiver<Arc<Groups>> {
        self.groups.clone()
    }

    /// Returns once the node's task has taken this from its queue: it is not stuck.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn answers(&self) -> Result<(), Stopped> {
        self.ask(NodeCommand::Pulse).await
    }

    /// Connects to a node. Returns when it is connected, has been all along, or could not be.
    ///
    /// # Errors
    /// The inner one says why it could not be reached.
    pub async fn connect(&self, name: NodeName) -> Result<Result<(), Arc<DialError>>, Stopped> {
        self.ask(|answer| NodeCommand::Connect(name, answer)).await
    }

    /// The view need not show these nodes any more, as far as they are not connected.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn forget(&self, names: Vec<NodeName>) -> Result<(), Stopped> {
        self.tell(NodeInput::Forget(names)).await
    }

    /// A new process, perhaps under a registered name, which joins `groups` in every scope.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn spawn(
        &self,
        name: Option<Atom>,
        behaviour: Box<dyn Behaviour>,
        groups: Vec<Term>,
    ) -> Result<ProcessId, Stopped> {
        let spawn = |token| NodeInput::Spawn { name, behaviour, groups, token };
        self.request(spawn, Reply::Spawned).await?.await.map_err(|_| Stopped)
    }

    /// Ends a process of ours.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn exit(&self, process: ProcessId, reason: &'static str) -> Result<(), Stopped> {
        self.tell(NodeInput::Exit(process, reason)).await
    }

    /// Answers a call that a behaviour or a function left for later.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn answer(&self, call: CallId, value: Term) -> Result<(), Stopped> {
        self.tell(NodeInput::Answer(call, value)).await
    }

    /// Sends a message to every process of a peer that is in this group of any scope, once to each. What is published
    /// first comes first.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn publish(&self, group: &Term, message: &Term) -> Result<(), Stopped> {
        // It is encoded here: what is large holds up whoever sends it, and not the node.
        self.tell(NodeInput::Publish { group: group.canonical(), message: Iovec::encode(message) }).await
    }

    /// Calls a function on a connected node.
    ///
    /// # Errors
    /// The inner one says why there is no result.
    pub async fn call(&self, node: NodeName, function: Function) -> Result<Result<Raw, CallError>, Stopped> {
        let call = |token| NodeInput::Call { node, function, token: Some(token) };
        self.request(call, Reply::Result).await?.await.map_err(|_| Stopped)
    }

    /// Calls the process of this name on a connected node, as `gen_server:call/3` does.
    ///
    /// # Errors
    /// The inner one says why there is no answer.
    pub async fn gen_call(&self, node: NodeName, name: Atom, request: Term) -> Result<Result<Raw, CallError>, Stopped> {
        let call = |token| NodeInput::Ask { node, name, request, token };
        self.request(call, Reply::Result).await?.await.map_err(|_| Stopped)
    }

    /// Sends a message to a process of a connected node. As with `!`, the sender does not learn
    /// whether it arrives.
    ///
    /// # Errors
    /// The inner one is [`CallError::NoConnection`].
    pub async fn send(&self, to: Address, message: &Term) -> Result<Result<(), CallError>, Stopped> {
        let message = Iovec::encode(message);
        let send = |token| NodeInput::Send { to, message, token };
        let sent = self.request(send, Reply::Result).await?.await.map_err(|_| Stopped)?;
        Ok(sent.map(drop))
    }

    /// Monitors a process of a peer, until the receiver is dropped. It receives the exit reason, which is
    /// `noconnection` when the connection ends, or if there is none.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn monitor(&self, to: Address) -> Result<oneshot::Receiver<Raw>, Stopped> {
        self.request(|token| NodeInput::Monitor { to, token }, Reply::Down).await
    }

    /// Links a process of ours to one of a peer. Ours traps exits: when the other ends, it receives
    /// `{'EXIT', Pid, Reason}` as a message, with the reason `noconnection` when the connection ends or
    /// if there is none.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn link(&self, process: ProcessId, to: Pid) -> Result<(), Stopped> {
        self.tell(NodeInput::LinkTo { process, to }).await
    }

    /// Follows the members of a group in order, ours included, each once; none if there is no such
    /// scope. At most [`crate::limits::PG_RECEIVERS`] of each peer are shown.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn members(&self, scope: Atom, group: &Term) -> Result<Option<watch::Receiver<Arc<[Pid]>>>, Stopped> {
        let group = group.canonical();
        self.ask(|answer| NodeCommand::Members { scope, group, answer }).await
    }

    /// The scopes of process groups that a node has as we do, as far as it has told us.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn exchanges(&self, node: NodeName) -> Result<BTreeSet<Arc<str>>, Stopped> {
        self.ask(|answer| NodeCommand::Exchanges(node, answer)).await
    }

    /// Runs a function on a connected node, if it is still connected; its result is of no interest.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn cast(&self, node: NodeName, function: Function) -> Result<(), Stopped> {
        self.tell(NodeInput::Call { node, function, token: None }).await
    }

    /// Leaves the cluster in good order: groups are left, monitors fire, what is queued is written. Returns when every
    /// connection is closed, within [`crate::limits::LINK_FLUSH`] or little more.
    pub async fn stop(&self) {
        let _ = self.ask(NodeCommand::Stop).await;
    }
}
