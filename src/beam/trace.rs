//! Traces what a node exchanges with others: each frame, handshake packet and EPMD message, in both
//! directions, as one line of text.
//!
//! Each event goes to [`tracing`] at level `trace`, in a span with the peer's name and the number
//! of the connection. It also goes, with the same text, to each [`Subscription`] to the peer. An
//! event without a receiver is not decoded: a node that is not traced pays for two comparisons per
//! frame.
//!
//! A text has the name and operands of a message, the names of flags, and sizes in bytes. It never
//! has a cookie, a challenge, a digest or the content of a payload. Text that others wrote is escaped,
//! and each line has at most [`limits::TRACE_TEXT`] bytes.

mod describe;
mod feed;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tracing::{Level, Span, field, trace, trace_span};

use crate::dist::control::{Control, ControlError, Decoded};
use crate::dist::flags::Flags;
use crate::epmd::protocol::EpmdRequest;
use crate::limits;
use crate::name::NodeName;

pub(crate) use describe::{epmd_names, epmd_port, epmd_registered};
use feed::Subject;
pub use feed::{Subscription, TooMany, TraceEvent, Traced, subscribe};

/// The subject of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// A message of the EPMD protocol.
    Epmd,
    /// The beginning and the end of a connection, and failures before there is one.
    Connection,
    /// A packet of a handshake.
    Handshake,
    /// A frame of an established connection.
    Frame,
}

impl Layer {
    /// Returns its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Epmd => "epmd",
            Self::Connection => "connection",
            Self::Handshake => "handshake",
            Self::Frame => "frame",
        }
    }
}

/// The origin of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The other end sent it.
    Received,
    /// This node sent it, or queued it for sending.
    Sent,
    /// This node did something else, such as closing the connection.
    Local,
}

impl Direction {
    /// Returns its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Sent => "sent",
            Self::Local => "local",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Received => "<-",
            Self::Sent => "->",
            Self::Local => "--",
        })
    }
}

/// Traces one connection, from its first handshake packet to its end.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionTrace {
    number: u64,
    /// The name that was dialled, or that the peer sent.
    peer: Option<NodeName>,
    /// Whether this node dialled.
    dialled: bool,
    /// The address of the peer.
    address: Option<SocketAddr>,
    span: Span,
}

impl ConnectionTrace {
    /// Starts the trace of a connection to the dialled node, or of one from a peer that has not
    /// sent its name.
    pub(crate) fn new(dialled: Option<&NodeName>, address: Option<SocketAddr>) -> Self {
        /// The number of the last connection.
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let span = trace_span!("connection", peer = field::Empty, connection = number);
        if let Some(name) = dialled {
            span.record("peer", field::display(name));
        }
        let trace = Self { number, peer: dialled.cloned(), dialled: dialled.is_some(), address, span };
        trace.note(|| describe::opened(dialled.is_some(), address.map(|address| address.to_string())));
        trace
    }

    /// Traces the name of a peer that dialled. It is not proved before the handshake is complete.
    pub(crate) fn name(&mut self, name: &NodeName) {
        self.span.record("peer", field::display(name));
        self.peer = Some(name.clone());
        // Only now are the subscribers known.
        self.note(|| describe::accepted(name, self.address.map(|address| address.to_string())));
    }

    pub(crate) fn packet_received(&self, packet: &[u8]) {
        self.event(Layer::Handshake, Direction::Received, || describe::packet(packet, !self.dialled));
    }

    pub(crate) fn packet_sent(&self, packet: &[u8]) {
        self.event(Layer::Handshake, Direction::Sent, || describe::packet(packet, self.dialled));
    }

    pub(crate) fn frame_received(&self, frame: &Bytes, decoded: &Result<Decoded, ControlError>) {
        self.event(Layer::Frame, Direction::Received, || describe::frame(frame, decoded));
    }

    /// Traces a queued signal with a payload of this many bytes.
    pub(crate) fn frame_sent(&self, control: &Control, payload: Option<usize>) {
        self.event(Layer::Frame, Direction::Sent, || describe::control(control, payload));
    }

    pub(crate) fn tick(&self, direction: Direction) {
        self.event(Layer::Frame, direction, || "tick".to_owned());
    }

    /// Traces the queued probe of a silent peer, which is a whole frame.
    pub(crate) fn probe(&self, frame: &Bytes, agreed: Flags) {
        self.event(Layer::Frame, Direction::Sent, || describe::probe(frame, agreed));
    }

    /// Traces the end of a complete handshake.
    pub(crate) fn connected(&self, creation: u32, agreed: Flags) {
        self.note(|| describe::connected(creation, agreed));
    }

    /// Traces a handshake that ended without a connection.
    pub(crate) fn failed(&self, error: &dyn fmt::Display) {
        self.note(|| format!("handshake failed: {error}"));
    }

    /// Traces the end of the connection.
    pub(crate) fn ended(&self, reason: &dyn fmt::Display) {
        self.note(|| format!("connection ended: {reason}"));
    }

    fn note(&self, describe: impl FnOnce() -> String) {
        self.event(Layer::Connection, Direction::Local, describe);
    }

    fn event(&self, layer: Layer, direction: Direction, describe: impl FnOnce() -> String) {
        let subject = self.peer.as_ref().map_or(Subject::Unknown, Subject::Node);
        emit(subject, Some(self.number), &self.span, layer, direction, describe);
    }
}

/// Traces an attempt to connect that failed before there was a connection.
pub(crate) fn unreachable(node: &NodeName, error: &dyn fmt::Display) {
    let (layer, direction) = (Layer::Connection, Direction::Local);
    emit(Subject::Node(node), None, &Span::none(), layer, direction, || format!("no connection: {error}"));
}

/// Traces a request of the EPMD protocol between this process and an address.
pub(crate) fn epmd_request(direction: Direction, address: Option<SocketAddr>, request: &EpmdRequest) {
    epmd(direction, address, request.name(), || describe::epmd_request(request));
}

/// Traces the answer to a request. `name` is the node name in the request, if it had one.
pub(crate) fn epmd_answer(direction: Direction, address: Option<SocketAddr>, name: Option<&[u8]>, answer: &[u8]) {
    epmd(direction, address, name, || describe::epmd_answer(answer));
}

/// Traces another event of an exchange with EPMD about a node.
pub(crate) fn epmd(
    direction: Direction,
    address: Option<SocketAddr>,
    name: Option<&[u8]>,
    describe: impl FnOnce() -> String,
) {
    let subject = name.map_or(Subject::Unknown, Subject::ShortName);
    let describe = || describe::with_address(&describe(), direction, address.map(|address| address.to_string()));
    emit(subject, None, &Span::none(), Layer::Epmd, direction, describe);
}

/// Describes an event for the log and the subscribers, if any of them wants it.
fn emit(
    subject: Subject<'_>,
    connection: Option<u64>,
    span: &Span,
    layer: Layer,
    direction: Direction,
    describe: impl FnOnce() -> String,
) {
    let is_logged = tracing::enabled!(Level::TRACE);
    let subscribers = feed::subscribers(&subject);
    if !is_logged && subscribers.is_empty() {
        return;
    }
    let text = describe::cut(describe(), limits::TRACE_TEXT);
    if is_logged {
        trace!(parent: span, "{} {direction} {text}", layer.name());
    }
    if !subscribers.is_empty() {
        feed::publish(&subscribers, TraceEvent::new(&subject, connection, layer, direction, text));
    }
}

#[cfg(test)]
mod tests;
