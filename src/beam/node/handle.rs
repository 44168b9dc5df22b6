//! A cheap handle to the task that owns the node.

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

/// A handle to the node's task. Every request waits for a free slot in the task's bounded queue.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) inbox: mpsc::Sender<NodeCommand>,
    pub(super) view: watch::Receiver<Arc<View>>,
    pub(super) groups: watch::Receiver<Arc<Groups>>,
    /// The next token.
    pub(super) tokens: Arc<AtomicU64>,
}

impl Handle {
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> NodeCommand) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.inbox.send(command(answer)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Sends an operation that has no result.
    async fn operate(&self, operation: NodeInput) -> Result<(), Stopped> {
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

    /// Returns the view of the node, which is replaced after each change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Returns the sizes of all scopes, which are replaced after each change.
    #[must_use]
    pub fn watch_groups(&self) -> watch::Receiver<Arc<Groups>> {
        self.groups.clone()
    }

    /// Returns once the node's task has handled this request, which shows that it is not stuck.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn answers(&self) -> Result<(), Stopped> {
        self.ask(NodeCommand::Pulse).await
    }

    /// Connects to a node. Does nothing if it is connected.
    ///
    /// # Errors
    /// [`Stopped`]; the inner error is the reason why the node cannot be reached.
    pub async fn connect(&self, name: NodeName) -> Result<Result<(), Arc<DialError>>, Stopped> {
        self.ask(|answer| NodeCommand::Connect(name, answer)).await
    }

    /// Removes the given nodes from the view, except those that are connected.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn forget(&self, names: Vec<NodeName>) -> Result<(), Stopped> {
        self.operate(NodeInput::Forget(names)).await
    }

    /// Spawns a process, optionally under a registered name. It joins `groups` in every scope.
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

    /// Ends one of our processes.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn exit(&self, process: ProcessId, reason: &'static str) -> Result<(), Stopped> {
        self.operate(NodeInput::Exit(process, reason)).await
    }

    /// Answers a call for which a behaviour or function returned `Answer::Later`.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn answer(&self, call: CallId, value: Term) -> Result<(), Stopped> {
        self.operate(NodeInput::Answer(call, value)).await
    }

    /// Sends a message once to each process of a peer that is in this group in any scope. Messages
    /// arrive in the order in which they were published.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn publish(&self, group: &Term, message: &Term) -> Result<(), Stopped> {
        // Encoded here, so that a large message delays its sender and not the node's task.
        self.operate(NodeInput::Publish { group: group.canonical(), message: Iovec::encode(message) }).await
    }

    /// Calls a function on a connected node.
    ///
    /// # Errors
    /// [`Stopped`]; the inner error is the reason why there is no result.
    pub async fn call(&self, node: NodeName, function: Function) -> Result<Result<Raw, CallError>, Stopped> {
        let call = |token| NodeInput::Call { node, function, token: Some(token) };
        self.request(call, Reply::Result).await?.await.map_err(|_| Stopped)
    }

    /// Calls the process with this registered name on a connected node, as `gen_server:call/3`
    /// does.
    ///
    /// # Errors
    /// [`Stopped`]; the inner error is the reason why there is no answer.
    pub async fn gen_call(&self, node: NodeName, name: Atom, request: Term) -> Result<Result<Raw, CallError>, Stopped> {
        let call = |token| NodeInput::GenCall { node, name, request, token };
        self.request(call, Reply::Result).await?.await.map_err(|_| Stopped)
    }

    /// Sends a message to a process of a connected node. As with `!`, the sender does not learn
    /// whether it arrives.
    ///
    /// # Errors
    /// [`Stopped`]; the inner error is [`CallError::NoConnection`].
    pub async fn send(&self, to: Address, message: &Term) -> Result<Result<(), CallError>, Stopped> {
        let message = Iovec::encode(message);
        let send = |token| NodeInput::Send { to, message, token };
        let sent = self.request(send, Reply::Result).await?.await.map_err(|_| Stopped)?;
        Ok(sent.map(drop))
    }

    /// Monitors a process of a peer until the receiver is dropped. The receiver gets the exit
    /// reason. It is `noconnection` if the node is not connected or the connection ends.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn monitor(&self, to: Address) -> Result<oneshot::Receiver<Raw>, Stopped> {
        self.request(|token| NodeInput::Monitor { to, token }, Reply::Down).await
    }

    /// Links one of our processes to a process of a peer. Ours traps exits: when the other process
    /// ends, it receives the message `{'EXIT', Pid, Reason}`. `Reason` is `noconnection` if the
    /// node is not connected or the connection ends.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn link(&self, process: ProcessId, to: Pid) -> Result<(), Stopped> {
        self.operate(NodeInput::LinkTo { process, to }).await
    }

    /// Follows the members of a group, in order and each once. Includes the members of this node,
    /// and at most [`crate::limits::PG_RECEIVERS`] members of each peer. Returns `None` if there is
    /// no such scope.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn members(&self, scope: Atom, group: &Term) -> Result<Option<watch::Receiver<Arc<[Pid]>>>, Stopped> {
        let group = group.canonical();
        self.ask(|answer| NodeCommand::Members { scope, group, answer }).await
    }

    /// Returns the scopes of process groups that a node exchanges with our scopes of the same name.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn exchanges(&self, node: NodeName) -> Result<BTreeSet<Arc<str>>, Stopped> {
        self.ask(|answer| NodeCommand::Exchanges(node, answer)).await
    }

    /// Runs a function on a node if it is connected, without waiting for the result.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn cast(&self, node: NodeName, function: Function) -> Result<(), Stopped> {
        self.operate(NodeInput::Call { node, function, token: None }).await
    }

    /// Stops the node: processes leave their groups, monitors fire and queued messages are written.
    /// Returns when every connection is closed, after [`crate::limits::LINK_FLUSH`] or little more.
    pub async fn stop(&self) {
        let _ = self.ask(NodeCommand::Stop).await;
    }
}
