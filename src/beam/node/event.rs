//! What the node's task is told: by connections, by those that dial and accept, and by whoever holds the handle.

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

/// Admits the connection's next batch when it is dropped, and counts the memory of this one until
/// then.
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

/// What the node's task is told.
pub(crate) enum NodeCommand {
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
