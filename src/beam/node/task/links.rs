//! The connections of the node's task: their start, input and end, and attempts to connect.
//!
//! The node's task never waits for a peer. Each attempt to connect runs in a separate task, and
//! connections send their input through the inbox.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::{Link, Task};
use crate::connect::dial::DialError;
use crate::dist::budget;
use crate::dist::control;
use crate::dist::frames::Frames;
use crate::dist::handshake::HandshakeError;
use crate::dist::link::{self, CloseReason};
use crate::dist::setup::{Connection, SetupError};
use crate::fair::Source;
use crate::log_limit::{self, limited};
use crate::name::NodeName;
use crate::node::event::{Arrival, NodeCommand, Permit};
use crate::node::giving_way::AttemptChannels;
use crate::node::intake;
use crate::node::link_id::LinkId;
use crate::node::machine::NodeInput;
use crate::node::replies::Ready;
use crate::node::view::PeerReason;
use crate::stats;

impl Task {
    pub(super) fn dial(&mut self, name: NodeName) {
        let AttemptChannels { end, answered } = self.attempts.begin(name.clone());
        let (dialer, local, inbox) = (self.dialer.clone(), self.local.clone(), self.inbox.clone());
        let dials = if dialer.is_here(&name) { self.dials_here.clone() } else { self.dials.clone() };
        tokio::spawn(async move {
            let still_wanted = async || {
                let (answer, answered) = oneshot::channel();
                inbox.send(NodeCommand::StillWanted(name.clone(), answer)).await.is_ok()
                    && answered.await.unwrap_or(false)
            };
            let attempt = async {
                // The semaphore is never closed.
                let _permit = dials.acquire_owned().await;
                dialer.dial(name.clone(), &local, &answered, still_wanted).await
            };
            let result = tokio::select! {
                result = attempt => result,
                Ok(()) = end => Err(SetupError::Handshake(HandshakeError::Simultaneous).into()),
            };
            let _ = inbox.send(NodeCommand::Dialled(name.clone(), result)).await;
        });
    }

    pub(super) fn connected(&mut self, mut connection: Connection, owner: Option<u32>) {
        if self.stopping.is_some() {
            return;
        }
        self.last_link += 1;
        let id = LinkId(self.last_link);
        let (peer, origin) = (connection.peer.clone(), connection.origin);
        let (mut probe, monitor) = (Vec::new(), self.machine.probe());
        // Jinterface and `ei` do not support this monitor. They answer each tick with a tick
        // instead.
        if monitor.is_known_with(peer.flags) {
            control::encode(&monitor, None, peer.flags, &mut probe);
        }
        let (received_sender, received) = mpsc::channel(1);
        let address = connection.peer_address().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let (source, holding) = (Source::new(address, owner), self.budget.holding());
        let given = connection.given.take();
        let (probe, held) = (probe.into(), holding.clone());
        let sender = link::start(connection, self.tick_time, probe, held, received_sender, |event| event);
        tokio::spawn(intake::run(id, received, self.inbox.clone()));
        self.open += 1;
        let (kept, frames, permits) = (holding.charge(0), Frames::default(), Vec::new());
        let (peer_name, flags, _given) = (peer.name.clone(), peer.flags, given);
        let link = Link { sender, peer: peer_name, flags, owner, source, holding, kept, frames, permits, _given };
        self.links.insert(id, link);
        let (name, creation, published) = (peer.name.clone(), peer.creation, peer.published);
        let is_reconnect = self.machine.has_met(&name);
        // This also closes a connection that the new one replaces, before "node up" is logged.
        self.handle(NodeInput::LinkUp { link: id, peer, origin });
        // If two connections crossed, the connection that gives way is closed at once and was never
        // up.
        if self.machine.has_link(id) {
            self.attempts.connected(&name, self.local.name < name);
            limited!(log_limit::NODES, info, peer = %name, creation, "node up{}", if published { "" } else { " (hidden)" });
            stats::LINK_RECONNECTS.add(u64::from(is_reconnect));
        }
    }

    pub(super) fn dialled(&mut self, name: NodeName, result: Result<(Connection, Option<u32>), DialError>) {
        self.attempts.ended(&name);
        let waiting = self.connecting.remove(&name).unwrap_or_default();
        let mut failed = None;
        match result {
            Ok((connection, owner)) => self.connected(connection, owner),
            Err(e) => {
                debug!(peer = %name, code = e.code().name(), "not connected: {e}");
                failed = Some(Arc::new(e));
            }
        }
        self.handle(NodeInput::DialEnded(name.clone()));
        // An attempt that ended because the peer connected to us has not failed.
        let failed = failed.filter(|_| !self.machine.is_connected(&name));
        let result = || failed.clone().map_or(Ok(()), Err);
        self.replies.ready(waiting.into_iter().map(|answer| Ready::Dialled(answer, result())));
    }

    /// Handles messages from a connection, or its end.
    pub(super) fn handle_arrival(&mut self, id: LinkId, arrival: Arrival, permit: Permit) {
        match arrival {
            Arrival::Messages(batch) => {
                self.handle(NodeInput::Messages(id, batch));
                self.count_kept(id);
                self.keep(id, permit);
            }
            Arrival::Large(message) => {
                self.handle(NodeInput::Read(id, message));
                self.count_kept(id);
                self.keep(id, permit);
            }
            Arrival::Closed(reason) => {
                self.open -= 1;
                if matches!(reason, CloseReason::TickTimeout(_)) {
                    stats::LINK_TICK_TIMEOUTS.add(1);
                }
                if let Some(link) = self.links.remove(&id) {
                    limited!(log_limit::NODES, info, peer = %link.peer, "node down: {reason}");
                }
                let by_peer = reason == CloseReason::ClosedByPeer;
                self.handle(NodeInput::LinkDown { link: id, reason: PeerReason::from(&reason), by_peer });
            }
        }
    }

    /// Counts the memory that the machine uses for a peer.
    pub(super) fn count_kept(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.kept.set(self.machine.kept(id));
        }
    }

    /// Pauses a connection while it has unhandled messages.
    fn keep(&mut self, id: LinkId, permit: Permit) {
        if self.machine.has_waiting(id)
            && let Some(link) = self.links.get_mut(&id)
        {
            link.permits.push(permit);
        }
    }

    /// Closes connections, the largest first, until the others are within the budget.
    pub(super) fn keep_to_budget(&mut self) {
        if self.budget.is_exceeded() {
            // Counted again, because the end of local processes may have freed monitors.
            for (id, link) in &mut self.links {
                link.kept.set(self.machine.kept(*id));
            }
        }
        while self.budget.is_exceeded() {
            let holds = |(id, link): (&LinkId, &Link)| (*id, link.source, link.holding.bytes());
            let connections: Vec<_> = self.links.iter().map(holds).collect();
            let Some((id, reason)) = budget::largest(self.budget.limit(), &connections) else { return };
            let Some(link) = self.links.remove(&id) else { return };
            limited!(log_limit::NODES, warn, peer = %link.peer, "node down: {reason}");
            link.sender.abort();
            let reason = PeerReason::new("memory_limit", reason.to_string());
            self.handle(NodeInput::LinkDown { link: id, reason, by_peer: false });
        }
    }
}
