//! What the node's task is told: by connections, by those that dial and accept, and by whoever holds the handle.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::dist::budget::Charge;
use crate::dist::control::Control;
use crate::dist::handshake::Status;
use crate::dist::link::CloseReason;
use crate::dist::setup::Connection;
use crate::etf::{Atom, Iovec, Pid, Raw, Term};
use crate::name::NodeName;
use crate::node::dial::DialError;
use crate::node::link_id::LinkId;
use crate::node::machine::Content;
use crate::node::process::{Address, Behaviour, CallId, ProcessId};
use crate::node::services::pg;
use crate::node::services::rpc::{CallError, Function};

/// Input from a connection.
#[derive(Debug)]
pub enum Arrival {
    /// Small messages, in order.
    Messages(Vec<(Control, Option<Bytes>)>),
    /// A large message, decoded.
    Large(Box<(Control, Content)>),
    /// The connection has ended; nothing follows.
    Closed(CloseReason),
}

/// Admits the connection's next batch when it is dropped, and counts the memory of this one until
/// then.
#[derive(Debug)]
pub struct Permit {
    _window: OwnedSemaphorePermit,
    _held: Option<Arc<Charge>>,
}

impl Permit {
    pub(super) fn new(window: OwnedSemaphorePermit, held: Option<Arc<Charge>>) -> Self {
        Self { _window: window, _held: held }
    }
}

/// What the node's task is told.
pub enum NodeCommand {
    /// Something came over a connection.
    Link(LinkId, Arrival, Permit),
    /// A peer has given its name: which status does it get?
    Accepting {
        /// The name.
        name: NodeName,
        /// Where the status goes.
        answer: oneshot::Sender<Status>,
    },
    /// A peer that we dial still believes in an older connection: do we want the new one?
    StillWanted(NodeName, oneshot::Sender<bool>),
    /// A handshake is complete with a node of this user, if that can be told.
    Connected(Connection, Option<u32>),
    /// An attempt to dial has ended, successful or not, and if so, with a node of this user, if that can be told.
    Dialled(NodeName, Result<(Connection, Option<u32>), DialError>),
    /// See [`Handle::connect`](super::handle::Handle::connect).
    Connect(NodeName, oneshot::Sender<Result<(), Arc<DialError>>>),
    /// See [`Handle::forget`](super::handle::Handle::forget).
    Forget(Vec<NodeName>),
    /// See [`Handle::spawn`](super::handle::Handle::spawn).
    Spawn {
        /// Registered name.
        name: Option<Atom>,
        /// What it does.
        behaviour: Box<dyn Behaviour>,
        /// Groups to join.
        groups: Vec<Term>,
        /// Where it is told which process it is.
        answer: oneshot::Sender<ProcessId>,
    },
    /// See [`Handle::exit`](super::handle::Handle::exit).
    Exit(ProcessId, &'static str),
    /// See [`Handle::answer`](super::handle::Handle::answer).
    Answer(CallId, Term),
    /// See [`Handle::publish`](super::handle::Handle::publish).
    Publish {
        /// The group.
        group: pg::Key,
        /// The message.
        message: Iovec,
    },
    /// See [`Handle::call`](super::handle::Handle::call) and [`Handle::cast`](super::handle::Handle::cast).
    Call(NodeName, Function, Option<oneshot::Sender<Result<Raw, CallError>>>),
    /// See [`Handle::gen_call`](super::handle::Handle::gen_call).
    Ask {
        /// The node.
        node: NodeName,
        /// The process.
        name: Atom,
        /// The request.
        request: Term,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<Raw, CallError>>,
    },
    /// See [`Handle::send`](super::handle::Handle::send).
    Send {
        /// The process.
        to: Address,
        /// The message.
        message: Iovec,
        /// Where it is told whether the node is connected.
        answer: oneshot::Sender<Result<Raw, CallError>>,
    },
    /// See [`Handle::monitor`](super::handle::Handle::monitor).
    Monitor {
        /// The process.
        to: Address,
        /// Where its end is told. A monitor whose receiver is gone is removed.
        down: oneshot::Sender<Raw>,
    },
    /// See [`Handle::link`](super::handle::Handle::link).
    LinkTo(ProcessId, Pid),
    /// See [`Handle::members`](super::handle::Handle::members).
    Members {
        /// The scope.
        scope: Atom,
        /// The group.
        group: pg::Key,
        /// Where the members are followed.
        answer: oneshot::Sender<Option<watch::Receiver<Arc<[Pid]>>>>,
    },
    /// See [`Handle::exchanges`](super::handle::Handle::exchanges).
    Exchanges(NodeName, oneshot::Sender<BTreeSet<Arc<str>>>),
    /// See [`Handle::answers`](super::handle::Handle::answers).
    Pulse(oneshot::Sender<()>),
    /// See [`Handle::stop`](super::handle::Handle::stop).
    Stop(oneshot::Sender<()>),
}
