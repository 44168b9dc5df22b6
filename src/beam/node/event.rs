//! The input of the node's task, from connections, dialers, the acceptor and handles.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::connect::dial::DialError;
use crate::dist::budget::Charge;
use crate::dist::control::Control;
use crate::dist::handshake::Status;
use crate::dist::link::CloseReason;
use crate::dist::setup::Connection;
use crate::etf::{Atom, Pid};
use crate::name::NodeName;
use crate::node::link_id::LinkId;
use crate::node::machine::{Content, NodeInput, Token};
use crate::node::replies::Reply;
use crate::node::services::pg;

/// Input from a connection.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Small messages, in order.
    Messages(Vec<(Control, Option<Bytes>)>),
    /// A large message, decoded.
    Large(Box<(Control, Content)>),
    /// The connection has ended; nothing follows.
    Closed(CloseReason),
}

/// The permission for a batch of messages, whose memory it counts. Dropping it admits another batch
/// of the connection.
#[derive(Debug)]
pub(crate) struct Permit {
    _window: OwnedSemaphorePermit,
    _held: Option<Arc<Charge>>,
}

impl Permit {
    pub(super) fn new(window: OwnedSemaphorePermit, held: Option<Arc<Charge>>) -> Self {
        Self { _window: window, _held: held }
    }
}

/// An input of the node's task.
pub(crate) enum NodeCommand {
    /// A connection reports messages, or its end.
    Link(LinkId, Arrival, Permit),
    /// A peer has sent its name and waits for a status.
    Accepting {
        /// The name.
        name: NodeName,
        /// Where the status goes.
        answer: oneshot::Sender<Status>,
    },
    /// A peer that we dial still has an older connection. The answer is whether to replace it.
    StillWanted(NodeName, oneshot::Sender<bool>),
    /// A peer that dialled us has completed its handshake, with the peer's user, if known.
    Connected(Connection, Option<u32>),
    /// An attempt to dial has ended, with a connection and the peer's user (if known), or an error.
    Dialled(NodeName, Result<(Connection, Option<u32>), DialError>),
    /// See [`Handle::connect`](super::handle::Handle::connect).
    Connect(NodeName, oneshot::Sender<Result<(), Arc<DialError>>>),
    /// An operation that has no result.
    Operation(NodeInput),
    /// An operation, its token, and where its result goes.
    Request(NodeInput, Token, Reply),
    /// See [`Handle::members`](super::handle::Handle::members).
    Members {
        /// The scope.
        scope: Atom,
        /// The group.
        group: pg::Key,
        /// Where to send the receiver of the members, or `None` if there is no such scope.
        answer: oneshot::Sender<Option<watch::Receiver<Arc<[Pid]>>>>,
    },
    /// See [`Handle::exchanges`](super::handle::Handle::exchanges).
    Exchanges(NodeName, oneshot::Sender<BTreeSet<Arc<str>>>),
    /// See [`Handle::answers`](super::handle::Handle::answers).
    Pulse(oneshot::Sender<()>),
    /// See [`Handle::stop`](super::handle::Handle::stop).
    Stop(oneshot::Sender<()>),
}
