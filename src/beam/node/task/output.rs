//! The output of the node's task: carries out effects, hands signals to connections, shows the view
//! and then answers requests. It never waits: a connection whose queue is full is closed.

use std::sync::Arc;
use std::time::Instant;

use super::Task;
use crate::dist::link::QueueFull;
use crate::log_limit::{self, limited};
use crate::node::link_id::LinkId;
use crate::node::machine::{NodeEffect, NodeInput};
use crate::node::view::{PeerReason, View};
use crate::{limits, stats};

impl Task {
    pub(super) fn carry_out(&mut self, mut effects: Vec<NodeEffect>) {
        for effect in effects.drain(..) {
            match effect {
                NodeEffect::Signal(id, signal, payload) => {
                    if let Some(link) = self.links.get_mut(&id).filter(|link| signal.is_known_with(link.flags)) {
                        self.signals += 1;
                        self.gathered.signals += 1;
                        self.gathered.bytes +=
                            link.sender.push(&mut link.frames, &signal, payload.as_ref(), link.flags);
                    }
                }
                NodeEffect::Close(id, reason) => {
                    // If the queue is full, the unsent signals are dropped with the connection.
                    if let Some(mut link) = self.links.remove(&id) {
                        let _ = link.sender.send(&mut link.frames);
                        limited!(log_limit::NODES, info, peer = %link.peer, "connection closed: {reason}");
                    }
                }
                NodeEffect::Dial(name) => self.dial(name),
                NodeEffect::Spawned(token, process) => {
                    self.replies.spawned(token, process);
                }
                NodeEffect::Down(token, reason) => {
                    self.replies.down(token, reason);
                }
                NodeEffect::Dropped(id, error) => {
                    let peer = self.links.get(&id).map(|link| link.peer.as_str());
                    tracing::debug!(peer, "dropped a message: {error}");
                }
                NodeEffect::Result(token, result) => {
                    self.replies.result(token, result);
                }
            }
        }
        effects.shrink_to(limits::NODE_BATCH);
        self.effects = effects;
    }

    pub(super) fn send_if_much(&mut self) {
        if self.gathered.bytes > limits::GATHERED || self.gathered.signals >= limits::NODE_BATCH {
            self.send();
        }
    }

    /// Hands the gathered signals to the connections. Closes each whose queue is full, which may
    /// cause signals to other peers.
    pub(super) fn send(&mut self) {
        loop {
            stats::LINK_SENT_MESSAGES.add_size(std::mem::take(&mut self.gathered).signals);
            let waiting = self.links.iter_mut().filter(|(_, link)| !link.frames.is_empty());
            let full: Vec<(LinkId, QueueFull)> =
                waiting.filter_map(|(id, link)| Some((*id, link.sender.send(&mut link.frames).err()?))).collect();
            if full.is_empty() {
                break;
            }
            for (id, reason) in full {
                if let Some(link) = self.links.remove(&id) {
                    limited!(log_limit::NODES, info, peer = %link.peer, "node down: {reason}");
                }
                let reason = PeerReason::new("queue_full", reason.to_string());
                self.handle(NodeInput::LinkDown { link: id, reason, by_peer: false });
            }
        }
        self.show();
    }

    /// Shows what has changed and then answers requests, so that each result is visible in the
    /// view.
    pub(super) fn show(&mut self) {
        self.is_stale |= self.machine.take_changed();
        // Making a large view after each small message would use all the time.
        if self.is_stale && (self.pace.is_due(self.now.instant) || self.stopping.is_some()) {
            let begun = Instant::now();
            self.view.send_replace(Arc::new(self.current_view()));
            self.is_stale = false;
            self.pace.took(Instant::now(), begun.elapsed());
        }
        if self.machine.take_groups_changed() {
            self.groups.send_replace(Arc::new(self.machine.groups()));
            self.memberships.touch();
        }
        self.memberships.show(&self.machine, self.now.instant);
        if !self.is_stale {
            self.replies.send();
        }
    }

    /// Returns the machine's view, with the users of the peers added.
    fn current_view(&self) -> View {
        let mut view = self.machine.view();
        for peer in view.peers.values_mut().filter(|peer| peer.is_up()) {
            peer.owner = self.links.get(&LinkId(peer.connection)).and_then(|link| link.owner);
        }
        view
    }
}
